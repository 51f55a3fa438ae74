//! Schedules: jobs that are put again and again, at the ticks of a timing.
//!
//! A tick is a moment of the wall clock, nanoseconds since 1970. The engine knows of no calendar: whoever embeds it gives it
//! a [`Calendar`], and it asks that for the tick after another one. The answer goes into the log with whatever it came of,
//! so that a replay asks nobody, and what was once written stands whatever a later calendar says. `every` needs none.

use crate::job::{JobId, Priority, QueueName, Time};
use crate::limits::SHORTEST_EVERY;
use crate::terms::{BackOff, Terms};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Knows when the ticks of an expression are. It must be a pure function: the same question has the same answer for as long
/// as the process runs.
pub trait Calendar: Send + Sync + Debug {
    /// The first tick strictly after a moment of the wall clock; `None` if there is none any more, or the two make no sense.
    fn next(&self, expression: &str, zone: &str, after: Time) -> Option<Time>;
}

/// When a schedule has its ticks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Timing {
    /// A span apart, by the wall clock.
    Every {
        /// At least `limits::SHORTEST_EVERY`.
        span: Duration,
        /// One of the ticks, or where they would be: the others are whole spans from it, and none is before it. `None`
        /// where it is set: the moment of that, which is no tick itself.
        from: Option<Time>,
    },
    /// As an expression says, which the embedder's [`Calendar`] understands.
    Cron {
        /// The expression, at most `limits::CRON_BYTES` bytes.
        expression: Box<str>,
        /// The time zone in which it is read, at most `limits::ZONE_BYTES` bytes.
        zone: Box<str>,
    },
}

/// What becomes of ticks that passed before their schedule had its turn: while nothing ran, or when the clock was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnMissed {
    /// They are left out; one that passed at most `limits::TICK_GRACE` ago, with none behind it, counts as on time.
    Skip,
    /// The last of them fires, for all.
    #[default]
    Once,
    /// Each fires, but for those before the last `limits::MISSED_TICKS`.
    All,
}

/// What becomes of a tick while the job of the last firing is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnOverlap {
    /// It fires all the same.
    #[default]
    Allow,
    /// It is left out.
    Skip,
}

/// What is put at a tick.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    /// Where it goes.
    pub queue: QueueName,
    /// Its urgency.
    pub priority: Priority,
    /// Length of a lease on it.
    pub ttr: Duration,
    /// Lost leases after which it is buried; 0 for no limit.
    pub max_lost_leases: u16,
    /// Failed attempts after which it is buried; 0 for no limit.
    pub max_attempts: u16,
    /// Its key: a tick is refused while an open job has it.
    pub key: Option<Box<[u8]>>,
    /// If it was not begun so long after its firing, it expires.
    pub expires: Option<Duration>,
    /// Its kind, its headers and its back-off; nothing else of terms is taken.
    pub terms: Option<Box<Terms>>,
    /// The work itself.
    pub body: Box<[u8]>,
}

/// What a schedule is, as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleSpec {
    /// When it has its ticks.
    pub timing: Timing,
    /// What becomes of those that were missed.
    pub on_missed: OnMissed,
    /// What becomes of those that come too soon.
    pub on_overlap: OnOverlap,
    /// What is put.
    pub template: Arc<Template>,
}

/// How it went with a schedule so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleCourse {
    /// When it was set first, by the wall clock.
    pub created_at: Time,
    /// Its next tick; [`Time::NEVER`] if there is none any more.
    pub next: Time,
    /// It has no ticks until it is resumed.
    pub is_paused: bool,
    /// Jobs that it put.
    pub fired: u64,
    /// Ticks that passed before it had its turn and that were left out, counted up to `limits::MISSED_TICKS` at a time.
    pub missed: u64,
    /// Ticks left out since the job of the last firing was open.
    pub overlapped: u64,
    /// Ticks whose put was refused.
    pub refused: u64,
    /// What happened last.
    pub last: Option<LastTick>,
    /// The job that it put last, and the tick of that.
    pub last_fired: Option<(JobId, Time)>,
}

