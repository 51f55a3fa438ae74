//! Where in a far segment each job is: a file of sorted entries, in blocks with checksums, of which one is read at a time.
//!
//! [`super::files`] writes it once, when the segment is reclaimed, and looks things up in it. It can be made again from the
//! segment. The layout is in `docs/disk-format.md`.

use super::open::{take, u32_at, u64_at};
use crate::job::{JobId, QueueName, Time};
use crate::log::Lsn;
use crate::storage::StorageFile;
use std::io;
use std::ops::Range;

const MAGIC: [u8; 8] = *b"ROTAFARX";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;

/// Length of a block with its checksum, in bytes.
const BLOCK_BYTES: usize = 4096;

/// Lengths of the entries of each part, in bytes.
const BY_ID_BYTES: usize = 24;
const BY_TIME_BYTES: usize = 32;
const BY_KEY_BYTES: usize = 12;

/// A job in a far segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct IndexEntry {
    pub(super) job: JobId,
    pub(super) run_at: Time,
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

/// A job in the order of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Timed {
    pub(super) run_at: Time,
    pub(super) job: JobId,
    pub(super) at: RecordAt,
    pub(super) queue: u32,
}

/// An open index.
#[derive(Debug)]
pub(super) struct IndexFile<F> {
    file: F,
    pub(super) segment: u64,
    end: Lsn,
    entries: u32,
    keyed: u32,
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
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&segment.to_le_bytes());
    header[24..32].copy_from_slice(&end.0.to_le_bytes());
    header[32..36].copy_from_slice(&count(entries.len()));
    header[36..40].copy_from_slice(&count(keyed));
    header[40..44].copy_from_slice(&count(queues.len()));
    header[44..48].copy_from_slice(&count(names.len()));
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
    entries.sort_unstable_by_key(|entry| (entry.run_at, entry.job, entry.at));
    encode_blocks(&mut out, &entries, BY_TIME_BYTES, |entry, out| {
        out.extend_from_slice(&entry.run_at.0.to_le_bytes());
        out.extend_from_slice(&entry.job.0.to_le_bytes());
        entry.at.encode(out);
        out.extend_from_slice(&entry.queue.to_le_bytes());
    });
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

/// An index cannot be used as it is: it is to be made again from its segment.
fn unusable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged")
}

