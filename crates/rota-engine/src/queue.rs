//! One queue: its jobs by state, who waits for them, its pause, its counters.
//!
//! The state owns the queues and is the only one to change them.

use crate::groups::Groups;
use crate::job::{JobId, JobState, Priority, QueueName, Time};
use crate::log::{Lsn, settings_bytes};
use crate::pages::Slot;
use crate::refused::RefusedPuts;
use crate::session::SessionId;
use crate::spans::Spans;
use crate::wheel::Wheel;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A queue's handle in this process. It is reused once the queue is gone; the log names queues by their names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueId(pub u32);

impl QueueId {
    pub(crate) fn slot(self) -> Slot {
        Slot(self.0)
    }
}

/// Length of a queue's record in the log without its name and how it is set up, in bytes.
const RECORD_BYTES: u64 = 77;

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: QueueName,
    /// Its number in the order of creation.
    pub(crate) created: u64,
    /// Those that can be handed out, as far as their limit keys say; of those of one key the first.
    pub(crate) ready: Wheel<(Priority, Time, JobId)>,
    /// Its jobs with limit keys, from the first on that was ready.
    pub(crate) groups: Option<Box<Groups>>,
    pub(crate) delayed: Wheel<(Time, JobId)>,
    /// What waits for the wall clock, once something did.
    pub(crate) by_wall: Option<Box<ByWall>>,
    /// Delayed jobs that are not in memory.
    pub(crate) cold: u64,
    /// By the number of the burial.
    pub(crate) buried: BTreeMap<u64, Slot>,
    pub(crate) reserved: u64,
    /// Jobs that wait for others.
    pub(crate) blocked: BTreeSet<Slot>,
    /// Jobs that wait and expire, by when; those aside that do so by the wall clock.
    pub(crate) expiring: BTreeSet<(Time, JobId)>,
    /// Final jobs that are kept, by until when.
    pub(crate) ended: BTreeSet<(Time, JobId)>,
    /// Bytes of the bodies of its open jobs, those aside that are not in memory.
    pub(crate) body_bytes: u64,
    pub(crate) urgent: u64,
    /// By the number of the wait: first come, first served.
    pub(crate) waiting: BTreeMap<u64, SessionId>,
    /// Whether it is among those to be looked at for somebody who waits.
    pub(crate) is_unserved: bool,
    pub(crate) using: u32,
    pub(crate) watching: u32,
    /// `Time(0)` when not paused.
    pub(crate) paused_until: Time,
    pub(crate) pause_length: Duration,
    pub(crate) totals: QueueTotals,
    /// How long things took, once something did.
    pub(crate) times: Option<Box<Times>>,
    /// Puts that were refused, once one was.
    pub(crate) refused: Option<Box<RefusedPuts>>,
    pub(crate) settings: Option<Box<QueueSettings>>,
    /// When the bucket of its rate is full.
    pub(crate) full_at: Time,
    /// When that has a token again; `Time(0)` while it has one.
    pub(crate) throttled_until: Time,
    /// Whether the log knows of it.
    pub(crate) logged: bool,
    /// Where the log has it whole for the last time, and the sum of its totals there.
    pub(crate) whole_at: (Lsn, u64),
    /// When the state next looks at it: at or before its next deadline; `Time::NEVER` for not at all.
    pub(crate) wake_at: Time,
}

/// What of a queue waits for moments of the wall clock. It is ordered by those, so that nothing of it moves when the clock is
/// set.
#[derive(Debug, Default)]
pub(crate) struct ByWall {
    /// Delayed jobs that were put for such a moment.
    pub(crate) delayed: Wheel<(Time, JobId)>,
    /// Jobs that wait and expire at one.
    pub(crate) expiring: BTreeSet<(Time, JobId)>,
    /// What the wall clock shows when the state next looks at it: at or before its next deadline.
    pub(crate) wake_at: Option<Time>,
}

