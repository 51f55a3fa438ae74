//! Queues that are set up to be safer than others: durable leases, which a restart leaves in force, and answers that wait for
//! the disk whatever is promised for all.

use crate::world::{World, work};
use rota_engine::command::{Answer, Command, Due, Held, NewJob, Refusal, Target};
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, JobState, LeaseToken, QueueName, Time};
use rota_engine::news::NewsKind;
use rota_engine::queue::{PerKey, QueueSettings, QueueSync};
use rota_engine::session::SessionId;
use rota_engine::terms::Terms;
use rota_engine::testing::storage::SimulatedDisk;
use std::time::Duration;

/// That of jobs which do not say another one.
const TTR: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);

const AT_FIRST: Time = Time(1_000_000_000_000);

fn durable() -> QueueSettings {
    QueueSettings { durable_leases: true, ..QueueSettings::default() }
}

/// A world with such a queue, and how many jobs in it.
fn world(settings: &QueueSettings, jobs: usize) -> (World, Vec<JobId>) {
    let mut world = World::start(SimulatedDisk::new(), AT_FIRST);
    world.ask(Command::Configure { queue: &work(), settings });
    let put = |_| world.put(Due::In(Duration::ZERO), None, &[]);
    let jobs = (0..jobs).map(put).collect();
    (world, jobs)
}

/// Opens a session that watches the queue; the tokens of its leases are handed on or not.
fn open(engine: &mut Engine, hands_on: bool) -> SessionId {
    let session = engine.open_session().expect("there is room");
    if hands_on {
        engine.hand_tokens_on(session);
    }
    engine.execute(session, Command::Watch(&work()), engine.now()).expect("a queue to watch");
    session
}

fn try_reserve(engine: &mut Engine, session: SessionId) -> Result<Answer, Refusal> {
    engine.execute(session, Command::Reserve { wait: Some(Duration::ZERO) }, engine.now())
}

/// Reserves a job at that moment as who comes by HTTP does: in a session that is left then.
fn reserve(world: &mut World, now: Time) -> (JobId, LeaseToken) {
    world.engine.tick(now);
    let session = open(&mut world.engine, true);
    let answer = try_reserve(&mut world.engine, session);
    let Ok(Answer::Reserved(job, token)) = answer else { panic!("{answer:?}") };
    world.engine.leave_session(session, now);
    world.commit();
    (job, token)
}

fn held(job: JobId, token: LeaseToken) -> Held {
    Held { job, token: Some(token) }
}

fn lease_of(world: &World, job: JobId) -> Option<(LeaseToken, Time)> {
    world.engine.job(job).expect("it is there").lease.map(|(_, token, ends)| (token, ends))
}

fn ask_at(world: &mut World, command: Command<'_>, now: Time) -> Result<Answer, Refusal> {
    let answer = world.engine.execute(world.session, command, now);
    world.commit();
    answer
}

#[test]
fn who_has_the_token_of_a_durable_lease_holds_the_job_after_restarts() {
    let ends: [fn(Held) -> Command<'static>; 5] = [
        |held| Command::Complete { held, result: None },
        |held| Command::Fail { held, delay: None, error: None },
        |held| Command::Release { held, priority: rota_engine::job::Priority(0), delay: SECOND },
        |held| Command::Bury { held, priority: rota_engine::job::Priority(0) },
        |held| Command::Cancel(held.job),
    ];
    for end in ends {
        let (mut world, _) = world(&durable(), 1);
        let (job, token) = reserve(&mut world, AT_FIRST);
        for _ in 0..2 {
            let now = world.engine.now();
            world = world.restart(now.after(SECOND));
            assert_eq!(lease_of(&world, job).map(|(token, _)| token), Some(token));
            let other = open(&mut world.engine, true);
            assert_eq!(try_reserve(&mut world.engine, other), Ok(Answer::TimedOut), "nobody else has it meanwhile");
        }
        let now = world.engine.now();
        let wrong = LeaseToken { counter: token.counter + 1, ..token };
        assert_eq!(ask_at(&mut world, Command::Touch(held(job, wrong)), now), Err(Refusal::NotFound));
        assert_eq!(ask_at(&mut world, Command::Touch(Held::by_me(job)), now), Err(Refusal::NotFound));
        ask_at(&mut world, end(held(job, token)), now).expect("it is held by its token");
        assert_eq!(ask_at(&mut world, Command::Touch(held(job, token)), now), Err(Refusal::NotFound), "it has ended");
        let sessions = world.engine.session_count();
        let world = world.restart(now.after(SECOND));
        assert!(world.engine.job(job).is_none_or(|view| view.lease.is_none()), "it has ended for good");
        assert_eq!(sessions, 2, "who held it before went with its lease");
    }
}

