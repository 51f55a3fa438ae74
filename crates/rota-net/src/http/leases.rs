//! Leases: jobs are reserved, waited for if need be, and then held by the lease's token alone.
//!
//! A request that reserves has a session of its own as long as it waits, which is left with what it got. Who is gone
//! before the answer was sent gives everything back at once: see [`super::handed`]. A stream of them is in `stream`.

pub(super) mod stream;
mod taker;

use super::access::Grant;
use super::api::{Api, Asker, DEFAULT, Desk, KeptBody, Recipient, execute, moment, open_session};
use super::fields::{BodyForm, Id, Lease, Moment, Name, Span};
use super::handed::{Handed, Holder, Outgoing};
use super::jobs::{Ended, Job};
use super::problem::{Kind, Problem, ProblemDocument};
use super::request::{Json, LeaseInPath, OptionalJson};
use super::{answer, json_text, refused};
use crate::host::{Late, LeaseEnd, Shared};
use crate::limits::{RESERVE_BODY_BYTES, RESERVE_JOBS, RESERVE_QUEUES, RESERVE_WAIT};
use crate::words::Kept;
use axum::Extension;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rota_engine::command::{Answer, Command, Delivered, Refusal};
use rota_engine::engine::Engine;
use rota_engine::far::Want;
use rota_engine::job::{JobId, LeaseToken, Priority, QueueName, Time};
use rota_engine::session::SessionId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// About how long a lease is as it is shown, without the job's body, in bytes.
const LEASED_BYTES: usize = 600;

/// Which jobs to reserve.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reserve {
    /// Out of which queues: 1 to 100. The first ready job of all of them comes first.
    #[schema(min_items = 1, max_items = 100)]
    queues: Vec<Name>,
    /// How long to wait for a job where none is ready: at most `10m`; not at all unless told.
    wait: Option<Span>,
    /// The most jobs: 1 to 100; 1 unless told. Whatever is ready is answered at once.
    #[schema(minimum = 1, maximum = 100)]
    count: Option<u16>,
    /// How bodies are shown.
    #[serde(default)]
    body: BodyForm,
}

/// Jobs that were reserved.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Leases {
    /// None where none came in time.
    leases: Vec<Leased>,
}

/// A job, held under a lease.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Leased {
    lease: Lease,
    /// When it ends, unless it is begun anew before.
    ends_at: Moment,
    /// Whether it stays in force over a restart or a crash of the server: so it is of queues with `durable_leases`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(value_type = Option<bool>, nullable = false)]
    durable: bool,
    job: Job,
}

/// A lease that was begun anew.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Touched {
    lease: Lease,
    /// When it ends now.
    ends_at: Moment,
}

/// That an attempt failed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fail {
    /// How long from now the next attempt is due; as the job's back-off says unless told.
    delay: Option<Span>,
    /// What went wrong: a text of at most 4,096 bytes, or any JSON of one less.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>, required = false)]
    error: Option<Kept>,
}

/// That the work is done.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete {
    /// What came of it: a text of at most 65,536 bytes, or any JSON of one less. It is kept as long as the queue keeps its final
    /// jobs.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>, required = false)]
    result: Option<Kept>,
}

/// How far the work is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Touch {
    /// In the holder's words: a text of at most 4,096 bytes, or any JSON of one less. It is gone with the lease.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>, required = false)]
    progress: Option<Kept>,
}

/// What becomes of a job that is given back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    /// Its priority from now on; as it was unless told.
    #[schema(value_type = Option<u64>, maximum = 4294967295u32)]
    priority: Option<u32>,
    /// How long from now it is due; in its old place unless told.
    delay: Option<Span>,
}

/// What becomes of a job that is set aside.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bury {
    /// Its priority from now on; as it was unless told.
    #[schema(value_type = Option<u64>, maximum = 4294967295u32)]
    priority: Option<u32>,
}

/// A job that was reserved, before its body was read.
struct Taken {
    leased: Leased,
    body: KeptBody,
    /// How long the lease lasts from then on.
    lasts: Duration,
}

