//! A look at a server: what `/v1/stats` and `/v1/queues` say, and the rates that follow from the look before.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cli::{Global, HttpServer};
use crate::command::http::{Asker, Unanswered, escape};
use crate::values::parse_duration;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// As many queues as a look has at most, so that neither the server nor the terminal is kept busy by it.
const MOST_QUEUES: usize = 10_000;

/// What the server said at one moment.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// As `/v1/stats` has it.
    pub(super) stats: Map<String, Value>,
    /// Puts, completions and cancels; none without a look before it, or after a restart.
    pub(super) rates: Option<[f64; 3]>,
    pub(super) queues: Vec<Queue>,
}

/// A queue in a look. Rates are per second, and none where there is nothing to compare with.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) name: String,
    /// As `/v1/queues` has it.
    pub(super) shown: Map<String, Value>,
    pub(super) puts: Option<f64>,
    pub(super) ends: Option<f64>,
}

impl Look {
    /// What was said, compared with the look before.
    pub(super) fn of(stats: Map<String, Value>, queues: Vec<Map<String, Value>>, before: Option<&Look>) -> Look {
        // A server that was started again counts from zero.
        let before = before.filter(|before| before.stats.get("started_at") == stats.get("started_at"));
        let passed = before
            .and_then(|before| span_at(&stats, &["uptime"])?.checked_sub(span_at(&before.stats, &["uptime"])?))
            .filter(|passed| !passed.is_zero());
        let rate = |now: u64, then: u64| Some(now.checked_sub(then)? as f64 / passed?.as_secs_f64());
        let total = |name| {
            let path = ["totals", name];
            rate(number(&stats, &path), number(&before?.stats, &path))
        };
        let rates = match [total("put"), total("completed"), total("cancelled")] {
            [Some(put), Some(completed), Some(cancelled)] => Some([put, completed, cancelled]),
            _ => None,
        };
        let known: HashMap<&str, &Queue> =
            before.iter().flat_map(|before| &before.queues).map(|queue| (queue.name.as_str(), queue)).collect();
        let queues = queues.into_iter().map(|shown| {
            let name = shown.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
            let total = |total| {
                let path = ["totals", total];
                rate(number(&shown, &path), known.get(name.as_str())?.number(&path))
            };
            let (puts, ends) = (total("put"), total("ended"));
            Queue { name, shown, puts, ends }
        });
        Look { queues: queues.collect(), stats, rates }
    }

    pub(super) fn number(&self, path: &[&str]) -> u64 {
        number(&self.stats, path)
    }

    pub(super) fn is(&self, path: &[&str]) -> bool {
        at(&self.stats, path).and_then(Value::as_bool) == Some(true)
    }

    pub(super) fn span(&self, path: &[&str]) -> Option<Duration> {
        span_at(&self.stats, path)
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.stats.get(name).and_then(Value::as_str).unwrap_or("?")
    }

    /// How many queues the server has that are not among those of this look.
    pub(super) fn queues_left_out(&self) -> u64 {
        // One that came or went between two requests is not left out.
        if self.queues.len() < MOST_QUEUES { 0 } else { self.number(&["queues"]).saturating_sub(MOST_QUEUES as u64) }
    }

    /// All of it, as an object.
    pub(super) fn json(&self) -> Value {
        let queues = self.queues.iter().map(|queue| {
            let mut shown = queue.shown.clone();
            if let (Some(put), Some(ended)) = (queue.puts, queue.ends) {
                shown.insert(String::from("per_second"), json!({ "put": put, "ended": ended }));
            }
            Value::Object(shown)
        });
        let mut object = json!({ "stats": self.stats });
        if let Some([put, completed, cancelled]) = self.rates {
            object["per_second"] = json!({ "put": put, "completed": completed, "cancelled": cancelled });
        }
        object["queues"] = queues.collect();
        object["queues_left_out"] = self.queues_left_out().into();
        object
    }
}

impl Queue {
    pub(super) fn number(&self, path: &[&str]) -> u64 {
        number(&self.shown, path)
    }

