//! What the engine must do, written as plainly as can be: maps that are searched from end to end, no index, no wheel.
//!
//! [`super::lockstep`] runs it beside the engine and compares every answer. It takes the same inputs and must stay so
//! simple that a reader can see that it is right; it knows nothing of how the engine does it. Time is in `due`, what can be seen in `view`.

mod due;
mod graph;
mod line;
mod schedules;
mod verbs;
mod view;
mod why;

use super::workload::{Client, Input, PAST, ParentNamed, Put, Request};
use crate::command::{Answer, Body, Delivered, Due, Held, OnConflict, Refusal};
use crate::job::{JobId, JobState, JobTally, LeaseToken, Priority, QueueName, Time};
use crate::limits::{
    ANSWER_BYTES, ANSWER_KEPT, ANSWER_KEY_BYTES, ERROR_BYTES, KEY_BYTES, PARENTS, PROGRESS_BYTES, RESULT_BYTES,
};
use crate::queue::{PerKey, QueueSettings, QueueTotals};
use crate::schedule::TurnNote;
use crate::state::Totals;
use crate::terms::{BackOff, BadTerms, Expiry, OnParentFailure, Terms};
pub use schedules::Schedule;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The world as it should be.
#[derive(Clone, Debug)]
pub struct Model {
    now: Time,
    /// Wall clock minus engine time, nanoseconds.
    wall_offset: i128,
    /// When it last started.
    started: Time,
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
    /// Jobs that came to nothing last, with when.
    failed: BTreeSet<(Time, JobId)>,
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
        is_durable: bool,
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
    fn new() -> Session {
        let (used, watched) = (default_queue(), vec![default_queue()]);
        Session { used, watched, wait: None, closing: false, left: false, follows: false }
    }

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
    fn expiry(&self) -> Option<Expiry> {
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
            started: now,
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
            failed: BTreeSet::new(),
            homeless: BTreeSet::new(),
            cold: BTreeSet::new(),
            schedules: BTreeMap::new(),
            turns: VecDeque::new(),
            fired: Vec::new(),
            ticks: BTreeMap::new(),
        }
    }

    /// The engine starts again: every session is gone, and every lease but the durable ones, which go on with what was left of
    /// them. Its epoch and next id are the engine's to choose.
    ///
    /// `reserves` says of jobs that were written again, whole, how many of their reserves were known then, and `homeless` which jobs
    /// cannot be kept when they end, and `cold` which of those are not in memory.
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
        (homeless, cold): (&BTreeSet<JobId>, &BTreeSet<JobId>),
    ) -> Vec<(JobId, Vec<u8>)> {
        assert!(now >= self.now, "time goes on across a restart");
        self.sessions.clear();
        self.followed.clear();
        let away = now.since(self.now);
        let mut is_held = false;
        for (id, job) in &mut self.jobs {
            if let Some(&known) = reserves.get(id) {
                assert!((job.logged_reserves..=job.tally.reserves).contains(&known), "the reserves of job {id}");
                job.logged_reserves = known;
            }
            match &mut job.place {
                Place::Reserved { by, deadline, is_durable: true, .. } => {
                    (*by, *deadline, is_held) = (PAST, deadline.after(away), true);
                    job.progress = None;
                }
                Place::Reserved { .. } => job.settle_by_time(now),
                _ => {}
            }
            job.tally.reserves = job.logged_reserves;
            job.last_holder = None;
        }
        if is_held {
            let mut past = Session::new();
            past.stand_back().left = true;
            self.sessions.insert(PAST, past);
        }
        self.ticks.clear();
        for queue in self.queues.values_mut() {
            (queue.full_at, queue.throttled_until) = (Time(0), Time(0));
            queue.keys.clear();
        }
        self.homeless.clone_from(homeless);
        self.cold.clone_from(cold);
        (self.now, self.started) = (now, now);
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
                self.sessions.insert(*client, Session::new());
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
                outcome.is_done = self.tick();
                if outcome.is_done {
                    self.set_clock(*wall);
                    self.settle();
                }
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
                self.count_turn(held.job, |turns| &mut turns.released);
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
                self.count_turn(held.job, |turns| &mut turns.failed);
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

    fn engine_time(&self, wall: Time) -> Time {
        engine_time(wall, self.wall_offset)
    }

    /// What waits for a moment of the wall clock goes by what it shows from now on. What is due already stays as it was, but for
    /// what is blocked: that was not due to anybody.
    fn set_clock(&mut self, wall: Time) {
        self.wall_offset = i128::from(wall.0) - i128::from(self.now.0);
        let (now, offset) = (self.now, self.wall_offset);
        for job in self.jobs.values_mut() {
            let is_moved = job.place == Place::Blocked || (job.place == Place::Delayed && job.run_at > now);
            if let Some(at) = job.at_wall.filter(|_| is_moved) {
                job.run_at = engine_time(at, offset);
            }
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

/// When the wall clock shows `wall`, where it is so much ahead of engine time, in nanoseconds.
fn engine_time(wall: Time, offset: i128) -> Time {
    let nanos = (i128::from(wall.0) - offset).clamp(0, i128::from(u64::MAX - 1));
    Time(u64::try_from(nanos).expect("clamped to the range"))
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
