//! Why a job is not worked on, or not any more: the engine's reasons in words, and as data.

use super::{Holder, no_such_job};
use crate::http::answer;
use crate::http::api::{Asker, DEFAULT, moment};
use crate::http::fields::{Id, Moment, Name};
use crate::http::problem::Problem;
use crate::http::request::JobInPath;
use crate::words::Words;
use axum::http::StatusCode;
use axum::response::Response;
use rota_engine::command::JobView;
use rota_engine::engine::Engine;
use rota_engine::event::BuryReason;
use rota_engine::job::{JobId, JobState, Time};
use rota_engine::reason::Reason;
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

/// How many jobs are named in a sentence.
const NAMED: usize = 5;

/// Why a job is where it is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Why {
    id: Id,
    queue: Name,
    state: &'static str,
    /// Every reason, the one that binds now first; none if the job is about to be handed out.
    reasons: Vec<Explained>,
}

/// A reason, in words and as data.
#[derive(Debug, Serialize, ToSchema)]
struct Explained {
    /// A sentence.
    says: String,
    #[serde(flatten)]
    what: What,
}

/// A reason.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
enum What {
    /// It is over.
    Over { since: Moment, kept_until: Moment },
    /// Somebody holds it since then, and until then unless the lease is extended.
    Held {
        /// What their token is called.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        actor: Option<String>,
        /// The address and port that they had when they asked for jobs.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        peer: Option<String>,
        since: Moment,
        until: Moment,
        /// As the holder said it: a text or any JSON.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<serde_json::Value>)]
        progress: Option<Words<'static>>,
        /// Whether a restart of the server leaves that in force.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        #[schema(value_type = Option<bool>, nullable = false)]
        durable: bool,
    },
    /// It was set aside.
    Buried {
        because: Burial,
        attempts: u32,
        max_attempts: u16,
        lost_leases: u32,
        max_lost_leases: u16,
        /// As the holder said it: a text or any JSON.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<serde_json::Value>)]
        error: Option<Words<'static>>,
    },
    /// A job that it waited for came to nothing.
    HeldUp { job: Id },
    /// It waits for others.
    WaitsFor { jobs: Vec<Other> },
    /// Its time is ahead.
    NotDue { until: Moment },
    /// Its queue is paused.
    Paused {
        /// Until when; until it is resumed where that is absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        until: Option<Moment>,
    },
    /// As many jobs of its queue are held as may be.
    Concurrency { held: u64, limit: u32 },
    /// Its queue has handed out as many jobs as it may for now.
    Rate { until: Moment },
    /// As many jobs of its limit key are held as may be.
    KeyConcurrency { limit_key: String, held: u64, limit: u32 },
    /// So many jobs of its limit key were handed out as may be for now.
    KeyRate { limit_key: String, until: Moment },
    /// Nobody waits for a job of its queue.
    NobodyWaits {
        /// Connections of the beanstalkd protocol that watch it, and wait for nothing now.
        watching: u32,
        /// Jobs of it that are held.
        held: u64,
    },
    /// Others of its queue come first.
    Behind {
        jobs: u64,
        /// Whether it is just so many; else there are more.
        is_exact: bool,
    },
}

/// Why a job was set aside.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Burial {
    /// Its attempts are used up.
    Attempts,
    /// Its leases ran out too often.
    LostLeases,
    /// Whoever held it asked for it.
    Asked,
}

/// A job that is waited for.
#[derive(Debug, Serialize, ToSchema)]
struct Other {
    id: Id,
    /// None where whoever asks is not known to reach its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    state: Option<&'static str>,
}

/// Says why a job is where it is
///
/// What it waits for, who or what holds it back, or what became of it: each reason in words and as data, the one that binds now
/// first. A job without any is about to be handed out.
#[utoipa::path(get, path = "/v1/jobs/{id}/why", tag = "jobs", operation_id = "whyJob",
    params(("id" = Id, Path, description = "The job's id.")),
    responses((status = 200, description = "The reasons.", body = Why)))]
pub(in crate::http) async fn why(api: Asker, JobInPath(id): JobInPath) -> Result<Response, Problem> {
    let wants = |engine: &Engine, _| engine.wanted_job(id).into_iter().collect();
    let why = api
        .decide(wants, |desk| {
            let view = desk.job(id)?;
            let engine = &desk.shared().engine;
            let reasons = engine.why(id)?;
            let is_known = |other: JobId| !desk.grant().is_limited() || desk.job(other).is_some();
            let explain = |reason| {
                let what = What::of(reason, &view, engine, &is_known);
                Explained { says: what.says(&view), what }
            };
            Some(Why {
                id: Id(id),
                queue: Name(view.queue.clone()),
                state: view.state.name(),
                reasons: reasons.into_iter().map(explain).collect(),
            })
        })
        .await?;
    why.map(|why| answer(StatusCode::OK, &why)).ok_or_else(|| no_such_job(id))
}

