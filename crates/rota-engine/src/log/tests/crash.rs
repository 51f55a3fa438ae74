//! The disk dies at every operation, in every way, also during recovery: what was promised is there, and what is there
//! was written.

use super::{Entry, Lsn, Scribe, disk_with_segments_of, put, read};
use crate::event::Event;
use crate::job::JobId;
use crate::log::{LogError, Refusal};
use crate::storage::Storage;
use crate::testing::storage::{Crash, Fault, SimulatedDisk};
use std::io;

/// What a run had been promised when its disk died.
struct Promised {
    written: u64,
    durable: u64,
    entries: Vec<Entry>,
}

/// Opens and writes, syncing now and then, until it is through or the disk dies; `entries` are those of before.
fn run(disk: &SimulatedDisk, before: &Promised) -> Promised {
    let stopped = |scribe: Scribe<SimulatedDisk>| Promised {
        written: scribe.writer.written().0,
        durable: scribe.writer.durable().0,
        entries: scribe.entries,
    };
    let Ok(mut scribe) = Scribe::open(disk.clone()) else {
        return Promised { entries: before.entries.clone(), ..*before };
    };
    for step in 0..14_u64 {
        let job = scribe.pending.last_lsn().0 + 1;
        let body = vec![b'z'; (step as usize * 131) % 700];
        scribe.append(Event::JobPut(put(job, &body)));
        if step % 3 == 0 {
            scribe.append(Event::completed(JobId(job)));
        }
        let went_well = scribe.write().and_then(|_| if step % 4 == 1 { scribe.writer.sync() } else { Ok(Lsn(0)) });
        if went_well.is_err() {
            assert!(matches!(scribe.writer.sync(), Err(LogError::Poisoned)), "it tried again");
            return stopped(scribe);
        }
    }
    stopped(scribe)
}

fn nothing() -> Promised {
    Promised { written: 0, durable: 0, entries: Vec::new() }
}

