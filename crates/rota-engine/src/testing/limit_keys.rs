//! What is promised for each limit key, found by counting what was handed out: it holds whatever the engine and the model
//! agree on.

use super::model::{Model, Outcome};
use super::workload::{Input, Request};
use crate::command::{Answer, Delivered};
use crate::job::{JobId, QueueName, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// When jobs of each limit key were handed out to who asked for any, since its buckets were full, as far back as is needed.
#[derive(Clone, Debug, Default)]
pub struct HandedOut(BTreeMap<(QueueName, Box<str>), VecDeque<Time>>);

impl HandedOut {
    /// Takes note of what came of an input.
    ///
    /// # Panics
    /// If more jobs of a key are held than may be, or more were handed out than its bucket had tokens for.
    pub fn check(&mut self, model: &Model, input: &Input, outcome: &Outcome) {
        let is_any = matches!(input, Input::Ask(_, Request::Reserve { .. }));
        let answered = outcome.answer.as_ref().and_then(|answer| match answer {
            Ok(Answer::Reserved(job, _)) if is_any => Some(*job),
            _ => None,
        });
        let delivered = outcome.deliveries.iter().filter_map(|(_, what)| match what {
            Delivered::Job { job, .. } => Some(*job),
            _ => None,
        });
        let jobs: Vec<JobId> = answered.into_iter().chain(delivered).collect();
        let mut keys = BTreeSet::new();
        for id in jobs {
            // One may have been lost and have come to its end by now.
            let Some(job) = model.jobs().get(&id) else { continue };
            if let Some(key) = &job.terms.limit_key {
                let key = (job.queue.clone(), key.clone());
                self.0.entry(key.clone()).or_default().push_back(model.now());
                keys.insert(key);
            }
        }
        match input {
            // Some of them may have been handed out by what was said before.
            Input::Ask(_, Request::Configure { queue, .. }) => self.0.retain(|(of, _), _| of != queue),
            // It is given whatever holds for its key.
            Input::Ask(_, Request::ReserveJob(_)) => {}
            _ => keys.iter().for_each(|key| check_held(model, key)),
        }
        self.0.retain(|(queue, key), times| check_rate(model, queue, key, times));
    }
}

fn check_held(model: &Model, (queue, key): &(QueueName, Box<str>)) {
    let most = model.queues()[queue].settings.per_key.and_then(|per_key| per_key.concurrency);
    let held = model.held_of_key(queue, key);
    assert!(most.is_none_or(|most| held <= u64::from(most)), "{held} jobs of limit key {key} of {queue} are held");
}

/// Of any `count + 1` in a row the last is at least `per / count` behind the first. Returns whether there is a rate at all.
fn check_rate(model: &Model, queue: &QueueName, key: &str, times: &mut VecDeque<Time>) -> bool {
    let settings = model.queues().get(queue).and_then(|queue| queue.settings.per_key);
    let Some(rate) = settings.and_then(|per_key| per_key.rate) else { return false };
    let each = rate.per / rate.count;
    while times.len() > rate.count as usize {
        let (first, last) = (times[0], times[rate.count as usize]);
        assert!(last.since(first) >= each, "limit key {key} of {queue} had {} within {each:?}", rate.count + 1);
        times.pop_front();
    }
    true
}
