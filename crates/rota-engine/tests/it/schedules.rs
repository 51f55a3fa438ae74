//! Schedules, by the engine's own commands and a clock that only the test moves: each tick once, whatever happens between.

use rota_engine::command::{Answer, Command, NewJob, Refusal, ScheduleCommand, Target};
use rota_engine::engine::{Engine, Options, Room};
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::MISSED_TICKS;
use rota_engine::log::{Group, LogWriter, Take, salvage};
use rota_engine::queue::QueueSettings;
use rota_engine::schedule::{
    Became, Calendar, LeftOut, OnMissed, OnOverlap, ScheduleCourse, ScheduleSpec, Template, Timing,
};
use rota_engine::session::SessionId;
use rota_engine::testing::calendar::PlainCalendar;
use rota_engine::testing::storage::{Crash, SimulatedDisk};
use std::sync::Arc;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// A whole minute, so that ticks are easily told.
const START: u64 = 1_700_000_040 * SECOND;

fn name(name: &str) -> QueueName {
    QueueName::new(name).expect("it is so")
}

fn at(seconds: u64) -> Time {
    Time(START + seconds * SECOND)
}

fn every(seconds: u64) -> Timing {
    Timing::Every { span: Duration::from_secs(seconds), from: None }
}

fn cron(expression: String) -> Timing {
    Timing::Cron { expression: expression.into(), zone: "UTC".into() }
}

fn spec(timing: Timing, on_missed: OnMissed) -> ScheduleSpec {
    let template = Arc::new(Template::new(name("work"), (*b"do it").into()));
    ScheduleSpec { timing, on_missed, on_overlap: OnOverlap::Allow, template }
}

/// An engine on a simulated disk.
struct World {
    engine: Engine,
    writer: LogWriter<SimulatedDisk>,
    disk: SimulatedDisk,
    session: SessionId,
}

impl World {
    fn new() -> World {
        World::start(SimulatedDisk::new(), at(0), Arc::new(PlainCalendar))
    }

    fn start(disk: SimulatedDisk, wall: Time, calendar: Arc<dyn Calendar>) -> World {
        let recovered = Engine::recover(Options::default(), disk.clone(), *b"a simulated disk", wall);
        let (mut engine, writer, _) = recovered.expect("it is so");
        engine.set_calendar(calendar);
        let session = engine.open_session().expect("it is so");
        let mut world = World { engine, writer, disk, session };
        world.commit();
        world
    }

    /// Everything stops, what was committed is there again, and the wall clock shows `wall`.
    fn restart(self, wall: Time) -> World {
        World::start(self.disk.restart(Crash::KeepSynced, 7), wall, Arc::new(PlainCalendar))
    }

    fn commit(&mut self) {
        let mut group = Group::default();
        if self.engine.take_records(&mut group) {
            self.writer.write(&mut group).expect("it is so");
        }
        self.writer.sync().expect("it is so");
        self.engine.check();
    }

    fn ask(&mut self, command: ScheduleCommand<'_>) -> Result<Answer, Refusal> {
        let now = self.engine.now();
        self.engine.execute(self.session, Command::Schedule(Box::new(command)), now)
    }

    fn set(&mut self, schedule: &str, spec: ScheduleSpec) {
        let answer = self.ask(ScheduleCommand::Set { name: &name(schedule), spec });
        assert!(matches!(answer, Ok(Answer::Scheduled { .. })), "{answer:?}");
    }

    /// Lets the time come, step by step as a server does.
    fn until(&mut self, now: Time) {
        while !self.engine.tick(now) {}
        self.engine.check();
    }

    fn course(&self, schedule: &str) -> ScheduleCourse {
        *self.engine.schedule(&name(schedule)).expect("it is so").course
    }

    /// The ticks whose jobs are there, in the order of the jobs, in seconds since the start.
    fn ticks(&self) -> Vec<u64> {
        let mut jobs: Vec<(JobId, u64)> = Vec::new();
        let mut place = 0;
        loop {
            let before = jobs.len();
            for (next, view) in self.engine.jobs_from(place).take(100) {
                place = next;
                let fired = view.terms.and_then(|terms| terms.fired.as_ref()).expect("a schedule put it");
                jobs.push((view.id, (fired.tick.0 - START) / SECOND));
            }
            if jobs.len() == before {
                break;
            }
        }
        jobs.sort_unstable();
        jobs.into_iter().map(|(_, tick)| tick).collect()
    }
}

