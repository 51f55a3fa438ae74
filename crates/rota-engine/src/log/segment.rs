//! The frame that records stand in: segment headers, group headers, and the walk over a segment's groups.
//!
//! [`super::writer`] writes them, [`super::recovery`] reads them. The layout is in `docs/disk-format.md`. Nothing here
//! does I/O, and nothing here trusts a byte: what is not right is a [`Damage`], with its offset.

use super::Lsn;
use super::record::RecordFault;
use crate::storage::StoreId;
use crc32fast::Hasher;
use std::collections::VecDeque;

/// The version of the format that is written, and the newest that is read.
pub const FORMAT_VERSION: u16 = 1;

/// Length of a segment header in bytes.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;

/// Length of a group header in bytes.
pub(super) const GROUP_HEADER_BYTES: usize = 48;

/// Groups begin at multiples of this, in bytes.
pub(super) const GROUP_ALIGNMENT: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"ROTA-SEG";
pub(super) const GROUP_MAGIC: [u8; 4] = *b"RGRP";
const SEAL: u32 = 1;

/// What was found in a segment that should not be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// The segment header is cut short, or its magic or checksum is wrong.
    #[error("a damaged segment header")]
    SegmentHeader,
    /// Zeros, or the end of the file, where a group should be.
    #[error("nothing where a group of records should be")]
    Nothing,
    /// No group header, or one with a wrong checksum.
    #[error("a damaged group header")]
    GroupHeader,
    /// A group header that is right in itself, but does not follow the group before it.
    #[error("a group that does not follow the one before it")]
    OutOfPlace,
    /// A group whose payload is cut short or has a wrong checksum.
    #[error("a damaged group of records")]
    Payload,
    /// A group whose checksum is right and whose records are not: a newer server's, or a bug.
    #[error("{0}")]
    Record(RecordFault),
}

/// The first bytes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) store: StoreId,
    pub(super) segment: u64,
    pub(super) first_lsn: Lsn,
    /// The oldest segment that recovery needed when this one was begun.
    pub(super) oldest_needed: u64,
    /// The checksum of the last group header before this segment.
    pub(super) chain: u32,
}

/// The first segment that a start reads, out of the headers of files with their numbers, the newest first: as the newest header says
/// that belongs to the store, whatever its file is called. `None` if there is none.
pub(super) fn oldest_needed<E>(
    headers: impl Iterator<Item = Result<(u64, Option<SegmentHeader>), E>>,
    store: Option<StoreId>,
) -> Result<Option<u64>, E> {
    let mut newest: Option<SegmentHeader> = None;
    for found in headers {
        let (number, header) = found?;
        let is_ours = |header: &SegmentHeader| {
            store.is_none_or(|store| store == header.store) && (1..=header.segment).contains(&header.oldest_needed)
        };
        let Some(header) = header.filter(is_ours) else { continue };
        if newest.is_none_or(|newest| newest.segment < header.segment) {
            newest = Some(header);
        }
        // Those before it are older.
        if header.segment == number {
            break;
        }
    }
    Ok(newest.map(|header| header.oldest_needed))
}

/// Why a segment header cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeaderFault {
    Damaged,
    NewerVersion(u16),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(SEGMENT_HEADER_BYTES as u16).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store.0);
        bytes[32..40].copy_from_slice(&self.segment.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.oldest_needed.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.chain.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        if bytes.get(..8) != Some(&SEGMENT_MAGIC) || bytes.len() < 12 {
            return Err(HeaderFault::Damaged);
        }
        let version = u16_at(bytes, 8);
        let length = usize::from(u16_at(bytes, 10));
        // Only a header whose checksum is right is believed to be a newer one.
        let header = bytes.get(..length).filter(|header| header.len() >= 16).ok_or(HeaderFault::Damaged)?;
        if crc32fast::hash(&header[..length - 4]) != u32_at(header, length - 4) {
            return Err(HeaderFault::Damaged);
        }
        if version > FORMAT_VERSION {
            return Err(HeaderFault::NewerVersion(version));
        }
        // The namespace and what is beside it are zero until a version gives them a meaning.
        if version != FORMAT_VERSION || length != SEGMENT_HEADER_BYTES || header[12..16] != [0; 4] {
            return Err(HeaderFault::Damaged);
        }
        Ok(SegmentHeader {
            store: StoreId(*header[16..].first_chunk().expect("the header is 64 bytes long")),
            segment: u64_at(header, 32),
            first_lsn: Lsn(u64_at(header, 40)),
            oldest_needed: u64_at(header, 48),
            chain: u32_at(header, 56),
        })
    }

    /// The checksum in the encoded header, which the first group's chain repeats.
    pub(super) fn checksum(&self) -> u32 {
        u32_at(&self.encode(), 60)
    }
}

