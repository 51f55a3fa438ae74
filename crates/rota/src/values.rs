//! Durations, sizes and moments as people write them: `1m30s`, `64KiB`, `2026-05-01 08:00`.
//!
//! The command line and the configuration read with these; nothing here knows which option a text was written for,
//! so the errors are half sentences that a caller puts after the option's name.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

pub(crate) use rota_net::values::parse_duration;

/// Writes a span of time so that [`parse_duration`] reads it back: `1h 30m`, `250ms`, `0s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = duration.as_nanos();
    let mut parts = Vec::new();
    for (unit, nanos) in UNITS {
        if rest >= nanos {
            parts.push(format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

/// Reads a number of bytes: `65535`, `64KiB` or `64K` (1024), `1MB` (1,000,000), `1 GiB`.
///
/// # Errors
/// A half sentence that says what is wrong and how to write it.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const FORMS: &str = "write bytes such as 65535, 64KiB, 1MiB or 1MB";
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 =
        digits.replace('_', "").parse().map_err(|_| format!("{text:?} is not a number of bytes: {FORMS}"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        other => return Err(format!("{other:?} is not a unit of bytes: {FORMS}")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// Reads a moment: RFC 3339 (`2026-05-01T08:00:00Z`, `…+02:00`), or a date with or without a time of day, which is
/// local time in `zone` (`2026-05-01 08:00`, `2026-05-01`).
///
/// # Errors
/// A half sentence that says what is wrong and how to write it. A local time that a change of the clocks skips is
/// refused, as is one that it repeats: both need an offset.
pub(crate) fn parse_moment(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    const FORMS: &str = "write 2026-05-01T08:00:00Z, 2026-05-01T08:00:00+02:00, or local time as 2026-05-01 08:00";
    let text = text.trim();
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if text.contains('[')
        && let Ok(zoned) = text.parse::<Zoned>()
    {
        return Ok(zoned.timestamp());
    }
    let local: DateTime = match text.parse::<Date>() {
        Ok(date) if !text.contains(':') => date.at(0, 0, 0, 0),
        _ => text.parse().map_err(|_| format!("{text:?} is not a time: {FORMS}"))?,
    };
    let ambiguous = zone.to_ambiguous_timestamp(local);
    ambiguous.unambiguous().map_err(|_| {
        format!(
            "{text:?} does not exist or exists twice in local time (the clocks change): \
             add an offset such as +02:00"
        )
    })
}

#[cfg(test)]
mod tests;
