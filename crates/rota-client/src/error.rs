//! What can go wrong between a client and a server: each case with its place, its values and a hint.

use std::io;

use thiserror::Error;

use super::{Key, QueueName, ServerAddress};

/// Why a command was not carried out, or is not known to have been.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection came about; nothing was sent.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: ServerAddress,
        /// What the system said.
        source: io::Error,
    },
    /// There is a connection, and no agreement on TLS; nothing was sent.
    #[error("no TLS with {address}")]
    Handshake {
        /// The server.
        address: ServerAddress,
        /// What the system or the server said.
        source: io::Error,
    },
    /// The connection broke in the middle of a command, which may have been carried out.
    #[error("the connection to {address} broke during {command}")]
    Broken {
        /// The server.
        address: ServerAddress,
        /// The protocol's command.
        command: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// No answer came in time; the command may have been carried out.
    #[error("{address} did not answer {command} in time")]
    TimedOut {
        /// The server.
        address: ServerAddress,
        /// The protocol's command.
        command: &'static str,
    },
    /// The server closed the connection instead of answering; the command may have been carried out.
    #[error("{address} closed the connection during {command}")]
    Closed {
        /// The server.
        address: ServerAddress,
        /// The protocol's command.
        command: &'static str,
    },
    /// An answer that the protocol does not know here.
    #[error("{address} answered {command} with {answer:?}, which is not of the beanstalkd protocol")]
    Unexpected {
        /// The server.
        address: ServerAddress,
        /// The protocol's command.
        command: &'static str,
        /// The beginning of what came.
        answer: String,
    },
    /// One of the protocol's refusals; nothing was changed.
    #[error("{address} refused {command}: {answer}")]
    Refused {
        /// The server.
        address: ServerAddress,
        /// The protocol's command.
        command: &'static str,
        /// The protocol's word for the reason.
        answer: String,
    },
    /// A command of Rota's own was needed and the server is another; nothing was changed.
    #[error("{address} has no command {command}: it is not a Rota server")]
    NoSuchCommand {
        /// The server.
        address: ServerAddress,
        /// Rota's command.
        command: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// What is to be shown is no token; nothing was sent.
    #[error("that is no token: it is empty, too long, or has spaces in it")]
    NoToken,
    /// The server does not take the token; nothing was done.
    #[error("{address} does not take the token")]
    BadToken {
        /// The server.
        address: ServerAddress,
    },
    /// The body is larger than the server takes; nothing was put.
    #[error("{address} takes no job of {bytes} bytes: it is too big")]
    TooBig {
        /// The server.
        address: ServerAddress,
        /// The body's size.
        bytes: usize,
    },
    /// Another open job of the queue has the key; nothing was put.
    #[error("the key {key} is taken in queue {queue}: job {id} has it")]
    KeyTaken {
        /// The queue.
        queue: QueueName,
        /// The key.
        key: Key,
        /// The job that has it.
        id: u64,
    },
    /// The server had no memory to queue the job and buried it.
    #[error("{address} is short of memory and buried the job as {id}")]
    Buried {
        /// The server.
        address: ServerAddress,
        /// The buried job.
        id: u64,
    },
}

impl ClientError {
    /// What an answer that can't be is reported as; its first 80 characters are kept.
    pub(super) fn unexpected(address: &ServerAddress, command: &'static str, answer: &str) -> Self {
        let answer = answer.chars().take(80).collect();
        ClientError::Unexpected { address: address.clone(), command, answer }
    }

    /// What a failed read or write is reported as.
    pub(super) fn broken(address: &ServerAddress, command: &'static str, source: io::Error) -> Self {
        let address = address.clone();
        // In TLS 1.3 a client learns behind the handshake that it was sent away, before anything that it sent was read.
        let is_alert = |inner: &rustls::Error| matches!(inner, rustls::Error::AlertReceived(_));
        if source.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(is_alert) {
            return ClientError::Handshake { address, source };
        }
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut { address, command },
            _ => ClientError::Broken { address, command, source },
        }
    }

    /// What to try, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ClientError::Connect { .. } => {
                "start a server with `rota serve`, or name another with --server or ROTA_SERVER"
            }
            ClientError::Handshake { source, .. } => return Some(handshake_hint(source).to_owned()),
            ClientError::Broken { .. } | ClientError::TimedOut { .. } | ClientError::Closed { .. } => {
                "it may have been carried out: look with `rota list` before you repeat it"
            }
            ClientError::Unexpected { .. } => "is it a beanstalkd or Rota server that listens there?",
            ClientError::Refused { answer, .. } => match answer.as_str() {
                "OUT_OF_MEMORY" => "the server is full: take jobs out of it, then try again",
                "DRAINING" => "the server takes no new jobs: put it into another one",
                "UNAUTHENTICATED" => "show a token: put it into ROTA_TOKEN, or name its file with --token-file",
                "NOT_ALLOWED" => "ask with a token of a role, and for queues, that this is for: `rota token create`",
                "UNKNOWN_COMMAND" => "this server does not have the command",
                "INTERNAL_ERROR" => "this is a bug of the server: look into its log",
                _ => return None,
            },
            ClientError::NoSuchCommand { instead, .. } => instead,
            ClientError::NoToken => {
                "put a token of `rota token create` into ROTA_TOKEN, or into the file of --token-file"
            }
            ClientError::BadToken { .. } => {
                "it was not made there, was revoked, or has expired: `rota token list` shows those that are valid"
            }
            ClientError::TooBig { .. } => {
                "raise the server's limit (rota serve --max-job-size, beanstalkd -z), or put a reference"
            }
            ClientError::KeyTaken { id, .. } => {
                return Some(format!("cancel it with `rota cancel {id}`, or use another key"));
            }
            ClientError::Buried { id, .. } => {
                return Some(format!("free memory, then make it ready with `rota kick --job {id}`"));
            }
        };
        Some(hint.to_owned())
    }
}

/// What to try when no TLS came about.
pub fn handshake_hint(error: &io::Error) -> &'static str {
    use rustls::{AlertDescription, CertificateError, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "name the authority of the server's certificate with --ca FILE"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "name the server as its certificate does",
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            "the server asks for a certificate: show one with --client-cert FILE --client-key FILE"
        }
        Some(Error::InvalidMessage(_)) => {
            "is it the port that speaks TLS, the server's --beanstalkd-tls or --http-tls?"
        }
        _ => "is it the port that speaks TLS, and does the server trust the certificate of --client-cert?",
    }
}
