//! What is measured, as OpenMetrics text; `docs/grafana.json` draws it. Every value is a counter that is kept anyway: nothing is scanned.

use crate::beanstalkd::Verb;
use crate::host::Host;
use crate::http::{Counts, Took, WebhookFigures};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rota_engine::engine::Engine;
use rota_engine::job::JobState;
use rota_engine::queue::{QueueTotals, QueueView, Times, Turns};
use rota_engine::schedule::TickCounts;
use rota_engine::spans::Spans;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many queues have numbers of their own: each has some dozens.
const QUEUES: usize = 100;

/// All metrics at this moment.
#[must_use]
pub fn render(host: &Arc<Host>, http: &Counts, listeners: usize, webhooks: Vec<WebhookFigures>) -> String {
    let mut registry = Registry::default();
    let answers = [2, 3, 4, 5].map(|hundreds| (hundreds, http.answers[hundreds - 2].load(Ordering::Relaxed)));
    let connections = http.connections.load(Ordering::Relaxed);
    let refused_connections = http.refused_connections.load(Ordering::Relaxed);
    let (streams, listeners) = (http.lease_streams.load(Ordering::Relaxed), listeners as u64);
    let host = host.clone();
    let durations = http.durations.all();
    let measured =
        Measured { host, answers, durations, connections, refused_connections, streams, listeners, webhooks };
    registry.register_collector(Box::new(measured));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes all that is written");
    text
}

struct Measured {
    host: Arc<Host>,
    /// Answers over HTTP by the hundreds of their status.
    answers: [(usize, u64); 4],
    /// How long requests over HTTP took.
    durations: Vec<Took>,
    /// Connections of HTTP.
    connections: u64,
    /// Those that were closed at once.
    refused_connections: u64,
    /// Streams of leases.
    streams: u64,
    /// Clients that listen to events.
    listeners: u64,
    webhooks: Vec<WebhookFigures>,
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (totals, refused, queues, commands, connections, snapshots, times, shown, schedules) =
            self.host.look(|shared| {
                let commands = Verb::ALL.map(|verb| (verb, shared.beanstalkd.commands(verb)));
                let counted = &shared.beanstalkd;
                let connections = (counted.connections, counted.total_connections, counted.refused_connections);
                let snapshots = (shared.snapshots, shared.engine.snapshot_bytes());
                let (times, shown) = (shared.engine.times().clone(), shown(&shared.engine));
                let schedules = ScheduleFigures::of(&shared.engine);
                let totals = *shared.engine.totals();
                let queues = (shared.engine.queue_count(), shared.engine.most_queues());
                let refused = *shared.engine.refused_puts();
                (totals, refused, queues, commands, connections, snapshots, times, shown, schedules)
            });

