//! All that can be asked of the engine, and all that it can answer.
//!
//! Front ends build a [`Command`]; [`crate::engine::Engine::execute`] decides it at once. The one thing that is not
//! answered at once is a reserve that waits: its [`Delivery`] comes later.

use crate::job::{JobId, JobTally, LeaseToken, Priority, QueueName, Time};
use crate::log::Place;
use crate::queue::{QueueId, QueueSettings};
use crate::schedule::ScheduleSpec;
use crate::session::{Actor, SessionId};
#[expect(unused_imports, reason = "for the documentation")]
use crate::terms::BackOff;
use crate::terms::{BadTerms, Course, Terms};
use std::time::Duration;

/// One request of one session.
#[derive(Debug)]
pub enum Command<'a> {
    /// Puts a job. Answers [`Answer::Put`] (or, with [`OnConflict::Keep`], [`Answer::Kept`]).
    Put(NewJob<'a>),
    /// Makes this the queue of the session's puts without a name, peeks and kicks. Answers [`Answer::Done`].
    Use(&'a QueueName),
    /// Adds a queue to those the session reserves from. Answers [`Answer::Watching`].
    Watch(&'a QueueName),
    /// Takes a queue from those the session reserves from. Answers [`Answer::Watching`].
    Ignore(&'a QueueName),
    /// Asks for the first ready job of the watched queues. Answers [`Answer::Reserved`], [`Answer::DeadlineSoon`],
    /// [`Answer::TimedOut`], or [`Answer::Waiting`]: then a [`Delivery`] follows.
    Reserve {
        /// How long to wait for one: zero not at all, `None` without end.
        wait: Option<Duration>,
    },
    /// Asks for one ready, delayed or buried job. Answers [`Answer::Reserved`].
    ReserveJob(JobId),
    /// Complete where the session holds the job, or held it last and nobody holds it now; else cancel, which is
    /// refused for a job that another holds. Answers [`Answer::Done`].
    Delete(JobId),
    /// The work of a held job is done. Answers [`Answer::Done`].
    Complete {
        /// Which job.
        held: Held,
        /// What came of it: at most `limits::RESULT_BYTES` bytes. It is kept as long as the queue keeps final jobs.
        result: Option<&'a [u8]>,
    },
    /// Gives a held job back. A delay of zero puts it in its old place. Answers [`Answer::Done`].
    Release {
        /// Which job.
        held: Held,
        /// Its priority from now on.
        priority: Priority,
        /// How long from now it is due.
        delay: Duration,
    },
    /// Says that an attempt at a held job failed. Buries it if that was its last attempt. Answers [`Answer::Done`].
    Fail {
        /// Which job.
        held: Held,
        /// How long from now the next attempt is due; `None`: as the job's back-off says, or else [`BackOff::DEFAULT`].
        delay: Option<Duration>,
        /// What went wrong: at most `limits::ERROR_BYTES` bytes.
        error: Option<&'a [u8]>,
    },
    /// Says how far the work on a held job is, for whoever looks. It is gone with the lease. Answers [`Answer::Done`].
    Progress {
        /// Which job.
        held: Held,
        /// In the holder's own words: at most `limits::PROGRESS_BYTES` bytes.
        progress: &'a [u8],
    },
    /// Sets a held job aside. Answers [`Answer::Done`].
    Bury {
        /// Which job.
        held: Held,
        /// Its priority from now on.
        priority: Priority,
    },
    /// Begins a held job's lease anew. Answers [`Answer::Done`].
    Touch(Held),
    /// Calls a job off in whatever state it is, held or not. Answers [`Answer::Cancelled`].
    Cancel(JobId),
    /// The same, by the key it was put with. Answers [`Answer::Cancelled`].
    CancelKey {
        /// The job's queue.
        queue: &'a QueueName,
        /// The job's key.
        key: &'a [u8],
    },
    /// Makes buried jobs of a queue ready, or delayed ones if none is buried; never both. Answers
    /// [`Answer::Kicked`], which says what is left to do: one call handles a slice.
    Kick {
        /// Which queue.
        queue: Target<'a>,
        /// The most jobs to kick.
        limit: u64,
        /// Which of the two to kick; `None` decides it. A caller that goes on passes what the first answer said.
        source: Option<KickSource>,
    },
    /// Makes one buried, delayed or blocked job ready; a blocked one waits for nothing any more. Answers [`Answer::Done`].
    KickJob(JobId),
    /// Lets a queue hand nothing out for a while; zero ends that. Answers [`Answer::Done`].
    Pause {
        /// Which queue; it must exist.
        queue: &'a QueueName,
        /// For how long from now.
        length: Duration,
    },
    /// Keeps what came of a request that named itself by a key, for `limits::ANSWER_KEPT`; it is found again with
    /// [`crate::engine::Engine::answer_of`]. To be asked for in the turn that did what the request says, so that the log has
    /// both or neither. Answers [`Answer::Done`].
    KeepAnswer {
        /// The key: 1 to `limits::ANSWER_KEY_BYTES` bytes.
        key: &'a [u8],
        /// What tells the request from another of that key.
        fingerprint: u64,
        /// What came of it: at most `limits::ANSWER_BYTES` bytes.
        answer: &'a [u8],
    },
    /// Sets a queue up anew, whether it is there or not. Answers [`Answer::Done`].
    Configure {
        /// Which queue.
        queue: &'a QueueName,
        /// How, in all.
        settings: &'a QueueSettings,
    },
    /// What is asked of schedules.
    Schedule(Box<ScheduleCommand<'a>>),
}

/// A request about one schedule. Its name keeps the rule for the names of queues.
#[derive(Debug)]
pub enum ScheduleCommand<'a> {
    /// Sets it up, whether it is there or not. One that is there goes on as it was, from its next tick on; where its ticks
    /// are others from now on, from the next of those. Answers [`Answer::Scheduled`].
    Set {
        /// Which.
        name: &'a QueueName,
        /// What it is to be.
        spec: ScheduleSpec,
    },
    /// Ends it. Jobs that it put are left alone. Answers [`Answer::Done`].
    Remove(&'a QueueName),
    /// Has it pass over its ticks, or go on with the next. Answers [`Answer::Done`].
    Pause {
        /// Which.
        name: &'a QueueName,
        /// Whether it is to pause, or to go on.
        is_paused: bool,
    },
    /// Puts its job now, whatever its ticks, paused or not. Answers [`Answer::Put`].
    Run(&'a QueueName),
}

/// A job to put.
#[derive(Debug)]
pub struct NewJob<'a> {
    /// Where it goes.
    pub queue: Target<'a>,
    /// Its urgency.
    pub priority: Priority,
    /// When it is due.
    pub due: Due,
    /// Length of a lease on it; zero counts as a nanosecond.
    pub ttr: Duration,
    /// Lost leases after which it is buried; 0 for no limit.
    pub max_lost_leases: u16,
    /// Failed attempts after which it is buried; 0 for no limit.
    pub max_attempts: u16,
    /// The client's own name for it, unique among the open jobs of its queue: 1 to `limits::KEY_BYTES` bytes.
    pub key: Option<&'a [u8]>,
    /// What to do when the key is taken.
    pub on_conflict: OnConflict,
    /// Jobs that must be done before.
    pub after: &'a [Parent<'a>],
    /// If it waits then, because it was not begun yet or is to be tried again, it expires.
    pub expires: Option<Due>,
    /// What more there is to it, but for the two above.
    pub terms: Option<Box<Terms>>,
    /// The work itself.
    pub body: Box<[u8]>,
}

impl NewJob<'_> {
    /// A job that is due now, with priority 0, a lease of a minute, and nothing more to it.
    #[must_use]
    pub fn new(queue: Target<'_>, body: Box<[u8]>) -> NewJob<'_> {
        NewJob {
            queue,
            priority: Priority(0),
            due: Due::In(Duration::ZERO),
            ttr: Duration::from_secs(60),
            max_lost_leases: 0,
            max_attempts: 0,
            key: None,
            on_conflict: OnConflict::Reject,
            after: &[],
            expires: None,
            terms: None,
            body,
        }
    }
}

/// A job that another waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parent<'a> {
    /// The one of that number. If it is over it counts as done, unless it is known to have been cancelled, or to have
    /// expired.
    Id(JobId),
    /// The open one with a key.
    Key {
        /// Its queue.
        queue: &'a QueueName,
        /// Its key.
        key: &'a [u8],
    },
}

/// Which queue a command is about.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The one the session uses.
    Used,
    /// This one.
    Named(&'a QueueName),
}

/// When a new job is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// So long from now; it doesn't move when the wall clock is set. Zero is now.
    In(Duration),
    /// When the wall clock shows this many nanoseconds since 1970. A moment already past takes the place it gives.
    At(Time),
}

/// What a put does when its key is taken by an open job of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnConflict {
    /// Refuses: [`Refusal::KeyTaken`].
    #[default]
    Reject,
    /// Puts nothing and answers the first job's id: [`Answer::Kept`].
    Keep,
    /// The first job becomes what this put says, and keeps its id and those who wait for it: [`Answer::Replaced`]. Refused
    /// where somebody holds it: [`Refusal::KeyHeld`].
    Replace,
}

