//! A disk in memory that can lose power: what the kernel was handed and what is durable are kept apart.
//!
//! Tests and the simulator hand one to [`crate::log::open`] and keep a clone to break it with. Every call is one
//! operation; the disk can be told to die at any of them, to fail, to fill up. It must be no kinder than a real disk: what was
//! not synced may be lost, in part, in any order of its sectors; names too.

use crate::command::BodyPlace;
use crate::log::{body_in, most_body_record_bytes};
use crate::storage::{Beside, Storage, StorageFile, StoreId, segment_file_name};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a power cut keeps or loses whole, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// What is left after the disk died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process was killed: the kernel writes on.
    KeepWritten,
    /// The power failed, and nothing had been written that was not synced.
    KeepSynced,
    /// The power failed, and any of the sectors and names that were not synced had been written.
    Tear,
}

impl Crash {
    /// The three of them.
    pub const ALL: [Crash; 3] = [Crash::KeepWritten, Crash::KeepSynced, Crash::Tear];
}

/// Which operations a fault is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A write fails; half of its bytes reach the kernel.
    Write,
    /// A sync fails; what was not durable never will be, whatever later syncs say.
    Sync,
}

/// The life of a handle that outlives all.
const OBSERVER: u64 = u64::MAX;

/// A disk that can be broken. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    disk: Arc<Mutex<Disk>>,
    /// Which life of the disk this handle belongs to: it is dead after a crash.
    life: u64,
}

/// One open segment of a simulated disk.
#[derive(Clone, Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    segment: u64,
}

/// The number under which a file beside the segments is kept: none that a segment has.
fn number(name: Beside) -> u64 {
    match name {
        Beside::Index(segment) => segment | 1 << 62,
        Beside::Open(segment) => segment | 1 << 63,
    }
}

fn name(number: u64) -> Option<Beside> {
    let segment = number & !(3 << 62);
    match number >> 62 {
        0 => None,
        1 => Some(Beside::Index(segment)),
        _ => Some(Beside::Open(segment)),
    }
}

#[derive(Debug, Default)]
struct Disk {
    store: Option<StoreId>,
    files: BTreeMap<u64, Content>,
    /// The names that are durable, and what they lead to once the rest is lost.
    durable_names: BTreeMap<u64, Content>,
    life: u64,
    operations: u64,
    dies_at: Option<u64>,
    faults: Vec<(Fault, u64)>,
    capacity_bytes: Option<u64>,
    segment_bytes: Option<u64>,
    /// Segments that room is set aside for, each with its length in bytes.
    spares: Vec<u64>,
    /// Bytes that are set aside for a file of bits.
    spare_open: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Room that is taken whatever the length.
    reserved: u64,
    /// Sectors whose sync failed: the kernel holds them for clean, and writes them only once they are written again.
    lost: BTreeSet<usize>,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// A handle for whoever looks at what is there: no fault meets it.
    #[must_use]
    pub fn observer(&self) -> SimulatedDisk {
        SimulatedDisk { disk: Arc::clone(&self.disk), life: OBSERVER }
    }

    /// How many operations there were. Reads count too.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// The disk dies `operations` from now: that one and all after it fail, until [`SimulatedDisk::restart`]. A write
    /// that meets it reaches the kernel by half.
    pub fn die_after(&self, operations: u64) {
        let mut disk = self.disk();
        disk.dies_at = Some(disk.operations + operations);
    }

    /// Makes the write or sync fail that comes after `later` others of its kind.
    pub fn fail(&self, fault: Fault, later: u64) {
        self.disk().faults.push((fault, later));
    }

