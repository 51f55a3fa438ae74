//! The data directory on a real disk: who may use it, and the files in it.
//!
//! The binary opens one and hands it to [`crate::log::open`]. The layout is in `docs/disk-format.md`. It must never
//! change anything in a directory that is not ours, nor unlink the lock: a second process could then hold another one.

use super::{Beside, Storage, StorageFile, StoreId, is_full, segment_file_name, segment_number};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// What a directory of ours holds before it has a `store`: `restore` is a snapshot on its way in, `snapshots` are those of
/// an earlier log, `tokens` may be made before the first start, `lost+found` is the file system's own.
const OURS: [&str; 16] = [
    "lock",
    "log",
    "store.new",
    "restore",
    "snapshots",
    "tokens",
    "tokens.new",
    "tokens.told",
    "tokens.told.new",
    "webhooks",
    "webhooks.new",
    "webhooks.places",
    "webhooks.places.new",
    "webhooks.told",
    "webhooks.told.new",
    "lost+found",
];

/// What the names of spare segments begin with, finished or not.
pub(super) const SPARE_BEGIN: &str = "spare";

/// A file beside the segments that is being written.
pub(super) const BESIDE_NEW: &str = "beside.new";

/// What the name of a spare segment begins with; its number follows.
const SPARE: &str = "spare-";

/// A spare that is being made.
const SPARE_NEW: &str = "spare.new";

/// Room for a file of bits.
const SPARE_OPEN: &str = "spare-open";

/// Room for names: on some file systems a folder takes another block for one of them now and then.
const SPARE_NAMES: &str = "spare-names";

/// So much of it.
const NAMES_BYTES: u64 = 16 << 10;

/// What a file has of the room that was asked for is counted in steps of so much: the blocks that say where its others are count as
/// its own. No segment is shorter.
const PART_STEP_BYTES: u64 = 64 << 10;

/// Room for a file of bits is set aside in steps of so much.
const OPEN_STEP_BYTES: u64 = 64 << 10;

/// A data directory, locked for this process until the last clone is dropped or the process ends.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    path: PathBuf,
    log: PathBuf,
    segment_bytes: u64,
    /// Held by whoever makes or takes a spare.
    spares: Arc<Mutex<SpareRoom>>,
    /// Held for its lock.
    _lock: Arc<File>,
}

/// What is set aside beside spare segments, as far as it was asked since the start.
#[derive(Default, Debug)]
struct SpareRoom {
    /// Bytes for a file of bits; `None` before it was looked at.
    open: Option<u64>,
    /// Whether there is some for names.
    names: bool,
}

