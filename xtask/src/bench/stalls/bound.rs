//! How long the log is while jobs come and go at random, beside the bound that is promised for it: twice what is open, and two
//! segments.
//!
//! Of each segment some jobs are always open, so that each byte that is put costs about another one for what is written again:
//! the mix in which reclaiming has most to do. The server's metrics are asked all the while.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::http::ask_once;
use super::super::jobs::{Churn, Connection, JobKind};
use super::super::server::{Server, Subject, free_address};
use super::super::spread::Spread;
use super::super::{Programs, count, mib, verdict};

/// Connections that put and delete.
const CONNECTIONS: u64 = 4;
/// Of the jobs of a bench so many stay.
const STAY: u64 = 4;
/// For each that stays so many are put and deleted.
const TURNS: u64 = 12;
const BODIES: JobKind = JobKind { body_bytes: 100, is_delayed: false };
/// How often the metrics are asked.
const EVERY: Duration = Duration::from_millis(50);
/// What `--segment-size` is unless told, in bytes.
const SEGMENT_BYTES: f64 = (64 << 20) as f64;

/// What was seen at a moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    log_bytes: f64,
    /// What the log may have, in bytes.
    bound: f64,
}

impl Look {
    fn ratio(self) -> f64 {
        self.log_bytes / self.bound
    }
}

/// A run.
struct Course {
    looks: Vec<Look>,
    per_second: f64,
}

impl Course {
    fn worst(&self) -> Look {
        let worst = self.looks.iter().copied().max_by(|one, other| one.ratio().total_cmp(&other.ratio()));
        worst.expect("somebody looked")
    }

    /// In which part of all looks it was over the bound.
    fn over(&self) -> f64 {
        self.looks.iter().filter(|look| look.ratio() > 1.0).count() as f64 / self.looks.len() as f64
    }
}

/// A server in one mode.
pub(super) struct Row {
    subject: Subject,
    courses: Vec<Course>,
}

/// Every mode whose log is bounded by nothing but the reclaiming of segments.
pub(super) fn rows() -> Vec<Row> {
    let modes = [("durable", "always"), ("durable", "50ms"), ("lazy", "always"), ("lazy", "50ms")];
    let subjects = modes.map(|(storage, sync)| Subject::rota(storage, Some(sync)));
    subjects.into_iter().map(|subject| Row { subject, courses: Vec::new() }).collect()
}

impl Row {
    pub(super) fn name(&self) -> &str {
        &self.subject.name
    }

    /// Lets jobs come and go, of which some of `jobs` stay.
    ///
    /// # Errors
    ///
    /// The server does not start, or answers otherwise than it should.
    pub(super) fn sample(&mut self, programs: &Programs, jobs: u64) -> Result<()> {
        let http = free_address()?;
        // What nobody needs goes at once: here it would only fill the disk.
        let subject = self.subject.clone().with(&["--http", &http.to_string(), "--history", "0"]);
        let server = Server::start(programs, &subject)?;
        let (address, stay) = (server.address, jobs / STAY / CONNECTIONS);
        let (stop, begin) = (&AtomicBool::new(false), Instant::now());
        let (loads, looks) = thread::scope(|scope| {
            let watch = scope.spawn(move || watch(http, begin, stop));
            let loads: Vec<_> = (0..CONNECTIONS)
                .map(|number| {
                    let mut churn = Churn::new(BODIES, stay, TURNS * stay, number);
                    scope.spawn(move || Connection::open(address)?.run(&mut churn))
                })
                .collect();
            let loads: Vec<Result<()>> =
                loads.into_iter().map(|load| load.join().expect("a load does not panic")).collect();
            stop.store(true, Ordering::Relaxed);
            (loads, watch.join().expect("who looks does not panic"))
        });
        let seconds = begin.elapsed().as_secs_f64();
        loads.into_iter().collect::<Result<()>>()?;
        let looks = looks.context("while looking at the metrics")?;
        ensure!(!looks.is_empty(), "the load was over before anybody looked");
        let course = Course { looks, per_second: (CONNECTIONS * stay * (1 + TURNS)) as f64 / seconds };
        let worst = course.worst();
        println!(
            "  {}, jobs come and go at random: {seconds:.1} s, the log at most {:.2} × its bound",
            self.name(),
            worst.ratio()
        );
        self.courses.push(course);
        Ok(())
    }

