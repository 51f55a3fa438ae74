//! Webhooks: addresses that are called with what happens: set up, looked at, paused, tried, deleted.
//!
//! ```text
//! Ring of events ──► Following ──► Delivery, a task each ──► Webhooks::call ──► somebody's server
//!                                      │ how far it is
//!                                      ▼
//!                                    Book ──► Webhooks::keep, keep_places
//! ```
//!
//! Delivery is at least once and in order: a batch is called with until it is taken, and only then the next. Where they are kept
//! and how an address is called is the binary's business, which hands in a [`Webhooks`](outside::Webhooks).

mod book;
mod course;
mod deliver;
pub(super) mod hook;
pub(super) mod outside;

use super::answer;
use super::api::Asker;
use super::fields::{Moment, Name, Span};
use super::problem::{Kind, Problem};
use super::request::{Json, OptionalJson, WebhookInPath};
use axum::http::StatusCode;
use axum::response::Response;
use book::{By, Seen, Wish};
use course::{Attempt, Outcome, now_in_words, wall_now};
use hook::Pause;
use rota_engine::session::Actor;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Instant;
use utoipa::ToSchema;

pub(super) use book::{Book, begin, keep_places};
pub use course::WebhookFigures;

/// A webhook to set up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    /// What is called: an address of http or https, without a user, a password or a fragment.
    #[schema(max_length = 2000, pattern = "^https?://[^/@#]+(/[^#]*)?$", example = "https://example.com/rota")]
    url: String,
    /// Kinds of events: `job.failed`, or `job.*` for all that begin so; all of them unless told.
    #[schema(min_items = 1, max_items = 64, example = json!(["job.failed", "job.buried"]))]
    events: Option<Vec<String>>,
    /// Only events of these queues and their jobs: names, in which `*` stands for anything.
    #[schema(min_items = 1, max_items = 64, example = json!(["mail*"]))]
    queues: Option<Vec<String>>,
    /// What calls are signed with: `whsec_` and 24 to 64 bytes in base64. As before, or made by the server, unless told.
    #[schema(example = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")]
    secret: Option<String>,
    /// Whether it waits until it is resumed; as before, or not, unless told.
    paused: Option<bool>,
    /// Go on after the event of this number; as before, or from now on, unless told.
    #[schema(pattern = "^[0-9]+$", example = "170")]
    after: Option<String>,
}

