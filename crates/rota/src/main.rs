//! The `rota` binary: reads the command line, does one command, reports, and leaves with a documented exit code.
//!
//! A reading order: `cli` is what can be typed, `config` what `serve` can be told, `serve` runs the server,
//! `command` holds the commands that speak to one through `rota-client`, `snapshot` takes and reads snapshots, `tokens` says
//! who may do what, `bench` is the load generator.

mod bench;
mod cli;
mod command;
mod config;
mod files;
mod report;
mod serve;
mod snapshot;
mod telemetry;
mod tls;
mod tokens;
mod traces;
mod values;
mod webhooks;

use std::process::ExitCode;

use cli::{Cli, Verb};
use config::ServeConfig;

/// Gives memory back when jobs go, and is quick with many small ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::read();
    let json = cli.global.json;
    match run(cli) {
        Ok(code) => code,
        Err(error) => report::failure(&error, json),
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.verb {
        Verb::Serve(flags) => {
            let environment = |name: &str| std::env::var(name).ok();
            let config = ServeConfig::resolve(&flags.given, flags.config.as_deref(), &environment)?;
            serve::run(config)
        }
        Verb::Put(args) => command::put::run(&cli.global, *args),
        Verb::Next(args) => command::next::run(&cli.global, &args),
        Verb::Cancel(args) => command::cancel::run(&cli.global, args),
        Verb::Show(args) => command::show::run(&cli.global, &args),
        Verb::Why(args) => command::why::run(&cli.global, &args),
        Verb::List(args) => command::list::run(&cli.global, args),
        Verb::Kick(args) => command::kick::run(&cli.global, args),
        Verb::Stats(args) => command::stats::run(&cli.global, args),
        Verb::Top(args) => command::top::run(&cli.global, &args),
        Verb::Queue(queue) => command::queue::run(&cli.global, &queue),
        Verb::Schedule(schedule) => command::schedule::run(&cli.global, schedule),
        Verb::Webhook(webhook) => command::webhook::run(&cli.global, webhook),
        Verb::Events(args) => command::events::run(&cli.global, &args),
        Verb::Snapshot(args) => command::snapshot::run(&cli.global, &args),
        Verb::Inspect(args) => command::inspect::run(&cli.global, &args),
        Verb::Token(token) => command::token::run(&cli.global, token),
        Verb::Log(log) => command::log::run(&cli.global, log),
        Verb::Bench(args) => bench::run(&cli.global, args),
        Verb::Completions(args) => command::completions::run(args),
    }
}
