//! What can go wrong between a client and a server over HTTP: each case with its place, its values and a hint.

use std::io;
use std::sync::Arc;

use super::{Address, AddressError, Problem, ProblemKind};

/// Why something was not done, or is not known to have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is no address of a server; nothing was sent.
    #[error("{text:?} is no address of a server")]
    Address {
        /// The text, without what stands before an @.
        text: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// What TLS was to be spoken with can't be used; nothing was sent.
    #[error("{what} can't be used for TLS")]
    Tls {
        /// Which part of it.
        what: &'static str,
        /// What is wrong with it.
        source: io::Error,
    },
    /// What is to be shown is no token; nothing was sent.
    #[error("that is no token: it is empty, too long, or has spaces in it")]
    NoToken,
    /// A value that can't be written as JSON; nothing was sent.
    #[error("the value cannot be written as JSON")]
    Value(#[source] serde_json::Error),
    /// No connection came about; nothing was sent.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: Arc<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// There is a connection, and no agreement on TLS; nothing was done.
    #[error("no TLS with {address}")]
    Handshake {
        /// The server.
        address: Arc<Address>,
        /// What the system or the server said.
        source: io::Error,
    },
    /// The connection broke before the answer was there; what was asked for may have been done.
    #[error("the connection to {address} broke")]
    Broken {
        /// The server.
        address: Arc<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// No answer came in time; what was asked for may have been done.
    #[error("{address} did not answer in time")]
    TimedOut {
        /// The server.
        address: Arc<Address>,
    },
    /// An answer that is none of the API's.
    #[error("{address} answered what is not of Rota's HTTP API: {what}")]
    Unexpected {
        /// The server.
        address: Arc<Address>,
        /// What was wrong with it.
        what: String,
    },
    /// The server refused it, and says why; nothing was changed.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Events came faster than they were taken, and the server told no more. Listen again after the event of that number.
    #[error("events came faster than they were taken")]
    Lagged {
        /// The last event that was told, if one was.
        after: Option<u64>,
    },
    /// The server told no more events: it stops, or the connection ended.
    #[error("{address} tells no more")]
    Ended {
        /// The server.
        address: Arc<Address>,
    },
}

impl Error {
    /// The problem document, where the server refused it.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Error::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the server refused it for that reason.
    pub fn is(&self, kind: ProblemKind) -> bool {
        self.problem().is_some_and(|problem| problem.kind == kind)
    }

    /// What a failed read or write is reported as.
    pub(super) fn broken(address: Arc<Address>, source: io::Error) -> Error {
        // In TLS 1.3 a client learns behind the handshake that it was sent away, before anything that it sent was read.
        let is_alert = |inner: &rustls::Error| matches!(inner, rustls::Error::AlertReceived(_));
        if source.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(is_alert) {
            return Error::Handshake { address, source };
        }
        Error::Broken { address, source }
    }

    /// What to try, where that is not plain from the message; in the words of this library, or of the server.
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Error::Address { .. } => "write host:port, http://host:port or https://host:port",
            Error::Tls { .. } => "certificates and keys are given as PEM texts, -----BEGIN CERTIFICATE----- and so on",
            Error::NoToken => "a token is what `rota token create` printed, in one word",
            Error::Connect { .. } => "is a server running there, and is that its HTTP port?",
            Error::Handshake { source, .. } => crate::error::handshake_hint(source),
            Error::Broken { .. } | Error::TimedOut { .. } => {
                "it may have been done: look before you repeat it, or put with an Idempotency-Key"
            }
            Error::Unexpected { .. } => "is it the HTTP port of a Rota server, of this version or a later one?",
            Error::Lagged { .. } => "choose fewer events, or take them in a thread of their own",
            Error::Ended { .. } => "listen again after the last event, once the server is there",
            Error::Problem(problem) => &problem.hint,
            Error::Value(_) => return None,
        })
    }
}
