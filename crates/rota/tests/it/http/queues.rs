//! Queues: counters, pauses, kicks of many jobs.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::{end, put, reserve, server, start};

#[test]
fn a_queue_has_its_counters() {
    let (_data, _rota, http) = server(&[]);
    for _ in 0..5 {
        put(&http, "x");
    }
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "", "delay": "1h" })).expect(201);
    end(&http, &reserve(&http), "complete").expect(200);
    end(&http, &reserve(&http), "bury").expect(200);
    reserve(&http);
    let expected = json!({
        "name": "work",
        "jobs": { "delayed": 1, "ready": 2, "reserved": 1, "buried": 1, "blocked": 0 },
        "held_back": 0, "ended": 0, "body_bytes": 4, "settings": {},
        "urgent": 0, "paused": false, "waiting": 0, "using": 0, "watching": 0,
        "totals": {
            "put": 6, "ended": 1, "completed": 1, "cancelled": 0, "expired": 0, "failed": 0, "released": 0, "buried": 1,
            "kicked": 0, "lost_leases": 0, "pauses": 0,
        },
    });
    let mut queue = http.get("/v1/queues/work").expect(200);
    // How long things take is not the same twice; how many there were is.
    for (name, count) in [("latency", 3), ("run_time", 1)] {
        let times = queue.as_object_mut().unwrap().remove(name).unwrap();
        assert_eq!(times["count"], count);
        assert!(["mean", "p50", "p99"].iter().all(|name| times[name].as_str().unwrap().ends_with('s')), "{times}");
    }
    assert!(queue.as_object_mut().unwrap().remove("head_age").unwrap().is_string());
    assert_eq!(queue, expected);
}

#[test]
fn what_was_done_to_jobs_is_counted_across_a_restart() {
    let data = TempDir::new().unwrap();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "max_attempts": 2 })).expect(201);
    // A queue goes with its last job, and its counts with it.
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "delay": "1h" })).expect(201);
    let fail = |lease: &Value| {
        let path = format!("/v1/leases/{}/fail", lease["lease"].as_str().unwrap());
        http.post(&path, &json!({ "delay": "0s" })).expect(200);
    };
    end(&http, &reserve(&http), "release").expect(200);
    fail(&reserve(&http));
    fail(&reserve(&http));
    http.post_nothing("/v1/jobs/1/kick").expect(200);
    end(&http, &reserve(&http), "bury").expect(200);
    http.delete("/v1/jobs/1").expect(200);
    let expected = json!({
        "put": 2, "ended": 1, "completed": 0, "cancelled": 1, "expired": 0, "failed": 2, "released": 1, "buried": 2,
        "kicked": 1, "lost_leases": 0, "pauses": 0,
    });
    assert_eq!(http.get("/v1/queues/work").expect(200)["totals"], expected);
    drop(rota);
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    assert_eq!(http.get("/v1/queues/work").expect(200)["totals"], expected);
    let totals = &http.get("/v1/stats").expect(200)["totals"];
    let turns = ["failed", "released", "buried", "kicked", "cancelled"].map(|verb| totals[verb].as_u64().unwrap());
    assert_eq!(turns, [2, 1, 2, 1, 1]);
}

