//! Putting a snapshot into a data directory, so that it is an ordinary one from then on.
//!
//! `serve` calls it before the log is opened, with the directory locked. All segments are fetched into a folder of the
//! directory, checked and synced, before that folder becomes the log; the file `store` is written last. A restore that
//! was interrupted leaves the folder, and a start that is not told to restore refuses to go on beside it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rota_engine::storage::{DataDirectory, Storage, StorageFile, StoreId, segment_file_name};

use super::error::ReadError;
use super::manifest::{MANIFEST, ManifestError};
use super::read::Snapshot;

/// The folder in the data directory that a restore fills.
pub(crate) const UNDER_WAY: &str = "restore";

/// Where a segment's header has the store id, in bytes.
const STORE_AT: u64 = 16;

/// Refuses a data directory in which a restore was interrupted.
///
/// # Errors
/// [`ReadError::Interrupted`].
pub(crate) fn check_none_under_way(data: &Path) -> Result<(), ReadError> {
    match data.join(UNDER_WAY).exists() {
        true => Err(ReadError::Interrupted { path: data.to_owned() }),
        false => Ok(()),
    }
}

/// Refuses a data directory that has a log of its own.
///
/// # Errors
/// [`ReadError::HasLog`], or what the disk says.
pub(crate) fn check_empty(data: &DataDirectory) -> Result<(), ReadError> {
    let failed = |source| ReadError::Io { doing: "read", path: data.path().to_owned(), source };
    // A store that cannot be read is one too.
    let has_store = !matches!(data.store_id(), Ok(None));
    match has_store {
        true => Err(ReadError::HasLog { path: data.path().to_owned() }),
        // Without it there is nothing that counts, or what an earlier restore put there: see `take_place`.
        false => data.segments().map(|_| ()).map_err(failed),
    }
}

/// Makes the snapshot the log of the directory. Everything is durable on return.
///
/// # Errors
/// [`ReadError`]; the directory has no log then, or the whole one, and it may be done again.
pub(crate) fn into_directory(snapshot: &Snapshot, data: &mut DataDirectory) -> Result<(), ReadError> {
    check_empty(data)?;
    let store = store_of(snapshot)?;
    check_segments(data, store, snapshot)?;
    let folder = data.path().join(UNDER_WAY);
    fetch(snapshot, &folder, data.path()).inspect_err(|_| {
        // Nothing is changed then: else a start without a restore would be refused. What cannot be removed says so.
        let _ = fs::remove_dir_all(&folder);
    })?;
    take_place(&folder, data)?;
    let named = data.set_store_id(store);
    named.map_err(|source| ReadError::Io { doing: "name the store in", path: data.path().to_owned(), source })
}

fn store_of(snapshot: &Snapshot) -> Result<StoreId, ReadError> {
    let hex = &snapshot.manifest.store;
    let id = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32);
    id.map(|id| StoreId(id.to_be_bytes())).ok_or_else(|| ReadError::Manifest {
        address: format!("{}/{MANIFEST}", snapshot.address()),
        source: ManifestError::Damaged("its store is none"),
    })
}

/// Segments without a `store` beside them are what a restore of this snapshot put there before it was interrupted, or
/// they are not to be replaced.
fn check_segments(data: &DataDirectory, store: StoreId, snapshot: &Snapshot) -> Result<(), ReadError> {
    let failed = |source| ReadError::Io { doing: "read", path: data.path().join("log"), source };
    for number in data.segments().map_err(failed)? {
        let mut found = [0; 16];
        let read = data.open(number).and_then(|file| file.read_at(STORE_AT, &mut found));
        let is_ours = read.is_ok() && found == store.0 && number <= snapshot.manifest.segments.len() as u64;
        if !is_ours {
            return Err(ReadError::HasLog { path: data.path().to_owned() });
        }
    }
    Ok(())
}

/// Brings all segments into the folder, each checked.
fn fetch(snapshot: &Snapshot, folder: &Path, data: &Path) -> Result<(), ReadError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| ReadError::Io { doing, path, source }
    };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove what an earlier restore left in", folder)(error));
        }
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(folder).map_err(failed("create", folder))?;
    sync_folder(data).map_err(failed("sync", data))?;
    for number in 1..=snapshot.manifest.segments.len() as u64 {
        let bytes = snapshot.segment(number)?;
        let path = folder.join(segment_file_name(number));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(failed("write", &path))?;
    }
    sync_folder(folder).map_err(failed("sync", folder))
}

/// Makes the folder the log, at once.
fn take_place(folder: &Path, data: &mut DataDirectory) -> Result<(), ReadError> {
    let log = data.path().join("log");
    let failed = |doing| {
        let path = log.clone();
        move |source| ReadError::Io { doing, path, source }
    };
    // An earlier restore's, which are all here again: a folder takes the place of an empty one only.
    for number in data.segments().map_err(failed("read"))? {
        data.remove(number).map_err(failed("empty"))?;
    }
    data.sync_names().map_err(failed("sync"))?;
    fs::rename(folder, &log).map_err(failed("put the restored log into"))?;
    sync_folder(data.path()).map_err(failed("sync the parent of"))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
