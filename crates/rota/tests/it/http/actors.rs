//! Who asked for it: in the events, whichever the protocol, and in the log.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Answer, Http};
use super::events::stream::{Said, Stream};
use super::start;
use crate::process::Rota;
use crate::tokens::{create, id};
use crate::wire::Wire;

/// A server with two tokens that have names and one that has none.
struct Stage {
    data: TempDir,
    rota: Rota,
    http: Http,
    mailer: String,
    clerk: String,
    nameless: String,
}

const CLERK: &str = "the \"clerk\", München";

impl Stage {
    fn new() -> Stage {
        let data = TempDir::new().unwrap();
        let token = |arguments: &[&str]| create(data.path(), &[&["--role", "admin"], arguments].concat());
        let (mailer, clerk, nameless) = (token(&["--name", "mailer"]), token(&["--name", CLERK]), token(&[]));
        let rota = start(&data, &["--auth"]);
        let http = Http::to(rota.http());
        Stage { data, rota, http, mailer, clerk, nameless }
    }

    fn ask(&self, token: &str, request: &str, body: Value) -> Answer {
        let kind = if body.is_null() { "" } else { "content-type: application/json\r\n" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.http.ask(request, &format!("authorization: Bearer {token}\r\n{kind}"), &body)
    }

    fn put(&self, token: &str, job: Value) -> String {
        self.ask(token, "POST /v1/jobs", job).expect(201)["id"].as_str().unwrap().to_owned()
    }

    fn reserve(&self, token: &str) -> String {
        let leases = self.ask(token, "POST /v1/leases", json!({ "queues": ["work"], "wait": "10m" })).expect(200);
        leases["leases"][0]["lease"].as_str().expect("a job comes").to_owned()
    }

    fn end(&self, token: &str, lease: &str, verb: &str) {
        self.ask(token, &format!("POST /v1/leases/{lease}/{verb}"), Value::Null).expect(200);
    }

    fn events(&self, query: &str) -> Stream {
        let header = format!("authorization: Bearer {}\r\n", self.nameless);
        Stream::open(&self.http, &format!("/v1/events{query}"), &header)
    }

    fn wire(&self, token: &str) -> Wire {
        let mut wire = Wire::to(self.rota.address());
        wire.expect(&format!("auth {token}"), "AUTHENTICATED");
        wire
    }
}

/// What the next events are, and who asked for them.
fn next(stream: &mut Stream, count: usize) -> Vec<(String, Option<String>)> {
    let named = |said: Said| (said.event, said.data.get("actor").map(|actor| actor.as_str().unwrap().to_owned()));
    (0..count).map(|_| named(stream.event())).collect()
}

#[track_caller]
fn check(stream: &mut Stream, expected: &[(&str, Option<&str>)]) {
    let expected: Vec<_> =
        expected.iter().map(|(kind, actor)| ((*kind).to_owned(), actor.map(ToOwned::to_owned))).collect();
    assert_eq!(next(stream, expected.len()), expected);
}

/// The records of a log that say who asked: the actor of each, by its type and its job.
fn logged(data: &Path) -> HashMap<(String, u64), Option<String>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
    let output = command.args(["log", "show", "--json"]).arg(data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let actor = record.get("actor").map(|actor| actor.as_str().unwrap().to_owned());
        Some(((record["type"].as_str()?.to_owned(), record["job"].as_u64()?), actor))
    };
    text.lines().filter_map(record).collect()
}

