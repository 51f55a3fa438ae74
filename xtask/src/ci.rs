//! `cargo xtask ci`: everything that has to pass before a change lands. `.ci/run` calls it and nothing else.
//!
//! All parts run even when one fails, so that one run shows everything there is to mend. The last line of the output is
//! the count of the tests, and the exit code says whether all parts passed.

use std::process::ExitCode;

use anyhow::Result;

use crate::counts::{self, Counted};
use crate::process::{self, Times};
use crate::{docs, setup, test, tidy};

/// One part of the run before the tests.
type Check = fn() -> Result<()>;

/// Runs all the checks, then all the tests.
///
/// # Errors
///
/// None of a part: a failed part is reported and gives a failing exit code.
pub(crate) fn run() -> Result<ExitCode> {
    let mut times = Times::default();
    let mut failed = Vec::new();
    let checks: [(&str, Check); 5] = [
        ("format", format),
        ("tidy", tidy::run),
        ("lints", lints),
        ("documentation", docs::run),
        ("setup", setup::run),
    ];
    for (name, check) in checks {
        if let Err(error) = times.part(name, check) {
            println!("error: {error:#}");
            failed.push(name);
        }
    }
    // After setup, which installs what it counts with.
    let counted = times.part("counts", || counts::run(false));
    let mut outcome = test::everything(&mut times)?;
    match counted {
        Ok(Counted::Agreed) => {}
        Ok(Counted::NotRun(why)) => outcome.leave_out(format!("the instructions per job: {why}")),
        Err(error) => {
            // Again, behind all that the tests printed.
            println!("error: {error:#}");
            failed.push("counts");
        }
    }
    times.print();
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    outcome.print();
    Ok(if failed.is_empty() && outcome.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names the files; `cargo fmt` mends them.
fn format() -> Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check", "--", "--files-with-diff"]))
}

/// Of the default build, and of what that leaves out.
fn lints() -> Result<()> {
    for features in ["", "rota/otel"] {
        process::run(process::cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            features,
            "--locked",
            "--",
            "--deny",
            "warnings",
        ]))?;
    }
    Ok(())
}
