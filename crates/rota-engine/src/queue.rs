//! One queue: its jobs by state, who waits for them, its pause, its counters.
//!
//! The state owns the queues and is the only one to change them.

use crate::job::{JobId, Priority, QueueName, Time};
use crate::pages::Slot;
use crate::session::SessionId;
use crate::wheel::Wheel;
use std::collections::BTreeMap;
use std::time::Duration;

/// A queue's handle in this process. It is reused once the queue is gone; the log names queues by their names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueId(pub u32);

impl QueueId {
    pub(crate) fn slot(self) -> Slot {
        Slot(self.0)
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: QueueName,
    /// Its number in the order of creation.
    pub(crate) created: u64,
    pub(crate) ready: Wheel<(Priority, Time, JobId)>,
    pub(crate) delayed: Wheel<(Time, JobId)>,
    /// Delayed jobs that are not in memory.
    pub(crate) cold: u64,
    /// By the number of the burial.
    pub(crate) buried: BTreeMap<u64, Slot>,
    pub(crate) reserved: u64,
    pub(crate) urgent: u64,
    /// By the number of the wait: first come, first served.
    pub(crate) waiting: BTreeMap<u64, SessionId>,
    /// Whether it is among those to be looked at for somebody who waits.
    pub(crate) is_unserved: bool,
    pub(crate) using: u32,
    pub(crate) watching: u32,
    /// `Time(0)` when not paused.
    pub(crate) paused_until: Time,
    pub(crate) pause_length: Duration,
    pub(crate) totals: QueueTotals,
    /// Whether the log knows of it.
    pub(crate) logged: bool,
    /// When the state next looks at it: at or before its next deadline; `Time::NEVER` for not at all.
    pub(crate) wake_at: Time,
}

/// What happened in a queue since it was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueTotals {
    /// Jobs put.
    pub puts: u64,
    /// Jobs completed or cancelled.
    pub deletes: u64,
    /// Pauses asked for.
    pub pauses: u64,
    /// Leases that ran out.
    pub lost_leases: u64,
}

impl Queue {
    pub(crate) fn new(name: QueueName, created: u64) -> Queue {
        Queue {
            name,
            created,
            ready: Wheel::default(),
            delayed: Wheel::default(),
            cold: 0,
            buried: BTreeMap::new(),
            reserved: 0,
            urgent: 0,
            waiting: BTreeMap::new(),
            is_unserved: false,
            using: 0,
            watching: 0,
            paused_until: Time(0),
            pause_length: Duration::ZERO,
            totals: QueueTotals::default(),
            logged: false,
            wake_at: Time::NEVER,
        }
    }

    pub(crate) fn is_paused(&self, now: Time) -> bool {
        self.paused_until > now
    }

    /// Whether it hands nothing out: its pause was not found to be over yet.
    pub(crate) fn holds_back(&self) -> bool {
        self.paused_until != Time(0)
    }

    /// Whether nothing is in it and nothing refers to it.
    pub(crate) fn is_idle(&self) -> bool {
        self.using == 0
            && self.watching == 0
            && self.reserved == 0
            && self.ready.len() == 0
            && self.delayed.len() == 0
            && self.cold == 0
            && self.buried.is_empty()
            && self.paused_until == Time(0)
    }
}

/// A queue as it can be seen from outside, at the moment of asking. Counters, never scans.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// Its name.
    pub name: QueueName,
    /// Ready jobs of a priority below [`Priority::URGENT_BELOW`].
    pub urgent: u64,
    /// Jobs that can be reserved.
    pub ready: u64,
    /// Jobs that are held.
    pub reserved: u64,
    /// Jobs whose `run_at` is ahead.
    pub delayed: u64,
    /// Jobs set aside.
    pub buried: u64,
    /// What happened so far.
    pub totals: QueueTotals,
    /// Sessions that use it.
    pub using: u32,
    /// Sessions that watch it.
    pub watching: u32,
    /// Sessions that wait for a job of it.
    pub waiting: u64,
    /// The length of the pause under way; zero if there is none.
    pub pause: Duration,
    /// What is left of that pause.
    pub pause_left: Duration,
}
