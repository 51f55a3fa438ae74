//! From one line to another: a job leaves the line it stands in and joins that of its next state, with all that is counted by states, until
//! it ends and is gone. Whoever waits for what came of it is remembered, and looked after in `due.rs`.

use super::{Owner, State};
use crate::job::{DueOrder, JobState, MaybeSlot, ReadyOrder, Time};
use crate::lease::{Lease, LeaseOrder};
use crate::pages::Slot;
use crate::queue::QueueId;
use crate::session::{Bond, SessionId};
use crate::terms::{Course, Ended};
use std::cmp::Reverse;
use std::collections::BTreeSet;

impl State {
    /// Takes a job out of the line it stands in, whichever it is. To be followed by an attach or a removal.
    pub(super) fn detach(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        let (id, state) = (job.queue, job.state);
        let (urgent, extra) = (job.is_urgent(), job.extra);
        let queue = &mut self.queues[id.slot()];
        match state {
            JobState::Ready => {
                if extra.is_none() || !self.leave_group(slot) {
                    self.queues[id.slot()].ready.remove(slot, &ReadyOrder(&self.jobs));
                }
                let queue = &mut self.queues[id.slot()];
                queue.urgent -= u64::from(urgent);
                self.totals.urgent -= u64::from(urgent);
            }
            JobState::Delayed => {
                if self.near.is_some() {
                    self.is_distant_no_more(slot);
                    self.jobs[slot].lease = MaybeSlot::NONE;
                }
                if extra.is_none() || !self.leave_wall_line(slot) {
                    let queue = &mut self.queues[id.slot()];
                    queue.delayed.remove(slot, &DueOrder { jobs: &self.jobs, spoke: self.spoke });
                }
            }
            JobState::Buried => {
                let burial = self.burial(slot);
                self.queues[id.slot()].buried.remove(&burial);
            }
            JobState::Reserved => {
                queue.reserved -= 1;
                let order = LeaseOrder { jobs: &self.jobs, leases: &self.leases, spoke: self.spoke };
                let (job, lease_slot) = (job.id, job.lease_slot());
                let lease = &self.leases[lease_slot];
                let session = &mut self.sessions[lease.session.slot()];
                session.leases.remove(slot, &order);
                let by_token = (session.bond != Bond::Own).then_some((session.id, lease.token));
                self.leases.remove(lease_slot);
                self.jobs[slot].lease = MaybeSlot::NONE;
                if !extra.is_none() {
                    self.give_back_to_group(slot);
                }
                // As many were held as may be, of it or of a limit key: now another can be.
                if self.queues[id.slot()].settings.is_some() {
                    self.serve(id);
                }
                if let Some((session, token)) = by_token {
                    self.lease_by_token_ended(session, job, token);
                }
            }
            JobState::Blocked => {
                queue.blocked.remove(&slot);
                self.fix_run_at(slot);
            }
            JobState::Done | JobState::Cancelled | JobState::Expired => {
                let until = self.ended(job).expect("a final job tells until when it is kept").until;
                self.queues[id.slot()].ended.remove(&(until, job.id));
            }
        }
        if !extra.is_none() && matches!(state, JobState::Ready | JobState::Delayed | JobState::Blocked) {
            self.expires_no_more(slot);
        }
        self.totals.by_state[state as usize] -= 1;
    }

    /// Puts a detached job among the blocked ones of its queue if it has to wait for others, else among the delayed or the
    /// ready ones, as its `run_at` says.
    pub(super) fn attach_by_time(&mut self, slot: Slot, now: Time) {
        if !self.jobs[slot].extra.is_none() && self.attach_by_terms(slot) {
            return;
        }
        if self.jobs[slot].run_at > now { self.join_delayed(slot) } else { self.join_ready(slot) }
    }

    /// The same of one whose moment was not found to have come, whatever the time.
    pub(super) fn attach_delayed(&mut self, slot: Slot) {
        if self.jobs[slot].extra.is_none() || !self.attach_by_terms(slot) {
            self.join_delayed(slot);
        }
    }

    pub(super) fn join_ready(&mut self, slot: Slot) {
        self.jobs[slot].state = JobState::Ready;
        self.totals.by_state[JobState::Ready as usize] += 1;
        let job = &self.jobs[slot];
        let (id, urgent) = (job.queue, job.is_urgent());
        if job.extra.is_none() || !self.join_group(slot) {
            self.queues[id.slot()].ready.insert(slot, &ReadyOrder(&self.jobs));
        }
        let queue = &mut self.queues[id.slot()];
        queue.urgent += u64::from(urgent);
        self.totals.urgent += u64::from(urgent);
        self.serve(id);
    }

    pub(super) fn join_delayed(&mut self, slot: Slot) {
        self.jobs[slot].state = JobState::Delayed;
        self.totals.by_state[JobState::Delayed as usize] += 1;
        if self.near.is_some() && self.is_distant(&self.jobs[slot]) {
            self.distant_bytes += self.record_bytes(&self.jobs[slot]);
        }
        let job = &self.jobs[slot];
        let (id, run_at) = (job.queue, job.run_at);
        if job.extra.is_none() || !self.join_wall_line(slot) {
            let queue = &mut self.queues[id.slot()];
            queue.delayed.insert(slot, &DueOrder { jobs: &self.jobs, spoke: self.spoke });
            self.wake_queue_at(id, run_at);
        }
    }

