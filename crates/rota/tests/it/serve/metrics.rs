//! What it tells of itself: health and metrics by HTTP, and statsd by UDP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use serde_json::json;
use tempfile::TempDir;

use crate::http::client::Http;
use crate::process::{self, DEADLINE, Rota, on};
use crate::wire::{Wire, batch_bytes, put_bytes};

/// Asks for a page; its head and its body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Jobs in every state, by known numbers of commands.
fn work(rota: &Rota) -> Wire {
    let mut wire = Wire::to(rota.address());
    for _ in 0..7 {
        wire.put("put 0 0 60", b"x");
    }
    wire.put("put 0 1000 60", b"x");
    for id in 1..=3 {
        assert_eq!(wire.ask("reserve").number(1), id);
    }
    wire.expect("bury 2 0", "BURIED");
    wire.expect("delete 1", "DELETED");
    wire.expect("delete 99", "NOT_FOUND");
    Wire::to(rota.address()).expect("cancel 4", "CANCELLED");
    wire
}

#[test]
fn metrics_count_what_happened() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--http", "127.0.0.1:0"]));
    let _wire = work(&rota);
    let (head, page) = get(rota.http(), "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let values = values(&page);
    for (name, value) in [
        ("rota_jobs{state=\"ready\"}", "3"),
        ("rota_jobs{state=\"reserved\"}", "1"),
        ("rota_jobs{state=\"delayed\"}", "1"),
        ("rota_jobs{state=\"buried\"}", "1"),
        ("rota_jobs_put_total", "8"),
        ("rota_jobs_completed_total", "1"),
        ("rota_jobs_cancelled_total", "1"),
        ("rota_jobs_buried_total", "1"),
        ("rota_attempts_failed_total", "0"),
        ("rota_queue_turns_total{queue=\"default\",verb=\"put\"}", "8"),
        ("rota_queue_turns_total{queue=\"default\",verb=\"completed\"}", "1"),
        ("rota_queue_turns_total{queue=\"default\",verb=\"cancelled\"}", "1"),
        ("rota_queue_turns_total{queue=\"default\",verb=\"buried\"}", "1"),
        ("rota_commands_total{command=\"put\"}", "8"),
        ("rota_commands_total{command=\"reserve\"}", "3"),
        ("rota_commands_total{command=\"delete\"}", "3"),
        ("rota_connections_opened_total", "2"),
        ("rota_queues", "1"),
        ("rota_log_segments", "1"),
        ("rota_log_unwritten_bytes", "0"),
    ] {
        assert_eq!(values.get(name), Some(&value), "{name}: {page}");
    }
    // Three jobs were handed out, one of them completed.
    for (name, count) in [
        ("rota_job_latency_seconds_count", "3"),
        ("rota_job_latency_seconds_bucket{le=\"+Inf\"}", "3"),
        ("rota_queue_latency_seconds_count{queue=\"default\"}", "3"),
        ("rota_job_run_seconds_count", "1"),
        ("rota_queue_run_seconds_count{queue=\"default\"}", "1"),
        ("rota_queue_jobs{queue=\"default\",state=\"ready\"}", "3"),
    ] {
        assert_eq!(values.get(name), Some(&count), "{name}: {page}");
    }
    // No schedule was set, and each outcome is there all the same.
    for name in [
        "rota_schedules{state=\"waiting\"}",
        "rota_schedules{state=\"idle\"}",
        "rota_schedule_ticks_total{outcome=\"put\"}",
        "rota_schedule_ticks_total{outcome=\"key-taken\"}",
    ] {
        assert_eq!(values.get(name), Some(&"0"), "{name}: {page}");
    }
    assert_eq!(values.get("rota_schedule_late_seconds"), Some(&"0.0"), "{page}");
    let head_age: f64 = values["rota_queue_head_age_seconds{queue=\"default\"}"].parse().unwrap();
    assert!(head_age > 0.0 && head_age < 3600.0, "{head_age}");
    for name in ["rota_log_records_written_total", "rota_log_syncs_total", "rota_log_durable_lsn", "rota_log_bytes"] {
        let value: u64 = values[name].parse().unwrap();
        assert!(value >= 8, "{name} {value}");
    }
}

/// The metrics of a page, by name and labels.
fn values(page: &str) -> BTreeMap<&str, &str> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' ')).collect()
}

