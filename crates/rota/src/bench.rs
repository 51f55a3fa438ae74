//! `rota bench`: loads a beanstalkd-compatible server and reports throughput and latency.
//!
//! A round is one or two stages. In a stage every connection repeats: write a batch of commands at once, read and
//! check all their answers (`task` says which commands and what is right, `driver` moves the bytes). The generator
//! must never be what is measured: frames are formatted beforehand, answers parsed in place, and a few threads drive
//! all connections by readiness. Every answer, body, id and count is verified: a fast wrong server is an error.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Global;
use crate::report;
use crate::values::{format_duration, parse_bytes, parse_duration};

mod driver;
mod error;
mod frames;
mod group;
mod round;
mod socket;
mod summary;
mod task;

use driver::Target;
pub(crate) use error::BenchError;
use summary::Summary;

/// The shortest body of the delayed mix, in bytes: it carries the moment when the job is due.
const STAMP_BYTES: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to do: puts alone; put, reserve and delete; puts with delays, reserved when they are due; deletes of
    /// delayed jobs in random order
    #[arg(long, value_enum, default_value_t = Mix::Put)]
    pub(crate) mix: Mix,
    /// How many connections at once; the delayed mix has as many again that reserve
    #[arg(long, short, value_name = "N", default_value_t = 50, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,
    /// How many commands a connection sends at once before it waits for their answers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) depth: u32,
    /// Use Rota's commands for batches, each with so many jobs: --depth is then how many of these are sent at once
    #[arg(long, value_name = "JOBS", value_parser = value_parser!(u32).range(1..=1_000))]
    pub(crate) batch: Option<u32>,
    /// The size of a body
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_size)]
    pub(crate) size: usize,
    /// How many jobs in a round
    #[arg(
        long,
        short,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = value_parser!(u64).range(1..=1_000_000_000)
    )]
    pub(crate) jobs: u64,
    /// End a round after this long, though there are jobs left
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub(crate) time: Duration,
    /// How often to repeat it all
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// The delays of the delayed and the cancel mix: whole seconds work with any server, others use Rota's put-in
    /// [default: 1s..5s for delayed, 1h..24h for cancel]
    #[arg(long, value_name = "FROM..TO", value_parser = parse_delay_range)]
    pub(crate) delay_range: Option<DelayRange>,
    /// How many jobs to put per second, over all connections: for the put, the cycle and the delayed mix, evenly spread
    /// to the millisecond [default: as many as the server takes]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// How many threads generate the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,
    /// Where the random delays and the random order begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Leave the jobs of the put mix in their queue, and those of the cancel mix that time spared
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What a round does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// Puts alone
    Put,
    /// Put, reserve, delete
    Cycle,
    /// Puts with random delays, reserved as they come due
    Delayed,
    /// Deletes of delayed jobs in random order
    Cancel,
}

/// The delays that a job may get, both ends included, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DelayRange {
    from_ms: u64,
    to_ms: u64,
}

impl DelayRange {
    /// Whether plain `put` can say every delay that is drawn from it.
    fn is_whole_seconds(self) -> bool {
        self.from_ms.is_multiple_of(1_000) && self.to_ms.is_multiple_of(1_000)
    }
}

pub(crate) fn run(global: &Global, args: BenchArgs) -> anyhow::Result<ExitCode> {
    let delays = args.delay_range.unwrap_or(match args.mix {
        Mix::Cancel => DelayRange { from_ms: 3_600_000, to_ms: 86_400_000 },
        _ => DelayRange { from_ms: 1_000, to_ms: 5_000 },
    });
    if args.mix == Mix::Delayed && args.size < STAMP_BYTES {
        return Err(BenchError::SmallBody { size: args.size, least: STAMP_BYTES }.into());
    }
    let server = global.server();
    let tls = server.is_tls().then(|| global.tls.config()).transpose()?.map(Arc::new);
    let token = crate::command::http::token(global.token_file.as_deref())?;
    let target = Target { server: &server, tls, token };
    let mut client = crate::command::connect(global)?;
    let with_delays = matches!(args.mix, Mix::Delayed | Mix::Cancel);
    if with_delays && !delays.is_whole_seconds() && !client.has_extensions()? {
        return Err(BenchError::NeedsMilliseconds { server: server.clone() }.into());
    }
    if args.batch.is_some() && !client.has_extensions()? {
        return Err(BenchError::NeedsBatches { server: server.clone() }.into());
    }
    let mut summary = Summary::new(&server, &args, delays);
    for number in 0..args.rounds {
        let bar = progress_bar(&args, number);
        let round = round::run(&target, &args, delays, number, &mut client, &bar);
        bar.finish_and_clear();
        summary.add(round?);
    }
    report::line(global.json, || summary.text(), summary.json())?;
    Ok(ExitCode::SUCCESS)
}

/// Shows how far a round is, on standard error, if that is a terminal.
fn progress_bar(args: &BenchArgs, number: u32) -> ProgressBar {
    const SHAPE: &str = "{msg} {bar:40} {human_pos}/{human_len} {per_sec} {eta}";
    let bar = ProgressBar::with_draw_target(Some(args.jobs), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(SHAPE).expect("the template is well-formed"));
    bar.set_message(format!("round {} of {}", number + 1, args.rounds));
    bar
}

fn parse_size(text: &str) -> Result<usize, String> {
    match parse_bytes(text)? {
        bytes if bytes > 1 << 30 => Err(format!("{text} is too large: at most 1GiB")),
        bytes => Ok(usize::try_from(bytes).expect("1 GiB fits into usize")),
    }
}

fn parse_delay_range(text: &str) -> Result<DelayRange, String> {
    let (from, to) = text.split_once("..").ok_or("write two durations: 1s..5s")?;
    let millis = |text: &str| {
        let span = parse_duration(text)?;
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match span.subsec_nanos() % 1_000_000 {
            0 if millis <= 86_400_000_000 => Ok(millis),
            0 => Err(format!("{} is too long: at most 1000d", format_duration(span))),
            _ => Err(format!("{} is not in whole milliseconds", format_duration(span))),
        }
    };
    let range = DelayRange { from_ms: millis(from)?, to_ms: millis(to.trim_start_matches('='))? };
    match range.from_ms <= range.to_ms {
        true => Ok(range),
        false => Err(format!("{from} is longer than {to}")),
    }
}

#[cfg(test)]
mod tests;
