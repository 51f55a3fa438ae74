//! Reading the log back at a start: which of it to trust, what to cut off, when to refuse.
//!
//! [`open`] is called once, before anything else; the engine calls its two halves, to look at what was read between them.
//! The rules are in `docs/disk-format.md`, *Recovery*; in short: what was durable must be there and right, what was not may be
//! torn. Nothing on disk is changed before all of it has been read and accepted, so that a refused log is as it was, and a
//! recovery that was killed can be done again.

use super::record::{NameCache, RecordFault, RecordHeader};
use super::segment::{
    CheckedGroup, Damage, FORMAT_VERSION, GROUP_ALIGNMENT, Groups, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader,
    is_zero,
};
use super::writer::{LogEnd, begin_segment};
use super::{LogWriter, Lsn, Place, ReplayError, ReplayedRecord};
use crate::far::FarError;
use crate::job::Time;
use crate::storage::{Storage, StorageFile, StoreId};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

/// Who takes the events back, in the order of the log; an error says why an event cannot follow those before it.
type Replay<'a> = dyn FnMut(ReplayedRecord<'_>) -> Result<(), ReplayError> + 'a;

/// What was found when the log was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The id of the store, new or old.
    pub store: StoreId,
    /// The place of the next record.
    pub next_lsn: Lsn,
    /// Number of records read.
    pub records: u64,
    /// Number of segments read.
    pub segments: u64,
    /// The first of them.
    pub first_segment: u64,
    /// Their length up to the end of the last group, in bytes.
    pub bytes: u64,
    /// The greatest event number read; 0 if there was none.
    pub last_seq: u64,
    /// The latest time of a record read; 0 if there was none.
    pub last_at: Time,
    /// What was cut off, if anything was.
    pub torn: Option<TornTail>,
}

/// The end of the last segment, which had never been promised to be durable, and was not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The segment's file.
    pub path: PathBuf,
    /// Where it was cut, in bytes from its beginning.
    pub offset: u64,
    /// Bytes cut off, without the zeros at the end.
    pub bytes: u64,
    /// The place of the first record lost; it is given again.
    pub from_lsn: Lsn,
    /// What was found there.
    pub found: Damage,
}

/// Why a log cannot be opened. Nothing in it was changed, unless the disk failed while its tail was being cut.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// What is there must not be used.
    #[error("log segment {}, offset {offset}: {problem}", path.display())]
    Refused {
        /// The segment's file.
        path: PathBuf,
        /// Bytes before the problem in it.
        offset: u64,
        /// What is wrong.
        problem: Refusal,
    },
    /// An event was read, and cannot follow those before it: it was written by a server with a bug.
    #[error("log segment {}, offset {offset}: record {lsn} cannot be applied", path.display())]
    Replay {
        /// The segment's file.
        path: PathBuf,
        /// Bytes before the record in it.
        offset: u64,
        /// The record's place in order.
        lsn: Lsn,
        /// What is wrong.
        source: ReplayError,
    },
    /// Jobs that are not in the log that a start reads cannot be looked up.
    #[error("cannot look up the jobs that are far ahead")]
    Far(#[source] FarError),
}

impl OpenError {
    /// What made a replay fail, where that was the disk and not the event.
    pub(crate) fn of_replay(self) -> OpenError {
        match self {
            OpenError::Replay { path, offset, lsn, source } => match source.downcast() {
                Ok(far) => OpenError::Far(*far),
                Err(source) => OpenError::Replay { path, offset, lsn, source },
            },
            other => other,
        }
    }
}

