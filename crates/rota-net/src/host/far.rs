//! Jobs that are not in memory: what brings them near in time, and looks up those that commands name, and ticks of schedules.
//!
//! It reads files, so never with the engine's lock held. What it finds is the engine's to take or to leave.

use super::{CommitError, Host};
use rota_engine::far::{FarEntry, FarError, FarFiles, FarFound, Want};
use rota_engine::job::Time;
use rota_engine::limits::{KEPT_SLICE_BYTES, LOOKED_UP_TOGETHER, STEP_OBJECTS};
use rota_engine::log::LogError;
use rota_engine::storage::DataDirectory;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

/// Jobs that are brought near in one step that commands can wait for.
pub(super) const STEP: usize = STEP_OBJECTS / 4;

/// How often it looks what will be due soon, at least.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What looks up jobs, and how far ahead they are brought near.
#[derive(Debug)]
pub(super) struct FarJobs {
    pub(super) files: Arc<FarFiles<DataDirectory>>,
    /// `None`: all are held in memory, and none leaves it.
    pub(super) near: Option<Duration>,
    /// Brings jobs near, and looks up what ticks wait for, while `near` says that there may be any.
    thread: OnceLock<Thread>,
}

impl FarJobs {
    pub(super) fn new(files: Arc<FarFiles<DataDirectory>>, near: Option<Duration>) -> FarJobs {
        FarJobs { files, near, thread: OnceLock::new() }
    }

    /// Has it looked up at once what ticks wait for, and what is due by a clock that was set.
    pub(super) fn wake(&self) {
        self.thread.get().into_iter().for_each(Thread::unpark);
    }

    /// Brings near what will be due soon, or everything where all jobs are held in memory.
    pub(super) fn load(&self, host: &Host) -> Result<(), CommitError> {
        let failed = |error| host.far_failed(error);
        let until = self.near.map_or(Time::NEVER, |near| host.time.now().after(near));
        let (goal, _) = host.with(|shared, _| shared.engine.aim_near(until));
        loop {
            self.look_up_for_ticks(host)?;
            let mut due = self.files.due(goal, STEP_OBJECTS).map_err(failed)?;
            if due.is_empty() {
                break;
            }
            let mut cold = host.look(|shared| shared.engine.are_cold(&due)).into_iter();
            due.retain(|_| cold.next().unwrap_or(false));
            for records in self.files.read(&due).map_err(failed)?.chunks(STEP) {
                let (unwritten, _) = host.with(|shared, now| {
                    shared.engine.bring_near(records, now);
                    shared.engine.unwritten_bytes()
                });
                // Those of queues that keep final jobs are written again: at a start nobody else writes.
                if unwritten > KEPT_SLICE_BYTES
                    && let Some(log) = &host.log
                {
                    log.commit(host, false)?;
                }
            }
        }
        host.with(|shared, _| shared.engine.near_until(goal));
        self.files.passed();
        Ok(())
    }

    /// Looks up all that is wanted, with a look at the engine for what is open and not in memory.
    fn find_all(&self, host: &Host, wants: Vec<Want>) -> Result<Vec<(Want, FarFound)>, FarError> {
        self.files.find_all(wants, &mut |entries: &[FarEntry]| host.look(|shared| shared.engine.are_cold(entries)))
    }

    /// Looks up who has the keys of what ticks would put that have come, and has the ticks decided with that.
    fn look_up_for_ticks(&self, host: &Host) -> Result<(), CommitError> {
        while let Some((wants, as_of)) = host.look(|shared| shared.engine.wanted_by_ticks(LOOKED_UP_TOGETHER)) {
            let found = self.find_all(host, wants).map_err(|error| host.far_failed(error))?;
            let (is_frozen, _) = host.with(|shared, now| {
                if !shared.is_frozen {
                    shared.engine.decide_ticks(&found, as_of, now);
                }
                shared.is_frozen
            });
            if is_frozen {
                break;
            }
        }
        Ok(())
    }
}

/// Starts the thread that brings near what will be due soon, and looks up what ticks wait for.
pub(super) fn spawn(host: &Arc<Host>) {
    let weak = Arc::downgrade(host);
    let thread = std::thread::Builder::new().name("rota-far".into()).spawn(move || run(&weak));
    let thread = thread.expect("a process that starts has room for a thread");
    let far = host.far.as_ref().expect("there is a log");
    far.thread.set(thread.thread().clone()).expect("the thread is started once");
}

fn run(weak: &Weak<Host>) {
    while let Some(host) = weak.upgrade() {
        let Some(far) = &host.far else { return };
        if far.load(&host).is_err() {
            return;
        }
        drop(host);
        std::thread::park_timeout(LOOK_EVERY);
    }
}

impl Host {
    /// Looks up what commands name and what is not in memory, on a thread that may wait for the disk; it is to be given to
    /// the session that wants it.
    ///
    /// # Errors
    /// [`CommitError`]: it can't be read. The process has to stop.
    ///
    /// # Panics
    /// If something is wanted where no log is kept.
    pub async fn look_up(self: &Arc<Host>, wants: Vec<Want>) -> Result<Vec<(Want, FarFound)>, CommitError> {
        let host = self.clone();
        let find = move || {
            let far = host.far.as_ref().expect("what is not in memory is in a log");
            far.find_all(&host, wants)
        };
        let found = tokio::task::spawn_blocking(find).await.expect("looking up does not panic, nor is it called off");
        found.map_err(|error| self.far_failed(error))
    }

    /// Takes note that jobs which are not in memory cannot be looked up: the process has to stop.
    pub(super) fn far_failed(&self, error: FarError) -> CommitError {
        self.log.as_ref().expect("far jobs are in a log").fail(LogError::Far(error))
    }
}
