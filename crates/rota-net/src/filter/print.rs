//! A filter as text, which is read back as the same filter.

use super::{About, Comparison, Condition, FIELDS, Filter, Pattern, Term, Test};
use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            if at > 0 {
                f.write_char(' ')?;
            }
            term.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_negated {
            f.write_char('-')?;
        }
        match &self.condition {
            Condition::Text(of, any) => is(f, name(About::Text(*of)), any),
            Condition::Header(header, any) => is(f, &format!("header.{header}"), any),
            Condition::State(any) => is(f, name(About::State), any.iter().map(|state| state.name())),
            Condition::Number(of, test) => test.print(f, name(About::Number(*of))),
            Condition::Span(of, test) => match test {
                Test::Among(any) => is(f, name(About::Span(*of)), any.iter().map(|span| Written(*span))),
                Test::Than(comparison, span) => than(f, name(About::Span(*of)), *comparison, Written(*span)),
            },
            Condition::Jobs(of, any) => is(f, name(About::Jobs(*of)), any),
        }
    }
}

impl<T: Display> Test<T> {
    fn print(&self, f: &mut Formatter<'_>, name: &str) -> fmt::Result {
        match self {
            Test::Among(any) => is(f, name, any),
            Test::Than(comparison, bound) => than(f, name, *comparison, bound),
        }
    }
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::More => ">",
            Comparison::AtLeast => ">=",
        }
    }
}

fn name(about: About) -> &'static str {
    FIELDS.iter().find(|field| field.about == about).map_or("", |field| field.name)
}

fn is(f: &mut Formatter<'_>, name: &str, any: impl IntoIterator<Item = impl Display>) -> fmt::Result {
    f.write_str(name)?;
    for (at, value) in any.into_iter().enumerate() {
        write!(f, "{}{value}", if at == 0 { ':' } else { ',' })?;
    }
    Ok(())
}

fn than(f: &mut Formatter<'_>, name: &str, comparison: Comparison, bound: impl Display) -> fmt::Result {
    write!(f, "{name}{}{bound}", comparison.sign())
}

/// A span of time, to the nanosecond.
struct Written(Duration);

impl Display for Written {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        match (seconds, nanos) {
            (_, 0) => write!(f, "{seconds}s"),
            (0, _) => write!(f, "{nanos}ns"),
            (_, _) => write!(f, "{seconds}s{nanos}ns"),
        }
    }
}

impl Display for Pattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_plain = |c: char| c.is_ascii_graphic() && !"\"\\,*<>".contains(c);
        let pieces = &self.0;
        let is_empty = pieces.len() == 1 && pieces[0].is_empty();
        if !is_empty && pieces.iter().all(|piece| piece.chars().all(is_plain)) {
            return f.write_str(&pieces.join("*"));
        }
        f.write_char('"')?;
        for (at, piece) in pieces.iter().enumerate() {
            if at > 0 {
                f.write_char('*')?;
            }
            for c in piece.chars() {
                if "\"\\*".contains(c) {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
        }
        f.write_char('"')
    }
}
