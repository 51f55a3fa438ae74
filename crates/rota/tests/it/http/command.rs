//! `rota list`, `kick`, `cancel` with a filter, and `rota why`: what they print, and their exit codes.

use std::process::{Output, Stdio};

use serde_json::{Value, json};

use super::client::Http;
use super::{put, reserve, server};

/// Runs the binary on a server, with nothing of this test run's environment.
fn run(http: &Http, arguments: &[&str]) -> Output {
    let http = http.address().to_string();
    crate::process::rota().args(arguments).args(["--http", &http]).stdin(Stdio::null()).output().unwrap()
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

/// Nobody may be at the port of the other protocol, or somebody else.
#[test]
fn who_names_the_http_port_alone_asks_there_and_nowhere_else() {
    let (_data, rota, http) = server(&[]);
    let delayed = |key: &str| {
        let job = json!({ "queue": "work", "text": "x", "delay": "1h", "key": key });
        http.post("/v1/jobs", &job).expect(201);
    };
    ["a", "b", "c"].into_iter().for_each(delayed);
    check(&run(&http, &["kick", "--job", "1"]), 0, "kicked 1\n", "");
    for id in ["1", "99"] {
        let said = format!("error: there is no buried or delayed job {id}\n");
        check(&run(&http, &["kick", "--job", id]), 3, "", &said);
    }
    check(&run(&http, &["kick", "work", "--count", "1"]), 0, "kicked 1 job\n", "");
    check(&run(&http, &["kick", "none"]), 3, "", "error: no job is buried or delayed in queue none\n");
    let server = rota.address().to_string();
    for queue in ["work", "other"] {
        http.post(&format!("/v1/queues/{queue}/pause"), &json!({})).expect(200);
        let [there, here] = [&["list", "--server", &server][..], &["list"]].map(|command| run(&http, command));
        assert!(here.status.success(), "{here:?}");
        assert_eq!(String::from_utf8(here.stdout), String::from_utf8(there.stdout));
    }
    let listed = String::from_utf8(run(&http, &["list", "work"]).stdout).unwrap();
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["work", "(paused)", "2", "1", "0", "0", "0", "3"], "{listed}");
    let none = run(&http, &["list", "work", "none", "--json"]);
    assert_eq!(none.status.code(), Some(3));
    assert_eq!(serde_json::from_slice::<Value>(&none.stdout).unwrap()["ready"], 2);
    let stats = object(&run(&http, &["stats", "--json"]));
    assert_eq!((&stats["jobs"]["ready"], &stats["refused_puts"]["busy"]), (&json!(2), &json!(0)), "{stats}");
    assert_eq!(object(&run(&http, &["stats", "work", "--json"]))["totals"]["kicked"], 2);
    let printed = String::from_utf8(run(&http, &["stats"]).stdout).unwrap();
    assert!(printed.contains("\nrefused_puts ") && printed.contains(" queue_full=0 disk_full=0 "), "{printed}");
    assert_eq!(run(&http, &["stats", "none"]).status.code(), Some(3));
    check(&run(&http, &["cancel", "1"]), 0, "cancelled 1\n", "");
    check(&run(&http, &["cancel", "1", "2"]), 3, "cancelled 2\n", "error: there is no open job 1\n");
    check(&run(&http, &["cancel", "--queue", "work", "--key", "c"]), 0, "cancelled 3\n", "");
    let said = "error: no open job of queue work has the key c\n";
    check(&run(&http, &["cancel", "--queue", "work", "--key", "c"]), 3, "", said);
}
