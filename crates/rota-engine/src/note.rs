//! Notes: what was done beside the state, and is told all the same: to tokens and webhooks, which are kept in files of their own,
//! and that somebody has a snapshot of everything.
//!
//! A note is in the log, among the events and in the journal like everything else that happens. It changes nothing of the
//! state, a start reads over it, and whoever makes the log short leaves it behind. What it says is a name: never a secret.

use crate::job::QueueName;
use crate::session::Actor;

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What happened.
    pub what: Noted,
    /// To which token, by its id, or which webhook or snapshot, by its name: all keep the rule for the names of queues.
    pub subject: QueueName,
    /// What a token is called, if it is called anything.
    pub name: Option<Actor>,
    /// Why, where that can be told apart.
    pub why: Option<NotedWhy>,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each variant is what its name says")]
pub enum Noted {
    TokenCreated,
    TokenRevoked,
    WebhookCreated,
    WebhookChanged,
    WebhookPaused,
    WebhookResumed,
    WebhookDeleted,
    SnapshotTaken,
}

/// Why it happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NotedWhy {
    /// Somebody asked for it.
    Asked,
    /// What it was about is not there any more: the address of a webhook, or the line of a token in its file.
    Gone,
}

impl Note {
    /// One without more to it.
    #[must_use]
    pub fn new(what: Noted, subject: QueueName) -> Note {
        Note { what, subject, name: None, why: None }
    }
}

impl Noted {
    /// All of them.
    pub const ALL: [Noted; 8] = [
        Noted::TokenCreated,
        Noted::TokenRevoked,
        Noted::WebhookCreated,
        Noted::WebhookChanged,
        Noted::WebhookPaused,
        Noted::WebhookResumed,
        Noted::WebhookDeleted,
        Noted::SnapshotTaken,
    ];

    /// Its lasting name, among those of [`crate::news::NewsKind`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Noted::TokenCreated => "token.created",
            Noted::TokenRevoked => "token.revoked",
            Noted::WebhookCreated => "webhook.created",
            Noted::WebhookChanged => "webhook.changed",
            Noted::WebhookPaused => "webhook.paused",
            Noted::WebhookResumed => "webhook.resumed",
            Noted::WebhookDeleted => "webhook.deleted",
            Noted::SnapshotTaken => "snapshot.taken",
        }
    }

    /// What it happened to.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Noted::TokenCreated | Noted::TokenRevoked => "token",
            Noted::SnapshotTaken => "snapshot",
            _ => "webhook",
        }
    }
}

impl NotedWhy {
    /// A word for it: `asked`, `gone`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NotedWhy::Asked => "asked",
            NotedWhy::Gone => "gone",
        }
    }
}
