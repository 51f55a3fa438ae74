//! One event as bytes, and back: the types of records, and what can be wrong with one.
//!
//! ```text
//!   an event ──► encode ──► header · fixed fields · optional fields ──► decode ──► the event
//!                              └──► what a walk over the log has to know of it, and no more
//! ```
//!
//! The layout is a table in `docs/disk-format.md`. Bytes are never trusted: garbage gives a [`RecordFault`], never a panic and
//! never memory beyond its own length.

mod decode;
mod encode;
mod fields;
mod header;
mod notes;
mod rest;
mod schedules;

use crate::command::BodyPlace;
use crate::limits;
use crate::queue::QueueSettings;
use crate::session::Actor;
use fields::OPTIONAL_BYTES;
use std::ops::Range;

pub(super) use decode::decode_payload;
pub(crate) use decode::{NameCache, decode_record};
pub(super) use encode::encode;
pub(super) use header::RecordHeader;

/// Length of a record's header in bytes.
pub(super) const RECORD_HEADER_BYTES: usize = 28;

/// Flag of a record that a reader who does not know its type passes over.
const SKIPPABLE: u16 = 1;

/// The version of every type's fixed fields so far.
pub(super) const VERSION: u8 = 1;

/// The numbers of the record types; never used again for another one.
mod kind {
    pub(super) const STARTED: u8 = 1;
    pub(super) const NUMBERS_RESERVED: u8 = 2;
    pub(super) const STOPPED: u8 = 3;
    pub(super) const JOB_PUT: u8 = 4;
    pub(super) const JOB_COMPLETED: u8 = 5;
    pub(super) const JOB_CANCELLED: u8 = 6;
    pub(super) const JOB_RELEASED: u8 = 7;
    pub(super) const JOB_FAILED: u8 = 8;
    pub(super) const JOB_BURIED: u8 = 9;
    pub(super) const JOB_KICKED: u8 = 10;
    pub(super) const LEASE_LOST: u8 = 11;
    pub(super) const QUEUE_PAUSED: u8 = 12;
    pub(super) const JOB_PULLED: u8 = 13;
    pub(super) const QUEUE_DROPPED: u8 = 14;
    pub(super) const CLOCK_STEPPED: u8 = 15;
    pub(super) const JOB_KEPT: u8 = 16;
    pub(super) const QUEUE_KEPT: u8 = 17;
    pub(super) const NUMBERS_KEPT: u8 = 18;
    pub(super) const JOB_EXPIRED: u8 = 19;
    pub(super) const JOB_REPLACED: u8 = 20;
    pub(super) const QUEUE_CONFIGURED: u8 = 21;
    pub(super) const SCHEDULE_SET: u8 = 22;
    pub(super) const SCHEDULE_REMOVED: u8 = 23;
    pub(super) const SCHEDULE_PAUSED: u8 = 24;
    pub(super) const TICK_PASSED: u8 = 25;
    pub(super) const SCHEDULE_KEPT: u8 = 26;
    pub(super) const ANSWER_KEPT: u8 = 30;
    pub(super) const NOTED: u8 = 31;
    pub(super) const FAILED_KEPT: u8 = 32;
    pub(super) const LEASE_GIVEN: u8 = 33;
    pub(super) const LEASE_EXTENDED: u8 = 34;
    pub(super) const LEASE_DROPPED: u8 = 35;
}

/// Whether a record of that type begins with a job that it holds whole.
pub(super) fn holds_job(kind: u8) -> bool {
    matches!(kind, kind::JOB_PUT | kind::JOB_KEPT | kind::JOB_REPLACED)
}

/// The optional fields of numbers that are kept.
mod numbers_tag {
    pub(super) const FAR_JOBS: u8 = 1;
    pub(super) const EXPIRED: u8 = 2;
}

/// The optional fields of a put, and of a job that is kept. More of them are in [`rest`].
mod put_tag {
    pub(super) const AT: u8 = 1;
    pub(super) const KEY: u8 = 2;
    /// This and the next two only where a job is kept, or replaced.
    pub(super) const DELAY: u8 = 3;
    pub(super) const BURIED: u8 = 4;
    pub(super) const TALLY: u8 = 5;
}

