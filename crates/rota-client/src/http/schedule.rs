//! Schedules: jobs that are put again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Method};
use super::job::found;
use super::values::{self, escape};
use super::{BackOff, Client, Error, Job, JobState, NewJob, ProblemKind};

/// A schedule to set up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewSchedule {
    #[serde(flatten)]
    ticks: Ticks,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_missed: Option<OnMissed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_overlap: Option<OnOverlap>,
    job: NewJob,
}

/// When a schedule puts its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Ticks {
    /// By an expression of five fields, or a word such as `@daily`.
    Cron {
        /// The expression.
        cron: String,
        /// The time zone in which it is read, by its IANA name; UTC unless told.
        #[serde(skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
    /// By the wall clock, a span after each other.
    Every {
        /// The span: at least a second.
        #[serde(with = "values::span")]
        every: Duration,
        /// A tick from which the others are counted; none is before it. The first is a span after it was set, unless told.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Timestamp>,
    },
}

/// What becomes of ticks that passed while the server was down, or when the clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnMissed {
    /// They are left out.
    Skip,
    /// The last of them fires, for all.
    Once,
    /// Each fires, but for those before the last 1,000.
    All,
}

/// What becomes of a tick while the job of the last firing is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnOverlap {
    /// It fires all the same.
    Allow,
    /// It is left out.
    Skip,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// Its expression, where it has one.
    #[serde(default)]
    pub cron: Option<String>,
    /// The time zone of that.
    #[serde(default)]
    pub zone: Option<String>,
    /// The span between its ticks, where it has no expression.
    #[serde(default, with = "values::maybe_span")]
    pub every: Option<Duration>,
    /// A tick from which those are counted.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// What becomes of ticks that were missed.
    pub on_missed: OnMissed,
    /// What becomes of ticks that come too soon.
    pub on_overlap: OnOverlap,
    /// Whether it passes over its ticks until it is resumed.
    pub paused: bool,
    /// When it was set up first.
    pub created_at: Timestamp,
    /// Its next ticks: five where one schedule is looked at, one in a list; none while it is paused.
    pub next: Vec<Timestamp>,
    /// Its next tick has come, and waits for room on the disk.
    #[serde(default)]
    pub waits_for_room: bool,
    /// What happened last.
    #[serde(default)]
    pub last: Option<LastTick>,
    /// The job that it put last.
    #[serde(default)]
    pub last_job: Option<LastTicked>,
    /// Jobs that it put.
    pub fired: u64,
    /// Ticks left out since they passed before they had their turn.
    pub missed: u64,
    /// Ticks left out since the job of the last firing was open.
    pub overlapped: u64,
    /// Ticks whose put was refused.
    pub refused: u64,
    /// What it puts.
    pub job: ScheduledJob,
}

/// The last thing that happened with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LastTick {
    /// The tick; of a run that somebody asked for, the moment of it.
    pub tick: Timestamp,
    /// When it had its turn.
    pub at: Timestamp,
    /// What came of it: `put`, `run`, `missed`, `overlap`, `key-taken`, `queue-full` or `bad-terms`.
    pub outcome: String,
    /// The job that was put, or that was in the way.
    #[serde(default, with = "values::maybe_number")]
    pub job: Option<u64>,
}

/// The job that a schedule put last.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LastTicked {
    /// Its id.
    #[serde(with = "values::number")]
    pub id: u64,
    /// The tick that it was put at.
    pub tick: Timestamp,
    /// Its state, as long as it is there.
    #[serde(default)]
    pub state: Option<JobState>,
}

/// What a schedule puts, without the body.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ScheduledJob {
    /// Where it goes.
    pub queue: String,
    /// 0 is the most urgent.
    pub priority: u32,
    /// How long a lease on it lasts.
    #[serde(with = "values::span")]
    pub ttr: Duration,
    /// Its key.
    #[serde(default)]
    pub key: Option<String>,
    /// Failed attempts after which it is buried; 0 for no limit.
    pub max_attempts: u16,
    /// Lost leases after which it is buried; 0 for no limit.
    pub max_lost_leases: u16,
    /// How long it waits after a failed attempt.
    #[serde(default)]
    pub back_off: Option<BackOff>,
    /// The class of work.
    #[serde(default)]
    pub kind: Option<String>,
    /// Whose job it is.
    #[serde(default)]
    pub limit_key: Option<String>,
    /// Names and values that travel with it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// If it was not begun so long after its tick fired, it expires.
    #[serde(default, with = "values::maybe_span")]
    pub expires_in: Option<Duration>,
    /// Length of its body in bytes.
    pub body_bytes: u64,
}

