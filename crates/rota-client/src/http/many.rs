//! One verb for all jobs of a filter.

use serde::{Deserialize, Serialize};

use super::ask::{Ask, Method, Patience};
use super::values;
use super::{Client, Error};

/// Which jobs are meant, and whether to do it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Many {
    /// A filter, as `queue:mail* state:buried age>1h`: see `docs/http.md`.
    #[serde(rename = "q", skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    all: bool,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Done {
    /// Whether it was only counted.
    pub dry_run: bool,
    /// Jobs that the filter means.
    pub matched: u64,
    /// Jobs that it was done to.
    pub done: u64,
    /// Jobs that it would be done to: counted by a dry run, else 0.
    pub would_do: u64,
    /// Jobs that it was not done to, or would not be.
    pub refused: Refused,
    /// The first of those that it was, or would be, done to: at most ten.
    #[serde(with = "values::numbers")]
    pub first: Vec<u64>,
    /// Where to go on, [`Many::cursor`]; none where all jobs were looked at, or the limit was reached.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Delayed jobs of all queues that are not in memory: only those named by their ids were looked at.
    #[serde(default)]
    pub not_in_memory: u64,
}

/// Why jobs were passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// They are over, and only kept.
    pub over: u64,
    /// They are in a state in which it cannot be done.
    pub wrong_state: u64,
    /// The disk has no room for it.
    pub disk_full: u64,
}

impl Many {
    /// The jobs of a filter.
    pub fn of(filter: impl Into<String>) -> Many {
        Many { filter: Some(filter.into()), ..Many::default() }
    }

    /// All jobs there are.
    pub fn all() -> Many {
        Many { all: true, ..Many::default() }
    }

    /// Only counts them.
    #[must_use]
    pub fn dry_run(self, dry_run: bool) -> Many {
        Many { dry_run, ..self }
    }

    /// At most so many are done; no bound where it is none, or 0.
    #[must_use]
    pub fn limit(self, limit: Option<u32>) -> Many {
        Many { limit: limit.filter(|limit| *limit > 0), ..self }
    }

    /// Goes on where a request before this one ended, of the same filter.
    #[must_use]
    pub fn cursor(self, cursor: Option<String>) -> Many {
        Many { cursor, ..self }
    }
}

impl Client {
    /// Makes the buried, delayed and blocked jobs of a filter ready. One request looks at a million jobs at the most: go on with
    /// the cursor of what came of it, until there is none.
    ///
    /// # Errors
    /// [`Error`]: unless it is a problem, it may have been done to some; to ask again is safe.
    pub fn kick_many(&self, many: &Many) -> Result<Done, Error> {
        self.many("kick", many)
    }

    /// Makes the buried jobs of a filter ready, and no others; otherwise as [`Client::kick_many`].
    ///
    /// # Errors
    /// Those of [`Client::kick_many`].
    pub fn retry_many(&self, many: &Many) -> Result<Done, Error> {
        self.many("retry", many)
    }

    /// Calls off the jobs of a filter, held or not; otherwise as [`Client::kick_many`].
    ///
    /// # Errors
    /// Those of [`Client::kick_many`].
    pub fn cancel_many(&self, many: &Many) -> Result<Done, Error> {
        self.many("cancel", many)
    }

    fn many(&self, verb: &str, many: &Many) -> Result<Done, Error> {
        let path = format!("/v1/jobs/{verb}");
        self.call(&Ask::new(Method::Post, &path).json(many)?.patience(Patience::Endless))
    }
}
