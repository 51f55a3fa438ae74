//! The optional fields of what plain jobs and queues have nothing of: terms, what became of a job, how a queue is set up.
//!
//! Each is absent where there is nothing to say, so that it costs nothing. Their tags are those of `docs/disk-format.md`.

use super::fields::{Fields, nanos, put_length, put_numbers, put_optional, put_time};
use super::{RecordFault, schedules};
use crate::event::{KeptAnswer, KeptLease, KeptResult};
use crate::job::{JobId, JobState, LeaseToken, Time};
use crate::limits;
use crate::queue::{QueueSettings, QueueSync, Rate, Turns};
use crate::terms::{BackOff, Course, Ended, Expiry, OnParentFailure, Terms};
use std::time::Duration;

/// The optional fields of a put that are its terms.
mod terms_tag {
    pub(super) const KIND: u8 = 6;
    pub(super) const HEADERS: u8 = 7;
    pub(super) const AFTER: u8 = 8;
    pub(super) const ON_PARENT_FAILURE: u8 = 9;
    pub(super) const EXPIRES_AT: u8 = 10;
    pub(super) const BACK_OFF: u8 = 11;
    pub(super) const FAILED_PARENT: u8 = 12;
    pub(super) const LIMIT_KEY: u8 = 14;
    pub(super) const EXPIRES_WALL: u8 = 15;
}

/// Those of a whole job that say what became of it.
mod course_tag {
    pub(super) const WAITS_FOR: u8 = 20;
    pub(super) const HELD_BY: u8 = 21;
    pub(super) const ERROR: u8 = 22;
    pub(super) const ENDED: u8 = 23;
    pub(super) const RESULT: u8 = 24;
    pub(super) const REPLACED: u8 = 25;
}

/// That of a whole job which is held under a durable lease.
pub(super) const LEASE_TAG: u8 = 26;

/// Length of that lease: its token, when it was given, when it ends.
pub(super) const LEASE_BYTES: usize = 4 + 8 + 8 + 8;

/// Those of the end of a job.
pub(super) mod end_tag {
    pub(in super::super) const KEPT_UNTIL: u8 = 1;
    /// Of a completed one.
    pub(in super::super) const RESULT: u8 = 2;
    /// Of a cancelled one.
    pub(in super::super) const BECAUSE_OF: u8 = 2;
}

/// Those of a queue that is set up.
mod settings_tag {
    pub(super) const RETAIN: u8 = 1;
    pub(super) const MAX_JOBS: u8 = 2;
    pub(super) const MAX_BYTES: u8 = 3;
    pub(super) const CONCURRENCY: u8 = 4;
    pub(super) const RATE: u8 = 5;
    pub(super) const KEY_CONCURRENCY: u8 = 6;
    pub(super) const KEY_RATE: u8 = 7;
    pub(super) const DURABLE_LEASES: u8 = 8;
    pub(super) const SYNC: u8 = 9;
}

/// The most bytes that all of it adds to the record of a whole job.
pub(super) const MOST_BYTES: usize = {
    let terms = limits::KIND_BYTES
        + limits::HEADERS_BYTES
        + limits::PARENTS * 8
        + 1
        + 8
        + 21
        + 8
        + schedules::FIRED_BYTES
        + limits::LIMIT_KEY_BYTES;
    let course = limits::PARENTS * 8 + 8 + limits::ERROR_BYTES + 17 + limits::RESULT_BYTES;
    terms + course + 15 * 5
};

pub(super) fn put_terms(out: &mut Vec<u8>, terms: &Terms) {
    let Terms { kind, headers, after, on_parent_failure, expires_at, back_off, failed_parent, fired, limit_key } =
        terms;
    if let Some(kind) = kind {
        put_optional(out, terms_tag::KIND, kind.as_bytes());
    }
    if !headers.is_empty() {
        let mut value = Vec::new();
        for (name, text) in headers {
            value.push(u8::try_from(name.len()).expect("a header's name is at most 255 bytes long"));
            value.extend_from_slice(name.as_bytes());
            put_length(&mut value, text.len());
            value.extend_from_slice(text.as_bytes());
        }
        put_optional(out, terms_tag::HEADERS, &value);
    }
    put_jobs(out, terms_tag::AFTER, after);
    match on_parent_failure {
        OnParentFailure::Cancel => {}
        OnParentFailure::Run => put_optional(out, terms_tag::ON_PARENT_FAILURE, &[1]),
        OnParentFailure::Hold => put_optional(out, terms_tag::ON_PARENT_FAILURE, &[2]),
    }
    if let Some(Expiry::Engine(at)) = expires_at {
        put_optional(out, terms_tag::EXPIRES_AT, &at.0.to_le_bytes());
    }
    if let Some(BackOff { first, factor_hundredths, most, jitter_percent }) = back_off {
        let mut value = Vec::with_capacity(21);
        value.extend_from_slice(&nanos(*first).to_le_bytes());
        value.extend_from_slice(&factor_hundredths.to_le_bytes());
        value.extend_from_slice(&nanos(*most).to_le_bytes());
        value.push(*jitter_percent);
        put_optional(out, terms_tag::BACK_OFF, &value);
    }
    if let Some(parent) = failed_parent {
        put_optional(out, terms_tag::FAILED_PARENT, &parent.0.to_le_bytes());
    }
    if let Some(fired) = fired {
        schedules::put_fired(out, fired);
    }
    if let Some(key) = limit_key {
        put_optional(out, terms_tag::LIMIT_KEY, key.as_bytes());
    }
    if let Some(Expiry::Wall(at)) = expires_at {
        put_optional(out, terms_tag::EXPIRES_WALL, &at.0.to_le_bytes());
    }
}

