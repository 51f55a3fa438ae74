//! Why jobs are where they are: each reason in its own words, and the one that binds first.

use serde_json::{Value, json};

use super::client::Http;
use super::{put, reserve, server, start};
use crate::wire::Wire;

fn why(http: &Http, id: &str) -> Vec<Value> {
    let why = http.get(&format!("/v1/jobs/{id}/why")).expect(200);
    assert_eq!(why["id"], id);
    let reasons = why["reasons"].as_array().unwrap().clone();
    assert!(reasons.iter().all(|reason| reason["says"].as_str().is_some_and(|says| !says.is_empty())), "{reasons:?}");
    reasons
}

/// The names of the reasons, in their order.
fn names(reasons: &[Value]) -> Vec<&str> {
    reasons.iter().map(|reason| reason["reason"].as_str().unwrap()).collect()
}

fn put_with(http: &Http, members: &Value) -> String {
    let mut job = json!({ "queue": "work", "text": "x" });
    for (name, value) in members.as_object().unwrap() {
        job[name] = value.clone();
    }
    http.post("/v1/jobs", &job).expect(201)["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_ready_job_says_what_its_queue_waits_for() {
    let (_data, rota, http) = server(&[]);
    let (first, second) = (put(&http, "1"), put(&http, "2"));
    let reasons = why(&http, &first);
    assert_eq!(names(&reasons), ["nobody_waits"]);
    assert_eq!(reasons[0]["says"], "nobody takes jobs of the queue work");
    let urgent = put_with(&http, &json!({ "priority": 1 }));
    let reasons = why(&http, &second);
    assert_eq!(names(&reasons), ["nobody_waits", "behind"]);
    assert_eq!((&reasons[1]["jobs"], &reasons[1]["is_exact"]), (&json!(2), &json!(true)));
    assert_eq!(reasons[1]["says"], "2 jobs of the queue work come before it");
    assert_eq!(names(&why(&http, &urgent)), ["nobody_waits"]);
    // Who watches and does something else is told apart from nobody.
    let mut wire = Wire::to(rota.address());
    wire.expect("watch work", "WATCHING 2");
    reserve(&http);
    let reasons = why(&http, &first);
    assert_eq!((&reasons[0]["watching"], &reasons[0]["held"]), (&json!(1), &json!(1)));
    let settings = json!({ "concurrency": 1, "rate": { "count": 1, "per": "3600s" } });
    http.put("/v1/queues/work/settings", &settings).expect(200);
    let reasons = why(&http, &first);
    assert_eq!(names(&reasons), ["concurrency", "nobody_waits"]);
    assert_eq!((&reasons[0]["held"], &reasons[0]["limit"]), (&json!(1), &json!(1)));
    http.put("/v1/queues/work/settings", &json!({ "rate": { "count": 1, "per": "3600s" } })).expect(200);
    reserve(&http);
    http.post("/v1/queues/work/pause", &json!({ "for": "1h" })).expect(200);
    let reasons = why(&http, &second);
    assert_eq!(names(&reasons), ["paused", "rate", "nobody_waits"]);
    assert!(reasons[0]["says"].as_str().unwrap().starts_with("the queue work is paused until 2"), "{reasons:?}");
    assert!(reasons[1]["until"].is_string());
}

#[test]
fn a_job_with_a_limit_key_says_what_that_waits_for() {
    let (_data, _rota, http) = server(&[]);
    let limit = |per_key: Value| http.put("/v1/queues/work/settings", &json!({ "per_key": per_key })).expect(200);
    limit(json!({ "concurrency": 1 }));
    let [_, second, third] = [(); 3].map(|()| put_with(&http, &json!({ "limit_key": "acme" })));
    let other = put_with(&http, &json!({ "limit_key": "other" }));
    let plain = put(&http, "plain");
    let place = |id: &str| {
        let reasons = why(&http, id);
        let behind = reasons.iter().find(|reason| reason["reason"] == "behind");
        behind.map_or(json!([0, true]), |behind| json!([behind["jobs"], behind["is_exact"]]))
    };
    // Those of other keys that stand behind the first of theirs are not counted.
    assert_eq!([place(&second), place(&third)], [json!([1, true]), json!([2, true])]);
    assert_eq!([place(&other), place(&plain)], [json!([1, false]), json!([2, false])]);
    reserve(&http);
    let reasons = why(&http, &second);
    assert_eq!(names(&reasons), ["key_concurrency", "nobody_waits"]);
    assert_eq!(
        (&reasons[0]["limit_key"], &reasons[0]["held"], &reasons[0]["limit"]),
        (&json!("acme"), &json!(1), &json!(1))
    );
    assert_eq!(reasons[0]["says"], "at most 1 of the limit key \"acme\" may be held, and 1 are");
    assert_eq!([place(&third), place(&other)], [json!([1, true]), json!([0, true])]);
    limit(json!({ "rate": { "count": 1, "per": "3600s" } }));
    reserve(&http);
    let reasons = why(&http, &third);
    assert_eq!(names(&reasons), ["key_rate", "nobody_waits"]);
    assert!(reasons[0]["until"].is_string() && reasons[0]["says"].as_str().unwrap().contains("at 2"), "{reasons:?}");
    assert_eq!(names(&why(&http, &plain)), ["nobody_waits", "behind"]);
}

#[test]
fn a_job_that_is_not_ready_says_what_it_waits_for_and_what_came_of_it() {
    let (data, mut rota, http) = server(&[]);
    let failed = put_with(&http, &json!({ "max_attempts": 1 }));
    let lease = reserve(&http)["lease"].as_str().unwrap().to_owned();
    http.post(&format!("/v1/leases/{lease}/fail"), &json!({ "error": "no route" })).expect(200);
    let asked = put(&http, "buried");
    super::end(&http, &reserve(&http), "bury").expect(200);
    let delayed = put_with(&http, &json!({ "delay": "1h" }));
    let gone = put_with(&http, &json!({ "delay": "1h" }));
    let blocked = put_with(&http, &json!({ "after": [failed, delayed] }));
    let held_up = put_with(&http, &json!({ "after": [gone], "on_parent_failure": "hold" }));
    http.delete(&format!("/v1/jobs/{gone}")).expect(200);
    let check = |http: &Http| {
        let reasons = why(http, &failed);
        assert_eq!((names(&reasons), &reasons[0]["because"]), (vec!["buried"], &json!("attempts")));
        let says = "it is buried until it is kicked: 1 of 1 attempts failed, the last time with \"no route\"";
        assert_eq!((&reasons[0]["says"], &reasons[0]["error"]), (&json!(says), &json!("no route")));
        assert_eq!(why(http, &asked)[0]["because"], "asked");
        assert_eq!(names(&why(http, &delayed)), ["not_due"]);
        let reasons = why(http, &blocked);
        let jobs = json!([{ "id": failed, "state": "buried" }, { "id": delayed, "state": "delayed" }]);
        assert_eq!((names(&reasons), &reasons[0]["jobs"]), (vec!["waits_for"], &jobs));
        assert_eq!(reasons[0]["says"], format!("it waits for {failed} (buried), {delayed} (delayed)"));
        let reasons = why(http, &held_up);
        assert_eq!((names(&reasons), &reasons[0]["job"]), (vec!["held_up"], &json!(gone)));
    };
    check(&http);
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    check(&http);
    // A pause counts where it lasts longer than the job's own delay.
    http.post("/v1/queues/work/pause", &json!({ "for": "2h" })).expect(200);
    assert_eq!(names(&why(&http, &delayed)), ["not_due", "paused"]);
    http.post_nothing("/v1/queues/work/resume").expect(200);
    http.put("/v1/queues/work/settings", &json!({ "retain": "3600s" })).expect(200);
    let job = put(&http, "held");
    let lease = reserve(&http);
    let touch = format!("/v1/leases/{}/touch", lease["lease"].as_str().unwrap());
    http.post(&touch, &json!({ "progress": "half" })).expect(200);
    let reasons = why(&http, &job);
    assert_eq!((names(&reasons), &reasons[0]["progress"]), (vec!["held"], &json!("half")));
    // Extending a lease does not begin it anew.
    let since = reasons[0]["since"].clone();
    http.post(&touch, &json!({})).expect(200);
    assert_eq!(why(&http, &job)[0]["since"], since);
    super::end(&http, &lease, "complete").expect(200);
    let reasons = why(&http, &job);
    assert_eq!(names(&reasons), ["over"]);
    assert!(reasons[0]["says"].as_str().unwrap().starts_with("it is done since 2"), "{reasons:?}");
    http.get("/v1/jobs/99/why").problem(404, "job-not-found");
}
