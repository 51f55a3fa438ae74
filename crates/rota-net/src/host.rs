//! What runs the engine in a process: its lock, its clock, the thread that writes the log, the thread that keeps time.
//!
//! Front ends call [`Host::with`] once for all that one read brought, then wait with [`Host::left_behind`] until the
//! log is as far as their answers depend on, then send. The engine is behind one short lock; no file is touched and
//! nothing is awaited while it is held. After a failed write or sync nothing that waits is ever let go: the process has
//! to stop, and [`Host::failure`] says why.

mod bodies;
mod commit;
mod ends;
mod far;
mod journal;
mod keeper;
mod news;
pub mod pins;
mod snapshot;
mod timer;

use rota_engine::clock::{Clock, EngineTime, SystemClock};
use rota_engine::command::{Body, BodyPlace, BodyRead, Delivered, Delivery};
use rota_engine::engine::{DependsOn, Engine};
use rota_engine::far::FarFiles;
use rota_engine::job::Time;
use rota_engine::limits::UNWRITTEN_BYTES;
use rota_engine::log::LogWriter;
use rota_engine::session::SessionId;
use rota_engine::storage::DataDirectory;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

pub use bodies::OPEN_SEGMENTS;
pub use commit::{CommitError, LogFigures};
pub use ends::LeaseEnd;
pub use journal::HostJournal;
pub use keeper::{History, KeeperFigures};
pub use pins::{Pin, Pins};
pub use snapshot::{SnapshotEnd, SnapshotFigures, Walk, WalkEnd};

use crate::beanstalkd::{Counters, Facts, Hole, Server};
use crate::calendar::ZoneCalendar;
use crate::limits::{MOST_SLOWED, SLOWED_STEP};
use crate::timings::Timings;

/// When an answer may leave, where a log is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// When its record is on the disk.
    Durable,
    /// When its record is with the kernel.
    Written {
        /// How often the log is synced; `None`: when the kernel sees fit.
        sync_every: Option<Duration>,
    },
}

/// A log to work with, and how.
#[derive(Debug)]
pub struct HostLog {
    /// Its end.
    pub writer: LogWriter<DataDirectory>,
    /// When answers may leave.
    pub promise: Promise,
    /// What is kept of it that no start needs.
    pub history: History,
    /// What looks up jobs that are not in memory.
    pub far: FarFiles<DataDirectory>,
    /// How far ahead delayed jobs are held in memory; `None`: all are. As the engine was told.
    pub near: Option<Duration>,
}

/// How far apart two clocks may be read that are read at one moment, and how often that is tried at the most.
const CLOCKS_APART: Duration = Duration::from_millis(1);
const CLOCKS_READ: usize = 100;

/// An engine at work.
pub struct Host {
    shared: Mutex<Shared>,
    time: EngineTime<SystemClock>,
    log: Option<commit::Commit>,
    /// Reads bodies that are in the log alone.
    bodies: Option<Arc<bodies::Bodies>>,
    /// Looks up jobs that are not in memory.
    far: Option<far::FarJobs>,
    timer: timer::Timer,
    keeper: keeper::Keeper,
    /// Bytes that are decided and not yet written, as of the last look.
    unwritten: AtomicU64,
    /// Told when commands are decided again.
    thawed: Notify,
    /// Told when there is news to fetch.
    news: Notify,
}

/// What is behind the lock.
pub struct Shared {
    /// The engine.
    pub engine: Engine,
    /// What the beanstalkd front end counts.
    pub beanstalkd: Counters,
    /// What the server tells of itself.
    pub facts: Facts,
    /// How long commands took; `None` where nobody collects it.
    pub timings: Option<Timings>,
    /// Whether no command may be decided: a snapshot holds the last state of this process.
    pub is_frozen: bool,
    /// What became of snapshots.
    pub snapshots: SnapshotFigures,
    /// Keeps segments from being removed that bodies were handed out in.
    pub pins: Arc<Pins>,
    waiting: HashMap<SessionId, oneshot::Sender<Late>>,
    following: HashMap<SessionId, mpsc::UnboundedSender<Late>>,
}

