//! Limits for each key of a queue where there are many keys: what the simulator's small worlds do not come to.

use rota_engine::command::{Answer, Command, Delivered, Held, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::{LIMIT_KEYS_REMEMBERED, STEP_OBJECTS};
use rota_engine::queue::{PerKey, QueueSettings, QueueView, Rate};
use rota_engine::session::SessionId;
use rota_engine::terms::Terms;
use std::time::Duration;

/// An engine with a session that watches and uses the one queue.
struct World {
    engine: Engine,
    session: SessionId,
    queue: QueueName,
    now: Time,
}

impl World {
    fn new() -> World {
        let mut engine = Engine::in_memory(Options::default(), Time(1), Time(1));
        let session = engine.open_session().expect("there is room");
        let queue = QueueName::new("work").expect("a name");
        engine.execute(session, Command::Watch(&queue), Time(1)).expect("a queue to watch");
        World { engine, session, queue, now: Time(1) }
    }

    fn put(&mut self, key: &str) -> JobId {
        let terms = Terms { limit_key: Some(key.into()), ..Terms::default() };
        let ttr = Duration::from_secs(1 << 20);
        let target = Target::Named(&self.queue);
        let job = NewJob { ttr, terms: Some(Box::new(terms)), ..NewJob::new(target, (*b"x").into()) };
        match self.engine.execute(self.session, Command::Put(job), self.now) {
            Ok(Answer::Put(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    fn limit(&mut self, concurrency: Option<u32>, rate: Option<Rate>) {
        let settings = QueueSettings { per_key: Some(PerKey { concurrency, rate }), ..QueueSettings::default() };
        let configure = Command::Configure { queue: &self.queue, settings: &settings };
        self.engine.execute(self.session, configure, self.now).expect("settings");
    }

    fn reserve(&mut self) -> Option<JobId> {
        match self.engine.execute(self.session, Command::Reserve { wait: Some(Duration::ZERO) }, self.now) {
            Ok(Answer::Reserved(id, _)) => Some(id),
            Ok(Answer::TimedOut) => None,
            other => panic!("{other:?}"),
        }
    }

    fn complete(&mut self, job: JobId) {
        let complete = Command::Complete { held: Held::by_me(job), result: None };
        self.engine.execute(self.session, complete, self.now).expect("it is held");
    }

    fn view(&self) -> QueueView {
        self.engine.queue(self.engine.find_queue(&self.queue).expect("it is there"))
    }
}

/// Once in so long.
fn once(per: Duration) -> Option<Rate> {
    Some(Rate { count: 1, per })
}

#[test]
fn a_change_of_the_limits_is_made_known_in_slices_and_nothing_is_handed_out_before_all_know() {
    let mut world = World::new();
    let keys = 3 * STEP_OBJECTS + 7;
    world.limit(Some(0), None);
    let jobs: Vec<JobId> = (0..keys).map(|key| world.put(&key.to_string())).collect();
    assert_eq!((world.view().ready, world.view().held_back), (keys as u64, keys as u64));
    assert_eq!(world.reserve(), None);
    let wait = world.engine.open_session().expect("there is room");
    world.engine.execute(wait, Command::Watch(&world.queue), world.now).expect("a queue to watch");
    assert_eq!(world.engine.execute(wait, Command::Reserve { wait: None }, world.now), Ok(Answer::Waiting));
    world.limit(Some(1), None);
    world.engine.check();
    // One slice of them belongs to the command.
    assert_eq!(world.view().held_back, (keys - STEP_OBJECTS) as u64);
    assert_eq!(world.engine.next_tick(), Time(0), "there is more to do");
    let mut ticks = 1;
    while !world.engine.tick(world.now) {
        world.engine.check();
        ticks += 1;
    }
    assert_eq!((ticks, world.view().held_back), (3, 0));
    let deliveries: Vec<_> = world.engine.take_deliveries().map(|delivery| delivery.what).collect();
    assert!(matches!(deliveries[..], [Delivered::Job { job, .. }] if job == jobs[0]), "{deliveries:?}");
    world.engine.check();
    assert_eq!(world.reserve(), Some(jobs[1]));
}

#[test]
fn the_limits_change_again_while_they_are_made_known() {
    let mut world = World::new();
    let keys = 2 * STEP_OBJECTS;
    for key in 0..keys {
        world.put(&format!("{:04}", keys - key));
    }
    world.limit(Some(0), None);
    world.limit(Some(1), None);
    world.limit(Some(0), None);
    while !world.engine.tick(world.now) {}
    world.engine.check();
    assert_eq!((world.reserve(), world.view().held_back), (None, keys as u64));
    world.limit(None, None);
    world.engine.close_session(world.session, world.now);
    while !world.engine.tick(world.now) {}
    world.engine.check();
    assert_eq!(world.view().held_back, 0);
}

#[test]
fn a_queue_may_go_while_its_limits_are_made_known() {
    let mut world = World::new();
    world.limit(None, once(Duration::from_secs(3600)));
    for key in 0..2 * STEP_OBJECTS {
        let job = world.put(&key.to_string());
        assert_eq!(world.reserve(), Some(job));
        world.complete(job);
    }
    let settings = QueueSettings::default();
    let configure = Command::Configure { queue: &world.queue, settings: &settings };
    let other = world.engine.open_session().expect("there is room");
    world.engine.close_session(world.session, world.now);
    world.engine.execute(other, configure, world.now).expect("settings");
    while !world.engine.tick(world.now) {}
    world.engine.check();
    assert!(world.engine.find_queue(&world.queue).is_none(), "nothing needs it");
    assert_eq!(world.engine.next_tick(), Time::NEVER);
}

#[test]
fn a_job_given_by_its_id_counts_for_its_key() {
    let mut world = World::new();
    world.limit(Some(1), None);
    let jobs = [world.put("a"), world.put("a"), world.put("a"), world.put("b")];
    assert_eq!(world.reserve(), Some(jobs[0]));
    let by_id = world.engine.execute(world.session, Command::ReserveJob(jobs[2]), world.now);
    assert!(matches!(by_id, Ok(Answer::Reserved(..))), "{by_id:?}");
    world.complete(jobs[0]);
    assert_eq!((world.reserve(), world.reserve()), (Some(jobs[3]), None), "one of the key is held");
    world.complete(jobs[2]);
    assert_eq!(world.reserve(), Some(jobs[1]));
    world.engine.check();
}

#[test]
fn a_bucket_is_remembered_while_it_is_not_full_but_not_any_number_of_them() {
    let mut world = World::new();
    world.limit(None, once(Duration::from_secs(3600)));
    let work = |world: &mut World, key: &str| {
        let job = world.put(key);
        let handed_out = world.reserve() == Some(job);
        if handed_out {
            world.complete(job);
        } else {
            world.engine.execute(world.session, Command::Cancel(job), world.now).expect("it is open");
        }
        world.now.0 += 1;
        handed_out
    };
    assert!(work(&mut world, "first"));
    assert!(!work(&mut world, "first"), "it has no token");
    for key in 0..=LIMIT_KEYS_REMEMBERED {
        assert!(work(&mut world, &key.to_string()));
    }
    world.engine.check();
    assert!(!work(&mut world, &LIMIT_KEYS_REMEMBERED.to_string()), "it has no token");
    assert!(work(&mut world, "first"), "it was forgotten");
    // With time all of them are full, and are forgotten as others come.
    world.now = world.now.after(Duration::from_secs(7200));
    while !world.engine.tick(world.now) {}
    world.engine.check();
    assert!(work(&mut world, "first"));
}
