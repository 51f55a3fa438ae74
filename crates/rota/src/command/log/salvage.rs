//! `rota log salvage`: a new data directory out of what a damaged one still holds, and the account of what it does not.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use rota_engine::log::{FarLoss, Salvage, Take};
use rota_engine::storage::DataDirectory;
use serde_json::{Value, json};

use super::{open, problem_json, problem_text, ranges, ranges_json, torn_json, torn_text};
use crate::cli::{Global, LogSalvageArgs};
use crate::report::{self, Failure};
use crate::serve::random;

/// Where the new log is while it is written: a directory with this in it is no data directory yet.
const UNFINISHED: &str = "salvage.unfinished";

/// How many jobs are named where there are many.
const NAMED_JOBS: usize = 10;

pub(crate) fn run(global: &Global, args: &LogSalvageArgs) -> anyhow::Result<ExitCode> {
    let reader = open(&args.directory)?;
    if let Some(pid) = reader.holder() {
        let message = format!("{} is in use by process {pid}", args.directory.display());
        return Err(Failure::at_run_time(message).hint("stop the server first").into());
    }
    refuse_inside(&args.directory, &args.to)?;
    let is_new = take_place(&args.to)?;
    let unfinished = args.to.join(UNFINISHED);
    let take = Take { unsure: args.take_unsure };
    let made = make(&reader, &args.to, &unfinished, take);
    if made.is_err() {
        // What is half done is of no use to anybody; if it cannot be taken away, its name says what it is.
        let _ = fs::remove_dir_all(&unfinished);
        if is_new {
            let _ = fs::remove_dir(&args.to);
        }
    }
    let saved = made?;
    report::line(global.json, || text(&saved, args), object(&saved, args))?;
    Ok(ExitCode::SUCCESS)
}

fn make(
    reader: &dyn rota_engine::storage::LogSource,
    to: &Path,
    unfinished: &Path,
    take: Take,
) -> anyhow::Result<Salvage> {
    let storage = DataDirectory::open(unfinished)?;
    let saved = rota_engine::log::salvage(reader, storage, random()?, take)?;
    // `store` comes last: without it, nothing takes the directory for a data directory.
    for name in ["log", "store"] {
        let moved = fs::rename(unfinished.join(name), to.join(name)).and_then(|()| File::open(to)?.sync_all());
        moved.map_err(|error| Failure::at_run_time(format!("cannot finish {}", to.display())).caused_by(error))?;
    }
    // Nothing but a lock is in it now, and it does not matter.
    let _ = fs::remove_dir_all(unfinished);
    Ok(saved)
}

/// Nothing may be written below the directory that is read.
fn refuse_inside(source: &Path, to: &Path) -> anyhow::Result<()> {
    let resolved = |path: &Path| -> io::Result<PathBuf> {
        let path = std::path::absolute(path)?;
        let existing = path.ancestors().find(|part| part.exists()).unwrap_or(&path);
        let rest = path.strip_prefix(existing).unwrap_or(Path::new(""));
        if rest.components().any(|part| part == Component::ParentDir) {
            return Err(io::Error::other("\"..\" stands behind a directory that is not there"));
        }
        Ok(existing.canonicalize()?.join(rest))
    };
    let source_path = source.canonicalize();
    let to_path = resolved(to)
        .map_err(|error| Failure::at_run_time(format!("cannot tell where {} is", to.display())).caused_by(error))?;
    let Ok(source_path) = source_path else { return Ok(()) };
    if to_path.starts_with(&source_path) {
        let message = format!("{} is inside {}, which is only read", to.display(), source.display());
        return Err(Failure::at_run_time(message).hint("name a directory elsewhere with --to").into());
    }
    Ok(())
}

/// Makes the directory, or takes an empty one. Returns whether it was made.
fn take_place(to: &Path) -> anyhow::Result<bool> {
    let failed = |error| Failure::at_run_time(format!("cannot make {}", to.display())).caused_by(error);
    match fs::read_dir(to) {
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed)?.file_name();
                if name != "lost+found" {
                    let message = format!("{} is not empty: it holds {}", to.display(), name.display());
                    let hint =
                        "name a new directory or an empty one with --to: what is saved never mixes with what is there";
                    return Err(Failure::at_run_time(message).hint(hint).into());
                }
            }
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).recursive(true).create(to).map_err(failed)?;
            Ok(true)
        }
        Err(error) => Err(failed(error).into()),
    }
}

/// `1 job`, `2 jobs`.
fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The first of them, and that there are more.
fn some<T>(all: &[T], name: impl Fn(&T) -> String) -> String {
    let named: Vec<String> = all.iter().take(NAMED_JOBS).map(name).collect();
    let more = if all.len() > NAMED_JOBS { ", … (--json lists all)" } else { "" };
    format!("{}{more}", named.join(", "))
}