/// Another secret for a webhook. Without `Debug`: nothing prints it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSecret)]
pub(super) struct Rotate {
    /// The secret: `whsec_` and 24 to 64 bytes in base64. Made by the server unless told.
    #[schema(example = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=")]
    secret: Option<String>,
    /// How long the one from before signs along, `"0s"` for not at all; until it is dropped unless told.
    #[schema(example = "24h")]
    keep: Option<Span>,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct ShownWebhook {
    name: Name,
    url: String,
    events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    queues: Option<Vec<String>>,
    /// The secret, if the server has just made it. It is not shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
    /// That a secret from before signs along.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret: Option<OldSecret>,
    /// Whether it waits until it is resumed.
    paused: bool,
    /// Why it does: `asked`, or `gone` where its address answered 410.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "gone")]
    paused_because: Option<&'static str>,
    created_at: Moment,
    /// Everything that was chosen was delivered up to the event of this number.
    #[schema(pattern = "^[0-9]+$", example = "170")]
    seq: String,
    /// How old the oldest event is that it is being called with.
    lag: Span,
    /// Events that were delivered since the server was started.
    delivered: u64,
    /// Calls since then.
    calls: Calls,
    /// Calls in a row that failed.
    failures: u32,
    /// The last call.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
    /// When the next try is, while it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<Moment>,
}

/// A secret from before, which is not shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookOldSecret)]
struct OldSecret {
    /// When another one took its place.
    since: Moment,
    /// Until when it signs along; until it is dropped, if that is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Moment>,
}

/// Calls by what came of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookCalls)]
struct Calls {
    /// Answered with 2xx.
    delivered: u64,
    /// Answered otherwise.
    refused: u64,
    /// Not answered.
    unanswered: u64,
    /// Not made: the address leads where webhooks may not go.
    forbidden: u64,
}

/// What came of a call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookCall)]
struct Last {
    at: Moment,
    /// `delivered`, `refused`, `unanswered`, or `forbidden` where it leads to an address that webhooks may not go to.
    #[schema(example = "delivered")]
    outcome: &'static str,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// Why it was not delivered: the begin of what was answered, or what the system said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
}

/// All webhooks, by name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhooks)]
pub(super) struct List {
    webhooks: Vec<ShownWebhook>,
}

/// What came of a try.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookTest)]
pub(super) struct Tried {
    /// Whether it was answered with 2xx.
    delivered: bool,
    call: Last,
    /// How long it took.
    took: Span,
}

impl ShownWebhook {
    fn of(Seen { webhook, course }: Seen) -> ShownWebhook {
        let calls = |outcome: Outcome| course.calls[outcome as usize];
        let queues: Vec<String> = webhook.queues.iter().map(ToString::to_string).collect();
        ShownWebhook {
            name: Name(webhook.name.clone()),
            url: webhook.url.to_string(),
            events: webhook.events.clone(),
            queues: Some(queues).filter(|queues| !queues.is_empty()),
            secret: None,
            old_secret: webhook
                .old_secret(wall_now())
                .map(|old| OldSecret { since: Moment(old.since), until: old.until.map(Moment) }),
            paused: webhook.pause.is_some(),
            paused_because: webhook.pause.map(|pause| match pause {
                Pause::Asked => "asked",
                Pause::Gone => "gone",
            }),
            created_at: Moment(webhook.created_at),
            seq: course.seq.to_string(),
            lag: Span::measured(course.lag()),
            delivered: course.delivered,
            calls: Calls {
                delivered: calls(Outcome::Delivered),
                refused: calls(Outcome::Refused),
                unanswered: calls(Outcome::Unanswered),
                forbidden: calls(Outcome::Forbidden),
            },
            failures: course.failures,
            next_try: course.next_try.map(Moment),
            last: course.last.map(Last::of),
        }
    }
}

impl Last {
    fn of(attempt: Attempt) -> Last {
        let Attempt { at, outcome, status, error } = attempt;
        Last { at: Moment(at), outcome: outcome.name(), status, error }
    }
}

/// In whose name whoever asks does so.
fn asker(api: &Asker) -> Option<Actor> {
    api.grant().actor().cloned()
}

/// Sets a webhook up
///
/// Whether it is there or not. Its address is called with `POST` and a JSON object, `{"webhook": …, "events": […]}`: events as
/// `/v1/events` has them, at most 100 at once, in their order, signed as Standard Webhooks says, again until it answers 2xx. It
/// may go to addresses that anybody can reach, and to those that the server was told to allow (`--webhook-allow`). One
/// that is there keeps its place, its secret and its pause where they are not named; the rest is as if it had never been set.
#[utoipa::path(put, path = "/v1/webhooks/{webhook}", tag = "webhooks", operation_id = "setWebhook",
    params(("webhook" = Name, Path, description = "Its name.")), request_body = NewWebhook,
    responses(
        (status = 201, description = "It is there now. Where no secret was named, the answer has the one that was made.",
            body = ShownWebhook),
        (status = 200, description = "It is there as before, or was changed.", body = ShownWebhook),
    ))]
pub(super) async fn set(
    api: Asker,
    WebhookInPath(name): WebhookInPath,
    Json(new): Json<NewWebhook>,
) -> Result<Response, Problem> {
    let after = new.after.as_deref().map(|after| {
        let is_number = !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit());
        after.parse().ok().filter(|_| is_number).ok_or_else(|| {
            let problem = Problem::new(Kind::BadValue, "that is not the number of an event").at("/after");
            problem.hint("write the number of the last event that is not wanted, or \"0\" for all that are there")
        })
    });
    if new.queues.as_ref().is_some_and(Vec::is_empty) {
        let problem = Problem::new(Kind::BadValue, "the list of queues is empty").at("/queues");
        return Err(problem.hint("leave it away for all, or write names: [\"mail*\"]"));
    }
    let wish = Wish {
        name,
        url: new.url,
        events: new.events.unwrap_or_else(|| vec![String::from("*")]),
        queues: new.queues.unwrap_or_default(),
        secret: new.secret,
        paused: new.paused,
        after: after.transpose()?,
    };
    let set = book::set(&api.shared(), wish, asker(&api)).await?;
    let status = if set.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, &ShownWebhook { secret: set.made, ..ShownWebhook::of(set.seen) }))
}

/// Lists webhooks
///
/// All of them, by name; there are at most 100.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", operation_id = "listWebhooks",
    responses((status = 200, description = "The list.", body = List)))]
pub(super) async fn list(api: Asker) -> Result<Response, Problem> {
    let webhooks = api.webhooks.all().into_iter().map(ShownWebhook::of).collect();
    Ok(answer(StatusCode::OK, &List { webhooks }))
}

/// Shows a webhook
///
/// How far it is, and what came of its last call.
#[utoipa::path(get, path = "/v1/webhooks/{webhook}", tag = "webhooks", operation_id = "getWebhook",
    params(("webhook" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The webhook.", body = ShownWebhook)))]
pub(super) async fn show(api: Asker, WebhookInPath(name): WebhookInPath) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &ShownWebhook::of(api.webhooks.find(&name)?)))
}

