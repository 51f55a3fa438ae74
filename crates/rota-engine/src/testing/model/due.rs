//! What the passing of time must bring about in the model: one thing at a time, the earliest deadline first.

use super::{Client, Model, Place};
use crate::command::Delivered;
use crate::job::{JobId, JobState, QueueName, Time};
use crate::limits::{LEASE_SAFETY_MARGIN, STEP_OBJECTS};
use crate::terms::Expiry;
use std::time::Duration;

/// Whose deadline it is. Of deadlines at one moment, queues come before sessions, and older sessions first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    Queue(QueueName),
    Session(Client),
    Answers,
    Schedule(QueueName),
}

impl super::Queue {
    /// The limit key that has a token again first, of those that have none.
    fn first_throttled_key(&self) -> Option<(Time, Box<str>)> {
        let throttled = self.keys.iter().filter(|(_, bucket)| bucket.throttled_until > Time(0));
        throttled.map(|(key, bucket)| (bucket.throttled_until, key.clone())).min()
    }
}

impl Model {
    /// The earliest deadline there is.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.first_deadline().map(|(at, _)| at)
    }

    /// Lets what is due happen; returns whether that was all of it.
    pub(super) fn tick(&mut self) -> bool {
        let mut left = STEP_OBJECTS;
        while left > 0 {
            let Some(objects) = self.one_thing_happens() else {
                self.settle();
                return true;
            };
            left = left.saturating_sub(objects);
        }
        self.settle();
        false
    }

    fn first_deadline(&self) -> Option<(Time, Owner)> {
        let mut first: Option<(Time, Owner)> = None;
        let mut offer = |at: Time, owner: Owner| {
            if at < Time::NEVER && first.as_ref().is_none_or(|first| (at, &owner) < (first.0, &first.1)) {
                first = Some((at, owner));
            }
        };
        for (name, queue) in self.queues.iter().filter(|(_, queue)| queue.paused_until > Time(0)) {
            offer(queue.paused_until, Owner::Queue(name.clone()));
        }
        for (name, queue) in self.queues.iter().filter(|(_, queue)| queue.throttled_until > Time(0)) {
            offer(queue.throttled_until, Owner::Queue(name.clone()));
        }
        for (name, queue) in &self.queues {
            queue.first_throttled_key().into_iter().for_each(|(at, _)| offer(at, Owner::Queue(name.clone())));
        }
        for ((at, ..), queue) in self.ends_by_time() {
            offer(at, Owner::Queue(queue));
        }
        let delayed = || self.jobs.values().filter(|job| job.place == Place::Delayed);
        if let Some(job) = delayed().min_by_key(|job| (job.run_at, &job.queue)) {
            offer(job.run_at, Owner::Queue(job.queue.clone()));
        }
        for (&client, session) in &self.sessions {
            if session.closing {
                offer(Time(0), Owner::Session(client));
                continue;
            }
            let end = self.first_lease_end(client).map_or(Time::NEVER, |(end, _)| end);
            match session.wait {
                None => offer(end, Owner::Session(client)),
                Some(wait) => {
                    let soon = Time(end.0.saturating_sub(LEASE_SAFETY_MARGIN.as_nanos() as u64));
                    let soon = if end == Time::NEVER || session.follows { end } else { soon };
                    offer(soon.min(wait.until), Owner::Session(client));
                }
            }
        }
        if let Some((until, _)) = self.first_answer() {
            offer(until, Owner::Answers);
        }
        for (name, schedule) in self.schedules.iter().filter(|(_, schedule)| schedule.waits()) {
            offer(self.engine_time(schedule.due_at), Owner::Schedule(name.clone()));
        }
        first
    }

    /// The answer that is kept least long.
    fn first_answer(&self) -> Option<(Time, Vec<u8>)> {
        self.answers.iter().map(|(key, &(.., until))| (until, key.clone())).min()
    }

    /// The next thing that is due; returns how many objects it was about.
    fn one_thing_happens(&mut self) -> Option<usize> {
        match self.first_deadline() {
            Some((at, Owner::Queue(name))) if at <= self.now => self.queue_due(&name),
            Some((at, Owner::Session(client))) if at <= self.now => self.session_due(client),
            Some((at, Owner::Schedule(name))) if at <= self.now => return Some(self.schedule_turn(&name)),
            Some((at, Owner::Answers)) if at <= self.now => {
                self.first_answer().and_then(|(_, key)| self.answers.remove(&key));
            }
            _ => return None,
        }
        Some(1)
    }

    fn queue_due(&mut self, name: &QueueName) {
        let now = self.now;
        let queue = self.queues.get_mut(name).expect("it has a deadline");
        if queue.paused_until > Time(0) && queue.paused_until <= now {
            queue.paused_until = Time(0);
            queue.pause_length = Duration::ZERO;
            return;
        }
        if queue.throttled_until > Time(0) && queue.throttled_until <= now {
            queue.throttled_until = Time(0);
            return;
        }
        if let Some((_, key)) = queue.first_throttled_key().filter(|&(at, _)| at <= now) {
            queue.keys.get_mut(&key).expect("it has a bucket").throttled_until = Time(0);
            return;
        }
        let delayed = self.jobs.iter().filter(|(_, job)| job.queue == *name && job.place == Place::Delayed);
        let due = delayed.map(|(&id, job)| (job.run_at, 1, id));
        let ends = self.ends_by_time().into_iter().filter(|(_, queue)| queue == name).map(|(end, _)| end);
        let first = due.chain(ends).min().expect("it has a deadline");
        self.check_by_wall(first);
        match first {
            (_, 0, id) => self.end(id, JobState::Expired, None),
            (_, 1, id) => self.job_mut(id).place = Place::Ready,
            (_, _, id) => drop(self.jobs.remove(&id)),
        }
    }

    /// Nothing that was asked for by the wall clock comes before that shows it, however often it was set.
    fn check_by_wall(&self, (_, what, id): (Time, u8, JobId)) {
        let (wall, job) = (i128::from(self.now.0) + self.wall_offset, &self.jobs[&id]);
        let asked = match (what, job.terms.expires_at) {
            (0, Some(Expiry::Wall(at))) => Some(at),
            // One that was due before a start stays so, by the clock as it was.
            (1, _) => job.at_wall.filter(|_| job.run_at > self.started),
            _ => None,
        };
        assert!(asked.is_none_or(|at| wall >= i128::from(at.0)), "job {id} comes at {wall} and not at {asked:?}");
    }

    fn session_due(&mut self, client: Client) {
        let now = self.now;
        let lease = self.first_lease_end(client);
        if self.sessions[&client].closing {
            match lease {
                Some((_, id)) => self.job_mut(id).settle_by_time(now),
                None => drop(self.sessions.remove(&client)),
            }
            return;
        }
        if let Some((_, id)) = lease.filter(|&(end, _)| end <= now) {
            return self.lose_lease(client, id);
        }
        // A job that became ready before this moment goes first.
        let is_over = self.sessions[&client].wait.is_some_and(|wait| wait.until <= now);
        self.hand_over();
        if self.session_mut(client).wait.take().is_some() {
            let what = if is_over { Delivered::TimedOut } else { Delivered::DeadlineSoon };
            self.deliveries.push((client, what));
        }
    }

    fn lose_lease(&mut self, client: Client, id: JobId) {
        self.totals.lost_leases += 1;
        let now = self.now;
        if let Place::Reserved { token, .. } = self.jobs[&id].place {
            self.ran_out.insert(token);
        }
        let job = self.job_mut(id);
        job.tally.lost_leases += 1;
        job.log_reserves();
        let is_poison = job.max_lost_leases > 0 && job.tally.lost_leases >= u32::from(job.max_lost_leases);
        if !is_poison {
            job.last_holder = Some(client);
            job.settle_by_time(now);
        }
        let queue = job.queue.clone();
        self.queues.get_mut(&queue).expect("a job's queue is there").totals.lost_leases += 1;
        if is_poison {
            self.bury(id);
        }
    }
}
