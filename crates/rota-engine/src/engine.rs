//! The engine: the one owner of the state. It decides commands, lets time pass, keeps the log's next records and hands
//! out what waited.
//!
//! It has no thread and no lock of its own: whoever embeds it calls it from one place at a time, tells it the time,
//! and writes what [`Engine::take_records`] gives to the log's writer. **What leaves the process must wait**: an answer
//! (or a delivery, or anything read) may be shown once the log is as far as [`Engine::depends_on`] said right after it
//! was decided.

#[cfg(any(test, feature = "testing"))]
mod checked;
mod far;
mod kept;
mod lines;
mod news;
mod notes;
mod room;
mod schedules;
mod sessions;
mod snapshot;
mod view;

use crate::command::{Answer, Command, Delivered, Delivery, NewJob, Refusal, ScheduleCommand, Target};
use crate::event::Event;
use crate::far::FarFiles;
#[cfg(any(test, feature = "testing"))]
use crate::job::QueueName;
use crate::job::{JobId, Time};
use crate::limits::{NUMBER_BLOCK, RECORD_OVERHEAD_BYTES, ROOM_AGAIN, STEP_OBJECTS, UNWRITTEN_BYTES, WRITTEN_AGAIN};
use crate::log::{self, BodyWritten, Group, LogWriter, Lsn, OpenError, Pending, Recovery};
use crate::news::NewsDesk;
use crate::queue::QueueId;
use crate::refused::{PutRefused, RefusedPuts};
#[cfg(any(test, feature = "testing"))]
use crate::schedule::TurnNote;
use crate::session::{Actor, SessionId};
use crate::snapshot::Snapshot;
use crate::state::{Due, Replay, State};
use crate::storage::Storage;
use std::time::Duration;

/// The most that a put's record has beside its body and its key, in bytes.
const PUT_RECORD_BYTES: u64 = 320;

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much time a spoke of the wheel covers; at least a nanosecond.
    pub spoke: Duration,
    /// How many job ids, and how many event numbers, are reserved in the log at a time: at least 16.
    pub number_block: u64,
    /// Where bodies are, with a log.
    pub bodies: BodyHome,
    /// How far ahead delayed jobs are held in memory, with a log: those further ahead than twice that leave memory when
    /// their segment is reclaimed. The embedder has to bring them near in time: see [`crate::far`]. `None`: all are held.
    pub near: Option<Duration>,
    /// The most queues: see [`Refusal::TooManyQueues`]. Those that are there at the start stay, however many they are.
    pub queues: usize,
    /// How many files of segments of jobs far ahead are held open at a time, two for each: see [`crate::far`].
    pub far_files: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            spoke: crate::limits::DEFAULT_SPOKE,
            number_block: NUMBER_BLOCK,
            bodies: BodyHome::Memory,
            near: None,
            queues: crate::limits::QUEUES,
            far_files: crate::limits::FAR_FILES,
        }
    }
}

/// Where the bodies of waiting jobs are. It can be another one at each start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyHome {
    /// In memory, and in the log.
    Memory,
    /// In the log alone, from when they were written: whoever hands out a job reads its body there. The embedder has to
    /// tell the engine where they are, with [`Engine::bodies_written`].
    Log,
}

/// What an answer waits for before it leaves the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct DependsOn {
    /// The log must be this far by the promise of the sync mode: written, or durable.
    pub promised: Lsn,
    /// The log must be durable this far in every sync mode: here stand the numbers that must never be issued again, and what
    /// was asked of queues that are set up to have answers wait for the disk.
    pub durable: Lsn,
}

/// How many bytes the log can take before its disk must give more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes that can be written from now on.
    pub free: u64,
    /// How long a segment is, in bytes: so many are set aside for what reclaiming one writes again, and so many for the segment that has to
    /// begin for it, whose header says that the other is not needed.
    pub segment_bytes: u64,
    /// Whether the disk has no more to give, as of the last time it was asked. Only then anything is refused.
    pub is_all: bool,
}

impl Room {
    /// Whatever comes fits.
    pub const UNBOUNDED: Room = Room { free: u64::MAX, segment_bytes: 0, is_all: false };
}

