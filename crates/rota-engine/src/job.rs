//! What a job is: its identity, its fields, its states, the points of time it is measured in, and the orders it
//! stands in.
//!
//! Everything else in the crate is built from these types. They hold no behaviour beyond their own arithmetic.

use crate::bodies::BodyHandle;
use crate::far::FarPlace;
use crate::limits::{DEFAULT_MAX_ATTEMPTS, DEFAULT_MAX_LOST_LEASES};
use crate::log::Lsn;
use crate::pages::{Pages, Slot};
use crate::queue::QueueId;
use crate::session::SessionId;
use crate::terms::{Course, Terms};
use crate::wheel::Keys;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A job's number: at least 1, increasing in the order of the puts, never issued twice, across restarts too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How urgent a job is: 0 is the most urgent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Priority(pub u32);

impl Priority {
    /// Jobs below this priority count as urgent (beanstalkd's `current-jobs-urgent`).
    pub const URGENT_BELOW: Priority = Priority(1024);
}

/// A point in engine time: nanoseconds on a line that never runs backwards, across restarts too.
///
/// It starts near the wall clock (nanoseconds since 1970) and is not moved when the wall clock is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The point no deadline reaches.
    pub const NEVER: Time = Time(u64::MAX);

    /// The point `span` later; `NEVER` if that is past the end of the line.
    #[must_use]
    pub fn after(self, span: Duration) -> Time {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }

    /// The point at which the wall clock shows this, where that is so many nanoseconds ahead of engine time.
    pub(crate) fn in_engine_time(self, ahead: i128) -> Time {
        let nanos = (i128::from(self.0) - ahead).clamp(0, i128::from(u64::MAX - 1));
        Time(u64::try_from(nanos).expect("clamped to the range"))
    }

    /// What the wall clock shows at this point, where that is so many nanoseconds ahead of engine time.
    pub(crate) fn on_wall_clock(self, ahead: i128) -> Time {
        let nanos = i128::from(self.0) + ahead;
        Time(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// The span from `earlier` to this point; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JobState {
    /// Its `run_at` is ahead.
    Delayed,
    /// It can be reserved.
    Ready,
    /// Somebody holds a lease on it.
    Reserved,
    /// It was set aside, and waits for a kick.
    Buried,
    /// It waits for others to be done.
    Blocked,
    /// Final: its work was done. Final jobs are there only as long as their queue keeps them.
    Done,
    /// Final: it was called off.
    Cancelled,
    /// Final: it was not begun in time.
    Expired,
}

impl JobState {
    /// All states; the index of each is `as usize`.
    pub const ALL: [JobState; 8] = [
        JobState::Delayed,
        JobState::Ready,
        JobState::Reserved,
        JobState::Buried,
        JobState::Blocked,
        JobState::Done,
        JobState::Cancelled,
        JobState::Expired,
    ];

    /// How many of them are those of open jobs: the first of [`JobState::ALL`].
    pub const OPEN: usize = 5;

    /// Whether nothing happens to a job any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        self as usize >= JobState::OPEN
    }

    /// The lower-case word for it: `delayed`, `ready`, `reserved`, `buried`, `blocked`, `done`, `cancelled`, `expired`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            JobState::Delayed => "delayed",
            JobState::Ready => "ready",
            JobState::Reserved => "reserved",
            JobState::Buried => "buried",
            JobState::Blocked => "blocked",
            JobState::Done => "done",
            JobState::Cancelled => "cancelled",
            JobState::Expired => "expired",
        }
    }
}

/// A queue's name: 1–200 bytes of `A-Za-z0-9-+/;.$_()`, not starting with `-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// Takes a name as it came from outside.
    ///
    /// # Errors
    /// [`BadQueueName`] if it breaks the rule above; nothing is kept of it.
    pub fn new(name: &str) -> Result<QueueName, BadQueueName> {
        if QueueName::is_valid(name.as_bytes()) { Ok(QueueName(name.into())) } else { Err(BadQueueName(name.into())) }
    }

    /// Whether these bytes make a name, without taking them.
    #[must_use]
    pub fn is_valid(name: &[u8]) -> bool {
        let fits = (1..=crate::limits::QUEUE_NAME_BYTES).contains(&name.len());
        fits && name[0] != b'-' && name.iter().all(|&b| b.is_ascii_alphanumeric() || b"-+/;.$_()".contains(&b))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A queue name that breaks the rule for names.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is not a queue name: use 1 to 200 of the characters A-Z a-z 0-9 - + / ; . $ _ ( ), and do not start with -"
)]
pub struct BadQueueName(pub String);

