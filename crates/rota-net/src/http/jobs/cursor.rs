//! Where a page of a list ended: an opaque text that fits its list and this run of the server alone.

use crate::filter::Filter;
use crate::http::problem::{Kind, Problem};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A list, and what it was asked for.
pub(in crate::http) enum List<'a> {
    /// For what it is walked over, and by which filter.
    Jobs {
        what: &'static str,
        filter: &'a Filter,
    },
    Queues,
}

/// Writes and reads where a page ended.
pub(in crate::http) struct Cursor;

impl List<'_> {
    /// A sum that tells lists apart: FNV-1a. Whoever forges one gets another page of the same jobs, and nothing else.
    fn sum(&self) -> u32 {
        let text = match self {
            List::Jobs { what, filter } => format!("{what} {filter}"),
            List::Queues => String::from("queues"),
        };
        text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

impl Cursor {
    /// The cursor of a list that goes on from that place, in the start of that epoch.
    pub(in crate::http) fn write(list: &List<'_>, epoch: u32, place: u64) -> String {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&list.sum().to_le_bytes());
        bytes[4..8].copy_from_slice(&epoch.to_le_bytes());
        bytes[8..].copy_from_slice(&place.to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place that a cursor names.
    ///
    /// # Errors
    /// [`Problem`], if it is none, or one of another list or of an earlier start.
    pub(in crate::http) fn read(text: &str, list: &List<'_>, epoch: u32) -> Result<u64, Problem> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let Some([a, b, c, d, e, f, g, h, place @ ..]) = bytes else {
            return Err(Problem::new(Kind::BadCursor, format!("{text:?} is not a cursor")));
        };
        if u32::from_le_bytes([a, b, c, d]) != list.sum() {
            return Err(Cursor::foreign());
        }
        if u32::from_le_bytes([e, f, g, h]) != epoch {
            return Err(Problem::new(Kind::CursorOutdated, "the server was started again since that page"));
        }
        Ok(u64::from_le_bytes(place))
    }

    /// What is said of a cursor that does not fit.
    pub(in crate::http) fn foreign() -> Problem {
        Problem::new(Kind::BadCursor, "the cursor is of a list that was asked for otherwise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_fits_its_list_and_its_start_alone() {
        let [a, b, all] = ["queue:a", "queue:b", ""].map(|text| text.parse::<Filter>().unwrap());
        let list = |filter| List::Jobs { what: "list", filter };
        let cursor = Cursor::write(&list(&a), 7, 1 << 40);
        assert_eq!(Cursor::read(&cursor, &list(&a), 7), Ok(1 << 40));
        let kick = List::Jobs { what: "kick", filter: &a };
        for (other, epoch) in [(list(&b), 7), (list(&all), 7), (kick, 7), (List::Queues, 7), (list(&a), 8)] {
            assert!(Cursor::read(&cursor, &other, epoch).is_err());
        }
        for bad in ["", "x", "AAAA", "====", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(Cursor::read(bad, &List::Queues, 0).is_err(), "{bad}");
        }
    }
}
