//! What needs no server: wrong usage, wrong configuration, help, completions, and a server that is not there.

use serde_json::{Value, json};

use super::{Run, alone, command};
use crate::server::free_address;

#[test]
fn a_server_that_is_not_there() {
    let address = free_address();
    let url = format!("beanstalkd://{address}");
    let expected = format!(
        "error: cannot connect to {url}\n  cause: Connection refused (os error 111)\n  \
         hint: start a server with `rota serve`, or name another with --server or ROTA_SERVER\n"
    );
    let commands: [&[&str]; 8] = [
        &["put", "q", "x"],
        &["next", "q"],
        &["cancel", "1"],
        &["show", "1"],
        &["list"],
        &["kick", "q"],
        &["stats"],
        &["bench"],
    ];
    for arguments in commands {
        alone(&[arguments, &["--server", &url]].concat()).expect(1, "", &expected);
    }
    let run = alone(&["--json", "list", "--server", &url]);
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(
        error,
        json!({
            "error": format!("cannot connect to {url}"),
            "causes": ["Connection refused (os error 111)"],
            "hint": "start a server with `rota serve`, or name another with --server or ROTA_SERVER",
            "exit_code": 1,
        })
    );
}

/// Every one of them must be refused before a connection is tried: there is no server.
#[test]
fn wrong_usage_is_exit_code_2() {
    let server = format!("beanstalkd://{}", free_address());
    let cases: [(&[&str], &str); 37] = [
        (&[], "Usage: rota"),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&["put"], "<QUEUE>"),
        (&["put", "a b", "x"], "' ' can't be in it"),
        (&["put", "a\r\nquit", "x"], "'\\r' can't be in it"),
        (&["put", "", "x"], "it is empty"),
        (&["put", "q", "x", "--delay", "5"], "5 has no unit: write 5s or 5ms"),
        (&["put", "q", "x", "--delay", "1s", "--at", "2100-01-01"], "cannot be used with"),
        (&["put", "q", "x", "--at", "tomorrow"], "\"tomorrow\" is not a time"),
        (&["put", "q", "x", "--priority", "4294967296"], "4294967296"),
        (&["put", "q", "x", "--priority=-1"], "-1"),
        (&["put", "q", "x", "--ttr", "0s"], "a worker needs some time: at least 1ms"),
        (&["put", "q", "x", "--key", "a b"], "' ' can't be in it"),
        (&["next"], "<QUEUE>"),
        (&["next", "q", "--wait", "long"], "\"long\" is not a duration"),
        (&["next", "q", "--exec"], "--exec"),
        (&["cancel"], "<ID>"),
        (&["cancel", "x"], "invalid value 'x'"),
        (&["cancel", "--key", "k"], "--queue"),
        (&["cancel", "--queue", "q"], "--key"),
        (&["cancel", "1", "--queue", "q", "--key", "k"], "cannot be used with"),
        (&["put", "q", "x", "--after", "x"], "\"x\" names no job: write its id, or QUEUE:KEY"),
        (&["put", "q", "x", "--back-off", "5s,often"], "\"often\" is no part of a back-off"),
        (&["put", "q", "x", "--kind", "k"], "hint: name the server's HTTP port with --http (Rota servers only)"),
        (&["next", "a", "b"], "error: a job of several queues goes over HTTP, and only --server is named"),
        (&["queue", "set", "q"], "required arguments"),
        (&["queue", "set", "q", "--rate", "5"], "\"5\" is no rate: write 100/1s or 5/1m"),
        (&["show", "-1"], "-1"),
        (&["list", "-x"], "-x"),
        (&["kick"], "<QUEUE>"),
        (&["kick", "q", "--job", "1"], "cannot be used with"),
        (&["kick", "q", "--count", "0"], "--count"),
        (&["bench", "--mix", "fast"], "possible values: put, cycle, delayed, cancel"),
        (&["bench", "--connections", "0"], "--connections"),
        (&["bench", "--delay-range", "5s..1s"], "5s is longer than 1s"),
        (&["bench", "--mix", "delayed", "--size", "19"], "hint: give --size 20 or more"),
        (&["completions", "dos"], "possible values: bash, elvish, fish, powershell, zsh"),
    ];
    for (arguments, expected) in cases {
        let output = command(arguments).env("ROTA_SERVER", &server).output().unwrap();
        let run = Run::from(output);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(expected), "{arguments:?}: {}", run.err);
    }
    // What a flag names beats the environment, which may name another server.
    for line in [&["put", "q", "x", "--kind", "k"][..], &["queue", "pause", "q"], &["why", "1"]] {
        let mut command = command(line);
        command.args(["--server", &server]).env("ROTA_HTTP", "http://127.0.0.1:1");
        let run = Run::from(command.output().unwrap());
        assert_eq!(run.code, 2, "{line:?}: {}", run.err);
        assert!(run.err.contains("goes over HTTP, and only --server is named"), "{line:?}: {}", run.err);
    }
    let run = alone(&["list", "--server", "redis://localhost"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("\"redis\" is not a protocol that rota speaks"), "{}", run.err);
}

