//! The files of a log by what their headers say: which is which segment, which are not there, which store it is.
//!
//! The rules are those of `survey` in [`crate::log::recovery`], which stops at the first thing that is wrong.

use super::far::FarSurvey;
use super::{InspectError, LsnRange, Problem, ProblemKind, SegmentReport, SegmentState};
use crate::log::Lsn;
use crate::log::segment::{self, Damage, FORMAT_VERSION, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::{LogFile, LogSource, ReadAt, StoreId};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

/// A file that holds a segment of the log, or should.
#[derive(Clone, Debug)]
pub(in crate::log) struct Part {
    pub(in crate::log) file: LogFile,
    /// The segment: the number in the header, or in the name where the header is gone.
    pub(in crate::log) number: u64,
    pub(in crate::log) header: Option<SegmentHeader>,
    /// Its place among the reports.
    pub(in crate::log) report: usize,
}

/// All files, and what is wrong with them before any group is read.
#[derive(Debug)]
pub(in crate::log) struct Survey {
    /// The store that is read; zeros if nothing says which.
    pub(in crate::log) store: StoreId,
    /// The segments to read, rising, each once.
    pub(in crate::log) parts: Vec<Part>,
    /// Other files with a segment of the log.
    pub(in crate::log) copies: Vec<Part>,
    /// The first segment that a start reads.
    pub(in crate::log) oldest_needed: u64,
    /// The last segment was being begun, and holds nothing.
    pub(in crate::log) unfinished: Option<u64>,
    pub(in crate::log) is_named: bool,
    pub(in crate::log) reports: Vec<SegmentReport>,
    /// What there is of far segments.
    pub(in crate::log) far: FarSurvey,
    pub(in crate::log) problems: Vec<Problem>,
    pub(in crate::log) notes: Vec<Problem>,
}

/// Where a file is, below the data directory.
pub(super) fn path_of(file: &LogFile) -> PathBuf {
    Path::new("log").join(&file.name)
}

pub(super) fn unreadable(file: &LogFile) -> impl FnOnce(io::Error) -> InspectError {
    let path = path_of(file);
    move |source| InspectError { path, source }
}

/// A file with its header.
struct Seen {
    file: LogFile,
    header: Result<SegmentHeader, HeaderFault>,
    bytes: u64,
    /// Nothing but zeros stands behind its header.
    is_unused: bool,
}

impl Survey {
    pub(in crate::log) fn of(source: &dyn LogSource) -> Result<Survey, InspectError> {
        let failed = |path: &str| {
            let path = PathBuf::from(path);
            move |source| InspectError { path, source }
        };
        let (named, is_store_spoilt) = match source.store_id() {
            Ok(named) => (named, false),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => (None, true),
            Err(error) => return Err(failed("store")(error)),
        };
        let files = source.files().map_err(failed("log"))?;
        let (beside, mut files): (Vec<LogFile>, Vec<LogFile>) =
            files.into_iter().partition(|file| file.beside().is_some());
        files.sort_by(|a, b| (a.number.is_none(), a.number, &a.name).cmp(&(b.number.is_none(), b.number, &b.name)));
        let mut seen = Vec::with_capacity(files.len());
        for file in files {
            match see(source, &file) {
                Ok(found) => seen.push(found),
                // A server that runs meanwhile takes away what it needs no more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&file)(error)),
            }
        }
        let oldest_needed = oldest_needed(named, &seen);
        let mut survey = Survey {
            store: choose_store(named, &seen),
            parts: Vec::new(),
            copies: Vec::new(),
            oldest_needed,
            far: FarSurvey::of(source, &beside, oldest_needed),
            unfinished: None,
            is_named: named.is_some() || is_store_spoilt,
            reports: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        };
        if is_store_spoilt {
            survey.problem(None, PathBuf::from("store"), 0, ProblemKind::StoreFile);
        }
        survey.sort(&seen, named);
        survey.find_missing(&seen);
        Ok(survey)
    }

    /// Notes what is wrong with a file.
    fn problem(&mut self, segment: Option<u64>, path: PathBuf, offset: u64, kind: ProblemKind) {
        self.list_for(segment).push(Problem { segment, path, offset, kind, lost: Vec::new() });
    }

    /// Where what is wrong with a segment belongs. What is left of those that nobody needs does not matter.
    pub(super) fn list_for(&mut self, segment: Option<u64>) -> &mut Vec<Problem> {
        match segment {
            Some(number) if self.far.ends.contains_key(&number) && number < self.oldest_needed => {
                &mut self.far.problems
            }
            Some(number) if number < self.oldest_needed => &mut self.notes,
            _ => &mut self.problems,
        }
    }

    /// Says of each file what it is.
    fn sort(&mut self, seen: &[Seen], named: Option<StoreId>) {
        let store = self.store;
        let ours = |file: &Seen| file.header.ok().filter(|header| header.store == store);
        // What each number's own file holds.
        let own: BTreeMap<u64, Option<SegmentHeader>> =
            seen.iter().filter_map(|file| Some((file.file.number?, ours(file)))).collect();
        // Without a name for the store, the first segment gives it.
        let expected = named.or_else(|| seen.iter().find_map(|file| Some(file.header.ok()?.store)));
        let last_named = own.keys().next_back().copied();
        let mut taken: BTreeMap<u64, Part> = BTreeMap::new();
        for (report, file) in seen.iter().enumerate() {
            let header = ours(file);
            self.reports.push(report_of(file, header.is_some()));
            let path = path_of(&file.file);
            let Some(name) = file.file.number else {
                let holds = header.map(|header| header.segment);
                self.notes.push(Problem {
                    segment: holds,
                    path,
                    offset: 0,
                    kind: ProblemKind::Stray { holds },
                    lost: Vec::new(),
                });
                if let Some(header) = header {
                    self.copies.push(Part {
                        file: file.file.clone(),
                        number: header.segment,
                        header: Some(header),
                        report,
                    });
                }
                continue;
            };
            if let Ok(found) = file.header
                && Some(found.store) != expected
            {
                self.problem(Some(name), path.clone(), 16, ProblemKind::Foreign { found: found.store });
            }
            let number = match (file.header, header) {
                (Err(HeaderFault::NewerVersion(found)), _) => {
                    self.problem(Some(name), path, 8, ProblemKind::NewerVersion { found });
                    continue;
                }
                (Err(HeaderFault::Damaged), _) => {
                    let is_first = !own.values().any(Option::is_some);
                    if Some(name) == last_named && file.is_unused && !(is_first && (self.is_named || name != 1)) {
                        self.unfinished = Some(name);
                        self.reports[report].state = SegmentState::Unfinished;
                        self.reports[report].is_needed = true;
                        continue;
                    }
                    self.problem(Some(name), path, 0, ProblemKind::Damaged(Damage::SegmentHeader));
                    name
                }
                (Ok(_), None) => continue,
                (Ok(_), Some(header)) if header.segment != name => {
                    let found = header.segment;
                    let holder = own.get(&found).copied().flatten().map(|other| other.segment);
                    let kind = match holder {
                        Some(number) if number == found => ProblemKind::Duplicated { of: found },
                        Some(number) if number == name => ProblemKind::Swapped { with: found },
                        _ => ProblemKind::Renamed { found },
                    };
                    self.problem(Some(name), path, 32, kind);
                    found
                }
                (Ok(_), Some(header)) => {
                    if !is_sound(&header) {
                        self.problem(Some(name), path, 40, ProblemKind::Damaged(Damage::SegmentHeader));
                    }
                    name
                }
            };
            let part = Part { file: file.file.clone(), number, header, report };
            // The file of that name before another, a file with a header before one without.
            let rank = |part: &Part| (part.header.is_some(), part.file.number == Some(part.number));
            match taken.get_mut(&number) {
                Some(other) if rank(other) >= rank(&part) => self.copies.push(part),
                Some(other) => self.copies.push(std::mem::replace(other, part)),
                None => drop(taken.insert(number, part)),
            }
        }
        self.parts = taken.into_values().collect();
        for copy in &self.copies {
            self.reports[copy.report].state = SegmentState::Copy;
        }
        for part in &self.parts {
            self.reports[part.report].is_needed = part.number >= self.oldest_needed;
        }
    }

    /// Takes copies for segments that are not there, also such as no start would look at.
    pub(in crate::log) fn take_strays(&mut self) {
        let mut index = 0;
        while let Some(copy) = self.copies.get(index) {
            match self.parts.binary_search_by_key(&copy.number, |part| part.number) {
                Ok(_) => index += 1,
                Err(at) => self.parts.insert(at, self.copies.remove(index)),
            }
        }
    }

    /// Names the segments that are not there.
    fn find_missing(&mut self, seen: &[Seen]) {
        let first_needed = self.oldest_needed;
        let mut names: Vec<u64> = seen.iter().filter_map(|file| file.file.number).collect();
        names.retain(|&name| name >= first_needed);
        match names.first() {
            None if self.is_named => self.missing(1, 1),
            Some(&first) if first > first_needed => self.missing(first_needed, first - 1),
            _ => {}
        }
        for pair in names.windows(2) {
            if pair[1] > pair[0] + 1 {
                self.missing(pair[0] + 1, pair[1] - 1);
            }
        }
    }

    /// Notes that segments are not there, with what is known to have been in them.
    pub(super) fn missing(&mut self, from: u64, to: u64) {
        let path = path_of(&LogFile::of_segment(from));
        let before = self.parts.iter().rev().find(|part| part.number < from);
        // Where the segment before it ends is known once it is read.
        // What was renamed is read all the same.
        let is_elsewhere = self.parts.iter().chain(&self.copies).any(|part| (from..=to).contains(&part.number));
        let lost = match (before, self.parts.iter().find(|part| part.number > to).and_then(|part| part.header)) {
            _ if is_elsewhere => Vec::new(),
            (None, Some(after)) if after.first_lsn > Lsn(1) => {
                vec![LsnRange { from: Lsn(1), to: Some(Lsn(after.first_lsn.0 - 1)) }]
            }
            (None, None) => vec![LsnRange { from: Lsn(1), to: None }],
            _ => Vec::new(),
        };
        let kind = ProblemKind::Missing { to };
        self.problems.push(Problem { segment: Some(from), path, offset: 0, kind, lost });
    }
}

/// The first segment that a start reads: what the newest header says, if it can be believed.
fn oldest_needed(named: Option<StoreId>, seen: &[Seen]) -> u64 {
    let numbered = seen.iter().filter_map(|file| Some((file.file.number?, file.header.as_ref().ok().copied())));
    let headers = numbered.clone().rev().map(Ok::<_, Infallible>);
    let Ok(oldest) = segment::oldest_needed(headers, named);
    oldest.or(numbered.clone().next().map(|(number, _)| number)).unwrap_or(1)
}

/// Whether a header's numbers can stand beside each other.
fn is_sound(header: &SegmentHeader) -> bool {
    (1..=header.segment).contains(&header.oldest_needed)
        && header.first_lsn.0 >= 1
        && (header.segment > 1 || header.first_lsn.0 == 1 && header.chain == 0)
}

fn see(source: &dyn LogSource, file: &LogFile) -> io::Result<Seen> {
    let opened = source.open_file(file)?;
    let length = opened.length()?;
    let mut bytes = vec![0; length.min(SEGMENT_HEADER_BYTES as u64) as usize];
    let read = opened.read_at(0, &mut bytes);
    let header = if read.is_ok() { SegmentHeader::decode(&bytes) } else { Err(HeaderFault::Damaged) };
    let is_unused = header.is_err() && read.is_ok() && is_unused(opened)?;
    Ok(Seen { file: file.clone(), header, bytes: length, is_unused })
}

fn is_unused(file: Box<dyn ReadAt + '_>) -> io::Result<bool> {
    let mut window = super::window::Window::new(file)?;
    Ok(window.data_end() <= SEGMENT_HEADER_BYTES as u64 && window.unreadable().next().is_none())
}

/// The store that is read: the one that is named, unless no segment is of it.
fn choose_store(named: Option<StoreId>, seen: &[Seen]) -> StoreId {
    let mut counts: Vec<(StoreId, usize)> = Vec::new();
    for header in seen.iter().filter_map(|file| file.header.ok()) {
        match counts.iter_mut().find(|(store, _)| *store == header.store) {
            Some((_, count)) => *count += 1,
            None => counts.push((header.store, 1)),
        }
    }
    let has_named = named.filter(|named| counts.is_empty() || counts.iter().any(|(store, _)| store == named));
    // The first of those that there are most of.
    let most = counts.iter().rev().max_by_key(|(_, count)| *count).map(|(store, _)| *store);
    has_named.or(most).unwrap_or(StoreId([0; 16]))
}

fn report_of(file: &Seen, is_ours: bool) -> SegmentReport {
    let header = file.header.ok();
    let version = match file.header {
        Ok(_) => Some(FORMAT_VERSION),
        Err(HeaderFault::NewerVersion(version)) => Some(version),
        Err(HeaderFault::Damaged) => None,
    };
    SegmentReport {
        file: file.file.clone(),
        number: header.map(|header| header.segment),
        store: header.map(|header| header.store),
        version,
        first_lsn: header.map(|header| header.first_lsn),
        last_lsn: header.filter(|_| is_ours).map(|header| Lsn(header.first_lsn.0.saturating_sub(1))),
        bytes: file.bytes,
        used_bytes: 0,
        records: 0,
        state: SegmentState::Unusable,
        is_needed: false,
        is_far: false,
    }
}
