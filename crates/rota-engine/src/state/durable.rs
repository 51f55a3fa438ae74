//! What of leases outlives the process, and which records answers wait for until they are on the disk: what queues are set
//! up to have safer than others. Most have neither, and nothing here is done for them.
//!
//! A durable lease is in the log from when it is given, with its token and its end. A replay has a session of the past hold
//! it, which is left from the beginning: whoever has the token holds the job. Time in which nobody could reach the server does
//! not count: at a *started* what was left of each lease at the record before is left from there on.

use super::State;
use crate::event::{Event, KeptLease};
use crate::job::{Job, QueueName, Time};
use crate::lease::{Lease, LeaseOrder};
use crate::pages::Slot;
use crate::queue::{QueueId, QueueSettings, Times};
use crate::session::{Bond, Session, SessionId};
use crate::wheel::Wheel;

impl State {
    /// Whether a lease that is given to the session now is a durable one.
    pub(super) fn gives_durably(&self, session: SessionId, job: &Job) -> bool {
        let settings = self.queue(job.queue).settings.as_ref();
        settings.is_some_and(|settings| settings.durable_leases) && self.session(session).by_token
    }

    /// The end of a lease without fault.
    pub(super) fn lease_dropped(&self, slot: Slot) -> Event {
        let job = &self.jobs[slot];
        Event::LeaseDropped { job: job.id, is_durable: self.leases[job.lease_slot()].is_durable }
    }

    /// The lease of a job, if that is a durable one.
    pub(super) fn kept_lease(&self, job: &Job) -> Option<KeptLease> {
        let lease = &self.leases[job.lease.get()?];
        let &Lease { token, since, deadline, is_durable, .. } = lease;
        is_durable.then_some(KeptLease { token, since, deadline })
    }

    /// A job that stands in no line is held under a lease that the log has.
    pub(super) fn hold_again(&mut self, slot: Slot, kept: KeptLease) {
        // Only where records are missing it may still wait for something.
        self.waits_no_more(slot);
        let session = self.session_of_the_past();
        self.count_in_group(slot);
        let KeptLease { token, since, deadline } = kept;
        self.attach_reserved(slot, Lease { session, token, since, deadline, is_durable: true, progress: None });
    }

    /// Who holds what the log says that is held, made if there is nobody.
    fn session_of_the_past(&mut self) -> SessionId {
        if let Some(past) = self.past() {
            return past;
        }
        let default = QueueName::new("default").expect("it keeps the rule for names");
        let used = self.find_queue(&default).expect("it never goes");
        self.numbers.sessions += 1;
        let slot = self.sessions.insert(Session {
            id: SessionId::PAST,
            actor: None,
            origin: None,
            used,
            watched: Vec::new(),
            leases: Wheel::default(),
            wait: None,
            closing: false,
            bond: Bond::Left,
            by_token: true,
            wake_at: Time::NEVER,
        });
        let id = SessionId::new(self.numbers.sessions, slot);
        self.sessions[slot].id = id;
        self.past = Some(id);
        id
    }

    /// The session that holds what was held durably before this start, as long as it holds something.
    pub(crate) fn past(&self) -> Option<SessionId> {
        let is_there = |id: &SessionId| self.sessions.get(id.slot()).is_some_and(|session| session.id == *id);
        self.past.filter(is_there)
    }

    /// The log has a record of that moment, whatever it says.
    pub(super) fn was_at(&mut self, at: Time) {
        self.replayed_at = at;
    }

    /// A start: each lease that is still in force has as long from `now` on as it had at the last record before.
    pub(super) fn resume_leases(&mut self, now: Time) {
        let away = now.since(self.replayed_at);
        let Some(id) = self.past().filter(|_| !away.is_zero()) else { return };
        let before = std::mem::take(&mut self.sessions[id.slot()].leases);
        let held: Vec<Slot> = before.all().collect();
        for &slot in &held {
            let lease = &mut self.leases[self.jobs[slot].lease_slot()];
            lease.deadline = lease.deadline.after(away);
        }
        let order = LeaseOrder { jobs: &self.jobs, leases: &self.leases, spoke: self.spoke };
        let leases = &mut self.sessions[id.slot()].leases;
        held.into_iter().for_each(|slot| leases.insert(slot, &order));
    }

    /// At the end of a replay: how long things took is told since the start alone.
    pub(super) fn forget_times(&mut self) {
        *self.times = Times::default();
        for id in self.queues_in_order.values() {
            self.queues[id.slot()].times = None;
        }
    }

    /// Has a queue be set up like that from now on.
    pub(super) fn set_up(&mut self, id: QueueId, settings: Option<Box<QueueSettings>>) {
        let is_synced = |settings: &Option<Box<QueueSettings>>| {
            usize::from(settings.as_ref().is_some_and(|settings| settings.sync.is_some()))
        };
        let queue = &mut self.queues[id.slot()];
        self.synced_queues = self.synced_queues - is_synced(&queue.settings) + is_synced(&settings);
        self.queue_bytes -= queue.record_bytes();
        queue.settings = settings;
        self.queue_bytes += queue.record_bytes();
    }

    /// Whether some queue is set up to have answers wait for the disk.
    #[inline]
    pub(crate) fn has_synced_queues(&self) -> bool {
        self.synced_queues > 0
    }

    /// Whether an answer waits for the record of an event until it is on the disk: it is about a queue that is set up so, or
    /// keeps an answer, which may be about one.
    #[cold]
    pub(crate) fn is_synced(&self, event: &Event) -> bool {
        let queue = match event {
            Event::AnswerKept(_) => return true,
            Event::JobPut(put) => Some(put.queue),
            Event::JobReplaced(kept) => Some(kept.put.queue),
            Event::QueuePaused { queue, .. } | Event::QueueConfigured { queue, .. } => Some(*queue),
            other => other.changes_job().and_then(|job| self.queue_of(job)),
        };
        let settings = queue.and_then(|queue| self.queue(queue).settings.as_ref());
        settings.is_some_and(|settings| settings.sync.is_some())
    }
}

/// What tests and simulations look at.
#[cfg(any(test, feature = "testing"))]
impl State {
    /// Leases of starts before this one are durable, and a session that is left holds them.
    pub(super) fn check_durable(&self) {
        let epoch = self.numbers.epoch;
        for (slot, job) in self.jobs.iter().filter(|(_, job)| job.lease.get().is_some()) {
            let lease = &self.leases[job.lease_slot()];
            let is_of_now = lease.token.epoch == epoch && lease.token.counter <= self.numbers.leases;
            assert!(is_of_now || lease.is_durable && lease.token.epoch < epoch, "the lease of job {}", job.id);
            assert_eq!(is_of_now, self.holder(slot) != self.past(), "who holds job {}", job.id);
            assert!(!lease.is_durable || self.session(lease.session).by_token, "job {} is held by a token", job.id);
        }
        let is_synced = |queue: &crate::queue::Queue| queue.settings.as_ref().is_some_and(|set| set.sync.is_some());
        let synced = self.queues.iter().filter(|(_, queue)| is_synced(queue)).count();
        assert_eq!(self.synced_queues, synced, "queues that have answers wait for the disk");
    }
}
