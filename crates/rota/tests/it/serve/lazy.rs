//! `--storage lazy`: bodies are in the log alone, and come from there when their jobs are handed out.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Rota, on, until};
use crate::wire::{Wire, put_bytes};

/// A body of that length which is no other job's.
fn body(job: u64, bytes: usize) -> Vec<u8> {
    let mut body = format!("job {job} ").into_bytes();
    body.resize(bytes, b'a' + (job % 26) as u8);
    body
}

/// Lets the system forget what it has of a file in memory, as far as it can: what is read next comes from the disk.
fn forget(file: &Path) {
    let of = format!("if={}", file.display());
    let dropped = Command::new("dd").args([&of, "iflag=nocache", "count=0"]).stderr(Stdio::null()).status();
    assert!(dropped.expect("dd is part of every system").success());
}

fn segments(data: &Path) -> Vec<std::path::PathBuf> {
    let mut segments: Vec<_> = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    segments
}

#[test]
fn bodies_come_back_whatever_their_size_and_wherever_they_are() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--storage", "lazy", "--max-job-size", "2MiB"]));
    let mut wire = Wire::to(rota.address());
    let sizes = [0, 1, 100, 65_535, 300_000, 2 << 20, 7];
    for (job, &size) in (1..).zip(&sizes) {
        assert_eq!(wire.put("put 0 0 60", &body(job, size.max(8))[..size]), job);
    }
    let peeked = |wire: &mut Wire| {
        for (job, &size) in (1..).zip(&sizes) {
            assert!(wire.ask(&format!("peek {job}")).body == body(job, size.max(8))[..size], "job {job}");
        }
    };
    peeked(&mut wire);
    for segment in segments(data.path()) {
        forget(&segment);
    }
    peeked(&mut wire);
    for (job, &size) in (1..).zip(&sizes) {
        let reserved = wire.ask("reserve-with-timeout 0");
        assert_eq!(reserved.line, format!("RESERVED {job} {size}"));
        assert!(reserved.body == body(job, size.max(8))[..size], "job {job}");
        wire.expect(&format!("delete {job}"), "DELETED");
    }
}

#[test]
fn answers_keep_their_order_though_some_have_to_be_read() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--storage", "lazy"]));
    let mut wire = Wire::to(rota.address());
    let jobs = 1..=200;
    let puts: Vec<u8> = jobs.clone().flat_map(|job| put_bytes("put 0 0 60", &body(job, 20_000))).collect();
    wire.send(&puts).unwrap();
    for job in jobs.clone() {
        assert_eq!(wire.answer().unwrap().line, format!("INSERTED {job}"));
    }
    for segment in segments(data.path()) {
        forget(&segment);
    }
    // 8 MB: far more than is answered at a time.
    let asked: String =
        jobs.clone().map(|job| format!("peek {job}\r\nreserve\r\npeek 0\r\ndelete {job}\r\n")).collect();
    wire.send(&asked).unwrap();
    for job in jobs {
        for word in ["FOUND", "RESERVED"] {
            let answer = wire.answer().unwrap();
            assert_eq!(answer.line, format!("{word} {job} 20000"));
            assert!(answer.body == body(job, 20_000), "job {job}");
        }
        assert_eq!(wire.answer().unwrap().line, "NOT_FOUND");
        assert_eq!(wire.answer().unwrap().line, "DELETED");
    }
}

#[test]
fn who_waits_for_a_job_gets_its_body_from_the_log() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--storage", "lazy"]));
    let mut producer = Wire::to(rota.address());
    let mut worker = Wire::to(rota.address());
    // Delayed, so that it is in the log alone when its moment comes and the worker waits.
    assert_eq!(producer.put("put-in 0 200 60000", &body(1, 5_000)), 1);
    worker.send("reserve\r\n").unwrap();
    assert!(worker.answer().unwrap().body == body(1, 5_000));
    worker.expect("release 1 0 0", "RELEASED");
    // From a holder that goes to one that waits.
    let mut other = Wire::to(rota.address());
    other.expect("reserve-with-timeout 0", "RESERVED 1 5000");
    worker.send("reserve\r\n").unwrap();
    until("the worker waits", || (producer.ask("stats").count("current-waiting") == 1).then_some(()));
    drop(other);
    assert!(worker.answer().unwrap().body == body(1, 5_000));
}

#[test]
fn any_start_on_the_same_data_may_be_of_another_mode() {
    let data = TempDir::new().unwrap();
    let mut jobs = 0;
    for (turn, mode) in ["lazy", "durable", "lazy", "lazy", "durable"].into_iter().enumerate() {
        let mut rota = Rota::ready(on(data.path(), &["--storage", mode, "--sync", "never"]));
        let mut wire = Wire::to(rota.address());
        for job in 1..=jobs {
            assert!(wire.ask(&format!("peek {job}")).body == body(job, 3_000), "job {job} in turn {turn}");
        }
        for job in jobs + 1..=jobs + 3 {
            assert_eq!(wire.put("put 0 0 60", &body(job, 3_000)), job);
            assert!(wire.ask(&format!("peek {job}")).body == body(job, 3_000));
        }
        jobs += 3;
        assert_eq!(rota.terminate().code(), Some(0));
    }
}

