//! Schedules: set up, looked at, paused, run, deleted. When their ticks are, [`crate::calendar`] knows; what comes of them, the
//! engine decides.

use super::api::{Asker, Desk, moment};
use super::fields::{BodyForm, Id, Moment, Name, Span};
use super::jobs::{Job, Limit, ShownTemplate, TemplateJob};
use super::problem::{Kind, Problem};
use super::request::{Json, Parameters, ScheduleInPath, object};
use super::{answer, refused};
use crate::calendar::{self, TimingFault};
use crate::limits::PAGE_ENTRIES;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use rota_engine::command::{Answer, Command, Refusal, ScheduleCommand};
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::{CRON_BYTES, SHORTEST_EVERY, STEP_OBJECTS, TEMPLATE_BODY_BYTES};
use rota_engine::schedule::{self, Became, LastTick, ScheduleSpec, ScheduleView, Timing};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many of the next ticks are told of one schedule.
const NEXT_TICKS: usize = 5;

/// A schedule to set up. When it has its ticks is exactly one of `cron` and `every`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSchedule {
    /// Five fields (minute, hour, day of the month, month, day of the week), or a word such as `@daily`.
    #[schema(max_length = 500, example = "30 4 * * 1-5")]
    cron: Option<String>,
    /// The time zone in which `cron` is read, by its IANA name; `UTC` unless told.
    #[schema(example = "Europe/Berlin")]
    zone: Option<String>,
    /// The span between two ticks: at least `1s`.
    every: Option<Span>,
    /// Where the spans of `every` begin, which is a tick itself; a span before the first tick unless told: when it is set.
    from: Option<Moment>,
    /// What becomes of ticks that passed while the server was down, or when the clock was set.
    #[serde(default)]
    on_missed: OnMissed,
    /// What becomes of a tick while the job of the last firing is open.
    #[serde(default)]
    on_overlap: OnOverlap,
    /// What it puts.
    #[serde(deserialize_with = "object")]
    job: TemplateJob,
}

/// What becomes of ticks that were missed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnMissed {
    /// They are left out.
    Skip,
    /// The last of them fires, for all.
    #[default]
    Once,
    /// Each fires, but for those before the last 1,000.
    All,
}

/// What becomes of a tick while the job of the last firing is open.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnOverlap {
    /// It fires all the same.
    #[default]
    Allow,
    /// It is left out.
    Skip,
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Schedule {
    name: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Moment>,
    on_missed: OnMissed,
    on_overlap: OnOverlap,
    /// Whether it passes over its ticks until it is resumed.
    paused: bool,
    created_at: Moment,
    /// Its next ticks: five where one schedule is looked at, one in a list; none while it is paused.
    next: Vec<Moment>,
    /// Its next tick has come, and waits for room on the disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    waits_for_room: bool,
    /// What happened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
    /// The job that it put last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_job: Option<LastJob>,
    /// Jobs that it put.
    fired: u64,
    /// Ticks left out since they passed before they had their turn; at most 1,000 are counted at a time.
    missed: u64,
    /// Ticks left out since the job of the last firing was open.
    overlapped: u64,
    /// Ticks whose put was refused.
    refused: u64,
    job: ShownTemplate,
}

/// The last thing that happened with a schedule.
#[derive(Debug, Serialize, ToSchema)]
struct Last {
    /// The tick; of a run that somebody asked for, the moment of it.
    tick: Moment,
    /// When it had its turn.
    at: Moment,
    /// What came of it: `put`, `run`, `missed`, `overlap`, `key-taken`, `queue-full` or `bad-terms`.
    #[schema(example = "put")]
    outcome: &'static str,
    /// The job that was put, or that was in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job: Option<Id>,
}

/// The job that a schedule put last.
#[derive(Debug, Serialize, ToSchema)]
struct LastJob {
    id: Id,
    tick: Moment,
    /// Its state, as long as it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    state: Option<&'static str>,
}

/// A page of the list of schedules, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Schedules {
    schedules: Vec<Schedule>,
    /// Where the next page begins; none where this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cursor: Option<Name>,
}

/// Which page of the list of schedules.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SchedulesQuery {
    /// Where a page before this one ended: a schedule's name.
    #[param(value_type = Option<Name>)]
    cursor: Option<Name>,
    /// The most schedules of a page: 1 to 1,000, and 100 unless told.
    #[param(minimum = 1, maximum = 1000, value_type = Option<u16>)]
    limit: Option<Limit>,
}

