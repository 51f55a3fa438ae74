//! Somebody's server that is called: it reads each call, checks its signature by itself, and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver as Queue, channel};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::process::DEADLINE;

/// Where calls come in.
pub(super) struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    calls: Queue<Call>,
    answers: Arc<Mutex<Answers>>,
}

/// What it answers.
struct Answers {
    next: VecDeque<String>,
    then: String,
}

/// A call, and how it was answered.
#[derive(Debug)]
pub(super) struct Call {
    /// The request line and the headers, the names in small letters.
    pub(super) head: Vec<String>,
    pub(super) body: String,
    pub(super) status: u16,
}

impl Receiver {
    /// Answers with 204 unless told.
    pub(super) fn new() -> Receiver {
        Receiver::inside(None)
    }

    /// The same inside TLS, if there is something to shake hands with.
    pub(super) fn inside(tls: Option<Arc<ServerConfig>>) -> Receiver {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(Answers { next: VecDeque::new(), then: String::from("204 No Content") }));
        let (sender, calls) = channel();
        let known = answers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(DEADLINE)).expect("it is not zero");
                let stream: Box<dyn Stream> = match &tls {
                    Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream)),
                    None => Box::new(stream),
                };
                let Some((mut stream, head, body)) = read(stream) else { continue };
                let answer = {
                    let mut answers = known.lock().unwrap();
                    let then = answers.then.clone();
                    answers.next.pop_front().unwrap_or(then)
                };
                let status = answer.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or_default();
                // Told before it is answered: who called knows no earlier than who looks here.
                let is_heard = sender.send(Call { head, body, status }).is_ok();
                if answer == "nothing" {
                    // Whoever called waits, as long as the test goes on.
                    std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
                } else {
                    write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
                }
                if !is_heard {
                    return;
                }
            }
        });
        Receiver { address, scheme, calls, answers }
    }

    pub(super) fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// The same, by another host that leads here.
    pub(super) fn url_at(&self, host: &str) -> String {
        format!("{}://{host}:{}/hook?from=rota", self.scheme, self.address.port())
    }

    /// What the next calls are answered with: a status and its word, and more headers.
    pub(super) fn answer(&self, next: &[&str]) {
        self.answers.lock().unwrap().next.extend(next.iter().map(ToString::to_string));
    }

    /// What all calls behind those are answered with; `nothing` for not at all.
    pub(super) fn answer_all(&self, then: &str) {
        self.answers.lock().unwrap().then = then.to_owned();
    }

    /// The next call.
    #[track_caller]
    pub(super) fn call(&self) -> Call {
        self.calls.recv_timeout(DEADLINE).expect("a call comes")
    }

    /// Whether a call came that nobody asked for.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.try_recv().is_err()
    }

    /// The events of the next calls that were taken, up to the first of which that is true.
    #[track_caller]
    pub(super) fn events_until(&self, secret: &str, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let call = self.call();
            call.check(secret);
            if call.status / 100 != 2 {
                continue;
            }
            events.extend(call.events());
            if events.iter().any(&is_last) {
                return events;
            }
        }
    }
}

impl Call {
    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        let mut found = self.head.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = found.next().unwrap_or_else(|| panic!("no {name}: {self:?}"));
        assert!(found.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn events(&self) -> Vec<Value> {
        self.json()["events"].as_array().unwrap_or_else(|| panic!("{self:?}")).clone()
    }

    /// Checks it as the specification of Standard Webhooks says: one signature of several is enough.
    #[track_caller]
    pub(super) fn check(&self, secret: &str) {
        let sent: i64 = self.header("webhook-timestamp").parse().expect("seconds since 1970");
        assert!((jiff::Timestamp::now().as_second() - sent).abs() < 300, "{self:?}");
        let is_right = |given: &str| self.is_signed(given, secret);
        assert!(self.signatures().into_iter().any(is_right), "the signature is wrong: {self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        assert!(self.head[0].starts_with("POST /hook?from=rota HTTP/1.1"), "{self:?}");
    }
}

impl Call {
    /// Checks that it has a signature by each of these, in this order, and no more.
    #[track_caller]
    pub(super) fn check_all(&self, secrets: &[&str]) {
        secrets.iter().for_each(|secret| self.check(secret));
        let signatures = self.signatures();
        let all = signatures.iter().zip(secrets).all(|(given, secret)| self.is_signed(given, secret));
        assert!(all && signatures.len() == secrets.len(), "{self:?}");
    }

    fn signatures(&self) -> Vec<&str> {
        self.header("webhook-signature").split(' ').collect()
    }

    fn is_signed(&self, given: &str, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect(secret)).expect("base64");
        let signed = format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.body);
        let given = STANDARD.decode(given.strip_prefix("v1,").expect("version 1")).expect("base64");
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes(), &given).is_ok()
    }
}

/// A socket, or TLS in one.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A request, whole; none if it breaks off.
fn read(stream: Box<dyn Stream>) -> Option<(Box<dyn Stream>, Vec<String>, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.trim_end() {
            "" => break,
            line => head.push(match line.split_once(": ") {
                Some((name, value)) if !head.is_empty() => format!("{}: {value}", name.to_lowercase()),
                _ => line.to_owned(),
            }),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((reader.into_inner(), head, String::from_utf8(body).ok()?))
}
