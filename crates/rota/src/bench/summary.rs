//! The report of a benchmark: as text for a person, as one JSON object for a program.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::round::Round;
use super::task::{Tally, Verb};
use super::{BenchArgs, DelayRange, Mix};
use crate::values::format_duration;
use rota_client::ServerAddress;

/// The percentiles that are reported, with their names in JSON.
const PERCENTILES: [(f64, &str); 4] = [(50.0, "p50_us"), (90.0, "p90_us"), (99.0, "p99_us"), (99.9, "p999_us")];

/// What was asked for, and the rounds that came of it.
pub(super) struct Summary {
    head: Map<String, Value>,
    title: String,
    unit: &'static str,
    delayed: bool,
    rounds: Vec<Round>,
}

impl Summary {
    pub(super) fn new(server: &ServerAddress, args: &BenchArgs, delays: DelayRange) -> Self {
        let (mix, unit) = match args.mix {
            Mix::Put => ("put", "puts"),
            Mix::Cycle => ("cycle", "cycles"),
            Mix::Delayed => ("delayed", "jobs"),
            Mix::Cancel => ("cancel", "deletes"),
        };
        let mut head = json!({
            "mix": mix, "server": server.to_string(), "connections": args.connections, "depth": args.depth,
            "size": args.size, "jobs": args.jobs, "threads": args.threads, "seed": args.seed, "batch": args.batch,
        });
        let plural = |number: u32, one: &str, many: &str| match number {
            1 => format!("1 {one}"),
            _ => format!("{number} {many}"),
        };
        let batch = args.batch.map_or(String::new(), |jobs| format!(", batches of {jobs}"));
        let mut title = format!(
            "{mix}: {}, depth {}{batch}, {}-byte bodies, {server}",
            plural(args.connections, "connection", "connections"),
            args.depth,
            args.size,
        );
        if matches!(args.mix, Mix::Delayed | Mix::Cancel) {
            head["delay_from_ms"] = delays.from_ms.into();
            head["delay_to_ms"] = delays.to_ms.into();
            let span = |millis| format_duration(Duration::from_millis(millis));
            write!(title, ", delays {}..{}", span(delays.from_ms), span(delays.to_ms))
                .expect("a String takes all that is written");
        }
        let Value::Object(head) = head else { unreachable!("it is written as an object above") };
        Summary { head, title, unit, delayed: args.mix == Mix::Delayed, rounds: Vec::new() }
    }

    pub(super) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// One object: what was asked for, a list of rounds, and over these the median and the best.
    pub(super) fn json(&self) -> Value {
        let mut object = self.head.clone();
        let rounds: Vec<Value> = self.rounds.iter().map(|round| self.round_json(round)).collect();
        object.insert("unit".into(), self.unit.into());
        object.insert("rounds".into(), rounds.into());
        let rates = self.sorted_rates();
        object.insert("median_ops_per_s".into(), tenths(median(&rates)).into());
        object.insert("best_ops_per_s".into(), tenths(rates.last().copied().unwrap_or(0.0)).into());
        object.into()
    }

