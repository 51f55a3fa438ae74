//! The command line as its users see it: what is printed, where, and the exit code.
//!
//! A scenario runs against real beanstalkd and against rota's own server, and must print the same; what only Rota
//! has, and what only beanstalkd lacks, stand below. Each test has a server of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, free_address};

const ROTA: &str = env!("CARGO_BIN_EXE_rota");

/// Tests for each scenario on each of the servers.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod on_beanstalkd {
            use crate::server::Server;
            $(#[test] fn $name() { super::$name(&Server::beanstalkd()); })*
        }
        mod on_rota {
            use crate::server::Server;
            $(#[test] fn $name() { super::$name(&Server::rota(&[])); })*
        }
    };
}

scenarios! {
    a_job_goes_through,
    any_bytes_go_through_standard_input,
    next_waits_for_a_job,
    the_most_urgent_comes_first,
    delayed_jobs_wait,
    buried_jobs_are_kicked,
    a_command_does_the_job,
    a_command_that_fails_gives_the_job_back,
    a_long_command_keeps_its_lease,
    jobs_are_cancelled,
    a_job_is_shown,
    queues_are_listed,
    statistics_are_printed,
    what_is_not_there_is_exit_code_3,
    a_job_that_is_too_big_is_refused,
    every_mix_of_the_benchmark_comes_out_even,
    the_benchmark_leaves_nothing_behind_unless_told_to,
    the_report_of_the_benchmark_for_people,
}

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn expect(self, code: i32, out: &str, err: &str) {
        let expected = Run {
            code,
            out: out.to_owned(),
            err: err.to_owned(),
        };
        assert_eq!(self, expected);
    }

    /// What was printed, if the command succeeded and had nothing to complain about.
    #[track_caller]
    fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// The objects that were printed, a line each.
    #[track_caller]
    fn objects(self) -> Vec<Value> {
        self.good()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The one object that was printed.
    #[track_caller]
    fn object(self) -> Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The binary, with nothing of this test run's environment that it would look at.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(ROTA);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROTA_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs rota without a server.
fn alone(arguments: &[&str]) -> Run {
    command(arguments).output().unwrap().into()
}

/// Runs rota on a server, which it is told by the environment.
fn rota(server: &Server, arguments: &[&str]) -> Run {
    command(arguments)
        .env("ROTA_SERVER", server.url())
        .output()
        .unwrap()
        .into()
}

/// Runs rota on a server with something to read.
fn rota_reading(server: &Server, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(arguments);
    command
        .env("ROTA_SERVER", server.url())
        .stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Puts a job and gives its id.
#[track_caller]
fn put(server: &Server, arguments: &[&str]) -> String {
    let out = rota(server, &[&["put"], arguments].concat()).good();
    let id = out.trim_end().to_owned();
    assert_eq!(out, format!("{}\n", id.parse::<u64>().unwrap()));
    id
}

/// One number of a queue as `rota list` has it.
fn listed(server: &Server, queue: &str, field: &str) -> u64 {
    let run = rota(server, &["list", "--json", queue]);
    match run.code {
        3 => 0,
        _ => run.object()[field].as_u64().unwrap(),
    }
}

/// Looks until `condition` holds.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came about that {what}");
    }
}

/// Sends commands of the protocol over a new connection; the answer lines are given, each checked by its beginning.
#[track_caller]
fn speak(server: &Server, dialogue: &[(&str, &str)]) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for (command, expected) in dialogue {
        (&stream)
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        assert!(
            answer.starts_with(expected),
            "{command:?} was answered with {answer:?}"
        );
        if answer.starts_with("RESERVED") {
            reader.read_line(&mut answer).unwrap();
        }
    }
    stream
}

fn a_job_goes_through(server: &Server) {
    put(server, &["mails", "hello"]);
    rota(server, &["next", "mails"]).expect(0, "hello", "");
    rota(server, &["next", "mails"]).expect(3, "", "error: no job is ready in queue mails\n");

    let id = put(server, &["mails", ""]);
    rota(server, &["next", "mails", "--json"]).expect(
        0,
        &format!("{{\"id\":{id},\"queue\":\"mails\",\"body\":\"\"}}\n"),
        "",
    );

    let object = rota(server, &["put", "default", "x", "--json"]).object();
    assert_eq!(
        object,
        json!({ "id": object["id"].as_u64().unwrap(), "queue": "default" })
    );
    rota(server, &["next", "default"]).expect(0, "x", "");
}

