//! One event as bytes, and back: the record header, the fixed fields of each type, its optional fields.
//!
//! [`super::Pending`] encodes, under the engine's lock, so it copies a body once and allocates nothing else;
//! [`super::recovery`] decodes. The layout is a table in `docs/disk-format.md`. Bytes are never trusted: garbage gives a
//! [`RecordFault`], never a panic and never memory beyond its own length.

mod fields;
mod notes;
mod rest;
mod schedules;

use super::LoggedEvent;
use crate::command::BodyPlace;
use crate::event::{BuryReason, Event, KeptJob, KeptNumbers, KeptQueue, KeptResult, PutJob, QueueNames};
use crate::job::{JobId, JobTally, Priority, QueueName, Time};
use crate::limits;
use crate::queue::{QueueId, QueueTotals, Turns};
use crate::session::{Actor, SessionId};
use crate::terms::{Course, Terms};
use fields::{
    Fields, OPTIONAL_BYTES, nanos, put_actor, put_job, put_length, put_name, put_numbers, put_optional, put_span,
    put_time,
};
use rest::{bounded, end_tag};
use std::ops::Range;

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

/// What a record's header says, and where the record ends.
pub(super) struct RecordHeader {
    pub(super) seq: u64,
    pub(super) at: Time,
    pub(super) kind: u8,
    version: u8,
    skippable: bool,
    /// Length of the record with its header, in bytes.
    pub(super) length: usize,
}

