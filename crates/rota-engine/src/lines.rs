//! The lines in which jobs stand, for who looks for some of them among all: those of some queues, for jobs in some states.
//!
//! What keeps a queue going tells where its jobs are: the order of what is ready and of what is due, the buried ones, those
//! that wait for others or are over, the leases, the index of keys. To read that costs far less than to look at every job
//! there is, where few stand there. [`crate::engine::Engine::places_in`] reads them, in one step and so many of them at the
//! most.

use crate::job::{JobState, QueueName};
use std::fmt;

/// Which lines: those of the queues that are meant, for jobs in the states that are meant.
#[derive(Clone, Copy)]
pub struct Lines<'a> {
    /// The only queues that can be meant; `None` where any can be.
    pub queues: Option<&'a [QueueName]>,
    /// Whether a queue is meant, of those.
    pub takes_queue: &'a dyn Fn(&QueueName) -> bool,
    /// Whether jobs in a state are meant.
    pub takes_state: &'a dyn Fn(JobState) -> bool,
    /// The only keys that their jobs can have; `None` where they have any, or none.
    pub keys: Option<&'a [&'a [u8]]>,
}

impl Lines<'_> {
    /// Whether jobs in a final state are meant: one line has all of those.
    pub(crate) fn takes_final(&self) -> bool {
        JobState::ALL[JobState::OPEN..].iter().any(|&state| (self.takes_state)(state))
    }

    /// Whether jobs in a state of open ones are meant.
    pub(crate) fn takes_open(&self) -> bool {
        JobState::ALL[..JobState::OPEN].iter().any(|&state| (self.takes_state)(state))
    }
}

impl fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = JobState::ALL.into_iter().filter(|&state| (self.takes_state)(state));
        f.debug_struct("Lines")
            .field("queues", &self.queues)
            .field("states", &states.collect::<Vec<_>>())
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
