//! The file of tokens: a JSON object a line, for its owner alone, replaced as a whole.
//!
//! The command changes it whether a server runs or not; a server reads it, and looks whether it is another one. A token that
//! was revoked, or has expired, keeps its line for a while: who shows it is told, and a file whose last token was revoked does
//! not turn into one without tokens.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rota_net::access::{Pattern, Role};
use serde::{Deserialize, Serialize};

use super::error::TokensError;
use super::{NAME_BYTES, PATTERNS, Token, TokenId, hex};
use crate::files::{FileError, Stamp, folder, full_lines, read_private, replace_private};

/// Its name in a data directory.
pub(crate) const FILE_NAME: &str = "tokens";

/// The most tokens of a file.
pub(crate) const TOKENS: usize = 1000;

/// The longest file, in bytes.
pub(crate) const FILE_BYTES: u64 = 4 << 20;

/// How long a token that has ended keeps its line when others are made.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A line of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    roles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    sha256: String,
}

/// The tokens of a file, none where there is none.
///
/// # Errors
/// [`TokensError`]: the file is not what it has to be, or cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<Token>, TokensError> {
    read_with_stamp(path).map(|(tokens, _)| tokens)
}

/// The same, with the state of the file that they were read from; none where there is none.
pub(super) fn read_with_stamp(path: &Path) -> Result<(Vec<Token>, Option<Stamp>), TokensError> {
    match read_private(path, "tokens", FILE_BYTES)? {
        Some((text, found)) => Ok((parse(path, &text)?, Some(Stamp::of(&found)))),
        None => Ok((Vec::new(), None)),
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Vec<Token>, TokensError> {
    let (mut tokens, mut ids) = (Vec::new(), HashSet::new());
    for (at, line) in full_lines(text) {
        let wrong = |reason: String| TokensError::Line { path: path.to_owned(), line: at, reason };
        let token = parse_line(line).map_err(wrong)?;
        if !ids.insert(token.id.clone()) {
            return Err(wrong(format!("the token {} is there twice", token.id)));
        }
        if tokens.len() == TOKENS {
            return Err(wrong(format!("a file has at most {TOKENS} tokens")));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn parse_line(line: &[u8]) -> Result<Token, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        format!("column {}: {}", error.column(), text.strip_suffix(&place).unwrap_or(&text))
    })?;
    let Line { id, roles, queues, name, created, expires, revoked, sha256 } = line;
    let moment = |field: &str, text: String| {
        text.parse::<Timestamp>().map_err(|_| format!("{field}: {text:?} is not a moment of RFC 3339"))
    };
    let roles: Vec<Role> = roles.iter().map(|role| role.parse()).collect::<Result<_, String>>()?;
    if roles.is_empty() {
        return Err("roles: a token has at least one".into());
    }
    let queues = queues.map(|queues| -> Result<Vec<Pattern>, String> {
        if !(1..=PATTERNS).contains(&queues.len()) {
            return Err(format!("queues: 1 to {PATTERNS} patterns, or none of it for all queues"));
        }
        queues.iter().map(|pattern| pattern.parse().map_err(|error| format!("queues: {error}"))).collect()
    });
    Ok(Token {
        id: id.parse().map_err(|reason| format!("id: {reason}"))?,
        roles,
        queues: queues.transpose()?,
        name: name.map(|name| parse_name(&name).map_err(|reason| format!("name: {reason}"))).transpose()?,
        created: moment("created", created)?,
        expires: expires.map(|text| moment("expires", text)).transpose()?,
        revoked: revoked.map(|text| moment("revoked", text)).transpose()?,
        digest: unhex(&sha256).ok_or("sha256: it has 64 digits of 0-9 and a-f")?,
    })
}

/// Checks what somebody calls a token.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    if !(1..=NAME_BYTES).contains(&text.len()) {
        return Err(format!("a name has 1 to {NAME_BYTES} bytes, and that one has {}", text.len()));
    }
    if let Some(bad) = text.chars().find(|c| c.is_control()) {
        return Err(format!("{bad:?} can't be in a name"));
    }
    Ok(text.to_owned())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn write_line(token: &Token) -> String {
    let line = Line {
        id: token.id.to_string(),
        roles: token.roles.iter().map(|role| role.name().to_owned()).collect(),
        queues: token.queues.as_ref().map(|queues| queues.iter().map(Pattern::to_string).collect()),
        name: token.name.clone(),
        created: token.created.to_string(),
        expires: token.expires.map(|moment| moment.to_string()),
        revoked: token.revoked.map(|moment| moment.to_string()),
        sha256: hex(&token.digest),
    };
    serde_json::to_string(&line).expect("texts make JSON") + "\n"
}

/// Adds a token. The folder is made, for its owner alone, if it is missing; tokens that ended long ago lose their lines.
///
/// # Errors
/// [`TokensError`]; the file is as it was.
pub(crate) fn add(path: &Path, token: &Token) -> Result<(), TokensError> {
    let folder = folder(path);
    let made = DirBuilder::new().mode(0o700).recursive(true).create(&folder);
    made.map_err(FileError::io("create", &folder))?;
    change(path, |tokens| {
        let keeps = |old: &Token| {
            let ended = old.ended(token.created);
            ended.is_none_or(|ended| token.created.duration_since(ended) < KEPT)
        };
        tokens.retain(keeps);
        if tokens.len() == TOKENS {
            return Err(TokensError::Full { path: path.to_owned() });
        }
        tokens.push(token.clone());
        Ok(())
    })
}

/// Revokes tokens from a moment on; who was revoked before stays so.
///
/// # Errors
/// [`TokensError`]; the file is as it was: with one id that is not there, none is revoked.
pub(crate) fn revoke(path: &Path, ids: &[TokenId], now: Timestamp) -> Result<(), TokensError> {
    if !folder(path).is_dir() {
        return Err(TokensError::NoSuchToken { path: path.to_owned(), id: ids[0].clone() });
    }
    change(path, |tokens| {
        for id in ids {
            let token = tokens.iter_mut().find(|token| token.id == *id);
            let missing = || TokensError::NoSuchToken { path: path.to_owned(), id: id.clone() };
            token.ok_or_else(missing)?.revoked.get_or_insert(now);
        }
        Ok(())
    })
}

/// Replaces the file by what becomes of it. Of several who do at once, one waits for the other.
fn change(path: &Path, what: impl FnOnce(&mut Vec<Token>) -> Result<(), TokensError>) -> Result<(), TokensError> {
    let folder = folder(path);
    let lock = File::open(&folder).map_err(FileError::io("open", &folder))?;
    lock.lock().map_err(FileError::io("lock", &folder))?;
    let mut tokens = read(path)?;
    what(&mut tokens)?;
    // Who runs the server has to be able to read it, though root may be who runs the command.
    let (owner, mode) = match fs::metadata(path) {
        Ok(found) => (found, None),
        Err(_) => (lock.metadata().map_err(FileError::io("look at", &folder))?, Some(0o600)),
    };
    let text: String = tokens.iter().map(write_line).collect();
    replace_private(path, &text, |file| {
        if rustix::process::geteuid().is_root() {
            fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode.unwrap_or(owner.mode() & 0o7777)))
    })?;
    Ok(())
}