/// What is wrong with a log that must not be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Something that had been durable cannot be read any more.
    #[error(
        "found {found} at record {lsn}, though records up to {durable} had been safely written: the disk or somebody \
         changed it. Nothing was touched. Put the data directory back from a copy, or start with another one"
    )]
    Damaged {
        /// What was found.
        found: Damage,
        /// The record due there.
        lsn: Lsn,
        /// The last record that is known to have been durable.
        durable: Lsn,
    },
    /// A newer server wrote something that this one must not ignore.
    #[error("found {0}. Nothing was touched. Start the newer version of rota that wrote it")]
    Unknown(RecordFault),
    /// A newer server wrote the segment.
    #[error(
        "it is in format version {found}, and this version of rota reads up to {FORMAT_VERSION}. Nothing was touched. \
         Start the newer version of rota that wrote it"
    )]
    NewerVersion {
        /// The segment's format version.
        found: u16,
    },
    /// A segment is not there.
    #[error("this segment is missing. Nothing was touched. Put the file back from a copy")]
    Missing,
    /// The segment is in the file of another one.
    #[error("the file holds segment {found}: it was renamed, copied or swapped. Nothing was touched. Put it back")]
    Misnamed {
        /// The number in its header.
        found: u64,
    },
    /// The segment belongs to another store.
    #[error("it belongs to the store {found}, and this is {expected}. Nothing was touched. Put the right file back")]
    Foreign {
        /// The store it belongs to.
        found: StoreId,
        /// The store it was found in.
        expected: StoreId,
    },
}

/// Opens a log, and begins one where there is none: hands every event to `replay` in order, cuts off a torn tail, and
/// makes durable what it read.
///
/// `new_store_id` names the store if it is a new one: 16 random bytes that no client is told, since they keep a job's body
/// from passing for a part of the log.
///
/// # Errors
/// [`OpenError`]. What `replay` took until then is to be thrown away. Trying again is safe, and of use once what the
/// error names was put right.
pub fn open<S: Storage>(
    storage: S,
    new_store_id: [u8; 16],
    replay: &mut Replay<'_>,
) -> Result<(LogWriter<S>, Recovery), OpenError> {
    read(storage, replay)?.settle(new_store_id)
}

/// The first half of [`open`]: hands every event to `replay`, and changes nothing. For who may refuse a log once it has all
/// of it.
///
/// # Errors
/// As [`open`].
pub(crate) fn read<S: Storage>(storage: S, replay: &mut Replay<'_>) -> Result<LogRead<S>, OpenError> {
    let survey = survey(&storage)?;
    let first = survey.segments.first();
    let recovery = Recovery {
        store: first.map_or(StoreId([0; 16]), |first| first.store),
        next_lsn: first.map_or(Lsn(1), |first| first.first_lsn),
        records: 0,
        segments: 0,
        first_segment: first.map_or(1, |first| first.segment),
        bytes: 0,
        last_seq: 0,
        last_at: Time(0),
        torn: None,
    };
    let names = NameCache::default();
    let mut reading = Reading { storage: &storage, replay, names, buffer: Vec::new(), recovery };
    let end = if survey.segments.is_empty() { None } else { Some(reading.all(&survey)?) };
    let recovery = reading.recovery;
    Ok(LogRead { storage, survey, end, recovery })
}

/// A log that was read, and is as it was found.
pub(crate) struct LogRead<S: Storage> {
    storage: S,
    survey: Survey,
    /// `None` where there is no log yet.
    end: Option<End>,
    recovery: Recovery,
}

impl<S: Storage> LogRead<S> {
    /// The second half of [`open`], once what was read is accepted: cuts off a torn tail, makes durable what was read, or begins
    /// a log.
    ///
    /// # Errors
    /// As [`open`].
    pub(crate) fn settle(self, new_store_id: [u8; 16]) -> Result<(LogWriter<S>, Recovery), OpenError> {
        let LogRead { storage, survey, end, recovery } = self;
        match end {
            Some(end) => settle(storage, &survey, &end, recovery),
            None => begin_log(storage, StoreId(new_store_id), &survey),
        }
    }

    /// That what was read is not accepted, and why.
    pub(crate) fn refused(&self, source: ReplayError) -> OpenError {
        let path = self.storage.path(self.recovery.first_segment);
        OpenError::Replay { path, offset: 0, lsn: self.recovery.next_lsn, source }.of_replay()
    }
}

/// The segments that recovery reads, from what their headers say.
struct Survey {
    /// In order, without gaps.
    segments: Vec<SegmentHeader>,
    /// A last segment without a header: it was being begun when the machine stopped.
    unfinished: Option<u64>,
    store: Option<StoreId>,
}

