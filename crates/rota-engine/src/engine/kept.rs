//! What is there, written down again, so that the log does not need its earlier records.

use super::Engine;
use crate::event::Event;
use crate::job::{JobId, QueueName, Time};
use crate::log::Lsn;

impl Engine {
    /// Writes a schedule that is there down again, whole, so that the log does not need its earlier records.
    pub fn keep_schedule(&mut self, name: &QueueName, now: Time) {
        self.now = self.now.max(now);
        let kept = self.state.kept_schedule(name);
        kept.into_iter().for_each(|kept| self.happen(Event::ScheduleKept(Box::new(kept))));
    }

    /// Whether the log holds a job whole behind that record, which is not needed then.
    #[must_use]
    pub fn is_written_behind(&self, job: JobId, record: Lsn) -> bool {
        self.state.is_written_behind(job, record)
    }

    /// Writes a job that is there down again, whole, so that the log does not need its earlier records. `body` is what the log
    /// has as the body of its put. Returns whether it was there.
    pub fn keep_job(&mut self, job: JobId, body: &[u8], now: Time) -> bool {
        self.now = self.now.max(now);
        let kept = self.state.kept_job(job, body);
        let is_open = kept.is_some();
        kept.into_iter().for_each(|kept| self.happen(Event::JobKept(Box::new(kept))));
        is_open
    }

    /// The same of a queue's counters, its pause and how it is set up, if the log knows of the queue, and would not without what is before
    /// `needed_from`.
    pub fn keep_queue(&mut self, name: &QueueName, needed_from: Lsn, now: Time) {
        self.now = self.now.max(now);
        let queue = self.state.find_queue(name).filter(|&queue| !self.state.is_queue_written_from(queue, needed_from));
        let kept = queue.and_then(|queue| self.state.kept_queue(queue));
        kept.into_iter().for_each(|kept| self.happen(Event::QueueKept(Box::new(kept))));
    }

    /// The same of the next queue whose totals count what happened to far jobs; false if there is none.
    pub(crate) fn keep_far_counted(&mut self, now: Time) -> bool {
        self.now = self.now.max(now);
        let kept = self.state.take_far_counted();
        let is_one = kept.is_some();
        kept.into_iter().for_each(|kept| self.happen(Event::QueueKept(Box::new(kept))));
        is_one
    }

    /// The same of what is known beside jobs and queues, with the first segment that is needed from here on. Returns
    /// where that is written.
    pub(crate) fn keep_numbers(&mut self, oldest_segment: u64, far_jobs: Option<u32>, now: Time) -> Lsn {
        self.now = self.now.max(now);
        self.reserve_numbers();
        let kept = self.state.kept_numbers(oldest_segment, far_jobs, self.now);
        self.happen(Event::NumbersKept(Box::new(kept)));
        self.last_record()
    }

    /// Writes down again which of some jobs, at most [`STEP_OBJECTS`](crate::limits::STEP_OBJECTS), are remembered to have come to nothing, likewise.
    pub fn keep_failed(&mut self, jobs: &[(JobId, Time)], now: Time) {
        self.now = self.now.max(now);
        let failed = self.state.failed_of(jobs, self.now);
        if !failed.is_empty() {
            self.happen(Event::FailedKept(failed.into()));
        }
    }

    /// Writes an answer that is kept down again, likewise.
    pub fn keep_answer(&mut self, key: &[u8], now: Time) {
        self.now = self.now.max(now);
        let kept = self.state.kept_answer(key, self.now);
        kept.into_iter().for_each(|kept| self.happen(Event::AnswerKept(Box::new(kept))));
    }
}
