//! What can be agreed for a job beyond its place in line, and how it went so far: what plain jobs have nothing of.
//!
//! [`Terms`] come with the put and never change; [`Course`] is what became of it since. Both are in the log, and cost a
//! job that does not use them nothing. Nothing here decides anything but how long a back-off lasts.

use crate::job::{JobId, JobState, Time};
use crate::limits::{HEADERS_BYTES, KIND_BYTES, LIMIT_KEY_BYTES, PARENTS};
use crate::schedule::Fired;
use std::time::Duration;

/// What was agreed with the put of a job.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The class of work: 1 to `limits::KIND_BYTES` bytes.
    pub kind: Option<Box<str>>,
    /// Names and values that travel with the job, together at most `limits::HEADERS_BYTES` bytes.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Jobs that must be done before: rising, each once, all put before this one, at most `limits::PARENTS`. Of those that
    /// a put names, the ones that were open then.
    pub after: Vec<JobId>,
    /// What becomes of it when one of those is cancelled, or expires.
    pub on_parent_failure: OnParentFailure,
    /// If it was not begun by then, it expires.
    pub expires_at: Option<Expiry>,
    /// How long it waits after a failed attempt whose report names no delay.
    pub back_off: Option<BackOff>,
    /// A job that it was to wait for and that was known to have come to nothing already, where that holds it up.
    pub failed_parent: Option<JobId>,
    /// The schedule that put it, if one did, and at which tick.
    pub fired: Option<Box<Fired>>,
    /// Whose job it is where a queue bounds what is done at a time for each: 1 to `limits::LIMIT_KEY_BYTES` bytes.
    pub limit_key: Option<Box<str>>,
}

/// When a job expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// At this moment of engine time: its put named a span. It stays where it is when the wall clock is set.
    Engine(Time),
    /// When the wall clock shows this, nanoseconds since 1970: its put named that. It moves with the clock.
    Wall(Time),
}

/// What becomes of a job when one that it waits for is cancelled, or expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnParentFailure {
    /// It is cancelled too.
    #[default]
    Cancel,
    /// It goes on as if that one were done.
    Run,
    /// It stays blocked until it is kicked or cancelled.
    Hold,
}

/// How long a job waits after a failed attempt: `first` times `factor` to the power of the attempts before, at most `most`,
/// and of that, by chance, up to `jitter` percent less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackOff {
    /// After the first failed attempt.
    pub first: Duration,
    /// What each further attempt multiplies it by, in hundredths: 100 for a fixed back-off.
    pub factor_hundredths: u32,
    /// The longest.
    pub most: Duration,
    /// Percent, 0 to 100.
    pub jitter_percent: u8,
}

/// What became of a job since it was put.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Course {
    /// Those of [`Terms::after`] that are not over yet.
    pub waits_for: Vec<JobId>,
    /// The job whose failure holds it up.
    pub held_by: Option<JobId>,
    /// What its holder said of the attempt that failed last: at most `limits::ERROR_BYTES` bytes.
    pub error: Option<Box<[u8]>>,
    /// How it ended, while it is kept all the same.
    pub ended: Option<Ended>,
    /// Its body is not that of its put: another put with its key replaced it.
    pub is_replaced: bool,
}

/// How a job ended that is kept for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// [`JobState::Done`], [`JobState::Cancelled`] or [`JobState::Expired`].
    pub state: JobState,
    /// When.
    pub at: Time,
    /// It is kept until then.
    pub until: Time,
    /// What its holder had to say: at most `limits::RESULT_BYTES` bytes.
    pub result: Option<Box<[u8]>>,
}

/// Why terms cannot be agreed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadTerms {
    /// The kind is empty or too long.
    #[error("a kind has 1 to {KIND_BYTES} bytes")]
    Kind,
    /// The limit key is empty or too long.
    #[error("a limit key has 1 to {LIMIT_KEY_BYTES} bytes")]
    LimitKey,
    /// There is too much of headers.
    #[error("headers have at most {HEADERS_BYTES} bytes, names and values together")]
    Headers,
    /// It would wait for too many jobs.
    #[error("a job can wait for at most {PARENTS} others")]
    Parents,
    /// A back-off whose parts make no sense.
    #[error(
        "a back-off has a factor of at least 1 and at most 100, a jitter of at most 100 %, and `most` is not below `first`"
    )]
    BackOff,
}

