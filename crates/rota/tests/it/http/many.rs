//! Verbs for many jobs: what they do, count and refuse, whom they reach, and what a kill leaves of them.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::{put, reserve, server, start};
use crate::process::until;

/// Buries so many jobs of the queue `work`, which fail with that error.
fn bury(http: &Http, jobs: usize, error: &str) {
    let job = json!({ "queue": "work", "text": "x", "max_attempts": 1 });
    http.post("/v1/jobs", &vec![job; jobs].into()).expect(200);
    for _ in 0..jobs {
        let lease = reserve(http)["lease"].as_str().unwrap().to_owned();
        http.post(&format!("/v1/leases/{lease}/fail"), &json!({ "error": error })).expect(200);
    }
}

fn states(http: &Http, queue: &str) -> Value {
    http.get(&format!("/v1/queues/{queue}")).expect(200)["jobs"].clone()
}

fn run(http: &Http, verb: &str, body: &Value) -> Value {
    http.post(&format!("/v1/jobs/{verb}"), body).expect(200)
}

#[test]
fn a_dry_run_counts_what_is_then_done() {
    let (data, mut rota, http) = server(&[]);
    bury(&http, 12, "timeout");
    bury(&http, 3, "no such user");
    put(&http, "ready");
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "delay": "1h" })).expect(201);
    let before = states(&http, "work");
    let dry = run(&http, "retry", &json!({ "q": "error:TIME*", "dry_run": true }));
    let refused = json!({ "over": 0, "wrong_state": 0, "disk_full": 0 });
    let first: Vec<String> = (1..=10).map(|id: u64| id.to_string()).collect();
    assert_eq!(
        dry,
        json!({ "dry_run": true, "matched": 12, "done": 0, "would_do": 12, "refused": refused, "first": first, "not_in_memory": 0 })
    );
    assert_eq!(states(&http, "work"), before);
    let done = run(&http, "retry", &json!({ "q": "error:TIME*" }));
    assert_eq!((&done["matched"], &done["done"], &done["would_do"]), (&json!(12), &json!(12), &json!(0)));
    assert_eq!(done["first"], json!(first));
    assert_eq!(states(&http, "work")["buried"], 3);
    // Retried jobs keep their error, and are not buried any more.
    let again = run(&http, "retry", &json!({ "q": "error:TIME*" }));
    assert_eq!((&again["matched"], &again["done"]), (&json!(0), &json!(0)));
    let kicked = run(&http, "kick", &json!({ "q": "queue:work" }));
    assert_eq!((&kicked["matched"], &kicked["done"]), (&json!(17), &json!(4)));
    assert_eq!(kicked["refused"]["wrong_state"], 13);
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    assert_eq!(states(&http, "work")["ready"], 17);
}

#[test]
fn jobs_are_called_off_in_any_state_and_stay_so() {
    let (data, mut rota, http) = server(&[]);
    http.put("/v1/queues/work/settings", &json!({ "retain": "3600s" })).expect(200);
    bury(&http, 2, "x");
    let parent = put(&http, "held");
    let lease = reserve(&http);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "delay": "1h" })).expect(201);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "after": [parent] })).expect(201);
    http.post("/v1/jobs", &json!({ "queue": "other", "text": "x", "after": [parent] })).expect(201);
    let done = run(&http, "cancel", &json!({ "q": "queue:work" }));
    assert_eq!((&done["matched"], &done["done"], &done["refused"]["over"]), (&json!(5), &json!(5), &json!(0)));
    super::end(&http, &lease, "complete").problem(409, "lease-outdated");
    let again = run(&http, "cancel", &json!({ "q": "queue:work" }));
    assert_eq!((&again["matched"], &again["done"], &again["refused"]["over"]), (&json!(5), &json!(0), &json!(5)));
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let queue = http.get("/v1/queues/work").expect(200);
    assert_eq!((&queue["ended"], &queue["jobs"]["ready"]), (&json!(5), &json!(0)));
    // What waited for one of them elsewhere went with it.
    assert_eq!(run(&http, "cancel", &json!({ "all": true, "dry_run": true }))["would_do"], 0);
}

