//! What is asked for by the wall clock goes by it, however often that is set, and what is asked for as a span does not: by the
//! engine's own commands and a clock that only the test moves.

use crate::world::{World, work};
use rota_engine::command::{Answer, Command, Due, NewJob, Parent, Target};
use rota_engine::job::{JobId, JobState, QueueName, Time};
use rota_engine::limits::STEP_OBJECTS;
use rota_engine::testing::storage::SimulatedDisk;
use std::time::Duration;

const MINUTE: u64 = 60_000_000_000;
const START: u64 = 1_700_000_000_000_000_000;

/// Minutes after the start: of engine time, or of the wall clock where that was not set.
fn at(minutes: u64) -> Time {
    Time(START + minutes * MINUTE)
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_nanos(minutes * MINUTE)
}

impl World {
    fn new() -> World {
        World::start(SimulatedDisk::new(), at(0))
    }

    fn until(&mut self, now: Time) {
        while !self.engine.tick(now) {}
        self.commit();
    }

    fn set_clock(&mut self, now: Time, wall: Time) {
        while !self.engine.clock_stepped(now, wall) {}
        self.commit();
    }

    /// `None` where it is gone.
    fn state(&self, job: JobId) -> Option<JobState> {
        self.engine.job(job).map(|view| view.state)
    }
}

#[test]
fn a_job_is_due_and_expires_by_the_wall_clock_however_it_is_set() {
    let mut world = World::new();
    let both = world.put(Due::At(at(60)), Some(Due::At(at(90))), &[]);
    let ready = world.put(Due::In(Duration::ZERO), Some(Due::At(at(90))), &[]);
    world.until(at(50));
    // Back by an hour: it is due in 70 minutes, and expires in 100.
    world.set_clock(at(50), Time(START - 10 * MINUTE));
    world.until(at(119));
    assert_eq!((world.state(both), world.state(ready)), (Some(JobState::Delayed), Some(JobState::Ready)));
    world.until(at(120));
    assert_eq!(world.state(both), Some(JobState::Ready));
    assert_eq!(world.engine.job(both).map(|view| view.run_at), Some(at(120)), "in engine time");
    world.until(at(149));
    assert_eq!((world.state(both), world.state(ready)), (Some(JobState::Ready), Some(JobState::Ready)));
    world.until(at(150));
    assert_eq!((world.state(both), world.state(ready)), (None, None));
    assert_eq!(world.engine.totals().expired, 2);
}

#[test]
fn a_clock_that_jumps_over_both_lets_nobody_have_the_job() {
    let mut world = World::new();
    let queue = work();
    world.ask(Command::Watch(&queue));
    let job = world.put(Due::At(at(60)), Some(Due::At(at(90))), &[]);
    assert_eq!(world.ask(Command::Reserve { wait: None }), Answer::Waiting);
    world.set_clock(at(1), at(91));
    world.until(at(1));
    assert_eq!((world.state(job), world.engine.totals().expired), (None, 1));
    assert_eq!(world.engine.take_deliveries().count(), 0);
}

#[test]
fn what_was_asked_for_as_a_span_does_not_move() {
    let mut world = World::new();
    let job = world.put(Due::In(minutes(60)), Some(Due::In(minutes(90))), &[]);
    for (now, wall) in [(10, 300), (20, 1), (30, 45)] {
        world.set_clock(at(now), at(wall));
    }
    world.until(at(59));
    assert_eq!(world.state(job), Some(JobState::Delayed));
    world.until(at(60));
    assert_eq!(world.state(job), Some(JobState::Ready));
    world.until(at(90));
    assert_eq!(world.state(job), None);
}

