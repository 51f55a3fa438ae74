//! Jobs that go by the wall clock and left memory, and jobs that expire there: found, and there in time, however the clock is set
//! and whatever is started meanwhile.

use super::{DAY, NEAR, delayed};
use crate::command::{Answer, Command, Due, Held, NewJob, OnConflict, Parent, Refusal, Target};
use crate::engine::{BodyHome, Options};
use crate::far::{FarFound, OpenFile};
use crate::job::{JobId, JobState, Priority, Time};
use crate::storage::{Beside, Storage, StorageFile};
use crate::testing::lockstep::load;
use crate::testing::server::{Server, queue};
use crate::testing::storage::{Crash, SimulatedDisk};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// When the wall clock and engine time begin.
const START: u64 = 1_700_000_000 * SECOND;

/// So many seconds after the start, by the wall clock.
fn at(seconds: u64) -> Time {
    Time(START + seconds * SECOND)
}

fn day(seconds: u64) -> Time {
    at(DAY.as_secs() + seconds)
}

fn options(near: Option<Duration>) -> Options {
    Options { bodies: BodyHome::Log, near, far_files: 3, ..Options::default() }
}

fn start(disk: SimulatedDisk, near: Option<Duration>, wall: Time) -> Server {
    let mut server = Server::start_at(disk, 16_384, options(near), wall).unwrap();
    server.commit();
    bring_near(&mut server, near);
    server
}

/// Brings near what will be due soon, as a server does in time.
fn bring_near(server: &mut Server, near: Option<Duration>) {
    let until = near.map_or(Time::NEVER, |near| server.now.after(near));
    load(&mut server.engine, &server.files, until);
    while !server.engine.tick(server.now) {}
    server.commit();
    server.engine.check();
}

/// The power fails, and the clock shows that at the next start.
fn restart(server: &Server, near: Option<Duration>, wall: Time) -> Server {
    start(server.disk.restart(Crash::KeepSynced, 1), near, wall)
}

/// Reclaims every segment once that is there: what is written again may fill others.
fn compact_all(server: &mut Server) {
    server.writer.close_segment().unwrap();
    let newest = server.writer.stats().newest_segment;
    while server.writer.stats().needed_from < newest {
        server.compact().unwrap();
    }
    server.writer.close_segment().unwrap();
}

fn until(server: &mut Server, now: Time) {
    server.now = server.now.max(now);
    bring_near(server, Some(NEAR));
}

fn set_clock(server: &mut Server, wall: Time) {
    while !server.engine.clock_stepped(server.now, wall) {}
    bring_near(server, Some(NEAR));
}

fn put(server: &mut Server, name: &str, due: Due, expires: Option<Due>, key: Option<&[u8]>) -> JobId {
    let name = queue(name);
    let job = NewJob { due, expires, key, ..NewJob::new(Target::Named(&name), [7; 300].into()) };
    match server.ask(Command::Put(job)) {
        Answer::Put(id) => id,
        answer => panic!("{answer:?}"),
    }
}

fn state(server: &mut Server, job: JobId) -> Option<(JobState, Time)> {
    let near = server.engine.wanted_job(job).map(|want| server.find(&want));
    near.iter().for_each(|near| _ = server.engine.take_found(near, server.now));
    let seen = server.engine.job(job).map(|view| (view.state, view.run_at));
    near.iter().for_each(|near| server.engine.let_go(near));
    server.engine.check();
    seen
}

fn is_cold(server: &Server, job: JobId) -> bool {
    let found = server.engine.wanted_job(job).map(|want| server.find(&want));
    let Some(FarFound::Jobs(records)) = found else { return false };
    records.iter().any(|record| server.engine.are_cold(&[record.entry()]) == [true])
}