/// What came of a try to reserve.
enum Step {
    Frozen,
    Full,
    Refused(Refusal),
    Taken(Vec<Taken>),
    Waits(oneshot::Receiver<Late>),
}

/// Reserves jobs
///
/// Whatever is ready of those queues, up to `count`; where nothing is, it waits for one job, up to `wait`. An answer without
/// leases means that none came. Each lease is then held by whoever has its text, until it ends: it is to be completed,
/// failed, released or buried before, or begun anew with `touch`. A restart of the server ends all leases, without fault, but for
/// those of queues with `durable_leases`, which stay in force.
///
/// Whoever closes the connection before the answer was sent gets no lease.
#[utoipa::path(post, path = "/v1/leases", tag = "leases", operation_id = "reserveJobs", request_body = Reserve,
    responses((status = 200, description = "The jobs that were reserved.", body = Leases)))]
pub(super) async fn reserve(
    api: Asker,
    Extension(outgoing): Extension<Arc<Outgoing>>,
    Json(request): Json<Reserve>,
) -> Result<Response, Problem> {
    let wanted = Wanted::check(request, api.grant())?;
    let mut holder = Holder::new(api.host.clone());
    let taken = wanted.take(&api, &api.recipient(), &mut holder).await?;
    // Where there is no room for them, the jobs go back with the holder.
    let room = api.room(taken.iter().map(|taken| taken.leased.job.body_bytes + LEASED_BYTES).sum())?;
    let (mut leases, bodies): (Vec<Leased>, Vec<KeptBody>) =
        taken.into_iter().map(|Taken { leased, body, .. }| (leased, body)).unzip();
    for (leased, body) in leases.iter_mut().zip(api.read(bodies).await) {
        leased.job.show(body, wanted.body);
    }
    let text = json_text(&Leases { leases });
    let body = Body::new(Handed::new(text.into(), holder, outgoing));
    Ok(room.holds((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()))
}

/// What a request wants, checked.
struct Wanted {
    queues: Vec<QueueName>,
    wait: Duration,
    count: u16,
    body: BodyForm,
}

impl Wanted {
    fn check(request: Reserve, grant: &Grant) -> Result<Wanted, Problem> {
        let bad = |pointer: &str, detail: String| Err(Problem::new(Kind::BadValue, detail).at(pointer));
        let Reserve { queues, wait, count, body } = request;
        let queues = check_queues(queues, grant)?;
        let wait = wait.map_or(Duration::ZERO, |Span(wait)| wait);
        if wait > RESERVE_WAIT {
            return bad("/wait", format!("a request waits for at most {} minutes", RESERVE_WAIT.as_secs() / 60));
        }
        let count = count.unwrap_or(1);
        if !(1..=RESERVE_JOBS).contains(&count) {
            return bad("/count", format!("{count} jobs: a request reserves 1 to {RESERVE_JOBS}"));
        }
        Ok(Wanted { queues, wait, count, body })
    }

    /// Reserves what there is, and waits where there is nothing. What it took may leave when it returns.
    async fn take(&self, api: &Api, to: &Recipient, holder: &mut Holder) -> Result<Vec<Taken>, Problem> {
        let (mut until, mut late) = (None, None);
        loop {
            let is_stopping = *api.stop.borrow();
            let (step, depends_on) = api.host.with_and_wait(|shared, now| {
                let until = *until.get_or_insert(now.after(self.wait));
                let until = if is_stopping { now } else { until };
                let step =
                    if shared.is_frozen { Step::Frozen } else { self.step(shared, to, holder, &mut late, until, now) };
                let will_wait = matches!(step, Step::Taken(_));
                (step, will_wait)
            });
            match step {
                Step::Taken(taken) => {
                    api.leaves(depends_on).await;
                    return Ok(taken);
                }
                Step::Frozen => api.wait_until_thawed().await?,
                Step::Full => return Err(Problem::new(Kind::Busy, "there are as many sessions as there can be")),
                Step::Refused(refusal) => return Err(refused(refusal)),
                Step::Waits(receiver) => late = wait(api, &to.grant, holder, receiver).await?,
            }
        }
    }

    /// Reserves what there is, or begins to wait until then. Who came out of a wait with a job takes that one first.
    fn step(
        &self,
        shared: &mut Shared,
        to: &Recipient,
        holder: &mut Holder,
        late: &mut Option<(JobId, LeaseToken)>,
        until: Time,
        now: Time,
    ) -> Step {
        let session = match holder.session() {
            Some(session) => session,
            None => match open(shared, to, &self.queues, now) {
                Ok(Some(session)) => {
                    holder.holds(session);
                    session
                }
                Ok(None) => return Step::Full,
                Err(refusal) => return Step::Refused(refusal),
            },
        };
        let mut taken: Vec<Taken> = late.take().and_then(|(id, token)| take(shared, id, token)).into_iter().collect();
        let body_bytes = |taken: &[Taken]| taken.iter().map(|taken| taken.leased.job.body_bytes).sum::<usize>();
        while taken.len() < usize::from(self.count) && body_bytes(&taken) < RESERVE_BODY_BYTES {
            let wait = if taken.is_empty() { until.since(now) } else { Duration::ZERO };
            match execute(shared, session, Command::Reserve { wait: Some(wait) }, now) {
                Ok(Answer::Reserved(id, token)) => taken.extend(take(shared, id, token)),
                Ok(Answer::Waiting) => return Step::Waits(shared.await_delivery(session)),
                Ok(Answer::TimedOut | Answer::DeadlineSoon) => break,
                Ok(other) => unreachable!("a reserve is not answered {other:?}"),
                // A durable lease is to be written down. Those that were have their place.
                Err(Refusal::NoRoom) if !taken.is_empty() => break,
                Err(refusal) => return Step::Refused(refusal),
            }
        }
        shared.engine.leave_session(session, now);
        holder.left();
        Step::Taken(taken)
    }
}

/// The queues that a request names, which whoever asks must reach.
fn check_queues(queues: Vec<Name>, grant: &Grant) -> Result<Vec<QueueName>, Problem> {
    if !(1..=RESERVE_QUEUES).contains(&queues.len()) {
        let detail = format!("{} queues: a request names 1 to {RESERVE_QUEUES}", queues.len());
        return Err(Problem::new(Kind::BadValue, detail).at("/queues"));
    }
    for (at, Name(queue)) in queues.iter().enumerate() {
        grant.check_queue(queue).map_err(|problem| problem.at(format!("/queues/{at}")))?;
    }
    Ok(queues.into_iter().map(|Name(queue)| queue).collect())
}

/// Opens a session that watches those queues alone; `None` when there are as many as there can be.
fn open(shared: &mut Shared, to: &Recipient, queues: &[QueueName], now: Time) -> Result<Option<SessionId>, Refusal> {
    let Some(session) = open_session(&mut shared.engine, &to.grant) else { return Ok(None) };
    shared.engine.set_origin(session, to.origin.clone());
    shared.engine.hand_tokens_on(session);
    let mut watch = || {
        for queue in queues {
            execute(shared, session, Command::Watch(queue), now)?;
        }
        let default = QueueName::new(DEFAULT).expect("it keeps the rule for names");
        if !queues.contains(&default) {
            execute(shared, session, Command::Ignore(&default), now)?;
        }
        Ok(())
    };
    match watch() {
        Ok(()) => Ok(Some(session)),
        Err(refusal) => {
            shared.engine.close_session(session, now);
            Err(refusal)
        }
    }
}

/// Waits for a job, or for the end of the wait.
///
/// # Errors
/// [`Problem`] if whoever waits may do so no more. What was on its way goes back with the holder.
async fn wait(
    api: &Api,
    grant: &Grant,
    holder: &Holder,
    mut receiver: oneshot::Receiver<Late>,
) -> Result<Option<(JobId, LeaseToken)>, Problem> {
    let late = tokio::select! {
        biased;
        late = &mut receiver => late,
        not = api.lost(grant) => return Err(not.into()),
        () = api.stops() => {
            let Some(session) = holder.session() else { return Ok(None) };
            let (waited, _) = api.host.with(|shared, _| shared.engine.stop_waiting(session));
            if waited {
                return Ok(None);
            }
            // The delivery was decided before the wait could be ended.
            receiver.await
        }
    };
    Ok(match late.ok().map(|late| late.what) {
        Some(Delivered::Job { job, token, .. }) => Some((job, token)),
        Some(Delivered::TimedOut | Delivered::DeadlineSoon | Delivered::LeaseEnded { .. }) | None => None,
    })
}

/// What is told of a job that was just reserved; nothing if it was called off since.
fn take(shared: &Shared, id: JobId, token: LeaseToken) -> Option<Taken> {
    let view = shared.engine.job(id)?;
    let (_, _, ends) = view.lease.filter(|(_, held, _)| *held == token)?;
    let lease = Lease::new(id, token);
    let leased = Leased {
        lease,
        ends_at: moment(&shared.engine, ends),
        durable: shared.engine.outlives(&view),
        job: Job::of(&view, &shared.engine),
    };
    Some(Taken { leased, body: KeptBody::of(shared, &view), lasts: ends.since(shared.engine.now()) })
}

/// Says that the work is done
#[utoipa::path(post, path = "/v1/leases/{lease}/complete", tag = "leases", operation_id = "completeJob",
    params(("lease" = Lease, Path, description = "The lease.")), request_body = Option<Complete>,
    responses(
        (status = 200, description = "The job is over.", body = Ended),
        (status = 409, description = "The lease has ended.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn complete(
    api: Asker,
    LeaseInPath(lease): LeaseInPath,
    OptionalJson(Complete { result }): OptionalJson<Complete>,
) -> Result<Response, Problem> {
    let result = result.as_ref().map(Kept::bytes);
    let complete = Command::Complete { held: lease.held(), result };
    held(&api, lease, |desk| desk.execute(complete)).await?;
    Ok(answer(StatusCode::OK, &Ended { id: Id(lease.job()) }))
}

/// Says that the attempt failed
///
/// The job is tried again, or buried if that was its last attempt.
#[utoipa::path(post, path = "/v1/leases/{lease}/fail", tag = "leases", operation_id = "failJob",
    params(("lease" = Lease, Path, description = "The lease.")), request_body = Option<Fail>,
    responses(
        (status = 200, description = "The job as it is now.", body = Job),
        (status = 409, description = "The lease has ended.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn fail(
    api: Asker,
    LeaseInPath(lease): LeaseInPath,
    OptionalJson(Fail { delay, error }): OptionalJson<Fail>,
) -> Result<Response, Problem> {
    let (delay, error) = (delay.map(|Span(delay)| delay), error.as_ref().map(Kept::bytes));
    let fail = Command::Fail { held: lease.held(), delay, error };
    given_back(&api, lease, |desk| desk.execute(fail)).await
}

/// Gives the job back
///
/// Without fault: it does not count as an attempt.
#[utoipa::path(post, path = "/v1/leases/{lease}/release", tag = "leases", operation_id = "releaseJob",
    params(("lease" = Lease, Path, description = "The lease.")), request_body = Option<Release>,
    responses(
        (status = 200, description = "The job as it is now.", body = Job),
        (status = 409, description = "The lease has ended.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn release(
    api: Asker,
    LeaseInPath(lease): LeaseInPath,
    OptionalJson(Release { priority, delay }): OptionalJson<Release>,
) -> Result<Response, Problem> {
    let delay = span(delay);
    given_back(&api, lease, |desk| {
        let priority = priority_or_own(desk, lease, priority)?;
        desk.execute(Command::Release { held: lease.held(), priority, delay })
    })
    .await
}

/// Sets the job aside
///
/// It waits for a kick.
#[utoipa::path(post, path = "/v1/leases/{lease}/bury", tag = "leases", operation_id = "buryJob",
    params(("lease" = Lease, Path, description = "The lease.")), request_body = Option<Bury>,
    responses(
        (status = 200, description = "The job as it is now.", body = Job),
        (status = 409, description = "The lease has ended.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn bury(
    api: Asker,
    LeaseInPath(lease): LeaseInPath,
    OptionalJson(Bury { priority }): OptionalJson<Bury>,
) -> Result<Response, Problem> {
    given_back(&api, lease, |desk| {
        let priority = priority_or_own(desk, lease, priority)?;
        desk.execute(Command::Bury { held: lease.held(), priority })
    })
    .await
}

/// Begins the lease anew
///
/// And says how far the work is, for whoever looks at the job.
#[utoipa::path(post, path = "/v1/leases/{lease}/touch", tag = "leases", operation_id = "touchJob",
    params(("lease" = Lease, Path, description = "The lease.")), request_body = Option<Touch>,
    responses(
        (status = 200, description = "The lease, and when it ends now.", body = Touched),
        (status = 409, description = "The lease has ended.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn touch(
    api: Asker,
    LeaseInPath(lease): LeaseInPath,
    OptionalJson(Touch { progress }): OptionalJson<Touch>,
) -> Result<Response, Problem> {
    let progress = progress.as_ref().map(Kept::bytes);
    let touched = held(&api, lease, |desk| {
        if let Some(progress) = progress {
            desk.execute(Command::Progress { held: lease.held(), progress })?;
        }
        desk.execute(Command::Touch(lease.held()))?;
        let view = desk.job(lease.job()).ok_or(Refusal::NotFound)?;
        let (_, _, ends) = view.lease.ok_or(Refusal::NotFound)?;
        Ok(Touched { lease, ends_at: moment(&desk.shared().engine, ends) })
    });
    Ok(answer(StatusCode::OK, &touched.await?))
}

fn span(span: Option<Span>) -> Duration {
    span.map_or(Duration::ZERO, |Span(span)| span)
}

/// The priority that was asked for, or the one that the job has.
fn priority_or_own(desk: &Desk<'_>, lease: Lease, priority: Option<u32>) -> Result<Priority, Refusal> {
    match priority {
        Some(priority) => Ok(Priority(priority)),
        None => desk.job(lease.job()).map(|view| view.priority).ok_or(Refusal::NotFound),
    }
}

/// Does something with a held job, and answers the job as it is then.
async fn given_back(
    api: &Asker,
    lease: Lease,
    work: impl FnOnce(&mut Desk<'_>) -> Result<Answer, Refusal>,
) -> Result<Response, Problem> {
    let job = held(api, lease, |desk| {
        work(desk)?;
        let view = desk.job(lease.job()).ok_or(Refusal::NotFound)?;
        Ok(Job::of(&view, &desk.shared().engine))
    });
    Ok(answer(StatusCode::OK, &job.await?))
}

/// Does something with a held job; says why not where the lease is not the one that holds it.
async fn held<T>(
    api: &Asker,
    lease: Lease,
    work: impl FnOnce(&mut Desk<'_>) -> Result<T, Refusal>,
) -> Result<T, Problem> {
    let wants = |engine: &Engine, _| -> Vec<Want> { engine.wanted_job(lease.job()).into_iter().collect() };
    let done = api.decide(wants, |desk| {
        work(desk).map_err(|refusal| match refusal {
            Refusal::NotFound => outdated(desk, lease),
            other => refused(other),
        })
    });
    done.await?
}

/// Why a lease does not hold its job.
fn outdated(desk: &Desk<'_>, lease: Lease) -> Problem {
    let id = lease.job();
    let (view, token) = (desk.job(id), lease.held().token);
    let reason = match &view {
        // To whom jobs of other queues are not there, none is told what became of one.
        None if desk.grant().is_limited() => LeaseEnd::Over,
        view => LeaseEnd::looked_up(&desk.shared().engine, id, token, view.as_ref()),
    };
    let detail = match view {
        None => format!("job {id} is over: it was completed or cancelled"),
        Some(view) if view.lease.is_some() => format!("the lease has ended, and job {id} is held under another one"),
        Some(view) => format!("the lease has ended, and job {id} is {}", view.state.name()),
    };
    Problem::new(Kind::LeaseOutdated, detail).about(id).because(reason)
}
