//! A session on an engine: its bounds, and what the page's conversations are too small to show.

use crate::parser::stream;
use proptest::prelude::*;
use rota_engine::command::{Delivered, Delivery};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_net::beanstalkd::{Counters, Facts, LogFacts, OUTPUT_BYTES, ProcessorTime, Server, Session, Status};
use std::time::Duration;

/// An engine, and what goes with it.
struct Owner {
    engine: Engine,
    counters: Counters,
    facts: Facts,
}

impl Owner {
    fn new() -> Owner {
        let facts = Facts {
            max_job_bytes: 65_535,
            draining: false,
            version: "0.0.0",
            pid: 1,
            instance: 1,
            started_at: Time(0),
            hostname: String::new(),
            os: String::new(),
            platform: String::new(),
            processor_time: ProcessorTime::default,
            log: LogFacts::default(),
        };
        let engine = Engine::in_memory(Options::default(), Time(0), Time(0));
        Owner { engine, counters: Counters::default(), facts }
    }

    fn server(&mut self, now: Time) -> Server<'_> {
        Server { engine: &mut self.engine, counters: &mut self.counters, facts: &self.facts, timings: None, now }
    }

    fn open(&mut self) -> Session {
        Session::open(&mut self.server(Time(0))).expect("there is room for a session")
    }

    /// Has a session take all of the input; gives the answers and how often it had to be called.
    fn ask(&mut self, session: &mut Session, input: &[u8]) -> (Vec<u8>, usize) {
        let (mut answers, mut input, mut calls) = (Vec::new(), input, 0);
        loop {
            let mut out = Vec::new();
            let (taken, status) = session.receive(&mut self.server(Time(0)), input, &mut out);
            assert!(out.len() < OUTPUT_BYTES + 70_000, "{} bytes are written at once", out.len());
            answers.append(&mut out);
            input = &input[taken..];
            calls += 1;
            match status {
                Status::Again => {}
                Status::NeedMore | Status::Close => return (answers, calls),
                Status::Waiting => panic!("nothing waits here"),
            }
        }
    }
}

fn text(answers: &[u8]) -> String {
    String::from_utf8_lossy(answers).into_owned()
}

#[test]
fn a_call_writes_so_much_and_no_more() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    let put = [&b"put 0 0 60 60000\r\n"[..], &[b'x'; 60_000], b"\r\n"].concat();
    owner.ask(&mut session, &put);
    let (answers, calls) = owner.ask(&mut session, &b"peek 1\r\n".repeat(100));
    assert_eq!(answers.len(), 100 * ("FOUND 1 60000\r\n".len() + 60_002));
    assert!((20..=40).contains(&calls), "{calls} calls for 6 MB");
}

#[test]
fn many_jobs_are_kicked_in_slices() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    owner.ask(&mut session, &b"put 0 60 60 1\r\nx\r\n".repeat(2500));
    let (answers, calls) = owner.ask(&mut session, b"kick 2400\r\nstats-tube default\r\n");
    assert!(text(&answers).starts_with("KICKED 2400\r\n"), "{}", text(&answers));
    assert!(text(&answers).contains("current-jobs-ready: 2400\n"), "{}", text(&answers));
    assert!(calls >= 3, "no step handles more than 1,000 jobs");
}

#[test]
fn many_tubes_are_listed_in_slices() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    for tube in 0..2500 {
        owner.ask(&mut session, format!("use tube-{tube}\r\nput 0 0 60 0\r\n\r\n").as_bytes());
    }
    let (answers, calls) = owner.ask(&mut session, b"list-tubes\r\nlist-tube-used\r\n");
    let tubes: String = (0..2500).map(|tube| format!("- tube-{tube}\n")).collect();
    let document = format!("---\n- default\n{tubes}");
    assert_eq!(text(&answers), format!("OK {}\r\n{document}\r\nUSING tube-2499\r\n", document.len()));
    assert_eq!(calls, 3);
}

