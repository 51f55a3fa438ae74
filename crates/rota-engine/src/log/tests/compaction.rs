//! Segments are reclaimed from the oldest on, and what is open in them is not lost: with the engine, as a server does it.

use crate::command::{Answer, Command, Due, Held, NewJob, OnConflict, Parent, Target};
use crate::engine::{BodyHome, Options};
use crate::far::FarError;
use crate::job::{JobId, JobState, Priority};
use crate::log::{LogStats, OpenError, SegmentError, is_due, is_over};
use crate::queue::{PerKey, QueueSettings, Rate};
use crate::storage::Storage;
use crate::testing::server::{Server, queue};
use crate::testing::storage::{Crash, SimulatedDisk};
use std::time::Duration;

const SEGMENT_BYTES: u64 = 8_192;

fn start(disk: SimulatedDisk, bodies: BodyHome) -> Result<Server, OpenError> {
    Server::start(disk, SEGMENT_BYTES, Options { bodies, ..Options::default() })
}

/// What a start finds after `crash`, with all that is history taken away.
fn restart(server: Server, crash: Crash) -> Result<Server, OpenError> {
    let text = server.engine.durable_text_with(server.now, &|place| server.disk.body(place), &[]);
    let mut disk = server.disk.restart(crash, 7);
    let oldest = server.writer.stats().oldest_segment;
    for segment in disk.segments().unwrap().into_iter().take_while(|&segment| segment < oldest) {
        disk.remove(segment).unwrap();
    }
    disk.sync_names().unwrap();
    let again = start(disk, BodyHome::Memory)?;
    again.engine.check();
    assert_eq!(again.engine.durable_text(again.now), text, "after {crash:?}");
    Ok(again)
}

#[test]
fn a_segment_is_closed_early_where_that_lets_others_go() {
    const SEGMENT: u64 = 64 << 20;
    // Nothing is open, of two segments one is needless.
    let over = LogStats {
        bytes: 2 * SEGMENT,
        needless_bytes: SEGMENT,
        newest_bytes: SEGMENT / 8,
        segment_bytes: SEGMENT,
        needed_from: 2,
        newest_segment: 3,
        ..LogStats::default()
    };
    assert!(!is_due(&over, 0) && is_over(&over, 0));
    assert!(!is_over(&LogStats { needless_bytes: 0, ..over }, 0), "none would go");
    assert!(!is_over(&over, SEGMENT / 4), "it is no longer than it may be");
    assert!(!is_over(&LogStats { newest_bytes: 64, ..over }, 0), "there is nothing in it");
    // While more is reclaimed, it is to be worth a segment.
    let due = LogStats { bytes: 3 * SEGMENT, ..over };
    assert!(is_due(&due, 0) && !is_over(&due, 0));
    assert!(is_over(&LogStats { newest_bytes: SEGMENT / 4, ..due }, 0));
}

#[test]
fn one_old_job_among_thousands_pins_nothing() {
    check_one_old_job(BodyHome::Memory);
    check_one_old_job(BodyHome::Log);
}

fn check_one_old_job(bodies: BodyHome) {
    let mut server = start(SimulatedDisk::new(), bodies).unwrap();
    let (old, new) = (queue("old"), queue("new"));
    let kept = server.put(&old, Duration::from_secs(7 * 86_400), b"old");
    for round in 0..2_000_u32 {
        let id = server.put(&new, Duration::ZERO, &[b'x'; 200]);
        // Done, not cancelled: of that a little stays known for a day.
        server.ask(Command::ReserveJob(id));
        server.ask(Command::Delete(id));
        while is_due(&server.writer.stats(), server.engine.live_bytes()) {
            assert!(server.compact().unwrap() <= 1 + u64::from(round == 0));
        }
        let stats = server.writer.stats();
        assert!(stats.bytes <= 2 * server.engine.live_bytes() + 2 * SEGMENT_BYTES, "{stats:?}");
    }
    let stats = server.writer.stats();
    assert!(stats.newest_segment > 60 && stats.segments <= 3 && stats.retired > 60, "{stats:?}");
    let server = restart(server, Crash::KeepSynced).unwrap();
    assert_eq!(server.engine.job(kept).unwrap().body.in_memory(), Some(&b"old"[..]));
    assert_eq!(server.engine.totals().puts, 2_001, "counters outlive the segments that they were counted in");
}

/// Reclaims while the log is longer than it should be. It ends, and the log is within its bound then.
fn compact_while_due(server: &mut Server) {
    let most = 8 * server.writer.stats().segments;
    let mut rounds = 0;
    while is_due(&server.writer.stats(), server.engine.live_bytes()) {
        server.compact().unwrap();
        rounds += 1;
        assert!(rounds <= most, "{:?}, {} bytes are live", server.writer.stats(), server.engine.live_bytes());
    }
    server.writer.close_segment().unwrap();
    let stats = server.writer.stats();
    assert!(stats.bytes <= 2 * server.engine.live_bytes() + 2 * SEGMENT_BYTES, "{stats:?}");
}

