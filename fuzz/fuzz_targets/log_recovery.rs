//! A log that a server wrote, with bytes of it changed or its end cut off: the start is refused, or it comes to a state
//! whose indexes agree and that a second start finds again.
#![no_main]

use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_engine::storage::StoreId;
use rota_engine::testing::simulator::segment_of;
use rota_engine::testing::storage::SimulatedDisk;
use std::sync::LazyLock;

/// What servers wrote, made once.
static SEGMENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..16).map(segment_of).collect());

const STORE: [u8; 16] = *b"a simulated disk";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [seed, cut, edits @ ..] = bytes else { return };
    let mut segment = SEGMENTS[usize::from(seed % 16)].clone();
    for edit in edits.chunks_exact(4) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % segment.len();
        segment[place] = if edit[2] & 1 == 0 { edit[3] } else { segment[place] ^ (1 << (edit[3] % 8)) };
    }
    segment.truncate(segment.len() * usize::from(255 - cut) / 255);
    let disk = SimulatedDisk::new();
    disk.set_segment_bytes(Some(4096));
    disk.set_store(Some(StoreId(STORE)));
    disk.set_bytes(1, Some(segment));
    let recover = || Engine::recover(Options::default(), disk.clone(), STORE, Time(0));
    if let Ok((engine, ..)) = recover() {
        engine.check();
        let (again, ..) = recover().expect("what was read once is read again");
        assert_eq!(again.durable_text(engine.now()), engine.durable_text(engine.now()));
    }
});
