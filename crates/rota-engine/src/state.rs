//! The state machine: `decide` says what a command would make happen, `apply` makes it happen.
//!
//! ```text
//!   command ──decide──► events ──apply──► state          (live)
//!                          log ──apply──► state          (recovery)
//! ```
//!
//! [`State::decide`] reads and never writes; [`State::apply`] is the one way in which jobs change, and it cannot fail.
//! Only [`crate::engine`] calls them. Nothing here asks a clock, throws a die or touches a disk: the same events
//! applied to the same state give the same state.
//!
//! What waits for a moment of the wall clock stands by that moment, so that nothing moves when the clock is set: see `wall.rs`.

mod answers;
mod apply;
#[cfg(any(test, feature = "testing"))]
mod check;
mod decide;
mod due;
mod durable;
mod failed;
mod far;
mod graph;
mod groups;
mod kept;
mod lines;
mod replay;
mod schedules;
mod sessions;
mod standing;
mod touch;
mod view;
mod wall;
mod why;

use answers::Answers;
pub(crate) use due::Due;
use graph::Graph;
pub(crate) use replay::Replay;
use schedules::Schedules;

use crate::bodies::{Bodies, BodyHandle};
use crate::command::{Body, BodyPlace, Delivery, Refusal};
use crate::far::{Far, Moments};
use crate::ids::Ids;
use crate::index::{Hashed, Index};
use crate::job::{ExtraSlot, Job, JobExtra, JobId, JobLimits, JobState, Jobs, QueueName, Time};
use crate::lease::{Lease, LeaseOrder};
use crate::log::{BodyWritten, Lsn};
use crate::pages::{Pages, Slot};
use crate::queue::{Queue, QueueId, Times, Turns};
use crate::refused::PutRefused;
use crate::session::{Session, SessionId};
use crate::terms::{Course, Ended};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

/// Everything that is known, at one moment.
#[derive(Debug)]
pub(crate) struct State {
    jobs: Jobs,
    extras: Pages<JobExtra>,
    bodies: Bodies,
    by_id: Ids,
    by_key: Index,
    queues: Pages<Queue>,
    queues_by_name: Index,
    queues_in_order: BTreeMap<u64, QueueId>,
    sessions: Pages<Session>,
    leases: Pages<Lease>,
    /// The session that holds what was held durably before this start, once there was one.
    past: Option<SessionId>,
    /// The moment of the record that was replayed last.
    replayed_at: Time,
    /// How many queues are set up to have answers wait for the disk.
    synced_queues: usize,
    /// When each queue and session is to be looked at next.
    wakes: BTreeSet<(Time, Owner)>,
    /// When each queue is to be looked at next for what waits for the wall clock there, by what that shows then.
    wall_wakes: BTreeSet<(Time, QueueId)>,
    /// Queues in which a job became ready while somebody waited: by the number of the longest wait for each.
    unserved: BinaryHeap<Reverse<(u64, QueueId)>>,
    /// Queues that something or somebody left, to be looked at for the last time.
    left: Vec<QueueId>,
    numbers: Numbers,
    /// What sessions are to be told that waited, or follow their leases, and nobody took yet.
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) totals: Totals,
    /// How long things took, over all queues.
    pub(crate) times: Box<Times>,
    /// Length of the records that would hold all open jobs, in bytes.
    job_bytes: u64,
    /// The same of all queues.
    queue_bytes: u64,
    /// What of `job_bytes` jobs take that are so far ahead that they may leave memory.
    distant_bytes: u64,
    /// How far ahead delayed jobs are held in memory; `None`: all.
    near: Option<Duration>,
    /// The most queues: past it none comes to be that stays.
    pub(crate) most_queues: usize,
    /// Every job that has to be in memory by then is.
    near_until: Moments,
    /// The same, but that some may still be on their way.
    near_goal: Moments,
    /// How often the wall clock was set.
    clock_sets: u64,
    pub(crate) far: Far,
    graph: Graph,
    /// Queues some of whose limit keys were not told yet what holds for them now.
    telling_groups: BTreeSet<QueueId>,
    answers: Answers,
    schedules: Schedules,
    /// Nanoseconds that a spoke covers.
    spoke: u64,
}

/// Whose turn it is at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    Queue(QueueId),
    Session(SessionId),
    Answers,
}

