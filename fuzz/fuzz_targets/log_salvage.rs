//! A log that a server wrote, with bytes of it changed or its end cut off: it is judged as a start judges it, and what is
//! saved of it is a log that a server starts on.
#![no_main]

use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_engine::log::inspect::{self, Look, Verdict};
use rota_engine::log::{Take, salvage};
use rota_engine::storage::StoreId;
use rota_engine::testing::simulator::segment_of;
use rota_engine::testing::storage::SimulatedDisk;
use std::sync::LazyLock;

/// What servers wrote, made once.
static SEGMENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..16).map(segment_of).collect());

const STORE: [u8; 16] = *b"a simulated disk";

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.set_segment_bytes(Some(4096));
    disk
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [seed, cut, edits @ ..] = bytes else { return };
    let mut segment = SEGMENTS[usize::from(seed % 16)].clone();
    for edit in edits.chunks_exact(4) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % segment.len();
        segment[place] = if edit[2] & 1 == 0 { edit[3] } else { segment[place] ^ (1 << (edit[3] % 8)) };
    }
    segment.truncate(segment.len() * usize::from(255 - cut) / 255);
    let source = disk();
    source.set_store(Some(StoreId(STORE)));
    source.set_bytes(1, Some(segment.clone()));
    let verdict = inspect::check(&source, Look::default()).expect("this disk is well").verdict();
    let saved = disk();
    if let Ok(account) = salvage(&source, saved.clone(), *b"what was saved..", Take::default()) {
        let (engine, ..) = Engine::recover(Options::default(), saved, STORE, Time(0)).expect("it was just written");
        engine.check();
        assert_eq!(engine.totals().open(), account.jobs);
    }
    assert_eq!(source.bytes(1), Some(segment), "the source is only read");
    let starts = Engine::recover(Options::default(), source, STORE, Time(0)).is_ok();
    assert!(!starts || matches!(verdict, Verdict::Whole | Verdict::Torn | Verdict::Empty));
});
