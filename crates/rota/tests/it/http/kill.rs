//! `kill -9` under load over HTTP: what was answered with 2xx is kept, whatever it was; a put that is sent again until it is
//! answered makes its jobs once, however often the server was killed in between; and what was not answered was done or not,
//! and nothing else.
//!
//! Each client has a queue, settings and a schedule of its own, asks one thing after another, and knows of each job what it may
//! be by what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::start;
use crate::process::{DEADLINE, number};

/// Servers that are killed, of each mode; more until each thing was answered once, where this machine is slow.
const CYCLES: u64 = 8;
const MOST_CYCLES: u64 = 400;
const CLIENTS: usize = 4;

/// What a client can ask, and how often beside all else.
const ASKS: [(&str, u8); 12] = [
    ("put", 6),
    ("put many", 2),
    ("complete", 3),
    ("fail", 2),
    ("release", 2),
    ("bury", 2),
    ("cancel", 2),
    ("kick delayed", 1),
    ("kick buried", 1),
    ("cancel buried", 1),
    ("settings", 1),
    ("schedule", 1),
];

/// Where a job stands when nobody holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stand {
    Ready,
    Delayed,
    Buried,
    Gone,
}

/// A job, by what was told of it.
#[derive(Debug)]
struct Job {
    id: String,
    stands: BTreeSet<Stand>,
    /// How many attempts failed.
    attempts: BTreeSet<u64>,
}

/// Jobs that are put by one request, which is sent until it is answered: their kinds.
type Put = Vec<String>;

#[derive(Debug)]
struct Client {
    queue: String,
    next: u64,
    /// By kind.
    jobs: BTreeMap<String, Job>,
    pending: Option<Put>,
    /// What may be in force: `max_jobs` of the queue's settings.
    limits: BTreeSet<u64>,
    /// The hours between two ticks of the schedule; none where there is no schedule.
    hours: BTreeSet<Option<u64>>,
    /// How often each thing was asked, and answered.
    answered: BTreeMap<&'static str, u64>,
}

#[test]
fn kill_9_loses_nothing_that_was_answered_and_doubles_nothing() {
    let cycles = number("ROTA_KILL_CYCLES").map_or(CYCLES, |cycles| cycles.div_ceil(8));
    let answered = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for flags in [
            &["--sync", "always"][..],
            &["--sync", "50ms", "--segment-size", "64KiB", "--history", "0"],
            &["--storage", "lazy", "--segment-size", "64KiB", "--history", "0"],
        ] {
            let answered = &answered;
            scope.spawn(move || {
                let mine = live(flags, cycles);
                eprintln!("{flags:?}, {cycles} kills: {mine:?}");
                let mut all = answered.lock().unwrap();
                mine.into_iter().for_each(|(what, count)| *all.entry(what).or_insert(0) += count);
            });
        }
    });
    let answered = answered.into_inner().unwrap();
    for (what, _) in ASKS {
        assert!(answered.get(what).is_some_and(|count| *count > 0), "{what} was never answered: {answered:?}");
    }
    assert!(answered["put"] > cycles, "{answered:?}");
}

/// Kills servers on one data directory, and judges what is there in the end; says what was answered.
fn live(flags: &[&str], cycles: u64) -> BTreeMap<&'static str, u64> {
    let data = TempDir::new().unwrap();
    let clients: Vec<Mutex<Client>> = (0..CLIENTS).map(|number| Mutex::new(Client::new(number))).collect();
    let is_answered = |what: &str| {
        clients.iter().any(|client| client.lock().unwrap().answered.get(what).is_some_and(|count| *count > 0))
    };
    let mut killed = 0;
    while killed < cycles || (killed < MOST_CYCLES && !ASKS.iter().all(|(what, _)| is_answered(what))) {
        killed += 1;
        let mut rota = start(&data, flags);
        let (address, is_over) = (rota.http(), AtomicBool::new(false));
        thread::scope(|scope| {
            for client in &clients {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut client = client.lock().unwrap();
                    while !is_over.load(Ordering::Relaxed) && client.turn(address).is_some() {}
                });
            }
            thread::sleep(Duration::from_millis(fastrand::u64(20..150)));
            rota.kill();
            is_over.store(true, Ordering::Relaxed);
        });
    }
    let rota = start(&data, flags);
    let mut answered = BTreeMap::new();
    for client in clients {
        let mut client = client.into_inner().unwrap();
        client.put_pending(rota.http()).expect("the server is up");
        client.judge(rota.http());
        client.answered.into_iter().for_each(|(what, count)| *answered.entry(what).or_insert(0) += count);
    }
    answered
}

impl Client {
    fn new(number: usize) -> Client {
        Client {
            queue: format!("work-{number}"),
            next: 0,
            jobs: BTreeMap::new(),
            pending: None,
            limits: [0].into(),
            hours: [None].into(),
            answered: BTreeMap::new(),
        }
    }

