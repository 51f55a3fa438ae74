//! `rota put`: one job into a queue.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use rota_client::http::{self as http_api, Client, Error, NewJob, Parent, ProblemKind};
use rota_client::{ClientError, Put, When};
use serde_json::json;

use super::http::{self, Way};
use crate::cli::{Global, OnConflict, OnParentFailure, PutArgs};
use crate::report::{self, Failure};

pub(crate) fn run(global: &Global, args: PutArgs) -> anyhow::Result<ExitCode> {
    // Before a body is read that can't be put.
    let way = http::way(global, &args.server, only_http(&args))?;
    let body = match &args.body {
        Some(text) => text.clone().into_bytes(),
        None => body_from_stdin()?,
    };
    let (id, outcome) = match way {
        Way::Http { client, or_beanstalkd } => match over_http(&client, &args, &body) {
            Err(Error::Connect { .. }) if or_beanstalkd => (over_beanstalkd(global, &args, &body)?, None),
            put => told(put, &args)?,
        },
        Way::Beanstalkd => (over_beanstalkd(global, &args, &body)?, None),
    };
    let mut object = json!({ "id": id, "queue": args.queue.as_str() });
    if let Some(outcome) = outcome {
        object["outcome"] = outcome.into();
    }
    report::line(global.json, || id.to_string(), object)?;
    Ok(ExitCode::SUCCESS)
}

/// The first option that only HTTP has.
fn only_http(args: &PutArgs) -> Option<&'static str> {
    let is_by_key = |parent: &Parent| matches!(parent, Parent::Key { .. });
    let given = [
        (args.after.iter().any(is_by_key), "--after with a key"),
        (!args.after.is_empty() && args.at.is_some(), "--after with --at"),
        (args.on_parent_failure.is_some(), "--on-parent-failure"),
        (args.on_conflict.is_some(), "--on-conflict"),
        (args.expires_at.is_some(), "--expires-at"),
        (args.idempotency_key.is_some(), "--idempotency-key"),
    ];
    args.agreed.given().or_else(|| given.iter().find(|(is_given, _)| *is_given).map(|(_, flag)| *flag))
}

fn over_http(client: &Client, args: &PutArgs, body: &[u8]) -> Result<http_api::Put, Error> {
    let mut job = args.agreed.on(NewJob::bytes(args.queue.as_str(), body));
    job = job.priority(args.priority).ttr(args.ttr).after(args.after.iter().cloned());
    if let Some(delay) = args.delay {
        job = job.delay(delay);
    }
    if let Some(moment) = args.at {
        job = job.run_at(moment);
    }
    if let Some(key) = &args.key {
        job = job.key(key.to_string());
    }
    if let Some(moment) = args.expires_at {
        job = job.expires_at(moment);
    }
    if let Some(what) = args.on_conflict {
        job = job.on_conflict(match what {
            OnConflict::Reject => http_api::OnConflict::Reject,
            OnConflict::Keep => http_api::OnConflict::Keep,
            OnConflict::Replace => http_api::OnConflict::Replace,
        });
    }
    if let Some(what) = args.on_parent_failure {
        job = job.on_parent_failure(match what {
            OnParentFailure::Cancel => http_api::OnParentFailure::Cancel,
            OnParentFailure::Run => http_api::OnParentFailure::Run,
            OnParentFailure::Hold => http_api::OnParentFailure::Hold,
        });
    }
    client.put(&job, args.idempotency_key.as_deref())
}

/// The job's id, and what is to be said of it beside that.
fn told(put: Result<http_api::Put, Error>, args: &PutArgs) -> anyhow::Result<(u64, Option<&'static str>)> {
    let put = match put {
        Ok(put) => put,
        Err(error) => {
            let holder = error.problem().filter(|problem| problem.kind == ProblemKind::KeyTaken);
            return Err(match (holder.and_then(|problem| problem.job), &args.key) {
                // As over the other protocol.
                (Some(id), Some(key)) => {
                    ClientError::KeyTaken { queue: args.queue.clone(), key: key.clone(), id }.into()
                }
                _ => http::failure(&error, "nothing was put").into(),
            });
        }
    };
    let outcome = match (put.is_replayed, put.is_new, args.on_conflict) {
        (true, ..) => Some("replayed"),
        (false, true, _) => None,
        (false, false, Some(OnConflict::Replace)) => Some("replaced"),
        (false, false, _) => Some("kept"),
    };
    Ok((put.id, outcome))
}

fn over_beanstalkd(global: &Global, args: &PutArgs, body: &[u8]) -> anyhow::Result<u64> {
    let when = match (args.delay, args.at) {
        (_, Some(moment)) => When::At(moment.into()),
        (delay, None) => When::In(delay.unwrap_or(Duration::ZERO)),
    };
    let id = |parent: &Parent| match parent {
        Parent::Id(id) => Some(*id),
        // Those go over HTTP.
        Parent::Key { .. } => None,
    };
    let after: Vec<u64> = args.after.iter().filter_map(id).collect();
    let mut client = super::connect(global)?;
    Ok(client.put(&Put {
        queue: &args.queue,
        body,
        priority: args.priority,
        when,
        ttr: args.ttr,
        key: args.key.as_ref(),
        after: &after,
    })?)
}

fn body_from_stdin() -> anyhow::Result<Vec<u8>> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        rota_net::note!("Type the job's body; end it with Ctrl-D.");
    }
    let mut body = Vec::new();
    let read = stdin.read_to_end(&mut body);
    read.map_err(|error| Failure::at_run_time("cannot read the job's body from standard input").caused_by(error))?;
    Ok(body)
}