/// The state, its log, and what is on its way out.
#[derive(Debug)]
pub struct Engine {
    state: State,
    /// `None`: nothing is kept.
    pending: Option<Pending>,
    is_stopped: bool,
    promised: Lsn,
    /// The newest record that an answer waits for until it is on the disk, whatever is promised for all: see
    /// [`crate::queue::QueueSettings::sync`].
    synced: Lsn,
    /// Where the last two reservations of numbers stand in the log: what is issued now falls into the first.
    reserved_at: [Lsn; 2],
    number_block: u64,
    room: Room,
    /// A snapshot under way.
    snapshot: Option<Snapshot>,
    /// While somebody listens.
    news: Option<Box<NewsDesk>>,
    /// The number and the moment of this start.
    started: (u64, Time),
    now: Time,
    /// In whose name is asked for what happens; `None` for what comes about by itself.
    actor: Option<Actor>,
    /// The most that an actor adds to a record, in bytes, by those that were named so far.
    actor_bytes: u64,
    events: Vec<Event>,
    refused_puts: RefusedPuts,
    /// The turns of schedules since somebody asked.
    #[cfg(any(test, feature = "testing"))]
    turns: Vec<(QueueName, TurnNote)>,
}

impl Engine {
    /// An engine that keeps nothing.
    ///
    /// `now` is where engine time begins; `wall` is what the wall clock shows then, nanoseconds since 1970.
    #[must_use]
    pub fn in_memory(options: Options, now: Time, wall: Time) -> Engine {
        let mut engine = Engine::new(State::new(options.spoke, None), None, options, now);
        engine.start(1, wall);
        engine
    }

    /// An engine with the jobs that a log holds, and the writer that its records go to from now on.
    ///
    /// Engine time goes on from `wall` (the wall clock, nanoseconds since 1970), or from the newest moment in the log
    /// if that is later: ask [`Engine::now`]. Nothing may be served before the first records are durable: write what
    /// [`Engine::take_records`] gives, and sync.
    ///
    /// # Errors
    /// [`OpenError`], when the log can't be read or must not be trusted. Nothing on the disk was changed then.
    pub fn recover<S: Storage>(
        options: Options,
        storage: S,
        new_store_id: [u8; 16],
        wall: Time,
    ) -> Result<(Engine, LogWriter<S>, Recovery), OpenError> {
        let recovered = Engine::recover_with_far(options, storage, new_store_id, wall);
        recovered.map(|(engine, writer, recovery, _)| (engine, writer, recovery))
    }

    /// The same, with what looks up the jobs that are not in memory. Those that are due soon must be brought near before
    /// anything is served, or all of them where all are held in memory.
    ///
    /// # Errors
    /// As [`Engine::recover`].
    pub fn recover_with_far<S: Storage>(
        options: Options,
        storage: S,
        new_store_id: [u8; 16],
        wall: Time,
    ) -> Result<(Engine, LogWriter<S>, Recovery, FarFiles<S>), OpenError> {
        let state = State::new(options.spoke, options.near);
        let mut replay = Replay::new(state, options.bodies, storage.clone(), options.far_files);
        let read = log::read(storage, &mut |record| replay.take(record)).map_err(OpenError::of_replay)?;
        // This may refuse it, too: the log's tail must still be there then.
        let (mut state, far) = replay.end().map_err(|source| read.refused(source))?;
        let (writer, recovery) = read.settle(new_store_id)?;
        state.count_no_ticks();
        let now = recovery.last_at.max(wall);
        let pending = Pending::new(recovery.next_lsn);
        let pending = match options.bodies {
            BodyHome::Memory => pending,
            BodyHome::Log => pending.with_notes_of_bodies(),
        };
        let mut engine = Engine::new(state, Some(pending), options, now);
        engine.state.end_pauses_of_before(recovery.last_at);
        engine.state.forget_kept_until(recovery.last_at);
        let epoch = engine.state.numbers().epoch + 1;
        engine.start(epoch, wall);
        engine.state.leave_idle_queues();
        engine.reserve_numbers();
        engine.reserved_at[0] = engine.reserved_at[1];
        engine.settle();
        Ok((engine, writer, recovery, far))
    }

    /// The same, but nothing is kept from now on: for an engine whose log was only read.
    #[must_use]
    pub fn keep_nothing(self) -> Engine {
        let (promised, synced, reserved_at) = (Lsn(0), Lsn(0), [Lsn(0); 2]);
        Engine { pending: None, promised, synced, reserved_at, ..self }
    }

    fn start(&mut self, epoch: u32, wall: Time) {
        self.started = (self.next_seq(), self.now);
        self.happen(Event::Started { epoch, engine_time: self.now, wall_time: wall });
    }

