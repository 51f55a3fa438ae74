//! When a job has to be in memory, in both times: by engine time, and by what the wall clock shows.

use crate::event::PutJob;
use crate::job::Time;
use crate::terms::Expiry;

/// A moment of engine time and one of the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moments {
    /// By engine time.
    pub engine: Time,
    /// By what the wall clock shows.
    pub wall: Time,
}

/// How far ahead jobs are to be brought near: what [`crate::engine::Engine::aim_near`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NearGoal {
    /// All that have to be in memory by one of these.
    pub until: Moments,
    /// Up to here all are in memory that go by the wall clock.
    pub(crate) known_by_wall: Time,
    /// How often the wall clock was set.
    pub(crate) clock_sets: u64,
}

impl Moments {
    /// Before all others.
    pub(crate) const FIRST: Moments = Moments { engine: Time(0), wall: Time(0) };

    /// When a job is needed in memory that waits: it is due, or it expires.
    pub(crate) fn of(put: &PutJob) -> Moments {
        let mut needed = match put.at_wall {
            None => Moments { engine: put.run_at, wall: Time::NEVER },
            Some(at) => Moments { engine: Time::NEVER, wall: at },
        };
        match put.terms.as_ref().and_then(|terms| terms.expires_at) {
            None => {}
            Some(Expiry::Engine(at)) => needed.engine = needed.engine.min(at),
            Some(Expiry::Wall(at)) => needed.wall = needed.wall.min(at),
        }
        needed
    }

    /// Whether each of them is later than the other's. What goes by one time alone has no moment of the other.
    pub(crate) fn is_after(self, other: Moments) -> bool {
        self.engine > other.engine && self.wall > other.wall
    }

    /// The later of each.
    pub(crate) fn max(self, other: Moments) -> Moments {
        Moments { engine: self.engine.max(other.engine), wall: self.wall.max(other.wall) }
    }
}

/// Whether a job waits for a span of time alone, as all far jobs did once.
pub(crate) fn is_plain(put: &PutJob) -> bool {
    put.at_wall.is_none() && put.terms.as_ref().is_none_or(|terms| terms.expires_at.is_none())
}
