//! What webhooks need of the world outside: a place to be kept in, somebody who calls addresses, and chance.
//!
//! The binary hands it in. Nothing in here knows a file or a client of HTTP.

use super::super::problem::Problem;
use super::hook::{BadWebhook, Webhook};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// That something was written down, or why not; when it is.
pub type Keeping = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;

/// What came of a call, when it is known.
pub type Calling = Pin<Box<dyn Future<Output = Called> + Send>>;

/// Who keeps webhooks, and calls them.
pub trait Webhooks: Send + Sync + 'static {
    /// Those that were kept before, and after the event of which number each goes on.
    fn kept(&self) -> Vec<(Webhook, u64)>;

    /// Keeps these, and no others. It goes on when what is returned is dropped.
    fn keep(&self, webhooks: Vec<Webhook>) -> Keeping;

    /// Takes down that the log was told of these as they are, and of no others. If that fails, it may be told again.
    fn keep_told(&self, webhooks: Vec<Webhook>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Keeps how far they are. What comes of it is nobody's concern but its own: who is further back is only called again.
    fn keep_places(&self, places: Vec<Place>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Whether that can be called and may be, as far as is known without calling.
    ///
    /// # Errors
    /// [`BadWebhook`]: why not.
    fn check_url(&self, url: &str) -> Result<(), BadWebhook>;

    /// Bytes that nobody can guess.
    ///
    /// # Errors
    /// [`Problem`]: the system gives none.
    fn random(&self) -> Result<[u8; 32], Problem>;

    /// Calls an address, once. It is called off when what is returned is dropped.
    fn call(&self, call: Call) -> Calling;
}

/// How far a webhook is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// When it was set up last, in nanoseconds since 1970.
    pub set_at_ns: u64,
    /// Everything that was chosen was delivered up to the event of that number.
    pub seq: u64,
}

/// A call to be made.
pub struct Call {
    /// The address.
    pub url: Arc<str>,
    /// What its id begins with: the webhook, and the first event. The same body under the same begin is the same call.
    pub id: String,
    /// What it is signed with, by each of them: the newest first.
    pub secrets: Vec<Arc<[u8]>>,
    /// JSON.
    pub body: Arc<str>,
}

/// What came of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Called {
    /// There was an answer.
    Answered {
        /// Its status.
        status: u16,
        /// How long to wait before the next one, if it said that.
        retry_after: Option<Duration>,
        /// The begin of its body.
        said: String,
    },
    /// There was none.
    Unanswered(String),
    /// It was not called: where it leads webhooks may not go.
    Forbidden(String),
}