/// Recovers after a crash and checks the promises; gives what is on the disk then.
fn check_promises(disk: &SimulatedDisk, crash: Crash, promised: &Promised, what: &str) -> Promised {
    let (writer, _, found) = read(disk.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(promised.entries.starts_with(&found), "{what}: something else came back");
    let kept = if crash == Crash::KeepWritten { promised.written } else { promised.durable };
    assert!(found.len() as u64 >= kept, "{what}: {} records of {kept} came back", found.len());
    assert_eq!(writer.durable().0, found.len() as u64);
    Promised { written: writer.written().0, durable: writer.durable().0, entries: found }
}

fn operations_of_a_run() -> u64 {
    let disk = disk_with_segments_of(2_000);
    run(&disk, &nothing());
    assert!(disk.bytes(4).is_some(), "a run should fill some segments");
    disk.operations()
}

#[test]
fn power_may_fail_at_every_operation() {
    for dies_at in 0..=operations_of_a_run() {
        for (crash, seed) in [
            (Crash::KeepWritten, 0),
            (Crash::KeepSynced, 0),
            (Crash::Tear, dies_at),
            (Crash::Tear, dies_at + 1_000),
            (Crash::Tear, dies_at + 2_000),
        ] {
            let what = format!("{crash:?} at operation {dies_at}, seed {seed}");
            let disk = disk_with_segments_of(2_000);
            disk.die_after(dies_at);
            let promised = run(&disk, &nothing());
            let disk = disk.restart(crash, seed);
            let found = check_promises(&disk, crash, &promised, &what);
            // It is in order again: a whole run goes on from there.
            let after = run(&disk, &found);
            assert!(after.entries.len() >= found.entries.len() + 14, "{what}: it does not go on");
            let disk = disk.restart(Crash::KeepWritten, 0);
            check_promises(&disk, Crash::KeepWritten, &after, &what);
        }
    }
}

#[test]
fn power_may_fail_during_recovery_too() {
    let whole = operations_of_a_run();
    for dies_at in (0..=whole).step_by(3) {
        let torn = disk_with_segments_of(2_000);
        torn.die_after(dies_at);
        let promised = run(&torn, &nothing());
        let torn = torn.restart(Crash::Tear, dies_at);
        for dies_again_at in 0..40 {
            for crash in Crash::ALL {
                let what = format!("{crash:?} at operation {dies_again_at} of the recovery from {dies_at}");
                let disk = torn.copy();
                disk.die_after(dies_again_at);
                let recovered = read(disk.clone()).map(|(_, _, found)| found);
                let disk = disk.restart(crash, dies_again_at);
                // What was torn off is not promised by a recovery that was killed: only what was durable is.
                let found = check_promises(&disk, Crash::KeepSynced, &promised, &what);
                if let Ok(recovered) = recovered {
                    assert_eq!(found.entries, recovered, "{what}: what a recovery served is not there any more");
                }
            }
        }
    }
}

#[test]
fn many_crashes_one_after_the_other() {
    for seed in 0..60_u64 {
        let mut disk = disk_with_segments_of(2_000);
        let mut promised = nothing();
        for round in 0..12_u64 {
            let mixed = (seed * 7_919 + round * 104_729) ^ (seed << 7);
            disk.die_after(mixed % operations_of_a_run());
            let after = run(&disk, &promised);
            let crash = Crash::ALL[(mixed / 5 % 3) as usize];
            disk = disk.restart(crash, mixed);
            promised = check_promises(&disk, crash, &after, &format!("seed {seed}, round {round}, {crash:?}"));
        }
    }
}

/// Makes the one operation fail that comes after `later` others of its kind, and checks that nothing is tried after it.
fn check_fault(fault: Fault, later: u64) {
    let disk = disk_with_segments_of(2_000);
    drop(Scribe::open(disk.clone()).unwrap());
    disk.fail(fault, later);
    let promised = run(&disk, &nothing());
    for crash in Crash::ALL {
        let what = format!("{fault:?} {later} failed, then {crash:?}");
        check_promises(&disk.copy().restart(crash, later), crash, &promised, &what);
    }
}

#[test]
fn a_failed_write_or_sync_is_never_tried_again() {
    (0..20).for_each(|later| check_fault(Fault::Write, later));
    (0..12).for_each(|later| check_fault(Fault::Sync, later));
}

/// The process ends after the failed sync, and the machine goes on: its cache still shows what the disk never got.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_durable_after_a_start() {
    for committed in [0, 1, 40] {
        let disk = disk_with_segments_of(2_000);
        let mut scribe = Scribe::open(disk.clone()).unwrap();
        for job in 0..committed {
            scribe.commit(vec![Event::JobPut(put(job + 1, &[b'y'; 90]))]);
            scribe.writer.sync().unwrap();
        }
        scribe.append(Event::JobPut(put(committed + 1, &[b'x'; 700])));
        scribe.write().unwrap();
        disk.fail(Fault::Sync, 0);
        scribe.writer.sync().unwrap_err();
        drop(scribe);

        let disk = disk.restart(Crash::KeepWritten, 0);
        let started = Scribe::open(disk.clone()).unwrap();
        assert_eq!(started.writer.durable(), Lsn(committed + 1), "the start calls all that it read durable");
        drop(started);
        let after_power_cut = Scribe::open(disk.restart(Crash::KeepSynced, 0)).unwrap();
        assert_eq!(after_power_cut.writer.durable(), Lsn(committed + 1), "and so it was");
    }
}

#[test]
fn while_a_sync_apart_is_known_to_have_failed_no_other_sync_of_the_file_succeeds() {
    let disk = disk_with_segments_of(2_000);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.append(Event::JobPut(put(1, b"apart")));
    scribe.write().unwrap();
    let durable = scribe.writer.durable();
    let mut apart = scribe.writer.begin_sync().unwrap().expect("there is something to sync");
    disk.fail(Fault::Sync, 0);
    let synced = apart.sync();
    assert!(synced.is_err());
    // The writer is not told yet, and a sync of its own would not be told by the disk either.
    assert!(scribe.writer.close_segment().is_err());
    assert_eq!(scribe.writer.durable(), durable);
    assert!(scribe.writer.end_sync(apart, synced).is_err());
}