/// The file of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Its number.
    pub segment: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was changed last, by the wall clock.
    pub changed: SystemTime,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error(
        "data directory {} is in use by process {}: stop that one, or name another directory with --data",
        path.display(),
        pid.as_deref().unwrap_or("(unknown)")
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id that the other one left in the lock, if it is readable.
        pid: Option<String>,
    },
    /// The path is something else.
    #[error("{} is not a directory: name another one with --data", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It holds files of somebody else, and none of ours.
    #[error(
        "{} holds {entry:?} and is no data directory of Rota: name an empty or a new one with --data",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        entry: String,
    },
    /// Others may read or change it, and it is not ours to tighten.
    #[error(
        "data directory {} is open to other users (mode {mode:04o}) and belongs to user {owner}, not to {user}: \
         run `chown -R {user} {}; chmod 700 {}`",
        path.display(), path.display(), path.display()
    )]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The user id it belongs to.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataDirectory {
    /// Takes a directory for this process; makes it, with mode 0700, if it is missing.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing of anybody else's was changed. Safe to try again.
    pub fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
        make_directory(path)?;
        check_entries(path)?;
        let lock = lock(path)?;
        tighten(path)?;
        let log = path.join("log");
        if let Err(source) = DirBuilder::new().mode(0o700).create(&log)
            && source.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(DirectoryError::Io { doing: "create", path: log, source });
        }
        let synced = sync_directory(path);
        synced.map_err(|source| DirectoryError::Io { doing: "sync", path: path.to_owned(), source })?;
        let segment_bytes = crate::limits::SEGMENT_BYTES;
        let spares = Arc::default();
        Ok(DataDirectory { path: path.to_owned(), log, segment_bytes, spares, _lock: Arc::new(lock) })
    }

    /// The same, with segments of another length than [`crate::limits::SEGMENT_BYTES`] from now on, in bytes.
    #[must_use]
    pub fn with_segment_bytes(self, segment_bytes: u64) -> DataDirectory {
        DataDirectory { segment_bytes, ..self }
    }

    /// The segments below one, rising.
    ///
    /// # Errors
    /// What the disk says.
    pub fn segments_below(&self, segment: u64) -> io::Result<Vec<SegmentInfo>> {
        let below = Storage::segments(self)?.into_iter().take_while(|&number| number < segment);
        let info = below.map(|segment| {
            let found = fs::metadata(Storage::path(self, segment))?;
            Ok(SegmentInfo { segment, bytes: found.len(), changed: found.modified()? })
        });
        info.collect()
    }

    /// The numbers of the spare segments.
    fn spare_numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.log)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_prefix(SPARE)?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn spare_path(&self, number: u64) -> PathBuf {
        self.log.join(format!("{SPARE}{number}"))
    }

    fn spares(&self) -> MutexGuard<'_, SpareRoom> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an empty file that has room for so many bytes. It is durable on return.
    fn make_spare(&self, path: &Path, bytes: u64) -> io::Result<()> {
        // Under another name until its room is there.
        let unready = self.log.join(SPARE_NEW);
        match fs::remove_file(&unready) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let made = make_file(&unready).and_then(|mut file| {
            file.reserve(bytes)?;
            file.sync()?;
            fs::rename(&unready, path)?;
            sync_directory(&self.log)
        });
        if made.is_err() {
            // Half a spare would only take room from others.
            let _ = fs::remove_file(&unready);
        }
        made
    }

    /// Gives a file a name; where the disk has no room for that, with what is set aside for names.
    fn rename(&self, spares: &mut SpareRoom, from: &Path, to: &Path) -> io::Result<()> {
        match fs::rename(from, to) {
            Err(error) if is_full(&error) && fs::remove_file(self.log.join(SPARE_NAMES)).is_ok() => {
                spares.names = false;
                fs::rename(from, to)
            }
            renamed => renamed,
        }
    }

    /// Writes what is about to become a file beside the segments, in the room that is set aside for it; false if there is none.
    fn write_in_spare(&self, new: &Path, bytes: &[u8]) -> io::Result<bool> {
        let mut spares = self.spares();
        spares.open = Some(0);
        match self.rename(&mut spares, &self.log.join(SPARE_OPEN), new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed?,
        }
        drop(spares);
        // It has no bytes yet; to truncate it would give its room away.
        let file = OpenOptions::new().write(true).open(new)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        Ok(true)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the directory and its parents where they are missing, and their names durable.
fn make_directory(path: &Path) -> Result<(), DirectoryError> {
    let failed = |doing| move |source| DirectoryError::Io { doing, path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(DirectoryError::NotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("open")(error)),
    }
    let missing: Vec<&Path> =
        path.ancestors().take_while(|part| !part.as_os_str().is_empty() && !part.exists()).collect();
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(failed("create"))?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_directory(parent).map_err(failed("sync the parent of"))?;
    }
    Ok(())
}

