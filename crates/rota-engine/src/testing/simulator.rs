//! The simulator: random clients, a clock that only it moves, a disk that loses power, and an engine between them.
//!
//! One seed decides everything. The engine runs in [`lockstep`](super::lockstep) with the model; its records go to the
//! simulated disk by a writer that takes, writes and syncs at random moments; answers reach the [ledger](super::ledger)
//! when they may leave. At any moment everything crashes and recovers: the engine must then be what the model was at
//! the last record that survived, and nobody may have been told what is lost.

mod crash;
mod keeper;

use keeper::{Habits, Keeper};

use super::ledger::{Fact, Ledger};
use super::lockstep::{Lockstep, Trace};
use super::model::{Job, Model, Outcome, Place, Said};
use super::random::Random;
use super::storage::{Fault, SimulatedDisk};
use super::workload::{Input, Request, ScheduleAsk, Workload};
use crate::command::{Answer, Body, Delivered, Refusal};
use crate::engine::{Engine, Room};
use crate::far::FarFiles;
use crate::job::{JobId, QueueName, Time};
use crate::limits::STEP_OBJECTS;
use crate::log::{BodyWritten, Group, LogError, LogWriter, Lsn};
use crate::queue::QueueSettings;
use crate::schedule::TurnNote;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that is not said here.
    pub seed: u64,
    /// How many things happen.
    pub steps: u64,
    /// Whether and how the disk and the machine fail.
    pub faults: Faults,
    /// The most jobs at a time, about.
    pub most_jobs: usize,
    /// Everything is recounted once in so many steps.
    pub check_every: u64,
}

/// What goes wrong in a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faults {
    /// Nothing; and nothing is kept: there is no log.
    Memory,
    /// Nothing.
    None,
    /// The process is killed and the power fails, the start included.
    Crashes,
    /// As `Crashes`; and writes and syncs fail, and the disk fills up.
    All,
}

/// What happened in a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// A sum over all inputs and answers: equal for equal plans.
    pub trace: u64,
    /// Crashes survived.
    pub crashes: u64,
    /// Starts that did not come to their end.
    pub broken_starts: u64,
    /// Starts that cut something off the log's end.
    pub torn: u64,
    /// Orderly stops.
    pub stops: u64,
    /// Answers that left.
    pub told: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Jobs put.
    pub puts: u64,
    /// Jobs completed or cancelled.
    pub ended: u64,
    /// The most jobs at a time.
    pub most_jobs: u64,
    /// Segments whose open jobs were written again.
    pub compactions: u64,
    /// Snapshots that came to their end.
    pub snapshots: u64,
    /// Commands refused since the disk had no room.
    pub no_room: u64,
    /// Jobs handed out whose bodies were in the log alone.
    pub bodies_read: u64,
    /// Jobs that left memory.
    pub left: u64,
    /// Jobs that ended while they were not in memory.
    pub ended_far: u64,
    /// Jobs that ticks of schedules put.
    pub fired: u64,
    /// Ticks that were decided once it was looked up who has their key.
    pub looked_up: u64,
    /// Durable leases that starts found in force.
    pub resumed: u64,
    /// How often the wall clock was set, or a start found another one, while jobs that go by it were not in memory.
    pub set_while_far: u64,
}

/// When an answer may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sync {
    /// When its records are durable.
    Always,
    /// When they are written.
    Never,
}

/// One input of the past, or a start.
#[derive(Debug)]
enum Past {
    Input {
        input: Input,
        at: Time,
        said: Said,
    },
    /// The engine wrote down again what it has.
    Kept,
    Started {
        at: Time,
        wall: Time,
        epoch: u32,
        next_job_id: u64,
        reserves: BTreeMap<JobId, u32>,
        turns: Vec<(QueueName, TurnNote)>,
        /// The jobs that could not be kept when they ended while the first ticks had their turns.
        homeless: BTreeSet<JobId>,
        /// Those of them that were not in memory then.
        cold: BTreeSet<JobId>,
    },
}

struct Simulation {
    plan: Plan,
    random: Random,
    workload: Workload,
    sync: Sync,
    /// Syncs come so seldom that the numbers reserved in the log run out between two.
    syncs_seldom: bool,
    /// One step in so many is one of the writer's.
    writer_every: u64,
    /// One step in so many is a crash.
    crash_every: u64,
    disk: SimulatedDisk,
    /// What looks up jobs that are not in memory.
    far: Arc<FarFiles<SimulatedDisk>>,
    /// How far ahead they are brought there.
    near: Duration,
    habits: Habits,
    keeper: Keeper,
    /// `None` where nothing is kept.
    writer: Option<LogWriter<SimulatedDisk>>,
    both: Lockstep,
    taken: VecDeque<Group>,
    /// Bodies that were written, which the engine was not told yet.
    bodies: VecDeque<BodyWritten>,
    /// The model when the log ended at `checkpoint_lsn`, and all since, each with the log's end after it.
    checkpoint: Model,
    checkpoint_lsn: Lsn,
    past: Vec<(Lsn, Past)>,
    ledger: Ledger,
    step: u64,
    trace: Trace,
    report: Report,
}

