//! All that can happen. State changes by applying events, and by nothing else.
//!
//! A *durable* event is a record of the log; replaying those gives the state back. A *soft* one follows from what is
//! known after a restart anyway (a lease is void then), so it is applied and never written. What happens to a lease is
//! durable where the lease is: see [`QueueSettings::durable_leases`].

use crate::job::{JobId, JobTally, LeaseToken, Priority, QueueName, Time};
use crate::note::Note;
use crate::queue::{QueueId, QueueSettings, QueueTotals, Turns};
use crate::schedule::{KeptSchedule, TickPassed};
use crate::session::SessionId;
use crate::terms::{Course, Terms};
use std::time::Duration;

/// One fact. Durable variants come first; see [`Event::is_durable`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The engine started on this data: leases of earlier epochs are void. Time goes on from `engine_time`, when the
    /// wall clock showed `wall_time`.
    Started {
        /// One more than that of the start before; 1 on new data.
        epoch: u32,
        /// Engine time at the start.
        engine_time: Time,
        /// Wall clock at the start, nanoseconds since 1970.
        wall_time: Time,
    },
    /// Numbers below these may be issued from here on. A start issues none below them again.
    NumbersReserved {
        /// Job ids below this may have been issued.
        job_ids_below: u64,
        /// Event numbers below this may have been issued.
        seqs_below: u64,
    },
    /// An orderly stop: exactly the numbers below these were issued. It is the last record of a run.
    Stopped {
        /// The id of the next job.
        next_job_id: u64,
        /// The number of the next event.
        next_seq: u64,
    },
    /// A job was put.
    JobPut(PutJob),
    /// A job's work was done: its holder said so.
    JobCompleted {
        /// Which job.
        job: JobId,
        /// How long it is kept, and with what; `None`: not at all.
        kept: Option<Box<KeptResult>>,
    },
    /// A job was called off by somebody who did not hold it.
    JobCancelled {
        /// Which job.
        job: JobId,
        /// Until when it is kept; `None`: not at all.
        kept_until: Option<Time>,
        /// The job that it waited for and that came to nothing, where that is why.
        because_of: Option<JobId>,
    },
    /// A job was not begun in time.
    JobExpired {
        /// Which job.
        job: JobId,
        /// Until when it is kept; `None`: not at all.
        kept_until: Option<Time>,
    },
    /// Another put with its key took a job's place: it is as this says, under its old number.
    JobReplaced(Box<KeptJob>),
    /// A holder gave a job back, to be due at `run_at`.
    JobReleased {
        /// Which job.
        job: JobId,
        /// Its priority from now on.
        priority: Priority,
        /// The delay asked for: zero puts the job back in its old place.
        delay: Duration,
        /// When it is due.
        run_at: Time,
        /// How often it was reserved so far.
        reserves: u32,
    },
    /// A holder said that an attempt failed; it is due again at `run_at`.
    JobFailed {
        /// Which job.
        job: JobId,
        /// The delay until the next attempt.
        delay: Duration,
        /// When it is due again.
        run_at: Time,
        /// How often it was reserved so far.
        reserves: u32,
        /// What its holder said of it.
        error: Option<Box<[u8]>>,
    },
    /// A job was set aside.
    JobBuried {
        /// Which job.
        job: JobId,
        /// Its priority from now on.
        priority: Priority,
        /// Why.
        reason: BuryReason,
        /// How often it was reserved so far.
        reserves: u32,
        /// Its number in the order of burials; 0 in a log that does not say it: the next one.
        number: u64,
        /// What its holder said of the attempt that failed, if one did.
        error: Option<Box<[u8]>>,
    },
    /// A buried or delayed job was made ready, its `run_at` now.
    JobKicked {
        /// Which job.
        job: JobId,
        /// When it is due: the moment of the kick for a delayed job, its old one for a buried job.
        run_at: Time,
    },
    /// A delayed or buried job was made ready before its time, because a session reserved it by its id.
    JobPulled {
        /// Which job.
        job: JobId,
        /// When it is due: now for a delayed job, its old moment for a buried one.
        run_at: Time,
    },
    /// A lease ran out before its holder was done. Nobody waits for this record.
    LeaseLost {
        /// Which job.
        job: JobId,
        /// How often it was reserved so far.
        reserves: u32,
    },
    /// A queue hands nothing out until `until`; a point not after now ends a pause.
    QueuePaused {
        /// Which queue.
        queue: QueueId,
        /// When it goes on.
        until: Time,
        /// The length that was asked for.
        length: Duration,
    },
    /// A queue is set up anew.
    QueueConfigured {
        /// Which queue.
        queue: QueueId,
        /// How, in all.
        settings: Box<QueueSettings>,
    },
    /// A queue that had been used ended, with its counters: nothing was in it and nobody referred to it. Nobody waits
    /// for this record.
    QueueDropped {
        /// Which queue.
        queue: QueueId,
    },
    /// The wall clock was set: jobs put for a moment of the wall clock are placed anew.
    ClockStepped {
        /// Engine time at that moment.
        engine_time: Time,
        /// What the wall clock shows now, nanoseconds since 1970.
        wall_time: Time,
    },
    /// What a request is answered that named itself by a key is kept for a while. It replaces what was kept of that key, and
    /// says the same where the log is written anew.
    AnswerKept(Box<KeptAnswer>),
    /// Jobs that came to nothing, with when, as is remembered of those that are not kept: it changes nothing but where the log
    /// has it. Nobody waits for it.
    FailedKept(Box<[(JobId, Time)]>),
    /// A job as it is, whole: it changes nothing but where the log has it. What stands before this record is not needed
    /// for that job any more. Nobody waits for it.
    JobKept(Box<KeptJob>),
    /// A queue's counters and pause as they are, likewise.
    QueueKept(Box<KeptQueue>),
    /// Counters and numbers of the whole as they are, likewise.
    NumbersKept(Box<KeptNumbers>),
    /// A schedule is set up, anew or for the first time: it is as this says.
    ScheduleSet(Box<KeptSchedule>),
    /// A schedule ended.
    ScheduleRemoved {
        /// Which.
        schedule: QueueName,
    },
    /// A schedule passes over its ticks from now on, or goes on.
    SchedulePaused {
        /// Which.
        schedule: QueueName,
        /// Whether it passes over them.
        is_paused: bool,
        /// Its next tick, where it goes on.
        next: Time,
    },
    /// A tick of a schedule put nothing. One that put a job is that put: see [`Terms::fired`].
    TickPassed(Box<TickPassed>),
    /// A schedule as it is, whole, as [`Event::JobKept`].
    ScheduleKept(Box<KeptSchedule>),
    /// Something was changed beside the state, which is as before.
    Noted(Box<Note>),

    /// Soft, unless the lease is durable: a job was handed to a session.
    LeaseGiven {
        /// Which job.
        job: JobId,
        /// To whom. The log does not say it.
        session: SessionId,
        /// The lease's stamp.
        token: LeaseToken,
        /// When it ends.
        deadline: Time,
        /// Whether a restart leaves it in force.
        is_durable: bool,
    },
    /// Soft, unless the lease is durable: a holder asked for more time.
    LeaseExtended {
        /// Which job.
        job: JobId,
        /// When the lease ends now.
        deadline: Time,
        /// Whether a restart leaves it in force.
        is_durable: bool,
    },
    /// Soft, unless the lease was durable: a lease ended without fault, because its holder went away. Nobody waits for this
    /// record.
    LeaseDropped {
        /// Which job.
        job: JobId,
        /// Whether a restart would have left it in force.
        is_durable: bool,
    },
    /// Soft: a queue's rate lets it hand out a job again.
    ThrottleOver {
        /// Which queue.
        queue: QueueId,
    },
    /// Soft: a pause ran out.
    PauseOver {
        /// Which queue.
        queue: QueueId,
    },
    /// Soft: a delayed job's moment came.
    JobDue {
        /// Which job.
        job: JobId,
    },
    /// Soft: a job that another waits for is over, so that it waits no more.
    JobUnblocked {
        /// Which job.
        job: JobId,
        /// What it waited for.
        parent: JobId,
    },
    /// Soft: a job that another waits for came to nothing, and that one is held up.
    JobHeldUp {
        /// Which job.
        job: JobId,
        /// What it waited for.
        parent: JobId,
    },
    /// Soft: a final job was kept long enough.
    JobForgotten {
        /// Which job.
        job: JobId,
    },
    /// Soft: a holder said how far it is.
    JobProgressed {
        /// Which job.
        job: JobId,
        /// In its own words.
        progress: Box<[u8]>,
    },
}

