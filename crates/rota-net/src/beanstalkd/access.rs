//! Who may do what on a connection that is asked for a token: the table of commands, and the gate that holds to it.
//!
//! A session asks its gate before each command; one without a gate never comes here. A command says what it needs in a match
//! that has no default, so that a new one cannot be forgotten. As over HTTP, jobs of queues that a token is not for are not there.

use super::answer::{Answer, Word};
use super::request::Request;
use crate::access::Role::{self, Consumer, Operator, Producer, Viewer};
use crate::access::{Door, Grant};
use crate::limits::WRONG_TOKENS;
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, QueueName};
use rota_engine::session::{Actor, SessionId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The commands by the words that they begin with.
pub const COMMANDS: [&str; 34] = [
    "put",
    "put-in",
    "put-at",
    "put-after",
    "put-batch",
    "use",
    "watch",
    "ignore",
    "reserve",
    "reserve-with-timeout",
    "reserve-job",
    "reserve-batch",
    "delete",
    "delete-batch",
    "release",
    "bury",
    "touch",
    "cancel",
    "cancel-key",
    "peek",
    "peek-ready",
    "peek-delayed",
    "peek-buried",
    "kick",
    "kick-job",
    "pause-tube",
    "stats",
    "stats-job",
    "stats-tube",
    "list-tubes",
    "list-tube-used",
    "list-tubes-watched",
    "auth",
    "quit",
];

/// Every role: what a connection says of itself alone.
const ANYBODY: &[Role] = &[Producer, Consumer, Operator, Viewer];
const LOOK: &[Role] = &[Viewer, Operator];

/// What a command is about, for a token that is limited to some queues.
enum Reach<'a> {
    /// Itself, or jobs by their ids, which are looked at later.
    Anything,
    /// A tube that it names.
    Tube(&'a str),
    /// The tube that is used.
    Used,
    /// All tubes that are watched.
    Watched,
    /// The whole server.
    Server,
}

/// Who may carry out a command, beside admins, and what it is about.
fn needs<'a>(request: &Request<'a>) -> (&'static [Role], Reach<'a>) {
    match *request {
        Request::Put(_) | Request::PutBatch(_) => (&[Producer], Reach::Used),
        Request::Use { tube } => (ANYBODY, Reach::Tube(tube)),
        Request::Watch { tube } => (&[Consumer], Reach::Tube(tube)),
        Request::Ignore { .. } => (&[Consumer], Reach::Anything),
        Request::Reserve | Request::ReserveWithTimeout { .. } | Request::ReserveBatch { .. } => {
            (&[Consumer], Reach::Watched)
        }
        Request::ReserveJob { .. } | Request::Release { .. } | Request::Bury { .. } | Request::Touch { .. } => {
            (&[Consumer], Reach::Anything)
        }
        // Who may reserve a job by its id may end it in two steps, and may in one.
        Request::Delete { .. } | Request::DeleteBatch(_) => (&[Consumer, Operator], Reach::Anything),
        Request::Cancel { .. } | Request::KickJob { .. } => (&[Operator], Reach::Anything),
        Request::CancelKey { tube, .. } => (&[Producer, Operator], Reach::Tube(tube)),
        Request::Peek { .. } => (LOOK, Reach::Anything),
        Request::PeekReady | Request::PeekDelayed | Request::PeekBuried => (LOOK, Reach::Used),
        Request::Kick { .. } => (&[Operator], Reach::Used),
        Request::PauseTube { tube, .. } => (&[Operator], Reach::Tube(tube)),
        Request::Stats => (LOOK, Reach::Server),
        // Clients ask for a job's priority before they release it.
        Request::StatsJob { .. } => (&[Viewer, Operator, Consumer], Reach::Anything),
        Request::StatsTube { tube } => (LOOK, Reach::Tube(tube)),
        // A token that is limited is told its own.
        Request::ListTubes => (LOOK, Reach::Anything),
        Request::ListTubeUsed | Request::ListTubesWatched | Request::Auth { .. } | Request::Quit => {
            (ANYBODY, Reach::Anything)
        }
    }
}

