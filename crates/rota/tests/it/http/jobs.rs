//! Jobs: put in every form, looked at, kicked, called off, by id and by key.

use serde_json::{Value, json};

use super::{end, put, reserve, server};
use crate::wire::Wire;

#[test]
fn a_job_has_what_its_put_said_and_defaults_for_the_rest() {
    let (_data, _rota, http) = server(&[]);
    let answer = http.post("/v1/jobs", &json!({ "queue": "work", "text": "hi" }));
    assert!(answer.head.contains("\r\nlocation: /v1/jobs/1\r\n"), "{answer:?}");
    let job = answer.expect(201);
    let created = job["created_at"].clone();
    let expected = json!({
        "id": "1", "queue": "work", "state": "ready", "priority": 1024, "created_at": created, "run_at": created,
        "delay": "0s", "ttr": "60s", "attempts": 0, "max_attempts": 25, "reserves": 0, "releases": 0,
        "lost_leases": 0, "max_lost_leases": 10, "buries": 0, "kicks": 0, "body_bytes": 2,
    });
    assert_eq!(job, expected);
    assert!(created.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{created}");
    let full = json!({
        "queue": "work", "json": { "a": [1, null] }, "priority": 0, "delay": "1h30m", "ttr": "1.5s", "key": "k/ü",
        "on_conflict": "keep", "max_attempts": 0, "max_lost_leases": 65535,
    });
    let job = http.post("/v1/jobs", &full).expect(201);
    for (member, value) in [
        ("state", json!("delayed")),
        ("priority", json!(0)),
        ("delay", json!("5400s")),
        ("ttr", json!("1.5s")),
        ("key", json!("k/ü")),
        ("max_attempts", json!(0)),
        ("max_lost_leases", json!(65535)),
    ] {
        assert_eq!(job[member], value, "{member}");
    }
    assert_eq!(http.get("/v1/jobs/2").expect(200)["json"], json!({ "a": [1, null] }));
}

#[test]
fn a_moment_is_kept_to_the_millisecond_in_any_zone() {
    let (_data, _rota, http) = server(&[]);
    let job = json!({ "queue": "work", "text": "", "run_at": "2100-05-01T10:00:00.125+02:00" });
    let job = http.post("/v1/jobs", &job).expect(201);
    assert_eq!((&job["run_at"], &job["state"]), (&json!("2100-05-01T08:00:00.125Z"), &json!("delayed")));
    // What is past is ready, and in the place that it gives.
    let first = put(&http, "now");
    let past =
        http.post("/v1/jobs", &json!({ "queue": "work", "text": "", "run_at": "2001-01-01T00:00:00Z" })).expect(201);
    assert_eq!(past["state"], "ready");
    assert_eq!(reserve(&http)["job"]["id"], past["id"]);
    assert_eq!(reserve(&http)["job"]["id"], first.as_str());
}

#[test]
fn bodies_come_back_as_they_were_put() {
    let (_data, rota, http) = server(&[]);
    let cases = [
        (json!({ "json": { "b": 1, "a": "ü" } }), "", json!({ "json": { "b": 1, "a": "ü" } })),
        (json!({ "json": 5 }), "", json!({ "text": "5" })),
        (json!({ "json": 5 }), "?body=json", json!({ "json": 5 })),
        (json!({ "json": null }), "?body=json", json!({ "json": null })),
        (json!({ "text": "" }), "", json!({ "text": "" })),
        (json!({ "text": "<script>\u{0}\"\\ü" }), "", json!({ "text": "<script>\u{0}\"\\ü" })),
        (json!({ "text": "{}" }), "?body=text", json!({ "text": "{}" })),
        (json!({ "base64": "AP8=" }), "", json!({ "base64": "AP8=" })),
        (json!({ "base64": "AP8" }), "?body=text", json!({ "base64": "AP8=" })),
        (json!({ "text": "ab" }), "?body=base64", json!({ "base64": "YWI=" })),
        (json!({ "text": "ab" }), "?body=none", json!({})),
    ];
    for (body, query, expected) in cases {
        let mut job = body.clone();
        job["queue"] = json!("work");
        let put = http.post("/v1/jobs", &job).expect(201);
        let seen = http.get(&format!("/v1/jobs/{}{query}", put["id"].as_str().unwrap())).expect(200);
        let shown: Value = ["json", "text", "base64"]
            .into_iter()
            .filter(|member| seen.get(member).is_some())
            .map(|member| (member.to_owned(), seen[member].clone()))
            .collect();
        assert_eq!(shown, expected, "{body} {query}");
    }
    // Numbers keep their digits: what is JSON is stored as it stands.
    let text = r#"{"queue": "work", "json": {"n" : 1.10, "big": 123456789012345678901234567890}}"#;
    let job = http.post_text("/v1/jobs", text).expect(201);
    let id = job["id"].as_str().unwrap().to_owned();
    let body = Wire::to(rota.address()).ask(&format!("peek {id}")).body;
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"n" : 1.10, "big": 123456789012345678901234567890}"#);
    assert!(
        http.get(&format!("/v1/jobs/{id}"))
            .body
            .contains(r#""json":{"n" : 1.10, "big": 123456789012345678901234567890}"#)
    );
}

#[test]
fn several_jobs_are_put_in_their_order_and_each_for_itself() {
    let (_data, _rota, http) = server(&["--max-job-size", "10"]);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "", "key": "taken" })).expect(201);
    let jobs = json!([
        { "queue": "work", "text": "a" },
        { "queue": "work", "text": "b", "key": "taken" },
        { "queue": "work", "text": "c", "key": "taken", "on_conflict": "keep" },
        { "queue": "work", "text": "01234567890" },
        { "queue": "other", "text": "d", "key": "taken" },
    ]);
    let check = |results: &Value, ids: [&str; 2]| {
        let results = results["results"].as_array().unwrap();
        let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [201, 409, 200, 413, 201]);
        assert_eq!(results[0]["job"]["id"], ids[0]);
        assert_eq!(results[1]["problem"]["type"], "/problems/key-taken");
        assert_eq!(results[1]["problem"]["job"], "1");
        assert_eq!(results[2]["job"]["id"], "1");
        assert_eq!(results[3]["problem"]["type"], "/problems/job-too-large");
        assert_eq!(results[4]["job"]["id"], ids[1]);
    };
    check(&http.post("/v1/jobs", &jobs).expect(200), ["2", "3"]);
    http.delete("/v1/queues/other/keys/taken").expect(200);
    check(&http.post("/v1/jobs", &json!({ "jobs": jobs })).expect(200), ["4", "5"]);
    // A job whose body has that word is one job all the same.
    let one = http.post("/v1/jobs", &json!({ "queue": "work", "json": { "jobs": 1 } })).expect(201);
    assert_eq!(
        http.get(&format!("/v1/jobs/{}", one["id"].as_str().unwrap())).expect(200)["json"],
        json!({ "jobs": 1 })
    );
    assert_eq!(http.post("/v1/jobs", &json!([])).expect(200), json!({ "results": [] }));
}

