//! The real binary killed with SIGKILL under load, again and again; a ledger kept out here knows what it promised.
//!
//! A *store* is a data directory that lives through some dozens of servers. Each serves a few clients for some tens of
//! milliseconds and is killed at a random moment, by its pid; some are killed before they serve, in the middle of their
//! recovery; some are told to stop with SIGTERM instead, and some of those killed while they do. Then the next one starts
//! on what is left, and the ledger (`ledger.rs`) looks at every job.
//!
//! kill −9 loses nothing in any mode (a power cut is another matter: `power.rs`), so all of them are held to the same.
//!
//! How often is set from outside: `ROTA_KILL_CYCLES=3000 cargo test -p rota --test it kill` kills 3,000 servers instead
//! of a few hundred. A failure prints the seed of its store and the command that repeats it. Threads and signals fall
//! as they fall, so that a repetition sends the same kinds of commands and not the same bytes at the same time: the
//! command it prints asks for many cycles.

mod snapshots;
mod store;

use std::fmt;
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use crate::process::{self, Aim, Rota, number};
use crate::wire::{Wire, put_bytes};
use snapshots::Found;
use store::{Kills, Life};

/// Servers killed where nothing else is said.
const CYCLES: u64 = 360;

/// Servers that one store lives through, at the most: the ledger looks at every job at each start.
const CYCLES_OF_A_STORE: u64 = 24;

/// Stores that live in a mode, at the most, until it was seen what snapshots are to show.
const MOST_LIVES: u64 = 60;

/// How a server keeps what it promises.
#[derive(Clone, Copy)]
struct Mode {
    flags: &'static [&'static str],
}

/// Every one there is, and each with segments so short that many are begun and reclaimed; one store of each lives at any
/// time.
const MODES: [Mode; 12] = [
    Mode { flags: &["--sync", "always"] },
    Mode { flags: &["--sync", "50ms"] },
    Mode { flags: &["--sync", "never"] },
    Mode { flags: &["--sync", "always", "--segment-size", "64KiB"] },
    Mode { flags: &["--sync", "50ms", "--segment-size", "64KiB", "--history", "0"] },
    Mode { flags: &["--sync", "never", "--segment-size", "64KiB", "--history", "0"] },
    Mode { flags: &["--storage", "lazy", "--sync", "always"] },
    Mode { flags: &["--storage", "lazy", "--sync", "50ms", "--segment-size", "64KiB"] },
    Mode { flags: &["--storage", "lazy", "--sync", "never", "--segment-size", "64KiB", "--history", "0"] },
    Mode { flags: &["--storage", "mapped", "--near", "1s", "--sync", "always", "--segment-size", "64KiB"] },
    Mode { flags: &["--storage", "mapped", "--near", "1s", "--sync", "50ms", "--segment-size", "64KiB"] },
    Mode {
        flags: &["--storage", "mapped", "--near", "1s", "--sync", "never", "--segment-size", "64KiB", "--history", "0"],
    },
];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.flags.join(" "))
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let cycles = number("ROTA_KILL_CYCLES").unwrap_or(CYCLES);
    let seed = number("ROTA_KILL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let each = cycles.div_ceil(MODES.len() as u64);
    let kills: Vec<Kills> = thread::scope(|scope| {
        let stores = MODES.map(|mode| scope.spawn(move || live(mode, seed, each, false)));
        stores.into_iter().map(|store| store.join().expect("a store failed: see above")).collect()
    });
    for (mode, kills) in MODES.iter().zip(&kills) {
        eprintln!("{mode}: {kills}");
    }
    let mut all = Kills::default();
    kills.iter().for_each(|kills| all.add(kills));
    assert!(all.all() >= cycles, "{kills:?}");
    assert!(all.has_reclaimed(), "no segment was reclaimed: {kills:?}");
}

/// Modes in which snapshots are taken while servers are killed: bodies in memory and in the log alone, jobs that are not in
/// memory, and segments that are reclaimed meanwhile.
const SNAPSHOT_MODES: [Mode; 4] = [
    Mode { flags: &["--sync", "always"] },
    Mode { flags: &["--sync", "50ms", "--segment-size", "64KiB", "--history", "0"] },
    Mode { flags: &["--storage", "lazy", "--sync", "never", "--segment-size", "64KiB", "--history", "0"] },
    Mode { flags: &["--storage", "mapped", "--near", "1s", "--sync", "50ms", "--segment-size", "64KiB"] },
];

