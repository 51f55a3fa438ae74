//! In whose name something was asked for, where the disk has hardly any room left: ends of jobs are written all the same.

use rota_engine::command::{Answer, Command, NewJob, Target};
use rota_engine::engine::{Engine, Options, Room};
use rota_engine::job::{JobId, Time};
use rota_engine::limits::{ACTOR_BYTES, FINAL_RECORD_BYTES};
use rota_engine::log::{Group, open};
use rota_engine::session::{Actor, BadActor};
use rota_engine::testing::storage::SimulatedDisk;

const STORE: [u8; 16] = *b"a log with names";
const START: Time = Time(1_700_000_000_000_000_000);

#[test]
fn a_full_disk_has_room_for_ends_before_it_has_room_for_names() {
    let disk = SimulatedDisk::new();
    let (mut engine, mut writer, _) = Engine::recover(Options::default(), disk.clone(), STORE, START).unwrap();
    let mut group = Group::default();
    let (short, long) = (Actor::new("m").unwrap(), Actor::new(&"x".repeat(ACTOR_BYTES)).unwrap());
    let session = engine.open_session().unwrap();
    engine.set_actor(session, Some(short.clone()));
    let mut flush = |engine: &mut Engine| {
        engine.take_records(&mut group);
        writer.write(&mut group).unwrap();
        writer.sync().unwrap();
    };
    let jobs: Vec<JobId> = (0..4)
        .map(|_| match engine.execute(session, Command::Put(NewJob::new(Target::Used, (*b"x").into())), START) {
            Ok(Answer::Put(job)) => job,
            other => panic!("{other:?}"),
        })
        .collect();
    flush(&mut engine);
    engine.listen();
    let mut cancel = |engine: &mut Engine, actor: &Actor, job: JobId| {
        engine.set_actor(session, Some(actor.clone()));
        engine.execute(session, Command::Cancel(job), START).unwrap();
        flush(engine);
    };

    // Room for the ends of all, in the name that was heard of.
    let free = 4 * (FINAL_RECORD_BYTES + 6);
    engine.set_room(Room { free, segment_bytes: 0, is_all: true });
    cancel(&mut engine, &short, jobs[0]);
    // A longer name has no room, the end has; who listens is told all the same.
    cancel(&mut engine, &long, jobs[1]);
    engine.set_room(Room::UNBOUNDED);
    cancel(&mut engine, &long, jobs[2]);
    let told: Vec<_> = engine.take_news().news.into_iter().map(|news| (news.job.unwrap(), news.actor)).collect();
    assert_eq!(told, [(jobs[0], Some(short.clone())), (jobs[1], Some(long.clone())), (jobs[2], Some(long.clone()))]);

    let mut logged = Vec::new();
    let read = open(disk, STORE, &mut |record| {
        logged.extend(record.event.event().ends_job().map(|job| (job, record.event.actor().cloned())));
        Ok(())
    });
    read.unwrap();
    assert_eq!(logged, [(jobs[0], Some(short)), (jobs[1], None), (jobs[2], Some(long))]);
}

#[test]
fn a_name_is_short_and_can_be_seen() {
    assert_eq!(Actor::new(""), Err(BadActor::Length(0)));
    assert_eq!(Actor::new(&"x".repeat(101)), Err(BadActor::Length(101)));
    assert_eq!(Actor::new("a\tb"), Err(BadActor::Control('\t')));
    assert_eq!(Actor::new("die Post, München").unwrap().to_string(), "die Post, München");
}