#[test]
fn a_poisoned_log_says_what_failed_once_and_then_refuses() {
    let disk = disk_with_segments_of(2_000);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(vec![Event::JobPut(put(1, b"x"))]);
    disk.fail(Fault::Sync, 0);
    let error = scribe.writer.sync().unwrap_err();
    assert!(error.to_string().contains("cannot sync log segment simulated/00000000000000000001.seg"), "{error}");
    let operations = disk.operations();
    scribe.append(Event::JobPut(put(2, b"x")));
    assert!(matches!(scribe.write(), Err(LogError::Poisoned)));
    assert!(matches!(scribe.writer.sync(), Err(LogError::Poisoned)));
    assert!(matches!(scribe.writer.close(), Err(LogError::Poisoned)));
    assert_eq!(disk.operations(), operations, "the disk was touched after a failure");
}

#[test]
fn a_full_disk_fails_a_write_and_not_a_start() {
    let disk = disk_with_segments_of(2_000);
    disk.set_capacity(Some(3_000));
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    let error = loop {
        scribe.append(Event::JobPut(put(1, &[b'x'; 300])));
        match scribe.write() {
            Ok(_) => drop(scribe.writer.sync().unwrap()),
            Err(error) => break error,
        }
    };
    let LogError::Io { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull, "{error}");
    let durable = scribe.writer.durable().0;
    assert!(durable > 0);
    drop(scribe);
    let disk = disk.restart(Crash::KeepWritten, 0);
    let (_, _, found) = read(disk.clone()).unwrap();
    assert_eq!(found.len() as u64, durable);
    // And with not a byte left.
    disk.set_capacity(Some(0));
    let (_, _, found) = read(disk).unwrap();
    assert_eq!(found.len() as u64, durable);
}

#[test]
fn an_unfinished_segment_is_taken_for_one_only_where_it_can_be() {
    let disk = disk_with_segments_of(2_000);
    let promised = run(&disk, &nothing());
    let last = (1..).take_while(|&segment| disk.bytes(segment).is_some()).last().unwrap();
    // One more than there are: that is how a crash leaves it, and it goes.
    for begun in [vec![], vec![0; 30], vec![0; 64], b"ROTA-SEG".to_vec()] {
        let disk = disk.copy();
        disk.set_bytes(last + 1, Some(begun));
        check_promises(&disk, Crash::KeepWritten, &promised, "one begun");
        assert_eq!(disk.bytes(last + 1), None);
    }
    // The last one that there is: the seal before it says that it was whole once.
    let spoilt = disk.copy();
    spoilt.set_bytes(last, Some(vec![]));
    let error = read(spoilt).map(|_| ()).unwrap_err();
    assert!(matches!(error, crate::log::OpenError::Refused { problem: Refusal::Damaged { .. }, .. }), "{error}");
}

#[test]
fn on_a_full_disk_no_room_is_counted_that_is_not_there_though_segments_were_shorter() {
    for spares in 0..4 {
        for free in [0, 1_000, 3_000, 9_000, 12_000] {
            let disk = disk_with_segments_of(2_000);
            let mut scribe = Scribe::open(disk.clone()).unwrap();
            scribe.commit(vec![Event::JobPut(put(1, &[b'x'; 300]))]);
            scribe.writer.sync().unwrap();
            (0..spares).for_each(|_| disk.clone().set_aside().unwrap());
            drop(scribe);
            let room_before = read(disk.copy()).unwrap().0.stats().room;
            disk.set_capacity(Some(2_000 * (1 + spares) + free));
            disk.set_segment_bytes(Some(5_000));

            let mut scribe = Scribe::open(disk.clone()).unwrap();
            let room = scribe.writer.stats().room;
            let what = format!("{room} bytes of room, {spares} spares, {free} bytes free");
            assert!(room >= room_before && room <= 2_000 * (1 + spares) + free, "{what}: {room_before} before");
            while scribe.writer.stats().room >= 200 {
                scribe.append(Event::completed(JobId(1)));
                scribe.write().unwrap_or_else(|error| panic!("{what}: {error:?}"));
                scribe.writer.sync().unwrap();
            }
            assert!(scribe.writer.stats().bytes_written > room * 3 / 4, "{what}");
        }
    }
}
