//! Reading one segment from its begin to its end, over whatever is wrong in it.
//!
//! [`super::judge`] decides what that means for the log; [`crate::log::salvage`] takes the records.

use super::rescue::{Rescued, Stamp, Wreck, rescue};
use super::survey::{Part, unreadable};
use super::walk::{FoundGroup, Piece, Walk};
use super::{FoundRecord, InspectError, LsnRange, PassedOver, SpoiltJob};
use crate::log::Lsn;
use crate::log::record::{NameCache, RECORD_HEADER_BYTES, RecordFault, RecordHeader};
use crate::log::segment::{Damage, GROUP_ALIGNMENT, GROUP_HEADER_BYTES, SegmentHeader, is_zero};
use crate::storage::{LogSource, StoreId};
use std::ops::{ControlFlow, Range};

/// Who is told what stands in a segment, in order.
pub(in crate::log) trait Sink {
    /// A record.
    fn record(&mut self, record: FoundRecord<'_>) -> ControlFlow<()>;

    /// Bytes that are none.
    fn passed_over(&mut self, passed: &PassedOver) -> ControlFlow<()>;
}

/// Reads segments one behind the other.
pub(in crate::log) struct Reader<'s> {
    source: &'s dyn LogSource,
    store: StoreId,
    /// A server writes to the last segment meanwhile.
    is_live: bool,
    names: NameCache,
    /// The record read last.
    stamp: Stamp,
    /// The place of the record that comes next, as far as it is known.
    pub(in crate::log) due: Lsn,
}

/// What was met in a segment.
#[derive(Clone, Debug)]
pub(in crate::log) struct PartEnd {
    /// What was passed over, in order.
    pub(in crate::log) passed: Vec<PassedOver>,
    /// Where the last group ends.
    pub(in crate::log) used_bytes: u64,
    pub(in crate::log) records: u64,
    /// The same up to the first that was passed over.
    pub(in crate::log) whole: Whole,
    /// The highest record that a group says to have been durable, which stands where the first was passed over or behind.
    pub(in crate::log) durable: Lsn,
    pub(in crate::log) is_sealed: bool,
    /// Offsets of blocks that the disk could not read.
    pub(in crate::log) unreadable: Vec<u64>,
    /// Where the zeros at the end begin.
    pub(in crate::log) data_end: u64,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Whole {
    pub(in crate::log) bytes: u64,
    pub(in crate::log) records: u64,
    pub(in crate::log) next_lsn: Lsn,
}

/// Where a segment stands among the others.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Place {
    /// How the segment that follows goes on, where that is known.
    pub(in crate::log) next: Option<Next>,
    /// No segment follows.
    pub(in crate::log) is_last: bool,
}

/// How a segment goes on behind another.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Next {
    /// Its first record.
    pub(in crate::log) first_lsn: Lsn,
    /// The chain in its header, where that is there and right.
    pub(in crate::log) chain: Option<u32>,
}

impl Next {
    /// Whether it goes on where that record is due, behind a group with that chain.
    fn goes_on(&self, due: Lsn, chain: Option<u32>) -> bool {
        self.first_lsn == due && (self.chain.is_none() || self.chain == chain)
    }
}

