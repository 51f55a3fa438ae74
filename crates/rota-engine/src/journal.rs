//! The journal: what happened, read from the log's segments, for who asks after it happened.
//!
//! ```text
//!   history ─ far segments ─ what a start needs ─ the segment under way
//!      └────────── those without a gap ──────────────┘ │
//!                 Journal::read ──► News               └ nothing past the record that the reader may see
//! ```
//!
//! It tells the same [`News`] as [`crate::engine::Engine::take_news`], but for those of events that are in no log (a job became
//! ready, was reserved or its lease extended, where that is no durable one …), which are told as they happen or never. A record says less than the state
//! does: the queue of a job is known from its put, if that was passed, else [`Known`] is asked; that of a schedule, which may have had another one before, from what was
//! passed alone; and what a job is that waits for others is left out. The moment by the wall clock is that of the newest start, step of the clock or reclaiming that was
//! passed; before the first of these, it is told as the clock is now.
//!
//! It has no thread and no clock, reads a bounded piece at each call, and holds no file open between them. Segments that are
//! removed meanwhile are said to be gone, and never passed over in silence.

#[cfg(test)]
mod tests;

use crate::engine::Engine;
use crate::event::Event;
use crate::job::{JobId, JobState, QueueName, Time};
use crate::limits::{JOURNAL_JOBS, JOURNAL_STEP_BYTES, SCHEDULES, STEP_OBJECTS};
use crate::log::{Lost, Lsn, Passed, SegmentError, Trail, Walked};
use crate::news::{Around, News, Trace};
use crate::queue::QueueId;
use crate::session::Actor;
use crate::storage::Storage;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;

/// What is known beside the log: an engine at work, as a rule.
pub trait Known {
    /// The queues of these jobs, in their order; `None` of one that is not known any more. At most
    /// [`STEP_OBJECTS`] are asked for at a time.
    fn queues_of(&self, jobs: &[JobId]) -> Vec<Option<QueueName>>;
    /// What the wall clock shows at a moment of engine time, nanoseconds since 1970.
    fn wall_time(&self, moment: Time) -> Time;
}

impl Known for Engine {
    fn queues_of(&self, jobs: &[JobId]) -> Vec<Option<QueueName>> {
        jobs.iter().map(|&job| self.queue_of(job).cloned()).collect()
    }

    fn wall_time(&self, moment: Time) -> Time {
        self.wall_time(moment)
    }
}

/// The next part of what is told.
#[derive(Debug)]
pub enum Part {
    /// What happened, in order.
    News {
        /// At most [`STEP_OBJECTS`]; there may be none.
        news: Vec<News>,
        /// All up to that number were told.
        seen: u64,
        /// Whether that is as far as was asked for.
        is_end: bool,
    },
    /// What comes next is not there any more.
    Gone {
        /// It goes on with the event of that number or a later one; `None` if nothing comes any more.
        from: Option<u64>,
        /// What is wrong with the disk, if nobody removed it.
        why: Option<SegmentError>,
    },
}

/// A reader, at its place.
#[derive(Debug)]
pub struct Journal<S: Storage> {
    trail: Trail<S>,
    /// All up to that number were told, or are gone.
    seen: u64,
    /// Whether it is in the part of a log that came from elsewhere, which says how things are and not how that came.
    is_foreign: bool,
    /// What is to be said next.
    gone: Option<(Option<u64>, Option<SegmentError>)>,
    learned: Learned,
}

/// What the records that were passed said of those to come.
#[derive(Debug, Default)]
struct Learned {
    /// Whose queues are kept in mind; `None`: everybody's.
    only: Option<HashSet<JobId>>,
    queues: HashMap<JobId, QueueName>,
    /// The names in there, each once.
    names: HashSet<QueueName>,
    schedules: HashMap<QueueName, QueueName>,
    /// What the wall clock is ahead of engine time, in nanoseconds.
    wall_offset: Option<i128>,
}

impl<S: Storage> Journal<S> {
    /// Begins after the event of that number. If the journal does not reach back so far, the first part says so.
    ///
    /// `jobs`: those that are of interest, if not all are; the queues of others may be left out.
    ///
    /// # Errors
    /// The disk does not say which segments there are.
    pub fn begin(storage: S, after: u64, jobs: Option<&[JobId]>) -> io::Result<Journal<S>> {
        let begun = Trail::begin(storage, after.saturating_add(1))?;
        let is_gone = begun.first_seq.is_none_or(|first| first > after.saturating_add(1));
        // Where a foreign part ends is not known yet.
        let gone = (is_gone && !begun.is_foreign).then_some((begun.first_seq, None));
        let only = jobs.map(|jobs| jobs.iter().copied().collect());
        let learned = Learned { only, ..Learned::default() };
        Ok(Journal { trail: begun.trail, seen: after, is_foreign: begun.is_foreign, gone, learned })
    }

