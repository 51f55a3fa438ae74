//! The limit keys of a queue: which of its ready jobs can be handed out, where only so many of each key may be.
//!
//! The jobs of one key are a group. All its ready jobs stand in a line of the group's own, and the first of them in one of
//! the queue's too: in the queue's line of ready jobs while the group is open, so that whoever reserves takes the head of
//! that line and searches nothing; in the line of those held back while it is shut. Whatever happens to a group moves that
//! one job at the most.
//!
//! A group is there while a job of its key is ready or held, and after that until its bucket is full again. The state owns
//! the groups and is the only one to change them, by [`Queue::change_group`].

use crate::job::{JobId, Jobs, Priority, ReadyOrder, Time};
use crate::limits::LIMIT_KEYS_REMEMBERED;
use crate::pages::Slot;
use crate::queue::{PerKey, Queue};
use crate::wheel::Wheel;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// The jobs of one limit key.
#[derive(Debug)]
pub(crate) struct Group {
    key: Arc<str>,
    /// All that are ready.
    line: Wheel<(Priority, Time, JobId)>,
    /// The first of them, and whether it stands in the queue's line of ready jobs.
    head: Option<(Slot, bool)>,
    /// How many are held, those included that were given by their ids.
    held: u64,
    /// When the bucket of its rate is full; `Time(0)` if it is.
    full_at: Time,
    /// When that has a token again; `Time(0)` while it has one.
    throttled_until: Time,
}

/// The groups of a queue.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_key: BTreeMap<Arc<str>, Group>,
    /// The first jobs of groups that are shut.
    shut: Wheel<(Priority, Time, JobId)>,
    /// Ready jobs that do not stand in the queue's line of those.
    parked: u64,
    /// Ready jobs of groups that are shut.
    held_back: u64,
    /// Groups without a token, by when they have one.
    throttled: BTreeSet<(Time, Arc<str>)>,
    /// Groups without a job, by when their buckets are full.
    filling: BTreeSet<(Time, Arc<str>)>,
    /// The limits changed, and groups behind that key were not told yet.
    telling: Option<Bound<Arc<str>>>,
}

impl Group {
    fn new(key: &str) -> Group {
        Group {
            key: key.into(),
            line: Wheel::default(),
            head: None,
            held: 0,
            full_at: Time(0),
            throttled_until: Time(0),
        }
    }

    pub(crate) fn join(&mut self, slot: Slot, jobs: &Jobs) {
        self.line.insert(slot, &ReadyOrder(jobs));
    }

    pub(crate) fn leave(&mut self, slot: Slot, jobs: &Jobs) {
        self.line.remove(slot, &ReadyOrder(jobs));
    }

    /// A job of it is handed out, which takes a token.
    pub(crate) fn hold(&mut self, limits: Option<PerKey>, now: Time) {
        self.held += 1;
        if let Some(rate) = limits.and_then(|limits| limits.rate) {
            let (full_at, next_at) = rate.take(self.full_at, now);
            self.full_at = full_at;
            if next_at > now {
                self.throttled_until = next_at;
            }
        }
    }

    /// A job of it is held no more.
    pub(crate) fn give_back(&mut self) {
        self.held -= 1;
    }

    /// It has a token again.
    pub(crate) fn end_throttle(&mut self, now: Time) {
        self.throttled_until = Time(0);
        if self.full_at <= now {
            self.full_at = Time(0);
        }
    }

    /// Its bucket is full.
    fn fill(&mut self) {
        (self.full_at, self.throttled_until) = (Time(0), Time(0));
    }

    fn is_empty(&self) -> bool {
        self.held == 0 && self.line.len() == 0
    }

    /// Whether none of its jobs may be handed out to who asks for any.
    fn is_shut(&self, limits: Option<PerKey>) -> bool {
        self.throttled_until != Time(0)
            || limits.and_then(|limits| limits.concurrency).is_some_and(|most| self.is_at(most))
    }

    /// Whether so many of its jobs are held, or more.
    pub(crate) fn is_at(&self, most: u32) -> bool {
        self.held >= u64::from(most)
    }

    /// How many of its jobs are held.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// When it has a token again, if it has none.
    pub(crate) fn throttled_until(&self) -> Option<Time> {
        self.moments().0
    }

    /// How many of its jobs come before one of them and do not stand in the queue's line of ready jobs, and whether those are
    /// all; so many spokes are counted at the most.
    pub(crate) fn count_before(&self, slot: Slot, order: &ReadyOrder<'_>, most_spokes: usize) -> (usize, bool) {
        let (before, is_exact) = self.line.count_before(slot, order, most_spokes);
        let is_head_there = self.head.is_some_and(|(_, is_open)| is_open);
        (before.saturating_sub(usize::from(is_head_there)), is_exact)
    }

