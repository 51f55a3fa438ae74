//! What one connection does in a stage, batch by batch, and which answers are right.
//!
//! A task writes its next batch into the connection's output and takes answers from its input; it never touches a
//! socket. What tasks of a stage share (how many jobs are left, the clock's zero, who is finished) is in [`Shared`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::frames::{self, Found};
use super::group::Group;
use super::{BenchError, DelayRange, STAMP_BYTES};

/// A command that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Put,
    Reserve,
    Delete,
}

impl Verb {
    /// Every verb, in the order of a job's life.
    pub(super) const ALL: [Verb; 3] = [Verb::Put, Verb::Reserve, Verb::Delete];
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Put => "put",
            Verb::Reserve => "reserve",
            Verb::Delete => "delete",
        })
    }
}

/// What the tasks of a stage have in common.
pub(super) struct Shared {
    /// When the stage began; stamps in bodies count from here.
    pub(super) start: Instant,
    /// When it should end.
    deadline: Instant,
    /// Jobs that nobody has claimed yet; below zero once they are gone.
    unclaimed: AtomicI64,
    /// Whole jobs done, for the progress bar.
    pub(super) done: AtomicU64,
    /// Tasks that still put jobs for others to take.
    putting: AtomicUsize,
    /// Jobs put for others to take, less those that were taken.
    open: AtomicI64,
}

impl Shared {
    /// For a stage of `jobs` jobs that begins now, with `putting` tasks that put for others.
    pub(super) fn new(jobs: u64, time: Duration, putting: usize) -> Self {
        let start = Instant::now();
        Shared {
            start,
            deadline: start + time,
            unclaimed: AtomicI64::new(i64::try_from(jobs).expect("jobs are bounded by the command line")),
            done: AtomicU64::new(0),
            putting: AtomicUsize::new(putting),
            open: AtomicI64::new(0),
        }
    }

    /// True once every job that was put for others is taken and deleted, and no more will come.
    pub(super) fn all_taken(&self) -> bool {
        self.putting.load(Ordering::Acquire) == 0 && self.open.load(Ordering::Acquire) == 0
    }

    /// True if time ended the stage before the jobs did.
    pub(super) fn jobs_left(&self) -> bool {
        self.unclaimed.load(Ordering::Relaxed) > 0
    }

    fn claim(&self, most: usize, now: Instant) -> usize {
        if now >= self.deadline {
            return 0;
        }
        let most = i64::try_from(most).expect("a depth is bounded by the command line");
        let before = self.unclaimed.fetch_sub(most, Ordering::Relaxed);
        usize::try_from(before.clamp(0, most)).expect("it is not negative")
    }
}

/// What one thread measured.
pub(super) struct Tally {
    latencies: [Histogram<u64>; 3],
    /// How late delayed jobs came, in nanoseconds.
    pub(super) lateness: Histogram<u64>,
    /// Delayed jobs that came before they were due.
    pub(super) early: u64,
    /// When the last answer came.
    pub(super) last_answer: Option<Instant>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Tally { latencies: [histogram(), histogram(), histogram()], lateness: histogram(), early: 0, last_answer: None }
    }

    /// The latencies of a verb, in nanoseconds from a batch's write to the answer for each job.
    pub(super) fn latencies(&self, verb: Verb) -> &Histogram<u64> {
        &self.latencies[verb as usize]
    }

    /// Adds what another thread measured.
    pub(super) fn merge(&mut self, other: &Tally) {
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
        self.lateness.add(&other.lateness).expect("all histograms have the same bounds");
        self.early += other.early;
        self.last_answer = self.last_answer.max(other.last_answer);
    }

    fn record(&mut self, verb: Verb, moment: Moment, jobs: usize) {
        let nanos = u64::try_from((moment.read - moment.written).as_nanos()).unwrap_or(u64::MAX);
        self.latencies[verb as usize].saturating_record_n(nanos, jobs as u64);
    }
}

fn histogram() -> Histogram<u64> {
    // Up to an hour, three digits.
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are in order")
}

/// The bytes of a batch: the connection's own, or a piece of frames that all connections share.
pub(super) enum Outgoing {
    Own(Vec<u8>),
    Shared(Arc<[u8]>, Range<usize>),
}

