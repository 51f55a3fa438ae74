//! Jobs far ahead: open, delayed, and not in memory. What is known of them is where in the log they stand.
//!
//! ```text
//!   oldest segment is reclaimed:  delayed far ahead, as it was put? ──► its record stays where it is, the job leaves memory
//!                                 anything else that is open        ──► written again at the log's head
//!
//!   memory      a bit for each record of such a segment: is its job open?
//!   disk        the segment · NNN.index: where in it each job is, by id, by time, by key · NNN.open: the bits
//! ```
//!
//! A segment with such jobs is a *far segment*: no start reads it, and it stays until none of its jobs is open. The bits on
//! disk are those of the moment at which the log that a start reads begins, so that its events apply to them exactly. What a
//! command names, and what will be due soon, is looked up ([`FarFiles`]) off the engine's owner, and brought near
//! ([`crate::engine::Engine::bring_near`]) before it is decided: a decision touches memory alone. What ends a job needs no
//! more than its place, which the index has. The record stays a job's home until the job ends, or is written again.

mod clock;
mod ended;
mod files;
mod index;
mod moments;
mod open;
#[cfg(test)]
mod tests;

pub(crate) use files::{Candidates, key_hash};
pub use files::{FarEntry, FarError, FarFiles, FarRecords};
pub(crate) use index::{IndexSurvey, survey as survey_index};
pub(crate) use moments::is_plain;
pub use moments::{Moments, NearGoal};
pub(crate) use open::{CLOCK_UNKNOWN, OpenFile, OpenSegment};

use crate::event::KeptJob;
use crate::job::{JobId, QueueName, Time};
use crate::log::{Lsn, Place};
use crate::queue::QueueId;
use clock::Clock;
use ended::Ended;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Which record of a far segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FarPlace {
    /// The segment's number.
    pub segment: u64,
    /// How many records that hold a job whole there are before it in the segment.
    pub ordinal: u32,
}

/// A job as its record in a far segment has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FarRecord {
    /// Which record it is.
    pub place: FarPlace,
    /// Where that record is on disk.
    pub record: Place,
    /// The job; its queue's number means nothing.
    pub(crate) kept: KeptJob,
    pub(crate) queue: QueueName,
}

impl FarRecord {
    /// Whose record it is.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.kept.put.job
    }

    /// Length of its body in bytes.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.kept.put.body.len()
    }

    /// When its job has to be in memory.
    pub(crate) fn needed_by(&self) -> Moments {
        Moments::of(&self.kept.put)
    }
}

/// A job by where its record is, and no more: enough to end it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FarJob {
    /// Which job.
    pub job: JobId,
    /// Which record.
    pub place: FarPlace,
    /// Its queue.
    pub queue: QueueName,
}

/// What was looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FarFound {
    /// Jobs whole.
    Jobs(Vec<FarRecord>),
    /// Where a job is; several places, of which all but one are of the past, if it was written again.
    Places(Vec<FarJob>),
}

/// What has to be looked up before a command can be decided.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Want {
    /// That job, if there is one.
    Job(JobId),
    /// Where that job is, if there is one: it is to end.
    Place(JobId),
    /// Who has that key in that queue, if somebody has.
    Key {
        /// The queue's name.
        queue: QueueName,
        /// The key.
        key: Box<[u8]>,
    },
    /// The first jobs of a queue that will be due, so many.
    First {
        /// The queue's name.
        queue: QueueName,
        /// How many.
        count: usize,
        /// By how many nanoseconds the wall clock is ahead of engine time: that says who is first of those that go by it.
        wall_ahead: i128,
    },
}

/// Which jobs had left memory at a moment, and what the wall clock showed: what was looked up as of it may have changed by
/// another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FarAsOf {
    /// How many jobs had.
    left: u64,
    /// The newest segment that they had left for.
    newest: u64,
    /// By how many nanoseconds the wall clock was ahead of engine time.
    wall_ahead: i128,
}

impl FarAsOf {
    /// Whether what was looked up for `want` as of this is so at `now`, but for jobs that ended. Who has a name or a key may have
    /// left memory since, for a segment in which nobody looked; who is first, for any, or is another one by the clock.
    #[must_use]
    pub fn holds(self, want: &Want, now: FarAsOf) -> bool {
        match want {
            Want::First { .. } => self == now,
            Want::Job(_) | Want::Place(_) | Want::Key { .. } => self.newest == now.newest,
        }
    }
}

