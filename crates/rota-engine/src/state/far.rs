//! Jobs that leave memory and come near again. None of it is an event: what a job is does not change, only where it is.

use super::State;
use crate::command::{Command, KickSource, Parent, ScheduleCommand};
use crate::event::{KeptQueue, PutJob};
use crate::far::{
    self, CLOCK_UNKNOWN, FarAsOf, FarEntry, FarJob, FarPlace, FarRecord, Moments, NearGoal, OpenSegment, Want,
};
use crate::index::Hashed;
use crate::job::{Job, JobExtra, JobId, JobState, MaybeSlot, QueueName, Time};
use crate::limits::STEP_OBJECTS;
use crate::log::{BodyWritten, Lsn};
use crate::pages::Slot;
use crate::queue::QueueId;
use crate::session::SessionId;
use crate::terms::Expiry;

impl State {
    /// Whether a job was put so far ahead that it may leave memory when its segment is reclaimed, and was not written again
    /// instead. Else it must be the same for as long as the job stands among the delayed ones, whatever the wall clock shows.
    pub(super) fn is_distant(&self, job: &Job) -> bool {
        let Some(near) = self.near else { return false };
        let is_ahead = |at: Time| at.since(job.created_at) > 2 * near;
        let is_distant_by = |extra: &JobExtra| {
            let is_as_put = extra.delay.is_none() && extra.home.is_none() && extra.may_leave();
            let expiry = extra.terms.as_ref().and_then(|terms| terms.expires_at);
            is_as_put && expiry.is_none_or(|(Expiry::Engine(at) | Expiry::Wall(at))| is_ahead(at))
        };
        let is_as_put = job.lease != MaybeSlot::NONE_WRITTEN_AGAIN;
        is_as_put && is_ahead(job.run_at) && self.extra(job).is_none_or(is_distant_by)
    }

    /// A delayed job is counted as one that stays from now on, if it was not.
    pub(super) fn is_distant_no_more(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        if self.is_distant(job) {
            self.distant_bytes -= self.record_bytes(job);
            self.jobs[slot].lease = MaybeSlot::NONE_WRITTEN_AGAIN;
        }
    }

    /// Whether a job waits in memory, with a record of its own that may become its home.
    pub(crate) fn can_leave(&self, job: JobId) -> bool {
        let Some(slot) = self.find_job(job) else { return false };
        let extra = self.extra(&self.jobs[slot]);
        let fired = extra.and_then(|extra| extra.terms.as_ref()).and_then(|terms| terms.fired.as_ref());
        // A schedule may ask whether its last job is open, and nothing on disk can be asked then.
        let is_asked_for = fired.is_some_and(|fired| self.is_last_fired(job, fired));
        let is_free = extra.is_none_or(JobExtra::may_leave) && !self.graph.is_waited_for(job) && !is_asked_for;
        self.jobs[slot].state == JobState::Delayed && self.home(slot).is_none() && is_free
    }

    /// Takes note that the totals of its queue count something of a job, if that is one of a far segment.
    pub(super) fn count_if_far(&mut self, slot: Slot) {
        if self.home(slot).is_some() {
            self.far.count(self.jobs[slot].queue);
        }
    }

    /// A queue that the log knows of, and whose totals count what happened to far jobs since it was kept.
    pub(crate) fn take_far_counted(&mut self) -> Option<KeptQueue> {
        while let Some(queue) = self.far.take_counted() {
            let is_there = self.queues.get(queue.slot()).is_some();
            if let Some(kept) = is_there.then(|| self.kept_queue(queue)).flatten() {
                return Some(kept);
            }
        }
        None
    }

    /// The record that is the home of the job in that place, if no start reads that.
    pub(crate) fn home(&self, slot: Slot) -> Option<FarPlace> {
        self.extra(&self.jobs[slot]).and_then(|extra| extra.home)
    }

