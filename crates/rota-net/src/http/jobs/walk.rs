//! A walk over the jobs in memory, a slice under one lock: what lists and verbs for many jobs have in common.

use crate::filter::Filter;
use crate::http::access::Grant;
use crate::http::jobs::cursor::{Cursor, List};
use crate::http::problem::{Kind, Problem};
use rota_engine::command::JobView;
use rota_engine::engine::Engine;
use rota_engine::limits::{SLICE_TEXT_BYTES, STEP_OBJECTS};

/// Which jobs, and how far the walk is.
pub(super) struct Walk<'a> {
    filter: &'a Filter,
    grant: &'a Grant,
    /// The next place to look at.
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
        Ok(Walk { filter, grant, place, is_over: false })
    }

    /// Looks at the next jobs, at most [`STEP_OBJECTS`] of them and about [`SLICE_TEXT_BYTES`] of what they say, and calls
    /// `each` with those that are meant and the place behind each, until it says that it has enough.
    pub(super) fn slice(&mut self, engine: &Engine, mut each: impl FnMut(&JobView<'_>, u32) -> bool) {
        let mut looked_through = 0;
        let now = engine.now();
        for (next, job) in engine.jobs_from(self.place).take(STEP_OBJECTS) {
            self.place = next;
            let is_meant = self.grant.covers(job.queue) && self.filter.takes(&job, now, &mut looked_through);
            if (is_meant && !each(&job, next)) || looked_through >= SLICE_TEXT_BYTES {
                break;
            }
        }
        self.is_over = engine.jobs_from(self.place).next().is_none();
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
