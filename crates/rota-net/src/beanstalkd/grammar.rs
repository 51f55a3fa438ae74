//! What one command line says, its CRLF taken off. Framing is not known here: [`super::Parser`] calls in with whole lines.
//!
//! The quirks are beanstalkd's, and clients lean on them: a command is told by how its line *begins*, so `statsfoo` is a
//! malformed `stats` and not an unknown command; any number of spaces may stand before a number, none before a name.

use super::BATCH_JOBS;
use super::request::{BatchFault, Refusal, Request, TokenText, When};
use rota_engine::job::QueueName;
use rota_engine::limits::KEY_BYTES;
use std::time::Duration;

/// What a line says.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// A whole command.
    Request(Request<'a>),
    /// The head of a put: its body follows.
    Put(PutHead<'a>),
    /// The head of a batch of puts: so many bytes follow.
    PutBatch {
        /// How many puts they should be.
        count: usize,
        bytes: u32,
    },
    /// Nothing that can be carried out.
    Refused(Refusal),
}

/// The head of a put.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutHead<'a> {
    pub(super) priority: u32,
    pub(super) when: When,
    pub(super) ttr: Duration,
    /// The body's size as announced, without its CRLF.
    pub(super) size: u32,
    /// What follows the numbers; `Err` if it is neither nothing nor a key. The size is judged before this is.
    pub(super) key: Result<Option<&'a [u8]>, Refusal>,
    /// The ids of the jobs that must be done before, with commas between them.
    after: &'a [u8],
}

impl PutHead<'_> {
    /// The jobs that must be done before.
    pub(super) fn after(&self) -> Box<[u64]> {
        if self.after.is_empty() {
            return Box::default();
        }
        let mut rest = Rest(self.after);
        std::iter::from_fn(|| rest.listed_id()).collect()
    }
}

/// How the one line begins that may be longer than others.
pub(super) const DELETE_BATCH: &[u8] = b"delete-batch ";

/// The longest span that can be asked for in milliseconds: what fits the seconds of a plain put.
const MAX_SPAN_MS: u64 = u32::MAX as u64 * 1000 + 999;

/// The last moment that engine time reaches, in milliseconds since 1970: the year 2554.
const MAX_UNIX_MS: u64 = u64::MAX / 1_000_000;

/// Every number of so many digits fits 64 bits.
const SAFE_DIGITS: usize = 19;

/// Reads a line.
pub(super) fn line(line: &[u8]) -> Line<'_> {
    if let Some(numbers) = line.strip_prefix(b"put ") {
        return put(numbers);
    }
    if memchr::memchr(0, line).is_some() {
        return Line::Refused(Refusal::BadFormat);
    }
    match line.first() {
        Some(b'p') => peek_pause_or_put(line),
        Some(b'r') => reserve_or_release(line),
        Some(b's') => stats(line),
        Some(b'l') => list(line),
        _ => other(line),
    }
}

fn put(numbers: &[u8]) -> Line<'_> {
    let mut rest = Rest(numbers);
    let head = (|| {
        let priority = rest.u32()?;
        let delay = rest.seconds()?;
        // Clients that pass no time to run mean a short one, not none.
        let ttr = rest.seconds()?.max(Duration::from_secs(1));
        let size = rest.u32()?;
        let key = if rest.0.is_empty() { Ok(None) } else { Err(Refusal::BadFormat) };
        // A NUL spoils the line as a whole; other junk is noticed only once the size is judged.
        memchr::memchr(0, rest.0).is_none().then_some(PutHead {
            priority,
            when: When::In(delay),
            ttr,
            size,
            key,
            after: b"",
        })
    })();
    head.map_or(Line::Refused(Refusal::BadFormat), Line::Put)
}

/// The head of Rota's own puts, which differ in what their second number means, and in what comes before the numbers.
fn put_in_ms<'a>(after: &'a [u8], numbers: &'a [u8], when: impl FnOnce(u64) -> Option<When>) -> Line<'a> {
    let mut rest = Rest(numbers);
    let head = (|| {
        let priority = rest.u32()?;
        let when = when(rest.u64()?)?;
        let ttr = rest.millis()?.max(Duration::from_millis(1));
        Some(PutHead { priority, when, ttr, size: rest.u32()?, key: rest.optional_key(), after })
    })();
    head.map_or(Line::Refused(Refusal::BadFormat), Line::Put)
}

