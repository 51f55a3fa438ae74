//! The HTTP API against the engine's plain model: a server in this process is asked at random, and every answer must be what the
//! model says, and now and then so must everything that there is.
//!
//! In its own crate the engine is held against the model in all that time brings about. Here it is what lies between engine and
//! client: what is read of a request, which commands that makes, what is shown of what came of them. One request follows the other, and nothing waits for
//! time to pass: every span is none, or far longer than a run, and moments are compared by what they depend on (`moments.rs`).
//!
//! `ROTA_MODEL_SEEDS=1000 cargo test -p rota-net --test it model` takes more seeds; a failure prints its own, and what was asked
//! last.

mod chance;
mod ends;
mod filters;
mod looks;
mod moments;
mod pair;
mod queues;
mod shown;
mod steps;
mod wire;

use pair::Pair;

/// Seeds, unless told.
const SEEDS: u64 = 10;

/// Requests that change something, or look at something, for each seed.
const STEPS: usize = 400;

/// All that there is is compared every so many.
const COMPARED_EVERY: usize = 40;

#[test]
fn whatever_is_asked_over_http_is_answered_as_the_model_says() {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("ROTA_MODEL_SEED").unwrap_or(1);
    let (seeds, mut asked) = (number("ROTA_MODEL_SEEDS").unwrap_or(SEEDS), pair::Asked::default());
    for seed in first..first + seeds {
        let mut pair = Pair::new(seed);
        for step in 1..=STEPS {
            pair.step();
            if step % COMPARED_EVERY == 0 {
                pair.compare_all();
            }
        }
        asked.add(pair.asked());
    }
    // Where hardly anything is found, held or refused, nothing is proved.
    if seeds >= SEEDS {
        asked.check();
    }
}
