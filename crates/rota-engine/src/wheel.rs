//! The wheel: an order over jobs, kept in spokes, of which only the first is sorted.
//!
//! A spoke is a bag of jobs whose keys fall between its start and the start of the next one; spokes of a time order
//! cover equal spans. Putting a job into a spoke far ahead is an append. When a spoke's turn comes it is sorted and
//! becomes the *near* one, from which jobs leave in order. A spoke that would hold more than [`SPOKE_JOBS`] is split,
//! so that no operation touches more jobs than that, however many fall into one instant.
//!
//! The same structure holds a queue's ready jobs by (priority, run_at, id), its delayed jobs by (run_at, id), and a
//! session's leases by (deadline, id): one structure, one total order each. A key that is already past simply belongs
//! to the near spoke, in the place that the key gives it.
//!
//! It holds slots alone, four bytes a job. Keys are read from the jobs through [`Keys`]; a job's key must not change
//! while it is in a wheel.

use crate::limits::SPOKE_JOBS;
use crate::pages::Slot;
use std::collections::{BTreeMap, VecDeque};

/// Bytes that a processor reads at once.
const LINE: usize = 64;

/// Where a wheel reads the keys of its jobs.
pub(crate) trait Keys {
    /// What the jobs are ordered by; no two jobs in one wheel have the same.
    type Key: Copy + Ord;

    /// The key of a job.
    fn key(&self, slot: Slot) -> Self::Key;

    /// The start of the span that a key falls into: at most the key, and never lower for a greater key.
    fn span_start(&self, key: Self::Key) -> Self::Key;
}

/// Jobs in the order of their keys.
#[derive(Debug)]
pub(crate) struct Wheel<K> {
    /// Sorted; its keys are below the start of every far spoke. Empty only if the wheel is.
    near: VecDeque<Slot>,
    /// Unsorted, by start.
    far: BTreeMap<K, Vec<Slot>>,
    len: usize,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Wheel { near: VecDeque::new(), far: BTreeMap::new(), len: 0 }
    }
}

