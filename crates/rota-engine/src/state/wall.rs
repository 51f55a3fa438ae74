//! What waits for a moment of the wall clock: jobs that were put for one, and jobs that expire at one.
//!
//! They stand in lines of their own, by what the clock will show, and when that is in engine time is worked out when it is
//! asked. So nothing has to be moved when the clock is set, be they millions: what was far away may be due at once, and is
//! found to be by [`State::next_due`], a slice at a time.
//!
//! A job's `run_at` is out of date as long as it is delayed or blocked and was put for such a moment: [`State::run_at`] says
//! it. When the job leaves that state it is written down, and stays. The log does not say when a job was found to be due; so
//! the clock is set only when nothing is due by the time that it showed before, and a replay, which finds out nothing before,
//! does so then.

use super::{Owner, State};
use crate::far::CLOCK_UNKNOWN;
use crate::job::{Job, JobState, Time, WallOrder};
use crate::log::Lsn;
use crate::pages::Slot;
use crate::queue::{Queue, QueueId};
use crate::terms::Expiry;

impl State {
    /// The moment of engine time at which the wall clock shows `wall`, as far as is known.
    pub(super) fn engine_time(&self, wall: Time) -> Time {
        wall.in_engine_time(self.numbers.wall_offset.unwrap_or_default())
    }

    /// When a job is due, in engine time, as far as is known.
    pub(crate) fn run_at(&self, job: &Job) -> Time {
        let known = || self.at_wall(job).filter(|_| self.numbers.wall_offset.is_some());
        match job.state {
            JobState::Delayed | JobState::Blocked => known().map_or(job.run_at, |at| self.engine_time(at)),
            _ => job.run_at,
        }
    }

    /// The moment of the wall clock that a job was put for, if it was and nobody changed that.
    fn at_wall(&self, job: &Job) -> Option<Time> {
        self.extra(job).and_then(|extra| extra.at_wall)
    }

    /// Writes down when a job is due that leaves the state in which the wall clock says it.
    pub(super) fn fix_run_at(&mut self, slot: Slot) {
        self.jobs[slot].run_at = self.run_at(&self.jobs[slot]);
    }

    /// Takes a delayed job out of the line of those that wait for the wall clock; false if it does not stand there.
    pub(super) fn leave_wall_line(&mut self, slot: Slot) -> bool {
        if self.at_wall(&self.jobs[slot]).is_none() {
            return false;
        }
        self.fix_run_at(slot);
        let State { jobs, extras, queues, spoke, .. } = self;
        let by_wall = queues[jobs[slot].queue.slot()].by_wall.as_mut().expect("the job stands there");
        by_wall.delayed.remove(slot, &WallOrder { jobs, extras, spoke: *spoke });
        true
    }

    /// Puts a delayed job into that line; false if it was not put for a moment of the wall clock.
    pub(super) fn join_wall_line(&mut self, slot: Slot) -> bool {
        let Some(at) = self.at_wall(&self.jobs[slot]) else { return false };
        let State { jobs, extras, queues, spoke, .. } = self;
        let queue = jobs[slot].queue;
        let by_wall = queues[queue.slot()].by_wall.get_or_insert_default();
        by_wall.delayed.insert(slot, &WallOrder { jobs, extras, spoke: *spoke });
        self.wake_by_wall(queue, at);
        true
    }

    fn expiry(&self, job: &Job) -> Option<Expiry> {
        self.extra(job).and_then(|extra| extra.terms.as_ref()).and_then(|terms| terms.expires_at)
    }

    /// Whether a job does not expire up to `now`, if it does at all.
    pub(super) fn expires_after(&self, slot: Slot, now: Time) -> bool {
        match self.expiry(&self.jobs[slot]) {
            None => true,
            Some(Expiry::Engine(at)) => at > now,
            Some(Expiry::Wall(at)) => self.engine_time(at) > now,
        }
    }

    /// Has a job expire in time that waits, if it is to.
    pub(super) fn expires_from_now(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        let (id, queue) = (job.id, job.queue);
        match self.expiry(job) {
            None => {}
            Some(Expiry::Engine(at)) => {
                self.queue_mut(queue).expiring.insert((at, id));
                self.wake_queue_at(queue, at);
            }
            Some(Expiry::Wall(at)) => {
                self.queue_mut(queue).by_wall.get_or_insert_default().expiring.insert((at, id));
                self.wake_by_wall(queue, at);
            }
        }
    }

