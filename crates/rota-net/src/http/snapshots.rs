//! `POST /v1/snapshots`: takes a snapshot, and answers when it is whole.
//!
//! Where it goes and how is the binary's business, which hands in a [`Snapshots`]. A page in a browser must not be able
//! to cause one: the content type must be JSON, which a page may only send where the server allows it, and whatever a
//! browser marks as a page's is refused.

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// The longest request, in bytes.
const REQUEST_BYTES: usize = 16 * 1024;

/// A snapshot that was taken, or why not; when it is.
pub type Taking = Pin<Box<dyn Future<Output = Result<SnapshotTaken, Problem>> + Send>>;

/// Who takes snapshots.
pub trait Snapshots: Send + Sync + 'static {
    /// Takes one at the address `to`, or where this server puts them if there is none. It goes on when what is returned
    /// is dropped.
    fn take(&self, to: Option<String>) -> Taking;
}

/// A snapshot that is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotTaken {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Jobs in it.
    pub jobs: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Why a request was not carried out, as RFC 9457 has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The status of the answer.
    pub status: u16,
    /// What is wrong, with its values and causes.
    pub detail: String,
    /// What to try.
    pub hint: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status: status.as_u16(), detail: detail.into(), hint: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut object = json!({
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Some(hint) = self.hint {
            object["hint"] = hint.into();
        }
        (status, [(header::CONTENT_TYPE, "application/problem+json")], format!("{object}\n")).into_response()
    }
}

pub(super) async fn take(
    State(snapshots): State<Arc<dyn Snapshots>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_sender(&headers)?;
    let body = to_bytes(body, REQUEST_BYTES).await.map_err(|_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a request has at most {REQUEST_BYTES} bytes"))
    })?;
    let to = read(&body).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "the request is no JSON object with no member but \"to\", a text")
    })?;
    let SnapshotTaken { name, address, jobs, bytes } = snapshots.take(to).await?;
    let object = json!({ "name": name, "address": address, "jobs": jobs, "bytes": bytes });
    Ok((StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], format!("{object}\n")).into_response())
}

/// Refuses what a web page could send.
fn check_sender(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content-type must be application/json"));
    }
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Err(Problem::new(StatusCode::FORBIDDEN, "requests of web pages are refused"));
    }
    Ok(())
}

/// The address in a request, if it names one; `None` if it is no request.
fn read(body: &[u8]) -> Option<Option<String>> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else { return None };
    let to = match object.remove("to") {
        None | Some(Value::Null) => None,
        Some(Value::String(to)) => Some(to),
        Some(_) => return None,
    };
    object.is_empty().then_some(to)
}
