//! What the log was told of tokens: that they were made, and revoked.
//!
//! A command makes and revokes them in their file, whether a server runs or not. A server that asks for tokens finds what is new in
//! it, when it starts and whenever the file changes, and tells the log, so that it is an event like any other. What was told is
//! kept beside the data, in `tokens.told`: a start tells what was changed meanwhile. Nothing is told twice, but by a server that was killed
//! between the two. No token is in there, and no hash of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rota_engine::job::QueueName;
use rota_engine::note::{Note, Noted, NotedWhy};
use rota_engine::session::Actor;
use rota_net::host::Host;
use serde::{Deserialize, Serialize};

use super::COMMAND_LINE;
use super::door::TokenDoor;
use super::error::TokensError;
use super::file::FILE_BYTES;
use crate::files::{full_lines, read_private, replace_private};
use crate::report;

/// Its name in a data directory.
pub(crate) const FILE_NAME: &str = "tokens.told";

/// Tokens, by their ids.
pub(super) type Tokens = BTreeMap<String, Seen>;

/// What there is to tell of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What it is called, if it is called anything.
    pub(super) name: Option<Actor>,
    pub(super) expires: Option<Timestamp>,
    pub(super) is_revoked: bool,
}

/// A line of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    revoked: bool,
}

/// One thing that became of a token.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    id: String,
    /// What is to be told; nothing of one that ended, and then lost its line.
    note: Option<Note>,
    /// What is known from then on.
    then: Option<Seen>,
}

/// What was told, and who is told.
pub(crate) struct Told {
    host: Arc<Host>,
    /// None where nothing is kept.
    path: Option<PathBuf>,
    tokens: Tokens,
    /// Whether there is something to tell that the log had no room for.
    is_behind: bool,
    /// Whether it was said that the file cannot be written.
    is_file_bad: bool,
}

impl Told {
    /// What was told before, by that file. Without one, all tokens that there are now count as told.
    pub(crate) fn open(host: Arc<Host>, path: Option<PathBuf>, door: &TokenDoor) -> Told {
        let read = path.as_deref().map(read);
        let tokens = read.unwrap_or_else(|| Ok(door.tokens().unwrap_or_default())).unwrap_or_else(|error| {
            let text = "what the log was told of tokens cannot be read: it is told of all of them again";
            report::failure(&anyhow::Error::new(error).context(text), false);
            Tokens::new()
        });
        Told { host, path, tokens, is_behind: false, is_file_bad: false }
    }

    /// Whether there is something to tell that could not be told.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Tells what became of tokens since the last time, and writes down that it was told once it is as durable as promised.
    pub(crate) async fn follow(&mut self, door: &TokenDoor) {
        // Of a file that cannot be read nothing is known.
        let Some(there) = door.tokens() else { return };
        let changes = changes(&self.tokens, &there, Timestamp::now());
        if changes.is_empty() {
            self.is_behind = false;
            return;
        }
        let (all, tokens) = (changes.len(), &mut self.tokens);
        let (done, depends_on) = self.host.with_and_wait(|shared, now| {
            // What would happen behind the last snapshot is for the next start.
            if shared.is_frozen {
                return (0, false);
            }
            let mut done = 0;
            for Change { id, note, then } in changes {
                let by = Actor::new(COMMAND_LINE).ok();
                if note.is_some_and(|note| shared.engine.tell(note, by, now).is_err()) {
                    break;
                }
                match then {
                    Some(seen) => drop(tokens.insert(id, seen)),
                    None => drop(tokens.remove(&id)),
                }
                done += 1;
            }
            (done, true)
        });
        self.is_behind = done < all;
        if done == 0 || self.host.left_behind(depends_on).await.is_err() {
            return;
        }
        let Some(path) = self.path.clone() else { return };
        let text: String = self.tokens.iter().map(line).collect();
        let written = tokio::task::spawn_blocking(move || replace_private(&path, &text, |_| Ok(()))).await;
        let error = written.ok().and_then(Result::err);
        let was_bad = std::mem::replace(&mut self.is_file_bad, error.is_some());
        if let Some(error) = error.filter(|_| !was_bad) {
            let text = "what the log was told of tokens cannot be written down: the next start tells it again";
            report::failure(&anyhow::Error::new(error).context(text), false);
        }
    }
}