/// Puts that were refused, by why, where some were: as the metrics count them, and everybody else who tells of it.
#[track_caller]
pub(crate) fn refused_puts(rota: &Rota) -> BTreeMap<String, u64> {
    let (_, page) = get(rota.http(), "/metrics");
    let count = |line: &str| {
        let (reason, count) = line.strip_prefix("rota_puts_refused_total{reason=\"")?.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse::<u64>().unwrap()))
    };
    let counts: BTreeMap<String, u64> = page.lines().filter_map(count).collect();
    assert_eq!(counts.len(), 9, "{page}");
    let stats = Http::to(rota.http()).get("/v1/stats").expect(200);
    let printed = process::rota().args(["stats", "--json", "--server", &rota.address().to_string()]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    for (reason, count) in &counts {
        let member = reason.replace('-', "_");
        assert_eq!(stats["refused_puts"][&member], *count, "{reason}: {stats}");
        assert_eq!(printed[format!("rota_puts_refused_{member}")], *count, "{reason}: {printed}");
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// The same, as it is expected.
pub(crate) fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect()
}

#[test]
fn puts_that_are_refused_are_counted_by_why_and_by_queue() {
    let mut statsd = Statsd::new();
    let data = TempDir::new().unwrap();
    let rota = statsd.rota(&data, &["--http", "127.0.0.1:0", "--max-job-size", "1000", "--max-queues", "3"]);
    let http = Http::to(rota.http());
    let job = |queue: &str, members: serde_json::Value| {
        let mut job = json!({ "queue": queue, "text": "x" });
        members.as_object().unwrap().iter().for_each(|(name, value)| job[name] = value.clone());
        job
    };
    let put = |queue: &str, members: serde_json::Value| http.post("/v1/jobs", &job(queue, members));
    http.put("/v1/queues/full/settings", &json!({ "max_jobs": 1 })).expect(200);
    put("full", json!({ "key": "k" })).expect(201);
    put("full", json!({})).problem(429, "queue-full");
    put("full", json!({ "key": "k" })).problem(409, "key-taken");
    let long = "x".repeat(1001);
    put("full", json!({ "text": long })).problem(413, "job-too-large");
    let many = json!([
        job("full", json!({})),
        job("full", json!({ "text": long })),
        job("default", json!({ "after": ["99"] }))
    ]);
    http.post("/v1/jobs", &many).expect(200);
    // Over the beanstalkd protocol it is the same.
    let mut wire = Wire::to(rota.address());
    wire.expect("use full", "USING full");
    assert_eq!(wire.try_put("put 0 0 60", b"x").line, "OUT_OF_MEMORY");
    assert_eq!(wire.try_put("put 0 0 60", &[0; 1001]).line, "JOB_TOO_BIG");
    let batch = [put_bytes("put 0 0 60", &[0; 1001]), put_bytes("put 0 0 60", b"x")];
    wire.send(batch_bytes(&batch)).unwrap();
    assert!(wire.answer().unwrap().line.starts_with("BATCH_INSERTED "));
    let longest = vec![put_bytes("put 0 0 60", &[0; 900]); 1_000];
    let longest = [&longest[..], &longest[..200]].concat();
    wire.send(format!("put-batch 1000 {}\r\n", longest.concat().len())).unwrap();
    wire.send(longest.concat()).unwrap();
    assert_eq!(wire.line().unwrap(), "BATCH_TOO_BIG");
    // Of queues that never come to be nobody keeps count by name.
    put("other", json!({})).expect(201);
    put("third", json!({})).problem(429, "too-many-queues");
    // What makes no sense is no put, and what is put counts for nothing.
    put("full", json!({ "tyr": "1s" })).problem(422, "unknown-field");
    http.post_text("/v1/jobs", "{").problem(400, "malformed-json");
    wire.expect("put 0 0 60", "BAD_FORMAT");
    // A value that there cannot be refuses all of its request.
    put("full", json!({ "kind": "x".repeat(101) })).problem(422, "bad-value");
    put("full", json!({ "back_off": { "first": "1s", "factor": 0.5 } })).problem(422, "bad-value");
    let many = json!([job("default", json!({})), job("full", json!({ "limit_key": "" }))]);
    http.post("/v1/jobs", &many).problem(422, "bad-value");

    let (_, page) = get(rota.http(), "/metrics");
    let values = values(&page);
    let by_queue = [("queue-full", 4), ("key-taken", 1), ("too-large", 5), ("parent", 1)];
    let refused = by_queue.into_iter().chain([("too-many-queues", 1), ("invalid", 3)]);
    assert_eq!(refused_puts(&rota), refused.map(|(reason, count)| (reason.to_owned(), count)).collect());
    let value = |name: &str| values.get(name).map(|value| value.parse::<u64>().unwrap());
    let named = values.keys().filter(|name| name.starts_with("rota_queue_puts_refused_total"));
    assert_eq!(named.count(), by_queue.len(), "{page}");
    for (reason, count) in by_queue {
        let queue = if reason == "parent" { "default" } else { "full" };
        let name = format!("rota_queue_puts_refused_total{{queue=\"{queue}\",reason=\"{reason}\"}}");
        assert_eq!(value(&name), Some(count), "{name}");
    }
    let queue = http.get("/v1/queues/full").expect(200);
    assert_eq!(
        (&queue["refused_puts"]["queue_full"], &queue["refused_puts"]["too_many_queues"]),
        (&json!(4), &json!(0))
    );
    assert_eq!(http.get("/v1/queues/other").expect(200).get("refused_puts"), None);
    while statsd.count("rota.puts_refused.too-large") < 5 || statsd.count("rota.queue_puts_refused.full.queue-full") < 4
    {
        statsd.receive();
    }
    assert_eq!(statsd.count("rota.queue_puts_refused.default.parent"), 1);
}

#[test]
fn the_dashboard_of_grafana_shows_metrics_that_there_are() {
    let dashboard = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--http", "127.0.0.1:0", "--webhook-allow", "127.0.0.1"]));
    let mut wire = work(&rota);
    assert_eq!(wire.try_put("put 0 0 60", &[0; 65_536]).line, "JOB_TOO_BIG");
    let hook = "{\"url\":\"http://127.0.0.1:1/\",\"paused\":true}";
    let mut stream = TcpStream::connect(rota.http()).unwrap();
    let (kind, length) = ("Content-Type: application/json", hook.len());
    write!(stream, "PUT /v1/webhooks/hook HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {length}\r\n")
        .unwrap();
    write!(stream, "Connection: close\r\n\r\n{hook}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let (_, page) = get(rota.http(), "/metrics");
    let names: std::collections::BTreeSet<&str> =
        page.lines().filter_map(|line| line.split(['{', ' ']).next()).filter(|name| *name != "#").collect();
    let mut shown = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in words.filter(|word| word.starts_with("rota_")) {
                assert!(names.contains(name), "{} shows {name}, which there is not", panel["title"]);
                shown += 1;
            }
        }
    }
    assert!(shown > 20, "{shown}");
}