/// What comes for a session that waited, or follows its leases.
#[derive(Debug)]
pub struct Late {
    /// What ended the wait, or that a lease ended.
    pub what: Delivered,
    /// What it depends on.
    pub depends_on: DependsOn,
    /// Why the lease ended, where that is what came.
    pub ended: Option<LeaseEnd>,
    /// Held for the body, where that is in the log alone, until it was read. Who follows its leases looks for the job
    /// itself, and gets none.
    pub pin: Option<Pin>,
}

impl Shared {
    /// What a session of the beanstalkd protocol works with at this moment.
    pub fn server(&mut self, now: Time) -> Server<'_> {
        let Shared { engine, beanstalkd: counters, facts, timings, .. } = self;
        Server { engine, counters, facts, timings: timings.as_mut(), now }
    }

    /// Where a session that waits now gets what it waits for.
    pub fn await_delivery(&mut self, session: SessionId) -> oneshot::Receiver<Late> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(session, sender);
        receiver
    }

    /// Nobody listens for that session's deliveries any more.
    pub fn await_nothing(&mut self, session: SessionId) {
        self.waiting.remove(&session);
    }

    /// Has a session follow its leases from now on: what it waits for comes here too. That is bounded: by the leases that the
    /// session has, each of which ends once, and one job.
    ///
    /// # Panics
    /// If the session is not open.
    pub fn follow_leases(&mut self, session: SessionId) -> mpsc::UnboundedReceiver<Late> {
        self.engine.follow_leases(session);
        let (sender, receiver) = mpsc::unbounded_channel();
        self.following.insert(session, sender);
        receiver
    }

    /// Nobody listens any more to what becomes of that session's leases.
    pub fn follow_nothing(&mut self, session: SessionId) {
        self.following.remove(&session);
    }

    fn post_deliveries(&mut self) {
        let depends_on = self.engine.depends_on();
        let deliveries: Vec<Delivery> = self.engine.take_deliveries().collect();
        for Delivery { session, what } in deliveries {
            if let Some(sender) = self.waiting.remove(&session) {
                // A receiver that is gone belongs to a connection that is about to close its session.
                let is_in_log = matches!(&what, Delivered::Job { body: Body::InLog(_), .. });
                let pin = is_in_log.then(|| self.pins.pin());
                let _ = sender.send(Late { what, depends_on, ended: None, pin });
            } else if let Some(sender) = self.following.get(&session) {
                let ended = match &what {
                    Delivered::LeaseEnded { ran_out: true, .. } => Some(LeaseEnd::Lost),
                    Delivered::LeaseEnded { job, .. } => Some(LeaseEnd::just_now(&self.engine, *job)),
                    _ => None,
                };
                let _ = sender.send(Late { what, depends_on, ended, pin: None });
            }
        }
    }
}