fn any_bytes_go_through_standard_input(server: &Server) {
    let body: Vec<u8> = (0..=255)
        .cycle()
        .take(5_000)
        .chain(*b"\r\ndelete 1\r\n")
        .collect();
    assert!(
        rota_reading(server, &["put", "bytes"], &body)
            .status
            .success()
    );
    let output = rota_reading(server, &["next", "bytes"], b"");
    assert_eq!((output.status.code(), output.stdout), (Some(0), body));

    assert!(
        rota_reading(server, &["put", "bytes"], b"\xff\0")
            .status
            .success()
    );
    let object = rota(server, &["next", "bytes", "--json"]).object();
    assert_eq!(object["body_base64"], "/wA=");
}

fn next_waits_for_a_job(server: &Server) {
    let mut waiting = command(&["next", "later", "--wait", "60s"]);
    let waiting = waiting
        .env("ROTA_SERVER", server.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("next waits", || listed(server, "later", "waiting") == 1);
    put(server, &["later", "now"]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), b"now".as_slice())
    );
    rota(server, &["next", "later", "--wait", "1ms"]).expect(
        3,
        "",
        "error: no job is ready in queue later within 1ms\n",
    );
}

fn the_most_urgent_comes_first(server: &Server) {
    for (body, priority) in [("third", "4294967295"), ("first", "0"), ("second", "1023")] {
        put(server, &["q", body, "--priority", priority]);
    }
    for body in ["first", "second", "third"] {
        rota(server, &["next", "q"]).expect(0, body, "");
    }
}

fn delayed_jobs_wait(server: &Server) {
    let id = put(
        server,
        &[
            "q",
            "x",
            "--delay",
            "1h30m",
            "--ttr",
            "2m",
            "--priority",
            "7",
        ],
    );
    assert_eq!(listed(server, "q", "delayed"), 1);
    rota(server, &["next", "q"]).expect(3, "", "error: no job is ready in queue q\n");
    let shown = rota(server, &["show", &id, "--json"]).object();
    let fields = ["state", "delay_s", "ttr_s", "priority"].map(|field| &shown[field]);
    assert_eq!(
        fields,
        [&json!("delayed"), &json!(5_400), &json!(120), &json!(7)]
    );
    rota(server, &["kick", "--job", &id]).expect(0, &format!("kicked {id}\n"), "");
    rota(server, &["next", "q"]).expect(0, "x", "");

    // A moment works on any server: those that know only delays get one in seconds, rounded up.
    let id = put(server, &["q", "x", "--at", "2100-01-01T00:00:00.5Z"]);
    let shown = rota(server, &["show", &id, "--json"]).object();
    assert_eq!(shown["state"], "delayed");
    let left = shown["time_left_s"].as_u64().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let due = now + left;
    assert!((4_102_444_790..=4_102_444_801).contains(&due), "{due}");
    put(server, &["past", "x", "--at", "2001-01-01 08:00"]);
    rota(server, &["next", "past"]).expect(0, "x", "");
}

fn buried_jobs_are_kicked(server: &Server) {
    let ids: Vec<String> = ["a", "b", "c"].map(|body| put(server, &["q", body])).into();
    for id in &ids {
        let bury = format!("bury {id} 0");
        speak(
            server,
            &[
                ("watch q", "WATCHING"),
                ("reserve", "RESERVED"),
                (&bury, "BURIED"),
            ],
        );
    }
    assert_eq!(listed(server, "q", "buried"), 3);
    rota(server, &["kick", "q"]).expect(0, "kicked 1 job\n", "");
    rota(server, &["kick", "--job", &ids[2], "--json"]).expect(
        0,
        &format!("{{\"id\":{},\"kicked\":1}}\n", ids[2]),
        "",
    );
    assert_eq!(
        (listed(server, "q", "buried"), listed(server, "q", "ready")),
        (1, 2)
    );
    rota(server, &["kick", "q", "--count", "100", "--json"]).expect(
        0,
        "{\"queue\":\"q\",\"kicked\":1}\n",
        "",
    );
    assert_eq!(listed(server, "q", "ready"), 3);
}

