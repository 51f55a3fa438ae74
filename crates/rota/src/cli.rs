//! What can be typed: every command and flag of `rota`, with its help.
//!
//! Nothing is done here. Values are checked as far as they can be without a server; the flags of `serve` are rows of
//! the table in `config::options`.

pub(crate) mod agreed;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rota_net::access::{Pattern, Role};
use rota_net::filter::{FIELDS, Filter, FilterError};

use crate::bench::BenchArgs;
use crate::config::options::ServeFlags;
use crate::tls::client::ClientFiles;
use crate::tokens::TokenId;
use crate::tokens::file::parse_name;
use crate::values::{parse_duration, parse_moment};
use rota_client::http::{Address, Parent};
use rota_client::{Key, QueueName, ServerAddress};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed at run time: no connection, a refusal, a command that failed; log check: damaged
  2  wrong usage or configuration
  3  nothing there: no job came, no such job or queue, no data directory
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
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The server to speak to, beanstalkd://HOST:PORT; tls://HOST:PORT for its port that speaks TLS [default: 127.0.0.1:11300]
    #[arg(
        long,
        global = true,
        env = "ROTA_SERVER",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "For every command"
    )]
    pub(crate) server: Option<ServerAddress>,
    #[command(flatten)]
    pub(crate) tls: ClientFiles,
    /// A file with the token to show, for its owner alone; else ROTA_TOKEN has it
    #[arg(
        long,
        global = true,
        env = "ROTA_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "For every command"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON: one object, or for lists one object a line; errors too
    #[arg(long, global = true, help_heading = "For every command")]
    pub(crate) json: bool,
    /// Which of the server's ports a flag named, if none named the other: it beats the environment, which may name another server.
    #[arg(skip)]
    pub(crate) flagged: Option<Port>,
}

/// A port of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Beanstalkd,
    Http,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the server
    #[command(after_help = SERVE_NOTES)]
    Serve(ServeFlags),
    /// Put a job into a queue and print its id
    #[command(after_help = PUT_NOTES)]
    Put(Box<PutArgs>),
    /// Take the next job: print its body, or run a command with it, and complete it
    #[command(after_help = NEXT_NOTES)]
    Next(NextArgs),
    /// Cancel jobs by id, one by its key, or those of a filter
    #[command(after_help = filter_notes())]
    Cancel(CancelArgs),
    /// Show a job, open or kept: its state, what became of it, and its body
    #[command(after_help = BOTH_PORTS)]
    Show(ShowArgs),
    /// Say why a job is not worked on, or not any more
    Why(WhyArgs),
    /// List queues with their jobs by state, or the jobs of a filter
    #[command(after_help = filter_notes())]
    List(ListArgs),
    /// Make buried jobs ready again, or delayed ones if none is buried; or a filter's jobs
    #[command(after_help = filter_notes())]
    Kick(KickArgs),
    /// Print the statistics of the server or of a queue
    #[command(after_help = STATS_NOTES)]
    Stats(StatsArgs),
    /// Watch a server: its rates, and a table of its queues, once a second
    #[command(after_help = TOP_NOTES)]
    Top(TopArgs),
    /// Pause queues, set them up, look at them
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Put jobs again and again: set schedules up, look at them, pause and run them
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Have an address called with what happens: set webhooks up, pause and try them
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Print what happens on the server, as it happens, until it is interrupted
    #[command(after_help = EVENTS_NOTES)]
    Events(EventsArgs),
    /// Have the running server take a snapshot, while it goes on
    #[command(after_help = ADDRESS_NOTES)]
    Snapshot(SnapshotArgs),
    /// Show what snapshots are at a place, or what is in one
    #[command(after_help = ADDRESS_NOTES)]
    Inspect(InspectArgs),
    /// Say who may do what: make, list and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look into a data directory, and save what a damaged one still holds
    #[command(subcommand)]
    Log(LogCommand),
    /// Load a beanstalkd-compatible server and report throughput and latency
    Bench(BenchArgs),
    /// Print the completions for a shell
    #[command(after_help = "For bash: rota completions bash > /etc/bash_completion.d/rota")]
    Completions(CompletionsArgs),
}

