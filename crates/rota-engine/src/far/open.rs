//! The file that says which jobs of far segments were open when a segment ended: what a start begins with.
//!
//! [`crate::log::Compaction`] has it written before the segment is given up, [`crate::state`] reads it at a start. The layout
//! is in `docs/disk-format.md`. The log names its checksum, so that no other one is taken for it.

use super::{Bits, FarError};
use crate::log::Lsn;
use crate::storage::{Beside, Storage, StorageFile};

const MAGIC: [u8; 8] = *b"ROTAOPEN";
/// What is written where all far jobs wait for a span of time alone, and what else.
const PLAIN_VERSION: u16 = 1;
const VERSION: u16 = 2;
const HEADER_BYTES: usize = 24;
/// What follows it in that one.
const CLOCK_BYTES: usize = 16;
const ENTRY_BYTES: usize = 24;

/// One far segment in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OpenSegment {
    pub(crate) segment: u64,
    /// Records of it that hold a job whole.
    pub(crate) records: u32,
    /// The first record of the segment that followed it.
    pub(crate) end: Lsn,
    /// Which of their jobs were open.
    pub(crate) open: Bits,
}

/// By how much the wall clock was ahead where the log does not say.
pub(crate) const CLOCK_UNKNOWN: i128 = i128::MIN;

/// The whole of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct OpenFile {
    pub(crate) segments: Vec<OpenSegment>,
    /// By how many nanoseconds the wall clock was ahead of engine time at that moment, or [`CLOCK_UNKNOWN`]. It is there where one of the jobs goes by
    /// more than a span of time: earlier servers would not know when those have to be in memory.
    pub(crate) wall_ahead: Option<i128>,
}

impl OpenFile {
    /// How many bytes it has at most where there are far segments of so many records.
    pub(crate) fn bytes(records: impl Iterator<Item = u32>) -> usize {
        let entries = records.map(|records| ENTRY_BYTES + (records as usize).div_ceil(64) * 8);
        HEADER_BYTES + CLOCK_BYTES + entries.sum::<usize>() + 4
    }

    /// Its bytes, as of the end of that segment, and their checksum.
    pub(crate) fn encode(&self, ends_with: u64) -> (Vec<u8>, u32) {
        let mut bytes = Vec::with_capacity(OpenFile::bytes(self.segments.iter().map(|segment| segment.records)));
        let version = if self.wall_ahead.is_some() { VERSION } else { PLAIN_VERSION };
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&u32::try_from(self.segments.len()).expect("segments are few").to_le_bytes());
        bytes.extend_from_slice(&ends_with.to_le_bytes());
        bytes.extend(self.wall_ahead.into_iter().flat_map(i128::to_le_bytes));
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.segment.to_le_bytes());
            bytes.extend_from_slice(&segment.end.0.to_le_bytes());
            bytes.extend_from_slice(&segment.records.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        for word in self.segments.iter().flat_map(|segment| &segment.open.words) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// Reads the one of the end of that segment, with its checksum; `None` if there is none.
    pub(crate) fn read<S: Storage>(storage: &S, ends_with: u64) -> Result<Option<(OpenFile, u32)>, FarError> {
        let name = Beside::Open(ends_with);
        let failed = |source| FarError::beside(storage, name, source);
        if !storage.beside().map_err(failed)?.contains(&name) {
            return Ok(None);
        }
        let file = storage.open_beside(name).map_err(failed)?;
        let length = usize::try_from(file.length().map_err(failed)?).map_err(|_| FarError::damaged(storage, name))?;
        let mut bytes = vec![0; length];
        file.read_at(0, &mut bytes).map_err(failed)?;
        let decoded = OpenFile::decode(&bytes, ends_with);
        decoded.map(Some).ok_or_else(|| FarError::damaged(storage, name))
    }

    /// What bytes hold that should be the one of the end of that segment, with their checksum; `None` if they are not.
    pub(crate) fn decode(bytes: &[u8], ends_with: u64) -> Option<(OpenFile, u32)> {
        let (content, checksum) = bytes.split_last_chunk::<4>()?;
        let checksum = u32::from_le_bytes(*checksum);
        let mut left = content;
        let header = take(&mut left, HEADER_BYTES)?;
        let version = u16::from_le_bytes(*header[8..].first_chunk()?);
        let is_ours = header[..8] == MAGIC && (PLAIN_VERSION..=VERSION).contains(&version);
        if crc32fast::hash(content) != checksum || !is_ours || u64_at(header, 16) != ends_with {
            return None;
        }
        let mut wall_ahead = None;
        if version == VERSION {
            wall_ahead = Some(i128::from_le_bytes(*take(&mut left, CLOCK_BYTES)?.first_chunk()?));
        }
        let count = u32_at(header, 12) as usize;
        let mut entries = take(&mut left, count.checked_mul(ENTRY_BYTES)?)?;
        let mut segments = Vec::new();
        while let Some(entry) = take(&mut entries, ENTRY_BYTES) {
            let records = u32_at(entry, 16);
            let words = take(&mut left, (records as usize).div_ceil(64) * 8)?;
            segments.push(OpenSegment {
                segment: u64_at(entry, 0),
                records,
                end: Lsn(u64_at(entry, 8)),
                open: Bits::of(words.chunks_exact(8).map(|word| u64_at(word, 0)).collect()),
            });
        }
        left.is_empty().then_some((OpenFile { segments, wall_ahead }, checksum))
    }
}

/// The next so many bytes, if there are so many.
pub(super) fn take<'a>(left: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    if count == 0 {
        return Some(&[]);
    }
    left.split_off(..count)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller has so many bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller has so many bytes"))
}
