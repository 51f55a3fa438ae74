//! Jobs that leave memory, are found again by id, key and time, and survive starts; the files that this needs.

mod clock;

use super::index::{self, IndexEntry, IndexFile, Order, RecordAt};
use super::{Bits, Ended, FarFound, FarPlace, OpenFile, OpenSegment, Want};
use crate::command::{Answer, Command, Due, NewJob, OnConflict, Refusal, Target};
use crate::engine::{BodyHome, Options};
use crate::job::{JobId, JobState, QueueName, Time};
use crate::log::{Lsn, OpenError};
use crate::storage::{Beside, Storage};
use crate::testing::server::{Server, queue};
use crate::testing::storage::{Crash, SimulatedDisk, SimulatedFile};
use proptest::prelude::*;
use std::time::Duration;

const NEAR: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn index_of(entries: Vec<IndexEntry>, queues: &[QueueName]) -> (IndexFile, SimulatedFile) {
    let mut disk = SimulatedDisk::new();
    disk.write_beside(Beside::Index(7), &index::encode(7, Lsn(99), queues, entries)).unwrap();
    let file = disk.open_beside(Beside::Index(7)).unwrap();
    (IndexFile::open(&file, 7).unwrap(), file)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_index_finds_what_is_in_it_and_nothing_else(
        jobs in prop::collection::vec(
            (1u64..2_000, 0u64..50, any::<bool>(), prop::option::of((0u64..50, any::<bool>())), prop::option::of(0u32..9), 0u32..2),
            0..1_500,
        ),
    ) {
        let queues = ["a", "b"].map(|name| QueueName::new(name).unwrap());
        let entries: Vec<IndexEntry> = jobs.iter().enumerate().map(|(n, &(job, due, by_wall, expiry, key_hash, queue))| {
            let n = u32::try_from(n).unwrap();
            let at = RecordAt { ordinal: n, offset: n * 100 + 64, length: n + 9 };
            let mut times = [None; 4];
            times[usize::from(by_wall)] = Some(Time(due));
            expiry.into_iter().for_each(|(at, by_wall)| times[2 + usize::from(by_wall)] = Some(Time(at)));
            IndexEntry { job: JobId(job), times, at, queue, key_hash }
        }).collect();
        let (index, file) = index_of(entries.clone(), &queues);
        prop_assert_eq!(index.end(), Lsn(99));
        prop_assert_eq!(index.is_plain(), entries.iter().all(|x| x.times[1..] == [None; 3]));
        // A job may have been written again within the segment.
        for id in 0..2_001 {
            let expected: Vec<RecordAt> = entries.iter().filter(|x| x.job.0 == id).map(|x| x.at).collect();
            let mut found = index.find(&file, JobId(id)).unwrap();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
        for hash in 0..10 {
            let expected: Vec<RecordAt> = entries.iter().filter(|x| x.key_hash == Some(hash)).map(|x| x.at).collect();
            prop_assert_eq!(index.may_have_key(hash), !expected.is_empty());
            prop_assert_eq!(index.find_key(&file, hash).unwrap(), expected);
        }
        for order in Order::ALL {
            let mut timed = Vec::new();
            loop {
                let more = index.timed(&file, order, u32::try_from(timed.len()).unwrap()).unwrap();
                if more.is_empty() { break }
                timed.extend(more);
            }
            let in_order = entries.iter().filter_map(|x| Some((x.times[order as usize]?, x.job, x.at, x.queue)));
            let mut expected: Vec<_> = in_order.collect();
            expected.sort_unstable();
            let timed: Vec<_> = timed.iter().map(|x| (x.time, x.job, x.at, x.queue)).collect();
            for at in 0..51 {
                let before = expected.iter().filter(|(time, ..)| time.0 <= at).count();
                prop_assert_eq!(index.first_after(&file, order, Time(at)).unwrap() as usize, before);
            }
            prop_assert_eq!(index.is_empty(order), expected.is_empty());
            prop_assert_eq!(timed, expected);
        }
    }

    #[test]
    fn ends_come_in_the_order_of_the_log(batches in prop::collection::vec((0usize..9_000, any::<bool>(), 0u64..12_000), 1..6)) {
        let (mut ended, mut model) = (Ended::default(), std::collections::VecDeque::new());
        let mut next = 0;
        for (count, is_reversed, below) in batches {
            for n in 0..count as u64 {
                // A start tells them in another order, and sorts them.
                let at = next + if is_reversed { count as u64 - 1 - n } else { n };
                let place = FarPlace { segment: at / 7, ordinal: (at % 7) as u32 };
                ended.push((Lsn(at), place));
                model.push_back((Lsn(at), place));
            }
            next += count as u64;
            ended.sort();
            model.make_contiguous().sort_unstable();
            while let Some((_, place)) = model.pop_front_if(|(at, _)| at.0 < below) {
                prop_assert_eq!(ended.pop_below(Lsn(below)), Some(place));
            }
            prop_assert_eq!(ended.pop_below(Lsn(below)), None);
        }
    }

    #[test]
    fn no_byte_of_the_file_of_open_jobs_can_change_unseen(
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        wall_ahead in prop::option::of(any::<i128>()),
    ) {
        let bits = Bits::of(vec![5, u64::MAX, 0].into());
        let segments = vec![OpenSegment { segment: 3, records: 150, end: Lsn(8), open: bits }];
        let open = OpenFile { segments, wall_ahead };
        let (bytes, checksum) = open.encode(4);
        let mut disk = SimulatedDisk::new();
        disk.write_beside(Beside::Open(4), &bytes).unwrap();
        prop_assert_eq!(OpenFile::read(&disk, 4).unwrap(), Some((open, checksum)));
        prop_assert_eq!(OpenFile::read(&disk, 5).unwrap(), None);
        let mut other = bytes.clone();
        other[at.index(bytes.len())] ^= 1 << bit;
        disk.write_beside(Beside::Open(4), &other).unwrap();
        prop_assert!(OpenFile::read(&disk, 4).is_err());
    }
}

fn start(disk: &SimulatedDisk, near: Option<Duration>) -> Result<Server, OpenError> {
    let options = Options { bodies: BodyHome::Log, near, ..Options::default() };
    let mut server = Server::start(disk.clone(), 16_384, options)?;
    server.commit();
    Ok(server)
}

fn restart(server: &Server, near: Option<Duration>) -> Server {
    start(&server.disk.restart(Crash::KeepSynced, 1), near).unwrap()
}

/// Reclaims segments until only the one under way is left, and begins a new one, whose header says so.
fn compact_all(server: &mut Server) {
    server.writer.close_segment().unwrap();
    while server.writer.stats().needed_from < server.writer.stats().newest_segment {
        server.compact().unwrap();
    }
    server.writer.close_segment().unwrap();
}

fn delayed(server: &Server, name: &str) -> u64 {
    server.engine.find_queue(&queue(name)).map_or(0, |queue| server.engine.queue(queue).delayed)
}

/// A server with 300 jobs a day ahead in two queues, which left memory.
fn with_far_jobs() -> (Server, Vec<JobId>) {
    let mut server = start(&SimulatedDisk::new(), Some(NEAR)).unwrap();
    let ids = (0..300)
        .map(|n| {
            let key = n.to_string();
            let delay = DAY + Duration::from_secs((n * 37) % 300);
            let queue = queue(if n % 3 == 0 { "a" } else { "b" });
            server.put_with_key(&queue, delay, (n % 5 == 0).then_some(key.as_bytes()), &[7; 300])
        })
        .collect();
    compact_all(&mut server);
    assert!(server.engine.cold_jobs() > 250, "{}", server.engine.cold_jobs());
    (server, ids)
}

#[test]
fn far_jobs_are_found_by_id_and_by_key_and_survive_starts() {
    let (mut server, ids) = with_far_jobs();
    for round in 0..3 {
        assert_eq!(delayed(&server, "a") + delayed(&server, "b"), 300 - 3 * round);
        let cold = server.engine.cold_jobs();
        let [first, second, third] = [0, 1, 5].map(|n| ids[usize::try_from(round * 50 + n).unwrap()]);
        let near = server.find(&server.engine.wanted_job(first).unwrap());
        assert!(server.engine.take_found(&near, server.now));
        assert_eq!(server.engine.job(first).unwrap().body.length(), 300);
        server.engine.let_go(&near);
        assert_eq!(server.engine.cold_jobs(), cold, "a look changes nothing");
        assert_eq!(server.try_ask(Command::Cancel(first)), Ok(Answer::Cancelled(first)));
        assert_eq!(server.try_ask(Command::Cancel(first)), Err(Refusal::NotFound));
        assert_eq!(server.try_ask(Command::Delete(second)), Ok(Answer::Done));
        let queue = QueueName::new(if (round * 50 + 5) % 3 == 0 { "a" } else { "b" }).unwrap();
        let key = (round * 50 + 5).to_string();
        let cancel = || Command::CancelKey { queue: &queue, key: key.as_bytes() };
        assert_eq!(server.try_ask(cancel()), Ok(Answer::Cancelled(third)));
        assert_eq!(server.try_ask(cancel()), Err(Refusal::NotFound));
        server = restart(&server, Some(NEAR));
        if round == 1 {
            compact_all(&mut server);
        }
    }
    let server = restart(&server, None);
    assert_eq!(delayed(&server, "a") + delayed(&server, "b"), 291);
}

#[test]
fn a_far_job_is_ended_by_its_place_alone() {
    let (mut server, ids) = with_far_jobs();
    let segments: Vec<u64> = server.engine.far_segments().map(|(segment, ..)| segment).collect();
    // Not one record can be read any more.
    for segment in segments {
        let mut bytes = server.disk.bytes(segment).unwrap();
        bytes[64..].fill(0xee);
        server.disk.set_bytes(segment, Some(bytes));
    }
    let (cold, held) = (server.engine.cold_jobs(), server.engine.totals().by_state);
    assert_eq!(server.try_ask(Command::Cancel(ids[3])), Ok(Answer::Cancelled(ids[3])));
    assert_eq!(server.try_ask(Command::Cancel(ids[3])), Err(Refusal::NotFound));
    assert_eq!(server.try_ask(Command::Delete(ids[4])), Ok(Answer::Done));
    assert_eq!(server.try_ask(Command::Delete(ids[4])), Err(Refusal::NotFound));
    assert_eq!(server.engine.cold_jobs(), cold - 2);
    assert_eq!(server.engine.totals().by_state[0], held[0] - 2);
    // What was looked up is known for as long as the command takes.
    let found = server.find(&server.engine.wanted_place(ids[5]).unwrap());
    server.engine.take_found(&found, server.now);
    server.engine.let_go(&found);
    assert_eq!(server.engine.execute(server.session, Command::Cancel(ids[5]), server.now), Err(Refusal::NotFound));
    let server = restart(&server, Some(NEAR));
    assert_eq!(server.engine.cold_jobs(), cold - 2);
}

#[test]
fn what_is_looked_up_together_is_what_is_looked_up_one_by_one() {
    let (mut server, ids) = with_far_jobs();
    // Some come near, and stand in two segments when they have left once more.
    for &job in &ids[..20] {
        let found = server.find(&Want::Job(job));
        assert!(server.engine.take_found(&found, server.now));
    }
    compact_all(&mut server);
    let unknown = JobId(u64::MAX / 2);
    let scattered = [250, 3, 3, 117, 0, 19, 299, 20].map(|n| ids[n]);
    let mut wants: Vec<Want> = scattered.into_iter().chain([unknown, JobId(0)]).map(Want::Place).collect();
    wants.insert(2, Want::Job(ids[117]));
    wants.insert(5, Want::Key { queue: queue("a"), key: b"15"[..].into() });
    wants.push(Want::First { queue: queue("b"), count: 3, wall_ahead: 0 });
    let together = server.files.find_all(wants.clone(), &mut |entries| server.engine.are_cold(entries)).unwrap();
    let one_by_one: Vec<_> = wants.into_iter().map(|want| (want.clone(), server.find(&want))).collect();
    assert_eq!(together, one_by_one);
    let places = |(_, found): &(Want, FarFound)| if let FarFound::Places(places) = found { places.len() } else { 0 };
    assert!(together.iter().filter(|found| places(found) > 0).count() >= 8, "{together:?}");
}

#[test]
fn what_a_far_job_was_counted_for_is_kept_though_another_took_its_place() {
    let (mut server, ids) = with_far_jobs();
    // A segment that names neither of their queues; behind it they are kept, then a lease of a far job is lost.
    server.put(&queue("c"), Duration::ZERO, &[7; 300]);
    let with_c = server.writer.stats().newest_segment;
    server.writer.close_segment().unwrap();
    while server.writer.stats().needed_from < with_c {
        server.compact().unwrap();
    }
    assert!(matches!(server.ask(Command::ReserveJob(ids[0])), Answer::Reserved { .. }));
    server.now = server.now.after(Duration::from_secs(3_600));
    while !server.engine.tick(server.now) {}
    server.commit();
    let totals = |server: &Server| {
        ["a", "b"].map(|name| server.engine.find_queue(&queue(name)).map(|queue| server.engine.queue(queue).totals))
    };
    let before = totals(&server);
    assert_eq!(before[0].unwrap().lost_leases, 1);
    let name = queue("a");
    let job = NewJob {
        due: Due::In(DAY),
        key: Some(b"0"),
        on_conflict: OnConflict::Replace,
        ..NewJob::new(Target::Named(&name), [8; 300].into())
    };
    assert!(matches!(server.ask(Command::Put(job)), Answer::Replaced(..)));
    server.writer.close_segment().unwrap();
    for _ in 0..3 {
        server = restart(&server, Some(NEAR));
        assert_eq!(totals(&server)[0].unwrap().lost_leases, 1);
        server.compact().unwrap();
        server.writer.close_segment().unwrap();
    }
}

#[test]
fn a_queue_ends_with_its_last_job_though_that_is_far() {
    let mut server = start(&SimulatedDisk::new(), Some(NEAR)).unwrap();
    let ids: Vec<JobId> = (0..200).map(|_| server.put(&queue("a"), DAY, &[7; 300])).collect();
    compact_all(&mut server);
    compact_all(&mut server);
    for id in ids {
        assert!(server.engine.find_queue(&queue("a")).is_some());
        assert_eq!(server.try_ask(Command::Cancel(id)), Ok(Answer::Cancelled(id)));
    }
    assert!(server.engine.find_queue(&queue("a")).is_none() && server.engine.cold_jobs() == 0);
    let server = restart(&server, Some(NEAR));
    assert!(server.engine.find_queue(&queue("a")).is_none());
}

#[test]
fn far_jobs_are_kicked_in_the_order_of_their_time_and_stay_so() {
    let (mut server, ids) = with_far_jobs();
    let queue = QueueName::new("b").unwrap();
    let kick = Command::Kick { queue: Target::Named(&queue), limit: 20, source: None };
    let Ok(Answer::Kicked { count: 20, .. }) = server.try_ask(kick) else { panic!("twenty are there") };
    let mut expected: Vec<JobId> = ids.iter().copied().filter(|id| (id.0 - ids[0].0) % 3 != 0).collect();
    expected.sort_by_key(|id| (((id.0 - ids[0].0) * 37) % 300, id.0));
    expected.truncate(20);
    let is_ready = |server: &Server, id: &JobId| server.engine.job(*id).is_some_and(|job| job.state == JobState::Ready);
    assert!(expected.iter().all(|id| is_ready(&server, id)));
    for round in 0..3 {
        server = restart(&server, Some(NEAR));
        let lost: Vec<_> = expected.iter().filter(|id| !is_ready(&server, id)).collect();
        assert!(lost.is_empty(), "start {round} forgets the kicks of {lost:?}");
        compact_all(&mut server);
    }
    assert_eq!(delayed(&server, "b"), 180);
}

#[test]
fn who_is_due_or_expires_is_not_kicked_for_a_far_job() {
    let within = |seconds| Due::In(Duration::from_secs(seconds));
    check_kick_of_one(within(5), None, Some(JobState::Ready));
    check_kick_of_one(within(30), Some(within(5)), None);
}

/// The first delayed job is in memory when a kick comes, and stands there no more by then.
fn check_kick_of_one(due: Due, expires: Option<Due>, becomes: Option<JobState>) {
    let (mut server, ids) = with_far_jobs();
    let b = QueueName::new("b").unwrap();
    let soon = NewJob { due, expires, ..NewJob::new(Target::Named(&b), b"soon"[..].into()) };
    let Answer::Put(soon) = server.ask(Command::Put(soon)) else { panic!("it is put") };
    let goal = server.engine.aim_near(server.now.after(NEAR));
    server.engine.near_until(goal);
    // Time passes, and nobody told the engine.
    server.now = server.now.after(Duration::from_secs(5));
    let kick = Command::Kick { queue: Target::Named(&b), limit: 1, source: None };
    let Ok(Answer::Kicked { count: 1, .. }) = server.try_ask(kick) else { panic!("far jobs are there") };
    let is_ready = |id: &JobId| server.engine.job(*id).is_some_and(|job| job.state == JobState::Ready);
    assert_eq!(server.engine.job(soon).map(|job| job.state), becomes);
    assert_eq!(ids.iter().filter(|&id| is_ready(id)).count(), 1);
}

#[test]
fn far_jobs_come_near_in_time_and_end_their_segment_with_them() {
    let (mut server, _) = with_far_jobs();
    let segments: Vec<u64> = server.engine.far_segments().map(|(segment, ..)| segment).collect();
    server.now = server.now.after(DAY);
    crate::testing::lockstep::load(&mut server.engine, &server.files, server.now.after(Duration::from_secs(600)));
    assert_eq!(server.engine.cold_jobs(), 0);
    server.engine.check();
    server.now = server.now.after(Duration::from_secs(301));
    while !server.engine.tick(server.now) {}
    for name in ["a", "b"] {
        server.try_ask(Command::Watch(&queue(name))).unwrap();
    }
    for _ in 0..300 {
        let Ok(Answer::Reserved(job, _)) = server.try_ask(Command::Reserve { wait: Some(Duration::ZERO) }) else {
            panic!("a job is ready")
        };
        assert_eq!(server.try_ask(Command::Delete(job)), Ok(Answer::Done));
    }
    compact_all(&mut server);
    compact_all(&mut server);
    assert!(!segments.is_empty() && server.files.is_empty(), "far segments end with their last job");
    let beside = server.files.needless(server.disk.beside().unwrap(), server.writer.stats().oldest_segment);
    assert_eq!(beside.len(), server.disk.beside().unwrap().len());
    let server = restart(&server, Some(NEAR));
    assert_eq!(server.engine.totals().open(), 0);
}

#[test]
fn an_index_is_made_again_and_open_jobs_are_never_guessed() {
    let (server, ids) = with_far_jobs();
    let Server { mut disk, .. } = server;
    for name in disk.beside().unwrap() {
        if let Beside::Index(segment) = name {
            if segment % 2 == 0 {
                disk.remove_beside(name).unwrap();
            } else {
                disk.write_beside(name, b"nonsense").unwrap();
            }
        }
    }
    let mut server = start(&disk.restart(Crash::KeepWritten, 1), Some(NEAR)).unwrap();
    assert_eq!(server.try_ask(Command::Cancel(ids[0])), Ok(Answer::Cancelled(ids[0])));
    let Server { mut disk, .. } = server;
    let open: Vec<Beside> = disk.beside().unwrap().into_iter().filter(|name| matches!(name, Beside::Open(_))).collect();
    for &name in &open {
        disk.remove_beside(name).unwrap();
    }
    let disk = disk.restart(Crash::KeepWritten, 1);
    let error = start(&disk, Some(NEAR)).err().expect("open jobs are missing");
    let OpenError::Replay { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains(&open.last().unwrap().file_name()), "{source}");
}