/// Appends one record.
///
/// # Panics
/// If the event is a soft one, or its body is longer than any that a put may have: the engine has a bug then.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    seq: u64,
    at: Time,
    event: &Event,
    actor: Option<&Actor>,
    names: &impl QueueNames,
) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    let kind = encode_payload(buffer, event, names);
    if let Some(actor) = actor {
        put_actor(buffer, actor);
    }
    let payload_bytes = buffer.len() - start - RECORD_HEADER_BYTES;
    let payload_bytes = u32::try_from(payload_bytes).expect("a body is at most MAX_JOB_BYTES_CEILING long");
    let record = &mut buffer[start..];
    record[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
    record[8] = kind;
    record[9] = VERSION;
    if matches!(kind, kind::NOTED | kind::FAILED_KEPT) {
        record[10..12].copy_from_slice(&SKIPPABLE.to_le_bytes());
    }
    record[12..20].copy_from_slice(&seq.to_le_bytes());
    record[20..28].copy_from_slice(&at.0.to_le_bytes());
    let checksum = crc32fast::hash(&record[4..]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
}

fn encode_payload(out: &mut Vec<u8>, event: &Event, names: &impl QueueNames) -> u8 {
    match event {
        Event::Started { epoch, engine_time, wall_time } => {
            out.extend_from_slice(&epoch.to_le_bytes());
            put_time(out, *engine_time);
            put_time(out, *wall_time);
            kind::STARTED
        }
        Event::NumbersReserved { job_ids_below, seqs_below } => {
            out.extend_from_slice(&job_ids_below.to_le_bytes());
            out.extend_from_slice(&seqs_below.to_le_bytes());
            kind::NUMBERS_RESERVED
        }
        Event::Stopped { next_job_id, next_seq } => {
            out.extend_from_slice(&next_job_id.to_le_bytes());
            out.extend_from_slice(&next_seq.to_le_bytes());
            kind::STOPPED
        }
        Event::JobPut(put) => {
            encode_put(out, put, names);
            kind::JOB_PUT
        }
        Event::JobCompleted { job, kept } => {
            put_job(out, *job);
            kept.iter().for_each(|kept| rest::put_kept_result(out, kept));
            kind::JOB_COMPLETED
        }
        Event::JobCancelled { job, kept_until, because_of } => {
            put_job(out, *job);
            rest::put_kept_until(out, *kept_until);
            if let Some(parent) = because_of {
                put_optional(out, end_tag::BECAUSE_OF, &parent.0.to_le_bytes());
            }
            kind::JOB_CANCELLED
        }
        Event::JobExpired { job, kept_until } => {
            put_job(out, *job);
            rest::put_kept_until(out, *kept_until);
            kind::JOB_EXPIRED
        }
        Event::JobReleased { job, priority, delay, run_at, reserves } => {
            put_job(out, *job);
            out.extend_from_slice(&priority.0.to_le_bytes());
            put_span(out, *delay);
            put_time(out, *run_at);
            out.extend_from_slice(&reserves.to_le_bytes());
            kind::JOB_RELEASED
        }
        Event::JobFailed { job, delay, run_at, reserves, error } => {
            put_job(out, *job);
            put_span(out, *delay);
            put_time(out, *run_at);
            out.extend_from_slice(&reserves.to_le_bytes());
            if let Some(error) = error {
                put_optional(out, fail_tag::ERROR, error);
            }
            kind::JOB_FAILED
        }
        Event::JobBuried { job, priority, reason, reserves, number, error } => {
            put_job(out, *job);
            out.extend_from_slice(&priority.0.to_le_bytes());
            out.push(match reason {
                BuryReason::Asked => 1,
                BuryReason::LostLeases => 2,
                BuryReason::Attempts => 3,
            });
            out.extend_from_slice(&reserves.to_le_bytes());
            if *number > 0 {
                put_optional(out, bury_tag::NUMBER, &number.to_le_bytes());
            }
            if let Some(error) = error {
                put_optional(out, bury_tag::ERROR, error);
            }
            kind::JOB_BURIED
        }
        Event::JobKicked { job, run_at } => {
            put_job(out, *job);
            put_time(out, *run_at);
            kind::JOB_KICKED
        }
        Event::LeaseLost { job, reserves } => {
            put_job(out, *job);
            out.extend_from_slice(&reserves.to_le_bytes());
            kind::LEASE_LOST
        }
        Event::LeaseGiven { job, token, deadline, is_durable: true, session: _ } => {
            put_job(out, *job);
            rest::put_token(out, *token);
            put_time(out, *deadline);
            kind::LEASE_GIVEN
        }
        Event::LeaseExtended { job, deadline, is_durable: true } => {
            put_job(out, *job);
            put_time(out, *deadline);
            kind::LEASE_EXTENDED
        }
        Event::LeaseDropped { job, is_durable: true } => {
            put_job(out, *job);
            kind::LEASE_DROPPED
        }
        Event::QueuePaused { queue, until, length } => {
            put_time(out, *until);
            put_span(out, *length);
            put_name(out, names.queue_name(*queue));
            kind::QUEUE_PAUSED
        }
        Event::JobPulled { job, run_at } => {
            put_job(out, *job);
            put_time(out, *run_at);
            kind::JOB_PULLED
        }
        Event::QueueConfigured { queue, settings } => {
            put_name(out, names.queue_name(*queue));
            rest::put_settings(out, settings);
            kind::QUEUE_CONFIGURED
        }
        Event::QueueDropped { queue } => {
            put_name(out, names.queue_name(*queue));
            kind::QUEUE_DROPPED
        }
        Event::ClockStepped { engine_time, wall_time } => {
            put_time(out, *engine_time);
            put_time(out, *wall_time);
            kind::CLOCK_STEPPED
        }
        Event::JobKept(kept) => {
            encode_kept(out, kept, names);
            kind::JOB_KEPT
        }
        Event::JobReplaced(kept) => {
            encode_kept(out, kept, names);
            kind::JOB_REPLACED
        }
        Event::QueueKept(kept) => {
            let QueueTotals { puts, deletes, pauses, lost_leases, cancelled, expired, turns } = kept.totals;
            put_numbers(out, &[puts, deletes, pauses, lost_leases]);
            put_time(out, kept.paused_until);
            put_span(out, kept.pause_length);
            put_name(out, names.queue_name(kept.queue));
            kept.settings.iter().for_each(|settings| rest::put_settings(out, settings));
            rest::put_turns(out, &[cancelled, expired], turns);
            kind::QUEUE_KEPT
        }
        Event::AnswerKept(kept) => {
            rest::put_answer(out, kept);
            kind::ANSWER_KEPT
        }
        Event::FailedKept(failed) => {
            rest::put_failed(out, failed);
            kind::FAILED_KEPT
        }
        Event::NumbersKept(kept) => {
            put_numbers(out, &[kept.oldest_segment, kept.puts, kept.completed, kept.cancelled, kept.lost_leases]);
            out.extend_from_slice(&kept.epoch.to_le_bytes());
            put_numbers(out, &[kept.next_job_id, kept.job_ids_below, kept.next_seq, kept.seqs_below, kept.burials]);
            put_time(out, kept.engine_time);
            put_time(out, kept.wall_time);
            if let Some(checksum) = kept.far_jobs {
                put_optional(out, numbers_tag::FAR_JOBS, &checksum.to_le_bytes());
            }
            if kept.expired > 0 {
                put_optional(out, numbers_tag::EXPIRED, &kept.expired.to_le_bytes());
            }
            rest::put_turns(out, &[], kept.turns);
            kind::NUMBERS_KEPT
        }
        Event::ScheduleSet(_)
        | Event::ScheduleRemoved { .. }
        | Event::SchedulePaused { .. }
        | Event::TickPassed(_)
        | Event::ScheduleKept(_) => schedules::encode(out, event).expect("these are about schedules"),
        Event::Noted(note) => {
            notes::put_note(out, note);
            kind::NOTED
        }
        Event::LeaseGiven { .. }
        | Event::LeaseExtended { .. }
        | Event::LeaseDropped { .. }
        | Event::PauseOver { .. }
        | Event::ThrottleOver { .. }
        | Event::JobUnblocked { .. }
        | Event::JobHeldUp { .. }
        | Event::JobForgotten { .. }
        | Event::JobProgressed { .. }
        | Event::JobDue { .. } => unreachable!("soft events are not appended: {event:?}"),
    }
}

fn encode_put(out: &mut Vec<u8>, put: &PutJob, names: &impl QueueNames) {
    encode_fixed(out, put, names);
    put.terms.iter().for_each(|terms| rest::put_terms(out, terms));
}

/// A put but for its terms.
fn encode_fixed(out: &mut Vec<u8>, put: &PutJob, names: &impl QueueNames) {
    let name = names.queue_name(put.queue);
    out.reserve(96 + name.as_str().len() + put.body.len() + put.key.as_ref().map_or(0, |key| key.len()));
    put_job(out, put.job);
    out.extend_from_slice(&put.priority.0.to_le_bytes());
    put_time(out, put.created_at);
    put_time(out, put.run_at);
    put_span(out, put.ttr);
    out.extend_from_slice(&put.max_lost_leases.to_le_bytes());
    out.extend_from_slice(&put.max_attempts.to_le_bytes());
    put_length(out, put.body.len());
    put_name(out, name);
    out.extend_from_slice(&put.body);
    if let Some(at) = put.at_wall {
        put_optional(out, put_tag::AT, &at.0.to_le_bytes());
    }
    if let Some(key) = &put.key {
        put_optional(out, put_tag::KEY, key);
    }
}

/// A job that is kept: what is fixed, what happened to it, its terms, what became of it.
fn encode_kept(out: &mut Vec<u8>, kept: &KeptJob, names: &impl QueueNames) {
    encode_fixed(out, &kept.put, names);
    if let Some(delay) = kept.delay {
        put_optional(out, put_tag::DELAY, &nanos(delay).to_le_bytes());
    }
    if let Some(number) = kept.buried {
        put_optional(out, put_tag::BURIED, &number.to_le_bytes());
    }
    if kept.tally != JobTally::default() {
        let JobTally { reserves, lost_leases, releases, buries, kicks, attempts } = kept.tally;
        let counts = [reserves, lost_leases, releases, buries, kicks, attempts];
        put_optional(out, put_tag::TALLY, counts.map(u32::to_le_bytes).as_flattened());
    }
    kept.put.terms.iter().for_each(|terms| rest::put_terms(out, terms));
    kept.course.iter().for_each(|course| rest::put_course(out, course));
    kept.lease.iter().for_each(|lease| rest::put_lease(out, lease));
}

impl RecordHeader {
    /// Reads the header of the record that `bytes` begin with, and checks the whole record's checksum.
    pub(super) fn read(bytes: &[u8]) -> Result<RecordHeader, RecordFault> {
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
    pub(super) fn event<'n>(
        &self,
        record: &[u8],
        names: &'n mut NameCache,
    ) -> Result<Option<LoggedEvent<'n>>, RecordFault> {
        let payload = record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?;
        decode_payload(self.kind, self.version, self.skippable, payload, names)
    }

    /// Whether a server's start wrote it.
    pub(super) fn is_start(&self) -> bool {
        self.kind == kind::STARTED
    }

    /// The length of the record whose header that is, in bytes, as it says.
    pub(super) fn length_in(header: &[u8]) -> Option<u64> {
        let payload_bytes = header.get(4..8)?.first_chunk()?;
        Some(RECORD_HEADER_BYTES as u64 + u64::from(u32::from_le_bytes(*payload_bytes)))
    }

    /// Whether the record holds a job whole.
    pub(super) fn holds_job(&self) -> bool {
        holds_job(self.kind)
    }

    /// The job whose body is in this record, and where in the record it is.
    pub(super) fn body(&self, record: &[u8]) -> Result<Option<(JobId, Range<usize>)>, RecordFault> {
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
    pub(super) fn changed_job(&self, record: &[u8]) -> Result<Option<JobId>, RecordFault> {
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
    pub(super) fn answer_key<'r>(&self, record: &'r [u8]) -> Result<Option<&'r [u8]>, RecordFault> {
        if self.kind != kind::ANSWER_KEPT {
            return Ok(None);
        }
        let payload = record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?;
        rest::answer_key(&mut Fields::of(payload)).map(Some)
    }

    /// The jobs of which this record says that they came to nothing: a compaction must keep that.
    pub(super) fn failed(&self, record: &[u8]) -> Result<Vec<JobId>, RecordFault> {
        let payload = || record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short);
        match self.kind {
            kind::JOB_CANCELLED | kind::JOB_EXPIRED => Ok(vec![Fields::of(payload()?).job()?]),
            kind::FAILED_KEPT => {
                Ok(rest::take_failed(&mut Fields::of(payload()?))?.iter().map(|&(job, _)| job).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The schedule that this record is about, which was written whole, or moved on by a firing: a compaction must keep it.
    pub(super) fn schedule(&self, record: &[u8]) -> Result<Option<QueueName>, RecordFault> {
        schedules::schedule_of(self.kind, record.get(RECORD_HEADER_BYTES..self.length).ok_or(RecordFault::Short)?)
    }

    /// The queue that this record names, which was written whole: a compaction must keep it.
    pub(super) fn queue<'r>(&self, record: &'r [u8]) -> Result<Option<&'r [u8]>, RecordFault> {
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

/// The queue name and the actor read last: most records name those that the record before named.
#[derive(Debug, Default)]
pub(crate) struct NameCache {
    last: Option<QueueName>,
    actor: Option<Actor>,
}

impl NameCache {
    /// What stands for the queue until its name is resolved.
    const UNRESOLVED: QueueId = QueueId(u32::MAX);

    fn keep(&mut self, name: &[u8]) -> Result<QueueId, RecordFault> {
        if self.last.as_ref().is_none_or(|last| last.as_str().as_bytes() != name) {
            let text = std::str::from_utf8(name).map_err(|_| RecordFault::BadField("queue name"))?;
            self.last = Some(QueueName::new(text).map_err(|_| RecordFault::BadField("queue name"))?);
        }
        Ok(NameCache::UNRESOLVED)
    }
}

/// Reads the event of the record that `bytes` are; `None` if it is of a kind that may be passed over.
pub(crate) fn decode_record<'n>(
    bytes: &[u8],
    names: &'n mut NameCache,
) -> Result<Option<LoggedEvent<'n>>, RecordFault> {
    RecordHeader::read(bytes)?.event(bytes, names)
}

/// Reads a payload of a type and version.
pub(super) fn decode_payload<'n>(
    kind: u8,
    version: u8,
    skippable: bool,
    payload: &[u8],
    names: &'n mut NameCache,
) -> Result<Option<LoggedEvent<'n>>, RecordFault> {
    let mut fields = Fields::of(payload);
    let event = if version == VERSION { decode_event(kind, &mut fields, names)? } else { None };
    match event {
        Some(event) => {
            let has_actor = fields.take_actor(&mut names.actor)?;
            let names_queue = matches!(
                event,
                Event::JobPut(_)
                    | Event::JobReplaced(_)
                    | Event::QueuePaused { .. }
                    | Event::QueueConfigured { .. }
                    | Event::QueueDropped { .. }
                    | Event::JobKept(_)
                    | Event::QueueKept(_)
            );
            Ok(Some(LoggedEvent {
                event,
                queue: names.last.as_ref().filter(|_| names_queue),
                actor: names.actor.as_ref().filter(|_| has_actor),
            }))
        }
        None if skippable => Ok(None),
        None => Err(RecordFault::UnknownType { kind, version }),
    }
}

