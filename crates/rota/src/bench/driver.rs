//! Moves the bytes of a stage: a connection for every task, driven by readiness from a few threads.
//!
//! Connections are opened, and put on the queue, before the clock starts. What the bytes mean is `task`'s business.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use super::BenchError;
use super::socket::Socket;
use super::task::{Moment, Outgoing, Shared, Tally, Task};
use rota_client::{QueueName, ServerAddress};

/// How long a stage may be without any answer; delays are added to it.
const STALL: Duration = Duration::from_secs(30);

/// How often a thread looks whether the others have ended the stage, and the progress bar moves.
const LOOK: Duration = Duration::from_millis(20);

/// The least input that is read at once, in bytes.
const INPUT_BYTES: usize = 64 << 10;

/// Where all connections go, and as who.
pub(super) struct Target<'a> {
    pub(super) server: &'a ServerAddress,
    /// What to shake hands with, if TLS is spoken there.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// What each connection shows first.
    pub(super) token: Option<String>,
}

/// A stage to be run.
pub(super) struct Stage<'a> {
    pub(super) target: &'a Target<'a>,
    pub(super) queue: &'a QueueName,
    pub(super) tasks: Vec<Task>,
    pub(super) threads: usize,
    /// The length of bodies, in bytes.
    pub(super) size: usize,
    /// How long a task that ends by itself takes for a batch, at least; to the millisecond, as sockets are waited for.
    pub(super) pace: Option<Duration>,
    /// How long it may rightly be quiet, on top of what an answer takes.
    pub(super) longest_delay: Duration,
    pub(super) bar: &'a ProgressBar,
}

/// What came of it.
pub(super) struct Done {
    /// From the first write to the last answer.
    pub(super) elapsed: Duration,
    pub(super) tally: Tally,
    /// The tasks, finished, with what they collected.
    pub(super) tasks: Vec<Task>,
    /// True if time ended it before the jobs did.
    pub(super) stopped_by_time: bool,
}