impl<F: StorageFile> IndexFile<F> {
    /// Opens the index of a segment.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged or not that one's, or what the disk says.
    pub(super) fn open(file: F, segment: u64) -> io::Result<IndexFile<F>> {
        let mut header = [0; HEADER_BYTES];
        let length = file.length()?;
        if length < HEADER_BYTES as u64 {
            return Err(unusable());
        }
        file.read_at(0, &mut header)?;
        let is_ours = header[..8] == MAGIC && header[8..10] == VERSION.to_le_bytes();
        if !is_ours || crc32fast::hash(&header[..60]) != u32_at(&header, 60) || u64_at(&header, 16) != segment {
            return Err(unusable());
        }
        let [entries, keyed, queues, names] = [32, 36, 40, 44].map(|at| u32_at(&header, at));
        let mut index = IndexFile {
            file,
            segment,
            end: Lsn(u64_at(&header, 24)),
            entries,
            keyed,
            ids: Box::default(),
            queues: Vec::new(),
            keys: Box::default(),
        };
        let id_blocks = blocks(entries as usize, BY_ID_BYTES);
        let tail_at = index.keys_at();
        let tail_bytes = keyed as usize * (4 + BY_KEY_BYTES) + id_blocks * 16 + names as usize + 4;
        if length != tail_at + tail_bytes as u64 {
            return Err(unusable());
        }
        let mut tail = vec![0; tail_bytes];
        index.file.read_at(tail_at, &mut tail)?;
        let (content, checksum) = tail.split_last_chunk::<4>().ok_or_else(unusable)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err(unusable());
        }
        let mut left = content;
        let keys = take(&mut left, keyed as usize * 4).ok_or_else(unusable)?;
        index.keys = keys.chunks_exact(4).map(|hash| u32_at(hash, 0)).collect();
        take(&mut left, keyed as usize * BY_KEY_BYTES).ok_or_else(unusable)?;
        let ids = take(&mut left, id_blocks * 16).ok_or_else(unusable)?;
        index.ids = ids.chunks_exact(16).map(|block| (u64_at(block, 0), u64_at(block, 8))).collect();
        for _ in 0..queues {
            let name = take(&mut left, 1).and_then(|length| take(&mut left, length[0].into()));
            let name = name.and_then(|name| QueueName::new(std::str::from_utf8(name).ok()?).ok());
            index.queues.push(name.ok_or_else(unusable)?);
        }
        Ok(index)
    }

    /// The first record of the segment that followed it.
    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    /// How many jobs are in it.
    pub(super) fn len(&self) -> u32 {
        self.entries
    }

    /// Whether a job can be in it, as far as its first and last ids say.
    pub(super) fn may_have(&self, job: JobId) -> bool {
        self.ids.first().is_some_and(|&(first, _)| first <= job.0)
            && self.ids.last().is_some_and(|&(_, last)| last >= job.0)
    }

    fn times_at(&self) -> u64 {
        HEADER_BYTES as u64 + (blocks(self.entries as usize, BY_ID_BYTES) * BLOCK_BYTES) as u64
    }

    fn keys_at(&self) -> u64 {
        self.times_at() + (blocks(self.entries as usize, BY_TIME_BYTES) * BLOCK_BYTES) as u64
    }

    fn block(&self, at: u64) -> io::Result<[u8; BLOCK_BYTES]> {
        let mut block = [0; BLOCK_BYTES];
        self.file.read_at(at, &mut block)?;
        let is_sound = crc32fast::hash(&block[..BLOCK_BYTES - 4]) == u32_at(&block, BLOCK_BYTES - 4);
        if is_sound { Ok(block) } else { Err(unusable()) }
    }

    /// The records of a job: none if it is not in here, several if it was written again within the segment.
    pub(super) fn find(&self, job: JobId) -> io::Result<Vec<RecordAt>> {
        let mut records = Vec::new();
        self.find_all(&[job], &mut |_, at, _| records.push(at))?;
        Ok(records)
    }

    /// Tells `found` each record of the jobs that are in here, with the queue's number. Jobs come rising, so that each block
    /// is read once.
    pub(super) fn find_all(&self, jobs: &[JobId], found: &mut dyn FnMut(JobId, RecordAt, u32)) -> io::Result<()> {
        let (Some(&(first, _)), Some(&(_, last))) = (self.ids.first(), self.ids.last()) else { return Ok(()) };
        let from = jobs.partition_point(|job| job.0 < first);
        let mut held: Option<(usize, [u8; BLOCK_BYTES])> = None;
        for &job in jobs[from..].iter().take_while(|job| job.0 <= last) {
            let from = self.ids.partition_point(|&(_, last)| last < job.0);
            let with_it = self.ids[from..].iter().take_while(|&&(first, _)| first <= job.0).count();
            for number in from..from + with_it {
                if held.as_ref().is_none_or(|(other, _)| *other != number) {
                    held = Some((number, self.block(HEADER_BYTES as u64 + (number * BLOCK_BYTES) as u64)?));
                }
                let (_, block) = held.as_ref().expect("it was just read");
                let there = (self.entries as usize - number * per_block(BY_ID_BYTES)).min(per_block(BY_ID_BYTES));
                let (entries, _) = block[..there * BY_ID_BYTES].as_chunks::<BY_ID_BYTES>();
                let at = entries.partition_point(|entry| u64_at(entry, 0) < job.0);
                for entry in entries[at..].iter().take_while(|entry| u64_at(*entry, 0) == job.0) {
                    found(job, RecordAt::decode(&entry[8..]), u32_at(entry, 20));
                }
            }
        }
        Ok(())
    }

    /// The records of jobs whose key, in whatever queue, has that hash.
    pub(super) fn find_key(&self, hash: u32) -> io::Result<Vec<RecordAt>> {
        let begin = self.keys.partition_point(|&other| other < hash);
        let count = self.keys[begin..].iter().take_while(|&&other| other == hash).count();
        let mut bytes = vec![0; count * BY_KEY_BYTES];
        if count > 0 {
            let at = self.keys_at() + (self.keyed as usize * 4 + begin * BY_KEY_BYTES) as u64;
            self.file.read_at(at, &mut bytes)?;
        }
        Ok(bytes.chunks_exact(BY_KEY_BYTES).map(RecordAt::decode).collect())
    }

    /// The jobs in the order of time, by their number in that order: those of one block, from `from` on. None at the end.
    pub(super) fn timed(&self, from: u32) -> io::Result<Vec<Timed>> {
        if from >= self.entries {
            return Ok(Vec::new());
        }
        let per_block = per_block(BY_TIME_BYTES);
        let number = from as usize / per_block;
        let block = self.block(self.times_at() + (number * BLOCK_BYTES) as u64)?;
        let there = (self.entries as usize - number * per_block).min(per_block);
        let wanted: Range<usize> = from as usize % per_block..there;
        let entry = |at: usize| {
            let bytes = &block[at * BY_TIME_BYTES..][..BY_TIME_BYTES];
            let (run_at, job) = (Time(u64_at(bytes, 0)), JobId(u64_at(bytes, 8)));
            Timed { run_at, job, at: RecordAt::decode(&bytes[16..]), queue: u32_at(bytes, 28) }
        };
        Ok(wanted.map(entry).collect())
    }
}