/// A put whose job waits for others.
fn put_after(rest: &[u8]) -> Line<'_> {
    let (after, numbers) = rest.split_at(rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len()));
    let mut ids = Rest(after);
    while ids.listed_id().is_some() {}
    if after.is_empty() || after.ends_with(b",") || !ids.0.is_empty() {
        return Line::Refused(Refusal::BadFormat);
    }
    put_in_ms(after, numbers, delay)
}

fn delay(ms: u64) -> Option<When> {
    (ms <= MAX_SPAN_MS).then(|| When::In(Duration::from_millis(ms)))
}

fn peek_pause_or_put(line: &[u8]) -> Line<'_> {
    if let Some(rest) = line.strip_prefix(b"peek ") {
        only_id(rest, |id| Request::Peek { id })
    } else if let Some(rest) = line.strip_prefix(b"peek-ready") {
        nothing_more(rest, Request::PeekReady)
    } else if let Some(rest) = line.strip_prefix(b"peek-delayed") {
        nothing_more(rest, Request::PeekDelayed)
    } else if let Some(rest) = line.strip_prefix(b"peek-buried") {
        nothing_more(rest, Request::PeekBuried)
    } else if let Some(rest) = line.strip_prefix(b"pause-tube") {
        pause_tube(rest)
    } else if let Some(rest) = line.strip_prefix(b"put-in ") {
        put_in_ms(b"", rest, delay)
    } else if let Some(rest) = line.strip_prefix(b"put-at ") {
        put_in_ms(b"", rest, |unix_ms| (unix_ms <= MAX_UNIX_MS).then_some(When::At { unix_ms }))
    } else if let Some(rest) = line.strip_prefix(b"put-after ") {
        put_after(rest)
    } else if let Some(rest) = line.strip_prefix(b"put-batch ") {
        let mut rest = Rest(rest);
        let head = (|| {
            let head = Line::PutBatch { count: rest.batch_jobs()?, bytes: rest.u32()? };
            rest.end(Some(head))
        })();
        head.unwrap_or(Line::Refused(Refusal::BadFormat))
    } else {
        Line::Refused(Refusal::UnknownCommand)
    }
}

fn reserve_or_release(line: &[u8]) -> Line<'_> {
    if let Some(rest) = line.strip_prefix(b"reserve-with-timeout ") {
        // What follows the number does not matter: beanstalkd does not look at it, and some clients send `1.5`.
        well_formed(Rest(rest).time_out().map(|seconds| Request::ReserveWithTimeout { seconds }))
    } else if let Some(rest) = line.strip_prefix(b"reserve-job ") {
        only_id(rest, |id| Request::ReserveJob { id })
    } else if let Some(rest) = line.strip_prefix(b"reserve-batch ") {
        let mut rest = Rest(rest);
        well_formed((|| {
            let request = Request::ReserveBatch { most: rest.batch_jobs()?, seconds: rest.time_out()? };
            rest.end(Some(request))
        })())
    } else if let Some(rest) = line.strip_prefix(b"reserve") {
        nothing_more(rest, Request::Reserve)
    } else if let Some(rest) = line.strip_prefix(b"release ") {
        let mut rest = Rest(rest);
        well_formed((|| {
            let request = Request::Release { id: rest.u64()?, priority: rest.u32()?, delay: rest.seconds()? };
            rest.end(Some(request))
        })())
    } else {
        Line::Refused(Refusal::UnknownCommand)
    }
}

fn stats(line: &[u8]) -> Line<'_> {
    if let Some(rest) = line.strip_prefix(b"stats-job ") {
        only_id(rest, |id| Request::StatsJob { id })
    } else if let Some(rest) = line.strip_prefix(b"stats-tube ") {
        only_name(rest, |tube| Request::StatsTube { tube })
    } else if let Some(rest) = line.strip_prefix(b"stats") {
        nothing_more(rest, Request::Stats)
    } else {
        Line::Refused(Refusal::UnknownCommand)
    }
}