/// A job, named by its holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Which job.
    pub job: JobId,
    /// The stamp of the lease. `None`: whatever lease the asking session itself has on it.
    pub token: Option<LeaseToken>,
}

impl Held {
    /// The job that the asking session itself holds.
    #[must_use]
    pub fn by_me(job: JobId) -> Held {
        Held { job, token: None }
    }
}

/// Which jobs a kick takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KickSource {
    /// Those that were set aside, the first buried first.
    Buried,
    /// Those whose `run_at` is ahead, the next due first.
    Delayed,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was done, and there is nothing more to say.
    Done,
    /// The new job's id.
    Put(JobId),
    /// Nothing was put: this open job has the key.
    Kept(JobId),
    /// This open job is now what the put said.
    Replaced(JobId),
    /// The session now holds this job; its body is [`crate::engine::Engine::job`]'s.
    Reserved(JobId, LeaseToken),
    /// No job was ready in time.
    TimedOut,
    /// No job is ready, and one of the session's own leases ends within [`crate::limits::LEASE_SAFETY_MARGIN`].
    DeadlineSoon,
    /// No job is ready: a [`Delivery`] will come.
    Waiting,
    /// The schedule is as it was asked for.
    Scheduled {
        /// It was not there before.
        is_new: bool,
    },
    /// So many queues are watched now.
    Watching(usize),
    /// This job was called off.
    Cancelled(JobId),
    /// A slice of a kick was done.
    Kicked {
        /// How many jobs this slice kicked.
        count: u64,
        /// Which kind they were; to be passed on by a caller that goes on.
        source: KickSource,
        /// How many more jobs of that kind, within the limit, there are to kick: 0 when the kick is done.
        left: u64,
    },
}

