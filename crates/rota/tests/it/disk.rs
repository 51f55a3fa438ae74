//! File systems of a test's own: small ones, full ones, and ones whose power can be cut.
//!
//! Each is mounted in a mount namespace of its own, which a shell holds. When the shell ends, which it does when its
//! standard input closes, also if this process is killed, the kernel unmounts what is in there and gives back the loop
//! device. Nobody else sees the mount; what is to run on it is started through [`Mounted::inside`].
//!
//! Mounting takes root and a kernel with the file system and with loop devices. Where they are missing, a test says so
//! by [`not_run`] and is counted.

pub(crate) mod device;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::process;

/// A kind of file system, with how it is made and mounted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The least that it is made in, in bytes.
    pub(crate) bytes: u64,
    make: &'static [&'static str],
    mount_options: &'static str,
}

/// All that are tried; which of them a machine has, [`Kind::is_here`] tells.
pub(crate) const KINDS: [Kind; 3] = [
    Kind { name: "ext4", bytes: 1 << 30, make: &["mkfs.ext4", "-q", "-F", "-E", "nodiscard"], mount_options: "" },
    // Copies of one file system are mounted one after the other, all with the name that it got when it was made.
    Kind { name: "xfs", bytes: 1 << 30, make: &["mkfs.xfs", "-q", "-f", "-K"], mount_options: ",nouuid" },
    Kind { name: "btrfs", bytes: 1 << 30, make: &["mkfs.btrfs", "-q", "-f", "-K"], mount_options: ",nodiscard" },
];

impl Kind {
    /// Makes one in a new file; false if its program is missing or fails.
    pub(crate) fn make(&self, file: &Path, bytes: u64) -> bool {
        let made = File::create_new(file).and_then(|file| file.set_len(bytes));
        made.expect("a new file in a temporary folder");
        let mut command = Command::new(self.make[0]);
        command.args(&self.make[1..]).arg(file);
        command.output().is_ok_and(|output| output.status.success())
    }

    /// Mounts one that a file holds; none if this machine can't.
    pub(crate) fn mount(&self, file: &Path) -> Option<Mounted> {
        let options = format!("loop{}", self.mount_options);
        Mounted::mount(&[OsStr::new("-t"), self.name.as_ref(), "-o".as_ref(), options.as_ref(), file.as_os_str()])
    }

    /// One in a new file of so many bytes, made and mounted; none if this machine can't. The file is gone from the
    /// folders already.
    pub(crate) fn mounted(&self, bytes: u64) -> Option<Mounted> {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("disk");
        if self.make(&file, bytes) { self.mount(&file) } else { None }
    }
}

/// A file system of its own, unmounted when it is dropped.
pub(crate) struct Mounted {
    /// Holds the namespace, until its standard input closes.
    holder: Child,
    folder: TempDir,
}

impl Mounted {
    /// A tmpfs with these options; none if this machine can't.
    pub(crate) fn tmpfs(options: &str) -> Option<Mounted> {
        Mounted::mount(&["-t", "tmpfs", "-o", options, "rota-test"].map(OsStr::new))
    }

    /// `mount` with these arguments and a folder behind them.
    fn mount(arguments: &[&OsStr]) -> Option<Mounted> {
        let folder = TempDir::new().expect("a temporary folder");
        let script = r#"mount "$@" || exit 1; for last; do :; done; echo mounted; read -r _; umount "$last""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.args(arguments).arg(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().ok()?;
        let mut said = [0; 8];
        let mounted = holder.stdout.as_mut().expect("it is piped").read_exact(&mut said);
        if mounted.is_ok() && said == *b"mounted\n" {
            return Some(Mounted { holder, folder });
        }
        let output = holder.wait_with_output().expect("a child of this process");
        // For the test's own output, which is shown when it fails.
        println!("mount {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        None
    }

    /// A folder on it, which is not there yet.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `rota serve` with its data on it.
    pub(crate) fn on(&self, flags: &[&str]) -> Command {
        self.inside(&process::on(&self.data(), flags))
    }

    /// The same command, run where this is mounted, with the same pid.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        process::wrapped(&["nsenter", &namespace, "--"], command)
    }

    /// Runs a shell command with this file system as its working directory.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.shell(script).output().expect("nsenter starts")
    }

    /// The same, not waited for.
    #[track_caller]
    pub(crate) fn in_background(&self, script: &str) -> Child {
        let mut shell = self.shell(script);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.spawn().expect("nsenter starts")
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("cd \"$0\" && {script}")]).arg(self.folder.path());
        self.inside(&shell)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

/// Says that a part of a test can't be run here, past what the test runner keeps to itself of a test that passes.
pub(crate) fn not_run(what: &str, why: &str) {
    writeln!(std::io::stderr(), "NOT RUN: 1 part, {what}: {why}").expect("standard error is open");
}
