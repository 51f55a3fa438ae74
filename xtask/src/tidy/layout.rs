//! Rules about files as wholes: how long they are, how they open, what they are called.

use super::Finding;
use super::repository::{Repository, has_extension};

const MOST_LINES: usize = 1_200;
const MANY_LINES: usize = 800;

/// What people write and change; lists that tools write (lock files) may have any length.
const CODE: &[&str] = &["rs", "py", "js", "cjs", "mjs", "ts", "go", "sh", "toml", "yml", "yaml"];

/// A page of reference is looked things up in, and may be longer than a file of code that has to be understood.
const PAGES: &[&str] = &["md"];

pub(super) fn size(repository: &Repository) -> Vec<Finding> {
    let judge = |(path, text): (&str, &str)| {
        let lines = text.lines().count();
        if has_extension(path, CODE) && lines > MOST_LINES {
            return Some(Finding::failure(path, None, format!("{lines} lines; split it by noun")));
        }
        let many =
            (has_extension(path, CODE) && lines > MANY_LINES) || (has_extension(path, PAGES) && lines > 2 * MOST_LINES);
        many.then(|| Finding::warning(path, format!("{lines} lines; think of splitting it")))
    };
    repository.files().filter_map(judge).collect()
}

pub(super) fn module_docs(repository: &Repository) -> Vec<Finding> {
    let undocumented = repository.rust_files().filter(|(_, text)| !text.starts_with("//!"));
    undocumented
        .map(|(path, _)| {
            Finding::failure(path, Some(1), "begin with `//!`: what it holds, who calls it, what it must never do")
        })
        .collect()
}

pub(super) fn no_mod_rs(repository: &Repository) -> Vec<Finding> {
    let named = repository.rust_files().filter(|(path, _)| path.ends_with("/mod.rs"));
    named
        .map(|(path, _)| {
            let folder = path.trim_end_matches("/mod.rs");
            Finding::failure(path, None, format!("call it {folder}.rs"))
        })
        .collect()
}