impl ScheduleCourse {
    /// That of a schedule that is set now.
    #[must_use]
    pub fn new(created_at: Time, next: Time) -> ScheduleCourse {
        ScheduleCourse {
            created_at,
            next,
            is_paused: false,
            fired: 0,
            missed: 0,
            overlapped: 0,
            refused: 0,
            last: None,
            last_fired: None,
        }
    }
}

/// The last thing that happened with a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastTick {
    /// Which tick; of a run that somebody asked for, the moment of it.
    pub tick: Time,
    /// When, in engine time.
    pub at: Time,
    /// What came of it.
    pub became: Became,
}

/// What came of a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Became {
    /// This job was put.
    Put(JobId),
    /// This job was put, not at a tick: somebody asked for it.
    Run(JobId),
    /// Nothing: see [`LeftOut`].
    Nothing(LeftOut),
}

/// Why a tick put nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeftOut {
    /// It passed too long before.
    Missed,
    /// This job, the last one, was still open.
    Overlap(JobId),
    /// This open job has the key.
    KeyTaken(JobId),
    /// Of the past: a server left it out since it could not tell whether a job that is not in memory has the key. Now that is
    /// looked up, and nothing brings this about; a log may still have it.
    KeyUnknown,
    /// The queue has as much as it may have.
    QueueFull,
    /// The put broke a bound that it kept when the schedule was set.
    BadTerms,
}

impl LeftOut {
    /// A word for it: `missed`, `overlap`, `key-taken`, `key-unknown`, `queue-full`, `bad-terms`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LeftOut::Missed => "missed",
            LeftOut::Overlap(_) => "overlap",
            LeftOut::KeyTaken(_) => "key-taken",
            LeftOut::KeyUnknown => "key-unknown",
            LeftOut::QueueFull => "queue-full",
            LeftOut::BadTerms => "bad-terms",
        }
    }

    /// The job that is in the way, if one is.
    #[must_use]
    pub fn job(self) -> Option<JobId> {
        match self {
            LeftOut::Overlap(job) | LeftOut::KeyTaken(job) => Some(job),
            _ => None,
        }
    }
}

/// What came of the ticks of all schedules, and of the runs that somebody asked for, since the engine began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TickCounts([u64; 7]);

impl TickCounts {
    /// What can come of one, in words: those of [`LeftOut::name`], `put`, and of a run `run`.
    pub const OUTCOMES: [&'static str; 7] = ["put", "run", "missed", "overlap", "key-taken", "queue-full", "bad-terms"];

    /// How often each came about.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        TickCounts::OUTCOMES.into_iter().zip(self.0)
    }

    /// Counts one that had its turn, and those before it that were missed.
    pub(crate) fn note(&mut self, became: Became, missed: u64) {
        let word = match became {
            Became::Put(_) => "put",
            Became::Run(_) => "run",
            Became::Nothing(why) => why.name(),
        };
        // One that was missed itself is among the others.
        self.add(word, if became == Became::Nothing(LeftOut::Missed) { missed } else { 1 });
        if became != Became::Nothing(LeftOut::Missed) {
            self.add("missed", missed);
        }
    }

    fn add(&mut self, word: &str, count: u64) {
        let at = TickCounts::OUTCOMES.iter().position(|outcome| *outcome == word);
        at.into_iter().for_each(|at| self.0[at] += count);
    }
}

/// That a put is a firing: it is in the job's terms, and moves its schedule on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fired {
    /// Whose.
    pub schedule: QueueName,
    /// Of which tick; of a run that somebody asked for, the moment of it.
    pub tick: Time,
    /// Somebody asked for it: the schedule's ticks are as they were.
    pub is_run: bool,
    /// The tick that comes next.
    pub next: Time,
    /// Ticks before this one that are left out with it.
    pub missed: u64,
}

/// A tick that put nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TickPassed {
    /// Whose.
    pub schedule: QueueName,
    /// Which.
    pub tick: Time,
    /// The tick that comes next.
    pub next: Time,
    /// Ticks that count as missed with it, itself included where it is one.
    pub missed: u64,
    /// Why.
    pub why: LeftOut,
}