const SERVE_NOTES: &str = "\
A flag beats its environment variable, which beats its line of the --config file, which beats the \
default. In the file the name of a flag is the key: sync = \"50ms\". -d, -r, -s and --addr are goyaad's.

SIGTERM and SIGINT stop the server in good order. SIGHUP has it read certificates, keys and tokens \
again at once, which it does by itself within two seconds of a change. SIGUSR1 has it refuse puts, take a snapshot to \
--snapshot-to, and stop; if the snapshot fails, it says so and goes on. An ADDRESS of snapshots is a \
folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX, with credentials in the \
environment (AWS_…, GOOGLE_…, AZURE_…).";

const ADDRESS_NOTES: &str = "\
ADDRESS is a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX. Credentials \
come from the environment: AWS_…, GOOGLE_…, AZURE_…";

const STATS_NOTES: &str = "\
They are those of the beanstalkd protocol; with --http (ROTA_HTTP) and no --server, those of /v1/stats and /v1/queues, \
which say more.";

const TOP_NOTES: &str = "\
Keys: q quits, arrows, j, k, page up and down, home and end scroll, < and > (or s) choose the column to \
sort by, r turns the order around, space holds the picture, / filters by name (escape drops the filter).

Where standard output is no terminal, one plain table is printed, as with --once. What is counted by the \
second needs two looks, so that one table has none of it. With --json it is an object a look: stats and \
queues as /v1/stats and /v1/queues have them, and per_second from the second look on.

  rota top --once
  rota top --json --every 10s | jq .per_second";

const EVENTS_NOTES: &str = "\
A line each, or with --json an object each. The kinds are in docs/http.md.

  rota events --kind 'job.*,lease.lost' --queue mail
  rota events --no-follow --job 17                        # what became of it, as far as the log has it";

const BOTH_PORTS: &str = "\
It goes over the server's HTTP port; over the beanstalkd protocol, which can do less, where only --server \
(ROTA_SERVER) is named, or nothing is and nobody answers over HTTP.";

const PUT_NOTES: &str = "\
It goes over the server's HTTP port; over the beanstalkd protocol where only --server (ROTA_SERVER) is \
named, or nothing is and nobody answers over HTTP. There, only the options down to --key can be used, \
and --after with ids, and a job has no limit of attempts.

  rota put mail '{\"to\": \"ann\"}' --kind welcome --max-attempts 5 --back-off 10s,most=1h
  rota put mail report --after imports:rows-17,42 --on-parent-failure hold
  rota put mail hello --idempotency-key order-17 --json";

const NEXT_NOTES: &str = "\
With --exec, the body is the command's standard input, and ROTA_JOB_ID, ROTA_JOB_QUEUE, ROTA_JOB_ATTEMPTS \
(that failed before), and where there are such ROTA_JOB_KEY and ROTA_JOB_KIND are in its environment. Exit 0 \
completes the job. Anything else is a failed attempt, with the end of what the command wrote to its standard \
error: the job is tried again after its back-off, or buried if that was its last attempt. While the command \
runs, the job's lease is renewed; should it be lost all the same, rota says so, lets the command finish, and \
exits with 1. Should rota itself be killed, the job is ready again when its TTR is over.

With --result stdout, what the command wrote to its standard output is the job's result, without line ends at its end, and up to \
65,536 bytes; it is printed all the same. A queue keeps results as long as its final jobs: rota queue set mail --retain 24h.

It goes over the server's HTTP port; over the beanstalkd protocol where only --server (ROTA_SERVER) is \
named, or nothing is and nobody answers over HTTP. There is no failed attempt in that one: the job is \
released, and ready at once; so it is if rota is killed.

  rota next mails news --timeout 10s --exec sendmail -t
  rota next reports --result stdout-json --exec ./report

Exit code 3: no job came.";

