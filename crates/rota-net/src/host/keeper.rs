//! The thread that looks after the log's files: it sets room aside on the disk, has the oldest segment reclaimed when the log
//! is too long, and takes history away.
//!
//! All its work is cut into slices that commands can wait for. It never changes what is acknowledged: what it has written
//! again is a record like any other, and a file goes only when the header of a durable segment says that it is not needed.

mod room;

use super::bodies::Bodies;
use super::far::STEP;
use super::{CommitError, Host};
use crate::memory;
use rota_engine::engine::Engine;
use rota_engine::far::FarFiles;
use rota_engine::limits::KEPT_SLICE_BYTES;
use rota_engine::log::{Compaction, LogError, LogStats, LogWriter, is_due, is_over};
use rota_engine::storage::{DataDirectory, SegmentInfo, Storage};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};

/// How often it looks, at least: a full disk may have room again.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How much longer than twice what is open the log may be before puts are slowed down, once it grows by [`LATE_GROWTH`] more: together
/// less than the two segments that are promised. In quarters of a segment.
const LATE_LENGTH: u64 = 6;
const LATE_GROWTH: u64 = 1;

/// The same while nothing may be reclaimed, for a snapshot for example: how long that takes is not up to the server.
const LATE_LENGTH_HELD: u64 = 20;

/// How long slices hold the engine before those who wait for it have a rest to get it, as long as they held it.
const HELD: Duration = Duration::from_micros(100);

/// The longest of these rests.
const MOST_REST: Duration = Duration::from_millis(1);

/// So much is written again, about, before it has to be on the disk: what clients wait for shares that with no more.
const ON_ITS_WAY_BYTES: u64 = KEPT_SLICE_BYTES as u64 / 2;

/// Far segments are written again when they are more than this many, and this many times what is open in them.
const FAR_SEGMENTS: f64 = 4.0;
const FAR_SHARE: f64 = 3.0;

/// How much of the log is kept that no start reads any more: as history, for whoever asks what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// How old a segment may be.
    pub age: Duration,
    /// How many bytes there may be of them.
    pub bytes: u64,
}

/// What the keeper did since the start, and what it saw last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeeperFigures {
    /// Segments whose open jobs were written again.
    pub compactions: u64,
    /// Jobs that were written again.
    pub jobs_kept: u64,
    /// Length of the segments that are kept as history, in bytes.
    pub history_bytes: u64,
    /// Whether the disk had no room to set aside, the last time it was asked.
    pub is_disk_full: bool,
}

#[derive(Default)]
pub(super) struct Keeper {
    thread: OnceLock<Thread>,
    compactions: AtomicU64,
    jobs_kept: AtomicU64,
    history_bytes: AtomicU64,
    is_disk_full: AtomicBool,
    /// Whether a segment was set aside that is not counted by the log's writer yet. Its lock is held meanwhile, else the other of the two
    /// who do that took the disk for full while the last one that there is room for is on its way.
    has_uncounted: Mutex<bool>,
    /// What keeps segments that nobody needs, and has them open.
    bodies: Option<Arc<Bodies>>,
    /// The far segments, which are no history.
    far: Option<Arc<FarFiles<DataDirectory>>>,
    /// Far segments whose jobs are all over, each with the segment that a start must begin with before it can go.
    emptied: Mutex<Vec<(u64, u64)>>,
    is_late: AtomicBool,
    /// The least that a start needed of the log since it is much longer than it should be, in bytes; 0 while it is not.
    shortest_long: AtomicU64,
}

impl Keeper {
    pub(super) fn new(bodies: Option<Arc<Bodies>>, far: Option<Arc<FarFiles<DataDirectory>>>) -> Keeper {
        Keeper { bodies, far, ..Keeper::default() }
    }

