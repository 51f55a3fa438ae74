//! Jobs of far segments: which of them are to be saved, and their records once more for the new log.
//!
//! What says which are open is the file of open jobs where the log begins that is read: with it, no job comes back that had
//! ended. Where the right one is gone, another does as well whose log is all there. Without any, nothing tells a job that
//! waits from one that was called off long ago: such jobs are left out and counted, unless they are asked for.
//!
//! A job stays on disk until it is written to the new log, unless a record of the log names it; so memory is bounded by the log.

use super::ledger::Ledger;
use super::merge::first_part;
use super::{FarLoss, SalvageError};
use crate::event::{Event, KeptJob};
use crate::far::{Bits, FarPlace, FarRecord, OpenSegment, key_hash};
use crate::job::{JobId, QueueName};
use crate::limits::STEP_OBJECTS;
use crate::log::inspect::{FoundRecord, InspectError, NamedFiles, Part, PassedOver, Reader, Sink, Survey, Window};
use crate::log::record::{NameCache, holds_job};
use crate::log::{Lsn, Place, decode_record};
use crate::storage::{LogFile, LogSource};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What the log names: those far jobs are taken into memory before it is read.
#[derive(Default)]
struct Named {
    files: NamedFiles,
    /// Jobs that it has whole.
    whole: HashSet<JobId>,
    /// Jobs to which something happened in it.
    changed: HashSet<JobId>,
    /// Keys of jobs that were put, with their queues: who had one before has ended.
    keys: HashSet<u32>,
    /// Jobs that others wait for.
    parents: HashSet<JobId>,
    /// Queues that ended, and all in them before.
    dropped: HashSet<QueueName>,
}

impl Sink for Named {
    fn record(&mut self, record: FoundRecord<'_>) -> ControlFlow<()> {
        self.files.note(&record);
        let Some(event) = record.event else { return ControlFlow::Continue(()) };
        match event.event().changes_job() {
            Some(job) => self.changed.extend([job]),
            None => self.whole.extend(event.event().job()),
        }
        self.parents.extend(event.event().parents());
        let queue = event.queue_name();
        match (event.event(), queue) {
            (Event::JobPut(put), Some(queue)) => self.keys.extend(put.key.as_ref().map(|key| key_hash(queue, key))),
            (Event::JobKept(kept), Some(queue)) => {
                self.keys.extend(kept.put.key.as_ref().map(|key| key_hash(queue, key)));
            }
            (Event::QueueDropped { .. }, Some(queue)) => drop(self.dropped.insert(queue.clone())),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn passed_over(&mut self, _: &PassedOver) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Named {
    /// Whether the log may have something happen to a job.
    fn names(&self, kept: &KeptJob, queue: &QueueName) -> bool {
        let key = kept.put.key.as_ref().map(|key| key_hash(queue, key));
        self.whole.contains(&kept.put.job)
            || self.changed.contains(&kept.put.job)
            || self.parents.contains(&kept.put.job)
            || key.is_some_and(|key| self.keys.contains(&key))
            || self.dropped.contains(queue)
    }
}

/// Where in a far segment a job is said to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Found {
    offset: u64,
    length: u64,
    /// The least and the greatest that its ordinal can be.
    ordinal: (u32, u32),
    job: JobId,
}

/// Whether a job of a far segment is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Ended,
    Unsure,
}

/// The far segments, and what came of their jobs.
pub(super) struct FarJobs<'s> {
    source: &'s dyn LogSource,
    survey: &'s Survey,
    named: Named,
    /// The part from which on the log is read, and the segment from which on all of it is needed.
    pub(super) first: usize,
    pub(super) oldest: u64,
    /// Which jobs were open where the log begins that is read, if that is known, and the last record before.
    open: Option<(Vec<OpenSegment>, Lsn)>,
    /// Whether to take jobs of which nothing says that they had not ended.
    takes_unsure: bool,
    /// Jobs that are on disk alone.
    pub(super) cold: u64,
    /// Jobs that are lost, and nothing says which.
    pub(super) lost: Vec<FarLoss>,
    /// Jobs of which nothing says whether they had ended.
    pub(super) unsure: Vec<FarLoss>,
}

