//! What each event does to the state. Nothing here decides anything, and nothing can fail.

use super::kept::plain_record_bytes;
use super::{State, key_hash};
use crate::event::{BuryReason, Event, KeptJob, KeptLease, PutJob};
use crate::job::{ExtraSlot, Job, JobExtra, JobId, JobLimits, JobState, JobTally, MaybeSlot, ShortSpan, Time};
use crate::lease::Lease;
use crate::pages::Slot;
use crate::queue::{Times, Turns};
use crate::session::SessionId;
use crate::spans::Span;
use crate::terms::Ended;
use std::time::Duration;

impl State {
    /// Makes an event's fact true. `now` is the moment it happened at.
    ///
    /// # Panics
    /// If the event does not fit the state, which only a bug (or a log that lies despite its checksums) can bring about.
    pub(crate) fn apply(&mut self, event: Event, now: Time) {
        let stopped = std::mem::take(&mut self.numbers.stopped);
        match event {
            Event::Started { epoch, engine_time, wall_time } => {
                self.start(epoch, stopped);
                self.resume_leases(engine_time);
                self.set_wall_clock(engine_time, wall_time);
            }
            Event::NumbersReserved { job_ids_below, seqs_below } => {
                self.numbers.job_ids_below = job_ids_below;
                self.numbers.seqs_below = seqs_below;
            }
            Event::Stopped { next_job_id, next_seq } => {
                self.numbers.next_job_id = next_job_id;
                self.numbers.next_seq = next_seq;
                self.numbers.stopped = true;
            }
            Event::ClockStepped { engine_time, wall_time } => self.set_wall_clock(engine_time, wall_time),
            Event::JobPut(put) => {
                if let Some(fired) = put.terms.as_ref().and_then(|terms| terms.fired.as_ref()) {
                    self.has_fired(fired, put.job, now);
                }
                self.put(put, now);
            }
            Event::JobCompleted { job, kept } => {
                self.totals.completed += 1;
                self.end(job, kept.map(|kept| (kept.until, kept.result)), JobState::Done, now);
            }
            Event::JobCancelled { job, kept_until, .. } => {
                self.totals.cancelled += 1;
                self.end(job, kept_until.map(|until| (until, None)), JobState::Cancelled, now);
            }
            Event::JobExpired { job, kept_until } => {
                self.totals.expired += 1;
                self.end(job, kept_until.map(|until| (until, None)), JobState::Expired, now);
            }
            Event::JobReplaced(kept) => {
                let job = kept.put.job;
                self.replace(*kept, now);
                self.note_written_whole(job);
            }
            Event::JobReleased { job, priority, delay, run_at, reserves } => {
                let slot = self.give_back(job, delay, run_at, reserves);
                self.jobs[slot].priority = priority;
                self.extra_mut(slot).tally.releases += 1;
                self.count_turn(slot, |turns| &mut turns.released);
                self.attach_by_time(slot, now);
            }
            Event::JobFailed { job, delay, run_at, reserves, error } => {
                let slot = self.give_back(job, delay, run_at, reserves);
                self.extra_mut(slot).tally.attempts += 1;
                self.count_turn(slot, |turns| &mut turns.failed);
                self.note_error(slot, error);
                self.attach_by_time(slot, now);
            }
            Event::JobBuried { job, priority, reason, reserves, number, error } => {
                let slot = self.the(job);
                self.detach(slot);
                self.jobs[slot].priority = priority;
                let tally = &mut self.extra_mut(slot).tally;
                tally.buries += 1;
                tally.reserves = reserves;
                match reason {
                    BuryReason::Asked => {}
                    BuryReason::Attempts => {
                        tally.attempts += 1;
                        self.count_turn(slot, |turns| &mut turns.failed);
                    }
                    BuryReason::LostLeases => {
                        tally.lost_leases += 1;
                        self.count_lost_lease(slot);
                        self.lease_ran_out(job);
                    }
                }
                self.count_turn(slot, |turns| &mut turns.buried);
                self.note_error(slot, error);
                self.attach_buried(slot, if number > 0 { number } else { self.numbers.burials + 1 });
            }
            Event::JobKicked { job, run_at } => {
                let slot = self.the(job);
                self.detach(slot);
                self.waits_no_more(slot);
                let delay = self.delay(&self.jobs[slot]);
                self.jobs[slot].run_at = run_at;
                let extra = self.extra_mut(slot);
                extra.delay = Some(delay);
                extra.at_wall = None;
                extra.tally.kicks += 1;
                self.count_turn(slot, |turns| &mut turns.kicked);
                self.attach_by_time(slot, now);
            }
            Event::JobPulled { job, run_at } => {
                let slot = self.the(job);
                self.detach(slot);
                let delay = self.delay(&self.jobs[slot]);
                self.jobs[slot].run_at = run_at;
                self.extra_mut(slot).delay = Some(delay);
                self.attach_by_time(slot, now);
            }
            Event::LeaseLost { job, reserves } => {
                let slot = self.the(job);
                let holder = self.holder(slot);
                self.detach(slot);
                self.lease_ran_out(job);
                let extra = self.extra_mut(slot);
                extra.tally.lost_leases += 1;
                extra.tally.reserves = reserves;
                extra.last_holder = holder;
                self.count_lost_lease(slot);
                self.attach_by_time(slot, now);
            }
            Event::QueuePaused { queue, until, length } => {
                let paused = self.queue_mut(queue);
                paused.paused_until = if until > now { until } else { Time(0) };
                paused.pause_length = if until > now { length } else { Duration::ZERO };
                paused.totals.pauses += 1;
                paused.logged = true;
                if until > now {
                    self.wake_queue_at(queue, until);
                } else {
                    self.end_pause(queue);
                }
            }
            Event::QueueConfigured { queue, settings } => {
                let set_up = self.queue_mut(queue);
                let before = set_up.per_key();
                set_up.logged = true;
                (set_up.full_at, set_up.throttled_until) = (Time(0), Time(0));
                self.set_up(queue, (!settings.is_empty()).then_some(settings));
                self.limits_changed(queue, before);
                self.serve(queue);
                self.leave_queue(queue);
            }
            Event::QueueDropped { queue } => {
                // In a replay sessions refer to nothing, so what was idle then is idle now; but the end of a pause is
                // not in the log, nor is it that a final job was kept long enough.
                self.queue_mut(queue).paused_until = Time(0);
                while let Some(&(_, job)) = self.queue(queue).ended.first() {
                    self.forget(job);
                }
                if self.queue(queue).is_idle() {
                    self.forget_queue(queue);
                }
            }
            Event::JobKept(kept) => {
                let job = kept.put.job;
                match self.slot_of(job) {
                    None => self.restore_job(*kept, now),
                    // All else of it is in the log before; how often it was reserved only here.
                    Some(slot) => {
                        self.note_written_again(slot);
                        self.come_home(slot);
                        self.restore_reserves(slot, kept.tally.reserves);
                    }
                }
                self.note_written_whole(job);
            }
            Event::AnswerKept(kept) => self.keep_answer(*kept),
            Event::FailedKept(failed) => self.note_failed(&failed),
            Event::QueueKept(kept) => self.restore_queue(&kept, now),
            Event::NumbersKept(kept) => self.restore_numbers(&kept),
            Event::ScheduleSet(kept) => self.put_schedule(*kept),
            // What is there is so already, but for a log of which something is missing.
            Event::ScheduleKept(kept) => {
                if self.kept_schedule(&kept.name).as_ref() != Some(&kept) {
                    self.put_schedule(*kept);
                }
            }
            Event::ScheduleRemoved { schedule } => self.remove_schedule(&schedule),
            Event::SchedulePaused { schedule, is_paused, next } => self.pause_schedule(&schedule, is_paused, next),
            Event::TickPassed(passed) => self.has_passed(&passed, now),
            Event::Noted(_) => {}
            Event::LeaseGiven { job, token, deadline, session: SessionId::PAST, .. } => {
                let slot = self.the(job);
                self.detach(slot);
                self.hold_again(slot, KeptLease { token, since: now, deadline });
            }
            Event::LeaseGiven { job, session, token, deadline, is_durable } => {
                let slot = self.the(job);
                if let Some(extra) = self.jobs[slot].extra.get() {
                    self.extras[extra].last_holder = None;
                    self.hold_in_group(slot, now);
                }
                self.detach(slot);
                self.numbers.leases = self.numbers.leases.max(token.counter);
                self.take_token(slot, now);
                self.note_latency(slot, now);
                self.attach_reserved(slot, Lease { session, token, since: now, deadline, is_durable, progress: None });
            }
            Event::LeaseExtended { job, deadline, .. } => {
                let slot = self.the(job);
                let order = super::LeaseOrder { jobs: &self.jobs, leases: &self.leases, spoke: self.spoke };
                // It is there, but in a log of which something is missing.
                let Some(lease) = self.jobs[slot].lease.get() else { return };
                let session = self.leases[lease].session;
                self.sessions[session.slot()].leases.remove(slot, &order);
                self.leases[lease].deadline = deadline;
                let order = super::LeaseOrder { jobs: &self.jobs, leases: &self.leases, spoke: self.spoke };
                self.sessions[session.slot()].leases.insert(slot, &order);
                self.wake_session_at(session, deadline);
            }
            Event::LeaseDropped { job, .. } => {
                let slot = self.the(job);
                if self.jobs[slot].lease.get().is_none() {
                    return;
                }
                let reserves = self.reserves(slot);
                self.detach(slot);
                self.extra_mut(slot).tally.reserves = reserves;
                self.attach_by_time(slot, now);
            }
            Event::JobUnblocked { job, parent } => self.hears_of(self.the(job), parent, false, now),
            Event::JobHeldUp { job, parent } => self.hears_of(self.the(job), parent, true, now),
            Event::JobForgotten { job } => self.forget(job),
            Event::JobProgressed { job, progress } => {
                let lease = self.jobs[self.the(job)].lease_slot();
                self.leases[lease].progress = Some(progress);
            }
            Event::ThrottleOver { queue } => {
                self.queue_mut(queue).throttled_until = Time(0);
                self.serve(queue);
            }
            Event::PauseOver { queue } => self.end_pause(queue),
            Event::JobDue { job } => {
                let slot = self.the(job);
                self.come_due(slot, now);
            }
        }
    }

