//! How much each has of what all share, connections or bytes: who has nothing is not kept in mind.
//!
//! Whoever hands something out holds the bounds against this, takes down what it gives, and takes it off when that comes back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// How much each has, and all together.
#[derive(Debug)]
pub(crate) struct Shares<Who> {
    all: usize,
    by: HashMap<Who, usize>,
}

impl<Who> Default for Shares<Who> {
    fn default() -> Shares<Who> {
        Shares { all: 0, by: HashMap::new() }
    }
}

impl<Who: Eq + Hash + Clone> Shares<Who> {
    /// How much all have.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    /// How much one has.
    pub(crate) fn of(&self, who: &Who) -> usize {
        self.by.get(who).copied().unwrap_or_default()
    }

    /// One has so much more.
    pub(crate) fn add(&mut self, who: &Who, more: usize) {
        if more > 0 {
            self.all += more;
            *self.by.entry(who.clone()).or_default() += more;
        }
    }

    /// One gave back so much of what it has.
    pub(crate) fn take_off(&mut self, who: &Who, less: usize) {
        self.all -= less;
        if let Entry::Occupied(mut entry) = self.by.entry(who.clone()) {
            *entry.get_mut() -= less;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// Whether nobody is kept in mind.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all == 0 && self.by.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_nothing_is_not_kept_in_mind() {
        let mut shares = Shares::default();
        shares.add(&"a", 3);
        shares.add(&"b", 2);
        shares.add(&"c", 0);
        assert_eq!((shares.all(), shares.of(&"a"), shares.of(&"c"), shares.by.len()), (5, 3, 0, 2));
        shares.take_off(&"a", 1);
        shares.take_off(&"c", 0);
        assert_eq!((shares.all(), shares.of(&"a")), (4, 2));
        shares.take_off(&"a", 2);
        shares.take_off(&"b", 2);
        assert!(shares.is_empty());
    }
}
