//! Group commit: one write, and where it is promised one sync, for all that was decided meanwhile.
//!
//! Where an answer waits for the disk, a thread does both, over and over, as long as there is something to write; a
//! connection that waits alone, on a disk that is quick, spares itself the two changes of thread. Where an answer waits
//! for the kernel alone, whoever waits first writes for everybody, and the thread syncs at its own pace; it closes a segment
//! before that is full, so that none of those who write has to.

use super::{Host, Promise};
use crate::beanstalkd::LogFacts;
use rota_engine::engine::{DependsOn, Room};
use rota_engine::limits::{RECORD_OVERHEAD_BYTES, STEP_OBJECTS};
use rota_engine::log::{Group, LogError, LogStats, LogWriter, Lsn};
use rota_engine::storage::{DataDirectory, Storage};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A sync that takes longer is left to the thread, even for a connection that waits alone: the others are served on.
const QUICK_SYNC: Duration = Duration::from_micros(500);

/// So many connections that wait are worth a sync of their own: it begins while the next ones are still being read.
const WORTH_A_SYNC: usize = 16;

/// A segment is nearly full once less than one in so many parts of it is left.
const NEARLY_FULL: u64 = 8;

/// So much is synced in the time that a write may wait for, in bytes.
const QUICKLY_SYNCED_BYTES: u64 = 256 << 10;

/// So many syncs come one after the other at most, each of what was written during the one before, until a segment is closed.
const MOST_SYNCS_APART: usize = 4;

/// The log failed. Nothing that was not acknowledged before may be acknowledged now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log failed, so nothing more may be acknowledged")]
pub struct CommitError(#[source] pub Arc<LogError>);

/// How far the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogFigures {
    /// The newest record that the kernel has.
    pub written: Lsn,
    /// The newest record that the disk has.
    pub durable: Lsn,
    /// What there is of it, and what was done since the start.
    pub stats: LogStats,
}

pub(super) struct Commit {
    promise: Promise,
    log: Mutex<Log>,
    /// As of the last commit: to be read while one is under way.
    stats: Mutex<LogStats>,
    written: AtomicU64,
    durable: AtomicU64,
    /// What the moments below are counted from.
    begin: Instant,
    /// When the oldest of what is written and not durable was written, in microseconds since `begin`; 0 for nothing.
    unsynced_since: AtomicU64,
    waiters: Mutex<Vec<(DependsOn, Waker)>>,
    /// How many connections are in [`Commit::reached`] and have not been told yet.
    waiting: AtomicUsize,
    /// How many have begun to since the thread was called last.
    newly_waiting: AtomicUsize,
    /// Whether the newest sync was a quick one.
    is_quick: AtomicBool,
    /// Whether the thread has something to do, and what wakes it.
    due: Mutex<bool>,
    due_changed: Condvar,
    /// As `due`, to be read without its lock.
    is_due: AtomicBool,
    failed: OnceLock<CommitError>,
    failed_now: Notify,
}

struct Log {
    /// `None` once it was closed in good order.
    writer: Option<LogWriter<DataDirectory>>,
    group: Group,
}

impl Commit {
    pub(super) fn new(writer: LogWriter<DataDirectory>, promise: Promise) -> Commit {
        Commit {
            promise,
            stats: Mutex::new(writer.stats()),
            written: AtomicU64::new(writer.written().0),
            durable: AtomicU64::new(writer.durable().0),
            begin: Instant::now(),
            unsynced_since: AtomicU64::new(0),
            log: Mutex::new(Log { writer: Some(writer), group: Group::default() }),
            waiters: Mutex::new(Vec::new()),
            waiting: AtomicUsize::new(0),
            newly_waiting: AtomicUsize::new(0),
            is_quick: AtomicBool::new(false),
            due: Mutex::new(false),
            due_changed: Condvar::new(),
            is_due: AtomicBool::new(false),
            failed: OnceLock::new(),
            failed_now: Notify::new(),
        }
    }

    /// Writes all that was decided, and syncs it if asked to. Who only writes does not wait for the sync of another, where
    /// no answer waits for syncs.
    pub(super) fn commit(&self, host: &Host, sync: bool) -> Result<(), CommitError> {
        let mut log = lock(&self.log);
        if let Some(failed) = self.failed.get() {
            return Err(failed.clone());
        }
        let mut result = self.write(&mut log, host);
        if result.is_ok() && sync {
            if self.promise == Promise::Durable {
                result = self.sync(&mut log);
            } else {
                drop(log);
                result = self.sync_apart(host);
                return self.conclude(result);
            }
        }
        drop(log);
        self.conclude(result)
    }

