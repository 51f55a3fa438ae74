//! Queues: their counters, their pauses, and kicks of many jobs at once.

use super::api::{Asker, DEFAULT, Desk, moment, nothing};
use super::fields::{Moment, Name, Span};
use super::jobs::{Cursor, Limit, List};
use super::problem::{Kind, Problem};
use super::request::{Json, OptionalJson, Parameters, QueueInPath, maybe_object};
use super::stats::RefusedPuts;
use super::{answer, refused};
use crate::limits::PAGE_ENTRIES;
use axum::http::StatusCode;
use axum::response::Response;
use rota_engine::command::{Answer, Command, KickSource, Refusal, Target};
use rota_engine::engine::Engine;
use rota_engine::job::{QueueName, Time};
use rota_engine::limits::STEP_OBJECTS;
use rota_engine::queue::{self, QueueId, QueueSettings};
use rota_engine::spans::Spans;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// A queue, and what is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    name: Name,
    jobs: States,
    /// Ready jobs that are not handed out now because of their limit keys: see `per_key` of the settings.
    held_back: u64,
    /// Final jobs that are kept.
    ended: u64,
    /// Bytes of the bodies of its open jobs, those aside that are not in memory.
    body_bytes: u64,
    settings: Settings,
    /// Ready jobs of a priority below 1024.
    urgent: u64,
    /// Whether it hands nothing out.
    paused: bool,
    /// Until when, where that is not until it is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    paused_until: Option<Moment>,
    /// Who waits for a job of it.
    waiting: u64,
    /// Connections of the beanstalkd protocol that put to it.
    using: u32,
    /// Connections of the beanstalkd protocol that reserve from it.
    watching: u32,
    totals: QueueTotals,
    /// Puts that were refused since the server started, if some were.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refused_puts: Option<RefusedPuts>,
    /// How long its first ready job has been due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    head_age: Option<Span>,
    /// From when a job was due until it was handed out for the first time, since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    latency: Option<Times>,
    /// From when a job was handed out until it was completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    run_time: Option<Times>,
}

/// How long something took. Quantiles are the bounds of buckets, each twice the one before.
#[derive(Debug, Serialize, ToSchema)]
struct Times {
    count: u64,
    mean: Span,
    /// Half of them took no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    p50: Option<Span>,
    /// 99 of 100 took no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    p99: Option<Span>,
}

impl Times {
    fn of(spans: &Spans) -> Option<Times> {
        let count = spans.total();
        let mean = spans.sum().checked_div(u32::try_from(count).unwrap_or(u32::MAX))?;
        let quantile = |percent| spans.quantile(percent).map(Span::measured);
        Some(Times { count, mean: Span::measured(mean), p50: quantile(50), p99: quantile(99) })
    }
}

/// Open jobs by state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct States {
    pub(super) delayed: u64,
    pub(super) ready: u64,
    pub(super) reserved: u64,
    pub(super) buried: u64,
    pub(super) blocked: u64,
}

/// How a queue is set up. What is absent is not set.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// How long final jobs are kept, with their results; not at all unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    retain: Option<Span>,
    /// The most open jobs; a put past them is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_jobs: Option<Count>,
    /// The most bytes of bodies of open jobs, those aside that are not in memory; a put past them is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<Count>,
    /// The most of its jobs that are held at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, maximum = 4294967295u32)]
    concurrency: Option<u32>,
    /// How often a job of it is handed out at the most.
    #[serde(default, deserialize_with = "maybe_object", skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    /// What holds for the jobs of each limit key.
    #[serde(default, deserialize_with = "maybe_object", skip_serializing_if = "Option::is_none")]
    per_key: Option<PerKey>,
    /// Whether leases that are given over HTTP from now on stay in force when the server is started again, under the same texts, and
    /// with at least what was left of their time. Reserving and touching wait for the log then, as a put does.
    #[serde(default, deserialize_with = "yes", skip_serializing_if = "std::ops::Not::not")]
    #[schema(value_type = Option<bool>)]
    durable_leases: bool,
    /// `always`: what is asked of it is answered once it is on the disk, whatever `--sync` of the server says. As that says unless
    /// told.
    #[serde(skip_serializing_if = "Option::is_none")]
    sync: Option<SyncMode>,
}

