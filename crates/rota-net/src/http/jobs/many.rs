//! One verb for many jobs: those that a filter means are kicked or called off, in slices, each by a command of its own.

use super::cursor::List;
use super::walk::{Walk, read_filter};
use crate::filter::Filter;
use crate::http::answer;
use crate::http::api::{Asker, Desk};
use crate::http::fields::Id;
use crate::http::problem::{Kind, Problem};
use crate::http::request::Json;
use crate::limits::MANY_SLICES;
use axum::http::StatusCode;
use axum::response::Response;
use rota_engine::command::{Command, Refusal};
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, JobState, Time};
use rota_engine::limits::STEP_OBJECTS;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use utoipa::ToSchema;

/// How many of the jobs are named in the answer.
const NAMED: usize = 10;

/// Which jobs are meant, and whether to do it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Many {
    /// A filter, as `queue:mail* state:buried error:"timed out" age>1h`: see docs/http.md.
    #[schema(max_length = 2048)]
    q: Option<String>,
    /// All jobs are meant: instead of a filter.
    #[serde(default)]
    all: bool,
    /// Only count: nothing is done.
    #[serde(default)]
    dry_run: bool,
    /// The most jobs that it is done to; no bound unless told.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4294967295u32)]
    limit: Option<NonZeroU32>,
    /// Where a request before this one ended.
    cursor: Option<String>,
}

/// What came of it.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct ManyDone {
    /// Whether it was only counted.
    dry_run: bool,
    /// Jobs that the filter means.
    matched: u64,
    /// Jobs that it was done to.
    done: u64,
    /// Jobs that it would be done to: counted by a dry run, else 0.
    would_do: u64,
    /// Jobs that it was not done to, or would not be.
    refused: RefusedJobs,
    /// The first of those that it was, or would be, done to: at most ten.
    first: Vec<Id>,
    /// Where to go on; none where all jobs were looked at, or `limit` was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cursor: Option<String>,
    /// Delayed jobs of all queues that are not in memory: only those named by their ids were looked at.
    not_in_memory: u64,
}

/// Why jobs were passed over.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct RefusedJobs {
    /// They are over, and only kept.
    over: u64,
    /// They are in a state in which it cannot be done.
    wrong_state: u64,
    /// The disk has no room for it.
    disk_full: u64,
}

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Kick,
    Retry,
    Cancel,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Kick => "kick",
            Verb::Retry => "retry",
            Verb::Cancel => "cancel",
        }
    }

    /// Whether it can be done to a job in that state.
    fn can(self, state: JobState) -> bool {
        match self {
            Verb::Kick => matches!(state, JobState::Buried | JobState::Delayed | JobState::Blocked),
            Verb::Retry => state == JobState::Buried,
            Verb::Cancel => !state.is_final(),
        }
    }

    fn command(self, job: JobId) -> Command<'static> {
        match self {
            Verb::Kick | Verb::Retry => Command::KickJob(job),
            Verb::Cancel => Command::Cancel(job),
        }
    }
}

