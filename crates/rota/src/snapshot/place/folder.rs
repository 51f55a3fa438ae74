//! A folder of this machine as a place.
//!
//! A snapshot under way is called `NAME.new`; renaming it is the last step. Files and folders are synced before what
//! depends on them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Listing, PlaceFault};
use crate::snapshot::{UNFINISHED, in_turns};

/// What is written before it is synced, in bytes.
const PIECE_BYTES: usize = 1 << 20;

pub(super) struct Folder {
    path: PathBuf,
}

impl From<io::Error> for PlaceFault {
    fn from(error: io::Error) -> PlaceFault {
        match error.kind() {
            io::ErrorKind::NotFound => PlaceFault::Missing,
            _ => PlaceFault::Io(error),
        }
    }
}

impl Folder {
    pub(super) fn new(path: &Path) -> Folder {
        Folder { path: path.to_owned() }
    }

    pub(super) fn list(&self, path: &str) -> Result<Listing, PlaceFault> {
        let mut listing = Listing::default();
        let entries = match fs::read_dir(self.path.join(path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let entry = entry?;
            // A name that is no text is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            match fs::metadata(entry.path()) {
                Ok(found) if found.is_dir() => listing.folders.push(name),
                Ok(found) => listing.objects.push((name, found.len())),
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !entry.file_type()?.is_symlink() => {}
                // Who asks for the newest has to hear of one that cannot be read, be it a link to what is not mounted.
                Err(_) => listing.folders.push(name),
            }
        }
        Ok(listing)
    }

    pub(super) fn get(&self, path: &str, most: u64) -> Result<Vec<u8>, PlaceFault> {
        let file = File::open(self.path.join(path))?;
        let found = file.metadata()?;
        if found.is_dir() {
            return Err(PlaceFault::Missing);
        }
        if found.len() > most {
            return Err(PlaceFault::TooLong(found.len()));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0));
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn begin(&self, name: &str) -> Result<(), PlaceFault> {
        make(&self.path)?;
        DirBuilder::new().mode(0o700).create(self.unfinished(name)).map_err(PlaceFault::Io)
    }

    pub(super) fn put(&self, name: &str, object: &str, bytes: &[u8]) -> Result<(), PlaceFault> {
        let path = self.unfinished(name).join(object);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // A piece at a time: a sync of the log, which everybody waits for, stands behind no more than that.
        for piece in bytes.chunks(PIECE_BYTES) {
            in_turns(piece).try_for_each(|piece| file.write_all(piece))?;
            file.sync_data()?;
        }
        Ok(file.sync_all()?)
    }

    pub(super) fn finish(&self, name: &str) -> Result<(), PlaceFault> {
        let unfinished = self.unfinished(name);
        sync_folder(&unfinished)?;
        fs::rename(&unfinished, self.path.join(name))?;
        Ok(sync_folder(&self.path)?)
    }

    pub(super) fn abandon(&self, name: &str) {
        let _ = fs::remove_dir_all(self.unfinished(name));
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{UNFINISHED}"))
    }
}

/// Makes a folder and its parents where they are missing, and their names durable.
fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|part| !part.as_os_str().is_empty() && !part.exists()).collect();
    DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(parent)?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