impl Outgoing {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Outgoing::Own(bytes) => bytes,
            Outgoing::Shared(bytes, range) => &bytes[range.clone()],
        }
    }

    fn own(&mut self) -> &mut Vec<u8> {
        if !matches!(self, Outgoing::Own(_)) {
            *self = Outgoing::Own(Vec::new());
        }
        let Outgoing::Own(bytes) = self else { unreachable!("it was made so above") };
        bytes.clear();
        bytes
    }
}

/// When a batch was written and when its answers were read.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) written: Instant,
    pub(super) read: Instant,
}

/// What a task took from the input: whole answers, and of the next one what can be understood without its end.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) answers: usize,
    /// The jobs that were taken.
    pub(super) jobs: usize,
}

/// One connection's part in a stage.
pub(super) enum Task {
    /// Puts, all alike.
    Put(Put),
    /// Put, reserve and delete batches by turns.
    Cycle(Cycle),
    /// Puts with random delays.
    PutDelayed(PutDelayed),
    /// Reserves and deletes what others put, one at a time, until all is taken.
    Take(Take),
    /// Deletes of known jobs.
    Delete(Delete),
}

impl Task {
    /// Writes the next batch to `out` and gives the number of its answers; zero if the task is finished.
    pub(super) fn next(&mut self, shared: &Shared, now: Instant, out: &mut Outgoing) -> usize {
        match self {
            Task::Put(task) => task.next(shared, now, out),
            Task::Cycle(task) => task.next(shared, now, out),
            Task::PutDelayed(task) => task.next(shared, now, out),
            Task::Take(task) => task.next(out),
            Task::Delete(task) => task.next(shared, now, out),
        }
    }

    /// Takes whole answers from the beginning of `input`, at most `awaited`.
    ///
    /// # Errors
    /// An answer that is not right.
    pub(super) fn answers(
        &mut self,
        input: &[u8],
        awaited: usize,
        moment: Moment,
        shared: &Shared,
        tally: &mut Tally,
    ) -> Result<Taken, BenchError> {
        match self {
            Task::Put(task) => {
                let taken = take_inserted(task.group, input, awaited, &mut task.left, &mut task.ids)?;
                tally.record(Verb::Put, moment, taken.jobs);
                shared.done.fetch_add(taken.jobs as u64, Ordering::Relaxed);
                Ok(taken)
            }
            Task::PutDelayed(task) => {
                let taken = take_inserted(task.group, input, awaited, &mut task.left, &mut task.ids)?;
                tally.record(Verb::Put, moment, taken.jobs);
                if task.stamped.is_none() {
                    shared.done.fetch_add(taken.jobs as u64, Ordering::Relaxed);
                }
                Ok(taken)
            }
            Task::Delete(task) => {
                let taken = take_deleted(task.group, input, awaited, &mut task.left)?;
                tally.record(Verb::Delete, moment, taken.jobs);
                shared.done.fetch_add(taken.jobs as u64, Ordering::Relaxed);
                Ok(taken)
            }
            Task::Cycle(task) => task.answers(input, awaited, moment, shared, tally),
            Task::Take(task) => task.answers(input, awaited, moment, shared, tally),
        }
    }

    /// The command whose answer is awaited.
    pub(super) fn verb(&self) -> Verb {
        match self {
            Task::Put(_) | Task::PutDelayed(_) => Verb::Put,
            Task::Cycle(task) => task.verb,
            Task::Take(task) if task.deleting > 0 => Verb::Delete,
            Task::Take(_) => Verb::Reserve,
            Task::Delete(_) => Verb::Delete,
        }
    }

    /// True if the next batch goes on with the jobs of the one before.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self, Task::Cycle(task) if task.verb != Verb::Delete)
    }

    /// True if the task goes on until [`Shared::all_taken`].
    pub(super) fn is_open_ended(&self) -> bool {
        matches!(self, Task::Take(_))
    }
}

/// See [`Task::Put`].
pub(super) struct Put {
    /// A full batch.
    pub(super) frames: Arc<[u8]>,
    /// How many jobs that is.
    pub(super) depth: usize,
    /// How they go into commands.
    pub(super) group: Group,
    /// The body of every job.
    pub(super) body: Arc<[u8]>,
    /// Jobs of the batch under way that are not answered.
    pub(super) left: usize,
    /// The ids that were answered.
    pub(super) ids: Vec<u64>,
}