/// What can be done with tokens, whether a server runs or not: it sees changes within a second.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once: only its hash is kept
    #[command(after_help = TOKEN_NOTES)]
    Create(TokenCreateArgs),
    /// List tokens: their ids, roles, queues and ends
    List(TokenFileArgs),
    /// Revoke tokens by id
    Revoke(TokenRevokeArgs),
}

const TOKEN_NOTES: &str = "\
As soon as there is a token, HTTP asks for one: authorization: Bearer TOKEN. With the last one revoked \
it still does. Over the beanstalkd protocol it is shown by a first line, auth TOKEN; that is asked for \
beyond this machine, and with serve --auth. Roles:

  admin     everything
  operator  look, kick, cancel, pause, set queues and schedules up, take snapshots where the server has them
  producer  put jobs, and cancel them by their keys
  consumer  reserve jobs, and complete, fail, release, bury and touch them
  viewer    look at jobs, queues, statistics and metrics

A token that is limited to some queues sees no others, nor what is about the whole server.

  rota token create --role producer --queues 'mail*,news' --expires 90d --name newsletter
  rota token create --role consumer,viewer -d /var/lib/rota";

/// Where tokens are.
#[derive(Debug, Args)]
pub(crate) struct TokenFileArgs {
    /// The server's data directory, whose file `tokens` is meant
    #[arg(long, short, env = "ROTA_DATA", value_name = "DIR", default_value = "rota-data", hide_env_values = true)]
    pub(crate) data: PathBuf,
    /// The file, as `serve --tokens` is told it
    #[arg(long, env = "ROTA_TOKENS", value_name = "FILE", hide_env_values = true)]
    pub(crate) tokens: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// What its bearer may do: admin, operator, producer, consumer, viewer, or several of them
    #[arg(long = "role", value_name = "ROLE", required = true, value_delimiter = ',')]
    pub(crate) roles: Vec<Role>,
    /// Only in these queues; * stands for anything. In all unless told
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) queues: Vec<Pattern>,
    /// How long it is valid: 90d, 12h. Without end unless told
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) expires: Option<Duration>,
    /// What it is for, for whoever reads the list; what is asked for with it carries the name
    #[arg(long, value_name = "TEXT", value_parser = parse_name)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) file: TokenFileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRevokeArgs {
    /// The tokens' ids
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<TokenId>,
    #[command(flatten)]
    pub(crate) file: TokenFileArgs,
}

/// What can be done with a log on disk; none of it changes the directory that is looked at.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Judge a data directory as the next start would, and list all that is wrong
    #[command(after_help = CHECK_NOTES)]
    Check(LogCheckArgs),
    /// Print the records of a data directory, a line each
    #[command(after_help = SHOW_NOTES)]
    Show(LogShowArgs),
    /// Make a data directory out of what a damaged one still holds, and list what is lost
    #[command(after_help = SALVAGE_NOTES)]
    Salvage(LogSalvageArgs),
}

const CHECK_NOTES: &str = "\
Nothing is changed, and a server may have the directory: what it writes meanwhile is not looked at. \
Without one, no server can start on the directory while it is checked.

  rota log check /var/lib/rota
  rota log check --json /var/lib/rota | jq .problems

Exit code: 0 if the log is whole, or only its end is torn, which a start cuts off; 1 if a start would \
be refused, or something is wrong with the segments of jobs that are far ahead; 3 if there is no data directory.";

const SHOW_NOTES: &str = "\
A line has the record's place in order (LSN), its segment and offset, its number, the time by the wall \
clock and in engine time, its type and its fields. ~ stands before an LSN that was counted on from \
around damage, ! behind it where the record was found in a damaged group, and ~ before a time where \
nothing read so far says how the wall clock stood.

  rota log show /var/lib/rota --job 17
  rota log show /var/lib/rota --queue mail --limit 20 --bodies
  rota log show /var/lib/rota --from 1000 --to 2000 --json

Lines that begin with -- tell what was passed over.";

const SALVAGE_NOTES: &str = "\
The damaged directory is only read. Every record whose checksum is right is taken, also around damage; a \
body is never altered. What is lost is listed: records, bytes, and jobs. A job may be back though it had \
ended, where the record of its end is lost: those that may are called uncertain, and --json lists them.

