//! Puts that name themselves by an `Idempotency-Key`: sent again, they put nothing again.
//!
//! What came of the first is in the log with its jobs, both or neither, and is kept for a day. Of several jobs those that were
//! put are answered as before, and those that were refused are tried again.
//!
//! Each token has keys of its own, so that nobody stands in another's way, or reads what another was answered.

use super::Job;
use super::put::{Put, TooLarge};
use crate::access::PASS_ID_BYTES;
use crate::http::access::Grant;
use crate::http::api::Desk;
use crate::http::problem::{Kind, Problem};
use crate::http::refused;
use crate::limits::REPLAYED_BYTES;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rota_engine::command::{Command, Refusal};
use rota_engine::engine::Engine;
use rota_engine::far::Want;
use rota_engine::job::{JobId, QueueName};
use rota_engine::limits::{ANSWER_KEY_BYTES, KEY_BYTES, PARENTS_AT_ONCE};
use rota_engine::refused::PutRefused;
use std::borrow::Cow;

/// The header that names a request.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header that says that something was answered as before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The bytes that are kept of each job.
const ENTRY_BYTES: usize = 9;

/// Between a token's id and the key that it was shown with: no key has it.
const BEHIND_ID: u8 = b' ';

// A key that is taken here is one that the engine takes.
const _: () = assert!(PASS_ID_BYTES + 1 + KEY_BYTES <= ANSWER_KEY_BYTES);

/// What a request named itself.
pub(super) struct Memo {
    /// As it is kept: the id of its token, [`BEHIND_ID`] and what the request says; that alone where nobody is asked for tokens.
    key: Box<[u8]>,
    fingerprint: u64,
}

/// What came of one job.
pub(super) struct Outcome {
    /// Whether its put made a job.
    pub(super) is_new: bool,
    pub(super) id: JobId,
    /// None where a request before put it, and it is over by now, or is one of too many that say much.
    pub(super) job: Option<Job>,
}

/// What came of a request, as far as that was decided.
pub(super) struct Outcomes {
    pub(super) jobs: Vec<Result<Outcome, Problem>>,
    /// Whether something is answered as before.
    pub(super) is_replayed: bool,
    /// How much jobs say that are answered as before, in bytes.
    replayed_bytes: usize,
    /// How many jobs it is about.
    all: usize,
}

/// The jobs to put, as many at a time as are decided under one lock: who waits for many others is looked at for long.
pub(super) fn in_turns(puts: Vec<Result<Put, TooLarge>>) -> Vec<Vec<Result<Put, TooLarge>>> {
    let parents = |put: &Result<Put, TooLarge>| put.as_ref().map_or(0, Put::parents);
    if puts.iter().map(parents).sum::<usize>() <= PARENTS_AT_ONCE {
        return vec![puts];
    }
    let (mut turns, mut named) = (vec![Vec::new()], 0);
    for put in puts {
        named += parents(&put);
        if named > PARENTS_AT_ONCE {
            named = parents(&put);
            turns.push(Vec::new());
        }
        turns.last_mut().expect("there is one").push(put);
    }
    turns
}

/// The key by which a request named itself, if it did, as it is kept.
pub(super) fn key(headers: &HeaderMap, grant: &Grant) -> Result<Option<Box<[u8]>>, Problem> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(key) = keys.next().map(HeaderValue::as_bytes) else { return Ok(None) };
    let is_sound = (1..=KEY_BYTES).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if keys.next().is_some() || !is_sound {
        let detail = format!("an Idempotency-Key is one header of 1 to {KEY_BYTES} visible ASCII characters");
        return Err(Problem::new(Kind::MalformedRequest, detail).hint("send a new UUID with each new request"));
    }
    let Some(pass) = grant.pass() else { return Ok(Some(key.into())) };
    debug_assert!(pass.id.len() <= PASS_ID_BYTES, "{}", pass.id);
    Ok(Some([pass.id.as_bytes(), &[BEHIND_ID], key].concat().into()))
}

impl Memo {
    /// Reads all of the body: not to be called where others wait.
    pub(super) fn of(key: Box<[u8]>, body: &[u8]) -> Memo {
        Memo { key, fingerprint: fingerprint(body) }
    }

    /// What has to be in memory to say of the jobs that were put before how they are.
    pub(super) fn wanted(&self, engine: &Engine) -> Vec<Want> {
        let (_, answer) = engine.answer_of(&self.key).unwrap_or_default();
        entries(answer).flatten().filter_map(|(_, job)| engine.wanted_job(job)).collect()
    }

    /// As the request says it.
    fn said(&self) -> Cow<'_, str> {
        let own = self.key.rsplit(|byte| *byte == BEHIND_ID).next();
        String::from_utf8_lossy(own.unwrap_or_default())
    }
}

