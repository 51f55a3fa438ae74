//! The file of tokens: a JSON object a line, for its owner alone, replaced as a whole.
//!
//! The command changes it whether a server runs or not; a server reads it, and looks whether it is another one. A token that
//! was revoked, or has expired, keeps its line for a while: who shows it is told, and a file whose last token was revoked does
//! not turn into one without tokens.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rota_net::access::{Pattern, Role};
use serde::{Deserialize, Serialize};

use super::error::TokensError;
use super::{NAME_BYTES, PATTERNS, Token, TokenId, hex};

/// Its name in a data directory.
pub(crate) const FILE_NAME: &str = "tokens";

/// The most tokens of a file.
pub(crate) const TOKENS: usize = 1000;

/// The longest file, in bytes.
pub(crate) const FILE_BYTES: u64 = 4 << 20;

/// How long a token that has ended keeps its line when others are made.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Which state of a file was read: another one is another file, or the same with another content or mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

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

impl Stamp {
    fn of(found: &Metadata) -> Stamp {
        Stamp {
            inode: (found.dev(), found.ino()),
            bytes: found.len(),
            mode: found.mode(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// The state of the file now; none if it is not there.
    pub(crate) fn look(path: &Path) -> io::Result<Option<Stamp>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Stamp::of(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Refuses a file with a secret that other users may read, or change.
pub(crate) fn check_private(path: &Path, found: &Metadata) -> Result<(), TokensError> {
    if !found.is_file() {
        return Err(TokensError::NotAFile { path: path.to_owned() });
    }
    let mode = found.mode() & 0o7777;
    // A group may read it: that is how a service is given what root keeps.
    if mode & 0o027 != 0 {
        return Err(TokensError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Opens a file for reading without waiting for anybody, should it be a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(without_waiting).open(path)
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
    let failed = |doing| move |source| TokensError::Io { doing, path: path.to_owned(), source };
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(failed("open")(error)),
    };
    let found = file.metadata().map_err(failed("look at"))?;
    check_private(path, &found)?;
    let too_long = |bytes| TokensError::TooLong { path: path.to_owned(), bytes };
    if found.len() > FILE_BYTES {
        return Err(too_long(found.len()));
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(failed("read"))?;
    if text.len() as u64 > FILE_BYTES {
        return Err(too_long(text.len() as u64));
    }
    Ok((parse(path, &text)?, Some(Stamp::of(&found))))
}

fn parse(path: &Path, text: &[u8]) -> Result<Vec<Token>, TokensError> {
    let (mut tokens, mut ids) = (Vec::new(), HashSet::new());
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |reason: String| TokensError::Line { path: path.to_owned(), line: at + 1, reason };
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
    made.map_err(|source| TokensError::Io { doing: "create", path: folder.clone(), source })?;
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

fn folder(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Replaces the file by what becomes of it. Of several who do at once, one waits for the other.
fn change(path: &Path, what: impl FnOnce(&mut Vec<Token>) -> Result<(), TokensError>) -> Result<(), TokensError> {
    let folder = folder(path);
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| TokensError::Io { doing, path, source }
    };
    let lock = File::open(&folder).map_err(failed("open", &folder))?;
    lock.lock().map_err(failed("lock", &folder))?;
    let mut tokens = read(path)?;
    what(&mut tokens)?;
    // Who runs the server has to be able to read it, though root may be who runs the command.
    let (owner, mode) = match fs::metadata(path) {
        Ok(found) => (found, None),
        Err(_) => (lock.metadata().map_err(failed("look at", &folder))?, Some(0o600)),
    };
    let new = path.with_added_extension("new");
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &new)(source)),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let text: String = tokens.iter().map(write_line).collect();
        file.write_all(text.as_bytes())?;
        if rustix::process::geteuid().is_root() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode.unwrap_or(owner.mode() & 0o7777)))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        lock.sync_all()
    })();
    written.map_err(|source| {
        fs::remove_file(&new).ok();
        failed("write", path)(source)
    })
}
