//! What the passing of time alone brings about, one thing at a time, in the order of the deadlines.

use super::{Owner, State};
use crate::event::Event;
use crate::job::{JobId, QueueName, Time};
use crate::pages::Slot;
use crate::queue::{Queue, QueueId};
use crate::session::SessionId;
use std::sync::Arc;

/// One thing whose time has come.
#[derive(Debug)]
pub(crate) enum Due {
    /// This happens now.
    Happens(Event),
    /// The answer that was to be kept least long was kept long enough. It is no event, as every one that is not in the log is
    /// news.
    AnswerOver,
    /// This limit key of a queue has a token again. It is no event either.
    KeyOpens(QueueId, Arc<str>),
    /// This session's time to wait is over.
    WaitOver(SessionId),
    /// One of this waiting session's own leases is about to end.
    DeadlineSoon(SessionId),
    /// This schedule's tick has come.
    Tick(QueueName),
}

/// What the passing of time brings about in a queue, in the order of one moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OfQueue {
    Expiry(JobId),
    Due(JobId),
    EndOfKeeping(JobId),
}

impl State {
    /// The next thing that is due at `now`, if there is one. The caller makes it happen before it asks again.
    pub(crate) fn next_due(&mut self, now: Time) -> Option<Due> {
        if let Some(told) = self.next_told(now) {
            return Some(Due::Happens(told));
        }
        loop {
            let (by_engine, by_wall) = (self.wakes.first().copied(), self.first_wall_wake());
            let is_by_wall = by_wall.is_some_and(|by_wall| by_engine.is_none_or(|by_engine| by_wall < by_engine));
            let first = if is_by_wall { by_wall } else { by_engine }.filter(|&(at, _)| at <= now);
            // Of what is due at one moment, schedules come last.
            if let Some(schedule) = self.schedule_due(now, first.map_or(Time::NEVER, |(at, _)| at)) {
                return Some(Due::Tick(schedule));
            }
            let (at, owner) = first?;
            // An owner may be looked at too early: its deadline was put off, or what was due of it happened.
            let deadline = match owner {
                Owner::Queue(id) if is_by_wall => self.wall_deadline(id).map_or(Time::NEVER, |at| self.engine_time(at)),
                _ => self.deadline(owner),
            };
            if deadline <= at {
                let due = match owner {
                    Owner::Answers => Some(Due::AnswerOver),
                    Owner::Queue(id) => self.queue_due(id, now),
                    Owner::Session(id) => self.session_due(id, now),
                };
                return Some(due.expect("what is past its deadline has something due"));
            }
            if is_by_wall {
                self.rewake_by_wall();
                continue;
            }
            self.wakes.pop_first();
            match owner {
                Owner::Answers => self.rewake_answers(),
                Owner::Queue(id) => {
                    self.queues[id.slot()].wake_at = Time::NEVER;
                    self.wake_queue_at(id, deadline);
                }
                Owner::Session(id) => {
                    self.sessions[id.slot()].wake_at = Time::NEVER;
                    if self.session(id).closing {
                        self.forget_session(id);
                    } else {
                        self.wake_session_at(id, deadline);
                    }
                }
            }
        }
    }

    /// When something next happens to a queue or a session by the passing of time alone, that of the wall clock aside.
    fn deadline(&self, owner: Owner) -> Time {
        match owner {
            Owner::Answers => self.answers.first_end().unwrap_or(Time::NEVER),
            Owner::Queue(id) => {
                let queue = self.queue(id);
                let pause = if queue.holds_back() { queue.paused_until } else { Time::NEVER };
                let throttle = if queue.throttled_until == Time(0) { Time::NEVER } else { queue.throttled_until };
                let first = self.first_by_engine(queue).map_or(Time::NEVER, |(at, _)| at);
                let of_key = queue.groups.as_ref().and_then(|groups| groups.first_throttled());
                first.min(pause).min(throttle).min(of_key.map_or(Time::NEVER, |&(at, _)| at))
            }
            Owner::Session(id) if self.session(id).closing => {
                if self.session(id).leases.len() > 0 {
                    Time(0)
                } else {
                    Time::NEVER
                }
            }
            Owner::Session(id) => self.session_deadline(id).unwrap_or(Time::NEVER),
        }
    }

