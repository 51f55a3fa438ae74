//! Why a request was not carried out: every error of the HTTP API, as RFC 9457 has it.
//!
//! A kind has a stable name, which is its `type`, a status, a title and what to try. Whoever refuses a request says what
//! was wrong with it, with its values; nothing here looks at a request.

use super::json_text;
use crate::host::LeaseEnd;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rota_engine::job::JobId;
use serde::Serialize;
use utoipa::ToSchema;

/// What kind of problem it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each variant's row says what it is")]
pub enum Kind {
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
    TooManyQueues,
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
    TooManyConnections,
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
}

/// What is the same for all problems of a kind.
pub(super) struct Row {
    /// The end of its `type`.
    pub(super) name: &'static str,
    pub(super) status: u16,
    pub(super) title: &'static str,
    /// What to try, unless a problem says better.
    pub(super) hint: &'static str,
}

const fn row(name: &'static str, status: u16, title: &'static str, hint: &'static str) -> Row {
    Row { name, status, title, hint }
}

impl Kind {
    /// All of them.
    pub(super) const ALL: &[Kind] = &[
        Kind::MalformedJson,
        Kind::MalformedRequest,
        Kind::BadParameter,
        Kind::BadId,
        Kind::BadLease,
        Kind::BadCursor,
        Kind::BadFilter,
        Kind::NoFilter,
        Kind::NoToken,
        Kind::BadToken,
        Kind::NotAllowed,
        Kind::QueueNotAllowed,
        Kind::ForeignOrigin,
        Kind::NoSuchPage,
        Kind::JobNotFound,
        Kind::QueueNotFound,
        Kind::ScheduleNotFound,
        Kind::TooManySchedules,
        Kind::WebhookNotFound,
        Kind::TooManyWebhooks,
        Kind::SecretRotating,
        Kind::KeyNotFound,
        Kind::MethodNotAllowed,
        Kind::TooSlow,
        Kind::KeyTaken,
        Kind::WrongState,
        Kind::ParentFailed,
        Kind::UnknownParent,
        Kind::QueueFull,
        Kind::TooManyQueues,
        Kind::LeaseOutdated,
        Kind::CursorOutdated,
        Kind::TooLarge,
        Kind::JobTooLarge,
        Kind::UnsupportedMediaType,
        Kind::UnknownHost,
        Kind::UnknownField,
        Kind::IdempotencyKeyReused,
        Kind::BadValue,
        Kind::Draining,
        Kind::TooManyConnections,
        Kind::Busy,
        Kind::Stopping,
        Kind::TokensUnreadable,
        Kind::WebhooksNotKept,
        Kind::DiskFull,
        Kind::SnapshotAddress,
        Kind::SnapshotUnderWay,
        Kind::SnapshotFailed,
        Kind::SnapshotStore,
        Kind::SnapshotTooSlow,
    ];

