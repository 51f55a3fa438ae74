//! The far segments' files: makes an index, looks jobs up, reads their records.
//!
//! It does I/O, so nobody calls it while the engine is held. It knows nothing of which jobs are open; whoever gets a record
//! from here has [`crate::engine::Engine::bring_near`] decide that. What comes first by time is in `orders`.

mod orders;

use super::index::{self, IndexEntry, IndexFile, Order, RecordAt};
use super::{FarFound, FarJob, FarPlace, FarRecord, OpenSegment, Want};
use crate::event::{Event, KeptJob};
use crate::job::{JobId, QueueName, Time};
use crate::log::{LoggedEvent, Lsn, NameCache, Place, RecordFault, SegmentError, SegmentReader, decode_record};
use crate::queue::QueueId;
use crate::storage::{Beside, Handle, Handles, Storage, StorageFile, is_full};
use crate::terms::Expiry;
use orders::Cursor;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

/// Why far jobs cannot be looked up. The disk is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum FarError {
    /// The disk failed.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// What is there is not what was written.
    #[error("{} is damaged, though it had been safely written: the disk or somebody changed it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A job's record is not what was written.
    #[error(
        "log segment {}, offset {offset}: the record of job {job} cannot be read: {source}", path.display()
    )]
    Record {
        /// The segment's file.
        path: PathBuf,
        /// Bytes before the record in it.
        offset: u64,
        /// The job.
        job: JobId,
        /// What is wrong.
        source: RecordFault,
    },
    /// A segment cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl FarError {
    /// Whether the disk has no room: then it can be tried again.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, FarError::Io { source, .. } if is_full(source))
    }

    /// Whether the file is missing or damaged: if it was made from another one, it can be made again.
    fn is_of_no_use(&self) -> bool {
        match self {
            FarError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            other => matches!(other, FarError::Damaged { .. }),
        }
    }

    pub(crate) fn beside<S: Storage>(storage: &S, name: Beside, source: io::Error) -> FarError {
        FarError::Io { path: storage.path(1).with_file_name(name.file_name()), source }
    }

    pub(super) fn damaged<S: Storage>(storage: &S, name: Beside) -> FarError {
        FarError::Damaged { path: storage.path(1).with_file_name(name.file_name()) }
    }
}

/// A job that an index names: to be read with [`FarFiles::read`] if it is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FarEntry {
    /// Where it stands in the order that it was looked up in.
    pub time: Time,
    /// Which job.
    pub job: JobId,
    /// Which record.
    pub place: FarPlace,
    offset: u32,
    length: u32,
}

/// The records of a segment whose jobs may become far jobs.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    entries: Vec<IndexEntry>,
    queues: Vec<QueueName>,
    numbers: HashMap<QueueName, u32>,
}

impl Candidates {
    /// Takes note of a record, if its place can be.
    pub(crate) fn add(&mut self, ordinal: u32, offset: u64, length: usize, kept: &KeptJob, queue: &QueueName) {
        let (Ok(offset), Ok(length)) = (u32::try_from(offset), u32::try_from(length)) else { return };
        let number = *self.numbers.entry(queue.clone()).or_insert_with(|| {
            self.queues.push(queue.clone());
            u32::try_from(self.queues.len() - 1).expect("a segment names fewer queues")
        });
        let put = &kept.put;
        let mut times = [None; Order::ALL.len()];
        match put.at_wall {
            None => times[Order::Due as usize] = Some(put.run_at),
            Some(at) => times[Order::WallDue as usize] = Some(at),
        }
        match put.terms.as_ref().and_then(|terms| terms.expires_at) {
            None => {}
            Some(Expiry::Engine(at)) => times[Order::Expiry as usize] = Some(at),
            Some(Expiry::Wall(at)) => times[Order::WallExpiry as usize] = Some(at),
        }
        self.entries.push(IndexEntry {
            job: put.job,
            times,
            at: RecordAt { ordinal, offset, length },
            queue: number,
            key_hash: put.key.as_deref().map(|key| key_hash(queue, key)),
        });
    }

    pub(crate) fn ordinals(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|entry| entry.at.ordinal)
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.entries.iter().map(|entry| entry.job)
    }

    /// Leaves those in of which `keep` says so, in their order.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.entries.retain(|_| keep.next().is_some_and(|&keep| keep));
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// What an index has of a key in a queue.
pub(crate) fn key_hash(queue: &QueueName, key: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(queue.as_str().as_bytes());
    // No queue's name has it.
    hasher.update(&[0]);
    hasher.update(key);
    hasher.finalize()
}