    /// Whether a job that waits in memory is what a record says.
    fn is_as_recorded(&self, slot: Slot, FarRecord { kept, queue, .. }: &FarRecord) -> bool {
        let now = self.kept_job_at(slot, Box::default());
        let (put, was) = (&now.put, &kept.put);
        // What goes by the wall clock is due when that says so, not when it once did.
        let is_due_alike = put.at_wall == was.at_wall && (put.at_wall.is_some() || put.run_at == was.run_at);
        self.jobs[slot].state == JobState::Delayed
            && is_due_alike
            && self.queue(put.queue).name == *queue
            && (put.priority, put.created_at) == (was.priority, was.created_at)
            && (put.ttr, &put.key) == (was.ttr, &was.key)
            && (put.max_lost_leases, put.max_attempts) == (was.max_lost_leases, was.max_attempts)
            && (now.delay, now.tally, now.buried) == (kept.delay, kept.tally, kept.buried)
            && (&put.terms, &now.course) == (&was.terms, &kept.course)
            && !self.graph.is_waited_for(put.job)
    }

    /// A job leaves memory for its record in a segment that is given up, of which `of` tells the records and the end; false
    /// if it is not there, not far ahead, or not as the record says.
    pub(crate) fn leave(&mut self, record: &FarRecord, of: (u32, Lsn), now: Time) -> bool {
        let (Some(after), Some(slot)) = (self.leaves_after(now), self.find_job(record.job())) else { return false };
        let is_plain = far::is_plain(&record.kept.put);
        // A start has to know what the clock showed where the log begins then.
        let is_clock_known = is_plain || self.far.clock.ahead_at(of.1, self.numbers.wall_offset).is_some();
        let is_far = record.needed_by().is_after(after) && self.home(slot).is_none();
        if !is_far || !is_clock_known || !self.is_as_recorded(slot, record) {
            return false;
        }
        self.far.leave(record.place, of, is_plain);
        self.job_bytes -= self.record_bytes(&self.jobs[slot]);
        self.put_away(slot);
        true
    }

    /// Takes a delayed job out of memory.
    fn put_away(&mut self, slot: Slot) {
        self.far.went(self.jobs[slot].id);
        self.detach(slot);
        let queue = self.take_out(slot);
        self.totals.by_state[JobState::Delayed as usize] += 1;
        self.queue_mut(queue).cold += 1;
    }

    /// When a far job is due, in engine time, as far as is known.
    pub(crate) fn far_run_at(&self, place: FarPlace, put: &PutJob) -> Time {
        let Some(at) = put.at_wall else { return put.run_at };
        let by_clock = || self.numbers.wall_offset.map(|ahead| at.in_engine_time(ahead));
        self.far.due_since(place, at).or_else(by_clock).unwrap_or(put.run_at)
    }

    /// Takes in a job that its record says is far, if it is in memory not yet. Returns false if it is not far: it ended, or
    /// was written again. It waits among the delayed ones, though its moment may have come; but what was due when the wall clock
    /// was set is so.
    pub(crate) fn bring_near(&mut self, record: &FarRecord, bodies_in_log: bool, now: Time) -> bool {
        let FarRecord { place, kept, queue, .. } = record;
        let job = kept.put.job;
        if !self.far.is_open(*place) || self.slot_of(job).is_some() {
            return self.far.is_open(*place);
        }
        let queue = self.find_queue(queue).expect("the queue of an open job is there");
        self.queue_mut(queue).cold -= 1;
        self.totals.by_state[JobState::Delayed as usize] -= 1;
        let mut kept = kept.clone();
        kept.put.queue = queue;
        let due_since = kept.put.at_wall.and_then(|at| self.far.due_since(*place, at));
        if let Some(at) = kept.put.at_wall {
            self.far.came_near(job, at);
        }
        let made = self.make_job(kept);
        let slot = self.insert_job(made);
        self.job_bytes -= self.record_bytes(&self.jobs[slot]);
        self.extra_mut(slot).home = Some(*place);
        match due_since {
            Some(due) => {
                self.jobs[slot].run_at = due;
                self.attach_by_time(slot, now.max(due));
            }
            None => self.attach_delayed(slot),
        }
        if bodies_in_log {
            self.body_written(BodyWritten { job, record: record.record });
        }
        true
    }

