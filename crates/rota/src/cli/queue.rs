//! What can be typed behind `rota queue`.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum, value_parser};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rota_client::QueueName;
use rota_client::http::Rate;

use super::HttpServer;
use crate::values::{parse_bytes, parse_duration, parse_moment};

/// What can be done with queues, over the server's HTTP port.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues with their jobs by state, their pauses and what bounds them
    List(QueueListArgs),
    /// Show a queue: its jobs, how it is set up, how long jobs wait and take
    Show(QueueArgs),
    /// Have a queue hand nothing out for a while; who holds a job keeps it
    #[command(after_help = PAUSE_NOTES)]
    Pause(QueuePauseArgs),
    /// Have a paused queue go on
    Resume(QueueArgs),
    /// Set a queue up, whether it is there or not; what is not named stays as it is
    #[command(after_help = SET_NOTES)]
    Set(QueueSetArgs),
}

const PAUSE_NOTES: &str = "\
A pause that is under way is replaced. A queue that is not there comes to be, and is there as long as it is paused.

  rota queue pause mail                                   # until rota queue resume mail
  rota queue pause mail --for 10m
  rota queue pause mail --until '2030-05-01 08:00'";

const SET_NOTES: &str = "\
A queue that is set up stays when nothing is in it. Two who set the same queue up at the same moment may undo each other's \
change. Rates are buckets: of 100/1s, up to 100 jobs are handed out at once, and then one more each 10 ms.

  rota queue set mail --concurrency 20 --rate 100/1s --retain 24h
  rota queue set imports --key-concurrency 3 --key-rate 10/1s
  rota queue set payments --sync always --durable-leases
  rota queue set mail --unset rate,retain";

/// One queue.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The queue
    pub(crate) name: QueueName,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct QueueListArgs {
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct QueuePauseArgs {
    /// The queue
    pub(crate) name: QueueName,
    /// For how long from now: 90s, 10m, 1d [default: until it is resumed]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, conflicts_with = "until")]
    pub(crate) span: Option<Duration>,
    /// Until that moment: 2030-05-01T08:00:00Z, or local time as 2030-05-01 08:00
    #[arg(long, value_name = "MOMENT", value_parser = |text: &str| parse_moment(text, &TimeZone::system()))]
    pub(crate) until: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
#[command(override_usage = "rota queue set [OPTIONS] <NAME>", group = ArgGroup::new("change").required(true).multiple(true).args([
    "retain", "max_jobs", "max_bytes", "concurrency", "rate", "key_concurrency", "key_rate", "durable_leases", "sync",
    "unset",
]))]
pub(crate) struct QueueSetArgs {
    /// The queue
    pub(crate) name: QueueName,
    /// Keep final jobs so long, with their results: 24h, 7d [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) retain: Option<Duration>,
    /// The most open jobs; a put past them is refused [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) max_jobs: Option<u64>,
    /// The most bytes of bodies of open jobs, as 64MiB or 1GB; a put past them is refused [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) max_bytes: Option<u64>,
    /// The most of its jobs that are held at a time, whoever holds them [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32))]
    pub(crate) concurrency: Option<u32>,
    /// How many jobs are handed out in which span, at the most: 100/1s, 5/1m [default: no limit]
    #[arg(long, value_name = "N/SPAN", value_parser = parse_rate)]
    pub(crate) rate: Option<Rate>,
    /// The same as --concurrency for the jobs of each limit key by itself [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) key_concurrency: Option<u32>,
    /// The same as --rate for the jobs of each limit key by itself [default: no limit]
    #[arg(long, value_name = "N/SPAN", value_parser = parse_rate)]
    pub(crate) key_rate: Option<Rate>,
    /// Leases over HTTP from now on stay in force when the server is started again [default: a restart ends them]
    #[arg(long)]
    pub(crate) durable_leases: bool,
    /// When what is asked of it is answered: always: once it is on the disk [default: as --sync of the server says]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) sync: Option<SyncMode>,
    /// Settings that shall not hold any more, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum)]
    pub(crate) unset: Vec<Setting>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

/// A setting of a queue, by the name of its flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Setting {
    Retain,
    MaxJobs,
    MaxBytes,
    Concurrency,
    Rate,
    KeyConcurrency,
    KeyRate,
    DurableLeases,
    Sync,
}

/// When what is asked of a queue is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncMode {
    /// Once it is on the disk
    Always,
}

/// Reads `100/1s`.
fn parse_rate(text: &str) -> Result<Rate, String> {
    const FORMS: &str = "write 100/1s or 5/1m";
    let (count, span) = text.split_once('/').ok_or_else(|| format!("{text:?} is no rate: {FORMS}"))?;
    let count = count.parse().ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| format!("{text:?} has no number of jobs before the /: {FORMS}"))?;
    match parse_duration(span)? {
        Duration::ZERO => Err(format!("{text:?} is a rate over no time: {FORMS}")),
        per => Ok(Rate { count, per }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        assert_eq!(parse_rate("100/1s"), Ok(Rate { count: 100, per: Duration::from_secs(1) }));
        for bad in ["", "100", "0/1s", "1/0s", "-1/1s", "1/1", "x/1s"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
