//! The records of a log in their order, from a number on, while it is written to: for [`crate::journal`].
//!
//! It reads all segments that are there, needed or not, and no record past the one that its caller names. It holds no file open
//! between two calls: a segment that was removed meanwhile is then known to be gone, and its room on the disk is free. It trusts
//! nothing that it reads: what is not right is lost, and said to be.

use super::reader::{self, SegmentError};
use super::record::{NameCache, RECORD_HEADER_BYTES, RecordFault, RecordHeader};
use super::segment::{Damage, GROUP_HEADER_BYTES, GroupHeader, GroupSalt, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{LoggedEvent, Lsn};
use crate::job::Time;
use crate::storage::{Storage, StorageFile};
use std::io;

/// How much is read at once, in bytes; a longer record is read whole.
const CHUNK_BYTES: u64 = 128 << 10;

/// A place between two records.
#[derive(Debug)]
pub(crate) struct Trail<S: Storage> {
    storage: S,
    /// `None` behind the newest segment, where that could not be read.
    place: Option<Spot>,
}

#[derive(Debug)]
struct Spot {
    header: SegmentHeader,
    salt: GroupSalt,
    /// Where the next record begins, or the next group's header.
    offset: u64,
    /// Where the group ends that the next record is in.
    group_end: u64,
    /// Records of it that were not read.
    left: u32,
    next_lsn: Lsn,
}

/// A record that was read.
pub(crate) struct Passed<'n> {
    pub(crate) seq: u64,
    pub(crate) at: Time,
    /// `None` if it is of a kind that may be passed over.
    pub(crate) event: Option<LoggedEvent<'n>>,
}

/// How far a walk came.
#[derive(Debug)]
pub(crate) enum Walked {
    /// There is more.
    More,
    /// Up to the record that was named, or to the one that was not taken.
    End,
    /// What comes next is not there any more.
    Lost(Lost),
}

/// What is not there any more.
#[derive(Debug)]
pub(crate) struct Lost {
    /// The number of the record that comes next; `None` if none does.
    pub(crate) next_seq: Option<u64>,
    /// Why, if it was not removed.
    pub(crate) why: Option<SegmentError>,
}

/// The first record of a segment.
struct First {
    spot: Spot,
    seq: u64,
    is_start: bool,
}

/// What a trail begins with.
pub(crate) struct TrailBegin<S: Storage> {
    pub(crate) trail: Trail<S>,
    /// The number of its first record; `None` if there is none.
    pub(crate) first_seq: Option<u64>,
    /// Whether the log itself begins there, and not with a server's first start: it came from elsewhere.
    pub(crate) is_foreign: bool,
}

impl<S: Storage> Trail<S> {
    /// Begins where all records from the number `seq` on are still to come; where that is gone, with the oldest that is
    /// there.
    ///
    /// # Errors
    /// The disk does not say which segments there are.
    pub(crate) fn begin(storage: S, seq: u64) -> io::Result<TrailBegin<S>> {
        let segments = storage.segments()?;
        let mut begin: Option<First> = None;
        for &segment in run(&segments).iter().rev() {
            match first(&storage, segment) {
                Ok(Some(first)) => {
                    let is_far_enough = first.seq <= seq;
                    begin = Some(first);
                    if is_far_enough {
                        break;
                    }
                }
                // It was just begun, or nothing was ever written to it.
                Ok(None) => {}
                Err(_) if begin.is_none() => {}
                Err(_) => break,
            }
        }
        let first_seq = begin.as_ref().map(|first| first.seq);
        let is_foreign = begin.as_ref().is_some_and(|first| first.spot.header.segment == 1 && !first.is_start);
        Ok(TrailBegin { trail: Trail { storage, place: begin.map(|first| first.spot) }, first_seq, is_foreign })
    }

