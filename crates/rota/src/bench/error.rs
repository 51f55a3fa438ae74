//! What can end a benchmark: each case with its values and a hint.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::task::Verb;
use rota_client::ServerAddress;

/// Why there is no result. A server that answered wrongly is never reported as fast.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    /// The delayed mix writes into the body when it is due.
    #[error("--size {size} is too small for the delayed mix")]
    SmallBody {
        /// What was asked for, in bytes.
        size: usize,
        /// What it takes, in bytes.
        least: usize,
    },
    /// Delays below a second, and a server that knows only whole ones.
    #[error("{server} has no put-in for delays in milliseconds: it is not a Rota server")]
    NeedsMilliseconds {
        /// The server.
        server: ServerAddress,
    },
    /// Batches, and a server that knows none.
    #[error("{server} has no put-batch for --batch: it is not a Rota server")]
    NeedsBatches {
        /// The server.
        server: ServerAddress,
    },
    /// One of the connections did not come about.
    #[error("cannot open connection {number} of {of} to {server}")]
    Connect {
        /// The server.
        server: ServerAddress,
        /// Which one, counted from 1.
        number: usize,
        /// How many there should be.
        of: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The load could not be set up on this machine.
    #[error("cannot wait for sockets")]
    Poll(#[source] io::Error),
    /// A connection broke.
    #[error("a connection broke while {awaited} answers to {verb} were awaited")]
    Broken {
        /// The command under way.
        verb: Verb,
        /// How many answers were missing.
        awaited: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The server closed a connection.
    #[error("the server closed a connection while {awaited} answers to {verb} were awaited")]
    Closed {
        /// The command under way.
        verb: Verb,
        /// How many answers were missing.
        awaited: usize,
    },
    /// An answer that is not the one that the command must get here.
    #[error("the server answered {verb} with {answer:?}")]
    Unexpected {
        /// The command.
        verb: Verb,
        /// The beginning of what came.
        answer: String,
    },
    /// A job came back with another body than was put.
    #[error("job {id} came back with another body than was put")]
    WrongBody {
        /// The job.
        id: u64,
    },
    /// The answers were all right one by one, and wrong together.
    #[error("the server lost count: {what}: {found} instead of {expected}")]
    Miscount {
        /// What was counted.
        what: &'static str,
        /// What the server came to.
        found: u64,
        /// What it must come to.
        expected: u64,
    },
    /// Nothing came for a long time.
    #[error("no answer for {}: {awaited} answers are missing", crate::values::format_duration(*.after))]
    Stalled {
        /// For how long.
        after: Duration,
        /// How many answers were missing.
        awaited: usize,
    },
}

impl BenchError {
    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            BenchError::SmallBody { least, .. } => format!("give --size {least} or more"),
            BenchError::NeedsMilliseconds { .. } => "give --delay-range in whole seconds: 1s..5s".into(),
            BenchError::NeedsBatches { .. } => "leave --batch away, and give --depth instead".into(),
            BenchError::Connect { source, .. } if source.raw_os_error() == Some(24) => {
                "raise the limit of open files (ulimit -n), or lower --connections".into()
            }
            BenchError::Connect { .. } => {
                "the server may have reached its limit of connections: lower --connections".into()
            }
            BenchError::Closed { .. } | BenchError::Broken { .. } => {
                "the server may have ended: look into its log".into()
            }
            BenchError::Unexpected { answer, .. } if answer.starts_with("JOB_TOO_BIG") => {
                "lower --size, or raise the server's limit".into()
            }
            BenchError::Unexpected { answer, .. } if answer.starts_with("BATCH_TOO_BIG") => {
                "lower --size or --batch".into()
            }
            BenchError::Unexpected { answer, .. } if answer.starts_with("DRAINING") => {
                "the server takes no new jobs".into()
            }
            _ => return None,
        })
    }

    /// The exit code that it leads to.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            BenchError::SmallBody { .. } | BenchError::NeedsMilliseconds { .. } | BenchError::NeedsBatches { .. } => 2,
            _ => 1,
        }
    }
}
