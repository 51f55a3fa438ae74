//! `cargo xtask bench recovery`: how long a start takes that has a log to read, and how much memory it needs for that.
//!
//! A server is filled once and then ended and started again, round after round: after an orderly stop, and after a
//! SIGKILL behind some more puts. beanstalkd does the same with its own log of the same jobs; to it all ends are alike.
//! The logs were just written and lie in the page cache: what is measured is the server and not the disk.

use std::fmt::{self, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::jobs::{Connection, Fill, JobKind};
use super::machine::Machine;
use super::page::{self, Part};
use super::server::{Ending, Folder, Server, Startup, Subject};
use super::spread::Spread;
use super::{Options, Programs, count, mib, verdict};

const BODIES: JobKind = JobKind { body_bytes: 100, is_delayed: false };
/// Jobs that are put before each SIGKILL, so that the log ends as a log in use does.
const BEFORE_A_KILL: u64 = 100;

/// Jobs in the log, and within how many seconds Rota is meant to be ready.
const SIZES: [(u64, Option<f64>); 3] = [(100_000, None), (1_000_000, Some(1.0)), (10_000_000, Some(8.0))];

/// What one start showed.
#[derive(Clone, Copy, Debug)]
struct Sample {
    startup: Startup,
    /// Processor time up to then, in user and in kernel mode: other programs make it only a little longer.
    cpu: Duration,
    peak_bytes: u64,
}

impl Sample {
    /// Until it said that it is ready; where it says nothing, until it answered.
    fn ready_s(&self) -> f64 {
        self.startup.ready_line.unwrap_or(self.startup.first_answer).as_secs_f64()
    }
}

/// One line of the table.
struct Row {
    jobs: u64,
    name: &'static str,
    ending: Ending,
    log_bytes: u64,
    goal_s: Option<f64>,
    samples: Vec<Sample>,
}

impl Row {
    fn ready_s(&self) -> Spread {
        Spread::of(self.samples.iter().map(Sample::ready_s))
    }

    fn ending(&self) -> &'static str {
        match self.ending {
            Ending::Orderly => "stop",
            Ending::Killed => "kill -9",
        }
    }
}

/// A server that is ended and started again, with what it keeps.
struct Filled {
    subject: Subject,
    folder: Rc<Folder>,
    running: Option<Server>,
    jobs: u64,
}

/// Measures and writes the part of the page.
///
/// # Errors
///
/// A server does not start, or comes back with another number of jobs. A goal that is missed is no error: the page says
/// so.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let sizes: &[(u64, Option<f64>)] = match (options.quick, options.large) {
        (true, _) => &[(10_000, None)],
        (false, false) => &SIZES[..2],
        (false, true) => &SIZES,
    };
    let start = Instant::now();
    let mut rows = Vec::new();
    for (jobs, goal_s) in sizes {
        rows.extend(measure(programs, *jobs, *goal_s, options.rounds())?);
    }
    let report = Report { command: options.command(), machine, rows };
    let page = page::write(options.quick, Part::Recovery, &report.part())?;
    println!("\n{} rows in {:.0} s\n", report.rows.len(), start.elapsed().as_secs_f64());
    for goal in report.goals() {
        println!("{goal}");
    }
    println!("\nwrote {}", page.display());
    Ok(())
}

fn measure(programs: &Programs, jobs: u64, goal_s: Option<f64>, rounds: usize) -> Result<[Row; 3]> {
    println!("{} jobs: filling", count(jobs));
    let mut rota = Filled::new(programs, Subject::rota("durable", None), jobs)?;
    // When it syncs changes how long the filling takes and not what is in the log.
    let mut beanstalkd = Filled::new(programs, Subject::beanstalkd_with_log("-F"), jobs)?;
    let row = |name, ending, goal_s, log_bytes| Row { jobs, name, ending, log_bytes, goal_s, samples: Vec::new() };
    let (ours, theirs) = (rota.folder.bytes()?, beanstalkd.folder.bytes()?);
    let mut rows = [
        row("rota, durable", Ending::Orderly, goal_s, ours),
        row("rota, durable", Ending::Killed, goal_s, ours),
        row("beanstalkd -b", Ending::Killed, None, theirs),
    ];
    for round in 1..=rounds {
        let mut line = format!("  round {round}:");
        for row in &mut rows {
            let filled = if row.name.starts_with("rota") { &mut rota } else { &mut beanstalkd };
            let sample = filled.start_again(programs, row.ending)?;
            let ready = sample.ready_s();
            line.push_str(&format!("  {} after {}: {ready:.3} s", row.name, row.ending()));
            row.samples.push(sample);
        }
        println!("{line}");
    }
    Ok(rows)
}

