//! The state as far as records tell of it, and the account of what they do not tell.
//!
//! [`super::merge`] hands it records in the order of their places. Where some are missing it goes on: an event on a
//! job that it does not have is noted and changes nothing.

use super::{JobRange, LostJob};
use crate::event::{Event, KeptJob, PutJob};
use crate::far::OpenSegment;
use crate::job::{JobId, QueueName, Time};
use crate::limits::{DEFAULT_SPOKE, NUMBER_BLOCK};
use crate::log::inspect::{LsnRange, PassedOver};
use crate::log::{LoggedEvent, Lsn};
use crate::state::State;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How far numbers go on above all that is known to have been issued, where nothing says how many records are lost.
const UNKNOWN_NUMBERS: u64 = 1 << 32;

/// The same for starts: each is a record too, but nobody starts a server this often.
const UNKNOWN_STARTS: u64 = 1 << 16;

/// What is known of a job that is not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    /// Something happened to it, and its record is not there.
    Missing,
    /// It ended, or is written again further on.
    Settled,
}

pub(super) struct Ledger {
    state: State,
    /// The place of the record that comes next; `None` before the first.
    due: Option<Lsn>,
    /// Where the log begins, as far as it is left.
    first: Option<Lsn>,
    /// The latest moment of a record.
    now: Time,
    /// The last record that tells of each open job.
    told: HashMap<JobId, Lsn>,
    /// Jobs whose put was not read.
    heard: BTreeMap<JobId, Heard>,
    /// Those that were taken from before the log that is read.
    from_far: HashSet<JobId>,
    /// Where records are that hold jobs and are spoilt.
    spoilt: BTreeMap<JobId, (u64, u64)>,
    ended: Vec<JobId>,
    /// The greatest number of a job that was put.
    last_put: u64,
    /// How many records are missing since that put; `None` if nothing says.
    missing_puts: Option<u64>,
    unseen: Vec<JobRange>,
    pub(super) records: u64,
    pub(super) rescued: u64,
    pub(super) lost: Vec<LsnRange>,
    pub(super) lost_bytes: u64,
    highest_job: u64,
    highest_seq: u64,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger {
            state: State::new(DEFAULT_SPOKE, None),
            due: None,
            first: None,
            now: Time(0),
            told: HashMap::new(),
            heard: BTreeMap::new(),
            from_far: HashSet::new(),
            spoilt: BTreeMap::new(),
            ended: Vec::new(),
            last_put: 0,
            missing_puts: Some(0),
            unseen: Vec::new(),
            records: 0,
            rescued: 0,
            lost: Vec::new(),
            lost_bytes: 0,
            highest_job: 0,
            highest_seq: 0,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The latest moment that a record tells of.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Whether all that is lost is told by its place: the log was read from its very first record on.
    pub(super) fn reaches_back(&self) -> bool {
        self.first == Some(Lsn(1))
    }

    /// The place of the record that comes next.
    pub(super) fn due(&self) -> Lsn {
        self.due.unwrap_or(Lsn(1))
    }

    /// Says where the log begins: what is before is not missed.
    pub(super) fn begin_at(&mut self, first: Lsn) {
        self.due.get_or_insert(first);
        self.first.get_or_insert(first);
    }

    /// Takes the next record, whose place was counted on from what is known: others may be missing before it. Where another was taken at
    /// that place, as one of the segment before that is missing, it stands behind that.
    pub(super) fn take_guessed(&mut self, lsn: Lsn, seq: u64, at: Time, event: LoggedEvent<'_>) {
        self.missing_puts = None;
        let due = self.due();
        let is_other = lsn < due && seq > self.highest_seq;
        self.take(if is_other { due } else { lsn }, seq, at, event);
    }

    /// Passes over a record that is whole, of a newer server, and changes nothing here.
    pub(super) fn skip(&mut self, lsn: Lsn) {
        self.goes_on(lsn);
    }

    /// Goes on to a record and notes what is missing before it; false if one of its place or a later one was there.
    fn goes_on(&mut self, lsn: Lsn) -> bool {
        let due = self.due();
        if lsn > due {
            self.miss(LsnRange { from: due, to: Some(Lsn(lsn.0 - 1)) });
        }
        if lsn >= due {
            self.due = Some(Lsn(lsn.0.saturating_add(1)));
        }
        lsn >= due
    }

    /// Takes the next record; nothing if one of its place or a later one was taken.
    pub(super) fn take(&mut self, lsn: Lsn, seq: u64, at: Time, event: LoggedEvent<'_>) {
        if !self.goes_on(lsn) {
            return;
        }
        self.records += 1;
        self.now = self.now.max(at);
        self.highest_seq = self.highest_seq.max(seq);
        let dropped = event.queue_name().filter(|_| matches!(event.event(), Event::QueueDropped { .. })).cloned();
        if let Some(name) = dropped {
            self.empty_queue(&name, at);
        }
        let event = event.resolve(&mut |name| self.state.open_queue(name));
        if let Some(job) = event.job() {
            self.saw_job(job);
            if !self.prepare(lsn, job, &event, at) {
                return;
            }
        }
        self.state.replay(event, lsn, seq, at);
    }

    /// Says how far the wall clock was ahead of engine time, in nanoseconds, where the log begins that is read.
    pub(super) fn begin_clock(&mut self, wall_ahead: i128) {
        self.state.begin_clock(wall_ahead);
    }

    /// Takes a job in that stands before the log that is read; it was open behind that record.
    pub(super) fn take_far(&mut self, mut kept: KeptJob, queue: &QueueName, as_of: Lsn) {
        kept.put.queue = self.state.open_queue(queue);
        let job = kept.put.job;
        self.saw_job(job);
        self.from_far.insert(job);
        let event = Event::JobKept(Box::new(kept));
        // It is due when it is due: nothing happens to it here.
        let at = Time(0);
        if self.prepare(as_of, job, &event, at) {
            self.state.replay(event, Lsn(0), 0, at);
        }
    }

    /// Takes note of open jobs that stay on disk, in a segment before the log that is read, by their queues.
    pub(super) fn load_far(&mut self, segment: OpenSegment, counts: Vec<(QueueName, u64)>) {
        // Nothing of it leaves for a file of open jobs.
        self.state.load_far(segment, counts, true);
    }

    pub(super) fn saw_job(&mut self, job: JobId) {
        self.highest_job = self.highest_job.max(job.0);
    }

    /// Notes that the record of a job is spoilt that was open where the log begins that is read.
    pub(super) fn lose_far(&mut self, job: JobId, segment: u64, offset: u64) {
        self.saw_job(job);
        self.heard.entry(job).or_insert(Heard::Missing);
        self.spoilt.entry(job).or_insert((segment, offset));
    }

    /// Takes down what an event says of a job; returns whether it can be applied.
    fn prepare(&mut self, lsn: Lsn, job: JobId, event: &Event, at: Time) -> bool {
        let is_open = self.told.contains_key(&job);
        match event {
            Event::JobPut(put) => {
                self.note_put(job);
                if is_open {
                    return false;
                }
                self.make_room(put, at);
            }
            Event::JobKept(kept) => {
                let is_final = kept.course.as_ref().is_some_and(|course| course.ended.is_some());
                if !is_open {
                    self.heard.insert(job, Heard::Settled);
                }
                if !is_open && !is_final {
                    self.make_room(&kept.put, at);
                }
                // A whole job says more than what was made of its earlier records, if some of those are missing.
                self.state.make_way(job);
                if is_final {
                    self.told.remove(&job);
                    return true;
                }
            }
            Event::JobReplaced(kept) => {
                if !is_open {
                    self.heard.insert(job, Heard::Settled);
                }
                self.make_room(&kept.put, at);
            }
            _ if event.ends_job().is_some() => {
                if !matches!(event, Event::JobCompleted { .. }) {
                    self.state.note_failed(&[(job, at)]);
                }
                if !is_open {
                    self.heard.insert(job, Heard::Settled);
                }
                // Who waits for it has to hear of it, be it there or not.
                return self.told.remove(&job).is_some() || self.state.waiting_for(job).next().is_some();
            }
            _ if !is_open => {
                self.heard.entry(job).or_insert(Heard::Missing);
                return false;
            }
            _ => {}
        }
        self.told.insert(job, lsn);
        true
    }

    /// Keys are unique among the open jobs of a queue, so that who had this one has ended.
    fn make_room(&mut self, put: &PutJob, at: Time) {
        let holder = put.key.as_ref().and_then(|key| self.state.holder_of_key(put.queue, key));
        if let Some(holder) = holder.filter(|&holder| holder != put.job) {
            self.end(holder, at);
            self.ended.push(holder);
        }
    }

    /// A queue ends when nothing is in it, so that all who were in it have ended.
    fn empty_queue(&mut self, name: &QueueName, at: Time) {
        let Some(queue) = self.state.find_queue(name).filter(|&queue| self.state.has_jobs(queue)) else { return };
        for job in self.state.jobs_of(queue) {
            // A final one was kept long enough.
            self.ended.extend(self.told.contains_key(&job).then_some(job));
            self.end(job, at);
        }
    }

    fn end(&mut self, job: JobId, at: Time) {
        self.told.remove(&job);
        self.state.drop_job(job, at);
    }

    fn note_put(&mut self, job: JobId) {
        let next = self.last_put.saturating_add(1);
        if self.missing_puts != Some(0) && job.0 > next {
            self.unseen.push(JobRange { from: JobId(next), to: Some(JobId(job.0 - 1)) });
        }
        self.last_put = self.last_put.max(job.0);
        self.missing_puts = Some(0);
    }

    /// Notes that records are missing.
    fn miss(&mut self, range: LsnRange) {
        let count = range.to.map(|to| to.0 - range.from.0 + 1);
        self.missing_puts = self.missing_puts.and_then(|missing| Some(missing.saturating_add(count?)));
        self.lost.push(range);
    }

    /// Notes bytes that are no records.
    pub(super) fn pass_over(&mut self, passed: &PassedOver) {
        self.lost_bytes += passed.bytes;
        for spoilt in &passed.spoilt {
            self.spoilt.entry(spoilt.job).or_insert((passed.segment, spoilt.offset));
        }
    }

    /// Nothing comes any more; `tail` is missing at the end. Numbers go on above all that may have been issued.
    pub(super) fn close(&mut self, is_damaged: bool, tail: Option<LsnRange>) {
        tail.into_iter().for_each(|tail| self.miss(tail));
        self.state.forget_parents(self.now);
        if self.missing_puts != Some(0) {
            let from = JobId(self.last_put.saturating_add(1));
            let to = self.missing_puts.map(|missing| JobId(self.last_put.saturating_add(missing)));
            self.unseen.push(JobRange { from, to });
        }
        let unknown = self.lost.iter().any(|range| range.to.is_none());
        let missing: u64 = self.lost.iter().filter_map(|range| Some(range.to?.0 - range.from.0 + 1)).sum();
        let (raise, starts) = match (is_damaged, unknown) {
            (false, _) => (0, 0),
            (true, true) => (UNKNOWN_NUMBERS.saturating_add(missing), UNKNOWN_STARTS),
            // The last reservation of numbers may be among the lost, and what it allowed may have been used since: two blocks. Each start has two
            // records, and may have skipped a block.
            (true, false) => {
                let skipped = (missing / 2 + 2).saturating_mul(NUMBER_BLOCK);
                (missing.saturating_add(skipped), missing.min(UNKNOWN_STARTS))
            }
        };
        let mut kept = self.state.kept_numbers(1, None, self.now);
        // Ids between the two may have been issued too.
        let next_job = kept.next_job_id.max(kept.job_ids_below).max(self.highest_job.saturating_add(1));
        kept.next_job_id = next_job.saturating_add(raise);
        kept.job_ids_below = kept.next_job_id;
        let next_seq = kept.next_seq.max(kept.seqs_below).max(self.highest_seq.saturating_add(1));
        kept.next_seq = next_seq.saturating_add(raise);
        kept.seqs_below = kept.next_seq;
        kept.epoch = kept.epoch.saturating_add(u32::try_from(starts).expect("it is bounded"));
        self.state.apply(Event::NumbersKept(Box::new(kept)), self.now);
    }

    /// Jobs that something tells of, and that are neither open nor known to have ended.
    pub(super) fn lost_jobs(&self) -> Vec<LostJob> {
        let missing = self.heard.iter().filter(|(_, heard)| **heard == Heard::Missing).map(|(&job, _)| job);
        // The number in a spoilt record may be wrong: one that was never issued is no job.
        let below = self.state.numbers().next_job_id;
        let is_settled = |job: &JobId| self.heard.get(job) == Some(&Heard::Settled) || self.ended.contains(job);
        let spoilt = self.spoilt.keys().copied().filter(|job| job.0 < below && !is_settled(job));
        let mut jobs: Vec<JobId> = missing.chain(spoilt).filter(|job| !self.told.contains_key(job)).collect();
        jobs.sort_unstable();
        jobs.dedup();
        jobs.into_iter().map(|job| LostJob { job, spoilt_at: self.spoilt.get(&job).copied() }).collect()
    }

    /// The numbers that may have been put where records are missing, without those that something tells of.
    pub(super) fn unseen_jobs(&self) -> Vec<JobRange> {
        let mut unseen = Vec::new();
        for range in &self.unseen {
            let last = range.to.map_or(u64::MAX, |to| to.0);
            let all = range.from..=JobId(last);
            let heard = self.heard.range(all.clone()).map(|(job, _)| job.0);
            let spoilt = self.spoilt.range(all).map(|(job, _)| job.0);
            let mut known: Vec<u64> = heard.chain(spoilt).collect();
            known.sort_unstable();
            known.dedup();
            let mut from = range.from.0;
            for job in known {
                if job > from {
                    unseen.push(JobRange { from: JobId(from), to: Some(JobId(job - 1)) });
                }
                // A spoilt record may name the greatest number there is, which no job has.
                from = job.saturating_add(1);
            }
            if from <= last {
                unseen.push(JobRange { from: JobId(from), to: range.to });
            }
        }
        unseen
    }

    /// Open jobs behind whose last record some are missing.
    pub(super) fn uncertain(&self) -> Vec<JobId> {
        let Some(last) = self.lost.last() else { return Vec::new() };
        let before = last.to.unwrap_or(Lsn(u64::MAX));
        let mut jobs: Vec<JobId> = self.told.iter().filter(|(_, told)| **told < before).map(|(&job, _)| job).collect();
        jobs.sort_unstable();
        jobs
    }

    /// How many of the jobs that were taken from before the log that was read are open.
    pub(super) fn far_jobs(&self) -> u64 {
        self.from_far.iter().filter(|job| self.told.contains_key(job)).count() as u64
    }

    pub(super) fn ended(&self) -> Vec<JobId> {
        let mut ended: Vec<JobId> = self.ended.iter().copied().filter(|job| !self.told.contains_key(job)).collect();
        ended.sort_unstable();
        ended.dedup();
        ended
    }
}
