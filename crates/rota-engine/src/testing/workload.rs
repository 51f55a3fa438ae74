//! What simulated clients ask, and when: requests that hold all that they need, and a generator that throws them.
//!
//! The generator looks at the model to ask things that matter (the id of a job that is there, the moment of the next
//! deadline), and often enough asks what must be refused. [`super::lockstep`] feeds its inputs to engine and model.

use super::model::{Job, Model, Place};
use super::random::Random;
use crate::command::{Command, Due, Held, KickSource, NewJob, OnConflict, Parent, ScheduleCommand, Target};
use crate::job::{JobId, LeaseToken, Priority, QueueName, Time};
use crate::limits::{
    ACTOR_BYTES, ANSWER_BYTES, ERROR_BYTES, KEY_BYTES, KIND_BYTES, LIMIT_KEY_BYTES, PARENTS, PROGRESS_BYTES,
    RESULT_BYTES,
};
use crate::note::{Note, Noted, NotedWhy};
use crate::queue::{PerKey, QueueSettings, QueueSync, Rate};
use crate::schedule::{OnMissed, OnOverlap, ScheduleSpec, Template, Timing};
use crate::session::Actor;
use crate::terms::{BackOff, OnParentFailure, Terms};
use std::sync::Arc;
use std::time::Duration;

/// A client of a simulation; a number is never used twice.
pub type Client = u32;

/// In whose name a client asks: some in nobody's, some share a name, and some names are as long as they can be.
#[must_use]
pub fn actor_of(client: Client) -> Option<Actor> {
    let name = match client % 5 {
        0 | 1 => return None,
        2 => "the mailer".into(),
        3 => format!("client {client}"),
        _ => "x".repeat(ACTOR_BYTES),
    };
    Some(Actor::new(&name).expect("it keeps to the rule"))
}

/// Who holds what was held durably before a start. No client has that number.
pub const PAST: Client = 0;

/// Whether a client hands the tokens of its leases on, so that some of them may be durable.
#[must_use]
pub fn hands_tokens_on(client: Client) -> bool {
    !client.is_multiple_of(3)
}

/// One thing that happens to the engine from outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A session is opened.
    Open(Client),
    /// A session is closed.
    Close(Client),
    /// A session is left with what it holds.
    Leave(Client),
    /// What a session holds that was left is taken back.
    TakeBack(Client),
    /// A session follows its leases from now on.
    Follow(Client),
    /// A lease is ended without fault.
    DropLease(JobId, LeaseToken),
    /// A session stops waiting.
    StopWaiting(Client),
    /// A session asks for something.
    Ask(Client, Request),
    /// The engine is told that time passed.
    Tick,
    /// The engine is given what was looked up for ticks.
    DecideTicks,
    /// Something was changed beside the state, in that name.
    Tell(Note, Option<Actor>),
    /// The wall clock was set.
    SetClock(Time),
    /// The engine is stopped in good order.
    Stop,
}

/// A [`Command`] that owns what it names.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is the command of that name")]
pub enum Request {
    Put(Box<Put>),
    Use(QueueName),
    Watch(QueueName),
    Ignore(QueueName),
    Reserve { wait: Option<Duration> },
    ReserveJob(JobId),
    Delete(JobId),
    Complete { held: Held, result: Option<Vec<u8>> },
    Release { held: Held, priority: Priority, delay: Duration },
    Fail { held: Held, delay: Option<Duration>, error: Option<Vec<u8>> },
    Progress { held: Held, progress: Vec<u8> },
    Bury { held: Held, priority: Priority },
    Touch(Held),
    Cancel(JobId),
    CancelKey { queue: QueueName, key: Vec<u8> },
    Kick { queue: Option<QueueName>, limit: u64, source: Option<KickSource> },
    KickJob(JobId),
    Pause { queue: QueueName, length: Duration },
    Configure { queue: QueueName, settings: QueueSettings },
    KeepAnswer { key: Vec<u8>, fingerprint: u64, answer: Vec<u8> },
    Schedule(QueueName, ScheduleAsk),
}

/// What is asked of a schedule.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is the `ScheduleCommand` of that name")]
pub enum ScheduleAsk {
    Set(ScheduleSpec),
    Remove,
    Pause(bool),
    Run,
}

