//! What the next commands of a client name, as far as that can be seen at a glance in what it has sent already.

use super::LINE_BYTES;
use super::grammar::{self, Line};
use super::request::Request;
use rota_engine::engine::Engine;
use rota_engine::far::Want;
use rota_engine::job::JobId;
use rota_engine::limits::TOUCHED_TOGETHER;

/// So many lines in a row that name no job end the look: a put and its body between two deletes do not.
const OTHERS: usize = 4;

/// Has the engine read the jobs of deletes and cancels that were sent together, side by side, before they are carried out.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Of how many commands to come the jobs were read.
    read: usize,
}

impl Ahead {
    /// Called before each of those commands, with what stands behind it.
    pub(super) fn look(&mut self, engine: &Engine, input: &[u8]) {
        if self.read > 0 {
            self.read -= 1;
        } else if engine.is_touch_worth_it() {
            self.read = read(engine, input);
        }
    }

    /// Has the first of these jobs read that one command ends.
    pub(super) fn touch(engine: &Engine, ids: &[u64]) {
        if engine.is_touch_worth_it() {
            let mut jobs = [JobId(0); TOUCHED_TOGETHER];
            jobs.iter_mut().zip(ids).for_each(|(job, &id)| *job = JobId(id));
            engine.touch(&jobs[..ids.len().min(TOUCHED_TOGETHER)]);
        }
    }
}

/// Has the jobs read that the next commands end; how many.
#[cold]
fn read(engine: &Engine, input: &[u8]) -> usize {
    let mut jobs = [JobId(0); TOUCHED_TOGETHER];
    let (mut found, mut others) = (0, 0);
    for line in input.split_inclusive(|&byte| byte == b'\n') {
        if let Some((Verb::Ends, job)) = named_in(line) {
            jobs[found] = job;
            (found, others) = (found + 1, 0);
        } else {
            others += 1;
        }
        if found == jobs.len() || others == OTHERS {
            break;
        }
    }
    engine.touch(&jobs[..found]);
    found
}

/// What a command does to the one job that it names.
pub(super) enum Verb {
    /// It ends it, and needs no more than its place.
    Ends,
    /// It needs it whole.
    Sees,
}

impl Verb {
    /// What has to be looked up before it, if that job is not in memory.
    pub(super) fn want(&self, engine: &Engine, job: JobId) -> Option<Want> {
        match self {
            Verb::Ends => engine.wanted_place(job),
            Verb::Sees => engine.wanted_job(job),
        }
    }
}

/// The job that a command names by its id, and no other.
pub(super) fn named(request: &Request<'_>) -> Option<(Verb, JobId)> {
    match *request {
        Request::Delete { id } | Request::Cancel { id } => Some((Verb::Ends, JobId(id))),
        Request::ReserveJob { id } | Request::Peek { id } | Request::KickJob { id } | Request::StatsJob { id } => {
            Some((Verb::Sees, JobId(id)))
        }
        _ => None,
    }
}

/// The same of the command in that line, if one is in it: it may be the body of a put as well. A line as long as only those on many
/// jobs are is not read.
pub(super) fn named_in(line: &[u8]) -> Option<(Verb, JobId)> {
    let line = line.strip_suffix(b"\r\n").filter(|line| line.len() < LINE_BYTES)?;
    match grammar::line(line) {
        Line::Request(request) => named(&request),
        _ => None,
    }
}
