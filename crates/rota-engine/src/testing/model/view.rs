//! What can be seen of the model: the workload picks by it, the lockstep compares it.

use super::{Client, Job, Model, Place, Queue};
use crate::job::{JobId, JobState, Priority, QueueName, Time};
use crate::state::Totals;
use std::collections::BTreeMap;

impl Model {
    /// The newest moment that it was told.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// What the wall clock shows now.
    #[must_use]
    pub fn wall(&self) -> Time {
        Time(u64::try_from(i128::from(self.now.0) + self.wall_offset).unwrap_or(0))
    }

    /// The jobs that are there, open or kept.
    #[must_use]
    pub fn jobs(&self) -> &BTreeMap<JobId, Job> {
        &self.jobs
    }

    /// The queues.
    #[must_use]
    pub fn queues(&self) -> &BTreeMap<QueueName, Queue> {
        &self.queues
    }

    /// The id of the next job.
    #[must_use]
    pub fn next_job_id(&self) -> u64 {
        self.next_job_id
    }

    /// The clients with an open session.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        let open = |session: &super::Session| !session.closing && !session.left;
        self.sessions.iter().filter(|(_, session)| open(session)).map(|(&client, _)| client).collect()
    }

    /// The clients whose session was left and still holds something.
    #[must_use]
    pub fn left(&self) -> Vec<Client> {
        self.sessions.iter().filter(|(_, session)| session.left).map(|(&client, _)| client).collect()
    }

    /// How many sessions there are, those included whose last leases are being ended.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Whether a client waits for a job.
    #[must_use]
    pub fn is_waiting(&self, client: Client) -> bool {
        self.sessions.get(&client).is_some_and(|session| session.wait.is_some())
    }

    /// How many sessions use, watch and wait for a queue.
    #[must_use]
    pub fn references(&self, queue: &QueueName) -> (u32, u32, u64) {
        let open = || self.sessions.values().filter(|session| !session.closing && !session.left);
        let using = open().filter(|session| session.used == *queue).count();
        let watching = || open().filter(|session| session.watched.contains(queue));
        let waiting = watching().filter(|session| session.wait.is_some()).count();
        (using as u32, watching().count() as u32, waiting as u64)
    }

    /// The answers that are kept, by key: the fingerprint of the request, and what came of it.
    pub fn answers(&self) -> impl Iterator<Item = (&[u8], (u64, &[u8]))> {
        let kept = self.answers.iter().filter(|(_, (.., until))| *until > self.now);
        kept.map(|(key, (fingerprint, answer, _))| (&key[..], (*fingerprint, &answer[..])))
    }

    /// The counts over all queues.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { by_state: [0; JobState::ALL.len()], urgent: 0, waiting: 0, ..self.totals };
        for job in self.jobs.values() {
            totals.by_state[job.place.state() as usize] += 1;
            totals.urgent += u64::from(job.place == Place::Ready && job.priority < Priority::URGENT_BELOW);
        }
        totals.waiting = self.sessions.values().filter(|session| session.wait.is_some()).count() as u64;
        totals
    }
}

impl Place {
    /// The state of a job that is there.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self {
            Place::Delayed => JobState::Delayed,
            Place::Ready => JobState::Ready,
            Place::Buried(_) => JobState::Buried,
            Place::Reserved { .. } => JobState::Reserved,
            Place::Blocked => JobState::Blocked,
            Place::Ended { state, .. } => *state,
        }
    }
}