/// Makes the jobs of a filter ready
///
/// Those that are buried, delayed or blocked; others are counted as refused. It is done in slices while others are served: a job
/// is taken as it is when its slice comes, and jobs that are put meanwhile are not looked at. One request looks at a million jobs
/// at the most: go on with the `cursor` of its answer until that has none, and add up. With `--storage mapped`, delayed jobs
/// that are not in memory are not looked at, unless the filter names them by their ids; the answer says how many they are.
#[utoipa::path(post, path = "/v1/jobs/kick", tag = "jobs", operation_id = "kickJobs", request_body = Many,
    responses(
        (status = 200, description = "What was done, or would be.", body = ManyDone),
        (status = 410, description = "The cursor is of before a restart.", body = crate::http::problem::ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(in crate::http) async fn kick(api: Asker, Json(many): Json<Many>) -> Result<Response, Problem> {
    run(&api, Verb::Kick, many).await
}

/// Makes the buried jobs of a filter ready
///
/// As a kick of many jobs, with `state:buried` in the filter.
#[utoipa::path(post, path = "/v1/jobs/retry", tag = "jobs", operation_id = "retryJobs", request_body = Many,
    responses(
        (status = 200, description = "What was done, or would be.", body = ManyDone),
        (status = 410, description = "The cursor is of before a restart.", body = crate::http::problem::ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(in crate::http) async fn retry(api: Asker, Json(many): Json<Many>) -> Result<Response, Problem> {
    run(&api, Verb::Retry, many).await
}

/// Calls off the jobs of a filter
///
/// Held or not: after the answer none of them is handed out again. Those that are over, and only kept, are counted as refused. It
/// is done in slices, as a kick of many jobs is.
#[utoipa::path(post, path = "/v1/jobs/cancel", tag = "jobs", operation_id = "cancelJobs", request_body = Many,
    responses(
        (status = 200, description = "What was done, or would be.", body = ManyDone),
        (status = 410, description = "The cursor is of before a restart.", body = crate::http::problem::ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(in crate::http) async fn cancel(api: Asker, Json(many): Json<Many>) -> Result<Response, Problem> {
    run(&api, Verb::Cancel, many).await
}

/// A request under way.
struct Work {
    verb: Verb,
    /// Jobs that were put later are not looked at.
    began: Time,
    limit: u64,
    done: ManyDone,
}

/// A job that is meant, as it was when its slice came, and the place behind it.
struct Found {
    job: JobId,
    state: JobState,
    behind: u32,
}

impl Work {
    /// Looks at a slice, and counts what would come of it.
    fn count(&mut self, walk: &mut Walk<'_>, engine: &Engine) {
        let began = self.began;
        walk.slice(engine, |job, behind| {
            if job.created_at <= began {
                self.done.matched += 1;
                let found = Found { job: job.id, state: job.state, behind };
                if self.can(&found) {
                    self.done.would_do += 1;
                    self.name(found.job);
                }
            }
            !self.is_enough()
        });
    }

    /// Does it to the jobs of a slice: as many as make about [`STEP_OBJECTS`] events happen.
    fn slice(&mut self, walk: &mut Walk<'_>, desk: &mut Desk<'_>) {
        let mut found = Vec::new();
        walk.slice(&desk.shared().engine, |job, behind| {
            if job.created_at <= self.began {
                found.push(Found { job: job.id, state: job.state, behind });
            }
            true
        });
        let first = desk.shared().engine.next_seq();
        for found in found {
            self.done.matched += 1;
            if self.can(&found) {
                self.execute(&found, desk);
            }
            let events = desk.shared().engine.next_seq() - first;
            if self.is_enough() || events >= STEP_OBJECTS as u64 {
                walk.go_back(found.behind);
                return;
            }
        }
    }

    fn execute(&mut self, found: &Found, desk: &mut Desk<'_>) {
        match desk.execute(self.verb.command(found.job)) {
            Ok(_) => {}
            // It ended with one that it waited for, which was called off just before.
            Err(Refusal::NotFound) if self.verb == Verb::Cancel => {}
            Err(Refusal::NoRoom) => return self.done.refused.disk_full += 1,
            Err(_) => return self.done.refused.wrong_state += 1,
        }
        self.done.done += 1;
        self.name(found.job);
    }

    /// Whether it can be done to a job; counts it if not.
    fn can(&mut self, found: &Found) -> bool {
        let can = self.verb.can(found.state);
        let refused = &mut self.done.refused;
        if found.state.is_final() {
            refused.over += 1;
        } else if !can {
            refused.wrong_state += 1;
        }
        can
    }

    fn name(&mut self, job: JobId) {
        if self.done.first.len() < NAMED {
            self.done.first.push(Id(job));
        }
    }

    fn is_enough(&self) -> bool {
        self.done.done.max(self.done.would_do) >= self.limit
    }
}

async fn run(api: &Asker, verb: Verb, many: Many) -> Result<Response, Problem> {
    let mut filter = match &many.q {
        Some(q) if many.all => {
            let detail = format!("the request means all jobs, and those of {q:?}");
            return Err(Problem::new(Kind::BadValue, detail).hint("send one of the two").at("/all"));
        }
        Some(q) => {
            let filter = read_filter(q).map_err(|problem| problem.at("/q"))?;
            if filter.is_empty() {
                return Err(Problem::new(Kind::NoFilter, "the filter is empty").at("/q"));
            }
            filter
        }
        None if many.all => Filter::default(),
        None => return Err(Problem::new(Kind::NoFilter, "the request has no filter")),
    };
    if verb == Verb::Retry {
        filter = filter.and(Filter::of_state(JobState::Buried));
    }
    let (epoch, began) = api.look(|shared| (shared.engine.epoch(), shared.engine.now())).await;
    let list = List::Jobs { what: verb.name(), filter: &filter };
    let mut walk = Walk::new(&filter, api.grant(), many.cursor.as_deref(), &list, epoch)?;
    let mut work =
        Work { verb, began, limit: many.limit.map_or(u64::MAX, |limit| limit.get().into()), done: ManyDone::default() };
    work.done.dry_run = many.dry_run;
    for slice in 1.. {
        if many.dry_run {
            walk.look(api, |walk, engine| work.count(walk, engine)).await?;
        } else {
            walk.decide(api, |walk, desk| work.slice(walk, desk)).await?;
        }
        if walk.is_over || work.is_enough() || slice == MANY_SLICES {
            break;
        }
        tokio::task::yield_now().await;
    }
    work.done.not_in_memory = api.look(|shared| shared.engine.cold_jobs()).await;
    let cursor = if work.is_enough() { None } else { walk.cursor(&list, epoch) };
    Ok(answer(StatusCode::OK, &ManyDone { cursor, ..work.done }))
}
