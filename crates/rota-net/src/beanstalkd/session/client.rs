//! What a client asks, carried out: each command to the engine and its answer to bytes, those on many jobs a slice at a time.

use super::{Hole, Server};
use crate::beanstalkd::access::{Gate, Judged};
use crate::beanstalkd::ahead::Ahead;
use crate::beanstalkd::answer::{Answer, Word};
use crate::beanstalkd::counters::Verb;
use crate::beanstalkd::far::{FarCommands, Named, name, named_by, named_by_put};
use crate::beanstalkd::request::{BatchFault, Put, Refusal, Request, When};
use crate::beanstalkd::stats::{self, Document};
use crate::timings::Timed;
use rota_engine::command::{self, Body, Command, Due, Held, JobView, KickSource, NewJob, Parent, Target};
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, JobState, Priority, Time};
use rota_engine::limits::STEP_OBJECTS;
use rota_engine::refused::PutRefused;
use rota_engine::session::SessionId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a connection is, beside its bytes.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: SessionId,
    /// The command that is carried out in slices.
    pub(super) ongoing: Option<Ongoing>,
    pub(super) waits: bool,
    /// What it waits for is the first job of a batch of at most so many.
    pub(super) waits_for: Option<usize>,
    /// Jobs of batches that this call handled.
    pub(super) batched: usize,
    /// It sends nothing more.
    pub(super) half_closed: bool,
    pub(super) is_producer: bool,
    /// It put something since that was asked last.
    pub(super) has_put: bool,
    pub(super) is_worker: bool,
    pub(super) holes: Vec<Hole>,
    pub(super) far: FarCommands,
    pub(super) ahead: Ahead,
    /// What asks for a token; none where nobody is asked.
    pub(super) gate: Option<Arc<Gate>>,
}

/// A command that handles more than one step may.
#[derive(Debug)]
pub(super) enum Ongoing {
    /// Kicks `left` more jobs of the used queue.
    Kick { source: Option<KickSource>, kicked: u64, left: u64 },
    /// Lists the queues created after that one.
    List { after: u64, document: Document },
    /// Takes the jobs that are ready by now, at most so many, with the first, which came.
    ReserveBatch { most: usize, first: (JobId, Body<Box<[u8]>>) },
    /// Goes on when what it names was brought near.
    Named(Named),
}

impl Client {
    pub(super) fn new(id: SessionId) -> Client {
        Client {
            id,
            ongoing: None,
            waits: false,
            waits_for: None,
            batched: 0,
            half_closed: false,
            is_producer: false,
            has_put: false,
            is_worker: false,
            holes: Vec::new(),
            far: FarCommands::default(),
            ahead: Ahead::default(),
            gate: None,
        }
    }

    /// Answers a command that its bytes alone refuse.
    pub(super) fn refuse(&self, refusal: Refusal, server: &mut Server<'_>, out: &mut Vec<u8>) {
        let word = match refusal {
            Refusal::BadFormat => Word::BadFormat,
            Refusal::UnknownCommand => Word::UnknownCommand,
            // Their heads were well-formed.
            Refusal::JobTooBig => {
                server.counters.count(Verb::Put, 1);
                self.puts_refused(server, PutRefused::TooLarge, 1);
                Word::JobTooBig
            }
            Refusal::ExpectedCrlf => {
                server.counters.count(Verb::Put, 1);
                Word::ExpectedCrlf
            }
            Refusal::BatchTooBig => {
                self.puts_refused(server, PutRefused::TooLarge, 1);
                Word::BatchTooBig
            }
            Refusal::InBatch { item, fault } => {
                let word = match fault {
                    BatchFault::BadFormat => Word::BadFormat,
                    BatchFault::ExpectedCrlf => Word::ExpectedCrlf,
                };
                return Answer::InBatch(word, item).write_to(out);
            }
        };
        Answer::Word(word).write_to(out);
    }

    /// Counts puts that are refused before the engine is asked.
    #[cold]
    pub(super) fn puts_refused(&self, server: &mut Server<'_>, why: PutRefused, puts: usize) {
        let queue = server.engine.used(self.id);
        server.engine.count_refused_puts(Some(queue), why, puts as u64);
    }