impl Host {
    /// Sets an engine to work, with the threads it needs. Durable engines come with their log's writer; their first
    /// records are on the disk when this returns.
    ///
    /// `told_at` is what [`Clock::since_boot`] showed when the engine was told the time that it has.
    ///
    /// # Errors
    /// [`CommitError`] if those records can't be written.
    ///
    /// # Panics
    /// If the system has no room for four threads.
    pub fn start(
        mut engine: Engine,
        log: Option<HostLog>,
        facts: Facts,
        timings: Option<Timings>,
        told_at: u64,
    ) -> Result<Arc<Host>, CommitError> {
        // The engine was told the time before its recovery. Time that began anew here would stay behind the wall clock
        // by the length of that, and run ahead of itself at the next start: delays would end early.
        let time = EngineTime::starting_at(engine.now(), told_at, SystemClock);
        engine.set_calendar(Arc::new(ZoneCalendar::default()));
        let beanstalkd = Counters::default();
        let pins = Arc::new(Pins::default());
        let files = log.as_ref().map(|log| (log.writer.storage().clone(), log.history));
        let reader = |directory: &DataDirectory| Arc::new(bodies::Bodies::new(directory.clone(), Arc::clone(&pins)));
        let bodies = files.as_ref().map(|(directory, _)| reader(directory));
        let (log, far) = log.map_or((None, None), |HostLog { writer, promise, far, near, .. }| {
            (Some(commit::Commit::new(writer, promise)), Some(far::FarJobs::new(Arc::new(far), near)))
        });
        let shared = Shared {
            engine,
            beanstalkd,
            facts,
            timings,
            is_frozen: false,
            snapshots: SnapshotFigures::default(),
            pins,
            waiting: HashMap::new(),
            following: HashMap::new(),
        };
        let host = Arc::new(Host {
            shared: Mutex::new(shared),
            time,
            log,
            timer: timer::Timer::default(),
            keeper: keeper::Keeper::new(bodies.clone(), far.as_ref().map(|far| Arc::clone(&far.files))),
            far,
            bodies,
            unwritten: AtomicU64::new(0),
            thawed: Notify::new(),
            news: Notify::new(),
        });
        if let Some(log) = &host.log {
            log.commit(&host, true)?;
        }
        if let Some(far) = &host.far {
            far.load(&host)?;
        }
        commit::spawn(&host);
        timer::spawn(&host);
        if let Some((mut directory, history)) = files {
            keeper::prepare(&host, &mut directory, history)?;
            keeper::spawn(&host, directory, history);
        }
        if host.far.as_ref().is_some_and(|far| far.near.is_some()) {
            far::spawn(&host);
        }
        Ok(host)
    }

    /// Does something with the engine at this moment, and says what all that was decided so far depends on.
    ///
    /// It holds the lock: no file, no socket, no waiting in there.
    pub fn with<T>(&self, work: impl FnOnce(&mut Shared, Time) -> T) -> (T, DependsOn) {
        self.with_and_wait(|shared, now| (work(shared, now), false))
    }

    /// The same for who may be about to wait: `work` says with its result whether [`Host::left_behind`] is called next
    /// with what this says. What is decided until then may be in the same group of the log.
    pub fn with_and_wait<T>(&self, work: impl FnOnce(&mut Shared, Time) -> (T, bool)) -> (T, DependsOn) {
        let mut shared = self.lock();
        let now = self.time.now();
        let (result, will_wait) = work(&mut shared, now);
        shared.post_deliveries();
        let depends_on = shared.engine.depends_on();
        let next_tick = shared.engine.next_tick();
        let unwritten = shared.engine.unwritten_bytes();
        let wants_durable = shared.engine.wants_durable();
        let has_news = shared.engine.has_news();
        drop(shared);
        if has_news {
            self.news.notify_one();
        }
        self.timer.look_by(next_tick);
        if let Some(log) = &self.log {
            self.unwritten.store(unwritten as u64, Ordering::Relaxed);
            log.notice(unwritten, wants_durable, will_wait);
        }
        (result, depends_on)
    }

