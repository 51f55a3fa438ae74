//! The open end of the log: groups go out, segments are closed and begun.
//!
//! One thread of the embedder's owns the writer, apart from the engine's lock. After a failed write or sync it
//! is poisoned: what the kernel kept of the failed bytes is unknown, and a second sync may report success for bytes that
//! were dropped by the first. So it must never try again.

use super::record::BodyFault;
use super::segment::{GROUP_HEADER_BYTES, GroupHeader, GroupSalt, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{Group, Lsn, Place};
use crate::job::JobId;
use crate::storage::{Storage, StorageFile};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// The disk failed, and not with one of the segments that are needed.
    #[error("cannot {doing} the log in {}", path.display())]
    Directory {
        /// What was being done.
        doing: &'static str,
        /// The data directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A segment could not be read again, to be reclaimed.
    #[error("cannot reclaim a segment of the log")]
    Reclaim(#[source] crate::far::FarError),
    /// A job far ahead cannot be looked up.
    #[error("cannot look up jobs that are not in memory")]
    Far(#[source] crate::far::FarError),
    /// A body that was to be handed out is not what was written.
    #[error(
        "log segment {}, offset {offset}: the body of job {job} cannot be served: the disk or somebody changed it",
        path.display()
    )]
    Body {
        /// The segment's file.
        path: PathBuf,
        /// Bytes before its record in there.
        offset: u64,
        /// Whose body it is.
        job: JobId,
        /// What was found instead.
        source: BodyFault,
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
    /// The oldest segment that a recovery would read.
    pub oldest_segment: u64,
    /// The segment that is written to.
    pub newest_segment: u64,
    /// Bytes of that one so far.
    pub newest_bytes: u64,
    /// Length at which a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// The oldest segment that a recovery will read once the one under way is closed.
    pub needed_from: u64,
    /// Bytes of those before it.
    pub needless_bytes: u64,
    /// Segments that a compaction made needless since it was opened.
    pub retired: u64,
    /// Bytes that can be written before the disk is asked for more.
    pub room: u64,
}

/// The one writer of a log. See [`super::open`].
#[derive(Debug)]
pub struct LogWriter<S: Storage> {
    storage: S,
    file: S::File,
    syncs: Arc<Syncs>,
    header: SegmentHeader,
    salt: GroupSalt,
    /// Where the next group goes.
    offset: u64,
    /// Where the file ends: from `offset` to there, it is zeros.
    file_bytes: u64,
    /// The length at which this segment is closed: that of all, or as far as the disk has room for it.
    limit: u64,
    /// The checksum of the last header.
    chain: u32,
    written: Lsn,
    durable: Lsn,
    /// Whether the segment has bytes that were not synced.
    is_dirty: bool,
    is_poisoned: bool,
    zeros: Box<[u8]>,
    /// The segments that a recovery would read before this one, each with its length in bytes.
    closed: VecDeque<(u64, u64)>,
    /// The sum of their lengths.
    closed_bytes: u64,
    /// Recovery needs none below this from the next segment on.
    needed_from: u64,
    /// Segments that room is set aside for.
    spares: u64,
    stats: LogStats,
}

/// A sync under way, apart from the writer: see [`LogWriter::begin_sync`].
#[derive(Debug)]
pub struct SyncUnderWay<F> {
    file: F,
    syncs: Arc<Syncs>,
    segment: u64,
    written: Lsn,
}

impl<F: StorageFile> SyncUnderWay<F> {
    /// Syncs. It waits for the disk; the writer can write meanwhile.
    ///
    /// # Errors
    /// What the disk says. The result is for [`LogWriter::end_sync`] in any case.
    pub fn sync(&mut self) -> io::Result<()> {
        self.syncs.sync(&mut self.file)
    }
}

/// Has the syncs of a file wait for each other, and fail once one did: the kernel tells of what it could not write once for each
/// open file, to whoever asks first.
#[derive(Debug, Default)]
struct Syncs {
    /// What the one said that failed.
    failed: Mutex<Option<(io::ErrorKind, Option<i32>)>>,
}

impl Syncs {
    fn sync(&self, file: &mut impl StorageFile) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kind, code)) = *failed {
            return Err(code.map_or_else(|| kind.into(), io::Error::from_raw_os_error));
        }
        file.sync().inspect_err(|error| *failed = Some((error.kind(), error.raw_os_error())))
    }
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
    /// The segments that recovery read before this one, each with its length in bytes.
    pub(super) closed: VecDeque<(u64, u64)>,
    /// How much of the segment under way room is reserved for, in bytes.
    pub(super) limit: u64,
    /// Segments that room is set aside for.
    pub(super) spares: u64,
}

