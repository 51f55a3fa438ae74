//! Queues that are set up to be safer than others: durable leases, which outlive a server that is killed, and answers that
//! wait for the disk whatever `--sync` says.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::leases::stream::{lease, take, until_waiting};
use super::{end, reserve, server, start};
use crate::disk::not_run;
use crate::process::{Rota, on, until};
use crate::strace;
use crate::wire::Wire;

fn set_up(http: &Http, queue: &str, settings: &Value) {
    let set = http.put(&format!("/v1/queues/{queue}/settings"), settings).expect(200);
    assert_eq!(set, *settings);
}

fn put_for(http: &Http, ttr: &str) -> String {
    let job = http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "ttr": ttr })).expect(201);
    job["id"].as_str().unwrap().to_owned()
}

/// What jobs of the queue are handed out now.
fn taken(http: &Http) -> usize {
    let leases = http.post("/v1/leases", &json!({ "queues": ["work"], "count": 100 })).expect(200);
    leases["leases"].as_array().unwrap().len()
}

#[test]
fn a_job_stays_held_by_its_lease_while_the_server_is_killed_and_started_again() {
    for flags in [&["--sync", "always"][..], &["--sync", "never"], &["--storage", "mapped", "--segment-size", "64KiB"]]
    {
        let (data, mut rota, http) = server(flags);
        set_up(&http, "work", &json!({ "durable_leases": true, "retain": "3600s" }));
        let verbs = [("complete", "done"), ("fail", "delayed"), ("release", "ready"), ("bury", "buried")];
        let held: Vec<(String, Value)> = verbs.map(|_| (put_for(&http, "10m"), reserve(&http))).into();
        for _ in 0..2 {
            rota.kill();
            rota = start(&data, flags);
        }
        let http = Http::to(rota.http());
        assert_eq!(taken(&http), 0, "nobody else has them meanwhile");
        for ((verb, state), (id, lease)) in verbs.into_iter().zip(&held) {
            let why = http.get(&format!("/v1/jobs/{id}/why")).expect(200);
            assert_eq!((&why["reasons"][0]["reason"], &why["reasons"][0]["durable"]), (&json!("held"), &json!(true)));
            let shown = http.get(&format!("/v1/jobs/{id}")).expect(200);
            assert_eq!((&shown["state"], &shown["reserves"]), (&json!("reserved"), &json!(1)), "{shown}");
            let moment = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            // Time without a server does not count, so that it may be later.
            assert!(moment(&shown["lease_ends_at"]) >= moment(&lease["ends_at"]), "{shown}");
            let touched = end(&http, lease, "touch").expect(200);
            assert_eq!(touched["lease"], lease["lease"]);
            end(&http, lease, verb).expect(200);
            assert_eq!(http.get(&format!("/v1/jobs/{id}")).expect(200)["state"], state);
            let reason = end(&http, lease, "touch").problem(409, "lease-outdated")["reason"].clone();
            assert_ne!(reason, "restart");
        }
        // It is over for good.
        rota.kill();
        let rota = start(&data, flags);
        let http = Http::to(rota.http());
        let states = held.iter().map(|(id, _)| http.get(&format!("/v1/jobs/{id}")).expect(200)["state"].clone());
        assert_eq!(states.collect::<Vec<_>>(), verbs.map(|(_, state)| json!(state)));
    }
}

#[test]
fn a_lease_that_nobody_ends_runs_out_behind_the_start() {
    let (data, mut rota, http) = server(&[]);
    set_up(&http, "work", &json!({ "durable_leases": true, "concurrency": 1 }));
    let id = put_for(&http, "2s");
    put_for(&http, "10m");
    let lease = reserve(&http);
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let view = || http.get(&format!("/v1/jobs/{id}")).expect(200);
    if view()["state"] == "reserved" {
        let why = http.get("/v1/jobs/2/why").expect(200);
        assert!(why.to_string().contains("concurrency") || view()["state"] == "ready", "{why}");
    }
    let lost = until("its lease runs out", || Some(view()).filter(|view| view["state"] == "ready"));
    assert_eq!((&lost["lost_leases"], &lost["reserves"]), (&json!(1), &json!(1)), "{lost}");
    let problem = end(&http, &lease, "complete").problem(409, "lease-outdated");
    assert_eq!(problem["reason"], "lost");
    let again = reserve(&http);
    assert_eq!(again["job"]["id"], id.as_str());
    assert_ne!(again["lease"], lease["lease"]);
    end(&http, &again, "complete").expect(200);
}

