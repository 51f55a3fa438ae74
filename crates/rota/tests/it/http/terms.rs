//! What is agreed for a job beyond its place in line, and what became of it: parents, expiry, back-off, results, and queues
//! that are set up.

use serde_json::{Value, json};

use super::client::Http;
use super::{put, reserve, server, start};
use crate::process::until;

/// Puts a job into the queue `work` with these members; the job.
fn put_with(http: &Http, members: &Value) -> Value {
    let mut job = json!({ "queue": "work", "text": "x" });
    for (name, value) in members.as_object().unwrap() {
        job[name] = value.clone();
    }
    http.post("/v1/jobs", &job).expect(201)
}

fn configure(http: &Http, queue: &str, settings: &Value) {
    let set = http.put(&format!("/v1/queues/{queue}/settings"), settings).expect(200);
    assert_eq!(set, *settings);
}

fn complete(http: &Http, lease: &Value, body: &Value) {
    http.post(&format!("/v1/leases/{}/complete", lease["lease"].as_str().unwrap()), body).expect(200);
}

fn state(http: &Http, job: &Value) -> Value {
    http.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).expect(200)["state"].clone()
}

#[test]
fn a_job_waits_for_those_it_is_after_by_id_and_by_key() {
    let (data, mut rota, http) = server(&[]);
    let (first, second) = (put(&http, "first"), put_with(&http, &json!({ "key": "b:2" })));
    let child = put_with(&http, &json!({ "after": [first, "work:b:2"], "priority": 0 }));
    assert_eq!((&child["state"], &child["waits_for"]), (&json!("blocked"), &json!(["1", "2"])));
    assert_eq!(child["on_parent_failure"], "cancel");
    complete(&http, &reserve(&http), &json!({}));
    let seen = http.get("/v1/jobs/3").expect(200);
    assert_eq!(
        (&seen["state"], &seen["waits_for"], &seen["after"]),
        (&json!("blocked"), &json!(["2"]), &json!(["1", "2"]))
    );
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    assert_eq!(state(&http, &child), "blocked");
    let lease = reserve(&http);
    assert_eq!(lease["job"]["id"], second["id"]);
    complete(&http, &lease, &json!({}));
    assert_eq!(reserve(&http)["job"]["id"], child["id"]);
}

#[test]
fn what_becomes_of_a_job_whose_parent_comes_to_nothing_is_its_own_choice() {
    let (_data, _rota, http) = server(&[]);
    let parent = put_with(&http, &json!({ "delay": "1h" }));
    let child = |policy: &str| put_with(&http, &json!({ "after": [parent["id"]], "on_parent_failure": policy }));
    let (cancelled, runs, held) = (child("cancel"), child("run"), child("hold"));
    let grandchild = put_with(&http, &json!({ "after": [cancelled["id"]] }));
    http.delete(&format!("/v1/jobs/{}", parent["id"].as_str().unwrap())).expect(200);
    for gone in [&cancelled, &grandchild] {
        http.get(&format!("/v1/jobs/{}", gone["id"].as_str().unwrap())).problem(404, "job-not-found");
    }
    assert_eq!(state(&http, &runs), "ready");
    let held = http.get(&format!("/v1/jobs/{}", held["id"].as_str().unwrap())).expect(200);
    assert_eq!((&held["state"], &held["held_by"]), (&json!("blocked"), &parent["id"]));
    let kicked = http.post_nothing(&format!("/v1/jobs/{}/kick", held["id"].as_str().unwrap())).expect(200);
    assert_eq!(kicked["state"], "ready");
    // Who comes too late is told so.
    let late = json!({ "queue": "work", "text": "x", "after": [parent["id"]] });
    http.post("/v1/jobs", &late).problem(409, "parent-failed");
}

#[test]
fn parents_that_are_not_there_are_refused_by_name() {
    let (_data, _rota, http) = server(&[]);
    let put = |after: Value| http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "after": after }));
    let unknown = put(json!(["17"])).problem(422, "unknown-parent");
    assert_eq!(unknown["pointer"], "#/after/0");
    assert!(unknown["detail"].as_str().unwrap().contains("job 17"), "{unknown}");
    let unknown = put(json!(["mail:welcome"])).problem(422, "unknown-parent");
    assert!(unknown["detail"].as_str().unwrap().contains("\"welcome\""), "{unknown}");
    put(json!(["no job"])).problem(422, "bad-value");
    put(Value::Array((1..=257).map(|id| json!(id.to_string())).collect())).problem(422, "bad-value");
}

