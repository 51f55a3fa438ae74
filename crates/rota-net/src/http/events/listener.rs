//! One who listens: a place in the ring, and what comes next there; whichever way it is then told.
//!
//! It is asked for the next part when there is room for it. Whoever takes nothing does not ask, and falls behind until the ring
//! is past them; the connection ends them if they take nothing at all. It ends by itself when the server stops, and when
//! the token that it was asked for with is valid no more.

use super::super::access::Grant;
use super::super::api::Api;
use super::choice::Choice;
use super::ring::{Joined, Read, Told};
use rota_engine::news::News;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long nothing may be said.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// About how much is said in one part, in bytes.
const PART_BYTES: usize = 32 << 10;

pub(super) struct Listener {
    api: Arc<Api>,
    grant: Grant,
    /// Whether it may be that the grant is so no more.
    changes: watch::Receiver<u64>,
    choice: Choice,
    /// The place to read from.
    next: u64,
    /// The number of the last event that was passed.
    seen: u64,
    end: watch::Receiver<u64>,
    /// What is said first.
    opening: Option<Opening>,
    /// When something is to be said again.
    speaks_by: Instant,
    is_over: bool,
}

/// Where somebody begins to listen.
#[derive(Debug)]
pub(super) struct Opening {
    /// The number after which it begins.
    pub(super) seen: u64,
    /// Whether some are gone since the number that was asked for.
    pub(super) is_gone: bool,
    /// Whether the server was started since.
    pub(super) restarted: bool,
    /// That start, if it was chosen.
    pub(super) started: Option<News>,
}

/// The next part of what is told.
#[derive(Debug)]
pub(super) enum Heard {
    Opening(Opening),
    /// Events that were chosen, at least one.
    Events(Vec<Arc<Told>>),
    /// Nothing came for a while; the number of the last event that was passed.
    Quiet(u64),
    /// The ring went on without it, after the event of that number. It is the last part.
    Lagged(u64),
}

impl Listener {
    pub(super) fn new(api: Arc<Api>, grant: Grant, choice: Choice, joined: Joined) -> Listener {
        let Joined { next, seen, is_gone, started, end } = joined;
        let restarted = started.is_some();
        let started = started.filter(|started| choice.takes(started));
        let opening = Some(Opening { seen, is_gone, restarted, started });
        let changes = api.door.changes();
        let speaks_by = Instant::now() + HEARTBEAT;
        Listener { api, grant, changes, choice, next, seen, end, opening, speaks_by, is_over: false }
    }

    /// The next part of what is told, waited for; `None` at the end. Nothing is lost if it is not waited for to the end.
    pub(super) async fn hear(&mut self) -> Option<Heard> {
        if self.is_over {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            // It may have been revoked between the question and here.
            self.changes.mark_changed();
            return Some(Heard::Opening(opening));
        }
        loop {
            if self.changes.has_changed().unwrap_or(false) {
                self.changes.mark_unchanged();
                self.api.door.renew(&self.grant).ok()?;
            }
            match self.api.events.read(self.next, |news| self.choice.takes(news), PART_BYTES) {
                Read::Next { chosen, next, seen } => {
                    self.next = next;
                    self.seen = seen.unwrap_or(self.seen);
                    if !chosen.is_empty() {
                        self.speaks_by = Instant::now() + HEARTBEAT;
                        return Some(Heard::Events(chosen));
                    }
                    if seen.is_some() {
                        // Others want to go on, too, where there is much that this one does not want.
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                Read::Lagged => {
                    self.is_over = true;
                    return Some(Heard::Lagged(self.seen));
                }
            }
            let next = self.next;
            tokio::select! {
                () = self.api.stops() => return None,
                more = self.end.wait_for(|end| *end > next) => drop(more.ok()?),
                changed = self.changes.changed() => match changed {
                    Ok(()) => self.changes.mark_changed(),
                    Err(_) => return None,
                },
                () = tokio::time::sleep_until(self.speaks_by) => {
                    self.speaks_by = Instant::now() + HEARTBEAT;
                    return Some(Heard::Quiet(self.seen));
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.api.events.leave();
    }
}
