//! Sessions: opened and closed, in whose name each asks, and what becomes of the leases of one that is left.

use super::Engine;
use crate::job::{JobId, LeaseToken, Time};
use crate::log;
use crate::session::{Actor, SessionId};
use std::sync::Arc;

impl Engine {
    /// Opens a session; it uses and watches the queue `default`. `None` when there are as many as there can be.
    pub fn open_session(&mut self) -> Option<SessionId> {
        self.state.open_session()
    }

    /// Says in whose name a session asks from now on: what its commands bring about, and that jobs are handed to it, carries the
    /// name in the log and the news. `None`: in nobody's, as it is at first.
    ///
    /// # Panics
    /// If the session is not open.
    pub fn set_actor(&mut self, session: SessionId, actor: Option<Actor>) {
        let bytes = actor.as_ref().map_or(0, log::actor_bytes);
        self.actor_bytes = self.actor_bytes.max(bytes);
        self.state.set_actor(session, actor);
    }

    /// Says where a session's client is, in the front end's words: a few bytes, such as an address. Whoever looks at a job that is
    /// held under its leases is told: see [`Engine::held_by`].
    ///
    /// # Panics
    /// If the session is not open.
    pub fn set_origin(&mut self, session: SessionId, origin: Option<Arc<str>>) {
        self.state.set_origin(session, origin);
    }

    /// Ends a session: its leases end without fault and its jobs are ready again, a slice at a time where it holds many.
    ///
    /// # Panics
    /// If the session is not open.
    pub fn close_session(&mut self, session: SessionId, now: Time) {
        self.now = self.now.max(now);
        self.state.close_session(session);
        self.tick(now);
    }

    /// Leaves a session: it waits for nothing, uses and watches nothing any more, and keeps its leases until they end.
    /// Whoever has their tokens holds the jobs. Its number is good for [`Engine::take_back`] alone.
    ///
    /// # Panics
    /// If the session is not open.
    pub fn leave_session(&mut self, session: SessionId, now: Time) {
        self.now = self.now.max(now);
        self.state.leave_session(session);
        self.tick(now);
    }

    /// Ends what leases a session still has that was left: without fault, and its jobs are ready again. Returns whether
    /// there were any.
    pub fn take_back(&mut self, session: SessionId, now: Time) -> bool {
        self.now = self.now.max(now);
        let had_leases = self.state.take_back(session);
        self.tick(now);
        had_leases
    }

    /// Has a session told of the end of each of its leases, whoever ends it: a [`LeaseEnded`](crate::command::Delivered::LeaseEnded)
    /// comes for it. Whoever has their tokens holds the jobs; so it is not told that a lease is about to end, and waits on instead.
    ///
    /// # Panics
    /// If the session is not open.
    pub fn follow_leases(&mut self, session: SessionId) {
        self.state.follow_leases(session);
    }

    /// Says that the tokens of a session's leases are handed on, so that whoever has one may come with it after a restart: leases
    /// of jobs whose queue is [set up so](crate::queue::QueueSettings::durable_leases) are durable from now on. They are in the
    /// log, a start finds them in force, under the same tokens and with at least what was left of their time, and they end like
    /// any other.
    ///
    /// # Panics
    /// If the session is not open.
    pub fn hand_tokens_on(&mut self, session: SessionId) {
        self.state.hand_tokens_on(session);
    }

    /// How many jobs are held under leases of a session.
    ///
    /// # Panics
    /// If the session is not open.
    #[must_use]
    pub fn leases_of(&self, session: SessionId) -> usize {
        self.state.leases_of(session)
    }

    /// Ends a lease without fault, even one whose time is over by now: its job is ready again. Returns whether it was there.
    pub fn drop_lease(&mut self, job: JobId, token: LeaseToken, now: Time) -> bool {
        self.now = self.now.max(now);
        let dropped = self.state.dropped(job, token);
        let is_held = dropped.is_some();
        dropped.into_iter().for_each(|event| self.happen(event));
        self.tick(now);
        is_held
    }
}
