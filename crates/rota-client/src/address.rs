//! Where a server is: `beanstalkd://host:port`, or `tls://host:port` inside TLS, as `--server` and `ROTA_SERVER` say it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The port of beanstalkd, where an address names none.
const DEFAULT_PORT: u16 = 11300;

/// The port of the protocol inside TLS, where an address names none.
const DEFAULT_TLS_PORT: u16 = 11301;

/// A server's host and port, and whether TLS is spoken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    tls: bool,
    host: String,
    port: u16,
}

/// Why a text is no address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Another protocol than beanstalkd's.
    #[error("{0:?} is not a protocol that rota speaks: write beanstalkd://host:port or tls://host:port")]
    Scheme(String),
    /// Something before an @: tokens are no part of an address, which messages show.
    #[error("a token does not belong into an address, which messages show: it is given beside it")]
    Token,
    /// No host.
    #[error("it names no host: write beanstalkd://host:port")]
    NoHost,
    /// What can't be in a host.
    #[error("{0:?} can't be in a host: write beanstalkd://host:port")]
    Host(char),
    /// Something else than a port after the colon.
    #[error("{0:?} is no port: write beanstalkd://host:port")]
    Port(String),
}

impl ServerAddress {
    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (tls, rest) = match text.split_once("://") {
            Some((scheme @ ("beanstalkd" | "beanstalk" | "tls"), rest)) => {
                (scheme == "tls", rest.strip_suffix('/').unwrap_or(rest))
            }
            Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
            None => (false, text),
        };
        if rest.contains('@') {
            return Err(AddressError::Token);
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, Some("")),
            },
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if let Some(bad) = host.chars().find(|c| !allowed(*c)) {
            return Err(AddressError::Host(bad));
        }
        let port = match port {
            Some("") if tls && !rest.ends_with(':') => DEFAULT_TLS_PORT,
            Some("") if !rest.ends_with(':') => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(number) if number != 0 => number,
                _ => return Err(AddressError::Port(port.to_owned())),
            },
            None => return Err(AddressError::Port(rest.to_owned())),
        };
        Ok(ServerAddress { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "beanstalkd" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}