/// Simulates.
///
/// # Panics
/// If the engine, its log or its disk did what they must not; the command that does it again is printed.
#[must_use]
pub fn simulate(plan: Plan) -> Report {
    let mut simulation = Simulation::new(plan);
    for step in 0..plan.steps {
        simulation.step = step;
        simulation.one_step();
        if step % plan.check_every == 0 {
            simulation.both.check();
            simulation.compare_with_replay();
        }
    }
    simulation.finish();
    simulation.report()
}

/// The bytes of the first segment that a short simulation writes: for tests of whoever reads them.
#[must_use]
pub fn segment_of(seed: u64) -> Vec<u8> {
    let mut simulation = Simulation::new(Plan { seed, steps: 0, faults: Faults::None, most_jobs: 40, check_every: 1 });
    // Nothing is reclaimed: the first segment stays.
    simulation.habits.every = u64::MAX;
    while simulation.both.engine.last_record() < Lsn(40) {
        simulation.one_step();
    }
    simulation.flush().expect("nothing fails");
    simulation.disk.bytes(1).expect("a log has a first segment")
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Plan { seed, steps, faults, most_jobs, check_every } = self.plan;
            eprintln!(
                "\nThe simulation of seed {seed} failed at step {}. To see it again:\n  cargo run --release -p \
                 rota-engine --example simulate -- --seed {seed} --steps {steps} --faults {} \
                 --jobs {most_jobs} --check-every {check_every}\nWhat happened last:",
                self.step,
                faults.name(),
            );
            for (lsn, past) in self.past.iter().rev().take(12).rev() {
                eprintln!("  log at {lsn}: {past:?}");
            }
        }
    }
}

impl Faults {
    /// All of them.
    pub const ALL: [Faults; 4] = [Faults::Memory, Faults::None, Faults::Crashes, Faults::All];

    /// The word for it on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Faults::Memory => "memory",
            Faults::None => "none",
            Faults::Crashes => "crashes",
            Faults::All => "all",
        }
    }
}

impl Simulation {
    fn new(plan: Plan) -> Simulation {
        let mut random = Random::new(plan.seed);
        let workload = Workload::new(&mut random, plan.most_jobs);
        let disk = SimulatedDisk::new();
        let segment_bytes = *random.pick(&[512, 4096, 60_000]);
        disk.set_segment_bytes(Some(segment_bytes));
        let habits = Habits::new(&mut random, segment_bytes);
        disk.set_capacity(habits.capacity_bytes);
        let now = Time(1_700_000_000_000_000_000 + random.below(1_000_000_000));
        let engine = Engine::in_memory(crash::options(&mut random), now, now);
        let model = Model::new(now, now);
        let mut simulation = Simulation {
            plan,
            sync: *random.pick(&[Sync::Always, Sync::Always, Sync::Never]),
            syncs_seldom: random.chance(1, 2),
            writer_every: *random.pick(&[2, 5, 40]),
            crash_every: *random.pick(&[50, 400, 3000]),
            random,
            workload,
            far: Arc::new(FarFiles::new(disk.observer(), 4)),
            near: Duration::MAX,
            disk,
            habits,
            keeper: Keeper::default(),
            writer: None,
            checkpoint: model.clone(),
            both: Lockstep::new(engine, model),
            taken: VecDeque::new(),
            bodies: VecDeque::new(),
            checkpoint_lsn: Lsn(0),
            past: Vec::new(),
            ledger: Ledger::default(),
            step: 0,
            trace: Trace::default(),
            report: Report::default(),
        };
        if plan.faults != Faults::Memory {
            simulation.start(now, false);
        }
        simulation
    }