    /// A title, a line for each round, and the latencies of all rounds together.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let mut all = Tally::new();
        for (index, round) in self.rounds.iter().enumerate() {
            all.merge(&round.tally);
            let cut = if round.stopped_by_time { ", stopped by --time" } else { "" };
            let line = format!(
                "round {:<3} {:>12} {}/s   ({} in {:.2} s{cut})\n",
                index + 1,
                grouped(rate(round.operations, round.elapsed).round() as u64),
                self.unit,
                grouped(round.operations),
                round.elapsed.as_secs_f64(),
            );
            text.push_str(&line);
        }
        if self.rounds.len() > 1 {
            let rates = self.sorted_rates();
            let line = format!("median    {:>12} {}/s\n", grouped(median(&rates).round() as u64), self.unit);
            text.push_str(&line);
        }
        text.push_str("\nlatency        count       p50       p90       p99     p99.9       max\n");
        for verb in Verb::ALL {
            // In the delayed mix a reserve waits for its job to come due: that is no latency.
            text.push_str(&histogram_line(&verb.to_string(), all.latencies(verb)));
        }
        if self.delayed {
            text.push_str(&histogram_line("lateness", &all.lateness));
            text.push_str(&format!("early    {:>11}\n", grouped(all.early)));
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn round_json(&self, round: &Round) -> Value {
        let mut object = json!({
            "operations": round.operations,
            "elapsed_s": round.elapsed.as_secs_f64(),
            "ops_per_s": tenths(rate(round.operations, round.elapsed)),
            "stopped_by_time": round.stopped_by_time,
        });
        if let Some((puts, elapsed)) = round.filling {
            object["filling"] = json!({
                "operations": puts, "elapsed_s": elapsed.as_secs_f64(), "ops_per_s": tenths(rate(puts, elapsed)),
            });
        }
        let verbs = Verb::ALL.into_iter().filter(|verb| !round.tally.latencies(*verb).is_empty());
        let verbs = verbs.map(|verb| {
            let mut object = histogram_json(round.tally.latencies(verb));
            // Filling is timed apart from the measured stage.
            let elapsed = match (verb, round.filling) {
                (Verb::Put, Some((_, filling))) => filling,
                _ => round.elapsed,
            };
            object["ops_per_s"] = tenths(rate(round.tally.latencies(verb).len(), elapsed)).into();
            (verb.to_string(), object)
        });
        object["verbs"] = Value::Object(verbs.collect());
        if self.delayed {
            object["lateness"] = histogram_json(&round.tally.lateness);
            object["early"] = round.tally.early.into();
        }
        object
    }

    fn sorted_rates(&self) -> Vec<f64> {
        let mut rates: Vec<f64> = self.rounds.iter().map(|round| rate(round.operations, round.elapsed)).collect();
        rates.sort_by(f64::total_cmp);
        rates
    }
}

fn rate(operations: u64, elapsed: Duration) -> f64 {
    match elapsed.as_secs_f64() {
        0.0 => 0.0,
        seconds => operations as f64 / seconds,
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// The middle of numbers in order; of two middles their mean.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// Latencies are kept in nanoseconds and reported in microseconds.
fn histogram_json(histogram: &Histogram<u64>) -> Value {
    let micros = |nanos: u64| tenths(nanos as f64 / 1e3);
    let mut object = json!({ "count": histogram.len() });
    for (percentile, name) in PERCENTILES {
        object[name] = micros(histogram.value_at_percentile(percentile)).into();
    }
    object["max_us"] = micros(histogram.max()).into();
    object["mean_us"] = tenths(histogram.mean() / 1e3).into();
    object
}

fn histogram_line(name: &str, histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return String::new();
    }
    let mut line = format!("{name:<8} {:>11}", grouped(histogram.len()));
    let values = PERCENTILES.map(|(percentile, _)| histogram.value_at_percentile(percentile));
    for nanos in values.into_iter().chain([histogram.max()]) {
        line.push_str(&format!(" {:>9}", short_time(nanos)));
    }
    line.push('\n');
    line
}

/// Nanoseconds in the unit that leaves few digits.
fn short_time(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{:.0}us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}ms", nanos as f64 / 1e6),
        _ => format!("{:.2}s", nanos as f64 / 1e9),
    }
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(["0", "999", "1,000", "1,234,567"].map(str::to_owned), [0, 999, 1_000, 1_234_567].map(grouped));
        assert_eq!(
            ["0us", "999us", "1.50ms", "2.00s"].map(str::to_owned),
            [0, 999_000, 1_500_000, 2_000_000_000].map(short_time)
        );
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[1.0, 3.0]), median(&[1.0, 2.0, 9.0])], [0.0, 3.0, 2.0, 2.0]);
    }
}
