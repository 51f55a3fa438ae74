//! Problem documents (RFC 9457): why the server refused something, as types.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::values;

/// Why the server refused something, and what to try.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of problem it is.
    #[serde(rename = "type", deserialize_with = "kind")]
    pub kind: ProblemKind,
    /// The kind in words.
    #[serde(default)]
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong with this request, with its values.
    #[serde(default)]
    pub detail: String,
    /// What to try.
    #[serde(default)]
    pub hint: String,
    /// Where in the request's body it is: a JSON pointer as a URI fragment, `#/jobs/3/ttr`.
    #[serde(default)]
    pub pointer: Option<String>,
    /// The line of the body, or of a filter, from 1.
    #[serde(default)]
    pub line: Option<u64>,
    /// The column in that line, from 1.
    #[serde(default)]
    pub column: Option<u64>,
    /// The job that it is about, such as the one that has a key.
    #[serde(default, with = "values::maybe_number")]
    pub job: Option<u64>,
    /// How long to wait before it makes sense to ask again, where the server says so.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// What kind of problem it is: the end of its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are the server's, each with a page of its own at /problems/")]
pub enum ProblemKind {
    MalformedJson,
    MalformedRequest,
    BadParameter,
    BadId,
    BadLease,
    BadCursor,
    BadFilter,
    NoFilter,
    NoToken,
    BadToken,
    NotAllowed,
    QueueNotAllowed,
    ForeignOrigin,
    NoSuchPage,
    JobNotFound,
    QueueNotFound,
    ScheduleNotFound,
    TooManyConnections,
    TooManyQueues,
    TooManySchedules,
    WebhookNotFound,
    TooManyWebhooks,
    SecretRotating,
    KeyNotFound,
    MethodNotAllowed,
    TooSlow,
    KeyTaken,
    WrongState,
    ParentFailed,
    UnknownParent,
    QueueFull,
    LeaseOutdated,
    CursorOutdated,
    TooLarge,
    JobTooLarge,
    UnsupportedMediaType,
    UnknownHost,
    UnknownField,
    IdempotencyKeyReused,
    BadValue,
    Draining,
    Busy,
    Stopping,
    TokensUnreadable,
    WebhooksNotKept,
    DiskFull,
    SnapshotAddress,
    SnapshotUnderWay,
    SnapshotFailed,
    SnapshotStore,
    SnapshotTooSlow,
    /// One of a later server's, that this library does not know.
    #[serde(other)]
    Other,
}

impl ProblemKind {
    /// Whether the same request may be taken later, and sending it again does no harm.
    pub fn may_pass(self) -> bool {
        use ProblemKind as Kind;
        matches!(
            self,
            Kind::Busy
                | Kind::Stopping
                | Kind::Draining
                | Kind::DiskFull
                | Kind::QueueFull
                | Kind::TooManyConnections
                | Kind::TooManyQueues
                | Kind::TokensUnreadable
        )
    }
}

impl Problem {
    /// Reads a document; none if that is none.
    pub(super) fn read(body: &[u8]) -> Option<Problem> {
        serde_json::from_slice(body).ok()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.detail.is_empty() { &self.title } else { &self.detail })
    }
}

impl std::error::Error for Problem {}

fn kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ProblemKind, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name: StrDeserializer<'_, ValueError> = text.strip_prefix("/problems/").unwrap_or(&text).into_deserializer();
    Ok(ProblemKind::deserialize(name).unwrap_or(ProblemKind::Other))
}
