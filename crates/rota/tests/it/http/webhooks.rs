//! Webhooks of the real server: called in order, signed, again until they are taken, through kills and starts; refused, paused,
//! tried, by HTTP and by the command line.

mod library;
mod reach;
mod receiver;
mod rotation;
mod trust;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Http, end, put, reserve};
use crate::process::{Rota, until};
use crate::tokens::create;
use receiver::Receiver;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A server of its own, which may call receivers of this machine.
pub(super) fn server(flags: &[&str]) -> (TempDir, Rota, Http) {
    super::server(&[&["--webhook-allow", "127.0.0.1"], flags].concat())
}

pub(super) fn start(data: &TempDir, flags: &[&str]) -> Rota {
    super::start(data, &[&["--webhook-allow", "127.0.0.1"], flags].concat())
}

/// Sets up a webhook of those events that is new; its secret.
fn set(http: &Http, receiver: &Receiver, events: &[&str]) -> String {
    let hook = http.put("/v1/webhooks/hook", &json!({ "url": receiver.url(), "events": events })).expect(201);
    hook["secret"].as_str().expect("it was made").to_owned()
}

fn show(http: &Http) -> Value {
    http.get("/v1/webhooks/hook").expect(200)
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number in a text"))
}

#[test]
fn chosen_events_come_in_order_and_signed_and_again_until_they_are_taken() {
    let (_data, _rota, http) = server(&[]);
    let receiver = Receiver::new();
    receiver.answer(&["500 Oops", "302 Found\r\nlocation: http://127.0.0.1:1/"]);
    let secret = set(&http, &receiver, &["job.put", "job.compl*"]);
    let ids: Vec<String> = (0..5).map(|n| put(&http, &format!("{n}"))).collect();
    let lease = reserve(&http);
    end(&http, &lease, "complete").expect(200);

    let first: Vec<_> = (0..3).map(|_| receiver.call()).collect();
    for call in &first {
        call.check(&secret);
        // The same batch is the same call, until it is taken.
        assert_eq!((call.header("webhook-id"), &call.body), (first[0].header("webhook-id"), &first[0].body));
        assert!(call.header("user-agent").starts_with("rota/"), "{call:?}");
    }
    assert_eq!(first.iter().map(|call| call.status).collect::<Vec<_>>(), [500, 302, 204]);
    assert_eq!(first[0].json()["webhook"], "hook");
    let mut events = first[0].events();
    let is_last = |event: &Value| event["kind"] == "job.completed";
    if !events.iter().any(is_last) {
        events.extend(receiver.events_until(&secret, is_last));
    }
    let kinds: Vec<&str> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["job.put", "job.put", "job.put", "job.put", "job.put", "job.completed"]);
    let jobs: Vec<&str> = events[..5].iter().map(|event| event["job"].as_str().unwrap()).collect();
    assert_eq!(jobs, ids);
    assert!(events.windows(2).all(|two| number(&two[0]["seq"]) < number(&two[1]["seq"])), "{events:?}");

    let shown = until("all is known to be delivered", || Some(show(&http)).filter(|hook| hook["delivered"] == 6));
    assert_eq!(shown["seq"], events[5]["seq"]);
    assert_eq!((&shown["calls"]["refused"], &shown["failures"], &shown["lag"]), (&json!(2), &json!(0), &json!("0s")));
    assert_eq!((&shown["last"]["outcome"], &shown["last"]["status"]), (&json!("delivered"), &json!(204)));
    let metrics = http.get("/metrics").body;
    for line in [
        "rota_webhook_deliveries_total{webhook=\"hook\",outcome=\"refused\"} 2\n",
        "rota_webhook_events_delivered_total{webhook=\"hook\"} 6\n",
        "rota_webhook_lag_seconds{webhook=\"hook\"} 0.0\n",
        "rota_webhook_paused{webhook=\"hook\"} 0\n",
        // It is no client that listens.
        "rota_event_listeners 0\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[test]
fn only_events_of_the_named_queues_come() {
    let (_data, _rota, http) = server(&[]);
    let receiver = Receiver::new();
    let hook = json!({ "url": receiver.url(), "queues": ["mail*", "news"], "secret": SECRET });
    let hook = http.put("/v1/webhooks/hook", &hook).expect(201);
    assert_eq!((&hook["events"], &hook["queues"]), (&json!(["*"]), &json!(["mail*", "news"])));
    for queue in ["other", "mail", "newspaper", "mail-eu", "news"] {
        http.post("/v1/jobs", &json!({ "queue": queue, "text": "x" })).expect(201);
    }
    let events = receiver.events_until(SECRET, |event| event["queue"] == "news");
    let queues: Vec<&str> = events.iter().map(|event| event["queue"].as_str().unwrap()).collect();
    assert_eq!(queues, ["mail", "mail-eu", "news"]);
}

#[test]
fn what_was_not_taken_before_a_kill_comes_after_it() {
    let data = TempDir::new().unwrap();
    let mut rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let receiver = Receiver::new();
    let secret = set(&http, &receiver, &["job.put"]);
    let jobs: Vec<String> = (0..3).map(|n| put(&http, &n.to_string())).collect();
    let taken = receiver.events_until(&secret, |event| event["job"] == jobs[2].as_str());
    assert_eq!(taken.len(), 3, "{taken:?}");
    let kept = format!("\"seq\":{}}}", number(&taken[2]["seq"]));
    until("its place is kept", || {
        let places = fs::read_to_string(data.path().join("webhooks.places")).ok()?;
        places.contains(&kept).then_some(())
    });
    let mode = fs::metadata(data.path().join("webhooks")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for cycle in 0..3 {
        receiver.answer_all("503 Not Now");
        let http = Http::to(rota.http());
        let late: Vec<String> = (0..4).map(|n| put(&http, &format!("{cycle}-{n}"))).collect();
        // In the middle of a call, or of the wait after it.
        let refused = until("a call is refused", || Some(receiver.call()).filter(|call| call.status == 503));
        refused.check(&secret);
        rota.kill();
        receiver.answer_all("200 OK");
        rota = start(&data, &[]);
        let http = Http::to(rota.http());
        assert!(number(&show(&http)["seq"]) >= number(&taken[2]["seq"]), "{}", show(&http));
        let last = put(&http, "last");
        let events = receiver.events_until(&secret, |event| event["job"] == last.as_str());
        // What the log has is not gone.
        assert!(events.iter().all(|event| event["kind"] == "job.put"), "{events:?}");
        let came = |job: &String| events.iter().any(|event| event["job"] == job.as_str());
        assert!(late.iter().all(came), "{late:?} {events:?}");
        assert!(!jobs.iter().any(came), "what was taken long ago comes again: {events:?}");
    }
    // After an orderly stop it goes on as well.
    let shown = show(&Http::to(rota.http()));
    assert!(rota.terminate().success());
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    assert!(number(&show(&http)["seq"]) >= number(&shown["seq"]), "{shown}");
    assert_eq!(show(&http)["created_at"], shown["created_at"]);
}

/// What is past in several parts of the log, from before anybody listened; and webhooks that go through it from its begin, more
/// than may read it at a time, none of which takes anything. Another one gets all of it meanwhile.
fn far_behind(answer: &str) -> (TempDir, Rota, Http, Receiver) {
    let (data, rota, http) = server(&[]);
    let jobs: Vec<Value> = (0..1_000).map(|n| json!({ "queue": "work", "text": n.to_string() })).collect();
    http.post("/v1/jobs", &json!(jobs)).expect(200);
    let set = |name: &str, receiver: &Receiver| {
        let hook = json!({ "url": receiver.url(), "events": ["job.put"], "after": "0" });
        let hook = http.put(&format!("/v1/webhooks/{name}"), &hook).expect(201);
        hook["secret"].as_str().expect("it was made").to_owned()
    };
    let receiver = Receiver::new();
    receiver.answer_all(answer);
    (0..10).for_each(|n| drop(set(&format!("behind-{n}"), &receiver)));
    // Each of them has had its turn.
    let mut called = std::collections::BTreeSet::new();
    while called.len() < 10 {
        called.insert(receiver.call().json()["webhook"].to_string());
    }
    let taking = Receiver::new();
    let secret = set("hook", &taking);
    let events = taking.events_until(&secret, |event| event["job"] == "1000");
    assert_eq!(events.len(), 1_000);
    (data, rota, http, receiver)
}

#[test]
fn those_that_are_far_behind_and_refused_keep_nobody_from_what_is_past() {
    far_behind("503 Not Now");
}

/// How long a call waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn those_that_are_far_behind_and_wait_for_an_answer_keep_nobody_from_what_is_past() {
    // Where this machine takes so long that first calls were given up by then, that says nothing.
    let in_time = (0..20).any(|_| {
        let begun = Instant::now();
        let (_data, _rota, http, _receiver) = far_behind("nothing");
        let hooks = http.get("/v1/webhooks").expect(200);
        if begun.elapsed() >= PATIENCE {
            return false;
        }
        // Not because they were given up: their first calls are still under way.
        for hook in hooks["webhooks"].as_array().unwrap() {
            assert_eq!((&hook["calls"]["unanswered"], &hook["failures"]), (&json!(0), &json!(0)), "{hook}");
        }
        true
    });
    assert!(in_time, "what is past is read as soon as the others were given up");
}

#[test]
fn an_address_that_is_gone_is_called_no_more_until_somebody_says_so() {
    let data = TempDir::new().unwrap();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let receiver = Receiver::new();
    receiver.answer(&["410 Gone"]);
    let secret = set(&http, &receiver, &["job.put"]);
    let first = put(&http, "a");
    let gone = receiver.call();
    assert_eq!(gone.status, 410);
    let shown = until("it pauses itself", || Some(show(&http)).filter(|hook| hook["paused"] == true));
    assert_eq!((&shown["paused_because"], &shown["last"]["status"]), (&json!("gone"), &json!(410)));
    // Nobody asked for that.
    let told = super::facts::past(&http, None, "kind=webhook.*");
    let kinds: Vec<&str> = told.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["webhook.created", "webhook.paused"]);
    assert_eq!((&told[1]["webhook"], &told[1]["reason"], told[1].get("actor")), (&json!("hook"), &json!("gone"), None));
    // So it stays, also through a start.
    drop(rota);
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    put(&http, "b");
    assert_eq!(show(&http)["paused_because"], "gone");
    assert!(receiver.is_quiet());
    let resumed = http.post_nothing("/v1/webhooks/hook/resume").expect(200);
    assert_eq!((&resumed["paused"], resumed.get("paused_because")), (&json!(false), None));
    let last = put(&http, "c");
    let events = receiver.events_until(&secret, |event| event["job"] == last.as_str());
    assert!(events.iter().any(|event| event["job"] == first.as_str()), "{events:?}");
}