/// When what is asked of a queue is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SyncMode {
    /// Once it is on the disk.
    Always,
}

/// A yes or no, where null is no.
fn yes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::<bool>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What holds for the jobs of each limit key of a queue, by itself; those without one are not bounded by it. What is absent is
/// not set.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PerKey {
    /// The most jobs of one key that are held at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, maximum = 4294967295u32)]
    concurrency: Option<u32>,
    /// How often a job of one key is handed out at the most.
    #[serde(default, deserialize_with = "maybe_object", skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
}

/// So many in such a span: a bucket that holds `count` tokens, and gets one more each `per / count`. A restart fills it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rate {
    #[schema(value_type = u64, minimum = 1, maximum = 4294967295u32)]
    count: NonZeroU32,
    /// Longer than none.
    #[serde(deserialize_with = "some_span")]
    per: Span,
}

/// A span that is not zero.
fn some_span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    let Span(span) = Span::deserialize(deserializer)?;
    if span.is_zero() {
        return Err(D::Error::custom("a rate is of so many in a span, which is not zero: write 1s or 500us"));
    }
    Ok(Span(span))
}

/// A number that every language's JSON can hold.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "u64")]
#[schema(value_type = u64, maximum = 9007199254740991u64)]
struct Count(u64);

impl TryFrom<u64> for Count {
    type Error = String;

    fn try_from(count: u64) -> Result<Count, String> {
        const MOST: u64 = (1 << 53) - 1;
        if count <= MOST { Ok(Count(count)) } else { Err(format!("{count} is out of range: at most {MOST}")) }
    }
}

impl Rate {
    fn of(rate: queue::Rate) -> Option<Rate> {
        // One over no time, as there could be, bounds nothing.
        let count = NonZeroU32::new(rate.count).filter(|_| !rate.per.is_zero());
        count.map(|count| Rate { count, per: Span(rate.per) })
    }

    fn rate(self) -> queue::Rate {
        let Rate { count, per: Span(per) } = self;
        queue::Rate { count: count.get(), per }
    }
}

impl Settings {
    fn of(settings: &QueueSettings) -> Settings {
        let QueueSettings { retain, max_jobs, max_bytes, concurrency, rate, per_key, durable_leases, sync } = *settings;
        Settings {
            retain: retain.map(Span),
            max_jobs: max_jobs.map(Count),
            max_bytes: max_bytes.map(Count),
            concurrency,
            rate: rate.and_then(Rate::of),
            per_key: per_key
                .map(|per_key| PerKey { concurrency: per_key.concurrency, rate: per_key.rate.and_then(Rate::of) }),
            durable_leases,
            sync: sync.map(|queue::QueueSync::Always| SyncMode::Always),
        }
    }

    fn settings(self) -> QueueSettings {
        let Settings { retain, max_jobs, max_bytes, concurrency, rate, per_key, durable_leases, sync } = self;
        let count = |Count(count)| count;
        QueueSettings {
            retain: retain.map(|Span(retain)| retain),
            max_jobs: max_jobs.map(count),
            max_bytes: max_bytes.map(count),
            concurrency,
            rate: rate.map(Rate::rate),
            per_key: per_key
                .map(|PerKey { concurrency, rate }| queue::PerKey { concurrency, rate: rate.map(Rate::rate) })
                .filter(|per_key| *per_key != queue::PerKey::default()),
            durable_leases,
            sync: sync.map(|SyncMode::Always| queue::QueueSync::Always),
        }
    }
}

/// What happened in a queue since it came to be.
#[derive(Debug, Serialize, ToSchema)]
struct QueueTotals {
    /// Jobs put.
    put: u64,
    /// Jobs that ended.
    ended: u64,
    /// Of those, jobs that their holder completed.
    completed: u64,
    /// Of those, jobs that were called off.
    cancelled: u64,
    /// Of those, jobs that were not begun in time.
    expired: u64,
    /// Attempts that failed.
    failed: u64,
    /// Times that a holder gave a job back.
    released: u64,
    /// Times that a job was set aside.
    buried: u64,
    /// Times that a job was kicked.
    kicked: u64,
    /// Leases that ran out.
    lost_leases: u64,
    /// Pauses asked for.
    pauses: u64,
}

