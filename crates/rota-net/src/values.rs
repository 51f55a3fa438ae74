//! Spans of time as people write them: `1m30s`, `250ms`. The HTTP API reads them, and so do the command line and the
//! configuration of the binary.

use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

/// Reads a span of time such as `5s`, `250ms`, `1m30s`, `1h 30m` or `3d` (a day is 24 hours); never negative.
///
/// # Errors
/// A half sentence that says what is wrong and how to write it. A number without a unit is refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORMS: &str = "write a number and a unit: 250ms, 5s, 1m30s, 2h, 3d";
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text} has no unit: write {text}s or {text}ms"));
    }
    let span: Span = text.parse().map_err(|_| format!("{text:?} is not a duration: {FORMS}"))?;
    let signed = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("{text:?} has no fixed length: use days, hours, minutes and seconds"))?;
    Duration::try_from(signed).map_err(|_| format!("{text:?} is negative: {FORMS}"))
}

/// Writes a span of time in seconds, to the millisecond, so that [`parse_duration`] reads it back: `90s`, `1.5s`, `0s`.
#[must_use]
pub fn seconds_text(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    if millis == 0 {
        return format!("{seconds}s");
    }
    let fraction = format!("{millis:03}");
    format!("{seconds}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (millis, text) in [(0, "0s"), (1, "0.001s"), (250, "0.25s"), (1_500, "1.5s"), (90_000, "90s")] {
            let span = Duration::from_millis(millis);
            assert_eq!(seconds_text(span), text);
            assert_eq!(parse_duration(text), Ok(span));
        }
        assert_eq!(seconds_text(Duration::from_nanos(1_999_999)), "0.001s", "never more than it is");
        let longest = Duration::from_nanos(u64::MAX);
        let to_the_millisecond = Duration::new(longest.as_secs(), longest.subsec_millis() * 1_000_000);
        assert_eq!(parse_duration(&seconds_text(longest)), Ok(to_the_millisecond));
    }
}
