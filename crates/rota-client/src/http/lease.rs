//! Leases: jobs that are held by a text, over any connection, until they are finished or their time is over.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::{Ask, Method, Patience};
use super::job::{Ended, found};
use super::values::{self, span_text};
use super::{Client, Error, Job, ProblemKind};

/// Which jobs to reserve: out of which queues, how many, and how long to wait for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reserve {
    queues: Vec<String>,
    #[serde(with = "values::span")]
    wait: Duration,
    count: u16,
    body: &'static str,
}

/// A job that is held. It goes to other threads, and its [`token`](Lease::token) to other processes.
///
/// Dropping it does nothing to the job: it stays held until the lease ends.
#[derive(Clone)]
pub struct Lease {
    client: Client,
    token: String,
    ends_at: Timestamp,
    job: Job,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Lease");
        shown.field("token", &self.token).field("ends_at", &self.ends_at).field("job", &self.job);
        shown.finish_non_exhaustive()
    }
}

impl<Q: Into<String>, const N: usize> From<[Q; N]> for Reserve {
    /// One job of those queues, without waiting.
    fn from(queues: [Q; N]) -> Reserve {
        queues.into_iter().collect()
    }
}

impl<Q: Into<String>> FromIterator<Q> for Reserve {
    /// One job of those queues, without waiting.
    fn from_iter<I: IntoIterator<Item = Q>>(queues: I) -> Reserve {
        let queues = queues.into_iter().map(Into::into).collect();
        // As text, a body comes as it is; JSON would be written anew.
        Reserve { queues, wait: Duration::ZERO, count: 1, body: "text" }
    }
}

impl Reserve {
    /// One job of that queue, without waiting. There may be up to 100 queues: [`Reserve::from`].
    pub fn of(queue: impl Into<String>) -> Reserve {
        Reserve::from([queue])
    }

    /// How long to wait for a job where none is ready: at most ten minutes.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Reserve {
        Reserve { wait, ..self }
    }

    /// The most jobs: 1 to 100. Whatever is ready is taken at once; their leases begin together.
    #[must_use]
    pub fn count(self, count: u16) -> Reserve {
        Reserve { count, ..self }
    }
}

#[derive(Debug, Deserialize)]
struct Leases {
    leases: Vec<Leased>,
}

#[derive(Debug, Deserialize)]
struct Leased {
    lease: String,
    ends_at: Timestamp,
    job: Job,
}

#[derive(Debug, Deserialize)]
struct Touched {
    ends_at: Timestamp,
}

impl Client {
    /// Reserves jobs; none if none came in time.
    ///
    /// # Errors
    /// [`Error`]. After [`Error::Broken`] and [`Error::TimedOut`] a job may be held by nobody until its TTR is over.
    pub fn reserve(&self, reserve: &Reserve) -> Result<Vec<Lease>, Error> {
        let ask = Ask::new(Method::Post, "/v1/leases").json(reserve)?.patience(Patience::And(reserve.wait));
        let Leases { leases } = self.call(&ask)?;
        let lease = |Leased { lease, ends_at, job }| Lease::of(self.clone(), lease, ends_at, job);
        Ok(leases.into_iter().map(lease).collect())
    }

    /// Begins a lease anew of which only its [text](Lease::token) is known, and says when it ends now; none if it has ended.
    ///
    /// # Errors
    /// [`Error`]
    pub fn touch(&self, token: &str) -> Result<Option<Timestamp>, Error> {
        self.touched(token, &json!({}))
    }

    fn touched(&self, token: &str, body: &serde_json::Value) -> Result<Option<Timestamp>, Error> {
        let touched: Option<Touched> = self.held(token, "touch", body)?;
        Ok(touched.map(|touched| touched.ends_at))
    }

    /// Does something with what a lease holds; none if it has ended.
    fn held<T: DeserializeOwned>(&self, token: &str, verb: &str, body: &serde_json::Value) -> Result<Option<T>, Error> {
        let path = format!("/v1/leases/{}/{verb}", values::escape(token));
        let ask = Ask::new(Method::Post, &path).json(body)?;
        found(self.call(&ask), ProblemKind::LeaseOutdated)
    }
}

