//! What is measured, as OpenMetrics text. Every value is a counter that is kept anyway: nothing is scanned.

use crate::beanstalkd::Verb;
use crate::host::Host;
use crate::http::Counts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rota_engine::job::JobState;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// All metrics at this moment.
#[must_use]
pub fn render(host: &Arc<Host>, http: &Counts) -> String {
    let mut registry = Registry::default();
    let answers = [2, 3, 4, 5].map(|hundreds| (hundreds, http.answers[hundreds - 2].load(Ordering::Relaxed)));
    let measured = Measured { host: host.clone(), answers, connections: http.connections.load(Ordering::Relaxed) };
    registry.register_collector(Box::new(measured));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes all that is written");
    text
}

struct Measured {
    host: Arc<Host>,
    /// Answers over HTTP by the hundreds of their status.
    answers: [(usize, u64); 4],
    /// Connections of HTTP.
    connections: u64,
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (totals, queues, commands, connections, snapshots) = self.host.look(|shared| {
            let commands = Verb::ALL.map(|verb| (verb, shared.beanstalkd.commands(verb)));
            let connections = (shared.beanstalkd.connections, shared.beanstalkd.total_connections);
            let snapshots = (shared.snapshots, shared.engine.snapshot_bytes());
            (*shared.engine.totals(), shared.engine.queue_count(), commands, connections, snapshots)
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
            ("rota_leases_lost", "Leases that ran out", totals.lost_leases),
            ("rota_snapshots_taken", "Snapshots that are whole", snapshots.0.taken),
            ("rota_snapshots_failed", "Snapshots that failed", snapshots.0.failed),
            ("rota_connections_opened", "Connections of the beanstalkd protocol", connections.1),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(descriptor)?;
        }
        for (name, help, value) in [
            ("rota_queues", "Queues that exist", queues as u64),
            ("rota_connections", "Open connections of the beanstalkd protocol", connections.0),
            ("rota_http_connections", "Open connections of HTTP", self.connections),
            ("rota_snapshot_bytes", "Length of the newest snapshot", snapshots.0.newest_bytes),
            ("rota_snapshot_backlog_bytes", "Bytes of a snapshot under way that wait to be taken", snapshots.1 as u64),
            ("rota_waiting_sessions", "Sessions that wait for a job", totals.waiting),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(descriptor)?;
        }
        self.encode_log(&mut encoder)
    }
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
