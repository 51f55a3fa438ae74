//! Why a text is no filter: what is wrong, at which character, and what to write instead.

use super::{About, FIELDS, Field};
use rota_engine::job::JobState;
use rota_engine::limits::{FILTER_BYTES, FILTER_TERMS};

/// Words that people know from elsewhere, and the field that they mean.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("tube", "queue"),
    ("pri", "priority"),
    ("prio", "priority"),
    ("size", "body_bytes"),
    ("bytes", "body_bytes"),
    ("status", "state"),
    ("type", "kind"),
    ("created", "age"),
    ("parent", "waits_for"),
    ("parents", "waits_for"),
    ("run_at", "due"),
    ("timeouts", "lost_leases"),
];

/// What is wrong with a filter. `at` counts characters from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum FilterError {
    /// It is longer than may be.
    #[error("the filter has {0} bytes, and at most {FILTER_BYTES} are read")]
    TooLong(usize),
    /// It is, as the commands send it: sizes in bytes, spans in seconds, what is odd between quotation marks.
    #[error("written out the filter has {0} bytes, and at most {FILTER_BYTES} are read")]
    TooLongWritten(usize),
    /// It has more terms than may be.
    #[error("the filter has more than {FILTER_TERMS} terms: one too many at {at}")]
    TooManyTerms { at: usize },
    /// There is no such field.
    #[error("unknown field {field:?} at {at}")]
    UnknownField { field: String, at: usize },
    /// A header without its name.
    #[error("a header without a name at {at}")]
    NamelessHeader { at: usize },
    /// Something that has no field and no value.
    #[error("{text:?} at {at} is not a term")]
    NotATerm { text: String, at: usize },
    /// `=` where another sign is meant.
    #[error("\"=\" at {at} says nothing here")]
    EqualsSign { field: String, at: usize },
    /// A field without a value.
    #[error("{field} has no value at {at}")]
    NoValue { field: String, at: usize },
    /// A quotation that does not end.
    #[error("the quotation that begins at {at} does not end")]
    OpenQuotation { at: usize },
    /// Something directly at a quotation.
    #[error("{character:?} at {at} stands directly at a quotation")]
    BesideQuotation { character: char, at: usize },
    /// A text is not compared.
    #[error("{field} at {at} has no order to compare by")]
    NoOrder { field: String, at: usize },
    /// A span that changes all the time is never just that.
    #[error("{field} at {at} is never just one span")]
    NoEquality { field: String, at: usize },
    /// A comparison with several values.
    #[error("{field} is compared with one value, and at {at} another begins")]
    SeveralCompared { field: String, at: usize },
    /// No state of that name.
    #[error("unknown state {state:?} at {at}")]
    UnknownState { state: String, at: usize },
    /// Not a number.
    #[error("{text:?} at {at} is not a whole number")]
    NotANumber { text: String, at: usize, is_size: bool },
    /// Not the id of a job.
    #[error("{text:?} at {at} is not the id of a job")]
    NotAnId { text: String, at: usize },
    /// Not a span of time.
    #[error("{reason}, at {at}")]
    NotASpan { reason: String, at: usize },
}

impl FilterError {
    /// At which character of the filter it is, from 1; none if it is about all of it.
    #[must_use]
    pub fn at(&self) -> Option<usize> {
        match *self {
            FilterError::TooLong(_) | FilterError::TooLongWritten(_) => None,
            FilterError::TooManyTerms { at }
            | FilterError::UnknownField { at, .. }
            | FilterError::NamelessHeader { at }
            | FilterError::NotATerm { at, .. }
            | FilterError::EqualsSign { at, .. }
            | FilterError::NoValue { at, .. }
            | FilterError::OpenQuotation { at }
            | FilterError::BesideQuotation { at, .. }
            | FilterError::NoOrder { at, .. }
            | FilterError::NoEquality { at, .. }
            | FilterError::SeveralCompared { at, .. }
            | FilterError::UnknownState { at, .. }
            | FilterError::NotANumber { at, .. }
            | FilterError::NotAnId { at, .. }
            | FilterError::NotASpan { at, .. } => Some(at),
        }
    }

    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            FilterError::TooLong(_) | FilterError::TooLongWritten(_) | FilterError::TooManyTerms { .. } => {
                String::from("name several values in one term, with commas between them, or use *")
            }
            FilterError::UnknownField { field, .. } => {
                let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
                match nearest_field(field) {
                    Some(name) => format!("did you mean {name:?}?"),
                    None => format!("the fields are {}", names.join(", ")),
                }
            }
            FilterError::NamelessHeader { .. } => String::from("write header.NAME:value, as header.trace:00-*"),
            FilterError::NotATerm { text, .. } => match FIELDS.iter().find(|field| field.name == text) {
                Some(field) => format!("write a value too, as {}", field.example),
                None => format!("write a field and a value, as error:{} or queue:mail", quoted(text)),
            },
            FilterError::EqualsSign { field, .. } => match field.strip_suffix('!') {
                Some(field) => format!("write -{field}: for all others"),
                None => format!("write {field}:"),
            },
            FilterError::NoValue { field, .. } => match example(field) {
                Some(example) => format!("write one directly behind it, as {example}"),
                None => String::from("write one directly behind it; \"\" is an empty text"),
            },
            FilterError::OpenQuotation { .. } => {
                String::from("end it with \"; within it, \\\" stands for a quotation mark and \\\\ for a backslash")
            }
            FilterError::BesideQuotation { .. } => {
                String::from("put all of the value between quotation marks, and a space behind it")
            }
            FilterError::NoOrder { field, .. } => format!("write {field}:value; * stands for anything in it"),
            FilterError::NoEquality { field, .. } => format!("write {field}<1h or {field}>1h"),
            FilterError::SeveralCompared { .. } => String::from("leave the others away, or write a term for each"),
            FilterError::UnknownState { state, .. } => {
                let names = JobState::ALL.map(JobState::name);
                match nearest(state, names.into_iter()) {
                    Some(name) => format!("did you mean {name:?}?"),
                    None => format!("the states are {}", names.join(", ")),
                }
            }
            FilterError::NotANumber { is_size: true, .. } => String::from("write bytes, as 4096, 64KiB or 1MiB"),
            FilterError::NotANumber { .. } => String::from("write digits alone, up to 18446744073709551615"),
            FilterError::NotAnId { .. } => String::from("write digits alone, as the job's put answered them"),
            FilterError::NotASpan { .. } => String::from("write a number and a unit, as 250ms, 90s, 1h30m or 7d"),
        }
    }
}

fn example(field: &str) -> Option<&'static str> {
    FIELDS.iter().find(|row| row.name == field).map(|row| row.example)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace(['"', '\\'], ""))
}

/// The field that was probably meant.
fn nearest_field(field: &str) -> Option<&'static str> {
    let header = |row: &&Field| row.about == About::Header;
    if field.starts_with("head") {
        return FIELDS.iter().find(header).map(|row| row.name);
    }
    let other = OTHER_WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(field)).map(|(_, name)| *name);
    other.or_else(|| nearest(field, FIELDS.iter().filter(|row| !header(row)).map(|row| row.name)))
}

fn nearest(text: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // What is far longer than any name is none, and not worth measuring.
    let text = Some(text).filter(|text| text.len() <= 40)?.to_lowercase();
    let measured = names.map(|name| (strsim::osa_distance(&text, name), name));
    let (distance, name) = measured.min()?;
    (distance <= 2 || distance * 3 <= name.len()).then_some(name)
}
