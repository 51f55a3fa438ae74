//! Does one kind of work so many times and nothing else, for its instructions to be counted: `counts put 4096`.
//!
//! `cargo xtask counts` runs it under valgrind with two numbers of times: what the difference costs, divided by the number of
//! jobs, is the work itself, without the start. The whole protocol is in it, and the engine, but no socket, no thread, no
//! clock and nothing random. `counts --list` names the kinds of work.

use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobState, Time};
use rota_engine::log::Group;
use rota_engine::testing::storage::SimulatedDisk;
use rota_net::beanstalkd::{Counters, Facts, LogFacts, ProcessorTime, Server, Session, Status};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// The most times. Whatever the work needs to find there is made for so many, so that it costs the same for fewer.
const MOST: u64 = 16_384;

/// Jobs that go together where they are pipelined or in a batch. The times are a multiple of it.
const TOGETHER: u64 = 64;

/// A kind of work.
type Work = fn(&mut Bench, u64);

/// All kinds, by name; those whose names end so have a log.
const WORK: [(&str, Work); 14] = [
    ("put", put),
    ("put, 64 pipelined", put_pipelined),
    ("put, batches of 64", put_batch),
    ("put with a key, cancel-key", put_cancel_key),
    ("put with a delay, due", put_due),
    ("put to a consumer that waits, delete", put_wake_delete),
    ("reserve, delete", reserve_delete),
    ("reserve, delete, 64 pipelined", reserve_delete_pipelined),
    ("reserve, delete, batches of 64", reserve_delete_batch),
    ("reserve, release", reserve_release),
    ("reserve, bury, kick", reserve_bury_kick),
    ("cancel of a delayed job", cancel),
    ("put, 64 pipelined, into the log", put_pipelined),
    ("reserve, delete, 64 pipelined, into the log", reserve_delete_pipelined),
];
const LOGGED: &str = "into the log";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counts: {error}; it takes --list, or a kind of work and how often, a multiple of {TOGETHER}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    match arguments {
        [list] if list == "--list" => WORK.iter().for_each(|(name, _)| println!("{name}")),
        [name, times] => {
            let (_, work) = WORK.iter().find(|(known, _)| known == name).ok_or("no such kind of work")?;
            let times = times.parse()?;
            if times > MOST || times % TOGETHER != 0 {
                return Err(format!("{times} times are not a multiple of {TOGETHER} up to {MOST}").into());
            }
            let mut bench = Bench::new(name.ends_with(LOGGED));
            work(&mut bench, times);
            // To take it all apart is no part of the work.
            std::mem::forget(bench);
        }
        _ => return Err("wrong arguments".into()),
    }
    Ok(())
}

/// What a session works with; a macro, since the sessions are borrowed beside it.
macro_rules! server {
    ($bench:expr) => {
        Server {
            engine: &mut $bench.engine,
            counters: &mut $bench.counters,
            facts: &$bench.facts,
            timings: None,
            now: $bench.now,
        }
    };
}

/// An engine with two connections, and what goes with it.
struct Bench {
    engine: Engine,
    counters: Counters,
    facts: Facts,
    now: Time,
    sessions: Vec<Session>,
    out: Vec<u8>,
}

const PRODUCER: usize = 0;
const WORKER: usize = 1;

impl Bench {
    fn new(is_logged: bool) -> Bench {
        let start = Time(2_000_000_000_000_000_000);
        let engine = if is_logged {
            let recovered = Engine::recover(Options::default(), SimulatedDisk::new(), [7; 16], start);
            recovered.expect("an empty disk is well").0
        } else {
            Engine::in_memory(Options::default(), start, start)
        };
        let facts = Facts {
            max_job_bytes: 65_535,
            draining: false,
            version: "0.0.0",
            pid: 1,
            instance: 1,
            started_at: start,
            hostname: String::new(),
            os: String::new(),
            platform: String::new(),
            processor_time: ProcessorTime::default,
            log: LogFacts::default(),
        };
        let counters = Counters::default();
        let mut bench = Bench { engine, counters, facts, now: start, sessions: Vec::new(), out: Vec::new() };
        for _ in [PRODUCER, WORKER] {
            let session = Session::open(&mut server!(bench)).expect("there is room for a session");
            bench.sessions.push(session);
        }
        bench
    }