fn survey<S: Storage>(storage: &S) -> Result<Survey, OpenError> {
    let numbers = storage.segments().map_err(|e| io_error(storage, "list the directory of", 1, e))?;
    let store = storage.store_id().map_err(|e| io_error(storage, "read the store id beside the directory of", 1, e))?;
    let mut survey = Survey { segments: Vec::with_capacity(numbers.len()), unfinished: None, store };
    if numbers.is_empty() && store.is_some() {
        return Err(refused(storage, 1, 0, Refusal::Missing));
    }
    let oldest = oldest_needed(storage, &numbers, store)?;
    // Those before it are history: what is left of them does not matter.
    let numbers = &numbers[numbers.partition_point(|&number| number < oldest)..];
    if numbers.first().is_some_and(|&first| first > oldest) {
        return Err(refused(storage, oldest, 0, Refusal::Missing));
    }
    for (index, &number) in numbers.iter().enumerate() {
        if index > 0 && number != numbers[index - 1] + 1 {
            return Err(refused(storage, numbers[index - 1] + 1, 0, Refusal::Missing));
        }
        match read_header(storage, number)? {
            Ok(header) => survey.segments.push(check_header(storage, number, header, &mut survey.store)?),
            Err(HeaderFault::NewerVersion(found)) => {
                return Err(refused(storage, number, 8, Refusal::NewerVersion { found }));
            }
            Err(HeaderFault::Damaged) if index + 1 == numbers.len() => survey.unfinished = Some(number),
            // The next segment was begun only when this one was durable.
            Err(HeaderFault::Damaged) => {
                let after = read_header(storage, number + 1)?.ok().map_or(Lsn(0), |next| next.first_lsn);
                let durable = Lsn(after.0.saturating_sub(1));
                let lsn = Lsn(survey.segments.last().map_or(1, |before| before.first_lsn.0));
                return Err(refused(storage, number, 0, damaged(Damage::SegmentHeader, lsn, durable)));
            }
        }
    }
    if let Some(number) = survey.unfinished {
        check_unfinished(storage, number, &survey)?;
    }
    Ok(survey)
}

/// The first segment that recovery reads, as the newest header says; the first one that should be there, if no header can
/// be believed.
fn oldest_needed<S: Storage>(storage: &S, numbers: &[u64], store: Option<StoreId>) -> Result<u64, OpenError> {
    let headers = numbers.iter().rev().map(|&number| Ok((number, read_header(storage, number)?.ok())));
    let oldest = super::segment::oldest_needed(headers, store)?;
    Ok(oldest.or(numbers.first().copied()).unwrap_or(1))
}

fn read_header<S: Storage>(storage: &S, segment: u64) -> Result<Result<SegmentHeader, HeaderFault>, OpenError> {
    let failed = |error| io_error(storage, "read", segment, error);
    let file = storage.open(segment).map_err(failed)?;
    let length = file.length().map_err(failed)?.min(SEGMENT_HEADER_BYTES as u64);
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let bytes = &mut bytes[..usize::try_from(length).unwrap_or(SEGMENT_HEADER_BYTES)];
    file.read_at(0, bytes).map_err(failed)?;
    Ok(SegmentHeader::decode(bytes))
}

fn check_header<S: Storage>(
    storage: &S,
    number: u64,
    header: SegmentHeader,
    store: &mut Option<StoreId>,
) -> Result<SegmentHeader, OpenError> {
    let expected = *store.get_or_insert(header.store);
    if header.store != expected {
        return Err(refused(storage, number, 16, Refusal::Foreign { found: header.store, expected }));
    }
    if header.segment != number {
        return Err(refused(storage, number, 32, Refusal::Misnamed { found: header.segment }));
    }
    let is_sound = (1..=number).contains(&header.oldest_needed)
        && header.first_lsn.0 >= 1
        && (number > 1 || header.first_lsn.0 == 1 && header.chain == 0);
    if is_sound {
        Ok(header)
    } else {
        Err(refused(storage, number, 40, damaged(Damage::SegmentHeader, header.first_lsn, header.first_lsn)))
    }
}

