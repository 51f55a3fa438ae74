//! A session on an engine: its bounds, and what the page's conversations are too small to show.

use crate::parser::stream;
use proptest::prelude::*;
use rota_engine::command::{Delivered, Delivery};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_engine::log::Group;
use rota_engine::testing::storage::SimulatedDisk;
use rota_net::beanstalkd::{Counters, Facts, LogFacts, OUTPUT_BYTES, ProcessorTime, Server, Session, Status, Verb};
use std::time::Duration;

/// An engine, and what goes with it.
struct Owner {
    engine: Engine,
    counters: Counters,
    facts: Facts,
}

/// What a server of these tests tells of itself.
pub(crate) fn facts() -> Facts {
    Facts {
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
    }
}

impl Owner {
    fn new() -> Owner {
        let engine = Engine::in_memory(Options::default(), Time(0), Time(0));
        Owner { engine, counters: Counters::default(), facts: facts() }
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

/// A batch of so many puts, all alike.
fn batch_of_puts(count: usize, put: &[u8]) -> Vec<u8> {
    [format!("put-batch {count} {}\r\n", count * put.len()).as_bytes(), &put.repeat(count)].concat()
}

#[test]
fn a_batch_names_all_its_jobs_and_no_more() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    let (answers, _) = owner.ask(&mut session, &batch_of_puts(1000, b"put 0 0 60 1\r\nx\r\n"));
    let ids: String = (1..=1000).map(|id| format!(" {id}")).collect();
    assert_eq!(text(&answers), format!("BATCH_INSERTED 1000{ids}\r\n"));
    let (answers, _) = owner.ask(&mut session, b"reserve-batch 1000 0\r\nreserve-batch 1000 0\r\n");
    let jobs: String = (1..=1000).map(|id| format!("RESERVED {id} 1\r\nx\r\n")).collect();
    assert_eq!(text(&answers), format!("BATCH_RESERVED 1000\r\n{jobs}TIMED_OUT\r\n"));
    let (answers, _) = owner.ask(&mut session, format!("delete-batch 1001{ids}\r\n").as_bytes());
    assert_eq!(text(&answers), "BAD_FORMAT 1001\r\n");
    let (answers, _) = owner.ask(&mut session, format!("delete-batch{ids}\r\ndelete-batch{ids}\r\n").as_bytes());
    assert_eq!(text(&answers), format!("BATCH_DELETED 1000\r\nBATCH_DELETED 0 NOT_FOUND{ids}\r\n"));
    let commands = [Verb::Put, Verb::Reserve, Verb::ReserveWithTimeout, Verb::Delete];
    assert_eq!(commands.map(|verb| owner.counters.commands(verb)), [1000, 0, 2, 2000]);
}

#[test]
fn a_batch_of_large_jobs_is_cut_short() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    let put = [&b"put 0 0 60 60000\r\n"[..], &[b'x'; 60_000], b"\r\n"].concat();
    for _ in 0..2 {
        let (answers, _) = owner.ask(&mut session, &batch_of_puts(10, &put));
        assert!(answers.starts_with(b"BATCH_INSERTED 10 "));
    }
    let mut taken = Vec::new();
    for _ in 0..4 {
        let (answers, _) = owner.ask(&mut session, b"reserve-batch 1000 0\r\n");
        let head = answers.split(|&byte| byte == b'\r').next().expect("there is a line");
        taken.push(text(head));
    }
    // Once an answer is 256 KiB long it takes no more.
    assert_eq!(taken, ["BATCH_RESERVED 5"; 4]);
}

#[test]
fn batches_let_others_have_a_turn() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    let puts = batch_of_puts(500, b"put 0 0 60 0\r\n\r\n");
    let (_, calls) = owner.ask(&mut session, &puts.repeat(8));
    assert_eq!(calls, 5, "no step handles much more than 1,000 jobs");
    let (answers, calls) = owner.ask(&mut session, &b"reserve-batch 500 0\r\n".repeat(8));
    assert_eq!((calls, text(&answers).matches("BATCH_RESERVED 500\r\n").count()), (5, 8));
}

