//! Whole records in damaged bytes: a group whose checksum is wrong, or what is left where group headers are gone.
//!
//! A record's checksum says that its bytes are as somebody wrote them, not that they are a record here: a client may have
//! put the bytes of a record into a body. So one is taken only where it can stand: behind the record before it in number
//! and time, before what follows the damage, and not more of them than are missing. Where the header of a spoilt record
//! still says how long it is, its bytes are stepped over and never searched.

use super::SpoiltJob;
use super::window::Window;
use crate::job::{JobId, Time};
use crate::log::record::{RECORD_HEADER_BYTES, RecordHeader, VERSION, holds_job};
use crate::log::segment::GROUP_ALIGNMENT;

/// How many times the length of the damage is read for records in it, at most: bodies can be made so that each of their
/// bytes looks like the begin of a long record.
const MOST_READINGS: u64 = 64;

const HEADER_BYTES: u64 = RECORD_HEADER_BYTES as u64;

/// The number and time of a record; those of a log never fall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Stamp {
    pub(super) seq: u64,
    pub(super) at: Time,
}

impl Stamp {
    /// Before every record.
    pub(super) const FIRST: Stamp = Stamp { seq: 0, at: Time(0) };
    /// Behind every record.
    pub(super) const LAST: Stamp = Stamp { seq: u64::MAX, at: Time::NEVER };

    fn can_precede(self, later: Stamp) -> bool {
        self.seq <= later.seq && self.at <= later.at
    }
}

/// Where to look, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wreck {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Whether a record begins right at `from`, the first of those that belong here.
    pub(super) begins_with_record: bool,
    /// How many records belong here, where that is known.
    pub(super) count: Option<u64>,
    /// Whether the last of them ends at `to`: else the file may have been cut there.
    pub(super) ends_with_record: bool,
    /// The last record before.
    pub(super) after: Stamp,
    /// The first record behind.
    pub(super) before: Stamp,
}

/// A record found in damaged bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rescued {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// How many of the records that belong here stand before it.
    pub(super) index: u64,
    /// Whether that is certain: counted through from one side, over no spoilt record, or over those from both sides to
    /// the same number. The length of a spoilt record may lead past others.
    pub(super) is_counted: bool,
    /// How many spoilt records of its chain stand before it.
    spoilt_before: u64,
    stamp: Stamp,
}

/// Finds them, in order, and the jobs whose records stand between them and are spoilt.
pub(super) fn rescue(window: &mut Window<'_>, wreck: Wreck) -> (Vec<Rescued>, Vec<SpoiltJob>) {
    let budget = wreck.to.saturating_sub(wreck.from).saturating_mul(MOST_READINGS);
    let mut search = Search { window, wreck, budget, spoilt: Vec::new() };
    let chains = search.all();
    (place(chains, &wreck), search.spoilt)
}

/// Records between which everything was counted.
struct Chain {
    /// With indexes that begin with the chain.
    records: Vec<Rescued>,
    /// Whether it begins with the first record that belongs here.
    is_first: bool,
    /// How many records it is, spoilt ones included, if it goes on to the end.
    to_end: Option<u64>,
    /// How many of them are spoilt.
    spoilt: u64,
}

/// Gives the records their places among all that belong here; leaves out what there is no place for.
fn place(chains: Vec<Chain>, wreck: &Wreck) -> Vec<Rescued> {
    let most = wreck.count.unwrap_or(u64::MAX);
    let tail = chains.last().and_then(|chain| chain.to_end).filter(|&tail| wreck.count.is_some() && tail <= most);
    let mut found: Vec<Rescued> = Vec::new();
    let mut next = 0_u64;
    let chains_found = chains.len();
    for (number, chain) in chains.into_iter().enumerate() {
        let is_tail = number + 1 == chains_found && tail.is_some();
        let end = if is_tail { most } else { most - tail.unwrap_or(0) };
        let last = chain.records.last().map_or(0, |record| record.index);
        let base = match tail {
            _ if chain.is_first => 0,
            Some(tail) if is_tail => most - tail,
            // At least one record is lost between two chains, where it is no header of a group that parts them.
            _ if next.saturating_add(1 + last) < end => next + 1,
            _ => next,
        };
        if base < next || base.saturating_add(last) >= end {
            continue;
        }
        next = base + last + 1;
        let is_last = is_tail && wreck.ends_with_record;
        // Counted from both sides to different numbers, some were passed over: each side holds as far as the first spoilt one.
        let differs = chain.is_first && is_last && tail != wreck.count;
        let is_all = chain.is_first && is_last && !differs;
        let placed = chain.records.into_iter().map(|record| {
            let from_first = chain.is_first && record.spoilt_before == 0;
            let from_last = is_last && record.spoilt_before == chain.spoilt;
            let is_counted = is_all || (from_first || from_last) && !(differs && from_first && from_last);
            let base = if from_last && !from_first { most - tail.unwrap_or(0) } else { base };
            Rescued { index: base + record.index, is_counted, ..record }
        });
        found.extend(placed);
    }
    found
}

