//! Every record of a log once, in the order of their places, out of all files that hold some.

use super::ledger::Ledger;
use crate::event::Event;
use crate::job::{QueueName, Time};
use crate::log::inspect::{FoundRecord, InspectError, Nobody, Part, PassedOver, Place, Reader, Sink, Survey};
use crate::log::{LoggedEvent, Lsn};
use crate::storage::LogSource;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Reads what a start would read, or more: from the part `first` on. From the segment `oldest` on, all is needed.
pub(super) fn read_all(
    source: &dyn LogSource,
    survey: &Survey,
    first: usize,
    oldest: u64,
    ledger: &mut Ledger,
) -> Result<(), InspectError> {
    let begin = survey.parts.get(first).filter(|part| part.number <= oldest);
    match begin.and_then(|part| part.header) {
        Some(header) => ledger.begin_at(header.first_lsn),
        // Nothing before it was reclaimed, so that what is missing began with the first record.
        None if oldest == 1 => ledger.begin_at(Lsn(1)),
        None => {}
    }
    let mut reader = Reader::new(source, survey.store, false);
    for (index, part) in survey.parts.iter().enumerate().skip(first) {
        let place = survey.place(index);
        let copies: Vec<&Part> = survey.copies.iter().filter(|copy| copy.number == part.number).collect();
        if copies.is_empty() || is_whole(source, survey, part, place)? {
            reader.part(part, place, &mut Taker { ledger })?;
            continue;
        }
        let mut pool = Pool::default();
        for copy in copies {
            Reader::new(source, survey.store, false).part(copy, place, &mut pool)?;
        }
        reader.part(part, place, &mut pool)?;
        pool.pour_into(ledger);
    }
    Ok(())
}

/// The first segment to read: what a start would read; of a damaged log also the history before it, which may hold what is
/// lost behind, as far as no segment is missing in it.
pub(super) fn first_part(survey: &Survey, oldest: u64, is_damaged: bool) -> usize {
    let needed = survey.parts.partition_point(|part| part.number < oldest);
    if !is_damaged {
        return needed;
    }
    let numbers: Vec<u64> = survey.parts[..needed].iter().map(|part| part.number).collect();
    let mut expected = oldest;
    let mut first = needed;
    for number in numbers.into_iter().rev() {
        if number + 1 != expected {
            break;
        }
        (expected, first) = (number, first - 1);
    }
    first
}

fn is_whole(source: &dyn LogSource, survey: &Survey, part: &Part, place: Place) -> Result<bool, InspectError> {
    let end = Reader::new(source, survey.store, false).part(part, place, &mut Nobody)?;
    Ok(part.header.is_some() && end.passed.is_empty() && end.unreadable.is_empty())
}

/// Hands records on as they come.
struct Taker<'l> {
    ledger: &'l mut Ledger,
}

impl Sink for Taker<'_> {
    fn record(&mut self, record: FoundRecord<'_>) -> ControlFlow<()> {
        self.ledger.rescued += u64::from(record.is_rescued);
        let FoundRecord { lsn, seq, at, .. } = record;
        match record.event {
            Some(event) if record.is_counted => self.ledger.take(lsn, seq, at, event),
            Some(event) => self.ledger.take_guessed(lsn, seq, at, event),
            None => self.ledger.skip(lsn),
        }
        ControlFlow::Continue(())
    }

    fn passed_over(&mut self, passed: &PassedOver) -> ControlFlow<()> {
        self.ledger.pass_over(passed);
        ControlFlow::Continue(())
    }
}

/// A record, kept until all files that may hold it were read.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    seq: u64,
    at: Time,
    /// `None` of one of a newer server that may be passed over.
    event: Option<Event>,
    queue: Option<QueueName>,
    is_rescued: bool,
}

/// The records of one segment out of several files. A place that is certain comes before one that was counted on to.
#[derive(Default)]
struct Pool {
    records: BTreeMap<(Lsn, bool), Kept>,
    passed: Vec<PassedOver>,
}

impl Pool {
    fn pour_into(self, ledger: &mut Ledger) {
        for passed in &self.passed {
            ledger.pass_over(passed);
        }
        let certain: Vec<(u64, Time)> =
            self.records.iter().filter(|((_, is_guess), _)| !is_guess).map(|(_, kept)| (kept.seq, kept.at)).collect();
        for ((lsn, is_guess), kept) in &self.records {
            // Found with its place in another file.
            if *is_guess && certain.contains(&(kept.seq, kept.at)) {
                continue;
            }
            ledger.rescued += u64::from(kept.is_rescued);
            let event = |event| LoggedEvent { event, queue: kept.queue.as_ref(), actor: None };
            match kept.event.clone().map(event) {
                Some(event) if *is_guess => ledger.take_guessed(*lsn, kept.seq, kept.at, event),
                Some(event) => ledger.take(*lsn, kept.seq, kept.at, event),
                None => ledger.skip(*lsn),
            }
        }
    }
}

impl Sink for Pool {
    fn record(&mut self, record: FoundRecord<'_>) -> ControlFlow<()> {
        let kept = Kept {
            seq: record.seq,
            at: record.at,
            queue: record.event.as_ref().and_then(|event| event.queue_name().cloned()),
            event: record.event.map(|event| event.event),
            is_rescued: record.is_rescued,
        };
        self.records.entry((record.lsn, !record.is_counted)).or_insert(kept);
        ControlFlow::Continue(())
    }

    fn passed_over(&mut self, passed: &PassedOver) -> ControlFlow<()> {
        self.passed.push(passed.clone());
        ControlFlow::Continue(())
    }
}
