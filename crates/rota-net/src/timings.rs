//! How long commands and ticks took inside the engine: a sample of them, for statsd's timers.
//!
//! Off unless somebody collects: a command then costs no look at the clock.

use rota_engine::command::Command;
use std::time::{Duration, Instant};

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timed {
    /// A put.
    Put,
    /// A reserve, whatever it answers.
    Next,
    /// A delete or a cancel.
    Cancel,
    /// A passing of time.
    Tick,
}

impl Timed {
    /// All of them; the index of each is `as usize`.
    pub const ALL: [Timed; 4] = [Timed::Put, Timed::Next, Timed::Cancel, Timed::Tick];

    /// The metric's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Timed::Put => "put",
            Timed::Next => "next",
            Timed::Cancel => "cancel",
            Timed::Tick => "tick",
        }
    }

    /// What a command is timed as, if it is.
    pub(crate) fn of(command: &Command<'_>) -> Option<Timed> {
        match command {
            Command::Put(_) => Some(Timed::Put),
            Command::Reserve { .. } | Command::ReserveJob(_) => Some(Timed::Next),
            Command::Delete(_) | Command::Cancel(_) | Command::CancelKey { .. } => Some(Timed::Cancel),
            _ => None,
        }
    }
}

/// The most samples of a kind kept between two collections.
const SAMPLES: usize = 100;

/// What was timed of one kind since the last collection.
#[derive(Clone, Debug, Default)]
pub struct Sampled {
    /// How many there were.
    pub count: u64,
    /// How long the first of them took.
    pub took: Vec<Duration>,
}

/// Counts and samples by kind.
#[derive(Debug, Default)]
pub struct Timings([Sampled; 4]);

impl Timings {
    /// Notes that something took from `since` until now.
    pub fn note(&mut self, what: Timed, since: Instant) {
        let sampled = &mut self.0[what as usize];
        sampled.count += 1;
        if sampled.took.len() < SAMPLES {
            sampled.took.push(since.elapsed());
        }
    }

    /// Takes what was noted since the last call, indexed by `Timed as usize`.
    pub fn collect(&mut self) -> [Sampled; 4] {
        std::mem::take(&mut self.0)
    }
}
