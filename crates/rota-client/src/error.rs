//! What can go wrong between a client and a server: each case with its place, its values and a hint.

use std::io;

use thiserror::Error;

use super::{AddressError, BATCH_JOBS, Key, QueueName, ServerAddress};

/// Why a command was not carried out, or is not known to have been.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
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
        /// What it was needed for.
        need: Need,
    },
    /// A command before this one got no whole answer, and no command can be sent on this connection any more; nothing was
    /// sent.
    #[error("{command} was not sent to {address}")]
    Unusable {
        /// The server.
        address: ServerAddress,
        /// The protocol's command.
        command: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A batch of none, where none makes no sense, or of more than a batch can have; nothing was sent.
    #[error("a batch can't have {jobs} jobs, only 1 to {BATCH_JOBS}")]
    BatchSize {
        /// How many.
        jobs: usize,
    },
    /// The jobs of a batch are of several queues; nothing was sent.
    #[error("the jobs of a batch are of one queue, and these are of {first} and {other}")]
    BatchQueues {
        /// The first job's.
        first: QueueName,
        /// Another one's.
        other: QueueName,
    },
    /// The batch is larger than the server takes; nothing was put.
    #[error("{address} takes no batch of {bytes} bytes: it is too big")]
    BatchTooBig {
        /// The server.
        address: ServerAddress,
        /// All of the batch.
        bytes: usize,
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
    /// A job that was to be waited for was never put there; nothing was put.
    #[error("a job that is to be waited for was never put on {address}")]
    UnknownParent {
        /// The server.
        address: ServerAddress,
    },
    /// The ids of the jobs that are to be waited for do not fit into the line of a command; nothing was sent.
    #[error("the ids of {jobs} jobs to be waited for are too long for one command")]
    TooManyParents {
        /// How many.
        jobs: usize,
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

/// What a command of Rota's own was needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// A put under a key.
    Key,
    /// A TTR that is not in whole seconds.
    TtrInMilliseconds,
    /// A delay that is not in whole seconds.
    DelayInMilliseconds,
    /// A job that waits for others.
    After,
    /// To cancel a job by its key.
    CancelByKey,
    /// To show a token.
    Token,
    /// Many jobs in one command.
    Batch,
}

impl Need {
    fn hint(self) -> &'static str {
        match self {
            Need::Key => "only Rota has keys: put the job without one",
            Need::TtrInMilliseconds => "give the TTR in whole seconds",
            Need::DelayInMilliseconds => "give the delay in whole seconds",
            Need::After => "only Rota has jobs that wait for others: put it once they are done",
            Need::CancelByKey => "only Rota has keys: cancel the job by its id, which the put gave",
            Need::Token => "it asks for no token: connect without one",
            Need::Batch => "only Rota has batches: send a command for each job",
        }
    }
}

impl ClientError {
    pub(super) fn no_such_command(address: &ServerAddress, command: &'static str, need: Need) -> Self {
        ClientError::NoSuchCommand { address: address.clone(), command, need }
    }

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

    /// What to try, where that is not plain from the message; in the words of this library. A program that has other words
    /// for it, as options of its command line, says it in those.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ClientError::Address { .. } => "write host:port, beanstalkd://host:port or tls://host:port",
            ClientError::Tls { .. } => {
                "certificates and keys are given as PEM texts, -----BEGIN CERTIFICATE----- and so on"
            }
            ClientError::Connect { .. } => "is a server running there, and does it listen on that address?",
            ClientError::Handshake { source, .. } => handshake_hint(source),
            ClientError::Broken { .. } | ClientError::TimedOut { .. } | ClientError::Closed { .. } => {
                "it may have been carried out: connect again, and look before you repeat it"
            }
            ClientError::Unusable { .. } => {
                "connect again: jobs that the old connection held are ready once it is closed"
            }
            ClientError::Unexpected { .. } => "is it a beanstalkd or Rota server that listens there?",
            ClientError::Refused { answer, .. } => match answer.as_str() {
                "OUT_OF_MEMORY" => "the server is full: take jobs out of it, then try again",
                "DRAINING" => "the server takes no new jobs: put it into another one",
                "DEADLINE_SOON" => "a lease of this connection ends within a second: complete that job, or touch it",
                "UNAUTHENTICATED" => "show a token: `Builder::token`, or `Client::authenticate`",
                "NOT_ALLOWED" => "show a token of a role, and for queues, that this is for",
                "UNKNOWN_COMMAND" => "this server does not have the command",
                "INTERNAL_ERROR" => "this is a bug of the server: look into its log",
                _ => return None,
            },
            ClientError::NoSuchCommand { need, .. } => need.hint(),
            ClientError::NoToken => "a token is what `rota token create` printed, in one word",
            ClientError::BadToken { .. } => "it was not made there, was revoked, or has expired",
            ClientError::TooBig { .. } => "raise the server's limit for jobs, or put a reference",
            ClientError::BatchTooBig { .. } | ClientError::BatchSize { .. } => "send several batches",
            ClientError::BatchQueues { .. } => "send a batch for each queue",
            ClientError::KeyTaken { .. } => "cancel that job first, or use another key",
            ClientError::UnknownParent { .. } => "wait for ids that puts on this server gave",
            ClientError::TooManyParents { .. } => {
                "wait for fewer, or for a job that waits for some of them; over HTTP a job can wait for 256"
            }
            ClientError::Buried { .. } => "free memory of the server, then kick the job",
        };
        Some(hint.to_owned())
    }
}

/// What to try when no TLS came about.
pub(crate) fn handshake_hint(error: &io::Error) -> &'static str {
    use rustls::{AlertDescription, CertificateError, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "give the authority of the server's certificate: `Builder::ca`"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "name the server as its certificate does",
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            "the server asks for a certificate: `Builder::client_cert` shows one"
        }
        Some(Error::InvalidMessage(_)) => "is it the port that speaks TLS?",
        _ => "is it the port that speaks TLS, and does the server trust the client's certificate, if one is shown?",
    }
}
