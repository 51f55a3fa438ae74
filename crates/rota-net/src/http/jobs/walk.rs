//! A walk over the jobs in memory, or over those that a filter names, a slice under one lock: what lists and verbs for many jobs
//! have in common.
//!
//! It goes by the places of jobs, which they keep. Where a filter says in which queues or states its jobs are, and few are
//! there beside all others, the lines in which those stand are read first, and the walk looks at no other place: it comes to the
//! same jobs, in the same order, and any place is one to go on from, whichever way it was come to.

#[cfg(test)]
mod tests;

use crate::filter::Filter;
use crate::http::access::Grant;
use crate::http::api::{Asker, Desk};
use crate::http::jobs::cursor::{Cursor, List};
use crate::http::problem::{Kind, Problem};
use rota_engine::command::JobView;
use rota_engine::engine::Engine;
use rota_engine::far::Want;
use rota_engine::job::JobId;
use rota_engine::limits::{LINES_READ, LOOKED_UP_TOGETHER, SLICE_TEXT_BYTES, STEP_OBJECTS};
use rota_engine::lines::Lines;
use rota_engine::session::SessionId;

/// The most places that a walk has in mind at a time.
const PLACES_KEPT: usize = 20 * STEP_OBJECTS;

/// Lines are read where that is no more than a part of all jobs, one in so many: else a walk over all of them comes across
/// those that are meant often enough.
const ONE_IN: u64 = 8;

/// Which jobs, and how far the walk is.
pub(super) struct Walk<'a> {
    filter: &'a Filter,
    grant: &'a Grant,
    ground: Ground,
    /// The next place to look at: among the named ones, or the engine's.
    place: u32,
    /// Nobody is left to be looked at.
    pub(super) is_over: bool,
}

/// Where a walk looks.
#[derive(Debug)]
enum Ground {
    /// At the only jobs that can be meant, rising, in memory or not.
    Named(Vec<JobId>),
    /// At all that are in memory, unless lines can be read instead: that is to be found out first.
    Unknown,
    /// At all that are in memory.
    All,
    /// At the only places where some can be that are meant, rising; behind the last there are none, or that is to be found
    /// out when it is there.
    Places { places: Vec<u32>, are_all: bool },
}

