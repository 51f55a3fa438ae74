//! Who holds which job, until when.
//!
//! A lease is soft: it is not in the log, and a restart voids it; but for a durable one, which the log has, and which keeps
//! its token across restarts. Its token, not the holder's word, decides whether a later verb is the holder's.

use crate::job::{Job, JobId, Jobs, LeaseToken, Time};
use crate::pages::{Pages, Slot};
use crate::session::SessionId;
use crate::wheel::Keys;

/// One reservation. It lives as long as the job is reserved.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) session: SessionId,
    pub(crate) token: LeaseToken,
    /// When it was given.
    pub(crate) since: Time,
    pub(crate) deadline: Time,
    /// Whether a restart leaves it in force.
    pub(crate) is_durable: bool,
    /// What its holder said last of how far it is.
    pub(crate) progress: Option<Box<[u8]>>,
}

impl Job {
    /// Where the lease of a reserved job is.
    pub(crate) fn lease_slot(&self) -> Slot {
        self.lease.get().expect("a reserved job has a lease")
    }
}

/// The jobs that one session holds: by (deadline, id).
pub(crate) struct LeaseOrder<'a> {
    pub(crate) jobs: &'a Jobs,
    pub(crate) leases: &'a Pages<Lease>,
    /// Nanoseconds that a spoke covers.
    pub(crate) spoke: u64,
}

impl Keys for LeaseOrder<'_> {
    type Key = (Time, JobId);

    fn key(&self, slot: Slot) -> Self::Key {
        let job = &self.jobs[slot];
        (self.leases[job.lease_slot()].deadline, job.id)
    }

    fn span_start(&self, key: Self::Key) -> Self::Key {
        (Time(key.0.0 - key.0.0 % self.spoke), JobId(0))
    }
}
