//! A walk over the jobs in memory, or over those that a filter names, a slice under one lock: what lists and verbs for many jobs
//! have in common.

use crate::filter::Filter;
use crate::http::access::Grant;
use crate::http::api::Asker;
use crate::http::jobs::cursor::{Cursor, List};
use crate::http::problem::{Kind, Problem};
use rota_engine::command::JobView;
use rota_engine::engine::Engine;
use rota_engine::far::Want;
use rota_engine::job::JobId;
use rota_engine::limits::{LOOKED_UP_TOGETHER, SLICE_TEXT_BYTES, STEP_OBJECTS};
use rota_engine::session::SessionId;

/// Which jobs, and how far the walk is.
pub(super) struct Walk<'a> {
    filter: &'a Filter,
    grant: &'a Grant,
    /// The only jobs that can be meant, in memory or not; none where any can be.
    named: Option<Vec<JobId>>,
    /// The next place to look at: among the named ones, or the engine's.
    place: u32,
    /// Nobody is left to be looked at.
    pub(super) is_over: bool,
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
        Ok(Walk { filter, grant, named: filter.named(), place, is_over: false })
    }

    /// The jobs of the next slice that may have to be brought near before; none where it goes by what is in memory.
    pub(super) fn next_named(&self) -> Vec<JobId> {
        self.named.iter().flatten().skip(self.place as usize).take(LOOKED_UP_TOGETHER).copied().collect()
    }

    /// Works on the next slice without changing anything.
    ///
    /// # Errors
    /// [`Problem`], if jobs are named and the server stops before they are looked up.
    pub(super) async fn look(&mut self, api: &Asker, work: impl FnOnce(&mut Self, &Engine)) -> Result<(), Problem> {
        let named = self.next_named();
        if named.is_empty() {
            api.look(|shared| work(self, &shared.engine)).await;
            return Ok(());
        }
        api.decide(wanted(&named), |desk| work(self, &desk.shared().engine)).await
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
        match &self.named {
            Some(named) => {
                for &job in named.iter().skip(self.place as usize).take(LOOKED_UP_TOGETHER) {
                    self.place += 1;
                    if engine.job(job).is_some_and(|job| !goes_on(&job, self.place)) {
                        break;
                    }
                }
                self.is_over = self.place as usize >= named.len();
            }
            None => {
                for (behind, job) in engine.jobs_from(self.place).take(STEP_OBJECTS) {
                    self.place = behind;
                    if !goes_on(&job, behind) {
                        break;
                    }
                }
                self.is_over = engine.jobs_from(self.place).next().is_none();
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

/// What has to be looked up before those jobs are looked at.
pub(super) fn wanted(named: &[JobId]) -> impl Fn(&Engine, SessionId) -> Vec<Want> + '_ {
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