#[test]
fn a_blocked_job_is_due_by_the_wall_clock_too() {
    let mut world = World::new();
    let queue = work();
    let parents: Vec<JobId> = (0..2).map(|_| world.put(Due::In(Duration::ZERO), None, &[])).collect();
    let [later, earlier] = [0, 1].map(|n| world.put(Due::At(at(60)), None, &[Parent::Id(parents[n])]));
    world.set_clock(at(10), at(0));
    assert_eq!(world.engine.job(later).map(|view| view.run_at), Some(at(70)), "as it is shown meanwhile");
    world.ask(Command::Watch(&queue));
    let free = |world: &mut World, parent| {
        world.ask(Command::ReserveJob(parent));
        world.ask(Command::Delete(parent));
    };
    free(&mut world, parents[0]);
    assert_eq!(world.state(later), Some(JobState::Delayed));
    // The clock jumps over its moment while the other is blocked, and back again: nobody could have had it.
    world.set_clock(at(20), at(100));
    world.set_clock(at(20), at(10));
    free(&mut world, parents[1]);
    world.until(at(69));
    assert_eq!(world.state(earlier), Some(JobState::Delayed));
    // That one was due when the clock showed so, and stays so.
    assert_eq!(world.state(later), Some(JobState::Ready));
    world.until(at(70));
    assert_eq!(world.state(earlier), Some(JobState::Ready));
    let order = [later, earlier].map(|job| world.engine.job(job).expect("it is there").run_at);
    assert!(order[0] < order[1], "{order:?}");
}

#[test]
fn what_was_due_before_the_clock_was_set_is_so_after_a_start() {
    let mut world = World::new();
    let due = world.put(Due::At(at(30)), None, &[]);
    let not_yet = world.put(Due::At(at(60)), Some(Due::At(at(61))), &[]);
    world.until(at(40));
    world.set_clock(at(40), at(10));
    let before = [due, not_yet].map(|job| world.engine.job(job).map(|view| (view.state, view.run_at)));
    assert_eq!(before, [Some((JobState::Ready, at(30))), Some((JobState::Delayed, at(90)))]);
    let mut world = world.restart(at(10));
    let after = [due, not_yet].map(|job| world.engine.job(job).map(|view| (view.state, view.run_at)));
    assert_eq!(after, before);
    // Set while it did not run, by which it was due twenty minutes ago.
    let now = world.engine.now();
    world.until(now);
    let mut world = world.restart(at(80));
    let now = world.engine.now();
    world.until(now);
    assert_eq!((world.state(due), world.state(not_yet)), (Some(JobState::Ready), None));
}

#[test]
fn to_set_the_clock_moves_nothing_and_what_is_due_by_that_comes_in_slices() {
    let mut world = World::new();
    let jobs = 3 * STEP_OBJECTS + 7;
    for _ in 0..jobs {
        world.engine.execute(world.session, put_at(&work(), at(60)), at(0)).expect("it is not refused");
    }
    world.commit();
    assert!(world.engine.clock_stepped(at(1), at(70)), "nothing is due before");
    let ready = |world: &World| world.engine.totals().by_state[JobState::Ready as usize];
    assert_eq!(ready(&world), 0);
    for slice in 1..=3 {
        assert!(!world.engine.tick(at(1)));
        assert_eq!(ready(&world), slice * STEP_OBJECTS as u64);
        // What is due by the clock as it is comes before the clock is set once more.
        let wall = world.engine.wall_time(at(1));
        assert!(slice != 1 || wall == at(70));
    }
    assert!(world.engine.tick(at(1)));
    assert_eq!(ready(&world), jobs as u64);
}

#[test]
fn a_clock_is_set_once_all_is_done_that_was_due_before() {
    let mut world = World::new();
    let jobs = STEP_OBJECTS + 7;
    for _ in 0..jobs {
        world.engine.execute(world.session, put_at(&work(), at(60)), at(0)).expect("it is not refused");
    }
    world.commit();
    assert!(!world.engine.clock_stepped(at(61), at(10)), "more than a step handles is due");
    assert_eq!(world.engine.wall_time(at(61)), at(61), "it is as before");
    assert!(world.engine.clock_stepped(at(61), at(10)));
    assert_eq!(world.engine.wall_time(at(61)), at(10));
    assert_eq!(world.engine.totals().by_state[JobState::Ready as usize], jobs as u64);
    world.commit();
    let world = world.restart(at(10));
    assert_eq!(world.engine.totals().by_state[JobState::Ready as usize], jobs as u64, "a replay comes to the same");
}

fn put_at(queue: &QueueName, wall: Time) -> Command<'_> {
    Command::Put(NewJob { due: Due::At(wall), ..NewJob::new(Target::Named(queue), (*b"work").into()) })
}
