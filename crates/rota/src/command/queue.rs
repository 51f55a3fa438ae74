//! `rota queue`: lists and shows queues, pauses them, and sets them up, over HTTP.

use std::process::ExitCode;
use std::time::Duration;

use rota_client::QueueName;
use rota_client::http::{Client, Method, Pause, PerKey, Queue, Settings, SyncMode as SyncAsked};
use serde_json::{Map, Value};

use super::http::{self, Asker, escape};
use super::text::{lines_of, parts_of, table, text_of};
use crate::cli::Global;
use crate::cli::queue::{QueueArgs, QueueCommand, QueueListArgs, QueuePauseArgs, QueueSetArgs, Setting, SyncMode};
use crate::report::{self, Failure};

pub(crate) fn run(global: &Global, command: &QueueCommand) -> anyhow::Result<ExitCode> {
    match command {
        QueueCommand::List(args) => list(global, args)?,
        QueueCommand::Show(args) => {
            let page = (Method::Get, path(&args.name, ""));
            http::tell(global, &args.server, page, "it is not shown", |queue| lines_of(&shown(queue)))?;
        }
        QueueCommand::Pause(args) => pause(global, args)?,
        QueueCommand::Resume(args) => resume(global, args)?,
        QueueCommand::Set(args) => set(global, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(global: &Global, args: &QueueListArgs) -> anyhow::Result<()> {
    let asker = Asker::new(global, &args.server)?;
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = asker.get(&format!("/v1/queues?limit=1000{cursor}"), "no queues")?;
        for queue in page.get("queues").and_then(Value::as_array).into_iter().flatten() {
            match queue {
                queue if global.json => report::line(true, String::new, queue.clone())?,
                Value::Object(queue) => rows.push(row(queue)),
                _ => {}
            }
        }
        let Some(next) = page.get("cursor").and_then(Value::as_str) else { break };
        cursor = format!("&cursor={}", escape(next));
    }
    rows.sort();
    if !rows.is_empty() {
        let head = ["QUEUE", "READY", "DELAYED", "RESERVED", "BURIED", "BLOCKED", "KEPT", "WAITING", "SETTINGS"];
        report::line(false, || table(&head, &rows), Value::Null)?;
    }
    Ok(())
}

fn row(queue: &Map<String, Value>) -> Vec<String> {
    let number = |value: Option<&Value>| value.map_or_else(|| String::from("?"), Value::to_string);
    let jobs = |state: &str| number(queue.get("jobs").and_then(|jobs| jobs.get(state)));
    let name = match queue.get("paused_until").and_then(Value::as_str) {
        Some(until) => format!("{} (paused until {until})", text_of(queue, "name")),
        None if queue.get("paused") == Some(&Value::Bool(true)) => format!("{} (paused)", text_of(queue, "name")),
        None => text_of(queue, "name").to_owned(),
    };
    vec![
        name,
        jobs("ready"),
        jobs("delayed"),
        jobs("reserved"),
        jobs("buried"),
        jobs("blocked"),
        number(queue.get("ended")),
        number(queue.get("waiting")),
        settings_of(queue),
    ]
}

/// What a queue is set up with, in a line: `-` where it is with nothing.
fn settings_of(queue: &Map<String, Value>) -> String {
    let mut set = Map::new();
    for (name, value) in queue.get("settings").and_then(Value::as_object).into_iter().flatten() {
        match value {
            Value::Object(parts) if name == "per_key" => {
                set.extend(parts.iter().map(|(name, value)| (format!("key_{name}"), rate_or(value))));
            }
            other => drop(set.insert(name.clone(), rate_or(other))),
        }
    }
    if set.is_empty() { String::from("-") } else { parts_of(&set) }
}

/// A rate as it is typed; any other value as it is.
fn rate_or(value: &Value) -> Value {
    match (value.get("count"), value.get("per").and_then(Value::as_str)) {
        (Some(count), Some(per)) => format!("{count}/{per}").into(),
        _ => value.clone(),
    }
}

/// A queue as lines.
pub(super) fn shown(queue: &Map<String, Value>) -> Map<String, Value> {
    let line = |(name, value): (&String, &Value)| match value {
        Value::Object(_) if name == "settings" => (name.clone(), settings_of(queue).into()),
        Value::Object(parts) => (name.clone(), parts_of(parts).into()),
        other => (name.clone(), other.clone()),
    };
    queue.iter().map(line).collect()
}

fn pause(global: &Global, args: &QueuePauseArgs) -> anyhow::Result<()> {
    let client = http::client(global, &args.server)?;
    let pause = match (args.span, args.until) {
        (Some(span), _) => Pause::For(span),
        (None, Some(moment)) => Pause::Until(moment),
        (None, None) => Pause::UntilResumed,
    };
    let paused = client.pause_queue(args.name.as_str(), pause);
    let queue = there(paused.map_err(|error| http::failure(&error, "it is not paused"))?, &args.name)?;
    let until = match queue.paused_until {
        Some(until) => format!(" until {until}"),
        None if queue.paused => String::from(" until it is resumed"),
        None => String::new(),
    };
    tell(global, &client, &args.name, || format!("paused {}{until}", args.name))
}

fn resume(global: &Global, args: &QueueArgs) -> anyhow::Result<()> {
    let client = http::client(global, &args.server)?;
    let resumed = client.resume_queue(args.name.as_str());
    there(resumed.map_err(|error| http::failure(&error, "it is not resumed"))?, &args.name)?;
    tell(global, &client, &args.name, || format!("resumed {}", args.name))
}

fn set(global: &Global, args: &QueueSetArgs) -> anyhow::Result<()> {
    let client = http::client(global, &args.server)?;
    let not_set = |error| http::failure(&error, "it is not set up");
    let before = client.queue(args.name.as_str()).map_err(not_set)?;
    let settings = changed(before.map(|queue| queue.settings).unwrap_or_default(), args);
    client.set_queue(args.name.as_str(), &settings).map_err(not_set)?;
    let queue = look(&client, &args.name)?;
    report::line(global.json, || format!("{}: {}", args.name, settings_of(&queue)), Value::Object(queue.clone()))
}

/// Settings as they are to be.
fn changed(mut settings: Settings, args: &QueueSetArgs) -> Settings {
    let mut per_key = settings.per_key.unwrap_or_default();
    for setting in &args.unset {
        match setting {
            Setting::Retain => settings.retain = None,
            Setting::MaxJobs => settings.max_jobs = None,
            Setting::MaxBytes => settings.max_bytes = None,
            Setting::Concurrency => settings.concurrency = None,
            Setting::Rate => settings.rate = None,
            Setting::KeyConcurrency => per_key.concurrency = None,
            Setting::KeyRate => per_key.rate = None,
            Setting::DurableLeases => settings.durable_leases = false,
            Setting::Sync => settings.sync = None,
        }
    }
    settings.retain = args.retain.or(settings.retain);
    settings.max_jobs = args.max_jobs.or(settings.max_jobs);
    settings.max_bytes = args.max_bytes.or(settings.max_bytes);
    settings.concurrency = args.concurrency.or(settings.concurrency);
    settings.rate = args.rate.or(settings.rate);
    per_key.concurrency = args.key_concurrency.or(per_key.concurrency);
    per_key.rate = args.key_rate.or(per_key.rate);
    settings.durable_leases |= args.durable_leases;
    settings.sync = args.sync.map(|SyncMode::Always| SyncAsked::Always).or(settings.sync);
    settings.per_key = Some(per_key).filter(|per_key| *per_key != PerKey::default());
    settings
}

fn there(queue: Option<Queue>, name: &QueueName) -> Result<Queue, Failure> {
    queue.ok_or_else(|| {
        let hint = "queues come with their first job; rota queue set makes one that stays";
        Failure::nothing_there(format!("there is no queue {name}")).hint(hint)
    })
}

/// Says what was done; with `--json`, shows the queue as it is now.
fn tell(global: &Global, client: &Client, name: &QueueName, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let queue = if global.json { look(client, name)? } else { Map::new() };
    report::line(global.json, text, Value::Object(queue))
}

/// A queue as the server shows it.
fn look(client: &Client, name: &QueueName) -> Result<Map<String, Value>, Failure> {
    let queue = client.request(Method::Get, &path(name, ""), None::<&Value>, Some(Duration::ZERO));
    queue.map_err(|error| http::failure(&error, "it is done, and not shown"))
}

fn path(name: &QueueName, rest: &str) -> String {
    format!("/v1/queues/{}{rest}", escape(name.as_str()))
}
