//! Which job waits for which, and what the end of one means for those that wait for it.
//!
//! A job waits only for jobs that were put before it, so that no circle can come to be. When a job ends, those that wait
//! for it are gone through one by one, in slices that commands can wait for. What follows from a job that is done is not
//! written down: a replay comes to the same by itself. What ends a job is.

use super::State;
use super::failed::Failed;
use crate::event::Event;
use crate::job::{JobId, Time};
use crate::pages::Slot;
use crate::terms::OnParentFailure;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The edges, and what is still to be told along them.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// The jobs that wait for each.
    waiting: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Jobs that ended, and whom it was not told yet.
    ended: VecDeque<Ended>,
    /// In a replay: those that a record may end yet, because theirs ended.
    undecided: VecDeque<Ended>,
    /// Jobs that came to nothing last.
    pub(super) failed: Failed,
}

#[derive(Debug)]
struct Ended {
    parent: JobId,
    is_done: bool,
    children: BTreeSet<JobId>,
}

impl Graph {
    /// Takes note that a job is over by now: done, or come to nothing.
    pub(super) fn ended(&mut self, parent: JobId, is_done: bool, now: Time) {
        if !is_done {
            self.failed.insert(parent, now);
        }
        if let Some(children) = self.waiting.remove(&parent) {
            self.ended.push_back(Ended { parent, is_done, children });
        }
    }

    /// Whether somebody has still to be told.
    pub(super) fn is_behind(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Whether somebody waits for that job.
    pub(super) fn is_waited_for(&self, job: JobId) -> bool {
        self.waiting.contains_key(&job)
    }

    /// Whether a job that is not there is known to have come to nothing.
    pub(super) fn has_failed(&self, job: JobId, now: Time) -> bool {
        self.failed.contains(job, now)
    }

    /// The jobs that wait for each.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn edges(&self) -> &BTreeMap<JobId, BTreeSet<JobId>> {
        &self.waiting
    }
}

impl State {
    /// Takes a job in that waits for others, if it does.
    pub(super) fn waits_from_now(&mut self, slot: Slot) {
        let job = &self.jobs[slot];
        let id = job.id;
        for parent in self.course(job).map_or_else(Vec::new, |course| course.waits_for.clone()) {
            self.graph.waiting.entry(parent).or_default().insert(id);
        }
    }

    /// A job waits for nothing any more, and nothing holds it up.
    #[inline]
    pub(super) fn waits_no_more(&mut self, slot: Slot) {
        if self.is_blocked(&self.jobs[slot]) {
            self.forget_waits(slot);
        }
    }

    fn forget_waits(&mut self, slot: Slot) {
        let id = self.jobs[slot].id;
        let mut parents = Vec::new();
        self.change_course(slot, |course| {
            course.held_by = None;
            parents = std::mem::take(&mut course.waits_for);
        });
        for parent in parents {
            if let Some(children) = self.graph.waiting.get_mut(&parent) {
                children.remove(&id);
                if children.is_empty() {
                    self.graph.waiting.remove(&parent);
                }
            }
        }
    }

    /// Whether somebody waits for that job.
    pub(crate) fn is_waited_for(&self, job: JobId) -> bool {
        self.graph.is_waited_for(job)
    }

    /// The jobs that wait for one.
    pub(crate) fn waiting_for(&self, job: JobId) -> impl Iterator<Item = JobId> + '_ {
        self.graph.waiting.get(&job).into_iter().flatten().copied()
    }

    /// Whether some of those that wait for a job were not told yet that it is over.
    pub(crate) fn is_telling(&self) -> bool {
        self.graph.is_behind()
    }

    /// What the end of a job means for the next of those that wait for it.
    #[inline]
    pub(crate) fn next_told(&mut self, now: Time) -> Option<Event> {
        if self.graph.is_behind() { self.tell_next(now) } else { None }
    }

    fn tell_next(&mut self, now: Time) -> Option<Event> {
        loop {
            let ended = self.graph.ended.front_mut()?;
            let (parent, is_done) = (ended.parent, ended.is_done);
            let Some(job) = ended.children.pop_first() else {
                self.graph.ended.pop_front();
                continue;
            };
            if let Some(event) = self.told(job, parent, is_done, now) {
                return Some(event);
            }
        }
    }

    /// What the end of a parent means for a job; `None` if it does not wait for that any more.
    fn told(&self, job: JobId, parent: JobId, is_done: bool, now: Time) -> Option<Event> {
        let slot = self.find_job(job)?;
        let extra = self.extra(&self.jobs[slot])?;
        extra.course.as_ref().filter(|course| course.waits_for.contains(&parent))?;
        let policy = extra.terms.as_ref().map_or(OnParentFailure::Cancel, |terms| terms.on_parent_failure);
        Some(match policy {
            _ if is_done => Event::JobUnblocked { job, parent },
            OnParentFailure::Run => Event::JobUnblocked { job, parent },
            OnParentFailure::Hold => Event::JobHeldUp { job, parent },
            OnParentFailure::Cancel => {
                Event::JobCancelled { job, kept_until: self.kept_until(slot, now), because_of: Some(parent) }
            }
        })
    }

    /// What the end of a parent does to a job that waits for it.
    pub(super) fn hears_of(&mut self, slot: Slot, parent: JobId, is_held: bool, now: Time) {
        self.detach(slot);
        self.change_course(slot, |course| {
            course.waits_for.retain(|&other| other != parent);
            if is_held {
                course.held_by.get_or_insert(parent);
            }
        });
        self.attach_by_time(slot, now);
    }

    /// In a replay: has all told that is not in the log, and puts the rest off to its end.
    pub(super) fn tell_replayed(&mut self, now: Time) {
        while let Some(mut ended) = self.graph.ended.pop_front() {
            let mut undecided = BTreeSet::new();
            while let Some(job) = ended.children.pop_first() {
                match self.told(job, ended.parent, ended.is_done, now) {
                    Some(Event::JobCancelled { .. }) => drop(undecided.insert(job)),
                    Some(event) => self.apply(event, now),
                    None => {}
                }
            }
            if !undecided.is_empty() {
                self.graph.undecided.push_back(Ended { children: undecided, ..ended });
            }
        }
    }

    /// At the end of a replay of what is left of a log: nobody waits for a job that is not there.
    pub(crate) fn forget_parents(&mut self, now: Time) {
        self.end_replayed_graph();
        let missing: Vec<JobId> =
            self.graph.waiting.keys().copied().filter(|&job| self.find_job(job).is_none()).collect();
        missing.into_iter().for_each(|job| self.graph.ended(job, true, now));
        while let Some(event) = self.next_told(now) {
            self.apply(event, now);
        }
    }

    /// At the end of a replay: what no record told is told now.
    pub(super) fn end_replayed_graph(&mut self) {
        self.graph.ended = std::mem::take(&mut self.graph.undecided);
    }
}