#[test]
fn a_lease_goes_on_with_what_was_left_of_it_and_is_lost_like_any_other() {
    let (mut world, _) = world(&durable(), 1);
    let (job, token) = reserve(&mut world, AT_FIRST);
    // The last that the log tells of is 20 seconds later; for an hour then there is no server.
    let later = AT_FIRST.after(20 * SECOND);
    world.engine.tick(later);
    world.put(Due::In(TTR), None, &[]);
    let mut world = world.restart(later.after(3600 * SECOND));
    let now = world.engine.now();
    assert_eq!(now, later.after(3600 * SECOND));
    assert_eq!(lease_of(&world, job), Some((token, now.after(40 * SECOND))));
    // It is begun anew, and that outlives the next restart too.
    let now = now.after(10 * SECOND);
    ask_at(&mut world, Command::Touch(held(job, token)), now).expect("it is held by its token");
    assert_eq!(lease_of(&world, job), Some((token, now.after(TTR))));
    let mut world = world.restart(Time(0));
    assert_eq!(lease_of(&world, job), Some((token, now.after(TTR))), "engine time did not go on");
    let end = now.after(TTR);
    world.engine.tick(Time(end.0 - 1));
    assert_eq!(world.engine.job(job).expect("it is there").state, JobState::Reserved);
    world.engine.tick(end);
    let view = world.engine.job(job).expect("it is there");
    assert_eq!((view.state, view.tally.lost_leases, view.tally.reserves), (JobState::Ready, 1, 1));
    world.commit();
    let (again, next) = reserve(&mut world, end);
    assert_eq!(again, job);
    assert!(next > token, "a later lease has a greater token");
    assert_eq!(
        ask_at(&mut world, Command::Complete { held: held(job, token), result: None }, end),
        Err(Refusal::NotFound)
    );
}

#[test]
fn a_lease_is_durable_where_its_queue_says_so_and_its_token_is_handed_on() {
    let (mut world, jobs) = world(&durable(), 3);
    let own = open(&mut world.engine, false);
    try_reserve(&mut world.engine, own).expect("a job is ready");
    let (second, token) = reserve(&mut world, AT_FIRST);
    assert_eq!(second, jobs[1]);
    world.ask(Command::Configure { queue: &work(), settings: &QueueSettings::default() });
    reserve(&mut world, AT_FIRST);
    let is_durable = |world: &World| jobs.iter().map(|&job| world.engine.job(job).unwrap().is_lease_durable).collect();
    let before: Vec<bool> = is_durable(&world);
    assert_eq!(before, [false, true, false], "the queue is asked when the lease is given");
    let world = world.restart(AT_FIRST);
    let state = |&job| world.engine.job(job).expect("it is there").state;
    let states: Vec<JobState> = jobs.iter().map(state).collect();
    assert_eq!(states, [JobState::Ready, JobState::Reserved, JobState::Ready]);
    assert_eq!(lease_of(&world, second).map(|(token, _)| token), Some(token));
}

#[test]
fn a_durable_lease_that_is_given_up_is_gone_after_a_restart() {
    let (mut world, jobs) = world(&durable(), 3);
    // One whose token never left, one that was given up alone, one of a session that is closed.
    let sessions = [(); 3].map(|()| open(&mut world.engine, true));
    let tokens = sessions.map(|session| match try_reserve(&mut world.engine, session) {
        Ok(Answer::Reserved(_, token)) => token,
        answer => panic!("{answer:?}"),
    });
    world.engine.leave_session(sessions[0], AT_FIRST);
    assert!(world.engine.take_back(sessions[0], AT_FIRST));
    assert!(world.engine.drop_lease(jobs[1], tokens[1], AT_FIRST));
    world.engine.close_session(sessions[2], AT_FIRST);
    world.commit();
    let world = world.restart(AT_FIRST);
    for job in jobs {
        let view = world.engine.job(job).expect("it is there");
        assert_eq!((view.state, view.tally.lost_leases, view.tally.releases), (JobState::Ready, 0, 0));
    }
    assert_eq!(world.engine.session_count(), 1);
}

#[test]
fn an_answer_waits_for_the_record_of_a_durable_lease() {
    let (mut world, _) = world(&durable(), 1);
    let session = open(&mut world.engine, true);
    let before = world.engine.depends_on().promised;
    let answer = try_reserve(&mut world.engine, session);
    let Ok(Answer::Reserved(job, token)) = answer else { panic!("{answer:?}") };
    let given = world.engine.depends_on().promised;
    assert!(given > before && given == world.engine.last_record());
    world.engine.execute(world.session, Command::Touch(held(job, token)), AT_FIRST).expect("it is held");
    assert!(world.engine.depends_on().promised > given);
    // Others are in no log.
    let plain = QueueName::new("plain").expect("a name");
    world.ask(Command::Put(NewJob::new(Target::Named(&plain), (*b"work").into())));
    world.engine.execute(session, Command::Watch(&plain), AT_FIRST).expect("a queue to watch");
    let before = (world.engine.depends_on(), world.engine.last_record());
    try_reserve(&mut world.engine, session).expect("a job is ready");
    assert_eq!((world.engine.depends_on(), world.engine.last_record()), before);
}

