//! Far segments as they are found: which of the segments before those that a start reads still matter, which of their jobs
//! were open, and what is wrong with the files that say so.
//!
//! [`super::survey`] begins it, [`super::judge`] adds what is wrong; [`crate::log::salvage`] takes the jobs.

use super::pass::Sink;
use super::survey::{Survey, path_of};
use super::{FoundRecord, IndexFault, InspectError, Look, OpenJobsFault, PassedOver, Problem, ProblemKind};
use crate::event::Event;
use crate::far::{IndexSurvey, OpenFile, OpenSegment, survey_index};
use crate::log::Lsn;
use crate::storage::{Beside, LogFile, LogSource};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

/// The files beside the segments.
#[derive(Debug, Default)]
pub(in crate::log) struct FarSurvey {
    files: BTreeSet<Beside>,
    /// The files of open jobs that are whole, with their checksums, by the segment of whose end they are.
    pub(in crate::log) open: BTreeMap<u64, (OpenFile, u32)>,
    /// Where the far segments end, as far as anything says.
    pub(in crate::log) ends: BTreeMap<u64, Lsn>,
    /// What was found wrong in them: it matters if there are far jobs.
    pub(super) problems: Vec<Problem>,
}

impl FarSurvey {
    /// Reads which files there are, where a start begins with that segment.
    pub(super) fn of(source: &dyn LogSource, files: &[LogFile], oldest: u64) -> FarSurvey {
        let files: BTreeSet<Beside> = files.iter().filter_map(LogFile::beside).collect();
        let mut found = FarSurvey { files, ..FarSurvey::default() };
        for &name in &found.files {
            if let Beside::Open(ends_with) = name
                && let Some(open) = read(source, name).ok().and_then(|bytes| OpenFile::decode(&bytes, ends_with))
            {
                found.open.insert(ends_with, open);
            }
        }
        if let Some((open, _)) = oldest.checked_sub(1).and_then(|ends_with| found.open.get(&ends_with)) {
            found.ends = open.segments.iter().map(|segment| (segment.segment, segment.end)).collect();
            return found;
        }
        for &name in &found.files {
            if let Beside::Index(segment) = name
                && segment < oldest
                && let Some(end) = found.index(source, segment).and_then(|index| index.end)
            {
                found.ends.insert(segment, end);
            }
        }
        found
    }

    /// What can be read of the index of a segment; `None` if there is none, or the disk cannot give it.
    pub(in crate::log) fn index(&self, source: &dyn LogSource, segment: u64) -> Option<IndexSurvey> {
        let name = Beside::Index(segment);
        let file = self.files.contains(&name).then(|| source.open_file(&LogFile::of_beside(name)))?;
        survey_index(&*file.ok()?, segment).ok()
    }
}