/// Every number that is handed out, and what the log says of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) epoch: u32,
    pub(crate) next_job_id: u64,
    pub(crate) job_ids_below: u64,
    pub(crate) next_seq: u64,
    pub(crate) seqs_below: u64,
    /// The last record was that of an orderly stop.
    stopped: bool,
    /// Wall clock minus engine time, nanoseconds; `None` in a replay that has not come to where the log says it.
    wall_offset: Option<i128>,
    leases: u64,
    waits: u64,
    burials: u64,
    queues: u64,
    sessions: u64,
}

/// Counts over all queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Jobs by state, indexed by `JobState as usize`.
    pub by_state: [u64; JobState::ALL.len()],
    /// Ready jobs of a priority below `Priority::URGENT_BELOW`.
    pub urgent: u64,
    /// Jobs put.
    pub puts: u64,
    /// Jobs completed.
    pub completed: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
    /// Jobs that expired.
    pub expired: u64,
    /// Leases that ran out.
    pub lost_leases: u64,
    /// What else was done to jobs.
    pub turns: Turns,
    /// Sessions that wait for a job.
    pub waiting: u64,
}

impl Totals {
    /// How many jobs are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.by_state[..JobState::OPEN].iter().sum()
    }
}

impl State {
    pub(crate) fn new(spoke: Duration, near: Option<Duration>) -> State {
        let spoke = u64::try_from(spoke.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut state = State {
            jobs: Jobs::default(),
            extras: Pages::default(),
            bodies: Bodies::default(),
            by_id: Ids::default(),
            by_key: Index::default(),
            queues: Pages::default(),
            queues_by_name: Index::default(),
            queues_in_order: BTreeMap::new(),
            sessions: Pages::default(),
            leases: Pages::default(),
            past: None,
            replayed_at: Time(0),
            synced_queues: 0,
            wakes: BTreeSet::new(),
            wall_wakes: BTreeSet::new(),
            unserved: BinaryHeap::new(),
            left: Vec::new(),
            numbers: Numbers { next_job_id: 1, job_ids_below: 1, next_seq: 1, seqs_below: 1, ..Numbers::default() },
            deliveries: Vec::new(),
            totals: Totals::default(),
            times: Box::default(),
            job_bytes: 0,
            queue_bytes: 0,
            distant_bytes: 0,
            most_queues: usize::MAX,
            near: near.map(|near| near.max(Duration::from_nanos(1))),
            near_until: Moments::FIRST,
            near_goal: Moments::FIRST,
            clock_sets: 0,
            far: Far::default(),
            graph: Graph::default(),
            telling_groups: BTreeSet::new(),
            answers: Answers::default(),
            schedules: Schedules::default(),
            spoke,
        };
        let default = state.open_queue(&QueueName::new("default").expect("it keeps the rule for names"));
        // Something always refers to it, so it never goes.
        state.queue_mut(default).using = 1;
        state
    }

    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// The number of the event under way; the next one gets the next.
    pub(crate) fn take_seq(&mut self) -> u64 {
        let seq = self.numbers.next_seq;
        self.numbers.next_seq += 1;
        seq
    }

    /// Applies an event that the log holds, with its place, its number and its moment.
    pub(crate) fn replay(&mut self, event: crate::event::Event, lsn: Lsn, seq: u64, at: Time) {
        self.far.at = lsn;
        self.saw(seq);
        self.apply(event, at);
        self.tell_replayed(at);
        self.replayed_at = at;
    }

    /// Takes note that the log has an event of that number.
    fn saw(&mut self, seq: u64) {
        self.numbers.next_seq = self.numbers.next_seq.max(seq + 1);
    }

    pub(crate) fn queue(&self, id: QueueId) -> &Queue {
        &self.queues[id.slot()]
    }

    /// Counts puts into a queue that were refused.
    pub(crate) fn count_refused_puts(&mut self, queue: QueueId, why: PutRefused, puts: u64) {
        self.queue_mut(queue).refused.get_or_insert_default().count(why, puts);
    }

    fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        &mut self.queues[id.slot()]
    }

    /// The place of a job that is there, open or not; it stays the same as long as the job is there and is not replaced.
    pub(crate) fn slot_of(&self, id: JobId) -> Option<Slot> {
        self.by_id.find(id)
    }

    /// Which queue a job is in, as far as that is known.
    pub(crate) fn queue_of(&self, id: JobId) -> Option<QueueId> {
        let known = || self.far.known(id).map(|(_, queue)| queue);
        self.slot_of(id).map(|slot| self.jobs[slot].queue).or_else(known)
    }

    /// The state of a job that is in memory.
    pub(crate) fn state_of(&self, id: JobId) -> Option<JobState> {
        self.slot_of(id).map(|slot| self.jobs[slot].state)
    }