impl<S: Storage> LogWriter<S> {
    pub(super) fn new(storage: S, end: LogEnd<S::File>) -> LogWriter<S> {
        LogWriter {
            storage,
            file: end.file,
            syncs: Arc::default(),
            header: end.header,
            salt: GroupSalt::new(end.header.store, end.header.segment),
            offset: end.offset,
            file_bytes: end.file_bytes,
            limit: end.limit,
            chain: end.chain,
            written: end.last_lsn,
            durable: end.last_lsn,
            is_dirty: false,
            is_poisoned: false,
            zeros: vec![0; ZERO_AHEAD_BYTES].into_boxed_slice(),
            needed_from: end.closed.front().map_or(end.header.segment, |&(oldest, _)| oldest),
            closed_bytes: end.closed.iter().map(|&(_, bytes)| bytes).sum(),
            closed: end.closed,
            spares: end.spares,
            stats: LogStats::default(),
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
        // Behind what is reserved there may be room yet, as good as that for a segment which none is set aside for.
        let limit = if self.has_spare() { self.limit } else { self.storage.segment_bytes() };
        if has_groups && end_with_seal > limit {
            self.begin_next_segment(group.buffer.len())?;
        }
        let records = group.records;
        let place = Place { segment: self.header.segment, offset: self.offset };
        self.put_group(&mut group.buffer, group.first_lsn, records)?;
        group.written_at(place);
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
            let synced = self.syncs.sync(&mut self.file);
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
        let segment_bytes = self.storage.segment_bytes();
        // Each segment but the one under way has a header, and each a seal.
        let usable = segment_bytes.saturating_sub((SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES) as u64);
        LogStats {
            segments: self.closed.len() as u64 + 1,
            bytes: self.closed_bytes + self.offset,
            oldest_segment: self.closed.front().map_or(self.header.segment, |&(oldest, _)| oldest),
            newest_segment: self.header.segment,
            newest_bytes: self.offset,
            segment_bytes,
            needed_from: self.needed_from,
            needless_bytes: self
                .closed
                .iter()
                .take_while(|(segment, _)| *segment < self.needed_from)
                .map(|&(_, bytes)| bytes)
                .sum(),
            room: self.left_in_segment() + self.spares * usable,
            ..self.stats
        }
    }

    /// How many bytes the segment under way can still take, beside the mark at its end.
    #[must_use]
    pub fn left_in_segment(&self) -> u64 {
        self.limit.saturating_sub(self.offset + GROUP_HEADER_BYTES as u64)
    }

    /// Whether room is set aside for the next segment.
    pub(crate) fn has_spare(&self) -> bool {
        self.spares > 0
    }

    /// Where its segments are.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Tells that [`Storage::set_aside`] made room for one more segment.
    pub fn add_spare(&mut self) {
        self.spares += 1;
    }

    /// Gives the room of one spare segment back to the disk, if there is one. It is no fault if that fails.
    pub fn give_back(&mut self) {
        if self.spares > 0 && self.storage.give_back().is_ok() {
            self.spares -= 1;
        }
    }

    /// Tells that recovery needs no segment below `segment` any more: all that is open stands in it or behind it, in
    /// records that are durable. It holds from the next segment on, whose header says so.
    ///
    /// # Panics
    /// If it is not a segment that was closed, or the next one.
    pub fn need_only_from(&mut self, segment: u64) {
        assert!(segment <= self.header.segment, "the segment under way is always needed");
        self.needed_from = self.needed_from.max(segment);
    }

    /// Closes the segment under way and begins the next one, if there is anything in it.
    ///
    /// # Errors
    /// As [`LogWriter::write`].
    pub fn close_segment(&mut self) -> Result<(), LogError> {
        self.check()?;
        if self.offset > SEGMENT_HEADER_BYTES as u64 { self.begin_next_segment(0) } else { Ok(()) }
    }

    /// Begins a sync of everything written so far that the caller carries out apart from the writer, and reports to
    /// [`LogWriter::end_sync`]; `None` if there is nothing to sync.
    ///
    /// # Errors
    /// [`LogError::Poisoned`].
    pub fn begin_sync(&mut self) -> Result<Option<SyncUnderWay<S::File>>, LogError> {
        self.check()?;
        let under_way = SyncUnderWay {
            file: self.file.clone(),
            syncs: Arc::clone(&self.syncs),
            segment: self.header.segment,
            written: self.written,
        };
        Ok(self.is_dirty.then_some(under_way))
    }

    /// Takes note of how a sync ended; returns the last record that is durable.
    ///
    /// # Errors
    /// As [`LogWriter::sync`].
    pub fn end_sync(&mut self, sync: SyncUnderWay<S::File>, synced: io::Result<()>) -> Result<Lsn, LogError> {
        self.check()?;
        self.guard("sync", synced)?;
        self.stats.syncs += 1;
        self.durable = self.durable.max(sync.written);
        if sync.segment == self.header.segment && sync.written == self.written {
            self.is_dirty = false;
        }
        Ok(self.durable)
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
        if self.offset > self.file_bytes {
            self.file_bytes = self.offset;
            let room = self.limit.saturating_sub(self.offset);
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
            oldest_needed: self.needed_from,
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
        self.spares = self.spares.saturating_sub(1);
        let closed_bytes = self.offset + GROUP_HEADER_BYTES as u64;
        self.closed.push_back((self.header.segment, closed_bytes));
        self.closed_bytes += closed_bytes;
        while let Some((_, bytes)) = self.closed.pop_front_if(|(segment, _)| *segment < self.needed_from) {
            self.closed_bytes -= bytes;
            self.stats.retired += 1;
        }
        self.file = file;
        self.salt = GroupSalt::new(header.store, header.segment);
        self.chain = header.checksum();
        self.header = header;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.file_bytes = self.offset;
        self.limit = self.storage.segment_bytes();
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
