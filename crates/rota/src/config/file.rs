//! The configuration file of `rota serve`: TOML, a key for every option, nothing else.
//!
//! Reads the file into texts; what they mean is for the options' own readers, so that a value is checked by one
//! rule wherever it was written. A relative `data` is relative to the working directory, as the flag is.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::options::option_named;
use super::{ConfigError, Given, Givens, Origin};

/// Reads the file at `path`.
///
/// # Errors
/// It can't be read, is not TOML, holds a key that is no option, or a value that no option could take.
pub(crate) fn read(path: &Path) -> Result<Givens, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    parse(&text, path)
}

/// Reads `text`, which stands in the file at `path`.
///
/// # Errors
/// As [`read`], of which this is the pure part.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Givens, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_path_buf(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: error.message().to_owned(),
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut givens = Givens::new();
    for (key, value) in entries {
        let line = line_of(text, key.span().start);
        let Some(option) = option_named(key.get_ref()) else {
            return Err(ConfigError::UnknownKey { path: path.to_path_buf(), line, key: key.get_ref().to_string() });
        };
        let written = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // Underscores are TOML's own; a radix other than ten is not worth a rule of its own here.
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
            DeValue::Boolean(yes) => yes.to_string(),
            other => {
                return Err(ConfigError::WrongKind {
                    path: path.to_path_buf(),
                    line,
                    key: option.name.to_owned(),
                    kind: kind_of(other).to_owned(),
                });
            }
        };
        let origin = Origin::File(path.to_path_buf(), line);
        givens.insert(option.name, Given { text: written, origin });
    }
    Ok(givens)
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// What a person calls a value of TOML that no option takes.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
        DeValue::Integer(_) => "a number that is not decimal",
        DeValue::String(_) | DeValue::Boolean(_) => "text",
    }
}
