//! What happened, for who listens: a small fact of each event, without the jobs' bodies.
//!
//! Nothing is taken down while nobody listens. What is taken down waits, bounded, until it is fetched; past the bound it
//! is given up, and whoever fetches is told. Events that only keep, compact or reserve what is known are nobody's news.

use crate::event::{BuryReason, Event};
use crate::job::{JobId, JobState, Priority, QueueName, Time};
use crate::limits::{NEWS_HELD, NEWS_HELD_BYTES};
use crate::note::{Note, Noted, NotedWhy};
use crate::queue::QueueId;
use crate::schedule::TickPassed;
use crate::session::Actor;
use crate::state::State;
use crate::terms::Terms;

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each variant is the event of that name; `name` says it in words")]
pub enum NewsKind {
    JobPut,
    JobReady,
    JobReserved,
    JobReleased,
    JobFailed,
    JobBuried,
    JobKicked,
    JobCompleted,
    JobCancelled,
    JobExpired,
    JobReplaced,
    JobUnblocked,
    JobHeldUp,
    JobForgotten,
    JobProgressed,
    LeaseLost,
    LeaseExtended,
    LeaseDropped,
    QueuePaused,
    QueueResumed,
    QueueConfigured,
    QueueDropped,
    ScheduleSet,
    ScheduleRemoved,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSkipped,
    Noted(Noted),
    ServerStarted,
    ServerStopped,
    ClockStepped,
}

impl NewsKind {
    /// All of them.
    pub const ALL: [NewsKind; 38] = [
        NewsKind::JobPut,
        NewsKind::JobReady,
        NewsKind::JobReserved,
        NewsKind::JobReleased,
        NewsKind::JobFailed,
        NewsKind::JobBuried,
        NewsKind::JobKicked,
        NewsKind::JobCompleted,
        NewsKind::JobCancelled,
        NewsKind::JobExpired,
        NewsKind::JobReplaced,
        NewsKind::JobUnblocked,
        NewsKind::JobHeldUp,
        NewsKind::JobForgotten,
        NewsKind::JobProgressed,
        NewsKind::LeaseLost,
        NewsKind::LeaseExtended,
        NewsKind::LeaseDropped,
        NewsKind::QueuePaused,
        NewsKind::QueueResumed,
        NewsKind::QueueConfigured,
        NewsKind::QueueDropped,
        NewsKind::ScheduleSet,
        NewsKind::ScheduleRemoved,
        NewsKind::SchedulePaused,
        NewsKind::ScheduleResumed,
        NewsKind::ScheduleSkipped,
        NewsKind::Noted(Noted::TokenCreated),
        NewsKind::Noted(Noted::TokenRevoked),
        NewsKind::Noted(Noted::WebhookCreated),
        NewsKind::Noted(Noted::WebhookChanged),
        NewsKind::Noted(Noted::WebhookPaused),
        NewsKind::Noted(Noted::WebhookResumed),
        NewsKind::Noted(Noted::WebhookDeleted),
        NewsKind::Noted(Noted::SnapshotTaken),
        NewsKind::ServerStarted,
        NewsKind::ServerStopped,
        NewsKind::ClockStepped,
    ];