#[test]
fn a_job_that_is_not_begun_in_time_expires() {
    let (_data, _rota, http) = server(&[]);
    configure(&http, "work", &json!({ "retain": "3600s" }));
    // In one request, so that what waits for it is there before its time is over.
    let both = json!([
        { "queue": "work", "text": "x", "expires_in": "1ms", "delay": "1h", "key": "k" },
        { "queue": "work", "text": "x", "after": ["work:k"] },
    ]);
    let put = http.post("/v1/jobs", &both).expect(200);
    let [job, child] = [0, 1].map(|at| &put["results"][at]["job"]);
    assert_eq!(child["waits_for"], json!([job["id"]]), "{put}");
    until("it expires, and what waits for it is called off", || {
        ((state(&http, job), state(&http, child)) == (json!("expired"), json!("cancelled"))).then_some(())
    });
    assert_eq!(http.post("/v1/leases", &json!({ "queues": ["work"] })).expect(200)["leases"], json!([]));
    assert_eq!(http.get("/v1/stats").expect(200)["totals"]["expired"], 1);
}

#[test]
fn a_failed_attempt_says_why_and_waits_as_was_agreed() {
    let (_data, _rota, http) = server(&[]);
    put_with(&http, &json!({ "back_off": { "first": "1h", "factor": 1.5, "jitter_percent": 0 }, "max_attempts": 2 }));
    let fail = |body: &Value| {
        let lease = reserve(&http);
        http.post(&format!("/v1/leases/{}/fail", lease["lease"].as_str().unwrap()), body).expect(200)
    };
    let failed = fail(&json!({ "error": "no route to host" }));
    assert_eq!(
        (&failed["state"], &failed["delay"], &failed["attempts"]),
        (&json!("delayed"), &json!("3600s"), &json!(1))
    );
    assert_eq!(failed["error"], "no route to host");
    http.post_nothing("/v1/jobs/1/kick").expect(200);
    let buried = fail(&json!({ "error": { "code": 7 } }));
    assert_eq!((&buried["state"], &buried["error"]), (&json!("buried"), &json!({ "code": 7 })));
    let bad = json!({ "queue": "work", "text": "x", "back_off": { "first": "1s", "factor": 0.5 } });
    assert_eq!(http.post("/v1/jobs", &bad).problem(422, "bad-value")["pointer"], "#/back_off");
}

#[test]
fn what_holders_say_comes_back_as_they_said_it() {
    let (data, mut rota, http) = server(&[]);
    configure(&http, "work", &json!({ "retain": "3600s" }));
    let said = [
        json!({ "a": 1 }),
        json!("{\"a\":1}"),
        json!(5),
        json!("5"),
        json!([true, null]),
        json!(false),
        json!(""),
        json!("\u{1e}{\"a\":1}"),
        json!("two\nlines"),
    ];
    for (number, said) in (1..).zip(&said) {
        put_with(&http, &json!({ "back_off": { "first": "1ms", "jitter_percent": 0 } }));
        let lease = reserve(&http);
        let path = |verb: &str| format!("/v1/leases/{}/{verb}", lease["lease"].as_str().unwrap());
        http.post(&path("touch"), &json!({ "progress": said })).expect(200);
        let job = format!("/v1/jobs/{number}");
        assert_eq!(http.get(&job).expect(200)["progress"], *said);
        let why = http.get(&format!("{job}/why")).expect(200);
        assert_eq!(why["reasons"][0]["progress"], *said);
        assert!(why["reasons"][0]["says"].as_str().unwrap().ends_with(&format!("who says {said}")), "{why}");
        assert_eq!(http.post(&path("fail"), &json!({ "error": said, "delay": "0s" })).expect(200)["error"], *said);
        complete(&http, &reserve(&http), &json!({ "result": said }));
    }
    let events = http.get("/v1/events?after=0&follow=false&kind=job.failed").body;
    let errors: Vec<Value> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<Value>(data).unwrap()["error"].take())
        .filter(|error| !error.is_null())
        .collect();
    assert_eq!(errors, said);
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    for (number, said) in (1..).zip(&said) {
        let job = http.get(&format!("/v1/jobs/{number}")).expect(200);
        assert_eq!((&job["result"], &job["error"]), (said, said));
    }
    // JSON takes a byte that says so.
    put_with(&http, &json!({}));
    let lease = reserve(&http);
    let path = format!("/v1/leases/{}/complete", lease["lease"].as_str().unwrap());
    http.post(&path, &json!({ "result": ["x".repeat(65_532)] })).problem(422, "bad-value");
    complete(&http, &lease, &json!({ "result": ["x".repeat(65_531)] }));
}