    /// How many of its ready jobs do not stand in the queue's line of those.
    pub(crate) fn parked(&self) -> u64 {
        self.counts().0
    }

    /// How many of its ready jobs are parked, and how many are held back.
    fn counts(&self) -> (u64, u64) {
        let ready = self.line.len() as u64;
        match self.head {
            Some((_, true)) => (ready - 1, 0),
            _ => (ready, ready),
        }
    }

    /// When it has a token again, and when it can be forgotten, where it waits for that.
    fn moments(&self) -> (Option<Time>, Option<Time>) {
        let is = |at: Time| (at != Time(0)).then_some(at);
        (is(self.throttled_until), is(self.full_at).filter(|_| self.is_empty()))
    }
}

impl Groups {
    /// Ready jobs that do not stand in the queue's line of those.
    pub(crate) fn parked(&self) -> u64 {
        self.parked
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Every ready job with a limit key, in no order.
    pub(crate) fn ready(&self) -> impl Iterator<Item = Slot> + '_ {
        self.by_key.values().flat_map(|group| group.line.all())
    }

    /// Ready jobs whose limit key lets none of them be handed out.
    pub(crate) fn held_back(&self) -> u64 {
        self.held_back
    }

    /// The jobs of that limit key, if any is ready or held, or its bucket is not full.
    pub(crate) fn of(&self, key: &str) -> Option<&Group> {
        self.by_key.get(key)
    }

    /// The first of the jobs that are held back.
    pub(crate) fn first_held_back(&self) -> Option<Slot> {
        self.shut.first()
    }

    /// Whether some groups were not told yet that the limits changed.
    pub(crate) fn is_telling(&self) -> bool {
        self.telling.is_some()
    }

    /// The next group that has a token again, and when.
    pub(crate) fn first_throttled(&self) -> Option<&(Time, Arc<str>)> {
        self.throttled.first()
    }
}

impl Queue {
    /// What holds for each limit key.
    pub(crate) fn per_key(&self) -> Option<PerKey> {
        self.settings.as_ref().and_then(|settings| settings.per_key)
    }

    /// Changes a group, which may come to be or go by that, and has its first job stand where it belongs.
    pub(crate) fn change_group(&mut self, key: &str, jobs: &Jobs, change: impl FnOnce(&mut Group)) {
        let limits = self.per_key();
        let groups = &mut **self.groups.get_or_insert_default();
        if !groups.by_key.contains_key(key) {
            let group = Group::new(key);
            groups.by_key.insert(Arc::clone(&group.key), group);
        }
        let group = groups.by_key.get_mut(key).expect("it is there by now");
        let (parked, held_back) = group.counts();
        let (throttled, filling) = group.moments();
        change(group);
        let head = group.line.first().map(|first| (first, !group.is_shut(limits)));
        if head != group.head {
            let order = &ReadyOrder(jobs);
            match group.head {
                Some((slot, true)) => drop(self.ready.remove(slot, order)),
                Some((slot, false)) => drop(groups.shut.remove(slot, order)),
                None => {}
            }
            match head {
                Some((slot, true)) => self.ready.insert(slot, order),
                Some((slot, false)) => groups.shut.insert(slot, order),
                None => {}
            }
            group.head = head;
        }
        let counts = group.counts();
        groups.parked = groups.parked - parked + counts.0;
        groups.held_back = groups.held_back - held_back + counts.1;
        let moments = group.moments();
        move_to(&mut groups.throttled, &group.key, throttled, moments.0);
        move_to(&mut groups.filling, &group.key, filling, moments.1);
        if group.is_empty() && moments.1.is_none() {
            groups.by_key.remove(key);
        }
    }

    /// Forgets groups without a job whose buckets are full, two at the most: one comes to be at a time. With too many of
    /// those without a job, one whose bucket is not full goes too.
    pub(crate) fn forget_full_group(&mut self, jobs: &Jobs, now: Time) {
        for _ in 0..2 {
            let Some(groups) = &self.groups else { return };
            let Some((full_at, key)) = groups.filling.first() else { return };
            let is_over = *full_at <= now && groups.by_key[key].throttled_until == Time(0);
            if !is_over && groups.filling.len() <= LIMIT_KEYS_REMEMBERED {
                return;
            }
            let key = Arc::clone(key);
            self.change_group(&key, jobs, Group::fill);
        }
    }

    /// The limits changed: every group is to be told. Returns whether there is any.
    pub(crate) fn begin_telling(&mut self) -> bool {
        let Some(groups) = self.groups.as_mut().filter(|groups| !groups.by_key.is_empty()) else { return false };
        groups.telling = Some(Bound::Unbounded);
        true
    }