    /// Sets how many bytes fit; `None` for no bound. Writes past it get `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity_bytes = bytes;
    }

    /// Sets the length at which segments are closed; `None` for the usual one.
    pub fn set_segment_bytes(&self, bytes: Option<u64>) {
        self.disk().segment_bytes = bytes;
    }

    /// Stops the machine, throws away what the crash loses, and starts it again. Handles of before are dead; faults
    /// that did not come are forgotten.
    #[must_use]
    pub fn restart(&self, crash: Crash, seed: u64) -> SimulatedDisk {
        let mut disk = self.disk();
        disk.life += 1;
        disk.dies_at = None;
        disk.faults.clear();
        disk.crash(crash, &mut Dice(seed));
        SimulatedDisk { disk: Arc::clone(&self.disk), life: disk.life }
    }

    /// A disk of its own with the same content and no faults.
    #[must_use]
    pub fn copy(&self) -> SimulatedDisk {
        let disk = self.disk();
        let copy = Disk {
            store: disk.store,
            files: disk.files.clone(),
            durable_names: disk.durable_names.clone(),
            segment_bytes: disk.segment_bytes,
            spares: disk.spares.clone(),
            spare_open: disk.spare_open,
            ..Disk::default()
        };
        SimulatedDisk { disk: Arc::new(Mutex::new(copy)), life: 0 }
    }

    /// The bytes of a segment as the kernel has them; `None` if there is no such segment.
    #[must_use]
    pub fn bytes(&self, segment: u64) -> Option<Vec<u8>> {
        self.disk().files.get(&segment).map(|content| content.written.clone())
    }

    /// A body that is in the log alone, as the kernel has it.
    ///
    /// # Panics
    /// If it is not at that place.
    #[must_use]
    pub fn body(&self, place: BodyPlace) -> Box<[u8]> {
        let segment = self.bytes(place.record.segment).expect("the segment of a body is there");
        let begin = usize::try_from(place.record.offset).expect("a simulated segment is short");
        let record = &segment[begin..];
        let record = &record[..record.len().min(most_body_record_bytes(place.body_bytes))];
        let body = body_in(record, &place).expect("a body is where the engine says");
        record[body].into()
    }

    /// Puts a segment there behind everybody's back, written and durable; `None` takes it away.
    pub fn set_bytes(&self, segment: u64, bytes: Option<Vec<u8>>) {
        let mut disk = self.disk();
        let Some(bytes) = bytes else {
            disk.files.remove(&segment);
            disk.durable_names.remove(&segment);
            return;
        };
        let content = Content { written: bytes.clone(), synced: bytes, ..Content::default() };
        disk.files.insert(segment, content.clone());
        disk.durable_names.insert(segment, content);
    }

    /// The bytes of a file beside the segments; `None` if it is not there.
    #[must_use]
    pub fn bytes_beside(&self, name: Beside) -> Option<Vec<u8>> {
        self.bytes(number(name))
    }

    /// As [`SimulatedDisk::set_bytes`], of a file beside the segments.
    pub fn set_bytes_beside(&self, name: Beside, bytes: Option<Vec<u8>>) {
        self.set_bytes(number(name), bytes);
    }

    /// Sets the store's id behind everybody's back.
    pub fn set_store(&self, store: Option<StoreId>) {
        self.disk().store = store;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder of this lock panics")
    }

    /// Begins an operation.
    fn operate(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        if self.life == OBSERVER {
            return Ok(disk);
        }
        if disk.life != self.life {
            return Err(io::Error::other("the machine was restarted"));
        }
        disk.operations += 1;
        if disk.is_dead() { Err(io::Error::other("the machine has no power")) } else { Ok(disk) }
    }
}

impl Disk {
    fn is_dead(&self) -> bool {
        self.dies_at.is_some_and(|at| self.operations > at)
    }

    /// Whether a fault is due for an operation of this kind.
    fn is_faulty(&mut self, kind: Fault) -> bool {
        let mut due = false;
        self.faults.retain_mut(|(fault, later)| {
            let is_due = *fault == kind && *later == 0;
            due |= is_due;
            if *fault == kind {
                *later = later.saturating_sub(1);
            }
            !is_due
        });
        due
    }

    fn used_bytes(&self) -> u64 {
        let files = self.files.values().map(|content| content.reserved.max(content.written.len() as u64));
        files.sum::<u64>() + self.spares.iter().sum::<u64>() + self.spare_open
    }

    fn length_of_a_segment(&self) -> u64 {
        self.segment_bytes.unwrap_or(crate::limits::SEGMENT_BYTES)
    }

