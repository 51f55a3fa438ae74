//! Schedules as records: a whole one, what changes it, a tick that put nothing, and the mark of a put that is a firing.

use super::fields::{Fields, nanos, put_length, put_name, put_numbers, put_optional, put_span, put_time};
use super::{NAME_AT_IN_PUT, RecordFault, kind, rest};
use crate::event::Event;
use crate::job::{JobId, Priority, QueueName};
use crate::limits;
use crate::schedule::{
    Became, Fired, KeptSchedule, LastTick, LeftOut, OnMissed, OnOverlap, ScheduleCourse, ScheduleSpec, Template,
    TickPassed, Timing,
};
use crate::terms::Terms;
use std::sync::Arc;

/// The optional field of a put that is a firing.
pub(super) const FIRED_TAG: u8 = 13;

/// The most bytes of that.
pub(super) const FIRED_BYTES: usize = 3 * 8 + 1 + 1 + limits::QUEUE_NAME_BYTES;

/// The optional fields of a whole schedule; its terms have those of a put.
mod tag {
    pub(super) const EVERY: u8 = 1;
    pub(super) const KEY: u8 = 2;
    pub(super) const CRON: u8 = 3;
    pub(super) const EXPIRES: u8 = 4;
    pub(super) const LAST: u8 = 20;
    pub(super) const LAST_FIRED: u8 = 21;
}

const PAUSED: u8 = 1;

pub(super) fn put_fired(out: &mut Vec<u8>, fired: &Fired) {
    let Fired { schedule, tick, is_run, next, missed } = fired;
    let mut value = Vec::with_capacity(FIRED_BYTES);
    put_numbers(&mut value, &[tick.0, next.0, *missed]);
    value.push(u8::from(*is_run));
    put_name(&mut value, schedule);
    put_optional(out, FIRED_TAG, &value);
}

pub(super) fn take_fired(value: &mut Fields<'_>) -> Result<Box<Fired>, RecordFault> {
    let (tick, next, missed) = (value.time()?, value.time()?, value.u64()?);
    let is_run = flag(value.u8()?)?;
    Ok(Box::new(Fired { schedule: name(value)?, tick, is_run, next, missed }))
}

fn flag(byte: u8) -> Result<bool, RecordFault> {
    if byte > 1 { Err(RecordFault::BadField("flag")) } else { Ok(byte == 1) }
}

fn name(fields: &mut Fields<'_>) -> Result<QueueName, RecordFault> {
    let text = std::str::from_utf8(fields.name()?).ok().and_then(|name| QueueName::new(name).ok());
    text.ok_or(RecordFault::BadField("name"))
}

/// Writes an event that is about a schedule; `None` if it is about none.
pub(super) fn encode(out: &mut Vec<u8>, event: &Event) -> Option<u8> {
    Some(match event {
        Event::ScheduleSet(kept) => {
            put_whole(out, kept);
            kind::SCHEDULE_SET
        }
        Event::ScheduleKept(kept) => {
            put_whole(out, kept);
            kind::SCHEDULE_KEPT
        }
        Event::ScheduleRemoved { schedule } => {
            put_name(out, schedule);
            kind::SCHEDULE_REMOVED
        }
        Event::SchedulePaused { schedule, is_paused, next } => {
            put_name(out, schedule);
            put_time(out, *next);
            out.push(u8::from(*is_paused));
            kind::SCHEDULE_PAUSED
        }
        Event::TickPassed(passed) => {
            let TickPassed { schedule, tick, next, missed, why } = &**passed;
            put_name(out, schedule);
            put_numbers(out, &[tick.0, next.0, *missed]);
            put_became(out, Became::Nothing(*why));
            kind::TICK_PASSED
        }
        _ => return None,
    })
}

