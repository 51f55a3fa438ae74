//! Drives a server with `rota bench --json` and reads what it measured.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Programs;
use super::plan::{BODY_BYTES, Row};
use super::server::Server;

/// No sample is meant to take more than a few seconds: one that takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the load generator saw.
#[derive(Debug, PartialEq)]
pub(super) struct Run {
    /// Jobs that went through all of the row's work.
    pub(super) jobs: u64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Puts so many jobs through the server in the row's shape.
///
/// # Errors
///
/// The load generator fails, hangs or reports something else than asked for.
pub(super) fn run(programs: &Programs, server: &Server, row: &Row, jobs: u64) -> Result<Run> {
    let [jobs_text, connections, depth] =
        [jobs.to_string(), row.shape.connections.to_string(), row.shape.depth.to_string()];
    let arguments = ["--mix", row.work.mix(), "--jobs", &jobs_text, "--connections", &connections, "--depth", &depth];
    let round = round(programs, server, &arguments)?;
    let run = read(&round, row.work.verb())
        .with_context(|| format!("`rota bench --json` reported something else than agreed:\n{round}"))?;
    if run.jobs < jobs {
        bail!("{jobs} jobs were asked for and {} went through", run.jobs);
    }
    Ok(run)
}

/// Runs `rota bench` with these arguments and gives the only round of its report.
///
/// # Errors
///
/// The load generator fails, hangs or reports something else than agreed.
pub(super) fn round(programs: &Programs, server: &Server, arguments: &[&str]) -> Result<Value> {
    let results = server.directory().join("results");
    let messages = server.directory().join("messages");
    let mut command = Command::new(&programs.rota);
    let url = format!("beanstalkd://{}", server.address);
    command
        .args(["bench", "--json", "--server", &url, "--size", &BODY_BYTES.to_string()])
        .args(arguments)
        // The server is thrown away: deleting its jobs would only add to its CPU time.
        .arg("--keep")
        .stdin(Stdio::null())
        .stdout(File::create(&results).context("cannot make a file for the results")?)
        .stderr(File::create(&messages).context("cannot make a file for the messages")?);
    let mut child = command.spawn().context("cannot start `rota bench`")?;
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for `rota bench`")? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().context("cannot kill `rota bench`")?;
            child.wait().context("cannot wait for `rota bench`")?;
            bail!("`rota bench` was still running after {DEADLINE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    if !status.success() {
        bail!("`rota bench` failed: {status}\n{}", std::fs::read_to_string(&messages).unwrap_or_default());
    }
    let text = std::fs::read_to_string(&results).context("cannot read what `rota bench` reports")?;
    let report: Value = serde_json::from_str(&text)
        .with_context(|| format!("`rota bench --json` reported something else than JSON:\n{text}"))?;
    Ok(report["rounds"][0].clone())
}

/// What a round came to; the latencies are those of the given command.
fn read(round: &Value, verb: &str) -> Option<Run> {
    let latency = &round["verbs"][verb];
    Some(Run {
        jobs: round["operations"].as_u64()?,
        seconds: round["elapsed_s"].as_f64().filter(|seconds| *seconds > 0.0)?,
        p50_us: latency["p50_us"].as_f64()?,
        p99_us: latency["p99_us"].as_f64()?,
    })
}
