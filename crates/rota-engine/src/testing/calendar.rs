//! A calendar for simulations, of which a reader sees at once when its ticks are.

use crate::job::Time;
use crate::schedule::Calendar;

/// Understands two expressions: `every P bent B`, whose tick number k is at k · P + (k mod 3) · B, and `once T`; all in
/// nanoseconds. In the zone `nowhere` there are no ticks.
#[derive(Clone, Copy, Debug)]
pub struct PlainCalendar;

impl Calendar for PlainCalendar {
    fn next(&self, expression: &str, zone: &str, after: Time) -> Option<Time> {
        let words: Vec<&str> = expression.split(' ').collect();
        match words[..] {
            _ if zone == "nowhere" => None,
            ["once", at] => at.parse().ok().map(Time).filter(|at| *at > after),
            ["every", period, "bent", bend] => {
                let (period, bend): (u64, u64) = (period.parse().ok()?, bend.parse().ok()?);
                let first = (after.0 / period).saturating_sub(1);
                let tick = |k: u64| k.checked_mul(period)?.checked_add(k % 3 * bend);
                (first..first + 4).filter_map(tick).find(|tick| *tick > after.0).map(Time)
            }
            _ => None,
        }
    }
}
