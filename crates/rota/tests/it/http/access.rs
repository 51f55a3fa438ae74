//! Who may do what: every page of the API's description, asked for by everybody there can be.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Answer, Http};
use super::events::socket::Socket;
use super::events::stream::Stream;
use super::start;
use crate::process::{Rota, on, until};
use crate::tokens::{ROLES, command, create, good, id, in_time};

fn header(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

fn ask(http: &Http, token: &str, request: &str, body: &Value) -> Answer {
    let kind = if body.is_null() { "" } else { "content-type: application/json\r\n" };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http.ask(request, &format!("{}{kind}", header(token)), &body)
}

/// The answer, of which only the head is read if it goes on without end.
fn first_of(http: &Http, request: &str, headers: &str, body: &str) -> Answer {
    let mut stream = http.connect();
    stream.write_all(http.bytes(request, headers, body).as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = String::new();
    if !head.contains("text/event-stream") {
        stream.read_to_string(&mut body).unwrap();
    }
    Answer { status, head, body }
}

/// Who may ask for a page, beside admins; none if everybody may. It knows every page, or the test fails.
fn allowed(page: &str) -> Option<&'static [&'static str]> {
    Some(match page {
        "GET /healthz" | "GET /readyz" => return None,
        "POST /v1/jobs" => &["producer"],
        "DELETE /v1/queues/{queue}/keys/{key}" => &["producer", "operator"],
        "GET /v1/jobs"
        | "GET /v1/jobs/{id}"
        | "GET /v1/jobs/{id}/why"
        | "GET /v1/queues"
        | "GET /v1/queues/{queue}"
        | "GET /v1/queues/{queue}/keys/{key}"
        | "GET /v1/schedules"
        | "GET /v1/schedules/{schedule}"
        | "GET /v1/webhooks"
        | "GET /v1/webhooks/{webhook}"
        | "GET /v1/stats"
        | "GET /v1/events"
        | "GET /metrics" => &["viewer", "operator"],
        "DELETE /v1/jobs/{id}"
        | "POST /v1/jobs/{id}/kick"
        | "POST /v1/jobs/kick"
        | "POST /v1/jobs/retry"
        | "POST /v1/jobs/cancel"
        | "PUT /v1/queues/{queue}/settings"
        | "POST /v1/queues/{queue}/pause"
        | "POST /v1/queues/{queue}/resume"
        | "POST /v1/queues/{queue}/kick"
        | "PUT /v1/schedules/{schedule}"
        | "DELETE /v1/schedules/{schedule}"
        | "POST /v1/schedules/{schedule}/pause"
        | "POST /v1/schedules/{schedule}/resume"
        | "POST /v1/schedules/{schedule}/run"
        | "POST /v1/webhooks/{webhook}/pause"
        | "POST /v1/webhooks/{webhook}/resume"
        | "POST /v1/webhooks/{webhook}/test"
        | "POST /v1/snapshots" => &["operator"],
        "PUT /v1/webhooks/{webhook}"
        | "DELETE /v1/webhooks/{webhook}"
        | "POST /v1/webhooks/{webhook}/rotate"
        | "DELETE /v1/webhooks/{webhook}/old-secret" => &[],
        "POST /v1/leases"
        | "POST /v1/leases/stream"
        | "POST /v1/leases/{lease}/complete"
        | "POST /v1/leases/{lease}/fail"
        | "POST /v1/leases/{lease}/release"
        | "POST /v1/leases/{lease}/bury"
        | "POST /v1/leases/{lease}/touch" => &["consumer"],
        _ => panic!("{page} is a page that this test does not know: say here who may ask for it"),
    })
}

/// What a token that is limited to other queues is answered, though its role may: the status, and the kind of problem.
fn out_of_reach(page: &str) -> (u16, &'static str) {
    match page {
        "GET /healthz" | "GET /readyz" | "GET /v1/jobs" | "GET /v1/queues" | "GET /v1/schedules" | "GET /v1/events" => {
            (200, "")
        }
        "POST /v1/jobs/kick" | "POST /v1/jobs/retry" | "POST /v1/jobs/cancel" => (200, ""),
        "PUT /v1/schedules/{schedule}" => (403, "queue-not-allowed"),
        page if page.contains("/v1/webhooks") => (403, "not-allowed"),
        page if page.contains("{schedule}") => (404, "schedule-not-found"),
        "GET /v1/stats" | "GET /metrics" | "POST /v1/snapshots" => (403, "not-allowed"),
        page if page.contains("{id}") => (404, "job-not-found"),
        page if page.contains("{lease}") => (409, "lease-outdated"),
        _ => (403, "queue-not-allowed"),
    }
}

/// A server with a job of its own for each request, so that what may be done can be done.
struct Stage {
    http: Http,
    admin: String,
    queues: u32,
}

impl Stage {
    /// Asks for a page, about a job and a queue that nobody asked about before.
    fn ask(&mut self, page: &str, headers: &str) -> (Answer, String, String) {
        self.queues += 1;
        let queue = format!("work-{}", self.queues);
        let delay = if page.ends_with("{id}/kick") { "1h" } else { "0s" };
        let job = json!({ "queue": queue, "text": "x", "key": "k", "delay": delay });
        let job = ask(&self.http, &self.admin, "POST /v1/jobs", &job).expect(201);
        let id = job["id"].as_str().unwrap().to_owned();
        let lease = if page.contains("{lease}") {
            let leases = ask(&self.http, &self.admin, "POST /v1/leases", &json!({ "queues": [queue] })).expect(200);
            leases["leases"][0]["lease"].as_str().unwrap().to_owned()
        } else {
            String::new()
        };
        let schedule = json!({ "every": "24h", "job": { "queue": queue, "text": "z" } });
        if page.contains("{schedule}") {
            ask(&self.http, &self.admin, &format!("PUT /v1/schedules/{queue}"), &schedule).expect(201);
        }
        // Nobody is at port 1.
        let webhook = json!({ "url": "http://127.0.0.1:1/" });
        if page.contains("{webhook}") {
            let set = ask(&self.http, &self.admin, "PUT /v1/webhooks/hook", &webhook);
            assert!(set.status == 200 || set.status == 201, "{set:?}");
        }
        let body = match page {
            "PUT /v1/webhooks/{webhook}" => webhook,
            "POST /v1/webhooks/{webhook}/rotate" => json!({ "keep": "0s" }),
            "PUT /v1/schedules/{schedule}" => schedule,
            "POST /v1/jobs" => json!({ "queue": queue, "text": "y" }),
            "POST /v1/leases" | "POST /v1/leases/stream" => json!({ "queues": [queue] }),
            "POST /v1/jobs/kick" | "POST /v1/jobs/retry" | "POST /v1/jobs/cancel" => {
                json!({ "q": format!("queue:{queue}") })
            }
            "POST /v1/snapshots" | "PUT /v1/queues/{queue}/settings" => json!({}),
            "POST /v1/queues/{queue}/pause" => json!({ "for": "1h" }),
            _ => Value::Null,
        };
        let [key, hook] = ["k", "hook"].map(String::from);
        let parts = [("{id}", &id), ("{lease}", &lease), ("{queue}", &queue), ("{schedule}", &queue), ("{key}", &key)];
        let parts = parts.into_iter().chain([("{webhook}", &hook)]);
        let request = parts.fold(page.to_owned(), |page, (name, part)| page.replace(name, part));
        let kind = if body.is_null() { "" } else { "content-type: application/json\r\n" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = format!("{headers}{kind}");
        let answer = if ["GET /v1/events", "POST /v1/leases/stream"].contains(&page) {
            first_of(&self.http, &request, &headers, &body)
        } else {
            self.http.ask(&request, &headers, &body)
        };
        (answer, queue, id)
    }

    /// What is told of a job and its queue, without what goes on by itself.
    fn look(&self, queue: &str, id: &str) -> String {
        let job = ask(&self.http, &self.admin, &format!("GET /v1/jobs/{id}"), &Value::Null);
        let queue = ask(&self.http, &self.admin, &format!("GET /v1/queues/{queue}"), &Value::Null);
        format!("{} {} {}", job.body, queue.body, queue.status)
    }
}

#[test]
fn every_page_is_for_whom_it_is_meant_and_for_nobody_else() {
    let data = TempDir::new().unwrap();
    let made = data.path();
    let tokens = ROLES.map(|role| create(made, &["--role", role, "--name", role]));
    let expired = create(made, &["--role", "admin", "--expires", "1ms"]);
    let revoked = create(made, &["--role", "admin"]);
    good(command(made, &["revoke", id(&revoked)]));
    let limited = ROLES.map(|role| create(made, &["--role", role, "--queues", "other*,else"]));
    until("it has expired", || good(command(made, &["list"])).contains("expired").then_some(()));
    let mut unknown = tokens[0].clone();
    // The right id with another secret.
    unknown.replace_range(14..18, if &unknown[14..18] == "AAAA" { "BBBB" } else { "AAAA" });
    let rota = start(&data, &["--webhook-allow", "127.0.0.1"]);
    let http = Http::to(rota.http());
    let mut stage = Stage { http, admin: tokens[0].clone(), queues: 0 };
    let mut answers = Vec::new();

    let description = http.get("/v1/openapi.json").expect(200);
    let scheme = &description["components"]["securitySchemes"]["token"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    let pages = description["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter().filter(|(_, page)| page["operationId"].is_string());
        methods.map(move |(method, page)| (format!("{} {path}", method.to_uppercase()), page)).collect::<Vec<_>>()
    });
    let pages: Vec<(String, &Value)> = pages.collect();
    assert!(pages.len() > 20, "{pages:?}");
    for (page, described) in &pages {
        let allowed = allowed(page);
        let said = described["description"].as_str().unwrap();
        let roles = allowed.map(|roles| roles.iter().chain(&["admin"]).map(|role| json!(role)).collect::<Vec<_>>());
        let mut asked = described["security"][0]["token"].as_array().cloned();
        if let (Some(asked), Some(roles)) = (&mut asked, &roles) {
            asked.sort_by_key(|role| roles.iter().position(|known| known == role));
        }
        assert_eq!(asked, roles, "{page}");
        match allowed {
            None => assert!(said.ends_with("For everybody."), "{page}: {said}"),
            Some(roles) => assert!(roles.iter().all(|role| said.contains(role)), "{page}: {said}"),
        }
        for (headers, kind, challenge) in [
            (String::new(), "no-token", "www-authenticate: bearer\r\n"),
            (String::from("authorization: Basic dXNlcjpwYXNz\r\n"), "no-token", "www-authenticate: bearer\r\n"),
            (String::from("authorization: Bearer\r\n"), "bad-token", "www-authenticate: bearer error="),
            (header("marker-of-a-token"), "bad-token", "www-authenticate: bearer error="),
            (header(&unknown), "bad-token", "www-authenticate: bearer error="),
            (header(&expired), "bad-token", "www-authenticate: bearer error="),
            (header(&revoked), "bad-token", "www-authenticate: bearer error="),
        ] {
            let (answer, queue, id) = stage.ask(page, &headers);
            answers.push(format!("{}{}", answer.head, answer.body));
            if allowed.is_none() {
                assert_eq!(answer.status, 200, "{page}: {answer:?}");
                continue;
            }
            assert!(format!("{}\r\n", answer.head).contains(challenge), "{page} {headers:?}: {answer:?}");
            answer.problem(401, kind);
            let after = stage.look(&queue, &id);
            let state = if page.contains("{lease}") {
                "reserved"
            } else if page.ends_with("{id}/kick") {
                "delayed"
            } else {
                "ready"
            };
            assert!(
                after.contains(&format!("\"state\":\"{state}\"")) && after.contains("\"put\":1"),
                "{page}: {after}"
            );
            assert!(!after.contains("paused_until"), "{page}: {after}");
        }
        for (role, token) in ROLES.iter().zip(&tokens) {
            let (answer, ..) = stage.ask(page, &header(token));
            answers.push(format!("{}{}", answer.head, answer.body));
            if *role == "admin" || allowed.is_none_or(|allowed| allowed.contains(role)) {
                assert!((200..300).contains(&answer.status), "{page} {role}: {answer:?}");
            } else {
                answer.problem(403, "not-allowed");
            }
        }
        for (role, token) in ROLES.iter().zip(&limited) {
            let (answer, queue, id) = stage.ask(page, &header(token));
            answers.push(format!("{}{}", answer.head, answer.body));
            if *role != "admin" && allowed.is_some_and(|allowed| !allowed.contains(role)) {
                answer.problem(403, "not-allowed");
                continue;
            }
            let (status, kind) = out_of_reach(page);
            assert_eq!(answer.status, status, "{page} {role}: {answer:?}");
            assert!(
                status == 200 || answer.body.contains(&format!("\"/problems/{kind}\"")),
                "{page} {role}: {answer:?}"
            );
            assert!(status != 200 || !answer.body.contains(&queue), "{page} {role}: {answer:?}");
            let after = stage.look(&queue, &id);
            assert!(after.contains("\"put\":1") && !after.contains("paused_until"), "{page} {role}: {after}");
        }
    }

    // None of the secrets was said by anybody.
    answers.push(ask(&http, &tokens[0], "GET /metrics", &Value::Null).body);
    answers.push(fs::read_to_string(made.join("tokens")).unwrap());
    answers.extend([
        rota.stdout(),
        rota.stderr(),
        good(command(made, &["list"])),
        good(command(made, &["list", "--json"])),
    ]);
    let all = answers.concat().to_lowercase();
    for secret in tokens.iter().chain(&limited).chain([&expired, &revoked, &unknown]) {
        assert!(!all.contains(&secret[14..].to_lowercase()), "{secret} was said");
    }
    for marker in ["marker-of-a-token", "dxnlcjpwyxnz"] {
        assert!(!all.contains(marker), "{marker} was said");
    }
}

#[test]
fn a_limited_token_sees_its_queues_and_no_others() {
    let data = TempDir::new().unwrap();
    let admin = create(data.path(), &["--role", "admin"]);
    let mail = create(data.path(), &["--role", "producer,consumer,viewer,operator", "--queues", "mail*"]);
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let ask = |token: &str, request: &str, body: Value| ask(&http, token, request, &body);
    for queue in ["mail", "mail-eu", "news"] {
        ask(&admin, "POST /v1/jobs", json!({ "queue": queue, "text": "x", "key": "k" })).expect(201);
    }
    let jobs = ask(&mail, "GET /v1/jobs", Value::Null).expect(200);
    let seen: Vec<&str> = jobs["jobs"].as_array().unwrap().iter().map(|job| job["queue"].as_str().unwrap()).collect();
    assert_eq!(seen, ["mail", "mail-eu"]);
    let queues = ask(&mail, "GET /v1/queues?limit=1", Value::Null).expect(200);
    assert_eq!(queues["queues"][0]["name"], "mail");
    let cursor = queues["cursor"].as_str().unwrap();
    let queues = ask(&mail, &format!("GET /v1/queues?cursor={cursor}"), Value::Null).expect(200);
    assert_eq!((queues["queues"].as_array().unwrap().len(), &queues["queues"][0]["name"]), (1, &json!("mail-eu")));
    ask(&mail, "GET /v1/jobs?queue=news", Value::Null).problem(403, "queue-not-allowed");
    ask(&mail, "GET /v1/jobs/3", Value::Null).problem(404, "job-not-found");
    let other = ask(&mail, "POST /v1/leases", json!({ "queues": ["mail", "news"] })).problem(403, "queue-not-allowed");
    assert_eq!(other["pointer"], "#/queues/1");
    let other = json!({ "queues": ["mail", "news"], "max": 5 });
    let other = ask(&mail, "POST /v1/leases/stream", other).problem(403, "queue-not-allowed");
    assert_eq!(other["pointer"], "#/queues/1");
    // Of several jobs, each is put or refused for itself.
    let several = json!([{ "queue": "mail", "text": "a" }, { "queue": "news", "text": "b" }]);
    let results = ask(&mail, "POST /v1/jobs", several).expect(200);
    assert_eq!((&results["results"][0]["status"], &results["results"][1]["status"]), (&json!(201), &json!(403)));
    // Nor can it wait for jobs that it does not see.
    for after in ["3", "news:k"] {
        let job = json!({ "queue": "mail", "text": "x", "after": [after] });
        ask(&mail, "POST /v1/jobs", job).problem(422, "unknown-parent");
    }
    assert_eq!(ask(&admin, "GET /v1/queues/mail", Value::Null).expect(200)["refused_puts"]["parent"], 2);
    ask(&mail, "POST /v1/jobs", json!({ "queue": "mail", "text": "x", "after": ["1", "mail-eu:k"] })).expect(201);
    // A lease of another queue is as good as none.
    let leases = ask(&admin, "POST /v1/leases", json!({ "queues": ["news"] })).expect(200);
    let lease = leases["leases"][0]["lease"].as_str().unwrap();
    let not = ask(&mail, &format!("POST /v1/leases/{lease}/complete"), Value::Null).problem(409, "lease-outdated");
    let over = ask(&mail, "POST /v1/leases/999.1.1/complete", Value::Null).problem(409, "lease-outdated");
    assert_eq!(not["detail"].as_str().unwrap().replace("job 3", "job 999"), over["detail"].as_str().unwrap());
    assert_eq!((&not["reason"], &over["reason"]), (&json!("over"), &json!("over")));
    ask(&admin, &format!("POST /v1/leases/{lease}/complete"), Value::Null).expect(200);
    let leases = ask(&mail, "POST /v1/leases", json!({ "queues": ["mail"] })).expect(200);
    let lease = leases["leases"][0]["lease"].as_str().unwrap();
    ask(&mail, &format!("POST /v1/leases/{lease}/complete"), Value::Null).expect(200);
}

#[test]
fn what_is_no_page_is_told_to_who_has_a_token_alone() {
    let data = TempDir::new().unwrap();
    let viewer = create(data.path(), &["--role", "viewer"]);
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    http.get("/nowhere").problem(401, "no-token");
    http.delete("/v1/jobs").problem(401, "no-token");
    ask(&http, &viewer, "GET /nowhere", &Value::Null).problem(404, "no-such-page");
    let answer = ask(&http, &viewer, "DELETE /v1/jobs", &Value::Null);
    assert!(answer.head.contains("\r\nallow: post,get,head\r\n"), "{answer:?}");
    answer.problem(405, "method-not-allowed");
    let twice = format!("{0}{0}", header(&viewer));
    http.ask("GET /v1/jobs", &twice, "").problem(400, "malformed-request");
    assert_eq!(http.ask("GET /v1/jobs", &format!("authorization: bearer  {viewer}\r\n"), "").status, 200);
    assert_eq!(http.ask("HEAD /v1/stats", &header(&viewer), "").status, 200);
    assert_eq!(http.ask("HEAD /v1/stats", "", "").status, 401);
    // The description is nobody's secret.
    for open in ["/v1/docs", "/v1/docs/style.css", "/v1/openapi.json", "/problems/no-token"] {
        assert_eq!(http.get(open).status, 200, "{open}");
    }
}

#[test]
fn a_running_server_sees_what_becomes_of_the_tokens() {
    let data = TempDir::new().unwrap();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let becomes = |what: &str, token: &str, status: u16, kind: &str| {
        until(what, || {
            let answer = ask(&http, token, "GET /v1/stats", &Value::Null);
            (answer.status == status && (status == 200 || answer.body.contains(kind))).then_some(())
        });
    };
    // Without tokens it asks for none, and takes any.
    http.get("/v1/stats").expect(200);
    ask(&http, "whatever", "GET /v1/stats", &Value::Null).expect(200);
    let one = create(data.path(), &["--role", "viewer"]);
    until("it asks for tokens", || (http.get("/v1/stats").status == 401).then_some(()));
    ask(&http, &one, "GET /v1/stats", &Value::Null).expect(200);
    let two = create(data.path(), &["--role", "viewer"]);
    becomes("the second is known", &two, 200, "");
    good(command(data.path(), &["revoke", id(&one), id(&two)]));
    becomes("both are revoked", &two, 401, "was revoked");
    // With the last one revoked it still asks.
    http.get("/v1/stats").problem(401, "no-token");
    let file = data.path().join("tokens");
    let text = fs::read_to_string(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    becomes("others may read it", &two, 503, "tokens-unreadable");
    assert!(rota.line(1, |line| line.contains("is open to other users (mode 0644)")).contains("tokens"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    becomes("others may not", &two, 401, "was revoked");
    fs::write(&file, format!("{text}nonsense\n")).unwrap();
    becomes("it is wrong", &two, 503, "tokens-unreadable");
    rota.line(1, |line| line.contains("tokens:3: column 2"));
    assert_eq!(http.get("/healthz").status, 200);
    // A file that is gone has no token, and lets nobody in.
    fs::remove_file(&file).unwrap();
    becomes("it is gone", &two, 401, "does not know that token");
    let three = create(data.path(), &["--role", "viewer"]);
    becomes("there is another", &three, 200, "");
}

#[test]
fn a_server_may_ask_before_there_is_a_token() {
    let data = TempDir::new().unwrap();
    let rota = start(&data, &["--auth"]);
    let http = Http::to(rota.http());
    http.get("/v1/stats").problem(401, "no-token");
    assert!(rota.stdout().contains("HTTP and the beanstalkd protocol ask for a token, of 0 in "), "{}", rota.stdout());
    // Jobs in memory alone: tokens are in a file of their own.
    let file = data.path().join("elsewhere");
    let name = file.to_str().unwrap();
    let token = create(data.path(), &["--role", "viewer", "--tokens", name]);
    let memory = start(&data, &["--storage", "memory", "--tokens", name]);
    let http = Http::to(memory.http());
    http.get("/v1/stats").problem(401, "no-token");
    ask(&http, &token, "GET /v1/stats", &Value::Null).expect(200);
}

#[test]
fn with_tokens_http_may_be_reached_from_elsewhere() {
    let data = TempDir::new().unwrap();
    let public = ["--http", "0.0.0.0:0"];
    let (code, _, err) = Rota::ended(on(data.path(), &public));
    assert!(code == 2 && err.contains("there is no token yet") && err.contains("rota token create"), "{code} {err}");
    let viewer = create(data.path(), &["--role", "viewer"]);
    let rota = Rota::ready(on(data.path(), &public));
    let http = Http::to(([127, 0, 0, 1], rota.http().port()).into());
    http.get("/v1/stats").problem(401, "no-token");
    ask(&http, &viewer, "GET /v1/stats", &Value::Null).expect(200);
    drop(rota);
    // So may the beanstalkd protocol, which asks for them then.
    let rota = Rota::ready(on(data.path(), &["--beanstalkd", "0.0.0.0:0"]));
    let mut wire = crate::wire::Wire::to(([127, 0, 0, 1], rota.address().port()).into());
    wire.expect("list-tube-used", "UNAUTHENTICATED");
    wire.expect(&format!("auth {viewer}"), "AUTHENTICATED");
    wire.expect("list-tube-used", "USING default");
    drop(rota);
    let trusting = Rota::ready(on(data.path(), &["--beanstalkd", "0.0.0.0:0", "--insecure"]));
    let mut wire = crate::wire::Wire::to(([127, 0, 0, 1], trusting.address().port()).into());
    wire.expect("list-tube-used", "USING default");
    drop(trusting);
    let empty = TempDir::new().unwrap();
    let (code, _, err) = Rota::ended(on(empty.path(), &["--beanstalkd", "0.0.0.0:0"]));
    assert!(code == 2 && err.contains("there is no token yet") && err.contains("rota token create"), "{code} {err}");
    fs::set_permissions(data.path().join("tokens"), fs::Permissions::from_mode(0o604)).unwrap();
    let (code, _, err) = Rota::ended(on(data.path(), &[]));
    assert!(code == 2 && err.contains("open to other users (mode 0604)") && err.contains("chmod 600"), "{code} {err}");
}

#[test]
fn the_command_says_what_it_does_and_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("new");
    let said = |arguments: &[&str]| {
        let output = command(&data, arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(said(&["list"]), (0, String::new(), String::new()));
    for (arguments, code, words) in [
        (&["create"][..], 2, "--role"),
        (
            &["create", "--role", "boss"],
            2,
            "\"boss\" is no role: the roles are admin, operator, producer, consumer, viewer",
        ),
        (&["create", "--role", "viewer", "--queues", "a b"], 2, "write a queue's name, in which * stands for anything"),
        (&["create", "--role", "viewer", "--expires", "90"], 2, "has no unit"),
        (&["create", "--role", "viewer", "--expires", "7000000d"], 2, "too far ahead"),
        (&["create", "--role", "viewer", "--name", ""], 2, "1 to 100 bytes"),
        (&["revoke"], 2, "<ID>"),
        (&["revoke", "7"], 2, "8 digits"),
        (&["revoke", "0123abcd"], 3, "there is no token 0123abcd in"),
    ] {
        let (ended, out, err) = said(arguments);
        assert_eq!((ended, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    assert!(!data.exists());
    let (code, token, note) =
        said(&["create", "--role", "producer,viewer", "--queues", "mail*,news", "--expires", "90d"]);
    assert_eq!(code, 0, "{note}");
    let id = id(token.trim());
    assert!(note.contains(&format!("token {id}, producer,viewer of mail*,news until 2")), "{note}");
    assert!(!note.contains(token.trim()), "{note}");
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let (_, json, _) = said(&["create", "--role", "admin", "--json", "--name", "root"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["token"].as_str().unwrap().starts_with("rota_"), "{json}");
    assert_eq!((&json["roles"], &json["queues"], &json["name"]), (&json!(["admin"]), &Value::Null, &json!("root")));
    assert_eq!(said(&["revoke", id]), (0, format!("revoked {id}\n"), String::new()));
    let (_, list, _) = said(&["list"]);
    let rows: Vec<&str> = list.lines().collect();
    assert_eq!(rows.len(), 3, "{list}");
    assert!(rows[1].starts_with(&format!("{id}  revoked  producer,viewer  mail*,news  2")), "{list}");
    // The server takes the directory for its own.
    let rota = Rota::ready(on(&data, &["--http", "127.0.0.1:0"]));
    Http::to(rota.http()).get("/v1/stats").problem(401, "no-token");
}

#[test]
fn the_command_that_takes_snapshots_shows_a_token() {
    let data = TempDir::new().unwrap();
    let operator = create(data.path(), &["--role", "operator"]);
    let rota = start(&data, &[]);
    let snapshot = |token: &str, file: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
        command.args(["snapshot", "--http", &rota.http().to_string()]).env_remove("ROTA_TOKEN_FILE");
        command.env("ROTA_TOKEN", token);
        file.map(|file| command.arg("--token-file").arg(file));
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = snapshot("", None);
    assert!(code == 1 && err.contains("the request shows no token") && err.contains("hint:"), "{err}");
    assert_eq!(snapshot(&operator, None), (0, String::new()));
    let file = data.path().join("snapshots/token");
    fs::write(&file, format!("{operator}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, err) = snapshot("", Some(&file));
    assert!(code == 2 && err.contains("open to other users") && !err.contains(&operator), "{err}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(snapshot("", Some(&file)), (0, String::new()));
}

#[test]
fn where_a_snapshot_goes_is_for_admins() {
    let data = TempDir::new().unwrap();
    let [operator, admin] = ["operator", "admin"].map(|role| create(data.path(), &["--role", role]));
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let place = data.path().join("elsewhere");
    let there = json!({ "to": place.to_str().unwrap() });
    let problem = ask(&http, &operator, "POST /v1/snapshots", &there).problem(403, "not-allowed");
    assert!(problem["hint"].as_str().unwrap().contains("admin"), "{problem}");
    // Nor is it told whether that could be an address.
    ask(&http, &operator, "POST /v1/snapshots", &json!({ "to": "ftp://x" })).problem(403, "not-allowed");
    assert!(!place.exists() && !data.path().join("snapshots").exists());
    ask(&http, &operator, "POST /v1/snapshots", &json!({ "to": null })).expect(201);
    assert!(!place.exists() && data.path().join("snapshots").exists());
    ask(&http, &admin, "POST /v1/snapshots", &there).expect(201);
    assert!(place.exists());
    let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
    command.args(["snapshot", place.to_str().unwrap(), "--http", &rota.http().to_string()]);
    let output = command.env_remove("ROTA_TOKEN_FILE").env("ROTA_TOKEN", &operator).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("not for the role operator"), "{said}");
}

#[test]
fn a_token_that_ends_ends_what_goes_on() {
    let data = TempDir::new().unwrap();
    let [revoked, kept] = [0, 1].map(|_| create(data.path(), &["--role", "admin"]));
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let wait = |token: &str| {
        let mut stream = http.connect();
        let headers = format!("{}content-type: application/json\r\n", header(token));
        let body = json!({ "queues": ["work"], "wait": "10m" }).to_string();
        stream.write_all(http.bytes("POST /v1/leases", &headers, &body).as_bytes()).unwrap();
        stream
    };
    // That the token was revoked is an event, too.
    let jobs = "/v1/events?kind=job.*";
    let take = |token: &str| {
        let mut stream = http.connect();
        let headers = format!("{}content-type: application/json\r\n", header(token));
        let body = json!({ "queues": ["work"], "max": 3 }).to_string();
        stream.write_all(http.bytes("POST /v1/leases/stream", &headers, &body).as_bytes()).unwrap();
        Stream::of(stream).unwrap()
    };
    let stats = |kind: &str| ask(&http, &kept, "GET /v1/stats", &Value::Null).expect(200)[kind].clone();
    let (mut streams, mut sockets, mut waiting, mut taking) = in_time(|span| {
        let short = create(data.path(), &["--role", "admin", "--expires", span]);
        until("it is known", || {
            let asked = ask(&http, &short, "GET /v1/stats", &Value::Null);
            assert!(asked.status == 200 || !asked.body.contains("has expired"), "{asked:?}");
            (asked.status == 200).then_some(())
        });
        let streams = [&revoked, &short, &kept].map(|token| Stream::open(&http, jobs, &header(token)));
        let mut sockets = [&revoked, &short].map(|token| Socket::open(&http, jobs, &header(token)));
        sockets.iter_mut().for_each(|socket| assert_eq!(socket.next()["kind"], "listening"));
        let waiting = [&revoked, &short].map(|token| wait(token));
        let mut taking = [&revoked, &short].map(|token| take(token));
        taking.iter_mut().for_each(|stream| assert_eq!(stream.event().event, "open"));
        until("all of them wait", || {
            let waiting = stats("waiting");
            let asked = ask(&http, &short, "GET /v1/stats", &Value::Null);
            assert!(waiting == 4 || asked.status == 200, "{waiting} wait, {asked:?}");
            (waiting == 4).then_some(())
        });
        (streams, sockets, waiting, taking)
    });
    good(command(data.path(), &["revoke", id(&revoked)]));
    for (at, why) in ["was revoked", "has expired"].into_iter().enumerate() {
        let problem = Answer::read(&mut waiting[at]).problem(401, "bad-token");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
        assert!(streams[at].ended());
        let last = taking[at].event();
        assert_eq!((last.event.as_str(), &last.data["reason"]), ("end", &json!("token")));
        assert!(last.data["detail"].as_str().unwrap().contains(why), "{last:?}");
        assert!(taking[at].ended());
        assert_eq!(sockets[at].closed(), (1001, "the server stops, or the token is valid no more".into()));
    }
    assert_eq!(stats("waiting"), 0);
    // A job that comes now is for nobody of them, and others are told of it.
    ask(&http, &kept, "POST /v1/jobs", &json!({ "queue": "work", "text": "x" })).expect(201);
    assert_eq!(streams[2].event().event, "job.put");
    assert_eq!(ask(&http, &kept, "GET /v1/jobs/1", &Value::Null).expect(200)["state"], "ready");
}

#[test]
fn a_limited_token_is_told_of_its_queues() {
    let data = TempDir::new().unwrap();
    let admin = create(data.path(), &["--role", "admin"]);
    let mail = create(data.path(), &["--role", "viewer", "--queues", "mail*"]);
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let mut all = Stream::open(&http, "/v1/events", &header(&mail));
    let mut socket = Socket::open(&http, "/v1/events?kind=job.*", &header(&mail));
    assert_eq!(socket.next()["kind"], "listening");
    for queue in ["news", "mail", "x", "mail-eu"] {
        ask(&http, &admin, "POST /v1/jobs", &json!({ "queue": queue, "text": "x" })).expect(201);
    }
    for queue in ["mail", "mail-eu"] {
        assert_eq!(all.event().data["queue"], queue);
        assert_eq!(socket.next()["queue"], queue);
    }
    ask(&http, &mail, "GET /v1/events?queue=mail,news", &Value::Null).problem(403, "queue-not-allowed");
    // What is about the server, such as its start, is not for it.
    drop(rota);
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let mut all = Stream::open(&http, "/v1/events?after=0", &header(&mail));
    ask(&http, &admin, "POST /v1/jobs", &json!({ "queue": "mail", "text": "x" })).expect(201);
    assert_eq!(all.event().event, "resumed");
    let put: Vec<Value> = (0..3).map(|_| all.event().data["queue"].clone()).collect();
    assert_eq!(put, ["mail", "mail-eu", "mail"], "what is past is told to it as what happens");
}

#[test]
fn each_token_has_idempotency_keys_of_its_own() {
    let data = TempDir::new().unwrap();
    let put = json!({ "queue": "a", "text": "of nobody" });
    let send = |http: &Http, token: Option<&str>, body: &Value| {
        let shown = token.map(header).unwrap_or_default();
        let headers = format!("{shown}content-type: application/json\r\nidempotency-key: k\r\n");
        http.ask("POST /v1/jobs", &headers, &body.to_string())
    };
    let is_replayed = |answer: &Answer| answer.head.contains("\r\nidempotency-replayed: true\r\n");
    let mut rota = start(&data, &[]);
    send(&Http::to(rota.http()), None, &put).expect(201);
    rota.terminate();
    let [a, b] = ["a*", "b*"].map(|queues| create(data.path(), &["--role", "producer", "--queues", queues]));
    let mut rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let several = json!(["a1", "a2", "c"].map(|queue| json!({ "queue": queue, "text": "x" })));
    let first = send(&http, Some(&a), &several).expect(200);
    // Neither body of the others is in the way, nor is what they were answered told.
    let other = send(&http, Some(&b), &several);
    assert!(!is_replayed(&other));
    assert_eq!(other.expect(200)["results"][0]["problem"]["type"], "/problems/queue-not-allowed");
    send(&http, Some(&b), &json!({ "queue": "b", "text": "x" })).expect(201);
    let reused = send(&http, Some(&b), &several).problem(422, "idempotency-key-reused");
    assert!(reused["detail"].as_str().unwrap().ends_with("the Idempotency-Key \"k\""), "{reused}");
    assert_eq!(send(&http, Some(&a), &several).expect(200), first);
    rota.terminate();
    // What a token put in a queue that it is for no more is not told again, nor put a second time.
    let tokens = data.path().join("tokens");
    let statuses = |answer: &Value| [0, 1, 2].map(|at| answer["results"][at]["status"].as_u64().unwrap());
    assert_eq!(statuses(&first), [201, 201, 403]);
    for (from, to, expected) in
        [(r#""a*""#, r#""a2","c""#, [403, 201, 201]), (r#""a2","c""#, r#""a*","c""#, [201, 201, 201])]
    {
        fs::write(&tokens, fs::read_to_string(&tokens).unwrap().replace(from, to)).unwrap();
        let mut rota = start(&data, &[]);
        let answer = send(&Http::to(rota.http()), Some(&a), &several).expect(200);
        rota.terminate();
        assert_eq!(statuses(&answer), expected);
        for at in (0..2).filter(|at| expected[*at] == 201) {
            assert_eq!(answer["results"][at]["id"], first["results"][at]["id"]);
        }
    }
    // Who shows none has what they had.
    fs::remove_file(&tokens).unwrap();
    let rota = start(&data, &[]);
    let again = send(&Http::to(rota.http()), None, &put);
    assert!(is_replayed(&again));
    assert_eq!(again.expect(201)["queue"], "a");
}