Jobs far ahead that --storage mapped left in their segments are taken from there; the file NNN.open says which of \
them had not ended. Where it is lost, and the log does not reach back far enough to do without, nothing does: they \
are left out and counted, unless --take-unsure is given, which may bring back what was called off long ago.

  rota log check /var/lib/rota
  rota log salvage /var/lib/rota --to /var/lib/rota-saved
  rota serve --data /var/lib/rota-saved

Exit code: 0 if the new directory was made, whatever is lost; 1 if not, and then nothing is left of it.";

#[derive(Debug, Args)]
pub(crate) struct LogSalvageArgs {
    /// The damaged data directory; no server may have it
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The new data directory: it must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Also take jobs far ahead that may have ended long ago, where what says which of them are open is lost
    #[arg(long)]
    pub(crate) take_unsure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogCheckArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct LogShowArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Only this segment
    #[arg(long, value_name = "N")]
    pub(crate) segment: Option<u64>,
    /// From this record on
    #[arg(long, value_name = "LSN", default_value_t = 0, hide_default_value = true)]
    pub(crate) from: u64,
    /// Up to this record
    #[arg(long, value_name = "LSN", default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) to: u64,
    /// Only what happened to this job
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<u64>,
    /// Only what happened to this queue and to the jobs that were put into it
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<QueueName>,
    /// At most so many records
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Whole bodies, not only how they begin
    #[arg(long)]
    pub(crate) bodies: bool,
}

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
    /// Jobs that must be done before, by id or as QUEUE:KEY, with commas between them (Rota servers only)
    #[arg(long, value_name = "JOBS", value_delimiter = ',', value_parser = parse_parent)]
    pub(crate) after: Vec<Parent>,
    /// What becomes of it when one of those is cancelled or expires [default: cancel]
    #[arg(long, value_enum, requires = "after")]
    pub(crate) on_parent_failure: Option<OnParentFailure>,
    /// What to do where an open job of the queue has the --key [default: reject]
    #[arg(long, value_enum, requires = "key")]
    pub(crate) on_conflict: Option<OnConflict>,
    #[command(flatten)]
    pub(crate) agreed: agreed::Agreed,
    /// It expires if it was not begun by then: RFC 3339, or local time as 2026-05-01 08:00 [default: never]
    #[arg(
        long,
        value_name = "TIME",
        conflicts_with = "expires_in",
        value_parser = |text: &str| parse_moment(text, &TimeZone::system())
    )]
    pub(crate) expires_at: Option<Timestamp>,
    /// A name of this put, 1 to 200 visible ASCII characters: the same put, repeated within 24 hours, puts nothing twice
    #[arg(long, value_name = "TEXT", value_parser = parse_idempotency_key)]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

/// What becomes of a job when one that it waits for comes to nothing.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnParentFailure {
    /// It is cancelled too
    Cancel,
    /// It goes on as if that one were done
    Run,
    /// It stays blocked until it is kicked or cancelled
    Hold,
}

/// What a put does where its key is taken.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnConflict {
    /// It is refused, and the job that has the key is named
    Reject,
    /// Nothing is put, and the id of the job that has the key is printed
    Keep,
    /// That job becomes what this put says, and keeps its id
    Replace,
}