    /// Judges a command at the gate; none where there is no gate.
    #[inline]
    pub(super) fn judge(&self, engine: &Engine, request: &Request<'_>, out: &mut Vec<u8>) -> Option<Judged> {
        self.gate.as_ref().map(|gate| gate.judge(request, engine, self.id, out))
    }

    /// After a token was shown, the session asks in its name.
    #[cold]
    pub(super) fn take_name(&self, engine: &mut Engine, request: &Request<'_>) {
        if let (Request::Auth { .. }, Some(gate)) = (request, &self.gate) {
            engine.set_actor(self.id, gate.actor());
        }
    }

    /// Whether the job that a command names is of a queue that whoever asks is not to see.
    #[inline]
    pub(super) fn is_out_of_reach(&self, engine: &Engine, request: &Request<'_>) -> bool {
        self.gate.as_ref().is_some_and(|gate| !gate.reaches_named(engine, request))
    }

    /// Carries out a command that was put off.
    #[cold]
    pub(super) fn ask(&mut self, server: &mut Server<'_>, request: Request<'_>, out: &mut Vec<u8>) {
        if self.is_out_of_reach(server.engine, &request) {
            return Answer::Word(Word::NotFound).write_to(out);
        }
        self.request(server, request, out);
    }

    /// Carries out one command.
    pub(super) fn request(&mut self, server: &mut Server<'_>, request: Request<'_>, out: &mut Vec<u8>) {
        if let Some((verb, times)) = Verb::of(&request) {
            server.counters.count(verb, times);
        }
        let by_me = |id| Held::by_me(JobId(id));
        match request {
            Request::Put(put) => self.put(server, put, out),
            Request::PutBatch(puts) => self.put_batch(server, puts, out),
            Request::Reserve => {
                self.reserve(server, None, out);
            }
            Request::ReserveWithTimeout { seconds } => {
                self.reserve(server, Some(Duration::from_secs(seconds.into())), out);
            }
            Request::ReserveBatch { most, seconds } => self.reserve_batch(server, most, seconds, out),
            Request::ReserveJob { id } => self.reserve_job(server, id, out),
            Request::DeleteBatch(ids) => self.delete_batch(server, &ids, out),
            Request::Delete { id } => self.word(server, Command::Delete(JobId(id)), Word::Deleted, out),
            Request::Release { id, priority, delay } => {
                let release = Command::Release { held: by_me(id), priority: Priority(priority), delay };
                self.word(server, release, Word::Released, out);
            }
            Request::Bury { id, priority } => {
                let bury = Command::Bury { held: by_me(id), priority: Priority(priority) };
                self.word(server, bury, Word::Buried, out);
            }
            Request::Touch { id } => self.word(server, Command::Touch(by_me(id)), Word::Touched, out),
            Request::Cancel { id } => self.word(server, Command::Cancel(JobId(id)), Word::Cancelled, out),
            Request::CancelKey { tube, key } => self.cancel_key(server, tube, key, out),
            Request::Use { tube } => {
                self.execute(server, Command::Use(&name(tube))).expect("any queue can be used");
                Answer::Using(tube).write_to(out);
            }
            Request::Watch { tube } => self.watching(server, Command::Watch(&name(tube)), out),
            Request::Ignore { tube } => self.watching(server, Command::Ignore(&name(tube)), out),
            Request::Peek { id } => self.found(server.engine.open_job(JobId(id)), out),
            Request::PeekReady => self.peek(server, JobState::Ready, out),
            Request::PeekDelayed => self.peek(server, JobState::Delayed, out),
            Request::PeekBuried => self.peek(server, JobState::Buried, out),
            Request::Kick { bound } => {
                self.ongoing = Some(Ongoing::Kick { source: None, kicked: 0, left: bound.into() });
            }
            Request::KickJob { id } => self.word(server, Command::KickJob(JobId(id)), Word::Kicked, out),
            Request::Stats => {
                let document = stats::server(server.engine, server.counters, server.facts, server.now);
                Answer::Document(document.as_bytes()).write_to(out);
            }
            Request::StatsJob { id } => {
                let document = server.engine.open_job(JobId(id)).map(|job| stats::job(&job, server.engine.now()));
                document_or_not_found(document, out);
            }
            Request::StatsTube { tube } => {
                let queue = server.engine.find_queue(&name(tube));
                document_or_not_found(queue.map(|queue| stats::tube(&server.engine.queue(queue))), out);
            }
            Request::ListTubes => self.ongoing = Some(Ongoing::List { after: 0, document: Document::new() }),
            Request::ListTubeUsed => self.using(server, out),
            Request::ListTubesWatched => self.list_watched(server, out),
            Request::PauseTube { tube, delay } => {
                self.word(server, Command::Pause { queue: &name(tube), length: delay }, Word::Paused, out);
            }
            // Nobody is asked who they are.
            Request::Auth { .. } => Answer::Word(Word::Authenticated).write_to(out),
            Request::Quit => unreachable!("quit never gets here"),
        }
    }

