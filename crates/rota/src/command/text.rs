//! How statistics, bodies and tables look, as text and as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use rota_client::Fields;

/// The protocol's names of fields that have another one on screen; a field's unit comes last.
const NAMES: &[(&str, &str)] = &[
    ("tube", "queue"),
    ("pri", "priority"),
    ("age", "age_s"),
    ("delay", "delay_s"),
    ("ttr", "ttr_s"),
    ("time-left", "time_left_s"),
    ("uptime", "uptime_s"),
    ("pause", "pause_s"),
    ("pause-time-left", "pause_time_left_s"),
    ("max-job-size", "max_job_bytes"),
];

/// Fields under the names of the screen, numbers and truth values as such.
pub(crate) fn object_of(fields: &Fields) -> Map<String, Value> {
    fields.iter().map(|(key, value)| (shown_name(key), value_of(key, value))).collect()
}

/// A field's name on screen.
fn shown_name(key: &str) -> String {
    match NAMES.iter().find(|(protocol, _)| *protocol == key) {
        Some((_, shown)) => (*shown).to_owned(),
        None => key.replace('-', "_"),
    }
}

/// Names and versions stay text, though they may look like numbers.
fn value_of(key: &str, text: &str) -> Value {
    let is_text = matches!(key, "name" | "tube" | "version" | "id" | "hostname" | "os" | "platform" | "key");
    // A job's id is a number, a server's is text: text unless it reads back as it was written.
    if key == "id" || !is_text {
        if let Ok(number) = text.parse::<u64>()
            && number.to_string() == text
        {
            return number.into();
        }
        if let (false, Ok(number)) = (key == "id", text.parse::<f64>())
            && number.is_finite()
        {
            return number.into();
        }
        if let Ok(truth) = text.parse::<bool>() {
            return truth.into();
        }
    }
    text.into()
}

/// Puts a body into an object: as `body` if it is UTF-8, else as `body_base64`.
pub(crate) fn put_body(object: &mut Value, body: &[u8]) {
    match std::str::from_utf8(body) {
        Ok(text) => object["body"] = text.into(),
        Err(_) => object["body_base64"] = STANDARD.encode(body).into(),
    }
}

/// What was written as base64; none if that is none.
pub(crate) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// `name: value` lines with the values below each other.
pub(crate) fn lines_of(object: &Map<String, Value>) -> String {
    let width = object.keys().map(String::len).max().unwrap_or(0);
    let line = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key:width$}  {text}"),
        other => format!("{key:width$}  {other}"),
    };
    object.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A member that is a text; `?` if it is missing.
pub(crate) fn text_of<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or("?")
}

/// A member as it is written, for a table; `?` if it is missing.
pub(crate) fn written(object: &Map<String, Value>, name: &str) -> String {
    object.get(name).map_or_else(|| String::from("?"), Value::to_string)
}

/// The members of an object in one line: `name=value`.
pub(crate) fn parts_of(object: &Map<String, Value>) -> String {
    let part = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    };
    object.iter().map(part).collect::<Vec<_>>().join(" ")
}

/// A table with a head: the first column to the left, the others, which are numbers, to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let render = |cells: Vec<&str>| {
        let mut line = format!("{:1$}", cells[0], widths[0]);
        for (cell, width) in cells.iter().zip(&widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        line.trim_end().to_owned()
    };
    let mut lines = vec![render(head.to_vec())];
    lines.extend(rows.iter().map(|row| render(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_get_the_words_and_kinds_of_the_screen() {
        let fields: Fields = [
            ("id", "7"),
            ("tube", "0815"),
            ("pri", "1024"),
            ("time-left", "3"),
            ("cmd-put", "12"),
            ("rusage-utime", "0.148125"),
            ("draining", "false"),
            ("version", "1.13"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        assert_eq!(
            Value::Object(object_of(&fields)),
            json!({
                "id": 7, "queue": "0815", "priority": 1024, "time_left_s": 3, "cmd_put": 12,
                "rusage_utime": 0.148125, "draining": false, "version": "1.13",
            })
        );
        let server: Fields = vec![("id".into(), "0123456789012345".into()), ("id".into(), "12e4567890123456".into())];
        assert!(server.iter().all(|(key, value)| value_of(key, value) == json!(value)));
    }

    #[test]
    fn a_body_that_is_no_text_is_base64() {
        let mut object = json!({});
        put_body(&mut object, b"\xff\0");
        assert_eq!(object, json!({ "body_base64": "/wA=" }));
    }

    #[test]
    fn tables_align() {
        let rows = [vec!["a-long-name".to_owned(), "1".to_owned()], vec!["b".to_owned(), "12345".to_owned()]];
        assert_eq!(table(&["QUEUE", "N"], &rows), "QUEUE            N\na-long-name      1\nb            12345");
    }
}
