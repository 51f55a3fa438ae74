//! The filter: a small language that says which jobs are meant, `queue:mail state:buried error:"timeout" age>1h`.
//!
//! The HTTP API reads it where jobs are listed, kicked and cancelled; the command line checks what was typed by it. A filter is
//! a list of terms that must all hold. What it is held against is a `JobView` in memory; nothing here walks over jobs, takes
//! a lock or asks a clock.
//!
//! ```
//! use rota_net::filter::Filter;
//!
//! let filter: Filter = "queue:mail* !state:ready,reserved age>90m".parse().unwrap();
//! assert_eq!(filter.to_string(), "queue:mail* -state:ready,reserved age>5400s");
//! let error = "queue:mail stat:buried".parse::<Filter>().unwrap_err();
//! assert_eq!(error.to_string(), "unknown field \"stat\" at 12");
//! assert_eq!(error.hint(), "did you mean \"state\"?");
//! ```

mod error;
mod lines;
mod matches;
mod parse;
mod pattern;
mod print;
#[cfg(test)]
mod tests;

pub use error::FilterError;
use pattern::Pattern;
use rota_engine::job::{JobId, JobState, QueueName};
use std::time::Duration;

/// Which jobs: those for which all of its terms hold. None is all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    terms: Vec<Term>,
}

/// A condition, or its opposite.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Term {
    is_negated: bool,
    condition: Condition,
}

/// What has to hold. Of several values, one is enough.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Condition {
    Text(Text, Vec<Pattern>),
    Header(Box<str>, Vec<Pattern>),
    State(Vec<JobState>),
    Number(Number, Test<u64>),
    Span(Span, Test<Duration>),
    Jobs(Jobs, Vec<JobId>),
}

/// What a number or a span has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Test<T> {
    Among(Vec<T>),
    Than(Comparison, T),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Texts of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Text {
    Queue,
    Kind,
    LimitKey,
    Key,
    Error,
    Progress,
    Result,
}

/// Numbers of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Number {
    Id,
    Priority,
    Attempts,
    MaxAttempts,
    Reserves,
    Releases,
    LostLeases,
    MaxLostLeases,
    Buries,
    Kicks,
    BodyBytes,
}

/// Spans of time of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Span {
    Age,
    Due,
    Ttr,
}

/// Other jobs that a job has to do with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Jobs {
    After,
    WaitsFor,
    HeldBy,
}

/// What a field is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum About {
    Text(Text),
    Header,
    State,
    Number(Number),
    Span(Span),
    Jobs(Jobs),
}

/// A field of the language.
#[derive(Debug)]
pub struct Field {
    /// As it is written; that of a header ends in the header's own name.
    pub name: &'static str,
    /// A term with it.
    pub example: &'static str,
    /// What it means, in half a sentence.
    pub says: &'static str,
    about: About,
}

const fn field(name: &'static str, about: About, example: &'static str, says: &'static str) -> Field {
    Field { name, example, says, about }
}

/// Every field, in the order in which they are explained. Those that a job's JSON has too have its names.
pub const FIELDS: [Field; 26] = [
    field("queue", About::Text(Text::Queue), "queue:mail*", "its queue"),
    field("state", About::State, "state:buried,delayed", "where it stands"),
    field("kind", About::Text(Text::Kind), "kind:welcome", "its class of work; kind:* where it has one"),
    field("limit_key", About::Text(Text::LimitKey), "limit_key:customer-7", "whose job it is, where that is bounded"),
    field("key", About::Text(Text::Key), "key:user-42-*", "the name that it was put with"),
    field("header.NAME", About::Header, "header.trace:00-*", "its header of that name"),
    field("error", About::Text(Text::Error), "error:\"timed out\"", "what went wrong last has that in it"),
    field("progress", About::Text(Text::Progress), "progress:half", "how far its holder is has that in it"),
    field("result", About::Text(Text::Result), "result:sent", "what came of it has that in it"),
    field("id", About::Number(Number::Id), "id>100", "its id"),
    field("priority", About::Number(Number::Priority), "priority<1024", "how urgent it is: 0 most"),
    field("attempts", About::Number(Number::Attempts), "attempts>=3", "attempts that failed"),
    field("max_attempts", About::Number(Number::MaxAttempts), "max_attempts:0", "after how many it is buried"),
    field("reserves", About::Number(Number::Reserves), "reserves:0", "leases given on it"),
    field("releases", About::Number(Number::Releases), "releases>5", "times a holder gave it back"),
    field("lost_leases", About::Number(Number::LostLeases), "lost_leases>0", "leases that ran out"),
    field("max_lost_leases", About::Number(Number::MaxLostLeases), "max_lost_leases:10", "after how many it is buried"),
    field("buries", About::Number(Number::Buries), "buries>1", "times it was set aside"),
    field("kicks", About::Number(Number::Kicks), "kicks:0", "times it was kicked"),
    field("body_bytes", About::Number(Number::BodyBytes), "body_bytes>64KiB", "length of its body"),
    field("age", About::Span(Span::Age), "age>1h", "how long ago it was put"),
    field("due", About::Span(Span::Due), "due<10m", "how long until it is due; 0s where it was"),
    field("ttr", About::Span(Span::Ttr), "ttr:60s", "how long a lease on it lasts"),
    field("waits_for", About::Jobs(Jobs::WaitsFor), "waits_for:17", "it waits for one of these jobs"),
    field("held_by", About::Jobs(Jobs::HeldBy), "held_by:17", "one of these jobs came to nothing and holds it up"),
    field("after", About::Jobs(Jobs::After), "after:17", "it was put to wait for one of these jobs"),
];

impl Filter {
    /// Whether it says nothing, so that every job is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// This one and another: jobs that both take.
    #[must_use]
    pub fn and(mut self, other: Filter) -> Filter {
        self.terms.extend(other.terms);
        self
    }

    /// The only jobs that can be meant, rising and each once, where it names them by their ids; none where it does not.
    #[must_use]
    pub fn named(&self) -> Option<Vec<JobId>> {
        let mut named = self.terms.iter().find_map(|term| match &term.condition {
            Condition::Number(Number::Id, Test::Among(ids)) if !term.is_negated => Some(ids.clone()),
            _ => None,
        })?;
        named.sort_unstable();
        named.dedup();
        Some(named.into_iter().map(JobId).collect())
    }

    /// The jobs of one queue.
    #[must_use]
    pub fn of_queue(queue: &QueueName) -> Filter {
        Filter::of(Condition::Text(Text::Queue, vec![Pattern(vec![queue.as_str().to_owned()])]))
    }

    /// The jobs in one state.
    #[must_use]
    pub fn of_state(state: JobState) -> Filter {
        Filter::of(Condition::State(vec![state]))
    }

    fn of(condition: Condition) -> Filter {
        Filter { terms: vec![Term { is_negated: false, condition }] }
    }
}
