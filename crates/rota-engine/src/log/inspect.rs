//! Looking at a log without changing it: what is whole, what is damaged, what can still be read.
//!
//! [`check`] judges a log as the next start would, but goes on behind what it finds, and lists all of it. [`read`] hands on
//! every record there is, and says what it passed over. Both read a group at a time, so that their memory is
//! bounded by the largest group; neither writes, nor trusts a byte. What is whole is the same here and in
//! `recovery.rs`: `log::tests::inspect` holds them against each other.

mod far;
mod judge;
mod pass;
mod rescue;
mod survey;
mod walk;
mod window;

use super::record::RecordFault;
use super::segment::Damage;
use super::{LoggedEvent, Lsn};
use crate::job::{JobId, Time};
use crate::storage::{LogFile, LogSource, StoreId};
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

pub(super) use far::NamedFiles;
pub(super) use judge::Nobody;
pub(super) use pass::{Place, Reader, Sink};
pub(super) use survey::{Part, Survey};
pub(super) use window::Window;

/// How a log is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// A server writes to it meanwhile: its end is where the last whole group ends.
    pub is_live: bool,
}

/// Why a log could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct InspectError {
    /// What could not be read, below the data directory.
    pub path: PathBuf,
    /// What the disk said.
    pub source: io::Error,
}

/// What a log looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// The store that it belongs to; `None` if nothing says.
    pub store: Option<StoreId>,
    /// Its files, by their names.
    pub segments: Vec<SegmentReport>,
    /// All that keeps a server from starting on it, or from working on.
    pub problems: Vec<Problem>,
    /// What a start would cut off.
    pub torn: Option<Tail>,
    /// What is worth knowing and keeps nothing from starting.
    pub notes: Vec<Problem>,
}

/// What would become of the log at the next start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There is no log: a start begins one.
    Empty,
    /// It is all there.
    Whole,
    /// The end was never acknowledged and is not whole; a start cuts it off.
    Torn,
    /// A newer server wrote it; nothing else is wrong.
    Newer,
    /// Something that was durable is not as it was: a start is refused, or a server ends when it comes to it, in a far
    /// segment.
    Damaged,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Empty => "empty",
            Verdict::Whole => "whole",
            Verdict::Torn => "torn tail",
            Verdict::Newer => "newer version",
            Verdict::Damaged => "damaged",
        })
    }
}

impl Inspection {
    /// What the next start would make of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.problems.iter().any(|problem| !problem.kind.is_newer()) {
            Verdict::Damaged
        } else if !self.problems.is_empty() {
            Verdict::Newer
        } else if self.torn.is_some() {
            Verdict::Torn
        } else if !self.segments.iter().any(|segment| segment.is_needed && segment.state != SegmentState::Unfinished) {
            Verdict::Empty
        } else {
            Verdict::Whole
        }
    }
}

/// One file beside the segments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    /// Its name, with the number in it if it is a segment's.
    pub file: LogFile,
    /// The number in its header.
    pub number: Option<u64>,
    /// The store in its header.
    pub store: Option<StoreId>,
    /// The format version in its header.
    pub version: Option<u16>,
    /// The first record that its header tells of.
    pub first_lsn: Option<Lsn>,
    /// The last record that can be read; the one before the first if there is none. `None` if no place is known.
    pub last_lsn: Option<Lsn>,
    /// Its length.
    pub bytes: u64,
    /// Up to where its last group ends.
    pub used_bytes: u64,
    /// Records that can be read, those in damaged groups included.
    pub records: u64,
    /// What it is.
    pub state: SegmentState,
    /// Whether a start reads it; others are far segments or history, or not part of the log.
    pub is_needed: bool,
    /// Whether it is a far segment: no start reads it, and jobs in it may be open.
    pub is_far: bool,
}

/// What a segment's file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// It has a successor.
    Sealed,
    /// The log goes on in it.
    Open,
    /// It was being begun, and holds nothing.
    Unfinished,
    /// A second one of the same number.
    Copy,
    /// It is not part of this log, or nothing in it can be used.
    Unusable,
}

impl fmt::Display for SegmentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SegmentState::Sealed => "sealed",
            SegmentState::Open => "open",
            SegmentState::Unfinished => "unfinished",
            SegmentState::Copy => "copy",
            SegmentState::Unusable => "unusable",
        })
    }
}

