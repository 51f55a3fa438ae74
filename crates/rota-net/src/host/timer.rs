//! The thread that keeps time: it sleeps until the engine's next deadline, and lets it pass.
//!
//! A thread of its own that parks, because the timers of an async runtime tick in milliseconds.

use super::Host;
use crate::timings::Timed;
use rota_engine::job::Time;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How often the wall clock is looked at, at least.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// How far the wall clock must have moved against engine time to count as set, in nanoseconds.
const STEP: u64 = 50_000_000;

#[derive(Default)]
pub(super) struct Timer {
    /// What the thread sleeps until; 0 while it is awake.
    until: AtomicU64,
    thread: OnceLock<Thread>,
}

impl Timer {
    /// Wakes the thread if it would sleep past `deadline`.
    pub(super) fn look_by(&self, deadline: Time) {
        if deadline.0 < self.until.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

pub(super) fn spawn(host: &Arc<Host>) {
    let weak = Arc::downgrade(host);
    let thread = std::thread::Builder::new().name("rota-timer".into()).spawn(move || run(&weak));
    let thread = thread.expect("a process that starts has room for a thread");
    host.timer.thread.set(thread.thread().clone()).expect("the timer is started once");
}

fn run(weak: &Weak<Host>) {
    while let Some(host) = weak.upgrade() {
        host.timer.until.store(0, Ordering::SeqCst);
        let Turn { next, is_clock_set, is_key_wanted } = turn(&host);
        if let Some(far) = host.far.as_ref().filter(|_| is_clock_set || is_key_wanted) {
            far.wake();
        }
        if let Some(log) = &host.log {
            log.tidy_up(&host);
        }
        if let Some(next) = next {
            let sleep = next.since(host.clocks().1).min(WALL_CLOCK_EVERY);
            drop(host);
            std::thread::park_timeout(sleep);
        }
    }
}

/// What came of a look at the clocks.
#[derive(Default)]
struct Turn {
    /// The next deadline; `None`: there is more to do by now.
    next: Option<Time>,
    /// Whether the engine was told that the wall clock was set.
    is_clock_set: bool,
    /// Whether a job has to be looked up before time can go on for it.
    is_key_wanted: bool,
}

/// Lets time pass up to now, unless nothing may be decided.
fn turn(host: &Host) -> Turn {
    let (wall, now) = host.clocks();
    let (turn, _) = host.with(|shared, at| {
        let (engine, timings) = (&mut shared.engine, &mut shared.timings);
        let mut turn = Turn { next: Some(Time::NEVER), ..Turn::default() };
        if !shared.is_frozen {
            // The engine was told what the clock showed before its log was read, which may be a while ago.
            let is_clock_off = engine.wall_time(now).0.abs_diff(wall.0) > STEP;
            // Not before all is done that was due by the clock as it was: that may take more than one turn.
            turn.is_clock_set = is_clock_off && engine.clock_stepped(at, wall);
            let since = timings.as_ref().map(|_| Instant::now());
            let is_all = engine.tick(at);
            if let (Some(timings), Some(since)) = (timings, since) {
                timings.note(Timed::Tick, since);
            }
            turn.next = (is_all && turn.is_clock_set == is_clock_off).then(|| engine.next_tick());
            turn.is_key_wanted = engine.wanted_by_ticks(0).is_some();
        }
        // Stored under the lock: a deadline that is set after it is seen by `look_by`.
        host.timer.until.store(turn.next.map_or(0, |next| next.0), Ordering::SeqCst);
        turn
    });
    turn
}