/// A [`NewJob`] that owns what it names; without a queue it goes to the one in use.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the one of that name in `NewJob`")]
pub struct Put {
    pub queue: Option<QueueName>,
    pub priority: Priority,
    pub due: Due,
    pub ttr: Duration,
    pub max_lost_leases: u16,
    pub max_attempts: u16,
    pub key: Option<Vec<u8>>,
    pub on_conflict: OnConflict,
    pub after: Vec<ParentNamed>,
    pub expires: Option<Due>,
    pub terms: Option<Terms>,
    pub body: Vec<u8>,
}

/// A [`Parent`] that owns what it names.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is the one of that name")]
pub enum ParentNamed {
    Id(JobId),
    Key { queue: QueueName, key: Vec<u8> },
}

impl ParentNamed {
    fn named(&self) -> Parent<'_> {
        match self {
            ParentNamed::Id(job) => Parent::Id(*job),
            ParentNamed::Key { queue, key } => Parent::Key { queue, key },
        }
    }
}

impl Request {
    /// The parents that a put names, for [`Request::command`].
    #[must_use]
    pub fn parents(&self) -> Vec<Parent<'_>> {
        if let Request::Put(put) = self { put.after.iter().map(ParentNamed::named).collect() } else { Vec::new() }
    }

    /// The command that says this; `parents` are its own.
    #[must_use]
    pub fn command<'a>(&'a self, parents: &'a [Parent<'a>]) -> Command<'a> {
        match self {
            Request::Put(put) => Command::Put(NewJob {
                queue: target(put.queue.as_ref()),
                priority: put.priority,
                due: put.due,
                ttr: put.ttr,
                max_lost_leases: put.max_lost_leases,
                max_attempts: put.max_attempts,
                key: put.key.as_deref(),
                on_conflict: put.on_conflict,
                after: parents,
                expires: put.expires,
                terms: put.terms.clone().map(Box::new),
                body: put.body.as_slice().into(),
            }),
            Request::Use(queue) => Command::Use(queue),
            Request::Watch(queue) => Command::Watch(queue),
            Request::Ignore(queue) => Command::Ignore(queue),
            Request::Reserve { wait } => Command::Reserve { wait: *wait },
            Request::ReserveJob(job) => Command::ReserveJob(*job),
            Request::Delete(job) => Command::Delete(*job),
            Request::Complete { held, result } => Command::Complete { held: *held, result: result.as_deref() },
            Request::Release { held, priority, delay } => {
                Command::Release { held: *held, priority: *priority, delay: *delay }
            }
            Request::Fail { held, delay, error } => {
                Command::Fail { held: *held, delay: *delay, error: error.as_deref() }
            }
            Request::Progress { held, progress } => Command::Progress { held: *held, progress },
            Request::Bury { held, priority } => Command::Bury { held: *held, priority: *priority },
            Request::Touch(held) => Command::Touch(*held),
            Request::Cancel(job) => Command::Cancel(*job),
            Request::CancelKey { queue, key } => Command::CancelKey { queue, key },
            Request::Kick { queue, limit, source } => {
                Command::Kick { queue: target(queue.as_ref()), limit: *limit, source: *source }
            }
            Request::KickJob(job) => Command::KickJob(*job),
            Request::Pause { queue, length } => Command::Pause { queue, length: *length },
            Request::Configure { queue, settings } => Command::Configure { queue, settings },
            Request::KeepAnswer { key, fingerprint, answer } => {
                Command::KeepAnswer { key, fingerprint: *fingerprint, answer }
            }
            Request::Schedule(name, ask) => Command::Schedule(Box::new(match ask {
                ScheduleAsk::Set(spec) => ScheduleCommand::Set { name, spec: spec.clone() },
                ScheduleAsk::Remove => ScheduleCommand::Remove(name),
                ScheduleAsk::Pause(is_paused) => ScheduleCommand::Pause { name, is_paused: *is_paused },
                ScheduleAsk::Run => ScheduleCommand::Run(name),
            })),
        }
    }
}

fn target(queue: Option<&QueueName>) -> Target<'_> {
    queue.map_or(Target::Used, Target::Named)
}

