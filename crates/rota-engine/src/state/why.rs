//! Why a job is where it is: what of the state stands in its way. Nothing here walks over jobs but over those that one
//! waits for, and a bounded number of spokes.

use super::State;
use crate::event::BuryReason;
use crate::groups::Group;
use crate::job::{JobId, JobState, ReadyOrder, Time};
use crate::limits::{SPOKE_JOBS, STEP_OBJECTS};
use crate::pages::Slot;
use crate::queue::Queue;
use crate::reason::Reason;

/// The most spokes whose jobs are counted for a place in line.
const MOST_SPOKES: usize = STEP_OBJECTS;

// What is looked at one by one lies in the near spoke and in the job's own.
const _: () = assert!(SPOKE_JOBS <= STEP_OBJECTS);

impl State {
    /// Every reason, the one that binds now first; none for a job that is not in memory.
    pub(crate) fn why(&self, id: JobId, now: Time) -> Option<Vec<Reason>> {
        let slot = self.slot_of(id)?;
        let job = &self.jobs[slot];
        let queue = self.queue(job.queue);
        let course = self.extra(job).and_then(|extra| extra.course.as_deref());
        let mut reasons = Vec::new();
        match job.state {
            JobState::Done | JobState::Cancelled | JobState::Expired => {
                reasons.extend(self.ended(job).map(|ended| Reason::Over { at: ended.at, until: ended.until }));
            }
            JobState::Reserved => {
                let lease = &self.leases[job.lease_slot()];
                reasons.push(Reason::Held { since: lease.since, until: lease.deadline });
            }
            JobState::Buried => reasons.push(Reason::Buried { why: self.why_buried(slot) }),
            JobState::Blocked => {
                reasons.extend(course.and_then(|course| course.held_by).map(|by| Reason::HeldUp { by }));
                let others = course.map_or(&[][..], |course| &course.waits_for);
                if !others.is_empty() {
                    let others = others.iter().map(|&other| (other, self.state_of(other)));
                    // One that is not over and not in memory is delayed.
                    let others = others.map(|(other, state)| (other, state.unwrap_or(JobState::Delayed)));
                    reasons.push(Reason::Waits { others: others.collect() });
                }
                let run_at = self.run_at(job);
                if run_at > now {
                    reasons.push(Reason::NotDue { at: run_at });
                }
                reasons.extend(paused(queue, run_at.max(now)));
            }
            JobState::Delayed => {
                let run_at = self.run_at(job);
                reasons.push(Reason::NotDue { at: run_at });
                reasons.extend(paused(queue, run_at.max(now)));
            }
            JobState::Ready => self.why_ready(slot, now, &mut reasons),
        }
        Some(reasons)
    }

    fn why_ready(&self, slot: Slot, now: Time, reasons: &mut Vec<Reason>) {
        let queue = self.queue(self.jobs[slot].queue);
        reasons.extend(paused(queue, now));
        let most = queue.settings.as_ref().and_then(|settings| settings.concurrency);
        if let Some(most) = most.filter(|&most| queue.reserved >= u64::from(most)) {
            reasons.push(Reason::Concurrency { held: queue.reserved, most });
        }
        if queue.throttled_until > now {
            reasons.push(Reason::Rate { next: queue.throttled_until });
        }
        let group = self.group_of(slot);
        if let Some(group) = group {
            let limits = queue.per_key();
            if let Some(most) = limits.and_then(|limits| limits.concurrency).filter(|&most| group.is_at(most)) {
                reasons.push(Reason::KeyConcurrency { held: group.held(), most });
            }
            reasons.extend(group.throttled_until().map(|next| Reason::KeyRate { next }));
        }
        if queue.waiting.is_empty() {
            reasons.push(Reason::NobodyWaits { watching: queue.watching, held: queue.reserved });
        }
        let order = &ReadyOrder(&self.jobs);
        let (mut jobs, mut is_exact) = queue.ready.count_before(slot, order, MOST_SPOKES);
        if let Some(group) = group {
            let (others, are_all) = group.count_before(slot, order, MOST_SPOKES);
            jobs += others;
            is_exact &= are_all;
        }
        let parked = queue.groups.as_ref().map_or(0, |groups| groups.parked());
        is_exact &= parked == group.map_or(0, Group::parked);
        if jobs > 0 {
            reasons.push(Reason::Behind { jobs: jobs as u64, is_exact });
        }
    }

    fn why_buried(&self, slot: Slot) -> BuryReason {
        let job = &self.jobs[slot];
        let (Some(extra), limits) = (self.extra(job), self.limits(job)) else { return BuryReason::Asked };
        let is_used_up = |count: u32, most: u16| most > 0 && count >= u32::from(most);
        if is_used_up(extra.tally.attempts, limits.attempts) {
            BuryReason::Attempts
        } else if is_used_up(extra.tally.lost_leases, limits.lost_leases) {
            BuryReason::LostLeases
        } else {
            BuryReason::Asked
        }
    }
}

/// The pause of a queue, if it lasts beyond that moment.
fn paused(queue: &Queue, moment: Time) -> Option<Reason> {
    queue.is_paused(moment).then_some(Reason::Paused { until: queue.paused_until })
}
