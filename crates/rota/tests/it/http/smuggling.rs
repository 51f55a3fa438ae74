//! Requests that one reader takes for one, and another for two: what each is answered, and that nothing behind it runs.

use std::io::{Read, Write};

use super::client::Http;
use super::server;

/// A put into that queue, as it is on the wire.
fn put(queue: &str) -> String {
    let body = format!("{{\"queue\": \"{queue}\", \"text\": \"x\"}}");
    let length = body.len();
    format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// Sends it in one piece; all that comes until the server closes.
fn send(http: &Http, bytes: &str) -> String {
    let mut stream = http.connect();
    // The server may close before it took all.
    stream.write_all(bytes.as_bytes()).ok();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).ok();
    String::from_utf8_lossy(&answers).into_owned()
}

/// The statuses of the answers.
fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

fn is_there(http: &Http, queue: &str) -> bool {
    http.get(&format!("/v1/queues/{queue}")).status == 200
}

const JSON: &str = "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
const ONE: &str = "{\"queue\": \"work\", \"text\": \"x\"}";

/// A request that goes on with that, and then with a body in chunks that is a put.
fn chunked(headers: &str) -> String {
    format!("{JSON}{headers}\r\n{:x}\r\n{ONE}\r\n0\r\n\r\n", ONE.len())
}

/// A request that goes on with that, and then with the body that its length would fit.
fn plain(headers: &str) -> String {
    format!("{JSON}{headers}\r\n{ONE}")
}

#[test]
fn what_is_clear_is_served_and_so_is_what_comes_behind_it() {
    let (_data, _rota, http) = server(&[]);
    let length = ONE.len();
    let in_body = put("inside");
    for (at, (first, status)) in [
        (plain(&format!("content-length: {length}\r\n")), 201),
        (plain(&format!("Content-Length:   {length}  \r\n")), 201),
        (chunked("transfer-encoding: chunked\r\n"), 201),
        (chunked("Transfer-Encoding:Chunked\r\nexpect: 100-continue\r\n"), 201),
        (format!("{JSON}transfer-encoding: chunked\r\n\r\n{length:X};a=b\r\n{ONE}\r\n0\r\ntrailer: x\r\n\r\n"), 201),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 200),
        // Its body is a body, though the page has no use for one.
        (format!("GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{in_body}", in_body.len()), 200),
    ]
    .into_iter()
    .enumerate()
    {
        let queue = format!("behind-{at}");
        let answers = send(&http, &format!("{first}{}", put(&queue)));
        let statuses: Vec<u16> = statuses(&answers).into_iter().filter(|status| *status != 100).collect();
        assert_eq!(statuses, [status, 201], "{first:?}: {answers}");
        assert!(is_there(&http, &queue), "{first:?}");
    }
    assert!(!is_there(&http, "inside"));
}

#[test]
fn what_is_not_clear_is_refused_and_nothing_behind_it_runs() {
    let (_data, _rota, http) = server(&[]);
    let length = ONE.len();
    // A length that covers a put which chunks leave outside, and the other way around.
    let hidden = put("smuggled");
    let outside = format!("0\r\n\r\n{hidden}");
    let outside = |headers: &str| {
        let headers = headers.replace('#', &outside.len().to_string());
        format!("{JSON}{headers}\r\n{outside}")
    };
    for (first, status) in [
        (outside("content-length: #\r\ntransfer-encoding: chunked\r\n"), 400),
        (outside("transfer-encoding: chunked\r\ncontent-length: #\r\n"), 400),
        (outside("Transfer-Encoding: chunked\r\nx: y\r\nCONTENT-LENGTH: 5\r\n"), 400),
        (outside("content-length: 0\r\ntransfer-encoding: chunked\r\n"), 400),
        (outside("content-length: #\r\ntransfer-encoding: identity\r\n"), 400),
        (outside("content-length: #\r\ntransfer-encoding: xchunked\r\n"), 400),
        (outside("content-length: #\r\ntransfer-encoding : chunked\r\n"), 400),
        (outside("content-length: #\r\n transfer-encoding: chunked\r\n"), 400),
        (outside("content-length: #\r\ntransfer-encoding: \u{b}chunked\r\n"), 400),
        (outside("content-length: #\r\nx: y\rtransfer-encoding: chunked\r\n"), 400),
        (outside("content-length: #\r\nx: \0\r\n"), 400),
        (outside("content-length : #\r\n"), 400),
        (plain(&format!("content-length: {length}\r\ncontent-length: {length}\r\n")), 400),
        (plain(&format!("content-length: {length}\r\nContent-Length: 0\r\n")), 400),
        (plain(&format!("content-length: 0\r\ncontent-length: {length}\r\n")), 400),
        (plain(&format!("content-length: {length}, {length}\r\n")), 400),
        (plain(&format!("content-length: +{length}\r\n")), 400),
        (plain("content-length: -1\r\n"), 400),
        (plain("content-length: 0x5\r\n"), 400),
        (plain("content-length: \r\n"), 400),
        (plain("content-length: 18446744073709551616\r\n"), 400),
        (chunked("transfer-encoding: gzip, chunked\r\n"), 400),
        (chunked("transfer-encoding: chunked, chunked\r\n"), 400),
        (chunked("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), 400),
        (chunked("transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n"), 400),
        (chunked("transfer-encoding: chunked, gzip\r\n"), 400),
        (chunked("transfer-encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"), 400),
        (format!("{JSON}transfer-encoding: chunked\r\n\r\n{length:x}x\r\n{ONE}\r\n0\r\n\r\n"), 400),
        (format!("{JSON}transfer-encoding: chunked\r\n\r\n-1\r\n{ONE}\r\n0\r\n\r\n"), 400),
        (format!("{JSON}transfer-encoding: chunked\r\n\r\n1000000000000000{length:x}\r\n{ONE}\r\n0\r\n\r\n"), 400),
        (format!("{JSON}transfer-encoding: chunked\r\n\r\n{length:x}\n{ONE}\r\n0\r\n\r\n"), 400),
        (format!("{JSON}transfer-encoding: chunked\r\n\r\n5\r\n{ONE}\r\n0\r\n\r\n"), 400),
        ("GET\r\n\r\n".to_owned(), 400),
        ("GET /v1/stats HTTP/1.1\r\nhost: localhost\r\nfolded: a\r\n b\r\n\r\n".to_owned(), 400),
        (format!("GET /v1/stats?{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(200_000)), 431),
        (format!("GET /v1/stats HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(200_000)), 431),
        (format!("GET /v1/stats HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(100)), 431),
    ] {
        let answers = send(&http, &format!("{first}{hidden}"));
        let shown: String = first.chars().take(200).collect();
        assert_eq!(statuses(&answers), [status], "{shown:?}: {answers}");
        assert!(!is_there(&http, "smuggled") && !is_there(&http, "work"), "{shown:?}: {answers}");
    }
}

#[test]
fn what_is_not_clear_is_told_as_a_problem() {
    let (_data, _rota, http) = server(&[]);
    for (headers, says) in [
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", "transfer-encoding and content-length"),
        ("content-length: 5\r\ncontent-length: 5\r\n", "content-length more than once"),
        ("transfer-encoding: gzip, chunked\r\n", "not chunked alone"),
    ] {
        // Also where nobody asks for a name or a token, and in pieces.
        let mut stream = http.connect();
        for byte in format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes() {
            stream.write_all(&[*byte]).unwrap();
        }
        let answer = super::client::Answer::read(&mut stream);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        let problem = answer.problem(400, "malformed-request");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
}