    /// Its lasting name: the noun, a dot, what happened to it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NewsKind::JobPut => "job.put",
            NewsKind::JobReady => "job.ready",
            NewsKind::JobReserved => "job.reserved",
            NewsKind::JobReleased => "job.released",
            NewsKind::JobFailed => "job.failed",
            NewsKind::JobBuried => "job.buried",
            NewsKind::JobKicked => "job.kicked",
            NewsKind::JobCompleted => "job.completed",
            NewsKind::JobCancelled => "job.cancelled",
            NewsKind::JobExpired => "job.expired",
            NewsKind::JobReplaced => "job.replaced",
            NewsKind::JobUnblocked => "job.unblocked",
            NewsKind::JobHeldUp => "job.held_up",
            NewsKind::JobForgotten => "job.forgotten",
            NewsKind::JobProgressed => "job.progressed",
            NewsKind::LeaseLost => "lease.lost",
            NewsKind::LeaseExtended => "lease.extended",
            NewsKind::LeaseDropped => "lease.dropped",
            NewsKind::QueuePaused => "queue.paused",
            NewsKind::QueueResumed => "queue.resumed",
            NewsKind::QueueConfigured => "queue.configured",
            NewsKind::QueueDropped => "queue.dropped",
            NewsKind::ScheduleSet => "schedule.set",
            NewsKind::ScheduleRemoved => "schedule.removed",
            NewsKind::SchedulePaused => "schedule.paused",
            NewsKind::ScheduleResumed => "schedule.resumed",
            NewsKind::ScheduleSkipped => "schedule.skipped",
            NewsKind::Noted(what) => what.name(),
            NewsKind::ServerStarted => "server.started",
            NewsKind::ServerStopped => "server.stopped",
            NewsKind::ClockStepped => "clock.stepped",
        }
    }

    /// The state that a job ends in, where it ends.
    pub(crate) fn final_state(self) -> Option<JobState> {
        match self {
            NewsKind::JobCompleted => Some(JobState::Done),
            NewsKind::JobCancelled => Some(JobState::Cancelled),
            NewsKind::JobExpired => Some(JobState::Expired),
            _ => None,
        }
    }
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// The number of its event: greater than that of all before it, across restarts too. Numbers are left out.
    pub seq: u64,
    /// When, in engine time.
    pub at: Time,
    /// When, by the wall clock, nanoseconds since 1970.
    pub wall: Time,
    /// What.
    pub kind: NewsKind,
    /// In whose name it was asked for; `None` where nobody said, or it came about by itself.
    pub actor: Option<Actor>,
    /// To which job.
    pub job: Option<JobId>,
    /// The queue, or the job's; `None` where it is about the whole server.
    pub queue: Option<QueueName>,
    /// What the job is from now on; `None` if it is gone.
    pub state: Option<JobState>,
    /// The job's priority from now on, where that was said.
    pub priority: Option<Priority>,
    /// When the job is due, where that was said, in engine time.
    pub run_at: Option<Time>,
    /// When the lease or the pause ends, or the job that is over is forgotten, in engine time.
    pub until: Option<Time>,
    /// How often the job was reserved, where that was said.
    pub reserves: Option<u32>,
    /// Why, in a word: `asked`, `attempts`, `gone`, `lost-leases`, `parent`, `time`; of a tick, what [`crate::schedule::LeftOut`] says.
    pub reason: Option<&'static str>,
    /// The job that it waited for; of a tick that was left out, the job that was in the way.
    pub parent: Option<JobId>,
    /// The trace that whoever put the job said it is part of, where it is put or handed out.
    pub trace: Option<Box<Trace>>,
    /// What the holder said of an attempt that failed.
    pub error: Option<Box<[u8]>>,
    /// What the holder said of how far it is.
    pub progress: Option<Box<[u8]>>,
    /// Which start of the server this is.
    pub epoch: Option<u32>,
    /// The schedule, or the one that put the job.
    pub schedule: Option<Box<ScheduleNews>>,
    /// The token, the webhook or the snapshot.
    pub note: Option<Box<Note>>,
}

/// Which trace a job is part of: its headers of W3C's Trace Context, as they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// `traceparent`.
    pub parent: Box<str>,
    /// `tracestate`.
    pub state: Option<Box<str>>,
}

impl Trace {
    fn of(terms: Option<&Terms>) -> Option<Box<Trace>> {
        let headers = &terms?.headers;
        let value = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        Some(Box::new(Trace { parent: value("traceparent")?, state: value("tracestate") }))
    }

    fn bytes(&self) -> usize {
        size_of::<Trace>() + self.parent.len() + self.state.as_ref().map_or(0, |state| state.len())
    }
}