impl Lease {
    pub(super) fn of(client: Client, token: String, ends_at: Timestamp, job: Job) -> Lease {
        Lease { client, token, ends_at, job }
    }

    /// The job, as it was when it was reserved, with its body.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The job's body as a value, from JSON.
    ///
    /// # Errors
    /// The body is no such value.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        self.job.value()
    }

    /// The text that holds the job.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// When the lease ends, unless it is begun anew before.
    pub fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// Ends the job as done. False if the lease has ended, and the job may run again.
    ///
    /// # Errors
    /// [`Error`]: unless it is a problem, the job may be done or not. Asked again, what was done is answered by false.
    pub fn complete(&self) -> Result<bool, Error> {
        self.completed(&json!({}))
    }

    /// The same, with what came of it: a text, or any JSON, at most 65,536 bytes, kept as long as the queue keeps final jobs.
    ///
    /// # Errors
    /// Those of [`Lease::complete`].
    pub fn complete_with(&self, result: &(impl Serialize + ?Sized)) -> Result<bool, Error> {
        self.completed(&member("result", Some(result))?)
    }

    fn completed(&self, body: &serde_json::Value) -> Result<bool, Error> {
        Ok(self.client.held::<Ended>(&self.token, "complete", body)?.is_some())
    }

    /// Says that the attempt failed, and why: a text, or any JSON, at most 4,096 bytes. The job is tried again after its back-off,
    /// or after `delay`, or is buried if that was its last attempt. The job as it is then; none if the lease has ended.
    ///
    /// # Errors
    /// [`Error`]: unless it is a problem, that may have been done or not.
    pub fn fail(&self, error: &(impl Serialize + ?Sized), delay: Option<Duration>) -> Result<Option<Job>, Error> {
        let mut body = member("error", Some(error))?;
        if let Some(delay) = delay {
            body["delay"] = span_text(delay).into();
        }
        self.client.held(&self.token, "fail", &body)
    }

    /// Gives the job back, without fault: at once or after a delay, with its priority or another. The job as it is then; none if
    /// the lease has ended.
    ///
    /// # Errors
    /// [`Error`]
    pub fn release(&self, priority: Option<u32>, delay: Option<Duration>) -> Result<Option<Job>, Error> {
        let mut body = member("priority", priority)?;
        if let Some(delay) = delay {
            body["delay"] = span_text(delay).into();
        }
        self.client.held(&self.token, "release", &body)
    }

    /// Sets the job aside until it is kicked, with its priority or another. The job as it is then; none if the lease has ended.
    ///
    /// # Errors
    /// [`Error`]
    pub fn bury(&self, priority: Option<u32>) -> Result<Option<Job>, Error> {
        self.client.held(&self.token, "bury", &member("priority", priority)?)
    }

    /// Begins the lease anew: another TTR from now. False if it has ended: stop working on the job.
    ///
    /// # Errors
    /// [`Error`]
    pub fn touch(&mut self) -> Result<bool, Error> {
        self.begun_anew(&json!({}))
    }

    /// The same, and says how far the work is, for whoever looks at the job: a text, or any JSON, at most 4,096 bytes.
    ///
    /// # Errors
    /// [`Error`]
    pub fn progress(&mut self, progress: &(impl Serialize + ?Sized)) -> Result<bool, Error> {
        self.begun_anew(&member("progress", Some(progress))?)
    }

    fn begun_anew(&mut self, body: &serde_json::Value) -> Result<bool, Error> {
        let ends_at = self.client.touched(&self.token, body)?;
        self.ends_at = ends_at.unwrap_or(self.ends_at);
        Ok(ends_at.is_some())
    }
}

/// An object with that member, if there is a value for it.
fn member(name: &str, value: Option<impl Serialize>) -> Result<serde_json::Value, Error> {
    let mut object = json!({});
    if let Some(value) = value {
        object[name] = serde_json::to_value(value).map_err(Error::Value)?;
    }
    Ok(object)
}