/// Whether the directory is empty or ours; an error if it is somebody else's.
fn check_entries(path: &Path) -> Result<(), DirectoryError> {
    let mut foreign = None;
    for name in file_names(path)? {
        if name == "store" {
            return Ok(());
        }
        if !OURS.contains(&name.as_str()) {
            foreign = Some(DirectoryError::Foreign { path: path.to_owned(), entry: name });
        }
    }
    let log = path.join("log");
    if foreign.is_none() && log.is_dir() {
        let is_ours = |name: &str| {
            let is_beside = name == BESIDE_NEW || Beside::of_file_name(name).is_some();
            segment_number(name).is_some() || name.starts_with(SPARE_BEGIN) || is_beside
        };
        let alien = file_names(&log)?.into_iter().find(|name| !is_ours(name));
        foreign = alien.map(|entry| DirectoryError::Foreign { path: log, entry });
    }
    foreign.map_or(Ok(()), Err)
}

fn file_names(directory: &Path) -> Result<Vec<String>, DirectoryError> {
    let failed = |source| DirectoryError::Io { doing: "read", path: directory.to_owned(), source };
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join("lock");
    let failed = |doing| {
        let path = path.clone();
        move |source| DirectoryError::Io { doing, path, source }
    };
    // A symbolic link is not followed: what it leads to would be overwritten.
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
    let file = options.open(&path).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = (&file).take(32).read_to_string(&mut text);
            let pid = read.ok().map(|_| text.trim().to_owned()).filter(|pid| !pid.is_empty());
            return Err(DirectoryError::InUse { path: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
    }
    let pid = format!("{}\n", std::process::id());
    match file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0)) {
        // What is there must come up on a full disk; the pid is only for a message.
        Err(error) if !is_full(&error) => Err(failed("write")(error)),
        _ => Ok(file),
    }
}

/// Closes the directory to other users.
fn tighten(path: &Path) -> Result<(), DirectoryError> {
    let failed = |doing| move |source| DirectoryError::Io { doing, path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(failed("open"))?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        return Err(DirectoryError::TooOpen { path: path.to_owned(), mode, owner: found.uid(), user });
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("change the mode of"))
}

