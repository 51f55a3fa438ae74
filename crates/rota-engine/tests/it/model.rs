//! The engine against the plain model, by random steps that shrink: a failure here comes down to the few steps that
//! bring it about.

use proptest::prelude::*;
use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_engine::testing::lockstep::Lockstep;
use rota_engine::testing::model::Model;
use rota_engine::testing::random::Random;
use rota_engine::testing::workload::Workload;
use std::time::Duration;

/// Each step is thrown with a seed of its own, so that the others stay what they are when one is left out.
fn check(world: u64, spoke: Duration, steps: &[u64]) {
    let mut workload = Workload::new(&mut Random::new(world), 150);
    let start = Time(1_700_000_000_000_000_000);
    let engine = Engine::in_memory(Options { spoke, ..Options::default() }, start, start);
    let mut both = Lockstep::new(engine, Model::new(start, start));
    let mut happened = Happened(Vec::new());
    for &seed in steps {
        let random = &mut Random::new(seed);
        let at = both.model.now().after(workload.lapse(random, &both.model));
        let input = workload.input(random, &both.model);
        happened.0.push(format!("{} ns: {input:?}", at.since(start).as_nanos()));
        both.feed(&input, at);
        both.check();
    }
}

/// Prints what happened when a check fails.
struct Happened(Vec<String>);

impl Drop for Happened {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}\n", self.0.join("\n"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(
        world in 0u64..1_000,
        spoke_ns in prop_oneof![Just(1), Just(1_000_000), Just(10_000_000_000), Just(u64::MAX)],
        steps in prop::collection::vec(any::<u64>().no_shrink(), 1..300),
    ) {
        check(world, Duration::from_nanos(spoke_ns), &steps);
    }
}
