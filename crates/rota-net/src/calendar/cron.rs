//! A cron expression: read with the place of each fault, and matched against wall times.
//!
//! Five fields, as everybody's crontab has them: minute, hour, day of the month, month, day of the week. Where neither of
//! the two fields for days begins with a star, a day fits that fits one of them; else one that fits both.

use jiff::civil::Date;
use jiff::{Span, ToSpan as _};

/// Days after which the days of the calendar come again: four hundred years.
const CYCLE_DAYS: i64 = 146_097;

/// What is wrong with an expression, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}, in {} at byte {offset}", field.unwrap_or("the expression"))]
pub struct CronFault {
    /// In which field: `minute`, `hour`, `day of the month`, `month`, `day of the week`.
    pub field: Option<&'static str>,
    /// How many bytes of the expression are before it.
    pub offset: usize,
    /// What it is.
    pub what: String,
    /// What to try.
    pub hint: String,
}

/// The wall times that an expression names. A bit for each value of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// A day that fits one of the two fields fits.
    either_day: bool,
}

/// What a field may say.
struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    /// Words for values, the first for `first_named`.
    names: &'static [&'static str],
    first_named: u8,
}

const fn field(name: &'static str, least: u8, most: u8) -> Field {
    Field { name, least, most, names: &[], first_named: 0 }
}

