//! `kill -9` under load over HTTP: what was answered with 2xx is kept, and a put that is sent again until it is answered
//! makes one job, however often the server was killed in between.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::start;
use crate::process::number;

/// Servers that are killed, of each mode.
const CYCLES: u64 = 8;
const CLIENTS: u64 = 4;

/// What clients were told; each job's kind is its own.
#[derive(Default)]
struct Ledger {
    ids: BTreeMap<String, String>,
    /// Kinds of the jobs that were completed, and whether that was answered.
    completed: BTreeMap<String, bool>,
}

#[test]
fn kill_9_loses_nothing_that_was_answered_and_doubles_nothing() {
    let cycles = number("ROTA_KILL_CYCLES").map_or(CYCLES, |cycles| cycles.div_ceil(8));
    thread::scope(|scope| {
        for flags in [
            &["--sync", "always"][..],
            &["--sync", "50ms", "--segment-size", "64KiB", "--history", "0"],
            &["--storage", "lazy", "--segment-size", "64KiB", "--history", "0"],
        ] {
            scope.spawn(move || live(flags, cycles));
        }
    });
}

fn live(flags: &[&str], cycles: u64) {
    let data = TempDir::new().unwrap();
    let (ledger, next) = (Mutex::new(Ledger::default()), AtomicU64::new(1));
    // What each client asked and was not answered.
    let pending: Vec<Mutex<Option<String>>> = (0..CLIENTS).map(|_| Mutex::new(None)).collect();
    for _ in 0..cycles {
        let mut rota = start(&data, flags);
        let (address, is_over) = (rota.http(), AtomicBool::new(false));
        thread::scope(|scope| {
            for pending in &pending {
                let (ledger, next, is_over) = (&ledger, &next, &is_over);
                scope.spawn(move || {
                    let mut pending = pending.lock().unwrap();
                    while !is_over.load(Ordering::Relaxed) && serve_one(address, ledger, next, &mut pending).is_some() {
                    }
                });
            }
            thread::sleep(Duration::from_millis(fastrand::u64(20..150)));
            rota.kill();
            is_over.store(true, Ordering::Relaxed);
        });
    }
    let rota = start(&data, flags);
    let http = Http::to(rota.http());
    for pending in &pending {
        if let Some(kind) = pending.lock().unwrap().take() {
            put(rota.http(), &ledger, &kind).expect("the server is up");
        }
    }
    let mut there = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = http.get(&format!("/v1/jobs?limit=1000{cursor}")).expect(200);
        for job in page["jobs"].as_array().unwrap() {
            let (kind, id) = (text(&job["kind"]), text(&job["id"]));
            assert_eq!(there.insert(kind.clone(), id), None, "{kind} is there twice");
        }
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let ledger = ledger.into_inner().unwrap();
    for (kind, id) in &ledger.ids {
        match ledger.completed.get(kind) {
            Some(true) => assert_eq!(there.get(kind), None, "{kind} was completed"),
            // Nobody knows.
            Some(false) => {}
            None => assert_eq!(there.get(kind), Some(id), "{kind} was put"),
        }
    }
    assert!(there.keys().all(|kind| ledger.ids.contains_key(kind)), "every put was answered in the end");
    eprintln!("{flags:?}: {} puts, {} completed, {} kills", ledger.ids.len(), ledger.completed.len(), cycles);
    assert!(ledger.ids.len() as u64 > cycles);
}

/// A put that is sent until it is answered, and now and then a job reserved and completed. `None` when the server is gone.
fn serve_one(
    address: SocketAddr,
    ledger: &Mutex<Ledger>,
    next: &AtomicU64,
    pending: &mut Option<String>,
) -> Option<()> {
    let kind = pending.take().unwrap_or_else(|| format!("k{}", next.fetch_add(1, Ordering::Relaxed)));
    *pending = Some(kind.clone());
    put(address, ledger, &kind)?;
    *pending = None;
    if fastrand::u8(..3) > 0 {
        return Some(());
    }
    let (status, leases) = ask(address, "/v1/leases", "", &json!({ "queues": ["work"] }).to_string())?;
    assert_eq!(status, 200, "{leases}");
    let Some(lease) = leases["leases"].get(0) else { return Some(()) };
    let (kind, id) = (text(&lease["job"]["kind"]), text(&lease["job"]["id"]));
    {
        let mut ledger = ledger.lock().unwrap();
        let known = ledger.ids.entry(kind.clone()).or_insert_with(|| id.clone());
        assert_eq!(*known, id, "{kind} was handed out under another number");
        let before = ledger.completed.insert(kind.clone(), false);
        assert_ne!(before, Some(true), "{kind} was handed out though it is over");
    }
    let (status, _) = ask(address, &format!("/v1/leases/{}/complete", text(&lease["lease"])), "", "{}")?;
    assert_eq!(status, 200);
    ledger.lock().unwrap().completed.insert(kind, true);
    Some(())
}

fn put(address: SocketAddr, ledger: &Mutex<Ledger>, kind: &str) -> Option<()> {
    let job = json!({ "queue": "work", "kind": kind, "text": "x".repeat(300) });
    let (status, job) = ask(address, "/v1/jobs", &format!("idempotency-key: {kind}\r\n"), &job.to_string())?;
    assert_eq!(status, 201, "{job}");
    let id = text(&job["id"]);
    let mut ledger = ledger.lock().unwrap();
    let known = ledger.ids.entry(kind.to_owned()).or_insert_with(|| id.clone());
    assert_eq!(*known, id, "{kind} was put twice");
    Some(())
}

/// Posts, and reads the answer; `None` if there is none, or not all of it.
fn ask(address: SocketAddr, path: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
    let headers = format!("{headers}content-type: application/json\r\n");
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    stream.write_all(Http::to(address).bytes(&format!("POST {path}"), &headers, body).as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let is_whole = body.ends_with('\n');
    let json = if body.is_empty() { Value::Null } else { serde_json::from_str(body).ok()? };
    is_whole.then_some((status, json))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
