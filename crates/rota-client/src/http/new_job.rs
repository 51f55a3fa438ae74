//! Puts: a job with all that can be agreed for it, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::ask::{Ask, Method};
use super::values;
use super::{Client, Error, Job, Problem};

/// A job to put. What is not said is as the server has it: see `docs/http.md`.
///
/// It is also what a schedule puts, then without what is about one moment or one job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewJob {
    queue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(with = "values::maybe_bytes", skip_serializing_if = "Option::is_none")]
    base64: Option<Vec<u8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(with = "values::maybe_span", skip_serializing_if = "Option::is_none")]
    delay: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Timestamp>,
    #[serde(with = "values::maybe_span", skip_serializing_if = "Option::is_none")]
    ttr: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_conflict: Option<OnConflict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lost_leases: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    back_off: Option<BackOff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_key: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<Parent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_parent_failure: Option<OnParentFailure>,
    #[serde(with = "values::maybe_span", skip_serializing_if = "Option::is_none")]
    expires_in: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// What a put does where its key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnConflict {
    /// It is refused, [`ProblemKind::KeyTaken`](super::ProblemKind::KeyTaken).
    Reject,
    /// Nothing is put, and the job that has the key is answered.
    Keep,
    /// That job becomes what this put says, and keeps its id.
    Replace,
}

/// What becomes of a job when one that it waits for is cancelled, or expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnParentFailure {
    /// It is cancelled too.
    Cancel,
    /// It goes on as if that one were done.
    Run,
    /// It stays blocked until it is kicked or cancelled.
    Hold,
}

/// A job that another waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// By its id.
    Id(u64),
    /// The open job of a queue with that key.
    Key {
        /// The queue.
        queue: String,
        /// The key.
        key: String,
    },
}

/// How long a job waits after a failed attempt: `first` times `factor` to the power of the attempts before, at most `most`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BackOff {
    /// After the first failed attempt.
    #[serde(with = "values::span")]
    pub first: Duration,
    /// What each further attempt multiplies it by: 1 to 100, and 1 for a fixed back-off.
    pub factor: f64,
    /// The longest; an hour unless told, or `first` where that is longer.
    #[serde(default, with = "values::maybe_span", skip_serializing_if = "Option::is_none")]
    pub most: Option<Duration>,
    /// By chance it is up to so many percent shorter: 0 to 100.
    pub jitter_percent: u8,
}

/// What came of a put.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Put {
    /// The job's id.
    pub id: u64,
    /// Whether it was put, now or by the request that this one repeats; false where a job with its key was kept or replaced.
    pub is_new: bool,
    /// Whether an earlier request with the same `Idempotency-Key` did it.
    pub is_replayed: bool,
    /// The job as it is now, without its body; none where an earlier request put it and it is over by now.
    pub job: Option<Job>,
}

impl NewJob {
    /// With that text as its body.
    pub fn text(queue: impl Into<String>, text: impl Into<String>) -> NewJob {
        NewJob { text: Some(text.into()), ..NewJob::without_body(queue.into()) }
    }

    /// With those bytes as its body.
    pub fn bytes(queue: impl Into<String>, bytes: impl Into<Vec<u8>>) -> NewJob {
        match String::from_utf8(bytes.into()) {
            Ok(text) => NewJob::text(queue, text),
            Err(error) => NewJob { base64: Some(error.into_bytes()), ..NewJob::without_body(queue.into()) },
        }
    }

    /// With that value as its body, as JSON.
    ///
    /// # Errors
    /// [`Error::Value`] if it can't be written as JSON.
    pub fn value(queue: impl Into<String>, value: &(impl Serialize + ?Sized)) -> Result<NewJob, Error> {
        Ok(NewJob::text(queue, serde_json::to_string(value).map_err(Error::Value)?))
    }

    fn without_body(queue: String) -> NewJob {
        NewJob {
            queue,
            text: None,
            base64: None,
            priority: None,
            delay: None,
            run_at: None,
            ttr: None,
            key: None,
            on_conflict: None,
            max_attempts: None,
            max_lost_leases: None,
            back_off: None,
            kind: None,
            limit_key: None,
            headers: BTreeMap::new(),
            after: Vec::new(),
            on_parent_failure: None,
            expires_in: None,
            expires_at: None,
        }
    }

    /// 0 is the most urgent; 1024 unless told.
    #[must_use]
    pub fn priority(self, priority: u32) -> NewJob {
        NewJob { priority: Some(priority), ..self }
    }

    /// Due so long from now.
    #[must_use]
    pub fn delay(self, delay: Duration) -> NewJob {
        NewJob { delay: Some(delay), ..self }
    }

    /// Due at that moment of the server's wall clock; instead of a delay.
    #[must_use]
    pub fn run_at(self, moment: Timestamp) -> NewJob {
        NewJob { run_at: Some(moment), ..self }
    }

    /// How long a lease on it lasts: at least a millisecond; a minute unless told.
    #[must_use]
    pub fn ttr(self, ttr: Duration) -> NewJob {
        NewJob { ttr: Some(ttr), ..self }
    }

