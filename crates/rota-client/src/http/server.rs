//! The server itself: its counters, and snapshots.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::ask::{Ask, Method, Patience};
use super::values;
use super::{Client, Error, Jobs};

/// The server at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// The version of Rota.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long ago that is.
    #[serde(with = "values::span")]
    pub uptime: Duration,
    /// Whether puts are refused, since the server was told to take a last snapshot.
    pub draining: bool,
    /// The largest body of a job, in bytes.
    pub max_job_bytes: u64,
    /// How many queues there are.
    pub queues: u64,
    /// Open jobs by state.
    pub jobs: Jobs,
    /// Delayed jobs that are not in memory.
    #[serde(default)]
    pub not_in_memory: u64,
    /// Who waits for a job.
    pub waiting: u64,
    /// What happened so far.
    pub totals: StatsTotals,
    /// Puts that were refused since it started.
    #[serde(default)]
    pub refused_puts: RefusedPuts,
}

/// What happened on a server so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are what their names say")]
pub struct StatsTotals {
    pub put: u64,
    pub completed: u64,
    pub cancelled: u64,
    pub expired: u64,
    pub lost_leases: u64,
    #[serde(default)]
    pub failed: u64,
    #[serde(default)]
    pub released: u64,
    #[serde(default)]
    pub buried: u64,
    #[serde(default)]
    pub kicked: u64,
}

/// Puts that were refused, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[expect(missing_docs, reason = "docs/metrics.md says what they are, by these names")]
pub struct RefusedPuts {
    pub queue_full: u64,
    pub disk_full: u64,
    pub too_many_queues: u64,
    pub too_large: u64,
    pub key_taken: u64,
    pub parent: u64,
    pub invalid: u64,
    pub busy: u64,
    pub draining: u64,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SnapshotTaken {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Jobs that are in it.
    pub jobs: u64,
    /// Its length.
    pub bytes: u64,
}

impl Client {
    /// The server's counters.
    ///
    /// # Errors
    /// [`Error`]
    pub fn stats(&self) -> Result<Stats, Error> {
        self.get("/v1/stats")
    }

    /// Has the server take a snapshot, to that place or to where it puts them, and waits until it is whole.
    ///
    /// # Errors
    /// [`Error`]
    pub fn snapshot(&self, to: Option<&str>) -> Result<SnapshotTaken, Error> {
        let body = to.map_or_else(|| json!({}), |to| json!({ "to": to }));
        self.call(&Ask::new(Method::Post, "/v1/snapshots").json(&body)?.patience(Patience::Endless))
    }
}
