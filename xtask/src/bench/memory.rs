//! `cargo xtask bench memory`: what a waiting job costs in memory, and what stays when all jobs are gone.
//!
//! A server is warmed with a few jobs, filled, and emptied; its memory is read after each with nobody connected. Every
//! storage mode that `rota serve` knows takes part, beside beanstalkd. What would not fit into half of the machine is
//! left out, and the page says so.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::http;
use super::jobs::{Connection, Empty, Fill, JobKind};
use super::machine::{self, Machine};
use super::page::{self, Part};
use super::server::{self, Memory, Server, Subject, free_address};
use super::spread::Spread;
use super::{Options, Programs, count, mib, verdict};

/// Jobs that are put and deleted before a server counts as warm: few, so that their room is not the measured jobs'.
const WARMING: u64 = 100;
/// What any server here adds to a body, at most: for telling what fits.
const OVERHEAD: u64 = 400;
/// Jobs from which on the bytes of one are judged: allocators take memory in steps of up to 2 MiB.
const LEAST_JUDGED: u64 = 100_000;
/// How long a server has at least, and at most, to give memory back after the last delete.
const AFTERWARDS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));
/// How long it is left alone before its memory is read at the other moments.
const A_MOMENT: Duration = Duration::from_millis(300);

/// Jobs in a request over HTTP.
const PUT_AT_ONCE: usize = 500;

const MIB: f64 = 1024.0 * 1024.0;

/// One line of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Case {
    jobs: u64,
    kind: JobKind,
    way: Way,
}

/// How jobs are put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Beanstalkd,
    /// By the HTTP API, with nothing but queue and body: all other members are what they are unless told. Others have no such
    /// way.
    Http,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}, {}", count(self.jobs), size(self.kind.body_bytes), self.state())
    }
}

impl Case {
    /// Where the jobs stand, and how they came there if that is another way than usual.
    fn state(self) -> &'static str {
        match (self.kind.is_delayed, self.way) {
            (true, Way::Beanstalkd) => "delayed",
            (false, Way::Beanstalkd) => "ready",
            (true, Way::Http) => "delayed, over HTTP",
            (false, Way::Http) => "ready, over HTTP",
        }
    }

    /// Of memory, or of a disk that holds the log.
    fn bytes(self) -> u64 {
        self.jobs * (self.kind.body_bytes + OVERHEAD)
    }
}

/// A server's memory at the three moments.
#[derive(Clone, Copy, Debug)]
struct Sample {
    warmed: Memory,
    filled: Memory,
    emptied: Memory,
}

impl Sample {
    fn anonymous_per_job(&self, case: Case) -> f64 {
        (self.filled.anonymous as f64 - self.warmed.anonymous as f64) / case.jobs as f64
    }

    fn resident_per_job(&self, case: Case) -> f64 {
        (self.filled.resident as f64 - self.warmed.resident as f64) / case.jobs as f64
    }

    /// What is left over what the goal allows, in bytes: at most 0 if it is met.
    fn excess(&self) -> f64 {
        self.emptied.anonymous as f64 - (1.2 * self.warmed.anonymous as f64 + 16.0 * MIB)
    }
}

/// The server in a column, with the storage mode if it is Rota.
struct Column {
    subject: Subject,
    mode: Option<String>,
}

impl Column {
    /// Anonymous bytes per job at most, where there is a goal.
    fn goal(&self, case: Case) -> Option<f64> {
        if case.jobs < LEAST_JUDGED {
            return None;
        }
        match self.mode.as_deref()? {
            "memory" if case.kind.body_bytes == 100 => Some(180.0),
            "lazy" | "mapped" => Some(100.0),
            _ => None,
        }
    }

    /// Whether jobs far ahead leave its memory.
    fn has_far_jobs(&self) -> bool {
        self.mode.as_deref() == Some("mapped")
    }
}

/// A case with the samples of each column.
struct Row {
    case: Case,
    samples: Vec<Vec<Sample>>,
}

impl Row {
    /// Whether that column takes part.
    fn is_measured(&self, column: usize) -> bool {
        !self.samples[column].is_empty()
    }
}