/// A page of the list of queues, in the order in which they came to be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queues {
    queues: Vec<Queue>,
    /// Where the next page begins; none where this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cursor: Option<String>,
}

/// Which page of the list of queues.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QueuesQuery {
    /// Where a page before this one ended.
    cursor: Option<String>,
    /// The most queues of a page: 1 to 1,000, and 100 unless told.
    #[param(minimum = 1, maximum = 1000, value_type = Option<u16>)]
    limit: Option<Limit>,
}

/// For how long a queue is to hand nothing out: until it is resumed unless told.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    /// How long from now.
    r#for: Option<Span>,
    /// Until that moment; not both. It is made a span at once, which does not change when the clock is set.
    until: Option<Moment>,
}

impl Pause {
    /// How long from now it is, where the clock shows that.
    fn length(&self, wall_now: Time) -> Result<Duration, Problem> {
        match (&self.r#for, &self.until) {
            (Some(_), Some(_)) => {
                Err(Problem::new(Kind::BadValue, "\"for\" and \"until\" say two things").at("/until"))
            }
            (Some(Span(length)), None) => Ok(*length),
            (None, Some(Moment(until))) if *until <= wall_now => {
                Err(Problem::new(Kind::BadValue, format!("{} is past", Moment(*until))).at("/until"))
            }
            (None, Some(Moment(until))) => Ok(until.since(wall_now)),
            (None, None) => Ok(Duration::MAX),
        }
    }
}

/// Which jobs of a queue to kick.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kick {
    /// The most jobs to kick; all unless told.
    #[schema(value_type = Option<u64>, maximum = 4294967295u32)]
    limit: Option<u32>,
    /// Which; unless told, buried ones, and delayed ones where none is buried: never both.
    source: Option<Source>,
}

/// Which jobs a kick takes.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    Buried,
    Delayed,
}

/// What a kick did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kicked {
    /// How many jobs are ready now that were not.
    kicked: u64,
    /// What they were before.
    source: Source,
}

impl From<Source> for KickSource {
    fn from(source: Source) -> KickSource {
        match source {
            Source::Buried => KickSource::Buried,
            Source::Delayed => KickSource::Delayed,
        }
    }
}

impl From<KickSource> for Source {
    fn from(source: KickSource) -> Source {
        match source {
            KickSource::Buried => Source::Buried,
            KickSource::Delayed => Source::Delayed,
        }
    }
}

impl Queue {
    fn of(id: QueueId, engine: &Engine) -> Queue {
        let (view, times) = (engine.queue(id), engine.times_of(id));
        let until = engine.now().after(view.pause_left);
        Queue {
            name: Name(view.name),
            jobs: States {
                delayed: view.delayed,
                ready: view.ready,
                reserved: view.reserved,
                buried: view.buried,
                blocked: view.blocked,
            },
            held_back: view.held_back,
            ended: view.ended,
            body_bytes: view.body_bytes,
            settings: Settings::of(&view.settings),
            urgent: view.urgent,
            paused: !view.pause_left.is_zero(),
            paused_until: (!view.pause_left.is_zero() && until < Time::NEVER).then(|| moment(engine, until)),
            waiting: view.waiting,
            using: view.using,
            watching: view.watching,
            totals: QueueTotals {
                put: view.totals.puts,
                ended: view.totals.deletes,
                completed: view.totals.completed(),
                cancelled: view.totals.cancelled,
                expired: view.totals.expired,
                failed: view.totals.turns.failed,
                released: view.totals.turns.released,
                buried: view.totals.turns.buried,
                kicked: view.totals.turns.kicked,
                lost_leases: view.totals.lost_leases,
                pauses: view.totals.pauses,
            },
            refused_puts: (!view.refused.is_empty()).then(|| RefusedPuts::of(&view.refused)),
            head_age: engine.head_age(id).map(Span::measured),
            latency: times.and_then(|times| Times::of(&times.latency)),
            run_time: times.and_then(|times| Times::of(&times.run_time)),
        }
    }

