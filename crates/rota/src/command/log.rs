//! `rota log`: looks into a data directory without changing it, and saves what a damaged one still holds into another.
//!
//! The reading is the engine's ([`rota_engine::log::inspect`]); here is what is said of it.

mod check;
mod fields;
mod salvage;
mod show;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use rota_engine::log::inspect::{Look, LsnRange, PassedOver, Problem, Tail};
use rota_engine::storage::DirectoryReader;
use serde_json::{Value, json};

use crate::cli::{Global, LogCommand};
use crate::report::Failure;

pub(crate) fn run(global: &Global, command: LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::Check(args) => check::run(global, &args),
        LogCommand::Show(args) => show::run(global, &args),
        LogCommand::Salvage(args) => salvage::run(global, &args),
    }
}

/// Opens a data directory for reading.
fn open(path: &Path) -> anyhow::Result<DirectoryReader> {
    let nothing_there = |what: &str| {
        Failure::nothing_there(format!("{} {what}", path.display()))
            .hint("name the directory that `rota serve` was given with --data; its first line names it")
    };
    let reader = DirectoryReader::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => nothing_there("does not exist"),
        io::ErrorKind::NotADirectory => nothing_there("is not a directory"),
        _ => Failure::at_run_time(format!("cannot read {}", path.display())).caused_by(error),
    })?;
    if !reader.is_data_directory() {
        return Err(nothing_there("is no data directory").into());
    }
    Ok(reader)
}

fn look(reader: &DirectoryReader) -> Look {
    Look { is_live: reader.holder().is_some() }
}

/// That a server has the directory.
fn in_use(pid: &str) -> String {
    let pid = if pid.is_empty() { "another process" } else { &format!("process {pid}") };
    format!("{pid} has the directory, and goes on writing: its log is shown as it is now")
}

fn ranges(lost: &[LsnRange]) -> String {
    lost.iter().map(LsnRange::to_string).collect::<Vec<_>>().join(", ")
}

fn ranges_json(lost: &[LsnRange]) -> Value {
    lost.iter().map(|range| json!({ "from": range.from.0, "to": range.to.map(|to| to.0) })).collect()
}

/// A problem in a line.
fn problem_text(problem: &Problem) -> String {
    let place = match problem.offset {
        0 => String::new(),
        offset => format!(", offset {offset}"),
    };
    let lost = match problem.lost.as_slice() {
        [] => String::new(),
        lost => format!("; cannot be read: records {}", ranges(lost)),
    };
    format!("{}{place}: {}{lost}", problem.path.display(), problem.kind)
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "kind": problem.kind.word(),
        "segment": problem.segment,
        "file": problem.path.to_string_lossy(),
        "offset": problem.offset,
        "found": problem.kind.to_string(),
        "lost": ranges_json(&problem.lost),
    })
}

/// The torn end in a line.
fn torn_text(tail: &Tail) -> String {
    format!(
        "segment {}, offset {}: {} bytes from record {} on were never acknowledged ({}): the next start cuts them off",
        tail.segment, tail.offset, tail.bytes, tail.from_lsn, tail.found
    )
}

fn torn_json(tail: &Tail) -> Value {
    json!({
        "segment": tail.segment,
        "offset": tail.offset,
        "bytes": tail.bytes,
        "from_lsn": tail.from_lsn.0,
        "found": tail.found.to_string(),
    })
}

fn passed_text(passed: &PassedOver) -> String {
    let lost = match passed.lost.as_slice() {
        [] => String::from("no record is lost by it"),
        lost => format!("records {} cannot be read", ranges(lost)),
    };
    format!("-- {}:{} passed over {} bytes: {}; {lost}", passed.segment, passed.offset, passed.bytes, passed.found)
}

fn passed_json(passed: &PassedOver) -> Value {
    json!({
        "passed_over": passed.found.to_string(),
        "segment": passed.segment,
        "offset": passed.offset,
        "bytes": passed.bytes,
        "lost": ranges_json(&passed.lost),
    })
}
