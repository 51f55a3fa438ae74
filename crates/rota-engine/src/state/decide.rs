//! What a command would make happen. Nothing here changes the state: a refusal leaves no trace.

use super::State;
use crate::command::{Answer, Command, Due, Held, KickSource, NewJob, OnConflict, Parent, Refusal, Target};
use crate::event::{BuryReason, Event, KeptAnswer, KeptJob, KeptResult, PutJob};
use crate::job::{Job, JobId, JobState, LeaseToken, Time};
use crate::limits::{
    ANSWER_BYTES, ANSWER_KEPT, ANSWER_KEY_BYTES, ERROR_BYTES, KEY_BYTES, LEASE_SAFETY_MARGIN, PARENTS, PROGRESS_BYTES,
    RESULT_BYTES, STEP_OBJECTS,
};
use crate::pages::Slot;
use crate::queue::{PerKey, QueueId, QueueSettings, Rate};
use crate::session::{Bond, SessionId};
use crate::terms::{BackOff, BadTerms, Expiry, OnParentFailure, Terms};
use std::time::Duration;

impl State {
    /// Decides a command on jobs or queues; those on the session itself are in `sessions.rs`. What would happen is
    /// added to `events`, in order; on a refusal nothing is.
    pub(crate) fn decide(
        &self,
        session: SessionId,
        command: Command<'_>,
        now: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        match command {
            Command::Put(job) => self.decide_put(session, job, now, events),
            Command::Reserve { wait } => self.decide_reserve(session, wait, now, events),
            Command::ReserveJob(job) => {
                self.not_waiting(session)?;
                let slot = self.find_job(job).ok_or(Refusal::NotFound)?;
                match self.jobs[slot].state {
                    JobState::Ready => {}
                    JobState::Delayed | JobState::Buried => {
                        events.push(Event::JobPulled { job, run_at: self.run_at(&self.jobs[slot]).min(now) });
                    }
                    _ => return Err(Refusal::NotFound),
                }
                Ok(self.lease(session, slot, now, events))
            }
            Command::Delete(job) => self.decide_delete(session, job, now, events),
            Command::Complete { held, result } => {
                let slot = self.held(session, held)?;
                fits(result, RESULT_BYTES)?;
                events.push(self.completed(slot, result, now));
                Ok(Answer::Done)
            }
            Command::Release { held, priority, delay } => {
                let slot = self.held(session, held)?;
                let run_at = if delay.is_zero() { self.jobs[slot].run_at } else { now.after(delay) };
                let reserves = self.reserves(slot);
                let delay = storable(delay);
                events.push(Event::JobReleased { job: held.job, priority, delay, run_at, reserves });
                Ok(Answer::Done)
            }
            Command::Fail { held, delay, error } => self.decide_fail(session, held, (delay, error), now, events),
            Command::Progress { held, progress } => {
                self.held(session, held)?;
                fits(Some(progress), PROGRESS_BYTES)?;
                events.push(Event::JobProgressed { job: held.job, progress: progress.into() });
                Ok(Answer::Done)
            }
            Command::Bury { held, priority } => {
                let slot = self.held(session, held)?;
                let reserves = self.reserves(slot);
                events.push(Event::JobBuried {
                    job: held.job,
                    priority,
                    reason: BuryReason::Asked,
                    reserves,
                    number: self.next_burial(),
                    error: None,
                });
                Ok(Answer::Done)
            }
            Command::Touch(held) => {
                let slot = self.held(session, held)?;
                let deadline = self.lease_end(&self.jobs[slot], now);
                let is_durable = self.leases[self.jobs[slot].lease_slot()].is_durable;
                events.push(Event::LeaseExtended { job: held.job, deadline, is_durable });
                Ok(Answer::Done)
            }
            Command::Cancel(job) => {
                events.push(self.cancelled(job, now)?);
                Ok(Answer::Cancelled(job))
            }
            Command::CancelKey { queue, key } => {
                let queue = self.find_queue(queue).ok_or(Refusal::NotFound)?;
                let job = self.jobs[self.find_key(queue, key).ok_or(Refusal::NotFound)?].id;
                events.push(self.cancelled(job, now)?);
                Ok(Answer::Cancelled(job))
            }
            Command::Kick { queue, limit, source } => {
                let queue = self.target(session, queue).ok_or(Refusal::NoSuchQueue)?;
                Ok(self.decide_kick(queue, limit, source, now, events))
            }
            Command::KickJob(job) => {
                let job = &self.jobs[self.find_job(job).ok_or(Refusal::NotFound)?];
                if !matches!(job.state, JobState::Buried | JobState::Delayed | JobState::Blocked) {
                    return Err(Refusal::NotFound);
                }
                events.push(self.kicked(job, now));
                Ok(Answer::Done)
            }
            Command::Pause { queue, length } => {
                let queue = self.find_queue(queue).ok_or(Refusal::NoSuchQueue)?;
                self.may_stay(queue)?;
                events.push(Event::QueuePaused { queue, until: now.after(length), length: storable(length) });
                Ok(Answer::Done)
            }
            Command::Configure { queue, settings } => {
                let queue = self.find_queue(queue).ok_or(Refusal::NoSuchQueue)?;
                self.may_stay(queue)?;
                let rate = settings.rate.map(|rate| Rate { per: storable(rate.per), ..rate });
                let per_key = settings.per_key.filter(|per_key| *per_key != PerKey::default()).map(|per_key| PerKey {
                    rate: per_key.rate.map(|rate| Rate { per: storable(rate.per), ..rate }),
                    ..per_key
                });
                let retain = settings.retain.map(storable);
                let settings = QueueSettings { retain, rate, per_key, ..settings.clone() };
                events.push(Event::QueueConfigured { queue, settings: Box::new(settings) });
                Ok(Answer::Done)
            }
            Command::KeepAnswer { key, fingerprint, answer } => {
                if !(1..=ANSWER_KEY_BYTES).contains(&key.len()) {
                    return Err(Refusal::BadKey);
                }
                fits(Some(answer), ANSWER_BYTES)?;
                let until = now.after(ANSWER_KEPT);
                let kept = KeptAnswer { key: key.into(), fingerprint, answer: answer.into(), until };
                events.push(Event::AnswerKept(Box::new(kept)));
                Ok(Answer::Done)
            }
            Command::Schedule(command) => self.decide_schedule(*command, now, events),
            Command::Use(_) | Command::Watch(_) | Command::Ignore(_) => {
                unreachable!("the engine hands these to the session's own methods")
            }
        }
    }

