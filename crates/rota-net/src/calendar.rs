//! The calendar of schedules: cron expressions, read in time zones.
//!
//! The engine asks it for the tick after a moment and writes down what it hears; the HTTP API asks whether an expression and
//! a zone make sense, and says where they do not. The zones' rules are in the program, so that two servers of one build agree.
//! Nothing here knows of jobs.
//!
//! An expression whose hours leave none out runs by elapsed time: it has a tick whenever the clocks of the zone show such a
//! time. Any other has one tick for each wall time that it names: where the clocks go forward over it, right after that; where
//! they go back over it, the first time. `docs/http.md` says so to users.

mod cron;

pub use cron::CronFault;

use cron::Cron;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use rota_engine::job::Time;
use rota_engine::schedule::Calendar;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// Expressions that were read and are kept, so many.
const KEPT: usize = 4096;

/// Transitions so shortly ago still tell which wall times were before, in seconds.
const LATELY: i64 = 72 * 3600;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Why a schedule can't have that timing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TimingFault {
    /// The expression is wrong.
    #[error(transparent)]
    Cron(#[from] CronFault),
    /// There is no such time zone.
    #[error("{zone:?} is no time zone that is known here")]
    Zone {
        /// What was asked for.
        zone: String,
        /// The nearest that there is.
        nearest: String,
    },
    /// No day is as the expression says.
    #[error("no day is ever as {expression:?} says")]
    Never {
        /// The expression.
        expression: String,
    },
    /// It is read, but its next moment is too far ahead to be told.
    #[error("{expression:?} has no tick before 2554")]
    TooFar {
        /// The expression.
        expression: String,
    },
}

impl TimingFault {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            TimingFault::Cron(fault) => fault.hint.clone(),
            TimingFault::Zone { nearest, .. } => {
                format!("write the name of the zone as the IANA database has it: {nearest:?}, or leave it away for UTC")
            }
            TimingFault::Never { .. } => {
                String::from("mend the day of the month or the month: the 31st of a month with 30 days never comes")
            }
            TimingFault::TooFar { .. } => String::from("choose a nearer day"),
        }
    }
}

/// A timing that was read.
#[derive(Debug)]
struct Read {
    cron: Cron,
    zone: TimeZone,
}

/// What expressions in zones mean; none where they make no sense.
type Known = HashMap<(Box<str>, Box<str>), Option<Arc<Read>>>;

/// Reads cron expressions in the time zones of the IANA database.
#[derive(Debug, Default)]
pub struct ZoneCalendar {
    read: Mutex<Known>,
}

impl Calendar for ZoneCalendar {
    fn next(&self, expression: &str, zone: &str, after: Time) -> Option<Time> {
        let read = {
            let mut kept = self.read.lock().ok()?;
            let key = (Box::from(expression), Box::from(zone));
            if let Some(read) = kept.get(&key) {
                read.clone()
            } else {
                if kept.len() >= KEPT {
                    kept.clear();
                }
                let read = Read::new(expression, zone).ok().map(Arc::new);
                kept.insert(key, read.clone());
                read
            }
        };
        read?.next(after)
    }
}

/// Whether an expression and a zone make sense, and have a tick after a moment of the wall clock. Returns that, and the zone's
/// own name.
///
/// # Errors
/// [`TimingFault`], which says where and what to try.
pub fn check(expression: &str, zone: &str, after: Time) -> Result<(Time, String), TimingFault> {
    let read = Read::new(expression, zone)?;
    let expression = || expression.to_owned();
    if !read.cron.has_days() {
        return Err(TimingFault::Never { expression: expression() });
    }
    let next = read.next(after).ok_or_else(|| TimingFault::TooFar { expression: expression() })?;
    Ok((next, read.zone.iana_name().unwrap_or("UTC").to_owned()))
}

impl Read {
    fn new(expression: &str, zone: &str) -> Result<Read, TimingFault> {
        let cron = Cron::read(expression)?;
        let zone = ZONES.get(zone).map_err(|_| TimingFault::Zone { zone: zone.to_owned(), nearest: nearest(zone) })?;
        Ok(Read { cron, zone })
    }

    /// The first tick after a moment of the wall clock, in nanoseconds since 1970.
    fn next(&self, after: Time) -> Option<Time> {
        let after = i64::try_from(after.0 / 1_000_000_000).ok()?;
        let tick = self.next_second(after)?;
        u64::try_from(tick).ok()?.checked_mul(1_000_000_000).filter(|tick| *tick < u64::MAX).map(Time)
    }

    /// The same in seconds. Between two changes of its offset a zone's clocks run evenly: the search goes from one such
    /// stretch to the next.
    fn next_second(&self, after: i64) -> Option<i64> {
        let by_elapsed_time = self.cron.takes_every_hour();
        let mut offset = self.offset(after)?;
        // What the clocks show first, in seconds as if they were of UTC.
        let mut shown = after + offset + 1;
        if !by_elapsed_time {
            shown = shown.max(self.shown_before(after)?);
        }
        let mut stretch = after;
        loop {
            let wall = self.cron.next_minute(ceil_minute(shown))? * 60;
            let Some((change, next_offset)) = self.next_change(stretch, offset) else { return Some(wall - offset) };
            if wall - offset < change {
                return Some(wall - offset);
            }
            let (ends, begins) = (change + offset, change + next_offset);
            if by_elapsed_time {
                shown = begins;
            } else {
                // What is skipped is due when it was passed over; what was shown once is not shown again.
                if wall < begins {
                    return Some(change);
                }
                shown = shown.max(ends).max(begins);
            }
            (stretch, offset) = (change, next_offset);
        }
    }

    fn offset(&self, at: i64) -> Option<i64> {
        Some(i64::from(self.zone.to_offset(Timestamp::from_second(at).ok()?).seconds()))
    }

    /// The next change of the offset after a moment, and what it is from then on.
    fn next_change(&self, after: i64, offset: i64) -> Option<(i64, i64)> {
        let after = Timestamp::from_second(after).ok()?;
        let mut changes = self
            .zone
            .following(after)
            .map(|change| (change.timestamp().as_second(), i64::from(change.offset().seconds())));
        changes.find(|&(_, next)| next != offset)
    }

    /// Where the clocks were before the changes up to a moment that are not long ago: wall times before that are over.
    fn shown_before(&self, at: i64) -> Option<i64> {
        let until = Timestamp::from_second(at + 1).ok()?;
        let changes = self.zone.preceding(until).map(|change| change.timestamp().as_second());
        let mut shown = i64::MIN;
        for change in changes.take_while(|change| at - change < LATELY) {
            shown = shown.max(change + self.offset(change - 1)?);
        }
        Some(shown)
    }
}

fn ceil_minute(seconds: i64) -> i64 {
    seconds.div_euclid(60) + i64::from(seconds.rem_euclid(60) > 0)
}

/// The known zone that is nearest to a name: one that ends so, or else one that looks alike.
fn nearest(zone: &str) -> String {
    let asked = zone.to_ascii_lowercase().replace([' ', '-'], "_");
    let distance = |name: &str| {
        let name = name.to_ascii_lowercase();
        let last = name.rsplit('/').next().unwrap_or(&name);
        strsim::osa_distance(&asked, &name).min(strsim::osa_distance(&asked, last))
    };
    let names = ZONES.available().map(|name| name.to_string());
    names.min_by_key(|name| (distance(name), name.len())).unwrap_or_else(|| String::from("UTC"))
}

#[cfg(test)]
mod tests;
