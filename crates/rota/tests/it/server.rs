//! A live server for one test: real beanstalkd or this package's own `rota serve`, on a free loopback port.
//!
//! Every test that needs a server starts its own and drops it at its end; dropping kills the process by its own
//! pid. Nothing here waits for a fixed time: readiness is seen, or a deadline passes and the test fails with what
//! the server wrote to its standard error.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::DEADLINE;

/// A running server, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    beanstalkd: SocketAddr,
    http: Option<SocketAddr>,
    stderr: Arc<Mutex<String>>,
    data: Option<TempDir>,
}

impl Server {
    /// Starts the beanstalkd that is installed on this machine, without a log, on a free loopback port.
    ///
    /// `ROTA_TEST_BEANSTALKD` names another binary than `beanstalkd` on the search path.
    pub(crate) fn beanstalkd() -> Server {
        let binary = std::env::var("ROTA_TEST_BEANSTALKD").unwrap_or_else(|_| "beanstalkd".into());
        // beanstalkd can't be told to choose a port by itself, and a port found free here may be taken by
        // another test before beanstalkd binds it: it exits then, and the next port is tried.
        for _ in 0..20 {
            let address = free_address();
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            let mut child = Command::new(&binary)
                .args(["-l", &host, "-p", &port])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {binary:?} (Debian package beanstalkd): {error}"));
            let stderr = collect(child.stderr.take().expect("stderr is piped"));
            let mut server = Server { child, beanstalkd: address, http: None, stderr, data: None };
            if server.wait_until_it_answers() {
                return server;
            }
        }
        panic!("beanstalkd found no free port in 20 attempts");
    }

    /// Starts `rota serve` with a data directory of its own, no HTTP, and `flags` at the end of its command line
    /// (a flag given again there counts, such as `--http 127.0.0.1:0`).
    pub(crate) fn rota(flags: &[&str]) -> Server {
        let data = TempDir::new().expect("a temporary folder");
        Self::start_rota(data, flags)
    }

    /// Kills the server at once (SIGKILL) and starts `rota serve` with `flags` on the same data directory.
    pub(crate) fn restart_rota(mut self, flags: &[&str]) -> Server {
        let data = self.data.take().expect("only a rota server has a data directory");
        drop(self);
        Self::start_rota(data, flags)
    }

    fn start_rota(data: TempDir, flags: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rota"))
            .args(["serve", "--beanstalkd", "127.0.0.1:0", "--http", "off", "--data"])
            .arg(data.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the rota binary starts");
        let stderr = collect(child.stderr.take().expect("stderr is piped"));
        let ready = lines(child.stdout.take().expect("stdout is piped"));
        let deadline = Instant::now() + DEADLINE;
        loop {
            match ready.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((beanstalkd, http)) = parse_ready_line(&line) {
                        let beanstalkd = beanstalkd.expect("these tests need the beanstalkd front end");
                        return Server { child, beanstalkd, http, stderr, data: Some(data) };
                    }
                }
                Err(reason) => {
                    child.kill().ok();
                    let status = child.wait();
                    let stderr = stderr.lock().expect("the collecting thread does not panic");
                    panic!("rota serve {flags:?} never got ready ({reason}, {status:?}):\n{stderr}");
                }
            }
        }
    }

    /// The address of the beanstalkd protocol.
    pub(crate) fn address(&self) -> SocketAddr {
        self.beanstalkd
    }

    /// The address of HTTP, if this is a rota server started with `--http`.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The address as `--server` and `ROTA_SERVER` take it.
    pub(crate) fn url(&self) -> String {
        format!("beanstalkd://{}", self.beanstalkd)
    }

    /// What the server has written to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("the collecting thread does not panic").clone()
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill starts");
        assert!(sent.success(), "kill -TERM failed: {sent}");
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of this process") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server outlived SIGTERM by {DEADLINE:?}:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// True once this very process answers at its address; false if it ended because the port was taken.
    fn wait_until_it_answers(&mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        let own_pid = format!("\npid: {}\n", self.child.id());
        loop {
            if self.child.try_wait().expect("a child of this process").is_some() {
                assert!(
                    self.stderr().is_empty() || self.stderr().contains("in use"),
                    "beanstalkd ended: {}",
                    self.stderr()
                );
                return false;
            }
            if stats(self.beanstalkd).is_some_and(|text| text.contains(&own_pid)) {
                return true;
            }
            assert!(Instant::now() < deadline, "beanstalkd does not answer at {}", self.beanstalkd);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        let stderr = self.stderr();
        if std::thread::panicking() && !stderr.is_empty() {
            eprintln!("the server wrote:\n{stderr}");
        }
    }
}

/// A loopback address whose port was free a moment ago, and which nobody else takes: each call gives one of another host of
/// this machine's, while all that choose a port by themselves do so on 127.0.0.1.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let [_, high, low, _] = std::process::id().to_be_bytes();
    let given = GIVEN.fetch_add(1, Ordering::Relaxed) % 250 + 2;
    let host = Ipv4Addr::new(127, high | 128, low, given as u8);
    let listener = TcpListener::bind((host, 0)).expect("a free loopback port");
    listener.local_addr().expect("a bound socket has an address")
}

/// Reads `rota VERSION ready: beanstalkd ADDR|off, http ADDR|off`; none if the line is another.
fn parse_ready_line(line: &str) -> Option<(Option<SocketAddr>, Option<SocketAddr>)> {
    let rest = line.strip_prefix(concat!("rota ", env!("CARGO_PKG_VERSION"), " ready: beanstalkd "))?;
    let (beanstalkd, http) = rest.split_once(", http ").unwrap_or_else(|| panic!("a malformed ready line: {line:?}"));
    let address = |text: &str| match text {
        "off" => None,
        text => Some(text.parse().unwrap_or_else(|_| panic!("not an address in the ready line: {line:?}"))),
    };
    Some((address(beanstalkd), address(http)))
}

/// The server's `stats` answer, if it gives one.
fn stats(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.write_all(b"stats\r\nquit\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Collects all that `source` gives, in a thread that ends with it.
fn collect(source: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let mut sink = sink.lock().expect("no reader panics while it holds the lock");
            sink.push_str(&line);
            sink.push('\n');
        }
    });
    text
}

/// The lines of `source` as they come, read to its end so that the writer never blocks.
fn lines(source: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            // Nobody listens any more once the ready line was seen.
            sender.send(line).ok();
        }
    });
    receiver
}
