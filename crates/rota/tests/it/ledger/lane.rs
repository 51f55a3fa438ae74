//! A lane: one thread's commands on tubes that nobody else touches, and the model that foretells every answer.
//!
//! A lane sends a batch of commands on one of its two connections, often pipelined, and reads the answers. Each must
//! be the one foretold. When the server dies, the batch's commands without an answer are the ones that may or may not
//! have happened; as a server carries a connection's commands out in order, and its log keeps that order, only a first
//! part of them can have. [`Lane::settle`] looks which. After a power cut that may take the newest of what was answered
//! too, what is left is a first part of all the commands since the server's start.
//!
//! Within a batch every job changes in ways that show (a priority that it did not have, a delay that it did not have),
//! so that two first parts that look alike from outside are alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::{Span, Tear};
use crate::wire::{Answer, Wire, put_bytes};

/// Tubes of a lane.
const TUBES: usize = 2;

/// Commands in a batch, at the most.
const BATCH: usize = 24;

/// Above so many jobs a lane rather deletes.
const JOBS: usize = 60;

/// Delays are a few times this many seconds, and a counter that rises: nothing is due while a store lives, no two are
/// the same, and the longer one ends later, whichever began first.
const DELAY_UNIT: u64 = 10_000_000;

/// A pause that no store outlives.
const PAUSE_SECONDS: u64 = 1_000_000;

/// Commands that a failure shows.
const RECENT: usize = 400;

/// What the ledger knows of a job.
#[derive(Clone)]
struct Job {
    /// Unknown until its put was answered, or the job was found.
    id: Option<u64>,
    tube: usize,
    priority: u32,
    state: State,
    key: Option<String>,
    body: Arc<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ready,
    /// For so many seconds.
    Delayed(u64),
    /// The number orders burials.
    Buried(u64),
    /// By this connection of the lane.
    Held(usize),
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Job { id, tube, priority, state, key, body } = self;
        write!(f, "{id:?} in {tube}, {state:?}, priority {priority}, key {key:?}, {} bytes", body.len())
    }
}

/// The lane's jobs as they are after some of its commands. A job goes by the serial number of its put.
#[derive(Clone, Default)]
struct Model {
    jobs: BTreeMap<u32, Job>,
    paused: [bool; TUBES],
    used: [usize; 2],
    /// Counts commands, so that burials have an order.
    order: u64,
}

#[derive(Clone)]
enum Command {
    Put { serial: u32, priority: u32, delay: u64, key: Option<String>, body: Arc<[u8]> },
    Use(usize),
    ReserveJob(u32),
    Reserve,
    Delete(u32),
    Release(u32, u32, u64),
    Bury(u32, u32),
    Touch(u32),
    Kick(usize),
    KickJob(u32),
    Cancel(u32),
    CancelKey(usize, String),
    Pause(usize, bool),
}

/// What a command is to be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Foretold {
    Word(&'static str),
    Kicked(usize),
    Using(usize),
    Inserted(u32),
    KeyTaken(u32),
    Cancelled(u32),
    ReservedJob(u32),
    /// The best of the ready ones, whichever that is.
    Reserved,
}

/// What was found of a job after a restart.
pub(super) struct Found {
    pub(super) tube: String,
    pub(super) state: String,
    pub(super) priority: u32,
    pub(super) delay: u64,
    pub(super) body: Vec<u8>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { tube, state, priority, delay, body } = self;
        let begin = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        write!(f, "{tube}, {state}, priority {priority}, delay {delay}, {} bytes: {begin:?}", body.len())
    }
}

/// A command that changed something, with when it was sent and answered.
#[derive(Clone)]
struct Step {
    sender: usize,
    command: Command,
    sent: Instant,
    answered: Option<Instant>,
    /// What a put was given.
    id: Option<u64>,
}

/// A lane.
pub(super) struct Lane {
    name: String,
    rng: Rng,
    /// Whether some of its bodies are as large as bodies get.
    large_bodies: bool,
    serials: u32,
    delays: u64,
    /// After all that was answered.
    model: Model,
    /// As the server at work found it, and all that was answered since and changed it.
    base: Model,
    history: Vec<Step>,
    /// What was sent since, in order, by which connection, and when.
    unanswered: (usize, Vec<Command>),
    sent: Instant,
    /// Ids of this run that were acknowledged, gone or not.
    pub(super) acknowledged: BTreeSet<u64>,
    newest_id: u64,
    /// The newest commands with their answers, for whoever has to find out.
    recent: VecDeque<String>,
    pub(super) answers: u64,
}