#[test]
fn a_batch_of_puts_is_one_group_of_the_log_and_nothing_before_it_is_whole() {
    let disk = SimulatedDisk::new();
    let recovered = Engine::recover(Options::default(), disk.clone(), [7; 16], Time(0));
    let (engine, mut writer, _) = recovered.expect("the disk is well");
    let mut owner = Owner { engine, ..Owner::new() };
    let mut session = owner.open();
    let mut group = Group::default();
    assert!(owner.engine.take_records(&mut group), "a start is written down");
    writer.write(&mut group).expect("the disk is well");
    let before = writer.stats();
    let puts = batch_of_puts(700, b"put-in 0 0 60 2\r\nab\r\n");
    let (head, last) = puts.split_at(puts.len() - 1);
    for piece in head.chunks(4096) {
        let (answers, _) = owner.ask(&mut session, piece);
        assert!(answers.is_empty() && !owner.engine.take_records(&mut group), "it is not whole yet");
    }
    let (answers, calls) = owner.ask(&mut session, last);
    assert!(answers.starts_with(b"BATCH_INSERTED 700 1 2 ") && calls <= 2);
    assert!(owner.engine.take_records(&mut group));
    writer.write(&mut group).expect("the disk is well");
    let after = writer.stats();
    assert_eq!(after.groups_written - before.groups_written, 1);
    assert_eq!(after.records_written - before.records_written, 700);
}

#[test]
fn a_batch_that_waited_takes_what_is_ready_when_its_first_job_comes() {
    let mut owner = Owner::new();
    let (mut worker, mut producer) = (owner.open(), owner.open());
    let mut out = Vec::new();
    let (_, status) = worker.receive(&mut owner.server(Time(0)), b"reserve-batch 3 60\r\n", &mut out);
    assert_eq!(status, Status::Waiting);
    owner.ask(&mut producer, &b"put 0 0 60 1\r\nx\r\n".repeat(2));
    let [Delivery { what, .. }] = &owner.engine.take_deliveries().collect::<Vec<_>>()[..] else {
        panic!("one wait has one end");
    };
    worker.deliver(what.clone(), &mut out);
    assert!(out.is_empty() && worker.is_under_way(), "the others are not known yet");
    // What was delivered is the worker's, even if it is called off before the rest is taken.
    owner.ask(&mut producer, b"cancel 1\r\nput 0 0 60 1\r\ny\r\nput 0 0 60 1\r\nz\r\n");
    let (_, status) = worker.receive(&mut owner.server(Time(0)), b"", &mut out);
    assert_eq!((status, worker.is_under_way()), (Status::NeedMore, false));
    let expected = "BATCH_RESERVED 3\r\nRESERVED 1 1\r\nx\r\nRESERVED 2 1\r\nx\r\nRESERVED 3 1\r\ny\r\n";
    assert_eq!(text(&out), expected);
    worker.close(&mut owner.server(Time(0)));
    let (answers, _) = owner.ask(&mut producer, b"reserve-batch 9 0\r\n");
    assert!(text(&answers).starts_with("BATCH_RESERVED 3\r\nRESERVED 2 1\r\n"), "{}", text(&answers));
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

/// Beside so many jobs that what commands name is read ahead of them, whatever they look like.
#[test]
fn deletes_among_many_jobs_are_answered_as_among_few() {
    let mut owner = Owner::new();
    let mut session = owner.open();
    let mut fill = 0;
    while !owner.engine.is_touch_worth_it() {
        fill += 1;
        owner.ask(&mut session, &batch_of_puts(1000, b"put 0 3600 60 1\r\nx\r\n"));
    }
    let next = fill * 1000 + 1;
    // Bodies and refused lines that look like deletes, jobs that are none, the same one twice, more than are read together.
    let mut input = b"delete 700\r\ndelete 700\r\nput 0 0 60 10\r\ndelete 701\r\n".to_vec();
    input.extend_from_slice(b"delete 0\r\ndelete 99999999999\r\ncancel 702\r\ndelete x\r\ndelete 703\r\n");
    let many: Vec<u64> = (0..200).map(|n| 1 + n * 7_919 % 600).collect();
    many.iter().for_each(|id| input.extend_from_slice(format!("delete {id}\r\n").as_bytes()));
    input.extend_from_slice(format!("peek 701\r\ndelete {next}\r\ndelete-batch").as_bytes());
    (801..=900).for_each(|id| input.extend_from_slice(format!(" {id}").as_bytes()));
    input.extend_from_slice(b" 700\r\n");
    let expected = [
        &format!("DELETED\r\nNOT_FOUND\r\nINSERTED {next}\r\nNOT_FOUND\r\nNOT_FOUND\r\n")[..],
        "CANCELLED\r\nBAD_FORMAT\r\nDELETED\r\n",
        &"DELETED\r\n".repeat(many.len()),
        "FOUND 701 1\r\nx\r\nDELETED\r\nBATCH_DELETED 100 NOT_FOUND 700\r\n",
    ];
    let (answers, _) = owner.ask(&mut session, &input);
    assert_eq!(text(&answers), expected.concat());
    owner.engine.check();
}