    fn the(&self, job: JobId) -> Slot {
        self.find_job(job).expect("an event names a job that is there")
    }

    /// Ends a job. One that is not in memory was looked up; in a replay it may not be there at all, while others wait for it.
    fn end(&mut self, job: JobId, kept: Option<(Time, Option<Box<[u8]>>)>, state: JobState, now: Time) {
        let is_done = state == JobState::Done;
        match self.find_job(job) {
            Some(slot) => {
                if is_done && self.jobs[slot].state == JobState::Reserved {
                    let since = self.leases[self.jobs[slot].lease_slot()].since;
                    let span = Span::between(since, now);
                    self.times_of(slot).run_time.count(span);
                    self.times.run_time.count(span);
                }
                let ended = kept.map(|(until, result)| Ended { state, at: now, until, result });
                let queue = self.jobs[slot].queue;
                self.queue_mut(queue).count_end(state);
                self.end_job(slot, ended, is_done, now);
            }
            None => {
                if self.far.known(job).is_some() {
                    self.end_known(job, state);
                } else {
                    assert!(self.graph.is_waited_for(job), "an event names a job that is there");
                }
                self.graph.ended(job, is_done, now);
            }
        }
    }

    /// Lets a job go that is there, open or not, as if it had been done: for a log of which something is missing.
    pub(crate) fn drop_job(&mut self, job: JobId, now: Time) {
        match self.find_job(job) {
            Some(_) => self.apply(Event::completed(job), now),
            None if self.slot_of(job).is_some() => self.forget(job),
            None => {}
        }
    }

