//! Which segments of the log may be removed: those that nobody needs, and that nobody is about to read a body in.
//!
//! A body's place is handed out under the engine's lock, and read later without it. Whoever takes a place takes a
//! [`Pin`] with it, under that lock, and drops it when the body was read. A segment becomes needless when no job has its
//! body there any more, which the engine was told under its lock. So a pin that is taken later than that is for another
//! segment: [`Pins::removable_below`] begins a new generation of pins then, and lets the segment go once all pins of the
//! generations before are gone. Nothing here waits.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Held from when a place was handed out until the body was read. It keeps the segments of its time and all later ones.
#[derive(Clone, Debug)]
pub struct Pin {
    _generation: Arc<()>,
}

/// Hands out pins, and says what they keep.
#[derive(Debug, Default)]
pub struct Pins {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    generation: Arc<()>,
    /// Segments below this one may be removed.
    removable_below: u64,
    /// Segments below that one may be as soon as the generation before is gone; those before it are.
    next: Option<(u64, Weak<()>)>,
}

impl Pins {
    /// A pin for what is handed out now. To be called under the engine's lock.
    #[must_use]
    pub fn pin(&self) -> Pin {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Pin { _generation: Arc::clone(&inner.generation) }
    }

    /// The first segment that must stay, where none below `needed_from` is needed: no job has its body there, and the
    /// engine was told so before this call. At most `needed_from`, and never less than before.
    pub fn removable_below(&self, needed_from: u64) -> u64 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            if let Some((below, _)) = inner.next.take_if(|(_, generation)| generation.strong_count() == 0) {
                inner.removable_below = below;
            }
            if inner.next.is_none() && inner.removable_below < needed_from {
                let before = std::mem::take(&mut inner.generation);
                inner.next = Some((needed_from, Arc::downgrade(&before)));
            }
        }
        inner.removable_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_out_before_is_waited_for_and_what_comes_after_is_not() {
        let pins = Pins::default();
        assert_eq!(pins.removable_below(3), 3, "nobody reads");
        let (first, second) = (pins.pin(), pins.pin());
        assert_eq!(pins.removable_below(5), 3);
        let third = pins.pin();
        assert_eq!(pins.removable_below(8), 3, "one step after the other");
        drop(first);
        assert_eq!(pins.removable_below(8), 3);
        drop(second);
        assert_eq!(pins.removable_below(8), 5, "the third pin is younger");
        drop(third);
        assert_eq!(pins.removable_below(8), 8);
        assert_eq!(pins.removable_below(8), 8);
    }
}
