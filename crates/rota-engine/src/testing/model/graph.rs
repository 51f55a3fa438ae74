//! Which job waits for which in the model, and how jobs end there.

use super::{
    BTreeMap, BadTerms, Expiry, JobId, JobState, Model, OnParentFailure, PARENTS, ParentNamed, Place, Put, Refusal,
    Terms, Time, VecDeque, representable,
};
use crate::command::Due;
use crate::limits::{FAILED_REMEMBERED, FAILED_REMEMBERED_FOR};

impl Model {
    /// The terms of a put, and whether one of its parents ends it at once.
    pub(super) fn terms(&self, id: JobId, put: &Put) -> Result<(Terms, bool), Refusal> {
        let mut terms = put.terms.clone().unwrap_or_default();
        if put.after.len() > PARENTS {
            return Err(BadTerms::Parents.into());
        }
        terms.expires_at = put.expires.map(|expires| match expires {
            Due::In(delay) => Expiry::Engine(self.now.after(delay)),
            Due::At(wall) => Expiry::Wall(wall),
        });
        terms.check()?;
        if let Some(back_off) = &mut terms.back_off {
            (back_off.first, back_off.most) = (representable(back_off.first), representable(back_off.most));
        }
        let mut failed = None;
        for (number, parent) in put.after.iter().enumerate() {
            let unknown = Refusal::UnknownParent(number + 1);
            let parent = match parent {
                ParentNamed::Id(parent) => *parent,
                ParentNamed::Key { queue, key } => self.find_key(queue, key).ok_or(unknown)?,
            };
            if parent == JobId(0) || parent.0 >= self.next_job_id {
                return Err(unknown);
            }
            if parent >= id {
                return Err(Refusal::LaterParent(parent));
            }
            match self.jobs.get(&parent) {
                Some(job) if job.is_open() => terms.after.push(parent),
                Some(job) if job.place.state() == JobState::Done => {}
                None if !self.has_failed(parent) => {}
                _ => drop(failed.get_or_insert(parent)),
            }
        }
        terms.after.sort_unstable();
        terms.after.dedup();
        if terms.on_parent_failure == OnParentFailure::Hold {
            terms.failed_parent = failed;
        }
        Ok((terms.clone(), failed.is_some() && terms.on_parent_failure == OnParentFailure::Cancel))
    }

    /// Ends a job, and lets those hear of it that wait for it, and theirs.
    pub(super) fn end(&mut self, id: JobId, state: JobState, result: Option<Vec<u8>>) {
        let mut ends = VecDeque::from([(id, state, result)]);
        while let Some((id, state, result)) = ends.pop_front() {
            if !self.jobs.get(&id).is_some_and(super::Job::is_open) {
                continue;
            }
            self.end_alone(id, state, result);
            let children: Vec<JobId> =
                self.jobs.iter().filter(|(_, job)| job.waits_for.contains(&id)).map(|(&id, _)| id).collect();
            for child in children {
                let now = self.now;
                let job = self.job_mut(child);
                let policy = job.terms.on_parent_failure;
                if state != JobState::Done && policy == OnParentFailure::Cancel {
                    ends.push_back((child, JobState::Cancelled, None));
                    continue;
                }
                job.waits_for.remove(&id);
                if state != JobState::Done && policy == OnParentFailure::Hold {
                    job.held_by.get_or_insert(id);
                }
                job.settle_by_time(now);
            }
        }
    }

    fn end_alone(&mut self, id: JobId, state: JobState, result: Option<Vec<u8>>) {
        let now = self.now;
        let job = self.jobs.get_mut(&id).expect("what ends is there");
        let queue = self.queues.get_mut(&job.queue).expect("a job's queue is there");
        queue.totals.deletes += 1;
        match state {
            JobState::Cancelled => queue.totals.cancelled += 1,
            JobState::Expired => queue.totals.expired += 1,
            _ => {}
        }
        let retain = queue.settings.retain.filter(|_| !self.homeless.contains(&id));
        if let Some(retain) = retain {
            job.place = Place::Ended { state, at: now, until: now.after(retain), result };
            job.waits_for.clear();
            job.held_by = None;
            job.progress = None;
        } else {
            self.jobs.remove(&id);
        }
        *match state {
            JobState::Done => &mut self.totals.completed,
            JobState::Expired => &mut self.totals.expired,
            _ => &mut self.totals.cancelled,
        } += 1;
        if state != JobState::Done {
            self.failed.insert((now, id));
            if self.failed.len() > FAILED_REMEMBERED {
                self.failed.pop_first();
            }
        }
    }

    /// The jobs that are known to have come to nothing, with when.
    pub fn failed(&self) -> impl DoubleEndedIterator<Item = (Time, JobId)> {
        self.failed.iter().copied().filter(|(at, _)| at.after(FAILED_REMEMBERED_FOR) > self.now)
    }

    fn has_failed(&self, id: JobId) -> bool {
        self.failed().any(|(_, failed)| failed == id)
    }

    /// The first job that expires, and the first that was kept long enough, of each queue that has one: with when.
    pub(super) fn ends_by_time(&self) -> BTreeMap<(Time, u8, JobId), crate::job::QueueName> {
        let at = |expiry| match expiry {
            Expiry::Engine(at) => at,
            Expiry::Wall(wall) => self.engine_time(wall),
        };
        let expiry = |(&id, job): (&JobId, &super::Job)| Some(((at(job.expiry()?), 0, id), job.queue.clone()));
        let forgotten = |(&id, job): (&JobId, &super::Job)| match job.place {
            Place::Ended { until, .. } => Some(((until, 2, id), job.queue.clone())),
            _ => None,
        };
        self.jobs.iter().filter_map(expiry).chain(self.jobs.iter().filter_map(forgotten)).collect()
    }
}
