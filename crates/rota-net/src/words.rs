//! What holders say of their work: a result, an error, how far they are. Each is a text or JSON, and comes back as what it was.
//!
//! The engine keeps bytes. A text is kept as it is; JSON has a byte before it that says so, 0x1E, with which JSON begins in a
//! sequence of JSON texts (RFC 7464). A text that begins with that byte is kept as JSON, so that neither is ever taken for
//! the other. `docs/disk-format.md` says the same.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Before what is JSON.
const MARK: u8 = 0x1e;

/// What is kept of what was said, as it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept(Box<[u8]>);

impl Kept {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kept, D::Error> {
        let said = Box::<RawValue>::deserialize(deserializer)?;
        // Read as others will read it, so that what they cannot read is refused.
        let kept = match serde_json::from_str(said.get()).map_err(D::Error::custom)? {
            Value::String(text) if text.as_bytes().first() != Some(&MARK) => text,
            value if is_exact(&value) => format!("{}{value}", char::from(MARK)),
            _ => format!("{}{}", char::from(MARK), without_blanks(said.get())),
        };
        Ok(Kept(kept.into_bytes().into()))
    }
}

/// Whether all of its numbers have all their digits in memory.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        _ => true,
    }
}

/// The bytes of what was said without what says that it is JSON.
#[must_use]
pub fn bare(kept: &[u8]) -> &[u8] {
    kept.strip_prefix(&[MARK]).unwrap_or(kept)
}

/// The same JSON without blanks and line ends between its parts.
fn without_blanks(json: &str) -> String {
    let (mut in_text, mut is_escaped) = (false, false);
    let stays = |c: &char| {
        let stays = in_text || !c.is_ascii_whitespace();
        in_text ^= *c == '"' && !is_escaped;
        is_escaped = in_text && *c == '\\' && !is_escaped;
        stays
    };
    json.chars().filter(stays).collect()
}

/// What was said, out of what was kept of it. It is looked through when it is written, not before.
#[derive(Clone, Debug)]
pub struct Words<'a>(Cow<'a, [u8]>);

impl Words<'_> {
    /// A copy of what was kept.
    #[must_use]
    pub fn copied(kept: &[u8]) -> Words<'static> {
        Words(Cow::Owned(kept.to_vec()))
    }

    /// The same as a value.
    #[must_use]
    pub fn value(&self) -> Value {
        let json = self.json().and_then(|json| serde_json::from_str(json.get()).ok());
        json.unwrap_or_else(|| self.text().into_owned().into())
    }

    fn json(&self) -> Option<&RawValue> {
        let json = str::from_utf8(self.0.strip_prefix(&[MARK])?).ok()?;
        serde_json::from_str(json).ok()
    }

    /// What is no JSON; what is no UTF-8 of it, which came by no protocol of ours, is replaced.
    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl<'a> From<&'a [u8]> for Words<'a> {
    /// What was kept.
    fn from(kept: &'a [u8]) -> Words<'a> {
        Words(Cow::Borrowed(kept))
    }
}

impl Serialize for Words<'_> {
    /// A text as a text, JSON as what it is.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.json() {
            Some(json) => json.serialize(serializer),
            None => serializer.serialize_str(&self.text()),
        }
    }
}

impl fmt::Display for Words<'_> {
    /// A text as it is, JSON as it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.json() {
            Some(json) => f.write_str(json.get()),
            None => f.write_str(&self.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kept(json: &str) -> Kept {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn numbers_keep_their_digits() {
        let said = "{ \"id\\\\\":\r\n 123456789012345678901234567890, \"a \\\" b\" : [0.10,\n\" \"] }";
        let shown = r#"{"id\\":123456789012345678901234567890,"a \" b":[0.10," "]}"#;
        assert_eq!(serde_json::to_string(&Words::from(kept(said).bytes())).unwrap(), shown);
        assert_eq!(kept("[18446744073709551615,\n-1]").bytes(), b"\x1e[18446744073709551615,-1]");
        // What others could not read.
        for bad in ["1e400", &"[".repeat(1000)] {
            assert!(serde_json::from_str::<Kept>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_said_comes_back_as_it_was_said() {
        let values = [
            json!("sent"),
            json!(""),
            json!({ "a": 1 }),
            json!("{\"a\":1}"),
            json!("5"),
            json!(5),
            json!(null),
            json!("null"),
            json!([1, "two"]),
            json!(true),
            json!("\u{1e}{\"a\":1}"),
            json!("\u{1e}"),
            json!("zwölf \"Dinge\"\n"),
        ];
        for value in values {
            let kept = kept(&value.to_string());
            let words = Words::from(kept.bytes());
            assert_eq!(words.value(), value);
            assert_eq!(serde_json::to_string(&words).unwrap(), value.to_string());
            assert_eq!(serde_json::to_value(&words).unwrap(), value);
        }
    }

    #[test]
    fn what_earlier_servers_kept_is_text() {
        for kept in [&b"{\"a\":1}"[..], b"5", b"\x1e{", b"\x1e"] {
            let text = String::from_utf8(kept.to_vec()).unwrap();
            assert_eq!(Words::from(kept).value(), json!(text));
            assert_eq!(Words::from(kept).to_string(), text);
        }
        assert_eq!(Words::copied(b"\xff").to_string(), "\u{fffd}");
        assert_eq!(Words::copied(b"\x1e{\"a\":1}").to_string(), "{\"a\":1}");
        assert_eq!((bare(b"\x1e[1]"), bare(b"[1]")), (&b"[1]"[..], &b"[1]"[..]));
    }
}
