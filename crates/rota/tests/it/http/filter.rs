//! Filters of jobs: which jobs are listed by them, how the walk goes on, and what is refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::{Answer, Http};
use super::{end, escape, put, reserve, server, start};

/// All ids of a filter's list, page by page.
fn ids(http: &Http, filter: &str, limit: usize) -> BTreeSet<u64> {
    let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = http.get(&format!("/v1/jobs?limit={limit}&q={}{cursor}", escape(filter))).expect(200);
        for job in page["jobs"].as_array().unwrap() {
            let is_new = ids.insert(job["id"].as_str().unwrap().parse().unwrap());
            assert!(is_new, "{job} is listed twice by {filter}");
        }
        match page.get("cursor") {
            Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
            None => return ids,
        }
    }
}

fn ask(http: &Http, filter: &str) -> Answer {
    http.get(&format!("/v1/jobs?q={}", escape(filter)))
}

/// A job of each kind: what they are is said beside their numbers.
fn stage(http: &Http) {
    for job in [
        json!({ "queue": "work", "text": "1 is failed", "max_attempts": 1 }),
        json!({ "queue": "work", "text": "2 is held", "ttr": "1h" }),
        json!({ "queue": "mail-eu", "text": "3", "kind": "welcome", "headers": { "trace": "00-7" }, "key": "user-1" }),
        json!({ "queue": "mail-us", "text": "4".repeat(2048), "kind": "news letter", "key": "user,2" }),
        json!({ "queue": "mail-eu", "text": "5", "delay": "10m", "priority": 3, "max_attempts": 7 }),
        json!({ "queue": "mail-eu", "text": "6", "delay": "2h" }),
        json!({ "queue": "mail-eu", "text": "7", "after": ["3", "5"] }),
        json!({ "queue": "mail-eu", "text": "8", "after": ["5"] }),
    ] {
        http.post("/v1/jobs", &job).expect(201);
    }
    let failed = reserve(http)["lease"].as_str().unwrap().to_owned();
    let error = json!({ "error": "Connection timed out, twice" });
    http.post(&format!("/v1/leases/{failed}/fail"), &error).expect(200);
    let held = reserve(http)["lease"].as_str().unwrap().to_owned();
    http.post(&format!("/v1/leases/{held}/touch"), &json!({ "progress": "half of it" })).expect(200);
}

const CASES: [(&str, &[u64]); 33] = [
    ("", &[1, 2, 3, 4, 5, 6, 7, 8]),
    ("queue:work", &[1, 2]),
    ("queue:mail-*", &[3, 4, 5, 6, 7, 8]),
    ("queue:*-us,work", &[1, 2, 4]),
    ("-queue:mail*", &[1, 2]),
    ("!queue:mail* !state:reserved", &[1]),
    ("state:buried,blocked", &[1, 7, 8]),
    ("state:ready queue:mail-eu", &[3]),
    ("kind:welcome", &[3]),
    ("kind:\"news letter\"", &[4]),
    ("kind:*", &[3, 4]),
    ("-kind:* state:delayed", &[5, 6]),
    ("key:user*", &[3, 4]),
    ("key:\"user,2\"", &[4]),
    ("header.trace:00-*", &[3]),
    ("error:\"TIMED out\"", &[1]),
    ("error:connection*twice", &[1]),
    ("error:twice*connection", &[]),
    ("error:*", &[1]),
    ("progress:half", &[2]),
    ("id:5,7,99", &[5, 7]),
    ("id>3 id<=5", &[4, 5]),
    ("priority<1024", &[5]),
    ("attempts>=1", &[1]),
    ("max_attempts:7", &[5]),
    ("reserves:1 buries:0", &[2]),
    ("body_bytes>=2KiB", &[4]),
    ("age>1h", &[]),
    ("age<1h id<3", &[1, 2]),
    ("due>15m", &[6]),
    ("state:delayed due<15m", &[5]),
    ("ttr:3600s", &[2]),
    ("waits_for:5 -waits_for:3", &[8]),
];

#[test]
fn jobs_are_listed_by_every_field_also_after_a_kill() {
    let (data, mut rota, http) = server(&[]);
    stage(&http);
    let check = |http: &Http, text: &str, expected: &[u64]| {
        for limit in [1, 1000] {
            assert_eq!(ids(http, text, limit), expected.iter().copied().collect(), "{text}");
        }
    };
    for (text, expected) in CASES {
        check(&http, text, expected);
    }
    assert_eq!(http.get("/v1/jobs?queue=mail-eu&state=delayed&q=due%3C15m").expect(200)["jobs"][0]["id"], "5");
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    // The lease is over with the run of the server, with what its holder said, and is not counted.
    let of_lease = ["progress:half", "!queue:mail* !state:reserved", "reserves:1 buries:0"];
    for (text, expected) in CASES.iter().filter(|(text, _)| !of_lease.contains(text)) {
        check(&http, text, expected);
    }
}