#[test]
fn a_pause_keeps_the_place_and_a_resume_tries_at_once() {
    let (_data, _rota, http) = server(&[]);
    let receiver = Receiver::new();
    receiver.answer(&["503 Later\r\nretry-after: 3000"]);
    let secret = set(&http, &receiver, &["job.put"]);
    let job = put(&http, "a");
    assert_eq!(receiver.call().status, 503);
    let shown = until("it waits", || Some(show(&http)).filter(|hook| hook.get("next_try").is_some()));
    let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let wait = moment(&shown["next_try"]).duration_since(moment(&shown["last"]["at"]));
    assert!((2990..3010).contains(&wait.as_secs()), "{shown}");
    assert_ne!(shown["lag"], "0s", "{shown}");
    assert!(shown["last"]["error"].as_str().unwrap().starts_with("answered 503"), "{shown}");
    http.post_nothing("/v1/webhooks/hook/resume").expect(200);
    assert_eq!(receiver.events_until(&secret, |_| true)[0]["job"], job.as_str());
    until("that is known", || (show(&http)["delivered"] == 1).then_some(()));

    // While it is paused somebody else listens, so that nothing is gone.
    let _stream = super::events::stream::Stream::open(&http, "/v1/events", "");
    assert!(http.get("/metrics").body.contains("rota_event_listeners 1\n"));
    let paused = http.post_nothing("/v1/webhooks/hook/pause").expect(200);
    assert_eq!((&paused["paused"], &paused["paused_because"]), (&json!(true), &json!("asked")));
    let jobs = [put(&http, "b"), put(&http, "c")];
    http.post_nothing("/v1/webhooks/hook/pause").expect(200);
    assert!(receiver.is_quiet());
    // A change of the rest leaves pause, place and secret as they are.
    let changed = http.put("/v1/webhooks/hook", &json!({ "url": receiver.url(), "events": ["job.put"] })).expect(200);
    assert_eq!((&changed["paused"], &changed["seq"], changed.get("secret")), (&json!(true), &paused["seq"], None));
    http.post_nothing("/v1/webhooks/hook/resume").expect(200);
    let events = receiver.events_until(&secret, |event| event["job"] == jobs[1].as_str());
    let came: Vec<&str> = events.iter().map(|event| event["job"].as_str().unwrap()).collect();
    assert_eq!(came, jobs);
    // It may be sent back to what is still there.
    let back = json!({ "url": receiver.url(), "events": ["job.put"], "after": paused["seq"], "secret": SECRET });
    http.put("/v1/webhooks/hook", &back).expect(200);
    let again = receiver.events_until(SECRET, |event| event["job"] == jobs[1].as_str());
    assert_eq!(again, events);
}

