//! The engine and the model, side by side: whatever happens to one happens to the other, and they must agree.
//!
//! The simulator and the model test feed it. It compares every answer, every late answer and the counts at each input;
//! [`Lockstep::check`] compares everything.

use super::calendar::PlainCalendar;
use super::limit_keys::HandedOut;
use super::model::{Model, Outcome, Place, Said};
use super::storage::SimulatedDisk;
use super::workload::{Client, Input, PAST, actor_of, hands_tokens_on};
use crate::command::{Answer, Body, Delivered, Refusal};
use crate::engine::Engine;
use crate::far::{FarAsOf, FarFiles, FarFound, Want};
use crate::job::{JobId, JobState, QueueName, Time};
use crate::limits::{KEY_AGAIN, ROOM_AGAIN};
use crate::log::Lsn;
use crate::session::SessionId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// With fewer jobs than that it is compared why each is where it is.
const MOST_ASKED_WHY: usize = 200;

/// An engine and its model.
#[derive(Debug)]
pub struct Lockstep {
    /// The engine.
    pub engine: Engine,
    /// What it must be like.
    pub model: Model,
    /// Where bodies are that are in the log alone.
    disk: Option<SimulatedDisk>,
    /// What looks up jobs that are not in memory, and how far ahead they are brought there.
    far: Option<(Arc<FarFiles<SimulatedDisk>>, Duration)>,
    /// What was looked up for ticks, as of when, and not given to the engine yet.
    looked_up: Option<(Vec<(Want, FarFound)>, FarAsOf)>,
    sessions: BTreeMap<Client, SessionId>,
    clients: BTreeMap<SessionId, Client>,
    handed_out: HandedOut,
}

/// What both of them said.
#[derive(Debug)]
pub struct Agreed {
    /// What came of the input.
    pub outcome: Outcome,
    /// What the model took from the engine.
    pub said: Said,
    /// Whether a job ended that was not in memory, by its place alone.
    pub ended_far: bool,
    /// The engine's last record when the input came: what was looked up for it may have been written again.
    pub begun_behind: Lsn,
}

impl Lockstep {
    /// The two, as they are after a start.
    #[must_use]
    pub fn new(mut engine: Engine, model: Model) -> Lockstep {
        engine.set_calendar(Arc::new(PlainCalendar));
        let past = engine.session_of_the_past();
        Lockstep {
            engine,
            model,
            disk: None,
            far: None,
            looked_up: None,
            sessions: past.map(|session| (PAST, session)).into_iter().collect(),
            clients: past.map(|session| (session, PAST)).into_iter().collect(),
            handed_out: HandedOut::default(),
        }
    }

    /// The same, with the disk that the engine's log is on.
    #[must_use]
    pub fn on(self, disk: SimulatedDisk) -> Lockstep {
        Lockstep { disk: Some(disk), ..self }
    }

    /// The same, with what looks up jobs that are not in memory, and how far ahead they are to be there; `Duration::MAX`:
    /// all of them.
    #[must_use]
    pub fn with_far(self, files: Arc<FarFiles<SimulatedDisk>>, near: Duration) -> Lockstep {
        Lockstep { far: Some((files, near)), ..self }
    }

    /// Jobs of queues that are set up, whose record no start reads: all of them, and those that are not in memory.
    fn far_away(&self) -> (BTreeSet<JobId>, BTreeSet<JobId>) {
        if self.far.is_none() {
            return Default::default();
        }
        let queues = self.model.queues();
        let is_set_up = |queue| queues.get(queue).is_some_and(|queue| !queue.settings.is_empty());
        let jobs = || self.model.jobs().iter().filter(|(_, job)| is_set_up(&job.queue)).map(|(&id, _)| id);
        let cold: BTreeSet<JobId> = jobs().filter(|&id| self.engine.job(id).is_none()).collect();
        (jobs().filter(|&id| self.engine.is_homeless(id) || cold.contains(&id)).collect(), cold)
    }

    /// Brings near what will be due so soon after `at`, as a server does in time.
    fn load(&mut self, at: Time) {
        if let Some((files, near)) = &self.far {
            let until = at.max(self.engine.now()).after(*near);
            load(&mut self.engine, files, until);
        }
    }

