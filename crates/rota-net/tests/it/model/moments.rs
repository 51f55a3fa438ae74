//! What moments are to be shown as: the model's own time is made up, and the server's passes.
//!
//! Each step has a moment of the model, some nanoseconds behind the one before, and all spans are whole milliseconds: so a time
//! of the model says from which step it is, and how far from that. What the wall clock showed at a step is learned where it is
//! shown first; from then on every moment that depends on it must be shown to the millisecond.

use super::shown::MILLI;
use jiff::Timestamp;
use rota_engine::job::Time;
use rota_net::values::seconds_text;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two steps, in nanoseconds; a millisecond has ten thousand.
const STEP: u64 = 100;

/// Before a moment of the model, where one is to be shown.
const MOMENT: &str = "@";

/// Before two, where the span from the second to the first is.
const SPAN: &str = "~";

pub(super) struct Moments {
    /// A whole millisecond, which the wall clock and the model begin with.
    base: Time,
    /// What the wall clock showed at each step, in milliseconds, as far as is known. The step 0 is no moment of the server's: it
    /// is for moments that were asked for as such.
    seen: BTreeMap<u64, i64>,
}

/// A moment, to be shown.
pub(super) fn moment(time: Time) -> String {
    format!("{MOMENT}{}", time.0)
}

/// The delay of a job, to be shown: where it is no whole number of milliseconds, it is the span until a moment of the wall clock.
pub(super) fn delay(created_at: Time, delay: Duration) -> String {
    if delay.as_nanos().is_multiple_of(u128::from(MILLI)) {
        return seconds_text(delay);
    }
    format!("{SPAN}{} {}", created_at.after(delay).0, created_at.0)
}

impl Moments {
    pub(super) fn new(base: Time) -> Moments {
        let base_ms = i64::try_from(base.0 / MILLI).unwrap();
        Moments { base, seen: BTreeMap::from([(0, base_ms)]) }
    }

    /// The model's time at a step.
    pub(super) fn of_step(&self, step: u64) -> Time {
        assert!(step < MILLI / STEP, "a run has fewer steps");
        Time(self.base.0 + step * STEP)
    }

    /// Puts what is shown in the place of what is expected, wherever there are moments and they agree.
    pub(super) fn settle(&mut self, expected: &mut Value, shown: &Value) {
        for spans in [false, true] {
            self.walk(expected, shown, spans);
        }
    }

    fn walk(&mut self, expected: &mut Value, shown: &Value, spans: bool) {
        match expected {
            Value::Object(members) => {
                for (name, expected) in members {
                    self.walk(expected, &shown[name.as_str()], spans);
                }
            }
            Value::Array(list) => {
                for (at, expected) in list.iter_mut().enumerate() {
                    self.walk(expected, &shown[at], spans);
                }
            }
            Value::String(text) => {
                let numbers =
                    |text: &str| -> Vec<Time> { text.split(' ').map(|number| Time(number.parse().unwrap())).collect() };
                let settled = if let Some(moment) = text.strip_prefix(MOMENT) {
                    self.settled(numbers(moment)[0], shown)
                } else if let Some(moments) = text.strip_prefix(SPAN).filter(|_| spans) {
                    let moments = numbers(moments);
                    self.settled_span(moments[0], moments[1], shown)
                } else {
                    return;
                };
                *text = settled;
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// From which step a time of the model is, and how far from there, in milliseconds.
    fn parts(&self, time: Time) -> (u64, i64) {
        let (time, base) = (i128::from(time.0), i128::from(self.base.0));
        let behind = (time - base).rem_euclid(i128::from(MILLI)) as u64;
        assert_eq!(behind % STEP, 0, "spans are whole milliseconds");
        (behind / STEP, i64::try_from((time - base).div_euclid(i128::from(MILLI))).unwrap())
    }

    /// What is expected where that is shown.
    fn settled(&mut self, time: Time, shown: &Value) -> String {
        let (step, from_there) = self.parts(time);
        let shown: Option<Timestamp> = shown.as_str().and_then(|text| text.parse().ok());
        let learned = shown.map(|shown| shown.as_millisecond() - from_there);
        if let Some(learned) = learned.filter(|_| !self.seen.contains_key(&step)) {
            let before = self.seen.range(..step).next_back().map(|(_, ms)| *ms);
            let later = self.seen.range(step..).next().map(|(_, ms)| *ms);
            if before.is_some_and(|before| before > learned) || later.is_some_and(|later| later < learned) {
                return format!("a moment between {before:?} and {later:?}");
            }
            self.seen.insert(step, learned);
        }
        let Some(began) = self.seen.get(&step) else { return String::from("a moment") };
        Timestamp::from_millisecond(began + from_there).unwrap().to_string()
    }

    /// The same of a span, from what happened at a step to a whole millisecond.
    fn settled_span(&self, until: Time, since: Time, shown: &Value) -> String {
        let ((0, until), (step, 0)) = (self.parts(until), self.parts(since)) else {
            panic!("a delay ends at a moment that was asked for, and begins with a step")
        };
        let Some(began) = self.seen.get(&step) else { return String::from("a span since a moment that is not shown") };
        let most = u64::try_from(self.seen[&0] + until - began).unwrap();
        // It began some time within its millisecond.
        let either = [most, most - 1].map(|millis| seconds_text(Duration::from_millis(millis)));
        either.iter().find(|text| shown == text.as_str()).unwrap_or(&either[0]).clone()
    }
}