#[test]
fn a_job_of_a_stream_stays_with_its_holder_over_a_kill_and_a_stop() {
    let (data, mut rota, http) = server(&[]);
    set_up(&http, "work", &json!({ "durable_leases": true, "retain": "3600s" }));
    let wish = json!({ "queues": ["work"], "max": 10 });
    let ends: [fn(&mut Rota); 2] = [Rota::kill, |rota| assert!(rota.terminate().success())];
    for end_of_server in ends {
        let http = Http::to(rota.http());
        let verbs = [("complete", "done"), ("fail", "delayed"), ("release", "ready")];
        let ids = verbs.map(|_| put_for(&http, "10m"));
        let mut stream = take(&http, &wish);
        let held = verbs.map(|_| lease(&mut stream));
        end_of_server(&mut rota);
        rota = start(&data, &[]);
        let http = Http::to(rota.http());
        // Who takes jobs then is handed what comes, and nothing of that.
        let mut other = take(&http, &wish);
        until_waiting(&http, 1);
        let fresh = put_for(&http, "10m");
        let next = lease(&mut other);
        assert_eq!(next["job"]["id"], fresh.as_str());
        drop(other);
        until_waiting(&http, 0);
        for (((verb, state), id), lease) in verbs.into_iter().zip(&ids).zip(&held) {
            assert_eq!((&lease["job"]["id"], &lease["durable"]), (&json!(id), &json!(true)), "{lease}");
            assert_eq!(end(&http, lease, "touch").expect(200)["lease"], lease["lease"]);
            end(&http, lease, verb).expect(200);
            let seen = http.get(&format!("/v1/jobs/{id}")).expect(200);
            let counts = (&seen["state"], &seen["reserves"], &seen["lost_leases"]);
            assert_eq!(counts, (&json!(state), &json!(1), &json!(0)), "{seen}");
        }
        end(&http, &next, "complete").expect(200);
        http.post("/v1/jobs/cancel", &json!({ "q": "state:ready,delayed" })).expect(200);
    }
    // One that nobody goes on with comes to the next when its time is over, and not before.
    let id = put_for(&Http::to(rota.http()), "1s");
    let gone = lease(&mut take(&Http::to(rota.http()), &wish));
    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let again = lease(&mut take(&http, &wish));
    assert_eq!((&again["job"]["id"], &again["job"]["lost_leases"]), (&json!(id), &json!(1)), "{again}");
    assert_eq!(end(&http, &gone, "complete").problem(409, "lease-outdated")["reason"], "replaced");
    end(&http, &again, "complete").expect(200);
}

#[test]
fn a_lease_says_whether_it_outlives_the_server() {
    let yes = json!(true);
    for (flags, durable) in [(&[][..], Some(&yes)), (&["--storage", "memory"], None)] {
        let (_data, _rota, http) = server(flags);
        set_up(&http, "work", &json!({ "durable_leases": true }));
        let id = put_for(&http, "10m");
        let lease = reserve(&http);
        assert_eq!(lease.get("durable"), durable, "{flags:?}: {lease}");
        let why = || http.get(&format!("/v1/jobs/{id}/why")).expect(200);
        assert_eq!(why()["reasons"][0].get("durable"), durable, "{flags:?}: {}", why());
        // As it was given, it stays.
        set_up(&http, "work", &json!({}));
        assert_eq!(why()["reasons"][0].get("durable"), durable, "{flags:?}: {}", why());
        end(&http, &lease, "release").expect(200);
        let lease = reserve(&http);
        assert_eq!(lease.get("durable"), None, "{flags:?}: {lease}");
        assert_eq!(why()["reasons"][0].get("durable"), None, "{flags:?}: {}", why());
    }
}

