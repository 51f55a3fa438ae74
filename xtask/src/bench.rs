//! `cargo xtask bench`: Rota beside real beanstalkd on this machine.
//!
//! Each bench is a file that writes its own part of `docs/benchmarks.md` by way of [`page`]: [`throughput`] (whose rows are
//! in [`plan`]), [`latency`], [`scale`], [`batches`], [`peers`], [`memory`],
//! [`recovery`], [`stalls`], [`far`], [`http`], [`build`]. [`server`] starts what is measured; [`load`] drives it with
//! `rota bench`, [`jobs`] fills and empties it. [`mod@answer_only`] is the limit: a server that answers puts and does
//! nothing else. Numbers come from here and never from a test: a machine that is busy makes them worse, not wrong.

mod batches;
mod build;
mod far;
mod latency;
mod memory;
mod peers;
mod plan;
mod recovery;
mod scale;
mod stalls;
mod throughput;

mod answer_only;
mod disk;
mod draw;
mod goals;
mod http;
mod jobs;
mod load;
mod machine;
mod page;
mod report;
mod server;
mod spread;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub(crate) use answer_only::run as answer_only;

use crate::process;
use machine::Machine;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The five that follow.
    All,
    Throughput,
    Latency,
    Scale,
    Batches,
    Peers,
    /// Of the throughput's rows those that are a first step.
    First,
    Memory,
    Recovery,
    Stalls,
    Far,
    Http,
    Build,
}

/// The benches by name, each with its number of rounds unless told.
const BENCHES: [(&str, Which, usize); 13] = [
    ("all", Which::All, 5),
    ("throughput", Which::Throughput, 5),
    ("latency", Which::Latency, 5),
    ("scale", Which::Scale, 5),
    ("batches", Which::Batches, 5),
    ("peers", Which::Peers, 5),
    ("first", Which::First, 5),
    ("memory", Which::Memory, 3),
    ("recovery", Which::Recovery, 5),
    ("stalls", Which::Stalls, 3),
    ("far", Which::Far, 1),
    ("http", Which::Http, 3),
    ("build", Which::Build, 1),
];

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    which: Which,
    /// Samples of each contender in each row; the bench's own number if it is not given.
    rounds: Option<usize>,
    quick: bool,
    /// Also with ten million jobs; far with a hundred million.
    large: bool,
}

impl Options {
    /// Reads the arguments after `bench`.
    ///
    /// # Errors
    ///
    /// A word that is none of the options, or a number of rounds out of its bounds.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options { which: Which::All, rounds: None, quick: false, large: false };
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--quick" => options.quick = true,
                "--large" => options.large = true,
                "--rounds" => {
                    let number = rest.next().context("--rounds needs a number")?;
                    options.rounds = match number.parse() {
                        Ok(rounds @ 1..=50) => Some(rounds),
                        _ => bail!("--rounds takes a number from 1 to 50, not '{number}'"),
                    };
                }
                _ => {
                    let Some((_, which, _)) = BENCHES.iter().find(|(name, ..)| *name == word.as_str()) else {
                        let names: Vec<&str> = BENCHES.iter().map(|(name, ..)| *name).collect();
                        let names = names.join(", ");
                        bail!(
                            "`cargo xtask bench` knows no '{word}'; it takes one of {names}, and --rounds N, --large \
                             and --quick"
                        );
                    };
                    options.which = *which;
                }
            }
        }
        if options.large && !matches!(options.which, Which::Memory | Which::Recovery | Which::Stalls | Which::Far) {
            bail!("--large is for memory, recovery, stalls and far");
        }
        Ok(options)
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or_else(|| self.bench().2)
    }

    fn bench(&self) -> (&'static str, Which, usize) {
        *BENCHES.iter().find(|(_, which, _)| *which == self.which).expect("every bench has a name")
    }

    /// The command that asks for the same.
    fn command(&self) -> String {
        let quick = if self.quick { " --quick" } else { "" };
        let large = if self.large { " --large" } else { "" };
        format!("cargo xtask bench {} --rounds {}{large}{quick}", self.bench().0, self.rounds())
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
    if options.which == Which::Build {
        return build::run(&machine, options);
    }
    let programs = prepare(beanstalkd)?;
    println!("{machine}");
    match options.which {
        Which::All => {
            throughput::run(&programs, &machine, options)?;
            latency::run(&programs, &machine, options)?;
            scale::run(&programs, &machine, options)?;
            batches::run(&programs, &machine, options)?;
            peers::run(&programs, &machine, options)
        }
        Which::Throughput | Which::First => throughput::run(&programs, &machine, options),
        Which::Latency => latency::run(&programs, &machine, options),
        Which::Scale => scale::run(&programs, &machine, options),
        Which::Batches => batches::run(&programs, &machine, options),
        Which::Peers => peers::run(&programs, &machine, options),
        Which::Memory => memory::run(&programs, &machine, options),
        Which::Recovery => recovery::run(&programs, &machine, options),
        Which::Stalls => stalls::run(&programs, &machine, options),
        Which::Far => far::run(&programs, &machine, options),
        Which::Http => http::run(&programs, &machine, options),
        Which::Build => unreachable!("it needs no programs, and is done"),
    }
}

fn prepare(beanstalkd: PathBuf) -> Result<Programs> {
    process::run(process::cargo().args(["build", "--release", "--locked", "--package", "rota", "--package", "xtask"]))?;
    let built = process::target().join("release");
    let scratch = process::target().join("bench");
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    Ok(Programs { rota: built.join("rota"), beanstalkd, xtask: built.join("xtask"), scratch })
}

/// A number of jobs as the page writes it.
fn count(jobs: u64) -> String {
    match jobs {
        1_000_000.. if jobs.is_multiple_of(1_000_000) => format!("{} M", jobs / 1_000_000),
        1_000.. if jobs.is_multiple_of(1_000) => format!("{} k", jobs / 1_000),
        _ => jobs.to_string(),
    }
}

/// How a page says whether a goal was reached.
fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// Bytes in MiB, with a decimal where it says something.
fn mib(bytes: f64) -> String {
    let mib = bytes / (1024.0 * 1024.0);
    if mib < 100.0 { format!("{mib:.1}") } else { format!("{mib:.0}") }
}

#[cfg(test)]
mod tests {
    use super::{Options, Which};

    fn parse(words: &[&str]) -> Option<Options> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).ok()
    }

    #[test]
    fn options_have_bounds_and_come_back_as_a_command() {
        let all = Options { which: Which::All, rounds: None, quick: false, large: false };
        assert_eq!(all.command(), "cargo xtask bench all --rounds 5");
        assert_eq!(parse(&[]), Some(all));
        for command in ["first --rounds 9 --quick", "memory --rounds 3 --large", "stalls --rounds 1 --quick"] {
            let options = parse(&command.split(' ').collect::<Vec<_>>()).expect("they are options");
            assert_eq!(options.command(), format!("cargo xtask bench {command}"));
        }
        for wrong in [["--rounds", "0"], ["--rounds", "51"], ["all", "--rounds"], ["all", "second"], ["all", "--large"]]
        {
            assert_eq!(parse(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn numbers_are_written_short() {
        assert_eq!([10_000, 1_000_000, 1_500].map(super::count), ["10 k", "1 M", "1500"]);
        assert_eq!([1_572_864.0, 1_048_576_000.0].map(super::mib), ["1.5", "1000"]);
    }
}
