//! The journal, held against what was told live: from every number on it tells the same, but for what is in no log.

use rota_engine::engine::{Engine, Options};
use rota_engine::event::Event;
use rota_engine::job::{JobState, Time};
use rota_engine::journal::{Journal, Part};
use rota_engine::log::{Group, open};
use rota_engine::news::{News, NewsKind};
use rota_engine::queue::QueueId;
use rota_engine::storage::Storage;
use rota_engine::testing::lockstep::Lockstep;
use rota_engine::testing::model::Model;
use rota_engine::testing::random::Random;
use rota_engine::testing::storage::SimulatedDisk;
use rota_engine::testing::workload::Workload;
use std::collections::{BTreeSet, HashSet};

const STORE: [u8; 16] = *b"a log and a book";
const START: Time = Time(1_700_000_000_000_000_000);

/// A world that was simulated: the engine at its end, its log in many segments, and what was told live.
struct World {
    engine: Engine,
    disk: SimulatedDisk,
    live: Vec<News>,
}

fn simulate(seed: u64, steps: u64) -> World {
    let disk = SimulatedDisk::new();
    disk.set_segment_bytes(Some(3_000));
    let (mut engine, mut writer, _) = Engine::recover(Options::default(), disk.clone(), STORE, START).expect("new");
    engine.listen();
    let mut both = Lockstep::new(engine, Model::new(START, START)).on(disk.observer());
    let random = &mut Random::new(seed);
    let mut workload = Workload::new(random, 150);
    let (mut live, mut group) = (Vec::new(), Group::default());
    for _ in 0..steps {
        let at = both.model.now().after(workload.lapse(random, &both.model));
        let input = workload.input(random, &both.model);
        both.feed(&input, at);
        live.extend(both.engine.take_news().news);
        if both.engine.take_records(&mut group) {
            writer.write(&mut group).expect("the disk takes it");
        }
    }
    writer.sync().expect("the disk syncs");
    assert!(disk.segments().expect("the disk is there").len() > 10);
    World { engine: both.engine, disk, live }
}

/// The numbers of what is in the log.
fn logged(disk: SimulatedDisk) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    let mut take = |record: rota_engine::log::ReplayedRecord<'_>| {
        let seq = record.seq;
        let is_start = matches!(record.event.resolve(&mut |_| QueueId(0)), Event::Started { .. });
        numbers.extend((!is_start).then_some(seq));
        Ok(())
    };
    open(disk, STORE, &mut take).expect("it was written in good order");
    numbers
}

fn read(world: &World, after: u64) -> Vec<News> {
    let mut journal = Journal::begin(world.disk.observer(), after, None).expect("the disk is there");
    let mut told = Vec::new();
    loop {
        match journal.read(world.engine.last_record(), world.engine.next_seq(), &world.engine) {
            Part::News { news, seen, is_end } => {
                told.extend(news);
                assert_eq!(journal.seen(), seen);
                if is_end {
                    assert_eq!(seen + 1, world.engine.next_seq().max(after + 1));
                    return told;
                }
            }
            Part::Gone { from, why } => panic!("nothing is gone: {from:?} {why:?}"),
        }
    }
}

/// What the journal leaves out, it may leave out.
#[track_caller]
fn compare(told: &News, live: &News, is_from_begin: bool) {
    let mut told = told.clone();
    if told.state.is_none() && matches!(live.kind, NewsKind::JobPut | NewsKind::JobReplaced) {
        assert!(matches!(live.state, Some(JobState::Blocked | JobState::Ready | JobState::Delayed)), "{live:?}");
        told.state = live.state;
    }
    if !is_from_begin {
        // Its put was not passed, or no step of the clock, and the engine knows what is now.
        told.queue = told.queue.or_else(|| live.queue.clone());
        told.wall = live.wall;
    }
    assert_eq!(&told, live);
}

#[test]
fn from_every_number_on_it_tells_what_was_told_live() {
    let mut kinds = HashSet::new();
    for seed in 1..=12 {
        let world = simulate(seed, 1_500);
        let numbers = logged(world.disk.copy());
        let live: Vec<&News> = world.live.iter().filter(|news| numbers.contains(&news.seq)).collect();
        kinds.extend(live.iter().map(|news| news.kind));
        let step = if seed == 1 { 1 } else { 101 };
        for after in (0..world.engine.next_seq() + 3).step_by(step) {
            let mut told = read(&world, after);
            told.retain(|news| news.kind != NewsKind::ServerStarted);
            let rest = live.iter().filter(|news| news.seq > after);
            assert_eq!(told.len(), rest.clone().count(), "after {after}");
            told.iter().zip(rest).for_each(|(told, live)| compare(told, live, after == 0));
        }
    }
    assert!(kinds.len() >= 18, "{} kinds: {kinds:?}", kinds.len());
}