#[test]
fn who_does_not_answer_holds_up_nobody_and_is_told_what_is_gone() {
    // Without a log nothing is kept but the newest.
    let (_data, mut rota, http) = server(&["--storage", "memory"]);
    let (slow, quick) = (Receiver::new(), Receiver::new());
    slow.answer_all("nothing");
    let secret = set(&http, &slow, &["job.put"]);
    let other = json!({ "url": quick.url(), "events": ["job.put"], "queues": ["work"], "secret": SECRET });
    http.put("/v1/webhooks/quick", &other).expect(201);
    let first = put(&http, "first");
    assert_eq!(slow.call().events()[0]["job"], first.as_str());
    // More than the ring holds.
    let jobs: Vec<Value> = (0..1000).map(|_| json!({ "queue": "many", "text": "" })).collect();
    for _ in 0..70 {
        http.post("/v1/jobs", &json!({ "jobs": jobs })).expect(200);
    }
    let last = put(&http, "last");
    let came = quick.events_until(SECRET, |event| event["job"] == last.as_str());
    assert!(came.iter().any(|event| event["job"] == first.as_str()), "{came:?}");
    slow.answer_all("200 OK");
    http.post_nothing("/v1/webhooks/hook/resume").expect(200);
    let events = slow.events_until(&secret, |event| event["job"] == last.as_str());
    let gone = events.iter().position(|event| event["kind"] == "gone").expect("it is told");
    assert_eq!(events[gone]["restarted"], false);
    assert!(number(&events[gone]["seq"]) < number(&events[gone + 1]["seq"]), "{gone}");
    // A call that hangs does not hold up the stop.
    slow.answer_all("nothing");
    put(&http, "hangs");
    slow.call();
    assert!(rota.terminate().success());
}

