//! `cargo xtask bench throughput`: how many jobs per second, at which cost and latency, as ratios of interleaved samples.
//!
//! [`super::plan`] says what is measured, [`super::load`] drives it with `rota bench`, [`super::report`] writes it down.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::machine::{self, Machine};
use super::page::{self, Part};
use super::plan::{self, Contender, Row};
use super::report::{Measured, Report, Sample};
use super::server::Server;
use super::{Options, Programs, Which, disk, load};

/// Measures the rows and writes their part of the page.
///
/// # Errors
///
/// A server does not start, or a sample fails. A goal that is missed is no error: the page says so.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let disk_before = disk::measure(&programs.scratch, sample_time(options))?;
    println!("fdatasync of 512 appended bytes: {disk_before}");

    let rows: Vec<&Row> = plan::ROWS.iter().filter(|row| options.which != Which::First || row.first).collect();
    let start = Instant::now();
    let mut measured = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        println!("\n[{}/{}] {} {}", number + 1, rows.len(), row.work.title(), row.shape);
        measured.push(measure(programs, row, options)?);
    }
    let disk_after = disk::measure(&programs.scratch, sample_time(options))?;
    let report = Report {
        command: options.command(),
        machine: machine.clone(),
        disk: [disk_before, disk_after],
        rows: measured,
    };
    page::write_beside(options.quick, "throughput.svg", &report.drawing())?;
    let page = page::write(options.quick, Part::Throughput, &report.part())?;
    println!("\n{} rows in {:.0} s\n", rows.len(), start.elapsed().as_secs_f64());
    for verdict in report.verdicts() {
        println!("{verdict}");
    }
    println!("\nwrote {}", page.display());
    Ok(())
}

/// How long one sample is meant to take.
fn sample_time(options: &Options) -> Duration {
    if options.quick { Duration::from_millis(200) } else { Duration::from_secs(1) }
}

/// Samples the contenders of a row in turn, so that what the machine does meanwhile hits all of them alike.
fn measure(programs: &Programs, row: &'static Row, options: &Options) -> Result<Measured> {
    let mut jobs = Vec::new();
    for contender in row.contenders {
        jobs.push(calibrate(programs, row, *contender, options)?);
    }
    let mut samples = vec![Vec::new(); row.contenders.len()];
    for round in 1..=options.rounds() {
        let mut line = format!("  round {round}:");
        machine::wait_for_quiet()?;
        for (index, contender) in row.contenders.iter().enumerate() {
            let sample = sample(programs, row, *contender, jobs[index])?;
            line.push_str(&format!("  {} {:.1} k/s", contender.name(), sample.per_second / 1e3));
            samples[index].push(sample);
        }
        println!("{line}");
    }
    Ok(Measured { row, samples })
}

/// How many jobs keep this contender busy for one sample, by a short run of it that also warms it up.
fn calibrate(programs: &Programs, row: &Row, contender: Contender, options: &Options) -> Result<u64> {
    const LEAST: u64 = 1_000;
    // Bounds what a sample keeps in memory and how long a misjudged one can take.
    const MOST: u64 = 4_000_000;
    let seconds = sample_time(options).as_secs_f64();
    let mut jobs = LEAST;
    loop {
        let probe = sample(programs, row, contender, jobs)?;
        let took = jobs as f64 / probe.per_second;
        let wanted = (probe.per_second * seconds) as u64;
        // A run that took a fair part of the time tells the rate; a shorter one is mostly its start.
        if took >= seconds / 8.0 || jobs == MOST {
            return Ok(wanted.clamp(LEAST, MOST));
        }
        jobs = (jobs * 8).min(MOST);
    }
}

/// One run against a server of its own: nothing is left over from the one before.
fn sample(programs: &Programs, row: &Row, contender: Contender, jobs: u64) -> Result<Sample> {
    let server = Server::start(programs, &contender.subject())?;
    let before = server.cpu()?;
    let run = load::run(programs, &server, row, jobs)
        .with_context(|| format!("while measuring {} of {}", row.work.title(), contender.name()))?;
    let cpu = server.cpu()?.saturating_sub(before);
    Ok(Sample {
        per_second: run.jobs as f64 / run.seconds,
        cpu_us: cpu.as_secs_f64() * 1e6 / run.jobs as f64,
        p50_us: run.p50_us,
        p99_us: run.p99_us,
    })
}