/// A page of the list of schedules, by name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SchedulePage {
    /// The schedules.
    pub schedules: Vec<Schedule>,
    /// Where the next page begins; none where this is the last one.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl NewSchedule {
    /// Puts that job at the ticks of a cron expression in UTC, `30 4 * * 1-5` or `@daily`.
    pub fn cron(expression: impl Into<String>, job: NewJob) -> NewSchedule {
        NewSchedule::at(Ticks::Cron { cron: expression.into(), zone: None }, job)
    }

    /// Puts that job at each end of such a span.
    pub fn every(span: Duration, job: NewJob) -> NewSchedule {
        NewSchedule::at(Ticks::Every { every: span, from: None }, job)
    }

    /// Puts that job at those ticks.
    pub fn at(ticks: Ticks, job: NewJob) -> NewSchedule {
        NewSchedule { ticks, on_missed: None, on_overlap: None, job }
    }

    /// What becomes of ticks that were missed: the last one fires for all unless told.
    #[must_use]
    pub fn on_missed(self, what: OnMissed) -> NewSchedule {
        NewSchedule { on_missed: Some(what), ..self }
    }

    /// What becomes of a tick while the job of the last firing is open: it fires all the same unless told.
    #[must_use]
    pub fn on_overlap(self, what: OnOverlap) -> NewSchedule {
        NewSchedule { on_overlap: Some(what), ..self }
    }
}

fn path(schedule: &str, rest: &str) -> String {
    format!("/v1/schedules/{}{rest}", escape(schedule))
}

impl Client {
    /// Sets a schedule up, whether it is there or not, and gives it as it is then.
    ///
    /// # Errors
    /// [`Error`]
    pub fn set_schedule(&self, name: &str, schedule: &NewSchedule) -> Result<Schedule, Error> {
        let path = path(name, "");
        self.call(&Ask::new(Method::Put, &path).json(schedule)?)
    }

    /// A schedule; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn schedule(&self, name: &str) -> Result<Option<Schedule>, Error> {
        found(self.get(&path(name, "")), ProblemKind::ScheduleNotFound)
    }

    /// A page of the schedules, of at most 1,000: go on with its cursor until a page has none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn schedules(&self, cursor: Option<&str>) -> Result<SchedulePage, Error> {
        let cursor = cursor.map(|cursor| format!("&cursor={}", escape(cursor))).unwrap_or_default();
        self.get(&format!("/v1/schedules?limit=1000{cursor}"))
    }

    /// Deletes a schedule, and gives it as it was; none if there is none. Jobs that it put are left alone.
    ///
    /// # Errors
    /// [`Error`]
    pub fn delete_schedule(&self, name: &str) -> Result<Option<Schedule>, Error> {
        let path = path(name, "");
        found(self.call(&Ask::new(Method::Delete, &path)), ProblemKind::ScheduleNotFound)
    }

    /// Has a schedule pass over its ticks until it is resumed; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn pause_schedule(&self, name: &str) -> Result<Option<Schedule>, Error> {
        let path = path(name, "/pause");
        found(self.call(&Ask::new(Method::Post, &path)), ProblemKind::ScheduleNotFound)
    }

    /// Has a paused schedule go on with its next tick; none if there is none.
    ///
    /// # Errors
    /// [`Error`]
    pub fn resume_schedule(&self, name: &str) -> Result<Option<Schedule>, Error> {
        let path = path(name, "/resume");
        found(self.call(&Ask::new(Method::Post, &path)), ProblemKind::ScheduleNotFound)
    }

    /// Puts a schedule's job now, beside its ticks; none if there is no such schedule.
    ///
    /// # Errors
    /// [`Error`]
    pub fn run_schedule(&self, name: &str) -> Result<Option<Job>, Error> {
        let path = path(name, "/run");
        found(self.call(&Ask::new(Method::Post, &path)), ProblemKind::ScheduleNotFound)
    }
}