/// Why nothing was done. A refused command leaves the state as it was; sending it again is always safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No such job, or it is not in a state (or not held by the asker) in which that could be done.
    #[error("job not found, or not in a state that allows it")]
    NotFound,
    /// No such queue.
    #[error("queue not found")]
    NoSuchQueue,
    /// No such schedule.
    #[error("schedule not found")]
    NoSuchSchedule,
    /// There are as many schedules as there may be.
    #[error("too many schedules: the limit is {}", crate::limits::SCHEDULES)]
    TooManySchedules,
    /// What all schedules put is longer than it may be.
    #[error("schedules have too much to put: all together may have {} bytes", crate::limits::SCHEDULE_BYTES)]
    TooMuchScheduled,
    /// A schedule would have its ticks too close together, or its expression or zone is too long.
    #[error(
        "a schedule's ticks are at least {:?} apart, and its expression has at most {} bytes",
        crate::limits::SHORTEST_EVERY,
        crate::limits::CRON_BYTES
    )]
    BadTiming,
    /// A schedule would have no tick, or nobody knows of one: the embedder gave no calendar.
    #[error("a schedule without a tick ahead")]
    NeverTicks,
    /// It is the only queue that the session watches.
    #[error("a session must watch at least one queue")]
    LastWatched,
    /// The session watches as many queues as it may.
    #[error("too many watched queues: the limit is {}", crate::limits::WATCHED_QUEUES)]
    TooManyWatched,
    /// An open job of the queue has that key.
    #[error("the key is taken by job {0}")]
    KeyTaken(JobId),
    /// An open job of the queue has that key, and somebody holds it: it can't be replaced.
    #[error("the key is taken by job {0}, which somebody holds")]
    KeyHeld(JobId),
    /// The parent at that place of [`NewJob::after`] is not there, and never was.
    #[error("the job that it is to wait for, number {0} of the list, was never put")]
    UnknownParent(usize),
    /// A replacement would wait for a job that was put later, and could wait for the replaced one.
    #[error(
        "a replacement can only wait for jobs that were put before the first job of its key, and {0} was put later"
    )]
    LaterParent(JobId),
    /// What more there is to a put breaks a bound.
    #[error(transparent)]
    BadTerms(#[from] BadTerms),
    /// A result, an error or a progress is longer than that.
    #[error("it is too long: at most {0} bytes")]
    TooLong(usize),
    /// There are as many queues as there may be.
    #[error("there are as many queues as there may be")]
    TooManyQueues,
    /// The queue has as many jobs as it may have, or as many bytes of them.
    #[error("the queue is full")]
    QueueFull,
    /// The key is empty or too long.
    #[error("a key has 1 to {} bytes", crate::limits::KEY_BYTES)]
    BadKey,
    /// The log has no room for it: the disk is full. Jobs can be completed and cancelled all the same, which makes room.
    #[error("the log has no room: free space on its disk, or complete or cancel jobs")]
    NoRoom,
    /// The session's earlier reserve has not been answered yet.
    #[error("the session already waits for a job")]
    AlreadyWaiting,
}