        let mut jobs = encoder.encode_descriptor("rota_jobs", "Open jobs by state", None, MetricType::Gauge)?;
        for state in JobState::ALL {
            let labels = [("state", state.name())];
            ConstGauge::new(totals.by_state[state as usize]).encode(jobs.encode_family(&labels)?)?;
        }
        let mut verbs =
            encoder.encode_descriptor("rota_commands", "Well-formed commands", None, MetricType::Counter)?;
        for (verb, count) in commands {
            let labels = [("command", verb.word())];
            ConstCounter::new(count).encode(verbs.encode_family(&labels)?)?;
        }
        let (name, help) = ("rota_puts_refused", "Puts that were refused, by why");
        let mut puts = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, count) in refused.each() {
            ConstCounter::new(count).encode(puts.encode_family(&[("reason", reason)])?)?;
        }
        let mut answers =
            encoder.encode_descriptor("rota_http_answers", "Answers over HTTP by status", None, MetricType::Counter)?;
        for (hundreds, count) in self.answers {
            let labels = [("status", format!("{hundreds}xx"))];
            ConstCounter::new(count).encode(answers.encode_family(&labels)?)?;
        }
        for (name, help, count) in [
            ("rota_jobs_put", "Jobs put", totals.puts),
            ("rota_jobs_completed", "Jobs completed by their holder", totals.completed),
            ("rota_jobs_cancelled", "Jobs called off by others", totals.cancelled),
            ("rota_jobs_expired", "Jobs that were not begun in time", totals.expired),
            ("rota_attempts_failed", "Attempts that failed", totals.turns.failed),
            ("rota_jobs_released", "Times that a holder gave a job back", totals.turns.released),
            ("rota_jobs_buried", "Times that a job was set aside", totals.turns.buried),
            ("rota_jobs_kicked", "Times that a job was kicked", totals.turns.kicked),
            ("rota_leases_lost", "Leases that ran out", totals.lost_leases),
            ("rota_snapshots_taken", "Snapshots that are whole", snapshots.0.taken),
            ("rota_snapshots_failed", "Snapshots that failed", snapshots.0.failed),
            ("rota_connections_opened", "Connections of the beanstalkd protocol", connections.1),
            ("rota_connections_refused", "The same, of addresses that had as many as they may", connections.2),
            (
                "rota_http_connections_refused",
                "Connections of HTTP of addresses that had as many as they may",
                self.refused_connections,
            ),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(descriptor)?;
        }
        for (name, help, value) in [
            ("rota_queues", "Queues that exist", queues.0 as u64),
            ("rota_queues_limit", "Queues that may exist", queues.1 as u64),
            ("rota_connections", "Open connections of the beanstalkd protocol", connections.0),
            ("rota_http_connections", "Open connections of HTTP", self.connections),
            ("rota_lease_streams", "Streams over HTTP that hand out jobs", self.streams),
            ("rota_event_listeners", "Clients that listen to events", self.listeners),
            ("rota_snapshot_bytes", "Length of the newest snapshot", snapshots.0.newest_bytes),
            ("rota_snapshot_backlog_bytes", "Bytes of a snapshot under way that wait to be taken", snapshots.1 as u64),
            ("rota_waiting_sessions", "Sessions that wait for a job", totals.waiting),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(descriptor)?;
        }
        encode_durations(&mut encoder, &self.durations)?;
        encode_webhooks(&mut encoder, &self.webhooks)?;
        encode_schedules(&mut encoder, &schedules)?;
        encode_times(&mut encoder, &times)?;
        encode_queues(&mut encoder, &shown)?;
        self.encode_log(&mut encoder)
    }
}

/// A queue that has numbers of its own, here and at a statsd.
#[derive(Debug)]
pub struct ShownQueue {
    /// Its number, which no other queue gets.
    pub number: u64,
    /// Its counts.
    pub view: QueueView,
    /// How long its jobs waited and ran, if any did.
    pub times: Option<Times>,
    /// How long its first ready job has been due, if there is one.
    pub head_age: Option<Duration>,
}

/// The first queues in the order in which they came to be.
#[must_use]
pub fn shown(engine: &Engine) -> Vec<ShownQueue> {
    let queues = engine.queues_after(0).take(QUEUES).map(|(number, id)| ShownQueue {
        number,
        view: engine.queue(id),
        times: engine.times_of(id).cloned(),
        head_age: engine.head_age(id),
    });
    queues.collect()
}

/// What happened to jobs of a queue since it came to be, by verb, here and to a statsd.
#[must_use]
pub fn verbs(totals: &QueueTotals) -> [(&'static str, u64); 9] {
    let Turns { failed, released, buried, kicked } = totals.turns;
    [
        ("put", totals.puts),
        ("completed", totals.completed()),
        ("cancelled", totals.cancelled),
        ("expired", totals.expired),
        ("failed", failed),
        ("released", released),
        ("buried", buried),
        ("kicked", kicked),
        ("lost", totals.lost_leases),
    ]
}

/// What is told of schedules, here and to a statsd: of all of them together.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScheduleFigures {
    /// Those that wait for a tick.
    pub waiting: u64,
    /// The others: they are paused, or have no tick any more.
    pub idle: u64,
    /// For how long the tick has waited for its turn that waits longest.
    pub late: Duration,
    /// What came of ticks since the server was started.
    pub ticks: TickCounts,
}

impl ScheduleFigures {
    /// As of now.
    #[must_use]
    pub fn of(engine: &Engine) -> ScheduleFigures {
        let waiting = engine.schedules_in_line();
        let idle = (engine.schedule_count() - waiting) as u64;
        ScheduleFigures { waiting: waiting as u64, idle, late: engine.tick_late(), ticks: *engine.tick_counts() }
    }