impl<'s> Reader<'s> {
    pub(in crate::log) fn new(source: &'s dyn LogSource, store: StoreId, is_live: bool) -> Reader<'s> {
        Reader { source, store, is_live, names: NameCache::default(), stamp: Stamp::FIRST, due: Lsn(1) }
    }

    /// Reads a segment; stops where the sink breaks.
    pub(in crate::log) fn part(
        &mut self,
        part: &Part,
        place: Place,
        sink: &mut dyn Sink,
    ) -> Result<PartEnd, InspectError> {
        let failed = || unreadable(&part.file);
        let file = self.source.open_file(&part.file).map_err(failed())?;
        let walk = Walk::new(file, self.store, part.number).map_err(failed())?;
        if let Some(header) = &part.header {
            self.due = header.first_lsn;
        }
        let end = PartEnd {
            passed: Vec::new(),
            used_bytes: walk.offset,
            records: 0,
            whole: Whole { bytes: walk.offset, records: 0, next_lsn: self.due },
            durable: Lsn(0),
            is_sealed: false,
            unreadable: Vec::new(),
            data_end: walk.data_end,
        };
        let chain = part.header.as_ref().map(SegmentHeader::checksum);
        let is_placed = part.header.is_some();
        let mut pass = Pass { reader: self, walk, part, place, sink, chain, is_placed, spoilt: Vec::new(), end };
        // Who breaks wants no more, and all that was met is told.
        let _ = pass.all();
        Ok(pass.end)
    }
}

struct Pass<'p, 's> {
    reader: &'p mut Reader<'s>,
    walk: Walk<'p>,
    part: &'p Part,
    place: Place,
    sink: &'p mut dyn Sink,
    /// The checksum that the next group's chain should hold, where it is known.
    chain: Option<u32>,
    /// Whether the record that is due is known, and not only where the segment before ended.
    is_placed: bool,
    /// Jobs in the spoilt records of what is being passed over.
    spoilt: Vec<SpoiltJob>,
    end: PartEnd,
}

impl Pass<'_, '_> {
    fn all(&mut self) -> ControlFlow<()> {
        while !self.is_where_the_next_goes_on() {
            let from = self.walk.offset;
            match self.piece() {
                Piece::End => break,
                Piece::Group(group) => self.group(&group)?,
                Piece::Hole { from, to, next, found } => {
                    let is_between = next.is_some();
                    let follows = next.map(|next| next.first_lsn).or(self.place.next.map(|next| next.first_lsn));
                    self.hole(from..to, is_between, follows, found)?;
                    self.reader.due = follows.unwrap_or(self.reader.due).max(self.reader.due);
                    self.is_placed |= follows.is_some();
                    self.chain = None;
                }
            }
            if self.end.is_sealed {
                break;
            }
            debug_assert!(self.walk.offset > from);
        }
        self.end.unreadable = self.walk.window.unreadable().collect();
        self.come_to_the_end()
    }

    /// What is behind the group that the next segment's chain names is not read at a start either.
    fn is_where_the_next_goes_on(&mut self) -> bool {
        let goes_on = self.place.next.is_some_and(|next| next.goes_on(self.reader.due, self.chain));
        if goes_on {
            self.end.is_sealed = self.walk.peek().is_some_and(|header| header.is_seal);
        }
        goes_on
    }

    /// The next piece. Of a log that is being written, a group that is not whole yet is the end.
    fn piece(&mut self) -> Piece {
        let from = self.walk.offset;
        let piece = self.walk.next();
        let is_whole = matches!(piece, Piece::End | Piece::Group(FoundGroup { is_whole: true, .. }));
        if is_whole || !self.reader.is_live || !self.place.is_last {
            return piece;
        }
        let behind = self.walk.offset;
        let is_last = self.walk.header_from(behind).is_none();
        // If another group follows, this one was written whole before it, though perhaps after it was looked at.
        self.walk.again_from(from);
        if is_last { Piece::End } else { self.walk.next() }
    }

    /// Nothing more stands in the segment; the next one may say that something should.
    fn come_to_the_end(&mut self) -> ControlFlow<()> {
        let Some(next) = self.place.next else { return ControlFlow::Continue(()) };
        if next.goes_on(self.reader.due, self.chain) {
            return ControlFlow::Continue(());
        }
        let is_known = self.end.passed.last().is_some_and(|passed| passed.offset + passed.bytes >= self.end.data_end);
        if is_known && self.reader.due >= next.first_lsn {
            return ControlFlow::Continue(());
        }
        let (due, at) = (self.reader.due, self.walk.offset);
        let lost = missing_between(due, Some(next.first_lsn), &[]);
        self.pass_over(at, 0, Damage::Nothing, due, lost)
    }

    fn pass_over(&mut self, offset: u64, bytes: u64, found: Damage, lsn: Lsn, lost: Vec<LsnRange>) -> ControlFlow<()> {
        let spoilt = std::mem::take(&mut self.spoilt);
        let passed = PassedOver { segment: self.part.number, offset, bytes, found, lsn, lost, spoilt };
        let told = self.sink.passed_over(&passed);
        self.end.passed.push(passed);
        told
    }

