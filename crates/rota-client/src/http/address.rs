//! Where a server speaks HTTP: `http://host:port` or `https://host:port`, as `--http` and `ROTA_HTTP` say it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A server's HTTP port: `http://host:port`, or `https://` inside TLS. The port may be left away: 80, or 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

/// Why a text is no such address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Another protocol than HTTP.
    #[error("{0:?} is not a protocol of that port: write http://host:port")]
    Scheme(String),
    /// What `rota serve` calls a port that it does not open.
    #[error("off is no address: write http://host:port")]
    Off,
    /// What can't be in a host and a port, as an @ or a path.
    #[error("{0:?} can't be in it: write http://host:port")]
    Character(char),
    /// No host.
    #[error("it names no host: write http://host:port")]
    NoHost,
}

impl Address {
    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// `http://host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest.strip_suffix('/').unwrap_or(rest)),
            Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
            None if text == "off" => return Err(AddressError::Off),
            None => ("http", text),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
        if let Some(bad) = rest.chars().find(|c| !allowed(*c)) {
            return Err(AddressError::Character(bad));
        }
        if rest.is_empty() || rest.starts_with(':') {
            return Err(AddressError::NoHost);
        }
        Ok(Address(format!("{scheme}://{rest}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