impl What {
    fn of(reason: Reason, job: &JobView<'_>, engine: &Engine, is_known: &dyn Fn(JobId) -> bool) -> What {
        let at = |time: Time| moment(engine, time);
        let key = || job.terms.and_then(|terms| terms.limit_key.as_deref()).unwrap_or_default().to_owned();
        match reason {
            Reason::Over { at: ended, until } => What::Over { since: at(ended), kept_until: at(until) },
            Reason::Held { since, until } => {
                let (actor, peer) =
                    Holder::of(job.id, engine).map_or((None, None), |Holder { actor, peer, .. }| (actor, peer));
                let progress = job.progress.map(Words::copied);
                What::Held { actor, peer, since: at(since), until: at(until), progress, durable: engine.outlives(job) }
            }
            Reason::Buried { why } => What::Buried {
                because: match why {
                    BuryReason::Attempts => Burial::Attempts,
                    BuryReason::LostLeases => Burial::LostLeases,
                    BuryReason::Asked => Burial::Asked,
                },
                attempts: job.tally.attempts,
                max_attempts: job.max_attempts,
                lost_leases: job.tally.lost_leases,
                max_lost_leases: job.max_lost_leases,
                error: job.course.and_then(|course| course.error.as_deref()).map(Words::copied),
            },
            Reason::HeldUp { by } => What::HeldUp { job: Id(by) },
            Reason::Waits { others } => {
                let other =
                    |(id, state): (JobId, JobState)| Other { id: Id(id), state: is_known(id).then_some(state.name()) };
                What::WaitsFor { jobs: others.into_iter().map(other).collect() }
            }
            Reason::NotDue { at: due } => What::NotDue { until: at(due) },
            Reason::Paused { until } => What::Paused { until: (until < Time::NEVER).then(|| at(until)) },
            Reason::Concurrency { held, most } => What::Concurrency { held, limit: most },
            Reason::Rate { next } => What::Rate { until: at(next) },
            Reason::KeyConcurrency { held, most } => What::KeyConcurrency { limit_key: key(), held, limit: most },
            Reason::KeyRate { next } => What::KeyRate { limit_key: key(), until: at(next) },
            Reason::NobodyWaits { watching, held } => {
                // Whoever asks watches the default queue for as long as that takes.
                let own = u32::from(job.queue.as_str() == DEFAULT);
                What::NobodyWaits { watching: watching.saturating_sub(own), held }
            }
            Reason::Behind { jobs, is_exact } => What::Behind { jobs, is_exact },
        }
    }

    /// The same as a sentence.
    fn says(&self, job: &JobView<'_>) -> String {
        let queue = job.queue;
        match self {
            What::Over { since, kept_until } => {
                format!("it is {} since {since}, and kept until {kept_until}", job.state.name())
            }
            What::Held { actor, peer, until, progress, durable, .. } => {
                let who = actor.as_deref().unwrap_or("somebody");
                let place = peer.as_ref().map(|peer| format!(" at {peer}")).unwrap_or_default();
                let said = progress.as_ref().map(|said| format!(", who says {}", said.value())).unwrap_or_default();
                let kept = if *durable { ", over restarts too" } else { "" };
                format!("{who}{place} holds it until {until}{kept}{said}")
            }
            What::Buried { because, attempts, max_attempts, lost_leases, max_lost_leases, error } => {
                let because = match because {
                    Burial::Attempts => Cow::Owned(format!("{attempts} of {max_attempts} attempts failed")),
                    Burial::LostLeases => Cow::Owned(format!("{lost_leases} of {max_lost_leases} leases ran out")),
                    Burial::Asked => Cow::Borrowed("whoever held it asked for it"),
                };
                let error = error.as_ref().map(|error| format!(", the last time with {}", error.value()));
                let error = error.unwrap_or_default();
                format!("it is buried until it is kicked: {because}{error}")
            }
            What::HeldUp { job } => format!("job {} came to nothing, and it waits for a kick", job.0),
            What::WaitsFor { jobs } => {
                let named = jobs.iter().take(NAMED).map(|other| match other.state {
                    Some(state) => format!("{} ({state})", other.id.0),
                    None => other.id.0.to_string(),
                });
                let named = named.collect::<Vec<_>>().join(", ");
                match jobs.len().saturating_sub(NAMED) {
                    0 => format!("it waits for {named}"),
                    more => format!("it waits for {named} and {more} more"),
                }
            }
            What::NotDue { until } => format!("it is due at {until}"),
            What::Paused { until: Some(until) } => format!("the queue {queue} is paused until {until}"),
            What::Paused { until: None } => format!("the queue {queue} is paused until it is resumed"),
            What::Concurrency { held, limit } => {
                format!("at most {limit} of the queue {queue} may be held, and {held} are")
            }
            What::Rate { until } => format!("the queue {queue} may hand out the next job at {until}"),
            What::KeyConcurrency { limit_key, held, limit } => {
                format!("at most {limit} of the limit key {limit_key:?} may be held, and {held} are")
            }
            What::KeyRate { limit_key, until } => {
                format!("the next job of the limit key {limit_key:?} may be handed out at {until}")
            }
            What::NobodyWaits { watching: 0, held: 0 } => format!("nobody takes jobs of the queue {queue}"),
            What::NobodyWaits { held, .. } => {
                format!("nobody waits for a job of the queue {queue} now; {held} of it are held")
            }
            What::Behind { jobs: 1, is_exact: true } => format!("1 job of the queue {queue} comes before it"),
            What::Behind { jobs, is_exact: true } => format!("{jobs} jobs of the queue {queue} come before it"),
            What::Behind { jobs, .. } => format!("more than {jobs} jobs of the queue {queue} come before it"),
        }
    }
}
