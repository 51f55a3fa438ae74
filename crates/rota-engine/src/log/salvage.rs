//! A log out of what a damaged one still holds: every record that can be read, in order, into a state, and that state
//! into a new log.
//!
//! [`salvage`] is called by the binary's `rota log salvage`. The source is only read. No record is taken whose checksum is
//! wrong, so no body that comes out was altered; what was lost with the others is listed. A job whose end may be among the
//! lost is kept all the same: work that is done twice can be sorted out, work that is gone cannot. Far jobs of which nothing is
//! left that says which of them had ended are not: most of them may have, long ago.

mod far;
mod ledger;
mod merge;

use super::inspect::{InspectError, Inspection, Look, LsnRange, Problem, ProblemKind, Survey, Tail, check};
use super::{Group, LogError, Lsn, OpenError};
use crate::job::{JobId, Time};
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::storage::{LogSource, Storage, StoreId};
use far::FarJobs;
use ledger::Ledger;

/// How much of the state one step walks over, in objects.
const STEP_OBJECTS: usize = 1_000;

/// What was saved, and what was not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Salvage {
    /// The store that was read.
    pub from: StoreId,
    /// The store that was made.
    pub store: StoreId,
    /// Records that were read.
    pub records: u64,
    /// Those of them that stood in damaged groups.
    pub rescued: u64,
    /// Open jobs that were saved.
    pub jobs: u64,
    /// All that was wrong with the log.
    pub problems: Vec<Problem>,
    /// The end that was never acknowledged; what could be read of it was taken.
    pub torn: Option<Tail>,
    /// The records that could not be read, where they had been durable.
    pub lost: Vec<LsnRange>,
    /// Bytes that were passed over.
    pub lost_bytes: u64,
    /// Jobs that are lost: something tells of them, and their records cannot be read. Rising by number.
    pub lost_jobs: Vec<LostJob>,
    /// Numbers of jobs that may have been put where records are lost, of which nothing else tells.
    pub unseen_jobs: Vec<JobRange>,
    /// Whether jobs of any number may be lost too: the log was compacted, older jobs may have been written again where
    /// records are lost, and what is left does not reach back to where they were put.
    pub may_lack_older: bool,
    /// Jobs that were saved and may have ended: records behind the last that tells of them are lost. Rising by number.
    pub uncertain: Vec<JobId>,
    /// Jobs that were left out: what came later shows that they had ended, though the record of it is lost. Rising.
    pub ended: Vec<JobId>,
    /// The number that the next job gets at the least.
    pub next_job_id: JobId,
    /// Open jobs that were saved out of far segments.
    pub far_jobs: u64,
    /// How many of them, beside those in `uncertain`, may have ended: records behind are lost, and none that is left tells of
    /// them.
    pub far_uncertain: u64,
    /// Jobs that are lost in far segments, where nothing says which.
    pub far_lost: Vec<FarLoss>,
    /// Jobs of far segments of which nothing says whether they had ended: they were left out, but for those that
    /// [`Take::unsure`] asked for.
    pub far_unsure: Vec<FarLoss>,
}

/// What is taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Take {
    /// Also jobs of far segments of which nothing says whether they had ended: many that were called off may be back.
    pub unsure: bool,
}

/// Jobs in a far segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FarLoss {
    /// The segment.
    pub segment: u64,
    /// How many, at the most.
    pub jobs: u64,
}

/// A job that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostJob {
    /// Its number.
    pub job: JobId,
    /// The spoilt record that held it, where it was found: the segment, and the bytes before it there.
    pub spoilt_at: Option<(u64, u64)>,
}

/// Numbers of jobs, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobRange {
    /// The first.
    pub from: JobId,
    /// The last; `None` if nothing says how many there were.
    pub to: Option<JobId>,
}

