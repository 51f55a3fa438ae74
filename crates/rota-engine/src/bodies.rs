//! The bodies of jobs in memory: cut to size, side by side in pages, so that a body costs little more than its length.
//!
//! The state keeps them here; nobody else does. Bodies of about one length share the slots of one class, and a page of
//! slots is given back when it is empty. Large bodies are boxes of their own. Growing never copies more than the list
//! of one class's pages. It does not know whose a body is. Of bodies that are in the log alone it keeps nothing.

use crate::log::Place;
use crate::pages::{Pages, Room, Slot};

/// What a job keeps of its body: its length, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BodyHandle {
    /// Its length in bytes.
    pub(crate) length: u32,
    /// 0: in memory. Else the segment of the log where the body is.
    segment: u32,
    /// In memory its slot; in the log the offset of its record in the segment.
    at: u32,
}

impl BodyHandle {
    fn in_memory(length: u32, slot: Slot) -> BodyHandle {
        BodyHandle { length, segment: 0, at: slot.0 }
    }

    /// The handle of a body so long, whose record is there; `None` if a job has no room for such a place: the body has
    /// to stay in memory then. That is the case past 4 GiB in a segment, and past 2³² segments.
    pub(crate) fn in_log(length: u32, place: Place) -> Option<BodyHandle> {
        let segment = u32::try_from(place.segment).ok().filter(|&segment| segment > 0)?;
        Some(BodyHandle { length, segment, at: u32::try_from(place.offset).ok()? })
    }

    /// Where its record is, if the body is in the log alone.
    pub(crate) fn place(self) -> Option<Place> {
        (self.segment > 0).then_some(Place { segment: self.segment.into(), offset: self.at.into() })
    }

    fn slot(self) -> Slot {
        Slot(self.at)
    }
}

/// Up to this length, in bytes, slots differ by [`SMALL_STEP`].
const SMALL: usize = 1024;
const SMALL_STEP: usize = 8;

/// Up to this length, in bytes, slots differ by [`MEDIUM_STEP`]. What is longer is a box of its own.
const MEDIUM: usize = 4096;
const MEDIUM_STEP: usize = 64;

const CLASSES: usize = SMALL / SMALL_STEP + (MEDIUM - SMALL) / MEDIUM_STEP;

/// Length of a page of small and of medium slots, in bytes. A page is taken all at once and used bit by bit: what
/// was not used yet, the system has not given.
const SMALL_PAGE: usize = 32 << 10;
const MEDIUM_PAGE: usize = 64 << 10;

/// Bodies by handle.
#[derive(Debug)]
pub(crate) struct Bodies {
    classes: Box<[Class]>,
    large: Pages<Box<[u8]>>,
}

/// Slots of one length.
#[derive(Debug)]
struct Class {
    slot_bytes: u32,
    slots: u32,
    pages: Vec<Page>,
    room: Room,
}

#[derive(Debug, Default)]
struct Page {
    /// The slots used so far, be they free again. No capacity: the page's memory was given back.
    bytes: Vec<u8>,
    live: u32,
    /// Which of them are free again, a bit for each; empty as long as none was. It is apart from them: a body that goes is in no
    /// cache, as a rule, and is not waited for.
    free: Box<[u64]>,
    /// No word of it before this one has a bit that is set.
    first_free: u32,
}

impl Page {
    /// Takes one of the slots that are free again.
    fn take_free(&mut self) -> Option<u32> {
        let words = (self.first_free as usize..).zip(self.free.get_mut(self.first_free as usize..)?);
        for (at, word) in words {
            self.first_free = at as u32;
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                return Some(at as u32 * u64::BITS + bit);
            }
        }
        self.first_free = self.free.len() as u32;
        None
    }

    /// Takes note that one of `slots` slots is free again.
    fn set_free(&mut self, entry: u32, slots: u32) {
        if self.free.is_empty() {
            self.free = vec![0; slots.div_ceil(u64::BITS) as usize].into();
        }
        let word = entry / u64::BITS;
        self.free[word as usize] |= 1 << (entry % u64::BITS);
        self.first_free = self.first_free.min(word);
    }
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies { classes: (0..CLASSES).map(Class::new).collect(), large: Pages::default() }
    }
}

/// The class of bodies so long; `None` for none, which need no slot, and for those that are boxes.
fn class(length: usize) -> Option<usize> {
    match length {
        1..=SMALL => Some((length - 1) / SMALL_STEP),
        ..=MEDIUM if length > 0 => Some(SMALL / SMALL_STEP + (length - SMALL - 1) / MEDIUM_STEP),
        _ => None,
    }
}

impl Bodies {
    /// Keeps a body.
    ///
    /// # Panics
    /// If it is longer than any that a put may have, or with 2³² bodies of its length.
    pub(crate) fn insert(&mut self, body: Box<[u8]>) -> BodyHandle {
        let length = u32::try_from(body.len()).expect("a body is at most MAX_JOB_BYTES_CEILING long");
        let slot = match class(body.len()) {
            Some(class) => self.classes[class].insert(&body),
            None if body.is_empty() => Slot(0),
            None => self.large.insert(body),
        };
        BodyHandle::in_memory(length, slot)
    }

    /// A body that is in memory; one in the log has to be read there.
    pub(crate) fn get(&self, handle: BodyHandle) -> Option<&[u8]> {
        let in_memory = handle.segment == 0;
        in_memory.then(|| match class(handle.length as usize) {
            Some(class) => self.classes[class].get(handle),
            None if handle.length == 0 => &[],
            None => &self.large[handle.slot()],
        })
    }

