//! One who listens: the body of an answer that goes on as long as it may.
//!
//! The connection asks for the next part when it has room for it. Whoever takes nothing is not asked for, and falls behind
//! until the ring is past them; the connection ends them if they take nothing at all.

use super::super::api::Api;
use super::choice::Choice;
use super::ring::{Joined, Read, Told};
use super::shown;
use axum::body::Bytes;
use hyper::body::{Body, Frame};
use serde_json::json;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long nothing may be said.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// About how much is said in one part, in bytes.
const PART_BYTES: usize = 32 << 10;

pub(super) struct Listener {
    api: Arc<Api>,
    choice: Choice,
    /// The place to read from.
    next: u64,
    /// The number of the last event that was passed.
    seen: u64,
    end: watch::Receiver<u64>,
    /// What is said first.
    opening: Option<String>,
    /// When something is to be said again.
    speaks_by: Instant,
    is_over: bool,
}

impl Listener {
    pub(super) fn new(api: Arc<Api>, choice: Choice, joined: Joined) -> Listener {
        let Joined { next, seen, is_gone, started, end } = joined;
        let mut opening = String::new();
        if is_gone {
            // Whoever comes back before anything happened does not miss it again.
            let data = json!({ "kind": "gone", "seq": seen.to_string(), "restarted": started.is_some() });
            let _ = write!(opening, "id: {seen}\nevent: gone\ndata: {data}\n\n");
        } else {
            let _ = write!(opening, ": listening\nid: {seen}\n\n");
        }
        if let Some(started) = started.filter(|started| choice.takes(started)) {
            let text = shown::text(&started);
            // Its own number is among those that are gone.
            let _ = write!(opening, "id: {seen}\nevent: {}\ndata: {text}\n\n", started.kind.name());
        }
        let speaks_by = Instant::now() + HEARTBEAT;
        Listener { api, choice, next, seen, end, opening: Some(opening), speaks_by, is_over: false }
    }

    /// The next part of what is said; `None` at the end.
    async fn next(mut self) -> Option<(Bytes, Listener)> {
        if self.is_over {
            return None;
        }
        let mut said = self.opening.take().unwrap_or_default();
        while said.is_empty() {
            let (next, seen) = match self.api.events.read(self.next, |news| self.choice.takes(news), PART_BYTES) {
                Read::Next { chosen, next, seen } => {
                    chosen.iter().for_each(|told| say(&mut said, told));
                    (next, seen)
                }
                Read::Lagged => {
                    let data = json!({ "kind": "lagged", "seq": self.seen.to_string() });
                    said = format!("event: lagged\ndata: {data}\n\n");
                    self.is_over = true;
                    break;
                }
            };
            if let Some(seen) = seen {
                (self.next, self.seen) = (next, seen);
                // Others want to go on, too, where there is much that this one does not want.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = self.api.stops() => return None,
                more = self.end.wait_for(|end| *end > next) => drop(more.ok()?),
                () = tokio::time::sleep_until(self.speaks_by) => said = format!(":\nid: {}\n\n", self.seen),
            }
        }
        self.speaks_by = Instant::now() + HEARTBEAT;
        Some((Bytes::from(said), self))
    }
}

fn say(said: &mut String, told: &Told) {
    let (id, kind) = (told.news.seq, told.news.kind.name());
    let _ = write!(said, "id: {id}\nevent: {kind}\ndata: {}\n\n", told.text);
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.api.events.leave();
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Listener)>> + Send>>;

/// What a listener is told, as the body of an answer.
pub(super) struct Events(Option<Next>);

impl Events {
    pub(super) fn of(listener: Listener) -> Events {
        Events(Some(Box::pin(listener.next())))
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let said = ready!(next.as_mut().poll(context));
        self.0 = None;
        let Some((bytes, listener)) = said else { return Poll::Ready(None) };
        self.0 = Some(Box::pin(listener.next()));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
