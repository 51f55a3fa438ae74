//! One connection's half of the conversation: takes bytes, has the engine do what they ask, gives bytes.
//!
//! The listener calls [`Session::receive`] with what it read, under whatever keeps the engine single-threaded, and sends
//! what that wrote. Nothing here waits: a reserve that finds no job says [`Status::Waiting`], and goes on with
//! [`Session::deliver`]. A body that is in the log alone is not read here: the answer has a [`Hole`] for it. Nothing is
//! unbounded either: one call writes about [`OUTPUT_BYTES`] at the most, and work on
//! many jobs or tubes is done a slice at a time.

mod batch;

use super::access::{Gate, Judged};
use super::ahead::Ahead;
use super::answer::{Answer, Word};
use super::counters::{Counters, Verb};
use super::facts::Facts;
use super::far::{FarCommands, Named};
use super::parse::{Parsed, Parser};
use super::request::{BatchFault, Put, Refusal, Request, When};
use super::stats::{self, Document};
use crate::timings::{Timed, Timings};
use rota_engine::command::{
    self, Body, BodyPlace, Command, Delivered, Due, Held, JobView, KickSource, NewJob, Parent, Target,
};
use rota_engine::engine::Engine;
use rota_engine::far::{FarFound, Want};
use rota_engine::job::{JobId, JobState, Priority, QueueName, Time};
use rota_engine::limits::STEP_OBJECTS;
use rota_engine::refused::PutRefused;
use rota_engine::session::SessionId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A call of [`Session::receive`] carries out no further command once it has written this much.
pub const OUTPUT_BYTES: usize = 256 * 1024;

/// What a session works with, for the length of one call.
#[derive(Debug)]
pub struct Server<'a> {
    /// The engine, which nobody else touches meanwhile.
    pub engine: &'a mut Engine,
    /// The front end's counts.
    pub counters: &'a mut Counters,
    /// What the server tells of itself.
    pub facts: &'a Facts,
    /// How long commands take; `None` if nobody collects it.
    pub timings: Option<&'a mut Timings>,
    /// This moment.
    pub now: Time,
}

/// How a session stands after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// All input was taken. It goes on when there is more.
    NeedMore,
    /// It stopped in between: send what there is to send, let others have a turn, and call again with the input that
    /// was not taken, even if that is none.
    Again,
    /// It waits for a job. Call nothing but [`Session::deliver`], [`Session::half_close`] and [`Session::close`].
    Waiting,
    /// Send what there is to send, and close the connection.
    Close,
}

/// Where a body belongs that is in the log alone. It has to be there before the answers leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hole {
    /// Where in what was written it begins, in bytes; it is as long as the body.
    pub at: usize,
    /// Where the body is.
    pub body: BodyPlace,
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    parser: Parser,
    client: Client,
}

/// What a connection is, beside its bytes.
#[derive(Debug)]
struct Client {
    id: SessionId,
    /// The command that is carried out in slices.
    ongoing: Option<Ongoing>,
    waits: bool,
    /// What it waits for is the first job of a batch of at most so many.
    waits_for: Option<usize>,
    /// Jobs of batches that this call handled.
    batched: usize,
    /// It sends nothing more.
    half_closed: bool,
    is_producer: bool,
    /// It put something since that was asked last.
    has_put: bool,
    is_worker: bool,
    holes: Vec<Hole>,
    far: FarCommands,
    ahead: Ahead,
    /// What asks for a token; none where nobody is asked.
    gate: Option<Arc<Gate>>,
}

/// A command that handles more than one step may.
#[derive(Debug)]
enum Ongoing {
    /// Kicks `left` more jobs of the used queue.
    Kick { source: Option<KickSource>, kicked: u64, left: u64 },
    /// Lists the queues created after that one.
    List { after: u64, document: Document },
    /// Takes the jobs that are ready by now, at most so many, with the first, which came.
    ReserveBatch { most: usize, first: (JobId, Body<Box<[u8]>>) },
    /// Goes on when what it names was brought near.
    Named(Named),
}