/// A header is durable before anything else is written to a segment, and before the store is named.
fn check_unfinished<S: Storage>(storage: &S, number: u64, survey: &Survey) -> Result<(), OpenError> {
    let mut bytes = Vec::new();
    read_whole(storage, number, &mut bytes)?;
    let is_used = !is_zero(bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or_default());
    let is_first = survey.segments.is_empty();
    if is_used || (is_first && (survey.store.is_some() || number != 1)) {
        let lsn = survey.segments.last().map_or(Lsn(1), |before| before.first_lsn);
        return Err(refused(storage, number, 0, damaged(Damage::SegmentHeader, lsn, lsn)));
    }
    Ok(())
}

/// Reads a whole segment; the buffer is used again for the next.
fn read_whole<S: Storage>(storage: &S, segment: u64, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
    let failed = |error| io_error(storage, "read", segment, error);
    let file = storage.open(segment).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    let too_long = || failed(io::Error::from(io::ErrorKind::FileTooLarge));
    buffer.resize(usize::try_from(length).map_err(|_| too_long())?, 0);
    file.read_at(0, buffer).map_err(failed)
}

/// Where the walk over the last segment ended.
struct End {
    closed: VecDeque<(u64, u64)>,
    offset: u64,
    chain: u32,
    file_bytes: u64,
    /// The last groups, as far as nothing says that they were ever durable.
    unproven: Vec<u8>,
}

struct Reading<'a, 'r, S: Storage> {
    storage: &'a S,
    replay: &'a mut Replay<'r>,
    names: NameCache,
    buffer: Vec<u8>,
    recovery: Recovery,
}

impl<S: Storage> Reading<'_, '_, S> {
    fn all(&mut self, survey: &Survey) -> Result<End, OpenError> {
        let mut closed = VecDeque::new();
        for (index, header) in survey.segments.iter().enumerate() {
            let mut bytes = std::mem::take(&mut self.buffer);
            read_whole(self.storage, header.segment, &mut bytes)?;
            let mut groups = Groups::new(&bytes, header);
            let next = survey.segments.get(index + 1);
            let found = self.segment(header, &mut groups, next)?;
            self.recovery.segments += 1;
            self.recovery.bytes += groups.offset as u64;
            self.recovery.next_lsn = groups.next_lsn;
            if next.is_none() {
                self.judge_end(header, &groups, found, survey.unfinished)?;
                let unproven = bytes[groups.unproven_from()..groups.offset].to_vec();
                let (offset, chain) = (groups.offset as u64, groups.chain);
                return Ok(End { closed, offset, chain, file_bytes: bytes.len() as u64, unproven });
            }
            closed.push_back((header.segment, bytes.len() as u64));
            self.buffer = bytes;
        }
        unreachable!("a survey that is read has segments")
    }

    /// Replays one segment up to its end, or to where its successor goes on; returns what it met there.
    fn segment(
        &mut self,
        header: &SegmentHeader,
        groups: &mut Groups<'_>,
        next: Option<&SegmentHeader>,
    ) -> Result<Option<Damage>, OpenError> {
        loop {
            if next.is_some_and(|next| (next.first_lsn, next.chain) == (groups.next_lsn, groups.chain)) {
                return Ok(None);
            }
            let found = match groups.next() {
                Ok(Some(group)) => {
                    self.group(header.segment, &group)?;
                    continue;
                }
                Ok(None) if next.is_none() => return Ok(None),
                Ok(None) => Damage::Nothing,
                Err(found) => found,
            };
            let Some(next) = next else { return Ok(Some(found)) };
            // A successor is begun only when all of a segment is durable.
            let durable = Lsn(next.first_lsn.0.saturating_sub(1));
            let offset = groups.offset as u64;
            return Err(refused(self.storage, header.segment, offset, damaged(found, groups.next_lsn, durable)));
        }
    }

