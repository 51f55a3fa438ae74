//! The answers' grammar at every cut, the delay range, and what is done about a server that answers wrongly.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;

use super::driver::{Stage, Target};
use super::frames::{self, Found};
use super::group::Group;
use super::task::{Cycle, Moment, Put, Shared, Take, Taken, Tally, Task, Verb};
use super::*;

#[test]
fn answers_are_found_whole_and_only_then() {
    let inserted = b"INSERTED 1234\r\n";
    let reserved = b"RESERVED 12 3\r\nabc\r\n";
    for cut in 0..inserted.len() {
        assert_eq!(frames::inserted(&inserted[..cut]), Found::Part, "{cut}");
    }
    for cut in 0..reserved.len() {
        assert_eq!(frames::reserved(&reserved[..cut], 3), Found::Part, "{cut}");
    }
    assert_eq!(frames::inserted(b"INSERTED 1234\r\nINSERTED 5"), Found::Answer(1234, 15));
    assert_eq!(frames::reserved(reserved, 3), Found::Answer((12, 15), 20));
    assert_eq!(frames::reserved(b"RESERVED 12 0\r\n\r\n", 0), Found::Answer((12, 15), 17));
}

#[test]
fn other_answers_are_refused() {
    for answer in
        ["BURIED 1\r\n", "INSERTED \r\n", "INSERTED x\r\n", "INSERTED 1\n", "INSERTED 99999999999999999999\r\n"]
    {
        assert_eq!(frames::inserted(answer.as_bytes()), Found::Other, "{answer:?}");
    }
    for answer in
        ["TIMED_OUT\r\n", "RESERVED 1 4\r\nabcd\r\n", "RESERVED 1 3\r\nabcde", "RESERVED 1\r\n", "RESERVED 1 3 \r\n"]
    {
        assert_eq!(frames::reserved(answer.as_bytes(), 3), Found::Other, "{answer:?}");
    }
}

#[test]
fn batches_are_written_and_read_as_the_protocol_says() {
    let batch = Group::Batch(2);
    let mut out = Vec::new();
    batch.push_puts(&mut out, 3, |out| frames::push_put(out, b"x"));
    batch.push_reserves(&mut out, 3);
    batch.push_deletes(&mut out, &[7, 8, 9]);
    let put = "put 1024 0 86400 1\r\nx\r\n";
    let (two, one) = (2 * put.len(), put.len());
    let expected = format!(
        "put-batch 2 {two}\r\n{put}{put}put-batch 1 {one}\r\n{put}reserve-batch 2 2147483647\r\nreserve-batch 1 \
         2147483647\r\ndelete-batch 7 8\r\ndelete-batch 9\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&out), expected);
    assert_eq!(batch.commands(3), 2);

    let inserted = b"BATCH_INSERTED 2 12 345\r\n";
    let mut ids = vec![1];
    for cut in 0..inserted.len() {
        assert_eq!(batch.inserted(&inserted[..cut], 3, &mut ids), Found::Part, "{cut}");
        assert_eq!(ids, [1], "{cut}");
    }
    assert_eq!(batch.inserted(inserted, 3, &mut ids), Found::Answer(2, inserted.len()));
    assert_eq!(ids, [1, 12, 345]);
    for (left, wrong) in
        [(1, "BATCH_INSERTED 2 1 2\r\n"), (2, "BATCH_INSERTED 1 1 JOB_TOO_BIG\r\n"), (2, "INSERTED 1\r\n")]
    {
        assert_eq!(batch.inserted(wrong.as_bytes(), left, &mut ids), Found::Other, "{wrong}");
    }
    assert_eq!(batch.deleted(b"BATCH_DELETED 2\r\nB", 5), Found::Answer(2, 17));
    assert_eq!(batch.deleted(b"BATCH_DELETED 1\r\n", 5), Found::Other);
    assert_eq!(batch.deleted(b"BATCH_DELETED 1 NOT_FOUND 3\r\n", 2), Found::Other);
    assert_eq!(batch.reserved(b"BATCH_RESERVED 1\r\nRES", 2), Found::Answer(1, 18));
    for wrong in ["BATCH_RESERVED 0\r\n", "BATCH_RESERVED 3\r\n", "TIMED_OUT\r\n"] {
        assert_eq!(batch.reserved(wrong.as_bytes(), 2), Found::Other, "{wrong}");
    }
}

#[test]
fn delay_ranges() {
    let range = |from_ms, to_ms| Ok(DelayRange { from_ms, to_ms });
    assert_eq!(parse_delay_range("1s..5s"), range(1_000, 5_000));
    assert_eq!(parse_delay_range("250ms..=1m"), range(250, 60_000));
    assert_eq!(parse_delay_range("1s..1s"), range(1_000, 1_000));
    assert!(range(1_000, 5_000).is_ok_and(DelayRange::is_whole_seconds));
    assert!(!range(1_000, 5_500).is_ok_and(DelayRange::is_whole_seconds));
    for text in ["", "1s", "5s..1s", "1s..", "1..5", "1us..1s", "1s..2000d"] {
        assert!(parse_delay_range(text).is_err(), "{text:?}");
    }
}

/// Runs a stage of four puts, two at a time, on a server that answers the first batch with `answers` and closes.
fn puts_answered_with(answers: &'static [u8]) -> BenchError {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    let server = listener.local_addr().unwrap().to_string().parse().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut greeting = [0; b"use q\r\nwatch q\r\nignore default\r\n".len()];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(b"USING q\r\nWATCHING 2\r\nWATCHING 1\r\n").unwrap();
        let mut frame = Vec::new();
        frames::push_put(&mut frame, b"x");
        let mut batch = vec![0; 2 * frame.len()];
        stream.read_exact(&mut batch).unwrap();
        stream.write_all(answers).unwrap();
    });
    let mut batch = Vec::new();
    (0..2).for_each(|_| frames::push_put(&mut batch, b"x"));
    let stage = Stage {
        target: &Target { server: &server, tls: None, token: None },
        queue: &"q".parse().unwrap(),
        tasks: vec![Task::Put(Put {
            frames: Arc::from(batch),
            depth: 2,
            group: Group::One,
            body: Arc::from(*b"x"),
            left: 0,
            ids: Vec::new(),
        })],
        threads: 1,
        size: 1,
        pace: None,
        longest_delay: Duration::ZERO,
        bar: &ProgressBar::hidden(),
    };
    let error = driver::run(stage, || Shared::new(4, Duration::from_secs(3_600), 0)).err();
    thread.join().unwrap();
    error.expect("the server is wrong")
}