/// A whole schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptSchedule {
    /// Its name.
    pub name: QueueName,
    /// What it is.
    pub spec: ScheduleSpec,
    /// How it went so far.
    pub course: ScheduleCourse,
}

/// A schedule as it can be seen from outside, at the moment of asking.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleView<'a> {
    /// Its name.
    pub name: &'a QueueName,
    /// What it is.
    pub spec: &'a ScheduleSpec,
    /// How it went so far.
    pub course: &'a ScheduleCourse,
    /// Its next tick has come, and waits for room in the log.
    pub waits_for_room: bool,
}

/// What of a turn depends on the log or on the disk: for whoever compares turns with those of a model.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TurnNote {
    /// Nothing.
    Plain,
    /// There was no room.
    NoRoom,
    /// There was too much to be written already.
    Unwritten,
    /// Who has the key has to be looked up first.
    KeyWanted,
}

impl Timing {
    /// Whether the same ticks are meant, where `self` may leave it to the moment of setting from when.
    pub(crate) fn agrees_with(&self, set: &Timing) -> bool {
        match (self, set) {
            (Timing::Every { span, from: None }, Timing::Every { span: other, .. }) => span == other,
            _ => self == set,
        }
    }

    /// The tick after a moment, [`Time::NEVER`] if there is none, or nobody knows.
    #[must_use]
    pub fn next(&self, calendar: Option<&dyn Calendar>, after: Time) -> Time {
        match self {
            Timing::Every { span, from } => {
                let (from, span) = (from.unwrap_or_default().0, u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
                if from > after.0 {
                    return Time(from);
                }
                let passed = (after.0 - from) / span.max(1) + 1;
                Time(passed.checked_mul(span).and_then(|span| from.checked_add(span)).unwrap_or(u64::MAX))
            }
            Timing::Cron { expression, zone } => {
                let next = calendar.and_then(|calendar| calendar.next(expression, zone, after));
                next.filter(|next| *next > after).unwrap_or(Time::NEVER)
            }
        }
    }

    /// The last `most` ticks from `first` on, which is one, up to `until`, rising.
    pub(crate) fn newest(
        &self,
        calendar: Option<&dyn Calendar>,
        (first, until): (Time, Time),
        most: usize,
    ) -> VecDeque<Time> {
        // Ticks of most expressions are minutes apart; where they are rarer, further back.
        let shortest = if let Timing::Every { span, .. } = self { *span } else { Duration::from_secs(60) };
        let mut back = u64::try_from(shortest.as_nanos()).unwrap_or(u64::MAX).saturating_mul(most as u64);
        loop {
            let from = Time(until.0.saturating_sub(back).max(first.0.saturating_sub(1)));
            let mut ticks = VecDeque::new();
            let mut tick = self.next(calendar, from);
            while tick <= until {
                if ticks.len() == most {
                    ticks.pop_front();
                }
                ticks.push_back(tick);
                tick = self.next(calendar, tick);
            }
            if ticks.len() == most || from < first {
                return ticks;
            }
            back = back.saturating_mul(2);
        }
    }
}

impl ScheduleSpec {
    /// Length in the log, about, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let Template { queue, key, terms, body, .. } = &*self.template;
        let timing = match &self.timing {
            Timing::Every { .. } => 16,
            Timing::Cron { expression, zone } => expression.len() + zone.len(),
        };
        let terms = terms.as_ref().map_or(0, |terms| terms.bytes());
        200 + timing + queue.as_str().len() + key.as_ref().map_or(0, |key| key.len()) + terms + body.len()
    }

    /// The same as the log can hold it: spans in 64 bits of nanoseconds, and of terms no more than is put.
    pub(crate) fn storable(&self) -> ScheduleSpec {
        let short = |span: Duration| Duration::from_nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let mut spec = self.clone();
        if let Timing::Every { span, .. } = &mut spec.timing {
            *span = short(*span);
        }
        let template = Arc::make_mut(&mut spec.template);
        template.ttr = short(template.ttr);
        template.expires = template.expires.map(short);
        let own = template.terms.take().unwrap_or_default();
        let back_off = own.back_off.map(|it| BackOff { first: short(it.first), most: short(it.most), ..it });
        let (kind, headers, limit_key) = (own.kind, own.headers, own.limit_key);
        let terms = Terms { kind, headers, back_off, limit_key, ..Terms::default() };
        template.terms = (!terms.is_empty()).then(|| Box::new(terms));
        spec
    }

