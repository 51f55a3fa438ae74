//! Far jobs that ended and whose segments the log still needs, in the order of the log: in chunks, so that none is ever copied
//! for others to come, however many they are.

use super::FarPlace;
use crate::log::Lsn;
use std::collections::VecDeque;

/// How many are in a chunk.
const CHUNK: usize = 4096;

/// A queue of them.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// None of them is empty.
    chunks: VecDeque<VecDeque<(Lsn, FarPlace)>>,
}

impl Ended {
    pub(super) fn push(&mut self, ended: (Lsn, FarPlace)) {
        match self.chunks.back_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => last.push_back(ended),
            None => {
                let mut chunk = VecDeque::with_capacity(CHUNK);
                chunk.push_back(ended);
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Takes the first, if its end is a record below that one.
    pub(super) fn pop_below(&mut self, below: Lsn) -> Option<FarPlace> {
        let first = self.chunks.front_mut()?;
        let (_, place) = first.pop_front_if(|(at, _)| *at < below)?;
        if first.is_empty() {
            self.chunks.pop_front();
        }
        Some(place)
    }

    /// Puts them into the order of the log again. It copies all of them: for a start.
    pub(super) fn sort(&mut self) {
        let mut all: Vec<(Lsn, FarPlace)> = std::mem::take(&mut self.chunks).into_iter().flatten().collect();
        all.sort_unstable();
        all.into_iter().for_each(|ended| self.push(ended));
    }
}
