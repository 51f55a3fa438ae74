//! What is saved of a damaged log: every job whose records are intact, no other body than was put, and the source as it was.

use super::damage::{Habit, Sample, content, foreign, sample};
use super::{STORE, Scribe, disk_with_segments_of, put};
use crate::command::{Answer, Command, Due, NewJob, Parent, Target};
use crate::engine::{Engine, Options};
use crate::event::{BuryReason, Event, PutJob};
use crate::far::FarFiles;
use crate::job::{JobId, JobState, Priority, QueueName, Time};
use crate::log::inspect::{self, Item, Look, LsnRange, Verdict};
use crate::log::{Compaction, Group, LogWriter, LostJob, Lsn, Salvage, SalvageError, Take, salvage};
use crate::storage::{Storage, StoreId};
use crate::terms::{OnParentFailure, Terms};
use crate::testing::server::{STORE as STORE_OF_SERVER, Server, queue};
use crate::testing::simulator::segment_of;
use crate::testing::storage::SimulatedDisk;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

const NEW: [u8; 16] = *b"another store...";

/// A record: its segment, offset and length, the job, and whether it is a put (true) or an end (false).
type Record = (u64, u64, u64, Option<(u64, Option<bool>)>);

/// A log with jobs of all fates in groups of several records, over a few segments.
struct Yard {
    disk: SimulatedDisk,
    bodies: BTreeMap<u64, Vec<u8>>,
    records: Vec<Record>,
    last: u64,
}

fn body(job: u64) -> Vec<u8> {
    format!("the body of job {job}, {}", "x".repeat((job * 7 % 60) as usize)).into_bytes()
}

fn yard(segment_bytes: u64, close: bool) -> Yard {
    let disk = disk_with_segments_of(segment_bytes);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    let mut bodies = BTreeMap::new();
    // As a server does: numbers are reserved before any is issued.
    scribe.commit(vec![
        Event::Started { epoch: 1, engine_time: Time(5_000), wall_time: Time(5_000) },
        Event::NumbersReserved { job_ids_below: 100, seqs_below: 1_000 },
    ]);
    scribe.writer.sync().unwrap();
    for round in 0..12_u64 {
        let mut events = Vec::new();
        for step in 0..4 {
            let job = round * 4 + step + 1;
            bodies.insert(job, body(job));
            events.push(Event::JobPut(put(job, &body(job))));
        }
        let old = |back: u64| JobId((round * 4).saturating_sub(back).max(1));
        let delay = Duration::from_secs(3);
        if round > 1 {
            events.extend([
                Event::completed(old(0)),
                Event::JobReleased { job: old(1), priority: Priority(3), delay, run_at: Time(9_999), reserves: 1 },
                Event::JobBuried {
                    job: old(2),
                    priority: Priority(4),
                    reason: BuryReason::Asked,
                    reserves: 1,
                    number: 0,
                    error: None,
                },
            ]);
        }
        scribe.commit(events);
        scribe.writer.sync().unwrap();
    }
    if close {
        scribe.writer.close().unwrap();
    }
    let mut records = Vec::new();
    inspect::read(&disk, Look::default(), None, Lsn(0), &mut |item| {
        let Item::Record(record) = item else { panic!("it is whole: {item:?}") };
        let event = record.event.as_ref().unwrap().event();
        let what = event.job().map(|job| {
            let fate = match event {
                Event::JobPut(_) => Some(true),
                Event::JobCompleted { .. } => Some(false),
                _ => None,
            };
            (job.0, fate)
        });
        records.push((record.segment, record.offset, record.bytes, what));
        ControlFlow::Continue(())
    })
    .unwrap();
    let last = disk.segments().unwrap().pop().unwrap();
    Yard { disk, bodies, records, last }
}

