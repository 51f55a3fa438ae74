//! One round of a mix: its stages, what they must come to, and the cleaning up.
//!
//! A round has a queue of its own, so that its counts can be checked; but for `--keep` it leaves nothing behind.

use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;

use super::driver::{self, Done, Stage, Target};
use super::frames;
use super::group::Group;
use super::task::{Cycle, Delete, Put, PutDelayed, Shared, Take, Tally, Task, Verb};
use super::{BenchArgs, BenchError, DelayRange, Mix};
use rota_client::{Client, QueueName};

/// How many deletes are sent at once where they only clean up.
const CLEANING_DEPTH: usize = 256;

/// Longer than any stage: for those that `--time` must not end.
const NO_LIMIT: Duration = Duration::from_secs(365 * 86_400);

/// What a round came to.
pub(super) struct Round {
    /// How long the measured stage took.
    pub(super) elapsed: Duration,
    /// Puts, cycles, jobs taken or deletes, by the mix.
    pub(super) operations: u64,
    /// The latencies of all stages.
    pub(super) tally: Tally,
    /// Filling the queue before the measured stage: puts, and how long they took.
    pub(super) filling: Option<(u64, Duration)>,
    /// True if time ended it before the jobs did.
    pub(super) stopped_by_time: bool,
}

/// Where a round happens, and with how much.
struct Ground<'a> {
    target: &'a Target<'a>,
    args: &'a BenchArgs,
    delays: DelayRange,
    queue: QueueName,
    bar: &'a ProgressBar,
    number: u32,
}

/// Runs round `number` of the mix.
///
/// # Errors
/// Anything that is not exactly as it must be.
pub(super) fn run(
    target: &Target<'_>,
    args: &BenchArgs,
    delays: DelayRange,
    number: u32,
    client: &mut Client,
    bar: &ProgressBar,
) -> anyhow::Result<Round> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("rota-bench-{}-{}", process::id(), since_1970.as_nanos());
    let queue = name.parse().expect("digits, letters and minus make a name");
    let ground = Ground { target, args, delays, queue, bar, number };
    match args.mix {
        Mix::Put => ground.put(client),
        Mix::Cycle => ground.cycle(client),
        Mix::Delayed => ground.delayed(client),
        Mix::Cancel => ground.cancel(client),
    }
}

