//! Any text as a filter of jobs: it is read or refused with a place in it and a hint, what was read is printed as a text that is
//! read as the same, and where it says its jobs stand, they do.
#![no_main]

use rota_engine::command::{Answer, Command, Due, Held, NewJob, Parent, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobId, Priority, QueueName, Time};
use rota_engine::limits::FILTER_BYTES;
use rota_engine::lines::Lines;
use rota_engine::queue::QueueSettings;
use rota_engine::terms::Terms;
use rota_net::filter::Filter;
use std::time::Duration;

thread_local! {
    static ENGINE: Engine = engine();
}

/// A few jobs, in two queues and all states but one.
fn engine() -> Engine {
    let now = Time(1_000_000_000);
    let mut engine = Engine::in_memory(Options::default(), now, now);
    let session = engine.open_session().expect("it is the first");
    let [mail, work] = ["mail", "work-eu"].map(|name| QueueName::new(name).expect("it is a name"));
    let settings = QueueSettings { retain: Some(Duration::from_secs(3600)), ..QueueSettings::default() };
    let mut execute = |command: Command<'_>| engine.execute(session, command, now).expect("nothing is in its way");
    execute(Command::Configure { queue: &work, settings: &settings });
    execute(Command::Watch(&work));
    for at in 0..8_u32 {
        let key = format!("key-{at}");
        let terms = Terms {
            kind: (at % 2 == 0).then(|| "welcome".into()),
            headers: vec![("trace".into(), format!("00-{at}").into())],
            limit_key: (at % 3 == 0).then(|| "customer-7".into()),
            ..Terms::default()
        };
        let parent = [Parent::Id(JobId(1))];
        execute(Command::Put(NewJob {
            priority: Priority(at),
            due: Due::In(Duration::from_secs(if at == 7 { 600 } else { 0 })),
            max_attempts: 1,
            key: (at > 2).then_some(key.as_bytes()),
            after: if at == 6 { &parent } else { &[] },
            terms: Some(Box::new(terms)),
            ..NewJob::new(Target::Named(if at % 2 == 0 { &mail } else { &work }), vec![b'x'; at as usize].into())
        }));
    }
    let mut reserve = || match execute(Command::Reserve { wait: Some(Duration::ZERO) }) {
        Answer::Reserved(job, _) => Held::by_me(job),
        other => unreachable!("three jobs are ready: {other:?}"),
    };
    let (failed, done, held) = (reserve(), reserve(), reserve());
    execute(Command::Fail { held: failed, delay: None, error: Some(b"Timed out") });
    execute(Command::Complete { held: done, result: Some(b"sent") });
    execute(Command::Progress { held, progress: b"half of it" });
    engine
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let filter = match text.parse::<Filter>() {
        Ok(filter) => filter,
        Err(error) => {
            let place = error.at().unwrap_or(1);
            assert!((1..=text.chars().count() + 1).contains(&place), "{error}");
            assert!(!error.hint().is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    assert!(text.len() <= FILTER_BYTES);
    let printed = filter.to_string();
    assert_eq!(printed.parse(), Ok(filter.clone()), "{printed}");
    ENGINE.with(|engine| {
        let (queues, keys) = (filter.queues(), filter.keys());
        let lines = Lines {
            queues: queues.as_deref(),
            takes_queue: &|queue| filter.takes_queue(queue),
            takes_state: &|state| filter.takes_state(state),
            keys: keys.as_deref(),
        };
        let places = engine.places_in(&lines, 0, usize::MAX).expect("there is no bound");
        for (behind, job) in engine.jobs_from(0) {
            if filter.takes(&job, engine.now(), &mut 0) {
                assert!(places.contains(&(behind - 1)), "{printed} takes job {}", job.id);
            }
        }
    });
});