/// Saves what is left, and starts on it; the source must be as it was.
fn save(disk: &SimulatedDisk, what: &str) -> Result<(Salvage, Engine), SalvageError> {
    let before = content(disk);
    let new = disk_with_segments_of(1 << 14);
    let saved = salvage(disk, new.clone(), NEW, Take::default());
    assert_eq!(content(disk), before, "{what}: the source was changed");
    let saved = saved?;
    assert_eq!(inspect::check(&new, Look::default()).unwrap().verdict(), Verdict::Whole, "{what}");
    let (engine, ..) = Engine::recover(Options::default(), new, STORE, Time(0)).unwrap_or_else(|error| {
        panic!("{what}: {error}");
    });
    engine.check();
    assert_eq!(engine.totals().open(), saved.jobs, "{what}");
    Ok((saved, engine))
}

impl Yard {
    /// The open jobs as far as records that were not touched tell.
    fn expected(&self, damaged: &SimulatedDisk) -> BTreeSet<u64> {
        let mut open = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for &(segment, offset, length, what) in &self.records {
            let place = offset as usize..(offset + length) as usize;
            let before = self.disk.bytes(segment).unwrap();
            let is_intact = damaged.bytes(segment).is_some_and(|now| now.get(place.clone()) == before.get(place));
            match what {
                Some((job, Some(true))) if is_intact => drop(open.insert(job)),
                Some((job, Some(false))) if is_intact => drop(ended.insert(job)),
                _ => {}
            }
        }
        open.difference(&ended).copied().collect()
    }

    /// Checks what is saved of it.
    fn check(&self, damaged: &SimulatedDisk, what: &str) -> Salvage {
        let (saved, engine) = save(damaged, what).unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected = self.expected(damaged);
        let found: BTreeSet<u64> =
            self.bodies.keys().copied().filter(|&job| engine.job(JobId(job)).is_some()).collect();
        assert_eq!(found, expected, "{what}: {saved:#?}");
        assert_eq!(found.len() as u64, saved.jobs, "{what}: a job that was never put");
        for &job in &found {
            assert_eq!(
                engine.job(JobId(job)).unwrap().body.in_memory(),
                Some(&self.bodies[&job][..]),
                "{what}: job {job}"
            );
        }
        self.check_account(damaged, &saved, &found, what);
        saved
    }

    /// Whatever is not there is told of; whatever may be back is called uncertain.
    fn check_account(&self, damaged: &SimulatedDisk, saved: &Salvage, found: &BTreeSet<u64>, what: &str) {
        let highest = *self.bodies.keys().next_back().unwrap();
        assert!(saved.next_job_id.0 > highest, "{what}: an id could be issued again");
        // What was cut off where nothing tells of it cannot be told from what never was.
        let seen = inspect::check(damaged, Look::default()).unwrap();
        let read = seen.segments.iter().filter_map(|segment| segment.last_lsn).max();
        let missed = saved.lost.iter().map(|range| range.to.unwrap_or(Lsn(u64::MAX))).max();
        let torn = saved.torn.as_ref().map_or(u64::MAX, |tail| tail.from_lsn.0 - 1);
        let horizon = read.max(missed).map_or(0, |last| last.0).min(torn);
        let told_of = &self.records[..self.records.len().min(usize::try_from(horizon).unwrap_or(usize::MAX))];
        let fates = |records: &[Record], wanted: bool| -> BTreeSet<u64> {
            let jobs = records.iter().filter_map(|record| record.3);
            jobs.filter(|what| what.1 == Some(wanted)).map(|what| what.0).collect()
        };
        let (puts, ended) = (fates(told_of, true), fates(told_of, false));
        for job in found.intersection(&ended) {
            assert!(saved.uncertain.contains(&JobId(*job)), "{what}: {job} is back: {saved:#?}");
        }
        let told = |job: u64| {
            let in_range = |range: &crate::log::JobRange| range.from.0 <= job && range.to.is_none_or(|to| job <= to.0);
            saved.lost_jobs.iter().any(|lost| lost.job.0 == job)
                || saved.unseen_jobs.iter().any(in_range)
                || saved.ended.contains(&JobId(job))
        };
        let ended = fates(&self.records, false);
        for job in puts.iter().filter(|job| !found.contains(job) && !ended.contains(job)) {
            assert!(told(*job), "{what}: nobody says that job {job} is gone: {saved:#?}");
        }
    }
}