    /// Has a connection carry out all of the input, whose answers have to begin like this.
    fn ask(&mut self, session: usize, input: &[u8], answer: &str) -> Status {
        self.now = self.now.after(Duration::from_micros(1));
        self.out.clear();
        let mut rest = input;
        let status = loop {
            let (taken, status) = self.sessions[session].receive(&mut server!(self), rest, &mut self.out);
            rest = &rest[taken..];
            if status != Status::Again {
                break status;
            }
        };
        let told = &self.out[..self.out.len().min(80)];
        assert!(told.starts_with(answer.as_bytes()), "{answer} is due, not {}", told.escape_ascii());
        status
    }

    /// Ready jobs, whose ids begin at 1.
    fn fill(&mut self) {
        let puts = PUT.repeat(TOGETHER as usize);
        for _ in 0..MOST / TOGETHER {
            self.ask(PRODUCER, puts.as_bytes(), "INSERTED ");
        }
        self.write();
    }

    /// Takes what is to be written from the engine, as who writes the log does.
    fn write(&mut self) {
        self.engine.take_records(&mut Group::default());
    }

    fn jobs(&self, state: JobState) -> u64 {
        self.engine.totals().by_state[state as usize]
    }
}

const BODY: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl";
const PUT: &str = "put 1024 0 60 64\r\nabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl\r\n";

/// A line for each of all jobs, made beforehand.
fn lines(line: impl Fn(u64) -> String) -> Vec<String> {
    (1..=MOST).map(line).collect()
}

/// The lines, in pieces of those that go together.
fn together(lines: &[String]) -> Vec<String> {
    lines.chunks(TOGETHER as usize).map(<[String]>::concat).collect()
}

/// Every number from 1 to [`MOST`], in no order.
fn scattered(number: u64) -> u64 {
    // Odd: it has no divisor in common with a power of two.
    number * 7_368_787 % MOST + 1
}

fn put(bench: &mut Bench, times: u64) {
    for _ in 0..times {
        bench.ask(PRODUCER, PUT.as_bytes(), "INSERTED ");
    }
    assert_eq!(bench.jobs(JobState::Ready), times);
}

fn put_pipelined(bench: &mut Bench, times: u64) {
    let puts = PUT.repeat(TOGETHER as usize);
    for _ in 0..times / TOGETHER {
        bench.ask(PRODUCER, puts.as_bytes(), "INSERTED ");
        bench.write();
    }
    assert_eq!(bench.jobs(JobState::Ready), times);
}

fn put_batch(bench: &mut Bench, times: u64) {
    let puts = PUT.repeat(TOGETHER as usize);
    let batch = format!("put-batch {TOGETHER} {}\r\n{puts}", puts.len());
    for _ in 0..times / TOGETHER {
        bench.ask(PRODUCER, batch.as_bytes(), "BATCH_INSERTED 64 ");
    }
    assert_eq!(bench.jobs(JobState::Ready), times);
}

fn put_cancel_key(bench: &mut Bench, times: u64) {
    let puts = lines(|job| format!("put-in 1024 60000 60000 64 order-{job}\r\n{BODY}\r\n"));
    let cancels = lines(|job| format!("cancel-key default order-{job}\r\n"));
    for (put, cancel) in puts.iter().zip(&cancels).take(times as usize) {
        bench.ask(PRODUCER, put.as_bytes(), "INSERTED ");
        bench.ask(PRODUCER, cancel.as_bytes(), "CANCELLED ");
    }
    assert_eq!(bench.engine.totals().cancelled, times);
}

fn put_due(bench: &mut Bench, times: u64) {
    let puts = lines(|job| format!("put-in 1024 {} 60000 64\r\n{BODY}\r\n", 1_000 + scattered(job)));
    for put in puts.iter().take(times as usize) {
        bench.ask(PRODUCER, put.as_bytes(), "INSERTED ");
    }
    assert_eq!(bench.jobs(JobState::Delayed), times);
    while bench.engine.next_tick() < Time::NEVER {
        bench.now = bench.now.max(bench.engine.next_tick());
        bench.engine.tick(bench.now);
    }
    assert_eq!(bench.jobs(JobState::Ready), times);
}

