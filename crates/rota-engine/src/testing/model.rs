//! What the engine must do, written as plainly as can be: maps that are searched from end to end, no index, no wheel.
//!
//! [`super::lockstep`] runs it beside the engine and compares every answer. It takes the same inputs and must stay so
//! simple that a reader can see that it is right; it knows nothing of how the engine does it. Time is in `due`, what can be seen in `view`.

mod due;
mod graph;
mod schedules;
mod view;
mod why;

use super::workload::{Client, Input, ParentNamed, Put, Request};
use crate::command::{Answer, Body, Delivered, Due, Held, KickSource, OnConflict, Refusal};
use crate::job::{JobId, JobState, JobTally, LeaseToken, Priority, QueueName, Time};
use crate::limits::{
    ANSWER_BYTES, ANSWER_KEPT, ANSWER_KEY_BYTES, ERROR_BYTES, KEY_BYTES, LEASE_SAFETY_MARGIN, PARENTS, PROGRESS_BYTES,
    RESULT_BYTES, STEP_OBJECTS,
};
use crate::queue::{PerKey, QueueSettings, QueueTotals};
use crate::schedule::TurnNote;
use crate::state::Totals;
use crate::terms::{BackOff, BadTerms, OnParentFailure, Terms};
pub use schedules::Schedule;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The world as it should be.
#[derive(Clone, Debug)]
pub struct Model {
    now: Time,
    /// Wall clock minus engine time, nanoseconds.
    wall_offset: i128,
    epoch: u32,
    next_job_id: u64,
    leases: u64,
    waits: u64,
    burials: u64,
    jobs: BTreeMap<JobId, Job>,
    queues: BTreeMap<QueueName, Queue>,
    sessions: BTreeMap<Client, Session>,
    totals: Totals,
    deliveries: Vec<(Client, Delivered)>,
    /// Leases of those who follow them, that were there when they were looked at last.
    followed: BTreeSet<(Client, JobId, LeaseToken)>,
    /// Leases that ended by time alone since.
    ran_out: BTreeSet<LeaseToken>,
    /// What came of requests that named themselves by a key: a fingerprint, an answer, until when that is kept.
    answers: BTreeMap<Vec<u8>, (u64, Vec<u8>, Time)>,
    /// Jobs that came to nothing last.
    failed: VecDeque<JobId>,
    /// Jobs whose record no start reads: they are not kept when they end.
    homeless: BTreeSet<JobId>,
    /// Jobs that are not in memory, where their bodies are counted.
    cold: BTreeSet<JobId>,
    schedules: BTreeMap<QueueName, Schedule>,
    /// What the engine said of the turns of schedules that come.
    turns: VecDeque<(QueueName, TurnNote)>,
    /// The jobs that ticks put, and nobody was told of yet.
    fired: Vec<(JobId, Vec<u8>)>,
    /// What came of ticks since the last start, in words.
    ticks: BTreeMap<&'static str, u64>,
}

/// A job.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of the engine's job")]
pub struct Job {
    pub queue: QueueName,
    pub priority: Priority,
    pub created_at: Time,
    pub run_at: Time,
    /// `None` while it is what the put made it.
    pub delay: Option<Duration>,
    pub at_wall: Option<Time>,
    pub ttr: Duration,
    pub max_lost_leases: u16,
    pub max_attempts: u16,
    pub key: Option<Vec<u8>>,
    pub body: Vec<u8>,
    pub place: Place,
    pub tally: JobTally,
    /// The reserves that are in the log.
    pub logged_reserves: u32,
    /// Who lost its lease last.
    pub last_holder: Option<Client>,
    pub terms: Terms,
    pub waits_for: BTreeSet<JobId>,
    pub held_by: Option<JobId>,
    pub error: Option<Vec<u8>>,
    /// While it is reserved.
    pub progress: Option<Vec<u8>>,
}

/// Where a job is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the states of a job")]
pub enum Place {
    Delayed,
    Ready,
    /// With the number of the burial.
    Buried(u64),
    Reserved {
        by: Client,
        token: LeaseToken,
        since: Time,
        deadline: Time,
    },
    Blocked,
    /// Final, and kept for a while.
    Ended {
        state: JobState,
        at: Time,
        until: Time,
        result: Option<Vec<u8>>,
    },
}