impl<K: Copy + Ord> Wheel<K> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The job with the least key.
    pub(crate) fn first(&self) -> Option<Slot> {
        self.near.front().copied()
    }

    /// The jobs with the least keys, in order: all of them, or at least one if there is one.
    pub(crate) fn near(&self) -> impl Iterator<Item = Slot> + '_ {
        self.near.iter().copied()
    }

    /// Whether those of [`Wheel::near`] are all.
    pub(crate) fn is_all_near(&self) -> bool {
        self.far.is_empty()
    }

    /// How many jobs stand before one that is in it, and whether it is just so many: the jobs of at most `most_spokes` spokes
    /// are counted, and where there are more before it, it is at least so many.
    pub(crate) fn count_before<S: Keys<Key = K>>(&self, slot: Slot, keys: &S, most_spokes: usize) -> (usize, bool) {
        let key = keys.key(slot);
        let in_near = self.near.partition_point(|&other| keys.key(other) < key);
        let mut before = in_near;
        let mut spokes = self.far.range(..=key).map(|(_, spoke)| spoke).peekable();
        for _ in 0..most_spokes {
            let Some(spoke) = spokes.next() else { return (before, true) };
            before += match spokes.peek() {
                Some(_) => spoke.len(),
                // Its own one is not sorted.
                None => spoke.iter().filter(|&&other| keys.key(other) < key).count(),
            };
        }
        (before, spokes.next().is_none())
    }

    /// Every job, in no order. It visits all of them: who is waited for meanwhile bounds their number.
    pub(crate) fn all(&self) -> impl Iterator<Item = Slot> + '_ {
        self.near.iter().copied().chain(self.far.values().flatten().copied())
    }

    /// Takes in a job that is not in it.
    pub(crate) fn insert<S: Keys<Key = K>>(&mut self, slot: Slot, keys: &S) {
        let key = keys.key(slot);
        self.len += 1;
        // Jobs mostly come in order: one that goes to the last spoke is spared the search for its own.
        let after_last = self.far.last_entry().filter(|last| key >= *last.key());
        if let Some(last) = after_last {
            let start = *last.key();
            if let Some((from, new)) = place_far(last.into_mut(), start, slot, key, keys) {
                self.far.insert(from, new);
            }
        } else if self.far.first_key_value().is_some_and(|(&start, _)| key >= start) {
            self.insert_far(slot, key, keys);
        } else {
            self.insert_near(slot, key, keys);
        }
    }

    /// Takes a job out. Returns whether it was in.
    pub(crate) fn remove<S: Keys<Key = K>>(&mut self, slot: Slot, keys: &S) -> bool {
        let key = keys.key(slot);
        let removed = if self.far.first_key_value().is_some_and(|(&start, _)| key >= start) {
            self.remove_far(slot, key)
        } else {
            self.remove_near(slot, key, keys)
        };
        if removed {
            self.len -= 1;
            self.refill(keys);
        }
        removed
    }

    /// Reads what it takes to take a job out that stands far ahead, as far as it can be read without waiting for it in between;
    /// what comes of it says nothing.
    pub(crate) fn touch<S: Keys<Key = K>>(&self, slot: Slot, keys: &S) -> usize {
        let spoke = self.far.range(..=keys.key(slot)).next_back().map_or(&[][..], |(_, spoke)| spoke);
        spoke.iter().step_by(LINE / size_of::<Slot>()).map(|slot| slot.0 as usize).fold(0, usize::wrapping_add)
    }

    fn insert_near<S: Keys<Key = K>>(&mut self, slot: Slot, key: K, keys: &S) {
        let last = self.near.back().map(|&last| keys.key(last));
        if last.is_none_or(|last| last < key) {
            self.near.push_back(slot);
        } else {
            let place = self.near.partition_point(|&other| keys.key(other) < key);
            self.near.insert(place, slot);
        }
        if self.near.len() > SPOKE_JOBS {
            self.spill_near(keys);
        }
    }

    /// Leaves in the near spoke one span, or half of what is there if all fall into one.
    fn spill_near<S: Keys<Key = K>>(&mut self, keys: &S) {
        let first_span = keys.span_start(keys.key(self.near[0]));
        let in_span = self.near.partition_point(|&slot| keys.span_start(keys.key(slot)) <= first_span);
        let keep = in_span.min(SPOKE_JOBS / 2);
        let mut spilled = self.near.split_off(keep).into_iter().peekable();
        let mut below = keys.key(self.near[keep - 1]);
        while let Some(&head) = spilled.peek() {
            let head_key = keys.key(head);
            let span = keys.span_start(head_key);
            let mut spoke = Vec::new();
            let mut last = head_key;
            while let Some(slot) = spilled.next_if(|&slot| keys.span_start(keys.key(slot)) == span) {
                last = keys.key(slot);
                spoke.push(slot);
            }
            // A spoke begins with its span, unless jobs of that span stand before it.
            self.far.insert(if span > below { span } else { head_key }, spoke);
            below = last;
        }
    }

    fn insert_far<S: Keys<Key = K>>(&mut self, slot: Slot, key: K, keys: &S) {
        let (&start, spoke) = self.far.range_mut(..=key).next_back().expect("the first far spoke starts at or below");
        if let Some((from, new)) = place_far(spoke, start, slot, key, keys) {
            self.far.insert(from, new);
        }
    }

    fn remove_near<S: Keys<Key = K>>(&mut self, slot: Slot, key: K, keys: &S) -> bool {
        let place = self.near.partition_point(|&other| keys.key(other) < key);
        let found = self.near.get(place) == Some(&slot);
        if found {
            self.near.remove(place);
        }
        found
    }

    fn remove_far(&mut self, slot: Slot, key: K) -> bool {
        let Some((&start, spoke)) = self.far.range_mut(..=key).next_back() else { return false };
        let Some(place) = place_in(spoke, slot) else { return false };
        spoke.swap_remove(place);
        if spoke.is_empty() {
            self.far.remove(&start);
        } else if spoke.len() < spoke.capacity() / 4 {
            spoke.shrink_to(spoke.len() * 2);
        }
        true
    }

    /// Brings up the next spoke when the near one is used up.
    fn refill<S: Keys<Key = K>>(&mut self, keys: &S) {
        if !self.near.is_empty() {
            return;
        }
        if let Some((_, mut spoke)) = self.far.pop_first() {
            if !spoke.is_sorted_by_key(|&slot| keys.key(slot)) {
                spoke.sort_by_cached_key(|&slot| keys.key(slot));
            }
            self.near = VecDeque::from(spoke);
        } else if self.near.capacity() > SPOKE_JOBS {
            self.near = VecDeque::new();
        }
    }
}

/// Where a job is in a spoke that is not sorted.
fn place_in(spoke: &[Slot], slot: Slot) -> Option<usize> {
    // Without a way out in between, those of a line of memory are compared all at once.
    let line = LINE / size_of::<Slot>();
    let has_it = |slots: &[Slot]| slots.iter().fold(false, |found, &other| found | (other == slot));
    let before = spoke.chunks(line).position(has_it)? * line;
    spoke[before..].iter().position(|&other| other == slot).map(|place| before + place)
}

/// Puts a job into the far spoke that starts at or below it. Returns the start and the jobs of a new spoke behind that
/// one, if the job needs one.
fn place_far<S: Keys>(
    spoke: &mut Vec<Slot>,
    start: S::Key,
    slot: Slot,
    key: S::Key,
    keys: &S,
) -> Option<(S::Key, Vec<Slot>)> {
    let span = keys.span_start(key);
    if span > start {
        Some((span, vec![slot]))
    } else if spoke.len() < SPOKE_JOBS {
        spoke.push(slot);
        None
    } else {
        Some(split(spoke, slot, key, keys))
    }
}