#[test]
fn results_are_kept_as_long_as_the_queue_keeps_final_jobs() {
    let (data, mut rota, http) = server(&[]);
    configure(&http, "work", &json!({ "retain": "86400s" }));
    let job = put_with(&http, &json!({ "key": "k", "kind": "mail", "headers": { "trace": "00-1" } }));
    let lease = reserve(&http);
    let touch = format!("/v1/leases/{}/touch", lease["lease"].as_str().unwrap());
    http.post(&touch, &json!({ "progress": "half" })).expect(200);
    assert_eq!(http.get("/v1/jobs/1").expect(200)["progress"], "half");
    complete(&http, &lease, &json!({ "result": { "sent": 3 } }));
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let kept = http.get("/v1/jobs/1").expect(200);
    let seen = [&kept["state"], &kept["result"], &kept["kind"], &kept["headers"], &kept["text"]];
    let expected = [&json!("done"), &json!({ "sent": 3 }), &json!("mail"), &json!({ "trace": "00-1" }), &json!("x")];
    assert_eq!(seen, expected);
    // It is over all the same: its key is free, and nothing can be done with it.
    http.get("/v1/queues/work/keys/k").problem(404, "key-not-found");
    http.delete("/v1/jobs/1").problem(404, "job-not-found");
    let next = put_with(&http, &json!({ "key": "k", "after": [job["id"]] }));
    assert_eq!(reserve(&http)["job"]["id"], next["id"]);
    let listed = http.get("/v1/jobs?state=done").expect(200);
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);
    // A queue that keeps nothing any more forgets them when their time is over, and not before.
    configure(&http, "work", &json!({}));
    assert_eq!(state(&http, &job), "done");
}

#[test]
fn a_put_replaces_the_open_job_of_its_key() {
    let (_data, _rota, http) = server(&[]);
    let first = put_with(&http, &json!({ "key": "k", "delay": "1h" }));
    let waits = put_with(&http, &json!({ "after": [first["id"]] }));
    let replace = json!({ "queue": "work", "text": "new", "key": "k", "on_conflict": "replace" });
    let replaced = http.post("/v1/jobs", &replace).expect(200);
    assert_eq!((&replaced["id"], &replaced["state"]), (&first["id"], &json!("ready")));
    assert_eq!(state(&http, &waits), "blocked");
    let lease = reserve(&http);
    assert_eq!((&lease["job"]["id"], &lease["job"]["text"]), (&first["id"], &json!("new")));
    http.post("/v1/jobs", &replace).problem(409, "key-taken");
    complete(&http, &lease, &json!({}));
    assert_eq!(state(&http, &waits), "ready");
}

#[test]
fn a_queue_takes_no_more_than_it_is_set_up_for() {
    let (data, mut rota, http) = server(&[]);
    configure(&http, "work", &json!({ "max_jobs": 2, "max_bytes": 10 }));
    let put_of =
        |http: &Http, length: usize| http.post("/v1/jobs", &json!({ "queue": "work", "text": "x".repeat(length) }));
    put_of(&http, 11).problem(429, "queue-full");
    put_of(&http, 6).expect(201);
    put_of(&http, 5).problem(429, "queue-full");
    let replace = |length: usize| {
        let job = json!({ "queue": "work", "text": "x".repeat(length), "key": "k", "on_conflict": "replace" });
        http.post("/v1/jobs", &job)
    };
    replace(1).expect(201);
    replace(5).problem(429, "queue-full");
    replace(4).expect(200);
    // A shorter one is taken where there is too much already.
    configure(&http, "work", &json!({ "max_jobs": 2, "max_bytes": 5 }));
    replace(3).expect(200);
    replace(4).problem(429, "queue-full");
    configure(&http, "work", &json!({ "max_jobs": 2, "max_bytes": 10 }));
    replace(4).expect(200);
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    put_of(&http, 0).problem(429, "queue-full");
    let queue = http.get("/v1/queues/work").expect(200);
    assert_eq!((&queue["settings"]["max_jobs"], &queue["body_bytes"]), (&json!(2), &json!(10)));
    complete(&http, &reserve(&http), &json!({}));
    put_of(&http, 0).expect(201);
    http.put("/v1/queues/work/settings", &json!({ "max_job": 1 })).problem(422, "unknown-field");
}

