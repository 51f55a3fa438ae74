//! What can be wrong with a file of tokens: each case with its place, its values and a hint.

use std::path::PathBuf;

use thiserror::Error;

use super::TokenId;
use super::file::TOKENS;
use crate::files::FileError;

/// Why a file of tokens cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum TokensError {
    /// It is not what it has to be, or the system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line that is no token.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file's path.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no room for one more.
    #[error("{} has {TOKENS} tokens, which is all it may have", path.display())]
    Full {
        /// Its path.
        path: PathBuf,
    },
    /// No token has that id.
    #[error("there is no token {id} in {}", path.display())]
    NoSuchToken {
        /// The file's path.
        path: PathBuf,
        /// The id.
        id: TokenId,
    },
}

impl TokensError {
    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            TokensError::File(error) => match error {
                FileError::Io { .. } => None,
                FileError::NotAFile { .. } => Some("name a file with --tokens".into()),
                FileError::TooOpen { path, .. } => Some(format!("run `chmod 600 {}`", path.display())),
                FileError::TooLong { .. } => Some("is that the file that `rota token create` wrote?".into()),
            },
            TokensError::Line { .. } => {
                Some("mend or remove that line: `rota token create` writes them, a JSON object each".into())
            }
            TokensError::Full { .. } => Some("revoke some: 30 days after their end they make room".into()),
            TokensError::NoSuchToken { .. } => Some("`rota token list` shows them".into()),
        }
    }

    /// With which code the process ends.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            TokensError::File(error) => error.exit_code(),
            TokensError::Full { .. } => 1,
            TokensError::NoSuchToken { .. } => 3,
            _ => 2,
        }
    }
}