/// A server with so many jobs for moments a day ahead, a second apart in some order, in two queues; every fifth has a key.
fn with_jobs(count: u64) -> (Server, Vec<JobId>) {
    let mut server = start(SimulatedDisk::new(), Some(NEAR), at(0));
    let ids = (0..count).map(|n| {
        let key = n.to_string();
        let key = n.is_multiple_of(5).then_some(key.as_bytes());
        put(&mut server, if n % 3 == 0 { "a" } else { "b" }, Due::At(day((n * 37) % count)), None, key)
    });
    let ids = ids.collect();
    compact_all(&mut server);
    assert!(server.engine.cold_jobs() > count * 4 / 5, "{}", server.engine.cold_jobs());
    (server, ids)
}

fn open_file(server: &Server) -> OpenFile {
    let oldest = server.writer.stats().needed_from;
    OpenFile::read(&server.disk, oldest - 1).unwrap().expect("jobs are far").0
}

#[test]
fn jobs_for_a_moment_leave_memory_and_are_found_cancelled_replaced_and_kept_across_starts() {
    let (mut server, ids) = with_jobs(300);
    let all = |server: &Server| delayed(server, "a") + delayed(server, "b");
    for round in 0..3 {
        assert_eq!(all(&server), 300 - 3 * round);
        let n = |n: u64| usize::try_from(round * 50 + n).unwrap();
        let cold = server.engine.cold_jobs();
        let seen = state(&mut server, ids[n(0)]);
        let due = day((round * 50 * 37) % 300);
        assert_eq!(seen.map(|(state, _)| state), Some(JobState::Delayed));
        assert_eq!(seen.map(|(_, run_at)| server.engine.wall_time(run_at)), Some(due));
        assert_eq!(server.engine.cold_jobs(), cold, "a look changes nothing");
        assert_eq!(server.try_ask(Command::Cancel(ids[n(0)])), Ok(Answer::Cancelled(ids[n(0)])));
        assert_eq!(server.try_ask(Command::Delete(ids[n(1)])), Ok(Answer::Done));
        assert_eq!(server.try_ask(Command::Delete(ids[n(1)])), Err(Refusal::NotFound));
        let (name, key) = (queue(if n(5) % 3 == 0 { "a" } else { "b" }), n(5).to_string());
        let cancel = || Command::CancelKey { queue: &name, key: key.as_bytes() };
        assert_eq!(server.try_ask(cancel()), Ok(Answer::Cancelled(ids[n(5)])));
        assert_eq!(server.try_ask(cancel()), Err(Refusal::NotFound));
        let (name, key) = (queue(if n(10) % 3 == 0 { "a" } else { "b" }), n(10).to_string());
        let other = NewJob {
            due: Due::At(day(1_000)),
            key: Some(key.as_bytes()),
            on_conflict: OnConflict::Replace,
            ..NewJob::new(Target::Named(&name), [8; 300].into())
        };
        assert_eq!(server.try_ask(Command::Put(other)), Ok(Answer::Replaced(ids[n(10)])));
        // The clock is another one at each start, and the mode.
        let near = [Some(NEAR), None, Some(NEAR)][usize::try_from(round).unwrap()];
        server = restart(&server, near, at(60 * round));
        let replaced = state(&mut server, ids[n(10)]).map(|(_, run_at)| server.engine.wall_time(run_at));
        assert_eq!(replaced, Some(day(1_000)));
        compact_all(&mut server);
    }
    assert_eq!(all(&server), 291);
}

