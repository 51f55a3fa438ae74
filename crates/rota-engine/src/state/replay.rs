//! The state out of a log: every event again, in order.
//!
//! A log whose first segments were reclaimed begins in the middle: events on jobs that are written again further on, or
//! that ended, are passed over until the record that completed the reclaiming. From there on an event that fits nothing
//! is a fault.

use super::State;
use crate::engine::BodyHome;
use crate::event::Event;
use crate::far::{FarError, FarFiles, OpenFile};
use crate::job::{JobId, JobState, Time};
use crate::log::{BodyWritten, Lsn, ReplayError, ReplayedRecord};
use crate::queue::QueueId;
use crate::storage::{Beside, Storage};

/// Ends of jobs that are not in memory, of which a replay looks up so many at once at the most.
const ENDS_AT_ONCE: usize = 1 << 20;

/// A replay under way.
pub(crate) struct Replay<S: Storage> {
    state: State,
    storage: S,
    /// What looks up jobs that stand before the log's beginning.
    far: FarFiles<S>,
    /// The checksum of the file that says which of those are open, if there is one.
    far_checksum: Option<u32>,
    /// Whether the log named another one last.
    is_far_file_other: bool,
    /// The segment that the log begins with; `None` before the first record.
    first_segment: Option<u64>,
    /// The queue that a record named last: the next one mostly names the same.
    named: Option<QueueId>,
    /// Whether all that is open at this point of the log was read.
    is_whole: bool,
    bodies: BodyHome,
    /// Ends of jobs that are not in memory, not looked up yet: many are found at once, in the order of the disk.
    ends: Vec<End>,
}

/// The end of a job.
struct End {
    job: JobId,
    lsn: Lsn,
    /// How it ended.
    state: JobState,
    /// Whether the job must be known.
    is_whole: bool,
}

/// The log ended before all of what its first segments held was written again.
#[derive(Debug, thiserror::Error)]
#[error("the log begins at segment {0}, but does not hold what stood in those before it: a segment is missing")]
struct NotWhole(u64);

/// An event changes a job that is not open, or a schedule that is not there.
#[derive(Debug, thiserror::Error)]
#[error("it changes a job that is not open, or a schedule that is not there: {0:?}")]
struct NoSuchJob(Event);

/// The file that says which earlier jobs are open is not the one that the log names.
#[derive(Debug, thiserror::Error)]
#[error(
    "jobs of segments before {first} are open, and the file {} beside the segments, which says which, is missing or \
     is not the one that was left here: put the right one back from a copy",
    Beside::Open(first - 1).file_name()
)]
struct FarJobsLost {
    first: u64,
}

impl<S: Storage> Replay<S> {
    /// `far_files`: how many files of far segments are held open at a time.
    pub(crate) fn new(state: State, bodies: BodyHome, storage: S, far_files: usize) -> Replay<S> {
        let far = FarFiles::new(storage.clone(), far_files);
        Replay {
            state,
            storage,
            far,
            far_checksum: None,
            is_far_file_other: false,
            first_segment: None,
            named: None,
            is_whole: true,
            bodies,
            ends: Vec::new(),
        }
    }

    /// Takes the next record.
    pub(crate) fn take(&mut self, record: ReplayedRecord<'_>) -> Result<(), ReplayError> {
        let at = record.at;
        let taken = self.take_in(record);
        self.state.was_at(at);
        taken
    }

    fn take_in(&mut self, record: ReplayedRecord<'_>) -> Result<(), ReplayError> {
        let ReplayedRecord { lsn, seq, at, event, place } = record;
        let first_segment = match self.first_segment {
            Some(first) => first,
            None => self.begin(place.segment)?,
        };
        let (state, named) = (&mut self.state, &mut self.named);
        let event = event.resolve(&mut |name| {
            // A dropped queue's number may be another's by now, so it is the name that counts.
            let is_it = |id: &QueueId| state.queues.get(id.slot()).is_some_and(|queue| queue.name == *name);
            let known = named.filter(is_it);
            *named.insert(known.unwrap_or_else(|| state.open_queue(name)))
        });
        if self.put_off(&event, lsn) {
            self.note_failed(&event, at);
            self.state.saw(seq);
            return if self.ends.len() < ENDS_AT_ONCE { Ok(()) } else { self.find_ends() };
        }
        if matches!(event, Event::QueueKept(_) | Event::QueueDropped { .. } | Event::NumbersKept(_)) {
            self.find_ends()?;
        }
        let is_whole_job = matches!(event, Event::JobKept(_) | Event::JobReplaced(_));
        let known_before = if is_whole_job { event.job() } else { event.changes_job() };
        if let Some(job) = known_before {
            self.bring_near(job, at)?;
        }
        for &parent in event.parents() {
            self.bring_near(parent, at)?;
        }
        if !self.state.can_apply(&event) {
            self.note_failed(&event, at);
            return if self.is_whole { Err(Box::new(NoSuchJob(event))) } else { Ok(()) };
        }
        if let Event::NumbersKept(kept) = &event
            && kept.oldest_segment == first_segment
        {
            // An earlier one may be of a reclaiming that a crash undid: others may have been open then.
            self.is_whole |= kept.far_jobs == self.far_checksum;
            self.is_far_file_other = kept.far_jobs != self.far_checksum;
        }
        let with_body = event.with_body().filter(|_| self.bodies == BodyHome::Log);
        self.state.replay(event, lsn, seq, at);
        if let Some(job) = with_body {
            self.state.body_written(BodyWritten { job, record: place });
        }
        Ok(())
    }