fn make_file(path: &Path) -> io::Result<SegmentFile> {
    let mut options = OpenOptions::new();
    Ok(SegmentFile { file: options.read(true).write(true).create_new(true).mode(0o600).open(path)?.into() })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The id in a directory's file `store`; `None` if there is no such file.
pub(super) fn read_store_id(directory: &Path) -> io::Result<Option<StoreId>> {
    match fs::read_to_string(directory.join("store")) {
        Ok(line) => match read_store_line(&line) {
            Some(id) => Ok(Some(id)),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the file `store` does not hold a store id")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_store_line(line: &str) -> Option<StoreId> {
    let (_version, hex) = line.strip_prefix("rota-store ")?.strip_suffix('\n')?.split_once(' ')?;
    if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16).ok().map(|id| StoreId(id.to_be_bytes()))
}

impl Storage for DataDirectory {
    type File = SegmentFile;

    fn store_id(&self) -> io::Result<Option<StoreId>> {
        read_store_id(&self.path)
    }

    fn set_store_id(&mut self, id: StoreId) -> io::Result<()> {
        let new = self.path.join("store.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(format!("rota-store {} {id}\n", crate::log::FORMAT_VERSION).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path.join("store"))?;
        sync_directory(&self.path)
    }

    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.log)? {
            numbers.extend(entry?.file_name().to_str().and_then(segment_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn open(&self, segment: u64) -> io::Result<SegmentFile> {
        let file = OpenOptions::new().read(true).write(true).open(Storage::path(self, segment))?;
        Ok(SegmentFile { file: file.into() })
    }

    fn create(&mut self, segment: u64) -> io::Result<SegmentFile> {
        let path = Storage::path(self, segment);
        let mut spares = self.spares();
        let Some(spare) = self.spare_numbers()?.pop() else { return make_file(&path) };
        if path.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(&mut spares, &self.spare_path(spare), &path)?;
        Storage::open(self, segment)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let _alone = self.spares();
        let number = self.spare_numbers()?.last().map_or(1, |last| last + 1);
        self.make_spare(&self.spare_path(number), self.segment_bytes)
    }

    fn give_back(&mut self) -> io::Result<()> {
        let _alone = self.spares();
        self.spare_numbers()?.pop().map_or(Ok(()), |spare| fs::remove_file(self.spare_path(spare)))
    }

    fn count_spares(&mut self) -> io::Result<u64> {
        let mut count = 0;
        let mut shortest = self.segment_bytes;
        for number in self.spare_numbers()? {
            let path = self.spare_path(number);
            let file = OpenOptions::new().write(true).open(&path)?;
            let bytes = SegmentFile { file: file.into() }.reserve_up_to(self.segment_bytes)?;
            if bytes < self.segment_bytes && bytes < PART_STEP_BYTES {
                fs::remove_file(&path)?;
                continue;
            }
            count += 1;
            shortest = shortest.min(bytes);
        }
        self.segment_bytes = shortest;
        Ok(count)
    }

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        fs::remove_file(Storage::path(self, segment))
    }

    fn beside(&self) -> io::Result<Vec<Beside>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.log)? {
            names.extend(entry?.file_name().to_str().and_then(Beside::of_file_name));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn set_aside_beside(&mut self, bytes: u64) -> io::Result<()> {
        let mut spares = self.spares();
        let (names, open) = (self.log.join(SPARE_NAMES), self.log.join(SPARE_OPEN));
        if !spares.names && !names.try_exists()? {
            self.make_spare(&names, NAMES_BYTES)?;
        }
        spares.names = true;
        let of_last_start = || fs::metadata(&open).map_or(0, |found| found.blocks() * 512);
        if *spares.open.get_or_insert_with(of_last_start) < bytes {
            // What it is for grows with each segment.
            let room = (2 * bytes).next_multiple_of(OPEN_STEP_BYTES);
            self.make_spare(&open, room)?;
            spares.open = Some(room);
        }
        Ok(())
    }

    fn write_beside(&mut self, name: Beside, bytes: &[u8]) -> io::Result<()> {
        let new = self.log.join(BESIDE_NEW);
        let written = match write_new(&new, bytes) {
            Err(error) if is_full(&error) && matches!(name, Beside::Open(_)) => {
                self.write_in_spare(&new, bytes).and_then(|is_written| if is_written { Ok(()) } else { Err(error) })
            }
            written => written,
        };
        if written.is_err() {
            // Half a file would only take room from others.
            let _ = fs::remove_file(&new);
            return written;
        }
        self.rename(&mut self.spares(), &new, &self.log.join(name.file_name()))?;
        sync_directory(&self.log)
    }

    fn open_beside(&self, name: Beside) -> io::Result<SegmentFile> {
        Ok(SegmentFile { file: File::open(self.log.join(name.file_name()))?.into() })
    }

    fn remove_beside(&mut self, name: Beside) -> io::Result<()> {
        match fs::remove_file(self.log.join(name.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&mut self) -> io::Result<()> {
        sync_directory(&self.log)
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.log.join(segment_file_name(segment))
    }
}

/// A segment on a real disk.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    file: Arc<File>,
}

impl SegmentFile {
    /// How many bytes of the disk it has. From its beginning on: none has holes.
    fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// Reads from `offset` on what comes without waiting for the disk; returns how many bytes that was: fewer than
    /// asked for, or none, where the rest is not in the kernel's cache or the file ends.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read_cached(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        match preadv2(&self.file, &mut [io::IoSliceMut::new(into)], offset, ReadWriteFlags::NOWAIT) {
            // A file system that cannot tell may have to wait for all of it.
            Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(0),
            read => Ok(read?),
        }
    }

    /// Reads from `offset` on, up to the end of the file; returns how many bytes that was. May wait for the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read_up_to(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl StorageFile for SegmentFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        // Some file systems ask for the room once more, though the file has it.
        if self.allocated()? >= bytes {
            return Ok(());
        }
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            // A file system that cannot is used without: a full disk is then met by a write.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn reserved(&self) -> io::Result<u64> {
        Ok(self.allocated()? / PART_STEP_BYTES * PART_STEP_BYTES)
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
