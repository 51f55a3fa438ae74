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
    is_durable: bool,
    job: Job,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Lease");
        shown.field("token", &self.token).field("ends_at", &self.ends_at).field("is_durable", &self.is_durable);
        shown.field("job", &self.job);
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

/// A lease as the server says it.
#[derive(Debug, Deserialize)]
pub(super) struct Leased {
    lease: String,
    ends_at: Timestamp,
    #[serde(default)]
    durable: bool,
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
        Ok(leases.into_iter().map(|leased| Lease::of(self.clone(), leased)).collect())
    }

    /// Ends the job as done whose lease has that [text](Lease::token): what a process says that was given the text, or had it before it
    /// was started again. False if the lease has ended, and the job may run again.
    ///
    /// # Errors
    /// Those of [`Lease::complete`].
    pub fn complete(&self, token: &str) -> Result<bool, Error> {
        self.completed(token, &json!({}))
    }

    /// The same, with what came of it, as [`Lease::complete_with`].
    ///
    /// # Errors
    /// Those of [`Lease::complete`].
    pub fn complete_with(&self, token: &str, result: &(impl Serialize + ?Sized)) -> Result<bool, Error> {
        self.completed(token, &member("result", Some(result))?)
    }

    fn completed(&self, token: &str, body: &serde_json::Value) -> Result<bool, Error> {
        Ok(self.held::<Ended>(token, "complete", body)?.is_some())
    }

    /// Says that the attempt failed whose lease has that text, as [`Lease::fail`].
    ///
    /// # Errors
    /// Those of [`Lease::fail`].
    pub fn fail(
        &self,
        token: &str,
        error: &(impl Serialize + ?Sized),
        delay: Option<Duration>,
    ) -> Result<Option<Job>, Error> {
        self.held(token, "fail", &delayed(member("error", Some(error))?, delay))
    }

    /// Gives back the job whose lease has that text, as [`Lease::release`].
    ///
    /// # Errors
    /// [`Error`]
    pub fn release(&self, token: &str, priority: Option<u32>, delay: Option<Duration>) -> Result<Option<Job>, Error> {
        self.held(token, "release", &delayed(member("priority", priority)?, delay))
    }

    /// Sets aside the job whose lease has that text, as [`Lease::bury`].
    ///
    /// # Errors
    /// [`Error`]
    pub fn bury(&self, token: &str, priority: Option<u32>) -> Result<Option<Job>, Error> {
        self.held(token, "bury", &member("priority", priority)?)
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
    pub(super) fn of(client: Client, leased: Leased) -> Lease {
        let Leased { lease: token, ends_at, durable: is_durable, job } = leased;
        Lease { client, token, ends_at, is_durable, job }
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

    /// Whether it stays in force over a restart or a crash of the server, as those of queues with
    /// [`durable_leases`](super::Settings::durable_leases) do: its holder goes on with it when the server is back.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Ends the job as done. False if the lease has ended, and the job may run again.
    ///
    /// # Errors
    /// [`Error`]: unless it is a problem, the job may be done or not. Asked again, what was done is answered by false.
    pub fn complete(&self) -> Result<bool, Error> {
        self.client.complete(&self.token)
    }

    /// The same, with what came of it: a text, or any JSON, at most 65,536 bytes, kept as long as the queue keeps final jobs.
    ///
    /// # Errors
    /// Those of [`Lease::complete`].
    pub fn complete_with(&self, result: &(impl Serialize + ?Sized)) -> Result<bool, Error> {
        self.client.complete_with(&self.token, result)
    }

    /// Says that the attempt failed, and why: a text, or any JSON, at most 4,096 bytes. The job is tried again after its back-off,
    /// or after `delay`, or is buried if that was its last attempt. The job as it is then; none if the lease has ended.
    ///
    /// # Errors
    /// [`Error`]: unless it is a problem, that may have been done or not.
    pub fn fail(&self, error: &(impl Serialize + ?Sized), delay: Option<Duration>) -> Result<Option<Job>, Error> {
        self.client.fail(&self.token, error, delay)
    }

    /// Gives the job back, without fault: at once or after a delay, with its priority or another. The job as it is then; none if
    /// the lease has ended.
    ///
    /// # Errors
    /// [`Error`]
    pub fn release(&self, priority: Option<u32>, delay: Option<Duration>) -> Result<Option<Job>, Error> {
        self.client.release(&self.token, priority, delay)
    }

    /// Sets the job aside until it is kicked, with its priority or another. The job as it is then; none if the lease has ended.
    ///
    /// # Errors
    /// [`Error`]
    pub fn bury(&self, priority: Option<u32>) -> Result<Option<Job>, Error> {
        self.client.bury(&self.token, priority)
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

/// The object with that delay, if there is one.
fn delayed(mut object: serde_json::Value, delay: Option<Duration>) -> serde_json::Value {
    if let Some(delay) = delay {
        object["delay"] = span_text(delay).into();
    }
    object
}

/// An object with that member, if there is a value for it.
fn member(name: &str, value: Option<impl Serialize>) -> Result<serde_json::Value, Error> {
    let mut object = json!({});
    if let Some(value) = value {
        object[name] = serde_json::to_value(value).map_err(Error::Value)?;
    }
    Ok(object)
}