/// About how far ahead jobs are put that hardly anybody waits for.
const FAR: Duration = Duration::from_secs(40 * 86_400);

fn far_span(random: &mut Random) -> Duration {
    FAR / 100 * random.within(1..300) as u32
}

/// What a workload is like: small worlds in which things meet often.
#[derive(Clone, Debug)]
pub struct Workload {
    queues: Vec<QueueName>,
    clients: usize,
    /// About so many jobs at a time.
    jobs: usize,
    /// The length of what is neither short nor long here.
    unit: Duration,
    priorities: Vec<Priority>,
    keys: u64,
    /// The wall clock is set now and then.
    sets_clock: bool,
    /// Most jobs are put for a time that few wait for.
    is_far_sighted: bool,
    /// How often queues are set up.
    settings: u64,
    /// How often something is asked of schedules.
    schedules: u64,
    /// How many limit keys there are; jobs have none where that is 0.
    limit_keys: u64,
    next_client: Client,
    /// Stamps of leases given before, for clients that come back too late.
    tokens: Vec<(JobId, LeaseToken)>,
    bodies: u64,
}

impl Workload {
    /// The workload of a seed; `most_jobs` bounds the number of jobs at a time, about. Above 150 it is that number.
    #[must_use]
    pub fn new(random: &mut Random, most_jobs: usize) -> Workload {
        let names = ["default", "a", "b", "some.longer/name;(1)", "c"];
        let queues = names[..random.within(1..6) as usize].iter().map(|name| QueueName::new(name));
        let units =
            [Duration::from_millis(1), Duration::from_millis(300), Duration::from_secs(2), Duration::from_secs(60)];
        let priorities: &[&[u32]] = &[&[0], &[0, 1], &[5, 1023, 1024, 7000], &[0, 1, 2, 3, u32::MAX]];
        let is_far_sighted = random.chance(1, 2);
        let jobs = if is_far_sighted { 150 } else { *random.pick(&[3, 12, 40, 150]) };
        Workload {
            queues: queues.collect::<Result<_, _>>().expect("they keep the rule for names"),
            clients: random.within(1..9) as usize,
            jobs: if most_jobs > 150 { most_jobs } else { jobs.min(most_jobs) },
            unit: *random.pick(&units),
            priorities: random.pick(priorities).iter().copied().map(Priority).collect(),
            // Where few are in memory, so many that some have a key whose holder is not, or none.
            keys: random.within(if is_far_sighted { 4..30 } else { 1..6 }),
            sets_clock: random.chance(1, 2),
            is_far_sighted,
            settings: *random.pick(&[0, 1, 5]),
            schedules: *random.pick(if is_far_sighted { &[0, 2, 10, 20] } else { &[0, 0, 2, 10] }),
            // Where most is far ahead, jobs that nobody can have would soon be all there are.
            limit_keys: if is_far_sighted && random.chance(3, 4) { 0 } else { *random.pick(&[0, 1, 3, 20]) },
            next_client: 0,
            tokens: Vec::new(),
            bodies: 0,
        }
    }

    /// Tells of a lease that was given.
    pub fn leased(&mut self, job: JobId, token: LeaseToken) {
        if self.tokens.len() >= 32 {
            self.tokens.remove(0);
        }
        self.tokens.push((job, token));
    }

    /// How long it is until the next thing happens.
    pub fn lapse(&self, random: &mut Random, model: &Model) -> Duration {
        match random.weighted(&[60, 20, 12, 8, 1]) {
            0 => Duration::ZERO,
            1 => self.unit / 50 * random.below(10) as u32,
            2 => self.unit * random.below(5) as u32,
            3 => {
                // The very moment of a deadline, or a nanosecond beside it.
                let Some(next) = model.next_deadline() else { return self.unit };
                let to_next = next.since(model.now());
                if self.is_far_sighted && to_next > FAR / 1000 {
                    return self.unit;
                }
                let around =
                    [to_next, to_next.saturating_sub(Duration::from_nanos(1)), to_next + Duration::from_nanos(1)];
                (*random.pick(&around)).min(Duration::from_secs(40 * 86400))
            }
            _ => {
                let most = if random.chance(1, 20) { 2_000_000 } else { 5000 };
                Duration::from_secs(random.below(most))
            }
        }
    }