impl Put {
    fn next(&mut self, shared: &Shared, now: Instant, out: &mut Outgoing) -> usize {
        self.left = shared.claim(self.depth, now);
        match self.left == self.depth {
            true => *out = share(&self.frames),
            false => self.group.push_puts(out.own(), self.left, |out| frames::push_put(out, &self.body)),
        }
        self.group.commands(self.left)
    }
}

/// See [`Task::Cycle`].
pub(super) struct Cycle {
    /// Full batches of puts and of reserves.
    pub(super) puts: Arc<[u8]>,
    pub(super) reserves: Arc<[u8]>,
    /// How many jobs a batch has.
    pub(super) depth: usize,
    /// How they go into commands.
    pub(super) group: Group,
    /// The body of every job.
    pub(super) body: Arc<[u8]>,
    /// Jobs of the batch under way that are not answered; in the middle of an answer, how many of them it has.
    pub(super) left: usize,
    pub(super) in_answer: usize,
    /// What the batch under way is; a delete before the first.
    pub(super) verb: Verb,
    /// Ids of the batch under way, as they were put, then as they were reserved.
    pub(super) batch: Vec<u64>,
    /// Every id that was put, and every id that was reserved: which connection gets which job is the server's
    /// affair, so that only all connections together come out even.
    pub(super) put_ids: Vec<u64>,
    pub(super) reserved_ids: Vec<u64>,
}

impl Cycle {
    fn next(&mut self, shared: &Shared, now: Instant, out: &mut Outgoing) -> usize {
        match self.verb {
            Verb::Delete => {
                self.verb = Verb::Put;
                self.batch.clear();
                self.left = shared.claim(self.depth, now);
                match self.left == self.depth {
                    true => *out = share(&self.puts),
                    false => self.group.push_puts(out.own(), self.left, |out| frames::push_put(out, &self.body)),
                }
            }
            Verb::Put => {
                self.verb = Verb::Reserve;
                self.put_ids.extend_from_slice(&self.batch);
                self.left = self.batch.len();
                self.batch.clear();
                match self.left == self.depth {
                    true => *out = share(&self.reserves),
                    false => self.group.push_reserves(out.own(), self.left),
                }
            }
            // Batches may have had fewer jobs than were asked for.
            Verb::Reserve if self.left > 0 => self.group.push_reserves(out.own(), self.left),
            Verb::Reserve => {
                self.verb = Verb::Delete;
                self.reserved_ids.extend_from_slice(&self.batch);
                self.left = self.batch.len();
                self.group.push_deletes(out.own(), &self.batch);
            }
        }
        self.group.commands(self.left)
    }

    fn answers(
        &mut self,
        input: &[u8],
        awaited: usize,
        moment: Moment,
        shared: &Shared,
        tally: &mut Tally,
    ) -> Result<Taken, BenchError> {
        let taken = match self.verb {
            Verb::Put => take_inserted(self.group, input, awaited, &mut self.left, &mut self.batch)?,
            Verb::Reserve => {
                let (batch, body) = (&mut self.batch, &self.body);
                let taken = take_reserved(self.group, input, awaited, &mut self.in_answer, body.len(), |id, found| {
                    batch.push(id);
                    if *found == **body { Ok(()) } else { Err(BenchError::WrongBody { id }) }
                })?;
                self.left = self.left.checked_sub(taken.jobs).ok_or_else(|| unexpected(Verb::Reserve, input))?;
                taken
            }
            Verb::Delete => {
                let taken = take_deleted(self.group, input, awaited, &mut self.left)?;
                shared.done.fetch_add(taken.jobs as u64, Ordering::Relaxed);
                taken
            }
        };
        tally.record(self.verb, moment, taken.jobs);
        Ok(taken)
    }
}

