//! Every kind of damage, everywhere in a small log: it is refused, or it is a torn tail that loses nothing that was
//! known to be durable. A refused log is left as it is.

use super::{Entry, Lsn, Scribe, disk_with_segments_of, put, read};
use crate::event::Event;
use crate::job::JobId;
use crate::log::{Damage, OpenError, Refusal};
use crate::storage::{Storage, StoreId};
use crate::testing::storage::SimulatedDisk;

/// How the runs that wrote a log ended their groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Habit {
    /// Every group was synced; the log was closed in good order.
    Closed,
    /// Every group was synced; the process was killed.
    Killed,
    /// Nothing was ever synced but by the change of segments.
    NeverSynced,
}

pub(super) struct Sample {
    pub(super) disk: SimulatedDisk,
    pub(super) entries: Vec<Entry>,
    /// The last segment.
    pub(super) last: u64,
    /// Where each group of the last segment begins, and the first record of each.
    groups: Vec<(u64, Lsn)>,
    /// Where the last of them ends.
    pub(super) end: u64,
}

/// A log of a few short segments.
pub(super) fn sample(habit: Habit) -> Sample {
    let disk = disk_with_segments_of(700);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    let mut groups = Vec::new();
    let (mut last, mut at) = (1, 64);
    for job in 1..=11 {
        let first = Lsn(scribe.pending.last_lsn().0 + 1);
        let before = scribe.writer.stats();
        scribe.commit(vec![Event::JobPut(put(job, b"a body of some length")), Event::completed(JobId(job))]);
        let after = scribe.writer.stats();
        if after.segments > before.segments {
            groups.clear();
            last += 1;
            at = 64;
        }
        groups.push((at, first));
        at += after.bytes_written - before.bytes_written;
        if habit != Habit::NeverSynced {
            scribe.writer.sync().unwrap();
        }
    }
    let entries = scribe.entries;
    if habit == Habit::Closed {
        scribe.writer.close().unwrap();
    }
    assert!(last >= 3 && groups.len() >= 2, "the sample should have some segments, and groups in the last");
    Sample { disk, entries, last, groups, end: at }
}

pub(super) fn content(disk: &SimulatedDisk) -> Vec<(u64, Option<Vec<u8>>)> {
    disk.segments().unwrap().into_iter().map(|segment| (segment, disk.bytes(segment))).collect()
}

/// Opens a damaged log; gives how many records came back, `None` if it was refused.
fn check(disk: &SimulatedDisk, entries: &[Entry], what: &str) -> Option<usize> {
    let before = content(disk);
    match read(disk.clone()) {
        Ok((_, recovery, found)) => {
            assert!(entries.starts_with(&found), "{what}: something else came back");
            let (_, again, found_again) = read(disk.clone()).unwrap();
            assert_eq!(found_again, found, "{what}: a second recovery differs");
            assert_eq!(again.torn, None, "{what}: the tail was not cut");
            if found.len() < entries.len() {
                // The log goes on where it was cut.
                assert_eq!(recovery.next_lsn, Lsn(found.len() as u64 + 1));
            }
            Some(found.len())
        }
        Err(error) => {
            assert!(!matches!(error, OpenError::Io { .. }), "{what}: {error}");
            assert_eq!(content(disk), before, "{what}: a refused log was changed");
            let text = error.to_string();
            assert!(text.contains(".seg, offset ") && text.contains("Nothing was touched"), "{what}: {text}");
            None
        }
    }
}

/// Changes each segment in every way that `change` makes of an offset, and checks how much is lost at most.
fn check_changes(habit: Habit, name: &str, step: usize, change: &dyn Fn(&mut Vec<u8>, usize)) {
    let sample = sample(habit);
    let all = sample.entries.len();
    let (mut refused, mut torn) = (0, 0);
    for (segment, bytes) in content(&sample.disk) {
        let bytes = bytes.unwrap();
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for at in (0..used).step_by(step) {
            let mut changed = bytes.clone();
            change(&mut changed, at);
            if changed == bytes {
                continue;
            }
            let disk = sample.disk.copy();
            disk.set_bytes(segment, Some(changed));
            let what = format!("{habit:?}, {name} in segment {segment} at {at}");
            let found = check(&disk, &sample.entries, &what);
            refused += u32::from(found.is_none());
            torn += u32::from(found.is_some_and(|found| found < all));
            let Some(found) = found else { continue };
            let hit = sample.groups.iter().rev().find(|group| group.0 <= at as u64);
            match (habit, hit) {
                _ if segment < sample.last => assert_eq!(found, all, "{what}: durable records are gone"),
                (Habit::Closed, _) => assert_eq!(found, all, "{what}: durable records are gone"),
                (Habit::Killed, _) => {
                    let last = sample.groups.last().unwrap();
                    assert!(at as u64 >= last.0 || found == all, "{what}: only the last group can look torn");
                    assert!(found == all || found + 1 == last.1.0 as usize, "{what}: {found} records are left");
                }
                (Habit::NeverSynced, Some(hit)) => assert_eq!(found + 1, hit.1.0 as usize, "{what}"),
                (Habit::NeverSynced, None) => panic!("{what}: a header is durable before its groups are written"),
            }
        }
    }
    assert!(refused > 0, "{habit:?}, {name}: nothing was refused");
    assert_eq!(torn > 0, habit != Habit::Closed, "{habit:?}, {name}: {torn} were taken for torn tails");
}

