//! A snapshot under way: the whole state as a log of its own, taken while the engine works on.
//!
//! ```text
//!   every job, a slice at a time ──► job kept ─┐
//!   what happens meanwhile ────────► events ───┼──► records from LSN 1 on, for a log writer of their own
//!   queues, schedules, the numbers ► … kept ───┘
//! ```
//!
//! The records of a walk and of what happens meanwhile stand in one order, so a replay of them gives the state at their
//! end. A change of a job that the walk has not come to yet is left out: the job is written as it is when its turn comes.
//! [`crate::engine`] calls this; where the records go is the embedder's business.

use crate::command::{Body, BodyPlace};
use crate::event::Event;
use crate::far::{FarPlace, FarRecord};
use crate::job::{JobId, Time};
use crate::limits::KEPT_SLICE_BYTES;
use crate::log::{Group, Lsn, Pending};
use crate::pages::Slot;
use crate::state::State;
use std::collections::{HashMap, HashSet};

/// What a snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotCounts {
    /// Open jobs, as of its end.
    pub jobs: u64,
    /// Queues, as of its end.
    pub queues: u64,
    /// Records.
    pub records: u64,
}

#[derive(Debug)]
pub(crate) struct Snapshot {
    pending: Pending,
    /// Jobs from this id on were put since the begin: all that happens to them is in the stream.
    new_from: u64,
    walk: Walk,
    counts: SnapshotCounts,
    /// Bodies that were read from the log for the next slice.
    bodies: HashMap<JobId, Box<[u8]>>,
    /// Jobs that were replaced since they were written.
    replaced: HashSet<JobId>,
    /// The key of the answer that was written last.
    answered: Option<Box<[u8]>>,
    /// The job that was written last of those that came to nothing.
    failed: Option<(JobId, Time)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    /// Over the far segments: those before this record are done.
    Far(FarPlace),
    /// Over the jobs: those in slots before this one are done.
    Jobs(Slot),
    /// Over the answers that are kept: up to [`Snapshot::answered`] they are done.
    Answers,
    /// Over the jobs that are remembered to have come to nothing: up to [`Snapshot::failed`] they are done.
    Failed,
    /// Over the queues, in the order of their creation: up to this one they are done.
    Queues(u64),
    /// The same over the schedules.
    Schedules(u64),
    Done,
}

impl Walk {
    /// The next far segment, or what comes behind them.
    fn over(self, state: &State) -> Walk {
        let Walk::Far(done) = self else { return self };
        let mut segments = state.far.segments().map(|(segment, ..)| segment);
        match segments.find(|&segment| segment > done.segment) {
            Some(segment) => Walk::Far(FarPlace { segment, ordinal: 0 }),
            None => Walk::Jobs(Slot(0)),
        }
    }
}

impl Snapshot {
    pub(crate) fn begin(state: &State) -> Snapshot {
        let new_from = state.numbers().next_job_id;
        Snapshot {
            pending: Pending::new(Lsn(1)),
            new_from,
            walk: Walk::Far(FarPlace { segment: 0, ordinal: 0 }).over(state),
            counts: SnapshotCounts::default(),
            bodies: HashMap::new(),
            replaced: HashSet::new(),
            answered: None,
            failed: None,
        }
    }

    /// Takes down what is about to happen, as far as it is not read off the state later.
    pub(crate) fn follow(&mut self, seq: u64, at: Time, event: &Event, state: &State) {
        // A snapshot is the state: how that came is not in it, nor what was changed beside it.
        let is_left_out = matches!(
            event,
            Event::JobKept(_)
                | Event::QueueKept(_)
                | Event::NumbersKept(_)
                | Event::FailedKept(_)
                | Event::ScheduleKept(_)
                | Event::Noted(_)
        );
        if self.walk == Walk::Done || is_left_out {
            return;
        }
        if let Some(schedule) = event.schedule() {
            let number = state.schedule_number(schedule);
            if matches!(self.walk, Walk::Schedules(done) if number.is_some_and(|number| number <= done)) {
                self.pending.append(seq, at, event, state);
            }
            return;
        }
        if let Some(job) = event.ends_job() {
            self.bodies.remove(&job);
        }
        let is_written = |job: JobId| {
            if self.replaced.contains(&job) {
                return true;
            }
            let (slot, home) = (state.slot_of(job), state.known_home(job));
            match self.walk {
                Walk::Far(next) => home.map_or(job.0 >= self.new_from, |home| home < next),
                Walk::Jobs(next) => job.0 >= self.new_from || home.is_some() || slot.is_some_and(|slot| slot < next),
                Walk::Answers | Walk::Failed | Walk::Queues(_) | Walk::Schedules(_) | Walk::Done => true,
            }
        };
        // Who was written and waits for a job must hear of its end, be that one written or not.
        let is_waited_for = event.ends_job().is_some_and(|job| state.waiting_for(job).any(is_written));
        let changed = if let Event::JobReplaced(_) = event { event.job() } else { event.changes_job() };
        if is_waited_for || changed.is_none_or(is_written) {
            self.pending.append(seq, at, event, state);
            // Its home, by which it is known to be written, will be another.
            self.replaced.extend(changed.filter(|_| matches!(event, Event::JobReplaced(_))));
        }
    }

