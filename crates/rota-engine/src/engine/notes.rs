//! The engine's part in notes: it tells of what was changed beside its state.

use super::Engine;
use crate::command::Refusal;
use crate::event::Event;
use crate::job::Time;
use crate::note::Note;
use crate::session::Actor;

/// What the record of a note takes, at the most, in bytes.
const NOTE_BYTES: u64 = 600;

impl Engine {
    /// Whether the log has the room to tell of something, for whoever wants to know before it is changed.
    #[must_use]
    pub fn has_room_to_tell(&self) -> bool {
        !self.room.is_all || self.room.free > self.room_to_reclaim() + NOTE_BYTES
    }

    /// Tells that something was changed beside the state, in the name of whoever asked for it, if that is known. The state is as
    /// before; the record is one like any other, and what comes of it depends on the log as answers do.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`]: it was not told. It can be tried again.
    pub fn tell(&mut self, note: Note, actor: Option<Actor>, now: Time) -> Result<(), Refusal> {
        self.now = self.now.max(now);
        if self.state.next_wake() <= self.now {
            self.tick(now);
        }
        let event = Event::Noted(Box::new(note));
        let has_room = self.has_room_for(&event);
        if has_room {
            self.actor = actor;
            self.happen(event);
            self.actor = None;
        }
        self.settle();
        if has_room { Ok(()) } else { Err(Refusal::NoRoom) }
    }
}
