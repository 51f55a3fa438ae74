//! The records of one closed segment once more, a group at a time: for what reclaims it, and for what looks up or hands over
//! jobs that stand in it.
//!
//! It trusts nothing that it reads, and holds no more than one group.

use super::record::{NameCache, RecordFault, RecordHeader};
use super::segment::{Damage, GROUP_HEADER_BYTES, GroupHeader, GroupSalt, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{LoggedEvent, Lsn};
use crate::job::{JobId, QueueName, Time};
use crate::storage::{Storage, StorageFile};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why a segment could not be read again. Its place in the log stays as it is; the disk is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
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

/// A closed segment that is being read.
pub(crate) struct SegmentReader<S: Storage> {
    storage: S,
    file: S::File,
    header: SegmentHeader,
    salt: GroupSalt,
    /// Where the next group is.
    offset: u64,
    next_lsn: Lsn,
    /// The first record of the segment that follows.
    end: Lsn,
    /// What was read last.
    pub(crate) payload: Vec<u8>,
    /// The ordinal of the next record that holds a job whole.
    ordinal: u32,
}

/// One record of a group that was read.
pub(crate) struct RecordFound<'a> {
    header: RecordHeader,
    bytes: &'a [u8],
    pub(crate) lsn: Lsn,
    /// Where it begins in the payload.
    pub(crate) at: usize,
    /// Where it begins in the segment.
    pub(crate) offset: u64,
    /// How many records that hold a job whole there are before it in the segment, if it is one itself.
    pub(crate) ordinal: Option<u32>,
}

impl RecordFound<'_> {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.header.length
    }

    pub(crate) fn body(&self) -> Result<Option<(JobId, Range<usize>)>, RecordFault> {
        let body = self.header.body(self.bytes)?;
        Ok(body.map(|(job, range)| (job, self.at + range.start..self.at + range.end)))
    }

    pub(crate) fn changed_job(&self) -> Result<Option<JobId>, RecordFault> {
        self.header.changed_job(self.bytes)
    }

    pub(crate) fn answer_key(&self) -> Result<Option<&[u8]>, RecordFault> {
        self.header.answer_key(self.bytes)
    }

    pub(crate) fn failed(&self) -> Result<Vec<(JobId, Time)>, RecordFault> {
        self.header.failed(self.bytes)
    }

    pub(crate) fn schedule(&self) -> Result<Option<QueueName>, RecordFault> {
        self.header.schedule(self.bytes)
    }

    pub(crate) fn queue(&self) -> Result<Option<&[u8]>, RecordFault> {
        self.header.queue(self.bytes)
    }

    pub(crate) fn event<'n>(&self, names: &'n mut NameCache) -> Result<Option<LoggedEvent<'n>>, RecordFault> {
        self.header.event(self.bytes, names)
    }
}

impl<S: Storage> SegmentReader<S> {
    /// Begins with a segment that was closed, and whose successor begins with `end`; it is looked up where that is not said.
    pub(crate) fn begin(storage: &S, segment: u64, end: Option<Lsn>) -> Result<SegmentReader<S>, SegmentError> {
        let (file, header) = open(storage, segment)?;
        let end = match end {
            Some(end) => end,
            None => open(storage, segment + 1)?.1.first_lsn,
        };
        Ok(SegmentReader {
            storage: storage.clone(),
            file,
            salt: GroupSalt::new(header.store, header.segment),
            offset: SEGMENT_HEADER_BYTES as u64,
            next_lsn: header.first_lsn,
            end,
            header,
            payload: Vec::new(),
            ordinal: 0,
        })
    }

    pub(crate) fn segment(&self) -> u64 {
        self.header.segment
    }

    /// The first record of the segment that follows.
    pub(crate) fn end(&self) -> Lsn {
        self.end
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.next_lsn >= self.end
    }

    /// How many records that hold a job whole were read so far.
    pub(crate) fn whole_jobs(&self) -> u32 {
        self.ordinal
    }

    /// Reads the next group, and has `note` look at each of its records; false at the segment's end.
    pub(crate) fn read_group(
        &mut self,
        note: &mut dyn FnMut(&RecordFound<'_>) -> Result<(), RecordFault>,
    ) -> Result<bool, SegmentError> {
        self.payload.clear();
        self.read_on(note)
    }

    /// The same, and what was read before stays in the payload, before it.
    pub(crate) fn read_on(
        &mut self,
        note: &mut dyn FnMut(&RecordFound<'_>) -> Result<(), RecordFault>,
    ) -> Result<bool, SegmentError> {
        if self.is_at_end() {
            return Ok(false);
        }
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
        let mut payload = std::mem::take(&mut self.payload);
        let begin = payload.len();
        payload.resize(begin + usize::try_from(group.payload_bytes).expect("shorter than its file"), 0);
        let read = self.file.read_at(payload_at, &mut payload[begin..]);
        read.map_err(|source| self.failed(source))?;
        if crc32fast::hash(&payload[begin..]) != group.payload_checksum {
            return Err(self.damaged(Damage::Payload));
        }
        let mut at = begin;
        for place in 0..u64::from(group.records) {
            let lsn = Lsn(group.first_lsn.0 + place);
            let bytes = &payload[at..];
            let noted = RecordHeader::read(bytes).and_then(|header| {
                let ordinal = header.holds_job().then_some(self.ordinal);
                let found = RecordFound { header, bytes, lsn, at, offset: payload_at + (at - begin) as u64, ordinal };
                note(&found)?;
                self.ordinal += u32::from(ordinal.is_some());
                Ok(found.length())
            });
            at += noted.map_err(|fault| self.damaged(Damage::Record(fault)))?;
        }
        payload.shrink_to(1 << 20);
        self.payload = payload;
        self.offset = payload_at + group.payload_bytes;
        self.next_lsn = Lsn(self.next_lsn.0 + u64::from(group.records));
        Ok(true)
    }

    fn failed(&self, source: io::Error) -> SegmentError {
        SegmentError::Io { path: self.storage.path(self.header.segment), source }
    }

    pub(crate) fn damaged(&self, found: Damage) -> SegmentError {
        SegmentError::Damaged { path: self.storage.path(self.header.segment), offset: self.offset, found }
    }
}

/// Opens a segment, and reads its header.
pub(super) fn open<S: Storage>(storage: &S, segment: u64) -> Result<(S::File, SegmentHeader), SegmentError> {
    let failed = |source| SegmentError::Io { path: storage.path(segment), source };
    let file = storage.open(segment).map_err(failed)?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    file.read_at(0, &mut bytes).map_err(failed)?;
    let damaged = |_| SegmentError::Damaged { path: storage.path(segment), offset: 0, found: Damage::SegmentHeader };
    Ok((file, SegmentHeader::decode(&bytes).map_err(damaged)?))
}
