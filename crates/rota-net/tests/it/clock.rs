//! The wall clock that a host looks at, and the engine is told of.

use crate::server::DEADLINE;
use crate::session::facts;
use rota_engine::clock::{Clock, SystemClock};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_net::host::Host;
use std::time::Instant;

const HOUR: u64 = 3_600_000_000_000;

#[test]
fn a_clock_that_was_set_while_the_engine_started_is_noticed() {
    let (wall, told_at) = (SystemClock.wall(), SystemClock.since_boot());
    let engine = Engine::in_memory(Options::default(), wall, Time(wall.0 - HOUR));
    let host = Host::start(engine, None, facts(), None, told_at).unwrap();
    let began = Instant::now();
    loop {
        let (shown, _) = host.with(|shared, now| shared.engine.wall_time(now));
        if shown.0.abs_diff(SystemClock.wall().0) < HOUR / 2 {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "the engine is an hour behind still");
        std::thread::yield_now();
    }
}