#[test]
fn wrong_configuration_is_exit_code_2_and_names_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rota.toml");
    std::fs::write(&file, "sync = \"50ms\"\nspok = \"1s\"\n").unwrap();
    let file = file.to_str().unwrap();
    let unknown_key = format!("error: {file}:2: there is no option \"spok\"\n  hint: did you mean spoke?\n");
    alone(&["serve", "--config", file]).expect(2, "", &unknown_key);
    let output = command(&["serve"]).env("ROTA_CONFIG", file).output().unwrap();
    Run::from(output).expect(2, "", &unknown_key);
    let run = alone(&["serve", "--json", "--config", file]);
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((&error["hint"], &error["exit_code"]), (&json!("did you mean spoke?"), &json!(2)));

    alone(&["serve", "--config", "/nowhere.toml"]).expect(
        2,
        "",
        "error: cannot read the configuration file /nowhere.toml\n  \
         cause: No such file or directory (os error 2)\n  hint: --config and ROTA_CONFIG name a TOML file\n",
    );
    let public = "192.0.2.1:11300 can be reached from other machines, and there is no token yet\n  \
                  hint: make a token with `rota token create --role admin`, listen on 127.0.0.1:11300, or add --insecure \
                  if only machines you trust can reach this one\n";
    for flag in ["--beanstalkd", "--addr"] {
        let expected = format!("error: --beanstalkd: {public}");
        alone(&["serve", flag, "192.0.2.1:11300"]).expect(2, "", &expected);
    }
    let output = command(&["serve"]).env("ROTA_HTTP", "192.0.2.1:11300").output().unwrap();
    Run::from(output).expect(
        2,
        "",
        "error: ROTA_HTTP: 192.0.2.1:11300 can be reached from other machines, and there is no token yet\n  \
         hint: make a token with `rota token create --role admin`, listen on 127.0.0.1:11300, or add --insecure \
         if only machines you trust can reach this one\n",
    );
    alone(&["serve", "--insecure=perhaps"]).expect(2, "", "error: --insecure: \"perhaps\" is neither true nor false\n");
    alone(&["serve", "-d", ""]).expect(2, "", "error: --data: no folder was named\n");
    alone(&["serve", "-s", "stats"]).expect(
        2,
        "",
        "error: --statsd: \"stats\" has no port: write host:port such as 127.0.0.1:11300\n",
    );
    // A flag that is given twice counts as it was given last.
    alone(&["serve", "--spoke", "1s", "--spoke", "0s"]).expect(
        2,
        "",
        "error: --spoke: 0s is too short: at least 1ms\n",
    );
    let run = alone(&["serve", "--synk", "always"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("a similar argument exists: '--sync'"), "{}", run.err);
}

#[test]
fn help_says_what_scripts_need() {
    let help = alone(&["--help"]).good();
    assert!(help.contains("  3  nothing there: no job came, no such job or queue, no data directory\n"), "{help}");
    let verbs = [
        "serve",
        "put",
        "next",
        "cancel",
        "show",
        "why",
        "list",
        "kick",
        "stats",
        "top",
        "queue",
        "schedule",
        "webhook",
        "events",
        "snapshot",
        "inspect",
        "token",
        "log",
        "bench",
        "completions",
    ];
    let shown: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(shown, verbs);
    for verb in verbs {
        let help = alone(&[verb, "--help"]).good();
        assert!(help.contains("Usage: rota "), "{help}");
        assert!(help.lines().all(|line| line.len() <= 110), "{help}");
    }
    let serve = alone(&["serve", "--help"]).good();
    let names = [
        "DATA",
        "BEANSTALKD",
        "HTTP",
        "STORAGE",
        "SYNC",
        "HISTORY",
        "SEGMENT_SIZE",
        "SPOKE",
        "MAX_JOB_SIZE",
        "STATSD",
        "SNAPSHOT_TO",
        "RESTORE",
    ];
    for name in names.into_iter().chain(["INSECURE", "CONFIG"]) {
        assert!(serve.contains(&format!("ROTA_{name}]")), "{name}: {serve}");
    }
    assert_eq!(alone(&["--version"]).good(), format!("rota {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_the_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = alone(&["completions", shell]).good();
        for word in ["max-job-size", "delay-range", "kick"] {
            assert!(script.contains(word), "{shell} has no {word}");
        }
    }
}
