//! `cargo xtask test`: what the tests need, then all of them, then one line with their number.
//!
//! `ci` runs the same through [`all`]. Cargo runs the tests; this file reads along to count and to time them, and never
//! decides what is run: a test that is ignored, or a test binary that dies without a result, is a failure.

mod count;

use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

pub(crate) use count::Outcome;
use count::Reader;

use crate::process::{self, Times};
use crate::setup;

/// Runs setup and the tests; `selection` are further arguments for `cargo test`, none for the whole workspace.
///
/// # Errors
///
/// What the tests need is missing, or cargo cannot be started.
pub(crate) fn run(selection: &[String]) -> Result<ExitCode> {
    let mut times = Times::default();
    times.part("setup", setup::run)?;
    let outcome = if selection.is_empty() { everything(&mut times)? } else { all(&mut times, selection)? };
    times.print();
    outcome.print();
    Ok(if outcome.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests of what the default build leaves out: all that is built for them is the binary and its tests once more, since
/// the same crates are selected as before.
const TRACES: [&str; 7] = ["--workspace", "--features", "rota/otel", "--test", "it", "--", "otel::"];

/// All the tests, then those of what the default build leaves out.
///
/// # Errors
///
/// Cargo cannot be started.
pub(crate) fn everything(times: &mut Times) -> Result<Outcome> {
    let outcome = all(times, &[])?;
    Ok(outcome.and(all(times, &TRACES.map(String::from))?))
}

/// Builds the tests and runs them, without setup.
///
/// # Errors
///
/// Cargo cannot be started. A test that fails is no error here: it is in the [`Outcome`].
pub(crate) fn all(times: &mut Times, selection: &[String]) -> Result<Outcome> {
    let selected: Vec<&str> = if selection.is_empty() {
        vec!["--workspace", "--no-fail-fast"]
    } else {
        selection.iter().map(String::as_str).collect()
    };
    let options: Vec<&str> = selected.iter().copied().take_while(|word| *word != "--").collect();
    let built = times.part("build the tests", || {
        process::run(process::cargo().args(["test", "--locked", "--no-run"]).args(&options))
    });
    if let Err(error) = built {
        println!("error: {error:#}");
        return Ok(Outcome::not_built());
    }

    println!("\n== tests");
    // One pipe for both streams: cargo names the binary on one and the binary reports on the other, and the order of
    // the two is what tells whose result it is.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut command = process::cargo();
    command.args(["test", "--locked"]).args(&selected);
    command.stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer);
    let mut child = command.spawn().context("cannot start `cargo test`")?;
    // The command holds the pipe's writing ends, and only their closing ends the reading below.
    drop(command);

    let mut results = Reader::default();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    let mut start = Instant::now();
    let mut out = std::io::stdout().lock();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).context("cannot read what `cargo test` writes")? == 0 {
            break;
        }
        out.write_all(&line).context("cannot write to standard output")?;
        if let Some(finished) = results.line(String::from_utf8_lossy(&line).trim_end()) {
            times.note(&finished, start.elapsed());
            start = Instant::now();
        }
    }
    let status = child.wait().context("cannot wait for `cargo test`")?;
    Ok(results.finish(status.success()))
}
