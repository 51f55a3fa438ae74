//! A record's type and fields as they are shown.

use rota_engine::event::{BuryReason, Event, KeptAnswer, KeptJob, PutJob};
use rota_engine::job::{JobId, LeaseToken, Time};
use rota_engine::log::LoggedEvent;
use rota_engine::note::{Note, NotedWhy};
use rota_engine::queue::{PerKey, QueueSettings, QueueSync, Rate};
use rota_engine::schedule::{Became, Fired, KeptSchedule, LastTick, OnMissed, OnOverlap, TickPassed, Timing};
use rota_engine::session::Actor;
use rota_engine::terms::{Course, Expiry, OnParentFailure, Terms};
use rota_net::words::Words;
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

/// What a holder said: a text, or JSON.
fn said(kept: &[u8]) -> Value {
    Words::from(kept).value()
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
        Event::JobReplaced(job) => ("job_replaced", kept(job, queue, bodies)),
        Event::JobCompleted { job, kept } => {
            let result = kept.as_ref().and_then(|kept| kept.result.as_deref()).map(said);
            let mut fields = ended(*job, kept.as_ref().map(|kept| kept.until));
            set(&mut fields, "result", result);
            ("job_completed", fields)
        }
        Event::JobCancelled { job, kept_until, because_of } => {
            let mut fields = ended(*job, *kept_until);
            set(&mut fields, "because_of", because_of.map(|parent| parent.0));
            ("job_cancelled", fields)
        }
        Event::JobExpired { job, kept_until } => ("job_expired", ended(*job, *kept_until)),
        Event::JobReleased { job, priority, delay, run_at, reserves } => {
            let mut fields = again(*job, *delay, *run_at, *reserves);
            fields["priority"] = priority.0.into();
            ("job_released", fields)
        }
        Event::JobFailed { job, delay, run_at, reserves, error } => {
            let mut fields = again(*job, *delay, *run_at, *reserves);
            set(&mut fields, "error", error.as_deref().map(said));
            ("job_failed", fields)
        }
        Event::JobBuried { job, priority, reason, reserves, number, error } => {
            let reason = match reason {
                BuryReason::Asked => "asked",
                BuryReason::LostLeases => "lost leases",
                BuryReason::Attempts => "attempts",
            };
            let mut fields = json!({ "job": job.0, "priority": priority.0, "reason": reason, "reserves": reserves });
            if *number > 0 {
                fields["burial"] = (*number).into();
            }
            set(&mut fields, "error", error.as_deref().map(said));
            ("job_buried", fields)
        }
        Event::JobKicked { job, run_at } => ("job_kicked", json!({ "job": job.0, "run_at": run_at.0 })),
        Event::JobPulled { job, run_at } => ("job_pulled", json!({ "job": job.0, "run_at": run_at.0 })),
        Event::LeaseLost { job, reserves } => ("lease_lost", json!({ "job": job.0, "reserves": reserves })),
        Event::LeaseGiven { job, token, deadline, .. } => {
            ("lease_given", json!({ "job": job.0, "token": token_of(*token), "ends_at": deadline.0 }))
        }
        Event::LeaseExtended { job, deadline, .. } => {
            ("lease_extended", json!({ "job": job.0, "ends_at": deadline.0 }))
        }
        Event::LeaseDropped { job, .. } => ("lease_dropped", json!({ "job": job.0 })),
        Event::QueuePaused { until, length, .. } => {
            ("queue_paused", json!({ "queue": queue, "until": until.0, "length": format_duration(*length) }))
        }
        Event::QueueConfigured { settings, .. } => {
            ("queue_configured", json!({ "queue": queue, "settings": settings_of(settings) }))
        }
        Event::QueueDropped { .. } => ("queue_dropped", json!({ "queue": queue })),
        Event::ClockStepped { engine_time, wall_time } => {
            ("clock_stepped", json!({ "engine_time": engine_time.0, "wall_time": wall_time.0 }))
        }
        Event::JobKept(job) => ("job_kept", kept(job, queue, bodies)),
        Event::QueueKept(kept) => {
            let mut fields = json!({
                "queue": queue,
                "puts": kept.totals.puts,
                "deletes": kept.totals.deletes,
                "pauses": kept.totals.pauses,
                "lost_leases": kept.totals.lost_leases,
                "cancelled": kept.totals.cancelled,
                "expired": kept.totals.expired,
                "failed": kept.totals.turns.failed,
                "released": kept.totals.turns.released,
                "buried": kept.totals.turns.buried,
                "kicked": kept.totals.turns.kicked,
                "paused_until": kept.paused_until.0,
                "pause_length": format_duration(kept.pause_length),
            });
            set(&mut fields, "settings", kept.settings.as_deref().map(settings_of));
            ("queue_kept", fields)
        }
        Event::AnswerKept(kept) => {
            let KeptAnswer { key, fingerprint, answer, until } = &**kept;
            let key = String::from_utf8_lossy(key);
            let fingerprint = format!("{fingerprint:016x}");
            let fields =
                json!({ "key": key, "fingerprint": fingerprint, "answer_bytes": answer.len(), "until": until.0 });
            ("answer_kept", fields)
        }
        Event::FailedKept(failed) => {
            let failed = failed.iter().map(|(job, at)| json!({ "job": job.0, "at": at.0 }));
            ("failed_kept", json!({ "jobs": failed.collect::<Value>() }))
        }
        Event::NumbersKept(kept) => {
            let mut fields = json!({
                "oldest_segment": kept.oldest_segment,
                "puts": kept.puts,
                "completed": kept.completed,
                "cancelled": kept.cancelled,
                "expired": kept.expired,
                "lost_leases": kept.lost_leases,
                "failed": kept.turns.failed,
                "released": kept.turns.released,
                "buried": kept.turns.buried,
                "kicked": kept.turns.kicked,
                "epoch": kept.epoch,
                "next_job_id": kept.next_job_id,
                "job_ids_below": kept.job_ids_below,
                "next_seq": kept.next_seq,
                "seqs_below": kept.seqs_below,
                "burials": kept.burials,
                "engine_time": kept.engine_time.0,
                "wall_time": kept.wall_time.0,
            });
            if let Some(checksum) = kept.far_jobs {
                fields["open_jobs_checksum"] = format!("{checksum:08x}").into();
            }
            ("numbers_kept", fields)
        }
        Event::ScheduleSet(kept) => ("schedule_set", schedule(kept, bodies)),
        Event::ScheduleKept(kept) => ("schedule_kept", schedule(kept, bodies)),
        Event::ScheduleRemoved { schedule } => ("schedule_removed", json!({ "schedule": schedule.as_str() })),
        Event::SchedulePaused { schedule, is_paused, next } => {
            let kind = if *is_paused { "schedule_paused" } else { "schedule_resumed" };
            (kind, json!({ "schedule": schedule.as_str(), "next": next.0 }))
        }
        Event::TickPassed(passed) => {
            let TickPassed { schedule, tick, next, missed, why } = &**passed;
            let mut fields = json!({
                "schedule": schedule.as_str(),
                "tick": tick.0,
                "next": next.0,
                "missed": missed,
                "reason": why.name(),
            });
            set(&mut fields, "job", why.job().map(|job| job.0));
            ("tick_passed", fields)
        }
        Event::Noted(note) => {
            let Note { what, subject, name, why } = &**note;
            let mut fields = json!({ "what": what.name() });
            fields[what.noun()] = subject.as_str().into();
            set(&mut fields, "name", name.as_ref().map(Actor::as_str));
            set(&mut fields, "reason", why.map(NotedWhy::name));
            ("noted", fields)
        }
        soft => unreachable!("soft events are not in the log: {soft:?}"),
    };
    let Value::Object(mut fields) = fields else { unreachable!("each is an object") };
    if let Some(actor) = event.actor() {
        fields.insert("actor".to_owned(), actor.as_str().into());
    }
    (kind.to_owned(), fields)
}

