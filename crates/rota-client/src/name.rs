//! Names of queues, and keys of jobs, as types that hold nothing else.
//!
//! They are the only texts of a user that go into a command line, and what they refuse can't be sent: a name with a
//! line end in it would be a second command.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest name and the longest key, in bytes.
const MOST_BYTES: usize = 200;

/// The name of a queue: 1 to 200 bytes of `A-Za-z0-9-+/;.$_()`, the first of them not `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueName(String);

/// The key of a job: 1 to 200 bytes of printable ASCII without the space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

/// Why a text is no name or key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing is no name.
    #[error("it is empty")]
    Empty,
    /// Longer than 200 bytes.
    #[error("it has {0} bytes, and may have 200")]
    TooLong(usize),
    /// The first byte of a queue's name.
    #[error("it starts with '-'")]
    LeadingMinus,
    /// A character outside the alphabet of names.
    #[error("{0:?} can't be in it, only letters, digits and - + / ; . $ _ ( )")]
    NameCharacter(char),
    /// A character outside the alphabet of keys.
    #[error("{0:?} can't be in it, only printable ASCII without spaces")]
    KeyCharacter(char),
}

impl QueueName {
    /// The name as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_length(text)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-+/;.$_()".contains(c);
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::NameCharacter(bad));
        }
        if text.starts_with('-') {
            return Err(NameError::LeadingMinus);
        }
        Ok(QueueName(text.to_owned()))
    }
}

impl FromStr for Key {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_length(text)?;
        match text.chars().find(|c| !c.is_ascii_graphic()) {
            Some(bad) => Err(NameError::KeyCharacter(bad)),
            None => Ok(Key(text.to_owned())),
        }
    }
}

fn check_length(text: &str) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        1..=MOST_BYTES => Ok(()),
        bytes => Err(NameError::TooLong(bytes)),
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
