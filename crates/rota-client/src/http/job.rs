//! Jobs: one by its id or its key, lists of them, and what can be done to one that nobody holds.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ask::{Ask, Method};
use super::values::{self, escape};
use super::{BackOff, Client, Error, OnParentFailure, ProblemKind};

/// A job: open, or over and kept for a while.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// Its id.
    #[serde(with = "values::number")]
    pub id: u64,
    /// Where it stands in line.
    pub queue: String,
    /// The name that its put gave it, where that is UTF-8.
    #[serde(default)]
    pub key: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// 0 is the most urgent.
    pub priority: u32,
    /// When it was put.
    pub created_at: Timestamp,
    /// When it is, or was, due.
    pub run_at: Timestamp,
    /// The delay last asked for.
    #[serde(with = "values::span")]
    pub delay: Duration,
    /// How long a lease on it lasts.
    #[serde(with = "values::span")]
    pub ttr: Duration,
    /// When its lease ends, while it is reserved.
    #[serde(default)]
    pub lease_ends_at: Option<Timestamp>,
    /// Who holds it, while it is reserved; of a job that was just reserved, nobody says.
    #[serde(default)]
    pub holder: Option<Holder>,
    /// Attempts that failed.
    pub attempts: u32,
    /// Failed attempts after which it is buried; 0 for no limit.
    pub max_attempts: u16,
    /// Leases given on it.
    pub reserves: u32,
    /// Times a holder gave it back.
    pub releases: u32,
    /// Leases that ran out.
    pub lost_leases: u32,
    /// Lost leases after which it is buried; 0 for no limit.
    pub max_lost_leases: u16,
    /// Times it was set aside.
    pub buries: u32,
    /// Times it was kicked.
    pub kicks: u32,
    /// Length of its body in bytes.
    pub body_bytes: u64,
    /// The class of work.
    #[serde(default)]
    pub kind: Option<String>,
    /// Whose job it is, where its queue bounds what is done for each.
    #[serde(default)]
    pub limit_key: Option<String>,
    /// Names and values that travel with it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The jobs that it was put to wait for, of those that were open then.
    #[serde(default, with = "values::numbers")]
    pub after: Vec<u64>,
    /// Those of them that are not over yet.
    #[serde(default, with = "values::numbers")]
    pub waits_for: Vec<u64>,
    /// The job that came to nothing and holds it up.
    #[serde(default, with = "values::maybe_number")]
    pub held_by: Option<u64>,
    /// What becomes of it when one that it waits for comes to nothing.
    #[serde(default)]
    pub on_parent_failure: Option<OnParentFailure>,
    /// When it expires if it was not begun.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// How long it waits after a failed attempt, where its put said so.
    #[serde(default)]
    pub back_off: Option<BackOff>,
    /// The schedule that put it.
    #[serde(default)]
    pub schedule: Option<String>,
    /// The tick at which that was.
    #[serde(default)]
    pub tick: Option<Timestamp>,
    /// How far its holder is: a text or any JSON, as the holder said it.
    #[serde(default)]
    pub progress: Option<Value>,
    /// What went wrong in the attempt that failed last: a text or any JSON, as its holder said it.
    #[serde(default)]
    pub error: Option<Value>,
    /// When it ended, while it is kept all the same.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Until when it is kept.
    #[serde(default)]
    pub kept_until: Option<Timestamp>,
    /// What came of it: a text or any JSON, as its holder said it.
    #[serde(default)]
    pub result: Option<Value>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default, with = "values::maybe_bytes")]
    base64: Option<Vec<u8>>,
}

/// Who holds a job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// What their token is called; none where nobody was asked for one.
    #[serde(default)]
    pub actor: Option<String>,
    /// The address and port that they had when they asked for jobs.
    #[serde(default)]
    pub peer: Option<String>,
    /// When the lease was given.
    pub since: Timestamp,
    /// When it ends, unless it is begun anew before.
    pub until: Timestamp,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// Its moment is ahead.
    Delayed,
    /// It can be handed out.
    Ready,
    /// Somebody holds it.
    Reserved,
    /// It was set aside until it is kicked.
    Buried,
    /// It waits for others.
    Blocked,
    /// It is done, and kept for a while.
    Done,
    /// It was called off, and is kept for a while.
    Cancelled,
    /// It was not begun in time, and is kept for a while.
    Expired,
    /// One of a later server's.
    #[serde(other)]
    Other,
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobState::Delayed => "delayed",
            JobState::Ready => "ready",
            JobState::Reserved => "reserved",
            JobState::Buried => "buried",
            JobState::Blocked => "blocked",
            JobState::Done => "done",
            JobState::Cancelled => "cancelled",
            JobState::Expired => "expired",
            JobState::Other => "other",
        })
    }
}

impl Job {
    /// What was put, where the answer has it: of a job that was reserved, or looked at by itself.
    pub fn body(&self) -> Option<&[u8]> {
        self.text.as_deref().map(str::as_bytes).or(self.base64.as_deref())
    }

