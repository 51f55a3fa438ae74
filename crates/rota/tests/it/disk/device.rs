//! A disk with a cache that loses what was not flushed: a file that a loop device stands on, served by this process.
//!
//! The kernel's file system writes to the loop device, the loop device to the one file of a FUSE file system, and that
//! one is this: so each write and each flush comes by here in its order. A write goes to the cache, a flush makes all of
//! the cache durable, a read sees both. [`Device::cut`] is the power cut: what was flushed is kept, what was not may be
//! kept or lost, write by write or block by block, in any order; from then on the disk answers nothing but errors. What
//! it held at that moment, an [`Image`], is the disk of the next device. A cut takes a moment under one lock, so that
//! what is kept is a state that the disk had.
//!
//! Blocks of 4096 bytes are written whole or not at all, as by disks of today; ext4 and others rely on it for their own.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use rustix::fs::SeekFrom;
use tempfile::TempDir;

use super::{Kind, Mounted};

/// What is written whole or not at all, in bytes.
const BLOCK: usize = 4096;

/// The name of the one file.
const NAME: &str = "disk";

const FILE: INodeNo = INodeNo(2);

/// For ever: nobody else changes it.
const VALID: Duration = Duration::from_secs(1 << 30);

type Block = Arc<[u8; BLOCK]>;

/// What a disk holds while it has no power.
#[derive(Clone)]
pub(crate) struct Image {
    bytes: u64,
    /// Those that are not zero.
    blocks: HashMap<u64, Block>,
}

/// A disk at work.
pub(crate) struct Device {
    state: Arc<Mutex<State>>,
    folder: TempDir,
    _session: BackgroundSession,
}

struct State {
    bytes: u64,
    /// As a read sees it.
    now: HashMap<u64, Block>,
    /// As of the last flush.
    durable: HashMap<u64, Block>,
    /// Since then: the write's number, the block's, and what it became.
    cached: Vec<(u64, u64, Block)>,
    writes: u64,
    flushes: u64,
    has_power: bool,
}

/// What a power cut left of the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    Nothing,
    Everything,
    /// The first so many writes.
    First,
    /// Each write or not.
    Writes,
    /// Each block of each write or not.
    Blocks,
}

/// A cut that was made.
pub(crate) struct Cut {
    pub(crate) image: Image,
    /// When.
    pub(crate) at: Instant,
    pub(crate) kept: Kept,
    /// Blocks in the cache, and those of them that were lost.
    pub(crate) cached: u64,
    pub(crate) lost: u64,
}

impl Image {
    /// A new file system; none if it can't be made here.
    pub(crate) fn made(kind: Kind) -> Option<Image> {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join(NAME);
        kind.make(&path, kind.bytes).then(|| Image::read(&path).expect("the file can be read"))
    }

    fn read(path: &Path) -> io::Result<Image> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut blocks = HashMap::new();
        let mut block = [0; BLOCK];
        let mut offset = 0;
        // From one stretch of data to the next: most of it was never written.
        while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(offset)) {
            offset = rustix::fs::seek(&file, SeekFrom::Hole(data))?;
            for number in data / BLOCK as u64..offset.div_ceil(BLOCK as u64) {
                file.read_exact_at(&mut block, number * BLOCK as u64)?;
                if block != [0; BLOCK] {
                    blocks.insert(number, Arc::new(block));
                }
            }
        }
        Ok(Image { bytes, blocks })
    }

    /// How much of it is not zero.
    pub(crate) fn bytes_kept(&self) -> u64 {
        (self.blocks.len() * BLOCK) as u64
    }
}

impl Device {
    /// Turns it on. Each flush takes so long, as on a real disk: the cache is full of it meanwhile. None if this machine has no FUSE, or this user may not mount.
    pub(crate) fn on(image: Image, flush_takes: Duration) -> Option<Device> {
        let Image { bytes, blocks } = image;
        let durable = blocks.clone();
        let cached = Vec::new();
        let state = State { bytes, now: blocks, durable, cached, writes: 0, flushes: 0, has_power: true };
        let state = Arc::new(Mutex::new(state));
        let folder = TempDir::new().expect("a temporary folder");
        let served = Served { state: Arc::clone(&state), flush_takes };
        match fuser::spawn_mount(served, folder.path(), &Config::default()) {
            Ok(session) => Some(Device { state, folder, _session: session }),
            Err(error) => {
                println!("mount a FUSE file system: {error}");
                None
            }
        }
    }

    /// Mounts what is on it. A file system repairs itself here after a cut.
    pub(crate) fn mount(&self, kind: Kind) -> Option<Mounted> {
        kind.mount(&self.folder.path().join(NAME))
    }