    /// The next thing that happens.
    pub fn input(&mut self, random: &mut Random, model: &Model) -> Input {
        let clients = model.clients();
        if clients.is_empty() || (clients.len() < self.clients && random.chance(1, 10)) {
            self.next_client += 1;
            return Input::Open(self.next_client);
        }
        match random.weighted(&[400, 60, 4, 2, 6, 2, 4, 4, 2, 3 * u64::from(self.sets_clock)]) {
            0 => {
                // Who waits for an answer mostly asks nothing else meanwhile.
                let mut client = *random.pick(&clients);
                if model.is_waiting(client) && random.chance(9, 10) {
                    client = *random.pick(&clients);
                }
                Input::Ask(client, self.request(random, model, client))
            }
            1 => Input::Tick,
            2 => Input::Close(*random.pick(&clients)),
            3 => Input::StopWaiting(*random.pick(&clients)),
            4 => Input::Leave(*random.pick(&clients)),
            5 => {
                let left = model.left();
                if left.is_empty() { Input::Tick } else { Input::TakeBack(*random.pick(&left)) }
            }
            6 => Input::Follow(*random.pick(&clients)),
            7 => {
                let lease = |(&id, job): (&JobId, &Job)| match job.place {
                    Place::Reserved { token, .. } => Some((id, token)),
                    _ => None,
                };
                let mut leases: Vec<(JobId, LeaseToken)> = model.jobs().iter().filter_map(lease).collect();
                // Some that ended before.
                leases.extend(self.tokens.iter().take(1));
                if leases.is_empty() {
                    return Input::Tick;
                }
                let (job, token) = *random.pick(&leases);
                Input::DropLease(job, token)
            }
            8 => Input::Tell(self.note(random), actor_of(*random.pick(&clients))),
            _ => {
                let hour = 3_600_000_000_000;
                // What is far ahead comes by such a step, too.
                let most = if self.is_far_sighted { 24 * hour } else { hour };
                let step = random.pick(&[1, 1_000_000_000, hour, most]).to_owned();
                let wall = model.wall().0.saturating_add(random.below(2 * step)).saturating_sub(step);
                Input::SetClock(Time(wall))
            }
        }
    }

    fn note(&self, random: &mut Random) -> Note {
        Note {
            what: *random.pick(&Noted::ALL),
            subject: self.queue(random),
            name: actor_of(random.below(5) as Client),
            why: *random.pick(&[None, Some(NotedWhy::Asked), Some(NotedWhy::Gone)]),
        }
    }

    fn request(&mut self, random: &mut Random, model: &Model, client: Client) -> Request {
        let many = model.jobs().len() >= self.jobs;
        let puts = if many { 20 } else { 100 };
        let ends = if many { 60 } else { 20 };
        // Where most is far ahead, it is rarely called off or called for.
        let (ends, calls) = if self.is_far_sighted && !many { (4, 1) } else { (ends, 9) };
        let weights = [
            puts,
            4,
            10,
            6,
            90,
            calls,
            ends,
            ends,
            15,
            10,
            10,
            8,
            ends / 2,
            6,
            calls,
            calls,
            3,
            4,
            3,
            self.settings,
            self.schedules,
        ];
        match random.weighted(&weights) {
            0 => Request::Put(Box::new(self.put(random, model))),
            1 => Request::Use(self.queue(random)),
            2 => Request::Watch(self.queue(random)),
            3 => Request::Ignore(self.queue(random)),
            4 => Request::Reserve {
                wait: match random.below(4) {
                    0 => Some(Duration::ZERO),
                    1 => None,
                    _ => Some(self.span(random)),
                },
            },
            5 => Request::ReserveJob(self.job(random, model, client)),
            6 => Request::Delete(self.job(random, model, client)),
            7 => Request::Complete {
                held: self.held(random, model, client),
                result: random.chance(1, 4).then(|| said(random, RESULT_BYTES)),
            },
            8 => Request::Release {
                held: self.held(random, model, client),
                priority: *random.pick(&self.priorities),
                delay: self.delay(random),
            },
            9 => Request::Fail {
                held: self.held(random, model, client),
                delay: random.chance(1, 2).then(|| self.delay(random)),
                error: random.chance(1, 2).then(|| said(random, ERROR_BYTES)),
            },
            10 => Request::Bury { held: self.held(random, model, client), priority: *random.pick(&self.priorities) },
            11 => Request::Touch(self.held(random, model, client)),
            12 => Request::Cancel(self.job(random, model, client)),
            13 => Request::CancelKey { queue: self.queue(random), key: self.key(random) },
            14 => Request::Kick {
                queue: random.chance(1, 2).then(|| self.queue(random)),
                limit: *random.pick(if self.is_far_sighted {
                    &[0, 1, 2, 7][..]
                } else {
                    &[0, 1, 2, 7, 1200, u64::MAX]
                }),
                source: *random.pick(&[None, None, Some(KickSource::Buried), Some(KickSource::Delayed)]),
            },
            15 => Request::KickJob(self.job(random, model, client)),
            16 => Request::Pause { queue: self.queue(random), length: self.delay(random) },
            17 => Request::Progress { held: self.held(random, model, client), progress: said(random, PROGRESS_BYTES) },
            18 => Request::KeepAnswer {
                key: self.key(random),
                fingerprint: random.below(3),
                answer: said(random, ANSWER_BYTES),
            },
            19 => Request::Configure { queue: self.queue(random), settings: self.settings(random) },
            _ => self.schedule(random, model),
        }
    }