#[test]
fn of_a_job_that_was_replaced_again_and_again_only_the_newest_is_written_again() {
    let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
    let (name, other) = (queue("q"), queue("other"));
    let replaced = |due, body: &[u8]| NewJob {
        due: Due::In(due),
        key: Some(b"digest"),
        on_conflict: OnConflict::Replace,
        ..NewJob::new(Target::Named(&name), body.into())
    };
    let far = Duration::from_secs(86_400);
    let Answer::Put(id) = server.ask(Command::Put(replaced(far, b"first"))) else { panic!("it is put") };
    for round in 0..400_usize {
        // Large at last: each of the old records would become as large.
        let body = vec![b'x'; if round == 399 { 3_000 } else { 10 }];
        assert_eq!(server.ask(Command::Put(replaced(far, &body))), Answer::Replaced(id));
        if round % 100 == 50 {
            server.writer.close_segment().unwrap();
            while server.writer.stats().needed_from < server.writer.stats().newest_segment {
                assert!(server.compact().unwrap() <= 1, "it is one job");
            }
        }
    }
    for _ in 0..3 {
        server.writer.close_segment().unwrap();
        assert!(server.compact().unwrap() <= 1, "it is one job");
        let id = server.put(&other, Duration::ZERO, b"another");
        server.ask(Command::ReserveJob(id));
        server.ask(Command::Delete(id));
    }
    compact_while_due(&mut server);
    let server = restart(server, Crash::KeepSynced).unwrap();
    assert_eq!(server.engine.job(id).unwrap().body.in_memory(), Some(&[b'x'; 3_000][..]));
}

#[test]
fn queues_that_nothing_happens_in_are_written_again_once() {
    let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
    // As many as fill up two segments. With a copy of each queue in each segment nothing but copies would be reclaimed.
    for n in 0..120 {
        server.put(&queue(&format!("a-queue-with-some-name-{n}")), Duration::ZERO, &[b'x'; 60]);
    }
    for _ in 0..100 {
        let id = server.put(&queue("busy"), Duration::ZERO, &[b'y'; 2_000]);
        server.ask(Command::ReserveJob(id));
        server.ask(Command::Delete(id));
        compact_while_due(&mut server);
    }
    restart(server, Crash::KeepSynced).unwrap();
}

#[test]
fn how_queues_are_set_up_is_counted() {
    let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
    let limits = PerKey { concurrency: Some(1), rate: Some(Rate { count: 1, per: Duration::from_secs(1) }) };
    let settings = QueueSettings {
        retain: Some(Duration::from_secs(1)),
        max_jobs: Some(1),
        max_bytes: Some(1),
        concurrency: limits.concurrency,
        rate: limits.rate,
        per_key: Some(limits),
        ..QueueSettings::default()
    };
    for n in 0..500 {
        server.ask(Command::Configure { queue: &queue(&format!("q{n}")), settings: &settings });
    }
    compact_while_due(&mut server);
    restart(server, Crash::KeepSynced).unwrap();
}

#[test]
fn jobs_far_ahead_that_cannot_leave_memory_are_counted_once_they_were_written_again() {
    let options = Options { near: Some(Duration::from_secs(60)), bodies: BodyHome::Memory, ..Options::default() };
    let mut server = Server::start(SimulatedDisk::new(), SEGMENT_BYTES, options).unwrap();
    let name = queue("q");
    for _ in 0..200 {
        // Others wait for the first; the second is as far ahead as to leave when it is put, and not a while after.
        let parent = server.put(&name, Duration::from_secs(86_400), &[b'p'; 200]);
        let after = [Parent::Id(parent)];
        let child = NewJob { after: &after, ..NewJob::new(Target::Named(&name), (*b"child").into()) };
        assert!(matches!(server.ask(Command::Put(child)), Answer::Put(_)));
        server.put(&name, Duration::from_secs(121), &[b'd'; 200]);
    }
    server.now = server.now.after(Duration::from_secs(30));
    compact_while_due(&mut server);
}

#[test]
fn every_state_of_a_job_outlives_its_segment() {
    let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
    let name = queue("q");
    let ids: Vec<JobId> = (0..6).map(|n| server.put(&name, Duration::from_secs(n % 2 * 3600), b"body")).collect();
    server.ask(Command::Watch(&name));
    for id in [ids[0], ids[2]] {
        server.ask(Command::ReserveJob(id));
    }
    server.ask(Command::Bury { held: Held::by_me(ids[2]), priority: Priority(5) });
    server.ask(Command::ReserveJob(ids[4]));
    server.ask(Command::Bury { held: Held::by_me(ids[4]), priority: Priority(5) });
    server.ask(Command::Pause { queue: &name, length: Duration::from_secs(1_000) });
    while server.writer.stats().newest_segment < 3 {
        let id = server.put(&queue("other"), Duration::ZERO, &[b'x'; 500]);
        server.ask(Command::Delete(id));
    }
    for _ in 0..2 {
        server.compact().unwrap();
    }
    server.writer.close_segment().unwrap();
    assert_eq!(server.writer.stats().oldest_segment, 3);
    let mut server = restart(server, Crash::KeepSynced).unwrap();
    let states: Vec<JobState> = ids.iter().map(|&id| server.engine.job(id).unwrap().state).collect();
    use JobState::{Buried, Delayed, Ready};
    assert_eq!(states, [Ready, Delayed, Buried, Delayed, Buried, Delayed]);
    // The order of burials too.
    let q = server.engine.find_queue(&name).unwrap();
    assert_eq!(server.engine.first_job(q, Buried).unwrap().id, ids[2]);
    server.ask(Command::KickJob(ids[2]));
    let q = server.engine.find_queue(&name).unwrap();
    assert_eq!(server.engine.first_job(q, Buried).unwrap().id, ids[4]);
    assert!(!server.engine.queue(q).pause_left.is_zero());
}

