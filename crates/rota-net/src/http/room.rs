//! Room that all requests share, in bytes: for bodies while they are read, for answers until they were sent.
//!
//! Each takes a part of it, which grows with what is held, and goes back with the part. Who asks for more than half of it at
//! a time, by one token, or by one address where nobody is asked for tokens, is refused more, and nobody else is.

use super::problem::{Kind, Problem};
use crate::peers::Peer;
use crate::shares::Shares;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose a part is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Whose {
    /// That of a token, by its id.
    Token(Arc<str>),
    /// That of an address.
    Peer(Peer),
}

/// The room.
#[derive(Debug)]
pub(super) struct Room {
    /// What is in it, as whoever is refused reads it: "the bodies of requests".
    what: &'static str,
    most: usize,
    /// In bytes.
    taken: Mutex<Shares<Whose>>,
}

/// A part of it.
#[derive(Debug)]
pub(super) struct Part {
    room: Arc<Room>,
    whose: Whose,
    bytes: AtomicUsize,
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(what: &'static str, most: usize) -> Arc<Room> {
        Arc::new(Room { what, most, taken: Mutex::default() })
    }

    /// A part of nothing yet.
    pub(super) fn part(self: &Arc<Room>, whose: &Whose) -> Part {
        Part { room: self.clone(), whose: whose.clone(), bytes: AtomicUsize::new(0) }
    }

    fn taken(&self) -> MutexGuard<'_, Shares<Whose>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`Problem`]: there is not so much more room, or not for them.
    fn take(&self, whose: &Whose, bytes: usize) -> Result<(), Problem> {
        let mut taken = self.taken();
        let own = taken.of(whose);
        let what = self.what;
        if bytes > self.most / 2 - own.min(self.most / 2) {
            let whose = match whose {
                Whose::Token(_) => "one token",
                Whose::Peer(_) => "one address",
            };
            return Err(Problem::new(Kind::Busy, format!("{what} take half of the room, which is all for {whose}")));
        }
        if bytes > self.most - taken.all() {
            return Err(Problem::new(Kind::Busy, format!("{what} take all the room there is for them")));
        }
        taken.add(whose, bytes);
        Ok(())
    }

    fn give_back(&self, whose: &Whose, bytes: usize) {
        if bytes > 0 {
            self.taken().take_off(whose, bytes);
        }
    }
}

impl Part {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// [`Problem`] if there is no room for them; it is as long as it was then.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), Problem> {
        self.room.take(&self.whose, bytes)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Has so many bytes, whatever it had.
    ///
    /// # Errors
    /// [`Problem`] if there is no room for what it has too little; it is as long as it was then.
    pub(super) fn fit(&self, bytes: usize) -> Result<(), Problem> {
        let before = self.bytes.load(Ordering::Relaxed);
        if bytes > before {
            return self.grow(bytes - before);
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        self.room.give_back(&self.whose, before - bytes);
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.room.give_back(&self.whose, *self.bytes.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> Whose {
        Whose::Token(id.into())
    }

    #[test]
    fn half_is_for_one_and_all_comes_back() {
        let room = Room::new("bodies", 100);
        let a = room.part(&token("a"));
        a.grow(30).unwrap();
        a.grow(20).unwrap();
        let says = |problem: Result<(), Problem>| problem.unwrap_err().into_words().0;
        assert!(says(a.grow(1)).contains("one token"));
        let again = room.part(&token("a"));
        assert!(says(again.grow(1)).contains("one token"));
        let b = room.part(&token("b"));
        b.grow(50).unwrap();
        let c = room.part(&Whose::Peer(Peer::unknown()));
        assert!(says(c.grow(1)).contains("all the room"));
        drop(a);
        c.grow(50).unwrap();
        assert!(c.fit(51).is_err());
        c.fit(20).unwrap();
        c.fit(50).unwrap();
        drop((again, b, c));
        assert!(room.taken().is_empty());
    }
}
