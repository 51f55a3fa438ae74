//! kill -9 in the middle: of a snapshot, which is then none, and of a restore, which can then be done again.
//!
//! `ROTA_SNAPSHOT_KILLS=1000 cargo xtask test -p rota -- snapshots::interrupted` kills more.

use std::path::Path;
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::{command, count, folders, is_taken, objects, put_all, serve, take};
use crate::process::{Aim, Rota, until};
use crate::wire::Wire;

/// Servers killed where nothing else is said.
const KILLS: u64 = 16;

/// Jobs of the store.
const JOBS: usize = 4_000;

/// Where none of them came in the middle, so many more until one does: how long something takes is not the same twice.
const MORE: u64 = 400;

fn kills() -> u64 {
    let text = std::env::var("ROTA_SNAPSHOT_KILLS").ok();
    text.map_or(KILLS, |text| text.parse().expect("ROTA_SNAPSHOT_KILLS is a number"))
}

/// Fills a store with jobs of some kilobytes, so that it has several segments in a snapshot.
fn fill(data: &Path) {
    let mut rota = Rota::ready(serve(data, &["--sync", "never"]));
    let jobs: Vec<_> = (0..JOBS).map(|n| ("put 0 0 60".to_owned(), vec![n as u8; 9_000])).collect();
    put_all(&mut Wire::to(rota.address()), &jobs);
    assert_eq!(rota.terminate().code(), Some(0));
}

#[test]
fn a_killed_server_leaves_no_half_snapshot_that_counts() {
    let data = TempDir::new().unwrap();
    fill(data.path());
    let place = data.path().join("snapshots");
    // How long one takes is what the kills are spread over.
    let takes = {
        let rota = Rota::ready(serve(data.path(), &[]));
        let since = Instant::now();
        take(&rota);
        since.elapsed()
    };
    let mut aim = Aim::at(takes);
    let (mut unfinished, mut whole, mut killed) = (0, 1, 0);
    while killed < kills() || (unfinished == 0 && killed < kills() + MORE) {
        killed += 1;
        let mut rota = Rota::ready(serve(data.path(), &[]));
        let http = rota.http();
        let asked = thread::spawn(move || is_taken(http));
        aim.wait();
        rota.kill();
        let answered = asked.join().unwrap();
        let listed = objects(command(&["inspect", place.to_str().unwrap(), "--json"]));
        let count_of = |state: &str| listed.iter().filter(|found| found["state"] == state).count();
        assert_eq!(count_of("whole") + count_of("unfinished"), listed.len(), "{listed:?}");
        assert!(!answered || count_of("whole") == whole + 1, "it was answered, and is not there: {listed:?}");
        match (count_of("whole") > whole, count_of("unfinished") > unfinished) {
            (true, _) => aim.came_late(),
            (_, false) => aim.came_early(),
            _ => {}
        }
        (whole, unfinished) = (count_of("whole"), count_of("unfinished"));
        assert!(listed.iter().all(|found| found["state"] != "whole" || found["jobs"] == JOBS), "{listed:?}");
    }
    eprintln!("{killed} killed: {unfinished} unfinished snapshots, {whole} whole ones");
    assert!(unfinished > 0, "no kill came in the middle");
    // Whatever is there, the newest whole one is a whole store.
    let fresh = TempDir::new().unwrap();
    let rota = Rota::ready(serve(fresh.path(), &["--restore", place.to_str().unwrap()]));
    assert_eq!(count(rota.address()), JOBS as u64);
    // The folders of unfinished ones can't be named either.
    let left = folders(&place).into_iter().find(|path| path.extension().is_some_and(|end| end == "new"));
    let left = left.expect("one is unfinished");
    let other = TempDir::new().unwrap();
    let (code, _, err) = Rota::ended(serve(other.path(), &["--restore", left.to_str().unwrap()]));
    assert!(code == 1 && err.contains("is an unfinished snapshot"), "{err}");
}

#[test]
fn a_killed_restore_is_none_and_can_be_done_again() {
    let data = TempDir::new().unwrap();
    fill(data.path());
    let taken: Value = take(&Rota::ready(serve(data.path(), &[])));
    let address = taken["address"].as_str().unwrap();
    let takes = {
        let fresh = TempDir::new().unwrap();
        let since = Instant::now();
        Rota::ready(serve(fresh.path(), &["--restore", address]));
        since.elapsed()
    };
    let mut aim = Aim::at(takes);
    let (mut interrupted, mut done, mut killed) = (0, 0, 0);
    while killed < kills() || (interrupted == 0 && killed < kills() + MORE) {
        killed += 1;
        let fresh = TempDir::new().unwrap();
        let mut rota = Rota::spawn(serve(fresh.path(), &["--restore", address]));
        aim.wait();
        rota.kill();
        if fresh.path().join("restore").exists() {
            interrupted += 1;
            let (code, _, err) = Rota::ended(serve(fresh.path(), &[]));
            assert_eq!(code, 1, "{err}");
            assert!(err.contains("was interrupted") && err.contains("hint: start again with --restore"), "{err}");
        } else if fresh.path().join("store").exists() {
            done += 1;
            aim.came_late();
            let rota = Rota::ready(serve(fresh.path(), &[]));
            assert_eq!(count(rota.address()), JOBS as u64);
            continue;
        } else {
            aim.came_early();
        }
        let rota = Rota::ready(serve(fresh.path(), &["--restore", address]));
        assert_eq!(count(rota.address()), JOBS as u64);
    }
    eprintln!("{killed} killed: {interrupted} interrupted, {done} done");
    assert!(interrupted > 0, "no kill came in the middle");
}

#[test]
fn a_restore_whose_end_was_interrupted_goes_on() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    Wire::to(rota.address()).put("put 0 0 60", b"one");
    let taken = take(&rota);
    let address = taken["address"].as_str().unwrap();
    // All of the log is in place; only the file that names the store is not.
    let fresh = TempDir::new().unwrap();
    std::fs::create_dir(fresh.path().join("log")).unwrap();
    let segment = "00000000000000000001.seg";
    std::fs::copy(Path::new(address).join(segment), fresh.path().join("log").join(segment)).unwrap();
    // Another snapshot does not take its place.
    let other = take(&rota);
    let (code, _, err) = Rota::ended(serve(fresh.path(), &["--restore", other["address"].as_str().unwrap()]));
    assert!(code == 1 && err.contains("already holds a log"), "{err}");
    let restored = Rota::ready(serve(fresh.path(), &["--restore", address]));
    assert_eq!(count(restored.address()), 1);
}

#[test]
fn a_server_that_is_told_to_stop_does_not_wait_for_a_snapshot() {
    let data = TempDir::new().unwrap();
    fill(data.path());
    let mut rota = Rota::ready(serve(data.path(), &[]));
    let http = rota.http();
    let asked = thread::spawn(move || is_taken(http));
    let place = data.path().join("snapshots");
    until("it is begun", || (!folders(&place).is_empty()).then_some(()));
    assert_eq!(rota.terminate().code(), Some(0));
    asked.join().unwrap();
    assert_eq!(count(Rota::ready(serve(data.path(), &[])).address()), JOBS as u64);
}
