//! Requests that name themselves by an `Idempotency-Key`: sent again, they put nothing again.

use serde_json::json;

use super::client::{Answer, Http};
use super::{end, put, reserve, server, start};
use crate::process::on;

fn send(http: &Http, key: &str, body: &serde_json::Value) -> Answer {
    let headers = format!("content-type: application/json\r\nidempotency-key: {key}\r\n");
    http.ask("POST /v1/jobs", &headers, &body.to_string())
}

fn is_replayed(answer: &Answer) -> bool {
    answer.head.contains("\r\nidempotency-replayed: true\r\n")
}

#[test]
fn a_request_sent_again_puts_no_second_job() {
    let (_data, _rota, http) = server(&[]);
    let job = json!({ "queue": "work", "text": "once" });
    let first = send(&http, "a-1", &job);
    assert!(!is_replayed(&first));
    let first = first.expect(201);
    let again = send(&http, "a-1", &job);
    assert!(is_replayed(&again) && again.head.contains("\r\nlocation: /v1/jobs/1\r\n"), "{again:?}");
    assert_eq!(again.expect(201), first);
    // Another key, or none, is another request.
    assert_eq!(send(&http, "a-2", &job).expect(201)["id"], "2");
    assert_eq!(put(&http, "once"), "3");
    // A job that is over is not put again.
    let lease = reserve(&http);
    assert_eq!(lease["job"]["id"], "1");
    assert_eq!(end(&http, &lease, "complete").status, 200);
    assert_eq!(send(&http, "a-1", &job).expect(201), json!({ "id": "1", "state": "gone" }));
}

#[test]
fn what_is_answered_again_is_short() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    http.put("/v1/queues/work/settings", &json!({ "retain": "1h" })).expect(200);
    let jobs = vec![json!({ "queue": "work", "text": "x" }); 40];
    let first = send(&http, "many", &jobs.clone().into()).expect(200);
    for _ in 0..40 {
        let lease = reserve(&http)["lease"].as_str().unwrap().to_owned();
        let result = json!({ "result": "r".repeat(60_000) });
        http.post(&format!("/v1/leases/{lease}/complete"), &result).expect(200);
    }
    let again = send(&http, "many", &jobs.into());
    assert!(is_replayed(&again) && again.body.len() < 1_200_000, "{}", again.body.len());
    let again = again.expect(200);
    let (first, again) = (first["results"].as_array().unwrap(), again["results"].as_array().unwrap());
    assert!(again.len() == 40 && first.iter().zip(again).all(|(first, again)| first["id"] == again["id"]));
    let shown = again.iter().filter(|again| again["job"]["state"] == "done").count();
    assert!((10..20).contains(&shown), "{shown}");
}

#[test]
fn a_key_belongs_to_one_body() {
    let (_data, _rota, http) = server(&[]);
    send(&http, "a", &json!({ "queue": "work", "text": "one" })).expect(201);
    let problem = send(&http, "a", &json!({ "queue": "work", "text": "two" })).problem(422, "idempotency-key-reused");
    assert!(problem["detail"].as_str().unwrap().contains("\"a\""), "{problem}");
    for key in ["", "two words", "ü", &"k".repeat(201)] {
        send(&http, key, &json!({ "queue": "work", "text": "one" })).problem(400, "malformed-request");
    }
}

#[test]
fn of_several_jobs_those_are_tried_again_that_were_refused() {
    let (_data, _rota, http) = server(&[]);
    http.put("/v1/queues/work/settings", &json!({ "max_jobs": 2 })).expect(200);
    let jobs: Vec<_> = (0..3).map(|number| json!({ "queue": "work", "text": number.to_string() })).collect();
    let first = send(&http, "many", &json!(jobs)).expect(200);
    let statuses = |answer: &serde_json::Value| -> Vec<(u64, String)> {
        let results = answer["results"].as_array().unwrap().iter();
        results
            .map(|result| (result["status"].as_u64().unwrap(), result["id"].as_str().unwrap_or("").to_owned()))
            .collect()
    };
    let of = |status, id: &str| (status, id.to_owned());
    assert_eq!(statuses(&first), [of(201, "1"), of(201, "2"), of(429, "")]);
    http.put("/v1/queues/work/settings", &json!({})).expect(200);
    let again = send(&http, "many", &json!(jobs));
    assert!(is_replayed(&again));
    assert_eq!(statuses(&again.json()), [of(201, "1"), of(201, "2"), of(201, "3")]);
    assert_eq!(statuses(&send(&http, "many", &json!(jobs)).json()), [of(201, "1"), of(201, "2"), of(201, "3")]);
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["ready"], 3);
}

