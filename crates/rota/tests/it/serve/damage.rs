//! A log that is not as it was left: what was durable must be there, what never was may be torn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Rota, on};
use crate::wire::Wire;

/// A log with several segments is short with these.
const SMALL_SEGMENTS: &[&str] = &["--segment-size", "64KiB"];

/// Of the jobs that fill them.
const BODY_BYTES: usize = 3_000;

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

pub(super) fn body(job: u64) -> String {
    format!("this is job {job}")
}

/// Every file below the folder with its bytes, but for the lock, which names whoever came last.
pub(super) fn everything(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
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
pub(super) fn end(bytes: &[u8]) -> usize {
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
        // Who only looks says the same.
        let (verdict, told) = super::salvage::check(data);
        assert!(verdict == "damaged", "{told}");
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
    assert_eq!(super::salvage::check(data).0, "torn tail");
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

/// A data folder whose log has three segments and more, its server stopped in good order.
fn long_store() -> TempDir {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), SMALL_SEGMENTS));
    let mut wire = Wire::to(rota.address());
    while !segment(data.path(), 3).exists() {
        wire.put("put 0 0 60", &[b'x'; BODY_BYTES]);
    }
    assert_eq!(rota.terminate().code(), Some(0));
    data
}

fn segment(data: &Path, number: u64) -> PathBuf {
    data.join(format!("log/{number:020}.seg"))
}

/// Where a group begins: the one that is so far into the segment, in percent of its groups.
fn group(bytes: &[u8], percent: usize) -> usize {
    let groups: Vec<usize> = (0..bytes.len() - 4).step_by(8).filter(|&at| bytes[at..].starts_with(b"RGRP")).collect();
    groups[(groups.len() - 1) * percent / 100]
}

/// What is done to a log that was left in good order, and what the refusal names.
struct Damage {
    what: &'static str,
    does: fn(&Path),
    words: &'static [&'static str],
}

fn change(data: &Path, number: u64, how: impl FnOnce(&mut Vec<u8>)) {
    let path = segment(data, number);
    let mut bytes = fs::read(&path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn copy(data: &Path, from: u64, to: u64) {
    fs::copy(segment(data, from), segment(data, to)).unwrap();
}

const DAMAGES: &[Damage] = &[
    Damage {
        what: "a bit in the middle of the first segment",
        does: |data| {
            change(data, 1, |bytes| {
                let place = group(bytes, 50);
                bytes[place + 100] ^= 1;
            });
        },
        words: &["01.seg", "offset "],
    },
    Damage {
        what: "a bit in the last group of a segment with a successor",
        does: |data| {
            change(data, 2, |bytes| {
                // The last is the seal.
                let place = group(bytes, 99).min(group(bytes, 100) - 8);
                bytes[place + 60] ^= 1;
            });
        },
        words: &["02.seg", "offset "],
    },
    Damage {
        what: "a block of zeros in the middle",
        does: |data| change(data, 1, |bytes| bytes[16_384..20_480].fill(0)),
        words: &["01.seg", "offset "],
    },
    Damage {
        what: "a block of zeros at the begin of the last segment",
        does: |data| change(data, 3, |bytes| bytes[..4096].fill(0)),
        words: &["03.seg"],
    },
    Damage {
        what: "a segment with a successor that was cut short",
        does: |data| change(data, 1, |bytes| bytes.truncate(group(bytes, 80))),
        words: &["01.seg", "offset "],
    },
    Damage {
        what: "a segment with a successor that is empty",
        does: |data| change(data, 2, Vec::clear),
        words: &["02.seg"],
    },
    Damage {
        what: "the first segment is missing",
        does: |data| fs::remove_file(segment(data, 1)).unwrap(),
        words: &["01.seg", "missing"],
    },
    Damage {
        what: "a segment in the middle is missing",
        does: |data| fs::remove_file(segment(data, 2)).unwrap(),
        words: &["02.seg", "missing"],
    },
    Damage {
        what: "the last segment is missing",
        does: |data| fs::remove_file(segment(data, 3)).unwrap(),
        words: &["03.seg", "missing"],
    },
    Damage {
        what: "two segments are swapped",
        does: |data| {
            fs::rename(segment(data, 1), data.join("aside")).unwrap();
            fs::rename(segment(data, 2), segment(data, 1)).unwrap();
            fs::rename(data.join("aside"), segment(data, 2)).unwrap();
        },
        words: &["01.seg", "segment 2"],
    },
    Damage { what: "a segment is there twice", does: |data| copy(data, 1, 2), words: &["02.seg", "segment 1"] },
    Damage {
        what: "an older copy of the last segment came back as the next one",
        does: |data| copy(data, 3, 4),
        words: &["04.seg", "segment 3"],
    },
    Damage {
        what: "a group was copied over another",
        does: |data| {
            change(data, 1, |bytes| {
                let (from, to) = (group(bytes, 20), group(bytes, 60));
                bytes.copy_within(from..from + 4096, to);
            });
        },
        words: &["01.seg", "offset "],
    },
    Damage {
        what: "the whole log is missing",
        does: |data| (1..=3).for_each(|number| fs::remove_file(segment(data, number)).unwrap()),
        words: &["missing"],
    },
    Damage {
        what: "the store's name is damaged",
        does: |data| fs::write(data.join("store"), "rota-store 1 nobody\n").unwrap(),
        words: &["store"],
    },
    Damage {
        what: "a newer version",
        does: |data| {
            change(data, 3, |bytes| {
                bytes[8] = 99;
                let checksum = crc32fast::hash(&bytes[..60]);
                bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
            });
        },
        words: &["version 99", "newer"],
    },
];

#[test]
fn whatever_is_wrong_with_what_was_durable_is_refused_by_its_name() {
    let sound = long_store();
    for Damage { what, does, words } in DAMAGES {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let copy = Command::new("cp").args(["-r", "--sparse=always"]).arg(sound.path()).arg(&data).status();
        assert!(copy.unwrap().success());
        does(&data);
        println!("{what}");
        refuses(&data, words);
    }
}