    pub(super) const fn row(self) -> Row {
        match self {
            Kind::MalformedJson => {
                row("malformed-json", 400, "The body is not JSON", "mend the body at that line and column")
            }
            Kind::MalformedRequest => {
                row("malformed-request", 400, "The request is malformed", "see /v1/docs for what can be asked")
            }
            Kind::BadParameter => row(
                "bad-parameter",
                400,
                "A parameter of the query is wrong",
                "see /v1/docs for the parameters of this page",
            ),
            Kind::BadId => row(
                "bad-id",
                400,
                "That is not the id of a job",
                "a job's id is a whole number, as its put answered it",
            ),
            Kind::ParentFailed => row(
                "parent-failed",
                409,
                "A job that it was to wait for came to nothing",
                "put it without that parent, or with on_parent_failure run or hold",
            ),
            Kind::UnknownParent => row(
                "unknown-parent",
                422,
                "A job that it is to wait for is not there",
                "put that one first, and name it by the id that its put answered",
            ),
            Kind::QueueFull => row(
                "queue-full",
                429,
                "The queue is full",
                "try again when some of its jobs are done, or raise the queue's limits",
            ),
            Kind::TooManyQueues => row(
                "too-many-queues",
                429,
                "There is no room for another queue",
                "put into queues that are there, or raise the server's --max-queues; a queue goes when nothing is in it or asked of it",
            ),
            Kind::BadLease => row("bad-lease", 400, "That is not a lease", "pass a lease as it was given, unchanged"),
            Kind::BadCursor => row(
                "bad-cursor",
                400,
                "The cursor does not belong here",
                "pass a cursor with the query that it was given for, or begin again without one",
            ),
            Kind::BadFilter => row(
                "bad-filter",
                400,
                "The filter makes no sense",
                "write it as queue:mail state:buried age>1h; docs/http.md has all fields",
            ),
            Kind::NoFilter => row(
                "no-filter",
                422,
                "The request does not say which jobs are meant",
                "name them with \"q\", or send \"all\": true where all of them are meant",
            ),
            Kind::NoToken => row(
                "no-token",
                401,
                "The server asks for a token",
                "send the header authorization: Bearer TOKEN; rota token create makes one",
            ),
            Kind::BadToken => row(
                "bad-token",
                401,
                "The token is not valid",
                "ask whoever runs the server for another; rota token create makes one",
            ),
            Kind::NotAllowed => row(
                "not-allowed",
                403,
                "The token may not do that",
                "ask with a token of another role; /v1/docs says which a page is for",
            ),
            Kind::QueueNotAllowed => row(
                "queue-not-allowed",
                403,
                "The token is for other queues",
                "name one of its queues, or ask with a token for that one",
            ),
            Kind::ForeignOrigin => row(
                "foreign-origin",
                403,
                "Requests of other sites' pages are refused",
                "ask from a program, or from a page of this server",
            ),
            Kind::NoSuchPage => row("no-such-page", 404, "There is no such page", "see /v1/docs for all there are"),
            Kind::JobNotFound => row(
                "job-not-found",
                404,
                "There is no such job",
                "it may have been completed or cancelled: jobs are not kept after their end",
            ),
            Kind::QueueNotFound => row(
                "queue-not-found",
                404,
                "There is no such queue",
                "queues come with their first job and go with their last one",
            ),
            Kind::ScheduleNotFound => row(
                "schedule-not-found",
                404,
                "There is no such schedule",
                "GET /v1/schedules lists those there are; PUT sets one up",
            ),
            Kind::TooManySchedules => row(
                "too-many-schedules",
                429,
                "There is no room for another schedule",
                "delete schedules that are not needed, or have them put less",
            ),
            Kind::WebhookNotFound => row(
                "webhook-not-found",
                404,
                "There is no such webhook",
                "GET /v1/webhooks lists those there are; PUT sets one up",
            ),
            Kind::TooManyWebhooks => row(
                "too-many-webhooks",
                429,
                "There is no room for another webhook",
                "delete webhooks that are not needed, or let one have the events of several",
            ),
            Kind::SecretRotating => row(
                "secret-rotating",
                409,
                "The secret from before still signs along",
                "drop it once who is called knows the new one: DELETE /v1/webhooks/NAME/old-secret; if nobody knows the new one, \
                 PUT another in its place",
            ),
            Kind::WebhooksNotKept => row(
                "webhooks-not-kept",
                500,
                "The webhooks could not be written down",
                "nothing was changed: see to the server's data directory and ask again",
            ),
            Kind::KeyNotFound => row(
                "key-not-found",
                404,
                "No open job of the queue has that key",
                "it may have been completed or cancelled: a key is free again then",
            ),
            Kind::MethodNotAllowed => row(
                "method-not-allowed",
                405,
                "The page does not take that method",
                "the header allow says which it takes",
            ),
            Kind::TooSlow => {
                row("too-slow", 408, "The body did not come in time", "send the request again, and without pauses")
            }
            Kind::KeyTaken => row(
                "key-taken",
                409,
                "An open job of the queue has that key",
                "cancel that job first, or put with \"on_conflict\": \"keep\" to get its id",
            ),
            Kind::WrongState => {
                row("wrong-state", 409, "The job is not in a state that allows it", "look at the job's state first")
            }
            Kind::LeaseOutdated => row(
                "lease-outdated",
                409,
                "The lease has ended",
                "stop working on the job: whoever holds it now does it, or it is over",
            ),
            Kind::CursorOutdated => row(
                "cursor-outdated",
                410,
                "The cursor is of before a restart of the server",
                "begin again without a cursor",
            ),
            Kind::TooLarge => {
                row("too-large", 413, "The request is too large", "put fewer or smaller jobs in one request")
            }
            Kind::JobTooLarge => row(
                "job-too-large",
                413,
                "The job's body is too large",
                "put less into a job, or raise the server's --max-job-size",
            ),
            Kind::UnsupportedMediaType => row(
                "unsupported-media-type",
                415,
                "The body's type is not JSON",
                "send the header content-type: application/json",
            ),
            Kind::UnknownHost => row(
                "unknown-host",
                421,
                "The server does not go by that name",
                "use its address or localhost, or tell the server its names with --http-names",
            ),
            Kind::IdempotencyKeyReused => row(
                "idempotency-key-reused",
                422,
                "Another request had that Idempotency-Key",
                "send a new key with a new request, and the same body with the same key",
            ),
            Kind::UnknownField => {
                row("unknown-field", 422, "There is no such field", "see /v1/docs for the fields there are")
            }
            Kind::BadValue => row("bad-value", 422, "A value is wrong", "see /v1/docs for the values it may have"),
            Kind::Draining => row(
                "draining",
                503,
                "The server takes no new jobs",
                "it is about to stop: put again once it is back, or elsewhere",
            ),
            Kind::TooManyConnections => row(
                "too-many-connections",
                429,
                "The address has as many connections as it may",
                "keep connections and use them again, or raise --http-connections-per-address",
            ),
            Kind::Busy => row("busy", 503, "The server has no room for that now", "try again in a moment"),
            Kind::Stopping => row("stopping", 503, "The server is about to stop", "try again once it is back"),
            Kind::TokensUnreadable => row(
                "tokens-unreadable",
                503,
                "The server cannot read its tokens",
                "whoever runs the server finds the reason in what it wrote to its standard error",
            ),
            Kind::DiskFull => {
                row("disk-full", 507, "The disk is full", "free space on the server's disk, or complete or cancel jobs")
            }
            Kind::SnapshotAddress => row(
                "snapshot-address",
                400,
                "Snapshots cannot go there",
                "name a folder, or a prefix in an object store",
            ),
            Kind::SnapshotUnderWay => {
                row("snapshot-under-way", 409, "A snapshot is under way", "ask again when it is taken")
            }
            Kind::SnapshotFailed => {
                row("snapshot-failed", 500, "No snapshot was taken", "nothing is lost: mend the cause and ask again")
            }
            Kind::SnapshotStore => {
                row("snapshot-store", 502, "The object store failed", "nothing is lost: ask again once it answers")
            }
            Kind::SnapshotTooSlow => row(
                "snapshot-too-slow",
                503,
                "The snapshot's place is slower than the changes",
                "ask again when less happens, or choose a faster place",
            ),
        }
    }
}

