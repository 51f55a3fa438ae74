//! Answers to requests that named themselves by a key, kept for a while: whoever sends such a request again learns what came
//! of the first, and nothing is done twice.
//!
//! What an answer says is its front end's business; here it is bytes. Those that end first go first where there are more than
//! there is room for.

use super::{Owner, State};
use crate::event::KeptAnswer;
use crate::job::Time;
use crate::limits::ANSWERS_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an answer takes beside its key and its bytes: in memory and, about, in the log.
const OVERHEAD_BYTES: usize = 128;

/// The answers that are kept.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_key: BTreeMap<Arc<[u8]>, Entry>,
    by_end: BTreeSet<(Time, Arc<[u8]>)>,
    bytes: usize,
    /// When they are to be looked at next: at the first end, or before.
    wake_at: Option<Time>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: u64,
    answer: Box<[u8]>,
    until: Time,
}

impl Entry {
    fn bytes(&self, key: &[u8]) -> usize {
        OVERHEAD_BYTES + key.len() + self.answer.len()
    }
}

impl Answers {
    /// Length of the records that would hold them, about, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, entry)) = self.by_key.remove_entry(key) {
            self.bytes -= entry.bytes(&key);
            self.by_end.remove(&(entry.until, key));
        }
    }

    fn insert(&mut self, kept: KeptAnswer) {
        let KeptAnswer { key, fingerprint, answer, until } = kept;
        self.remove(&key);
        let (key, entry) = (Arc::from(key), Entry { fingerprint, answer, until });
        self.bytes += entry.bytes(&key);
        self.by_end.insert((until, Arc::clone(&key)));
        self.by_key.insert(key, entry);
        while self.bytes > ANSWERS_BYTES {
            self.remove_first();
        }
    }

    fn remove_first(&mut self) {
        if let Some((_, key)) = self.by_end.first().cloned() {
            self.remove(&key);
        }
    }

    /// When the first of them is not kept any more.
    pub(super) fn first_end(&self) -> Option<Time> {
        self.by_end.first().map(|&(until, _)| until)
    }
}

impl State {
    /// What came of the request of that key, and the fingerprint that it had; `None` if it is not known any more.
    pub(crate) fn answer_of(&self, key: &[u8], now: Time) -> Option<(u64, &[u8])> {
        let entry = self.answers.by_key.get(key).filter(|entry| entry.until > now)?;
        Some((entry.fingerprint, &entry.answer))
    }

    /// How many answers are kept.
    pub(crate) fn answers_kept(&self) -> usize {
        self.answers.len()
    }

    /// An answer that is kept, whole.
    pub(crate) fn kept_answer(&self, key: &[u8], now: Time) -> Option<KeptAnswer> {
        let (key, entry) = self.answers.by_key.get_key_value(key).filter(|(_, entry)| entry.until > now)?;
        let Entry { fingerprint, answer, until } = entry;
        Some(KeptAnswer { key: (&**key).into(), fingerprint: *fingerprint, answer: answer.clone(), until: *until })
    }

    /// The first of the answers that are kept whose key is behind that one, or the first of all: they are walked over so.
    pub(crate) fn answer_key_after(&self, key: Option<&[u8]>) -> Option<&[u8]> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = key.map_or(Unbounded, Excluded);
        self.answers.by_key.range::<[u8], _>((from, Unbounded)).next().map(|(key, _)| &**key)
    }

    pub(super) fn keep_answer(&mut self, kept: KeptAnswer) {
        let until = kept.until;
        self.answers.insert(kept);
        self.wake_answers_at(until);
    }

    /// Lets go of the answer that ends first.
    pub(crate) fn forget_answer(&mut self) {
        self.answers.remove_first();
    }

    /// The wake of the answers was taken: they have another at their first end, if there is one.
    pub(super) fn rewake_answers(&mut self) {
        self.answers.wake_at = None;
        self.answers.first_end().into_iter().for_each(|end| self.wake_answers_at(end));
    }

    /// Has the state look at the answers at that moment, if not before.
    fn wake_answers_at(&mut self, at: Time) {
        if self.answers.wake_at.is_none_or(|wake| at < wake) {
            if let Some(wake) = self.answers.wake_at.replace(at) {
                self.wakes.remove(&(wake, Owner::Answers));
            }
            self.wakes.insert((at, Owner::Answers));
        }
    }

    /// Every answer that is kept at a moment, as text.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn answers_text(&self, now: Time) -> String {
        let kept = self.answers.by_key.iter().filter(|(_, entry)| entry.until > now);
        kept.map(|(key, entry)| format!("answer {key:?} {entry:?}\n")).collect()
    }

    /// Recounts the answers; returns how many wakes they have.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn check_answers(&self) -> usize {
        let Answers { by_key, by_end, bytes, wake_at } = &self.answers;
        assert_eq!(*bytes, by_key.iter().map(|(key, entry)| entry.bytes(key)).sum::<usize>());
        let ends: BTreeSet<_> = by_key.iter().map(|(key, entry)| (entry.until, Arc::clone(key))).collect();
        assert_eq!(*by_end, ends);
        let wake = *wake_at;
        assert!(self.answers.first_end().is_none_or(|end| wake.is_some_and(|wake| wake <= end)), "{wake:?}");
        assert_eq!(wake.is_some_and(|wake| self.wakes.contains(&(wake, Owner::Answers))), wake.is_some());
        usize::from(wake.is_some())
    }
}
