//! The log stays short, whatever the mix: what a start reads comes below twice the open jobs and two segments, while the
//! server works.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use tempfile::TempDir;

use super::metrics::get;
use crate::process::{Rota, on, until};
use crate::wire::{Wire, put_bytes};

const SEGMENT_BYTES: u64 = 256 << 10;

fn server(data: &Path, more: &[&str]) -> Rota {
    let flags = ["--http", "127.0.0.1:0", "--segment-size", "256KiB", "--sync", "never"];
    Rota::ready(on(data, &[&flags[..], more].concat()))
}

/// A figure of `/metrics`.
fn figure(rota: &Rota, name: &str) -> u64 {
    let (_, page) = get(rota.http(), "/metrics");
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_else(|| panic!("no {name}: {page}"))
}

/// Waits until the log is as short as was promised.
#[track_caller]
fn comes_below_the_bound(rota: &Rota) {
    let bound = |live: u64| 2 * live + 2 * SEGMENT_BYTES;
    until("the log to be short", || {
        let (bytes, live) = (figure(rota, "rota_log_bytes"), figure(rota, "rota_log_live_bytes"));
        (bytes <= bound(live)).then_some(())
    });
}

/// Sends commands in one go and takes their answers; the numbers in those that have one.
fn all(wire: &mut Wire, commands: impl IntoIterator<Item = Vec<u8>>) -> Vec<u64> {
    let commands: Vec<Vec<u8>> = commands.into_iter().collect();
    let mut numbers = Vec::new();
    for chunk in commands.chunks(200) {
        wire.send(chunk.concat()).unwrap();
        for _ in chunk {
            let line = wire.answer().unwrap().line;
            assert!(!line.contains("OUT_OF_MEMORY") && !line.contains("FORMAT"), "{line}");
            numbers.extend(line.split(' ').nth(1).and_then(|word| word.parse::<u64>().ok()));
        }
    }
    numbers
}

fn put(body_bytes: usize) -> Vec<u8> {
    put_bytes("put 0 0 60", &vec![b'x'; body_bytes])
}

fn line(command: String) -> Vec<u8> {
    (command + "\r\n").into_bytes()
}

#[test]
fn one_old_job_among_many_pins_nothing() {
    let data = TempDir::new().unwrap();
    let rota = server(data.path(), &["--history", "0"]);
    let mut wire = Wire::to(rota.address());
    let old = wire.put("put 0 86400 60", b"old");
    for _ in 0..10 {
        let ids = all(&mut wire, (0..1_000).map(|_| put(300)));
        all(&mut wire, ids.iter().map(|id| line(format!("delete {id}"))));
    }
    comes_below_the_bound(&rota);
    let puts = wire.ask("stats-tube default").count("total-jobs");
    // What is reclaimed is given up with the next segment, for several at once.
    until("segments to be given up", || (wire.ask("stats").count("binlog-oldest-index") > 5).then_some(()));
    assert!(figure(&rota, "rota_log_compactions_total") > 5);
    // Segments that nobody needs are gone, and the room set aside for others is no more than a few.
    until("history to be gone", || {
        let files = std::fs::read_dir(data.path().join("log")).unwrap().map(|file| file.unwrap().file_name());
        (files.filter(|name| name != "spare-names").count() <= 9).then_some(())
    });
    drop(rota);
    let rota = server(data.path(), &["--history", "0"]);
    let mut wire = Wire::to(rota.address());
    assert_eq!(wire.ask(&format!("peek {old}")).body, b"old");
    assert_eq!(wire.ask("stats-tube default").count("total-jobs"), puts, "counters outlive their segments");
}

#[test]
fn a_log_of_jobs_that_are_released_again_and_again_stays_short() {
    let data = TempDir::new().unwrap();
    let rota = server(data.path(), &["--history", "0"]);
    let mut wire = Wire::to(rota.address());
    all(&mut wire, (0..50).map(|_| put(2_000)));
    for _ in 0..400 {
        let ids = all(&mut wire, (0..50).map(|_| line("reserve".into())));
        all(&mut wire, ids.iter().map(|id| line(format!("release {id} 0 0"))));
    }
    comes_below_the_bound(&rota);
    assert_eq!(wire.ask("stats").count("current-jobs-ready"), 50);
    let job = wire.ask("stats-job 1");
    assert_eq!(job.count("releases"), 400, "a job that is written again keeps what it went through");
}