    /// A job waits no more, and does not expire.
    pub(super) fn expires_no_more(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        let (id, expiry) = (job.id, self.expiry(job));
        let queue = &mut self.queues[job.queue.slot()];
        match expiry {
            None => {}
            Some(Expiry::Engine(at)) => drop(queue.expiring.remove(&(at, id))),
            Some(Expiry::Wall(at)) => {
                queue.by_wall.as_mut().expect("the job stands there").expiring.remove(&(at, id));
            }
        }
    }

    /// Has the state look at what of a queue waits for the wall clock when that shows `at`, if not before.
    fn wake_by_wall(&mut self, id: QueueId, at: Time) {
        let by_wall = self.queues[id.slot()].by_wall.as_mut().expect("something waits there");
        if by_wall.wake_at.is_none_or(|wake| at < wake) {
            if let Some(wake) = by_wall.wake_at.replace(at) {
                self.wall_wakes.remove(&(wake, id));
            }
            self.wall_wakes.insert((at, id));
        }
    }

    /// The queue that is to be looked at next for what waits for the wall clock there, and when, in engine time.
    pub(super) fn first_wall_wake(&self) -> Option<(Time, Owner)> {
        self.wall_wakes.first().map(|&(at, id)| (self.engine_time(at), Owner::Queue(id)))
    }

    /// The first wake by the wall clock was too early, or what was due of it happened: the queue has another one at its next
    /// deadline, if there is one.
    pub(super) fn rewake_by_wall(&mut self) {
        let Some((_, id)) = self.wall_wakes.pop_first() else { return };
        self.queues[id.slot()].by_wall.as_mut().expect("it has a wake").wake_at = None;
        self.wall_deadline(id).into_iter().for_each(|at| self.wake_by_wall(id, at));
    }

    /// What the wall clock shows when something next happens to a queue by that alone.
    pub(super) fn wall_deadline(&self, id: QueueId) -> Option<Time> {
        let by_wall = self.queue(id).by_wall.as_ref()?;
        let due = by_wall.delayed.first().and_then(|slot| self.at_wall(&self.jobs[slot]));
        let expiry = by_wall.expiring.first().map(|&(at, _)| at);
        due.into_iter().chain(expiry).min()
    }

    /// The delayed jobs of a queue that are due first, in order: all that are in memory, or at least one if there is one.
    pub(super) fn first_delayed<'a>(&'a self, queue: &'a Queue) -> impl Iterator<Item = Slot> + 'a {
        let wall = queue.by_wall.as_ref().map(|by_wall| &by_wall.delayed);
        let (is_all, is_all_by_wall) = (queue.delayed.is_all_near(), wall.is_none_or(|wall| wall.is_all_near()));
        let mut near = queue.delayed.near().peekable();
        let mut by_wall = wall.into_iter().flat_map(|wall| wall.near()).peekable();
        let key = |slot: Slot| (self.run_at(&self.jobs[slot]), self.jobs[slot].id);
        std::iter::from_fn(move || match (near.peek(), by_wall.peek()) {
            (Some(&one), Some(&other)) if key(one) < key(other) => near.next(),
            (Some(_), None) if is_all_by_wall => near.next(),
            (Some(_), Some(_)) => by_wall.next(),
            (None, Some(_)) if is_all => by_wall.next(),
            // What comes next of the other line is in no order yet.
            _ => None,
        })
    }

    /// From now on the wall clock shows `wall_time` at `engine_time`. What was due by then stays due as it was.
    pub(super) fn set_wall_clock(&mut self, engine_time: Time, wall_time: Time) {
        let offset = i128::from(wall_time.0) - i128::from(engine_time.0);
        if self.numbers.wall_offset != Some(offset) {
            self.find_due_by_wall(engine_time);
            let before = self.numbers.wall_offset.replace(offset);
            // Without a log no job leaves memory.
            if self.far.at > Lsn(0) {
                self.far.clock.was_set(self.far.at, engine_time, before);
            }
            self.clock_was_set(wall_time);
        }
        self.wake_schedules();
    }

    /// Says how far the wall clock was ahead of engine time where the log begins, before any of its records, as far as is known.
    pub(crate) fn begin_clock(&mut self, wall_ahead: i128) {
        self.numbers.wall_offset = Some(wall_ahead).filter(|ahead| *ahead != CLOCK_UNKNOWN);
    }

