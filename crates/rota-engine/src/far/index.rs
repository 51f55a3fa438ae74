//! Where in a far segment each job is: a file of sorted entries, in blocks with checksums, of which one is read at a time.
//!
//! [`super::files`] writes it once, when the segment is reclaimed, and looks things up in it. It can be made again from the
//! segment. The layout is in `docs/disk-format.md`. What goes by the wall clock stands by what that shows, in orders of its own.

use super::open::{take, u32_at, u64_at};
use crate::job::{JobId, QueueName, Time};
use crate::log::Lsn;
use crate::storage::{ReadAt, StorageFile};
use std::io;
use std::ops::Range;

const MAGIC: [u8; 8] = *b"ROTAFARX";
/// What is written where all jobs wait for a span of time alone, and what else.
const PLAIN_VERSION: u16 = 1;
const VERSION: u16 = 2;
const HEADER_BYTES: usize = 64;

/// Length of a block with its checksum, in bytes.
const BLOCK_BYTES: usize = 4096;

/// Lengths of the entries of each part, in bytes.
const BY_ID_BYTES: usize = 24;
const BY_TIME_BYTES: usize = 32;
const BY_KEY_BYTES: usize = 12;

/// An order of time that jobs stand in: each in the first or the second, and in one of the others if it expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// By when they are due, in engine time.
    Due,
    /// The same of those that were put for a moment of the wall clock, by that.
    WallDue,
    /// By when they expire, in engine time.
    Expiry,
    /// The same of those that expire at a moment of the wall clock, by that.
    WallExpiry,
}

impl Order {
    /// All, in their order in the file; the index of each is `as usize`.
    pub(super) const ALL: [Order; 4] = [Order::Due, Order::WallDue, Order::Expiry, Order::WallExpiry];

    /// Whether it is by the wall clock.
    pub(super) fn is_by_wall(self) -> bool {
        matches!(self, Order::WallDue | Order::WallExpiry)
    }
}

/// A job in a far segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct IndexEntry {
    pub(super) job: JobId,
    /// When it stands in each order, if it does.
    pub(super) times: [Option<Time>; Order::ALL.len()],
    pub(super) at: RecordAt,
    /// Its queue's number in the index.
    pub(super) queue: u32,
    /// Of its queue's name and its key, if it has one.
    pub(super) key_hash: Option<u32>,
}

/// Which record of the segment, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct RecordAt {
    pub(super) ordinal: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// A job in an order of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Timed {
    pub(super) time: Time,
    pub(super) job: JobId,
    pub(super) at: RecordAt,
    pub(super) queue: u32,
}

/// What an index begins with.
#[derive(Clone, Copy, Debug)]
struct Header {
    end: Lsn,
    entries: u32,
    keyed: u32,
    queues: u32,
    names_bytes: u32,
    /// How many of them stand in each order of time.
    timed: [u32; Order::ALL.len()],
}

/// What is held in memory while an index is open.
struct Tail {
    keys: Box<[u32]>,
    ids: Box<[(u64, u64)]>,
    queues: Vec<QueueName>,
}

/// What is known of an index while its file is open or not.
#[derive(Debug)]
pub(super) struct IndexFile {
    pub(super) segment: u64,
    header: Header,
    /// The first and the last id of each block.
    ids: Box<[(u64, u64)]>,
    pub(super) queues: Vec<QueueName>,
    /// The hashes of all keys, rising.
    keys: Box<[u32]>,
}

fn per_block(entry_bytes: usize) -> usize {
    (BLOCK_BYTES - 4) / entry_bytes
}

fn blocks(entries: usize, entry_bytes: usize) -> usize {
    entries.div_ceil(per_block(entry_bytes))
}

