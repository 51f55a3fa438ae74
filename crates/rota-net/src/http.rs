//! The HTTP port: jobs, queues and leases as JSON, statistics, snapshots, webhooks, whether the server is well, its metrics.
//!
//! `docs/http.md` is the guide; the pages describe themselves at `/v1/openapi.json`, and to people at `/v1/docs`. Read in
//! this order: `access` (who may ask for what), `api` (how a handler comes to the engine), `request` and `fields` (what is read), `problem` (what is
//! refused), then a file for each noun.

mod access;
mod answers;
mod api;
mod connections;
mod docs;
mod durations;
mod events;
mod fields;
mod framing;
mod guard;
mod handed;
mod jobs;
mod leases;
mod notes;
mod openapi;
mod patience;
mod problem;
mod queues;
mod request;
mod room;
mod schedules;
mod snapshots;
mod stats;
mod watched;
mod webhooks;

pub use api::Counts;
pub use durations::{Durations, Took};
pub use events::Follower;
pub use patience::Patience;
pub use problem::{Kind, Problem};
pub use snapshots::{SnapshotTaken, Snapshots, Taking};
pub use watched::{Asked, Watched, Watcher};
pub use webhooks::WebhookFigures;
pub use webhooks::hook::{BadWebhook, KeptSecret, KeptWebhook, Pause, Webhook};
pub use webhooks::outside::{Call, Called, Calling, Keeping, Place, Webhooks};

use crate::access::Door;
use crate::host::Host;
use crate::limits::{ANSWERS_BYTES, ENVELOPE_BYTES, LEAST_REQUEST_BYTES, LONGEST_ANSWERS, LONGEST_REQUESTS};
use crate::peers::Connections;
use crate::tls::Port;
use api::Api;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use rota_engine::command::Refusal;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::watch;

/// How the HTTP port is served.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// How many connections there may be at a time.
    pub connections: Connections,
    /// How long peers may take.
    pub patience: Patience,
    /// Names that the server may be called by, beside its addresses and localhost; `*` for any.
    pub names: Vec<String>,
}

/// What the program around it does for the API: nothing in here knows files, tokens or other servers.
pub struct Services {
    /// Takes snapshots.
    pub snapshots: Arc<dyn Snapshots>,
    /// Keeps webhooks and calls them.
    pub webhooks: Arc<dyn Webhooks>,
    /// Says what a token grants.
    pub door: Arc<dyn Door>,
    /// Is told what happens.
    pub follower: Option<Box<dyn Follower>>,
    /// Is told of each request.
    pub watcher: Option<Arc<dyn Watcher>>,
}

/// Serves the API on these ports, has webhooks called, and tells the follower what happens, until `stop` says true (or is gone).
pub async fn serve(
    host: Arc<Host>,
    ports: Vec<Port>,
    options: HttpOptions,
    services: Services,
    stop: watch::Receiver<bool>,
) {
    let Services { snapshots, webhooks, door, follower, watcher } = services;
    let (most, version) = host.look(|shared| (shared.facts.max_job_bytes as usize, shared.facts.version));
    // A body in base64 is a third longer.
    let request_bytes = (most.div_ceil(3) * 4 + ENVELOPE_BYTES).max(LEAST_REQUEST_BYTES);
    let longest_answers = request_bytes.saturating_mul(LONGEST_ANSWERS);
    let api = Arc::new(Api {
        host,
        snapshots,
        door,
        names: guard::Names::new(&options.names),
        request_bytes,
        bodies: room::Room::new("the bodies of requests", request_bytes.saturating_mul(LONGEST_REQUESTS)),
        answers: room::Room::new("the answers to requests", ANSWERS_BYTES.max(longest_answers)),
        patience: options.patience,
        counts: Counts::default(),
        events: events::Hub::default(),
        webhooks: webhooks::Book::new(webhooks),
        stop,
    });
    // Before anybody can do anything, so that all of it is told.
    webhooks::begin(&api);
    let (router, description) = openapi::router().split_for_parts();
    let description = openapi::complete(description, version);
    let router = router
        .with_state(api.clone())
        .merge(docs::router(&description))
        .fallback(no_such_page)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(api.clone(), guard::check));
    // Around all of it, so that what is refused is told of too.
    let router = match watcher {
        Some(watcher) => router.layer(middleware::from_fn_with_state(watcher, watched::watch)),
        None => router,
    };
    let serving = std::pin::pin!(connections::serve(api.clone(), router, ports, options.connections));
    let following = async {
        if let Some(mut follower) = follower {
            events::follow(&api, follower.as_mut()).await;
        }
    };
    tokio::join!(serving, events::publish(&api), webhooks::keep_places(&api), following);
}

async fn no_such_page(uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchPage, format!("nothing is at {}", uri.path()))
}

async fn method_not_allowed(method: axum::http::Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}

/// An answer in JSON.
fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json_text(value)).into_response()
}

fn json_text(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("texts, numbers and lists of them make JSON");
    text.push('\n');
    text
}

/// The same in one line, where a line is all that is read: a body in JSON is shown as it was put, which may be in several.
fn json_line(value: &impl Serialize) -> String {
    let mut text = json_text(value);
    let end = text.len() - 1;
    if text[..end].contains(LINE_BREAKS) {
        // In a text they are escaped: these are between tokens.
        text.replace_range(..end, &text[..end].replace(LINE_BREAKS, " "));
    }
    text
}

const LINE_BREAKS: [char; 2] = ['\n', '\r'];

/// The engine's refusals, where no handler knows better.
fn refused(refusal: Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::NoRoom => Problem::new(Kind::DiskFull, "the log has no room on its disk"),
        Refusal::NotFound => Problem::new(Kind::JobNotFound, detail),
        Refusal::NoSuchQueue => Problem::new(Kind::QueueNotFound, detail),
        Refusal::KeyTaken(id) | Refusal::KeyHeld(id) => Problem::new(Kind::KeyTaken, detail).about(id),
        Refusal::UnknownParent(_) => Problem::new(Kind::UnknownParent, detail),
        Refusal::LaterParent(id) => Problem::new(Kind::UnknownParent, detail).about(id),
        Refusal::QueueFull => Problem::new(Kind::QueueFull, detail),
        Refusal::TooManyQueues => Problem::new(Kind::TooManyQueues, detail),
        Refusal::BadTerms(_) | Refusal::TooLong(_) | Refusal::BadKey => Problem::new(Kind::BadValue, detail),
        Refusal::NoSuchSchedule => Problem::new(Kind::ScheduleNotFound, detail),
        Refusal::TooManySchedules | Refusal::TooMuchScheduled => Problem::new(Kind::TooManySchedules, detail),
        Refusal::BadTiming | Refusal::NeverTicks => Problem::new(Kind::BadValue, detail),
        Refusal::LastWatched | Refusal::TooManyWatched | Refusal::AlreadyWaiting => {
            unreachable!("a guest watches few queues, and asks for nothing while it waits: {detail}")
        }
    }
}
