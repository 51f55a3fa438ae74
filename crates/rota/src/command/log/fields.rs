//! A record's type and fields as they are shown.

use rota_engine::event::{BuryReason, Event, KeptJob, PutJob};
use rota_engine::job::{JobId, Time};
use rota_engine::log::LoggedEvent;
use serde_json::{Map, Value, json};
use std::time::Duration;

use crate::command::text::put_body;
use crate::values::format_duration;

/// How many bytes of a body are shown.
const EXCERPT_BYTES: usize = 40;

/// How bodies and keys are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bodies {
    /// How long it is and how it begins.
    Excerpt,
    /// All of it, with escapes for what cannot be printed.
    Text,
    /// All of it as a string, or as base64 if it is no text.
    Json,
}

/// A field as text: nothing in it can pass for another field, or for the end of the line.
pub(super) fn text_of(name: &str, value: &Value) -> String {
    match value {
        // It comes escaped.
        Value::String(text) if name == "body" => format!("{name}=\"{text}\""),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') => {
            format!("{name}={text}")
        }
        Value::String(text) => format!("{name}={text:?}"),
        other => format!("{name}={other}"),
    }
}

/// The name of a record's type, and its fields.
pub(super) fn describe(event: &LoggedEvent<'_>, bodies: Bodies) -> (String, Map<String, Value>) {
    let queue = event.queue_name().map(|name| Value::from(name.as_str()));
    let (kind, fields) = match event.event() {
        Event::Started { epoch, engine_time, wall_time } => {
            ("started", json!({ "epoch": epoch, "engine_time": engine_time.0, "wall_time": wall_time.0 }))
        }
        Event::NumbersReserved { job_ids_below, seqs_below } => {
            ("numbers_reserved", json!({ "job_ids_below": job_ids_below, "seqs_below": seqs_below }))
        }
        Event::Stopped { next_job_id, next_seq } => {
            ("stopped", json!({ "next_job_id": next_job_id, "next_seq": next_seq }))
        }
        Event::JobPut(job) => ("job_put", put(job, queue, bodies)),
        Event::JobCompleted { job } => ("job_completed", json!({ "job": job.0 })),
        Event::JobCancelled { job } => ("job_cancelled", json!({ "job": job.0 })),
        Event::JobReleased { job, priority, delay, run_at, reserves } => {
            let mut fields = again(*job, *delay, *run_at, *reserves);
            fields["priority"] = priority.0.into();
            ("job_released", fields)
        }
        Event::JobFailed { job, delay, run_at, reserves } => ("job_failed", again(*job, *delay, *run_at, *reserves)),
        Event::JobBuried { job, priority, reason, reserves, number } => {
            let reason = match reason {
                BuryReason::Asked => "asked",
                BuryReason::LostLeases => "lost leases",
                BuryReason::Attempts => "attempts",
            };
            let mut fields = json!({ "job": job.0, "priority": priority.0, "reason": reason, "reserves": reserves });
            if *number > 0 {
                fields["burial"] = (*number).into();
            }
            ("job_buried", fields)
        }
        Event::JobKicked { job, run_at } => ("job_kicked", json!({ "job": job.0, "run_at": run_at.0 })),
        Event::JobPulled { job, run_at } => ("job_pulled", json!({ "job": job.0, "run_at": run_at.0 })),
        Event::LeaseLost { job, reserves } => ("lease_lost", json!({ "job": job.0, "reserves": reserves })),
        Event::QueuePaused { until, length, .. } => {
            ("queue_paused", json!({ "queue": queue, "until": until.0, "length": format_duration(*length) }))
        }
        Event::QueueDropped { .. } => ("queue_dropped", json!({ "queue": queue })),
        Event::ClockStepped { engine_time, wall_time } => {
            ("clock_stepped", json!({ "engine_time": engine_time.0, "wall_time": wall_time.0 }))
        }
        Event::JobKept(job) => ("job_kept", kept(job, queue, bodies)),
        Event::QueueKept(kept) => {
            let fields = json!({
                "queue": queue,
                "puts": kept.totals.puts,
                "deletes": kept.totals.deletes,
                "pauses": kept.totals.pauses,
                "lost_leases": kept.totals.lost_leases,
                "paused_until": kept.paused_until.0,
                "pause_length": format_duration(kept.pause_length),
            });
            ("queue_kept", fields)
        }
        Event::NumbersKept(kept) => {
            let fields = json!({
                "oldest_segment": kept.oldest_segment,
                "puts": kept.puts,
                "completed": kept.completed,
                "cancelled": kept.cancelled,
                "lost_leases": kept.lost_leases,
                "epoch": kept.epoch,
                "next_job_id": kept.next_job_id,
                "job_ids_below": kept.job_ids_below,
                "next_seq": kept.next_seq,
                "seqs_below": kept.seqs_below,
                "burials": kept.burials,
                "engine_time": kept.engine_time.0,
                "wall_time": kept.wall_time.0,
            });
            ("numbers_kept", fields)
        }
        soft => unreachable!("soft events are not in the log: {soft:?}"),
    };
    let Value::Object(fields) = fields else { unreachable!("each is an object") };
    (kind.to_owned(), fields)
}

fn again(job: JobId, delay: Duration, run_at: Time, reserves: u32) -> Value {
    json!({ "job": job.0, "delay": format_duration(delay), "run_at": run_at.0, "reserves": reserves })
}

/// The fields of a put, and what the job went through since.
fn kept(kept: &KeptJob, queue: Option<Value>, bodies: Bodies) -> Value {
    let mut fields = put(&kept.put, queue, bodies);
    if let Some(delay) = kept.delay {
        fields["delay"] = format_duration(delay).into();
    }
    if let Some(number) = kept.buried {
        fields["burial"] = number.into();
    }
    let tally = &kept.tally;
    let counts = [
        ("reserves", tally.reserves),
        ("lost_leases", tally.lost_leases),
        ("releases", tally.releases),
        ("buries", tally.buries),
        ("kicks", tally.kicks),
        ("attempts", tally.attempts),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        fields[name] = count.into();
    }
    fields
}

fn put(put: &PutJob, queue: Option<Value>, bodies: Bodies) -> Value {
    let mut fields = json!({
        "job": put.job.0,
        "queue": queue,
        "priority": put.priority.0,
        "created_at": put.created_at.0,
        "run_at": put.run_at.0,
        "ttr": format_duration(put.ttr),
        "max_lost_leases": put.max_lost_leases,
        "max_attempts": put.max_attempts,
    });
    if let Some(at) = put.at_wall {
        fields["at_wall"] = at.0.into();
    }
    if let Some(key) = &put.key {
        fields["key"] = String::from_utf8_lossy(key).into();
    }
    fields["body_bytes"] = put.body.len().into();
    match bodies {
        Bodies::Excerpt => {
            let begin = &put.body[..put.body.len().min(EXCERPT_BYTES)];
            let more = if begin.len() < put.body.len() { "…" } else { "" };
            fields["body_begin"] = format!("{}{more}", String::from_utf8_lossy(begin)).into();
        }
        Bodies::Text => fields["body"] = put.body.escape_ascii().to_string().into(),
        Bodies::Json => put_body(&mut fields, &put.body),
    }
    fields
}