#[test]
fn the_next_job_of_a_queue_is_the_next_by_both_clocks() {
    let mut server = start(SimulatedDisk::new(), Some(NEAR), at(0));
    let mut jobs: Vec<JobId> = Vec::new();
    for n in 0..120_u64 {
        let due = if n % 2 == 0 { Due::At(day(n)) } else { Due::In(DAY + Duration::from_secs(n)) };
        jobs.push(put(&mut server, "a", due, None, None));
    }
    compact_all(&mut server);
    assert!(jobs[..8].iter().all(|&job| is_cold(&server, job)));
    let first = |server: &mut Server| {
        let id = server.engine.find_queue(&queue("a")).unwrap();
        let found = server.engine.wanted_first(id).map(|want| server.find(&want));
        found.iter().for_each(|found| _ = server.engine.take_found(found, server.now));
        let first = server.engine.first_job(id, JobState::Delayed).map(|view| view.id);
        found.iter().for_each(|found| server.engine.let_go(found));
        first
    };
    assert_eq!(first(&mut server), Some(jobs[0]));
    // An hour back: all that goes by the clock comes later.
    let wall = server.engine.wall_time(server.now);
    set_clock(&mut server, Time(wall.0 - 3_600 * SECOND));
    assert_eq!(first(&mut server), Some(jobs[1]));
    let a = queue("a");
    let kick = Command::Kick { queue: Target::Named(&a), limit: 61, source: None };
    let Ok(Answer::Kicked { count: 61, .. }) = server.try_ask(kick) else { panic!("they are there") };
    let ready = |server: &Server, job: &JobId| server.engine.job(*job).is_some_and(|job| job.state == JobState::Ready);
    let kicked: Vec<usize> = (0..120).filter(|&n| ready(&server, &jobs[n])).collect();
    assert_eq!(kicked, std::iter::once(0).chain((0..60).map(|n| 2 * n + 1)).collect::<Vec<_>>());
}

#[test]
fn jobs_come_when_the_clock_shows_their_moment_however_it_is_set_meanwhile() {
    let (mut server, ids) = with_jobs(300);
    let ready = |server: &Server| server.engine.totals().by_state[JobState::Ready as usize];
    let begin = server.now;
    // An hour back: what is due in a day is due in 25 hours.
    let wall = server.engine.wall_time(server.now);
    set_clock(&mut server, Time(wall.0 - 3_600 * SECOND));
    until(&mut server, begin.after(DAY + Duration::from_secs(600)));
    assert_eq!(ready(&server), 0);
    until(&mut server, at(0).after(DAY + Duration::from_secs(3_600 + 99)));
    assert_eq!(ready(&server), 100);
    // Forwards over half of the rest: those are due at once.
    let wall = day(199);
    set_clock(&mut server, wall);
    assert_eq!(ready(&server), 200);
    // And back: what was due stays so, and what was not waits again, and need not be in memory for that.
    set_clock(&mut server, day(0));
    assert_eq!(ready(&server), 200);
    let late = put(&mut server, "c", Due::At(day(150)), None, None);
    compact_all(&mut server);
    compact_all(&mut server);
    assert!(is_cold(&server, late), "what the clock once showed keeps nothing in memory");
    assert_eq!(ready(&server), 200);
    let now = server.now;
    until(&mut server, now.after(Duration::from_secs(149)));
    assert_eq!((ready(&server), state(&mut server, late).map(|(state, _)| state)), (200, Some(JobState::Delayed)));
    until(&mut server, now.after(Duration::from_secs(151)));
    assert_eq!(ready(&server), 201);
    until(&mut server, now.after(Duration::from_secs(300)));
    assert_eq!((ready(&server), server.engine.cold_jobs()), (301, 0));
    assert!(ids.iter().all(|&job| server.engine.job(job).is_some()));
}

