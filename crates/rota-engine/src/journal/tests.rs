//! A journal over logs that are reclaimed, started anew, cut and damaged.

use super::{Journal, Known, Part};
use crate::command::{Answer, Command, NewJob, Target};
use crate::engine::{Engine, Options};
use crate::job::{JobId, QueueName, Time};
use crate::limits::JOURNAL_JOBS;
use crate::log::{Group, Lsn};
use crate::news::{News, NewsKind};
use crate::testing::server::{STORE, Server, queue};
use crate::testing::storage::SimulatedDisk;
use std::time::Duration;

/// Nobody who could be asked.
struct Nobody;

impl Known for Nobody {
    fn queues_of(&self, jobs: &[JobId]) -> Vec<Option<QueueName>> {
        vec![None; jobs.len()]
    }

    fn wall_time(&self, _: Time) -> Time {
        Time(0)
    }
}

/// What was told, and up to where it was gone.
#[derive(Debug, Default)]
struct Heard {
    news: Vec<News>,
    gone: Vec<Option<u64>>,
    damage: usize,
}

impl Heard {
    /// The numbers of the jobs of which that was told.
    fn jobs(&self, kind: NewsKind) -> Vec<u64> {
        self.news.iter().filter(|news| news.kind == kind).filter_map(|news| Some(news.job?.0)).collect()
    }
}

/// Reads a part; whether it was the last.
fn read(journal: &mut Journal<SimulatedDisk>, engine: &Engine, heard: &mut Heard) -> bool {
    match journal.read(engine.last_record(), engine.next_seq(), engine) {
        Part::News { news, seen, is_end } => {
            assert!(seen >= news.last().map_or(0, |news| news.seq));
            heard.news.extend(news);
            is_end
        }
        Part::Gone { from, why } => {
            heard.gone.push(from);
            heard.damage += usize::from(why.is_some());
            false
        }
    }
}

fn read_all(server: &Server, after: u64) -> Heard {
    let mut heard = Heard::default();
    let mut journal = Journal::begin(server.disk.observer(), after, None).unwrap();
    while !read(&mut journal, &server.engine, &mut heard) {}
    assert!(heard.news.windows(2).all(|two| two[0].seq < two[1].seq), "{:?}", heard.news);
    assert!(heard.news.first().is_none_or(|news| news.seq > after));
    heard
}

fn numbers(told: &[News]) -> Vec<u64> {
    told.iter().map(|news| news.seq).collect()
}

/// A server that put so many jobs and completed every second of them, in small segments.
fn worked(jobs: u64) -> (Server, Vec<JobId>) {
    let mut server = Server::start(SimulatedDisk::new(), 1_500, Options::default()).unwrap();
    let (work, mut ids) = (queue("work"), Vec::new());
    for number in 0..jobs {
        ids.push(server.put(&work, Duration::ZERO, b"body"));
        if number % 2 == 1 {
            server.ask(Command::Cancel(ids[usize::try_from(number).unwrap()]));
        }
    }
    (server, ids)
}

#[test]
fn what_was_reclaimed_and_started_anew_is_told_once() {
    let (mut server, ids) = worked(60);
    let newest = server.writer.stats().newest_segment;
    assert!(newest > 5, "{newest}");
    (0..newest - 2).for_each(|_| assert!(server.compact().is_ok()));
    let after_compaction = server.put(&queue("work"), Duration::ZERO, b"later");
    assert!(server.writer.stats().oldest_segment > 3, "there is history");
    let mut server = Server::start(server.disk.copy(), 1_500, Options::default()).unwrap();
    server.ask(Command::Cancel(ids[0]));
    let heard = read_all(&server, 0);
    assert!(heard.gone.is_empty(), "{:?}", heard.gone);
    let all: Vec<u64> = ids.iter().chain([&after_compaction]).map(|id| id.0).collect();
    assert_eq!(heard.jobs(NewsKind::JobPut), all, "what is kept is no put");
    let mut cancelled = heard.jobs(NewsKind::JobCancelled);
    assert_eq!(cancelled.pop(), Some(ids[0].0));
    assert!(cancelled.into_iter().eq(ids.iter().skip(1).step_by(2).map(|id| id.0)));
    let starts: Vec<_> = heard.news.iter().filter_map(|news| news.epoch).collect();
    assert_eq!(starts, [1, 2]);
    assert!(heard.news.iter().all(|news| news.job.is_none() || news.queue == Some(queue("work"))));
    // From everywhere it goes on with what comes next.
    for (place, news) in heard.news.iter().enumerate() {
        let rest = read_all(&server, news.seq);
        assert_eq!((rest.gone.len(), numbers(&rest.news)), (0, numbers(&heard.news[place + 1..])), "{}", news.seq);
    }
}

