//! The log: every durable event, in order, on disk before anything that depends on it leaves the process.
//!
//! ```text
//!   under the engine's lock          off the lock                             at start
//!   Pending::append ──► Pending ──► Group ──► LogWriter::write ──► segments ──► open ──► replay
//!                          take (buffers swapped)       └──► LogWriter::sync
//! ```
//!
//! The engine's owner appends and takes; whoever it has for the disk writes and syncs; [`open`] reads it all back.
//! What is on disk is in `docs/disk-format.md`. Nothing here has a thread, a clock or randomness, and nothing touches a
//! file but through [`crate::storage::Storage`]. It must never try again on a disk that failed once, never call something durable that is not, and
//! never change a log that it does not understand.

mod compaction;
pub mod inspect;
mod pending;
mod reader;
mod record;
mod recovery;
mod salvage;
mod segment;
mod trail;
mod writer;

#[cfg(test)]
mod tests;

use crate::event::Event;
use crate::job::{QueueName, Time};
use crate::queue::QueueId;
use crate::session::Actor;

pub use compaction::{Compaction, is_due, is_over};
pub use pending::{BodyWritten, Group, Pending};
pub use reader::SegmentError;
pub(crate) use reader::SegmentReader;
pub use record::{BodyFault, RecordFault, body_in, body_record_bytes, most_body_record_bytes};
pub(crate) use record::{NameCache, actor_bytes, decode_record, settings_bytes};
pub(crate) use recovery::read;
pub use recovery::{OpenError, Recovery, Refusal, TornTail, open};
pub use salvage::{FarLoss, JobRange, LostJob, Salvage, SalvageError, Take, salvage};
pub use segment::{Damage, FORMAT_VERSION};
pub(crate) use trail::{Lost, Passed, Trail, Walked};
pub use writer::{LogError, LogStats, LogWriter, SyncUnderWay};

/// A record's place in the log: 1 for the first, without gaps; 0 stands for none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why an event could not be applied.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// One event as it was logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayedRecord<'a> {
    /// Its place in order.
    pub lsn: Lsn,
    /// Its number.
    pub seq: u64,
    /// When it happened, in engine time.
    pub at: Time,
    /// What happened.
    pub event: LoggedEvent<'a>,
    /// Its place on disk.
    pub place: Place,
}

/// An event that names its queue by name, as the log does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoggedEvent<'a> {
    /// Its queue is none of this process's until it is resolved.
    event: Event,
    queue: Option<&'a QueueName>,
    actor: Option<&'a Actor>,
}

impl LoggedEvent<'_> {
    /// The event; if it names a queue, then by a number that means nothing: see [`LoggedEvent::queue_name`].
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The name of the queue that it names, if it names one.
    #[must_use]
    pub fn queue_name(&self) -> Option<&QueueName> {
        self.queue
    }

    /// In whose name it was asked for, if the record says it.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.actor
    }

    /// The event, with the process's own number for its queue: `number` is asked for it if the event names a queue.
    pub fn resolve(self, number: &mut dyn FnMut(&QueueName) -> QueueId) -> Event {
        let LoggedEvent { mut event, queue, .. } = self;
        if let Some(name) = queue {
            let resolved = number(name);
            match &mut event {
                Event::JobPut(put) => put.queue = resolved,
                Event::JobKept(kept) | Event::JobReplaced(kept) => kept.put.queue = resolved,
                Event::QueueKept(kept) => kept.queue = resolved,
                Event::QueuePaused { queue, .. }
                | Event::QueueConfigured { queue, .. }
                | Event::QueueDropped { queue } => *queue = resolved,
                _ => unreachable!("the reader keeps a name for these alone"),
            }
        }
        event
    }
}

/// Where a record begins on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// Bytes before it in the segment.
    pub offset: u64,
}

/// Reads bytes of anybody's as a segment; returns the number of its records. For fuzzers: it must not panic, nor use
/// memory beyond a multiple of the input's length.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_segment(bytes: &[u8]) -> Result<u64, Damage> {
    recovery::check_segment(bytes)
}

/// Reads bytes of anybody's as a record's type, version, flags and payload, with no checksum in the way. For fuzzers, as
/// [`check_segment`].
///
/// # Errors
/// The first thing that is wrong.
pub fn check_record(bytes: &[u8]) -> Result<Option<Event>, RecordFault> {
    let [kind, version, flags, payload @ ..] = bytes else { return Err(RecordFault::Short) };
    let names = &mut record::NameCache::default();
    let event = record::decode_payload(*kind, *version, flags & 1 != 0, payload, names)?;
    Ok(event.map(|event| event.resolve(&mut |_| QueueId(0))))
}
