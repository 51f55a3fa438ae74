//! What the greater verbs do: puts, reserves, kicks, burials, leases.

use super::{Job, Model, Place, Wait, representable};
use crate::command::{Answer, Due, KickSource, OnConflict, Refusal};
use crate::job::{JobId, JobState, JobTally, LeaseToken, QueueName, Time};
use crate::limits::{KEY_BYTES, STEP_OBJECTS};
use crate::queue::{QueueSettings, Turns};
use crate::testing::workload::{Client, Put, hands_tokens_on};
use std::time::Duration;

impl Model {
    pub(super) fn put(&mut self, client: Client, put: &Put) -> Result<Answer, Refusal> {
        let queue = put.queue.clone().unwrap_or_else(|| self.sessions[&client].used.clone());
        let mut replaced = None;
        if let Some(key) = &put.key {
            if !(1..=KEY_BYTES).contains(&key.len()) {
                return Err(Refusal::BadKey);
            }
            if let Some(taken) = self.find_key(&queue, key) {
                match put.on_conflict {
                    OnConflict::Reject => return Err(Refusal::KeyTaken(taken)),
                    OnConflict::Keep => return Ok(Answer::Kept(taken)),
                    OnConflict::Replace if matches!(self.jobs[&taken].place, Place::Reserved { .. }) => {
                        return Err(Refusal::KeyHeld(taken));
                    }
                    OnConflict::Replace => replaced = Some(taken),
                }
            }
        }
        if self.is_full(&queue, put.body.len() as u64, replaced) {
            return Err(Refusal::QueueFull);
        }
        let (run_at, at_wall) = match put.due {
            Due::In(delay) => (self.now.after(delay), None),
            Due::At(wall) => (self.engine_time(wall), Some(wall)),
        };
        let id = replaced.unwrap_or(JobId(self.next_job_id));
        let (terms, failed) = self.terms(id, put)?;
        if replaced.is_none() {
            self.next_job_id += 1;
            self.totals.puts += 1;
            self.queues.entry(queue.clone()).or_default().totals.puts += 1;
        }
        let mut job = Job {
            waits_for: terms.after.iter().copied().collect(),
            held_by: terms.failed_parent,
            terms,
            error: None,
            progress: None,
            queue,
            priority: put.priority,
            created_at: self.now,
            run_at,
            delay: (run_at < self.now).then_some(Duration::ZERO),
            at_wall,
            ttr: representable(put.ttr).max(Duration::from_nanos(1)),
            max_lost_leases: put.max_lost_leases,
            max_attempts: put.max_attempts,
            key: put.key.clone(),
            body: put.body.clone(),
            place: Place::Ready,
            tally: JobTally::default(),
            logged_reserves: 0,
            last_holder: None,
        };
        job.settle_by_time(self.now);
        self.jobs.insert(id, job);
        if failed {
            self.end(id, JobState::Cancelled, None);
        }
        Ok(if replaced.is_some() { Answer::Replaced(id) } else { Answer::Put(id) })
    }

    pub(super) fn is_full(&self, queue: &QueueName, body_bytes: u64, replaced: Option<JobId>) -> bool {
        let Some(QueueSettings { max_jobs, max_bytes, .. }) = self.queues.get(queue).map(|queue| &queue.settings)
        else {
            return false;
        };
        let open = || self.jobs.iter().filter(|(_, job)| job.queue == *queue && job.is_open());
        let counted = open().filter(|(id, _)| !self.cold.contains(id));
        let bytes: u64 = counted.map(|(_, job)| job.body.len() as u64).sum();
        if let Some(replaced) = replaced {
            let before = self.jobs[&replaced].body.len() as u64;
            return body_bytes > before && max_bytes.is_some_and(|most| bytes - before + body_bytes > most);
        }
        max_jobs.is_some_and(|most| open().count() as u64 >= most)
            || max_bytes.is_some_and(|most| bytes + body_bytes > most)
    }

    pub(super) fn reserve(&mut self, client: Client, wait: Option<Duration>) -> Answer {
        if let Some(id) = self.best_ready(client) {
            return self.lease(client, id);
        }
        if self.lease_ends_soon(client) {
            return Answer::DeadlineSoon;
        }
        if wait == Some(Duration::ZERO) {
            return Answer::TimedOut;
        }
        self.waits += 1;
        let wait = Wait { number: self.waits, until: wait.map_or(Time::NEVER, |wait| self.now.after(wait)) };
        self.session_mut(client).wait = Some(wait);
        Answer::Waiting
    }

