//! Where the objects of snapshots lie: a folder or a bucket, behind the same few operations.
//!
//! Everything here blocks, and is called from threads of its own: never from one that serves. A folder of objects
//! becomes visible whole or not at all where the place can do that; where it cannot, the manifest, which is put last,
//! says the same.

mod bucket;
mod folder;

use std::io;

use thiserror::Error;

use super::address::Address;
use bucket::Bucket;
pub(crate) use bucket::provide_tls;
use folder::Folder;

/// A place, ready for use.
pub(crate) struct Place {
    address: Address,
    kind: Kind,
}

enum Kind {
    Folder(Folder),
    Bucket(Bucket),
}

/// What lies directly at one level of a place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Names of what has something below it.
    pub(crate) folders: Vec<String>,
    /// Names of objects, with their lengths in bytes.
    pub(crate) objects: Vec<(String, u64)>,
}

/// A place could not be used. Trying again is safe.
#[derive(Debug, Error)]
#[error("cannot {doing} {what}")]
pub(crate) struct PlaceError {
    /// What was being done.
    pub(crate) doing: &'static str,
    /// To what: an address.
    pub(crate) what: String,
    /// What the system or the object store said.
    pub(crate) source: PlaceFault,
}

/// What a place said.
#[derive(Debug, Error)]
pub(crate) enum PlaceFault {
    /// There is no such thing.
    #[error("there is no such object")]
    Missing,
    /// It is longer than anybody would have written it.
    #[error("it is {0} bytes long, which is more than it can be")]
    TooLong(u64),
    /// The file system.
    #[error("{0}")]
    Io(io::Error),
    /// The object store, without secrets.
    #[error("{0}")]
    Store(String),
}

impl PlaceError {
    /// Whether it is the thing itself that is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.source, PlaceFault::Missing)
    }
}

impl Place {
    /// Makes ready to use an address. Nothing is sent yet.
    ///
    /// # Errors
    /// [`PlaceError`], where the environment lacks what an object store needs.
    pub(crate) fn open(address: &Address) -> Result<Place, PlaceError> {
        let kind = match address {
            Address::Folder(path) => Kind::Folder(Folder::new(path)),
            Address::Bucket { cloud, bucket, prefix } => {
                Kind::Bucket(Bucket::open(*cloud, bucket, prefix).map_err(|source| PlaceError {
                    doing: "use",
                    what: address.to_string(),
                    source,
                })?)
            }
        };
        Ok(Place { address: address.clone(), kind })
    }

    /// The address of a path below it.
    pub(crate) fn address_of(&self, path: &str) -> Address {
        path.split('/').filter(|part| !part.is_empty()).fold(self.address.clone(), |address, part| address.below(part))
    }

    /// What lies directly in a folder of it; the empty path is the place itself. What is not there is empty.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub(crate) fn list(&self, path: &str) -> Result<Listing, PlaceError> {
        let listed = match &self.kind {
            Kind::Folder(folder) => folder.list(path),
            Kind::Bucket(bucket) => bucket.list(path),
        };
        let mut listing = self.explain("list", path, listed)?;
        listing.folders.sort_unstable();
        listing.objects.sort_unstable();
        Ok(listing)
    }

    /// A whole object of at most `most` bytes.
    ///
    /// # Errors
    /// [`PlaceError`]; see [`PlaceError::is_missing`].
    pub(crate) fn get(&self, path: &str, most: u64) -> Result<Vec<u8>, PlaceError> {
        let got = match &self.kind {
            Kind::Folder(folder) => folder.get(path, most),
            Kind::Bucket(bucket) => bucket.get(path, most),
        };
        self.explain("read", path, got)
    }

    /// Begins a folder of objects that nobody takes for a whole one before [`Unfinished::finish`].
    ///
    /// # Errors
    /// [`PlaceError`].
    pub(crate) fn begin(&self, name: &str) -> Result<Unfinished<'_>, PlaceError> {
        let begun = match &self.kind {
            Kind::Folder(folder) => folder.begin(name),
            // There are no folders: the first object makes it.
            Kind::Bucket(_) => Ok(()),
        };
        self.explain("create", name, begun)?;
        Ok(Unfinished { place: self, name: name.to_owned(), objects: Vec::new(), is_finished: false })
    }

    /// Ends every put under way, now and from now on, where the place can leave one in the middle. From any thread.
    pub(crate) fn give_up(&self) {
        match &self.kind {
            // A file system takes what it is given, or fails.
            Kind::Folder(_) => {}
            Kind::Bucket(bucket) => bucket.give_up(),
        }
    }

    fn explain<T>(&self, doing: &'static str, path: &str, result: Result<T, PlaceFault>) -> Result<T, PlaceError> {
        result.map_err(|source| PlaceError { doing, what: self.address_of(path).to_string(), source })
    }
}

/// A folder of objects under way. If it is dropped, what was put is taken away again, as far as that can be done.
pub(crate) struct Unfinished<'a> {
    place: &'a Place,
    name: String,
    objects: Vec<String>,
    is_finished: bool,
}

impl Unfinished<'_> {
    /// Puts an object; it is durable on return.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub(crate) fn put(&mut self, object: &str, bytes: Vec<u8>) -> Result<(), PlaceError> {
        self.objects.push(object.to_owned());
        let put = match &self.place.kind {
            Kind::Folder(folder) => folder.put(&self.name, object, &bytes),
            Kind::Bucket(bucket) => bucket.put(&format!("{}/{object}", self.name), bytes),
        };
        self.place.explain("write", &format!("{}/{object}", self.name), put)
    }

    /// Puts the last object, and makes the folder a whole one, for good.
    ///
    /// # Errors
    /// [`PlaceError`]; it is then unknown whether it is whole.
    pub(crate) fn finish(mut self, object: &str, bytes: Vec<u8>) -> Result<(), PlaceError> {
        self.put(object, bytes)?;
        // From here on it may be whole, so that nothing of it is taken away.
        self.is_finished = true;
        match &self.place.kind {
            Kind::Folder(folder) => self.place.explain("finish", &self.name, folder.finish(&self.name)),
            Kind::Bucket(_) => Ok(()),
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // Whatever stays is no snapshot: it has no manifest.
        match &self.place.kind {
            Kind::Folder(folder) => folder.abandon(&self.name),
            Kind::Bucket(bucket) => {
                // The last first: it is the manifest, if one was tried.
                for object in self.objects.iter().rev() {
                    if !bucket.delete(&format!("{}/{object}", self.name)) {
                        return;
                    }
                }
            }
        }
    }
}
