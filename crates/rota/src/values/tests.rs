//! What is accepted, what is refused, and what a refused text is answered with.

use super::*;

#[test]
fn durations_in_every_form() {
    let cases = [
        ("0s", 0),
        ("250ms", 250),
        ("5s", 5_000),
        ("1.5s", 1_500),
        ("1m30s", 90_000),
        ("1h 30m", 5_400_000),
        ("2 hours", 7_200_000),
        ("3d", 259_200_000),
        ("1w", 604_800_000),
        (" 5s ", 5_000),
    ];
    for (text, millis) in cases {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text:?}");
    }
}

#[test]
fn refused_durations_say_how_to_write_them() {
    let forms = "write a number and a unit: 250ms, 5s, 1m30s, 2h, 3d";
    let cases = [
        ("5", "5 has no unit: write 5s or 5ms".to_owned()),
        ("", format!("\"\" is not a duration: {forms}")),
        ("soon", format!("\"soon\" is not a duration: {forms}")),
        ("5x", format!("\"5x\" is not a duration: {forms}")),
        ("-5s", format!("\"-5s\" is negative: {forms}")),
        ("1 month", "\"1 month\" has no fixed length: use days, hours, minutes and seconds".to_owned()),
    ];
    for (text, error) in cases {
        assert_eq!(parse_duration(text), Err(error), "{text:?}");
    }
}

#[test]
fn written_durations_read_back() {
    for nanos in [0, 1, 999, 1_000, 250_000_000, 10_000_000_000, 5_400_000_000_000, 86_400_000_000_001] {
        let duration = Duration::from_nanos(nanos);
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    assert_eq!(format_duration(Duration::from_millis(5_400_250)), "1h 30m 250ms");
}

#[test]
fn bytes_in_every_form() {
    let cases = [
        ("0", 0),
        ("65535", 65_535),
        ("65_535", 65_535),
        ("10b", 10),
        ("64KiB", 65_536),
        ("64k", 65_536),
        ("1 MiB", 1 << 20),
        ("1MB", 1_000_000),
        ("1g", 1 << 30),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text:?}");
    }
    for text in ["", "k", "-1", "1.5k", "1 furlong", "99999999999999999999", "18446744073709551615k"] {
        assert!(parse_bytes(text).is_err(), "{text:?}");
    }
}

#[test]
fn moments_absolute_and_local() {
    let zone = TimeZone::get("Europe/Berlin").expect("this machine has a time zone database");
    let cases = [
        ("2026-05-01T08:00:00Z", "2026-05-01T08:00:00Z"),
        ("2026-05-01T08:00:00.25+02:00", "2026-05-01T06:00:00.25Z"),
        ("2026-05-01T08:00:00[America/New_York]", "2026-05-01T12:00:00Z"),
        ("2026-05-01 08:00", "2026-05-01T06:00:00Z"),
        ("2026-05-01T08:00:30", "2026-05-01T06:00:30Z"),
        ("2026-12-01", "2026-11-30T23:00:00Z"),
    ];
    for (text, utc) in cases {
        assert_eq!(parse_moment(text, &zone).map(|moment| moment.to_string()), Ok(utc.to_owned()), "{text:?}");
    }
}

#[test]
fn a_local_time_that_the_clocks_skip_or_repeat_needs_an_offset() {
    let zone = TimeZone::get("Europe/Berlin").expect("this machine has a time zone database");
    for text in ["2026-03-29 02:30", "2026-10-25 02:30"] {
        let error = parse_moment(text, &zone).expect_err("ambiguous");
        assert!(error.contains("add an offset"), "{error}");
    }
    assert!(parse_moment("2026-10-25T02:30:00+02:00", &zone).is_ok());
    for text in ["", "tomorrow", "2026-13-01", "08:00", "1714550400"] {
        assert!(parse_moment(text, &zone).is_err(), "{text:?}");
    }
}
