//! `cargo xtask bench stalls`: how long a server leaves others waiting while it is filled and its log is compacted.
//!
//! Two probers each ask something every millisecond and note the round trip: one looks (`list-tube-used`, which
//! changes nothing; Rota answers it when what was decided before is as durable as promised), one puts. Machines stall too: so the
//! same probers also ask a server with nothing to do on an idle machine, and one with nothing to do while another server
//! on the machine is filled. A stall of the server is what those two do not show.
//!
//! Beside them, in `bound`: how long the log gets while jobs come and go.

mod bound;

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::http::ask_once;
use super::jobs::{Connection, Fill, JobKind, Mix};
use super::machine::Machine;
use super::page::{self, Part};
use super::server::{Server, Subject, free_address};
use super::spread::Spread;
use super::{Options, Programs, count, mib, verdict};

const EVERY: Duration = Duration::from_millis(1);
const GOAL_MS: f64 = 5.0;
/// How long a server that has nothing to do is probed.
const IDLE: Duration = Duration::from_secs(5);
/// Jobs that are put and deleted for each that stays: so many that the log is worth compacting while it is filled.
const PASSING: u64 = 3;
const BODIES: JobKind = JobKind { body_bytes: 100, is_delayed: false };
/// The last in line, as `nice` counts.
const LEAST_PRIORITY: i32 = 19;
/// How many of the worst round trips are told.
const WORST: usize = 5;

/// What goes on while the probers ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scene {
    /// Nothing on the whole machine.
    Idle,
    /// Another server of the same kind is filled.
    Beside,
    /// The probed server is filled; for each job that stays some are put and deleted.
    Filling,
    /// One old job stays; two jobs are put and deleted for each that stays in the other scenes.
    Passing,
    /// The probed server is full, and takes one snapshot after the other.
    Snapshot,
}

const SCENES: [Scene; 5] = [Scene::Idle, Scene::Beside, Scene::Filling, Scene::Passing, Scene::Snapshot];

impl Scene {
    fn name(self) -> &'static str {
        match self {
            Scene::Idle => "idle machine",
            Scene::Beside => "another is filled",
            Scene::Filling => "it is filled",
            Scene::Passing => "one old job, others pass",
            Scene::Snapshot => "a snapshot is taken",
        }
    }

    /// Whether the probed server has work: then what the probers see is its own.
    fn is_loaded(self) -> bool {
        matches!(self, Scene::Filling | Scene::Passing | Scene::Snapshot)
    }

    fn load(self, jobs: u64) -> Option<Mix> {
        match self {
            Scene::Idle | Scene::Snapshot => None,
            Scene::Beside | Scene::Filling => Some(Mix::new(BODIES, jobs, PASSING)),
            Scene::Passing => Some(Mix::new(BODIES, 1, 2 * jobs)),
        }
    }
}

/// What a prober asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Probe {
    Look,
    Put,
}

const PROBES: [Probe; 2] = [Probe::Look, Probe::Put];

impl Probe {
    fn name(self) -> &'static str {
        match self {
            Probe::Look => "look",
            Probe::Put => "put",
        }
    }
}

/// One round trip.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Trip {
    /// When it was asked, from the beginning of the scene.
    at: Duration,
    took: Duration,
}

/// One run of a scene, as one prober saw it, sorted by what the trips took.
struct Sample {
    trips: Vec<Trip>,
}

impl Sample {
    fn new(mut trips: Vec<Trip>) -> Sample {
        trips.sort_by_key(|trip| trip.took);
        Sample { trips }
    }

    /// The trip that takes as long as this part of all or longer, in milliseconds.
    fn quantile_ms(&self, part: f64) -> f64 {
        let index = (self.trips.len() as f64 * part).ceil() as usize;
        ms(self.trips[index.clamp(1, self.trips.len()) - 1].took)
    }

    fn worst_ms(&self) -> f64 {
        self.quantile_ms(1.0)
    }
}

/// One subject in one scene.
struct Row {
    subject: String,
    is_rota: bool,
    scene: Scene,
    /// For each probe a sample a round.
    samples: [Vec<Sample>; 2],
    /// How long the load took, and what the server's files held at its end.
    seconds: Vec<f64>,
    log_bytes: u64,
    /// Segments of the log that the server had done without in the end, and jobs that it had written again for that.
    reclaimed: u64,
    written_again: u64,
    /// Snapshots that were taken in the last round.
    snapshots: u64,
}

