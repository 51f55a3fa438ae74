//! Queues: what is in them, how they are set up, their pauses.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::{Ask, Method};
use super::job::found;
use super::values::{self, escape, span_text};
use super::{Client, Error, ProblemKind, RefusedPuts};

/// A queue, and what is in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its open jobs by state.
    pub jobs: Jobs,
    /// Ready jobs that are not handed out now because of their limit keys.
    #[serde(default)]
    pub held_back: u64,
    /// Final jobs that are kept.
    pub ended: u64,
    /// Bytes of the bodies of its open jobs.
    pub body_bytes: u64,
    /// How it is set up.
    pub settings: Settings,
    /// Whether it hands nothing out.
    #[serde(default)]
    pub paused: bool,
    /// Until when, if that has an end.
    #[serde(default)]
    pub paused_until: Option<Timestamp>,
    /// Who waits for a job of it.
    pub waiting: u64,
    /// What happened in it since it came to be.
    pub totals: Totals,
    /// Puts that were refused since the server started.
    #[serde(default)]
    pub refused_puts: RefusedPuts,
    /// How long its first ready job has been due.
    #[serde(default, with = "values::maybe_span")]
    pub head_age: Option<Duration>,
    /// From when a job was due until it was handed out for the first time, since the server started.
    #[serde(default)]
    pub latency: Option<Times>,
    /// From when a job was handed out until it was completed.
    #[serde(default)]
    pub run_time: Option<Times>,
}

/// Open jobs by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are the states' names")]
pub struct Jobs {
    pub delayed: u64,
    pub ready: u64,
    pub reserved: u64,
    pub buried: u64,
    pub blocked: u64,
}

/// What happened in a queue since it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Jobs put.
    pub put: u64,
    /// Jobs that ended.
    pub ended: u64,
    /// Of those, jobs that their holder completed.
    #[serde(default)]
    pub completed: u64,
    /// Of those, jobs that were called off.
    #[serde(default)]
    pub cancelled: u64,
    /// Of those, jobs that were not begun in time.
    #[serde(default)]
    pub expired: u64,
    /// Attempts that failed.
    #[serde(default)]
    pub failed: u64,
    /// Times that a holder gave a job back.
    #[serde(default)]
    pub released: u64,
    /// Times that a job was set aside.
    #[serde(default)]
    pub buried: u64,
    /// Times that a job was kicked.
    #[serde(default)]
    pub kicked: u64,
    /// Leases that ran out.
    pub lost_leases: u64,
    /// Pauses asked for.
    pub pauses: u64,
}

/// How long something took. Quantiles are the bounds of buckets, each twice the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Times {
    /// How often.
    pub count: u64,
    /// On average.
    #[serde(with = "values::span")]
    pub mean: Duration,
    /// Half of them took no longer.
    #[serde(default, with = "values::maybe_span")]
    pub p50: Option<Duration>,
    /// 99 of 100 took no longer.
    #[serde(default, with = "values::maybe_span")]
    pub p99: Option<Duration>,
}

/// How a queue is set up. What is none is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settings {
    /// How long final jobs are kept, with their results.
    #[serde(default, with = "values::maybe_span", skip_serializing_if = "Option::is_none")]
    pub retain: Option<Duration>,
    /// The most open jobs; a put past them is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_jobs: Option<u64>,
    /// The most bytes of bodies of open jobs; a put past them is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// The most of its jobs that are held at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How often a job of it is handed out at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What holds for the jobs of each limit key by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_key: Option<PerKey>,
    /// Whether leases that are given from now on stay in force when the server is started again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub durable_leases: bool,
    /// When what is asked of it is answered; none: as the server promises for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncMode>,
}

/// When what is asked of a queue is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SyncMode {
    /// Once it is on the disk, whatever the server promises for all.
    Always,
}

/// What holds for the jobs of each limit key of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PerKey {
    /// The most jobs of one key that are held at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How often a job of one key is handed out at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// So many in such a span: a bucket that holds `count` tokens, and gets one more each `per / count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In which span.
    #[serde(with = "values::span")]
    pub per: Duration,
}