    /// Lets a job go that is there, open or not, before a record of it that tells everything: nobody hears of it, and nothing is counted.
    pub(crate) fn make_way(&mut self, job: JobId) {
        let Some(slot) = self.slot_of(job) else { return };
        let is_open = self.find_job(job).is_some();
        self.detach(slot);
        if is_open {
            self.waits_no_more(slot);
        }
        self.remove_job(slot);
    }

    /// Lets go of a final job.
    pub(super) fn forget(&mut self, job: JobId) {
        let slot = self.slot_of(job).expect("a final job is forgotten once");
        self.detach(slot);
        self.remove_job(slot);
    }

    /// A job becomes another one under its number, in its place; in a replay it may be new.
    fn replace(&mut self, kept: KeptJob, now: Time) {
        let Some(slot) = self.find_job(kept.put.job) else { return self.restore_job(kept, now) };
        self.detach(slot);
        self.waits_no_more(slot);
        match self.home(slot) {
            Some(home) => {
                self.far.come_home(home);
                self.far.went(kept.put.job);
            }
            None => self.job_bytes -= self.record_bytes(&self.jobs[slot]),
        }
        self.queues[kept.put.queue.slot()].body_bytes -= u64::from(self.jobs[slot].body.length);
        self.free_key(slot);
        let job = self.make_job(kept);
        let job = std::mem::replace(&mut self.jobs[slot], job);
        self.let_go_of(job);
        self.take_in(slot);
        self.attach_by_time(slot, now);
    }

