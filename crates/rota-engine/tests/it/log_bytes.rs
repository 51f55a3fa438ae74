//! Bytes of anybody's given to the log's reader: it must not panic, and must not take memory beyond their length.
//! The same targets run with coverage in `fuzz/`.

use proptest::prelude::*;
use rota_engine::log::{check_record, check_segment};
use rota_engine::testing::simulator::segment_of;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes_are_read_as_a_record(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = check_record(&bytes);
    }

    #[test]
    fn a_segment_with_changed_bytes_is_read_or_refused(
        seed in 0u64..50,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = segment_of(seed);
        let records = check_segment(&bytes).unwrap();
        prop_assert!(records > 1);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        if let Ok(read) = check_segment(&bytes) {
            prop_assert!(read <= records, "more records than were written");
        }
    }
}
