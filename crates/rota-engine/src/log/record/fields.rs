//! What records are made of: numbers, moments, names and optional fields, written and read.
//!
//! [`super`] and its other parts build on these, and nobody else does.

use super::RecordFault;
use crate::job::{JobId, JobTally, QueueName, Time};
use crate::session::Actor;
use std::time::Duration;

/// Tags from here on may be passed over by a reader who does not know them.
const FIRST_SKIPPABLE_TAG: u8 = 128;

/// The optional field of any record that a command made: in whose name.
const ACTOR_TAG: u8 = 128;

/// Length of a field's tag and of its length, in bytes.
pub(super) const OPTIONAL_BYTES: usize = 5;

pub(super) fn put_optional(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    put_length(out, value.len());
    out.extend_from_slice(value);
}

pub(super) fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

pub(super) fn put_job(out: &mut Vec<u8>, job: JobId) {
    out.extend_from_slice(&job.0.to_le_bytes());
}

pub(super) fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&time.0.to_le_bytes());
}

pub(super) fn put_span(out: &mut Vec<u8>, span: Duration) {
    out.extend_from_slice(&nanos(span).to_le_bytes());
}

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a body is at most MAX_JOB_BYTES_CEILING long");
    out.extend_from_slice(&length.to_le_bytes());
}

pub(super) fn put_name(out: &mut Vec<u8>, name: &QueueName) {
    let length = u8::try_from(name.as_str().len()).expect("a queue name is at most 200 bytes long");
    out.push(length);
    out.extend_from_slice(name.as_str().as_bytes());
}

/// Writes in whose name a record was asked for, behind all its other fields.
pub(super) fn put_actor(out: &mut Vec<u8>, actor: &Actor) {
    put_optional(out, ACTOR_TAG, actor.as_str().as_bytes());
}

/// Bytes not yet read of a record.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) left: &'a [u8],
    /// In whose name the record says that it was asked for, once its optional fields were walked.
    actor: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields { left: bytes, actor: None }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], RecordFault> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(RecordFault::Short)?;
        self.left = left;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordFault> {
        let (taken, left) = self.left.split_first_chunk::<N>().ok_or(RecordFault::Short)?;
        self.left = left;
        Ok(*taken)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RecordFault> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, RecordFault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RecordFault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordFault> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn job(&mut self) -> Result<JobId, RecordFault> {
        self.u64().map(JobId)
    }

    pub(super) fn time(&mut self) -> Result<Time, RecordFault> {
        self.u64().map(Time)
    }

    pub(super) fn span(&mut self) -> Result<Duration, RecordFault> {
        self.u64().map(Duration::from_nanos)
    }

    pub(super) fn tally(&mut self) -> Result<JobTally, RecordFault> {
        Ok(JobTally {
            reserves: self.u32()?,
            lost_leases: self.u32()?,
            releases: self.u32()?,
            buries: self.u32()?,
            kicks: self.u32()?,
            attempts: self.u32()?,
        })
    }

    pub(super) fn name(&mut self) -> Result<&'a [u8], RecordFault> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    pub(super) fn end(&self) -> Result<(), RecordFault> {
        if self.left.is_empty() { Ok(()) } else { Err(RecordFault::LeftOver) }
    }

    /// Walks the optional fields up to the end; `known` says whether it knows the tag, and takes the value if so. The actor,
    /// which any record may have, it is not asked for.
    pub(super) fn each_optional(
        &mut self,
        kind: u8,
        mut known: impl FnMut(u8, Fields<'a>) -> Result<bool, RecordFault>,
    ) -> Result<(), RecordFault> {
        let mut last_tag = None;
        while !self.left.is_empty() {
            let tag = self.u8()?;
            let length = self.u32()? as usize;
            let value = Fields::of(self.bytes(length)?);
            if last_tag.is_some_and(|last| last >= tag) {
                return Err(RecordFault::TagOrder);
            }
            last_tag = Some(tag);
            if tag == ACTOR_TAG {
                self.actor = Some(value.left);
                continue;
            }
            if !known(tag, value)? && tag < FIRST_SKIPPABLE_TAG {
                return Err(RecordFault::UnknownField { kind, tag });
            }
        }
        Ok(())
    }

    /// In whose name the record was asked for, if it says it; `last` is whom the records before named.
    pub(super) fn take_actor(&self, last: &mut Option<Actor>) -> Result<bool, RecordFault> {
        let Some(name) = self.actor else { return Ok(false) };
        if last.as_ref().is_none_or(|last| last.as_str().as_bytes() != name) {
            let actor = std::str::from_utf8(name).ok().and_then(|name| Actor::new(name).ok());
            *last = Some(actor.ok_or(RecordFault::BadField("actor"))?);
        }
        Ok(true)
    }
}
