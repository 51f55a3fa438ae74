//! Objects as the log keeps them whole: what a compaction or a snapshot writes of a job, a queue and the numbers, and how
//! a replay that begins behind their first records takes them back.
//!
//! While the engine lives these records change nothing. Nothing here decides when they are written.

use super::State;
use crate::command::Body;
use crate::event::{Event, KeptJob, KeptNumbers, KeptQueue, PutJob};
use crate::job::{Job, JobExtra, JobId, JobState, QueueName, Time};
use crate::log::Lsn;
use crate::pages::Slot;
use crate::queue::QueueId;

/// Length of a put's record without the queue's name, the body and the key, in bytes.
const PUT_RECORD_BYTES: u64 = 73;

impl State {
    /// Length of the records that everything that is open would fill, in bytes, but for what may leave memory, or did.
    pub(crate) fn live_bytes(&self) -> u64 {
        let beside = self.queue_bytes + self.schedules.bytes() as u64;
        let beside = beside + self.answers.bytes() + self.graph.failed.bytes();
        self.job_bytes - self.distant_bytes + beside
    }

    /// The same of what may leave memory.
    pub(crate) fn distant_bytes(&self) -> u64 {
        self.distant_bytes
    }

    pub(super) fn record_bytes(&self, job: &Job) -> u64 {
        let rest = self.extra(job).map_or(0, JobExtra::record_bytes);
        plain_record_bytes(&self.queue(job.queue).name, job.body.length) + rest as u64
    }

    /// A job that is there, whole; `None` if there is none of that id. `body` is that of its put.
    pub(crate) fn kept_job(&self, id: JobId, body: &[u8]) -> Option<KeptJob> {
        self.slot_of(id).map(|slot| {
            let job = &self.jobs[slot];
            let body = if self.extra(job).is_some_and(JobExtra::is_replaced) {
                self.bodies.get(job.body).expect("the body of a replaced job is in memory")
            } else {
                body
            };
            self.kept_job_at(slot, body.into())
        })
    }

    /// The body of the job in that place, or where to read it.
    pub(crate) fn body_at(&self, slot: Slot) -> Body<&[u8]> {
        self.body(&self.jobs[slot])
    }

    pub(crate) fn kept_job_at(&self, slot: Slot, body: Box<[u8]>) -> KeptJob {
        let job = &self.jobs[slot];
        let (extra, limits) = (self.extra(job), self.limits(job));
        KeptJob {
            put: PutJob {
                job: job.id,
                queue: job.queue,
                priority: job.priority,
                created_at: job.created_at,
                run_at: self.run_at(job),
                at_wall: extra.and_then(|extra| extra.at_wall),
                ttr: self.ttr(job),
                max_lost_leases: limits.lost_leases,
                max_attempts: limits.attempts,
                key: extra.and_then(|extra| extra.key.clone()),
                terms: extra.and_then(|extra| extra.terms.clone()),
                body,
            },
            delay: extra.and_then(|extra| extra.delay),
            tally: extra.map_or_else(Default::default, |extra| extra.tally),
            buried: extra.filter(|_| job.state == JobState::Buried).map(|extra| extra.burial),
            course: extra.and_then(|extra| extra.course.clone()),
            lease: self.kept_lease(job).map(Box::new),
        }
    }

    pub(super) fn restore_job(&mut self, kept: KeptJob, now: Time) {
        self.queue_mut(kept.put.queue).logged = true;
        let (buried, lease) = (kept.buried, kept.lease.as_deref().copied());
        let job = self.make_job(kept);
        let slot = self.insert_job(job);
        match (buried, lease) {
            _ if self.ended(&self.jobs[slot]).is_some() => self.attach_ended(slot),
            (_, Some(lease)) => self.hold_again(slot, lease),
            (Some(number), None) => self.attach_buried(slot, number),
            (None, None) => self.attach_by_time(slot, now),
        }
    }

    /// Takes note that the record that is being applied holds a job whole.
    pub(super) fn note_written_whole(&mut self, job: JobId) {
        if let Some(slot) = self.slot_of(job)
            && self.extra(&self.jobs[slot]).is_some_and(JobExtra::is_replaced)
        {
            self.extra_mut(slot).whole_at = self.far.at;
        }
    }

    /// Whether the log holds a job whole behind that record, so that this one is not needed. It is known of those that were replaced.
    pub(crate) fn is_written_behind(&self, job: JobId, record: Lsn) -> bool {
        let extra = self.slot_of(job).and_then(|slot| self.extra(&self.jobs[slot]));
        extra.is_some_and(|extra| extra.whole_at > record)
    }

    /// Takes note that a job of the log was written again, though it may have been put so far ahead that it could have left memory:
    /// others wait for it, or it is due soon by now. From now on it is counted, else what it takes would be reclaimed without end.
    pub(super) fn note_written_again(&mut self, slot: Slot) {
        let is_in_log = self.jobs[slot].state == JobState::Delayed && self.home(slot).is_none();
        if self.near.is_some() && is_in_log {
            self.is_distant_no_more(slot);
        }
    }

