//! Cuts a connection's bytes into requests: lines, bodies, and what must be skipped to stay in step.
//!
//! The connection calls [`Parser::next`] with what it has read until that asks for more. The parser keeps what is
//! incomplete: at most one line, and of a body or a batch what has arrived so far. It must never allocate by a size that the peer
//! has merely announced, nor answer one bad line twice.

mod batch;

use super::foreign::{Foreign, Sniffer, Verdict};
use super::grammar::{self, DELETE_BATCH, Line, PutHead};
use super::request::{Put, Refusal, Request, When};
use super::{BATCH_BYTES, BATCH_LINE_BYTES, LINE_BYTES};
use batch::PartialBatch;
use std::time::Duration;

/// What the next bytes hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// A well-formed command.
    Request(Request<'a>),
    /// A command that is answered with an error and changes nothing.
    Refused(Refusal),
    /// Nothing whole. All of the input was taken.
    NeedMore,
    /// The first line is not ours. Nothing was run; close the connection. Every further call says the same.
    Foreign(Foreign),
}

/// The parser of one connection.
#[derive(Debug)]
pub struct Parser {
    max_job_bytes: u32,
    state: State,
    /// The start of a line whose end has not arrived, or, after a split line was handed out, that line.
    line: Vec<u8>,
    line_is_spent: bool,
    /// Looks at the first line; gone once that is known to be ours.
    sniffer: Option<Sniffer>,
}

#[derive(Debug)]
enum State {
    /// At the start of a line, or inside one.
    Line,
    /// Inside a line that is too long already.
    LongLine { after_cr: bool },
    /// Inside the body of a put.
    Body(PartialPut),
    /// Inside a batch of puts.
    Batch(PartialBatch),
    /// Inside a body or a batch that is too big, with this much of it to come, and what is answered then.
    TooBig { left: u64, refusal: Refusal },
    /// Another protocol spoke first.
    Foreign(Foreign),
}

/// A put whose body has not arrived whole.
#[derive(Debug)]
struct PartialPut {
    priority: u32,
    when: When,
    ttr: Duration,
    key: Option<Box<[u8]>>,
    after: Box<[u64]>,
    size: usize,
    body: Vec<u8>,
    /// How much of the CRLF after the body was seen, and whether it was one.
    tail_bytes: usize,
    tail_fits: bool,
}

const CRLF: &[u8] = b"\r\n";

impl Parser {
    /// A parser at the start of a connection, for jobs of at most `max_job_bytes` bytes.
    #[must_use]
    pub fn new(max_job_bytes: u32) -> Parser {
        Parser {
            max_job_bytes,
            state: State::Line,
            line: Vec::new(),
            line_is_spent: false,
            sniffer: Some(Sniffer::new()),
        }
    }

    /// Takes the next request off the front of `input`.
    ///
    /// What is left in `input` comes after that request. On [`Parsed::NeedMore`] nothing is left.
    pub fn next<'p, 'i: 'p>(&'p mut self, input: &mut &'i [u8]) -> Parsed<'p> {
        if self.line_is_spent {
            self.forget_line();
            self.line_is_spent = false;
        }
        if let Some(sniffer) = &mut self.sniffer {
            match sniffer.feed(input) {
                Verdict::Undecided => {}
                Verdict::Ours => self.sniffer = None,
                Verdict::Theirs(foreign) => self.state = State::Foreign(foreign),
            }
        }
        match &mut self.state {
            State::Line => self.next_line(input),
            State::LongLine { after_cr } => {
                if !skip_long_line(after_cr, input) {
                    return Parsed::NeedMore;
                }
                self.state = State::Line;
                Parsed::Refused(Refusal::BadFormat)
            }
            State::Body(put) => {
                if !put.take(input) {
                    return Parsed::NeedMore;
                }
                let parsed = put.finish();
                self.state = State::Line;
                parsed
            }
            State::Batch(batch) => {
                if !batch.take(input) {
                    return Parsed::NeedMore;
                }
                let parsed = batch.finish(self.max_job_bytes);
                self.state = State::Line;
                parsed
            }
            State::TooBig { left, refusal } => {
                if !skip_body(left, input) {
                    return Parsed::NeedMore;
                }
                let refusal = *refusal;
                self.state = State::Line;
                Parsed::Refused(refusal)
            }
            State::Foreign(foreign) => Parsed::Foreign(*foreign),
        }
    }

