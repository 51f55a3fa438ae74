//! `rota list`, `kick`, `cancel` with a filter, and `rota why`: what they print, and their exit codes.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::client::Http;
use super::{put, reserve, server};

/// Runs the binary on a server, with nothing of this test run's environment.
fn run(http: &Http, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROTA_")) {
        command.env_remove(name);
    }
    let http = http.address().to_string();
    command.args(arguments).args(["--http", &http]).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, out: &str, err: &str) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str(), text(&output.stderr).as_str()),
        (Some(code), out, err)
    );
}

fn object(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn jobs_are_listed_counted_and_dealt_with_by_a_filter() {
    let (_data, _rota, http) = server(&[]);
    for n in 1..=3 {
        put(&http, "x");
        let lease = reserve(&http)["lease"].as_str().unwrap().to_owned();
        http.post(&format!("/v1/leases/{lease}/bury"), &json!({})).expect(200);
        assert_eq!(http.get(&format!("/v1/jobs/{n}")).expect(200)["state"], "buried");
    }
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x", "kind": "a b", "priority": 7 })).expect(201);

    let listed = run(&http, &["list", "--where", "state:buried", "--limit", "2", "--json"]);
    let ids: Vec<Value> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, ["1", "2"]);
    let listed = String::from_utf8(run(&http, &["list", "--where", "id:4"]).stdout).unwrap();
    assert!(
        listed.starts_with("       4  ready      work  created_at=2")
            && listed.ends_with("  priority=7  body_bytes=1  kind=\"a b\"\n"),
        "{listed}"
    );
    check(&run(&http, &["list", "--where", "queue:none"]), 0, "", "");

    let dry = ["kick", "--all", "--where", "queue:work", "--dry-run"];
    let said = "would have kicked 3 of 4 matching jobs; 1 in a state in which it cannot be done: 1, 2, 3\n";
    check(&run(&http, &dry), 0, said, "");
    let counted = object(&run(&http, &[&dry[..], &["--json"]].concat()));
    assert_eq!(
        (&counted["would_do"], &counted["done"], &counted["refused"]["wrong_state"]),
        (&json!(3), &json!(0), &json!(1))
    );
    check(&run(&http, &["kick", "--count", "2", "--where", "state:buried"]), 0, "kicked 2 of 2 matching jobs\n", "");
    check(&run(&http, &["kick", "--all", "--where", "state:buried"]), 0, "kicked 1 of 1 matching job\n", "");
    let none = run(&http, &["kick", "--all", "--where", "state:buried"]);
    check(&none, 3, "", "error: no job matches state:buried\n");
    let much = run(&http, &["kick", "--where", "state:buried"]);
    let said = "error: --where does not say how many jobs to kick\n  hint: add --all, or --count N; --dry-run only counts them\n";
    check(&much, 2, "", said);
    check(&run(&http, &["cancel", "--where", "queue:work -id:4"]), 0, "cancelled 3 of 3 matching jobs\n", "");
    assert_eq!(http.get("/v1/queues/work").expect(200)["jobs"]["ready"], 1);
}

#[test]
fn a_bad_filter_is_told_before_anybody_is_asked() {
    let (_data, _rota, http) = server(&[]);
    for command in [&["list"][..], &["kick", "--all"], &["cancel"]] {
        let output = run(&http, &[command, &["--where", "stat:buried"]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains("unknown field \"stat\" at 1: did you mean \"state\"?"), "{said}");
        assert_eq!(run(&http, &[command, &["--where", ""]].concat()).status.code(), Some(2));
    }
    let help = String::from_utf8(run(&http, &["list", "--help"]).stdout).unwrap();
    assert!(help.contains("error:\"timed out\"") && help.contains("what went wrong last has that in it"), "{help}");
}

#[test]
fn why_says_why() {
    let (_data, _rota, http) = server(&[]);
    put(&http, "x");
    check(
        &run(&http, &["why", "1"]),
        0,
        "job 1 of the queue work is ready\n  nobody takes jobs of the queue work\n",
        "",
    );
    assert_eq!(object(&run(&http, &["why", "1", "--json"]))["reasons"][0]["reason"], "nobody_waits");
    let missing = run(&http, &["why", "2"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(String::from_utf8(missing.stderr).unwrap().starts_with("error: no reasons: there is no open job 2\n"));
}