/// What stamps a lease: a later lease of the same job has a greater token, across restarts too.
///
/// The epoch counts the starts of this data directory and is durable before the first lease is given, so a token of
/// before a restart never fits a lease of after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseToken {
    /// Which start of the engine gave it; 1 for the first.
    pub epoch: u32,
    /// Which lease of that start it is; 1 for the first.
    pub counter: u64,
}

/// How often a job went through what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JobTally {
    /// Leases given on it.
    pub reserves: u32,
    /// Leases that ran out.
    pub lost_leases: u32,
    /// Times a holder gave it back.
    pub releases: u32,
    /// Times it was set aside.
    pub buries: u32,
    /// Times it was kicked.
    pub kicks: u32,
    /// Attempts that failed.
    pub attempts: u32,
}

/// Jobs by slot. A page of them is as large as a body's: many of these are what a server's memory consists of.
pub(crate) type Jobs = Pages<Job, 512>;

/// A job as the state holds it. What plain jobs don't use lives in [`JobExtra`], so that it costs them nothing.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// When it is due, in engine time; out of date while the job waits for a moment of the wall clock: see
    /// [`crate::state`].
    pub(crate) run_at: Time,
    pub(crate) created_at: Time,
    pub(crate) queue: QueueId,
    pub(crate) priority: Priority,
    pub(crate) body: BodyHandle,
    pub(crate) extra: ExtraSlot,
    /// Where its lease is, while it is reserved.
    pub(crate) lease: MaybeSlot,
    /// Length of a lease on it, where that fits here; else it is in the extra.
    pub(crate) ttr: ShortSpan,
    pub(crate) state: JobState,
}

// One of each for every job that waits: what these grow by, a server with a million jobs grows by a million times.
const _: () = assert!(size_of::<Option<Job>>() == 56);

/// A span in three bytes: whole seconds up to 97 days, or whole milliseconds up to two hours, but not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ShortSpan([u8; 3]);

impl ShortSpan {
    /// Stands for a span that doesn't fit.
    pub(crate) const NONE: ShortSpan = ShortSpan([0; 3]);

    /// The span, if it fits; else `NONE`.
    pub(crate) fn new(span: Duration) -> ShortSpan {
        let (count, unit) =
            if span.subsec_nanos() == 0 { (u128::from(span.as_secs()), 0) } else { (span.as_millis(), 1) };
        let bits = u32::try_from(count).ok().and_then(|count| count.checked_mul(2)).map(|count| count | unit);
        match bits.map(u32::to_le_bytes) {
            Some([a, b, c, 0]) if ShortSpan([a, b, c]).get() == Some(span) => ShortSpan([a, b, c]),
            _ => ShortSpan::NONE,
        }
    }

    pub(crate) fn get(self) -> Option<Duration> {
        let [a, b, c] = self.0;
        let bits = u32::from_le_bytes([a, b, c, 0]);
        let count = u64::from(bits >> 1);
        let span = if bits & 1 == 0 { Duration::from_secs(count) } else { Duration::from_millis(count) };
        (self != ShortSpan::NONE).then_some(span)
    }
}

/// A slot, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MaybeSlot(u32);

impl MaybeSlot {
    pub(crate) const NONE: MaybeSlot = MaybeSlot(u32::MAX);

    /// None either, for a lease: its job is delayed, and was written again since it is.
    pub(crate) const NONE_WRITTEN_AGAIN: MaybeSlot = MaybeSlot(u32::MAX - 1);

