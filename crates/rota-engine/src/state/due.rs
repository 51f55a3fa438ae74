//! What the passing of time alone brings about, one thing at a time, in the order of the deadlines.

use super::{Owner, State};
use crate::event::Event;
use crate::job::Time;
use crate::session::SessionId;

/// One thing whose time has come.
#[derive(Debug)]
pub(crate) enum Due {
    /// This happens now.
    Happens(Event),
    /// This session's time to wait is over.
    WaitOver(SessionId),
    /// One of this waiting session's own leases is about to end.
    DeadlineSoon(SessionId),
}

impl State {
    /// The next thing that is due at `now`, if there is one. The caller makes it happen before it asks again.
    pub(crate) fn next_due(&mut self, now: Time) -> Option<Due> {
        loop {
            let &(at, owner) = self.wakes.first()?;
            if at > now {
                return None;
            }
            // An owner may be looked at too early: its deadline was put off, or what was due of it happened.
            let deadline = self.deadline(owner);
            if deadline <= at {
                let due = match owner {
                    Owner::Queue(id) => self.queue_due(id, now),
                    Owner::Session(id) => self.session_due(id, now),
                };
                return Some(due.expect("what is past its deadline has something due"));
            }
            self.wakes.pop_first();
            match owner {
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

    /// When something next happens to a queue or a session by the passing of time alone.
    fn deadline(&self, owner: Owner) -> Time {
        match owner {
            Owner::Queue(id) => {
                let queue = self.queue(id);
                let pause = if queue.holds_back() { queue.paused_until } else { Time::NEVER };
                queue.delayed.first().map_or(pause, |slot| self.jobs[slot].run_at.min(pause))
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

    fn queue_due(&self, id: crate::queue::QueueId, now: Time) -> Option<Due> {
        let queue = self.queue(id);
        if queue.holds_back() && !queue.is_paused(now) {
            return Some(Due::Happens(Event::PauseOver { queue: id }));
        }
        let job = &self.jobs[queue.delayed.first()?];
        (job.run_at <= now).then_some(Due::Happens(Event::JobDue { job: job.id }))
    }

    fn session_due(&self, id: SessionId, now: Time) -> Option<Due> {
        let session = self.session(id);
        if let Some(slot) = session.leases.first() {
            let job = &self.jobs[slot];
            if session.closing {
                return Some(Due::Happens(Event::LeaseDropped { job: job.id }));
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
