//! `cargo xtask bench`: Rota beside real beanstalkd on this machine, as ratios of interleaved samples.
//!
//! [`plan`] says what is measured, [`server`] starts what is measured, [`load`] drives it with `rota bench`, [`report`]
//! writes `docs/benchmarks.md`. [`mod@answer_only`] is the limit: a server that answers puts and does nothing else. Numbers
//! come from here and never from a test: a machine that is busy makes them worse, not wrong.

mod plan;

mod answer_only;
mod disk;
mod load;
mod report;
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub(crate) use answer_only::run as answer_only;

use crate::process;
use plan::{Contender, Row};
use report::{Machine, Measured, Report, Sample};

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only the rows that have a goal already.
    first: bool,
    /// Samples of each contender in each row.
    rounds: usize,
    quick: bool,
}

impl Options {
    /// Reads the arguments after `bench`.
    ///
    /// # Errors
    ///
    /// A word that is none of the options, or a number of rounds out of its bounds.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options { first: false, rounds: 5, quick: false };
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "first" => options.first = true,
                "all" => options.first = false,
                "--quick" => options.quick = true,
                "--rounds" => {
                    let number = rest.next().context("--rounds needs a number")?;
                    options.rounds = match number.parse() {
                        Ok(rounds @ 1..=50) => rounds,
                        _ => bail!("--rounds takes a number from 1 to 50, not '{number}'"),
                    };
                }
                _ => bail!("`cargo xtask bench` knows no '{word}'; it takes first, all, --rounds N and --quick"),
            }
        }
        Ok(options)
    }

    /// The command that asks for the same.
    fn command(&self) -> String {
        let which = if self.first { "first" } else { "all" };
        let quick = if self.quick { " --quick" } else { "" };
        format!("cargo xtask bench {which} --rounds {}{quick}", self.rounds)
    }

    /// Where the report goes: numbers of a quick run are not for the documentation.
    fn page(&self) -> PathBuf {
        if self.quick {
            return process::target().join("bench/benchmarks.md");
        }
        process::root().join("docs/benchmarks.md")
    }

    /// How long one sample is meant to take.
    fn sample_time(&self) -> Duration {
        if self.quick { Duration::from_millis(200) } else { Duration::from_secs(1) }
    }
}

/// The programs that take part, and where they may keep their files.
struct Programs {
    rota: PathBuf,
    beanstalkd: PathBuf,
    /// This tool, built as `rota` is.
    xtask: PathBuf,
    /// On a real disk: what a memory file system syncs is not worth measuring.
    scratch: PathBuf,
}

/// Builds, measures and writes the page.
///
/// # Errors
///
/// Something does not build or start, or a sample fails. A goal that is missed is no error: the page says so.
pub(crate) fn run(options: &Options) -> Result<()> {
    let beanstalkd = process::find("beanstalkd")
        .context("there is no beanstalkd to measure beside; `cargo xtask setup` installs Debian's")?;
    // Before the build, whose load is not what the reader wants to know of.
    let machine = Machine::look()?;
    let programs = prepare(beanstalkd)?;
    println!("{machine}");
    let disk_before = disk::measure(&programs.scratch, options.sample_time())?;
    println!("fdatasync of 512 appended bytes: {disk_before}");

    let rows: Vec<&Row> = plan::ROWS.iter().filter(|row| !options.first || row.first).collect();
    let start = Instant::now();
    let mut measured = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        println!("\n[{}/{}] {} {}", number + 1, rows.len(), row.work.title(), row.shape);
        measured.push(measure(&programs, row, options)?);
    }
    let disk_after = disk::measure(&programs.scratch, options.sample_time())?;
    let report = Report { command: options.command(), machine, disk: [disk_before, disk_after], rows: measured };
    let page = options.page();
    std::fs::write(&page, report.page()).with_context(|| format!("cannot write {}", page.display()))?;
    println!("\n{} rows in {:.0} s\n", rows.len(), start.elapsed().as_secs_f64());
    for verdict in report.verdicts() {
        println!("{verdict}");
    }
    println!("\nwrote {}", page.display());
    Ok(())
}

fn prepare(beanstalkd: PathBuf) -> Result<Programs> {
    process::run(process::cargo().args(["build", "--release", "--locked", "--package", "rota", "--package", "xtask"]))?;
    let built = process::target().join("release");
    let scratch = process::target().join("bench");
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    Ok(Programs { rota: built.join("rota"), beanstalkd, xtask: built.join("xtask"), scratch })
}

/// Samples the contenders of a row in turn, so that what the machine does meanwhile hits all of them alike.
fn measure(programs: &Programs, row: &'static Row, options: &Options) -> Result<Measured> {
    let mut jobs = Vec::new();
    for contender in row.contenders {
        jobs.push(calibrate(programs, row, *contender, options)?);
    }
    let mut samples = vec![Vec::new(); row.contenders.len()];
    for round in 1..=options.rounds {
        let mut line = format!("  round {round}:");
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
    let seconds = options.sample_time().as_secs_f64();
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
    let server = server::Server::start(programs, contender)?;
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

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(words: &[&str]) -> Option<Options> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).ok()
    }

    #[test]
    fn options_have_bounds_and_come_back_as_a_command() {
        assert_eq!(parse(&[]), Some(Options { first: false, rounds: 5, quick: false }));
        let some = parse(&["first", "--rounds", "9", "--quick"]).expect("they are options");
        assert_eq!(some.command(), "cargo xtask bench first --rounds 9 --quick");
        for wrong in [["--rounds", "0"], ["--rounds", "51"], ["all", "--rounds"], ["all", "second"]] {
            assert_eq!(parse(&wrong), None, "{wrong:?}");
        }
    }
}