/// The first bytes of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHeader {
    pub(super) payload_bytes: u64,
    pub(super) first_lsn: Lsn,
    /// The highest LSN that was known to be durable when the group was written.
    pub(super) durable: Lsn,
    pub(super) records: u32,
    /// Whether a successor of the segment was durable when the group was written.
    pub(super) is_seal: bool,
    pub(super) chain: u32,
    pub(super) payload_checksum: u32,
}

/// What binds group headers to their store and segment: no bytes from elsewhere can pass for one.
#[derive(Clone, Debug)]
pub(super) struct GroupSalt(Hasher);

impl GroupSalt {
    pub(super) fn new(store: StoreId, segment: u64) -> GroupSalt {
        let mut hasher = Hasher::new();
        hasher.update(&store.0);
        hasher.update(&segment.to_le_bytes());
        GroupSalt(hasher)
    }

    fn checksum(&self, offset: u64, header: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(&header[8..GROUP_HEADER_BYTES]);
        hasher.finalize()
    }
}

impl GroupHeader {
    /// Writes the header into the first bytes of a group; returns its checksum, for the chain.
    pub(super) fn encode(&self, salt: &GroupSalt, offset: u64, into: &mut [u8]) -> u32 {
        into[..4].copy_from_slice(&GROUP_MAGIC);
        into[8..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        into[16..24].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        into[24..32].copy_from_slice(&self.durable.0.to_le_bytes());
        into[32..36].copy_from_slice(&self.records.to_le_bytes());
        into[36..40].copy_from_slice(&if self.is_seal { SEAL } else { 0 }.to_le_bytes());
        into[40..44].copy_from_slice(&self.chain.to_le_bytes());
        into[44..48].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = salt.checksum(offset, into);
        into[4..8].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// Reads the header that a segment has at `offset`, and its checksum; `None` if there is no valid one.
    fn decode(segment: &[u8], salt: &GroupSalt, offset: usize) -> Option<(GroupHeader, u32)> {
        let bytes = segment.get(offset..)?.first_chunk()?;
        GroupHeader::read(bytes, salt, offset as u64)
    }

    /// The same, from bytes that were found at `offset`.
    pub(super) fn read(bytes: &[u8; GROUP_HEADER_BYTES], salt: &GroupSalt, offset: u64) -> Option<(GroupHeader, u32)> {
        let checksum = u32_at(bytes, 4);
        if bytes[..4] != GROUP_MAGIC || salt.checksum(offset, bytes) != checksum {
            return None;
        }
        let flags = u32_at(bytes, 36);
        let header = GroupHeader {
            payload_bytes: u64_at(bytes, 8),
            first_lsn: Lsn(u64_at(bytes, 16)),
            durable: Lsn(u64_at(bytes, 24)),
            records: u32_at(bytes, 32),
            is_seal: flags & SEAL != 0,
            chain: u32_at(bytes, 40),
            payload_checksum: u32_at(bytes, 44),
        };
        (flags & !SEAL == 0).then_some((header, checksum))
    }
}

/// A group that is right, with its records' bytes.
pub(super) struct CheckedGroup<'a> {
    pub(super) first_lsn: Lsn,
    pub(super) records: u32,
    /// Where its payload begins in the segment.
    pub(super) payload_at: usize,
    pub(super) payload: &'a [u8],
}

/// A walk over the groups of one segment, from the first on.
pub(super) struct Groups<'a> {
    bytes: &'a [u8],
    salt: GroupSalt,
    /// Where the next group should be.
    pub(super) offset: usize,
    /// The LSN that it should begin with.
    pub(super) next_lsn: Lsn,
    /// The checksum that its chain should hold.
    pub(super) chain: u32,
    /// Whether the walk has met the seal: the segment has a successor.
    pub(super) is_sealed: bool,
    /// The highest LSN that a group met so far says to have been durable.
    durable: Lsn,
    /// Where the groups begin that none met so far says to have been durable, each with its last record.
    unproven: VecDeque<(usize, Lsn)>,
}