    /// Lets a body go that is in memory; its handle is not to be used any more.
    pub(crate) fn remove(&mut self, handle: BodyHandle) {
        match class(handle.length as usize) {
            _ if handle.segment > 0 => {}
            Some(class) => self.classes[class].remove(handle.slot()),
            None if handle.length == 0 => {}
            None => drop(self.large.remove(handle.slot())),
        }
    }

    /// How many bodies are in memory, those of no length left out.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        let pages = self.classes.iter().flat_map(|class| &class.pages);
        pages.map(|page| page.live as usize).sum::<usize>() + self.large.len()
    }
}

impl Class {
    fn new(class: usize) -> Class {
        let small = SMALL / SMALL_STEP;
        let (slot, page) = if class < small {
            ((class + 1) * SMALL_STEP, SMALL_PAGE)
        } else {
            (SMALL + (class - small + 1) * MEDIUM_STEP, MEDIUM_PAGE)
        };
        let slots = u32::try_from(page / slot).expect("a page is small");
        let slot_bytes = u32::try_from(slot).expect("a slot is small");
        Class { slot_bytes, slots, pages: Vec::new(), room: Room::default() }
    }

    fn insert(&mut self, body: &[u8]) -> Slot {
        let (slots, slot_bytes) = (self.slots, self.slot_bytes as usize);
        let number = self.room.page(&mut self.pages, |page| page.live == slots);
        let page = &mut self.pages[number];
        let entry = if let Some(entry) = page.take_free() {
            page.bytes[entry as usize * slot_bytes..][..body.len()].copy_from_slice(body);
            entry
        } else {
            if page.bytes.capacity() == 0 {
                page.bytes.reserve_exact(slots as usize * slot_bytes);
            }
            let at = page.bytes.len();
            page.bytes.extend_from_slice(body);
            page.bytes.resize(at + slot_bytes, 0);
            // All slots used so far are taken.
            page.live
        };
        page.live += 1;
        let number = u32::try_from(number).ok().and_then(|number| number.checked_mul(slots)?.checked_add(entry));
        Slot(number.expect("fewer than 2^32 bodies of one length"))
    }

    fn get(&self, handle: BodyHandle) -> &[u8] {
        let (page, at) = self.place(handle.slot());
        &self.pages[page].bytes[at..][..handle.length as usize]
    }

    fn remove(&mut self, slot: Slot) {
        let number = (slot.0 / self.slots) as usize;
        let page = &mut self.pages[number];
        let was_full = page.live == self.slots;
        page.live -= 1;
        if page.live == 0 {
            // Nothing of the page is in use, so that its slots are handed out from the first on again.
            page.bytes.clear();
            page.free.fill(0);
            page.first_free = page.free.len() as u32;
        } else {
            page.set_free(slot.0 % self.slots, self.slots);
        }
        if self.room.left(number, was_full) && page.live == 0 {
            *page = Page::default();
        }
    }

    /// The page of a slot, and where the slot begins in it.
    fn place(&self, slot: Slot) -> (usize, usize) {
        let (page, entry) = (slot.0 / self.slots, slot.0 % self.slots);
        (page as usize, (entry * self.slot_bytes) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(n: usize, length: usize) -> Box<[u8]> {
        (0..length).map(|at| (n * 31 + at) as u8).collect()
    }

    #[test]
    fn every_length_has_a_slot_that_holds_it_and_little_more() {
        for length in 1..=MEDIUM {
            let slot = Class::new(class(length).unwrap()).slot_bytes as usize;
            assert!(slot >= length && slot - length < length.div_ceil(16).max(SMALL_STEP), "{slot} for {length}");
        }
        assert_eq!(class(MEDIUM), Some(CLASSES - 1));
        assert_eq!((class(0), class(MEDIUM + 1)), (None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bodies_are_given_back_as_they_came(
            lengths in prop::collection::vec(prop_oneof![0usize..64, 90usize..110, 900usize..6000], 1..2000),
            removals in prop::collection::vec(any::<prop::sample::Index>(), 0..2000),
        ) {
            let mut bodies = Bodies::default();
            let mut kept: Vec<Option<BodyHandle>> =
                lengths.iter().enumerate().map(|(n, &length)| Some(bodies.insert(body(n, length)))).collect();
            for (turn, removal) in removals.iter().enumerate() {
                let n = removal.index(lengths.len());
                kept[n] = match kept[n].take() {
                    Some(handle) => {
                        bodies.remove(handle);
                        None
                    }
                    None if turn % 2 == 0 => Some(bodies.insert(body(n, lengths[n]))),
                    None => None,
                };
            }
            for (n, handle) in kept.iter().enumerate() {
                prop_assert!(handle.is_none_or(|handle| bodies.get(handle) == Some(&*body(n, lengths[n]))));
            }
            let live = kept.iter().flatten().filter(|handle| handle.length > 0).count();
            prop_assert_eq!(bodies.len(), live);
        }
    }

    #[test]
    fn pages_are_given_back_when_bodies_go() {
        let mut bodies = Bodies::default();
        let handles: Vec<_> = (0..10_000).map(|n| bodies.insert(body(n, 100))).collect();
        handles.into_iter().for_each(|handle| bodies.remove(handle));
        let pages = &bodies.classes[class(100).unwrap()].pages;
        assert!(pages.len() > 30 && pages.iter().filter(|page| page.bytes.capacity() > 0).count() <= 1);
        let again: Vec<_> = (0..10_000).map(|n| bodies.insert(body(n, 97))).collect();
        assert!(bodies.classes[class(100).unwrap()].pages.len() <= 33, "freed pages are used again");
        assert!(again.iter().enumerate().all(|(n, &handle)| bodies.get(handle) == Some(&*body(n, 97))));
    }
}