/// Why nothing was saved. The source is as it was; what was written of the new log is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The source cannot be read at all.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A newer server wrote it.
    #[error(
        "{}, offset {}: {}. It may not be damaged at all: use the version of rota that wrote it",
        .0.path.display(), .0.offset, .0.kind
    )]
    Newer(Box<Problem>),
    /// There is not one segment.
    #[error("there is no segment of a log in it")]
    Nothing,
    /// The new log cannot be begun.
    #[error("cannot begin the new log")]
    Begin(#[source] OpenError),
    /// The new log cannot be written.
    #[error("cannot write the new log")]
    Write(#[from] LogError),
}

/// Reads all that can be read of `source`, and writes what is open at its end to `into`, which must be empty, as the log of
/// a new store. It is durable on return.
///
/// `new_store_id`: see [`super::open`].
///
/// # Errors
/// [`SalvageError`].
pub fn salvage<S: Storage>(
    source: &dyn LogSource,
    into: S,
    new_store_id: [u8; 16],
    take: Take,
) -> Result<Salvage, SalvageError> {
    let found = check(source, Look::default())?;
    if let Some(newer) = found.problems.iter().find(|problem| problem.kind.is_newer()) {
        return Err(SalvageError::Newer(Box::new(newer.clone())));
    }
    let mut survey = Survey::of(source)?;
    survey.take_strays();
    if survey.parts.is_empty() {
        return Err(SalvageError::Nothing);
    }
    // What is wrong with far segments costs what is in them and nothing else.
    let is_damaged = found.problems.iter().any(|problem| !problem.is_far(survey.oldest_needed));
    let is_sure = !found.problems.iter().any(|problem| matches!(problem.kind, ProblemKind::OpenJobs(_)));
    let mut ledger = Ledger::new();
    let mut far = FarJobs::find(source, &survey, is_damaged, is_sure, take.unsure)?;
    far.take(&mut ledger)?;
    merge::read_all(source, &survey, far.first, far.oldest, &mut ledger)?;
    ledger.close(is_damaged, tail_lost(&found, survey.oldest_needed, ledger.due()));
    write(ledger.state(), &far, into, new_store_id, ledger.now())?;
    Ok(Salvage {
        from: survey.store,
        store: StoreId(new_store_id),
        records: ledger.records,
        rescued: ledger.rescued,
        jobs: ledger.state().totals().open(),
        lost_jobs: ledger.lost_jobs(),
        unseen_jobs: ledger.unseen_jobs(),
        may_lack_older: is_damaged && !ledger.lost.is_empty() && !ledger.reaches_back(),
        uncertain: ledger.uncertain(),
        next_job_id: JobId(ledger.state().numbers().next_job_id),
        far_jobs: far.cold + ledger.far_jobs(),
        far_uncertain: far.uncertain(&ledger),
        far_lost: far.lost,
        far_unsure: far.unsure,
        lost_bytes: ledger.lost_bytes,
        ended: ledger.ended(),
        lost: ledger.lost,
        problems: found.problems,
        torn: found.torn,
    })
}

/// The records that were durable, from the one due at the end of what was read.
fn tail_lost(found: &Inspection, oldest: u64, due: Lsn) -> Option<LsnRange> {
    let lost = || found.problems.iter().filter(|problem| !problem.is_far(oldest)).flat_map(|problem| &problem.lost);
    if lost().any(|range| range.to.is_none()) {
        return Some(LsnRange { from: due, to: None });
    }
    let last = lost().filter_map(|range| range.to).max().filter(|&last| last >= due);
    last.map(|last| LsnRange { from: due, to: Some(last) })
}

/// Writes a state as a log that a start takes it from.
fn write<S: Storage>(
    state: &State,
    far: &FarJobs<'_>,
    into: S,
    new_store_id: [u8; 16],
    now: Time,
) -> Result<(), SalvageError> {
    let begun = super::open(into, new_store_id, &mut |_| Err("the new log is not empty".into()));
    let (mut writer, _) = begun.map_err(SalvageError::Begin)?;
    let mut snapshot = Snapshot::begin(state);
    let mut group = Group::default();
    for (segment, _, count) in state.far.segments() {
        far.write(segment, count, &|place| state.far.is_open(place), &mut |records| {
            snapshot.step_far(records, state, now);
            if snapshot.take(&mut group) {
                writer.write(&mut group)?;
            }
            Ok(())
        })?;
        snapshot.end_far_segment(state);
    }
    loop {
        let is_done = snapshot.step(STEP_OBJECTS, state, now);
        if snapshot.take(&mut group) {
            writer.write(&mut group)?;
        }
        if is_done {
            break;
        }
    }
    writer.close()?;
    Ok(())
}