#[test]
fn each_tick_fires_once_and_no_earlier() {
    let mut world = World::new();
    world.set("a", spec(every(60), OnMissed::Once));
    assert_eq!(world.engine.next_tick(), at(60));
    for second in 0..=600 {
        world.until(at(second));
        world.until(at(second));
    }
    assert_eq!(world.ticks(), (1..=10).map(|minute| minute * 60).collect::<Vec<_>>());
    let course = world.course("a");
    assert_eq!((course.fired, course.missed, course.next), (10, 0, at(660)));
    let job = world.engine.job(course.last_fired.expect("it is so").0).expect("it is so");
    assert_eq!((job.queue, job.body.in_memory()), (&name("work"), Some(&b"do it"[..])));
}

#[test]
fn what_becomes_of_missed_ticks_is_the_schedules_to_say() {
    for (on_missed, late, ticks, missed) in [
        (OnMissed::Skip, 605, vec![600], 9),
        (OnMissed::Skip, 630, vec![], 10),
        (OnMissed::Once, 605, vec![600], 9),
        (OnMissed::Once, 659, vec![600], 9),
        (OnMissed::All, 659, (1..=10).map(|minute| minute * 60).collect(), 0),
    ] {
        let mut world = World::new();
        world.set("a", spec(every(60), on_missed));
        world.commit();
        // Nothing ran meanwhile.
        let mut world = world.restart(at(late));
        world.until(at(late));
        assert_eq!(world.ticks(), ticks, "{on_missed:?} after {late} s");
        assert_eq!((world.course("a").missed, world.course("a").next), (missed, at(660)), "{on_missed:?}");
    }
}

#[test]
fn all_that_were_missed_are_at_most_the_newest_thousand() {
    let mut world = World::new();
    world.set("a", spec(every(1), OnMissed::All));
    world.until(at(5_000));
    let course = world.course("a");
    assert_eq!((course.fired, course.missed, course.next), (1_000, MISSED_TICKS as u64, at(5_001)));
    assert_eq!(world.ticks(), (4_001..=5_000).collect::<Vec<_>>());
}

#[test]
fn a_clock_that_is_set_brings_no_tick_twice_and_loses_none() {
    let mut world = World::new();
    world.set("a", spec(cron(format!("every {} bent {}", 60 * SECOND, SECOND)), OnMissed::All));
    world.until(at(125));
    let before = world.ticks();
    // Back by an hour: what fired does not fire again.
    assert!(world.engine.clock_stepped(at(125), Time(at(125).0 - 3_600 * SECOND)));
    world.until(at(3_700));
    assert_eq!(world.ticks(), before, "it is {:?} again", world.engine.wall_now());
    // Forward by two hours: all that it jumps over fire.
    assert!(world.engine.clock_stepped(at(3_700), at(7_300)));
    world.until(at(3_700));
    let ticks = world.ticks();
    let mut expected =
        vec![PlainCalendar.next(&format!("every {} bent {SECOND}", 60 * SECOND), "UTC", at(0)).expect("it is so")];
    while *expected.last().expect("it is so") <= at(7_300) {
        let last = *expected.last().expect("it is so");
        expected
            .push(PlainCalendar.next(&format!("every {} bent {SECOND}", 60 * SECOND), "UTC", last).expect("it is so"));
    }
    expected.pop();
    assert_eq!(ticks, expected.iter().map(|tick| (tick.0 - START) / SECOND).collect::<Vec<_>>());
}

#[test]
fn a_crash_between_a_firing_and_its_record_fires_again_and_one_behind_it_does_not() {
    let mut world = World::new();
    world.set("a", spec(every(60), OnMissed::Once));
    world.commit();
    world.until(at(60));
    // Nobody was told of that job: it is not on the disk.
    let mut world = world.restart(at(61));
    assert_eq!(world.ticks(), [0; 0]);
    world.until(at(61));
    assert_eq!(world.ticks(), [60]);
    world.commit();
    let mut world = world.restart(at(62));
    world.until(at(119));
    assert_eq!(world.ticks(), [60]);
    world.until(at(120));
    assert_eq!(world.ticks(), [60, 120]);
}