/// A page of the list of queues, in the order in which they came to be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct QueuePage {
    /// The queues.
    pub queues: Vec<Queue>,
    /// Where the next page begins; none where this is the last one.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// How long a queue is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pause {
    /// So long from now.
    For(Duration),
    /// Until then, by the server's clock; it does not move when that is set later.
    Until(Timestamp),
    /// Until it is resumed.
    UntilResumed,
}

impl From<Duration> for Pause {
    fn from(span: Duration) -> Pause {
        Pause::For(span)
    }
}

impl From<Timestamp> for Pause {
    fn from(moment: Timestamp) -> Pause {
        Pause::Until(moment)
    }
}

/// Which jobs a kick of a queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// Those that were set aside.
    Buried,
    /// Those whose moment is ahead.
    Delayed,
}

/// What a kick of a queue did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Kicked {
    /// How many jobs are ready now that were not.
    pub kicked: u64,
    /// What they were before.
    pub source: Source,
}

fn path(queue: &str, rest: &str) -> String {
    format!("/v1/queues/{}{rest}", escape(queue))
}

impl Client {
    /// A page of the queues, of at most 1,000: go on with its cursor until a page has none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn queues(&self, cursor: Option<&str>) -> Result<QueuePage, Error> {
        let cursor = cursor.map(|cursor| format!("&cursor={}", escape(cursor))).unwrap_or_default();
        self.get(&format!("/v1/queues?limit=1000{cursor}"))
    }

    /// A queue; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn queue(&self, name: &str) -> Result<Option<Queue>, Error> {
        found(self.get(&path(name, "")), ProblemKind::QueueNotFound)
    }

    /// Has a queue hand nothing out for a while, whether it is there or not, and gives it as it is then; none if there is none, and
    /// the while is none.
    ///
    /// # Errors
    /// [`Error`]; [`ProblemKind::BadValue`] if the moment is past.
    pub fn pause_queue(&self, name: &str, pause: impl Into<Pause>) -> Result<Option<Queue>, Error> {
        let path = path(name, "/pause");
        let body = match pause.into() {
            Pause::For(span) => json!({ "for": span_text(span) }),
            Pause::Until(moment) => json!({ "until": moment }),
            Pause::UntilResumed => json!({}),
        };
        let ask = Ask::new(Method::Post, &path).json(&body)?;
        found(self.call(&ask), ProblemKind::QueueNotFound)
    }

    /// Has a paused queue go on, and gives it as it is then; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn resume_queue(&self, name: &str) -> Result<Option<Queue>, Error> {
        let path = path(name, "/resume");
        found(self.call(&Ask::new(Method::Post, &path)), ProblemKind::QueueNotFound)
    }

    /// Sets a queue up, whether it is there or not, and gives how it is set up then. What is none is not set any more.
    ///
    /// # Errors
    /// [`Error`]
    pub fn set_queue(&self, name: &str, settings: &Settings) -> Result<Settings, Error> {
        let path = path(name, "/settings");
        self.call(&Ask::new(Method::Put, &path).json(settings)?)
    }

    /// Makes jobs of a queue ready: at most `limit`, or all; of one source, or buried ones, and delayed ones where none is
    /// buried. None if there is no such queue.
    ///
    /// # Errors
    /// [`Error`]
    pub fn kick_queue(&self, name: &str, limit: Option<u32>, source: Option<Source>) -> Result<Option<Kicked>, Error> {
        let path = path(name, "/kick");
        let mut body = json!({});
        if let Some(limit) = limit {
            body["limit"] = limit.into();
        }
        if let Some(source) = source {
            body["source"] = serde_json::to_value(source).map_err(Error::Value)?;
        }
        let ask = Ask::new(Method::Post, &path).json(&body)?.patience(super::Patience::Endless);
        found(self.call(&ask), ProblemKind::QueueNotFound)
    }
}