    /// In a replay and at its end: finds all jobs due by now that wait for the wall clock. While an engine lives there are none:
    /// see [`crate::engine::Engine::clock_stepped`].
    fn find_due_by_wall(&mut self, now: Time) {
        let queues: Vec<QueueId> = match self.numbers.wall_offset {
            Some(_) => {
                let is_due = |&&(at, _): &&(Time, QueueId)| self.engine_time(at) <= now;
                self.wall_wakes.iter().take_while(is_due).map(|&(_, id)| id).collect()
            }
            None => self.wall_wakes.iter().map(|&(_, id)| id).collect(),
        };
        for id in queues {
            if self.numbers.wall_offset.is_none() {
                // Each is due when its record says: the log has not come to a change of the clock before. Those moments may be
                // in any order, if the records are of one who did not go by the wall clock.
                let by_wall = self.queue(id).by_wall.as_ref();
                let due = by_wall.into_iter().flat_map(|by_wall| by_wall.delayed.all());
                let due: Vec<Slot> = due.filter(|&slot| self.jobs[slot].run_at <= now).collect();
                due.into_iter().for_each(|slot| self.come_due(slot, now));
                continue;
            }
            while let Some(slot) = self.queue(id).by_wall.as_ref().and_then(|by_wall| by_wall.delayed.first())
                && self.run_at(&self.jobs[slot]) <= now
            {
                self.come_due(slot, now);
            }
        }
    }

    /// A delayed job's moment came.
    pub(super) fn come_due(&mut self, slot: Slot, now: Time) {
        self.detach(slot);
        self.attach_by_time(slot, now.max(self.jobs[slot].run_at));
    }
}

/// What tests and simulations look at.
#[cfg(any(test, feature = "testing"))]
impl State {
    /// What of a queue waits for the wall clock is what its jobs say, and is looked at in time.
    pub(super) fn check_by_wall(&self, id: QueueId) {
        use crate::job::JobId;
        use crate::queue::ByWall;
        use std::collections::BTreeSet;
        let none = ByWall::default();
        let queue = self.queue(id);
        let by_wall = queue.by_wall.as_deref().unwrap_or(&none);
        let jobs = || self.jobs.iter().filter(|(_, job)| job.queue == id);
        let line: BTreeSet<Slot> = by_wall.delayed.all().collect();
        let expected = jobs().filter(|(_, job)| job.state == JobState::Delayed && self.at_wall(job).is_some());
        assert_eq!(line, expected.map(|(slot, _)| slot).collect(), "delayed jobs for the wall clock of {}", queue.name);
        assert_eq!(line.len(), by_wall.delayed.len(), "a job for the wall clock of {} stands there once", queue.name);
        let waits = |job: &Job| matches!(job.state, JobState::Delayed | JobState::Ready | JobState::Blocked);
        let expiring = |job: &Job| match self.expiry(job) {
            Some(Expiry::Wall(at)) if waits(job) => Some((at, job.id)),
            _ => None,
        };
        let expected: BTreeSet<(Time, JobId)> = jobs().filter_map(|(_, job)| expiring(job)).collect();
        assert_eq!(by_wall.expiring, expected, "what expires by the wall clock in {}", queue.name);
        let expiring = |job: &Job| match self.expiry(job) {
            Some(Expiry::Engine(at)) if waits(job) => Some((at, job.id)),
            _ => None,
        };
        let expected: BTreeSet<(Time, JobId)> = jobs().filter_map(|(_, job)| expiring(job)).collect();
        assert_eq!(queue.expiring, expected, "what expires in {}", queue.name);
        let wake = by_wall.wake_at;
        assert!(wake.is_none_or(|at| self.wall_wakes.contains(&(at, id))), "{} has its wake", queue.name);
        let deadline = self.wall_deadline(id);
        assert!(deadline.is_none_or(|at| wake.is_some_and(|wake| wake <= at)), "{} is awake", queue.name);
    }

    /// How many queues are to be looked at for what waits for the wall clock there.
    pub(super) fn check_wall_wakes(&self) {
        let wakes =
            self.queues.iter().filter(|(_, queue)| queue.by_wall.as_ref().is_some_and(|by| by.wake_at.is_some()));
        assert_eq!(self.wall_wakes.len(), wakes.count(), "one wake a queue");
    }
}
