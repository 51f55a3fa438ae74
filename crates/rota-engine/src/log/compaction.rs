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

use super::record::{RecordFault, RecordHeader};
use super::segment::{Damage, GROUP_HEADER_BYTES, GroupHeader, GroupSalt, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{LogStats, Lsn};
use crate::engine::Engine;
use crate::job::{JobId, QueueName, Time};
use crate::limits::{KEPT_SLICE_BYTES, STEP_OBJECTS, UNWRITTEN_BYTES};
use crate::storage::{Storage, StorageFile};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why a segment could not be read again. Its place in the log stays as it is; the disk is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The disk failed.
    #[error("cannot read log segment {}", path.display())]
    Io {
        /// The segment's file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// What is there is not what was written.
    #[error(
        "log segment {}, offset {offset}: found {found}, though it had been safely written: the disk or somebody \
         changed it",
        path.display()
    )]
    Damaged {
        /// The segment's file.
        path: PathBuf,
        /// Bytes before the damage in it.
        offset: u64,
        /// What was found.
        found: Damage,
    },
}

/// Whether the oldest needed segment should be reclaimed, so that the log that recovery reads stays below twice the bytes
/// of what is open, and two segments.
#[must_use]
pub fn is_due(stats: &LogStats, live_bytes: u64) -> bool {
    let is_closed = stats.needed_from < stats.newest_segment;
    // Until the segment under way is closed it may grow by its length, and what is needless still counts.
    is_closed && stats.bytes - stats.needless_bytes > 2 * live_bytes + stats.segment_bytes
}

/// Whether the segment under way should be closed before it is full, since others are needless and the log is too long.
#[must_use]
pub fn is_over(stats: &LogStats, live_bytes: u64) -> bool {
    stats.needless_bytes > 0 && stats.bytes > 2 * live_bytes + 2 * stats.segment_bytes
}

/// The reclaiming of one segment.
#[derive(Debug)]
pub struct Compaction<S: Storage> {
    storage: S,
    file: S::File,
    header: SegmentHeader,
    salt: GroupSalt,
    /// Where the next group is.
    offset: u64,
    next_lsn: Lsn,
    /// The first record of the segment that follows.
    end: Lsn,
    payload: Vec<u8>,
    /// The jobs in the group that was read last and that were not kept yet, and where in its payload their bodies are.
    jobs: VecDeque<(JobId, Range<usize>)>,
    /// The queues that the segment names. They are kept when all jobs are: what happens to a job that is not written again
    /// yet is passed over by a replay, and must be in the counters of its queue.
    queues: HashSet<QueueName>,
    kept: u64,
}

impl<S: Storage> Compaction<S> {
    /// Begins with a segment that was closed, and is the oldest that recovery needs.
    ///
    /// # Errors
    /// [`CompactionError`]; nothing was changed.
    pub fn begin(storage: &S, segment: u64) -> Result<Compaction<S>, CompactionError> {
        let (file, header) = open(storage, segment)?;
        let (_, next) = open(storage, segment + 1)?;
        Ok(Compaction {
            storage: storage.clone(),
            file,
            salt: GroupSalt::new(header.store, header.segment),
            offset: SEGMENT_HEADER_BYTES as u64,
            next_lsn: header.first_lsn,
            end: next.first_lsn,
            header,
            payload: Vec::new(),
            jobs: VecDeque::new(),
            queues: HashSet::new(),
            kept: 0,
        })
    }

