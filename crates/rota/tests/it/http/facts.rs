//! What is set up beside jobs, as events: webhooks and tokens, with who changed them, in the journal through kills and starts,
//! and never with a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Answer, Http};
use super::events::stream::Stream;
use super::webhooks::{server, start};
use crate::process::{self, Rota, until};
use crate::tokens::{command, create, good, id};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// Nobody is at port 1; the address has something in it that is nobody's business.
const URL: &str = "http://127.0.0.1:1/?private=word";

/// The events of that choice that are there, as objects.
pub(super) fn past(http: &Http, token: Option<&str>, query: &str) -> Vec<Value> {
    let header = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let mut stream = Stream::open(http, &format!("/v1/events?after=0&follow=false&{query}"), &header);
    let mut events = Vec::new();
    loop {
        let said = stream.event();
        match said.event.as_str() {
            "resumed" => {}
            "end" => return events,
            _ => events.push(said.data),
        }
    }
}

/// What happened to what, and who asked for it, in few words.
fn words(events: &[Value]) -> Vec<String> {
    let word = |event: &Value, name: &str| event.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let line = |event: &Value| {
        let parts = ["kind", "webhook", "token", "name", "reason"].iter().filter_map(|name| word(event, name));
        let by = word(event, "actor").unwrap_or_else(|| String::from("nobody"));
        format!("{} by {by}", parts.collect::<Vec<_>>().join(" "))
    };
    events.iter().map(line).collect()
}

/// A server that asks for tokens, with two who may everything.
struct Stage {
    data: TempDir,
    rota: Rota,
    http: Http,
    boss: String,
    clerk: String,
}

impl Stage {
    fn new() -> Stage {
        let data = TempDir::new().unwrap();
        let [boss, clerk] = ["boss", "clerk"].map(|name| create(data.path(), &["--role", "admin", "--name", name]));
        let rota = start(&data, &["--auth"]);
        let http = Http::to(rota.http());
        Stage { data, rota, http, boss, clerk }
    }

