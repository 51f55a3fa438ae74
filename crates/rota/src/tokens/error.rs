//! What can be wrong with a file of tokens: each case with its place, its values and a hint.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::TokenId;
use super::file::{FILE_BYTES, TOKENS};

/// Why a file of tokens cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum TokensError {
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
    /// Others may read it, or change it.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    TooOpen {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no file of tokens.
    #[error("{} has {bytes} bytes, and tokens take at most {FILE_BYTES}", path.display())]
    TooLong {
        /// Its path.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
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
            TokensError::Io { .. } => None,
            TokensError::NotAFile { .. } => Some("name a file with --tokens".into()),
            TokensError::TooOpen { path, .. } => Some(format!("run `chmod 600 {}`", path.display())),
            TokensError::TooLong { .. } => Some("is that the file that `rota token create` wrote?".into()),
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
            TokensError::Io { .. } | TokensError::Full { .. } => 1,
            TokensError::NoSuchToken { .. } => 3,
            _ => 2,
        }
    }
}
