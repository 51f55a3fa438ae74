//! Sessions that follow their leases: they are told of the end of each, and wait on whatever they hold.

use rota_engine::command::{Answer, Command, Delivered, Delivery, Held, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobId, JobState, LeaseToken, QueueName, Time};
use rota_engine::session::SessionId;
use std::time::Duration;

const TTR: Duration = Duration::from_secs(60);

/// An engine with a session that follows its leases and watches `work`, and another.
fn stage() -> (Engine, SessionId, SessionId) {
    let mut engine = Engine::in_memory(Options::default(), Time(1), Time(1));
    let sessions = [(); 2].map(|()| engine.open_session().expect("there is room"));
    engine.execute(sessions[0], Command::Watch(&work()), Time(1)).expect("a queue to watch");
    engine.follow_leases(sessions[0]);
    (engine, sessions[0], sessions[1])
}

fn work() -> QueueName {
    QueueName::new("work").expect("a name")
}

fn put(engine: &mut Engine, session: SessionId, at: Time) -> JobId {
    let name = work();
    let job = NewJob { ttr: TTR, ..NewJob::new(Target::Named(&name), (*b"work").into()) };
    let answer = engine.execute(session, Command::Put(job), at);
    let Ok(Answer::Put(id)) = answer else { panic!("{answer:?}") };
    id
}

fn reserve(engine: &mut Engine, session: SessionId, at: Time) -> LeaseToken {
    let answer = engine.execute(session, Command::Reserve { wait: Some(Duration::ZERO) }, at);
    let Ok(Answer::Reserved(_, token)) = answer else { panic!("{answer:?}") };
    token
}

fn told(engine: &mut Engine) -> Vec<Delivery> {
    engine.take_deliveries().collect()
}

#[test]
fn each_end_of_a_lease_is_told_once_whoever_ends_it() {
    let (mut engine, follower, other) = stage();
    let ends: [fn(Held) -> Command<'static>; 4] = [
        |held| Command::Complete { held, result: None },
        |held| Command::Release { held, priority: rota_engine::job::Priority(0), delay: Duration::from_secs(1) },
        |held| Command::Bury { held, priority: rota_engine::job::Priority(0) },
        |held| Command::Cancel(held.job),
    ];
    for end in ends {
        let job = put(&mut engine, other, Time(2));
        let token = reserve(&mut engine, follower, Time(2));
        assert_eq!(engine.leases_of(follower), 1);
        engine.execute(other, Command::Touch(Held { job, token: Some(token) }), Time(3)).expect("it is held");
        assert_eq!(told(&mut engine), []);
        engine.execute(other, end(Held { job, token: Some(token) }), Time(4)).expect("it is held");
        let what = Delivered::LeaseEnded { job, token, ran_out: false };
        assert_eq!(told(&mut engine), [Delivery { session: follower, what }]);
        assert_eq!(engine.leases_of(follower), 0);
    }
    // What others hold is not told.
    put(&mut engine, other, Time(5));
    engine.execute(other, Command::Watch(&work()), Time(5)).expect("a queue to watch");
    reserve(&mut engine, other, Time(5));
    engine.close_session(other, Time(5));
    assert_eq!(told(&mut engine), []);
}

#[test]
fn who_follows_waits_on_while_a_lease_runs_out() {
    let (mut engine, follower, other) = stage();
    let job = put(&mut engine, other, Time(1));
    let token = reserve(&mut engine, follower, Time(1));
    let end = Time(1).after(TTR);
    // Anybody else is told that the lease is about to end.
    let soon = Time(end.0 - 1);
    assert_eq!(engine.execute(follower, Command::Reserve { wait: None }, soon), Ok(Answer::Waiting));
    engine.tick(soon);
    assert_eq!(told(&mut engine), []);
    engine.tick(end);
    let ended = Delivered::LeaseEnded { job, token, ran_out: true };
    let [first, second] = &told(&mut engine)[..] else { panic!("two deliveries") };
    assert_eq!((first.session, &first.what), (follower, &ended));
    assert!(matches!(second.what, Delivered::Job { job: again, .. } if again == job), "it is ready again");
}

#[test]
fn a_lease_is_dropped_without_fault_even_when_its_time_is_over() {
    let (mut engine, follower, other) = stage();
    let job = put(&mut engine, other, Time(1));
    let first = reserve(&mut engine, follower, Time(1));
    assert!(engine.drop_lease(job, first, Time(2)));
    assert!(!engine.drop_lease(job, first, Time(2)), "it has ended");
    let second = reserve(&mut engine, follower, Time(2));
    assert!(!engine.drop_lease(job, first, Time(2)), "another holds it");
    assert!(engine.drop_lease(job, second, Time(2).after(TTR)));
    let view = engine.job(job).expect("it is there");
    assert_eq!((view.state, view.tally.lost_leases, view.tally.releases), (JobState::Ready, 0, 0));
    let ended = [first, second].map(|token| Delivered::LeaseEnded { job, token, ran_out: false });
    assert!(told(&mut engine).into_iter().map(|told| told.what).eq(ended));
}

#[test]
fn who_is_left_or_closed_is_told_nothing_more() {
    let (mut engine, follower, other) = stage();
    let job = put(&mut engine, other, Time(1));
    let token = reserve(&mut engine, follower, Time(1));
    engine.leave_session(follower, Time(2));
    assert_eq!(engine.job(job).expect("it is held").state, JobState::Reserved);
    assert!(engine.drop_lease(job, token, Time(2)));
    assert_eq!(engine.session_count(), 1, "who was left went with its last lease");
    let next = engine.open_session().expect("there is room");
    engine.follow_leases(next);
    engine.execute(next, Command::ReserveJob(job), Time(3)).expect("it is ready");
    engine.close_session(next, Time(3));
    assert_eq!(engine.job(job).expect("it is there").state, JobState::Ready);
    assert_eq!(told(&mut engine), []);
}