#[test]
fn a_damaged_body_is_never_served_and_stops_the_server() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &["--storage", "lazy"]));
    let mut wire = Wire::to(rota.address());
    for job in 1..=3 {
        assert_eq!(wire.put("put 0 0 60", &body(job, 4_000)), job);
    }
    // One more group says that those before it had been durable.
    assert_eq!(wire.put("put 9 0 60", b"the last"), 4);
    let segment = &segments(data.path())[0];
    let bytes = fs::read(segment).unwrap();
    let at = bytes.windows(6).position(|six| six == b"job 2 ").unwrap();
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(b"J", at as u64).unwrap();

    assert!(wire.ask("peek 1").body == body(1, 4_000));
    let mut victim = Wire::to(rota.address());
    victim.send("peek 2\r\n").unwrap();
    assert_eq!(victim.rest(), b"", "not a byte of it");
    assert_eq!(rota.wait().code(), Some(4));
    let told = rota.stderr();
    for word in ["00000000000000000001.seg", "offset ", "job 2", "wrong checksum"] {
        assert!(told.contains(word), "{word:?} is missing: {told}");
    }
    let (code, _, told) = Rota::ended(on(data.path(), &["--storage", "lazy"]));
    assert_eq!(code, 1);
    assert!(told.contains("00000000000000000001.seg") && told.contains("offset "), "{told}");
}

#[test]
fn memory_holds_no_bodies_of_jobs_that_wait() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &["--storage", "lazy", "--sync", "never"]));
    let mut wire = Wire::to(rota.address());
    let before = rota.resident_bytes();
    for job in 1..=2_000 {
        wire.put("put 0 0 60", &body(job, 60_000));
    }
    let put = rota.resident_bytes().saturating_sub(before);
    assert!(put < 40 << 20, "{put} bytes for 120 MB of bodies");
    drop(wire);
    assert_eq!(rota.terminate().code(), Some(0));
    let rota = Rota::ready(on(data.path(), &["--storage", "lazy"]));
    let read = until("it is up", || Some(rota.resident_bytes()));
    // A segment at a time is read at the start.
    assert!(read < 140 << 20, "{read} bytes after a start");
    let mut wire = Wire::to(rota.address());
    assert!(wire.ask("peek 1999").body == body(1999, 60_000));
}

/// Puts a job once there is room: small segments are used up faster than room is set aside for the next ones.
fn put_patiently(wire: &mut Wire, head: &str, body: &[u8]) -> u64 {
    until("there is room", || {
        let answer = wire.try_put(head, body);
        (answer.line != "OUT_OF_MEMORY").then(|| answer.number(1))
    })
}

#[test]
fn bodies_stay_where_they_can_be_read_while_segments_are_reclaimed() {
    let data = TempDir::new().unwrap();
    let flags = ["--storage", "lazy", "--sync", "never", "--segment-size", "1MiB", "--history", "0"];
    let mut rota = Rota::ready(on(data.path(), &flags));
    let mut wire = Wire::to(rota.address());
    // A few that stay, among many that go.
    let stays: Vec<u64> = (0..10).map(|n| 1 + 100 * n).collect();
    for job in 1..=1_000 {
        let priority = if stays.contains(&job) { 9 } else { 0 };
        assert_eq!(put_patiently(&mut wire, &format!("put {priority} 0 60"), &body(job, 20_000)), job);
    }
    for job in (1..=1_000).filter(|job| !stays.contains(job)) {
        let reserved = wire.ask("reserve-with-timeout 0");
        assert_eq!(reserved.number(1), job);
        assert!(reserved.body == body(job, 20_000), "job {job}");
        wire.expect(&format!("delete {job}"), "DELETED");
    }
    let before: Vec<_> = segments(data.path()).into_iter().filter(|path| path.extension().is_some()).collect();
    assert!(before.len() > 3, "{before:?}");
    until("those segments are gone", || {
        // One is removed when the next is begun.
        let id = put_patiently(&mut wire, "put 0 0 60", &body(0, 60_000));
        wire.expect(&format!("delete {id}"), "DELETED");
        before.iter().all(|segment| !segment.exists()).then_some(())
    });
    let check = |wire: &mut Wire| {
        for &job in &stays {
            assert!(wire.ask(&format!("peek {job}")).body == body(job, 20_000), "job {job}");
        }
    };
    check(&mut wire);
    assert_eq!(rota.terminate().code(), Some(0));
    let rota = Rota::ready(on(data.path(), &flags));
    let mut wire = Wire::to(rota.address());
    check(&mut wire);
    assert_eq!(wire.ask("stats").count("current-jobs-ready"), 10);
}

#[test]
fn a_snapshot_has_the_bodies_and_is_restored_into_any_mode() {
    let (data, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let address = target.path().join("snapshots").display().to_string();
    let mut rota = Rota::ready(on(data.path(), &["--storage", "lazy", "--sync", "never", "--snapshot-to", &address]));
    let mut wire = Wire::to(rota.address());
    for job in 1..=300 {
        assert_eq!(wire.put("put 0 0 60", &body(job, 5_000)), job);
    }
    for segment in segments(data.path()) {
        forget(&segment);
    }
    rota.signal("USR1");
    assert_eq!(rota.wait().code(), Some(0), "{}", rota.stderr());
    for mode in ["lazy", "durable", "memory"] {
        let fresh = TempDir::new().unwrap();
        let rota = Rota::ready(on(fresh.path(), &["--storage", mode, "--restore", &address]));
        let mut wire = Wire::to(rota.address());
        for job in 1..=300 {
            assert!(wire.ask(&format!("peek {job}")).body == body(job, 5_000), "job {job} in {mode}");
        }
    }
}
