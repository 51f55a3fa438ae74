//! Snapshots: all open jobs, queues and numbers of a server at one moment, at an address, to start from again.
//!
//! ```text
//!   engine ──slices and changes──► write ──segments──► place: NAME/…seg, then NAME/manifest.json
//!   data directory ◄── restore ◄── read ◄── place          contents ──► rota inspect
//! ```
//!
//! A snapshot is a log of its own, in the format of `docs/disk-format.md`, with a manifest: `docs/snapshots.md` is the
//! page. `serve` takes and restores them, the commands `snapshot` and `inspect` ask for one and look into it. Nothing
//! here may hold up the server: all of it runs on threads of its own.

pub(crate) mod address;
pub(crate) mod contents;
pub(crate) mod error;
pub(crate) mod manifest;
pub(crate) mod place;
pub(crate) mod read;
pub(crate) mod restore;
pub(crate) mod taker;
pub(crate) mod write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What the name of a snapshot ends with in a folder while it is written.
pub(crate) const UNFINISHED: &str = ".new";

/// A segment of a snapshot is closed, and the next one begun, once it is this long, in bytes.
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;

/// What is done between two offers of the processor to others, in bytes.
const TURN_BYTES: usize = 64 << 10;

/// A name for a snapshot begun at `moment`: names sort by time.
pub(crate) fn name_of(moment: Timestamp, random: u32) -> String {
    let utc = moment.to_zoned(TimeZone::UTC);
    format!("{}.{:03}Z-{random:08x}", utc.strftime("%Y%m%dT%H%M%S"), utc.millisecond())
}

/// Whether a text could be the name of a snapshot.
pub(crate) fn is_name(text: &str) -> bool {
    const FORM: &[u8] = b"00000000T000000.000Z-xxxxxxxx";
    text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            _ => byte == *form,
        })
}

/// Bytes in pieces, the processor offered to others before each: some kernels take it from a thread that computes at their
/// clock's ticks alone, some milliseconds apart, and whoever is to answer would wait as long.
fn in_turns(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(TURN_BYTES).inspect(|_| std::thread::yield_now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time() {
        let name = |text: &str, random| name_of(text.parse().unwrap(), random);
        assert_eq!(name("2026-11-25T01:30:00.123456Z", 0xbad), "20261125T013000.123Z-00000bad");
        assert_eq!(name("0999-01-02T03:04:05Z", u32::MAX), "09990102T030405.000Z-ffffffff");
        assert!(name("2026-11-25T01:30:00.9999Z", 2) < name("2026-11-25T01:30:01Z", 1));
        assert!(is_name(&name("2026-11-25T01:30:00Z", 7)));
        for none in ["", "20261125T013000.123Z-00000bad.new", "20261125T013000.123Z-00000BAD", "mails"] {
            assert!(!is_name(none), "{none}");
        }
    }
}