    fn note_error(&mut self, slot: Slot, error: Option<Box<[u8]>>) {
        if error.is_some() {
            self.change_course(slot, |course| course.error = error);
        }
    }

    /// Numbers go on where an orderly stop left them, or above all that may have been issued.
    fn start(&mut self, epoch: u32, stopped: bool) {
        let numbers = &mut self.numbers;
        if !stopped {
            numbers.next_job_id = numbers.next_job_id.max(numbers.job_ids_below);
            numbers.next_seq = numbers.next_seq.max(numbers.seqs_below);
        }
        numbers.epoch = epoch;
        numbers.leases = 0;
    }

    fn put(&mut self, put: PutJob, now: Time) {
        self.totals.puts += 1;
        let queue = self.queue_mut(put.queue);
        queue.totals.puts += 1;
        queue.logged = true;
        let job = match without_rest(&put).filter(|_| put.run_at >= put.created_at) {
            Some(none) => self.job_with(put, none),
            None => self.make_job(KeptJob::of_put(put)),
        };
        let slot = self.insert_job(job);
        self.attach_by_time(slot, now);
    }

    /// Takes in a job that stands in no line yet.
    pub(super) fn insert_job(&mut self, job: Job) -> Slot {
        let id = job.id;
        let slot = self.jobs.insert(job);
        self.by_id.insert(id, slot);
        self.numbers.next_job_id = self.numbers.next_job_id.max(id.0 + 1);
        self.take_in(slot);
        slot
    }

    /// A job as the state holds it, with its body and the rest of it taken in.
    pub(super) fn make_job(&mut self, kept: KeptJob) -> Job {
        let KeptJob { mut put, delay, tally, course, .. } = kept;
        if delay.is_none()
            && course.is_none()
            && tally == JobTally::default()
            && let Some(none) = without_rest(&put)
        {
            return self.job_with(put, none);
        }
        let extra = self.extras.insert(JobExtra {
            key: put.key.take(),
            delay,
            at_wall: put.at_wall,
            ttr: u64::try_from(put.ttr.as_nanos()).unwrap_or(u64::MAX),
            limits: limits_of(&put),
            tally,
            terms: put.terms.take(),
            course,
            ..JobExtra::default()
        });
        self.job_with(put, ExtraSlot::from(extra))
    }

    /// The same, of a job the rest of which is there.
    fn job_with(&mut self, put: PutJob, extra: ExtraSlot) -> Job {
        let PutJob { job: id, queue, priority, created_at, run_at, ttr, body, .. } = put;
        let (lease, state) = (MaybeSlot::NONE, JobState::Ready);
        let (body, ttr) = (self.bodies.insert(body), ShortSpan::new(ttr));
        Job { id, run_at, created_at, queue, priority, body, extra, lease, ttr, state }
    }

    /// Takes a job into the indexes that what it is decides, and counts it.
    fn take_in(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        let (queue, length) = (job.queue.slot(), job.body.length);
        if job.extra.is_none() {
            let queue = &mut self.queues[queue];
            queue.body_bytes += u64::from(length);
            self.job_bytes += plain_record_bytes(&queue.name, length);
            return;
        }
        self.job_bytes += self.record_bytes(job);
        if self.ended(job).is_none() {
            self.queues[queue].body_bytes += u64::from(length);
            if self.extra(job).is_some_and(|extra| extra.key.is_some()) {
                let (jobs, extras) = (&self.jobs, &self.extras);
                let hash = |other| key_hash(jobs, extras, other);
                self.by_key.insert(hash(slot), slot, hash);
            }
        }
        self.waits_from_now(slot);
    }

    /// Detaches a job that its holder gives back, with when it is due next.
    fn give_back(&mut self, job: JobId, delay: Duration, run_at: Time, reserves: u32) -> Slot {
        let slot = self.the(job);
        self.detach(slot);
        self.jobs[slot].run_at = run_at;
        let extra = self.extra_mut(slot);
        extra.delay = Some(delay);
        extra.at_wall = None;
        extra.tally.reserves = reserves;
        slot
    }