    /// Has a job that expires wait for that too, and puts it among the blocked ones if it has to wait for others. Returns whether
    /// it has.
    pub(super) fn attach_by_terms(&mut self, slot: Slot) -> bool {
        let job = &self.jobs[slot];
        let (queue, is_blocked) = (job.queue, self.is_blocked(job));
        self.expires_from_now(slot);
        if is_blocked {
            self.jobs[slot].state = JobState::Blocked;
            self.queue_mut(queue).blocked.insert(slot);
            self.totals.by_state[JobState::Blocked as usize] += 1;
        }
        is_blocked
    }

    /// Remembers that a queue has a job for somebody who waits, if somebody does.
    pub(super) fn serve(&mut self, id: QueueId) {
        let queue = &mut self.queues[id.slot()];
        if let Some((&wait, _)) = queue.waiting.first_key_value().filter(|_| !queue.is_unserved) {
            queue.is_unserved = true;
            self.unserved.push(Reverse((wait, id)));
        }
    }

    pub(super) fn attach_buried(&mut self, slot: Slot, number: u64) {
        self.numbers.burials = self.numbers.burials.max(number);
        self.extra_mut(slot).burial = number;
        let job = &mut self.jobs[slot];
        job.state = JobState::Buried;
        self.queues[job.queue.slot()].buried.insert(number, slot);
        self.totals.by_state[JobState::Buried as usize] += 1;
    }

    pub(super) fn attach_reserved(&mut self, slot: Slot, lease: Lease) {
        let (session, deadline) = (lease.session, lease.deadline);
        let lease = self.leases.insert(lease);
        let job = &mut self.jobs[slot];
        job.state = JobState::Reserved;
        job.lease = MaybeSlot::from(lease);
        self.queues[job.queue.slot()].reserved += 1;
        self.totals.by_state[JobState::Reserved as usize] += 1;
        let order = LeaseOrder { jobs: &self.jobs, leases: &self.leases, spoke: self.spoke };
        self.sessions[session.slot()].leases.insert(slot, &order);
        self.wake_session_at(session, deadline);
    }

    /// Puts a detached job that has ended among those that are kept.
    pub(super) fn attach_ended(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        let Ended { state, until, .. } = *self.ended(job).expect("it has ended");
        let (id, queue) = (job.id, job.queue);
        self.jobs[slot].state = state;
        self.totals.by_state[state as usize] += 1;
        self.queue_mut(queue).ended.insert((until, id));
        self.wake_queue_at(queue, until);
    }

    /// Ends an open job, whatever its state; it is kept if `ended` says how it ended.
    pub(super) fn end_job(&mut self, slot: Slot, ended: Option<Ended>, is_done: bool, now: Time) {
        let reserves = self.reserves(slot);
        self.count_if_far(slot);
        self.detach(slot);
        self.waits_no_more(slot);
        let (id, queue, length) = (self.jobs[slot].id, self.jobs[slot].queue, self.jobs[slot].body.length);
        self.queue_mut(queue).totals.deletes += 1;
        if let Some(ended) = ended {
            self.free_key(slot);
            self.queue_mut(queue).body_bytes -= u64::from(length);
            self.change_course(slot, |course| course.ended = Some(ended));
            self.extra_mut(slot).tally.reserves = reserves;
            self.attach_ended(slot);
        } else {
            self.remove_job(slot);
        }
        self.graph.ended(id, is_done, now);
    }

    /// Takes a detached job out for good.
    pub(super) fn remove_job(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        match self.extra(job).and_then(|extra| extra.home) {
            Some(home) => {
                let id = job.id;
                self.far.end(home);
                self.far.went(id);
            }
            None => self.job_bytes -= self.record_bytes(job),
        }
        let queue = self.take_out(slot);
        self.leave_queue(queue);
    }

    /// Changes what became of a job, which is detached or not delayed.
    pub(super) fn change_course(&mut self, slot: Slot, change: impl FnOnce(&mut Course)) {
        let is_counted = self.home(slot).is_none();
        let before = self.record_bytes(&self.jobs[slot]);
        change(self.extra_mut(slot).course_mut());
        if is_counted {
            self.job_bytes = self.job_bytes - before + self.record_bytes(&self.jobs[slot]);
        }
    }

    pub(super) fn wake_queue_at(&mut self, id: QueueId, at: Time) {
        wake_at(&mut self.wakes, &mut self.queues[id.slot()].wake_at, Owner::Queue(id), at);
    }

    pub(super) fn wake_session_at(&mut self, id: SessionId, at: Time) {
        wake_at(&mut self.wakes, &mut self.sessions[id.slot()].wake_at, Owner::Session(id), at);
    }
}

/// Has it looked after at that moment, unless it is before.
fn wake_at(wakes: &mut BTreeSet<(Time, Owner)>, wakes_at: &mut Time, owner: Owner, at: Time) {
    if at < *wakes_at {
        wakes.remove(&(*wakes_at, owner));
        *wakes_at = at;
        wakes.insert((at, owner));
    }
}
