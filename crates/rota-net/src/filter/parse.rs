//! From a text to a filter, in one pass over its characters.
//!
//! ```text
//!   filter  = [ term { space term } ]
//!   term    = [ "-" | "!" ] field ( ":" value { "," value } | [ ":" ] ( "<" | "<=" | ">" | ">=" ) value )
//!   value   = characters without spaces, commas and quotation marks
//!           | '"' characters, in which \" \\ \* stand for " \ * '"'
//! ```

use super::{About, Comparison, Condition, FIELDS, Filter, FilterError, Number, Pattern, Span, Term, Test, Text};
use crate::values::parse_duration;
use rota_engine::job::{JobId, JobState};
use rota_engine::limits::{FILTER_BYTES, FILTER_TERMS};
use std::str::FromStr;
use std::time::Duration;

/// The longest span of time that jobs are compared with: a hundred years.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Filter, FilterError> {
        if text.len() > FILTER_BYTES {
            return Err(FilterError::TooLong(text.len()));
        }
        let mut reader = Reader { text, at: 0 };
        let mut terms = Vec::new();
        loop {
            reader.skip_spaces();
            if reader.peek().is_none() {
                return written(Filter { terms });
            }
            if terms.len() == FILTER_TERMS {
                return Err(FilterError::TooManyTerms { at: reader.column() });
            }
            terms.push(reader.term()?);
        }
    }
}

/// A filter as it is, unless it is too long as it is printed: what was read is always read back.
fn written(filter: Filter) -> Result<Filter, FilterError> {
    match filter.to_string().len() {
        0..=FILTER_BYTES => Ok(filter),
        bytes => Err(FilterError::TooLongWritten(bytes)),
    }
}

/// A text, and how far it was read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// A value as it was written: its pieces between stars, and where it begins.
struct Value {
    pieces: Vec<String>,
    at: usize,
}

