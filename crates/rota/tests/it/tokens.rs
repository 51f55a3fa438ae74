//! Tokens over the beanstalkd protocol: every command of it, by everybody there can be; and what the tests of tokens share.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use rota_net::beanstalkd::COMMANDS;
use tempfile::TempDir;

use crate::process::{self, Rota, on, until, with_time};
use crate::wire::{Wire, put_bytes};

pub(crate) const ROLES: [&str; 5] = ["admin", "operator", "producer", "consumer", "viewer"];

/// Runs `rota token` on a data directory.
pub(crate) fn command(data: &Path, arguments: &[&str]) -> Output {
    let mut command = process::rota();
    command.arg("token").args(arguments).arg("--data").arg(data).output().unwrap()
}

#[track_caller]
pub(crate) fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a token.
#[track_caller]
pub(crate) fn create(data: &Path, arguments: &[&str]) -> String {
    let token = good(command(data, &[&["create"], arguments].concat()));
    let token = token.strip_suffix('\n').unwrap();
    assert!(token.starts_with("rota_") && !token.contains(char::is_whitespace), "{token}");
    token.to_owned()
}

pub(crate) fn id(token: &str) -> &str {
    &token[5..13]
}

/// Who may carry out a command, beside admins; none if everybody may, also without a token. It knows every command, or the
/// test fails.
fn allowed(command: &str) -> Option<&'static [&'static str]> {
    Some(match command {
        "auth" | "quit" => return None,
        "use" | "list-tube-used" | "list-tubes-watched" => &["operator", "producer", "consumer", "viewer"],
        "put" | "put-in" | "put-at" | "put-after" | "put-batch" => &["producer"],
        "cancel-key" => &["producer", "operator"],
        "watch"
        | "ignore"
        | "reserve"
        | "reserve-with-timeout"
        | "reserve-job"
        | "reserve-batch"
        | "release"
        | "bury"
        | "touch" => &["consumer"],
        "delete" | "delete-batch" => &["consumer", "operator"],
        "cancel" | "kick" | "kick-job" | "pause-tube" => &["operator"],
        "peek" | "peek-ready" | "peek-delayed" | "peek-buried" | "stats" | "stats-tube" | "list-tubes" => {
            &["viewer", "operator"]
        }
        "stats-job" => &["viewer", "operator", "consumer"],
        _ => panic!("{command} is a command that this test does not know: say here who may carry it out"),
    })
}

/// What is sent for a command about that job and its tube, and how its answer begins where it was done.
fn request(command: &str, tube: &str, job: u64) -> (Vec<u8>, &'static str) {
    let line = |text: String, answer: &'static str| (format!("{text}\r\n").into_bytes(), answer);
    match command {
        "put" => (put_bytes("put 0 0 60", b"y"), "INSERTED "),
        "put-after" => (put_bytes("put-after 1 0 0 60000", b"y"), "INSERTED "),
        "put-in" | "put-at" => (put_bytes(&format!("{command} 0 0 60000"), b"y"), "INSERTED "),
        "put-batch" => (b"put-batch 1 17\r\nput 0 0 60 1\r\ny\r\n".to_vec(), "BATCH_INSERTED 1"),
        "use" => line(format!("use {tube}"), "USING "),
        "watch" => line(format!("watch {tube}"), "WATCHING "),
        "ignore" => line(format!("ignore {tube}"), "WATCHING "),
        "reserve" => line("reserve".into(), "RESERVED "),
        "reserve-with-timeout" => line("reserve-with-timeout 0".into(), "RESERVED "),
        "reserve-batch" => line("reserve-batch 1 0".into(), "BATCH_RESERVED "),
        "delete" => line(format!("delete {job}"), "DELETED"),
        "delete-batch" => line(format!("delete-batch {job}"), "BATCH_DELETED 1"),
        "release" => line(format!("release {job} 0 0"), "RELEASED"),
        "bury" => line(format!("bury {job} 0"), "BURIED"),
        "kick" => line("kick 1".into(), "KICKED "),
        "pause-tube" => line(format!("pause-tube {tube} 60"), "PAUSED"),
        "stats" | "list-tubes" | "list-tubes-watched" => line(command.into(), "OK "),
        "stats-tube" => line(format!("stats-tube {tube}"), "OK "),
        "stats-job" => line(format!("stats-job {job}"), "OK "),
        "list-tube-used" => line(command.into(), "USING "),
        "cancel-key" => line(format!("cancel-key {tube} k"), "CANCELLED "),
        "peek-ready" | "peek-delayed" | "peek-buried" => line(command.into(), "FOUND "),
        "reserve-job" => line(format!("reserve-job {job}"), "RESERVED "),
        "peek" => line(format!("peek {job}"), "FOUND "),
        "touch" => line(format!("touch {job}"), "TOUCHED"),
        "cancel" => line(format!("cancel {job}"), "CANCELLED"),
        "kick-job" => line(format!("kick-job {job}"), "KICKED"),
        other => panic!("{other} is a command that this test does not know"),
    }
}

