//! Reclaiming the oldest segment: what in it is still open is written again at the log's head, then nobody needs it.
//!
//! ```text
//!   off the owner              with the engine                off the owner            with the engine     with the writer
//!   Compaction::read ──► keep, a slice at a time ──► … ──► all read ──► finish ──► durable? ──► need_only_from
//! ```
//!
//! Only ever the oldest: a younger one holds the ends of jobs that stand in older ones, and without it they would be back.
//! It reads a group at a time, so its memory is bounded by the largest group. Whoever drives it sees to it that the
//! records are durable before the writer is told, and that commands have their turn between two slices.

use super::record::{NameCache, RecordFault};
use super::segment::SEGMENT_HEADER_BYTES;
use super::{LogStats, LoggedEvent, Lsn, Place, SegmentReader, decode_record};
use crate::engine::Engine;
use crate::far::{Candidates, FarError, FarFiles, FarPlace, FarRecord, Moments, OpenFile};
use crate::job::{JobId, QueueName, Time};
use crate::limits::{KEPT_SLICE_BYTES, STEP_OBJECTS, UNWRITTEN_BYTES};
use crate::storage::{Beside, Storage};
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Whether the oldest needed segment should be reclaimed, so that the log that recovery reads stays below twice the bytes
/// of what is open, and two segments.
#[must_use]
pub fn is_due(stats: &LogStats, live_bytes: u64) -> bool {
    let is_closed = stats.needed_from < stats.newest_segment;
    // Until the segment under way is closed it may grow by its length, and what is needless still counts.
    is_closed && stats.bytes - stats.needless_bytes > 2 * live_bytes + stats.segment_bytes
}

/// Whether the segment under way should be closed before it is full, since others are needless and the log is too long: what is needless is
/// read by recovery until a header says so. While more is about to become that, only once it is worth it: each closing costs a segment. One that
/// is empty has nothing to close.
#[must_use]
pub fn is_over(stats: &LogStats, live_bytes: u64) -> bool {
    let quarter = stats.segment_bytes / 4;
    let is_long = stats.needless_bytes > 0 && stats.bytes > 2 * live_bytes + 7 * quarter;
    let is_empty = stats.newest_bytes <= SEGMENT_HEADER_BYTES as u64;
    is_long && !is_empty && (stats.newest_bytes >= quarter || !is_due(stats, live_bytes))
}

/// The reclaiming of one segment.
pub struct Compaction<S: Storage> {
    storage: S,
    files: Arc<FarFiles<S>>,
    stage: Stage,
    reader: SegmentReader<S>,
    names: NameCache,
    /// The jobs in the groups that were read last and that were not kept yet.
    jobs: VecDeque<JobFound>,
    /// The far jobs to which something happened in these groups: their records do not have it.
    changed: Vec<JobId>,
    /// Those of them that are open, each with its record.
    changed_records: VecDeque<FarRecord>,
    /// Behind which far job to go on looking for those that were due when the wall clock was set in the segment, once all else is
    /// kept but queues and schedules; `None` when that is done.
    due_by_clock: Option<JobId>,
    /// The queues that the segment names. They are kept when all jobs are: what happens to a job that is not written again
    /// yet is passed over by a replay, and must be in the counters of its queue.
    queues: HashSet<QueueName>,
    /// The keys of the answers in the group that was read last and that were not kept yet.
    answers: Vec<Box<[u8]>>,
    /// The jobs of that group that came to nothing, as far as it was not looked up yet which of them are remembered.
    failed: Vec<(JobId, Time)>,
    /// The schedules that it is about, likewise.
    schedules: HashSet<QueueName>,
    kept: u64,
    kept_bytes: u64,
    left: u64,
    /// Which records' jobs may leave memory, by ordinal; they are in the segment's index.
    may_leave: HashSet<u32>,
    records: u32,
    open: OpenFile,
    open_checksum: Option<u32>,
}

/// What is done next, with the engine or without.
#[derive(Debug)]
enum Stage {
    /// Without: finds what is far ahead, where that may leave memory: what has to be there after these moments.
    Survey(Option<Moments>),
    /// With: which of it is open and waits in memory, as far as was asked.
    Ask(Candidates, Vec<bool>),
    /// Without: makes the index.
    Index(Candidates),
    /// In turns: reads some groups, and has what is open in them kept.
    Keep,
    /// With: brings the bits to where the log begins then.
    Settle,
    /// With: copies the bits of the far segments after that one.
    Copy(u64),
    /// Without: leaves the bits on the disk.
    Write,
    Done,
}

