//! A batch of puts: so many bytes, which hold puts as they are sent alone.
//!
//! The bytes are announced, so that whatever they hold, what follows them is a line again. Nothing of a batch is told before
//! all of it is there.

use super::super::grammar::{self, Line};
use super::super::request::{BatchFault, Put, Refusal, Request};
use super::{CRLF, LINE_BYTES, Parsed, line_end};

/// A batch that has not arrived whole.
#[derive(Debug)]
pub(super) struct PartialBatch {
    /// How many puts it should hold.
    count: usize,
    /// Its length as announced, in bytes.
    size: usize,
    pub(super) bytes: Vec<u8>,
}

impl PartialBatch {
    pub(super) fn new(count: usize, size: usize) -> PartialBatch {
        PartialBatch { count, size, bytes: Vec::new() }
    }

    /// Takes what `input` has of it; true once all of it was taken.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> bool {
        let missing = self.size - self.bytes.len();
        let (part, after) = input.split_at(missing.min(input.len()));
        *input = after;
        let needed = self.bytes.len() + part.len();
        if needed > self.bytes.capacity() {
            // By what has arrived, not by what was announced.
            let capacity = self.size.min(needed.max(2 * self.bytes.capacity()));
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        self.bytes.len() == self.size
    }

    /// The batch, its last byte taken.
    pub(super) fn finish(&self, max_job_bytes: u32) -> Parsed<'static> {
        puts(self.count, &self.bytes, max_job_bytes)
    }
}

/// The batch of these bytes: exactly `count` puts, or it is refused.
pub(super) fn puts(count: usize, mut bytes: &[u8], max_job_bytes: u32) -> Parsed<'static> {
    let mut puts = Vec::with_capacity(count);
    for item in 1..=count {
        match put(&mut bytes, max_job_bytes) {
            Ok(put) => puts.push(put),
            Err(fault) => return Parsed::Refused(Refusal::InBatch { item, fault }),
        }
    }
    if bytes.is_empty() {
        Parsed::Request(Request::PutBatch(puts))
    } else {
        Parsed::Refused(Refusal::InBatch { item: count + 1, fault: BatchFault::BadFormat })
    }
}

/// Takes one put off the front; `None` if its job is larger than a job may be.
fn put(bytes: &mut &[u8], max_job_bytes: u32) -> Result<Option<Put>, BatchFault> {
    let end = line_end(&bytes[..bytes.len().min(LINE_BYTES)], false).ok_or(BatchFault::BadFormat)?;
    let (line, after) = bytes.split_at(end);
    let Line::Put(head) = grammar::line(&line[..end - CRLF.len()]) else {
        return Err(BatchFault::BadFormat);
    };
    let (body, after) = after.split_at_checked(head.size as usize).ok_or(BatchFault::BadFormat)?;
    let (tail, after) = after.split_at_checked(CRLF.len()).ok_or(BatchFault::BadFormat)?;
    *bytes = after;
    // As with a put alone, the size is judged before what follows it.
    if head.size > max_job_bytes {
        return Ok(None);
    }
    let key = head.key.map_err(|_| BatchFault::BadFormat)?;
    if tail != CRLF {
        return Err(BatchFault::ExpectedCrlf);
    }
    Ok(Some(Put {
        priority: head.priority,
        when: head.when,
        ttr: head.ttr,
        key: key.map(Box::from),
        after: head.after(),
        body: body.into(),
    }))
}