/// Measures and writes the part of the page.
///
/// # Errors
///
/// A server does not start, or answers otherwise than it should. A goal that is missed is no error: the page says so.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let jobs = match (options.quick, options.large) {
        (true, _) => 20_000,
        (false, false) => 1_000_000,
        (false, true) => 10_000_000,
    };
    let subjects = [
        Subject::rota("durable", Some("always")),
        Subject::rota("durable", Some("50ms")),
        Subject::beanstalkd_with_log("-f50"),
    ];
    let start = Instant::now();
    let mut rows = Vec::new();
    for scene in SCENES {
        // The others take no snapshots.
        for subject in subjects.iter().filter(|subject| scene != Scene::Snapshot || subject.is_rota()) {
            let (name, is_rota) = (subject.name.clone(), subject.is_rota());
            rows.push(Row {
                subject: name,
                is_rota,
                scene,
                samples: [vec![], vec![]],
                seconds: vec![],
                log_bytes: 0,
                reclaimed: 0,
                written_again: 0,
                snapshots: 0,
            });
        }
    }
    let mut bounds = bound::rows();
    for round in 1..=options.rounds() {
        println!("round {round}");
        for row in &mut rows {
            let subject = subjects.iter().find(|subject| subject.name == row.subject).expect("it is one of them");
            row.sample(programs, subject, jobs)
                .with_context(|| format!("while probing {}, {}", row.subject, row.scene.name()))?;
        }
        for row in &mut bounds {
            row.sample(programs, jobs).with_context(|| format!("while jobs come and go on {}", row.name()))?;
        }
    }
    let report = Report { command: options.command(), machine, jobs, rows, bounds };
    let page = page::write(options.quick, Part::Stalls, &report.part())?;
    println!("\n{} rows in {:.0} s\n", report.rows.len(), start.elapsed().as_secs_f64());
    for goal in report.goals() {
        println!("{goal}");
    }
    println!("\nwrote {}", page.display());
    Ok(())
}

impl Row {
    fn sample(&mut self, programs: &Programs, subject: &Subject, jobs: u64) -> Result<()> {
        let http = free_address()?;
        let probed = match self.scene {
            Scene::Snapshot => {
                let probed = Server::start(programs, &subject.clone().with(&["--http", &http.to_string()]))?;
                Connection::open(probed.address)?.run(&mut Fill::new(BODIES, jobs))?;
                probed
            }
            _ => Server::start(programs, subject)?,
        };
        let other = if self.scene == Scene::Beside { Some(Server::start(programs, subject)?) } else { None };
        let loaded = other.as_ref().unwrap_or(&probed);
        let (address, filled, stop) = (probed.address, loaded.address, &AtomicBool::new(false));
        let (begin, mut snapshots) = (Instant::now(), 0);
        let (load, trips) = thread::scope(|scope| {
            let probers = PROBES.map(|probe| scope.spawn(move || ask(address, probe, begin, stop)));
            let load = match self.scene.load(jobs) {
                Some(mut mix) => {
                    let load = scope.spawn(move || {
                        step_back()?;
                        Connection::open(filled).and_then(|mut connection| connection.run(&mut mix))
                    });
                    load.join().expect("the load does not panic")
                }
                None if self.scene == Scene::Snapshot => take_snapshots(http, jobs).map(|taken| snapshots = taken),
                None => {
                    thread::sleep(IDLE);
                    Ok(())
                }
            };
            let seconds = begin.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            let trips = probers.map(|prober| prober.join().expect("a prober does not panic"));
            (load.map(|()| seconds), trips)
        });
        let seconds = load?;
        self.seconds.push(seconds);
        self.snapshots = snapshots;
        let mut line = format!("  {}, {}: {seconds:.1} s", self.subject, self.scene.name());
        for ((probe, samples), trips) in PROBES.iter().zip(&mut self.samples).zip(trips) {
            let trips = trips.with_context(|| format!("the prober that asks for a {} failed", probe.name()))?;
            ensure!(!trips.is_empty(), "the load was over before the first answer came");
            let sample = Sample::new(trips);
            let (p99, worst) = (sample.quantile_ms(0.99), sample.worst_ms());
            line.push_str(&format!("  {} p99 {p99:.2} ms, worst {worst:.2} ms", probe.name()));
            samples.push(sample);
        }
        self.log_bytes = loaded.bytes()?;
        let names = ["binlog-oldest-index", "binlog-records-migrated"];
        let [oldest, written_again] = Connection::open(loaded.address)?.stats(names)?;
        self.reclaimed = oldest.saturating_sub(1);
        self.written_again = written_again;
        println!("{line}");
        Ok(())
    }