impl<'a> Groups<'a> {
    /// Begins a walk in a segment whose header was found right.
    pub(super) fn new(bytes: &'a [u8], header: &SegmentHeader) -> Groups<'a> {
        Groups {
            bytes,
            salt: GroupSalt::new(header.store, header.segment),
            offset: SEGMENT_HEADER_BYTES,
            next_lsn: header.first_lsn,
            chain: header.checksum(),
            is_sealed: false,
            durable: Lsn(0),
            unproven: VecDeque::new(),
        }
    }

    /// Where those of the groups met so far begin that may never have been durable; the offset if there is none.
    pub(super) fn unproven_from(&self) -> usize {
        self.unproven.front().map_or(self.offset, |&(at, _)| at)
    }

    /// The next group, be it a mark; `None` at the end, where nothing but zeros follows.
    ///
    /// After damage the walk stands where it stood, so that its offset and LSN are those of the damage.
    pub(super) fn next(&mut self) -> Result<Option<CheckedGroup<'a>>, Damage> {
        if self.is_sealed {
            return Ok(None);
        }
        let Some((header, checksum)) = GroupHeader::decode(self.bytes, &self.salt, self.offset) else {
            let rest = self.bytes.get(self.offset..).unwrap_or_default();
            return if is_zero(rest) { Ok(None) } else { Err(missing_header(rest)) };
        };
        if header.first_lsn != self.next_lsn || header.chain != self.chain {
            return Err(Damage::OutOfPlace);
        }
        let payload_at = self.offset + GROUP_HEADER_BYTES;
        let payload = usize::try_from(header.payload_bytes).ok();
        let payload = payload.and_then(|length| self.bytes.get(payload_at..)?.get(..length));
        let payload = payload.filter(|payload| payload.len() % GROUP_ALIGNMENT == 0).ok_or(Damage::Payload)?;
        if crc32fast::hash(payload) != header.payload_checksum {
            return Err(Damage::Payload);
        }
        let next_lsn = self.next_lsn.0.checked_add(header.records.into()).ok_or(Damage::OutOfPlace)?;
        self.durable = self.durable.max(header.durable);
        self.unproven.push_back((self.offset, Lsn(next_lsn.saturating_sub(1))));
        while self.unproven.front().is_some_and(|&(_, last)| last <= self.durable) {
            self.unproven.pop_front();
        }
        self.offset = payload_at + payload.len();
        self.next_lsn = Lsn(next_lsn);
        self.chain = if header.is_seal { self.chain } else { checksum };
        self.is_sealed = header.is_seal;
        Ok(Some(CheckedGroup { first_lsn: header.first_lsn, records: header.records, payload_at, payload }))
    }

    /// The highest durable LSN mentioned by any valid group header from here to the end of the file.
    pub(super) fn durable_mentioned_later(&self) -> Option<Lsn> {
        let candidates = (self.offset..self.bytes.len()).step_by(GROUP_ALIGNMENT);
        candidates
            .filter(|&at| self.bytes[at..].starts_with(&GROUP_MAGIC))
            .filter_map(|at| GroupHeader::decode(self.bytes, &self.salt, at).map(|(header, _)| header.durable))
            .max()
    }

    /// How many bytes from here on are not the zeros at the end of the file.
    pub(super) fn bytes_left(&self) -> u64 {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
    }
}

/// What to call bytes that are no group header, where they are not the zeros at the end.
pub(super) fn missing_header(rest: &[u8]) -> Damage {
    let begin = &rest[..rest.len().min(GROUP_HEADER_BYTES)];
    if is_zero(begin) { Damage::Nothing } else { Damage::GroupHeader }
}

/// Whether there are only zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // In pieces that the compiler compares a vector register at a time: a segment may end in megabytes of zeros.
    let (pieces, rest) = bytes.as_chunks::<64>();
    pieces.iter().all(|piece| piece.iter().fold(0, |any, byte| any | byte) == 0) && rest.iter().all(|&byte| byte == 0)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("callers check the length"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("callers check the length"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("callers check the length"))
}