    /// Does the next slice of a command, and answers if it was the last.
    pub(super) fn step(&mut self, ongoing: Ongoing, server: &mut Server<'_>, out: &mut Vec<u8>) -> Option<Ongoing> {
        match ongoing {
            Ongoing::Named(_) => unreachable!("it has no slices"),
            Ongoing::ReserveBatch { most, first: (job, body) } => {
                let start = self.begin_batch(out);
                self.reserved(job, body.as_slice(), out);
                self.fill_batch(server, most, start, out);
            }
            Ongoing::Kick { source, kicked, left } => {
                let kick = Command::Kick { queue: Target::Used, limit: left, source };
                if self.far.wants(server.engine, |engine| engine.wanted(self.id, &kick, server.now)) {
                    return Some(ongoing);
                }
                let answer = server.engine.execute(self.id, kick, server.now);
                let Ok(command::Answer::Kicked { count, source, left }) = answer else {
                    unreachable!("a kick is not answered {answer:?}");
                };
                let kicked = kicked + count;
                if left > 0 {
                    return Some(Ongoing::Kick { source: Some(source), kicked, left });
                }
                Answer::Kicked(kicked).write_to(out);
            }
            Ongoing::List { mut after, mut document } => {
                let mut listed = 0;
                for (number, queue) in server.engine.queues_after(after).take(STEP_OBJECTS) {
                    let name = server.engine.queue_name(queue);
                    if self.gate.as_ref().is_none_or(|gate| gate.covers(name)) {
                        document.item(name.as_str());
                    }
                    after = number;
                    listed += 1;
                }
                if listed == STEP_OBJECTS {
                    return Some(Ongoing::List { after, document });
                }
                Answer::Document(document.as_bytes()).write_to(out);
            }
        }
        None
    }