/// The late answer to a reserve that waited, or what a session is told of a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Who waited, or had the lease.
    pub session: SessionId,
    /// What came.
    pub what: Delivered,
}

/// What ended a wait; and that a lease ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// A job, which the session holds now.
    Job {
        /// Which job.
        job: JobId,
        /// The lease's stamp.
        token: LeaseToken,
        /// The work itself: a copy, because the job may be cancelled before it is sent.
        body: Body<Box<[u8]>>,
    },
    /// The time to wait is over.
    TimedOut,
    /// One of the session's own leases is about to end.
    DeadlineSoon,
    /// A lease ended of a session that follows them, which may wait on: see [`crate::engine::Engine::follow_leases`].
    LeaseEnded {
        /// Which job it held.
        job: JobId,
        /// The lease's stamp.
        token: LeaseToken,
        /// Whether its time was over; else somebody ended it.
        ran_out: bool,
    },
}

/// The body of a job, or where to read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<B> {
    /// Here it is.
    InMemory(B),
    /// It is in the log alone: see [`crate::engine::BodyHome`].
    InLog(BodyPlace),
}

/// Where a body is that is in the log alone. It is read with [`crate::log::body_in`], which makes sure that it is right.
///
/// The segment may be removed once no job has its body there any more; whoever was given a place has to see to it that
/// it stays until it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyPlace {
    /// Whose body it is.
    pub job: JobId,
    /// The record that holds it.
    pub record: Place,
    /// Its own length in bytes.
    pub body_bytes: u32,
}

/// A body that was read, and whose it is.
pub type BodyRead = (JobId, Box<[u8]>);

impl<B: AsRef<[u8]>> Body<B> {
    /// The body, if it is in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match self {
            Body::InMemory(body) => Some(body.as_ref()),
            Body::InLog(_) => None,
        }
    }

    /// The place of its record, if it is in the log alone.
    pub fn in_log(&self) -> Option<BodyPlace> {
        match self {
            Body::InMemory(_) => None,
            Body::InLog(place) => Some(*place),
        }
    }

    /// The same, borrowed.
    pub fn as_slice(&self) -> Body<&[u8]> {
        match self {
            Body::InMemory(body) => Body::InMemory(body.as_ref()),
            Body::InLog(place) => Body::InLog(*place),
        }
    }

    /// Its length in bytes, wherever it is.
    pub fn length(&self) -> usize {
        match self {
            Body::InMemory(body) => body.as_ref().len(),
            Body::InLog(place) => place.body_bytes as usize,
        }
    }
}

impl Body<&[u8]> {
    /// The same, to be kept.
    #[must_use]
    pub fn to_owned(self) -> Body<Box<[u8]>> {
        match self {
            Body::InMemory(body) => Body::InMemory(body.into()),
            Body::InLog(place) => Body::InLog(place),
        }
    }
}

/// Who holds a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldBy<'a> {
    /// In whose name it was asked for, where somebody said.
    pub actor: Option<&'a Actor>,
    /// Where that client was, in the front end's words, where that said so.
    pub origin: Option<&'a str>,
    /// When the lease was given.
    pub since: Time,
    /// When it ends, as it is now.
    pub until: Time,
}

/// A job as it can be seen from outside, at the moment of asking.
#[derive(Clone, Copy, Debug)]
pub struct JobView<'a> {
    /// Its number.
    pub id: JobId,
    /// Where it stands in line.
    pub queue: &'a QueueName,
    /// That queue's handle.
    pub queue_id: QueueId,
    /// Where it stands.
    pub state: crate::job::JobState,
    /// Its urgency.
    pub priority: Priority,
    /// When it was put, in engine time.
    pub created_at: Time,
    /// When it is (or was) due, in engine time.
    pub run_at: Time,
    /// The delay last asked for.
    pub delay: Duration,
    /// Length of a lease on it.
    pub ttr: Duration,
    /// Until it is due (delayed) or its lease ends (reserved); zero otherwise.
    pub time_left: Duration,
    /// Failed attempts after which it is buried; 0 for no limit.
    pub max_attempts: u16,
    /// Lost leases after which it is buried; 0 for no limit.
    pub max_lost_leases: u16,
    /// Who holds it, and until when.
    pub lease: Option<(SessionId, LeaseToken, Time)>,
    /// Whether a restart leaves that in force.
    pub is_lease_durable: bool,
    /// The client's own name for it.
    pub key: Option<&'a [u8]>,
    /// The work itself.
    pub body: Body<&'a [u8]>,
    /// How often what happened to it.
    pub tally: JobTally,
    /// What more was agreed for it.
    pub terms: Option<&'a Terms>,
    /// What became of it.
    pub course: Option<&'a Course>,
    /// How far its holder is, in the holder's words.
    pub progress: Option<&'a [u8]>,
}
