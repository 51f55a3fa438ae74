//! Tokens: what they look like, the file that keeps them, the door that asks for them, and what the log is told of them.
//!
//! A token is `rota_`, its id of eight hexadecimal digits, `_`, and 32 random bytes in base64 as URLs have it. It is shown when
//! it is made and kept nowhere: the file has its SHA-256. Whoever has the file can tell who may do what, and be nobody. Nothing
//! here may print a token but the command that makes it.

pub(crate) mod door;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod told;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rota_engine::limits::ACTOR_BYTES;
use rota_engine::session::Actor;
use rota_net::access::{Grant, Pass, Pattern, Role};

/// What every token begins with: secrets that are found where they should not be are known by it.
const PREFIX: &str = "rota_";

/// The random part, in bytes.
const SECRET_BYTES: usize = 32;

/// In whose name the log is told that tokens were made and revoked. No token is called so.
pub(crate) const COMMAND_LINE: &str = "command line";

/// How many digits an id has.
const ID_DIGITS: usize = 8;

/// The longest name of a token, in bytes: what is asked for with it carries the name.
pub(crate) const NAME_BYTES: usize = ACTOR_BYTES;

/// The most patterns of queues of one token.
pub(crate) const PATTERNS: usize = 100;

/// Which token: no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenId(Box<str>);

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    /// At least one.
    pub(crate) roles: Vec<Role>,
    /// The queues that it is limited to; none if it is for all.
    pub(crate) queues: Option<Vec<Pattern>>,
    /// What it is for, in its maker's words.
    pub(crate) name: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) revoked: Option<Timestamp>,
    /// SHA-256 of the token.
    pub(crate) digest: [u8; 32],
}

/// A token itself, on its way to who asked for it. It has no `Debug`.
pub(crate) struct Secret(String);

impl TokenId {
    /// Makes one out of random bytes.
    fn new(bytes: [u8; ID_DIGITS / 2]) -> TokenId {
        TokenId(hex(&bytes).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that a text names as a token; none if it is not made like one.
    pub(crate) fn of_token(text: &str) -> Option<TokenId> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_at_checked(ID_DIGITS)?;
        let secret = secret.strip_prefix('_')?;
        let is_secret = URL_SAFE_NO_PAD.decode(secret).is_ok_and(|bytes| bytes.len() == SECRET_BYTES);
        if is_secret { id.parse().ok() } else { None }
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenId, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == ID_DIGITS && text.bytes().all(is_digit) {
            return Ok(TokenId(text.into()));
        }
        Err(format!("an id of a token has {ID_DIGITS} digits of 0-9 and a-f, as `rota token list` shows it"))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Secret {
    /// A new token and its id, out of random bytes.
    pub(crate) fn new() -> anyhow::Result<(TokenId, Secret)> {
        let id = TokenId::new(crate::serve::random()?);
        let secret: [u8; SECRET_BYTES] = crate::serve::random()?;
        let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        Ok((id, Secret(text)))
    }

    /// What is kept of it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        digest_of(&self.0)
    }

    /// The token, to be shown this once.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl Token {
    pub(crate) fn grant(&self) -> Grant {
        let pass = Pass { id: self.id.as_str().into(), digest: self.digest };
        Grant::new(&self.roles, self.queues.as_deref()).for_pass(pass).in_name_of(self.actor())
    }

    /// What it is called, or its id if it is called nothing: in that name its bearer asks.
    fn actor(&self) -> Actor {
        let name = self.name.as_deref().unwrap_or(self.id.as_str());
        Actor::new(name).expect("names of tokens keep to the same rule")
    }

    /// `valid`, `expired` or `revoked`.
    pub(crate) fn state(&self, now: Timestamp) -> &'static str {
        match self {
            Token { revoked: Some(_), .. } => "revoked",
            Token { expires: Some(expires), .. } if *expires <= now => "expired",
            _ => "valid",
        }
    }

    /// When it ended; none as long as it is valid.
    fn ended(&self, now: Timestamp) -> Option<Timestamp> {
        self.revoked.or(self.expires.filter(|expires| *expires <= now))
    }
}

fn digest_of(token: &str) -> [u8; 32] {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