    fn schedule(&mut self, random: &mut Random, model: &Model) -> Request {
        let names: [&str; 3] = ["nightly", "b", "of.some/length;(2)"];
        let name = QueueName::new(random.pick::<&str>(&names)).expect("it keeps the rule for names");
        let ask = match random.weighted(&[6, 2, 3, 2]) {
            0 => ScheduleAsk::Set(self.schedule_spec(random, model)),
            1 => ScheduleAsk::Remove,
            2 => ScheduleAsk::Pause(random.chance(1, 2)),
            _ => ScheduleAsk::Run,
        };
        Request::Schedule(name, ask)
    }

    fn schedule_spec(&mut self, random: &mut Random, model: &Model) -> ScheduleSpec {
        self.bodies += 1;
        let second = 1_000_000_000;
        let on_missed = *random.pick(&[OnMissed::Skip, OnMissed::Once, OnMissed::All]);
        // Where all are made up for, so rarely that a long sleep passes over fewer ticks than a step handles: what goes idle
        // at its end is for the engine to say. Else rarely so often that it passes over more than are counted.
        let period = second
            * match on_missed {
                OnMissed::All => *random.pick(&[14_400, 40_000, 86_400]),
                // Where jobs leave memory little time passes.
                _ if self.is_far_sighted && random.chance(1, 2) => *random.pick(&[300, 600]),
                _ if random.chance(1, 12) => *random.pick(&[1, 37]),
                _ => *random.pick(&[600, 3600, 14_400, 86_400]),
            };
        let wall = model.wall().0;
        let timing = match random.below(8) {
            0..4 => Timing::Every {
                span: match random.below(16) {
                    0 => *random.pick(&[Duration::ZERO, Duration::from_millis(999), Duration::MAX]),
                    _ => Duration::from_nanos(period),
                },
                from: random.chance(1, 2).then(|| Time((wall + random.below(2 * period)).saturating_sub(period))),
            },
            4 => {
                Timing::Cron { expression: format!("once {}", wall + random.below(period)).into(), zone: "UTC".into() }
            }
            _ => Timing::Cron {
                expression: format!("every {period} bent {}", random.below(period / 3)).into(),
                zone: random.pick(&["UTC", "UTC", "UTC", "nowhere"]).to_string().into(),
            },
        };
        let body: Vec<u8> = [&self.bodies.to_le_bytes()[..], &[7; 20][..random.below(20) as usize]].concat();
        let template = Template {
            priority: *random.pick(&self.priorities),
            ttr: self.span(random),
            max_lost_leases: *random.pick(&[0, 1]),
            max_attempts: *random.pick(&[0, 1, 2]),
            key: random.chance(if self.is_far_sighted { 3 } else { 1 }, 4).then(|| self.key(random).into()),
            expires: random.chance(2, 3).then(|| self.span(random)),
            terms: random.chance(1, 4).then(|| Box::new(self.terms(random))),
            ..Template::new(self.queue(random), body.into())
        };
        ScheduleSpec {
            timing,
            on_missed,
            on_overlap: *random.pick(&[OnOverlap::Allow, OnOverlap::Skip]),
            template: Arc::new(template),
        }
    }