/// Sets a field that may be absent.
fn set(fields: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields[name] = value.into();
    }
}

fn ended(job: JobId, kept_until: Option<Time>) -> Value {
    let mut fields = json!({ "job": job.0 });
    set(&mut fields, "kept_until", kept_until.map(|until| until.0));
    fields
}

fn settings_of(settings: &QueueSettings) -> Value {
    let QueueSettings { retain, max_jobs, max_bytes, concurrency, rate, per_key, durable_leases, sync } = settings;
    let mut fields = json!({});
    set(&mut fields, "retain", retain.map(format_duration));
    set(&mut fields, "max_jobs", *max_jobs);
    set(&mut fields, "max_bytes", *max_bytes);
    set(&mut fields, "concurrency", *concurrency);
    set(&mut fields, "rate", rate.map(rate_of));
    if let Some(PerKey { concurrency, rate }) = per_key {
        let mut of_key = json!({});
        set(&mut of_key, "concurrency", *concurrency);
        set(&mut of_key, "rate", rate.map(rate_of));
        fields["per_key"] = of_key;
    }
    set(&mut fields, "durable_leases", durable_leases.then_some(true));
    set(&mut fields, "sync", sync.map(|QueueSync::Always| "always"));
    fields
}

/// A lease's stamp: which start gave it, and its number among those of that start.
fn token_of(token: LeaseToken) -> String {
    format!("{}.{}", token.epoch, token.counter)
}

fn rate_of(rate: Rate) -> Value {
    json!({ "count": rate.count, "per": format_duration(rate.per) })
}