    pub(super) fn kick(
        &mut self,
        client: Client,
        queue: Option<&QueueName>,
        limit: u64,
        source: Option<KickSource>,
        kicked: Option<u64>,
    ) -> Result<Answer, Refusal> {
        let queue = queue.unwrap_or(&self.sessions[&client].used).clone();
        if !self.queues.contains_key(&queue) {
            return Err(Refusal::NoSuchQueue);
        }
        let jobs = || self.jobs.iter().filter(|(_, job)| job.queue == queue);
        let mut buried: Vec<(u64, JobId)> = jobs()
            .filter_map(|(&id, job)| if let Place::Buried(n) = job.place { Some((n, id)) } else { None })
            .collect();
        let mut delayed: Vec<(Time, JobId)> =
            jobs().filter(|(_, job)| job.place == Place::Delayed).map(|(&id, job)| (job.run_at, id)).collect();
        buried.sort_unstable();
        delayed.sort_unstable();
        let source = source.unwrap_or(if buried.is_empty() { KickSource::Delayed } else { KickSource::Buried });
        let line: Vec<JobId> = match source {
            KickSource::Buried => buried.into_iter().map(|(_, id)| id).collect(),
            KickSource::Delayed => delayed.into_iter().map(|(_, id)| id).collect(),
        };
        let all = limit.min(line.len() as u64);
        let count = kicked.expect("the engine answered a kick");
        assert!(count <= all.min(STEP_OBJECTS as u64), "a slice of {count} jobs of {all}");
        assert!(count > 0 || all == 0, "a slice of nothing");
        for &id in &line[..usize::try_from(count).expect("a slice is short")] {
            self.kick_one(id);
        }
        Ok(Answer::Kicked { count, source, left: all - count })
    }

    pub(super) fn kick_one(&mut self, id: JobId) {
        let now = self.now;
        let job = self.job_mut(id);
        job.delay = Some(job.delay());
        job.run_at = job.run_at.min(now);
        job.at_wall = None;
        job.waits_for.clear();
        job.held_by = None;
        job.tally.kicks += 1;
        job.settle_by_time(now);
        self.count_turn(id, |turns| &mut turns.kicked);
    }

    /// Counts something that was done to a job.
    pub(super) fn count_turn(&mut self, id: JobId, of: fn(&mut Turns) -> &mut u64) {
        let queue = self.jobs[&id].queue.clone();
        *of(&mut self.queues.get_mut(&queue).expect("a job's queue is there").totals.turns) += 1;
        *of(&mut self.totals.turns) += 1;
    }

    pub(super) fn bury(&mut self, id: JobId) {
        self.burials += 1;
        let place = Place::Buried(self.burials);
        let job = self.job_mut(id);
        job.place = place;
        job.progress = None;
        job.tally.buries += 1;
        job.log_reserves();
        self.count_turn(id, |turns| &mut turns.buried);
    }

    pub(super) fn lease(&mut self, client: Client, id: JobId) -> Answer {
        self.leases += 1;
        let token = LeaseToken { epoch: self.epoch, counter: self.leases };
        let now = self.now;
        if self.sessions[&client].follows {
            self.followed.insert((client, id, token));
        }
        let is_durable = hands_tokens_on(client) && self.queues[&self.jobs[&id].queue].settings.durable_leases;
        let job = self.job_mut(id);
        job.place = Place::Reserved { by: client, token, since: now, deadline: now.after(job.ttr), is_durable };
        job.tally.reserves += 1;
        job.last_holder = None;
        let (queue, limit_key) = (job.queue.clone(), job.terms.limit_key.clone());
        let queue = self.queues.get_mut(&queue).expect("a job's queue is there");
        if let (Some(key), Some(rate)) = (limit_key, queue.settings.per_key.and_then(|per_key| per_key.rate)) {
            let bucket = queue.keys.entry(key).or_default();
            let (full_at, next_at) = rate.take(bucket.full_at, now);
            bucket.full_at = full_at;
            if next_at > now {
                bucket.throttled_until = next_at;
            }
        }
        if let Some(rate) = queue.settings.rate {
            let (full_at, next_at) = rate.take(queue.full_at, now);
            queue.full_at = full_at;
            if next_at > now {
                queue.throttled_until = next_at;
            }
        }
        Answer::Reserved(id, token)
    }
}