#[test]
fn what_came_of_a_job_and_what_holds_it_up_are_found_too() {
    let (_data, _rota, http) = server(&[]);
    http.put("/v1/queues/work/settings", &json!({ "retain": "3600s" })).expect(200);
    put(&http, "1");
    put(&http, "2");
    let held = json!({ "queue": "work", "text": "3", "after": ["2"], "on_parent_failure": "hold" });
    http.post("/v1/jobs", &held).expect(201);
    let lease = reserve(&http)["lease"].as_str().unwrap().to_owned();
    http.post(&format!("/v1/leases/{lease}/complete"), &json!({ "result": { "sent": 3 } })).expect(200);
    http.delete("/v1/jobs/2").expect(200);
    assert_eq!(ids(&http, "result:\"\\\"sent\\\":3\"", 1000), BTreeSet::from([1]));
    assert_eq!(ids(&http, "state:done,cancelled", 1000), BTreeSet::from([1, 2]));
    assert_eq!(ids(&http, "held_by:2 after:2", 1000), BTreeSet::from([3]));
}

#[test]
fn a_bad_filter_is_refused_with_its_place_and_a_suggestion() {
    let (_data, _rota, http) = server(&[]);
    let problem = ask(&http, "queue:mail stat:buried").problem(400, "bad-filter");
    assert_eq!(problem["detail"], "the filter: unknown field \"stat\" at 12");
    assert_eq!((&problem["hint"], &problem["column"]), (&json!("did you mean \"state\"?"), &json!(12)));
    ask(&http, "error:\"open").problem(400, "bad-filter");
    ask(&http, &"id:1 ".repeat(33)).problem(400, "bad-filter");
    ask(&http, &"x".repeat(2_049)).problem(400, "bad-filter");
    for verb in ["kick", "retry", "cancel"] {
        let problem = http.post(&format!("/v1/jobs/{verb}"), &json!({ "q": "age:1h" })).problem(400, "bad-filter");
        assert_eq!((&problem["pointer"], &problem["column"]), (&json!("#/q"), &json!(1)));
    }
}

#[test]
fn a_cursor_belongs_to_its_filter() {
    let (_data, _rota, http) = server(&[]);
    for text in ["1", "2", "3"] {
        put(&http, text);
    }
    let page = http.get("/v1/jobs?limit=1&q=queue:work").expect(200);
    let cursor = page["cursor"].as_str().unwrap();
    for other in ["q=queue:wor*", "q=", "q=queue:work+id%3E0"] {
        http.get(&format!("/v1/jobs?cursor={cursor}&{other}")).problem(400, "bad-cursor");
    }
    // The shorthand says the same.
    for same in ["q=queue:work", "queue=work", "q=+queue:%22work%22"] {
        let page = http.get(&format!("/v1/jobs?cursor={cursor}&{same}")).expect(200);
        assert_eq!(page["jobs"].as_array().unwrap().len(), 2, "{same}");
    }
    http.post("/v1/jobs/cancel", &json!({ "q": "queue:work", "cursor": cursor })).problem(400, "bad-cursor");
}

#[test]
fn a_request_looks_through_so_many_jobs_whatever_is_searched_for() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    for _ in 0..21 {
        http.post("/v1/jobs", &vec![json!({ "queue": "many", "text": "x" }); 1000].into()).expect(200);
    }
    let page: Value = ask(&http, "error:nothing id>0 -kind:*").expect(200);
    assert_eq!((page["jobs"].as_array().unwrap().len(), page.get("cursor").is_some()), (0, true));
    assert_eq!(ids(&http, "id>20999", 10), BTreeSet::from([21_000]));
    // Long texts make the slices short, and nothing is left out.
    let key = "k".repeat(190);
    let jobs: Vec<Value> =
        (0..1000).map(|n| json!({ "queue": "keys", "text": "x", "key": format!("{key}{n}") })).collect();
    http.post("/v1/jobs", &jobs.into()).expect(200);
    let many: Vec<String> = (0..60).map(|n| format!("x{n}")).collect();
    let filter = format!("-key:{} key:*{}", many.join(","), "7");
    assert_eq!(ids(&http, &filter, 1000).len(), 100);
    end(&http, &http.post("/v1/leases", &json!({ "queues": ["keys"] })).expect(200)["leases"][0], "complete")
        .expect(200);
}
