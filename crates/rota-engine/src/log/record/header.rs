//! What a record's header says of it, and what can be told of the record without reading all of its fields.
//!
//! Whoever walks over a log reads these: recovery, the reclaiming of segments, and who looks at a log.

use super::fields::Fields;
use super::{
    NAME_AT_IN_PAUSE, NAME_AT_IN_PUT, NAME_AT_IN_QUEUE_KEPT, NameCache, RECORD_HEADER_BYTES, RecordFault, SKIPPABLE,
    VERSION, decode_payload, holds_job, kind, rest, schedules,
};
use crate::job::{JobId, QueueName, Time};
use crate::log::LoggedEvent;
use std::ops::Range;

/// What a record's header says, and where the record ends.
pub(in crate::log) struct RecordHeader {
    pub(in crate::log) seq: u64,
    pub(in crate::log) at: Time,
    pub(in crate::log) kind: u8,
    version: u8,
    skippable: bool,
    /// Length of the record with its header, in bytes.
    pub(in crate::log) length: usize,
}

impl RecordHeader {
    /// Reads the header of the record that `bytes` begin with, and checks the whole record's checksum.
    pub(in crate::log) fn read(bytes: &[u8]) -> Result<RecordHeader, RecordFault> {
        let header = bytes.get(..RECORD_HEADER_BYTES).ok_or(RecordFault::Short)?;
        let mut fields = Fields::of(header);
        let checksum = fields.u32()?;
        let payload_bytes = fields.u32()? as usize;
        let kind = fields.u8()?;
        let version = fields.u8()?;
        let flags = fields.u16()?;
        let seq = fields.u64()?;
        let at = fields.time()?;
        let length = RECORD_HEADER_BYTES.checked_add(payload_bytes).ok_or(RecordFault::Short)?;
        let record = bytes.get(..length).ok_or(RecordFault::Short)?;
        if crc32fast::hash(&record[4..]) != checksum {
            return Err(RecordFault::Checksum);
        }
        if flags & !SKIPPABLE != 0 {
            return Err(RecordFault::UnknownFlags(flags));
        }
        Ok(RecordHeader { seq, at, kind, version, skippable: flags & SKIPPABLE != 0, length })
    }

    /// Reads the event behind this header; `None` if it is of a kind that may be passed over.
    pub(in crate::log) fn event<'n>(
        &self,
        record: &[u8],
        names: &'n mut NameCache,
    ) -> Result<Option<LoggedEvent<'n>>, RecordFault> {
        let payload = record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?;
        decode_payload(self.kind, self.version, self.skippable, payload, names)
    }

    /// Whether a server's start wrote it.
    pub(in crate::log) fn is_start(&self) -> bool {
        self.kind == kind::STARTED
    }

    /// The length of the record whose header that is, in bytes, as it says.
    pub(in crate::log) fn length_in(header: &[u8]) -> Option<u64> {
        let payload_bytes = header.get(4..8)?.first_chunk()?;
        Some(RECORD_HEADER_BYTES as u64 + u64::from(u32::from_le_bytes(*payload_bytes)))
    }

    /// Whether the record holds a job whole.
    pub(in crate::log) fn holds_job(&self) -> bool {
        holds_job(self.kind)
    }

    /// The job whose body is in this record, and where in the record it is.
    pub(in crate::log) fn body(&self, record: &[u8]) -> Result<Option<(JobId, Range<usize>)>, RecordFault> {
        if !self.holds_job() || self.version != VERSION {
            return Ok(None);
        }
        let mut fields = Fields::of(record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?);
        let job = fields.job()?;
        let _other_fixed_fields = fields.bytes(NAME_AT_IN_PUT - 8 - 4)?;
        let body_bytes = fields.u32()? as usize;
        let _name = fields.name()?;
        let begin = self.length - fields.left.len();
        fields.bytes(body_bytes)?;
        Ok(Some((job, begin..begin + body_bytes)))
    }

    /// The job that this record changes and leaves open: what it says must not be lost with the record.
    pub(in crate::log) fn changed_job(&self, record: &[u8]) -> Result<Option<JobId>, RecordFault> {
        let changes = matches!(
            self.kind,
            kind::JOB_RELEASED
                | kind::JOB_FAILED
                | kind::JOB_BURIED
                | kind::JOB_KICKED
                | kind::LEASE_LOST
                | kind::JOB_PULLED
                | kind::LEASE_GIVEN
                | kind::LEASE_EXTENDED
                | kind::LEASE_DROPPED
        );
        let payload = record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?;
        if changes { Fields::of(payload).job().map(Some) } else { Ok(None) }
    }

    /// The key of the answer that this record keeps: a compaction must keep it.
    pub(in crate::log) fn answer_key<'r>(&self, record: &'r [u8]) -> Result<Option<&'r [u8]>, RecordFault> {
        if self.kind != kind::ANSWER_KEPT {
            return Ok(None);
        }
        let payload = record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?;
        rest::answer_key(&mut Fields::of(payload)).map(Some)
    }

    /// The jobs of which this record says that they came to nothing, and when: a compaction must keep that.
    pub(in crate::log) fn failed(&self, record: &[u8]) -> Result<Vec<(JobId, Time)>, RecordFault> {
        let payload = || record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short);
        match self.kind {
            kind::JOB_CANCELLED | kind::JOB_EXPIRED => Ok(vec![(Fields::of(payload()?).job()?, self.at)]),
            kind::FAILED_KEPT => Ok(rest::take_failed(&mut Fields::of(payload()?))?.into()),
            _ => Ok(Vec::new()),
        }
    }

    /// The schedule that this record is about, which was written whole, or moved on by a firing: a compaction must keep it.
    pub(in crate::log) fn schedule(&self, record: &[u8]) -> Result<Option<QueueName>, RecordFault> {
        schedules::schedule_of(self.kind, record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?)
    }

    /// The queue that this record names, which was written whole: a compaction must keep it.
    pub(in crate::log) fn queue<'r>(&self, record: &'r [u8]) -> Result<Option<&'r [u8]>, RecordFault> {
        let payload = record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?;
        let name_at = match self.kind {
            kind::JOB_PUT | kind::JOB_KEPT | kind::JOB_REPLACED => NAME_AT_IN_PUT,
            kind::QUEUE_CONFIGURED => 0,
            kind::QUEUE_PAUSED => NAME_AT_IN_PAUSE,
            kind::QUEUE_KEPT => NAME_AT_IN_QUEUE_KEPT,
            _ => return Ok(None),
        };
        Fields::of(payload.get(name_at..).ok_or(RecordFault::Short)?).name().map(Some)
    }
}