    pub(crate) fn target(&self, session: SessionId, queue: Target<'_>) -> Option<QueueId> {
        match queue {
            Target::Used => Some(self.session(session).used),
            Target::Named(name) => self.find_queue(name),
        }
    }

    fn decide_put(
        &self,
        session: SessionId,
        mut new: NewJob<'_>,
        now: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let queue = self.target(session, new.queue).ok_or(Refusal::NoSuchQueue)?;
        if let Some(terms) = &mut new.terms {
            // That is for schedules to say.
            terms.fired = None;
        }
        self.decide_put_into(queue, new, now, events)
    }

    /// Decides a put into that queue, whatever queue it names itself.
    pub(super) fn decide_put_into(
        &self,
        queue: QueueId,
        new: NewJob<'_>,
        now: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        self.may_stay(queue)?;
        let mut replaced = None;
        if let Some(key) = new.key {
            if !(1..=KEY_BYTES).contains(&key.len()) {
                return Err(Refusal::BadKey);
            }
            if let Some(slot) = self.find_key(queue, key) {
                let taken = self.jobs[slot].id;
                match new.on_conflict {
                    OnConflict::Reject => return Err(Refusal::KeyTaken(taken)),
                    OnConflict::Keep => return Ok(Answer::Kept(taken)),
                    OnConflict::Replace if self.jobs[slot].state == JobState::Reserved => {
                        return Err(Refusal::KeyHeld(taken));
                    }
                    OnConflict::Replace => replaced = Some(taken),
                }
            }
        }
        if self.is_full(queue, new.body.len(), replaced) {
            return Err(Refusal::QueueFull);
        }
        let (run_at, at_wall) = self.moment(new.due, now);
        let job = replaced.unwrap_or(JobId(self.numbers.next_job_id));
        let is_plain = new.terms.is_none() && new.after.is_empty() && new.expires.is_none();
        let (terms, failed) = if is_plain { (None, None) } else { self.terms(job, &new, now)? };
        let put = PutJob {
            job,
            queue,
            priority: new.priority,
            created_at: now,
            run_at,
            at_wall,
            // A lease that is over when it begins would never let the state come to rest.
            ttr: new.ttr.max(Duration::from_nanos(1)),
            max_lost_leases: new.max_lost_leases,
            max_attempts: new.max_attempts,
            key: new.key.map(Box::from),
            terms,
            body: new.body,
        };
        if replaced.is_some() {
            let mut kept = KeptJob::of_put(put);
            kept.course.get_or_insert_default().is_replaced = true;
            events.push(Event::JobReplaced(Box::new(kept)));
        } else {
            events.push(Event::JobPut(put));
        }
        if failed.is_some() {
            let kept_until = self.queue(queue).kept_until(now);
            events.push(Event::JobCancelled { job, kept_until, because_of: failed });
        }
        Ok(if replaced.is_some() { Answer::Replaced(job) } else { Answer::Put(job) })
    }