/// Measures and writes the part of the page.
///
/// # Errors
///
/// A server does not start, or answers otherwise than it should. A goal that is missed is no error: the page says so.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let mut columns = Vec::new();
    for mode in server::storage_modes(programs)? {
        let subject = Subject::rota(&mode, None).named(&format!("rota, {mode}"));
        columns.push(Column { subject, mode: Some(mode) });
    }
    columns.push(Column { subject: Subject::beanstalkd(), mode: None });

    let room = machine::half_of_the_memory()?.min(machine::half_of_the_disk(&programs.scratch)?);
    let (cases, left_out): (Vec<Case>, Vec<Case>) = cases(options).into_iter().partition(|case| case.bytes() <= room);
    let start = Instant::now();
    let mut rows = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        println!("[{}/{}] {case}", number + 1, cases.len());
        rows.push(measure(programs, &columns, *case, options.rounds())?);
    }
    let report = Report { command: options.command(), machine, columns, rows, left_out, room };
    let page = page::write(options.quick, Part::Memory, &report.part())?;
    println!("\n{} rows in {:.0} s\n", cases.len(), start.elapsed().as_secs_f64());
    for goal in report.goals() {
        println!("{goal}");
    }
    println!("\nwrote {}", page.display());
    Ok(())
}

fn cases(options: &Options) -> Vec<Case> {
    let numbers: &[u64] = match (options.quick, options.large) {
        (true, _) => &[10_000],
        (false, false) => &[10_000, 100_000, 1_000_000],
        (false, true) => &[10_000, 100_000, 1_000_000, 10_000_000],
    };
    let mut cases = Vec::new();
    for jobs in numbers {
        for body_bytes in [16, 100, 1_024, 65_536] {
            for is_delayed in [false, true] {
                cases.push(Case { jobs: *jobs, kind: JobKind { body_bytes, is_delayed }, way: Way::Beanstalkd });
            }
        }
        let kind = JobKind { body_bytes: 100, is_delayed: false };
        cases.push(Case { jobs: *jobs, kind, way: Way::Http });
    }
    cases
}

fn measure(programs: &Programs, columns: &[Column], case: Case, rounds: usize) -> Result<Row> {
    let mut samples = vec![Vec::new(); columns.len()];
    for round in 1..=rounds {
        let mut line = format!("  round {round}:");
        for (column, samples) in columns.iter().zip(&mut samples) {
            if case.way == Way::Http && !column.subject.is_rota() {
                continue;
            }
            let sample = sample(programs, column, case);
            let sample = sample.with_context(|| format!("while measuring {} with {case}", column.subject.name))?;
            let per_job = sample.anonymous_per_job(case);
            let left = sample.emptied.anonymous as f64;
            line.push_str(&format!("  {} {per_job:.0} B/job, then {} MiB", column.subject.name, mib(left)));
            samples.push(sample);
        }
        println!("{line}");
    }
    Ok(Row { case, samples })
}

fn sample(programs: &Programs, column: &Column, case: Case) -> Result<Sample> {
    let mut subject = column.subject.clone().with_bodies_of(case.kind.body_bytes.max(65_535));
    let mut http = None;
    if case.way == Way::Http {
        let address = free_address()?;
        subject = subject.with(&["--http", &address.to_string()]);
        http = Some(address);
    }
    let server = Server::start(programs, &subject)?;
    let put = |jobs: u64| match http {
        None => put(&server, case.kind, jobs),
        Some(address) => put_over_http(&server, address, case.kind, jobs),
    };
    delete(&server, &put(WARMING)?)?;
    thread::sleep(A_MOMENT);
    let warmed = server.memory()?;

    let ids = put(case.jobs)?;
    let filled = if column.has_far_jobs() || case.way == Way::Http {
        // They leave memory behind the last put, as does what large requests took.
        at_rest(&server)?
    } else {
        thread::sleep(A_MOMENT);
        server.memory()?
    };

    delete(&server, &ids)?;
    let emptied = at_rest(&server)?;
    Ok(Sample { warmed, filled, emptied })
}

/// The server's memory once it changes no more.
fn at_rest(server: &Server) -> Result<Memory> {
    thread::sleep(AFTERWARDS.0);
    let begin = Instant::now();
    let mut before = server.memory()?;
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = server.memory()?;
        if now.anonymous >= before.anonymous || begin.elapsed() > AFTERWARDS.1 - AFTERWARDS.0 {
            return Ok(now);
        }
        before = now;
    }
}