/// See [`Task::PutDelayed`].
pub(super) struct PutDelayed {
    pub(super) depth: usize,
    pub(super) group: Group,
    /// Jobs of the batch under way that are not answered.
    pub(super) left: usize,
    pub(super) delays: DelayRange,
    pub(super) random: fastrand::Rng,
    pub(super) body: Arc<[u8]>,
    /// The ids that were answered.
    pub(super) ids: Vec<u64>,
    /// Whether bodies say when they are due, for tasks that take them; and then, whether this task has told the
    /// others that it is finished.
    pub(super) stamped: Option<bool>,
}

impl PutDelayed {
    fn next(&mut self, shared: &Shared, now: Instant, out: &mut Outgoing) -> usize {
        let count = shared.claim(self.depth, now);
        if count == 0 {
            if self.stamped == Some(false) {
                self.stamped = Some(true);
                shared.putting.fetch_sub(1, Ordering::AcqRel);
            }
            return 0;
        }
        self.left = count;
        self.group.push_puts(out.own(), count, |bytes| {
            let delay_ms = match self.delays.is_whole_seconds() {
                true => self.random.u64(self.delays.from_ms / 1_000..=self.delays.to_ms / 1_000) * 1_000,
                false => self.random.u64(self.delays.from_ms..=self.delays.to_ms),
            };
            let at = frames::push_delayed_put(bytes, self.delays, delay_ms, &self.body);
            if self.stamped.is_some() {
                let due = now - shared.start + Duration::from_millis(delay_ms);
                let stamp = format!("{:0STAMP_BYTES$}", due.as_nanos());
                bytes[at..at + STAMP_BYTES].copy_from_slice(stamp.as_bytes());
            }
        });
        if self.stamped.is_some() {
            // Before they are sent: a job may be taken before its put is answered.
            let count = i64::try_from(count).expect("a depth is bounded by the command line");
            shared.open.fetch_add(count, Ordering::AcqRel);
        }
        self.group.commands(count)
    }
}

/// See [`Task::Take`].
pub(super) struct Take {
    pub(super) group: Group,
    /// What every body is, but for its stamp.
    pub(super) body: Arc<[u8]>,
    /// Every id that was reserved.
    pub(super) ids: Vec<u64>,
    /// How many of the last of them are to be deleted next.
    pub(super) fresh: usize,
    /// How many are, while the answer to that is awaited, and then the one to a reserve.
    pub(super) deleting: usize,
    /// In the middle of an answer to a reserve, the jobs of it that are to come.
    pub(super) in_answer: usize,
}

impl Take {
    fn next(&mut self, out: &mut Outgoing) -> usize {
        let bytes = out.own();
        self.deleting = std::mem::take(&mut self.fresh);
        self.group.push_deletes(bytes, &self.ids[self.ids.len() - self.deleting..]);
        self.group.push_reserves(bytes, self.group.most());
        1 + usize::from(self.deleting > 0)
    }

    fn answers(
        &mut self,
        input: &[u8],
        awaited: usize,
        moment: Moment,
        shared: &Shared,
        tally: &mut Tally,
    ) -> Result<Taken, BenchError> {
        let mut taken = Taken::default();
        if self.deleting > 0 {
            taken = take_deleted(self.group, input, 1, &mut self.deleting)?;
            if taken.answers == 0 {
                return Ok(taken);
            }
            tally.record(Verb::Delete, moment, taken.jobs);
            shared.done.fetch_add(taken.jobs as u64, Ordering::Relaxed);
            let deleted = i64::try_from(taken.jobs).expect("a batch is bounded by the command line");
            shared.open.fetch_sub(deleted, Ordering::AcqRel);
        }
        if taken.answers == awaited {
            return Ok(taken);
        }
        let (ids, body) = (&mut self.ids, &self.body);
        let rest = &input[taken.bytes..];
        let reserved = take_reserved(self.group, rest, 1, &mut self.in_answer, body.len(), |id, found| {
            let (stamp, pattern) = found.split_at(STAMP_BYTES);
            let stamp = std::str::from_utf8(stamp).ok().and_then(|stamp| stamp.parse().ok());
            let Some(due) = stamp.filter(|_| *pattern == body[STAMP_BYTES..]) else {
                return Err(BenchError::WrongBody { id });
            };
            ids.push(id);
            match (moment.read - shared.start).checked_sub(Duration::from_nanos(due)) {
                Some(late) => {
                    let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
                    tally.lateness.saturating_record(nanos);
                }
                None => tally.early += 1,
            }
            Ok(())
        })?;
        self.fresh += reserved.jobs;
        taken.bytes += reserved.bytes;
        taken.answers += reserved.answers;
        Ok(taken)
    }
}

