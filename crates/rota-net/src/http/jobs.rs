//! Jobs: put them, look at them, list them, kick them, call them off.

mod cursor;
pub(super) mod many;
mod put;
mod repeat;
mod shown;
mod terms;
mod walk;
pub(super) mod why;

use crate::limits::{PAGE_BYTES, PAGE_ENTRIES, PAGE_ENTRIES_UNASKED, PAGE_SLICES};
pub(super) use cursor::{Cursor, List};
use put::PutRequest;
pub(super) use put::{ShownTemplate, TemplateJob};
use repeat::{Outcome, Outcomes};
use shown::Holder;
pub(super) use shown::{Ended, Job, Page};
use walk::{Walk, read_filter};

use super::answers::Room;
use super::api::{Asker, Desk, KeptBody};
use super::fields::{BodyForm, Id, Name};
use super::problem::{Kind, Problem, ProblemDocument};
use super::request::{Collected, JobInPath, KeyInPath, Parameters, collect};
use super::{answer, refused};
use crate::filter::Filter;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use rota_engine::command::{Answer, Command, JobView, Refusal};
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, JobState, QueueName};
use rota_engine::limits::SLICE_TEXT_BYTES;
use rota_engine::refused::PutRefused;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// About how long the answer to a put is for each job, in bytes.
const PUT_BYTES: usize = 1 << 10;

/// What came of one job of several.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PutResult {
    /// The status that the job would have been answered with alone: 201, or 200 where an open job has its key and the put
    /// said `keep`; else the problem's.
    status: u16,
    /// The job's id, where it was put or kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<Id>,
    /// The job, where it was put or kept; not where an earlier request with the same `Idempotency-Key` put it and it is over
    /// by now, or where those that are shown so are longer than about 1 MiB together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job: Option<Job>,
    /// Why it was not put.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<ProblemDocument>,
}

/// What came of several jobs, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PutResults {
    results: Vec<PutResult>,
}

/// Puts a job, or several
///
/// One job as an object; several as a list, or as the member `jobs` of an object: at most 1,000 in one request. Of several,
/// each is put or refused for itself: the answer is 200 with the results in the same order. If the request itself is wrong
/// (a field that there is not, a value out of range), none is put.
///
/// A request with an `Idempotency-Key` can be sent again for 24 hours, with the same body and the same token: jobs that it put are answered as
/// before (with the header `idempotency-replayed: true`), also after a crash of the server; those that were refused are tried
/// again. Of a job that is over by then, and not kept, the answer says the id and the state `gone`.
///
/// The answer leaves when the jobs are as durable as the server's `--sync` promises.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", operation_id = "putJobs",
    request_body(content = PutRequest, content_type = "application/json"),
    params(("idempotency-key" = Option<String>, Header, description = "A name of the request's own: 1 to 200 visible ASCII characters.", min_length = 1, max_length = 200, pattern = "^[!-~]+$")),
    responses(
        (status = 201, description = "The job was put.", body = OnePut, headers(("location" = String, description = "Where to look at it."))),
        (status = 200, description = "The results of several jobs; of one job with `keep`: the job that has its key.", body = PutAnswer),
    ))]