impl Outcomes {
    /// Nothing was decided yet of so many jobs.
    pub(super) fn of(all: usize) -> Outcomes {
        Outcomes { jobs: Vec::with_capacity(all), is_replayed: false, replayed_bytes: 0, all }
    }

    /// Puts the next jobs, as far as they were not put before, and has it kept what came of all so far. A crash between two
    /// turns leaves those that come later as if they had been refused: they are tried again with the request.
    pub(super) fn decide(
        &mut self,
        memo: Option<&Memo>,
        puts: Vec<Result<Put, TooLarge>>,
        desk: &mut Desk<'_>,
    ) -> Result<(), Problem> {
        let mut before = memo.map_or_else(|| Ok(Vec::new()), |memo| before(memo, desk))?;
        if memo.is_some() && !desk.shared().engine.has_room_for_answer(self.all * ENTRY_BYTES) {
            puts.iter().flatten().for_each(|put| put.refuse(desk, PutRefused::DiskFull));
            return Err(refused(Refusal::NoRoom));
        }
        before.resize(self.all, None);
        let first = self.jobs.len();
        let mut is_put = false;
        for (put, before) in puts.into_iter().zip(&before[first..]) {
            // Its token may have been for the queue only then.
            let reached = before.filter(|_| desk.grant().covers(queue_of(&put)));
            self.is_replayed |= reached.is_some();
            self.jobs.push(match reached {
                Some((is_new, id)) => {
                    let view = desk.job(id).filter(|view| {
                        self.replayed_bytes += Job::bytes(view);
                        self.replayed_bytes <= REPLAYED_BYTES
                    });
                    let job = view.map(|view| Job::of(&view, &desk.shared().engine));
                    Ok(Outcome { is_new, id, job })
                }
                None => put.map_err(|put| put.tell(desk)).and_then(|put| put.decide(desk)).map(|(is_new, job)| {
                    is_put = true;
                    Outcome { is_new, id: job.id.0, job: Some(job) }
                }),
            });
        }
        if let Some(Memo { key, fingerprint }) = memo.filter(|_| is_put) {
            // Of those that come later, the same request may have put some meanwhile, sent once more.
            let later = before[self.jobs.len()..].iter().map(|before| entry(*before));
            // What is not shown again was put all the same.
            let decided = self.jobs.iter().zip(&before).map(|(job, before)| match job {
                Ok(job) => entry(Some((job.is_new, job.id))),
                Err(_) => entry(*before),
            });
            let answer: Vec<u8> = decided.chain(later).flatten().collect();
            let kept = desk.execute(Command::KeepAnswer { key, fingerprint: *fingerprint, answer: &answer });
            // There was room for it before the puts, and each of those left more than it needs.
            debug_assert!(kept.is_ok(), "{kept:?}");
        }
        Ok(())
    }

    /// The next jobs were not decided on.
    ///
    /// # Errors
    /// The problem itself, if none was before.
    pub(super) fn refuse(&mut self, count: usize, problem: Problem) -> Result<(), Problem> {
        if self.jobs.is_empty() {
            return Err(problem);
        }
        self.jobs.extend(std::iter::repeat_n(problem, count).map(Err));
        Ok(())
    }
}

fn queue_of(put: &Result<Put, TooLarge>) -> &QueueName {
    put.as_ref().map_or_else(TooLarge::queue, Put::queue)
}

/// What came of the jobs of the same request before; `None` for those that were refused.
fn before(memo: &Memo, desk: &Desk<'_>) -> Result<Vec<Option<(bool, JobId)>>, Problem> {
    let Some((fingerprint, answer)) = desk.shared().engine.answer_of(&memo.key) else { return Ok(Vec::new()) };
    if fingerprint != memo.fingerprint {
        let key = memo.said();
        let detail = format!("another request, with another body, had the Idempotency-Key {key:?}");
        return Err(Problem::new(Kind::IdempotencyKeyReused, detail));
    }
    Ok(entries(answer).collect())
}

/// What a kept answer says of each put: whether it made a job, and which job that is; `None` of one that was refused.
fn entries(answer: &[u8]) -> impl Iterator<Item = Option<(bool, JobId)>> {
    let (entries, _) = answer.as_chunks::<ENTRY_BYTES>();
    entries.iter().map(|[kind, id @ ..]| Some((*kind == 1, JobId(u64::from_le_bytes(*id)))).filter(|_| *kind > 0))
}

fn entry(put: Option<(bool, JobId)>) -> [u8; ENTRY_BYTES] {
    let (kind, id) = match put {
        Some((is_new, id)) => (if is_new { 1 } else { 2 }, id.0),
        None => (0, 0),
    };
    let mut entry = [kind; ENTRY_BYTES];
    entry[1..].copy_from_slice(&id.to_le_bytes());
    entry
}

/// What tells a body from another by accident: FNV-1a of 64 bits (Fowler, Noll, Vo).
fn fingerprint(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