#[test]
fn a_held_job_says_who_holds_it() {
    let stage = Stage::new();
    let look = |job: &str| stage.ask(&stage.nameless, &format!("GET /v1/jobs/{job}"), Value::Null).expect(200);
    let one = stage.put(&stage.clerk, json!({ "queue": "work", "text": "x" }));
    assert_eq!(look(&one).get("holder"), None);
    let lease = stage.reserve(&stage.mailer);
    let seen = look(&one);
    let holder = &seen["holder"];
    assert_eq!((&holder["actor"], &holder["until"]), (&json!("mailer"), &seen["lease_ends_at"]));
    assert!(holder["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{holder}");
    // Whoever begins the lease anew, it is the same one.
    stage.end(&stage.clerk, &lease, "touch");
    assert_eq!((&look(&one)["holder"]["actor"], &look(&one)["holder"]["since"]), (&json!("mailer"), &holder["since"]));
    let why = stage.ask(&stage.nameless, &format!("GET /v1/jobs/{one}/why"), Value::Null).expect(200);
    assert_eq!(why["reasons"][0]["actor"], "mailer");
    let says = why["reasons"][0]["says"].as_str().unwrap();
    assert!(says.starts_with(&format!("mailer at {} holds it until 2", holder["peer"].as_str().unwrap())), "{says}");
    let listed = stage.ask(&stage.nameless, "GET /v1/jobs?state=reserved", Value::Null).expect(200);
    assert_eq!(listed["jobs"][0]["holder"]["actor"], "mailer");
    stage.end(&stage.mailer, &lease, "release");
    assert_eq!(look(&one).get("holder"), None);
    // Over the beanstalkd protocol it is the connection.
    let mut wire = stage.wire(&stage.clerk);
    let peer = wire.stream().local_addr().unwrap();
    wire.expect("watch work", "WATCHING 2");
    wire.expect("reserve", &format!("RESERVED {one} 1"));
    let holder = look(&one)["holder"].take();
    assert_eq!((&holder["actor"], &holder["peer"]), (&json!(CLERK), &json!(peer.to_string())));
    let shown = Command::new(env!("CARGO_BIN_EXE_rota"))
        .args(["show", &one, "--http", &format!("http://{}", stage.rota.http())])
        .env("ROTA_TOKEN", &stage.nameless)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let line = shown.lines().find(|line| line.starts_with("holder ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains(&format!("actor={CLERK} peer={peer}")), "{line}");
    assert!(line.contains(" since=2") && line.contains(" until=2"), "{line}");
    // A stream hands out in its name, too.
    wire.expect(&format!("release {one} 0 0"), "RELEASED");
    let header = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", stage.mailer);
    let mut stream = stage.http.connect();
    let request = stage.http.bytes("POST /v1/leases/stream", &header, r#"{"queues": ["work"]}"#);
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = Stream::of(stream).unwrap();
    assert_eq!([(); 2].map(|()| stream.event().event), ["open", "lease"]);
    assert_eq!(look(&one)["holder"]["actor"], "mailer");
}

#[test]
fn each_event_says_who_asked_for_it() {
    let stage = Stage::new();
    let (mailer, clerk) = (Some("mailer"), Some(CLERK));
    let nameless = id(&stage.nameless).to_owned();
    let nobody = None;
    let mut events = stage.events("");
    let mut of_mailer = stage.events("?actor=mailer");
    let mut of_clerk = stage.events(&format!("?actor={}&kind=job.*", super::escape(CLERK)));
    let mut of_two = stage.events(&format!("?actor={nameless},mailer&kind=job.put"));

    // Over HTTP: who puts, who reserves, who gives back, who completes.
    let one = stage.put(&stage.mailer, json!({ "queue": "work", "text": "x" }));
    let lease = stage.reserve(&stage.clerk);
    stage.end(&stage.mailer, &lease, "release");
    let lease = stage.reserve(&stage.clerk);
    stage.end(&stage.clerk, &lease, "touch");
    stage.end(&stage.clerk, &lease, "complete");
    check(
        &mut events,
        &[
            ("job.put", mailer),
            ("job.reserved", clerk),
            ("job.released", mailer),
            ("job.reserved", clerk),
            ("lease.extended", clerk),
            ("job.completed", clerk),
            ("queue.dropped", nobody),
        ],
    );

    // Over the beanstalkd protocol: before another token is shown, and after.
    let mut wire = stage.wire(&stage.mailer);
    wire.expect("use work", "USING work");
    let two = wire.put("put 0 0 60", b"y");
    wire.expect(&format!("auth {}", stage.nameless), "AUTHENTICATED");
    let three = wire.put("put 0 0 60", b"z");
    wire.expect("auth rota_wrong", "BAD_TOKEN");
    wire.expect(&format!("delete {three}"), "DELETED");
    let mut worker = stage.wire(&stage.clerk);
    worker.ask("watch work");
    assert_eq!(worker.ask("reserve").line, format!("RESERVED {two} 1"));
    worker.expect(&format!("bury {two} 0"), "BURIED");
    wire.expect("kick 1", "KICKED 1");
    check(
        &mut events,
        &[
            ("job.put", mailer),
            ("job.put", Some(&nameless)),
            ("job.cancelled", Some(&nameless)),
            ("job.reserved", clerk),
            ("job.buried", clerk),
            ("job.kicked", Some(&nameless)),
        ],
    );

    // A job goes to who waits for it, in their name; where the connection ends it comes back in nobody's.
    worker.ask("watch more");
    assert_eq!(worker.ask("reserve").line, format!("RESERVED {two} 1"));
    worker.expect(&format!("delete {two}"), "DELETED");
    worker.send("reserve\r\n").unwrap();
    crate::process::until("it waits", || {
        let stats = stage.ask(&stage.nameless, "GET /v1/queues/more", Value::Null);
        (stats.status == 200 && stats.json()["waiting"] == 1).then_some(())
    });
    let four = stage.put(&stage.mailer, json!({ "queue": "more", "text": "w" }));
    assert_eq!(worker.line().unwrap(), format!("RESERVED {four} 1"));
    drop(worker);
    let expected = [
        ("job.reserved", clerk),
        ("job.completed", clerk),
        ("job.put", mailer),
        ("job.reserved", clerk),
        ("lease.dropped", nobody),
    ];
    check(&mut events, &expected);

    // What time brings about is nobody's: a lease that is lost, a job that is due, a tick; a run is somebody's.
    let five = stage.put(&stage.mailer, json!({ "queue": "work", "text": "v", "ttr": "20ms", "delay": "20ms" }));
    stage.reserve(&stage.clerk);
    check(&mut events, &[("job.put", mailer), ("job.ready", nobody), ("job.reserved", clerk), ("lease.lost", nobody)]);
    let schedule = json!({ "every": "24h", "job": { "queue": "work", "text": "u" } });
    stage.ask(&stage.clerk, "PUT /v1/schedules/daily", schedule).expect(201);
    let run = stage.ask(&stage.mailer, "POST /v1/schedules/daily/run", Value::Null);
    assert!(run.status < 300, "{run:?}");
    check(&mut events, &[("schedule.set", clerk), ("job.put", mailer)]);
    let every = json!({ "every": "1s", "job": { "queue": "work", "text": "t" } });
    stage.ask(&stage.clerk, "PUT /v1/schedules/soon", every).expect(201);
    check(&mut events, &[("schedule.set", clerk), ("job.put", nobody)]);

    let mine = next(&mut of_clerk, 6);
    assert!(mine.iter().all(|(_, actor)| actor.as_deref() == clerk), "{mine:?}");
    let put = |said: &Said| said.data["job"].as_str().unwrap().to_owned();
    let puts: Vec<String> = (0..5).map(|_| put(&of_two.event())).collect();
    let (two, three) = (two.to_string(), three.to_string());
    assert_eq!(puts, [one.as_str(), &two, &three, &four, &five]);
    assert_eq!(kinds(&mut of_mailer, 5), ["job.put", "job.released", "job.put", "job.put", "job.put"]);
    assert_eq!(kinds(&mut of_mailer, 1), ["job.put"]);
}

fn kinds(stream: &mut Stream, count: usize) -> Vec<String> {
    next(stream, count).into_iter().map(|(kind, _)| kind).collect()
}

#[test]
fn the_log_says_it_too_and_a_restart_keeps_it() {
    let mut stage = Stage::new();
    let one = stage.put(&stage.mailer, json!({ "queue": "work", "text": "x", "max_lost_leases": 3 }));
    let lease = stage.reserve(&stage.clerk);
    stage.end(&stage.clerk, &lease, "bury");
    let mut wire = stage.wire(&stage.nameless);
    wire.expect(&format!("kick-job {one}"), "KICKED");
    assert_eq!(stage.rota.terminate().code(), Some(0));
    stage.rota = start(&stage.data, &["--auth"]);
    stage.http = Http::to(stage.rota.http());
    let job = stage.ask(&stage.mailer, &format!("GET /v1/jobs/{one}"), Value::Null).expect(200);
    assert_eq!(job["state"], "ready");
    stage.ask(&stage.mailer, &format!("DELETE /v1/jobs/{one}"), Value::Null).expect(200);
    assert_eq!(stage.rota.terminate().code(), Some(0));

    let logged = logged(stage.data.path());
    let one: u64 = one.parse().unwrap();
    let nameless = id(&stage.nameless);
    for (kind, actor) in
        [("job_put", "mailer"), ("job_buried", CLERK), ("job_kicked", nameless), ("job_cancelled", "mailer")]
    {
        assert_eq!(logged[&(kind.to_owned(), one)].as_deref(), Some(actor), "{kind}: {logged:?}");
    }
}

#[test]
fn without_tokens_there_is_nobody() {
    let data = TempDir::new().unwrap();
    let mut rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let mut events = Stream::open(&http, "/v1/events", "");
    // A token that nobody asked for says nothing.
    let headers = "authorization: Bearer whatever\r\ncontent-type: application/json\r\n";
    http.ask("POST /v1/jobs", headers, r#"{ "queue": "work", "text": "x" }"#).expect(201);
    let mut wire = Wire::to(rota.address());
    wire.expect("auth whatever", "AUTHENTICATED");
    wire.expect("delete 1", "DELETED");
    check(&mut events, &[("job.put", None), ("job.cancelled", None)]);
    assert_eq!(rota.terminate().code(), Some(0));
    assert!(logged(data.path()).values().all(Option::is_none));
}
