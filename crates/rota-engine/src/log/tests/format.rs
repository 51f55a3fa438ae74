//! The bytes on disk are those of `docs/disk-format.md`, and stay so; what a newer server wrote is refused or passed over
//! as it asked for.

use super::{
    Entry, Lsn, STORE, Scribe, disk_with_segments_of, every_asked, every_durable, every_event, every_kept, every_note,
    every_rest, every_schedule, every_turn, every_wall, open, put, read,
};
use crate::event::{Event, PutJob};
use crate::job::JobId;
use crate::log::{Group, OpenError, RecordFault, Refusal, check_record};
use crate::session::Actor;
use crate::storage::StoreId;
use crate::testing::storage::SimulatedDisk;
use std::fmt::Write;
use std::time::Duration;

/// A log of format version 1: every event in one group, and a mark.
const VERSION_1: &str = include_str!("version-1.hex");

/// The same, of the records that came with the reclaiming of segments.
const VERSION_1_KEPT: &str = include_str!("version-1-kept.hex");

/// The same, of the records about schedules.
const VERSION_1_SCHEDULES: &str = include_str!("version-1-schedules.hex");

/// The same, of what plain jobs and queues have nothing of: terms, settings, results, answers that are kept.
const VERSION_1_REST: &str = include_str!("version-1-rest.hex");

/// The same, of every record that a command can make, with who asked for it.
const VERSION_1_ACTORS: &str = include_str!("version-1-actors.hex");

/// The same, of what was changed beside the state, each but the last in somebody's name.
const VERSION_1_NOTES: &str = include_str!("version-1-notes.hex");

/// The same, of what goes by the wall clock, and of what is remembered of jobs that came to nothing.
const VERSION_1_WALL: &str = include_str!("version-1-wall.hex");

/// The same, of what was done to jobs beside their begin and their end.
const VERSION_1_TURNS: &str = include_str!("version-1-turns.hex");

/// The same, of durable leases, and of queues that have answers wait for the disk.
const VERSION_1_LEASES: &str = include_str!("version-1-leases.hex");

type Asked = Vec<(Event, Option<Actor>)>;

