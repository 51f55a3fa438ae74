//! What the model's jobs and queues look like over HTTP, written down from what `docs/http.md` says of it.

use super::moments::{delay, moment};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rota_engine::event::BuryReason;
use rota_engine::job::{JobId, JobState, Priority, QueueName, Time};
use rota_engine::queue::{PerKey, QueueSettings, Rate};
use rota_engine::reason::Reason;
use rota_engine::terms::{Expiry, OnParentFailure};
use rota_engine::testing::model::{Job, Model, Place};
use rota_net::values::seconds_text;
use serde_json::{Map, Value, json};

/// A millisecond, in nanoseconds.
pub(super) const MILLI: u64 = 1_000_000;

/// How a body is to be shown.
pub(super) const FORMS: [&str; 5] = ["auto", "json", "text", "base64", "none"];

/// A job without its body.
pub(super) fn job(model: &Model, id: JobId) -> Value {
    let job = &model.jobs()[&id];
    let mut shown = json!({
        "id": id.to_string(), "queue": job.queue.as_str(), "state": job.place.state().name(),
        "priority": job.priority.0, "created_at": moment(job.created_at), "run_at": moment(job.run_at),
        "delay": delay(job.created_at, job.delay()), "ttr": seconds_text(job.ttr),
        "attempts": job.tally.attempts, "max_attempts": job.max_attempts, "reserves": job.tally.reserves,
        "releases": job.tally.releases, "lost_leases": job.tally.lost_leases, "max_lost_leases": job.max_lost_leases,
        "buries": job.tally.buries, "kicks": job.tally.kicks, "body_bytes": job.body.len(),
    });
    let members = shown.as_object_mut().unwrap();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    let ids = |ids: &[JobId]| (!ids.is_empty()).then(|| ids.iter().map(JobId::to_string).collect());
    let terms = &job.terms;
    set("key", job.key.as_deref().map(text));
    set("kind", terms.kind.as_deref().map(Value::from));
    set("limit_key", terms.limit_key.as_deref().map(Value::from));
    let headers: Map<String, Value> =
        terms.headers.iter().map(|(name, value)| (name.to_string(), Value::from(&**value))).collect();
    set("headers", (!headers.is_empty()).then_some(Value::Object(headers)));
    set("after", ids(&terms.after));
    set("waits_for", ids(&job.waits_for.iter().copied().collect::<Vec<_>>()));
    set("held_by", job.held_by.map(|by| by.to_string().into()));
    let policy = match terms.on_parent_failure {
        OnParentFailure::Cancel => "cancel",
        OnParentFailure::Run => "run",
        OnParentFailure::Hold => "hold",
    };
    set("on_parent_failure", (!terms.after.is_empty()).then(|| policy.into()));
    set("expires_at", terms.expires_at.map(|(Expiry::Engine(at) | Expiry::Wall(at))| moment(at).into()));
    set(
        "back_off",
        terms.back_off.map(|back_off| {
            json!({
                "first": seconds_text(back_off.first), "factor": f64::from(back_off.factor_hundredths) / 100.0,
                "most": seconds_text(back_off.most), "jitter_percent": back_off.jitter_percent,
            })
        }),
    );
    set("error", job.error.as_deref().map(said));
    set("progress", job.progress.as_deref().map(said));
    match &job.place {
        Place::Reserved { deadline, .. } => set("lease_ends_at", Some(moment(*deadline).into())),
        Place::Ended { at, until, result, .. } => {
            set("ended_at", Some(moment(*at).into()));
            set("kept_until", Some(moment(*until).into()));
            set("result", result.as_deref().map(said));
        }
        Place::Delayed | Place::Ready | Place::Buried(_) | Place::Blocked => {}
    }
    shown
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// What is shown of a job to who looks at it, and not to who did something to it: who holds it, too.
pub(super) fn looked_at(model: &Model, id: JobId, mut shown: Value) -> Value {
    if let Place::Reserved { since, deadline, .. } = model.jobs()[&id].place {
        shown["holder"] = json!({ "since": moment(since), "until": moment(deadline) });
    }
    shown
}

/// What a holder said, out of what is kept of it: a text, or JSON behind a byte that says so.
fn said(kept: &[u8]) -> Value {
    kept.strip_prefix(b"\x1e").map_or_else(|| text(kept), |json| serde_json::from_slice(json).unwrap())
}

/// A job with its body, in that form.
pub(super) fn job_with_body(model: &Model, id: JobId, form: &str) -> Value {
    let (mut shown, body) = (job(model, id), &model.jobs()[&id].body);
    let json = || serde_json::from_slice::<Value>(body).ok();
    let as_text = || String::from_utf8(body.clone()).ok().map(|text| ("text", Value::from(text)));
    let as_json = match form {
        "json" => json(),
        "auto" => json().filter(|json| json.is_object() || json.is_array()),
        _ => None,
    };
    let as_base64 = || ("base64", Value::from(STANDARD.encode(body)));
    let member = match form {
        "none" => None,
        "base64" => Some(as_base64()),
        _ => as_json.map(|json| ("json", json)).or_else(as_text).or_else(|| Some(as_base64())),
    };
    if let Some((name, value)) = member {
        shown[name] = value;
    }
    shown
}

/// A queue, but for how long things took.
pub(super) fn queue(model: &Model, name: &QueueName) -> Value {
    let queue = &model.queues()[name];
    let jobs = || model.jobs().values().filter(|job| job.queue == *name);
    let count = |state: JobState| jobs().filter(|job| job.place.state() == state).count();
    let is_ready = |job: &&Job| job.place == Place::Ready;
    let (using, watching, waiting) = model.references(name);
    let (totals, turns) = (&queue.totals, &queue.totals.turns);
    let mut shown = json!({
        "name": name.as_str(),
        "jobs": {
            "delayed": count(JobState::Delayed), "ready": count(JobState::Ready), "reserved": count(JobState::Reserved),
            "buried": count(JobState::Buried), "blocked": count(JobState::Blocked),
        },
        "held_back": jobs().filter(is_ready).filter(|job| model.is_held_back(job)).count(),
        "ended": jobs().filter(|job| !job.is_open()).count(),
        "body_bytes": jobs().filter(|job| job.is_open()).map(|job| job.body.len()).sum::<usize>(),
        "settings": settings(&queue.settings),
        "urgent": jobs().filter(is_ready).filter(|job| job.priority < Priority(1024)).count(),
        "paused": queue.paused_until > model.now(),
        "waiting": waiting, "using": using, "watching": watching,
        "totals": {
            "put": totals.puts, "ended": totals.deletes,
            "completed": totals.deletes - totals.cancelled - totals.expired,
            "cancelled": totals.cancelled, "expired": totals.expired, "failed": turns.failed,
            "released": turns.released, "buried": turns.buried, "kicked": turns.kicked,
            "lost_leases": totals.lost_leases, "pauses": totals.pauses,
        },
    });
    if queue.paused_until > model.now() && queue.paused_until < Time::NEVER {
        shown["paused_until"] = moment(queue.paused_until).into();
    }
    shown
}

/// What is shown of a queue, without how long things took, and what was refused: the model counts neither.
pub(super) fn without_times(mut queue: Value) -> Value {
    for member in ["head_age", "latency", "run_time", "refused_puts"] {
        queue.as_object_mut().unwrap().remove(member);
    }
    queue
}

pub(super) fn settings(settings: &QueueSettings) -> Value {
    let QueueSettings { retain, max_jobs, max_bytes, concurrency, rate, per_key, durable_leases, .. } = settings;
    let rate_of = |rate: Rate| json!({ "count": rate.count, "per": seconds_text(rate.per) });
    let per_key = per_key.map(|PerKey { concurrency, rate }| {
        object([("concurrency", concurrency.map(Value::from)), ("rate", rate.map(rate_of))])
    });
    object([
        ("retain", retain.map(|retain| seconds_text(retain).into())),
        ("max_jobs", max_jobs.map(Value::from)),
        ("max_bytes", max_bytes.map(Value::from)),
        ("concurrency", concurrency.map(Value::from)),
        ("rate", rate.map(rate_of)),
        ("per_key", per_key),
        ("durable_leases", durable_leases.then(|| true.into())),
    ])
}

/// An object of those members that are there.
pub(super) fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The counts over all queues, as the server's statistics have them.
pub(super) fn stats(model: &Model) -> Value {
    let totals = model.totals();
    let jobs = |state: JobState| totals.by_state[state as usize];
    json!({
        "queues": model.queues().len(),
        "jobs": {
            "delayed": jobs(JobState::Delayed), "ready": jobs(JobState::Ready), "reserved": jobs(JobState::Reserved),
            "buried": jobs(JobState::Buried), "blocked": jobs(JobState::Blocked),
        },
        "waiting": totals.waiting,
        "totals": {
            "put": totals.puts, "completed": totals.completed, "cancelled": totals.cancelled,
            "expired": totals.expired, "lost_leases": totals.lost_leases, "failed": totals.turns.failed,
            "released": totals.turns.released, "buried": totals.turns.buried, "kicked": totals.turns.kicked,
        },
    })
}

fn is_durable(job: &Job) -> bool {
    matches!(job.place, Place::Reserved { is_durable: true, .. })
}

/// Why a job is where it is, without the sentences.
pub(super) fn why(model: &Model, id: JobId) -> Value {
    let job = &model.jobs()[&id];
    let reasons = model.why(id).unwrap().into_iter().map(|reason| explained(job, reason));
    json!({
        "id": id.to_string(), "queue": job.queue.as_str(), "state": job.place.state().name(),
        "reasons": reasons.collect::<Vec<_>>(),
    })
}

fn explained(job: &Job, reason: Reason) -> Value {
    let limit_key = job.terms.limit_key.as_deref();
    match reason {
        Reason::Over { at, until } => json!({ "reason": "over", "since": moment(at), "kept_until": moment(until) }),
        Reason::Held { since, until } => object([
            ("reason", Some("held".into())),
            ("since", Some(moment(since).into())),
            ("until", Some(moment(until).into())),
            ("progress", job.progress.as_deref().map(said)),
            ("durable", is_durable(job).then(|| true.into())),
        ]),
        Reason::Buried { why } => {
            let because = match why {
                BuryReason::Attempts => "attempts",
                BuryReason::LostLeases => "lost_leases",
                BuryReason::Asked => "asked",
            };
            object([
                ("reason", Some("buried".into())),
                ("because", Some(because.into())),
                ("attempts", Some(job.tally.attempts.into())),
                ("max_attempts", Some(job.max_attempts.into())),
                ("lost_leases", Some(job.tally.lost_leases.into())),
                ("max_lost_leases", Some(job.max_lost_leases.into())),
                ("error", job.error.as_deref().map(said)),
            ])
        }
        Reason::HeldUp { by } => json!({ "reason": "held_up", "job": by.to_string() }),
        Reason::Waits { others } => {
            let other = |(id, state): &(JobId, JobState)| json!({ "id": id.to_string(), "state": state.name() });
            json!({ "reason": "waits_for", "jobs": others.iter().map(other).collect::<Vec<_>>() })
        }
        Reason::NotDue { at } => json!({ "reason": "not_due", "until": moment(at) }),
        Reason::Paused { until } => {
            object([("reason", Some("paused".into())), ("until", (until < Time::NEVER).then(|| moment(until).into()))])
        }
        Reason::Concurrency { held, most } => json!({ "reason": "concurrency", "held": held, "limit": most }),
        Reason::Rate { next } => json!({ "reason": "rate", "until": moment(next) }),
        Reason::KeyConcurrency { held, most } => {
            json!({ "reason": "key_concurrency", "limit_key": limit_key, "held": held, "limit": most })
        }
        Reason::KeyRate { next } => json!({ "reason": "key_rate", "limit_key": limit_key, "until": moment(next) }),
        Reason::NobodyWaits { watching, held } => {
            json!({ "reason": "nobody_waits", "watching": watching, "held": held })
        }
        Reason::Behind { jobs, is_exact } => json!({ "reason": "behind", "jobs": jobs, "is_exact": is_exact }),
    }
}