    fn queue_due(&self, id: QueueId, now: Time) -> Option<Due> {
        let queue = self.queue(id);
        if queue.holds_back() && !queue.is_paused(now) {
            return Some(Due::Happens(Event::PauseOver { queue: id }));
        }
        if queue.throttled_until != Time(0) && queue.throttled_until <= now {
            return Some(Due::Happens(Event::ThrottleOver { queue: id }));
        }
        let of_key = queue.groups.as_ref().and_then(|groups| groups.first_throttled());
        if let Some((_, key)) = of_key.filter(|&&(at, _)| at <= now) {
            return Some(Due::KeyOpens(id, Arc::clone(key)));
        }
        let first = self.first_by_engine(queue).into_iter().chain(self.first_by_wall(queue));
        let (at, what) = first.min()?;
        let event = || match what {
            OfQueue::Expiry(job) => {
                let slot = self.find_job(job).expect("an open job expires");
                Event::JobExpired { job, kept_until: self.kept_until(slot, now) }
            }
            OfQueue::Due(job) => Event::JobDue { job },
            OfQueue::EndOfKeeping(job) => Event::JobForgotten { job },
        };
        (at <= now).then(|| Due::Happens(event()))
    }

    /// What happens next to a job of a queue by the passing of time alone, that of the wall clock aside, and when. Of what is due
    /// at one moment, jobs expire first.
    fn first_by_engine(&self, queue: &Queue) -> Option<(Time, OfQueue)> {
        let expiry = queue.expiring.first().map(|&(at, job)| (at, OfQueue::Expiry(job)));
        let due = queue.delayed.first().map(|slot| (self.jobs[slot].run_at, OfQueue::Due(self.jobs[slot].id)));
        let ended = queue.ended.first().map(|&(at, job)| (at, OfQueue::EndOfKeeping(job)));
        [expiry, due, ended].into_iter().flatten().min()
    }

    /// The same by the wall clock, and when, in engine time.
    fn first_by_wall(&self, queue: &Queue) -> Option<(Time, OfQueue)> {
        let by_wall = queue.by_wall.as_ref()?;
        let expiry = by_wall.expiring.first().map(|&(at, job)| (self.engine_time(at), OfQueue::Expiry(job)));
        let due = by_wall.delayed.first().map(|slot| &self.jobs[slot]);
        let due = due.map(|job| (self.run_at(job), OfQueue::Due(job.id)));
        [expiry, due].into_iter().flatten().min()
    }

    /// Whether a queue keeps final jobs.
    pub(crate) fn retains(&self, name: &QueueName) -> bool {
        let settings = self.find_queue(name).and_then(|queue| self.queue(queue).settings.as_ref());
        settings.is_some_and(|settings| settings.retain.is_some())
    }

    /// Until when a job is kept that ends now. One whose record no start reads can't be.
    pub(super) fn kept_until(&self, slot: Slot, now: Time) -> Option<Time> {
        let queue = self.queue(self.jobs[slot].queue);
        queue.kept_until(now).filter(|_| self.home(slot).is_none())
    }

    fn session_due(&self, id: SessionId, now: Time) -> Option<Due> {
        let session = self.session(id);
        if let Some(slot) = session.leases.first() {
            let job = &self.jobs[slot];
            if session.closing {
                return Some(Due::Happens(self.lease_dropped(slot)));
            }
            if self.leases[job.lease_slot()].deadline <= now {
                return Some(Due::Happens(self.lease_lost(slot)));
            }
        }
        let wait = session.wait?;
        if wait.until <= now {
            Some(Due::WaitOver(id))
        } else if self.lease_ends_soon(id, now) {
            Some(Due::DeadlineSoon(id))
        } else {
            None
        }
    }
}
