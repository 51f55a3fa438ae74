//! Far segments that are looked at and saved: whole, and with each of their files damaged or gone. No job comes back that had
//! ended, and of each that is gone it is told.

use crate::command::{Answer, Command, KickSource, Target};
use crate::engine::{BodyHome, Engine, Options};
use crate::event::Event;
use crate::job::{JobId, QueueName, Time};
use crate::log::inspect::{self, Inspection, Item, Look, SegmentReport, Verdict};
use crate::log::{Group, Lsn, OpenError, Pending, Salvage, Take, salvage};
use crate::storage::{Beside, Storage};
use crate::testing::server::{STORE, Server, queue};
use crate::testing::storage::SimulatedDisk;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

const NEW: [u8; 16] = *b"another store...";
const NEAR: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const JOBS: u64 = 240;

/// A log with far segments, some of whose jobs ended before the log begins that a start reads, and some in it.
struct Yard {
    disk: SimulatedDisk,
    engine: Engine,
    /// What is open, as text.
    text: String,
    bodies: BTreeMap<JobId, Vec<u8>>,
    /// The far segments, with how many of their jobs are open by the bits.
    far: Vec<(u64, u32)>,
    /// The open file that a start reads.
    open: Beside,
}

fn body(n: u64) -> Vec<u8> {
    format!("far job {n}, {}", "x".repeat((n * 13 % 150) as usize)).into_bytes()
}

fn options() -> Options {
    Options { near: Some(NEAR), bodies: BodyHome::Memory, ..Options::default() }
}

/// Reclaims segments until only the one under way is left, and begins a new one, whose header says so.
fn compact_all(server: &mut Server) {
    server.writer.close_segment().unwrap();
    while server.writer.stats().needed_from < server.writer.stats().newest_segment {
        server.compact().unwrap();
    }
    server.writer.close_segment().unwrap();
    for name in server.files.needless(server.disk.beside().unwrap(), server.writer.stats().oldest_segment) {
        server.disk.remove_beside(name).unwrap();
    }
}

fn yard(keeps_history: bool) -> Yard {
    let mut server = Server::start(SimulatedDisk::new(), 8_192, options()).unwrap();
    server.commit();
    let mut bodies = BTreeMap::new();
    let mut ids = Vec::new();
    for n in 0..JOBS {
        let (name, key) = (if n % 3 == 0 { "a" } else { "b" }, n.to_string());
        let delay = DAY + Duration::from_secs((n * 37) % 300);
        let id = server.put_with_key(&queue(name), delay, (n % 5 == 0).then_some(key.as_bytes()), &body(n));
        bodies.insert(id, body(n));
        ids.push(id);
        if n % 40 == 39 {
            compact_all(&mut server);
        }
    }
    compact_all(&mut server);
    let cancel = |server: &mut Server, job: JobId| assert!(server.try_ask(Command::Cancel(job)).is_ok());
    (0..JOBS).filter(|n| n % 7 == 1).for_each(|n| cancel(&mut server, ids[n as usize]));
    let b = QueueName::new("b").unwrap();
    let kick = |limit| Command::Kick { queue: Target::Named(&b), limit, source: Some(KickSource::Delayed) };
    assert!(matches!(server.ask(kick(5)), Answer::Kicked { count: 5, .. }));
    compact_all(&mut server);
    (0..JOBS).filter(|n| n % 11 == 2 && n % 7 != 1).for_each(|n| cancel(&mut server, ids[n as usize]));
    assert!(matches!(server.ask(kick(4)), Answer::Kicked { count: 4, .. }));
    server.put(&queue("near"), Duration::ZERO, b"near");
    server.commit();
    let Server { mut disk, engine, writer, files, now, .. } = server;
    let oldest = writer.stats().oldest_segment;
    writer.close().unwrap();
    let gone = |segment: &u64| *segment < oldest && !files.has(*segment) && !keeps_history;
    disk.segments().unwrap().into_iter().filter(gone).for_each(|segment| disk.remove(segment).unwrap());
    let cold = engine.cold_records(&files);
    let text = engine.durable_text_with(now, &|place| disk.body(place), &cold);
    assert!(cold.len() > 100 && files.has(engine.far_segments().next().unwrap().0), "{}", cold.len());
    let open = Beside::Open(oldest - 1);
    let (file, _) = crate::far::OpenFile::read(&disk, oldest - 1).unwrap().unwrap();
    let far = file.segments.iter().map(|segment| (segment.segment, segment.open.count)).collect();
    Yard { disk, engine, text, bodies, far, open }
}

