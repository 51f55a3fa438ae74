//! A store of values under small numbers that grows and shrinks by pages, so that no insertion ever copies it whole.
//!
//! Jobs, leases, queues and sessions live in these; [`Room`] says which page is next, here and for bodies. A [`Slot`] is a place, not an identity: it is reused after a
//! removal, so what must not be confused carries a number of its own.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

/// A place in a [`Pages`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// The page and the entry in it, where so many entries make a page.
    pub(crate) fn split(self, page: usize) -> (usize, usize) {
        (self.0 as usize / page, self.0 as usize % page)
    }
}

#[derive(Debug)]
struct Page<T> {
    entries: Box<[Option<T>]>,
    live: usize,
    /// Entries below this one are taken: where the search for a free one begins.
    first_free: usize,
}

impl<T> Page<T> {
    fn new(entries: usize) -> Page<T> {
        Page { entries: (0..entries).map(|_| None).collect(), live: 0, first_free: 0 }
    }
}

/// Values by slot, `PAGE` of them in a page.
#[derive(Debug)]
pub(crate) struct Pages<T, const PAGE: usize = 256> {
    /// `None`: the page's memory was given back.
    pages: Vec<Option<Page<T>>>,
    room: Room,
    len: usize,
}

impl<T, const PAGE: usize> Default for Pages<T, PAGE> {
    fn default() -> Self {
        Pages { pages: Vec::new(), room: Room::default(), len: 0 }
    }
}

impl<T, const PAGE: usize> Pages<T, PAGE> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps a value and says where.
    ///
    /// # Panics
    /// With 2³² values in it, which no machine's memory holds.
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        let is_full = |page: &Option<Page<T>>| page.as_ref().is_some_and(|page| page.live == PAGE);
        let number = self.room.page(&mut self.pages, is_full);
        let page = self.pages[number].get_or_insert_with(|| Page::new(PAGE));
        let entry = (page.first_free..PAGE).find(|&e| page.entries[e].is_none()).expect("a page with room has a gap");
        page.entries[entry] = Some(value);
        page.first_free = entry + 1;
        page.live += 1;
        self.len += 1;
        Slot(u32::try_from(number * PAGE + entry).expect("fewer than 2^32 values"))
    }

    /// Takes a value out; its slot may be reused from now on.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let (number, entry) = slot.split(PAGE);
        let page = self.pages.get_mut(number)?.as_mut()?;
        let value = page.entries[entry].take()?;
        page.first_free = page.first_free.min(entry);
        page.live -= 1;
        self.len -= 1;
        if self.room.left(number, page.live == PAGE - 1) && page.live == 0 {
            self.pages[number] = None;
        }
        Some(value)
    }

    /// The value there, if there is one.
    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let (number, entry) = slot.split(PAGE);
        self.pages.get(number)?.as_ref()?.entries[entry].as_ref()
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let (number, entry) = slot.split(PAGE);
        self.pages.get_mut(number)?.as_mut()?.entries[entry].as_mut()
    }

    /// The first slot from this one on that has a value.
    pub(crate) fn first_from(&self, slot: Slot) -> Option<Slot> {
        let (first, mut entry) = slot.split(PAGE);
        for number in first..self.pages.len() {
            let page = self.pages[number].as_ref();
            let found = page.and_then(|page| (entry..PAGE).find(|&entry| page.entries[entry].is_some()));
            if let Some(found) = found {
                return Some(Slot(u32::try_from(number * PAGE + found).expect("slots are made from u32")));
            }
            entry = 0;
        }
        None
    }

    /// Every value, by slot. It visits all of them: for checks and for the end of a recovery, else where their number is bounded.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.pages.iter().enumerate().flat_map(|(number, page)| {
            page.iter().flat_map(move |page| {
                page.entries.iter().enumerate().filter_map(move |(entry, value)| {
                    let slot = u32::try_from(number * PAGE + entry).expect("slots are made from u32");
                    value.as_ref().map(|value| (Slot(slot), value))
                })
            })
        })
    }
}

/// Which page of a store takes the next value, so that pages fill one by one and the high ones empty.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// The page that new values go to.
    current: usize,
    /// Pages other than `current` that have room, their memory given back or not. The lowest is taken first.
    roomy: BTreeSet<usize>,
}

impl Room {
    /// The page that the next value goes to; a new one, `P::default()`, is appended where all are full.
    pub(crate) fn page<P: Default>(&mut self, pages: &mut Vec<P>, is_full: impl Fn(&P) -> bool) -> usize {
        if pages.get(self.current).is_none_or(is_full) {
            self.current = self.roomy.pop_first().unwrap_or(pages.len());
            if self.current == pages.len() {
                pages.push(P::default());
            }
        }
        self.current
    }

    /// Takes note that a value left a page. Returns whether the page's memory may be given back if that was the last:
    /// that of the page which new values go to may not, or one value that comes and goes would take it and give it back
    /// each time.
    pub(crate) fn left(&mut self, page: usize, was_full: bool) -> bool {
        if page == self.current {
            return false;
        }
        if was_full {
            self.roomy.insert(page);
        }
        true
    }
}

impl<T, const PAGE: usize> Index<Slot> for Pages<T, PAGE> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        self.get(slot).expect("an index of the engine names a live slot")
    }
}

impl<T, const PAGE: usize> IndexMut<Slot> for Pages<T, PAGE> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        self.get_mut(slot).expect("an index of the engine names a live slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_were_put_and_empty_pages_are_given_back() {
        let mut pages = Pages::<_, 256>::default();
        let slots: Vec<Slot> = (0..1000).map(|n| pages.insert(n)).collect();
        for (n, &slot) in slots.iter().enumerate() {
            assert_eq!(pages[slot], n);
        }
        for &slot in &slots[..768] {
            assert!(pages.remove(slot).is_some());
            assert!(pages.remove(slot).is_none());
        }
        assert_eq!(pages.len(), 232);
        assert_eq!(pages.first_from(Slot(0)), Some(Slot(768)));
        assert_eq!(pages.first_from(Slot(999)), Some(Slot(999)));
        assert_eq!(pages.first_from(Slot(1000)), None);
        assert_eq!(pages.iter().map(|(_, &n)| n).collect::<Vec<_>>(), (768..1000).collect::<Vec<_>>());
        assert_eq!(pages.pages.iter().filter(|page| page.is_some()).count(), 1);
        for n in 0..1000 {
            pages.insert(n);
        }
        assert_eq!(pages.len(), 1232);
        assert!(pages.pages.len() <= 5, "freed pages are used again");
    }
}