#[test]
fn a_whole_log() {
    let yard = yard(4_000, true);
    let saved = yard.check(&yard.disk, "whole");
    assert_eq!((saved.lost.len(), saved.lost_jobs.len(), saved.uncertain.len()), (0, 0, 0));
    assert_eq!(saved.from, StoreId(STORE));
    assert_eq!(saved.store, StoreId(NEW));
}

/// Changes every segment in every way that `change` makes of an offset.
fn check_changes(name: &str, step: usize, change: &dyn Fn(&mut [u8])) {
    for close in [true, false] {
        let yard = yard(4_000, close);
        for segment in 1..=yard.last {
            let bytes = yard.disk.bytes(segment).unwrap();
            let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            for at in (0..used).step_by(step) {
                let mut changed = bytes.clone();
                change(&mut changed[at..]);
                let damaged = yard.disk.copy();
                damaged.set_bytes(segment, Some(changed));
                yard.check(&damaged, &format!("{name} in segment {segment} at {at}, closed: {close}"));
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere() {
    check_changes("a flipped bit", 11, &|bytes| bytes[0] ^= 4);
}

#[test]
fn a_zeroed_or_overwritten_block_anywhere() {
    check_changes("zeros", 67, &|bytes| {
        let end = bytes.len().min(512);
        bytes[..end].fill(0);
    });
    check_changes("rubbish", 97, &|bytes| {
        let end = bytes.len().min(300);
        bytes[..end].fill(0xa7);
    });
}

#[test]
fn a_cut_anywhere() {
    let yard = yard(4_000, true);
    for segment in 1..=yard.last {
        let bytes = yard.disk.bytes(segment).unwrap();
        for at in (0..bytes.len()).step_by(53) {
            let damaged = yard.disk.copy();
            damaged.set_bytes(segment, Some(bytes[..at].to_vec()));
            yard.check(&damaged, &format!("segment {segment} cut at {at}"));
        }
    }
}

#[test]
fn a_missing_segment() {
    let yard = yard(4_000, true);
    for segment in 1..=yard.last {
        let damaged = yard.disk.copy();
        damaged.set_bytes(segment, None);
        let saved = yard.check(&damaged, &format!("without segment {segment}"));
        assert_eq!(saved.lost.len(), 1, "{saved:#?}");
    }
    let none = yard.disk.copy();
    (1..=yard.last).for_each(|segment| none.set_bytes(segment, None));
    assert!(matches!(save(&none, "no segment").map(|_| ()), Err(SalvageError::Nothing)));
}

#[test]
fn what_is_left_on_both_sides_of_a_missing_segment() {
    let yard = yard(4_000, true);
    let (first, third) = (yard.disk.bytes(1).unwrap(), yard.disk.bytes(3).unwrap());
    for at in (first.len() / 2..first.len() - 64).step_by(16) {
        let damaged = yard.disk.copy();
        // No header is left that says where the last records of the one and the first of the other stand.
        let mut bytes = first[..first.len().min(at + 400)].to_vec();
        bytes[at..at + 64].fill(0);
        damaged.set_bytes(1, Some(bytes));
        damaged.set_bytes(2, None);
        let mut bytes = third.clone();
        bytes[1..80].fill(0);
        damaged.set_bytes(3, Some(bytes));
        yard.check(&damaged, &format!("spoilt at {at}"));
    }
}

#[test]
fn segments_that_are_swapped_renamed_or_there_twice_lose_nothing() {
    let yard = yard(4_000, true);
    let all = yard.bodies.len() as u64;
    let (first, second) = (yard.disk.bytes(1), yard.disk.bytes(2));
    type Arrangement<'a> = &'a [(u64, Option<Vec<u8>>)];
    let arrangements: [Arrangement<'_>; 4] = [
        &[(1, second.clone()), (2, first.clone())],
        &[(yard.last + 1, first.clone())],
        &[(1, None), (yard.last + 3, first.clone())],
        &[(2, None), (9, second.clone())],
    ];
    for (number, arrangement) in arrangements.into_iter().enumerate() {
        let damaged = yard.disk.copy();
        arrangement.iter().for_each(|(segment, bytes)| damaged.set_bytes(*segment, bytes.clone()));
        let (saved, engine) = save(&damaged, "rearranged").unwrap();
        assert_eq!(engine.totals().puts, all, "arrangement {number}: {saved:#?}");
        assert_eq!((saved.lost.len(), saved.uncertain.len()), (0, 0), "arrangement {number}: {saved:#?}");
    }
}

#[test]
fn two_damaged_copies_of_a_segment_make_one() {
    let yard = yard(4_000, true);
    let bytes = yard.disk.bytes(2).unwrap();
    let (mut one, mut other) = (bytes.clone(), bytes.clone());
    let middle = bytes.len() / 2;
    one[64..middle].fill(0);
    other[middle..].fill(0);
    yard.disk.set_bytes(2, Some(one));
    yard.disk.set_bytes(yard.last + 1, Some(other));
    let (saved, engine) = save(&yard.disk, "two halves").unwrap();
    // What lies across the middle is in neither.
    assert!(engine.totals().puts >= yard.bodies.len() as u64 - 1, "{saved:#?}");
    assert!(saved.lost.len() <= 1, "{saved:#?}");
}

#[test]
fn another_store_and_a_newer_version() {
    let yard = yard(4_000, true);
    let damaged = yard.disk.copy();
    damaged.set_bytes(2, foreign().bytes(2));
    let (_, engine) = save(&damaged, "foreign").unwrap();
    assert!(engine.totals().puts < yard.bodies.len() as u64);
    for job in yard.bodies.keys() {
        if let Some(view) = engine.job(JobId(*job)) {
            assert_eq!(view.body.in_memory(), Some(&yard.bodies[job][..]), "a foreign job was taken");
        }
    }
    let mut newer = yard.disk.bytes(2).unwrap();
    newer[8] = 2;
    let checksum = crc32fast::hash(&newer[..60]);
    newer[60..64].copy_from_slice(&checksum.to_le_bytes());
    yard.disk.set_bytes(2, Some(newer));
    assert!(matches!(save(&yard.disk, "newer").map(|_| ()), Err(SalvageError::Newer(_))));
}

#[test]
fn a_torn_tail_loses_nothing_that_was_promised() {
    let Sample { disk, end, last, .. } = sample(Habit::Killed);
    let mut bytes = disk.bytes(last).unwrap();
    bytes.truncate(end as usize);
    bytes.extend_from_slice(&[9; 77]);
    disk.set_bytes(last, Some(bytes));
    let (saved, _) = save(&disk, "torn").unwrap();
    assert_eq!((saved.lost.len(), saved.problems.len(), saved.lost_bytes), (0, 0, 77));
    assert_eq!(saved.torn.unwrap().offset, end);
}

/// A log of one segment, with its second record spoilt.
fn with_spoilt_second(events: Vec<Event>) -> SimulatedDisk {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    for event in events {
        scribe.commit(vec![event]);
        scribe.writer.sync().unwrap();
    }
    scribe.writer.close().unwrap();
    let mut bytes = disk.bytes(1).unwrap();
    let groups: Vec<usize> = (64..bytes.len()).filter(|&at| bytes[at..].starts_with(b"RGRP")).collect();
    bytes[groups[1] + 48 + 30] ^= 0;
    let end = groups[2];
    bytes[end - 9] ^= 0xff;
    disk.set_bytes(1, Some(bytes));
    disk
}

#[test]
fn a_job_whose_put_is_spoilt_is_named_by_what_came_later() {
    let released = Event::JobReleased {
        job: JobId(2),
        priority: Priority(1),
        delay: Duration::ZERO,
        run_at: Time(1),
        reserves: 1,
    };
    let events = vec![Event::JobPut(put(1, b"one")), Event::JobPut(put(2, b"the second body")), released];
    let (saved, engine) = save(&with_spoilt_second(events), "spoilt put").unwrap();
    let lost = &saved.lost_jobs;
    assert!(matches!(lost.as_slice(), [LostJob { job: JobId(2), spoilt_at: Some((1, _)) }]), "{lost:?}");
    assert!(engine.job(JobId(2)).is_none());
    assert_eq!(saved.uncertain, [JobId(1)], "its end may have been there");
    assert_eq!(saved.lost, [LsnRange { from: Lsn(2), to: Some(Lsn(2)) }]);
}

#[test]
fn a_job_that_must_have_ended_stays_gone() {
    let keyed = |job| PutJob { key: Some((*b"one at a time").into()), ..put(job, b"a keyed job") };
    let end = Event::completed(JobId(1));
    // The key is free again, or the queue is empty: the end of job 1 stood in the spoilt record.
    let queue = put(1, b"").queue;
    for proof in [Event::JobPut(keyed(2)), Event::QueueDropped { queue }] {
        let events = vec![Event::JobPut(keyed(1)), end.clone(), proof.clone(), Event::JobPut(put(3, b"three"))];
        let (saved, engine) = save(&with_spoilt_second(events), "ended").unwrap();
        assert_eq!(saved.ended, [JobId(1)], "{proof:?}: {saved:#?}");
        assert!(engine.job(JobId(1)).is_none());
        assert!(saved.uncertain.is_empty());
    }
}

#[test]
fn a_spoilt_record_that_names_the_greatest_number() {
    let yard = yard(4_000, true);
    for segment in 1..=yard.last {
        let whole = yard.disk.bytes(segment).unwrap();
        // The number, and something behind it, anywhere.
        for at in (66..whole.len().saturating_sub(500)).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at..at + 117].fill(0xff);
            bytes[at + whole.len() * 77 / 1_000..][..38].fill(0);
            let damaged = yard.disk.copy();
            damaged.set_bytes(segment, Some(bytes));
            yard.check(&damaged, &format!("segment {segment} at {at}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn random_damage(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_usize..200, any::<u8>()), 1..6),
        cut in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
        gone in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let yard = yard(4_000, true);
        let damaged = yard.disk.copy();
        for (segment, at, length, byte) in &changes {
            let segment = 1 + segment.index(yard.last as usize) as u64;
            let mut bytes = damaged.bytes(segment).unwrap();
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + length);
            bytes[at..end].fill(*byte);
            damaged.set_bytes(segment, Some(bytes));
        }
        if let Some((segment, at)) = cut {
            let segment = 1 + segment.index(yard.last as usize) as u64;
            let mut bytes = damaged.bytes(segment).unwrap();
            bytes.truncate(at.index(bytes.len()));
            damaged.set_bytes(segment, Some(bytes));
        }
        if let Some(segment) = gone {
            damaged.set_bytes(1 + segment.index(yard.last as usize) as u64, None);
        }
        yard.check(&damaged, "random");
    }
}

/// A server's log with some segments reclaimed, and the engine that wrote it. `jobs` are open, a few bodies each segment.
fn compacted(jobs: u64) -> (SimulatedDisk, Engine) {
    let disk = disk_with_segments_of(6_000);
    let mut now = Time(1_000_000);
    let options = Options { number_block: 64, ..Options::default() };
    let (mut engine, mut writer, _) = Engine::recover(options, disk.clone(), STORE, now).unwrap();
    let mut group = Group::default();
    let mut flush = |engine: &mut Engine, writer: &mut LogWriter<SimulatedDisk>| {
        if engine.take_records(&mut group) {
            writer.write(&mut group).unwrap();
        }
        writer.sync().unwrap();
    };
    let session = engine.open_session().unwrap();
    let mail = QueueName::new("mail").unwrap();
    for job in 1..=2 * jobs {
        now = now.after(Duration::from_secs(1));
        let text = body(job);
        let new = NewJob {
            priority: Priority(5),
            due: Due::In(Duration::from_secs(job % 3 * 1_000)),
            max_lost_leases: 10,
            max_attempts: 3,
            ..NewJob::new(Target::Named(&mail), text.into())
        };
        engine.execute(session, Command::Put(new), now).unwrap();
        if job % 2 == 0 {
            engine.execute(session, Command::Cancel(JobId(job)), now).unwrap();
        }
        flush(&mut engine, &mut writer);
    }
    for _ in 0..2 {
        let oldest = writer.stats().needed_from;
        let mut compaction = Compaction::begin(&disk, &Arc::new(FarFiles::new(disk.clone(), 4)), oldest, None).unwrap();
        while compaction.read().unwrap() {
            compaction.keep(&mut engine, now);
            flush(&mut engine, &mut writer);
        }
        compaction.finish(&mut engine, now);
        flush(&mut engine, &mut writer);
        writer.need_only_from(oldest + 1);
        writer.close_segment().unwrap();
    }
    (disk, engine)
}

#[test]
fn a_compacted_log_is_saved_as_it_is() {
    let (disk, engine) = compacted(60);
    let (saved, again) = save(&disk, "compacted").unwrap();
    assert_eq!(again.durable_text(engine.now()), engine.durable_text(engine.now()), "{saved:#?}");
    assert_eq!((saved.lost.len(), saved.lost_jobs.len(), saved.uncertain.len()), (0, 0, 0));
    assert!(saved.next_job_id.0 > 120);
}

#[test]
fn the_newest_file_of_a_compacted_log_may_have_any_name() {
    let (disk, engine) = compacted(60);
    let found = inspect::check(&disk, Look::default()).unwrap();
    let oldest = found.segments.iter().find(|segment| segment.is_needed).unwrap().file.number.unwrap();
    // As it is once history is gone.
    (1..oldest).for_each(|segment| disk.set_bytes(segment, None));
    let last = *disk.segments().unwrap().last().unwrap();
    let (newest, before) = (disk.bytes(last), disk.bytes(last - 1));
    for (what, files) in [
        ("swapped", vec![(last, before.clone()), (last - 1, newest.clone())]),
        ("renamed", vec![(last, None), (last + 3, newest)]),
        ("there twice", vec![(last + 1, before)]),
        ("foreign", vec![(last + 1, foreign().bytes(1))]),
    ] {
        let changed = disk.copy();
        files.into_iter().for_each(|(segment, bytes)| changed.set_bytes(segment, bytes));
        let (saved, again) = save(&changed, what).unwrap();
        assert_eq!(again.durable_text(engine.now()), engine.durable_text(engine.now()), "{what}: {saved:#?}");
        assert_eq!((saved.lost.len(), saved.lost_jobs.len(), saved.uncertain.len()), (0, 0, 0), "{what}");
        let refused = Engine::recover(Options::default(), changed, STORE, Time(0)).map(|_| ()).unwrap_err().to_string();
        assert!(!refused.contains(&format!("{:020}", 1)), "{what}: {refused}");
    }
}

#[test]
fn who_waits_for_others_waits_in_what_is_saved() {
    let options = Options { near: Some(Duration::from_secs(60)), ..Options::default() };
    let mut server = Server::start(SimulatedDisk::new(), 8_192, options).unwrap();
    let name = queue("q");
    let parents = [0, 86_400, 0].map(|delay| server.put(&name, Duration::from_secs(delay), b"parent"));
    let [held, _, cancelled] = parents;
    server.writer.close_segment().unwrap();
    server.compact().unwrap();
    assert_eq!(server.engine.jobs_left(), 1);
    server.writer.close_segment().unwrap();
    let children = parents.map(|parent| {
        let near = server.engine.wanted_parent(&Parent::Id(parent)).map(|want| server.find(&want));
        near.iter().for_each(|near| _ = server.engine.take_found(near, server.now));
        let child = NewJob {
            after: &[Parent::Id(parent)],
            terms: Some(Box::new(Terms { on_parent_failure: OnParentFailure::Hold, ..Terms::default() })),
            ..NewJob::new(Target::Named(&name), (*b"child").into())
        };
        let Answer::Put(child) = server.ask(Command::Put(child)) else { panic!("it is put") };
        near.iter().for_each(|near| server.engine.let_go(near));
        child
    });
    server.writer.close_segment().unwrap();
    // Whose put is in no segment that is needed.
    server.ask(Command::Cancel(cancelled));
    server.compact().unwrap();
    // Written again, with a count that no other record has.
    server.ask(Command::ReserveJob(held));
    server.engine.close_session(server.session, server.now);
    assert!(server.engine.keep_job(held, b"parent", server.now));
    server.commit();
    server.writer.close_segment().unwrap();
    let (whole, ..) = Engine::recover_with_far(options, server.disk.copy(), STORE_OF_SERVER, server.now).unwrap();
    let (_, saved) = save(&server.disk, "with children").unwrap();
    let states = |engine: &Engine| children.map(|child| engine.job(child).map(|job| job.state));
    assert_eq!(states(&whole), [Some(JobState::Blocked); 3]);
    assert_eq!(states(&saved), [Some(JobState::Blocked); 3]);
}

#[test]
fn what_servers_wrote_is_saved_as_it_is_and_damaged_without_a_panic() {
    let mut whole = 0;
    for seed in 0..16 {
        let bytes = segment_of(seed);
        let disk = disk_with_segments_of(4_096);
        disk.set_store(Some(StoreId(*b"a simulated disk")));
        disk.set_bytes(1, Some(bytes.clone()));
        let what = format!("seed {seed}");
        // Some of them had a successor, which is missing here.
        if let Ok((engine, ..)) = Engine::recover(Options::default(), disk.copy(), STORE, Time(0)) {
            let (saved, again) = save(&disk, &what).unwrap();
            assert_eq!(again.durable_text(engine.now()), engine.durable_text(engine.now()), "{what}: {saved:#?}");
            whole += 1;
        }
        for at in (64..bytes.len()).step_by(307) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x11;
            disk.set_bytes(1, Some(changed));
            let what = format!("seed {seed}, changed at {at}");
            let (saved, damaged) = save(&disk, &what).unwrap();
            assert!(saved.rescued > 0 || saved.jobs == damaged.totals().open(), "{what}");
            let verdict = inspect::check(&disk, Look::default()).unwrap().verdict();
            let starts = Engine::recover(Options::default(), disk.copy(), STORE, Time(0)).is_ok();
            assert_eq!(starts, verdict != Verdict::Damaged, "{what}");
        }
    }
    assert!(whole > 0, "none was a log by itself");
}

#[test]
fn history_holds_what_is_lost_behind_it() {
    let (disk, engine) = compacted(60);
    let found = inspect::check(&disk, Look::default()).unwrap();
    let oldest = found.segments.iter().find(|segment| segment.is_needed).unwrap().file.number.unwrap();
    assert!(oldest > 2, "{found:#?}");
    // Spoil a needed segment with jobs that were written again.
    let segment = *disk.segments().unwrap().iter().rev().nth(1).unwrap();
    let mut bytes = disk.bytes(segment).unwrap();
    let end = bytes.len() - 100;
    bytes[64..end].fill(0);
    disk.set_bytes(segment, Some(bytes));
    let without_history = disk.copy();
    (1..oldest).for_each(|segment| without_history.set_bytes(segment, None));
    for (disk, has_history) in [(disk, true), (without_history, false)] {
        let found = inspect::check(&disk, Look::default()).unwrap();
        assert_eq!(found.verdict(), Verdict::Damaged);
        let (saved, again) = save(&disk, "a spoilt compaction").unwrap();
        let missing: Vec<JobId> =
            (1..=120).map(JobId).filter(|&job| engine.job(job).is_some() && again.job(job).is_none()).collect();
        let back: Vec<JobId> =
            (1..=120).map(JobId).filter(|&job| engine.job(job).is_none() && again.job(job).is_some()).collect();
        assert_eq!(missing.is_empty(), has_history, "{missing:?}: {saved:#?}");
        assert_eq!(saved.may_lack_older, !has_history, "{saved:#?}");
        for job in (1..=120).map(JobId) {
            if let Some(view) = again.job(job) {
                assert_eq!(view.body.in_memory(), Some(&body(job.0)[..]), "job {job}");
            }
        }
        assert!(back.iter().all(|job| saved.uncertain.contains(job)), "{back:?}: {saved:#?}");
    }
}