/// A valid file of open jobs that is not the one which the log names.
fn other_open_file(yard: &Yard) -> Vec<u8> {
    let Beside::Open(ends_with) = yard.open else { panic!("it is one") };
    let (mut file, _) = crate::far::OpenFile::read(&yard.disk, ends_with).unwrap().unwrap();
    let clear = (0..64).find(|&at| !file.segments[0].open.get(at)).unwrap();
    file.segments[0].open.set(clear, true);
    file.encode(ends_with).0
}

/// All that is on a disk.
fn content(disk: &SimulatedDisk) -> impl PartialEq + std::fmt::Debug {
    let beside = disk.beside().unwrap().into_iter().map(|name| (name, disk.bytes_beside(name)));
    (disk.store_id().unwrap(), super::damage::content(disk), beside.collect::<Vec<_>>())
}

fn check(disk: &SimulatedDisk) -> Inspection {
    inspect::check(disk, Look::default()).unwrap()
}

fn words(found: &Inspection) -> Vec<&'static str> {
    found.problems.iter().map(|problem| problem.kind.word()).collect()
}

fn starts(disk: &SimulatedDisk) -> bool {
    let disk = disk.copy();
    Engine::recover(options(), disk, STORE, Time(0)).is_ok()
}

impl Yard {
    /// Saves what is left of it, and starts on that: the account, and which jobs are there.
    fn save(&self, disk: &SimulatedDisk, take: Take, what: &str) -> (Salvage, Engine, BTreeSet<JobId>) {
        let new = SimulatedDisk::new();
        new.set_segment_bytes(Some(1 << 14));
        let saved = salvage(disk, new.clone(), NEW, take).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(check(&new).verdict(), Verdict::Whole, "{what}");
        let (engine, ..) = Engine::recover(Options::default(), new, STORE, Time(0)).unwrap();
        engine.check();
        assert_eq!(engine.totals().by_state.iter().sum::<u64>(), saved.jobs, "{what}: {saved:#?}");
        let there: BTreeSet<JobId> = self.bodies.keys().copied().filter(|&job| engine.job(job).is_some()).collect();
        for job in &there {
            assert_eq!(engine.job(*job).unwrap().body.in_memory(), Some(&self.bodies[job][..]), "{what}: job {job}");
        }
        (saved, engine, there)
    }

    /// Those of the jobs that are open.
    fn open_jobs(&self) -> BTreeSet<JobId> {
        let (_, _, there) = self.save(&self.disk, Take::default(), "whole");
        there
    }

    /// Saves it; whatever is open and not there is told of, and nothing else is there.
    fn check(&self, disk: &SimulatedDisk, open: &BTreeSet<JobId>, what: &str) -> (Salvage, usize) {
        let (saved, _, there) = self.save(disk, Take::default(), what);
        let back: Vec<_> = there.difference(open).collect();
        assert!(back.is_empty(), "{what}: {back:?} had ended: {saved:#?}");
        let gone: BTreeSet<JobId> = open.difference(&there).copied().collect();
        let told: BTreeSet<JobId> = saved.lost_jobs.iter().map(|lost| lost.job).collect();
        let untold = gone.difference(&told).count() as u64;
        let counted: u64 = saved.far_lost.iter().chain(&saved.far_unsure).map(|loss| loss.jobs).sum();
        assert!(untold <= counted, "{what}: {untold} are gone without a word: {saved:#?}");
        assert!(saved.lost.is_empty() && saved.uncertain.is_empty() && saved.far_uncertain == 0, "{what}: {saved:#?}");
        (saved, gone.len())
    }

