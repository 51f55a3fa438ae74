//! What a filter says of where its jobs stand: in which queues, in which states, under which keys. Who walks over jobs by a
//! filter need look at no others.

use super::{Condition, Filter, Pattern, Text};
use rota_engine::job::{JobState, QueueName};

impl Filter {
    /// Whether it says anything of where its jobs stand.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        self.terms
            .iter()
            .any(|term| matches!(term.condition, Condition::Text(Text::Queue | Text::Key, _) | Condition::State(_)))
    }

    /// Whether jobs of that queue can be meant.
    #[must_use]
    pub fn takes_queue(&self, queue: &QueueName) -> bool {
        let name = queue.as_str().as_bytes();
        self.terms.iter().all(|term| match &term.condition {
            Condition::Text(Text::Queue, any) => any.iter().any(|pattern| pattern.is(name)) != term.is_negated,
            _ => true,
        })
    }

    /// Whether jobs in that state can be meant.
    #[must_use]
    pub fn takes_state(&self, state: JobState) -> bool {
        self.terms.iter().all(|term| match &term.condition {
            Condition::State(any) => any.contains(&state) != term.is_negated,
            _ => true,
        })
    }

    /// The only queues whose jobs can be meant, where it names them; none where it does not.
    #[must_use]
    pub fn queues(&self) -> Option<Vec<QueueName>> {
        // What can't be a queue's name is none.
        self.names(Text::Queue).map(|names| names.iter().filter_map(|name| QueueName::new(name).ok()).collect())
    }

    /// The only keys that jobs which are meant can have, where it names them; none where it does not.
    #[must_use]
    pub fn keys(&self) -> Option<Vec<&[u8]>> {
        self.names(Text::Key).map(|keys| keys.into_iter().map(str::as_bytes).collect())
    }

    /// The values of the term about that text which names the fewest, and has no stars in them.
    fn names(&self, text: Text) -> Option<Vec<&str>> {
        let named = self.terms.iter().filter_map(|term| match &term.condition {
            Condition::Text(of, any) if *of == text && !term.is_negated => {
                any.iter().map(Pattern::whole).collect::<Option<Vec<&str>>>()
            }
            _ => None,
        });
        named.min_by_key(Vec::len)
    }
}
