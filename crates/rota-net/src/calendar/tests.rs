//! The calendar beside another one: minute by minute through decades, with other zone data and another way to read fields.

use super::*;
use chrono_tz::Tz;
use rota_engine::schedule::Timing;
use std::fmt::Write as _;

const SECOND: u64 = 1_000_000_000;

fn moment(text: &str) -> Time {
    let moment: Timestamp = text.parse().unwrap();
    Time(u64::try_from(moment.as_nanosecond()).unwrap())
}

fn text(at: Time) -> String {
    Timestamp::from_second((at.0 / SECOND) as i64).unwrap().to_string()
}

/// The ticks after a moment, so many.
fn ticks(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let calendar = ZoneCalendar::default();
    let mut at = moment(after);
    let mut ticks = Vec::new();
    while ticks.len() < count {
        at = calendar.next(expression, zone, at).unwrap();
        ticks.push(text(at));
    }
    ticks
}

#[test]
fn a_wall_time_that_is_skipped_is_due_right_after() {
    let ticks = |expression| ticks(expression, "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
    let around = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    assert_eq!(ticks("30 2 * * *"), around);
    assert_eq!(ticks("30 2-2 * * *"), around);
    // All that is skipped at once, and what is due then anyhow, is due once.
    assert_eq!(ticks("0 2,3 * * *"), ["2026-03-28T01:00:00Z", "2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"]);
}

#[test]
fn a_wall_time_that_is_shown_twice_is_due_the_first_time() {
    let ticks = |expression| ticks(expression, "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(ticks("30 2 * * *"), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let calendar = ZoneCalendar::default();
    // Whoever asks in the middle of the second time hears of the next day.
    let next = calendar.next("30 2 * * *", "Europe/Berlin", moment("2026-10-25T01:10:00Z")).unwrap();
    assert_eq!(text(next), "2026-10-26T01:30:00Z");
}

#[test]
fn what_leaves_no_hour_out_runs_by_elapsed_time() {
    let forth = ticks("30 * * * *", "America/New_York", "2026-03-08T06:00:00Z", 3);
    assert_eq!(forth, ["2026-03-08T06:30:00Z", "2026-03-08T07:30:00Z", "2026-03-08T08:30:00Z"]);
    let back = ticks("30 0-23 * * *", "America/New_York", "2026-11-01T05:00:00Z", 3);
    assert_eq!(back, ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-01T07:30:00Z"]);
}

#[test]
fn days_fit_one_field_or_both_as_everywhere() {
    let either = ticks("0 0 13 * 5", "UTC", "2026-02-01T00:00:00Z", 4);
    let days = |ticks: &[&str]| ticks.iter().map(|day| format!("2026-02-{day}T00:00:00Z")).collect::<Vec<_>>();
    assert_eq!(either, days(&["06", "13", "20", "27"]));
    assert_eq!(ticks("0 0 */2 * 5", "UTC", "2026-02-01T00:00:00Z", 2), days(&["13", "27"]));
    assert_eq!(ticks("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
    assert_eq!(ticks("@weekly", "UTC", "2026-02-01T00:00:00Z", 1), days(&["08"]));
    assert_eq!(ticks("0 0 * * 7", "UTC", "2026-02-01T00:00:00Z", 1), days(&["08"]));
    assert_eq!(ticks("0 0 * feb Sun-TUE", "UTC", "2026-02-01T00:00:00Z", 3), days(&["02", "03", "08"]));
}

#[test]
fn a_fault_says_where_it_is_and_what_to_try() {
    for (expression, field, offset, says) in [
        ("61 * * * *", Some("minute"), 0, "from 0 to 59"),
        ("0  5,24 * * *", Some("hour"), 5, "from 0 to 23"),
        ("0 0 0 * *", Some("day of the month"), 4, "from 1 to 31"),
        ("0 0 1 13 *", Some("month"), 6, "jan to dec"),
        ("0 0 1 jam *", Some("month"), 6, "jan to dec"),
        ("0 0 1 * 8", Some("day of the week"), 8, "sun to sat"),
        ("0 0 * * L", Some("day of the week"), 8, "not known here"),
        ("0 0 ? * *", Some("day of the month"), 4, "not known here"),
        ("*/0 * * * *", Some("minute"), 2, "from 1 to 60"),
        ("*/x * * * *", Some("minute"), 2, "from 1 to 60"),
        ("5/15 * * * *", Some("minute"), 0, "5-59/15"),
        ("0 22-2 * * *", Some("hour"), 2, "22-23,0-2"),
        ("1,,2 * * * *", Some("minute"), 2, "from 0 to 59"),
        ("1- * * * *", Some("minute"), 2, "from 0 to 59"),
        ("-1 * * * *", Some("minute"), 0, "from 0 to 59"),
        ("* * * *", None, 7, "minute, hour"),
        ("", None, 0, "minute, hour"),
        ("0 * * * * *", None, 10, "every"),
        ("@dayly", None, 0, "@daily"),
        ("@every 5m", None, 0, "\"every\""),
        ("0 0 1 * mön", Some("day of the week"), 8, "sun to sat"),
    ] {
        let Err(TimingFault::Cron(fault)) = check(expression, "UTC", Time(0)) else { panic!("{expression}") };
        assert_eq!((fault.field, fault.offset), (field, offset), "{expression}: {fault}");
        assert!(fault.hint.contains(says), "{expression}: {}", fault.hint);
    }
}

#[test]
fn what_never_comes_is_told_apart_from_what_is_rare() {
    for never in ["0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6,9,11 *"] {
        assert!(matches!(check(never, "UTC", Time(0)), Err(TimingFault::Never { .. })), "{never}");
    }
    // A leap day that is a Sunday: up to forty years apart.
    let (next, _) = check("0 0 29 2 */7", "UTC", moment("2072-03-01T00:00:00Z")).unwrap();
    assert_eq!(text(next), "2088-02-29T00:00:00Z");
    let (next, _) = check("0 0 29 2 */7", "UTC", next).unwrap();
    assert_eq!(text(next), "2128-02-29T00:00:00Z");
    assert!(check("0 0 31 2 1", "UTC", Time(0)).is_ok(), "a Monday in February will do");
}

#[test]
fn the_nearest_zone_is_told() {
    for (asked, expected) in [
        ("Europe/Berln", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("america/new-york", "America/New_York"),
    ] {
        let Err(TimingFault::Zone { nearest, .. }) = check("@daily", asked, Time(0)) else { panic!("{asked}") };
        assert_eq!(nearest, expected);
    }
    let (_, name) = check("@daily", "europe/berlin", Time(0)).unwrap();
    assert_eq!(name, "Europe/Berlin");
}

#[test]
fn garbage_is_refused_and_never_panics() {
    let mut seed = 1_u64;
    for _ in 0..100_000 {
        let mut expression = String::new();
        for _ in 0..seed % 19 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let letters = b"0123456789*/-, @?LjanMON\n\xc3";
            let _ = write!(expression, "{}", char::from(letters[(seed >> 33) as usize % letters.len()]));
        }
        seed = seed.wrapping_add(1);
        match check(&expression, "Pacific/Apia", moment("2011-12-29T12:00:00Z")) {
            Ok((next, _)) => assert!(next > moment("2011-12-29T12:00:00Z")),
            Err(TimingFault::Cron(fault)) => {
                assert!(expression.is_char_boundary(fault.offset), "{expression:?}: {fault:?}")
            }
            Err(_) => {}
        }
    }
}

/// A field as a plain table, read in the simplest way.
fn table(field: &str, least: usize, most: usize) -> Vec<bool> {
    let mut table = vec![false; 64];
    for item in field.split(',') {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
            None if range == "*" => (least, most),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        (first..=last).step_by(step.parse().unwrap()).for_each(|value| table[value] = true);
    }
    table
}

struct Oracle {
    fields: [Vec<bool>; 5],
    either_day: bool,
    by_elapsed_time: bool,
}

impl Oracle {
    fn new(expression: &str) -> Oracle {
        let fields: Vec<&str> = expression.split(' ').collect();
        let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let tables: Vec<Vec<bool>> =
            fields.iter().zip(bounds).map(|(field, (least, most))| table(field, least, most)).collect();
        let by_elapsed_time = tables[1][..24].iter().all(|&hour| hour);
        let either_day = !fields[2].starts_with('*') && !fields[4].starts_with('*');
        Oracle { fields: tables.try_into().unwrap(), either_day, by_elapsed_time }
    }

    fn fits(&self, wall: chrono::NaiveDateTime) -> bool {
        use chrono::{Datelike as _, Timelike as _};
        let [minutes, hours, days, months, weekdays] = &self.fields;
        let day = days[wall.day() as usize];
        let weekday = weekdays[wall.weekday().num_days_from_sunday() as usize];
        let fits = if self.either_day { day || weekday } else { day && weekday };
        fits && minutes[wall.minute() as usize] && hours[wall.hour() as usize] && months[wall.month() as usize]
    }
}

/// Walks through the minutes of years, as the clocks of a zone show them: what the clocks come to or pass over for the first
/// time is due then.
fn compare(zone: Tz, years: std::ops::Range<i32>) {
    use chrono::TimeZone as _;
    let expressions = [
        "30 2 * * *",
        "0 2,3 * * *",
        "15,45 1-3 * * *",
        "0 0 * * *",
        "30 0 * * 0",
        "59 23 31 12 *",
        "*/20 1 * 3,4,10,11 *",
        "45 * * * *",
        "*/7 0-23 * * 6",
        "0 12 29 2 *",
        "5 2 13 * 5",
        "0 */6 30 12 *",
    ];
    let oracles: Vec<Oracle> = expressions.iter().map(|expression| Oracle::new(expression)).collect();
    let utc = |year| chrono::Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap().timestamp();
    let (begin, end) = (utc(years.start), utc(years.end));
    let mut expected: Vec<Vec<i64>> = vec![Vec::new(); expressions.len()];
    let wall_of = |at: i64| zone.timestamp_opt(at, 0).unwrap().naive_local();
    let mut shown = wall_of(begin - 60);
    for at in (begin..end).step_by(60) {
        let wall = wall_of(at);
        let minute = chrono::Duration::minutes(1);
        for (oracle, expected) in oracles.iter().zip(&mut expected) {
            let is_due = if oracle.by_elapsed_time {
                oracle.fits(wall)
            } else {
                let mut passed = shown + minute;
                let mut any = false;
                while passed <= wall && !any {
                    any = oracle.fits(passed);
                    passed += minute;
                }
                any
            };
            if is_due {
                expected.push(at);
            }
        }
        shown = shown.max(wall);
    }
    let calendar = ZoneCalendar::default();
    for (expression, expected) in expressions.iter().zip(expected) {
        let timing = Timing::Cron { expression: (*expression).into(), zone: zone.name().into() };
        let mut at = Time((begin as u64 - 1) * SECOND);
        for (count, expected) in expected.iter().enumerate() {
            at = timing.next(Some(&calendar), at);
            let seconds = (at.0 / SECOND) as i64;
            let texts = || (text(at), text(Time(*expected as u64 * SECOND)));
            assert_eq!(seconds, *expected, "tick {count} of {expression} in {zone}: {:?}", texts());
        }
        assert!(timing.next(Some(&calendar), at).0 / SECOND >= end as u64, "one more of {expression} in {zone}");
        // Whoever asks at any moment hears the same as who goes from tick to tick.
        for (before, next) in expected.iter().zip(&expected[1..]) {
            let between = Time((before + (next - before) / 2) as u64 * SECOND + 1);
            assert_eq!(calendar.next(expression, zone.name(), between).unwrap().0 / SECOND, *next as u64);
        }
    }
}

#[test]
fn a_decade_of_cron_in_new_york_and_berlin() {
    compare(Tz::America__New_York, 2020..2030);
    compare(Tz::Europe__Berlin, 2015..2025);
}

#[test]
fn a_decade_of_cron_where_the_clocks_move_by_half_an_hour_or_once_by_a_quarter() {
    compare(Tz::Australia__Lord_Howe, 2012..2022);
    compare(Tz::Asia__Kathmandu, 1980..1990);
}

#[test]
fn a_decade_of_cron_where_midnight_is_skipped_and_where_a_day_is() {
    compare(Tz::America__Sao_Paulo, 2010..2020);
    compare(Tz::Pacific__Apia, 2008..2018);
}

#[test]
fn a_decade_of_cron_under_odd_rules() {
    compare(Tz::Africa__Casablanca, 2014..2024);
    compare(Tz::Asia__Pyongyang, 2011..2021);
}