impl Filled {
    fn new(programs: &Programs, subject: Subject, jobs: u64) -> Result<Filled> {
        let folder = Folder::new(programs)?;
        let running = Server::start_in(programs, &subject, &folder)?;
        let mut filled = Filled { subject, folder, running: Some(running), jobs: 0 };
        filled.put(jobs)?;
        Ok(filled)
    }

    fn put(&mut self, jobs: u64) -> Result<()> {
        let server = self.running.as_ref().expect("it runs but while it is started again");
        let mut fill = Fill::new(BODIES, jobs);
        Connection::open(server.address)?.run(&mut fill)?;
        self.jobs += jobs;
        Ok(())
    }

    fn start_again(&mut self, programs: &Programs, ending: Ending) -> Result<Sample> {
        if ending == Ending::Killed {
            self.put(BEFORE_A_KILL)?;
        }
        let name = &self.subject.name;
        self.running.take().expect("it runs but while it is started again").end(ending)?;
        let server = Server::start_in(programs, &self.subject, &self.folder)
            .with_context(|| format!("{name} does not come back after {ending:?}"))?;
        let sample = Sample { startup: server.startup, cpu: server.cpu()?, peak_bytes: server.peak_memory()? };
        let waiting = Connection::open(server.address)?.waiting_jobs()?;
        ensure!(waiting == self.jobs, "{name} came back with {waiting} jobs and not with {}", self.jobs);
        self.running = Some(server);
        Ok(sample)
    }
}

struct Report<'a> {
    command: String,
    machine: &'a Machine,
    rows: Vec<Row>,
}

impl Report<'_> {
    /// A line for each goal.
    fn goals(&self) -> Vec<String> {
        let with_goal = self.rows.iter().filter_map(|row| Some((row, row.goal_s?)));
        let verdict = |(row, goal): (&Row, f64)| {
            let median = row.ready_s().median;
            let word = verdict(median <= goal);
            let (name, jobs, ending) = (row.name, count(row.jobs), row.ending());
            format!("{word}: {name}, {jobs} jobs, after {ending}: ready ≤ {goal} s: {median:.2} s")
        };
        with_goal.map(verdict).collect()
    }

    fn part(&self) -> String {
        let mut part = String::new();
        self.write(&mut part).expect("a string takes everything");
        part
    }

    fn write(&self, part: &mut String) -> fmt::Result {
        writeln!(part, "## Recovery\n")?;
        writeln!(part, "Written by `{}`.\n", self.command)?;
        writeln!(part, "- {}", self.machine)?;
        writeln!(
            part,
            "- Open jobs with bodies of {} bytes, in a log that lies in the page cache. A server is started again round \
             after round; before a kill {BEFORE_A_KILL} more are put.",
            BODIES.body_bytes
        )?;
        writeln!(
            part,
            "- Seconds from before the process is made until its `ready` line; beanstalkd has none, so until it has \
             answered a command. CPU is processor time up to there, in user and in kernel mode; the peak is `VmHWM`."
        )?;
        if !self.rows.iter().any(|row| row.jobs == SIZES[2].0) {
            writeln!(part, "- **Not run**: 10 M jobs, which `--large` adds.")?;
        }
        let goals = self.goals();
        if !goals.is_empty() {
            writeln!(part, "\n### Goals\n")?;
        }
        for goal in goals {
            writeln!(part, "- {goal}")?;
        }
        writeln!(part, "\n### Starts\n")?;
        writeln!(
            part,
            "| jobs | server | after | log, MiB | ready: best | median | worst | first answer | CPU | jobs per second | \
             peak, MiB | bytes per job at the peak |"
        )?;
        writeln!(part, "|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")?;
        for row in &self.rows {
            let Spread { least, median, most } = row.ready_s();
            let answer = Spread::of(row.samples.iter().map(|sample| sample.startup.first_answer.as_secs_f64()));
            let cpu = Spread::of(row.samples.iter().map(|sample| sample.cpu.as_secs_f64()));
            let peak = Spread::of(row.samples.iter().map(|sample| sample.peak_bytes as f64));
            writeln!(
                part,
                "| {} | {} | {} | {} | {least:.3} | **{median:.3}** | {most:.3} | {:.3} | {:.2} | {:.2} M | {} | {:.0} |",
                count(row.jobs),
                row.name,
                row.ending(),
                mib(row.log_bytes as f64),
                answer.median,
                cpu.median,
                row.jobs as f64 / median / 1e6,
                mib(peak.median),
                peak.median / row.jobs as f64,
            )?;
        }
        Ok(())
    }
}
