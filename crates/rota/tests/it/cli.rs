//! The command line as its users see it: what is printed, where, and the exit code.
//!
//! Here is what runs the binary; the modules hold the tests. A scenario runs against real beanstalkd and against
//! rota's own server, and must print the same. Each test has a server of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::process;
use crate::server::Server;

const ROTA: &str = env!("CARGO_BIN_EXE_rota");

/// Tests for each scenario on each of the servers.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod on_beanstalkd {
            use crate::server::Server;
            $(#[test] fn $name() { super::$name(&Server::beanstalkd()); })*
        }
        mod on_rota {
            use crate::server::Server;
            $(#[test] fn $name() { super::$name(&Server::rota(&[])); })*
        }
    };
}

mod beanstalkd_only;
mod bench;
mod exec;
mod job;
mod queue;
mod rota_only;
mod usage;

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn expect(self, code: i32, out: &str, err: &str) {
        let expected = Run { code, out: out.to_owned(), err: err.to_owned() };
        assert_eq!(self, expected);
    }

    /// What was printed, if the command succeeded and had nothing to complain about.
    #[track_caller]
    fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// The objects that were printed, a line each.
    #[track_caller]
    fn objects(self) -> Vec<Value> {
        self.good().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one object that was printed.
    #[track_caller]
    fn object(self) -> Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The binary, with nothing of this test run's environment that it would look at.
fn command(arguments: &[&str]) -> Command {
    let mut command = process::rota();
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs rota without a server.
fn alone(arguments: &[&str]) -> Run {
    command(arguments).output().unwrap().into()
}

/// Runs rota on a server, which it is told by the environment.
fn rota(server: &Server, arguments: &[&str]) -> Run {
    command(arguments).env("ROTA_SERVER", server.url()).output().unwrap().into()
}

/// Runs rota on a server with something to read.
fn rota_reading(server: &Server, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(arguments);
    command.env("ROTA_SERVER", server.url()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Puts a job and gives its id.
#[track_caller]
fn put(server: &Server, arguments: &[&str]) -> String {
    let out = rota(server, &[&["put"], arguments].concat()).good();
    let id = out.trim_end().to_owned();
    assert_eq!(out, format!("{}\n", id.parse::<u64>().unwrap()));
    id
}

/// One number of a queue as `rota list` has it.
fn listed(server: &Server, queue: &str, field: &str) -> u64 {
    let run = rota(server, &["list", "--json", queue]);
    match run.code {
        3 => 0,
        _ => run.object()[field].as_u64().unwrap(),
    }
}

/// Looks until `condition` holds.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    process::until(what, || condition().then_some(()));
}

/// Sends commands of the protocol over a new connection; the answer lines are given, each checked by its beginning.
#[track_caller]
fn speak(server: &Server, dialogue: &[(&str, &str)]) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for (command, expected) in dialogue {
        (&stream).write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        assert!(answer.starts_with(expected), "{command:?} was answered with {answer:?}");
        if answer.starts_with("RESERVED") {
            reader.read_line(&mut answer).unwrap();
        }
    }
    stream
}