    /// The memory held for what is incomplete, in bytes: at most twice what has arrived of it, and a line.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        let body = match &self.state {
            State::Body(put) => put.body.capacity(),
            State::Batch(batch) => batch.bytes.capacity(),
            _ => 0,
        };
        self.line.capacity() + body
    }

    fn next_line<'p, 'i: 'p>(&'p mut self, input: &mut &'i [u8]) -> Parsed<'p> {
        let limit = self.line_limit(input);
        let window = &input[..input.len().min(limit - self.line.len())];
        let Some(end) = line_end(window, self.line.last() == Some(&b'\r')) else {
            return self.keep_part_of_line(window.len(), limit, input);
        };
        let (line, after) = input.split_at(end);
        *input = after;
        let line = if self.line.is_empty() {
            line
        } else {
            self.line.extend_from_slice(line);
            self.line_is_spent = true;
            &self.line
        };
        match grammar::line(&line[..line.len() - CRLF.len()]) {
            Line::Request(request) => Parsed::Request(request),
            Line::Refused(refusal) => Parsed::Refused(refusal),
            Line::Put(head) if head.size > self.max_job_bytes => {
                let left = u64::from(head.size) + CRLF.len() as u64;
                too_big(left, Refusal::JobTooBig, &mut self.state, input)
            }
            Line::PutBatch { bytes, .. } if bytes as usize > batch_limit(self.max_job_bytes) => {
                too_big(bytes.into(), Refusal::BatchTooBig, &mut self.state, input)
            }
            Line::PutBatch { count, bytes } => {
                if let Some((batch, after)) = input.split_at_checked(bytes as usize) {
                    *input = after;
                    return batch::puts(count, batch, self.max_job_bytes);
                }
                let mut batch = PartialBatch::new(count, bytes as usize);
                batch.take(input);
                self.state = State::Batch(batch);
                Parsed::NeedMore
            }
            Line::Put(head) => match head.key {
                Ok(key) => put(head, key, &mut self.state, input),
                Err(refusal) => Parsed::Refused(refusal),
            },
        }
    }

    /// How long the line may be that begins with what was kept of it and goes on with `input`.
    fn line_limit(&self, input: &[u8]) -> usize {
        let is_long = if self.line.is_empty() {
            input.starts_with(DELETE_BATCH)
        } else {
            let begin = self.line.iter().chain(input).take(DELETE_BATCH.len());
            begin.eq(DELETE_BATCH)
        };
        if is_long { BATCH_LINE_BYTES } else { LINE_BYTES }
    }

    /// Forgets the line, and keeps no more room than most lines take.
    fn forget_line(&mut self) {
        self.line.clear();
        self.line.shrink_to(LINE_BYTES);
    }

    /// Keeps the next `length` bytes, in which no line ends; a line that fills up to `limit` with them is too long.
    fn keep_part_of_line<'p, 'i: 'p>(&'p mut self, length: usize, limit: usize, input: &mut &'i [u8]) -> Parsed<'p> {
        let (part, after) = input.split_at(length);
        *input = after;
        let needed = self.line.len() + length;
        if needed < limit {
            // For most lines once for the life of the connection; for a longer one by what has arrived of it.
            if needed > self.line.capacity() {
                let capacity = limit.min(LINE_BYTES.max(2 * needed));
                self.line.reserve_exact(capacity - self.line.len());
            }
            self.line.extend_from_slice(part);
            return Parsed::NeedMore;
        }
        self.forget_line();
        let mut after_cr = part.last() == Some(&b'\r');
        if skip_long_line(&mut after_cr, input) {
            return Parsed::Refused(Refusal::BadFormat);
        }
        self.state = State::LongLine { after_cr };
        Parsed::NeedMore
    }
}

