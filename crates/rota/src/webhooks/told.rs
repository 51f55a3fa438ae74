//! What the log was told of webhooks: which there are, since when as they are, and whether they are paused.
//!
//! Each change of one is told when it is made. What is told is kept in `webhooks.told`, so that a start tells, in nobody's name, what a
//! server that was killed had no more time to tell, and what was done to the file of webhooks while none ran. Nothing is told twice, but by
//! a server that was killed between the two. No secret is in there, and no address.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rota_engine::job::QueueName;
use rota_engine::note::{Note, Noted, NotedWhy};
use rota_net::http::{KeptWebhook, Pause, Webhook};
use serde::{Deserialize, Serialize};

use super::error::WebhooksError;
use super::file::{lines, replace};

/// What was told, by the names of webhooks.
pub(super) type Told = BTreeMap<String, Line>;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    name: String,
    set_at_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<Pause>,
}

/// What is told of these.
pub(super) fn of(webhooks: &[Webhook]) -> Told {
    let line = |webhook: &Webhook| {
        let KeptWebhook { name, set_at_ns, paused, .. } = webhook.kept();
        (name.clone(), Line { name, set_at_ns, paused })
    };
    webhooks.iter().map(line).collect()
}

/// What was told of the webhooks of that file.
///
/// # Errors
/// [`WebhooksError`]: nobody knows.
pub(super) fn read(webhooks: &Path) -> Result<Told, WebhooksError> {
    let lines = lines::<Line>(&path(webhooks))?.into_iter();
    Ok(lines.map(|(_, line)| (line.name.clone(), line)).collect())
}

/// Replaces what is kept of what was told of the webhooks of a file.
///
/// # Errors
/// [`WebhooksError`]; what is kept is as it was.
pub(super) fn write(webhooks: &Path, told: &Told) -> Result<(), WebhooksError> {
    replace(&path(webhooks), told.values())
}

fn path(webhooks: &Path) -> PathBuf {
    webhooks.with_added_extension("told")
}

/// What became of webhooks between `before` and `there`.
pub(super) fn changes(before: &Told, there: &Told) -> Vec<Note> {
    let mut notes = Vec::new();
    // The names of webhooks keep the rule for names; a file that somebody wrote may not.
    let mut add = |name: &str, what, why| {
        let note = QueueName::new(name).map(|name| Note { why, ..Note::new(what, name) });
        notes.extend(note);
    };
    for (name, line) in there {
        let known = before.get(name);
        match known {
            None => add(name, Noted::WebhookCreated, None),
            Some(known) if known.set_at_ns != line.set_at_ns => add(name, Noted::WebhookChanged, None),
            Some(_) => {}
        }
        match (known.and_then(|known| known.paused), line.paused) {
            (None, Some(Pause::Asked)) => add(name, Noted::WebhookPaused, Some(NotedWhy::Asked)),
            (None, Some(Pause::Gone)) => add(name, Noted::WebhookPaused, Some(NotedWhy::Gone)),
            (Some(_), None) => add(name, Noted::WebhookResumed, None),
            _ => {}
        }
    }
    for name in before.keys().filter(|name| !there.contains_key(*name)) {
        add(name, Noted::WebhookDeleted, None);
    }
    notes
}
