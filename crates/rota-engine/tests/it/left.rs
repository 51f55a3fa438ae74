//! Sessions that are left: what they hold outlives them, under its tokens.

use rota_engine::command::{Answer, Command, Held, HeldBy, NewJob, Refusal, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobId, JobState, LeaseToken, QueueName, Time};
use rota_engine::session::{Actor, SessionId};
use std::time::Duration;

const TTR: Duration = Duration::from_secs(60);

fn engine() -> Engine {
    Engine::in_memory(Options::default(), Time(1), Time(1))
}

fn put(engine: &mut Engine) -> JobId {
    let session = engine.open_session().expect("there is room");
    let name = QueueName::new("work").expect("a name");
    let job = NewJob { ttr: TTR, ..NewJob::new(Target::Named(&name), (*b"work").into()) };
    let answer = engine.execute(session, Command::Put(job), Time(1));
    engine.close_session(session, Time(1));
    let Ok(Answer::Put(id)) = answer else { panic!("{answer:?}") };
    id
}

/// Reserves a job in a session that is left then.
fn reserve_and_leave(engine: &mut Engine) -> (SessionId, LeaseToken) {
    let session = engine.open_session().expect("there is room");
    let name = QueueName::new("work").expect("a name");
    engine.execute(session, Command::Watch(&name), Time(1)).expect("a queue to watch");
    let answer = engine.execute(session, Command::Reserve { wait: Some(Duration::ZERO) }, Time(1));
    let Ok(Answer::Reserved(_, token)) = answer else { panic!("{answer:?}") };
    engine.leave_session(session, Time(1));
    (session, token)
}

#[test]
fn a_token_is_good_after_its_session_was_left() {
    let mut engine = engine();
    let job = put(&mut engine);
    let (_, token) = reserve_and_leave(&mut engine);
    assert_eq!(engine.job(job).expect("it is held").state, JobState::Reserved);
    let other = engine.open_session().expect("there is room");
    let by = |token| Command::Complete { held: Held { job, token }, result: None };
    assert_eq!(engine.execute(other, by(None), Time(2)), Err(Refusal::NotFound), "another session's");
    assert_eq!(engine.execute(other, by(Some(token)), Time(2)), Ok(Answer::Done));
    assert_eq!(engine.session_count(), 1, "who was left went with its last lease");
}

#[test]
fn a_lease_of_a_session_that_was_left_ends_in_its_time() {
    let mut engine = engine();
    let job = put(&mut engine);
    reserve_and_leave(&mut engine);
    assert_eq!(engine.next_tick(), Time(1).after(TTR));
    engine.tick(Time(1).after(TTR));
    let view = engine.job(job).expect("it is ready again");
    assert_eq!((view.state, view.tally.lost_leases), (JobState::Ready, 1));
    assert_eq!(engine.session_count(), 0);
}

#[test]
fn what_was_left_is_taken_back_once_and_without_fault() {
    let mut engine = engine();
    let job = put(&mut engine);
    let (session, _) = reserve_and_leave(&mut engine);
    assert!(engine.take_back(session, Time(2)));
    let view = engine.job(job).expect("it is ready again");
    assert_eq!((view.state, view.tally.lost_leases, view.tally.releases), (JobState::Ready, 0, 0));
    assert_eq!(engine.session_count(), 0);
    assert!(!engine.take_back(session, Time(2)), "there is nothing any more");
    let (next, _) = reserve_and_leave(&mut engine);
    assert!(!engine.take_back(session, Time(2)), "the place is another's now");
    assert!(engine.take_back(next, Time(2)));
}

#[test]
fn who_holds_a_job_is_known_as_long_as_it_is_held() {
    let mut engine = engine();
    let job = put(&mut engine);
    assert_eq!(engine.held_by(job), None);
    let session = engine.open_session().expect("there is room");
    let actor = Actor::new("mailer").expect("a name");
    engine.set_actor(session, Some(actor.clone()));
    engine.set_origin(session, Some("192.0.2.1:5000".into()));
    let name = QueueName::new("work").expect("a name");
    engine.execute(session, Command::Watch(&name), Time(1)).expect("a queue to watch");
    let answer = engine.execute(session, Command::Reserve { wait: None }, Time(5));
    let Ok(Answer::Reserved(_, token)) = answer else { panic!("{answer:?}") };
    engine.leave_session(session, Time(5));
    let until = Time(5).after(TTR);
    let held = HeldBy { actor: Some(&actor), origin: Some("192.0.2.1:5000"), since: Time(5), until };
    assert_eq!(engine.held_by(job), Some(held));
    // Somebody else may begin the lease anew: it is the same.
    let other = engine.open_session().expect("there is room");
    engine.execute(other, Command::Touch(Held { job, token: Some(token) }), Time(9)).expect("it is held");
    assert_eq!(engine.held_by(job), Some(HeldBy { until: Time(9).after(TTR), ..held }));
    engine.tick(Time(9).after(TTR));
    assert_eq!(engine.held_by(job), None);
}
