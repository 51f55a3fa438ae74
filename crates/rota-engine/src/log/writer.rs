//! The open end of the log: groups go out, segments are closed and begun.
//!
//! One thread of the embedder's owns the writer, apart from the engine's lock. After a failed write or sync it
//! is poisoned: what the kernel kept of the failed bytes is unknown, and a second sync may report success for bytes that
//! were dropped by the first. So it must never try again.

use super::segment::{GROUP_HEADER_BYTES, GroupHeader, GroupSalt, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{Group, Lsn};
use crate::storage::{Storage, StorageFile};
use std::io;
use std::path::PathBuf;

/// How far ahead of small groups a segment is filled with zeros, in bytes: the length of the file then changes, and the
/// file system's journal is written, once in that many bytes and not at every sync.
const ZERO_AHEAD_BYTES: usize = 1 << 20;

/// Groups from this length on are not worth writing zeros for, in bytes: one sync of theirs carries as much.
const LARGE_GROUP_BYTES: usize = ZERO_AHEAD_BYTES / 8;

/// Why something was not written. Nothing that waits for it may leave the process, and the process should stop.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("cannot {doing} log segment {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The segment's file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The disk failed before, and nothing was tried now.
    #[error("the log takes nothing after a failed write or sync: restart the server once the disk is well")]
    Poisoned,
}

/// Totals of this log since it was opened, and what there is of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStats {
    /// Number of segments that a recovery would read.
    pub segments: u64,
    /// Their length up to the end of the last group, in bytes.
    pub bytes: u64,
    /// Records written since it was opened.
    pub records_written: u64,
    /// Groups written since it was opened.
    pub groups_written: u64,
    /// Bytes of them, with their headers.
    pub bytes_written: u64,
    /// Syncs of a segment since it was opened.
    pub syncs: u64,
}

/// The one writer of a log. See [`super::open`].
#[derive(Debug)]
pub struct LogWriter<S: Storage> {
    storage: S,
    file: S::File,
    header: SegmentHeader,
    salt: GroupSalt,
    /// Where the next group goes.
    offset: u64,
    /// Where the file ends: from `offset` to there, it is zeros.
    file_bytes: u64,
    /// The checksum of the last header.
    chain: u32,
    written: Lsn,
    durable: Lsn,
    /// Whether the segment has bytes that were not synced.
    is_dirty: bool,
    is_poisoned: bool,
    zeros: Box<[u8]>,
    stats: LogStats,
}

/// Where the writer goes on.
pub(super) struct LogEnd<F> {
    pub(super) file: F,
    pub(super) header: SegmentHeader,
    pub(super) offset: u64,
    pub(super) file_bytes: u64,
    pub(super) chain: u32,
    /// The last record; it is durable.
    pub(super) last_lsn: Lsn,
    /// Number of segments that recovery read.
    pub(super) segments: u64,
    /// Their length in bytes.
    pub(super) bytes: u64,
}

impl<S: Storage> LogWriter<S> {
    pub(super) fn new(storage: S, end: LogEnd<S::File>) -> LogWriter<S> {
        LogWriter {
            storage,
            file: end.file,
            header: end.header,
            salt: GroupSalt::new(end.header.store, end.header.segment),
            offset: end.offset,
            file_bytes: end.file_bytes,
            chain: end.chain,
            written: end.last_lsn,
            durable: end.last_lsn,
            is_dirty: false,
            is_poisoned: false,
            zeros: vec![0; ZERO_AHEAD_BYTES].into_boxed_slice(),
            stats: LogStats { segments: end.segments, bytes: end.bytes, ..LogStats::default() },
        }
    }

    /// Hands a group to the kernel and empties it; returns the last record written. It outlives the process from here
    /// on, and the machine's power after [`LogWriter::sync`]. May close the segment and begin the next, which syncs.
    ///
    /// # Errors
    /// [`LogError`]; any part of the group may be on disk, and the writer takes nothing any more.
    ///
    /// # Panics
    /// If the group does not follow the last one: the engine has a bug then.
    pub fn write(&mut self, group: &mut Group) -> Result<Lsn, LogError> {
        self.check()?;
        if group.is_empty() {
            return Ok(self.written);
        }
        assert_eq!(group.first_lsn.0, self.written.0 + 1, "groups are written in the order they were taken");
        group.pad();
        let has_groups = self.offset > SEGMENT_HEADER_BYTES as u64;
        let end_with_seal = self.offset + (group.buffer.len() + GROUP_HEADER_BYTES) as u64;
        if has_groups && end_with_seal > self.storage.segment_bytes() {
            self.begin_next_segment(group.buffer.len())?;
        }
        let records = group.records;
        self.put_group(&mut group.buffer, group.first_lsn, records)?;
        self.written = Lsn(self.written.0 + u64::from(records));
        self.stats.records_written += u64::from(records);
        group.clear();
        Ok(self.written)
    }

    /// Makes everything written durable; returns the last record that is.
    ///
    /// # Errors
    /// [`LogError`]; what was written since the last success may be lost, and the writer takes nothing any more.
    pub fn sync(&mut self) -> Result<Lsn, LogError> {
        self.check()?;
        if self.is_dirty {
            let synced = self.file.sync();
            self.guard("sync", synced)?;
            self.stats.syncs += 1;
            self.is_dirty = false;
            self.durable = self.written;
        }
        Ok(self.durable)
    }

