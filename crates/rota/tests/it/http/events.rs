//! The stream of events: what is told, to whom, from where on, and that nobody is told too early or costs the others.

mod command;
mod past;
pub(super) mod socket;
pub(super) mod stream;

use std::io::Write;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::{end, put, reserve, server, start};
use crate::disk::not_run;
use crate::process::{Rota, on};
use crate::strace;
use stream::{Said, Stream};

fn kinds(said: &[Said]) -> Vec<&str> {
    said.iter().map(|said| said.event.as_str()).collect()
}

/// All that is there up to an event of that kind.
fn up_to(stream: &mut Stream, kind: &str) -> Vec<Said> {
    let mut all = Vec::new();
    while all.last().is_none_or(|said: &Said| said.event != kind) {
        all.push(stream.event());
    }
    all
}

/// Numbers rise, and stand in the data as in the head.
#[track_caller]
fn check_numbers(said: &[Said]) {
    assert!(said.windows(2).all(|two| two[0].id() < two[1].id()), "{said:?}");
    for one in said {
        assert_eq!((&one.data["seq"], &one.data["kind"]), (&json!(one.id().to_string()), &json!(one.event)));
    }
}

#[test]
fn a_job_is_told_of_from_its_put_to_its_end() {
    let (_data, _rota, http) = server(&[]);
    let mut stream = Stream::open(&http, "/v1/events", "");
    let job = json!({ "queue": "work", "text": "secret", "priority": 7, "delay": "1h", "max_attempts": 2 });
    let id = http.post("/v1/jobs", &job).expect(201)["id"].as_str().unwrap().to_owned();
    http.post_nothing(&format!("/v1/jobs/{id}/kick")).expect(200);
    end(&http, &reserve(&http), "release").expect(200);
    let lease = reserve(&http);
    end(&http, &lease, "touch").expect(200);
    let fail = format!("/v1/leases/{}/fail", lease["lease"].as_str().unwrap());
    http.post(&fail, &json!({ "delay": "0s", "error": "no luck" })).expect(200);
    end(&http, &reserve(&http), "bury").expect(200);
    http.post_nothing(&format!("/v1/jobs/{id}/kick")).expect(200);
    end(&http, &reserve(&http), "complete").expect(200);
    let said = up_to(&mut stream, "job.completed");
    let expected = [
        ("job.put", "delayed"),
        ("job.kicked", "ready"),
        ("job.reserved", "reserved"),
        ("job.released", "ready"),
        ("job.reserved", "reserved"),
        ("lease.extended", "reserved"),
        ("job.failed", "ready"),
        ("job.reserved", "reserved"),
        ("job.buried", "buried"),
        ("job.kicked", "ready"),
        ("job.reserved", "reserved"),
        ("job.completed", "done"),
    ];
    assert_eq!(kinds(&said), expected.map(|(kind, _)| kind));
    check_numbers(&said);
    for (one, (kind, state)) in said.iter().zip(expected) {
        let data = &one.data;
        assert_eq!(
            (&data["job"], &data["queue"], &data["state"]),
            (&json!(id), &json!("work"), &json!(state)),
            "{kind}"
        );
        assert!(data["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{one:?}");
        assert!(!one.text.contains("secret"), "{one:?}");
    }
    assert_eq!(said[0].data["priority"], 7);
    assert!(said[0].data["run_at"].as_str() > said[0].data["at"].as_str(), "{said:?}");
    assert!(said[2].data["until"].as_str() > said[2].data["at"].as_str(), "{said:?}");
    assert_eq!((&said[6].data["error"], &said[6].data["reserves"]), (&json!("no luck"), &json!(2)));
    assert_eq!(said[8].data["reason"], "asked");
    // It was in no queue that is set up: that goes with it.
    assert_eq!(stream.event().event, "queue.dropped");
}

#[test]
fn what_time_and_others_do_is_told_too() {
    let (_data, rota, http) = server(&[]);
    let mut stream = Stream::open(&http, "/v1/events", "");
    let delayed = json!({ "queue": "work", "text": "", "delay": "20ms", "ttr": "20ms", "max_lost_leases": 1 });
    http.post("/v1/jobs", &delayed).expect(201);
    let said = up_to(&mut stream, "job.ready");
    assert_eq!((kinds(&said), &said[1].data["reason"]), (vec!["job.put", "job.ready"], &json!("time")));
    reserve(&http);
    let said = up_to(&mut stream, "job.buried");
    assert_eq!((kinds(&said), &said[1].data["reason"]), (vec!["job.reserved", "job.buried"], &json!("lost-leases")));
    http.delete("/v1/jobs/1").expect(200);
    assert_eq!(kinds(&up_to(&mut stream, "queue.dropped")), ["job.cancelled", "queue.dropped"]);

    let lost = json!({ "queue": "work", "text": "", "ttr": "20ms" });
    http.post("/v1/jobs", &lost).expect(201);
    reserve(&http);
    let said = up_to(&mut stream, "lease.lost");
    assert_eq!(kinds(&said), ["job.put", "job.reserved", "lease.lost"]);
    assert_eq!(said[2].data["state"], "ready");
    http.delete("/v1/jobs/2").expect(200);
    assert_eq!(kinds(&up_to(&mut stream, "queue.dropped")), ["job.cancelled", "queue.dropped"]);
    // Over the other protocol it is the connection that holds a job.
    put(&http, "");
    let mut wire = crate::wire::Wire::to(rota.address());
    wire.ask("watch work");
    wire.ask("reserve");
    drop(wire);
    assert_eq!(kinds(&up_to(&mut stream, "lease.dropped")), ["job.put", "job.reserved", "lease.dropped"]);

    http.post("/v1/queues/work/pause", &json!({ "for": "1h" })).expect(200);
    http.post_nothing("/v1/queues/work/resume").expect(200);
    http.post("/v1/queues/work/pause", &json!({ "for": "20ms" })).expect(200);
    let said: Vec<Said> = (0..4).map(|_| stream.event()).collect();
    assert_eq!(kinds(&said), ["queue.paused", "queue.resumed", "queue.paused", "queue.resumed"]);
    assert_eq!((&said[1].data["reason"], &said[3].data["reason"]), (&json!("asked"), &json!("time")));
    assert!(said.iter().all(|said| said.data["queue"] == "work" && said.data["job"].is_null()), "{said:?}");
}

#[test]
fn everybody_gets_what_they_chose() {
    let (_data, _rota, http) = server(&[]);
    let open = |query: &str| Stream::open(&http, &format!("/v1/events?{query}"), "");
    let mut by_kind = open("kind=job.completed,lease.*");
    let mut by_queue = open("queue=other,none");
    let mut by_job = open("job=2&kind=job.*");
    let mut all = open("kind=*");
    put(&http, "one");
    http.post("/v1/jobs", &json!({ "queue": "other", "text": "two" })).expect(201);
    let lease = reserve(&http);
    end(&http, &lease, "touch").expect(200);
    end(&http, &lease, "complete").expect(200);
    http.delete("/v1/jobs/2").expect(200);
    assert_eq!(kinds(&up_to(&mut by_kind, "job.completed")), ["lease.extended", "job.completed"]);
    assert_eq!(kinds(&up_to(&mut by_queue, "queue.dropped")), ["job.put", "job.cancelled", "queue.dropped"]);
    assert_eq!(kinds(&up_to(&mut by_job, "job.cancelled")), ["job.put", "job.cancelled"]);
    let said = up_to(&mut all, "job.cancelled");
    check_numbers(&said);
    assert_eq!(said.len(), 7, "{said:?}");
}

#[test]
fn what_cannot_be_chosen_is_refused() {
    let (_data, _rota, http) = server(&[]);
    for (query, hint) in [
        ("kind=job.putt", "job.put"),
        ("kind=", "job.*"),
        ("kind=jobs.*", "job."),
        ("after=x", "id of the last event"),
        ("after=-1", "id of the last event"),
        ("queue=-x", ""),
        ("job=0", ""),
        ("actor=", "rota token list"),
        ("actor=a%0Ab", "rota token list"),
        ("kin=job.put", "kind"),
        (&format!("job={}", vec!["1"; 65].join(",")), ""),
    ] {
        let problem = http.get(&format!("/v1/events?{query}")).problem(400, "bad-parameter");
        assert!(problem["hint"].as_str().unwrap().contains(hint), "{query}: {problem}");
    }
    http.ask("GET /v1/events", "last-event-id: x\r\n", "").problem(400, "bad-parameter");
    http.post_nothing("/v1/events").problem(405, "method-not-allowed");
}

#[test]
fn who_comes_back_goes_on_where_they_were() {
    let (_data, _rota, http) = server(&[]);
    let mut stream = Stream::open(&http, "/v1/events?kind=job.put", "");
    // The place is told before anything happened.
    let before = stream.opening().id();
    put(&http, "one");
    let first = stream.event();
    drop(stream);
    let ids = [put(&http, "two"), put(&http, "three")];
    let jobs = |stream: &mut Stream, many: usize| -> Vec<Value> {
        (0..many).map(|_| stream.event().data["job"].clone()).collect()
    };
    let path = format!("/v1/events?kind=job.put&after={before}");
    let mut stream = Stream::open(&http, &path, "");
    assert_eq!(jobs(&mut stream, 3), [json!("1"), json!(ids[0]), json!(ids[1])]);
    // The header is of later than the address.
    let mut stream = Stream::open(&http, &path, &format!("Last-Event-ID: {}\r\n", first.id()));
    assert_eq!(jobs(&mut stream, 2), [json!(ids[0]), json!(ids[1])]);
    put(&http, "four");
    assert_eq!(jobs(&mut stream, 1), [json!("4")]);
}

#[test]
fn what_is_gone_is_said_to_be() {
    let data = TempDir::new().unwrap();
    let start = || start(&data, &["--storage", "memory"]);
    let mut rota = start();
    let http = Http::to(rota.http());
    // Nobody listened, and nothing is written down.
    put(&http, "one");
    let mut stream = Stream::open(&http, "/v1/events?after=0", "");
    let gone = stream.event();
    assert_eq!((gone.event.as_str(), &gone.data["restarted"]), ("gone", &json!(true)));
    let started = stream.event();
    assert_eq!((started.event.as_str(), &started.data["epoch"]), ("server.started", &json!(1)));
    put(&http, "two");
    let last = stream.event();
    assert_eq!((last.event.as_str(), &last.data["job"]), ("job.put", &json!("2")));
    assert!(last.id() > gone.id() && gone.data["seq"].as_str() == Some(&*gone.id().to_string()));
    assert!(rota.terminate().success());
    assert!(stream.ended(), "it ends with the server");

    let rota = start();
    let http = Http::to(rota.http());
    // A number that was never given is no place to go on from.
    for after in ["last-event-id: 1000\r\n", "last-event-id: 18446744073709551615\r\n"] {
        let mut stream = Stream::open(&http, "/v1/events?kind=job.*,server.*", after);
        let gone = stream.event();
        assert_eq!((gone.event.as_str(), &gone.data["soft"]), ("gone", &json!(null)));
        let id = put(&http, "three");
        let said = stream.event();
        assert_eq!((said.event.as_str(), &said.data["job"]), ("job.put", &json!(id)));
        assert!(said.id() > gone.id(), "{said:?}");
    }
}

/// Puts jobs and calls them off until so many events have happened.
fn make(http: &Http, events: usize) {
    let jobs = vec![json!({ "queue": "work", "text": "", "delay": "10h", "key": "x".repeat(200) }); 1_000];
    for round in 0..events.div_ceil(1_000) {
        let mut jobs = jobs.clone();
        for (number, job) in jobs.iter_mut().enumerate() {
            job["key"] = json!(format!("{round}-{number}"));
        }
        http.post("/v1/jobs", &Value::from(jobs)).expect(200);
    }
}

#[test]
fn who_reads_too_slowly_is_told_and_cut_off_and_slows_nobody() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    let mut slow = Stream::open(&http, "/v1/events", "");
    let mut quick = Stream::open(&http, "/v1/events?kind=queue.paused", "");
    // More than the ring and all buffers between hold.
    make(&http, 120_000);
    http.post("/v1/queues/work/pause", &json!({ "for": "1h" })).expect(200);
    assert_eq!(quick.event().event, "queue.paused");
    let mut numbers = Vec::new();
    let last = loop {
        let said = slow.event();
        if said.event == "lagged" {
            break said;
        }
        numbers.push(said.id());
    };
    assert!(numbers.is_sorted() && numbers.len() < 120_000);
    assert_eq!(last.data["seq"], numbers.last().unwrap().to_string());
    assert!(slow.ended());
    let mut back = Stream::open(&http, &format!("/v1/events?after={}", numbers.last().unwrap()), "");
    let resumed = back.event();
    assert_eq!((resumed.event.as_str(), &resumed.data["soft"]), ("resumed", &json!("missing")));
    assert_eq!(back.event().data["job"], (numbers.len() + 1).to_string(), "the journal has it");
}

