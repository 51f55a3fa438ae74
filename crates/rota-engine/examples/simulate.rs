//! Simulates the engine: `cargo run --release -p rota-engine --example simulate -- --seed 7`.
//!
//! `--seed N` the first seed (1), `--seeds N` how many (1), `--steps N` how many things happen in each (1,000,000),
//! `--faults memory|none|crashes|all` (all), `--jobs N` the most jobs at a time, about (150), `--check-every N` steps
//! between two recounts of everything (64). A failed test prints the call that shows it again.

use rota_engine::testing::simulator::{Faults, Plan, simulate};
use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok((plan, seeds)) => {
            for seed in plan.seed..plan.seed + seeds {
                let begin = Instant::now();
                let report = simulate(Plan { seed, ..plan });
                println!("seed {seed}: {report:?} in {:.1?}", begin.elapsed());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("simulate: {error}; the options are at the top of examples/simulate.rs");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<(Plan, u64), Box<dyn Error>> {
    let mut plan = Plan { seed: 1, steps: 1_000_000, faults: Faults::All, most_jobs: 150, check_every: 64 };
    let mut seeds = 1;
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--seed" => plan.seed = value.parse()?,
            "--seeds" => seeds = value.parse()?,
            "--steps" => plan.steps = value.parse()?,
            "--jobs" => plan.most_jobs = value.parse()?,
            "--check-every" => plan.check_every = value.parse::<u64>()?.max(1),
            "--faults" => {
                let named = Faults::ALL.into_iter().find(|faults| faults.name() == value);
                plan.faults = named.ok_or_else(|| format!("there are no faults {value}"))?;
            }
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    Ok((plan, seeds))
}
