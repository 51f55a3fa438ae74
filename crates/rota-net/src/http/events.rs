//! `GET /v1/events`: what happens, as server-sent events or over a WebSocket, to whoever wants to know.
//!
//! ```text
//! Engine ──► Host::take_news ──► publish ──► Ring ──► a Listener each
//!                 │                                      its own filter and place
//!                 └─ waits until the log is as durable as promised
//! ```
//!
//! All listeners read one ring at their own pace. Who is so slow that the ring goes over them is told, and cut off; nobody
//! waits for them.

mod choice;
mod follow;
mod follower;
mod listener;
mod past;
mod ring;
mod shown;
mod socket;
mod stream;

use super::api::{Api, Asker};
use super::connections::Place;
use super::fields::{Id, Name};
use super::problem::{Kind, Problem, ProblemDocument};
use super::request::Parameters;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use choice::{Choice, List, Wants};
use listener::Listener;
use rota_engine::engine::Engine;
use serde::Deserialize;
use std::time::Duration;
use stream::Events;
use utoipa::IntoParams;

pub(super) use follow::{Chosen, Followable, Followed, Following};
pub use follower::Follower;
pub(super) use follower::follow;
pub(super) use ring::Hub;
use ring::Reader;
pub(super) use shown::Event;

/// What a browser sends of itself when it comes back, and others may.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Which events, and from where on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only events of these kinds, with commas between them: `job.completed`, or `job.*` for all that begin so.
    #[param(value_type = Option<String>, example = "job.*,lease.lost")]
    kind: Option<String>,
    /// Only events of these queues and their jobs, with commas between them.
    #[param(value_type = Option<String>, example = "mail")]
    queue: Option<List<Name>>,
    /// Only events of these jobs, with commas between them.
    #[param(value_type = Option<String>, example = "17")]
    job: Option<List<Id>>,
    /// Only events that these asked for, with commas between them: what their tokens are called.
    #[param(value_type = Option<String>, example = "mailer")]
    actor: Option<String>,
    /// Go on after the event of this number, as far as it is still there; the header `Last-Event-ID` says the same.
    #[param(value_type = Option<String>, example = "170")]
    after: Option<String>,
    /// `false`: end when all is told that there is now, with an event `end`. It takes `after`.
    follow: Option<bool>,
}

/// Shows what happens, as it happens
///
/// With the headers of a WebSocket (RFC 6455) it goes on as one, on which each message is such an object; the first, `listening`,
/// says after which event it begins, unless that is `gone` or `resumed`. Else server-sent events: `id` is the event's number, `event` its kind, `data` an object. It goes on until the client or the
/// server ends it, or with `follow=false` up to the present. What is past is read from the log, as far as that reaches: a first event `resumed`
/// says so, with `"soft": "missing"`, since events that are in no log (a job was reserved, became ready, a lease was extended or dropped …) are
/// told as they happen, and not later. An event `gone` says that events were lost since `after`; a last one, `lagged`, that the client
/// was too slow.
#[utoipa::path(get, path = "/v1/events", tag = "server", operation_id = "getEvents",
    params(EventsQuery, ("last-event-id" = Option<String>, Header, description = "The number of the last event that came, as browsers say it when they come back: it counts before `after`.", example = "170")),
    responses(
        (status = 101, description = "They come over a WebSocket."),
        (status = 200, description = "The events.", body = Event, content_type = "text/event-stream"),
        (status = 503, description = "As many listen as can.", body = ProblemDocument,
            content_type = "application/problem+json"),
    ))]
pub(super) async fn events(
    api: Asker,
    headers: HeaderMap,
    Upgrade(upgrade): Upgrade,
    place: Option<Extension<Place>>,
    Parameters(query): Parameters<EventsQuery>,
) -> Result<Response, Problem> {
    let choice = Choice::new(query.kind.as_deref(), query.queue, query.job, query.actor.as_deref())?;
    let choice = choice.within(api.grant())?;
    // What a browser sends when it comes back is newer than the address that it first asked for.
    let last = headers.get(LAST_EVENT_ID).map(|last| last.to_str().unwrap_or("?")).filter(|last| !last.is_empty());
    let after = last.or(query.after.as_deref()).map(number).transpose()?;
    let is_followed = query.follow.unwrap_or(true);
    if !is_followed && after.is_none() {
        return Err(Problem::new(
            Kind::BadParameter,
            "\"follow=false\" tells what is past, and wants to know from where on",
        )
        .hint("write after=0 for all that is there, or the id of the last event that you got"));
    }
    // Who ends with what is there is woken by all of it.
    let wants = if is_followed { choice.wants() } else { Wants::ALL };
    let join = |engine: &mut Engine| api.events.join(engine, after, Reader::Client, wants);
    let (joined, depends_on) = api.host.with_and_wait(|shared, _| (join(&mut shared.engine), true));
    let Some(joined) = joined else {
        return Err(Problem::new(Kind::Busy, "there are as many listeners as there can be"));
    };
    let listener = Listener::new(api.shared(), Some(api.grant().clone()), choice, joined);
    let listener = if is_followed { listener } else { listener.until_now() };
    api.leaves(depends_on).await;
    if let Some(upgrade) = upgrade {
        return Ok(socket::answer(upgrade, listener, place.map(|Extension(place)| place)));
    }
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // A proxy that collects an answer before it goes on would hold events back.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((head, axum::body::Body::new(Events::of(listener))).into_response())
}

/// The wish of a client to go on with messages, if it has that.
pub(super) struct Upgrade(Option<WebSocketUpgrade>);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Upgrade, Problem> {
        let mut wished = parts.headers.get_all(header::UPGRADE).iter();
        if !wished.any(|wish| wish.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Ok(Upgrade(None));
        }
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
        let upgrade = upgrade.map_err(|refused| Problem::new(Kind::MalformedRequest, refused.body_text()))?;
        Ok(Upgrade(Some(upgrade)))
    }
}

fn number(text: &str) -> Result<u64, Problem> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| {
        Problem::new(Kind::BadParameter, format!("{text:?} is not the number of an event"))
            .hint("write the id of the last event that you got, or 0 for all that are there")
    })
}

/// How long those who listen are left alone once they were woken, for each of them. Waking one takes about a tenth of it, so
/// that thousands who listen leave the server to those who work.
const REST: Duration = Duration::from_micros(10);

/// The same for each of those who listen and were only looked at.
const LOOK_REST: Duration = Duration::from_nanos(100);

/// In how many groups those are woken who are: one group behind the other.
const GROUPS: usize = 64;

/// Rests shorter than this are none.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// Brings news to the ring until the server stops, or the log failed.
pub(super) async fn publish(api: &Api) {
    loop {
        tokio::select! {
            biased;
            () = api.stops() => return,
            () = api.events.is_left() => {
                api.host.with(|shared, _| api.events.close(&mut shared.engine));
                continue;
            }
            () = api.host.has_news() => {}
        }
        let woken = match api.host.take_news().await {
            Ok(taken) => api.events.publish(taken),
            Err(_) => return,
        };
        let times = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let rest = REST.saturating_mul(times(woken.len())) + LOOK_REST.saturating_mul(times(api.events.listeners()));
        for group in woken.chunks(woken.len().div_ceil(GROUPS).max(1)) {
            group.iter().for_each(|bell| bell.notify_one());
            if rest >= SHORTEST_REST {
                // Those who were woken go next; then those who came with work meanwhile, before the next group.
                tokio::task::yield_now().await;
            }
        }
        if rest >= SHORTEST_REST {
            tokio::time::sleep(rest).await;
        }
    }
}