impl Session {
    /// A new connection; `None` if the engine has no room for one.
    pub fn open(server: &mut Server<'_>) -> Option<Session> {
        let id = server.engine.open_session()?;
        server.counters.connections += 1;
        server.counters.total_connections += 1;
        let client = Client {
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
        };
        Some(Session { parser: Parser::new(server.facts.max_job_bytes), client })
    }

    /// From now on, commands have to go through that gate.
    pub fn guard(&mut self, gate: Arc<Gate>) {
        self.client.gate = Some(gate);
    }

    /// Its number in the engine: deliveries name it.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.client.id
    }

    /// The holes in what was written since the last call of this, which must all have gone behind one another into one
    /// `out`, empty at first.
    pub fn take_holes(&mut self) -> Vec<Hole> {
        std::mem::take(&mut self.client.holes)
    }

    /// Whether there are holes to be taken. Their bodies are where they say as long as no segment of the log is removed.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        !self.client.holes.is_empty()
    }

    /// What the command needs that it stopped at, out of what is not in memory: it is to be looked up, and given with
    /// [`Session::give`] before the next call of [`Session::receive`].
    pub fn take_wants(&mut self) -> Vec<Want> {
        self.client.far.take_wants()
    }

    /// Whether it put something since the last call of this.
    pub fn take_has_put(&mut self) -> bool {
        std::mem::take(&mut self.client.has_put)
    }

    /// Gives what was wanted.
    pub fn give(&mut self, found: Vec<(Want, FarFound)>) {
        self.client.far.given = found;
    }

    /// Carries out what `input` asks, and appends the answers to `out`. Says how many bytes it took.
    ///
    /// The answers depend on the log as [`Engine::depends_on`] says afterwards.
    ///
    /// # Panics
    /// If it waits.
    pub fn receive(&mut self, server: &mut Server<'_>, input: &[u8], out: &mut Vec<u8>) -> (usize, Status) {
        assert!(!self.client.waits, "commands behind a reserve that waits are kept back");
        self.client.batched = 0;
        // What is only looked at, without a command to the engine, is looked at now too.
        server.engine.tick(server.now);
        let mut rest = input;
        let is_known = self.client.far.bring_near(server.engine, server.now);
        let status = if is_known { self.carry_out(server, &mut rest, out) } else { Status::Again };
        self.client.far.let_go(server.engine);
        (input.len() - rest.len(), status)
    }

    /// Whether a command is carried out only in part: it goes on with [`Session::receive`], without any more input, and
    /// what was written so far can be sent with the rest.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.client.ongoing.is_some()
    }

    /// Ends its wait with what came of it. It goes on with [`Session::receive`], if only to learn its status.
    ///
    /// # Panics
    /// If it doesn't wait.
    pub fn deliver(&mut self, delivered: Delivered, out: &mut Vec<u8>) {
        assert!(self.client.waits, "only who waits is delivered to");
        self.client.waits = false;
        let waited_for = self.client.waits_for.take();
        match delivered {
            Delivered::Job { job, body, .. } => match waited_for {
                Some(most) => self.client.ongoing = Some(Ongoing::ReserveBatch { most, first: (job, body) }),
                None => self.client.reserved(job, body.as_slice(), out),
            },
            Delivered::TimedOut => Answer::Word(Word::TimedOut).write_to(out),
            Delivered::DeadlineSoon => Answer::Word(Word::DeadlineSoon).write_to(out),
            Delivered::LeaseEnded { .. } => unreachable!("a connection does not follow its leases"),
        }
    }

    /// The client sends nothing more: what it sent is carried out by further calls of [`Session::receive`], with no
    /// reserve waiting any more, until that says [`Status::Close`]. This says [`Status::Again`], or
    /// [`Status::Waiting`] if a delivery is on its way already.
    pub fn half_close(&mut self, server: &mut Server<'_>, out: &mut Vec<u8>) -> Status {
        self.client.half_closed = true;
        if self.client.waits {
            if !server.engine.stop_waiting(self.client.id) {
                return Status::Waiting;
            }
            self.deliver(Delivered::TimedOut, out);
        }
        Status::Again
    }

    /// Ends the connection: its jobs are ready again.
    pub fn close(self, server: &mut Server<'_>) {
        server.counters.connections -= 1;
        server.counters.producers -= u64::from(self.client.is_producer);
        server.counters.workers -= u64::from(self.client.is_worker);
        server.engine.close_session(self.client.id, server.now);
    }

    fn carry_out(&mut self, server: &mut Server<'_>, input: &mut &[u8], out: &mut Vec<u8>) -> Status {
        loop {
            match self.client.ongoing.take() {
                Some(Ongoing::Named(named)) => named.ask(&mut |request| self.client.ask(server, request, out)),
                Some(ongoing) => self.client.ongoing = self.client.step(ongoing, server, out),
                None => {}
            }
            if self.client.waits {
                return Status::Waiting;
            }
            if self.client.ongoing.is_some() {
                return Status::Again;
            }
            if out.len() >= OUTPUT_BYTES || self.client.batched >= STEP_OBJECTS {
                return Status::Again;
            }
            match self.parser.next(input) {
                Parsed::Request(Request::Quit) | Parsed::Foreign(_) => return Status::Close,
                Parsed::Request(request) => {
                    if let Some(judged) = self.client.judge(server.engine, &request, out) {
                        match judged {
                            Judged::Allowed => {}
                            Judged::Answered => {
                                self.client.take_name(server.engine, &request);
                                continue;
                            }
                            Judged::Ended => return Status::Close,
                        }
                    }
                    if matches!(request, Request::Delete { .. } | Request::Cancel { .. }) {
                        self.client.ahead.look(server.engine, input);
                    }
                    match self.client.put_off(server.engine, request, input) {
                        Some(request) if self.client.is_out_of_reach(server.engine, &request) => {
                            Answer::Word(Word::NotFound).write_to(out);
                        }
                        Some(request) => self.client.request(server, request, out),
                        None => return Status::Again,
                    }
                }
                Parsed::Refused(refusal) => self.client.refuse(refusal, server, out),
                Parsed::NeedMore if self.client.half_closed => return Status::Close,
                Parsed::NeedMore => return Status::NeedMore,
            }
            if self.client.waits {
                return Status::Waiting;
            }
        }
    }
}