#[test]
fn a_tick_that_was_written_stands_whatever_a_later_calendar_says() {
    #[derive(Debug)]
    struct Other;
    impl Calendar for Other {
        fn next(&self, _: &str, _: &str, after: Time) -> Option<Time> {
            Some(Time(after.0 / (1000 * SECOND) * 1000 * SECOND + 1000 * SECOND))
        }
    }
    let mut world = World::new();
    world.set("a", spec(cron(format!("once {}", at(300).0)), OnMissed::Once));
    world.commit();
    let mut world = World::start(world.disk.restart(Crash::KeepSynced, 1), at(10), Arc::new(Other));
    assert_eq!(world.engine.next_tick(), at(300));
    world.until(at(300));
    assert_eq!(world.ticks(), [300]);
    assert_eq!(world.course("a").next.0 % (1000 * SECOND), 0, "from there on, it is asked");
}

#[test]
fn an_overlap_a_taken_key_and_a_full_queue_are_counted_and_told() {
    let mut world = World::new();
    world.set("a", ScheduleSpec { on_overlap: OnOverlap::Skip, ..spec(every(60), OnMissed::Once) });
    world.until(at(60));
    world.until(at(120));
    let first = world.course("a").last_fired.expect("it is so").0;
    let course = world.course("a");
    assert_eq!((course.fired, course.overlapped), (1, 1));
    assert_eq!(course.last.expect("it is so").became, Became::Nothing(LeftOut::Overlap(first)));
    world.engine.execute(world.session, Command::Cancel(first), at(130)).expect("it is so");
    world.until(at(180));
    assert_eq!(world.course("a").fired, 2, "the job of the last firing is over");
    world.ask(ScheduleCommand::Remove(&name("a"))).expect("it is so");

    let template = Template { key: Some((*b"k").into()), ..Template::new(name("keys"), (*b"x").into()) };
    world.set("b", ScheduleSpec { template: Arc::new(template), ..spec(every(60), OnMissed::Once) });
    let keys = name("keys");
    let new = NewJob { key: Some(b"k"), ..NewJob::new(Target::Named(&keys), (*b"mine").into()) };
    let Answer::Put(taken) = world.engine.execute(world.session, Command::Put(new), at(190)).expect("it is so") else {
        panic!()
    };
    world.until(at(240));
    assert_eq!(world.course("b").last.expect("it is so").became, Became::Nothing(LeftOut::KeyTaken(taken)));
    assert_eq!(world.course("b").refused, 1);
    assert_eq!(world.ask(ScheduleCommand::Run(&name("b"))), Err(Refusal::KeyTaken(taken)));

    let settings = QueueSettings { max_jobs: Some(0), ..QueueSettings::default() };
    let configure = Command::Configure { queue: &name("work"), settings: &settings };
    world.engine.execute(world.session, configure, at(240)).expect("it is so");
    world.set("c", spec(every(60), OnMissed::Once));
    world.until(at(300));
    assert_eq!(world.course("c").last.expect("it is so").became, Became::Nothing(LeftOut::QueueFull));
    assert_eq!((world.course("c").refused, world.course("c").next), (1, at(360)));
}

#[test]
fn a_full_disk_puts_a_tick_off_until_there_is_room() {
    let mut world = World::new();
    world.set("a", spec(every(60), OnMissed::Once));
    world.engine.set_room(Room { free: 0, segment_bytes: 0, is_all: true });
    world.until(at(60));
    world.until(at(90));
    assert_eq!((world.ticks(), world.course("a").fired), (vec![], 0));
    assert!(world.engine.schedule(&name("a")).expect("it is so").waits_for_room);
    assert!(world.engine.next_tick() > at(90), "it is not tried without end");
    world.engine.set_room(Room::UNBOUNDED);
    world.until(at(95));
    assert_eq!(world.ticks(), [60]);
    assert!(!world.engine.schedule(&name("a")).expect("it is so").waits_for_room);
}

#[test]
fn a_pause_passes_over_ticks_and_a_run_moves_none() {
    let mut world = World::new();
    world.set("a", spec(every(60), OnMissed::All));
    let a = name("a");
    let pause = |is_paused| ScheduleCommand::Pause { name: &a, is_paused };
    world.ask(pause(true)).expect("it is so");
    assert_eq!(world.engine.next_tick(), Time::NEVER);
    world.until(at(150));
    let Ok(Answer::Put(run)) = world.ask(ScheduleCommand::Run(&name("a"))) else { panic!() };
    assert_eq!(world.course("a").last.expect("it is so").became, Became::Run(run));
    world.ask(pause(false)).expect("it is so");
    assert_eq!((world.course("a").next, world.course("a").missed), (at(180), 0));
    world.until(at(180));
    assert_eq!(world.ticks(), [150, 180]);
    world.ask(ScheduleCommand::Remove(&name("a"))).expect("it is so");
    assert_eq!(world.engine.next_tick(), Time::NEVER);
    for gone in [ScheduleCommand::Remove(&name("a")), ScheduleCommand::Run(&name("a")), pause(true)] {
        assert_eq!(world.ask(gone), Err(Refusal::NoSuchSchedule));
    }
}