/// Reads the fields of a type; `None` if it does not know the type.
fn decode_event(kind: u8, fields: &mut Fields<'_>, names: &mut NameCache) -> Result<Option<Event>, RecordFault> {
    let event = match kind {
        kind::STARTED => {
            Event::Started { epoch: fields.u32()?, engine_time: fields.time()?, wall_time: fields.time()? }
        }
        kind::NUMBERS_RESERVED => Event::NumbersReserved { job_ids_below: fields.u64()?, seqs_below: fields.u64()? },
        kind::STOPPED => Event::Stopped { next_job_id: fields.u64()?, next_seq: fields.u64()? },
        kind::JOB_PUT | kind::JOB_KEPT | kind::JOB_REPLACED => return decode_put(kind, fields, names).map(Some),
        kind::JOB_BURIED => return decode_burial(fields).map(Some),
        kind::JOB_FAILED => return decode_failure(fields).map(Some),
        kind::JOB_COMPLETED | kind::JOB_CANCELLED | kind::JOB_EXPIRED => return decode_end(kind, fields).map(Some),
        kind::JOB_RELEASED => Event::JobReleased {
            job: fields.job()?,
            priority: Priority(fields.u32()?),
            delay: fields.span()?,
            run_at: fields.time()?,
            reserves: fields.u32()?,
        },
        kind::JOB_KICKED => Event::JobKicked { job: fields.job()?, run_at: fields.time()? },
        kind::LEASE_LOST => Event::LeaseLost { job: fields.job()?, reserves: fields.u32()? },
        kind::LEASE_GIVEN => Event::LeaseGiven {
            job: fields.job()?,
            session: SessionId::PAST,
            token: rest::take_token(fields)?,
            deadline: fields.time()?,
            is_durable: true,
        },
        kind::LEASE_EXTENDED => Event::LeaseExtended { job: fields.job()?, deadline: fields.time()?, is_durable: true },
        kind::LEASE_DROPPED => Event::LeaseDropped { job: fields.job()?, is_durable: true },
        kind::QUEUE_PAUSED => {
            let until = fields.time()?;
            let length = fields.span()?;
            Event::QueuePaused { queue: names.keep(fields.name()?)?, until, length }
        }
        kind::JOB_PULLED => Event::JobPulled { job: fields.job()?, run_at: fields.time()? },
        kind::QUEUE_DROPPED => Event::QueueDropped { queue: names.keep(fields.name()?)? },
        kind::CLOCK_STEPPED => Event::ClockStepped { engine_time: fields.time()?, wall_time: fields.time()? },
        kind::QUEUE_KEPT => {
            let mut totals = QueueTotals {
                puts: fields.u64()?,
                deletes: fields.u64()?,
                pauses: fields.u64()?,
                lost_leases: fields.u64()?,
                ..QueueTotals::default()
            };
            let (paused_until, pause_length) = (fields.time()?, fields.span()?);
            let queue = names.keep(fields.name()?)?;
            let settings = rest::take_settings(fields, kind, |value| {
                (totals.cancelled, totals.expired) = (value.u64()?, value.u64()?);
                totals.turns = rest::take_turns(value)?;
                Ok(true)
            })?;
            let settings = (!settings.is_empty()).then(|| Box::new(settings));
            return Ok(Some(Event::QueueKept(Box::new(KeptQueue {
                queue,
                totals,
                paused_until,
                pause_length,
                settings,
            }))));
        }
        kind::QUEUE_CONFIGURED => {
            let queue = names.keep(fields.name()?)?;
            let settings = Box::new(rest::take_settings(fields, kind, |_| Ok(false))?);
            return Ok(Some(Event::QueueConfigured { queue, settings }));
        }
        kind::NUMBERS_KEPT => return decode_numbers(fields).map(Some),
        kind::ANSWER_KEPT => Event::AnswerKept(Box::new(rest::take_answer(fields)?)),
        kind::FAILED_KEPT => Event::FailedKept(rest::take_failed(fields)?),
        kind::NOTED => return Ok(notes::take_note(fields)?.map(|note| Event::Noted(Box::new(note)))),
        _ => return schedules::decode(kind, fields),
    };
    // No other type has optional fields of its own so far, so every tag below 128 is one of a newer server.
    fields.each_optional(kind, |_, _| Ok(false))?;
    Ok(Some(event))
}

