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

/// How far the wall clock must have moved against engine time to count as set.
const STEP: i128 = 50_000_000;

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
    let mut offset = None;
    while let Some(host) = weak.upgrade() {
        host.timer.until.store(0, Ordering::SeqCst);
        let (wall, now) = host.clocks();
        let measured = i128::from(wall.0) - i128::from(now.0);
        let stepped = offset.is_some_and(|offset: i128| (measured - offset).abs() > STEP);
        let ((all, is_set, next, is_key_wanted), _) = host.with(|shared, now| {
            // Not before all is done that was due by the clock as it was: that may take more than one turn.
            let is_set = !stepped || shared.engine.clock_stepped(now, wall);
            let since = shared.timings.as_ref().map(|_| Instant::now());
            let all = shared.engine.tick(now);
            if let (Some(timings), Some(since)) = (&mut shared.timings, since) {
                timings.note(Timed::Tick, since);
            }
            let next = shared.engine.next_tick();
            // Stored under the lock: a deadline that is set after it is seen by `look_by`.
            host.timer.until.store(next.0, Ordering::SeqCst);
            (all, is_set, next, shared.engine.wanted_by_ticks(0).is_some())
        });
        if offset.is_none() || stepped && is_set {
            offset = Some(measured);
        }
        if let Some(far) = host.far.as_ref().filter(|_| is_key_wanted || (stepped && is_set)) {
            far.wake();
        }
        if let Some(log) = &host.log {
            log.tidy_up(&host);
        }
        if all && is_set {
            let sleep = next.since(host.clocks().1).min(WALL_CLOCK_EVERY);
            drop(host);
            std::thread::park_timeout(sleep);
        }
    }
}