    pub(super) fn restore_reserves(&mut self, slot: Slot, reserves: u32) {
        if self.extra(&self.jobs[slot]).map_or(0, |extra| extra.tally.reserves) != reserves {
            self.extra_mut(slot).tally.reserves = reserves;
        }
    }

    /// A queue that the log knows of; `None` if it does not.
    pub(crate) fn kept_queue(&self, id: QueueId) -> Option<KeptQueue> {
        let queue = self.queue(id);
        queue.logged.then_some(KeptQueue {
            queue: id,
            totals: queue.totals,
            paused_until: queue.paused_until,
            pause_length: queue.pause_length,
            settings: queue.settings.clone(),
        })
    }

    /// Whether the log needs nothing before that record to know of a queue: it has it whole from there on, and nothing was counted
    /// since. What else may have happened to it then has records of its own, none of which it takes a job to replay.
    pub(crate) fn is_queue_written_from(&self, id: QueueId, record: Lsn) -> bool {
        let queue = self.queue(id);
        let (at, sum) = queue.whole_at;
        at >= record && queue.totals.sum() == sum
    }

    pub(super) fn restore_queue(&mut self, kept: &KeptQueue, now: Time) {
        let at = self.far.at;
        let queue = self.queue_mut(kept.queue);
        let before = queue.per_key();
        queue.totals = kept.totals;
        queue.logged = true;
        queue.whole_at = (at, kept.totals.sum());
        if kept.paused_until > now && queue.paused_until != kept.paused_until {
            queue.paused_until = kept.paused_until;
            queue.pause_length = kept.pause_length;
            self.wake_queue_at(kept.queue, kept.paused_until);
        }
        self.set_up(kept.queue, kept.settings.clone());
        self.limits_changed(kept.queue, before);
    }

    pub(crate) fn kept_numbers(&self, oldest_segment: u64, far_jobs: Option<u32>, now: Time) -> KeptNumbers {
        let numbers = &self.numbers;
        let offset = numbers.wall_offset.unwrap_or_default();
        let wall = (i128::from(now.0) + offset).clamp(0, i128::from(u64::MAX));
        KeptNumbers {
            oldest_segment,
            puts: self.totals.puts,
            completed: self.totals.completed,
            cancelled: self.totals.cancelled,
            expired: self.totals.expired,
            lost_leases: self.totals.lost_leases,
            turns: self.totals.turns,
            epoch: numbers.epoch,
            next_job_id: numbers.next_job_id,
            job_ids_below: numbers.job_ids_below,
            next_seq: numbers.next_seq,
            seqs_below: numbers.seqs_below,
            burials: numbers.burials,
            engine_time: now,
            wall_time: Time(u64::try_from(wall).expect("clamped to the range")),
            far_jobs,
        }
    }

    pub(super) fn restore_numbers(&mut self, kept: &KeptNumbers) {
        let (totals, numbers) = (&mut self.totals, &mut self.numbers);
        totals.puts = kept.puts;
        totals.completed = kept.completed;
        totals.cancelled = kept.cancelled;
        totals.expired = kept.expired;
        totals.lost_leases = kept.lost_leases;
        totals.turns = kept.turns;
        numbers.epoch = kept.epoch;
        numbers.next_job_id = numbers.next_job_id.max(kept.next_job_id);
        numbers.job_ids_below = kept.job_ids_below;
        numbers.next_seq = numbers.next_seq.max(kept.next_seq);
        numbers.seqs_below = kept.seqs_below;
        numbers.burials = numbers.burials.max(kept.burials);
        numbers.wall_offset = Some(i128::from(kept.wall_time.0) - i128::from(kept.engine_time.0));
        self.wake_schedules();
    }

    /// Whether an event can follow those that were applied: the job or the schedule that it changes is there, or others
    /// wait for the job's end.
    pub(crate) fn can_apply(&self, event: &Event) -> bool {
        let is_whole = matches!(event, Event::ScheduleSet(_) | Event::ScheduleKept(_));
        if let Some(schedule) = event.schedule().filter(|_| !is_whole) {
            return self.has_schedule(schedule);
        }
        let is_waited_for = event.ends_job().is_some_and(|job| self.graph.is_waited_for(job));
        is_waited_for || event.changes_job().is_none_or(|job| self.find_job(job).is_some())
    }

    /// Who has a key in a queue.
    pub(crate) fn holder_of_key(&self, queue: QueueId, key: &[u8]) -> Option<JobId> {
        self.find_key(queue, key).map(|slot| self.jobs[slot].id)
    }

    /// Whether a job is in a queue, open or not.
    pub(crate) fn has_jobs(&self, queue: QueueId) -> bool {
        let queue = self.queue(queue);
        queue.open_jobs() > 0 || !queue.ended.is_empty()
    }

    /// Every job of a queue, out of all jobs.
    pub(crate) fn jobs_of(&self, queue: QueueId) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.queue == queue).map(|(_, job)| job.id).collect()
    }
}

/// Length in the log, about, in bytes, of a put that has nothing more to it than a body.
pub(super) fn plain_record_bytes(queue: &QueueName, body_bytes: u32) -> u64 {
    PUT_RECORD_BYTES + queue.as_str().len() as u64 + u64::from(body_bytes)
}