    /// A moment in engine time, with what the wall clock shows then where it was named so.
    fn moment(&self, due: Due, now: Time) -> (Time, Option<Time>) {
        match due {
            Due::In(delay) => (now.after(delay), None),
            Due::At(wall) => (self.engine_time(wall), Some(wall)),
        }
    }

    /// Whether a queue takes no further job with a body so long; or where that is to be the body of one that is there, no
    /// longer one than it has.
    fn is_full(&self, queue: QueueId, body_bytes: usize, replaced: Option<JobId>) -> bool {
        let queue = self.queue(queue);
        let Some(settings) = &queue.settings else { return false };
        let body_bytes = body_bytes as u64;
        let is_past = |others: u64| settings.max_bytes.is_some_and(|most| others + body_bytes > most);
        match replaced.and_then(|job| self.find_job(job)) {
            Some(slot) => {
                let before = u64::from(self.jobs[slot].body.length);
                body_bytes > before && is_past(queue.body_bytes - before)
            }
            None => settings.max_jobs.is_some_and(|most| queue.open_jobs() >= most) || is_past(queue.body_bytes),
        }
    }

    /// The terms of a put, and the parent whose failure ends the job at once, if one does.
    fn terms(&self, job: JobId, new: &NewJob<'_>, now: Time) -> Result<(Option<Box<Terms>>, Option<JobId>), Refusal> {
        let mut terms = new.terms.as_deref().cloned().unwrap_or_default();
        if new.after.len() > PARENTS {
            return Err(BadTerms::Parents.into());
        }
        terms.after.clear();
        terms.failed_parent = None;
        terms.expires_at = new.expires.map(|expires| match expires {
            Due::In(span) => Expiry::Engine(now.after(span)),
            Due::At(wall) => Expiry::Wall(wall),
        });
        terms.check()?;
        if let Some(back_off) = &mut terms.back_off {
            (back_off.first, back_off.most) = (storable(back_off.first), storable(back_off.most));
        }
        let mut failed = None;
        for (number, parent) in new.after.iter().enumerate() {
            let parent = match *parent {
                Parent::Id(id) => id,
                Parent::Key { queue, key } => {
                    let slot = self.find_queue(queue).and_then(|queue| self.find_key(queue, key));
                    self.jobs[slot.ok_or(Refusal::UnknownParent(number + 1))?].id
                }
            };
            if parent.0 == 0 || parent.0 >= self.numbers.next_job_id {
                return Err(Refusal::UnknownParent(number + 1));
            }
            if parent >= job {
                return Err(Refusal::LaterParent(parent));
            }
            match self.slot_of(parent).map(|slot| self.jobs[slot].state) {
                Some(JobState::Done) => {}
                Some(JobState::Cancelled | JobState::Expired) => drop(failed.get_or_insert(parent)),
                Some(_) => terms.after.push(parent),
                None if self.graph.has_failed(parent, now) => drop(failed.get_or_insert(parent)),
                None => {}
            }
        }
        terms.after.sort_unstable();
        terms.after.dedup();
        match terms.on_parent_failure {
            OnParentFailure::Cancel => {}
            OnParentFailure::Run => failed = None,
            OnParentFailure::Hold => terms.failed_parent = failed.take(),
        }
        Ok(((!terms.is_empty()).then(|| Box::new(terms)), failed))
    }

