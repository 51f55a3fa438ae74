//! Files that the server is told things by, and keeps things in: opened without waiting for anybody, told apart when they
//! change; those with secrets for their owner alone, bounded, replaced as a whole.
//!
//! What they say is the business of who calls in.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file with secrets cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum FileError {
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
    /// It is a folder, or something else that has no end.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Others may read it, or change it.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    TooOpen {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Nobody of ours wrote that much.
    #[error("{} has {bytes} bytes, and {what} take at most {most}", path.display())]
    TooLong {
        /// Its path.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// What should be in it.
        what: &'static str,
        /// How long it may be, in bytes.
        most: u64,
    },
}

impl FileError {
    /// For `map_err`: what was being done when the system refused.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError::Io { doing, path, source }
    }

    /// With which code the process ends.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            FileError::Io { .. } => 1,
            _ => 2,
        }
    }
}

/// Which state of a file was read: another one is another file, or the same with another content or mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(found: &Metadata) -> Stamp {
        Stamp {
            inode: (found.dev(), found.ino()),
            bytes: found.len(),
            mode: found.mode(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// The state of the file now; none if it is not there.
    pub(crate) fn look(path: &Path) -> io::Result<Option<Stamp>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Stamp::of(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Opens a file for reading without waiting for anybody, should it be a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(without_waiting).open(path)
}

/// Refuses a file with a secret that other users may read, or change.
pub(crate) fn check_private(path: &Path, found: &Metadata) -> Result<(), FileError> {
    if !found.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    let mode = found.mode() & 0o7777;
    // A group may read it: that is how a service is given what root keeps.
    if mode & 0o027 != 0 {
        return Err(FileError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

/// All of a file with secrets, and what it was like when it was read; none where there is no file. `what` should be in it.
///
/// # Errors
/// [`FileError`]: it is not what it has to be, or cannot be read.
pub(crate) fn read_private(
    path: &Path,
    what: &'static str,
    most: u64,
) -> Result<Option<(Vec<u8>, Metadata)>, FileError> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("open", path)(error)),
    };
    let found = file.metadata().map_err(FileError::io("look at", path))?;
    check_private(path, &found)?;
    let too_long = |bytes| FileError::TooLong { path: path.to_owned(), bytes, what, most };
    if found.len() > most {
        return Err(too_long(found.len()));
    }
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text).map_err(FileError::io("read", path))?;
    if text.len() as u64 > most {
        return Err(too_long(text.len() as u64));
    }
    Ok(Some((text, found)))
}

/// The lines of a file that have something in them, with their numbers, counted from 1.
pub(crate) fn full_lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = (1..).zip(text.split(|byte| *byte == b'\n'));
    lines.filter(|(_, line)| !line.trim_ascii().is_empty())
}

/// Replaces a file by that text, for its owner alone unless `finish` says otherwise of it. It is durable on return.
///
/// # Errors
/// [`FileError`]; the file is as it was.
pub(crate) fn replace_private(
    path: &Path,
    text: &str,
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), FileError> {
    let new = path.with_added_extension("new");
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(FileError::io("remove", &new)(source)),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        finish(&file)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder(path))?.sync_all()
    })();
    written.map_err(|source| {
        fs::remove_file(&new).ok();
        FileError::io("write", path)(source)
    })
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}
