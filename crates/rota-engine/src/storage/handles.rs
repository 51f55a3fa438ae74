//! Files of a storage that are held open for reading: so many at the most, however many there are.
//!
//! Whoever looks up jobs far ahead has one, and whoever hands out bodies that are in the log alone. A file that is removed has to
//! be closed: its room on the disk is free only then.

use super::{Beside, Storage};
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file that can be held open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Handle {
    /// A segment.
    Segment(u64),
    /// The index beside that segment.
    Index(u64),
}

/// Files that are open, of which the one that was used longest ago is closed for another.
#[derive(Debug)]
pub struct Handles<S: Storage> {
    storage: S,
    most: usize,
    open: Mutex<Open<S::File>>,
}

#[derive(Debug)]
struct Open<F> {
    /// Each with the turn in which it was used last.
    files: HashMap<Handle, (F, u64)>,
    turn: u64,
}

impl<S: Storage> Handles<S> {
    /// None yet, and at most so many at a time, one at least.
    #[must_use]
    pub fn new(storage: S, most: usize) -> Handles<S> {
        Handles { storage, most: most.max(1), open: Mutex::new(Open { files: HashMap::new(), turn: 0 }) }
    }

    /// The file, opened if it is not.
    ///
    /// # Errors
    /// What the disk says; `NotFound` if there is no such file.
    pub fn get(&self, handle: Handle) -> io::Result<S::File> {
        let mut open = self.lock();
        open.turn += 1;
        let turn = open.turn;
        if let Some((file, used)) = open.files.get_mut(&handle) {
            *used = turn;
            return Ok(file.clone());
        }
        while open.files.len() >= self.most {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(&handle, _)| handle);
            oldest.and_then(|oldest| open.files.remove(&oldest));
        }
        let file = match handle {
            Handle::Segment(segment) => self.storage.open(segment),
            Handle::Index(segment) => self.storage.open_beside(Beside::Index(segment)),
        }?;
        open.files.insert(handle, (file.clone(), turn));
        Ok(file)
    }

    /// Closes the files of a segment.
    pub fn close(&self, segment: u64) {
        let mut open = self.lock();
        open.files.remove(&Handle::Segment(segment));
        open.files.remove(&Handle::Index(segment));
    }

    /// How many are open.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn count(&self) -> usize {
        self.lock().files.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open<S::File>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