    fn worst_ms(&self, probe: usize) -> Spread {
        Spread::of(self.samples[probe].iter().map(Sample::worst_ms))
    }
}

/// Has a server that has so many jobs take one snapshot after the other, for as long as an idle one is probed at least; how
/// many that were.
fn take_snapshots(http: SocketAddr, jobs: u64) -> Result<u64> {
    let begin = Instant::now();
    for taken in 1.. {
        let (status, body) = ask_once(http, "POST /v1/snapshots", "{}")?;
        ensure!(status == 201, "a snapshot was answered {status}: {body}");
        // The prober that puts has one more now and then.
        let is_whole = [jobs, jobs + 1].iter().any(|jobs| body.contains(&format!("\"jobs\":{jobs},")));
        ensure!(is_whole, "the snapshot should have {jobs} jobs: {body}");
        if begin.elapsed() > IDLE {
            return Ok(taken);
        }
    }
    unreachable!("time goes on")
}

/// Has this thread give way to all others: who waits for a processor that the load has does not wait for the server.
fn step_back() -> Result<()> {
    let thread = rustix::thread::gettid();
    rustix::process::setpriority_process(Some(thread), LEAST_PRIORITY).context("cannot lower the load's priority")
}

/// Asks every millisecond until told to stop. What is asked late because an answer was late is left out, not asked at
/// once: a long stall counts as one long trip.
fn ask(address: SocketAddr, probe: Probe, begin: Instant, stop: &AtomicBool) -> Result<Vec<Trip>> {
    let mut connection = Connection::open(address)?;
    let mut trips = Vec::new();
    // A queue of its own: the load's jobs are none of its business.
    connection.ask(b"use probe\r\n")?;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match probe {
            Probe::Look => {
                let answer = connection.ask(b"list-tube-used\r\n")?;
                ensure!(answer == "USING probe", "the question was answered with {answer:?}");
                trips.push(Trip { at: asked - begin, took: asked.elapsed() });
            }
            Probe::Put => {
                let answer = connection.ask(b"put 0 0 60 4\r\nping\r\n")?;
                trips.push(Trip { at: asked - begin, took: asked.elapsed() });
                let id = answer.strip_prefix("INSERTED ");
                let id = id.with_context(|| format!("the put was answered with {answer:?}"))?;
                let delete = format!("delete {id}\r\n");
                let answer = connection.ask(delete.as_bytes())?;
                ensure!(answer == "DELETED", "the delete was answered with {answer:?}");
            }
        }
        next = (next + EVERY).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(trips)
}

struct Report<'a> {
    command: String,
    machine: &'a Machine,
    jobs: u64,
    rows: Vec<Row>,
    bounds: Vec<bound::Row>,
}

