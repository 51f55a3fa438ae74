//! Leases: what their holders may do, and what becomes of one that has ended.

pub(super) mod stream;

use serde_json::{Value, json};

use super::client::Http;
use super::{end, put, reserve, server, start};
use crate::process::until;
use crate::wire::Wire;

/// What ends a lease.
type Finish<'a> = &'a dyn Fn(&Value);

fn verb(http: &Http, lease: &Value, verb: &str, body: &Value) -> super::client::Answer {
    http.post(&format!("/v1/leases/{}/{verb}", lease["lease"].as_str().unwrap()), body)
}

#[test]
fn a_lease_outlives_its_request_and_ends_with_its_job() {
    let (_data, rota, http) = server(&[]);
    let id = put(&http, "hi");
    let lease = reserve(&http);
    assert_eq!((&lease["job"]["id"], &lease["job"]["text"]), (&json!(id), &json!("hi")));
    assert_eq!((&lease["job"]["state"], &lease["job"]["reserves"]), (&json!("reserved"), &json!(1)));
    assert_eq!(lease["ends_at"], lease["job"]["lease_ends_at"]);
    // Nobody else gets the job, over whichever protocol.
    let nothing = json!({ "leases": [] });
    assert_eq!(http.post("/v1/leases", &json!({ "queues": ["work"] })).expect(200), nothing);
    let mut wire = Wire::to(rota.address());
    wire.expect("watch work", "WATCHING 2");
    wire.expect("reserve-with-timeout 0", "TIMED_OUT");
    wire.expect(&format!("delete {id}"), "NOT_FOUND");
    assert_eq!(end(&http, &lease, "complete").expect(200), json!({ "id": id }));
    end(&http, &lease, "complete").problem(409, "lease-outdated");
    assert_eq!(http.get("/v1/stats").expect(200)["totals"]["completed"], 1);
}

#[test]
fn jobs_come_in_their_order_from_all_the_queues() {
    let (_data, _rota, http) = server(&[]);
    for (queue, priority) in [("a", 5), ("b", 3), ("a", 3), ("default", 0), ("b", 9)] {
        let job = json!({ "queue": queue, "text": "", "priority": priority });
        http.post("/v1/jobs", &job).expect(201);
    }
    let ask = |count: u16| {
        let leases = http.post("/v1/leases", &json!({ "queues": ["b", "a", "b"], "count": count })).expect(200);
        let ids =
            leases["leases"].as_array().unwrap().iter().map(|lease| lease["job"]["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ask(3), ["2", "3", "1"]);
    assert_eq!(ask(100), ["5"], "what is there, and nothing of a queue that was not named");
}

#[test]
fn a_job_that_is_given_back_is_ready_delayed_or_aside() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "x");
    let released = end(&http, &reserve(&http), "release").expect(200);
    assert_eq!(
        (&released["state"], &released["releases"], &released["priority"]),
        (&json!("ready"), &json!(1), &json!(1024))
    );
    let released = verb(&http, &reserve(&http), "release", &json!({ "priority": 7, "delay": "1h" })).expect(200);
    assert_eq!(
        (&released["state"], &released["delay"], &released["priority"]),
        (&json!("delayed"), &json!("3600s"), &json!(7))
    );
    http.post_nothing("/v1/jobs/1/kick").expect(200);
    let buried = verb(&http, &reserve(&http), "bury", &json!({ "priority": 1 })).expect(200);
    assert_eq!((&buried["state"], &buried["buries"], &buried["priority"]), (&json!("buried"), &json!(1), &json!(1)));
    http.post_nothing("/v1/jobs/1/kick").expect(200);
    let buried = end(&http, &reserve(&http), "bury").expect(200);
    assert_eq!(buried["priority"], 1, "as it was");
}

#[test]
fn a_job_that_fails_too_often_is_buried() {
    let (_data, _rota, http) = server(&[]);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "", "max_attempts": 3 })).expect(201);
    let failed = verb(&http, &reserve(&http), "fail", &json!({ "delay": "0s" })).expect(200);
    assert_eq!((&failed["state"], &failed["attempts"]), (&json!("ready"), &json!(1)));
    let failed = verb(&http, &reserve(&http), "fail", &json!({ "delay": "10m" })).expect(200);
    assert_eq!((&failed["state"], &failed["delay"]), (&json!("delayed"), &json!("600s")));
    http.post_nothing("/v1/jobs/1/kick").expect(200);
    let failed = end(&http, &reserve(&http), "fail").expect(200);
    assert_eq!((&failed["state"], &failed["attempts"]), (&json!("buried"), &json!(3)));
}

#[test]
fn a_lease_that_ran_out_is_told_so_whoever_holds_the_job_then() {
    let (_data, _rota, http) = server(&[]);
    let job = json!({ "queue": "work", "text": "", "ttr": "1ms", "max_lost_leases": 0 });
    http.post("/v1/jobs", &job).expect(201);
    let first = reserve(&http);
    until("the lease runs out", || (http.get("/v1/jobs/1").expect(200)["state"] == "ready").then_some(()));
    assert_eq!(http.get("/v1/jobs/1").expect(200)["lost_leases"], 1);
    let detail =
        |answer: super::client::Answer| answer.problem(409, "lease-outdated")["detail"].as_str().unwrap().to_owned();
    assert!(detail(end(&http, &first, "touch")).contains("job 1 is ready"));
    http.delete("/v1/jobs/1").expect(200);
    put(&http, "held by another");
    let old = reserve(&http);
    end(&http, &old, "release").expect(200);
    let new = reserve(&http);
    assert_ne!(old["lease"], new["lease"]);
    for word in ["complete", "fail", "release", "bury", "touch"] {
        assert!(detail(end(&http, &old, word)).contains("held under another"), "{word}");
    }
    end(&http, &new, "complete").expect(200);
    assert!(detail(end(&http, &new, "complete")).contains("is over"));
}

