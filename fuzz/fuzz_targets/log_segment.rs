//! Any bytes as a segment of the log: read or refused, never a panic, never more records than the bytes have room for.
#![no_main]

/// A record's header is so long, in bytes.
const RECORD_HEADER_BYTES: usize = 28;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(records) = rota_engine::log::check_segment(bytes) {
        assert!(records as usize <= bytes.len() / RECORD_HEADER_BYTES);
    }
});
