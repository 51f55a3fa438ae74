//! Snapshots of the real server: taken while it works, killed in the middle, damaged, restored into every mode, in
//! folders and in object stores.
//!
//! Here is what the modules share: asking for a snapshot, running the commands, and looking at all jobs of a server.

mod buckets;
mod damage;
mod http;
mod interrupted;
mod jobs;
mod modes;
mod work;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::process::{self, DEADLINE, Rota};
use crate::wire::{Wire, put_bytes};

/// Commands sent at once where many jobs are put or looked at.
const AT_ONCE: usize = 200;

/// `rota serve` with HTTP on a free port.
fn serve(data: &Path, flags: &[&str]) -> Command {
    process::on(data, &[&["--http", "127.0.0.1:0"], flags].concat())
}

/// A request for a snapshot, as a program sends it.
pub(crate) const POST: &str = "POST /v1/snapshots HTTP/1.1\r\nContent-Type: application/json";

/// Sends a request to the HTTP port; the status, the head and the body of the answer.
#[track_caller]
fn request(address: SocketAddr, head: &str, body: &str) -> (u16, String, String) {
    let answer = answer(address, head, body).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// All that comes back for a request.
pub(crate) fn answer(address: SocketAddr, head: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let length = body.len();
    let head = format!("{head}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks a server that may be killed for a snapshot; whether it answered that it is there.
fn is_taken(http: SocketAddr) -> bool {
    answer(http, POST, "{}").is_ok_and(|answer| answer.starts_with("HTTP/1.1 201"))
}

/// Asks for a snapshot; the status and the answer.
fn try_take(rota: &Rota, request_body: &str) -> (u16, Value) {
    let (status, _, body) = request(rota.http(), POST, request_body);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body:?}")))
}

/// Takes a snapshot to where the server puts them.
#[track_caller]
fn take(rota: &Rota) -> Value {
    let (status, answer) = try_take(rota, "{}");
    assert_eq!(status, 201, "{answer}");
    answer
}

/// What the names of variables begin with that are for clouds.
const CLOUDS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// A command of the binary, with nothing of this test run's environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = process::without(process::rota(), &CLOUDS);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command that has to succeed prints.
#[track_caller]
fn good(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}: {out}{err}");
    out
}

/// The objects that a command prints with `--json`.
#[track_caller]
pub(crate) fn objects(command: Command) -> Vec<Value> {
    good(command).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The folders of snapshots at a place, unfinished ones too.
fn folders(place: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    let mut folders: Vec<PathBuf> = entries.unwrap_or_default();
    folders.sort();
    folders
}

/// What is seen of a job from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    tube: String,
    state: String,
    priority: u64,
    delay: u64,
    ttr: u64,
    body: Vec<u8>,
}

/// Puts jobs with these heads and bodies, many at once; their ids.
fn put_all(wire: &mut Wire, jobs: &[(String, Vec<u8>)]) -> Vec<u64> {
    let mut ids = Vec::new();
    for jobs in jobs.chunks(AT_ONCE) {
        let bytes: Vec<u8> = jobs.iter().flat_map(|(head, body)| put_bytes(head, body)).collect();
        wire.send(bytes).unwrap();
        for _ in jobs {
            let answer = wire.answer().unwrap();
            assert!(answer.line.starts_with("INSERTED "), "{answer:?}");
            ids.push(answer.number(1));
        }
    }
    ids
}

/// Those of the ids that are jobs of a server.
fn see(address: SocketAddr, ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Seen> {
    let mut wire = Wire::to(address);
    let ids: Vec<u64> = ids.into_iter().collect();
    let mut seen = BTreeMap::new();
    for ids in ids.chunks(AT_ONCE) {
        let commands: String = ids.iter().map(|id| format!("peek {id}\r\nstats-job {id}\r\n")).collect();
        wire.send(commands).unwrap();
        for &id in ids {
            let (peeked, stats) = (wire.answer().unwrap(), wire.answer().unwrap());
            if peeked.line == "NOT_FOUND" {
                continue;
            }
            let job = Seen {
                tube: stats.field("tube"),
                state: stats.field("state"),
                priority: stats.count("pri"),
                delay: stats.count("delay"),
                ttr: stats.count("ttr"),
                body: peeked.body,
            };
            seen.insert(id, job);
        }
    }
    seen
}

/// How many jobs a server has.
fn count(address: SocketAddr) -> u64 {
    let stats = Wire::to(address).ask("stats");
    ["ready", "reserved", "delayed", "buried"].iter().map(|state| stats.count(&format!("current-jobs-{state}"))).sum()
}