    fn group(&mut self, group: &FoundGroup) -> ControlFlow<()> {
        let (header, due) = (&group.header, self.reader.due);
        let follows = header.first_lsn == due && self.chain.is_none_or(|chain| chain == header.chain);
        if !follows && (self.is_placed || header.first_lsn < due) {
            let lost = missing_between(due, Some(header.first_lsn), &[]);
            self.pass_over(group.at, 0, Damage::OutOfPlace, due, lost)?;
        }
        if !self.end.passed.is_empty() {
            self.end.durable = self.end.durable.max(header.durable);
        }
        self.reader.due = header.first_lsn;
        self.is_placed = true;
        let next_lsn = Lsn(header.first_lsn.0.saturating_add(header.records.into()));
        if group.is_whole {
            self.records(group)?;
        } else {
            self.end.durable = self.end.durable.max(header.durable);
            self.broken_group(group, next_lsn)?;
        }
        self.reader.due = next_lsn;
        self.chain = Some(if header.is_seal { header.chain } else { group.checksum });
        self.end.used_bytes = group.payload_end;
        self.end.is_sealed = header.is_seal && group.is_whole;
        if self.end.passed.is_empty() {
            self.end.whole = Whole { bytes: group.payload_end, records: self.end.records, next_lsn };
        }
        ControlFlow::Continue(())
    }

    /// The records of a group whose checksum is right.
    fn records(&mut self, group: &FoundGroup) -> ControlFlow<()> {
        let mut at = group.payload_at;
        for index in 0..u64::from(group.header.records) {
            let lsn = Lsn(group.header.first_lsn.0.saturating_add(index));
            let left = group.payload_end - at;
            let length = self.record_length(at, left);
            let read = match length {
                Some(length) => self.record(at, length, lsn, true, false)?,
                None => Err(RecordFault::Short),
            };
            if let Err(fault) = read {
                let lost = vec![LsnRange { from: lsn, to: Some(lsn) }];
                self.pass_over(at, length.unwrap_or(left), Damage::Record(fault), lsn, lost)?;
            }
            let Some(length) = length else { return ControlFlow::Continue(()) };
            at += length;
        }
        let rest = self.walk.window.get(at, group.payload_end - at).unwrap_or_default();
        if rest.len() >= GROUP_ALIGNMENT || !is_zero(rest) {
            let bytes = rest.len() as u64;
            let due = Lsn(group.header.first_lsn.0.saturating_add(group.header.records.into()));
            self.pass_over(at, bytes, Damage::Record(RecordFault::LeftOver), due, Vec::new())?;
        }
        ControlFlow::Continue(())
    }

    /// How long the record at that place says it is, if it is not too long for the place.
    fn record_length(&mut self, at: u64, left: u64) -> Option<u64> {
        let header = self.walk.window.get(at, RECORD_HEADER_BYTES as u64)?;
        let payload = u32::from_le_bytes(*header[4..].first_chunk()?);
        Some(RECORD_HEADER_BYTES as u64 + u64::from(payload)).filter(|&length| length <= left)
    }

    /// Hands on one record, or says why it is none.
    fn record(
        &mut self,
        offset: u64,
        bytes: u64,
        lsn: Lsn,
        is_counted: bool,
        is_rescued: bool,
    ) -> ControlFlow<(), Result<(), RecordFault>> {
        let Some(record) = self.walk.window.get(offset, bytes) else {
            return ControlFlow::Continue(Err(RecordFault::Short));
        };
        let header = match RecordHeader::read(record) {
            Ok(header) => header,
            Err(fault) => return ControlFlow::Continue(Err(fault)),
        };
        let event = match header.event(record, &mut self.reader.names) {
            Ok(event) => event,
            Err(fault) => return ControlFlow::Continue(Err(fault)),
        };
        let (seq, at, kind) = (header.seq, header.at, header.kind);
        self.reader.stamp = self.reader.stamp.max(Stamp { seq, at });
        self.end.records += 1;
        let segment = self.part.number;
        let found = FoundRecord { lsn, is_counted, segment, offset, bytes, seq, at, kind, event, is_rescued };
        match self.sink.record(found) {
            ControlFlow::Continue(()) => ControlFlow::Continue(Ok(())),
            ControlFlow::Break(()) => ControlFlow::Break(()),
        }
    }