impl Client {
    /// Answers a command that its bytes alone refuse.
    fn refuse(&self, refusal: Refusal, server: &mut Server<'_>, out: &mut Vec<u8>) {
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
            Refusal::BatchTooBig => Word::BatchTooBig,
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
    fn puts_refused(&self, server: &mut Server<'_>, why: PutRefused, puts: usize) {
        let queue = server.engine.used(self.id);
        server.engine.count_refused_puts(Some(queue), why, puts as u64);
    }

    /// Judges a command at the gate; none where there is no gate.
    #[inline]
    fn judge(&self, engine: &Engine, request: &Request<'_>, out: &mut Vec<u8>) -> Option<Judged> {
        self.gate.as_ref().map(|gate| gate.judge(request, engine, self.id, out))
    }

    /// After a token was shown, the session asks in its name.
    #[cold]
    fn take_name(&self, engine: &mut Engine, request: &Request<'_>) {
        if let (Request::Auth { .. }, Some(gate)) = (request, &self.gate) {
            engine.set_actor(self.id, gate.actor());
        }
    }

    /// Whether the job that a command names is of a queue that whoever asks is not to see.
    #[inline]
    fn is_out_of_reach(&self, engine: &Engine, request: &Request<'_>) -> bool {
        self.gate.as_ref().is_some_and(|gate| !gate.reaches_named(engine, request))
    }

    /// Carries out a command that was put off.
    #[cold]
    fn ask(&mut self, server: &mut Server<'_>, request: Request<'_>, out: &mut Vec<u8>) {
        if self.is_out_of_reach(server.engine, &request) {
            return Answer::Word(Word::NotFound).write_to(out);
        }
        self.request(server, request, out);
    }

    /// Carries out one command.
    fn request(&mut self, server: &mut Server<'_>, request: Request<'_>, out: &mut Vec<u8>) {
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
    fn step(&mut self, ongoing: Ongoing, server: &mut Server<'_>, out: &mut Vec<u8>) -> Option<Ongoing> {
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
    fn put_off<'r>(&mut self, engine: &Engine, request: Request<'r>, input: &[u8]) -> Option<Request<'r>> {
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

    fn execute(&self, server: &mut Server<'_>, command: Command<'_>) -> Result<command::Answer, command::Refusal> {
        // Clocks are looked at only for somebody who collects, and for what they collect.
        let timed = server.timings.as_ref().and(Timed::of(&command)).map(|what| (what, Instant::now()));
        let answer = server.engine.execute(self.id, command, server.now);
        if let (Some((what, since)), Some(timings)) = (timed, &mut server.timings) {
            timings.note(what, since);
        }
        answer
    }

    /// A command that is answered by one word when it was done.
    fn word(&self, server: &mut Server<'_>, command: Command<'_>, done: Word, out: &mut Vec<u8>) {
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

    fn put_one(&mut self, server: &mut Server<'_>, put: Put) -> Result<JobId, command::Refusal> {
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
    fn reserve(&mut self, server: &mut Server<'_>, wait: Option<Duration>, out: &mut Vec<u8>) -> bool {
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

    fn becomes_worker(&mut self, server: &mut Server<'_>) {
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
    fn just_reserved(&mut self, engine: &Engine, id: JobId, out: &mut Vec<u8>) {
        let job = engine.job(id).expect("a job that was just reserved is there");
        self.reserved(id, job.body, out);
    }

    fn reserved(&mut self, id: JobId, body: Body<&[u8]>, out: &mut Vec<u8>) {
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
    fn leave_hole(&mut self, body: Body<&[u8]>, out: &[u8]) {
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

/// What a request names that may not be in memory.
fn named_by(engine: &Engine, session: SessionId, request: &Request<'_>) -> Option<Want> {
    match *request {
        Request::ReserveJob { id } | Request::Peek { id } | Request::KickJob { id } | Request::StatsJob { id } => {
            engine.wanted_job(JobId(id))
        }
        Request::Delete { id } | Request::Cancel { id } => engine.wanted_place(JobId(id)),
        Request::PeekDelayed => engine.wanted_first(engine.used(session)),
        Request::CancelKey { tube, key } => engine.wanted_key(&name(tube), key),
        _ => None,
    }
}

/// What a put names that may not be in memory: the job that has its key, and those that it waits for.
fn named_by_put<'a>(engine: &'a Engine, used: &'a QueueName, put: &'a Put) -> impl Iterator<Item = Want> + 'a {
    let key = put.key.as_deref().and_then(|key| engine.wanted_key(used, key));
    key.into_iter().chain(put.after.iter().filter_map(|&id| engine.wanted_parent(&Parent::Id(JobId(id)))))
}

/// The name of a tube as the engine takes it.
fn name(tube: &str) -> QueueName {
    QueueName::new(tube).expect("the parser lets no other names through")
}

fn document_or_not_found(document: Option<Document>, out: &mut Vec<u8>) {
    match document {
        Some(document) => Answer::Document(document.as_bytes()).write_to(out),
        None => Answer::Word(Word::NotFound).write_to(out),
    }
}

/// How the engine's refusals are told.
fn refused(refusal: command::Refusal) -> Answer<'static> {
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