fn list(line: &[u8]) -> Line<'_> {
    if let Some(rest) = line.strip_prefix(b"list-tubes-watched") {
        nothing_more(rest, Request::ListTubesWatched)
    } else if let Some(rest) = line.strip_prefix(b"list-tube-used") {
        nothing_more(rest, Request::ListTubeUsed)
    } else if let Some(rest) = line.strip_prefix(b"list-tubes") {
        nothing_more(rest, Request::ListTubes)
    } else {
        Line::Refused(Refusal::UnknownCommand)
    }
}

fn other(line: &[u8]) -> Line<'_> {
    if let Some(rest) = line.strip_prefix(b"delete ") {
        only_id(rest, |id| Request::Delete { id })
    } else if let Some(rest) = line.strip_prefix(DELETE_BATCH) {
        delete_batch(rest)
    } else if let Some(rest) = line.strip_prefix(b"touch ") {
        only_id(rest, |id| Request::Touch { id })
    } else if let Some(rest) = line.strip_prefix(b"bury ") {
        let mut rest = Rest(rest);
        well_formed((|| {
            let request = Request::Bury { id: rest.u64()?, priority: rest.u32()? };
            rest.end(Some(request))
        })())
    } else if let Some(rest) = line.strip_prefix(b"use ") {
        only_name(rest, |tube| Request::Use { tube })
    } else if let Some(rest) = line.strip_prefix(b"watch ") {
        only_name(rest, |tube| Request::Watch { tube })
    } else if let Some(rest) = line.strip_prefix(b"ignore ") {
        only_name(rest, |tube| Request::Ignore { tube })
    } else if let Some(rest) = line.strip_prefix(b"kick ") {
        well_formed(kick_bound(rest).map(|bound| Request::Kick { bound }))
    } else if let Some(rest) = line.strip_prefix(b"kick-job ") {
        only_id(rest, |id| Request::KickJob { id })
    } else if let Some(rest) = line.strip_prefix(b"cancel ") {
        only_id(rest, |id| Request::Cancel { id })
    } else if let Some(rest) = line.strip_prefix(b"cancel-key ") {
        cancel_key(rest)
    } else if line.starts_with(b"quit") {
        Line::Request(Request::Quit)
    } else if let Some(rest) = line.strip_prefix(b"auth ") {
        well_formed(token(rest).map(|token| Request::Auth { token }))
    } else {
        Line::Refused(Refusal::UnknownCommand)
    }
}

/// All of what is left, if it could be a token.
fn token(bytes: &[u8]) -> Option<TokenText<'_>> {
    let fits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
    if fits { std::str::from_utf8(bytes).ok().map(TokenText) } else { None }
}

fn pause_tube(rest: &[u8]) -> Line<'_> {
    let rest = skip_spaces(rest);
    let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
    let (tube, rest) = rest.split_at(end);
    let mut rest = Rest(rest);
    well_formed((|| {
        let request = Request::PauseTube { tube: name(tube)?, delay: rest.seconds()? };
        rest.end(Some(request))
    })())
}

fn cancel_key(rest: &[u8]) -> Line<'_> {
    let space = rest.iter().position(|&byte| byte == b' ');
    well_formed((|| {
        let (tube, key) = rest.split_at(space?);
        Some(Request::CancelKey { tube: name(tube)?, key: key_after_space(key)? })
    })())
}

fn delete_batch(rest: &[u8]) -> Line<'_> {
    if rest.is_empty() {
        return Line::Refused(Refusal::BadFormat);
    }
    let mut rest = Rest(rest);
    let mut ids = Vec::new();
    while !rest.0.is_empty() {
        let id = rest.u64().filter(|_| matches!(rest.0, [] | [b' ', ..]) && ids.len() < BATCH_JOBS);
        let Some(id) = id else {
            return Line::Refused(Refusal::InBatch { item: ids.len() + 1, fault: BatchFault::BadFormat });
        };
        ids.push(id);
    }
    Line::Request(Request::DeleteBatch(ids))
}

