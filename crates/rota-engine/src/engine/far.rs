//! The engine's part in jobs that are not in memory: what is missing, what comes near, what leaves.
//!
//! The pieces are in [`crate::far`]; whoever reads the files calls these, in between.

use super::Engine;
use crate::command::{Command, Parent};
use crate::far::{FarAsOf, FarEntry, FarFound, FarPlace, FarRecord, Moments, NearGoal, OpenSegment, Want};
use crate::job::{JobId, QueueName, Time};
use crate::log::{Lsn, Pending};
use crate::queue::QueueId;
use crate::session::SessionId;
use crate::snapshot::Snapshot;

impl Engine {
    /// What is missing before a command of that session is decided at `now`: to be looked up with [`crate::far::FarFiles::find`],
    /// then given to [`Engine::take_found`]. None where nothing is missing.
    #[must_use]
    pub fn wanted(&self, session: SessionId, command: &Command<'_>, now: Time) -> Option<Want> {
        self.state.wanted(session, command, self.now.max(now))
    }

    /// The same of a job that one which is put would wait for.
    #[must_use]
    pub fn wanted_parent(&self, parent: &Parent<'_>) -> Option<Want> {
        self.state.wanted_parent(parent)
    }

    /// The same, before a job is looked at: it is to be brought near.
    #[must_use]
    pub fn wanted_job(&self, job: JobId) -> Option<Want> {
        self.state.wanted_job(job)
    }

    /// The same, before a job is ended by somebody who does not hold it: its place is enough.
    #[must_use]
    pub fn wanted_place(&self, job: JobId) -> Option<Want> {
        self.state.wanted_place(job)
    }

    /// The same, before the first delayed job of a queue is looked at.
    #[must_use]
    pub fn wanted_first(&self, queue: QueueId) -> Option<Want> {
        self.state.wanted_first(queue, 1, self.now)
    }

    /// The same, before somebody is found by a key in a queue.
    #[must_use]
    pub fn wanted_key(&self, queue: &QueueName, key: &[u8]) -> Option<Want> {
        self.state.find_queue(queue).and_then(|queue| self.state.wanted_key(queue, key))
    }

    /// How many jobs left memory so far.
    #[must_use]
    pub fn jobs_left(&self) -> u64 {
        self.state.far.left
    }

    /// Which jobs left memory by now: to be asked when it is asked what is wanted, and again when that was looked up.
    #[must_use]
    pub fn far_as_of(&self) -> FarAsOf {
        self.state.far_as_of()
    }

    /// Whether a job of far segments may be open.
    #[must_use]
    pub fn has_far_jobs(&self) -> bool {
        !self.state.far.is_empty()
    }

    /// Which of the jobs are open and not in memory.
    #[must_use]
    pub fn are_cold(&self, entries: &[FarEntry]) -> Vec<bool> {
        self.state.are_cold(entries)
    }

    /// Brings jobs near: those that are in memory, or that ended since they were looked up, are passed over. Returns
    /// whether none had ended. At most [`crate::limits::STEP_OBJECTS`] at a time.
    pub fn bring_near(&mut self, records: &[FarRecord], now: Time) -> bool {
        self.now = self.now.max(now);
        let bodies_in_log = self.pending.as_ref().is_some_and(Pending::notes_bodies);
        let mut all = true;
        for record in records {
            all &= self.state.bring_near(record, bodies_in_log, self.now);
            // What is to be kept when it ends must be in the log that a start reads.
            if self.state.retains(&record.queue) && !self.holds_still() && !self.room.is_all {
                self.keep_far_job(record, self.now);
            }
        }
        self.settle();
        all
    }

    /// Takes what was looked up for commands: jobs are brought near, as [`Engine::bring_near`], or it is known where they
    /// are. To be given to [`Engine::let_go`] once the commands are decided, before anybody else's.
    pub fn take_found(&mut self, found: &FarFound, now: Time) -> bool {
        match found {
            FarFound::Jobs(records) => self.bring_near(records, now),
            FarFound::Places(jobs) => {
                self.state.know_places(jobs);
                true
            }
        }
    }

    /// The same of what was looked up for `want` as of that moment. Returns whether it is still so: who is first may have ended, and
    /// others may have left memory since.
    pub fn take_wanted(&mut self, want: &Want, found: &FarFound, as_of: FarAsOf, now: Time) -> bool {
        let are_all_there = self.take_found(found, now) || !matches!(want, Want::First { .. });
        are_all_there && as_of.holds(want, self.far_as_of())
    }

    /// Lets go again what was looked up for commands: jobs to which nothing happened leave memory.
    pub fn let_go(&mut self, found: &FarFound) {
        match found {
            FarFound::Jobs(records) => records.iter().for_each(|record| self.state.let_go(record)),
            FarFound::Places(jobs) => jobs.iter().for_each(|found| self.state.far.forget(found.job)),
        }
    }

    /// How far jobs are to be brought near, where all are that are due or expire by `until`: also what goes by the wall clock, as
    /// it shows then. To be asked before [`crate::far::FarFiles::due`], so that none of them leaves memory meanwhile.
    pub fn aim_near(&mut self, until: Time) -> NearGoal {
        self.state.aim_near(until)
    }

    /// Says that every job that this goal is about was brought near.
    pub fn near_until(&mut self, goal: NearGoal) {
        self.state.is_near(goal);
    }

    /// How many jobs are not in memory.
    #[must_use]
    pub fn cold_jobs(&self) -> u64 {
        self.state.cold_jobs()
    }