    /// Puts a request off if what it names may not be in memory; returns it if it can be carried out. What of the requests
    /// behind it in `input` may not be either is looked up with it.
    pub(super) fn put_off<'r>(&mut self, engine: &Engine, request: Request<'r>, input: &[u8]) -> Option<Request<'r>> {
        if !engine.has_far_jobs() {
            return Some(request);
        }
        let id = self.id;
        let is_wanted = match &request {
            Request::PutBatch(puts) => {
                let used = engine.queue_name(engine.used(id));
                self.far.wants_all(engine, puts.iter().flatten().flat_map(|put| named_by_put(engine, used, put)))
            }
            Request::Put(put) => {
                self.far.wants_all(engine, named_by_put(engine, engine.queue_name(engine.used(id)), put))
            }
            Request::DeleteBatch(ids) => {
                self.far.wants_all(engine, ids.iter().filter_map(|&id| engine.wanted_job(JobId(id))))
            }
            // Which queue it is of is in the job alone.
            Request::Delete { id } | Request::Cancel { id }
                if self.gate.as_ref().is_some_and(|gate| gate.is_limited()) =>
            {
                self.far.wants(engine, |engine| engine.wanted_job(JobId(*id)))
            }
            request => self.far.wants(engine, |engine| named_by(engine, id, request)),
        };
        if !is_wanted {
            return Some(request);
        }
        self.far.look_ahead(engine, input);
        self.ongoing = Some(Ongoing::Named(Named::of(request)));
        None
    }

    /// The same of a request that was put off before: what else it names may have left memory meanwhile.
    pub(super) fn put_off_again<'r>(&mut self, engine: &Engine, request: Request<'r>) -> Option<Request<'r>> {
        let request = self.put_off(engine, request, b"");
        if request.is_none() {
            self.far.want_known_again();
        }
        request
    }

    pub(super) fn execute(
        &self,
        server: &mut Server<'_>,
        command: Command<'_>,
    ) -> Result<command::Answer, command::Refusal> {
        // Clocks are looked at only for somebody who collects, and for what they collect.
        let timed = server.timings.as_ref().and(Timed::of(&command)).map(|what| (what, Instant::now()));
        let answer = server.engine.execute(self.id, command, server.now);
        if let (Some((what, since)), Some(timings)) = (timed, &mut server.timings) {
            timings.note(what, since);
        }
        answer
    }

    /// A command that is answered by one word when it was done.
    pub(super) fn word(&self, server: &mut Server<'_>, command: Command<'_>, done: Word, out: &mut Vec<u8>) {
        match self.execute(server, command) {
            Ok(_) => Answer::Word(done).write_to(out),
            Err(refusal) => refused(refusal).write_to(out),
        }
    }

    fn put(&mut self, server: &mut Server<'_>, put: Put, out: &mut Vec<u8>) {
        if server.facts.draining {
            self.puts_refused(server, PutRefused::Draining, 1);
            return Answer::Word(Word::Draining).write_to(out);
        }
        match self.put_one(server, put) {
            Ok(id) => Answer::Inserted(id.0).write_to(out),
            Err(refusal) => refused(refusal).write_to(out),
        }
    }

    pub(super) fn put_one(&mut self, server: &mut Server<'_>, put: Put) -> Result<JobId, command::Refusal> {
        self.has_put = true;
        if !self.is_producer {
            self.is_producer = true;
            server.counters.producers += 1;
        }
        // Clients rely on getting a job back however often they lose it, so that there is no limit to that.
        let parents: Vec<Parent<'_>>;
        let after = if put.after.is_empty() {
            &[][..]
        } else {
            parents = put.after.iter().map(|&id| Parent::Id(JobId(id))).collect();
            &parents
        };
        let job = NewJob {
            priority: Priority(put.priority),
            due: match put.when {
                When::In(delay) => Due::In(delay),
                When::At { unix_ms } => Due::At(Time(unix_ms * 1_000_000)),
            },
            ttr: put.ttr,
            key: put.key.as_deref(),
            after,
            ..NewJob::new(Target::Used, put.body)
        };
        match self.execute(server, Command::Put(job))? {
            command::Answer::Put(id) => Ok(id),
            answer => unreachable!("a put is not answered {answer:?}"),
        }
    }

    /// Returns whether there was a job at once.
    pub(super) fn reserve(&mut self, server: &mut Server<'_>, wait: Option<Duration>, out: &mut Vec<u8>) -> bool {
        self.becomes_worker(server);
        let wait = if self.half_closed { Some(Duration::ZERO) } else { wait };
        let answer = self.execute(server, Command::Reserve { wait });
        match answer {
            Ok(command::Answer::Reserved(id, _)) => self.just_reserved(server.engine, id, out),
            Ok(command::Answer::TimedOut) => Answer::Word(Word::TimedOut).write_to(out),
            Ok(command::Answer::DeadlineSoon) => Answer::Word(Word::DeadlineSoon).write_to(out),
            Ok(command::Answer::Waiting) => self.waits = true,
            answer => unreachable!("a reserve is not answered {answer:?}"),
        }
        matches!(answer, Ok(command::Answer::Reserved(..)))
    }

    fn reserve_job(&mut self, server: &mut Server<'_>, id: u64, out: &mut Vec<u8>) {
        match self.execute(server, Command::ReserveJob(JobId(id))) {
            Ok(_) => {
                self.becomes_worker(server);
                self.just_reserved(server.engine, JobId(id), out);
            }
            Err(refusal) => refused(refusal).write_to(out),
        }
    }

    pub(super) fn becomes_worker(&mut self, server: &mut Server<'_>) {
        if !self.is_worker {
            self.is_worker = true;
            server.counters.workers += 1;
        }
    }

    fn cancel_key(&self, server: &mut Server<'_>, tube: &str, key: &[u8], out: &mut Vec<u8>) {
        match self.execute(server, Command::CancelKey { queue: &name(tube), key }) {
            Ok(command::Answer::Cancelled(id)) => Answer::CancelledKey(id.0).write_to(out),
            Ok(answer) => unreachable!("a cancel is not answered {answer:?}"),
            Err(refusal) => refused(refusal).write_to(out),
        }
    }

    fn watching(&self, server: &mut Server<'_>, command: Command<'_>, out: &mut Vec<u8>) {
        match self.execute(server, command) {
            Ok(command::Answer::Watching(tubes)) => Answer::Watching(tubes).write_to(out),
            Ok(answer) => unreachable!("watch and ignore are not answered {answer:?}"),
            Err(refusal) => refused(refusal).write_to(out),
        }
    }

    fn peek(&mut self, server: &Server<'_>, state: JobState, out: &mut Vec<u8>) {
        self.found(server.engine.first_job(server.engine.used(self.id), state), out);
    }

    /// Shows a job that was just reserved.
    pub(super) fn just_reserved(&mut self, engine: &Engine, id: JobId, out: &mut Vec<u8>) {
        let job = engine.job(id).expect("a job that was just reserved is there");
        self.reserved(id, job.body, out);
    }

    pub(super) fn reserved(&mut self, id: JobId, body: Body<&[u8]>, out: &mut Vec<u8>) {
        Answer::Reserved { id: id.0, body }.write_to(out);
        self.leave_hole(body, out);
    }

    fn found(&mut self, job: Option<JobView<'_>>, out: &mut Vec<u8>) {
        match job {
            Some(job) => {
                Answer::Found { id: job.id.0, body: job.body }.write_to(out);
                self.leave_hole(job.body, out);
            }
            None => Answer::Word(Word::NotFound).write_to(out),
        }
    }

    /// Takes note of the hole that was left for a body at the end of an answer.
    pub(super) fn leave_hole(&mut self, body: Body<&[u8]>, out: &[u8]) {
        if let Body::InLog(body) = body {
            self.holes.push(Hole { at: out.len() - "\r\n".len() - body.body_bytes as usize, body });
        }
    }

    fn using(&self, server: &Server<'_>, out: &mut Vec<u8>) {
        let used = server.engine.used(self.id);
        Answer::Using(server.engine.queue_name(used).as_str()).write_to(out);
    }

    fn list_watched(&self, server: &Server<'_>, out: &mut Vec<u8>) {
        let mut document = Document::new();
        for &queue in server.engine.watched(self.id) {
            document.item(server.engine.queue_name(queue).as_str());
        }
        Answer::Document(document.as_bytes()).write_to(out);
    }
}

