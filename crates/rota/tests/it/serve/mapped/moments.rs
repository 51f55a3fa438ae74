//! Jobs for moments of the wall clock, and such as expire, that left memory: found as all others, there in time, and where they
//! belong when the clock was set while the server was down. And few descriptors for many segments.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rota_engine::clock::{Clock, SystemClock};
use rota_engine::engine::{BodyHome, Engine, Options};
use rota_engine::log::Group;
use rota_engine::storage::DataDirectory;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    AHEAD, FLAGS, body, filled, leave_before, not_in_memory, put_by, restored_in_each_mode, started, they_leave,
};
use crate::http::client::Http;
use crate::process::{Rota, on, until, with_time, wrapped};
use crate::wire::Wire;

const HOUR_MS: u64 = 3_600_000;

fn wall_ms() -> u64 {
    SystemClock.wall().0 / 1_000_000
}

/// Puts jobs for moments from that one on, each a second behind the one before. Every third has a key.
fn put_from(moment: u64) -> impl Fn(u64) -> Vec<u8> {
    move |job| put_by("put-at", moment + job * 1000, job)
}

fn with_jobs(data: &Path, jobs: u64) -> (Rota, Wire) {
    filled(Rota::ready(on(data, &FLAGS)), jobs, put_from(wall_ms() + HOUR_MS))
}

#[test]
fn jobs_for_moments_are_seen_cancelled_kicked_and_kept_in_every_mode() {
    let data = TempDir::new().unwrap();
    let (mut rota, mut wire) = with_jobs(data.path(), 2_000);
    assert_eq!(wire.ask("peek 17").body, body(17));
    assert!(wire.ask("stats-job 18").count("time-left") > 3_500);
    assert_eq!(wire.ask("peek-delayed").number(1), 1);
    wire.expect("cancel 1", "CANCELLED");
    wire.expect("cancel 1", "NOT_FOUND");
    wire.expect("delete 2", "DELETED");
    wire.expect("cancel-key far k3", "CANCELLED 3");
    assert_eq!(wire.ask("peek-delayed").number(1), 4);
    wire.send("put-in 5 0 60000 2 k6\r\nhi\r\n").unwrap();
    assert_eq!(wire.answer().unwrap().line, "KEY_TAKEN 6");
    wire.expect("kick 10", "KICKED 10");
    let why = Http::to(rota.http()).get("/v1/jobs/500/why").expect(200);
    assert_eq!(why["state"], "delayed", "{why}");
    let mut open: BTreeSet<u64> = (4..=2_000).collect();
    for mode in ["durable", "mapped", "lazy", "mapped"] {
        let job = 1_000 + open.len() as u64 % 500;
        wire.expect(&format!("cancel {job}"), "CANCELLED");
        open.remove(&job);
        rota.kill();
        (rota, wire) = started(data.path(), mode);
        let counted = wire.ask("stats-tube far");
        let states = ["ready", "delayed"].map(|state| counted.count(&format!("current-jobs-{state}")));
        assert_eq!(states, [10, open.len() as u64 - 10], "{mode}");
        for job in open.iter().step_by(97) {
            assert_eq!(wire.ask(&format!("peek {job}")).body, body(*job), "{job} in {mode}");
        }
    }
}

#[test]
fn jobs_for_moments_come_near_and_are_handed_out_in_time() {
    with_time(AHEAD, |ahead| {
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(on(data.path(), &FLAGS));
        let mut wire = Wire::to(rota.address());
        let (begin, begun) = (wall_ms(), Instant::now());
        let moment = |job: u64| begin + ahead.as_millis() as u64 + (job * 7919) % 2_000;
        for job in 1..=1_200_u64 {
            assert_eq!(wire.put(&format!("put-at 5 {} 60000", moment(job)), &body(job)), job);
        }
        leave_before(&rota, 100, begun + ahead - Duration::from_secs(2))?;
        let mut last = 0;
        for _ in 0..1_200 {
            let reserved = wire.ask("reserve");
            let job = reserved.number(1);
            assert_eq!(reserved.body, body(job));
            assert!(wall_ms() >= moment(job), "job {job} is early");
            assert!(moment(job) >= last, "job {job} is late");
            last = moment(job);
            wire.expect(&format!("delete {job}"), "DELETED");
        }
        assert_eq!(wire.ask("stats").count("current-jobs-delayed"), 0);
        Some(())
    });
}

