//! Whether the log's disk has room for what is decided, and what is kept of it for the ends of jobs.

use super::{Engine, PUT_RECORD_BYTES, Room};
use crate::event::Event;
use crate::far::OpenFile;
use crate::limits::{FINAL_RECORD_BYTES, RECORD_OVERHEAD_BYTES};
use crate::log::{LogWriter, Pending};
use crate::session::Actor;
use crate::storage::Storage;

impl Engine {
    /// Length of the records that everything would fill that is to be written again with its segments, in bytes. What may leave memory is
    /// not, but for a full disk: see [`Engine::leaves_after`].
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.state.live_bytes() + if self.room.is_all { self.state.distant_bytes() } else { 0 }
    }

    /// Tells how much the log can take, everything considered that was taken from here for writing. Puts are refused
    /// when there is not enough; what ends jobs never is.
    pub fn set_room(&mut self, room: Room) {
        let pending = self.pending.as_ref().map_or(0, Pending::bytes) as u64;
        self.room = Room { free: room.free.saturating_sub(pending), ..room };
    }

    /// How much room the log should have so that puts are not refused, in bytes.
    #[must_use]
    pub fn wanted_room(&self) -> u64 {
        self.room_to_reclaim() + self.room.segment_bytes / 2
    }

    /// The room that only ends of jobs and the reclaiming of segments may take. Without it a disk full of jobs that ended
    /// would stay full.
    pub(super) fn room_to_reclaim(&self) -> u64 {
        self.room_for_ends() + 2 * self.room.segment_bytes
    }

    /// Whether a segment can be reclaimed without taking the room that ends of jobs need.
    #[must_use]
    pub fn has_room_to_compact(&self) -> bool {
        let segment = self.room.segment_bytes;
        self.can_spare(segment + segment.min(2 * self.live_bytes() + segment / 16))
    }

    /// Whether the log can begin its next segment on a full disk: there is room for one, and ends of jobs still have theirs when the rest of
    /// that under way is given up.
    #[must_use]
    pub fn can_begin_segment<S: Storage>(&self, writer: &LogWriter<S>) -> bool {
        writer.has_spare() && self.can_spare(writer.left_in_segment())
    }

    /// Whether so many bytes of room can be given away, and ends of jobs still have theirs.
    fn can_spare(&self, bytes: u64) -> bool {
        self.room.free >= self.room_for_ends() + bytes
    }

    /// How long the file can be that says which far jobs are open, in bytes; 0 where no job leaves memory.
    #[must_use]
    pub fn open_file_bytes(&self) -> u64 {
        let is_none = self.state.leaves_after(self.now).is_none() && self.state.far.is_empty();
        let records = self.state.far.segments().map(|(_, records, _)| records);
        if is_none { 0 } else { OpenFile::bytes(records) as u64 }
    }

    fn room_for_ends(&self) -> u64 {
        self.state.totals().open() * (FINAL_RECORD_BYTES + self.actor_bytes)
    }

    /// In whose name the record says that it was asked for. The room for the ends of jobs may have been measured before
    /// somebody with so long a name came: an end without it always fits.
    pub(super) fn actor_in_log(&self) -> Option<&Actor> {
        self.actor.as_ref().filter(|_| !self.room.is_all || self.room.free >= self.room_for_ends())
    }

    /// Whether an event can be written without taking the room of those that must always be.
    pub(super) fn has_room_for(&self, event: &Event) -> bool {
        if !self.room.is_all {
            return true;
        }
        let put = match event {
            Event::JobPut(put) => put,
            Event::JobReplaced(kept) => &kept.put,
            _ if !event.is_durable() => return true,
            _ if event.ends_job().is_some() && event.said_bytes() == 0 => return true,
            _ => return self.room.free > self.room_to_reclaim() + event.said_bytes() as u64,
        };
        let key = put.key.as_ref().map_or(0, |key| key.len());
        // What it waits for may stand there twice.
        let terms = put.terms.as_ref().map_or(0, |terms| 2 * terms.bytes());
        let record = (put.body.len() + key + terms) as u64;
        let record = record + PUT_RECORD_BYTES + RECORD_OVERHEAD_BYTES + FINAL_RECORD_BYTES + 2 * self.actor_bytes;
        self.room.free >= self.wanted_room().saturating_add(record)
    }

    /// Whether the log has the room to keep an answer so long, in bytes. If it has, one that is kept at the end of this turn is
    /// not refused for want of room: puts before it leave more than that.
    #[must_use]
    pub fn has_room_for_answer(&self, bytes: usize) -> bool {
        !self.room.is_all || self.room.free > self.wanted_room() + bytes as u64
    }
}