/// What became of tokens between `before` and `there`.
fn changes(before: &Tokens, there: &Tokens, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    let note = |id: &str, name: &Option<Actor>, what, why| {
        // An id has eight digits, which make a name.
        let subject = QueueName::new(id).ok()?;
        Some(Note { name: name.clone(), why, ..Note::new(what, subject) })
    };
    for (id, seen) in there {
        let known = before.get(id);
        if known.is_none() {
            let then = Some(Seen { is_revoked: false, ..seen.clone() });
            changes.push(Change { id: id.clone(), note: note(id, &seen.name, Noted::TokenCreated, None), then });
        }
        if seen.is_revoked && known.is_none_or(|known| !known.is_revoked) {
            let note = note(id, &seen.name, Noted::TokenRevoked, Some(NotedWhy::Asked));
            changes.push(Change { id: id.clone(), note, then: Some(seen.clone()) });
        }
    }
    for (id, known) in before.iter().filter(|(id, _)| !there.contains_key(*id)) {
        let has_ended = known.is_revoked || known.expires.is_some_and(|expires| expires <= now);
        let note = if has_ended { None } else { note(id, &known.name, Noted::TokenRevoked, Some(NotedWhy::Gone)) };
        changes.push(Change { id: id.clone(), note, then: None });
    }
    changes
}

fn line((id, seen): (&String, &Seen)) -> String {
    let line = Line {
        id: id.clone(),
        name: seen.name.as_ref().map(Actor::to_string),
        expires: seen.expires.map(|moment| moment.to_string()),
        revoked: seen.is_revoked,
    };
    serde_json::to_string(&line).expect("texts make JSON") + "\n"
}

/// What a file says was told; nothing where there is no file.
fn read(path: &Path) -> Result<Tokens, TokensError> {
    let Some((text, _)) = read_private(path, "what was told of tokens", FILE_BYTES)? else { return Ok(Tokens::new()) };
    let mut tokens = Tokens::new();
    for (at, text) in full_lines(&text) {
        let wrong = |reason: String| TokensError::Line { path: path.to_owned(), line: at, reason };
        let Line { id, name, expires, revoked } =
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let name = name.map(|name| Actor::new(&name)).transpose().map_err(|error| wrong(error.to_string()))?;
        let expires = expires.map(|moment| moment.parse()).transpose();
        let expires = expires.map_err(|error: jiff::Error| wrong(error.to_string()))?;
        tokens.insert(id, Seen { name, expires, is_revoked: revoked });
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    fn seen(is_revoked: bool, expires: Option<Timestamp>) -> Seen {
        Seen { name: Actor::new("mailer").ok(), expires, is_revoked }
    }

    fn tokens(all: &[(&str, Seen)]) -> Tokens {
        all.iter().map(|(id, seen)| ((*id).to_owned(), seen.clone())).collect()
    }

    #[test]
    fn what_became_of_tokens_is_found_and_nothing_twice() {
        let now = Timestamp::now();
        let (before, after) = (Some(now - 1.second()), Some(now + 1.second()));
        let old = tokens(&[
            ("00000001", seen(false, None)),
            ("00000002", seen(false, None)),
            ("00000003", seen(true, None)),
            ("00000004", seen(false, before)),
            ("00000005", seen(false, after)),
        ]);
        let new = tokens(&[
            ("00000001", seen(false, None)),
            ("00000002", seen(true, None)),
            ("00000006", seen(false, None)),
            ("00000007", seen(true, None)),
        ]);
        let found = changes(&old, &new, now);
        let told: Vec<_> = found.iter().map(|change| (&change.id[7..], change.note.as_ref())).collect();
        let told: Vec<_> = told.iter().map(|(id, note)| (*id, note.map(|note| (note.what, note.why)))).collect();
        let asked = Some(NotedWhy::Asked);
        assert_eq!(
            told,
            [
                ("2", Some((Noted::TokenRevoked, asked))),
                ("6", Some((Noted::TokenCreated, None))),
                ("7", Some((Noted::TokenCreated, None))),
                ("7", Some((Noted::TokenRevoked, asked))),
                ("3", None),
                ("4", None),
                ("5", Some((Noted::TokenRevoked, Some(NotedWhy::Gone)))),
            ]
        );
        let mut known = old;
        for change in found {
            match change.then {
                Some(seen) => drop(known.insert(change.id, seen)),
                None => drop(known.remove(&change.id)),
            }
        }
        assert_eq!(known, new);
        assert!(changes(&known, &new, now).is_empty());
    }

    #[test]
    fn what_was_told_is_read_as_it_was_written() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join(FILE_NAME);
        assert_eq!(read(&path).unwrap(), Tokens::new());
        let nameless = Seen { name: None, expires: Some(Timestamp::now()), is_revoked: true };
        let all = tokens(&[("00000001", seen(false, None)), ("00000002", nameless)]);
        let text: String = all.iter().map(line).collect();
        replace_private(&path, &text, |_| Ok(())).unwrap();
        assert_eq!(read(&path).unwrap(), all);
        replace_private(&path, &format!("{text}{{}}\n"), |_| Ok(())).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("tokens.told:3: "));
    }
}