fn put_jobs(out: &mut Vec<u8>, tag: u8, jobs: &[JobId]) {
    if !jobs.is_empty() {
        let value: Vec<u8> = jobs.iter().flat_map(|job| job.0.to_le_bytes()).collect();
        put_optional(out, tag, &value);
    }
}

pub(super) fn put_course(out: &mut Vec<u8>, course: &Course) {
    let Course { waits_for, held_by, error, ended, is_replaced } = course;
    put_jobs(out, course_tag::WAITS_FOR, waits_for);
    if let Some(parent) = held_by {
        put_optional(out, course_tag::HELD_BY, &parent.0.to_le_bytes());
    }
    if let Some(error) = error {
        put_optional(out, course_tag::ERROR, error);
    }
    if let Some(Ended { state, at, until, result }) = ended {
        let mut value = vec![match state {
            JobState::Cancelled => 2,
            JobState::Expired => 3,
            _ => 1,
        }];
        value.extend_from_slice(&at.0.to_le_bytes());
        value.extend_from_slice(&until.0.to_le_bytes());
        put_optional(out, course_tag::ENDED, &value);
        if let Some(result) = result {
            put_optional(out, course_tag::RESULT, result);
        }
    }
    if *is_replaced {
        put_optional(out, course_tag::REPLACED, &[]);
    }
}