    /// Lets a job go again that was brought near, if nothing happened to it and it is still far ahead.
    pub(crate) fn let_go(&mut self, record: &FarRecord) {
        let Some(slot) = self.find_job(record.job()) else { return };
        let is_far = self.near.is_some() && record.needed_by().is_after(self.near_goal.max(self.near_until));
        if is_far && self.home(slot) == Some(record.place) && self.is_as_recorded(slot, record) {
            self.put_away(slot);
        }
    }

    /// The log that a start reads has the job again.
    pub(super) fn come_home(&mut self, slot: Slot) {
        let Some(home) = self.home(slot) else { return };
        self.extra_mut(slot).home = None;
        self.far.come_home(home);
        self.far.went(self.jobs[slot].id);
        let job = &self.jobs[slot];
        let bytes = self.record_bytes(job);
        self.job_bytes += bytes;
        if job.state == JobState::Delayed && self.is_distant(job) {
            self.distant_bytes += bytes;
        }
    }

    /// What a start finds of far jobs: a segment, how many open ones there are of each queue, and whether all wait for a span of
    /// time alone.
    pub(crate) fn load_far(&mut self, segment: OpenSegment, counts: Vec<(QueueName, u64)>, is_plain: bool) {
        self.far.load(segment, is_plain);
        for (name, count) in counts {
            let queue = self.open_queue(&name);
            let queue = self.queue_mut(queue);
            queue.cold += count;
            queue.logged = true;
            self.totals.by_state[JobState::Delayed as usize] += count;
        }
    }

    /// A job ended so that is not in memory, while a log is replayed; false if it is not open.
    pub(crate) fn end_cold(&mut self, FarJob { place, queue, .. }: &FarJob, at: Lsn, state: JobState) -> bool {
        let Some(queue) = self.find_queue(queue).filter(|_| self.far.is_open(*place)) else { return false };
        self.far.end_at(*place, at);
        self.count_cold_end(queue, state);
        *match state {
            JobState::Done => &mut self.totals.completed,
            JobState::Expired => &mut self.totals.expired,
            _ => &mut self.totals.cancelled,
        } += 1;
        true
    }

    /// A job ended that is not in memory, and whose place was told.
    pub(super) fn end_known(&mut self, job: JobId, state: JobState) {
        let (place, queue) = self.far.known(job).expect("an event names a job that is there");
        self.far.forget(job);
        self.far.end(place);
        self.count_cold_end(queue, state);
        self.leave_queue(queue);
    }

    fn count_cold_end(&mut self, id: QueueId, state: JobState) {
        let queue = self.queue_mut(id);
        queue.cold -= 1;
        queue.totals.deletes += 1;
        queue.count_end(state);
        self.far.count(id);
        self.totals.by_state[JobState::Delayed as usize] -= 1;
    }

    /// Takes note of where jobs are, so that an end of theirs can be decided; it is to be forgotten right behind that.
    pub(crate) fn know_places(&mut self, jobs: &[FarJob]) {
        for FarJob { job, place, queue } in jobs {
            if let Some(queue) = self.find_queue(queue) {
                self.far.know(*job, *place, queue);
            }
        }
    }

    /// The record that is the home of a job, in memory or not, as far as that is known.
    pub(crate) fn known_home(&self, job: JobId) -> Option<FarPlace> {
        match self.find_job(job) {
            Some(slot) => self.home(slot),
            None => self.far.known(job).map(|(place, _)| place),
        }
    }

    pub(crate) fn are_cold(&self, entries: &[FarEntry]) -> Vec<bool> {
        entries.iter().map(|entry| self.far.is_open(entry.place) && self.slot_of(entry.job).is_none()).collect()
    }

    /// What has to be brought near before a job can be looked at.
    pub(crate) fn wanted_job(&self, job: JobId) -> Option<Want> {
        let may_be_far = !self.far.is_empty() && job.0 < self.numbers.next_job_id && self.slot_of(job).is_none();
        may_be_far.then_some(Want::Job(job))
    }

