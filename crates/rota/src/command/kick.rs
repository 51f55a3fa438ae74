//! `rota kick`: buried or delayed jobs become ready.

use std::process::ExitCode;

use rota_client::http::Client;
use serde_json::json;

use super::many::{self, Verb, Which};
use crate::cli::{Global, KickArgs};
use crate::report::{self, Failure};

const KICK: Verb = Verb { ask: Client::kick_many, done: "kicked" };

pub(crate) fn run(global: &Global, args: KickArgs) -> anyhow::Result<ExitCode> {
    if let Some(filter) = &args.filter {
        if !args.all && args.count.is_none() {
            let failure = Failure::wrong_usage("--where does not say how many jobs to kick");
            return Err(failure.hint("add --all, or --count N; --dry-run only counts them").into());
        }
        let which = Which { filter, dry_run: args.dry_run, limit: args.count };
        return many::run(global, &args.server, &KICK, &which);
    }
    let mut client = super::connect(global)?;
    if let Some(id) = args.job {
        if !client.kick_job(id)? {
            return Err(Failure::nothing_there(format!("there is no buried or delayed job {id}")).into());
        }
        report::line(global.json, || format!("kicked {id}"), json!({ "id": id, "kicked": 1 }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let queue = args.queue.expect("clap requires a queue where there is no --job");
    let kicked = client.kick(&queue, args.count.unwrap_or(1))?;
    let text = || format!("kicked {kicked} {}", if kicked == 1 { "job" } else { "jobs" });
    if global.json || kicked > 0 {
        report::line(global.json, text, json!({ "queue": queue.as_str(), "kicked": kicked }))?;
    }
    match kicked {
        0 => Err(Failure::nothing_there(format!("no job is buried or delayed in queue {queue}")).into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
