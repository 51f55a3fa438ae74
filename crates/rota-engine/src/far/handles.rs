//! The files of far segments that are open: so many at the most, however many segments there are.

use crate::storage::{Beside, Storage};
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

/// A file of a far segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum FarHandle {
    Segment(u64),
    Index(u64),
}

/// Files that are open, of which the one that was used longest ago is closed for another.
pub(super) struct Handles<S: Storage> {
    storage: S,
    most: usize,
    open: Mutex<Open<S::File>>,
}

struct Open<F> {
    /// Each with the turn in which it was used last.
    files: HashMap<FarHandle, (F, u64)>,
    turn: u64,
}

impl<S: Storage> Handles<S> {
    /// None yet, and at most so many at a time.
    pub(super) fn new(storage: S, most: usize) -> Handles<S> {
        Handles { storage, most: most.max(1), open: Mutex::new(Open { files: HashMap::new(), turn: 0 }) }
    }

    /// The file, opened if it is not.
    pub(super) fn get(&self, handle: FarHandle) -> io::Result<S::File> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
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
            FarHandle::Segment(segment) => self.storage.open(segment),
            FarHandle::Index(segment) => self.storage.open_beside(Beside::Index(segment)),
        }?;
        open.files.insert(handle, (file.clone(), turn));
        Ok(file)
    }

    /// Closes the files of a segment.
    pub(super) fn close(&self, segment: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.files.remove(&FarHandle::Segment(segment));
        open.files.remove(&FarHandle::Index(segment));
    }

    /// How many are open.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).files.len()
    }
}
