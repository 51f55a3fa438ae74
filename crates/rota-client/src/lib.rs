//! A small blocking client of the beanstalkd protocol: of Rota, and of any other server that speaks it. In [`http`] is one of
//! Rota's HTTP API, which can do all that Rota can.
//!
//! One connection, one command at a time, every read and write under a time-out. Names and keys are checked types,
//! so that nothing a user typed can end a line early; every answer is checked against what the protocol allows, and
//! any other is an error that shows it. It also speaks Rota's extension commands, and never sends one that carries
//! a body before it knows that the server has them: another server would read the body as commands.
//!
//! ```no_run
//! use std::time::Duration;
//! use rota_client::{Client, QueueName, Terms};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Email {
//!     to: String,
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let queue: QueueName = "emails".parse()?;
//!     let mut client = Client::connect("127.0.0.1:11300")?;
//!     client.put_value(&Email { to: "ann@example.org".into() }, &Terms::new(queue.clone()))?;
//!     match client.reserve_value::<Email>(&queue, Duration::from_secs(5)) {
//!         Ok(Some(job)) => {
//!             println!("to {}", job.body().to);
//!             job.complete()?;
//!         }
//!         Ok(None) => println!("nothing to do"),
//!         // The job is held all the same.
//!         Err(rota_client::ReserveError::Body { lease, .. }) => drop(lease.bury(1024)?),
//!         Err(error) => return Err(error.into()),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Inside TLS and with a token, which is no part of the address, since addresses are shown in messages:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = rota_client::Client::builder()
//!     .ca(&std::fs::read("ca.pem")?)
//!     .token(std::env::var("ROTA_TOKEN")?)
//!     .timeout(std::time::Duration::from_secs(10))
//!     .connect("tls://jobs.example.org:11301")?;
//! # drop(client);
//! # Ok(())
//! # }
//! ```
//!
//! Many jobs at once: a batch is one request with one answer, and a connection holds as many leases as it likes. The jobs
//! of a server belong to the connection that reserved them: leases share it with their [`Client`], and go to other threads.
//! A command waits until the one before is answered, so a thread that waits for jobs has a connection of its own.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use rota_client::{Client, Put, QueueName, Terms};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut client = Client::connect("127.0.0.1:11300")?;
//! let queue: QueueName = "emails".parse()?;
//! let bodies = ["one", "two", "three"].map(str::as_bytes);
//! for put in client.put_batch(&bodies, &Terms::new(queue.clone()))? {
//!     println!("job {}", put?);
//! }
//! let jobs = client.reserve_batch(&queue, 100, Duration::from_secs(5))?;
//! let ids: Vec<u64> = jobs.iter().map(|job| job.id()).collect();
//! let lost = client.delete_batch(&ids)?;
//! assert!(lost.is_empty());
//! # Ok(())
//! # }
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod address;
mod batch;
mod builder;
mod connection;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod name;
mod put;
mod stream;
mod typed;

pub use address::{AddressError, ServerAddress};
pub use batch::{BATCH_JOBS, NotPut};
pub use builder::{Builder, Commands};
use connection::Connection;
pub use error::{ClientError, Need};
pub use name::{Key, NameError, QueueName};
pub use put::{Put, When};
pub use rustls;
pub use typed::{Lease, PutError, ReserveError, Terms};

/// The longest token that is sent, in bytes: what fits a line.
const TOKEN_BYTES: usize = 200;

/// The longest wait that a reserve can ask for, in seconds.
const RESERVE_WAIT_SECONDS: u64 = (1 << 31) - 1;

/// A connection to a server.
#[derive(Debug)]
pub struct Client(Arc<Mutex<Connection>>);

/// A job's id and body.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    /// The id that the server gave it.
    pub id: u64,
    /// What was put.
    pub body: Vec<u8>,
}

/// Statistics: keys and values in the server's order, without quotes.
pub type Fields = Vec<(String, String)>;

impl Client {
    /// Connects to `host:port`, `beanstalkd://host:port`, or inside TLS to `tls://host:port`, of which the authorities of
    /// the system are trusted. For anything else there is [`Client::builder`].
    ///
    /// # Errors
    /// Those of [`Builder::connect`].
    pub fn connect(address: &str) -> Result<Client, ClientError> {
        Client::builder().connect(address)
    }

    /// Says first how to connect.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it is connected to.
    pub fn address(&self) -> ServerAddress {
        self.connection().address.clone()
    }