    fn group(&mut self, segment: u64, group: &CheckedGroup<'_>) -> Result<(), OpenError> {
        let mut at = 0;
        for index in 0..group.records {
            let lsn = Lsn(group.first_lsn.0 + u64::from(index));
            let offset = (group.payload_at + at) as u64;
            let unreadable = |fault| {
                let problem = match fault {
                    RecordFault::UnknownType { .. }
                    | RecordFault::UnknownField { .. }
                    | RecordFault::UnknownFlags(_) => Refusal::Unknown(fault),
                    _ => damaged(Damage::Record(fault), lsn, lsn),
                };
                refused(self.storage, segment, offset, problem)
            };
            let bytes = &group.payload[at..];
            let header = RecordHeader::read(bytes).map_err(unreadable)?;
            let event = header.event(bytes, &mut self.names).map_err(unreadable)?;
            at += header.length;
            self.recovery.records += 1;
            self.recovery.last_seq = self.recovery.last_seq.max(header.seq);
            self.recovery.last_at = self.recovery.last_at.max(header.at);
            let Some(event) = event else { continue };
            let record =
                ReplayedRecord { lsn, seq: header.seq, at: header.at, event, place: Place { segment, offset } };
            (self.replay)(record).map_err(|source| {
                let path = self.storage.path(segment);
                OpenError::Replay { path, offset, lsn, source }
            })?;
        }
        let rest = &group.payload[at..];
        if rest.len() >= GROUP_ALIGNMENT || !is_zero(rest) {
            let offset = (group.payload_at + at) as u64;
            let found = Damage::Record(RecordFault::LeftOver);
            return Err(refused(self.storage, segment, offset, damaged(found, group.first_lsn, group.first_lsn)));
        }
        Ok(())
    }

    /// Torn tail or damage: it depends on whether what is not there had been durable.
    fn judge_end(
        &mut self,
        header: &SegmentHeader,
        groups: &Groups<'_>,
        found: Option<Damage>,
        unfinished: Option<u64>,
    ) -> Result<(), OpenError> {
        let offset = groups.offset as u64;
        if groups.is_sealed {
            // The seal was written when the successor and its header were durable.
            return Err(match unfinished {
                Some(next) => {
                    let problem = damaged(Damage::SegmentHeader, groups.next_lsn, Lsn(groups.next_lsn.0 - 1));
                    refused(self.storage, next, 0, problem)
                }
                None => refused(self.storage, header.segment + 1, 0, Refusal::Missing),
            });
        }
        let Some(found) = found else { return Ok(()) };
        let last = Lsn(groups.next_lsn.0 - 1);
        // A successor was being begun, so all of this one had been synced.
        let evidence = groups.durable_mentioned_later().filter(|&durable| durable > last);
        if evidence.is_some() || unfinished.is_some() {
            let durable = evidence.unwrap_or(last);
            return Err(refused(self.storage, header.segment, offset, damaged(found, groups.next_lsn, durable)));
        }
        self.recovery.torn = Some(TornTail {
            path: self.storage.path(header.segment),
            offset,
            bytes: groups.bytes_left(),
            from_lsn: groups.next_lsn,
            found,
        });
        Ok(())
    }
}

/// Begins a new log. An unfinished first segment is what an earlier try left.
fn begin_log<S: Storage>(
    mut storage: S,
    store: StoreId,
    survey: &Survey,
) -> Result<(LogWriter<S>, Recovery), OpenError> {
    if let Some(number) = survey.unfinished {
        storage.remove(number).map_err(|e| io_error(&storage, "remove", number, e))?;
    }
    let header = SegmentHeader { store, segment: 1, first_lsn: Lsn(1), oldest_needed: 1, chain: 0 };
    let reserve = storage.segment_bytes();
    let begun = begin_segment(&mut storage, &header, reserve);
    let file = begun.map_err(|(doing, error)| io_error(&storage, doing, 1, error))?;
    storage.set_store_id(store).map_err(|e| io_error(&storage, "name the store beside the directory of", 1, e))?;
    let bytes = SEGMENT_HEADER_BYTES as u64;
    let end = LogEnd {
        file,
        header,
        offset: bytes,
        file_bytes: bytes,
        chain: header.checksum(),
        last_lsn: Lsn(0),
        closed: VecDeque::new(),
        limit: reserve,
        spares: count_spares(&mut storage)?,
    };
    let recovery = Recovery {
        store,
        next_lsn: Lsn(1),
        records: 0,
        segments: 1,
        first_segment: 1,
        bytes,
        last_seq: 0,
        last_at: Time(0),
        torn: None,
    };
    Ok((LogWriter::new(storage, end), recovery))
}

