//! The real binary killed with SIGKILL under load, again and again, while a ledger kept out here knows what it promised.
//!
//! A *store* is a data directory that lives through some dozens of servers. Each serves a few clients for some tens of
//! milliseconds and is killed at a random moment, by its pid; some are killed before they serve, in the middle of their
//! recovery; some are told to stop with SIGTERM instead. Then the next one starts on what is left, and the ledger
//! looks at every job:
//!
//! - each *lane* (`kill/lane.rs`) has its tubes to itself and a model of them, which foretells every answer. After a kill
//!   what is there must be what the model says after all that was answered, and the first so many of the commands that
//!   were not: never less, never others, nothing in between.
//! - the *crowd* (`kill/crowd.rs`) shares a tube between a producer and consumers that wait: whatever was acknowledged, or
//!   was once seen, is there; what was deleted is never seen again.
//! - no job is there that the ledger doesn't know; ids only rise, and after an orderly stop go on without a gap.
//!
//! kill −9 loses nothing in any sync mode (a power cut is another matter, and the engine's simulator's), so all of
//! them are held to the same.
//!
//! How often is set from outside: `ROTA_KILL_CYCLES=3000 cargo test -p rota --test it kill` kills 3,000 servers
//! instead of a few hundred. A failure prints the seed of its store and the command that repeats it; since threads and
//! signals fall as they fall, a repetition sends the same commands, not the same bytes at the same time: give it
//! more cycles.

mod crowd;
mod lane;
mod store;

use std::sync::atomic::{AtomicU64, Ordering};

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
    let first_seed = number("ROTA_KILL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let lives = AtomicU64::new(0);
    let each = cycles.div_ceil(STORES.len() as u64);
    let kills: Vec<Kills> = std::thread::scope(|scope| {
        let stores = STORES.map(|sync| {
            let lives = &lives;
            scope.spawn(move || {
                let mut total = Kills::default();
                while total.all() < each {
                    // The first lives of all three are the ones that a printed seed repeats.
                    let life = match number("ROTA_KILL_SEED") {
                        Some(_) if total.all() == 0 => 0,
                        _ => lives.fetch_add(1, Ordering::Relaxed),
                    };
                    let cycles = (each - total.all()).min(CYCLES_OF_A_STORE);
                    let life = Life { sync, seed: first_seed + life, cycles };
                    total.add(&life.live());
                }
                total
            })
        });
        let ended = stores.map(|store| store.join());
        ended.into_iter().map(|kills| kills.expect("the store failed: see above")).collect()
    });
    for (sync, kills) in STORES.iter().zip(&kills) {
        eprintln!("--sync {sync}: {kills}");
    }
    assert!(kills.iter().map(Kills::all).sum::<u64>() >= cycles, "{kills:?}");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}
