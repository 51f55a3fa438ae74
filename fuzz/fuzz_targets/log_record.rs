//! Any bytes as one record's type, version, flags and payload: read or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = rota_engine::log::check_record(bytes);
});