#[test]
fn what_was_due_stays_so_though_the_clock_is_set_back_while_the_server_is_down() {
    let (mut server, ids) = with_jobs(300);
    until(&mut server, day(99));
    let ready = |server: &Server| server.engine.totals().by_state[JobState::Ready as usize];
    assert_eq!(ready(&server), 100);
    // Something by which the log tells how late it is.
    let other = put(&mut server, "c", Due::In(DAY), None, None);
    server.ask(Command::Cancel(other));
    let seen: Vec<_> = ids.iter().map(|&job| state(&mut server, job)).collect();
    for round in 0..4 {
        // An hour behind what it showed, at each start.
        server = restart(&server, Some(NEAR), at(DAY.as_secs() + 99 - 3_600));
        assert_eq!(ready(&server), 100, "start {round}");
        for (&job, &before) in ids.iter().zip(&seen) {
            let now = state(&mut server, job);
            let (before, now) = (before.unwrap(), now.unwrap());
            assert_eq!(before.0, now.0, "job {job} after start {round}");
            assert!(now.0 != JobState::Ready || before == now, "job {job} is due since {before:?}, not {now:?}");
        }
        if round >= 1 {
            // The segment goes in which the log says that the clock was set.
            compact_all(&mut server);
        }
    }
    assert!(server.engine.cold_jobs() > 100);
    // Forwards, by which all are due.
    server = restart(&server, Some(NEAR), day(300));
    assert_eq!((ready(&server), server.engine.cold_jobs()), (300, 0));
    // In a mode that holds all in memory it is the same.
    server = restart(&server, None, day(0));
    assert_eq!(ready(&server), 300);
}

#[test]
fn what_happened_to_a_job_that_was_due_is_as_it_was_though_the_clock_was_set() {
    let (mut server, ids) = with_jobs(40);
    until(&mut server, day(39));
    for name in ["a", "b"] {
        server.try_ask(Command::Watch(&queue(name))).unwrap();
    }
    set_clock(&mut server, day(0));
    let reserve = |server: &mut Server, job| match server.try_ask(Command::ReserveJob(job)) {
        Ok(Answer::Reserved(..)) => {}
        answer => panic!("{answer:?}"),
    };
    for (n, &job) in ids.iter().enumerate().take(8) {
        reserve(&mut server, job);
        let (held, priority) = (Held::by_me(job), Priority(3));
        match n % 4 {
            0 => _ = server.ask(Command::Bury { held, priority }),
            1 => {
                server.ask(Command::Bury { held, priority });
                server.ask(Command::KickJob(job));
            }
            2 => _ = server.ask(Command::Release { held, priority, delay: Duration::ZERO }),
            _ => _ = server.ask(Command::Complete { held, result: None }),
        }
    }
    let text = |server: &Server| {
        let cold = server.engine.cold_records(&server.files);
        server.engine.durable_text_with(server.now, &|place| server.disk.body(place), &cold)
    };
    let before = text(&server);
    for round in 0..3 {
        server = restart(&server, Some(NEAR), server.engine.wall_time(server.now));
        assert_eq!(text(&server), before, "start {round}");
        compact_all(&mut server);
    }
}

#[test]
fn jobs_that_expire_before_they_are_due_do_so_in_time() {
    let mut server = start(SimulatedDisk::new(), Some(NEAR), at(0));
    let far = |n: u64| Duration::from_secs(10 * 86_400 + n);
    let mut jobs: Vec<JobId> = Vec::new();
    for n in 0..160_u64 {
        let expiry = DAY + Duration::from_secs(n);
        let due = if n % 4 < 2 { Due::In(far(n)) } else { Due::At(at(far(n).as_secs())) };
        let expires = if n % 2 == 0 { Due::In(expiry) } else { Due::At(day(n)) };
        jobs.push(put(&mut server, "a", due, Some(expires), None));
    }
    // Some are due before they expire.
    let lasting: Vec<JobId> =
        (0..40_u64).map(|n| put(&mut server, "b", Due::At(day(n)), Some(Due::At(day(1_000))), None)).collect();
    compact_all(&mut server);
    assert!(server.engine.cold_jobs() > 150, "{}", server.engine.cold_jobs());
    let open = |server: &mut Server, jobs: &[JobId]| jobs.iter().filter(|&&job| state(server, job).is_some()).count();
    until(&mut server, day(79));
    let expired = server.engine.totals().expired;
    assert!((80..=81).contains(&expired), "{expired}");
    server = restart(&server, Some(NEAR), day(79));
    assert_eq!(server.engine.totals().expired, expired);
    // By an hour back: those that expire by the clock wait for longer, the others do not.
    set_clock(&mut server, at(DAY.as_secs() + 79 - 3_600));
    until(&mut server, day(162));
    assert_eq!(server.engine.totals().expired, expired + 40);
    for _ in 0..2 {
        compact_all(&mut server);
    }
    server = restart(&server, Some(NEAR), day(400));
    assert_eq!(server.engine.totals().expired, 160);
    let b = server.engine.queue(server.engine.find_queue(&queue("b")).unwrap());
    assert_eq!((b.ready, open(&mut server, &lasting)), (40, 40));
    assert_eq!(open(&mut server, &jobs), 0);
    let later = server.now.after(Duration::from_secs(700));
    until(&mut server, later);
    assert_eq!(server.engine.totals().expired, 200);
    server = restart(&server, None, day(2_000));
    assert_eq!((server.engine.totals().open(), server.engine.totals().expired), (0, 200));
}

