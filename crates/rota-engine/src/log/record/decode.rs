//! From a record's bytes to its event. Bytes are never trusted.

use super::fields::Fields;
use super::rest::{bounded, end_tag};
use super::{
    RecordFault, RecordHeader, VERSION, bury_tag, fail_tag, kind, notes, numbers_tag, put_tag, rest, schedules,
};
use crate::event::{BuryReason, Event, KeptJob, KeptNumbers, KeptQueue, KeptResult, PutJob};
use crate::job::{JobTally, Priority, QueueName};
use crate::limits;
use crate::log::LoggedEvent;
use crate::queue::{QueueId, QueueTotals, Turns};
use crate::session::{Actor, SessionId};
use crate::terms::{Course, Terms};

/// The queue name and the actor read last: most records name those that the record before named.
#[derive(Debug, Default)]
pub(crate) struct NameCache {
    last: Option<QueueName>,
    actor: Option<Actor>,
}

impl NameCache {
    /// What stands for the queue until its name is resolved.
    const UNRESOLVED: QueueId = QueueId(u32::MAX);

    fn keep(&mut self, name: &[u8]) -> Result<QueueId, RecordFault> {
        if self.last.as_ref().is_none_or(|last| last.as_str().as_bytes() != name) {
            let text = std::str::from_utf8(name).map_err(|_| RecordFault::BadField("queue name"))?;
            self.last = Some(QueueName::new(text).map_err(|_| RecordFault::BadField("queue name"))?);
        }
        Ok(NameCache::UNRESOLVED)
    }
}

/// Reads the event of the record that `bytes` are; `None` if it is of a kind that may be passed over.
pub(crate) fn decode_record<'n>(
    bytes: &[u8],
    names: &'n mut NameCache,
) -> Result<Option<LoggedEvent<'n>>, RecordFault> {
    RecordHeader::read(bytes)?.event(bytes, names)
}

/// Reads a payload of a type and version.
pub(in crate::log) fn decode_payload<'n>(
    kind: u8,
    version: u8,
    skippable: bool,
    payload: &[u8],
    names: &'n mut NameCache,
) -> Result<Option<LoggedEvent<'n>>, RecordFault> {
    let mut fields = Fields::of(payload);
    let event = if version == VERSION { decode_event(kind, &mut fields, names)? } else { None };
    match event {
        Some(event) => {
            let has_actor = fields.take_actor(&mut names.actor)?;
            let names_queue = matches!(
                event,
                Event::JobPut(_)
                    | Event::JobReplaced(_)
                    | Event::QueuePaused { .. }
                    | Event::QueueConfigured { .. }
                    | Event::QueueDropped { .. }
                    | Event::JobKept(_)
                    | Event::QueueKept(_)
            );
            Ok(Some(LoggedEvent {
                event,
                queue: names.last.as_ref().filter(|_| names_queue),
                actor: names.actor.as_ref().filter(|_| has_actor),
            }))
        }
        None if skippable => Ok(None),
        None => Err(RecordFault::UnknownType { kind, version }),
    }
}