    /// Has it look now.
    pub(super) fn look(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Called after each write: where more is written than can be reclaimed, whoever puts is to be slowed down. Else a log of which
    /// much is open in each segment grew without end under a load that goes on, and with it memory, where jobs leave that with their
    /// segments.
    pub(super) fn look_after_length(&self, stats: &LogStats, live_bytes: u64, holds_still: bool) {
        let needed = stats.bytes - stats.needless_bytes;
        let quarter = stats.segment_bytes / 4;
        let length = if holds_still { LATE_LENGTH_HELD } else { LATE_LENGTH };
        let is_long = needed > 2 * live_bytes + length * quarter;
        // One that is long since many jobs ended at once gets shorter by itself, and holds nobody up.
        let before = self.shortest_long.load(Ordering::Relaxed);
        let shortest = if before == 0 { needed } else { before.min(needed) };
        self.shortest_long.store(if is_long { shortest } else { 0 }, Ordering::Relaxed);
        let is_late = is_long && needed > shortest + LATE_GROWTH * quarter;
        self.is_late.store(is_late, Ordering::Relaxed);
        if is_long && before == 0 || is_over(stats, live_bytes) {
            self.look();
        }
    }

    /// Whether the log is much longer than it should be, and grows.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }

    /// Takes away of the segments below `oldest` what is past its age and past so many bytes, the oldest first. Returns
    /// whether there was any to take.
    fn forget_history(&self, directory: &mut DataDirectory, oldest: u64, keep: History) -> Result<bool, LogError> {
        // It is tried again in the next round, and a start passes over what is left.
        let oldest = self.bodies.as_ref().map_or(oldest, |bodies| bodies.pins.removable_below(oldest));
        self.forget_far(directory, oldest);
        let Ok(mut segments) = directory.segments_below(oldest) else { return Ok(false) };
        segments.retain(|info| self.far.as_ref().is_none_or(|far| !far.has(info.segment)));
        let now = SystemTime::now();
        let is_too_old = |info: &SegmentInfo| now.duration_since(info.changed).is_ok_and(|age| age > keep.age);
        let mut left: u64 = segments.iter().map(|info| info.bytes).sum();
        let mut any = false;
        for info in &segments {
            if left <= keep.bytes && !is_too_old(info) {
                break;
            }
            if directory.remove(info.segment).is_err() {
                break;
            }
            directory.sync_names().map_err(|source| {
                let path = directory.path().to_owned();
                LogError::Directory { doing: "sync the names of the files of", path, source }
            })?;
            if let Some(bodies) = &self.bodies {
                bodies.close(info.segment);
            }
            left -= info.bytes;
            any = true;
        }
        self.history_bytes.store(left, Ordering::Relaxed);
        Ok(any)
    }

    /// Lets far segments become history that nobody needs, where a start begins with `oldest`, and takes away the files
    /// that went with them.
    fn forget_far(&self, directory: &mut DataDirectory, oldest: u64) {
        let Some(far) = &self.far else { return };
        let mut emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        emptied.retain(|&(needed_from, segment)| {
            if needed_from <= oldest {
                far.close(segment);
            }
            needed_from > oldest
        });
        // What is left of them is passed over by a start, and tried again in the next round.
        let needless = directory.beside().map_or_else(|_| Vec::new(), |beside| far.needless(beside, oldest));
        for name in needless {
            let _ = directory.remove_beside(name);
        }
    }

    pub(super) fn figures(&self) -> KeeperFigures {
        KeeperFigures {
            compactions: self.compactions.load(Ordering::Relaxed),
            jobs_kept: self.jobs_kept.load(Ordering::Relaxed),
            history_bytes: self.history_bytes.load(Ordering::Relaxed),
            is_disk_full: self.is_disk_full.load(Ordering::Relaxed),
        }
    }
}

/// The far segment to be written again, of those given with how many records each has and how many of its jobs are open: the
/// one with the fewest for its length, if they are too many for what is open in them. Those whose jobs are all over go by
/// themselves.
fn sparsest(segments: impl Iterator<Item = (u64, u32, u32)>) -> Option<u64> {
    let share = |(segment, records, open): (u64, u32, u32)| (f64::from(open) / f64::from(records.max(1)), segment);
    let shares: Vec<(f64, u64)> = segments.filter(|(_, _, open)| *open > 0).map(share).collect();
    let open: f64 = shares.iter().map(|(share, _)| share).sum();
    let least = shares.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    least.filter(|_| shares.len() as f64 > FAR_SEGMENTS + FAR_SHARE * open).map(|&(_, segment)| segment)
}

pub(super) fn spawn(host: &Arc<Host>, directory: DataDirectory, history: History) {
    let weak = Arc::downgrade(host);
    let work = move || run(&weak, directory, history);
    let thread = std::thread::Builder::new().name("rota-keeper".into()).spawn(work);
    let thread = thread.expect("a process that starts has room for a thread");
    host.keeper.thread.set(thread.thread().clone()).expect("the keeper is started once");
}

fn run(weak: &Weak<Host>, mut directory: DataDirectory, history: History) {
    while let Some(host) = weak.upgrade() {
        let Ok(is_more) = Round { host: &host, directory: &mut directory, history }.all() else { return };
        drop(host);
        if !is_more {
            memory::give_back();
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

/// Sets room aside before the first command comes, so that none is refused for want of it.
pub(super) fn prepare(host: &Host, directory: &mut DataDirectory, history: History) -> Result<(), CommitError> {
    Round { host, directory, history }.set_aside()
}

struct Round<'a> {
    host: &'a Host,
    directory: &'a mut DataDirectory,
    history: History,
}

impl Round<'_> {
    /// Does what there is to do. Returns whether there is more.
    fn all(&mut self) -> Result<bool, CommitError> {
        self.set_aside()?;
        let stats = self.stats();
        let (live, has_room) = self.look(|engine| (engine.live_bytes(), engine.has_room_to_compact()));
        let is_due = (is_due(&stats, live) || self.is_wanted(&stats, live)) && has_room;
        if is_due {
            self.compact(stats.needed_from)?;
        }
        // What becomes needless last is so while nothing is reclaimed any more.
        if !is_due && self.is_over() {
            self.log().settle(self.host)?;
            self.close_if_over()?;
        }
        let rewrote = !is_due && self.rewrite_far()?;
        // Far segments whose jobs are over go when the ends of these are reclaimed, and those may stand in the segment under way.
        let closed = self.close_on_full(|stats| {
            stats.needed_from == stats.newest_segment && self.look(Engine::has_empty_far_segments)
        })?;
        self.forget_history(self.history)?;
        Ok(is_due || rewrote || closed)
    }

    fn stats(&self) -> LogStats {
        self.host.log_figures().map(|figures| figures.stats).unwrap_or_default()
    }

    fn look<T>(&self, look: impl FnOnce(&Engine) -> T) -> T {
        self.host.look(|shared| look(&shared.engine))
    }

    fn far(&self) -> &super::far::FarJobs {
        self.host.far.as_ref().expect("the keeper works where a log is kept")
    }

    /// Has the open jobs of the far segment written again that has the fewest for its length, if far segments hold much
    /// more than what is open in them. Returns whether it did.
    fn rewrite_far(&mut self) -> Result<bool, CommitError> {
        let sparsest = self.look(|engine| sparsest(engine.far_segments()));
        let may = self.look(|engine| engine.has_room_to_compact() && !engine.holds_still() && !engine.is_stopped());
        let Some(segment) = sparsest.filter(|_| may) else { return Ok(false) };
        let failed = |error| self.host.far_failed(error);
        let Some(mut groups) = self.far().files.records(segment).map_err(failed)? else { return Ok(false) };
        while let Some(records) = groups.next_group().map_err(failed)? {
            for records in records.chunks(STEP) {
                self.host.with(|shared, now| {
                    if !shared.engine.holds_still() && !shared.engine.is_stopped() {
                        shared.engine.bring_near(records, now);
                        records.iter().for_each(|record| shared.engine.keep_far_job(record, now));
                    }
                });
                self.log().settle(self.host)?;
            }
        }
        Ok(true)
    }

    fn log(&self) -> &super::commit::Commit {
        self.host.log.as_ref().expect("the keeper works where a log is kept")
    }

    fn forget_history(&mut self, keep: History) -> Result<bool, CommitError> {
        let any = self.host.keeper.forget_history(self.directory, self.stats().oldest_segment, keep);
        any.map_err(|cause| self.log().fail(cause))
    }

    /// Begins the next segment where what is needless makes the log too long: its header says so. To be called when the log was just settled:
    /// everybody waits while the rest is synced.
    fn close_if_over(&self) -> Result<(), CommitError> {
        if self.is_over() {
            self.log().with_writer(LogWriter::close_segment)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        !self.is_full() && is_over(&self.stats(), self.look(Engine::live_bytes))
    }

    /// Has the open jobs of a segment written again, after which no start needs it.
    fn compact(&mut self, segment: u64) -> Result<(), CommitError> {
        let host = self.host;
        let failed = |error| host.log.as_ref().expect("a log is kept").fail(LogError::Reclaim(error));
        let leaves_after = self.look(Engine::leaves_after);
        let begun = Compaction::begin(&*self.directory, &self.far().files, segment, leaves_after);
        let mut compaction = begun.map_err(failed)?;
        let (mut on_its_way, mut held) = (0, Duration::ZERO);
        loop {
            if host.failed().is_some() || self.look(Engine::is_stopped) {
                return Ok(());
            }
            // Else whoever writes sets it aside, and everybody waits for that.
            self.set_aside()?;
            match compaction.read() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.is_disk_full() => {
                    self.wait_for_room(&error)?;
                    continue;
                }
                Err(error) => return Err(failed(error)),
            }
            let (kept, kept_bytes) = (compaction.kept(), compaction.kept_bytes());
            let ((holds_still, took), _) = self.host.with(|shared, now| {
                let since = Instant::now();
                compaction.keep(&mut shared.engine, now);
                shared.facts.log.records_migrated += compaction.kept() - kept;
                (shared.engine.holds_still() || compaction.waits(&shared.engine), since.elapsed())
            });
            self.host.keeper.jobs_kept.fetch_add(compaction.kept() - kept, Ordering::Relaxed);
            on_its_way += compaction.kept_bytes() - kept_bytes;
            held += took;
            if on_its_way >= ON_ITS_WAY_BYTES || self.host.is_behind() {
                self.log().settle(self.host)?;
                (on_its_way, held) = (0, Duration::ZERO);
                self.close_if_over()?;
            } else if holds_still {
                std::thread::sleep(LOOK_EVERY);
            } else if held >= HELD {
                std::thread::sleep(held.min(MOST_REST));
                held = Duration::ZERO;
            }
        }
        let (finished, _) = self.host.with(|shared, now| {
            let goes_on = !shared.engine.is_stopped();
            goes_on.then(|| {
                let lsn = compaction.finish(&mut shared.engine, now);
                // With nothing in between: what their jobs were counted for was just kept.
                (lsn, shared.engine.drop_empty_far_segments())
            })
        });
        // Of what was to be written again, something may not have been.
        let Some((lsn, emptied)) = finished else { return Ok(()) };
        let mut waiting = self.host.keeper.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        let any_emptied = !emptied.is_empty();
        waiting.extend(emptied.into_iter().map(|empty| (segment + 1, empty)));
        drop(waiting);
        self.log().settle(self.host)?;
        self.log().with_writer(|writer| {
            // A log that was closed meanwhile has no writer; its start reads the segment once more.
            if writer.durable() >= lsn {
                writer.need_only_from(segment + 1);
            }
            Ok(())
        })?;
        self.close_if_over()?;
        // A full disk cannot wait for more of it.
        self.close_on_full(|stats| any_emptied || stats.needless_bytes >= 2 * stats.segment_bytes)?;
        self.host.keeper.compactions.fetch_add(1, Ordering::Relaxed);
        // What is told of the log is as of the newest write.
        self.log().commit(self.host, false)
    }
}

#[cfg(test)]
mod tests {
    use super::sparsest;

    #[test]
    fn far_segments_are_written_again_where_too_many_hold_too_little() {
        let sparse =
            |open: u32| (1..=8_u64).map(move |segment| (segment, 1_000, if segment == 5 { open - 1 } else { open }));
        assert_eq!(sparsest(sparse(100)), Some(5));
        assert_eq!(sparsest(sparse(900)), None, "they are full");
        assert_eq!(sparsest(sparse(100).take(4)), None, "they are few");
        // What was written again leaves no reason to go on with the others.
        let emptied =
            sparse(100).map(|(segment, records, open)| (segment, records, if segment > 4 { 0 } else { open }));
        assert_eq!(sparsest(emptied), None, "those that are empty go by themselves");
    }
}
