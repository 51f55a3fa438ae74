//! What can be wrong with the files of webhooks: each case with its place, its values and a hint.

use std::path::PathBuf;

use thiserror::Error;

use crate::files::FileError;

/// Why a file of webhooks cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum WebhooksError {
    /// It is not what it has to be, or the system refused.
    #[error(transparent)]
    File(#[from] FileError),
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
            WebhooksError::File(error) => match error {
                FileError::Io { .. } => None,
                FileError::NotAFile { path } | FileError::TooLong { path, .. } => {
                    Some(format!("move {} away, and set the webhooks up anew", path.display()))
                }
                FileError::TooOpen { path, .. } => Some(format!("run `chmod 600 {}`", path.display())),
            },
            WebhooksError::Line { .. } => {
                Some("mend or remove that line while no server runs: each is a JSON object of one webhook".into())
            }
        }
    }

    /// With which code the process ends.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            WebhooksError::File(error) => error.exit_code(),
            WebhooksError::Line { .. } => 2,
        }
    }
}