fn all() -> [(Asked, &'static str); 9] {
    let by_nobody = |events: Vec<Event>| events.into_iter().map(|event| (event, None)).collect();
    let mut notes: Asked =
        every_note().into_iter().map(|note| (note, Some(Actor::new("command line").unwrap()))).collect();
    let last = notes.pop();
    notes.extend(last.map(|(note, _)| (note, None)));
    [
        (by_nobody(every_event()), VERSION_1),
        (by_nobody(every_kept()), VERSION_1_KEPT),
        (by_nobody(every_schedule()), VERSION_1_SCHEDULES),
        (by_nobody(every_rest()), VERSION_1_REST),
        (every_asked(), VERSION_1_ACTORS),
        (notes, VERSION_1_NOTES),
        (by_nobody(every_wall()), VERSION_1_WALL),
        (by_nobody(every_turn()), VERSION_1_TURNS),
        (by_nobody(every_durable()), VERSION_1_LEASES),
    ]
}

fn on_disk(events: Asked) -> (SimulatedDisk, Vec<Entry>) {
    let disk = disk_with_segments_of(4_096);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit_by(events);
    scribe.writer.close().unwrap();
    (disk, scribe.entries)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn the_format_of_version_1_is_written_as_ever() {
    for (events, expected) in all() {
        let (disk, _) = on_disk(events);
        let mut bytes = disk.bytes(1).unwrap();
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        bytes.truncate(end.next_multiple_of(8));
        assert_eq!(hex(&bytes), expected, "the format changed: see docs/disk-format.md, Changing the format");
    }
}

#[test]
fn a_log_of_version_1_is_read() {
    for (events, on_disk_then) in all() {
        let (_, entries) = on_disk(events);
        let disk = disk_with_segments_of(4_096);
        disk.set_store(Some(StoreId(STORE)));
        disk.set_bytes(1, Some(from_hex(on_disk_then)));
        let (_, recovery, found) = read(disk).unwrap();
        assert_eq!((found, recovery.torn), (entries, None));
    }
}

#[test]
fn a_span_too_long_for_the_log_becomes_the_longest() {
    let disk = disk_with_segments_of(4_096);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(vec![Event::JobPut(PutJob { ttr: Duration::MAX, ..put(1, b"x") })]);
    let (_, _, found) = read(disk).unwrap();
    let Event::JobPut(put) = &found[0].event else { panic!("{found:?}") };
    assert_eq!(put.ttr, Duration::from_nanos(u64::MAX));
}

/// A record of any type with any payload.
fn record(kind: u8, version: u8, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[kind, version]);
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&1_u64.to_le_bytes());
    bytes.extend_from_slice(&2_u64.to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Writes the record between two puts and opens the log; gives how many events came back.
fn check_record_of(record: &[u8]) -> Result<usize, OpenError> {
    let disk = disk_with_segments_of(4_096);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(vec![Event::JobPut(put(1, b"before"))]);
    let mut group = Group { first_lsn: Lsn(2), records: 1, ..Group::default() };
    group.buffer.extend_from_slice(record);
    scribe.writer.write(&mut group).unwrap();
    drop(scribe);
    let before = disk.bytes(1);
    let mut events = 0;
    let result = open(disk.clone(), STORE, &mut |_| {
        events += 1;
        Ok(())
    });
    if result.is_err() {
        assert_eq!(disk.bytes(1), before, "a refused log was changed");
    }
    result.map(|(_, recovery)| {
        assert_eq!(recovery.next_lsn, Lsn(3));
        events
    })
}

fn check_unknown(record: &[u8], expected: RecordFault) {
    let error = check_record_of(record).unwrap_err();
    match error {
        OpenError::Refused { problem: Refusal::Unknown(found), offset, .. } => {
            assert_eq!(found, expected);
            assert!(offset > 64);
        }
        other => panic!("{other:?}"),
    }
}

/// The payload of a completion with one optional field.
fn completion_with(tag: u8) -> Vec<u8> {
    let mut payload = 7_u64.to_le_bytes().to_vec();
    payload.push(tag);
    payload.extend_from_slice(&3_u32.to_le_bytes());
    payload.extend_from_slice(b"new");
    payload
}

#[test]
fn a_mandatory_thing_of_a_newer_server_refuses_the_start() {
    check_unknown(&record(200, 1, 0, b"??"), RecordFault::UnknownType { kind: 200, version: 1 });
    check_unknown(&record(0, 1, 0, b""), RecordFault::UnknownType { kind: 0, version: 1 });
    check_unknown(&record(5, 2, 0, b"??"), RecordFault::UnknownType { kind: 5, version: 2 });
    check_unknown(&record(5, 1, 0, &completion_with(3)), RecordFault::UnknownField { kind: 5, tag: 3 });
    check_unknown(&record(5, 1, 2, &7_u64.to_le_bytes()), RecordFault::UnknownFlags(2));
}

#[test]
fn a_skippable_thing_of_a_newer_server_is_passed_over() {
    assert_eq!(check_record_of(&record(200, 1, 1, b"??")).unwrap(), 1);
    assert_eq!(check_record_of(&record(5, 9, 1, b"??")).unwrap(), 1);
    assert_eq!(check_record_of(&record(5, 1, 0, &completion_with(129))).unwrap(), 2);
}

#[test]
fn a_note_of_something_new_is_passed_over_and_one_that_nobody_writes_refuses_the_start() {
    let note = |what: u8, rest: &[u8]| record(31, 1, 1, &[&[what, 6], b"alerts".as_slice(), rest].concat());
    assert_eq!(check_record_of(&note(4, b"")).unwrap(), 2);
    assert_eq!(check_record_of(&note(200, b"")).unwrap(), 1);
    for (bad, words) in [
        (note(4, b"\x02\x01\0\0\0\x09"), "impossible reason"),
        (note(1, b"\x01\x02\0\0\0a\n"), "impossible name of a token"),
        (record(31, 1, 1, b"\x04\x03a b"), "impossible subject of a note"),
        (record(31, 1, 1, b"\x04\x09alerts"), "ends in the middle"),
    ] {
        let text = check_record_of(&bad).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn jobs_that_came_to_nothing_are_some_and_not_too_many() {
    let failed =
        |count: u32, entries: usize| record(32, 1, 1, &[&count.to_le_bytes()[..], &[1; 16].repeat(entries)].concat());
    assert_eq!(check_record_of(&failed(1_000, 1_000)).unwrap(), 2);
    for (bad, words) in [
        (failed(0, 0), "impossible count of jobs"),
        (failed(1_001, 1_001), "impossible count of jobs"),
        (failed(2, 1), "ends in the middle"),
        (failed(1, 2), "ends in the middle"),
    ] {
        let text = check_record_of(&bad).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn an_actor_that_nobody_writes_refuses_the_start() {
    let with = |actor: &[u8]| {
        let length = (actor.len() as u32).to_le_bytes();
        record(5, 1, 0, &[&7_u64.to_le_bytes(), [128].as_slice(), &length, actor].concat())
    };
    assert_eq!(check_record_of(&with(b"new")).unwrap(), 2);
    let long = [b'x'; 101];
    for bad in [b"".as_slice(), b"a\nb", b"\xff", &long] {
        let text = check_record_of(&with(bad)).unwrap_err().to_string();
        assert!(text.contains("impossible actor"), "{text}");
    }
}

#[test]
fn a_record_that_nobody_writes_refuses_the_start() {
    let nonsense: [(&[u8], RecordFault); 5] = [
        (&record(5, 1, 0, b"short"), RecordFault::Short),
        (&record(9, 1, 0, &[9; 17]), RecordFault::BadField("reason")),
        (&record(14, 1, 0, b"\x03a b"), RecordFault::BadField("queue name")),
        (&record(14, 1, 0, b"\x00"), RecordFault::BadField("queue name")),
        (&record(5, 1, 0, &[completion_with(130), completion_with(129)[8..].to_vec()].concat()), RecordFault::TagOrder),
    ];
    for (bytes, fault) in nonsense {
        let error = check_record_of(bytes).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&fault.to_string()), "{text}");
        assert!(text.contains("00000000000000000001.seg, offset "), "{text}");
    }
    let mut wrong = record(5, 1, 0, &7_u64.to_le_bytes());
    wrong[30] ^= 1;
    assert!(check_record_of(&wrong).unwrap_err().to_string().contains("wrong checksum"));
    let mut too_much = record(5, 1, 0, &7_u64.to_le_bytes());
    too_much.extend_from_slice(&[0; 8]);
    assert!(check_record_of(&too_much).unwrap_err().to_string().contains("behind"));
}

#[test]
fn a_payload_can_be_read_without_its_header() {
    let bytes = [[11, 1, 0].as_slice(), &7_u64.to_le_bytes(), &3_u32.to_le_bytes()].concat();
    let expected = Event::LeaseLost { job: JobId(7), reserves: 3 };
    assert_eq!(check_record(&bytes), Ok(Some(expected)));
    assert_eq!(check_record(&[15, 1, 0]), Err(RecordFault::Short));
}
