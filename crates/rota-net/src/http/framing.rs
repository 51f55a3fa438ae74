//! Where each request of a connection begins and ends, as the bytes say it: to refuse those that say it in two ways.
//!
//! Of a request with `transfer-encoding` and `content-length` the library serves the first and drops the second, and one of
//! two equal lengths, so that nobody behind it can tell. A proxy in front may have taken the other, and what it holds for a
//! body would be a request of its own here, with another's rights. So the connection's bytes are read along, by the same
//! parser and the same rules, and every request is held against what its head said. Where the two cannot agree, nothing of
//! that connection is served any more. It answers nobody: [`super::guard`] refuses what it found.

use crate::limits::{FRAMED_HEAD_BYTES, HEADERS};
use axum::http::Request;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is wrong with how a request says where it ends. Whoever sent it is told, and the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It has a length, and chunks.
    TwoWays,
    /// It has several lengths.
    Lengths,
    /// Its body is coded in another way than in chunks.
    Coding,
    /// It is not the one whose head was seen.
    Unseen,
}

impl Fault {
    /// What whoever sent it is told.
    pub(super) fn says(self) -> &'static str {
        match self {
            Fault::TwoWays => "the request has transfer-encoding and content-length: its end is one or the other",
            Fault::Lengths => "the request has content-length more than once",
            Fault::Coding => "the request has a transfer-encoding that is not chunked alone",
            Fault::Unseen => "where the request begins is not clear",
        }
    }
}

/// One connection's requests, as far as its bytes came.
#[derive(Debug)]
pub(super) struct Framing(Mutex<Read>);

#[derive(Debug)]
struct Read {
    at: At,
    /// Heads that came, and whose requests did not come to be served yet.
    heads: VecDeque<Head>,
}

/// A head that was read.
#[derive(PartialEq, Eq, Debug)]
struct Head {
    method: Box<str>,
    headers: usize,
    fault: Option<Fault>,
}

/// What the next byte belongs to.
#[derive(PartialEq, Eq, Debug)]
enum At {
    /// A head, of which this came so far.
    Head(Vec<u8>),
    /// A body that goes on for so many bytes.
    Body(u64),
    /// A body in chunks: where in one, and what is left of it.
    Chunk(Chunk, u64),
    /// Nobody knows, or it is HTTP no more: nothing is looked at.
    Lost,
}

/// A place in a body in chunks (RFC 9112, 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chunk {
    Start,
    Size,
    Space,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerEnd,
    EndCr,
    EndLf,
}

impl Default for Framing {
    fn default() -> Framing {
        Framing(Mutex::new(Read { at: At::Head(Vec::new()), heads: VecDeque::new() }))
    }
}

impl Framing {
    /// These bytes came, behind all before.
    pub(super) fn came(&self, bytes: &[u8]) {
        self.read().came(bytes);
    }

    /// What is wrong with the next request, which is that one.
    pub(super) fn next<B>(&self, request: &Request<B>) -> Option<Fault> {
        let Some(Head { method, headers, fault }) = self.read().heads.pop_front() else { return Some(Fault::Unseen) };
        let is_it = *method == *request.method().as_str() && (fault.is_some() || headers == request.headers().len());
        fault.or((!is_it).then_some(Fault::Unseen))
    }

    /// What comes now is HTTP no more.
    pub(super) fn ends(&self) {
        self.read().at = At::Lost;
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match &mut self.at {
                At::Lost => return,
                At::Body(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.at = At::Head(Vec::new());
                    }
                    &bytes[length..]
                }
                At::Chunk(Chunk::Data, left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.at = At::Chunk(Chunk::DataCr, 0);
                    }
                    &bytes[length..]
                }
                At::Chunk(chunk, left) => {
                    self.at = step(*chunk, *left, bytes[0]);
                    &bytes[1..]
                }
                At::Head(begun) if begun.is_empty() => match begin(bytes) {
                    [] => return,
                    bytes => match self.head(bytes) {
                        Some(length) => &bytes[length..],
                        None => {
                            if self.at != At::Lost {
                                self.at = At::Head(bytes.to_vec());
                            }
                            return;
                        }
                    },
                },
                At::Head(begun) => {
                    // Its end is in what came now, or shortly before.
                    let (before, from) = (begun.len(), begun.len().saturating_sub(2));
                    begun.extend_from_slice(bytes);
                    if begun.len() > FRAMED_HEAD_BYTES {
                        self.at = At::Lost;
                        return;
                    }
                    if !has_end(&begun[from..]) {
                        return;
                    }
                    let whole = std::mem::take(begun);
                    match self.head(&whole) {
                        Some(length) => &bytes[length.saturating_sub(before)..],
                        None => {
                            if self.at != At::Lost {
                                self.at = At::Head(whole);
                            }
                            return;
                        }
                    }
                }
            };
        }
    }

    /// Reads a head that begins there, and goes on behind it; its length, or none where it does not end there.
    fn head(&mut self, bytes: &[u8]) -> Option<usize> {
        if !has_end(bytes) {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return None,
            // The library refuses it, too.
            Err(_) => {
                self.at = At::Lost;
                return None;
            }
        };
        let values = |name: &'static str| {
            let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value.trim_ascii())
        };
        let (lengths, codings) = (values("content-length").count(), values("transfer-encoding").count());
        let is_chunked = values("transfer-encoding").all(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        let fault = match (lengths, codings) {
            (1.., 1..) => Some(Fault::TwoWays),
            (2.., _) => Some(Fault::Lengths),
            (_, 1) if is_chunked => None,
            (_, 1..) => Some(Fault::Coding),
            _ => None,
        };
        let told = values("content-length").next().map(|told| std::str::from_utf8(told).ok()?.parse().ok());
        self.at = match (fault, codings, told) {
            // It is refused, and nothing behind it is served.
            (Some(_), ..) | (_, _, Some(None)) => At::Lost,
            (None, 1.., _) => At::Chunk(Chunk::Start, 0),
            (None, 0, None | Some(Some(0))) => At::Head(Vec::new()),
            (None, 0, Some(Some(told))) => At::Body(told),
        };
        let method = request.method.unwrap_or_default().into();
        self.heads.push_back(Head { method, headers: request.headers.len(), fault });
        Some(length)
    }
}