/// Reads the fields of a type; `None` if it does not know the type.
fn decode_event(kind: u8, fields: &mut Fields<'_>, names: &mut NameCache) -> Result<Option<Event>, RecordFault> {
    let event = match kind {
        kind::STARTED => {
            Event::Started { epoch: fields.u32()?, engine_time: fields.time()?, wall_time: fields.time()? }
        }
        kind::NUMBERS_RESERVED => Event::NumbersReserved { job_ids_below: fields.u64()?, seqs_below: fields.u64()? },
        kind::STOPPED => Event::Stopped { next_job_id: fields.u64()?, next_seq: fields.u64()? },
        kind::JOB_PUT | kind::JOB_KEPT | kind::JOB_REPLACED => return decode_put(kind, fields, names).map(Some),
        kind::JOB_BURIED => return decode_burial(fields).map(Some),
        kind::JOB_FAILED => return decode_failure(fields).map(Some),
        kind::JOB_COMPLETED | kind::JOB_CANCELLED | kind::JOB_EXPIRED => return decode_end(kind, fields).map(Some),
        kind::JOB_RELEASED => Event::JobReleased {
            job: fields.job()?,
            priority: Priority(fields.u32()?),
            delay: fields.span()?,
            run_at: fields.time()?,
            reserves: fields.u32()?,
        },
        kind::JOB_KICKED => Event::JobKicked { job: fields.job()?, run_at: fields.time()? },
        kind::LEASE_LOST => Event::LeaseLost { job: fields.job()?, reserves: fields.u32()? },
        kind::LEASE_GIVEN => Event::LeaseGiven {
            job: fields.job()?,
            session: SessionId::PAST,
            token: rest::take_token(fields)?,
            deadline: fields.time()?,
            is_durable: true,
        },
        kind::LEASE_EXTENDED => Event::LeaseExtended { job: fields.job()?, deadline: fields.time()?, is_durable: true },
        kind::LEASE_DROPPED => Event::LeaseDropped { job: fields.job()?, is_durable: true },
        kind::QUEUE_PAUSED => {
            let until = fields.time()?;
            let length = fields.span()?;
            Event::QueuePaused { queue: names.keep(fields.name()?)?, until, length }
        }
        kind::JOB_PULLED => Event::JobPulled { job: fields.job()?, run_at: fields.time()? },
        kind::QUEUE_DROPPED => Event::QueueDropped { queue: names.keep(fields.name()?)? },
        kind::CLOCK_STEPPED => Event::ClockStepped { engine_time: fields.time()?, wall_time: fields.time()? },
        kind::QUEUE_KEPT => {
            let mut totals = QueueTotals {
                puts: fields.u64()?,
                deletes: fields.u64()?,
                pauses: fields.u64()?,
                lost_leases: fields.u64()?,
                ..QueueTotals::default()
            };
            let (paused_until, pause_length) = (fields.time()?, fields.span()?);
            let queue = names.keep(fields.name()?)?;
            let settings = rest::take_settings(fields, kind, |value| {
                (totals.cancelled, totals.expired) = (value.u64()?, value.u64()?);
                totals.turns = rest::take_turns(value)?;
                Ok(true)
            })?;
            let settings = (!settings.is_empty()).then(|| Box::new(settings));
            return Ok(Some(Event::QueueKept(Box::new(KeptQueue {
                queue,
                totals,
                paused_until,
                pause_length,
                settings,
            }))));
        }
        kind::QUEUE_CONFIGURED => {
            let queue = names.keep(fields.name()?)?;
            let settings = Box::new(rest::take_settings(fields, kind, |_| Ok(false))?);
            return Ok(Some(Event::QueueConfigured { queue, settings }));
        }
        kind::NUMBERS_KEPT => return decode_numbers(fields).map(Some),
        kind::ANSWER_KEPT => Event::AnswerKept(Box::new(rest::take_answer(fields)?)),
        kind::FAILED_KEPT => Event::FailedKept(rest::take_failed(fields)?),
        kind::NOTED => return Ok(notes::take_note(fields)?.map(|note| Event::Noted(Box::new(note)))),
        _ => return schedules::decode(kind, fields),
    };
    // No other type has optional fields of its own so far, so every tag below 128 is one of a newer server.
    fields.each_optional(kind, |_, _| Ok(false))?;
    Ok(Some(event))
}

