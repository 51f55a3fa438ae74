//! A real beanstalkd of its own for each transcript: Debian's, or the one that `ROTA_TEST_BEANSTALKD` names.

use super::play::{Received, Server};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long nothing has to come for nothing to count as coming.
pub(super) const SILENCE: Duration = Duration::from_millis(30);

pub(super) struct RealServer {
    child: Child,
    folder: PathBuf,
    quotes_names: bool,
    connections: HashMap<char, UnixStream>,
}

static STARTED: AtomicUsize = AtomicUsize::new(0);

impl RealServer {
    /// Starts one in a temporary folder; it ends with this value.
    pub(super) fn start() -> Result<RealServer, String> {
        let program = std::env::var("ROTA_TEST_BEANSTALKD").unwrap_or_else(|_| "beanstalkd".to_string());
        let hint = |error| format!("can't run {program}: {error}. `cargo xtask setup` installs it");
        let version = Command::new(&program).arg("-v").output().map_err(hint)?.stdout;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("rota-transcripts-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
        let socket = folder.join("socket");
        let child = Command::new(&program)
            .arg("-l")
            .arg(format!("unix:{}", socket.display()))
            .stderr(Stdio::null())
            .spawn()
            .map_err(hint)?;
        let quotes_names = !String::from_utf8_lossy(&version).contains("1.12");
        let server = RealServer { child, folder, quotes_names, connections: HashMap::new() };
        let deadline = Instant::now() + PATIENCE;
        while !socket.exists() {
            if Instant::now() > deadline {
                return Err(format!("{program} did not open {} in {PATIENCE:?}", socket.display()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    fn stream(&mut self, connection: char) -> &mut UnixStream {
        self.connections.get_mut(&connection).expect("the connection is open")
    }
}

impl Server for RealServer {
    fn connect(&mut self, connection: char) {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(self.folder.join("socket")) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "can't connect to beanstalkd: {error}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.connections.insert(connection, stream);
    }

    fn send(&mut self, connection: char, bytes: &[u8]) {
        match self.stream(connection).write_all(bytes) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                panic!("can't send to beanstalkd: {error}")
            }
            _ => {}
        }
    }

    fn receive(&mut self, connection: char, patiently: bool) -> Received {
        let stream = self.stream(connection);
        stream
            .set_read_timeout(Some(if patiently { PATIENCE } else { SILENCE }))
            .expect("a time-out above zero is fine");
        let mut buffer = vec![0; 65536];
        let read = loop {
            match stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => Received::End,
            Ok(length) => {
                buffer.truncate(length);
                Received::Bytes(buffer)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Received::End,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "can't read: {error}");
                Received::Nothing
            }
        }
    }

    fn close(&mut self, connection: char, only_half: bool) {
        if only_half {
            self.stream(connection).shutdown(Shutdown::Write).expect("an open connection can be half-closed");
        } else {
            self.connections.remove(&connection);
        }
    }

    fn advance(&mut self, span: Duration) {
        std::thread::sleep(span);
    }

    fn drain(&mut self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-USR1", &pid]).status().expect("`kill` is part of every system");
        assert!(status.success(), "kill -USR1 {pid}: {status}");
    }

    fn token(&mut self, name: &str, _roles: &str, _queues: Option<&str>) {
        unreachable!("beanstalkd knows no tokens, nor {name}");
    }

    fn revoke(&mut self, name: &str) {
        unreachable!("beanstalkd knows no tokens, nor {name}");
    }

    fn quotes_names(&self) -> bool {
        self.quotes_names
    }

    fn is_rota(&self) -> bool {
        false
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