/// What is behind empty lines, which may stand before a head.
fn begin(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether the empty line is among them that ends a head.
fn has_end(bytes: &[u8]) -> bool {
    let mut ends = memchr::memchr_iter(b'\n', bytes).map(|at| &bytes[at + 1..]);
    ends.any(|rest| matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..]))
}

/// The place behind a byte of a body in chunks.
fn step(at: Chunk, left: u64, byte: u8) -> At {
    let next = match (at, byte) {
        (Chunk::Start | Chunk::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
            let digit = char::from(byte).to_digit(16).unwrap_or_default();
            return match left.checked_mul(16).and_then(|left| left.checked_add(digit.into())) {
                Some(left) => At::Chunk(Chunk::Size, left),
                None => At::Lost,
            };
        }
        (Chunk::Size | Chunk::Space, b' ' | b'\t') => Chunk::Space,
        (Chunk::Size | Chunk::Space, b';') => Chunk::Extension,
        (Chunk::Size | Chunk::Space | Chunk::Extension, b'\r') => Chunk::SizeEnd,
        (Chunk::Extension, b'\n') => return At::Lost,
        (Chunk::Extension, _) => Chunk::Extension,
        (Chunk::SizeEnd, b'\n') if left == 0 => Chunk::EndCr,
        (Chunk::SizeEnd, b'\n') => Chunk::Data,
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::Start,
        (Chunk::EndCr, b'\r') => Chunk::EndLf,
        (Chunk::EndCr, _) => Chunk::Trailer,
        (Chunk::Trailer, b'\r') => Chunk::TrailerEnd,
        (Chunk::Trailer, _) => Chunk::Trailer,
        (Chunk::TrailerEnd, b'\n') => Chunk::EndCr,
        (Chunk::EndLf, b'\n') => return At::Head(Vec::new()),
        _ => return At::Lost,
    };
    At::Chunk(next, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The methods and faults of the heads that were found, and whether it goes on, where that many bytes come at a time.
    fn read(text: &str, at_a_time: usize) -> (Vec<(String, Option<Fault>)>, bool) {
        let framing = Framing::default();
        text.as_bytes().chunks(at_a_time).for_each(|bytes| framing.came(bytes));
        let read = framing.0.into_inner().unwrap();
        let heads = read.heads.into_iter().map(|head| (head.method.into(), head.fault));
        (heads.collect(), read.at == At::Head(Vec::new()))
    }

    #[test]
    fn requests_are_found_however_their_bytes_come() {
        let whole = "\r\n\nPOST / HTTP/1.1\r\nContent-Length: 21\r\n\r\nGET /x HTTP/1.1\r\n\r\n\r\n\
                     PUT / HTTP/1.1\r\ntransfer-encoding: CHUNKED\r\n\r\n5;a=b\r\nDELET\r\n1 \r\nE\r\n0\r\nx: y\r\n\r\n\
                     GET / HTTP/1.1\nhost: x\n\nHEAD / HTTP/1.0\r\nContent-Length: 0\r\n\r\n";
        for at_a_time in (1..40).chain([whole.len()]) {
            let (heads, goes_on) = read(whole, at_a_time);
            let methods: Vec<&str> = heads.iter().map(|(method, _)| method.as_str()).collect();
            assert_eq!(methods, ["POST", "PUT", "GET", "HEAD"], "{at_a_time}");
            assert!(goes_on && heads.iter().all(|(_, fault)| fault.is_none()), "{at_a_time}");
        }
    }

    #[test]
    fn an_end_that_is_said_in_two_ways_is_a_fault_and_the_last_of_the_connection() {
        for (headers, fault) in [
            ("content-length: 0\r\ntransfer-encoding: chunked\r\n", Fault::TwoWays),
            ("transfer-encoding: chunked\r\nx: y\r\nCONTENT-LENGTH: 5\r\n", Fault::TwoWays),
            ("content-length: 5\r\ncontent-length: 5\r\n", Fault::Lengths),
            ("content-length: 5\r\nContent-Length: 6\r\n", Fault::Lengths),
            ("transfer-encoding: gzip, chunked\r\n", Fault::Coding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Fault::Coding),
        ] {
            let text = format!("POST / HTTP/1.1\r\n{headers}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
            for at_a_time in [1, 2, 3, 7, text.len()] {
                assert_eq!(read(&text, at_a_time), (vec![(String::from("POST"), Some(fault))], false), "{headers}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_ends_it() {
        for text in [
            "GET / HTTP/1.1\r\nno colon\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5x\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab",
            "POST / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        ] {
            let framing = Framing::default();
            framing.came(text.as_bytes());
            assert_eq!(framing.read().at, At::Lost, "{text}");
        }
        let framing = Framing::default();
        framing.came(b"GET / HTTP/1.1\r\nx: ");
        (0..FRAMED_HEAD_BYTES / 1000).for_each(|_| framing.came(&[b'x'; 1001]));
        assert_eq!(framing.read().at, At::Lost);
    }
}
