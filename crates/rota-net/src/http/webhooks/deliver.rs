//! The delivery to one webhook: a task that follows the events, and calls with a batch of them at a time, in their order, again
//! and again until it is taken.
//!
//! It ends when the server does, and when it is dropped: at a pause, a change or the end of its webhook. What was under way then
//! is called with again.

use super::super::api::Api;
use super::super::events::{Followable, Followed, Following};
use super::book::{By, set_pause};
use super::course::{Attempt, Course, Outcome, moment_in, wall_now};
use super::hook::{Pause, Webhook};
use super::outside::{Call, Called};
use rota_engine::limits::{WEBHOOK_BATCH_BYTES, WEBHOOK_BATCH_EVENTS};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the first wait after a failure may be, and the longest; each may be twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The longest wait that an answer may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The status of an address that is to be called no more.
const GONE: u16 = 410;

/// The delivery to one webhook.
pub(super) struct Delivery {
    pub(super) api: Arc<Api>,
    pub(super) webhook: Arc<Webhook>,
    pub(super) course: Arc<Mutex<Course>>,
    pub(super) following: Following,
}

impl Delivery {
    pub(super) async fn run(mut self) {
        let api = self.api.clone();
        tokio::select! {
            biased;
            () = api.stops() => {}
            () = self.deliver() => {}
        }
    }

    async fn deliver(&mut self) {
        while let Some(followed) = self.following.next().await {
            match followed {
                Followed::Passed(seq) => {
                    let before = std::mem::replace(&mut self.course().seq, seq);
                    if before != seq {
                        self.api.webhooks.moved.notify_one();
                    }
                }
                Followed::Events(events) => {
                    let mut rest = &events[..];
                    while !rest.is_empty() {
                        let batch;
                        (batch, rest) = rest.split_at(batch_length(rest));
                        if !self.deliver_batch(batch).await {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Calls with a batch until it is taken. False if the webhook is to be called no more.
    async fn deliver_batch(&mut self, batch: &[Followable]) -> bool {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return true };
        // That some are gone is news of this moment.
        self.course().oldest = batch.iter().find_map(|event| event.at).or_else(|| Some(wall_now()));
        let body: Arc<str> = body(&self.webhook, batch.iter().map(Followable::text)).into();
        let id = format!("{}-{}", self.webhook.name, first.seq);
        loop {
            let calling = self.api.webhooks.outside.call(call(&self.webhook, id.clone(), body.clone()));
            let called = self.following.meanwhile(calling).await;
            let attempt = Attempt::of(&called);
            let is_delivered = attempt.outcome == Outcome::Delivered;
            {
                let mut course = self.course();
                course.note(attempt);
                if is_delivered {
                    (course.seq, course.oldest) = (last.seq, None);
                    course.delivered += batch.len() as u64;
                }
            }
            if is_delivered {
                self.api.webhooks.moved.notify_one();
                return true;
            }
            if matches!(called, Called::Answered { status: GONE, .. }) {
                let by = By::Delivery(self.course.clone());
                set_pause(&self.api, &self.webhook.name, Some(Pause::Gone), by).await.ok();
                return false;
            }
            let wait = self.wait(&called);
            self.course().next_try = Some(moment_in(wait));
            self.following.meanwhile(tokio::time::sleep(wait)).await;
        }
    }

    /// How long to wait after a failure: anything up to a bound that doubles, so that many do not come back at once; longer
    /// where the answer asks for it.
    fn wait(&self, called: &Called) -> Duration {
        let doublings = self.course().failures.saturating_sub(1).min(16);
        let most = (FIRST_WAIT * (1 << doublings)).min(LONGEST_WAIT);
        let chance =
            self.api.webhooks.outside.random().map_or(u32::MAX, |[a, b, c, d, ..]| u32::from_le_bytes([a, b, c, d]));
        let wait = most.mul_f64(f64::from(chance) / f64::from(u32::MAX));
        match called {
            Called::Answered { retry_after: Some(asked), .. } => wait.max((*asked).min(LONGEST_ASKED)),
            _ => wait,
        }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of a webhook, to be made now.
pub(super) fn call(webhook: &Webhook, id: String, body: Arc<str>) -> Call {
    Call { url: webhook.url.clone(), id, secrets: webhook.secrets(wall_now()), body }
}

/// What a webhook is called with: events, each as JSON.
pub(super) fn body<'a>(webhook: &Webhook, events: impl Iterator<Item = &'a str>) -> String {
    let events = events.collect::<Vec<_>>().join(",");
    format!("{{\"webhook\":{},\"events\":[{events}]}}", json!(webhook.name.as_str()))
}

/// How many of the events are one batch: at least one.
fn batch_length(events: &[Followable]) -> usize {
    let mut bytes = 0;
    let fits = |event: &&Followable| {
        bytes += event.text().len();
        bytes <= WEBHOOK_BATCH_BYTES
    };
    events.iter().take(WEBHOOK_BATCH_EVENTS).take_while(fits).count().max(1)
}