impl Report<'_> {
    /// A line for each goal: what the server does while it works, beside what it does with nothing to do.
    fn goals(&self) -> Vec<String> {
        let mut goals = Vec::new();
        for row in self.rows.iter().filter(|row| row.is_rota && row.scene.is_loaded()) {
            let worst = row.worst_ms(0);
            let word = verdict(worst.median <= GOAL_MS);
            let beside = self.rows.iter().find(|other| other.subject == row.subject && other.scene == Scene::Beside);
            let machine = beside.map_or(0.0, |other| other.worst_ms(0).median);
            goals.push(format!(
                "{word}: {}, {}: a look never takes over {GOAL_MS} ms: {:.2} ms, the median of the rounds' worst \
                 ({machine:.2} ms while another is filled)",
                row.subject,
                row.scene.name(),
                worst.median
            ));
        }
        goals.extend(self.bounds.iter().map(bound::Row::goal));
        goals
    }

    fn part(&self) -> String {
        let mut part = String::new();
        self.write(&mut part).expect("a string takes everything");
        part
    }

    fn write(&self, part: &mut String) -> fmt::Result {
        let jobs = count(self.jobs);
        writeln!(part, "## Stalls\n")?;
        writeln!(part, "Written by `{}`.\n", self.command)?;
        writeln!(part, "- {}", self.machine)?;
        writeln!(
            part,
            "- Two probers ask every millisecond: a *look* is `list-tube-used`, which changes nothing, a *put* puts. Rota \
             answers either when all that was decided before is as durable as `--sync` promises; beanstalkd answers a look \
             whatever its log does. Times are round trips in milliseconds, medians of the rounds."
        )?;
        writeln!(
            part,
            "- *It is filled*: {jobs} jobs of {} bytes are put and stay, and {PASSING} times as many are put and deleted \
             between them, pipelined on one connection. *One old job, others pass*: one is put and stays, then twice as \
             many are put and deleted. *A snapshot is taken*: {jobs} such jobs are there, and one snapshot after the other is taken to \
             the same disk for {} s at least{}. Files are those of the loaded server in the last round, segments that it keeps as \
             history and snapshots included.",
            BODIES.body_bytes,
            IDLE.as_secs(),
            self.snapshots()
        )?;
        writeln!(
            part,
            "- What the machine adds, with 2 probers, a load generator and a server on its cores: *idle machine* and \
             *another is filled* probe a server that has nothing to do. The load generator gives way to all others \
             (nice {LEAST_PRIORITY}).\n"
        )?;
        writeln!(part, "### Goals\n")?;
        for goal in self.goals() {
            writeln!(part, "- {goal}")?;
        }
        for (index, probe) in PROBES.iter().enumerate() {
            writeln!(part, "\n### Round trips of a {}\n", probe.name())?;
            writeln!(
                part,
                "| while | server | probes | p50 | p99 | p99.9 | worst: least / median / most | load, s | files at the \
                 end, MiB | segments reclaimed | jobs written again |"
            )?;
            writeln!(part, "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")?;
            for row in &self.rows {
                row.write(part, index)?;
            }
        }
        self.write_worst(part)?;
        bound::write(part, &self.bounds, self.jobs)
    }

    /// How many snapshots were taken, in words.
    fn snapshots(&self) -> String {
        let rows = self.rows.iter().filter(|row| row.scene == Scene::Snapshot);
        let taken: Vec<String> = rows.map(|row| row.snapshots.to_string()).collect();
        format!(" (in the last round {})", taken.join(" and "))
    }

    /// When the worst ones were.
    fn write_worst(&self, part: &mut String) -> fmt::Result {
        writeln!(part, "\n### When the worst looks were\n")?;
        writeln!(part, "In the round with the worst one: seconds from the beginning, and how long it took.\n")?;
        for row in self.rows.iter().filter(|row| row.scene != Scene::Idle) {
            let worst = row.samples[0].iter().max_by(|one, other| one.worst_ms().total_cmp(&other.worst_ms()));
            let Some(worst) = worst else { continue };
            let mut trips: Vec<Trip> = worst.trips.iter().rev().take(WORST).copied().collect();
            trips.sort_by_key(|trip| trip.at);
            let shown = trips.iter().map(|trip| format!("{:.2} s: {:.2} ms", trip.at.as_secs_f64(), ms(trip.took)));
            let shown: Vec<String> = shown.collect();
            writeln!(part, "- {}, {}: {}", row.subject, row.scene.name(), shown.join(", "))?;
        }
        Ok(())
    }
}

impl Row {
    fn write(&self, part: &mut String, probe: usize) -> fmt::Result {
        let of = |value: &dyn Fn(&Sample) -> f64| Spread::of(self.samples[probe].iter().map(value)).median;
        let Spread { least, median, most } = self.worst_ms(probe);
        writeln!(
            part,
            "| {} | {} | {:.0} | {:.3} | {:.2} | {:.2} | {least:.2} / **{median:.2}** / {most:.2} | {:.1} | {} | {} | {} |",
            self.scene.name(),
            self.subject,
            of(&|sample| sample.trips.len() as f64),
            of(&|sample| sample.quantile_ms(0.5)),
            of(&|sample| sample.quantile_ms(0.99)),
            of(&|sample| sample.quantile_ms(0.999)),
            Spread::of(self.seconds.iter().copied()).median,
            mib(self.log_bytes as f64),
            self.reclaimed,
            self.written_again
        )
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_round_trips_that_were_made() {
        let trip = |ms| Trip { at: Duration::ZERO, took: Duration::from_millis(ms) };
        let sample = Sample::new((1..=1_000).rev().map(trip).collect());
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|part| sample.quantile_ms(part)), [500.0, 990.0, 999.0, 1_000.0]);
        assert_eq!(Sample::new(vec![trip(7)]).quantile_ms(0.5), 7.0);
    }
}
