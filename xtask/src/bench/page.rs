//! The page `docs/benchmarks.md`: a part for each bench, of which a run replaces its own and leaves the others alone.
//!
//! A part begins behind a comment that names it, and ends before the next such comment. The last is made of the others:
//! [`super::goals`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::goals;
use crate::process;

/// A part of the page, in their order on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Throughput,
    Latency,
    Scale,
    Batches,
    Peers,
    Memory,
    Recovery,
    Stalls,
    Far,
    Http,
    Build,
}

const PARTS: [Part; 11] = [
    Part::Throughput,
    Part::Latency,
    Part::Scale,
    Part::Batches,
    Part::Peers,
    Part::Memory,
    Part::Recovery,
    Part::Stalls,
    Part::Far,
    Part::Http,
    Part::Build,
];

/// Before the table of what all parts say.
const GOALS: &str = "<!-- part: goals -->";

const HEAD: &str = "\
# Benchmarks

Beside beanstalkd, on one machine. Each part names the command that wrote it, and when: do not edit it, run that command.
";

impl Part {
    fn marker(self) -> &'static str {
        match self {
            Part::Throughput => "<!-- part: throughput -->",
            Part::Latency => "<!-- part: latency -->",
            Part::Scale => "<!-- part: scale -->",
            Part::Batches => "<!-- part: batches -->",
            Part::Peers => "<!-- part: peers -->",
            Part::Memory => "<!-- part: memory -->",
            Part::Recovery => "<!-- part: recovery -->",
            Part::Stalls => "<!-- part: stalls -->",
            Part::Far => "<!-- part: far -->",
            Part::Http => "<!-- part: http -->",
            Part::Build => "<!-- part: build -->",
        }
    }
}

/// Puts a drawing beside the page, or that of a `quick` run beside its page. Returns where.
///
/// # Errors
///
/// It cannot be written.
pub(super) fn write_beside(quick: bool, name: &str, drawing: &str) -> Result<PathBuf> {
    let folder =
        if quick { process::target().join("bench/benchmarks") } else { process::root().join("docs/benchmarks") };
    let path = folder.join(name);
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, drawing));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Puts a part onto the page in place of what it was; numbers of a `quick` run go to a page that is not for the
/// documentation. Returns where.
///
/// # Errors
///
/// The page cannot be read or written.
pub(super) fn write(quick: bool, part: Part, text: &str) -> Result<PathBuf> {
    let path =
        if quick { process::target().join("bench/benchmarks.md") } else { process::root().join("docs/benchmarks.md") };
    let before = read(&path)?;
    std::fs::write(&path, with_part(&before, part, text))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn with_part(before: &str, new: Part, text: &str) -> String {
    let mut page = String::from(HEAD);
    let mut write = |marker: &str, text: &str| page.push_str(&format!("\n{marker}\n\n{}\n", text.trim()));
    let mut parts = Vec::new();
    for part in PARTS {
        let found = if part == new { Some(text) } else { part_of(before, part) };
        if let Some(text) = found {
            write(part.marker(), text);
            parts.push(text);
        }
    }
    if let Some(table) = goals::table(&parts) {
        write(GOALS, &table);
    }
    page
}

fn part_of(page: &str, part: Part) -> Option<&str> {
    let (_, behind) = page.split_once(part.marker())?;
    let markers = PARTS.map(Part::marker).into_iter().chain([GOALS]);
    let end = markers.filter_map(|other| behind.find(other)).min();
    Some(&behind[..end.unwrap_or(behind.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_replaces_itself_alone_and_the_order_stays() {
        let stalls = with_part("", Part::Stalls, "stalls 1\n");
        let both = with_part(&stalls, Part::Memory, "memory 1\n");
        let again = with_part(&both, Part::Memory, "\nmemory 2\n\n");
        let expected = "\n<!-- part: memory -->\n\nmemory 2\n\n<!-- part: stalls -->\n\nstalls 1\n";
        assert_eq!(again, format!("{HEAD}{expected}"));
        assert_eq!(with_part(&again, Part::Stalls, "stalls 1"), again);
        let with_goal = with_part(&again, Part::Stalls, "stalls\n\n- met: a goal: a number");
        let table = "\n<!-- part: goals -->\n\n## All goals\n\n1 of 1 are met";
        assert!(with_goal.contains(table), "{with_goal}");
        assert_eq!(with_part(&with_goal, Part::Stalls, "stalls 1"), again);
    }
}
