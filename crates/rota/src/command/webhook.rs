//! `rota webhook`: sets up, lists and shows webhooks, and does the rest that there is to do with them, over HTTP.

use std::process::ExitCode;

use rota_client::http::Method;
use serde_json::{Map, Value, json};

use super::http::{self, Asker};
use super::text::{lines_of, parts_of, table, text_of, written};
use crate::cli::Global;
use crate::cli::webhook::{WebhookArgs, WebhookCommand, WebhookListArgs, WebhookRotateArgs, WebhookSetArgs};
use crate::report::{self, Failure};
use crate::values::format_duration;
use rota_client::QueueName;

pub(crate) fn run(global: &Global, command: WebhookCommand) -> anyhow::Result<ExitCode> {
    match command {
        WebhookCommand::Set(args) => set(global, &args)?,
        WebhookCommand::List(args) => list(global, &args)?,
        WebhookCommand::Show(args) => {
            tell(global, &args, (Method::Get, ""), "it is not shown", |webhook| lines_of(&shown(webhook)))?;
        }
        WebhookCommand::Delete(args) => {
            tell(global, &args, (Method::Delete, ""), "it is not deleted", |_| format!("deleted {}", args.name))?;
        }
        WebhookCommand::Pause(args) => {
            tell(global, &args, (Method::Post, "/pause"), "it is not paused", |_| format!("paused {}", args.name))?;
        }
        WebhookCommand::Resume(args) => {
            let shown = |webhook: &_| format!("resumed {}: after event {}", args.name, text_of(webhook, "seq"));
            tell(global, &args, (Method::Post, "/resume"), "it is not resumed", shown)?;
        }
        WebhookCommand::Test(args) => test(global, &args)?,
        WebhookCommand::Rotate(args) => rotate(global, &args)?,
        WebhookCommand::DropOldSecret(args) => {
            let shown = |_: &_| format!("{} signs with its newest secret alone", args.name);
            tell(global, &args, (Method::Delete, "/old-secret"), "it signs as before", shown)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn set(global: &Global, args: &WebhookSetArgs) -> anyhow::Result<()> {
    let mut object = json!({ "url": args.url });
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[field] = value;
        }
    };
    put("events", args.events.clone().map(Value::from));
    put("queues", args.queues.clone().map(Value::from));
    put("secret", args.secret_file.as_deref().map(http::secret_in).transpose()?.map(Value::from));
    put("paused", args.paused.then_some(Value::Bool(true)));
    put("after", args.after.map(|after| after.to_string().into()));
    let asker = Asker::new(global, &args.server)?;
    let webhook = asker.ask(Method::Put, &path(&args.name, ""), Some(&object), "it is not set up")?;
    let shown = || {
        let (state, seq, secret) = (state(&webhook), text_of(&webhook, "seq"), secret_line(&webhook));
        format!("{}: {state} after event {seq}{secret}", args.name)
    };
    report::line(global.json, shown, Value::Object(webhook.clone()))
}

fn list(global: &Global, args: &WebhookListArgs) -> anyhow::Result<()> {
    let asker = Asker::new(global, &args.server)?;
    let answer = asker.get("/v1/webhooks", "no webhooks")?;
    let mut rows = Vec::new();
    for webhook in answer.get("webhooks").and_then(Value::as_array).into_iter().flatten() {
        match webhook {
            webhook if global.json => report::line(true, String::new, webhook.clone())?,
            Value::Object(webhook) => rows.push(row(webhook)),
            _ => {}
        }
    }
    if !rows.is_empty() {
        let head = ["WEBHOOK", "URL", "EVENTS", "STATE", "SEQ", "LAG", "DELIVERED", "FAILURES"];
        report::line(false, || table(&head, &rows), Value::Null)?;
    }
    Ok(())
}

fn test(global: &Global, args: &WebhookArgs) -> anyhow::Result<()> {
    let asker = Asker::new(global, &args.server)?;
    let tried = asker.ask(Method::Post, &path(&args.name, "/test"), None, "it was not called")?;
    if tried.get("delivered") != Some(&Value::Bool(true)) {
        let call = tried.get("call").and_then(Value::as_object);
        let why = call.map_or("?", |call| text_of(call, "error"));
        let failure = Failure::at_run_time(format!("{} did not take it: {why}", args.name));
        let hint = match call.map(|call| text_of(call, "outcome")) {
            Some("forbidden") => "start the server with --webhook-allow and that address, its network or its host",
            _ => "see to what is called; `rota webhook show` has the address",
        };
        return Err(failure.hint(hint).into());
    }
    let shown = || format!("{} took it in {}", args.name, text_of(&tried, "took"));
    report::line(global.json, shown, Value::Object(tried.clone()))
}

fn rotate(global: &Global, args: &WebhookRotateArgs) -> anyhow::Result<()> {
    let mut object = json!({});
    if let Some(file) = &args.secret_file {
        object["secret"] = http::secret_in(file)?.into();
    }
    if let Some(keep) = args.keep {
        object["keep"] = format_duration(keep).into();
    }
    let asker = Asker::new(global, &args.server)?;
    let webhook = asker.post(&path(&args.name, "/rotate"), &object, "it signs as before")?;
    let shown = || {
        let old = webhook.get("old_secret").and_then(Value::as_object);
        let how_long = match old.map(|old| old.get("until").and_then(Value::as_str)) {
            None => String::from("signs with its new secret alone"),
            Some(None) => format!("signs with both secrets until `rota webhook drop-old-secret {}`", args.name),
            Some(Some(until)) => format!("signs with both secrets until {until}"),
        };
        format!("{} {how_long}{}", args.name, secret_line(&webhook))
    };
    report::line(global.json, shown, Value::Object(webhook.clone()))
}

/// The secret in a line of its own, if the server made one.
fn secret_line(webhook: &Map<String, Value>) -> String {
    let secret = webhook.get("secret").and_then(Value::as_str);
    secret.map(|secret| format!("\nsecret {secret}")).unwrap_or_default()
}

fn row(webhook: &Map<String, Value>) -> Vec<String> {
    vec![
        text_of(webhook, "name").to_owned(),
        text_of(webhook, "url").to_owned(),
        words(webhook.get("events")),
        state(webhook).to_owned(),
        text_of(webhook, "seq").to_owned(),
        text_of(webhook, "lag").to_owned(),
        written(webhook, "delivered"),
        written(webhook, "failures"),
    ]
}

/// A webhook as lines.
fn shown(webhook: &Map<String, Value>) -> Map<String, Value> {
    let line = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Array(_) => words(Some(value)).into(),
            Value::Object(parts) => parts_of(parts).into(),
            other => other.clone(),
        };
        (name.clone(), value)
    };
    webhook.iter().map(line).collect()
}

fn words(list: Option<&Value>) -> String {
    let words = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(",")
}

/// What it does: `paused`, `gone` where it paused itself, `forbidden` where the server may not call it, `failing` where the last call
/// failed, or `on`.
fn state(webhook: &Map<String, Value>) -> &'static str {
    let failures = webhook.get("failures").and_then(Value::as_u64).unwrap_or_default();
    let last = webhook.get("last").and_then(Value::as_object).map(|last| text_of(last, "outcome"));
    match (text_of(webhook, "paused_because"), failures, last) {
        ("asked", ..) => "paused",
        ("gone", ..) => "gone",
        (_, 0, _) => "on",
        (_, _, Some("forbidden")) => "forbidden",
        _ => "failing",
    }
}

fn path(name: &QueueName, rest: &str) -> String {
    format!("/v1/webhooks/{}{rest}", http::escape(name.as_str()))
}

/// Asks for a page of a webhook, and prints what it answers.
fn tell(
    global: &Global,
    args: &WebhookArgs,
    (method, rest): (Method, &str),
    not: &str,
    shown: impl FnOnce(&Map<String, Value>) -> String,
) -> anyhow::Result<()> {
    http::tell(global, &args.server, (method, path(&args.name, rest)), not, shown)
}
