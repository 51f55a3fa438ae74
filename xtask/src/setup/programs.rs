//! The programs that the tests start, and the Debian packages that hold them.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Missing;
use crate::process;

/// Something to run, with how to find out whether it is there.
struct Program {
    name: &'static str,
    package: &'static str,
    what_for: &'static str,
    /// Ends with success if the program is there and complete.
    probe: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "beanstalkd",
        package: "beanstalkd",
        what_for: "the server whose answers ours are compared with",
        probe: &["beanstalkd", "-v"],
    },
    Program {
        name: "python3 with venv",
        package: "python3-venv",
        what_for: "the clients greenstalk and pystalk, the emulator moto",
        probe: &["python3", "-c", "import venv, ensurepip"],
    },
    Program {
        name: "node",
        package: "nodejs",
        what_for: "the clients jackd and fivebeans, the emulator azurite",
        probe: &["node", "--version"],
    },
    Program {
        name: "npm",
        package: "npm",
        what_for: "installing jackd, fivebeans and azurite",
        probe: &["npm", "--version"],
    },
    Program {
        name: "go",
        package: "golang-go",
        what_for: "the client go-beanstalk, the emulator fake-gcs-server",
        probe: &["go", "version"],
    },
    Program {
        name: "strace",
        package: "strace",
        what_for: "system calls that fail on purpose",
        probe: &["strace", "--version"],
    },
    Program {
        name: "valgrind",
        package: "valgrind",
        what_for: "counting instructions",
        probe: &["valgrind", "--version"],
    },
    Program {
        name: "mkfs.ext4",
        package: "e2fsprogs",
        what_for: "power cuts and full disks",
        probe: &["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; mkfs.ext4 -V"],
    },
    Program {
        name: "mkfs.xfs",
        package: "xfsprogs",
        what_for: "power cuts",
        probe: &["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; mkfs.xfs -V"],
    },
    Program {
        name: "mkfs.btrfs",
        package: "btrfs-progs",
        what_for: "power cuts",
        probe: &["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; mkfs.btrfs --version"],
    },
];

/// Installs the packages of programs that are not there; gives what is missing afterwards.
pub(super) fn install() -> Vec<Missing> {
    let absent: Vec<&Program> = PROGRAMS.iter().filter(|program| !is_there(program)).collect();
    if absent.is_empty() {
        return Vec::new();
    }
    let packages: Vec<&str> = absent.iter().map(|program| program.package).collect();
    let failure = match apt_install(&packages) {
        Ok(()) => String::new(),
        Err(error) => format!(" ({error:#})"),
    };
    let missing = absent.into_iter().filter(|program| !is_there(program));
    missing
        .map(|program| Missing {
            what: format!("{}: {}{failure}", program.name, program.what_for),
            remedy: format!(
                "as root: apt-get install {}; elsewhere, put `{}` on the PATH",
                program.package,
                program.name.split(' ').next().unwrap_or(program.name)
            ),
        })
        .collect()
}

fn is_there(program: &Program) -> bool {
    let mut command = Command::new(program.probe[0]);
    command.args(&program.probe[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Installs Debian's packages, and keeps their services from starting.
///
/// # Errors
///
/// There is no apt here, this does not run as root, or apt fails.
pub(super) fn apt_install(packages: &[&str]) -> Result<()> {
    process::find("apt-get").context("there is no apt-get here")?;
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("not running as root, so nothing was installed");
    }
    let _guard = NoServices::forbid()?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        process::run(apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()))
    };
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--yes", "--quiet", "--no-install-recommends"], packages].concat())
}

/// Keeps packages from starting services while they are installed: beanstalkd's would take the port that is Rota's too.
///
/// That is what `/usr/sbin/policy-rc.d` is for; one that the machine already has is left as it is.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn forbid() -> Result<NoServices> {
        if Path::new(POLICY).exists() {
            return Ok(NoServices { ours: false });
        }
        let write = || -> std::io::Result<()> {
            let mut file = File::create_new(POLICY)?;
            file.write_all(b"#!/bin/sh\nexit 101\n")?;
            file.set_permissions(Permissions::from_mode(0o755))
        };
        write().with_context(|| format!("cannot write {POLICY}"))?;
        Ok(NoServices { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            println!("warning: cannot remove {POLICY}, which keeps packages from starting services: {error}");
        }
    }
}