fn document_or_not_found(document: Option<Document>, out: &mut Vec<u8>) {
    match document {
        Some(document) => Answer::Document(document.as_bytes()).write_to(out),
        None => Answer::Word(Word::NotFound).write_to(out),
    }
}

/// How the engine's refusals are told.
pub(super) fn refused(refusal: command::Refusal) -> Answer<'static> {
    match refusal {
        command::Refusal::NotFound | command::Refusal::NoSuchQueue | command::Refusal::UnknownParent(_) => {
            Answer::Word(Word::NotFound)
        }
        command::Refusal::LastWatched => Answer::Word(Word::NotIgnored),
        command::Refusal::TooManyWatched
        | command::Refusal::TooManyQueues
        | command::Refusal::NoRoom
        | command::Refusal::QueueFull => Answer::Word(Word::OutOfMemory),
        command::Refusal::KeyTaken(id) | command::Refusal::KeyHeld(id) => Answer::KeyTaken(id.0),
        command::Refusal::BadKey => Answer::Word(Word::BadFormat),
        command::Refusal::LaterParent(_) | command::Refusal::BadTerms(_) | command::Refusal::TooLong(_) => {
            unreachable!("nothing here says such things of a job")
        }
        command::Refusal::NoSuchSchedule
        | command::Refusal::TooManySchedules
        | command::Refusal::TooMuchScheduled
        | command::Refusal::BadTiming
        | command::Refusal::NeverTicks => unreachable!("nothing here asks for schedules"),
        command::Refusal::AlreadyWaiting => unreachable!("who waits asks for nothing"),
    }
}
