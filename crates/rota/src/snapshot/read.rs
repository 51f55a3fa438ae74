//! Finding snapshots at an address, and reading one with every byte checked against its manifest.
//!
//! `serve` restores through it, `rota inspect` looks through it. It changes nothing anywhere. A snapshot without a
//! manifest is none; one whose manifest is not right is never skipped silently in favour of an older one.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rota_engine::storage::{Storage, StorageFile, StoreId, segment_file_name, segment_number};

use super::address::Address;
use super::error::ReadError;
use super::manifest::{MANIFEST, MANIFEST_BYTES, Manifest, sha256_hex};
use super::place::Place;
use super::{UNFINISHED, is_name};

/// Bytes of a segment's header, which are kept of every segment.
const HEAD_BYTES: usize = 64;

/// One whole snapshot.
pub(crate) struct Snapshot {
    place: Arc<Place>,
    /// Its folder in the place; empty if the place is the snapshot.
    folder: String,
    /// What it is made of.
    pub(crate) manifest: Manifest,
}

/// What a folder at a place is.
pub(crate) enum What {
    /// A snapshot with a right manifest, all of whose segments are there in their lengths.
    Whole(Box<Snapshot>),
    /// One without a manifest.
    Unfinished,
    /// One with a manifest, that can't be used.
    Unusable(ReadError),
}

/// What an address names.
pub(crate) enum Named {
    /// One snapshot.
    One(Box<Snapshot>),
    /// A place for several.
    Several(Names),
}

/// The snapshots at a place, by name, the oldest first.
pub(crate) struct Names {
    place: Arc<Place>,
    names: Vec<String>,
}

/// Looks what an address names. A place that is not there holds nothing.
///
/// # Errors
/// [`ReadError`]: the place can't be read, or it is one snapshot that can't be used.
pub(crate) fn look(address: &Address) -> Result<Named, ReadError> {
    let place = Arc::new(Place::open(address)?);
    let listing = place.list("")?;
    if listing.objects.iter().any(|(name, _)| name == MANIFEST) {
        return Ok(Named::One(Box::new(Snapshot::open(&place, "")?)));
    }
    let has_segments = listing.objects.iter().any(|(name, _)| segment_number(name).is_some());
    let last = address.last();
    if has_segments || is_name(finished(last)) {
        let address = address.to_string();
        let is_there = has_segments || last != finished(last);
        return Err(if is_there { ReadError::Unfinished { address } } else { ReadError::None { address } });
    }
    let names = listing.folders.into_iter().filter(|name| is_name(finished(name))).collect();
    Ok(Named::Several(Names { place, names }))
}

/// The snapshot that an address names: itself, or the newest at the place. The names of those that were passed over
/// because they are unfinished come with it.
///
/// # Errors
/// [`ReadError`]: there is none, or the newest can't be used: an older one is used only if it is named.
pub(crate) fn newest(address: &Address) -> Result<(Snapshot, Vec<String>), ReadError> {
    let names = match look(address)? {
        Named::One(snapshot) => return Ok((*snapshot, Vec::new())),
        Named::Several(names) => names,
    };
    let mut unfinished = Vec::new();
    for name in names.names.iter().rev() {
        match names.what(name) {
            What::Whole(snapshot) => return Ok((*snapshot, unfinished)),
            What::Unfinished => unfinished.push(name.clone()),
            What::Unusable(error) => return Err(error),
        }
    }
    Err(ReadError::None { address: address.to_string() })
}

impl Names {
    /// Each of them, looked at when its turn comes.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, What)> {
        self.names.iter().map(|name| (name.as_str(), self.what(name)))
    }

    fn what(&self, name: &str) -> What {
        if name != finished(name) {
            return What::Unfinished;
        }
        match Snapshot::open(&self.place, name) {
            Ok(snapshot) => What::Whole(Box::new(snapshot)),
            Err(ReadError::Unfinished { .. }) => What::Unfinished,
            Err(error) => What::Unusable(error),
        }
    }
}

/// A name without what says that it is unfinished.
fn finished(name: &str) -> &str {
    name.strip_suffix(UNFINISHED).unwrap_or(name)
}

