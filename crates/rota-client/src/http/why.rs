//! Why a job is where it is.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::job::found;
use super::values;
use super::{Client, Error, JobState, ProblemKind};

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Why {
    /// The job.
    #[serde(with = "values::number")]
    pub id: u64,
    /// Its queue.
    pub queue: String,
    /// Where it stands.
    pub state: JobState,
    /// Every reason, the one that binds now first; none if the job is about to be handed out.
    pub reasons: Vec<Explained>,
}

/// A reason, in words and as data.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Explained {
    /// A sentence.
    pub says: String,
    /// The same as data.
    #[serde(flatten)]
    pub reason: Reason,
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "docs/http.md has a table of them, by these names")]
pub enum Reason {
    /// It is over.
    Over { since: Timestamp, kept_until: Timestamp },
    /// Somebody holds it.
    Held {
        #[serde(default)]
        actor: Option<String>,
        #[serde(default)]
        peer: Option<String>,
        since: Timestamp,
        until: Timestamp,
        #[serde(default)]
        progress: Option<Value>,
        #[serde(default)]
        durable: bool,
    },
    /// It was set aside.
    Buried {
        because: Burial,
        attempts: u32,
        max_attempts: u16,
        lost_leases: u32,
        max_lost_leases: u16,
        #[serde(default)]
        error: Option<Value>,
    },
    /// A job that it waited for came to nothing.
    HeldUp {
        #[serde(with = "values::number")]
        job: u64,
    },
    /// It waits for others.
    WaitsFor { jobs: Vec<Waited> },
    /// Its time is ahead.
    NotDue { until: Timestamp },
    /// Its queue is paused; until it is resumed where there is no moment.
    Paused {
        #[serde(default)]
        until: Option<Timestamp>,
    },
    /// As many jobs of its queue are held as may be.
    Concurrency { held: u64, limit: u32 },
    /// Its queue has handed out as many jobs as it may for now.
    Rate { until: Timestamp },
    /// As many jobs of its limit key are held as may be.
    KeyConcurrency { limit_key: String, held: u64, limit: u32 },
    /// So many jobs of its limit key were handed out as may be for now.
    KeyRate { limit_key: String, until: Timestamp },
    /// Nobody waits for a job of its queue.
    NobodyWaits { watching: u32, held: u64 },
    /// Others of its queue come first: so many, or more where that is not exact.
    Behind { jobs: u64, is_exact: bool },
    /// One of a later server's: the sentence says it.
    #[serde(other)]
    Other,
}

/// Why a job was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Burial {
    /// Its attempts are used up.
    Attempts,
    /// Its leases ran out too often.
    LostLeases,
    /// Whoever held it asked for it.
    Asked,
    /// One of a later server's.
    #[serde(other)]
    Other,
}

/// A job that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Waited {
    /// Its id.
    #[serde(with = "values::number")]
    pub id: u64,
    /// Where it stands; none where it is of a queue that the token is not for.
    #[serde(default)]
    pub state: Option<JobState>,
}

impl Client {
    /// Says why a job is not worked on, or not any more; none if there is no such job.
    ///
    /// # Errors
    /// [`Error`]
    pub fn why(&self, id: u64) -> Result<Option<Why>, Error> {
        found(self.get(&format!("/v1/jobs/{id}/why")), ProblemKind::JobNotFound)
    }
}
