//! What can be seen of the state without changing it. Each answer is read from kept counters and heads of lines.

use super::{State, Totals};
use crate::command::{HeldBy, JobView};
use crate::event::QueueNames;
use crate::job::{JobId, JobState, JobTally, QueueName, Time};
use crate::pages::Slot;
use crate::queue::{QueueId, QueueView, Times};
use crate::terms::Terms;
use std::time::Duration;

impl State {
    /// A job that is there: open, or final and kept.
    pub(crate) fn view_job(&self, id: JobId, now: Time) -> Option<JobView<'_>> {
        Some(self.view(self.slot_of(id)?, now))
    }

    /// Who holds a job, if anybody does.
    pub(crate) fn held_by(&self, id: JobId) -> Option<HeldBy<'_>> {
        let job = &self.jobs[self.find_job(id).filter(|&slot| self.jobs[slot].state == JobState::Reserved)?];
        let lease = &self.leases[job.lease_slot()];
        let session = &self.sessions[lease.session.slot()];
        Some(HeldBy {
            actor: session.actor.as_ref(),
            origin: session.origin.as_deref(),
            since: lease.since,
            until: lease.deadline,
        })
    }

    /// Whether that job is known to have been cancelled, or to have expired, though it is not kept.
    pub(crate) fn came_to_nothing(&self, job: JobId, now: Time) -> bool {
        self.graph.has_failed(job, now)
    }

    /// The job of that key in a queue, if it is in memory.
    pub(crate) fn view_key(&self, queue: QueueId, key: &[u8], now: Time) -> Option<JobView<'_>> {
        self.find_key(queue, key).map(|slot| self.view(slot, now))
    }

    /// Every job in memory from that place on, each with the place to go on from.
    pub(crate) fn view_from(&self, place: u32, now: Time) -> impl Iterator<Item = (u32, JobView<'_>)> + '_ {
        let mut next = Some(place);
        std::iter::from_fn(move || {
            let slot = self.jobs.first_from(Slot(next?))?;
            next = slot.0.checked_add(1);
            Some((next?, self.view(slot, now)))
        })
    }

    /// The job in that place, if there is one.
    pub(crate) fn view_at(&self, place: u32, now: Time) -> Option<JobView<'_>> {
        self.jobs.get(Slot(place)).map(|_| self.view(Slot(place), now))
    }

    /// What the wall clock shows at a moment of engine time, as far as is known.
    pub(crate) fn wall_time(&self, moment: Time) -> Time {
        moment.on_wall_clock(self.numbers.wall_offset.unwrap_or_default())
    }

    /// The first job of a queue in that state: next to be reserved (where limit keys hold all back, the first of those), next due, first buried. None for others, which stand in
    /// no line.
    pub(crate) fn view_first(&self, queue: QueueId, state: JobState, now: Time) -> Option<JobView<'_>> {
        let queue = self.queue(queue);
        let slot = match state {
            JobState::Ready => {
                let held_back = || queue.groups.as_ref().and_then(|groups| groups.first_held_back());
                queue.ready.first().or_else(held_back)
            }
            JobState::Delayed => self.first_delayed(queue).next(),
            JobState::Buried => queue.buried.first_key_value().map(|(_, &slot)| slot),
            _ => None,
        };
        slot.map(|slot| self.view(slot, now))
    }

    fn view(&self, slot: Slot, now: Time) -> JobView<'_> {
        let job = &self.jobs[slot];
        let lease = (job.state == JobState::Reserved).then(|| &self.leases[job.lease_slot()]);
        let time_left = match (job.state, lease) {
            (JobState::Delayed, _) => self.run_at(job).since(now),
            (_, Some(lease)) => lease.deadline.since(now),
            _ => Duration::ZERO,
        };
        let (extra, limits) = (self.extra(job), self.limits(job));
        let tally = extra.map_or_else(JobTally::default, |extra| extra.tally);
        JobView {
            id: job.id,
            queue: &self.queue(job.queue).name,
            queue_id: job.queue,
            state: job.state,
            priority: job.priority,
            created_at: job.created_at,
            run_at: self.run_at(job),
            delay: self.delay(job),
            ttr: self.ttr(job),
            time_left,
            max_attempts: limits.attempts,
            max_lost_leases: limits.lost_leases,
            lease: lease.map(|lease| (lease.session, lease.token, lease.deadline)),
            is_lease_durable: lease.is_some_and(|lease| lease.is_durable),
            key: extra.and_then(|extra| extra.key.as_deref()),
            body: self.body(job),
            tally: JobTally { reserves: self.reserves(slot), ..tally },
            terms: extra.and_then(|extra| extra.terms.as_deref()),
            course: extra.and_then(|extra| extra.course.as_deref()),
            progress: lease.and_then(|lease| lease.progress.as_deref()),
        }
    }

    pub(crate) fn view_queue(&self, id: QueueId, now: Time) -> QueueView {
        let queue = self.queue(id);
        // The default queue is held in being by a reference that is nobody's.
        let kept = u32::from(queue.created == 1);
        QueueView {
            name: queue.name.clone(),
            urgent: queue.urgent,
            ready: queue.ready_jobs(),
            held_back: queue.groups.as_ref().map_or(0, |groups| groups.held_back()),
            reserved: queue.reserved,
            delayed: queue.delayed_jobs() as u64 + queue.cold,
            buried: queue.buried.len() as u64,
            blocked: queue.blocked.len() as u64,
            ended: queue.ended.len() as u64,
            body_bytes: queue.body_bytes,
            settings: queue.settings.as_deref().cloned().unwrap_or_default(),
            totals: queue.totals,
            refused: queue.refused.as_deref().copied().unwrap_or_default(),
            using: queue.using - kept,
            watching: queue.watching,
            waiting: queue.waiting.len() as u64,
            pause: if queue.is_paused(now) { queue.pause_length } else { Duration::ZERO },
            pause_left: queue.paused_until.since(now),
        }
    }

    /// What was agreed for a job that is in memory, beyond its place in line.
    pub(crate) fn terms_of(&self, id: JobId) -> Option<&Terms> {
        self.extra(&self.jobs[self.slot_of(id)?])?.terms.as_deref()
    }

    pub(crate) fn times_of_queue(&self, id: QueueId) -> Option<&Times> {
        self.queue(id).times.as_deref()
    }

    /// Queues in the order of their creation, from after the one of that number on (0: from the first), each with its
    /// number.
    pub(crate) fn queues_after(&self, number: u64) -> impl DoubleEndedIterator<Item = (u64, QueueId)> + '_ {
        let after = (std::ops::Bound::Excluded(number), std::ops::Bound::Unbounded);
        self.queues_in_order.range(after).map(|(&number, &id)| (number, id))
    }

    pub(crate) fn queues(&self) -> usize {
        self.queues.len()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl QueueNames for State {
    fn queue_name(&self, queue: QueueId) -> &QueueName {
        &self.queue(queue).name
    }
}
