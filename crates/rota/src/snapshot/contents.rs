//! What is in a snapshot, job by job, in memory that does not grow with it.
//!
//! A snapshot's records give each job whole once; what happened to it while the snapshot was taken comes behind. So a
//! first pass collects those changes, and a second puts them together with the jobs. Where there are too many of them for
//! one pass, the jobs are done in parts, each with two passes of its own. `rota inspect` calls this; nothing is changed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rota_engine::event::{Event, KeptJob};
use rota_engine::job::{JobId, JobState, Priority, QueueName, Time};
use rota_engine::log;
use rota_engine::queue::QueueId;
use rota_engine::terms::OnParentFailure;

use super::error::ReadError;
use super::read::{Snapshot, SnapshotStorage};

/// Changed jobs that are kept in mind at a time.
const CHANGES: usize = 1 << 18;

/// A job of a snapshot. Leases that do not outlive the server are not in it: such a job is ready.
#[derive(Debug)]
pub(crate) struct FoundJob<'a> {
    pub(crate) id: u64,
    pub(crate) queue: &'a str,
    /// Reserved only under a durable lease.
    pub(crate) state: JobState,
    pub(crate) priority: u32,
    pub(crate) key: Option<&'a [u8]>,
    /// When it is due, by the wall clock of the server; none if that is out of range.
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) ttr: Duration,
    pub(crate) body: &'a [u8],
}

/// Jobs of a queue by state, in the order of [`JobState::ALL`].
pub(crate) type Counts = [u64; JobState::ALL.len()];

/// Jobs by state of every queue that has some, by name. Every byte of the snapshot was checked then.
///
/// # Errors
/// [`ReadError`].
pub(crate) fn queues(snapshot: &Arc<Snapshot>) -> anyhow::Result<BTreeMap<String, Counts>> {
    let mut queues = BTreeMap::<String, Counts>::new();
    jobs(snapshot, &mut |job| {
        if !queues.contains_key(job.queue) {
            queues.insert(job.queue.to_owned(), Counts::default());
        }
        let counts = queues.get_mut(job.queue).expect("it was put in if it was not there");
        counts[job.state as usize] += 1;
        Ok(())
    })?;
    Ok(queues)
}