    pub(crate) fn get(self) -> Option<Slot> {
        (self.0 < MaybeSlot::NONE_WRITTEN_AGAIN.0).then_some(Slot(self.0))
    }
}

impl From<Slot> for MaybeSlot {
    fn from(slot: Slot) -> MaybeSlot {
        debug_assert!(slot.0 < MaybeSlot::NONE_WRITTEN_AGAIN.0, "memory ends before there are so many slots");
        MaybeSlot(slot.0)
    }
}

/// Lost leases and failed attempts after which a job is buried; 0 for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct JobLimits {
    pub(crate) lost_leases: u16,
    pub(crate) attempts: u16,
}

/// The limits that most jobs have: a job that has no more to it than one of these has no [`JobExtra`].
const COMMON_LIMITS: [JobLimits; 2] = [
    JobLimits { lost_leases: 0, attempts: 0 },
    JobLimits { lost_leases: DEFAULT_MAX_LOST_LEASES, attempts: DEFAULT_MAX_ATTEMPTS },
];

/// Where the rest of a job is; or that it has none, and which of the common limits. Those are the numbers from the last slot
/// down, which memory has no room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ExtraSlot(u32);

impl ExtraSlot {
    /// No rest, with these limits; `None` if they are not common.
    #[inline]
    pub(crate) fn none_with(limits: JobLimits) -> Option<ExtraSlot> {
        if limits == COMMON_LIMITS[0] {
            Some(ExtraSlot(u32::MAX))
        } else if limits == COMMON_LIMITS[1] {
            Some(ExtraSlot(u32::MAX - 1))
        } else {
            None
        }
    }

    #[inline]
    pub(crate) fn get(self) -> Option<Slot> {
        (self.0 <= u32::MAX - COMMON_LIMITS.len() as u32).then_some(Slot(self.0))
    }

    /// Whether there is no more to the job than its limits.
    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.get().is_none()
    }

    /// The limits of a job without a rest.
    pub(crate) fn limits(self) -> JobLimits {
        COMMON_LIMITS.get((u32::MAX - self.0) as usize).copied().unwrap_or_default()
    }
}

impl From<Slot> for ExtraSlot {
    fn from(slot: Slot) -> ExtraSlot {
        debug_assert!(ExtraSlot(slot.0).get().is_some(), "memory ends before there are so many slots");
        ExtraSlot(slot.0)
    }
}

/// The rest of a job that has more to it than a body and a place in line.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobExtra {
    pub(crate) key: Option<Box<[u8]>>,
    /// The delay last asked for; `None` while it is that of the put, which `created_at` and `run_at` still tell.
    pub(crate) delay: Option<Duration>,
    /// The moment of the wall clock that its put named. It is when the job is due while it is delayed or blocked: see
    /// [`crate::state`].
    pub(crate) at_wall: Option<Time>,
    /// Nanoseconds: read where the job itself has no room for it.
    pub(crate) ttr: u64,
    /// Its number in the order of burials, while it is buried.
    pub(crate) burial: u64,
    pub(crate) limits: JobLimits,
    pub(crate) tally: JobTally,
    /// Who lost its lease last, while nobody has had one since.
    pub(crate) last_holder: Option<SessionId>,
    /// The record that is its home, where no start reads that.
    pub(crate) home: Option<FarPlace>,
    /// The newest record that holds it whole, if it was replaced: the log has many of those then, and needs but this one.
    pub(crate) whole_at: Lsn,
    pub(crate) terms: Option<Box<Terms>>,
    pub(crate) course: Option<Box<Course>>,
}

impl JobExtra {
    /// What became of it, from now on if there was nothing yet.
    pub(crate) fn course_mut(&mut self) -> &mut Course {
        self.course.get_or_insert_default()
    }

    /// Length of it in the log, about, in bytes.
    pub(crate) fn record_bytes(&self) -> usize {
        let key = self.key.as_ref().map_or(0, |key| key.len() + 5);
        let terms = self.terms.as_ref().map_or(0, |terms| terms.bytes());
        key + terms + self.course.as_ref().map_or(0, |course| course.bytes())
    }

