//! What is past, for who comes back: read from the log's segments, on threads that may wait for the disk.
//!
//! Nothing is read that may not leave: whoever reads waits with [`Host::is_in_log`] before.

use super::{CommitError, Host};
use rota_engine::engine::DependsOn;
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::journal::{Journal, Known, Part};
use rota_engine::log::Lsn;
use rota_engine::storage::DataDirectory;
use std::io;

/// A reader of this server's journal.
pub type HostJournal = Journal<DataDirectory>;

impl Host {
    /// Waits until that record is so far that what it says may leave. For one that no answer depends on, too.
    ///
    /// # Errors
    /// [`CommitError`]: it never will be.
    pub async fn is_in_log(&self, record: Lsn) -> Result<(), CommitError> {
        self.left_behind(DependsOn { promised: record, durable: Lsn(0) }).await
    }

    /// Begins after the event of that number, as [`Journal::begin`]. Waits for the disk.
    ///
    /// # Errors
    /// The disk does not say which segments there are, or no log is kept.
    pub fn begin_journal(&self, after: u64, jobs: Option<&[JobId]>) -> io::Result<HostJournal> {
        let bodies = self.bodies.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Journal::begin(bodies.directory.clone(), after, jobs)
    }

    /// Reads on, as [`Journal::read`]. Waits for the disk.
    pub fn read_journal(&self, journal: &mut HostJournal, until: Lsn, below: u64) -> Part {
        journal.read(until, below, &At(self))
    }
}

/// What the engine at work knows. It is asked without the disk being waited for.
struct At<'h>(&'h Host);

impl Known for At<'_> {
    fn queues_of(&self, jobs: &[JobId]) -> Vec<Option<QueueName>> {
        self.0.look(|shared| shared.engine.queues_of(jobs))
    }

    fn wall_time(&self, moment: Time) -> Time {
        self.0.look(|shared| shared.engine.wall_time(moment))
    }
}
