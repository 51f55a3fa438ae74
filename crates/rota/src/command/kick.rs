//! `rota kick`: buried or delayed jobs become ready.

use std::process::ExitCode;

use rota_client::http::{Client, Error, ProblemKind};
use serde_json::json;

use super::http;
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
    let over_http = http::if_said(global, &args.server)?;
    if let Some(id) = args.job {
        let is_kicked = match &over_http {
            Some(client) => kick_over_http(client, id)?,
            None => super::connect(global)?.kick_job(id)?,
        };
        if !is_kicked {
            return Err(Failure::nothing_there(format!("there is no buried or delayed job {id}")).into());
        }
        report::line(global.json, || format!("kicked {id}"), json!({ "id": id, "kicked": 1 }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let queue = args.queue.expect("clap requires a queue where there is no --job");
    let most = args.count.unwrap_or(1);
    let kicked = match &over_http {
        Some(client) => {
            client.kick_queue(queue.as_str(), Some(most), None).map_err(not_kicked)?.map_or(0, |did| did.kicked)
        }
        None => super::connect(global)?.kick(&queue, most)?,
    };
    let text = || format!("kicked {kicked} {}", if kicked == 1 { "job" } else { "jobs" });
    if global.json || kicked > 0 {
        report::line(global.json, text, json!({ "queue": queue.as_str(), "kicked": kicked }))?;
    }
    match kicked {
        0 => Err(Failure::nothing_there(format!("no job is buried or delayed in queue {queue}")).into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Kicks a job; false where there is none that can be.
fn kick_over_http(client: &Client, id: u64) -> Result<bool, Failure> {
    match client.kick(id) {
        Err(error) if error.is(ProblemKind::WrongState) => Ok(false),
        kicked => kicked.map(|job| job.is_some()).map_err(not_kicked),
    }
}

fn not_kicked(error: Error) -> Failure {
    http::failure(&error, "nothing is kicked")
}
