//! Jobs with a limit key in what happens to all jobs: they join and leave their groups, and are counted while they are held.
//!
//! When what holds for each key changes, every group is told, in slices that commands can wait for; meanwhile the queue
//! hands nothing out. None of it is written down: a replay comes to the same by itself, with full buckets.

use super::State;
use crate::groups::Group;
use crate::job::{Job, JobExtra, Time};
use crate::pages::{Pages, Slot};
use crate::queue::{PerKey, QueueId};

/// The limit key of a job, if it has one.
fn limit_key<'a>(extras: &'a Pages<JobExtra>, job: &Job) -> Option<&'a str> {
    let extra = &extras[job.extra.get()?];
    extra.terms.as_ref().and_then(|terms| terms.limit_key.as_deref())
}

impl State {
    /// Puts a job that is ready into the line of its group; false if it has none.
    pub(super) fn join_group(&mut self, slot: Slot) -> bool {
        let State { jobs, extras, queues, .. } = self;
        let Some(key) = limit_key(extras, &jobs[slot]) else { return false };
        queues[jobs[slot].queue.slot()].change_group(key, jobs, |group| group.join(slot, jobs));
        true
    }

    /// Takes a job that was ready out of the line of its group; false if it has none.
    pub(super) fn leave_group(&mut self, slot: Slot) -> bool {
        let State { jobs, extras, queues, .. } = self;
        let Some(key) = limit_key(extras, &jobs[slot]) else { return false };
        queues[jobs[slot].queue.slot()].change_group(key, jobs, |group| group.leave(slot, jobs));
        true
    }

    /// A job is about to be handed out: it counts for its group, if it has one, and takes a token there.
    pub(super) fn hold_in_group(&mut self, slot: Slot, now: Time) {
        let State { jobs, extras, queues, .. } = self;
        let Some(key) = limit_key(extras, &jobs[slot]) else { return };
        let id = jobs[slot].queue;
        let queue = &mut queues[id.slot()];
        let limits = queue.per_key();
        queue.change_group(key, jobs, |group| group.hold(limits, now));
        if limits.is_some_and(|limits| limits.rate.is_some()) {
            queue.forget_full_group(jobs, now);
            self.wake_for_groups(id);
        }
    }

    /// A job is held that was handed out before this start: it counts, and takes no token of buckets that the start filled.
    pub(super) fn count_in_group(&mut self, slot: Slot) {
        let State { jobs, extras, queues, .. } = self;
        let Some(key) = limit_key(extras, &jobs[slot]) else { return };
        queues[jobs[slot].queue.slot()].change_group(key, jobs, |group| group.hold(None, Time(0)));
    }

    /// A job is held no more.
    pub(super) fn give_back_to_group(&mut self, slot: Slot) {
        let State { jobs, extras, queues, .. } = self;
        let Some(key) = limit_key(extras, &jobs[slot]) else { return };
        queues[jobs[slot].queue.slot()].change_group(key, jobs, Group::give_back);
    }

    /// The bucket of a limit key has a token again.
    pub(crate) fn end_throttle_of(&mut self, queue: QueueId, key: &str, now: Time) {
        self.queues[queue.slot()].change_group(key, &self.jobs, |group| group.end_throttle(now));
        self.serve(queue);
    }

    /// The group of a job, if it has one.
    pub(super) fn group_of(&self, slot: Slot) -> Option<&Group> {
        let job = &self.jobs[slot];
        self.queue(job.queue).groups.as_ref()?.of(limit_key(&self.extras, job)?)
    }

    fn wake_for_groups(&mut self, id: QueueId) {
        let groups = self.queue(id).groups.as_ref();
        if let Some(&(at, _)) = groups.and_then(|groups| groups.first_throttled()) {
            self.wake_queue_at(id, at);
        }
    }

    /// A queue's settings changed, which were `before` for each limit key.
    pub(super) fn limits_changed(&mut self, id: QueueId, before: Option<PerKey>) {
        let queue = self.queue_mut(id);
        if queue.per_key() != before && queue.begin_telling() {
            self.telling_groups.insert(id);
        }
    }

    /// Whether some groups were not told yet that the limits changed.
    pub(crate) fn is_telling_groups(&self) -> bool {
        !self.telling_groups.is_empty()
    }

    /// Tells at most so many groups that the limits changed.
    pub(crate) fn tell_groups(&mut self, most: usize) {
        let mut left = most;
        while let Some(&id) = self.telling_groups.first().filter(|_| left > 0) {
            let (told, is_last) = self.queues[id.slot()].tell_groups(&self.jobs, left);
            left -= told;
            if is_last {
                // A queue with hardly a group is work too.
                left = left.saturating_sub(1);
                self.telling_groups.remove(&id);
                self.serve(id);
            }
        }
    }
}

/// What tests and simulations look at.
#[cfg(any(test, feature = "testing"))]
impl State {
    pub(super) fn check_groups(&self) {
        use crate::job::JobState;
        use std::collections::{BTreeMap, BTreeSet};
        let mut telling = BTreeSet::new();
        for (slot, queue) in self.queues.iter() {
            let (mut ready, mut held) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, u64>::new());
            for (slot, job) in self.jobs.iter().filter(|(_, job)| job.queue.slot() == slot) {
                match (limit_key(&self.extras, job), job.state) {
                    (Some(key), JobState::Ready) => ready.entry(key).or_default().push(slot),
                    (Some(key), JobState::Reserved) => *held.entry(key).or_default() += 1,
                    _ => {}
                }
            }
            queue.check_groups(&self.jobs, &ready, &held);
            let Some(groups) = queue.groups.as_ref() else { continue };
            if groups.is_telling() {
                telling.insert(QueueId(slot.0));
            }
            assert!(groups.first_throttled().is_none_or(|&(at, _)| queue.wake_at <= at), "{} is awake", queue.name);
        }
        assert_eq!(self.telling_groups, telling, "queues whose limits changed");
    }
}