    /// Begins with the log's first segment: takes in what is open of those before it.
    fn begin(&mut self, first: u64) -> Result<u64, FarError> {
        self.first_segment = Some(first);
        self.is_whole = first == 1;
        if let Some((open, checksum)) = OpenFile::read(&self.storage, first - 1)? {
            self.far_checksum = Some(checksum);
            for segment in open.segments {
                let counts = self.far.open_found(&segment)?;
                let is_plain = self.far.is_plain(segment.segment);
                self.state.load_far(segment, counts, is_plain);
            }
            open.wall_ahead.into_iter().for_each(|ahead| self.state.begin_clock(ahead));
        }
        Ok(first)
    }

    /// Brings a job near that is far, before something happens to it.
    fn bring_near(&mut self, job: JobId, now: Time) -> Result<(), FarError> {
        if self.state.far.is_empty() || self.state.slot_of(job).is_some() {
            return Ok(());
        }
        let state = &self.state;
        let found = self.far.find_job(job, &mut |entries| state.are_cold(entries))?;
        for record in &found {
            self.state.bring_near(record, self.bodies == BodyHome::Log, now);
        }
        Ok(())
    }

    /// Whether that is the end of a job that may not be in memory: it is looked up later.
    fn put_off(&mut self, event: &Event, lsn: Lsn) -> bool {
        let (job, state, is_kept) = match event {
            Event::JobCompleted { job, kept } => (*job, JobState::Done, kept.is_some()),
            Event::JobCancelled { job, kept_until, .. } => (*job, JobState::Cancelled, kept_until.is_some()),
            Event::JobExpired { job, kept_until } => (*job, JobState::Expired, kept_until.is_some()),
            _ => return false,
        };
        // What is kept of it, or waits for it, is in memory.
        let is_in_memory = is_kept || self.state.is_waited_for(job) || self.state.slot_of(job).is_some();
        if self.state.far.is_empty() || is_in_memory || !self.far.may_have(job) {
            return false;
        }
        self.ends.push(End { job, lsn, state, is_whole: self.is_whole });
        true
    }

    /// Takes note of a job that came to nothing, be it there or not: who names it later must be told.
    fn note_failed(&mut self, event: &Event, at: Time) {
        if let Event::JobCancelled { job, .. } | Event::JobExpired { job, .. } = *event {
            self.state.note_failed(&[(job, at)]);
        }
    }

    /// Has the ends happen that were put off.
    fn find_ends(&mut self) -> Result<(), ReplayError> {
        let ends = std::mem::take(&mut self.ends);
        let mut jobs: Vec<JobId> = ends.iter().map(|end| end.job).collect();
        jobs.sort_unstable();
        let mut places = self.far.places(&jobs)?;
        places.sort_unstable();
        for End { job, lsn, state, is_whole } in ends {
            let from = places.partition_point(|other| other.job < job);
            let mut of_job = places[from..].iter().take_while(|other| other.job == job);
            let has_ended = of_job.any(|found| self.state.end_cold(found, lsn, state));
            if !has_ended && is_whole {
                return Err(Box::new(NoSuchJob(match state {
                    JobState::Done => Event::completed(job),
                    JobState::Expired => Event::JobExpired { job, kept_until: None },
                    _ => Event::cancelled(job),
                })));
            }
        }
        self.state.far.sort_ends();
        Ok(())
    }

    /// The state at the end of the log, and what looks up the jobs that are not in memory.
    pub(crate) fn end(mut self) -> Result<(State, FarFiles<S>), ReplayError> {
        self.find_ends()?;
        self.state.end_replayed_graph();
        self.state.forget_times();
        match self.first_segment {
            Some(first) if !self.is_whole && self.is_far_file_other => Err(Box::new(FarJobsLost { first })),
            Some(first) if !self.is_whole => Err(Box::new(NotWhole(first))),
            _ => Ok((self.state, self.far)),
        }
    }
}
