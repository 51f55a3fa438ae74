//! Patterns of queue names: `mail*`, `*-eu`, `news`.

use rota_engine::job::QueueName;
use std::fmt;
use std::str::FromStr;

/// Which queues: a name in which each `*` stands for any characters, none among them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(Box<str>);

/// Why a text is no pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} names no queues ({reason}): write a queue's name, in which * stands for anything")]
pub struct BadPattern {
    text: String,
    reason: String,
}

impl Pattern {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names that queue. At most as many steps as the one is long times the other.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut from) = (0, 0);
        // Behind the last star, and where in the name what it stands for ends so far.
        let mut star = None;
        while from < name.len() {
            if pattern.get(at) == Some(&b'*') {
                at += 1;
                star = Some((at, from));
            } else if pattern.get(at) == Some(&name[from]) {
                (at, from) = (at + 1, from + 1);
            } else if let Some((behind, until)) = star {
                (at, from) = (behind, until + 1);
                star = Some((behind, until + 1));
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Pattern, BadPattern> {
        // The rule for names is the rule for patterns, with a star as good as a letter.
        match QueueName::new(&text.replace('*', "a")) {
            Ok(_) => Ok(Pattern(text.into())),
            Err(error) => Err(BadPattern { text: text.to_owned(), reason: error.to_string() }),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
