//! Room on the disk: what is set aside for what will be written, and what is done where the disk has no more.
//!
//! A full disk is no fault. Puts are refused before what is set aside for ends of jobs is touched, and what ended is had
//! back by itself, also while others leave the disk not one byte.

use super::{History, Keeper, LOOK_EVERY, Round};
use crate::host::CommitError;
use rota_engine::engine::Engine;
use rota_engine::far::FarError;
use rota_engine::log::{LogError, LogStats, LogWriter};
use rota_engine::storage::{DataDirectory, Storage, is_full, is_short};
use std::error::Error;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl Keeper {
    /// Called after each write: wakes the thread where room runs short, and where the thread is late sets some aside itself,
    /// so that nothing is refused before the disk said that it is full.
    pub(in crate::host) fn look_after_room(
        &self,
        writer: &mut LogWriter<DataDirectory>,
        wanted: u64,
    ) -> Result<(), LogError> {
        let stats = writer.stats();
        if stats.room >= wanted + stats.segment_bytes {
            return Ok(());
        }
        self.look();
        while !self.is_disk_full.load(Ordering::Relaxed) && writer.stats().room < wanted + stats.segment_bytes / 4 {
            let mut directory = writer.storage().clone();
            match self.set_segment_aside(&mut directory) {
                Ok(()) => self.count_spare(writer),
                Err(error) => {
                    let has_given = is_full(&error)
                        && self.forget_history(&mut directory, stats.oldest_segment, History::default())?;
                    if !has_given {
                        self.found_no_room(&directory, error)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sets a segment aside, unless one was meanwhile that is still to be counted.
    fn set_segment_aside(&self, directory: &mut DataDirectory) -> io::Result<()> {
        let mut has_uncounted = self.has_uncounted.lock().unwrap_or_else(PoisonError::into_inner);
        if !*has_uncounted {
            directory.set_aside()?;
            *has_uncounted = true;
        }
        Ok(())
    }

    /// Has the writer count what was set aside.
    fn count_spare(&self, writer: &mut LogWriter<DataDirectory>) {
        let mut has_uncounted = self.has_uncounted.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *has_uncounted) {
            writer.add_spare();
        }
    }

    /// Takes note that no room could be set aside, where it can be tried again. Whatever else the disk says may be said of the
    /// log: it is not asked a second time.
    fn found_no_room(&self, directory: &DataDirectory, error: io::Error) -> Result<bool, LogError> {
        if is_full(&error) || is_short(&error) {
            return Ok(self.found_disk_full(Some(&error)));
        }
        Err(LogError::Directory { doing: "set room aside for", path: directory.path().to_owned(), source: error })
    }

    /// Takes note of what came of setting room aside: nothing, or an error, which is no fault of the log's; it is tried
    /// again. Returns whether that is news.
    fn found_disk_full(&self, error: Option<&io::Error>) -> bool {
        let is_news = self.is_disk_full.swap(error.is_some(), Ordering::Relaxed) != error.is_some();
        match error {
            Some(error) if is_news => crate::note!(
                "rota: cannot set room aside on the disk of the data directory: {error}. Puts are refused when what is \
                 set aside runs short; jobs can be completed and cancelled. Free some space, and it goes on by itself"
            ),
            None if is_news => crate::note!("rota: the disk of the data directory has room again"),
            _ => {}
        }
        is_news
    }
}

impl Round<'_> {
    /// Sets room aside until there is enough for what may come. A full disk costs history first.
    pub(super) fn set_aside(&mut self) -> Result<(), CommitError> {
        loop {
            match self.set_some_aside() {
                Ok(false) => break,
                Ok(true) => {
                    let added = self.log().with_writer(|writer| {
                        self.host.keeper.count_spare(writer);
                        Ok(())
                    })?;
                    // The log was closed meanwhile: its next start counts the spares itself.
                    if added.is_none() {
                        return Ok(());
                    }
                }
                Err(error) if is_full(&error) && self.forget_history(History::default())? => {}
                Err(error) => {
                    let found = self.host.keeper.found_no_room(self.directory, error);
                    found.map_err(|cause| self.log().fail(cause))?;
                    // Now the engine is told, and refuses what is no end of a job.
                    return self.log().commit(self.host, false);
                }
            }
        }
        if self.host.keeper.found_disk_full(None) {
            self.log().commit(self.host, false)?;
        }
        // What many jobs needed is given back when they are gone.
        let most = self.look(Engine::wanted_room) + 3 * self.stats().segment_bytes;
        while self.stats().room > most {
            let before = self.stats().room;
            self.log().with_writer(|writer| {
                writer.give_back();
                Ok(())
            })?;
            if self.stats().room == before {
                break;
            }
        }
        Ok(())
    }

    /// Sets aside what is missing beside the segments, then room for one of those where it is short. Returns whether it did that.
    fn set_some_aside(&mut self) -> io::Result<bool> {
        self.directory.set_aside_beside(self.look(Engine::open_file_bytes))?;
        let stats = self.stats();
        let is_short = stats.room < self.look(Engine::wanted_room) + stats.segment_bytes;
        if is_short { self.host.keeper.set_segment_aside(self.directory).map(|()| true) } else { Ok(false) }
    }

    /// Whether a segment should be reclaimed that is not due: on a full disk all that can be had counts, however much is
    /// written again for it.
    pub(super) fn is_wanted(&self, stats: &LogStats, live_bytes: u64) -> bool {
        let is_closed = stats.needed_from < stats.newest_segment;
        let ended = (stats.bytes - stats.needless_bytes).saturating_sub(live_bytes + live_bytes / 8);
        self.is_full() && is_closed && (ended > 2 * stats.segment_bytes || self.look(Engine::has_empty_far_segments))
    }

    /// Begins the next segment on a full disk if `is_worth_it`: its header says what is needless by then, which can go. Returns whether
    /// it did.
    pub(super) fn close_on_full(&self, is_worth_it: impl FnOnce(&LogStats) -> bool) -> Result<bool, CommitError> {
        if !self.is_full() {
            return Ok(false);
        }
        let closed = self.log().with_writer(|writer| {
            let stats = writer.stats();
            if is_worth_it(&stats) && self.look(|engine| engine.can_begin_segment(writer)) {
                writer.close_segment()?;
            }
            Ok(writer.stats().newest_segment > stats.newest_segment)
        })?;
        Ok(closed.unwrap_or(false))
    }

    /// After the disk had no room for a small file: has it given some, as far as there is any; else waits a little.
    pub(super) fn wait_for_room(&mut self, error: &FarError) -> Result<(), CommitError> {
        self.host.keeper.found_disk_full(error.source().and_then(|source| source.downcast_ref()));
        let has_given =
            self.forget_history(History::default())? || self.close_on_full(|stats| stats.needless_bytes > 0)?;
        if !has_given {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.host.keeper.is_disk_full.load(Ordering::Relaxed)
    }
}
