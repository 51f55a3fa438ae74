//! Batches: one request for many jobs, and one answer that says of each what became of it. Only Rota has them.

use std::time::Duration;

use thiserror::Error;

use super::put::{extended_line, framed};
use super::{Client, ClientError, Job, Lease, Need, Put, QueueName, Terms, reserve_seconds};

/// The most jobs of a batch.
pub const BATCH_JOBS: usize = 1000;

/// The longest answer to a batch, in bytes: its longest word is `KEY_TAKEN:` and an id.
const ANSWER_BYTES: u64 = 64 + 32 * BATCH_JOBS as u64;

/// Why one job of a batch was not put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotPut {
    /// An open job of the queue has the key: this one, which may be of the same batch.
    #[error("the key is taken: job {0} has it")]
    KeyTaken(u64),
    /// The body is larger than the server takes.
    #[error("the job is too big for the server")]
    TooBig,
    /// The server has no room.
    #[error("the server has no room for the job")]
    OutOfMemory,
    /// A job that it should wait for was never put.
    #[error("a job that it should wait for was never put")]
    UnknownParent,
}

impl Client {
    /// Puts bodies as so many jobs on the same terms, together and in their order, and gives of each its id or why it was
    /// not put. They are in the server's log together or not at all.
    ///
    /// # Errors
    /// Those of [`Client::put_batch_of`].
    pub fn put_batch<B: AsRef<[u8]>>(
        &mut self,
        bodies: &[B],
        terms: &Terms,
    ) -> Result<Vec<Result<u64, NotPut>>, ClientError> {
        let puts: Vec<Put<'_>> = bodies.iter().map(|body| terms.put(body.as_ref())).collect();
        self.put_batch_of(&puts)
    }

    /// Puts jobs of one queue, each on terms of its own, as [`Client::put_batch`] does.
    ///
    /// # Errors
    /// [`ClientError::BatchSize`] above [`BATCH_JOBS`] jobs, [`ClientError::BatchQueues`] if they are of several queues,
    /// [`ClientError::TooManyParents`]: nothing was sent. [`ClientError::NoSuchCommand`] if the server is no Rota, [`ClientError::BatchTooBig`] if it takes no
    /// batch of so many bytes: nothing was put. And all of the connection's, after which all of the jobs may be there, or none.
    pub fn put_batch_of(&mut self, puts: &[Put<'_>]) -> Result<Vec<Result<u64, NotPut>>, ClientError> {
        let command = "put-batch";
        check_size(puts.len())?;
        let Some(first) = puts.first() else { return Ok(Vec::new()) };
        if let Some(other) = puts.iter().find(|put| put.queue != first.queue) {
            return Err(ClientError::BatchQueues { first: first.queue.clone(), other: other.queue.clone() });
        }
        let mut on = self.connection();
        if !on.has_extensions()? {
            return Err(ClientError::no_such_command(&on.address, command, Need::Batch));
        }
        on.use_queue(first.queue)?;
        let mut bytes = Vec::new();
        for put in puts {
            bytes.extend_from_slice(extended_line(put)?.1.as_bytes());
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&framed(put.body));
        }
        let line = format_args!("{command} {} {}", puts.len(), bytes.len());
        let answer = on.call_long(command, line, &bytes, ANSWER_BYTES)?;
        if answer == "BATCH_TOO_BIG" {
            return Err(ClientError::BatchTooBig { address: on.address.clone(), bytes: bytes.len() });
        }
        let words = answer.strip_prefix("BATCH_INSERTED ").map(|rest| rest.split(' ').skip(1));
        let outcomes: Option<Vec<_>> = words.and_then(|words| words.map(outcome).collect());
        outcomes.filter(|outcomes| outcomes.len() == puts.len()).ok_or_else(|| on.unexpected(command, &answer))
    }

    /// Waits at most `wait` (rounded up to whole seconds) for a job of `queue`, and reserves at most `most` of those that are
    /// there then; none if none came. An answer takes no more jobs once it is 256 KiB long.
    ///
    /// Their leases begin together: ask for as many as are done within their TTR, or touch them.
    ///
    /// # Errors
    /// [`ClientError::BatchSize`] if `most` is zero or above [`BATCH_JOBS`]; [`ClientError::NoSuchCommand`] if the server is no
    /// Rota; and the connection's.
    pub fn reserve_batch(
        &mut self,
        queue: &QueueName,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<Lease<Vec<u8>>>, ClientError> {
        let command = "reserve-batch";
        if most == 0 {
            return Err(ClientError::BatchSize { jobs: 0 });
        }
        check_size(most)?;
        let mut on = self.connection();
        if !on.has_extensions()? {
            return Err(ClientError::no_such_command(&on.address, command, Need::Batch));
        }
        on.watch(queue)?;
        let seconds = reserve_seconds(wait);
        let answer = on.call_and_wait(command, format_args!("{command} {most} {seconds}"), seconds)?;
        if answer == "TIMED_OUT" {
            return Ok(Vec::new());
        }
        let count = on.number(&answer, command, "BATCH_RESERVED ")?;
        if count > most as u64 {
            return Err(on.unexpected(command, &answer));
        }
        let mut jobs = Vec::new();
        for _ in 0..count {
            let line = on.line(command)?;
            jobs.push(on.job(&line, command, "RESERVED ")?);
        }
        drop(on);
        Ok(jobs.into_iter().map(|Job { id, body }| Lease::new(self, id, body)).collect())
    }

    /// Deletes jobs, and gives the ids of those that were not there, or are held by another connection.
    ///
    /// # Errors
    /// [`ClientError::BatchSize`] above [`BATCH_JOBS`] jobs; [`ClientError::NoSuchCommand`] if the server is no Rota; and the
    /// connection's, after which all of them may be deleted, or none.
    pub fn delete_batch(&mut self, ids: &[u64]) -> Result<Vec<u64>, ClientError> {
        let command = "delete-batch";
        check_size(ids.len())?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut on = self.connection();
        if !on.has_extensions()? {
            return Err(ClientError::no_such_command(&on.address, command, Need::Batch));
        }
        let named: String = ids.iter().map(|id| format!(" {id}")).collect();
        let answer = on.call_long(command, format_args!("{command}{named}"), b"", ANSWER_BYTES)?;
        let rest = answer.strip_prefix("BATCH_DELETED ");
        let missing: Option<Vec<u64>> = rest.and_then(|rest| match rest.split_once(" NOT_FOUND ") {
            Some((_, missing)) => missing.split(' ').map(|id| id.parse().ok()).collect(),
            None => rest.parse::<u64>().ok().map(|_| Vec::new()),
        });
        missing.ok_or_else(|| on.unexpected(command, &answer))
    }
}

fn check_size(jobs: usize) -> Result<(), ClientError> {
    if jobs > BATCH_JOBS { Err(ClientError::BatchSize { jobs }) } else { Ok(()) }
}

/// What a word of the answer says of a put.
fn outcome(word: &str) -> Option<Result<u64, NotPut>> {
    match word {
        "JOB_TOO_BIG" => Some(Err(NotPut::TooBig)),
        "OUT_OF_MEMORY" => Some(Err(NotPut::OutOfMemory)),
        "NOT_FOUND" => Some(Err(NotPut::UnknownParent)),
        _ => match word.strip_prefix("KEY_TAKEN:") {
            Some(id) => id.parse().ok().map(|id| Err(NotPut::KeyTaken(id))),
            None => word.parse().ok().map(Ok),
        },
    }
}
