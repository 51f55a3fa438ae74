//! The readers on bytes of anybody's: they answer, and never panic.

use super::{STORE, Scribe, disk_with_segments_of, every_event, open, put};
use crate::event::Event;
use crate::log::{check_record, check_segment};
use crate::storage::StoreId;
use proptest::prelude::*;

/// A real segment, to be spoilt.
fn segment() -> Vec<u8> {
    let disk = disk_with_segments_of(8_192);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(every_event());
    scribe.commit(vec![Event::JobPut(put(9, b"one more"))]);
    let mut bytes = disk.bytes(1).unwrap();
    bytes.truncate(2_048);
    bytes
}

/// Random changes: where, and to what.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
}

proptest! {
    #[test]
    fn random_bytes_as_a_record(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = check_record(&bytes);
    }

    #[test]
    fn random_payloads_of_known_types(
        kind in 1_u8..=15,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [&[kind, 1, 0], payload.as_slice()].concat();
        if let Ok(event) = check_record(&bytes) {
            prop_assert!(event.is_some_and(|event| event.is_durable()));
        }
    }

    #[test]
    fn random_bytes_as_a_segment(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(check_segment(&bytes).is_err());
        let disk = disk_with_segments_of(4_096);
        disk.set_store(Some(StoreId(STORE)));
        disk.set_bytes(1, Some(bytes));
        prop_assert!(open(disk, STORE, &mut |_| Ok(())).is_err());
    }

    #[test]
    fn a_changed_segment_gives_no_more_than_it_had(changes in changes()) {
        let mut bytes = segment();
        let whole = check_segment(&bytes).unwrap();
        let length = bytes.len();
        changes.iter().for_each(|(at, byte)| bytes[at.index(length)] = *byte);
        let _ = check_segment(&bytes).map(|records| assert!(records <= whole));
    }

    #[test]
    fn a_changed_payload_behind_a_right_checksum(changes in changes(), cut in any::<prop::sample::Index>()) {
        let bytes = segment();
        // Behind the headers of segment and group stands the first record; its payload begins at 140.
        let mut payload = bytes[112 + 28..].to_vec();
        payload.truncate(cut.index(payload.len()) + 1);
        let length = payload.len();
        changes.iter().for_each(|(at, byte)| payload[at.index(length)] = *byte);
        for kind in 0..=255 {
            let _ = check_record(&[&[kind, 1, 0], payload.as_slice()].concat());
        }
    }
}

#[test]
fn lengths_beyond_all_memory_are_refused() {
    let put = [[4, 1, 0].as_slice(), &[0; 40], &u32::MAX.to_le_bytes(), b"\x01q", &[0; 9]].concat();
    assert!(check_record(&put).is_err());
    let mut bytes = segment();
    bytes[64 + 8..64 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(check_segment(&bytes).is_err());
    bytes.truncate(70);
    assert!(check_segment(&bytes).is_err());
}
