//! Where engine time comes from. The engine is told it; this turns a machine's clocks into it.

use crate::job::Time;

/// The clocks of a machine.
pub trait Clock {
    /// Nanoseconds since the machine started, its sleep included. Never goes back, is never set.
    fn since_boot(&self) -> u64;

    /// Nanoseconds since 1970 by the wall clock, which may be set.
    fn wall(&self) -> Time;
}

/// Engine time on a machine: it leaves from one point and goes on by the time since boot.
#[derive(Debug)]
pub struct EngineTime<C> {
    clock: C,
    start: Time,
    boot_at_start: u64,
}

impl<C: Clock> EngineTime<C> {
    /// Time that was `start` when [`Clock::since_boot`] showed `boot_at_start`.
    pub fn starting_at(start: Time, boot_at_start: u64, clock: C) -> EngineTime<C> {
        EngineTime { clock, start, boot_at_start }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time(self.start.0 + (self.clock.since_boot() - self.boot_at_start))
    }

    /// The clocks behind it.
    pub fn clock(&self) -> &C {
        &self.clock
    }
}

/// The clocks of the machine that this runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn since_boot(&self) -> u64 {
        nanos(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
    }

    fn wall(&self) -> Time {
        Time(nanos(rustix::time::clock_gettime(rustix::time::ClockId::Realtime)))
    }
}

fn nanos(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