impl Lane {
    pub(super) fn new(number: usize, seed: u64, large_bodies: bool) -> Lane {
        Lane {
            name: format!("lane-{number}"),
            rng: Rng::with_seed(seed),
            large_bodies,
            serials: 0,
            delays: 0,
            model: Model::default(),
            base: Model::default(),
            history: Vec::new(),
            unanswered: (0, Vec::new()),
            sent: Instant::now(),
            acknowledged: BTreeSet::new(),
            newest_id: 0,
            recent: VecDeque::new(),
            answers: 0,
        }
    }

    /// Works until the connection is lost, or it is enough; by one connection only if `single` says so.
    pub(super) fn work(&mut self, address: SocketAddr, single: bool, enough: impl Fn() -> bool) -> io::Result<()> {
        self.model.used = [0; 2];
        self.base = self.model.clone();
        self.history.clear();
        let mut wires = [Wire::connect(address)?, Wire::connect(address)?];
        for wire in &mut wires {
            for tube in 0..TUBES {
                wire.send(format!("watch {}\r\n", self.tube(tube)))?;
            }
            wire.send(format!("ignore default\r\nuse {}\r\n", self.tube(0)))?;
            for _ in 0..TUBES + 2 {
                wire.answer()?;
            }
        }
        while !enough() {
            let sender = usize::from(!single && self.rng.u8(..5) == 0);
            let (batch, foretold) = self.compose(sender);
            let bytes: Vec<u8> = batch.iter().flat_map(|command| self.encode(command)).collect();
            self.unanswered = (sender, batch);
            self.sent = Instant::now();
            wires[sender].send(bytes)?;
            for foretold in foretold {
                let answer = super::answer(&mut wires[sender])?;
                let command = self.unanswered.1.remove(0);
                self.take(sender, &command, &foretold, &answer);
            }
        }
        Ok(())
    }

    /// How many puts the server may have carried out without a word of it.
    pub(super) fn unanswered_puts(&self) -> u64 {
        let puts = |command: &&Command| matches!(command, Command::Put { .. });
        self.unanswered.1.iter().filter(puts).count() as u64
    }