#[test]
fn only_so_many_tubes_are_watched() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    let watches: String = (1..65_536).map(|tube| format!("watch {tube}\r\n")).collect();
    let (answers, _) = owner.ask(&mut session, watches.as_bytes());
    assert!(answers.ends_with(b"WATCHING 65535\r\nWATCHING 65536\r\n"));
    let (answers, _) = owner.ask(&mut session, b"watch one-more\r\nstats-tube one-more\r\nwatch 7\r\n");
    assert_eq!(text(&answers), "OUT_OF_MEMORY\r\nNOT_FOUND\r\nWATCHING 65536\r\n");
}

#[test]
fn a_delivery_on_its_way_is_not_lost_to_a_half_close() {
    let mut owner = Owner::new();
    let (mut worker, mut producer) = (owner.open(), owner.open());
    let mut out = Vec::new();
    let (_, status) = worker.receive(&mut owner.server(Time(0)), b"reserve\r\n", &mut out);
    assert_eq!(status, Status::Waiting);
    owner.ask(&mut producer, b"put 0 0 60 1\r\nx\r\n");
    assert_eq!(worker.half_close(&mut owner.server(Time(0)), &mut out), Status::Waiting);
    let deliveries: Vec<Delivery> = owner.engine.take_deliveries().collect();
    let [Delivery { session, what: what @ Delivered::Job { .. } }] = &deliveries[..] else {
        panic!("expected one job, got {deliveries:?}");
    };
    assert_eq!(*session, worker.id());
    worker.deliver(what.clone(), &mut out);
    assert_eq!(text(&out), "RESERVED 1 1\r\nx\r\n");
    let (_, status) = worker.receive(&mut owner.server(Time(0)), b"", &mut out);
    assert_eq!(status, Status::Close);
}

#[test]
fn what_connections_count_is_given_back() {
    let mut owner = Owner::new();
    let (mut producer, mut worker) = (owner.open(), owner.open());
    owner.ask(&mut producer, b"put 0 0 60 1\r\nx\r\nput 0 0 60 1\r\nx\r\n");
    owner.ask(&mut worker, b"reserve\r\nreserve-with-timeout 0\r\nreserve-job 9\r\n");
    let Counters { connections, producers, workers, .. } = owner.counters;
    assert_eq!((connections, producers, workers), (2, 1, 1));
    producer.close(&mut owner.server(Time(0)));
    worker.close(&mut owner.server(Time(0)));
    let Counters { connections, producers, workers, total_connections, .. } = owner.counters;
    assert_eq!((connections, producers, workers, total_connections), (0, 0, 0, 2));
    assert_eq!(owner.engine.session_count(), 0);
}

/// Sends the chunks over one connection, and gives all that comes back; a wait is over after a year.
fn converse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut owner = Owner::new();
    let mut session = owner.open();
    let mut now = Time(0);
    let mut out = Vec::new();
    for mut chunk in chunks {
        loop {
            let (taken, status) = session.receive(&mut owner.server(now), chunk, &mut out);
            chunk = &chunk[taken..];
            match status {
                Status::NeedMore => break,
                Status::Again => {}
                Status::Close => return text(&out),
                Status::Waiting => {
                    now = now.after(Duration::from_secs(365 * 86_400));
                    while !owner.engine.tick(now) {}
                    if owner.engine.stop_waiting(session.id()) {
                        session.deliver(Delivered::TimedOut, &mut out);
                    } else {
                        let Delivery { what, .. } = owner.engine.take_deliveries().next().expect("the wait is over");
                        session.deliver(what, &mut out);
                    }
                }
            }
        }
    }
    text(&out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_is_answered_alike_however_it_is_cut(bytes in stream()) {
        let whole = converse([&bytes[..]]);
        prop_assert_eq!(&converse(bytes.chunks(1)), &whole, "{}", bytes.escape_ascii());
        prop_assert_eq!(&converse(bytes.chunks(7)), &whole, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_look_at_a_job_is_a_look_at_this_moment() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    owner.ask(&mut session, b"put 0 0 30 1\r\na\r\nreserve\r\n");
    let mut out = Vec::new();
    // Nobody has told the engine the time since.
    let later = Time(0).after(Duration::from_millis(3_500));
    session.receive(&mut owner.server(later), b"stats-job 1\r\n", &mut out);
    let text = String::from_utf8(out).expect("statistics are text");
    assert!(text.contains("\nage: 3\n") && text.contains("\ntime-left: 26\n"), "{text}");
}
