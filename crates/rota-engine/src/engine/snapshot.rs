//! The engine's part in a snapshot: its walk in slices, its records, its end.

use super::Engine;
use crate::command::BodyPlace;
use crate::job::{JobId, Time};
use crate::log::{Group, Pending};
use crate::snapshot::{Snapshot, SnapshotCounts};

impl Engine {
    /// Begins a snapshot: a stream of records of its own, which holds the whole state at its end. Returns false if one
    /// is under way.
    pub fn begin_snapshot(&mut self) -> bool {
        let is_free = self.snapshot.is_none();
        if is_free {
            self.snapshot = Some(Snapshot::begin(&self.state));
        }
        is_free
    }

    /// The bodies that the next slice of the snapshot, over so many objects, needs and that are in the log alone: to be
    /// read there, and given with [`Engine::give_to_snapshot`]. None where bodies are in memory.
    #[must_use]
    pub fn snapshot_wants(&self, most_objects: usize) -> Vec<BodyPlace> {
        let is_lazy = self.pending.as_ref().is_some_and(Pending::notes_bodies);
        let snapshot = self.snapshot.as_ref().filter(|_| is_lazy);
        snapshot.map_or_else(Vec::new, |snapshot| snapshot.wants(most_objects, &self.state))
    }

    /// Gives the snapshot bodies that it wanted.
    pub fn give_to_snapshot(&mut self, bodies: Vec<(JobId, Box<[u8]>)>) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.take_bodies(bodies);
        }
    }

    /// Walks on over at most so many objects, in a step that commands can wait for. Returns whether the walk is done:
    /// what [`Engine::take_snapshot_records`] gives from then on, once, is the end of the snapshot. True without one. It
    /// goes no further than to a body that it wants and was not given.
    pub fn snapshot_slice(&mut self, most_objects: usize, now: Time) -> bool {
        self.now = self.now.max(now);
        let now = self.now;
        if self.state.is_telling() {
            return self.snapshot.is_none();
        }
        self.snapshot.as_mut().is_none_or(|snapshot| snapshot.step(most_objects, &self.state, now))
    }

    /// Whether nothing but queues, schedules and numbers is left of the walk.
    #[must_use]
    pub fn is_snapshot_near_end(&self) -> bool {
        self.snapshot.as_ref().is_some_and(Snapshot::is_near_end)
    }

    /// Moves the snapshot's records since the last call into `group`, for a log writer of their own. Returns whether
    /// there were any.
    pub fn take_snapshot_records(&mut self, group: &mut Group) -> bool {
        self.snapshot.as_mut().is_some_and(|snapshot| snapshot.take(group))
    }

    /// Bytes of the snapshot's records that nobody took yet. Past [`crate::limits::SNAPSHOT_BACKLOG_BYTES`] it should be
    /// given up.
    #[must_use]
    pub fn snapshot_bytes(&self) -> usize {
        self.snapshot.as_ref().map_or(0, Snapshot::bytes)
    }

    /// Ends the snapshot, done or not. Returns what it holds, all zero if it is not done; `None` if there was none.
    pub fn end_snapshot(&mut self) -> Option<SnapshotCounts> {
        self.snapshot.take().map(|snapshot| snapshot.counts())
    }
}
