//! That looking at a log judges it as a start does, lists all that is wrong, changes nothing and never panics.

use super::damage::{Habit, Sample, content, foreign, sample};
use super::{Entry, Names, STORE, Scribe, disk_with_segments_of, put, read};
use crate::event::Event;
use crate::log::inspect::{self, Inspection, Item, Look, Problem, ProblemKind, Verdict};
use crate::log::{Damage, Lsn, OpenError, Refusal};
use crate::storage::{LogFile, LogSource, ReadAt, StoreId};
use crate::testing::storage::SimulatedDisk;
use proptest::prelude::*;
use std::io;
use std::ops::ControlFlow;

fn check(disk: &SimulatedDisk) -> Inspection {
    inspect::check(disk, Look::default()).unwrap()
}

/// Whether the problem is the one that a start refuses for.
fn is_same(problem: &Problem, refusal: &Refusal) -> bool {
    match (refusal, &problem.kind) {
        (Refusal::Damaged { found, .. }, ProblemKind::Damaged(seen)) => found == seen,
        (Refusal::Unknown(found), ProblemKind::Unknown(seen)) => found == seen,
        (Refusal::NewerVersion { found }, ProblemKind::NewerVersion { found: seen }) => found == seen,
        (Refusal::Missing, ProblemKind::Missing { .. }) => true,
        (
            Refusal::Misnamed { found },
            ProblemKind::Renamed { found: seen }
            | ProblemKind::Swapped { with: seen }
            | ProblemKind::Duplicated { of: seen },
        ) => found == seen,
        (Refusal::Foreign { found, .. }, ProblemKind::Foreign { found: seen }) => found == seen,
        _ => false,
    }
}

/// Judges a log and then starts on it; both must say the same.
#[track_caller]
pub(super) fn agree(disk: &SimulatedDisk, what: &str) -> Inspection {
    let before = content(disk);
    let found = check(disk);
    assert_eq!(content(disk), before, "{what}: it was changed");
    match read(disk.copy()) {
        Ok((_, recovery, entries)) => {
            let torn = recovery.torn.map(|torn| (torn.offset, torn.bytes, torn.from_lsn, torn.found));
            let seen = found.torn.as_ref().map(|tail| (tail.offset, tail.bytes, tail.from_lsn, tail.found));
            assert_eq!(seen, torn, "{what}: {found:#?}");
            assert_eq!(found.problems, [], "{what}");
            let records: u64 = found.segments.iter().filter(|file| file.is_needed).map(|file| file.records).sum();
            assert_eq!(records, entries.len() as u64, "{what}: {found:#?}");
        }
        Err(OpenError::Refused { path, offset, problem }) => {
            let same = found.problems.iter().any(|seen| {
                let file = seen.path.file_name().unwrap();
                path.ends_with(file) && seen.offset == offset && is_same(seen, &problem)
            });
            assert!(same, "{what}: {problem:?} at {offset} of {}: {found:#?}", path.display());
        }
        Err(error) => panic!("{what}: {error:?}"),
    }
    found
}

