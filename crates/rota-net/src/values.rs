//! Spans of time as people write them: `1m30s`, `250ms`. The HTTP API reads them, and so do the command line and the
//! configuration of the binary.

use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

/// The longest span, some 20,000 years, in seconds.
const MOST_SECONDS: u64 = 631_107_417_600;

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
    let span = Duration::try_from(signed).map_err(|_| format!("{text:?} is negative: {FORMS}"))?;
    // Of hours there may be more than of the seconds that it is written in.
    if span.as_secs() > MOST_SECONDS {
        Err(format!("{text:?} is too long: no more than {MOST_SECONDS}s"))
    } else {
        Ok(span)
    }
}

/// Writes a span of time in seconds, so that [`parse_duration`] reads the same back: `90s`, `1.5s`, `0s`, `0.0005s`.
#[must_use]
pub fn seconds_text(span: Duration) -> String {
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    if nanos == 0 {
        return format!("{seconds}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{seconds}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (micros, text) in [
            (0, "0s"),
            (500, "0.0005s"),
            (1_000, "0.001s"),
            (250_000, "0.25s"),
            (1_500_000, "1.5s"),
            (90_000_000, "90s"),
        ] {
            let span = Duration::from_micros(micros);
            assert_eq!(seconds_text(span), text);
            assert_eq!(parse_duration(text), Ok(span));
        }
        let longest = Duration::from_nanos(u64::MAX);
        assert_eq!(parse_duration(&seconds_text(longest)), Ok(longest));
        let longest = Duration::from_secs(MOST_SECONDS);
        assert_eq!(parse_duration(&seconds_text(longest)), Ok(longest));
        assert!(parse_duration("530000000h0m").is_err());
    }
}