#[test]
fn a_webhook_is_tried_shown_listed_and_deleted() {
    let (_data, rota, http) = server(&["--storage", "memory"]);
    let receiver = Receiver::new();
    let new = json!({ "url": receiver.url(), "paused": true, "secret": SECRET, "events": ["job.put"] });
    let mut hook = http.put("/v1/webhooks/a%2Fb", &new).expect(201);
    assert_eq!((&hook["name"], &hook["paused"], hook.get("secret")), (&json!("a/b"), &json!(true), None));
    let tried = http.post_nothing("/v1/webhooks/a%2Fb/test").expect(200);
    assert_eq!((&tried["delivered"], &tried["call"]["status"]), (&json!(true), &json!(204)));
    let call = receiver.call();
    call.check(SECRET);
    assert_eq!(call.events()[0]["kind"], "webhook.test");
    receiver.answer(&["404 Who"]);
    let tried = http.post_nothing("/v1/webhooks/a%2Fb/test").expect(200);
    assert_eq!((&tried["delivered"], &tried["call"]["outcome"]), (&json!(false), &json!("refused")));
    // Nobody is at port 1.
    http.put("/v1/webhooks/nobody", &json!({ "url": "http://127.0.0.1:1/", "paused": true })).expect(201);
    let tried = http.post_nothing("/v1/webhooks/nobody/test").expect(200);
    assert_eq!(tried["call"]["outcome"], "unanswered");
    assert!(tried["call"]["error"].as_str().unwrap().contains("refused"), "{tried}");

    let list = http.get("/v1/webhooks").expect(200);
    let names: Vec<&Value> = list["webhooks"].as_array().unwrap().iter().map(|hook| &hook["name"]).collect();
    assert_eq!(names, ["a/b", "nobody"]);
    hook = http.delete("/v1/webhooks/a%2Fb").expect(200);
    assert_eq!(hook["url"], receiver.url());
    for request in ["GET", "DELETE"] {
        http.ask(&format!("{request} /v1/webhooks/a%2Fb"), "", "").problem(404, "webhook-not-found");
    }
    http.delete("/v1/webhooks/a%2Fb/old-secret").problem(404, "webhook-not-found");
    for verb in ["pause", "resume", "test", "rotate"] {
        http.post_nothing(&format!("/v1/webhooks/a%2Fb/{verb}")).problem(404, "webhook-not-found");
    }
    let said = format!("{}{}{list}", rota.stdout(), rota.stderr());
    assert!(!said.contains("whsec") && !said.contains(&SECRET[8..20]), "{said}");
}