#[test]
fn what_is_held_counts_for_the_limits_of_its_queue_after_a_restart() {
    let per_key = PerKey { concurrency: Some(1), rate: None };
    let settings = QueueSettings { concurrency: Some(2), per_key: Some(per_key), ..durable() };
    let (mut world, _) = world(&settings, 0);
    for key in ["a", "a", "b", "c"] {
        let terms = Terms { limit_key: Some(key.into()), ..Terms::default() };
        let queue = work();
        let job = NewJob { terms: Some(Box::new(terms)), ..NewJob::new(Target::Named(&queue), (*b"work").into()) };
        world.ask(Command::Put(job));
    }
    let (first, token) = reserve(&mut world, AT_FIRST);
    let mut world = world.restart(AT_FIRST);
    let (second, _) = reserve(&mut world, AT_FIRST);
    assert_eq!(second, JobId(first.0 + 2), "of its limit key one is held");
    let session = open(&mut world.engine, true);
    assert_eq!(try_reserve(&mut world.engine, session), Ok(Answer::TimedOut), "as many are held as may be");
    ask_at(&mut world, Command::Complete { held: held(first, token), result: None }, AT_FIRST).expect("it is held");
    let answer = try_reserve(&mut world.engine, session);
    assert!(matches!(answer, Ok(Answer::Reserved(job, _)) if job.0 == first.0 + 1), "{answer:?}");
}

#[test]
fn what_became_ready_by_time_is_held_after_a_restart() {
    let (mut world, _) = world(&durable(), 0);
    let wall = Time(AT_FIRST.0 + 5_000_000_000);
    let jobs = [world.put(Due::In(5 * SECOND), None, &[]), world.put(Due::At(wall), None, &[])];
    let now = AT_FIRST.after(6 * SECOND);
    let leases = [reserve(&mut world, now), reserve(&mut world, now)];
    let run_at = |world: &World| jobs.map(|job| world.engine.job(job).expect("it is there").run_at);
    let before = run_at(&world);
    let mut world = world.restart(now.after(3600 * SECOND));
    assert_eq!(run_at(&world), before);
    let now = world.engine.now();
    for (job, token) in leases {
        let release =
            Command::Release { held: held(job, token), priority: rota_engine::job::Priority(0), delay: Duration::ZERO };
        ask_at(&mut world, release, now).expect("it is held by its token");
        assert_eq!(world.engine.job(job).expect("it is there").state, JobState::Ready);
    }
}

#[test]
fn the_news_of_a_durable_lease_are_those_of_any_lease() {
    let (mut world, _) = world(&durable(), 1);
    world.engine.listen();
    let (job, token) = reserve(&mut world, AT_FIRST);
    ask_at(&mut world, Command::Touch(held(job, token)), AT_FIRST).expect("it is held");
    assert!(world.engine.drop_lease(job, token, AT_FIRST));
    let kinds: Vec<NewsKind> = world.engine.take_news().news.iter().map(|news| news.kind).collect();
    assert_eq!(kinds, [NewsKind::JobReserved, NewsKind::LeaseExtended, NewsKind::LeaseDropped]);
}

#[test]
fn answers_about_a_queue_that_asks_for_the_disk_wait_for_it() {
    let settings = QueueSettings { sync: Some(QueueSync::Always), ..QueueSettings::default() };
    let (mut world, _) = world(&settings, 0);
    let (work, other) = (work(), QueueName::new("other").expect("a name"));
    let put = |world: &mut World, queue: &QueueName| {
        let job = NewJob::new(Target::Named(queue), (*b"work").into());
        let answer = world.engine.execute(world.session, Command::Put(job), AT_FIRST);
        let Ok(Answer::Put(id)) = answer else { panic!("{answer:?}") };
        id
    };
    let first = put(&mut world, &other);
    let durable = world.engine.depends_on().durable;
    assert!(durable < world.engine.last_record(), "what is promised for all is enough");
    assert!(world.engine.wants_durable() < world.engine.last_record());
    let second = put(&mut world, &work);
    let last = world.engine.last_record();
    assert_eq!((world.engine.depends_on().durable, world.engine.wants_durable()), (last, last));
    world.engine.execute(world.session, Command::Cancel(first), AT_FIRST).expect("it is there");
    assert_eq!(world.engine.depends_on().durable, last, "that of another queue asks for no more");
    world.engine.execute(world.session, Command::Cancel(second), AT_FIRST).expect("it is there");
    assert_eq!(world.engine.depends_on().durable, world.engine.last_record());
    world.ask(Command::Configure { queue: &work, settings: &QueueSettings::default() });
    put(&mut world, &work);
    assert!(world.engine.depends_on().durable < world.engine.last_record(), "it asks for it no more");
    // A start knows it from the log.
    world.ask(Command::Configure { queue: &work, settings: &settings });
    let mut world = world.restart(AT_FIRST);
    put(&mut world, &work);
    assert_eq!(world.engine.depends_on().durable, world.engine.last_record());
}