#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    /// The queues: up to 100, of which the first ready job of all is taken; of several over HTTP only
    #[arg(value_name = "QUEUE", required = true, num_args = 1..=100)]
    pub(crate) queues: Vec<QueueName>,
    /// Wait this long for a job: 500ms, 10s, 1h; over the beanstalkd protocol rounded up to whole seconds
    #[arg(long, visible_alias = "wait", value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) server: HttpServer,
    /// Keep what the command prints as the job's result, as long as the queue keeps final jobs
    #[arg(long, value_name = "WHAT", value_enum, requires = "exec")]
    pub(crate) result: Option<Printed>,
    /// Run a command with the job; all that follows belongs to the command
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    pub(crate) exec: Vec<std::ffi::OsString>,
}

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Printed {
    /// Its standard output, as a text
    Stdout,
    /// Its standard output, which has to be JSON: else the attempt failed
    StdoutJson,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The jobs' ids
    #[arg(
        value_name = "ID",
        required_unless_present_any = ["queue", "key", "filter"],
        conflicts_with_all = ["queue", "key", "filter"]
    )]
    pub(crate) ids: Vec<u64>,
    /// The queue of the job with the --key
    #[arg(long, requires = "key")]
    pub(crate) queue: Option<QueueName>,
    /// The job's key (Rota servers only)
    #[arg(long, requires = "queue")]
    pub(crate) key: Option<Key>,
    /// Cancel all jobs of this filter, held or not
    #[arg(long = "where", value_name = "FILTER", value_parser = parse_filter, conflicts_with_all = ["queue", "key"])]
    pub(crate) filter: Option<Filter>,
    /// Only count them
    #[arg(long, requires = "filter")]
    pub(crate) dry_run: bool,
    /// At most so many
    #[arg(long, value_name = "N", requires = "filter", value_parser = value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The job's id
    #[arg(required_unless_present_any = ["queue", "key"], conflicts_with_all = ["queue", "key"])]
    pub(crate) id: Option<u64>,
    /// The queue of the open job with the --key
    #[arg(long, requires = "key")]
    pub(crate) queue: Option<QueueName>,
    /// The job's key (Rota servers only)
    #[arg(long, requires = "queue")]
    pub(crate) key: Option<Key>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The job's id
    #[arg(value_parser = value_parser!(u64).range(1..))]
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only these queues
    #[arg(value_name = "QUEUE")]
    pub(crate) queues: Vec<QueueName>,
    /// List the jobs of this filter instead
    #[arg(long = "where", value_name = "FILTER", value_parser = parse_filter, conflicts_with = "queues")]
    pub(crate) filter: Option<Filter>,
    /// At most so many jobs
    #[arg(long, value_name = "N", requires = "filter", value_parser = value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// The queue
    #[arg(required_unless_present_any = ["job", "filter"], conflicts_with_all = ["job", "filter"])]
    pub(crate) queue: Option<QueueName>,
    /// How many jobs at most; 1 unless told
    #[arg(long, value_name = "N", conflicts_with = "job", value_parser = value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Kick this job alone
    #[arg(long, value_name = "ID", conflicts_with = "filter")]
    pub(crate) job: Option<u64>,
    /// Kick jobs of this filter: those that are buried, delayed or blocked
    #[arg(long = "where", value_name = "FILTER", value_parser = parse_filter)]
    pub(crate) filter: Option<Filter>,
    /// All of them
    #[arg(long, requires = "filter", conflicts_with = "count")]
    pub(crate) all: bool,
    /// Only count them
    #[arg(long, requires = "filter")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The queue; the server's own statistics if it is not given
    pub(crate) queue: Option<QueueName>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// How long from one look to the next
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    pub(crate) every: Duration,
    /// Look once, print it and end
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

/// Which server is asked over HTTP.
#[derive(Debug, Args)]
pub(crate) struct HttpServer {
    /// The server's HTTP port, http://HOST:PORT or https://; without --server (ROTA_SERVER, which a flag beats), it is asked there alone [default: 127.0.0.1:11380]
    #[arg(long, env = "ROTA_HTTP", value_name = "URL", hide_env_values = true)]
    pub(crate) http: Option<Address>,
}

impl Cli {
    /// Reads the command line. Where that cannot be done, or asks for help, this says so and ends the process.
    pub(crate) fn read() -> Cli {
        let matches = Cli::command().get_matches();
        let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut Cli::command()).exit());
        cli.global.flagged = flagged(&matches);
        cli
    }
}