    /// What has to be looked up before a job can be ended by somebody who does not hold it.
    pub(crate) fn wanted_place(&self, job: JobId) -> Option<Want> {
        self.wanted_job(job).map(|_| Want::Place(job))
    }

    /// What has to be brought near before a queue's first delayed jobs can be looked at.
    pub(crate) fn wanted_first(&self, queue: QueueId, count: usize, now: Time) -> Option<Want> {
        let queue = self.queue(queue);
        let first = self.first_delayed(queue).next();
        // One that is due by now, or expires, is no first delayed job any more once time has passed.
        let stays = |slot: Slot| {
            let at = self.run_at(&self.jobs[slot]);
            at > now && at <= self.known_until() && self.expires_after(slot, now)
        };
        let is_known = count == 1 && first.is_some_and(stays);
        let wall_ahead = self.numbers.wall_offset.unwrap_or_default();
        (queue.cold > 0 && !is_known).then(|| Want::First { queue: queue.name.clone(), count, wall_ahead })
    }

    pub(crate) fn wanted_key(&self, queue: QueueId, key: &[u8]) -> Option<Want> {
        let queue_of = self.queue(queue);
        let may_be_far = queue_of.cold > 0 && self.find_key(queue, key).is_none();
        may_be_far.then(|| Want::Key { queue: queue_of.name.clone(), key: key.into() })
    }

    /// What has to be looked up before a command can be decided.
    pub(crate) fn wanted(&self, session: SessionId, command: &Command<'_>, now: Time) -> Option<Want> {
        if self.far.is_empty() {
            return None;
        }
        match command {
            Command::ReserveJob(job) | Command::KickJob(job) => self.wanted_job(*job),
            Command::Delete(job) | Command::Cancel(job) => self.wanted_place(*job),
            Command::Put(new) => self.wanted_key(self.target(session, new.queue)?, new.key?),
            Command::Schedule(command) => match **command {
                ScheduleCommand::Run(name) => self.wanted_by(name),
                _ => None,
            },
            Command::CancelKey { queue, key } => self.wanted_key(self.find_queue(queue)?, key),
            Command::Kick { queue, limit, source } => {
                let queue = self.target(session, *queue)?;
                let is_from_buried = match source {
                    Some(source) => *source == KickSource::Buried,
                    None => !self.queue(queue).buried.is_empty(),
                };
                let count = usize::try_from(*limit).unwrap_or(usize::MAX).min(STEP_OBJECTS);
                if is_from_buried || count == 0 { None } else { self.wanted_first(queue, count, now) }
            }
            _ => None,
        }
    }

    /// What has to be brought near before a job can be put that waits for that one.
    pub(crate) fn wanted_parent(&self, parent: &Parent<'_>) -> Option<Want> {
        match *parent {
            Parent::Id(job) => self.wanted_job(job),
            Parent::Key { queue, key } => self.find_queue(queue).and_then(|queue| self.wanted_key(queue, key)),
        }
    }

    pub(crate) fn cold_jobs(&self) -> u64 {
        let lines: u64 = self.totals.by_state.iter().sum();
        lines - self.jobs.len() as u64
    }

    /// From when on a delayed job is so far ahead that it may leave memory.
    pub(crate) fn leaves_after(&self, now: Time) -> Option<Moments> {
        self.near.map(|near| {
            let after = Moments { engine: now.after(2 * near), wall: self.wall_time(now).after(2 * near) };
            after.max(self.near_goal).max(self.near_until)
        })
    }

    /// How far jobs are to be brought near so that all are in memory that are due or expire by `until`: those too that were due
    /// when the wall clock was set.
    pub(crate) fn aim_near(&mut self, until: Time) -> NearGoal {
        let wall = if until == Time::NEVER { until } else { self.wall_time(until) };
        let wall = wall.max(self.far.clock.shown().unwrap_or_default());
        self.near_goal = self.near_goal.max(Moments { engine: until, wall });
        NearGoal { until: self.near_goal, known_by_wall: self.near_until.wall, clock_sets: self.clock_sets }
    }

