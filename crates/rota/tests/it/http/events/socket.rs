//! The same events over a WebSocket, by a client that others wrote.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::generate_key;
use tungstenite::http::Request;
use tungstenite::protocol::Message;
use tungstenite::{Error, HandshakeError, WebSocket};

use super::super::client::{Answer, Http};
use super::super::{end, put, reserve, server};
use super::make;
use super::stream::Stream;

/// A client that listens.
pub(in crate::http) struct Socket(WebSocket<TcpStream>);

impl Socket {
    /// Asks for events with these headers, each with its line end.
    #[track_caller]
    pub(in crate::http) fn open(http: &Http, path: &str, headers: &str) -> Socket {
        Socket::try_open(http, path, headers).unwrap_or_else(|(status, body)| panic!("{status}: {body}"))
    }

    /// The same; else the status and the body of the answer.
    fn try_open(http: &Http, path: &str, headers: &str) -> Result<Socket, (u16, String)> {
        let address = http.address();
        let mut request = Request::builder()
            .uri(format!("ws://{address}{path}"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        let given = |name: &str| headers.to_lowercase().contains(name);
        if !given("host:") {
            request = request.header("host", address.to_string());
        }
        for (name, value) in headers.lines().filter_map(|line| line.split_once(": ")) {
            request = request.header(name, value);
        }
        let request = request.body(()).unwrap().into_client_request().unwrap();
        match tungstenite::client(request, http.connect()) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(HandshakeError::Failure(Error::Http(answer))) => {
                let body = answer.body().clone().unwrap_or_default();
                Err((answer.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// The next message, which is an object.
    #[track_caller]
    pub(in crate::http) fn next(&mut self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    #[track_caller]
    fn text(&mut self) -> String {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code and the reason that it is closed with, nothing being said before.
    #[track_caller]
    pub(in crate::http) fn closed(&mut self) -> (u16, String) {
        loop {
            match self.0.read().unwrap() {
                Message::Close(Some(frame)) => {
                    // The answer to it is on its way: it ends by itself.
                    while self.0.read().is_ok() {}
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_socket_is_told_what_a_stream_is_told() {
    let (_data, mut rota, http) = server(&[]);
    let mut stream = Stream::open(&http, "/v1/events?kind=job.*&queue=work", "");
    let mut socket = Socket::open(&http, "/v1/events?kind=job.*&queue=work", "");
    let first = socket.next();
    assert_eq!(first["kind"], "listening");
    put(&http, "x");
    http.post("/v1/jobs", &json!({ "queue": "other", "text": "x" })).expect(201);
    end(&http, &reserve(&http), "complete").expect(200);
    let mut last = Value::Null;
    for kind in ["job.put", "job.reserved", "job.completed"] {
        let (text, event) = (socket.text(), stream.event());
        assert_eq!(event.event, kind);
        assert!(event.text.ends_with(&format!("data: {text}")), "{text} {event:?}");
        last = serde_json::from_str(&text).unwrap();
    }
    // Who comes back goes on where they were.
    let seq = |event: &Value| event["seq"].as_str().unwrap().to_owned();
    let mut back = Socket::open(&http, &format!("/v1/events?kind=job.*&queue=work&after={}", seq(&first)), "");
    assert_eq!(back.next()["kind"], "listening");
    for kind in ["job.put", "job.reserved", "job.completed"] {
        assert_eq!(back.next()["kind"], kind);
    }
    let mut lost = Socket::open(&http, "/v1/events?after=999999", "");
    assert_eq!(lost.next()["kind"], "gone");
    assert_eq!(Socket::try_open(&http, "/v1/events?after=x", "").err().map(|(status, _)| status), Some(400));
    assert!(seq(&last).parse::<u64>().unwrap() > seq(&first).parse().unwrap());
    // A ping is answered, and a stop is told.
    back.0.send(Message::Ping("well?".into())).unwrap();
    assert_eq!(back.0.read().unwrap(), Message::Pong("well?".into()));
    rota.signal("TERM");
    assert_eq!(back.closed().0, 1001);
    assert_eq!(socket.closed().0, 1001);
    assert!(rota.wait().success());
}

#[test]
fn who_must_not_gets_no_socket_and_who_talks_loses_it() {
    let (_data, _rota, http) = server(&["--http-connections", "8"]);
    for (headers, status, kind) in
        [("origin: http://evil.example\r\n", 403, "foreign-origin"), ("host: evil.example\r\n", 421, "unknown-host")]
    {
        let refused = Socket::try_open(&http, "/v1/events", headers).err().expect("it is refused");
        assert!(refused.0 == status && refused.1.contains(kind), "{headers}: {refused:?}");
    }
    let half = "connection: upgrade\r\nupgrade: websocket\r\n";
    http.ask("GET /v1/events", half, "").problem(400, "malformed-request");
    let own = format!("origin: http://{}\r\n", http.address());
    let mut socket = Socket::open(&http, "/v1/events", &own);
    assert_eq!(socket.next()["kind"], "listening");
    socket.0.send(Message::Text("all events, please".into())).unwrap();
    assert_eq!(socket.closed().0, 1003);
    let mut socket = Socket::open(&http, "/v1/events", "");
    assert_eq!(socket.next()["kind"], "listening");
    socket.0.send(Message::Binary(vec![0; 5_000].into())).unwrap();
    assert_eq!(socket.closed().0, 1009);
    // Those that are there are counted among the connections, and those that go make room.
    let sockets: Vec<Socket> = (0..8).map(|_| Socket::open(&http, "/v1/events", "")).collect();
    let mut waits = http.connect();
    std::io::Write::write_all(&mut waits, http.bytes("GET /healthz", "", "").as_bytes()).unwrap();
    waits.set_nonblocking(true).unwrap();
    assert!(std::io::Read::read(&mut waits, &mut [0]).is_err());
    waits.set_nonblocking(false).unwrap();
    drop(sockets);
    assert_eq!(Answer::read(&mut waits).status, 200);
}

#[test]
fn a_socket_that_is_read_too_slowly_is_told_and_closed() {
    let (_data, _rota, http) = server(&["--sync", "never"]);
    let mut slow = Socket::open(&http, "/v1/events", "");
    make(&http, 120_000);
    let mut numbers: Vec<u64> = Vec::new();
    let last = loop {
        let event = slow.next();
        if event["kind"] == "lagged" {
            break event;
        }
        numbers.push(event["seq"].as_str().unwrap().parse().unwrap());
    };
    assert!(numbers.is_sorted() && numbers.len() < 120_000);
    assert_eq!(last["seq"], numbers.last().unwrap().to_string());
    assert_eq!(slow.closed(), (1013, "too slow".into()));
}