    /// How many there are, by whether they wait for a tick.
    #[must_use]
    pub fn states(&self) -> [(&'static str, u64); 2] {
        [("waiting", self.waiting), ("idle", self.idle)]
    }
}

/// The names and the helps of the histograms of all jobs, then of those of each queue.
const LATENCY: [(&str, &str); 2] = [
    ("rota_job_latency_seconds", "From when a job was due until it was handed out for the first time"),
    ("rota_queue_latency_seconds", "The same by queue"),
];
const RUN_TIME: [(&str, &str); 2] = [
    ("rota_job_run_seconds", "From when a job was handed out until its holder completed it"),
    ("rota_queue_run_seconds", "The same by queue"),
];

fn encode_durations(encoder: &mut DescriptorEncoder<'_>, durations: &[Took]) -> Result<(), fmt::Error> {
    let (name, help) = ("rota_http_request_seconds", "How long requests took until their answer began");
    let mut requests = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for Took { route, method, class, spans } in durations {
        let labels = [("route", route.clone()), ("method", (*method).to_owned()), ("status", format!("{class}xx"))];
        encode_spans(&mut requests.encode_family(&labels)?, spans)?;
    }
    Ok(())
}

fn encode_webhooks(encoder: &mut DescriptorEncoder<'_>, webhooks: &[WebhookFigures]) -> Result<(), fmt::Error> {
    let (name, help) = ("rota_webhook_deliveries", "Calls of webhooks by what came of them");
    let mut calls = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for webhook in webhooks {
        for (outcome, count) in webhook.calls {
            let labels = [("webhook", webhook.name.as_str()), ("outcome", outcome)];
            ConstCounter::new(count).encode(calls.encode_family(&labels)?)?;
        }
    }
    let (name, help) = ("rota_webhook_events_delivered", "Events that webhooks were called with, and took");
    let mut delivered = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for webhook in webhooks {
        let labels = [("webhook", webhook.name.as_str())];
        ConstCounter::new(webhook.delivered).encode(delivered.encode_family(&labels)?)?;
    }
    let (name, help) = ("rota_webhook_lag_seconds", "How old the oldest event is that a webhook is being called with");
    let mut lags = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for webhook in webhooks {
        let lag = webhook.lag.as_secs_f64();
        ConstGauge::new(lag).encode(lags.encode_family(&[("webhook", webhook.name.as_str())])?)?;
    }
    let (name, help) = ("rota_webhook_paused", "Whether a webhook is paused (1)");
    let mut paused = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for webhook in webhooks {
        let labels = [("webhook", webhook.name.as_str())];
        ConstGauge::new(u64::from(webhook.is_paused)).encode(paused.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_schedules(encoder: &mut DescriptorEncoder<'_>, figures: &ScheduleFigures) -> Result<(), fmt::Error> {
    let (name, help) = ("rota_schedules", "Schedules by whether they wait for a tick");
    let mut schedules = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (state, count) in figures.states() {
        ConstGauge::new(count).encode(schedules.encode_family(&[("state", state)])?)?;
    }
    let (name, help) = ("rota_schedule_ticks", "Ticks of schedules by what came of them");
    let mut ticks = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (outcome, count) in figures.ticks.each() {
        ConstCounter::new(count).encode(ticks.encode_family(&[("outcome", outcome)])?)?;
    }
    let (name, help) =
        ("rota_schedule_late_seconds", "For how long the tick has waited for its turn that waits longest");
    let late = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(figures.late.as_secs_f64()).encode(late)
}

fn encode_times(encoder: &mut DescriptorEncoder<'_>, times: &Times) -> Result<(), fmt::Error> {
    for ([(name, help), _], spans) in [(LATENCY, &times.latency), (RUN_TIME, &times.run_time)] {
        let mut all = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        encode_spans(&mut all, spans)?;
    }
    Ok(())
}

fn encode_queues(encoder: &mut DescriptorEncoder<'_>, queues: &[ShownQueue]) -> Result<(), fmt::Error> {
    let (name, help) = ("rota_queue_jobs", "Open jobs by queue and state, of the first 100 queues");
    let mut jobs = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for ShownQueue { view, .. } in queues {
        let counts = [
            (JobState::Delayed, view.delayed),
            (JobState::Ready, view.ready),
            (JobState::Reserved, view.reserved),
            (JobState::Buried, view.buried),
            (JobState::Blocked, view.blocked),
        ];
        for (state, count) in counts {
            let labels = [("queue", view.name.as_str()), ("state", state.name())];
            ConstGauge::new(count).encode(jobs.encode_family(&labels)?)?;
        }
    }
    let (name, help) = ("rota_queue_turns", "What was done to jobs, by queue and verb, of the first 100 queues");
    let mut turns = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for ShownQueue { view, .. } in queues {
        for (verb, count) in verbs(&view.totals) {
            let labels = [("queue", view.name.as_str()), ("verb", verb)];
            ConstCounter::new(count).encode(turns.encode_family(&labels)?)?;
        }
    }
    let (name, help) = ("rota_queue_puts_refused", "Puts that were refused, by queue and why, once one was");
    let mut refused = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for ShownQueue { view, .. } in queues {
        for (reason, count) in view.refused.each().filter(|(_, count)| *count > 0) {
            let labels = [("queue", view.name.as_str()), ("reason", reason)];
            ConstCounter::new(count).encode(refused.encode_family(&labels)?)?;
        }
    }
    let (name, help) = ("rota_queue_head_age_seconds", "For how long the first ready job has been due, by queue");
    let mut ages = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for ShownQueue { view, head_age, .. } in queues {
        let age = head_age.unwrap_or_default().as_secs_f64();
        ConstGauge::new(age).encode(ages.encode_family(&[("queue", view.name.as_str())])?)?;
    }
    for ([_, (name, help)], of) in
        [(LATENCY, (|times| &times.latency) as fn(&Times) -> &Spans), (RUN_TIME, |times| &times.run_time)]
    {
        let mut spans = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for ShownQueue { view, times, .. } in queues {
            if let Some(times) = times {
                encode_spans(&mut spans.encode_family(&[("queue", view.name.as_str())])?, of(times))?;
            }
        }
    }
    Ok(())
}

fn encode_spans(encoder: &mut MetricEncoder<'_>, spans: &Spans) -> Result<(), fmt::Error> {
    let bound = |bound: Option<Duration>| bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64());
    let buckets: Vec<(f64, u64)> = spans.buckets().map(|(until, count)| (bound(until), count)).collect();
    encoder.encode_histogram::<NoLabelSet>(spans.sum().as_secs_f64(), spans.total(), &buckets, None)
}

impl Measured {
    fn encode_log(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(log) = self.host.log_figures() else { return Ok(()) };
        let keeper = self.host.keeper_figures();
        let (live, cold, left, far_segments) = self.host.look(|shared| {
            let engine = &shared.engine;
            (engine.live_bytes(), engine.cold_jobs(), engine.jobs_left(), engine.far_segments().count() as u64)
        });
        for (name, help, count) in [
            ("rota_log_records_written", "Records given to the kernel", log.stats.records_written),
            ("rota_log_groups_written", "Groups of records, each written at once", log.stats.groups_written),
            ("rota_log_bytes_written", "Bytes given to the kernel", log.stats.bytes_written),
            ("rota_log_syncs", "Syncs of a segment", log.stats.syncs),
            ("rota_log_compactions", "Segments whose open jobs were written again", keeper.compactions),
            ("rota_log_jobs_kept", "Jobs that were written again", keeper.jobs_kept),
            ("rota_jobs_left_memory", "Jobs far ahead that left memory", left),
            ("rota_log_segments_retired", "Segments that a start needs no longer", log.stats.retired),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(descriptor)?;
        }
        for (name, help, value) in [
            ("rota_log_bytes", "Length of the log that a start reads", log.stats.bytes),
            ("rota_log_segments", "Segments that a start reads", log.stats.segments),
            (
                "rota_log_live_bytes",
                "Length of the records that all open jobs would fill, but for those far ahead",
                live,
            ),
            ("rota_jobs_not_in_memory", "Delayed jobs that are not in memory", cold),
            ("rota_far_segments", "Segments that no start reads, with jobs that are not in memory", far_segments),
            ("rota_log_history_bytes", "Length of the segments that are kept as history", keeper.history_bytes),
            ("rota_log_room_bytes", "Bytes that can be written before the disk must give more", log.stats.room),
            ("rota_log_disk_full", "Whether the disk had no room to set aside (1)", keeper.is_disk_full.into()),
            ("rota_log_written_lsn", "The newest record that the kernel has", log.written.0),
            ("rota_log_durable_lsn", "The newest record that the disk has", log.durable.0),
            ("rota_log_unwritten_bytes", "Bytes decided and not yet written", self.host.unwritten_bytes()),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(descriptor)?;
        }
        Ok(())
    }
}
