//! `cargo xtask docs`: the API documentation of every crate of ours, where a warning is an error.

use anyhow::Result;

use crate::process;

/// Builds the documentation into the target directory.
///
/// # Errors
///
/// A warning of rustdoc, for example a link that leads nowhere, or code that does not compile.
pub(crate) fn run() -> Result<()> {
    process::run(
        process::cargo().args(["doc", "--no-deps", "--workspace", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"),
    )
}
