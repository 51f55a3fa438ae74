//! `rota events`: what it prints, and how it ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::client::Http;
use crate::http::{put, server, start};
use crate::tokens::create;

/// The binary, with nothing of this test run's environment.
fn command(http: &str, arguments: &[&str]) -> Command {
    let mut command = crate::process::rota();
    command.args(["events", "--http", http]).args(arguments).stdin(Stdio::null());
    command
}

/// One that runs, and is ended with the test.
struct Follows(Child, BufReader<ChildStdout>);

impl Follows {
    fn start(http: &str, arguments: &[&str]) -> Follows {
        Follows::of(command(http, arguments))
    }

    fn of(mut command: Command) -> Follows {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Follows(child, out)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn it_prints_what_was_chosen_until_the_server_ends() {
    let (_data, mut rota, http) = server(&[]);
    let address = http.address().to_string();
    // Where it begins is said at once, so that it is known to listen.
    let chosen = ["--after", "0", "--kind", "job.put,job.cancelled", "--queue", "work"];
    let mut text = Follows::start(&address, &chosen);
    let mut objects = Follows::start(&address, &[&chosen[..], &["--json"]].concat());
    assert!(text.line().contains(" seq="));
    let resumed: Value = serde_json::from_str(&objects.line()).unwrap();
    assert_eq!((&resumed["kind"], &resumed["soft"]), (&json!("resumed"), &json!("missing")));
    http.post("/v1/jobs", &json!({ "queue": "other", "text": "x" })).expect(201);
    let id = put(&http, "x");
    http.delete(&format!("/v1/jobs/{id}")).expect(200);
    for kind in ["job.put", "job.cancelled"] {
        let line = text.line();
        assert!(line.contains(kind) && line.contains(&format!(" job={id}")) && line.contains(" queue=work"), "{line}");
        let object: Value = serde_json::from_str(&objects.line()).unwrap();
        assert_eq!((&object["kind"], &object["job"], &object["queue"]), (&json!(kind), &json!(id), &json!("work")));
    }
    assert!(rota.terminate().success());
    assert_eq!(text.line(), "");
    assert_eq!(text.0.wait().unwrap().code(), Some(1));
}

#[test]
fn it_chooses_by_who_asked() {
    let data = TempDir::new().unwrap();
    let [mailer, admin] = ["the mailer", "admin"].map(|name| create(data.path(), &["--role", "admin", "--name", name]));
    let rota = start(&data, &["--auth"]);
    let http = Http::to(rota.http());
    let mut command = command(&http.address().to_string(), &["--after", "0", "--actor", "nobody,the mailer"]);
    command.env("ROTA_TOKEN", &admin);
    let mut follows = Follows::of(command);
    assert!(follows.line().contains(" resumed "));
    for token in [&admin, &mailer] {
        let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        http.ask("POST /v1/jobs", &headers, r#"{ "queue": "work", "text": "x" }"#).expect(201);
    }
    let line = follows.line();
    assert!(line.contains("job.put") && line.contains(r#" actor="the mailer""#) && line.contains(" job=2"), "{line}");
}

#[test]
fn without_follow_it_prints_what_is_past_and_ends() {
    let (_data, _rota, http) = server(&[]);
    let id = put(&http, "x");
    http.delete(&format!("/v1/jobs/{id}")).expect(200);
    let address = http.address().to_string();
    let output = command(&address, &["--after", "0", "--no-follow", "--job", &id, "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let kinds: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["resumed", "job.put", "job.cancelled"]);
    // It is told from the begin if nothing else is said.
    let all = command(&address, &["--no-follow", "--kind", "job.*"]).output().unwrap();
    assert!(all.status.success() && String::from_utf8(all.stdout).unwrap().contains("job.cancelled"));
}

#[test]
fn what_is_wrong_is_said() {
    let (_data, _rota, http) = server(&[]);
    let run = |http: &str, arguments: &[&str]| {
        let output = command(http, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(&http.address().to_string(), &["--kind", "job.putt"]);
    assert!(said.starts_with("error: no events: ") && said.contains("write \"job.put\""), "{said}");
    let said = run("127.0.0.1:1", &[]);
    assert!(said.starts_with("error: no answer from http://127.0.0.1:1") && said.contains("hint: "), "{said}");
    let output = command("127.0.0.1:1", &["--queue", "-x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