/// What there is to tell of a schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleNews {
    /// Which.
    pub name: QueueName,
    /// The tick, or the moment of a run that somebody asked for, by the wall clock.
    pub tick: Option<Time>,
    /// The next tick, by the wall clock.
    pub next: Option<Time>,
    /// Ticks that count as missed with it.
    pub missed: u64,
}

impl News {
    /// One without any value.
    #[must_use]
    pub fn new(seq: u64, at: Time, wall: Time, kind: NewsKind) -> News {
        News {
            seq,
            at,
            wall,
            kind,
            actor: None,
            job: None,
            queue: None,
            state: None,
            priority: None,
            run_at: None,
            until: None,
            reserves: None,
            reason: None,
            parent: None,
            trace: None,
            error: None,
            progress: None,
            epoch: None,
            schedule: None,
            note: None,
        }
    }

    /// What the wall clock will show at a moment of engine time, as far as was known then.
    #[must_use]
    pub fn wall_time(&self, moment: Time) -> Time {
        let nanos = i128::from(moment.0) - i128::from(self.at.0) + i128::from(self.wall.0);
        Time(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// What it takes of memory, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<Box<[u8]>>| text.as_ref().map_or(0, |text| text.len());
        let trace = self.trace.as_ref().map_or(0, |trace| trace.bytes());
        size_of::<News>() + text(&self.error) + text(&self.progress) + trace
    }

    /// What is to be told of an event before it is applied, if it is news; all but the state of its job.
    pub(crate) fn of(seq: u64, now: Time, event: &Event, around: &impl Around) -> Option<News> {
        let news = |kind| News::new(seq, now, around.wall_time(now), kind);
        let of_job = |kind, job| News { job: Some(job), queue: around.queue_of(job), ..news(kind) };
        let of_queue = |kind, queue| News { queue: around.queue_name(queue), ..news(kind) };
        let of_schedule = |kind, name: &QueueName, tick, next, missed| {
            let queue = around.queue_of_schedule(name);
            let next = Some(next).filter(|next| *next < Time::NEVER);
            let schedule = Some(Box::new(ScheduleNews { name: name.clone(), tick, next, missed }));
            News { queue, schedule, ..news(kind) }
        };
        let said = match *event {
            Event::ScheduleSet(ref kept) => News {
                queue: Some(kept.spec.template.queue.clone()),
                ..of_schedule(NewsKind::ScheduleSet, &kept.name, None, kept.course.next, 0)
            },
            Event::ScheduleRemoved { ref schedule } => {
                of_schedule(NewsKind::ScheduleRemoved, schedule, None, Time::NEVER, 0)
            }
            Event::SchedulePaused { ref schedule, is_paused: true, .. } => {
                of_schedule(NewsKind::SchedulePaused, schedule, None, Time::NEVER, 0)
            }
            Event::SchedulePaused { ref schedule, next, .. } => {
                of_schedule(NewsKind::ScheduleResumed, schedule, None, next, 0)
            }
            Event::TickPassed(ref passed) => {
                let TickPassed { schedule, tick, next, missed, why } = &**passed;
                let told = of_schedule(NewsKind::ScheduleSkipped, schedule, Some(*tick), *next, *missed);
                News { reason: Some(why.name()), parent: why.job(), ..told }
            }
            Event::Noted(ref note) => News {
                reason: note.why.map(NotedWhy::name),
                note: Some(note.clone()),
                ..news(NewsKind::Noted(note.what))
            },
            Event::Started { epoch, .. } => News { epoch: Some(epoch), ..news(NewsKind::ServerStarted) },
            Event::Stopped { .. } => news(NewsKind::ServerStopped),
            Event::JobPut(ref put) => News {
                job: Some(put.job),
                priority: Some(put.priority),
                run_at: Some(put.run_at),
                trace: Trace::of(put.terms.as_deref()),
                schedule: put.terms.as_ref().and_then(|terms| terms.fired.as_ref()).map(|fired| {
                    let next = Some(fired.next).filter(|next| *next < Time::NEVER);
                    let (name, tick) = (fired.schedule.clone(), Some(fired.tick));
                    Box::new(ScheduleNews { name, tick, next, missed: fired.missed })
                }),
                ..of_queue(NewsKind::JobPut, put.queue)
            },
            Event::JobReplaced(ref kept) => News {
                job: Some(kept.put.job),
                priority: Some(kept.put.priority),
                run_at: Some(kept.put.run_at),
                trace: Trace::of(kept.put.terms.as_deref()),
                ..of_queue(NewsKind::JobReplaced, kept.put.queue)
            },
            Event::JobCompleted { job, ref kept } => {
                News { until: kept.as_ref().map(|kept| kept.until), ..of_job(NewsKind::JobCompleted, job) }
            }
            Event::JobCancelled { job, kept_until, because_of } => News {
                until: kept_until,
                parent: because_of,
                reason: Some(if because_of.is_some() { "parent" } else { "asked" }),
                ..of_job(NewsKind::JobCancelled, job)
            },
            Event::JobExpired { job, kept_until } => News { until: kept_until, ..of_job(NewsKind::JobExpired, job) },
            Event::JobReleased { job, priority, run_at, reserves, .. } => News {
                priority: Some(priority),
                run_at: Some(run_at),
                reserves: Some(reserves),
                ..of_job(NewsKind::JobReleased, job)
            },
            Event::JobFailed { job, run_at, reserves, ref error, .. } => News {
                run_at: Some(run_at),
                reserves: Some(reserves),
                error: error.clone(),
                ..of_job(NewsKind::JobFailed, job)
            },
            Event::JobBuried { job, priority, reason, reserves, ref error, .. } => News {
                priority: Some(priority),
                reason: Some(match reason {
                    BuryReason::Asked => "asked",
                    BuryReason::LostLeases => "lost-leases",
                    BuryReason::Attempts => "attempts",
                }),
                reserves: Some(reserves),
                error: error.clone(),
                ..of_job(NewsKind::JobBuried, job)
            },
            Event::JobKicked { job, run_at } => News { run_at: Some(run_at), ..of_job(NewsKind::JobKicked, job) },
            Event::JobPulled { job, run_at } => {
                News { run_at: Some(run_at), reason: Some("asked"), ..of_job(NewsKind::JobReady, job) }
            }
            Event::JobDue { job } => News { reason: Some("time"), ..of_job(NewsKind::JobReady, job) },
            Event::LeaseLost { job, reserves } => News { reserves: Some(reserves), ..of_job(NewsKind::LeaseLost, job) },
            Event::LeaseGiven { job, deadline, .. } => {
                News { until: Some(deadline), trace: around.trace_of(job), ..of_job(NewsKind::JobReserved, job) }
            }
            Event::LeaseExtended { job, deadline, .. } => {
                News { until: Some(deadline), ..of_job(NewsKind::LeaseExtended, job) }
            }
            Event::LeaseDropped { job, .. } => of_job(NewsKind::LeaseDropped, job),
            Event::JobUnblocked { job, parent } => News { parent: Some(parent), ..of_job(NewsKind::JobUnblocked, job) },
            Event::JobHeldUp { job, parent } => News { parent: Some(parent), ..of_job(NewsKind::JobHeldUp, job) },
            Event::JobForgotten { job } => of_job(NewsKind::JobForgotten, job),
            Event::JobProgressed { job, ref progress } => {
                News { progress: Some(progress.clone()), ..of_job(NewsKind::JobProgressed, job) }
            }
            Event::QueuePaused { queue, until, .. } if until > now => {
                News { until: Some(until), ..of_queue(NewsKind::QueuePaused, queue) }
            }
            Event::QueuePaused { queue, .. } => {
                News { reason: Some("asked"), ..of_queue(NewsKind::QueueResumed, queue) }
            }
            Event::PauseOver { queue } => News { reason: Some("time"), ..of_queue(NewsKind::QueueResumed, queue) },
            Event::QueueConfigured { queue, .. } => of_queue(NewsKind::QueueConfigured, queue),
            Event::QueueDropped { queue } => of_queue(NewsKind::QueueDropped, queue),
            // When it happened, by the clock as it is from now on.
            Event::ClockStepped { wall_time, .. } => News { wall: wall_time, ..news(NewsKind::ClockStepped) },
            Event::NumbersReserved { .. }
            | Event::JobKept(_)
            | Event::QueueKept(_)
            | Event::NumbersKept(_)
            | Event::AnswerKept(_)
            | Event::FailedKept(_)
            | Event::ScheduleKept(_)
            // The queue was not paused, and may be now.
            | Event::ThrottleOver { .. } => {
                return None;
            }
        };
        Some(said)
    }
}

/// What an event does not say itself.
pub(crate) trait Around {
    /// What the wall clock shows at a moment of engine time.
    fn wall_time(&self, moment: Time) -> Time;
    /// The queue of a job, if that is known.
    fn queue_of(&self, job: JobId) -> Option<QueueName>;
    /// The name of the queue that the event names.
    fn queue_name(&self, queue: QueueId) -> Option<QueueName>;
    /// The queue that a schedule puts into, if that is known.
    fn queue_of_schedule(&self, schedule: &QueueName) -> Option<QueueName>;
    /// The trace of a job that is handed out.
    fn trace_of(&self, job: JobId) -> Option<Box<Trace>>;
}

impl Around for State {
    fn wall_time(&self, moment: Time) -> Time {
        self.wall_time(moment)
    }