fn decode_numbers(fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let mut kept = KeptNumbers {
        oldest_segment: fields.u64()?,
        puts: fields.u64()?,
        completed: fields.u64()?,
        cancelled: fields.u64()?,
        expired: 0,
        lost_leases: fields.u64()?,
        turns: Turns::default(),
        epoch: fields.u32()?,
        next_job_id: fields.u64()?,
        job_ids_below: fields.u64()?,
        next_seq: fields.u64()?,
        seqs_below: fields.u64()?,
        burials: fields.u64()?,
        engine_time: fields.time()?,
        wall_time: fields.time()?,
        far_jobs: None,
    };
    fields.each_optional(kind::NUMBERS_KEPT, |tag, mut value| {
        match tag {
            numbers_tag::FAR_JOBS => kept.far_jobs = Some(value.u32()?),
            numbers_tag::EXPIRED => kept.expired = value.u64()?,
            rest::TURNS_TAG => kept.turns = rest::take_turns(&mut value)?,
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(Event::NumbersKept(Box::new(kept)))
}

fn decode_burial(fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let job = fields.job()?;
    let priority = Priority(fields.u32()?);
    let reason = match fields.u8()? {
        1 => BuryReason::Asked,
        2 => BuryReason::LostLeases,
        3 => BuryReason::Attempts,
        _ => return Err(RecordFault::BadField("reason")),
    };
    let reserves = fields.u32()?;
    let (mut number, mut error) = (0, None);
    fields.each_optional(kind::JOB_BURIED, |tag, mut value| {
        match tag {
            bury_tag::NUMBER => number = value.u64()?,
            bury_tag::ERROR => error = Some(bounded(&mut value, limits::ERROR_BYTES, "error")?),
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(Event::JobBuried { job, priority, reason, reserves, number, error })
}

fn decode_failure(fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let (job, delay, run_at, reserves) = (fields.job()?, fields.span()?, fields.time()?, fields.u32()?);
    let mut error = None;
    fields.each_optional(kind::JOB_FAILED, |tag, mut value| {
        if tag == fail_tag::ERROR {
            error = Some(bounded(&mut value, limits::ERROR_BYTES, "error")?);
        }
        Ok(tag == fail_tag::ERROR)
    })?;
    Ok(Event::JobFailed { job, delay, run_at, reserves, error })
}

fn decode_end(kind: u8, fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let job = fields.job()?;
    let (mut kept_until, mut result, mut because_of) = (None, None, None);
    fields.each_optional(kind, |tag, mut value| {
        match (kind, tag) {
            (_, end_tag::KEPT_UNTIL) => kept_until = Some(value.time()?),
            (kind::JOB_COMPLETED, end_tag::RESULT) => {
                result = Some(bounded(&mut value, limits::RESULT_BYTES, "result")?);
            }
            (kind::JOB_CANCELLED, end_tag::BECAUSE_OF) => because_of = Some(value.job()?),
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(match kind {
        kind::JOB_COMPLETED if kept_until.is_none() && result.is_some() => return Err(RecordFault::BadField("result")),
        kind::JOB_COMPLETED => {
            Event::JobCompleted { job, kept: kept_until.map(|until| Box::new(KeptResult { until, result })) }
        }
        kind::JOB_CANCELLED => Event::JobCancelled { job, kept_until, because_of },
        _ => Event::JobExpired { job, kept_until },
    })
}

/// Reads a put, or a job that is kept: the fields of a put, and more of those that may be absent.
fn decode_put(kind: u8, fields: &mut Fields<'_>, names: &mut NameCache) -> Result<Event, RecordFault> {
    let job = fields.job()?;
    let priority = Priority(fields.u32()?);
    let created_at = fields.time()?;
    let run_at = fields.time()?;
    let ttr = fields.span()?;
    let max_lost_leases = fields.u16()?;
    let max_attempts = fields.u16()?;
    let body_bytes = fields.u32()? as usize;
    let name = fields.name()?;
    let body = fields.bytes(body_bytes)?;
    let is_kept = kind != kind::JOB_PUT;
    let mut at_wall = None;
    let mut key = None;
    let (mut delay, mut buried, mut tally, mut lease) = (None, None, JobTally::default(), None);
    let (mut terms, mut course) = (Terms::default(), Course::default());
    fields.each_optional(kind, |tag, mut value| {
        match tag {
            put_tag::AT => at_wall = Some(value.time()?),
            put_tag::KEY if (1..=limits::KEY_BYTES).contains(&value.left.len()) => {
                key = Some(std::mem::take(&mut value.left).into());
            }
            put_tag::KEY => return Err(RecordFault::BadField("key")),
            put_tag::DELAY if is_kept => delay = Some(value.span()?),
            put_tag::BURIED if is_kept => buried = Some(value.u64()?),
            put_tag::TALLY if is_kept => tally = value.tally()?,
            rest::LEASE_TAG if kind == kind::JOB_KEPT => lease = Some(Box::new(rest::take_lease(&mut value)?)),
            _ if rest::take_terms(&mut terms, tag, &mut value)? => {}
            _ if is_kept && rest::take_course(&mut course, tag, &mut value)? => {}
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    if body.len() > limits::MAX_JOB_BYTES_CEILING {
        return Err(RecordFault::BadField("body length"));
    }
    let put = PutJob {
        job,
        queue: names.keep(name)?,
        priority,
        created_at,
        run_at,
        at_wall,
        ttr,
        max_lost_leases,
        max_attempts,
        key,
        terms: (!terms.is_empty()).then(|| Box::new(terms)),
        body: body.into(),
    };
    let course = (course != Course::default()).then(|| Box::new(course));
    Ok(match kind {
        kind::JOB_PUT => Event::JobPut(put),
        kind::JOB_REPLACED => Event::JobReplaced(Box::new(KeptJob { put, delay, tally, buried, course, lease })),
        _ => Event::JobKept(Box::new(KeptJob { put, delay, tally, buried, course, lease })),
    })
}
