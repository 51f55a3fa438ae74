//! What can be wrong with the files of webhooks: each case with its place, its values and a hint.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::file::FILE_BYTES;

/// Why a file of webhooks cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum WebhooksError {
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a folder, or something else that has no end.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Others may read it, or change it, and there are secrets in it.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    TooOpen {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Nobody of ours wrote that much.
    #[error("{} has {bytes} bytes, and webhooks take at most {FILE_BYTES}", path.display())]
    TooLong {
        /// Its path.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A line that is no webhook.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file's path.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it. It never has a secret in it.
        reason: String,
    },
}

impl WebhooksError {
    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            WebhooksError::Io { .. } => None,
            WebhooksError::NotAFile { path } | WebhooksError::TooLong { path, .. } => {
                Some(format!("move {} away, and set the webhooks up anew", path.display()))
            }
            WebhooksError::TooOpen { path, .. } => Some(format!("run `chmod 600 {}`", path.display())),
            WebhooksError::Line { .. } => {
                Some("mend or remove that line while no server runs: each is a JSON object of one webhook".into())
            }
        }
    }

    /// With which code the process ends.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            WebhooksError::Io { .. } => 1,
            _ => 2,
        }
    }
}
