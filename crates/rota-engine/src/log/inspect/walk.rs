//! A walk over a segment's groups that goes on behind damage: at the next valid group header.
//!
//! [`super::pass`] walks. Unlike the reader of a start ([`crate::log::recovery`]), it holds a group at a time, and judges
//! nothing: it says what there is.

use super::window::Window;
use crate::log::segment::{
    Damage, GROUP_ALIGNMENT, GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, GroupSalt, SEGMENT_HEADER_BYTES,
    missing_header,
};
use crate::storage::{ReadAt, StoreId};
use std::io;

const ALIGNMENT: u64 = GROUP_ALIGNMENT as u64;
const HEADER_BYTES: u64 = GROUP_HEADER_BYTES as u64;

/// What stands next in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// A group with a right header; its payload is right too, or it is not.
    Group(FoundGroup),
    /// Bytes that are no group, up to the next valid group header or the end of what is not zero.
    Hole {
        from: u64,
        to: u64,
        /// The header that follows, if one does.
        next: Option<GroupHeader>,
        found: Damage,
    },
    /// Nothing but zeros.
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FoundGroup {
    pub(super) at: u64,
    pub(super) header: GroupHeader,
    /// The header's checksum, which the next group's chain repeats.
    pub(super) checksum: u32,
    pub(super) payload_at: u64,
    /// Where the payload ends, or the file.
    pub(super) payload_end: u64,
    pub(super) is_whole: bool,
}

pub(super) struct Walk<'f> {
    pub(super) window: Window<'f>,
    salt: GroupSalt,
    /// Where the next piece begins.
    pub(super) offset: u64,
    /// Where the zeros at the end begin.
    pub(super) data_end: u64,
}

impl<'f> Walk<'f> {
    /// Begins behind the segment header of a file that holds that segment.
    pub(super) fn new(file: Box<dyn ReadAt + 'f>, store: StoreId, segment: u64) -> io::Result<Walk<'f>> {
        let mut window = Window::new(file)?;
        let data_end = window.data_end();
        let salt = GroupSalt::new(store, segment);
        Ok(Walk { window, salt, offset: SEGMENT_HEADER_BYTES as u64, data_end })
    }

    /// Reads the file's bytes anew, from `offset` on.
    pub(super) fn again_from(&mut self, offset: u64) {
        self.window.forget();
        self.offset = offset;
    }

    /// What comes next; the walk stands behind it on return.
    pub(super) fn next(&mut self) -> Piece {
        let from = self.offset;
        if let Some(group) = self.group_at(from) {
            self.offset = group.payload_end.next_multiple_of(ALIGNMENT);
            return Piece::Group(group);
        }
        if from >= self.data_end {
            return Piece::End;
        }
        let length = (self.window.length() - from).min(HEADER_BYTES);
        let found = missing_header(self.window.get(from, length).unwrap_or_default());
        let next = self.header_from(from + ALIGNMENT);
        let to = next.map_or(self.data_end, |(at, _)| at);
        self.offset = next.map_or(self.data_end.next_multiple_of(ALIGNMENT), |(at, _)| at);
        Piece::Hole { from, to, next: next.map(|(_, header)| header), found }
    }

    /// The header of the next group, if one stands right where the walk is.
    pub(super) fn peek(&mut self) -> Option<GroupHeader> {
        self.header_at(self.offset).map(|(header, _)| header)
    }

    /// A valid group header at or behind `from`, and where.
    pub(super) fn header_from(&mut self, from: u64) -> Option<(u64, GroupHeader)> {
        let mut from = from.next_multiple_of(ALIGNMENT);
        while from < self.data_end {
            let chunk = self.window.chunk(from, self.data_end);
            let steps = (0..chunk.len()).step_by(GROUP_ALIGNMENT);
            let found = steps.into_iter().find(|&at| chunk[at..].starts_with(&GROUP_MAGIC));
            let Some(at) = found else {
                from = (from + chunk.len() as u64).next_multiple_of(ALIGNMENT);
                continue;
            };
            let at = from + at as u64;
            if let Some((header, _)) = self.header_at(at) {
                return Some((at, header));
            }
            from = at + ALIGNMENT;
        }
        None
    }

    /// The valid group header at that place.
    pub(super) fn header_at(&mut self, offset: u64) -> Option<(GroupHeader, u32)> {
        GroupHeader::read(self.window.get(offset, HEADER_BYTES)?.first_chunk()?, &self.salt, offset)
    }

    fn group_at(&mut self, at: u64) -> Option<FoundGroup> {
        let (header, checksum) = self.header_at(at)?;
        let payload_at = at + HEADER_BYTES;
        let payload = self.window.get(payload_at, header.payload_bytes);
        let payload = payload.filter(|payload| payload.len() % GROUP_ALIGNMENT == 0);
        let is_whole = payload.is_some_and(|payload| crc32fast::hash(payload) == header.payload_checksum);
        let payload_end = payload_at.saturating_add(header.payload_bytes).min(self.window.length());
        Some(FoundGroup { at, header, checksum, payload_at, payload_end, is_whole })
    }
}
