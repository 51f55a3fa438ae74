//! Schedules on the real server: set up, fired, missed, refused, by HTTP and by the command line.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Http, server, start};
use crate::process::until;

fn every(span: &str, queue: &str) -> Value {
    json!({ "every": span, "job": { "queue": queue, "text": "tick" } })
}

/// The ticks of a schedule's jobs that are there, in the order of the jobs.
fn ticks(http: &Http, queue: &str) -> Vec<String> {
    let page = http.get(&format!("/v1/jobs?queue={queue}&limit=1000")).expect(200);
    let jobs = page["jobs"].as_array().unwrap().iter();
    let mut jobs: Vec<(u64, String)> = jobs
        .map(|job| (job["id"].as_str().unwrap().parse().unwrap(), job["tick"].as_str().unwrap().to_owned()))
        .collect();
    jobs.sort();
    jobs.into_iter().map(|(_, tick)| tick).collect()
}

#[test]
fn a_schedule_is_set_up_shown_changed_paused_and_deleted() {
    let (_data, _rota, http) = server(&[]);
    let job = json!({
        "queue": "reports", "json": { "day": "yesterday" }, "priority": 5, "ttr": "90s", "key": "nightly", "kind": "report",
        "headers": { "trace": "1" }, "max_attempts": 3, "max_lost_leases": 2, "expires_in": "2h",
        "back_off": { "first": "5s", "factor": 1.5, "most": "60s", "jitter_percent": 0 },
    });
    let new = json!({
        "cron": "30 4 * * 1-5", "zone": "europe/berlin", "on_missed": "all", "on_overlap": "skip", "job": job,
    });
    let set = http.put("/v1/schedules/nightly", &new).expect(201);
    assert_eq!((&set["name"], &set["zone"]), (&json!("nightly"), &json!("Europe/Berlin")));
    let next = set["next"].as_array().unwrap();
    assert_eq!(next.len(), 5);
    for tick in next {
        let tick: jiff::Timestamp = tick.as_str().unwrap().parse().unwrap();
        let shown = tick.in_tz("Europe/Berlin").unwrap();
        assert_eq!((shown.hour(), shown.minute(), shown.second()), (4, 30, 0));
        assert!(shown.weekday().to_monday_one_offset() <= 5);
    }
    assert_eq!(set["job"]["json"], job["json"]);
    for member in ["priority", "ttr", "key", "kind", "headers", "max_attempts", "max_lost_leases", "back_off"] {
        assert_eq!(set["job"][member], job[member], "{member}");
    }
    assert_eq!((&set["fired"], &set["missed"], &set["refused"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(http.get("/v1/schedules/nightly").expect(200), set);
    // The same again changes nothing.
    assert_eq!(http.put("/v1/schedules/nightly", &new).expect(200), set);

    for name in ["a", "b", "c/d"] {
        http.put(&format!("/v1/schedules/{}", name.replace('/', "%2F")), &every("1h", "work")).expect(201);
    }
    let first = http.get("/v1/schedules?limit=3").expect(200);
    let names = |page: &Value| {
        let schedules = page["schedules"].as_array().unwrap().iter();
        schedules.map(|schedule| schedule["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names(&first), &first["cursor"]), (vec!["a".into(), "b".into(), "c/d".into()], &json!("c/d")));
    let second = http.get("/v1/schedules?limit=3&cursor=c%2Fd").expect(200);
    assert_eq!((names(&second), second.get("cursor")), (vec!["nightly".into()], None));
    assert!(second["schedules"][0]["job"].get("json").is_none(), "a list has no bodies");

    let paused = http.post_nothing("/v1/schedules/nightly/pause").expect(200);
    assert_eq!((&paused["paused"], &paused["next"]), (&json!(true), &json!([])));
    let resumed = http.post_nothing("/v1/schedules/nightly/resume").expect(200);
    assert_eq!((&resumed["paused"], &resumed["next"]), (&json!(false), &set["next"]));

    let run = http.post_nothing("/v1/schedules/nightly/run");
    assert!(run.head.contains("\r\nlocation: /v1/jobs/1\r\n"), "{run:?}");
    let run = run.expect(201);
    assert_eq!((&run["schedule"], &run["key"], &run["kind"]), (&json!("nightly"), &json!("nightly"), &json!("report")));
    http.post_nothing("/v1/schedules/nightly/run").problem(409, "key-taken");
    let shown = http.get("/v1/schedules/nightly").expect(200);
    assert_eq!((&shown["last"]["outcome"], &shown["last"]["job"]), (&json!("run"), &json!("1")));
    assert_eq!((&shown["last_job"]["id"], &shown["last_job"]["state"]), (&json!("1"), &json!("ready")));
    assert_eq!((&shown["next"], &shown["fired"]), (&set["next"], &json!(1)));

    http.delete("/v1/schedules/nightly").expect(200);
    for request in ["GET", "DELETE"] {
        http.ask(&format!("{request} /v1/schedules/nightly"), "", "").problem(404, "schedule-not-found");
    }
    http.post_nothing("/v1/schedules/nightly/run").problem(404, "schedule-not-found");
    assert_eq!(http.get("/v1/jobs/1").expect(200)["state"], "ready", "its jobs are left alone");
}

#[test]
fn a_bad_schedule_is_refused_with_the_place_and_what_to_try() {
    let (_data, _rota, http) = server(&[]);
    let job = json!({ "queue": "work", "text": "" });
    for (new, pointer, detail, hint) in [
        (json!({ "cron": "0 25 * * *", "job": job }), "#/cron", "in hour at byte 2", "from 0 to 23"),
        (json!({ "cron": "0 0 31 2 *", "job": job }), "#/cron", "no day is ever", "31st"),
        (json!({ "cron": "@dayly", "job": job }), "#/cron", "@dayly", "@daily"),
        (json!({ "cron": "@daily", "zone": "Europe/Berln", "job": job }), "#/zone", "Berln", "\"Europe/Berlin\""),
        (json!({ "every": "1m", "zone": "UTC", "job": job }), "#/zone", "zone", "leave it away"),
        (json!({ "every": "999ms", "job": job }), "#/every", "at least 1s", ""),
        (json!({ "every": "1m", "cron": "@daily", "job": job }), "#/every", "both", "only one"),
        (json!({ "cron": "@daily", "from": "2030-01-01T00:00:00Z", "job": job }), "#/from", "from", "leave it away"),
        (json!({ "every": "1m", "job": { "queue": "work" } }), "#/job", "no body", "one of json"),
        (json!({ "every": "1m", "job": { "queue": "work", "text": "", "ttr": "0s" } }), "#/job/ttr", "1ms", ""),
    ] {
        let problem = http.put("/v1/schedules/a", &new).problem(422, "bad-value");
        assert_eq!(problem["pointer"], pointer, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains(hint), "{problem}");
    }
    let delayed = json!({ "every": "1m", "job": { "queue": "work", "text": "", "delay": "1s" } });
    http.put("/v1/schedules/a", &delayed).problem(422, "unknown-field");
    http.put("/v1/schedules/a", &json!({ "job": job })).problem(422, "bad-value");
    http.get("/v1/schedules?cursor=a%20b").problem(400, "bad-parameter");
    http.get("/v1/schedules/a%20b").problem(400, "malformed-request");
    assert_eq!(http.get("/v1/schedules").expect(200), json!({ "schedules": [] }));
}

#[test]
fn ticks_fire_once_each_through_kills_and_starts() {
    let data = TempDir::new().unwrap();
    let mut rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let beat = json!({
        "every": "1s", "from": "2020-01-01T00:00:00Z", "on_missed": "all", "job": { "queue": "beat", "text": "tick" },
    });
    http.put("/v1/schedules/beat", &beat).expect(201);
    let mut seen = 0;
    for _ in 0..3 {
        let http = Http::to(rota.http());
        until("it fires again", || (ticks(&http, "beat").len() > seen + 1).then_some(()));
        seen = ticks(&http, "beat").len();
        // In between two ticks, or in the middle of one.
        rota.kill();
        rota = start(&data, &[]);
    }
    let http = Http::to(rota.http());
    until("it fires again", || (ticks(&http, "beat").len() > seen).then_some(()));
    let ticks = ticks(&http, "beat");
    let seconds: Vec<i64> =
        ticks.iter().map(|tick| tick.parse::<jiff::Timestamp>().unwrap().as_millisecond()).collect();
    assert!(seconds.windows(2).all(|two| two[1] - two[0] == 1000), "each once, and none is missing: {ticks:?}");
    let shown = http.get("/v1/schedules/beat").expect(200);
    assert!(shown["fired"].as_u64().unwrap() >= ticks.len() as u64, "{shown}");
    assert_eq!(shown["missed"], 0);
}

#[test]
fn what_comes_of_a_tick_is_told() {
    let (_data, _rota, http) = server(&[]);
    let settings = json!({ "max_jobs": 1 });
    http.put("/v1/queues/small/settings", &settings).expect(200);
    http.put("/v1/schedules/small", &every("1s", "small")).expect(201);
    let mut careful = every("1s", "careful");
    careful["on_overlap"] = json!("skip");
    http.put("/v1/schedules/careful", &careful).expect(201);
    let outcome = |name: &str, outcome: &str| {
        until("a tick is left out", || {
            let shown = http.get(&format!("/v1/schedules/{name}")).expect(200);
            (shown["last"]["outcome"] == outcome).then_some(shown)
        })
    };
    let full = outcome("small", "queue-full");
    assert!(full["refused"].as_u64().unwrap() >= 1 && full["fired"] == 1, "{full}");
    let overlap = outcome("careful", "overlap");
    assert_eq!((&overlap["last"]["job"], &overlap["fired"]), (&overlap["last_job"]["id"], &json!(1)));
    assert!(overlap["overlapped"].as_u64().unwrap() >= 1, "{overlap}");
    http.post_nothing("/v1/schedules/careful/run").expect(201);
    http.post_nothing("/v1/schedules/careful/pause").expect(200);
    let metrics = http.get("/metrics").body;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name}: {metrics}"))
    };
    let ticks = |outcome: &str| value(&format!("rota_schedule_ticks_total{{outcome=\"{outcome}\"}}"));
    assert_eq!([ticks("put"), ticks("run"), ticks("bad-terms")], [2.0, 1.0, 0.0]);
    assert!(ticks("queue-full") >= 1.0 && ticks("overlap") >= 1.0, "{metrics}");
    let states = ["waiting", "idle"].map(|state| value(&format!("rota_schedules{{state=\"{state}\"}}")));
    assert_eq!(states, [1.0, 1.0]);
    assert!(value("rota_schedule_late_seconds") < 3600.0);
}

#[test]
fn ticks_with_keys_are_decided_as_ever_where_jobs_are_not_in_memory() {
    let flags = ["--storage", "mapped", "--near", "1s", "--segment-size", "64KiB", "--history", "0", "--sync", "never"];
    let (data, mut rota, http) = server(&flags);
    let filler = "x".repeat(100);
    let job = |n: usize| json!({ "queue": "far", "text": filler, "key": format!("k{n}"), "delay": format!("{}s", 3_600 + n) });
    for first in (1..3_000).step_by(100) {
        let jobs: Vec<Value> = (first..first + 100).map(job).collect();
        http.post("/v1/jobs", &jobs.into()).expect(200);
    }
    until("most of them left memory", || {
        let cold = http.get("/v1/stats").expect(200)["not_in_memory"].as_u64().unwrap();
        (cold > 2_250).then_some(())
    });
    // Which are in memory a walk over those tells.
    let near = http.get("/v1/jobs?queue=far&limit=1000").expect(200);
    let near: Vec<&str> = near["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert!(!near.contains(&"17") && !near.contains(&"18"), "{near:?}");

    let set = |http: &Http, name: &str, key: &str, on_missed: &str| {
        let job = json!({ "queue": "far", "text": "tick", "key": key });
        let beat = json!({ "every": "1s", "from": "2020-01-01T00:00:00Z", "on_missed": on_missed, "job": job });
        http.put(&format!("/v1/schedules/{name}"), &beat).expect(201);
    };
    let shown = |http: &Http, name: &str| http.get(&format!("/v1/schedules/{name}")).expect(200);
    let refused = |http: &Http, name: &str, times: u64| {
        until("its ticks are refused", || {
            Some(shown(http, name)).filter(|shown| shown["refused"].as_u64().unwrap() >= times)
        })
    };
    set(&http, "taken", "k17", "all");
    set(&http, "free", "nobody's", "all");
    let taken = refused(&http, "taken", 2);
    assert_eq!((&taken["last"]["outcome"], &taken["last"]["job"]), (&json!("key-taken"), &json!("17")));
    assert_eq!((&taken["fired"], &taken["missed"], taken.get("waits_for_room")), (&json!(0), &json!(0), None));
    // One whose key nobody has fires once, and then its own job is in the way.
    let free = refused(&http, "free", 2);
    assert_eq!(
        (&free["fired"], &free["missed"], &free["last"]["outcome"]),
        (&json!(1), &json!(0), &json!("key-taken"))
    );
    assert_eq!(free["last"]["job"], free["last_job"]["id"]);
    // As soon as the key is free it fires, at the very tick.
    assert_eq!(http.delete("/v1/queues/far/keys/k17").expect(200), json!({ "id": "17" }));
    let fired = until("it fires", || Some(shown(&http, "taken")).filter(|shown| shown["fired"] == 1));
    let job = http.get(&format!("/v1/jobs/{}", fired["last_job"]["id"].as_str().unwrap())).expect(200);
    assert_eq!((&job["key"], &job["schedule"], &job["state"]), (&json!("k17"), &json!("taken"), &json!("ready")));
    let tick: jiff::Timestamp = job["tick"].as_str().unwrap().parse().unwrap();
    assert_eq!((tick.subsec_nanosecond(), &job["tick"]), (0, &fired["last_job"]["tick"]));
    // No tick fires twice, and none is lost: what fired and what was refused are all that there were.
    http.post_nothing("/v1/schedules/taken/pause").expect(200);
    let paused = shown(&http, "taken");
    let last: jiff::Timestamp = paused["last"]["tick"].as_str().unwrap().parse().unwrap();
    let first: jiff::Timestamp = taken["created_at"].as_str().unwrap().parse().unwrap();
    let ticks = last.as_second() - first.as_second();
    assert_eq!(paused["fired"].as_i64().unwrap() + paused["refused"].as_i64().unwrap(), ticks, "{paused}");

    // So it is after a start, of what was set before and of what is set then.
    rota.terminate();
    let rota = start(&data, &flags);
    let http = Http::to(rota.http());
    set(&http, "later", "k18", "once");
    let later = refused(&http, "later", 1);
    assert_eq!((&later["fired"], &later["last"]["job"]), (&json!(0), &json!("18")));
    http.delete(&format!("/v1/jobs/{}", free["last_job"]["id"].as_str().unwrap())).expect(200);
    until("it fires again", || (shown(&http, "free")["fired"] == 2).then_some(()));
    assert_eq!(http.get("/v1/jobs/18").expect(200)["state"], "delayed");
}

/// Runs `rota schedule` against that server: its exit code, output and errors.
fn rota(http: SocketAddr, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
    let output = command
        .arg("schedule")
        .args(arguments)
        .args(["--http", &http.to_string()])
        .env_remove("ROTA_TOKEN")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_does_all_of_it() {
    let (_data, server, http) = server(&[]);
    let rota = |arguments: &[&str]| rota(server.http(), arguments);
    let good = |arguments: &[&str]| {
        let (code, out, err) = rota(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        out
    };
    let set =
        ["set", "night/ly", "reports", "--cron", "30 4 * * *", "--zone", "Asia/Kathmandu", "--header", "a=b=c", "go"];
    assert!(good(&set).starts_with("night/ly: next at 2"));
    let shown = http.get("/v1/schedules/night%2Fly").expect(200);
    assert_eq!((&shown["job"]["text"], &shown["job"]["headers"]), (&json!("go"), &json!({ "a": "b=c" })));
    good(&["set", "sweep", "chores", "--every", "90s", "--on-missed", "skip", "--on-overlap", "skip", "{}"]);
    let listed = good(&["list"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("night/ly") && lines[2].contains("every 90s"), "{listed}");
    let objects = good(&["list", "--json"]);
    assert_eq!(objects.lines().count(), 2);
    assert_eq!(serde_json::from_str::<Value>(objects.lines().nth(1).unwrap()).unwrap()["name"], "sweep");
    let text = good(&["show", "sweep"]);
    assert!(text.contains("on_missed") && text.contains("job_queue") && text.contains("chores"), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&good(&["show", "sweep", "--json"])).unwrap()["on_overlap"], "skip");
    assert_eq!(good(&["run", "sweep"]), "1\n");
    assert_eq!(good(&["pause", "sweep"]), "paused sweep\n");
    assert!(good(&["list"]).contains("paused"));
    assert!(good(&["resume", "sweep"]).starts_with("resumed sweep: next at 2"));
    assert_eq!(good(&["delete", "sweep"]), "deleted sweep\n");
    let (code, _, err) = rota(&["show", "sweep"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("there is no schedule sweep"), "{err}");
    let (code, _, err) = rota(&["set", "bad", "work", "--cron", "61 * * * *", "x"]);
    assert!(code == 1 && err.contains("in minute at byte 0") && err.contains("from 0 to 59"), "{err}");
    assert_eq!(rota(&["set", "bad", "work", "x"]).0, 2, "neither --cron nor --every");
}