    /// Ids of jobs that were there, by all that was answered, or when the server at work came up.
    pub(super) fn known_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.model.jobs.values().chain(self.base.jobs.values()).filter_map(|job| job.id)
    }

    pub(super) fn owns(&self, tube: &str) -> bool {
        tube.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Decides what became of the unanswered commands, by what was found, and of those that were answered if `may_lose`
    /// says that the newest of them may be gone. Returns where the two parts.
    pub(super) fn settle(&mut self, found: &BTreeMap<u64, Found>, wire: &mut Wire, may_lose: bool) -> Tear {
        let found: BTreeMap<u64, &Found> =
            found.iter().filter(|(_, job)| self.owns(&job.tube)).map(|(&id, job)| (id, job)).collect();
        let paused = self.paused(wire);
        let (sender, commands) = std::mem::take(&mut self.unanswered);
        let sent = self.sent;
        let unanswered = commands.into_iter();
        let unanswered = unanswered.map(|command| Step { sender, command, sent, answered: None, id: None });
        let mut steps = std::mem::take(&mut self.history);
        let base = std::mem::take(&mut self.base);
        let mut model = match may_lose {
            true => base,
            false => {
                steps.clear();
                self.model.clone()
            }
        };
        steps.extend(unanswered);
        let by_body = found.iter().map(|(&id, &job)| (&job.body[..], (id, job))).collect();
        let mut why = Vec::new();
        let mut fits: Option<(usize, usize, Model)> = None;
        for done in 0..=steps.len() {
            if let Some(step) = done.checked_sub(1).map(|newest| &steps[newest]) {
                model.take(step);
            }
            match self.differs(&model, &by_body, paused) {
                Some(differs) => why.push(differs),
                None => {
                    let first = fits.as_ref().map_or(done, |(first, ..)| *first);
                    fits = Some((first, done, model.clone()));
                }
            }
        }
        let Some((first, last, mut model)) = fits else {
            let newest = steps.len().saturating_sub(RECENT);
            let commands: Vec<&Command> = steps[newest..].iter().map(|step| &step.command).collect();
            let why = &why[why.len().saturating_sub(RECENT)..];
            panic!(
                "{}: what is there is not what was promised, with any first part of what was not\n\
                 the newest of what may be gone: {commands:?}\nwhat differs after one more of these: {why:#?}\n\
                 found: {found:#?}\npaused: {paused:?}",
                self.name
            );
        };
        for job in model.jobs.values_mut() {
            let id = by_body[&job.body[..]].0;
            assert!(job.id.is_some() || id > self.newest_id, "{id} was given twice: {}", self.newest_id);
            job.id = Some(id);
            if let State::Held(_) = job.state {
                job.state = State::Ready;
            }
        }
        self.base = model.clone();
        self.model = model;
        self.acknowledged.clear();
        // Up to the first that fits, the newest changed what is seen; behind the last that fits, the next one would have.
        let lost = steps[last..].iter();
        Tear {
            kept_sent: first.checked_sub(1).map(|newest| steps[newest].sent),
            lost: lost.filter_map(|step| step.answered).collect(),
        }
    }

    /// Checks that a snapshot has the lane as it was after a first part of its commands, which has all that were answered
    /// before the snapshot was asked for, and none that was sent after it was there.
    pub(super) fn compare_snapshot(&self, found: &BTreeMap<u64, Found>, wire: &mut Wire, span: Span) {
        let owned = found.iter().filter(|(_, job)| self.owns(&job.tube));
        let by_body = owned.map(|(&id, job)| (&job.body[..], (id, job))).collect();
        let paused = self.paused(wire);
        let (sender, commands) = &self.unanswered;
        let unanswered = commands.iter().map(|command| Step {
            sender: *sender,
            command: command.clone(),
            sent: self.sent,
            answered: None,
            id: None,
        });
        let steps: Vec<Step> = self.history.iter().cloned().chain(unanswered).collect();
        let answered = |step: &&Step| step.answered.is_some_and(|answered| answered < span.since);
        let least = steps.iter().take_while(answered).count();
        let most = steps.iter().take_while(|step| step.sent <= span.until).count();
        let (mut model, mut why) = (self.base.clone(), Vec::new());
        for done in 0..=most {
            if let Some(step) = done.checked_sub(1).map(|newest| &steps[newest]) {
                model.take(step);
            }
            if done < least {
                continue;
            }
            match self.differs(&model, &by_body, paused) {
                Some(differs) => why.push(differs),
                None => return,
            }
        }
        panic!(
            "{}: a snapshot is as after none of its commands {least} to {most} of {}; what differs: {why:#?}\n\
             found: {by_body:#?}\npaused: {paused:?}",
            self.name,
            steps.len()
        );
    }

    /// Which of its tubes are paused.
    fn paused(&self, wire: &mut Wire) -> [bool; TUBES] {
        std::array::from_fn(|tube| {
            let answer = wire.ask(&format!("stats-tube {}", self.tube(tube)));
            answer.line != "NOT_FOUND" && answer.count("pause-time-left") > 0
        })
    }

    /// What the model says that was not found so, if anything.
    fn differs(
        &self,
        model: &Model,
        by_body: &BTreeMap<&[u8], (u64, &Found)>,
        paused: [bool; TUBES],
    ) -> Option<String> {
        if model.paused != paused {
            return Some(format!("paused should be {:?}", model.paused));
        }
        for (serial, job) in &model.jobs {
            let Some(&(id, seen)) = by_body.get(&job.body[..]) else {
                return Some(format!("job {serial} (id {:?}) is not there: {job:?}", job.id));
            };
            let (state, delay) = match job.state {
                State::Ready | State::Held(_) => ("ready", None),
                State::Delayed(delay) => ("delayed", Some(delay)),
                State::Buried(_) => ("buried", None),
            };
            let same = job.id.is_none_or(|known| known == id)
                && seen.tube == self.tube(job.tube)
                && seen.state == state
                && seen.priority == job.priority
                && delay.is_none_or(|delay| seen.delay == delay);
            if !same {
                return Some(format!("job {serial} should be {job:?}, and is {id} {seen:?}"));
            }
        }
        // Bodies are unique, so that as many jobs with all of them there are the same jobs.
        (model.jobs.len() != by_body.len()).then(|| format!("there should be {} jobs", model.jobs.len()))
    }

    fn tube(&self, tube: usize) -> String {
        format!("{}/{tube}", self.name)
    }

    /// The next batch, with what it is to be answered.
    fn compose(&mut self, sender: usize) -> (Vec<Command>, Vec<Foretold>) {
        let size = if self.rng.bool() { 1 } else { self.rng.usize(1..=BATCH) };
        let mut ahead = self.model.clone();
        let mut batch = Vec::new();
        let mut foretold = Vec::new();
        let mut touched = BTreeSet::new();
        if self.rng.u8(..12) == 0 {
            let count = self.rng.usize(1..4);
            let kicked = ahead.next_kicked(ahead.used[sender], count);
            touched.extend(kicked);
            batch.push(Command::Kick(count));
        }
        while batch.len() < size {
            let mut commands = self.commands(&ahead, sender, &touched);
            for command in &commands {
                touched.extend(command.job());
            }
            batch.append(&mut commands);
            for command in &batch[foretold.len()..] {
                foretold.push(ahead.apply(sender, command));
            }
        }
        for command in &batch[foretold.len()..] {
            foretold.push(ahead.apply(sender, command));
        }
        if self.rng.u8(..3) == 0 {
            // Which job it gets is not foretold, so nothing follows it.
            batch.push(Command::Reserve);
            foretold.push(Foretold::Reserved);
        }
        (batch, foretold)
    }

    /// One command at random, or a few that belong together, on a job that the batch has not been about.
    fn commands(&mut self, ahead: &Model, sender: usize, touched: &BTreeSet<u32>) -> Vec<Command> {
        let free: Vec<u32> = ahead
            .jobs
            .iter()
            .filter(|(serial, job)| job.id.is_some() && !touched.contains(serial))
            .map(|(&serial, _)| serial)
            .collect();
        let crowded = ahead.jobs.len() > JOBS;
        let dice = self.rng.u8(..100);
        if dice < 35 && !crowded || free.is_empty() {
            return vec![self.put()];
        }
        let serial = free[self.rng.usize(..free.len())];
        let job = &ahead.jobs[&serial];
        let other_priority = job.priority.wrapping_add(self.rng.u32(1..2_000));
        let other_delay = if self.rng.bool() { self.delay() } else { 0 };
        match dice {
            _ if crowded && dice < 50 => vec![Command::Delete(serial)],
            0..50 => match self.rng.u8(..5) {
                0 => vec![Command::ReserveJob(serial), Command::Delete(serial)],
                1 => vec![Command::ReserveJob(serial), Command::Release(serial, other_priority, other_delay)],
                2 => vec![Command::ReserveJob(serial), Command::Bury(serial, other_priority)],
                3 => vec![Command::ReserveJob(serial), Command::Touch(serial)],
                _ => vec![Command::ReserveJob(serial)],
            },
            50..60 => vec![Command::Delete(serial)],
            60..70 => vec![Command::Release(serial, other_priority, other_delay)],
            70..80 => vec![Command::Bury(serial, other_priority)],
            80..84 => vec![Command::KickJob(serial)],
            84..88 => vec![Command::Cancel(serial)],
            88..91 => vec![Command::Touch(serial)],
            91..94 => match &job.key {
                Some(key) => vec![Command::CancelKey(job.tube, key.clone())],
                None => vec![Command::CancelKey(job.tube, String::from("nobody"))],
            },
            94..96 => vec![Command::Pause(self.rng.usize(..TUBES), self.rng.bool())],
            _ => {
                let tube = 1 - ahead.used[sender];
                vec![Command::Use(tube)]
            }
        }
    }

    fn put(&mut self) -> Command {
        self.serials += 1;
        let serial = self.serials;
        let delay = if self.rng.u8(..4) == 0 { self.delay() } else { 0 };
        // Few keys, so that they are often taken.
        let key = (self.rng.u8(..4) == 0).then(|| format!("key-{}", self.rng.u8(..12)));
        let most = if self.large_bodies && self.rng.u8(..3) == 0 { 65_000 } else { 120 };
        let length = self.rng.usize(..most);
        let mut body = format!("{} {serial}\r\nRGRP", self.name).into_bytes();
        body.extend(std::iter::repeat_with(|| self.rng.u8(..)).take(length));
        Command::Put { serial, priority: self.rng.u32(..2_000), delay, key, body: body.into() }
    }

    /// A delay that no job has or had.
    fn delay(&mut self) -> u64 {
        self.delays += 1;
        DELAY_UNIT * self.rng.u64(1..6) + self.delays
    }

    fn encode(&self, command: &Command) -> Vec<u8> {
        // As it was before the batch, so that one that the batch takes away can be named behind that.
        let id = |serial: &u32| self.id(*serial).expect("only jobs with a known id are named");
        let line = match command {
            Command::Put { priority, delay, key: None, body, .. } => {
                return put_bytes(&format!("put {priority} {delay} 5000"), body);
            }
            Command::Put { priority, delay, key: Some(key), body, .. } => {
                return put_bytes(&format!("put-in {priority} {delay}000 5000000 # {key}"), body);
            }
            Command::Use(tube) => format!("use {}", self.tube(*tube)),
            Command::ReserveJob(serial) => format!("reserve-job {}", id(serial)),
            Command::Reserve => String::from("reserve-with-timeout 0"),
            Command::Delete(serial) => format!("delete {}", id(serial)),
            Command::Release(serial, priority, delay) => {
                format!("release {} {priority} {delay}", id(serial))
            }
            Command::Bury(serial, priority) => format!("bury {} {priority}", id(serial)),
            Command::Touch(serial) => format!("touch {}", id(serial)),
            Command::Kick(count) => format!("kick {count}"),
            Command::KickJob(serial) => format!("kick-job {}", id(serial)),
            Command::Cancel(serial) => format!("cancel {}", id(serial)),
            Command::CancelKey(tube, key) => format!("cancel-key {} {key}", self.tube(*tube)),
            Command::Pause(tube, on) => {
                format!("pause-tube {} {}", self.tube(*tube), if *on { PAUSE_SECONDS } else { 0 })
            }
        };
        format!("{line}\r\n").into_bytes()
    }

    /// Checks an answer, and lets its command happen in the model.
    fn take(&mut self, sender: usize, command: &Command, foretold: &Foretold, answer: &Answer) {
        self.answers += 1;
        let named = match foretold {
            Foretold::KeyTaken(serial) | Foretold::Cancelled(serial) | Foretold::ReservedJob(serial) => {
                self.id(*serial).expect("the put of a job that is named was answered before")
            }
            _ => 0,
        };
        self.recent.push_back(format!("{sender}: {command:?}: {}", answer.line));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        let expected = match foretold {
            Foretold::Reserved => return self.take_reserved(sender, answer),
            Foretold::Word(word) => (*word).to_owned(),
            Foretold::Kicked(count) => format!("KICKED {count}"),
            Foretold::Using(tube) => format!("USING {}", self.tube(*tube)),
            Foretold::KeyTaken(_) => format!("KEY_TAKEN {named}"),
            Foretold::Cancelled(_) => format!("CANCELLED {named}"),
            Foretold::Inserted(_) => match answer.line.split_once(' ') {
                Some(("INSERTED", _)) => answer.line.clone(),
                _ => String::from("INSERTED and an id"),
            },
            Foretold::ReservedJob(serial) => {
                let body = &self.model.jobs[serial].body;
                assert!(answer.body.is_empty() || answer.body == body[..], "the body of {named} is another");
                format!("RESERVED {named} {}", body.len())
            }
        };
        if answer.line != expected {
            self.contradict(&format!("{expected} was due"));
        }
        self.model.apply(sender, command);
        let id = matches!(foretold, Foretold::Inserted(_)).then(|| answer.number(1));
        self.remember(sender, command.clone(), id);
        if let (Foretold::Inserted(serial), Some(id)) = (foretold, id) {
            if id <= self.newest_id {
                self.contradict(&format!("{} was issued before", self.newest_id));
            }
            self.newest_id = id;
            self.acknowledged.insert(id);
            self.model.jobs.get_mut(serial).expect("it was just put").id = Some(id);
        }
    }

    /// The same for a reserve, which may get any of the best.
    fn take_reserved(&mut self, sender: usize, answer: &Answer) {
        let best = self.model.best_ready();
        if answer.line == "TIMED_OUT" {
            if best.is_some() {
                self.contradict(&format!("a job of priority {best:?} is ready"));
            }
            return;
        }
        let id = answer.line.starts_with("RESERVED ").then(|| answer.number(1));
        let job = self.model.jobs.iter().find(|(_, job)| id.is_some() && job.id == id);
        let Some((&serial, job)) = job else { self.contradict("that one is gone, or was never put") };
        let is_free = job.state == State::Ready && !self.model.paused[job.tube];
        if !is_free || Some(job.priority) != best || job.body[..] != answer.body {
            self.contradict(&format!("that one is {job:?}, and the best priority {best:?}"));
        }
        self.model.jobs.get_mut(&serial).expect("it was just found").state = State::Held(sender);
        self.remember(sender, Command::ReserveJob(serial), None);
    }

    fn remember(&mut self, sender: usize, command: Command, id: Option<u64>) {
        let answered = Some(Instant::now());
        self.history.push(Step { sender, command, sent: self.sent, answered, id });
    }

    /// Fails the test: the newest answer cannot be.
    fn contradict(&self, why: &str) -> ! {
        let recent: String = self.recent.iter().flat_map(|line| [line, "\n"]).collect();
        panic!("{}: {why}. The newest commands and answers, by connection:\n{recent}", self.name);
    }

    fn id(&self, serial: u32) -> Option<u64> {
        self.model.jobs.get(&serial).and_then(|job| job.id)
    }
}

