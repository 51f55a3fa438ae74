//! `rota list`: queues with their jobs by state, or the jobs of a filter.

use std::process::ExitCode;

use jiff::Timestamp;
use rota_client::QueueName;
use rota_client::http::{Client, Queue};
use rota_net::filter::Filter;
use serde_json::{Map, Value, json};

use super::http::{self, Asker, escape};
use super::text::{object_of, table};
use crate::cli::{Global, ListArgs};
use crate::report::{self, Failure};

/// The columns: the head, and the field of the queue's statistics.
const COLUMNS: [(&str, &str); 6] = [
    ("READY", "current_jobs_ready"),
    ("DELAYED", "current_jobs_delayed"),
    ("RESERVED", "current_jobs_reserved"),
    ("BURIED", "current_jobs_buried"),
    ("WAITING", "current_waiting"),
    ("TOTAL", "total_jobs"),
];

/// A pause is without an end if it is longer than this, in seconds: a hundred years.
const ENDLESS_S: u64 = 36_525 * 86_400;

pub(crate) fn run(global: &Global, args: ListArgs) -> anyhow::Result<ExitCode> {
    if let Some(filter) = &args.filter {
        return jobs(global, &args, filter);
    }
    let (mut found, missing) = match http::if_said(global, &args.server)? {
        Some(client) => over_http(&client, args.queues)?,
        None => over_beanstalkd(global, args.queues)?,
    };
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    if global.json {
        for (queue, fields) in &found {
            let mut object = json!({ "queue": queue });
            for (head, field) in COLUMNS {
                object[head.to_lowercase()] = fields.get(field).cloned().unwrap_or(Value::Null);
            }
            object["pause_time_left_s"] = fields.get("pause_time_left_s").cloned().unwrap_or(Value::Null);
            report::line(true, String::new, object)?;
        }
    } else if !found.is_empty() {
        let head: Vec<&str> = ["QUEUE"].into_iter().chain(COLUMNS.map(|(head, _)| head)).collect();
        let rows: Vec<_> = found.iter().map(|(queue, fields)| row(queue, fields)).collect();
        report::line(false, || table(&head, &rows), Value::Null)?;
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::nothing_there(format!("there is no queue {}", missing.join(", "))).into())
}

/// Queues with their statistics, and the names of those that are not there.
type Found = (Vec<(String, Map<String, Value>)>, Vec<String>);

fn over_beanstalkd(global: &Global, queues: Vec<QueueName>) -> anyhow::Result<Found> {
    let mut client = super::connect(global)?;
    let named = !queues.is_empty();
    let queues = if named { queues } else { client.queues()? };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for queue in queues {
        match client.stats_queue(&queue)? {
            Some(fields) => found.push((queue.to_string(), object_of(&fields))),
            // A queue that was listed and has vanished since is not missed.
            None if named => missing.push(queue.to_string()),
            None => {}
        }
    }
    Ok((found, missing))
}

fn over_http(client: &Client, queues: Vec<QueueName>) -> Result<Found, Failure> {
    let not = |error| http::failure(&error, "no list of queues");
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    if queues.is_empty() {
        let mut cursor = None;
        loop {
            let page = client.queues(cursor.as_deref()).map_err(not)?;
            found.extend(page.queues);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    for queue in queues {
        match client.queue(queue.as_str()).map_err(not)? {
            Some(queue) => found.push(queue),
            None => missing.push(queue.to_string()),
        }
    }
    Ok((found.into_iter().map(|queue| (queue.name.clone(), fields_of(&queue))).collect(), missing))
}

/// What the statistics of a queue are called over the beanstalkd protocol, as far as they are printed.
fn fields_of(queue: &Queue) -> Map<String, Value> {
    let left = |until: Timestamp| until.duration_since(Timestamp::now()).as_secs().max(0).unsigned_abs();
    let pause = if queue.paused { queue.paused_until.map_or(u64::MAX, left) } else { 0 };
    let numbers = [
        ("current_jobs_ready", queue.jobs.ready),
        ("current_jobs_delayed", queue.jobs.delayed),
        ("current_jobs_reserved", queue.jobs.reserved),
        ("current_jobs_buried", queue.jobs.buried),
        ("current_waiting", queue.waiting),
        ("total_jobs", queue.totals.put),
        ("pause_time_left_s", pause),
    ];
    numbers.into_iter().map(|(name, number)| (name.to_owned(), number.into())).collect()
}

/// Prints the jobs of a filter, page by page.
fn jobs(global: &Global, args: &ListArgs, filter: &Filter) -> anyhow::Result<ExitCode> {
    let asker = Asker::new(global, &args.server)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/jobs?q={}&limit={}{cursor}", escape(&filter.to_string()), left.min(1000));
        let page = asker.get(&path, "no list of jobs")?;
        let jobs = page.get("jobs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for job in jobs.iter().filter_map(Value::as_object) {
            report::line(global.json, || job_line(job), Value::Object(job.clone()))?;
        }
        left = left.saturating_sub(jobs.len() as u64);
        match page.get("cursor").and_then(Value::as_str) {
            Some(next) if left > 0 => cursor = format!("&cursor={next}"),
            _ => {
                let cold = page.get("not_in_memory").and_then(Value::as_u64).unwrap_or(0);
                if cold > 0 && filter.named().is_none() {
                    report::note(&format!("{cold} delayed jobs are not in memory, and were not looked at"));
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// A job in a line: its id, its state, its queue, and what there is to it that people search by.
fn job_line(job: &Map<String, Value>) -> String {
    let text = |name: &str| job.get(name).and_then(Value::as_str).unwrap_or("-");
    let mut line = format!("{:>8}  {:9}  {}", text("id"), text("state"), text("queue"));
    for name in
        ["created_at", "run_at", "priority", "attempts", "body_bytes", "key", "kind", "waits_for", "progress", "error"]
    {
        let is_shown = match name {
            "run_at" => text("state") == "delayed",
            "attempts" => job.get(name) != Some(&json!(0)),
            _ => true,
        };
        if let Some(value) = job.get(name).filter(|_| is_shown) {
            line.push_str(&format!("  {name}={}", word(value)));
        }
    }
    line
}

/// A value as it stands in a line: in quotation marks where it would not end with its word.
fn word(value: &Value) -> String {
    let is_plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn row(queue: &str, fields: &Map<String, Value>) -> Vec<String> {
    let paused = fields.get("pause_time_left_s").and_then(Value::as_u64).filter(|left| *left > 0);
    let name = match paused {
        Some(left) if left >= ENDLESS_S => format!("{queue} (paused)"),
        Some(left) => format!("{queue} (paused {left}s)"),
        None => queue.to_owned(),
    };
    let number = |field: &str| fields.get(field).map_or("?".to_owned(), Value::to_string);
    [name].into_iter().chain(COLUMNS.map(|(_, field)| number(field))).collect()
}