#[test]
fn a_server_that_answers_wrongly_ends_the_run() {
    let cases: [(&[u8], &str); 4] = [
        (b"INSERTED 1\r\nBURIED 2\r\n", "the server answered put with \"BURIED 2\""),
        (b"INSERTED 1\r\nOUT_OF_MEMORY\r\n", "the server answered put with \"OUT_OF_MEMORY\""),
        (b"INSERTED 1\r\nINSERTED 2\r\nINSERTED 3\r\n", "the server answered put with \"INSERTED 3\\r\\n\""),
        (b"INSERTED 1\r\n", "the server closed a connection while 1 answers to put were awaited"),
    ];
    for (answers, expected) in cases {
        let error = puts_answered_with(answers).to_string();
        assert_eq!(error, expected);
    }
}

/// Gives one answer to a task that awaits a reserve of a body of 24 bytes.
fn reserved_by(mut task: Task, body: &[u8; 24], tally: &mut Tally) -> Result<Taken, BenchError> {
    let shared = Shared::new(1, Duration::from_secs(3_600), 1);
    let moment = Moment { written: shared.start, read: shared.start + Duration::from_secs(5) };
    let answer = [b"RESERVED 9 24\r\n", body.as_slice(), b"\r\n"].concat();
    task.answers(&answer, 1, moment, &shared, tally)
}

fn cycle(verb: Verb) -> Task {
    let body: Arc<[u8]> = frames::pattern(24).into();
    let none: Arc<[u8]> = Arc::from([]);
    Task::Cycle(Cycle {
        puts: Arc::clone(&none),
        reserves: none,
        depth: 1,
        group: Group::One,
        body,
        left: 1,
        in_answer: 0,
        verb,
        batch: Vec::new(),
        put_ids: Vec::new(),
        reserved_ids: Vec::new(),
    })
}

fn take() -> Task {
    let (group, body, ids) = (Group::One, frames::pattern(24).into(), Vec::new());
    Task::Take(Take { group, body, ids, fresh: 0, deleting: 0, in_answer: 0 })
}

#[test]
fn a_body_that_was_not_put_is_an_error() {
    let good = b"abcdefghijklmnopqrstuvwx";
    let stamped = b"00000000002000000000uvwx";
    let mut tally = Tally::new();
    assert_eq!(reserved_by(cycle(Verb::Reserve), good, &mut tally).unwrap().answers, 1);
    assert_eq!(reserved_by(take(), stamped, &mut tally).unwrap().answers, 1);
    let wrong = [
        reserved_by(cycle(Verb::Reserve), b"abcdefghijklmnopqrstuvw!", &mut tally),
        reserved_by(take(), good, &mut tally),
        reserved_by(take(), b"00000000002000000000uvw!", &mut tally),
    ];
    for outcome in wrong {
        let error = outcome.expect_err("the body is wrong").to_string();
        assert_eq!(error, "job 9 came back with another body than was put");
    }
}

#[test]
fn lateness_is_told_from_the_stamp() {
    let mut tally = Tally::new();
    // The answer is read five seconds after the start; these jobs were due after two and after six.
    reserved_by(take(), b"00000000002000000000uvwx", &mut tally).unwrap();
    reserved_by(take(), b"00000000006000000000uvwx", &mut tally).unwrap();
    assert_eq!((tally.lateness.len(), tally.early), (1, 1));
    let late = Duration::from_nanos(tally.lateness.max());
    assert!(late.abs_diff(Duration::from_secs(3)) < Duration::from_millis(10), "{late:?}");
}
