//! A session: one front end's client, which holds leases and waits for jobs.
//!
//! A beanstalkd connection is one; a program that embeds the engine opens one itself. Sessions are soft: nothing of
//! them is in the log, and when one is closed its leases end with it. One that is left keeps its leases until they end:
//! whoever has their tokens holds the jobs then. One that follows its leases is told when each of them ends. One that hands
//! its leases' tokens on may have durable ones: what a start finds of those is held by a session of the past, which is left.

use crate::job::{JobId, Time};
use crate::limits::ACTOR_BYTES;
use crate::pages::Slot;
use crate::queue::QueueId;
use crate::wheel::Wheel;
use std::fmt;
use std::sync::Arc;

/// A session's number, never used twice in one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// In whose name something is asked for: that of a token, where a front end asks for tokens. It is cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Actor(Arc<str>);

/// A name that nothing can be asked for in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadActor {
    /// It is empty, or too long.
    #[error("an actor has 1 to {ACTOR_BYTES} bytes, and that one has {0}")]
    Length(usize),
    /// It has something in it that cannot be seen.
    #[error("{0:?} can't be in the name of an actor")]
    Control(char),
}

impl Actor {
    /// Takes a name as it came from outside.
    ///
    /// # Errors
    /// [`BadActor`], which says what is wrong with it.
    pub fn new(name: &str) -> Result<Actor, BadActor> {
        if !(1..=ACTOR_BYTES).contains(&name.len()) {
            return Err(BadActor::Length(name.len()));
        }
        match name.chars().find(|c| c.is_control()) {
            Some(control) => Err(BadActor::Control(control)),
            None => Ok(Actor(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const SLOT_BITS: u32 = 24;

impl SessionId {
    /// Who was given a lease that the log tells of. No session has that number.
    pub(crate) const PAST: SessionId = SessionId(0);

    /// The most sessions at one time.
    pub(crate) const MOST: usize = 1 << SLOT_BITS;

    pub(crate) fn new(serial: u64, slot: Slot) -> SessionId {
        SessionId(serial << SLOT_BITS | u64::from(slot.0))
    }

    pub(crate) fn slot(self) -> Slot {
        Slot((self.0 & ((1 << SLOT_BITS) - 1)) as u32)
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// In whose name it asks, if anybody said.
    pub(crate) actor: Option<Actor>,
    /// Where its client is, in the front end's words, if that said so.
    pub(crate) origin: Option<Arc<str>>,
    pub(crate) used: QueueId,
    /// In the order they were watched in; no queue twice.
    pub(crate) watched: Vec<QueueId>,
    /// The jobs it holds, by the end of their leases.
    pub(crate) leases: Wheel<(Time, JobId)>,
    pub(crate) wait: Option<Wait>,
    /// It is gone; only its leases are still to be ended.
    pub(crate) closing: bool,
    pub(crate) bond: Bond,
    /// Whether its leases' tokens are handed on: whoever has one may come after a restart.
    pub(crate) by_token: bool,
    /// When the state next looks at it: at or before its next deadline; `Time::NEVER` for not at all.
    pub(crate) wake_at: Time,
}

/// What ties a session and its leases together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bond {
    /// It holds the jobs: its leases end with it.
    Own,
    /// Whoever has the leases' tokens holds the jobs. It is told when each of them ends, and not when one soon will.
    Followed,
    /// The same, and nobody asks in its name any more: it is forgotten with the last of its leases.
    Left,
}

/// A reserve that has not been answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Its number in the order of all waits.
    pub(crate) number: u64,
    pub(crate) until: Time,
}
