//! A log's files for reading alone: what looks at a data directory and must not change it.
//!
//! [`crate::log::inspect`] and [`crate::log::salvage`] read through it. Every [`Storage`] can be read so, and
//! [`DirectoryReader`] is a real directory, with a server in it or not. There is no way to write through one.

use super::{Beside, Storage, StorageFile, StoreId, directory, segment_file_name, segment_number};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A folder of log segments, as it is found.
pub trait LogSource {
    /// The id in the file `store`; `None` where there is no such file.
    ///
    /// # Errors
    /// What the disk says, or `InvalidData` if the file does not hold an id.
    fn store_id(&self) -> io::Result<Option<StoreId>>;

    /// Every plain file beside the segments, segments included, in no order.
    ///
    /// # Errors
    /// What the disk says.
    fn files(&self) -> io::Result<Vec<LogFile>>;

    /// Opens one of them.
    ///
    /// # Errors
    /// What the disk says.
    fn open_file(&self, file: &LogFile) -> io::Result<Box<dyn ReadAt + '_>>;
}

/// A file that can be read at any place.
pub trait ReadAt {
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
}

/// A file beside the segments of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFile {
    /// Its name in the folder.
    pub name: OsString,
    /// The segment's number, if the name is that of a segment.
    pub number: Option<u64>,
}

impl LogFile {
    /// The file of that segment.
    #[must_use]
    pub fn of_segment(number: u64) -> LogFile {
        LogFile { name: segment_file_name(number).into(), number: Some(number) }
    }

    /// That one of the files that go with far segments.
    #[must_use]
    pub fn of_beside(name: Beside) -> LogFile {
        LogFile { name: name.file_name().into(), number: None }
    }

    /// Which of the files that go with far segments it is; `None` if it is none.
    #[must_use]
    pub fn beside(&self) -> Option<Beside> {
        self.name.to_str().and_then(Beside::of_file_name)
    }
}

impl<S: Storage> LogSource for S {
    fn store_id(&self) -> io::Result<Option<StoreId>> {
        Storage::store_id(self)
    }

    fn files(&self) -> io::Result<Vec<LogFile>> {
        let segments = self.segments()?.into_iter().map(LogFile::of_segment);
        Ok(segments.chain(self.beside()?.into_iter().map(LogFile::of_beside)).collect())
    }

    fn open_file(&self, file: &LogFile) -> io::Result<Box<dyn ReadAt + '_>> {
        let file = match (file.number, file.beside()) {
            (Some(segment), _) => Storage::open(self, segment)?,
            (None, Some(name)) => self.open_beside(name)?,
            (None, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(FileReader(file)))
    }
}

/// A storage's file, for reading.
struct FileReader<F>(F);

impl<F: StorageFile> ReadAt for FileReader<F> {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into)
    }
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }
}

/// A data directory that is read and never changed, not even its lock.
#[derive(Debug)]
pub struct DirectoryReader {
    path: PathBuf,
    /// Held so that no server starts meanwhile; `None` where a server has it, or there is no lock to hold.
    _lock: Option<File>,
    holder: Option<String>,
}

impl DirectoryReader {
    /// Opens a directory for reading. If no server has it, none can start on it until this is dropped.
    ///
    /// # Errors
    /// What the system says: the directory or its lock cannot be read.
    pub fn open(path: &Path) -> io::Result<DirectoryReader> {
        fs::read_dir(path)?;
        let mut reader = DirectoryReader { path: path.to_owned(), _lock: None, holder: None };
        let lock = match File::open(path.join("lock")) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(reader),
            Err(error) => return Err(error),
        };
        match lock.try_lock_shared() {
            Ok(()) => reader._lock = Some(lock),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = lock.take(32).read_to_string(&mut pid);
                reader.holder = Some(read.map_or_else(|_| String::new(), |_| pid.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(reader)
    }

    /// Whether it holds what a data directory holds: the file `store`, or a folder `log`.
    #[must_use]
    pub fn is_data_directory(&self) -> bool {
        self.path.join("store").is_file() || self.path.join("log").is_dir()
    }

    /// The process id that the server which has the directory left in its lock (empty if it cannot be read); `None` if no
    /// server has it.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.holder.as_deref()
    }
}

impl LogSource for DirectoryReader {
    fn store_id(&self) -> io::Result<Option<StoreId>> {
        directory::read_store_id(&self.path)
    }

    fn files(&self) -> io::Result<Vec<LogFile>> {
        let mut files = Vec::new();
        let entries = match fs::read_dir(self.path.join("log")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            // Links are followed, as a server does; a pipe would be waited on for ever.
            if fs::metadata(entry.path()).is_ok_and(|found| found.is_file()) {
                let name = entry.file_name();
                let number = name.to_str().and_then(segment_number);
                // Room for segments to come holds nothing, nor does a file that was not finished.
                let is_empty = name.as_encoded_bytes().starts_with(directory::SPARE_BEGIN.as_bytes());
                if !is_empty && name != directory::BESIDE_NEW {
                    files.push(LogFile { name, number });
                }
            }
        }
        Ok(files)
    }

    fn open_file(&self, file: &LogFile) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(File::open(self.path.join("log").join(&file.name))?))
    }
}
