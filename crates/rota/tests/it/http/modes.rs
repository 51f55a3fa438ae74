//! The API on every way to keep jobs: bodies that are in the log alone, jobs that are not in memory, no log at all.

use std::io::{Read, Write};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Http, end, put, reserve, server, start};
use crate::disk::{Mounted, not_run};
use crate::process::{Rota, on, until, wrapped};

#[test]
fn bodies_that_are_in_the_log_alone_are_read_there() {
    let flags = ["--storage", "lazy", "--max-job-size", "2MiB"];
    let (data, mut rota, http) = server(&flags);
    let texts: Vec<String> = (0..12).map(|n| format!("{n} {}", "x".repeat(n * 40_000))).collect();
    for text in &texts {
        put(&http, text);
    }
    let check = |http: &Http| {
        for (id, text) in (1..).zip(&texts) {
            assert_eq!(http.get(&format!("/v1/jobs/{id}")).expect(200)["text"], text.as_str());
        }
    };
    check(&http);
    rota.terminate();
    let rota = start(&data, &flags);
    let http = Http::to(rota.http());
    check(&http);
    let leases = http.post("/v1/leases", &json!({ "queues": ["work"], "count": 12 })).expect(200);
    let seen: Vec<&str> =
        leases["leases"].as_array().unwrap().iter().map(|lease| lease["job"]["text"].as_str().unwrap()).collect();
    assert_eq!(seen, texts);
    for lease in leases["leases"].as_array().unwrap() {
        end(&http, lease, "complete").expect(200);
    }
}

#[test]
fn jobs_that_left_memory_are_found_by_id_and_by_key() {
    let near = ["--storage", "mapped", "--near", "1s", "--segment-size", "64KiB", "--history", "0", "--sync", "never"];
    let (_data, _rota, http) = server(&near);
    let filler = "x".repeat(100);
    let job = |n: usize| json!({ "queue": "far", "text": format!("{n} {filler}"), "key": format!("k{n}"), "delay": format!("{}s", 3_600 + n) });
    let put = |first: usize| {
        let jobs: Vec<Value> = (first..first + 100).map(job).collect();
        let headers = format!("content-type: application/json\r\nidempotency-key: {first}\r\n");
        http.ask("POST /v1/jobs", &headers, &Value::from(jobs).to_string()).expect(200)
    };
    let answers: Vec<Value> = (1..3_000).step_by(100).map(put).collect();
    until("most of them left memory", || {
        let cold = http.get("/v1/stats").expect(200)["not_in_memory"].as_u64().unwrap();
        (cold > 2_250).then_some(())
    });
    assert_eq!(put(1), answers[0], "asked once more, they are shown as they are");
    assert_eq!(http.get("/v1/jobs/17").expect(200)["text"], format!("17 {filler}"));
    assert_eq!(http.get("/v1/queues/far/keys/k18").expect(200)["id"], "18");
    http.post("/v1/jobs", &job(19)).problem(409, "key-taken");
    let mut keep = job(20);
    keep["on_conflict"] = json!("keep");
    let mixed = json!([job(21), keep, { "queue": "far", "text": "" }]);
    let results = http.post("/v1/jobs", &mixed).expect(200);
    let statuses: Vec<_> = results["results"].as_array().unwrap().iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, [&json!(409), &json!(200), &json!(201)]);
    assert_eq!(http.delete("/v1/jobs/22").expect(200), json!({ "id": "22" }));
    assert_eq!(http.delete("/v1/queues/far/keys/k23").expect(200), json!({ "id": "23" }));
    http.delete("/v1/queues/far/keys/k23").problem(404, "key-not-found");
    assert_eq!(http.post_nothing("/v1/jobs/24/kick").expect(200)["state"], "ready");
    let kicked = http.post("/v1/queues/far/kick", &json!({ "limit": 10 })).expect(200);
    assert_eq!(kicked, json!({ "kicked": 10, "source": "delayed" }));
    assert_eq!(http.get("/v1/jobs/1").expect(200)["state"], "ready");
    let page = http.get("/v1/jobs?queue=far&state=delayed&limit=1000").expect(200);
    assert!(page["not_in_memory"].as_u64().unwrap() > 2_000, "{}", page["not_in_memory"]);
    assert_eq!(http.get("/v1/queues/far").expect(200)["jobs"]["delayed"], 2_987);
    // A filter that names them finds them; another says how many it did not look at.
    let found = http.get("/v1/jobs?q=id:30,31,2999&limit=2").expect(200);
    let found: Vec<&Value> = found["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    assert_eq!(found, [&json!("30"), &json!("31")]);
    let ids: Vec<String> = (30..330).map(|id: u64| id.to_string()).collect();
    let named = json!({ "q": format!("id:{} state:delayed", ids.join(",")), "dry_run": true });
    assert_eq!(http.post("/v1/jobs/kick", &named).expect(200)["would_do"], 300);
    let done = http.post("/v1/jobs/cancel", &json!({ "q": format!("id:{},1000000", ids.join(",")) })).expect(200);
    assert_eq!((&done["matched"], &done["done"]), (&json!(300), &json!(300)));
    http.get("/v1/jobs/300").problem(404, "job-not-found");
    assert_eq!(http.post("/v1/jobs/kick", &json!({ "q": "id:400" })).expect(200)["first"], json!(["400"]));
    assert_eq!(http.get("/v1/jobs/400").expect(200)["state"], "ready");
    let all = http.post("/v1/jobs/cancel", &json!({ "q": "state:delayed", "dry_run": true })).expect(200);
    let (matched, cold) = (all["matched"].as_u64().unwrap(), all["not_in_memory"].as_u64().unwrap());
    assert!(matched < 1_200 && cold > 1_500, "{all}");
    assert_eq!(http.get("/v1/jobs/500/why").expect(200)["reasons"][0]["reason"], "not_due");
}

