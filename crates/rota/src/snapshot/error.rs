//! What can go wrong with a snapshot: each case with its values, its cause and a hint.

use std::path::PathBuf;

use rota_engine::log::{LogError, OpenError};
use rota_net::host::CommitError;
use thiserror::Error;

use super::manifest::ManifestError;
use super::place::PlaceError;

/// Why a snapshot was not taken. The server is as it was, and it may be tried again.
#[derive(Debug, Error)]
pub(crate) enum TakeError {
    /// One is being taken.
    #[error("a snapshot is being taken already")]
    Busy,
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The place takes the segments more slowly than the jobs change.
    #[error(
        "the place of the snapshot is too slow: {behind} bytes of jobs and changes wait for it, and at most {most} may"
    )]
    TooFarBehind {
        /// Bytes that wait.
        behind: u64,
        /// Bytes that may wait.
        most: u64,
    },
    /// What the snapshot holds can never be promised to anybody.
    #[error("the server's own log failed")]
    Commit(#[source] CommitError),
    /// The log of the snapshot, which is in memory.
    #[error("cannot write the snapshot's records")]
    Log(#[from] LogError),
    /// The same, when it was begun.
    #[error("cannot begin the snapshot's records")]
    Begin(#[from] OpenError),
    /// The system refused a thread or a random number.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread of the snapshot's ended before it was done.
    #[error("the snapshot was interrupted")]
    Interrupted,
}

impl TakeError {
    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            TakeError::Busy => Some("try again when that one is done".into()),
            TakeError::TooFarBehind { .. } => Some("try again when less happens, or to a place that is nearer".into()),
            TakeError::Place(_) => {
                Some("nothing is lost and the server goes on: see to the place, then try again".into())
            }
            _ => None,
        }
    }
}

/// Why a snapshot cannot be read or started from. Nothing was changed but what a hint names.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is none.
    #[error("there is no snapshot at {address}")]
    None {
        /// Where it was looked for.
        address: String,
    },
    /// There are only such as were never finished.
    #[error("{address} is an unfinished snapshot: it has no manifest")]
    Unfinished {
        /// Its address.
        address: String,
    },
    /// Its manifest.
    #[error("cannot use the manifest {address}")]
    Manifest {
        /// Its address.
        address: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A segment is not there.
    #[error("the snapshot is not whole: {address} is missing")]
    Missing {
        /// The segment's address.
        address: String,
    },
    /// A segment has another length.
    #[error("the snapshot is damaged: {address} is {found} bytes long, and was {expected}")]
    Length {
        /// The segment's address.
        address: String,
        /// Its length in bytes.
        found: u64,
        /// The length in the manifest.
        expected: u64,
    },
    /// A segment holds something else.
    #[error("the snapshot is damaged: the SHA-256 of {address} is {found}, and was {expected}")]
    Checksum {
        /// The segment's address.
        address: String,
        /// Its checksum.
        found: String,
        /// The checksum in the manifest.
        expected: String,
    },
    /// All checksums are right, and still it cannot be read.
    #[error("cannot read the records of the snapshot {address}")]
    Records {
        /// Its address.
        address: String,
        /// What is wrong.
        source: OpenError,
    },
    /// The data directory has a log.
    #[error("the data directory {} already holds a log, and a restore would replace it", path.display())]
    HasLog {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier restore did not end.
    #[error("a restore into the data directory {} was interrupted", path.display())]
    Interrupted {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory could not be written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ReadError {
    /// The exit code that it leads to.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            ReadError::None { .. } => 3,
            _ => 1,
        }
    }

    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        let older = "nothing was changed: name another snapshot (`rota inspect` lists them)";
        Some(match self {
            ReadError::None { .. } => {
                "name a snapshot, or the place that holds some (`rota inspect` lists them)".into()
            }
            ReadError::Unfinished { .. } | ReadError::Missing { .. } => older.into(),
            ReadError::Length { .. } | ReadError::Checksum { .. } | ReadError::Records { .. } => older.into(),
            ReadError::Manifest { source: ManifestError::NewerVersion(_) | ManifestError::NewerLog(_), .. } => {
                "start the newer version of rota that took it".into()
            }
            ReadError::Manifest { .. } => older.into(),
            ReadError::HasLog { .. } => {
                "start without --restore to go on with that log, or name an empty directory with --data".into()
            }
            ReadError::Interrupted { path } => format!(
                "start again with --restore, or remove {} to begin with what else is there",
                path.join(super::restore::UNDER_WAY).display()
            ),
            ReadError::Place(_) | ReadError::Io { .. } => return None,
        })
    }
}
