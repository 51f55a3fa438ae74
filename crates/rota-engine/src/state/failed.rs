//! Jobs that came to nothing and are not kept: who puts a job behind one of them is told so, for a day.
//!
//! That a job was cancelled or expired is in the log, so a replay comes to the same; when a segment is reclaimed, what is
//! remembered of it is written again ([`crate::event::Event::FailedKept`]). Which are remembered follows from when they failed
//! and from their ids alone, not from the order in which that was told: a replay may hear of some late.

use super::State;
use crate::job::{JobId, Time};
use crate::limits::{FAILED_REMEMBERED, FAILED_REMEMBERED_FOR, STEP_OBJECTS};
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

/// What one of them takes in the log, about, in bytes.
const FAILED_BYTES: u64 = 16;

/// The jobs that failed last, with when.
#[derive(Debug, Default)]
pub(super) struct Failed {
    by_job: HashMap<JobId, Time>,
    in_order: BTreeSet<(Time, JobId)>,
}

impl Failed {
    /// Takes note that a job failed; again changes nothing.
    pub(super) fn insert(&mut self, job: JobId, at: Time) {
        if let Some(before) = self.by_job.insert(job, at) {
            self.in_order.remove(&(before, job));
        }
        self.in_order.insert((at, job));
        // Those that were remembered long enough go as others come, so that no step lets many go.
        for _ in 0..2 {
            let oldest = self.in_order.first().copied();
            let goes = |&(oldest, _): &(Time, JobId)| is_over(oldest, at) || self.in_order.len() > FAILED_REMEMBERED;
            let Some((at, job)) = oldest.filter(goes) else { break };
            self.in_order.remove(&(at, job));
            self.by_job.remove(&job);
        }
    }

    /// Whether a job is known to have failed.
    pub(super) fn contains(&self, job: JobId, now: Time) -> bool {
        self.when(job, now).is_some()
    }

    fn when(&self, job: JobId, now: Time) -> Option<Time> {
        self.by_job.get(&job).copied().filter(|&at| !is_over(at, now))
    }

    /// Length of the records that would hold them, about, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.in_order.len() as u64 * FAILED_BYTES
    }
}

/// Whether one that failed at that moment is remembered no more.
fn is_over(at: Time, now: Time) -> bool {
    at.after(FAILED_REMEMBERED_FOR) <= now
}

impl State {
    /// Takes note that jobs failed, of which nothing else is known.
    pub(crate) fn note_failed(&mut self, failed: &[(JobId, Time)]) {
        failed.iter().for_each(|&(job, at)| self.graph.failed.insert(job, at));
    }

    /// Those of some jobs that are remembered to have failed, with when.
    pub(crate) fn failed_of(&self, jobs: &[JobId], now: Time) -> Vec<(JobId, Time)> {
        let failed = &self.graph.failed;
        jobs.iter().filter_map(|&job| failed.when(job, now).map(|at| (job, at))).collect()
    }

    /// The jobs that are remembered to have failed, in order, from behind one of them on or from the first: as many as a step
    /// may write.
    pub(crate) fn failed_after(&self, after: Option<(JobId, Time)>, now: Time) -> Vec<(JobId, Time)> {
        let from = after.map_or(Unbounded, |(job, at)| Excluded((at, job)));
        let all = self.graph.failed.in_order.range((from, Unbounded)).filter(|&&(at, _)| !is_over(at, now));
        all.take(STEP_OBJECTS).map(|&(at, job)| (job, at)).collect()
    }

    /// Every job that is remembered to have failed, as text.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn failed_text(&self, now: Time) -> String {
        let failed = self.graph.failed.in_order.iter().filter(|&&(at, _)| !is_over(at, now));
        failed.map(|(at, job)| format!("failed {job} {at:?}\n")).collect()
    }

    /// Every job that is remembered to have failed, with when.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn all_failed(&self, now: Time) -> BTreeSet<(Time, JobId)> {
        self.graph.failed.in_order.iter().copied().filter(|&(at, _)| !is_over(at, now)).collect()
    }

    /// Both orders have the same, and no more than there may be.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_failed(&self) {
        let Failed { by_job, in_order } = &self.graph.failed;
        assert_eq!(by_job.iter().map(|(&job, &at)| (at, job)).collect::<BTreeSet<_>>(), *in_order);
        assert!(in_order.len() <= FAILED_REMEMBERED, "{} jobs are remembered to have failed", in_order.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(count: u64) -> Failed {
        let mut failed = Failed::default();
        (1..=count).for_each(|number| failed.insert(JobId(number), Time(number / 2)));
        failed
    }

    #[test]
    fn the_last_are_remembered_whatever_order_they_were_told_in() {
        let most = FAILED_REMEMBERED as u64;
        let in_turn = failed(most + 7);
        let mut late = Failed::default();
        let told = (1..=most + 7).rev().step_by(2).chain((1..most + 7).rev().step_by(2)).chain([1, 5, most]);
        told.for_each(|number| late.insert(JobId(number), Time(number / 2)));
        assert_eq!((&late.in_order, &late.by_job), (&in_turn.in_order, &in_turn.by_job));
        assert_eq!(late.in_order.len(), FAILED_REMEMBERED);
        assert!(!late.contains(JobId(7), Time(0)) && late.contains(JobId(8), Time(0)));
    }

    #[test]
    fn a_day_later_they_are_not_known_and_take_no_room_for_long() {
        let mut failed = failed(100);
        let day = Time(0).after(FAILED_REMEMBERED_FOR);
        let at = Time(day.0 + 10);
        assert!(!failed.contains(JobId(21), at) && failed.contains(JobId(22), at));
        (0..50).for_each(|number| failed.insert(JobId(1_000 + number), Time(day.0 + 60)));
        assert_eq!(failed.in_order.len(), 50);
    }
}
