//! `POST /v1/snapshots`: takes a snapshot, and answers when it is whole.
//!
//! Where it goes and how is the binary's business, which hands in a [`Snapshots`]. No page in a browser may cause one, not
//! even one of this server.

use super::answer;
use super::api::Asker;
use super::notes::{check_room, tell};
use super::problem::{Kind, Problem, ProblemDocument};
use super::request::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use rota_engine::job::QueueName;
use rota_engine::note::{Note, Noted};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use utoipa::ToSchema;

/// A snapshot that was taken, or why not; when it is.
pub type Taking = Pin<Box<dyn Future<Output = Result<SnapshotTaken, Problem>> + Send>>;

/// Who takes snapshots.
pub trait Snapshots: Send + Sync + 'static {
    /// Takes one at the address `to`, or where this server puts them if there is none. It goes on when what is returned
    /// is dropped.
    fn take(&self, to: Option<String>) -> Taking;
}

/// A snapshot that is whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = Snapshot)]
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

/// Which snapshot to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotRequest {
    /// Where it goes: a folder, or a prefix in an object store; where the server puts them unless told. For admins alone: the
    /// server writes there with its own rights.
    to: Option<String>,
}

/// Who asks is no page.
pub(super) struct NoPage;

impl<S: Sync> FromRequestParts<S> for NoPage {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<NoPage, Problem> {
        if parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key("sec-fetch-site") {
            return Err(Problem::new(Kind::ForeignOrigin, "requests of web pages for snapshots are refused"));
        }
        Ok(NoPage)
    }
}

/// Takes a snapshot
///
/// The whole state at one moment, while the server goes on; answered when it is whole. To say where it goes is for admins alone.
#[utoipa::path(post, path = "/v1/snapshots", tag = "server", operation_id = "takeSnapshot", request_body = SnapshotRequest,
    responses(
        (status = 201, description = "It was taken.", body = SnapshotTaken),
        (status = 409, description = "One is under way.", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn take(
    api: Asker,
    _: NoPage,
    Json(SnapshotRequest { to }): Json<SnapshotRequest>,
) -> Result<Response, Problem> {
    if to.is_some() {
        api.grant().check_admin("a snapshot that goes to a place of the request's own")?;
    }
    check_room(&api)?;
    let (shared, actor) = (api.shared(), api.grant().actor().cloned());
    // Somebody has it, also where whoever asked is gone by then: it is told.
    let taking = tokio::spawn(async move {
        let taken = shared.snapshots.take(to).await?;
        let note = QueueName::new(&taken.name).map(|name| Note::new(Noted::SnapshotTaken, name));
        tell(&shared, note.into_iter().collect(), actor.as_ref()).await;
        Ok::<_, Problem>(taken)
    });
    let taken = taking.await.unwrap_or_else(|_| Err(Problem::new(Kind::Stopping, "the server stops")))?;
    Ok(answer(StatusCode::CREATED, &taken))
}
