//! What can be typed: every command and flag of `rota`, with its help.
//!
//! Nothing is done here. Values are checked as far as they can be without a server; the flags of `serve` are rows of
//! the table in `config::options`.

use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, value_parser};
use clap_complete::Shell;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::bench::BenchArgs;
use crate::client::{Key, QueueName, ServerAddress};
use crate::command::snapshot::HttpAddress;
use crate::config::options::ServeFlags;
use crate::snapshot::address::Address;
use crate::values::{parse_duration, parse_moment};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed at run time: no connection, a refusal, a command that failed
  2  wrong usage or configuration
  3  nothing there: no job came, no such job or queue
  4  serve stopped because its log could not be written; nothing acknowledged is lost";

/// A work-distribution server that every beanstalkd client can use, and its command line
#[derive(Debug, Parser)]
#[command(
    name = "rota",
    version,
    after_help = EXIT_CODES,
    max_term_width = 100,
    styles = Styles::styled().header(AnsiColor::Yellow.on_default()).literal(AnsiColor::Green.on_default()),
    disable_help_subcommand = true,
    infer_subcommands = false,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The server to speak to
    #[arg(
        long,
        global = true,
        env = "ROTA_SERVER",
        value_name = "URL",
        default_value = "beanstalkd://127.0.0.1:11300",
        hide_env_values = true,
        help_heading = "For every command"
    )]
    pub(crate) server: ServerAddress,
    /// Print JSON: one object, or for lists one object a line; errors too
    #[arg(long, global = true, help_heading = "For every command")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the server
    #[command(after_help = SERVE_NOTES)]
    Serve(ServeFlags),
    /// Put a job into a queue and print its id
    Put(PutArgs),
    /// Take the next job: print its body, or run a command with it, and complete it
    #[command(after_help = NEXT_NOTES)]
    Next(NextArgs),
    /// Cancel jobs by id, or one by its key
    Cancel(CancelArgs),
    /// Show a job: its state and its body
    Show(ShowArgs),
    /// List queues with their jobs by state
    List(ListArgs),
    /// Make buried jobs ready again, or delayed ones if none is buried
    Kick(KickArgs),
    /// Print the statistics of the server or of a queue
    Stats(StatsArgs),
    /// Have the running server take a snapshot, while it goes on
    #[command(after_help = ADDRESS_NOTES)]
    Snapshot(SnapshotArgs),
    /// Show what snapshots are at a place, or what is in one
    #[command(after_help = ADDRESS_NOTES)]
    Inspect(InspectArgs),
    /// Load a beanstalkd-compatible server and report throughput and latency
    Bench(BenchArgs),
    /// Print the completions for a shell
    #[command(after_help = "For bash: rota completions bash > /etc/bash_completion.d/rota")]
    Completions(CompletionsArgs),
}

const SERVE_NOTES: &str = "\
A flag beats its environment variable, which beats its line of the --config file, which beats the \
default. In the file the name of a flag is the key: sync = \"50ms\". -d, -r, -s and --addr are goyaad's.

SIGTERM and SIGINT stop the server in good order. SIGUSR1 has it refuse puts, take a snapshot to \
--snapshot-to, and stop; if the snapshot fails, it says so and goes on. An ADDRESS of snapshots is a \
folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX, with credentials in the \
environment (AWS_…, GOOGLE_…, AZURE_…).";

const ADDRESS_NOTES: &str = "\
ADDRESS is a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX. Credentials \
come from the environment: AWS_…, GOOGLE_…, AZURE_…";

const NEXT_NOTES: &str = "\
With --exec, the body is the command's standard input, and ROTA_JOB_ID and ROTA_JOB_QUEUE are in its \
environment. Exit 0 completes the job, anything else releases it. While the command runs, the job's \
lease is renewed; should it be lost all the same, rota says so, lets the command finish, and exits \
with 1.

  rota next mails --wait 10s --exec sendmail -t

Exit code 3: no job came.";

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The queue
    pub(crate) queue: QueueName,
    /// The job's body; read from standard input if it is not given
    pub(crate) body: Option<String>,
    /// Make it due this long from now: 5s, 250ms, 1m30s, 3d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "at")]
    pub(crate) delay: Option<Duration>,
    /// Make it due at this time: RFC 3339, or local time as 2026-05-01 08:00
    #[arg(long, value_name = "TIME", value_parser = |text: &str| parse_moment(text, &TimeZone::system()))]
    pub(crate) at: Option<Timestamp>,
    /// Its priority: 0 is the most urgent
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) priority: u32,
    /// How long a worker may hold it before it is ready again
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_ttr)]
    pub(crate) ttr: Duration,
    /// A key that no other open job of the queue may have (Rota servers only)
    #[arg(long)]
    pub(crate) key: Option<Key>,
}

#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    /// The queue
    pub(crate) queue: QueueName,
    /// Wait this long for a job, rounded up to whole seconds
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub(crate) wait: Duration,
    /// Run a command with the job; all that follows belongs to the command
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    pub(crate) exec: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The jobs' ids
    #[arg(value_name = "ID", required_unless_present_all = ["queue", "key"], conflicts_with_all = ["queue", "key"])]
    pub(crate) ids: Vec<u64>,
    /// The queue of the job with the --key
    #[arg(long, requires = "key")]
    pub(crate) queue: Option<QueueName>,
    /// The job's key (Rota servers only)
    #[arg(long, requires = "queue")]
    pub(crate) key: Option<Key>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The job's id
    pub(crate) id: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only these queues
    #[arg(value_name = "QUEUE")]
    pub(crate) queues: Vec<QueueName>,
}

#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// The queue
    #[arg(required_unless_present = "job", conflicts_with = "job")]
    pub(crate) queue: Option<QueueName>,
    /// How many jobs at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "job",
        value_parser = value_parser!(u32).range(1..)
    )]
    pub(crate) count: u32,
    /// Kick this job alone
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The queue; the server's own statistics if it is not given
    pub(crate) queue: Option<QueueName>,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// Where to; a folder is the server's, not this command's. Where the server puts them if it is not given
    #[arg(value_name = "ADDRESS")]
    pub(crate) to: Option<Address>,
    /// The server's HTTP port
    #[arg(
        long,
        env = "ROTA_HTTP",
        value_name = "URL",
        default_value = "http://127.0.0.1:11380",
        hide_env_values = true
    )]
    pub(crate) http: HttpAddress,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A snapshot, or a place that holds some
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Address,
    /// List the jobs of a snapshot (of the newest, if it is a place)
    #[arg(long)]
    pub(crate) jobs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

fn parse_ttr(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a worker needs some time: at least 1ms".into()),
        ttr => Ok(ttr),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_and_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