    /// Ends the log in good order: syncs, and leaves a mark that says so, by which damage to the last records is told
    /// from a torn tail at the next start.
    ///
    /// # Errors
    /// As [`LogWriter::sync`].
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        let mut mark = vec![0; GROUP_HEADER_BYTES];
        self.put_group(&mut mark, Lsn(self.written.0 + 1), 0)?;
        self.sync()?;
        Ok(())
    }

    /// The last record that was written.
    #[must_use]
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// The last record that is known to be durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Counters, for metrics.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.stats
    }

    /// Fills in the header of a group and writes it, and zeros ahead of it where that pays.
    fn put_group(&mut self, bytes: &mut [u8], first_lsn: Lsn, records: u32) -> Result<(), LogError> {
        let payload = &bytes[GROUP_HEADER_BYTES..];
        let header = GroupHeader {
            payload_bytes: payload.len() as u64,
            first_lsn,
            durable: self.durable,
            records,
            is_seal: false,
            chain: self.chain,
            payload_checksum: crc32fast::hash(payload),
        };
        let checksum = header.encode(&self.salt, self.offset, bytes);
        self.is_dirty = true;
        let put = self.file.write_at(self.offset, bytes);
        self.guard("write to", put)?;
        self.chain = checksum;
        self.offset += bytes.len() as u64;
        self.stats.groups_written += 1;
        self.stats.bytes_written += bytes.len() as u64;
        self.stats.bytes += bytes.len() as u64;
        if self.offset > self.file_bytes {
            self.file_bytes = self.offset;
            let room = self.storage.segment_bytes().saturating_sub(self.offset);
            if bytes.len() < LARGE_GROUP_BYTES && room > 0 {
                let ahead = usize::try_from(room).unwrap_or(usize::MAX).min(self.zeros.len());
                let put = self.file.write_at(self.offset, &self.zeros[..ahead]);
                self.guard("write to", put)?;
                self.file_bytes += ahead as u64;
            }
        }
        Ok(())
    }

    /// The order of the steps is what recovery's conclusions rest on: see *Beginning a segment* in the format's page.
    fn begin_next_segment(&mut self, first_group_bytes: usize) -> Result<(), LogError> {
        self.sync()?;
        let header = SegmentHeader {
            segment: self.header.segment + 1,
            first_lsn: Lsn(self.written.0 + 1),
            chain: self.chain,
            ..self.header
        };
        let reserve =
            self.storage.segment_bytes().max((SEGMENT_HEADER_BYTES + first_group_bytes + GROUP_HEADER_BYTES) as u64);
        let begun = begin_segment(&mut self.storage, &header, reserve);
        let file = match begun {
            Ok(file) => file,
            Err((doing, source)) => {
                self.is_poisoned = true;
                return Err(LogError::Io { doing, path: self.storage.path(header.segment), source });
            }
        };
        let sealed = self.seal();
        self.guard("seal", sealed)?;
        self.file = file;
        self.salt = GroupSalt::new(header.store, header.segment);
        self.chain = header.checksum();
        self.header = header;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.file_bytes = self.offset;
        self.stats.segments += 1;
        self.stats.bytes += self.offset;
        Ok(())
    }

    /// Says in the segment that it has a successor, and gives back the room behind its end.
    fn seal(&mut self) -> io::Result<()> {
        let header = GroupHeader {
            payload_bytes: 0,
            first_lsn: Lsn(self.written.0 + 1),
            durable: self.durable,
            records: 0,
            is_seal: true,
            chain: self.chain,
            payload_checksum: crc32fast::hash(&[]),
        };
        let mut seal = [0; GROUP_HEADER_BYTES];
        header.encode(&self.salt, self.offset, &mut seal);
        self.file.write_at(self.offset, &seal)?;
        self.file.truncate(self.offset + seal.len() as u64)?;
        self.file.sync()
    }

    fn check(&self) -> Result<(), LogError> {
        if self.is_poisoned { Err(LogError::Poisoned) } else { Ok(()) }
    }

    fn guard<T>(&mut self, doing: &'static str, result: io::Result<T>) -> Result<T, LogError> {
        result.map_err(|source| {
            self.is_poisoned = true;
            LogError::Io { doing, path: self.storage.path(self.header.segment), source }
        })
    }
}

/// Makes a segment that holds no group yet; it and its name are durable on return.
pub(super) fn begin_segment<S: Storage>(
    storage: &mut S,
    header: &SegmentHeader,
    reserve_bytes: u64,
) -> Result<S::File, (&'static str, io::Error)> {
    let mut file = storage.create(header.segment).map_err(|error| ("create", error))?;
    file.reserve(reserve_bytes).map_err(|error| ("reserve room for", error))?;
    file.write_at(0, &header.encode()).map_err(|error| ("write to", error))?;
    file.sync().map_err(|error| ("sync", error))?;
    storage.sync_names().map_err(|error| ("sync the directory of", error))?;
    Ok(file)
}
