//! `rota inspect`: what snapshots are at a place, or what is in one.

use std::process::ExitCode;
use std::sync::Arc;

use rota_engine::job::JobState;
use serde_json::{Map, Value, json};

use super::snapshot::place;
use super::text::{lines_of, put_body, table};
use crate::cli::{Global, InspectArgs};
use crate::report::{self, Failure};
use crate::snapshot::contents::{self, Counts, FoundJob};
use crate::snapshot::read::{self, Named, Names, Snapshot, What};

pub(crate) fn run(global: &Global, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let address = place(&args.address)?;
    if args.jobs {
        let (snapshot, _) = read::newest(&address)?;
        contents::jobs(&Arc::new(snapshot), &mut |job| print_job(global.json, &job))?;
        return Ok(ExitCode::SUCCESS);
    }
    match read::look(&address)? {
        Named::One(snapshot) => show(global.json, *snapshot),
        Named::Several(names) => list(global.json, &names, &address.to_string()),
    }
}

/// A line for each snapshot at a place.
fn list(json: bool, names: &Names, address: &str) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    for (name, what) in names.each() {
        let (state, manifest, problem) = match &what {
            What::Whole(snapshot) => ("whole", Some(&snapshot.manifest), None),
            What::Unfinished => ("unfinished", None, None),
            What::Unusable(error) => ("unusable", None, Some(format!("{:#}", ChainOf(error)))),
        };
        if json {
            let mut object = json!({ "name": name, "state": state });
            if let Some(manifest) = manifest {
                object["taken_at"] = manifest.taken_at.to_string().into();
                object["rota"] = manifest.rota.as_str().into();
                object["jobs"] = manifest.all_jobs().into();
                object["bytes"] = manifest.bytes().into();
            }
            if let Some(problem) = problem {
                object["problem"] = problem.into();
            }
            report::line(true, String::new, object)?;
            rows.push(Vec::new());
            continue;
        }
        let number = |of: fn(&crate::snapshot::manifest::Manifest) -> String| manifest.map(of).unwrap_or("-".into());
        rows.push(vec![
            name.to_owned(),
            number(|manifest| manifest.all_jobs().to_string()),
            number(|manifest| manifest.bytes().to_string()),
            number(|manifest| manifest.rota.clone()),
            problem.map_or(state.to_owned(), |problem| format!("{state}: {problem}")),
        ]);
    }
    if rows.is_empty() {
        return Err(Failure::nothing_there(format!("there is no snapshot at {address}")).into());
    }
    if !json {
        report::line(false, || table(&["NAME", "JOBS", "BYTES", "ROTA", "STATE"], &rows), Value::Null)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An error with its causes.
struct ChainOf<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for ChainOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What one snapshot says of itself, and its queues with their jobs by state. Every byte of it was checked then.
fn show(json: bool, snapshot: Snapshot) -> anyhow::Result<ExitCode> {
    let snapshot = Arc::new(snapshot);
    let counts = contents::queues(&snapshot)?;
    let mut object = snapshot.manifest.summary();
    object.remove("store");
    object.insert("segments".into(), snapshot.manifest.segments.len().into());
    object.insert("bytes".into(), snapshot.manifest.bytes().into());
    if json {
        let queues = counts.iter().map(|(queue, counts)| {
            let mut object = json!({ "queue": queue });
            for (state, count) in STATES.iter().zip(numbers(counts)) {
                object[state.name()] = count.into();
            }
            object
        });
        object["queues"] = queues.collect();
        report::line(true, String::new, object.into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let jobs = object.remove("jobs").unwrap_or_default();
    for state in JobState::ALL {
        object.insert(format!("jobs_{}", state.name()), jobs[state.name()].clone());
    }
    report::line(false, || lines_of(&object), Value::Null)?;
    if !counts.is_empty() {
        let head: Vec<String> =
            ["queue"].into_iter().chain(STATES.map(JobState::name)).map(str::to_uppercase).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let rows: Vec<Vec<String>> = counts
            .iter()
            .map(|(queue, counts)| {
                std::iter::once(queue.clone()).chain(numbers(counts).iter().map(u64::to_string)).collect()
            })
            .collect();
        report::line(false, || format!("\n{}", table(&head, &rows)), Value::Null)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns of the table. Reserved are those alone that are held under a durable lease.
const STATES: [JobState; 8] = [
    JobState::Ready,
    JobState::Reserved,
    JobState::Delayed,
    JobState::Buried,
    JobState::Blocked,
    JobState::Done,
    JobState::Cancelled,
    JobState::Expired,
];

fn numbers(counts: &Counts) -> [u64; STATES.len()] {
    STATES.map(|state| counts[state as usize])
}

fn print_job(json: bool, job: &FoundJob<'_>) -> anyhow::Result<()> {
    let mut object = Map::new();
    object.insert("id".into(), job.id.into());
    object.insert("queue".into(), job.queue.into());
    object.insert("state".into(), job.state.name().into());
    object.insert("priority".into(), job.priority.into());
    if let Some(key) = job.key {
        object.insert("key".into(), String::from_utf8_lossy(key).into());
    }
    object.insert("run_at".into(), job.run_at.map(|moment| moment.to_string()).into());
    object.insert("ttr_s".into(), job.ttr.as_secs_f64().into());
    object.insert("body_bytes".into(), job.body.len().into());
    let text = || {
        let key = job.key.map(|key| format!(" key {}", String::from_utf8_lossy(key))).unwrap_or_default();
        let due = job.run_at.filter(|_| job.state == JobState::Delayed).map(|moment| format!(" until {moment}"));
        let FoundJob { id, queue, state, priority, body, .. } = job;
        let state = state.name();
        format!("{id} {queue} {state}{} priority {priority}, {} bytes{key}", due.unwrap_or_default(), body.len())
    };
    let mut shown = Value::Object(object);
    if json {
        put_body(&mut shown, job.body);
    }
    report::line(json, text, shown)
}