/// A record that holds a job whole.
#[derive(Debug)]
struct JobFound {
    job: JobId,
    lsn: Lsn,
    ordinal: u32,
    /// Where in the segment the record begins.
    offset: u64,
    /// Where in the payload the record and the job's body are.
    record: Range<usize>,
    body: Range<usize>,
}

impl<S: Storage> std::fmt::Debug for Compaction<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compaction")
            .field("segment", &self.segment())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Compaction<S> {
    /// Begins with a segment that was closed, and is the oldest that recovery needs. `leave_after` is what
    /// [`Engine::leaves_after`] says.
    ///
    /// # Errors
    /// [`FarError`]; nothing was changed.
    pub fn begin(
        storage: &S,
        files: &Arc<FarFiles<S>>,
        segment: u64,
        leave_after: Option<Moments>,
    ) -> Result<Compaction<S>, FarError> {
        Ok(Compaction {
            storage: storage.clone(),
            files: Arc::clone(files),
            stage: Stage::Survey(leave_after),
            reader: SegmentReader::begin(storage, segment, None)?,
            names: NameCache::default(),
            jobs: VecDeque::new(),
            changed: Vec::new(),
            changed_records: VecDeque::new(),
            due_by_clock: Some(JobId(0)),
            queues: HashSet::new(),
            answers: Vec::new(),
            failed: Vec::new(),
            schedules: HashSet::new(),
            kept: 0,
            kept_bytes: 0,
            left: 0,
            may_leave: HashSet::new(),
            records: 0,
            open: OpenFile::default(),
            open_checksum: None,
        })
    }

    /// The segment's number.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.reader.segment()
    }

    /// Jobs that were written again so far.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Bytes of the records that were written again so far.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Jobs that left memory so far: the segment stays for them.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Does what there is to do before the next slice with the engine; false if there is none, and it is to be finished. It
    /// does I/O.
    ///
    /// # Errors
    /// [`FarError`]. If the disk is full, this can be called again.
    pub fn read(&mut self) -> Result<bool, FarError> {
        if let Stage::Survey(leave_after) = self.stage {
            self.stage = self.survey(leave_after)?;
        }
        if let Stage::Index(candidates) = &mut self.stage {
            let candidates = std::mem::take(candidates);
            self.make_index(candidates)?;
            self.stage = Stage::Keep;
        }
        if let Stage::Keep = self.stage {
            // Groups of few records are kept together: each slice has its price.
            while self.is_kept() && !self.reader.is_at_end() {
                self.reader.payload.clear();
                while self.reader.payload.len() < KEPT_SLICE_BYTES && self.read_group()? {}
                self.changed.sort_unstable();
                self.changed.dedup();
            }
            self.look_up_changed()?;
            if self.is_kept() && self.due_by_clock.is_none() && self.queues.is_empty() && self.schedules.is_empty() {
                self.stage = Stage::Settle;
            }
        }
        if let Stage::Write = self.stage {
            self.write_open()?;
            self.stage = Stage::Done;
        }
        Ok(!matches!(self.stage, Stage::Done))
    }

    /// Leaves behind which far jobs are open where the log begins from now on.
    fn write_open(&mut self) -> Result<(), FarError> {
        let name = Beside::Open(self.segment());
        if self.left == 0 {
            self.files.close(self.segment());
        }
        let written = if self.open.segments.is_empty() {
            // One may be there of a reclaiming that a crash undid.
            self.storage.beside().and_then(|beside| {
                if beside.contains(&name) {
                    self.storage.remove_beside(name)?;
                    self.storage.sync_names()?;
                }
                Ok(())
            })
        } else {
            let (bytes, checksum) = self.open.encode(self.segment());
            self.open_checksum = Some(checksum);
            self.storage.write_beside(name, &bytes)
        };
        written.map_err(|source| FarError::beside(&self.storage, name, source))
    }

    /// Whether all that was read of the segment is kept, but for queues.
    fn is_kept(&self) -> bool {
        let jobs_are = self.jobs.is_empty() && self.changed.is_empty() && self.changed_records.is_empty();
        jobs_are && self.answers.is_empty() && self.failed.is_empty()
    }

    /// Reads the records of far jobs to which something happened, a few at a time.
    fn look_up_changed(&mut self) -> Result<(), FarError> {
        let mut bytes = 0;
        while bytes < KEPT_SLICE_BYTES
            && let Some(job) = self.changed.pop()
        {
            for record in self.files.find_job(job, &mut |entries| vec![true; entries.len()])? {
                bytes += record.kept.put.body.len() + 64;
                self.changed_records.push_back(record);
            }
        }
        Ok(())
    }

    /// Finds the records of jobs that have to be in memory only after these moments, if jobs may leave it.
    fn survey(&mut self, leave_after: Option<Moments>) -> Result<Stage, FarError> {
        let Some(leave_after) = leave_after else { return Ok(Stage::Keep) };
        let mut reader = SegmentReader::begin(&self.storage, self.segment(), Some(self.reader.end()))?;
        let (mut candidates, mut names) = (Candidates::default(), NameCache::default());
        while reader.read_group(&mut |record| {
            let Some(ordinal) = record.ordinal else { return Ok(()) };
            if let Some((kept, queue)) = record.event(&mut names)?.and_then(LoggedEvent::whole_job)
                && Moments::of(&kept.put).is_after(leave_after)
                && kept.buried.is_none()
                && kept.lease.is_none()
            {
                candidates.add(ordinal, record.offset, record.length(), &kept, &queue);
            }
            Ok(())
        })? {}
        self.records = reader.whole_jobs();
        Ok(if candidates.len() == 0 { Stage::Keep } else { Stage::Ask(candidates, Vec::new()) })
    }

    fn make_index(&mut self, candidates: Candidates) -> Result<(), FarError> {
        if candidates.len() == 0 {
            return Ok(());
        }
        let ordinals = candidates.ordinals().collect();
        let (segment, end) = (self.segment(), self.reader.end());
        match self.files.write_index(&mut self.storage, segment, end, candidates) {
            Ok(()) => {
                self.files.open(segment)?;
                self.may_leave = ordinals;
                Ok(())
            }
            // They are written again instead, for which there is room.
            Err(error) if error.is_disk_full() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_group(&mut self) -> Result<bool, FarError> {
        let (jobs, queues, changed, files) = (&mut self.jobs, &mut self.queues, &mut self.changed, &self.files);
        let (answers, failed) = (&mut self.answers, &mut self.failed);
        let schedules = &mut self.schedules;
        let read = self.reader.read_on(&mut |record| {
            if let Some(job) = record.changed_job()?.filter(|&job| files.may_have(job)) {
                changed.push(job);
            }
            if let (Some(ordinal), Some((job, body))) = (record.ordinal, record.body()?) {
                let (lsn, offset, record) = (record.lsn, record.offset, record.at..record.at + record.length());
                jobs.push_back(JobFound { job, lsn, ordinal, offset, record, body });
            }
            answers.extend(record.answer_key()?.map(Box::from));
            failed.extend(record.failed()?);
            if let Some(name) = record.schedule()? {
                schedules.insert(name);
            }
            if let Some(name) = record.queue()? {
                let name = std::str::from_utf8(name).ok().and_then(|name| QueueName::new(name).ok());
                queues.insert(name.ok_or(RecordFault::BadField("queue name"))?);
            }
            Ok(())
        });
        Ok(read?)
    }

    /// Has the next of what was read done: a slice that a command can wait for. Nothing where so much is to be written
    /// already that front ends stop reading, and while the engine [holds still](Engine::holds_still).
    pub fn keep(&mut self, engine: &mut Engine, now: Time) {
        if engine.holds_still() {
            return;
        }
        match &mut self.stage {
            Stage::Ask(candidates, waits) => {
                let next = candidates.jobs().skip(waits.len()).take(STEP_OBJECTS);
                waits.extend(next.map(|job| engine.can_leave(job)));
                if waits.len() == candidates.len() {
                    candidates.retain(waits);
                    self.stage = Stage::Index(std::mem::take(candidates));
                }
            }
            Stage::Keep => {
                let before = engine.unwritten_bytes();
                self.keep_jobs(engine, now);
                self.kept_bytes += (engine.unwritten_bytes() - before) as u64;
            }
            Stage::Settle => {
                if engine.settle_far(self.reader.end(), STEP_OBJECTS) {
                    self.open.wall_ahead = engine.far_wall_ahead(self.reader.end());
                    self.stage = Stage::Copy(0);
                }
            }
            Stage::Copy(after) => match engine.far_settled_after(*after) {
                Some(segment) => {
                    *after = segment.segment;
                    if segment.open.count > 0 {
                        self.open.segments.push(segment);
                    }
                }
                None => self.stage = Stage::Write,
            },
            Stage::Survey(_) | Stage::Index(_) | Stage::Write | Stage::Done => {}
        }
    }

    fn keep_jobs(&mut self, engine: &mut Engine, now: Time) {
        let before = engine.unwritten_bytes();
        if before > UNWRITTEN_BYTES {
            // What is to be written first would put these far behind in their segment, and a body's place is short.
            return;
        }
        for _ in 0..STEP_OBJECTS {
            if let Some(record) = self.changed_records.pop_front() {
                engine.keep_far_job(&record, now);
                self.kept += 1;
            } else if let Some(found) = self.jobs.pop_front() {
                if self.leave(engine, &found, now) {
                    self.left += 1;
                } else if !engine.is_written_behind(found.job, found.lsn) {
                    self.kept += u64::from(engine.keep_job(found.job, &self.reader.payload[found.body], now));
                }
            } else if let Some(key) = self.answers.pop() {
                engine.keep_answer(&key, now);
            } else if !self.failed.is_empty() {
                let some = self.failed.split_off(self.failed.len().saturating_sub(STEP_OBJECTS));
                engine.keep_failed(&some, now);
                // They are as many as a step may handle.
                return;
            } else if let Some(after) = self.due_by_clock.filter(|_| self.reader.is_at_end() && self.is_kept()) {
                // Those that are not in memory yet are about to come.
                if engine.has_due_by_clock(self.reader.end()) {
                    (self.changed, self.due_by_clock) = engine.due_by_clock(self.reader.end(), after, STEP_OBJECTS);
                }
                return;
            } else if let Some(queue) = self.next_name(|this| &mut this.queues) {
                engine.keep_queue(&queue, self.reader.end(), now);
            } else if let Some(schedule) = self.next_name(|this| &mut this.schedules) {
                engine.keep_schedule(&schedule, now);
            } else if !engine.keep_far_counted(now) {
                return;
            }
            if engine.unwritten_bytes() - before > KEPT_SLICE_BYTES {
                return;
            }
        }
    }

    /// The next queue or schedule to keep, once all jobs are.
    fn next_name(&mut self, of: fn(&mut Self) -> &mut HashSet<QueueName>) -> Option<QueueName> {
        let is_their_turn = self.reader.is_at_end() && self.changed.is_empty() && self.due_by_clock.is_none();
        let names = of(self);
        let name = names.iter().next().filter(|_| is_their_turn).cloned()?;
        names.take(&name)
    }

    /// Lets a job leave memory if it may, and is as its record says.
    fn leave(&mut self, engine: &mut Engine, found: &JobFound, now: Time) -> bool {
        if !self.may_leave.contains(&found.ordinal) {
            return false;
        }
        let event = decode_record(&self.reader.payload[found.record.clone()], &mut self.names);
        let Some((kept, queue)) = event.ok().flatten().and_then(LoggedEvent::whole_job) else { return false };
        let segment = self.segment();
        let place = FarPlace { segment, ordinal: found.ordinal };
        let record = FarRecord { place, record: Place { segment, offset: found.offset }, kept, queue };
        engine.leave(&record, (self.records, self.reader.end()), now)
    }

    /// Whether it waits for far jobs to come near.
    #[must_use]
    pub fn waits(&self, engine: &Engine) -> bool {
        self.due_by_clock.is_some() && self.reader.is_at_end() && !engine.has_due_by_clock(self.reader.end())
    }

    /// Has it written that nothing needs the segment any more, once it was read to its end and kept. Returns the record
    /// that must be durable before [`super::LogWriter::need_only_from`] is told the next segment.
    ///
    /// # Panics
    /// If there is something left to do.
    pub fn finish(&self, engine: &mut Engine, now: Time) -> Lsn {
        assert!(matches!(self.stage, Stage::Done), "a segment is given up when all of it is kept");
        while engine.keep_far_counted(now) {}
        engine.keep_numbers(self.segment() + 1, self.open_checksum, now)
    }
}
