//! Any text as a cron expression, in any zone: it is refused with a place in it and a hint, or its ticks go on and on, each after
//! the one before, and a schedule hears the same ones.
#![no_main]

use rota_engine::job::Time;
use rota_engine::limits::{CRON_BYTES, ZONE_BYTES};
use rota_engine::schedule::Calendar;
use rota_net::calendar::{TimingFault, ZoneCalendar, check};

/// Zones with whole and broken hours, that change often, and that skipped a day.
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/Sao_Paulo",
];

/// So many ticks are gone through.
const TICKS: usize = 8;

thread_local! {
    static CALENDAR: ZoneCalendar = ZoneCalendar::default();
}

libfuzzer_sys::fuzz_target!(|input: (u8, u64, &str)| {
    let (zone, after, text) = input;
    // The zone may be any, too: then it is the first line.
    let known = ZONES.get(usize::from(zone % 16)).copied();
    let (zone, expression) = match known {
        Some(zone) => (zone, text),
        None => text.split_once('\n').unwrap_or((text, "* * * * *")),
    };
    if expression.len() > CRON_BYTES || zone.len() > ZONE_BYTES {
        return;
    }
    let mut after = Time(after);
    for _ in 0..TICKS {
        let next = match check(expression, zone, after) {
            Ok((next, _)) => next,
            Err(fault) => {
                assert!(!fault.hint().is_empty() && !fault.to_string().is_empty());
                if let TimingFault::Cron(fault) = &fault {
                    assert!(expression.is_char_boundary(fault.offset), "{fault}");
                }
                assert_eq!(CALENDAR.with(|calendar| calendar.next(expression, zone, after)), None);
                return;
            }
        };
        assert!(next > after, "{expression:?} in {zone} ticks at {next:?}, not after {after:?}");
        assert_eq!(CALENDAR.with(|calendar| calendar.next(expression, zone, after)), Some(next));
        after = next;
    }
});