    /// Goes on up to the record `until`, past about so many records and bytes at the most. Each is shown to `take`, which says
    /// whether it was taken; the walk ends before one that was not.
    pub(crate) fn walk(
        &mut self,
        until: Lsn,
        most_records: usize,
        most_bytes: u64,
        take: &mut dyn FnMut(Passed<'_>) -> bool,
    ) -> Walked {
        let Some(spot) = &mut self.place else { return Walked::End };
        if spot.next_lsn > until {
            return Walked::End;
        }
        match spot.walk(&self.storage, until, most_records, most_bytes, take) {
            Ok(walked) => walked,
            Err(why) => self.go_on(why),
        }
    }

    /// Goes on behind what can't be read: with the next segment of those that are there without a gap. Nothing is lost where all of
    /// the segment had been read that was removed.
    fn go_on(&mut self, why: SegmentError) -> Walked {
        let (last, next) =
            self.place.take().map_or((0, None), |spot| (spot.header.segment, Some((spot.header.store, spot.next_lsn))));
        let was_removed = matches!(&why, SegmentError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
        let segments = self.storage.segments().unwrap_or_default();
        for &segment in run(&segments).iter().filter(|&&segment| segment > last) {
            if let Ok(Some(first)) = first(&self.storage, segment) {
                let is_next = next == Some((first.spot.header.store, first.spot.next_lsn));
                self.place = Some(first.spot);
                if was_removed && is_next {
                    return Walked::More;
                }
                return Walked::Lost(Lost { next_seq: Some(first.seq), why: (!was_removed).then_some(why) });
            }
        }
        Walked::Lost(Lost { next_seq: None, why: (!was_removed).then_some(why) })
    }
}

impl Spot {
    fn open<S: Storage>(storage: &S, segment: u64) -> Result<(S::File, Spot), SegmentError> {
        let (file, header) = reader::open(storage, segment)?;
        if header.segment != segment {
            return Err(SegmentError::Damaged { path: storage.path(segment), offset: 0, found: Damage::SegmentHeader });
        }
        let offset = SEGMENT_HEADER_BYTES as u64;
        let salt = GroupSalt::new(header.store, header.segment);
        Ok((file, Spot { header, salt, offset, group_end: offset, left: 0, next_lsn: header.first_lsn }))
    }

    fn walk<S: Storage>(
        &mut self,
        storage: &S,
        until: Lsn,
        most_records: usize,
        most_bytes: u64,
        take: &mut dyn FnMut(Passed<'_>) -> bool,
    ) -> Result<Walked, SegmentError> {
        let open = |segment| storage.open(segment).map_err(|source| io_error(storage, segment, source));
        let mut chunk = Chunk::of(open(self.header.segment)?);
        let mut names = NameCache::default();
        let (mut records, mut bytes) = (0, 0);
        while self.next_lsn <= until {
            if records >= most_records || bytes >= most_bytes {
                return Ok(Walked::More);
            }
            if self.left == 0 {
                if !self.enter_group(storage, &mut chunk)? {
                    *self = self.next_segment(storage)?;
                    chunk = Chunk::of(open(self.header.segment)?);
                }
                bytes += GROUP_HEADER_BYTES as u64;
                continue;
            }
            let (record, header) = self.record(storage, &mut chunk)?;
            let event =
                header.event(record, &mut names).map_err(|fault| self.damaged(storage, Damage::Record(fault)))?;
            if !take(Passed { seq: header.seq, at: header.at, event }) {
                return Ok(Walked::End);
            }
            self.offset += header.length as u64;
            self.next_lsn = Lsn(self.next_lsn.0 + 1);
            self.left -= 1;
            records += 1;
            bytes += header.length as u64;
        }
        Ok(Walked::End)
    }

    /// Enters the group that comes next; false at the segment's end.
    fn enter_group<S: Storage>(&mut self, storage: &S, chunk: &mut Chunk<S::File>) -> Result<bool, SegmentError> {
        let read = chunk.get(self.group_end, GROUP_HEADER_BYTES as u64, u64::MAX);
        let bytes = read.map_err(|source| io_error(storage, self.header.segment, source))?;
        let Some(bytes) = bytes.and_then(|bytes| bytes.first_chunk()) else { return Ok(false) };
        let Some((group, _)) = GroupHeader::read(bytes, &self.salt, self.group_end) else { return Ok(false) };
        if group.is_seal {
            return Ok(false);
        }
        self.offset = self.group_end + GROUP_HEADER_BYTES as u64;
        let end = self.offset.checked_add(group.payload_bytes).filter(|_| group.first_lsn == self.next_lsn);
        self.group_end = end.ok_or_else(|| self.damaged(storage, Damage::OutOfPlace))?;
        self.left = group.records;
        Ok(true)
    }

    /// The record that comes next, whose checksum is right.
    fn record<'c, S: Storage>(
        &self,
        storage: &S,
        chunk: &'c mut Chunk<S::File>,
    ) -> Result<(&'c [u8], RecordHeader), SegmentError> {
        let failed = |source| io_error(storage, self.header.segment, source);
        let cut_short = || self.damaged(storage, Damage::Record(RecordFault::Short));
        let head = chunk.get(self.offset, RECORD_HEADER_BYTES as u64, self.group_end).map_err(failed)?;
        let length = head.and_then(RecordHeader::length_in).ok_or_else(cut_short)?;
        let record = chunk.get(self.offset, length, self.group_end).map_err(failed)?.ok_or_else(cut_short)?;
        let header = RecordHeader::read(record).map_err(|fault| self.damaged(storage, Damage::Record(fault)))?;
        Ok((record, header))
    }

    /// The begin of the segment that follows, and that goes on where this one ends.
    fn next_segment<S: Storage>(&self, storage: &S) -> Result<Spot, SegmentError> {
        let (_, next) = Spot::open(storage, self.header.segment + 1)?;
        let follows = next.header.store == self.header.store && next.next_lsn == self.next_lsn;
        if follows { Ok(next) } else { Err(self.damaged(storage, Damage::OutOfPlace)) }
    }

    fn damaged<S: Storage>(&self, storage: &S, found: Damage) -> SegmentError {
        SegmentError::Damaged { path: storage.path(self.header.segment), offset: self.offset, found }
    }
}

/// A piece of a file in memory.
struct Chunk<F> {
    file: F,
    start: u64,
    bytes: Vec<u8>,
}

impl<F: StorageFile> Chunk<F> {
    fn of(file: F) -> Chunk<F> {
        Chunk { file, start: 0, bytes: Vec::new() }
    }

    /// `count` bytes from `offset` on; `None` if they go past `end` or the file's.
    fn get(&mut self, offset: u64, count: u64, end: u64) -> io::Result<Option<&[u8]>> {
        let Some(last) = offset.checked_add(count).filter(|last| *last <= end) else { return Ok(None) };
        if offset < self.start || last > self.start + self.bytes.len() as u64 {
            let length = self.file.length()?;
            if last > length {
                return Ok(None);
            }
            let read = usize::try_from(count.max(CHUNK_BYTES).min(length - offset)).map_err(io::Error::other)?;
            self.bytes.clear();
            self.bytes.shrink_to(2 * read);
            self.bytes.resize(read, 0);
            self.start = offset;
            if let Err(error) = self.file.read_at(offset, &mut self.bytes) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let at = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        Ok(self.bytes.get(at..).and_then(|bytes| bytes.get(..usize::try_from(count).ok()?)))
    }
}

/// The newest segments that are there without a gap.
fn run(segments: &[u64]) -> &[u64] {
    let gap = segments.windows(2).rposition(|two| two[0] + 1 != two[1]);
    &segments[gap.map_or(0, |gap| gap + 1)..]
}

/// The first record of a segment, and its place; `None` if it has none.
fn first<S: Storage>(storage: &S, segment: u64) -> Result<Option<First>, SegmentError> {
    let (file, mut spot) = Spot::open(storage, segment)?;
    let mut chunk = Chunk::of(file);
    while spot.left == 0 {
        if !spot.enter_group(storage, &mut chunk)? {
            return Ok(None);
        }
    }
    let (_, header) = spot.record(storage, &mut chunk)?;
    Ok(Some(First { seq: header.seq, is_start: header.is_start(), spot }))
}

fn io_error<S: Storage>(storage: &S, segment: u64, source: io::Error) -> SegmentError {
    SegmentError::Io { path: storage.path(segment), source }
}
