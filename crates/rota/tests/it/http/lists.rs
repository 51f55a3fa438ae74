//! Lists, a page at a time.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::Http;
use super::{end, reserve, server, start};

/// Puts so many jobs into a queue.
fn fill(http: &Http, queue: &str, jobs: usize) {
    for first in (0..jobs).step_by(1000) {
        let jobs = vec![json!({ "queue": queue, "text": "x" }); 1000.min(jobs - first)];
        http.post("/v1/jobs", &jobs.into()).expect(200);
    }
}

/// All jobs of a list, page by page, and how many pages there were.
fn walk(http: &Http, query: &str) -> (Vec<Value>, usize) {
    let (mut jobs, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = http.get(&format!("/v1/jobs?{query}{cursor}")).expect(200);
        jobs.extend(page["jobs"].as_array().unwrap().iter().cloned());
        pages += 1;
        match page.get("cursor") {
            Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
            None => return (jobs, pages),
        }
    }
}

fn ids(jobs: &[Value]) -> BTreeSet<u64> {
    jobs.iter().map(|job| job["id"].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn every_job_is_listed_once() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    fill(&http, "many", 2_500);
    fill(&http, "few", 3);
    let (jobs, pages) = walk(&http, "limit=1000");
    assert_eq!((jobs.len(), ids(&jobs).len(), pages), (2_503, 2_503, 3));
    let (jobs, _) = walk(&http, "queue=few");
    assert_eq!(ids(&jobs), BTreeSet::from([2_501, 2_502, 2_503]));
    assert!(jobs.iter().all(|job| job["queue"] == "few" && job.get("text").is_none()));
    let (jobs, pages) = walk(&http, "queue=many&limit=7");
    assert_eq!((ids(&jobs).len(), pages), (2_500, 358));
    assert_eq!(walk(&http, "queue=nobody").0, Vec::<Value>::new());
}

#[test]
fn a_page_of_long_jobs_is_short() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    http.put("/v1/queues/work/settings", &json!({ "retain": "1h" })).expect(200);
    fill(&http, "work", 40);
    for _ in 0..40 {
        let lease = reserve(&http)["lease"].as_str().unwrap().to_owned();
        let result = json!({ "result": "r".repeat(60_000) });
        http.post(&format!("/v1/leases/{lease}/complete"), &result).expect(200);
    }
    fill(&http, "work", 500);
    let (mut cursor, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let answer = http.get(&format!("/v1/jobs?limit=1000{cursor}"));
        assert!(answer.body.len() < 1_300_000, "{}", answer.body.len());
        let page = answer.expect(200);
        seen.extend(page["jobs"].as_array().unwrap().iter().cloned());
        pages += 1;
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!((3..9).contains(&pages), "{pages}");
    assert_eq!((seen.len(), ids(&seen).len()), (540, 540));
    assert_eq!(seen.iter().filter(|job| job["result"].as_str().is_some_and(|said| said.len() == 60_000)).count(), 40);
}

#[test]
fn jobs_are_listed_by_state() {
    let (_data, _rota, http) = server(&[]);
    fill(&http, "work", 3);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "", "delay": "1h" })).expect(201);
    end(&http, &reserve(&http), "bury").expect(200);
    reserve(&http);
    for (state, expected) in [("buried", 1), ("reserved", 2), ("ready", 3), ("delayed", 4)] {
        let (jobs, _) = walk(&http, &format!("queue=work&state={state}"));
        assert_eq!(ids(&jobs), BTreeSet::from([expected]), "{state}");
        assert_eq!(jobs[0]["state"], state);
        assert_eq!(jobs[0].get("lease_ends_at").is_some(), state == "reserved");
    }
}

#[test]
fn a_page_of_few_among_many_goes_on() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    fill(&http, "many", 25_000);
    fill(&http, "few", 1);
    // The first page looks through 20,000 jobs and finds none: nothing says where one of that id stands.
    let page = http.get("/v1/jobs?q=id%3E25000").expect(200);
    assert_eq!((page["jobs"].as_array().unwrap().len(), page.get("cursor").is_some()), (0, true));
    assert_eq!(walk(&http, "q=id%3E25000").0.len(), 1);
}

