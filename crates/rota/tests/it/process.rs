//! A `rota serve` process that a test may start in any way, watch, and stop in any way.
//!
//! [`crate::server::Server`] is the fixture for tests that want a server; this one is for those that want to see it
//! start, fail and die. Whatever happens, the process is gone when the value is dropped, killed by its own pid.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long something may take that is sure to come, before a test says that it hangs. It is no measure of how quick anything is: a
/// machine that has too much to do lets a process stand still for seconds, again and again, and no test may fail by that.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// A process, and what it has said so far.
pub(crate) struct Rota {
    child: Child,
    output: Arc<Output>,
}

/// What it wrote to its standard output and error.
#[derive(Default)]
struct Output {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Default)]
struct Said {
    lines: [Vec<String>; 2],
    ended: [bool; 2],
}

/// The binary, told nothing by this test run's environment.
pub(crate) fn rota() -> Command {
    without(Command::new(env!("CARGO_BIN_EXE_rota")), &["ROTA_"])
}

/// That command, told nothing by those variables of this test run's environment whose names begin so.
pub(crate) fn without(mut command: Command, prefixes: &[&str]) -> Command {
    for (name, _) in std::env::vars_os() {
        if prefixes.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// The binary, told nothing but `serve`.
pub(crate) fn bare() -> Command {
    let mut command = rota();
    command.arg("serve");
    command
}

/// `rota serve` on that data directory and a free port, without HTTP, and then `flags`, which may say otherwise.
pub(crate) fn on(data: &Path, flags: &[&str]) -> Command {
    let mut command = bare();
    command.args(["--beanstalkd", "127.0.0.1:0", "--http", "off", "--data"]);
    command.arg(data).args(flags);
    command
}

/// The same command, run by another one: `wrapper` and its arguments come first.
pub(crate) fn wrapped(wrapper: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

impl Rota {
    /// Starts a command and doesn't wait for anything.
    pub(crate) fn spawn(mut command: Command) -> Rota {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = Arc::new(Output::default());
        collect(0, child.stdout.take().expect("it is piped"), &output);
        collect(1, child.stderr.take().expect("it is piped"), &output);
        Rota { child, output }
    }

    /// Starts a command and waits until it serves.
    #[track_caller]
    pub(crate) fn ready(command: Command) -> Rota {
        let rota = Rota::spawn(command);
        rota.ready_line();
        rota
    }

    /// Runs a command that has to end by itself; its exit code, standard output and standard error.
    #[track_caller]
    pub(crate) fn ended(command: Command) -> (i32, String, String) {
        let mut rota = Rota::spawn(command);
        let status = rota.wait();
        let code = status.code().unwrap_or_else(|| panic!("it was killed: {status}"));
        (code, rota.stdout(), rota.stderr())
    }

    /// Waits until it serves, or has ended without.
    pub(crate) fn comes_up(&mut self) -> bool {
        until("the server serves or ends", || {
            let ended = self.child.try_wait().expect("a child of this process").is_some();
            (ended || self.is_ready()).then_some(())
        });
        self.is_ready()
    }

    /// The line that says where it listens, waited for.
    #[track_caller]
    fn ready_line(&self) -> String {
        let start = concat!("rota ", env!("CARGO_PKG_VERSION"), " ready: ");
        let line = self.line(0, |line| line.starts_with(start));
        line.strip_prefix(start).expect("it was looked for").to_owned()
    }

    #[track_caller]
    fn listener(&self, name: &str) -> SocketAddr {
        let line = self.ready_line();
        let address = line.split(", ").find_map(|listener| listener.strip_prefix(name)?.strip_prefix(' '));
        let address = address.unwrap_or_else(|| panic!("{name} is not named: {line}"));
        address.parse().unwrap_or_else(|_| panic!("{name} is off: {line}"))
    }

    /// Where it speaks the beanstalkd protocol.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener("beanstalkd")
    }

    /// Where it speaks HTTP.
    #[track_caller]
    pub(crate) fn http(&self) -> SocketAddr {
        self.listener("http")
    }

    /// Where it speaks the beanstalkd protocol inside TLS.
    #[track_caller]
    pub(crate) fn beanstalkd_tls(&self) -> SocketAddr {
        self.listener("beanstalkd-tls")
    }

    /// Where it speaks HTTP inside TLS.
    #[track_caller]
    pub(crate) fn http_tls(&self) -> SocketAddr {
        self.listener("http-tls")
    }

    /// Waits for a line of its standard output (0) or error (1).
    #[track_caller]
    pub(crate) fn line(&self, stream: usize, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut said = self.output.said.lock().expect("no reader panics");
        loop {
            if let Some(line) = said.lines[stream].iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !said.ended[stream] && !left.is_zero(),
                "the line never came; stdout {:?}, stderr {:?}",
                said.lines[0],
                said.lines[1]
            );
            said = self.output.changed.wait_timeout(said, left).expect("no reader panics").0;
        }
    }

    /// Whether it has said that it serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.stdout().contains(" ready: ")
    }

    pub(crate) fn stdout(&self) -> String {
        self.text(0)
    }

    pub(crate) fn stderr(&self) -> String {
        self.text(1)
    }

    fn text(&self, stream: usize) -> String {
        let said = self.output.said.lock().expect("no reader panics");
        said.lines[stream].iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has in RAM, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        kib.expect("Linux tells it in kB").trim().parse::<u64>().expect("a number") << 10
    }

    /// Kills it at once: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child of this process");
        self.wait();
    }

    /// Sends it a signal by name: `TERM`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.expect("kill starts").success(), "kill -{name} failed");
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until it has ended and all that it said was read.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        let status = until("the process ends", || self.child.try_wait().expect("a child of this process"));
        let mut said = self.output.said.lock().expect("no reader panics");
        while said.ended != [true, true] {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "somebody else has its standard output");
            said = self.output.changed.wait_timeout(said, left).expect("no reader panics").0;
        }
        status
    }
}

