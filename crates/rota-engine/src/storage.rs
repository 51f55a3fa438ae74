//! Where the log's bytes are: the disk as a trait, so that a simulated one can stand in.
//!
//! [`crate::log`] calls it, and nobody else does file I/O in this crate. [`DataDirectory`] is the real one. A storage
//! knows segments by number and never looks into them; it must never retry a failed write or sync.

mod directory;
mod handles;
mod source;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use directory::{DataDirectory, DirectoryError, SegmentFile, SegmentInfo};
pub use handles::{Handle, Handles};
pub use source::{DirectoryReader, LogFile, LogSource, ReadAt};

/// The random name of a store: in every segment, so that a foreign one is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Whether the disk has no more room, or none for this user: nothing is broken, and it can be tried again.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the system has too little of something else just now, descriptors or memory: it can be tried again as well.
#[must_use]
pub fn is_short(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| short.map(Errno::raw_os_error).contains(&code))
}

/// A folder of segments that belongs to this process alone. Clones are the same folder.
pub trait Storage: Clone + Send {
    /// One open segment.
    type File: StorageFile;

    /// The id that [`Storage::set_store_id`] left; `None` on new data.
    ///
    /// # Errors
    /// What the disk says, or `InvalidData` if the id cannot be read.
    fn store_id(&self) -> io::Result<Option<StoreId>>;

    /// Leaves the store's id, all or nothing. It is durable on return.
    ///
    /// # Errors
    /// What the disk says; it is then unknown whether the id is there.
    fn set_store_id(&mut self, id: StoreId) -> io::Result<()>;

    /// The numbers of the segments that are there, rising.
    ///
    /// # Errors
    /// What the disk says.
    fn segments(&self) -> io::Result<Vec<u64>>;

    /// Opens a segment that is there, for reading and writing. Several handles of one segment may be open.
    ///
    /// # Errors
    /// What the disk says.
    fn open(&self, segment: u64) -> io::Result<Self::File>;

    /// Makes an empty segment, out of a spare one if there is any. Its name is durable after [`Storage::sync_names`].
    ///
    /// # Errors
    /// `AlreadyExists`, or what the disk says.
    fn create(&mut self, segment: u64) -> io::Result<Self::File>;

    /// Sets room for one more segment aside on the disk, which a later [`Storage::create`] takes.
    ///
    /// # Errors
    /// What the disk says. It is safe to try again where it [is full](is_full), or the system [is short](is_short) of something;
    /// anything else may have been said of the log, too, and will not be said again.
    fn set_aside(&mut self) -> io::Result<()>;

    /// Gives the room of one spare segment back, if there is one.
    ///
    /// # Errors
    /// What the disk says.
    fn give_back(&mut self) -> io::Result<()>;

    /// How many segments room is set aside for. For a start: what was set aside when segments were shorter is made longer, and
    /// where the disk is too full for that, [`Storage::segment_bytes`] is no more than the least of it from here on.
    ///
    /// # Errors
    /// What the disk says, but for that it is full.
    fn count_spares(&mut self) -> io::Result<u64>;

    /// Takes a segment away; for good after [`Storage::sync_names`].
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&mut self, segment: u64) -> io::Result<()>;

    /// Which files there are beside the segments, in order. None where a storage keeps no such files: it has no
    /// [`crate::far`] jobs then.
    ///
    /// # Errors
    /// What the disk says.
    fn beside(&self) -> io::Result<Vec<Beside>> {
        Ok(Vec::new())
    }

    /// Sets room aside on the disk for names of files, and for so many bytes of [`Beside::Open`]: where the disk is full,
    /// [`Storage::write_beside`] takes it, and it has to be set aside again. Does nothing where that is there.
    ///
    /// # Errors
    /// As [`Storage::set_aside`].
    fn set_aside_beside(&mut self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    /// Leaves a file beside the segments, whole or not at all; it takes the place of one of that name. It is durable on
    /// return.
    ///
    /// # Errors
    /// `StorageFull`: nothing was changed, and it is safe to try again. Or what else the disk says; it is then unknown
    /// which of the two is there.
    fn write_beside(&mut self, _name: Beside, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens one of them for reading.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn open_beside(&self, _name: Beside) -> io::Result<Self::File> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// Takes one of them away, if it is there; for good after [`Storage::sync_names`].
    ///
    /// # Errors
    /// What the disk says.
    fn remove_beside(&mut self, _name: Beside) -> io::Result<()> {
        Ok(())
    }

    /// Makes creations and removals durable.
    ///
    /// # Errors
    /// What the disk says; not to be tried again.
    fn sync_names(&mut self) -> io::Result<()>;

    /// Length at which a segment is closed, and up to which room is reserved for it, in bytes.
    fn segment_bytes(&self) -> u64 {
        crate::limits::SEGMENT_BYTES
    }

    /// Where a segment is, for messages.
    fn path(&self, segment: u64) -> PathBuf;
}

/// One open segment. Clones are the same one.
pub trait StorageFile: Clone + Send {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn length(&self) -> io::Result<u64>;

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, or what the disk says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Hands bytes to the kernel; the file grows as needed. They are durable after [`StorageFile::sync`].
    ///
    /// # Errors
    /// What the disk says; any part of the bytes may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Sets aside room on the disk for the first `bytes` bytes without changing the file's length; does nothing where
    /// the file system cannot.
    ///
    /// # Errors
    /// `StorageFull`, or what else the disk says.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;

    /// For how many bytes from its beginning on it has room for certain, where the disk has no more.
    ///
    /// # Errors
    /// What the disk says.
    fn reserved(&self) -> io::Result<u64> {
        self.length()
    }

    /// As [`StorageFile::reserve`], for as many of the bytes as the disk has room for. Returns for how many there is some.
    ///
    /// # Errors
    /// What the disk says, but for that it is full.
    fn reserve_up_to(&mut self, bytes: u64) -> io::Result<u64> {
        match self.reserve(bytes) {
            Err(error) if is_full(&error) => Ok(self.reserved()?.min(bytes)),
            reserved => reserved.map(|()| bytes),
        }
    }

    /// Cuts the file to `bytes` bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;

    /// Makes everything written and cut so far durable.
    ///
    /// # Errors
    /// What the disk says. What was written since the last success may be lost then, whatever a later call says.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file beside the segments of a log: see [`crate::far`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Beside {
    /// Where in that segment, which no start reads any more, jobs are.
    Index(u64),
    /// Which of them were open when that segment ended.
    Open(u64),
}

impl Beside {
    /// Its file's name: 20 digits and `.index` or `.open`.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Beside::Index(segment) => format!("{segment:020}.index"),
            Beside::Open(segment) => format!("{segment:020}.open"),
        }
    }

    /// What has that file name; `None` if nothing has.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Beside> {
        let (digits, kind) = name.split_once('.')?;
        let number = segment_number(&format!("{digits}.seg"))?;
        match kind {
            "index" => Some(Beside::Index(number)),
            "open" => Some(Beside::Open(number)),
            _ => None,
        }
    }
}

/// The name of a segment's file: 20 digits and `.seg`.
#[must_use]
pub fn segment_file_name(segment: u64) -> String {
    format!("{segment:020}.seg")
}

/// The number in a segment's file name; `None` if it is not one.
#[must_use]
pub fn segment_number(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".seg")?;
    let well_formed = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if well_formed { digits.parse().ok() } else { None }
}
