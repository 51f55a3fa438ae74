//! The life of one store: server after server on one data directory, each killed, and the look at what is left.

use std::fmt;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;

use super::Mode;
use super::snapshots::{Found, while_taken};
use crate::ledger::{Ledger, Load, Past};
use crate::process::{self, Rota};

/// How long a server is under load before it is killed, in milliseconds.
const LOAD_MS: std::ops::Range<u64> = 1..120;

/// The same where snapshots are taken meanwhile: long enough for some.
const LOAD_WITH_SNAPSHOTS_MS: std::ops::Range<u64> = 20..250;

/// Every so many servers one is told to stop instead, in the middle of the load or after it.
const STOPS_EVERY: u64 = 6;

/// A store to live through.
pub(super) struct Life {
    pub(super) mode: Mode,
    pub(super) seed: u64,
    /// Servers to kill.
    pub(super) cycles: u64,
    /// Whether snapshots are asked for all the time until a server is killed, and held against the ledger; then none is told to
    /// stop.
    pub(super) takes_snapshots: bool,
    /// How often the load lasts as long as it does otherwise, where snapshots are taken.
    pub(super) patience: u32,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Kills {
    /// Killed under load.
    at_work: u64,
    /// Killed before they served.
    at_start: u64,
    /// Told to stop under load.
    stopped_at_work: u64,
    /// Told to stop when everything was answered.
    stopped_at_rest: u64,
    /// Killed just after they were told to stop; they count as killed at work too.
    impatient: u64,
    /// Segments of the log begun behind the first.
    segments: u64,
    /// Segments whose open jobs were written again.
    reclaimed: u64,
    /// Starts that cut off a torn tail.
    torn: u64,
    /// Commands answered.
    answers: u64,
    /// Jobs looked at after a restart.
    looked_at: u64,
    snapshots: Found,
}

impl Kills {
    pub(super) fn all(&self) -> u64 {
        self.at_work + self.at_start
    }

    pub(super) fn has_reclaimed(&self) -> bool {
        self.reclaimed > 0
    }

    pub(super) fn snapshots(&self) -> Found {
        self.snapshots
    }

    pub(super) fn add(&mut self, more: &Kills) {
        self.at_work += more.at_work;
        self.at_start += more.at_start;
        self.stopped_at_work += more.stopped_at_work;
        self.stopped_at_rest += more.stopped_at_rest;
        self.impatient += more.impatient;
        self.segments += more.segments;
        self.reclaimed += more.reclaimed;
        self.torn += more.torn;
        self.answers += more.answers;
        self.looked_at += more.looked_at;
        self.snapshots.add(&more.snapshots);
    }
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kills { at_work, at_start, stopped_at_work, stopped_at_rest, .. } = self;
        let Kills { impatient, segments, reclaimed, torn, answers, looked_at, .. } = self;
        write!(
            f,
            "{at_work} killed at work ({impatient} while they stopped), {at_start} while they started; \
             {stopped_at_work} stopped at work, {stopped_at_rest} at rest; {segments} more segments, {reclaimed} reclaimed, {torn} torn \
             tails; \
             {answers} commands of the lanes answered, {looked_at} jobs looked at"
        )
    }
}

/// Tells how to repeat what failed.
struct Repeat<'a>(&'a Life);

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Life { mode, seed, .. } = self.0;
            eprintln!(
                "a store with {mode} failed; to repeat it: ROTA_KILL_SEED={seed} ROTA_KILL_CYCLES=3000 \
                 cargo test -p rota --test it kill"
            );
        }
    }
}

struct Store<'a> {
    life: &'a Life,
    rng: Rng,
    data: TempDir,
    ledger: Ledger,
    kills: Kills,
}