    fn decide_reserve(
        &self,
        session: SessionId,
        wait: Option<Duration>,
        now: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        self.not_waiting(session)?;
        if let Some(slot) = self.best_ready(session) {
            return Ok(self.lease(session, slot, now, events));
        }
        if self.lease_ends_soon(session, now) {
            return Ok(Answer::DeadlineSoon);
        }
        Ok(if wait == Some(Duration::ZERO) { Answer::TimedOut } else { Answer::Waiting })
    }

    /// The job that a reserve of the session gets now: the least of the watched queues that are not closed.
    pub(super) fn best_ready(&self, session: SessionId) -> Option<Slot> {
        let queues = self.session(session).watched.iter().map(|&id| self.queue(id));
        let heads = queues.filter(|queue| !queue.is_closed()).filter_map(|queue| queue.ready.first());
        heads.min_by_key(|&slot| {
            let job = &self.jobs[slot];
            (job.priority, job.run_at, job.id)
        })
    }

    pub(super) fn lease_ends_soon(&self, session: SessionId, now: Time) -> bool {
        let ends_soon = self.first_lease_end(session).is_some_and(|end| end <= now.after(LEASE_SAFETY_MARGIN));
        ends_soon && self.session(session).bond != Bond::Followed
    }

    /// Hands a ready job to a session that waited for it.
    pub(crate) fn lease_to(&self, session: SessionId, job: JobId, now: Time, events: &mut Vec<Event>) -> Answer {
        let slot = self.find_job(job).expect("a job that is handed over is there");
        self.lease(session, slot, now, events)
    }

    /// Hands a job to a session.
    fn lease(&self, session: SessionId, slot: Slot, now: Time, events: &mut Vec<Event>) -> Answer {
        let job = &self.jobs[slot];
        let token = LeaseToken { epoch: self.numbers.epoch, counter: self.numbers.leases + 1 };
        let (deadline, is_durable) = (self.lease_end(job, now), self.gives_durably(session, job));
        events.push(Event::LeaseGiven { job: job.id, session, token, deadline, is_durable });
        Answer::Reserved(job.id, token)
    }

    fn lease_end(&self, job: &Job, now: Time) -> Time {
        now.after(self.ttr(job))
    }

    /// The job, if the asker holds it.
    fn held(&self, session: SessionId, held: Held) -> Result<Slot, Refusal> {
        let slot = self.find_job(held.job).ok_or(Refusal::NotFound)?;
        if self.jobs[slot].state != JobState::Reserved {
            return Err(Refusal::NotFound);
        }
        let lease = &self.leases[self.jobs[slot].lease_slot()];
        let fits = match held.token {
            Some(token) => lease.token == token,
            None => lease.session == session,
        };
        if fits { Ok(slot) } else { Err(Refusal::NotFound) }
    }

    pub(super) fn holder(&self, slot: Slot) -> Option<SessionId> {
        let job = &self.jobs[slot];
        (job.state == JobState::Reserved).then(|| self.leases[job.lease_slot()].session)
    }

    /// How many leases were given on a job so far.
    pub(super) fn reserves(&self, slot: Slot) -> u32 {
        let job = &self.jobs[slot];
        let ended = self.extra(job).map_or(0, |extra| extra.tally.reserves);
        ended.saturating_add(u32::from(job.state == JobState::Reserved))
    }

    /// The end of a job's work.
    fn completed(&self, slot: Slot, result: Option<&[u8]>, now: Time) -> Event {
        let until = self.kept_until(slot, now);
        let kept = until.map(|until| Box::new(KeptResult { until, result: result.map(Box::from) }));
        Event::JobCompleted { job: self.jobs[slot].id, kept }
    }

    /// The end of a job that is called off. Nothing is kept of one that is not in memory.
    fn cancelled(&self, job: JobId, now: Time) -> Result<Event, Refusal> {
        let kept_until = match self.find_job(job) {
            Some(slot) => self.kept_until(slot, now),
            None => self.known_home(job).map(|_| None).ok_or(Refusal::NotFound)?,
        };
        Ok(Event::JobCancelled { job, kept_until, because_of: None })
    }

