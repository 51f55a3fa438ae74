//! What commands will read, read a moment before they do.
//!
//! Among millions of jobs one that is named at random is in no cache: its place in the index, itself, its spoke are
//! waited for one after the other. Of several jobs they can be waited for side by side, since nothing hangs on what was read
//! for another one.

use super::State;
use crate::job::{DueOrder, JobId, JobState};
use crate::limits::TOUCHED_TOGETHER;
use crate::pages::Slot;
use std::hint::black_box;

/// With fewer jobs than these all of what there is stays in the caches.
const WORTH_IT: usize = 1 << 16;

impl State {
    /// Whether there are so many jobs that [`State::touch`] pays.
    pub(crate) fn is_touch_worth_it(&self) -> bool {
        self.jobs.len() >= WORTH_IT
    }

    /// Reads what it takes to end these jobs, of which those beyond [`TOUCHED_TOGETHER`] are left out. Nothing comes of it.
    pub(crate) fn touch(&self, jobs: &[JobId]) {
        let mut slots = [None; TOUCHED_TOGETHER];
        for (slot, &job) in slots.iter_mut().zip(jobs) {
            *slot = self.slot_of(job);
        }
        let read = slots.iter().flatten().map(|&slot| self.read_of(slot)).fold(0, usize::wrapping_add);
        black_box(read);
    }

    fn read_of(&self, slot: Slot) -> usize {
        let job = &self.jobs[slot];
        let order = DueOrder { jobs: &self.jobs, spoke: self.spoke };
        let queue = &self.queues[job.queue.slot()];
        let is_in_line = job.state == JobState::Delayed && self.extra(job).is_none_or(|extra| extra.at_wall.is_none());
        if is_in_line { queue.delayed.touch(slot, &order) } else { 0 }
    }
}