    pub(super) fn span(&self, path: &[&str]) -> Option<Duration> {
        span_at(&self.shown, path)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.shown.get("paused") == Some(&Value::Bool(true))
    }
}

fn at<'a>(object: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(*first)?, |value, name| value.get(name))
}

/// The number there; 0 where there is none.
fn number(object: &Map<String, Value>, path: &[&str]) -> u64 {
    at(object, path).and_then(Value::as_u64).unwrap_or(0)
}

fn span_at(object: &Map<String, Value>, path: &[&str]) -> Option<Duration> {
    parse_duration(at(object, path)?.as_str()?).ok()
}

/// Looks at a server again and again, and remembers the look before.
pub(super) struct Looker {
    asker: Asker,
    last: Option<Look>,
}

impl Looker {
    pub(super) fn new(global: &Global, server: &HttpServer) -> anyhow::Result<Looker> {
        Ok(Looker { asker: Asker::hasty(global, server, TIMEOUT)?, last: None })
    }

    pub(super) fn look(&mut self) -> Result<Look, Unanswered> {
        let stats = self.asker.look("/v1/stats", "no statistics")?;
        let mut queues = Vec::new();
        let mut cursor: Option<String> = None;
        while queues.len() < MOST_QUEUES {
            let after = cursor.map(|cursor| format!("&cursor={}", escape(&cursor))).unwrap_or_default();
            let mut page = self.asker.look(&format!("/v1/queues?limit=1000{after}"), "no queues")?;
            if let Some(Value::Array(of_page)) = page.remove("queues") {
                queues.extend(of_page.into_iter().filter_map(|queue| match queue {
                    Value::Object(queue) => Some(queue),
                    _ => None,
                }));
            }
            cursor = page.get("cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        queues.truncate(MOST_QUEUES);
        let look = Look::of(stats, queues, self.last.as_ref());
        self.last = Some(look.clone());
        Ok(look)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A look of a server that is up for so many milliseconds, with queues by name, ready jobs and puts.
    pub(in super::super) fn look(up: u64, puts: u64, queues: &[(&str, u64, u64)], before: Option<&Look>) -> Look {
        let stats = json!({
            "version": "1", "started_at": "2026-01-01T00:00:00Z", "uptime": format!("{up}ms"), "draining": false,
            "jobs": { "ready": 1 }, "totals": { "put": puts, "completed": 2, "cancelled": 0 },
        });
        let queues = queues.iter().map(|(name, ready, puts)| {
            json!({ "name": name, "jobs": { "ready": ready }, "totals": { "put": puts, "ended": 0 } })
        });
        let object = |value: Value| value.as_object().expect("an object").clone();
        Look::of(object(stats), queues.map(object).collect(), before)
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let first = look(1_000, 10, &[("a", 1, 5)], None);
        assert!(first.rates.is_none() && first.queues[0].puts.is_none());
        assert_eq!(first.json().get("per_second"), None);
        let second = look(3_000, 40, &[("b", 1, 1), ("a", 1, 6)], Some(&first));
        assert_eq!(second.rates, Some([15.0, 0.0, 0.0]));
        assert_eq!(second.queues[0].puts, None, "it was not there before");
        assert_eq!((second.queues[1].puts, second.queues[1].ends), (Some(0.5), Some(0.0)));
        assert_eq!(second.json()["queues"][1]["per_second"]["put"], 0.5);
    }

    #[test]
    fn there_are_no_rates_across_a_restart_nor_where_a_queue_was_made_anew() {
        let mut first = look(1_000, 10, &[("a", 1, 5)], None);
        assert_eq!(look(2_000, 11, &[("a", 1, 4)], Some(&first)).queues[0].puts, None);
        assert_eq!(look(1_000, 11, &[], Some(&first)).rates, None, "no time has passed");
        first.stats["started_at"] = "2025-01-01T00:00:00Z".into();
        assert_eq!(look(2_000, 11, &[("a", 1, 6)], Some(&first)).rates, None);
    }
}
