//! System calls that fail on purpose: strace between a server and its kernel.
//!
//! Needs the program `strace` and a kernel that lets a process trace its children; `cargo xtask setup` installs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process;

/// The same command under strace, with these expressions of its `-e`, and the same pid: the tracer is a grandchild.
pub(crate) fn injecting(command: &Command, expressions: &[&str]) -> Command {
    traced(command, Path::new("/dev/null"), expressions, &[])
}

/// The same, with a record of the calls that `expressions` choose; if there are `paths`, of those on them alone.
pub(crate) fn traced(command: &Command, record: &Path, expressions: &[&str], paths: &[PathBuf]) -> Command {
    let text = |path: &'_ Path| path.to_str().expect("a temporary folder has a plain name").to_owned();
    let mut wrapper = ["strace", "-D", "-f", "-qq", "-o"].map(String::from).to_vec();
    wrapper.push(text(record));
    wrapper.extend(expressions.iter().flat_map(|expression| ["-e".into(), (*expression).into()]));
    wrapper.extend(paths.iter().flat_map(|path| ["-P".into(), text(path)]));
    wrapper.push("--".into());
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    process::wrapped(&wrapper, command)
}

/// Whether this machine lets one process trace another.
pub(crate) fn is_here() -> bool {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "--", "true"]).stdin(Stdio::null());
    command.output().is_ok_and(|output| output.status.success())
}
