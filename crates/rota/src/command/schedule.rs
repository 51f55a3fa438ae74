//! `rota schedule`: sets up, lists and shows schedules, and does the rest that there is to do with them, over HTTP.

use std::io::Read as _;
use std::process::ExitCode;

use rota_client::QueueName;
use rota_client::http::{self as http_api, Method, NewJob, NewSchedule, Ticks};
use serde_json::{Map, Value};

use super::http::{self, Asker};
use super::text::{lines_of, parts_of, table, text_of, written};
use crate::cli::Global;
use crate::cli::schedule::{OnMissed, OnOverlap, ScheduleArgs, ScheduleCommand, ScheduleListArgs, ScheduleSetArgs};
use crate::report::{self, Failure};

/// What is asked for at a time.
const PAGE: usize = 1000;

pub(crate) fn run(global: &Global, command: ScheduleCommand) -> anyhow::Result<ExitCode> {
    match command {
        ScheduleCommand::Set(args) => set(global, &args)?,
        ScheduleCommand::List(args) => list(global, &args)?,
        ScheduleCommand::Show(args) => {
            tell(global, &args, (Method::Get, ""), "it is not shown", |schedule| lines_of(&shown(schedule)))?;
        }
        ScheduleCommand::Delete(args) => {
            tell(global, &args, (Method::Delete, ""), "it is not deleted", |_| format!("deleted {}", args.name))?;
        }
        ScheduleCommand::Pause(args) => {
            tell(global, &args, (Method::Post, "/pause"), "it is not paused", |_| format!("paused {}", args.name))?;
        }
        ScheduleCommand::Resume(args) => {
            let shown = |schedule: &_| format!("resumed {}: next at {}", args.name, next(schedule));
            tell(global, &args, (Method::Post, "/resume"), "it is not resumed", shown)?;
        }
        ScheduleCommand::Run(args) => {
            tell(global, &args, (Method::Post, "/run"), "nothing was put", |job| text_of(job, "id").to_owned())?;
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
    let mut job = args.agreed.on(NewJob::bytes(args.queue.as_str(), body));
    if let Some(priority) = args.priority {
        job = job.priority(priority);
    }
    if let Some(ttr) = args.ttr {
        job = job.ttr(ttr);
    }
    if let Some(key) = &args.key {
        job = job.key(key);
    }
    let ticks = match (&args.cron, args.every) {
        (Some(cron), _) => Ticks::Cron { cron: cron.clone(), zone: args.zone.clone() },
        (None, every) => {
            let every = every.expect("clap requires --every where there is no --cron");
            Ticks::Every { every, from: args.from }
        }
    };
    let new = NewSchedule::at(ticks, job)
        .on_missed(match args.on_missed {
            OnMissed::Skip => http_api::OnMissed::Skip,
            OnMissed::Once => http_api::OnMissed::Once,
            OnMissed::All => http_api::OnMissed::All,
        })
        .on_overlap(match args.on_overlap {
            OnOverlap::Allow => http_api::OnOverlap::Allow,
            OnOverlap::Skip => http_api::OnOverlap::Skip,
        });
    let new = serde_json::to_value(new)?;
    let path = path(&args.name, "");
    let asker = Asker::new(global, &args.server)?;
    let schedule = asker.ask(Method::Put, &path, Some(&new), "it is not set up")?;
    let shown = || format!("{}: next at {}", args.name, next(&schedule));
    report::line(global.json, shown, Value::Object(schedule.clone()))
}

fn list(global: &Global, args: &ScheduleListArgs) -> anyhow::Result<()> {
    let (json, asker) = (global.json, Asker::new(global, &args.server)?);
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
