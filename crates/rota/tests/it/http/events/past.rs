//! What is past, told from the journal: whole, once, from the first record on that is there, and then what happens now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::client::Http;
use super::super::{put, server, start};
use super::check_numbers;
use super::socket::Socket;
use super::stream::{Said, Stream};

/// One who comes back where the newest events went on without them: who reads what is past is not always quick enough.
struct Returns<'h> {
    http: &'h Http,
    path: String,
    stream: Stream,
}

impl Returns<'_> {
    fn open(http: &Http, path: String) -> Returns<'_> {
        let stream = Stream::open(http, &path, "");
        Returns { http, path, stream }
    }

    fn event(&mut self) -> Said {
        let mut is_back = false;
        loop {
            let said = self.stream.event();
            match said.event.as_str() {
                "lagged" => {
                    assert!(self.stream.ended());
                    let last = format!("Last-Event-ID: {}\r\n", said.data["seq"].as_str().unwrap());
                    (self.stream, is_back) = (Stream::open(self.http, &self.path, &last), true);
                }
                "resumed" if is_back => {}
                _ => return said,
            }
        }
    }
}

/// All that is told up to the end.
fn all(http: &Http, query: &str) -> Vec<Said> {
    let mut events = Returns::open(http, format!("/v1/events?follow=false&{query}"));
    let mut said = vec![events.event()];
    while said.last().is_some_and(|said| said.event != "end") {
        said.push(events.event());
    }
    assert!(events.stream.ended());
    said
}

fn kinds(said: &[Said]) -> Vec<&str> {
    said.iter().map(|said| said.event.as_str()).collect()
}

/// Puts so many thousand jobs.
fn fill(http: &Http, thousands: usize) {
    let jobs = vec![json!({ "queue": "work", "text": "", "delay": "10h" }); 1_000];
    (0..thousands).for_each(|_| _ = http.post("/v1/jobs", &Value::from(jobs.clone())).expect(200));
}

#[test]
fn the_history_of_a_job_is_whole_after_kill_9() {
    let data = TempDir::new().unwrap();
    let flags = &["--segment-size", "64KiB"];
    let mut rota = start(&data, flags);
    let http = Http::to(rota.http());
    let job = json!({ "queue": "mail", "text": "x", "delay": "1h" });
    let id = http.post("/v1/jobs", &job).expect(201)["id"].as_str().unwrap().to_owned();
    fill(&http, 3);
    http.post_nothing(&format!("/v1/jobs/{id}/kick")).expect(200);
    rota.kill();
    let mut rota = start(&data, flags);
    let http = Http::to(rota.http());
    fill(&http, 3);
    http.delete(&format!("/v1/jobs/{id}")).expect(200);
    rota.kill();
    let rota = start(&data, flags);
    let http = Http::to(rota.http());

    let said = all(&http, &format!("after=0&job={id}"));
    assert_eq!(kinds(&said), ["resumed", "job.put", "job.kicked", "job.cancelled", "end"]);
    check_numbers(&said);
    let states = ["delayed", "ready", "cancelled"];
    for (said, state) in said[1..4].iter().zip(states) {
        assert_eq!((&said.data["queue"], &said.data["state"]), (&json!("mail"), &json!(state)));
        assert!(said.data["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{said:?}");
    }
    assert_eq!(said[0].data["soft"], "missing");
    // By its queue it is found, too, and the starts are in there.
    assert_eq!(kinds(&all(&http, "after=0&queue=mail&kind=job.*")), kinds(&said));
    let starts = all(&http, "after=0&kind=server.*");
    let epochs: Vec<&Value> = starts.iter().map(|said| &said.data["epoch"]).filter(|epoch| !epoch.is_null()).collect();
    assert_eq!(epochs, [&json!(1), &json!(2), &json!(3)]);
    // Who was told a part gets the rest.
    let rest = all(&http, &format!("after={}&job={id}", said[1].id()));
    assert_eq!(kinds(&rest), ["resumed", "job.kicked", "job.cancelled", "end"]);
    assert_eq!(kinds(&all(&http, &format!("after={}", said[4].id()))).last(), Some(&"end"));

    let mut socket = Socket::open(&http, &format!("/v1/events?after=0&follow=false&job={id}"), "");
    for kind in ["resumed", "job.put", "job.kicked", "job.cancelled", "end"] {
        assert_eq!(socket.next()["kind"], kind);
    }
    assert_eq!(socket.closed().0, 1000);
    http.get("/v1/events?follow=false").problem(400, "bad-parameter");
    http.get("/v1/events?follow=no&after=0").problem(400, "bad-parameter");
}

#[test]
fn who_begins_with_what_is_past_and_goes_on_with_what_happens_misses_nothing_and_gets_nothing_twice() {
    const BATCHES: usize = 90;
    let (_data, rota, http) = server(&["--sync", "never", "--segment-size", "1MiB"]);
    // The ring is fed from the begin, and goes over what is past.
    let _listens = Stream::open(&http, "/v1/events?kind=queue.*", "");
    let is_begun = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..BATCHES {
                fill(&http, 1);
                is_begun.store(batch > 20, Ordering::Release);
            }
        });
        while !is_begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let mut readers: Vec<Returns<'_>> =
            (0..4).map(|_| Returns::open(&http, "/v1/events?after=0&kind=job.put".into())).collect();
        for stream in &mut readers {
            assert_eq!(stream.event().event, "resumed");
        }
        for job in 1..=BATCHES * 1_000 {
            for stream in &mut readers {
                let said = stream.event();
                assert_eq!(said.data["job"], job.to_string(), "{said:?}");
            }
        }
    });
    // What is past is read in pieces, and given up again.
    let before = rota.resident_bytes();
    let said = all(&http, "after=0&kind=job.put");
    assert_eq!(said.len(), BATCHES * 1_000 + 2);
    let grown = rota.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes");
}

#[test]
fn what_is_history_no_more_is_gone_and_the_rest_is_told() {
    let (_data, _rota, http) = server(&["--sync", "never", "--segment-size", "64KiB", "--history", "0"]);
    let first = put(&http, "x");
    let gone = loop {
        fill(&http, 1);
        let many: Vec<Said> = all(&http, "after=0&kind=job.put,job.cancelled");
        assert!(many.last().is_some_and(|said| said.event == "end"));
        if many[0].event == "gone" {
            break many;
        }
        http.post("/v1/jobs/cancel", &json!({ "all": true })).expect(200);
    };
    assert_eq!(gone[0].data["soft"], "missing");
    let is_put = |said: &&Said| said.event == "job.put";
    assert!(gone.iter().filter(is_put).all(|said| said.data["job"] != first), "its put is gone");
    check_numbers(&gone[..gone.len() - 1]);
    // What came after is there without a hole.
    let id = put(&http, "y");
    let rest = all(&http, &format!("after={}", gone.last().unwrap().id()));
    assert!(rest.iter().any(|said| said.event == "job.put" && said.data["job"] == id), "{rest:?}");
    assert!(rest.iter().all(|said| said.event != "gone"), "{rest:?}");
}
