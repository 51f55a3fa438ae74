//! The values that requests and answers are made of, as JSON has them: ids, names, spans, moments, bodies.
//!
//! A span is text with a unit, `"1m30s"`, and answered in seconds, `"90s"`; a moment is RFC 3339; an id is a text of
//! digits, since many languages round whole numbers. What is read here keeps its rule from here on.

use crate::values::{parse_duration, seconds_text};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use rota_engine::command::Held;
use rota_engine::job::{JobId, LeaseToken, QueueName, Time};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;
use utoipa::ToSchema;

/// Base64 as RFC 4648 has it; when it is read, the padding may be left out.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The name of a queue: 1 to 200 of `A-Z a-z 0-9 - + / ; . $ _ ( )`, not beginning with `-`.
#[derive(Clone, PartialEq, Eq, Debug, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 200, pattern = r"^[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()\-]*$",
    example = "mail")]
pub(super) struct Name(pub(super) QueueName);

/// A span of time: a number and a unit, `"250ms"`, `"1.5s"`, `"1m30s"`, `"7d"`. Answers have it in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ToSchema)]
#[schema(value_type = String, example = "90s")]
pub(super) struct Span(pub(super) Duration);

/// A moment of the wall clock (RFC 3339), to the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2030-05-01T08:00:00Z")]
pub(super) struct Moment(
    /// Nanoseconds since 1970.
    pub(super) Time,
);

/// The id of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ToSchema)]
#[schema(value_type = String, pattern = "^[1-9][0-9]*$", example = "17")]
pub(super) struct Id(pub(super) JobId);

/// A lease: which job, and which reservation of it. Not to be taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ToSchema)]
#[schema(value_type = String, pattern = r"^[1-9][0-9]*\.[1-9][0-9]*\.[1-9][0-9]*$", example = "17.3.9")]
pub(super) struct Lease(Stamp);

/// What a lease says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    job: JobId,
    token: LeaseToken,
}

impl Span {
    /// One that was measured: to the millisecond.
    pub(super) fn measured(span: Duration) -> Span {
        Span(Duration::new(span.as_secs(), span.subsec_millis() * 1_000_000))
    }
}

impl Lease {
    pub(super) fn new(job: JobId, token: LeaseToken) -> Lease {
        Lease(Stamp { job, token })
    }

    /// Which job it is on.
    pub(super) fn job(self) -> JobId {
        self.0.job
    }

    /// The job, as its holder names it.
    pub(super) fn held(self) -> Held {
        Held { job: self.0.job, token: Some(self.0.token) }
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stamp { job, token } = self.0;
        write!(f, "{job}.{}.{}", token.epoch, token.counter)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0.0 / 1_000_000).map_err(|_| fmt::Error)?;
        Timestamp::from_millisecond(millis).map_err(|_| fmt::Error)?.fmt(f)
    }
}

impl FromStr for Lease {
    type Err = String;

    fn from_str(text: &str) -> Result<Lease, String> {
        let bad = || format!("{text:?} is not a lease");
        let mut parts = text.split('.');
        let mut number = || parts.next().and_then(digits).ok_or_else(bad);
        let (job, epoch, counter) = (number()?, number()?, number()?);
        let epoch = u32::try_from(epoch).map_err(|_| bad())?;
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Lease::new(JobId(job), LeaseToken { epoch, counter }))
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Id, String> {
        digits(text).map(|id| Id(JobId(id))).ok_or_else(|| format!("{text:?} is not the id of a job"))
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        QueueName::new(text).map(Name).map_err(|error| error.to_string())
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        parse_duration(text).map(Span)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        let moment: Timestamp = text.parse().map_err(|_| {
            format!("{text:?} is not a moment: write RFC 3339, 2030-05-01T08:00:00Z or 2030-05-01T10:00:00+02:00")
        })?;
        // What is before 1970 is past like everything up to now.
        let nanos = u64::try_from(moment.as_nanosecond().max(0));
        nanos.map(|nanos| Moment(Time(nanos))).map_err(|_| format!("{text:?} is too far ahead: no later than 2554"))
    }
}

/// A number of digits alone, as it is written: no sign, no zero in front.
fn digits(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')).then_some(number)
}

/// Reads a text and makes a value of it.
struct Text<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! read_from_text {
    ($type:ty, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text::<$type>($expected, PhantomData))
            }
        }
    };
}

read_from_text!(Name, "the name of a queue");
read_from_text!(Span, "a span of time as text, such as \"90s\" or \"1m30s\"");
read_from_text!(Moment, "a moment as text, such as \"2030-05-01T08:00:00Z\"");

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&seconds_text(self.0))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = i64::try_from(self.0.0 / 1_000_000).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&Timestamp::from_millisecond(millis).map_err(serde::ser::Error::custom)?)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Lease {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a member that is there, `null` too, where a missing one is none.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// How bodies are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BodyForm {
    /// As `json` what is an object or a list, else as `text`, else as `base64`.
    #[default]
    Auto,
    /// As `json` whatever is JSON, numbers and texts too; else as `text`, else as `base64`.
    Json,
    /// As `text` what is UTF-8, else as `base64`.
    Text,
    /// As `base64`.
    Base64,
    /// Not at all.
    None,
}