impl Ground<'_> {
    fn put(&self, client: &mut Client) -> anyhow::Result<Round> {
        let body: Arc<[u8]> = frames::pattern(self.args.size).into();
        let frames = self.frames(|out| self.group().push_puts(out, self.depth(), |out| frames::push_put(out, &body)));
        let done = self.stage(self.args.jobs, self.args.time, || {
            Task::Put(Put {
                frames: Arc::clone(&frames),
                depth: self.depth(),
                group: self.group(),
                body: Arc::clone(&body),
                left: 0,
                ids: Vec::new(),
            })
        })?;
        let Done { elapsed, tally, tasks, stopped_by_time } = done;
        let ids = unique(ids_of(tasks), "different ids")?;
        let operations = ids.len() as u64;
        count("answers to put", tally.latencies(Verb::Put).len(), operations)?;
        self.check_jobs(client, "current-jobs-ready", operations)?;
        if !self.args.keep {
            self.clean(ids)?;
            self.check_jobs(client, "current-jobs-ready", 0)?;
        }
        Ok(Round { elapsed, operations, tally, filling: None, stopped_by_time })
    }

    fn cycle(&self, client: &mut Client) -> anyhow::Result<Round> {
        let body: Arc<[u8]> = frames::pattern(self.args.size).into();
        let puts = self.frames(|out| self.group().push_puts(out, self.depth(), |out| frames::push_put(out, &body)));
        let reserves = self.frames(|out| self.group().push_reserves(out, self.depth()));
        let done = self.stage(self.args.jobs, self.args.time, || {
            Task::Cycle(Cycle {
                puts: Arc::clone(&puts),
                reserves: Arc::clone(&reserves),
                depth: self.depth(),
                group: self.group(),
                body: Arc::clone(&body),
                left: 0,
                in_answer: 0,
                verb: Verb::Delete,
                batch: Vec::new(),
                put_ids: Vec::new(),
                reserved_ids: Vec::new(),
            })
        })?;
        let Done { elapsed, tally, tasks, stopped_by_time } = done;
        let mut put = Vec::new();
        let mut reserved = Vec::new();
        for task in tasks {
            if let Task::Cycle(mut task) = task {
                put.append(&mut task.put_ids);
                reserved.append(&mut task.reserved_ids);
            }
        }
        let operations = self.check_round_trip(put, reserved)?;
        count("answers to delete", tally.latencies(Verb::Delete).len(), operations)?;
        self.check_jobs(client, "current-jobs-ready", 0)?;
        Ok(Round { elapsed, operations, tally, filling: None, stopped_by_time })
    }

    fn delayed(&self, client: &mut Client) -> anyhow::Result<Round> {
        let body: Arc<[u8]> = frames::pattern(self.args.size).into();
        let putting = self.connections();
        let mut tasks = self.filling(Some(false));
        let take = |_| {
            let (group, body, ids) = (self.group(), Arc::clone(&body), Vec::new());
            Task::Take(Take { group, body, ids, fresh: 0, deleting: 0, in_answer: 0 })
        };
        tasks.extend((0..putting).map(take));
        let done = driver::run(self.stage_of(tasks), || Shared::new(self.args.jobs, self.args.time, putting))?;
        let Done { elapsed, tally, tasks, stopped_by_time } = done;
        let (taking, putting): (Vec<_>, Vec<_>) = tasks.into_iter().partition(Task::is_open_ended);
        let operations = self.check_round_trip(ids_of(putting), ids_of(taking))?;
        count("answers to delete", tally.latencies(Verb::Delete).len(), operations)?;
        self.check_jobs(client, "current-jobs-delayed", 0)?;
        Ok(Round { elapsed, operations, tally, filling: None, stopped_by_time })
    }

    fn cancel(&self, client: &mut Client) -> anyhow::Result<Round> {
        self.bar.set_message("filling");
        let tasks = self.filling(None);
        let filled = driver::run(self.stage_of(tasks), || Shared::new(self.args.jobs, NO_LIMIT, 0))?;
        let mut ids = unique(ids_of(filled.tasks), "different ids")?;
        let jobs = ids.len() as u64;
        count("answers to put", jobs, self.args.jobs)?;
        self.check_jobs(client, "current-jobs-delayed", jobs)?;
        fastrand::Rng::with_seed(self.args.seed).shuffle(&mut ids);
        self.bar.set_message("cancelling");
        let mut shares = dealt(ids, self.connections()).into_iter();
        let done = self.stage(jobs, self.args.time, || {
            let ids = shares.next().expect("a share for every connection");
            Task::Delete(Delete { depth: self.depth(), group: self.group(), left: 0, ids })
        })?;
        let Done { elapsed, mut tally, tasks, stopped_by_time } = done;
        let operations = tally.latencies(Verb::Delete).len();
        let left = ids_of(tasks);
        count("answers to delete", operations, jobs - left.len() as u64)?;
        if !self.args.keep {
            self.clean(left)?;
            self.check_jobs(client, "current-jobs-delayed", 0)?;
        }
        // Its last answer is of before the measured stage.
        tally.merge(&filled.tally);
        Ok(Round { elapsed, operations, tally, filling: Some((jobs, filled.elapsed)), stopped_by_time })
    }

    /// A task for every connection that puts delayed jobs.
    fn filling(&self, stamped: Option<bool>) -> Vec<Task> {
        let body: Arc<[u8]> = frames::pattern(self.args.size).into();
        let task = |connection: usize| {
            let seed = [self.args.seed, u64::from(self.number), connection as u64];
            Task::PutDelayed(PutDelayed {
                depth: self.depth(),
                group: self.group(),
                left: 0,
                delays: self.delays,
                random: fastrand::Rng::with_seed(seed.into_iter().fold(0, |mixed, part| {
                    // Neighbouring seeds must not give neighbouring streams.
                    (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
                })),
                body: Arc::clone(&body),
                ids: Vec::new(),
                stamped,
            })
        };
        (0..self.connections()).map(task).collect()
    }

    /// Runs a stage in which every connection has the like task.
    fn stage(&self, jobs: u64, time: Duration, mut task: impl FnMut() -> Task) -> Result<Done, BenchError> {
        let tasks = (0..self.connections()).map(|_| task()).collect();
        driver::run(self.stage_of(tasks), || Shared::new(jobs, time, 0))
    }

    fn stage_of(&self, tasks: Vec<Task>) -> Stage<'_> {
        let longest_delay = match self.args.mix {
            Mix::Delayed => Duration::from_millis(self.delays.to_ms),
            _ => Duration::ZERO,
        };
        Stage {
            target: self.target,
            queue: &self.queue,
            tasks,
            threads: self.args.threads as usize,
            size: self.args.size,
            pace: self.pace(),
            longest_delay,
            bar: self.bar,
        }
    }

    /// Deletes what a measured stage has left.
    fn clean(&self, ids: Vec<u64>) -> Result<(), BenchError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.bar.set_message("cleaning up");
        let jobs = ids.len() as u64;
        let mut shares = dealt(ids, self.connections()).into_iter();
        let tasks = (0..self.connections()).map(|_| {
            let ids = shares.next().expect("a share for every connection");
            Task::Delete(Delete { depth: CLEANING_DEPTH, group: Group::One, left: 0, ids })
        });
        let stage = Stage { pace: None, ..self.stage_of(tasks.collect()) };
        let done = driver::run(stage, || Shared::new(jobs, NO_LIMIT, 0))?;
        count("answers to delete", done.tally.latencies(Verb::Delete).len(), jobs)
    }

    /// Every job that was put was reserved, once; gives how many that is.
    fn check_round_trip(&self, put: Vec<u64>, reserved: Vec<u64>) -> Result<u64, BenchError> {
        let put = unique(put, "different ids")?;
        let reserved = unique(reserved, "jobs reserved once")?;
        count("jobs reserved", reserved.len() as u64, put.len() as u64)?;
        let strangers = put.iter().zip(&reserved).filter(|(put, reserved)| put != reserved).count();
        count("jobs reserved that were not put", strangers as u64, 0)?;
        Ok(put.len() as u64)
    }

    /// The server's own count of the round's jobs; a queue that is gone has none.
    fn check_jobs(&self, client: &mut Client, field: &'static str, expected: u64) -> anyhow::Result<()> {
        let found = match client.stats_queue(&self.queue)? {
            Some(fields) => {
                let value = fields.iter().find(|(key, _)| key == field).map(|(_, value)| value);
                value.and_then(|value| value.parse().ok()).unwrap_or(u64::MAX)
            }
            None => 0,
        };
        Ok(count(field, found, expected)?)
    }

    /// How long a connection takes for a batch, at the rate that was asked for.
    fn pace(&self) -> Option<Duration> {
        let rate = self.args.rate.filter(|_| self.args.mix != Mix::Cancel)?;
        Some(Duration::from_secs_f64(f64::from(self.args.connections) * self.depth() as f64 / f64::from(rate)))
    }

    fn group(&self) -> Group {
        self.args.batch.map_or(Group::One, |jobs| Group::Batch(jobs as usize))
    }

    /// How many jobs a connection handles at once.
    fn depth(&self) -> usize {
        self.args.depth as usize * self.group().most()
    }

    /// What `push` writes, to be shared by all connections.
    fn frames(&self, push: impl FnOnce(&mut Vec<u8>)) -> Arc<[u8]> {
        let mut frames = Vec::new();
        push(&mut frames);
        frames.into()
    }

    fn connections(&self) -> usize {
        self.args.connections as usize
    }
}

