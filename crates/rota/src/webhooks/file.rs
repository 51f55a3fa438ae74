//! The files of webhooks in a data directory: `webhooks`, a JSON object a line with its secret, and `webhooks.places`, how far
//! each is. Both are for their owner alone, and replaced as a whole.
//!
//! A running server holds the directory, and changes them alone. A place is of the webhook that was set up at that moment: one
//! of the same name that was set up later does not go on from there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rota_engine::limits::WEBHOOKS;
use rota_net::http::{KeptWebhook, Place, Webhook};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::WebhooksError;
use crate::files::{full_lines, read_private, replace_private};

/// The name of the file in a data directory.
pub(crate) const FILE_NAME: &str = "webhooks";

/// The longest file, in bytes: an entry has some thousand bytes, and at most some ten thousand where each pattern is long.
pub(crate) const FILE_BYTES: u64 = 4 << 20;

/// A line of the file of places.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PlaceLine {
    name: String,
    set_at_ns: u64,
    seq: u64,
}

/// The webhooks of a file, none where there is none.
///
/// # Errors
/// [`WebhooksError`]: the file is not what it has to be, or cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<Webhook>, WebhooksError> {
    let (mut webhooks, mut names) = (Vec::new(), HashSet::new());
    for (line, kept) in lines::<KeptWebhook>(path)? {
        let wrong = |reason: String| WebhooksError::Line { path: path.to_owned(), line, reason };
        let webhook = Webhook::check(kept).map_err(|bad| wrong(bad.to_string()))?;
        if !names.insert(webhook.name().clone()) {
            return Err(wrong(format!("the webhook {} is there twice", webhook.name())));
        }
        if webhooks.len() == WEBHOOKS {
            return Err(wrong(format!("a file has at most {WEBHOOKS} webhooks")));
        }
        webhooks.push(webhook);
    }
    Ok(webhooks)
}

/// Replaces the webhooks of a file. They are durable on return.
///
/// # Errors
/// [`WebhooksError`]; the file is as it was.
pub(crate) fn write(path: &Path, webhooks: &[Webhook]) -> Result<(), WebhooksError> {
    replace(path, webhooks.iter().map(Webhook::kept))
}

/// How far the webhooks of a file were.
///
/// # Errors
/// [`WebhooksError`]: nobody knows.
pub(crate) fn read_places(path: &Path) -> Result<Vec<Place>, WebhooksError> {
    let lines = lines(&places_of(path))?.into_iter();
    Ok(lines.map(|(_, PlaceLine { name, set_at_ns, seq })| Place { name, set_at_ns, seq }).collect())
}

/// Replaces what is kept of how far the webhooks of a file are.
///
/// # Errors
/// [`WebhooksError`]; what is kept is as it was.
pub(crate) fn write_places(path: &Path, places: &[Place]) -> Result<(), WebhooksError> {
    let line = |place: &Place| PlaceLine { name: place.name.clone(), set_at_ns: place.set_at_ns, seq: place.seq };
    replace(&places_of(path), places.iter().map(line))
}

fn places_of(path: &Path) -> PathBuf {
    path.with_added_extension("places")
}

/// The lines of a file, with their numbers; none where there is no file.
pub(super) fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, WebhooksError> {
    let Some((text, _)) = read_private(path, "webhooks", FILE_BYTES)? else { return Ok(Vec::new()) };
    let read = |(at, line): (usize, &[u8])| {
        let read = serde_json::from_slice(line).map(|value| (at, value));
        // The message of a wrong value would have the value in it, which may be a secret.
        read.map_err(|error| WebhooksError::Line {
            path: path.to_owned(),
            line: at,
            reason: format!("column {}: that is not an object as the server writes it", error.column()),
        })
    };
    full_lines(&text).map(read).collect()
}

/// Replaces a file by these lines.
pub(super) fn replace<T: Serialize>(path: &Path, lines: impl Iterator<Item = T>) -> Result<(), WebhooksError> {
    let text: String =
        lines.map(|line| serde_json::to_string(&line).expect("texts and numbers make JSON") + "\n").collect();
    Ok(replace_private(path, &text, |_| Ok(()))?)
}