    /// A job is handed out: it takes a token of its queue's rate, if that has one.
    fn take_token(&mut self, slot: Slot, now: Time) {
        let id = self.jobs[slot].queue;
        let queue = self.queue_mut(id);
        let Some(rate) = queue.settings.as_ref().and_then(|settings| settings.rate) else { return };
        let (full_at, next_at) = rate.take(queue.full_at, now);
        queue.full_at = full_at;
        if next_at > now {
            queue.throttled_until = next_at;
            self.wake_queue_at(id, next_at);
        }
    }

    /// A job is handed out: how long it was due, if nothing else held it up and it was not handed out before.
    fn note_latency(&mut self, slot: Slot, now: Time) {
        let job = &self.jobs[slot];
        let is_first = self.extra(job).is_none_or(|extra| {
            extra.tally.reserves == 0 && extra.terms.as_ref().is_none_or(|terms| terms.after.is_empty())
        });
        if is_first {
            let span = Span::between(job.run_at, now);
            self.times_of(slot).latency.count(span);
            self.times.latency.count(span);
        }
    }

    fn times_of(&mut self, slot: Slot) -> &mut Times {
        self.queues[self.jobs[slot].queue.slot()].times.get_or_insert_with(Box::default)
    }

    fn count_lost_lease(&mut self, slot: Slot) {
        let queue = self.jobs[slot].queue;
        self.count_if_far(slot);
        self.queue_mut(queue).totals.lost_leases += 1;
        self.totals.lost_leases += 1;
    }

    /// Counts something that was done to a job, in its queue and in all together.
    fn count_turn(&mut self, slot: Slot, of: fn(&mut Turns) -> &mut u64) {
        let queue = self.jobs[slot].queue;
        self.count_if_far(slot);
        *of(&mut self.queue_mut(queue).totals.turns) += 1;
        *of(&mut self.totals.turns) += 1;
    }

    pub(super) fn end_pause(&mut self, id: crate::queue::QueueId) {
        let queue = self.queue_mut(id);
        queue.paused_until = Time(0);
        queue.pause_length = Duration::ZERO;
        if queue.ready.len() > 0 {
            self.serve(id);
        }
        self.leave_queue(id);
    }
}

/// If there is no more to a put than what most jobs have, the number of its limits.
fn without_rest(put: &PutJob) -> Option<ExtraSlot> {
    let is_plain =
        put.at_wall.is_none() && put.key.is_none() && put.terms.is_none() && ShortSpan::new(put.ttr) != ShortSpan::NONE;
    if is_plain { ExtraSlot::none_with(limits_of(put)) } else { None }
}

fn limits_of(put: &PutJob) -> JobLimits {
    JobLimits { lost_leases: put.max_lost_leases, attempts: put.max_attempts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, NewJob, Target};
    use crate::limits::{DEFAULT_MAX_ATTEMPTS, DEFAULT_MAX_LOST_LEASES};

    #[test]
    fn a_job_with_the_usual_limits_has_no_more_to_it_than_one_with_none_and_keeps_them() {
        let mut state = State::new(Duration::from_secs(10), None);
        let session = state.open_session().unwrap();
        let now = Time(1);
        let mut put = |max_lost_leases, max_attempts| {
            let job = NewJob { max_lost_leases, max_attempts, ..NewJob::new(Target::Used, (*b"x").into()) };
            let mut events = Vec::new();
            state.decide(session, Command::Put(job), now, &mut events).unwrap();
            let id = events[0].job().unwrap();
            events.into_iter().for_each(|event| state.apply(event, now));
            (id, state.extras.len())
        };
        let usual = (DEFAULT_MAX_LOST_LEASES, DEFAULT_MAX_ATTEMPTS);
        assert_eq!(put(0, 0).1, 0);
        let (job, extras) = put(usual.0, usual.1);
        assert_eq!(extras, 0);
        assert_eq!(put(1, 2).1, 1);
        let limits = |state: &State| {
            let view = state.view_job(job, now).unwrap();
            (view.max_lost_leases, view.max_attempts)
        };
        assert_eq!(limits(&state), usual);
        // Something happens to it.
        state.apply(Event::JobKicked { job, run_at: now }, now);
        assert_eq!((limits(&state), state.extras.len()), (usual, 2));
        state.check();
    }
}