/// What the tasks of a stage collected, or have left.
fn ids_of(tasks: Vec<Task>) -> Vec<u64> {
    let ids = tasks.into_iter().flat_map(|task| match task {
        Task::Put(task) => task.ids,
        Task::PutDelayed(task) => task.ids,
        Task::Take(task) => task.ids,
        Task::Delete(task) => task.ids,
        Task::Cycle(task) => task.put_ids,
    });
    ids.collect()
}

/// The ids in order, if none is there twice.
fn unique(mut ids: Vec<u64>, what: &'static str) -> Result<Vec<u64>, BenchError> {
    let expected = ids.len() as u64;
    ids.sort_unstable();
    ids.dedup();
    count(what, ids.len() as u64, expected)?;
    Ok(ids)
}

fn count(what: &'static str, found: u64, expected: u64) -> Result<(), BenchError> {
    match found == expected {
        true => Ok(()),
        false => Err(BenchError::Miscount { what, found, expected }),
    }
}

/// Deals ids out to `hands`, as evenly as can be.
fn dealt(ids: Vec<u64>, hands: usize) -> Vec<Vec<u64>> {
    let mut shares = vec![Vec::with_capacity(ids.len() / hands + 1); hands];
    for (index, id) in ids.into_iter().enumerate() {
        shares[index % hands].push(id);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_there_twice_is_a_miscount() {
        assert_eq!(unique(vec![3, 1, 2], "ids").ok(), Some(vec![1, 2, 3]));
        let error = unique(vec![3, 1, 3], "ids").map_err(|error| error.to_string());
        assert_eq!(error, Err("the server lost count: ids: 2 instead of 3".into()));
    }

    #[test]
    fn every_id_is_dealt_to_somebody() {
        assert_eq!(dealt(vec![1, 2, 3, 4, 5], 3), [vec![1, 4], vec![2, 5], vec![3]]);
        assert_eq!(dealt(vec![1], 2), [vec![1], vec![]]);
    }
}