    /// Looks up what is wanted; returns it, to be let go again.
    fn bring_near(&mut self, want: Option<Want>) -> Option<FarFound> {
        let (want, (files, _)) = (want?, self.far.as_ref()?);
        let engine = &self.engine;
        let found = files.find(&want, &mut |entries| engine.are_cold(entries)).expect("what is far can be found");
        self.engine.take_found(&found, self.engine.now());
        Some(found)
    }

    /// Looks up what ticks wait for, as a server does beside everything else; what was found is given to the engine with
    /// [`Input::DecideTicks`], soon or late. Returns whether there is something to give.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn look_up_for_ticks(&mut self) -> bool {
        if let (None, Some((files, _))) = (&self.looked_up, &self.far)
            && let Some((wants, as_of)) = self.engine.wanted_by_ticks(2)
        {
            let engine = &self.engine;
            let found = wants.into_iter().map(|want| {
                let found = files.find(&want, &mut |entries| engine.are_cold(entries)).expect("it can be found");
                (want, found)
            });
            self.looked_up = Some((found.collect(), as_of));
        }
        self.looked_up.is_some()
    }

    fn let_go(&mut self, found: Option<FarFound>) {
        found.iter().for_each(|found| self.engine.let_go(found));
    }

    /// A body, read from the log where it is there alone.
    ///
    /// # Panics
    /// If it is not where the engine says.
    #[must_use]
    pub fn read(&self, body: Body<&[u8]>) -> Box<[u8]> {
        match body {
            Body::InMemory(body) => body.into(),
            Body::InLog(place) => self.disk.as_ref().expect("a body is in a log").body(place),
        }
    }

    /// Makes an input happen to both.
    ///
    /// # Panics
    /// If they disagree.
    pub fn feed(&mut self, input: &Input, at: Time) -> Agreed {
        self.load(at);
        let mut near: Vec<FarFound> = Vec::new();
        if let Input::Ask(client, request) = input {
            let parents = request.parents();
            let command = request.command(&parents);
            let mut wanted: Vec<Want> = self.engine.wanted(self.sessions[client], &command, at).into_iter().collect();
            wanted.extend(parents.iter().filter_map(|parent| self.engine.wanted_parent(parent)));
            wanted.into_iter().for_each(|want| near.extend(self.bring_near(Some(want))));
        }
        let begun_behind = self.engine.last_record();
        let (homeless, cold) = self.far_away();
        let mut outcome = Outcome { is_done: true, ..Outcome::default() };
        let engine = &mut self.engine;
        let cold_before = engine.cold_jobs();
        match input {
            Input::Open(client) => {
                let session = engine.open_session().expect("there are few sessions");
                engine.set_actor(session, actor_of(*client));
                if hands_tokens_on(*client) {
                    engine.hand_tokens_on(session);
                }
                self.sessions.insert(*client, session);
                self.clients.insert(session, *client);
            }
            Input::Close(client) => {
                let session = self.sessions.remove(client).expect("it is open");
                engine.close_session(session, at);
            }
            Input::Leave(client) => engine.leave_session(self.sessions[client], at),
            Input::TakeBack(client) => outcome.is_done = engine.take_back(self.sessions[client], at),
            Input::Follow(client) => engine.follow_leases(self.sessions[client]),
            Input::DropLease(job, token) => outcome.is_done = engine.drop_lease(*job, *token, at),
            Input::StopWaiting(client) => outcome.is_done = engine.stop_waiting(self.sessions[client]),
            Input::Ask(client, request) => {
                let parents = request.parents();
                outcome.answer = Some(engine.execute(self.sessions[client], request.command(&parents), at));
            }
            Input::Tick => {
                outcome.is_done = engine.tick(at);
                let now = engine.now();
                assert!(!outcome.is_done || engine.next_tick() > now, "a tick is done and something is due");
            }
            Input::DecideTicks => {
                let (found, as_of) = self.looked_up.take().unwrap_or_default();
                engine.decide_ticks(&found, as_of, at);
            }
            Input::Tell(note, actor) => {
                let told = engine.tell(note.clone(), actor.clone(), at);
                outcome.answer = Some(told.map(|()| Answer::Done));
            }
            Input::SetClock(wall) => outcome.is_done = engine.clock_stepped(at, *wall),
            Input::Stop => engine.stop(),
        }
        let ended_far = matches!(near[..], [FarFound::Places(_)]) && engine.cold_jobs() < cold_before;
        near.iter().for_each(|near| engine.let_go(near));
        let clients = &self.clients;
        let late: Vec<_> = engine.take_deliveries().map(|late| (clients[&late.session], late.what)).collect();
        outcome.deliveries = late.into_iter().map(|(client, what)| (client, self.with_body(what))).collect();
        // The model finds the ends of leases last, by client and job.
        outcome.deliveries.sort_by_key(|(client, what)| match what {
            Delivered::LeaseEnded { job, token, .. } => Some((*client, *job, *token)),
            _ => None,
        });
        let turns = self.engine.take_turns();
        let said = match outcome.answer {
            Some(Ok(Answer::Kicked { count, .. })) => {
                Said { kicked: Some(count), no_room: false, homeless, cold, turns }
            }
            Some(Err(Refusal::NoRoom)) => Said { kicked: None, no_room: true, homeless, cold, turns },
            _ => Said { kicked: None, no_room: false, homeless, cold, turns },
        };
        let expected = self.model.apply(input, at, &said);
        assert_eq!(outcome.answer, expected.answer, "the answer to {input:?}");
        assert_eq!(outcome.deliveries, expected.deliveries, "late answers after {input:?}");
        outcome.fired = expected.fired;
        let says_done = matches!(
            input,
            Input::Tick | Input::SetClock(_) | Input::StopWaiting(_) | Input::TakeBack(_) | Input::DropLease(..)
        );
        assert!(!says_done || outcome.is_done == expected.is_done, "what {input:?} said");
        self.handed_out.check(&self.model, input, &outcome);
        self.compare_counts();
        if let Some(id) = outcome.answer.and_then(named) {
            self.compare_job(id);
        }
        Agreed { outcome, said, ended_far, begun_behind }
    }

    /// The delivery with its body in it.
    fn with_body(&self, what: Delivered) -> Delivered {
        match what {
            Delivered::Job { job, token, body: Body::InLog(place) } => {
                Delivered::Job { job, token, body: Body::InMemory(self.read(Body::InLog(place))) }
            }
            other => other,
        }
    }

    /// Compares all that can be seen, and lets the engine recount all that cannot.
    ///
    /// # Panics
    /// If something disagrees.
    pub fn check(&mut self) {
        self.engine.check();
        self.compare_counts();
        self.compare_walk();
        self.compare_schedules();
        assert_eq!(self.engine.failed(), self.model.failed().collect(), "jobs that are known to have come to nothing");
        for id in self.model.jobs().keys().copied().collect::<Vec<_>>() {
            self.compare_job(id);
        }
        assert_eq!(self.engine.queue_count(), self.model.queues().len(), "the number of queues");
        for (name, queue) in &self.model.queues().clone() {
            let id = self.engine.find_queue(name).unwrap_or_else(|| panic!("there is no queue {name}"));
            let view = self.engine.queue(id);
            let jobs = || self.model.jobs().values().filter(|job| job.queue == *name);
            let count = |state| jobs().filter(|job| job.place.state() == state).count() as u64;
            let ready = count(JobState::Ready);
            let held_back = jobs().filter(|job| job.place == Place::Ready && self.model.is_held_back(job)).count();
            assert_eq!(view.held_back, held_back as u64, "ready jobs that are held back in {name}");
            let counts = [view.delayed, view.ready, view.reserved, view.buried, view.blocked];
            assert_eq!(counts[..], JobState::ALL.map(count)[..JobState::OPEN], "jobs by state in {name}");
            let ended: u64 = JobState::ALL.map(count)[JobState::OPEN..].iter().sum();
            assert_eq!(view.ended, ended, "final jobs in {name}");
            assert_eq!(view.settings, queue.settings, "how {name} is set up");
            assert!(view.urgent <= ready);
            assert_eq!(view.totals, queue.totals, "the counters of {name}");
            assert_eq!((view.using, view.watching, view.waiting), self.model.references(name), "who refers to {name}");
            let is_paused = queue.paused_until > self.model.now();
            let left = queue.paused_until.since(self.model.now());
            assert_eq!(view.pause_left, left, "what is left of the pause of {name}");
            assert_eq!(view.pause, if is_paused { queue.pause_length } else { std::time::Duration::ZERO });
            self.compare_heads(name);
        }
    }

    fn compare_schedules(&self) {
        assert_eq!(self.engine.schedule_count(), self.model.schedules().len(), "the number of schedules");
        for (outcome, count) in self.engine.tick_counts().each() {
            assert_eq!(count, self.model.ticks(outcome), "ticks of which {outcome} came");
        }
        let in_line = || self.model.schedules().values().filter(|schedule| schedule.waits());
        assert_eq!(self.engine.schedules_in_line(), in_line().count(), "schedules that wait for a tick");
        let wall = self.model.wall();
        // Where the clock was set back, one that was put off waits for longer than that.
        let soon = in_line().filter(|schedule| schedule.due_at <= wall.after(ROOM_AGAIN.max(KEY_AGAIN)));
        let latest = soon.map(|schedule| wall.since(schedule.course.next)).max().unwrap_or_default();
        assert_eq!(self.engine.tick_late(), latest, "the latest tick");
        let views = self.engine.schedules_after(None);
        for (view, (name, schedule)) in views.zip(self.model.schedules()) {
            assert_eq!(view.name, name, "schedules by name");
            assert_eq!(*view.spec, schedule.spec, "what {name} is");
            assert_eq!(*view.course, schedule.course, "how it went with {name}");
        }
    }

    fn compare_counts(&self) {
        assert_eq!(self.engine.now(), self.model.now(), "the time");
        assert_eq!(*self.engine.totals(), self.model.totals(), "the counts over all queues");
        assert_eq!(self.engine.session_count(), self.model.session_count(), "the number of sessions");
        let answers: Vec<_> = self.model.answers().collect();
        assert!(answers.len() <= self.engine.answers_kept());
        for (key, answer) in answers {
            assert_eq!(self.engine.answer_of(key), Some(answer), "the answer of {key:?}");
        }
        let next = self.model.next_deadline().unwrap_or(Time::NEVER);
        let next_tick = self.engine.next_tick();
        assert!(
            next_tick <= next || self.engine.cold_jobs() > 0 && next > self.engine.known_until(),
            "the engine sleeps past the deadline {next:?}"
        );
    }

    /// A walk over all places, in slices, comes to each job in memory once.
    fn compare_walk(&self) {
        let (mut seen, mut place) = (Vec::new(), 0);
        loop {
            let before = seen.len();
            for (next, view) in self.engine.jobs_from(place).take(7) {
                seen.push(view.id);
                place = next;
            }
            if seen.len() == before {
                break;
            }
        }
        seen.sort_unstable();
        let all = self.model.jobs().len() as u64;
        assert!(seen.is_sorted_by(|a, b| a < b), "no job twice");
        assert_eq!(seen.len() as u64 + self.engine.cold_jobs(), all, "every job");
        assert!(seen.iter().all(|id| self.model.jobs().contains_key(id)), "no job that is gone");
    }

    fn compare_heads(&mut self, name: &QueueName) {
        let queue = self.engine.find_queue(name).expect("the caller found it");
        let near = self.bring_near(self.engine.wanted_first(queue));
        let jobs = || self.model.jobs().iter().filter(|(_, job)| job.queue == *name);
        let ready = jobs().filter(|(_, job)| job.place == Place::Ready);
        let delayed = jobs().filter(|(_, job)| job.place == Place::Delayed);
        let buried = jobs().filter(|(_, job)| job.place.state() == JobState::Buried);
        let number = |place: &Place| if let Place::Buried(number) = place { *number } else { 0 };
        for (state, first) in [
            // One that its limit key holds back comes behind all that none does.
            (
                JobState::Ready,
                ready.min_by_key(|(id, job)| (self.model.is_held_back(job), job.priority, job.run_at, **id)),
            ),
            (JobState::Delayed, delayed.min_by_key(|(id, job)| (job.run_at, **id))),
            (JobState::Buried, buried.min_by_key(|(_, job)| number(&job.place))),
        ] {
            let seen = self.engine.first_job(queue, state).map(|view| view.id);
            assert_eq!(seen, first.map(|(&id, _)| id), "the first {} job of {name}", state.name());
        }
        self.let_go(near);
    }

    /// Compares all that can be seen of one job, there or not.
    fn compare_job(&mut self, id: JobId) {
        let near = self.bring_near(self.engine.wanted_job(id));
        self.compare_job_near(id);
        self.let_go(near);
    }

    fn compare_job_near(&self, id: JobId) {
        let (view, job) = match (self.engine.job(id), self.model.jobs().get(&id)) {
            (None, None) => return,
            (Some(view), Some(job)) => (view, job),
            (view, job) => panic!("job {id}: the engine has {view:?}, it should be {job:?}"),
        };
        assert_eq!(view.id, id);
        assert_eq!(view.queue, &job.queue, "the queue of job {id}");
        assert_eq!(view.state, job.place.state(), "the state of job {id}");
        assert_eq!((view.priority, view.run_at), (job.priority, job.run_at), "the place of job {id}");
        assert_eq!((view.created_at, view.ttr), (job.created_at, job.ttr), "the times of job {id}");
        assert_eq!(view.delay, job.delay(), "the delay of job {id}");
        assert_eq!(view.key, job.key.as_deref(), "the key of job {id}");
        let limits = (view.max_attempts, view.max_lost_leases);
        assert_eq!(limits, (job.max_attempts, job.max_lost_leases), "the limits of job {id}");
        if let Some(key) = view.key.filter(|_| job.is_open()) {
            let found = self.engine.job_with_key(view.queue, key).map(|found| found.id);
            assert_eq!(found, Some(id), "whose key it is");
        }
        assert_eq!(*self.read(view.body), job.body, "the body of job {id}");
        assert_eq!(view.tally, job.tally, "what job {id} went through");
        let (terms, course) = (view.terms.cloned().unwrap_or_default(), view.course.cloned().unwrap_or_default());
        assert_eq!(terms, job.terms, "the terms of job {id}");
        assert!(course.waits_for.iter().eq(&job.waits_for), "what job {id} waits for");
        assert_eq!((course.held_by, course.error.as_deref()), (job.held_by, job.error.as_deref()), "job {id}");
        assert_eq!(view.progress, job.progress.as_deref(), "how far the holder of job {id} is");
        let ended = course.ended.map(|ended| (ended.state, ended.at, ended.until, ended.result.map(Vec::from)));
        let expected = match job.place.clone() {
            Place::Ended { state, at, until, result } => Some((state, at, until, result)),
            _ => None,
        };
        assert_eq!(ended, expected, "how job {id} ended");
        let lease = view
            .lease
            .map(|(session, token, deadline)| (self.clients[&session], token, deadline, view.is_lease_durable));
        let expected = match job.place {
            Place::Reserved { by, token, deadline, is_durable, .. } => Some((by, token, deadline, is_durable)),
            _ => None,
        };
        assert_eq!(lease, expected, "the lease of job {id}");
        // The model goes over all jobs for each; and in a long line the engine does not count to the end.
        if self.model.jobs().len() < MOST_ASKED_WHY {
            assert_eq!(self.engine.why(id), self.model.why(id), "why job {id} is where it is");
        }
    }
}