pub(super) async fn put(api: Asker, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    super::request::check_type(&headers)?;
    let collected = collect(&api, api.whose(), &headers, body).await;
    let Collected { bytes, room } = collected.inspect_err(|problem| count_refused(&api, problem, 1))?;
    let most = api.host.look(|shared| shared.facts.max_job_bytes) as usize;
    let key = repeat::key(&headers, api.grant())?;
    let read = move |bytes: &[u8]| Ok((key.map(|key| repeat::Memo::of(key, bytes)), PutRequest::read(bytes, most)?));
    let read = super::request::off_the_way(bytes, read).await;
    let (memo, request) = read.inspect_err(|problem| count_refused(&api, problem, 1))?;
    drop(room);
    let (puts, is_one) = match request {
        put::Checked::One(put) => (vec![put], true),
        put::Checked::Many(puts) => (puts, false),
    };
    let count = puts.len();
    let room = api.room(count * PUT_BYTES).inspect_err(|problem| count_refused(&api, problem, count))?;
    let mut outcomes = Outcomes::of(count);
    for turn in repeat::in_turns(puts) {
        let named: Vec<_> = turn.iter().flatten().map(put::Put::named).collect();
        let wants = |engine: &Engine, _| {
            let before = memo.iter().flat_map(|memo| memo.wanted(engine));
            before.chain(named.iter().flat_map(|named| named.wanted(engine))).collect()
        };
        let count = turn.len();
        let decided = api.decide(wants, |desk| outcomes.decide(memo.as_ref(), turn, desk)).await;
        let decided = decided.inspect_err(|problem| count_refused(&api, problem, count));
        if let Err(problem) = decided.flatten() {
            outcomes.refuse(count, problem)?;
        }
    }
    let Outcomes { jobs, is_replayed, .. } = outcomes;
    api.host.slow_down().await;
    let mut response =
        if is_one { one_put(jobs.into_iter().next().expect("one came of one")?) } else { many_put(jobs) };
    if is_replayed {
        response.headers_mut().insert(repeat::REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(room.holds(response))
}

/// Counts puts that are refused before the engine is asked: for their length, for want of room, or for a value that there cannot be.
/// A request that nobody has read, or that makes no sense as a whole, counts as one.
fn count_refused(api: &Asker, problem: &Problem, puts: usize) {
    let why = match problem.kind() {
        Kind::TooLarge => PutRefused::TooLarge,
        Kind::Busy => PutRefused::Busy,
        Kind::BadValue => PutRefused::Invalid,
        _ => return,
    };
    api.host.with(|shared, _| shared.engine.count_refused_puts(None, why, puts as u64));
}

fn one_put(Outcome { is_new, id, job }: Outcome) -> Response {
    let location = HeaderValue::try_from(format!("/v1/jobs/{id}")).expect("digits are no riddle");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let gone = || OnePut::Gone(GoneJob { id: Id(id), state: GoneState::Gone });
    let mut response = answer(status, &job.map_or_else(gone, |job| OnePut::Job(Box::new(job))));
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn many_put(jobs: Vec<Result<Outcome, Problem>>) -> Response {
    let results = jobs.into_iter().map(|result| match result {
        Ok(Outcome { is_new, id, job }) => {
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            PutResult { status: status.as_u16(), id: Some(Id(id)), job, problem: None }
        }
        Err(problem) => {
            let problem = problem.document();
            PutResult { status: problem.status, id: None, job: None, problem: Some(problem) }
        }
    });
    answer(StatusCode::OK, &PutResults { results: results.collect() })
}

/// What the put of one job is answered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum OnePut {
    Job(Box<Job>),
    Gone(GoneJob),
}

/// A job that was put by an earlier request with the same `Idempotency-Key`, and is over.
#[derive(Debug, Serialize, ToSchema)]
struct GoneJob {
    id: Id,
    state: GoneState,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum GoneState {
    Gone,
}

/// What a put is answered with status 200.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is there for its schema")]
enum PutAnswer {
    Many(PutResults),
    One(OnePut),
}

/// How a job is to be shown.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Look {
    /// How the body is shown.
    #[serde(default)]
    #[param(inline)]
    body: BodyForm,
}

/// Shows a job
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "getJob",
    params(("id" = Id, Path, description = "The job's id."), Look),
    responses((status = 200, description = "The job, with its body.", body = Job)))]
pub(super) async fn show(
    api: Asker,
    JobInPath(id): JobInPath,
    Parameters(look): Parameters<Look>,
) -> Result<Response, Problem> {
    let wants = |engine: &Engine, _| engine.wanted_job(id).into_iter().collect();
    let found = api
        .decide(wants, |desk| {
            let view = desk.job(id).ok_or_else(|| no_such_job(id))?;
            Shown::of(&api, desk, &view, look.body)
        })
        .await??;
    Ok(found.answer(&api).await)
}

/// Shows the job of a key
#[utoipa::path(get, path = "/v1/queues/{queue}/keys/{key}", tag = "jobs", operation_id = "getJobByKey",
    params(("queue" = Name, Path, description = "The queue."), ("key" = String, Path, description = "The key that the job was put with."), Look),
    responses((status = 200, description = "The job, with its body.", body = Job)))]
pub(super) async fn show_by_key(
    api: Asker,
    KeyInPath(queue, key): KeyInPath,
    Parameters(look): Parameters<Look>,
) -> Result<Response, Problem> {
    let wants = |engine: &Engine, _| engine.wanted_key(&queue, key.as_bytes()).into_iter().collect();
    let found = api
        .decide(wants, |desk| {
            let view = desk.shared().engine.job_with_key(&queue, key.as_bytes());
            Shown::of(&api, desk, &view.ok_or_else(|| no_such_key(&queue, &key))?, look.body)
        })
        .await??;
    Ok(found.answer(&api).await)
}

