//! Peers of the HTTP port who take too long, over real sockets: each kind of wait is short here, and all others are longer than
//! these tests wait.

use crate::server::{DEADLINE, PATIENT, Server, rest, soon};
use rota_net::http::Patience;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A wait that is short.
const SHORT: Duration = Duration::from_millis(50);

/// Waits until nobody has a connection but whoever asks.
fn until_alone(server: &Server) {
    let began = Instant::now();
    while !server.ask("GET /v1/stats", "").contains("\"http\":1}") {
        assert!(began.elapsed() < DEADLINE, "somebody is still there");
    }
}

/// Whether it is a whole answer with that status that says why.
fn is_problem(answer: &str, status: u16, kind: &str) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(&format!("\"/problems/{kind}\""))
}

#[test]
fn a_head_that_does_not_come_ends_its_connection() {
    // Not so short that who asks at once may come too late where much else is done.
    let server = Server::http(Patience { head: Duration::from_secs(1), ..PATIENT });
    let mut silent = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET /healthz HTT").unwrap();
    assert_eq!(rest(&mut silent), "");
    assert_eq!(rest(&mut half), "");
    let answer = soon(|| {
        let mut idle = server.connect();
        // Whoever comes too late is closed without a word.
        idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").ok();
        Some(rest(&mut idle)).filter(|answer| !answer.is_empty())
    });
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    // One that waits for its answer is not idle.
    let wait = "{\"queues\": [\"none\"], \"wait\": \"1500ms\"}";
    let waited = soon(|| Some(server.ask("POST /v1/leases", wait)).filter(|answer| !answer.is_empty()));
    assert!(waited.starts_with("HTTP/1.1 200 ") && waited.contains("\"leases\":[]"), "{waited}");
}

#[test]
fn a_body_that_pauses_is_told_so() {
    let server = Server::http(Patience { body_pause: SHORT, ..PATIENT });
    for (length, sent) in
        [("content-length: 100", "{\"queue\": "), ("transfer-encoding: chunked", "a\r\n{\"queue\": \r\n")]
    {
        let mut stream = server.connect();
        let head =
            format!("POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
        stream.write_all(format!("{head}{sent}").as_bytes()).unwrap();
        let answer = rest(&mut stream);
        assert!(is_problem(&answer, 408, "too-slow") && answer.contains("10 bytes of the body came"), "{answer}");
    }
    let put = server.ask("POST /v1/jobs", "{\"queue\": \"work\", \"text\": \"x\"}");
    assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
}

#[test]
fn a_body_that_trickles_is_told_so() {
    let patience = Patience { body: SHORT, body_bytes_per_second: u32::MAX, ..PATIENT };
    let server = Server::http(patience);
    let mut stream = server.connect();
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // A byte whenever the server has said nothing for a moment: it never pauses.
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (began, mut first) = (Instant::now(), [0]);
    loop {
        assert!(began.elapsed() < DEADLINE, "it may go on without end");
        if stream.write_all(b" ").is_err() {
            break;
        }
        match stream.read(&mut first) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let answer = format!("{}{}", char::from(first[0]), rest(&mut stream));
    assert!(is_problem(&answer, 408, "too-slow"), "{answer}");
}

/// Has the server begin to send a long answer, and takes nothing of it.
fn deaf(server: &Server) -> TcpStream {
    const LONG: usize = 24 << 20;
    let put = server.ask("POST /v1/jobs", &format!("{{\"queue\": \"work\", \"text\": \"{}\"}}", "x".repeat(LONG)));
    assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
    let mut deaf = server.connect();
    deaf.write_all(b"GET /v1/jobs/1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    deaf
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut_off() {
    let server = Server::http(Patience { write: SHORT, ..PATIENT });
    let mut deaf = deaf(&server);
    until_alone(&server);
    let answer = rest(&mut deaf);
    assert!(answer.len() < 24 << 20, "all of it came");
}

#[test]
fn who_takes_a_little_now_and_then_is_cut_off_too() {
    let patience = Patience { answer: SHORT, answer_bytes_per_second: u32::MAX, ..PATIENT };
    let server = Server::http(patience);
    let mut slow = deaf(&server);
    let (began, mut some) = (Instant::now(), [0; 1000]);
    while !server.ask("GET /v1/stats", "").contains("\"http\":1}") {
        assert!(began.elapsed() < DEADLINE, "it may go on without end");
        if !slow.read(&mut some).is_ok_and(|length| length > 0) {
            break;
        }
    }
    let answer = rest(&mut slow);
    assert!(answer.len() < 20 << 20, "all of it came");
}

#[test]
fn who_takes_it_late_gets_all_of_it_where_there_is_patience() {
    let server = Server::http(PATIENT);
    let mut deaf = deaf(&server);
    server.ask("GET /healthz", "");
    let answer = rest(&mut deaf);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.len() > 24 << 20, "{}", answer.len());
}