/// Records by their places, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LsnRange {
    /// The first.
    pub from: Lsn,
    /// The last; `None` if nothing says how many there were.
    pub to: Option<Lsn>,
}

impl fmt::Display for LsnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(to) if to == self.from => write!(f, "{to}"),
            Some(to) => write!(f, "{}-{to}", self.from),
            None => write!(f, "{} and on", self.from),
        }
    }
}

/// Something in a log that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The segment, by its number in the log; `None` for a file that is none.
    pub segment: Option<u64>,
    /// The file, below the data directory.
    pub path: PathBuf,
    /// Bytes before it in the file.
    pub offset: u64,
    /// What it is.
    pub kind: ProblemKind,
    /// The records that cannot be read because of it.
    pub lost: Vec<LsnRange>,
}

impl Problem {
    /// Whether it is about far segments alone, where a start begins with the segment `oldest`: what it reads is whole.
    pub(super) fn is_far(&self, oldest: u64) -> bool {
        let of_far =
            matches!(self.kind, ProblemKind::OpenJobs(_) | ProblemKind::FarMissing { .. } | ProblemKind::Index(_));
        of_far || self.segment.is_some_and(|segment| segment < oldest)
    }
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProblemKind {
    /// Something that had been durable cannot be read any more.
    #[error("damaged: {0}")]
    Damaged(Damage),
    /// The disk cannot read a part of the file.
    #[error("the disk cannot read {blocks} blocks of 4,096 bytes from here on")]
    Unreadable {
        /// How many.
        blocks: u64,
    },
    /// Segments are not there, up to this one.
    #[error("missing: segments up to {to} are not there")]
    Missing {
        /// The last of them.
        to: u64,
    },
    /// The file holds another segment.
    #[error("renamed: the file holds segment {found}")]
    Renamed {
        /// Which.
        found: u64,
    },
    /// Two files hold each other's segments.
    #[error("swapped: the file holds segment {with}, and that one's file holds this")]
    Swapped {
        /// The other one.
        with: u64,
    },
    /// The file holds a segment that is in its own file too.
    #[error("duplicated: the file holds segment {of}, which is in its own file too")]
    Duplicated {
        /// Which.
        of: u64,
    },
    /// The segment belongs to another store.
    #[error("foreign: the file belongs to the store {found}")]
    Foreign {
        /// Which.
        found: StoreId,
    },
    /// The file `store` does not hold a store's id.
    #[error("damaged: the file does not hold a store's id")]
    StoreFile,
    /// A newer server wrote the segment.
    #[error("newer version: the segment is in format version {found}")]
    NewerVersion {
        /// The segment's format version.
        found: u16,
    },
    /// A newer server wrote something that must not be ignored.
    #[error("newer version: {0}")]
    Unknown(RecordFault),
    /// The file is not named as a segment is, so that a start does not see it.
    #[error("not read by a start: {}", match holds {
        Some(number) => format!("the file holds segment {number} under another name"),
        None => String::from("the file is no segment of this log"),
    })]
    Stray {
        /// The segment of this store that is in it.
        holds: Option<u64>,
    },
    /// The file that says which jobs of far segments are open cannot be used.
    #[error("{0}")]
    OpenJobs(OpenJobsFault),
    /// A far segment is not there.
    #[error("missing: {open} jobs of this far segment are open")]
    FarMissing {
        /// How many jobs in it were open where the log begins.
        open: u32,
    },
    /// The index of a far segment is not as it should be.
    #[error("{0}")]
    Index(IndexFault),
}

/// What is wrong with the file that says which jobs of far segments are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenJobsFault {
    /// It is not there.
    #[error("missing: the file says which jobs of the segments before are open, and nothing else does")]
    Missing,
    /// Its checksum is wrong.
    #[error("damaged: the file says which jobs of the segments before are open, and nothing else does")]
    Damaged,
    /// It is whole, and not the one that the log names.
    #[error(
        "not the one that the log names: the file says which jobs of the segments before were open at another time"
    )]
    Other,
}

