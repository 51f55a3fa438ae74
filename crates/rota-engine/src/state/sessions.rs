//! Sessions: who is there, what they use and watch, who waits. None of it is in the log.

use super::{Owner, State};
use crate::command::{Answer, Delivered, Delivery, Refusal};
use crate::event::Event;
use crate::job::{JobId, JobState, LeaseToken, QueueName, Time};
use crate::limits::{LEASE_SAFETY_MARGIN, WATCHED_QUEUES};
use crate::queue::QueueId;
use crate::session::{Actor, Bond, Session, SessionId, Wait};
use crate::wheel::Wheel;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

impl State {
    /// A new session, which uses and watches `default`; `None` with as many sessions as there can be.
    pub(crate) fn open_session(&mut self) -> Option<SessionId> {
        if self.sessions.len() >= SessionId::MOST {
            return None;
        }
        let default = self.open_queue(&QueueName::new("default").expect("it keeps the rule for names"));
        let queue = self.queue_mut(default);
        queue.using += 1;
        queue.watching += 1;
        self.numbers.sessions += 1;
        let slot = self.sessions.insert(Session {
            id: SessionId(0),
            actor: None,
            origin: None,
            used: default,
            watched: vec![default],
            leases: Wheel::default(),
            wait: None,
            closing: false,
            bond: Bond::Own,
            by_token: false,
            wake_at: Time::NEVER,
        });
        let id = SessionId::new(self.numbers.sessions, slot);
        self.sessions[slot].id = id;
        Some(id)
    }

    /// Ends a session: at once, or, if it still holds leases, with the steps that end those.
    pub(crate) fn close_session(&mut self, id: SessionId) {
        self.stand_back(id);
        if self.sessions[id.slot()].leases.len() == 0 {
            self.forget_session(id);
        } else {
            self.end_leases(id);
        }
    }

    /// Leaves a session: it is forgotten with the last of its leases.
    pub(crate) fn leave_session(&mut self, id: SessionId) {
        self.stand_back(id);
        if self.sessions[id.slot()].leases.len() == 0 {
            self.forget_session(id);
        } else {
            self.sessions[id.slot()].bond = Bond::Left;
        }
    }

    /// Ends the leases of a session that was left, with the steps to come. Returns whether there were any.
    pub(crate) fn take_back(&mut self, id: SessionId) -> bool {
        let is_left =
            self.sessions.get(id.slot()).is_some_and(|session| session.id == id && session.bond == Bond::Left);
        if is_left {
            self.end_leases(id);
        }
        is_left
    }

    fn end_leases(&mut self, id: SessionId) {
        let session = &mut self.sessions[id.slot()];
        (session.closing, session.bond) = (true, Bond::Own);
        self.wake_session_at(id, Time(0));
    }

    /// Has a session told of the end of each of its leases.
    pub(crate) fn follow_leases(&mut self, id: SessionId) {
        assert_eq!(self.sessions[id.slot()].id, id, "a front end asks for its own, open session");
        self.sessions[id.slot()].bond = Bond::Followed;
    }

    /// The tokens of a session's leases are handed on: a lease may be durable from now on.
    pub(crate) fn hand_tokens_on(&mut self, id: SessionId) {
        assert_eq!(self.sessions[id.slot()].id, id, "a front end asks for its own, open session");
        self.sessions[id.slot()].by_token = true;
    }

    /// The lease ended of a job that was held by its token.
    #[cold]
    pub(super) fn lease_by_token_ended(&mut self, id: SessionId, job: JobId, token: LeaseToken) {
        let session = &self.sessions[id.slot()];
        match session.bond {
            Bond::Followed => {
                let what = Delivered::LeaseEnded { job, token, ran_out: false };
                self.deliveries.push(Delivery { session: id, what });
            }
            Bond::Left if session.leases.len() == 0 => self.forget_session(id),
            Bond::Left | Bond::Own => {}
        }
    }

