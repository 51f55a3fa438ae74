//! What a start would make of what was met: torn, damaged, missing; or records in order for who wants to see them.

use super::far::NamedFiles;
use super::pass::{Next, PartEnd, Place, Reader, Sink};
use super::survey::{Part, Survey, path_of};
use super::{
    FoundRecord, InspectError, Inspection, Item, Look, LsnRange, PassedOver, Problem, ProblemKind, SegmentState, Tail,
};
use crate::log::Lsn;
use crate::log::record::RecordFault;
use crate::log::segment::Damage;
use crate::storage::LogSource;
use std::io;
use std::ops::ControlFlow;

/// Who wants nothing of what is read.
pub(in crate::log) struct Nobody;

impl Sink for Nobody {
    fn record(&mut self, _: FoundRecord<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn passed_over(&mut self, _: &PassedOver) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Who hands everything on, until told to break.
struct HandOn<'a, 'c> {
    each: &'a mut (dyn FnMut(Item<'_>) -> ControlFlow<()> + 'c),
    is_over: bool,
}

impl HandOn<'_, '_> {
    fn hand_on(&mut self, item: Item<'_>) -> ControlFlow<()> {
        let told = (self.each)(item);
        self.is_over |= told.is_break();
        told
    }
}

impl Sink for HandOn<'_, '_> {
    fn record(&mut self, record: FoundRecord<'_>) -> ControlFlow<()> {
        self.hand_on(Item::Record(record))
    }

    fn passed_over(&mut self, passed: &PassedOver) -> ControlFlow<()> {
        self.hand_on(Item::PassedOver(passed.clone()))
    }
}

impl Survey {
    /// The segment's place among the others that are read.
    pub(in crate::log) fn place(&self, index: usize) -> Place {
        let number = self.parts[index].number;
        let next = self.parts.get(index + 1).filter(|next| next.number == number + 1).and_then(|next| next.header);
        let next = next.map(|next| Next { first_lsn: next.first_lsn, chain: Some(next.chain) });
        // What followed a far segment may be gone.
        let far_end = self.far.ends.get(&number).filter(|_| number < self.oldest_needed);
        let next = next.or(far_end.map(|&first_lsn| Next { first_lsn, chain: None }));
        Place { next, is_last: index + 1 == self.parts.len() }
    }

    /// Reads every group and judges it.
    pub(super) fn check(mut self, source: &dyn LogSource, look: Look) -> Result<Inspection, InspectError> {
        let mut torn = None;
        let mut named = NamedFiles::default();
        self.pass_all(source, look, &mut named, &mut |survey, index, end, due| {
            torn = survey.judge(index, end, due, look).or(torn.take());
        })?;
        self.judge_far(source, &named, look)?;
        let is_known = !self.parts.is_empty() || self.is_named;
        let store = Some(self.store).filter(|_| is_known && self.store.0 != [0; 16]);
        Ok(Inspection { store, segments: self.reports, problems: self.problems, torn, notes: self.notes })
    }

    /// Reads every part in order; `judge` is told of each with its index and the record that is due behind it.
    pub(in crate::log) fn pass_all(
        &mut self,
        source: &dyn LogSource,
        look: Look,
        sink: &mut dyn Sink,
        judge: &mut dyn FnMut(&mut Survey, usize, &PartEnd, Lsn),
    ) -> Result<(), InspectError> {
        let mut reader = Reader::new(source, self.store, look.is_live);
        for index in 0..self.parts.len() {
            let part = self.parts[index].clone();
            self.account_for_missing(index, reader.due);
            let end = match reader.part(&part, self.place(index), sink) {
                Err(error) if look.is_live && error.source.kind() == io::ErrorKind::NotFound => continue,
                end => end?,
            };
            judge(self, index, &end, reader.due);
        }
        Ok(())
    }

    /// Says of segments that are missing before that one which records were in them.
    fn account_for_missing(&mut self, index: usize, due: Lsn) {
        let Some(before) = index.checked_sub(1).map(|before| self.parts[before].number) else { return };
        let follows = self.parts[index].header.map(|header| header.first_lsn);
        let gap = self
            .problems
            .iter_mut()
            .find(|problem| problem.segment == Some(before + 1) && matches!(problem.kind, ProblemKind::Missing { .. }));
        let is_elsewhere = self.copies.iter().any(|copy| copy.number == before + 1);
        if let Some(gap) = gap.filter(|_| !is_elsewhere && follows.is_none_or(|follows| follows > due)) {
            gap.lost = vec![LsnRange { from: due, to: follows.map(|follows| Lsn(follows.0 - 1)) }];
        }
    }

