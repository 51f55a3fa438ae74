//! `cargo xtask setup --peers`: the servers that `cargo xtask bench peers` and `bench http` measure beside Rota.
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

/// A Go program that `go install` refuses, since the proxy has no list of its versions or it replaces modules: it is built as
/// what another module needs.
struct GoProgram {
    name: &'static str,
    package: &'static str,
    /// What the other module says of it.
    needs: &'static str,
}

const FAKTORY: GoProgram = GoProgram {
    name: "faktory",
    package: "github.com/contribsys/faktory/cmd/faktory",
    needs: "require github.com/contribsys/faktory v1.9.3\n",
};

const NSQD: GoProgram = GoProgram {
    name: "nsqd",
    package: "github.com/nsqio/nsq/apps/nsqd",
    needs: "require github.com/nsqio/nsq v1.3.0\n\
            replace github.com/judwhite/go-svc => github.com/mreiferson/go-svc v1.2.2-0.20210815184239-7a96e00010f6\n",
};

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
        ("Faktory", FAKTORY.install(&bin)),
        ("nsqd", NSQD.install(&bin)),
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

impl GoProgram {
    fn install(&self, bin: &Path) -> Result<()> {
        let program = bin.join(self.name);
        if program.exists() {
            return Ok(());
        }
        let module = bin.with_file_name(self.name);
        for made in [bin, &module] {
            std::fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        let path = module.join("go.mod");
        let text = format!("module peers\n\ngo 1.21\n\n{}", self.needs);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let mut build = Command::new("go");
        process::run(build.args(["build", "-mod=mod", "-o"]).arg(program).arg(self.package).current_dir(module))
    }
}

/// It asks for a newer compiler than ours, and builds with ours.
fn bstkd(bin: &Path) -> Result<()> {
    let root = bin.parent().expect("it lies below target/peers");
    let arguments = ["install", "bstkd", "--locked", "--ignore-rust-version", "--version", BSTKD, "--root"];
    process::run(process::cargo().args(arguments).arg(root))
}