/// What stands between a field and its value.
enum Sign {
    Is,
    Than(Comparison),
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// Reads on if that comes next.
    fn take(&mut self, next: char) -> bool {
        let is_next = self.peek() == Some(next);
        self.at += if is_next { next.len_utf8() } else { 0 };
        is_next
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// The character that comes next, counted from 1.
    fn column(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let is_negated = self.take('-') || self.take('!');
        let at = self.column();
        let field = self.take_while(|c| !":<>=\",".contains(c) && !c.is_whitespace()).to_owned();
        let Some(sign) = self.sign(&field)? else {
            let rest = self.take_while(|c| !c.is_whitespace());
            return Err(FilterError::NotATerm { text: field + rest, at });
        };
        if field.is_empty() {
            let text = self.text[..self.at].chars().skip(at - 1).collect();
            return Err(FilterError::NotATerm { text, at });
        }
        let values = self.values(&field)?;
        if let (Sign::Than(_), Some(second)) = (&sign, values.get(1)) {
            return Err(FilterError::SeveralCompared { field, at: second.at });
        }
        Ok(Term { is_negated, condition: condition(field, at, &sign, values)? })
    }

    fn sign(&mut self, field: &str) -> Result<Option<Sign>, FilterError> {
        let at = self.column();
        if self.take('=') {
            return Err(FilterError::EqualsSign { field: field.to_owned(), at });
        }
        let is_colon = self.take(':');
        let comparison = if self.take('<') {
            if self.take('=') { Comparison::AtMost } else { Comparison::Less }
        } else if self.take('>') {
            if self.take('=') { Comparison::AtLeast } else { Comparison::More }
        } else {
            return Ok(is_colon.then_some(Sign::Is));
        };
        Ok(Some(Sign::Than(comparison)))
    }

    fn values(&mut self, field: &str) -> Result<Vec<Value>, FilterError> {
        let mut values = Vec::new();
        loop {
            let at = self.column();
            values.push(if self.take('"') { self.quoted(at)? } else { self.bare(field, at)? });
            if !self.take(',') {
                break;
            }
        }
        match self.peek().filter(|c| !c.is_whitespace()) {
            Some(character) => Err(FilterError::BesideQuotation { character, at: self.column() }),
            None => Ok(values),
        }
    }

    fn bare(&mut self, field: &str, at: usize) -> Result<Value, FilterError> {
        let text = self.take_while(|c| c != ',' && c != '"' && !c.is_whitespace());
        if text.is_empty() {
            return Err(FilterError::NoValue { field: field.to_owned(), at });
        }
        Ok(Value { pieces: text.split('*').map(str::to_owned).collect(), at })
    }

    fn quoted(&mut self, at: usize) -> Result<Value, FilterError> {
        let (mut pieces, mut piece) = (Vec::new(), String::new());
        let mut rest = self.text[self.at..].char_indices();
        while let Some((offset, c)) = rest.next() {
            match c {
                '"' => {
                    self.at += offset + 1;
                    pieces.push(piece);
                    return Ok(Value { pieces, at });
                }
                '*' => pieces.push(std::mem::take(&mut piece)),
                '\\' => match rest.as_str().chars().next() {
                    Some(escaped @ ('"' | '\\' | '*')) => {
                        piece.push(escaped);
                        rest.next();
                    }
                    _ => piece.push(c),
                },
                c => piece.push(c),
            }
        }
        Err(FilterError::OpenQuotation { at })
    }
}

fn condition(field: String, at: usize, sign: &Sign, values: Vec<Value>) -> Result<Condition, FilterError> {
    let header = field.strip_prefix("header.").or_else(|| field.strip_prefix("headers."));
    let about = match header {
        Some("") => return Err(FilterError::NamelessHeader { at }),
        Some(_) => About::Header,
        None => match FIELDS.iter().find(|row| row.name == field) {
            Some(row) => row.about,
            None => return Err(FilterError::UnknownField { field, at }),
        },
    };
    let is_ordered = matches!(about, About::Number(_) | About::Span(_));
    if matches!(sign, Sign::Than(_)) && !is_ordered {
        return Err(FilterError::NoOrder { field, at });
    }
    let patterns = |values: Vec<Value>| values.into_iter().map(|value| Pattern(value.pieces)).collect();
    Ok(match about {
        About::Text(of @ (Text::Error | Text::Progress | Text::Result)) => {
            let small = |value: Value| Value {
                pieces: value.pieces.iter().map(|piece| piece.to_ascii_lowercase()).collect(),
                ..value
            };
            Condition::Text(of, patterns(values.into_iter().map(small).collect()))
        }
        About::Text(of) => Condition::Text(of, patterns(values)),
        About::Header => Condition::Header(header.unwrap_or_default().into(), patterns(values)),
        About::State => Condition::State(all(values, state)?),
        About::Number(Number::Id) => {
            Condition::Number(Number::Id, test(sign, values, |value| id(value).map(|id| id.0))?)
        }
        About::Number(of @ Number::BodyBytes) => Condition::Number(of, test(sign, values, size)?),
        About::Number(of) => Condition::Number(of, test(sign, values, number)?),
        About::Span(Span::Age | Span::Due) if matches!(sign, Sign::Is) => {
            return Err(FilterError::NoEquality { field, at });
        }
        About::Span(of) => Condition::Span(of, test(sign, values, span)?),
        About::Jobs(of) => Condition::Jobs(of, all(values, id)?),
    })
}

fn all<T>(values: Vec<Value>, read: impl Fn(Value) -> Result<T, FilterError>) -> Result<Vec<T>, FilterError> {
    values.into_iter().map(read).collect()
}

fn test<T>(
    sign: &Sign,
    values: Vec<Value>,
    read: impl Fn(Value) -> Result<T, FilterError>,
) -> Result<Test<T>, FilterError> {
    let mut read = all(values, read)?;
    Ok(match sign {
        Sign::Is => Test::Among(read),
        Sign::Than(comparison) => Test::Than(*comparison, read.remove(0)),
    })
}

fn state(value: Value) -> Result<JobState, FilterError> {
    let text = value.text();
    let known = JobState::ALL.into_iter().find(|state| state.name() == text);
    known.ok_or(FilterError::UnknownState { state: text, at: value.at })
}

fn number(value: Value) -> Result<u64, FilterError> {
    let text = value.text();
    digits(&text).ok_or(FilterError::NotANumber { text, at: value.at, is_size: false })
}

fn size(value: Value) -> Result<u64, FilterError> {
    let text = value.text();
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000), ("B", 1)];
    let unit = units.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (count, unit): (&str, u64) = unit.unwrap_or((&text, 1));
    let bytes = digits(count).and_then(|count| count.checked_mul(unit));
    bytes.ok_or(FilterError::NotANumber { text, at: value.at, is_size: true })
}

fn id(value: Value) -> Result<JobId, FilterError> {
    let text = value.text();
    digits(&text).map(JobId).ok_or(FilterError::NotAnId { text, at: value.at })
}

fn span(value: Value) -> Result<Duration, FilterError> {
    let text = value.text();
    let at = value.at;
    let span = parse_duration(&text).map_err(|reason| FilterError::NotASpan { reason, at })?;
    if span > LONGEST {
        return Err(FilterError::NotASpan { reason: format!("{text:?} is longer than a hundred years"), at });
    }
    Ok(span)
}

fn digits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Value {
    fn text(&self) -> String {
        self.pieces.join("*")
    }
}