fn a_command_does_the_job(server: &Server) {
    let id = put(server, &["q", "in the body"]);
    let script = "read -r line; echo $ROTA_JOB_QUEUE $ROTA_JOB_ID: $line, $*";
    rota(
        server,
        &[
            "next", "q", "--exec", "sh", "-c", script, "sh", "--wait", "-t",
        ],
    )
    .expect(0, &format!("q {id}: in the body, --wait -t\n"), "");
    rota(server, &["show", &id]).expect(3, "", &format!("error: there is no open job {id}\n"));

    // A command need not read its input, however much there is.
    let id = put(server, &["q", &"x".repeat(65_535)]);
    let outcome = rota(server, &["next", "q", "--json", "--exec", "true"]).object();
    let id: u64 = id.parse().unwrap();
    assert_eq!(
        outcome,
        json!({ "id": id, "queue": "q", "outcome": "completed", "exit_status": 0 })
    );
    rota(server, &["next", "q", "--exec", "true"]).expect(
        3,
        "",
        "error: no job is ready in queue q\n",
    );
}

fn a_command_that_fails_gives_the_job_back(server: &Server) {
    let id = put(server, &["q", "x", "--priority", "77"]);
    let released = format!("job {id} was released");
    rota(server, &["next", "q", "--exec", "sh", "-c", "exit 7"]).expect(
        1,
        "",
        &format!("error: sh failed (exit status: 7): {released}\n"),
    );
    rota(server, &["next", "q", "--exec", "sh", "-c", "kill -9 $$"]).expect(
        1,
        "",
        &format!("error: sh failed (signal: 9 (SIGKILL)): {released}\n"),
    );
    rota(server, &["next", "q", "--exec", "/nowhere/to/be/found"]).expect(
        1,
        "",
        &format!(
            "error: cannot start /nowhere/to/be/found: job {id} was given back\n  \
             cause: No such file or directory (os error 2)\n"
        ),
    );
    let shown = rota(server, &["show", &id, "--json"]).object();
    let fields = ["state", "priority", "releases", "timeouts"].map(|field| &shown[field]);
    assert_eq!(fields, [&json!("ready"), &json!(77), &json!(3), &json!(0)]);

    // So does a reader that leaves before it has the body.
    let mut command = command(&["next", "q"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run: Run = command
        .env("ROTA_SERVER", server.url())
        .stdout(writer)
        .output()
        .unwrap()
        .into();
    run.expect(
        1,
        "",
        &format!(
            "error: cannot print job {id}: it was given back\n  cause: Broken pipe (os error 32)\n"
        ),
    );
    rota(server, &["next", "q"]).expect(0, "x", "");
}

fn a_long_command_keeps_its_lease(server: &Server) {
    let id = put(server, &["q", "x", "--ttr", "1s"]);
    // The command goes on until its lease was renewed so often that it is older than the TTR.
    let script = format!("until {ROTA} stats --json | grep -q '\"cmd_touch\":[4-9]'; do :; done");
    rota(server, &["next", "q", "--exec", "sh", "-c", &script]).expect(0, "", "");
    let stats = rota(server, &["stats", "--json"]).object();
    assert_eq!(stats["job_timeouts"], 0);
    rota(server, &["show", &id]).expect(3, "", &format!("error: there is no open job {id}\n"));
}

fn jobs_are_cancelled(server: &Server) {
    let ready = put(server, &["q", "x"]);
    let delayed = put(server, &["q", "x", "--delay", "1d"]);
    rota(server, &["cancel", &ready, &delayed]).expect(
        0,
        &format!("cancelled {ready}\ncancelled {delayed}\n"),
        "",
    );
    assert_eq!(
        listed(server, "q", "ready") + listed(server, "q", "delayed"),
        0
    );

    let id = put(server, &["q", "x"]);
    let run = rota(server, &["cancel", &ready, &id, "--json"]);
    assert_eq!(run.code, 3);
    let expected = format!(
        "{{\"id\":{ready},\"outcome\":\"not_found\"}}\n{{\"id\":{id},\"outcome\":\"cancelled\"}}\n"
    );
    assert_eq!(run.out, expected);
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(error["error"], format!("there is no open job {ready}"));
    assert_eq!(error["exit_code"], 3);
}

fn a_job_is_shown(server: &Server) {
    let id = put(server, &["q", "line 1\nline 2", "--priority", "5"]);
    let out = rota(server, &["show", &id]).good();
    let (fields, body) = out.split_once("\n\n").unwrap();
    assert_eq!(body, "line 1\nline 2\n");
    let expected = [
        ("queue", "q"),
        ("state", "ready"),
        ("priority", "5"),
        ("body_bytes", "13"),
    ];
    for (name, value) in expected {
        let line = fields
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        assert_eq!(
            line.and_then(|line| line.split_whitespace().nth(1)),
            Some(value),
            "{out}"
        );
    }
    let object = rota(server, &["show", &id, "--json"]).object();
    assert_eq!(object["id"].to_string(), id);
    assert_eq!(
        (&object["queue"], &object["body"]),
        (&json!("q"), &json!("line 1\nline 2"))
    );
}

fn queues_are_listed(server: &Server) {
    put(server, &["zebra", "x"]);
    put(server, &["zebra", "x"]);
    put(server, &["ant", "x", "--delay", "1h"]);
    rota(server, &["list", "zebra", "ant"]).expect(
        0,
        "QUEUE  READY  DELAYED  RESERVED  BURIED  WAITING  TOTAL\n\
         ant        0        1         0       0        0      1\n\
         zebra      2        0         0       0        0      2\n",
        "",
    );
    let all = rota(server, &["list", "--json"]).objects();
    let names: Vec<_> = all
        .iter()
        .map(|object| object["queue"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ant", "default", "zebra"]);
    assert_eq!(
        all[2],
        json!({
            "queue": "zebra", "ready": 2, "delayed": 0, "reserved": 0, "buried": 0, "waiting": 0, "total": 2,
            "pause_time_left_s": 0,
        })
    );
    speak(server, &[("pause-tube zebra 3600", "PAUSED")]);
    let out = rota(server, &["list", "zebra"]).good();
    assert!(out.contains("\nzebra (paused 3"), "{out}");
}

fn statistics_are_printed(server: &Server) {
    put(server, &["q", "x"]);
    let object = rota(server, &["stats", "--json"]).object();
    assert_eq!(
        (&object["cmd_put"], &object["current_jobs_ready"]),
        (&json!(1), &json!(1))
    );
    assert!(
        object["version"].is_string() && object["id"].is_string(),
        "{object}"
    );
    let out = rota(server, &["stats"]).good();
    assert!(
        out.lines()
            .any(|line| line.starts_with("cmd_put ") && line.ends_with(" 1")),
        "{out}"
    );

    let object = rota(server, &["stats", "q", "--json"]).object();
    assert_eq!(
        (&object["name"], &object["current_jobs_ready"]),
        (&json!("q"), &json!(1))
    );
}

fn what_is_not_there_is_exit_code_3(server: &Server) {
    let no_job = "error: there is no open job 99999\n";
    rota(server, &["show", "99999"]).expect(3, "", no_job);
    rota(server, &["list", "nothing", "default", "--json"]).expect(
        3,
        "{\"queue\":\"default\",\"ready\":0,\"delayed\":0,\"reserved\":0,\"buried\":0,\"waiting\":0,\"total\":0,\
         \"pause_time_left_s\":0}\n",
        "{\"error\":\"there is no queue nothing\",\"exit_code\":3}\n",
    );
    rota(server, &["stats", "nothing"]).expect(3, "", "error: there is no queue nothing\n");
    rota(server, &["kick", "--job", "99999"]).expect(
        3,
        "",
        "error: there is no buried or delayed job 99999\n",
    );
    rota(server, &["kick", "q"]).expect(3, "", "error: no job is buried or delayed in queue q\n");
    rota(server, &["next", "q", "--json"]).expect(
        3,
        "",
        "{\"error\":\"no job is ready in queue q\",\"exit_code\":3}\n",
    );
}

fn a_job_that_is_too_big_is_refused(server: &Server) {
    let url = server.url();
    let output = rota_reading(server, &["put", "q"], &[b'x'; 65_536]);
    Run::from(output).expect(
        1,
        "",
        &format!(
            "error: {url} takes no job of 65536 bytes: it is too big\n  \
             hint: raise the server's limit (rota serve --max-job-size, beanstalkd -z), or put a reference\n"
        ),
    );
    assert_eq!(listed(server, "q", "ready"), 0);
}

fn every_mix_of_the_benchmark_comes_out_even(server: &Server) {
    let mixes: [(&str, &[&str], &[(&str, u64)]); 4] = [
        ("put", &[], &[("put", 500)]),
        (
            "cycle",
            &[],
            &[("put", 500), ("reserve", 500), ("delete", 500)],
        ),
        (
            "delayed",
            &["--delay-range", "0s..1s"],
            &[("put", 500), ("delete", 500)],
        ),
        (
            "cancel",
            &["--delay-range", "1h..2h"],
            &[("put", 500), ("delete", 500)],
        ),
    ];
    for (mix, flags, counts) in mixes {
        for load in [
            ["--connections", "1", "--depth", "1"],
            ["--connections", "7", "--depth", "16"],
        ] {
            let common = [
                "bench",
                "--json",
                "--jobs",
                "500",
                "--rounds",
                "2",
                "--threads",
                "2",
                "--mix",
                mix,
            ];
            let report = rota(server, &[common.as_slice(), &load, flags].concat()).object();
            assert_eq!(report["mix"], mix);
            assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
            for round in report["rounds"].as_array().unwrap() {
                assert_eq!(
                    (&round["operations"], &round["stopped_by_time"]),
                    (&json!(500), &json!(false))
                );
                let verbs = round["verbs"].as_object().unwrap();
                let found: Vec<_> = verbs
                    .iter()
                    .map(|(verb, v)| (verb.as_str(), v["count"].as_u64().unwrap()))
                    .collect();
                assert_eq!(found, counts, "{mix}");
                assert!(round["ops_per_s"].as_f64().unwrap() > 0.0);
                if mix == "delayed" {
                    assert_eq!(
                        (&round["lateness"]["count"], &round["early"]),
                        (&json!(500), &json!(0))
                    );
                }
            }
        }
    }
    assert_eq!(rota(server, &["list", "--json"]).objects().len(), 1);
}

fn the_benchmark_leaves_nothing_behind_unless_told_to(server: &Server) {
    let report = rota(server, &["bench", "--json", "--jobs", "100", "--keep"]).object();
    assert_eq!(report["rounds"][0]["operations"], 100);
    let queues = rota(server, &["list", "--json"]).objects();
    assert_eq!(queues.len(), 2, "{queues:?}");
    assert_eq!(queues[1]["ready"], 100);
    assert!(
        queues[1]["queue"]
            .as_str()
            .unwrap()
            .starts_with("rota-bench-")
    );

    // Time is up at once: nothing is done, and the report says so.
    let report = rota(
        server,
        &["bench", "--json", "--mix", "cycle", "--time", "0s"],
    )
    .object();
    let round = &report["rounds"][0];
    assert_eq!(
        (&round["operations"], &round["stopped_by_time"]),
        (&json!(0), &json!(true))
    );
}

fn the_report_of_the_benchmark_for_people(server: &Server) {
    let run = rota(
        server,
        &[
            "bench", "--jobs", "200", "--mix", "cycle", "-c", "2", "--size", "1KiB",
        ],
    );
    let out = run.good();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "cycle: 2 connections, depth 1, 1024-byte bodies, {}",
            server.url()
        )
    );
    assert!(
        lines[2].starts_with("round 1 ") && lines[2].contains(" cycles/s   (200 in "),
        "{out}"
    );
    assert!(
        lines[4].starts_with("latency ") && lines[4].ends_with(" max"),
        "{out}"
    );
    for (line, verb) in lines[5..].iter().zip(["put", "reserve", "delete"]) {
        assert!(line.starts_with(verb) && line.contains(" 200 "), "{out}");
    }
    assert_eq!(lines.len(), 8);
}

/// What a server without Rota's own commands can't do is said before anything is sent that it would misread.
mod without_extensions {
    use super::*;

    #[test]
    fn keys_and_milliseconds_are_refused_plainly() {
        let server = Server::beanstalkd();
        let cases: [(&[&str], &str, &str); 5] = [
            (
                &["put", "q", "quit", "--key", "k"],
                "put-in",
                "only Rota has keys: leave --key away",
            ),
            (
                &["put", "q", "quit", "--delay", "250ms"],
                "put-in",
                "give --delay in whole seconds",
            ),
            (
                &["put", "q", "quit", "--ttr", "1500ms"],
                "put-in",
                "give --ttr in whole seconds",
            ),
            (
                &["put", "q", "quit", "--at", "2100-01-01", "--key", "k"],
                "put-in",
                "only Rota has keys: leave --key away",
            ),
            (
                &["cancel", "--queue", "q", "--key", "k"],
                "cancel-key",
                "only Rota has keys: cancel the job by its id, which put printed",
            ),
        ];
        for (arguments, command, hint) in cases {
            let url = server.url();
            rota(&server, arguments).expect(
                1,
                "",
                &format!("error: {url} has no command {command}: it is not a Rota server\n  hint: {hint}\n"),
            );
        }
        assert_eq!(
            rota(&server, &["stats", "--json"]).object()["total_jobs"],
            0
        );
        assert_eq!(server.stderr(), "");
    }

    #[test]
    fn a_job_that_a_worker_holds_stays() {
        let server = Server::beanstalkd();
        let id = put(&server, &["q", "x"]);
        let _holder = speak(&server, &[("watch q", "WATCHING"), ("reserve", "RESERVED")]);
        rota(&server, &["cancel", &id]).expect(
            3,
            "",
            &format!(
                "error: there is no open job {id}\n  hint: this server can't cancel a job that a worker holds\n"
            ),
        );
    }

    #[test]
    fn the_benchmark_needs_whole_seconds() {
        let server = Server::beanstalkd();
        let url = server.url();
        rota(
            &server,
            &["bench", "--mix", "delayed", "--delay-range", "1ms..1s"],
        )
        .expect(
            2,
            "",
            &format!(
                "error: {url} has no put-in for delays in milliseconds: it is not a Rota server\n  \
                 hint: give --delay-range in whole seconds: 1s..5s\n"
            ),
        );
    }
}

/// What only Rota has.
mod with_extensions {
    use super::*;

    #[test]
    fn a_key_is_unique_until_its_job_is_done() {
        let server = Server::rota(&[]);
        let id = put(
            &server,
            &["q", "first", "--key", "order:7", "--delay", "1h"],
        );
        rota(&server, &["put", "q", "second", "--key", "order:7"]).expect(
            1,
            "",
            &format!(
                "error: the key order:7 is taken in queue q: job {id} has it\n  \
                 hint: cancel it with `rota cancel {id}`, or use another key\n"
            ),
        );
        let run = rota(
            &server,
            &["put", "q", "second", "--key", "order:7", "--json"],
        );
        let error: Value = serde_json::from_str(&run.err).unwrap();
        assert_eq!((run.code, error["id"].to_string()), (1, id.clone()));
        put(&server, &["other", "x", "--key", "order:7"]);

        rota(&server, &["cancel", "--queue", "q", "--key", "order:7"]).expect(
            0,
            &format!("cancelled {id}\n"),
            "",
        );
        rota(&server, &["cancel", "--queue", "q", "--key", "order:7"]).expect(
            3,
            "",
            "error: no open job of queue q has the key order:7\n",
        );
        let id: u64 = put(&server, &["q", "third", "--key", "order:7"])
            .parse()
            .unwrap();
        let object = rota(
            &server,
            &["cancel", "--queue", "q", "--key", "order:7", "--json"],
        )
        .object();
        assert_eq!(
            object,
            json!({ "id": id, "queue": "q", "key": "order:7", "outcome": "cancelled" })
        );
    }

    #[test]
    fn milliseconds_are_kept() {
        let server = Server::rota(&[]);
        put(&server, &["q", "x", "--delay", "1ms", "--ttr", "1500ms"]);
        rota(&server, &["next", "q", "--wait", "20s"]).expect(0, "x", "");
        let flags = [
            "bench",
            "--mix",
            "delayed",
            "--delay-range",
            "1ms..99ms",
            "--jobs",
            "300",
            "--json",
        ];
        let report = rota(&server, &flags).object();
        let round = &report["rounds"][0];
        assert_eq!(
            (&round["operations"], &round["early"]),
            (&json!(300), &json!(0))
        );
    }

    #[test]
    fn a_job_is_cancelled_while_a_command_has_it() {
        let server = Server::rota(&[]);
        let id = put(&server, &["q", "x"]);
        let script = format!("{ROTA} cancel $ROTA_JOB_ID");
        rota(&server, &["next", "q", "--exec", "sh", "-c", &script]).expect(
            1,
            &format!("cancelled {id}\n"),
            &format!(
                "error: the lease of job {id} in queue q was lost before the job was completed\n  \
                 hint: it was cancelled, or its TTR ended and it may run again: put such jobs with a longer --ttr\n"
            ),
        );
    }

    #[test]
    fn jobs_outlive_the_process() {
        let server = Server::rota(&[]);
        let id = put(&server, &["q", "still here"]);
        let server = server.restart_rota(&[]);
        rota(&server, &["next", "q", "--json"]).expect(
            0,
            &format!("{{\"id\":{id},\"queue\":\"q\",\"body\":\"still here\"}}\n"),
            "",
        );
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let mut server = Server::rota(&["--http", "127.0.0.1:0"]);
        let mut stream = TcpStream::connect(server.http().expect("HTTP is on")).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(server.terminate().code(), Some(0), "{}", server.stderr());
    }
}

/// What needs no server.
mod without_a_server {
    use super::*;

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
        let cases: [(&[&str], &str); 31] = [
            (&[], "Usage: rota"),
            (&["fly"], "unrecognized subcommand 'fly'"),
            (&["put"], "<QUEUE>"),
            (&["put", "a b", "x"], "' ' can't be in it"),
            (&["put", "a\r\nquit", "x"], "'\\r' can't be in it"),
            (&["put", "", "x"], "it is empty"),
            (
                &["put", "q", "x", "--delay", "5"],
                "5 has no unit: write 5s or 5ms",
            ),
            (
                &["put", "q", "x", "--delay", "1s", "--at", "2100-01-01"],
                "cannot be used with",
            ),
            (
                &["put", "q", "x", "--at", "tomorrow"],
                "\"tomorrow\" is not a time",
            ),
            (&["put", "q", "x", "--priority", "4294967296"], "4294967296"),
            (&["put", "q", "x", "--priority=-1"], "-1"),
            (
                &["put", "q", "x", "--ttr", "0s"],
                "a worker needs some time: at least 1ms",
            ),
            (&["put", "q", "x", "--key", "a b"], "' ' can't be in it"),
            (&["next"], "<QUEUE>"),
            (
                &["next", "q", "--wait", "long"],
                "\"long\" is not a duration",
            ),
            (&["next", "q", "--exec"], "--exec"),
            (&["cancel"], "<ID>"),
            (&["cancel", "x"], "invalid value 'x'"),
            (&["cancel", "--key", "k"], "--queue"),
            (&["cancel", "--queue", "q"], "--key"),
            (
                &["cancel", "1", "--queue", "q", "--key", "k"],
                "cannot be used with",
            ),
            (&["show", "-1"], "-1"),
            (&["list", "-x"], "-x"),
            (&["kick"], "<QUEUE>"),
            (&["kick", "q", "--job", "1"], "cannot be used with"),
            (&["kick", "q", "--count", "0"], "--count"),
            (
                &["bench", "--mix", "fast"],
                "possible values: put, cycle, delayed, cancel",
            ),
            (&["bench", "--connections", "0"], "--connections"),
            (
                &["bench", "--delay-range", "5s..1s"],
                "5s is longer than 1s",
            ),
            (
                &["bench", "--mix", "delayed", "--size", "19"],
                "hint: give --size 20 or more",
            ),
            (
                &["completions", "dos"],
                "possible values: bash, elvish, fish, powershell, zsh",
            ),
        ];
        for (arguments, expected) in cases {
            let output = command(arguments)
                .env("ROTA_SERVER", &server)
                .output()
                .unwrap();
            let run = Run::from(output);
            assert_eq!(
                (run.code, run.out.as_str()),
                (2, ""),
                "{arguments:?}: {}",
                run.err
            );
            assert!(run.err.contains(expected), "{arguments:?}: {}", run.err);
        }
        let run = alone(&["list", "--server", "redis://localhost"]);
        assert_eq!(run.code, 2);
        assert!(
            run.err
                .contains("\"redis\" is not a protocol that rota speaks"),
            "{}",
            run.err
        );
    }

    #[test]
    fn wrong_configuration_is_exit_code_2_and_names_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rota.toml");
        std::fs::write(&file, "sync = \"50ms\"\nspok = \"1s\"\n").unwrap();
        let file = file.to_str().unwrap();
        let unknown_key =
            format!("error: {file}:2: there is no option \"spok\"\n  hint: did you mean spoke?\n");
        alone(&["serve", "--config", file]).expect(2, "", &unknown_key);
        let output = command(&["serve"])
            .env("ROTA_CONFIG", file)
            .output()
            .unwrap();
        Run::from(output).expect(2, "", &unknown_key);
        let run = alone(&["serve", "--json", "--config", file]);
        let error: Value = serde_json::from_str(&run.err).unwrap();
        assert_eq!(
            (&error["hint"], &error["exit_code"]),
            (&json!("did you mean spoke?"), &json!(2))
        );

        alone(&["serve", "--config", "/nowhere.toml"]).expect(
            2,
            "",
            "error: cannot read the configuration file /nowhere.toml\n  \
             cause: No such file or directory (os error 2)\n  hint: --config and ROTA_CONFIG name a TOML file\n",
        );
        let public = "192.0.2.1:11300 can be reached from other machines, and Rota has no authentication yet\n  \
                      hint: listen on 127.0.0.1:11300, or add --insecure if only machines you trust can reach this one\n";
        for flag in ["--beanstalkd", "--addr"] {
            let expected = format!("error: --beanstalkd: {public}");
            alone(&["serve", flag, "192.0.2.1:11300"]).expect(2, "", &expected);
        }
        let output = command(&["serve"])
            .env("ROTA_HTTP", "192.0.2.1:11300")
            .output()
            .unwrap();
        Run::from(output).expect(2, "", &format!("error: ROTA_HTTP: {public}"));
        alone(&["serve", "--insecure=perhaps"]).expect(
            2,
            "",
            "error: --insecure: \"perhaps\" is neither true nor false\n",
        );
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
        assert!(
            run.err.contains("a similar argument exists: '--sync'"),
            "{}",
            run.err
        );
    }

    #[test]
    fn help_says_what_scripts_need() {
        let help = alone(&["--help"]).good();
        assert!(
            help.ends_with("  3  nothing there: no job came, no such job or queue\n"),
            "{help}"
        );
        let verbs = [
            "serve",
            "put",
            "next",
            "cancel",
            "show",
            "list",
            "kick",
            "stats",
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
            "SPOKE",
            "MAX_JOB_SIZE",
            "STATSD",
        ];
        for name in names.into_iter().chain(["INSECURE", "CONFIG"]) {
            assert!(serve.contains(&format!("ROTA_{name}]")), "{name}: {serve}");
        }
        assert_eq!(
            alone(&["--version"]).good(),
            format!("rota {}\n", env!("CARGO_PKG_VERSION"))
        );
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
}