/// A queue.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the engine's queue")]
pub struct Queue {
    /// Zero when it is not paused, or was found to be no longer.
    pub paused_until: Time,
    pub pause_length: Duration,
    pub totals: QueueTotals,
    pub settings: QueueSettings,
    /// When the bucket of its rate is full.
    full_at: Time,
    /// Zero while that has a token, as far as was found.
    pub throttled_until: Time,
    /// The same of each limit key that had a job handed out.
    keys: BTreeMap<Box<str>, Bucket>,
}

/// The bucket of a limit key.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Time,
    /// Zero while it has a token, as far as was found.
    throttled_until: Time,
}

#[derive(Clone, Debug)]
struct Session {
    used: QueueName,
    watched: Vec<QueueName>,
    wait: Option<Wait>,
    closing: bool,
    left: bool,
    /// It is told when each of its leases ends.
    follows: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    number: u64,
    until: Time,
}

/// What the engine said that the model takes from it.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// How many jobs it kicked, where some were: how large a slice is is its affair.
    pub kicked: Option<u64>,
    /// That there is no room in the log.
    pub no_room: bool,
    /// Jobs whose record no start reads, where that matters: they are not kept when they end.
    pub homeless: BTreeSet<JobId>,
    /// Jobs that are not in memory, where that matters: their bodies are not counted.
    pub cold: BTreeSet<JobId>,
    /// The turns that schedules had.
    pub turns: Vec<(QueueName, TurnNote)>,
}

/// What an input brought about.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The answer, where something was asked.
    pub answer: Option<Result<Answer, Refusal>>,
    /// What came to clients that waited.
    pub deliveries: Vec<(Client, Delivered)>,
    /// Whether everything that was due happened, where time passed; whether it waited, where a wait was stopped.
    pub is_done: bool,
    /// The jobs that ticks of schedules put, with their bodies.
    pub fired: Vec<(JobId, Vec<u8>)>,
}

impl Session {
    /// It waits for nothing, uses and watches nothing any more.
    fn stand_back(&mut self) -> &mut Session {
        (self.wait, self.used, self.follows) = (None, default_queue(), false);
        self.watched.clear();
        self
    }
}

impl Job {
    /// The delay last asked for.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.delay.unwrap_or_else(|| self.run_at.since(self.created_at))
    }

    fn order(&self, id: JobId) -> (Priority, Time, JobId) {
        (self.priority, self.run_at, id)
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.place, Place::Ended { .. })
    }

    /// When it expires, if it waits.
    fn expires_at(&self) -> Option<Time> {
        let waits = matches!(self.place, Place::Delayed | Place::Ready | Place::Blocked);
        self.terms.expires_at.filter(|_| waits)
    }

    fn settle_by_time(&mut self, now: Time) {
        self.progress = None;
        if !self.waits_for.is_empty() || self.held_by.is_some() {
            self.place = Place::Blocked;
            return;
        }
        self.place = if self.run_at > now { Place::Delayed } else { Place::Ready };
    }

    /// What every end of a lease that is logged does.
    fn log_reserves(&mut self) {
        self.logged_reserves = self.tally.reserves;
    }
}

fn default_queue() -> QueueName {
    QueueName::new("default").expect("it keeps the rule for names")
}

impl Model {
    /// An engine that just started for the first time.
    #[must_use]
    pub fn new(now: Time, wall: Time) -> Model {
        Model {
            now,
            wall_offset: i128::from(wall.0) - i128::from(now.0),
            epoch: 1,
            next_job_id: 1,
            leases: 0,
            waits: 0,
            burials: 0,
            jobs: BTreeMap::new(),
            answers: BTreeMap::new(),
            queues: BTreeMap::from([(default_queue(), Queue::default())]),
            sessions: BTreeMap::new(),
            totals: Totals::default(),
            deliveries: Vec::new(),
            followed: BTreeSet::new(),
            ran_out: BTreeSet::new(),
            failed: VecDeque::new(),
            homeless: BTreeSet::new(),
            cold: BTreeSet::new(),
            schedules: BTreeMap::new(),
            turns: VecDeque::new(),
            fired: Vec::new(),
            ticks: BTreeMap::new(),
        }
    }