    /// Walks on over at most so many objects, and not over many more bytes than a step may. Returns whether all is done.
    pub(crate) fn step(&mut self, most_objects: usize, state: &State, now: Time) -> bool {
        let limit = self.pending.bytes() + KEPT_SLICE_BYTES;
        let seq = state.numbers().next_seq - 1;
        for _ in 0..most_objects {
            if self.pending.bytes() > limit {
                return false;
            }
            match self.walk {
                Walk::Far(_) => return false,
                Walk::Jobs(next) => {
                    let Some(slot) = state.job_from(next) else {
                        self.walk = Walk::Answers;
                        continue;
                    };
                    if self.is_to_write(slot, state) {
                        let body = match state.body_at(slot) {
                            Body::InMemory(body) => body.into(),
                            Body::InLog(place) => match self.bodies.remove(&place.job) {
                                Some(body) => body,
                                None => return false,
                            },
                        };
                        let kept = state.kept_job_at(slot, body);
                        self.pending.append(seq, now, &Event::JobKept(Box::new(kept)), state);
                    }
                    self.walk = Walk::Jobs(Slot(slot.0 + 1));
                }
                Walk::Answers => {
                    let Some(key) = state.answer_key_after(self.answered.as_deref()) else {
                        self.walk = Walk::Failed;
                        continue;
                    };
                    if let Some(kept) = state.kept_answer(key, now) {
                        self.pending.append(seq, now, &Event::AnswerKept(Box::new(kept)), state);
                    }
                    self.answered = Some(key.into());
                }
                Walk::Failed => {
                    let failed = state.failed_after(self.failed, now);
                    match failed.last() {
                        None => self.walk = Walk::Queues(0),
                        Some(&last) => {
                            self.failed = Some(last);
                            self.pending.append(seq, now, &Event::FailedKept(failed.into()), state);
                            // They are as many as a step may handle.
                            return false;
                        }
                    }
                }
                Walk::Queues(after) => {
                    let next = state.queues_after(after).next();
                    let Some((number, queue)) = next else {
                        self.walk = Walk::Schedules(0);
                        continue;
                    };
                    self.walk = Walk::Queues(number);
                    if let Some(kept) = state.kept_queue(queue) {
                        self.pending.append(seq, now, &Event::QueueKept(Box::new(kept)), state);
                    }
                }
                Walk::Schedules(after) => {
                    let Some((number, kept)) = state.schedule_after(after) else {
                        let numbers = Event::NumbersKept(Box::new(state.kept_numbers(1, None, now)));
                        self.pending.append(seq, now, &numbers, state);
                        self.walk = Walk::Done;
                        let jobs = state.totals().open();
                        let (queues, records) = (state.queues() as u64, self.pending.last_lsn().0);
                        self.counts = SnapshotCounts { jobs, queues, records };
                        return true;
                    };
                    self.walk = Walk::Schedules(number);
                    self.pending.append(seq, now, &Event::ScheduleKept(Box::new(kept)), state);
                }
                Walk::Done => return true,
            }
        }
        false
    }

    /// Whether the walk over jobs writes this one: all that happens to a new one is in the stream, and one whose home is a
    /// far segment was written there.
    fn is_to_write(&self, slot: Slot, state: &State) -> bool {
        let job = state.id_at(slot);
        job.0 < self.new_from && state.home(slot).is_none() && !self.replaced.contains(&job)
    }