impl Snapshot {
    /// Reads the manifest in a folder of the place, and looks whether what it names is there.
    fn open(place: &Arc<Place>, folder: &str) -> Result<Snapshot, ReadError> {
        let path = format!("{folder}/{MANIFEST}");
        let bytes = match place.get(path.trim_start_matches('/'), MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => {
                return Err(ReadError::Unfinished { address: place.address_of(folder).to_string() });
            }
            Err(error) => return Err(error.into()),
        };
        let manifest = Manifest::decode(&bytes)
            .map_err(|source| ReadError::Manifest { address: place.address_of(&path).to_string(), source })?;
        let snapshot = Snapshot { place: place.clone(), folder: folder.to_owned(), manifest };
        let listing = place.list(folder)?;
        for (segment, number) in snapshot.manifest.segments.iter().zip(1..) {
            let name = segment_file_name(number);
            let address = snapshot.address_of(&name);
            match listing.objects.binary_search_by(|(object, _)| object.as_str().cmp(&name)) {
                Err(_) => return Err(ReadError::Missing { address }),
                Ok(at) if listing.objects[at].1 != segment.bytes => {
                    let (found, expected) = (listing.objects[at].1, segment.bytes);
                    return Err(ReadError::Length { address, found, expected });
                }
                Ok(_) => {}
            }
        }
        Ok(snapshot)
    }

    /// Where it is.
    pub(crate) fn address(&self) -> String {
        self.place.address_of(&self.folder).to_string()
    }

    fn address_of(&self, object: &str) -> String {
        self.place.address_of(&format!("{}/{object}", self.folder)).to_string()
    }

    /// The bytes of a segment, which are those that were written. Segments are counted from 1.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn segment(&self, number: u64) -> Result<Vec<u8>, ReadError> {
        let index = usize::try_from(number - 1).expect("a segment of the manifest");
        let expected = &self.manifest.segments[index];
        let name = segment_file_name(number);
        let path = format!("{}/{name}", self.folder);
        let address = || self.address_of(&name);
        let bytes = match self.place.get(path.trim_start_matches('/'), expected.bytes) {
            Ok(bytes) => bytes,
            Err(error) => {
                return Err(match error.source {
                    super::place::PlaceFault::Missing => ReadError::Missing { address: address() },
                    super::place::PlaceFault::TooLong(found) => {
                        ReadError::Length { address: address(), found, expected: expected.bytes }
                    }
                    _ => error.into(),
                });
            }
        };
        if bytes.len() as u64 != expected.bytes {
            let (found, expected) = (bytes.len() as u64, expected.bytes);
            return Err(ReadError::Length { address: address(), found, expected });
        }
        let found = sha256_hex(&bytes);
        if found != expected.sha256 {
            return Err(ReadError::Checksum { address: address(), found, expected: expected.sha256.clone() });
        }
        Ok(bytes)
    }

    /// A storage that reads it, a segment in memory at a time. Every segment was found right when this returns.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn storage(self: &Arc<Snapshot>) -> Result<SnapshotStorage, ReadError> {
        let numbers = 1..=self.manifest.segments.len() as u64;
        let heads: Result<Vec<Vec<u8>>, ReadError> = numbers
            .map(|number| {
                let mut bytes = self.segment(number)?;
                bytes.truncate(HEAD_BYTES);
                bytes.shrink_to_fit();
                Ok(bytes)
            })
            .collect();
        Ok(SnapshotStorage { snapshot: self.clone(), heads: heads?.into() })
    }
}

/// A snapshot as the log of an engine that keeps none: it is read, and what is written to it is forgotten.
#[derive(Clone)]
pub(crate) struct SnapshotStorage {
    snapshot: Arc<Snapshot>,
    heads: Arc<[Vec<u8>]>,
}

/// A segment of it.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    snapshot: Arc<Snapshot>,
    heads: Arc<[Vec<u8>]>,
    number: u64,
    /// Its bytes, once they were asked for.
    bytes: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Storage for SnapshotStorage {
    type File = SnapshotFile;

    fn store_id(&self) -> io::Result<Option<StoreId>> {
        Ok(None)
    }

    fn set_store_id(&mut self, _: StoreId) -> io::Result<()> {
        Ok(())
    }

    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok((1..=self.heads.len() as u64).collect())
    }

    fn open(&self, segment: u64) -> io::Result<SnapshotFile> {
        let SnapshotStorage { snapshot, heads } = self.clone();
        Ok(SnapshotFile { snapshot, heads, number: segment, bytes: Arc::default() })
    }

    fn create(&mut self, _: u64) -> io::Result<SnapshotFile> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn give_back(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn count_spares(&mut self) -> io::Result<u64> {
        Ok(0)
    }

    fn remove(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.snapshot.address_of(&segment_file_name(segment)).into()
    }
}

impl StorageFile for SnapshotFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.snapshot.manifest.segments[usize::try_from(self.number - 1).expect("it was opened")].bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + into.len();
        let head = &self.heads[usize::try_from(self.number - 1).expect("it was opened")];
        if let Some(bytes) = head.get(start..end) {
            into.copy_from_slice(bytes);
            return Ok(());
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.is_none() {
            *bytes = Some(self.snapshot.segment(self.number).map_err(io::Error::other)?);
        }
        let bytes = bytes.as_ref().and_then(|bytes| bytes.get(start..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
