//! Why a job is not worked on, or not any more: facts for whoever asks, read from what is kept anyway.
//!
//! [`crate::engine::Engine::why`] gives them. They decide nothing.

use crate::event::BuryReason;
use crate::job::{JobId, JobState, Time};

/// One of the reasons why a job is where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is over: its state says how.
    Over {
        /// When it ended.
        at: Time,
        /// It is kept until then.
        until: Time,
    },
    /// Somebody holds it.
    Held {
        /// When the lease was given.
        since: Time,
        /// When the lease ends, as it is now.
        until: Time,
    },
    /// It was set aside, and waits for a kick.
    Buried {
        /// Why, as far as its counts tell: one that used up its attempts, was kicked and then set aside by its holder, still
        /// counts as having used them up.
        why: BuryReason,
    },
    /// A job that it waited for came to nothing: it waits for a kick.
    HeldUp {
        /// Which.
        by: JobId,
    },
    /// It waits for others to be done.
    Waits {
        /// Those, each with its state; at most `limits::PARENTS`.
        others: Vec<(JobId, JobState)>,
    },
    /// Its time is ahead.
    NotDue {
        /// When it comes.
        at: Time,
    },
    /// Its queue hands nothing out.
    Paused {
        /// Until when.
        until: Time,
    },
    /// As many jobs of its queue are held as may be.
    Concurrency {
        /// How many are.
        held: u64,
        /// How many may be.
        most: u32,
    },
    /// Its queue handed out as many jobs as it may for now.
    Rate {
        /// When it may hand out the next.
        next: Time,
    },
    /// As many jobs of its limit key are held as may be.
    KeyConcurrency {
        /// How many are.
        held: u64,
        /// How many may be.
        most: u32,
    },
    /// So many jobs of its limit key were handed out as may be for now.
    KeyRate {
        /// When the next may be.
        next: Time,
    },
    /// Nobody waits for a job of its queue.
    NobodyWaits {
        /// Sessions that watch the queue, and are busy with something else.
        watching: u32,
        /// Jobs of it that are held.
        held: u64,
    },
    /// Others of its queue are handed out before it.
    Behind {
        /// How many.
        jobs: u64,
        /// Whether it is just so many, and not at least: jobs of other limit keys that can't be handed out yet are not counted.
        is_exact: bool,
    },
}
