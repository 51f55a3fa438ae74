//! Jobs that came to nothing and are not kept: who puts a job behind one of them is told so, for a day.
//!
//! That a job was cancelled or expired is in the log, so a replay comes to the same; when a segment is reclaimed, what is
//! remembered of it is written again ([`crate::event::Event::FailedKept`]). Which are remembered follows from when they failed
//! and from their ids alone, not from the order in which that was told: a replay may hear of some late.

use super::State;
use crate::job::{JobId, Time};
use crate::limits::{FAILED_REMEMBERED, FAILED_REMEMBERED_FOR, STEP_OBJECTS};
use hashbrown::HashTable;
use std::cell::OnceCell;
#[cfg(any(test, feature = "testing"))]
use std::collections::BTreeSet;
use std::collections::VecDeque;

/// What one of them takes in the log, about, in bytes.
const FAILED_BYTES: u64 = 16;

/// The parts of the table of those.
const PARTS: usize = 64;

/// So many of the last are looked at one by one for where another belongs.
const LAST: usize = 64;

/// The jobs that failed last, with when.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// By when, then by job. They mostly come in that order.
    in_order: VecDeque<(Time, JobId)>,
    /// The same by job, in many small parts, so that no insertion copies much; none until somebody asks for a job.
    by_job: OnceCell<Vec<HashTable<(JobId, Time)>>>,
}

impl Failed {
    /// Takes note that a job failed; again changes nothing.
    pub(super) fn insert(&mut self, job: JobId, at: Time) {
        let Err(place) = self.place(job, at) else { return };
        self.in_order.insert(place, (at, job));
        self.remember(job, at);
        // Those that were remembered long enough go as others come, so that no step lets many go.
        for _ in 0..2 {
            let goes = |&(oldest, _): &(Time, JobId)| is_over(oldest, at) || self.in_order.len() > FAILED_REMEMBERED;
            if !self.in_order.front().is_some_and(goes) {
                break;
            }
            self.let_first_go();
        }
    }

    /// The same of many at once, in any order.
    fn insert_all(&mut self, failed: &[(JobId, Time)]) {
        let mut new: Vec<(Time, JobId)> = failed.iter().map(|&(job, at)| (at, job)).collect();
        new.sort_unstable();
        new.dedup();
        new.retain(|&(at, job)| self.place(job, at).is_err());
        new.iter().for_each(|&(at, job)| self.remember(job, at));
        self.in_order.extend(new);
        self.in_order.make_contiguous().sort_unstable();
        while self.in_order.len() > FAILED_REMEMBERED {
            self.let_first_go();
        }
    }

    /// Where a job is in the order, or where it belongs: most belong to the end, or before few that failed at the same moment.
    fn place(&self, job: JobId, at: Time) -> Result<usize, usize> {
        let behind = self.in_order.iter().rev().take(LAST).take_while(|&&other| other >= (at, job)).count();
        let place = match behind {
            LAST.. => self.in_order.partition_point(|&other| other < (at, job)),
            _ => self.in_order.len() - behind,
        };
        if self.in_order.get(place) == Some(&(at, job)) { Ok(place) } else { Err(place) }
    }

    fn let_first_go(&mut self) {
        let (Some((_, job)), by_job) = (self.in_order.pop_front(), self.by_job.get_mut()) else { return };
        let found = by_job.map(|parts| parts[part(job)].find_entry(hash(job), |&(other, _)| other == job));
        if let Some(Ok(found)) = found {
            found.remove();
        }
    }

    /// Has a job found by its id, if that is asked for.
    fn remember(&mut self, job: JobId, at: Time) {
        if let Some(parts) = self.by_job.get_mut() {
            add(parts, job, at);
        }
    }