/// Runs a stage to its end. `shared` is called when all connections are open, and starts the clock.
///
/// # Errors
/// The first thing that went wrong on any connection; the others are then dropped.
pub(super) fn run(stage: Stage<'_>, shared: impl FnOnce() -> Shared) -> Result<Done, BenchError> {
    let of = stage.tasks.len();
    let mut lanes: Vec<Vec<Connection>> = (0..stage.threads.min(of)).map(|_| Vec::new()).collect();
    let lane_count = lanes.len();
    for (index, task) in stage.tasks.into_iter().enumerate() {
        let stream = open(stage.target, stage.queue).map_err(|source| BenchError::Connect {
            server: stage.target.server.clone(),
            number: index + 1,
            of,
            source,
        })?;
        let pace = stage.pace.filter(|_| !task.is_open_ended());
        // So that not all of them begin at once.
        let offset = pace.map_or(Duration::ZERO, |pace| pace.mul_f64(index as f64 / of as f64));
        lanes[index % lane_count].push(Connection::new(
            stream,
            task,
            stage.size,
            pace.map(|every| Pace { every, offset }),
        ));
    }
    let quiet = STALL + stage.longest_delay;
    let shared = shared();
    let abandoned = AtomicBool::new(false);
    let (sender, ended) = mpsc::channel();
    let mut outcomes = thread::scope(|scope| {
        for lane in lanes {
            let sender = sender.clone();
            let (shared, abandoned) = (&shared, &abandoned);
            scope.spawn(move || {
                let outcome = drive(lane, shared, abandoned, quiet);
                if outcome.is_err() {
                    abandoned.store(true, Ordering::Relaxed);
                }
                sender.send(outcome).expect("the receiver outlives the scope");
            });
        }
        let mut outcomes = Vec::new();
        while outcomes.len() < lane_count {
            match ended.recv_timeout(5 * LOOK) {
                Ok(outcome) => outcomes.push(outcome),
                Err(RecvTimeoutError::Timeout) => {
                    stage.bar.set_position(shared.done.load(Ordering::Relaxed));
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("this function holds a sender"),
            }
        }
        outcomes
    });
    // The first error is the cause; a lane that only stopped because of it gives none.
    let mut tally = Tally::new();
    let mut tasks = Vec::new();
    for outcome in outcomes.drain(..) {
        let (lane_tally, lane_tasks) = outcome?;
        tally.merge(&lane_tally);
        tasks.extend(lane_tasks);
    }
    let elapsed = tally.last_answer.map_or(Duration::ZERO, |last| last - shared.start);
    Ok(Done { elapsed, tally, tasks, stopped_by_time: shared.jobs_left() })
}

/// When the batches of a connection begin.
#[derive(Clone, Copy)]
struct Pace {
    every: Duration,
    /// When the next one does, counted from the stage's start.
    offset: Duration,
}

/// A socket with its task.
struct Connection {
    stream: Socket<mio::net::TcpStream>,
    task: Task,
    pace: Option<Pace>,
    /// Whether it waits for its next batch's turn.
    is_resting: bool,
    outgoing: Outgoing,
    /// Bytes of `outgoing` that the socket has taken.
    sent: usize,
    written_at: Instant,
    /// Answers of the batch under way that have not come yet; zero if the task is finished.
    awaited: usize,
    /// What was read: `input[start..end]` is yet to be understood.
    input: Vec<u8>,
    start: usize,
    end: usize,
}

/// Runs some connections to the end of their tasks.
fn drive(
    mut connections: Vec<Connection>,
    shared: &Shared,
    abandoned: &AtomicBool,
    quiet: Duration,
) -> Result<(Tally, Vec<Task>), BenchError> {
    let mut tally = Tally::new();
    let mut poll = Poll::new().map_err(BenchError::Poll)?;
    let mut events = Events::with_capacity(1024);
    let mut busy = 0;
    let mut waiting = 0;
    for (index, connection) in connections.iter_mut().enumerate() {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(connection.stream.below(), Token(index), both).map_err(BenchError::Poll)?;
        connection.begin(shared, Instant::now())?;
        match connection.task.is_open_ended() {
            true => waiting += 1,
            false if connection.awaited > 0 || connection.is_resting => busy += 1,
            false => {}
        }
    }
    let mut last_answer = Instant::now();
    let mut resting: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    let rests = |connection: &Connection, index| Some(Reverse((connection.rests_until()?, index)));
    resting.extend(connections.iter().enumerate().filter_map(|(index, connection)| rests(connection, index)));
    while busy > 0 || (waiting > 0 && !shared.all_taken()) {
        if abandoned.load(Ordering::Relaxed) {
            break;
        }
        let passed = shared.start.elapsed();
        let rest = resting.peek().map_or(LOOK, |Reverse((until, _))| until.saturating_sub(passed));
        match poll.poll(&mut events, Some(rest.min(LOOK))) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(BenchError::Poll(error)),
        }
        if events.is_empty() && last_answer.elapsed() > quiet {
            let awaited = connections.iter().map(|connection| connection.awaited).sum();
            return Err(BenchError::Stalled { after: quiet, awaited });
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            if connection.awaited == 0 {
                continue;
            }
            if connection.advance(shared, &mut tally, event.is_read_closed())? {
                last_answer = tally.last_answer.unwrap_or(last_answer);
            }
            match rests(connection, event.token().0) {
                Some(rest) => resting.push(rest),
                None if connection.awaited == 0 => busy -= 1,
                None => {}
            }
        }
        let now = Instant::now();
        while resting.peek().is_some_and(|Reverse((until, _))| *until <= now - shared.start) {
            let Some(Reverse((_, index))) = resting.pop() else { break };
            let connection = &mut connections[index];
            connection.begin(shared, now)?;
            busy -= usize::from(connection.awaited == 0);
        }
    }
    Ok((tally, connections.into_iter().map(|connection| connection.task).collect()))
}

impl Connection {
    fn new(stream: Socket<mio::net::TcpStream>, task: Task, size: usize, pace: Option<Pace>) -> Self {
        Connection {
            stream,
            task,
            pace,
            is_resting: false,
            outgoing: Outgoing::Own(Vec::new()),
            sent: 0,
            written_at: Instant::now(),
            awaited: 0,
            // A whole answer with its body must fit.
            input: vec![0; INPUT_BYTES.max(size + 1024)],
            start: 0,
            end: 0,
        }
    }