#[test]
fn a_thousand_who_listen_take_little_and_hear_the_same() {
    const LISTENERS: usize = 1_000;
    let (_data, rota, http) = server(&[]);
    let before = rota.resident_bytes();
    let mut streams: Vec<Stream> = (0..LISTENERS).map(|_| Stream::open(&http, "/v1/events?kind=job.put", "")).collect();
    let each = rota.resident_bytes().saturating_sub(before) / LISTENERS as u64;
    assert!(each < 64 << 10, "{each} bytes each");
    put(&http, "x");
    for stream in &mut streams {
        assert_eq!(stream.event().event, "job.put");
    }
}

#[test]
fn nothing_is_told_before_it_is_durable() {
    if !strace::is_here() {
        return not_run("events before their record", "it takes strace, and a kernel that lets it trace");
    }
    let (mut told, mut kept) = (0, 0);
    // Every sync from the n-th of a thread on fails. Some of these servers do not even come up.
    for nth in 1..=16 {
        let data = TempDir::new().unwrap();
        let command = on(data.path(), &["--http", "127.0.0.1:0", "--sync", "always"]);
        let expression = format!("inject=fdatasync,fsync:error=EIO:when={nth}+");
        let mut rota = Rota::spawn(strace::injecting(&command, &[&expression]));
        if !rota.comes_up() {
            continue;
        }
        let http = Http::to(rota.http());
        let Ok(mut stream) = Stream::try_open(&http, "/v1/events", "") else { continue };
        let mut events = Vec::new();
        for number in 1..=10 {
            // Whoever is answered sees the event; if the log failed, there is neither.
            let mut request = http.connect();
            let body = json!({ "queue": "work", "text": "" }).to_string();
            let bytes = http.bytes("POST /v1/jobs", "content-type: application/json\r\n", &body);
            request.write_all(bytes.as_bytes()).ok();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut request, &mut answer).ok();
            if answer.starts_with("HTTP/1.1 201") {
                events.push(stream.event());
                told += 1;
                continue;
            }
            if answer.starts_with("HTTP/1.1 507") {
                // It was the keeper whose sync failed: the disk gives no more room, and the server goes on without puts.
                break;
            }
            assert!(stream.ended(), "an event of job {number} that no log has: {events:?}");
            kept += 1;
            break;
        }
        assert!(events.iter().all(|said| said.event == "job.put"), "{events:?}");
    }
    assert!(told > 0 && kept > 0, "{told} told, {kept} kept back");
}