    fn decide_delete(
        &self,
        session: SessionId,
        id: JobId,
        now: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let slot = self.find_job(id);
        let last = slot.and_then(|slot| match self.holder(slot) {
            Some(holder) => Some(holder),
            // Who is not in memory waits, and forgot who held it.
            None => self.extra(&self.jobs[slot]).and_then(|extra| extra.last_holder),
        });
        if slot.and_then(|slot| self.holder(slot)).is_some_and(|holder| holder != session) {
            return Err(Refusal::NotFound);
        }
        events.push(match slot.filter(|_| last == Some(session)) {
            Some(slot) => self.completed(slot, None, now),
            None => self.cancelled(id, now)?,
        });
        Ok(Answer::Done)
    }

    fn decide_fail(
        &self,
        session: SessionId,
        held: Held,
        (delay, error): (Option<Duration>, Option<&[u8]>),
        now: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let slot = self.held(session, held)?;
        fits(error, ERROR_BYTES)?;
        let error = error.map(Box::from);
        let job = &self.jobs[slot];
        let reserves = self.reserves(slot);
        let attempts = self.extra(job).map_or(0, |extra| extra.tally.attempts);
        let most = u32::from(self.limits(job).attempts);
        events.push(if most > 0 && attempts + 1 >= most {
            let (reason, number) = (BuryReason::Attempts, self.next_burial());
            Event::JobBuried { job: held.job, priority: job.priority, reason, reserves, number, error }
        } else {
            let terms = self.extra(job).and_then(|extra| extra.terms.as_ref());
            let back_off = terms.and_then(|terms| terms.back_off).unwrap_or(BackOff::DEFAULT);
            let chance = job.id.0.wrapping_mul(0x1_0000).wrapping_add(u64::from(attempts));
            let delay = delay.unwrap_or_else(|| back_off.after(attempts.saturating_add(1), chance));
            Event::JobFailed { job: held.job, delay: storable(delay), run_at: now.after(delay), reserves, error }
        });
        Ok(Answer::Done)
    }

    /// What the end of a lease makes of its job: ready again, or buried if it was lost too often.
    pub(super) fn lease_lost(&self, slot: Slot) -> Event {
        let job = &self.jobs[slot];
        let reserves = self.reserves(slot);
        let lost = self.extra(job).map_or(0, |extra| extra.tally.lost_leases);
        let most = u32::from(self.limits(job).lost_leases);
        if most > 0 && lost + 1 >= most {
            let (reason, number) = (BuryReason::LostLeases, self.next_burial());
            Event::JobBuried { job: job.id, priority: job.priority, reason, reserves, number, error: None }
        } else {
            Event::LeaseLost { job: job.id, reserves }
        }
    }

    fn next_burial(&self) -> u64 {
        self.numbers.burials + 1
    }

    fn decide_kick(
        &self,
        queue: QueueId,
        limit: u64,
        source: Option<KickSource>,
        now: Time,
        events: &mut Vec<Event>,
    ) -> Answer {
        let queue = self.queue(queue);
        let source = source.unwrap_or(if queue.buried.is_empty() { KickSource::Delayed } else { KickSource::Buried });
        let slice = usize::try_from(limit).unwrap_or(usize::MAX).min(STEP_OBJECTS);
        let before = events.len();
        let there = match source {
            KickSource::Buried => {
                events.extend(queue.buried.values().take(slice).map(|&slot| self.kicked(&self.jobs[slot], now)));
                queue.buried.len() as u64
            }
            KickSource::Delayed => {
                let first = self.first_delayed(queue).take(slice);
                events.extend(first.map(|slot| self.kicked(&self.jobs[slot], now)));
                queue.delayed_jobs() as u64 + queue.cold
            }
        };
        let count = (events.len() - before) as u64;
        Answer::Kicked { count, source, left: limit.min(there) - count }
    }

    /// A kick makes a delayed job due now; a buried one returns to its old place.
    fn kicked(&self, job: &Job, now: Time) -> Event {
        Event::JobKicked { job: job.id, run_at: self.run_at(job).min(now) }
    }
}

/// Whether what a holder says is short enough.
fn fits(said: Option<&[u8]>, most: usize) -> Result<(), Refusal> {
    if said.is_some_and(|said| said.len() > most) { Err(Refusal::TooLong(most)) } else { Ok(()) }
}

/// The span as the log can hold it: in 64 bits of nanoseconds.
fn storable(span: Duration) -> Duration {
    Duration::from_nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}
