//! A blocking client of Rota's HTTP API: all that `docs/http.md` says, as types.
//!
//! A [`Client`] is a place to ask, not a connection: it opens connections as it needs them, keeps some, and is shared by
//! threads. What is put, reserved and answered are types, by serde; a lease is held by its text, over any connection, also from
//! another process. Every refusal of the server is an [`Error::Problem`] with the problem document (RFC 9457) in it.
//!
//! ```no_run
//! use std::time::Duration;
//! use rota_client::http::{BackOff, Client, NewJob, Reserve};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Email {
//!     to: String,
//! }
//!
//! fn send(_: &Email) -> Result<(), String> {
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect("http://127.0.0.1:11380")?;
//!     let job = NewJob::value("mail", &Email { to: "ann@example.org".into() })?
//!         .kind("welcome")
//!         .max_attempts(5)
//!         .back_off(BackOff::first(Duration::from_secs(10)));
//!     let put = client.put(&job, Some("welcome-ann"))?;
//!     println!("job {}", put.id);
//!
//!     for lease in client.reserve(&Reserve::from(["mail", "news"]).wait(Duration::from_secs(30)))? {
//!         match lease.value::<Email>().map_err(|error| error.to_string()).and_then(|email| send(&email)) {
//!             Ok(()) => drop(lease.complete_with("sent")?),
//!             Err(error) => drop(lease.fail(&error, None)?),
//!         }
//!     }
//!     Ok(())
//! }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

mod address;
mod ask;
mod builder;
mod error;
mod event;
mod job;
mod lease;
mod many;
mod new_job;
mod problem;
mod queue;
mod schedule;
mod server;
mod stream;
mod take;
mod transport;
mod values;
mod webhook;
mod why;

pub use address::{Address, AddressError};
pub use ask::Method;
use ask::{Ask, Patience};
pub use builder::{Builder, Http};
pub use error::Error;
pub use event::{Event, Events, Listen};
pub use jiff::Timestamp;
pub use job::{Holder, Job, JobState, List, Page};
pub use lease::{Lease, Reserve};
pub use many::{Done, Many, Refused};
pub use new_job::{BackOff, NewJob, OnConflict, OnParentFailure, Parent, Put};
pub use problem::{Problem, ProblemKind};
pub use queue::{Jobs, Kicked, Pause, PerKey, Queue, QueuePage, Rate, Settings, Source, SyncMode, Times, Totals};
pub use schedule::{
    LastTick, LastTicked, NewSchedule, OnMissed, OnOverlap, Schedule, SchedulePage, ScheduledJob, Ticks,
};
pub use serde_json::Value;
pub use server::{RefusedPuts, SnapshotTaken, Stats, StatsTotals};
pub use take::{LeaseEnd, LeaseStream, StreamEnd, Take, Taken};
pub use values::escape;
pub use webhook::{
    NewWebhook, OldSecret, PausedBecause, Secret, Webhook, WebhookCall, WebhookCalls, WebhookOutcome, WebhookTest,
};
pub use why::{Burial, Explained, Reason, Waited, Why};

/// Where to ask, and in whose name. It is cheap to clone, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    address: Arc<Address>,
    token: Option<Arc<str>>,
    /// How long an answer may take, on top of what a request itself waits.
    timeout: Duration,
}

impl fmt::Debug for Client {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `http://host:port`, `https://host:port` or `host:port`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Address`] if that is no address, [`Error::Tls`] if the system's authorities can't be read.
    pub fn connect(address: &str) -> Result<Client, Error> {
        Client::builder().connect(address)
    }

    /// Says first how to connect: whom to trust, which token to show, how long to wait.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it asks.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks for a page that has no method here: `path` is the path with its query, escaped; `body` is sent as JSON. The answer
    /// is waited for as long as `wait` says on top of the client's time-out, without end where it is none.
    ///
    /// # Errors
    /// [`Error`]: if what it asks for changes something, that may have been done unless it is an [`Error::Problem`].
    pub fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
        wait: Option<Duration>,
    ) -> Result<T, Error> {
        let ask = Ask::new(method, path).patience(wait.map_or(Patience::Endless, Patience::And));
        let ask = match body {
            Some(body) => ask.json(body)?,
            None => ask,
        };
        self.call(&ask)
    }
}

#[cfg(test)]
mod tests;