    /// The id of the job in that place.
    pub(crate) fn id_at(&self, slot: Slot) -> JobId {
        self.jobs[slot].id
    }

    /// The first place from `slot` on that has a job.
    pub(crate) fn job_from(&self, slot: Slot) -> Option<Slot> {
        self.jobs.first_from(slot)
    }

    /// The place of an open job.
    fn find_job(&self, id: JobId) -> Option<Slot> {
        self.slot_of(id).filter(|&slot| !self.jobs[slot].state.is_final())
    }

    fn extra(&self, job: &Job) -> Option<&JobExtra> {
        job.extra.get().map(|extra| &self.extras[extra])
    }

    /// What more there is to a job, from now on if there was nothing yet.
    fn extra_mut(&mut self, slot: Slot) -> &mut JobExtra {
        let job = &mut self.jobs[slot];
        let extra = job.extra.get().unwrap_or_else(|| {
            let extra = self.extras.insert(JobExtra { limits: job.extra.limits(), ..JobExtra::default() });
            job.extra = ExtraSlot::from(extra);
            extra
        });
        &mut self.extras[extra]
    }

    /// What became of it, if there is more than its place in line.
    fn course(&self, job: &Job) -> Option<&Course> {
        self.extra(job).and_then(|extra| extra.course.as_deref())
    }

    fn ended(&self, job: &Job) -> Option<&Ended> {
        self.course(job).and_then(|course| course.ended.as_ref())
    }

    fn is_blocked(&self, job: &Job) -> bool {
        self.course(job).is_some_and(Course::is_blocked)
    }

    /// After how many lost leases and failed attempts a job is buried.
    fn limits(&self, job: &Job) -> JobLimits {
        self.extra(job).map_or_else(|| job.extra.limits(), |extra| extra.limits)
    }

    /// A buried job's number in the order of burials.
    fn burial(&self, slot: Slot) -> u64 {
        self.extra(&self.jobs[slot]).expect("a buried job has more to it").burial
    }

    /// A job's body, or where to read it.
    fn body(&self, job: &Job) -> Body<&[u8]> {
        match self.bodies.get(job.body) {
            Some(body) => Body::InMemory(body),
            None => {
                let record = job.body.place().expect("a body that is not in memory is in the log");
                Body::InLog(BodyPlace { job: job.id, record, body_bytes: job.body.length })
            }
        }
    }

    /// Lets go of a body that is in the log, if its job is still there. It is no event: what the job is does not change.
    pub(crate) fn body_written(&mut self, body: BodyWritten) {
        let Some(slot) = self.slot_of(body.job) else { return };
        // Which of a replaced job's records was written is not told, and its body is not that of the first.
        let is_replaced = self.extra(&self.jobs[slot]).is_some_and(JobExtra::is_replaced);
        let job = &mut self.jobs[slot];
        // Nothing is saved on a body of no length, and nothing has to be read.
        if job.body.length == 0 || is_replaced {
            return;
        }
        match BodyHandle::in_log(job.body.length, body.record) {
            Some(in_log) => self.bodies.remove(std::mem::replace(&mut job.body, in_log)),
            // It stays where it is: in memory, since what is written again stands in the front of its segment.
            None => debug_assert!(job.body.place().is_none(), "a body lost its place"),
        }
    }

    /// The delay last asked for.
    fn delay(&self, job: &Job) -> Duration {
        let asked = self.extra(job).and_then(|extra| extra.delay);
        asked.unwrap_or_else(|| self.run_at(job).since(job.created_at))
    }

    /// Length of a lease on it.
    fn ttr(&self, job: &Job) -> Duration {
        let long = || Duration::from_nanos(self.extra(job).expect("its length of a lease is there").ttr);
        job.ttr.get().unwrap_or_else(long)
    }

    fn find_key(&self, queue: QueueId, key: &[u8]) -> Option<Slot> {
        self.by_key.find(Hashed::name(queue.0, key), |slot| {
            let job = &self.jobs[slot];
            job.queue == queue && self.extra(job).is_some_and(|extra| extra.key.as_deref() == Some(key))
        })
    }

    pub(crate) fn find_queue(&self, name: &QueueName) -> Option<QueueId> {
        let at = Hashed::name(0, name.as_str().as_bytes());
        self.queues_by_name.find(at, |slot| self.queues[slot].name == *name).map(|slot| QueueId(slot.0))
    }

