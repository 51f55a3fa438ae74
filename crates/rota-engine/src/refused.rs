//! Puts that were refused, counted by why: what the engine refused, and what a front end did before it.
//!
//! They are counted since the start, beside the state: nothing of them is in the log, and a put that is taken costs nothing here.

use crate::command::Refusal;

/// Why a put was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutRefused {
    /// Its queue has as many jobs, or bytes of them, as it may have.
    QueueFull,
    /// The log's disk has no room.
    DiskFull,
    /// There are as many queues as there may be.
    TooManyQueues,
    /// It is longer than a job, or a request, may be.
    TooLarge,
    /// An open job of its queue has its key.
    KeyTaken,
    /// It would wait for a job that was never put.
    Parent,
    /// Something that is agreed for it breaks a bound; or a front end could make nothing of a value.
    Invalid,
    /// A front end had no room for it at that moment.
    Busy,
    /// The server takes no more: it is about to take its last snapshot.
    Draining,
}

impl PutRefused {
    /// All of them; the index of each is `as usize`.
    pub const ALL: [PutRefused; 9] = [
        PutRefused::QueueFull,
        PutRefused::DiskFull,
        PutRefused::TooManyQueues,
        PutRefused::TooLarge,
        PutRefused::KeyTaken,
        PutRefused::Parent,
        PutRefused::Invalid,
        PutRefused::Busy,
        PutRefused::Draining,
    ];

    /// Its name, as people are told it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PutRefused::QueueFull => "queue-full",
            PutRefused::DiskFull => "disk-full",
            PutRefused::TooManyQueues => "too-many-queues",
            PutRefused::TooLarge => "too-large",
            PutRefused::KeyTaken => "key-taken",
            PutRefused::Parent => "parent",
            PutRefused::Invalid => "invalid",
            PutRefused::Busy => "busy",
            PutRefused::Draining => "draining",
        }
    }
}

impl From<Refusal> for PutRefused {
    fn from(refusal: Refusal) -> PutRefused {
        match refusal {
            Refusal::QueueFull => PutRefused::QueueFull,
            Refusal::NoRoom => PutRefused::DiskFull,
            Refusal::TooManyQueues => PutRefused::TooManyQueues,
            Refusal::KeyTaken(_) | Refusal::KeyHeld(_) => PutRefused::KeyTaken,
            Refusal::UnknownParent(_) | Refusal::LaterParent(_) => PutRefused::Parent,
            _ => PutRefused::Invalid,
        }
    }
}

/// How many puts were refused, by why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RefusedPuts([u64; PutRefused::ALL.len()]);

impl RefusedPuts {
    /// How many for that reason.
    #[must_use]
    pub fn of(&self, why: PutRefused) -> u64 {
        self.0[why as usize]
    }

    /// How many for each reason, by its name.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        PutRefused::ALL.map(PutRefused::name).into_iter().zip(self.0)
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == RefusedPuts::default()
    }

    pub(crate) fn count(&mut self, why: PutRefused, puts: u64) {
        self.0[why as usize] += puts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_for_itself() {
        for (index, why) in PutRefused::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
            let mut refused = RefusedPuts::default();
            refused.count(why, 2);
            let counted: Vec<_> = refused.each().filter(|(_, count)| *count > 0).collect();
            assert_eq!((counted, refused.of(why)), (vec![(why.name(), 2)], 2));
        }
    }
}
