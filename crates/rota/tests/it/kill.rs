//! The real binary killed with SIGKILL under load, again and again; a ledger kept out here knows what it promised.
//!
//! A *store* is a data directory that lives through some dozens of servers. Each serves a few clients for some tens of
//! milliseconds and is killed at a random moment, by its pid; some are killed before they serve, in the middle of their
//! recovery; some are told to stop with SIGTERM instead. Then the next one starts on what is left, and the ledger looks
//! at every job:
//!
//! - each *lane* (`kill/lane.rs`) has its tubes to itself and a model of them, which foretells every answer. After a
//!   kill, what is there must be what the model says after all that was answered, and the first so many of the commands
//!   that were not: never less, never others, nothing in between.
//! - the *crowd* (`kill/crowd.rs`) shares a tube between a producer and consumers that wait: whatever was acknowledged,
//!   or was once seen, is there; what was deleted is never seen again.
//! - no job is there that the ledger doesn't know; ids only rise, and after an orderly stop go on without a gap.
//!
//! kill −9 loses nothing in any sync mode (a power cut is another matter, and the engine's simulator's), so all of them
//! are held to the same.
//!
//! How often is set from outside: `ROTA_KILL_CYCLES=3000 cargo test -p rota --test it kill` kills 3,000 servers instead
//! of a few hundred. A failure prints the seed of its store and the command that repeats it. Threads and signals fall
//! as they fall, so that a repetition sends the same kinds of commands and not the same bytes at the same time: the
//! command it prints asks for many cycles.

mod crowd;
mod lane;
mod store;

use std::thread;

use store::{Kills, Life};

/// Servers killed where nothing else is said.
const CYCLES: u64 = 360;

/// Stores that live at the same time, for each sync mode.
const STORES: [&str; 3] = ["always", "50ms", "never"];

/// Servers that one store lives through, at the most: recovery reads the whole log, which only grows.
const CYCLES_OF_A_STORE: u64 = 24;

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let cycles = number("ROTA_KILL_CYCLES").unwrap_or(CYCLES);
    let seed = number("ROTA_KILL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let each = cycles.div_ceil(STORES.len() as u64);
    let kills: Vec<Kills> = thread::scope(|scope| {
        let stores = STORES.map(|sync| scope.spawn(move || live(sync, seed, each)));
        stores.into_iter().map(|store| store.join().expect("a store failed: see above")).collect()
    });
    for (sync, kills) in STORES.iter().zip(&kills) {
        eprintln!("--sync {sync}: {kills}");
    }
    assert!(kills.iter().map(Kills::all).sum::<u64>() >= cycles, "{kills:?}");
}

/// One store after the other, until so many servers were killed.
fn live(sync: &'static str, seed: u64, kills: u64) -> Kills {
    let mut total = Kills::default();
    let mut lives = 0;
    while total.all() < kills {
        let cycles = (kills - total.all()).min(CYCLES_OF_A_STORE);
        total.add(&Life { sync, seed: seed + lives, cycles }.live());
        lives += 1;
    }
    total
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}