    /// Asks one thing, by chance; `None` when the server is gone.
    fn turn(&mut self, address: SocketAddr) -> Option<()> {
        self.put_pending(address)?;
        let all: u8 = ASKS.iter().map(|(_, times)| times).sum();
        let mut chance = fastrand::u8(..all);
        let (what, _) =
            ASKS.into_iter().find(|(_, times)| chance.checked_sub(*times).map(|left| chance = left).is_none())?;
        let is_done = match what {
            "put" => self.put(address, 1)?,
            "put many" => self.put(address, fastrand::usize(2..8))?,
            "complete" => self.end(address, what, "{\"result\": 1}", Stand::Gone)?,
            "fail" => self.end(address, what, "{\"delay\": \"1h\", \"error\": \"no\"}", Stand::Delayed)?,
            "release" => self.end(address, what, "{\"delay\": \"1h\"}", Stand::Delayed)?,
            "bury" => self.end(address, what, "{}", Stand::Buried)?,
            "cancel" => self.cancel(address)?,
            "kick delayed" => self.all(address, "kick", "delayed", Stand::Delayed, Stand::Ready)?,
            "kick buried" => self.all(address, "kick", "buried", Stand::Buried, Stand::Ready)?,
            "cancel buried" => self.all(address, "cancel", "buried", Stand::Buried, Stand::Gone)?,
            "settings" => self.set_up(address)?,
            _ => self.schedule(address)?,
        };
        *self.answered.entry(what).or_default() += u64::from(is_done);
        Some(())
    }

    fn put(&mut self, address: SocketAddr, jobs: usize) -> Option<bool> {
        let kinds = (0..jobs).map(|_| {
            self.next += 1;
            format!("{}-{}", self.queue, self.next)
        });
        self.pending = Some(kinds.collect());
        self.put_pending(address)?;
        Some(true)
    }

    /// Sends again what was not answered. One that was carried out before is answered as before.
    fn put_pending(&mut self, address: SocketAddr) -> Option<()> {
        let Some(kinds) = &self.pending else { return Some(()) };
        let job = |kind: &String| json!({ "queue": self.queue, "kind": kind, "text": "x".repeat(300) });
        let body = match &kinds[..] {
            [kind] => job(kind),
            kinds => kinds.iter().map(job).collect(),
        };
        let headers = format!("idempotency-key: {}\r\n", kinds[0]);
        let (status, answer) = ask(address, "POST /v1/jobs", &headers, &body.to_string())?;
        let jobs = match &kinds[..] {
            [_] => vec![(status, answer)],
            _ => {
                assert_eq!(status, 200, "{answer}");
                let results = answer["results"].as_array().expect("a list").iter();
                results.map(|result| (result["status"].as_u64().unwrap_or(0) as u16, result.clone())).collect()
            }
        };
        assert_eq!(jobs.len(), kinds.len());
        for (kind, (status, answer)) in kinds.clone().iter().zip(jobs) {
            assert_eq!(status, 201, "{answer}");
            let job = Job { id: text(&answer["id"]), stands: [Stand::Ready].into(), attempts: [0].into() };
            assert!(self.jobs.insert(kind.clone(), job).is_none(), "{kind} was put twice");
        }
        self.pending = None;
        Some(())
    }

    /// Reserves a job, and ends its lease in that way; whether there was one.
    fn end(&mut self, address: SocketAddr, verb: &str, body: &str, then: Stand) -> Option<bool> {
        let (status, leases) =
            ask(address, "POST /v1/leases", "", &json!({ "queues": [self.queue], "body": "none" }).to_string())?;
        assert_eq!(status, 200, "{leases}");
        let Some(lease) = leases["leases"].get(0) else { return Some(false) };
        let kind = text(&lease["job"]["kind"]);
        let job = self.jobs.get_mut(&kind).unwrap_or_else(|| panic!("{kind} was never put"));
        assert_eq!(text(&lease["job"]["id"]), job.id, "{kind} was handed out under another number");
        assert!(job.stands.contains(&Stand::Ready), "{kind} was handed out: {job:?}");
        let attempts = lease["job"]["attempts"].as_u64().expect("a number");
        assert!(job.attempts.contains(&attempts), "{kind} was handed out with {attempts} attempts: {job:?}");
        // Held, it is ready after a kill.
        (job.stands, job.attempts) = ([Stand::Ready, then].into(), [attempts].into());
        let then_attempts = attempts + u64::from(verb == "fail");
        job.attempts.insert(then_attempts);
        let (status, answer) = ask(address, &format!("POST /v1/leases/{}/{verb}", text(&lease["lease"])), "", body)?;
        assert_eq!(status, 200, "{answer}");
        (job.stands, job.attempts) = ([then].into(), [then_attempts].into());
        Some(true)
    }

    /// Calls off a job that is there for sure, whatever it waits for.
    fn cancel(&mut self, address: SocketAddr) -> Option<bool> {
        let there: Vec<&mut Job> = self.jobs.values_mut().filter(|job| !job.stands.contains(&Stand::Gone)).collect();
        let Some(job) = fastrand::choice(there) else { return Some(false) };
        job.stands.insert(Stand::Gone);
        let (status, answer) = ask(address, &format!("DELETE /v1/jobs/{}", job.id), "", "")?;
        assert_eq!(status, 200, "{answer}");
        job.stands = [Stand::Gone].into();
        Some(true)
    }