    fn new(mut state: State, pending: Option<Pending>, options: Options, now: Time) -> Engine {
        state.most_queues = options.queues;
        Engine {
            state,
            pending,
            is_stopped: false,
            promised: Lsn(0),
            synced: Lsn(0),
            reserved_at: [Lsn(0); 2],
            number_block: options.number_block.max(16),
            room: Room::UNBOUNDED,
            snapshot: None,
            news: None,
            started: (0, now),
            now,
            actor: None,
            actor_bytes: 0,
            events: Vec::new(),
            refused_puts: RefusedPuts::default(),
            #[cfg(any(test, feature = "testing"))]
            turns: Vec::new(),
        }
    }

    /// The newest moment that the engine was told.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Decides one command at `now`. A `now` before the newest one counts as that one.
    ///
    /// On return everything that follows from it has happened too: a put job is with a consumer that waited for it.
    /// Nothing of it may leave the process before the log is as far as [`Engine::depends_on`] says now.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was changed.
    ///
    /// # Panics
    /// If the session is not open.
    pub fn execute(&mut self, session: SessionId, command: Command<'_>, now: Time) -> Result<Answer, Refusal> {
        self.now = self.now.max(now);
        if self.state.next_wake() <= self.now {
            self.tick(now);
        }
        let answer = self.decide(session, command);
        self.settle();
        answer
    }

    fn decide(&mut self, session: SessionId, command: Command<'_>) -> Result<Answer, Refusal> {
        let wait = match command {
            Command::Use(name) => return Ok(self.state.use_queue(session, name)),
            Command::Watch(name) => return self.state.watch(session, name),
            Command::Ignore(name) => return self.state.ignore(session, name),
            Command::Put(NewJob { queue: Target::Named(name), .. }) | Command::Configure { queue: name, .. } => {
                let queue = self.state.open_queue(name);
                self.state.leave_queue(queue);
                None
            }
            Command::Schedule(ref command) => {
                if let ScheduleCommand::Run(name) = **command
                    && let Some(queue) = self.state.schedule_queue(name).cloned()
                {
                    let queue = self.state.open_queue(&queue);
                    self.state.leave_queue(queue);
                }
                None
            }
            Command::Reserve { wait } => Some(wait),
            _ => None,
        };
        let put_into = if let Command::Put(new) = &command { Some(new.queue) } else { None };
        let mut events = std::mem::take(&mut self.events);
        let mut answer = self.state.decide(session, command, self.now, &mut events);
        if answer.is_ok() && !events.iter().all(|event| self.has_room_for(event)) {
            events.clear();
            answer = Err(Refusal::NoRoom);
        }
        if let (Err(refusal), Some(queue)) = (answer, put_into) {
            self.put_was_refused(session, queue, refusal);
        }
        self.act_for(session);
        for event in events.drain(..) {
            // Who puts a job behind one that came to nothing did not call it off: that is the last that comes of the put.
            if self.actor.is_some() && matches!(event, Event::JobCancelled { because_of: Some(_), .. }) {
                self.actor = None;
            }
            self.happen(event);
        }
        self.actor = None;
        self.events = events;
        if let (Ok(Answer::Waiting), Some(wait)) = (answer, wait) {
            self.state.begin_wait(session, wait, self.now);
        }
        answer
    }

    #[cold]
    fn put_was_refused(&mut self, session: SessionId, queue: Target<'_>, refusal: Refusal) {
        let queue = self.state.target(session, queue);
        self.count_refused_puts(queue, refusal.into(), 1);
    }

    /// Counts puts that a front end refused before it asked for them, of a queue where it is known, and there.
    ///
    /// # Panics
    /// If there is no such queue any more.
    pub fn count_refused_puts(&mut self, queue: Option<QueueId>, why: PutRefused, puts: u64) {
        self.refused_puts.count(why, puts);
        if let Some(queue) = queue {
            self.state.count_refused_puts(queue, why, puts);
        }
    }

    /// What happens from now on is asked for in the name that the session has. In most servers nobody ever has one.
    fn act_for(&mut self, session: SessionId) {
        if self.actor_bytes > 0 {
            self.actor = self.state.actor(session).cloned();
        }
    }

    /// Ends a session's wait unanswered: no delivery comes for it any more. Returns whether it waited.
    pub fn stop_waiting(&mut self, session: SessionId) -> bool {
        self.state.end_wait(session)
    }