    /// The lease of a job, which just ended, did so by time alone. No other of that job ended at the same moment: it would have
    /// been given before, and each lasts a while.
    pub(super) fn lease_ran_out(&mut self, job: JobId) {
        if let Some(Delivery { what: Delivered::LeaseEnded { job: last, ran_out, .. }, .. }) =
            self.deliveries.last_mut()
            && *last == job
        {
            *ran_out = true;
        }
    }

    /// What ends a lease without fault, be its time over or not; `None` if it is not there.
    pub(crate) fn dropped(&self, job: JobId, token: LeaseToken) -> Option<Event> {
        let slot = self.find_job(job).filter(|&slot| self.jobs[slot].state == JobState::Reserved)?;
        let is_it = self.leases[self.jobs[slot].lease_slot()].token == token;
        is_it.then(|| self.lease_dropped(slot))
    }

    /// How many jobs are held under leases of a session.
    pub(crate) fn leases_of(&self, id: SessionId) -> usize {
        self.session(id).leases.len()
    }

    /// Takes a session out of all that it waits for, uses and watches.
    fn stand_back(&mut self, id: SessionId) {
        self.end_wait(id);
        let default = self.find_queue(&QueueName::new("default").expect("it keeps the rule for names"));
        let session = &mut self.sessions[id.slot()];
        // Who reads of it before its leases have ended must not find a queue that is gone.
        let used = std::mem::replace(&mut session.used, default.expect("it never goes"));
        let watched = std::mem::take(&mut session.watched);
        for queue in watched {
            self.queue_mut(queue).watching -= 1;
            self.leave_queue(queue);
        }
        self.queue_mut(used).using -= 1;
        self.leave_queue(used);
    }

    pub(super) fn forget_session(&mut self, id: SessionId) {
        let session = self.sessions.remove(id.slot()).expect("a session is forgotten once");
        self.wakes.remove(&(session.wake_at, Owner::Session(id)));
    }

    /// The session of that number.
    ///
    /// # Panics
    /// If it was closed: front ends own their sessions.
    pub(super) fn session(&self, id: SessionId) -> &Session {
        let session = &self.sessions[id.slot()];
        assert_eq!(session.id, id, "a front end asks for its own, open session");
        session
    }

    /// In whose name a session asks; `None` where nobody said.
    #[inline]
    pub(crate) fn actor(&self, id: SessionId) -> Option<&Actor> {
        self.session(id).actor.as_ref()
    }

    pub(crate) fn set_actor(&mut self, id: SessionId, actor: Option<Actor>) {
        assert_eq!(self.sessions[id.slot()].id, id, "a front end asks for its own, open session");
        self.sessions[id.slot()].actor = actor;
    }

    pub(crate) fn set_origin(&mut self, id: SessionId, origin: Option<Arc<str>>) {
        assert_eq!(self.sessions[id.slot()].id, id, "a front end asks for its own, open session");
        self.sessions[id.slot()].origin = origin;
    }

    pub(crate) fn use_queue(&mut self, session: SessionId, name: &QueueName) -> Answer {
        let queue = self.open_queue(name);
        self.queue_mut(queue).using += 1;
        let before = std::mem::replace(&mut self.sessions[session.slot()].used, queue);
        self.queue_mut(before).using -= 1;
        self.leave_queue(before);
        Answer::Done
    }

    pub(crate) fn watch(&mut self, session: SessionId, name: &QueueName) -> Result<Answer, Refusal> {
        self.not_waiting(session)?;
        let watched = self.session(session).watched.len();
        let known = self.find_queue(name).is_some_and(|queue| self.session(session).watched.contains(&queue));
        if !known {
            if watched >= WATCHED_QUEUES {
                return Err(Refusal::TooManyWatched);
            }
            if self.queues.len() >= self.most_queues && self.find_queue(name).is_none() {
                return Err(Refusal::TooManyQueues);
            }
            let queue = self.open_queue(name);
            self.queue_mut(queue).watching += 1;
            self.sessions[session.slot()].watched.push(queue);
        }
        Ok(Answer::Watching(watched + usize::from(!known)))
    }