    fn one_step(&mut self) {
        if self.writer.is_some() && self.random.chance(1, self.writer_every) {
            return self.writer_step();
        }
        if self.writer.is_some() && self.random.chance(1, self.habits.every) {
            return self.keeper_step();
        }
        if matches!(self.plan.faults, Faults::Crashes | Faults::All) && self.random.chance(1, self.crash_every) {
            return self.crash();
        }
        if self.writer.is_some() && self.random.chance(1, 5000) {
            return self.stop();
        }
        if self.random.chance(1, 6) && self.both.look_up_for_ticks() && self.random.chance(1, 2) {
            let now = self.both.model.now();
            return self.feed(Input::DecideTicks, now);
        }
        let now = self.both.model.now();
        let at = if self.random.chance(1, 50) {
            // Somebody has an old clock.
            Time(now.0.saturating_sub(self.random.below(5_000_000_000)))
        } else {
            now.after(self.workload.lapse(&mut self.random, &self.both.model))
        };
        let input = self.workload.input(&mut self.random, &self.both.model);
        self.feed(input, at);
    }

    fn feed(&mut self, input: Input, at: Time) {
        if let (Input::SetClock(_), true) = (&input, self.both.engine.has_far_jobs()) {
            let cold = self.both.engine.cold_records(&self.far);
            self.report.set_while_far += u64::from(cold.iter().any(crash::goes_by_clock));
        }
        let is_sampled = matches!(input, Input::Ask(..)) && self.random.chance(1, 16);
        let before = is_sampled.then(|| self.text_before(at)).flatten();
        if self.writer.is_none() && self.past.len() > 1000 {
            // Nothing will be wound back; the newest are for whoever reads of a failure.
            self.past.clear();
        }
        self.note_what_is_kept();
        self.past
            .push((self.both.engine.last_record(), Past::Input { input: input.clone(), at, said: Said::default() }));
        let agreed = self.both.feed(&input, at);
        self.trace.add(at, &agreed.outcome);
        // Whoever is looked up for a command may be written again, refused or not.
        let is_nothing_written = self.past.last().is_some_and(|&(lsn, _)| lsn == self.both.engine.last_record());
        let before = before.filter(|_| is_nothing_written);
        self.report.ended_far += u64::from(agreed.ended_far);
        if let Input::DecideTicks = input {
            self.report.looked_up += agreed.said.turns.len() as u64;
        }
        if let (Some(before), Some(Err(_))) = (&before, agreed.outcome.answer) {
            assert_eq!(*before, self.both.engine.whole_text(), "the refused {input:?} left a trace");
        }
        self.report.refused += u64::from(matches!(agreed.outcome.answer, Some(Err(_))));
        self.write_down(&input, agreed.outcome);
        let jobs = self.both.model.jobs().len() as u64;
        self.report.most_jobs = self.report.most_jobs.max(jobs);
        if let Some((log_end, Past::Input { said, .. })) = self.past.last_mut() {
            self.report.no_room += u64::from(agreed.said.no_room);
            let before = std::mem::replace(log_end, self.both.engine.last_record());
            *said = agreed.said;
            if self.writer.is_some() && before < agreed.begun_behind {
                let input = self.past.pop().expect("it is the last");
                self.past.extend([(agreed.begun_behind, Past::Kept), input]);
            }
        }
        self.tell();
    }

    /// The state before a command: what the passing of time alone changes must have happened.
    fn text_before(&mut self, at: Time) -> Option<String> {
        let at = self.both.model.now().max(at);
        let is_due = self.both.model.next_deadline().is_some_and(|next| next <= at);
        (!is_due && at == self.both.model.now()).then(|| self.both.engine.whole_text())
    }

