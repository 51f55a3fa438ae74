//! From what a client names a thing by (a key, a queue's name) to its slot. Ids of jobs have an index of their own: [`crate::ids`].
//!
//! A hash table in many small parts, each of which grows and shrinks by itself: the largest copy that one insertion
//! can cause is that of a part. The names themselves stay where the things are; an entry is a slot alone.

use crate::pages::Slot;
use hashbrown::HashTable;
use std::hash::BuildHasher;

const PARTS: u64 = 4096;

/// The hash of a name, and the part of the table where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Hashed {
    part: usize,
    hash: u64,
}

impl Hashed {
    /// `seed` tells apart equal names under different owners (keys of different queues).
    pub(crate) fn name(seed: u32, name: &[u8]) -> Hashed {
        let hash = foldhash::quality::FixedState::with_seed(u64::from(seed)).hash_one(name);
        Hashed { part: (hash >> 32) as usize % PARTS as usize, hash }
    }
}

/// Slots by hash.
#[derive(Debug, Default)]
pub(crate) struct Index {
    parts: Vec<HashTable<Slot>>,
    len: usize,
}

impl Index {
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn find(&self, at: Hashed, is_it: impl Fn(Slot) -> bool) -> Option<Slot> {
        self.parts.get(at.part)?.find(at.hash, |&slot| is_it(slot)).copied()
    }

    /// Adds a slot that is not in it yet. `hash_of` is asked when the part has to grow.
    pub(crate) fn insert(&mut self, at: Hashed, slot: Slot, hash_of: impl Fn(Slot) -> Hashed) {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS as usize, HashTable::new);
        }
        self.parts[at.part].insert_unique(at.hash, slot, |&other| hash_of(other).hash);
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, at: Hashed, slot: Slot, hash_of: impl Fn(Slot) -> Hashed) {
        let part = &mut self.parts[at.part];
        let Ok(found) = part.find_entry(at.hash, |&other| other == slot) else {
            unreachable!("what is removed was inserted")
        };
        found.remove();
        self.len -= 1;
        if part.capacity() > 64 && part.len() < part.capacity() / 4 {
            part.shrink_to(part.len() * 2, |&other| hash_of(other).hash);
        }
    }
}