/// Reads an event that is about a schedule; `None` if the type is none of theirs.
pub(super) fn decode(kind: u8, fields: &mut Fields<'_>) -> Result<Option<Event>, RecordFault> {
    let event = match kind {
        kind::SCHEDULE_SET => return take_whole(kind, fields).map(Event::ScheduleSet).map(Some),
        kind::SCHEDULE_KEPT => return take_whole(kind, fields).map(Event::ScheduleKept).map(Some),
        kind::SCHEDULE_REMOVED => Event::ScheduleRemoved { schedule: name(fields)? },
        kind::SCHEDULE_PAUSED => {
            let (schedule, next) = (name(fields)?, fields.time()?);
            Event::SchedulePaused { schedule, is_paused: flag(fields.u8()?)?, next }
        }
        kind::TICK_PASSED => {
            let schedule = name(fields)?;
            let (tick, next, missed) = (fields.time()?, fields.time()?, fields.u64()?);
            let Became::Nothing(why) = take_became(fields)? else { return Err(RecordFault::BadField("reason")) };
            Event::TickPassed(Box::new(TickPassed { schedule, tick, next, missed, why }))
        }
        _ => return Ok(None),
    };
    fields.each_optional(kind, |_, _| Ok(false))?;
    Ok(Some(event))
}

/// The schedule that a record is about: one of theirs, or a firing.
pub(super) fn schedule_of(kind: u8, payload: &[u8]) -> Result<Option<QueueName>, RecordFault> {
    let mut fields = Fields::of(payload);
    match kind {
        kind::SCHEDULE_SET
        | kind::SCHEDULE_KEPT
        | kind::SCHEDULE_REMOVED
        | kind::SCHEDULE_PAUSED
        | kind::TICK_PASSED => name(&mut fields).map(Some),
        kind::JOB_PUT => {
            let _other_fixed_fields = fields.bytes(NAME_AT_IN_PUT - 4)?;
            let body_bytes = fields.u32()? as usize;
            let _queue = fields.name()?;
            let _body = fields.bytes(body_bytes)?;
            let mut schedule = None;
            fields.each_optional(kind, |tag, mut value| {
                if tag == FIRED_TAG {
                    schedule = Some(take_fired(&mut value)?.schedule);
                }
                Ok(true)
            })?;
            Ok(schedule)
        }
        _ => Ok(None),
    }
}

fn put_whole(out: &mut Vec<u8>, KeptSchedule { name, spec, course }: &KeptSchedule) {
    let ScheduleSpec { timing, on_missed, on_overlap, template } = spec;
    put_name(out, name);
    let ScheduleCourse { created_at, next, is_paused, fired, missed, overlapped, refused, last, last_fired } = course;
    put_numbers(out, &[created_at.0, next.0, *fired, *missed, *overlapped, *refused]);
    out.push(if *is_paused { PAUSED } else { 0 });
    out.push(match on_missed {
        OnMissed::Skip => 1,
        OnMissed::Once => 2,
        OnMissed::All => 3,
    });
    out.push(match on_overlap {
        OnOverlap::Allow => 1,
        OnOverlap::Skip => 2,
    });
    let Template { queue, priority, ttr, max_lost_leases, max_attempts, key, expires, terms, body } = &**template;
    out.extend_from_slice(&priority.0.to_le_bytes());
    put_span(out, *ttr);
    out.extend_from_slice(&max_lost_leases.to_le_bytes());
    out.extend_from_slice(&max_attempts.to_le_bytes());
    put_length(out, body.len());
    put_name(out, queue);
    out.extend_from_slice(body);
    if let Timing::Every { span, from } = timing {
        let mut value = Vec::new();
        put_span(&mut value, *span);
        put_time(&mut value, from.unwrap_or_default());
        put_optional(out, tag::EVERY, &value);
    }
    if let Some(key) = key {
        put_optional(out, tag::KEY, key);
    }
    if let Timing::Cron { expression, zone } = timing {
        let mut value = Vec::new();
        put_length(&mut value, expression.len());
        value.extend_from_slice(expression.as_bytes());
        value.extend_from_slice(zone.as_bytes());
        put_optional(out, tag::CRON, &value);
    }
    if let Some(expires) = expires {
        put_optional(out, tag::EXPIRES, &nanos(*expires).to_le_bytes());
    }
    terms.iter().for_each(|terms| rest::put_terms(out, terms));
    if let Some(LastTick { tick, at, became }) = last {
        let mut value = Vec::new();
        put_numbers(&mut value, &[tick.0, at.0]);
        put_became(&mut value, *became);
        put_optional(out, tag::LAST, &value);
    }
    if let Some((job, tick)) = last_fired {
        let mut value = Vec::new();
        put_numbers(&mut value, &[job.0, tick.0]);
        put_optional(out, tag::LAST_FIRED, &value);
    }
}