    pub(crate) fn ignore(&mut self, session: SessionId, name: &QueueName) -> Result<Answer, Refusal> {
        self.not_waiting(session)?;
        let watched = &self.session(session).watched;
        let place = self.find_queue(name).and_then(|queue| watched.iter().position(|&other| other == queue));
        let Some(place) = place else { return Ok(Answer::Watching(watched.len())) };
        if watched.len() == 1 {
            return Err(Refusal::LastWatched);
        }
        let queue = self.sessions[session.slot()].watched.remove(place);
        self.queue_mut(queue).watching -= 1;
        self.leave_queue(queue);
        Ok(Answer::Watching(self.session(session).watched.len()))
    }

    /// A session that waits stands in line for just what it watched when it began, and holds what it held then.
    pub(super) fn not_waiting(&self, session: SessionId) -> Result<(), Refusal> {
        if self.session(session).wait.is_some() { Err(Refusal::AlreadyWaiting) } else { Ok(()) }
    }

    /// Lets a session stand in line in each queue that it watches.
    pub(crate) fn begin_wait(&mut self, id: SessionId, wait: Option<Duration>, now: Time) {
        self.numbers.waits += 1;
        let until = wait.map_or(Time::NEVER, |wait| now.after(wait));
        let wait = Wait { number: self.numbers.waits, until };
        let session = &mut self.sessions[id.slot()];
        session.wait = Some(wait);
        for &queue in &session.watched {
            self.queues[queue.slot()].waiting.insert(wait.number, id);
        }
        self.totals.waiting += 1;
        if let Some(at) = self.session_deadline(id) {
            self.wake_session_at(id, at);
        }
    }

    /// Takes a session out of the lines it stands in, if it does. Returns whether it did.
    pub(crate) fn end_wait(&mut self, id: SessionId) -> bool {
        let Some(wait) = self.sessions[id.slot()].wait.take() else { return false };
        for queue in &self.sessions[id.slot()].watched {
            self.queues[queue.slot()].waiting.remove(&wait.number);
        }
        self.totals.waiting -= 1;
        true
    }

    pub(super) fn first_lease_end(&self, id: SessionId) -> Option<Time> {
        let slot = self.session(id).leases.first()?;
        Some(self.leases[self.jobs[slot].lease_slot()].deadline)
    }

    /// When something next happens to a session by the passing of time alone.
    pub(super) fn session_deadline(&self, id: SessionId) -> Option<Time> {
        let lease_end = self.first_lease_end(id);
        let Some(wait) = self.session(id).wait else { return lease_end };
        let margin = u64::try_from(LEASE_SAFETY_MARGIN.as_nanos()).expect("a second fits");
        let margin = if self.session(id).bond == Bond::Followed { 0 } else { margin };
        let soon = lease_end.map_or(Time::NEVER, |end| Time(end.0.saturating_sub(margin)));
        Some(soon.min(wait.until)).filter(|&at| at < Time::NEVER)
    }

    /// The session that waits longest of those that could have a job, with the first job that it could have.
    pub(crate) fn next_handover(&mut self) -> Option<(SessionId, JobId)> {
        while let Some(&Reverse((wait, id))) = self.unserved.peek() {
            let queue = self.queues.get(id.slot()).filter(|queue| !queue.is_closed() && queue.ready.len() > 0);
            let first = queue.and_then(|queue| queue.waiting.first_key_value());
            if let Some((_, &session)) = first.filter(|&(&number, _)| number == wait) {
                let slot = self.best_ready(session).expect("its queue has a ready job");
                return Some((session, self.jobs[slot].id));
            }
            // Who waited longest was served: the queue's turn is now that of the next one.
            let is_needed = first.is_some();
            self.unserved.pop();
            if self.queues.get(id.slot()).is_some() {
                self.queue_mut(id).is_unserved = false;
            }
            if is_needed {
                self.serve(id);
            }
        }
        None
    }

    /// The queues that a session watches, in the order it came to them.
    pub(crate) fn watched(&self, id: SessionId) -> &[QueueId] {
        &self.session(id).watched
    }

    pub(crate) fn used(&self, id: SessionId) -> QueueId {
        self.session(id).used
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }
}