#[test]
fn it_holds_across_a_kill_and_when_the_log_was_written_anew() {
    let flags = ["--segment-size", "64KiB", "--history", "0"];
    let (data, mut rota, http) = server(&flags);
    let job = json!({ "queue": "work", "text": "once" });
    send(&http, "a", &job).expect(201);
    let lease = reserve(&http);
    assert_eq!(end(&http, &lease, "complete").status, 200);
    // Many segments' worth of jobs that come and go.
    let many: Vec<_> = (0..100).map(|_| json!({ "queue": "churn", "text": "x".repeat(400) })).collect();
    for _ in 0..8 {
        http.post("/v1/jobs", &json!(many)).expect(200);
        let taken = json!({ "queues": ["churn"], "count": 100 });
        for lease in http.post("/v1/leases", &taken).expect(200)["leases"].as_array().unwrap() {
            end(&http, lease, "complete");
        }
    }
    rota.kill();
    drop(rota);
    let rota = start(&data, &flags);
    let again = send(&Http::to(rota.http()), "a", &job);
    assert!(is_replayed(&again), "{again:?}");
    assert_eq!(again.expect(201), json!({ "id": "1", "state": "gone" }));
    drop(rota);
    // A server on other data knows nothing of it.
    let other = tempfile::TempDir::new().unwrap();
    let rota = crate::process::Rota::ready(on(other.path(), &["--http", "127.0.0.1:0"]));
    assert!(!is_replayed(&send(&Http::to(rota.http()), "a", &job)));
}

#[test]
fn many_jobs_with_many_parents_are_put_in_turns_and_once_only() {
    let (data, mut rota, http) = server(&[]);
    let parents: Vec<_> = (0..256).map(|number| json!({ "queue": "first", "text": number.to_string() })).collect();
    let put = http.post("/v1/jobs", &json!(parents)).expect(200);
    let ids: Vec<String> =
        put["results"].as_array().unwrap().iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect();
    http.delete("/v1/jobs/1").expect(200);
    // More parents by far than are looked at under one lock; some of the jobs are refused: for a parent that never
    // was, for one that was cancelled, and the last for its key.
    let mut jobs: Vec<_> = (0..60)
        .map(|number| match number {
            20 => json!({ "queue": "work", "text": "x", "after": ["999999"] }),
            40 => json!({ "queue": "work", "text": "x", "after": ids }),
            _ => json!({ "queue": "work", "text": "x", "after": ids[1..] }),
        })
        .collect();
    jobs.push(json!({ "queue": "work", "text": "x", "key": "k" }));
    jobs.push(json!({ "queue": "work", "text": "x", "key": "k" }));
    let first = send(&http, "many", &json!(jobs)).expect(200);
    let results = first["results"].as_array().unwrap().clone();
    let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    let expected = |at: usize| if [20, 40, 61].contains(&at) { statuses[at] >= 400 } else { statuses[at] == 201 };
    assert!(statuses.len() == 62 && (0..62).all(expected), "{statuses:?}");
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["blocked"], 58);
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let again = send(&http, "many", &json!(jobs));
    assert!(is_replayed(&again));
    let again = again.json()["results"].as_array().unwrap().clone();
    for (at, (first, again)) in results.iter().zip(&again).enumerate() {
        assert_eq!((&first["status"], &first["id"]), (&again["status"], &again["id"]), "job {at}");
    }
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["blocked"], 58);
}
