//! Addresses, spans, documents of problems, and what a request says.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::values::{read_span, span_text};
use super::*;

#[test]
fn where_a_server_speaks_http() {
    let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
    for text in ["127.0.0.1:11380", "http://127.0.0.1:11380", "http://127.0.0.1:11380/"] {
        assert_eq!(read(text).as_deref(), Ok("http://127.0.0.1:11380"));
    }
    assert_eq!(read("https://jobs.example").as_deref(), Ok("https://jobs.example"));
    assert_eq!(read("http://[::1]:80").as_deref(), Ok("http://[::1]:80"));
    for bad in ["", "off", "ftp://x", "http://a@b", "http://a/b", "http://a b", "http://", ":80"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_token_is_shown_in_an_error() {
    let error = Client::connect("http://secret@host").unwrap_err();
    assert_eq!(error.to_string(), "\"host\" is no address of a server");
    assert!(matches!(Client::builder().token("a b").connect("host:1"), Err(Error::NoToken)));
    let error = Client::builder().ca("x").connect("http://host:1").unwrap_err();
    assert!(matches!(error, Error::Tls { what: "the address", .. }), "{error:?}");
}

#[test]
fn spans_are_read_as_they_are_written() {
    for (nanos, text) in [(0, "0s"), (1, "0.000000001s"), (250_000_000, "0.25s"), (90_000_000_000, "90s")] {
        let span = Duration::from_nanos(nanos);
        assert_eq!((span_text(span).as_str(), read_span(text)), (text, Some(span)));
    }
    for bad in ["", "s", "1", "-1s", "1.s.", "1.+1s", "1.0000000001s"] {
        assert_eq!(read_span(bad), None, "{bad}");
    }
}

#[test]
fn values_are_escaped() {
    assert_eq!(escape("a+b/c;(1)"), "a%2Bb%2Fc%3B%281%29");
}

#[test]
fn a_put_says_what_was_said_and_no_more() {
    let plain = serde_json::to_value(NewJob::text("mail", "x")).unwrap();
    assert_eq!(plain, json!({ "queue": "mail", "text": "x" }));
    let job = NewJob::bytes("mail", b"\xff".to_vec())
        .delay(Duration::from_millis(1500))
        .after([Parent::from(7), Parent::key("mail", "b")])
        .on_parent_failure(OnParentFailure::Hold)
        .back_off(BackOff::fixed(Duration::from_secs(5)))
        .header("a", "b");
    let expected = json!({
        "queue": "mail", "base64": "/w==", "delay": "1.5s", "after": ["7", "mail:b"], "on_parent_failure": "hold",
        "back_off": { "first": "5s", "factor": 1.0, "most": "5s", "jitter_percent": 0 }, "headers": { "a": "b" },
    });
    assert_eq!(serde_json::to_value(job).unwrap(), expected);
    let schedule = NewSchedule::every(Duration::from_secs(60), NewJob::text("a", "")).on_overlap(OnOverlap::Skip);
    let expected = json!({ "every": "60s", "on_overlap": "skip", "job": { "queue": "a", "text": "" } });
    assert_eq!(serde_json::to_value(schedule).unwrap(), expected);
}

#[test]
fn a_problem_of_a_later_server_is_one_all_the_same() {
    let document = json!({ "type": "/problems/key-taken", "title": "t", "status": 409, "detail": "d", "job": "7" });
    let problem = Problem::read(document.to_string().as_bytes()).unwrap();
    assert_eq!((problem.kind, problem.job, problem.to_string().as_str()), (ProblemKind::KeyTaken, Some(7), "d"));
    let document = json!({ "type": "/problems/new-one", "status": 400 });
    assert_eq!(Problem::read(document.to_string().as_bytes()).unwrap().kind, ProblemKind::Other);
    assert_eq!(Problem::read(b"<html>"), None);
}

#[test]
fn listening_goes_on_from_where_the_server_said_that_it_was() {
    let event = "id: 9\nevent: job.put\ndata: {\"seq\":\"9\",\"kind\":\"job.put\"}\n\n";
    // What each connection brings before it ends, and from where on the next one is asked for.
    let parts = [
        (String::from(": listening\nid: 7\n\n"), "7"),
        // What is cut off in between was not told.
        (String::from("id: 9\nevent: job.put\n"), "7"),
        (format!("{event}:\nid: 12\n\n"), "12"),
        (String::from("event: lagged\ndata: {\"kind\":\"lagged\",\"seq\":\"15\"}\n\n"), "15"),
        (String::from("id: 20\nevent: end\ndata: {\"kind\":\"end\",\"seq\":\"20\"}\n\n"), ""),
    ];
    let expected: Vec<String> =
        parts.iter().map(|(_, after)| format!("GET /v1/events?after={after} HTTP/1.1")).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let answer = |(text, _)| {
            let (mut stream, _) = listener.accept().unwrap();
            let head: Vec<String> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|l| !l.is_empty()).collect();
            let kind = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            write!(stream, "{kind}{text}").unwrap();
            head[0].clone()
        };
        parts.into_iter().map(answer).collect::<Vec<_>>()
    });
    let listen = Listen { try_again_for: Duration::from_secs(60), ..Listen::default() };
    let mut events = Client::connect(&address).unwrap().events(listen).unwrap();
    let told: Vec<u64> = events.by_ref().map(|event| event.unwrap().seq).collect();
    assert_eq!(told, [9]);
    let asked = server.join().unwrap();
    assert_eq!((asked[0].as_str(), &asked[1..]), ("GET /v1/events HTTP/1.1", &expected[..expected.len() - 1]));
}
