//! Rules about what the project takes from others: a reason, a licence and a known source for each.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::licence;
use super::repository::Repository;

const PAGE: &str = "docs/dependencies.md";

/// The heading of the table that this rule reads; other tables on the page are free.
const HEADING: &str = "## Crates";

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every direct dependency of a crate of ours has a full row in the table, and every row stands for one.
pub(super) fn reasons(repository: &Repository) -> Vec<Finding> {
    let Some(page) = repository.text(PAGE) else {
        return vec![Finding::failure(PAGE, None, "the page is missing")];
    };
    let ours: BTreeSet<&str> = repository.ours().map(|package| package.name.as_str()).collect();
    let mut used: BTreeMap<&str, &str> = BTreeMap::new();
    for package in repository.ours() {
        for dependency in package.direct.iter().filter(|name| !ours.contains(name.as_str())) {
            used.insert(dependency, &package.name);
        }
    }
    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    for (line, cells) in rows(page) {
        let name = cells[0].trim_matches('`');
        if cells.len() < 4 || cells.iter().any(|cell| cell.is_empty()) {
            findings.push(Finding::failure(
                PAGE,
                Some(line),
                format!("{name}: say what for, why this one, against what"),
            ));
        }
        if !named.insert(name) {
            findings.push(Finding::failure(PAGE, Some(line), format!("{name} has two rows")));
        }
        if !used.contains_key(name) {
            findings.push(Finding::failure(PAGE, Some(line), format!("no crate of ours depends on {name}")));
        }
    }
    for (name, by) in used.iter().filter(|(name, _)| !named.contains(*name)) {
        findings.push(Finding::failure(PAGE, None, format!("lacks a row for {name}, which {by} depends on")));
    }
    findings
}

pub(super) fn licences(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in repository.packages() {
        match &package.licence {
            None => findings.push(Finding::failure(&package.name, None, "states no licence")),
            Some(licence) if !licence::is_allowed(licence) => {
                findings.push(Finding::failure(&package.name, None, format!("licence '{licence}' is not on the list")));
            }
            Some(_) => {}
        }
    }
    findings
}

pub(super) fn sources(repository: &Repository) -> Vec<Finding> {
    let foreign = repository.packages().filter(|package| match &package.source {
        Some(source) => source != CRATES_IO,
        None => !package.ours,
    });
    foreign
        .map(|package| {
            let source = package.source.as_deref().unwrap_or("a path outside the workspace");
            Finding::failure(&package.name, None, format!("comes from {source}"))
        })
        .collect()
}

/// The rows of the table, each with its line and its cells; the head and the rule below it are none.
fn rows(page: &str) -> Vec<(usize, Vec<&str>)> {
    let numbered = page.lines().enumerate().map(|(number, line)| (number + 1, line));
    let section =
        numbered.skip_while(|(_, line)| *line != HEADING).skip(1).take_while(|(_, line)| !line.starts_with("## "));
    section
        .filter_map(|(number, line)| {
            let cells: Vec<&str> =
                line.strip_prefix('|')?.trim_end().strip_suffix('|')?.split('|').map(str::trim).collect();
            cells.first()?.starts_with('`').then_some((number, cells))
        })
        .collect()
}
