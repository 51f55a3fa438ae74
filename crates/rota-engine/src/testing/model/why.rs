//! Why a job of the model is where it is, by going over all jobs: what the engine says of it is held against that.

use super::{Job, Model, Place, Queue};
use crate::event::BuryReason;
use crate::job::{JobId, JobState, Time};
use crate::reason::Reason;
use std::collections::BTreeMap;

impl Model {
    /// Every reason, the one that binds now first; `None` if there is no such job.
    #[must_use]
    pub fn why(&self, id: JobId) -> Option<Vec<Reason>> {
        let job = self.jobs.get(&id)?;
        let queue = &self.queues[&job.queue];
        let not_due = || Reason::NotDue { at: job.run_at };
        // Once its time has come it waits for the end of a pause that lasts longer.
        let paused_then = || paused(queue, job.run_at.max(self.now));
        Some(match &job.place {
            Place::Ended { at, until, .. } => vec![Reason::Over { at: *at, until: *until }],
            Place::Reserved { since, deadline, .. } => vec![Reason::Held { since: *since, until: *deadline }],
            Place::Buried(_) => vec![Reason::Buried { why: why_buried(job) }],
            Place::Delayed => [not_due()].into_iter().chain(paused_then()).collect(),
            Place::Blocked => {
                let state = |other: &JobId| (*other, self.jobs[other].place.state());
                let others: Vec<_> = job.waits_for.iter().map(state).collect();
                let held_up = job.held_by.map(|by| Reason::HeldUp { by });
                let waits = (!others.is_empty()).then_some(Reason::Waits { others });
                let not_due = (job.run_at > self.now).then(not_due);
                [held_up, waits, not_due, paused_then()].into_iter().flatten().collect()
            }
            Place::Ready => self.why_ready(id, job, queue),
        })
    }

    fn why_ready(&self, id: JobId, job: &Job, queue: &Queue) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = paused(queue, self.now).into_iter().collect();
        let in_state = |state| move |other: &&Job| other.queue == job.queue && other.place.state() == state;
        let held = self.jobs.values().filter(in_state(JobState::Reserved)).count() as u64;
        if let Some(most) = queue.settings.concurrency.filter(|&most| held >= u64::from(most)) {
            reasons.push(Reason::Concurrency { held, most });
        }
        if queue.throttled_until > self.now {
            reasons.push(Reason::Rate { next: queue.throttled_until });
        }
        if let Some(key) = &job.terms.limit_key {
            let held = self.held_of_key(&job.queue, key);
            let most = queue.settings.per_key.and_then(|per_key| per_key.concurrency);
            if let Some(most) = most.filter(|&most| held >= u64::from(most)) {
                reasons.push(Reason::KeyConcurrency { held, most });
            }
            let next = queue.keys.get(key).map(|bucket| bucket.throttled_until).filter(|next| *next > Time(0));
            reasons.extend(next.map(|next| Reason::KeyRate { next }));
        }
        let (_, watching, waiting) = self.references(&job.queue);
        if waiting == 0 {
            reasons.push(Reason::NobodyWaits { watching, held });
        }
        let (jobs, is_exact) = self.before(id, job);
        if jobs > 0 {
            reasons.push(Reason::Behind { jobs, is_exact });
        }
        reasons
    }

    /// How many ready jobs of its queue come before a job, but for those of other limit keys behind the first of theirs; and
    /// whether there are none of those.
    fn before(&self, id: JobId, job: &Job) -> (u64, bool) {
        let ready = self.jobs.iter().filter(|(_, other)| other.queue == job.queue && other.place == Place::Ready);
        let mut of_keys: BTreeMap<&str, Vec<(JobId, &Job)>> = BTreeMap::new();
        let mut before = 0;
        for (&other, found) in ready {
            let comes_before = found.order(other) < job.order(id);
            match &found.terms.limit_key {
                key @ Some(_) if *key == job.terms.limit_key => before += u64::from(comes_before),
                Some(key) => of_keys.entry(key).or_default().push((other, found)),
                None => before += u64::from(comes_before),
            }
        }
        let mut is_exact = true;
        for jobs in of_keys.values() {
            let first = jobs.iter().min_by_key(|(other, found)| found.order(*other));
            let first = first.filter(|(_, found)| !self.is_held_back(found));
            before += u64::from(first.is_some_and(|(other, found)| found.order(*other) < job.order(id)));
            is_exact &= jobs.len() == usize::from(first.is_some());
        }
        (before, is_exact)
    }
}

/// The pause of a queue, if it lasts beyond that moment.
fn paused(queue: &Queue, moment: Time) -> Option<Reason> {
    (queue.paused_until > moment).then_some(Reason::Paused { until: queue.paused_until })
}

fn why_buried(job: &Job) -> BuryReason {
    let is_used_up = |count: u32, most: u16| most > 0 && count >= u32::from(most);
    match () {
        () if is_used_up(job.tally.attempts, job.max_attempts) => BuryReason::Attempts,
        () if is_used_up(job.tally.lost_leases, job.max_lost_leases) => BuryReason::LostLeases,
        () => BuryReason::Asked,
    }
}