/// A server that asks, and somebody who may everything.
struct Stage {
    rota: Rota,
    admin: String,
    tubes: u32,
}

impl Stage {
    /// A connection that has shown that token.
    #[track_caller]
    fn shown(&self, token: &str) -> Wire {
        let mut wire = Wire::to(self.rota.address());
        wire.expect(&format!("auth {token}"), "AUTHENTICATED");
        wire
    }

    /// A new tube with a job in the state that a command works on.
    fn set(&mut self, command: &str) -> (String, u64, Wire) {
        self.tubes += 1;
        let tube = format!("work-{}", self.tubes);
        let mut admin = self.shown(&self.admin);
        admin.expect(&format!("use {tube}"), &format!("USING {tube}"));
        let delay = if matches!(command, "peek-delayed" | "kick" | "kick-job") { 3_600_000 } else { 0 };
        let job = admin.put(&format!("put-in 0 {delay} 60000 # k"), b"x");
        if command == "peek-buried" {
            admin.ask(&format!("reserve-job {job}"));
            admin.expect(&format!("bury {job} 0"), "BURIED");
        }
        (tube, job, admin)
    }
}

#[test]
fn every_command_is_for_whom_it_is_meant_and_for_nobody_else() {
    let data = TempDir::new().unwrap();
    let made = data.path();
    let tokens = ROLES.map(|role| create(made, &["--role", role]));
    let expired = create(made, &["--role", "admin", "--expires", "1ms"]);
    let revoked = create(made, &["--role", "admin"]);
    good(self::command(made, &["revoke", id(&revoked)]));
    let limited = ROLES.map(|role| create(made, &["--role", role, "--queues", "other*"]));
    let reaching = ROLES.map(|role| create(made, &["--role", role, "--queues", "work-*"]));
    until("it has expired", || good(self::command(made, &["list"])).contains("expired").then_some(()));
    let mut unknown = tokens[0].clone();
    unknown.replace_range(14..18, if &unknown[14..18] == "AAAA" { "BBBB" } else { "AAAA" });
    let rota = Rota::ready(on(made, &["--auth"]));
    let mut stage = Stage { rota, admin: tokens[0].clone(), tubes: 0 };

    for command in COMMANDS {
        let Some(allowed) = allowed(command) else {
            let mut nobody = Wire::to(stage.rota.address());
            match command {
                "auth" => nobody.expect(&format!("auth {}", tokens[4]), "AUTHENTICATED"),
                _ => {
                    nobody.send(format!("{command}\r\n")).unwrap();
                    assert!(nobody.rest().is_empty());
                }
            }
            continue;
        };
        // Nothing, and what is no token any more.
        for shown in [None, Some("marker"), Some(&unknown), Some(&expired), Some(&revoked)] {
            let (tube, job, mut admin) = stage.set(command);
            let mut wire = Wire::to(stage.rota.address());
            if let Some(token) = shown {
                wire.expect(&format!("auth {token}"), "BAD_TOKEN");
            }
            wire.send(request(command, &tube, job).0).unwrap();
            assert_eq!(wire.answer().unwrap().line, "UNAUTHENTICATED", "{command} {shown:?}");
            let before = admin.ask(&format!("stats-tube {tube}"));
            assert!(before.count("total-jobs") == 1 && before.count("pause") == 0, "{command} {shown:?}: {before:?}");
            assert_eq!(before.count("current-jobs-reserved"), 0, "{command}");
            assert_eq!(before.count("cmd-delete"), 0, "{command}");
        }
        for (at, role) in ROLES.iter().enumerate() {
            let may = *role == "admin" || allowed.contains(role);
            for token in [&tokens[at], &reaching[at], &limited[at]] {
                let (tube, job, mut admin) = stage.set(command);
                let mut wire = stage.shown(token);
                let is_limited = *token == limited[at];
                let named = if is_limited { format!("other-{tube}") } else { tube.clone() };
                let works = matches!(*role, "admin" | "consumer");
                // As far as its role lets it: it uses and watches the tube, and holds the job.
                assert_eq!(wire.ask(&format!("use {named}")).line, format!("USING {named}"));
                if works {
                    assert!(wire.ask(&format!("watch {named}")).line.starts_with("WATCHING "));
                    if command != "watch" {
                        wire.ask("ignore default");
                    }
                }
                if works && !is_limited && matches!(command, "release" | "bury" | "touch") {
                    assert_eq!(wire.ask(&format!("reserve-job {job}")).line, format!("RESERVED {job} 1"));
                }
                if works && command == "ignore" {
                    wire.expect(
                        "watch other-tube-2",
                        if is_limited || *token == tokens[at] { "WATCHING 2" } else { "NOT_ALLOWED" },
                    );
                }
                let (bytes, done) = request(command, &tube, job);
                // Who is limited to tubes without jobs would wait.
                if is_limited && command == "reserve" {
                    continue;
                }
                wire.send(bytes).unwrap();
                let answer = wire.answer().unwrap().line;
                if !may {
                    assert_eq!(answer, "NOT_ALLOWED", "{command} {role}");
                } else if is_limited {
                    let expected: &[&str] = match command {
                        // About its own tube.
                        "put" | "put-in" | "put-at" | "put-after" => &["INSERTED "],
                        "put-batch" => &["BATCH_INSERTED 1"],
                        "list-tube-used" => &["USING other-work-"],
                        "list-tubes" | "list-tubes-watched" => &["OK "],
                        "peek-ready" | "peek-delayed" | "peek-buried" => &["NOT_FOUND"],
                        "kick" => &["KICKED 0"],
                        "reserve-with-timeout" | "reserve-batch" => &["TIMED_OUT"],
                        "ignore" => &["WATCHING 2"],
                        // About another one.
                        "use" | "watch" | "cancel-key" | "pause-tube" | "stats-tube" | "stats" => &["NOT_ALLOWED"],
                        "delete-batch" => &["BATCH_DELETED 0 NOT_FOUND"],
                        _ => &["NOT_FOUND"],
                    };
                    assert!(expected.iter().any(|begins| answer.starts_with(begins)), "{command} {role}: {answer}");
                    let after = admin.ask(&format!("stats-tube {tube}"));
                    assert!(after.count("total-jobs") == 1 && after.count("pause") == 0, "{command}: {after:?}");
                    assert_eq!(
                        admin.ask(&format!("stats-job {job}")).field("reserves"),
                        if command == "peek-buried" { "1" } else { "0" }
                    );
                } else if command == "ignore" {
                    assert!(answer.starts_with("WATCHING ") || answer == "NOT_IGNORED", "{role}: {answer}");
                } else if command == "stats" && *token == reaching[at] {
                    assert_eq!(answer, "NOT_ALLOWED");
                } else {
                    assert!(answer.starts_with(done), "{command} {role}: {answer}");
                }
            }
        }
    }
    // None of the secrets was said.
    let said =
        format!("{}{}{}", stage.rota.stdout(), stage.rota.stderr(), fs::read_to_string(made.join("tokens")).unwrap());
    for secret in tokens.iter().chain([&expired, &revoked, &unknown]) {
        assert!(!said.contains(&secret[14..]), "{secret} was said");
    }
}