    fn find(engine: &Engine, name: &QueueName) -> Option<Queue> {
        engine.find_queue(name).map(|queue| Queue::of(queue, engine))
    }
}

/// Lists queues
///
/// In the order in which they came to be, a page at a time: go on with its `cursor` until a page has none. To a token that is
/// limited to some queues, a page may have fewer queues than asked for, even none, and go on all the same.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", operation_id = "listQueues", params(QueuesQuery),
    responses((status = 200, description = "A page of the list.", body = Queues)))]
pub(super) async fn list(api: Asker, Parameters(query): Parameters<QueuesQuery>) -> Result<Response, Problem> {
    let epoch = api.host.look(|shared| shared.engine.epoch());
    let after = query.cursor.map_or(Ok(0), |cursor| Cursor::read(&cursor, &List::Queues, epoch))?;
    let limit = Limit::or_default(query.limit).min(PAGE_ENTRIES);
    let (queues, next) = api
        .look(|shared| {
            let engine = &shared.engine;
            let mut listed = engine.queues_after(after);
            let (mut queues, mut last) = (Vec::new(), after);
            for (number, queue) in listed.by_ref().take(STEP_OBJECTS) {
                last = number;
                if api.grant().covers(engine.queue_name(queue)) {
                    queues.push(Queue::of(queue, engine));
                    if queues.len() == limit {
                        break;
                    }
                }
            }
            let next = listed.next().map(|_| last);
            (queues, next)
        })
        .await;
    let cursor = next.map(|next| Cursor::write(&List::Queues, epoch, next));
    Ok(answer(StatusCode::OK, &Queues { queues, cursor }))
}

/// Shows a queue
#[utoipa::path(get, path = "/v1/queues/{queue}", tag = "queues", operation_id = "getQueue",
    params(("queue" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The queue.", body = Queue)))]
pub(super) async fn show(api: Asker, QueueInPath(name): QueueInPath) -> Result<Response, Problem> {
    let queue = api.look(|shared| Queue::find(&shared.engine, &name)).await;
    queue.map(|queue| answer(StatusCode::OK, &queue)).ok_or_else(|| no_such_queue(&name))
}

/// Sets a queue up
///
/// Whether it is there or not; with nothing set it goes when nothing is in it. What is not named is not set any more.
#[utoipa::path(put, path = "/v1/queues/{queue}/settings", tag = "queues", operation_id = "configureQueue",
    params(("queue" = Name, Path, description = "Its name.")), request_body = Settings,
    responses((status = 200, description = "How it is set up now.", body = Settings)))]
pub(super) async fn configure(
    api: Asker,
    QueueInPath(name): QueueInPath,
    Json(settings): Json<Settings>,
) -> Result<Response, Problem> {
    let settings = settings.settings();
    if settings.sync.is_some() && api.host.log_figures().is_none() {
        let detail = "this server keeps nothing on a disk (--storage memory), so no answer can wait for it";
        return Err(Problem::new(Kind::BadValue, detail).at("/sync"));
    }
    let configure = Command::Configure { queue: &name, settings: &settings };
    api.decide(nothing, |desk| desk.execute(configure)).await?.map_err(refused)?;
    Ok(answer(StatusCode::OK, &Settings::of(&settings)))
}

/// Lets a queue hand nothing out for a while
///
/// For a span, until a moment, or until it is resumed. A pause that is under way is replaced. A queue that is not there comes to
/// be, and is there as long as it is paused.
#[utoipa::path(post, path = "/v1/queues/{queue}/pause", tag = "queues", operation_id = "pauseQueue",
    params(("queue" = Name, Path, description = "Its name.")), request_body = Option<Pause>,
    responses((status = 200, description = "The queue as it is now.", body = Queue)))]
pub(super) async fn pause(
    api: Asker,
    QueueInPath(name): QueueInPath,
    OptionalJson(pause): OptionalJson<Pause>,
) -> Result<Response, Problem> {
    let done = api.decide(nothing, |desk| {
        // By the clock as it is now, so that the pause ends at the moment that was asked for.
        let length = pause.length(desk.shared().engine.wall_now())?;
        Ok::<_, Problem>(pause_for(desk, &name, length))
    });
    shown_after(&name, done.await??)
}

