//! From a job's id to its slot.
//!
//! Ids are issued one after the other, so that those which are open mostly come in runs. Sixteen neighbours share an entry of a
//! hash table: while there are no more than two of them it holds their slots itself, and else it names a block with a place
//! for each. So a job that is named costs one cold line of memory beside its own, an index of dense ids takes some five bytes a
//! job, and the table grows without a look at the jobs. Like [`crate::index`] it consists of many parts, so that no insertion
//! copies more than one of them.

use crate::job::{JobId, MaybeSlot};
use crate::pages::{Pages, Slot};
use hashbrown::HashTable;

/// Ids that share an entry.
const NEIGHBOURS: usize = 16;

/// Entries that share a part with their neighbours, and the parts.
const ENTRIES: u64 = 4;
const PARTS: u64 = 4096;

/// The slots of neighbours, by their last digit.
type Block = [MaybeSlot; NEIGHBOURS];

/// Where the jobs of sixteen neighbouring ids are, of which at least one is there.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The ids without their last digit, which takes four bits; above them the last digits of the two that are held here.
    bits: u64,
    /// Their slots; the second is none where there is one alone. Without a first, the second is the slot of a block.
    slots: [MaybeSlot; 2],
}

/// Bits of an entry that tell which ids it is for.
const GROUP_BITS: u32 = 56;
const GROUP: u64 = (1 << GROUP_BITS) - 1;

/// What is found in an entry.
enum Found {
    /// So many ids, each with its last digit.
    Few([Option<(usize, Slot)>; 2]),
    Block(Slot),
}

impl Entry {
    fn few(group: u64, [first, second]: [Option<(usize, Slot)>; 2]) -> Entry {
        let bits =
            |held: Option<(usize, Slot)>, at: u32| held.map_or(0, |(digit, _)| (digit as u64) << (GROUP_BITS + at));
        let slot = |held: Option<(usize, Slot)>| held.map_or(MaybeSlot::NONE, |(_, slot)| slot.into());
        Entry { bits: group | bits(first, 0) | bits(second, 4), slots: [slot(first), slot(second)] }
    }

    fn block(group: u64, block: Slot) -> Entry {
        Entry { bits: group, slots: [MaybeSlot::NONE, block.into()] }
    }

    fn group(self) -> u64 {
        self.bits & GROUP
    }

    fn found(self) -> Found {
        let digit = |at: u32| (self.bits >> (GROUP_BITS + at)) as usize % NEIGHBOURS;
        match self.slots.map(MaybeSlot::get) {
            [None, Some(block)] => Found::Block(block),
            [first, second] => Found::Few([first.map(|slot| (digit(0), slot)), second.map(|slot| (digit(4), slot))]),
        }
    }
}

/// Slots by id.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    parts: Vec<HashTable<Entry>>,
    blocks: Pages<Block>,
    len: usize,
}

/// The ids that share an entry with one, and its digit among them. None for an id that is never issued.
fn split(id: JobId) -> Option<(u64, usize)> {
    let group = id.0 / NEIGHBOURS as u64;
    (group <= GROUP).then_some((group, (id.0 % NEIGHBOURS as u64) as usize))
}

fn part(group: u64) -> usize {
    (group / ENTRIES % PARTS) as usize
}

fn hash(group: u64) -> u64 {
    let wide = u128::from(group).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (wide >> 64) as u64 ^ wide as u64
}

impl Ids {
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot of that job, if it is in it.
    pub(crate) fn find(&self, id: JobId) -> Option<Slot> {
        let (group, digit) = split(id)?;
        let entry = self.parts.get(part(group))?.find(hash(group), |entry| entry.group() == group)?;
        match entry.found() {
            Found::Few(held) => held.into_iter().flatten().find(|held| held.0 == digit).map(|held| held.1),
            Found::Block(block) => self.blocks[block][digit].get(),
        }
    }