fn read(source: &dyn LogSource, name: Beside) -> io::Result<Vec<u8>> {
    let file = source.open_file(&LogFile::of_beside(name))?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(|_| io::ErrorKind::OutOfMemory)?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// What the log says of files of open jobs: the checksums that belong to each oldest segment.
#[derive(Debug, Default)]
pub(in crate::log) struct NamedFiles(pub(in crate::log) BTreeSet<(u64, Option<u32>)>);

impl NamedFiles {
    pub(in crate::log) fn note(&mut self, record: &FoundRecord<'_>) {
        if let Some(Event::NumbersKept(kept)) = record.event.as_ref().map(|event| event.event()) {
            self.0.insert((kept.oldest_segment, kept.far_jobs));
        }
    }

    /// Whether the log names a file with that checksum, or none, for a log that begins with that segment; `None` if it says
    /// nothing of one that begins there.
    fn names(&self, oldest: u64, checksum: Option<u32>) -> Option<bool> {
        let mut all = self.0.range((oldest, None)..=(oldest, Some(u32::MAX))).peekable();
        all.peek()?;
        Some(all.any(|(_, named)| *named == checksum))
    }
}

impl Sink for NamedFiles {
    fn record(&mut self, record: FoundRecord<'_>) -> ControlFlow<()> {
        self.note(&record);
        ControlFlow::Continue(())
    }

    fn passed_over(&mut self, _: &PassedOver) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Survey {
    /// The far segments where a start begins, if what says so is there and right.
    pub(in crate::log) fn far_segments(&self) -> &[OpenSegment] {
        let open = self.oldest_needed.checked_sub(1).and_then(|ends_with| self.far.open.get(&ends_with));
        open.map_or(&[], |(open, _)| &open.segments)
    }

    /// Adds what is wrong with the far segments' files, once the log was read, which names one of them.
    pub(super) fn judge_far(
        &mut self,
        source: &dyn LogSource,
        named: &NamedFiles,
        look: Look,
    ) -> Result<(), InspectError> {
        let fault = self.open_jobs_fault(named);
        let mut problems = std::mem::take(&mut self.far.problems);
        if let Some(fault) = fault {
            let (path, kind) = (self.open_jobs_path(), ProblemKind::OpenJobs(fault));
            problems.push(Problem { segment: None, path, offset: 0, kind, lost: Vec::new() });
        } else if self.far_segments().is_empty() {
            // What was taken for far segments is history.
            self.notes.append(&mut problems);
            self.far.ends.clear();
        } else {
            self.judge_segments(source, &mut problems);
        }
        // A server that runs meanwhile takes away what it needs no more, and writes others first.
        let is_passing = |kind: &ProblemKind| matches!(kind, ProblemKind::OpenJobs(_)) || kind.word() == "missing";
        problems.retain(|problem| !look.is_live || !is_passing(&problem.kind));
        self.problems.append(&mut problems);
        for part in &self.parts {
            self.reports[part.report].is_far = self.far.ends.contains_key(&part.number);
        }
        Ok(())
    }

    fn open_jobs_path(&self) -> std::path::PathBuf {
        path_of(&LogFile::of_beside(Beside::Open(self.oldest_needed - 1)))
    }

    /// What is wrong with the file that says which far jobs are open, as a start sees it.
    fn open_jobs_fault(&self, named: &NamedFiles) -> Option<OpenJobsFault> {
        let ends_with = self.oldest_needed.checked_sub(1)?;
        let is_there = self.far.files.contains(&Beside::Open(ends_with));
        let checksum = self.far.open.get(&ends_with).map(|(_, checksum)| *checksum);
        if is_there && checksum.is_none() {
            return Some(OpenJobsFault::Damaged);
        }
        if self.oldest_needed == 1 {
            return None;
        }
        match named.names(self.oldest_needed, checksum) {
            Some(true) => None,
            Some(false) if is_there => Some(OpenJobsFault::Other),
            Some(false) => Some(OpenJobsFault::Missing),
            // The record that names it is lost; then indexes tell of far segments.
            None => (!is_there && !self.far.ends.is_empty()).then_some(OpenJobsFault::Missing),
        }
    }

    fn judge_segments(&mut self, source: &dyn LogSource, problems: &mut Vec<Problem>) {
        let mut notes = Vec::new();
        for OpenSegment { segment, records, end, open } in self.far_segments() {
            let problem =
                |path, offset, kind| Problem { segment: Some(*segment), path, offset, kind, lost: Vec::new() };
            if !self.parts.iter().any(|part| part.number == *segment) {
                let path = path_of(&LogFile::of_segment(*segment));
                problems.push(problem(path, 0, ProblemKind::FarMissing { open: open.count }));
            }
            let path = path_of(&LogFile::of_beside(Beside::Index(*segment)));
            let Some(index) = self.far.index(source, *segment) else {
                notes.push(problem(path, 0, ProblemKind::Index(IndexFault::Missing)));
                continue;
            };
            if index.is_remade {
                notes.push(problem(path, 0, ProblemKind::Index(IndexFault::Remade)));
                continue;
            }
            if let Some(&offset) = index.spoilt_at.first() {
                let kind = ProblemKind::Index(IndexFault::Blocks { count: index.spoilt_at.len() as u64 });
                problems.push(problem(path, offset, kind));
                continue;
            }
            let known = index.entries.iter().filter(|entry| open.get(entry.ordinal)).count();
            if known < open.count as usize
                || index.end != Some(*end)
                || index.entries.iter().any(|x| x.ordinal >= *records)
            {
                problems.push(problem(path, 0, ProblemKind::Index(IndexFault::Other)));
            }
        }
        self.notes.append(&mut notes);
    }
}
