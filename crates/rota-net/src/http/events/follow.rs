//! What is heard on behalf of the server itself: events that were chosen, from a number on, and what is gone of them told as
//! one of them.
//!
//! Unlike a [`Listener`] of somebody's connection it needs no token, and has no end but the server's: where the ring went on
//! without it, it begins again, and says so. Who asks is never waited for.

use super::super::api::Api;
use super::super::problem::Problem;
use super::choice::Choice;
use super::listener::{Heard, Listener, Opening};
use super::ring::{Reader, Told};
use super::shown;
use crate::access::{Grant, Pattern, Role};
use rota_engine::engine::{DependsOn, Engine};
use rota_engine::job::Time;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long who finds no place among the listeners waits before it looks again.
const PLACE_REST: Duration = Duration::from_secs(1);

/// Which events somebody follows.
#[derive(Clone, Debug)]
pub(in crate::http) struct Chosen(Choice);

/// A place among the events that moves on.
pub(in crate::http) struct Following {
    api: Arc<Api>,
    chosen: Chosen,
    /// None where there was no place for it, or the ring went on without it.
    listener: Option<Listener>,
    /// The number of the last event that was heard of.
    after: u64,
}

/// What comes next.
pub(in crate::http) enum Followed {
    /// Events, at least one.
    Events(Vec<Followable>),
    /// Nothing that was chosen happened up to the event of that number.
    Passed(u64),
}

/// An event, or the word that some are gone.
#[derive(Clone)]
pub(in crate::http) struct Followable {
    /// Who goes on after that number misses nothing that came before this one.
    pub(in crate::http) seq: u64,
    /// When it happened; none of what is gone.
    pub(in crate::http) at: Option<Time>,
    text: Text,
}

#[derive(Clone)]
enum Text {
    Told(Arc<Told>),
    Own(Box<str>),
}

impl Chosen {
    /// Events of these kinds, each as in `?kind=`, in the queues of these patterns; none of them for all queues.
    ///
    /// # Errors
    /// Which of the kinds is none, and the [`Problem`] with it.
    pub(in crate::http) fn new(kinds: &[String], queues: &[Pattern]) -> Result<Chosen, (usize, Box<Problem>)> {
        for (at, kind) in kinds.iter().enumerate() {
            Choice::new(Some(kind), None, None, None).map_err(|problem| (at, Box::new(problem)))?;
        }
        let grant = Grant::new(&[Role::Viewer], Some(queues).filter(|queues| !queues.is_empty()));
        let choice = Choice::new(Some(&kinds.join(",")), None, None, None).and_then(|choice| choice.within(&grant));
        Ok(Chosen(choice.map_err(|problem| (0, Box::new(problem)))?))
    }
}

impl Following {
    /// Begins after the event of that number, or now. What it says may leave once that does which is answered with it. None if
    /// as many listen as can.
    pub(in crate::http) fn begin(api: &Arc<Api>, chosen: Chosen, after: Option<u64>) -> Option<(Following, DependsOn)> {
        let wants = chosen.0.wants();
        let join = |engine: &mut Engine| api.events.join(engine, after, Reader::Server, wants);
        let (joined, depends_on) = api.host.with_and_wait(|shared, _| (join(&mut shared.engine), true));
        let joined = joined?;
        let after = after.unwrap_or(joined.seen);
        let listener = Some(Listener::new(api.clone(), None, chosen.0.clone(), joined));
        Some((Following { api: api.clone(), chosen, listener, after }, depends_on))
    }

    /// Begins after the event of that number as soon as there is a place for it.
    pub(in crate::http) fn begin_late(api: &Arc<Api>, chosen: Chosen, after: u64) -> Following {
        Following { api: api.clone(), chosen, listener: None, after }
    }

    /// The number of the last event that was heard of.
    pub(in crate::http) fn after(&self) -> u64 {
        self.after
    }

    /// Waits for something else, and lets another one read what is past meanwhile, where one waits for that: what is kept in mind
    /// for it is let go of then, and read again when it is asked what comes next.
    pub(in crate::http) async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        tokio::select! {
            biased;
            done = &mut what => return done,
            () = self.is_wanted() => {}
        }
        self.listener.take_if(|listener| listener.is_in_past());
        what.await
    }

    async fn is_wanted(&self) {
        match &self.listener {
            Some(listener) => listener.is_wanted().await,
            None => std::future::pending().await,
        }
    }

    /// What comes next, waited for; `None` when the server stops.
    pub(in crate::http) async fn next(&mut self) -> Option<Followed> {
        loop {
            let Some(listener) = &mut self.listener else {
                match Following::begin(&self.api, self.chosen.clone(), Some(self.after)) {
                    Some((again, _)) => self.listener = again.listener,
                    None => tokio::time::sleep(PLACE_REST).await,
                }
                continue;
            };
            match listener.hear().await? {
                Heard::Opening(opening) => {
                    let Opening { seen, is_gone, restarted, started, is_from_log } = *opening;
                    self.after = seen;
                    let gone = is_gone.then(|| (shown::gone(seen, restarted, is_from_log).into(), None));
                    // Its own number is among those that are gone.
                    let started = started.map(|started| (shown::text(&started), Some(started.wall)));
                    let own = |(text, at)| Followable { seq: seen, at, text: Text::Own(text) };
                    let events: Vec<_> = gone.into_iter().chain(started).map(own).collect();
                    return Some(if events.is_empty() { Followed::Passed(seen) } else { Followed::Events(events) });
                }
                Heard::Events(told) => {
                    self.after = told.last().map_or(self.after, |told| told.news.seq);
                    let one = |told: Arc<Told>| Followable {
                        seq: told.news.seq,
                        at: Some(told.news.wall),
                        text: Text::Told(told),
                    };
                    return Some(Followed::Events(told.into_iter().map(one).collect()));
                }
                Heard::Quiet(seen) => {
                    self.after = seen;
                    return Some(Followed::Passed(seen));
                }
                // It has no end of its own.
                Heard::Lagged(seen) | Heard::End(seen) => (self.after, self.listener) = (seen, None),
            }
        }
    }
}

impl Followable {
    /// It as JSON, in one line.
    pub(in crate::http) fn text(&self) -> &str {
        match &self.text {
            Text::Told(told) => &told.text,
            Text::Own(text) => text,
        }
    }
}