impl Drop for Rota {
    fn drop(&mut self) {
        // A stopped process dies of it too. Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Looks again and again until there is something, or the test fails.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What comes of something that has to happen within a span of time, which it is given. On a machine that is too busy for that, which it
/// says by `None`, it is tried with a longer one: whatever became of it says nothing then.
#[track_caller]
pub(crate) fn with_time<T>(shortest: Duration, part: impl FnMut(Duration) -> Option<T>) -> T {
    let mut spans = [1, 4, 16, 64, 256].into_iter().map(|times| shortest * times);
    spans.find_map(part).expect("this machine does in minutes what should take no time")
}

/// How long to wait before a kill that is to come in the middle of something, by how those before it came: how long that takes is not the
/// same twice.
pub(crate) struct Aim {
    takes: Duration,
}

impl Aim {
    /// At something that took so long.
    pub(crate) fn at(takes: Duration) -> Aim {
        Aim { takes }
    }

    pub(crate) fn wait(&self) {
        std::thread::sleep(self.takes.mul_f64(1.1 * fastrand::f64()));
    }

    /// The last one came when it was over.
    pub(crate) fn came_late(&mut self) {
        self.takes = self.takes.mul_f64(0.9).max(Duration::from_millis(1));
    }

    /// The last one came before there was anything of it.
    pub(crate) fn came_early(&mut self) {
        self.takes = self.takes.mul_f64(1.2);
    }
}

/// Reads all that comes, in a thread that ends with it.
fn collect(stream: usize, source: impl Read + Send + 'static, output: &Arc<Output>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let tell = |change: &dyn Fn(&mut Said)| {
            change(&mut output.said.lock().expect("no reader panics"));
            output.changed.notify_all();
        };
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            tell(&|said| said.lines[stream].push(line.clone()));
        }
        tell(&|said| said.ended[stream] = true);
    });
}

/// A number that the environment gives this test run, if it does.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}