/// What was agreed for a job beyond its place in line.
fn put_terms(fields: &mut Value, terms: &Terms) {
    let ids = |jobs: &[JobId]| jobs.iter().map(|job| job.0).collect::<Vec<u64>>();
    set(fields, "kind", terms.kind.as_deref());
    set(fields, "limit_key", terms.limit_key.as_deref());
    if !terms.headers.is_empty() {
        let headers = terms.headers.iter().map(|(name, value)| (name.to_string(), Value::from(&**value)));
        fields["headers"] = headers.collect();
    }
    set(fields, "after", Some(ids(&terms.after)).filter(|after| !after.is_empty()));
    match terms.on_parent_failure {
        OnParentFailure::Cancel => {}
        OnParentFailure::Run => fields["on_parent_failure"] = "run".into(),
        OnParentFailure::Hold => fields["on_parent_failure"] = "hold".into(),
    }
    match terms.expires_at {
        None => {}
        Some(Expiry::Engine(at)) => fields["expires_at"] = at.0.into(),
        Some(Expiry::Wall(at)) => fields["expires_at_wall"] = at.0.into(),
    }
    set(fields, "failed_parent", terms.failed_parent.map(|parent| parent.0));
    if let Some(fired) = &terms.fired {
        let Fired { schedule, tick, is_run, next, missed } = &**fired;
        fields["fired"] = json!({
            "schedule": schedule.as_str(),
            "tick": tick.0,
            "run": is_run,
            "next": next.0,
            "missed": missed,
        });
    }
    if let Some(back_off) = terms.back_off {
        fields["back_off"] = json!({
            "first": format_duration(back_off.first),
            "factor_hundredths": back_off.factor_hundredths,
            "most": format_duration(back_off.most),
            "jitter_percent": back_off.jitter_percent,
        });
    }
}

/// A schedule, with what it puts.
fn schedule(kept: &KeptSchedule, bodies: Bodies) -> Value {
    let KeptSchedule { name, spec, course } = kept;
    let template = &spec.template;
    let mut fields = json!({
        "schedule": name.as_str(),
        "queue": template.queue.as_str(),
        "on_missed": match spec.on_missed {
            OnMissed::Skip => "skip",
            OnMissed::Once => "once",
            OnMissed::All => "all",
        },
        "on_overlap": match spec.on_overlap {
            OnOverlap::Allow => "allow",
            OnOverlap::Skip => "skip",
        },
        "created_at": course.created_at.0,
        "next": course.next.0,
        "paused": course.is_paused,
        "fired": course.fired,
        "missed": course.missed,
        "overlapped": course.overlapped,
        "refused": course.refused,
        "priority": template.priority.0,
        "ttr": format_duration(template.ttr),
        "max_lost_leases": template.max_lost_leases,
        "max_attempts": template.max_attempts,
    });
    match &spec.timing {
        Timing::Every { span, from } => {
            fields["every"] = format_duration(*span).into();
            set(&mut fields, "from", from.map(|from| from.0));
        }
        Timing::Cron { expression, zone } => {
            fields["cron"] = (**expression).into();
            fields["zone"] = (**zone).into();
        }
    }
    set(&mut fields, "key", template.key.as_deref().map(String::from_utf8_lossy));
    set(&mut fields, "expires_in", template.expires.map(format_duration));
    if let Some(LastTick { tick, at, became }) = course.last {
        let (what, job) = match became {
            Became::Put(job) => ("put", Some(job)),
            Became::Run(job) => ("run", Some(job)),
            Became::Nothing(why) => (why.name(), why.job()),
        };
        fields["last"] = json!({ "tick": tick.0, "at": at.0, "became": what });
        set(&mut fields["last"], "job", job.map(|job| job.0));
    }
    if let Some((job, tick)) = course.last_fired {
        fields["last_fired"] = json!({ "job": job.0, "tick": tick.0 });
    }
    template.terms.iter().for_each(|terms| put_terms(&mut fields, terms));
    show_body(&mut fields, &template.body, bodies);
    fields
}

/// What became of a job.
fn put_course(fields: &mut Value, course: &Course) {
    let waits_for: Vec<u64> = course.waits_for.iter().map(|job| job.0).collect();
    set(fields, "waits_for", Some(waits_for).filter(|jobs| !jobs.is_empty()));
    set(fields, "held_by", course.held_by.map(|parent| parent.0));
    set(fields, "error", course.error.as_deref().map(said));
    if let Some(ended) = &course.ended {
        fields["ended"] = ended.state.name().into();
        fields["ended_at"] = ended.at.0.into();
        fields["kept_until"] = ended.until.0.into();
        set(fields, "result", ended.result.as_deref().map(said));
    }
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
    kept.course.iter().for_each(|course| put_course(&mut fields, course));
    if let Some(lease) = &kept.lease {
        fields["lease"] =
            json!({ "token": token_of(lease.token), "since": lease.since.0, "ends_at": lease.deadline.0 });
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
    put.terms.iter().for_each(|terms| put_terms(&mut fields, terms));
    show_body(&mut fields, &put.body, bodies);
    fields
}

fn show_body(fields: &mut Value, body: &[u8], bodies: Bodies) {
    fields["body_bytes"] = body.len().into();
    match bodies {
        Bodies::Excerpt => {
            let begin = &body[..body.len().min(EXCERPT_BYTES)];
            let more = if begin.len() < body.len() { "…" } else { "" };
            fields["body_begin"] = format!("{}{more}", String::from_utf8_lossy(begin)).into();
        }
        Bodies::Text => fields["body"] = body.escape_ascii().to_string().into(),
        Bodies::Json => put_body(fields, body),
    }
}