impl fmt::Debug for Command {
    /// As it is sent, with the serial number in the place of the id, and without the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Put { serial, priority, delay, key, body } => {
                write!(f, "put {priority} {delay} {} {key:?} [{serial}]", body.len())
            }
            Command::Use(tube) => write!(f, "use {tube}"),
            Command::ReserveJob(serial) => write!(f, "reserve-job [{serial}]"),
            Command::Reserve => write!(f, "reserve"),
            Command::Delete(serial) => write!(f, "delete [{serial}]"),
            Command::Release(serial, priority, delay) => write!(f, "release [{serial}] {priority} {delay}"),
            Command::Bury(serial, priority) => write!(f, "bury [{serial}] {priority}"),
            Command::Touch(serial) => write!(f, "touch [{serial}]"),
            Command::Kick(count) => write!(f, "kick {count}"),
            Command::KickJob(serial) => write!(f, "kick-job [{serial}]"),
            Command::Cancel(serial) => write!(f, "cancel [{serial}]"),
            Command::CancelKey(tube, key) => write!(f, "cancel-key {tube} {key}"),
            Command::Pause(tube, on) => write!(f, "pause-tube {tube} {on}"),
        }
    }
}

impl Command {
    /// The job that it names.
    fn job(&self) -> Option<u32> {
        match self {
            Command::Put { serial, .. }
            | Command::ReserveJob(serial)
            | Command::Delete(serial)
            | Command::Release(serial, ..)
            | Command::Bury(serial, _)
            | Command::Touch(serial)
            | Command::KickJob(serial)
            | Command::Cancel(serial) => Some(*serial),
            Command::Use(_) | Command::Reserve | Command::Kick(_) | Command::CancelKey(..) | Command::Pause(..) => None,
        }
    }
}

