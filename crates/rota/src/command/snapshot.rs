//! `rota snapshot`: has the running server take one, through its HTTP port, and waits until it is whole.

use std::process::ExitCode;

use serde_json::json;

use super::http;
use crate::cli::{Global, SnapshotArgs};
use crate::report::{self, Failure};
use crate::snapshot::address::{Address, AddressError};

/// A place as it was typed, which an error does not repeat: it may hold credentials.
pub(super) fn place(text: &str) -> Result<Address, Failure> {
    text.parse().map_err(|error: AddressError| Failure::wrong_usage(format!("ADDRESS: {error}")))
}

pub(crate) fn run(global: &Global, args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    // Relative to where this command runs, and not to where the server does.
    let to = args.to.as_deref().map(place).transpose()?.map(|to| to.absolute().to_string());
    let client = http::client(global, &args.server)?;
    let taken = client.snapshot(to.as_deref()).map_err(|error| http::failure(&error, "no snapshot was taken"))?;
    let shown = || format!("{}: {} jobs, {} bytes, at {}", taken.name, taken.jobs, taken.bytes, taken.address);
    let object = json!({ "name": taken.name, "jobs": taken.jobs, "bytes": taken.bytes, "address": taken.address });
    report::line(global.json, shown, object)?;
    Ok(ExitCode::SUCCESS)
}