/// How a queue is set up. One that is set up stays when nothing is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueSettings {
    /// How long final jobs are kept; `None`: not at all.
    pub retain: Option<Duration>,
    /// The most open jobs; a put past them is refused.
    pub max_jobs: Option<u64>,
    /// The most bytes of bodies of open jobs, those aside that are not in memory; a put past them is refused.
    pub max_bytes: Option<u64>,
    /// The most of its jobs that are held at a time. A job that is reserved by its id counts, and is given all the same.
    pub concurrency: Option<u32>,
    /// How often a job of it is handed out at the most.
    pub rate: Option<Rate>,
    /// What holds for the jobs of each limit key, if anything does.
    pub per_key: Option<PerKey>,
    /// Whether a lease of its jobs stays in force when the engine is started again, where its token is handed on: see
    /// [`crate::engine::Engine::hand_tokens_on`]. It is asked when the lease is given.
    pub durable_leases: bool,
    /// When what is asked of it is answered; `None`: as whoever embeds the engine promises for all.
    pub sync: Option<QueueSync>,
}

/// When what is asked of a queue is answered, whatever is promised for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueSync {
    /// Once it is on the disk.
    Always,
}

/// What holds for the jobs of each limit key of a queue, for those of one key as for those of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerKey {
    /// The most that are held at a time. A job that is reserved by its id counts, and is given all the same.
    pub concurrency: Option<u32>,
    /// How often one is handed out at the most. A restart fills the buckets, and so does a change of this or of
    /// `concurrency`.
    pub rate: Option<Rate>,
}

/// So many in such a span: a bucket that holds `count` tokens, and gets one more each `per / count`. A restart fills it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// At least a nanosecond.
    pub per: Duration,
}

impl Rate {
    /// With the bucket as it was when it would have been full at `full_at`, a token is taken at `now`. Returns when it will be
    /// full, and when there is a token again.
    ///
    /// It is the generic cell rate algorithm (ITU-T I.371), which needs one number.
    #[must_use]
    pub fn take(self, full_at: Time, now: Time) -> (Time, Time) {
        let per = u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX).max(1);
        let each = per.div_ceil(u64::from(self.count.max(1)));
        let full_at = Time(full_at.max(now).0.saturating_add(each));
        (full_at, Time(full_at.0.saturating_sub(per.saturating_sub(each))))
    }
}

impl QueueSettings {
    /// Whether they set nothing up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == QueueSettings::default()
    }
}

/// How long things took since the server started. It is not in the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// From when a job was due until it was handed out for the first time; jobs that waited for others are left out.
    pub latency: Spans,
    /// From when a job was handed out until its holder completed it.
    pub run_time: Spans,
}

/// What happened in a queue since it was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueTotals {
    /// Jobs put.
    pub puts: u64,
    /// Jobs that ended: completed, cancelled or expired.
    pub deletes: u64,
    /// Pauses asked for.
    pub pauses: u64,
    /// Leases that ran out.
    pub lost_leases: u64,
    /// Of those that ended, jobs that were called off.
    pub cancelled: u64,
    /// Of those that ended, jobs that were not begun in time.
    pub expired: u64,
    /// What else was done to jobs.
    pub turns: Turns,
}

impl QueueTotals {
    /// Jobs that were completed: the others that ended. What ended before the two were counted is among them.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.deletes.saturating_sub(self.cancelled + self.expired)
    }

    /// All of them together, which is another number once one of them counted something.
    pub(crate) fn sum(&self) -> u64 {
        let QueueTotals { puts, deletes, pauses, lost_leases, cancelled, expired, turns } = *self;
        let Turns { failed, released, buried, kicked } = turns;
        puts + deletes + pauses + lost_leases + cancelled + expired + failed + released + buried + kicked
    }
}

/// How often jobs took a turn that is neither their begin nor their end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turns {
    /// Attempts that failed.
    pub failed: u64,
    /// Times that a holder gave a job back without fault.
    pub released: u64,
    /// Times that a job was set aside, whatever for.
    pub buried: u64,
    /// Times that a job was kicked.
    pub kicked: u64,
}

impl Queue {
    /// Counts how a job ended, where that is not the rule.
    pub(crate) fn count_end(&mut self, state: JobState) {
        match state {
            JobState::Cancelled => self.totals.cancelled += 1,
            JobState::Expired => self.totals.expired += 1,
            _ => {}
        }
    }

    pub(crate) fn new(name: QueueName, created: u64) -> Queue {
        Queue {
            name,
            created,
            ready: Wheel::default(),
            groups: None,
            delayed: Wheel::default(),
            by_wall: None,
            cold: 0,
            buried: BTreeMap::new(),
            reserved: 0,
            blocked: BTreeSet::new(),
            expiring: BTreeSet::new(),
            ended: BTreeSet::new(),
            body_bytes: 0,
            urgent: 0,
            waiting: BTreeMap::new(),
            is_unserved: false,
            using: 0,
            watching: 0,
            paused_until: Time(0),
            pause_length: Duration::ZERO,
            totals: QueueTotals::default(),
            times: None,
            refused: None,
            settings: None,
            full_at: Time(0),
            throttled_until: Time(0),
            logged: false,
            whole_at: (Lsn(0), 0),
            wake_at: Time::NEVER,
        }
    }