impl Model {
    /// Lets a step happen as it did.
    fn take(&mut self, step: &Step) {
        self.apply(step.sender, &step.command);
        if let (Command::Put { serial, .. }, Some(id)) = (&step.command, step.id) {
            self.jobs.get_mut(serial).expect("it was just put").id = Some(id);
        }
    }

    /// Lets a command of that connection happen, and foretells its answer.
    fn apply(&mut self, sender: usize, command: &Command) -> Foretold {
        self.order += 1;
        let order = self.order;
        let after = |delay: u64| if delay == 0 { State::Ready } else { State::Delayed(delay) };
        let held = |job: &&mut Job| job.state == State::Held(sender);
        match command {
            Command::Put { serial, priority, delay, key, body } => {
                let tube = self.used[sender];
                if let Some(taken) = key.as_ref().and_then(|key| self.with_key(tube, key)) {
                    return Foretold::KeyTaken(taken);
                }
                let (key, body) = (key.clone(), body.clone());
                let job = Job { id: None, tube, priority: *priority, state: after(*delay), key, body };
                self.jobs.insert(*serial, job);
                return Foretold::Inserted(*serial);
            }
            Command::Use(tube) => {
                self.used[sender] = *tube;
                return Foretold::Using(*tube);
            }
            Command::ReserveJob(serial) => match self.jobs.get_mut(serial) {
                Some(job) if !matches!(job.state, State::Held(_)) => {
                    job.state = State::Held(sender);
                    return Foretold::ReservedJob(*serial);
                }
                _ => {}
            },
            Command::Reserve => return Foretold::Reserved,
            Command::Delete(serial) => {
                let theirs = State::Held(1 - sender);
                if self.jobs.get(serial).is_some_and(|job| job.state != theirs) {
                    self.jobs.remove(serial);
                    return Foretold::Word("DELETED");
                }
            }
            Command::Release(serial, priority, delay) => {
                if let Some(job) = self.jobs.get_mut(serial).filter(held) {
                    (job.priority, job.state) = (*priority, after(*delay));
                    return Foretold::Word("RELEASED");
                }
            }
            Command::Bury(serial, priority) => {
                if let Some(job) = self.jobs.get_mut(serial).filter(held) {
                    (job.priority, job.state) = (*priority, State::Buried(order));
                    return Foretold::Word("BURIED");
                }
            }
            Command::Touch(serial) => {
                if self.jobs.get_mut(serial).filter(held).is_some() {
                    return Foretold::Word("TOUCHED");
                }
            }
            Command::Kick(count) => {
                let kicked = self.next_kicked(self.used[sender], *count);
                for serial in &kicked {
                    self.jobs.get_mut(serial).expect("it was just found").state = State::Ready;
                }
                return Foretold::Kicked(kicked.len());
            }
            Command::KickJob(serial) => {
                let job = self.jobs.get_mut(serial);
                if let Some(job) = job.filter(|job| matches!(job.state, State::Delayed(_) | State::Buried(_))) {
                    job.state = State::Ready;
                    return Foretold::Word("KICKED");
                }
            }
            Command::Cancel(serial) => {
                if self.jobs.remove(serial).is_some() {
                    return Foretold::Word("CANCELLED");
                }
            }
            Command::CancelKey(tube, key) => {
                if let Some(serial) = self.with_key(*tube, key) {
                    self.jobs.remove(&serial);
                    return Foretold::Cancelled(serial);
                }
            }
            Command::Pause(tube, on) => {
                self.paused[*tube] = *on;
                return Foretold::Word("PAUSED");
            }
        }
        Foretold::Word("NOT_FOUND")
    }