#[test]
fn a_secret_is_answered_once_and_said_nowhere_else() {
    let data = TempDir::new().unwrap();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let receiver = Receiver::new();
    let secret = set(&http, &receiver, &["job.put"]);
    assert_eq!(base64_bytes(&secret), 32);
    let again = http.put("/v1/webhooks/hook", &json!({ "url": receiver.url(), "events": ["job.put"] })).expect(200);
    let answers = [
        again.to_string(),
        show(&http).to_string(),
        http.get("/v1/webhooks").body,
        http.get("/metrics").body,
        http.put("/v1/webhooks/x", &json!({ "url": "http://a/", "secret": secret[..20] })).body,
        http.post_nothing("/v1/webhooks/hook/pause").body,
        http.post_nothing("/v1/webhooks/hook/resume").body,
        http.post_nothing("/v1/webhooks/hook/test").body,
        http.delete("/v1/webhooks/hook").body,
        rota.stdout(),
        rota.stderr(),
    ];
    assert!(!answers.concat().contains(&secret[6..16]), "{answers:?}");
    assert_eq!(fs::read_to_string(data.path().join("webhooks")).unwrap(), "");
}

fn base64_bytes(secret: &str) -> usize {
    use base64::Engine;
    let text = secret.strip_prefix("whsec_").expect(secret);
    base64::engine::general_purpose::STANDARD.decode(text).expect(secret).len()
}