    /// Adds what was met in a part to the report and the problems; returns the tail that a start would cut off.
    fn judge(&mut self, index: usize, end: &PartEnd, due: Lsn, look: Look) -> Option<Tail> {
        let part = self.parts[index].clone();
        let is_last = index + 1 == self.parts.len();
        let is_closed = end.is_sealed || !is_last;
        let report = &mut self.reports[part.report];
        report.state = if is_closed { SegmentState::Sealed } else { SegmentState::Open };
        (report.used_bytes, report.records) = (end.used_bytes, end.records);
        report.last_lsn = Some(Lsn(due.0.saturating_sub(1)));
        // While it is written, the end is not met, and what was passed over has whole groups behind it.
        if let Some(tail) = self.torn_tail(&part, end, is_last).filter(|_| !look.is_live) {
            let report = &mut self.reports[part.report];
            (report.used_bytes, report.records) = (end.whole.bytes, end.whole.records);
            report.last_lsn = Some(Lsn(end.whole.next_lsn.0.saturating_sub(1)));
            return Some(tail);
        }
        let list = self.list_for(Some(part.number));
        for passed in &end.passed {
            let kind = match passed.found {
                Damage::Record(
                    fault @ (RecordFault::UnknownType { .. }
                    | RecordFault::UnknownField { .. }
                    | RecordFault::UnknownFlags(_)),
                ) => ProblemKind::Unknown(fault),
                found => ProblemKind::Damaged(found),
            };
            let (path, lost) = (path_of(&part.file), passed.lost.clone());
            list.push(Problem { segment: Some(part.number), path, offset: passed.offset, kind, lost });
        }
        if let Some(&offset) = end.unreadable.first() {
            let kind = ProblemKind::Unreadable { blocks: end.unreadable.len() as u64 };
            let path = path_of(&part.file);
            list.push(Problem { segment: Some(part.number), path, offset, kind, lost: Vec::new() });
        }
        if is_last && end.is_sealed && !look.is_live {
            self.miss_the_successor(part.number + 1, due);
        }
        None
    }

    /// Whether what is not whole at the end of the log was never promised to anybody.
    fn torn_tail(&self, part: &Part, end: &PartEnd, is_last: bool) -> Option<Tail> {
        let first = end.passed.first()?;
        let is_torn = is_last
            && part.number >= self.oldest_needed
            && part.header.is_some()
            && self.unfinished.is_none()
            && !end.is_sealed
            && end.durable < end.whole.next_lsn
            && end.unreadable.is_empty()
            && !matches!(first.found, Damage::Record(_));
        is_torn.then(|| Tail {
            segment: part.number,
            offset: first.offset,
            bytes: end.data_end.saturating_sub(first.offset),
            from_lsn: end.whole.next_lsn,
            found: first.found,
        })
    }

    /// The last segment has a seal, so that one more was durable.
    fn miss_the_successor(&mut self, number: u64, due: Lsn) {
        if self.unfinished == Some(number) {
            let report = self.reports.iter().find(|report| report.file.number == Some(number));
            let path = report.map(|report| path_of(&report.file)).unwrap_or_default();
            let kind = ProblemKind::Damaged(Damage::SegmentHeader);
            let lost = vec![LsnRange { from: due, to: None }];
            self.problems.push(Problem { segment: Some(number), path, offset: 0, kind, lost });
            return;
        }
        self.missing(number, number);
        if let Some(missing) = self.problems.last_mut() {
            missing.lost = vec![LsnRange { from: due, to: None }];
        }
    }

    /// Hands on what is read of all parts, or of one.
    pub(super) fn read(
        self,
        source: &dyn LogSource,
        look: Look,
        segment: Option<u64>,
        from: Lsn,
        each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<(), InspectError> {
        let mut reader = Reader::new(source, self.store, look.is_live);
        let mut sink = HandOn { each, is_over: false };
        for index in 0..self.parts.len() {
            let part = &self.parts[index];
            let place = self.place(index);
            let is_before = place.next.is_some_and(|next| next.first_lsn <= from);
            if is_before || segment.is_some_and(|segment| segment != part.number) {
                continue;
            }
            match reader.part(part, place, &mut sink) {
                Err(error) if look.is_live && error.source.kind() == io::ErrorKind::NotFound => {}
                end => drop(end?),
            }
            if sink.is_over {
                break;
            }
        }
        Ok(())
    }
}