    /// A group whose header is right and whose payload is not: its records, each by its own checksum.
    fn broken_group(&mut self, group: &FoundGroup, next_lsn: Lsn) -> ControlFlow<()> {
        let first = group.header.first_lsn;
        let wreck = Wreck {
            from: group.payload_at,
            to: group.payload_end,
            begins_with_record: true,
            count: Some(group.header.records.into()),
            ends_with_record: true,
            after: self.reader.stamp,
            before: self.stamp_behind(group.payload_end),
        };
        let lost = self.wreck(wreck, first, Some(next_lsn))?;
        self.pass_over(group.at, group.payload_end - group.at, Damage::Payload, first, lost)
    }

    /// Bytes without a group header, between groups or behind the last one: what may be left of groups.
    fn hole(
        &mut self,
        Range { start: from, end: to }: Range<u64>,
        is_between: bool,
        follows: Option<Lsn>,
        found: Damage,
    ) -> ControlFlow<()> {
        let due = self.reader.due;
        let wreck = Wreck {
            from: (from + GROUP_HEADER_BYTES as u64).min(to),
            to,
            begins_with_record: true,
            count: follows.filter(|_| self.is_placed).map(|follows| follows.0.saturating_sub(due.0)),
            ends_with_record: is_between,
            after: self.reader.stamp,
            before: self.stamp_behind(to),
        };
        let lost = self.wreck(wreck, due, follows)?;
        self.pass_over(from, to - from, found, due, lost)
    }

    /// Hands on the whole records of a wreck; returns which are lost of those up to `follows`.
    fn wreck(&mut self, wreck: Wreck, first: Lsn, follows: Option<Lsn>) -> ControlFlow<(), Vec<LsnRange>> {
        let mut read = Vec::new();
        let (rescued, spoilt) = rescue(&mut self.walk.window, wreck);
        self.spoilt = spoilt;
        for Rescued { offset, length, index, is_counted, .. } in rescued {
            let lsn = Lsn(first.0.saturating_add(index));
            if self.record(offset, length, lsn, is_counted && self.is_placed, true)?.is_ok() {
                read.push(lsn);
            }
        }
        ControlFlow::Continue(missing_between(first, follows, &read))
    }

    /// The first record of the group that stands there, if one does.
    fn stamp_behind(&mut self, at: u64) -> Stamp {
        let at = at.next_multiple_of(GROUP_ALIGNMENT as u64);
        if self.walk.header_at(at).is_none_or(|(header, _)| header.records == 0) {
            return Stamp::LAST;
        }
        let payload_at = at + GROUP_HEADER_BYTES as u64;
        let left = self.walk.window.length() - payload_at;
        let Some(length) = self.record_length(payload_at, left) else { return Stamp::LAST };
        let record = self.walk.window.get(payload_at, length).and_then(|record| RecordHeader::read(record).ok());
        record.map_or(Stamp::LAST, |header| Stamp { seq: header.seq, at: header.at })
    }
}

/// The places from `due` up to and without `follows` at which nothing was read.
pub(in crate::log) fn missing_between(due: Lsn, follows: Option<Lsn>, read: &[Lsn]) -> Vec<LsnRange> {
    let mut lost = Vec::new();
    let mut from = due;
    for &lsn in read {
        if lsn > from {
            lost.push(LsnRange { from, to: Some(Lsn(lsn.0 - 1)) });
        }
        from = from.max(Lsn(lsn.0.saturating_add(1)));
    }
    match follows {
        Some(follows) if follows > from => lost.push(LsnRange { from, to: Some(Lsn(follows.0 - 1)) }),
        None => lost.push(LsnRange { from, to: None }),
        _ => {}
    }
    lost
}