/// Brings near all that is due by `until`.
///
/// # Panics
/// If it cannot be read.
pub fn load(engine: &mut Engine, files: &FarFiles<SimulatedDisk>, until: Time) {
    let goal = engine.aim_near(until);
    loop {
        let due = files.due(goal, 7).expect("an index can be read");
        if due.is_empty() {
            break;
        }
        let cold = engine.are_cold(&due);
        let due: Vec<_> = due.into_iter().zip(cold).filter(|&(_, is_cold)| is_cold).map(|(entry, _)| entry).collect();
        let records = files.read(&due).expect("a record can be read");
        engine.bring_near(&records, engine.now());
    }
    engine.near_until(goal);
    files.passed();
}

/// The job that an answer names.
fn named(answer: Result<Answer, Refusal>) -> Option<JobId> {
    match answer {
        Ok(
            Answer::Put(id) | Answer::Replaced(id) | Answer::Kept(id) | Answer::Reserved(id, _) | Answer::Cancelled(id),
        )
        | Err(Refusal::KeyTaken(id)) => Some(id),
        _ => None,
    }
}

/// A sum over all that happened: the same seed must give the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace(pub u64);

impl Default for Trace {
    fn default() -> Trace {
        Trace(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Takes in one input and what came of it.
    pub fn add(&mut self, at: Time, outcome: &Outcome) {
        write!(self, "{} {:?} {}", at.0, outcome.answer, outcome.is_done).expect("nothing here fails");
        for (client, what) in &outcome.deliveries {
            let job = if let Delivered::Job { job, .. } = what { job.0 } else { 0 };
            write!(self, "{client} {job}").expect("nothing here fails");
        }
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // FNV-1a.
        self.0 = text.bytes().fold(self.0, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Ok(())
    }
}