impl<'s> FarJobs<'s> {
    /// Finds out where the log is to be read from, and which far jobs were open before. `is_damaged`: something is wrong with
    /// what a start reads. `is_sure`: the file of open jobs is the one that a start would take.
    pub(super) fn find(
        source: &'s dyn LogSource,
        survey: &'s Survey,
        is_damaged: bool,
        is_sure: bool,
        takes_unsure: bool,
    ) -> Result<FarJobs<'s>, InspectError> {
        let mut far = FarJobs {
            source,
            survey,
            named: Named::default(),
            first: first_part(survey, survey.oldest_needed, is_damaged || !is_sure),
            oldest: survey.oldest_needed,
            open: None,
            takes_unsure,
            cold: 0,
            lost: Vec::new(),
            unsure: Vec::new(),
        };
        let first = far.first_segment();
        let is_before = |first, segment: &OpenSegment| segment.segment < first && segment.open.count > 0;
        if is_sure && !survey.far_segments().iter().any(|segment| is_before(first, segment)) {
            far.open = Some((Vec::new(), Lsn(0)));
            return Ok(far);
        }
        far.read_log()?;
        if !is_sure {
            let Some(oldest) = far.other_oldest() else { return Ok(far) };
            (far.first, far.oldest) = (first_part(survey, oldest, true), oldest);
        }
        let first = far.first_segment();
        let found = far.oldest.checked_sub(1).and_then(|ends_with| survey.far.open.get(&ends_with));
        far.open = found.map(|(open, _)| {
            let mut segments = open.segments.clone();
            segments.retain(|segment| is_before(first, segment));
            let next = survey.parts.iter().find(|part| part.number == far.oldest);
            let next = next.and_then(|part| part.header).map_or(Lsn(1), |header| header.first_lsn);
            (segments, Lsn(next.0.saturating_sub(1)))
        });
        Ok(far)
    }

    /// The segment from which on the log is read.
    fn first_segment(&self) -> u64 {
        self.survey.parts.get(self.first).map_or(self.oldest, |part| part.number.min(self.oldest))
    }

    fn read_log(&mut self) -> Result<(), InspectError> {
        let mut reader = Reader::new(self.source, self.survey.store, false);
        for (index, part) in self.survey.parts.iter().enumerate().skip(self.first) {
            reader.part(part, self.survey.place(index), &mut self.named)?;
            for copy in self.survey.copies.iter().filter(|copy| copy.number == part.number) {
                reader.part(copy, self.survey.place(index), &mut self.named)?;
            }
        }
        Ok(())
    }

    /// Where a log begins whose file of open jobs is another one: the log names it, and is there from its begin on.
    fn other_oldest(&self) -> Option<u64> {
        let open = self.survey.far.open.iter().map(|(ends_with, (_, checksum))| (ends_with + 1, *checksum));
        let is_there = |oldest: u64| self.survey.parts.iter().skip(self.first).any(|part| part.number == oldest);
        let named = open.filter(|&(oldest, checksum)| self.named.files.0.contains(&(oldest, Some(checksum))));
        named.map(|(oldest, _)| oldest).filter(|&oldest| is_there(oldest)).max()
    }

    /// Takes the jobs in, before the log is read.
    pub(super) fn take(&mut self, ledger: &mut Ledger) -> Result<(), InspectError> {
        let first = self.first_segment();
        let ends_with = self.oldest.checked_sub(1).filter(|_| first == self.oldest);
        let open = ends_with.and_then(|ends_with| self.survey.far.open.get(&ends_with));
        if let Some(wall_ahead) = open.and_then(|(open, _)| open.wall_ahead) {
            ledger.begin_clock(wall_ahead);
        }
        match self.open.take() {
            Some((segments, as_of)) => {
                for segment in &segments {
                    self.take_open(segment, as_of, ledger)?;
                }
                self.open = Some((segments, as_of));
            }
            // History goes with time, the oldest first: what stands before a gap in it is a far segment.
            None => {
                for part in self.survey.parts.iter().filter(|part| part.number < first) {
                    self.take_unsure(part, ledger)?;
                }
            }
        }
        Ok(())
    }

    fn take_open(&mut self, segment: &OpenSegment, as_of: Lsn, ledger: &mut Ledger) -> Result<(), InspectError> {
        let OpenSegment { segment: number, records, end, open } = segment;
        let mut found = self.indexed(*number, Some((*end, *records)));
        let is_covered = found.iter().filter(|found| open.get(found.ordinal.0)).count() == open.count as usize;
        if !is_covered {
            let known: HashSet<u32> = found.iter().map(|found| found.ordinal.0).collect();
            let walked = self.walked(*number, Some(*records))?;
            found.extend(walked.into_iter().filter(|found| {
                let (least, most) = found.ordinal;
                least != most || !known.contains(&least)
            }));
            found.sort_unstable();
        }
        let mut reading = Reading::of(self, *number)?;
        let (mut cold, mut counts) = (Bits::none(*records), BTreeMap::new());
        let (mut told, mut unsure) = (0_u64, 0_u64);
        for found in &found {
            match fate(open, found.ordinal) {
                Fate::Ended => continue,
                Fate::Unsure => {
                    unsure += 1;
                    if self.takes_unsure
                        && let Some((kept, queue)) = reading.read(found)
                    {
                        ledger.take_far(kept, &queue, Lsn(0));
                    }
                    continue;
                }
                Fate::Open => told += 1,
            }
            match reading.read(found) {
                None => ledger.lose_far(found.job, *number, found.offset),
                // Which bit is its own has to be known of one that stays on disk.
                Some((kept, queue)) if found.ordinal.0 != found.ordinal.1 || self.named.names(&kept, &queue) => {
                    ledger.take_far(kept, &queue, as_of);
                }
                Some((kept, queue)) => {
                    ledger.saw_job(kept.put.job);
                    cold.set(found.ordinal.0, true);
                    *counts.entry(queue).or_insert(0) += 1;
                }
            }
        }
        self.cold += u64::from(cold.count);
        let unnamed = u64::from(open.count).saturating_sub(told);
        if unsure > 0 {
            self.unsure.push(FarLoss { segment: *number, jobs: unnamed });
        } else if unnamed > 0 {
            self.lost.push(FarLoss { segment: *number, jobs: unnamed });
        }
        if cold.count > 0 {
            let segment = OpenSegment { open: cold, ..segment.clone() };
            ledger.load_far(segment, counts.into_iter().collect());
        }
        Ok(())
    }

    /// A far segment of which nothing says which jobs are open.
    fn take_unsure(&mut self, part: &Part, ledger: &mut Ledger) -> Result<(), InspectError> {
        let mut found = self.indexed(part.number, None);
        if found.is_empty() {
            found = self.walked(part.number, None)?;
        }
        let mut reading = Reading::of(self, part.number)?;
        let mut unsure = 0;
        for found in &found {
            // What something happens to in the log was open where that begins.
            let is_open = self.named.changed.contains(&found.job);
            if !is_open && self.named.whole.contains(&found.job) {
                continue;
            }
            unsure += u64::from(!is_open);
            if is_open || self.takes_unsure {
                match reading.read(found) {
                    Some((kept, queue)) => ledger.take_far(kept, &queue, Lsn(0)),
                    None => ledger.lose_far(found.job, part.number, found.offset),
                }
            }
        }
        if unsure > 0 {
            self.unsure.push(FarLoss { segment: part.number, jobs: unsure });
        }
        Ok(())
    }

    /// The jobs of a segment as its index has them; none if that cannot be used, or is of another segment.
    fn indexed(&self, segment: u64, of: Option<(Lsn, u32)>) -> Vec<Found> {
        let Some(index) = self.survey.far.index(self.source, segment) else { return Vec::new() };
        if of.is_some_and(|(end, _)| index.end != Some(end)) {
            return Vec::new();
        }
        let entries = index.entries.into_iter().filter(|entry| of.is_none_or(|(_, records)| entry.ordinal < records));
        let found = entries.map(|entry| Found {
            offset: entry.offset.into(),
            length: entry.length.into(),
            ordinal: (entry.ordinal, entry.ordinal),
            job: entry.job,
        });
        found.collect()
    }

    /// The jobs of a segment as its records have them, in their order. `records` is how many there are that hold a job whole.
    fn walked(&self, segment: u64, records: Option<u32>) -> Result<Vec<Found>, InspectError> {
        let Some(index) = self.survey.parts.iter().position(|part| part.number == segment) else {
            return Ok(Vec::new());
        };
        let mut walk = Walk { due: self.survey.parts[index].header.map(|header| header.first_lsn), ..Walk::default() };
        let mut reader = Reader::new(self.source, self.survey.store, false);
        let place = self.survey.place(index);
        reader.part(&self.survey.parts[index], place, &mut walk)?;
        Ok(walk.end(records, place.next.map(|next| next.first_lsn)))
    }

    /// How many of the jobs on disk alone may have ended in records that are lost.
    pub(super) fn uncertain(&self, ledger: &Ledger) -> u64 {
        let as_of = self.open.as_ref().map_or(Lsn(0), |(_, as_of)| *as_of);
        let is_lost_behind = ledger.lost.last().is_some_and(|lost| lost.to.is_none_or(|to| to > as_of));
        if is_lost_behind { self.cold } else { 0 }
    }

    /// Hands on the jobs of a far segment that are on disk alone, so many of them, a few at a time.
    pub(super) fn write(
        &self,
        segment: u64,
        count: u32,
        is_open: &dyn Fn(FarPlace) -> bool,
        each: &mut dyn FnMut(&[FarRecord]) -> Result<(), SalvageError>,
    ) -> Result<(), SalvageError> {
        let of = self.open.iter().flat_map(|(segments, _)| segments).find(|found| found.segment == segment);
        let Some(of) = of else { return Ok(()) };
        let mut found = self.indexed(segment, Some((of.end, of.records)));
        let is_open = |found: &Found| {
            let (least, most) = found.ordinal;
            // Those of which the ordinal is not certain are not on disk alone.
            least == most && is_open(FarPlace { segment, ordinal: least })
        };
        if found.iter().filter(|found| is_open(found)).count() < count as usize {
            let known: HashSet<u32> = found.iter().map(|found| found.ordinal.0).collect();
            found.extend(self.walked(segment, Some(of.records))?.into_iter().filter(|x| !known.contains(&x.ordinal.0)));
        }
        found.retain(is_open);
        found.sort_unstable_by_key(|found| found.ordinal);
        let mut reading = Reading::of(self, segment)?;
        let mut left = count as usize;
        for found in found.chunks(STEP_OBJECTS) {
            let records = found.iter().filter_map(|found| {
                let (kept, queue) = reading.read(found)?;
                let place = FarPlace { segment, ordinal: found.ordinal.0 };
                Some(FarRecord { place, record: Place { segment, offset: found.offset }, kept, queue })
            });
            let records: Vec<FarRecord> = records.collect();
            left -= records.len();
            each(&records)?;
        }
        if left > 0 {
            let (path, source) = (log_path(&LogFile::of_segment(segment)), io::Error::other("it changed meanwhile"));
            return Err(InspectError { path, source }.into());
        }
        Ok(())
    }
}