/// The bits in memory.
#[derive(Debug, Default)]
pub(crate) struct Far {
    segments: BTreeMap<u64, FarSegment>,
    /// Jobs that ended, by the record of their end, as far as the settled bits still have them.
    ended: Ended,
    /// The record of what is being applied.
    pub(crate) at: Lsn,
    /// Jobs that left memory.
    pub(crate) left: u64,
    /// Where jobs are that a command may end, while it is decided.
    known: HashMap<JobId, (FarPlace, QueueId)>,
    /// Queues whose totals count what happened to far jobs since they were kept: records of that can't be counted by a start that
    /// no longer knows the job.
    counted: BTreeSet<QueueId>,
    /// When the wall clock was set, as far as the log that a start reads tells it.
    pub(crate) clock: Clock,
    /// Far jobs that were put for a moment of the wall clock and are in memory, with what their records say of that.
    near_by_wall: BTreeMap<JobId, Time>,
}

#[derive(Debug)]
struct FarSegment {
    records: u32,
    /// The first record of the segment that followed it.
    end: Lsn,
    open: Bits,
    /// The bits at the moment at which the log begins that a start reads.
    settled: Bits,
    /// Whether the file that was written down last, for a start, names it.
    is_named: bool,
    /// Whether all of its jobs wait for a span of time alone, as far as is known: earlier servers know of no others.
    is_plain: bool,
}

/// A bit for each record of a segment that holds a job whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bits {
    words: Box<[u64]>,
    /// How many are set.
    pub(crate) count: u32,
}

impl Bits {
    pub(crate) fn none(records: u32) -> Bits {
        Bits { words: vec![0; (records as usize).div_ceil(64)].into(), count: 0 }
    }

    fn of(words: Box<[u64]>) -> Bits {
        let count = words.iter().map(|word| word.count_ones()).sum();
        Bits { words, count }
    }

    pub(crate) fn get(&self, at: u32) -> bool {
        self.words.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// How many are set from one to another, both included.
    pub(crate) fn count_in(&self, from: u32, to: u32) -> u32 {
        let words = from as usize / 64..=to as usize / 64;
        let count = |word: usize| {
            let mut bits = self.words.get(word).copied().unwrap_or(0);
            if word == *words.start() {
                bits &= u64::MAX << (from % 64);
            }
            if word == *words.end() {
                bits &= u64::MAX >> (63 - to % 64);
            }
            bits.count_ones()
        };
        words.clone().map(count).sum()
    }

    pub(crate) fn set(&mut self, at: u32, value: bool) {
        if self.get(at) != value {
            self.words[at as usize / 64] ^= 1 << (at % 64);
            self.count = if value { self.count + 1 } else { self.count - 1 };
        }
    }
}

impl Far {
    /// Something happened to a far job of that queue that its totals count.
    pub(crate) fn count(&mut self, queue: QueueId) {
        self.counted.insert(queue);
    }

    /// The next queue whose totals are to be kept before far segments go.
    pub(crate) fn take_counted(&mut self) -> Option<QueueId> {
        self.counted.pop_first()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Takes a segment in as a start finds it; `is_plain`: all of its jobs wait for a span of time alone.
    pub(crate) fn load(&mut self, found: OpenSegment, is_plain: bool) {
        let OpenSegment { segment, records, end, open } = found;
        let settled = open.clone();
        self.segments.insert(segment, FarSegment { records, end, settled, open, is_named: true, is_plain });
    }

    /// Which jobs left memory by now, where the wall clock is so far ahead of engine time. A segment that a job leaves memory
    /// for has a higher number than all that others left for before.
    pub(crate) fn as_of(&self, wall_ahead: i128) -> FarAsOf {
        let newest = self.segments.last_key_value().map_or(0, |(&number, _)| number);
        FarAsOf { left: self.left, newest, wall_ahead }
    }

    /// Whether all far jobs wait for a span of time alone.
    pub(crate) fn is_plain(&self) -> bool {
        self.segments.values().all(|segment| segment.is_plain)
    }

    /// When a far job was due that was put for that moment of the wall clock, in engine time, if it was when the clock was set
    /// since it left memory.
    pub(crate) fn due_since(&self, place: FarPlace, at_wall: Time) -> Option<Time> {
        let end = self.segments.get(&place.segment)?.end;
        self.clock.due_since(end, at_wall)
    }

    /// A far job is in memory from now on, which was put for that moment of the wall clock.
    pub(crate) fn came_near(&mut self, job: JobId, at_wall: Time) {
        self.near_by_wall.insert(job, at_wall);
    }

    /// It is no longer, or no far job.
    pub(crate) fn went(&mut self, job: JobId) {
        self.near_by_wall.remove(&job);
    }

    /// Far jobs in memory that were due when the clock was set in a record below `below`: of so many of those that go by it,
    /// from behind that one on. Returns the last of them too; `None` at the end.
    pub(crate) fn due_by_clock(&self, below: Lsn, after: JobId, most: usize) -> (Vec<JobId>, Option<JobId>) {
        let Some(shown) = self.clock.shown_below(below) else { return (Vec::new(), None) };
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let some: Vec<(JobId, Time)> = self.near_by_wall.range(range).take(most).map(|(&job, &at)| (job, at)).collect();
        let last = some.last().filter(|_| some.len() == most).map(|&(job, _)| job);
        (some.into_iter().filter(|&(_, at)| at <= shown).map(|(job, _)| job).collect(), last)
    }

    /// The far jobs in memory that go by the wall clock.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn near_by_wall(&self) -> &BTreeMap<JobId, Time> {
        &self.near_by_wall
    }

