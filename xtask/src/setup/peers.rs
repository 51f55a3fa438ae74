//! `cargo xtask setup --peers`: the servers that `cargo xtask bench peers` measures beside Rota.
//!
//! No test needs them, so they are asked for apart. Redis and RabbitMQ are Debian's; the others are built below
//! `target/peers` from their registries. What cannot be had is said, and the bench names it as not measured.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::programs;
use crate::process;

/// The versions that are measured.
const BSTKD: &str = "0.5.2";
const NATS: &str = "github.com/nats-io/nats-server/v2@v2.10.22";

/// Installs what is missing, and says what could not be.
pub(super) fn install() {
    let bin = process::root().join("target/peers/bin");
    let debian = |program: &str, package: &str| match process::find(program) {
        Some(_) => Ok(()),
        None => programs::apt_install(&[package]),
    };
    let results = [
        ("Redis", debian("redis-server", "redis-server")),
        ("RabbitMQ", debian("rabbitmq-server", "rabbitmq-server")),
        ("NATS", if bin.join("nats-server").exists() { Ok(()) } else { nats(&bin) }),
        ("bstkd", if bin.join("beanstalkd-rs").exists() { Ok(()) } else { bstkd(&bin) }),
    ];
    for (name, result) in results {
        match result {
            Ok(()) => println!("setup: {name} is there"),
            Err(error) => println!("setup: {name} is not there and will not be measured: {error:#}"),
        }
    }
}

fn nats(bin: &Path) -> Result<()> {
    std::fs::create_dir_all(bin).with_context(|| format!("cannot make {}", bin.display()))?;
    process::run(Command::new("go").args(["install", NATS]).env("GOBIN", bin))
}

/// It asks for a newer compiler than ours, and builds with ours.
fn bstkd(bin: &Path) -> Result<()> {
    let root = bin.parent().expect("it lies below target/peers");
    let arguments = ["install", "bstkd", "--locked", "--ignore-rust-version", "--version", BSTKD, "--root"];
    process::run(process::cargo().args(arguments).arg(root))
}
