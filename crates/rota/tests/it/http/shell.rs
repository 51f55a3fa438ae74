//! `rota put`, `next`, `show`, `queue` and `schedule set` over HTTP: what only that port can do, and how failed commands end.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::client::Http;
use super::server;

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = crate::process::rota();
    command.args(arguments).stdin(Stdio::null());
    command
}

fn ended(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the binary on a server, which it is told by the environment.
fn run(http: &Http, arguments: &[&str]) -> Run {
    ended(command(arguments).env("ROTA_HTTP", http.address().to_string()))
}

impl Run {
    #[track_caller]
    fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    fn object(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }

    #[track_caller]
    fn says(self, code: i32, err: &str) {
        assert_eq!((self.code, self.err.as_str()), (Some(code), err), "{}", self.out);
    }
}

#[test]
fn a_flag_beats_the_environment_that_names_the_other_port() {
    let (_data, rota, http) = server(&[]);
    let beanstalkd = format!("beanstalkd://{}", rota.address());
    let nowhere = "127.0.0.1:1";
    let by_http = ["--http".to_owned(), http.address().to_string()];
    let by_server = ["--server".to_owned(), beanstalkd];
    for line in ["put mail hello", "list mail", "stats", "cancel 1"] {
        let mut one = command(&line.split(' ').collect::<Vec<_>>());
        ended(one.args(&by_http).env("ROTA_SERVER", format!("beanstalkd://{nowhere}"))).good();
    }
    for line in ["put mail hello", "list mail", "stats", "cancel 2"] {
        let mut one = command(&line.split(' ').collect::<Vec<_>>());
        ended(one.args(&by_server).env("ROTA_HTTP", format!("http://{nowhere}"))).good();
    }
}

#[test]
fn a_put_says_all_that_http_can() {
    let (_data, _rota, http) = server(&[]);
    run(&http, &["put", "parents", "x", "--key", "p", "--delay", "1h"]).good();
    let line = "put mail hello --kind welcome --header trace=00-1 --header lang=en --limit-key c --max-attempts 3 \
                --max-lost-leases 0 --back-off 5s,factor=1,most=5s,jitter=0 --expires-in 1h --after parents:p,1 \
                --on-parent-failure hold --key k --at 2100-01-01T00:00:00Z --idempotency-key once --ttr 90s --priority 7";
    let line: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(run(&http, &line).good(), "2\n");
    let job = http.get("/v1/jobs/2").expect(200);
    let expected = json!({
        "text": "hello", "kind": "welcome", "headers": { "trace": "00-1", "lang": "en" }, "limit_key": "c", "max_attempts": 3,
        "max_lost_leases": 0, "back_off": { "first": "5s", "factor": 1.0, "most": "5s", "jitter_percent": 0 }, "waits_for": ["1"],
        "on_parent_failure": "hold", "key": "k", "run_at": "2100-01-01T00:00:00Z", "ttr": "90s", "priority": 7,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&job[name], value, "{name}: {job}");
    }
    assert!(job["expires_at"].is_string(), "{job}");
    let again = run(&http, &[&line[..], &["--json"]].concat()).object();
    assert_eq!(again, json!({ "id": 2, "queue": "mail", "outcome": "replayed" }));

    run(&http, &["put", "mail", "x", "--key", "k"]).says(
        1,
        "error: the key k is taken in queue mail: job 2 has it\n  hint: cancel it with `rota cancel 2`, or use another key\n",
    );
    let kept = run(&http, &["put", "mail", "x", "--key", "k", "--on-conflict", "keep", "--json"]).object();
    assert_eq!(kept, json!({ "id": 2, "queue": "mail", "outcome": "kept" }));
    assert_eq!(run(&http, &["put", "mail", "new", "--key", "k", "--on-conflict", "replace"]).good(), "2\n");
    assert_eq!(http.get("/v1/jobs/2").expect(200)["text"], "new");
    let wrong = run(&http, &["put", "mail", "x", "--after", "mail:none"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.starts_with("error: nothing was put: the job is to wait for") && wrong.err.contains("hint:"));
}

#[test]
fn a_command_that_fails_is_a_failed_attempt() {
    let (_data, _rota, http) = server(&[]);
    let put =
        ["put", "q", "body", "--max-attempts", "2", "--back-off", "1ms,factor=1,jitter=0", "--kind", "k", "--key", "a"];
    run(&http, &put).good();
    let script = "cat; echo \" $ROTA_JOB_ID $ROTA_JOB_QUEUE $ROTA_JOB_KIND $ROTA_JOB_KEY $ROTA_JOB_ATTEMPTS\"; echo oh >&2; exit 7";
    let first = run(&http, &["next", "other", "q", "--exec", "sh", "-c", script]);
    assert_eq!((first.code, first.out.as_str()), (Some(1), "body 1 q k a 0\n"));
    let told = "oh\nerror: sh failed (exit status: 7): job 1 is tried again at ";
    assert!(first.err.starts_with(told), "{}", first.err);
    let job = http.get("/v1/jobs/1").expect(200);
    assert_eq!((&job["attempts"], &job["error"]), (&json!(1), &json!("exit status: 7: oh")));
    let last = run(&http, &["next", "q", "--timeout", "20s", "--exec", "sh", "-c", "kill -9 $$"]);
    last.says(1, "error: sh failed (signal: 9 (SIGKILL)): job 1 is buried after 2 attempts\n");
    let job = http.get("/v1/jobs/1").expect(200);
    assert_eq!((&job["state"], &job["error"]), (&json!("buried"), &json!("signal: 9 (SIGKILL)")));

    // What could not be begun is no attempt.
    http.post_nothing("/v1/jobs/1/kick").expect(200);
    let none = run(&http, &["next", "q", "--exec", "/nowhere/to/be/found"]);
    assert!(none.code == Some(1) && none.err.contains("job 1 was given back"), "{none:?}");
    let outcome = run(&http, &["next", "q", "--json", "--exec", "true"]).object();
    assert_eq!(outcome, json!({ "id": 1, "queue": "q", "outcome": "completed", "exit_status": 0 }));
    run(&http, &["next", "q", "r", "--wait", "1ms"]).says(3, "error: no job is ready in queues q, r within 1ms\n");
    run(&http, &["put", "r", "x", "--header", "a=b"]).good();
    let next = run(&http, &["next", "q", "r", "--json"]).object();
    assert_eq!(next, json!({ "id": 2, "queue": "r", "headers": { "a": "b" }, "body": "x" }));
}

#[test]
fn what_a_command_prints_is_the_result() {
    let (_data, _rota, http) = server(&[]);
    run(&http, &["queue", "set", "q", "--retain", "1h"]).good();
    let put = |body: &str| run(&http, &["put", "q", body, "--back-off", "1ms,factor=1,jitter=0"]).good();
    let next = |what: &str, script: &str| {
        run(&http, &["next", "q", "--timeout", "20s", "--result", what, "--exec", "sh", "-c", script])
    };
    let result = |job: u64| http.get(&format!("/v1/jobs/{job}")).expect(200)["result"].take();
    put("body 1");
    assert_eq!(next("stdout", "cat; echo; echo '{\"a\":1}'").good(), "body 1\n{\"a\":1}\n");
    assert_eq!(result(1), "body 1\n{\"a\":1}");
    put("{\"a\":1}");
    assert_eq!(next("stdout-json", "cat").good(), "{\"a\":1}");
    assert_eq!(result(2), json!({ "a": 1 }));
    put("nothing");
    next("stdout-json", "true").good();
    assert_eq!(result(3), Value::Null);
    // What is no JSON is no work done; nor is a command that fails, whatever it printed.
    put("x");
    let none = next("stdout-json", "echo {");
    assert!(
        none.code == Some(1) && none.err.starts_with("error: sh failed (no JSON): job 4 is tried again"),
        "{none:?}"
    );
    let error = http.get("/v1/jobs/4").expect(200)["error"].take();
    assert!(error.as_str().unwrap().starts_with("what it wrote to its standard output is no JSON: "), "{error}");
    let failed = next("stdout", "echo half; echo why >&2; exit 3");
    assert!(failed.code == Some(1) && failed.err.starts_with("why\nerror: sh failed (exit status: 3)"), "{failed:?}");
    assert_eq!(http.get("/v1/jobs/4").expect(200)["error"], "exit status: 3: why");
    // What is too long is cut, and told of.
    let long = next("stdout", "head -c 70000 /dev/zero | tr '\\0' x");
    assert_eq!((long.code, long.out.len()), (Some(0), 70_000));
    assert_eq!(long.err, "warning: the result is cut: the command printed more than 65536 bytes\n");
    assert_eq!(result(4), "x".repeat(65_536));

    let wrong = run(&http, &["next", "q", "--result", "stdout"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("--exec"), "{wrong:?}");
    let mut command = command(&["next", "q", "--server", "127.0.0.1:1", "--result", "stdout", "--exec", "true"]);
    let over_beanstalkd = ended(&mut command);
    assert!(
        over_beanstalkd.code == Some(2) && over_beanstalkd.err.contains("a result goes over HTTP"),
        "{over_beanstalkd:?}"
    );
}

#[test]
fn a_job_is_shown_by_key_and_when_it_is_over() {
    let (_data, _rota, http) = server(&[]);
    run(&http, &["queue", "set", "q", "--retain", "1h"]).good();
    run(&http, &["put", "q", "line 1\nline 2", "--key", "a", "--header", "lang=en"]).good();
    let shown = run(&http, &["show", "--queue", "q", "--key", "a"]).good();
    let (fields, body) = shown.split_once("\n\n").unwrap();
    assert_eq!(body, "line 1\nline 2\n");
    let has = |line: &str| fields.lines().any(|found| found.split_whitespace().collect::<Vec<_>>().join(" ") == line);
    for line in ["state ready", "key a", "headers lang=en", "body_bytes 13", "max_attempts 25"] {
        assert!(has(line), "{line}: {fields}");
    }
    let lease = http.post("/v1/leases", &json!({ "queues": ["q"] })).expect(200)["leases"][0]["lease"].clone();
    let path = format!("/v1/leases/{}/complete", lease.as_str().unwrap());
    http.post(&path, &json!({ "result": "two\nlines" })).expect(200);
    let shown = run(&http, &["show", "1"]).good();
    assert!(shown.contains(r#""two\nlines""#) && shown.contains("state            done"), "{shown}");
    let object = run(&http, &["show", "1", "--json"]).object();
    assert_eq!((&object["state"], &object["result"]), (&json!("done"), &json!("two\nlines")));
    assert_eq!((&object["body"], &object["base64"]), (&json!("line 1\nline 2"), &Value::Null));
    run(&http, &["show", "9"]).says(3, "error: there is no open job 9\n");
    run(&http, &["show", "--queue", "q", "--key", "a"]).says(3, "error: no open job of queue q has the key a\n");
}

#[test]
fn queues_are_set_up_paused_and_listed() {
    let (_data, _rota, http) = server(&[]);
    let line =
        "queue set mail --retain 24h --max-jobs 100 --max-bytes 1MiB --concurrency 20 --rate 100/1s --key-rate 5/1m";
    let set = run(&http, &line.split(' ').collect::<Vec<_>>()).good();
    let all = "retain=86400s max_jobs=100 max_bytes=1048576 concurrency=20 rate=100/1s key_rate=5/60s";
    assert_eq!(set, format!("mail: {all}\n"));
    // What is not named stays; what is unset does not.
    let set = run(&http, &["queue", "set", "mail", "--concurrency", "3", "--unset", "retain,rate,max-bytes"]).good();
    assert_eq!(set, "mail: max_jobs=100 concurrency=3 key_rate=5/60s\n");
    let set = run(&http, &["queue", "set", "mail", "--unset", "key-rate", "--key-concurrency", "2", "--json"]).object();
    assert_eq!(set["settings"], json!({ "max_jobs": 100, "concurrency": 3, "per_key": { "concurrency": 2 } }));
    let set = run(&http, &["queue", "set", "safe", "--durable-leases", "--sync", "always"]).good();
    assert_eq!(set, "safe: durable_leases=true sync=always\n");
    let set = run(&http, &["queue", "set", "safe", "--unset", "sync"]).good();
    assert_eq!(set, "safe: durable_leases=true\n");
    let shown = run(&http, &["queue", "show", "safe"]).good();
    assert!(shown.contains("settings    durable_leases=true"), "{shown}");
    let set = run(&http, &["queue", "set", "safe", "--unset", "durable-leases", "--concurrency", "2"]).good();
    assert_eq!(set, "safe: concurrency=2\n");

    run(&http, &["put", "mail", "x"]).good();
    let paused = run(&http, &["queue", "pause", "mail", "--for", "1h"]).good();
    assert!(paused.starts_with("paused mail until 2"), "{paused}");
    assert!(http.get("/v1/queues/mail").expect(200)["paused_until"].is_string());
    let listed = run(&http, &["queue", "list"]).good();
    assert!(listed.starts_with("QUEUE ") && listed.contains("\nmail (paused until 2"), "{listed}");
    let object = run(&http, &["queue", "resume", "mail", "--json"]).object();
    assert_eq!((&object["name"], &object["paused_until"]), (&json!("mail"), &Value::Null));
    // Without an end, and with one by the clock.
    assert_eq!(run(&http, &["queue", "pause", "mail"]).good(), "paused mail until it is resumed\n");
    let queue = http.get("/v1/queues/mail").expect(200);
    assert_eq!((&queue["paused"], &queue["paused_until"]), (&json!(true), &Value::Null));
    let paused = run(&http, &["queue", "pause", "mail", "--until", "2100-01-01T01:00:00+01:00"]).good();
    assert!(paused.starts_with("paused mail until 2100-01-01T00:00:00"), "{paused}");
    let past = run(&http, &["queue", "pause", "mail", "--until", "2001-01-01T00:00:00Z"]);
    assert!(past.code == Some(1) && past.err.contains("2001-01-01T00:00:00Z is past"), "{past:?}");
    let both = run(&http, &["queue", "pause", "mail", "--until", "2100-01-01T00:00:00Z", "--for", "1h"]);
    assert!(both.code == Some(2) && both.err.contains("--until"), "{both:?}");
    run(&http, &["queue", "resume", "mail"]).good();
    let shown = run(&http, &["queue", "show", "mail"]).good();
    assert!(shown.contains("settings    max_jobs=100 concurrency=3 key_concurrency=2"), "{shown}");
    let objects = run(&http, &["queue", "list", "--json"]).good();
    assert!(objects.lines().any(|line| serde_json::from_str::<Value>(line).unwrap()["name"] == "mail"), "{objects}");
    for verb in ["show", "resume"] {
        let missing = run(&http, &["queue", verb, "none"]);
        assert!(missing.code == Some(3) && missing.err.contains("there is no queue none"), "{missing:?}");
    }
}

#[test]
fn a_schedule_agrees_all_that_a_put_does() {
    let (_data, _rota, http) = server(&[]);
    let line = "schedule set s q body --every 1h --limit-key c --back-off 5s --max-lost-leases 2 --max-attempts 3 --header a=b";
    run(&http, &line.split(' ').collect::<Vec<_>>()).good();
    let job = &http.get("/v1/schedules/s").expect(200)["job"];
    assert_eq!((&job["limit_key"], &job["max_lost_leases"], &job["max_attempts"]), (&json!("c"), &json!(2), &json!(3)));
    assert_eq!((&job["back_off"]["first"], &job["headers"]["a"]), (&json!("5s"), &json!("b")));
}