    /// The engine starts again: every session and lease is gone. Its epoch and next id are the engine's to choose.
    ///
    /// `reserves` says of jobs that were written again, whole, how many of their reserves were known then.
    ///
    /// # Panics
    /// If that is more than there were.
    pub fn restart(
        &mut self,
        (now, wall): (Time, Time),
        epoch: u32,
        next_job_id: u64,
        reserves: &BTreeMap<JobId, u32>,
        turns: &[(QueueName, TurnNote)],
    ) -> Vec<(JobId, Vec<u8>)> {
        assert!(now >= self.now, "time goes on across a restart");
        self.sessions.clear();
        self.followed.clear();
        for (id, job) in &mut self.jobs {
            if let Some(&known) = reserves.get(id) {
                assert!((job.logged_reserves..=job.tally.reserves).contains(&known), "the reserves of job {id}");
                job.logged_reserves = known;
            }
            if matches!(job.place, Place::Reserved { .. }) {
                job.settle_by_time(now);
            }
            job.tally.reserves = job.logged_reserves;
            job.last_holder = None;
        }
        self.failed.clear();
        self.ticks.clear();
        for queue in self.queues.values_mut() {
            (queue.full_at, queue.throttled_until) = (Time(0), Time(0));
            queue.keys.clear();
        }
        self.homeless.clear();
        self.now = now;
        self.epoch = epoch;
        self.leases = 0;
        self.next_job_id = next_job_id;
        self.deliveries.clear();
        self.set_clock(wall);
        self.drop_idle_queues();
        self.schedules.values_mut().for_each(Schedule::forget);
        self.turns = turns.iter().cloned().collect();
        while !self.tick() {}
        assert!(self.turns.is_empty(), "turns that nobody had: {:?}", self.turns);
        std::mem::take(&mut self.fired)
    }

    /// Makes an input happen at a time; `said` is what of the engine's answer is the engine's own affair.
    pub fn apply(&mut self, input: &Input, at: Time, said: &Said) -> Outcome {
        self.homeless.clone_from(&said.homeless);
        self.cold.clone_from(&said.cold);
        self.turns = said.turns.iter().cloned().collect();
        if !matches!(input, Input::Open(_) | Input::Follow(_) | Input::StopWaiting(_) | Input::Stop) {
            self.now = self.now.max(at);
        }
        let mut outcome = Outcome { is_done: true, ..Outcome::default() };
        match input {
            Input::Open(client) => {
                let (used, watched) = (default_queue(), vec![default_queue()]);
                let session = Session { used, watched, wait: None, closing: false, left: false, follows: false };
                self.sessions.insert(*client, session);
            }
            Input::Close(client) => {
                self.session_mut(*client).stand_back().closing = true;
                outcome.is_done = self.tick();
            }
            Input::Leave(client) => {
                self.session_mut(*client).stand_back().left = true;
                outcome.is_done = self.tick();
            }
            Input::TakeBack(client) => {
                let left = self.sessions.get_mut(client).filter(|session| session.left);
                outcome.is_done = left.is_some();
                if let Some(session) = left {
                    (session.left, session.closing) = (false, true);
                }
                self.tick();
            }
            Input::Follow(client) => self.session_mut(*client).follows = true,
            Input::DropLease(id, token) => {
                let now = self.now;
                let job = self
                    .jobs
                    .get_mut(id)
                    .filter(|job| matches!(job.place, Place::Reserved { token: held, .. } if held == *token));
                outcome.is_done = job.is_some();
                job.into_iter().for_each(|job| job.settle_by_time(now));
                self.tick();
            }
            Input::StopWaiting(client) => outcome.is_done = self.session_mut(*client).wait.take().is_some(),
            Input::Ask(client, request) => {
                self.tick();
                outcome.answer = Some(self.ask(*client, request, said));
                self.settle();
            }
            Input::Tick => outcome.is_done = self.tick(),
            Input::DecideTicks => self.ticks_are_decided(),
            Input::Tell(..) => {
                self.tick();
                outcome.answer = Some(if said.no_room { Err(Refusal::NoRoom) } else { Ok(Answer::Done) });
                self.settle();
            }
            Input::SetClock(wall) => {
                self.set_clock(*wall);
                self.settle();
            }
            Input::Stop => {}
        }
        self.forget_left();
        self.tell_ends();
        assert!(self.turns.is_empty(), "turns that nobody had: {:?}", self.turns);
        outcome.fired = std::mem::take(&mut self.fired);
        outcome.deliveries = std::mem::take(&mut self.deliveries);
        outcome
    }

