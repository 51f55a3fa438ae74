//! `rota log check`: the verdict on a data directory, its segments, and all that is wrong.

use std::process::ExitCode;

use rota_engine::log::inspect::{self, Inspection, ProblemKind, SegmentReport, Verdict};
use rota_engine::storage::{DirectoryReader, StoreId};
use serde_json::{Value, json};

use super::{in_use, look, open, problem_json, problem_text, torn_json, torn_text};
use crate::cli::{Global, LogCheckArgs};
use crate::command::text::table;
use crate::report;
use crate::snapshot::restore::check_none_under_way;

pub(crate) fn run(global: &Global, args: &LogCheckArgs) -> anyhow::Result<ExitCode> {
    let reader = open(&args.directory)?;
    let found = inspect::check(&reader, look(&reader))?;
    let half_restore = check_none_under_way(&args.directory).err();
    let text = || {
        let lines = half_restore.iter().map(|error| format!("\n{error}: {}", error.hint().unwrap_or_default()));
        text(&found, &reader, args) + &lines.collect::<String>()
    };
    let mut object = object(&found, &reader, args);
    object["is_half_restored"] = half_restore.is_some().into();
    report::line(global.json, text, object)?;
    Ok(match found.verdict() {
        _ if half_restore.is_some() => ExitCode::from(1),
        Verdict::Empty | Verdict::Whole | Verdict::Torn => ExitCode::SUCCESS,
        Verdict::Newer | Verdict::Damaged => ExitCode::from(1),
    })
}

const HEAD: [&str; 8] = ["SEGMENT", "STATE", "FORMAT", "BYTES", "USED", "RECORDS", "LSNS", "AT START"];

fn text(found: &Inspection, reader: &DirectoryReader, args: &LogCheckArgs) -> String {
    let store = found.store.map_or_else(|| String::from("none"), |store| store.to_string());
    let mut lines = vec![format!("{}: store {store}", args.directory.display())];
    lines.extend(reader.holder().map(in_use));
    if !found.segments.is_empty() {
        let rows: Vec<_> = found.segments.iter().map(|segment| row(segment, found.store)).collect();
        lines.push(table(&HEAD, &rows));
    }
    lines.extend(found.notes.iter().map(|note| format!("note: {}", problem_text(note))));
    lines.extend(found.torn.iter().map(|tail| format!("torn: {}", torn_text(tail))));
    lines.extend(found.problems.iter().map(problem_text));
    lines.push(format!("verdict: {}", found.verdict()));
    lines.extend(match found.verdict() {
        Verdict::Damaged => Some(String::from(damaged_hint(found))),
        Verdict::Newer => Some(String::from("a start is refused: use the version of rota that wrote it")),
        _ => None,
    });
    lines.join("\n")
}

/// What to do about damage: an index is made again, whatever it was.
fn damaged_hint(found: &Inspection) -> &'static str {
    if found.problems.iter().all(|problem| matches!(problem.kind, ProblemKind::Index(_))) {
        "a server ends when it comes to what is damaged; no job is lost"
    } else {
        "a start is refused, or a server ends when it comes to what is damaged; `rota log salvage` saves what can still be \
         read"
    }
}

/// What stands for something that nothing says.
fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| String::from("-"), |value| value.to_string())
}

fn row(segment: &SegmentReport, store: Option<StoreId>) -> Vec<String> {
    let name = match (segment.file.number, segment.number) {
        (Some(name), _) => name.to_string(),
        (None, _) => segment.file.name.to_string_lossy().into_owned(),
    };
    let is_foreign = segment.store.is_some() && segment.store != store;
    let lsns = match (segment.first_lsn, segment.last_lsn) {
        (Some(first), Some(last)) if last >= first => format!("{first}-{last}"),
        _ => String::from("-"),
    };
    let use_of_it = match (segment.is_needed, is_foreign) {
        (true, _) => "needed",
        (false, _) if segment.is_far => "far",
        (false, true) => "foreign",
        (false, false) if segment.last_lsn.is_some() => "history",
        _ => "-",
    };
    vec![
        name,
        segment.state.to_string(),
        or_dash(segment.version),
        segment.bytes.to_string(),
        segment.used_bytes.to_string(),
        segment.records.to_string(),
        lsns,
        use_of_it.to_owned(),
    ]
}

fn object(found: &Inspection, reader: &DirectoryReader, args: &LogCheckArgs) -> Value {
    json!({
        "directory": args.directory.to_string_lossy(),
        "verdict": found.verdict().to_string(),
        "store": found.store.map(|store| store.to_string()),
        "in_use": reader.holder().is_some(),
        "in_use_by_pid": reader.holder().and_then(|pid| pid.parse::<u64>().ok()),
        "segments": found.segments.iter().map(segment_json).collect::<Vec<_>>(),
        "problems": found.problems.iter().map(problem_json).collect::<Vec<_>>(),
        "notes": found.notes.iter().map(problem_json).collect::<Vec<_>>(),
        "torn": found.torn.as_ref().map(torn_json),
    })
}

fn segment_json(segment: &SegmentReport) -> Value {
    json!({
        "file": segment.file.name.to_string_lossy(),
        "segment": segment.number.or(segment.file.number),
        "state": segment.state.to_string(),
        "store": segment.store.map(|store| store.to_string()),
        "format_version": segment.version,
        "bytes": segment.bytes,
        "used_bytes": segment.used_bytes,
        "records": segment.records,
        "first_lsn": segment.first_lsn.map(|lsn| lsn.0),
        "last_lsn": segment.last_lsn.map(|lsn| lsn.0),
        "needed": segment.is_needed,
        "far": segment.is_far,
    })
}