    fn ask(&self, token: &str, request: &str, body: &Value) -> Answer {
        let kind = if body.is_null() { "" } else { "content-type: application/json\r\n" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.http.ask(request, &format!("authorization: Bearer {token}\r\n{kind}"), &body)
    }

    /// Begins again after a kill.
    fn again(mut self) -> Stage {
        self.rota.kill();
        let rota = start(&self.data, &["--auth"]);
        let http = Http::to(rota.http());
        Stage { rota, http, ..self }
    }

    fn past(&self, query: &str) -> Vec<Value> {
        past(&self.http, Some(&self.boss), query)
    }
}

/// What a command of the binary prints.
fn printed(arguments: &[&str], token: Option<&str>) -> String {
    let mut command = process::rota();
    token.into_iter().for_each(|token| _ = command.env("ROTA_TOKEN", token));
    good(command.args(arguments).output().unwrap())
}

#[test]
fn each_change_of_a_webhook_is_told_once_with_who_asked_for_it() {
    let stage = Stage::new();
    let (boss, clerk) = (stage.boss.clone(), stage.clerk.clone());
    let header = format!("authorization: Bearer {boss}\r\n");
    let mut live = Stream::open(&stage.http, "/v1/events?kind=webhook.*", &header);
    let hook = json!({ "url": URL, "events": ["job.failed"], "secret": SECRET, "paused": true });
    let set = |token: &str, hook: &Value, status: u16| stage.ask(token, "PUT /v1/webhooks/alerts", hook).expect(status);
    set(&boss, &hook, 201);
    // As it is already, also where what stays as it is is not named.
    set(&clerk, &hook, 200);
    set(&clerk, &json!({ "url": URL, "events": ["job.failed"] }), 200);
    set(&clerk, &json!({ "url": URL, "events": ["job.*"], "paused": false }), 200);
    set(&boss, &json!({ "url": URL, "events": ["job.*"], "after": "0" }), 200);
    for (token, verb) in [(&boss, "pause"), (&clerk, "pause"), (&clerk, "resume"), (&boss, "resume")] {
        stage.ask(token, &format!("POST /v1/webhooks/alerts/{verb}"), &Value::Null).expect(200);
    }
    stage.ask(&boss, "POST /v1/webhooks/alerts/rotate", &Value::Null).expect(200);
    for _ in 0..2 {
        stage.ask(&clerk, "DELETE /v1/webhooks/alerts/old-secret", &Value::Null).expect(200);
    }
    stage.ask(&clerk, "DELETE /v1/webhooks/alerts", &Value::Null).expect(200);
    // What is refused, or changes nothing, is no event.
    stage.ask(&boss, "PUT /v1/webhooks/alerts", &json!({ "url": "ftp://a/" })).problem(422, "bad-value");
    stage.ask(&boss, "DELETE /v1/webhooks/alerts", &Value::Null).problem(404, "webhook-not-found");

    let expected = [
        "webhook.created alerts by boss",
        "webhook.paused alerts asked by boss",
        "webhook.changed alerts by clerk",
        "webhook.resumed alerts by clerk",
        "webhook.changed alerts by boss",
        "webhook.paused alerts asked by boss",
        "webhook.resumed alerts by clerk",
        "webhook.changed alerts by boss",
        "webhook.changed alerts by clerk",
        "webhook.deleted alerts by clerk",
    ];
    let told: Vec<Value> = expected.iter().map(|_| live.event().data).collect();
    assert_eq!(words(&told), expected);
    assert_eq!(stage.past("kind=webhook.*"), told, "the journal tells the same");
    assert_eq!(words(&stage.past("kind=webhook.*&actor=clerk")).len(), 5);
    drop(live);
    let stage = stage.again();
    assert_eq!(stage.past("kind=webhook.*"), told, "and so it does after a kill");

    let address = stage.http.address().to_string();
    let lines = printed(&["events", "--no-follow", "--kind", "webhook.*", "--http", &address], Some(&boss));
    let kinds: Vec<&str> = lines.lines().filter(|line| line.contains("webhook=alerts")).collect();
    assert!(kinds.len() == 10 && kinds[0].contains(" webhook.created ") && kinds[0].contains(" actor=boss"), "{lines}");
    let log = printed(&["log", "show", stage.data.path().to_str().unwrap()], None);
    let noted: Vec<&str> = log.lines().filter(|line| line.contains("noted") && line.contains("webhook=")).collect();
    assert_eq!(noted.len(), 10, "{log}");
    assert!(noted[1].contains("what=webhook.paused") && noted[1].contains("reason=asked"), "{}", noted[1]);
    for text in [lines, log, json!(told).to_string(), stage.rota.stderr()] {
        assert!(!text.contains("whsec") && !text.contains("private") && !text.contains("127.0.0.1:1/"), "{text}");
    }
}

#[test]
fn tokens_that_are_made_and_revoked_are_told_whether_a_server_runs_or_not() {
    let stage = Stage::new();
    let (boss, clerk) = (id(&stage.boss).to_owned(), id(&stage.clerk).to_owned());
    let made =
        [format!("token.created {boss} boss by command line"), format!("token.created {clerk} clerk by command line")];
    let sorted = |events: &[Value]| {
        let mut words = words(events);
        words.sort();
        words
    };
    let mut expected = made.to_vec();
    expected.sort();
    // Those that were there before the server are told at its start.
    assert_eq!(sorted(&stage.past("kind=token.*")), expected);
    // While it runs: to who listens, and in the journal.
    let header = format!("authorization: Bearer {}\r\n", stage.boss);
    let mut live = Stream::open(&stage.http, "/v1/events?kind=token.*", &header);
    let nameless = create(stage.data.path(), &["--role", "producer", "--expires", "1h"]);
    let nameless = id(&nameless).to_owned();
    let mut told = vec![live.event().data];
    good(command(stage.data.path(), &["revoke", &clerk]));
    told.push(live.event().data);
    let now = [
        format!("token.created {nameless} by command line"),
        format!("token.revoked {clerk} clerk asked by command line"),
    ];
    assert_eq!(words(&told), now);
    // Limited to some queues, nobody sees it; who may look at all of them does.
    let [limited, viewer] = [&["--queues", "mail*"][..], &[]]
        .map(|more| create(stage.data.path(), &[&["--role", "viewer", "--name", "looks"], more].concat()));
    told.extend([live.event().data, live.event().data]);
    assert_eq!(past(&stage.http, Some(&limited), "kind=token.*,webhook.*"), Vec::<Value>::new());
    assert_eq!(past(&stage.http, Some(&viewer), "kind=token.*")[2..], told[..]);
    drop(live);
    // After a kill nothing is told again, and what was changed meanwhile once.
    let before = stage.past("kind=token.*");
    until("that is written down", || {
        let kept = fs::read_to_string(stage.data.path().join("tokens.told")).ok()?;
        (kept.lines().count() == 5).then_some(())
    });
    let Stage { data, mut rota, boss: admin, .. } = stage;
    rota.kill();
    let late = create(data.path(), &["--role", "viewer", "--name", "late"]);
    good(command(data.path(), &["revoke", id(&late), id(&viewer)]));
    let rota = start(&data, &["--auth"]);
    let after = past(&Http::to(rota.http()), Some(&admin), "kind=token.*");
    assert_eq!(after[..before.len()], before[..]);
    let mut new = [
        format!("token.created {} late by command line", id(&late)),
        format!("token.revoked {} late asked by command line", id(&late)),
        format!("token.revoked {} looks asked by command line", id(&viewer)),
    ];
    new.sort();
    assert_eq!(sorted(&after[before.len()..]), new);
    drop(rota);
    let rota = start(&data, &["--auth"]);
    let http = Http::to(rota.http());
    assert_eq!(past(&http, Some(&admin), "kind=token.*"), after, "a start alone tells nothing");
    // A token whose line is gone is as good as revoked; one that was revoked before only loses its line.
    keep_lines(data.path(), |line| !line.contains(&nameless) && !line.contains(id(&late)));
    let gone = until("it is told", || {
        let told = past(&http, Some(&admin), "kind=token.*");
        (told.len() > after.len()).then(|| told[after.len()..].to_vec())
    });
    assert_eq!(words(&gone), [format!("token.revoked {nameless} gone by command line")]);

    let log = printed(&["log", "show", data.path().to_str().unwrap()], None);
    for token in [&admin, &limited, &viewer, &late] {
        let (secret, _) = token[14..].split_at(20);
        let kept = fs::read_to_string(data.path().join("tokens.told")).unwrap();
        assert!(!log.contains(secret) && !kept.contains(secret), "{token}");
    }
    let mode = fs::metadata(data.path().join("tokens.told")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_snapshot_is_told_with_who_asked_for_it() {
    let stage = Stage::new();
    let taken = stage.ask(&stage.clerk, "POST /v1/snapshots", &json!({})).expect(201);
    let told = stage.past("kind=snapshot.*");
    assert_eq!((&told[0]["snapshot"], &told[0]["actor"]), (&taken["name"], &json!("clerk")));
    let nowhere = json!({ "to": "/dev/null/nowhere" });
    assert!(stage.ask(&stage.clerk, "POST /v1/snapshots", &nowhere).status >= 400);
    assert_eq!(stage.again().past("kind=snapshot.*"), told);
}

/// Rewrites the file of tokens with some of its lines.
fn keep_lines(data: &Path, keep: impl Fn(&str) -> bool) {
    let text = fs::read_to_string(data.join("tokens")).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| keep(line)).collect();
    let new = data.join("tokens.mine");
    fs::write(&new, kept.join("\n") + "\n").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, data.join("tokens")).unwrap();
}

#[test]
fn what_became_of_webhooks_while_no_server_could_tell_it_is_told_at_a_start() {
    let data = TempDir::new().unwrap();
    let mut rota = start(&data, &[]);
    let http = Http::to(rota.http());
    for name in ["a", "b", "c"] {
        http.put(&format!("/v1/webhooks/{name}"), &json!({ "url": URL, "paused": true })).expect(201);
    }
    let before = past(&http, None, "kind=webhook.*");
    assert_eq!(before.len(), 6);
    let [hooks, told] = ["webhooks", "webhooks.told"].map(|name| data.path().join(name));
    let as_told = fs::read(&told).unwrap();
    http.delete("/v1/webhooks/a").expect(200);
    http.put("/v1/webhooks/b", &json!({ "url": URL, "events": ["job.put"] })).expect(200);
    http.post_nothing("/v1/webhooks/c/resume").expect(200);
    let expected =
        ["webhook.deleted a", "webhook.changed b", "webhook.resumed c"].map(|what| format!("{what} by nobody"));
    assert_eq!(words(&past(&http, None, "kind=webhook.*")[6..]), expected);
    // As if it had been killed before it told that.
    rota.kill();
    fs::write(&told, as_told).unwrap();
    let mut rota = start(&data, &[]);
    let again = words(&past(&Http::to(rota.http()), None, "kind=webhook.*")[9..]);
    assert_eq!(again, [&expected[1], &expected[2], &expected[0]].map(String::clone));
    assert!(rota.terminate().success());
    // Whoever takes the file over to other data takes the webhooks over, and that is told there.
    let other = TempDir::new().unwrap();
    fs::copy(&hooks, other.path().join("webhooks")).unwrap();
    let moved = start(&other, &[]);
    let http = Http::to(moved.http());
    let told = words(&past(&http, None, "kind=webhook.*"));
    let moved_in =
        ["webhook.created b", "webhook.paused b asked", "webhook.created c"].map(|what| format!("{what} by nobody"));
    assert_eq!(told, moved_in);
    drop(moved);
    let moved = start(&other, &[]);
    assert_eq!(words(&past(&Http::to(moved.http()), None, "kind=webhook.*")), moved_in, "once");
}

#[test]
fn without_a_log_who_listens_is_told() {
    let folder = TempDir::new().unwrap();
    let admin = create(folder.path(), &["--role", "admin"]);
    let file = folder.path().join("tokens");
    let (_data, _rota, http) = server(&["--storage", "memory", "--tokens", file.to_str().unwrap()]);
    let header = format!("authorization: Bearer {admin}\r\n");
    let mut live = Stream::open(&http, "/v1/events?kind=token.*,webhook.*", &header);
    let other = create(folder.path(), &["--role", "viewer", "--name", "other"]);
    assert_eq!(words(&[live.event().data]), [format!("token.created {} other by command line", id(&other))]);
    let kind = format!("{header}content-type: application/json\r\n");
    http.ask("PUT /v1/webhooks/hook", &kind, &json!({ "url": URL, "paused": true }).to_string()).expect(201);
    assert_eq!(words(&[live.event().data]), [format!("webhook.created hook by {}", id(&admin))]);
}

#[test]
fn a_segment_that_is_reclaimed_leaves_them_behind_and_the_server_starts() {
    let flags = ["--segment-size", "64KiB", "--history", "0", "--sync", "never"];
    let (data, mut rota, http) = server(&flags);
    http.put("/v1/webhooks/hook", &json!({ "url": URL, "paused": true })).expect(201);
    let first = |http: &Http| {
        let mut stream = Stream::open(http, "/v1/events?after=0&follow=false&kind=webhook.*", "");
        stream.event().event
    };
    assert_eq!(first(&http), "resumed");
    let jobs = json!(vec![json!({ "queue": "work", "text": "x", "delay": "10h" }); 1_000]);
    while first(&http) != "gone" {
        http.post("/v1/jobs/cancel", &json!({ "all": true })).expect(200);
        http.post("/v1/jobs", &jobs).expect(200);
    }
    rota.terminate();
    let rota = start(&data, &flags);
    let http = Http::to(rota.http());
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["delayed"], 1_000);
    assert_eq!(http.get("/v1/webhooks/hook").expect(200)["paused"], true);
    // More may go while it is looked for: that is told once more.
    let mut stream = Stream::open(&http, "/v1/events?after=0&follow=false&kind=webhook.*", "");
    let mut told = vec![stream.event().event];
    while told.last().is_some_and(|last| last == "gone") {
        told.push(stream.event().event);
    }
    assert!(told.len() > 1 && told[told.len() - 1] == "end", "{told:?}");
}