    /// Who was left goes with the last of its leases.
    fn forget_left(&mut self) {
        let jobs = &self.jobs;
        let holds = |client| jobs.values().any(|job| matches!(job.place, Place::Reserved { by, .. } if by == client));
        self.sessions.retain(|&client, session| !session.left || holds(client));
    }

    /// Tells who follows their leases which of them ended.
    fn tell_ends(&mut self) {
        let held = |job: JobId, token: LeaseToken| {
            let place = self.jobs.get(&job).map(|job| &job.place);
            matches!(place, Some(Place::Reserved { token: held, .. }) if *held == token)
        };
        let follows = |client: Client| self.sessions.get(&client).is_some_and(|session| session.follows);
        let ended = self.followed.iter().filter(|&&(client, job, token)| follows(client) && !held(job, token));
        let ends = ended.map(|&(client, job, token)| {
            (client, Delivered::LeaseEnded { job, token, ran_out: self.ran_out.contains(&token) })
        });
        self.deliveries.extend(ends.collect::<Vec<_>>());
        self.ran_out.clear();
        self.followed.clear();
        for (&id, job) in &self.jobs {
            if let Place::Reserved { by, token, .. } = job.place
                && self.sessions[&by].follows
            {
                self.followed.insert((by, id, token));
            }
        }
    }

