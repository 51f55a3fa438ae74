//! `rota list`: queues with their jobs by state.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

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

fn row(queue: &str, fields: &Map<String, Value>) -> Vec<String> {
    let paused = fields.get("pause_time_left_s").and_then(Value::as_u64).filter(|left| *left > 0);
    let name = match paused {
        Some(left) => format!("{queue} (paused {left}s)"),
        None => queue.to_owned(),
    };
    let number = |field: &str| fields.get(field).map_or("?".to_owned(), Value::to_string);
    [name].into_iter().chain(COLUMNS.map(|(_, field)| number(field))).collect()
}