#[test]
fn after_everything_is_deleted_a_start_reads_next_to_nothing() {
    let data = TempDir::new().unwrap();
    let rota = server(data.path(), &["--history", "0"]);
    let mut wire = Wire::to(rota.address());
    let ids = all(&mut wire, (0..6_000).map(|_| put(1_000)));
    assert!(figure(&rota, "rota_log_bytes") > 6_000_000);
    comes_below_the_bound(&rota);
    let (gone, left) = ids.split_at(5_990);
    all(&mut wire, gone.iter().rev().map(|id| line(format!("delete {id}"))));
    comes_below_the_bound(&rota);
    drop(rota);
    let rota = server(data.path(), &["--history", "0"]);
    let mut wire = Wire::to(rota.address());
    assert_eq!(wire.ask("stats").count("current-jobs-ready"), left.len() as u64);
    assert!(left.iter().all(|id| wire.ask(&format!("peek {id}")).line.starts_with("FOUND")));
}

/// Puts so many jobs, and then so many more, of which each is put for another that is deleted at random.
fn come_and_go(address: SocketAddr, stay: usize, turns: usize) {
    let (mut wire, mut rng) = (Wire::to(address), fastrand::Rng::with_seed(7));
    let mut ids = all(&mut wire, (0..stay).map(|_| put(300)));
    for _ in 0..turns.div_ceil(100) {
        let gone: Vec<u64> = (0..100).map(|_| ids.swap_remove(rng.usize(..ids.len()))).collect();
        let pairs = gone.iter().flat_map(|id| [put(300), line(format!("delete {id}"))]);
        ids.extend(all(&mut wire, pairs));
    }
}

#[test]
fn jobs_that_come_and_go_at_random_keep_the_log_short_all_the_while() {
    // Short of two segments more than twice what is open, whoever puts is held up; what is under way then comes all the same, which
    // is much beside segments as short as these.
    const MOST: u64 = 16 * SEGMENT_BYTES;
    for storage in ["durable", "lazy"] {
        let data = TempDir::new().unwrap();
        let rota = server(data.path(), &["--history", "0", "--storage", storage]);
        let address = rota.address();
        let work: Vec<_> = (0..4).map(|_| thread::spawn(move || come_and_go(address, 2_000, 10_000))).collect();
        let mut worst = 0;
        while !work.iter().all(thread::JoinHandle::is_finished) {
            let (bytes, live) = (figure(&rota, "rota_log_bytes"), figure(&rota, "rota_log_live_bytes"));
            worst = worst.max(bytes.saturating_sub(2 * live));
        }
        work.into_iter().for_each(|work| work.join().unwrap());
        eprintln!(
            "{storage}: at most {:.1} segments more than twice what is open",
            worst as f64 / SEGMENT_BYTES as f64
        );
        let kept = figure(&rota, "rota_log_jobs_kept_total");
        assert!(kept > 1_000, "{storage}: hardly anything was written again: {kept} jobs");
        assert!(worst <= MOST, "{storage}: the log had {worst} bytes more than twice what was open");
        comes_below_the_bound(&rota);
    }
}

#[test]
fn history_is_kept_as_far_as_it_may() {
    let data = TempDir::new().unwrap();
    let rota = server(data.path(), &["--history", "1h,1MiB"]);
    let mut wire = Wire::to(rota.address());
    for _ in 0..10 {
        let ids = all(&mut wire, (0..1_000).map(|_| put(300)));
        all(&mut wire, ids.iter().map(|id| line(format!("delete {id}"))));
    }
    comes_below_the_bound(&rota);
    // No more than was asked for, and hardly less.
    until("history to be of its size", || {
        let bytes = figure(&rota, "rota_log_history_bytes");
        (1 << 19..=1 << 20).contains(&bytes).then_some(())
    });
}