    fn ask(&mut self, client: Client, request: &Request, said: &Said) -> Result<Answer, Refusal> {
        if said.no_room {
            return Err(Refusal::NoRoom);
        }
        let now = self.now;
        let waits = self.sessions[&client].wait.is_some();
        match request {
            Request::Put(put) => self.put(client, put),
            Request::Schedule(name, ask) => self.ask_schedule(name, ask),
            Request::Use(name) => {
                self.session_mut(client).used = name.clone();
                self.queues.entry(name.clone()).or_default();
                Ok(Answer::Done)
            }
            Request::Watch(_) | Request::Ignore(_) | Request::Reserve { .. } | Request::ReserveJob(_) if waits => {
                Err(Refusal::AlreadyWaiting)
            }
            Request::Watch(name) => {
                self.queues.entry(name.clone()).or_default();
                let watched = &mut self.session_mut(client).watched;
                if !watched.contains(name) {
                    watched.push(name.clone());
                }
                Ok(Answer::Watching(watched.len()))
            }
            Request::Ignore(name) => {
                let watched = &mut self.session_mut(client).watched;
                if watched.as_slice() == std::slice::from_ref(name) {
                    return Err(Refusal::LastWatched);
                }
                watched.retain(|other| other != name);
                Ok(Answer::Watching(watched.len()))
            }
            Request::Reserve { wait } => Ok(self.reserve(client, *wait)),
            Request::ReserveJob(id) => {
                let job = self.open_mut(*id)?;
                match job.place {
                    Place::Reserved { .. } | Place::Blocked | Place::Ended { .. } => return Err(Refusal::NotFound),
                    Place::Ready => {}
                    Place::Delayed | Place::Buried(_) => {
                        job.delay = Some(job.delay());
                        job.run_at = job.run_at.min(now);
                    }
                }
                Ok(self.lease(client, *id))
            }
            Request::Delete(id) => {
                let job = self.open_mut(*id)?;
                let last = match job.place {
                    Place::Reserved { by, .. } if by != client => return Err(Refusal::NotFound),
                    Place::Reserved { by, .. } => Some(by),
                    _ => job.last_holder,
                };
                let state = if last == Some(client) { JobState::Done } else { JobState::Cancelled };
                self.end(*id, state, None);
                Ok(Answer::Done)
            }
            Request::Complete { held, result } => {
                self.held(client, held)?;
                fits(result.as_deref(), RESULT_BYTES)?;
                self.end(held.job, JobState::Done, result.clone());
                Ok(Answer::Done)
            }
            Request::Release { held, priority, delay } => {
                let job = self.held(client, held)?;
                job.priority = *priority;
                job.tally.releases += 1;
                job.give_back(*delay, if delay.is_zero() { job.run_at } else { now.after(*delay) }, now);
                Ok(Answer::Done)
            }
            Request::Fail { held, delay, error } => {
                let job = self.held(client, held)?;
                fits(error.as_deref(), ERROR_BYTES)?;
                let chance = (held.job.0 << 16).wrapping_add(u64::from(job.tally.attempts));
                job.tally.attempts += 1;
                if error.is_some() {
                    job.error.clone_from(error);
                }
                let back_off = job.terms.back_off.unwrap_or(BackOff::DEFAULT);
                let delay = &delay.unwrap_or_else(|| back_off.after(job.tally.attempts, chance));
                if job.max_attempts > 0 && job.tally.attempts >= u32::from(job.max_attempts) {
                    self.bury(held.job);
                } else {
                    job.give_back(*delay, now.after(*delay), now);
                }
                Ok(Answer::Done)
            }
            Request::Bury { held, priority } => {
                self.held(client, held)?.priority = *priority;
                self.bury(held.job);
                Ok(Answer::Done)
            }
            Request::Touch(held) => {
                let job = self.held(client, held)?;
                if let Place::Reserved { deadline, .. } = &mut job.place {
                    *deadline = now.after(job.ttr);
                }
                Ok(Answer::Done)
            }
            Request::Progress { held, progress } => {
                let job = self.held(client, held)?;
                fits(Some(progress), PROGRESS_BYTES)?;
                job.progress = Some(progress.clone());
                Ok(Answer::Done)
            }
            Request::Cancel(id) => {
                self.open_mut(*id)?;
                self.end(*id, JobState::Cancelled, None);
                Ok(Answer::Cancelled(*id))
            }
            Request::CancelKey { queue, key } => {
                let id = self.find_key(queue, key).ok_or(Refusal::NotFound)?;
                self.end(id, JobState::Cancelled, None);
                Ok(Answer::Cancelled(id))
            }
            Request::Kick { queue, limit, source } => self.kick(client, queue.as_ref(), *limit, *source, said.kicked),
            Request::KickJob(id) => {
                let job = self.open_mut(*id)?;
                if !matches!(job.place, Place::Buried(_) | Place::Delayed | Place::Blocked) {
                    return Err(Refusal::NotFound);
                }
                self.kick_one(*id);
                Ok(Answer::Done)
            }
            Request::Pause { queue, length } => {
                let until = now.after(*length);
                let queue = self.queues.get_mut(queue).ok_or(Refusal::NoSuchQueue)?;
                let is_pause = until > now;
                queue.paused_until = if is_pause { until } else { Time(0) };
                queue.pause_length = if is_pause { representable(*length) } else { Duration::ZERO };
                queue.totals.pauses += 1;
                Ok(Answer::Done)
            }
            Request::KeepAnswer { key, fingerprint, answer } => {
                if !(1..=ANSWER_KEY_BYTES).contains(&key.len()) {
                    return Err(Refusal::BadKey);
                }
                if answer.len() > ANSWER_BYTES {
                    return Err(Refusal::TooLong(ANSWER_BYTES));
                }
                self.answers.insert(key.clone(), (*fingerprint, answer.clone(), now.after(ANSWER_KEPT)));
                Ok(Answer::Done)
            }
            Request::Configure { queue, settings } => {
                let queue = self.queues.entry(queue.clone()).or_default();
                let per_key = settings.per_key.filter(|per_key| *per_key != PerKey::default());
                if queue.settings.per_key != per_key {
                    queue.keys.clear();
                }
                queue.settings = QueueSettings { per_key, ..settings.clone() };
                (queue.full_at, queue.throttled_until) = (Time(0), Time(0));
                Ok(Answer::Done)
            }
        }
    }

