//! `cargo xtask tidy`: the repository polices itself.
//!
//! [`RULES`] is the table of what is kept, a row each; the rules themselves lie in the folder, by what they look at.
//! They read a [`Repository`] held in memory and never touch the disk, so that each is tested on a small made-up one.

mod code;
mod crates;
mod dependencies;
mod layout;
mod map;
mod prose;

mod licence;
mod repository;
mod source;

#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::{Result, bail};

use repository::Repository;

/// One rule: what it is called, what it says, and what in a repository breaks it.
struct Rule {
    name: &'static str,
    says: &'static str,
    check: fn(&Repository) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule { name: "size", says: "no file has over 1,200 lines; over 800 is a warning", check: layout::size },
    Rule { name: "module-docs", says: "every Rust file opens with `//!`", check: layout::module_docs },
    Rule { name: "no-mod-rs", says: "`foo.rs` and `foo/`, never `foo/mod.rs`", check: layout::no_mod_rs },
    Rule { name: "imports", says: "crates know each other in one direction only", check: crates::imports },
    Rule {
        name: "lean-engine",
        says: "the engine has no runtime, sockets or JSON below it",
        check: crates::lean_engine,
    },
    Rule {
        name: "quiet-engine",
        says: "the engine asks no clock, opens no socket, starts no thread",
        check: code::quiet_engine,
    },
    Rule { name: "unsafe", says: "no `unsafe` outside the named files", check: code::no_unsafe },
    Rule { name: "unwrap", says: "no `unwrap()` outside tests", check: code::no_unwrap },
    Rule {
        name: "map",
        says: "ARCHITECTURE.md names every crate and module, and none that is gone",
        check: map::complete,
    },
    Rule {
        name: "dependencies",
        says: "docs/dependencies.md gives a reason for each, and for no other",
        check: dependencies::reasons,
    },
    Rule { name: "licences", says: "every package has a licence we allow", check: dependencies::licences },
    Rule {
        name: "sources",
        says: "packages come from crates.io or from this repository",
        check: dependencies::sources,
    },
    Rule { name: "links", says: "relative links in Markdown lead somewhere", check: prose::links },
    Rule { name: "spaces", says: "no trailing spaces, one line break at the end", check: prose::spaces },
    Rule { name: "itself", says: "the project speaks of itself alone", check: prose::itself },
];

/// Whether a finding breaks the build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Warning,
    Failure,
}

/// One place that breaks a rule.
#[derive(PartialEq, Eq, Debug)]
struct Finding {
    level: Level,
    /// A path from the root of the repository, or the name of a package.
    place: String,
    /// Counted from 1; `None` where the whole place is meant.
    line: Option<usize>,
    message: String,
}

impl Finding {
    fn failure(place: impl Into<String>, line: Option<usize>, message: impl Into<String>) -> Finding {
        Finding { level: Level::Failure, place: place.into(), line, message: message.into() }
    }

    fn warning(place: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, place: place.into(), line: None, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}

/// Checks this repository against every rule and prints what breaks them.
///
/// # Errors
///
/// A rule is broken, or git or cargo cannot say what the repository holds.
pub(crate) fn run() -> Result<()> {
    let repository = Repository::load()?;
    let mut failures = 0;
    for rule in RULES {
        for finding in (rule.check)(&repository) {
            let word = match finding.level {
                Level::Warning => "warning",
                Level::Failure => "error",
            };
            println!("{word}: {finding} [{}: {}]", rule.name, rule.says);
            failures += usize::from(finding.level == Level::Failure);
        }
    }
    if failures > 0 {
        bail!("tidy: {failures} places break a rule");
    }
    println!("tidy: {} rules hold over {} files", RULES.len(), repository.files().count());
    Ok(())
}