impl PartialPut {
    /// Takes what `input` has of the body and its CRLF; true once all of it was taken.
    fn take(&mut self, input: &mut &[u8]) -> bool {
        let missing = self.size - self.body.len();
        let (part, after) = input.split_at(missing.min(input.len()));
        let needed = self.body.len() + part.len();
        if needed > self.body.capacity() {
            // By what has arrived, not by what was announced.
            let capacity = self.size.min(needed.max(2 * self.body.capacity()));
            self.body.reserve_exact(capacity - self.body.len());
        }
        self.body.extend_from_slice(part);
        let tail = &after[..after.len().min(CRLF.len() - self.tail_bytes)];
        if self.body.len() == self.size {
            self.tail_fits &= CRLF[self.tail_bytes..].starts_with(tail);
            self.tail_bytes += tail.len();
            *input = &after[tail.len()..];
        } else {
            *input = after;
        }
        self.tail_bytes == CRLF.len()
    }

    /// The put, its last byte taken.
    fn finish(&mut self) -> Parsed<'static> {
        if !self.tail_fits {
            return Parsed::Refused(Refusal::ExpectedCrlf);
        }
        Parsed::Request(Request::Put(Put {
            priority: self.priority,
            when: self.when,
            ttr: self.ttr,
            key: self.key.take(),
            after: std::mem::take(&mut self.after),
            body: std::mem::take(&mut self.body).into_boxed_slice(),
        }))
    }
}

/// The put of this head, if its body is there; otherwise what is there is kept in `state`.
fn put(head: PutHead<'_>, key: Option<&[u8]>, state: &mut State, input: &mut &[u8]) -> Parsed<'static> {
    let PutHead { priority, when, ttr, size, .. } = head;
    let size = size as usize;
    let (key, after) = (key.map(Box::from), head.after());
    if input.len() < size + CRLF.len() {
        let (body, tail_bytes, tail_fits) = (Vec::new(), 0, true);
        let mut put = PartialPut { priority, when, ttr, key, after, size, body, tail_bytes, tail_fits };
        put.take(input);
        *state = State::Body(put);
        return Parsed::NeedMore;
    }
    let (body, behind) = input.split_at(size);
    let (tail, behind) = behind.split_at(CRLF.len());
    *input = behind;
    if tail != CRLF {
        return Parsed::Refused(Refusal::ExpectedCrlf);
    }
    Parsed::Request(Request::Put(Put { priority, when, ttr, key, after, body: body.into() }))
}

/// The most bytes of a batch: any job that can be put fits into one.
fn batch_limit(max_job_bytes: u32) -> usize {
    BATCH_BYTES.max(LINE_BYTES + max_job_bytes as usize + CRLF.len())
}

/// Drops what `input` has of `left` bytes, and refuses their command once all are gone.
fn too_big(mut left: u64, refusal: Refusal, state: &mut State, input: &mut &[u8]) -> Parsed<'static> {
    if skip_body(&mut left, input) {
        return Parsed::Refused(refusal);
    }
    *state = State::TooBig { left, refusal };
    Parsed::NeedMore
}

/// Drops what `input` has of a line that is too long; true once its end was dropped.
fn skip_long_line(after_cr: &mut bool, input: &mut &[u8]) -> bool {
    if let Some(end) = line_end(input, *after_cr) {
        *input = &input[end..];
        return true;
    }
    if let Some(&last) = input.last() {
        *after_cr = last == b'\r';
    }
    *input = &[];
    false
}

/// Drops what `input` has of the `left` bytes to be dropped; true once none is left.
fn skip_body(left: &mut u64, input: &mut &[u8]) -> bool {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *input = &input[here..];
    *left -= here as u64;
    *left == 0
}

/// Where the first line in `bytes` ends: behind its CRLF. `after_cr` says that the byte before `bytes` is a CR.
fn line_end(bytes: &[u8], after_cr: bool) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes)
        .find(|&lf| if lf == 0 { after_cr } else { bytes[lf - 1] == b'\r' })
        .map(|lf| lf + 1)
}