    fn put(&mut self, client: Client, put: &Put) -> Result<Answer, Refusal> {
        let queue = put.queue.clone().unwrap_or_else(|| self.sessions[&client].used.clone());
        let mut replaced = None;
        if let Some(key) = &put.key {
            if !(1..=KEY_BYTES).contains(&key.len()) {
                return Err(Refusal::BadKey);
            }
            if let Some(taken) = self.find_key(&queue, key) {
                match put.on_conflict {
                    OnConflict::Reject => return Err(Refusal::KeyTaken(taken)),
                    OnConflict::Keep => return Ok(Answer::Kept(taken)),
                    OnConflict::Replace if matches!(self.jobs[&taken].place, Place::Reserved { .. }) => {
                        return Err(Refusal::KeyHeld(taken));
                    }
                    OnConflict::Replace => replaced = Some(taken),
                }
            }
        }
        if replaced.is_none() && self.is_full(&queue, put.body.len() as u64) {
            return Err(Refusal::QueueFull);
        }
        let (run_at, at_wall) = match put.due {
            Due::In(delay) => (self.now.after(delay), None),
            Due::At(wall) => (self.engine_time(wall), Some(wall)),
        };
        let id = replaced.unwrap_or(JobId(self.next_job_id));
        let (terms, failed) = self.terms(id, put)?;
        if replaced.is_none() {
            self.next_job_id += 1;
            self.totals.puts += 1;
            self.queues.entry(queue.clone()).or_default().totals.puts += 1;
        }
        let mut job = Job {
            waits_for: terms.after.iter().copied().collect(),
            held_by: terms.failed_parent,
            terms,
            error: None,
            progress: None,
            queue,
            priority: put.priority,
            created_at: self.now,
            run_at,
            delay: (run_at < self.now).then_some(Duration::ZERO),
            at_wall,
            ttr: representable(put.ttr).max(Duration::from_nanos(1)),
            max_lost_leases: put.max_lost_leases,
            max_attempts: put.max_attempts,
            key: put.key.clone(),
            body: put.body.clone(),
            place: Place::Ready,
            tally: JobTally::default(),
            logged_reserves: 0,
            last_holder: None,
        };
        job.settle_by_time(self.now);
        self.jobs.insert(id, job);
        if failed {
            self.end(id, JobState::Cancelled, None);
        }
        Ok(if replaced.is_some() { Answer::Replaced(id) } else { Answer::Put(id) })
    }

    fn is_full(&self, queue: &QueueName, body_bytes: u64) -> bool {
        let Some(QueueSettings { max_jobs, max_bytes, .. }) = self.queues.get(queue).map(|queue| &queue.settings)
        else {
            return false;
        };
        let open = || self.jobs.iter().filter(|(_, job)| job.queue == *queue && job.is_open());
        let counted = open().filter(|(id, _)| !self.cold.contains(id));
        let bytes: u64 = counted.map(|(_, job)| job.body.len() as u64).sum();
        max_jobs.is_some_and(|most| open().count() as u64 >= most)
            || max_bytes.is_some_and(|most| bytes + body_bytes > most)
    }

    fn reserve(&mut self, client: Client, wait: Option<Duration>) -> Answer {
        if let Some(id) = self.best_ready(client) {
            return self.lease(client, id);
        }
        if self.lease_ends_soon(client) {
            return Answer::DeadlineSoon;
        }
        if wait == Some(Duration::ZERO) {
            return Answer::TimedOut;
        }
        self.waits += 1;
        let wait = Wait { number: self.waits, until: wait.map_or(Time::NEVER, |wait| self.now.after(wait)) };
        self.session_mut(client).wait = Some(wait);
        Answer::Waiting
    }

    fn kick(
        &mut self,
        client: Client,
        queue: Option<&QueueName>,
        limit: u64,
        source: Option<KickSource>,
        kicked: Option<u64>,
    ) -> Result<Answer, Refusal> {
        let queue = queue.unwrap_or(&self.sessions[&client].used).clone();
        if !self.queues.contains_key(&queue) {
            return Err(Refusal::NoSuchQueue);
        }
        let jobs = || self.jobs.iter().filter(|(_, job)| job.queue == queue);
        let mut buried: Vec<(u64, JobId)> = jobs()
            .filter_map(|(&id, job)| if let Place::Buried(n) = job.place { Some((n, id)) } else { None })
            .collect();
        let mut delayed: Vec<(Time, JobId)> =
            jobs().filter(|(_, job)| job.place == Place::Delayed).map(|(&id, job)| (job.run_at, id)).collect();
        buried.sort_unstable();
        delayed.sort_unstable();
        let source = source.unwrap_or(if buried.is_empty() { KickSource::Delayed } else { KickSource::Buried });
        let line: Vec<JobId> = match source {
            KickSource::Buried => buried.into_iter().map(|(_, id)| id).collect(),
            KickSource::Delayed => delayed.into_iter().map(|(_, id)| id).collect(),
        };
        let all = limit.min(line.len() as u64);
        let count = kicked.expect("the engine answered a kick");
        assert!(count <= all.min(STEP_OBJECTS as u64), "a slice of {count} jobs of {all}");
        assert!(count > 0 || all == 0, "a slice of nothing");
        for &id in &line[..usize::try_from(count).expect("a slice is short")] {
            self.kick_one(id);
        }
        Ok(Answer::Kicked { count, source, left: all - count })
    }