/// A job that is to be shown with its body, which takes room from before it is copied.
struct Shown {
    job: Job,
    /// None where it is not to be shown.
    body: Option<KeptBody>,
    form: BodyForm,
    room: Room,
}

impl Shown {
    fn of(api: &Asker, desk: &Desk<'_>, view: &JobView<'_>, form: BodyForm) -> Result<Shown, Problem> {
        let has_body = !matches!(form, BodyForm::None);
        let room = api.room(Job::bytes(view) + if has_body { view.body.length() } else { 0 })?;
        let body = has_body.then(|| desk.body(view));
        Ok(Shown { job: Job::seen(view, &desk.shared().engine), body, form, room })
    }

    async fn answer(self, api: &Asker) -> Response {
        let Shown { mut job, body, form, room } = self;
        for body in api.read(body.into_iter().collect()).await {
            job.show(body, form);
        }
        room.holds(answer(StatusCode::OK, &job))
    }
}

/// Which jobs a list has.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// A filter, as `queue:mail* state:buried error:"timed out" age>1h`: see docs/http.md.
    #[param(max_length = 2048)]
    q: Option<String>,
    /// Only those of this queue.
    #[param(value_type = Option<Name>)]
    queue: Option<Name>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<StateName>,
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// The most jobs of a page: 1 to 1,000, and 100 unless told.
    #[param(minimum = 1, maximum = 1000, value_type = Option<u16>)]
    limit: Option<Limit>,
}

/// A state of a job.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum StateName {
    Delayed,
    Ready,
    Reserved,
    Buried,
    Blocked,
    Done,
    Cancelled,
    Expired,
}

/// How many entries a page may have.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(try_from = "usize")]
#[schema(value_type = usize)]
pub(super) struct Limit(usize);

impl TryFrom<usize> for Limit {
    type Error = String;

    fn try_from(limit: usize) -> Result<Limit, String> {
        match limit {
            1..=PAGE_ENTRIES => Ok(Limit(limit)),
            _ => Err(format!("{limit} is out of range: 1 to {PAGE_ENTRIES}")),
        }
    }
}

impl Limit {
    pub(super) fn or_default(limit: Option<Limit>) -> usize {
        limit.map_or(PAGE_ENTRIES_UNASKED, |Limit(limit)| limit)
    }
}

impl From<StateName> for JobState {
    fn from(state: StateName) -> JobState {
        match state {
            StateName::Delayed => JobState::Delayed,
            StateName::Ready => JobState::Ready,
            StateName::Reserved => JobState::Reserved,
            StateName::Buried => JobState::Buried,
            StateName::Blocked => JobState::Blocked,
            StateName::Done => JobState::Done,
            StateName::Cancelled => JobState::Cancelled,
            StateName::Expired => JobState::Expired,
        }
    }
}

/// Lists jobs, without their bodies
///
/// A page at a time: go on with its `cursor` until a page has none. The order is that of the places which jobs have in memory: as
/// they were put, but that one put later takes the place of one that is gone, and that a restart places them anew. Jobs that a filter
/// names by their ids come by those. Ids rise with every put: whoever wants the newest first narrows the list, as by `age<1h`, and
/// sorts it by `id`. A page may have fewer jobs than
/// asked for, even none, and go on all the same: it ends at about 1 MiB, and one request looks at 20,000 jobs at the most. A job that is there, and meant, from the
/// first page to the last is listed once.
/// With `--storage mapped`, delayed jobs that are not in memory are not listed, unless a filter names them by their ids; each page
/// says how many they are.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs", params(ListQuery),
    responses(
        (status = 200, description = "A page of the list.", body = Page),
        (status = 410, description = "The cursor is of before a restart.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(api: Asker, Parameters(query): Parameters<ListQuery>) -> Result<Response, Problem> {
    let ListQuery { q, queue, state, cursor, limit } = query;
    let mut filter = q.as_deref().map_or(Ok(Filter::default()), read_filter)?;
    if let Some(Name(queue)) = &queue {
        api.grant().check_queue(queue)?;
        filter = filter.and(Filter::of_queue(queue));
    }
    if let Some(state) = state {
        filter = filter.and(Filter::of_state(state.into()));
    }
    let epoch = api.host.look(|shared| shared.engine.epoch());
    let list = List::Jobs { what: "list", filter: &filter };
    let mut walk = Walk::new(&filter, api.grant(), cursor.as_deref(), &list, epoch)?;
    let limit = Limit::or_default(limit);
    let room = api.room(PAGE_BYTES.min(limit * PUT_BYTES))?;
    let (mut jobs, mut bytes, mut not_in_memory) = (Vec::new(), 0, 0);
    for slice in 1.. {
        walk.look(&api, |walk, engine| {
            let before = bytes;
            walk.slice(engine, |view, _| {
                jobs.push(Job::seen(view, engine));
                bytes += Job::bytes(view);
                // What was copied stays below what is looked through under one lock.
                jobs.len() < limit && bytes < PAGE_BYTES && bytes - before < SLICE_TEXT_BYTES
            });
            not_in_memory = engine.cold_jobs();
        })
        .await?;
        if walk.is_over || jobs.len() == limit || bytes >= PAGE_BYTES || slice == PAGE_SLICES {
            break;
        }
        tokio::task::yield_now().await;
    }
    let page = Page { jobs, cursor: walk.cursor(&list, epoch), not_in_memory };
    Ok(room.holds(answer(StatusCode::OK, &page)))
}

/// Calls a job off
///
/// In whatever state it is, held or not: after the answer it is never handed out again.
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "cancelJob",
    params(("id" = Id, Path, description = "The job's id.")),
    responses((status = 200, description = "It was called off.", body = Ended)))]