struct FarFile {
    index: IndexFile,
    /// How far it was gone through in each order of time.
    cursors: [Cursor; Order::ALL.len()],
}

/// The indexes of all far segments, and the segments. Shared by those who look jobs up.
pub struct FarFiles<S: Storage> {
    storage: S,
    files: RwLock<BTreeMap<u64, Arc<FarFile>>>,
    handles: Handles<S>,
    /// How often the wall clock had been set when it was looked last what will be due.
    clock_sets: AtomicU64,
}

impl<S: Storage> std::fmt::Debug for FarFiles<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.read_files().keys()).finish()
    }
}

impl<S: Storage> FarFiles<S> {
    /// None yet; at most so many files are held open at a time, two for each segment.
    #[must_use]
    pub fn new(storage: S, most_open: usize) -> FarFiles<S> {
        let handles = Handles::new(storage.clone(), most_open);
        FarFiles { storage, files: RwLock::default(), handles, clock_sets: AtomicU64::new(0) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read_files().is_empty()
    }

    /// Whether a segment is a far one.
    #[must_use]
    pub fn has(&self, segment: u64) -> bool {
        self.read_files().contains_key(&segment)
    }

    /// Whether a job can be in a far segment, as far as the first and last ids of each say.
    pub(crate) fn may_have(&self, job: JobId) -> bool {
        self.read_files().values().any(|file| file.index.may_have(job, job))
    }

    /// Which of the files beside the segments nobody needs, where a start reads the log from segment `oldest` on.
    #[must_use]
    pub fn needless(&self, mut beside: Vec<Beside>, oldest: u64) -> Vec<Beside> {
        beside.retain(|name| match *name {
            Beside::Index(segment) => segment < oldest && !self.has(segment),
            Beside::Open(ends_with) => ends_with + 1 < oldest,
        });
        beside
    }

    fn read_files(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Arc<FarFile>>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<FarFile>> {
        self.read_files().values().cloned().collect()
    }

    fn file(&self, segment: u64) -> Option<Arc<FarFile>> {
        self.read_files().get(&segment).cloned()
    }

    /// Opens the index of a segment that is a far one now.
    ///
    /// # Errors
    /// [`FarError`].
    pub(crate) fn open(&self, segment: u64) -> Result<(), FarError> {
        let name = Beside::Index(segment);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::InvalidData => FarError::damaged(&self.storage, name),
            _ => FarError::beside(&self.storage, name, source),
        };
        // Another one may have stood there.
        self.handles.close(segment);
        let index = self.handles.get(Handle::Index(segment));
        let index = index.and_then(|file| IndexFile::open(&file, segment)).map_err(failed)?;
        self.handles.get(Handle::Segment(segment)).map_err(|source| self.failed(segment, source))?;
        let file = FarFile { index, cursors: Default::default() };
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(segment, file.into());
        Ok(())
    }

    /// Whether all jobs in the index of a segment wait for a span of time alone.
    pub(crate) fn is_plain(&self, segment: u64) -> bool {
        self.file(segment).is_none_or(|file| file.index.is_plain())
    }

    /// An index's file; `None` if its segment is no far one any more: nothing in it is open.
    fn index_of(&self, file: &FarFile) -> Result<Option<S::File>, FarError> {
        let segment = file.index.segment;
        let opened = self.handle(Handle::Index(segment), segment);
        opened.map_err(|source| self.index_failed(segment, source))
    }

    fn handle(&self, handle: Handle, segment: u64) -> io::Result<Option<S::File>> {
        let opened = self.handles.get(handle);
        if !self.has(segment) {
            // It would be held open for nobody, and with it its room on the disk.
            self.handles.close(segment);
        }
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.has(segment) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the index of a segment that a start found; makes it anew where it is missing or damaged. Returns how many of
    /// the open jobs there are in each queue.
    pub(crate) fn open_found(&self, found: &OpenSegment) -> Result<Vec<(QueueName, u64)>, FarError> {
        match self.open(found.segment).and_then(|()| self.counts(found)) {
            Err(error) if error.is_of_no_use() => {
                let candidates = self.candidates_in(found)?;
                self.write_index(&mut self.storage.clone(), found.segment, found.end, candidates)?;
                self.open(found.segment)?;
                self.counts(found)
            }
            other => other,
        }
    }

    /// How many of the open jobs of a segment there are in each queue.
    fn counts(&self, found: &OpenSegment) -> Result<Vec<(QueueName, u64)>, FarError> {
        let file = self.file(found.segment).expect("it was just opened");
        if let [only] = &file.index.queues[..] {
            return Ok(vec![(only.clone(), found.open.count.into())]);
        }
        let mut counts = vec![0; file.index.queues.len()];
        for order in [Order::Due, Order::WallDue] {
            let mut from = 0;
            loop {
                let timed = self.timed(&file, order, from)?;
                if timed.is_empty() {
                    break;
                }
                from += u32::try_from(timed.len()).expect("a block is short");
                for timed in timed.iter().filter(|timed| found.open.get(timed.at.ordinal)) {
                    counts[timed.queue as usize] += 1;
                }
            }
        }
        Ok(file.index.queues.iter().cloned().zip(counts).filter(|&(_, count)| count > 0).collect())
    }

    /// The open jobs of a segment, out of the segment itself.
    fn candidates_in(&self, found: &OpenSegment) -> Result<Candidates, FarError> {
        let mut reader = SegmentReader::begin(&self.storage, found.segment, Some(found.end))?;
        let (mut candidates, mut names) = (Candidates::default(), NameCache::default());
        while reader.read_group(&mut |record| {
            if let Some(ordinal) = record.ordinal.filter(|&ordinal| found.open.get(ordinal))
                && let Some((kept, queue)) = record.event(&mut names)?.and_then(LoggedEvent::whole_job)
            {
                candidates.add(ordinal, record.offset, record.length(), &kept, &queue);
            }
            Ok(())
        })? {}
        Ok(candidates)
    }

    /// Writes the index of a segment; durable on return.
    pub(crate) fn write_index(
        &self,
        storage: &mut S,
        segment: u64,
        end: Lsn,
        candidates: Candidates,
    ) -> Result<(), FarError> {
        let name = Beside::Index(segment);
        let bytes = index::encode(segment, end, &candidates.queues, candidates.entries);
        let written = storage.write_beside(name, &bytes);
        written.map_err(|source| FarError::beside(&self.storage, name, source))
    }

    /// The same files, read through another handle.
    ///
    /// # Panics
    /// If they cannot be opened.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn through(&self, storage: S) -> FarFiles<S> {
        let files = FarFiles::new(storage, 3);
        let segments: Vec<u64> = self.read_files().keys().copied().collect();
        segments.into_iter().for_each(|segment| files.open(segment).expect("it was open before"));
        files
    }

    /// Closes the files of a segment that nobody needs any more.
    pub fn close(&self, segment: u64) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&segment);
        self.handles.close(segment);
    }

    /// How many files are held open.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.handles.count()
    }

    /// Looks up what is wanted. `are_cold` says, of so many at a time, which jobs are open and not in memory. It does I/O.
    ///
    /// # Errors
    /// [`FarError`].
    pub fn find(&self, want: &Want, are_cold: &mut dyn FnMut(&[FarEntry]) -> Vec<bool>) -> Result<FarFound, FarError> {
        let records = match want {
            Want::Place(job) => return self.newest_places(&[*job]).map(FarFound::Places),
            Want::Job(job) => self.find_job(*job, are_cold)?,
            Want::Key { queue, key } => {
                let mut found = Vec::new();
                for file in self.all() {
                    let hash = key_hash(queue, key);
                    if !file.index.may_have_key(hash) {
                        continue;
                    }
                    let Some(index) = self.index_of(&file)? else { continue };
                    let at = file.index.find_key(&index, hash);
                    let at = at.map_err(|source| self.index_failed(file.index.segment, source))?;
                    found.extend(at.into_iter().map(|at| file.entry(JobId(0), Time(0), at)));
                }
                let mut records = self.read(&found)?;
                records.retain(|record| record.queue == *queue && record.kept.put.key.as_ref() == Some(key));
                records
            }
            Want::First { queue, count, wall_ahead } => {
                let entries = self.first_of(queue, *count, *wall_ahead, are_cold)?;
                self.read(&entries)?
            }
        };
        Ok(FarFound::Jobs(records))
    }

    /// Looks up all that is wanted, as [`FarFiles::find`] each; which segments have the jobs whose places are wanted is
    /// found out once for all of them.
    ///
    /// # Errors
    /// [`FarError`].
    pub fn find_all(
        &self,
        wants: Vec<Want>,
        are_cold: &mut dyn FnMut(&[FarEntry]) -> Vec<bool>,
    ) -> Result<Vec<(Want, FarFound)>, FarError> {
        let place_of = |want: &Want| if let Want::Place(job) = want { Some(*job) } else { None };
        let mut jobs: Vec<JobId> = wants.iter().filter_map(place_of).collect();
        jobs.sort_unstable();
        jobs.dedup();
        let places = self.newest_places(&jobs)?;
        let find = |want: Want| {
            let found = match place_of(&want) {
                None => self.find(&want, are_cold)?,
                Some(job) => {
                    let from = places.partition_point(|place| place.job < job);
                    FarFound::Places(places[from..].iter().take_while(|place| place.job == job).cloned().collect())
                }
            };
            Ok((want, found))
        };
        wants.into_iter().map(find).collect()
    }

    /// Where jobs stand, which come rising: in their order, and of each the newest segment first.
    fn newest_places(&self, jobs: &[JobId]) -> Result<Vec<FarJob>, FarError> {
        let (Some(&first), Some(&last)) = (jobs.first(), jobs.last()) else { return Ok(Vec::new()) };
        let mut places = self.places_in(self.that_may_have(first, last), jobs)?;
        places.sort_by_key(|place| place.job);
        Ok(places)
    }

    /// Looks up a job, as [`FarFiles::find`].
    pub(crate) fn find_job(
        &self,
        job: JobId,
        are_cold: &mut dyn FnMut(&[FarEntry]) -> Vec<bool>,
    ) -> Result<Vec<FarRecord>, FarError> {
        let mut found = Vec::new();
        for file in self.that_may_have(job, job) {
            let Some(index) = self.index_of(&file)? else { continue };
            let at = file.index.find(&index, job).map_err(|source| self.index_failed(file.index.segment, source))?;
            found.extend(at.into_iter().map(|at| file.entry(job, Time(0), at)));
        }
        self.read_cold(found, are_cold)
    }

    /// The far segments that can have a job from the one to the other, by the first and last ids of each, the newest first.
    fn that_may_have(&self, from: JobId, to: JobId) -> Vec<Arc<FarFile>> {
        let may_have = |file: &&Arc<FarFile>| file.index.may_have(from, to);
        self.read_files().values().rev().filter(may_have).cloned().collect()
    }

    /// Where jobs stand, which come rising: for each of them every place that an index has. The indexes are read in their
    /// order, whatever the number of jobs, so that a disk is not asked for each.
    pub(crate) fn places(&self, jobs: &[JobId]) -> Result<Vec<FarJob>, FarError> {
        self.places_in(self.all(), jobs)
    }

    /// The same in some of the segments, one after the other.
    fn places_in(&self, files: Vec<Arc<FarFile>>, jobs: &[JobId]) -> Result<Vec<FarJob>, FarError> {
        let mut places = Vec::new();
        for file in files {
            self.add_places(&file, jobs, &mut places)?;
        }
        Ok(places)
    }

    fn add_places(&self, file: &FarFile, jobs: &[JobId], places: &mut Vec<FarJob>) -> Result<(), FarError> {
        let segment = file.index.segment;
        let Some(index) = self.index_of(file)? else { return Ok(()) };
        let found = file.index.find_all(&index, jobs, &mut |job, at, queue| {
            if let Some(queue) = file.index.queues.get(queue as usize) {
                let place = FarPlace { segment, ordinal: at.ordinal };
                places.push(FarJob { job, place, queue: queue.clone() });
            }
        });
        found.map_err(|source| self.index_failed(segment, source))
    }

    fn read_cold(
        &self,
        mut found: Vec<FarEntry>,
        are_cold: &mut dyn FnMut(&[FarEntry]) -> Vec<bool>,
    ) -> Result<Vec<FarRecord>, FarError> {
        // One of several that it has ended in is not worth reading.
        if found.len() > 1 {
            let mut cold = are_cold(&found).into_iter();
            found.retain(|_| cold.next().unwrap_or(false));
        }
        self.read(&found)
    }

    /// Reads the records of jobs, in the order of their places.
    ///
    /// # Errors
    /// [`FarError`].
    pub fn read(&self, entries: &[FarEntry]) -> Result<Vec<FarRecord>, FarError> {
        let mut entries = entries.to_vec();
        entries.sort_unstable_by_key(|entry| (entry.place.segment, entry.offset));
        let mut records = Vec::with_capacity(entries.len());
        let mut names = NameCache::default();
        let mut bytes = Vec::new();
        let mut open: Option<(u64, Option<S::File>)> = None;
        for entry in entries {
            let segment = entry.place.segment;
            if open.as_ref().is_none_or(|(of, _)| *of != segment) {
                let file = if self.has(segment) { self.handle(Handle::Segment(segment), segment) } else { Ok(None) };
                open = Some((segment, file.map_err(|source| self.failed(segment, source))?));
            }
            // It was closed since: nothing in it is open.
            let Some((_, Some(file))) = &open else { continue };
            let place = Place { segment, offset: entry.offset.into() };
            bytes.resize(entry.length as usize, 0);
            file.read_at(place.offset, &mut bytes).map_err(|source| self.failed(segment, source))?;
            let faulty = |source| FarError::Record {
                path: self.storage.path(segment),
                offset: place.offset,
                job: entry.job,
                source,
            };
            let event = decode_record(&bytes, &mut names).map_err(faulty)?;
            let whole = event.and_then(LoggedEvent::whole_job);
            let (kept, queue) = whole.ok_or(RecordFault::BadField("record type")).map_err(faulty)?;
            if entry.job.0 > 0 && kept.put.job != entry.job {
                return Err(faulty(RecordFault::BadField("job id")));
            }
            records.push(FarRecord { place: entry.place, record: place, kept, queue });
        }
        Ok(records)
    }

    /// All that a far segment holds whole, in the order of the log; `None` if the segment is no far one.
    ///
    /// # Errors
    /// [`FarError`].
    pub fn records(&self, segment: u64) -> Result<Option<FarRecords<S>>, FarError> {
        let Some(file) = self.file(segment) else { return Ok(None) };
        match SegmentReader::begin(&self.storage, segment, Some(file.index.end())) {
            Ok(reader) => Ok(Some(FarRecords { reader, names: NameCache::default() })),
            // It was given up, and taken away, since.
            Err(_) if !self.has(segment) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn failed(&self, segment: u64, source: io::Error) -> FarError {
        FarError::Io { path: self.storage.path(segment), source }
    }

    fn index_failed(&self, segment: u64, source: io::Error) -> FarError {
        let name = Beside::Index(segment);
        match source.kind() {
            io::ErrorKind::InvalidData => FarError::damaged(&self.storage, name),
            _ => FarError::beside(&self.storage, name, source),
        }
    }
}

/// The records of a far segment, read a group at a time.
pub struct FarRecords<S: Storage> {
    reader: SegmentReader<S>,
    names: NameCache,
}

impl<S: Storage> FarRecords<S> {
    /// The jobs of the next group that holds any, open or not; `None` at the end. It does I/O.
    ///
    /// # Errors
    /// [`FarError`].
    pub fn next_group(&mut self) -> Result<Option<Vec<FarRecord>>, FarError> {
        let (segment, names) = (self.reader.segment(), &mut self.names);
        let mut records = Vec::new();
        while records.is_empty() {
            let is_more = self.reader.read_group(&mut |record| {
                if let Some(ordinal) = record.ordinal
                    && let Some((kept, queue)) = record.event(names)?.and_then(LoggedEvent::whole_job)
                {
                    let place = FarPlace { segment, ordinal };
                    let record = Place { segment, offset: record.offset };
                    records.push(FarRecord { place, record, kept, queue });
                }
                Ok(())
            })?;
            if !is_more {
                return Ok(None);
            }
        }
        Ok(Some(records))
    }
}

impl<S: Storage> std::fmt::Debug for FarRecords<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FarRecords").field("segment", &self.reader.segment()).finish_non_exhaustive()
    }
}

impl FarFile {
    fn entry(&self, job: JobId, time: Time, at: RecordAt) -> FarEntry {
        let place = FarPlace { segment: self.index.segment, ordinal: at.ordinal };
        FarEntry { time, job, place, offset: at.offset, length: at.length }
    }
}

#[cfg(any(test, feature = "testing"))]
impl FarRecord {
    /// What an index says of it.
    pub(crate) fn entry(&self) -> FarEntry {
        let offset = u32::try_from(self.record.offset).expect("a far job's place is short");
        FarEntry { time: self.kept.put.run_at, job: self.job(), place: self.place, offset, length: 0 }
    }
}

impl LoggedEvent<'_> {
    /// The whole job in it, and its queue's name; `None` if it holds none.
    pub(crate) fn whole_job(self) -> Option<(KeptJob, QueueName)> {
        let queue = self.queue_name()?.clone();
        match self.resolve(&mut |_| QueueId(u32::MAX)) {
            Event::JobPut(put) => Some((KeptJob::of_put(put), queue)),
            Event::JobKept(kept) => Some((*kept, queue)),
            _ => None,
        }
    }
}
