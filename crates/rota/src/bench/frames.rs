//! The bytes of commands, formatted before or without allocation, and answers parsed in place.

use super::DelayRange;

/// The priority of every job.
const PRIORITY: u32 = 1024;

/// The TTR of every job, in seconds: longer than any round.
const TTR_S: u64 = 86_400;

/// A body that a garbled copy is unlikely to equal.
pub(super) fn pattern(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

/// Appends a put without a delay.
pub(super) fn push_put(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(format!("put {PRIORITY} 0 {TTR_S} {}\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Appends a put with a delay, in the grammar that `delays` needs; gives where the body begins.
pub(super) fn push_delayed_put(out: &mut Vec<u8>, delays: DelayRange, delay_ms: u64, body: &[u8]) -> usize {
    let (command, delay, ttr) = match delays.is_whole_seconds() {
        true => ("put ", delay_ms / 1_000, TTR_S),
        false => ("put-in ", delay_ms, TTR_S * 1_000),
    };
    out.extend_from_slice(command.as_bytes());
    for number in [u64::from(PRIORITY), delay, ttr] {
        push_number(out, number);
        out.push(b' ');
    }
    push_number(out, body.len() as u64);
    out.extend_from_slice(b"\r\n");
    let start = out.len();
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
    start
}

/// Appends a delete.
pub(super) fn push_delete(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(b"delete ");
    push_number(out, id);
    out.extend_from_slice(b"\r\n");
}

/// Appends a delete of them all.
pub(super) fn push_delete_batch(out: &mut Vec<u8>, ids: &[u64]) {
    out.extend_from_slice(b"delete-batch");
    for id in ids {
        out.push(b' ');
        push_number(out, *id);
    }
    out.extend_from_slice(b"\r\n");
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// What stands at the beginning of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// The answer looked for, and how many bytes it takes.
    Answer(T, usize),
    /// The beginning of it: more must be read.
    Part,
    /// Something else.
    Other,
}

impl<T> Found<T> {
    /// Goes on behind the answer with `next`, which gets the value and the place behind it.
    #[inline]
    pub(super) fn then<U>(self, next: impl FnOnce(T, usize) -> Found<U>) -> Found<U> {
        match self {
            Found::Answer(value, end) => next(value, end),
            Found::Part => Found::Part,
            Found::Other => Found::Other,
        }
    }
}

/// Looks for `text` itself.
#[inline]
pub(super) fn exactly(input: &[u8], text: &[u8]) -> Found<()> {
    match input.len() >= text.len() {
        true if input.starts_with(text) => Found::Answer((), text.len()),
        false if text.starts_with(input) => Found::Part,
        _ => Found::Other,
    }
}

/// Looks for `INSERTED <id>`.
pub(super) fn inserted(input: &[u8]) -> Found<u64> {
    literal(input, 0, b"INSERTED ")
        .then(|(), at| number(input, at))
        .then(|id, at| literal(input, at, b"\r\n").then(|(), end| Found::Answer(id, end)))
}

/// Looks for `BATCH_INSERTED <count>` and as many ids, which it appends; gives the count again.
pub(super) fn batch_inserted(input: &[u8], count: usize, ids: &mut Vec<u64>) -> Found<usize> {
    let before = ids.len();
    let counted = literal(input, 0, b"BATCH_INSERTED ").then(|(), at| number(input, at));
    let found = counted.then(|found, mut at| {
        if found != count as u64 {
            return Found::Other;
        }
        for _ in 0..count {
            match literal(input, at, b" ").then(|(), at| number(input, at)) {
                Found::Answer(id, end) => {
                    ids.push(id);
                    at = end;
                }
                Found::Part => return Found::Part,
                Found::Other => return Found::Other,
            }
        }
        literal(input, at, b"\r\n").then(|(), end| Found::Answer(count, end))
    });
    if !matches!(found, Found::Answer(..)) {
        ids.truncate(before);
    }
    found
}

/// Looks for `BATCH_RESERVED <count>`.
pub(super) fn batch_reserved(input: &[u8]) -> Found<u64> {
    literal(input, 0, b"BATCH_RESERVED ")
        .then(|(), at| number(input, at))
        .then(|count, at| literal(input, at, b"\r\n").then(|(), end| Found::Answer(count, end)))
}

/// Looks for `RESERVED <id> <bytes>` and a body of `size` bytes; gives the id and where the body begins.
pub(super) fn reserved(input: &[u8], size: usize) -> Found<(u64, usize)> {
    let id = literal(input, 0, b"RESERVED ").then(|(), at| number(input, at));
    id.then(|id, at| {
        let bytes = literal(input, at, b" ").then(|(), at| number(input, at));
        bytes.then(|bytes, at| match bytes == size as u64 {
            true => literal(input, at, b"\r\n")
                .then(|(), body| literal(input, body + size, b"\r\n").then(|(), end| Found::Answer((id, body), end))),
            false => Found::Other,
        })
    })
}

/// Looks for `text` at a place; the answer's end is counted from the input's beginning.
#[inline]
fn literal(input: &[u8], at: usize, text: &[u8]) -> Found<()> {
    let Some(rest) = input.get(at..) else {
        return Found::Part;
    };
    exactly(rest, text).then(|(), taken| Found::Answer((), at + taken))
}

/// Reads the digits at a place: at least one, and something must follow.
#[inline]
fn number(input: &[u8], at: usize) -> Found<u64> {
    let mut value: u64 = 0;
    let Some(rest) = input.get(at..) else {
        return Found::Part;
    };
    for (digits, byte) in rest.iter().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => u64::from(byte - b'0'),
            _ if digits == 0 => return Found::Other,
            _ => return Found::Answer(value, at + digits),
        };
        match value.checked_mul(10).and_then(|tens| tens.checked_add(digit)) {
            Some(more) => value = more,
            None => return Found::Other,
        }
    }
    Found::Part
}