    /// Does that to all jobs in that state; whether there were any.
    fn all(&mut self, address: SocketAddr, verb: &str, state: &str, from: Stand, to: Stand) -> Option<bool> {
        let meant = |job: &&mut Job| job.stands.contains(&from);
        let sure = self.jobs.values().filter(|job| job.stands == [from].into()).count() as u64;
        for job in self.jobs.values_mut().filter(meant) {
            job.stands.insert(to);
        }
        let meant = self.jobs.values().filter(|job| job.stands.contains(&from)).count() as u64;
        let body = json!({ "q": format!("queue:{} state:{state}", self.queue) });
        let (status, answer) = ask(address, &format!("POST /v1/jobs/{verb}"), "", &body.to_string())?;
        assert_eq!((status, answer.get("cursor")), (200, None), "{answer}");
        let done = answer["done"].as_u64().expect("a number");
        assert!((sure..=meant).contains(&done), "{verb} {state}: {done} of {sure} to {meant}");
        for job in self.jobs.values_mut() {
            job.stands.remove(&from);
        }
        Some(done > 0)
    }

    fn set_up(&mut self, address: SocketAddr) -> Option<bool> {
        let limit = fastrand::u64(10_000..1_000_000);
        self.limits.insert(limit);
        let request = format!("PUT /v1/queues/{}/settings", self.queue);
        let (status, answer) = ask(address, &request, "", &json!({ "max_jobs": limit }).to_string())?;
        assert_eq!((status, &answer["max_jobs"]), (200, &json!(limit)), "{answer}");
        self.limits = [limit].into();
        Some(true)
    }

    /// Sets the schedule up or deletes it.
    fn schedule(&mut self, address: SocketAddr) -> Option<bool> {
        let request = format!("/v1/schedules/{}", self.queue);
        if self.hours.contains(&None) || fastrand::u8(..3) > 0 {
            let hours = fastrand::u64(100..200);
            self.hours.insert(Some(hours));
            let schedule = json!({ "every": format!("{hours}h"), "job": { "queue": "ticks", "text": "x" } });
            let (status, answer) = ask(address, &format!("PUT {request}"), "", &schedule.to_string())?;
            assert!(status == 200 || status == 201, "{status} {answer}");
            self.hours = [Some(hours)].into();
        } else {
            self.hours.insert(None);
            let (status, answer) = ask(address, &format!("DELETE {request}"), "", "")?;
            assert_eq!(status, 200, "{answer}");
            self.hours = [None].into();
        }
        Some(true)
    }

    /// Looks at all that is there, which must be what was told.
    fn judge(&self, address: SocketAddr) {
        let http = Http::to(address);
        let (mut there, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let page = http.get(&format!("/v1/jobs?queue={}&limit=1000{cursor}", self.queue)).expect(200);
            for job in page["jobs"].as_array().unwrap() {
                let kind = text(&job["kind"]);
                assert!(self.jobs.contains_key(&kind), "{kind} was put by nobody");
                assert!(there.insert(kind.clone(), job.clone()).is_none(), "{kind} is there twice");
            }
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        for (kind, told) in &self.jobs {
            let stand = match there.get(kind) {
                None => Stand::Gone,
                Some(job) => {
                    assert_eq!(text(&job["id"]), told.id, "{kind}");
                    let attempts = job["attempts"].as_u64().expect("a number");
                    assert!(told.attempts.contains(&attempts), "{kind} has {attempts} attempts: {told:?}");
                    match job["state"].as_str().unwrap() {
                        "ready" => Stand::Ready,
                        "delayed" => Stand::Delayed,
                        "buried" => Stand::Buried,
                        other => panic!("{kind} is {other}"),
                    }
                }
            };
            assert!(told.stands.contains(&stand), "{kind} is {stand:?}: {told:?}");
        }
        let queue = http.get(&format!("/v1/queues/{}", self.queue));
        let limit =
            if queue.status == 404 { 0 } else { queue.expect(200)["settings"]["max_jobs"].as_u64().unwrap_or(0) };
        assert!(self.limits.contains(&limit), "the settings say {limit}: {:?}", self.limits);
        let schedule = http.get(&format!("/v1/schedules/{}", self.queue));
        let hours = (schedule.status != 404).then(|| {
            let every = text(&schedule.expect(200)["every"]);
            every.strip_suffix('s').and_then(|seconds| seconds.parse::<u64>().ok()).expect("seconds") / 3600
        });
        assert!(self.hours.contains(&hours), "the schedule says {hours:?}: {:?}", self.hours);
    }
}

/// Asks, and reads the answer; `None` if there is none, or not all of it.
fn ask(address: SocketAddr, request: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
    let headers =
        if body.is_empty() { headers.to_owned() } else { format!("{headers}content-type: application/json\r\n") };
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.write_all(Http::to(address).bytes(request, &headers, body).as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let is_whole = body.ends_with('\n');
    let json = if body.is_empty() { Value::Null } else { serde_json::from_str(body).ok()? };
    is_whole.then_some((status, json))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