#[test]
fn at_most_a_thousand_jobs_are_put_at_once() {
    let (_data, _rota, http) = server(&[]);
    let jobs = |count: usize| Value::from(vec![json!({ "queue": "work", "text": "x" }); count]);
    let results = http.post("/v1/jobs", &jobs(1000)).expect(200);
    assert_eq!(results["results"].as_array().unwrap().len(), 1000);
    http.post("/v1/jobs", &jobs(1001)).problem(422, "bad-value");
    let problem = http.post("/v1/jobs", &json!({ "jobs": jobs(1001) })).problem(422, "bad-value");
    assert_eq!(problem["pointer"], "#/jobs");
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["ready"], 1000, "of more, none");
}

#[test]
fn a_request_that_is_wrong_somewhere_puts_nothing() {
    let (_data, _rota, http) = server(&[]);
    let jobs = json!({ "jobs": [{ "queue": "work", "text": "a" }, { "queue": "work", "text": "b", "ttr": "0s" }] });
    let problem = http.post("/v1/jobs", &jobs).problem(422, "bad-value");
    assert_eq!(problem["pointer"], "#/jobs/1/ttr");
    http.get("/v1/queues/work").problem(404, "queue-not-found");
}

#[test]
fn a_key_names_one_open_job_of_its_queue() {
    let (_data, _rota, http) = server(&[]);
    let job = |on_conflict: &str| json!({ "queue": "a/b", "text": "x", "key": "k 1/ü", "on_conflict": on_conflict });
    let first = http.post("/v1/jobs", &job("reject")).expect(201);
    let problem = http.post("/v1/jobs", &job("reject")).problem(409, "key-taken");
    assert_eq!(problem["job"], first["id"]);
    assert!(problem["detail"].as_str().unwrap().contains("k 1/ü"), "{problem}");
    assert_eq!(http.post("/v1/jobs", &job("keep")).expect(200)["id"], first["id"]);
    let path = "/v1/queues/a%2Fb/keys/k%201%2F%C3%BC";
    assert_eq!(http.get(path).expect(200)["text"], "x");
    assert_eq!(http.delete(path).expect(200), json!({ "id": first["id"] }));
    http.delete(path).problem(404, "key-not-found");
    http.get(path).problem(404, "key-not-found");
    let next = http.post("/v1/jobs", &job("reject")).expect(201);
    assert_ne!(next["id"], first["id"]);
}

