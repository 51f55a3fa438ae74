//! Snapshots that are asked for all the time until the server is killed, and what each of them must hold.
//!
//! One that counts as whole must be a store: restored, it has all that was acknowledged before it was asked for and not ended
//! since, and nothing that was sent after it was there. What the kill left of another must not count.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::ledger::{Ledger, Span};
use crate::process::{self, Rota};
use crate::snapshots::{POST, answer, command, objects};

/// Of the snapshots of one server so many are restored, beside the newest.
const RESTORED: usize = 1;

/// A snapshot that was asked for.
struct Asked {
    at: Instant,
    /// When it was answered that it is there, and under which name.
    answered: Option<(Instant, String)>,
}

/// What was found.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Found {
    /// Snapshots that are whole.
    pub(super) whole: u64,
    /// Those of which there is something, and which are not.
    pub(super) unfinished: u64,
    /// Servers that were started from one.
    pub(super) restored: u64,
    /// Jobs that those had.
    pub(super) jobs: u64,
}

impl Found {
    pub(super) fn add(&mut self, more: &Found) {
        self.whole += more.whole;
        self.unfinished += more.unfinished;
        self.restored += more.restored;
        self.jobs += more.jobs;
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { whole, unfinished, restored, jobs } = self;
        write!(f, "{whole} whole snapshots, {unfinished} unfinished ones, {restored} restored, {jobs} jobs in those")
    }
}

/// Asks for one snapshot after the other while `work` goes on, which ends with the end of the server; then looks at what is at
/// `place`, where they go, and empties it.
pub(super) fn while_taken(
    rota: &mut Rota,
    place: &Path,
    ledger: &mut Ledger,
    rng: &mut Rng,
    work: impl FnOnce(&mut Rota, &mut Ledger),
) -> Found {
    let http = rota.http();
    let asked = thread::scope(|scope| {
        let taker = scope.spawn(move || take_all(http));
        work(rota, ledger);
        taker.join().expect("who asks for snapshots failed: see above")
    });
    let ended = Instant::now();
    let found = look(place, &asked, ended, ledger, rng);
    if place.exists() {
        std::fs::remove_dir_all(place).expect("nobody has it any more");
    }
    found
}

/// Asks until nobody answers.
fn take_all(http: SocketAddr) -> Vec<Asked> {
    let mut all = Vec::new();
    loop {
        let at = Instant::now();
        let said = answer(http, POST, "{}");
        let now = Instant::now();
        let whole = said.as_ref().ok().and_then(|said| said.split_once("\r\n\r\n"));
        let whole = whole.filter(|(head, body)| body.ends_with('\n') && !head.starts_with("HTTP/1.1 503 "));
        let Some((head, body)) = whole else {
            // It is killed, or was told to stop just before; or the rest of the answer did not come.
            all.push(Asked { at, answered: None });
            return all;
        };
        assert!(head.starts_with("HTTP/1.1 201 "), "a snapshot was asked for: {said:?}");
        let taken: Value = serde_json::from_str(body).expect("a whole answer");
        let name = taken["name"].as_str().expect("it has a name").to_owned();
        all.push(Asked { at, answered: Some((now, name)) });
    }
}

/// Holds what is there against what was answered, and some of it against the ledger.
fn look(place: &Path, asked: &[Asked], ended: Instant, ledger: &Ledger, rng: &mut Rng) -> Found {
    let address = place.to_str().expect("a path that is text");
    if !place.exists() {
        assert!(asked.iter().all(|asked| asked.answered.is_none()), "snapshots were answered, and none is there");
        return Found::default();
    }
    let is_empty = std::fs::read_dir(place).expect("it is there").next().is_none();
    let listed = if is_empty { Vec::new() } else { objects(command(&["inspect", address, "--json"])) };
    let named = |state: &str| -> Vec<String> {
        let found = listed.iter().filter(|found| found["state"] == state);
        found.map(|found| found["name"].as_str().expect("it has a name").to_owned()).collect()
    };
    let (mut whole, unfinished) = (named("whole"), named("unfinished"));
    assert_eq!(whole.len() + unfinished.len(), listed.len(), "some are neither whole nor unfinished: {listed:?}");
    // One is taken at a time, and the next is asked for when the one before is there.
    assert!(unfinished.len() <= 1, "{listed:?}");
    whole.sort();
    let mut spans = Vec::new();
    for name in &whole {
        let known = asked.iter().find(|asked| asked.answered.as_ref().is_some_and(|(_, known)| known == name));
        // The last one may have become whole, and nobody was told.
        let span = known.or_else(|| asked.last().filter(|asked| asked.answered.is_none()));
        let span = span.unwrap_or_else(|| panic!("nobody asked for {name}: {listed:?}"));
        let until = span.answered.as_ref().map_or(ended, |(answered, _)| *answered);
        spans.push(Span { since: span.at, until });
    }
    for (_, name) in asked.iter().filter_map(|asked| asked.answered.as_ref()) {
        assert!(whole.contains(name), "{name} was answered, and is not whole: {listed:?}");
    }
    let mut found = Found { whole: whole.len() as u64, unfinished: unfinished.len() as u64, ..Found::default() };
    let mut pick: Vec<usize> = (0..RESTORED.min(whole.len())).map(|_| rng.usize(..whole.len())).collect();
    pick.sort_unstable();
    pick.dedup();
    let named = pick.iter().map(|&at| (format!("{address}/{}", whole[at]), spans[at]));
    // Who names the place gets the newest whole one, whatever lies beside it.
    let newest = spans.last().map(|span| (address.to_owned(), *span));
    for (address, span) in named.chain(newest) {
        found.restored += 1;
        found.jobs += restored(&address, span, ledger, rng);
    }
    found
}

/// Starts a server from a snapshot, and holds it against the ledger. Returns how many jobs it had.
fn restored(address: &str, span: Span, ledger: &Ledger, rng: &mut Rng) -> u64 {
    let fresh = TempDir::new().expect("a temporary folder");
    let storage = *rng.choice(["memory", "durable", "lazy", "mapped"].iter()).expect("there are some");
    let rota = Rota::ready(process::on(fresh.path(), &["--storage", storage, "--restore", address]));
    ledger.compare_snapshot(rota.address(), span)
}