    /// The same as a schedule is that was set at that moment.
    pub(crate) fn set_at(mut self, wall: Time) -> ScheduleSpec {
        if let Timing::Every { from, .. } = &mut self.timing {
            from.get_or_insert(wall);
        }
        self
    }

    pub(crate) fn is_often_enough(&self) -> bool {
        !matches!(self.timing, Timing::Every { span, .. } if span < SHORTEST_EVERY)
    }
}

impl Template {
    /// What is put on a body into a queue, due at once, with priority 0, a lease of a minute, and nothing more to it.
    #[must_use]
    pub fn new(queue: QueueName, body: Box<[u8]>) -> Template {
        Template {
            queue,
            priority: Priority(0),
            ttr: Duration::from_secs(60),
            max_lost_leases: 0,
            max_attempts: 0,
            key: None,
            expires: None,
            terms: None,
            body,
        }
    }

    /// The terms of a put of it.
    pub(crate) fn terms_of(&self, fired: Fired) -> Box<Terms> {
        let own = self.terms.as_deref();
        Box::new(Terms {
            kind: own.and_then(|own| own.kind.clone()),
            headers: own.map_or_else(Vec::new, |own| own.headers.clone()),
            back_off: own.and_then(|own| own.back_off),
            limit_key: own.and_then(|own| own.limit_key.clone()),
            fired: Some(Box::new(fired)),
            ..Terms::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn every(seconds: u64, from: u64) -> Timing {
        Timing::Every { span: Duration::from_secs(seconds), from: Some(Time(from * SECOND)) }
    }

    #[test]
    fn ticks_are_whole_spans_from_where_they_begin_and_none_is_before() {
        let next = |timing: &Timing, after: u64| timing.next(None, Time(after * SECOND)).0 / SECOND;
        assert_eq!(next(&every(10, 1000), 5), 1000, "the first is where they begin");
        assert_eq!(next(&every(10, 1000), 1000), 1010);
        assert_eq!(next(&every(10, 1000), 1009), 1010);
        assert_eq!(next(&every(10, 1000), 1010), 1020);
        assert_eq!(every(10, 1000).next(None, Time(u64::MAX - 1)), Time::NEVER);
        let cron = Timing::Cron { expression: "x".into(), zone: "UTC".into() };
        assert_eq!(cron.next(None, Time(0)), Time::NEVER, "nobody knows");
    }

    #[test]
    fn the_newest_ticks_are_found_however_far_apart_they_are() {
        /// A thousand ticks a nanosecond apart in every thousand seconds.
        #[derive(Debug)]
        struct Bursts;
        impl Calendar for Bursts {
            fn next(&self, _: &str, _: &str, after: Time) -> Option<Time> {
                let (burst, within) = (after.0 / (1000 * SECOND), after.0 % (1000 * SECOND));
                let next = if within < 999 { within + 1 } else { 1000 * SECOND };
                Some(Time(burst * 1000 * SECOND + next))
            }
        }
        let cron = Timing::Cron { expression: "".into(), zone: "".into() };
        let until = Time(5_500 * SECOND);
        for (timing, first) in [(cron, Time(2000 * SECOND)), (every(7, 3), Time(10 * SECOND))] {
            let mut all = vec![first];
            while *all.last().expect("one") <= until {
                all.push(timing.next(Some(&Bursts), *all.last().expect("one")));
            }
            all.pop();
            for most in [1, 2, 700, 1000, 100_000] {
                let newest = timing.newest(Some(&Bursts), (first, until), most);
                assert!(newest.iter().eq(&all[all.len().saturating_sub(most)..]), "{most} of {timing:?}");
            }
        }
    }
}