#[test]
fn setting_the_same_again_moves_nothing_and_a_change_keeps_the_counts() {
    let mut world = World::new();
    world.set("a", spec(every(60), OnMissed::Once));
    world.until(at(90));
    let again = ScheduleCommand::Set { name: &name("a"), spec: spec(every(60), OnMissed::Once) };
    assert_eq!(world.ask(again), Ok(Answer::Scheduled { is_new: false }));
    assert_eq!(world.course("a").next, at(120), "it is no span from now");
    world.set("a", spec(every(60), OnMissed::All));
    assert_eq!((world.course("a").next, world.course("a").fired), (at(120), 1));
    world.set("a", spec(every(45), OnMissed::All));
    assert_eq!((world.course("a").next, world.course("a").fired), (at(135), 1), "a span from now");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = World::new();
    let none = Timing::Cron { expression: "once 5".into(), zone: "UTC".into() };
    for (spec, refusal) in [
        (spec(Timing::Every { span: Duration::from_millis(999), from: None }, OnMissed::Once), Refusal::BadTiming),
        (spec(none, OnMissed::Once), Refusal::NeverTicks),
        (spec(cron("x".repeat(501)), OnMissed::Once), Refusal::BadTiming),
    ] {
        assert_eq!(world.ask(ScheduleCommand::Set { name: &name("a"), spec }), Err(refusal));
    }
    assert_eq!(world.engine.schedule_count(), 0);
}

#[test]
fn schedules_are_bounded_in_number_and_in_bytes() {
    let mut world = World::new();
    let now = world.engine.now();
    let large = Arc::new(Template::new(name("work"), vec![0; 1 << 20].into()));
    for number in 0.. {
        let spec = ScheduleSpec { template: large.clone(), ..spec(every(60), OnMissed::Once) };
        let (name, session) = (name(&format!("s{number}")), world.session);
        let set = Command::Schedule(Box::new(ScheduleCommand::Set { name: &name, spec }));
        match world.engine.execute(session, set, now) {
            Ok(_) => assert!(number < 64, "64 MiB and no more"),
            Err(refusal) => {
                assert_eq!((refusal, number), (Refusal::TooMuchScheduled, 63));
                break;
            }
        }
    }
    // All of them are due at once: no more is decided than is written.
    while !world.engine.tick(at(60)) {}
    let unwritten = world.engine.unwritten_bytes();
    assert!(unwritten < 128 << 20, "{unwritten} bytes");
}

#[test]
fn what_is_saved_of_a_log_has_its_schedules() {
    let mut world = World::new();
    world.set("a", spec(every(60), OnMissed::Once));
    world.set("gone", spec(every(60), OnMissed::Once));
    world.until(at(130));
    world.ask(ScheduleCommand::Remove(&name("gone"))).expect("it is there");
    world.ask(ScheduleCommand::Pause { name: &name("a"), is_paused: true }).expect("it is there");
    world.commit();
    let into = SimulatedDisk::new();
    salvage(&world.disk, into.clone(), *b"another store...", Take::default()).expect("nothing is wrong with it");
    let saved = World::start(into, at(131), Arc::new(PlainCalendar));
    assert_eq!(saved.course("a"), world.course("a"));
    assert_eq!(saved.engine.schedule_count(), 1);
    assert_eq!(saved.ticks(), world.ticks());
}

#[test]
fn a_pause_over_a_clock_that_is_set_back_brings_no_tick_again() {
    let mut world = World::new();
    world.set("a", spec(every(60), OnMissed::All));
    world.until(at(125));
    let a = name("a");
    world.ask(ScheduleCommand::Pause { name: &a, is_paused: true }).expect("it is there");
    assert!(world.engine.clock_stepped(at(125), at(5)));
    world.ask(ScheduleCommand::Pause { name: &a, is_paused: false }).expect("it is there");
    assert_eq!(world.course("a").next, at(180));
    world.until(at(400));
    assert_eq!(world.ticks(), [60, 120, 180, 240], "the clock shows 280 s");
}
