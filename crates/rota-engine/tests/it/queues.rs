//! How many queues there may be: what would have one more stay is refused, and leaves no trace.

use rota_engine::command::{Answer, Command, NewJob, Refusal, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{QueueName, Time};
use rota_engine::queue::QueueSettings;
use std::time::Duration;

const START: Time = Time(1_700_000_000_000_000_000);

#[test]
fn one_too_many_comes_to_nothing() {
    let mut engine = Engine::in_memory(Options { queues: 3, ..Options::default() }, START, START);
    let session = engine.open_session().unwrap();
    let [a, b, c, default] = ["a", "b", "c", "default"].map(|name| QueueName::new(name).unwrap());
    let put = |queue| Command::Put(NewJob::new(queue, (*b"x").into()));
    let mut ask = |command: Command<'_>| {
        let answer = engine.execute(session, command, START);
        (answer, engine.queue_count())
    };
    assert!(matches!(ask(put(Target::Named(&a))), (Ok(Answer::Put(_)), 2)));
    assert!(matches!(ask(put(Target::Named(&b))), (Ok(Answer::Put(_)), 3)));

    let settings = QueueSettings { max_jobs: Some(1), ..QueueSettings::default() };
    let refused = (Err(Refusal::TooManyQueues), 3);
    assert_eq!(ask(put(Target::Named(&c))), refused);
    assert_eq!(ask(Command::Configure { queue: &c, settings: &settings }), refused);
    assert_eq!(ask(Command::Watch(&c)), refused);
    // What is there is worked on, set up and watched.
    assert!(matches!(ask(put(Target::Named(&a))), (Ok(Answer::Put(_)), 3)));
    assert_eq!(ask(Command::Configure { queue: &b, settings: &settings }), (Ok(Answer::Done), 3));
    assert_eq!(ask(Command::Watch(&b)), (Ok(Answer::Watching(2)), 3));

    // Whoever uses one more puts nothing into it, and nothing into another one either.
    assert_eq!(ask(Command::Use(&c)), (Ok(Answer::Done), 4));
    assert_eq!(ask(put(Target::Used)), (Err(Refusal::TooManyQueues), 4));
    let pause = Command::Pause { queue: &c, length: Duration::from_secs(1) };
    assert_eq!(ask(pause), (Err(Refusal::TooManyQueues), 4));
    assert_eq!(ask(Command::Use(&default)), (Ok(Answer::Done), 3));
}

#[test]
fn when_one_is_gone_there_is_room_for_another() {
    let mut engine = Engine::in_memory(Options { queues: 2, ..Options::default() }, START, START);
    let session = engine.open_session().unwrap();
    let [a, b] = ["a", "b"].map(|name| QueueName::new(name).unwrap());
    let put = |queue| Command::Put(NewJob::new(Target::Named(queue), (*b"x").into()));
    let Ok(Answer::Put(job)) = engine.execute(session, put(&a), START) else { panic!("there is room") };
    assert_eq!(engine.execute(session, put(&b), START), Err(Refusal::TooManyQueues));
    engine.execute(session, Command::Cancel(job), START).unwrap();
    assert!(engine.execute(session, put(&b), START).is_ok());
    assert_eq!(engine.execute(session, put(&a), START), Err(Refusal::TooManyQueues));
}
