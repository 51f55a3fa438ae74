//! `rota cancel`: jobs by id, one by its key, or those of a filter.

use std::process::ExitCode;

use rota_client::http::{Client, Error};
use rota_client::{Key, QueueName};
use serde_json::json;

use super::http;
use super::many::{self, Verb, Which};
use crate::cli::{CancelArgs, Global};
use crate::report::{self, Failure};

const CANCEL: Verb = Verb { ask: Client::cancel_many, done: "cancelled" };

pub(crate) fn run(global: &Global, args: CancelArgs) -> anyhow::Result<ExitCode> {
    if let Some(filter) = &args.filter {
        let which = Which { filter, dry_run: args.dry_run, limit: args.limit };
        return many::run(global, &args.server, &CANCEL, &which);
    }
    let mut port = match http::if_said(global, &args.server)? {
        Some(client) => Port::Http(client),
        None => Port::Beanstalkd(super::connect(global)?),
    };
    if let (Some(queue), Some(key)) = (&args.queue, &args.key) {
        let Some(id) = port.cancel_key(queue, key)? else {
            return Err(Failure::nothing_there(format!("no open job of queue {queue} has the key {key}")).into());
        };
        let object = json!({ "id": id, "queue": queue.as_str(), "key": key.to_string(), "outcome": "cancelled" });
        report::line(global.json, || format!("cancelled {id}"), object)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut missing = Vec::new();
    for id in args.ids {
        let outcome = if port.cancel(id)? { "cancelled" } else { "not_found" };
        if outcome == "not_found" {
            missing.push(id.to_string());
        }
        if global.json || outcome == "cancelled" {
            let object = json!({ "id": id, "outcome": outcome });
            report::line(global.json, || format!("cancelled {id}"), object)?;
        }
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::nothing_there(format!("there is no open job {}", missing.join(", ")));
    Err(match port.cancels_held_jobs()? {
        true => failure.into(),
        false => failure.hint("this server can't cancel a job that a worker holds").into(),
    })
}

/// How the server is reached.
enum Port {
    Http(Client),
    Beanstalkd(rota_client::Client),
}

impl Port {
    fn cancel(&mut self, id: u64) -> anyhow::Result<bool> {
        Ok(match self {
            Port::Http(client) => client.cancel(id).map_err(not_cancelled)?,
            Port::Beanstalkd(client) => client.cancel(id)?,
        })
    }

    fn cancel_key(&mut self, queue: &QueueName, key: &Key) -> anyhow::Result<Option<u64>> {
        Ok(match self {
            Port::Http(client) => client.cancel_key(queue.as_str(), &key.to_string()).map_err(not_cancelled)?,
            Port::Beanstalkd(client) => client.cancel_key(queue, key)?,
        })
    }

    fn cancels_held_jobs(&mut self) -> anyhow::Result<bool> {
        Ok(match self {
            Port::Http(_) => true,
            Port::Beanstalkd(client) => client.has_extensions()?,
        })
    }
}

fn not_cancelled(error: Error) -> Failure {
    http::failure(&error, "it is not cancelled")
}