    /// Length of it in the log, about, in bytes.
    pub(crate) fn record_bytes(&self) -> u64 {
        let settings = self.settings.as_ref().map_or(0, |settings| settings_bytes(settings));
        RECORD_BYTES + self.name.as_str().len() as u64 + settings
    }

    pub(crate) fn is_paused(&self, now: Time) -> bool {
        self.paused_until > now
    }

    /// Whether it hands nothing out to who asks for any job: for its pause, its rate, or as many are held as may be; or some
    /// limit keys were not told yet what holds for them now.
    pub(crate) fn is_closed(&self) -> bool {
        let most = self.settings.as_ref().and_then(|settings| settings.concurrency);
        self.holds_back()
            || self.throttled_until != Time(0)
            || self.groups.as_ref().is_some_and(|groups| groups.is_telling())
            || most.is_some_and(|most| self.reserved >= u64::from(most))
    }

    /// Whether it is paused, or was and that was not found to be over yet.
    pub(crate) fn holds_back(&self) -> bool {
        self.paused_until != Time(0)
    }

    /// Whether nothing is in it and nothing refers to it.
    pub(crate) fn is_idle(&self) -> bool {
        self.using == 0 && self.watching == 0 && self.is_bare()
    }

    /// Whether nothing is in it and nothing was asked of it: it is there for those alone who use or watch it.
    pub(crate) fn is_bare(&self) -> bool {
        self.reserved == 0
            && self.ready_jobs() == 0
            && self.delayed_jobs() == 0
            && self.cold == 0
            && self.buried.is_empty()
            && self.blocked.is_empty()
            && self.ended.is_empty()
            && self.paused_until == Time(0)
            && self.settings.is_none()
    }

    /// How many ready jobs are in it, those included that their limit keys hold back.
    pub(crate) fn ready_jobs(&self) -> u64 {
        self.ready.len() as u64 + self.groups.as_ref().map_or(0, |groups| groups.parked())
    }

    /// How many delayed jobs are in it and in memory.
    pub(crate) fn delayed_jobs(&self) -> usize {
        self.delayed.len() + self.by_wall.as_ref().map_or(0, |by_wall| by_wall.delayed.len())
    }

    /// How many open jobs are in it, in memory or not.
    pub(crate) fn open_jobs(&self) -> u64 {
        let lines = self.delayed_jobs() + self.buried.len() + self.blocked.len();
        self.ready_jobs() + lines as u64 + self.cold + self.reserved
    }

    /// Until when a job is kept that ends at `now`.
    pub(crate) fn kept_until(&self, now: Time) -> Option<Time> {
        self.settings.as_ref().and_then(|settings| settings.retain).map(|retain| now.after(retain))
    }
}

/// A queue as it can be seen from outside, at the moment of asking. Counters, never scans.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// Its name.
    pub name: QueueName,
    /// Ready jobs of a priority below [`Priority::URGENT_BELOW`].
    pub urgent: u64,
    /// Jobs that can be reserved.
    pub ready: u64,
    /// Those of them that are not handed out now because of their limit keys.
    pub held_back: u64,
    /// Jobs that are held.
    pub reserved: u64,
    /// Jobs whose `run_at` is ahead.
    pub delayed: u64,
    /// Jobs set aside.
    pub buried: u64,
    /// Jobs that wait for others.
    pub blocked: u64,
    /// Final jobs that are kept.
    pub ended: u64,
    /// Bytes of the bodies of its open jobs, those aside that are not in memory.
    pub body_bytes: u64,
    /// How it is set up.
    pub settings: QueueSettings,
    /// What happened so far.
    pub totals: QueueTotals,
    /// Puts that were refused since the server started.
    pub refused: RefusedPuts,
    /// Sessions that use it.
    pub using: u32,
    /// Sessions that watch it.
    pub watching: u32,
    /// Sessions that wait for a job of it.
    pub waiting: u64,
    /// The length of the pause under way; zero if there is none.
    pub pause: Duration,
    /// What is left of that pause.
    pub pause_left: Duration,
}