    /// The segment's number.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.header.segment
    }

    /// Jobs that were written again so far.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Reads on, if all that was read is kept; false at the segment's end. It does I/O.
    ///
    /// # Errors
    /// [`CompactionError`].
    pub fn read(&mut self) -> Result<bool, CompactionError> {
        while self.jobs.is_empty() && self.next_lsn < self.end {
            self.read_group()?;
        }
        Ok(!self.jobs.is_empty() || !self.queues.is_empty())
    }

    fn read_group(&mut self) -> Result<(), CompactionError> {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let read = self.file.read_at(self.offset, &mut bytes);
        read.map_err(|source| self.failed(source))?;
        let Some((group, _)) = GroupHeader::read(&bytes, &self.salt, self.offset) else {
            return Err(self.damaged(Damage::GroupHeader));
        };
        if group.first_lsn != self.next_lsn || group.is_seal {
            return Err(self.damaged(Damage::OutOfPlace));
        }
        let payload_at = self.offset + GROUP_HEADER_BYTES as u64;
        let length = self.file.length().map_err(|source| self.failed(source))?;
        if payload_at.checked_add(group.payload_bytes).is_none_or(|end| end > length) {
            return Err(self.damaged(Damage::Payload));
        }
        self.payload.resize(usize::try_from(group.payload_bytes).expect("shorter than its file"), 0);
        let read = self.file.read_at(payload_at, &mut self.payload);
        read.map_err(|source| self.failed(source))?;
        if crc32fast::hash(&self.payload) != group.payload_checksum {
            return Err(self.damaged(Damage::Payload));
        }
        let mut at = 0;
        for _ in 0..group.records {
            let length = self.note_record(at)?;
            at += length;
        }
        self.payload.shrink_to(1 << 20);
        self.offset = payload_at + group.payload_bytes;
        self.next_lsn = Lsn(self.next_lsn.0 + u64::from(group.records));
        Ok(())
    }

    /// Takes note of what the record at that place of the payload holds; returns its length.
    fn note_record(&mut self, at: usize) -> Result<usize, CompactionError> {
        let record = &self.payload[at..];
        let read = RecordHeader::read(record)
            .and_then(|header| Ok((header.length, header.body(record)?, header.queue(record)?)));
        let (length, job, queue) = read.map_err(|fault| self.damaged(Damage::Record(fault)))?;
        self.jobs.extend(job.map(|(job, body)| (job, at + body.start..at + body.end)));
        if let Some(name) = queue {
            let name = std::str::from_utf8(name).ok().and_then(|name| QueueName::new(name).ok());
            let fault = Damage::Record(RecordFault::BadField("queue name"));
            self.queues.insert(name.ok_or_else(|| self.damaged(fault))?);
        }
        Ok(length)
    }

    /// Has the next of what was read written again, where it is still open: a slice that a command can wait for. Nothing
    /// where so much is to be written already that front ends stop reading.
    pub fn keep(&mut self, engine: &mut Engine, now: Time) {
        let before = engine.unwritten_bytes();
        if before > UNWRITTEN_BYTES {
            // What is to be written first would put these far behind in their segment, and a body's place is short.
            return;
        }
        for _ in 0..STEP_OBJECTS {
            if let Some((job, body)) = self.jobs.pop_front() {
                self.kept += u64::from(engine.keep_job(job, &self.payload[body], now));
            } else if let Some(queue) = self.queues.iter().next().filter(|_| self.next_lsn >= self.end).cloned() {
                self.queues.remove(&queue);
                engine.keep_queue(&queue, now);
            } else {
                return;
            }
            if engine.unwritten_bytes() - before > KEPT_SLICE_BYTES {
                return;
            }
        }
    }

    /// Has it written that nothing needs the segment any more, once it was read to its end and kept. Returns the record
    /// that must be durable before [`super::LogWriter::need_only_from`] is told the next segment.
    ///
    /// # Panics
    /// If there is something left to read or to keep.
    pub fn finish(&self, engine: &mut Engine, now: Time) -> Lsn {
        let is_read = self.next_lsn >= self.end && self.jobs.is_empty() && self.queues.is_empty();
        assert!(is_read, "a segment is given up when all of it is kept");
        engine.keep_numbers(self.header.segment + 1, now)
    }

    fn failed(&self, source: io::Error) -> CompactionError {
        CompactionError::Io { path: self.storage.path(self.header.segment), source }
    }

    fn damaged(&self, found: Damage) -> CompactionError {
        CompactionError::Damaged { path: self.storage.path(self.header.segment), offset: self.offset, found }
    }
}

fn open<S: Storage>(storage: &S, segment: u64) -> Result<(S::File, SegmentHeader), CompactionError> {
    let failed = |source| CompactionError::Io { path: storage.path(segment), source };
    let file = storage.open(segment).map_err(failed)?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    file.read_at(0, &mut bytes).map_err(failed)?;
    let damaged = |_| CompactionError::Damaged { path: storage.path(segment), offset: 0, found: Damage::SegmentHeader };
    Ok((file, SegmentHeader::decode(&bytes).map_err(damaged)?))
}