    /// Waits until all that is decided is on the disk, with the thread's next sync: one more of its own at the same time
    /// would only delay those who wait for that. It blocks: no connection may.
    pub(super) fn settle(&self, host: &Host) -> Result<(), CommitError> {
        let newest = host.look(|shared| shared.engine.last_record());
        let mut is_on_disk = pin!(self.told_when_reached(DependsOn { promised: newest, durable: newest }));
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            self.call_thread();
            if let Poll::Ready(result) = is_on_disk.as_mut().poll(&mut Context::from_waker(&waker)) {
                return result;
            }
            // Who closed the log has written all that will ever be.
            if lock(&self.log).writer.is_none() {
                return Ok(());
            }
            std::thread::park();
        }
    }

    /// Does something with the log's writer, everything in it written; the time it takes is added to every answer that
    /// waits for the log.
    pub(super) fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut LogWriter<DataDirectory>) -> Result<T, LogError>,
    ) -> Result<Option<T>, CommitError> {
        let mut log = lock(&self.log);
        if let Some(failed) = self.failed.get() {
            return Err(failed.clone());
        }
        let result = log.writer.as_mut().map(work).transpose();
        if let Some(writer) = &log.writer {
            self.note(writer);
        }
        drop(log);
        let result = result.map_err(|cause| self.fail(cause));
        self.wake(|depends_on| self.has_reached(depends_on));
        result
    }

    /// Nothing may be acknowledged from now on.
    pub(super) fn fail(&self, cause: LogError) -> CommitError {
        self.conclude(Err(cause)).expect_err("a failure is an error")
    }

    /// Closes the log in good order, everything in it written and synced.
    pub(super) fn close(&self, host: &Host) -> Result<(), CommitError> {
        self.commit(host, true)?;
        let writer = lock(&self.log).writer.take();
        self.conclude(writer.map_or(Ok(()), LogWriter::close))
    }

    /// Lets go who waited for it, or tells everybody that it failed.
    fn conclude(&self, result: Result<(), LogError>) -> Result<(), CommitError> {
        if let Err(cause) = result {
            let error = self.failed.get_or_init(|| CommitError(Arc::new(cause))).clone();
            self.failed_now.notify_waiters();
            self.wake(|_| true);
            return Err(error);
        }
        self.wake(|depends_on| self.has_reached(depends_on));
        Ok(())
    }

    fn write(&self, log: &mut Log, host: &Host) -> Result<(), LogError> {
        let Log { writer: Some(writer), group } = log else { return Ok(()) };
        let stats = writer.stats();
        let (any, unwritten, wanted, live, holds_still) = {
            let keeper = host.keeper.figures();
            let mut shared = host.lock();
            shared.facts.log = LogFacts {
                oldest_segment: stats.oldest_segment,
                current_segment: stats.newest_segment,
                records_written: stats.records_written,
                bytes: stats.bytes - stats.needless_bytes,
                history_bytes: keeper.history_bytes,
                compactions: keeper.compactions,
                is_disk_full: keeper.is_disk_full,
                ..shared.facts.log
            };
            let any = shared.engine.take_records(group);
            let free = stats.room.saturating_sub(group.bytes() as u64 + RECORD_OVERHEAD_BYTES);
            let is_all = keeper.is_disk_full;
            shared.engine.set_room(Room { free, segment_bytes: stats.segment_bytes, is_all });
            let engine = &shared.engine;
            (any, engine.unwritten_bytes(), engine.wanted_room(), engine.live_bytes(), engine.holds_still())
        };
        host.unwritten.store(unwritten as u64, Ordering::Relaxed);
        if any {
            writer.write(group)?;
            let now = self.micros();
            let _ = self.unsynced_since.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
            // Before a later write, and so before any segment that they stood in goes.
            for bodies in group.bodies_written().chunks(STEP_OBJECTS) {
                host.lock().engine.bodies_written(bodies);
            }
        }
        host.keeper.look_after_room(writer, wanted)?;
        host.keeper.look_after_length(&writer.stats(), live, holds_still);
        if matches!(self.promise, Promise::Written { .. }) && closes_early(writer, host) {
            self.call_thread();
        }
        self.note(writer);
        Ok(())
    }

    fn sync(&self, log: &mut Log) -> Result<(), LogError> {
        let Some(writer) = &mut log.writer else { return Ok(()) };
        let begun = Instant::now();
        writer.sync()?;
        self.is_quick.store(begun.elapsed() <= QUICK_SYNC, Ordering::Relaxed);
        self.unsynced_since.store(0, Ordering::SeqCst);
        self.note(writer);
        Ok(())
    }

    /// Syncs what is written so far while others write on, and closes a segment that is nearly full: everybody waits while that is synced
    /// to its end, so it comes after a sync that left little to do.
    fn sync_apart(&self, host: &Host) -> Result<(), LogError> {
        let mut turns_left = MOST_SYNCS_APART;
        loop {
            let Some(written_meanwhile) = self.sync_what_is_written()? else { return Ok(()) };
            let mut log = lock(&self.log);
            let Some(writer) = &mut log.writer else { return Ok(()) };
            if !closes_early(writer, host) {
                return Ok(());
            }
            turns_left -= 1;
            if written_meanwhile <= QUICKLY_SYNCED_BYTES || turns_left == 0 {
                let closed = writer.close_segment();
                self.note(writer);
                return closed;
            }
        }
    }

    /// Returns how many bytes were written while it synced; `None` where there was nothing to sync.
    fn sync_what_is_written(&self) -> Result<Option<u64>, LogError> {
        let begun = self.micros();
        let mut log = lock(&self.log);
        let Some(writer) = &mut log.writer else { return Ok(None) };
        let written = writer.stats().bytes_written;
        let Some(mut under_way) = writer.begin_sync()? else {
            self.unsynced_since.store(0, Ordering::SeqCst);
            return Ok(None);
        };
        drop(log);
        let synced = under_way.sync();
        let mut log = lock(&self.log);
        // Who closed the log meanwhile has synced it.
        let Some(writer) = &mut log.writer else { return synced.map_err(|_| LogError::Poisoned).map(|()| None) };
        let durable = writer.end_sync(under_way, synced)?;
        // What was written since the begin of the sync may be as old as that.
        let oldest = if durable == writer.written() { 0 } else { begun };
        self.unsynced_since.store(oldest, Ordering::SeqCst);
        self.note(writer);
        Ok(Some(writer.stats().bytes_written - written))
    }

    /// Takes down how far the log is.
    fn note(&self, writer: &LogWriter<DataDirectory>) {
        self.written.store(writer.written().0, Ordering::SeqCst);
        self.durable.store(writer.durable().0, Ordering::SeqCst);
        *lock(&self.stats) = writer.stats();
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Whether a sync is overdue twice over: what is not on the disk could be lost in a longer span than was promised.
    fn is_overdue(&self) -> bool {
        let Promise::Written { sync_every: Some(every) } = self.promise else { return false };
        let since = self.unsynced_since.load(Ordering::SeqCst);
        since > 0 && u128::from(self.micros().saturating_sub(since)) > 2 * every.as_micros()
    }

    fn has_reached(&self, depends_on: DependsOn) -> bool {
        let durable = Lsn(self.durable.load(Ordering::SeqCst));
        let written = Lsn(self.written.load(Ordering::SeqCst));
        let is_written = || matches!(self.promise, Promise::Written { .. }) && depends_on.promised <= written;
        // What is on the disk cannot be lost, however late the next sync is.
        let is_promised = depends_on.promised <= durable || is_written() && !self.is_overdue();
        depends_on.durable <= durable && is_promised
    }

    pub(super) async fn reached(&self, host: &Host, depends_on: DependsOn) -> Result<(), CommitError> {
        if self.has_reached(depends_on) {
            return self.failed.get().map_or(Ok(()), |failed| Err(failed.clone()));
        }
        let _waiting = Waiting::count(&self.waiting);
        let newly_waiting = self.newly_waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if newly_waiting >= WORTH_A_SYNC && self.promise == Promise::Durable {
            self.call_thread();
        }
        // Let the other connections that have something to read decide first: one write, one sync serves them all.
        tokio::task::yield_now().await;
        if !self.has_reached(depends_on) {
            let is_alone = self.waiting.load(Ordering::Relaxed) == 1;
            match self.promise {
                Promise::Written { .. } => self.commit(host, false)?,
                Promise::Durable if is_alone && self.is_quick.load(Ordering::Relaxed) => self.commit(host, true)?,
                Promise::Durable => {}
            }
        }
        if !self.has_reached(depends_on) {
            self.call_thread();
        }
        self.told_when_reached(depends_on).await
    }

    /// Waits for what others do.
    fn told_when_reached(&self, depends_on: DependsOn) -> impl Future<Output = Result<(), CommitError>> {
        std::future::poll_fn(move |context| {
            let mut waiters = lock(&self.waiters);
            if let Some(failed) = self.failed.get() {
                return Poll::Ready(Err(failed.clone()));
            }
            if self.has_reached(depends_on) {
                return Poll::Ready(Ok(()));
            }
            waiters.push((depends_on, context.waker().clone()));
            Poll::Pending
        })
    }

    fn wake(&self, is_over: impl Fn(DependsOn) -> bool) {
        let woken: Vec<Waker> = {
            let mut waiters = lock(&self.waiters);
            waiters.extract_if(.., |(depends_on, _)| is_over(*depends_on)).map(|(_, waker)| waker).collect()
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Takes note of how the engine stands after something was decided. If somebody is about to wait for it, the thread
    /// is not called for what only they wait for: it would begin with the first of many.
    pub(super) fn notice(&self, unwritten: usize, wants_durable: Lsn, will_wait: bool) {
        if will_wait && self.promise == Promise::Durable {
            return;
        }
        let to_write = unwritten > 0 && self.promise == Promise::Durable;
        if to_write || wants_durable.0 > self.durable.load(Ordering::Relaxed) {
            self.call_thread();
        }
    }

    /// Writes what no answer waits for, after time has passed.
    pub(super) fn tidy_up(&self, host: &Host) {
        if matches!(self.promise, Promise::Written { .. }) && host.unwritten.load(Ordering::Relaxed) > 0 {
            // A failure is kept, and shown by `failure`.
            let _ = self.commit(host, false);
        }
    }

    fn call_thread(&self) {
        self.newly_waiting.store(0, Ordering::Relaxed);
        if !self.is_due.swap(true, Ordering::SeqCst) {
            *lock(&self.due) = true;
            self.due_changed.notify_one();
        }
    }

    pub(super) async fn failure(&self) -> CommitError {
        loop {
            let told = self.failed_now.notified();
            if let Some(failed) = self.failed.get() {
                return failed.clone();
            }
            told.await;
        }
    }

    pub(super) fn failed(&self) -> Option<CommitError> {
        self.failed.get().cloned()
    }

    pub(super) fn figures(&self) -> LogFigures {
        LogFigures {
            written: Lsn(self.written.load(Ordering::Relaxed)),
            durable: Lsn(self.durable.load(Ordering::Relaxed)),
            stats: *lock(&self.stats),
        }
    }
}

/// Whether the segment under way is to be closed before it is full, by who syncs apart: else whoever fills it up does that, with all
/// in it that is not synced yet. There has to be room for the next one.
fn closes_early(writer: &LogWriter<DataDirectory>, host: &Host) -> bool {
    let segment_bytes = writer.storage().segment_bytes();
    let is_nearly_full = writer.left_in_segment() < segment_bytes / NEARLY_FULL;
    is_nearly_full && writer.stats().room > segment_bytes && !host.keeper.figures().is_disk_full
}

/// Starts the thread that syncs, if there is anything to sync.
pub(super) fn spawn(host: &Arc<Host>) {
    let Some(log) = &host.log else { return };
    let every = match log.promise {
        Promise::Durable | Promise::Written { sync_every: None } => None,
        Promise::Written { sync_every } => sync_every,
    };
    let weak = Arc::downgrade(host);
    let thread = std::thread::Builder::new().name("rota-log".into()).spawn(move || {
        while let Some(host) = weak.upgrade() {
            let log = host.log.as_ref().expect("the thread is started where a log is kept");
            if log.wait_until_due(every) && log.commit(&host, true).is_err() {
                return;
            }
        }
    });
    thread.expect("a process that starts has room for a thread");
}

impl Commit {
    /// Returns whether the thread is to write and sync now; false: look whether the host is still there.
    fn wait_until_due(&self, every: Option<Duration>) -> bool {
        let due = lock(&self.due);
        let patience = every.unwrap_or(Duration::from_secs(1));
        let waited = self.due_changed.wait_timeout_while(due, patience, |due| !*due);
        let (mut due, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let was_due = std::mem::take(&mut *due);
        self.is_due.store(false, Ordering::SeqCst);
        was_due || (every.is_some() && timeout.timed_out())
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Counts who waits, as long as it is there.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn count(waiting: &AtomicUsize) -> Waiting<'_> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
