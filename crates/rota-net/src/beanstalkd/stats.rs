//! The documents: `stats`, `stats-job`, `stats-tube` and the lists, as YAML in beanstalkd's very order and quoting.
//!
//! Only [`super::Session`] calls in here. Nothing is counted on the way: all of it is read from kept counters.

use super::counters::{Counters, Verb};
use super::facts::Facts;
use rota_engine::command::JobView;
use rota_engine::engine::Engine;
use rota_engine::job::{JobState, Time};
use rota_engine::queue::QueueView;
use std::fmt::Display;
use std::time::Duration;

/// The beanstalkd whose protocol this is. Clients read it as a number.
const PROTOCOL_VERSION: &str = "1.13";

/// A document under way: lines of `key: value`, or of `- item`.
#[derive(Debug)]
pub(super) struct Document(String);

impl Document {
    pub(super) fn new() -> Document {
        Document("---\n".to_string())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn item(&mut self, item: &str) {
        self.0.extend(["- ", item, "\n"]);
    }

    fn value(&mut self, key: &str, value: impl Display) {
        self.0.extend([key, ": ", &value.to_string(), "\n"]);
    }

    /// A text. What would end it early is left out; no name has any of that in it.
    fn text(&mut self, key: &str, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
        self.value(key, format_args!("\"{text}\""));
    }

    fn seconds(&mut self, key: &str, span: Duration) {
        self.value(key, span.as_secs());
    }

    /// What is left of a span. Right after its beginning the first second counts as broken, as it is a moment later.
    fn seconds_left(&mut self, key: &str, left: Duration) {
        self.seconds(key, left.saturating_sub(Duration::from_nanos(1)));
    }

    fn seconds_with_fraction(&mut self, key: &str, span: Duration) {
        self.value(key, format_args!("{}.{:06}", span.as_secs(), span.subsec_micros()));
    }
}

/// The answer to `stats`.
pub(super) fn server(engine: &Engine, counters: &Counters, facts: &Facts, now: Time) -> Document {
    let mut document = Document::new();
    let totals = engine.totals();
    document.value("current-jobs-urgent", totals.urgent);
    for state in STATES {
        document.value(&format!("current-jobs-{}", state.name()), totals.by_state[state as usize]);
    }
    for verb in Verb::ALL {
        document.value(&format!("cmd-{}", verb.word()), counters.commands(verb));
    }
    document.value("job-timeouts", totals.lost_leases);
    document.value("total-jobs", totals.puts);
    document.value("max-job-size", facts.max_job_bytes);
    document.value("current-tubes", engine.queue_count());
    document.value("current-connections", counters.connections);
    document.value("current-producers", counters.producers);
    document.value("current-workers", counters.workers);
    document.value("current-waiting", totals.waiting);
    document.value("total-connections", counters.total_connections);
    document.value("pid", facts.pid);
    document.text("version", PROTOCOL_VERSION);
    let processor_time = (facts.processor_time)();
    document.seconds_with_fraction("rusage-utime", processor_time.user);
    document.seconds_with_fraction("rusage-stime", processor_time.system);
    document.seconds("uptime", now.since(facts.started_at));
    document.value("binlog-oldest-index", facts.log.oldest_segment);
    document.value("binlog-current-index", facts.log.current_segment);
    document.value("binlog-records-migrated", facts.log.records_migrated);
    document.value("binlog-records-written", facts.log.records_written);
    document.value("binlog-max-size", facts.log.segment_bytes);
    document.value("draining", facts.draining);
    document.value("id", format_args!("{:016x}", facts.instance));
    document.text("hostname", &facts.hostname);
    document.text("os", &facts.os);
    document.text("platform", &facts.platform);
    document.text("rota-version", facts.version);
    document.value("rota-log-bytes", facts.log.bytes);
    document.value("rota-log-live-bytes", engine.live_bytes());
    document.value("rota-log-history-bytes", facts.log.history_bytes);
    document.value("rota-log-compactions", facts.log.compactions);
    document.value("rota-disk-full", facts.log.is_disk_full);
    for (why, puts) in engine.refused_puts().each() {
        document.value(&format!("rota-puts-refused-{why}"), puts);
    }
    document
}

/// The answer to `stats-job`.
pub(super) fn job(job: &JobView<'_>, now: Time) -> Document {
    let mut document = Document::new();
    document.value("id", job.id);
    document.text("tube", job.queue.as_str());
    // Clients know four states; one that waits for others is not due yet.
    let state = if job.state == JobState::Blocked { JobState::Delayed } else { job.state };
    document.value("state", state.name());
    document.value("pri", job.priority.0);
    document.seconds("age", now.since(job.created_at));
    document.seconds("delay", job.delay);
    document.seconds("ttr", job.ttr);
    document.seconds_left("time-left", job.time_left);
    document.value("file", 0);
    document.value("reserves", job.tally.reserves);
    document.value("timeouts", job.tally.lost_leases);
    document.value("releases", job.tally.releases);
    document.value("buries", job.tally.buries);
    document.value("kicks", job.tally.kicks);
    document
}

/// The answer to `stats-tube`.
pub(super) fn tube(queue: &QueueView) -> Document {
    let mut document = Document::new();
    document.text("name", queue.name.as_str());
    document.value("current-jobs-urgent", queue.urgent);
    document.value("current-jobs-ready", queue.ready);
    document.value("current-jobs-reserved", queue.reserved);
    document.value("current-jobs-delayed", queue.delayed);
    document.value("current-jobs-buried", queue.buried);
    document.value("total-jobs", queue.totals.puts);
    document.value("current-using", queue.using);
    document.value("current-watching", queue.watching);
    document.value("current-waiting", queue.waiting);
    document.value("cmd-delete", queue.totals.deletes);
    document.value("cmd-pause-tube", queue.totals.pauses);
    document.seconds("pause", queue.pause);
    document.seconds_left("pause-time-left", queue.pause_left);
    document
}

/// beanstalkd's order of the states.
const STATES: [JobState; 4] = [JobState::Ready, JobState::Reserved, JobState::Delayed, JobState::Buried];