    fn with(&self, change: impl FnOnce(&SimulatedDisk)) -> SimulatedDisk {
        let disk = self.disk.copy();
        change(&disk);
        disk
    }
}

fn flip(disk: &SimulatedDisk, name: Beside, at: usize) {
    let mut bytes = disk.bytes_beside(name).unwrap();
    bytes[at] ^= 0x10;
    disk.set_bytes_beside(name, Some(bytes));
}

#[test]
fn far_segments_that_are_whole_are_saved_as_they_are() {
    for keeps_history in [true, false] {
        let yard = yard(keeps_history);
        let found = check(&yard.disk);
        assert_eq!((found.verdict(), &found.problems[..], &found.notes[..]), (Verdict::Whole, &[][..], &[][..]));
        let is_far = |report: &&SegmentReport| report.is_far;
        let far: Vec<u64> = found.segments.iter().filter(is_far).filter_map(|report| report.number).collect();
        assert_eq!(far, yard.far.iter().map(|(segment, _)| *segment).collect::<Vec<_>>());
        assert!(found.segments.iter().all(|report| !report.is_far || !report.is_needed));
        let (saved, again, _) = yard.save(&yard.disk, Take::default(), "whole");
        let now = yard.engine.now();
        assert_eq!(again.durable_text(now), yard.text, "{saved:#?}");
        assert!(saved.far_jobs > 100 && saved.lost_jobs.is_empty() && saved.far_unsure.is_empty(), "{saved:#?}");
    }
}