/// A server most of whose segments are not needed any more, all that it tells of them, and the oldest that is.
fn reclaimed() -> (Server, Vec<News>, u64) {
    let (mut server, _) = worked(60);
    for _ in 0..server.writer.stats().newest_segment - 2 {
        server.compact().unwrap();
    }
    server.put(&queue("work"), Duration::ZERO, b"later");
    let all = read_all(&server, 0).news;
    let oldest = server.writer.stats().oldest_segment;
    assert!(oldest > 4);
    (server, all, oldest)
}

#[test]
fn what_was_removed_is_said_to_be_gone_and_never_passed_over() {
    let (server, all, oldest) = reclaimed();
    for removed in 1..oldest {
        let disk = server.disk.copy();
        (1..=removed).for_each(|segment| disk.set_bytes(segment, None));
        // Who begins then, and who was in the middle.
        let mut late = (Journal::begin(disk.observer(), 0, None).unwrap(), Heard::default());
        let whole = server.disk.copy();
        let mut begun = (Journal::begin(whole.observer(), 0, None).unwrap(), Heard::default());
        assert!(late.0.is_late() && !begun.0.is_late());
        let Part::News { news, .. } = begun.0.read(Lsn(4), u64::MAX - 1, &server.engine) else { panic!("it is there") };
        begun.0.seen = news.last().unwrap().seq;
        begun.1.news.extend(news);
        (1..=removed).for_each(|segment| whole.set_bytes(segment, None));
        for (journal, heard) in [&mut late, &mut begun] {
            while !read(journal, &server.engine, heard) {}
            let [Some(from)] = heard.gone[..] else { panic!("gone once: {:?}", heard.gone) };
            let before = heard.news.iter().take_while(|news| news.seq < from).count();
            assert_eq!(heard.news[..before], all[..before]);
            let rest: Vec<&News> = all.iter().filter(|news| news.seq >= from).collect();
            assert!(heard.news[before..].iter().map(|news| news.seq).eq(rest.iter().map(|news| news.seq)));
            assert!(!rest.is_empty() && heard.damage == 0);
        }
        assert!(late.1.news.len() <= begun.1.news.len());
    }
}

#[test]
fn nothing_is_gone_where_all_was_read_that_is_removed() {
    let (server, all, oldest) = reclaimed();
    for removed in 1..oldest {
        let disk = server.disk.copy();
        // The record that the next segment begins with, as its header has it.
        let next = disk.bytes(removed + 1).unwrap()[40..48].try_into().map(u64::from_le_bytes).unwrap();
        let (mut journal, mut heard) = (Journal::begin(disk.observer(), 0, None).unwrap(), Heard::default());
        while let Part::News { news, is_end, .. } = journal.read(Lsn(next - 1), u64::MAX - 1, &server.engine) {
            heard.news.extend(news);
            if is_end {
                break;
            }
        }
        journal.seen = heard.news.last().unwrap().seq;
        (1..=removed).for_each(|segment| disk.set_bytes(segment, None));
        while !read(&mut journal, &server.engine, &mut heard) {}
        assert!(heard.gone.is_empty(), "up to {removed}: {:?}", heard.gone);
        assert_eq!(numbers(&heard.news), numbers(&all), "up to {removed}");
    }
}

#[test]
fn a_damaged_segment_is_gone_and_named() {
    let (server, _) = worked(60);
    let all = read_all(&server, 0).news;
    let mut bytes = server.disk.bytes(3).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    server.disk.set_bytes(3, Some(bytes));
    let heard = read_all(&server, 0);
    assert_eq!((heard.damage, heard.gone.len()), (1, 1));
    let from = heard.gone[0].unwrap();
    assert!(all.iter().filter(|news| news.seq >= from).all(|news| heard.news.iter().any(|one| one.seq == news.seq)));
    assert!(heard.news.len() < all.len() && heard.news[0] == all[0]);
}

