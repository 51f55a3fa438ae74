//! Numbers, spans and bytes in a few columns of a screen.

use std::time::Duration;

/// A number in at most seven columns: `999999`, `1.0M`.
pub(super) fn count(number: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", number / unit, number % unit * 10 / unit);
    match number {
        0..1_000_000 => number.to_string(),
        1_000_000..1_000_000_000 => tenths(1_000_000) + "M",
        1_000_000_000..1_000_000_000_000 => tenths(1_000_000_000) + "G",
        _ => format!("{}T", number / 1_000_000_000_000),
    }
}

/// So many in a second: `0.2`, `15`; `-` where it takes another look to know.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => String::from("-"),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 1e6 => format!("{rate:.0}"),
        Some(rate) => format!("{:.1}M", rate / 1e6),
    }
}

/// A span by its two largest units: `250ms`, `12s`, `3m12s`, `5h2m`, `12d3h`; `-` for none.
pub(super) fn span(span: Option<Duration>) -> String {
    let Some(span) = span else { return String::from("-") };
    let seconds = span.as_secs();
    match seconds {
        0 if span.is_zero() => String::from("0s"),
        0 if span.as_millis() == 0 => format!("{}us", span.as_micros()),
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Bytes: `512B`, `1.5MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{}{name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes}B"),
    }
}

/// The text in printable ASCII, a column a character: whatever a server says, it steers no terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short() {
        assert_eq!([0, 999_999, 1_000_000, 25_960_000_000].map(count), ["0", "999999", "1.0M", "25.9G"]);
        assert_eq!([None, Some(0.04), Some(9.96), Some(2.5e6)].map(rate), ["-", "0.0", "10", "2.5M"]);
        let spans = [0, 750, 250_000, 12_900_000, 192_000_000, 18_120_000_000, 1_047_600_000_000];
        let spans = spans.map(|micros| span(Some(Duration::from_micros(micros))));
        assert_eq!(spans, ["0s", "750us", "250ms", "12s", "3m12s", "5h2m", "12d3h"]);
        assert_eq!(span(None), "-");
        assert_eq!([512, 1536, 5 << 30].map(bytes), ["512B", "1.5KiB", "5.0GiB"]);
        assert_eq!(clean("a\x1b[2J\n\u{e9}z"), "a?[2J??z");
    }
}
