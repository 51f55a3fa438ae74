//! The engine's part in schedules: who knows their ticks, what a turn brings about, what can be seen of them.

use super::{Engine, ROOM_AGAIN, UNWRITTEN_BYTES, WRITTEN_AGAIN};
#[cfg(any(test, feature = "testing"))]
use crate::event::Event;
use crate::job::{QueueName, Time};
use crate::schedule::{Calendar, ScheduleView, Timing};
#[cfg(any(test, feature = "testing"))]
use crate::schedule::{LeftOut, TurnNote};
use std::sync::Arc;

impl Engine {
    /// Gives the engine who knows the ticks of expressions. Without one, schedules with an expression are refused, and those
    /// that a log holds wait.
    pub fn set_calendar(&mut self, calendar: Arc<dyn Calendar>) {
        self.state.set_calendar(calendar);
    }

    /// The tick of a timing after a moment of the wall clock; [`Time::NEVER`] if there is none.
    #[must_use]
    pub fn next_scheduled(&self, timing: &Timing, after: Time) -> Time {
        timing.next(self.state.calendar().map(|calendar| &**calendar), after)
    }

    /// A schedule.
    #[must_use]
    pub fn schedule(&self, name: &QueueName) -> Option<ScheduleView<'_>> {
        self.state.view_schedule(name)
    }

    /// Schedules in the order of their names, from after that one on, or from the first: long lists are read in slices.
    pub fn schedules_after<'a>(&'a self, name: Option<&QueueName>) -> impl Iterator<Item = ScheduleView<'a>> + use<'a> {
        self.state.schedules_after(name)
    }

    /// How many schedules there are.
    #[must_use]
    pub fn schedule_count(&self) -> usize {
        self.state.schedules()
    }

    /// A schedule has its turn: its tick has come. Returns how many of the objects of a step that took, at least one.
    pub(super) fn take_turn(&mut self, name: &QueueName) -> usize {
        // What stands at one moment in many schedules is not decided faster than it is written, nor faster than it is told that
        // the disk has no more to give: a part of the room that is set aside covers what is decided until then.
        let set_aside = usize::try_from(self.room.set_aside / 8).unwrap_or(usize::MAX);
        let most = if set_aside > 0 { set_aside.min(UNWRITTEN_BYTES) } else { UNWRITTEN_BYTES };
        if self.unwritten_bytes() > most {
            #[cfg(any(test, feature = "testing"))]
            self.turns.push((name.clone(), TurnNote::Unwritten));
            self.state.put_off_turn(name, WRITTEN_AGAIN, self.now);
            return 1;
        }
        let queue = self.state.schedule_queue(name).cloned().expect("a schedule in line is there");
        let queue = self.state.open_queue(&queue);
        let mut events = std::mem::take(&mut self.events);
        let looked_at = self.state.take_turn(name, queue, self.now, &mut events);
        let has_room = events.iter().all(|event| self.has_room_for(event));
        #[cfg(any(test, feature = "testing"))]
        self.note_turn(name, &events, has_room);
        if !has_room {
            events.clear();
            self.state.put_off_turn(name, ROOM_AGAIN, self.now);
        }
        for event in events.drain(..) {
            self.happen(event);
        }
        self.events = events;
        self.state.leave_queue(queue);
        looked_at
    }

    /// What the wall clock shows now, as far as the engine was told.
    #[must_use]
    pub fn wall_now(&self) -> Time {
        self.wall_time(self.now)
    }
}

#[cfg(any(test, feature = "testing"))]
impl Engine {
    fn note_turn(&mut self, name: &QueueName, events: &[Event], has_room: bool) {
        let is_unknown =
            |event: &Event| matches!(event, Event::TickPassed(passed) if passed.why == LeftOut::KeyUnknown);
        let note = match events {
            _ if !has_room => TurnNote::NoRoom,
            [event] if is_unknown(event) => TurnNote::KeyUnknown,
            _ => TurnNote::Plain,
        };
        self.turns.push((name.clone(), note));
    }

    /// The turns that schedules had since this was asked last, in order.
    pub fn take_turns(&mut self) -> Vec<(QueueName, TurnNote)> {
        std::mem::take(&mut self.turns)
    }
}