#[test]
fn what_was_taken_over_from_elsewhere_is_gone_up_to_the_first_start() {
    let (mut elsewhere, ids) = worked(30);
    assert!(elsewhere.engine.begin_snapshot());
    let mut ended = ids.iter().step_by(2);
    while !elsewhere.engine.snapshot_slice(3, elsewhere.now) {
        // It goes on meanwhile, and some of that is in the snapshot.
        elsewhere.put(&queue("work"), Duration::ZERO, b"meanwhile");
        ended.next().into_iter().for_each(|&id| _ = elsewhere.ask(Command::Cancel(id)));
    }
    let (disk, mut group) = (SimulatedDisk::new(), Group::default());
    disk.set_segment_bytes(Some(900));
    let (mut writer, _) = crate::log::open(disk.clone(), *b"another store ..", &mut |_| Ok(())).unwrap();
    assert!(elsewhere.engine.take_snapshot_records(&mut group));
    writer.write(&mut group).unwrap();
    writer.close().unwrap();
    let mut server = Server::start(disk, 900, Options::default()).unwrap();
    (0..20).for_each(|_| _ = server.put(&queue("here"), Duration::ZERO, b"here"));
    for after in [0, 5] {
        let heard = read_all(&server, after);
        let start = &heard.news[0];
        assert_eq!((start.kind, &heard.gone[..]), (NewsKind::ServerStarted, &[Some(start.seq)][..]));
        assert_eq!((heard.jobs(NewsKind::JobPut).len(), heard.damage), (20, 0));
        assert!(heard.jobs(NewsKind::JobCancelled).is_empty());
    }
}

#[test]
fn nothing_is_told_behind_the_record_that_may_be_told() {
    let (server, _) = worked(20);
    let all = read_all(&server, 0).news;
    let end = server.engine.last_record().0;
    for until in 0..=end {
        let mut journal = Journal::begin(server.disk.observer(), 0, None).unwrap();
        let mut told = Vec::new();
        while let Part::News { news, is_end, .. } = journal.read(Lsn(until), u64::MAX, &server.engine) {
            told.extend(news);
            if is_end {
                break;
            }
        }
        assert!(told.len() as u64 <= until && told[..] == all[..told.len()]);
    }
}

#[test]
fn queues_are_kept_in_mind_up_to_a_bound_and_then_left_out() {
    let now = Time(1_000);
    let disk = SimulatedDisk::new();
    let (mut engine, mut writer, _) = Engine::recover(Options::default(), disk.clone(), STORE, now).unwrap();
    let session = engine.open_session().unwrap();
    let (work, mut group, mut ids) = (queue("work"), Group::default(), Vec::new());
    let mut commit = |engine: &mut Engine| {
        engine.take_records(&mut group);
        writer.write(&mut group).unwrap();
    };
    for _ in 0..JOURNAL_JOBS + 10 {
        let put = Command::Put(NewJob::new(Target::Named(&work), (*b"").into()));
        let Ok(Answer::Put(id)) = engine.execute(session, put, now) else { panic!("it is put") };
        ids.push(id);
        if ids.len().is_multiple_of(1_000) {
            commit(&mut engine);
        }
    }
    for &id in &ids {
        engine.execute(session, Command::Cancel(id), now).unwrap();
    }
    commit(&mut engine);
    let queues = |jobs: Option<&[JobId]>| {
        let mut journal = Journal::begin(disk.observer(), 0, jobs).unwrap();
        let (mut with, mut without) = (Vec::new(), Vec::new());
        loop {
            let Part::News { news, is_end, .. } = journal.read(engine.last_record(), engine.next_seq(), &Nobody) else {
                panic!("nothing is gone")
            };
            for news in news.into_iter().filter(|news| news.kind == NewsKind::JobCancelled) {
                if news.queue.is_some() { with.push(news.job.unwrap()) } else { without.push(news.job.unwrap()) }
            }
            if is_end {
                return (with, without);
            }
        }
    };
    let (with, without) = queues(None);
    assert_eq!((with.len(), &without[..]), (JOURNAL_JOBS, &ids[JOURNAL_JOBS..]));
    let last = *ids.last().unwrap();
    assert_eq!(queues(Some(&[last])).0, [last], "who asks for one job gets its queue");
}