#[test]
fn over_the_beanstalkd_protocol_the_connection_holds_the_job_and_ends_with_the_server() {
    let (data, mut rota, http) = server(&[]);
    set_up(&http, "work", &json!({ "durable_leases": true }));
    put_for(&http, "10m");
    let mut wire = Wire::to(rota.address());
    wire.expect("watch work", "WATCHING 2");
    assert!(wire.ask("reserve").line.starts_with("RESERVED 1 "));
    rota.kill();
    let rota = start(&data, &[]);
    let again = reserve(&Http::to(rota.http()));
    assert_eq!((&again["job"]["id"], &again["job"]["lost_leases"]), (&json!("1"), &json!(0)));
}

#[test]
fn the_log_shows_durable_leases_and_what_happened_to_them_is_told_later() {
    let (data, mut rota, http) = server(&[]);
    set_up(&http, "work", &json!({ "durable_leases": true }));
    put_for(&http, "10m");
    let lease = reserve(&http);
    end(&http, &lease, "touch").expect(200);
    rota.kill();
    let shown = Command::new(env!("CARGO_BIN_EXE_rota")).args(["log", "show"]).arg(data.path()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [" lease_given ", "token=1.1", " lease_extended ", "durable_leases"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let rota = start(&data, &[]);
    let told = Http::to(rota.http()).ask("GET /v1/events?after=0&follow=false&kind=job.reserved,lease.*", "", "");
    let kinds: Vec<&str> = told.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds, ["resumed", "job.reserved", "lease.extended", "end"], "{}", told.body);
}

/// How long each sync takes.
const SLOW: Duration = Duration::from_millis(500);

#[test]
fn a_queue_that_asks_for_the_disk_has_its_answers_wait_for_it_and_no_other_queue_has() {
    if !strace::is_here() {
        return not_run("a slow sync", "it takes strace, and a kernel that lets it trace");
    }
    for sync in ["never", "1m"] {
        let data = TempDir::new().unwrap();
        let slow = format!("inject=fdatasync:delay_enter={}:when=1+1", SLOW.as_micros());
        let flags = ["--sync", sync, "--http", "127.0.0.1:0"];
        let mut rota = Rota::spawn(strace::injecting(&on(data.path(), &flags), &[&slow]));
        assert!(rota.comes_up(), "{}", rota.stderr());
        let http = Http::to(rota.http());
        set_up(&http, "safe", &json!({ "sync": "always" }));
        let timed = |work: &mut dyn FnMut()| {
            let since = Instant::now();
            work();
            since.elapsed()
        };
        let put = |queue: &str| http.post("/v1/jobs", &json!({ "queue": queue, "text": "x" })).expect(201);
        let took = timed(&mut || drop(put("safe")));
        assert!(took >= SLOW, "a put was answered after {took:?} with --sync {sync}");
        let mut wire = Wire::to(rota.address());
        wire.expect("use safe", "USING safe");
        let took = timed(&mut || _ = wire.put("put 0 0 60", b"x"));
        assert!(took >= SLOW, "a put over the beanstalkd protocol was answered after {took:?} with --sync {sync}");
        let mut lease = http.post("/v1/leases", &json!({ "queues": ["safe"] })).expect(200);
        let lease = lease["leases"].as_array_mut().unwrap().pop().unwrap();
        let took = timed(&mut || drop(end(&http, &lease, "complete").expect(200)));
        assert!(took >= SLOW, "it was completed after {took:?} with --sync {sync}");
        // Each of them would take that long if it waited for the disk.
        until("a put of another queue is answered sooner", || (timed(&mut || drop(put("plain"))) < SLOW).then_some(()));
        assert_eq!(rota.terminate().code(), Some(0), "{}", rota.stderr());
    }
}

#[test]
fn a_server_without_a_disk_refuses_to_wait_for_one() {
    let (_data, _rota, http) = server(&["--storage", "memory"]);
    let problem = http.put("/v1/queues/work/settings", &json!({ "sync": "always" })).problem(422, "bad-value");
    assert_eq!(problem["pointer"], "#/sync");
    let (_data, _rota, http) = server(&[]);
    let problem = http.put("/v1/queues/work/settings", &json!({ "sync": "50ms" })).problem(422, "bad-value");
    assert_eq!(problem["pointer"], "#/sync");
}