    fn put(&mut self, random: &mut Random, model: &Model) -> Put {
        self.bodies += 1;
        let mut body = self.bodies.to_le_bytes().to_vec();
        body.resize(random.below(40) as usize, random.bits() as u8);
        let wall = model.wall().0;
        let reach = self.unit.as_nanos() as u64 * 20;
        Put {
            queue: random.chance(2, 3).then(|| self.queue(random)),
            priority: *random.pick(&self.priorities),
            due: match random.below(8) {
                0 => Due::At(Time((wall + random.below(reach)).saturating_sub(reach / 4))),
                1 => Due::At(*random.pick(&[Time(0), Time(wall), Time(wall + 1), Time::NEVER])),
                2..4 if self.is_far_sighted => Due::At(Time(wall).after(far_span(random))),
                _ => Due::In(self.delay(random)),
            },
            ttr: match random.below(20) {
                0 => *random.pick(&[Duration::ZERO, Duration::MAX, Duration::from_nanos(1)]),
                _ => self.span(random) + self.unit,
            },
            max_lost_leases: *random.pick(&[0, 0, 1, 3]),
            max_attempts: *random.pick(&[0, 0, 1, 2]),
            key: random.chance(1, 3).then(|| self.key(random)),
            on_conflict: *random.pick(&[OnConflict::Reject, OnConflict::Keep, OnConflict::Replace]),
            after: if random.chance(1, 5) { self.parents(random, model) } else { Vec::new() },
            expires: match random.below(24) {
                0 => Some(Due::In(self.delay(random))),
                1 | 2 => Some(Due::At(Time((wall + random.below(reach)).saturating_sub(reach / 8)))),
                3..6 if self.is_far_sighted => Some(Due::At(Time(wall).after(far_span(random)))),
                6..8 if self.is_far_sighted => Some(Due::In(far_span(random))),
                _ => None,
            },
            terms: self.terms_or_none(random),
            body,
        }
    }

    /// Mostly jobs that are there.
    fn parents(&self, random: &mut Random, model: &Model) -> Vec<ParentNamed> {
        let count = if random.chance(1, 100) { PARENTS + 1 } else { random.within(1..4) as usize };
        let parent = |random: &mut Random| match random.below(12) {
            0 => ParentNamed::Key { queue: self.queue(random), key: self.key(random) },
            1 | 2 => {
                let failed: Vec<JobId> = model.failed().rev().take(8).map(|(_, job)| job).collect();
                ParentNamed::Id(if failed.is_empty() { JobId(1) } else { *random.pick(&failed) })
            }
            _ => ParentNamed::Id(self.job(random, model, 0)),
        };
        (0..count).map(|_| parent(random)).collect()
    }

    fn terms_or_none(&self, random: &mut Random) -> Option<Terms> {
        let mut terms = random.chance(1, 4).then(|| self.terms(random));
        if self.limit_keys > 0 && random.chance(2, 3) {
            let key = match random.below(200) {
                0 => String::new(),
                1 => "k".repeat(LIMIT_KEY_BYTES + random.below(2) as usize),
                _ => random.below(self.limit_keys).to_string(),
            };
            terms.get_or_insert_default().limit_key = Some(key.into());
        }
        terms
    }

    fn terms(&self, random: &mut Random) -> Terms {
        let text = |random: &mut Random, most: u64| "k".repeat(random.below(most) as usize).into_boxed_str();
        Terms {
            kind: random.chance(1, 3).then(|| text(random, KIND_BYTES as u64 / 2 * 3)),
            headers: (0..random.below(3)).map(|_| (text(random, 9), text(random, 300))).collect(),
            on_parent_failure: *random.pick(&[OnParentFailure::Cancel, OnParentFailure::Run, OnParentFailure::Hold]),
            back_off: random.chance(1, 3).then(|| BackOff {
                first: self.span(random),
                factor_hundredths: *random.pick(&[0, 100, 150, 400]),
                most: *random.pick(&[self.unit * 10, Duration::MAX]),
                jitter_percent: *random.pick(&[0, 20, 100, 101]),
            }),
            ..Terms::default()
        }
    }