    /// Lets time pass: what is due at `now` happens, in the order of the deadlines. Returns whether that was all of it;
    /// if not, there was more than one step handles, and it is to be called again.
    pub fn tick(&mut self, now: Time) -> bool {
        self.now = self.now.max(now);
        let is_idle = self.state.next_wake() > self.now && self.state.is_settled();
        if is_idle || self.is_stopped { true } else { self.let_pass() }
    }

    fn let_pass(&mut self) -> bool {
        let mut left = STEP_OBJECTS;
        while left > 0 {
            let Some(due) = self.state.next_due(self.now) else {
                self.settle();
                return !self.state.is_telling_groups();
            };
            left -= 1;
            match due {
                Due::Happens(event) => self.happen(event),
                Due::AnswerOver => self.state.forget_answer(),
                Due::KeyOpens(queue, key) => self.state.end_throttle_of(queue, &key, self.now),
                Due::WaitOver(session) => self.end_wait(session, Delivered::TimedOut),
                Due::DeadlineSoon(session) => self.end_wait(session, Delivered::DeadlineSoon),
                Due::Tick(schedule) => left = left.saturating_sub(self.take_turn(&schedule, false) - 1),
            }
        }
        self.settle();
        false
    }

    /// When [`Engine::tick`] is to be called next; [`Time::NEVER`] if only commands can change anything. It may be
    /// called at any other time too.
    #[must_use]
    pub fn next_tick(&self) -> Time {
        self.state.next_wake()
    }

    /// Tells that the wall clock shows `wall` at `now`, after it was set. Spans are not touched by it; jobs that were put for a
    /// moment of the wall clock, or expire at one, go by it from now on, and nothing of them is moved for it. What is due by
    /// then happens first, by the clock as it was. Returns whether that was all of it: if not, the clock is as before, and it
    /// is to be called again.
    #[must_use]
    pub fn clock_stepped(&mut self, now: Time, wall: Time) -> bool {
        let is_all = self.tick(now);
        if is_all {
            self.happen(Event::ClockStepped { engine_time: self.now, wall_time: wall });
            self.settle();
        }
        is_all
    }

    /// Writes down that the engine stops in good order, so that the next start wastes no numbers. To be called last.
    pub fn stop(&mut self) {
        let numbers = *self.state.numbers();
        // The number after this event's own.
        let next_seq = numbers.next_seq + 1;
        self.happen(Event::Stopped { next_job_id: numbers.next_job_id, next_seq });
        self.is_stopped = true;
    }

    /// Whether the end is written down: nothing happens any more, whoever still asks for it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether there are such that were not taken.
    #[must_use]
    pub fn has_deliveries(&self) -> bool {
        !self.state.deliveries.is_empty()
    }