    /// Whether its job may leave memory while it is delayed: nothing but time brings about something of it before, and its
    /// body is that of its put.
    pub(crate) fn may_leave(&self) -> bool {
        !self.is_replaced() && self.terms.as_ref().is_none_or(|terms| !terms.stays_near())
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.is_replaced)
    }
}

impl Job {
    pub(crate) fn is_urgent(&self) -> bool {
        self.priority < Priority::URGENT_BELOW
    }
}

/// Ready jobs: by (priority, run_at, id). Their order has no span of time, so their spokes are cut by number alone.
pub(crate) struct ReadyOrder<'a>(pub(crate) &'a Jobs);

impl Keys for ReadyOrder<'_> {
    type Key = (Priority, Time, JobId);

    fn key(&self, slot: Slot) -> Self::Key {
        let job = &self.0[slot];
        (job.priority, job.run_at, job.id)
    }

    fn span_start(&self, _: Self::Key) -> Self::Key {
        (Priority(0), Time(0), JobId(0))
    }
}

/// Delayed jobs: by (run_at, id).
pub(crate) struct DueOrder<'a> {
    pub(crate) jobs: &'a Jobs,
    /// Nanoseconds that a spoke covers.
    pub(crate) spoke: u64,
}

impl Keys for DueOrder<'_> {
    type Key = (Time, JobId);

    fn key(&self, slot: Slot) -> Self::Key {
        let job = &self.jobs[slot];
        (job.run_at, job.id)
    }

    fn span_start(&self, key: Self::Key) -> Self::Key {
        span_start(key.0, self.spoke)
    }
}

/// Delayed jobs that were put for a moment of the wall clock: by (that moment, id).
pub(crate) struct WallOrder<'a> {
    pub(crate) jobs: &'a Jobs,
    pub(crate) extras: &'a Pages<JobExtra>,
    /// Nanoseconds that a spoke covers.
    pub(crate) spoke: u64,
}

impl Keys for WallOrder<'_> {
    type Key = (Time, JobId);

    fn key(&self, slot: Slot) -> Self::Key {
        let job = &self.jobs[slot];
        let at = job.extra.get().and_then(|extra| self.extras[extra].at_wall);
        (at.expect("only jobs for a moment of the wall clock stand in its line"), job.id)
    }

    fn span_start(&self, key: Self::Key) -> Self::Key {
        span_start(key.0, self.spoke)
    }
}

fn span_start(at: Time, spoke: u64) -> (Time, JobId) {
    (Time(at.0 - at.0 % spoke), JobId(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_fit_into_three_bytes_come_back_and_others_are_told_apart() {
        let most_seconds = Duration::from_secs((1 << 23) - 1);
        let most_millis = Duration::from_millis((1 << 23) - 1);
        for fits in
            [Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(86_401), most_seconds, most_millis]
        {
            assert_eq!(ShortSpan::new(fits).get(), Some(fits));
        }
        let second = Duration::from_secs(1);
        let finer = second + Duration::from_nanos(1);
        for other in [Duration::ZERO, Duration::from_nanos(1), finer, most_seconds + second, Duration::MAX] {
            assert_eq!(ShortSpan::new(other), ShortSpan::NONE, "{other:?}");
        }
        assert_eq!(ShortSpan::new(most_millis + Duration::from_millis(2)).get(), None);
    }

    #[test]
    fn common_limits_need_no_slot_and_a_slot_is_never_taken_for_them() {
        for limits in COMMON_LIMITS {
            let extra = ExtraSlot::none_with(limits).unwrap();
            assert_eq!((extra.get(), extra.limits()), (None, limits));
        }
        for (lost_leases, attempts) in [(0, 1), (DEFAULT_MAX_LOST_LEASES, 0), (u16::MAX, u16::MAX)] {
            assert_eq!(ExtraSlot::none_with(JobLimits { lost_leases, attempts }), None);
        }
        let last = Slot(u32::MAX - COMMON_LIMITS.len() as u32);
        assert_eq!(ExtraSlot::from(last).get(), Some(last));
        assert_eq!(ExtraSlot(last.0 + 1).get(), None);
    }
}
