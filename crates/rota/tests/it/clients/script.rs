//! Running one client's script against one server: how each language is started, and what is missing when it can't be.
//!
//! The clients are installed by `cargo xtask setup` below `target/clients` of the workspace; nothing is installed here.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a script may take. It takes seconds, but shares the machine with all the others, and each of its own waits may be as
/// long as that of any test.
const DEADLINE: Duration = Duration::from_secs(1_200);

/// A client's walk through its commands.
pub(super) enum Script {
    /// A file of `tests/clients/python`.
    Python(&'static str),
    /// A file of `tests/clients/node`.
    Node(&'static str),
    /// The program of `tests/clients/go`.
    Go,
    /// A function of this process, which prints its steps by the given function.
    Rust(fn(SocketAddr, &mut dyn FnMut(String))),
}

/// What a script printed, and how it ended.
pub(super) struct Output {
    /// The lines, without their ends.
    pub(super) lines: Vec<String>,
    /// Why it is not a whole run; none after a good end.
    pub(super) failure: Option<String>,
}

impl Script {
    /// Runs the script to its end.
    ///
    /// # Panics
    ///
    /// If the client is not installed, or not as its files in the repository say now.
    pub(super) fn run(&self, server: SocketAddr) -> Output {
        match self {
            Script::Rust(walk) => in_a_thread(*walk, server),
            _ => as_a_process(self.command(), server),
        }
    }

    fn command(&self) -> Command {
        match self {
            Script::Python(file) => {
                let venv = installed("venv");
                same(&source("python/requirements.txt"), &venv.join("requirements.txt"));
                let mut command = Command::new(venv.join("bin/python"));
                command.arg("-B").arg(source("python").join(file));
                command
            }
            Script::Node(file) => {
                let home = installed("node");
                same(&source("node/package-lock.json"), &home.join("package-lock.json"));
                let modules = home.join("node_modules");
                present(&modules.join(".package-lock.json"));
                let mut command = Command::new("node");
                // fivebeans uses a constructor that Node would rather not see.
                command.arg("--no-deprecation").arg(source("node").join(file)).env("NODE_PATH", modules);
                command
            }
            Script::Go => {
                let program = installed("go-client");
                newer(&program, &source("go"));
                Command::new(program)
            }
            Script::Rust(_) => unreachable!("a Rust client is no process"),
        }
    }
}

fn as_a_process(mut command: Command, server: SocketAddr) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command.arg(server.ip().to_string()).arg(server.port().to_string());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program} ({error}): run cargo xtask setup"));
    let stdout = read(child.stdout.take().expect("stdout is piped"));
    let stderr = read(child.stderr.take().expect("stderr is piped"));
    let end = wait(&mut child);
    let lines = stdout.join().expect("reading does not panic");
    let stderr = stderr.join().expect("reading does not panic");
    let failure = end.err().map(|reason| format!("{reason}; it wrote to stderr:\n{stderr}"));
    Output { lines: lines.lines().map(str::to_owned).collect(), failure }
}

/// Waits for a good end; kills the process when its time is over.
fn wait(child: &mut Child) -> Result<(), String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match child.try_wait().expect("a child of this process") {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the script ended with {status}")),
            None if Instant::now() > deadline => {
                child.kill().ok();
                child.wait().ok();
                return Err(format!("the script did not end within {DEADLINE:?} and was killed"));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn read(mut source: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is kept, and tells more than the error.
        source.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// `beanstalkc` has no time-out for an answer: a walk that hangs in one is left to its thread, which ends when the
/// server does.
fn in_a_thread(walk: fn(SocketAddr, &mut dyn FnMut(String)), server: SocketAddr) -> Output {
    let (sender, lines) = mpsc::channel();
    let walker = std::thread::spawn(move || walk(server, &mut |line| drop(sender.send(line))));
    let deadline = Instant::now() + DEADLINE;
    let mut output = Output { lines: Vec::new(), failure: None };
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => output.lines.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                output.failure = Some(format!("the walk did not end within {DEADLINE:?}"));
                return output;
            }
        }
    }
    if let Err(panic) = walker.join() {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        output.failure = Some(format!("the walk panicked: {}", text.unwrap_or("without a text")));
    }
    output
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// A path below the folder that `cargo xtask setup` fills; it does not depend on where Cargo builds.
fn installed(path: &str) -> PathBuf {
    workspace().join("target/clients").join(path)
}

fn present(path: &Path) {
    assert!(path.exists(), "{} is missing: run cargo xtask setup", path.display());
}

fn same(wanted: &Path, installed: &Path) {
    present(installed);
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        read(wanted) == read(installed),
        "{} is not what {} says now: run cargo xtask setup",
        installed.display(),
        wanted.display(),
    );
}

/// The program must be no older than its sources: it is built by setup and not by Cargo.
fn newer(program: &Path, sources: &Path) {
    present(program);
    let time = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let built = time(program);
    for entry in std::fs::read_dir(sources).expect("the sources are part of the repository") {
        let path = entry.expect("a readable folder").path();
        assert!(time(&path) <= built, "{} is newer than its program: run cargo xtask setup", path.display());
    }
}