/// The job that a request names by its id.
fn job_of(request: &Request<'_>) -> Option<JobId> {
    match *request {
        Request::ReserveJob { id }
        | Request::Delete { id }
        | Request::Release { id, .. }
        | Request::Bury { id, .. }
        | Request::Touch { id }
        | Request::Cancel { id }
        | Request::Peek { id }
        | Request::KickJob { id }
        | Request::StatsJob { id } => Some(JobId(id)),
        _ => None,
    }
}

/// What a connection has to go through that is asked for a token.
pub struct Gate {
    door: Arc<dyn Door>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// None before a token was shown.
    grant: Option<Grant>,
    wrong: u32,
}

/// What becomes of a command at the gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// It is carried out.
    Allowed,
    /// It was answered.
    Answered,
    /// It was answered, and the connection ends.
    Ended,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that nobody went through yet.
    #[must_use]
    pub fn new(door: Arc<dyn Door>) -> Gate {
        Gate { door, held: Mutex::default() }
    }

    /// Whether a token was shown that is known.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.held().grant.is_some()
    }

    /// Asks again for the token that was shown; false if it is not valid any more. Without one there is nothing to lose.
    #[must_use]
    pub fn is_still_open(&self) -> bool {
        let mut held = self.held();
        let Some(grant) = &held.grant else { return true };
        let renewed = self.door.renew(grant);
        held.grant = renewed.ok();
        held.grant.is_some()
    }

    /// In whose name whoever went through asks.
    pub(super) fn actor(&self) -> Option<Actor> {
        self.held().grant.as_ref().and_then(Grant::actor).cloned()
    }

    /// Changes whenever it is to be asked whether it is still open.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.door.changes()
    }

    /// Judges a command by what it is; which queue its job is of is asked later, with [`Gate::reaches_job`].
    #[cold]
    pub(super) fn judge(
        &self,
        request: &Request<'_>,
        engine: &Engine,
        session: SessionId,
        out: &mut Vec<u8>,
    ) -> Judged {
        let mut held = self.held();
        let word = match (request, &held.grant) {
            (Request::Auth { token }, _) => match self.door.admit(Some(token.0)) {
                Ok(grant) => {
                    held.grant = Some(grant);
                    Word::Authenticated
                }
                Err(_) => {
                    held.wrong += 1;
                    Word::BadToken
                }
            },
            (_, None) => Word::Unauthenticated,
            (request, Some(grant)) if may(grant, request, engine, session) => return Judged::Allowed,
            _ => Word::NotAllowed,
        };
        Answer::Word(word).write_to(out);
        if held.wrong >= WRONG_TOKENS { Judged::Ended } else { Judged::Answered }
    }

    /// Whether the job that a command names by its id, if it does, is of a queue that the token is for. What has to be looked
    /// up for it has been.
    #[cold]
    pub(super) fn reaches_named(&self, engine: &Engine, request: &Request<'_>) -> bool {
        job_of(request).is_none_or(|job| self.reaches_job(engine, job))
    }

    /// Whether that job, if it is there, is of a queue that the token is for.
    pub(super) fn reaches_job(&self, engine: &Engine, job: JobId) -> bool {
        let held = self.held();
        let Some(grant) = &held.grant else { return false };
        !grant.is_limited() || engine.job(job).is_none_or(|view| grant.covers(view.queue))
    }

    /// Whether the token is for that queue.
    pub(super) fn covers(&self, queue: &QueueName) -> bool {
        self.held().grant.as_ref().is_some_and(|grant| grant.covers(queue))
    }

    /// Whether the token is for some queues only.
    pub(super) fn is_limited(&self) -> bool {
        self.held().grant.as_ref().is_none_or(Grant::is_limited)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may(grant: &Grant, request: &Request<'_>, engine: &Engine, session: SessionId) -> bool {
    let (roles, reach) = needs(request);
    let covers = |queue| grant.covers(engine.queue_name(queue));
    grant.has_role(roles)
        && (!grant.is_limited()
            || match reach {
                Reach::Anything => true,
                Reach::Tube(tube) => QueueName::new(tube).is_ok_and(|queue| grant.covers(&queue)),
                Reach::Used => covers(engine.used(session)),
                Reach::Watched => engine.watched(session).iter().all(|&queue| covers(queue)),
                Reach::Server => false,
            })
}