    fn kick_one(&mut self, id: JobId) {
        let now = self.now;
        let job = self.job_mut(id);
        job.delay = Some(job.delay());
        job.run_at = job.run_at.min(now);
        job.at_wall = None;
        job.waits_for.clear();
        job.held_by = None;
        job.tally.kicks += 1;
        job.settle_by_time(now);
    }

    fn bury(&mut self, id: JobId) {
        self.burials += 1;
        let place = Place::Buried(self.burials);
        let job = self.job_mut(id);
        job.place = place;
        job.progress = None;
        job.tally.buries += 1;
        job.log_reserves();
    }

    fn lease(&mut self, client: Client, id: JobId) -> Answer {
        self.leases += 1;
        let token = LeaseToken { epoch: self.epoch, counter: self.leases };
        let now = self.now;
        if self.sessions[&client].follows {
            self.followed.insert((client, id, token));
        }
        let job = self.job_mut(id);
        job.place = Place::Reserved { by: client, token, since: now, deadline: now.after(job.ttr) };
        job.tally.reserves += 1;
        job.last_holder = None;
        let (queue, limit_key) = (job.queue.clone(), job.terms.limit_key.clone());
        let queue = self.queues.get_mut(&queue).expect("a job's queue is there");
        if let (Some(key), Some(rate)) = (limit_key, queue.settings.per_key.and_then(|per_key| per_key.rate)) {
            let bucket = queue.keys.entry(key).or_default();
            let (full_at, next_at) = rate.take(bucket.full_at, now);
            bucket.full_at = full_at;
            if next_at > now {
                bucket.throttled_until = next_at;
            }
        }
        if let Some(rate) = queue.settings.rate {
            let (full_at, next_at) = rate.take(queue.full_at, now);
            queue.full_at = full_at;
            if next_at > now {
                queue.throttled_until = next_at;
            }
        }
        Answer::Reserved(id, token)
    }

    fn held(&mut self, client: Client, held: &Held) -> Result<&mut Job, Refusal> {
        let job = self.jobs.get_mut(&held.job).ok_or(Refusal::NotFound)?;
        match job.place {
            Place::Reserved { by, token, .. } if held.token.map_or(by == client, |asked| asked == token) => Ok(job),
            _ => Err(Refusal::NotFound),
        }
    }

    fn find_key(&self, queue: &QueueName, key: &[u8]) -> Option<JobId> {
        let is_it = |job: &Job| job.is_open() && job.queue == *queue && job.key.as_deref() == Some(key);
        self.jobs.iter().find(|(_, job)| is_it(job)).map(|(&id, _)| id)
    }

    /// The first job that a client could have.
    fn best_ready(&self, client: Client) -> Option<JobId> {
        let session = &self.sessions[&client];
        let ready = self.jobs.iter().filter(|(_, job)| job.place == Place::Ready);
        let eligible = ready.filter(|(_, job)| {
            session.watched.contains(&job.queue) && !self.is_closed(&job.queue) && !self.is_held_back(job)
        });
        eligible.min_by_key(|(id, job)| job.order(**id)).map(|(&id, _)| id)
    }

    /// Whether a queue hands nothing out.
    fn is_closed(&self, name: &QueueName) -> bool {
        let queue = &self.queues[name];
        let held = || self.jobs.values().filter(|job| job.queue == *name && job.place.state() == JobState::Reserved);
        let is_full = queue.settings.concurrency.is_some_and(|most| held().count() as u64 >= u64::from(most));
        queue.paused_until > Time(0) || queue.throttled_until > Time(0) || is_full
    }

    /// Whether its limit key lets a job not be handed out, were it ready.
    #[must_use]
    pub fn is_held_back(&self, job: &Job) -> bool {
        let (Some(key), queue) = (&job.terms.limit_key, &self.queues[&job.queue]) else { return false };
        let most = queue.settings.per_key.and_then(|per_key| per_key.concurrency);
        let is_throttled = queue.keys.get(key).is_some_and(|bucket| bucket.throttled_until > Time(0));
        is_throttled || most.is_some_and(|most| self.held_of_key(&job.queue, key) >= u64::from(most))
    }

