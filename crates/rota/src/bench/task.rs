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

    /// The latencies of a verb, in nanoseconds from a batch's write to each answer.
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

    fn record(&mut self, verb: Verb, latency: Duration, answers: usize) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies[verb as usize].saturating_record_n(nanos, answers as u64);
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

/// What a task took from the input.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) answers: usize,
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
                let taken = take_inserted(input, awaited, &mut task.ids)?;
                tally.record(Verb::Put, moment.read - moment.written, taken.answers);
                shared.done.fetch_add(taken.answers as u64, Ordering::Relaxed);
                Ok(taken)
            }
            Task::PutDelayed(task) => {
                let taken = take_inserted(input, awaited, &mut task.ids)?;
                tally.record(Verb::Put, moment.read - moment.written, taken.answers);
                if task.stamped.is_none() {
                    shared.done.fetch_add(taken.answers as u64, Ordering::Relaxed);
                }
                Ok(taken)
            }
            Task::Delete(_) => {
                let taken = take_deleted(input, awaited)?;
                tally.record(Verb::Delete, moment.read - moment.written, taken.answers);
                shared.done.fetch_add(taken.answers as u64, Ordering::Relaxed);
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
            Task::Take(task) if task.deleting => Verb::Delete,
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
    /// How many puts that is.
    pub(super) depth: usize,
    /// The ids that were answered.
    pub(super) ids: Vec<u64>,
}

impl Put {
    fn next(&mut self, shared: &Shared, now: Instant, out: &mut Outgoing) -> usize {
        let count = shared.claim(self.depth, now);
        *out = share(&self.frames, self.depth, count);
        count
    }
}

/// See [`Task::Cycle`].
pub(super) struct Cycle {
    /// Full batches of puts and of reserves.
    pub(super) puts: Arc<[u8]>,
    pub(super) reserves: Arc<[u8]>,
    /// How many commands a batch has.
    pub(super) depth: usize,
    /// The body of every job.
    pub(super) body: Arc<[u8]>,
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
                let count = shared.claim(self.depth, now);
                *out = share(&self.puts, self.depth, count);
                count
            }
            Verb::Put => {
                self.verb = Verb::Reserve;
                self.put_ids.extend_from_slice(&self.batch);
                let count = self.batch.len();
                self.batch.clear();
                *out = share(&self.reserves, self.depth, count);
                count
            }
            Verb::Reserve => {
                self.verb = Verb::Delete;
                self.reserved_ids.extend_from_slice(&self.batch);
                let bytes = out.own();
                self.batch.iter().for_each(|id| frames::push_delete(bytes, *id));
                self.batch.len()
            }
        }
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
            Verb::Put => take_inserted(input, awaited, &mut self.batch)?,
            Verb::Reserve => {
                let mut taken = Taken::default();
                while taken.answers < awaited {
                    let rest = &input[taken.bytes..];
                    match frames::reserved(rest, self.body.len()) {
                        Found::Answer((id, at), end) => {
                            if rest[at..at + self.body.len()] != *self.body {
                                return Err(BenchError::WrongBody { id });
                            }
                            self.batch.push(id);
                            taken.bytes += end;
                            taken.answers += 1;
                        }
                        Found::Part => break,
                        Found::Other => return Err(unexpected(Verb::Reserve, rest)),
                    }
                }
                taken
            }
            Verb::Delete => {
                let taken = take_deleted(input, awaited)?;
                shared.done.fetch_add(taken.answers as u64, Ordering::Relaxed);
                taken
            }
        };
        tally.record(self.verb, moment.read - moment.written, taken.answers);
        Ok(taken)
    }
}

/// See [`Task::PutDelayed`].
pub(super) struct PutDelayed {
    pub(super) depth: usize,
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
        let bytes = out.own();
        for _ in 0..count {
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
        }
        if self.stamped.is_some() {
            // Before they are sent: a job may be taken before its put is answered.
            let count = i64::try_from(count).expect("a depth is bounded by the command line");
            shared.open.fetch_add(count, Ordering::AcqRel);
        }
        count
    }
}

