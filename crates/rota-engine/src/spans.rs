//! How long things took, counted in buckets: a few numbers, however much is counted.

use crate::job::Time;
use std::time::Duration;

/// How many buckets there are below the last, which has no bound.
pub const BUCKETS: usize = 28;

/// A histogram of spans. The bound of each bucket is twice that of the one before; the first is a millisecond's quarter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spans {
    counts: [u64; BUCKETS + 1],
    nanos: u64,
}

/// Nanoseconds of the first bucket's bound.
const FIRST_NANOS: u64 = 250_000;

/// A span, and the bucket that it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    nanos: u64,
    bucket: usize,
}

impl Span {
    /// The span between two moments.
    #[inline]
    pub(crate) fn between(from: Time, to: Time) -> Span {
        let nanos = to.0.saturating_sub(from.0);
        let bucket = (64 - (nanos.saturating_sub(1) / FIRST_NANOS).leading_zeros()) as usize;
        Span { nanos, bucket: bucket.min(BUCKETS) }
    }
}

impl Spans {
    #[inline]
    pub(crate) fn count(&mut self, span: Span) {
        self.counts[span.bucket] += 1;
        self.nanos = self.nanos.saturating_add(span.nanos);
    }

    /// Counts one more, as long as that.
    pub fn add(&mut self, span: Duration) {
        self.count(Span::between(Time(0), Time(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))));
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// Each bucket's bound, that included, and how many are in it alone; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        self.counts.iter().enumerate().map(|(at, &count)| ((at < BUCKETS).then(|| bound(at)), count))
    }

    /// What was counted since a copy of this was `earlier`. A copy of something else gives nothing that makes sense, and does
    /// not panic.
    #[must_use]
    pub fn since(&self, earlier: &Spans) -> Spans {
        let counts = std::array::from_fn(|at| self.counts[at].saturating_sub(earlier.counts[at]));
        Spans { counts, nanos: self.nanos.saturating_sub(earlier.nanos) }
    }

    /// At most `most` spans that stand for all of them, from the shortest on: each for as many as any other. Where in its
    /// bucket one is, nobody knows; they are spread evenly. Those above all bounds are given as the last bound.
    pub fn samples(&self, most: usize) -> impl Iterator<Item = Duration> + '_ {
        let total = u128::from(self.total());
        let given = total.min(most as u128);
        let (mut bucket, mut below) = (0, 0);
        (0..given).map(move |at| {
            // The one in the middle of its share: with a share of one, itself.
            let rank = (2 * at + 1) * total / (2 * given);
            while below + u128::from(self.counts[bucket]) <= rank {
                below += u128::from(self.counts[bucket]);
                bucket += 1;
            }
            let from = if bucket == 0 { 0 } else { bound(bucket - 1).as_nanos() };
            let until = if bucket < BUCKETS { bound(bucket).as_nanos() } else { from };
            let place = (until - from) * (2 * (rank - below) + 1) / (2 * u128::from(self.counts[bucket]));
            Duration::from_nanos(u64::try_from(from + place).unwrap_or(u64::MAX))
        })
    }

    /// A span that so many per cent are not above, as closely as the buckets tell: the bound of the bucket that it is in.
    /// `None` if nothing was counted, or it is above all bounds.
    #[must_use]
    pub fn quantile(&self, percent: u32) -> Option<Duration> {
        let total = u128::from(self.total());
        let mut below = 0;
        self.buckets().find_map(|(bound, count)| {
            below += u128::from(count);
            (count > 0 && below * 100 >= total * u128::from(percent)).then_some(bound)
        })?
    }
}

fn bound(bucket: usize) -> Duration {
    Duration::from_nanos(FIRST_NANOS << bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_is_in_the_bucket_of_the_first_bound_that_it_does_not_pass() {
        for bucket in 0..BUCKETS {
            let bound = bound(bucket).as_nanos() as u64;
            let mut spans = Spans::default();
            spans.count(Span::between(Time(5), Time(5 + bound)));
            spans.count(Span::between(Time(5), Time(5 + bound + 1)));
            let counts: Vec<u64> = spans.buckets().map(|(_, count)| count).collect();
            assert_eq!((counts[bucket], counts[bucket + 1]), (1, 1), "{bucket}");
            assert_eq!(spans.sum(), Duration::from_nanos(2 * bound + 1));
        }
        let mut spans = Spans::default();
        spans.count(Span::between(Time(9), Time(0)));
        spans.count(Span::between(Time(0), Time(u64::MAX)));
        assert_eq!(spans.buckets().next(), Some((Some(bound(0)), 1)));
        assert_eq!(spans.buckets().last(), Some((None, 1)));
    }

    #[test]
    fn a_quantile_is_a_bound_that_so_many_keep() {
        let mut spans = Spans::default();
        assert_eq!(spans.quantile(50), None);
        for millis in [1, 1, 1, 1, 1, 1, 1, 1, 1, 900] {
            spans.count(Span::between(Time(0), Time(millis * 1_000_000)));
        }
        assert_eq!(spans.quantile(50), Some(Duration::from_millis(1)));
        assert_eq!(spans.quantile(90), Some(Duration::from_millis(1)));
        assert_eq!(spans.quantile(99), Some(Duration::from_millis(1024)));
    }

    #[test]
    fn samples_stand_for_all_and_are_in_their_buckets() {
        let mut spans = Spans::default();
        assert_eq!(spans.samples(10).count(), 0);
        for micros in [100, 200, 400, 3_000, 100_000_000_000] {
            spans.count(Span::between(Time(0), Time(micros * 1_000)));
        }
        let earlier = spans.clone();
        let micros = |spans: &Spans, most| -> Vec<u128> { spans.samples(most).map(|span| span.as_micros()).collect() };
        // All of them: two in the first bucket, one in the second, one in that from 2 to 4 ms, one above all bounds.
        assert_eq!(micros(&spans, 10), [62, 187, 375, 3_000, bound(BUCKETS - 1).as_micros()]);
        assert_eq!(micros(&spans, 1), [375]);
        assert_eq!(micros(&spans, 0), []);
        for _ in 0..1_000 {
            spans.count(Span::between(Time(0), Time(900_000)));
            spans.count(Span::between(Time(0), Time(7_000_000)));
        }
        let since = spans.since(&earlier);
        assert_eq!((since.total(), since.sum()), (2_000, Duration::from_micros(7_900_000)));
        let few = micros(&since, 10);
        assert_eq!(few.len(), 10);
        assert!(few.is_sorted(), "{few:?}");
        assert!(few[..5].iter().all(|span| (500..1_000).contains(span)), "{few:?}");
        assert!(few[5..].iter().all(|span| (4_000..8_000).contains(span)), "{few:?}");
    }
}