#[test]
fn a_job_that_waits_for_one_that_left_memory_hears_that_it_expired() {
    let mut server = start(SimulatedDisk::new(), Some(NEAR), at(0));
    let parents: Vec<JobId> =
        (0..100).map(|n| put(&mut server, "a", Due::At(day(86_400)), Some(Due::At(day(n))), None)).collect();
    compact_all(&mut server);
    assert!(is_cold(&server, parents[0]));
    let want = server.engine.wanted_parent(&Parent::Id(parents[0])).unwrap();
    let found = server.find(&want);
    assert!(server.engine.take_found(&found, server.now));
    let b = queue("b");
    let after = [Parent::Id(parents[0])];
    let Answer::Put(child) =
        server.ask(Command::Put(NewJob { after: &after, ..NewJob::new(Target::Named(&b), [1; 9].into()) }))
    else {
        panic!("it is put")
    };
    assert_eq!(state(&mut server, child).map(|(state, _)| state), Some(JobState::Blocked));
    until(&mut server, day(0));
    assert_eq!(state(&mut server, child), None);
    assert!(server.engine.came_to_nothing(child) && server.engine.came_to_nothing(parents[0]));
}

#[test]
fn the_files_are_as_before_where_all_wait_for_a_span_and_say_more_where_not() {
    let mut server = start(SimulatedDisk::new(), Some(NEAR), at(0));
    (0..100).for_each(|_| _ = put(&mut server, "a", Due::In(DAY), None, None));
    compact_all(&mut server);
    let version = |server: &Server, name| {
        let mut bytes = [0; 10];
        server.disk.open_beside(name).unwrap().read_at(0, &mut bytes).unwrap();
        u16::from_le_bytes([bytes[8], bytes[9]])
    };
    let index = |server: &Server| {
        let segments = server.engine.far_segments().map(|(segment, ..)| segment);
        version(server, Beside::Index(segments.last().unwrap()))
    };
    let open = |server: &Server| version(server, Beside::Open(server.writer.stats().needed_from - 1));
    assert_eq!((index(&server), open(&server), open_file(&server).wall_ahead), (1, 1, None));
    (0..100).for_each(|_| _ = put(&mut server, "a", Due::At(day(0)), None, None));
    compact_all(&mut server);
    assert_eq!((index(&server), open(&server)), (2, 2));
    assert_eq!(open_file(&server).wall_ahead, Some(0));
}

#[test]
fn however_many_far_segments_there_are_few_files_are_open() {
    let (mut server, ids) = with_jobs(1_200);
    let segments = server.engine.far_segments().count();
    assert!(segments > 10, "{segments}");
    for &job in ids.iter().step_by(17) {
        assert!(state(&mut server, job).is_some());
        assert!(server.files.open_files() <= 3, "{}", server.files.open_files());
    }
    until(&mut server, day(1_200));
    assert_eq!((server.engine.cold_jobs(), server.files.open_files() <= 3), (0, true));
    assert_eq!(server.engine.totals().by_state[JobState::Ready as usize], 1_200);
}