#[test]
fn few_among_many_are_found_where_they_stand() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    fill(&http, "many", 25_000);
    fill(&http, "few", 5);
    for lease in
        http.post("/v1/leases", &json!({ "queues": ["few"], "count": 3 })).expect(200)["leases"].as_array().unwrap()
    {
        end(&http, lease, "bury").expect(200);
    }
    // None of them is among the first 20,000, and each list is whole with its first page.
    for (query, expected) in [
        ("queue=few", &[25_001, 25_002, 25_003, 25_004, 25_005][..]),
        ("q=queue:few+state:buried", &[25_001, 25_002, 25_003]),
        ("state=buried", &[25_001, 25_002, 25_003]),
        ("q=queue:f*+-state:buried+id%3E25004", &[25_005]),
        ("queue=nobody", &[]),
        ("q=state:buried+error:nothing", &[]),
    ] {
        let page = http.get(&format!("/v1/jobs?{query}")).expect(200);
        assert_eq!(
            (ids(page["jobs"].as_array().unwrap()), page.get("cursor")),
            (expected.iter().copied().collect(), None),
            "{query}"
        );
    }
    // Page by page, while some go and others come.
    let page = http.get("/v1/jobs?queue=few&limit=2").expect(200);
    assert_eq!(ids(page["jobs"].as_array().unwrap()), BTreeSet::from([25_001, 25_002]));
    http.delete("/v1/jobs/25002").expect(200);
    http.delete("/v1/jobs/25004").expect(200);
    http.post_nothing("/v1/jobs/25001/kick").expect(200);
    http.post("/v1/jobs", &json!({ "queue": "few", "text": "new" })).expect(201);
    let (listed, _) = walk(&http, &format!("queue=few&limit=2&cursor={}", page["cursor"].as_str().unwrap()));
    let rest = ids(&listed);
    assert!(rest.is_superset(&BTreeSet::from([25_003, 25_005])) && listed.len() == rest.len(), "{rest:?}");
    assert!(rest.is_disjoint(&BTreeSet::from([25_001, 25_002, 25_004])), "{rest:?}");
    // So it is with a verb for many: what a dry run counts is done, in that order.
    let some = json!({ "q": "queue:few state:buried,ready", "limit": 1, "dry_run": true });
    let first = http.post("/v1/jobs/cancel", &some).expect(200)["first"].clone();
    assert_eq!(first, json!(["25001"]));
    let dry = http.post("/v1/jobs/kick", &json!({ "q": "queue:few", "dry_run": true })).expect(200);
    assert_eq!((&dry["matched"], &dry["would_do"], &dry["first"]), (&json!(4), &json!(1), &json!(["25003"])));
    let done = http.post("/v1/jobs/kick", &json!({ "q": "queue:few" })).expect(200);
    assert_eq!((&done["matched"], &done["done"], &done["first"]), (&json!(4), &json!(1), &json!(["25003"])));
    assert_eq!(done.get("cursor"), None);
}

#[test]
fn a_cursor_belongs_to_its_list_and_its_run_of_the_server() {
    let (data, mut rota, http) = server(&[]);
    fill(&http, "work", 3);
    let cursor = |http: &Http, path: &str| http.get(path).expect(200)["cursor"].as_str().unwrap().to_owned();
    let jobs = cursor(&http, "/v1/jobs?queue=work&limit=1");
    let queues = cursor(&http, "/v1/queues?limit=1");
    for path in [
        format!("/v1/jobs?limit=1&cursor={jobs}"),
        format!("/v1/jobs?queue=other&cursor={jobs}"),
        format!("/v1/jobs?queue=work&state=ready&cursor={jobs}"),
        format!("/v1/jobs?queue=work&cursor={queues}"),
        format!("/v1/queues?cursor={jobs}"),
        "/v1/jobs?queue=work&cursor=".to_owned(),
        "/v1/jobs?queue=work&cursor=nonsense".to_owned(),
    ] {
        http.get(&path).problem(400, "bad-cursor");
    }
    assert_eq!(
        http.get(&format!("/v1/jobs?queue=work&cursor={jobs}")).expect(200)["jobs"].as_array().unwrap().len(),
        2
    );
    rota.terminate();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    http.get(&format!("/v1/jobs?queue=work&cursor={jobs}")).problem(410, "cursor-outdated");
    http.get(&format!("/v1/queues?cursor={queues}")).problem(410, "cursor-outdated");
}

#[test]
fn queues_are_listed_in_the_order_they_came_in() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    for queue in ["b", "a", "c"] {
        fill(&http, queue, 1);
    }
    let first = http.get("/v1/queues?limit=3").expect(200);
    let names = |page: &Value| -> Vec<String> {
        page["queues"].as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&first), ["default", "b", "a"]);
    let rest = http.get(&format!("/v1/queues?cursor={}", first["cursor"].as_str().unwrap())).expect(200);
    assert_eq!((names(&rest), rest.get("cursor")), (vec!["c".to_owned()], None));
}
