//! Millions of simulated steps, with and without faults. A failure prints the command that shows it again; larger runs:
//! `cargo run --release -p rota-engine --example simulate -- --seed 1 --seeds 1000`.

use rota_engine::testing::simulator::{Faults, Plan, Report, simulate};

/// Simulates every seed of a range, and adds up what happened.
fn check(seeds: std::ops::Range<u64>, steps: u64, faults: Faults, most_jobs: usize) -> Report {
    let mut sum = Report::default();
    for seed in seeds {
        let report = simulate(Plan { seed, steps, faults, most_jobs, check_every: 64 });
        sum = Report {
            trace: 0,
            crashes: sum.crashes + report.crashes,
            broken_starts: sum.broken_starts + report.broken_starts,
            torn: sum.torn + report.torn,
            stops: sum.stops + report.stops,
            told: sum.told + report.told,
            refused: sum.refused + report.refused,
            puts: sum.puts + report.puts,
            ended: sum.ended + report.ended,
            most_jobs: sum.most_jobs.max(report.most_jobs),
            compactions: sum.compactions + report.compactions,
            snapshots: sum.snapshots + report.snapshots,
            no_room: sum.no_room + report.no_room,
            bodies_read: sum.bodies_read + report.bodies_read,
            left: sum.left + report.left,
            ended_far: sum.ended_far + report.ended_far,
            fired: sum.fired + report.fired,
            looked_up: sum.looked_up + report.looked_up,
            resumed: sum.resumed + report.resumed,
            set_while_far: sum.set_while_far + report.set_while_far,
        };
    }
    // A simulation in which nothing happens would find nothing.
    assert!(sum.told > 0 && sum.refused > 0 && sum.puts > 0, "{sum:?}");
    assert_eq!(sum.puts, sum.ended, "every job that is not lost comes to an end");
    sum
}

#[test]
fn a_million_steps_in_memory() {
    check(1..51, 20_000, Faults::Memory, 150);
}

#[test]
fn many_jobs_are_handled_in_slices() {
    let report = check(100..102, 20_000, Faults::Memory, 2_000);
    assert!(report.most_jobs > 1_000, "more jobs than one step handles: {report:?}");
}

#[test]
fn four_hundred_thousand_steps_with_a_log() {
    let report = check(1..41, 10_000, Faults::None, 150);
    assert!(report.stops > 20 && report.crashes == 0, "{report:?}");
    assert!(report.bodies_read > 1_000, "{report:?}");
    assert!(report.left > 50 && report.ended_far > 10 && report.fired > 500, "{report:?}");
    assert!(report.set_while_far > 5, "{report:?}");
}

#[test]
fn ticks_wait_until_it_is_known_who_has_their_keys() {
    let report = check(104..120, 10_000, Faults::None, 150);
    assert!(report.looked_up > 5, "{report:?}");
}

#[test]
fn four_hundred_thousand_steps_with_crashes() {
    let report = check(1..41, 10_000, Faults::Crashes, 150);
    assert!(report.crashes > 1_000 && report.broken_starts > 200 && report.torn > 20, "{report:?}");
    assert!(report.bodies_read > 1_000, "{report:?}");
    assert!(report.left > 100 && report.ended_far > 5 && report.fired > 500, "{report:?}");
    assert!(report.resumed > 100, "{report:?}");
    assert!(report.set_while_far > 5, "{report:?}");
}

#[test]
fn four_hundred_thousand_steps_with_every_fault() {
    let report = check(1001..1041, 10_000, Faults::All, 150);
    assert!(report.crashes > 1_000 && report.broken_starts > 200 && report.torn > 20, "{report:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for faults in Faults::ALL {
        let plan = Plan { seed: 77, steps: 5_000, faults, most_jobs: 150, check_every: 64 };
        let report = simulate(plan);
        assert_eq!(report, simulate(plan));
        let other = simulate(Plan { seed: 78, ..plan });
        assert_ne!(report.trace, other.trace);
        let often = simulate(Plan { check_every: 1, steps: 2_000, ..plan });
        assert!(often.told > 0);
    }
}