    /// All up to that number were told, or said to be gone.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether what comes next is gone.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.gone.is_some()
    }

    /// Reads on: what has a number below `below`, up to the record `until`. Up to there the log must be as far as may be
    /// told (see [`crate::engine::Engine::depends_on`]), and no event below that number may stand behind it: both are so of
    /// [`Engine::last_record`] and [`Engine::next_seq`] at any moment, once the log is there. It reads about
    /// [`JOURNAL_STEP_BYTES`] or one record, and waits for the disk.
    pub fn read(&mut self, until: Lsn, below: u64, known: &impl Known) -> Part {
        if let Some((from, why)) = self.gone.take() {
            self.seen = from.map_or(self.seen, |from| self.seen.max(from - 1));
            return Part::Gone { from, why };
        }
        let Journal { trail, seen, is_foreign, gone, learned } = self;
        let mut told = Told { news: Vec::new(), unknown: RefCell::default(), wall_offset: Cell::default(), known };
        let after = *seen;
        let mut take = |passed: Passed<'_>| {
            if passed.seq >= below || gone.is_some() {
                return false;
            }
            let Passed { seq, at, event } = passed;
            let Some(logged) = event else { return true };
            let (queue, actor) = (logged.queue_name().cloned(), logged.actor().cloned());
            let event = logged.resolve(&mut |_| QueueId(u32::MAX));
            learned.learn(&event, queue.as_ref());
            let begins = match &event {
                Event::Started { .. } => Some(seq),
                // One that says that nothing was reclaimed ends what was taken over from elsewhere.
                Event::NumbersKept(kept) if kept.oldest_segment == 1 => Some(seq + 1),
                _ => None,
            };
            if let Some(begin) = begins.filter(|_| *is_foreign || !matches!(event, Event::Started { .. })) {
                *is_foreign = false;
                if begin > after + 1 {
                    told.drop_all();
                    (*seen, *gone) = (after, Some((Some(begin), None)));
                    // A start is met again once that was said.
                    return begin > seq;
                }
            }
            if seq > *seen && !*is_foreign {
                told.take(seq, at, &event, (queue, actor), learned);
                *seen = seq;
            }
            learned.forget(&event);
            true
        };
        let walked = trail.walk(until, STEP_OBJECTS, JOURNAL_STEP_BYTES, &mut take);
        let news = told.end();
        match walked {
            Walked::Lost(Lost { next_seq, why }) => {
                self.gone = Some((next_seq, why));
                self.learned.wall_offset = None;
            }
            Walked::End if self.gone.is_none() => {
                self.seen = self.seen.max(below.saturating_sub(1));
                return Part::News { news, seen: self.seen, is_end: true };
            }
            Walked::End | Walked::More => {}
        }
        if news.is_empty() && self.gone.is_some() {
            return self.read(until, below, known);
        }
        Part::News { news, seen: self.seen, is_end: false }
    }
}

impl Learned {
    /// Takes what a record says of those that follow.
    fn learn(&mut self, event: &Event, queue: Option<&QueueName>) {
        match event {
            Event::Started { engine_time, wall_time, .. } | Event::ClockStepped { engine_time, wall_time } => {
                self.wall_offset = Some(i128::from(wall_time.0) - i128::from(engine_time.0));
            }
            Event::NumbersKept(kept) => {
                self.wall_offset = Some(i128::from(kept.wall_time.0) - i128::from(kept.engine_time.0));
            }
            Event::ScheduleSet(kept) | Event::ScheduleKept(kept) => {
                let has_room = self.schedules.len() < SCHEDULES || self.schedules.contains_key(&kept.name);
                let queue = has_room.then(|| kept.spec.template.queue.clone());
                self.schedules.extend(queue.map(|queue| (kept.name.clone(), queue)));
            }
            Event::JobPut(put) => self.keep(put.job, queue),
            Event::JobKept(kept) | Event::JobReplaced(kept) => self.keep(kept.put.job, queue),
            _ => {}
        }
    }

