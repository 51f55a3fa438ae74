//! Rules about text of any kind: links, spaces, and what the project must not speak of.

use super::Finding;
use super::repository::{Repository, has_extension};

/// Text in which white space at the end of a line is never meant. Snapshots of output (`.snap`) may hold it.
const PLAIN: &[&str] = &["rs", "md", "toml", "py", "js", "cjs", "mjs", "ts", "go", "sh", "yml", "yaml", "json"];

/// Directories of one person's machine, which say nothing to anyone else.
const SOMEBODYS: &[&str] = &["tmp/", "home/", "root/", "work/", "Users/"];

pub(super) fn links(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.files().filter(|(path, _)| has_extension(path, &["md"])) {
        for (line, target) in link_targets(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let file = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
            let Some(file) = file.filter(|file| repository.has(file)) else {
                findings.push(Finding::failure(path, Some(line), format!("the link to {target} leads nowhere")));
                continue;
            };
            let headings = repository.text(&file).filter(|_| has_extension(&file, &["md"])).map(anchors);
            if let (Some(anchor), Some(headings)) = (anchor, headings)
                && !headings.iter().any(|heading| heading == anchor)
            {
                findings.push(Finding::failure(path, Some(line), format!("{file} has no heading for #{anchor}")));
            }
        }
    }
    findings
}

pub(super) fn spaces(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.files().filter(|(path, _)| has_extension(path, PLAIN)) {
        for (number, line) in text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(Finding::failure(path, Some(number + 1), "white space at the end of the line"));
            }
        }
        if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
            findings.push(Finding::failure(path, None, "end with one line break"));
        }
    }
    findings
}

/// No paths of somebody's machine, and no numbers of somebody's list of work: whoever reads the project has neither.
pub(super) fn itself(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.files() {
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = foreign_word(line) {
                findings.push(Finding::failure(
                    path,
                    Some(number + 1),
                    format!("'{word}' means nothing outside of one machine"),
                ));
            }
        }
    }
    findings
}

fn foreign_word(line: &str) -> Option<&str> {
    // A directory counts where a path begins, not in the middle of one or of a URL.
    let begins_path =
        |at: usize| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-/}~*+".contains(c));
    for (at, _) in line.match_indices('/').filter(|(at, _)| begins_path(*at)) {
        if let Some(name) = SOMEBODYS.iter().find(|name| line[at + 1..].starts_with(**name)) {
            return Some(&line[at..at + 1 + name.len()]);
        }
    }
    let lower = line.to_ascii_lowercase();
    for (at, word) in lower.match_indices("issue ") {
        let number = lower[at + word.len()..].trim_start_matches('#').chars().take_while(char::is_ascii_digit).count();
        if number > 0 {
            return Some(&line[at..at + word.len() + number]);
        }
    }
    None
}

/// The targets of `[text](target)` outside of code, each with its line.
fn link_targets(text: &str) -> Vec<(usize, &str)> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, opening) in line.match_indices("](") {
            // An odd number of backticks before it: it stands inside a piece of code.
            if line[..at].matches('`').count() % 2 == 0 || line[..at].ends_with('`') {
                let target = &line[at + opening.len()..];
                if let Some(end) = target.find([')', ' ']) {
                    targets.push((number + 1, &target[..end]));
                }
            }
        }
    }
    targets
}

/// The path that a relative link in the file at `from` leads to; `None` if it leaves the repository.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a page's headings, as the usual renderers make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}
