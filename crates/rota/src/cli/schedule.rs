//! What can be typed behind `rota schedule`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::HttpServer;
use super::agreed::Agreed;
use crate::values::{parse_duration, parse_moment};
use rota_client::QueueName;

/// What can be done with schedules, over the server's HTTP port.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Set a schedule up, whether it is there or not
    #[command(after_help = SET_NOTES)]
    Set(Box<ScheduleSetArgs>),
    /// List schedules with their next ticks
    List(ScheduleListArgs),
    /// Show a schedule: what it puts, its next ticks, what came of the last one
    Show(ScheduleArgs),
    /// Delete a schedule; jobs that it put are left alone
    Delete(ScheduleArgs),
    /// Have a schedule pass over its ticks until it is resumed
    Pause(ScheduleArgs),
    /// Have a paused schedule go on with its next tick
    Resume(ScheduleArgs),
    /// Put a schedule's job now, beside its ticks, and print its id
    Run(ScheduleArgs),
}

const SET_NOTES: &str = "\
A cron expression has five fields: minute, hour, day of the month, month, day of the week. docs/http.md says what becomes of \
ticks when the clocks of a zone change.

  rota schedule set nightly-report reports --cron '30 4 * * 1-5' --zone Europe/Berlin '{\"day\": \"yesterday\"}'
  rota schedule set sweep chores --every 15m --on-overlap skip --expires-in 10m sweep";

/// One schedule.
#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    /// The schedule
    pub(crate) name: QueueName,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleListArgs {
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleSetArgs {
    /// The schedule's name, which keeps the rule for names of queues
    pub(crate) name: QueueName,
    /// The queue that it puts into
    pub(crate) queue: QueueName,
    /// The body of its jobs; read from standard input if it is not given
    pub(crate) body: Option<String>,
    /// Its ticks, as five fields or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "EXPRESSION", required_unless_present = "every", conflicts_with = "every")]
    pub(crate) cron: Option<String>,
    /// The time zone of --cron, by its IANA name; UTC unless told
    #[arg(long, requires = "cron")]
    pub(crate) zone: Option<String>,
    /// The span between two ticks: 15m, 1h, at least 1s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) every: Option<Duration>,
    /// Where the spans of --every begin: RFC 3339, or local time as 2026-05-01 08:00
    #[arg(long, value_name = "TIME", requires = "every", value_parser = |text: &str| parse_moment(text, &TimeZone::system()))]
    pub(crate) from: Option<Timestamp>,
    /// What becomes of ticks that passed while the server was down
    #[arg(long, value_enum, default_value_t = OnMissed::Once)]
    pub(crate) on_missed: OnMissed,
    /// What becomes of a tick while the job of the last firing is open
    #[arg(long, value_enum, default_value_t = OnOverlap::Allow)]
    pub(crate) on_overlap: OnOverlap,
    /// The jobs' priority: 0 is the most urgent [default: 1024]
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u32>,
    /// How long a worker may hold one before it is ready again: 30s, 10m [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) ttr: Option<Duration>,
    /// The jobs' key: while an open job of the queue has it, ticks are left out
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) agreed: Agreed,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

/// What becomes of missed ticks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnMissed {
    /// They are left out
    Skip,
    /// The last of them fires, for all
    Once,
    /// Each fires, but for those before the last 1,000
    All,
}

/// What becomes of ticks that come too soon.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnOverlap {
    /// They fire all the same
    Allow,
    /// They are left out
    Skip,
}