pub(super) async fn cancel(api: Asker, JobInPath(id): JobInPath) -> Result<Response, Problem> {
    let wants = |engine: &Engine, _| engine.wanted_job(id).into_iter().collect();
    let done = api.decide(wants, |desk| desk.execute(Command::Cancel(id))).await?;
    cancelled(done, || no_such_job(id))
}

/// Calls off the job of a key
#[utoipa::path(delete, path = "/v1/queues/{queue}/keys/{key}", tag = "jobs", operation_id = "cancelJobByKey",
    params(("queue" = Name, Path, description = "The queue."), ("key" = String, Path, description = "The key that the job was put with.")),
    responses((status = 200, description = "It was called off.", body = Ended)))]
pub(super) async fn cancel_by_key(api: Asker, KeyInPath(queue, key): KeyInPath) -> Result<Response, Problem> {
    let wants = |engine: &Engine, _| engine.wanted_key(&queue, key.as_bytes()).into_iter().collect();
    let cancel = Command::CancelKey { queue: &queue, key: key.as_bytes() };
    let done = api.decide(wants, |desk| desk.execute(cancel)).await?;
    cancelled(done, || no_such_key(&queue, &key))
}

fn cancelled(done: Result<Answer, Refusal>, not_found: impl FnOnce() -> Problem) -> Result<Response, Problem> {
    match done {
        Ok(Answer::Cancelled(id)) => Ok(answer(StatusCode::OK, &Ended { id: Id(id) })),
        Ok(other) => unreachable!("a cancel is not answered {other:?}"),
        Err(Refusal::NotFound) => Err(not_found()),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Makes a buried, delayed or blocked job ready
///
/// A blocked one waits for nothing any more.
#[utoipa::path(post, path = "/v1/jobs/{id}/kick", tag = "jobs", operation_id = "kickJob",
    params(("id" = Id, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "The job as it is now.", body = Job),
        (status = 409, description = "It is neither buried, delayed nor blocked.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn kick(api: Asker, JobInPath(id): JobInPath) -> Result<Response, Problem> {
    let wants = |engine: &Engine, _| engine.wanted_job(id).into_iter().collect();
    let done = api
        .decide(wants, |desk| {
            let done = desk.execute(Command::KickJob(id));
            (done, desk.job(id).map(|view| Job::of(&view, &desk.shared().engine)))
        })
        .await?;
    match done {
        (_, None) => Err(no_such_job(id)),
        (Ok(_), Some(job)) => Ok(answer(StatusCode::OK, &job)),
        (Err(Refusal::NotFound), Some(job)) => {
            let detail = format!("job {id} is {}, and only buried, delayed and blocked jobs can be kicked", job.state);
            Err(Problem::new(Kind::WrongState, detail).about(id))
        }
        (Err(refusal), Some(_)) => Err(refused(refusal)),
    }
}

pub(super) fn no_such_job(id: JobId) -> Problem {
    Problem::new(Kind::JobNotFound, format!("there is no open job {id}")).about(id)
}

fn no_such_key(queue: &QueueName, key: &str) -> Problem {
    Problem::new(Kind::KeyNotFound, format!("no open job of {queue} has the key {key:?}"))
}