fn log_path(file: &LogFile) -> PathBuf {
    Path::new("log").join(&file.name)
}

fn fate(open: &Bits, (least, most): (u32, u32)) -> Fate {
    match open.count_in(least, most) {
        0 => Fate::Ended,
        count if count == most - least + 1 => Fate::Open,
        _ => Fate::Unsure,
    }
}

/// Reads records of a segment by their places.
struct Reading<'s> {
    window: Option<Window<'s>>,
    names: NameCache,
}

impl<'s> Reading<'s> {
    fn of(far: &FarJobs<'s>, segment: u64) -> Result<Reading<'s>, InspectError> {
        let part = far.survey.parts.iter().find(|part| part.number == segment);
        let failed = |part: &Part| {
            let path = log_path(&part.file);
            move |source| InspectError { path, source }
        };
        let window = part.map(|part| {
            let file = far.source.open_file(&part.file).map_err(failed(part))?;
            Window::new(file).map_err(failed(part))
        });
        Ok(Reading { window: window.transpose()?, names: NameCache::default() })
    }

    /// The job there, if its record is as it was written.
    fn read(&mut self, found: &Found) -> Option<(KeptJob, QueueName)> {
        let bytes = self.window.as_mut()?.get(found.offset, found.length)?;
        let event = decode_record(bytes, &mut self.names).ok()??;
        event.whole_job().filter(|(kept, _)| kept.put.job == found.job)
    }
}

/// Counts the records of a segment that hold a job whole, over whatever is damaged in it.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    /// For each of them, how many records are missing before it at the most; `None` where nothing says.
    missing: Vec<Option<u64>>,
    missing_so_far: Option<u64>,
    due: Option<Lsn>,
    is_begun: bool,
}

