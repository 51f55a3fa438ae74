//! What tests and simulations look at.

use super::Engine;
use crate::command::BodyPlace;
use crate::job::{JobId, Time};
use crate::session::SessionId;
use std::collections::BTreeSet;

impl Engine {
    /// Recounts everything.
    ///
    /// # Panics
    /// If an index, a counter or a line disagrees with the jobs.
    pub fn check(&self) {
        self.state.check();
    }

    /// Everything that a replay of the log must give back, as text, at the moment `now`.
    ///
    /// # Panics
    /// If a body is in the log alone.
    #[must_use]
    pub fn durable_text(&self, now: Time) -> String {
        self.durable_text_with(now, &|place| panic!("{place:?} is to be read"), &[])
    }

    /// The same; `read` gets bodies that are in the log alone, and `cold` are the jobs that are not in memory.
    #[must_use]
    pub fn durable_text_with(
        &self,
        now: Time,
        read: &dyn Fn(BodyPlace) -> Box<[u8]>,
        cold: &[crate::far::FarRecord],
    ) -> String {
        assert_eq!(cold.len() as u64, self.cold_jobs(), "jobs that are not in memory");
        self.state.durable_text(now, read, cold)
    }

    /// Everything that a refusal must leave as it was, as text.
    #[must_use]
    pub fn whole_text(&self) -> String {
        self.state.whole_text(self.now)
    }

    /// The jobs that are remembered to have come to nothing, with when.
    #[must_use]
    pub fn failed(&self) -> BTreeSet<(Time, JobId)> {
        self.state.all_failed(self.now)
    }

    /// The session that holds what was held durably before this start, as long as it holds something.
    #[must_use]
    pub fn session_of_the_past(&self) -> Option<SessionId> {
        self.state.past()
    }

    /// The id of the next job and the number of the next event.
    #[must_use]
    pub fn next_numbers(&self) -> (u64, u64) {
        let numbers = self.state.numbers();
        (numbers.next_job_id, numbers.next_seq)
    }
}
