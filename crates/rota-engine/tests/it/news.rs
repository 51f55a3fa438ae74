//! What is told to who listens, held against the log: every number from the first to the last is one of a record or of
//! news, and every record that is news to anybody is told of.

use rota_engine::command::{Answer, Command, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::event::Event;
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::NEWS_HELD;
use rota_engine::log::{Group, open};
use rota_engine::news::{News, NewsKind};
use rota_engine::queue::QueueId;
use rota_engine::testing::lockstep::Lockstep;
use rota_engine::testing::model::Model;
use rota_engine::testing::random::Random;
use rota_engine::testing::storage::SimulatedDisk;
use rota_engine::testing::workload::Workload;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const STORE: [u8; 16] = *b"a log and a tale";
const START: Time = Time(1_700_000_000_000_000_000);

/// What the log says of a record.
struct Logged {
    at: Time,
    job: Option<JobId>,
    is_news: bool,
}

fn read(disk: SimulatedDisk) -> BTreeMap<u64, Logged> {
    let mut records = BTreeMap::new();
    let mut take = |record: rota_engine::log::ReplayedRecord<'_>| {
        let (seq, at) = (record.seq, record.at);
        let event = record.event.resolve(&mut |_| QueueId(0));
        let is_kept = matches!(
            event,
            Event::NumbersReserved { .. }
                | Event::JobKept(_)
                | Event::QueueKept(_)
                | Event::NumbersKept(_)
                | Event::AnswerKept(_)
        );
        records.insert(seq, Logged { at, job: event.job(), is_news: !is_kept });
        Ok(())
    };
    open(disk, STORE, &mut take).expect("it was written in good order");
    records
}

/// Simulates a world, and returns what was told.
fn tell(world: u64, steps: u64) -> Vec<News> {
    let disk = SimulatedDisk::new();
    let options = Options { number_block: 16, ..Options::default() };
    let (mut engine, mut writer, _) = Engine::recover(options, disk.clone(), STORE, START).expect("a new log");
    assert!(engine.listen() && !engine.listen());
    let began = engine.next_seq();
    let mut both = Lockstep::new(engine, Model::new(START, START)).on(disk.observer());
    let random = &mut Random::new(world);
    let mut workload = Workload::new(random, 150);
    let (mut news, mut group) = (Vec::new(), Group::default());
    for _ in 0..steps {
        let at = both.model.now().after(workload.lapse(random, &both.model));
        let input = workload.input(random, &both.model);
        both.feed(&input, at);
        if random.chance(1, 7) {
            let taken = both.engine.take_news();
            assert_eq!(taken.lost_below, None);
            news.extend(taken.news);
        }
        if both.engine.take_records(&mut group) {
            writer.write(&mut group).expect("the disk takes it");
        }
    }
    news.extend(both.engine.take_news().news);
    writer.sync().expect("the disk syncs");
    let end = both.engine.next_seq();

    assert!(news.windows(2).all(|two| two[0].seq < two[1].seq), "numbers rise");
    let told: BTreeMap<u64, &News> = news.iter().map(|news| (news.seq, news)).collect();
    let records = read(disk.copy());
    for (seq, record) in records.range(began..) {
        let news = told.get(seq);
        assert_eq!(news.is_some(), record.is_news, "record {seq}");
        assert!(news.is_none_or(|news| (news.at, news.job) == (record.at, record.job)), "record {seq}: {news:?}");
    }
    let numbers: BTreeSet<u64> = told.keys().chain(records.keys()).copied().filter(|seq| *seq >= began).collect();
    assert!(numbers.into_iter().eq(began..end), "no number is left out that is not of a record");
    for news in &news {
        assert_eq!(news.kind.name().starts_with("job.") || news.kind.name().starts_with("lease."), news.job.is_some());
        let is_about_all = matches!(news.kind, NewsKind::ClockStepped);
        assert_eq!(news.queue.is_none(), is_about_all, "{news:?}");
    }
    news
}

#[test]
fn every_event_is_told_of_once_and_in_order() {
    let mut kinds = HashSet::new();
    for world in 1..25 {
        kinds.extend(tell(world, 4_000).iter().map(|news| news.kind));
    }
    let missing: Vec<NewsKind> = NewsKind::ALL.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    assert_eq!(missing, [NewsKind::ServerStarted, NewsKind::ServerStopped], "the worlds have everything else");
}

fn put(engine: &mut Engine, session: rota_engine::session::SessionId) {
    let name = QueueName::new("work").expect("a name");
    let answer = engine.execute(session, Command::Put(NewJob::new(Target::Named(&name), (*b"x").into())), START);
    assert!(matches!(answer, Ok(Answer::Put(_))), "{answer:?}");
}

#[test]
fn nothing_is_taken_down_for_nobody_and_what_nobody_fetches_is_given_up() {
    let mut engine = Engine::in_memory(Options::default(), START, START);
    let session = engine.open_session().expect("there is room");
    put(&mut engine, session);
    assert!(!engine.has_news());
    assert!(engine.listen());
    for _ in 0..NEWS_HELD + 10 {
        put(&mut engine, session);
    }
    let taken = engine.take_news();
    let first = taken.news.first().expect("the newest are there");
    assert_eq!((taken.news.len(), taken.lost_below), (10, Some(first.seq)));
    assert_eq!(taken.news.last().map(|news| news.seq + 1), Some(engine.next_seq()));
    put(&mut engine, session);
    let taken = engine.take_news();
    assert_eq!((taken.news.len(), taken.lost_below), (1, None), "it goes on");
    engine.stop_listening();
    put(&mut engine, session);
    assert!(!engine.has_news() && engine.take_news().news.is_empty());
    assert_eq!((engine.started().epoch, engine.started().seq), (Some(1), 1));
}
