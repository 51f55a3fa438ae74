//! `rota webhook`: sets up, lists and shows webhooks, and does the rest that there is to do with them, over HTTP.

use std::process::ExitCode;
use std::time::Duration;

use rota_client::QueueName;
use rota_client::http::{
    Client, Error, NewWebhook, OldSecret, PausedBecause, Secret, Webhook, WebhookCall, WebhookOutcome,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::http;
use super::text::{lines_of, parts_of, table};
use crate::cli::Global;
use crate::cli::webhook::{WebhookArgs, WebhookCommand, WebhookListArgs, WebhookRotateArgs, WebhookSetArgs};
use crate::report::{self, Failure};

pub(crate) fn run(global: &Global, command: WebhookCommand) -> anyhow::Result<ExitCode> {
    match command {
        WebhookCommand::Set(args) => set(global, &args)?,
        WebhookCommand::List(args) => list(global, &args)?,
        WebhookCommand::Show(args) => {
            tell(global, &args, "it is not shown", Client::webhook, |webhook| lines_of(&shown(webhook)))?;
        }
        WebhookCommand::Delete(args) => {
            tell(global, &args, "it is not deleted", Client::delete_webhook, |_| format!("deleted {}", args.name))?;
        }
        WebhookCommand::Pause(args) => {
            tell(global, &args, "it is not paused", Client::pause_webhook, |_| format!("paused {}", args.name))?;
        }
        WebhookCommand::Resume(args) => {
            let shown = |webhook: &Webhook| format!("resumed {}: after event {}", args.name, webhook.seq);
            tell(global, &args, "it is not resumed", Client::resume_webhook, shown)?;
        }
        WebhookCommand::Test(args) => test(global, &args)?,
        WebhookCommand::Rotate(args) => rotate(global, &args)?,
        WebhookCommand::DropOldSecret(args) => {
            let shown = |_: &Webhook| format!("{} signs with its newest secret alone", args.name);
            tell(global, &args, "it signs as before", Client::drop_old_secret, shown)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn set(global: &Global, args: &WebhookSetArgs) -> anyhow::Result<()> {
    let mut new = NewWebhook::to(&args.url);
    if let Some(events) = &args.events {
        new = new.events(events);
    }
    if let Some(queues) = &args.queues {
        new = new.queues(queues);
    }
    if let Some(file) = &args.secret_file {
        new = new.secret(http::secret_in(file)?);
    }
    if args.paused {
        new = new.paused(true);
    }
    if let Some(after) = args.after {
        new = new.after(after);
    }
    let set = http::client(global, &args.server)?.set_webhook(args.name.as_str(), &new);
    let webhook = set.map_err(|error| http::failure(&error, "it is not set up"))?;
    let shown = || {
        let (state, seq, secret) = (state(&webhook), webhook.seq, secret_line(&webhook));
        format!("{}: {state} after event {seq}{secret}", args.name)
    };
    report::line(global.json, shown, json_of(&webhook))
}

fn list(global: &Global, args: &WebhookListArgs) -> anyhow::Result<()> {
    let webhooks = http::client(global, &args.server)?.webhooks();
    let webhooks = webhooks.map_err(|error| http::failure(&error, "no webhooks"))?;
    if global.json {
        return webhooks.iter().try_for_each(|webhook| report::line(true, String::new, json_of(webhook)));
    }
    if webhooks.is_empty() {
        return Ok(());
    }
    let head = ["WEBHOOK", "URL", "EVENTS", "STATE", "SEQ", "LAG", "DELIVERED", "FAILURES"];
    let rows: Vec<Vec<String>> = webhooks.iter().map(row).collect();
    report::line(false, || table(&head, &rows), Value::Null)
}

fn test(global: &Global, args: &WebhookArgs) -> anyhow::Result<()> {
    let tried = http::client(global, &args.server)?.test_webhook(args.name.as_str());
    let tried = there(tried, &args.name, "it was not called")?;
    if !tried.delivered {
        let WebhookCall { outcome, error, .. } = &tried.call;
        let why = error.as_deref().unwrap_or("?");
        let failure = Failure::at_run_time(format!("{} did not take it: {why}", args.name));
        let hint = match outcome {
            WebhookOutcome::Forbidden => {
                "start the server with --webhook-allow and that address, its network or its host"
            }
            _ => "see to what is called; `rota webhook show` has the address",
        };
        return Err(failure.hint(hint).into());
    }
    report::line(global.json, || format!("{} took it in {}", args.name, seconds(tried.took)), json_of(&tried))
}

fn rotate(global: &Global, args: &WebhookRotateArgs) -> anyhow::Result<()> {
    let secret = args.secret_file.as_deref().map(http::secret_in).transpose()?.map(Secret::from);
    let rotated = http::client(global, &args.server)?.rotate_webhook(args.name.as_str(), secret, args.keep);
    let webhook = there(rotated, &args.name, "it signs as before")?;
    let shown = || {
        let how_long = match webhook.old_secret {
            None => String::from("signs with its new secret alone"),
            Some(OldSecret { until: None, .. }) => {
                format!("signs with both secrets until `rota webhook drop-old-secret {}`", args.name)
            }
            Some(OldSecret { until: Some(until), .. }) => format!("signs with both secrets until {until}"),
        };
        format!("{} {how_long}{}", args.name, secret_line(&webhook))
    };
    report::line(global.json, shown, json_of(&webhook))
}

/// The secret in a line of its own, if the server made one.
fn secret_line(webhook: &Webhook) -> String {
    webhook.secret.as_ref().map(|secret| format!("\nsecret {}", secret.as_str())).unwrap_or_default()
}

fn row(webhook: &Webhook) -> Vec<String> {
    vec![
        webhook.name.clone(),
        webhook.url.clone(),
        webhook.events.join(","),
        state(webhook).to_owned(),
        webhook.seq.to_string(),
        seconds(webhook.lag),
        webhook.delivered.to_string(),
        webhook.failures.to_string(),
    ]
}

/// A webhook as lines.
fn shown(webhook: &Webhook) -> Map<String, Value> {
    let Value::Object(members) = json_of(webhook) else { return Map::new() };
    let line = |(name, value)| {
        let value = match value {
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",").into(),
            Value::Object(parts) => parts_of(&parts).into(),
            other => other,
        };
        (name, value)
    };
    members.into_iter().map(line).collect()
}

/// What it does: `paused`, `gone` where it paused itself, `forbidden` where the server may not call it, `failing` where the last call
/// failed, or `on`.
fn state(webhook: &Webhook) -> &'static str {
    let last = webhook.last.as_ref().map(|call| call.outcome);
    match (webhook.paused_because, webhook.failures, last) {
        (Some(PausedBecause::Gone), ..) => "gone",
        (Some(_), ..) => "paused",
        (None, 0, _) => "on",
        (None, _, Some(WebhookOutcome::Forbidden)) => "forbidden",
        _ => "failing",
    }
}

/// A span as the server writes it.
fn seconds(span: Duration) -> String {
    format!("{}s", span.as_secs_f64())
}

/// As the server answered it.
fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("texts and numbers make JSON")
}

/// What came of something with a webhook that has to be there; `not` says that it was not done.
fn there<T>(done: Result<Option<T>, Error>, name: &QueueName, not: &str) -> Result<T, Failure> {
    done.map_err(|error| http::failure(&error, not))?.ok_or_else(|| {
        let failure = Failure::nothing_there(format!("{not}: there is no webhook {name}"));
        failure.hint("`rota webhook list` has those that there are")
    })
}

/// Does something with a webhook, and prints it as it is then.
fn tell(
    global: &Global,
    args: &WebhookArgs,
    not: &str,
    work: impl FnOnce(&Client, &str) -> Result<Option<Webhook>, Error>,
    shown: impl FnOnce(&Webhook) -> String,
) -> anyhow::Result<()> {
    let webhook = there(work(&http::client(global, &args.server)?, args.name.as_str()), &args.name, not)?;
    report::line(global.json, || shown(&webhook), json_of(&webhook))
}