/// Hands out every job, open or kept, in no particular order. Every byte of the snapshot was checked before the first.
///
/// # Errors
/// [`ReadError`], or what `print` said.
pub(crate) fn jobs(
    snapshot: &Arc<Snapshot>,
    print: &mut dyn FnMut(FoundJob<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    in_parts(snapshot, CHANGES, print)
}

fn in_parts(
    snapshot: &Arc<Snapshot>,
    most_changes: usize,
    print: &mut dyn FnMut(FoundJob<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let storage = snapshot.storage()?;
    let (mut parts, mut part) = (1, 0);
    while part < parts {
        let mut changes = Changes::default();
        each_event(snapshot, &storage, &mut |event, _| {
            changes.note(event, |job| job.0 % parts == part);
            while part == 0 && changes.jobs.len() > most_changes {
                parts *= 2;
                changes.jobs.retain(|job, _| job.0.is_multiple_of(parts));
            }
            Ok(())
        })?;
        each_event(snapshot, &storage, &mut |event, queue| {
            let kept = match event {
                Event::JobPut(put) => Cow::Owned(KeptJob::of_put(put.clone())),
                Event::JobKept(kept) | Event::JobReplaced(kept) => Cow::Borrowed(&**kept),
                _ => return Ok(()),
            };
            let job = kept.put.job;
            if job.0 % parts == part
                && changes.is_last(job, matches!(event, Event::JobReplaced(_)))
                && let Some(job) = changes.applied(&kept, queue)
            {
                print(job)?;
            }
            Ok(())
        })?;
        part += 1;
    }
    Ok(())
}

/// What became of jobs behind the records that give them whole.
#[derive(Default)]
struct Changes {
    jobs: HashMap<JobId, Change>,
    /// Jobs that others wait for, whose records come before their ends.
    parents: HashSet<JobId>,
    /// Those of them that ended, and whether they were done.
    ended: HashMap<JobId, bool>,
    /// Engine time at the end.
    end: Time,
    /// What is to be added to engine time for the wall clock's, in nanoseconds.
    wall: i128,
}

#[derive(Clone, Copy, Default)]
struct Change {
    /// How it ended, and until when it is kept.
    ended: Option<(JobState, Option<Time>)>,
    /// How often it was replaced.
    replaced: u32,
    /// Whether it was kicked: it waits for nothing then.
    is_kicked: bool,
    is_buried: Option<bool>,
    /// Whether somebody holds it under a durable lease.
    is_held: Option<bool>,
    priority: Option<Priority>,
    run_at: Option<Time>,
}

impl Changes {
    fn note(&mut self, event: &Event, is_wanted: impl Fn(JobId) -> bool) {
        self.parents.extend(event.parents());
        let (job, change) = match *event {
            Event::JobCompleted { job, ref kept } => (
                job,
                Change { ended: Some((JobState::Done, kept.as_ref().map(|kept| kept.until))), ..Change::default() },
            ),
            Event::JobCancelled { job, kept_until, .. } => {
                (job, Change { ended: Some((JobState::Cancelled, kept_until)), ..Change::default() })
            }
            Event::JobExpired { job, kept_until } => {
                (job, Change { ended: Some((JobState::Expired, kept_until)), ..Change::default() })
            }
            Event::JobReplaced(ref kept) => (kept.put.job, Change { replaced: 1, ..Change::default() }),
            Event::JobReleased { job, priority, run_at, .. } => (
                job,
                Change {
                    is_buried: Some(false),
                    is_held: Some(false),
                    priority: Some(priority),
                    run_at: Some(run_at),
                    ..Change::default()
                },
            ),
            Event::JobBuried { job, priority, .. } => {
                let (is_buried, is_held) = (Some(true), Some(false));
                (job, Change { is_buried, is_held, priority: Some(priority), ..Change::default() })
            }
            Event::JobFailed { job, run_at, .. } | Event::JobPulled { job, run_at } => {
                let (is_buried, is_held) = (Some(false), Some(false));
                (job, Change { is_buried, is_held, run_at: Some(run_at), ..Change::default() })
            }
            Event::LeaseGiven { job, .. } => (job, Change { is_held: Some(true), ..Change::default() }),
            Event::LeaseLost { job, .. } | Event::LeaseDropped { job, .. } => {
                (job, Change { is_held: Some(false), ..Change::default() })
            }
            Event::JobKicked { job, run_at } => {
                let (is_buried, run_at) = (Some(false), Some(run_at));
                (job, Change { is_kicked: true, is_buried, run_at, ..Change::default() })
            }
            Event::NumbersKept(ref kept) => {
                self.end = kept.engine_time;
                self.wall = i128::from(kept.wall_time.0) - i128::from(kept.engine_time.0);
                return;
            }
            _ => return,
        };
        if let Some((state, _)) = change.ended
            && self.parents.contains(&job)
        {
            self.ended.insert(job, state == JobState::Done);
        }
        if is_wanted(job) {
            let known = self.jobs.entry(job).or_default();
            if change.replaced > 0 {
                // What happened to it before does not count any more.
                *known = Change { replaced: known.replaced + 1, ..Change::default() };
            }
            known.ended = change.ended.or(known.ended);
            known.is_kicked |= change.is_kicked;
            known.is_buried = change.is_buried.or(known.is_buried);
            known.is_held = change.is_held.or(known.is_held);
            known.priority = change.priority.or(known.priority);
            known.run_at = change.run_at.or(known.run_at);
        }
    }

    /// Whether this is the record that says what a job is: that of its put, or of the last put that replaced it. Each is
    /// asked about once.
    fn is_last(&mut self, job: JobId, is_replacement: bool) -> bool {
        let Some(change) = self.jobs.get_mut(&job).filter(|change| change.replaced > 0) else { return true };
        change.replaced -= u32::from(is_replacement);
        is_replacement && change.replaced == 0
    }

    /// The job as it is at the end; `None` if it is gone.
    fn applied<'a>(&self, kept: &'a KeptJob, queue: Option<&'a QueueName>) -> Option<FoundJob<'a>> {
        let KeptJob { put, buried, course, lease, .. } = kept;
        let change = self.jobs.get(&put.job).copied().unwrap_or_default();
        let kept_before = course.as_ref().and_then(|course| course.ended.as_ref());
        let ended = change.ended.or(kept_before.map(|ended| (ended.state, Some(ended.until))));
        let run_at = change.run_at.unwrap_or(put.run_at);
        let state = match ended {
            Some((state, Some(until))) if until > self.end => state,
            Some(_) => return None,
            None if !change.is_kicked && self.is_blocked(kept) => JobState::Blocked,
            None if change.is_buried.unwrap_or(buried.is_some()) => JobState::Buried,
            None if change.is_held.unwrap_or(lease.is_some()) => JobState::Reserved,
            None if run_at > self.end => JobState::Delayed,
            None => JobState::Ready,
        };
        Some(FoundJob {
            id: put.job.0,
            queue: queue.map_or("", QueueName::as_str),
            state,
            priority: change.priority.unwrap_or(put.priority).0,
            key: put.key.as_deref(),
            run_at: Timestamp::from_nanosecond(i128::from(run_at.0) + self.wall).ok(),
            ttr: put.ttr,
            body: &put.body,
        })
    }

    /// Whether a job still waits for others, or for a kick.
    fn is_blocked(&self, kept: &KeptJob) -> bool {
        let policy = kept.put.terms.as_ref().map_or(OnParentFailure::Cancel, |terms| terms.on_parent_failure);
        kept.course.as_ref().is_some_and(|course| {
            let waits = |parent: &JobId| match self.ended.get(parent) {
                Some(is_done) => !is_done && policy == OnParentFailure::Hold,
                None => true,
            };
            course.held_by.is_some() || course.waits_for.iter().any(waits)
        })
    }
}

/// Hands out every event of the snapshot in order, with the queue that it names.
fn each_event(
    snapshot: &Arc<Snapshot>,
    storage: &SnapshotStorage,
    take: &mut dyn FnMut(&Event, Option<&QueueName>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut failed = None;
    let read = log::open(storage.clone(), [0; 16], &mut |record| {
        let mut queue = None;
        let event = record.event.resolve(&mut |name| {
            queue = Some(name.clone());
            QueueId(0)
        });
        take(&event, queue.as_ref()).map_err(|error| {
            failed = Some(error);
            "it was not taken".into()
        })
    });
    match (read, failed) {
        (_, Some(error)) => Err(error),
        (Err(source), None) => Err(ReadError::Records { address: snapshot.address(), source }.into()),
        (Ok(_), None) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
