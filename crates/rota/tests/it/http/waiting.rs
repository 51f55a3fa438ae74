//! Long polls: who waits gets the job, and who is gone before gets none.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use super::client::{Answer, Http};
use super::{end, put, reserve, server};
use crate::process::until;
use crate::wire::Wire;

/// Begins to wait for jobs of a queue.
fn wait_for(http: &Http, body: &Value) -> TcpStream {
    let mut stream = http.connect();
    let request = http.bytes("POST /v1/leases", "content-type: application/json\r\n", &body.to_string());
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn until_waiting(http: &Http, waiting: u64) {
    until("so many wait", || (http.get("/v1/stats").expect(200)["waiting"] == waiting).then_some(()));
}

fn leases(stream: &mut TcpStream) -> Vec<Value> {
    Answer::read(stream).expect(200)["leases"].as_array().unwrap().clone()
}

#[test]
fn who_waits_longest_gets_the_next_job() {
    let (_data, _rota, http) = server(&[]);
    let mut first = wait_for(&http, &json!({ "queues": ["a", "work"], "wait": "10m" }));
    until_waiting(&http, 1);
    let mut second = wait_for(&http, &json!({ "queues": ["work"], "wait": "10m", "count": 5 }));
    until_waiting(&http, 2);
    let jobs = [put(&http, "one"), put(&http, "two")];
    for (stream, (id, text)) in [&mut first, &mut second].into_iter().zip([(&jobs[0], "one"), (&jobs[1], "two")]) {
        let leases = leases(stream);
        assert_eq!(leases.len(), 1);
        assert_eq!((&leases[0]["job"]["id"], &leases[0]["job"]["text"]), (&json!(id), &json!(text)));
        end(&http, &leases[0], "complete").expect(200);
    }
}

#[test]
fn a_wait_without_a_job_ends_in_time_with_none() {
    let (_data, _rota, http) = server(&[]);
    for wait in ["0s", "1ms", "30ms"] {
        let leases = http.post("/v1/leases", &json!({ "queues": ["work"], "wait": wait })).expect(200);
        assert_eq!(leases, json!({ "leases": [] }));
    }
    let delayed = json!({ "queue": "work", "text": "", "delay": "50ms" });
    http.post("/v1/jobs", &delayed).expect(201);
    let mut stream = wait_for(&http, &json!({ "queues": ["work"], "wait": "10m" }));
    assert_eq!(leases(&mut stream).len(), 1, "it became due");
}

#[test]
fn who_went_away_while_waiting_gets_no_job() {
    let (_data, _rota, http) = server(&[]);
    for (round, how) in [None, Some(Shutdown::Write), Some(Shutdown::Both)].into_iter().cycle().take(9).enumerate() {
        let stream = wait_for(&http, &json!({ "queues": ["work"], "wait": "10m" }));
        until_waiting(&http, 1);
        match how {
            None => drop(stream),
            Some(how) => stream.shutdown(how).unwrap(),
        }
        until_waiting(&http, 0);
        let id = put(&http, "x");
        let lease = reserve(&http);
        assert_eq!((&lease["job"]["id"], &lease["job"]["reserves"]), (&json!(id), &json!(1)), "round {round}");
        end(&http, &lease, "complete").expect(200);
    }
}

/// More than the kernel takes of an answer that nobody reads.
const LARGE: usize = 24 << 20;

#[test]
fn what_was_reserved_and_could_not_be_sent_is_ready_at_once() {
    let (_data, _rota, http) = server(&["--max-job-size", "32MiB", "--sync", "never"]);
    let job = json!({ "queue": "work", "text": "x".repeat(LARGE), "ttr": "10h" });
    http.post("/v1/jobs", &job).expect(201);
    let state = || http.get("/v1/jobs/1?body=none").expect(200)["state"].as_str().unwrap().to_owned();
    for wait in ["0s", "10m"] {
        let stream = wait_for(&http, &json!({ "queues": ["work"], "wait": wait }));
        until("it is reserved", || (state() == "reserved").then_some(()));
        drop(stream);
        until("it is ready again", || (state() == "ready").then_some(()));
    }
    let seen = http.get("/v1/jobs/1?body=none").expect(200);
    assert_eq!((&seen["reserves"], &seen["lost_leases"], &seen["releases"]), (&json!(2), &json!(0), &json!(0)));
    let lease = reserve(&http);
    assert_eq!(lease["job"]["text"].as_str().unwrap().len(), LARGE);
    end(&http, &lease, "complete").expect(200);
}

#[test]
fn a_stop_answers_who_waits() {
    let (_data, mut rota, http) = server(&[]);
    let mut streams: Vec<_> = (0..20).map(|_| wait_for(&http, &json!({ "queues": ["work"], "wait": "10m" }))).collect();
    until_waiting(&http, 20);
    assert!(rota.terminate().success());
    for stream in &mut streams {
        assert_eq!(leases(stream), Vec::<Value>::new());
    }
}

#[test]
fn a_job_that_is_called_off_on_its_way_is_not_handed_out() {
    let (_data, rota, http) = server(&[]);
    let mut wire = Wire::to(rota.address());
    wire.expect("use work", "USING work");
    for round in 0..30 {
        let mut stream = wait_for(&http, &json!({ "queues": ["work"], "wait": "10m" }));
        until_waiting(&http, 1);
        // In one piece, so that whoever waits comes to look for its job when that is called off.
        wire.send("put-in 0 0 60000 1 k\r\nx\r\ncancel-key work k\r\n").unwrap();
        assert_eq!(
            [wire.line().unwrap(), wire.line().unwrap()],
            [format!("INSERTED {}", 2 * round + 1), format!("CANCELLED {}", 2 * round + 1)]
        );
        // It waits on, for the next one.
        let next = put(&http, "x");
        let leases = leases(&mut stream);
        assert_eq!((leases.len(), &leases[0]["job"]["id"]), (1, &json!(next)));
        end(&http, &leases[0], "complete").expect(200);
    }
    let stats = http.get("/v1/stats").expect(200);
    assert_eq!((&stats["totals"]["cancelled"], &stats["jobs"]["reserved"]), (&json!(30), &json!(0)));
}

#[test]
fn a_job_that_is_called_off_after_it_was_handed_out_is_not_completed() {
    let (_data, _rota, http) = server(&[]);
    for _ in 0..30 {
        let mut stream = wait_for(&http, &json!({ "queues": ["work"], "wait": "10m" }));
        until_waiting(&http, 1);
        let id = put(&http, "x");
        let leases = leases(&mut stream);
        http.delete(&format!("/v1/jobs/{id}")).expect(200);
        assert_eq!((leases.len(), &leases[0]["job"]["id"]), (1, &json!(id)));
        assert_eq!(end(&http, &leases[0], "complete").problem(409, "lease-outdated")["reason"], "cancelled");
    }
    let stats = http.get("/v1/stats").expect(200);
    assert_eq!((&stats["totals"]["cancelled"], &stats["totals"]["completed"]), (&json!(30), &json!(0)));
    assert_eq!(stats["jobs"]["reserved"], 0);
}
