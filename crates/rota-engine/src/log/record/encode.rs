//! From an event to the bytes of its record.
//!
//! [`crate::log::Pending`] calls it under the engine's lock: it copies a body once and allocates nothing else.

use super::fields::{nanos, put_actor, put_job, put_length, put_name, put_numbers, put_optional, put_span, put_time};
use super::rest::end_tag;
use super::{
    RECORD_HEADER_BYTES, SKIPPABLE, VERSION, bury_tag, fail_tag, kind, notes, numbers_tag, put_tag, rest, schedules,
};
use crate::event::{BuryReason, Event, KeptJob, PutJob, QueueNames};
use crate::job::{JobTally, Time};
use crate::queue::QueueTotals;
use crate::session::Actor;

/// Appends one record.
///
/// # Panics
/// If the event is a soft one, or its body is longer than any that a put may have: the engine has a bug then.
pub(in crate::log) fn encode(
    buffer: &mut Vec<u8>,
    seq: u64,
    at: Time,
    event: &Event,
    actor: Option<&Actor>,
    names: &impl QueueNames,
) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    let kind = encode_payload(buffer, event, names);
    if let Some(actor) = actor {
        put_actor(buffer, actor);
    }
    let payload_bytes = buffer.len() - start - RECORD_HEADER_BYTES;
    let payload_bytes = u32::try_from(payload_bytes).expect("a body is at most MAX_JOB_BYTES_CEILING long");
    let record = &mut buffer[start..];
    record[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
    record[8] = kind;
    record[9] = VERSION;
    if matches!(kind, kind::NOTED | kind::FAILED_KEPT) {
        record[10..12].copy_from_slice(&SKIPPABLE.to_le_bytes());
    }
    record[12..20].copy_from_slice(&seq.to_le_bytes());
    record[20..28].copy_from_slice(&at.0.to_le_bytes());
    let checksum = crc32fast::hash(&record[4..]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
}

fn encode_payload(out: &mut Vec<u8>, event: &Event, names: &impl QueueNames) -> u8 {
    match event {
        Event::Started { epoch, engine_time, wall_time } => {
            out.extend_from_slice(&epoch.to_le_bytes());
            put_time(out, *engine_time);
            put_time(out, *wall_time);
            kind::STARTED
        }
        Event::NumbersReserved { job_ids_below, seqs_below } => {
            out.extend_from_slice(&job_ids_below.to_le_bytes());
            out.extend_from_slice(&seqs_below.to_le_bytes());
            kind::NUMBERS_RESERVED
        }
        Event::Stopped { next_job_id, next_seq } => {
            out.extend_from_slice(&next_job_id.to_le_bytes());
            out.extend_from_slice(&next_seq.to_le_bytes());
            kind::STOPPED
        }
        Event::JobPut(put) => {
            encode_put(out, put, names);
            kind::JOB_PUT
        }
        Event::JobCompleted { job, kept } => {
            put_job(out, *job);
            kept.iter().for_each(|kept| rest::put_kept_result(out, kept));
            kind::JOB_COMPLETED
        }
        Event::JobCancelled { job, kept_until, because_of } => {
            put_job(out, *job);
            rest::put_kept_until(out, *kept_until);
            if let Some(parent) = because_of {
                put_optional(out, end_tag::BECAUSE_OF, &parent.0.to_le_bytes());
            }
            kind::JOB_CANCELLED
        }
        Event::JobExpired { job, kept_until } => {
            put_job(out, *job);
            rest::put_kept_until(out, *kept_until);
            kind::JOB_EXPIRED
        }
        Event::JobReleased { job, priority, delay, run_at, reserves } => {
            put_job(out, *job);
            out.extend_from_slice(&priority.0.to_le_bytes());
            put_span(out, *delay);
            put_time(out, *run_at);
            out.extend_from_slice(&reserves.to_le_bytes());
            kind::JOB_RELEASED
        }
        Event::JobFailed { job, delay, run_at, reserves, error } => {
            put_job(out, *job);
            put_span(out, *delay);
            put_time(out, *run_at);
            out.extend_from_slice(&reserves.to_le_bytes());
            if let Some(error) = error {
                put_optional(out, fail_tag::ERROR, error);
            }
            kind::JOB_FAILED
        }
        Event::JobBuried { job, priority, reason, reserves, number, error } => {
            put_job(out, *job);
            out.extend_from_slice(&priority.0.to_le_bytes());
            out.push(match reason {
                BuryReason::Asked => 1,
                BuryReason::LostLeases => 2,
                BuryReason::Attempts => 3,
            });
            out.extend_from_slice(&reserves.to_le_bytes());
            if *number > 0 {
                put_optional(out, bury_tag::NUMBER, &number.to_le_bytes());
            }
            if let Some(error) = error {
                put_optional(out, bury_tag::ERROR, error);
            }
            kind::JOB_BURIED
        }
        Event::JobKicked { job, run_at } => {
            put_job(out, *job);
            put_time(out, *run_at);
            kind::JOB_KICKED
        }
        Event::LeaseLost { job, reserves } => {
            put_job(out, *job);
            out.extend_from_slice(&reserves.to_le_bytes());
            kind::LEASE_LOST
        }
        Event::LeaseGiven { job, token, deadline, is_durable: true, session: _ } => {
            put_job(out, *job);
            rest::put_token(out, *token);
            put_time(out, *deadline);
            kind::LEASE_GIVEN
        }
        Event::LeaseExtended { job, deadline, is_durable: true } => {
            put_job(out, *job);
            put_time(out, *deadline);
            kind::LEASE_EXTENDED
        }
        Event::LeaseDropped { job, is_durable: true } => {
            put_job(out, *job);
            kind::LEASE_DROPPED
        }
        Event::QueuePaused { queue, until, length } => {
            put_time(out, *until);
            put_span(out, *length);
            put_name(out, names.queue_name(*queue));
            kind::QUEUE_PAUSED
        }
        Event::JobPulled { job, run_at } => {
            put_job(out, *job);
            put_time(out, *run_at);
            kind::JOB_PULLED
        }
        Event::QueueConfigured { queue, settings } => {
            put_name(out, names.queue_name(*queue));
            rest::put_settings(out, settings);
            kind::QUEUE_CONFIGURED
        }
        Event::QueueDropped { queue } => {
            put_name(out, names.queue_name(*queue));
            kind::QUEUE_DROPPED
        }
        Event::ClockStepped { engine_time, wall_time } => {
            put_time(out, *engine_time);
            put_time(out, *wall_time);
            kind::CLOCK_STEPPED
        }
        Event::JobKept(kept) => {
            encode_kept(out, kept, names);
            kind::JOB_KEPT
        }
        Event::JobReplaced(kept) => {
            encode_kept(out, kept, names);
            kind::JOB_REPLACED
        }
        Event::QueueKept(kept) => {
            let QueueTotals { puts, deletes, pauses, lost_leases, cancelled, expired, turns } = kept.totals;
            put_numbers(out, &[puts, deletes, pauses, lost_leases]);
            put_time(out, kept.paused_until);
            put_span(out, kept.pause_length);
            put_name(out, names.queue_name(kept.queue));
            kept.settings.iter().for_each(|settings| rest::put_settings(out, settings));
            rest::put_turns(out, &[cancelled, expired], turns);
            kind::QUEUE_KEPT
        }
        Event::AnswerKept(kept) => {
            rest::put_answer(out, kept);
            kind::ANSWER_KEPT
        }
        Event::FailedKept(failed) => {
            rest::put_failed(out, failed);
            kind::FAILED_KEPT
        }
        Event::NumbersKept(kept) => {
            put_numbers(out, &[kept.oldest_segment, kept.puts, kept.completed, kept.cancelled, kept.lost_leases]);
            out.extend_from_slice(&kept.epoch.to_le_bytes());
            put_numbers(out, &[kept.next_job_id, kept.job_ids_below, kept.next_seq, kept.seqs_below, kept.burials]);
            put_time(out, kept.engine_time);
            put_time(out, kept.wall_time);
            if let Some(checksum) = kept.far_jobs {
                put_optional(out, numbers_tag::FAR_JOBS, &checksum.to_le_bytes());
            }
            if kept.expired > 0 {
                put_optional(out, numbers_tag::EXPIRED, &kept.expired.to_le_bytes());
            }
            rest::put_turns(out, &[], kept.turns);
            kind::NUMBERS_KEPT
        }
        Event::ScheduleSet(_)
        | Event::ScheduleRemoved { .. }
        | Event::SchedulePaused { .. }
        | Event::TickPassed(_)
        | Event::ScheduleKept(_) => schedules::encode(out, event).expect("these are about schedules"),
        Event::Noted(note) => {
            notes::put_note(out, note);
            kind::NOTED
        }
        Event::LeaseGiven { .. }
        | Event::LeaseExtended { .. }
        | Event::LeaseDropped { .. }
        | Event::PauseOver { .. }
        | Event::ThrottleOver { .. }
        | Event::JobUnblocked { .. }
        | Event::JobHeldUp { .. }
        | Event::JobForgotten { .. }
        | Event::JobProgressed { .. }
        | Event::JobDue { .. } => unreachable!("soft events are not appended: {event:?}"),
    }
}

fn encode_put(out: &mut Vec<u8>, put: &PutJob, names: &impl QueueNames) {
    encode_fixed(out, put, names);
    put.terms.iter().for_each(|terms| rest::put_terms(out, terms));
}

/// A put but for its terms.
fn encode_fixed(out: &mut Vec<u8>, put: &PutJob, names: &impl QueueNames) {
    let name = names.queue_name(put.queue);
    out.reserve(96 + name.as_str().len() + put.body.len() + put.key.as_ref().map_or(0, |key| key.len()));
    put_job(out, put.job);
    out.extend_from_slice(&put.priority.0.to_le_bytes());
    put_time(out, put.created_at);
    put_time(out, put.run_at);
    put_span(out, put.ttr);
    out.extend_from_slice(&put.max_lost_leases.to_le_bytes());
    out.extend_from_slice(&put.max_attempts.to_le_bytes());
    put_length(out, put.body.len());
    put_name(out, name);
    out.extend_from_slice(&put.body);
    if let Some(at) = put.at_wall {
        put_optional(out, put_tag::AT, &at.0.to_le_bytes());
    }
    if let Some(key) = &put.key {
        put_optional(out, put_tag::KEY, key);
    }
}

/// A job that is kept: what is fixed, what happened to it, its terms, what became of it.
fn encode_kept(out: &mut Vec<u8>, kept: &KeptJob, names: &impl QueueNames) {
    encode_fixed(out, &kept.put, names);
    if let Some(delay) = kept.delay {
        put_optional(out, put_tag::DELAY, &nanos(delay).to_le_bytes());
    }
    if let Some(number) = kept.buried {
        put_optional(out, put_tag::BURIED, &number.to_le_bytes());
    }
    if kept.tally != JobTally::default() {
        let JobTally { reserves, lost_leases, releases, buries, kicks, attempts } = kept.tally;
        let counts = [reserves, lost_leases, releases, buries, kicks, attempts];
        put_optional(out, put_tag::TALLY, counts.map(u32::to_le_bytes).as_flattened());
    }
    kept.put.terms.iter().for_each(|terms| rest::put_terms(out, terms));
    kept.course.iter().for_each(|course| rest::put_course(out, course));
    kept.lease.iter().for_each(|lease| rest::put_lease(out, lease));
}
