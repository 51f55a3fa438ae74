//! A file seen through a window: a piece of it in memory, moved along as it is read.
//!
//! [`super::walk`] and [`super::rescue`] read through it, so that a segment of any length costs what its largest group
//! does. A block that the disk cannot give reads as zeros and is remembered: what was in it is lost, and what is around
//! it is not.

use crate::storage::ReadAt;
use std::collections::BTreeSet;
use std::io;

/// How much is read at once, in bytes.
const CHUNK_BYTES: u64 = 256 << 10;

/// What a disk fails to read is narrowed down to blocks of this length, in bytes.
const BLOCK_BYTES: u64 = 4096;

pub(in crate::log) struct Window<'f> {
    file: Box<dyn ReadAt + 'f>,
    length: u64,
    /// Where the piece in memory begins.
    start: u64,
    bytes: Vec<u8>,
    unreadable: BTreeSet<u64>,
}

impl<'f> Window<'f> {
    pub(in crate::log) fn new(file: Box<dyn ReadAt + 'f>) -> io::Result<Window<'f>> {
        let length = file.length()?;
        Ok(Window { file, length, start: 0, bytes: Vec::new(), unreadable: BTreeSet::new() })
    }

    /// The file's length when it was opened, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The offsets of blocks that the disk could not read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = u64> + '_ {
        self.unreadable.iter().copied()
    }

    /// `count` bytes from `offset` on; `None` where the file ends before.
    pub(in crate::log) fn get(&mut self, offset: u64, count: u64) -> Option<&[u8]> {
        let end = offset.checked_add(count).filter(|&end| end <= self.length)?;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            self.load(offset, count.max(CHUNK_BYTES).min(self.length - offset));
        }
        let at = usize::try_from(offset - self.start).ok()?;
        self.bytes.get(at..)?.get(..usize::try_from(count).ok()?)
    }

    /// As many bytes from `offset` on as are read at once, up to `end`; empty at the end.
    pub(super) fn chunk(&mut self, offset: u64, end: u64) -> &[u8] {
        let count = end.min(self.length).saturating_sub(offset).min(CHUNK_BYTES);
        self.get(offset, count).unwrap_or_default()
    }

    /// Reads everything anew from here on: somebody may have written meanwhile.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
    }

    /// Where the last byte that is not zero ends.
    pub(super) fn data_end(&mut self) -> u64 {
        let mut end = self.length;
        while end > 0 {
            let start = end.saturating_sub(CHUNK_BYTES);
            let bytes = self.get(start, end - start).unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                return start + last as u64 + 1;
            }
            end = start;
        }
        0
    }

    fn load(&mut self, offset: u64, count: u64) {
        self.start = offset;
        self.bytes.clear();
        // A large buffer goes back once a small piece is asked for.
        if self.bytes.capacity() as u64 > 4 * count {
            self.bytes = Vec::new();
        }
        // The count is within the file, and is that of a group or a chunk.
        self.bytes.resize(usize::try_from(count).unwrap_or(0), 0);
        if self.file.read_at(offset, &mut self.bytes).is_ok() {
            return;
        }
        let mut at = offset;
        while at < offset + count {
            let block_end = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
            let end = block_end.min(offset + count);
            let place = (at - offset) as usize..(end - offset) as usize;
            if self.file.read_at(at, &mut self.bytes[place.clone()]).is_err() {
                self.bytes[place].fill(0);
                self.unreadable.insert(at / BLOCK_BYTES * BLOCK_BYTES);
            }
            at = end;
        }
    }
}