#[test]
fn a_pause_holds_jobs_back_until_it_ends() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "x");
    let paused = http.post("/v1/queues/work/pause", &json!({ "for": "1h" })).expect(200);
    assert!(paused["paused_until"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{paused}");
    let nothing = json!({ "leases": [] });
    assert_eq!(http.post("/v1/leases", &json!({ "queues": ["work"] })).expect(200), nothing);
    let resumed = http.post_nothing("/v1/queues/work/resume").expect(200);
    assert_eq!((resumed.get("paused_until"), &resumed["totals"]["pauses"]), (None, &json!(2)));
    assert_eq!((&paused["paused"], &resumed["paused"]), (&json!(true), &json!(false)));
    reserve(&http);
    http.post_nothing("/v1/queues/nobody/resume").problem(404, "queue-not-found");
    let problem = http.post("/v1/queues/work/pause", &json!({ "for": 5 })).problem(422, "bad-value");
    assert_eq!(problem["pointer"], "#/for");
}

#[test]
fn a_pause_lasts_until_a_moment_or_until_it_is_resumed() {
    let (data, mut rota, http) = server(&[]);
    let nothing = json!({ "leases": [] });
    let take = |http: &Http| http.post("/v1/leases", &json!({ "queues": ["work"] })).expect(200);
    put(&http, "x");
    let until = "2500-01-01T08:00:00Z";
    let paused = http.post("/v1/queues/work/pause", &json!({ "until": until })).expect(200);
    // To the nanosecond it is not the same: it is a span from when it was decided.
    assert!(paused["paused_until"].as_str().unwrap().starts_with("2500-01-01T08:00:0"), "{paused}");
    assert_eq!(take(&http), nothing);
    for body in ["", "null", "{}", "{\"for\": null, \"until\": null}"] {
        http.post_nothing("/v1/queues/work/resume").expect(200);
        let paused = match body {
            "" => http.post_nothing("/v1/queues/work/pause").expect(200),
            body => http.post_text("/v1/queues/work/pause", body).expect(200),
        };
        assert_eq!((&paused["paused"], paused.get("paused_until")), (&json!(true), None), "{body}");
        assert_eq!(take(&http), nothing);
    }
    let why = http.get("/v1/jobs/1/why").expect(200);
    let reason = json!({ "says": "the queue work is paused until it is resumed", "reason": "paused" });
    assert_eq!(why["reasons"][0], reason);
    // So it stays over a start of the server.
    rota.terminate();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let shown = http.get("/v1/queues/work").expect(200);
    assert_eq!((&shown["paused"], shown.get("paused_until")), (&json!(true), None));
    assert_eq!(take(&http), nothing);
    http.post_nothing("/v1/queues/work/resume").expect(200);
    assert_eq!(take(&http)["leases"][0]["job"]["id"], "1");

    let pause = |body| http.post("/v1/queues/work/pause", &body).problem(422, "bad-value")["pointer"].clone();
    assert_eq!(pause(json!({ "until": "2020-01-01T00:00:00Z" })), "#/until");
    assert_eq!(pause(json!({ "until": "tomorrow" })), "#/until");
    assert_eq!(pause(json!({ "until": until, "for": "1h" })), "#/until");
    assert_eq!(http.get("/v1/queues/work").expect(200)["paused"], false);
}

#[test]
fn a_queue_that_is_not_there_is_paused_before_its_first_job() {
    let (data, mut rota, http) = server(&[]);
    let paused = http.post("/v1/queues/work/pause", &json!({ "for": "1h" })).expect(200);
    assert_eq!((&paused["paused"], &paused["using"], &paused["jobs"]["ready"]), (&json!(true), &json!(0), &json!(0)));
    http.post_nothing("/v1/queues/short/pause").expect(200);
    // No time at all is none, and has no queue come to be.
    http.post("/v1/queues/none/pause", &json!({ "for": "0s" })).problem(404, "queue-not-found");
    rota.terminate();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    put(&http, "x");
    let leases = http.post("/v1/leases", &json!({ "queues": ["work"] })).expect(200);
    assert_eq!(leases, json!({ "leases": [] }));
    // A queue with nothing in it goes with its pause.
    assert_eq!(http.post_nothing("/v1/queues/short/resume").expect(200)["paused"], false);
    http.get("/v1/queues/short").problem(404, "queue-not-found");
    http.post_nothing("/v1/queues/work/resume").expect(200);
    reserve(&http);
}

#[test]
fn a_kick_of_a_queue_takes_buried_jobs_or_delayed_ones() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    let delayed = vec![json!({ "queue": "work", "text": "", "delay": "1h" }); 1000];
    for _ in 0..3 {
        http.post("/v1/jobs", &delayed.clone().into()).expect(200);
    }
    for _ in 0..2 {
        put(&http, "x");
        end(&http, &reserve(&http), "bury").expect(200);
    }
    let kick = |body| http.post("/v1/queues/work/kick", &body).expect(200);
    assert_eq!(kick(json!({ "limit": 1 })), json!({ "kicked": 1, "source": "buried" }));
    assert_eq!(kick(json!({ "source": "delayed", "limit": 7 })), json!({ "kicked": 7, "source": "delayed" }));
    assert_eq!(kick(json!({})), json!({ "kicked": 1, "source": "buried" }));
    assert_eq!(http.post_nothing("/v1/queues/work/kick").expect(200), json!({ "kicked": 2993, "source": "delayed" }));
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["ready"], 3002);
    http.post_nothing("/v1/queues/nobody/kick").problem(404, "queue-not-found");
}

#[test]
fn a_rate_over_less_than_a_millisecond_is_shown_as_it_is_and_one_over_no_time_refused() {
    let (_data, _rota, http) = server(&[]);
    let set = |settings: &Value| http.put("/v1/queues/work/settings", settings);
    let settings = json!({
        "retain": "0.0015s", "rate": { "count": 1, "per": "0.0005s" }, "per_key": { "rate": { "count": 2, "per": "0.000000001s" } },
    });
    let asked = json!({
        "retain": "1.5ms", "rate": { "count": 1, "per": "500us" }, "per_key": { "rate": { "count": 2, "per": "1ns" } },
    });
    set(&asked).expect(200);
    let shown = http.get("/v1/queues/work").expect(200)["settings"].clone();
    assert_eq!(shown, settings);
    // Who sends them back changes nothing.
    assert_eq!(set(&shown).expect(200), settings);
    for (settings, pointer) in [
        (json!({ "rate": { "count": 1, "per": "0s" } }), "#/rate/per"),
        (json!({ "per_key": { "rate": { "count": 1, "per": "0ms" } } }), "#/per_key/rate/per"),
    ] {
        let problem = set(&settings).problem(422, "bad-value");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
}