/// A job's body, as one of three members.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct ShownBody {
    /// The body, where it is shown as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<Box<RawValue>>,
    /// The body, where it is shown as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    /// The body, where it is shown as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    base64: Option<String>,
}

impl ShownBody {
    pub(super) fn of(body: Box<[u8]>, form: BodyForm) -> ShownBody {
        let nothing = ShownBody::default();
        if form == BodyForm::None {
            return nothing;
        }
        let may_be_json = match form {
            BodyForm::Json => true,
            BodyForm::Auto => {
                let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
                first.is_some_and(|first| b"{[".contains(first))
            }
            _ => false,
        };
        let text = if form == BodyForm::Base64 {
            Err(body)
        } else {
            String::from_utf8(body.into()).map_err(|error| error.into_bytes().into())
        };
        match text {
            Err(bytes) => ShownBody { base64: Some(BASE64.encode(bytes)), ..nothing },
            Ok(text) if may_be_json && serde_json::from_str::<&RawValue>(&text).is_ok() => {
                let json = RawValue::from_string(text).expect("it was just read");
                ShownBody { json: Some(json), ..nothing }
            }
            Ok(text) => ShownBody { text: Some(text), ..nothing },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_typed_is_refused_or_printed_as_a_text_that_is_read_as_the_same(
            text in prop_oneof!["\\PC{0,40}", "[0-9.]{0,40}", "[0-9:TZ+.-]{0,30}", "-?[0-9]{1,20}(ns|ms|s|m|h|d)?[0-9hms .]{0,6}"],
        ) {
            if let Ok(lease) = text.parse::<Lease>() {
                prop_assert_eq!(lease.to_string(), text.clone());
            }
            if let Ok(Id(job)) = text.parse::<Id>() {
                prop_assert_eq!(job.to_string(), text.clone());
            }
            let milli = |nanos: u128| nanos / 1_000_000;
            if let Ok(moment) = text.parse::<Moment>() {
                let again: Moment = moment.to_string().parse().map_err(TestCaseError::fail)?;
                prop_assert_eq!(milli(again.0.0.into()), milli(moment.0.0.into()));
            }
            if let Ok(Span(span)) = text.parse::<Span>() {
                let again = parse_duration(&seconds_text(span)).map_err(TestCaseError::fail)?;
                prop_assert_eq!(again, span);
            }
        }
    }

    #[test]
    fn leases_and_ids_are_read_back_and_nothing_else_is() {
        let lease = Lease::new(JobId(17), LeaseToken { epoch: 3, counter: 9 });
        assert_eq!(lease.to_string().parse(), Ok(lease));
        for bad in ["", "17", "17.3", "17.3.9.1", "17.3.+9", "17.03.9", "17.3.0", "17.4294967296.1", "a.b.c", "17.3.9 "]
        {
            assert!(bad.parse::<Lease>().is_err(), "{bad}");
        }
        for bad in ["", "0", "-1", "+1", "01", "1.0", "18446744073709551616", "x"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bodies_are_shown_as_what_they_are() {
        let shown = |body: &[u8], form| serde_json::to_string(&ShownBody::of(body.into(), form)).unwrap();
        for (body, form, expected) in [
            (&b" {\"a\": 1.0e400}"[..], BodyForm::Auto, r#"{"json":{"a": 1.0e400}}"#),
            (b"5", BodyForm::Auto, r#"{"text":"5"}"#),
            (b"5", BodyForm::Json, r#"{"json":5}"#),
            (b"{5", BodyForm::Json, r#"{"text":"{5"}"#),
            (b"[1]", BodyForm::Text, r#"{"text":"[1]"}"#),
            (b"\xff", BodyForm::Text, r#"{"base64":"/w=="}"#),
            (b"ab", BodyForm::Base64, r#"{"base64":"YWI="}"#),
            (b"ab", BodyForm::None, "{}"),
            (b"", BodyForm::Auto, r#"{"text":""}"#),
        ] {
            assert_eq!(shown(body, form), expected);
        }
    }

    #[test]
    fn moments_have_milliseconds() {
        let moment: Moment = "2030-05-01T10:00:00.1239+02:00".parse().unwrap();
        assert_eq!(serde_json::to_string(&moment).unwrap(), "\"2030-05-01T08:00:00.123Z\"");
        assert_eq!("1969-01-01T00:00:00Z".parse(), Ok(Moment(Time(0))));
        for bad in ["", "tomorrow", "2030-05-01", "2030-05-01T08:00:00", "3000-01-01T00:00:00Z"] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
        assert!(serde_json::to_string(&Moment(Time::NEVER)).is_ok());
    }
}