impl Terms {
    /// Whether there is nothing to them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Terms::default()
    }

    /// Whether the job was put to wait for others.
    pub(crate) fn waits(&self) -> bool {
        !self.after.is_empty() || self.failed_parent.is_some()
    }

    /// Whether they keep the bounds.
    ///
    /// # Errors
    /// [`BadTerms`].
    pub fn check(&self) -> Result<(), BadTerms> {
        let headers: usize = self.headers.iter().map(|(name, value)| header_bytes(name, value)).sum();
        if self.kind.as_ref().is_some_and(|kind| !(1..=KIND_BYTES).contains(&kind.len())) {
            Err(BadTerms::Kind)
        } else if self.limit_key.as_ref().is_some_and(|key| !(1..=LIMIT_KEY_BYTES).contains(&key.len())) {
            Err(BadTerms::LimitKey)
        } else if headers > HEADERS_BYTES || self.headers.iter().any(|(name, _)| name.is_empty() || name.len() > 255) {
            Err(BadTerms::Headers)
        } else if self.after.len() > PARENTS {
            Err(BadTerms::Parents)
        } else if self.back_off.is_some_and(|back_off| !back_off.is_sound()) {
            Err(BadTerms::BackOff)
        } else {
            Ok(())
        }
    }

    /// Length in the log, about, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let kind = self.kind.as_ref().map_or(0, |kind| kind.len() + 5);
        let headers: usize = self.headers.iter().map(|(name, value)| header_bytes(name, value)).sum();
        let fired = self.fired.as_ref().map_or(0, |fired| fired.schedule.as_str().len() + 40);
        let limit_key = self.limit_key.as_ref().map_or(0, |key| key.len() + 5);
        64 + kind + headers + self.after.len() * 8 + limit_key + fired
    }

    /// Whether the job must be in memory whatever its time: it waits for others, or did.
    pub(crate) fn stays_near(&self) -> bool {
        !self.after.is_empty() || self.failed_parent.is_some()
    }
}

/// Length of a header in the log: its name with a byte for its length, its value with four.
fn header_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + 5
}

impl BackOff {
    /// Where nothing else was agreed: 1 s, 2 s, 4 s and so on up to an hour, with 10 % of jitter.
    pub const DEFAULT: BackOff = BackOff {
        first: Duration::from_secs(1),
        factor_hundredths: 200,
        most: Duration::from_secs(3600),
        jitter_percent: 10,
    };

    /// Whether its parts make sense.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        (100..=10_000).contains(&self.factor_hundredths) && self.jitter_percent <= 100 && self.most >= self.first
    }

    /// How long a job waits after its attempt of that number, 1 for the first. What chance there is in it comes from
    /// `chance`, any number.
    #[must_use]
    pub fn after(&self, attempt: u32, chance: u64) -> Duration {
        let most = nanos(self.most);
        let mut span = nanos(self.first).min(most);
        for _ in 1..attempt {
            let next = span * u128::from(self.factor_hundredths) / 100;
            if next == span || span == most {
                break;
            }
            span = next.min(most);
        }
        let less = span * u128::from(self.jitter_percent) / 100;
        let less = (less * u128::from(mix(chance) >> 32)) >> 32;
        Duration::from_nanos(u64::try_from(span - less).expect("it is no longer than `most`"))
    }
}

/// In 64 bits, as the log has it.
fn nanos(span: Duration) -> u128 {
    span.as_nanos().min(u128::from(u64::MAX))
}

/// A number that looks like chance and is the same for the same number: the finaliser of splitmix64 (Steele, Lea, Flood
/// 2014).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Course {
    /// Whether it has to wait for others, or for somebody who kicks it.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        !self.waits_for.is_empty() || self.held_by.is_some()
    }

    /// Length in the log, about, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |error| error.len());
        let ended = self.ended.as_ref().map_or(0, |ended| 32 + ended.result.as_ref().map_or(0, |result| result.len()));
        16 + error + ended + self.waits_for.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back_off(first: u64, factor_hundredths: u32, most: u64, jitter_percent: u8) -> BackOff {
        let (first, most) = (Duration::from_secs(first), Duration::from_secs(most));
        BackOff { first, factor_hundredths, most, jitter_percent }
    }

    #[test]
    fn a_back_off_grows_up_to_its_most() {
        let spans = |back_off: BackOff| [1, 2, 3, 4, u32::MAX].map(|attempt| back_off.after(attempt, 7).as_secs());
        assert_eq!(spans(back_off(5, 100, 60, 0)), [5, 5, 5, 5, 5]);
        assert_eq!(spans(back_off(5, 200, 30, 0)), [5, 10, 20, 30, 30]);
        assert_eq!(spans(back_off(0, 300, 30, 0)), [0; 5]);
        assert_eq!(spans(back_off(2, 150, 4, 0)), [2, 3, 4, 4, 4]);
    }

    #[test]
    fn jitter_only_takes_away_and_is_the_same_for_the_same_chance() {
        let back_off = back_off(100, 100, 100, 30);
        let spans: Vec<Duration> = (0..1000).map(|chance| back_off.after(1, chance)).collect();
        assert!(spans.iter().all(|span| (70..=100).contains(&span.as_secs())));
        assert!(spans.iter().any(|span| span.as_secs() < 75) && spans.iter().any(|span| span.as_secs() > 95));
        assert_eq!(back_off.after(1, 5), back_off.after(1, 5));
    }
}
