//! Webhooks: addresses that the server calls with what happens.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Method};
use super::job::found;
use super::values::{self, escape};
use super::{Client, Error, ProblemKind};

/// What calls are signed with, as Standard Webhooks has it: `whsec_` and base64. Nothing prints it but who asks for its text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A webhook to set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewWebhook {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "values::maybe_number::serialize")]
    after: Option<u64>,
}

impl NewWebhook {
    /// Calls that address, of http or https, with all events.
    pub fn to(url: impl Into<String>) -> NewWebhook {
        NewWebhook { url: url.into(), events: None, queues: None, secret: None, paused: None, after: None }
    }

    /// Only with events of these kinds: `job.failed`, or `job.*` for all that begin so.
    #[must_use]
    pub fn events<K: Into<String>>(self, kinds: impl IntoIterator<Item = K>) -> NewWebhook {
        NewWebhook { events: Some(kinds.into_iter().map(Into::into).collect()), ..self }
    }

    /// Only with events of these queues and their jobs: names, in which `*` stands for anything.
    #[must_use]
    pub fn queues<Q: Into<String>>(self, queues: impl IntoIterator<Item = Q>) -> NewWebhook {
        NewWebhook { queues: Some(queues.into_iter().map(Into::into).collect()), ..self }
    }

    /// Signs with that secret; else with the one from before, or with one that the server makes.
    #[must_use]
    pub fn secret(self, secret: impl Into<Secret>) -> NewWebhook {
        NewWebhook { secret: Some(secret.into()), ..self }
    }

    /// Whether it waits until it is resumed; as before, or not, unless told.
    #[must_use]
    pub fn paused(self, paused: bool) -> NewWebhook {
        NewWebhook { paused: Some(paused), ..self }
    }

    /// Goes on after the event of that number, 0 for all that are there; as before, or from now on, unless told.
    #[must_use]
    pub fn after(self, seq: u64) -> NewWebhook {
        NewWebhook { after: Some(seq), ..self }
    }
}

/// A webhook. As JSON it is what the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// What is called.
    pub url: String,
    /// The kinds of events that it is called with.
    pub events: Vec<String>,
    /// Patterns of queues; none of them for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// The secret, if the server has just made it. It is not told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// That a secret from before signs along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<OldSecret>,
    /// Whether it waits until it is resumed.
    pub paused: bool,
    /// Why it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_because: Option<PausedBecause>,
    /// When it was set up for the first time.
    pub created_at: Timestamp,
    /// Everything that was chosen was delivered up to the event of this number.
    #[serde(with = "values::number")]
    pub seq: u64,
    /// How old the oldest event is that it is being called with.
    #[serde(with = "values::span")]
    pub lag: Duration,
    /// Events that were delivered since the server was started.
    pub delivered: u64,
    /// Calls since then.
    pub calls: WebhookCalls,
    /// Calls in a row that failed.
    pub failures: u32,
    /// The last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<WebhookCall>,
    /// When the next try is, while it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
}

/// A secret from before, which is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OldSecret {
    /// When another one took its place.
    pub since: Timestamp,
    /// Until when it signs along; until it is dropped, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Why a webhook is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PausedBecause {
    /// Somebody asked for it.
    Asked,
    /// Its address answered 410.
    Gone,
    /// One of a later server's.
    #[serde(other)]
    Other,
}

/// Calls of a webhook by what came of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WebhookCalls {
    /// Answered with 2xx.
    pub delivered: u64,
    /// Answered otherwise.
    pub refused: u64,
    /// Not answered.
    pub unanswered: u64,
    /// Not made: the address leads where webhooks may not go.
    pub forbidden: u64,
}

/// A call of a webhook, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WebhookCall {
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: WebhookOutcome,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was not delivered: the begin of what was answered, or what the system said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WebhookOutcome {
    /// It was answered with 2xx.
    Delivered,
    /// It was answered otherwise.
    Refused,
    /// It was not answered.
    Unanswered,
    /// It was not made: the address leads where webhooks may not go.
    Forbidden,
    /// One of a later server's.
    #[serde(other)]
    Other,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WebhookTest {
    /// Whether it was answered with 2xx.
    pub delivered: bool,
    /// The call.
    pub call: WebhookCall,
    /// How long it took.
    #[serde(with = "values::span")]
    pub took: Duration,
}

#[derive(Debug, Deserialize)]
struct List {
    webhooks: Vec<Webhook>,
}

/// Another secret.
#[derive(Debug, Serialize)]
struct Rotate {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none", with = "values::maybe_span")]
    keep: Option<Duration>,
}

fn path(webhook: &str, rest: &str) -> String {
    format!("/v1/webhooks/{}{rest}", escape(webhook))
}

impl Client {
    /// Sets a webhook up, whether it is there or not, and gives it as it is then, with its secret if the server made one.
    ///
    /// # Errors
    /// [`Error`]; [`ProblemKind::BadValue`] says what is wrong with it.
    pub fn set_webhook(&self, name: &str, webhook: &NewWebhook) -> Result<Webhook, Error> {
        let path = path(name, "");
        self.call(&Ask::new(Method::Put, &path).json(webhook)?)
    }

    /// All webhooks, by name.
    ///
    /// # Errors
    /// [`Error`]
    pub fn webhooks(&self) -> Result<Vec<Webhook>, Error> {
        self.get("/v1/webhooks").map(|List { webhooks }| webhooks)
    }

    /// A webhook; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn webhook(&self, name: &str) -> Result<Option<Webhook>, Error> {
        self.of_webhook(Method::Get, name, "")
    }

    /// Deletes a webhook, and gives it as it was; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn delete_webhook(&self, name: &str) -> Result<Option<Webhook>, Error> {
        self.of_webhook(Method::Delete, name, "")
    }

    /// Has a webhook wait until it is resumed; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn pause_webhook(&self, name: &str) -> Result<Option<Webhook>, Error> {
        self.of_webhook(Method::Post, name, "/pause")
    }

    /// Has a webhook go on where it stopped, and try at once; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn resume_webhook(&self, name: &str) -> Result<Option<Webhook>, Error> {
        self.of_webhook(Method::Post, name, "/resume")
    }

    /// Gives a webhook another secret, that one or one that the server makes and tells here. The one from before signs along for so
    /// long, or until [`Client::drop_old_secret`]. None if there is no such webhook.
    ///
    /// # Errors
    /// [`Error`]; [`ProblemKind::SecretRotating`] while one from before signs along.
    pub fn rotate_webhook(
        &self,
        name: &str,
        secret: Option<Secret>,
        keep: Option<Duration>,
    ) -> Result<Option<Webhook>, Error> {
        let path = path(name, "/rotate");
        let ask = Ask::new(Method::Post, &path).json(&Rotate { secret, keep })?;
        found(self.call(&ask), ProblemKind::WebhookNotFound)
    }

    /// Has a webhook sign with its newest secret alone; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn drop_old_secret(&self, webhook: &str) -> Result<Option<Webhook>, Error> {
        self.of_webhook(Method::Delete, webhook, "/old-secret")
    }

    /// Has a webhook called once, with one event of the kind `webhook.test`, and says what came of it; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn test_webhook(&self, name: &str) -> Result<Option<WebhookTest>, Error> {
        let path = path(name, "/test");
        found(self.call(&Ask::new(Method::Post, &path)), ProblemKind::WebhookNotFound)
    }

    fn of_webhook(&self, method: Method, name: &str, rest: &str) -> Result<Option<Webhook>, Error> {
        let path = path(name, rest);
        found(self.call(&Ask::new(method, &path)), ProblemKind::WebhookNotFound)
    }
}