    /// How many jobs of a limit key are held.
    #[must_use]
    pub fn held_of_key(&self, queue: &QueueName, key: &str) -> u64 {
        let is_of_key = |job: &&Job| job.queue == *queue && job.terms.limit_key.as_deref() == Some(key);
        self.jobs.values().filter(|job| job.place.state() == JobState::Reserved).filter(is_of_key).count() as u64
    }

    fn first_lease_end(&self, client: Client) -> Option<(Time, JobId)> {
        let end = |(&id, job): (&JobId, &Job)| match job.place {
            Place::Reserved { by, deadline, .. } if by == client => Some((deadline, id)),
            _ => None,
        };
        self.jobs.iter().filter_map(end).min()
    }

    fn lease_ends_soon(&self, client: Client) -> bool {
        let ends_soon = self.first_lease_end(client).is_some_and(|(end, _)| end <= self.now.after(LEASE_SAFETY_MARGIN));
        ends_soon && !self.sessions[&client].follows
    }

    fn engine_time(&self, wall: Time) -> Time {
        let nanos = (i128::from(wall.0) - self.wall_offset).clamp(0, i128::from(u64::MAX - 1));
        Time(u64::try_from(nanos).expect("clamped to the range"))
    }

    /// What waits for a moment of the wall clock is placed anew, unless its time has come already.
    fn set_clock(&mut self, wall: Time) {
        self.wall_offset = i128::from(wall.0) - i128::from(self.now.0);
        let waits = |job: &Job| job.place == Place::Delayed && job.run_at > self.now;
        let waiting: Vec<(JobId, Time)> =
            self.jobs.iter().filter(|(_, job)| waits(job)).filter_map(|(&id, job)| Some((id, job.at_wall?))).collect();
        for (id, at) in waiting {
            let (now, run_at) = (self.now, self.engine_time(at));
            let job = self.job_mut(id);
            job.run_at = run_at;
            job.settle_by_time(now);
        }
    }

    /// What follows at once: who waits gets what they could have, the longest waiting first; queues that nothing needs go.
    fn settle(&mut self) {
        self.hand_over();
        self.drop_idle_queues();
    }

    fn hand_over(&mut self) {
        loop {
            let waiting = self.sessions.iter().filter_map(|(&client, session)| Some((session.wait?.number, client)));
            let served = waiting.filter_map(|(number, client)| Some((number, client, self.best_ready(client)?))).min();
            let Some((_, client, id)) = served else { return };
            self.session_mut(client).wait = None;
            if let Answer::Reserved(job, token) = self.lease(client, id) {
                let body = Body::InMemory(self.jobs[&job].body.as_slice().into());
                self.deliveries.push((client, Delivered::Job { job, token, body }));
            }
        }
    }

    fn drop_idle_queues(&mut self) {
        let (jobs, sessions) = (&self.jobs, &self.sessions);
        self.queues.retain(|name, queue| {
            name.as_str() == "default"
                || queue.paused_until > Time(0)
                || !queue.settings.is_empty()
                || sessions.values().any(|session| session.used == *name || session.watched.contains(name))
                || jobs.values().any(|job| job.queue == *name)
        });
    }

    fn open_mut(&mut self, id: JobId) -> Result<&mut Job, Refusal> {
        self.jobs.get_mut(&id).filter(|job| job.is_open()).ok_or(Refusal::NotFound)
    }

    fn job_mut(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).expect("the job is there")
    }

    fn session_mut(&mut self, client: Client) -> &mut Session {
        self.sessions.get_mut(&client).expect("the session is open")
    }
}

fn fits(said: Option<&[u8]>, most: usize) -> Result<(), Refusal> {
    if said.is_some_and(|said| said.len() > most) { Err(Refusal::TooLong(most)) } else { Ok(()) }
}

/// A span as it can be written down: no longer than 64 bits of nanoseconds.
fn representable(span: Duration) -> Duration {
    Duration::from_nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

impl Job {
    fn give_back(&mut self, delay: Duration, run_at: Time, now: Time) {
        self.run_at = run_at;
        self.delay = Some(representable(delay));
        self.at_wall = None;
        self.log_reserves();
        self.settle_by_time(now);
    }
}