#[test]
fn a_bad_webhook_is_refused_with_the_place_and_what_to_try() {
    let (_data, _rota, http) = server(&[]);
    let url = "http://127.0.0.1:1/";
    for (new, pointer, detail, hint) in [
        (json!({ "url": "ftp://a/" }), "#/url", "\"ftp\" cannot be called", "https://"),
        (json!({ "url": "example.com/x" }), "#/url", "not the address", "https://"),
        (json!({ "url": "http://me:word@a/" }), "#/url", "a user or a password", "leave them away"),
        (json!({ "url": "http://a/#b" }), "#/url", "a fragment", "leave #"),
        (json!({ "url": "http://a/ b" }), "#/url", "no blanks", "%20"),
        (json!({ "url": "http://1.2.3.4.5/" }), "#/url", "not the address", ""),
        (json!({ "url": format!("http://a/{}", "x".repeat(2000)) }), "#/url", "at most 2000 bytes", ""),
        (json!({ "url": url, "events": [] }), "#/events", "is empty", "leave it away"),
        (
            json!({ "url": url, "events": ["job.put", "job.fail"] }),
            "#/events/1",
            "\"job.fail\" is no kind",
            "job.failed",
        ),
        (json!({ "url": url, "events": ["job.put,job.failed"] }), "#/events/0", "a comma", "an entry"),
        (json!({ "url": url, "events": vec!["job.put"; 65] }), "#/events", "at most 64", ""),
        (json!({ "url": url, "queues": [] }), "#/queues", "is empty", "leave it away"),
        (json!({ "url": url, "queues": ["mail", "a b"] }), "#/queues/1", "names no queues", ""),
        (json!({ "url": url, "secret": "hush" }), "#/secret", "whsec_", "leave it away"),
        (json!({ "url": url, "secret": "whsec_c2hvcnQ=" }), "#/secret", "24 to 64 bytes", "leave it away"),
        (json!({ "url": url, "after": "x" }), "#/after", "number of an event", "\"0\""),
    ] {
        let problem = http.put("/v1/webhooks/hook", &new).problem(422, "bad-value");
        assert_eq!(problem["pointer"], pointer, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains(hint), "{problem}");
        assert!(!problem.to_string().contains("word@"), "{problem}");
    }
    http.put("/v1/webhooks/hook", &json!({ "url": url, "evnts": [] })).problem(422, "unknown-field");
    http.put("/v1/webhooks/a%20b", &json!({ "url": url })).problem(400, "malformed-request");
    assert_eq!(http.get("/v1/webhooks").expect(200), json!({ "webhooks": [] }));
    for n in 0..100 {
        http.put(&format!("/v1/webhooks/{n}"), &json!({ "url": url, "paused": true })).expect(201);
    }
    http.put("/v1/webhooks/100", &json!({ "url": url })).problem(429, "too-many-webhooks");
    http.put("/v1/webhooks/99", &json!({ "url": url, "paused": true })).expect(200);
    http.delete("/v1/webhooks/7").expect(200);
    http.put("/v1/webhooks/100", &json!({ "url": url, "paused": true })).expect(201);
}