    /// Whether all jobs, answers and ends of jobs were walked over.
    pub(crate) fn is_near_end(&self) -> bool {
        matches!(self.walk, Walk::Queues(_) | Walk::Schedules(_) | Walk::Done)
    }

    /// The far segment that the walk is in, if it is in one.
    pub(crate) fn far_segment(&self) -> Option<u64> {
        if let Walk::Far(next) = self.walk { Some(next.segment) } else { None }
    }

    /// Writes what is open of a far segment, out of the records that it holds, in their order and each once.
    pub(crate) fn step_far(&mut self, records: &[FarRecord], state: &State, now: Time) {
        let seq = state.numbers().next_seq - 1;
        for record in records {
            if self.far_segment() != Some(record.place.segment) {
                continue;
            }
            if state.far.is_open(record.place) {
                let kept = match state.slot_of(record.job()) {
                    Some(slot) => state.kept_job_at(slot, record.kept.put.body.clone()),
                    None => {
                        let mut kept = record.kept.clone();
                        kept.put.run_at = state.far_run_at(record.place, &kept.put);
                        kept.put.queue = state.find_queue(&record.queue).expect("the queue of an open job is there");
                        kept
                    }
                };
                self.pending.append(seq, now, &Event::JobKept(Box::new(kept)), state);
            }
            self.walk = Walk::Far(FarPlace { ordinal: record.place.ordinal + 1, ..record.place });
        }
    }

    /// All records of the far segment were given.
    pub(crate) fn end_far_segment(&mut self, state: &State) {
        self.walk = self.walk.over(state);
    }

    /// The bodies that the next step needs and that are in the log alone: about as many as a step writes.
    pub(crate) fn wants(&self, most_objects: usize, state: &State) -> Vec<BodyPlace> {
        let Walk::Jobs(mut next) = self.walk else { return Vec::new() };
        let mut wanted = Vec::new();
        let mut bytes = 0;
        for _ in 0..most_objects {
            let Some(slot) = state.job_from(next).filter(|_| bytes < KEPT_SLICE_BYTES) else { break };
            next = Slot(slot.0 + 1);
            if let Body::InLog(place) = state.body_at(slot)
                && self.is_to_write(slot, state)
                && !self.bodies.contains_key(&place.job)
            {
                bytes += place.body_bytes as usize;
                wanted.push(place);
            }
        }
        wanted
    }

    /// Takes bodies that it wanted.
    pub(crate) fn take_bodies(&mut self, bodies: Vec<(JobId, Box<[u8]>)>) {
        self.bodies.extend(bodies);
    }

    /// Moves the records since the last call into `group`; returns whether there were any.
    pub(crate) fn take(&mut self, group: &mut Group) -> bool {
        self.pending.take(group)
    }

    /// Bytes of records that nobody took yet.
    pub(crate) fn bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// What it holds, once it is done.
    pub(crate) fn counts(&self) -> SnapshotCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::engine::Options;
    use crate::testing::server::{Server, queue};
    use crate::testing::storage::SimulatedDisk;
    use std::time::Duration;

    #[test]
    fn what_happens_before_it_is_said_to_be_done_is_in_it() {
        // So long that for some of them the last record makes the step longer than a step may be.
        for length in (KEPT_SLICE_BYTES / 2 - 400..KEPT_SLICE_BYTES / 2).step_by(8) {
            let mut server = Server::start(SimulatedDisk::new(), 1 << 30, Options::default()).unwrap();
            let work = queue("work");
            let ids = [length, length, 1].map(|length| server.put(&work, Duration::ZERO, &vec![b'x'; length]));
            assert!(server.engine.begin_snapshot());
            let mut left = ids.into_iter();
            while !server.engine.snapshot_slice(1_000, server.now) {
                left.next().into_iter().for_each(|id| _ = server.ask(Command::Cancel(id)));
            }
            let (disk, mut group) = (SimulatedDisk::new(), crate::log::Group::default());
            let (mut writer, _) = crate::log::open(disk.clone(), *b"another store ..", &mut |_| Ok(())).unwrap();
            assert!(server.engine.take_snapshot_records(&mut group));
            writer.write(&mut group).unwrap();
            writer.close().unwrap();
            let restored = Server::start(disk, 1 << 30, Options::default()).unwrap();
            let is_there = ids.map(|id| restored.engine.job(id).is_some());
            assert_eq!(is_there, ids.map(|id| server.engine.job(id).is_some()), "with bodies of {length} bytes");
        }
    }
}