fn flagged(mut matches: &ArgMatches) -> Option<Port> {
    while let Some((_, of_command)) = matches.subcommand() {
        matches = of_command;
    }
    let is_flag = |id: &str| {
        let is_there = matches.ids().any(|there| there == id);
        is_there && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    match (is_flag("server"), is_flag("http")) {
        (true, false) => Some(Port::Beanstalkd),
        (false, true) => Some(Port::Http),
        _ => None,
    }
}

impl Global {
    /// The server that is spoken to over the beanstalkd protocol.
    pub(crate) fn server(&self) -> ServerAddress {
        let usual = || "127.0.0.1:11300".parse().expect("it is an address");
        self.server.clone().unwrap_or_else(usual)
    }
}

impl HttpServer {
    /// Where the server is asked over HTTP.
    pub(crate) fn address(&self) -> Address {
        let usual = || "127.0.0.1:11380".parse().expect("it is an address");
        self.http.clone().unwrap_or_else(usual)
    }
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only events of these kinds; a star stands for any end
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub(crate) kinds: Vec<String>,
    /// Only events of these queues and their jobs
    #[arg(long = "queue", value_name = "QUEUE", value_delimiter = ',')]
    pub(crate) queues: Vec<QueueName>,
    /// Only events of these jobs
    #[arg(long = "job", value_name = "ID", value_delimiter = ',')]
    pub(crate) jobs: Vec<u64>,
    /// Only events that these asked for: what their tokens are called
    #[arg(long = "actor", value_name = "NAME", value_delimiter = ',')]
    pub(crate) actors: Vec<String>,
    /// Go on after the event of this number, as far as the server still has what came then; 0 for all that is there
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<u64>,
    /// Print what is past and end: all that is there, or what came after --after
    #[arg(long)]
    pub(crate) no_follow: bool,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// Where to; a folder is the server's, not this command's. Where the server puts them if it is not given
    #[arg(value_name = "ADDRESS")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A snapshot, or a place that holds some
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// List the jobs of a snapshot (of the newest, if it is a place)
    #[arg(long)]
    pub(crate) jobs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// What can stand behind `--where`.
fn filter_notes() -> String {
    let mut notes = String::from(
        "A FILTER has terms that must all hold; - or ! before one turns it around. * stands for anything, a comma \
         parts values of which one has to hold, numbers and spans also take <, <=, > and >=, and a value with spaces \
         goes between quotation marks. It goes over the server's HTTP port, --http; ROTA_TOKEN or --token-file has the token where \
         the server asks for one.\n\n",
    );
    for field in &FIELDS {
        notes.push_str(&format!("  {:24}  {}\n", field.example, field.says));
    }
    notes.push_str(
        "\n  rota list --where 'queue:mail* state:buried age>1h'\n  \
         rota kick --all --where 'state:buried error:\"timed out\"' --dry-run\n  \
         rota cancel --where 'kind:newsletter -state:reserved'",
    );
    notes
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let filter: Filter = text.parse().map_err(|error: FilterError| format!("{error}: {}", error.hint()))?;
    if filter.is_empty() {
        return Err(String::from("it is empty: id>0 are all jobs"));
    }
    Ok(filter)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        every if every < Duration::from_millis(100) => Err("the server has other things to do: at least 100ms".into()),
        every => Ok(every),
    }
}

/// Reads a job that another waits for: its id, or its queue and its key.
fn parse_parent(text: &str) -> Result<Parent, String> {
    match text.split_once(':') {
        Some((queue, key)) => {
            let queue: QueueName = queue.parse().map_err(|error| format!("the queue {queue:?}: {error}"))?;
            match key.is_empty() {
                true => Err(format!("{text:?} has no key behind the colon")),
                false => Ok(Parent::key(queue.as_str(), key)),
            }
        }
        None => {
            let id = text.parse().map_err(|_| format!("{text:?} names no job: write its id, or QUEUE:KEY"))?;
            Ok(Parent::Id(id))
        }
    }
}

fn parse_idempotency_key(text: &str) -> Result<String, String> {
    match (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(String::from("it is no such name: 1 to 200 visible ASCII characters")),
    }
}

fn parse_ttr(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a worker needs some time: at least 1ms".into()),
        ttr => Ok(ttr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_and_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
