//! One who listens: a place in the ring, and what comes next there; whichever way it is then told.
//!
//! It is asked for the next part when there is room for it. Whoever takes nothing does not ask, and falls behind until the ring
//! is past them; the connection ends them if they take nothing at all. Who comes back after more than the ring has reads the
//! journal first, up to where the ring is whole, and goes over to it there. It ends by itself when the server stops, and when
//! the token that it was asked for with is valid no more.

use super::super::access::Grant;
use super::super::api::Api;
use super::choice::Choice;
use super::past::{Goal, Passed, Past};
use super::ring::{Joined, Read, Reader, Told};
use crate::limits::{HEARTBEAT, PART_BYTES};
use rota_engine::news::News;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub(super) struct Listener {
    api: Arc<Api>,
    /// None where it is the server itself that listens.
    grant: Option<Grant>,
    who: Reader,
    /// Whether it may be that the grant is so no more.
    changes: watch::Receiver<u64>,
    choice: Choice,
    /// The place to read from.
    next: u64,
    /// The number of the last event that was passed.
    seen: u64,
    /// Rung when something may have come.
    bell: Arc<Notify>,
    /// Which it is of those who listen.
    id: u64,
    /// What is to be heard before what is in the ring.
    past: Option<Past>,
    /// What is said first.
    opening: Option<Opening>,
    /// This start of the server, where it was after the number that was asked for.
    started: Option<News>,
    /// The number of the newest event that there was at the begin, if it ends with that.
    ends_with: Option<u64>,
    /// The number of the newest event that there was at the begin.
    newest: u64,
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
    /// That start, if it was chosen and is not among the events that follow.
    pub(super) started: Option<News>,
    /// Whether only what is in the log follows, up to now: not that a job was reserved, for one.
    pub(super) is_from_log: bool,
}

/// The next part of what is told.
#[derive(Debug)]
pub(super) enum Heard {
    /// Where it begins; and again where it goes on, if events are gone that were asked for.
    Opening(Box<Opening>),
    /// Events that were chosen, at least one.
    Events(Vec<Arc<Told>>),
    /// Nothing came for a while; the number of the last event that was passed.
    Quiet(u64),
    /// The ring went on without it, after the event of that number. It is the last part.
    Lagged(u64),
    /// All was told that there was at the begin, up to the event of that number. It is the last part.
    End(u64),
}

impl Listener {
    pub(super) fn new(api: Arc<Api>, grant: Option<Grant>, choice: Choice, joined: Joined) -> Listener {
        let Joined { next, seen, is_gone, past, started, newest, bell, id } = joined;
        let restarted = started.is_some();
        let who = if grant.is_some() { Reader::Client } else { Reader::Server };
        let past = past.map(|goal| Past::new(Arc::clone(&api), who, choice.clone(), seen, goal));
        let opening = past.is_none().then(|| {
            let started = started.clone().filter(|started| choice.takes(started));
            Opening { seen, is_gone, restarted, started, is_from_log: false }
        });
        let mut changes = api.door.changes();
        if past.is_some() {
            // It may have been revoked between the question and here.
            changes.mark_changed();
        }
        let speaks_by = Instant::now() + HEARTBEAT;
        Listener {
            api,
            grant,
            who,
            changes,
            choice,
            next,
            seen,
            bell,
            id,
            past,
            opening,
            started,
            ends_with: None,
            newest,
            speaks_by,
            is_over: false,
        }
    }

    /// Whether it hears what is past, and others may wait for their turn.
    pub(super) fn is_in_past(&self) -> bool {
        self.past.is_some()
    }

    /// Waits until it has heard what is past for a while, and another one waits for their turn to.
    pub(super) async fn is_wanted(&self) {
        match &self.past {
            Some(past) => past.is_wanted().await,
            None => std::future::pending().await,
        }
    }

    /// The same, which ends when all was told that there was at the begin.
    pub(super) fn until_now(mut self) -> Listener {
        self.ends_with = Some(self.newest);
        self
    }

