//! The door of both protocols: says what a token grants, by the file as it is now.
//!
//! It looks at the file once a second, and tells those who were let in when somebody may have lost that. Once it has asked for tokens it goes on to, whatever
//! becomes of the file: a file that is gone has no valid token, and one that cannot be read lets nobody in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rota_net::access::{Door, Grant, NotAdmitted};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::error::TokensError;
use super::file;
use super::told::{Seen, Tokens, Told};
use super::{Token, TokenId, digest_of};
use crate::files::Stamp;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A door with its file.
pub(crate) struct TokenDoor {
    /// None where nobody can have made tokens.
    path: Option<PathBuf>,
    known: Mutex<Known>,
    /// Counts the times that somebody may have lost what was granted.
    changes: watch::Sender<u64>,
}

/// What the file said when it was read last.
struct Known {
    /// When it was looked at last, for who has come to an end since.
    looked: Timestamp,
    /// None if it was not there, or could not be looked at.
    stamp: Option<Stamp>,
    /// None if it could not be read.
    tokens: Option<HashMap<TokenId, Entry>>,
    asks: bool,
}

/// A token, ready to be compared.
struct Entry {
    digest: [u8; 32],
    grant: Grant,
    expires: Option<Timestamp>,
    is_revoked: bool,
}

impl TokenDoor {
    /// A door that asks for tokens if `asks` says so, or the file has any.
    ///
    /// # Errors
    /// [`TokensError`]: the file is not what it has to be.
    pub(crate) fn open(path: Option<PathBuf>, asks: bool) -> Result<TokenDoor, TokensError> {
        let (tokens, stamp) = path.as_deref().map(file::read_with_stamp).transpose()?.unwrap_or_default();
        let asks = asks || !tokens.is_empty();
        let known = Known { looked: Timestamp::now(), stamp, tokens: Some(entries(&tokens)), asks };
        Ok(TokenDoor { path, known: Mutex::new(known), changes: watch::Sender::new(0) })
    }

    /// Where its tokens are and how many there are, if it asks for any.
    pub(crate) fn asks(&self) -> Option<(PathBuf, usize)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let count = known.tokens.as_ref().map_or(0, HashMap::len);
        known.asks.then(|| (self.path.clone().unwrap_or_default(), count))
    }

    /// Looks at the file once a second, and reads it at once whenever `again` says so, for ever; the log is told what became of
    /// tokens.
    pub(crate) async fn watch(&self, mut again: watch::Receiver<()>, mut told: Told) {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            let is_other = tokio::select! {
                _ = interval.tick() => self.look(),
                Ok(()) = again.changed() => self.read_again(),
            };
            if is_other || told.is_behind() {
                told.follow(self).await;
            }
        }
    }

    /// What there is to tell of the tokens that it knows; none where it cannot read them.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = |(id, entry): (&TokenId, &Entry)| {
            let called = entry.grant.actor().filter(|actor| actor.as_str() != id.as_str()).cloned();
            (id.to_string(), Seen { name: called, expires: entry.expires, is_revoked: entry.is_revoked })
        };
        known.tokens.as_ref().map(|tokens| tokens.iter().map(seen).collect())
    }

    /// Reads the file, whether it looks changed or not; true.
    fn read_again(&self) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // No file has this, so that what it says is read, and whatever is wrong with it told of once more.
        known.stamp = None;
        drop(known);
        self.look();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(path), Some(tokens)) = (&self.path, &known.tokens) {
            rota_net::note!("rota: tokens: read {} again, {} tokens", path.display(), tokens.len());
        }
        true
    }

    /// Looks at the file, and tells of it if somebody may have lost what was granted. Returns whether the file may say something
    /// else than before.
    pub(super) fn look(&self) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.path.as_deref().is_some_and(|path| known.look_again(path));
        let (since, now) = (known.looked, Timestamp::now());
        known.looked = now;
        let has_ended = |entry: &Entry| entry.expires.is_some_and(|expires| since < expires && expires <= now);
        let have_ended = known.tokens.iter().flat_map(HashMap::values).any(has_ended);
        drop(known);
        if changed || have_ended {
            self.changes.send_modify(|changes| *changes += 1);
        }
        changed
    }
}

impl Door for TokenDoor {
    fn admit(&self, token: Option<&str>) -> Result<Grant, NotAdmitted> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.admit(token, Timestamp::now())
    }

    fn renew(&self, grant: &Grant) -> Result<Grant, NotAdmitted> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pass) = grant.pass() else { return known.admit(None, Timestamp::now()) };
        let id = pass.id.parse().map_err(|_| NotAdmitted::Unknown)?;
        known.find(&id, &pass.digest, Timestamp::now())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Known {
    /// Looks at the file; whether it may say something else than before.
    fn look_again(&mut self, path: &Path) -> bool {
        let stamp = match Stamp::look(path) {
            Ok(stamp) if stamp == self.stamp && (stamp.is_some() || self.tokens.is_some()) => return false,
            Ok(stamp) => stamp,
            Err(_) => None,
        };
        let was_readable = self.tokens.is_some();
        match file::read_with_stamp(path) {
            Ok((tokens, stamp)) => {
                let begins = !self.asks && !tokens.is_empty();
                if begins || !was_readable {
                    let count = tokens.len();
                    rota_net::note!(
                        "rota: {count} tokens in {}: clients are asked for one from now on",
                        path.display()
                    );
                }
                (self.stamp, self.asks) = (stamp, self.asks || begins);
                self.tokens = Some(entries(&tokens));
            }
            Err(error) => {
                // Once for each state of the file.
                if was_readable || stamp != self.stamp {
                    let error = anyhow::Error::new(error).context("the tokens cannot be read, and nobody is let in");
                    crate::report::failure(&error, false);
                }
                (self.stamp, self.asks, self.tokens) = (stamp, true, None);
            }
        }
        true
    }

    fn admit(&self, token: Option<&str>, now: Timestamp) -> Result<Grant, NotAdmitted> {
        if !self.asks {
            return Ok(Grant::everything());
        }
        if self.tokens.is_none() {
            return Err(NotAdmitted::Unreadable);
        }
        let token = token.ok_or(NotAdmitted::NoToken)?;
        let id = TokenId::of_token(token).ok_or(NotAdmitted::Unknown)?;
        self.find(&id, &digest_of(token), now)
    }

    /// What the token of that id grants, if that is its hash.
    fn find(&self, id: &TokenId, digest: &[u8; 32], now: Timestamp) -> Result<Grant, NotAdmitted> {
        let tokens = self.tokens.as_ref().ok_or(NotAdmitted::Unreadable)?;
        // The id is no secret: how long it takes to find it may be seen.
        let entry = tokens.get(id).ok_or(NotAdmitted::Unknown)?;
        if !bool::from(entry.digest.ct_eq(digest)) {
            return Err(NotAdmitted::Unknown);
        }
        if entry.is_revoked {
            return Err(NotAdmitted::Revoked { id: id.to_string() });
        }
        if entry.expires.is_some_and(|expires| expires <= now) {
            return Err(NotAdmitted::Expired { id: id.to_string() });
        }
        Ok(entry.grant.clone())
    }
}

fn entries(tokens: &[Token]) -> HashMap<TokenId, Entry> {
    let entry = |token: &Token| {
        let (digest, grant) = (token.digest, token.grant());
        (token.id.clone(), Entry { digest, grant, expires: token.expires, is_revoked: token.revoked.is_some() })
    };
    tokens.iter().map(entry).collect()
}