    /// Tells at most so many groups, whose buckets are full by that. Returns how many it told, and whether those were the
    /// last.
    pub(crate) fn tell_groups(&mut self, jobs: &Jobs, most: usize) -> (usize, bool) {
        let Some(groups) = self.groups.as_mut() else { return (0, true) };
        let Some(from) = groups.telling.take() else { return (0, true) };
        let from = from.as_ref().map(|key| &**key);
        let keys: Vec<Arc<str>> = groups
            .by_key
            .range::<str, _>((from, Bound::Unbounded))
            .take(most)
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let is_last = keys.len() < most;
        if let Some(last) = keys.last().filter(|_| !is_last) {
            groups.telling = Some(Bound::Excluded(Arc::clone(last)));
        }
        for key in &keys {
            self.change_group(key, jobs, Group::fill);
        }
        (keys.len(), is_last)
    }
}

/// Moves a key in an order by time, in which it may not have been and may not be any more.
fn move_to(order: &mut BTreeSet<(Time, Arc<str>)>, key: &Arc<str>, from: Option<Time>, to: Option<Time>) {
    if from == to {
        return;
    }
    if let Some(at) = from {
        order.remove(&(at, Arc::clone(key)));
    }
    if let Some(at) = to {
        order.insert((at, Arc::clone(key)));
    }
}

/// What tests and simulations look at.
#[cfg(any(test, feature = "testing"))]
impl Queue {
    /// Recounts the groups. `ready` are the ready jobs of each limit key, `held` how many of it are held.
    ///
    /// # Panics
    /// If something disagrees, naming what.
    pub(crate) fn check_groups(&self, jobs: &Jobs, ready: &BTreeMap<&str, Vec<Slot>>, held: &BTreeMap<&str, u64>) {
        let none = Groups::default();
        let groups = self.groups.as_deref().unwrap_or(&none);
        let (mut parked, mut held_back) = (0, 0);
        let (mut throttled, mut filling) = (BTreeSet::new(), BTreeSet::new());
        let mut shut = BTreeSet::new();
        for key in ready.keys().chain(held.keys()) {
            assert!(groups.by_key.contains_key(*key), "jobs of limit key {key} have a group");
        }
        for (key, group) in &groups.by_key {
            let line: BTreeSet<Slot> = group.line.all().collect();
            let expected: BTreeSet<Slot> = ready.get(&**key).into_iter().flatten().copied().collect();
            assert_eq!(line, expected, "ready jobs of limit key {key}");
            assert_eq!(group.line.len(), expected.len(), "ready jobs of limit key {key}");
            assert_eq!(group.held, held.get(&**key).copied().unwrap_or(0), "held jobs of limit key {key}");
            let least = expected.iter().copied().min_by_key(|&slot| crate::wheel::Keys::key(&ReadyOrder(jobs), slot));
            assert_eq!(group.head.map(|(slot, _)| slot), least, "the first job of limit key {key}");
            if let Some((slot, is_open)) = group.head {
                assert!(is_open != group.is_shut(self.per_key()) || groups.is_telling(), "where {key} stands");
                assert_eq!(self.ready.all().any(|other| other == slot), is_open, "the first job of {key} is ready");
                if !is_open {
                    shut.insert(slot);
                }
            }
            let counts = group.counts();
            parked += counts.0;
            held_back += counts.1;
            let moments = group.moments();
            throttled.extend(moments.0.map(|at| (at, Arc::clone(key))));
            filling.extend(moments.1.map(|at| (at, Arc::clone(key))));
            assert!(!group.is_empty() || moments.1.is_some(), "group {key} is kept though nothing needs it");
            assert!(group.throttled_until <= group.full_at, "the bucket of {key} is full after it has a token");
        }
        assert_eq!((groups.parked, groups.held_back), (parked, held_back), "jobs that are parked and held back");
        assert_eq!((&groups.throttled, &groups.filling), (&throttled, &filling), "groups by time");
        assert!(filling.len() <= LIMIT_KEYS_REMEMBERED + 1, "groups without a job");
        assert_eq!(groups.shut.all().collect::<BTreeSet<_>>(), shut, "first jobs that are held back");
    }

    /// The groups, as text.
    pub(crate) fn groups_text(&self) -> String {
        let all = self.groups.iter().flat_map(|groups| groups.by_key.values());
        let one = |group: &Group| {
            let Group { key, head, held, full_at, throttled_until, .. } = group;
            format!("{key} {} {head:?} {held} {full_at:?} {throttled_until:?}\n", group.line.len())
        };
        all.map(one).collect()
    }
}