fn text(saved: &Salvage, args: &LogSalvageArgs) -> String {
    let mut lines = vec![format!(
        "{} saved into {}, from {} of {}",
        count(saved.jobs, "open job"),
        args.to.display(),
        count(saved.records, "record"),
        args.directory.display()
    )];
    if saved.far_jobs > 0 {
        lines.push(format!("{} of them were far ahead, in segments that no start reads", saved.far_jobs));
    }
    if saved.rescued > 0 {
        lines.push(format!("{} stood in damaged groups", count(saved.rescued, "record")));
    }
    lines.extend(saved.problems.iter().map(problem_text));
    lines.extend(saved.torn.iter().map(|tail| format!("torn: {}", torn_text(tail))));
    if saved.lost.is_empty() {
        lines.push(String::from("no record is lost that had been acknowledged"));
    } else {
        lines.push(format!("lost: records {}; {}", ranges(&saved.lost), count(saved.lost_bytes, "byte")));
    }
    if !saved.lost_jobs.is_empty() {
        let named = some(&saved.lost_jobs, |lost| match lost.spoilt_at {
            Some((segment, offset)) => format!("{} (damaged, segment {segment}, offset {offset})", lost.job),
            None => lost.job.to_string(),
        });
        let told_of = "told of by other records or an index";
        lines.push(format!("lost: {}, {told_of}: {named}", count(saved.lost_jobs.len() as u64, "job")));
    }
    lines.extend(saved.far_lost.iter().map(|FarLoss { segment, jobs }| {
        let lost = count(*jobs, "job");
        format!("lost: {lost} far ahead in segment {segment}, and nothing says which")
    }));
    lines.extend(saved.far_unsure.iter().map(|FarLoss { segment, jobs }| {
        let done = if args.take_unsure {
            "taken, though any of them may have ended long ago"
        } else {
            "left out, since any of them may have ended long ago; --take-unsure takes them"
        };
        format!("unsure: up to {} far ahead in segment {segment}: {done}", count(*jobs, "job"))
    }));
    if !saved.unseen_jobs.is_empty() {
        let named = some(&saved.unseen_jobs, |range| match range.to {
            Some(to) if to == range.from => to.to_string(),
            Some(to) => format!("{}-{to}", range.from),
            None => format!("{} and on", range.from),
        });
        lines.push(format!("perhaps lost: jobs that were put where records are lost, with numbers of {named}"));
    }
    if saved.may_lack_older {
        lines.push(String::from(
            "perhaps lost: jobs of lower numbers too, since the log was compacted and they may have been written again \
             where records are lost",
        ));
    }
    if !saved.uncertain.is_empty() {
        lines.push(format!(
            "uncertain: {} may have ended already, in what is lost: {}",
            count(saved.uncertain.len() as u64, "saved job"),
            some(&saved.uncertain, ToString::to_string)
        ));
    }
    if saved.far_uncertain > 0 {
        let jobs = count(saved.far_uncertain, "saved job");
        lines.push(format!("uncertain: {jobs} far ahead may have ended already too, in what is lost"));
    }
    if !saved.ended.is_empty() {
        lines.push(format!(
            "left out: {} that must have ended, by what came later: {}",
            count(saved.ended.len() as u64, "job"),
            some(&saved.ended, ToString::to_string)
        ));
    }
    lines.push(format!("start a server on it with: rota serve --data {}", args.to.display()));
    lines.join("\n")
}

fn object(saved: &Salvage, args: &LogSalvageArgs) -> Value {
    json!({
        "directory": args.directory.to_string_lossy(),
        "to": args.to.to_string_lossy(),
        "from_store": saved.from.to_string(),
        "store": saved.store.to_string(),
        "records": saved.records,
        "records_in_damaged_groups": saved.rescued,
        "jobs": saved.jobs,
        "next_job_id": saved.next_job_id.0,
        "problems": saved.problems.iter().map(problem_json).collect::<Vec<_>>(),
        "torn": saved.torn.as_ref().map(torn_json),
        "lost": ranges_json(&saved.lost),
        "lost_bytes": saved.lost_bytes,
        "lost_jobs": saved.lost_jobs.iter().map(|lost| json!({
            "job": lost.job.0,
            "damaged_record": lost.spoilt_at.map(|(segment, offset)| json!({ "segment": segment, "offset": offset })),
        })).collect::<Vec<_>>(),
        "perhaps_lost_jobs": saved.unseen_jobs.iter().map(|range| json!({
            "from": range.from.0,
            "to": range.to.map(|to| to.0),
        })).collect::<Vec<_>>(),
        "may_lack_older_jobs": saved.may_lack_older,
        "uncertain_jobs": saved.uncertain.iter().map(|job| job.0).collect::<Vec<_>>(),
        "far_jobs": saved.far_jobs,
        "uncertain_far_jobs": saved.far_uncertain,
        "lost_far_jobs": saved.far_lost.iter().map(far_json).collect::<Vec<_>>(),
        "unsure_far_jobs": saved.far_unsure.iter().map(far_json).collect::<Vec<_>>(),
        "unsure_are_taken": args.take_unsure,
        "ended_jobs": saved.ended.iter().map(|job| job.0).collect::<Vec<_>>(),
    })
}

fn far_json(loss: &FarLoss) -> Value {
    json!({ "segment": loss.segment, "jobs": loss.jobs })
}