/// The number after `kick`, read as C's `strtoul` reads it: white space and a sign may come before, anything after. A
/// number too large for 32 bits, and a negative one, mean all jobs.
fn kick_bound(rest: &[u8]) -> Option<u32> {
    let white = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = rest.iter().position(|byte| !white(byte))?;
    let (negative, digits) = match rest[start] {
        b'-' => (true, &rest[start + 1..]),
        b'+' => (false, &rest[start + 1..]),
        _ => (false, &rest[start..]),
    };
    digits.first().filter(|byte| byte.is_ascii_digit())?;
    let bound = Rest(digits).u64()?;
    if negative && bound > 0 { Some(u32::MAX) } else { Some(u32::try_from(bound).unwrap_or(u32::MAX)) }
}

fn only_id<'a>(rest: &'a [u8], request: impl FnOnce(u64) -> Request<'a>) -> Line<'a> {
    let mut rest = Rest(rest);
    let id = rest.u64();
    well_formed(rest.end(id).map(request))
}

fn only_name<'a>(rest: &'a [u8], request: impl FnOnce(&'a str) -> Request<'a>) -> Line<'a> {
    well_formed(name(rest).map(request))
}

fn nothing_more<'a>(rest: &[u8], request: Request<'a>) -> Line<'a> {
    well_formed(rest.is_empty().then_some(request))
}

fn well_formed(request: Option<Request<'_>>) -> Line<'_> {
    request.map_or(Line::Refused(Refusal::BadFormat), Line::Request)
}

/// The bytes as a queue's name, if they are one.
fn name(bytes: &[u8]) -> Option<&str> {
    if QueueName::is_valid(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// A key with the one space before it.
fn key_after_space(bytes: &[u8]) -> Option<&[u8]> {
    let key = bytes.strip_prefix(b" ")?;
    let fits = (1..=KEY_BYTES).contains(&key.len());
    (fits && key.iter().all(u8::is_ascii_graphic)).then_some(key)
}

/// What is left of a line.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// The next number, with any spaces before it.
    fn u64(&mut self) -> Option<u64> {
        let digits = skip_spaces(self.0);
        let mut rest = digits;
        let mut number = 0u64;
        while let [digit @ b'0'..=b'9', others @ ..] = rest {
            let digit = u64::from(digit - b'0');
            number = if digits.len() - others.len() <= SAFE_DIGITS {
                number * 10 + digit
            } else {
                number.checked_mul(10)?.checked_add(digit)?
            };
            rest = others;
        }
        self.0 = rest;
        (rest.len() < digits.len()).then_some(number)
    }

    /// The next id of a list, with the comma behind it.
    fn listed_id(&mut self) -> Option<u64> {
        let id = self.u64()?;
        self.0 = match self.0 {
            [b',', rest @ ..] => rest,
            rest if rest.is_empty() => rest,
            _ => return None,
        };
        Some(id)
    }

    fn u32(&mut self) -> Option<u32> {
        self.u64().and_then(|number| u32::try_from(number).ok())
    }

    /// A number of jobs of a batch.
    fn batch_jobs(&mut self) -> Option<usize> {
        let jobs = self.u64().and_then(|jobs| usize::try_from(jobs).ok());
        jobs.filter(|jobs| (1..=BATCH_JOBS).contains(jobs))
    }

    /// A time to wait, in seconds.
    fn time_out(&mut self) -> Option<u32> {
        self.u32().filter(|&seconds| i32::try_from(seconds).is_ok())
    }

    fn seconds(&mut self) -> Option<Duration> {
        self.u32().map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn millis(&mut self) -> Option<Duration> {
        self.u64().filter(|&ms| ms <= MAX_SPAN_MS).map(Duration::from_millis)
    }

    /// `value` if nothing is left of the line.
    fn end<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| self.0.is_empty())
    }

    fn optional_key(&self) -> Result<Option<&'a [u8]>, Refusal> {
        if self.0.is_empty() { Ok(None) } else { key_after_space(self.0).map(Some).ok_or(Refusal::BadFormat) }
    }
}

/// Without the spaces at the start; tabs stay.
fn skip_spaces(mut bytes: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}