impl NewSchedule {
    /// Checks it at a moment of the wall clock; the body of its job may have so many bytes.
    fn check(self, now: Time, most: usize) -> Result<ScheduleSpec, Problem> {
        let bad = |field: &str, detail: &str| Problem::new(Kind::BadValue, detail).at(field);
        let timing = match (self.cron, self.every) {
            (Some(_), Some(_)) => {
                return Err(bad("/every", "the schedule has both cron and every").hint("give only one of them"));
            }
            (None, None) => {
                let hint = "give cron, \"30 4 * * 1-5\", or every, \"15m\"";
                return Err(bad("", "the schedule has neither cron nor every").hint(hint));
            }
            (Some(_), None) if self.from.is_some() => {
                return Err(
                    bad("/from", "from is where the spans of every begin, and there is none").hint("leave it away")
                );
            }
            (Some(expression), None) => {
                if expression.len() > CRON_BYTES {
                    return Err(bad("/cron", &format!("an expression has at most {CRON_BYTES} bytes")));
                }
                let zone = self.zone.as_deref().unwrap_or("UTC");
                let (_, zone) = calendar::check(&expression, zone, now).map_err(|fault| {
                    let field = if matches!(fault, TimingFault::Zone { .. }) { "/zone" } else { "/cron" };
                    bad(field, &fault.to_string()).hint(fault.hint())
                })?;
                Timing::Cron { expression: expression.into(), zone: zone.into() }
            }
            (None, Some(_)) if self.zone.is_some() => {
                let hint = "leave it away: spans are the same in all zones";
                return Err(bad("/zone", "a zone is for cron, and the schedule has every").hint(hint));
            }
            (None, Some(Span(span))) if span < SHORTEST_EVERY => {
                return Err(bad("/every", "ticks are at least 1s apart"));
            }
            (None, Some(Span(span))) => Timing::Every { span, from: self.from.map(|Moment(from)| from) },
        };
        Ok(ScheduleSpec {
            timing,
            on_missed: match self.on_missed {
                OnMissed::Skip => schedule::OnMissed::Skip,
                OnMissed::Once => schedule::OnMissed::Once,
                OnMissed::All => schedule::OnMissed::All,
            },
            on_overlap: match self.on_overlap {
                OnOverlap::Allow => schedule::OnOverlap::Allow,
                OnOverlap::Skip => schedule::OnOverlap::Skip,
            },
            template: Arc::new(self.job.check("/job", most)?),
        })
    }
}

impl Schedule {
    fn of(view: &ScheduleView<'_>, engine: &Engine, ticks: usize, form: BodyForm) -> Schedule {
        let ScheduleView { name, spec, course, waits_for_room } = *view;
        let (mut cron, mut zone, mut every, mut from) = (None, None, None, None);
        match &spec.timing {
            Timing::Cron { expression, zone: name } => {
                (cron, zone) = (Some(expression.to_string()), Some(name.to_string()));
            }
            Timing::Every { span, from: begin } => (every, from) = (Some(Span(*span)), begin.map(Moment)),
        }
        let mut next = Vec::new();
        let mut tick = course.next;
        while !course.is_paused && next.len() < ticks && tick < Time::NEVER {
            next.push(Moment(tick));
            // It takes a while to find one, and others wait meanwhile.
            if next.len() < ticks {
                tick = engine.next_scheduled(&spec.timing, tick);
            }
        }
        let state = |job: JobId| engine.job(job).map(|view| view.state.name());
        Schedule {
            name: Name(name.clone()),
            cron,
            zone,
            every,
            from,
            on_missed: match spec.on_missed {
                schedule::OnMissed::Skip => OnMissed::Skip,
                schedule::OnMissed::Once => OnMissed::Once,
                schedule::OnMissed::All => OnMissed::All,
            },
            on_overlap: match spec.on_overlap {
                schedule::OnOverlap::Allow => OnOverlap::Allow,
                schedule::OnOverlap::Skip => OnOverlap::Skip,
            },
            paused: course.is_paused,
            created_at: Moment(course.created_at),
            next,
            waits_for_room,
            last: course.last.map(|LastTick { tick, at, became }| {
                let (outcome, job) = match became {
                    Became::Put(job) => ("put", Some(job)),
                    Became::Run(job) => ("run", Some(job)),
                    Became::Nothing(why) => (why.name(), why.job()),
                };
                Last { tick: Moment(tick), at: moment(engine, at), outcome, job: job.map(Id) }
            }),
            last_job: course.last_fired.map(|(job, tick)| LastJob {
                id: Id(job),
                tick: Moment(tick),
                state: state(job),
            }),
            fired: course.fired,
            missed: course.missed,
            overlapped: course.overlapped,
            refused: course.refused,
            job: ShownTemplate::of(&spec.template, form),
        }
    }