/// Makes room in a full spoke for one more job. Returns the start and the jobs of the new spoke that follows it.
fn split<S: Keys>(spoke: &mut Vec<Slot>, slot: Slot, key: S::Key, keys: &S) -> (S::Key, Vec<Slot>) {
    if !spoke.is_sorted_by_key(|&slot| keys.key(slot)) {
        spoke.sort_by_cached_key(|&slot| keys.key(slot));
    }
    let last = keys.key(*spoke.last().expect("a full spoke is not empty"));
    if key > last {
        // Jobs that come in order leave full spokes behind.
        return (key, vec![slot]);
    }
    let mut upper = spoke.split_off(spoke.len() / 2);
    spoke.shrink_to_fit();
    let from = keys.key(upper[0]);
    if key < from {
        spoke.push(slot)
    } else {
        upper.push(slot)
    }
    (from, upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Slot n has key `keys[n]`; spans are 100 long.
    struct Table(Vec<u64>);

    impl Keys for Table {
        type Key = (u64, u32);

        fn key(&self, slot: Slot) -> (u64, u32) {
            (self.0[slot.0 as usize], slot.0)
        }

        fn span_start(&self, key: (u64, u32)) -> (u64, u32) {
            (key.0 - key.0 % 100, 0)
        }
    }

    fn check(keys: Vec<u64>, removals: &[prop::sample::Index]) {
        let table = Table(keys);
        let mut wheel = Wheel::default();
        let mut model = BTreeSet::new();
        for n in 0..table.0.len() {
            let slot = Slot(u32::try_from(n).unwrap());
            wheel.insert(slot, &table);
            model.insert(table.key(slot));
            assert_eq!(wheel.first().map(|slot| table.key(slot)), model.first().copied());
        }
        for removal in removals {
            let slot = Slot(u32::try_from(removal.index(table.0.len())).unwrap());
            assert_eq!(wheel.remove(slot, &table), model.remove(&table.key(slot)));
            assert_eq!(wheel.len(), model.len());
        }
        assert!(wheel.far.values().all(|spoke| !spoke.is_empty() && spoke.len() <= SPOKE_JOBS));
        while let Some(slot) = wheel.first() {
            assert_eq!(Some(table.key(slot)), model.pop_first());
            assert!(wheel.remove(slot, &table));
            assert!(wheel.near.len() <= SPOKE_JOBS);
        }
        assert!(model.is_empty());
        assert_eq!(wheel.len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn jobs_leave_in_total_order(
            keys in prop_oneof![
                prop::collection::vec(0u64..1_000_000, 1..4000),
                prop::collection::vec(0u64..300, 1..4000),
                prop::collection::vec(7u64..8, 1..4000),
            ],
            removals in prop::collection::vec(any::<prop::sample::Index>(), 0..2000),
        ) {
            check(keys, &removals);
        }

        #[test]
        fn jobs_put_in_order_leave_in_order(count in 1u64..5000, step in 0u64..50) {
            check((0..count).map(|n| n * step).collect(), &[]);
            check((0..count).rev().map(|n| n * step).collect(), &[]);
        }
    }

    #[test]
    fn a_million_jobs_of_one_instant_never_make_a_long_spoke() {
        let table = Table(vec![5; 100_000]);
        let mut wheel = Wheel::default();
        for n in (0..100_000).rev() {
            wheel.insert(Slot(n), &table);
        }
        assert!(wheel.far.values().all(|spoke| spoke.len() <= SPOKE_JOBS));
        assert_eq!(wheel.first(), Some(Slot(0)));
    }

    #[test]
    fn a_place_in_line_is_counted_over_so_many_spokes() {
        // Shuffled, each key twice: 7919 has no divisor in common with their number.
        let keys: Vec<u64> = (0..5_000).map(|n| n * 7_919 % 5_000 / 2).collect();
        let table = Table(keys.clone());
        let mut wheel = Wheel::default();
        (0..5_000).for_each(|n| wheel.insert(Slot(n), &table));
        assert!(wheel.far.len() > 5);
        for n in (0..5_000).step_by(100) {
            let slot = Slot(n);
            let before = (0..5_000).filter(|&other| table.key(Slot(other)) < table.key(slot)).count();
            assert_eq!(wheel.count_before(slot, &table, usize::MAX), (before, true));
            let (least, is_exact) = wheel.count_before(slot, &table, 2);
            assert!(if is_exact { least == before } else { least < before }, "{least} of {before}");
        }
    }
}