const FIELDS: [Field; 5] = [
    field("minute", 0, 59),
    field("hour", 0, 23),
    field("day of the month", 1, 31),
    Field {
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
        first_named: 1,
        ..field("month", 1, 12)
    },
    // Both 0 and 7 are Sunday.
    Field { names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"], ..field("day of the week", 0, 7) },
];

/// Words for whole expressions.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

impl Cron {
    /// Reads an expression.
    pub(super) fn read(expression: &str) -> Result<Cron, CronFault> {
        let whole = |offset, what: String, hint: &str| CronFault { field: None, offset, what, hint: hint.to_owned() };
        let trimmed = expression.trim();
        if trimmed.starts_with('@') {
            let asked = trimmed.to_ascii_lowercase();
            if let Some((_, meaning)) = WORDS.iter().find(|(word, _)| *word == asked) {
                return Cron::read(meaning);
            }
            let words = WORDS.map(|(word, _)| word).join(", ");
            let hint = if asked.starts_with("@every") {
                String::from("give the span as \"every\", in place of \"cron\"")
            } else {
                format!("write five fields, or one of {words}")
            };
            let offset = expression.find('@').unwrap_or_default();
            return Err(whole(offset, format!("{trimmed:?} is no word for a timing"), &hint));
        }
        let fields: Vec<(usize, &str)> = words(expression).collect();
        if fields.len() != FIELDS.len() {
            let offset = fields.get(FIELDS.len()).map_or(expression.len(), |(offset, _)| *offset);
            let hint = if fields.len() > FIELDS.len() {
                "write minute, hour, day of the month, month and day of the week; there are no seconds and no years: \
                 for ticks that are seconds apart, use \"every\""
            } else {
                "write minute, hour, day of the month, month and day of the week: \"30 4 * * 1-5\" is 4:30 from Monday to \
                 Friday"
            };
            let what = format!("an expression has five fields, and that one has {}", fields.len());
            return Err(whole(offset, what, hint));
        }
        let mut bits = [0; 5];
        for ((offset, text), (field, bits)) in fields.iter().zip(FIELDS.iter().zip(&mut bits)) {
            *bits = field.read(text, *offset)?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let begins_with_star = |at: usize| fields[at].1.starts_with('*');
        // Sunday by its other number.
        let weekdays = (weekdays | weekdays >> 7) & 0x7f;
        let either_day = !begins_with_star(2) && !begins_with_star(4);
        Ok(Cron { minutes, hours, days, months, weekdays, either_day })
    }

    /// Whether its hours leave none out.
    pub(super) fn takes_every_hour(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// Whether there is any day that fits.
    pub(super) fn has_days(&self) -> bool {
        self.next_day(0, CYCLE_DAYS).is_some()
    }

    /// The first minute from `from` on that fits, in minutes since 1970 as if clocks were of UTC.
    pub(super) fn next_minute(&self, from: i64) -> Option<i64> {
        const DAY: i64 = 24 * 60;
        let mut day = from.div_euclid(DAY);
        let mut minute = from.rem_euclid(DAY);
        loop {
            let next = self.next_day(day, CYCLE_DAYS)?;
            if next > day {
                (day, minute) = (next, 0);
            }
            if let Some(minute) = self.next_of_day(minute) {
                return Some(day * DAY + minute);
            }
            (day, minute) = (day + 1, 0);
        }
    }

    /// The first minute of a day from `from` on that fits.
    fn next_of_day(&self, from: i64) -> Option<i64> {
        let (hour, minute) = (from / 60, from % 60);
        let least = |bits: u64, from: i64| (from < 64).then(|| bits >> from << from).filter(|bits| *bits != 0);
        let first = |bits: u64| i64::from(bits.trailing_zeros());
        if self.hours >> hour & 1 == 1
            && let Some(minutes) = least(self.minutes, minute)
        {
            return Some(hour * 60 + first(minutes));
        }
        least(self.hours, hour + 1).map(|hours| first(hours) * 60 + first(self.minutes))
    }

    /// The first day from `from` on that fits, of so many, in days since 1970.
    fn next_day(&self, from: i64, most: i64) -> Option<i64> {
        const FIRST: Date = Date::constant(1970, 1, 1);
        let mut date = FIRST.checked_add(Span::new().try_days(from).ok()?).ok()?;
        let mut day = from;
        while day - from <= most {
            if self.months >> date.month() & 1 == 0 {
                // On to the first of the next month.
                let left = i64::from(date.days_in_month() - date.day()) + 1;
                day += left;
                date = date.checked_add(left.days()).ok()?;
                continue;
            }
            let by_day = self.days >> date.day() & 1 == 1;
            let by_weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
            if if self.either_day { by_day || by_weekday } else { by_day && by_weekday } {
                return Some(day);
            }
            day += 1;
            date = date.tomorrow().ok()?;
        }
        None
    }
}

/// The words of a text, each with its place.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let place = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(move |word| (place(word), word))
}

impl Field {
    /// Reads a field that stands behind `offset` bytes.
    fn read(&self, text: &str, offset: usize) -> Result<u64, CronFault> {
        let mut bits = 0;
        let mut at = offset;
        for item in text.split(',') {
            bits |= self.item(item, at)?;
            at += item.len() + 1;
        }
        Ok(bits)
    }

    fn fault(&self, offset: usize, what: String, hint: String) -> CronFault {
        CronFault { field: Some(self.name), offset, what, hint }
    }

    /// A star, a value or a range of values, with a step or without.
    fn item(&self, item: &str, at: usize) -> Result<u64, CronFault> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some((step, at + range.len() + 1))),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            // The stars of the day of the week are seven.
            Some((first, last)) => {
                let last_at = at + first.len() + 1;
                let (first, last) = (self.value(first, at)?, self.value(last, last_at)?);
                if first > last {
                    let what = format!("the range {range} ends before it begins");
                    let hint = format!("write two ranges: {first}-{},{}-{last}", self.most, self.least);
                    return Err(self.fault(at, what, hint));
                }
                (first, last)
            }
            None => {
                let value = self.value(range, at)?;
                if let Some((step, _)) = step {
                    let hint = format!("write a range before the step: {range}-{}/{step}", self.most);
                    return Err(self.fault(at, format!("{item} has a step, but no range to go through"), hint));
                }
                (value, value)
            }
        };
        let last = if range == "*" && self.most == 7 { 6 } else { last };
        let step = match step {
            None => 1,
            Some((step, step_at)) => {
                let most = self.most - self.least + 1;
                let read = step.parse::<u8>().ok().filter(|read| (1..=most).contains(read));
                read.filter(|_| step.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(|| {
                    let hint = format!("write a whole number from 1 to {most}");
                    self.fault(step_at, format!("{step:?} is no step"), hint)
                })?
            }
        };
        Ok((first..=last).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str, at: usize) -> Result<u8, CronFault> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(named) = named {
            return Ok(self.first_named + u8::try_from(named).unwrap_or_default());
        }
        let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text.parse::<u16>().ok().filter(|_| digits);
        if let Some(value) = value.and_then(|value| u8::try_from(value).ok())
            && (self.least..=self.most).contains(&value)
        {
            return Ok(value);
        }
        let names = match self.names {
            [first, .., last] => format!(", or a name from {first} to {last}"),
            _ => String::new(),
        };
        let mut hint = format!("write a whole number from {} to {}{names}, or *", self.least, self.most);
        if text.contains(['?', 'L', 'W', '#', 'l', 'w']) && value.is_none() && self.name.starts_with("day") {
            hint += "; ?, L, W and # of other crons are not known here";
        }
        let what = match (text, value) {
            ("", _) => String::from("a value is missing"),
            (_, Some(_)) => format!("{text} is out of range"),
            _ => format!("{text:?} is no value"),
        };
        Err(self.fault(at, what, hint))
    }
}
