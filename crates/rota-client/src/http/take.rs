//! Jobs as they come: a stream of leases, so many at a time as are not finished, without a request for each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ask::{Ask, Method};
use super::lease::Leased;
use super::stream::Stream;
use super::{Client, Error, Lease};

/// The longest line of the stream that is taken, in bytes: a job with the longest body that a server can be set up for.
const LINE_BYTES: u64 = 2 << 30;

/// What lines of JSON are called.
const LINES: &str = "application/x-ndjson";

/// Which jobs a stream hands out: out of which queues, and how many that are not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Take {
    queues: Vec<String>,
    max: u16,
    body: &'static str,
}

impl<Q: Into<String>, const N: usize> From<[Q; N]> for Take {
    /// One job at a time of those queues.
    fn from(queues: [Q; N]) -> Take {
        queues.into_iter().collect()
    }
}

impl<Q: Into<String>> FromIterator<Q> for Take {
    /// One job at a time of those queues.
    fn from_iter<I: IntoIterator<Item = Q>>(queues: I) -> Take {
        // As text, a body comes as it is; JSON would be written anew.
        Take { queues: queues.into_iter().map(Into::into).collect(), max: 1, body: "text" }
    }
}

impl Take {
    /// One job at a time of that queue. There may be up to 100 queues: [`Take::from`].
    pub fn of(queue: impl Into<String>) -> Take {
        Take::from([queue])
    }

    /// The most jobs that are handed out and not finished: 1 to 1,000.
    #[must_use]
    pub fn max(self, max: u16) -> Take {
        Take { max, ..self }
    }
}

/// What a stream says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Taken {
    /// A job was reserved. It is finished by its lease, over another connection, here or anywhere else; then there is room for
    /// the next one.
    Lease(Box<Lease>),
    /// A lease of this stream ended, whoever ended it: who works on it is to stop.
    Ended {
        /// Its [text](Lease::token).
        token: String,
        /// Why.
        reason: LeaseEnd,
    },
    /// Nothing came for 15 seconds: an occasion to look whether to go on.
    Quiet,
    /// The server ends the stream. What was handed out is held all the same; over a restart, if it is [durable](Lease::is_durable).
    End {
        /// Why.
        reason: StreamEnd,
        /// In words.
        detail: String,
    },
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LeaseEnd {
    /// Its time was over.
    Lost,
    /// The job was completed.
    Completed,
    /// It was called off.
    Cancelled,
    /// It was set aside, or failed for the last time.
    Buried,
    /// It was given back or failed, and waits again.
    Released,
    /// Something else, or what only a later server knows.
    #[serde(other)]
    Other,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StreamEnd {
    /// The server stops, which ends all leases without fault, but for [durable](Lease::is_durable) ones.
    Stopping,
    /// The token is valid no more.
    Token,
    /// So many leases ran out in a row that this client is taken for gone.
    Unheard,
    /// One of a later server's.
    #[serde(other)]
    Other,
}

/// Jobs as they come. It blocks until something is said. It ends behind [`Taken::End`], and behind an error, after which jobs may be
/// held by nobody until their TTR is over. Whoever drops it keeps the leases that came, and gets no more.
pub struct LeaseStream {
    client: Client,
    stream: Option<Stream>,
}

impl fmt::Debug for LeaseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseStream").field("is_over", &self.stream.is_none()).finish_non_exhaustive()
    }
}

/// A line of the stream.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Lease(Box<Leased>),
    Ended {
        lease: String,
        reason: LeaseEnd,
    },
    Quiet,
    End {
        reason: StreamEnd,
        detail: String,
    },
    /// That it begins; and what only a later server says.
    #[serde(other)]
    Other,
}

impl Client {
    /// Has jobs handed out as they come. It asks no more when the connection breaks: what was handed out may be held then, and a
    /// new stream knows nothing of that.
    ///
    /// # Errors
    /// [`Error`]
    pub fn take(&self, take: &Take) -> Result<LeaseStream, Error> {
        let ask = Ask::new(Method::Post, "/v1/leases/stream").json(take)?.accept(LINES);
        Ok(LeaseStream { client: self.clone(), stream: Some(self.stream(ask)?) })
    }
}

impl LeaseStream {
    /// The next line; none if that was the last.
    fn line(&mut self) -> Result<Option<Line>, Error> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let line = self.client.next_line(stream, LINE_BYTES, "a line without an end")?;
        let read = serde_json::from_slice(&line);
        read.map(Some).map_err(|error| self.client.unexpected(&error.to_string(), &line))
    }
}

impl Iterator for LeaseStream {
    type Item = Result<Taken, Error>;

    fn next(&mut self) -> Option<Result<Taken, Error>> {
        loop {
            let taken = match self.line() {
                Ok(None) => return None,
                Ok(Some(Line::Other)) => continue,
                Ok(Some(Line::Lease(leased))) => Taken::Lease(Box::new(Lease::of(self.client.clone(), *leased))),
                Ok(Some(Line::Ended { lease, reason })) => Taken::Ended { token: lease, reason },
                Ok(Some(Line::Quiet)) => Taken::Quiet,
                Ok(Some(Line::End { reason, detail })) => {
                    self.stream = None;
                    Taken::End { reason, detail }
                }
                Err(error) => {
                    self.stream = None;
                    return Some(Err(error));
                }
            };
            return Some(Ok(taken));
        }
    }
}