#[test]
fn a_job_is_called_off_in_every_state() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "held");
    let lease = reserve(&http);
    put(&http, "ready");
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "", "delay": "1h" })).expect(201);
    for id in ["1", "2", "3"] {
        assert_eq!(http.delete(&format!("/v1/jobs/{id}")).expect(200), json!({ "id": id }));
        http.delete(&format!("/v1/jobs/{id}")).problem(404, "job-not-found");
        http.get(&format!("/v1/jobs/{id}")).problem(404, "job-not-found");
    }
    let problem = end(&http, &lease, "complete").problem(409, "lease-outdated");
    assert!(problem["detail"].as_str().unwrap().contains("job 1 is over"), "{problem}");
    assert_eq!(http.get("/v1/stats").expect(200)["totals"]["cancelled"], 3);
}

#[test]
fn a_kick_makes_delayed_and_buried_jobs_ready_and_no_others() {
    let (_data, _rota, http) = server(&[]);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "", "delay": "1h" })).expect(201);
    let kicked = http.post_nothing("/v1/jobs/1/kick").expect(200);
    assert_eq!((&kicked["state"], &kicked["kicks"]), (&json!("ready"), &json!(1)));
    let problem = http.post_nothing("/v1/jobs/1/kick").problem(409, "wrong-state");
    assert!(problem["detail"].as_str().unwrap().contains("is ready"), "{problem}");
    end(&http, &reserve(&http), "bury").expect(200);
    assert_eq!(http.post_nothing("/v1/jobs/1/kick").expect(200)["state"], "ready");
    http.post_nothing("/v1/jobs/2/kick").problem(404, "job-not-found");
}

#[test]
fn what_was_answered_outlives_a_kill() {
    let (data, mut rota, http) = server(&[]);
    let id = put(&http, "kept");
    http.delete(&format!("/v1/jobs/{}", put(&http, "called off"))).expect(200);
    rota.kill();
    let rota = super::start(&data, &[]);
    let http = super::Http::to(rota.http());
    assert_eq!(http.get(&format!("/v1/jobs/{id}")).expect(200)["text"], "kept");
    http.get("/v1/jobs/2").problem(404, "job-not-found");
}