#[test]
fn a_far_segment_can_be_read_record_by_record() {
    let yard = yard(false);
    for (segment, _) in &yard.far {
        let mut jobs = 0;
        inspect::read(&yard.disk, Look::default(), Some(*segment), Lsn(0), &mut |item| {
            let Item::Record(record) = item else { panic!("it is whole: {item:?}") };
            assert_eq!(record.segment, *segment);
            jobs += u64::from(record.event.unwrap().event().job().is_some());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(jobs > 0, "segment {segment}");
    }
}

#[test]
fn a_flipped_bit_in_a_far_segment_costs_one_job_at_the_most() {
    let yard = yard(false);
    let open = yard.open_jobs();
    let mut lost = 0;
    for &(segment, _) in &yard.far {
        let whole = yard.disk.bytes(segment).unwrap();
        for at in (0..whole.len()).step_by(23) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let disk = yard.with(|disk| disk.set_bytes(segment, Some(bytes)));
            let what = format!("segment {segment} at {at}");
            let (saved, gone) = yard.check(&disk, &open, &what);
            assert!(gone <= 1 && saved.far_lost.is_empty() && saved.far_unsure.is_empty(), "{what}: {saved:#?}");
            let found = check(&disk);
            // Behind the last group is the seal, at which nobody looks.
            let is_seen = found.verdict() == Verdict::Damaged;
            assert!(is_seen || gone == 0 && whole.len() - at <= 48, "{what}: {found:#?}");
            assert!(found.problems.iter().all(|problem| problem.segment == Some(segment)), "{what}: {found:#?}");
            lost += gone;
        }
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn a_far_segment_that_is_gone_or_cut_costs_what_was_in_it() {
    let yard = yard(false);
    let open = yard.open_jobs();
    let mut cut = 0;
    for &(segment, count) in &yard.far {
        let disk = yard.with(|disk| disk.set_bytes(segment, None));
        let found = check(&disk);
        assert_eq!((found.verdict(), words(&found)), (Verdict::Damaged, vec!["missing"]), "{found:#?}");
        assert!(!starts(&disk));
        let (saved, gone) = yard.check(&disk, &open, "gone");
        assert!(gone > 0 && gone <= count as usize && saved.lost_jobs.len() == gone, "{count}: {saved:#?}");
        // Without its index nothing says which they were.
        disk.set_bytes_beside(Beside::Index(segment), None);
        let (saved, _) = yard.check(&disk, &open, "gone with its index");
        assert_eq!(
            saved.far_lost.iter().map(|loss| (loss.segment, loss.jobs)).collect::<Vec<_>>(),
            [(segment, count.into())]
        );
        let half = yard.disk.bytes(segment).unwrap();
        let disk = yard.with(|disk| disk.set_bytes(segment, Some(half[..half.len() / 2].to_vec())));
        assert_eq!(check(&disk).verdict(), Verdict::Damaged);
        let (_, gone) = yard.check(&disk, &open, "cut");
        assert!(gone <= count as usize, "{gone} of {count}");
        cut += gone;
        disk.set_bytes_beside(Beside::Index(segment), None);
        yard.check(&disk, &open, "cut, without its index");
    }
    let all: u32 = yard.far.iter().map(|(_, count)| count).sum();
    assert!(cut > 20 && cut < all as usize - 20, "{cut} of {all}");
}

#[test]
fn an_index_that_is_damaged_or_gone_costs_nothing() {
    let yard = yard(false);
    let open = yard.open_jobs();
    for &(segment, _) in &yard.far {
        let name = Beside::Index(segment);
        let length = yard.disk.bytes_beside(name).unwrap().len();
        let changes = (0..length).step_by(199).map(Some).chain([None]);
        for at in changes {
            let disk = yard.with(|disk| match at {
                Some(at) => flip(disk, name, at),
                None => disk.set_bytes_beside(name, None),
            });
            let what = format!("index {segment} at {at:?}");
            let (saved, gone) = yard.check(&disk, &open, &what);
            assert_eq!((gone, saved.far_lost.len(), saved.far_unsure.len()), (0, 0, 0), "{what}: {saved:#?}");
            let found = check(&disk);
            match found.verdict() {
                // A start makes it again.
                Verdict::Whole => assert_eq!(found.notes.len(), 1, "{what}: {found:#?}"),
                _ => assert_eq!(words(&found), ["damaged"], "{what}: {found:#?}"),
            }
            // Blocks are looked at when a job is looked up.
            if found.verdict() == Verdict::Damaged {
                disk.set_bytes_beside(name, None);
            }
            assert!(starts(&disk), "{what}");
        }
    }
}

#[test]
fn without_the_right_file_of_open_jobs_nothing_is_guessed() {
    let yard = yard(false);
    let open = yard.open_jobs();
    let other = other_open_file(&yard);
    let length = yard.disk.bytes_beside(yard.open).unwrap().len();
    let mut damaged: Vec<(SimulatedDisk, &str)> =
        (0..length).map(|at| (yard.with(|disk| flip(disk, yard.open, at)), "damaged")).collect();
    damaged.push((yard.with(|disk| disk.set_bytes_beside(yard.open, None)), "missing"));
    damaged.push((yard.with(|disk| disk.set_bytes_beside(yard.open, Some(other))), "other"));
    for (disk, word) in damaged {
        let found = check(&disk);
        assert_eq!((found.verdict(), words(&found)), (Verdict::Damaged, vec![word]), "{found:#?}");
        assert!(!starts(&disk), "{word}");
        let (saved, gone) = yard.check(&disk, &open, word);
        assert!(gone > 100 && !saved.far_unsure.is_empty(), "{saved:#?}");
        // Those that the log says are open, and what it has itself, are there as ever.
        assert_eq!(saved.far_jobs, 4, "{saved:#?}");
        assert!(saved.jobs > 5, "{saved:#?}");
        let (taken, _, there) = yard.save(&disk, Take { unsure: true }, word);
        assert!(there.is_superset(&open) && there.len() > open.len(), "{taken:#?}");
        assert_eq!(taken.far_unsure, saved.far_unsure);
        // Those whose end the log tells of are not back.
        let ids: Vec<JobId> = yard.bodies.keys().copied().collect();
        assert!((0..ids.len()).filter(|n| n % 11 == 2 && n % 7 != 1).all(|n| !there.contains(&ids[n])));
    }
}

/// What a start would take off the end of a log, or add to it.
fn ends_to_settle(disk: &SimulatedDisk) -> Vec<(&'static str, SimulatedDisk)> {
    let last = *disk.segments().unwrap().last().unwrap();
    let with = |change: &dyn Fn(&SimulatedDisk)| {
        let disk = disk.copy();
        change(&disk);
        disk
    };
    let torn = with(&|disk| {
        let mut bytes = disk.bytes(last).unwrap();
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        bytes[end.next_multiple_of(8)..][..5].copy_from_slice(b"torn!");
        disk.set_bytes(last, Some(bytes));
    });
    let begun = with(&|disk| disk.set_bytes(last + 1, Some(Vec::new())));
    vec![("a torn tail", torn), ("a segment begun", begun), ("no store", with(&|disk| disk.set_store(None)))]
}

#[test]
fn a_start_that_is_refused_for_far_jobs_leaves_every_file_as_it_was() {
    let yard = yard(false);
    for (end, disk) in ends_to_settle(&yard.disk) {
        let before = content(&disk);
        let recovered = Engine::recover(options(), disk.clone(), STORE, Time(0));
        assert!(recovered.is_ok() && before != content(&disk), "{end}: a start has nothing to do there");
    }
    let gone = yard.with(|disk| disk.set_bytes_beside(yard.open, None));
    let other = yard.with(|disk| disk.set_bytes_beside(yard.open, Some(other_open_file(&yard))));
    // Records on a job of long ago, whose end is no longer in the log: what no server without a bug writes.
    let twice = yard.disk.copy();
    let (mut writer, recovery) = crate::log::open(twice.clone(), STORE, &mut |_| Ok(())).unwrap();
    let (mut pending, mut group) = (Pending::new(recovery.next_lsn), Group::default());
    let ended = *yard.bodies.keys().nth(1).unwrap();
    pending.append(recovery.last_seq + 1, recovery.last_at, &Event::cancelled(ended), &super::Names::new());
    pending.take(&mut group);
    writer.write(&mut group).unwrap();
    writer.close().unwrap();
    for (what, why, disk) in
        [("gone", "is missing", gone), ("other", "is missing or is not", other), ("twice", "not open", twice)]
    {
        for (end, disk) in ends_to_settle(&disk) {
            let before = content(&disk);
            let refused = Engine::recover(options(), disk.clone(), STORE, Time(0)).map(|_| ());
            let OpenError::Replay { source, .. } = refused.unwrap_err() else { panic!("{what}, {end}") };
            assert!(source.to_string().contains(why), "{what}, {end}: {source}");
            assert_eq!(content(&disk), before, "{what}, {end}");
        }
    }
}

#[test]
fn a_log_that_reaches_back_needs_no_file_of_open_jobs() {
    let yard = yard(true);
    let disk = yard.with(|disk| disk.set_bytes_beside(yard.open, None));
    let (saved, again, _) = yard.save(&disk, Take::default(), "with history");
    assert_eq!(again.durable_text(yard.engine.now()), yard.text, "{saved:#?}");
    assert!(saved.far_unsure.is_empty(), "{saved:#?}");
}

#[test]
fn damage_to_the_log_leaves_far_jobs_where_they_are() {
    let yard = yard(false);
    let open = yard.open_jobs();
    let segments = yard.disk.segments().unwrap();
    for &segment in segments.iter().rev().take(3) {
        let whole = yard.disk.bytes(segment).unwrap();
        let used = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        // The header, and all over the records.
        for at in [3, 20, 50].into_iter().chain((64..used).step_by(71)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let disk = yard.with(|disk| disk.set_bytes(segment, Some(bytes)));
            let what = format!("segment {segment} at {at}");
            let (saved, _, there) = yard.save(&disk, Take::default(), &what);
            let told: BTreeSet<JobId> = saved.lost_jobs.iter().map(|lost| lost.job).collect();
            let gone: Vec<&JobId> = open.difference(&there).collect();
            // The number may be what was spoilt.
            let is_told = gone.iter().all(|job| told.contains(job)) || saved.may_lack_older;
            assert!(is_told && gone.len() <= 1, "{what}: {gone:?}: {saved:#?}");
            let back: Vec<&JobId> = there.difference(&open).filter(|job| !saved.uncertain.contains(job)).collect();
            assert!(back.len() <= 1 && (back.is_empty() || saved.far_uncertain > 0), "{what}: {back:?}: {saved:#?}");
            assert!(saved.far_unsure.is_empty() && saved.far_lost.is_empty(), "{what}: {saved:#?}");
            let is_all = saved.lost.is_empty() && saved.unseen_jobs.is_empty() && saved.uncertain.is_empty();
            // Where the log begins, its first header alone says.
            let is_first = yard.open == Beside::Open(segment - 1);
            assert!(at >= 64 || gone.is_empty() && back.is_empty() && (is_all || is_first), "{what}: {saved:#?}");
        }
    }
}

#[test]
fn damage_without_an_index_brings_nothing_back() {
    let yard = yard(false);
    let open = yard.open_jobs();
    let mut all = 0;
    for &(segment, _) in &yard.far {
        let whole = yard.disk.bytes(segment).unwrap();
        for (first, second) in [(300, 0), (700, 3_000), (1_500, 1_800), (90, 6_000)] {
            let mut bytes = whole.clone();
            for at in [first, second].into_iter().filter(|&at| at > 0) {
                let at = at.min(whole.len() - 300);
                bytes[at..at + 150].fill(0x77);
            }
            let disk = yard.with(|disk| {
                disk.set_bytes(segment, Some(bytes));
                disk.set_bytes_beside(Beside::Index(segment), None);
            });
            let what = format!("segment {segment} at {first} and {second}");
            all += yard.check(&disk, &open, &what).1;
        }
    }
    assert!(all > 20, "{all}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_damage_is_told_of(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_usize..300, any::<u8>()), 1..6),
        gone in prop::option::of(any::<prop::sample::Index>()),
        unsure in any::<bool>(),
    ) {
        let yard = yard(false);
        let open = yard.open_jobs();
        let disk = yard.disk.copy();
        let beside: Vec<Beside> = disk.beside().unwrap();
        let segments = disk.segments().unwrap();
        let read = |at: usize| match beside.get(at) {
            Some(&name) => disk.bytes_beside(name),
            None => disk.bytes(segments[at - beside.len()]),
        };
        let write = |at: usize, bytes| match beside.get(at) {
            Some(&name) => disk.set_bytes_beside(name, bytes),
            None => disk.set_bytes(segments[at - beside.len()], bytes),
        };
        let files = beside.len() + segments.len();
        for (file, at, length, byte) in &changes {
            let file = file.index(files);
            let mut bytes = read(file).unwrap();
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + length);
            bytes[at..end].fill(*byte);
            write(file, Some(bytes));
        }
        if let Some(file) = gone {
            write(file.index(files), None);
        }
        let (saved, _, there) = yard.save(&disk, Take { unsure }, "random");
        let back: Vec<&JobId> = there.difference(&open).filter(|job| !saved.uncertain.contains(job)).collect();
        prop_assert!(back.is_empty() || saved.far_uncertain > 0 || unsure, "{back:?} are back: {saved:#?}");
    }
}
