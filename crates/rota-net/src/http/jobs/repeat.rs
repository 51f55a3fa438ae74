//! Puts that name themselves by an `Idempotency-Key`: sent again, they put nothing again.
//!
//! What came of the first is in the log with its jobs, both or neither, and is kept for a day. Of several jobs those that were
//! put are answered as before, and those that were refused are tried again.

use super::Job;
use super::put::Put;
use crate::http::api::Desk;
use crate::http::problem::{Kind, Problem};
use crate::http::refused;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rota_engine::command::{Command, Refusal};
use rota_engine::job::JobId;
use rota_engine::limits::{ANSWER_KEY_BYTES, KEY_BYTES};
use std::iter::repeat;

/// The header that names a request.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header that says that something was answered as before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The bytes that are kept of each job.
const ENTRY_BYTES: usize = 9;

// A key that is taken here is one that the engine takes.
const _: () = assert!(KEY_BYTES <= ANSWER_KEY_BYTES);

/// What a request named itself.
pub(super) struct Memo {
    key: Box<[u8]>,
    fingerprint: u64,
}

/// What came of one job.
pub(super) struct Outcome {
    /// Whether its put made a job.
    pub(super) is_new: bool,
    pub(super) id: JobId,
    /// None where a request before put it, and it is over by now.
    pub(super) job: Option<Job>,
}

/// What came of a request.
pub(super) struct Outcomes {
    pub(super) jobs: Vec<Result<Outcome, Problem>>,
    /// Whether something is answered as before.
    pub(super) is_replayed: bool,
}

/// The key by which a request named itself, if it did.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<Box<[u8]>>, Problem> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(key) = keys.next().map(HeaderValue::as_bytes) else { return Ok(None) };
    let is_sound = (1..=KEY_BYTES).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if keys.next().is_some() || !is_sound {
        let detail = format!("an Idempotency-Key is one header of 1 to {KEY_BYTES} visible ASCII characters");
        return Err(Problem::new(Kind::MalformedRequest, detail).hint("send a new UUID with each new request"));
    }
    Ok(Some(key.into()))
}

impl Memo {
    /// Reads all of the body: not to be called where others wait.
    pub(super) fn of(key: Box<[u8]>, body: &[u8]) -> Memo {
        Memo { key, fingerprint: fingerprint(body) }
    }
}

/// Puts what was not put before, and has it kept what came of that.
pub(super) fn decide(
    memo: Option<&Memo>,
    puts: Vec<Result<Put, Problem>>,
    desk: &mut Desk<'_>,
) -> Result<Outcomes, Problem> {
    let before = memo.map_or_else(|| Ok(Vec::new()), |memo| before(memo, desk))?;
    if memo.is_some() && !desk.shared().engine.has_room_for_answer(puts.len() * ENTRY_BYTES) {
        return Err(refused(Refusal::NoRoom));
    }
    let is_replayed = before.iter().any(Option::is_some);
    let mut is_put = false;
    let mut jobs = Vec::with_capacity(puts.len());
    for (put, before) in puts.into_iter().zip(before.into_iter().chain(repeat(None))) {
        jobs.push(match before {
            Some((is_new, id)) => {
                let job = desk.job(id).map(|view| Job::of(&view, &desk.shared().engine));
                Ok(Outcome { is_new, id, job })
            }
            None => put.and_then(|put| put.decide(desk)).map(|(is_new, job)| {
                is_put = true;
                Outcome { is_new, id: job.id.0, job: Some(job) }
            }),
        });
    }
    if let Some(Memo { key, fingerprint }) = memo.filter(|_| is_put) {
        let answer: Vec<u8> = jobs.iter().flat_map(entry).collect();
        let kept = desk.execute(Command::KeepAnswer { key, fingerprint: *fingerprint, answer: &answer });
        // There was room for it before the puts, and each of those left more than it needs.
        debug_assert!(kept.is_ok(), "{kept:?}");
    }
    Ok(Outcomes { jobs, is_replayed })
}

/// What came of the jobs of the same request before; `None` for those that were refused.
fn before(memo: &Memo, desk: &Desk<'_>) -> Result<Vec<Option<(bool, JobId)>>, Problem> {
    let Some((fingerprint, answer)) = desk.shared().engine.answer_of(&memo.key) else { return Ok(Vec::new()) };
    if fingerprint != memo.fingerprint {
        let key = String::from_utf8_lossy(&memo.key);
        let detail = format!("another request, with another body, had the Idempotency-Key {key:?}");
        return Err(Problem::new(Kind::IdempotencyKeyReused, detail));
    }
    let (entries, _) = answer.as_chunks::<ENTRY_BYTES>();
    Ok(entries
        .iter()
        .map(|[kind, id @ ..]| Some((*kind == 1, JobId(u64::from_le_bytes(*id)))).filter(|_| *kind > 0))
        .collect())
}

fn entry(job: &Result<Outcome, Problem>) -> [u8; ENTRY_BYTES] {
    let (kind, id) = match job {
        Ok(outcome) => (if outcome.is_new { 1 } else { 2 }, outcome.id.0),
        Err(_) => (0, 0),
    };
    let mut entry = [kind; ENTRY_BYTES];
    entry[1..].copy_from_slice(&id.to_le_bytes());
    entry
}

/// What tells a body from another by accident: FNV-1a of 64 bits (Fowler, Noll, Vo).
fn fingerprint(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