fn check_all_habits(name: &str, step: usize, change: &dyn Fn(&mut Vec<u8>, usize)) {
    for habit in [Habit::Closed, Habit::Killed, Habit::NeverSynced] {
        check_changes(habit, name, step, change);
    }
}

#[test]
fn a_flipped_bit_anywhere() {
    for bit in 0..8 {
        check_all_habits(&format!("bit {bit} flipped"), 1, &|bytes, at| bytes[at] ^= 1 << bit);
    }
}

#[test]
fn a_byte_set_to_zero_or_ones_anywhere() {
    check_all_habits("a byte of zero", 1, &|bytes, at| bytes[at] = 0);
    check_all_habits("a byte of ones", 1, &|bytes, at| bytes[at] = 0xff);
}

#[test]
fn zeros_anywhere() {
    check_all_habits("8 zeroed bytes", 8, &|bytes, at| bytes[at..at + 8].fill(0));
}

#[test]
fn a_zeroed_sector_anywhere() {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    let mut last_two = [0; 2];
    let mut end = 64;
    for job in 1..=40 {
        last_two = [last_two[1], end];
        scribe.commit(vec![Event::JobPut(put(job, b"a body of some length"))]);
        scribe.writer.sync().unwrap();
        end = 64 + scribe.writer.stats().bytes_written as usize;
    }
    let bytes = disk.bytes(1).unwrap();
    for at in (0..end).step_by(512) {
        let mut changed = bytes.clone();
        changed[at..at + 512].fill(0);
        let damaged = disk.copy();
        damaged.set_bytes(1, Some(changed));
        let found = check(&damaged, &scribe.entries, &format!("a zeroed sector at {at}"));
        // Only a group that a later one still vouches for is known to have been durable.
        assert!(found.is_none() || at + 512 > last_two[1], "the sector at {at}: {found:?}");
    }
}