#[test]
fn who_shows_wrong_tokens_or_none_is_closed() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--auth"]));
    assert!(rota.stdout().contains("the beanstalkd protocol asks for a token, of 0 in "), "{}", rota.stdout());
    let mut silent = Wire::to(rota.address());
    let mut wrong = Wire::to(rota.address());
    wrong.send("auth a\r\nauth b\r\nauth c\r\nstats\r\n").unwrap();
    assert_eq!(wrong.rest(), b"BAD_TOKEN\r\nBAD_TOKEN\r\nBAD_TOKEN\r\n");
    // A body that nobody may put is read and dropped.
    let mut put = Wire::to(rota.address());
    put.send([put_bytes("put 0 0 60", &[b'x'; 60_000]), b"auth x\r\n".to_vec()].concat()).unwrap();
    assert_eq!([put.line().unwrap(), put.line().unwrap()], ["UNAUTHENTICATED", "BAD_TOKEN"]);
    silent.expect("list-tube-used", "UNAUTHENTICATED");
    assert!(silent.rest().is_empty());
    // One that was made meanwhile is known.
    let token = create(data.path(), &["--role", "admin"]);
    until("it is known", || {
        (Wire::to(rota.address()).ask(&format!("auth {token}")).line == "AUTHENTICATED").then_some(())
    });
}

