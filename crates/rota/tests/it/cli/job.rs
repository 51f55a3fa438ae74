//! Jobs from put to their end: `put`, `next`, `show`, `cancel`.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{Run, command, listed, put, rota, rota_reading, until};
use crate::server::Server;

scenarios! {
    a_job_goes_through,
    any_bytes_go_through_standard_input,
    next_waits_for_a_job,
    the_most_urgent_comes_first,
    delayed_jobs_wait,
    jobs_are_cancelled,
    a_job_is_shown,
    a_job_that_is_too_big_is_refused,
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
    assert_eq!(object, json!({ "id": object["id"].as_u64().unwrap(), "queue": "default" }));
    rota(server, &["next", "default"]).expect(0, "x", "");
}

fn any_bytes_go_through_standard_input(server: &Server) {
    let body: Vec<u8> = (0..=255).cycle().take(5_000).chain(*b"\r\ndelete 1\r\n").collect();
    assert!(rota_reading(server, &["put", "bytes"], &body).status.success());
    let output = rota_reading(server, &["next", "bytes"], b"");
    assert_eq!((output.status.code(), output.stdout), (Some(0), body));

    assert!(rota_reading(server, &["put", "bytes"], b"\xff\0").status.success());
    let object = rota(server, &["next", "bytes", "--json"]).object();
    assert_eq!(object["body_base64"], "/wA=");
}

fn next_waits_for_a_job(server: &Server) {
    let mut waiting = command(&["next", "later", "--wait", "60s"]);
    let waiting = waiting.env("ROTA_SERVER", server.url()).stdout(Stdio::piped()).spawn().unwrap();
    until("next waits", || listed(server, "later", "waiting") == 1);
    put(server, &["later", "now"]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"now".as_slice()));
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
    let id = put(server, &["q", "x", "--delay", "1h30m", "--ttr", "2m", "--priority", "7"]);
    assert_eq!(listed(server, "q", "delayed"), 1);
    rota(server, &["next", "q"]).expect(3, "", "error: no job is ready in queue q\n");
    let shown = rota(server, &["show", &id, "--json"]).object();
    let fields = ["state", "delay_s", "ttr_s", "priority"].map(|field| &shown[field]);
    assert_eq!(fields, [&json!("delayed"), &json!(5_400), &json!(120), &json!(7)]);
    rota(server, &["kick", "--job", &id]).expect(0, &format!("kicked {id}\n"), "");
    rota(server, &["next", "q"]).expect(0, "x", "");

    // A moment works on any server: those that know only delays get one in seconds, rounded up.
    let id = put(server, &["q", "x", "--at", "2100-01-01T00:00:00.5Z"]);
    let shown = rota(server, &["show", &id, "--json"]).object();
    assert_eq!(shown["state"], "delayed");
    let left = shown["time_left_s"].as_u64().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let due = now + left;
    assert!((4_102_444_790..=4_102_444_801).contains(&due), "{due}");
    put(server, &["past", "x", "--at", "2001-01-01 08:00"]);
    rota(server, &["next", "past"]).expect(0, "x", "");
}

fn jobs_are_cancelled(server: &Server) {
    let ready = put(server, &["q", "x"]);
    let delayed = put(server, &["q", "x", "--delay", "1d"]);
    rota(server, &["cancel", &ready, &delayed]).expect(0, &format!("cancelled {ready}\ncancelled {delayed}\n"), "");
    assert_eq!(listed(server, "q", "ready") + listed(server, "q", "delayed"), 0);

    let id = put(server, &["q", "x"]);
    let run = rota(server, &["cancel", &ready, &id, "--json"]);
    assert_eq!(run.code, 3);
    let expected = format!("{{\"id\":{ready},\"outcome\":\"not_found\"}}\n{{\"id\":{id},\"outcome\":\"cancelled\"}}\n");
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
    let expected = [("queue", "q"), ("state", "ready"), ("priority", "5"), ("body_bytes", "13")];
    for (name, value) in expected {
        let line = fields.lines().find(|line| line.split_whitespace().next() == Some(name));
        assert_eq!(line.and_then(|line| line.split_whitespace().nth(1)), Some(value), "{out}");
    }
    let object = rota(server, &["show", &id, "--json"]).object();
    assert_eq!(object["id"].to_string(), id);
    assert_eq!((&object["queue"], &object["body"]), (&json!("q"), &json!("line 1\nline 2")));
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
