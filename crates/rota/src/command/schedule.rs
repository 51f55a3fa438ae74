//! `rota schedule`: sets up, lists and shows schedules, and does the rest that there is to do with them, over HTTP.

use std::io::Read as _;
use std::process::ExitCode;

use clap::ValueEnum as _;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::http::{self, Asker};
use super::text::{lines_of, parts_of, put_body, table, text_of, written};
use crate::cli::Global;
use crate::cli::schedule::{ScheduleArgs, ScheduleCommand, ScheduleListArgs, ScheduleSetArgs};
use crate::report::{self, Failure};
use crate::values::format_duration;
use rota_client::QueueName;

/// What is asked for at a time.
const PAGE: usize = 1000;

pub(crate) fn run(global: &Global, command: ScheduleCommand) -> anyhow::Result<ExitCode> {
    match command {
        ScheduleCommand::Set(args) => set(global, &args)?,
        ScheduleCommand::List(args) => list(global, &args)?,
        ScheduleCommand::Show(args) => {
            tell(global, &args, (Method::GET, ""), "it is not shown", |schedule| lines_of(&shown(schedule)))?;
        }
        ScheduleCommand::Delete(args) => {
            tell(global, &args, (Method::DELETE, ""), "it is not deleted", |_| format!("deleted {}", args.name))?;
        }
        ScheduleCommand::Pause(args) => {
            tell(global, &args, (Method::POST, "/pause"), "it is not paused", |_| format!("paused {}", args.name))?;
        }
        ScheduleCommand::Resume(args) => {
            let shown = |schedule: &_| format!("resumed {}: next at {}", args.name, next(schedule));
            tell(global, &args, (Method::POST, "/resume"), "it is not resumed", shown)?;
        }
        ScheduleCommand::Run(args) => {
            tell(global, &args, (Method::POST, "/run"), "nothing was put", |job| text_of(job, "id").to_owned())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn set(global: &Global, args: &ScheduleSetArgs) -> anyhow::Result<()> {
    let body = match &args.body {
        Some(body) => body.clone().into_bytes(),
        None => {
            let mut body = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut body);
            read.map_err(|error| Failure::at_run_time("cannot read the body from standard input").caused_by(error))?;
            body
        }
    };
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let mut object = json!({
        "on_missed": name(&|| args.on_missed.to_possible_value()),
        "on_overlap": name(&|| args.on_overlap.to_possible_value()),
    });
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[field] = value;
        }
    };
    put("cron", args.cron.clone().map(Value::from));
    put("zone", args.zone.clone().map(Value::from));
    put("every", args.every.map(|every| format_duration(every).into()));
    put("from", args.from.map(|from| from.to_string().into()));
    let mut read = json!({});
    put_body(&mut read, &body);
    let mut job = json!({ "queue": args.queue.as_str() });
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            job[field] = value;
        }
    };
    put("text", read.get("body").cloned());
    put("base64", read.get("body_base64").cloned());
    put("priority", args.priority.map(Value::from));
    put("ttr", args.ttr.map(|ttr| format_duration(ttr).into()));
    put("key", args.key.clone().map(Value::from));
    put("kind", args.kind.clone().map(Value::from));
    put("max_attempts", args.max_attempts.map(Value::from));
    put("expires_in", args.expires_in.map(|span| format_duration(span).into()));
    let headers: Map<String, Value> =
        args.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    put("headers", Some(headers).filter(|headers| !headers.is_empty()).map(Value::from));
    object["job"] = job;
    let path = path(&args.name, "");
    let asker = Asker::new(&args.server.http, global)?;
    let schedule = asker.ask(Method::PUT, &path, Some(&object), "it is not set up")?;
    let shown = || format!("{}: next at {}", args.name, next(&schedule));
    report::line(global.json, shown, Value::Object(schedule.clone()))
}

fn list(global: &Global, args: &ScheduleListArgs) -> anyhow::Result<()> {
    let (json, asker) = (global.json, Asker::new(&args.server.http, global)?);
    let mut path = format!("/v1/schedules?limit={PAGE}");
    let mut rows = Vec::new();
    loop {
        let page = asker.get(&path, "no schedules")?;
        let schedules = page.get("schedules").and_then(Value::as_array).cloned().unwrap_or_default();
        for schedule in schedules {
            if json {
                report::line(true, String::new, schedule)?;
            } else if let Value::Object(schedule) = schedule {
                rows.push(row(&schedule));
            }
        }
        let Some(cursor) = page.get("cursor").and_then(Value::as_str) else { break };
        path = format!("/v1/schedules?limit={PAGE}&cursor={}", http::escape(cursor));
    }
    if !rows.is_empty() {
        let head = ["SCHEDULE", "QUEUE", "TICKS", "NEXT", "LAST", "FIRED", "MISSED", "REFUSED"];
        report::line(false, || table(&head, &rows), Value::Null)?;
    }
    Ok(())
}

fn row(schedule: &Map<String, Value>) -> Vec<String> {
    let job = schedule.get("job").and_then(Value::as_object);
    let last = schedule.get("last").and_then(Value::as_object);
    vec![
        text_of(schedule, "name").to_owned(),
        job.map_or("?", |job| text_of(job, "queue")).to_owned(),
        ticks(schedule),
        next(schedule),
        last.map_or("-", |last| text_of(last, "outcome")).to_owned(),
        written(schedule, "fired"),
        written(schedule, "missed"),
        written(schedule, "refused"),
    ]
}

/// A schedule as lines: its own fields first, then those of its job.
fn shown(schedule: &Map<String, Value>) -> Map<String, Value> {
    let mut lines = Map::new();
    for (name, value) in schedule.iter().filter(|(name, _)| *name != "job") {
        let value = match value {
            Value::Array(moments) => {
                let moments: Vec<&str> = moments.iter().filter_map(Value::as_str).collect();
                Value::from(if moments.is_empty() { String::from("-") } else { moments.join(" ") })
            }
            Value::Object(parts) => parts_of(parts).into(),
            other => other.clone(),
        };
        lines.insert(name.clone(), value);
    }
    for (name, value) in schedule.get("job").and_then(Value::as_object).into_iter().flatten() {
        lines.insert(format!("job_{name}"), value.clone());
    }
    lines
}

fn ticks(schedule: &Map<String, Value>) -> String {
    match (schedule.get("cron"), schedule.get("every")) {
        (Some(Value::String(cron)), _) => format!("{cron} ({})", text_of(schedule, "zone")),
        (_, Some(Value::String(every))) => format!("every {every}"),
        _ => String::from("?"),
    }
}

/// The next tick, or why there is none.
fn next(schedule: &Map<String, Value>) -> String {
    let first = schedule.get("next").and_then(Value::as_array).and_then(|next| next.first()?.as_str());
    match first {
        Some(first) => first.to_owned(),
        None if schedule.get("paused") == Some(&Value::Bool(true)) => String::from("paused"),
        None => String::from("never"),
    }
}

fn path(name: &QueueName, rest: &str) -> String {
    format!("/v1/schedules/{}{rest}", http::escape(name.as_str()))
}

/// Asks for a page of a schedule, and prints what it answers.
fn tell(
    global: &Global,
    args: &ScheduleArgs,
    (method, rest): (Method, &str),
    not: &str,
    shown: impl FnOnce(&Map<String, Value>) -> String,
) -> anyhow::Result<()> {
    http::tell(global, &args.server, (method, path(&args.name, rest)), not, shown)
}