#[test]
fn why_a_lease_ended_is_said_as_far_as_it_is_known() {
    for retain in [None, Some("1h")] {
        let (data, mut rota, http) = server(&[]);
        http.put("/v1/queues/work/settings", &json!({ "retain": retain })).expect(200);
        let job = |ttr: &str| {
            let job = json!({ "queue": "work", "text": "", "ttr": ttr, "max_lost_leases": 0 });
            http.post("/v1/jobs", &job).expect(201)["id"].as_str().unwrap().to_owned()
        };
        let reason = |http: &Http, lease: &Value, verb: &str| {
            let problem = end(http, lease, verb).problem(409, "lease-outdated");
            assert_eq!(problem["job"], lease["job"]["id"]);
            problem["reason"].as_str().unwrap().to_owned()
        };
        let hour = json!({ "delay": "1h" });
        let cases: [(&str, Finish<'_>); 5] = [
            ("completed", &|lease| drop(verb(&http, lease, "complete", &json!({})).expect(200))),
            ("released", &|lease| drop(verb(&http, lease, "fail", &hour).expect(200))),
            ("released", &|lease| drop(verb(&http, lease, "release", &hour).expect(200))),
            ("buried", &|lease| drop(verb(&http, lease, "bury", &json!({})).expect(200))),
            ("cancelled", &|lease| {
                drop(http.delete(&format!("/v1/jobs/{}", lease["job"]["id"].as_str().unwrap())).expect(200))
            }),
        ];
        let mut cancelled = None;
        for (expected, finish) in cases {
            job("1m");
            let lease = reserve(&http);
            finish(&lease);
            for verb in ["complete", "fail", "release", "bury", "touch"] {
                assert_eq!(reason(&http, &lease, verb), expected, "{verb}");
            }
            cancelled = Some(lease);
        }
        job("1m");
        let held = reserve(&http);
        let id = job("1ms");
        let lost = reserve(&http);
        until("the lease runs out", || {
            (http.get(&format!("/v1/jobs/{id}")).expect(200)["state"] == "ready").then_some(())
        });
        assert_eq!(reason(&http, &lost, "complete"), "lost");
        // What is there of a lease by another is not this one's.
        end(&http, &held, "release").expect(200);
        let again = reserve(&http);
        let older = if again["job"]["id"] == held["job"]["id"] { &held } else { &lost };
        assert_eq!(reason(&http, older, "touch"), "replaced");
        rota.terminate();
        let rota = start(&data, &[]);
        let http = Http::to(rota.http());
        assert_eq!(reason(&http, &held, "complete"), "restart");
        // Of one that is over it is told how it ended, whenever that was.
        assert_eq!(reason(&http, &cancelled.unwrap(), "complete"), "cancelled");
    }
}

#[test]
fn a_touch_begins_the_lease_anew() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "x");
    let lease = reserve(&http);
    let moment = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    until("the lease ends later", || {
        let touched = end(&http, &lease, "touch").expect(200);
        assert_eq!(touched["lease"], lease["lease"]);
        (moment(&touched["ends_at"]) > moment(&lease["ends_at"])).then_some(())
    });
    end(&http, &lease, "complete").expect(200);
}

#[test]
fn a_restart_ends_leases_without_fault() {
    let (data, mut rota, http) = server(&[]);
    put(&http, "x");
    let lease = reserve(&http);
    rota.terminate();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    end(&http, &lease, "complete").problem(409, "lease-outdated");
    let again = reserve(&http);
    assert_eq!((&again["job"]["id"], &again["job"]["lost_leases"]), (&json!("1"), &json!(0)));
    end(&http, &lease, "complete").problem(409, "lease-outdated");
    end(&http, &again, "complete").expect(200);
}

#[test]
fn who_holds_by_text_leaves_no_trace_among_the_connections() {
    let (_data, rota, http) = server(&[]);
    put(&http, "x");
    let lease = reserve(&http);
    let stats = Wire::to(rota.address()).ask("stats-tube work");
    assert_eq!((stats.count("current-watching"), stats.count("current-jobs-reserved")), (0, 1));
    let stats = Wire::to(rota.address()).ask("stats-tube default");
    assert_eq!((stats.count("current-watching"), stats.count("current-using")), (1, 1), "who asks, alone");
    end(&http, &lease, "complete").expect(200);
    http.get("/v1/queues/work").problem(404, "queue-not-found");
}

#[test]
fn numbers_in_what_a_holder_says_keep_their_digits() {
    let (_data, _rota, http) = server(&[]);
    http.put("/v1/queues/work/settings", &json!({ "retain": "1h" })).expect(200);
    let id = put(&http, "x");
    let lease = reserve(&http)["lease"].as_str().unwrap().to_owned();
    let shown = || http.get(&format!("/v1/jobs/{id}")).body;
    let number = "{\"n\":123456789012345678901234567890,\"part\":0.10}";
    let said = |name: &str| format!("{{\"{name}\": {}}}", number.replace(',', ",\n  "));
    http.post_text(&format!("/v1/leases/{lease}/touch"), &said("progress")).expect(200);
    assert!(shown().contains(&format!("\"progress\":{number}")), "{}", shown());
    http.post_text(&format!("/v1/leases/{lease}/complete"), &said("result")).expect(200);
    assert!(shown().contains(&format!("\"result\":{number}")), "{}", shown());
}
