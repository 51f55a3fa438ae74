//! The engine's part in finding jobs by the lines in which they stand.

use super::Engine;
use crate::command::JobView;
use crate::lines::Lines;

impl Engine {
    /// The places, from `from` on, of every job in memory that stands in one of these lines: as [`Engine::jobs_from`] has them,
    /// in no order, some twice, and a few of other jobs among them. `None` if that is more to read than `most`; a job counts
    /// once there, a buried or blocked one twice, a final one eight times, a queue, a key or a limit key four times.
    ///
    /// It is one step that commands wait for: `most` is to be no more than [`crate::limits::LINES_READ`].
    #[must_use]
    pub fn places_in(&self, lines: &Lines<'_>, from: u32, most: usize) -> Option<Vec<u32>> {
        self.state.places_in(lines, from, most)
    }

    /// The job in a place, if there is one.
    #[must_use]
    pub fn job_at(&self, place: u32) -> Option<JobView<'_>> {
        self.state.view_at(place, self.now)
    }

    /// How many jobs are in memory, open or kept.
    #[must_use]
    pub fn jobs_in_memory(&self) -> u64 {
        self.state.jobs_in_memory()
    }
}