    fn queue_of(&self, job: JobId) -> Option<QueueName> {
        self.queue_of(job).map(|queue| self.queue(queue).name.clone())
    }

    fn queue_name(&self, queue: QueueId) -> Option<QueueName> {
        Some(self.queue(queue).name.clone())
    }

    fn queue_of_schedule(&self, schedule: &QueueName) -> Option<QueueName> {
        self.schedule_queue(schedule).cloned()
    }

    fn trace_of(&self, job: JobId) -> Option<Box<Trace>> {
        Trace::of(self.terms_of(job))
    }
}

/// What was taken down.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// In the order in which it happened.
    pub news: Vec<News>,
    /// If some before these were given up, the number that nothing given up reaches.
    pub lost_below: Option<u64>,
}

/// Takes down what happens.
#[derive(Debug, Default)]
pub(crate) struct NewsDesk {
    taken: Taken,
    bytes: usize,
    newest: Option<u64>,
}

impl NewsDesk {
    /// Has the event happen, and takes it down if it is news.
    pub(crate) fn apply(&mut self, seq: u64, event: Event, actor: Option<&Actor>, now: Time, state: &mut State) {
        let news = News::of(seq, now, &event, state);
        let is_over = event.ends_job().is_some();
        state.apply(event, now);
        let Some(mut news) = news else { return };
        news.actor = actor.cloned();
        news.state = news.kind.final_state().or_else(|| state.state_of(news.job?));
        debug_assert!(!is_over || news.state.is_some_and(JobState::is_final), "{news:?}");
        self.bytes += news.bytes();
        self.newest = Some(seq);
        if self.taken.news.len() >= NEWS_HELD || self.bytes > NEWS_HELD_BYTES {
            self.bytes = news.bytes();
            self.taken = Taken { news: Vec::new(), lost_below: Some(seq) };
        }
        self.taken.news.push(news);
    }

    /// The number of the newest, be it fetched already.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.newest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken.news.is_empty()
    }

    pub(crate) fn take(&mut self) -> Taken {
        self.bytes = 0;
        std::mem::take(&mut self.taken)
    }
}
