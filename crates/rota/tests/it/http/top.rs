//! `rota top`: what it prints without a terminal, and what it shows in one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{put, reserve, server, start};
use crate::process::{self, DEADLINE};
use crate::server::free_address;

/// The command, with nothing of this test run's environment.
fn top(http: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = process::rota();
    command.arg("top").args(arguments).args(["--http", &http.to_string()]).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn one_look_is_a_table_or_an_object() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "1");
    put(&http, "2");
    reserve(&http);
    http.post("/v1/jobs", &json!({ "queue": "later", "text": "x", "delay": "1h" })).expect(201);
    http.post("/v1/queues/later/pause", &json!({ "for": "1h" })).expect(200);

    // Without a terminal one table is enough, asked for or not.
    for arguments in [&["--once"][..], &[]] {
        let Output { status, stdout, stderr } = top(http.address(), arguments).output().unwrap();
        assert_eq!((status.code(), text(&stderr).as_str()), (Some(0), ""));
        let said = text(&stdout);
        assert!(said.starts_with("rota ") && !said.contains('\x1b'), "{said}");
        assert!(said.contains("\njobs: 1 ready, 1 held, 1 delayed, 0 buried, 0 blocked; 0 waiting\n"), "{said}");
        let row = |name: &str| {
            let line = said.lines().find(|line| line.split(' ').next() == Some(name)).expect("a line of that queue");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let [work, later] = [row("work"), row("later")];
        assert_eq!((&work[1..7], work[12].as_str()), (&["1", "1", "0", "0", "0", "0"].map(String::from)[..], "-"));
        assert_eq!((&later[1..7], later[12].as_str()), (&["0", "0", "1", "0", "0", "0"].map(String::from)[..], "yes"));
    }

    let look: Value =
        serde_json::from_slice(&top(http.address(), &["--once", "--json"]).output().unwrap().stdout).unwrap();
    assert_eq!((&look["stats"]["totals"]["put"], &look["per_second"]), (&json!(3), &Value::Null));
    let work = look["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "work").unwrap();
    assert_eq!((&work["jobs"]["ready"], &work["totals"]["put"]), (&json!(1), &json!(2)));
}

#[test]
fn objects_go_on_with_rates_and_over_a_server_that_goes_away() {
    let (_data, mut rota, http) = server(&[]);
    let mut command = top(http.address(), &["--json", "--every", "100ms"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["per_second"], Value::Null);
    put(&http, "1");
    // The put is seen by one look, and the rate of that one is not zero.
    let seen = loop {
        let look = next();
        if look["stats"]["totals"]["put"] == 1 {
            break look;
        }
        assert_eq!(look["per_second"]["put"], 0.0);
    };
    assert!(seen["per_second"]["put"].as_f64().unwrap() > 0.0, "{seen}");
    rota.kill();
    let note = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(note, format!("note: no answer from http://{}", http.address()));
    assert_eq!(child.try_wait().unwrap(), None, "it tries again");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nobody_there_and_a_refused_token_end_it() {
    let nobody = free_address();
    let output = top(nobody, &["--once"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.starts_with(&format!("error: no answer from http://{nobody}\n")),
        "{said}"
    );
    let data = TempDir::new().unwrap();
    let token =
        process::rota().args(["token", "create", "--role", "producer", "--data"]).arg(data.path()).output().unwrap();
    let rota = start(&data, &[]);
    let output = top(rota.http(), &["--json"]).env("ROTA_TOKEN", text(&token.stdout).trim()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.starts_with("{\"error\":\"no statistics: "), "{said}");
    // A server is not to be kept busy by being looked at.
    assert_eq!(top(rota.http(), &["--every", "1ms"]).output().unwrap().status.code(), Some(2));
}

/// A command in a terminal of its own.
struct Screen {
    terminal: File,
    /// The side of the command, kept open so that its settings can be looked at.
    inner: OwnedFd,
    child: Child,
    /// What it shows, as a thread reads it: this side sees no end while the other is open.
    shown: Receiver<Vec<u8>>,
    seen: String,
}

impl Screen {
    fn of(mut command: Command, columns: u16, rows: u16) -> Screen {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let inner = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        tcsetwinsize(&inner, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let [stdin, stdout] = [inner.try_clone().unwrap(), inner.try_clone().unwrap()];
        let child = command.env("TERM", "xterm").stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let terminal = File::from(terminal);
        let (send, shown) = channel();
        let mut source = terminal.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut bytes) {
                if send.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Screen { terminal, inner, child, shown, seen: String::new() }
    }

    /// Reads until that was shown after all that was looked for before.
    fn until(&mut self, wanted: &str) {
        loop {
            if let Some(at) = self.seen.find(wanted) {
                self.seen.drain(..at + wanted.len());
                return;
            }
            assert!(self.seen.len() < 1_000_000, "{wanted:?} is not shown: {:?}", &self.seen[..4096]);
            let Ok(bytes) = self.shown.recv_timeout(DEADLINE) else {
                panic!("{wanted:?} is not shown: {:?}, {:?}", self.seen, self.child.try_wait());
            };
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.inner).unwrap().local_modes.contains(rustix::termios::LocalModes::ICANON)
    }
}

#[test]
fn a_terminal_shows_the_queues_until_q_and_is_as_before_then() {
    let (_data, mut rota, http) = server(&[]);
    put(&http, "1");
    let mut screen = Screen::of(top(http.address(), &["--every", "100ms"]), 100, 12);
    screen.until("\x1b[?1049h");
    screen.until("jobs: 1 ready, 0 held");
    screen.until("work");
    assert!(screen.is_raw());
    put(&http, "2");
    screen.until("jobs: 2 ready, 0 held");
    screen.terminal.write_all(b"/other").unwrap();
    screen.until("/other_");
    screen.terminal.write_all(b"\r").unwrap();
    screen.until("0-0 of 0 queues with /other");
    rota.kill();
    screen.until("no answer from http://");
    screen.terminal.write_all(b"q").unwrap();
    screen.until("\x1b[?1049l");
    assert_eq!(screen.child.wait().unwrap().code(), Some(0));
    assert!(!screen.is_raw());
}

#[test]
fn a_signal_from_outside_leaves_the_terminal_as_before() {
    let (_data, _rota, http) = server(&[]);
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130), (Signal::QUIT, 131)] {
        let mut screen = Screen::of(top(http.address(), &[]), 100, 12);
        screen.until("\x1b[?1049h");
        screen.until("jobs: 0 ready, 0 held");
        assert!(screen.is_raw());
        kill_process(Pid::from_child(&screen.child), signal).unwrap();
        screen.until("\x1b[?25h");
        screen.until("\x1b[?1049l");
        assert_eq!(screen.child.wait().unwrap().code(), Some(code));
        assert!(!screen.is_raw());
    }
}