    /// The next part of what is told, waited for; `None` at the end. Nothing is lost if it is not waited for to the end.
    pub(super) async fn hear(&mut self) -> Option<Heard> {
        if self.is_over {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            // It may have been revoked between the question and here.
            self.changes.mark_changed();
            return Some(Heard::Opening(Box::new(opening)));
        }
        loop {
            if self.changes.has_changed().unwrap_or(false) {
                self.changes.mark_unchanged();
                self.grant.as_ref().map(|grant| self.api.door.renew(grant)).transpose().ok()?;
            }
            let heard = match &self.past {
                Some(_) => self.hear_past().await?,
                None => self.hear_ring().await?,
            };
            if let Some(heard) = heard {
                self.speaks_by = Instant::now() + HEARTBEAT;
                self.is_over = matches!(heard, Heard::Lagged(_) | Heard::End(_));
                return Some(heard);
            }
        }
    }

    /// What comes next in the ring; `Some(None)` if nothing of it was chosen.
    async fn hear_ring(&mut self) -> Option<Option<Heard>> {
        let ends_with = self.ends_with.unwrap_or(u64::MAX);
        if self.seen >= ends_with {
            return Some(Some(Heard::End(self.seen)));
        }
        let choose = |news: &News| news.seq <= ends_with && self.choice.takes(news);
        match self.api.events.read(self.id, self.next, choose, PART_BYTES) {
            Read::Next { chosen, next, seen } => {
                self.next = next;
                // What comes behind the end is not told.
                self.seen = seen.map_or(self.seen, |seen| seen.min(ends_with));
                if !chosen.is_empty() {
                    return Some(Some(Heard::Events(chosen)));
                }
                if seen.is_some() {
                    // Others want to go on, too, where there is much that this one does not want.
                    tokio::task::yield_now().await;
                    return Some(None);
                }
            }
            Read::Lagged => return Some(Some(Heard::Lagged(self.seen))),
        }
        tokio::select! {
            () = self.api.stops() => None,
            () = self.bell.notified() => Some(None),
            changed = self.changes.changed() => changed.ok().map(|()| {
                self.changes.mark_changed();
                None
            }),
            () = tokio::time::sleep_until(self.speaks_by) => {
                let (next, seen) = self.api.events.skip(self.id, self.next);
                self.next = next;
                self.seen = seen.unwrap_or(self.seen);
                Some(Some(Heard::Quiet(self.seen)))
            }
        }
    }

    /// What comes next in the journal; `Some(None)` if nothing of it was chosen, or the ring is next.
    async fn hear_past(&mut self) -> Option<Option<Heard>> {
        let past = self.past.as_mut()?;
        let passed = tokio::select! {
            () = self.api.stops() => return None,
            passed = past.read() => passed?,
            changed = self.changes.changed() => return changed.ok().map(|()| {
                self.changes.mark_changed();
                None
            }),
            () = tokio::time::sleep_until(self.speaks_by) => return Some(Some(Heard::Quiet(self.seen))),
        };
        let goal = past.goal();
        Some(match passed {
            Passed::Begun { is_late: true } => None,
            Passed::Begun { is_late: false } => Some(Heard::Opening(Box::new(Opening {
                seen: self.seen,
                is_gone: false,
                restarted: self.started.is_some(),
                started: None,
                is_from_log: true,
            }))),
            Passed::Gone { seen } => {
                let is_all_gone = seen.is_none();
                let seen = seen.unwrap_or(goal.below - 1).clamp(self.seen, goal.below - 1);
                // What is to be told of that start comes, or is gone.
                let started = self.started.take_if(|started| started.seq <= seen);
                self.seen = seen;
                let restarted = started.is_some() || self.started.is_some();
                let started = started.filter(|started| self.choice.takes(started));
                if is_all_gone {
                    self.go_live(goal.below);
                }
                let opening = Opening { seen, is_gone: true, restarted, started, is_from_log: true };
                Some(Heard::Opening(Box::new(opening)))
            }
            Passed::Events { told, seen, is_goal } => {
                self.seen = self.seen.max(seen);
                self.started.take_if(|started| started.seq <= self.seen);
                if is_goal {
                    self.go_live(goal.below);
                }
                (!told.is_empty()).then_some(Heard::Events(told))
            }
        })
    }

    /// Goes over to the ring, all below that number heard; unless that is further on by now.
    fn go_live(&mut self, below: u64) {
        match self.api.events.place_of(below) {
            Ok(place) => (self.next, self.past) = (place, None),
            Err(below) => {
                // What has a lower number stands before what was decided by now.
                let (until, _) = self.api.host.with(|shared, _| shared.engine.last_record());
                if let Some(past) = &mut self.past {
                    past.set_goal(Goal { until, below });
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.api.events.leave(self.id, self.who);
    }
}