/// The fields of a new job, with every value that came from a clock or a default filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutJob {
    /// Its number.
    pub job: JobId,
    /// Where it stands in line.
    pub queue: QueueId,
    /// Its urgency.
    pub priority: Priority,
    /// When it was put, in engine time.
    pub created_at: Time,
    /// When it is due.
    pub run_at: Time,
    /// The wall-clock moment asked for, nanoseconds since 1970, where the put named one (`at`) and not a span.
    pub at_wall: Option<Time>,
    /// Length of a lease on it.
    pub ttr: Duration,
    /// Lost leases after which it is buried; 0 for no limit.
    pub max_lost_leases: u16,
    /// Failed attempts after which it is buried; 0 for no limit.
    pub max_attempts: u16,
    /// The client's own name for it, unique among the open jobs of its queue.
    pub key: Option<Box<[u8]>>,
    /// What more was agreed, if there is more.
    pub terms: Option<Box<Terms>>,
    /// The work itself.
    pub body: Box<[u8]>,
}

/// What is kept of a job whose work is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptResult {
    /// Until when.
    pub until: Time,
    /// What its holder had to say.
    pub result: Option<Box<[u8]>>,
}

/// A lease that a restart leaves in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptLease {
    /// Its stamp.
    pub token: LeaseToken,
    /// When it was given.
    pub since: Time,
    /// When it ends. Time in which no server ran is added by the start that follows.
    pub deadline: Time,
}

