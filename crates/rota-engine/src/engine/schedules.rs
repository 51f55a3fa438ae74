//! The engine's part in schedules: who knows their ticks, what a turn brings about, what can be seen of them.
//!
//! A tick whose job has a key may have to wait: whether a job has it that is not in memory is looked up off the owner, as for
//! puts. [`Engine::wanted_by_ticks`] says what, [`Engine::decide_ticks`] takes what was found, and the ticks have their turns.

use super::{Engine, ROOM_AGAIN, STEP_OBJECTS, UNWRITTEN_BYTES, WRITTEN_AGAIN};
use crate::far::{FarAsOf, FarFound, Want};
use crate::job::{QueueName, Time};
#[cfg(any(test, feature = "testing"))]
use crate::schedule::TurnNote;
use crate::schedule::{Calendar, ScheduleView, TickCounts, Timing};
use std::sync::Arc;
use std::time::Duration;

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

    /// How many of the schedules wait for a tick: they are not paused, and one is ahead that is known.
    #[must_use]
    pub fn schedules_in_line(&self) -> usize {
        self.state.schedules_in_line()
    }

    /// What came of ticks since the engine began, by what it was.
    #[must_use]
    pub fn tick_counts(&self) -> &TickCounts {
        self.state.tick_counts()
    }

    /// For how long the tick has waited for its turn that waits longest: for room in the log, as a rule. Zero if none does.
    #[must_use]
    pub fn tick_late(&self) -> Duration {
        self.state.tick_late(self.now)
    }

    /// What has to be looked up before ticks can be decided that have come: at most so many different things, to be given to
    /// [`Engine::decide_ticks`] with what is said along. Nothing if no tick waits for that.
    #[must_use]
    pub fn wanted_by_ticks(&self, most: usize) -> Option<(Vec<Want>, FarAsOf)> {
        let mut waiting = self.state.ticks_that_wait(self.now).map(|(_, want)| want).peekable();
        if self.is_stopped || waiting.peek().is_none() {
            return None;
        }
        let mut wants: Vec<Want> = Vec::new();
        for want in waiting.flatten() {
            if wants.len() == most {
                break;
            }
            if !wants.contains(&want) {
                wants.push(want);
            }
        }
        Some((wants, self.far_as_of()))
    }

    /// Decides the ticks that waited for what was looked up, as of the moment at which [`Engine::wanted_by_ticks`] said
    /// `as_of`. If jobs left memory since for where nobody looked, or for what else comes first, they wait on: it is to be
    /// asked again.
    pub fn decide_ticks(&mut self, found: &[(Want, FarFound)], as_of: FarAsOf, now: Time) {
        self.tick(now);
        if self.is_stopped || !found.iter().all(|(want, _)| as_of.holds(want, self.far_as_of())) {
            return;
        }
        for (_, found) in found {
            self.take_found(found, now);
        }
        let is_known = |want: &Want| found.iter().any(|(known, _)| known == want);
        let waiting = self.state.ticks_that_wait(self.now).filter(|(_, want)| want.as_ref().is_none_or(is_known));
        let waiting: Vec<QueueName> = waiting.map(|(name, _)| name.clone()).take(STEP_OBJECTS).collect();
        let mut left = STEP_OBJECTS;
        for name in waiting {
            if left > 0 {
                left = left.saturating_sub(self.take_turn(&name, true));
            }
        }
        self.settle();
        found.iter().for_each(|(_, found)| self.let_go(found));
    }

    /// A schedule has its turn: its tick has come. `is_known`: who has its key was looked up, if that had to be. Returns how
    /// many of the objects of a step that took, at least one.
    pub(super) fn take_turn(&mut self, name: &QueueName, is_known: bool) -> usize {
        // What stands at one moment in many schedules is not decided faster than it is written, nor faster than it is told that
        // the disk has no more to give: a part of the room that is set aside covers what is decided until then.
        let part = usize::try_from(self.room.segment_bytes / 8).unwrap_or(usize::MAX);
        let most = if part > 0 { part.min(UNWRITTEN_BYTES) } else { UNWRITTEN_BYTES };
        if self.unwritten_bytes() > most {
            #[cfg(any(test, feature = "testing"))]
            self.turns.push((name.clone(), TurnNote::Unwritten));
            self.state.put_off_turn(name, WRITTEN_AGAIN, self.now);
            return 1;
        }
        let queue = self.state.schedule_queue(name).cloned().expect("a schedule in line is there");
        let queue = self.state.open_queue(&queue);
        let mut events = std::mem::take(&mut self.events);
        let (looked_at, is_key_wanted) = self.state.take_turn(name, queue, (self.now, is_known), &mut events);
        let has_room = events.iter().all(|event| self.has_room_for(event));
        #[cfg(any(test, feature = "testing"))]
        self.note_turn(name, is_key_wanted, has_room);
        if is_key_wanted {
            self.state.await_key(name, self.now);
        } else if !has_room {
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
    fn note_turn(&mut self, name: &QueueName, is_key_wanted: bool, has_room: bool) {
        let note = match (is_key_wanted, has_room) {
            (true, _) => TurnNote::KeyWanted,
            (false, false) => TurnNote::NoRoom,
            (false, true) => TurnNote::Plain,
        };
        self.turns.push((name.clone(), note));
    }

    /// The turns that schedules had since this was asked last, in order.
    pub fn take_turns(&mut self) -> Vec<(QueueName, TurnNote)> {
        std::mem::take(&mut self.turns)
    }
}
