//! Taking a snapshot: what the engine walks over, through a log of its own in memory, to a place.
//!
//! ```text
//!   engine ──slices, changes──► LogWriter ──► segments in memory ──closed ones──► put ──► place
//!            this thread, which never waits for the place                its own thread
//! ```
//!
//! A slow place stops the walk once more than a segment waits for it. The changes that happen meanwhile go on being
//! taken; where too much of them waits, the snapshot fails. The manifest is put when everything in the snapshot is as
//! durable as the server promises, and not before.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rota_engine::limits::SNAPSHOT_BACKLOG_BYTES;
use rota_engine::log::{Group, LogWriter};
use rota_engine::storage::{Storage, StorageFile, StoreId, segment_file_name};
use rota_net::host::{Host, SnapshotEnd, Walk, WalkEnd};

use super::address::Address;
use super::error::TakeError;
use super::manifest::{MANIFEST, Manifest, Segment, sha256_hex};
use super::place::{Place, PlaceError, Unfinished};
use super::{SEGMENT_BYTES, name_of};

/// The walk rests while more bytes of closed segments than these wait for the place.
const WAITING_BYTES: u64 = SEGMENT_BYTES;

/// Room for a segment, which may be longer by a group.
const SEGMENT_CAPACITY: usize = SEGMENT_BYTES as usize + (1 << 20);

/// How nice the thread that puts is, which checksums all that it puts.
const PUT_NICENESS: i32 = 10;

/// How long the walk rests at most before it takes the changes again.
const REST: Duration = Duration::from_millis(20);

/// A snapshot that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// Where it is.
    pub(crate) address: Address,
    /// What it is made of.
    pub(crate) manifest: Manifest,
}

/// Takes a snapshot. It blocks until that is whole, or has failed. With `last`, nothing is decided any more from the
/// moment whose state it holds; after a failure, the server goes on.
///
/// # Errors
/// [`TakeError`]; what was put is taken away again as far as that can be done.
pub(crate) fn take(host: &Arc<Host>, to: &Address, last: bool) -> Result<Taken, TakeError> {
    let begun_at = Timestamp::now();
    let name = name_of(begun_at, u32::from_le_bytes(random()?));
    let place = Place::open(to)?;
    let unfinished = place.begin(&name)?;
    let walk = host.begin_snapshot().ok_or(TakeError::Busy)?;
    let waiting = AtomicU64::new(0);
    let result = thread::scope(|scope| {
        let (closed, to_put) = channel();
        let (put, progress) = channel();
        let waiting = &waiting;
        let putting = thread::Builder::new().name("rota-put".into());
        let putting = putting.spawn_scoped(scope, move || put_all(unfinished, &to_put, waiting, &put));
        let putting = putting.map_err(|source| TakeError::System { doing: "start a thread", source })?;
        let mut stream = Stream { closed: Some(closed), progress, waiting };
        let walked = stream.run(host, walk, last);
        if walked.is_err() {
            place.give_up();
        }
        // The other thread puts what it has, and ends.
        stream.closed = None;
        let put = putting.join().map_err(|_| TakeError::Interrupted)?;
        match walked {
            // It ended first, and knows why.
            Err(TakeError::Interrupted) => Err(put.err().map_or(TakeError::Interrupted, TakeError::Place)),
            Err(error) => Err(error),
            Ok(walked) => Ok((walked, put?)),
        }
    });
    let (Walked { store, records, end }, (unfinished, segments)) = result?;
    let manifest = Manifest {
        name: name.clone(),
        rota: env!("CARGO_PKG_VERSION").to_owned(),
        begun_at,
        taken_at: end.at,
        store: store.to_string(),
        records,
        jobs: end.jobs,
        queues: end.queues,
        segments,
    };
    unfinished.finish(MANIFEST, manifest.encode())?;
    Ok(Taken { address: to.below(&name), manifest })
}

/// What a whole walk came to.
struct Walked {
    store: StoreId,
    records: u64,
    end: End,
}

/// The state that it ended with.
struct End {
    at: Timestamp,
    jobs: [u64; rota_engine::job::JobState::ALL.len()],
    queues: u64,
}

/// A closed segment.
pub(super) type Closed = (u64, Vec<u8>);

/// Puts segments one after the other, until no more come.
fn put_all<'a>(
    mut unfinished: Unfinished<'a>,
    to_put: &Receiver<Closed>,
    waiting: &AtomicU64,
    put: &Sender<()>,
) -> Result<(Unfinished<'a>, Vec<Segment>), PlaceError> {
    // Those who wait for answers come first. It is of this thread alone, which holds no lock of theirs; where it is refused, that makes
    // no difference to what is put.
    let _ = rustix::process::setpriority_process(None, PUT_NICENESS);
    let mut segments = Vec::new();
    for (number, bytes) in to_put {
        let length = bytes.len() as u64;
        segments.push(Segment { bytes: length, sha256: sha256_hex(&bytes) });
        unfinished.put(&segment_file_name(number), bytes)?;
        waiting.fetch_sub(length, Ordering::Relaxed);
        // The other side may have failed; what is left is then put for nothing, once.
        let _ = put.send(());
    }
    Ok((unfinished, segments))
}

/// The walk's side of the two threads.
struct Stream<'a> {
    closed: Option<Sender<Closed>>,
    progress: Receiver<()>,
    /// Bytes in closed segments that were not put yet.
    waiting: &'a AtomicU64,
}