#[test]
fn files_that_are_wrong_stop_the_start() {
    let data = TempDir::new().unwrap();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    http.put("/v1/webhooks/hook", &json!({ "url": "http://a/", "paused": true, "secret": SECRET })).expect(201);
    drop(rota);
    let file = data.path().join("webhooks");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = crate::process::Rota::ended(crate::process::on(data.path(), &[]));
    assert!(code == 2 && err.contains("open to other users (mode 0644)") && err.contains("chmod 600"), "{code} {err}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("http://a/", "gopher://a/")).unwrap();
    let (code, _, err) = crate::process::Rota::ended(crate::process::on(data.path(), &[]));
    assert!(code == 2 && err.contains("webhooks:1: url") && !err.contains(&SECRET[6..]), "{code} {err}");
}

#[test]
fn what_cannot_be_written_down_changes_nothing() {
    let (data, _rota, http) = server(&[]);
    let receiver = Receiver::new();
    let secret = set(&http, &receiver, &["job.put"]);
    let shown = show(&http);
    // A folder cannot be replaced by a file.
    let way = data.path().join("webhooks.new");
    fs::create_dir(&way).unwrap();
    let other = json!({ "url": "http://127.0.0.1:1/" });
    http.put("/v1/webhooks/other", &other).problem(500, "webhooks-not-kept");
    http.put("/v1/webhooks/hook", &other).problem(500, "webhooks-not-kept");
    http.post_nothing("/v1/webhooks/hook/pause").problem(500, "webhooks-not-kept");
    http.post_nothing("/v1/webhooks/hook/rotate").problem(500, "webhooks-not-kept");
    http.delete("/v1/webhooks/hook").problem(500, "webhooks-not-kept");
    let job = put(&http, "a");
    receiver.events_until(&secret, |event| event["job"] == job.as_str());
    assert_eq!(http.get("/v1/webhooks").expect(200)["webhooks"].as_array().unwrap().len(), 1);
    assert_eq!((&show(&http)["url"], &show(&http)["paused"]), (&shown["url"], &json!(false)));
    fs::remove_dir(&way).unwrap();
    http.put("/v1/webhooks/other", &other).expect(201);
    http.delete("/v1/webhooks/hook").expect(200);
}

#[test]
fn with_tokens_and_without_http_it_is_called_all_the_same() {
    let data = TempDir::new().unwrap();
    let admin = create(data.path(), &["--role", "admin"]);
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let receiver = Receiver::new();
    let hook = json!({ "url": receiver.url(), "events": ["job.put"], "secret": SECRET }).to_string();
    let headers = format!("authorization: Bearer {admin}\r\ncontent-type: application/json\r\n");
    http.ask("PUT /v1/webhooks/hook", &headers, &hook).expect(201);
    let mut wire = crate::wire::Wire::to(rota.address());
    let id = wire.put("put 0 0 60", b"x").to_string();
    receiver.events_until(SECRET, |event| event["job"] == id.as_str());
    // A token that is made or revoked concerns it no more than that.
    create(data.path(), &["--role", "viewer"]);
    drop(rota);
    let rota = Rota::ready(crate::process::on(data.path(), &["--webhook-allow", "127.0.0.1"]));
    let mut wire = crate::wire::Wire::to(rota.address());
    let id = wire.put("put 0 0 60", b"x").to_string();
    receiver.events_until(SECRET, |event| event["job"] == id.as_str());
}

/// Runs the command; its exit code and what it said.
fn command(http: SocketAddr, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
    command.arg("webhook").args(arguments).env("ROTA_HTTP", http.to_string()).env_remove("ROTA_TOKEN");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_does_what_the_pages_do() {
    let (data, rota, _http) = server(&[]);
    let receiver = Receiver::new();
    let run = |arguments: &[&str]| command(rota.http(), arguments);
    let good = |arguments: &[&str]| {
        let (code, out, err) = run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out
    };
    assert_eq!(good(&["list"]), "");
    let out = good(&["set", "one", &receiver.url(), "--events", "job.failed,job.buried", "--queues", "mail*"]);
    let secret = out.lines().find_map(|line| line.strip_prefix("secret ")).expect("it was made").to_owned();
    assert!(out.starts_with("one: on after event ") && secret.starts_with("whsec_"), "{out}");
    let file = data.path().join("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let out = good(&["set", "two", &receiver.url(), "--paused", "--secret-file", file.to_str().unwrap()]);
    assert!(out.starts_with("two: paused after event ") && !out.contains("whsec_"), "{out}");
    let list = good(&["list"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[0][0], rows[1][2], rows[2][3]), (3, "WEBHOOK", "job.failed,job.buried", "paused"));
    let shown = good(&["show", "one"]);
    assert!(shown.contains("job.failed,job.buried") && !shown.contains("whsec_"), "{shown}");
    assert!(good(&["test", "two"]).starts_with("two took it in "));
    receiver.call().check(SECRET);
    receiver.answer(&["500 No"]);
    let (code, _, err) = run(&["test", "one"]);
    assert!(code == 1 && err.contains("one did not take it: answered 500") && err.contains("hint:"), "{code} {err}");
    assert!(good(&["resume", "two"]).starts_with("resumed two: after event "));
    assert_eq!(good(&["pause", "one"]), "paused one\n");
    assert_eq!(good(&["delete", "one"]), "deleted one\n");
    let (code, _, err) = run(&["show", "one"]);
    assert!(code == 3 && err.contains("there is no webhook one"), "{code} {err}");
    let (code, _, err) = run(&["set", "x", "http://a:b@c/"]);
    assert!(code == 1 && err.contains("a user or a password"), "{code} {err}");
    let json: Value = serde_json::from_str(&good(&["show", "two", "--json"])).unwrap();
    assert_eq!(json["name"], "two");
}
