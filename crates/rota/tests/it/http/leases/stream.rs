//! Jobs as a stream: how many at a time, what is told of their leases, and what becomes of jobs whose reader is slow, gone,
//! or may not take jobs any more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::Finish;
use crate::http::client::Http;
use crate::http::events::stream::{Said, Stream};
use crate::http::{end, put, reserve, server, start};
use crate::process::{until, with_time};

/// Sends the request for a stream, and reads nothing.
fn ask(http: &Http, wish: &Value) -> TcpStream {
    let mut stream = http.connect();
    let request = http.bytes("POST /v1/leases/stream", "content-type: application/json\r\n", &wish.to_string());
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// A stream that has begun.
#[track_caller]
pub(in crate::http) fn take(http: &Http, wish: &Value) -> Stream {
    let mut stream = Stream::of(ask(http, wish)).unwrap();
    let open = stream.event();
    let max = wish.get("max").cloned().unwrap_or(json!(1));
    assert_eq!((open.event.as_str(), &open.data), ("open", &json!({ "kind": "open", "max": max })));
    stream
}

/// The job that is told of next.
#[track_caller]
pub(in crate::http) fn lease(stream: &mut Stream) -> Value {
    let said = stream.event();
    assert_eq!((said.event.as_str(), &said.data["kind"]), ("lease", &json!("lease")), "{said:?}");
    said.data
}

/// That this lease is what is told to have ended next.
#[track_caller]
fn ended(stream: &mut Stream, lease: &Value, reason: &str) {
    let said: Said = stream.event();
    let ran_out = reason == "lost";
    let expected = json!({ "kind": "ended", "lease": lease["lease"], "ran_out": ran_out, "reason": reason });
    assert_eq!((said.event.as_str(), said.data), ("ended", expected));
}

fn state(http: &Http, id: &str) -> String {
    http.get(&format!("/v1/jobs/{id}?body=none")).expect(200)["state"].as_str().unwrap().to_owned()
}

fn held(http: &Http) -> Value {
    http.get("/v1/stats").expect(200)["jobs"]["reserved"].clone()
}

pub(in crate::http) fn until_waiting(http: &Http, waiting: u64) {
    until("so many wait", || (http.get("/v1/stats").expect(200)["waiting"] == waiting).then_some(()));
}

fn until_streams(http: &Http, streams: u64) {
    let line = format!("rota_lease_streams {streams}\n");
    until("there are so many streams", || http.get("/metrics").body.contains(&line).then_some(()));
}

#[test]
fn the_next_job_comes_when_a_lease_ends_whoever_ends_it() {
    let (_data, _rota, http) = server(&[]);
    let ids: Vec<String> = (0..8).map(|n| put(&http, &format!("job {n}"))).collect();
    let mut stream = take(&http, &json!({ "queues": ["other", "work"], "max": 2 }));
    let mut leases = vec![lease(&mut stream), lease(&mut stream)];
    assert_eq!((&leases[0]["job"]["id"], &leases[0]["job"]["text"]), (&json!(ids[0]), &json!("job 0")));
    assert_eq!((&leases[1]["job"]["id"], &leases[1]["ends_at"]), (&json!(ids[1]), &leases[1]["job"]["lease_ends_at"]));
    let verb = |lease: &Value, verb: &str, body: Value| {
        http.post(&format!("/v1/leases/{}/{verb}", lease["lease"].as_str().unwrap()), &body).expect(200)
    };
    let ends: [(&str, Finish<'_>); 6] = [
        ("completed", &|lease| drop(verb(lease, "complete", json!({})))),
        ("released", &|lease| drop(verb(lease, "fail", json!({ "delay": "1h" })))),
        ("released", &|lease| drop(verb(lease, "release", json!({ "delay": "1h" })))),
        ("buried", &|lease| drop(verb(lease, "bury", json!({})))),
        ("cancelled", &|lease| {
            drop(http.delete(&format!("/v1/jobs/{}", lease["job"]["id"].as_str().unwrap())).expect(200))
        }),
        ("cancelled", &|lease| {
            drop(http.post("/v1/jobs/cancel", &json!({ "q": format!("id:{}", lease["job"]["id"].as_str().unwrap()) })))
        }),
    ];
    for (number, (reason, finish)) in ends.into_iter().enumerate() {
        assert_eq!(held(&http), 2, "no more at a time, and no less");
        let first = leases.remove(0);
        // A touch makes no room.
        verb(&leases[0], "touch", json!({ "progress": "half" }));
        finish(&first);
        ended(&mut stream, &first, reason);
        leases.push(lease(&mut stream));
        assert_eq!(leases[1]["job"]["id"], json!(ids[number + 2]));
        assert_eq!(end(&http, &first, "complete").problem(409, "lease-outdated")["reason"], reason);
    }
    for lease in &leases {
        end(&http, lease, "complete").expect(200);
        ended(&mut stream, lease, "completed");
    }
    assert_eq!(held(&http), 0);
    // It waits in line, and gets what comes; who came before it goes before it.
    let mut second = take(&http, &json!({ "queues": ["work"] }));
    until_waiting(&http, 2);
    let [one, two] = ["one", "two"].map(|text| put(&http, text));
    assert_eq!(lease(&mut stream)["job"]["id"], json!(one));
    assert_eq!(lease(&mut second)["job"]["id"], json!(two));
}

#[test]
fn leases_that_run_out_make_room_until_the_client_is_taken_for_gone() {
    let (_data, _rota, http) = server(&[]);
    let job = json!({ "queue": "work", "text": "x", "ttr": "1s", "max_lost_leases": 0 });
    let id = http.post("/v1/jobs", &job).expect(201)["id"].as_str().unwrap().to_owned();
    let mut stream = take(&http, &json!({ "queues": ["work"] }));
    for lost in 0..3 {
        let lease = lease(&mut stream);
        assert_eq!((&lease["job"]["id"], &lease["job"]["lost_leases"]), (&json!(id), &json!(lost)));
        ended(&mut stream, &lease, "lost");
    }
    let last = stream.event();
    assert_eq!((last.event.as_str(), &last.data["reason"]), ("end", &json!("unheard")), "{last:?}");
    assert!(last.data["detail"].as_str().unwrap().starts_with("3 leases in a row ran out"), "{last:?}");
    assert!(stream.ended());
    assert_eq!(state(&http, &id), "ready");
    until_streams(&http, 0);
}

#[test]
fn who_ends_one_in_between_is_there() {
    let (_data, _rota, http) = server(&[]);
    let mut stream = take(&http, &json!({ "queues": ["work"] }));
    for round in 0..2 {
        let short = json!({ "queue": "work", "text": "x", "ttr": "1s", "max_lost_leases": 1 });
        for _ in 0..2 {
            http.post("/v1/jobs", &short).expect(201);
            let lease = lease(&mut stream);
            ended(&mut stream, &lease, "lost");
        }
        put(&http, &format!("round {round}"));
        let lease = lease(&mut stream);
        end(&http, &lease, "complete").expect(200);
        ended(&mut stream, &lease, "completed");
    }
}

#[test]
fn who_goes_away_keeps_what_was_told_and_gets_no_more() {
    let (_data, _rota, http) = server(&[]);
    // One waits for a job, the other for an end: both are noticed.
    for (round, max) in [10, 1].into_iter().cycle().take(6).enumerate() {
        let mut stream = ask(&http, &json!({ "queues": ["work"], "max": max }));
        let id = put(&http, "x");
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while !line.contains("\"kind\":\"lease\"") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "it goes on");
        }
        let lease: Value = serde_json::from_str(line.trim_start_matches("data: ")).unwrap();
        assert_eq!(lease["job"]["id"], json!(id));
        match round % 3 {
            0 => drop((stream, reader)),
            1 => stream.shutdown(Shutdown::Write).unwrap(),
            _ => {
                stream.shutdown(Shutdown::Both).unwrap();
                stream.flush().ok();
            }
        }
        until_streams(&http, 0);
        assert_eq!(http.get("/v1/stats").expect(200)["waiting"], 0);
        assert_eq!(state(&http, &id), "reserved", "round {round}");
        // The next job is for others, and what was told can be finished over any connection.
        let next = put(&http, "y");
        let other = reserve(&http);
        assert_eq!((&other["job"]["id"], &other["job"]["reserves"]), (&json!(next), &json!(1)));
        end(&http, &other, "complete").expect(200);
        end(&http, &lease, "complete").expect(200);
    }
}