    /// Hands the ledger what was decided.
    pub(super) fn write_down(&mut self, input: &Input, outcome: Outcome) {
        let (mut first, mut leases, mut last) = (None, Vec::new(), None);
        let (_, next_seq) = self.both.engine.next_numbers();
        self.report.fired += outcome.fired.len() as u64;
        for (id, body) in outcome.fired {
            let engine = &self.both.engine;
            self.ledger.decided(Some(Fact::Put(id, body)), engine.depends_on(), next_seq, engine.last_record());
        }
        let asked = if let Input::Ask(_, request) = input { Some(request) } else { None };
        match (outcome.answer, asked) {
            (Some(Ok(Answer::Put(id))), Some(Request::Put(put))) => first = Some(Fact::Put(id, put.body.clone())),
            (Some(Ok(Answer::Put(id))), _) => {
                let body = self.both.engine.job(id).expect("it was just put").body;
                first = Some(Fact::Put(id, self.both.read(body).into()));
            }
            (Some(Ok(Answer::Replaced(id))), Some(Request::Put(put))) => {
                first = Some(Fact::Replaced(id, put.body.clone()));
            }
            (Some(Ok(Answer::Reserved(id, token))), _) => {
                let body = self.both.engine.job(id).expect("it was just reserved").body;
                self.report.bodies_read += u64::from(body.in_log().is_some());
                leases.push((token, Fact::Leased(id, token, self.both.read(body).into())));
            }
            (Some(Ok(Answer::Kept(id)) | Err(Refusal::KeyTaken(id))), _) => last = Some(Fact::Seen(id)),
            (Some(Ok(Answer::Cancelled(id))), _) => last = Some(Fact::Over(id)),
            (Some(Ok(Answer::Done)), Some(Request::Delete(id))) => last = Some(Fact::Over(*id)),
            (Some(Ok(Answer::Done)), Some(Request::Complete { held, .. })) => last = Some(Fact::Over(held.job)),
            _ => {}
        }
        for (_, what) in outcome.deliveries {
            if let Delivered::Job { job, token, body: Body::InMemory(body) } = what {
                leases.push((token, Fact::Leased(job, token, body.into())));
            }
        }
        leases.sort_by_key(|&(token, _)| token);
        for (token, fact) in &leases {
            if let Fact::Leased(id, ..) = fact {
                self.workload.leased(*id, *token);
            }
        }
        // What nobody asked for: jobs that expired, and those that waited for what came to nothing.
        let open = |id: &JobId| self.both.model.jobs().get(id).is_some_and(Job::is_open);
        let ended = self.ledger.over_without(&first, &last, open);
        let facts =
            first.into_iter().chain(leases.into_iter().map(|(_, fact)| fact)).chain(last).chain(ended).map(Some);
        let mut facts: Vec<Option<Fact>> = facts.collect();
        if facts.is_empty() && outcome.answer.is_some() {
            facts.push(None);
        }
        for fact in facts {
            let engine = &self.both.engine;
            self.ledger.decided(fact, engine.depends_on(), next_seq, engine.last_record());
        }
        if self.writer.is_none() {
            self.ledger.tell(Lsn(0), Lsn(0));
        }
    }

    fn tell(&mut self) {
        let Some(writer) = &self.writer else { return };
        let promised = match self.sync {
            Sync::Always => writer.durable(),
            Sync::Never => writer.written(),
        };
        self.ledger.tell(promised, writer.durable());
    }

    /// The thread of the log does one of its things.
    fn writer_step(&mut self) {
        if self.random.chance(1, 8 * self.crash_every) {
            self.arm_fault();
        }
        if !self.bodies.is_empty() && self.random.chance(1, 2) {
            let most = self.random.below(100);
            self.tell_bodies(usize::try_from(most).expect("a small number"));
        }
        let done = match self.random.below(12) {
            0..4 => {
                self.take();
                Ok(())
            }
            4..8 => self.write_one(),
            _ if self.sync == Sync::Never && self.syncs_seldom && !self.random.chance(1, 4000) => self.write_one(),
            8..11 => self.sync(),
            _ => self.flush(),
        };
        match done {
            Ok(()) => self.tell(),
            Err(_) => self.crash(),
        }
    }

    fn arm_fault(&mut self) {
        let later = self.random.below(6);
        let kind = match self.plan.faults {
            Faults::Memory | Faults::None => return,
            Faults::Crashes => 2,
            // A disk whose room is bounded is full soon enough.
            Faults::All => self.random.below(if self.habits.capacity_bytes.is_some() { 3 } else { 4 }),
        };
        match kind {
            0 => self.disk.fail(Fault::Write, later),
            1 => self.disk.fail(Fault::Sync, later),
            2 => self.disk.die_after(later),
            _ => self.disk.set_capacity(Some(self.random.below(200_000))),
        }
    }

    /// Whoever looks for a job may have it written again, which changes nothing else.
    fn note_what_is_kept(&mut self) {
        let log_end = self.both.engine.last_record();
        if self.writer.is_some() && self.past.last().is_some_and(|&(lsn, _)| lsn < log_end) {
            self.past.push((log_end, Past::Kept));
        }
    }

    fn take(&mut self) {
        self.note_what_is_kept();
        let mut group = Group::default();
        if self.both.engine.take_records(&mut group) {
            self.taken.push_back(group);
        }
    }

    fn write_one(&mut self) -> Result<(), LogError> {
        let Some(mut group) = self.taken.pop_front() else { return Ok(()) };
        let writer = self.writer.as_mut().expect("only a log's group was taken");
        let written = writer.write(&mut group);
        if let Err(LogError::Io { source, .. }) = &written {
            let is_full = source.kind() == std::io::ErrorKind::StorageFull;
            assert!(!is_full || self.habits.capacity_bytes.is_none(), "there was room for all that was not refused");
        }
        self.bodies.extend(group.bodies_written());
        self.tell_room();
        written.map(drop)
    }