#[test]
fn a_limit_is_kept_and_a_request_must_say_what_it_means() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    http.post("/v1/jobs", &vec![json!({ "queue": "work", "text": "x", "delay": "1h" }); 1000].into()).expect(200);
    http.post("/v1/jobs", &vec![json!({ "queue": "work", "text": "x", "delay": "1h" }); 1000].into()).expect(200);
    let some = json!({ "q": "state:delayed", "limit": 1500, "dry_run": true });
    assert_eq!(run(&http, "kick", &some)["would_do"], 1500);
    let some = run(&http, "kick", &json!({ "q": "state:delayed", "limit": 1500 }));
    assert_eq!((&some["done"], some.get("cursor")), (&json!(1500), None));
    assert_eq!(states(&http, "work")["ready"], 1500);
    for body in [json!({}), json!({ "q": "" }), json!({ "q": " ", "dry_run": true }), json!({ "all": false })] {
        http.post("/v1/jobs/cancel", &body).problem(422, "no-filter");
    }
    http.post("/v1/jobs/cancel", &json!({ "q": "id:1", "all": true })).problem(422, "bad-value");
    http.post("/v1/jobs/cancel", &json!({ "q": "id:1", "limit": 0 })).problem(422, "bad-value");
    http.post("/v1/jobs/cancel", &json!({ "where": "id:1" })).problem(422, "unknown-field");
    assert_eq!(
        states(&http, "work"),
        json!({ "delayed": 500, "ready": 1500, "reserved": 0, "buried": 0, "blocked": 0 })
    );
    let all = run(&http, "cancel", &json!({ "all": true }));
    assert_eq!((&all["done"], all.get("cursor")), (&json!(2000), None));
    http.get("/v1/queues/work").problem(404, "queue-not-found");
}

#[test]
fn many_children_of_one_job_go_with_it() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    put(&http, "parent");
    for _ in 0..3 {
        let child = json!({ "queue": "work", "text": "x", "after": ["1"] });
        http.post("/v1/jobs", &vec![child; 1000].into()).expect(200);
    }
    run(&http, "cancel", &json!({ "q": "id:1" }));
    until("all are gone", || (http.get("/v1/stats").expect(200)["jobs"]["blocked"] == 0).then_some(()));
    assert_eq!(run(&http, "cancel", &json!({ "all": true, "dry_run": true }))["matched"], 0);
}

#[test]
fn a_token_of_some_queues_reaches_those_alone() {
    let data = TempDir::new().unwrap();
    let token = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
        let output = command.args(["token", "create"]).args(arguments).arg("--data").arg(data.path()).output().unwrap();
        format!(
            "authorization: Bearer {}\r\ncontent-type: application/json\r\n",
            String::from_utf8(output.stdout).unwrap().trim()
        )
    };
    let (admin, limited) = (token(&["--role", "admin"]), token(&["--role", "operator", "--queues", "mail*"]));
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    for queue in ["mail", "mail-eu", "work"] {
        let job = json!({ "queue": queue, "text": "x", "delay": "1h" });
        http.ask("POST /v1/jobs", &admin, &job.to_string()).expect(201);
    }
    let ask =
        |verb: &str, body: &Value| http.ask(&format!("POST /v1/jobs/{verb}"), &limited, &body.to_string()).expect(200);
    let matched = |filter: &str| ask("kick", &json!({ "q": filter, "dry_run": true }))["matched"].clone();
    assert_eq!((matched("id>0"), matched("queue:work"), matched("id:3")), (json!(2), json!(0), json!(0)));
    // Why a job waits says nothing of jobs elsewhere but their ids.
    let child = json!({ "queue": "mail", "text": "x", "after": ["1", "3"] });
    http.ask("POST /v1/jobs", &admin, &child.to_string()).expect(201);
    let why = http.ask("GET /v1/jobs/4/why", &limited, "").expect(200);
    assert_eq!(why["reasons"][0]["jobs"], json!([{ "id": "1", "state": "delayed" }, { "id": "3" }]));
    http.ask("GET /v1/jobs/3/why", &limited, "").problem(404, "job-not-found");
    assert_eq!(ask("cancel", &json!({ "all": true }))["done"], 3);
    let left = http.ask("GET /v1/jobs?q=id%3E0", &admin, "").expect(200);
    assert_eq!((left["jobs"].as_array().unwrap().len(), &left["jobs"][0]["queue"]), (1, &json!("work")));
    assert_eq!(http.ask("GET /v1/jobs?q=queue:work", &limited, "").expect(200)["jobs"], json!([]));
}