#[test]
fn what_is_no_request_of_http_changes_nothing() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--http", "127.0.0.1:0"]));
    let (head, body) = get(rota.http(), "/healthz");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
    assert!(get(rota.http(), "/").0.starts_with("HTTP/1.1 404"));
    let mut stream = TcpStream::connect(rota.http()).unwrap();
    write!(stream, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 405"), "{page}");
    // The beanstalkd protocol is not spoken here.
    let mut stream = TcpStream::connect(rota.http()).unwrap();
    stream.write_all(b"put 0 0 60 1\r\nx\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 400"), "{page}");
    assert_eq!(Wire::to(rota.address()).ask("stats").count("total-jobs"), 0);
}

/// A statsd that remembers what it was sent.
struct Statsd {
    socket: UdpSocket,
    counters: BTreeMap<String, u64>,
    /// The values of each, with how many each stands for.
    timers: BTreeMap<String, Vec<(f64, f64)>>,
    gauges: BTreeMap<String, f64>,
    /// How often it was told of all that there is to tell: each time of every gauge.
    intervals: usize,
}

impl Statsd {
    fn new() -> Statsd {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Statsd { socket, counters: BTreeMap::new(), timers: BTreeMap::new(), gauges: BTreeMap::new(), intervals: 0 }
    }

    /// The server that sends here.
    fn rota(&self, data: &TempDir, flags: &[&str]) -> Rota {
        let address = self.socket.local_addr().unwrap().to_string();
        Rota::ready(on(data.path(), &[&["--statsd", &address], flags].concat()))
    }