    /// The connection, once nobody else is in the middle of a command.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a token, which says what may be done from then on.
    ///
    /// # Errors
    /// [`ClientError::BadToken`] if the server does not know it, [`ClientError::NoSuchCommand`] if it knows none.
    pub fn authenticate(&mut self, token: &str) -> Result<(), ClientError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) || token.len() > TOKEN_BYTES {
            return Err(ClientError::NoToken);
        }
        let mut on = self.connection();
        on.send("auth", format_args!("auth {token}"), b"")?;
        match on.line("auth")?.as_str() {
            "AUTHENTICATED" => Ok(()),
            "BAD_TOKEN" => Err(ClientError::BadToken { address: on.address.clone() }),
            "UNKNOWN_COMMAND" => Err(ClientError::no_such_command(&on.address, "auth", Need::Token)),
            other => Err(on.unexpected("auth", other)),
        }
    }

    /// Waits at most `wait` (rounded up to whole seconds) for a job of `queue` and reserves it; none if none came.
    pub fn reserve(&mut self, queue: &QueueName, wait: Duration) -> Result<Option<Job>, ClientError> {
        let mut on = self.connection();
        on.watch(queue)?;
        let seconds = reserve_seconds(wait);
        let command = "reserve-with-timeout";
        let answer = on.call_and_wait(command, format_args!("{command} {seconds}"), seconds)?;
        if answer == "TIMED_OUT" {
            return Ok(None);
        }
        on.job(&answer, command, "RESERVED ").map(Some)
    }

    /// Deletes a job; false if there is none, or another connection holds it.
    pub fn delete(&mut self, id: u64) -> Result<bool, ClientError> {
        self.connection().found("delete", format_args!("delete {id}"), "DELETED")
    }

    /// Gives a job back that this connection holds; false if it does not hold it any more.
    pub fn release(&mut self, id: u64, priority: u32) -> Result<bool, ClientError> {
        self.connection().found("release", format_args!("release {id} {priority} 0"), "RELEASED")
    }

    /// Puts a job aside that this connection holds, until it is kicked; false if it does not hold it any more.
    pub fn bury(&mut self, id: u64, priority: u32) -> Result<bool, ClientError> {
        self.connection().found("bury", format_args!("bury {id} {priority}"), "BURIED")
    }

    /// Starts the lease of a job anew that this connection holds; false if it does not hold it any more.
    pub fn touch(&mut self, id: u64) -> Result<bool, ClientError> {
        self.connection().found("touch", format_args!("touch {id}"), "TOUCHED")
    }

    /// Cancels a job in any state; false if there is none. A server without `cancel` is asked to delete it, which
    /// does the same unless another connection holds the job.
    pub fn cancel(&mut self, id: u64) -> Result<bool, ClientError> {
        if self.has_extensions()? {
            self.connection().found("cancel", format_args!("cancel {id}"), "CANCELLED")
        } else {
            self.delete(id)
        }
    }

    /// Cancels the job of `queue` that has this key, and gives its id; none if there is none.
    ///
    /// # Errors
    /// [`ClientError::NoSuchCommand`] if the server has no keys; and all of the connection's.
    pub fn cancel_key(&mut self, queue: &QueueName, key: &Key) -> Result<Option<u64>, ClientError> {
        if !self.has_extensions()? {
            return Err(ClientError::no_such_command(&self.address(), "cancel-key", Need::CancelByKey));
        }
        let mut on = self.connection();
        let answer = on.call("cancel-key", format_args!("cancel-key {queue} {key}"), b"")?;
        match answer.as_str() {
            "NOT_FOUND" => Ok(None),
            _ => on.number(&answer, "cancel-key", "CANCELLED ").map(Some),
        }
    }

    /// Makes at most `count` buried jobs of `queue` ready, or delayed ones if none is buried; gives how many.
    pub fn kick(&mut self, queue: &QueueName, count: u32) -> Result<u64, ClientError> {
        let mut on = self.connection();
        on.use_queue(queue)?;
        let answer = on.call("kick", format_args!("kick {count}"), b"")?;
        on.number(&answer, "kick", "KICKED ")
    }

    /// Makes one buried or delayed job ready; false if there is no such job in either state.
    pub fn kick_job(&mut self, id: u64) -> Result<bool, ClientError> {
        self.connection().found("kick-job", format_args!("kick-job {id}"), "KICKED")
    }

    /// A job's body, in whatever state it is; none if there is no such job.
    pub fn peek(&mut self, id: u64) -> Result<Option<Job>, ClientError> {
        let mut on = self.connection();
        let answer = on.call("peek", format_args!("peek {id}"), b"")?;
        match answer.as_str() {
            "NOT_FOUND" => Ok(None),
            _ => on.job(&answer, "peek", "FOUND ").map(Some),
        }
    }

    /// A job's statistics; none if there is no such job.
    pub fn stats_job(&mut self, id: u64) -> Result<Option<Fields>, ClientError> {
        self.connection().fields("stats-job", format_args!("stats-job {id}"))
    }

    /// A queue's statistics; none if there is no such queue.
    pub fn stats_queue(&mut self, queue: &QueueName) -> Result<Option<Fields>, ClientError> {
        self.connection().fields("stats-tube", format_args!("stats-tube {queue}"))
    }

    /// The server's statistics.
    pub fn stats(&mut self) -> Result<Fields, ClientError> {
        let mut on = self.connection();
        let fields = on.fields("stats", format_args!("stats"))?;
        fields.ok_or_else(|| on.unexpected("stats", "NOT_FOUND"))
    }

    /// The names of all queues, in the server's order.
    pub fn queues(&mut self) -> Result<Vec<QueueName>, ClientError> {
        let mut on = self.connection();
        let answer = on.call("list-tubes", format_args!("list-tubes"), b"")?;
        let text = on.text(&answer, "list-tubes")?;
        let names = text.lines().filter_map(|line| line.strip_prefix("- "));
        names
            .map(|name| {
                let parsed = name.trim_matches('"').parse();
                parsed.map_err(|_| on.unexpected("list-tubes", name))
            })
            .collect()
    }

    /// Whether the server has Rota's extension commands; asked once, by a `cancel` of the id that no job has.
    pub fn has_extensions(&mut self) -> Result<bool, ClientError> {
        self.connection().has_extensions()
    }
}

/// A span in whole seconds, rounded up.
fn whole_seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// How long a reserve waits, in seconds.
fn reserve_seconds(wait: Duration) -> u64 {
    whole_seconds_up(wait).min(RESERVE_WAIT_SECONDS)
}

#[cfg(test)]
mod tests;
