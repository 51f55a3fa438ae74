//! `rota completions`: a script that teaches a shell what can be typed.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::report;

pub(crate) fn run(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rota", &mut script);
    report::raw(&script)?;
    Ok(ExitCode::SUCCESS)
}