/// On a connection of its own, so that what the server keeps for one is gone when its memory is read.
fn put(server: &Server, kind: JobKind, jobs: u64) -> Result<Vec<u64>> {
    let mut connection = Connection::open(server.address)?;
    let mut fill = Fill::new(kind, jobs);
    connection.run(&mut fill)?;
    let waiting = connection.waiting_jobs()?;
    ensure!(waiting == jobs, "{jobs} jobs were put, and {waiting} wait");
    Ok(fill.ids)
}

/// The same over HTTP, many in a request.
fn put_over_http(server: &Server, address: SocketAddr, kind: JobKind, jobs: u64) -> Result<Vec<u64>> {
    let body = "a".repeat(usize::try_from(kind.body_bytes).context("a body fits into memory")?);
    let job = format!(r#"{{"queue":"default","text":"{body}"}}"#);
    let mut ids = Vec::new();
    while (ids.len() as u64) < jobs {
        let left = usize::try_from(jobs).context("they fit into memory")? - ids.len();
        let request = format!("[{}]", vec![job.as_str(); left.min(PUT_AT_ONCE)].join(","));
        let (status, answer) = http::ask_once(address, "POST /v1/jobs", &request)?;
        ensure!(status == 200, "a put was answered {status}: {answer}");
        let before = ids.len();
        let put = answer.split(r#"{"status":201,"id":""#).skip(1).filter_map(|rest| rest.split('"').next());
        ids.extend(put.filter_map(|id| id.parse::<u64>().ok()));
        ensure!(ids.len() - before == left.min(PUT_AT_ONCE), "not all were put: {answer}");
    }
    let waiting = Connection::open(server.address)?.waiting_jobs()?;
    ensure!(waiting == jobs, "{jobs} jobs were put, and {waiting} wait");
    Ok(ids)
}

fn delete(server: &Server, ids: &[u64]) -> Result<()> {
    let mut connection = Connection::open(server.address)?;
    connection.run(&mut Empty { ids: ids.iter() })?;
    let waiting = connection.waiting_jobs()?;
    ensure!(waiting == 0, "all jobs were deleted, and {waiting} wait");
    Ok(())
}

struct Report<'a> {
    command: String,
    machine: &'a Machine,
    columns: Vec<Column>,
    rows: Vec<Row>,
    left_out: Vec<Case>,
    /// Half of what the machine has, in bytes.
    room: u64,
}

impl Report<'_> {
    /// A line for each goal.
    fn goals(&self) -> Vec<String> {
        let mut goals = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            for row in &self.rows {
                let Some(goal) = column.goal(row.case).filter(|_| row.is_measured(index)) else { continue };
                let found = Spread::of(row.samples[index].iter().map(|sample| sample.anonymous_per_job(row.case)));
                let word = verdict(found.median <= goal);
                let (name, case, found) = (&column.subject.name, row.case, found.median);
                goals.push(format!("{word}: {name}, {case}: anonymous bytes per job ≤ {goal}: {found:.0}"));
            }
        }
        for (index, column) in self.columns.iter().enumerate().filter(|(_, column)| column.mode.is_some()) {
            let excess = |row: &Row| Spread::of(row.samples[index].iter().map(Sample::excess)).median;
            let missed: Vec<&Row> = self.rows.iter().filter(|row| excess(row) > 0.0).collect();
            let word = verdict(missed.is_empty());
            let (name, met, all) = (&column.subject.name, self.rows.len() - missed.len(), self.rows.len());
            let mut line = format!(
                "{word}: {name}: anonymous after deleting all ≤ 1.2 × warmed + 16 MiB: in {met} of {all} cases"
            );
            for (number, row) in missed.iter().enumerate() {
                let before = if number == 0 { "; not in" } else { ";" };
                line.push_str(&format!("{before} {} ({} MiB too much)", row.case, mib(excess(row))));
            }
            goals.push(line);
        }
        goals
    }

    fn part(&self) -> String {
        let mut part = String::new();
        self.write(&mut part).expect("a string takes everything");
        part
    }

    fn write(&self, part: &mut String) -> fmt::Result {
        writeln!(part, "## Memory\n")?;
        writeln!(part, "Written by `{}`.\n", self.command)?;
        writeln!(part, "- {}", self.machine)?;
        writeln!(
            part,
            "- From `/proc/PID/smaps_rollup`, with nobody connected: *warmed* is after {WARMING} jobs were put and \
             deleted, *filled* with all jobs waiting (where jobs far ahead leave memory, and over HTTP, once it changed no more), *emptied* {} to {} s after the last was deleted, once it changed no more.",
            AFTERWARDS.0.as_secs(),
            AFTERWARDS.1.as_secs()
        )?;
        writeln!(
            part,
            "- Delayed jobs are due in one hour to one day. *Over HTTP*: put by {PUT_AT_ONCE} in a request, with nothing but queue and \
             body. Allocators take memory in steps of up to 2 MiB, so bytes per \
             job are judged from {} jobs on.",
            count(LEAST_JUDGED)
        )?;
        if self.left_out.is_empty() {
            writeln!(part, "- Nothing was left out.\n")?;
        } else {
            let cases: Vec<String> = self.left_out.iter().map(Case::to_string).collect();
            let room = mib(self.room as f64);
            writeln!(
                part,
                "- **Not run**, since it may need more than half of this machine's free memory or disk ({room} MiB): \
                 {}.\n",
                cases.join("; ")
            )?;
        }
        writeln!(part, "### Goals\n")?;
        for goal in self.goals() {
            writeln!(part, "- {goal}")?;
        }

        writeln!(part, "\n### A waiting job\n")?;
        writeln!(
            part,
            "Bytes per job, *filled* less *warmed*: anonymous (least–most of the rounds), then resident memory.\n"
        )?;
        self.write_heading(part)?;
        self.write_rows(part, |row, index| {
            let anonymous = Spread::of(row.samples[index].iter().map(|sample| sample.anonymous_per_job(row.case)));
            let resident = Spread::of(row.samples[index].iter().map(|sample| sample.resident_per_job(row.case)));
            let Spread { least, median, most } = anonymous;
            format!("**{median:.0}** ({least:.0}–{most:.0}), {:.0}", resident.median)
        })?;

        writeln!(part, "\n### When all jobs are gone\n")?;
        writeln!(part, "Anonymous MiB, medians of the rounds: warmed → filled → **emptied**.\n")?;
        self.write_heading(part)?;
        self.write_rows(part, |row, index| {
            let of = |moment: fn(&Sample) -> Memory| {
                mib(Spread::of(row.samples[index].iter().map(|sample| moment(sample).anonymous as f64)).median)
            };
            let [warmed, filled, emptied] = [of(|s| s.warmed), of(|s| s.filled), of(|s| s.emptied)];
            format!("{warmed} → {filled} → **{emptied}**")
        })
    }

    fn write_heading(&self, part: &mut String) -> fmt::Result {
        let names: Vec<&str> = self.columns.iter().map(|column| column.subject.name.as_str()).collect();
        writeln!(part, "| jobs | body | state | {} |", names.join(" | "))?;
        writeln!(part, "|---:|---:|---|{}", "---:|".repeat(names.len()))
    }

    fn write_rows(&self, part: &mut String, cell: impl Fn(&Row, usize) -> String) -> fmt::Result {
        for row in &self.rows {
            let Case { jobs, kind, .. } = row.case;
            write!(part, "| {} | {} | {} |", count(jobs), size(kind.body_bytes), row.case.state())?;
            for index in 0..self.columns.len() {
                let shown = if row.is_measured(index) { cell(row, index) } else { String::from("–") };
                write!(part, " {shown} |")?;
            }
            writeln!(part)?;
        }
        Ok(())
    }
}

fn size(bytes: u64) -> String {
    if bytes >= 1_024 { format!("{} KiB", bytes / 1_024) } else { format!("{bytes} B") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_given_back_is_told_by_case() {
        let of = |mib: u64| Memory { resident: mib << 20, anonymous: mib << 20 };
        let sample = |emptied| Sample { warmed: of(10), filled: of(110), emptied: of(emptied) };
        assert!(sample(28).excess() <= 0.0 && sample(29).excess() > 0.0);
        let kind = JobKind { body_bytes: 100, is_delayed: true };
        let case = Case { jobs: 1 << 20, kind, way: Way::Beanstalkd };
        assert!((sample(28).anonymous_per_job(case) - 100.0).abs() < f64::EPSILON);
    }
}