#[test]
fn a_server_without_a_log_does_the_same() {
    let (_data, _rota, http) = server(&["--storage", "memory"]);
    put(&http, "x");
    let lease = reserve(&http);
    assert_eq!(lease["job"]["text"], "x");
    end(&http, &lease, "complete").expect(200);
    assert!(http.get("/v1/stats").expect(200).get("log").is_none());
}

#[test]
fn a_server_that_takes_its_last_snapshot_takes_no_more_jobs() {
    // A file is no folder: the snapshot fails, and the server goes on.
    let (_data, rota, http) = server(&["--snapshot-to", "/dev/null"]);
    put(&http, "x");
    rota.signal("USR1");
    rota.line(1, |line| line.contains("the server goes on"));
    assert_eq!(http.get("/readyz").status, 200);
    put(&http, "y");
    let lease = reserve(&http);
    end(&http, &lease, "complete").expect(200);
}

#[test]
fn a_full_disk_refuses_puts_and_jobs_can_be_ended_all_the_same() {
    let Some(disk) = Mounted::tmpfs("size=24m") else {
        return not_run("HTTP on a full disk", "to mount a small one takes root");
    };
    let rota = Rota::ready(disk.on(&["--segment-size", "1MiB", "--http", "127.0.0.1:0"]));
    let http = Http::to(rota.http());
    let job = json!({ "queue": "work", "text": "x".repeat(20_000) });
    let mut ids = Vec::new();
    let full = loop {
        assert!(ids.len() < 20_000, "the disk never got full");
        let answer = http.post("/v1/jobs", &job);
        if answer.status != 201 {
            break answer;
        }
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    };
    full.problem(507, "disk-full");
    let results = http.post("/v1/jobs", &json!([job, job])).expect(200);
    assert!(results["results"].as_array().unwrap().iter().all(|result| result["status"] == 507), "{results}");
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["ready"], ids.len());
    end(&http, &reserve(&http), "complete").expect(200);
    for id in &ids[1..] {
        http.delete(&format!("/v1/jobs/{id}")).expect(200);
    }
    until("there is room again", || (http.post("/v1/jobs", &job).status == 201).then_some(()));
}

#[test]
fn after_a_failed_write_not_one_more_answer_leaves() {
    let data = TempDir::new().unwrap();
    // A write of which the kernel takes a part, and then no more.
    let shell = "trap '' XFSZ; exec prlimit --fsize=1600000 \"$@\"";
    let command = wrapped(&["sh", "-c", shell, "sh"], &on(data.path(), &["--http", "127.0.0.1:0"]));
    let mut rota = Rota::ready(command);
    let http = Http::to(rota.http());
    let job = json!({ "queue": "work", "text": "x".repeat(20_000) }).to_string();
    let mut ids = Vec::new();
    loop {
        assert!(ids.len() < 1_000, "the log never failed");
        let mut stream = http.connect();
        stream.write_all(http.bytes("POST /v1/jobs", "content-type: application/json\r\n", &job).as_bytes()).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        if answer.is_empty() {
            break;
        }
        assert!(answer.starts_with(b"HTTP/1.1 201 "), "{}", String::from_utf8_lossy(&answer));
        let text = String::from_utf8(answer).unwrap();
        let (_, id) = text.split_once("\"id\":\"").unwrap();
        ids.push(id.split('"').next().unwrap().to_owned());
    }
    assert_eq!(rota.wait().code(), Some(4), "{}", rota.stderr());
    assert!(!ids.is_empty());
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    for id in &ids {
        http.get(&format!("/v1/jobs/{id}?body=none")).expect(200);
    }
    let ready = http.get("/v1/queues/work").expect(200)["jobs"]["ready"].as_u64().unwrap() as usize;
    assert!((ids.len()..=ids.len() + 1).contains(&ready), "{ready} jobs, {} acknowledged", ids.len());
}