/// A problem with one request, or with one job of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    hint: Option<String>,
    pointer: Option<String>,
    place: Option<(usize, usize)>,
    job: Option<JobId>,
    reason: Option<LeaseEnd>,
}

impl Problem {
    /// A problem of that kind; `detail` says what is wrong, with its values and causes.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), hint: None, pointer: None, place: None, job: None, reason: None }
    }

    /// The same with something better to try than what its kind says.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    /// The same, in that member of the request: a JSON pointer (RFC 6901), `/jobs/3/ttr`.
    #[must_use]
    pub(super) fn at(self, pointer: impl Into<String>) -> Problem {
        Problem { pointer: Some(pointer.into()), ..self }
    }

    /// The same, at that line and column of the body, both from 1.
    #[must_use]
    pub(super) fn at_place(self, line: usize, column: usize) -> Problem {
        Problem { place: Some((line, column)), ..self }
    }

    /// What is wrong, and what better to try than its kind says.
    pub(super) fn into_words(self) -> (String, Option<String>) {
        (self.detail, self.hint)
    }

    /// The same, about a job.
    #[must_use]
    pub(super) fn about(self, job: JobId) -> Problem {
        Problem { job: Some(job), ..self }
    }

    /// The same, about a lease that ended for that reason.
    #[must_use]
    pub(super) fn because(self, reason: LeaseEnd) -> Problem {
        Problem { reason: Some(reason), ..self }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.row().status).expect("the rows have statuses that exist")
    }

    /// A whole answer, for who is not served.
    pub(super) fn on_the_wire(&self) -> String {
        let (status, text) = (self.status(), json_text(&self.document()));
        let reason = status.canonical_reason().unwrap_or_default();
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\nretry-after: {RETRY_AFTER}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{text}",
            status.as_u16(),
            text.len()
        )
    }

    /// The same as it is sent.
    pub(super) fn document(&self) -> ProblemDocument {
        let row = self.kind.row();
        ProblemDocument {
            kind: format!("/problems/{}", row.name),
            title: row.title.to_owned(),
            status: row.status,
            detail: self.detail.clone(),
            hint: self.hint.clone().unwrap_or_else(|| row.hint.to_owned()),
            pointer: self.pointer.as_ref().map(|pointer| format!("#{pointer}")),
            line: self.place.map(|(line, _)| line),
            column: self.place.map(|(_, column)| column),
            job: self.job.map(|job| job.to_string()),
            reason: self.reason,
        }
    }
}

/// What is wrong with a request (RFC 9457), and what to try.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// The kind of problem: a relative reference that stays the same.
    #[serde(rename = "type")]
    #[schema(example = "/problems/key-taken")]
    kind: String,
    /// The kind in words.
    title: String,
    /// The status of the answer.
    pub(super) status: u16,
    /// What is wrong with this request.
    detail: String,
    /// What to try.
    hint: String,
    /// Where in the request's body it is: a JSON pointer as a URI fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "#/jobs/3/ttr", nullable = false)]
    pointer: Option<String>,
    /// The line of the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    line: Option<usize>,
    /// The column in that line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    column: Option<usize>,
    /// The job that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job: Option<String>,
    /// Why the lease ended that it is about, as far as is known. `completed`: the job was. `cancelled`: it was called off, or
    /// expired. `expired`: it did, and is kept. `over`: one of these, to a token that is limited to some queues. `lost`: its time
    /// was over. `released`: the job was given back or failed. `buried`: it was set aside. `replaced`: another lease holds it.
    /// `restart`: the server was started since, and the job is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<LeaseEnd>,
}

/// How long, in seconds, whoever finds no room should wait before they ask again.
const RETRY_AFTER: &str = "1";

/// The same, where somebody has to make room on a disk.
const RETRY_AFTER_DISK: &str = "10";

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut text = serde_json::to_string(&self.document()).expect("texts and numbers make JSON");
        text.push('\n');
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response();
        let retry_after = match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some(RETRY_AFTER),
            StatusCode::INSUFFICIENT_STORAGE => Some(RETRY_AFTER_DISK),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = match self.kind {
                Kind::NoToken => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