    pub(crate) fn is_open(&self, place: FarPlace) -> bool {
        self.segments.get(&place.segment).is_some_and(|segment| segment.open.get(place.ordinal))
    }

    /// Takes note of where a job of that queue is, until it is to be forgotten.
    pub(crate) fn know(&mut self, job: JobId, place: FarPlace, queue: QueueId) {
        if self.is_open(place) {
            self.known.insert(job, (place, queue));
        }
    }

    pub(crate) fn forget(&mut self, job: JobId) {
        self.known.remove(&job);
    }

    /// Where a job is and which queue it is in, if it is open and that was told.
    pub(crate) fn known(&self, job: JobId) -> Option<(FarPlace, QueueId)> {
        self.known.get(&job).copied().filter(|(place, _)| self.is_open(*place))
    }

    /// A job's record is its home from now on. `of` are the number of its segment's records that hold a job whole, and the
    /// first record behind the segment; `is_plain`: it waits for a span of time alone.
    pub(crate) fn leave(&mut self, place: FarPlace, of: (u32, Lsn), is_plain: bool) {
        let (records, end) = of;
        let segment = self.segments.entry(place.segment).or_insert_with(|| {
            let (open, settled) = (Bits::none(records), Bits::none(records));
            FarSegment { records, end, open, settled, is_named: false, is_plain: true }
        });
        segment.is_plain &= is_plain;
        segment.open.set(place.ordinal, true);
        segment.settled.set(place.ordinal, true);
        self.left += 1;
    }

    /// A job ended.
    pub(crate) fn end(&mut self, place: FarPlace) {
        let segment = self.segments.get_mut(&place.segment).expect("a far job's segment is there");
        segment.open.set(place.ordinal, false);
        self.ended.push((self.at, place));
    }

    /// The same, of one whose end was read earlier than others that were told before.
    pub(crate) fn end_at(&mut self, place: FarPlace, at: Lsn) {
        let now = std::mem::replace(&mut self.at, at);
        self.end(place);
        self.at = now;
    }

    /// Puts the ends into the order of the log again.
    pub(crate) fn sort_ends(&mut self) {
        self.ended.sort();
    }

    /// A job was written again: the log that a start reads has it. What it reads there before that is passed over.
    pub(crate) fn come_home(&mut self, place: FarPlace) {
        let segment = self.segments.get_mut(&place.segment).expect("a far job's segment is there");
        segment.open.set(place.ordinal, false);
        segment.settled.set(place.ordinal, false);
    }

    /// Has the settled bits follow what ended in records below `below`, at most so many. Returns whether that is done.
    pub(crate) fn settle(&mut self, below: Lsn, most: usize) -> bool {
        for _ in 0..most {
            let Some(place) = self.ended.pop_below(below) else { return true };
            if let Some(segment) = self.segments.get_mut(&place.segment) {
                segment.settled.set(place.ordinal, false);
            }
        }
        false
    }

    /// Lets the segments go that no start needs either, once settled: jobs may have come home since that was written down.
    /// Returns which.
    pub(crate) fn drop_empty(&mut self) -> Vec<u64> {
        let is_empty =
            |segment: &FarSegment| segment.settled.count == 0 && segment.open.count == 0 && !segment.is_named;
        self.segments.extract_if(.., |_, segment| is_empty(segment)).map(|(number, _)| number).collect()
    }

    /// The first segment after that one, with its settled bits as they are written down.
    pub(crate) fn settled_after(&mut self, after: u64) -> Option<OpenSegment> {
        let (&segment, FarSegment { records, end, settled, is_named, .. }) =
            self.segments.range_mut(after + 1..).next()?;
        *is_named = settled.count > 0;
        Some(OpenSegment { segment, records: *records, end: *end, open: settled.clone() })
    }

    /// The numbers of the segments, rising, with how many of their records there are and how many of their jobs are open.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u64, u32, u32)> + '_ {
        self.segments.iter().map(|(&number, segment)| (number, segment.records, segment.open.count))
    }
}