    /// Answers to reserves that waited, and the ends of leases that are followed, in the order of what happened. They depend on the log like answers.
    pub fn take_deliveries(&mut self) -> impl Iterator<Item = Delivery> + '_ {
        self.state.deliveries.drain(..)
    }

    /// What all that was decided so far waits for before it may leave the process.
    #[must_use]
    pub fn depends_on(&self) -> DependsOn {
        DependsOn { promised: self.promised, durable: self.reserved_at[0].max(self.synced) }
    }

    /// How far the log should be made durable at once, whatever the sync mode: numbers that will be issued soon are
    /// reserved there, or somebody waits for it who was promised the disk.
    #[must_use]
    pub fn wants_durable(&self) -> Lsn {
        self.reserved_at[1].max(self.synced)
    }

    /// Whether there are so many jobs that [`Engine::touch`] saves time.
    #[must_use]
    pub fn is_touch_worth_it(&self) -> bool {
        self.state.is_touch_worth_it()
    }

    /// Reads what it takes to end these jobs, so that the commands that will find it in the processor's caches; at most
    /// [`TOUCHED_TOGETHER`](crate::limits::TOUCHED_TOGETHER). It changes nothing and says nothing.
    pub fn touch(&self, jobs: &[JobId]) {
        self.state.touch(jobs);
    }

    /// Moves the records that were decided since the last call into `group`, for the log's writer. Returns whether
    /// there were any.
    pub fn take_records(&mut self, group: &mut Group) -> bool {
        self.pending.as_mut().is_some_and(|pending| pending.take(group))
    }

    /// Lets go of bodies that are in the log now, where [`Options::bodies`] says so: what [`Group::bodies_written`] told
    /// after a write, in the order of the writes, [`STEP_OBJECTS`] at a time. From here on they are read there.
    ///
    /// # Panics
    /// With more of them than one step handles.
    pub fn bodies_written(&mut self, bodies: &[BodyWritten]) {
        assert!(bodies.len() <= STEP_OBJECTS, "no step is unbounded");
        bodies.iter().for_each(|&body| self.state.body_written(body));
    }

    /// Bytes of records that nobody took yet. Past [`crate::limits::UNWRITTEN_BYTES`] front ends stop reading.
    #[must_use]
    pub fn unwritten_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, Pending::bytes)
    }

    fn happen(&mut self, event: Event) {
        // Behind the end, a record would reserve numbers again, and ids would not go on where they were.
        if self.is_stopped {
            return;
        }
        if !matches!(event, Event::Started { .. } | Event::NumbersReserved { .. } | Event::Stopped { .. }) {
            self.reserve_numbers();
        }
        let seq = self.state.take_seq();
        if event.is_durable() {
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.follow(seq, self.now, &event, &self.state);
            }
            let actor = if self.actor.is_some() { self.actor_in_log().cloned() } else { None };
            if let Some(pending) = &mut self.pending {
                let before = pending.bytes();
                let lsn = pending.append_by(seq, self.now, &event, actor.as_ref(), &self.state);
                self.state.far.at = lsn;
                let taken = (pending.bytes() - before) as u64 + RECORD_OVERHEAD_BYTES;
                self.room.free = self.room.free.saturating_sub(taken);
                if event.is_awaited() {
                    self.promised = lsn;
                    if self.state.has_synced_queues() && self.state.is_synced(&event) {
                        self.synced = lsn;
                    }
                }
            }
        }
        match &mut self.news {
            None => self.state.apply(event, self.now),
            Some(news) => news.apply(seq, event, self.actor.as_ref(), self.now, &mut self.state),
        }
    }

    /// Keeps numbers reserved in the log half a block ahead of their use, so that the newest reservation has the time
    /// that a half block takes to become durable.
    fn reserve_numbers(&mut self) {
        let numbers = self.state.numbers();
        let ahead = self.number_block / 2;
        let enough =
            numbers.next_job_id + ahead < numbers.job_ids_below && numbers.next_seq + ahead < numbers.seqs_below;
        if enough || self.pending.is_none() {
            return;
        }
        let job_ids_below = numbers.next_job_id + self.number_block;
        let seqs_below = numbers.next_seq + self.number_block;
        let actor = self.actor.take();
        self.happen(Event::NumbersReserved { job_ids_below, seqs_below });
        self.actor = actor;
        self.reserved_at = [self.reserved_at[1], self.promised];
    }

    fn end_wait(&mut self, session: SessionId, what: Delivered) {
        // A job that became ready before this moment goes first.
        self.hand_over();
        if self.state.end_wait(session) {
            self.state.deliveries.push(Delivery { session, what });
        }
    }

    /// What follows at once from what just happened.
    #[inline]
    fn settle(&mut self) {
        if !self.state.is_settled() {
            self.bring_to_rest();
        }
    }

    fn bring_to_rest(&mut self) {
        for _ in 0..STEP_OBJECTS {
            let Some(told) = self.state.next_told(self.now) else { break };
            self.happen(told);
        }
        if self.state.is_telling_groups() {
            self.state.tell_groups(STEP_OBJECTS);
        }
        self.hand_over();
        while let Some((queue, logged)) = self.state.next_idle_queue() {
            if logged {
                self.happen(Event::QueueDropped { queue });
            } else {
                self.state.forget_queue(queue);
            }
        }
    }

    /// Gives ready jobs to the sessions that wait for them.
    fn hand_over(&mut self) {
        while let Some((session, job)) = self.state.next_handover() {
            self.state.end_wait(session);
            let mut events = std::mem::take(&mut self.events);
            let answer = self.state.lease_to(session, job, self.now, &mut events);
            self.act_for(session);
            for event in events.drain(..) {
                self.happen(event);
            }
            self.actor = None;
            self.events = events;
            if let Answer::Reserved(job, token) = answer {
                let body = self.job(job).expect("it was just reserved").body.to_owned();
                self.state.deliveries.push(Delivery { session, what: Delivered::Job { job, token, body } });
            }
        }
    }
}