/// Takes an optional field of a put into its terms; false if it is none of theirs.
pub(super) fn take_terms(terms: &mut Terms, tag: u8, value: &mut Fields<'_>) -> Result<bool, RecordFault> {
    match tag {
        terms_tag::KIND => terms.kind = Some(text(value.rest(), limits::KIND_BYTES, "kind")?),
        terms_tag::HEADERS => {
            if value.left.len() > limits::HEADERS_BYTES {
                return Err(RecordFault::BadField("headers"));
            }
            while !value.left.is_empty() {
                let name = text(value.name()?, 255, "header")?;
                let length = value.u32()? as usize;
                terms.headers.push((name, text(value.bytes(length)?, limits::HEADERS_BYTES, "header")?));
            }
        }
        terms_tag::AFTER => terms.after = jobs(value)?,
        terms_tag::ON_PARENT_FAILURE => {
            terms.on_parent_failure = match value.u8()? {
                1 => OnParentFailure::Run,
                2 => OnParentFailure::Hold,
                _ => return Err(RecordFault::BadField("parent failure")),
            };
        }
        terms_tag::EXPIRES_AT => terms.expires_at = Some(Expiry::Engine(value.time()?)),
        terms_tag::EXPIRES_WALL => terms.expires_at = Some(Expiry::Wall(value.time()?)),
        terms_tag::BACK_OFF => {
            let (first, factor_hundredths) = (value.span()?, value.u32()?);
            let back_off = BackOff { first, factor_hundredths, most: value.span()?, jitter_percent: value.u8()? };
            terms.back_off = Some(back_off).filter(BackOff::is_sound);
            terms.back_off.ok_or(RecordFault::BadField("back-off"))?;
        }
        schedules::FIRED_TAG => terms.fired = Some(schedules::take_fired(value)?),
        terms_tag::FAILED_PARENT => terms.failed_parent = Some(value.job()?),
        terms_tag::LIMIT_KEY => terms.limit_key = Some(text(value.rest(), limits::LIMIT_KEY_BYTES, "limit key")?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Takes an optional field of a whole job into what became of it; false if it is none of that.
pub(super) fn take_course(course: &mut Course, tag: u8, value: &mut Fields<'_>) -> Result<bool, RecordFault> {
    match tag {
        course_tag::WAITS_FOR => course.waits_for = jobs(value)?,
        course_tag::HELD_BY => course.held_by = Some(value.job()?),
        course_tag::ERROR => course.error = Some(bounded(value, limits::ERROR_BYTES, "error")?),
        course_tag::ENDED => {
            let state = match value.u8()? {
                1 => JobState::Done,
                2 => JobState::Cancelled,
                3 => JobState::Expired,
                _ => return Err(RecordFault::BadField("final state")),
            };
            course.ended = Some(Ended { state, at: value.time()?, until: value.time()?, result: None });
        }
        course_tag::RESULT => {
            let ended = course.ended.as_mut().ok_or(RecordFault::BadField("result"))?;
            ended.result = Some(bounded(value, limits::RESULT_BYTES, "result")?);
        }
        course_tag::REPLACED => course.is_replaced = true,
        _ => return Ok(false),
    }
    Ok(true)
}

pub(super) fn put_token(out: &mut Vec<u8>, token: LeaseToken) {
    out.extend_from_slice(&token.epoch.to_le_bytes());
    out.extend_from_slice(&token.counter.to_le_bytes());
}

pub(super) fn take_token(fields: &mut Fields<'_>) -> Result<LeaseToken, RecordFault> {
    Ok(LeaseToken { epoch: fields.u32()?, counter: fields.u64()? })
}

pub(super) fn put_lease(out: &mut Vec<u8>, lease: &KeptLease) {
    let KeptLease { token, since, deadline } = *lease;
    let mut value = Vec::with_capacity(LEASE_BYTES);
    put_token(&mut value, token);
    put_time(&mut value, since);
    put_time(&mut value, deadline);
    put_optional(out, LEASE_TAG, &value);
}

pub(super) fn take_lease(value: &mut Fields<'_>) -> Result<KeptLease, RecordFault> {
    Ok(KeptLease { token: take_token(value)?, since: value.time()?, deadline: value.time()? })
}

pub(super) fn text(bytes: &[u8], most: usize, what: &'static str) -> Result<Box<str>, RecordFault> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= most);
    text.map(Box::from).ok_or(RecordFault::BadField(what))
}

pub(super) fn bounded(value: &mut Fields<'_>, most: usize, what: &'static str) -> Result<Box<[u8]>, RecordFault> {
    let bytes = value.rest();
    if bytes.len() > most { Err(RecordFault::BadField(what)) } else { Ok(bytes.into()) }
}

fn jobs(value: &mut Fields<'_>) -> Result<Vec<JobId>, RecordFault> {
    let (jobs, rest) = value.rest().as_chunks::<8>();
    let jobs: Vec<JobId> = jobs.iter().map(|job| JobId(u64::from_le_bytes(*job))).collect();
    let is_rising = jobs.is_sorted_by(|a, b| a < b);
    let is_sound = rest.is_empty() && is_rising && (1..=limits::PARENTS).contains(&jobs.len());
    if is_sound { Ok(jobs) } else { Err(RecordFault::BadField("list of jobs")) }
}

pub(super) fn put_kept_result(out: &mut Vec<u8>, kept: &KeptResult) {
    put_optional(out, end_tag::KEPT_UNTIL, &kept.until.0.to_le_bytes());
    if let Some(result) = &kept.result {
        put_optional(out, end_tag::RESULT, result);
    }
}

pub(super) fn put_kept_until(out: &mut Vec<u8>, kept_until: Option<Time>) {
    if let Some(until) = kept_until {
        put_optional(out, end_tag::KEPT_UNTIL, &until.0.to_le_bytes());
    }
}

pub(super) fn put_answer(out: &mut Vec<u8>, kept: &KeptAnswer) {
    let KeptAnswer { key, fingerprint, answer, until } = kept;
    out.push(u8::try_from(key.len()).expect("a key is at most 255 bytes long"));
    out.extend_from_slice(key);
    out.extend_from_slice(&fingerprint.to_le_bytes());
    out.extend_from_slice(&until.0.to_le_bytes());
    put_length(out, answer.len());
    out.extend_from_slice(answer);
}

pub(super) fn answer_key<'r>(fields: &mut Fields<'r>) -> Result<&'r [u8], RecordFault> {
    let key = fields.name()?;
    if key.is_empty() { Err(RecordFault::BadField("key of an answer")) } else { Ok(key) }
}

pub(super) fn take_answer(fields: &mut Fields<'_>) -> Result<KeptAnswer, RecordFault> {
    let key = answer_key(fields)?.into();
    let (fingerprint, until) = (fields.u64()?, fields.time()?);
    let length = fields.u32()? as usize;
    if length > limits::ANSWER_BYTES {
        return Err(RecordFault::BadField("answer"));
    }
    Ok(KeptAnswer { key, fingerprint, answer: fields.bytes(length)?.into(), until })
}

pub(super) fn put_failed(out: &mut Vec<u8>, failed: &[(JobId, Time)]) {
    put_length(out, failed.len());
    for (job, at) in failed {
        out.extend_from_slice(&job.0.to_le_bytes());
        out.extend_from_slice(&at.0.to_le_bytes());
    }
}

pub(super) fn take_failed(fields: &mut Fields<'_>) -> Result<Box<[(JobId, Time)]>, RecordFault> {
    let count = fields.u32()? as usize;
    if !(1..=limits::STEP_OBJECTS).contains(&count) {
        return Err(RecordFault::BadField("count of jobs"));
    }
    (0..count).map(|_| Ok((fields.job()?, fields.time()?))).collect()
}

pub(super) fn put_settings(out: &mut Vec<u8>, settings: &QueueSettings) {
    let QueueSettings { retain, max_jobs, max_bytes, concurrency, rate, per_key, durable_leases, sync } = settings;
    let numbers = [
        (settings_tag::RETAIN, retain.map(nanos)),
        (settings_tag::MAX_JOBS, *max_jobs),
        (settings_tag::MAX_BYTES, *max_bytes),
    ];
    for (tag, number) in numbers {
        if let Some(number) = number {
            put_optional(out, tag, &number.to_le_bytes());
        }
    }
    let of_key = per_key.unwrap_or_default();
    for (tags, most, rate) in [
        ((settings_tag::CONCURRENCY, settings_tag::RATE), *concurrency, *rate),
        ((settings_tag::KEY_CONCURRENCY, settings_tag::KEY_RATE), of_key.concurrency, of_key.rate),
    ] {
        if let Some(most) = most {
            put_optional(out, tags.0, &most.to_le_bytes());
        }
        if let Some(Rate { count, per }) = rate {
            let mut value = count.to_le_bytes().to_vec();
            value.extend_from_slice(&nanos(per).to_le_bytes());
            put_optional(out, tags.1, &value);
        }
    }
    if *durable_leases {
        put_optional(out, settings_tag::DURABLE_LEASES, &[]);
    }
    match sync {
        None => {}
        Some(QueueSync::Always) => put_optional(out, settings_tag::SYNC, &[1]),
    }
}

/// What was done to jobs beside their begin and their end, of a queue that is kept and of all; an older reader may lose it.
pub(super) const TURNS_TAG: u8 = 129;

/// Writes those numbers and the turns, unless all of them are zero.
pub(super) fn put_turns(out: &mut Vec<u8>, numbers: &[u64], turns: Turns) {
    let Turns { failed, released, buried, kicked } = turns;
    let all: Vec<u64> = numbers.iter().copied().chain([failed, released, buried, kicked]).collect();
    if all.iter().any(|number| *number > 0) {
        let mut value = Vec::new();
        put_numbers(&mut value, &all);
        put_optional(out, TURNS_TAG, &value);
    }
}

pub(super) fn take_turns(value: &mut Fields<'_>) -> Result<Turns, RecordFault> {
    Ok(Turns { failed: value.u64()?, released: value.u64()?, buried: value.u64()?, kicked: value.u64()? })
}

/// Reads how a queue is set up, which is all that is left of a record but for what was done to its jobs: that `turns`
/// reads, where there may be such.
pub(super) fn take_settings(
    fields: &mut Fields<'_>,
    kind: u8,
    mut turns: impl FnMut(&mut Fields<'_>) -> Result<bool, RecordFault>,
) -> Result<QueueSettings, RecordFault> {
    let mut settings = QueueSettings::default();
    fields.each_optional(kind, |tag, mut value| {
        match tag {
            settings_tag::RETAIN => settings.retain = Some(Duration::from_nanos(value.u64()?)),
            settings_tag::MAX_JOBS => settings.max_jobs = Some(value.u64()?),
            settings_tag::MAX_BYTES => settings.max_bytes = Some(value.u64()?),
            settings_tag::CONCURRENCY => settings.concurrency = Some(value.u32()?),
            settings_tag::RATE => settings.rate = Some(Rate { count: value.u32()?, per: value.span()? }),
            settings_tag::KEY_CONCURRENCY => {
                settings.per_key.get_or_insert_default().concurrency = Some(value.u32()?);
            }
            settings_tag::KEY_RATE => {
                let rate = Rate { count: value.u32()?, per: value.span()? };
                settings.per_key.get_or_insert_default().rate = Some(rate);
            }
            settings_tag::DURABLE_LEASES => settings.durable_leases = true,
            settings_tag::SYNC => {
                settings.sync = match value.u8()? {
                    1 => Some(QueueSync::Always),
                    _ => return Err(RecordFault::BadField("sync")),
                };
            }
            TURNS_TAG if turns(&mut value)? => {}
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(settings)
}