#[test]
fn which_jobs_came_to_nothing_outlives_their_segments() {
    let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
    let name = queue("q");
    let ids: Vec<JobId> = (0..3).map(|_| server.put(&name, Duration::ZERO, b"body")).collect();
    server.ask(Command::Cancel(ids[0]));
    server.ask(Command::ReserveJob(ids[1]));
    server.ask(Command::Delete(ids[1]));
    // Twice over: what a compaction wrote of it is reclaimed too.
    for last in [3, 5] {
        while server.writer.stats().newest_segment < last {
            let id = server.put(&queue("other"), Duration::ZERO, &[b'x'; 500]);
            server.ask(Command::ReserveJob(id));
            server.ask(Command::Delete(id));
        }
        while server.writer.stats().needed_from < last {
            server.compact().unwrap();
        }
    }
    server.writer.close_segment().unwrap();
    let mut server = restart(server, Crash::KeepSynced).unwrap();
    let mut behind = |parent| {
        let parents = [Parent::Id(parent)];
        let job = NewJob { after: &parents, ..NewJob::new(Target::Used, (*b"x").into()) };
        let Answer::Put(id) = server.ask(Command::Put(job)) else { panic!("it is new") };
        server.engine.job(id).map(|job| job.state)
    };
    assert_eq!(behind(ids[0]), None, "it was cancelled with what it was to wait for");
    assert_eq!(behind(ids[1]), Some(JobState::Ready));
    assert_eq!(behind(ids[2]), Some(JobState::Blocked));
}

#[test]
fn the_power_may_fail_at_every_operation_of_a_compaction() {
    let mut operations = 0;
    loop {
        let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
        let name = queue("q");
        let ids: Vec<JobId> = (0..40).map(|_| server.put(&name, Duration::from_secs(9), &[b'x'; 300])).collect();
        for id in &ids[..20] {
            server.ask(Command::Cancel(*id));
        }
        let (before, disk, now) = (server.engine.durable_text(server.now), server.disk.clone(), server.now);
        disk.die_after(operations);
        operations += 1;
        // Whatever fails inside, this thread goes on: the panic of an unwrap is the crash.
        let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            server.compact().unwrap();
            server.writer.close_segment().unwrap();
        }));
        for crash in Crash::ALL {
            let copy = disk.restart(Crash::KeepWritten, 0).copy().restart(crash, operations);
            let again =
                start(copy, BodyHome::Memory).unwrap_or_else(|error| panic!("{crash:?} at {operations}: {error}"));
            assert_eq!(again.engine.durable_text(now.max(again.now)), before, "{crash:?} at {operations}");
        }
        if survived.is_ok() {
            return assert!(operations > 10);
        }
    }
}

#[test]
fn a_segment_that_is_damaged_is_not_reclaimed() {
    for (place, byte) in [(70, 0xff), (130, 0xff), (2_000, 0xff)] {
        let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
        while server.writer.stats().newest_segment < 2 {
            server.put(&queue("q"), Duration::ZERO, &[b'x'; 300]);
        }
        let mut bytes = server.disk.bytes(1).unwrap();
        bytes[place] ^= byte;
        server.disk.set_bytes(1, Some(bytes));
        let error = server.compact().map(drop).unwrap_err();
        assert!(matches!(error, FarError::Segment(SegmentError::Damaged { .. })), "{error}");
        assert!(error.to_string().contains("offset"), "{error}");
    }
}

#[test]
fn a_log_that_lost_what_was_reclaimed_refuses_the_start() {
    let mut server = start(SimulatedDisk::new(), BodyHome::Memory).unwrap();
    while server.writer.stats().newest_segment < 4 {
        server.put(&queue("q"), Duration::ZERO, &[b'x'; 300]);
    }
    server.compact().unwrap();
    server.writer.close_segment().unwrap();
    assert_eq!(server.writer.stats().oldest_segment, 2);
    let disk = server.disk.restart(Crash::KeepWritten, 0);
    disk.set_bytes(2, None);
    let error = start(disk, BodyHome::Memory).map(drop).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}