    /// All was brought near that this goal is about.
    pub(crate) fn is_near(&mut self, goal: NearGoal) {
        self.near_until.engine = self.near_until.engine.max(goal.until.engine);
        // What goes by a clock that was set meanwhile may have left memory again.
        if goal.clock_sets == self.clock_sets {
            self.near_until.wall = self.near_until.wall.max(goal.until.wall);
        }
    }

    /// The wall clock was set, and shows that now. Where that is earlier, what is ahead again need not be in memory, but for what
    /// may have been due.
    pub(super) fn clock_was_set(&mut self, shows: Time) {
        self.clock_sets += 1;
        let shows = shows.max(self.far.clock.shown().unwrap_or_default());
        for horizon in [&mut self.near_goal, &mut self.near_until] {
            // Where all are in memory, none leaves it.
            if horizon.wall < Time::NEVER {
                horizon.wall = horizon.wall.min(shows);
            }
        }
    }

    /// Every job that is due by then, in engine time, is in memory.
    pub(crate) fn known_until(&self) -> Time {
        let by_wall = self.near_until.wall;
        if by_wall == Time::NEVER {
            self.near_until.engine
        } else {
            self.near_until.engine.min(self.engine_time(by_wall))
        }
    }

    /// Whether all far jobs are in memory that were due when the wall clock was set in a record below `below`.
    pub(crate) fn has_due_by_clock(&self, below: Lsn) -> bool {
        let is_near = |shown| self.near_until.wall >= shown || self.far.is_plain();
        self.far.clock.shown_below(below).is_none_or(is_near)
    }

    /// Forgets that the wall clock was set in records below `below`: what was due then ended, or is written again.
    pub(crate) fn settle_clock(&mut self, below: Lsn, now: Time) {
        let shown = self.far.clock.shown_below(below);
        self.far.clock.forget_below(below);
        let shows = self.wall_time(now);
        // What goes by what it showed once need not be in memory any more.
        if shown.is_some_and(|shown| shown > shows) {
            self.clock_was_set(shows);
        }
    }

    /// By how many nanoseconds the wall clock was ahead of engine time before that record, if a start has to know it.
    pub(crate) fn far_wall_ahead(&self, at: Lsn) -> Option<i128> {
        let now = self.numbers.wall_offset;
        (!self.far.is_plain()).then(|| self.far.clock.ahead_at(at, now).unwrap_or(CLOCK_UNKNOWN))
    }

    /// Which jobs left memory by now, and what the wall clock shows.
    pub(crate) fn far_as_of(&self) -> FarAsOf {
        self.far.as_of(self.numbers.wall_offset.unwrap_or_default())
    }

    /// Takes a job that stands in no line out of all indexes; its counters stay. Returns its queue.
    pub(super) fn take_out(&mut self, slot: Slot) -> QueueId {
        let jobs = &self.jobs;
        let job = &jobs[slot];
        self.by_id.remove(job.id);
        if !job.state.is_final() {
            self.queues[job.queue.slot()].body_bytes -= u64::from(job.body.length);
            self.free_key(slot);
        }
        let job = self.jobs.remove(slot).expect("a job is removed once");
        let queue = job.queue;
        self.let_go_of(job);
        queue
    }

    /// Lets go of what belongs to a job that is in no index any more.
    pub(super) fn let_go_of(&mut self, job: Job) {
        self.bodies.remove(job.body);
        if let Some(extra) = job.extra.get() {
            self.extras.remove(extra);
        }
    }

    /// Lets others have a job's key, if it has one.
    pub(super) fn free_key(&mut self, slot: Slot) {
        let (jobs, extras) = (&self.jobs, &self.extras);
        let job = &jobs[slot];
        if let Some(key) = job.extra.get().and_then(|extra| extras[extra].key.as_ref()) {
            self.by_key.remove(Hashed::name(job.queue.0, key), slot, |other| super::key_hash(jobs, extras, other));
        }
    }
}