    fn with_key(&self, tube: usize, key: &str) -> Option<u32> {
        let has = |job: &Job| job.tube == tube && job.key.as_deref() == Some(key);
        self.jobs.iter().find(|(_, job)| has(job)).map(|(&serial, _)| serial)
    }

    /// What a kick takes: buried jobs in the order of their burial, or else delayed ones in that of their time.
    fn next_kicked(&self, tube: usize, count: usize) -> Vec<u32> {
        let of = |pick: fn(State) -> Option<u64>| {
            let jobs = self.jobs.iter().filter(|(_, job)| job.tube == tube);
            let mut order: Vec<_> = jobs.filter_map(|(&serial, job)| Some((pick(job.state)?, serial))).collect();
            order.sort_unstable();
            order.into_iter().take(count).map(|(_, serial)| serial).collect::<Vec<u32>>()
        };
        let buried = of(|state| if let State::Buried(order) = state { Some(order) } else { None });
        if buried.is_empty() {
            return of(|state| if let State::Delayed(delay) = state { Some(delay) } else { None });
        }
        buried
    }

    /// The priority that a reserve has to find: the least of the ready jobs in tubes that aren't paused.
    fn best_ready(&self) -> Option<u32> {
        let ready = self.jobs.values().filter(|job| job.state == State::Ready && !self.paused[job.tube]);
        ready.map(|job| job.priority).min()
    }
}