    /// From when on a delayed job is so far ahead that it may leave memory, in both times; `None` if none may now: during a snapshot,
    /// and on a full disk. A segment that stays for its jobs gives no room back, and its index takes some.
    #[must_use]
    pub fn leaves_after(&self) -> Option<Moments> {
        self.state.leaves_after(self.now).filter(|_| self.snapshot.is_none() && !self.room.is_all)
    }

    /// Whether there are far segments whose jobs are all over, so that they go once the next segment is reclaimed.
    #[must_use]
    pub fn has_empty_far_segments(&self) -> bool {
        self.far_segments().any(|(.., open)| open == 0)
    }

    /// Whether nothing may be written again now: a snapshot is being taken and there are far jobs, or those that wait for a
    /// job were not all told yet that it is over.
    #[must_use]
    pub fn holds_still(&self) -> bool {
        (self.snapshot.is_some() && !self.state.far.is_empty()) || self.state.is_telling()
    }

    /// The far segments, each with the number of its records and of its open jobs.
    pub fn far_segments(&self) -> impl Iterator<Item = (u64, u32, u32)> + '_ {
        self.state.far.segments()
    }

    /// Lets go of the far segments that nobody needs any more once the log's newest header says what it began with when
    /// the last compaction was finished; returns which.
    pub fn drop_empty_far_segments(&mut self) -> Vec<u64> {
        self.state.far.drop_empty()
    }

    /// Whether a job is in memory, and that record is its home.
    pub(crate) fn is_home(&self, job: JobId, place: FarPlace) -> bool {
        self.state.slot_of(job).is_some_and(|slot| self.state.home(slot) == Some(place))
    }

    pub(crate) fn can_leave(&self, job: JobId) -> bool {
        self.state.can_leave(job)
    }

    /// A job leaves memory for its record, if it may; `of` are the number of its segment's records and the first record
    /// behind them.
    pub(crate) fn leave(&mut self, record: &FarRecord, of: (u32, Lsn), now: Time) -> bool {
        self.now = self.now.max(now);
        self.snapshot.is_none() && self.state.leave(record, of, self.now)
    }

    pub(crate) fn settle_far(&mut self, below: Lsn, most: usize) -> bool {
        let is_done = self.state.far.settle(below, most);
        if is_done {
            self.state.settle_clock(below, self.now);
        }
        is_done
    }

    /// By how many nanoseconds the wall clock was ahead of engine time before that record, if a start has to know it.
    pub(crate) fn far_wall_ahead(&self, at: Lsn) -> Option<i128> {
        self.state.far_wall_ahead(at)
    }

    /// Whether all far jobs are in memory that were due when the wall clock was set in a record below `below`.
    #[must_use]
    pub(crate) fn has_due_by_clock(&self, below: Lsn) -> bool {
        self.state.has_due_by_clock(below)
    }

    /// Those of them that come behind that one, out of so many, and where to go on.
    pub(crate) fn due_by_clock(&self, below: Lsn, after: JobId, most: usize) -> (Vec<JobId>, Option<JobId>) {
        self.state.far.due_by_clock(below, after, most)
    }

    pub(crate) fn far_settled_after(&mut self, segment: u64) -> Option<OpenSegment> {
        self.state.far.settled_after(segment)
    }

    /// As [`Engine::keep_job`], of a job whose home is that record, if it still is, and it is in memory.
    pub fn keep_far_job(&mut self, record: &FarRecord, now: Time) {
        if self.is_home(record.job(), record.place) {
            self.keep_job(record.job(), &record.kept.put.body, now);
        }
    }

    /// The far segment that the snapshot is to be given next, with [`Engine::snapshot_far`]: before any slice.
    #[must_use]
    pub fn snapshot_far_segment(&self) -> Option<u64> {
        self.snapshot.as_ref().and_then(Snapshot::far_segment)
    }

    /// Gives the snapshot what [`crate::far::FarFiles::records`] has of the far segment that it is to be given, a step at a time, in
    /// order; `is_all` with the last of them.
    pub fn snapshot_far(&mut self, records: &[FarRecord], is_all: bool, now: Time) {
        self.now = self.now.max(now);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.step_far(records, &self.state, self.now);
            if is_all {
                snapshot.end_far_segment(&self.state);
            }
        }
    }
}

/// What tests and simulations look at.
#[cfg(any(test, feature = "testing"))]
impl Engine {
    /// Whether a job is in memory, and its record is one that no start reads.
    #[must_use]
    pub fn is_homeless(&self, job: JobId) -> bool {
        self.state.slot_of(job).is_some_and(|slot| self.state.home(slot).is_some())
    }

    /// Every job that is due by then is in memory.
    #[must_use]
    pub fn known_until(&self) -> Time {
        self.state.known_until()
    }

    /// The jobs that are not in memory.
    ///
    /// # Panics
    /// If they cannot be read.
    #[must_use]
    pub fn cold_records<S: crate::storage::Storage>(&self, files: &crate::far::FarFiles<S>) -> Vec<FarRecord> {
        let mut cold = Vec::new();
        for (segment, ..) in self.far_segments() {
            let mut records = files.records(segment).expect("a far segment can be read").expect("it is a far one");
            while let Some(group) = records.next_group().expect("a far segment can be read") {
                cold.extend(group.into_iter().filter(|record| self.are_cold(&[record.entry()]) == [true]));
            }
        }
        cold
    }
}
