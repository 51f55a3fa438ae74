//! When the wall clock was set, as the log tells it: what was due by then, by the clock as it was, stays so.
//!
//! Jobs in memory are found to be due before the clock is set. One that is not in memory has this looked up when it comes near.
//! It reaches back as far as the log that a start reads: when the segment goes in which the clock was set, the jobs that this
//! made due are written again.

use crate::job::Time;
use crate::log::Lsn;

/// The changes, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Clock(Vec<Change>);

#[derive(Debug)]
struct Change {
    lsn: Lsn,
    /// When, in engine time.
    at: Time,
    /// By how many nanoseconds the clock was ahead of engine time before; `None` where the log does not say.
    before: Option<i128>,
    /// The latest that it showed before it was set, this time or earlier.
    shown: Time,
}

impl Clock {
    /// The clock was set at that moment, and was ahead by so much before.
    pub(crate) fn was_set(&mut self, lsn: Lsn, at: Time, before: Option<i128>) {
        let earlier = self.0.last().map_or(Time(0), |last| last.shown);
        let shown = before.map_or(earlier, |before| at.on_wall_clock(before).max(earlier));
        self.0.push(Change { lsn, at, before, shown });
    }

    /// When a job was due that was put for that moment, in engine time, if it was when the clock was set in a record from
    /// `from` on.
    pub(super) fn due_since(&self, from: Lsn, at_wall: Time) -> Option<Time> {
        self.0.last().filter(|last| at_wall <= last.shown)?;
        let since = &self.0[self.0.partition_point(|change| change.lsn < from)..];
        since.iter().find_map(|change| {
            let due = at_wall.in_engine_time(change.before?);
            (due <= change.at).then_some(due)
        })
    }

    /// The latest that it showed before it was set; `None` if it never was.
    pub(crate) fn shown(&self) -> Option<Time> {
        self.0.last().map(|last| last.shown)
    }

    /// The same of records below that one.
    pub(crate) fn shown_below(&self, below: Lsn) -> Option<Time> {
        let count = self.0.partition_point(|change| change.lsn < below);
        count.checked_sub(1).map(|last| self.0[last].shown)
    }

    /// By how many nanoseconds the clock was ahead of engine time before that record, where it is by `now` now; `None` where
    /// nothing says.
    pub(crate) fn ahead_at(&self, lsn: Lsn, now: Option<i128>) -> Option<i128> {
        let next = self.0.get(self.0.partition_point(|change| change.lsn < lsn));
        next.map_or(now, |next| next.before)
    }

    /// Forgets what is told in records below that one.
    pub(crate) fn forget_below(&mut self, below: Lsn) {
        let count = self.0.partition_point(|change| change.lsn < below);
        let rest = self.0.split_off(count);
        self.0.clear();
        rest.into_iter().for_each(|Change { lsn, at, before, .. }| self.was_set(lsn, at, before));
    }
}
