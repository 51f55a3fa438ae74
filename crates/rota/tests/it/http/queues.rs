//! Queues: counters, pauses, kicks of many jobs.

use serde_json::json;

use super::{end, put, reserve, server};

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
        "urgent": 0, "waiting": 0, "using": 0, "watching": 0,
        "totals": { "put": 6, "ended": 1, "lost_leases": 0, "pauses": 0 },
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
fn a_pause_holds_jobs_back_until_it_ends() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "x");
    let paused = http.post("/v1/queues/work/pause", &json!({ "for": "1h" })).expect(200);
    assert!(paused["paused_until"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{paused}");
    let nothing = json!({ "leases": [] });
    assert_eq!(http.post("/v1/leases", &json!({ "queues": ["work"] })).expect(200), nothing);
    let resumed = http.post_nothing("/v1/queues/work/resume").expect(200);
    assert_eq!((resumed.get("paused_until"), &resumed["totals"]["pauses"]), (None, &json!(2)));
    reserve(&http);
    http.post("/v1/queues/nobody/pause", &json!({ "for": "1h" })).problem(404, "queue-not-found");
    http.post_nothing("/v1/queues/nobody/resume").problem(404, "queue-not-found");
    let problem = http.post("/v1/queues/work/pause", &json!({ "for": 5 })).problem(422, "bad-value");
    assert_eq!(problem["pointer"], "#/for");
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
