//! A collector of OpenTelemetry: takes OTLP over HTTP, as protobuf, and remembers the spans.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::process::until;

/// The kind of a span of a request.
const SERVER: u64 = 2;

/// A span, as `opentelemetry/proto/trace/v1/trace.proto` has it; ids in hexadecimal.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) kind: u64,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) message: String,
    pub(super) status: u64,
}

#[derive(Default)]
struct Taken {
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
}

pub(super) struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    pub(super) fn new() -> Collector {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Taken::default()));
        let into = taken.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, into) = (stream.unwrap(), into.clone());
                thread::spawn(move || serve(&stream, &into));
            }
        });
        Collector { address, taken }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it has so many spans of jobs, which are all but those of requests, and gives them in the order in which they
    /// came.
    #[track_caller]
    pub(super) fn wait_for_jobs(&self, count: usize) -> Vec<Span> {
        self.wait_for_kind(count, |kind| kind != SERVER)
    }

    /// The same, of those of requests.
    #[track_caller]
    pub(super) fn wait_for_requests(&self, count: usize) -> Vec<Span> {
        self.wait_for_kind(count, |kind| kind == SERVER)
    }

    #[track_caller]
    fn wait_for_kind(&self, count: usize, is_it: fn(u64) -> bool) -> Vec<Span> {
        until("the spans come", || {
            let taken = self.taken.lock().unwrap();
            let spans: Vec<Span> = taken.spans.iter().filter(|span| is_it(span.kind)).cloned().collect();
            (spans.len() >= count).then_some(spans)
        })
    }

    /// What the sender says of itself.
    pub(super) fn resource(&self, key: &str) -> String {
        self.taken.lock().unwrap().resource[key].clone()
    }
}

/// Answers requests of a connection until it closes.
fn serve(stream: &TcpStream, into: &Mutex<Taken>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_lowercase());
        }
        assert!(head[0].starts_with("post /v1/traces "), "{head:?}");
        assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let mut taken = into.lock().unwrap();
        for of_resource in messages(&body, 1) {
            for resource in messages(of_resource, 1) {
                taken.resource.extend(attributes(resource, 1));
            }
            for of_scope in messages(of_resource, 2) {
                taken.spans.extend(messages(of_scope, 2).into_iter().map(span));
            }
        }
        drop(taken);
        (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn span(bytes: &[u8]) -> Span {
    let mut span = Span { attributes: attributes(bytes, 9).collect(), ..Span::default() };
    for (field, value) in fields(bytes) {
        match (field, value) {
            (1, Field::Bytes(id)) => span.trace = hex(id),
            (2, Field::Bytes(id)) => span.id = hex(id),
            (4, Field::Bytes(id)) => span.parent = hex(id),
            (5, Field::Bytes(name)) => span.name = text(name),
            (6, Field::Number(kind)) => span.kind = kind,
            (7, Field::Number(nanos)) => span.start = nanos,
            (8, Field::Number(nanos)) => span.end = nanos,
            (15, Field::Bytes(status)) => {
                for (field, value) in fields(status) {
                    match (field, value) {
                        (2, Field::Bytes(message)) => span.message = text(message),
                        (3, Field::Number(code)) => span.status = code,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    span
}

/// The pairs of keys and values in that field.
fn attributes(bytes: &[u8], field: u64) -> impl Iterator<Item = (String, String)> {
    messages(bytes, field).into_iter().map(|pair| {
        let key = messages(pair, 1).first().map(|key| text(key)).unwrap_or_default();
        let value = messages(pair, 2).first().map(|value| match fields(value).next() {
            Some((_, Field::Bytes(value))) => text(value),
            Some((_, Field::Number(value))) => value.to_string(),
            None => String::new(),
        });
        (key, value.unwrap_or_default())
    })
}

/// A value of protobuf's wire format.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// All messages, or texts, in that field.
fn messages(bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
    let found = fields(bytes).filter_map(|(field, value)| match value {
        Field::Bytes(value) if field == wanted => Some(value),
        _ => None,
    });
    found.collect()
}

/// The numbers and values of a message's fields.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes);
                Field::Bytes(take(&mut bytes, length as usize))
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()).into()),
            other => panic!("no such wire type: {other}"),
        };
        Some((tag >> 3, value))
    })
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
