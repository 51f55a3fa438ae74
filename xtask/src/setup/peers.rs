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

/// A Go program that the proxy gives by its exact version alone, not by a list of them, as `go install` wants it.
struct GoProgram {
    name: &'static str,
    package: &'static str,
    /// What its module needs, one at a time. What another module replaces is replaced there alone, so it is said again.
    needs: &'static str,
    /// The packages that it takes from others.
    imports: &'static [&'static str],
}

const FAKTORY: GoProgram = GoProgram {
    name: "faktory",
    package: "github.com/contribsys/faktory/cmd/faktory",
    needs: "require github.com/contribsys/faktory v1.9.3\n",
    imports: &["github.com/contribsys/faktory/cli", "github.com/contribsys/faktory/webui"],
};

const NSQD: GoProgram = GoProgram {
    name: "nsqd",
    package: "github.com/nsqio/nsq/apps/nsqd",
    needs: "require github.com/nsqio/nsq v1.3.0\n\
            replace github.com/judwhite/go-svc => github.com/mreiferson/go-svc v1.2.2-0.20210815184239-7a96e00010f6\n",
    imports: &[
        "github.com/nsqio/nsq/nsqd",
        "github.com/BurntSushi/toml",
        "github.com/judwhite/go-svc",
        "github.com/mreiferson/go-options",
    ],
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
        let module = bin.parent().expect("it lies below target/peers").join(self.name);
        std::fs::create_dir_all(&module).with_context(|| format!("cannot make {}", module.display()))?;
        let imports: String = self.imports.iter().map(|package| format!("import _ {package:?}\n")).collect();
        let files = [
            ("go.mod", format!("module peer\n\ngo 1.21\n\n{}", self.needs)),
            ("main.go", format!("package main\n\n{imports}\nfunc main() {{}}\n")),
        ];
        for (name, text) in files {
            let path = module.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let go = |arguments: &[&str]| {
            process::run(Command::new("go").args(arguments).current_dir(&module).env("GOFLAGS", "-mod=mod"))
        };
        go(&["mod", "tidy"])?;
        let program = program.to_str().context("the path of the checkout is not UTF-8")?;
        go(&["build", "-o", program, self.package])
    }
}

/// It asks for a newer compiler than ours, and builds with ours.
fn bstkd(bin: &Path) -> Result<()> {
    let root = bin.parent().expect("it lies below target/peers");
    let arguments = ["install", "bstkd", "--locked", "--ignore-rust-version", "--version", BSTKD, "--root"];
    process::run(process::cargo().args(arguments).arg(root))
}