    /// A line for its goal.
    pub(super) fn goal(&self) -> String {
        let worst = Spread::of(self.courses.iter().map(|course| course.worst().ratio()));
        format!(
            "{}: {}, jobs come and go at random: the log never over twice what is open and two segments: {:.2} × that, the \
             most of the rounds",
            verdict(worst.most <= 1.0),
            self.name(),
            worst.most
        )
    }

    fn write(&self, part: &mut String) -> fmt::Result {
        let of = |value: fn(&Course) -> f64| Spread::of(self.courses.iter().map(value));
        let Spread { least, median, most } = of(|course| course.worst().ratio());
        let worst = self.courses.iter().map(Course::worst).max_by(|one, other| one.ratio().total_cmp(&other.ratio()));
        let worst = worst.expect("there is a round");
        writeln!(
            part,
            "| {} | {:.0} | {least:.2} / **{median:.2}** / {most:.2} | {} of {}, after {:.1} s | {:.0} % |",
            self.name(),
            of(|course| course.per_second).median,
            mib(worst.log_bytes),
            mib(worst.bound),
            worst.at.as_secs_f64(),
            100.0 * of(Course::over).median,
        )
    }
}

/// Asks the server's metrics until told to stop.
fn watch(http: SocketAddr, begin: Instant, stop: &AtomicBool) -> Result<Vec<Look>> {
    let mut looks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (status, page) = ask_once(http, "GET /metrics", "")?;
        ensure!(status == 200, "the metrics are answered {status}: {page}");
        let [log_bytes, live_bytes] = ["rota_log_bytes", "rota_log_live_bytes"].map(|name| figure(&page, name));
        let (log_bytes, live_bytes) = (log_bytes?, live_bytes?);
        looks.push(Look { at: begin.elapsed(), log_bytes, bound: 2.0 * live_bytes + 2.0 * SEGMENT_BYTES });
        thread::sleep(EVERY);
    }
    Ok(looks)
}

/// A number out of a page of metrics.
fn figure(page: &str, name: &str) -> Result<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("there is no number {name} in\n{page}"))
}

/// Writes the rows as a section of the page.
pub(super) fn write(part: &mut String, rows: &[Row], jobs: u64) -> fmt::Result {
    writeln!(part, "\n### The log beside its bound\n")?;
    writeln!(
        part,
        "{CONNECTIONS} connections, pipelined, put {} jobs of {} bytes, then {TURNS} times as many, and delete one of theirs at \
         random for each: of every segment some are open. The bound is twice the bytes of what is open, and two segments of 64 MiB, \
         by the server's metrics, asked every {} ms; what was over it, how far, and how often.\n",
        count(jobs / STAY),
        BODIES.body_bytes,
        EVERY.as_millis()
    )?;
    writeln!(
        part,
        "| server | jobs put per second | worst ratio: least / median / most | the worst, MiB | looks over the bound |"
    )?;
    writeln!(part, "|---|---:|---:|---:|---:|")?;
    rows.iter().try_for_each(|row| row.write(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_by_the_bound_of_its_moment() {
        let look = |log_bytes, bound| Look { at: Duration::ZERO, log_bytes, bound };
        let course = Course { looks: vec![look(100.0, 200.0), look(90.0, 60.0), look(150.0, 150.0)], per_second: 1.0 };
        assert!((course.worst().ratio() - 1.5).abs() < f64::EPSILON);
        assert!((course.over() - 1.0 / 3.0).abs() < f64::EPSILON, "the bound itself is not over it");
    }

    #[test]
    fn figures_are_read_by_their_whole_names() {
        let page = "# HELP rota_log_bytes x\nrota_log_bytes_written_total 7\nrota_log_bytes 42\n";
        assert_eq!(figure(page, "rota_log_bytes").ok(), Some(42.0));
        assert!(figure(page, "rota_log").is_err());
    }
}
