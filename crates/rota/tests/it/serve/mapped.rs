//! `--storage mapped`: jobs far ahead leave memory, and nobody notices but by the memory.

mod moments;

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::metrics::get;
use crate::process::{Rota, on, until, with_time};
use crate::wire::{Wire, batch_bytes};

/// The mode, and what goes with it, come first.
const FLAGS: [&str; 12] = [
    "--storage",
    "mapped",
    "--near",
    "1s",
    "--segment-size",
    "64KiB",
    "--history",
    "0",
    "--sync",
    "never",
    "--http",
    "127.0.0.1:0",
];

/// Puts jobs an hour and more ahead, each a second behind the one before, into the tube `far`, and waits until they left
/// memory, all but the newest. Every third has a key.
pub(super) fn with_far_jobs(data: &Path, jobs: u64) -> (Rota, Wire) {
    filled(Rota::ready(on(data, &FLAGS)), jobs, put)
}

/// The most jobs that stay in memory since nothing has their segment reclaimed: as many as a segment of the log holds, with some
/// 190 bytes for each.
const STAY: u64 = 400;

/// The same on a server that runs; `put` is the put of each.
fn filled(rota: Rota, jobs: u64, put: impl Fn(u64) -> Vec<u8>) -> (Rota, Wire) {
    let mut wire = Wire::to(rota.address());
    wire.expect("use far", "USING far");
    for first in (1..=jobs).step_by(100) {
        let batch = first..(first + 100).min(jobs + 1);
        let puts: Vec<u8> = batch.clone().flat_map(&put).collect();
        wire.send(&puts).unwrap();
        for job in batch {
            assert_eq!(wire.answer().unwrap().line, format!("INSERTED {job}"));
        }
    }
    they_leave(&rota, jobs);
    (rota, wire)
}

/// Waits until so many jobs are not in memory, but for those that may stay. That is sure to come about, also once more behind a start:
/// that has those in memory whose segment its log still begins with, as that of a server that was killed in the middle of
/// reclaiming does.
#[track_caller]
fn they_leave(rota: &Rota, jobs: u64) {
    until("most of them leave memory", || (not_in_memory(rota) >= jobs - STAY).then_some(()));
}

/// How far jobs are ahead, at the least, that leave memory before their time comes: see [`with_time`].
const AHEAD: Duration = Duration::from_secs(6);

/// Waits until more than so many jobs are not in memory; none if that moment comes before.
fn leave_before(rota: &Rota, jobs: u64, late: Instant) -> Option<()> {
    until("they leave memory, or it is too late", || {
        let is_late = Instant::now() >= late;
        if not_in_memory(rota) > jobs { Some(Some(())) } else { is_late.then_some(None) }
    })
}

/// A server of that mode, on what is there.
fn started(data: &Path, mode: &str) -> (Rota, Wire) {
    let mut flags = FLAGS;
    flags[1] = mode;
    let others = flags[..2].iter().chain(&flags[4..]);
    let flags: Vec<&str> = if mode == "mapped" { flags.to_vec() } else { others.copied().collect() };
    let rota = Rota::ready(on(data, &flags));
    let mut wire = Wire::to(rota.address());
    wire.expect("use far", "USING far");
    (rota, wire)
}

