//! Jobs whose bodies are values: JSON by serde on the way in, and a lease with the value on the way out.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{Client, ClientError, Job, Key, Put, QueueName, When};

/// How a job is put: into which queue, how urgent, when due, how long a worker may hold it, under which key.
#[derive(Debug, Clone)]
pub struct Terms {
    queue: QueueName,
    priority: u32,
    when: When,
    ttr: Duration,
    key: Option<Key>,
    after: Vec<u64>,
}

impl Terms {
    /// Into `queue` at once, with priority 1024 and a minute for its worker.
    pub fn new(queue: QueueName) -> Terms {
        Terms {
            queue,
            priority: 1024,
            when: When::In(Duration::ZERO),
            ttr: Duration::from_secs(60),
            key: None,
            after: Vec::new(),
        }
    }

    /// 0 is the most urgent.
    pub fn priority(self, priority: u32) -> Terms {
        Terms { priority, ..self }
    }

    /// When it becomes due.
    pub fn when(self, when: When) -> Terms {
        Terms { when, ..self }
    }

    /// How long a worker may hold it; a server makes a second of zero.
    pub fn ttr(self, ttr: Duration) -> Terms {
        Terms { ttr, ..self }
    }

    /// Unique among the open jobs of its queue; only Rota has keys.
    pub fn key(self, key: Key) -> Terms {
        Terms { key: Some(key), ..self }
    }

    /// The jobs that must be done before, of whatever queue; if one is cancelled, this one is too. Only Rota has that.
    #[must_use]
    pub fn after(self, jobs: impl IntoIterator<Item = u64>) -> Terms {
        Terms { after: jobs.into_iter().collect(), ..self }
    }

    /// The put of such a body.
    pub(crate) fn put<'a>(&'a self, body: &'a [u8]) -> Put<'a> {
        let Terms { queue, priority, when, ttr, key, after } = self;
        Put { queue, body, priority: *priority, when: *when, ttr: *ttr, key: key.as_ref(), after }
    }
}

/// Why a value was not put.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PutError {
    /// The value is none of JSON; nothing was sent.
    #[error("the job's value cannot be written as JSON")]
    Value(#[source] serde_json::Error),
    /// What the client or the server said.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Why no value was reserved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The body is not such a value. The job is held: bury it, release it or complete it.
    #[error("the body of job {} is not what was asked for", lease.id())]
    Body {
        /// The lease of the job, with its body as it came.
        lease: Lease<Vec<u8>>,
        /// What is wrong with the body, and where.
        source: serde_json::Error,
    },
    /// What the client or the server said.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A job that a connection holds, until its TTR ends or the connection closes; which it does when its client and all of its
/// leases are gone.
///
/// Dropping it does nothing to the job: it stays held until then.
pub struct Lease<T> {
    client: Client,
    id: u64,
    body: T,
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.id).field("body", &self.body).finish_non_exhaustive()
    }
}

impl<T> Lease<T> {
    /// The job's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What was put.
    pub fn body(&self) -> &T {
        &self.body
    }

    /// Ends the job as done; false if the lease was lost, and the job may run again.
    ///
    /// # Errors
    /// [`ClientError`]: the connection's; the job may be done or not.
    pub fn complete(mut self) -> Result<bool, ClientError> {
        self.client.delete(self.id)
    }

    /// Gives the job back, ready at once; false if the lease was lost.
    ///
    /// # Errors
    /// [`ClientError`]: the connection's.
    pub fn release(mut self, priority: u32) -> Result<bool, ClientError> {
        self.client.release(self.id, priority)
    }

    /// Puts the job aside until somebody kicks it; false if the lease was lost.
    ///
    /// # Errors
    /// [`ClientError`]: the connection's.
    pub fn bury(mut self, priority: u32) -> Result<bool, ClientError> {
        self.client.bury(self.id, priority)
    }

    /// Starts the lease anew; false if it was lost.
    ///
    /// # Errors
    /// [`ClientError`]: the connection's.
    pub fn touch(&mut self) -> Result<bool, ClientError> {
        self.client.touch(self.id)
    }

    /// A lease of a job that this client's connection holds.
    pub(crate) fn new(client: &Client, id: u64, body: T) -> Lease<T> {
        Lease { client: Client(client.0.clone()), id, body }
    }
}

impl Lease<Vec<u8>> {
    /// The same with the body as a value.
    ///
    /// # Errors
    /// [`ReserveError::Body`], with the lease, if the body is no such value.
    pub fn parse<T: DeserializeOwned>(self) -> Result<Lease<T>, ReserveError> {
        match serde_json::from_slice(&self.body) {
            Ok(body) => Ok(Lease { client: self.client, id: self.id, body }),
            Err(source) => Err(ReserveError::Body { lease: self, source }),
        }
    }
}

impl Client {
    /// Puts `value` as JSON and gives the job's id.
    ///
    /// # Errors
    /// [`PutError::Value`] if it can't be written; and those of [`Client::put`].
    pub fn put_value<T: Serialize + ?Sized>(&mut self, value: &T, terms: &Terms) -> Result<u64, PutError> {
        let body = serde_json::to_vec(value).map_err(PutError::Value)?;
        Ok(self.put_bytes(&body, terms)?)
    }

    /// Puts bytes as they are and gives the job's id.
    ///
    /// # Errors
    /// Those of [`Client::put`].
    pub fn put_bytes(&mut self, body: &[u8], terms: &Terms) -> Result<u64, ClientError> {
        self.put(&terms.put(body))
    }

    /// Waits at most `wait` for a job of `queue` and reserves it as a value; none if none came.
    ///
    /// # Errors
    /// [`ReserveError::Body`], which holds the job, if its body is no such value; and the connection's.
    pub fn reserve_value<T: DeserializeOwned>(
        &mut self,
        queue: &QueueName,
        wait: Duration,
    ) -> Result<Option<Lease<T>>, ReserveError> {
        self.reserve_bytes(queue, wait)?.map(Lease::parse).transpose()
    }

    /// Waits at most `wait` for a job of `queue` and reserves it with its bytes; none if none came.
    ///
    /// # Errors
    /// [`ClientError`]: the connection's.
    pub fn reserve_bytes(&mut self, queue: &QueueName, wait: Duration) -> Result<Option<Lease<Vec<u8>>>, ClientError> {
        let found = self.reserve(queue, wait)?;
        Ok(found.map(|Job { id, body }| Lease::new(self, id, body)))
    }
}