/// More than the kernel takes of an answer that nobody reads.
const LARGE: usize = 24 << 20;

#[test]
fn what_could_not_be_sent_is_ready_at_once_and_nothing_is_taken_behind_it() {
    let (_data, _rota, http) = server(&["--max-job-size", "32MiB", "--sync", "never"]);
    let job = json!({ "queue": "work", "text": "x".repeat(LARGE), "ttr": "10h", "priority": 1 });
    http.post("/v1/jobs", &job).expect(201);
    put(&http, "behind it");
    for round in 1..=2 {
        let stream = ask(&http, &json!({ "queues": ["work"], "max": 10 }));
        until("it is reserved", || (state(&http, "1") == "reserved").then_some(()));
        // A slow reader costs nobody else their jobs.
        let other = reserve(&http);
        assert_eq!((&other["job"]["id"], &other["job"]["reserves"]), (&json!("2"), &json!(round)));
        end(&http, &other, "release").expect(200);
        drop(stream);
        until("it is ready again", || (state(&http, "1") == "ready").then_some(()));
    }
    let seen = http.get("/v1/jobs/1?body=none").expect(200);
    assert_eq!((&seen["reserves"], &seen["lost_leases"], &seen["releases"]), (&json!(2), &json!(0), &json!(0)));
    let lease = reserve(&http);
    assert_eq!(lease["job"]["text"].as_str().unwrap().len(), LARGE);
}