fn not_in_memory(rota: &Rota) -> u64 {
    let (_, page) = get(rota.http(), "/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix("rota_jobs_not_in_memory "));
    value.and_then(|value| value.parse().ok()).expect("it is measured")
}

fn put(job: u64) -> Vec<u8> {
    put_by("put-in", 3_600_000 + job * 1000, job)
}

/// A put by that verb with so many milliseconds. Every third job has a key.
fn put_by(verb: &str, millis: u64, job: u64) -> Vec<u8> {
    let key = if job.is_multiple_of(3) { format!(" k{job}") } else { String::new() };
    let body = body(job);
    let head = format!("{verb} 5 {millis} 60000 {}{key}\r\n", body.len());
    [head.as_bytes(), &body, b"\r\n"].concat()
}

pub(super) fn body(job: u64) -> Vec<u8> {
    format!("far job {job}, {}", "x".repeat(100)).into_bytes()
}

#[test]
fn what_left_memory_can_be_seen_cancelled_and_kicked() {
    let data = TempDir::new().unwrap();
    let (rota, mut wire) = with_far_jobs(data.path(), 3_000);
    assert_eq!(wire.ask("stats-tube far").count("current-jobs-delayed"), 3_000);
    let peeked = wire.ask("peek 17");
    assert_eq!((peeked.line.as_str(), peeked.body), ("FOUND 17 112", body(17)));
    assert_eq!(wire.ask("stats-job 18").field("state"), "delayed");
    assert!(wire.ask("stats-job 18").count("time-left") > 3_500);
    assert_eq!(wire.ask("peek-delayed").number(1), 1);
    wire.expect("cancel 1", "CANCELLED");
    wire.expect("cancel 1", "NOT_FOUND");
    wire.expect("delete 2", "DELETED");
    wire.expect("cancel-key far k3", "CANCELLED 3");
    wire.expect("cancel-key far k3", "NOT_FOUND");
    assert_eq!(wire.ask("peek-delayed").number(1), 4);
    wire.send("put-in 5 0 60000 2 k6\r\nhi\r\n").unwrap();
    assert_eq!(wire.answer().unwrap().line, "KEY_TAKEN 6");
    wire.expect("kick 10", "KICKED 10");
    wire.expect("kick-job 100", "KICKED");
    assert_eq!(wire.ask("reserve-job 200").body, body(200));
    let counted = wire.ask("stats-tube far");
    let states = ["ready", "reserved", "delayed"].map(|state| counted.count(&format!("current-jobs-{state}")));
    assert_eq!(states, [11, 1, 2_985]);
    drop(rota);
}

#[test]
fn jobs_wait_for_others_that_left_memory() {
    let data = TempDir::new().unwrap();
    let (_rota, mut wire) = with_far_jobs(data.path(), 1_000);
    let put = |wire: &mut Wire, after: &str| {
        wire.send(format!("put-after {after} 5 0 60000 2\r\nhi\r\n")).unwrap();
        wire.answer().unwrap().line
    };
    assert_eq!(put(&mut wire, "7,9"), "INSERTED 1001");
    assert_eq!(put(&mut wire, "8"), "INSERTED 1002");
    assert_eq!(put(&mut wire, "11,5000"), "NOT_FOUND");
    let puts = ["put-after 10,11 5 0 60000 0\r\n\r\n", "put-after 5000 5 0 60000 0\r\n\r\n"];
    wire.send(batch_bytes(&puts.map(|put| put.as_bytes().to_vec()))).unwrap();
    assert_eq!(wire.line().unwrap(), "BATCH_INSERTED 1 1003 NOT_FOUND");
    // What they wait for is cancelled, and done.
    wire.expect("cancel 8", "CANCELLED");
    wire.expect("peek 1002", "NOT_FOUND");
    for job in [7, 9, 10, 11] {
        assert_eq!(wire.ask(&format!("reserve-job {job}")).body, body(job));
    }
    for (first, last, child) in [(7, 9, 1001), (10, 11, 1003)] {
        wire.expect(&format!("delete {first}"), "DELETED");
        assert_eq!(wire.ask(&format!("stats-job {child}")).field("state"), "delayed");
        wire.expect(&format!("delete {last}"), "DELETED");
        assert_eq!(wire.ask(&format!("stats-job {child}")).field("state"), "ready");
    }
}

#[test]
fn batches_name_jobs_that_left_memory() {
    let data = TempDir::new().unwrap();
    let (rota, mut wire) = with_far_jobs(data.path(), 3_000);
    // More than are looked up together, far and near ones, and one that never was.
    let ids: String = (1..=999).map(|job| format!(" {job}")).collect();
    wire.expect(&format!("delete-batch{ids} 1000000"), "BATCH_DELETED 999 NOT_FOUND 1000000");
    wire.expect(&format!("delete-batch{ids} 1000"), &format!("BATCH_DELETED 1 NOT_FOUND{ids}"));
    let puts = |keys: std::ops::Range<u64>| -> Vec<Vec<u8>> {
        keys.map(|key| format!("put-in 5 0 60000 2 k{key}\r\nhi\r\n").into_bytes()).collect()
    };
    wire.send(batch_bytes(&puts(1_500..1_800))).unwrap();
    let answer = wire.line().unwrap();
    let words: Vec<&str> = answer.split(' ').collect();
    assert_eq!(words[..2], ["BATCH_INSERTED", "200"], "{answer}");
    let mut next = 3_001..;
    for (job, word) in (1_500..1_800_u64).zip(&words[2..]) {
        let expected = match job.is_multiple_of(3) {
            true => format!("KEY_TAKEN:{job}"),
            false => next.next().unwrap().to_string(),
        };
        assert_eq!(*word, expected, "{job}");
    }
    assert_eq!(wire.ask("stats-tube far").count("current-jobs-delayed"), 2_000);
    // What was only looked at is not in memory for it.
    until("they left memory again", || (not_in_memory(&rota) > 1_000).then_some(()));
}

#[test]
fn a_pipeline_of_commands_on_far_jobs_is_answered_in_order() {
    let data = TempDir::new().unwrap();
    let (_rota, mut wire) = with_far_jobs(data.path(), 3_000);
    let commands: String = (1..=1_500)
        .map(|job| match job % 4 {
            0 => format!("peek {job}\r\n"),
            1 => format!("cancel {job}\r\n"),
            2 => format!("delete {job}\r\nput 0 0 60 2\r\nhi\r\n"),
            _ => format!("touch {job}\r\nstats-job {}\r\n", job + 1_000_000),
        })
        .collect();
    wire.send(commands).unwrap();
    for job in 1..=1_500_u64 {
        let expected: &[&str] = match job % 4 {
            0 => &["FOUND"],
            1 => &["CANCELLED"],
            2 => &["DELETED", "INSERTED"],
            _ => &["NOT_FOUND", "NOT_FOUND"],
        };
        for word in expected {
            let answer = wire.answer().unwrap();
            assert!(answer.line.starts_with(word), "{job}: {}", answer.line);
            assert!(*word != "FOUND" || answer.body == body(job), "the body of {job}");
        }
    }
}

#[test]
fn far_jobs_outlive_kills_and_any_other_mode() {
    let data = TempDir::new().unwrap();
    let (mut rota, mut wire) = with_far_jobs(data.path(), 2_000);
    let mut open: Vec<u64> = (1..=2_000).collect();
    for mode in ["mapped", "durable", "mapped", "lazy", "mapped"] {
        for _ in 0..20 {
            let job = open.swap_remove(open.len() / 2);
            wire.expect(&format!("cancel {job}"), "CANCELLED");
        }
        rota.kill();
        (rota, wire) = started(data.path(), mode);
        assert_eq!(wire.ask("stats-tube far").count("current-jobs-delayed"), open.len() as u64, "{mode}");
        for &job in open.iter().step_by(37) {
            assert_eq!(wire.ask(&format!("peek {job}")).body, body(job), "{job} in {mode}");
        }
    }
}

#[test]
fn far_jobs_come_near_and_are_handed_out_in_time() {
    with_time(AHEAD, |ahead| {
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(on(data.path(), &FLAGS));
        let mut wire = Wire::to(rota.address());
        // Far enough to leave memory, near enough to wait for. Each is due in between of two moments: a put takes time.
        let mut due = Vec::new();
        for job in 1..=1_200_u64 {
            let delay = ahead.as_millis() as u64 + (job * 7919) % 2_000;
            let sent = Instant::now();
            assert_eq!(wire.put(&format!("put-in 5 {delay} 60000"), &body(job)), job);
            due.push([sent, Instant::now()].map(|moment| moment + Duration::from_millis(delay)));
        }
        let first = due.iter().map(|[not_before, _]| *not_before).min().expect("there are some");
        leave_before(&rota, 100, first - Duration::from_secs(2))?;
        let mut last = first;
        for _ in 0..1_200 {
            let reserved = wire.ask("reserve");
            let job = reserved.number(1);
            assert_eq!(reserved.body, body(job));
            let [not_before, not_behind] = due[job as usize - 1];
            assert!(Instant::now() >= not_before, "job {job} is early");
            assert!(not_behind >= last, "job {job} is late by {:?}", last - not_behind);
            last = last.max(not_before);
            wire.expect(&format!("delete {job}"), "DELETED");
        }
        assert_eq!(wire.ask("stats").count("current-jobs-delayed"), 0);
        Some(())
    });
}

#[test]
fn a_snapshot_has_what_left_memory() {
    let data = TempDir::new().unwrap();
    let (rota, wire) = with_far_jobs(data.path(), 2_000);
    drop(wire);
    restored_in_each_mode(data.path(), rota, 2_000, |_, _, _| {});
}

/// Has a snapshot taken of what is there once the server was stopped and started, and starts a server of each mode on that: all jobs are
/// there, some of which `look` looks at too.
fn restored_in_each_mode(data: &Path, mut rota: Rota, jobs: u64, look: impl Fn(&mut Wire, u64, &str)) {
    let target = TempDir::new().unwrap();
    let address = target.path().join("snapshots").display().to_string();
    assert_eq!(rota.terminate().code(), Some(0));
    let mut flags = FLAGS.to_vec();
    flags.extend(["--snapshot-to", &address]);
    let mut rota = Rota::ready(on(data, &flags));
    rota.signal("USR1");
    assert_eq!(rota.wait().code(), Some(0), "{}", rota.stderr());
    for mode in ["mapped", "durable", "memory"] {
        let fresh = TempDir::new().unwrap();
        let rota = Rota::ready(on(fresh.path(), &["--storage", mode, "--restore", &address]));
        let mut wire = Wire::to(rota.address());
        assert_eq!(wire.ask("stats-tube far").count("current-jobs-delayed"), jobs, "{mode}");
        for job in (1..=jobs).step_by(61) {
            assert_eq!(wire.ask(&format!("peek {job}")).body, body(job), "{job} in {mode}");
            look(&mut wire, job, mode);
        }
    }
}
