//! A client of HTTP with one connection that it keeps.

use crate::server::Server;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

pub(super) struct Wire(BufReader<TcpStream>);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The status line and the headers, in small letters.
    pub(super) head: String,
    pub(super) json: Value,
}

impl Wire {
    pub(super) fn to(server: &Server) -> Wire {
        Wire(BufReader::new(server.connect()))
    }

    pub(super) fn ask(&mut self, request: &str, headers: &str, body: &str) -> Answer {
        self.send(request, headers, body);
        self.answer()
    }

    pub(super) fn send(&mut self, request: &str, headers: &str, body: &str) {
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\n{kind}{headers}content-length: {length}\r\n\r\n");
        self.0.get_mut().write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).unwrap();
    }

    pub(super) fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "the server closed: {head:?}");
        }
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
        self.0.read_exact(&mut body).unwrap();
        let mut json = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {head}"));
        leave_out_peers(&mut json);
        Answer { status, head, json }
    }
}

/// Takes away from where holders came: ports are as they fall.
fn leave_out_peers(json: &mut Value) {
    match json {
        Value::Object(members) => {
            members.remove("peer");
            members.values_mut().for_each(leave_out_peers);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_peers),
        _ => {}
    }
}

impl Answer {
    /// The answer, which must have that status.
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json
    }

    /// The problem, as far as it is foretold: its words are its own affair.
    #[track_caller]
    pub(super) fn problem(self) -> Value {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        assert_eq!(self.json["status"], self.status, "{self:?}");
        foretold(&self.json)
    }
}

/// What is foretold of a problem.
pub(super) fn foretold(problem: &Value) -> Value {
    for member in ["title", "detail", "hint"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
    }
    let members = ["type", "status", "job", "pointer", "reason"].into_iter();
    members.filter_map(|member| Some((member.to_owned(), problem.get(member)?.clone()))).collect()
}
