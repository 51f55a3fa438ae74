//! A client of HTTP that says just what it is told, a connection for each request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::process::DEADLINE;

/// Where to ask.
#[derive(Clone, Copy)]
pub(crate) struct Http(SocketAddr);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers, in small letters.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Http {
    pub(crate) fn to(address: SocketAddr) -> Http {
        Http(address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "", "")
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask(&format!("DELETE {path}"), "", "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask(&format!("PUT {path}"), "content-type: application/json\r\n", &body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> Answer {
        self.ask(&format!("POST {path}"), "content-type: application/json\r\n", body)
    }

    pub(crate) fn post_nothing(&self, path: &str) -> Answer {
        self.ask(&format!("POST {path}"), "", "")
    }

    /// Asks, with more headers, each with its line end.
    pub(crate) fn ask(&self, request: &str, headers: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(self.bytes(request, headers, body).as_bytes()).unwrap();
        Answer::read(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// What a request looks like on the wire.
    pub(crate) fn bytes(&self, request: &str, headers: &str, body: &str) -> String {
        let host =
            if headers.to_lowercase().contains("host:") { String::new() } else { format!("host: {}\r\n", self.0) };
        let length = body.len();
        format!("{request} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    }
}

impl Answer {
    /// Reads until the server closes.
    pub(crate) fn read(stream: &mut TcpStream) -> Answer {
        let mut text = Vec::new();
        // A server that refuses a body may close before all of it was sent: what it said before counts.
        stream.read_to_end(&mut text).ok();
        Answer::of(&text)
    }

    /// Reads the begin of an answer that goes on: what is said first.
    pub(crate) fn begun(stream: &mut TcpStream) -> Answer {
        let mut text = Vec::new();
        while !text.ends_with(b"\n\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)));
            text.push(byte[0]);
        }
        Answer::of(&text)
    }

    fn of(text: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(text);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer, which must have that status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        self.json()
    }

    /// The problem, which must have that status and be of that kind, and has all that a problem has.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        // Where there is no room now, it is said when to ask again.
        assert_eq!(self.head.contains("retry-after: "), [429, 503, 507].contains(&status), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{kind}"), "{self:?}");
        assert_eq!(problem["status"], status);
        for member in ["title", "detail", "hint"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {self:?}");
        }
        problem
    }
}