impl<'a> Walk<'a> {
    /// A walk over the jobs that the filter means and the grant reaches, from where a page before this one ended.
    ///
    /// # Errors
    /// [`Problem`] if the cursor is of another list, or of an earlier start.
    pub(super) fn new(
        filter: &'a Filter,
        grant: &'a Grant,
        cursor: Option<&str>,
        list: &List<'_>,
        epoch: u32,
    ) -> Result<Walk<'a>, Problem> {
        let place = match cursor {
            Some(cursor) => u32::try_from(Cursor::read(cursor, list, epoch)?).map_err(|_| Cursor::foreign())?,
            None => 0,
        };
        let ground = match filter.named() {
            Some(named) => Ground::Named(named),
            None if filter.has_lines() || grant.is_limited() => Ground::Unknown,
            None => Ground::All,
        };
        Ok(Walk { filter, grant, ground, place, is_over: false })
    }

    /// The jobs of the next slice that may have to be brought near before; none where it goes by what is in memory.
    fn next_named(&self) -> Vec<JobId> {
        let Ground::Named(named) = &self.ground else { return Vec::new() };
        named.iter().skip(self.place as usize).take(LOOKED_UP_TOGETHER).copied().collect()
    }

    /// Works on the next slice without changing anything.
    ///
    /// # Errors
    /// [`Problem`], if jobs are named and the server stops before they are looked up.
    pub(super) async fn look(&mut self, api: &Asker, work: impl FnOnce(&mut Self, &Engine)) -> Result<(), Problem> {
        if matches!(self.ground, Ground::Named(_)) {
            return self.decide(api, |walk, desk| work(walk, &desk.shared().engine)).await;
        }
        self.find_out(api);
        api.look(|shared| work(self, &shared.engine)).await;
        Ok(())
    }

    /// Works on the next slice, and decides commands.
    ///
    /// # Errors
    /// [`Problem`], if the server stops before it comes to that.
    pub(super) async fn decide(
        &mut self,
        api: &Asker,
        work: impl FnOnce(&mut Self, &mut Desk<'_>),
    ) -> Result<(), Problem> {
        self.find_out(api);
        let named = self.next_named();
        api.decide(wanted(&named), |desk| work(self, desk)).await
    }

    /// Finds out where to look, if that is not known: under a lock of its own, and sorted when that is gone.
    fn find_out(&mut self, api: &Asker) {
        if !matches!(self.ground, Ground::Unknown) {
            return;
        }
        let (places, _) = api.host.with(|shared, now| {
            if !shared.is_frozen {
                shared.engine.tick(now);
            }
            self.read_lines(&shared.engine, most_read(&shared.engine))
        });
        self.go_through(places);
    }

    /// The places where jobs can be that are meant, in no order; none where that is more than so many to read.
    fn read_lines(&self, engine: &Engine, most: usize) -> Option<Vec<u32>> {
        let (queues, keys) = (self.filter.queues(), self.filter.keys());
        let lines = Lines {
            queues: queues.as_deref(),
            takes_queue: &|queue| self.grant.covers(queue) && self.filter.takes_queue(queue),
            takes_state: &|state| self.filter.takes_state(state),
            keys: keys.as_deref(),
        };
        engine.places_in(&lines, self.place, most)
    }

    /// Goes on through those places alone; through all where there are none told.
    fn go_through(&mut self, places: Option<Vec<u32>>) {
        self.ground = match places {
            None => Ground::All,
            Some(mut places) => {
                places.sort_unstable();
                places.dedup();
                let are_all = places.len() <= PLACES_KEPT;
                places.truncate(PLACES_KEPT);
                places.shrink_to_fit();
                Ground::Places { places, are_all }
            }
        };
    }

    /// Looks at the next jobs, at most [`STEP_OBJECTS`] of them and about [`SLICE_TEXT_BYTES`] of what they say, and calls
    /// `each` with those that are meant and the place behind each, until it says that it has enough.
    pub(super) fn slice(&mut self, engine: &Engine, mut each: impl FnMut(&JobView<'_>, u32) -> bool) {
        let mut looked_through = 0;
        let now = engine.now();
        let mut goes_on = |job: &JobView<'_>, behind| {
            let is_meant = self.grant.covers(job.queue) && self.filter.takes(job, now, &mut looked_through);
            (!is_meant || each(job, behind)) && looked_through < SLICE_TEXT_BYTES
        };
        match &self.ground {
            Ground::Named(named) => {
                for &job in named.iter().skip(self.place as usize).take(LOOKED_UP_TOGETHER) {
                    self.place += 1;
                    if engine.job(job).is_some_and(|job| !goes_on(&job, self.place)) {
                        break;
                    }
                }
                self.is_over = self.place as usize >= named.len();
            }
            Ground::Unknown | Ground::All => {
                for (behind, job) in engine.jobs_from(self.place).take(STEP_OBJECTS) {
                    self.place = behind;
                    if !goes_on(&job, behind) {
                        break;
                    }
                }
                self.is_over = engine.jobs_from(self.place).next().is_none();
            }
            Ground::Places { places, are_all } => {
                let passed = places.partition_point(|&place| place < self.place);
                for &place in places[passed..].iter().take(STEP_OBJECTS) {
                    self.place = place.saturating_add(1);
                    if engine.job_at(place).is_some_and(|job| !goes_on(&job, self.place)) {
                        break;
                    }
                }
                let are_passed = places.last().is_none_or(|&last| last < self.place);
                self.is_over = are_passed && *are_all;
                if are_passed && !are_all {
                    self.ground = Ground::Unknown;
                }
            }
        }
    }

    /// Goes back to a place behind a job of the last slice.
    pub(super) fn go_back(&mut self, place: u32) {
        if place != self.place {
            (self.place, self.is_over) = (place, false);
        }
    }

    /// Where to go on; none at the end.
    pub(super) fn cursor(&self, list: &List<'_>, epoch: u32) -> Option<String> {
        (!self.is_over).then(|| Cursor::write(list, epoch, self.place.into()))
    }
}

/// The most that is read of lines, in places.
fn most_read(engine: &Engine) -> usize {
    usize::try_from(engine.jobs_in_memory() / ONE_IN).unwrap_or(usize::MAX).min(LINES_READ)
}

/// What has to be looked up before those jobs are looked at.
fn wanted(named: &[JobId]) -> impl Fn(&Engine, SessionId) -> Vec<Want> + '_ {
    |engine, _| named.iter().filter_map(|&job| engine.wanted_job(job)).collect()
}

/// A filter as it was sent.
///
/// # Errors
/// [`Problem`] that says where it is wrong.
pub(super) fn read_filter(text: &str) -> Result<Filter, Problem> {
    text.parse().map_err(|error: crate::filter::FilterError| {
        let problem = Problem::new(Kind::BadFilter, format!("the filter: {error}")).hint(error.hint());
        match error.at() {
            Some(at) => problem.at_place(1, at),
            None => problem,
        }
    })
}
