//! The rule that ARCHITECTURE.md is true: it has a heading for every crate, and under it an item for every top-level file.
//!
//! A heading of a crate begins with its name in backticks; an item of a file is a list item that begins with the file's
//! name in backticks. Everything else on the page is free.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::repository::Repository;

const PAGE: &str = "ARCHITECTURE.md";

pub(super) fn complete(repository: &Repository) -> Vec<Finding> {
    let Some(page) = repository.text(PAGE) else {
        return vec![Finding::failure(PAGE, None, "the map is missing")];
    };
    let there = crates_there(repository);
    let named = crates_named(page);
    let mut findings = Vec::new();
    for (name, (line, files)) in &named {
        let Some(files_there) = there.get(name) else {
            findings.push(Finding::failure(PAGE, Some(*line), format!("names the crate {name}, which is not there")));
            continue;
        };
        for (file, line) in files.iter().filter(|(file, _)| !files_there.contains(*file)) {
            findings.push(Finding::failure(PAGE, Some(*line), format!("names {file} in {name}, which is not there")));
        }
    }
    for (name, files) in &there {
        match named.get(name) {
            None => findings.push(Finding::failure(PAGE, None, format!("lacks the crate {name}"))),
            Some((line, named)) => {
                for file in files.iter().filter(|file| !named.contains_key(*file)) {
                    findings.push(Finding::failure(PAGE, Some(*line), format!("lacks {file} of {name}")));
                }
            }
        }
    }
    findings
}

/// The crates by name, each with the files that lie directly in its `src`.
fn crates_there(repository: &Repository) -> BTreeMap<String, BTreeSet<String>> {
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, _) in repository.rust_files() {
        let Some((home, file)) = path.split_once("/src/") else {
            continue;
        };
        let name = home.strip_prefix("crates/").unwrap_or(home);
        if !name.contains('/') && !file.contains('/') {
            crates.entry(name.to_owned()).or_default().insert(file.to_owned());
        }
    }
    crates
}

/// The crates that the page names, each with the line of its heading and its files with theirs.
fn crates_named(page: &str) -> BTreeMap<String, (usize, BTreeMap<String, usize>)> {
    let mut crates: BTreeMap<String, (usize, BTreeMap<String, usize>)> = BTreeMap::new();
    let mut current: Option<String> = None;
    for (number, line) in page.lines().enumerate().map(|(number, line)| (number + 1, line)) {
        if line.starts_with('#') {
            current = backticked(line.trim_start_matches('#')).map(str::to_owned);
            if let Some(name) = &current {
                crates.entry(name.clone()).or_insert((number, BTreeMap::new()));
            }
        } else if let (Some(name), Some(item)) = (&current, line.trim_start().strip_prefix("- "))
            && let Some(file) = backticked(item).filter(|file| file.ends_with(".rs"))
            && let Some((_, files)) = crates.get_mut(name)
        {
            files.insert(file.to_owned(), number);
        }
    }
    crates
}

/// The name in backticks that the text begins with.
fn backticked(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('`')?.split_once('`').map(|(name, _)| name)
}
