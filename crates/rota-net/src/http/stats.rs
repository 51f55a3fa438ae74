//! How the server does: whether it is well, its counters, its metrics.

use super::answer;
use super::api::{Api, Asker, moment};
use super::fields::{Moment, Span};
use super::problem::Problem;
use super::queues::States;
use crate::metrics;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rota_engine::job::JobState;
use rota_engine::refused::{self, PutRefused};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use utoipa::ToSchema;

/// The server at this moment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// The version of Rota.
    version: &'static str,
    /// What its machine is called.
    hostname: String,
    /// Its process.
    pid: u32,
    started_at: Moment,
    uptime: Span,
    /// Whether puts are refused, since the server was told to take a last snapshot.
    draining: bool,
    /// The largest body of a job, in bytes.
    max_job_bytes: u32,
    /// How many queues there are.
    queues: usize,
    jobs: States,
    /// Delayed jobs that are not in memory.
    not_in_memory: u64,
    /// Who waits for a job.
    waiting: u64,
    totals: StatsTotals,
    refused_puts: RefusedPuts,
    connections: Connections,
    /// The log; none where jobs are kept in memory alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    log: Option<Log>,
}

/// What happened so far.
#[derive(Debug, Serialize, ToSchema)]
struct StatsTotals {
    /// Jobs put.
    put: u64,
    /// Jobs that their holder completed.
    completed: u64,
    /// Jobs that were called off.
    cancelled: u64,
    /// Jobs that were not begun in time.
    expired: u64,
    /// Leases that ran out.
    lost_leases: u64,
    /// Attempts that failed.
    failed: u64,
    /// Times that a holder gave a job back.
    released: u64,
    /// Times that a job was set aside.
    buried: u64,
    /// Times that a job was kicked.
    kicked: u64,
}

/// Puts that were refused since the server started, by why.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct RefusedPuts {
    /// The queue had as many jobs, or bytes of them, as it may have.
    queue_full: u64,
    /// The log's disk had no room.
    disk_full: u64,
    /// There were as many queues as there may be.
    too_many_queues: u64,
    /// The job was longer than one may be, or the request was.
    too_large: u64,
    /// An open job of the queue had the key.
    key_taken: u64,
    /// It was to wait for a job that was never put.
    parent: u64,
    /// A value of it could not be: `422` `bad-value`. All of a request is refused for one, and counts as one.
    invalid: u64,
    /// The server had no room for the request at that moment, or for its answer.
    busy: u64,
    /// The server was about to take its last snapshot.
    draining: u64,
}

impl RefusedPuts {
    pub(super) fn of(refused: &refused::RefusedPuts) -> RefusedPuts {
        RefusedPuts {
            queue_full: refused.of(PutRefused::QueueFull),
            disk_full: refused.of(PutRefused::DiskFull),
            too_many_queues: refused.of(PutRefused::TooManyQueues),
            too_large: refused.of(PutRefused::TooLarge),
            key_taken: refused.of(PutRefused::KeyTaken),
            parent: refused.of(PutRefused::Parent),
            invalid: refused.of(PutRefused::Invalid),
            busy: refused.of(PutRefused::Busy),
            draining: refused.of(PutRefused::Draining),
        }
    }
}

/// Open connections.
#[derive(Debug, Serialize, ToSchema)]
struct Connections {
    /// Of the beanstalkd protocol.
    beanstalkd: u64,
    /// Of HTTP.
    http: u64,
}

/// What the log has grown to.
#[derive(Debug, Serialize, ToSchema)]
struct Log {
    /// Length of what a start reads.
    bytes: u64,
    /// In how many files that is.
    segments: u64,
    /// Length of the segments that are kept as history.
    history_bytes: u64,
    /// Whether the disk had no room to set aside: puts may be refused.
    disk_full: bool,
}

/// Shows the server's counters
#[utoipa::path(get, path = "/v1/stats", tag = "server", operation_id = "getStats",
    responses((status = 200, description = "The server at this moment.", body = Stats)))]
pub(super) async fn stats(api: Asker) -> Result<Response, Problem> {
    let keeper = api.host.keeper_figures();
    let log = api.host.log_figures().map(|log| Log {
        bytes: log.stats.bytes,
        segments: log.stats.segments,
        history_bytes: keeper.history_bytes,
        disk_full: keeper.is_disk_full,
    });
    let http = api.counts.connections.load(Ordering::Relaxed);
    let stats = api.look(|shared| {
        let (engine, facts, totals) = (&shared.engine, &shared.facts, shared.engine.totals());
        let jobs = |state: JobState| totals.by_state[state as usize];
        Stats {
            version: facts.version,
            hostname: facts.hostname.clone(),
            pid: facts.pid,
            started_at: moment(engine, facts.started_at),
            uptime: Span::measured(engine.now().since(facts.started_at)),
            draining: facts.draining,
            max_job_bytes: facts.max_job_bytes,
            queues: engine.queue_count(),
            jobs: States {
                delayed: jobs(JobState::Delayed),
                ready: jobs(JobState::Ready),
                reserved: jobs(JobState::Reserved),
                buried: jobs(JobState::Buried),
                blocked: jobs(JobState::Blocked),
            },
            not_in_memory: engine.cold_jobs(),
            waiting: totals.waiting,
            totals: StatsTotals {
                put: totals.puts,
                completed: totals.completed,
                cancelled: totals.cancelled,
                expired: totals.expired,
                lost_leases: totals.lost_leases,
                failed: totals.turns.failed,
                released: totals.turns.released,
                buried: totals.turns.buried,
                kicked: totals.turns.kicked,
            },
            refused_puts: RefusedPuts::of(engine.refused_puts()),
            connections: Connections { beanstalkd: shared.beanstalkd.connections, http },
            log,
        }
    });
    Ok(answer(StatusCode::OK, &stats.await))
}

/// Says whether the server is well
///
/// 503 once its log failed: it is about to stop then.
#[utoipa::path(get, path = "/healthz", tag = "server", operation_id = "getHealth",
    responses(
        (status = 200, description = "It is well.", body = String, content_type = "text/plain"),
        (status = 503, description = "Why it is not.", body = String, content_type = "text/plain"),
    ))]
pub(super) async fn healthz(State(api): State<Arc<Api>>) -> impl IntoResponse {
    match api.host.failed() {
        None => (StatusCode::OK, String::from("ok\n")),
        Some(failed) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failed}\n")),
    }
}

/// Says whether the server takes new jobs
///
/// 503 while it does not: it is about to stop.
#[utoipa::path(get, path = "/readyz", tag = "server", operation_id = "getReadiness",
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain"),
        (status = 503, description = "Why it does not.", body = String, content_type = "text/plain"),
    ))]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let (is_draining, is_frozen) = api.host.look(|shared| (shared.facts.draining, shared.is_frozen));
    let reason = match api.host.failed() {
        Some(failed) => Some(failed.to_string()),
        None if *api.stop.borrow() => Some(String::from("the server stops")),
        None if is_draining || is_frozen => Some(String::from("the server takes its last snapshot")),
        None => None,
    };
    match reason {
        None => (StatusCode::OK, String::from("ready\n")),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Shows metrics, in the format of OpenMetrics
#[utoipa::path(get, path = "/metrics", tag = "server", operation_id = "getMetrics",
    responses((status = 200, description = "All metrics.", body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn show_metrics(api: Asker) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, metrics::render(&api.host, &api.counts, api.events.clients(), api.webhooks.figures()))
}