/// A server runs for a moment, whose clock is ahead by that.
fn run_ahead(data: &Path, ahead: Duration) {
    let wall = SystemClock.wall().after(ahead);
    let near = Some(Duration::from_secs(1));
    let options = Options { bodies: BodyHome::Log, near, ..Options::default() };
    let storage = DataDirectory::open(data).unwrap();
    let (mut engine, mut log, _, far) = Engine::recover_with_far(options, storage, [7; 16], wall).unwrap();
    let goal = engine.aim_near(wall);
    loop {
        let due = far.due(goal, 100).unwrap();
        if due.is_empty() {
            break;
        }
        engine.bring_near(&far.read(&due).unwrap(), wall);
    }
    engine.near_until(goal);
    while !engine.tick(wall) {}
    engine.stop();
    let mut group = Group::default();
    while engine.take_records(&mut group) {
        log.write(&mut group).unwrap();
    }
    log.close().unwrap();
}

#[test]
fn a_clock_that_was_set_while_the_server_was_down_moves_jobs_that_left_memory() {
    let data = TempDir::new().unwrap();
    let (mut rota, mut wire) = with_jobs(data.path(), 1_000);
    let left = wire.ask("stats-job 400").count("time-left");
    assert!((3_600..=4_000).contains(&left), "{left}");
    rota.kill();
    // Ahead, and back: the moments are as far away as they were.
    run_ahead(data.path(), Duration::from_secs(1_800));
    (rota, wire) = started(data.path(), "mapped");
    they_leave(&rota, 1_000);
    let left = wire.ask("stats-job 400").count("time-left");
    assert!((3_500..=4_000).contains(&left), "{left}");
    assert_eq!(wire.ask("stats-tube far").count("current-jobs-delayed"), 1_000);
    rota.kill();
    // Ahead so far that all were due: they stay so.
    run_ahead(data.path(), Duration::from_secs(3 * 3_600));
    for mode in ["mapped", "durable", "mapped"] {
        (rota, wire) = started(data.path(), mode);
        assert_eq!(wire.ask("stats-tube far").count("current-jobs-ready"), 1_000, "{mode}");
        assert_eq!(wire.ask("peek-ready").number(1), 1, "{mode}");
        rota.kill();
    }
}

#[test]
fn jobs_that_expire_leave_memory_and_expire_in_time() {
    with_time(AHEAD, |ahead| {
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(on(data.path(), &FLAGS));
        let http = Http::to(rota.http());
        let text = "x".repeat(100);
        // All of them due in a day; one in two expires soon.
        let job = |n: u64| {
            let expires = if n.is_multiple_of(2) { format!("{}ms", ahead.as_millis()) } else { "1h".into() };
            json!({ "queue": "far", "text": text, "delay": "1d", "expires_in": expires })
        };
        let begun = Instant::now();
        for first in (0..1_500_u64).step_by(500) {
            let jobs: Vec<Value> = (first..first + 500).map(job).collect();
            http.post("/v1/jobs", &json!(jobs)).expect(200);
        }
        leave_before(&rota, 1_000, begun + ahead - Duration::from_secs(2))?;
        let mut wire = Wire::to(rota.address());
        until("half of them expired", || {
            let delayed = wire.ask("stats-tube far").count("current-jobs-delayed");
            assert!(delayed >= 750, "{delayed}");
            (delayed == 750).then_some(())
        });
        wire.expect("peek 1", "NOT_FOUND");
        assert_eq!(wire.ask("peek 2").body, text.as_bytes());
        assert!(not_in_memory(&rota) > 300, "{}", not_in_memory(&rota));
        Some(())
    });
}

#[test]
fn many_segments_of_far_jobs_need_few_descriptors() {
    let data = TempDir::new().unwrap();
    // A quarter of these is for far segments, and 128 are kept for the rest: few are left for clients.
    let command = wrapped(&["prlimit", "--nofile=200"], &on(data.path(), &FLAGS));
    let (rota, mut wire) = filled(Rota::ready(command), 24_000, put_from(wall_ms() + HOUR_MS));
    let open = || std::fs::read_dir(format!("/proc/{}/fd", rota.pid())).unwrap().count();
    let far = std::fs::read_dir(data.path().join("log")).unwrap().filter_map(Result::ok);
    let far = far.filter(|file| file.file_name().to_string_lossy().ends_with(".index")).count();
    assert!(far > 40, "{far} far segments");
    for job in (1..=24_000).step_by(401) {
        assert_eq!(wire.ask(&format!("peek {job}")).body, body(job), "job {job}");
        assert!(open() < 150, "{} files are open, with {far} far segments", open());
    }
}

#[test]
fn jobs_for_moments_are_due_by_the_clock_that_a_snapshot_is_restored_by() {
    let data = TempDir::new().unwrap();
    let (rota, wire) = with_jobs(data.path(), 1_000);
    drop(wire);
    restored_in_each_mode(data.path(), rota, 1_000, |wire, job, mode| {
        assert!(wire.ask(&format!("stats-job {job}")).count("time-left") > 3_000, "{job} in {mode}");
    });
}
