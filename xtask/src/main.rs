//! The project's own tool: `cargo xtask setup | test | ci | bench | counts | tidy | docs`.
//!
//! This file reads the command line and hands over; each command has a file of its own. The tool runs `cargo`, Debian's
//! and the languages' own installers, and the servers it measures. It is no part of what users get, and nothing in
//! `crates/` may depend on it.

mod ci;
mod setup;
mod test;
mod tidy;

mod bench;
mod counts;
mod docs;

mod process;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask COMMAND

  setup                install what the tests need: Debian packages, Python, Node and Go clients
        [--peers]      the other servers that `bench peers` measures, instead
  test [CARGO ARGS]    setup, then every test; with arguments only the tests they select, for example `-p rota-engine`
  ci                   format, lints, documentation, tidy, counts and tests: what has to pass before a change lands
  bench [BENCH]        measure Rota beside beanstalkd and write a part of docs/benchmarks.md:
        all            the five that follow (default)
        throughput     jobs per second, their cost and latency; first: only some rows of it
        latency        put to waiting consumer, lateness of delayed jobs, cancelling
        scale          what an operation costs beside many jobs, and among many queues
        batches        many jobs in one command, beside one by one and pipelined
        peers          other servers beside Rota, with the nearest equal guarantees
        memory         what a waiting job costs, and what is given back
        recovery       how long a start takes that has a log to read
        stalls         how long others wait while a server is filled
        far            jobs far ahead: rates, memory, start
        build          what dependencies cost: seconds of a build, code in the program
        [--rounds N]   samples of each contender, 1 to 50 (default 3 or 5)
        [--large]      also with ten million jobs
        [--quick]      short samples, to see that it works; its page goes to target/bench
  counts               instructions per job, beside those of docs/instructions.md
        [--accept]     writes that page anew
  tidy                 the rules this repository keeps: layout, map, dependencies, licences, links
  docs                 the API documentation, where a warning is an error";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    match command.as_str() {
        "setup" => {
            setup::asked_for(rest)?;
        }
        "test" => return test::run(rest),
        "ci" => {
            no_arguments(command, rest)?;
            return ci::run();
        }
        "bench" => bench::run(&bench::Options::parse(rest)?)?,
        "counts" => counts::asked_for(rest)?,
        "tidy" => {
            no_arguments(command, rest)?;
            tidy::run()?;
        }
        "docs" => {
            no_arguments(command, rest)?;
            docs::run()?;
        }
        // Not in the usage text: `bench` starts it as a process of its own.
        "answer-only" => bench::answer_only(rest)?,
        "help" | "-h" | "--help" => println!("{USAGE}"),
        _ => bail!("no command '{command}'\n\n{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn no_arguments(command: &str, rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => bail!("`cargo xtask {command}` takes no arguments, but got '{extra}'"),
    }
}