    /// Whether a job is known to have failed.
    pub(super) fn contains(&self, job: JobId, now: Time) -> bool {
        let parts = self.by_job.get_or_init(|| {
            let mut parts: Vec<_> = (0..PARTS).map(|_| HashTable::with_capacity(FAILED_REMEMBERED / PARTS)).collect();
            self.in_order.iter().for_each(|&(at, job)| add(&mut parts, job, at));
            parts
        });
        let found = parts[part(job)].find(hash(job), |&(other, _)| other == job);
        found.is_some_and(|&(_, at)| !is_over(at, now))
    }

    /// Length of the records that would hold them, about, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.in_order.len() as u64 * FAILED_BYTES
    }
}

fn add(parts: &mut [HashTable<(JobId, Time)>], job: JobId, at: Time) {
    parts[part(job)].insert_unique(hash(job), (job, at), |&(other, _)| hash(other));
}

/// Neighbours share a part: what fails together touches the same lines of memory.
fn part(job: JobId) -> usize {
    (job.0 / 64) as usize % PARTS
}

fn hash(job: JobId) -> u64 {
    let mixed = job.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

/// Whether one that failed at that moment is remembered no more.
fn is_over(at: Time, now: Time) -> bool {
    at.after(FAILED_REMEMBERED_FOR) <= now
}

impl State {
    /// Takes note that jobs failed, of which nothing else is known.
    pub(crate) fn note_failed(&mut self, failed: &[(JobId, Time)]) {
        match failed {
            &[(job, at)] => self.graph.failed.insert(job, at),
            many => self.graph.failed.insert_all(many),
        }
    }

    /// Those of some jobs, with when they failed, that are remembered.
    pub(crate) fn failed_of(&self, jobs: &[(JobId, Time)], now: Time) -> Vec<(JobId, Time)> {
        let failed = &self.graph.failed.in_order;
        let is_remembered =
            |&&(job, at): &&(JobId, Time)| failed.binary_search(&(at, job)).is_ok() && !is_over(at, now);
        jobs.iter().filter(is_remembered).copied().collect()
    }

    /// The jobs that are remembered to have failed, in order, from behind one of them on or from the first: as many as a step
    /// may write.
    pub(crate) fn failed_after(&self, after: Option<(JobId, Time)>, now: Time) -> Vec<(JobId, Time)> {
        let all = &self.graph.failed.in_order;
        let from = after.map_or(0, |(job, at)| all.partition_point(|&other| other <= (at, job)));
        let left = from.max(all.partition_point(|&(at, _)| is_over(at, now)));
        all.range(left..).take(STEP_OBJECTS).map(|&(at, job)| (job, at)).collect()
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
        let Failed { in_order, by_job } = &self.graph.failed;
        assert!(in_order.iter().is_sorted_by(|one, next| one < next), "jobs that failed are in order");
        if let Some(parts) = by_job.get() {
            let by_job = parts.iter().flat_map(HashTable::iter);
            let expected: BTreeSet<(Time, JobId)> = by_job.map(|&(job, at)| (at, job)).collect();
            assert!(in_order.iter().eq(&expected), "jobs that failed, in order and by job");
        }
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
        let entry = |number: u64| (JobId(number), Time(number / 2));
        let told = (1..=most + 7).rev().step_by(2).chain((1..most + 7).rev().step_by(2)).chain([1, 5, most]);
        told.clone().take(100).map(entry).for_each(|(job, at)| late.insert(job, at));
        // From here on they are kept by job too.
        assert!(late.contains(JobId(most + 7), Time(0)) && !late.contains(JobId(most * 2), Time(0)));
        let rest: Vec<(JobId, Time)> = told.skip(100).map(entry).collect();
        rest.chunks(1_000).for_each(|failed| late.insert_all(failed));
        assert_eq!(late.in_order, in_turn.in_order);
        assert!(in_turn.in_order.iter().all(|&(_, job)| late.contains(job, Time(0))));
        let by_job = late.by_job.get().expect("jobs were asked for");
        assert_eq!(by_job.iter().map(HashTable::len).sum::<usize>(), FAILED_REMEMBERED);
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
