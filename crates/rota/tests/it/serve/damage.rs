//! A log that is not as it was left: what was durable must be there, what never was may be torn.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Rota, on};
use crate::wire::Wire;

/// A data folder with jobs 1 to `jobs`, its server stopped in good order or killed, and its only segment.
fn store(jobs: u64, kill: bool) -> (TempDir, PathBuf) {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    for job in 1..=jobs {
        assert_eq!(wire.put("put 0 0 60", body(job).as_bytes()), job);
    }
    if kill {
        rota.kill();
    } else {
        assert_eq!(rota.terminate().code(), Some(0));
    }
    let segment = data.path().join("log/00000000000000000001.seg");
    assert!(segment.exists());
    (data, segment)
}

fn body(job: u64) -> String {
    format!("this is job {job}")
}

/// Every file below the folder with its bytes, but for the lock, which names whoever came last.
fn everything(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(everything(&path));
        } else if path.file_name().unwrap() != "lock" {
            let bytes = fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

/// Where the zeros at the end of a segment begin, rounded up to where a group can.
fn end(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    (last + 1).next_multiple_of(8)
}

#[track_caller]
fn refuses(data: &Path, words: &[&str]) {
    let before = everything(data);
    // Twice: a refusal changes nothing that the next one would see.
    for _ in 0..2 {
        let (code, out, err) = Rota::ended(on(data, &[]));
        assert_eq!(code, 1, "{out}{err}");
        for word in words {
            assert!(err.contains(word), "{word:?} is missing: {err}");
        }
        assert!(everything(data) == before, "something on the disk was changed");
    }
}

#[test]
fn a_flipped_bit_in_what_was_durable_is_refused() {
    let (data, segment) = store(50, false);
    let sound = fs::read(&segment).unwrap();
    let end = end(&sound);
    // In the segment's header, behind it, at a fourth, in the middle, in the very last group: an orderly stop marks it.
    for place in [33, 70, end / 4, end / 2, end - 60] {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        fs::write(&segment, &bytes).unwrap();
        refuses(data.path(), &["00000000000000000001.seg", "offset ", "Nothing was touched"]);
        let (_, _, err) = Rota::ended(on(data.path(), &[]));
        let offset = err.split("offset ").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
        let offset: usize = offset.parse().unwrap();
        assert!(offset <= place && place < offset + 1_000, "flipped at {place}: {err}");
    }
    fs::write(&segment, &sound).unwrap();
    let rota = Rota::ready(on(data.path(), &[]));
    assert_eq!(Wire::to(rota.address()).ask("stats").count("current-jobs-ready"), 50);
}

#[test]
fn a_missing_or_foreign_segment_is_refused() {
    let (data, segment) = store(5, false);
    let (_other, theirs) = store(5, false);
    let ours = fs::read(&segment).unwrap();
    fs::remove_file(&segment).unwrap();
    refuses(data.path(), &["00000000000000000001.seg", "missing"]);
    fs::copy(&theirs, &segment).unwrap();
    refuses(data.path(), &["00000000000000000001.seg", "belongs to the store"]);
    fs::write(segment.with_file_name("00000000000000000002.seg"), &ours).unwrap();
    fs::write(&segment, &ours).unwrap();
    refuses(data.path(), &["00000000000000000002.seg", "segment 1"]);
}

#[test]
fn a_tail_of_garbage_is_cut_off_and_told() {
    let (data, segment) = store(5, true);
    let mut bytes = fs::read(&segment).unwrap();
    let from = end(&bytes);
    bytes[from..from + 1_000].fill(0xA5);
    fs::write(&segment, &bytes).unwrap();
    comes_up_without_a_tail(data.path(), 5, from, 1_000);
}

#[test]
fn garbage_behind_the_end_of_the_file_is_cut_off_and_told() {
    let (data, segment) = store(5, true);
    let mut bytes = fs::read(&segment).unwrap();
    let from = end(&bytes);
    bytes.truncate(from);
    bytes.extend([7; 77]);
    fs::write(&segment, &bytes).unwrap();
    comes_up_without_a_tail(data.path(), 5, from, 77);
}

#[test]
fn a_last_group_that_is_half_written_is_cut_off_and_told() {
    // The group of the last put: 48 bytes of header, 28 of its record's, and more than 40 behind.
    let (data, segment) = store(6, true);
    let bytes = fs::read(&segment).unwrap();
    let end = end(&bytes);
    let group = (0..end).rev().find(|&at| bytes[at..].starts_with(b"RGRP")).unwrap();
    let left = end - group - 21;
    fs::write(&segment, &bytes[..group + left]).unwrap();
    comes_up_without_a_tail(data.path(), 5, group, left);
}

/// Starts it on a torn log: so many jobs are there, it says what it cut off, and says it once.
#[track_caller]
fn comes_up_without_a_tail(data: &Path, jobs: u64, offset: usize, bytes: usize) {
    let mut rota = Rota::ready(on(data, &[]));
    let told = rota.line(1, |line| line.contains("middle of a write"));
    let words = [format!(" {bytes} bytes"), format!("offset {offset} "), String::from("00000000000000000001.seg")];
    for word in &words {
        assert!(told.contains(word), "{word:?} is missing: {told}");
    }
    let mut wire = Wire::to(rota.address());
    assert_eq!(wire.ask("stats").count("current-jobs-ready"), jobs);
    for job in 1..=jobs {
        assert_eq!(wire.ask(&format!("peek {job}")).body, body(job).as_bytes());
    }
    let id = wire.put("put 0 0 60", b"after");
    assert!(id > jobs + 1, "{id}");
    rota.kill();
    let rota = Rota::ready(on(data, &[]));
    assert_eq!(rota.stderr(), "");
    let mut wire = Wire::to(rota.address());
    assert_eq!(wire.ask("stats").count("current-jobs-ready"), jobs + 1);
    assert_eq!(wire.ask(&format!("peek {id}")).body, b"after");
}
