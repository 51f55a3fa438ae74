//! Rules about words in Rust code. They look at text, not at meaning: the compiler and clippy check the same ground more
//! exactly where they can, and these rules also see what a `#[allow]` would hide from them.

use super::Finding;
use super::repository::Repository;
use super::source::{code_only, code_outside_tests, lines_with_word};

/// The files that may hold `unsafe` code, each with its reason beside it. There is none.
const MAY_BE_UNSAFE: &[&str] = &[];

/// What would make the engine's steps depend on something other than its input.
const NOT_IN_ENGINE: &[&str] = &[
    "std::net",
    "thread::Builder",
    "thread::park",
    "thread::scope",
    "thread::sleep",
    "thread::spawn",
    "Instant::now",
    "SystemTime::now",
    "RandomState",
];

pub(super) fn no_unsafe(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.rust_files().filter(|(path, _)| !MAY_BE_UNSAFE.contains(path)) {
        let code = code_only(text);
        for word in ["unsafe", "unsafe_code"] {
            for line in lines_with_word(&code, word) {
                findings.push(Finding::failure(
                    path,
                    Some(line),
                    format!("`{word}`; the list of files that may is in xtask/src/tidy/code.rs"),
                ));
            }
        }
    }
    findings
}

pub(super) fn no_unwrap(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.rust_files().filter(|(path, _)| is_program(path)) {
        for (number, line) in code_outside_tests(text).lines().enumerate() {
            if line.contains(".unwrap()") {
                let message = "`unwrap()`; return the error, or say with `expect` why it cannot be";
                findings.push(Finding::failure(path, Some(number + 1), message));
            }
        }
    }
    findings
}

pub(super) fn quiet_engine(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    let engine = repository.rust_files().filter(|(path, _)| path.starts_with("crates/rota-engine/src/"));
    for (path, text) in engine.filter(|(path, _)| is_program(path)) {
        let code = code_outside_tests(text);
        for word in NOT_IN_ENGINE {
            for line in lines_with_word(&code, word) {
                findings.push(Finding::failure(
                    path,
                    Some(line),
                    format!("`{word}`: the engine is told, it never asks"),
                ));
            }
        }
    }
    findings
}

/// Whether the file is part of a library or program, and not of its tests.
fn is_program(path: &str) -> bool {
    let mut parts = path.split('/');
    path.contains("src/") && parts.all(|part| part != "tests" && part != "tests.rs")
}
