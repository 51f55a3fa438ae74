//! What the tests run from other languages' registries: clients of beanstalkd, below `target/clients`, clients of the HTTP
//! API, below `target/api`, and emulators of object stores, below `target/emulators`. Nothing goes into the system.
//!
//! `README.md` in `crates/rota/tests/clients`, `api` and `emulators` beside it says what goes where; the tests look
//! there, whatever Cargo's target directory is. The last file of an installation is written when it is complete, so an
//! interrupted one is made anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Missing;
use crate::process;

/// The programs of one language, and how they are installed.
struct Group {
    name: &'static str,
    /// The folder below `crates/rota/tests` that describes them, and the one below `target` that gets them.
    folder: &'static str,
    registry: &'static str,
    install: fn(&Places) -> Result<()>,
}

const GROUPS: &[Group] = &[
    Group { name: "greenstalk and pystalk", folder: "clients", registry: PYPI, install: python },
    Group { name: "jackd and fivebeans", folder: "clients", registry: NPM, install: node },
    Group { name: "go-beanstalk", folder: "clients", registry: GO, install: |places| go(places, "go-client") },
    Group { name: "requests and schemathesis", folder: "api", registry: PYPI, install: python },
    Group { name: "moto (Amazon S3)", folder: "emulators", registry: PYPI, install: python },
    Group { name: "azurite (Azure Blob Storage)", folder: "emulators", registry: NPM, install: node },
    Group {
        name: "fake-gcs-server (Google Cloud Storage)",
        folder: "emulators",
        registry: GO,
        install: |places| go(places, "gcs"),
    },
];

const PYPI: &str = "PyPI (https://pypi.org)";
const NPM: &str = "npm (https://registry.npmjs.org)";
const GO: &str = "the Go module proxy (https://proxy.golang.org)";

/// Where programs are described and where they are installed.
struct Places {
    sources: PathBuf,
    installed: PathBuf,
}

/// Installs all groups, side by side, since most of the time is spent waiting; gives those that could not be.
pub(super) fn install() -> Vec<Missing> {
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = GROUPS.iter().map(|group| scope.spawn(|| install_group(group))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an installation returns its errors")).collect::<Vec<_>>()
    });
    let missing = GROUPS.iter().zip(results).filter_map(|(group, result)| {
        let error = result.err()?;
        Some(Missing {
            what: format!("{}: {error:#}", group.name),
            remedy: format!("this needs {} within reach, and the program named above", group.registry),
        })
    });
    missing.collect()
}

fn install_group(group: &Group) -> Result<()> {
    (group.install)(&Places {
        sources: process::root().join("crates/rota/tests").join(group.folder),
        installed: process::root().join("target").join(group.folder),
    })
}

fn python(places: &Places) -> Result<()> {
    let wanted = places.sources.join("python/requirements.txt");
    let venv = places.installed.join("venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    if python.exists() && same(&wanted, &stamp)? {
        return Ok(());
    }
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    process::run(Command::new(&python).args(pip).arg(&wanted))?;
    copy(&wanted, &stamp)
}

fn node(places: &Places) -> Result<()> {
    let (wanted, home) = (places.sources.join("node"), places.installed.join("node"));
    let complete = home.join("node_modules/.package-lock.json").exists();
    if complete && same(&wanted.join("package-lock.json"), &home.join("package-lock.json"))? {
        return Ok(());
    }
    std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    for file in ["package.json", "package-lock.json"] {
        copy(&wanted.join(file), &home.join(file))?;
    }
    process::run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&home))
}

/// Always built: Go knows best what has changed, and takes a moment when nothing has.
fn go(places: &Places, program: &str) -> Result<()> {
    std::fs::create_dir_all(&places.installed)
        .with_context(|| format!("cannot make {}", places.installed.display()))?;
    let mut go = Command::new("go");
    go.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(places.installed.join(program)).arg(".");
    process::run(go.current_dir(places.sources.join("go")))
}

/// Whether the installed copy is there and holds what is wanted now.
fn same(wanted: &Path, installed: &Path) -> Result<bool> {
    let wanted = std::fs::read(wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    Ok(std::fs::read(installed).is_ok_and(|installed| installed == wanted))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
