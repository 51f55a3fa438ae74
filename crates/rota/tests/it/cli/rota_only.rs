//! What only Rota has: keys, milliseconds, a cancel of what is held, jobs that outlive the process.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{ROTA, put, rota};
use crate::server::Server;

#[test]
fn a_key_is_unique_until_its_job_is_done() {
    let server = Server::rota(&[]);
    let id = put(&server, &["q", "first", "--key", "order:7", "--delay", "1h"]);
    rota(&server, &["put", "q", "second", "--key", "order:7"]).expect(
        1,
        "",
        &format!(
            "error: the key order:7 is taken in queue q: job {id} has it\n  \
             hint: cancel it with `rota cancel {id}`, or use another key\n"
        ),
    );
    let run = rota(&server, &["put", "q", "second", "--key", "order:7", "--json"]);
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((run.code, error["id"].to_string()), (1, id.clone()));
    put(&server, &["other", "x", "--key", "order:7"]);

    rota(&server, &["cancel", "--queue", "q", "--key", "order:7"]).expect(0, &format!("cancelled {id}\n"), "");
    rota(&server, &["cancel", "--queue", "q", "--key", "order:7"]).expect(
        3,
        "",
        "error: no open job of queue q has the key order:7\n",
    );
    let id: u64 = put(&server, &["q", "third", "--key", "order:7"]).parse().unwrap();
    let object = rota(&server, &["cancel", "--queue", "q", "--key", "order:7", "--json"]).object();
    assert_eq!(object, json!({ "id": id, "queue": "q", "key": "order:7", "outcome": "cancelled" }));
}

#[test]
fn every_mix_of_the_benchmark_comes_out_even_in_batches() {
    let server = Server::rota(&[]);
    let mixes = [
        ("put", [500, 0, 0]),
        ("cycle", [500; 3]),
        ("delayed --delay-range 0s..1s", [500, 0, 500]),
        ("cancel", [500, 0, 500]),
    ];
    for (mix, counts) in mixes {
        // The large ones are more than one answer takes.
        for load in ["-c 1 --batch 1", "-c 7 --depth 3 --batch 16", "-c 2 --batch 100 --size 9KiB"] {
            let line = format!("bench --json --jobs 500 --threads 2 --mix {mix} {load}");
            let arguments: Vec<&str> = line.split(' ').collect();
            let report = rota(&server, &arguments).object();
            let round = &report["rounds"][0];
            assert_eq!((&round["operations"], &round["stopped_by_time"]), (&json!(500), &json!(false)), "{line}");
            let count = |verb| round["verbs"][verb]["count"].as_u64().unwrap_or(0);
            assert_eq!(["put", "reserve", "delete"].map(count), counts, "{line}");
        }
    }
    assert_eq!(rota(&server, &["list", "--json"]).objects().len(), 1);
    let run = rota(&server, &["bench", "--batch", "100", "--size", "20KiB"]);
    let answer = "error: the server answered put with \"BATCH_TOO_BIG\"\n  hint: lower --size or --batch\n";
    run.expect(1, "", answer);
    let out = rota(&server, &["bench", "--jobs", "10", "--batch", "5", "-c", "1"]).good();
    assert!(out.starts_with("put: 1 connection, depth 1, batches of 5, 64-byte bodies, "), "{out}");
}

#[test]
fn milliseconds_are_kept() {
    let server = Server::rota(&[]);
    put(&server, &["q", "x", "--delay", "1ms", "--ttr", "90500ms"]);
    rota(&server, &["next", "q", "--wait", "20s"]).expect(0, "x", "");
    let flags = ["bench", "--mix", "delayed", "--delay-range", "1ms..99ms", "--jobs", "300", "--json"];
    let report = rota(&server, &flags).object();
    let round = &report["rounds"][0];
    assert_eq!((&round["operations"], &round["early"]), (&json!(300), &json!(0)));
}

#[test]
fn a_job_is_cancelled_while_a_command_has_it() {
    let server = Server::rota(&[]);
    let id = put(&server, &["q", "x"]);
    let script = format!("{ROTA} cancel $ROTA_JOB_ID");
    rota(&server, &["next", "q", "--exec", "sh", "-c", &script]).expect(
        1,
        &format!("cancelled {id}\n"),
        &format!(
            "error: the lease of job {id} in queue q was lost before the job was completed\n  \
             hint: it was cancelled, or its TTR ended and it may run again: put such jobs with a longer --ttr\n"
        ),
    );
}

#[test]
fn jobs_outlive_the_process() {
    let server = Server::rota(&[]);
    let id = put(&server, &["q", "still here"]);
    let server = server.restart_rota(&[]);
    rota(&server, &["next", "q", "--json"]).expect(
        0,
        &format!("{{\"id\":{id},\"queue\":\"q\",\"body\":\"still here\"}}\n"),
        "",
    );
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut server = Server::rota(&["--http", "127.0.0.1:0"]);
    let mut stream = TcpStream::connect(server.http().expect("HTTP is on")).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.terminate().code(), Some(0), "{}", server.stderr());
}