    fn keep(&mut self, job: JobId, queue: Option<&QueueName>) {
        let Some(queue) = queue else { return };
        let is_wanted = self.only.as_ref().is_none_or(|only| only.contains(&job));
        if !is_wanted || self.queues.len() >= JOURNAL_JOBS {
            return;
        }
        if self.names.len() >= JOURNAL_JOBS {
            self.names.clear();
        }
        if !self.names.contains(queue) {
            self.names.insert(queue.clone());
        }
        let name = self.names.get(queue).unwrap_or(queue);
        self.queues.insert(job, name.clone());
    }

    /// Lets go of what nothing follows on.
    fn forget(&mut self, event: &Event) {
        match event {
            Event::ScheduleRemoved { schedule } => _ = self.schedules.remove(schedule),
            _ => _ = event.ends_job().and_then(|job| self.queues.remove(&job)),
        }
    }
}

/// The news of one step.
struct Told<'k, K> {
    news: Vec<News>,
    /// The places of those whose job's queue is to be asked for.
    unknown: RefCell<Vec<(usize, JobId)>>,
    /// What the wall clock is ahead of engine time now, where that was asked for.
    wall_offset: Cell<Option<i128>>,
    known: &'k K,
}

impl<K: Known> Told<'_, K> {
    fn take(
        &mut self,
        seq: u64,
        at: Time,
        event: &Event,
        (queue, actor): (Option<QueueName>, Option<Actor>),
        learned: &Learned,
    ) {
        let of_record = OfRecord { told: self, queue, learned };
        let Some(one) = News::of(seq, at, event, &of_record) else { return };
        let state = one.kind.final_state().or_else(|| state_after(event, at));
        self.news.push(News { state, actor, ..one });
    }

    fn drop_all(&mut self) {
        self.news.clear();
        self.unknown.get_mut().clear();
    }

    /// The news, with the queues that are known beside the log.
    fn end(self) -> Vec<News> {
        let Told { mut news, unknown, known, .. } = self;
        let unknown = unknown.into_inner();
        if !unknown.is_empty() {
            let jobs: Vec<JobId> = unknown.iter().map(|&(_, job)| job).collect();
            for ((place, _), queue) in unknown.into_iter().zip(known.queues_of(&jobs)) {
                news[place].queue = queue;
            }
        }
        news
    }
}

/// What is known around one record.
struct OfRecord<'a, K> {
    told: &'a Told<'a, K>,
    queue: Option<QueueName>,
    learned: &'a Learned,
}

impl<K: Known> Around for OfRecord<'_, K> {
    fn wall_time(&self, moment: Time) -> Time {
        let now = || i128::from(self.told.known.wall_time(moment).0) - i128::from(moment.0);
        let offset = self.learned.wall_offset.or(self.told.wall_offset.get()).unwrap_or_else(now);
        self.told.wall_offset.set(Some(offset));
        let nanos = i128::from(moment.0) + offset;
        Time(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    fn queue_of(&self, job: JobId) -> Option<QueueName> {
        let queue = self.learned.queues.get(&job).cloned();
        if queue.is_none() {
            self.told.unknown.borrow_mut().push((self.told.news.len(), job));
        }
        queue
    }

    fn queue_name(&self, _: QueueId) -> Option<QueueName> {
        self.queue.clone()
    }

    fn queue_of_schedule(&self, schedule: &QueueName) -> Option<QueueName> {
        self.learned.schedules.get(schedule).cloned()
    }

    fn trace_of(&self, _: JobId) -> Option<Box<Trace>> {
        // That a job is handed out is mostly in no log, and where it is, the trace is with its put.
        None
    }
}

/// What a job is after that, as far as the record says it.
fn state_after(event: &Event, at: Time) -> Option<JobState> {
    let by_time = |run_at| Some(if run_at > at { JobState::Delayed } else { JobState::Ready });
    match event {
        // One that waits for others may have been blocked, or they were over.
        Event::JobPut(put) if put.terms.as_ref().is_some_and(|terms| terms.waits()) => None,
        Event::JobPut(put) => by_time(put.run_at),
        Event::JobReplaced(kept) if kept.put.terms.as_ref().is_some_and(|terms| terms.waits()) => None,
        Event::JobReplaced(kept) => by_time(kept.put.run_at),
        Event::JobReleased { run_at, .. } | Event::JobFailed { run_at, .. } => by_time(*run_at),
        Event::JobKicked { run_at, .. } | Event::JobPulled { run_at, .. } => by_time(*run_at),
        Event::JobBuried { .. } => Some(JobState::Buried),
        Event::LeaseLost { .. } | Event::LeaseDropped { .. } => Some(JobState::Ready),
        Event::LeaseGiven { .. } | Event::LeaseExtended { .. } => Some(JobState::Reserved),
        _ => None,
    }
}
