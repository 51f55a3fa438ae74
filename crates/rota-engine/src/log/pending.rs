//! Records on their way to disk: decided and encoded, not yet written.
//!
//! The engine appends to [`Pending`] under its lock, so that appending must never wait, do I/O, or copy more than the
//! event itself; the one who writes takes all of it at once as a [`Group`].

use super::record;
use super::segment::{GROUP_ALIGNMENT, GROUP_HEADER_BYTES};
use super::{Lsn, Place};
use crate::event::{Event, QueueNames};
use crate::job::{JobId, Time};
use crate::session::Actor;

/// Capacity that a buffer keeps when it is emptied, in bytes.
const KEPT_CAPACITY_BYTES: usize = 1 << 20;

/// Records decided and not yet taken for writing.
#[derive(Debug)]
pub struct Pending {
    group: Group,
    next_lsn: Lsn,
    /// Whether groups keep note of the bodies in them.
    notes_bodies: bool,
}

/// What one commit writes: records that follow each other, encoded.
#[derive(Debug)]
pub struct Group {
    /// Room for the group's header, then the records: so that both go out in one write.
    pub(super) buffer: Vec<u8>,
    pub(super) first_lsn: Lsn,
    pub(super) records: u32,
    /// The records with bodies, where that is kept note of: whose they are, and where in the buffer they begin.
    pub(super) notes: Vec<(JobId, usize)>,
    /// Where the records of `notes` are on the disk.
    pub(super) bodies: Vec<BodyWritten>,
}

/// A body that is in the log now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyWritten {
    /// Whose it is.
    pub job: JobId,
    /// The record that holds it.
    pub record: Place,
}

impl Pending {
    /// Nothing yet; the first record will be `next_lsn`.
    #[must_use]
    pub fn new(next_lsn: Lsn) -> Pending {
        Pending { group: Group::default(), next_lsn, notes_bodies: false }
    }

    /// The same; and groups that were written tell where the bodies are that were in them, with
    /// [`Group::bodies_written`].
    #[must_use]
    pub fn with_notes_of_bodies(self) -> Pending {
        Pending { notes_bodies: true, ..self }
    }

    /// Whether groups that were written tell where the bodies are.
    #[must_use]
    pub fn notes_bodies(&self) -> bool {
        self.notes_bodies
    }

    /// Adds a durable event; returns its place in the log, which everything that depends on it waits for.
    ///
    /// # Panics
    /// If the event is a soft one (see [`Event::is_durable`]).
    pub fn append(&mut self, seq: u64, at: Time, event: &Event, names: &impl QueueNames) -> Lsn {
        self.append_by(seq, at, event, None, names)
    }

    /// The same of an event that was asked for in somebody's name.
    ///
    /// # Panics
    /// As [`Pending::append`].
    pub fn append_by(
        &mut self,
        seq: u64,
        at: Time,
        event: &Event,
        actor: Option<&Actor>,
        names: &impl QueueNames,
    ) -> Lsn {
        if self.group.records == 0 {
            self.group.first_lsn = self.next_lsn;
        }
        if let Some(job) = event.with_body().filter(|_| self.notes_bodies) {
            self.group.notes.push((job, self.group.buffer.len()));
        }
        record::encode(&mut self.group.buffer, seq, at, event, actor, names);
        self.group.records += 1;
        let lsn = self.next_lsn;
        self.next_lsn = Lsn(lsn.0 + 1);
        lsn
    }

    /// The place of the record appended last, be it taken already; 0 if there never was one.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.next_lsn.0 - 1)
    }

    /// Bytes appended and not yet taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.group.bytes()
    }

    /// Whether everything appended was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// Gives away everything appended, by swapping buffers with `into`, which was written and is empty; false if there
    /// is nothing.
    pub fn take(&mut self, into: &mut Group) -> bool {
        debug_assert!(into.is_empty(), "a group is written before the next is taken into it");
        if self.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.group, into);
        self.group.clear();
        true
    }
}

impl Group {
    /// Whether there is nothing in it to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Length of its records, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len() - GROUP_HEADER_BYTES
    }

    /// Takes note of where its buffer went.
    pub(super) fn written_at(&mut self, place: Place) {
        let record = |at: usize| Place { offset: place.offset + at as u64, ..place };
        self.bodies.extend(self.notes.drain(..).map(|(job, at)| BodyWritten { job, record: record(at) }));
    }

    /// The bodies in what was last written of it, and where they are: for [`crate::engine::Engine::bodies_written`], in
    /// this order. They are not told twice. None where bodies are in memory too.
    pub fn bodies_written(&mut self) -> Vec<BodyWritten> {
        std::mem::take(&mut self.bodies)
    }

    /// Forgets its records; a large buffer goes back to the system, a small one is kept.
    pub(super) fn clear(&mut self) {
        self.records = 0;
        self.notes.clear();
        self.buffer.truncate(GROUP_HEADER_BYTES);
        self.buffer.shrink_to(KEPT_CAPACITY_BYTES);
    }

    /// Fills the payload up to where the next group may begin.
    pub(super) fn pad(&mut self) {
        let padded = self.buffer.len().next_multiple_of(GROUP_ALIGNMENT);
        self.buffer.resize(padded, 0);
    }
}

impl Default for Group {
    fn default() -> Group {
        let (notes, bodies) = (Vec::new(), Vec::new());
        Group { buffer: vec![0; GROUP_HEADER_BYTES], first_lsn: Lsn(0), records: 0, notes, bodies }
    }
}
