//! `rota list`: queues with their jobs by state, or the jobs of a filter.

use std::process::ExitCode;

use rota_net::filter::Filter;
use serde_json::{Map, Value, json};

use super::http::{Asker, escape};
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

pub(crate) fn run(global: &Global, args: ListArgs) -> anyhow::Result<ExitCode> {
    if let Some(filter) = &args.filter {
        return jobs(global, &args, filter);
    }
    let mut client = super::connect(global)?;
    let named = !args.queues.is_empty();
    let queues = if named { args.queues } else { client.queues()? };
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for queue in queues {
        match client.stats_queue(&queue)? {
            Some(fields) => found.push((queue, object_of(&fields))),
            // A queue that was listed and has vanished since is not missed.
            None if named => missing.push(queue.to_string()),
            None => {}
        }
    }
    found.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    if global.json {
        for (queue, fields) in &found {
            let mut object = json!({ "queue": queue.as_str() });
            for (head, field) in COLUMNS {
                object[head.to_lowercase()] = fields.get(field).cloned().unwrap_or(Value::Null);
            }
            object["pause_time_left_s"] = fields.get("pause_time_left_s").cloned().unwrap_or(Value::Null);
            report::line(true, String::new, object)?;
        }
    } else if !found.is_empty() {
        let head: Vec<&str> = ["QUEUE"].into_iter().chain(COLUMNS.map(|(head, _)| head)).collect();
        let rows: Vec<_> = found.iter().map(|(queue, fields)| row(queue.as_str(), fields)).collect();
        report::line(false, || table(&head, &rows), Value::Null)?;
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::nothing_there(format!("there is no queue {}", missing.join(", "))).into())
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
        Some(left) => format!("{queue} (paused {left}s)"),
        None => queue.to_owned(),
    };
    let number = |field: &str| fields.get(field).map_or("?".to_owned(), Value::to_string);
    [name].into_iter().chain(COLUMNS.map(|(_, field)| number(field))).collect()
}