    /// The same, to look at something that no answer depends on: metrics.
    pub fn look<T>(&self, look: impl FnOnce(&Shared) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until the log is so far that what depends on it may leave the process.
    ///
    /// # Errors
    /// [`CommitError`]: it never will be. Nothing may leave.
    pub async fn left_behind(&self, depends_on: DependsOn) -> Result<(), CommitError> {
        match &self.log {
            Some(log) => log.reached(self, depends_on).await,
            None => Ok(()),
        }
    }

    /// Reads the bodies that are in the log alone into the holes that were left for them in `out`. What is in the
    /// kernel's cache is read at once; for the rest a thread waits, and nobody else.
    ///
    /// # Errors
    /// [`CommitError`]: a body can't be read, or is not what was written. `out` must not leave, and the process has to
    /// stop: the next start names all that is damaged.
    ///
    /// # Panics
    /// If a body is in a log and none is kept.
    pub async fn fill(&self, out: &mut [u8], holes: Vec<Hole>) -> Result<(), CommitError> {
        let (Some(bodies), Some(log)) = (&self.bodies, &self.log) else {
            assert!(holes.is_empty(), "bodies are in a log that is not kept");
            return Ok(());
        };
        bodies.fill(out, holes).await.map_err(|error| log.fail(error))
    }

    /// Reads bodies that are in the log alone, on a thread that may wait for the disk; a pin is to be held meanwhile.
    ///
    /// # Errors
    /// As [`Host::fill`].
    ///
    /// # Panics
    /// If a body is in a log and none is kept.
    pub fn read_bodies(&self, places: &[BodyPlace]) -> Result<Vec<BodyRead>, CommitError> {
        let (Some(bodies), Some(log)) = (&self.bodies, &self.log) else {
            assert!(places.is_empty(), "bodies are in a log that is not kept");
            return Ok(Vec::new());
        };
        let read = places.iter().map(|place| Ok((place.job, bodies.read(place)?))).collect::<Result<_, _>>();
        read.map_err(|error| log.fail(error))
    }

    /// Whether so much is decided and not written that nothing more should be read.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.unwritten_bytes() > UNWRITTEN_BYTES as u64
    }

    /// Whether more is written than segments can be reclaimed, so that the log is much longer than it should be and grows (and more is
    /// put than can leave memory, where jobs do): whoever puts should wait a little.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.keeper.is_late()
    }

    /// Waits, but not for long, where [`Host::is_late`]: for whoever has put something.
    pub async fn slow_down(&self) {
        let mut waited = Duration::ZERO;
        while waited < MOST_SLOWED && self.is_late() {
            tokio::time::sleep(SLOWED_STEP).await;
            waited += SLOWED_STEP;
        }
    }

    /// Waits for the log to fail, and says how. Without a log, and with luck, it waits for ever.
    pub async fn failure(&self) -> CommitError {
        match &self.log {
            Some(log) => log.failure().await,
            None => std::future::pending().await,
        }
    }

    /// How the log failed, if it did.
    #[must_use]
    pub fn failed(&self) -> Option<CommitError> {
        self.log.as_ref().and_then(commit::Commit::failed)
    }

    /// Bytes that are decided and not yet written.
    #[must_use]
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// What the log has grown to; `None` where none is kept.
    #[must_use]
    pub fn log_figures(&self) -> Option<LogFigures> {
        self.log.as_ref().map(commit::Commit::figures)
    }

    /// What was done for the log's files.
    #[must_use]
    pub fn keeper_figures(&self) -> KeeperFigures {
        self.keeper.figures()
    }

    /// The last act of an orderly stop: the end is written down and everything is made durable. Sessions must be closed
    /// before.
    ///
    /// # Errors
    /// [`CommitError`] if that failed.
    pub fn stop(&self) -> Result<(), CommitError> {
        let ((), _) = self.with(|shared, now| {
            while !shared.engine.tick(now) {}
            shared.engine.stop();
        });
        match &self.log {
            Some(log) => log.close(self),
            None => Ok(()),
        }
    }

    /// The wall clock and engine time, at this moment.
    fn clocks(&self) -> (Time, Time) {
        let mut now = self.time.now();
        for _ in 0..CLOCKS_READ {
            let (before, wall) = (now, self.time.clock().wall());
            now = self.time.now();
            // Who has no processor in between would take what passed meanwhile for a clock that was set.
            if now.since(before) <= CLOCKS_APART {
                return (wall, now);
            }
        }
        (self.time.clock().wall(), now)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("a panic under the lock is a bug in the engine, after which nothing may be served")
    }
}
