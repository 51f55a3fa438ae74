//! Batches on the real server: they come whole through sockets, a consumer that waits gets what is ready, and a kill
//! leaves all of a batch of puts or none.

use std::collections::BTreeMap;
use std::thread;

use tempfile::TempDir;

use crate::process::{Rota, on, until};
use crate::wire::{Wire, batch_bytes, put_bytes};

const MODES: [&[&str]; 4] = [
    &["--storage", "memory"],
    &["--sync", "always"],
    &["--storage", "lazy", "--sync", "50ms"],
    &["--storage", "mapped", "--near", "1s", "--segment-size", "64KiB"],
];

/// A body of that length which is no other job's.
fn body(job: u64, bytes: usize) -> Vec<u8> {
    let mut body = format!("job {job} ").into_bytes();
    body.resize(bytes, b'a' + (job % 26) as u8);
    body
}

#[test]
fn batches_go_through_a_socket_in_every_mode() {
    for flags in MODES {
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(on(data.path(), flags));
        let mut wire = Wire::to(rota.address());
        let bytes = |job: u64| if job.is_multiple_of(10) { 9_000 } else { 20 + job as usize };
        // Some 300 KB: more than is read at once. What is sent behind is answered behind.
        let puts: Vec<Vec<u8>> = (1..=300).map(|job| put_bytes("put 0 0 60", &body(job, bytes(job)))).collect();
        wire.send([&batch_bytes(&puts), &b"list-tube-used\r\n"[..]].concat()).unwrap();
        let ids: String = (1..=300).map(|job| format!(" {job}")).collect();
        assert_eq!(wire.line().unwrap(), format!("BATCH_INSERTED 300{ids}"), "{flags:?}");
        assert_eq!(wire.line().unwrap(), "USING default");
        let mut next = 1;
        while next <= 300 {
            let jobs = wire.ask("reserve-batch 200 0").number(1);
            assert!((10..=200).contains(&jobs), "{jobs}");
            for job in next..next + jobs {
                let answer = wire.answer().unwrap();
                assert_eq!(answer.line, format!("RESERVED {job} {}", bytes(job)), "{flags:?}");
                assert!(answer.body == body(job, bytes(job)), "the body of {job} in {flags:?}");
            }
            next += jobs;
        }
        wire.expect("reserve-batch 200 0", "TIMED_OUT");
        wire.expect(&format!("delete-batch{ids} 7"), "BATCH_DELETED 300 NOT_FOUND 7");
        wire.send(b"put-batch 1 3000000\r\n").unwrap();
        wire.send(vec![b'x'; 3_000_000]).unwrap();
        assert_eq!(wire.line().unwrap(), "BATCH_TOO_BIG");
        wire.expect("list-tube-used", "USING default");
    }
}

#[test]
fn who_waits_for_a_batch_gets_all_that_is_ready_when_its_first_job_comes() {
    for flags in MODES {
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(on(data.path(), flags));
        let (mut producer, mut worker) = (Wire::to(rota.address()), Wire::to(rota.address()));
        worker.send("reserve-batch 50 60\r\nlist-tube-used\r\n").unwrap();
        until("the worker waits", || (producer.ask("stats").count("current-waiting") == 1).then_some(()));
        let puts: Vec<Vec<u8>> = (1..=40).map(|job| put_bytes("put 0 0 60", &body(job, 50))).collect();
        producer.send(batch_bytes(&puts)).unwrap();
        assert!(producer.line().unwrap().starts_with("BATCH_INSERTED 40 "));
        assert_eq!(worker.line().unwrap(), "BATCH_RESERVED 40", "{flags:?}");
        for job in 1..=40 {
            assert!(worker.answer().unwrap().body == body(job, 50), "the body of {job} in {flags:?}");
        }
        assert_eq!(worker.line().unwrap(), "USING default");
        // Who goes gives back all of it.
        drop(worker);
        until("they are ready again", || (producer.ask("stats").count("current-jobs-ready") == 40).then_some(()));
    }
}

/// How many jobs the batches have that a kill meets.
const JOBS: u64 = 30;

/// Puts batches until the server is gone; how many were answered.
fn put_until_killed(wire: &mut Wire, producer: u64) -> u64 {
    for number in 0.. {
        let job =
            |job: u64| put_bytes("put 0 0 60", format!("{producer} {number} {job} {}", "x".repeat(200)).as_bytes());
        let puts: Vec<Vec<u8>> = (0..JOBS).map(job).collect();
        let answer = wire.send(batch_bytes(&puts)).and_then(|()| wire.line());
        match answer {
            Ok(line) => assert!(line.starts_with(&format!("BATCH_INSERTED {JOBS} ")), "{line}"),
            Err(_) => return number,
        }
    }
    unreachable!("there is no end to the numbers")
}

#[test]
fn a_kill_leaves_all_of_a_batch_or_none() {
    for flags in &MODES[1..] {
        for round in 0..6 {
            let data = TempDir::new().unwrap();
            let mut rota = Rota::ready(on(data.path(), flags));
            let address = rota.address();
            let mut watcher = Wire::to(address);
            // Whoever gets to run late finds a connection all the same.
            let wires: Vec<(u64, Wire)> = (0..4).map(|producer| (producer, Wire::to(address))).collect();
            let answered: Vec<u64> = thread::scope(|scope| {
                let producers: Vec<_> = wires
                    .into_iter()
                    .map(|(producer, mut wire)| scope.spawn(move || put_until_killed(&mut wire, producer)))
                    .collect();
                until("some are put", || {
                    (watcher.ask("stats").count("total-jobs") > (1 + round) * 4 * JOBS).then_some(())
                });
                rota.kill();
                producers.into_iter().map(|producer| producer.join().expect("a producer ends")).collect()
            });
            let rota = Rota::ready(on(data.path(), flags));
            let mut wire = Wire::to(rota.address());
            let mut found: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            loop {
                let head = wire.ask("reserve-batch 1000 0").line;
                let Some(jobs) = head.strip_prefix("BATCH_RESERVED ") else {
                    break assert_eq!(head, "TIMED_OUT");
                };
                for _ in 0..jobs.parse::<u64>().expect("it is a number") {
                    let body = String::from_utf8(wire.answer().unwrap().body).expect("it was put as text");
                    let mut words = body.split(' ').map(|word| word.parse::<u64>());
                    let mut word = || words.next().expect("it has three numbers").expect("it is a number");
                    *found.entry((word(), word())).or_default() += 1;
                }
            }
            for (batch, jobs) in &found {
                assert_eq!(*jobs, JOBS, "{batch:?} is there in part, with {flags:?}");
            }
            for (producer, answered) in (0..).zip(answered) {
                let there = found.range((producer, 0)..(producer + 1, 0)).count() as u64;
                assert!((answered..=answered + 1).contains(&there), "{there} batches of {answered}, with {flags:?}");
            }
        }
    }
}