/// See [`Task::Delete`].
pub(super) struct Delete {
    pub(super) depth: usize,
    pub(super) group: Group,
    /// Jobs of the batch under way that are not answered.
    pub(super) left: usize,
    /// The jobs, of which the last is deleted first.
    pub(super) ids: Vec<u64>,
}

impl Delete {
    fn next(&mut self, shared: &Shared, now: Instant, out: &mut Outgoing) -> usize {
        let most = self.depth.min(self.ids.len());
        let count = if most == 0 { 0 } else { shared.claim(most, now) };
        let from = self.ids.len() - count;
        self.ids[from..].reverse();
        self.group.push_deletes(out.own(), &self.ids[from..]);
        self.ids.truncate(from);
        self.left = count;
        self.group.commands(count)
    }
}

/// All of them.
fn share(frames: &Arc<[u8]>) -> Outgoing {
    Outgoing::Shared(Arc::clone(frames), 0..frames.len())
}

/// Takes answers to puts of `left` jobs, which become fewer.
fn take_inserted(
    group: Group,
    input: &[u8],
    awaited: usize,
    left: &mut usize,
    ids: &mut Vec<u64>,
) -> Result<Taken, BenchError> {
    take(Verb::Put, input, awaited, left, |input, left| group.inserted(input, left, ids))
}

/// Takes answers to deletes of `left` jobs, which become fewer.
fn take_deleted(group: Group, input: &[u8], awaited: usize, left: &mut usize) -> Result<Taken, BenchError> {
    take(Verb::Delete, input, awaited, left, |input, left| group.deleted(input, left))
}

fn take(
    verb: Verb,
    input: &[u8],
    awaited: usize,
    left: &mut usize,
    mut next: impl FnMut(&[u8], usize) -> Found<usize>,
) -> Result<Taken, BenchError> {
    let mut taken = Taken::default();
    while taken.answers < awaited {
        match next(&input[taken.bytes..], *left) {
            Found::Answer(jobs, end) => {
                taken.bytes += end;
                taken.answers += 1;
                taken.jobs += jobs;
                *left -= jobs;
            }
            Found::Part => break,
            Found::Other => return Err(unexpected(verb, &input[taken.bytes..])),
        }
    }
    Ok(taken)
}

/// Takes answers to reserves, as far as whole jobs of `size` bytes have come: `in_answer` are those of the answer under
/// way that are to come. Each is given to `job` with its id.
fn take_reserved(
    group: Group,
    input: &[u8],
    awaited: usize,
    in_answer: &mut usize,
    size: usize,
    mut job: impl FnMut(u64, &[u8]) -> Result<(), BenchError>,
) -> Result<Taken, BenchError> {
    let mut taken = Taken::default();
    while taken.answers < awaited {
        let rest = &input[taken.bytes..];
        if *in_answer == 0 {
            match group.reserved(rest, group.most()) {
                Found::Answer(jobs, end) => {
                    *in_answer = jobs;
                    taken.bytes += end;
                }
                Found::Part => break,
                Found::Other => return Err(unexpected(Verb::Reserve, rest)),
            }
        }
        let rest = &input[taken.bytes..];
        match frames::reserved(rest, size) {
            Found::Answer((id, at), end) => {
                job(id, &rest[at..at + size])?;
                taken.bytes += end;
                taken.jobs += 1;
                *in_answer -= 1;
                taken.answers += usize::from(*in_answer == 0);
            }
            Found::Part => break,
            Found::Other => return Err(unexpected(Verb::Reserve, rest)),
        }
    }
    Ok(taken)
}

/// An error with the line that begins here, shortened to 80 bytes.
fn unexpected(verb: Verb, input: &[u8]) -> BenchError {
    let line = input.split(|byte| *byte == b'\n').next().unwrap_or(input);
    let line = &line[..line.len().min(80)];
    BenchError::Unexpected { verb, answer: String::from_utf8_lossy(line).trim_end().to_owned() }
}