    /// Begins the next batch of the task, if there is one.
    fn begin(&mut self, shared: &Shared, now: Instant) -> Result<(), BenchError> {
        self.sent = 0;
        self.awaited = 0;
        self.is_resting = false;
        if let Some(pace) = &mut self.pace
            && !self.task.is_under_way()
        {
            if pace.offset > now - shared.start {
                self.is_resting = true;
                return Ok(());
            }
            pace.offset += pace.every;
        }
        self.awaited = self.task.next(shared, now, &mut self.outgoing);
        if self.awaited > 0 {
            self.written_at = now;
            self.flush()?;
        }
        Ok(())
    }

    /// When its next batch begins, counted from the stage's start, if it waits for that.
    fn rests_until(&self) -> Option<Duration> {
        self.pace.filter(|_| self.is_resting).map(|pace| pace.offset)
    }

    /// Writes as much of the batch as the socket takes.
    fn flush(&mut self) -> Result<(), BenchError> {
        let bytes = self.outgoing.bytes();
        loop {
            let rest = &bytes[self.sent..];
            let done = if rest.is_empty() { self.stream.flush().map(|()| 0) } else { self.stream.write(rest) };
            match done {
                Ok(_) if rest.is_empty() => return Ok(()),
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// Reads and writes all that can be; true if anything was read. `closed`: the server sends no more.
    fn advance(&mut self, shared: &Shared, tally: &mut Tally, closed: bool) -> Result<bool, BenchError> {
        self.flush()?;
        let mut any = false;
        while self.awaited > 0 {
            self.make_room();
            let room = self.input.len() - self.end;
            let read = match self.stream.read(&mut self.input[self.end..]) {
                Ok(0) => {
                    return Err(BenchError::Closed { verb: self.task.verb(), awaited: self.awaited });
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error)),
            };
            any = true;
            self.end += read;
            let now = Instant::now();
            tally.last_answer = Some(now);
            self.understand(shared, tally, now)?;
            if read < room && !closed && self.stream.gives_all() {
                // The socket is drained: what comes later is a new event, but for an end that is there already.
                break;
            }
        }
        Ok(any)
    }

    /// Takes all whole answers from the input, and begins the next batch after the last one.
    fn understand(&mut self, shared: &Shared, tally: &mut Tally, now: Instant) -> Result<(), BenchError> {
        let moment = Moment { written: self.written_at, read: now };
        let input = &self.input[self.start..self.end];
        let taken = self.task.answers(input, self.awaited, moment, shared, tally)?;
        self.start += taken.bytes;
        self.awaited -= taken.answers;
        if self.awaited > 0 {
            return Ok(());
        }
        if self.start != self.end || self.sent < self.outgoing.bytes().len() {
            // More answers than commands, or answers to what was not sent yet.
            let extra = String::from_utf8_lossy(&self.input[self.start..self.end.min(self.start + 80)]);
            return Err(BenchError::Unexpected { verb: self.task.verb(), answer: extra.into_owned() });
        }
        self.begin(shared, now)
    }

    /// Moves what is left of the input to its beginning, so that a whole answer fits behind it.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.end > self.input.len() / 2 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    fn broken(&self, source: io::Error) -> BenchError {
        BenchError::Broken { verb: self.task.verb(), awaited: self.awaited, source }
    }
}

/// Opens a connection that uses and watches the queue alone.
fn open(target: &Target<'_>, queue: &QueueName) -> io::Result<Socket<mio::net::TcpStream>> {
    let host = target.server.host();
    let addresses: Vec<SocketAddr> = (host, target.server.port()).to_socket_addrs()?.collect();
    let stream = TcpStream::connect(addresses.as_slice())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
    let mut stream = match &target.tls {
        Some(config) => Socket::tls(config.clone(), host, stream)?,
        None => Socket::Plain(stream),
    };
    let (auth, authenticated) = match &target.token {
        Some(token) => (format!("auth {token}\r\n"), "AUTHENTICATED\r\n"),
        None => (String::new(), ""),
    };
    stream.write_all(format!("{auth}use {queue}\r\nwatch {queue}\r\nignore default\r\n").as_bytes())?;
    stream.flush()?;
    let expected = format!("{authenticated}USING {queue}\r\nWATCHING 2\r\nWATCHING 1\r\n");
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    if answer != expected.as_bytes() {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        return Err(io::Error::other(format!("it answered use, watch and ignore with {answer:?}")));
    }
    stream.on(|stream| {
        stream.set_nonblocking(true)?;
        Ok(mio::net::TcpStream::from_std(stream))
    })
}