    fn settings(&self, random: &mut Random) -> QueueSettings {
        if random.chance(1, 3) {
            return QueueSettings::default();
        }
        QueueSettings {
            retain: random.chance(2, 3).then(|| self.span(random) * 3),
            max_jobs: random.chance(1, 4).then(|| random.below(2 * self.jobs as u64)),
            max_bytes: random.chance(1, 4).then(|| random.below(40 * self.jobs as u64)),
            concurrency: random.chance(1, 3).then(|| random.below(4) as u32),
            rate: random.chance(1, 3).then(|| Rate { count: random.within(1..5) as u32, per: self.span(random) }),
            per_key: (self.limit_keys > 0 && random.chance(2, 3)).then(|| PerKey {
                concurrency: random.chance(2, 3).then(|| *random.pick(&[0, 1, 1, 2, 3])),
                rate: random.chance(1, 2).then(|| Rate { count: random.within(1..5) as u32, per: self.span(random) }),
            }),
            durable_leases: random.chance(3, 4),
            sync: random.chance(1, 4).then_some(QueueSync::Always),
        }
    }

    fn queue(&self, random: &mut Random) -> QueueName {
        random.pick(&self.queues).clone()
    }

    fn key(&self, random: &mut Random) -> Vec<u8> {
        match random.below(40) {
            0 => Vec::new(),
            1 => vec![b'k'; KEY_BYTES + random.below(2) as usize],
            _ => vec![0, random.below(self.keys) as u8],
        }
    }

    /// Around the length of the workload's unit.
    fn span(&self, random: &mut Random) -> Duration {
        self.unit * random.below(8) as u32 + Duration::from_nanos(random.below(3))
    }

    fn delay(&self, random: &mut Random) -> Duration {
        match random.below(20) {
            _ if self.is_far_sighted && random.chance(2, 3) => far_span(random),
            0..10 => Duration::ZERO,
            10..18 => self.span(random),
            18 => Duration::from_secs(random.below(100_000)),
            _ => *random.pick(&[Duration::MAX, Duration::from_nanos(1), Duration::from_secs(u64::from(u32::MAX))]),
        }
    }

    /// Mostly a job that is there.
    fn job(&self, random: &mut Random, model: &Model, client: Client) -> JobId {
        if random.chance(1, 3) {
            return self.held_job(random, model, client);
        }
        let jobs = model.jobs();
        let next = model.next_job_id();
        if jobs.is_empty() || random.chance(1, 12) {
            return JobId(random.below(next.saturating_add(3)));
        }
        let from = JobId(random.within(jobs.first_key_value().map_or(0, |(id, _)| id.0)..next));
        *jobs.range(from..).next().or_else(|| jobs.first_key_value()).expect("there is one").0
    }

    /// Mostly a job that the client holds.
    fn held_job(&self, random: &mut Random, model: &Model, client: Client) -> JobId {
        let is_own = |place: &Place| matches!(place, Place::Reserved { by, .. } if *by == client);
        let held: Vec<JobId> = model.jobs().iter().filter(|(_, job)| is_own(&job.place)).map(|(&id, _)| id).collect();
        if held.is_empty() { JobId(random.below(model.next_job_id().saturating_add(3))) } else { *random.pick(&held) }
    }

    fn held(&self, random: &mut Random, model: &Model, client: Client) -> Held {
        if !self.tokens.is_empty() && random.chance(1, 8) {
            let &(job, token) = random.pick(&self.tokens);
            return Held { job, token: Some(token) };
        }
        let job = self.held_job(random, model, client);
        match model.jobs().get(&job).map(|job| &job.place) {
            Some(&Place::Reserved { token, .. }) if random.chance(1, 3) => Held { job, token: Some(token) },
            _ => Held::by_me(job),
        }
    }
}

/// What a holder says; now and then too much. What is long and not too long would not fit into the segments of a simulation,
/// and room for such is not kept on a full disk.
fn said(random: &mut Random, most: usize) -> Vec<u8> {
    let length = if random.chance(1, 60) { most as u64 + 1 } else { random.below(30) };
    vec![b's'; length as usize]
}