/// A whole job, but for a lease that a restart ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptJob {
    /// What a put of it would say, with its priority and `run_at` of now.
    pub put: PutJob,
    /// The delay last asked for, where it is not that of the put.
    pub delay: Option<Duration>,
    /// What it went through.
    pub tally: JobTally,
    /// Its number in the order of burials, if it is buried.
    pub buried: Option<u64>,
    /// What became of it, if there is more than that.
    pub course: Option<Box<Course>>,
    /// The lease that it is held under, if that is a durable one.
    pub lease: Option<Box<KeptLease>>,
}

/// What is known of a queue beside its jobs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptQueue {
    /// Which queue.
    pub queue: QueueId,
    /// What happened in it so far.
    pub totals: QueueTotals,
    /// When its pause ends; a point not after now for none.
    pub paused_until: Time,
    /// The length of that pause.
    pub pause_length: Duration,
    /// How it is set up, if it is.
    pub settings: Option<Box<QueueSettings>>,
}

/// What is known beside jobs and queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptNumbers {
    /// From this segment on the log holds all that is open: a replay may begin there.
    pub oldest_segment: u64,
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
    /// Which start this is.
    pub epoch: u32,
    /// The id of the next job.
    pub next_job_id: u64,
    /// Job ids below this may have been issued.
    pub job_ids_below: u64,
    /// The number of the next event: this one's own.
    pub next_seq: u64,
    /// Event numbers below this may have been issued.
    pub seqs_below: u64,
    /// How many burials there were.
    pub burials: u64,
    /// Engine time at this moment.
    pub engine_time: Time,
    /// What the wall clock shows at this moment as far as is known, nanoseconds since 1970.
    pub wall_time: Time,
    /// The checksum of the file that says which jobs of earlier segments are open, if there are any: see [`crate::far`].
    pub far_jobs: Option<u32>,
}

/// What a request is answered that named itself by a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAnswer {
    /// The key: 1 to `limits::ANSWER_KEY_BYTES` bytes.
    pub key: Box<[u8]>,
    /// What tells the request from another of that key, in its front end's view.
    pub fingerprint: u64,
    /// What came of it, in its front end's words: at most `limits::ANSWER_BYTES` bytes.
    pub answer: Box<[u8]>,
    /// It is kept until then.
    pub until: Time,
}

/// Why a job is buried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuryReason {
    /// Its holder asked for it.
    Asked,
    /// It lost its lease too often: it may be what kills its workers.
    LostLeases,
    /// Its attempts are used up.
    Attempts,
}

impl KeptJob {
    /// The job as a put makes it.
    #[must_use]
    pub fn of_put(put: PutJob) -> KeptJob {
        // A moment before the put is no delay.
        let delay = (put.run_at < put.created_at).then_some(Duration::ZERO);
        let course = put.terms.as_ref().map(|terms| Course {
            waits_for: terms.after.clone(),
            held_by: terms.failed_parent,
            ..Course::default()
        });
        let course = course.filter(Course::is_blocked).map(Box::new);
        KeptJob { put, delay, tally: JobTally::default(), buried: None, course, lease: None }
    }
}

impl Event {
    /// A job is done, and nothing is kept of it.
    #[must_use]
    pub fn completed(job: JobId) -> Event {
        Event::JobCompleted { job, kept: None }
    }

    /// A job is called off, and nothing is kept of it.
    #[must_use]
    pub fn cancelled(job: JobId) -> Event {
        Event::JobCancelled { job, kept_until: None, because_of: None }
    }

