//! Far jobs that ended and whose segments the log still needs, in the order of the log: each as how it differs from the one before it, a few
//! bytes, in chunks, so that none is ever copied for others to come, however many they are.

use super::FarPlace;
use crate::log::Lsn;
use std::collections::VecDeque;

/// Length of a chunk in bytes.
const CHUNK: usize = 16 << 10;

/// The most bytes of one of them: three numbers of 64 bits, seven of which are in a byte.
const MOST_BYTES: usize = 30;

/// A queue of them.
#[derive(Debug, Default)]
pub(super) struct Ended {
    first: Option<(Lsn, FarPlace)>,
    /// The numbers of the one that was pushed last.
    last: [u64; 3],
    /// Those behind the first. None of the chunks is empty, but the first where it was read to its end.
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first chunk was read.
    read: usize,
}

impl Ended {
    pub(super) fn push(&mut self, ended: (Lsn, FarPlace)) {
        if self.first.is_none() {
            self.first = Some(ended);
        } else {
            if self.chunks.back().is_none_or(|chunk| chunk.len() + MOST_BYTES > CHUNK) {
                self.chunks.push_back(Vec::with_capacity(CHUNK));
            }
            let chunk = self.chunks.back_mut().expect("there is room in the last one");
            let numbers = numbers(ended).into_iter().zip(self.last);
            numbers.for_each(|(number, before)| put(chunk, number.wrapping_sub(before)));
        }
        self.last = numbers(ended);
    }

    /// Takes the first, if its end is a record below that one.
    pub(super) fn pop_below(&mut self, below: Lsn) -> Option<FarPlace> {
        let first = self.first.take_if(|(at, _)| *at < below)?;
        self.first = self.take_next(first);
        Some(first.1)
    }

    /// Takes the one out of the chunks that is behind `before`.
    fn take_next(&mut self, before: (Lsn, FarPlace)) -> Option<(Lsn, FarPlace)> {
        if self.chunks.front().is_some_and(|chunk| self.read == chunk.len()) {
            self.chunks.pop_front();
            self.read = 0;
        }
        let mut left = self.chunks.front()?[self.read..].iter();
        let [at, segment, ordinal] = numbers(before).map(|before| before.wrapping_add(take(&mut left)));
        self.read = self.chunks[0].len() - left.len();
        let ordinal = u32::try_from(ordinal).expect("it was put as one of 32 bits");
        Some((Lsn(at), FarPlace { segment, ordinal }))
    }

    /// Puts them into the order of the log again. It copies all of them: for a start.
    pub(super) fn sort(&mut self) {
        let mut all = Vec::new();
        while let Some(first) = self.first {
            all.push(first);
            self.first = self.take_next(first);
        }
        all.sort_unstable();
        *self = Ended::default();
        all.into_iter().for_each(|ended| self.push(ended));
    }
}

fn numbers((at, place): (Lsn, FarPlace)) -> [u64; 3] {
    [at.0, place.segment, place.ordinal.into()]
}

/// Writes a difference: what is near 0 takes a byte, be it below or above.
fn put(bytes: &mut Vec<u8>, difference: u64) {
    let sign = difference.cast_signed() >> 63;
    let mut left = (difference << 1) ^ sign.cast_unsigned();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

fn take<'b>(bytes: &mut impl Iterator<Item = &'b u8>) -> u64 {
    let (mut read, mut shift) = (0, 0);
    loop {
        let byte = *bytes.next().expect("what was put is whole");
        read |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (read >> 1) ^ (read & 1).wrapping_neg();
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random::Random;

    #[test]
    fn they_come_out_as_they_were_put_in_and_in_order_once_sorted() {
        let mut random = Random::new(5);
        let mut expected = VecDeque::new();
        let mut ended = Ended::default();
        for round in 0..100_000_u64 {
            // In turn, here and there, and as far apart as there is.
            let ordinal = if random.chance(1, 2) { round as u32 } else { random.below(1 << 32) as u32 };
            let segment = if random.chance(1, 50) { u64::MAX - random.below(9) } else { random.below(300) };
            let at = Lsn(if random.chance(1, 50) { random.below(u64::MAX) } else { round });
            ended.push((at, FarPlace { segment, ordinal }));
            expected.push_back((at, FarPlace { segment, ordinal }));
            while random.chance(1, 3) {
                let below = Lsn(random.below(u64::MAX));
                assert_eq!(
                    ended.pop_below(below),
                    expected.pop_front_if(|(at, _)| *at < below).map(|(_, place)| place)
                );
            }
        }
        ended.sort();
        expected.make_contiguous().sort_unstable();
        for (at, place) in expected {
            assert_eq!((ended.pop_below(at), ended.pop_below(Lsn(at.0 + 1))), (None, Some(place)));
        }
        assert_eq!((ended.pop_below(Lsn(u64::MAX)), ended.chunks.len()), (None, 0));
    }
}
