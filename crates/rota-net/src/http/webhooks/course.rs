//! How a webhook does: how far it is, what came of its calls.

use super::super::fields::Moment;
use super::outside::Called;
use jiff::Timestamp;
use rota_engine::job::Time;
use std::time::Duration;

/// The most that is kept of why a call failed, in characters.
const ERROR_CHARS: usize = 200;

/// What can come of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It was answered with 2xx.
    Delivered,
    /// It was answered otherwise.
    Refused,
    /// It was not answered.
    Unanswered,
    /// It was not made: where the address leads webhooks may not go.
    Forbidden,
}

/// How a webhook does. It begins anew with the server, but for `seq`.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// Everything that was chosen was delivered up to the event of that number.
    pub(super) seq: u64,
    /// Events that were delivered.
    pub(super) delivered: u64,
    /// Calls by what came of them.
    pub(super) calls: [u64; 4],
    /// Calls in a row that failed.
    pub(super) failures: u32,
    pub(super) last: Option<Attempt>,
    /// When the next try is, while it waits for that.
    pub(super) next_try: Option<Time>,
    /// When the oldest event happened that is known and not delivered.
    pub(super) oldest: Option<Time>,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) at: Time,
    pub(super) outcome: Outcome,
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
}

/// What is measured of a webhook.
#[derive(Clone, Debug)]
pub struct WebhookFigures {
    /// Its name.
    pub name: String,
    /// Calls by what came of them.
    pub calls: [(&'static str, u64); 4],
    /// Events that were delivered.
    pub delivered: u64,
    /// How old the oldest event is that is not delivered.
    pub lag: Duration,
    /// Whether it is paused.
    pub is_paused: bool,
}

impl Outcome {
    pub(super) const ALL: [Outcome; 4] =
        [Outcome::Delivered, Outcome::Refused, Outcome::Unanswered, Outcome::Forbidden];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Refused => "refused",
            Outcome::Unanswered => "unanswered",
            Outcome::Forbidden => "forbidden",
        }
    }
}

impl Attempt {
    pub(super) fn of(called: &Called) -> Attempt {
        let at = wall_now();
        let without = |outcome, error| Attempt { at, outcome, status: None, error: Some(shortened(error)) };
        match called {
            Called::Answered { status: status @ 200..300, .. } => {
                Attempt { at, outcome: Outcome::Delivered, status: Some(*status), error: None }
            }
            Called::Answered { status, said, .. } => {
                let said = said.trim();
                let error = if said.is_empty() { String::new() } else { format!(": {said}") };
                let error = Some(shortened(&format!("answered {status}{error}")));
                Attempt { at, outcome: Outcome::Refused, status: Some(*status), error }
            }
            Called::Unanswered(error) => without(Outcome::Unanswered, error),
            Called::Forbidden(error) => without(Outcome::Forbidden, error),
        }
    }
}

impl Course {
    pub(super) fn at(seq: u64) -> Course {
        Course { seq, delivered: 0, calls: [0; 4], failures: 0, last: None, next_try: None, oldest: None }
    }

    /// The same, for who begins again after the event of that number.
    pub(super) fn again(&self, seq: u64) -> Course {
        Course { seq, next_try: None, oldest: None, failures: 0, ..self.clone() }
    }

    pub(super) fn note(&mut self, attempt: Attempt) {
        self.calls[attempt.outcome as usize] += 1;
        self.failures = if attempt.outcome == Outcome::Delivered { 0 } else { self.failures.saturating_add(1) };
        self.next_try = None;
        self.last = Some(attempt);
    }

    /// How old the oldest event is that is not delivered.
    pub(super) fn lag(&self) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| wall_now().since(oldest))
    }

    pub(super) fn figures(&self, name: String, is_paused: bool) -> WebhookFigures {
        let calls = Outcome::ALL.map(|outcome| (outcome.name(), self.calls[outcome as usize]));
        WebhookFigures { name, calls, delivered: self.delivered, lag: self.lag(), is_paused }
    }
}

/// What the wall clock shows: calls are made outside of the engine's time.
pub(super) fn wall_now() -> Time {
    Time(u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default())
}

/// A moment after a span from now on.
pub(super) fn moment_in(span: Duration) -> Time {
    wall_now().after(span)
}

/// The same in text, for what is told of a test.
pub(super) fn now_in_words() -> String {
    Moment(wall_now()).to_string()
}

fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(ERROR_CHARS).collect()
}
