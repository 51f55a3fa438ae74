//! A store of values under small numbers that grows and shrinks by pages, so that no insertion ever copies it whole.
//!
//! Jobs, leases, queues and sessions live in these. A [`Slot`] is a place, not an identity: it is reused after a
//! removal, so what must not be confused carries a number of its own.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

/// A place in a [`Pages`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Slot(pub(crate) u32);

const PAGE: usize = 256;

impl Slot {
    fn page(self) -> usize {
        self.0 as usize / PAGE
    }

    fn entry(self) -> usize {
        self.0 as usize % PAGE
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
    fn new() -> Page<T> {
        Page { entries: (0..PAGE).map(|_| None).collect(), live: 0, first_free: 0 }
    }
}

/// Values by slot.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    /// `None`: the page's memory was given back; its number is in `roomy`.
    pages: Vec<Option<Page<T>>>,
    /// The page that new values go to.
    current: usize,
    /// Pages other than `current` that have room. The lowest is taken first, so that the high ones empty.
    roomy: BTreeSet<usize>,
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { pages: Vec::new(), current: 0, roomy: BTreeSet::new(), len: 0 }
    }
}

impl<T> Pages<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps a value and says where.
    ///
    /// # Panics
    /// With 2³² values in it, which no machine's memory holds.
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        if self.pages.get(self.current).and_then(Option::as_ref).is_none_or(|page| page.live == PAGE) {
            self.current = self.roomy.pop_first().unwrap_or(self.pages.len());
            if self.current == self.pages.len() {
                self.pages.push(None);
            }
        }
        let number = self.current;
        let page = self.pages[number].get_or_insert_with(Page::new);
        let entry = (page.first_free..PAGE).find(|&e| page.entries[e].is_none()).expect("a page with room has a gap");
        page.entries[entry] = Some(value);
        page.first_free = entry + 1;
        page.live += 1;
        self.len += 1;
        Slot(u32::try_from(number * PAGE + entry).expect("fewer than 2^32 values"))
    }

    /// Takes a value out; its slot may be reused from now on.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let number = slot.page();
        let page = self.pages.get_mut(number)?.as_mut()?;
        let value = page.entries[slot.entry()].take()?;
        page.first_free = page.first_free.min(slot.entry());
        page.live -= 1;
        self.len -= 1;
        let live = page.live;
        if number != self.current {
            if live == PAGE - 1 {
                self.roomy.insert(number);
            }
            if live == 0 {
                self.pages[number] = None;
            }
        }
        Some(value)
    }

    /// The value there, if there is one.
    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.pages.get(slot.page())?.as_ref()?.entries[slot.entry()].as_ref()
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.pages.get_mut(slot.page())?.as_mut()?.entries[slot.entry()].as_mut()
    }

    /// The first slot from this one on that has a value.
    pub(crate) fn first_from(&self, slot: Slot) -> Option<Slot> {
        let mut entry = slot.entry();
        for number in slot.page()..self.pages.len() {
            let page = self.pages[number].as_ref();
            let found = page.and_then(|page| (entry..PAGE).find(|&entry| page.entries[entry].is_some()));
            if let Some(found) = found {
                return Some(Slot(u32::try_from(number * PAGE + found).expect("slots are made from u32")));
            }
            entry = 0;
        }
        None
    }

    /// Every value, by slot. It visits all of them: for checks and for the end of a recovery, never for a command.
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

impl<T> Index<Slot> for Pages<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        self.get(slot).expect("an index of the engine names a live slot")
    }
}

impl<T> IndexMut<Slot> for Pages<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        self.get_mut(slot).expect("an index of the engine names a live slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_were_put_and_empty_pages_are_given_back() {
        let mut pages = Pages::default();
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