    fn file(&mut self, segment: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&segment).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn crash(&mut self, crash: Crash, dice: &mut Dice) {
        if crash == Crash::KeepWritten {
            return;
        }
        let mut left = BTreeMap::new();
        let names: Vec<u64> = self.files.keys().chain(self.durable_names.keys()).copied().collect();
        for name in names {
            let is_there = self.files.contains_key(&name);
            let is_durable = self.durable_names.contains_key(&name);
            let stays = match crash {
                _ if is_there == is_durable => is_there,
                Crash::Tear => dice.coin(),
                _ => is_durable,
            };
            let content = self.files.get(&name).or_else(|| self.durable_names.get(&name));
            if let (true, Some(content)) = (stays && !left.contains_key(&name), content) {
                left.insert(name, content.after(crash, dice));
            }
        }
        let back: Vec<u64> = left.keys().filter(|name| !self.files.contains_key(name)).copied().collect();
        self.files = left;
        // Nobody has the room of a removed file before its name is durably gone: one whose room was taken does not come back.
        for name in back {
            if self.capacity_bytes.is_some_and(|capacity| self.used_bytes() > capacity) {
                self.files.remove(&name);
            }
        }
        self.durable_names.clone_from(&self.files);
    }
}

impl Content {
    fn after(&self, crash: Crash, dice: &mut Dice) -> Content {
        let mut kept = self.synced.clone();
        if crash == Crash::Tear {
            // The length is one thing that is written or not; so is each sector.
            if dice.coin() {
                kept.resize(self.written.len(), 0);
            }
            for begin in (0..kept.len()).step_by(SECTOR_BYTES) {
                let end = (begin + SECTOR_BYTES).min(kept.len()).min(self.written.len());
                if begin < end && dice.coin() {
                    kept[begin..end].copy_from_slice(&self.written[begin..end]);
                }
            }
        }
        Content { written: kept.clone(), synced: kept, reserved: self.reserved, lost: BTreeSet::new() }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.written.len() < end {
            self.written.resize(end, 0);
        }
        self.written[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.lost.remove(&sector);
        }
    }

    /// The sync of everything that is not held for clean.
    fn sync(&mut self) {
        self.synced.resize(self.written.len(), 0);
        let sectors = self.synced.chunks_mut(SECTOR_BYTES).zip(self.written.chunks(SECTOR_BYTES));
        for (sector, (synced, written)) in sectors.enumerate() {
            if !self.lost.contains(&sector) {
                synced.copy_from_slice(written);
            }
        }
    }

    /// A sync that failed: what it should have written is held for clean from now on.
    fn fail_sync(&mut self) {
        for (sector, written) in self.written.chunks(SECTOR_BYTES).enumerate() {
            let begin = sector * SECTOR_BYTES;
            if self.synced.get(begin..begin + written.len()) != Some(written) {
                self.lost.insert(sector);
            }
        }
    }
}

impl Storage for SimulatedDisk {
    type File = SimulatedFile;

    fn store_id(&self) -> io::Result<Option<StoreId>> {
        Ok(self.operate()?.store)
    }

