//! A session's commands on jobs that are not in memory: they stop until what they name was looked up.
//!
//! [`super::session`] asks here before each command, and brings near what it was given. Nothing here reads a file.

use super::ahead::{named, named_in};
use super::request::{Put, Request};
use rota_engine::command::Parent;
use rota_engine::engine::Engine;
use rota_engine::far::{FarAsOf, FarFound, Want};
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::{LOOK_UPS, LOOKED_UP_TOGETHER};
use rota_engine::session::SessionId;
use std::collections::HashSet;

/// What is wanted, and what was given.
#[derive(Debug, Default)]
pub(super) struct FarCommands {
    wants: Vec<Want>,
    /// As of when that was asked.
    as_of: FarAsOf,
    pub(super) given: Vec<(Want, FarFound)>,
    /// What is in memory, or not there at all, since it was looked up for the commands under way.
    known: Vec<(Want, FarFound)>,
    look_ups: u32,
}

/// A command that was put off.
#[derive(Debug)]
pub(super) enum Named {
    /// One that names a job alone, and what makes it of the job's id.
    Job(fn(u64) -> Request<'static>, u64),
    PeekDelayed,
    CancelKey(String, Vec<u8>),
    Put(Put),
    PutBatch(Vec<Option<Put>>),
    DeleteBatch(Vec<u64>),
}

impl Named {
    /// Keeps a request beyond the input that it stands in.
    pub(super) fn of(request: Request<'_>) -> Named {
        match request {
            Request::ReserveJob { id } => Named::Job(|id| Request::ReserveJob { id }, id),
            Request::Delete { id } => Named::Job(|id| Request::Delete { id }, id),
            Request::Cancel { id } => Named::Job(|id| Request::Cancel { id }, id),
            Request::Peek { id } => Named::Job(|id| Request::Peek { id }, id),
            Request::KickJob { id } => Named::Job(|id| Request::KickJob { id }, id),
            Request::StatsJob { id } => Named::Job(|id| Request::StatsJob { id }, id),
            Request::PeekDelayed => Named::PeekDelayed,
            Request::CancelKey { tube, key } => Named::CancelKey(tube.to_owned(), key.to_owned()),
            Request::Put(put) => Named::Put(put),
            Request::PutBatch(puts) => Named::PutBatch(puts),
            Request::DeleteBatch(ids) => Named::DeleteBatch(ids),
            other => unreachable!("{other:?} names no job"),
        }
    }

    /// The request again.
    pub(super) fn ask(self, ask: &mut dyn FnMut(Request<'_>)) {
        match self {
            Named::Job(request, id) => ask(request(id)),
            Named::PeekDelayed => ask(Request::PeekDelayed),
            Named::CancelKey(tube, key) => ask(Request::CancelKey { tube: &tube, key: &key }),
            Named::Put(put) => ask(Request::Put(put)),
            Named::PutBatch(puts) => ask(Request::PutBatch(puts)),
            Named::DeleteBatch(ids) => ask(Request::DeleteBatch(ids)),
        }
    }
}

impl FarCommands {
    pub(super) fn take_wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants)
    }

    /// Whether something has to be looked up before a command; it is wanted then.
    pub(super) fn wants(&mut self, engine: &Engine, what: impl FnOnce(&Engine) -> Option<Want>) -> bool {
        let unknown = what(engine).filter(|want| self.known.iter().all(|(known, _)| known != want));
        self.want(engine, unknown)
    }

    /// The same, of all that a command needs, which may be many.
    pub(super) fn wants_all(&mut self, engine: &Engine, all: impl IntoIterator<Item = Want>) -> bool {
        let known: HashSet<&Want> = self.known.iter().map(|(want, _)| want).collect();
        let unknown: Vec<Want> = all.into_iter().filter(|want| !known.contains(want)).collect();
        self.want(engine, unknown)
    }

    fn want(&mut self, engine: &Engine, unknown: impl IntoIterator<Item = Want>) -> bool {
        let before = self.wants.len();
        self.wants.extend(unknown);
        let is_wanted = self.wants.len() > before;
        if is_wanted {
            self.as_of = engine.far_as_of();
        }
        is_wanted
    }

    /// Wants what is known for a command as well, which is put off once more: it is let go meanwhile. Each time there is more to be wanted, so
    /// that it ends.
    pub(super) fn want_known_again(&mut self) {
        self.wants.extend(self.known.iter().map(|(want, _)| want.clone()));
    }

    /// Wants what the next commands name by id, as far as that can be seen at a glance: it saves them a stop each.
    pub(super) fn look_ahead(&mut self, engine: &Engine, input: &[u8]) {
        for line in input.split_inclusive(|&byte| byte == b'\n').take(LOOKED_UP_TOGETHER - 1) {
            let Some((verb, job)) = named_in(line) else { return };
            self.wants.extend(verb.want(engine, job));
        }
    }

    /// Brings near what was given; false if it has to be looked up once more, since it changed meanwhile.
    pub(super) fn bring_near(&mut self, engine: &mut Engine, now: Time) -> bool {
        if self.given.is_empty() {
            self.look_ups = 0;
            return true;
        }
        let given = std::mem::take(&mut self.given);
        let mut is_known = true;
        for (want, found) in given {
            if !engine.take_wanted(&want, &found, self.as_of, now) && self.look_ups < LOOK_UPS {
                self.wants.push(want.clone());
                is_known = false;
            }
            self.known.push((want, found));
        }
        if is_known {
            self.look_ups = 0;
        } else {
            self.look_ups += 1;
            self.as_of = engine.far_as_of();
            self.let_go(engine);
        }
        is_known
    }

    /// Lets what was brought near go again, where nothing happened to it.
    pub(super) fn let_go(&mut self, engine: &mut Engine) {
        if !self.known.is_empty() {
            self.known.drain(..).for_each(|(_, found)| engine.let_go(&found));
        }
    }
}

/// What a request names that may not be in memory.
pub(super) fn named_by(engine: &Engine, session: SessionId, request: &Request<'_>) -> Option<Want> {
    match *request {
        Request::PeekDelayed => engine.wanted_first(engine.used(session)),
        Request::CancelKey { tube, key } => engine.wanted_key(&name(tube), key),
        _ => named(request).and_then(|(verb, job)| verb.want(engine, job)),
    }
}

/// What a put names that may not be in memory: the job that has its key, and those that it waits for.
pub(super) fn named_by_put<'a>(
    engine: &'a Engine,
    used: &'a QueueName,
    put: &'a Put,
) -> impl Iterator<Item = Want> + 'a {
    let key = put.key.as_deref().and_then(|key| engine.wanted_key(used, key));
    key.into_iter().chain(put.after.iter().filter_map(|&id| engine.wanted_parent(&Parent::Id(JobId(id)))))
}

/// The name of a tube as the engine takes it.
pub(super) fn name(tube: &str) -> QueueName {
    QueueName::new(tube).expect("the parser lets no other names through")
}