/// Ends the pause of a queue
#[utoipa::path(post, path = "/v1/queues/{queue}/resume", tag = "queues", operation_id = "resumeQueue",
    params(("queue" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The queue as it is now.", body = Queue)))]
pub(super) async fn resume(api: Asker, QueueInPath(name): QueueInPath) -> Result<Response, Problem> {
    let done = api.decide(nothing, |desk| pause_for(desk, &name, Duration::ZERO)).await?;
    shown_after(&name, done)
}

/// Pauses a queue for so long from now, or ends its pause; shows it as it is then to others.
fn pause_for(desk: &mut Desk<'_>, name: &QueueName, length: Duration) -> Result<Queue, Refusal> {
    let before = Queue::find(&desk.shared().engine, name);
    // Whoever uses a queue has it be there, as a put does; then the pause keeps it.
    let is_new = before.is_none() && !length.is_zero();
    if is_new {
        desk.execute(Command::Use(name))?;
    }
    desk.execute(Command::Pause { queue: name, length })?;
    // The end of its pause may have been all that kept it.
    let gone = before.map(|before| Queue { paused: false, paused_until: None, ..before });
    let shown = Queue::find(&desk.shared().engine, name).or(gone).ok_or(Refusal::NoSuchQueue)?;
    // Whoever asks is there for as long as that takes, and uses this one or the default one, which it watches too.
    let is_default = u32::from(name.as_str() == DEFAULT);
    let using = shown.using.saturating_sub(is_default.max(u32::from(is_new)));
    Ok(Queue { using, watching: shown.watching.saturating_sub(is_default), ..shown })
}

/// The queue, after something was done to it; or why that was not.
fn shown_after(name: &QueueName, done: Result<Queue, Refusal>) -> Result<Response, Problem> {
    match done {
        Ok(queue) => Ok(answer(StatusCode::OK, &queue)),
        Err(Refusal::NoSuchQueue) => Err(no_such_queue(name)),
        Err(refusal) => Err(refused(refusal)),
    }
}

/// Makes buried or delayed jobs of a queue ready
///
/// Done in slices, while others are served: jobs that are buried meanwhile may be kicked with them.
#[utoipa::path(post, path = "/v1/queues/{queue}/kick", tag = "queues", operation_id = "kickQueue",
    params(("queue" = Name, Path, description = "Its name.")), request_body = Option<Kick>,
    responses((status = 200, description = "How many jobs were kicked.", body = Kicked)))]
pub(super) async fn kick(
    api: Asker,
    QueueInPath(name): QueueInPath,
    OptionalJson(Kick { limit, source }): OptionalJson<Kick>,
) -> Result<Response, Problem> {
    let (mut left, mut source, mut kicked) = (limit.map_or(u64::MAX, u64::from), source.map(KickSource::from), 0);
    loop {
        let kick = || Command::Kick { queue: Target::Named(&name), limit: left, source };
        let wants = |engine: &Engine, session| engine.wanted(session, &kick(), engine.now()).into_iter().collect();
        match api.decide(wants, |desk| desk.execute(kick())).await? {
            Ok(Answer::Kicked { count, source: kind, left: rest }) => {
                kicked += count;
                if rest == 0 || count == 0 {
                    return Ok(answer(StatusCode::OK, &Kicked { kicked, source: kind.into() }));
                }
                (left, source) = (rest, Some(kind));
            }
            Ok(other) => unreachable!("a kick is not answered {other:?}"),
            // It went with its last job while others were served.
            Err(Refusal::NoSuchQueue) if kicked > 0 => {
                let source = source.unwrap_or(KickSource::Buried).into();
                return Ok(answer(StatusCode::OK, &Kicked { kicked, source }));
            }
            Err(Refusal::NoSuchQueue) => return Err(no_such_queue(&name)),
            Err(refusal) => return Err(refused(refusal)),
        }
    }
}

fn no_such_queue(name: &QueueName) -> Problem {
    Problem::new(Kind::QueueNotFound, format!("there is no queue {name}"))
}
