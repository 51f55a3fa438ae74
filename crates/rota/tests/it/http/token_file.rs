//! The token that a command shows, where a file alone has it: every command that asks the HTTP port, one by one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::client::Http;
use super::start;
use crate::tokens::create;

/// A command with its arguments, its exit code where its token is taken, and what it says then.
type Case<'a> = (&'a [&'a str], i32, &'a str);

/// What is run, in this order: each finds what those before it left. `1` stands for the id of a job that is there.
const CASES: &[Case<'_>] = &[
    (&["put", "extra", "x"], 0, ""),
    (&["next", "extra"], 0, "x"),
    (&["show", "1"], 0, "work"),
    (&["queue", "set", "work", "--max-jobs", "9"], 0, "max_jobs=9"),
    (&["queue", "list"], 0, "work"),
    (&["queue", "show", "work"], 0, "max_jobs=9"),
    (&["queue", "pause", "work", "--for", "1h"], 0, "paused work"),
    (&["queue", "resume", "work"], 0, "resumed work"),
    (&["list", "--where", "queue:work"], 0, "work"),
    (&["list"], 0, "work"),
    (&["stats"], 0, "refused_puts"),
    (&["stats", "work"], 0, "max_jobs=9"),
    (&["kick", "work"], 3, "no job is buried or delayed"),
    (&["kick", "--job", "1"], 3, "no buried or delayed job"),
    (&["cancel", "--queue", "work", "--key", "none"], 3, "no open job of queue work"),
    (&["why", "1"], 0, "nobody takes jobs"),
    (&["top", "--once"], 0, "work"),
    (&["kick", "--where", "state:buried", "--all"], 3, "no job matches"),
    (&["cancel", "--where", "queue:work"], 0, "cancelled 1 of 1"),
    (&["schedule", "set", "nightly", "work", "x", "--every", "24h"], 0, "nightly: next at"),
    (&["schedule", "list"], 0, "nightly"),
    (&["schedule", "show", "nightly"], 0, "nightly"),
    (&["schedule", "pause", "nightly"], 0, ""),
    (&["schedule", "resume", "nightly"], 0, ""),
    (&["schedule", "run", "nightly"], 0, ""),
    (&["schedule", "delete", "nightly"], 0, ""),
    (&["webhook", "set", "hook", "http://127.0.0.1:1/"], 0, "hook: "),
    (&["webhook", "list"], 0, "hook"),
    (&["webhook", "show", "hook"], 0, "hook"),
    (&["webhook", "pause", "hook"], 0, ""),
    (&["webhook", "resume", "hook"], 0, ""),
    // Nobody is there.
    (&["webhook", "test", "hook"], 1, "hook did not take it"),
    (&["webhook", "rotate", "hook"], 0, "hook signs with both secrets"),
    (&["webhook", "drop-old-secret", "hook"], 0, ""),
    (&["webhook", "delete", "hook"], 0, ""),
    (&["events", "--no-follow", "--kind", "job.put"], 0, "job.put"),
    (&["snapshot"], 0, ""),
];

fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The names of all commands below that one which ask an HTTP port, as their own helps say.
fn that_ask_http(above: &[String]) -> Vec<Vec<String>> {
    let mut command = crate::process::rota();
    command.args(above).arg("--help");
    let (code, help) = run(command);
    assert_eq!(code, Some(0), "{above:?}: {help}");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split(' ').next())
        .filter(|name| *name != "help")
        .collect();
    if names.is_empty() {
        return if help.contains("--http <URL>") { vec![above.to_vec()] } else { Vec::new() };
    }
    names.iter().flat_map(|name| that_ask_http(&[above, &[(*name).to_owned()]].concat())).collect()
}

#[test]
fn every_command_of_http_shows_the_token_of_a_file() {
    let all = that_ask_http(&[]);
    assert!(all.len() > 15, "{all:?}");
    for command in &all {
        let runs = |(words, ..): &Case<'_>| words.iter().take(command.len()).eq(command.iter());
        assert!(CASES.iter().any(runs), "{command:?} asks over HTTP, and no case here runs it");
    }

    let data = TempDir::new().unwrap();
    let admin = create(data.path(), &["--role", "admin"]);
    let server = start(&data, &["--webhook-allow", "127.0.0.1"]);
    let http = Http::to(server.http());
    let file = data.path().join("for-commands");
    fs::write(&file, format!("{admin}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let command = |words: &[&str]| {
        let mut command = crate::process::rota();
        command.args(words).args(["--http", &http.address().to_string()]);
        command
    };
    for (words, ..) in CASES {
        let (code, said) = run(command(words));
        assert!(code == Some(1) && said.contains("shows no token"), "{words:?} without a token: {code:?} {said}");
    }
    for by_flag in [true, false] {
        let headers = format!("authorization: Bearer {admin}\r\ncontent-type: application/json\r\n");
        let job = json!({ "queue": "work", "text": "x" }).to_string();
        let job = http.ask("POST /v1/jobs", &headers, &job).expect(201);
        for (words, code, text) in CASES {
            let words: Vec<&str> =
                words.iter().map(|word| if *word == "1" { job["id"].as_str().unwrap() } else { word }).collect();
            let mut command = command(&words);
            if by_flag {
                command.arg("--token-file").arg(&file);
            } else {
                command.env("ROTA_TOKEN_FILE", &file);
            }
            let (got, said) = run(command);
            assert!(got == Some(*code) && said.contains(text), "{words:?}, by flag {by_flag}: {got:?} {said}");
            assert!(!said.contains(&admin), "{words:?} told its token");
        }
        // What the schedule put.
        let (code, said) = run({
            let mut command = command(&["cancel", "--where", "queue:work"]);
            command.env("ROTA_TOKEN_FILE", &file);
            command
        });
        assert_eq!((code, said.as_str()), (Some(0), "cancelled 1 of 1 matching job\n"));
    }
}