    /// The schedule of that name, where whoever asks reaches its queue.
    fn find(desk: &Desk<'_>, name: &QueueName) -> Option<Schedule> {
        let engine = &desk.shared().engine;
        let view = engine.schedule(name).filter(|view| desk.grant().covers(&view.spec.template.queue))?;
        Some(Schedule::of(&view, engine, NEXT_TICKS, BodyForm::Auto))
    }
}

/// Sets a schedule up
///
/// Whether it is there or not. One that is there keeps its counts, and its next tick where it is to have the same ticks as
/// before; what is not named is as if it had never been set. Jobs that it put are left alone.
#[utoipa::path(put, path = "/v1/schedules/{schedule}", tag = "schedules", operation_id = "setSchedule",
    params(("schedule" = Name, Path, description = "Its name.")), request_body = NewSchedule,
    responses(
        (status = 201, description = "It is there now.", body = Schedule),
        (status = 200, description = "It is there as before, or was changed.", body = Schedule),
    ))]
pub(super) async fn set(
    api: Asker,
    ScheduleInPath(name): ScheduleInPath,
    Json(new): Json<NewSchedule>,
) -> Result<Response, Problem> {
    let (now, most) = api.host.look(|shared| (shared.engine.wall_now(), shared.facts.max_job_bytes as usize));
    let spec = new.check(now, most.min(TEMPLATE_BODY_BYTES))?;
    api.grant().check_queue(&spec.template.queue)?;
    let set = Command::Schedule(Box::new(ScheduleCommand::Set { name: &name, spec }));
    let done = api.decide(super::api::nothing, |desk| {
        let is_new = desk.execute(set)? == Answer::Scheduled { is_new: true };
        Ok((is_new, Schedule::find(desk, &name).expect("it was just set")))
    });
    let (is_new, schedule) = done.await?.map_err(|refusal| refused_of(&name, refusal))?;
    Ok(answer(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &schedule))
}

/// Lists schedules, without the bodies of their jobs
///
/// By name, a page at a time: go on with its `cursor` until a page has none. To a token that is limited to some queues, a page
/// may have fewer schedules than asked for, even none, and go on all the same.
#[utoipa::path(get, path = "/v1/schedules", tag = "schedules", operation_id = "listSchedules", params(SchedulesQuery),
    responses((status = 200, description = "A page of the list.", body = Schedules)))]
pub(super) async fn list(api: Asker, Parameters(query): Parameters<SchedulesQuery>) -> Result<Response, Problem> {
    let after = query.cursor.map(|Name(name)| name);
    let limit = Limit::or_default(query.limit).min(PAGE_ENTRIES);
    let page = api.look(|shared| {
        let engine = &shared.engine;
        let mut listed = engine.schedules_after(after.as_ref());
        let (mut schedules, mut last) = (Vec::new(), None);
        for view in listed.by_ref().take(STEP_OBJECTS) {
            last = Some(view.name.clone());
            if api.grant().covers(&view.spec.template.queue) {
                schedules.push(Schedule::of(&view, engine, 1, BodyForm::None));
                if schedules.len() == limit {
                    break;
                }
            }
        }
        let cursor = listed.next().and(last).map(Name);
        Schedules { schedules, cursor }
    });
    Ok(answer(StatusCode::OK, &page.await))
}