    /// The job that it happened to, if it happened to one.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        match self {
            Event::JobPut(put) => Some(put.job),
            Event::JobKept(kept) | Event::JobReplaced(kept) => Some(kept.put.job),
            other => other.changes_job(),
        }
    }

    /// Whether the event is written to the log.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        match self {
            Event::LeaseGiven { is_durable, .. }
            | Event::LeaseExtended { is_durable, .. }
            | Event::LeaseDropped { is_durable, .. } => *is_durable,
            Event::PauseOver { .. }
            | Event::ThrottleOver { .. }
            | Event::JobDue { .. }
            | Event::JobUnblocked { .. }
            | Event::JobHeldUp { .. }
            | Event::JobForgotten { .. }
            | Event::JobProgressed { .. } => false,
            _ => true,
        }
    }

    /// The job whose body is in the event and may be read there from now on, if one is.
    #[must_use]
    pub fn with_body(&self) -> Option<JobId> {
        match self {
            Event::JobPut(put) => Some(put.job),
            Event::JobKept(kept) => Some(kept.put.job),
            _ => None,
        }
    }

    /// Whether an answer waits until the event's record is as durable as promised.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let is_for_nobody = matches!(
            self,
            Event::LeaseLost { .. }
                | Event::LeaseDropped { .. }
                | Event::QueueDropped { .. }
                | Event::JobKept(_)
                | Event::QueueKept(_)
                | Event::NumbersKept(_)
                | Event::FailedKept(_)
                | Event::ScheduleKept(_)
        );
        self.is_durable() && !is_for_nobody
    }

    /// The jobs that a job which is whole in it waits for.
    #[must_use]
    pub fn parents(&self) -> &[JobId] {
        match self {
            Event::JobPut(put) => put.terms.as_ref().map_or(&[], |terms| &terms.after),
            Event::JobKept(kept) | Event::JobReplaced(kept) => {
                kept.course.as_ref().map_or(&[], |course| &course.waits_for)
            }
            _ => &[],
        }
    }

    /// The schedule that it is about, where it is about nothing else.
    #[must_use]
    pub fn schedule(&self) -> Option<&QueueName> {
        match self {
            Event::ScheduleSet(kept) | Event::ScheduleKept(kept) => Some(&kept.name),
            Event::ScheduleRemoved { schedule } | Event::SchedulePaused { schedule, .. } => Some(schedule),
            Event::TickPassed(passed) => Some(&passed.schedule),
            _ => None,
        }
    }

    /// Length of what a holder said with it, or of what a schedule is to put, in bytes.
    pub(crate) fn said_bytes(&self) -> usize {
        if let Event::ScheduleSet(kept) = self {
            return kept.spec.bytes();
        }
        let said = match self {
            Event::AnswerKept(kept) => Some(&kept.answer),
            Event::JobCompleted { kept, .. } => kept.as_ref().and_then(|kept| kept.result.as_ref()),
            Event::JobFailed { error, .. } | Event::JobBuried { error, .. } => error.as_ref(),
            _ => None,
        };
        said.map_or(0, |said| said.len())
    }

    /// The job that ends with it, if one does.
    #[must_use]
    pub fn ends_job(&self) -> Option<JobId> {
        match *self {
            Event::JobCompleted { job, .. } | Event::JobCancelled { job, .. } | Event::JobExpired { job, .. } => {
                Some(job)
            }
            _ => None,
        }
    }

    /// The job that must be open for the event to be applied.
    pub(crate) fn changes_job(&self) -> Option<JobId> {
        match *self {
            Event::JobCompleted { job, .. }
            | Event::JobCancelled { job, .. }
            | Event::JobExpired { job, .. }
            | Event::JobReleased { job, .. }
            | Event::JobFailed { job, .. }
            | Event::JobBuried { job, .. }
            | Event::JobKicked { job, .. }
            | Event::JobPulled { job, .. }
            | Event::LeaseLost { job, .. }
            | Event::LeaseGiven { job, .. }
            | Event::LeaseExtended { job, .. }
            | Event::LeaseDropped { job, .. }
            | Event::JobUnblocked { job, .. }
            | Event::JobHeldUp { job, .. }
            | Event::JobForgotten { job }
            | Event::JobProgressed { job, .. }
            | Event::JobDue { job } => Some(job),
            Event::Started { .. }
            | Event::NumbersReserved { .. }
            | Event::Stopped { .. }
            | Event::JobPut(_)
            | Event::JobReplaced(_)
            | Event::QueuePaused { .. }
            | Event::QueueConfigured { .. }
            | Event::QueueDropped { .. }
            | Event::ClockStepped { .. }
            | Event::JobKept(_)
            | Event::QueueKept(_)
            | Event::NumbersKept(_)
            | Event::AnswerKept(_)
            | Event::FailedKept(_)
            | Event::ScheduleSet(_)
            | Event::ScheduleRemoved { .. }
            | Event::SchedulePaused { .. }
            | Event::TickPassed(_)
            | Event::ScheduleKept(_)
            | Event::Noted(_)
            | Event::ThrottleOver { .. }
            | Event::PauseOver { .. } => None,
        }
    }
}

/// How the log turns a queue of this process into its lasting name and back; the engine's state does it.
pub trait QueueNames {
    /// The name of a queue that is in an event being written.
    fn queue_name(&self, queue: QueueId) -> &QueueName;
}