    /// The queue of that name, made if there is none. One that stays unused is to be told to [`State::leave_queue`].
    pub(crate) fn open_queue(&mut self, name: &QueueName) -> QueueId {
        if let Some(id) = self.find_queue(name) {
            return id;
        }
        self.numbers.queues += 1;
        let created = self.numbers.queues;
        let queue = Queue::new(name.clone(), created);
        self.queue_bytes += queue.record_bytes();
        let slot = self.queues.insert(queue);
        let queues = &self.queues;
        let hash = |slot: Slot| Hashed::name(0, queues[slot].name.as_str().as_bytes());
        self.queues_by_name.insert(hash(slot), slot, hash);
        self.queues_in_order.insert(created, QueueId(slot.0));
        QueueId(slot.0)
    }

    /// Refuses to have a queue stay that is there only because somebody names it, where there are too many.
    pub(crate) fn may_stay(&self, id: QueueId) -> Result<(), Refusal> {
        let is_one_too_many = self.queues.len() > self.most_queues && self.queue(id).is_bare();
        if is_one_too_many { Err(Refusal::TooManyQueues) } else { Ok(()) }
    }

    /// Remembers to look whether a queue is needed any more.
    pub(crate) fn leave_queue(&mut self, id: QueueId) {
        if self.queue(id).is_idle() {
            self.left.push(id);
        }
    }

    /// A queue that nothing needs any more, and whether the log knows of it.
    pub(crate) fn next_idle_queue(&mut self) -> Option<(QueueId, bool)> {
        while let Some(id) = self.left.pop() {
            if let Some(queue) = self.queues.get(id.slot()).filter(|queue| queue.is_idle()) {
                return Some((id, queue.logged));
            }
        }
        None
    }

    /// Ends the pauses that were over at a moment, which is in no record, as it was found then: a queue that was idle from there
    /// on is so after a recovery.
    pub(crate) fn end_pauses_of_before(&mut self, at: Time) {
        let is_over = |queue: &Queue| queue.holds_back() && queue.paused_until <= at;
        let over = self.queues.iter().filter(|(_, queue)| is_over(queue)).map(|(slot, _)| QueueId(slot.0));
        over.collect::<Vec<_>>().into_iter().for_each(|queue| self.end_pause(queue));
    }

    /// Forgets the final jobs that were kept long enough by then: what a recovery does before queues that nothing needs go, as it was when
    /// the log was written.
    pub(crate) fn forget_kept_until(&mut self, at: Time) {
        let queues: Vec<Slot> = self.queues.iter().map(|(slot, _)| slot).collect();
        for queue in queues {
            while let Some(&(_, job)) = self.queues[queue].ended.first().filter(|(until, _)| *until <= at) {
                self.forget(job);
            }
        }
    }

    /// Every queue that nothing needs, after a recovery.
    pub(crate) fn leave_idle_queues(&mut self) {
        let idle = self.queues.iter().filter(|(_, queue)| queue.is_idle()).map(|(slot, _)| QueueId(slot.0));
        self.left = idle.collect();
    }

    pub(crate) fn forget_queue(&mut self, id: QueueId) {
        let queues = &self.queues;
        let hash = |slot: Slot| Hashed::name(0, queues[slot].name.as_str().as_bytes());
        self.queues_by_name.remove(hash(id.slot()), id.slot(), hash);
        let queue = self.queues.remove(id.slot()).expect("a queue is forgotten once");
        self.queue_bytes -= queue.record_bytes();
        self.queues_in_order.remove(&queue.created);
        self.wakes.remove(&(queue.wake_at, Owner::Queue(id)));
        if let Some(at) = queue.by_wall.and_then(|by_wall| by_wall.wake_at) {
            self.wall_wakes.remove(&(at, id));
        }
        self.telling_groups.remove(&id);
    }

    /// Whether nothing follows at once from what happened.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.unserved.is_empty() && self.left.is_empty() && !self.graph.is_behind() && self.telling_groups.is_empty()
    }

    /// When `due` has something to do next: never later than the next deadline, at times before it.
    pub(crate) fn next_wake(&self) -> Time {
        if self.graph.is_behind() || !self.telling_groups.is_empty() {
            return Time(0);
        }
        let by_wall = self.wall_wakes.first().map_or(Time::NEVER, |&(at, _)| self.engine_time(at));
        self.wakes.first().map_or(Time::NEVER, |&(at, _)| at).min(by_wall).min(self.schedules.wake)
    }
}

fn key_hash(jobs: &Jobs, extras: &Pages<JobExtra>, slot: Slot) -> Hashed {
    let job = &jobs[slot];
    let key = job.extra.get().and_then(|extra| extras[extra].key.as_deref());
    Hashed::name(job.queue.0, key.expect("only jobs with a key are in the index of keys"))
}