#[test]
fn who_does_not_take_a_job_in_time_is_cut_off_and_it_goes_back_without_fault() {
    // Where this machine has the server stand still for long, a short lease is over before anything can be done about it.
    with_time(Duration::from_secs(4), |ttr| {
        let (_data, _rota, http) = server(&["--max-job-size", "32MiB", "--sync", "never"]);
        let job = json!({ "queue": "work", "text": "x".repeat(LARGE), "ttr": format!("{}s", ttr.as_secs()) });
        http.post("/v1/jobs", &job).expect(201);
        let mut stream = ask(&http, &json!({ "queues": ["work"] }));
        let seen = until("it was reserved, and is ready again", || {
            let seen = http.get("/v1/jobs/1?body=none").expect(200);
            (seen["reserves"] != 0 && seen["state"] == "ready").then_some(seen)
        });
        assert_eq!((&seen["reserves"], &seen["releases"]), (&json!(1), &json!(0)));
        until_streams(&http, 0);
        let mut got = Vec::new();
        stream.read_to_end(&mut got).ok();
        assert!(got.len() < LARGE, "{} bytes", got.len());
        (seen["lost_leases"] == 0).then_some(())
    });
}

#[test]
fn a_paused_queue_hands_nothing_out_until_it_goes_on() {
    let (_data, _rota, http) = server(&[]);
    let id = put(&http, "x");
    http.post("/v1/queues/work/pause", &json!({ "for": "1h" })).expect(200);
    let mut stream = take(&http, &json!({ "queues": ["work"], "max": 5 }));
    until_waiting(&http, 1);
    assert_eq!(state(&http, &id), "ready");
    let why = http.get(&format!("/v1/jobs/{id}/why")).expect(200);
    assert_eq!(why["reasons"][0]["reason"], "paused");
    http.post_nothing("/v1/queues/work/resume").expect(200);
    assert_eq!(lease(&mut stream)["job"]["id"], json!(id));
    // So it is with a queue of which only so many may be held at a time.
    http.put("/v1/queues/work/settings", &json!({ "concurrency": 2 })).expect(200);
    let next = [put(&http, "y"), put(&http, "z")];
    let second = lease(&mut stream);
    assert_eq!(second["job"]["id"], json!(next[0]));
    until_waiting(&http, 1);
    assert_eq!(state(&http, &next[1]), "ready");
    end(&http, &second, "complete").expect(200);
    ended(&mut stream, &second, "completed");
    assert_eq!(lease(&mut stream)["job"]["id"], json!(next[1]));
}