#[test]
fn no_more_jobs_are_held_than_a_queue_is_set_up_for_and_none_is_handed_out_too_often() {
    let (_data, _rota, http) = server(&[]);
    configure(&http, "work", &json!({ "concurrency": 1 }));
    configure(&http, "slow", &json!({ "rate": { "count": 2, "per": "3600s" } }));
    for queue in ["work", "slow"] {
        for _ in 0..3 {
            http.post("/v1/jobs", &json!({ "queue": queue, "text": "x" })).expect(201);
        }
    }
    let leases = |queue: &str| {
        let leases = http.post("/v1/leases", &json!({ "queues": [queue], "count": 10 })).expect(200)["leases"].clone();
        leases.as_array().unwrap().clone()
    };
    let held = leases("work");
    assert_eq!((held.len(), leases("work").len()), (1, 0));
    complete(&http, &held[0], &json!({}));
    assert_eq!(leases("work").len(), 1);
    assert_eq!((leases("slow").len(), leases("slow").len()), (2, 0));
    // Anew is anew: the bucket is full.
    configure(&http, "slow", &json!({}));
    assert_eq!(leases("slow").len(), 1);
    let none = json!({ "rate": { "count": 0, "per": "1s" } });
    http.put("/v1/queues/slow/settings", &none).problem(422, "bad-value");
}

#[test]
fn no_more_jobs_of_a_limit_key_are_held_than_may_be_and_others_go_past_them() {
    let (_data, _rota, http) = server(&[]);
    configure(&http, "work", &json!({ "per_key": { "concurrency": 1 } }));
    let put = |queue: &str, key: &str| {
        let job = json!({ "queue": queue, "text": key, "limit_key": key });
        http.post("/v1/jobs", &job).expect(201)["id"].clone()
    };
    let ids = ["a", "a", "a", "b"].map(|key| put("work", key));
    let plain = http.post("/v1/jobs", &json!({ "queue": "work", "text": "x" })).expect(201)["id"].clone();
    let leases = |queue: &str| {
        let leases = http.post("/v1/leases", &json!({ "queues": [queue], "count": 10 })).expect(200)["leases"].clone();
        leases.as_array().unwrap().clone()
    };
    let jobs = |leases: &[Value]| leases.iter().map(|lease| lease["job"]["id"].clone()).collect::<Vec<_>>();
    let held = leases("work");
    assert_eq!(jobs(&held), [ids[0].clone(), ids[3].clone(), plain]);
    let queue = http.get("/v1/queues/work").expect(200);
    assert_eq!((&queue["jobs"]["ready"], &queue["held_back"]), (&json!(2), &json!(2)));
    assert_eq!(queue["settings"]["per_key"], json!({ "concurrency": 1 }));
    let shown = http.get(&format!("/v1/jobs/{}", ids[1].as_str().unwrap())).expect(200);
    assert_eq!((&shown["limit_key"], &shown["state"]), (&json!("a"), &json!("ready")));
    complete(&http, &held[1], &json!({}));
    assert_eq!(jobs(&leases("work")), [] as [Value; 0]);
    complete(&http, &held[0], &json!({}));
    assert_eq!(jobs(&leases("work")), [ids[1].clone()]);
    // More of them from now on, and those that wait are looked at again.
    configure(&http, "work", &json!({ "per_key": { "concurrency": 2 } }));
    assert_eq!(jobs(&leases("work")), [ids[2].clone()]);
    configure(&http, "slow", &json!({ "per_key": { "rate": { "count": 2, "per": "3600s" } } }));
    let ids = ["a", "a", "a", "b", "b"].map(|key| put("slow", key));
    assert_eq!(jobs(&leases("slow")), [0, 1, 3, 4].map(|n: usize| ids[n].clone()));
    assert_eq!(jobs(&leases("slow")), [] as [Value; 0]);
    // The same limits anew give no tokens, others do.
    configure(&http, "slow", &json!({ "retain": "3600s", "per_key": { "rate": { "count": 2, "per": "3600s" } } }));
    assert_eq!(jobs(&leases("slow")), [] as [Value; 0]);
    assert_eq!(http.put("/v1/queues/slow/settings", &json!({ "per_key": {} })).expect(200), json!({}));
    assert_eq!(jobs(&leases("slow")), [ids[2].clone()]);
}

#[test]
fn limits_for_each_key_that_make_no_sense_are_refused_where_they_stand() {
    let (_data, _rota, http) = server(&[]);
    for (per_key, kind) in [
        (json!({ "rate": { "count": 0, "per": "1s" } }), "bad-value"),
        (json!({ "concurrency": -1 }), "bad-value"),
        (json!({ "concurency": 1 }), "unknown-field"),
    ] {
        http.put("/v1/queues/work/settings", &json!({ "per_key": per_key })).problem(422, kind);
    }
    for key in [String::new(), "k".repeat(256)] {
        let job = json!({ "queue": "work", "text": "x", "limit_key": key });
        let problem = http.post("/v1/jobs", &job).problem(422, "bad-value");
        assert_eq!(problem["pointer"], "#/limit_key");
        assert!(problem["detail"].as_str().unwrap().contains("1 to 255 bytes"), "{problem}");
    }
}