    /// The body as a value, from JSON.
    ///
    /// # Errors
    /// The body is no such value; or the answer has none, as in a list.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.body().unwrap_or_default())
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// A filter, as `queue:mail* state:buried age>1h`: see `docs/http.md`. All jobs, where it is empty.
    pub filter: String,
    /// The most jobs of a page: 1 to 1,000; 100 if it is 0.
    pub limit: u16,
    /// Where a page before this one ended.
    pub cursor: Option<String>,
}

/// A page of a list of jobs, without their bodies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Page {
    /// The jobs; there may be fewer than asked for, even none, and more in the next page all the same.
    pub jobs: Vec<Job>,
    /// Where the next page begins; none where this is the last one.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Delayed jobs of all queues that are not in memory, and were not looked at.
    #[serde(default)]
    pub not_in_memory: u64,
}

impl List {
    /// Those of a filter.
    pub fn of(filter: impl Into<String>) -> List {
        List { filter: filter.into(), ..List::default() }
    }

    pub(super) fn path(&self) -> String {
        let limit = if self.limit == 0 { 100 } else { self.limit };
        let filter = if self.filter.is_empty() { String::new() } else { format!("&q={}", escape(&self.filter)) };
        let cursor = self.cursor.as_ref().map(|cursor| format!("&cursor={}", escape(cursor))).unwrap_or_default();
        format!("/v1/jobs?limit={limit}{filter}{cursor}")
    }
}

/// That a job came to its end.
#[derive(Debug, Deserialize)]
pub(super) struct Ended {
    #[serde(with = "values::number")]
    pub(super) id: u64,
}

/// The page of a queue's key.
fn key_path(queue: &str, key: &str) -> String {
    format!("/v1/queues/{}/keys/{}", escape(queue), escape(key))
}

/// None where it was refused for that reason.
pub(super) fn found<T>(done: Result<T, Error>, missing: ProblemKind) -> Result<Option<T>, Error> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.is(missing) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Client {
    /// A job with its body: an open one, or one that its queue keeps; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn job(&self, id: u64) -> Result<Option<Job>, Error> {
        found(self.get(&format!("/v1/jobs/{id}?body=text")), ProblemKind::JobNotFound)
    }

    /// The open job of a queue with that key, with its body; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn job_by_key(&self, queue: &str, key: &str) -> Result<Option<Job>, Error> {
        found(self.get(&format!("{}?body=text", key_path(queue, key))), ProblemKind::KeyNotFound)
    }

    /// A page of the jobs of a filter, in the order of the places which jobs have in memory: as they were put, but that one put later
    /// takes the place of one that is gone. Go on with its cursor until a page has none.
    ///
    /// # Errors
    /// [`Error`]; [`ProblemKind::CursorOutdated`] after a restart of the server: begin again.
    pub fn list(&self, list: &List) -> Result<Page, Error> {
        self.get(&list.path())
    }

    /// All jobs of a filter, page after page.
    pub fn jobs(&self, filter: &str) -> impl Iterator<Item = Result<Job, Error>> + use<> {
        let (client, mut list) = (self.clone(), List { limit: 1000, ..List::of(filter) });
        let (mut page, mut is_over) = (Vec::new().into_iter(), false);
        std::iter::from_fn(move || {
            loop {
                if let Some(job) = page.next() {
                    return Some(Ok(job));
                }
                if is_over {
                    return None;
                }
                match client.list(&list) {
                    Ok(next) => {
                        (page, is_over) = (next.jobs.into_iter(), next.cursor.is_none());
                        list.cursor = next.cursor;
                    }
                    Err(error) => {
                        is_over = true;
                        return Some(Err(error));
                    }
                }
            }
        })
    }

    /// Calls a job off, held or not; false if there is no open one. From then on it is never handed out.
    ///
    /// # Errors
    /// [`Error`]
    pub fn cancel(&self, id: u64) -> Result<bool, Error> {
        let path = format!("/v1/jobs/{id}");
        let done = self.call::<Ended>(&Ask::new(Method::Delete, &path));
        found(done, ProblemKind::JobNotFound).map(|ended| ended.is_some())
    }

    /// Calls off the job of a queue with that key, and gives its id; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn cancel_key(&self, queue: &str, key: &str) -> Result<Option<u64>, Error> {
        let path = key_path(queue, key);
        let done = self.call::<Ended>(&Ask::new(Method::Delete, &path));
        Ok(found(done, ProblemKind::KeyNotFound)?.map(|ended| ended.id))
    }

    /// Makes a buried, delayed or blocked job ready, and gives it as it is then; none if there is none.
    ///
    /// # Errors
    /// [`Error`]; [`ProblemKind::WrongState`] if it is in another state.
    pub fn kick(&self, id: u64) -> Result<Option<Job>, Error> {
        let path = format!("/v1/jobs/{id}/kick");
        found(self.call(&Ask::new(Method::Post, &path)), ProblemKind::JobNotFound)
    }
}