/// Deletes a webhook
///
/// A call that is under way is called off.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook}", tag = "webhooks", operation_id = "deleteWebhook",
    params(("webhook" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The webhook as it was.", body = ShownWebhook)))]
pub(super) async fn delete(api: Asker, WebhookInPath(name): WebhookInPath) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &ShownWebhook::of(book::remove(&api.shared(), &name, asker(&api)).await?)))
}

/// Has a webhook wait
///
/// Until it is resumed. A call that is under way is called off, and made again then.
#[utoipa::path(post, path = "/v1/webhooks/{webhook}/pause", tag = "webhooks", operation_id = "pauseWebhook",
    params(("webhook" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The webhook as it is now.", body = ShownWebhook)))]
pub(super) async fn pause(api: Asker, WebhookInPath(name): WebhookInPath) -> Result<Response, Problem> {
    let seen = book::set_pause(&api.shared(), &name, Some(Pause::Asked), By::Asker(asker(&api))).await?;
    Ok(answer(StatusCode::OK, &ShownWebhook::of(seen)))
}

/// Has a webhook go on where it stopped
///
/// At once: also one that is not paused, and waits to try again. What is gone since it was paused it is told.
#[utoipa::path(post, path = "/v1/webhooks/{webhook}/resume", tag = "webhooks", operation_id = "resumeWebhook",
    params(("webhook" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The webhook as it is now.", body = ShownWebhook)))]
pub(super) async fn resume(api: Asker, WebhookInPath(name): WebhookInPath) -> Result<Response, Problem> {
    let seen = book::set_pause(&api.shared(), &name, None, By::Asker(asker(&api))).await?;
    Ok(answer(StatusCode::OK, &ShownWebhook::of(seen)))
}

/// Gives a webhook another secret
///
/// Calls are signed with both, as Standard Webhooks has it, until the one from before is dropped or its time is over: so whoever is
/// called can learn the new one meanwhile. It tries again at once. While a secret from before signs along there is no third.
#[utoipa::path(post, path = "/v1/webhooks/{webhook}/rotate", tag = "webhooks", operation_id = "rotateWebhookSecret",
    params(("webhook" = Name, Path, description = "Its name.")), request_body = Option<Rotate>,
    responses((status = 200, description = "The webhook as it is now. Where no secret was named, it has the one that was made.",
        body = ShownWebhook)))]
pub(super) async fn rotate(
    api: Asker,
    WebhookInPath(name): WebhookInPath,
    OptionalJson(Rotate { secret, keep }): OptionalJson<Rotate>,
) -> Result<Response, Problem> {
    let (seen, made) = book::rotate(&api.shared(), &name, secret, keep.map(|Span(keep)| keep), asker(&api)).await?;
    Ok(answer(StatusCode::OK, &ShownWebhook { secret: made, ..ShownWebhook::of(seen) }))
}

/// Has a webhook sign with its newest secret alone
///
/// Whether one from before signed along or not. It tries again at once.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook}/old-secret", tag = "webhooks", operation_id = "dropWebhookOldSecret",
    params(("webhook" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "The webhook as it is now.", body = ShownWebhook)))]
pub(super) async fn drop_old_secret(api: Asker, WebhookInPath(name): WebhookInPath) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &ShownWebhook::of(book::drop_old_secret(&api.shared(), &name, asker(&api)).await?)))
}

/// Calls a webhook once, to try it
///
/// Paused or not, beside what is delivered to it, with one event of the kind `webhook.test` that has no number.
#[utoipa::path(post, path = "/v1/webhooks/{webhook}/test", tag = "webhooks", operation_id = "testWebhook",
    params(("webhook" = Name, Path, description = "Its name.")),
    responses((status = 200, description = "What came of it, whether it was delivered or not.", body = Tried)))]
pub(super) async fn test(api: Asker, WebhookInPath(name): WebhookInPath) -> Result<Response, Problem> {
    let webhook = api.webhooks.find(&name)?.webhook;
    let _place = api
        .webhooks
        .tests
        .try_acquire()
        .map_err(|_| Problem::new(Kind::Busy, "as many webhooks are being tried as can be at a time"))?;
    let event = json!({ "kind": "webhook.test", "at": now_in_words() }).to_string();
    let body = deliver::body(&webhook, std::iter::once(event.as_str()));
    let since = Instant::now();
    let calling = api.webhooks.outside.call(deliver::call(&webhook, format!("{name}-test"), body.into()));
    let called = tokio::select! {
        called = calling => called,
        () = api.stops() => return Err(Problem::new(Kind::Stopping, "the server stops")),
    };
    let attempt = Attempt::of(&called);
    let delivered = attempt.outcome == Outcome::Delivered;
    Ok(answer(StatusCode::OK, &Tried { delivered, call: Last::of(attempt), took: Span::measured(since.elapsed()) }))
}