    /// Adds a job that is not in it yet.
    ///
    /// # Panics
    /// If the id is one of those past 2⁶⁰ that are never issued.
    pub(crate) fn insert(&mut self, id: JobId, slot: Slot) {
        let (group, digit) = split(id).expect("ids begin with 1, and no machine issues so many");
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS as usize, HashTable::new);
        }
        self.len += 1;
        let part = &mut self.parts[part(group)];
        let hash_of = hash(group);
        let Some(entry) = part.find_mut(hash_of, |entry| entry.group() == group) else {
            let new = Entry::few(group, [Some((digit, slot)), None]);
            part.insert_unique(hash_of, new, |other| hash(other.group()));
            return;
        };
        match entry.found() {
            Found::Few([first, None]) => *entry = Entry::few(group, [first, Some((digit, slot))]),
            Found::Few(held) => {
                let mut block = [MaybeSlot::NONE; NEIGHBOURS];
                held.into_iter().flatten().chain([(digit, slot)]).for_each(|(digit, slot)| block[digit] = slot.into());
                *entry = Entry::block(group, self.blocks.insert(block));
            }
            Found::Block(block) => self.blocks[block][digit] = slot.into(),
        }
    }

    /// Takes a job out.
    ///
    /// # Panics
    /// If it is not in it.
    pub(crate) fn remove(&mut self, id: JobId) {
        let (group, digit) = split(id).expect("what is removed was inserted");
        let part = &mut self.parts[part(group)];
        let Ok(mut occupied) = part.find_entry(hash(group), |entry| entry.group() == group) else {
            unreachable!("what is removed was inserted")
        };
        self.len -= 1;
        match occupied.get().found() {
            Found::Few([first, second]) => {
                let mut left = [first, second].into_iter().flatten().filter(|held| held.0 != digit);
                match left.next() {
                    Some(last) => *occupied.get_mut() = Entry::few(group, [Some(last), None]),
                    None => {
                        occupied.remove();
                        if part.capacity() > 64 && part.len() < part.capacity() / 4 {
                            part.shrink_to(part.len() * 2, |other| hash(other.group()));
                        }
                    }
                }
            }
            Found::Block(at) => {
                let block = &mut self.blocks[at];
                block[digit] = MaybeSlot::NONE;
                if block.iter().filter(|&&slot| slot != MaybeSlot::NONE).count() <= 2 {
                    let mut held = block.iter().enumerate().filter_map(|(digit, slot)| Some((digit, slot.get()?)));
                    *occupied.get_mut() = Entry::few(group, [held.next(), held.next()]);
                    self.blocks.remove(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn jobs_are_found_as_long_as_they_are_in_it(
            steps in prop::collection::vec((prop_oneof![1u64..100, 1u64..100_000, (1u64 << 59)..(1 << 59) + 40], any::<bool>()), 1..3000),
        ) {
            let (mut ids, mut model) = (Ids::default(), BTreeMap::new());
            for (n, (id, stays)) in (0..).zip(&steps) {
                let job = JobId(*id);
                match model.remove(id) {
                    Some(slot) => {
                        prop_assert_eq!(ids.find(job), Some(slot));
                        ids.remove(job);
                    }
                    None => {
                        prop_assert_eq!(ids.find(job), None);
                        ids.insert(job, Slot(n));
                        model.insert(*id, Slot(n));
                    }
                }
                if *stays && !model.contains_key(id) {
                    ids.insert(job, Slot(n));
                    model.insert(*id, Slot(n));
                }
                prop_assert_eq!(ids.len(), model.len());
            }
            for (id, slot) in &model {
                prop_assert_eq!(ids.find(JobId(*id)), Some(*slot));
            }
            model.keys().for_each(|&id| ids.remove(JobId(id)));
            prop_assert!(ids.len() == 0 && ids.blocks.len() == 0 && ids.parts.iter().all(HashTable::is_empty));
        }
    }

    #[test]
    fn what_is_never_issued_is_not_found() {
        let mut ids = Ids::default();
        assert_eq!(ids.find(JobId(7)), None);
        ids.insert(JobId(7), Slot(1));
        for id in [0, 8, 7 | 1 << 60, u64::MAX] {
            assert_eq!(ids.find(JobId(id)), None, "{id}");
        }
    }

    #[test]
    fn neighbours_share_a_block_and_those_that_stand_alone_have_none() {
        let mut ids = Ids::default();
        (1..=1_600).for_each(|id| ids.insert(JobId(id), Slot(0)));
        assert_eq!(ids.blocks.len(), 100);
        (1..=1_600).filter(|id| id % 16 > 1).for_each(|id| ids.remove(JobId(id)));
        assert_eq!((ids.blocks.len(), ids.len()), (0, 200));
    }
}