#[test]
fn a_cut_at_any_byte() {
    for habit in [Habit::Closed, Habit::Killed, Habit::NeverSynced] {
        let sample = sample(habit);
        for (segment, bytes) in content(&sample.disk) {
            let bytes = bytes.unwrap();
            for at in 0..bytes.len() {
                let disk = sample.disk.copy();
                disk.set_bytes(segment, Some(bytes[..at].to_vec()));
                let what = format!("{habit:?}, segment {segment} cut at {at}");
                let found = check(&disk, &sample.entries, &what);
                if segment < sample.last {
                    assert!(found.is_none_or(|found| found == sample.entries.len()), "{what}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn rubbish_behind_the_end_is_cut_off_and_loses_nothing() {
    let sample = sample(Habit::Killed);
    let mut bytes = sample.disk.bytes(sample.last).unwrap();
    bytes.truncate(sample.end as usize);
    bytes.extend_from_slice(&[0, 0, 7, 7, 7, 0, 0]);
    sample.disk.set_bytes(sample.last, Some(bytes));
    let (_, recovery, found) = read(sample.disk).unwrap();
    assert_eq!(found, sample.entries);
    let torn = recovery.torn.unwrap();
    assert_eq!((torn.offset, torn.bytes, torn.from_lsn), (sample.end, 5, Lsn(23)));
}

fn check_refused(disk: &SimulatedDisk, segment: u64, expected: &Refusal) {
    let before = content(disk);
    let error = read(disk.clone()).map(|_| ()).unwrap_err();
    assert_eq!(content(disk), before, "a refused log was changed");
    let OpenError::Refused { path, problem, .. } = &error else { panic!("{error:?}") };
    assert_eq!((path, problem), (&disk.path(segment), expected), "{error}");
}

#[test]
fn a_missing_segment() {
    for habit in [Habit::Closed, Habit::Killed, Habit::NeverSynced] {
        let sample = sample(habit);
        for segment in 1..=sample.last {
            let disk = sample.disk.copy();
            disk.set_bytes(segment, None);
            check_refused(&disk, segment, &Refusal::Missing);
        }
        (1..=sample.last).for_each(|segment| sample.disk.set_bytes(segment, None));
        check_refused(&sample.disk, 1, &Refusal::Missing);
    }
}

#[test]
fn swapped_and_copied_segments() {
    let sample = sample(Habit::Killed);
    let (first, second) = (sample.disk.bytes(1), sample.disk.bytes(2));
    let swapped = sample.disk.copy();
    swapped.set_bytes(1, second.clone());
    swapped.set_bytes(2, first.clone());
    check_refused(&swapped, 1, &Refusal::Misnamed { found: 2 });
    let copied = sample.disk.copy();
    copied.set_bytes(sample.last + 1, first);
    check_refused(&copied, sample.last + 1, &Refusal::Misnamed { found: 1 });
    let over = sample.disk.copy();
    over.set_bytes(1, second);
    check_refused(&over, 1, &Refusal::Misnamed { found: 2 });
}

/// The same log under another id.
pub(super) fn foreign() -> SimulatedDisk {
    let disk = disk_with_segments_of(700);
    let (mut writer, _) = crate::log::open(disk.clone(), [7; 16], &mut |_| Ok(())).unwrap();
    let mut pending = crate::log::Pending::new(Lsn(1));
    let mut group = crate::log::Group::default();
    for job in 1..=10 {
        pending.append(job, crate::job::Time(1), &Event::JobPut(put(job, b"another's")), &super::Names::new());
        pending.take(&mut group);
        writer.write(&mut group).unwrap();
        writer.sync().unwrap();
    }
    disk
}

#[test]
fn a_segment_of_another_store() {
    let sample = sample(Habit::Killed);
    let (ours, theirs) = (StoreId(super::STORE), StoreId([7; 16]));
    for segment in 1..=sample.last {
        let disk = sample.disk.copy();
        disk.set_bytes(segment, foreign().bytes(segment.min(2)));
        let expected = Refusal::Foreign { found: theirs, expected: ours };
        check_refused(&disk, segment, &expected);
    }
    let all = foreign();
    all.set_store(Some(ours));
    check_refused(&all, 1, &Refusal::Foreign { found: theirs, expected: ours });
}

#[test]
fn a_newer_format_version() {
    let sample = sample(Habit::Killed);
    for segment in 1..=sample.last {
        // Whatever a later version makes of its header: magic, version, length and the checksum at the end stay.
        let mut newer = sample.disk.bytes(segment).unwrap();
        newer[8] = 2;
        newer[10] = 48;
        let checksum = crc32fast::hash(&newer[..44]);
        newer[44..48].copy_from_slice(&checksum.to_le_bytes());
        let disk = sample.disk.copy();
        disk.set_bytes(segment, Some(newer));
        check_refused(&disk, segment, &Refusal::NewerVersion { found: 2 });
    }
}

#[test]
fn a_body_cannot_pass_for_a_part_of_the_log() {
    // Every group header of another store, as a client could have seen them, claiming that all is durable.
    let theirs = foreign().bytes(1).unwrap();
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(vec![Event::JobPut(put(1, b"kept"))]);
    let first_group = scribe.writer.stats().bytes_written;
    scribe.writer.sync().unwrap();
    let body: Vec<u8> = (0..8).flat_map(|shift| [vec![b'.'; shift], theirs.clone()].concat()).collect();
    scribe.commit(vec![Event::JobPut(put(2, &body))]);
    let mut bytes = disk.bytes(1).unwrap();
    let second = 64 + first_group as usize;
    assert_eq!(bytes[second..second + 4], *b"RGRP");
    bytes[second + 60] ^= 1;
    disk.set_bytes(1, Some(bytes));
    let (_, recovery, found) = read(disk).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(recovery.torn.unwrap().offset, second as u64);
}

#[test]
fn history_before_the_oldest_needed_segment_is_not_read() {
    use crate::log::segment::SegmentHeader;
    let sample = sample(Habit::Killed);
    let last = sample.last;
    let mut bytes = sample.disk.bytes(last).unwrap();
    let mut header = SegmentHeader::decode(&bytes).unwrap();
    header.oldest_needed = 2;
    // Only the header changes, so the first group's chain no longer fits: cut the groups off.
    bytes.truncate(64);
    bytes[..64].copy_from_slice(&header.encode());
    sample.disk.set_bytes(last, Some(bytes));
    let without_first = sample.disk.copy();
    without_first.set_bytes(1, None);
    for disk in [sample.disk, without_first] {
        let mut seen = Vec::new();
        let (_, recovery) = crate::log::open(disk.clone(), super::STORE, &mut |record| {
            seen.push(record.lsn);
            Ok(())
        })
        .unwrap();
        assert_eq!(recovery.segments, last - 1);
        assert!(seen[0] > Lsn(1));
        disk.set_bytes(2, None);
        if disk.bytes(1).is_none() {
            check_refused(&disk, 2, &Refusal::Missing);
        }
    }
}

fn check_damaged(disk: &SimulatedDisk, segment: u64, expected: Damage) {
    let before = content(disk);
    let error = read(disk.clone()).map(|_| ()).unwrap_err();
    assert_eq!(content(disk), before, "a refused log was changed");
    let OpenError::Refused { path, problem: Refusal::Damaged { found, .. }, .. } = &error else { panic!("{error:?}") };
    assert_eq!((path, *found), (&disk.path(segment), expected), "{error}");
}

#[test]
fn a_header_that_is_gone_though_the_segment_was_used() {
    let sample = sample(Habit::Killed);
    // Without the seal before it, it would look like a segment that was being begun, but for what is in it.
    let mut before = sample.disk.bytes(sample.last - 1).unwrap();
    before.truncate(before.len() - 48);
    sample.disk.set_bytes(sample.last - 1, Some(before));
    assert_eq!(check(&sample.disk.copy(), &sample.entries, "no seal"), Some(sample.entries.len()));
    let mut bytes = sample.disk.bytes(sample.last).unwrap();
    bytes[..64].fill(0);
    sample.disk.set_bytes(sample.last, Some(bytes));
    check_damaged(&sample.disk, sample.last, Damage::SegmentHeader);
}

#[test]
fn damage_before_a_segment_that_was_being_begun() {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(vec![Event::JobPut(put(1, b"synced before the next segment is begun"))]);
    let mut bytes = disk.bytes(1).unwrap();
    bytes[120] ^= 1;
    disk.set_bytes(1, Some(bytes));
    // Alone, it would look torn; the name of the next segment says that all of it had been synced.
    disk.set_bytes(2, Some(vec![]));
    check_damaged(&disk, 1, Damage::Payload);
    disk.set_bytes(2, None);
    assert_eq!(read(disk).unwrap().1.torn.unwrap().found, Damage::Payload);
}

/// Three groups, each synced; the bodies are of one length.
fn three_groups(first_body: &[u8; 4]) -> SimulatedDisk {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    for body in [first_body, b"same", b"same"] {
        scribe.commit(vec![Event::JobPut(put(1, body))]);
        scribe.writer.sync().unwrap();
    }
    disk
}

#[test]
fn a_group_of_another_past() {
    // The same store, segment, offset and LSN, and right checksums: only the chain tells.
    let (ours, theirs) = (three_groups(b"ours"), three_groups(b"his!"));
    let (mut bytes, other) = (ours.bytes(1).unwrap(), theirs.bytes(1).unwrap());
    let at = (65..bytes.len()).find(|&at| bytes[at..].starts_with(b"RGRP")).unwrap();
    let length = at - 64;
    bytes[at..at + length].copy_from_slice(&other[at..at + length]);
    ours.set_bytes(1, Some(bytes));
    check_damaged(&ours, 1, Damage::OutOfPlace);
}

#[test]
fn a_group_that_leaves_records_out() {
    use crate::log::segment::{GroupHeader, GroupSalt, SegmentHeader};
    let disk = disk_with_segments_of(1 << 20);
    drop(Scribe::open(disk.clone()).unwrap());
    let mut bytes = disk.bytes(1).unwrap();
    let segment = SegmentHeader::decode(&bytes).unwrap();
    let header = GroupHeader {
        payload_bytes: 0,
        first_lsn: Lsn(2),
        durable: Lsn(1),
        records: 0,
        is_seal: false,
        chain: segment.checksum(),
        payload_checksum: 0,
    };
    bytes.resize(64 + 48, 0);
    header.encode(&GroupSalt::new(segment.store, 1), 64, &mut bytes[64..]);
    disk.set_bytes(1, Some(bytes));
    check_damaged(&disk, 1, Damage::OutOfPlace);
}
