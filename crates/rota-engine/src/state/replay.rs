//! The state out of a log: every event again, in order.
//!
//! A log whose first segments were reclaimed begins in the middle: events on jobs that are written again further on, or
//! that ended, are passed over until the record that completed the reclaiming. From there on an event that fits nothing
//! is a fault.

use super::State;
use crate::engine::BodyHome;
use crate::event::Event;
use crate::log::{BodyWritten, ReplayError, ReplayedRecord};
use crate::queue::QueueId;

/// A replay under way.
pub(crate) struct Replay {
    state: State,
    /// The segment that the log begins with; `None` before the first record.
    first_segment: Option<u64>,
    /// The queue that a record named last: the next one mostly names the same.
    named: Option<QueueId>,
    /// Whether all that is open at this point of the log was read.
    is_whole: bool,
    bodies: BodyHome,
}

/// The log ended before all of what its first segments held was written again.
#[derive(Debug, thiserror::Error)]
#[error("the log begins at segment {0}, but does not hold what stood in those before it: a segment is missing")]
struct NotWhole(u64);

/// An event changes a job that is not open.
#[derive(Debug, thiserror::Error)]
#[error("it changes a job that is not open: {0:?}")]
struct NoSuchJob(Event);

impl Replay {
    pub(crate) fn new(state: State, bodies: BodyHome) -> Replay {
        Replay { state, first_segment: None, named: None, is_whole: true, bodies }
    }

    /// Takes the next record.
    pub(crate) fn take(&mut self, record: ReplayedRecord<'_>) -> Result<(), ReplayError> {
        let ReplayedRecord { seq, at, event, place, .. } = record;
        let first_segment = *self.first_segment.get_or_insert_with(|| {
            self.is_whole = place.segment == 1;
            place.segment
        });
        let (state, named) = (&mut self.state, &mut self.named);
        let event = event.resolve(&mut |name| {
            // A dropped queue's number may be another's by now, so it is the name that counts.
            let is_it = |id: &QueueId| state.queues.get(id.slot()).is_some_and(|queue| queue.name == *name);
            let known = named.filter(is_it);
            *named.insert(known.unwrap_or_else(|| state.open_queue(name)))
        });
        if !self.state.can_apply(&event) {
            return if self.is_whole { Err(Box::new(NoSuchJob(event))) } else { Ok(()) };
        }
        if let Event::NumbersKept(kept) = &event {
            self.is_whole |= kept.oldest_segment >= first_segment;
        }
        let with_body = event.with_body().filter(|_| self.bodies == BodyHome::Log);
        self.state.replay(event, seq, at);
        if let Some(job) = with_body {
            self.state.body_written(BodyWritten { job, record: place });
        }
        Ok(())
    }

    /// The state at the end of the log.
    pub(crate) fn end(self) -> Result<State, ReplayError> {
        match self.first_segment {
            Some(first) if !self.is_whole => Err(Box::new(NotWhole(first))),
            _ => Ok(self.state),
        }
    }
}