    /// One's own name for it, unique among the open jobs of the queue: 1 to 200 bytes.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> NewJob {
        NewJob { key: Some(key.into()), ..self }
    }

    /// What to do where that key is taken.
    #[must_use]
    pub fn on_conflict(self, what: OnConflict) -> NewJob {
        NewJob { on_conflict: Some(what), ..self }
    }

    /// Failed attempts after which it is buried; 0 for no limit, and 25 unless told.
    #[must_use]
    pub fn max_attempts(self, attempts: u16) -> NewJob {
        NewJob { max_attempts: Some(attempts), ..self }
    }

    /// Lost leases after which it is buried; 0 for no limit, and 10 unless told.
    #[must_use]
    pub fn max_lost_leases(self, leases: u16) -> NewJob {
        NewJob { max_lost_leases: Some(leases), ..self }
    }

    /// How long it waits after a failed attempt.
    #[must_use]
    pub fn back_off(self, back_off: BackOff) -> NewJob {
        NewJob { back_off: Some(back_off), ..self }
    }

    /// Its class of work: 1 to 100 bytes.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> NewJob {
        NewJob { kind: Some(kind.into()), ..self }
    }

    /// Whose job it is, 1 to 255 bytes, where its queue bounds what is done for each: [`Settings::per_key`](super::Settings).
    #[must_use]
    pub fn limit_key(self, key: impl Into<String>) -> NewJob {
        NewJob { limit_key: Some(key.into()), ..self }
    }

    /// A name and a value that travel with it; all of them have 4,096 bytes together.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> NewJob {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Jobs that must be done before, at most 256, beside those that were named already.
    #[must_use]
    pub fn after(mut self, jobs: impl IntoIterator<Item = Parent>) -> NewJob {
        self.after.extend(jobs);
        self
    }

    /// What becomes of it when one of those is cancelled, or expires: it is cancelled too unless told.
    #[must_use]
    pub fn on_parent_failure(self, what: OnParentFailure) -> NewJob {
        NewJob { on_parent_failure: Some(what), ..self }
    }

    /// If it was not begun so long from now, it expires.
    #[must_use]
    pub fn expires_in(self, span: Duration) -> NewJob {
        NewJob { expires_in: Some(span), ..self }
    }

    /// If it was not begun by then, it expires.
    #[must_use]
    pub fn expires_at(self, moment: Timestamp) -> NewJob {
        NewJob { expires_at: Some(moment), ..self }
    }
}

impl BackOff {
    /// Twice as long after each further attempt, up to an hour, with a jitter of 10 %.
    pub fn first(first: Duration) -> BackOff {
        BackOff { first, factor: 2.0, most: None, jitter_percent: 10 }
    }

    /// The same after every attempt.
    pub fn fixed(span: Duration) -> BackOff {
        BackOff { first: span, factor: 1.0, most: Some(span), jitter_percent: 0 }
    }
}

impl Parent {
    /// The open job of a queue with that key.
    pub fn key(queue: impl Into<String>, key: impl Into<String>) -> Parent {
        Parent::Key { queue: queue.into(), key: key.into() }
    }
}

impl From<u64> for Parent {
    fn from(id: u64) -> Parent {
        Parent::Id(id)
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parent::Id(id) => write!(f, "{id}"),
            Parent::Key { queue, key } => write!(f, "{queue}:{key}"),
        }
    }
}

impl Serialize for Parent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What came of one job of several.
#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default, with = "values::maybe_number")]
    id: Option<u64>,
    #[serde(default)]
    job: Option<Job>,
    #[serde(default)]
    problem: Option<Problem>,
}

/// What came of several, in their order.
#[derive(Debug, Deserialize)]
struct Outcomes {
    results: Vec<Outcome>,
}

/// What is known of a job for certain, also where it is gone by now.
#[derive(Debug, Deserialize)]
struct Known {
    #[serde(with = "values::number")]
    id: u64,
    state: String,
}

const PAGE: &str = "/v1/jobs";

impl Client {
    /// Puts a job. It is as durable as the server's `--sync` promises when this returns.
    ///
    /// With an `Idempotency-Key`, 1 to 200 visible ASCII characters of one's own, the same put can be repeated for 24 hours, as
    /// after [`Error::TimedOut`], and puts nothing twice.
    ///
    /// # Errors
    /// [`Error::Problem`]: nothing was put. After any other the job may be there or not, unless it says that nothing was sent.
    pub fn put(&self, job: &NewJob, idempotency_key: Option<&str>) -> Result<Put, Error> {
        let ask = Ask::new(Method::Post, PAGE).json(job)?.idempotency_key(idempotency_key);
        let answer = self.call_whole::<Value>(&ask)?;
        let odd = |error: serde_json::Error| self.unexpected(&error.to_string(), b"");
        let known = Known::deserialize(&answer.value).map_err(odd)?;
        let job = match known.state.as_str() {
            "gone" => None,
            _ => Some(Job::deserialize(&answer.value).map_err(odd)?),
        };
        Ok(Put { id: known.id, is_new: answer.status == 201, is_replayed: answer.is_replayed, job })
    }

    /// Puts up to 1,000 jobs, and gives of each what came of it, in their order. They may go with an `Idempotency-Key` together,
    /// as [`Client::put`] says.
    ///
    /// # Errors
    /// [`Error::Problem`] if the request itself is wrong: none was put. What only one job is refused for stands in its place.
    pub fn put_many(&self, jobs: &[NewJob], idempotency_key: Option<&str>) -> Result<Vec<Result<Put, Problem>>, Error> {
        let ask = Ask::new(Method::Post, PAGE).json(jobs)?.idempotency_key(idempotency_key);
        let answer = self.call_whole::<Outcomes>(&ask)?;
        let is_replayed = answer.is_replayed;
        let put = |outcome: Outcome| match outcome {
            Outcome { problem: Some(problem), .. } => Ok(Err(problem)),
            Outcome { status, id: Some(id), job, .. } => Ok(Ok(Put { id, is_new: status == 201, is_replayed, job })),
            Outcome { status, .. } => Err(self.unexpected(&format!("a result of status {status} without a job"), b"")),
        };
        answer.value.results.into_iter().map(put).collect()
    }
}