/// What is wrong with the index of a far segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IndexFault {
    /// It is not there.
    #[error("missing: the next start makes the index again")]
    Missing,
    /// A start sees that it is damaged.
    #[error("damaged: the next start makes the index again")]
    Remade,
    /// Blocks of it are damaged, at which a start does not look.
    #[error("damaged: {count} blocks of the index; take the file away, and the next start makes it again")]
    Blocks {
        /// How many.
        count: u64,
    },
    /// It does not tell of the jobs that are open.
    #[error("damaged: the index is not that of the segment; take the file away, and the next start makes it again")]
    Other,
}

impl ProblemKind {
    /// Whether a newer version of the server would read it.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        matches!(self, ProblemKind::NewerVersion { .. } | ProblemKind::Unknown(_))
    }

    /// One word for it, which does not change.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            ProblemKind::Damaged(_) | ProblemKind::StoreFile => "damaged",
            ProblemKind::OpenJobs(OpenJobsFault::Damaged) => "damaged",
            ProblemKind::OpenJobs(OpenJobsFault::Missing) | ProblemKind::FarMissing { .. } => "missing",
            ProblemKind::OpenJobs(OpenJobsFault::Other) => "other",
            ProblemKind::Index(IndexFault::Missing) => "missing",
            ProblemKind::Index(_) => "damaged",
            ProblemKind::Unreadable { .. } => "unreadable",
            ProblemKind::Missing { .. } => "missing",
            ProblemKind::Renamed { .. } => "renamed",
            ProblemKind::Swapped { .. } => "swapped",
            ProblemKind::Duplicated { .. } => "duplicated",
            ProblemKind::Foreign { .. } => "foreign",
            ProblemKind::NewerVersion { .. } | ProblemKind::Unknown(_) => "newer",
            ProblemKind::Stray { .. } => "stray",
        }
    }
}

/// The end of the last segment, which a start would cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The segment's number.
    pub segment: u64,
    /// Where it would be cut, in bytes from the file's begin.
    pub offset: u64,
    /// Bytes that would be cut off, without the zeros at the end.
    pub bytes: u64,
    /// The first record that would be lost.
    pub from_lsn: Lsn,
    /// What was found there.
    pub found: Damage,
}

/// A record as [`read`] finds it.
#[derive(Debug)]
pub struct FoundRecord<'a> {
    /// Its place in order.
    pub lsn: Lsn,
    /// Whether that is certain; around damage it may have been counted on from what is known.
    pub is_counted: bool,
    /// The segment's number.
    pub segment: u64,
    /// Bytes before it in the segment.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Its number.
    pub seq: u64,
    /// When it happened, in engine time.
    pub at: Time,
    /// The number of its type.
    pub kind: u8,
    /// What happened; `None` if it is of a newer server's type.
    pub event: Option<LoggedEvent<'a>>,
    /// Whether it stands in a damaged group, and was found by its own checksum.
    pub is_rescued: bool,
}

/// Bytes that are none of the records that should stand there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassedOver {
    /// The segment's number.
    pub segment: u64,
    /// Bytes before them in the segment.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// What was found there.
    pub found: Damage,
    /// The record due there.
    pub lsn: Lsn,
    /// The records that cannot be read.
    pub lost: Vec<LsnRange>,
    /// Jobs that are in records among them, as far as those still say.
    pub spoilt: Vec<SpoiltJob>,
}

/// A job in a record whose checksum is wrong: its number may be too, and its body must not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpoiltJob {
    /// Bytes before the record in the segment.
    pub offset: u64,
    /// The job, by what the record says.
    pub job: JobId,
}

/// What [`read`] meets.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record.
    Record(FoundRecord<'a>),
    /// Something else.
    PassedOver(PassedOver),
}

/// Judges a log: every file, every problem.
///
/// # Errors
/// [`InspectError`] if the folder or a file cannot be opened. What of a file cannot be read is a problem of the log.
pub fn check(source: &dyn LogSource, look: Look) -> Result<Inspection, InspectError> {
    let survey = Survey::of(source)?;
    survey.check(source, look)
}

/// Reads every record of the log in order, or those of one segment, and hands on each until it is told to break.
///
/// # Errors
/// [`InspectError`], as [`check()`]; what was handed on until then is right.
pub fn read(
    source: &dyn LogSource,
    look: Look,
    segment: Option<u64>,
    from: Lsn,
    each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<(), InspectError> {
    let mut survey = Survey::of(source)?;
    survey.take_strays();
    survey.read(source, look, segment, from, each)
}