impl Stream<'_> {
    fn run(&mut self, host: &Arc<Host>, mut walk: Walk, last: bool) -> Result<Walked, TakeError> {
        let storage = SegmentsInMemory::default();
        let mut group = Group::default();
        let (mut writer, recovery) = rota_engine::log::open(storage.clone(), random()?, &mut |_| Ok(()))?;
        // What the walk takes by itself is no sign of a slow place: a segment that waits, one under way, and a step, however long its jobs are.
        let mut longest = SEGMENT_BYTES;
        let end = loop {
            let waiting = self.waiting.load(Ordering::Relaxed);
            let may_walk = waiting <= WAITING_BYTES;
            let at_end = match last {
                false => WalkEnd::GoesOn,
                // While nothing is decided, no more should have to be put than what was not closed before.
                true if waiting > 0 => WalkEnd::Waits,
                true => WalkEnd::Freezes,
            };
            let end = walk.step(&mut group, may_walk, at_end);
            longest = longest.max(group.bytes() as u64);
            writer.write(&mut group)?;
            self.hand_over(storage.take_closed())?;
            let behind = self.waiting.load(Ordering::Relaxed) + storage.bytes() + walk.bytes();
            let most = SNAPSHOT_BACKLOG_BYTES as u64 + 3 * longest;
            if behind > most {
                return Err(TakeError::TooFarBehind { behind, most });
            }
            if let Some(end) = end {
                break end;
            }
            let rests = !may_walk || walk.waits_to_end();
            if rests && self.progress.recv_timeout(REST) == Err(RecvTimeoutError::Disconnected) {
                return Err(TakeError::Interrupted);
            }
        };
        let at = Timestamp::now();
        drop(walk);
        let records = writer.written().0;
        self.close(writer, &storage)?;
        wait_until_promised(host, &end)?;
        let end = End { at, jobs: end.jobs, queues: end.counts.queues };
        Ok(Walked { store: recovery.store, records, end })
    }

    fn close(&self, writer: LogWriter<SegmentsInMemory>, storage: &SegmentsInMemory) -> Result<(), TakeError> {
        writer.close()?;
        self.hand_over(storage.take_all())
    }

    fn hand_over(&self, segments: Vec<Closed>) -> Result<(), TakeError> {
        for segment in segments {
            self.waiting.fetch_add(segment.1.len() as u64, Ordering::Relaxed);
            let closed = self.closed.as_ref().expect("it is taken away when nothing more comes");
            closed.send(segment).map_err(|_| TakeError::Interrupted)?;
        }
        Ok(())
    }
}

/// Nobody may be shown what could still be lost.
fn wait_until_promised(host: &Host, end: &SnapshotEnd) -> Result<(), TakeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| TakeError::System { doing: "wait for the log", source })?;
    runtime.block_on(host.left_behind(end.depends_on)).map_err(TakeError::Commit)
}

fn random<const N: usize>() -> Result<[u8; N], TakeError> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match got {
        Ok(count) if count == N => Ok(bytes),
        Ok(_) => Err(TakeError::System { doing: "get random bytes", source: io::ErrorKind::UnexpectedEof.into() }),
        Err(errno) => Err(TakeError::System { doing: "get random bytes", source: errno.into() }),
    }
}

/// Segments that are kept in memory until they are closed.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentsInMemory(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct SegmentInMemory {
    segments: SegmentsInMemory,
    number: u64,
}

impl SegmentsInMemory {
    /// Takes those out that have a successor: nothing is written to them any more.
    fn take_closed(&self) -> Vec<Closed> {
        let mut segments = self.lock();
        let newest = segments.last_key_value().map_or(0, |(number, _)| *number);
        let open = segments.split_off(&newest);
        std::mem::replace(&mut *segments, open).into_iter().collect()
    }

    pub(super) fn take_all(&self) -> Vec<Closed> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    fn bytes(&self) -> u64 {
        self.lock().values().map(|bytes| bytes.len() as u64).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for SegmentsInMemory {
    type File = SegmentInMemory;

    fn store_id(&self) -> io::Result<Option<StoreId>> {
        Ok(None)
    }

    fn set_store_id(&mut self, _: StoreId) -> io::Result<()> {
        Ok(())
    }

    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.lock().keys().copied().collect())
    }

    fn open(&self, segment: u64) -> io::Result<SegmentInMemory> {
        Ok(SegmentInMemory { segments: self.clone(), number: segment })
    }

    fn create(&mut self, segment: u64) -> io::Result<SegmentInMemory> {
        // All at once: what is not used costs nothing, and to grow it would be a pause.
        self.lock().insert(segment, Vec::with_capacity(SEGMENT_CAPACITY));
        Storage::open(self, segment)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn give_back(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn count_spares(&mut self) -> io::Result<u64> {
        Ok(0)
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.lock().remove(&segment);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES
    }

    fn path(&self, segment: u64) -> PathBuf {
        segment_file_name(segment).into()
    }
}

impl SegmentInMemory {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        self.segments.lock().get_mut(&self.number).map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl StorageFile for SegmentInMemory {
    fn length(&self) -> io::Result<u64> {
        self.with(|bytes| bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|bytes| {
            let bytes = bytes.get(start..start + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            into.copy_from_slice(bytes);
            Ok(())
        })?
    }

    fn write_at(&mut self, offset: u64, written: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|bytes| {
            // Zeros written ahead are what is not there anyway.
            if start >= bytes.len() && is_zero(written) {
                return;
            }
            if bytes.len() < start {
                bytes.resize(start, 0);
            }
            let (over, behind) = written.split_at(written.len().min(bytes.len() - start));
            bytes[start..start + over.len()].copy_from_slice(over);
            bytes.extend_from_slice(behind);
        })
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.with(|bytes| bytes.truncate(length))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