/// See [`Task::Take`].
pub(super) struct Take {
    /// What every body is, but for its stamp.
    pub(super) body: Arc<[u8]>,
    /// Every id that was reserved; the last one's delete comes next.
    pub(super) ids: Vec<u64>,
    /// True while the answer to a delete is awaited, and then the one to a reserve.
    pub(super) deleting: bool,
}

impl Take {
    fn next(&mut self, out: &mut Outgoing) -> usize {
        let bytes = out.own();
        self.deleting = false;
        if let Some(id) = self.ids.last() {
            frames::push_delete(bytes, *id);
            self.deleting = true;
        }
        bytes.extend_from_slice(b"reserve\r\n");
        1 + usize::from(self.deleting)
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
        if self.deleting {
            taken = take_deleted(input, 1)?;
            if taken.answers == 0 {
                return Ok(taken);
            }
            self.deleting = false;
            tally.record(Verb::Delete, moment.read - moment.written, 1);
            shared.done.fetch_add(1, Ordering::Relaxed);
            shared.open.fetch_sub(1, Ordering::AcqRel);
        }
        if taken.answers == awaited {
            return Ok(taken);
        }
        let rest = &input[taken.bytes..];
        match frames::reserved(rest, self.body.len()) {
            Found::Answer((id, at), end) => {
                let (stamp, pattern) = rest[at..at + self.body.len()].split_at(STAMP_BYTES);
                let stamp = std::str::from_utf8(stamp).ok().and_then(|stamp| stamp.parse().ok());
                let Some(due) = stamp.filter(|_| *pattern == self.body[STAMP_BYTES..]) else {
                    return Err(BenchError::WrongBody { id });
                };
                self.ids.push(id);
                match (moment.read - shared.start).checked_sub(Duration::from_nanos(due)) {
                    Some(late) => {
                        let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
                        tally.lateness.saturating_record(nanos);
                    }
                    None => tally.early += 1,
                }
                taken.bytes += end;
                taken.answers += 1;
            }
            Found::Part => {}
            Found::Other => return Err(unexpected(Verb::Reserve, rest)),
        }
        Ok(taken)
    }
}

/// See [`Task::Delete`].
pub(super) struct Delete {
    pub(super) depth: usize,
    /// The jobs, of which the last is deleted first.
    pub(super) ids: Vec<u64>,
}

impl Delete {
    fn next(&mut self, shared: &Shared, now: Instant, out: &mut Outgoing) -> usize {
        let most = self.depth.min(self.ids.len());
        let count = if most == 0 { 0 } else { shared.claim(most, now) };
        let bytes = out.own();
        for id in self.ids.drain(self.ids.len() - count..).rev() {
            frames::push_delete(bytes, id);
        }
        count
    }
}

/// The first `count` of the `depth` frames, which are all of one length.
fn share(frames: &Arc<[u8]>, depth: usize, count: usize) -> Outgoing {
    Outgoing::Shared(Arc::clone(frames), 0..frames.len() / depth * count)
}

fn take_inserted(input: &[u8], awaited: usize, ids: &mut Vec<u64>) -> Result<Taken, BenchError> {
    let mut taken = Taken::default();
    while taken.answers < awaited {
        match frames::inserted(&input[taken.bytes..]) {
            Found::Answer(id, end) => {
                ids.push(id);
                taken.bytes += end;
                taken.answers += 1;
            }
            Found::Part => break,
            Found::Other => return Err(unexpected(Verb::Put, &input[taken.bytes..])),
        }
    }
    Ok(taken)
}

fn take_deleted(input: &[u8], awaited: usize) -> Result<Taken, BenchError> {
    let mut taken = Taken::default();
    while taken.answers < awaited {
        match frames::exactly(&input[taken.bytes..], b"DELETED\r\n") {
            Found::Answer((), end) => {
                taken.bytes += end;
                taken.answers += 1;
            }
            Found::Part => break,
            Found::Other => return Err(unexpected(Verb::Delete, &input[taken.bytes..])),
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