#[test]
fn a_stop_is_told_and_ends_leases_without_fault() {
    let (data, mut rota, http) = server(&[]);
    let mut holding = take(&http, &json!({ "queues": ["work"] }));
    let id = put(&http, "x");
    let held = lease(&mut holding);
    let mut waiting = take(&http, &json!({ "queues": ["work"], "max": 3 }));
    until_waiting(&http, 1);
    assert!(rota.terminate().success());
    for stream in [&mut holding, &mut waiting] {
        let last = stream.event();
        assert_eq!((last.event.as_str(), &last.data["reason"]), ("end", &json!("stopping")));
        assert!(stream.ended());
    }
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    assert_eq!(end(&http, &held, "complete").problem(409, "lease-outdated")["reason"], "restart");
    let again = lease(&mut take(&http, &json!({ "queues": ["work"] })));
    assert_eq!((&again["job"]["id"], &again["job"]["lost_leases"]), (&json!(id), &json!(0)));
}

#[test]
fn bodies_that_are_in_the_log_alone_are_read_there() {
    for storage in ["lazy", "mapped"] {
        let flags = ["--storage", storage, "--max-job-size", "2MiB"];
        let (data, mut rota, http) = server(&flags);
        let texts: Vec<String> = (0..12).map(|n| format!("{n} {}", "x".repeat(n * 40_000))).collect();
        texts.iter().for_each(|text| drop(put(&http, text)));
        rota.terminate();
        let rota = start(&data, &flags);
        let http = Http::to(rota.http());
        let mut stream = take(&http, &json!({ "queues": ["work"], "max": 20 }));
        for text in &texts {
            assert_eq!(lease(&mut stream)["job"]["text"], text.as_str(), "{storage}");
        }
        // One that is handed out as it comes was never anywhere else.
        put(&http, "the last");
        assert_eq!(lease(&mut stream)["job"]["text"], "the last");
    }
}

#[test]
fn who_asks_for_lines_gets_an_object_a_line() {
    let (_data, _rota, http) = server(&[]);
    for accept in ["application/x-ndjson", "text/event-stream;q=0.5, Application/X-NDJSON; q=1"] {
        http.post("/v1/jobs", &json!({ "queue": "work", "json": { "to": "ann\n" } })).expect(201);
        let mut said = lines(&http, accept, "text");
        assert_eq!(said.next().unwrap(), json!({ "kind": "open", "max": 1 }));
        let lease = said.next().unwrap();
        assert_eq!((&lease["kind"], &lease["job"]["text"]), (&json!("lease"), &json!("{\"to\":\"ann\\n\"}")));
        end(&http, &lease, "release").expect(200);
        let ended = json!({ "kind": "ended", "lease": lease["lease"], "ran_out": false, "reason": "released" });
        assert_eq!(said.next().unwrap(), ended);
        let again = said.next().unwrap();
        assert_eq!((&again["job"]["id"], &again["job"]["releases"]), (&lease["job"]["id"], &json!(1)));
        end(&http, &again, "complete").expect(200);
    }
}

#[test]
fn what_is_said_is_one_line_although_a_body_has_several() {
    let (_data, _rota, http) = server(&[]);
    let body = "{\r\n  \"to\": \"ann\\n\",\n  \"lines\": [1,\r2]\n}";
    let job = json!({ "to": "ann\n", "lines": [1, 2] });
    http.post("/v1/jobs", &json!({ "queue": "work", "text": body })).expect(201);
    http.post_text("/v1/jobs", &format!("{{\"queue\": \"work\", \"json\": {body}}}")).expect(201);
    let mut events = take(&http, &json!({ "queues": ["work"] }));
    let mut lines = lines(&http, "application/x-ndjson", "auto").skip(1);
    for lease in [lease(&mut events), lines.next().unwrap()] {
        assert_eq!(lease["job"]["json"], job);
        end(&http, &lease, "complete").expect(200);
    }
    // Nothing of it was left for the next line.
    assert_eq!(events.event().event, "ended");
    assert_eq!(lines.next().unwrap()["kind"], "ended");
}

/// The lines of a stream.
fn lines(http: &Http, accept: &str, body: &str) -> impl Iterator<Item = Value> {
    // By this version of HTTP the answer ends with the connection, and is not in chunks.
    let body = json!({ "queues": ["work"], "body": body }).to_string();
    let mut stream = http.connect();
    let head = format!("POST /v1/leases/stream HTTP/1.0\r\naccept: {accept}\r\ncontent-type: application/json\r\n");
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "HTTP/1.0 200 OK");
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head.iter().any(|line| line == "content-type: application/x-ndjson"), "{head:?}");
    lines.map(|line| serde_json::from_str(&line).unwrap())
}