fn take_whole(kind: u8, fields: &mut Fields<'_>) -> Result<Box<KeptSchedule>, RecordFault> {
    let own_name = name(fields)?;
    let (created_at, next) = (fields.time()?, fields.time()?);
    let (fired, missed, overlapped, refused) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let is_paused = flag(fields.u8()?)?;
    let on_missed = match fields.u8()? {
        1 => OnMissed::Skip,
        2 => OnMissed::Once,
        3 => OnMissed::All,
        _ => return Err(RecordFault::BadField("rule for missed ticks")),
    };
    let on_overlap = match fields.u8()? {
        1 => OnOverlap::Allow,
        2 => OnOverlap::Skip,
        _ => return Err(RecordFault::BadField("rule for overlaps")),
    };
    let priority = Priority(fields.u32()?);
    let ttr = fields.span()?;
    let (max_lost_leases, max_attempts) = (fields.u16()?, fields.u16()?);
    let body_bytes = fields.u32()? as usize;
    let queue = name(fields)?;
    let body: Box<[u8]> = fields.bytes(body_bytes)?.into();
    let (mut timing, mut key, mut expires, mut terms) = (None, None, None, Terms::default());
    let (mut last, mut last_fired) = (None, None);
    fields.each_optional(kind, |tag, mut value| {
        match tag {
            tag::EVERY => timing = Some(Timing::Every { span: value.span()?, from: Some(value.time()?) }),
            tag::KEY if (1..=limits::KEY_BYTES).contains(&value.left.len()) => key = Some(value.rest().into()),
            tag::KEY => return Err(RecordFault::BadField("key")),
            tag::CRON => {
                let length = value.u32()? as usize;
                let expression = rest::text(value.bytes(length)?, limits::CRON_BYTES, "expression")?;
                timing = Some(Timing::Cron { expression, zone: rest::text(value.rest(), limits::ZONE_BYTES, "zone")? });
            }
            tag::EXPIRES => expires = Some(value.span()?),
            tag::LAST => {
                last = Some(LastTick { tick: value.time()?, at: value.time()?, became: take_became(&mut value)? });
            }
            tag::LAST_FIRED => last_fired = Some((value.job()?, value.time()?)),
            _ if rest::take_terms(&mut terms, tag, &mut value)? => {}
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    let timing = timing.ok_or(RecordFault::BadField("timing"))?;
    let terms = (!terms.is_empty()).then(|| Box::new(terms));
    let template = Template { queue, priority, ttr, max_lost_leases, max_attempts, key, expires, terms, body };
    let spec = ScheduleSpec { timing, on_missed, on_overlap, template: Arc::new(template) };
    if !spec.is_often_enough() {
        return Err(RecordFault::BadField("timing"));
    }
    let course = ScheduleCourse { created_at, next, is_paused, fired, missed, overlapped, refused, last, last_fired };
    Ok(Box::new(KeptSchedule { name: own_name, spec, course }))
}

/// A byte, and the job that it is about, or 0.
fn put_became(out: &mut Vec<u8>, became: Became) {
    let (byte, job) = match became {
        Became::Put(job) => (1, job),
        Became::Run(job) => (2, job),
        Became::Nothing(why) => {
            let byte = match why {
                LeftOut::Missed => 3,
                LeftOut::Overlap(_) => 4,
                LeftOut::KeyTaken(_) => 5,
                LeftOut::KeyUnknown => 6,
                LeftOut::QueueFull => 7,
                LeftOut::BadTerms => 8,
            };
            (byte, why.job().unwrap_or(JobId(0)))
        }
    };
    out.push(byte);
    out.extend_from_slice(&job.0.to_le_bytes());
}

fn take_became(fields: &mut Fields<'_>) -> Result<Became, RecordFault> {
    let (byte, job) = (fields.u8()?, fields.job()?);
    Ok(match byte {
        1 => Became::Put(job),
        2 => Became::Run(job),
        3 => Became::Nothing(LeftOut::Missed),
        4 => Became::Nothing(LeftOut::Overlap(job)),
        5 => Became::Nothing(LeftOut::KeyTaken(job)),
        6 => Became::Nothing(LeftOut::KeyUnknown),
        7 => Became::Nothing(LeftOut::QueueFull),
        8 => Became::Nothing(LeftOut::BadTerms),
        _ => return Err(RecordFault::BadField("outcome of a tick")),
    })
}