fn put_wake_delete(bench: &mut Bench, times: u64) {
    let deletes = lines(|job| format!("delete {job}\r\n"));
    for delete in deletes.iter().take(times as usize) {
        let status = bench.ask(WORKER, b"reserve\r\n", "");
        assert_eq!(status, Status::Waiting);
        bench.ask(PRODUCER, PUT.as_bytes(), "INSERTED ");
        let delivery = bench.engine.take_deliveries().next().expect("who waits gets it");
        bench.sessions[WORKER].deliver(delivery.what, &mut bench.out);
        bench.ask(WORKER, delete.as_bytes(), "DELETED");
    }
    assert_eq!(bench.engine.totals().completed, times);
}

fn reserve_delete(bench: &mut Bench, times: u64) {
    bench.fill();
    let deletes = lines(|job| format!("delete {job}\r\n"));
    for delete in deletes.iter().take(times as usize) {
        bench.ask(WORKER, b"reserve\r\n", "RESERVED ");
        bench.ask(WORKER, delete.as_bytes(), "DELETED");
    }
    assert_eq!(bench.engine.totals().completed, times);
}

fn reserve_delete_pipelined(bench: &mut Bench, times: u64) {
    bench.fill();
    let reserves = "reserve\r\n".repeat(TOGETHER as usize);
    let deletes = together(&lines(|job| format!("delete {job}\r\n")));
    for deletes in deletes.iter().take((times / TOGETHER) as usize) {
        bench.ask(WORKER, reserves.as_bytes(), "RESERVED ");
        bench.ask(WORKER, deletes.as_bytes(), "DELETED");
        bench.write();
    }
    assert_eq!(bench.engine.totals().completed, times);
}

fn reserve_delete_batch(bench: &mut Bench, times: u64) {
    bench.fill();
    let ids = together(&lines(|job| format!(" {job}")));
    let deletes: Vec<String> = ids.iter().map(|ids| format!("delete-batch{ids}\r\n")).collect();
    for delete in deletes.iter().take((times / TOGETHER) as usize) {
        bench.ask(WORKER, b"reserve-batch 64 0\r\n", "BATCH_RESERVED 64\r\n");
        bench.ask(WORKER, delete.as_bytes(), "BATCH_DELETED 64\r\n");
    }
    assert_eq!(bench.engine.totals().completed, times);
}

fn reserve_release(bench: &mut Bench, times: u64) {
    bench.fill();
    // Behind the others: the next reserve takes the next job.
    let releases = lines(|job| format!("release {job} 2000 0\r\n"));
    for release in releases.iter().take(times as usize) {
        bench.ask(WORKER, b"reserve\r\n", "RESERVED ");
        bench.ask(WORKER, release.as_bytes(), "RELEASED");
    }
    assert_eq!(bench.jobs(JobState::Ready), MOST);
}

fn reserve_bury_kick(bench: &mut Bench, times: u64) {
    bench.fill();
    let buries = lines(|job| format!("bury {job} 2000\r\n"));
    for bury in buries.iter().take(times as usize) {
        bench.ask(WORKER, b"reserve\r\n", "RESERVED ");
        bench.ask(WORKER, bury.as_bytes(), "BURIED");
        bench.ask(WORKER, b"kick 1\r\n", "KICKED 1");
    }
    assert_eq!(bench.jobs(JobState::Ready), MOST);
}

fn cancel(bench: &mut Bench, times: u64) {
    for job in 1..=MOST {
        let put = format!("put-in 1024 {} 60000 64\r\n{BODY}\r\n", 3_600_000 + scattered(job) * 1_000);
        bench.ask(PRODUCER, put.as_bytes(), "INSERTED ");
    }
    let cancels = lines(|job| format!("cancel {}\r\n", scattered(job)));
    for cancel in cancels.iter().take(times as usize) {
        bench.ask(WORKER, cancel.as_bytes(), "CANCELLED");
    }
    assert_eq!(bench.engine.totals().cancelled, times);
}