/// Makes the disk agree with what was read: all of it durable, and nothing behind it.
fn settle<S: Storage>(
    mut storage: S,
    survey: &Survey,
    end: &End,
    recovery: Recovery,
) -> Result<(LogWriter<S>, Recovery), OpenError> {
    let header = *survey.segments.last().expect("a survey that is read has segments");
    let number = header.segment;
    if let Some(unfinished) = survey.unfinished {
        storage.remove(unfinished).map_err(|e| io_error(&storage, "remove", unfinished, e))?;
    }
    // Before the segment under way gives any room away.
    let spares = count_spares(&mut storage)?;
    let failed = |doing| {
        let path = storage.path(number);
        move |source| OpenError::Io { doing, path, source }
    };
    let mut file = storage.open(number).map_err(failed("open"))?;
    let mut file_bytes = end.file_bytes;
    if recovery.torn.is_some() {
        file.truncate(end.offset).map_err(failed("cut the torn tail off"))?;
        file_bytes = end.offset;
    }
    // Jobs can be completed and read on a full disk: what is there must come up.
    let limit = file.reserve_up_to(storage.segment_bytes()).map_err(failed("reserve room for"))?;
    // If the process ended because a sync failed, the kernel may hold these for written though the disk never got them. A
    // sync alone would then promise what is only in its cache: they are written once more.
    let unproven_at = end.offset - end.unproven.len() as u64;
    file.write_at(unproven_at, &end.unproven).map_err(failed("write the end again of"))?;
    file.sync().map_err(failed("sync"))?;
    storage.sync_names().map_err(|e| io_error(&storage, "sync the directory of", number, e))?;
    if storage.store_id().ok().flatten().is_none() {
        let named = storage.set_store_id(header.store);
        named.map_err(|e| io_error(&storage, "name the store beside the directory of", number, e))?;
    }
    let end = LogEnd {
        file,
        header,
        offset: end.offset,
        file_bytes,
        chain: end.chain,
        last_lsn: Lsn(recovery.next_lsn.0 - 1),
        closed: end.closed.clone(),
        limit,
        spares,
    };
    Ok((LogWriter::new(storage, end), recovery))
}

fn count_spares<S: Storage>(storage: &mut S) -> Result<u64, OpenError> {
    storage.count_spares().map_err(|e| io_error(storage, "find what is set aside beside", 1, e))
}

/// See [`super::check_segment`].
pub(super) fn check_segment(bytes: &[u8]) -> Result<u64, Damage> {
    let header = SegmentHeader::decode(bytes).map_err(|_| Damage::SegmentHeader)?;
    let mut groups = Groups::new(bytes, &header);
    let mut names = NameCache::default();
    let mut records = 0;
    let result = loop {
        let group = match groups.next() {
            Ok(Some(group)) => group,
            Ok(None) => break Ok(records),
            Err(damage) => break Err(damage),
        };
        let mut left = group.payload;
        for _ in 0..group.records {
            let header = RecordHeader::read(left).map_err(Damage::Record)?;
            header.event(left, &mut names).map_err(Damage::Record)?;
            left = &left[header.length..];
            records += 1;
        }
    };
    groups.durable_mentioned_later();
    result
}

fn damaged(found: Damage, lsn: Lsn, durable: Lsn) -> Refusal {
    Refusal::Damaged { found, lsn, durable }
}

fn refused<S: Storage>(storage: &S, segment: u64, offset: u64, problem: Refusal) -> OpenError {
    OpenError::Refused { path: storage.path(segment), offset, problem }
}

fn io_error<S: Storage>(storage: &S, doing: &'static str, segment: u64, source: io::Error) -> OpenError {
    OpenError::Io { doing, path: storage.path(segment), source }
}