#[test]
fn while_nothing_happens_that_is_said_and_the_place_in_line_is_kept() {
    let (_data, _rota, http) = server(&[]);
    let mut said = lines(&http, "application/x-ndjson", "text").skip(1);
    until_waiting(&http, 1);
    let mut later = take(&http, &json!({ "queues": ["work"] }));
    until_waiting(&http, 2);
    assert_eq!(said.next().unwrap(), json!({ "kind": "quiet" }));
    let ids = [put(&http, "x"), put(&http, "y")];
    // It may have been said again before.
    assert_eq!(said.find(|said| said["kind"] != "quiet").unwrap()["job"]["id"], json!(ids[0]));
    assert_eq!(lease(&mut later)["job"]["id"], json!(ids[1]));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_taken() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "x");
    for (wish, status, kind, pointer) in [
        (json!({ "queues": ["work"], "max": 0 }), 422, "bad-value", "#/max"),
        (json!({ "queues": ["work"], "max": 1001 }), 422, "bad-value", "#/max"),
        (json!({ "queues": [], "max": 1 }), 422, "bad-value", "#/queues"),
        (json!({ "queues": vec!["a"; 101] }), 422, "bad-value", "#/queues"),
        (json!({ "queues": ["work"], "count": 1 }), 422, "unknown-field", "#/count"),
        (json!({ "queues": ["work"], "wait": "1s" }), 422, "unknown-field", "#/wait"),
        (json!({ "queues": ["-"] }), 422, "bad-value", "#/queues/0"),
    ] {
        let problem = http.post("/v1/leases/stream", &wish).problem(status, kind);
        assert_eq!(problem["pointer"], pointer, "{wish}: {problem}");
    }
    http.get("/v1/leases/stream").problem(405, "method-not-allowed");
    http.ask("POST /v1/leases/stream", "", "{}").problem(415, "unsupported-media-type");
    assert_eq!(state(&http, "1"), "ready");
}

#[test]
fn hundreds_of_streams_take_little_and_each_job_is_for_one() {
    const STREAMS: usize = 300;
    let (_data, rota, http) = server(&["--sync", "never"]);
    let before = rota.resident_bytes();
    let mut streams: Vec<Stream> = (0..STREAMS).map(|_| take(&http, &json!({ "queues": ["work"] }))).collect();
    until_waiting(&http, STREAMS as u64);
    let each = rota.resident_bytes().saturating_sub(before) / STREAMS as u64;
    assert!(each < 64 << 10, "{each} bytes each");
    let jobs = vec![json!({ "queue": "work", "text": "x" }); STREAMS];
    http.post("/v1/jobs", &jobs.into()).expect(200);
    let mut ids: Vec<String> =
        streams.iter_mut().map(|stream| lease(stream)["job"]["id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), STREAMS);
}

#[test]
fn what_streams_tell_takes_of_the_room_for_answers() {
    let (_data, _rota, http) = server(&["--max-job-size", "32MiB", "--sync", "never"]);
    let job = json!({ "queue": "work", "text": "x".repeat(24 << 20), "ttr": "1h" });
    for _ in 0..7 {
        http.post("/v1/jobs", &job).expect(201);
    }
    // Half of the room for all of them is 128 MiB: it has five of these, which nobody reads.
    let deaf: Vec<TcpStream> = (0..7).map(|_| ask(&http, &json!({ "queues": ["work"] }))).collect();
    let refused = until("they take the room", || Some(http.get("/v1/jobs/1")).filter(|got| got.status != 200));
    refused.problem(503, "busy");
    // Those who found none get theirs when there is some, and jobs that went back did so without fault.
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let read = |stream| {
            scope.spawn(move || {
                let mut stream = Stream::of(stream).unwrap();
                assert_eq!(stream.event().event, "open");
                let lease = lease(&mut stream);
                assert_eq!((&lease["job"]["attempts"], &lease["job"]["lost_leases"]), (&json!(0), &json!(0)));
                lease["job"]["id"].as_str().unwrap().to_owned()
            })
        };
        let readers: Vec<_> = deaf.into_iter().map(read).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7"]);
    until("all of the room is there again", || (http.get("/v1/jobs/1").status == 200).then_some(()));
}