    fn set_store_id(&mut self, id: StoreId) -> io::Result<()> {
        self.operate()?.store = Some(id);
        Ok(())
    }

    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.operate()?.files.keys().copied().filter(|&number| name(number).is_none()).collect())
    }

    fn open(&self, segment: u64) -> io::Result<SimulatedFile> {
        self.operate()?.file(segment)?;
        Ok(SimulatedFile { disk: self.clone(), segment })
    }

    fn create(&mut self, segment: u64) -> io::Result<SimulatedFile> {
        let mut disk = self.operate()?;
        if disk.files.contains_key(&segment) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let reserved = disk.spares.pop().unwrap_or(0);
        disk.files.insert(segment, Content { reserved, ..Content::default() });
        drop(disk);
        Ok(SimulatedFile { disk: self.clone(), segment })
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let mut disk = self.operate()?;
        let bytes = disk.length_of_a_segment();
        let used = disk.used_bytes() + bytes;
        if disk.capacity_bytes.is_some_and(|capacity| used > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.spares.push(bytes);
        Ok(())
    }

    fn give_back(&mut self) -> io::Result<()> {
        self.operate()?.spares.pop();
        Ok(())
    }

    fn count_spares(&mut self) -> io::Result<u64> {
        let mut disk = self.operate()?;
        let bytes = disk.length_of_a_segment();
        let missing: u64 = disk.spares.iter().map(|spare| bytes.saturating_sub(*spare)).sum();
        if missing > 0 && disk.capacity_bytes.is_some_and(|capacity| disk.used_bytes() + missing > capacity) {
            disk.segment_bytes = disk.spares.iter().copied().min();
        } else {
            disk.spares.iter_mut().for_each(|spare| *spare = bytes.max(*spare));
        }
        Ok(disk.spares.len() as u64)
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        let mut disk = self.operate()?;
        let gone = disk.files.remove(&segment).ok_or(io::ErrorKind::NotFound)?;
        if let Some(durable) = disk.durable_names.get_mut(&segment) {
            *durable = gone;
        }
        Ok(())
    }

    fn beside(&self) -> io::Result<Vec<Beside>> {
        Ok(self.operate()?.files.keys().filter_map(|&number| name(number)).collect())
    }

    fn set_aside_beside(&mut self, bytes: u64) -> io::Result<()> {
        let mut disk = self.operate()?;
        if disk.spare_open >= bytes {
            return Ok(());
        }
        let used = disk.used_bytes() + 2 * bytes;
        if disk.capacity_bytes.is_some_and(|capacity| used > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.spare_open = 2 * bytes;
        Ok(())
    }

    fn write_beside(&mut self, name: Beside, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.operate()?;
        if disk.is_faulty(Fault::Write) || disk.is_faulty(Fault::Sync) {
            return Err(io::Error::other("a simulated fault of the disk"));
        }
        let used = disk.used_bytes() + bytes.len() as u64;
        if disk.capacity_bytes.is_some_and(|capacity| used > capacity) {
            let has_spare = matches!(name, Beside::Open(_)) && disk.spare_open >= bytes.len() as u64;
            if !has_spare {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.spare_open = 0;
        }
        let content = Content { written: bytes.to_vec(), synced: bytes.to_vec(), ..Content::default() };
        disk.files.insert(number(name), content.clone());
        disk.durable_names.insert(number(name), content);
        Ok(())
    }

    fn open_beside(&self, name: Beside) -> io::Result<SimulatedFile> {
        self.open(number(name))
    }

    fn remove_beside(&mut self, name: Beside) -> io::Result<()> {
        match self.remove(number(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let mut disk = self.operate()?;
        if disk.is_faulty(Fault::Sync) {
            return Err(io::Error::other("a simulated fault of the disk"));
        }
        disk.durable_names = disk.files.clone();
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        self.disk().length_of_a_segment()
    }

    fn path(&self, segment: u64) -> PathBuf {
        PathBuf::from("simulated").join(segment_file_name(segment))
    }
}

impl StorageFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.operate()?.file(self.segment)?.written.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut disk = self.disk.operate()?;
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = disk.file(self.segment)?.written.get(begin..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let half = &bytes[..bytes.len() / 2];
        let mut disk = match self.disk.operate() {
            Ok(disk) => disk,
            Err(error) => {
                let mut disk = self.disk.disk();
                let dies_now = disk.life == self.disk.life && disk.dies_at == Some(disk.operations - 1);
                if dies_now && let Ok(file) = disk.file(self.segment) {
                    file.write(offset, half);
                }
                return Err(error);
            }
        };
        if disk.is_faulty(Fault::Write) {
            disk.file(self.segment)?.write(offset, half);
            return Err(io::Error::other("a simulated fault of the disk"));
        }
        let used = disk.used_bytes();
        let capacity = disk.capacity_bytes.unwrap_or(u64::MAX);
        let file = disk.file(self.segment)?;
        let taken = file.reserved.max(file.written.len() as u64);
        let growth = ((offset + bytes.len()) as u64).saturating_sub(taken);
        if growth > 0 && used + growth > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write(offset, bytes);
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.operate()?;
        let (used, capacity) = (disk.used_bytes(), disk.capacity_bytes);
        let file = disk.file(self.segment)?;
        let taken = file.reserved.max(file.written.len() as u64);
        if capacity.is_some_and(|capacity| used - taken + bytes.max(taken) > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.reserved = file.reserved.max(bytes);
        Ok(())
    }

    fn reserved(&self) -> io::Result<u64> {
        let mut disk = self.disk.operate()?;
        let file = disk.file(self.segment)?;
        Ok(file.reserved.max(file.written.len() as u64))
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut disk = self.disk.operate()?;
        let file = disk.file(self.segment)?;
        file.written.truncate(length);
        file.reserved = file.reserved.min(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.operate()?;
        let is_faulty = disk.is_faulty(Fault::Sync);
        let file = disk.file(self.segment)?;
        if is_faulty {
            file.fail_sync();
            return Err(io::Error::other("a simulated fault of the disk"));
        }
        file.sync();
        Ok(())
    }
}

/// A small generator: the same seed gives the same crash.
struct Dice(u64);

impl Dice {
    fn coin(&mut self) -> bool {
        // splitmix64, by Sebastiano Vigna, public domain.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}