    /// Takes one datagram.
    fn receive(&mut self) {
        let mut packet = [0; 65_536];
        let bytes = self.socket.recv(&mut packet).expect("statsd is sent to each second");
        assert!(bytes <= 1432, "{bytes}");
        for line in std::str::from_utf8(&packet[..bytes]).unwrap().lines() {
            let (name, rest) = line.split_once(':').unwrap();
            let parts: Vec<&str> = rest.split('|').collect();
            let value: f64 = parts[0].parse().unwrap();
            match parts[1..] {
                ["c"] => *self.counters.entry(name.to_owned()).or_default() += value as u64,
                ["ms"] => self.timers.entry(name.to_owned()).or_default().push((value, 1.0)),
                ["ms", rate] => {
                    let rate: f64 = rate.strip_prefix('@').unwrap().parse().unwrap();
                    assert!(rate > 0.0 && rate < 1.0, "{line}");
                    self.timers.entry(name.to_owned()).or_default().push((value, 1.0 / rate));
                }
                ["g"] => {
                    self.intervals += usize::from(name == "rota.waiting_sessions");
                    self.gauges.insert(name.to_owned(), value);
                }
                _ => panic!("what is {line}?"),
            }
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// How much a timer was told of: each value by how many it stands for.
    fn timed(&self, name: &str) -> u64 {
        self.timers
            .get(name)
            .map_or(0, |values| values.iter().map(|(_, stands_for)| stands_for).sum::<f64>().round() as u64)
    }
}

#[test]
fn statsd_gets_counters_timers_and_gauges() {
    let mut statsd = Statsd::new();
    let data = TempDir::new().unwrap();
    let rota = statsd.rota(&data, &[]);
    let _wire = work(&rota);
    let counted = [
        ("rota.put", 8),
        ("rota.next", 3),
        ("rota.cancel", 3),
        ("rota.jobs_put", 8),
        ("rota.jobs_completed", 1),
        ("rota.jobs_cancelled", 1),
    ];
    let timed = [
        ("rota.put.time", 8),
        ("rota.next.time", 3),
        ("rota.cancel.time", 3),
        ("rota.job_latency", 3),
        ("rota.job_run", 1),
        ("rota.queue_latency.default", 3),
        ("rota.queue_run.default", 1),
    ];
    // Until all was counted, in however many packets.
    while counted.iter().any(|(name, count)| statsd.count(name) < *count)
        || timed.iter().any(|(name, count)| statsd.timed(name) < *count)
        || statsd.count("rota.tick") == 0
        || !statsd.timers.contains_key("rota.tick.time")
        || statsd.gauges.get("rota.jobs.buried") != Some(&1.0)
        || statsd.gauges.get("rota.queue_jobs.default.buried") != Some(&1.0)
        || statsd.gauges.get("rota.queue_head_age_seconds.default").is_none_or(|age| *age == 0.0)
    {
        statsd.receive();
    }
    for (name, count) in counted {
        assert_eq!(statsd.count(name), count, "{name}");
    }
    for (name, count) in timed {
        assert_eq!(statsd.timed(name), count, "{name}");
        assert!(statsd.timers[name].iter().all(|(millis, _)| (0.0..600_000.0).contains(millis)), "{name}");
    }
    // No job takes no time at all, though less than a millisecond.
    assert!(statsd.timers["rota.job_latency"].iter().all(|(millis, _)| *millis > 0.0));
    let gauges: Vec<(&str, f64)> = statsd.gauges.iter().map(|(name, value)| (&name[..], *value)).collect();
    let gauges: Vec<(&str, f64)> = gauges.into_iter().filter(|(name, _)| name.starts_with("rota.jobs.")).collect();
    let states = ["blocked", "buried", "cancelled", "delayed", "done", "expired", "ready", "reserved"];
    let states = states.map(|state| format!("rota.jobs.{state}"));
    let values = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 3.0, 1.0];
    assert_eq!(gauges, states.iter().map(String::as_str).zip(values).collect::<Vec<_>>());
    assert_eq!(statsd.gauges["rota.waiting_sessions"], 0.0);
}

#[test]
fn statsd_gets_what_came_of_ticks() {
    let mut statsd = Statsd::new();
    let data = TempDir::new().unwrap();
    let rota = statsd.rota(&data, &["--http", "127.0.0.1:0"]);
    let http = Http::to(rota.http());
    let beat = |every: &str| json!({ "every": every, "job": { "queue": "beat", "text": "tick", "key": "one" } });
    http.put("/v1/schedules/beat", &beat("1000h")).expect(201);
    http.post_nothing("/v1/schedules/beat/run").expect(201);
    http.put("/v1/schedules/beat", &beat("1s")).expect(200);
    while statsd.count("rota.schedule_ticks.key-taken") < 2 || !statsd.gauges.contains_key("rota.schedules.waiting") {
        statsd.receive();
    }
    assert_eq!((statsd.count("rota.schedule_ticks.run"), statsd.count("rota.schedule_ticks.put")), (1, 0));
    assert_eq!(statsd.gauges["rota.schedules.waiting"], 1.0);
    assert_eq!(statsd.gauges["rota.schedules.idle"], 0.0);
    assert!(statsd.gauges["rota.schedule_late_seconds"] < 3600.0);
}

#[test]
fn statsd_gets_few_timers_that_stand_for_many_jobs() {
    let mut statsd = Statsd::new();
    let data = TempDir::new().unwrap();
    let rota = statsd.rota(&data, &[]);
    let mut wire = Wire::to(rota.address());
    wire.expect("use a.b", "USING a.b");
    wire.expect("watch a.b", "WATCHING 2");
    const JOBS: u64 = 3_000;
    for thousand in 0..JOBS / 1_000 {
        let puts = vec![put_bytes("put 0 0 60", b"x"); 1_000];
        wire.send(batch_bytes(&puts)).unwrap();
        assert!(wire.answer().unwrap().line.starts_with("BATCH_INSERTED 1000 "));
        let ids = thousand * 1_000 + 1..=(thousand + 1) * 1_000;
        wire.send(ids.clone().map(|id| format!("reserve\r\ndelete {id}\r\n")).collect::<String>()).unwrap();
        for id in ids {
            assert_eq!(wire.answer().unwrap().number(1), id);
            assert_eq!(wire.answer().unwrap().line, "DELETED");
        }
    }
    while statsd.timed("rota.job_run") < JOBS || statsd.timed("rota.queue_run.a_b") < JOBS {
        statsd.receive();
    }
    for name in ["rota.job_latency", "rota.job_run", "rota.queue_latency.a_b", "rota.queue_run.a_b"] {
        assert_eq!(statsd.timed(name), JOBS, "{name}");
        // At most a hundred each time, however long this machine takes for the jobs.
        let (timers, most) = (statsd.timers[name].len(), 100 * statsd.intervals);
        assert!(timers <= most, "{name}: {timers} in {} intervals", statsd.intervals);
    }
}

#[test]
fn statsd_is_not_told_the_life_of_a_queue_that_was_not_shown_before() {
    let mut statsd = Statsd::new();
    let data = TempDir::new().unwrap();
    let rota = statsd.rota(&data, &["--http", "127.0.0.1:0"]);
    let http = Http::to(rota.http());
    let set = |queue: &str, settings| http.put(&format!("/v1/queues/{queue}/settings"), &settings).expect(200);
    let put = || http.post("/v1/jobs", &json!({ "queue": "late", "text": "x" })).expect(201);
    // The first hundred are told of.
    (0..100).for_each(|number| drop(set(&format!("q{number}"), json!({ "max_jobs": 9 }))));
    put();
    http.post("/v1/leases", &json!({ "queues": ["late"] })).expect(200);
    put();
    let seen = statsd.intervals + 2;
    while statsd.intervals < seen {
        statsd.receive();
    }
    assert!(!statsd.gauges.contains_key("rota.queue_jobs.late.ready"));
    (0..5).for_each(|number| drop(set(&format!("q{number}"), json!({}))));
    while !statsd.gauges.contains_key("rota.queue_jobs.late.ready") {
        statsd.receive();
    }
    put();
    while statsd.count("rota.queue_turns.late.put") == 0 {
        statsd.receive();
    }
    assert_eq!((statsd.count("rota.queue_turns.late.put"), statsd.timed("rota.queue_latency.late")), (1, 0));
    assert_eq!(statsd.timed("rota.job_latency"), 1);
}
