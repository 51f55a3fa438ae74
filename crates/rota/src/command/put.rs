//! `rota put`: one job into a queue.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::cli::{Global, PutArgs};
use crate::report::{self, Failure};
use rota_client::{Put, When};

pub(crate) fn run(global: &Global, args: PutArgs) -> anyhow::Result<ExitCode> {
    let body = match args.body {
        Some(text) => text.into_bytes(),
        None => body_from_stdin()?,
    };
    let when = match (args.delay, args.at) {
        (_, Some(moment)) => When::At(moment.into()),
        (delay, None) => When::In(delay.unwrap_or(Duration::ZERO)),
    };
    let mut client = super::connect(global)?;
    let id = client.put(&Put {
        queue: &args.queue,
        body: &body,
        priority: args.priority,
        when,
        ttr: args.ttr,
        key: args.key.as_ref(),
        after: &args.after,
    })?;
    report::line(global.json, || id.to_string(), json!({ "id": id, "queue": args.queue.as_str() }))?;
    Ok(ExitCode::SUCCESS)
}

fn body_from_stdin() -> anyhow::Result<Vec<u8>> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        eprintln!("Type the job's body; end it with Ctrl-D.");
    }
    let mut body = Vec::new();
    let read = stdin.read_to_end(&mut body);
    read.map_err(|error| Failure::at_run_time("cannot read the job's body from standard input").caused_by(error))?;
    Ok(body)
}