struct Search<'w, 'f> {
    window: &'w mut Window<'f>,
    wreck: Wreck,
    /// How many bytes may still be summed up in vain.
    budget: u64,
    spoilt: Vec<SpoiltJob>,
}

impl Search<'_, '_> {
    fn all(&mut self) -> Vec<Chain> {
        let mut chains = Vec::new();
        let mut at = self.wreck.from;
        let mut after = self.wreck.after;
        let mut is_first = self.wreck.begins_with_record;
        while at < self.wreck.to {
            let begun_at = at;
            let chain = self.chain(&mut at, &mut after, is_first);
            is_first = false;
            if !chain.records.is_empty() {
                chains.push(chain);
            }
            if at == begun_at {
                at += 1;
            }
        }
        chains
    }

    /// The records that begin at `at`, over spoilt ones as far as their lengths can be believed.
    fn chain(&mut self, at: &mut u64, after: &mut Stamp, is_first: bool) -> Chain {
        let mut chain = Chain { records: Vec::new(), is_first, to_end: None, spoilt: 0 };
        let mut index = 0;
        loop {
            if let Some(record) = self.record(*at, index, *after) {
                (*at, *after) = (record.offset + record.length, record.stamp);
                chain.records.push(Rescued { spoilt_before: chain.spoilt, ..record });
                index += 1;
                continue;
            }
            let is_begun = is_first || !chain.records.is_empty();
            if is_begun && self.is_end(*at) {
                *at = self.wreck.to;
                chain.to_end = Some(index);
                return chain;
            }
            if is_begun {
                self.note_spoilt(*at);
            }
            let Some(behind) = self.behind_spoilt(*at, *after).filter(|_| is_begun) else { return chain };
            *at = behind;
            chain.spoilt += 1;
            index += 1;
        }
    }

    /// Takes down which job a spoilt record holds, as far as it can be believed.
    fn note_spoilt(&mut self, at: u64) {
        let Some(record) = self.window.get(at, HEADER_BYTES + 8).filter(|_| at < self.wreck.to) else { return };
        let job = JobId(u64::from_le_bytes(*record[RECORD_HEADER_BYTES..].first_chunk().expect("8 bytes are left")));
        if holds_job(record[8]) && record[9] == VERSION && job.0 > 0 {
            self.spoilt.push(SpoiltJob { offset: at, job });
        }
    }

    /// Where the spoilt record at `at` ends, if its length can be believed: a whole record follows, or the end does.
    fn behind_spoilt(&mut self, at: u64, after: Stamp) -> Option<u64> {
        let header = self.window.get(at, HEADER_BYTES)?;
        let length = u32::from_le_bytes(*header[4..].first_chunk()?);
        let behind = at + HEADER_BYTES + u64::from(length);
        let is_believed = self.record(behind, 0, after).is_some() || length > 0 && self.is_end(behind);
        is_believed.then_some(behind)
    }

    /// Whether nothing stands here but the zeros that fill a group's last bytes.
    fn is_end(&mut self, at: u64) -> bool {
        let Some(left) = self.wreck.to.checked_sub(at).filter(|&left| left < GROUP_ALIGNMENT as u64) else {
            return false;
        };
        self.window.get(at, left).is_some_and(|rest| rest.iter().all(|&byte| byte == 0))
    }

    /// The record at that place, if a whole one stands there and may.
    fn record(&mut self, at: u64, index: u64, after: Stamp) -> Option<Rescued> {
        let payload_at = at.checked_add(HEADER_BYTES).filter(|&end| end <= self.wreck.to)?;
        let header = self.window.get(at, HEADER_BYTES)?;
        // Other flags and versions than these are of newer servers, which a start refuses.
        if header[8] == 0 || header[9] != VERSION || header[10] > 1 || header[11] != 0 {
            return None;
        }
        let payload_bytes = u32::from_le_bytes(*header[4..].first_chunk()?);
        let stamp = Stamp {
            seq: u64::from_le_bytes(*header[12..].first_chunk()?),
            at: Time(u64::from_le_bytes(*header[20..].first_chunk()?)),
        };
        let length = HEADER_BYTES + u64::from(payload_bytes);
        let fits = payload_at + u64::from(payload_bytes) <= self.wreck.to && length <= self.budget;
        if !fits || !after.can_precede(stamp) || !stamp.can_precede(self.wreck.before) {
            return None;
        }
        if RecordHeader::read(self.window.get(at, length)?).is_err() {
            self.budget -= length;
            return None;
        }
        Some(Rescued { offset: at, length, index, is_counted: false, spoilt_before: 0, stamp })
    }
}