impl Walk {
    fn pass(&mut self, lsn: Lsn, is_certain: bool) {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.missing_so_far = self.due.map(|_| 0);
        }
        let gap = self.due.map(|due| lsn.0.saturating_sub(due.0)).filter(|_| is_certain);
        self.missing_so_far = self.missing_so_far.and_then(|missing| Some(missing + gap?));
        self.due = Some(Lsn(lsn.0.saturating_add(1)));
    }

    /// The jobs with what their ordinals can be.
    fn end(mut self, records: Option<u32>, end: Option<Lsn>) -> Vec<Found> {
        if let Some(end) = end {
            self.pass(end, true);
        }
        let seen = self.found.len() as u64;
        // How many of those that are missing hold a job.
        let lost = records.map(|records| u64::from(records).saturating_sub(seen));
        let limit = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        for (before, (found, missing)) in self.found.iter_mut().zip(&self.missing).enumerate() {
            let before = before as u64;
            let behind = self.missing_so_far.zip(*missing).map(|(all, missing)| all - missing);
            let most = match (lost, missing) {
                (Some(lost), Some(missing)) => lost.min(*missing),
                (Some(lost), None) => lost,
                (None, missing) => missing.unwrap_or(0),
            };
            let least = lost.zip(behind).map_or(0, |(lost, behind)| lost.saturating_sub(behind));
            found.ordinal = (limit(before + least.min(most)), limit(before + most));
        }
        self.found
    }
}

impl Sink for Walk {
    fn record(&mut self, record: FoundRecord<'_>) -> ControlFlow<()> {
        self.pass(record.lsn, record.is_counted);
        let job = record.event.as_ref().and_then(|event| event.event().job());
        if let Some(job) = job.filter(|_| holds_job(record.kind)) {
            let (offset, length) = (record.offset, record.bytes);
            self.found.push(Found { offset, length, ordinal: (0, 0), job });
            self.missing.push(self.missing_so_far);
        }
        ControlFlow::Continue(())
    }

    fn passed_over(&mut self, _: &PassedOver) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