/// Shows a schedule
#[utoipa::path(get, path = "/v1/schedules/{schedule}", tag = "schedules", operation_id = "getSchedule",
    params(("schedule" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The schedule.", body = Schedule)))]
pub(super) async fn show(api: Asker, ScheduleInPath(name): ScheduleInPath) -> Result<Response, Problem> {
    let schedule = api.decide(super::api::nothing, |desk| Schedule::find(desk, &name)).await?;
    schedule.map(|schedule| answer(StatusCode::OK, &schedule)).ok_or_else(|| no_such_schedule(&name))
}

/// Deletes a schedule
///
/// Jobs that it put are left alone.
#[utoipa::path(delete, path = "/v1/schedules/{schedule}", tag = "schedules", operation_id = "deleteSchedule",
    params(("schedule" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The schedule as it was.", body = Schedule)))]
pub(super) async fn delete(api: Asker, ScheduleInPath(name): ScheduleInPath) -> Result<Response, Problem> {
    let done = api.decide(super::api::nothing, |desk| {
        let shown = Schedule::find(desk, &name).ok_or(Refusal::NoSuchSchedule)?;
        desk.execute(Command::Schedule(Box::new(ScheduleCommand::Remove(&name))))?;
        Ok(shown)
    });
    let schedule = done.await?.map_err(|refusal| refused_of(&name, refusal))?;
    Ok(answer(StatusCode::OK, &schedule))
}

/// Has a schedule pass over its ticks
///
/// Until it is resumed. They count as nothing.
#[utoipa::path(post, path = "/v1/schedules/{schedule}/pause", tag = "schedules", operation_id = "pauseSchedule",
    params(("schedule" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The schedule as it is now.", body = Schedule)))]
pub(super) async fn pause(api: Asker, ScheduleInPath(name): ScheduleInPath) -> Result<Response, Problem> {
    set_pause(&api, &name, true).await
}

/// Has a paused schedule go on with its next tick
#[utoipa::path(post, path = "/v1/schedules/{schedule}/resume", tag = "schedules", operation_id = "resumeSchedule",
    params(("schedule" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The schedule as it is now.", body = Schedule)))]
pub(super) async fn resume(api: Asker, ScheduleInPath(name): ScheduleInPath) -> Result<Response, Problem> {
    set_pause(&api, &name, false).await
}

async fn set_pause(api: &Asker, name: &QueueName, is_paused: bool) -> Result<Response, Problem> {
    let done = api.decide(super::api::nothing, |desk| {
        desk.execute(Command::Schedule(Box::new(ScheduleCommand::Pause { name, is_paused })))?;
        Schedule::find(desk, name).ok_or(Refusal::NoSuchSchedule)
    });
    let schedule = done.await?.map_err(|refusal| refused_of(name, refusal))?;
    Ok(answer(StatusCode::OK, &schedule))
}

/// Puts a schedule's job now
///
/// Beside its ticks, which stay as they are; paused or not, and whether its last job is open or not.
#[utoipa::path(post, path = "/v1/schedules/{schedule}/run", tag = "schedules", operation_id = "runSchedule",
    params(("schedule" = Name, Path, description = "Its name.")),
    responses((status = 201, description = "The job that was put.", body = Job,
        headers(("location" = String, description = "Where to look at it.")))))]
pub(super) async fn run(api: Asker, ScheduleInPath(name): ScheduleInPath) -> Result<Response, Problem> {
    let run = || Command::Schedule(Box::new(ScheduleCommand::Run(&name)));
    let wants = |engine: &Engine, session| engine.wanted(session, &run(), engine.now()).into_iter().collect();
    let done = api.decide(wants, |desk| {
        if desk.shared().facts.draining {
            return Err(Problem::new(Kind::Draining, "the server was told to take a snapshot and stop"));
        }
        match desk.execute(run()).map_err(|refusal| refused_of(&name, refusal))? {
            Answer::Put(id) => {
                let view = desk.job(id).expect("it was just put, and waits for nobody");
                Ok(Job::of(&view, &desk.shared().engine))
            }
            other => unreachable!("a run is not answered {other:?}"),
        }
    });
    let job = done.await??;
    let location = HeaderValue::try_from(format!("/v1/jobs/{}", job.id.0)).expect("digits are no riddle");
    let mut response = answer(StatusCode::CREATED, &job);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn refused_of(name: &QueueName, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NoSuchSchedule => no_such_schedule(name),
        other => refused(other),
    }
}

fn no_such_schedule(name: &QueueName) -> Problem {
    Problem::new(Kind::ScheduleNotFound, format!("there is no schedule {name}"))
}