fn decode_numbers(fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let mut kept = KeptNumbers {
        oldest_segment: fields.u64()?,
        puts: fields.u64()?,
        completed: fields.u64()?,
        cancelled: fields.u64()?,
        expired: 0,
        lost_leases: fields.u64()?,
        turns: Turns::default(),
        epoch: fields.u32()?,
        next_job_id: fields.u64()?,
        job_ids_below: fields.u64()?,
        next_seq: fields.u64()?,
        seqs_below: fields.u64()?,
        burials: fields.u64()?,
        engine_time: fields.time()?,
        wall_time: fields.time()?,
        far_jobs: None,
    };
    fields.each_optional(kind::NUMBERS_KEPT, |tag, mut value| {
        match tag {
            numbers_tag::FAR_JOBS => kept.far_jobs = Some(value.u32()?),
            numbers_tag::EXPIRED => kept.expired = value.u64()?,
            rest::TURNS_TAG => kept.turns = rest::take_turns(&mut value)?,
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(Event::NumbersKept(Box::new(kept)))
}

fn decode_burial(fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let job = fields.job()?;
    let priority = Priority(fields.u32()?);
    let reason = match fields.u8()? {
        1 => BuryReason::Asked,
        2 => BuryReason::LostLeases,
        3 => BuryReason::Attempts,
        _ => return Err(RecordFault::BadField("reason")),
    };
    let reserves = fields.u32()?;
    let (mut number, mut error) = (0, None);
    fields.each_optional(kind::JOB_BURIED, |tag, mut value| {
        match tag {
            bury_tag::NUMBER => number = value.u64()?,
            bury_tag::ERROR => error = Some(bounded(&mut value, limits::ERROR_BYTES, "error")?),
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(Event::JobBuried { job, priority, reason, reserves, number, error })
}

fn decode_failure(fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let (job, delay, run_at, reserves) = (fields.job()?, fields.span()?, fields.time()?, fields.u32()?);
    let mut error = None;
    fields.each_optional(kind::JOB_FAILED, |tag, mut value| {
        if tag == fail_tag::ERROR {
            error = Some(bounded(&mut value, limits::ERROR_BYTES, "error")?);
        }
        Ok(tag == fail_tag::ERROR)
    })?;
    Ok(Event::JobFailed { job, delay, run_at, reserves, error })
}

fn decode_end(kind: u8, fields: &mut Fields<'_>) -> Result<Event, RecordFault> {
    let job = fields.job()?;
    let (mut kept_until, mut result, mut because_of) = (None, None, None);
    fields.each_optional(kind, |tag, mut value| {
        match (kind, tag) {
            (_, end_tag::KEPT_UNTIL) => kept_until = Some(value.time()?),
            (kind::JOB_COMPLETED, end_tag::RESULT) => {
                result = Some(bounded(&mut value, limits::RESULT_BYTES, "result")?);
            }
            (kind::JOB_CANCELLED, end_tag::BECAUSE_OF) => because_of = Some(value.job()?),
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(match kind {
        kind::JOB_COMPLETED if kept_until.is_none() && result.is_some() => return Err(RecordFault::BadField("result")),
        kind::JOB_COMPLETED => {
            Event::JobCompleted { job, kept: kept_until.map(|until| Box::new(KeptResult { until, result })) }
        }
        kind::JOB_CANCELLED => Event::JobCancelled { job, kept_until, because_of },
        _ => Event::JobExpired { job, kept_until },
    })
}

/// Reads a put, or a job that is kept: the fields of a put, and more of those that may be absent.
fn decode_put(kind: u8, fields: &mut Fields<'_>, names: &mut NameCache) -> Result<Event, RecordFault> {
    let job = fields.job()?;
    let priority = Priority(fields.u32()?);
    let created_at = fields.time()?;
    let run_at = fields.time()?;
    let ttr = fields.span()?;
    let max_lost_leases = fields.u16()?;
    let max_attempts = fields.u16()?;
    let body_bytes = fields.u32()? as usize;
    let name = fields.name()?;
    let body = fields.bytes(body_bytes)?;
    let is_kept = kind != kind::JOB_PUT;
    let mut at_wall = None;
    let mut key = None;
    let (mut delay, mut buried, mut tally, mut lease) = (None, None, JobTally::default(), None);
    let (mut terms, mut course) = (Terms::default(), Course::default());
    fields.each_optional(kind, |tag, mut value| {
        match tag {
            put_tag::AT => at_wall = Some(value.time()?),
            put_tag::KEY if (1..=limits::KEY_BYTES).contains(&value.left.len()) => {
                key = Some(std::mem::take(&mut value.left).into());
            }
            put_tag::KEY => return Err(RecordFault::BadField("key")),
            put_tag::DELAY if is_kept => delay = Some(value.span()?),
            put_tag::BURIED if is_kept => buried = Some(value.u64()?),
            put_tag::TALLY if is_kept => tally = value.tally()?,
            rest::LEASE_TAG if kind == kind::JOB_KEPT => lease = Some(Box::new(rest::take_lease(&mut value)?)),
            _ if rest::take_terms(&mut terms, tag, &mut value)? => {}
            _ if is_kept && rest::take_course(&mut course, tag, &mut value)? => {}
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    if body.len() > limits::MAX_JOB_BYTES_CEILING {
        return Err(RecordFault::BadField("body length"));
    }
    let put = PutJob {
        job,
        queue: names.keep(name)?,
        priority,
        created_at,
        run_at,
        at_wall,
        ttr,
        max_lost_leases,
        max_attempts,
        key,
        terms: (!terms.is_empty()).then(|| Box::new(terms)),
        body: body.into(),
    };
    let course = (course != Course::default()).then(|| Box::new(course));
    Ok(match kind {
        kind::JOB_PUT => Event::JobPut(put),
        kind::JOB_REPLACED => Event::JobReplaced(Box::new(KeptJob { put, delay, tally, buried, course, lease })),
        _ => Event::JobKept(Box::new(KeptJob { put, delay, tally, buried, course, lease })),
    })
}