/// What comes of something that has to be done before that span is over, which begins with it: see [`with_time`].
pub(crate) fn in_time<T>(part: impl Fn(&str) -> T) -> T {
    with_time(Duration::from_secs(4), |span| {
        let begun = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| part(&format!("{}s", span.as_secs()))));
        (begun.elapsed() < span).then(|| done.unwrap_or_else(|failed| resume_unwind(failed)))
    })
}

#[test]
fn a_token_that_ends_ends_its_connections() {
    let data = TempDir::new().unwrap();
    let [revoked, kept] = [0, 1].map(|_| create(data.path(), &["--role", "admin"]));
    let rota = Rota::ready(on(data.path(), &["--auth"]));
    let open = |token: &str| {
        let mut wire = Wire::to(rota.address());
        wire.expect(&format!("auth {token}"), "AUTHENTICATED");
        wire
    };
    let mut expiring = in_time(|span| {
        let short = create(data.path(), &["--role", "consumer", "--expires", span]);
        let mut wire = until("it is known", || {
            let mut wire = Wire::to(rota.address());
            let said = wire.ask(&format!("auth {short}")).line;
            let is_over = good(command(data.path(), &["list"])).contains("expired");
            assert!(said == "AUTHENTICATED" || !is_over, "{said}");
            (said == "AUTHENTICATED").then_some(wire)
        });
        wire.expect("watch other", "WATCHING 2");
        wire.expect("ignore default", "WATCHING 1");
        wire.send("reserve\r\n").unwrap();
        wire
    });
    let (mut holder, mut waiting) = (open(&revoked), open(&revoked));
    let mut other = open(&kept);
    let job = other.put("put 0 0 600", b"x");
    assert_eq!(holder.ask("reserve").line, format!("RESERVED {job} 1"));
    waiting.send("reserve\r\n").unwrap();
    good(command(data.path(), &["revoke", id(&revoked)]));
    assert!(holder.rest().is_empty() && waiting.rest().is_empty());
    assert_eq!(expiring.rest(), b"");
    // What it held is ready again, and others go on.
    assert_eq!(other.ask("reserve").line, format!("RESERVED {job} 1"));
    Wire::to(rota.address()).expect(&format!("auth {revoked}"), "BAD_TOKEN");
}

#[test]
fn on_loopback_nobody_is_asked_unless_told() {
    let data = TempDir::new().unwrap();
    let token = create(data.path(), &["--role", "viewer"]);
    let rota = Rota::ready(on(data.path(), &["--http", "127.0.0.1:0"]));
    assert!(rota.stdout().contains("HTTP asks for a token, of 1 in "), "{}", rota.stdout());
    let mut wire = Wire::to(rota.address());
    wire.put("put 0 0 60", b"x");
    // Who shows one all the same need not know that.
    wire.expect(&format!("auth {token}"), "AUTHENTICATED");
    wire.put("put 0 0 60", b"x");
}

#[test]
fn the_command_line_shows_its_token() {
    let data = TempDir::new().unwrap();
    let producer = create(data.path(), &["--role", "producer"]);
    let consumer = create(data.path(), &["--role", "consumer"]);
    let rota = Rota::ready(on(data.path(), &["--auth"]));
    let server = format!("beanstalkd://{}", rota.address());
    let file = data.path().join("consumer");
    fs::write(&file, format!("{consumer}\n")).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let run = |arguments: &[&str], token: &str| {
        let mut command = process::rota();
        let output = command.env("ROTA_SERVER", &server).env("ROTA_TOKEN", token).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    assert_eq!(run(&["put", "mail", "hello", "--key", "k"], &producer), (Some(0), "1\n".into()));
    let file = file.to_str().unwrap();
    assert_eq!(run(&["next", "mail", "--token-file", file], ""), (Some(0), "hello".into()));
    let admin = create(data.path(), &["--role", "admin"]);
    until("it is known", || (run(&["list"], &admin).0 == Some(0)).then_some(()));
    let (code, text) = run(&["bench", "--mix", "cycle", "--jobs", "100", "--connections", "2"], &admin);
    assert_eq!(code, Some(0), "{text}");
    for (arguments, token, hint) in [
        (&["put", "mail", "x"][..], "", "--token-file"),
        (&["put", "mail", "x"], "rota_wrong", "rota token list"),
        (&["put", "mail", "x"], "two words", "ROTA_TOKEN"),
        (&["put", "mail", "x"], &consumer, "rota token create"),
        (&["next", "mail"], &producer, "rota token create"),
    ] {
        let (code, text) = run(arguments, token);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(hint) && (token.is_empty() || !text.contains(token)), "{arguments:?}: {text}");
    }
}
