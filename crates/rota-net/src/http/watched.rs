//! Requests as they are told to a part of the program that watches them, for traces: what kind each is, and how it was answered.
//!
//! Nothing of it says which job, queue, key or lease a request is about: of a path it is the page's, `/v1/jobs/{id}`. Where
//! nobody watches, there is no such layer around the pages.

use super::connections::Place;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, Version};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

/// Who is told of each request.
///
/// It is called on the thread that serves everybody: it must not wait for anything.
pub trait Watcher: Send + Sync + 'static {
    /// A request came; nothing was looked at but its head. What is given is told how it was answered, and is dropped then; or
    /// untold, where it was given up: its client is gone.
    fn begins(&self, asked: &Asked<'_>) -> Option<Box<dyn Watched>>;
}

/// A request that is under way.
pub trait Watched: Send {
    /// It was answered with that status: the head of the answer is about to be sent. Some answers go on for long.
    fn answered(&mut self, status: u16);
}

/// What there is to tell of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As it was sent, whatever that is.
    pub method: &'a str,
    /// The page's path, with the names of its parts; none where there is no such page.
    pub route: Option<&'a str>,
    /// Whether it came through TLS.
    pub is_tls: bool,
    /// The version of HTTP: `1.1`.
    pub version: &'static str,
    /// The header `traceparent`, if it has one.
    pub parent: Option<&'a str>,
    /// The header `tracestate`.
    pub state: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request) -> Asked<'a> {
        let header = |name: &'static str| request.headers().get(HeaderName::from_static(name))?.to_str().ok();
        Asked {
            method: request.method().as_str(),
            route: request.extensions().get::<MatchedPath>().map(MatchedPath::as_str),
            is_tls: request.extensions().get::<Place>().is_some_and(|place| place.is_tls),
            version: if request.version() == Version::HTTP_10 { "1.0" } else { "1.1" },
            parent: header("traceparent"),
            state: header("tracestate"),
        }
    }
}

/// Tells of a request and its answer.
pub(super) async fn watch(State(watcher): State<Arc<dyn Watcher>>, request: Request, next: Next) -> Response {
    let watched = watcher.begins(&Asked::of(&request));
    let response = next.run(request).await;
    if let Some(mut watched) = watched {
        watched.answered(response.status().as_u16());
    }
    response
}