/// The optional fields of a burial.
mod bury_tag {
    pub(super) const NUMBER: u8 = 1;
    pub(super) const ERROR: u8 = 2;
}

/// The optional fields of a failed attempt.
mod fail_tag {
    pub(super) const ERROR: u8 = 1;
}

/// Bytes before the queue's name in each type that names one.
const NAME_AT_IN_PUT: usize = 44;
const NAME_AT_IN_PAUSE: usize = 16;
const NAME_AT_IN_QUEUE_KEPT: usize = 48;

/// Why a record cannot be read although its checksum may be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordFault {
    /// It ends in the middle of a field, or of its header.
    #[error("a record that ends in the middle")]
    Short,
    /// Bytes are left over behind its fields.
    #[error("bytes behind a record's last field")]
    LeftOver,
    /// Its checksum is wrong.
    #[error("a record with a wrong checksum")]
    Checksum,
    /// A newer server wrote a type that must not be passed over.
    #[error("a record of type {kind} version {version}, which this version of rota does not know")]
    UnknownType {
        /// The type's number.
        kind: u8,
        /// The version of its fixed fields.
        version: u8,
    },
    /// A newer server wrote a field that must not be passed over.
    #[error("a mandatory field {tag} in a record of type {kind}, which this version of rota does not know")]
    UnknownField {
        /// The type's number.
        kind: u8,
        /// The field's tag.
        tag: u8,
    },
    /// A newer server set flags that this one does not know.
    #[error("a record with the flags {0:#06x}, which this version of rota does not know")]
    UnknownFlags(u16),
    /// Its optional fields are not in rising order of their tags.
    #[error("the optional fields of a record out of order")]
    TagOrder,
    /// A field has a value that nobody writes.
    #[error("a record with an impossible {0}")]
    BadField(&'static str),
}

/// Why the bytes at a body's place are not its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyFault {
    /// The record can't be read.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// The record is right, and is another one.
    #[error("a record of something else")]
    OtherRecord,
}

/// How many bytes the record of a body so long has at the most, unless the job has terms or is kept with what became of it:
/// to read it at once.
#[must_use]
pub fn body_record_bytes(body_bytes: u32) -> usize {
    // The longest name, and behind the body the longest optional fields: a moment, a key, a delay, a burial, a tally, a lease,
    // an actor.
    let values = 8 + limits::KEY_BYTES + 8 + 8 + 24 + rest::LEASE_BYTES + limits::ACTOR_BYTES;
    let optional = values + 7 * OPTIONAL_BYTES;
    RECORD_HEADER_BYTES + NAME_AT_IN_PUT + 1 + limits::QUEUE_NAME_BYTES + body_bytes as usize + optional
}

/// The most bytes that the record of a body so long can have.
#[must_use]
pub fn most_body_record_bytes(body_bytes: u32) -> usize {
    body_record_bytes(body_bytes) + rest::MOST_BYTES
}

/// What an actor adds to a record, in bytes.
pub(crate) fn actor_bytes(actor: &Actor) -> u64 {
    (OPTIONAL_BYTES + actor.as_str().len()) as u64
}

/// What the settings of a queue add to its record, in bytes.
pub(crate) fn settings_bytes(settings: &QueueSettings) -> u64 {
    let mut fields = Vec::new();
    rest::put_settings(&mut fields, settings);
    fields.len() as u64
}

/// Where the body is in `bytes`, which begin with the record at its place and go on at will. It is right: the record's
/// checksum is, and it is that of this job.
///
/// # Errors
/// [`BodyFault`]: these bytes must not be served. [`RecordFault::Short`] if there are too few of them to tell.
pub fn body_in(bytes: &[u8], place: &BodyPlace) -> Result<Range<usize>, BodyFault> {
    let header = RecordHeader::read(bytes)?;
    match header.body(bytes)? {
        Some((job, body)) if job == place.job && body.len() == place.body_bytes as usize => Ok(body),
        _ => Err(BodyFault::OtherRecord),
    }
}
