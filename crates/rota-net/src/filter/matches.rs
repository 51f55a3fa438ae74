//! Whether a job is one of those that a filter means.

use super::{Comparison, Condition, Filter, Jobs, Number, Pattern, Span, Term, Test, Text};
use crate::words;
use rota_engine::command::JobView;
use rota_engine::job::{JobId, Time};
use std::time::Duration;

impl Filter {
    /// Whether the job is meant at that moment of engine time. The bytes of texts and lists that were looked through are added to
    /// `looked_through`: whoever holds a lock meanwhile can bound them.
    #[must_use]
    pub fn takes(&self, job: &JobView<'_>, now: Time, looked_through: &mut usize) -> bool {
        self.terms.iter().all(|term| term.holds(job, now, looked_through))
    }
}

impl Term {
    fn holds(&self, job: &JobView<'_>, now: Time, looked_through: &mut usize) -> bool {
        let holds = match &self.condition {
            Condition::Text(of, any) => text(*of, job).is_some_and(|text| {
                *looked_through += text.len() * any.len();
                match of {
                    Text::Queue | Text::Kind | Text::LimitKey | Text::Key => any.iter().any(|pattern| pattern.is(text)),
                    Text::Error | Text::Progress | Text::Result => {
                        let text = words::bare(text).to_ascii_lowercase();
                        any.iter().any(|pattern| pattern.is_in(&text))
                    }
                }
            }),
            Condition::Header(name, any) => header(name, any, job, looked_through),
            Condition::State(any) => any.contains(&job.state),
            Condition::Number(of, test) => test.holds(number(*of, job)),
            Condition::Span(of, test) => test.holds(span(*of, job, now)),
            Condition::Jobs(of, any) => {
                let others = jobs(*of, job);
                *looked_through += size_of_val(others) * any.len();
                others.iter().any(|other| any.contains(other))
            }
        };
        holds != self.is_negated
    }
}

impl<T: PartialOrd> Test<T> {
    fn holds(&self, value: T) -> bool {
        match self {
            Test::Among(any) => any.contains(&value),
            Test::Than(Comparison::Less, bound) => value < *bound,
            Test::Than(Comparison::AtMost, bound) => value <= *bound,
            Test::Than(Comparison::More, bound) => value > *bound,
            Test::Than(Comparison::AtLeast, bound) => value >= *bound,
        }
    }
}

fn text<'a>(of: Text, job: &JobView<'a>) -> Option<&'a [u8]> {
    match of {
        Text::Queue => Some(job.queue.as_str().as_bytes()),
        Text::Kind => job.terms?.kind.as_deref().map(str::as_bytes),
        Text::LimitKey => job.terms?.limit_key.as_deref().map(str::as_bytes),
        Text::Key => job.key,
        Text::Error => job.course?.error.as_deref(),
        Text::Progress => job.progress,
        Text::Result => job.course?.ended.as_ref()?.result.as_deref(),
    }
}

fn header(name: &str, any: &[Pattern], job: &JobView<'_>, looked_through: &mut usize) -> bool {
    let headers = job.terms.map_or(&[][..], |terms| &terms.headers);
    headers.iter().filter(|(other, _)| **other == *name).any(|(_, value)| {
        *looked_through += value.len() * any.len();
        any.iter().any(|pattern| pattern.is(value.as_bytes()))
    })
}

fn number(of: Number, job: &JobView<'_>) -> u64 {
    match of {
        Number::Id => job.id.0,
        Number::Priority => job.priority.0.into(),
        Number::Attempts => job.tally.attempts.into(),
        Number::MaxAttempts => job.max_attempts.into(),
        Number::Reserves => job.tally.reserves.into(),
        Number::Releases => job.tally.releases.into(),
        Number::LostLeases => job.tally.lost_leases.into(),
        Number::MaxLostLeases => job.max_lost_leases.into(),
        Number::Buries => job.tally.buries.into(),
        Number::Kicks => job.tally.kicks.into(),
        Number::BodyBytes => job.body.length() as u64,
    }
}

fn span(of: Span, job: &JobView<'_>, now: Time) -> Duration {
    match of {
        Span::Age => now.since(job.created_at),
        Span::Due => job.run_at.since(now),
        Span::Ttr => job.ttr,
    }
}

fn jobs<'a>(of: Jobs, job: &JobView<'a>) -> &'a [JobId] {
    let course = job.course;
    match of {
        Jobs::After => job.terms.map_or(&[], |terms| &terms.after),
        Jobs::WaitsFor => course.map_or(&[], |course| &course.waits_for),
        Jobs::HeldBy => course.and_then(|course| course.held_by.as_ref()).map_or(&[], std::slice::from_ref),
    }
}
