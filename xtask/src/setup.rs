//! `cargo xtask setup`: what the tests need beside Rust.
//!
//! Programs come from Debian ([`programs`]), clients of beanstalkd and emulators of object stores from their languages'
//! registries ([`clients`]). Servers that are only measured are apart ([`peers`]).
//! What is there already is left alone, so that a second run takes a moment. Nothing is installed outside of `target/`
//! but Debian's packages, and these only where a program is missing and this runs as root. Everything that is missing is
//! said at once, each with how to get it.

mod clients;
mod peers;
mod programs;

use anyhow::{Result, bail};

/// What `cargo xtask setup` does with its arguments: [`run`], or with `--peers` the servers of `cargo xtask bench peers`.
///
/// # Errors
///
/// As for [`run`], or another argument. That a peer cannot be had is only said.
pub(crate) fn asked_for(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => run(),
        [word] if word == "--peers" => {
            peers::install();
            Ok(())
        }
        _ => bail!("`cargo xtask setup` takes nothing but --peers"),
    }
}

/// Installs what is missing.
///
/// # Errors
///
/// Something is missing in the end; the message names all of it.
pub(crate) fn run() -> Result<()> {
    let mut missing = programs::install();
    missing.extend(clients::install());
    if missing.is_empty() {
        println!("setup: everything that the tests need is there");
        return Ok(());
    }
    let list: Vec<String> =
        missing.iter().map(|Missing { what, remedy }| format!("\n  - {what}\n    {remedy}")).collect();
    bail!("the tests need what is not there:{}", list.concat())
}

/// One thing that the tests need and that could not be had.
struct Missing {
    what: String,
    /// What the reader can do.
    remedy: String,
}