    /// Tells the engine where at most so many of the bodies are that were written.
    fn tell_bodies(&mut self, most: usize) {
        let count = self.bodies.len().min(most).min(STEP_OBJECTS);
        let told: Vec<BodyWritten> = self.bodies.drain(..count).collect();
        self.both.engine.bodies_written(&told);
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.sync().map(drop))
    }

    /// Brings everything decided to the disk; nothing waits then.
    fn flush(&mut self) -> Result<(), LogError> {
        self.take();
        while !self.taken.is_empty() {
            self.write_one()?;
        }
        self.sync()?;
        if let Some(writer) = &self.writer {
            assert_eq!(writer.durable(), self.both.engine.last_record(), "all is durable");
            assert!(self.both.engine.wants_durable() <= writer.durable());
        }
        self.tell();
        assert!(self.ledger.is_all_told(), "all is durable, and an answer still waits");
        Ok(())
    }

    /// Ends every job, as patient clients would: with nothing failing, none is left over.
    fn finish(&mut self) {
        self.both.check();
        // A full disk refuses what would let some jobs be reserved.
        self.habits.capacity_bytes = None;
        self.disk.set_capacity(None);
        self.both.engine.set_room(Room::UNBOUNDED);
        let mut client = None;
        for name in self.both.model.schedules().keys().cloned().collect::<Vec<_>>() {
            let asks = self.both.model.clients().first().copied();
            let asks = asks.unwrap_or_else(|| {
                self.feed(Input::Open(u32::MAX - 1), self.both.model.now());
                u32::MAX - 1
            });
            self.feed(Input::Ask(asks, Request::Schedule(name, ScheduleAsk::Remove)), self.both.model.now());
        }
        for round in 0.. {
            assert!(round < 1000, "jobs that nobody can end");
            let now = self.both.model.now();
            let Some(&worker) = client.as_ref() else {
                self.feed(Input::Open(u32::MAX), now);
                client = Some(u32::MAX);
                continue;
            };
            for other in self.both.model.clients().into_iter().filter(|&other| other != worker) {
                self.feed(Input::Close(other), now);
            }
            for other in self.both.model.left() {
                self.feed(Input::TakeBack(other), now);
            }
            self.feed(Input::Tick, now);
            let queues: Vec<_> = self.both.model.queues().keys().cloned().collect();
            for queue in queues {
                let length = std::time::Duration::ZERO;
                let settings = QueueSettings::default();
                self.feed(Input::Ask(worker, Request::Configure { queue: queue.clone(), settings }), now);
                self.feed(Input::Ask(worker, Request::Pause { queue: queue.clone(), length }), now);
                self.feed(Input::Ask(worker, Request::Watch(queue.clone())), now);
                self.feed(Input::Ask(worker, Request::Kick { queue: Some(queue), limit: u64::MAX, source: None }), now);
            }
            let blocked = self.both.model.jobs().iter().filter(|(_, job)| job.place == Place::Blocked);
            for id in blocked.map(|(&id, _)| id).collect::<Vec<_>>() {
                self.feed(Input::Ask(worker, Request::KickJob(id)), now);
            }
            let ready: Vec<JobId> = self.both.model.jobs().keys().copied().collect();
            for _ in ready {
                let wait = Some(std::time::Duration::ZERO);
                self.feed(Input::Ask(worker, Request::Reserve { wait }), now);
                let held =
                    self.both.model.jobs().iter().find(|(_, job)| job.place.state() == crate::job::JobState::Reserved);
                let Some((&id, _)) = held else { break };
                self.feed(Input::Ask(worker, Request::Delete(id)), now);
            }
            if !self.both.model.jobs().values().any(Job::is_open) {
                break;
            }
        }
        // By then nothing is kept any more.
        self.feed(Input::Tick, self.both.model.now().after(std::time::Duration::from_secs(86_400)));
        assert!(self.both.model.jobs().is_empty(), "final jobs that are kept for ever");
        self.feed(Input::Close(u32::MAX), self.both.model.now());
        self.both.check();
        assert_eq!(self.both.engine.queue_count(), 1, "only the default queue is left");
        if self.plan.faults == Faults::None {
            self.flush().expect("nothing fails");
        }
    }

    fn report(&self) -> Report {
        let totals = self.both.engine.totals();
        Report {
            trace: self.trace.0,
            told: self.ledger.told,
            puts: totals.puts,
            ended: totals.completed + totals.cancelled + totals.expired,
            ..self.report
        }
    }
}
