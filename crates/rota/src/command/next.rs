//! `rota next`: takes one job, and completes it once its body is printed or a command has done it.
//!
//! A job is completed only after that: whatever goes wrong before, it is given back, or goes back by itself when its lease ends.
//! A command that fails is a failed attempt, where the server knows of such.

mod held;
mod run;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rota_client::QueueName;
use rota_client::http::{Client, Error, Reserve};
use serde_json::{Value, json};

use self::held::Held;
use super::http::{self, Way};
use super::text::put_body;
use crate::cli::{Global, NextArgs};
use crate::report::Failure;
use crate::values::format_duration;

/// The longest that one request waits; who waits longer asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub(crate) fn run(global: &Global, args: &NextArgs) -> anyhow::Result<ExitCode> {
    let only_http = match args.result {
        Some(_) => Some("a result"),
        None => (args.queues.len() > 1).then_some("a job of several queues"),
    };
    let held = match http::way(global, &args.server, only_http)? {
        Way::Http { client, or_beanstalkd } => match over_http(&client, args) {
            Err(Error::Connect { .. }) if or_beanstalkd => over_beanstalkd(global, args)?,
            held => held.map_err(|error| http::failure(&error, "no job was taken"))?,
        },
        Way::Beanstalkd => over_beanstalkd(global, args)?,
    };
    let Some(mut held) = held else {
        let waited = match args.timeout {
            Duration::ZERO => String::new(),
            wait => format!(" within {}", format_duration(wait)),
        };
        let queues: Vec<&str> = args.queues.iter().map(QueueName::as_str).collect();
        let word = if queues.len() == 1 { "queue" } else { "queues" };
        return Err(Failure::nothing_there(format!("no job is ready in {word} {}{waited}", queues.join(", "))).into());
    };
    match args.exec.split_first() {
        None => print(global.json, &mut held),
        Some((program, arguments)) => run::exec(global.json, &mut held, args.result, (program, arguments)),
    }
}

fn over_http(client: &Client, args: &NextArgs) -> Result<Option<Held>, Error> {
    let reserve: Reserve = args.queues.iter().map(QueueName::as_str).collect();
    let begun = Instant::now();
    loop {
        let left = args.timeout.saturating_sub(begun.elapsed());
        let leases = client.reserve(&reserve.clone().wait(left.min(LONGEST_WAIT)))?;
        if let Some(lease) = leases.into_iter().next() {
            return Ok(Some(Held::over_http(lease)));
        }
        if left <= LONGEST_WAIT {
            return Ok(None);
        }
    }
}

fn over_beanstalkd(global: &Global, args: &NextArgs) -> anyhow::Result<Option<Held>> {
    let [queue] = &args.queues[..] else { unreachable!("several queues go over HTTP") };
    let mut client = super::connect(global)?;
    let job = client.reserve(queue, args.timeout)?;
    job.map(|job| Held::over_beanstalkd(client, queue, job)).transpose()
}

/// Prints the body, then completes the job; gives it back if it can't be printed.
fn print(json: bool, held: &mut Held) -> anyhow::Result<ExitCode> {
    let job = &held.job;
    let printed = if json {
        let mut object = json!({ "id": job.id, "queue": job.queue });
        for (name, value) in [("key", &job.key), ("kind", &job.kind)] {
            if let Some(value) = value {
                object[name] = value.as_str().into();
            }
        }
        if !job.headers.is_empty() {
            object["headers"] =
                job.headers.iter().map(|(name, value)| (name.clone(), Value::from(&value[..]))).collect();
        }
        put_body(&mut object, &job.body);
        io::stdout().lock().write_all(format!("{object}\n").as_bytes())
    } else {
        // A pipe gets the body's bytes and not one more; a person gets a prompt on a line of its own.
        let end: &[u8] = if io::stdout().is_terminal() && !job.body.ends_with(b"\n") { b"\n" } else { b"" };
        io::stdout().lock().write_all(&[&job.body, end].concat())
    };
    if let Err(error) = printed.and_then(|()| io::stdout().flush()) {
        held.give_back()?;
        let message = format!("cannot print job {}: it was given back", held.job.id);
        return Err(Failure::at_run_time(message).caused_by(error).into());
    }
    held.complete(None)?;
    Ok(ExitCode::SUCCESS)
}