/// The bytes of an index.
pub(super) fn encode(segment: u64, end: Lsn, queues: &[QueueName], mut entries: Vec<IndexEntry>) -> Vec<u8> {
    let keyed = entries.iter().filter(|entry| entry.key_hash.is_some()).count();
    let mut names = Vec::new();
    for name in queues {
        names.push(u8::try_from(name.as_str().len()).expect("a queue name is at most 200 bytes long"));
        names.extend_from_slice(name.as_str().as_bytes());
    }
    let mut header = [0; HEADER_BYTES];
    let count = |count: usize| u32::try_from(count).expect("a segment has fewer records").to_le_bytes();
    let timed = Order::ALL.map(|order| entries.iter().filter(|entry| entry.times[order as usize].is_some()).count());
    let version = if timed[1..] == [0; 3] { PLAIN_VERSION } else { VERSION };
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&version.to_le_bytes());
    header[16..24].copy_from_slice(&segment.to_le_bytes());
    header[24..32].copy_from_slice(&end.0.to_le_bytes());
    header[32..36].copy_from_slice(&count(entries.len()));
    header[36..40].copy_from_slice(&count(keyed));
    header[40..44].copy_from_slice(&count(queues.len()));
    header[44..48].copy_from_slice(&count(names.len()));
    for (at, timed) in [48, 52, 56].into_iter().zip(&timed[1..]) {
        header[at..at + 4].copy_from_slice(&count(*timed));
    }
    let checksum = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    let mut out = header.to_vec();

    entries.sort_unstable_by_key(|entry| (entry.job, entry.at));
    let mut ids = Vec::new();
    for block in entries.chunks(per_block(BY_ID_BYTES)) {
        let last = block.last().expect("a chunk is not empty");
        for id in [block[0].job, last.job] {
            ids.extend_from_slice(&id.0.to_le_bytes());
        }
    }
    encode_blocks(&mut out, &entries, BY_ID_BYTES, |entry, out| {
        out.extend_from_slice(&entry.job.0.to_le_bytes());
        entry.at.encode(out);
        out.extend_from_slice(&entry.queue.to_le_bytes());
    });
    let mut with_keys: Vec<_> = entries.iter().filter_map(|entry| Some((entry.key_hash?, entry.at))).collect();
    with_keys.sort_unstable();
    for order in Order::ALL {
        let in_order = entries.iter().filter_map(|entry| {
            let &IndexEntry { job, times, at, queue, .. } = entry;
            times[order as usize].map(|time| Timed { time, job, at, queue })
        });
        let mut in_order: Vec<Timed> = in_order.collect();
        in_order.sort_unstable();
        encode_blocks(&mut out, &in_order, BY_TIME_BYTES, |timed, out| {
            out.extend_from_slice(&timed.time.0.to_le_bytes());
            out.extend_from_slice(&timed.job.0.to_le_bytes());
            timed.at.encode(out);
            out.extend_from_slice(&timed.queue.to_le_bytes());
        });
    }
    // What is held in memory while the index is open, under one checksum.
    let tail_at = out.len();
    for &(hash, _) in &with_keys {
        out.extend_from_slice(&hash.to_le_bytes());
    }
    for (_, at) in &with_keys {
        at.encode(&mut out);
    }
    out.extend_from_slice(&ids);
    out.extend_from_slice(&names);
    let checksum = crc32fast::hash(&out[tail_at..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn encode_blocks<T>(out: &mut Vec<u8>, entries: &[T], entry_bytes: usize, mut encode: impl FnMut(&T, &mut Vec<u8>)) {
    for block in entries.chunks(per_block(entry_bytes)) {
        let begin = out.len();
        block.iter().for_each(|entry| encode(entry, out));
        out.resize(begin + BLOCK_BYTES - 4, 0);
        let checksum = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }
}

impl RecordAt {
    fn encode(self, out: &mut Vec<u8>) {
        for number in [self.ordinal, self.offset, self.length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> RecordAt {
        RecordAt { ordinal: u32_at(bytes, 0), offset: u32_at(bytes, 4), length: u32_at(bytes, 8) }
    }
}

impl Header {
    fn decode(bytes: &[u8; HEADER_BYTES], segment: u64) -> Option<Header> {
        let is_ours =
            bytes[..8] == MAGIC && [PLAIN_VERSION, VERSION].map(u16::to_le_bytes).contains(&[bytes[8], bytes[9]]);
        if !is_ours || crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) || u64_at(bytes, 16) != segment {
            return None;
        }
        let [entries, keyed, queues, names_bytes] = [32, 36, 40, 44].map(|at| u32_at(bytes, at));
        let [wall_due, expiry, wall_expiry] = [48, 52, 56].map(|at| u32_at(bytes, at));
        let timed = [entries.checked_sub(wall_due)?, wall_due, expiry, wall_expiry];
        Some(Header { end: Lsn(u64_at(bytes, 24)), entries, keyed, queues, names_bytes, timed })
    }

    fn times_at(&self, order: Order) -> u64 {
        let before = &self.timed[..order as usize];
        let before: usize = before.iter().map(|&timed| blocks(timed as usize, BY_TIME_BYTES)).sum();
        HEADER_BYTES as u64 + ((blocks(self.entries as usize, BY_ID_BYTES) + before) * BLOCK_BYTES) as u64
    }

    fn tail_at(&self) -> u64 {
        let last = Order::WallExpiry;
        self.times_at(last) + (blocks(self.timed[last as usize] as usize, BY_TIME_BYTES) * BLOCK_BYTES) as u64
    }

    fn tail_bytes(&self) -> usize {
        let ids = blocks(self.entries as usize, BY_ID_BYTES) * 16;
        self.keyed as usize * (4 + BY_KEY_BYTES) + ids + self.names_bytes as usize + 4
    }

    fn tail(&self, bytes: &[u8]) -> Option<Tail> {
        let (content, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut left = content;
        let keys = take(&mut left, self.keyed as usize * 4)?;
        take(&mut left, self.keyed as usize * BY_KEY_BYTES)?;
        let ids = take(&mut left, blocks(self.entries as usize, BY_ID_BYTES) * 16)?;
        let mut queues = Vec::new();
        for _ in 0..self.queues {
            let length = take(&mut left, 1)?[0];
            let name = std::str::from_utf8(take(&mut left, length.into())?).ok()?;
            queues.push(QueueName::new(name).ok()?);
        }
        Some(Tail {
            keys: keys.chunks_exact(4).map(|hash| u32_at(hash, 0)).collect(),
            ids: ids.chunks_exact(16).map(|block| (u64_at(block, 0), u64_at(block, 8))).collect(),
            queues,
        })
    }
}

/// What can be read of an index that may be damaged.
#[derive(Debug, Default)]
pub(crate) struct IndexSurvey {
    /// The first record behind the segment; `None` if not even the header is whole.
    pub(crate) end: Option<Lsn>,
    /// Whether a start makes it again: it sees the header and what is held in memory, and no block.
    pub(crate) is_remade: bool,
    /// Where blocks are that cannot be read, in bytes from the begin, rising.
    pub(crate) spoilt_at: Vec<u64>,
    /// The jobs, in the order of the log, each once for each record: what is in one order alone is taken from there.
    pub(crate) entries: Vec<Indexed>,
}

/// A record that an index tells of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Indexed {
    pub(crate) ordinal: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) job: JobId,
}

/// Reads every block of the index of a segment.
pub(crate) fn survey(file: &dyn ReadAt, segment: u64) -> io::Result<IndexSurvey> {
    let mut found = IndexSurvey { is_remade: true, ..IndexSurvey::default() };
    let mut bytes = [0; HEADER_BYTES];
    let header = file.read_at(0, &mut bytes).ok().and_then(|()| Header::decode(&bytes, segment));
    let Some(header) = header else { return Ok(found) };
    found.end = Some(header.end);
    let length = file.length()?;
    let tail_at = header.tail_at();
    let by_time = Order::ALL.map(|order| (header.times_at(order), header.timed[order as usize], BY_TIME_BYTES, 8));
    for (from, entries, entry_bytes, job_at) in
        std::iter::once((HEADER_BYTES as u64, header.entries, BY_ID_BYTES, 0)).chain(by_time)
    {
        let mut left = entries as usize;
        let to = from + (blocks(left, entry_bytes) * BLOCK_BYTES) as u64;
        for at in (from..to).step_by(BLOCK_BYTES) {
            let there = left.min(per_block(entry_bytes));
            left -= there;
            let mut block = [0; BLOCK_BYTES];
            let is_sound = file.read_at(at, &mut block).is_ok()
                && crc32fast::hash(&block[..BLOCK_BYTES - 4]) == u32_at(&block, BLOCK_BYTES - 4);
            if !is_sound {
                found.spoilt_at.push(at);
                // Where the file ends there, so do all others.
                if at >= length {
                    break;
                }
                continue;
            }
            found.entries.extend(block[..there * entry_bytes].chunks_exact(entry_bytes).map(|entry| {
                let RecordAt { ordinal, offset, length } = RecordAt::decode(&entry[job_at + 8..]);
                Indexed { ordinal, offset, length, job: JobId(u64_at(entry, job_at)) }
            }));
        }
    }
    found.entries.sort_unstable();
    found.entries.dedup();
    let mut tail = vec![0; if length == tail_at + header.tail_bytes() as u64 { header.tail_bytes() } else { 0 }];
    found.is_remade = file.read_at(tail_at, &mut tail).is_err() || header.tail(&tail).is_none();
    Ok(found)
}

/// An index cannot be used as it is: it is to be made again from its segment.
fn unusable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged")
}

impl IndexFile {
    /// Opens the index of a segment: what all others are given is its file.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged or not that one's, or what the disk says.
    pub(super) fn open(file: &impl StorageFile, segment: u64) -> io::Result<IndexFile> {
        let mut bytes = [0; HEADER_BYTES];
        let length = file.length()?;
        if length < HEADER_BYTES as u64 {
            return Err(unusable());
        }
        file.read_at(0, &mut bytes)?;
        let header = Header::decode(&bytes, segment).ok_or_else(unusable)?;
        let (tail_at, tail_bytes) = (header.tail_at(), header.tail_bytes());
        if length != tail_at + tail_bytes as u64 {
            return Err(unusable());
        }
        let mut bytes = vec![0; tail_bytes];
        file.read_at(tail_at, &mut bytes)?;
        let Tail { keys, ids, queues } = header.tail(&bytes).ok_or_else(unusable)?;
        Ok(IndexFile { segment, header, ids, queues, keys })
    }

    /// The first record of the segment that followed it.
    pub(super) fn end(&self) -> Lsn {
        self.header.end
    }

    /// Whether all jobs in it wait for a span of time alone.
    pub(super) fn is_plain(&self) -> bool {
        self.header.timed[1..] == [0; 3]
    }

    /// Whether no job in it stands in that order.
    pub(super) fn is_empty(&self, order: Order) -> bool {
        self.header.timed[order as usize] == 0
    }

    /// Whether a job from the one to the other can be in it, as far as its first and last ids say.
    pub(super) fn may_have(&self, from: JobId, to: JobId) -> bool {
        self.ids.first().is_some_and(|&(first, _)| first <= to.0)
            && self.ids.last().is_some_and(|&(_, last)| last >= from.0)
    }

    /// The records of a job: none if it is not in here, several if it was written again within the segment.
    pub(super) fn find(&self, file: &impl StorageFile, job: JobId) -> io::Result<Vec<RecordAt>> {
        let mut records = Vec::new();
        self.find_all(file, &[job], &mut |_, at, _| records.push(at))?;
        Ok(records)
    }

    /// Tells `found` each record of the jobs that are in here, with the queue's number. Jobs come rising, so that each block
    /// is read once.
    pub(super) fn find_all(
        &self,
        file: &impl StorageFile,
        jobs: &[JobId],
        found: &mut dyn FnMut(JobId, RecordAt, u32),
    ) -> io::Result<()> {
        let (Some(&(first, _)), Some(&(_, last))) = (self.ids.first(), self.ids.last()) else { return Ok(()) };
        let from = jobs.partition_point(|job| job.0 < first);
        let mut held: Option<(usize, [u8; BLOCK_BYTES])> = None;
        for &job in jobs[from..].iter().take_while(|job| job.0 <= last) {
            let from = self.ids.partition_point(|&(_, last)| last < job.0);
            let with_it = self.ids[from..].iter().take_while(|&&(first, _)| first <= job.0).count();
            for number in from..from + with_it {
                if held.as_ref().is_none_or(|(other, _)| *other != number) {
                    held = Some((number, read_block(file, HEADER_BYTES as u64 + (number * BLOCK_BYTES) as u64)?));
                }
                let (_, block) = held.as_ref().expect("it was just read");
                let there =
                    (self.header.entries as usize - number * per_block(BY_ID_BYTES)).min(per_block(BY_ID_BYTES));
                let (entries, _) = block[..there * BY_ID_BYTES].as_chunks::<BY_ID_BYTES>();
                let at = entries.partition_point(|entry| u64_at(entry, 0) < job.0);
                for entry in entries[at..].iter().take_while(|entry| u64_at(*entry, 0) == job.0) {
                    found(job, RecordAt::decode(&entry[8..]), u32_at(entry, 20));
                }
            }
        }
        Ok(())
    }

    /// Whether a key, in whatever queue, has that hash.
    pub(super) fn may_have_key(&self, hash: u32) -> bool {
        self.keys.binary_search(&hash).is_ok()
    }

    /// The records of jobs whose key, in whatever queue, has that hash.
    pub(super) fn find_key(&self, file: &impl StorageFile, hash: u32) -> io::Result<Vec<RecordAt>> {
        let begin = self.keys.partition_point(|&other| other < hash);
        let count = self.keys[begin..].iter().take_while(|&&other| other == hash).count();
        let mut bytes = vec![0; count * BY_KEY_BYTES];
        if count > 0 {
            let at = self.header.tail_at() + (self.header.keyed as usize * 4 + begin * BY_KEY_BYTES) as u64;
            file.read_at(at, &mut bytes)?;
        }
        Ok(bytes.chunks_exact(BY_KEY_BYTES).map(RecordAt::decode).collect())
    }

    /// The jobs in an order of time, by their number in that order: those of one block, from `from` on. None at the end.
    pub(super) fn timed(&self, file: &impl StorageFile, order: Order, from: u32) -> io::Result<Vec<Timed>> {
        let entries = self.header.timed[order as usize];
        if from >= entries {
            return Ok(Vec::new());
        }
        let per_block = per_block(BY_TIME_BYTES);
        let number = from as usize / per_block;
        let block = read_block(file, self.header.times_at(order) + (number * BLOCK_BYTES) as u64)?;
        let there = (entries as usize - number * per_block).min(per_block);
        let wanted: Range<usize> = from as usize % per_block..there;
        let entry = |at: usize| {
            let bytes = &block[at * BY_TIME_BYTES..][..BY_TIME_BYTES];
            let (time, job) = (Time(u64_at(bytes, 0)), JobId(u64_at(bytes, 8)));
            Timed { time, job, at: RecordAt::decode(&bytes[16..]), queue: u32_at(bytes, 28) }
        };
        Ok(wanted.map(entry).collect())
    }

    /// The number, in an order of time, of the first job behind that moment. It reads few blocks.
    pub(super) fn first_after(&self, file: &impl StorageFile, order: Order, time: Time) -> io::Result<u32> {
        let per_block = u32::try_from(per_block(BY_TIME_BYTES)).expect("a block is short");
        let (mut from, mut to) = (0, self.header.timed[order as usize].div_ceil(per_block));
        // Blocks before `from` end by that moment, those from `to` on end behind it.
        while from < to {
            let middle = from + (to - from) / 2;
            let block = self.timed(file, order, middle * per_block)?;
            if block.last().is_some_and(|last| last.time > time) {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        let block = self.timed(file, order, from * per_block)?;
        let before = block.partition_point(|timed| timed.time <= time);
        Ok((from * per_block + u32::try_from(before).expect("a block is short")).min(self.header.timed[order as usize]))
    }
}

/// Reads the block there.
fn read_block(file: &impl StorageFile, at: u64) -> io::Result<[u8; BLOCK_BYTES]> {
    let mut block = [0; BLOCK_BYTES];
    file.read_at(at, &mut block)?;
    let is_sound = crc32fast::hash(&block[..BLOCK_BYTES - 4]) == u32_at(&block, BLOCK_BYTES - 4);
    if is_sound { Ok(block) } else { Err(unusable()) }
}