    /// Cuts the power. Nothing after it is written, flushed or read.
    pub(crate) fn cut(&self, rng: &mut Rng) -> Cut {
        let all = [Kept::Nothing, Kept::Everything, Kept::First, Kept::Writes, Kept::Blocks];
        self.cut_keeping(all[rng.usize(..all.len())], rng)
    }

    /// The same, with so much of the cache kept.
    pub(crate) fn cut_keeping(&self, kept: Kept, rng: &mut Rng) -> Cut {
        let mut state = self.state();
        state.has_power = false;
        let at = Instant::now();
        let mut blocks = state.durable.clone();
        let first = rng.usize(..=state.cached.len());
        let (mut write, mut keep_write) = (None, false);
        let mut lost = 0;
        for (place, (number, block, content)) in state.cached.iter().enumerate() {
            if write != Some(number) {
                (write, keep_write) = (Some(number), rng.bool());
            }
            let keep = match kept {
                Kept::Nothing => false,
                Kept::Everything => true,
                Kept::First => place < first,
                Kept::Writes => keep_write,
                Kept::Blocks => rng.bool(),
            };
            if keep {
                blocks.insert(*block, Arc::clone(content));
            } else {
                lost += 1;
            }
        }
        Cut { image: Image { bytes: state.bytes, blocks }, at, kept, cached: state.cached.len() as u64, lost }
    }

    /// Waits for something in the cache, if not for long: there may be nothing to write.
    pub(crate) fn wait_for_writes(&self) {
        let deadline = Instant::now() + Duration::from_millis(60);
        while self.state().cached.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Flushes so far.
    pub(crate) fn flushes(&self) -> u64 {
        self.state().flushes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the file system's thread does not panic")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // The loop device may still be on its way out: what it asks for is answered with an error, and it goes.
        self.state().has_power = false;
        Command::new("umount").arg("--lazy").arg(self.folder.path()).output().ok();
    }
}

/// The FUSE side of it.
struct Served {
    state: Arc<Mutex<State>>,
    flush_takes: Duration,
}

impl Served {
    /// The disk, if it has power.
    fn powered(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let state = self.state.lock().expect("a cut does not panic");
        if state.has_power { Ok(state) } else { Err(Errno::EIO) }
    }

    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let bytes = self.state.lock().expect("a cut does not panic").bytes;
        let is_file = inode == FILE;
        let epoch = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size: if is_file { bytes } else { 0 },
            blocks: bytes / 512,
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
            crtime: epoch,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl State {
    fn read(&self, offset: u64, into: &mut [u8]) {
        for (number, range, at) in pieces(offset, into.len()) {
            match self.now.get(&number) {
                Some(block) => into[at..at + range.len()].copy_from_slice(&block[range]),
                None => into[at..at + range.len()].fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.writes += 1;
        for (number, range, at) in pieces(offset, bytes.len()) {
            let mut block = self.now.get(&number).map_or([0; BLOCK], |block| **block);
            let length = range.len();
            block[range].copy_from_slice(&bytes[at..at + length]);
            let block = Arc::new(block);
            self.now.insert(number, Arc::clone(&block));
            self.cached.push((self.writes, number, block));
        }
    }

    fn flush(&mut self) {
        self.flushes += 1;
        let cached = std::mem::take(&mut self.cached);
        self.durable.extend(cached.into_iter().map(|(_, number, block)| (number, block)));
    }
}

/// The parts of blocks that a range covers: the block, the range in it, and where that is in the whole.
fn pieces(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let place = offset + done as u64;
        let within = (place % BLOCK as u64) as usize;
        let length = (BLOCK - within).min(bytes - done);
        let piece = (place / BLOCK as u64, within..within + length, done);
        done += length;
        (length > 0).then_some(piece)
    })
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match parent == INodeNo::ROOT && name == NAME {
            true => reply.entry(&VALID, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&VALID, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.powered() {
            Ok(state) => {
                let left = usize::try_from(state.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
                let mut bytes = vec![0; left.min(size as usize)];
                state.read(offset, &mut bytes);
                reply.data(&bytes);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.powered() {
            Ok(mut state) => {
                state.write(offset, data);
                reply.written(u32::try_from(data.len()).expect("the kernel writes less at once"));
            }
            Err(error) => reply.error(error),
        }
    }

    /// At each close of a descriptor; no flush of the disk's.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        std::thread::sleep(self.flush_takes);
        match self.powered() {
            Ok(mut state) => {
                state.flush();
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    /// What is no longer needed is kept all the same.
    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }
}
