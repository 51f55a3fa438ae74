//! Who is handed what: the first of all that a client could have, and what keeps a job from being handed out.

use super::{Job, Model, Place};
use crate::job::{JobId, JobState, QueueName, Time};
use crate::limits::LEASE_SAFETY_MARGIN;
use crate::testing::workload::Client;

impl Model {
    /// The first job that a client could have.
    pub(super) fn best_ready(&self, client: Client) -> Option<JobId> {
        let session = &self.sessions[&client];
        let ready = self.jobs.iter().filter(|(_, job)| job.place == Place::Ready);
        let eligible = ready.filter(|(_, job)| {
            session.watched.contains(&job.queue) && !self.is_closed(&job.queue) && !self.is_held_back(job)
        });
        eligible.min_by_key(|(id, job)| job.order(**id)).map(|(&id, _)| id)
    }

    /// Whether a queue hands nothing out.
    pub(super) fn is_closed(&self, name: &QueueName) -> bool {
        let queue = &self.queues[name];
        let held = || self.jobs.values().filter(|job| job.queue == *name && job.place.state() == JobState::Reserved);
        let is_full = queue.settings.concurrency.is_some_and(|most| held().count() as u64 >= u64::from(most));
        queue.paused_until > Time(0) || queue.throttled_until > Time(0) || is_full
    }

    /// Whether its limit key lets a job not be handed out, were it ready.
    #[must_use]
    pub fn is_held_back(&self, job: &Job) -> bool {
        let (Some(key), queue) = (&job.terms.limit_key, &self.queues[&job.queue]) else { return false };
        let most = queue.settings.per_key.and_then(|per_key| per_key.concurrency);
        let is_throttled = queue.keys.get(key).is_some_and(|bucket| bucket.throttled_until > Time(0));
        is_throttled || most.is_some_and(|most| self.held_of_key(&job.queue, key) >= u64::from(most))
    }

    /// How many jobs of a limit key are held.
    #[must_use]
    pub fn held_of_key(&self, queue: &QueueName, key: &str) -> u64 {
        let is_of_key = |job: &&Job| job.queue == *queue && job.terms.limit_key.as_deref() == Some(key);
        self.jobs.values().filter(|job| job.place.state() == JobState::Reserved).filter(is_of_key).count() as u64
    }

    pub(super) fn first_lease_end(&self, client: Client) -> Option<(Time, JobId)> {
        let end = |(&id, job): (&JobId, &Job)| match job.place {
            Place::Reserved { by, deadline, .. } if by == client => Some((deadline, id)),
            _ => None,
        };
        self.jobs.iter().filter_map(end).min()
    }

    pub(super) fn lease_ends_soon(&self, client: Client) -> bool {
        let ends_soon = self.first_lease_end(client).is_some_and(|(end, _)| end <= self.now.after(LEASE_SAFETY_MARGIN));
        ends_soon && !self.sessions[&client].follows
    }
}