impl Life {
    pub(super) fn live(&self) -> Kills {
        let _repeat = Repeat(self);
        // Each mode goes its own way from one seed.
        let own = self.mode.flags.iter().flat_map(|word| word.bytes());
        let own = own.fold(self.seed, |own, byte| own.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut rng = Rng::with_seed(own);
        let ledger = Ledger::new(rng.u64(..));
        let data = TempDir::new().expect("a temporary folder");
        let mut store = Store { life: self, rng, data, ledger, kills: Kills::default() };
        let mut past = Past::Killed;
        let mut server = 0;
        while store.kills.all() < self.cycles {
            server += 1;
            // One that was killed had taken its share of ids, used or not.
            past = if store.kill_some_that_start() { Past::Killed } else { past };
            let rota = Rota::ready(store.command());
            store.kills.torn += u64::from(rota.stderr().contains("never acknowledged"));
            let seen = store.ledger.look(rota.address(), past);
            store.kills.looked_at += seen.jobs;
            (store.kills.segments, store.kills.reclaimed) = (seen.newest_segment - 1, seen.oldest_segment - 1);
            let stops = server % STOPS_EVERY == 0 && !self.takes_snapshots;
            past = if stops { Past::Stopped } else { Past::Killed };
            store.load(rota, past);
        }
        store.kills.answers = store.ledger.answers();
        store.kills
    }
}

impl Store<'_> {
    fn command(&self) -> std::process::Command {
        let mut command = process::on(self.data.path(), self.life.mode.flags);
        if self.life.takes_snapshots {
            command.args(["--http", "127.0.0.1:0"]);
        }
        command
    }

    /// Kills servers that have not come up yet; false if this time it is none.
    fn kill_some_that_start(&mut self) -> bool {
        // Those that start take no snapshots.
        if self.life.takes_snapshots || self.rng.u8(..3) > 0 {
            return false;
        }
        for _ in 0..self.rng.u8(1..4) {
            let mut rota = Rota::spawn(self.command());
            thread::sleep(Duration::from_micros(self.rng.u64(..20_000)));
            let in_time = !rota.is_ready();
            rota.kill();
            // One that was killed when it had just come up counts too, but not as one of these.
            let counter = if in_time { &mut self.kills.at_start } else { &mut self.kills.at_work };
            *counter += 1;
        }
        true
    }

    /// Lets everybody work, and ends the server.
    fn load(&mut self, mut rota: Rota, end: Past) {
        let range = if self.life.takes_snapshots { LOAD_WITH_SNAPSHOTS_MS } else { LOAD_MS };
        let span = Duration::from_millis(self.rng.u64(range)) * self.life.patience;
        let at_rest = end == Past::Stopped && self.rng.bool();
        // A server that stops closes what is idle at once: what one connection held, another could then have.
        let impatient = end == Past::Killed && self.rng.u8(..8) == 0;
        let patience = Duration::from_micros(self.rng.u64(..4_000));
        let single = end == Past::Stopped && !at_rest || impatient;
        let ends = |rota: &mut Rota| match end {
            Past::Stopped => {
                let status = rota.terminate();
                assert_eq!(status.code(), Some(0), "{}", rota.stderr());
                // That a kill cut a write in the middle is said at the start behind it.
                let said = rota.stderr();
                let said: Vec<&str> = said.lines().filter(|line| !line.contains("never acknowledged")).collect();
                assert!(said.is_empty(), "nothing is to be said of an orderly stop: {said:?}");
            }
            Past::Killed | Past::Cut(_) => {
                if impatient {
                    rota.signal("TERM");
                    thread::sleep(patience);
                }
                rota.kill();
            }
        };
        let load = Load { span, single, at_rest };
        if self.life.takes_snapshots {
            let place = self.data.path().join("snapshots");
            let Store { ledger, rng, kills, .. } = self;
            let work = |rota: &mut Rota, ledger: &mut Ledger| ledger.work(rota, load, ends);
            kills.snapshots.add(&while_taken(&mut rota, &place, ledger, rng, work));
        } else {
            self.ledger.work(&mut rota, load, ends);
        }
        let counter = match (end, at_rest) {
            (Past::Stopped, false) => &mut self.kills.stopped_at_work,
            (Past::Stopped, true) => &mut self.kills.stopped_at_rest,
            _ => &mut self.kills.at_work,
        };
        *counter += 1;
        self.kills.impatient += u64::from(impatient);
    }
}