#[test]
fn kill_9_while_snapshots_are_taken_loses_nothing_and_leaves_no_half_one() {
    let cycles = number("ROTA_KILL_CYCLES").unwrap_or(CYCLES) / 6;
    let seed = number("ROTA_KILL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let each = cycles.div_ceil(SNAPSHOT_MODES.len() as u64);
    let kills: Vec<Kills> = thread::scope(|scope| {
        let stores = SNAPSHOT_MODES.map(|mode| scope.spawn(move || live(mode, seed, each, true)));
        stores.into_iter().map(|store| store.join().expect("a store failed: see above")).collect()
    });
    for (mode, kills) in SNAPSHOT_MODES.iter().zip(&kills) {
        eprintln!("{mode}: {kills}; {}", kills.snapshots());
        let found = kills.snapshots();
        assert!(found.whole > 0 && found.unfinished > 0 && found.jobs > 0, "{mode}: nothing was proved: {found}");
    }
}

#[test]
fn a_recovery_that_is_killed_again_and_again_loses_nothing() {
    let kills = number("ROTA_KILL_CYCLES").unwrap_or(CYCLES) / 12;
    for mode in MODES {
        let data = TempDir::new().unwrap();
        let command = || process::on(data.path(), mode.flags);
        let mut rota = Rota::ready(command());
        let mut wire = Wire::to(rota.address());
        let jobs = 40_000;
        for _ in 0..jobs / 1_000 {
            wire.send(put_bytes("put 0 0 60", b"a job to recover").repeat(1_000)).unwrap();
            (0..1_000).for_each(|_| assert!(wire.answer().unwrap().line.starts_with("INSERTED ")));
        }
        // The last of it is torn, so that each recovery has something to mend too.
        wire.send(put_bytes("put 0 0 60", b"torn").repeat(500)).unwrap();
        rota.kill();
        let start = Instant::now();
        let rota = Rota::ready(command());
        let takes = start.elapsed();
        let there = Wire::to(rota.address()).ask("stats").count("current-jobs-ready");
        assert!((jobs..=jobs + 500).contains(&there), "{there} jobs");
        drop(rota);
        let (mut killed, mut tried, mut aim) = (0, 0, Aim::at(takes));
        while tried < kills || (killed == 0 && tried < kills + 400) {
            tried += 1;
            let mut rota = Rota::spawn(command());
            aim.wait();
            if rota.is_ready() {
                aim.came_late();
            } else {
                killed += 1;
            }
            rota.kill();
        }
        let rota = Rota::ready(command());
        assert_eq!(Wire::to(rota.address()).ask("stats").count("current-jobs-ready"), there, "{mode}");
        eprintln!("{mode}: {killed} killed while they recovered {there} jobs, in {takes:.0?}");
        assert!(killed > 0, "{kills} kills came too late");
    }
}

/// One store after the other, until so many servers were killed; while snapshots are taken, if asked to: then some more, with more time
/// for each, until there was a whole snapshot and an unfinished one, if this machine is slow.
fn live(mode: Mode, seed: u64, kills: u64, takes_snapshots: bool) -> Kills {
    let mut total = Kills::default();
    let mut lives = 0;
    let is_proved = |found: Found| found.whole > 0 && found.unfinished > 0 && found.jobs > 0;
    while total.all() < kills || (takes_snapshots && lives < MOST_LIVES && !is_proved(total.snapshots())) {
        let cycles = kills.saturating_sub(total.all()).clamp(4, CYCLES_OF_A_STORE);
        // Each time as long again as all those before, until a snapshot was whole.
        let waits = takes_snapshots && total.snapshots().whole == 0;
        let patience = if waits { 1 << lives.min(8) } else { 1 };
        total.add(&Life { mode, seed: seed + lives, cycles, takes_snapshots, patience }.live());
        lives += 1;
    }
    total
}