/// Reads all there is; the records must be those that were written, each in its place or counted on.
#[track_caller]
fn read_all(disk: &SimulatedDisk, entries: &[Entry], what: &str) -> Vec<u64> {
    let names = Names::new();
    let mut found = Vec::new();
    inspect::read(disk, Look::default(), None, Lsn(0), &mut |item| {
        if let Item::Record(record) = item {
            let event = record.event.unwrap().resolve(&mut |name| names.number(name));
            let entry = entries.iter().find(|entry| entry.seq == record.seq).unwrap_or_else(|| panic!("{what}"));
            assert_eq!((&entry.event, entry.at), (&event, record.at), "{what}");
            assert!(!record.is_counted || record.lsn == entry.lsn, "{what}: {} is {}", record.lsn, entry.lsn);
            found.push(record.seq);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// Judges and reads a log of which one segment is changed: the numbers of the records that are left.
#[track_caller]
fn judge_changed(sample: &Sample, segment: u64, bytes: Vec<u8>, what: &str) -> Vec<u64> {
    let damaged = sample.disk.copy();
    damaged.set_bytes(segment, Some(bytes));
    agree(&damaged, what);
    read_all(&damaged, &sample.entries, what)
}

/// Changes every segment in every way that `change` makes of an offset; all is judged as a start does.
fn check_changes(name: &str, step: usize, change: &dyn Fn(&mut Vec<u8>, usize)) {
    for habit in [Habit::Closed, Habit::Killed, Habit::NeverSynced] {
        let sample = sample(habit);
        for (segment, bytes) in content(&sample.disk) {
            let bytes = bytes.unwrap();
            let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            for at in (0..used).step_by(step) {
                let mut changed = bytes.clone();
                change(&mut changed, at);
                let what = format!("{habit:?}, {name} in segment {segment} at {at}");
                let found = judge_changed(&sample, segment, changed, &what);
                assert!(found.is_sorted_by(|a, b| a < b), "{what}: a record is there twice");
                // Two records a group, so that a changed place spoils one or a header none.
                if step == 1 {
                    assert!(found.len() + 1 >= sample.entries.len(), "{what}: {} are left", found.len());
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere() {
    check_changes("bit 0 flipped", 1, &|bytes, at| bytes[at] ^= 1);
}

#[test]
fn a_byte_of_ones_anywhere() {
    check_changes("a byte of ones", 1, &|bytes, at| bytes[at] = 0xff);
}

#[test]
fn zeros_or_rubbish_anywhere() {
    check_changes("8 zeroed bytes", 8, &|bytes, at| bytes[at..at + 8].fill(0));
    check_changes("200 zeroed bytes", 8, &|bytes, at| {
        let end = bytes.len().min(at + 200);
        bytes[at..end].fill(0);
    });
    check_changes("100 bytes of rubbish", 8, &|bytes, at| {
        let end = bytes.len().min(at + 100);
        bytes[at..end].fill(0x5a);
    });
}

#[test]
fn a_cut_at_any_byte() {
    for habit in [Habit::Closed, Habit::Killed, Habit::NeverSynced] {
        let sample = sample(habit);
        for (segment, bytes) in content(&sample.disk) {
            let bytes = bytes.unwrap();
            for at in 0..bytes.len() {
                let what = format!("{habit:?}, segment {segment} cut at {at}");
                judge_changed(&sample, segment, bytes[..at].to_vec(), &what);
            }
        }
    }
}

fn words(found: &Inspection) -> Vec<(u64, &'static str)> {
    found.problems.iter().map(|problem| (problem.segment.unwrap_or(0), problem.kind.word())).collect()
}

#[test]
fn segments_that_are_missing_renamed_swapped_or_copied() {
    for habit in [Habit::Closed, Habit::Killed, Habit::NeverSynced] {
        let Sample { disk, entries, last, .. } = sample(habit);
        for segment in 1..=last {
            let damaged = disk.copy();
            damaged.set_bytes(segment, None);
            let what = format!("{habit:?}, without segment {segment}");
            let found = agree(&damaged, &what);
            assert_eq!(words(&found), [(segment, "missing")], "{what}");
            let lost = &found.problems[0].lost;
            assert_eq!(lost[0].from == Lsn(1), segment == 1, "{what}: {lost:?}");
            assert_eq!(lost[0].to.is_none(), segment == last, "{what}: {lost:?}");
            read_all(&damaged, &entries, &what);
        }
        let (first, second) = (disk.bytes(1), disk.bytes(2));
        let swapped = disk.copy();
        swapped.set_bytes(1, second.clone());
        swapped.set_bytes(2, first.clone());
        assert_eq!(words(&agree(&swapped, "swapped")), [(1, "swapped"), (2, "swapped")]);
        assert_eq!(read_all(&swapped, &entries, "swapped").len(), entries.len());
        let copied = disk.copy();
        copied.set_bytes(last + 1, first);
        assert_eq!(words(&agree(&copied, "copied")), [(last + 1, "duplicated")]);
        assert_eq!(read_all(&copied, &entries, "copied").len(), entries.len());
        let renamed = disk.copy();
        renamed.set_bytes(1, None);
        renamed.set_bytes(last + 2, disk.bytes(1));
        let found = agree(&renamed, "renamed");
        let expected = [(last + 2, "renamed"), (1, "missing"), (last + 1, "missing")];
        assert_eq!(words(&found), expected, "{found:#?}");
        assert!(found.problems[1].lost.is_empty());
        assert_eq!(read_all(&renamed, &entries, "renamed").len(), entries.len());
    }
}

#[test]
fn segments_of_another_store_or_a_newer_version() {
    let Sample { disk, entries, last, .. } = sample(Habit::Killed);
    for segment in 1..=last {
        let damaged = disk.copy();
        damaged.set_bytes(segment, foreign().bytes(segment.min(2)));
        let found = agree(&damaged, "foreign");
        assert!(words(&found).contains(&(segment, "foreign")), "{found:#?}");
        assert_eq!(found.verdict(), Verdict::Damaged);
        read_all(&damaged, &entries, "foreign");

        let mut newer = disk.bytes(segment).unwrap();
        newer[8] = 2;
        let checksum = crc32fast::hash(&newer[..60]);
        newer[60..64].copy_from_slice(&checksum.to_le_bytes());
        let damaged = disk.copy();
        damaged.set_bytes(segment, Some(newer));
        let found = agree(&damaged, "newer");
        assert!(words(&found).contains(&(segment, "newer")), "{found:#?}");
    }
    let all = foreign();
    all.set_store(Some(StoreId(STORE)));
    let found = agree(&all, "all foreign");
    assert_eq!(found.store, Some(StoreId([7; 16])), "what is read is told");
}

#[test]
fn rubbish_behind_the_end() {
    let Sample { disk, entries, last, end, .. } = sample(Habit::Killed);
    let mut bytes = disk.bytes(last).unwrap();
    bytes.truncate(end as usize);
    bytes.extend_from_slice(&[0, 0, 7, 7, 7, 0, 0]);
    disk.set_bytes(last, Some(bytes));
    assert_eq!(agree(&disk, "rubbish").verdict(), Verdict::Torn);
    assert_eq!(read_all(&disk, &entries, "rubbish").len(), entries.len());
}

/// A group of several records.
fn crowd() -> (SimulatedDisk, Vec<Entry>) {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    for group in 0..3 {
        let events = (0..8).map(|job| Event::JobPut(put(group * 8 + job + 1, b"a body of some length"))).collect();
        scribe.commit(events);
        scribe.writer.sync().unwrap();
    }
    let entries = scribe.entries;
    scribe.writer.close().unwrap();
    (disk, entries)
}

#[test]
fn a_spoilt_record_takes_no_other_with_it() {
    let (disk, entries) = crowd();
    let bytes = disk.bytes(1).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for at in 64..used {
        let mut changed = bytes.clone();
        changed[at] ^= 0x21;
        let damaged = disk.copy();
        damaged.set_bytes(1, Some(changed));
        let found = agree(&damaged, &format!("flipped at {at}"));
        let left = read_all(&damaged, &entries, &format!("flipped at {at}"));
        assert!(left.len() + 1 >= entries.len(), "flipped at {at}: {} are left", left.len());
        assert!(left.is_sorted());
        // What is lost is told by its place.
        let lost: Vec<u64> = found
            .problems
            .iter()
            .flat_map(|problem| &problem.lost)
            .flat_map(|range| range.from.0..=range.to.map_or(range.from.0, |to| to.0))
            .collect();
        assert_eq!(lost.len() + left.len(), entries.len(), "flipped at {at}: {found:#?}");
    }
}

#[test]
fn a_body_that_looks_like_records_is_not_taken_for_them() {
    // A record of the log itself, as a client could make one, in the body of a job whose record is spoilt.
    let (disk, entries) = crowd();
    let bytes = disk.bytes(1).unwrap();
    let fake = bytes[64 + 48..][..28 + 100].to_vec();
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    let body: Vec<u8> = (0..20).flat_map(|_| fake.clone()).collect();
    scribe.commit(vec![
        Event::JobPut(put(1, b"before")),
        Event::JobPut(put(2, &body)),
        Event::JobPut(put(3, b"behind")),
    ]);
    scribe.writer.sync().unwrap();
    let entries_here = scribe.entries;
    drop((entries, scribe.writer));
    let bytes = disk.bytes(1).unwrap();
    let second = 64 + 48 + 28 + 64;
    for at in second..second + 200 {
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        disk.set_bytes(1, Some(changed));
        let left = read_all(&disk, &entries_here, &format!("flipped at {at}"));
        assert!(left.len() >= 2, "flipped at {at}");
    }
}

/// Where the records are: segment, offset and length.
fn places(disk: &SimulatedDisk) -> Vec<(u64, usize, usize)> {
    let mut places = Vec::new();
    inspect::read(disk, Look::default(), None, Lsn(0), &mut |item| {
        if let Item::Record(record) = item {
            places.push((record.segment, record.offset as usize, record.bytes as usize));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    places
}

#[test]
fn a_place_is_not_certain_where_the_file_was_cut() {
    let sample = sample(Habit::Closed);
    for (segment, offset, length) in places(&sample.disk) {
        let mut bytes = sample.disk.bytes(segment).unwrap();
        bytes.truncate(offset + length);
        // The header of its group, if it is the first of it.
        bytes[offset - 48] ^= 1;
        judge_changed(&sample, segment, bytes, &format!("segment {segment} cut behind the record at {offset}"));
    }
}

#[test]
fn a_place_is_not_certain_behind_a_length_that_leads_past_records() {
    let sample = sample(Habit::Closed);
    let places = places(&sample.disk);
    for (number, &(segment, offset, _)) in places.iter().enumerate() {
        let behind = places[number + 1..].iter().take_while(|place| place.0 == segment);
        for &(_, later, _) in behind.take(6) {
            let mut bytes = sample.disk.bytes(segment).unwrap();
            let length = (later - offset - 28) as u32;
            bytes[offset + 4..offset + 8].copy_from_slice(&length.to_le_bytes());
            // No group header is left in between, nor that of its own group.
            for at in (64..later).step_by(8) {
                if at + 48 >= offset && bytes[at..].starts_with(b"RGRP") {
                    bytes[at] = 0;
                }
            }
            let what = format!("segment {segment}, the record at {offset} reaches to {later}");
            judge_changed(&sample, segment, bytes, &what);
        }
    }
}

#[test]
fn all_problems_are_listed() {
    let Sample { disk, last, .. } = sample(Habit::Closed);
    for segment in [1, last] {
        let mut bytes = disk.bytes(segment).unwrap();
        for at in [120, 300] {
            bytes[at] ^= 1;
        }
        disk.set_bytes(segment, Some(bytes));
    }
    disk.set_bytes(2, None);
    let found = agree(&disk, "several");
    let count = |segment| found.problems.iter().filter(|problem| problem.segment == Some(segment)).count();
    assert_eq!((count(1), count(2), count(last)), (2, 1, 2), "{found:#?}");
}

/// A disk that cannot read some of its blocks.
struct Failing(SimulatedDisk, u64);

struct FailingFile<'d>(Box<dyn ReadAt + 'd>, u64);

impl LogSource for Failing {
    fn store_id(&self) -> io::Result<Option<StoreId>> {
        LogSource::store_id(&self.0)
    }

    fn files(&self) -> io::Result<Vec<LogFile>> {
        self.0.files()
    }

    fn open_file(&self, file: &LogFile) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(FailingFile(self.0.open_file(file)?, self.1)))
    }
}

impl ReadAt for FailingFile<'_> {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let block = self.1 * 4096;
        if offset < block + 4096 && block < offset + into.len() as u64 {
            return Err(io::Error::other("a bad block"));
        }
        self.0.read_at(offset, into)
    }
}

#[test]
fn a_block_that_the_disk_cannot_read_costs_what_was_in_it() {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    for job in 1..=200 {
        scribe.commit(vec![Event::JobPut(put(job, &[b'b'; 100]))]);
        scribe.writer.sync().unwrap();
    }
    let failing = Failing(disk, 2);
    let found = inspect::check(&failing, Look::default()).unwrap();
    let unreadable = found.problems.iter().find(|problem| problem.kind.word() == "unreadable").unwrap();
    assert_eq!((unreadable.offset, &unreadable.kind), (8192, &ProblemKind::Unreadable { blocks: 1 }));
    let records: u64 = found.segments[0].records;
    assert!((180..200).contains(&records), "{records}");
}

#[test]
fn a_log_that_is_being_written_ends_at_its_last_whole_group() {
    let Sample { disk, last, .. } = sample(Habit::Killed);
    let mut bytes = disk.bytes(last).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[end] ^= 1;
    disk.set_bytes(last, Some(bytes));
    assert_eq!(check(&disk).verdict(), Verdict::Torn);
    let live = inspect::check(&disk, Look { is_live: true }).unwrap();
    assert_eq!(live.verdict(), Verdict::Whole);
    // Damage with a group behind it is damage all the same.
    let mut bytes = disk.bytes(last).unwrap();
    bytes[70] ^= 1;
    disk.set_bytes(last, Some(bytes));
    let live = inspect::check(&disk, Look { is_live: true }).unwrap();
    assert_eq!(live.verdict(), Verdict::Damaged);
    assert_eq!(live.problems[0].kind, ProblemKind::Damaged(Damage::GroupHeader));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_changes_anywhere(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
        habit in prop::sample::select(vec![Habit::Closed, Habit::Killed, Habit::NeverSynced]),
    ) {
        let Sample { disk, entries, last, .. } = sample(habit);
        for (segment, at, byte) in &changes {
            let segment = 1 + segment.index(last as usize) as u64;
            let mut bytes = disk.bytes(segment).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = *byte;
            disk.set_bytes(segment, Some(bytes));
        }
        if let Some((segment, at)) = cut {
            let segment = 1 + segment.index(last as usize) as u64;
            let mut bytes = disk.bytes(segment).unwrap();
            bytes.truncate(at.index(bytes.len()));
            disk.set_bytes(segment, Some(bytes));
        }
        agree(&disk, "random");
        read_all(&disk, &entries, "random");
    }

    #[test]
    fn random_bytes_as_a_segment(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        let disk = disk_with_segments_of(4_096);
        disk.set_store(Some(StoreId(STORE)));
        disk.set_bytes(1, Some(bytes));
        agree(&disk, "random bytes");
        read_all(&disk, &[], "random bytes");
    }
}
