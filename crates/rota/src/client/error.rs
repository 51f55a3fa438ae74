//! What can go wrong between the command line and a server: each case with its place, its values and a hint.

use std::io;

use thiserror::Error;

use super::{Key, QueueName, ServerAddress};

/// Why a command was not carried out, or is not known to have been.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// No connection came about; nothing was sent.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: ServerAddress,
        /// What the system said.
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
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut { address, command },
            _ => ClientError::Broken { address, command, source },
        }
    }

    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            ClientError::Connect { .. } => {
                "start a server with `rota serve`, or name another with --server or ROTA_SERVER"
            }
            ClientError::Broken { .. } | ClientError::TimedOut { .. } | ClientError::Closed { .. } => {
                "it may have been carried out: look with `rota list` before you repeat it"
            }
            ClientError::Unexpected { .. } => "is it a beanstalkd or Rota server that listens there?",
            ClientError::Refused { answer, .. } => match answer.as_str() {
                "OUT_OF_MEMORY" => "the server is full: take jobs out of it, then try again",
                "DRAINING" => "the server takes no new jobs: put it into another one",
                "UNKNOWN_COMMAND" => "this server does not have the command",
                "INTERNAL_ERROR" => "this is a bug of the server: look into its log",
                _ => return None,
            },
            ClientError::NoSuchCommand { instead, .. } => instead,
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
