//! Metrics by statsd: once a second, what changed since.
//!
//! Counters and timers of commands are named as goyaad's: `put`, `next`, `cancel`, `tick`, here under the prefix `rota`. What
//! tells of jobs is named as at `/metrics`, with a dot behind `rota`; `docs/metrics.md` has the list. How long jobs waited and
//! ran is sent as timers: some that stand for all, so that a busy server sends no packet for each job. What can't be sent is
//! dropped: a metrics server that is away slows nothing.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use cadence::ext::MetricBackend;
use cadence::{BufferedUdpMetricSink, Counted, Gauged, Metric, StatsdClient, Timed as _};
use rota_engine::Totals;
use rota_engine::engine::Engine;
use rota_engine::job::JobState;
use rota_engine::queue::{QueueTotals, Times};
use rota_engine::refused::RefusedPuts;
use rota_engine::schedule::TickCounts;
use rota_engine::spans::Spans;
use rota_net::host::Host;
use rota_net::metrics::{ScheduleFigures, ShownQueue, shown, verbs};
use rota_net::timings::{Sampled, Timed, Timings};
use tokio::sync::watch;

use crate::report::Failure;

const EVERY: Duration = Duration::from_secs(1);

/// The most bytes of a datagram: what any network between carries in one piece.
const DATAGRAM_BYTES: usize = 1432;

/// The most timers sent for one histogram in one interval.
const SAMPLES: usize = 100;

/// About how many timers are sent for all queues together in one interval; a queue has at least [`LEAST_SAMPLES`].
const QUEUES_SAMPLES: usize = 1000;

const LEAST_SAMPLES: usize = 10;

/// A statsd server, who sends to it, and what it knows already.
pub(crate) struct Statsd {
    client: StatsdClient,
    sent: Sent,
}

/// What was counted until the last interval's end.
#[derive(Default)]
struct Sent {
    totals: Totals,
    times: Times,
    ticks: TickCounts,
    /// By the queue's number, which no other queue gets; of the queues that are shown.
    queues: BTreeMap<u64, Times>,
    /// The same of what was done to their jobs, and of puts that were refused.
    turns: BTreeMap<u64, (QueueTotals, RefusedPuts)>,
    /// The number of the newest queue that there was, shown or not.
    newest: u64,
    /// Puts that were refused, of all queues.
    refused: RefusedPuts,
}

impl Statsd {
    /// Makes ready to send to `host:port`.
    ///
    /// # Errors
    /// If the name can't be resolved, or there is no socket to send from.
    pub(crate) fn connect(address: &str) -> Result<Statsd, Failure> {
        let failed = |cause: std::io::Error| {
            Failure::at_run_time(format!("cannot send metrics to {address}"))
                .caused_by(cause)
                .hint("name the statsd server with --statsd HOST:PORT")
        };
        let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let sink = BufferedUdpMetricSink::with_capacity(address, socket, DATAGRAM_BYTES);
        let sink = sink.map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        Ok(Statsd { client: StatsdClient::from_sink("rota", sink), sent: Sent::default() })
    }

    /// Sends until `stop` says true, and once more then.
    pub(crate) async fn run(mut self, host: Arc<Host>, mut stop: watch::Receiver<bool>) {
        // What was counted before, as by a log that was read, is not of the first second.
        (self.sent.totals, self.sent.turns, self.sent.newest) = host.look(|shared| {
            let counted = |queue: ShownQueue| (queue.number, (queue.view.totals, queue.view.refused));
            let queues = shown(&shared.engine).into_iter().map(counted);
            (*shared.engine.totals(), queues.collect(), newest(&shared.engine))
        });
        loop {
            let stopped = tokio::time::timeout(EVERY, stop.wait_for(|stop| *stop)).await.is_ok();
            self.send(&host);
            if stopped {
                return;
            }
        }
    }

    fn send(&mut self, host: &Host) {
        let ((totals, refused, times, queues, newest, schedules, timings), _) = host.with(|shared, _| {
            let engine = &shared.engine;
            let (totals, times) = (*engine.totals(), engine.times().clone());
            let (queues, newest) = (shown(engine), newest(engine));
            let (schedules, refused) = (ScheduleFigures::of(engine), *engine.refused_puts());
            let timings = shared.timings.as_mut().map(Timings::collect).unwrap_or_default();
            (totals, refused, times, queues, newest, schedules, timings)
        });
        for what in Timed::ALL {
            let Sampled { count, took } = &timings[what as usize];
            if *count > 0 {
                let _ = self.client.count(what.name(), *count);
            }
            for &took in took {
                let _ = self.client.time(&format!("{}.time", what.name()), took);
            }
        }
        for state in JobState::ALL {
            let _ = self.client.gauge(&format!("jobs.{}", state.name()), totals.by_state[state as usize]);
        }
        let before = std::mem::replace(&mut self.sent.totals, totals);
        for (name, now, before) in [
            ("jobs_put", totals.puts, before.puts),
            ("jobs_completed", totals.completed, before.completed),
            ("jobs_cancelled", totals.cancelled, before.cancelled),
            ("jobs_expired", totals.expired, before.expired),
            ("attempts_failed", totals.turns.failed, before.turns.failed),
            ("jobs_released", totals.turns.released, before.turns.released),
            ("jobs_buried", totals.turns.buried, before.turns.buried),
            ("jobs_kicked", totals.turns.kicked, before.turns.kicked),
            ("leases_lost", totals.lost_leases, before.lost_leases),
        ] {
            if now > before {
                let _ = self.client.count(name, now - before);
            }
        }
        let before = std::mem::replace(&mut self.sent.refused, refused);
        self.refused("puts_refused", &refused, &before);
        let _ = self.client.gauge("waiting_sessions", totals.waiting);
        self.schedules(&schedules);
        let before = std::mem::replace(&mut self.sent.times, times);
        let since = since(&self.sent.times, &before);
        self.spans("job_latency", &since.latency, SAMPLES);
        self.spans("job_run", &since.run_time, SAMPLES);
        self.queues(queues);
        self.sent.newest = self.sent.newest.max(newest);
        let _ = self.client.flush();
    }

    fn refused(&self, name: &str, now: &RefusedPuts, before: &RefusedPuts) {
        for ((reason, now), (_, before)) in now.each().zip(before.each()) {
            if now > before {
                let _ = self.client.count(&format!("{name}.{reason}"), now - before);
            }
        }
    }

    fn schedules(&mut self, figures: &ScheduleFigures) {
        for (state, count) in figures.states() {
            let _ = self.client.gauge(&format!("schedules.{state}"), count);
        }
        let _ = self.client.gauge("schedule_late_seconds", figures.late.as_secs_f64());
        let before = std::mem::replace(&mut self.sent.ticks, figures.ticks);
        for ((outcome, now), (_, before)) in figures.ticks.each().zip(before.each()) {
            if now > before {
                let _ = self.client.count(&format!("schedule_ticks.{outcome}"), now - before);
            }
        }
    }

    fn queues(&mut self, queues: Vec<ShownQueue>) {
        let mut busy = Vec::new();
        let (mut sent, mut turns) = (BTreeMap::new(), BTreeMap::new());
        for ShownQueue { number, view, head_age, times } in queues {
            let name = segment(view.name.as_str());
            for (state, count) in [
                (JobState::Delayed, view.delayed),
                (JobState::Ready, view.ready),
                (JobState::Reserved, view.reserved),
                (JobState::Buried, view.buried),
                (JobState::Blocked, view.blocked),
            ] {
                let _ = self.client.gauge(&format!("queue_jobs.{name}.{}", state.name()), count);
            }
            let head_age = head_age.unwrap_or_default().as_secs_f64();
            let _ = self.client.gauge(&format!("queue_head_age_seconds.{name}"), head_age);
            let before = self.sent.turns.get(&number).copied();
            // What one counted that was there and not shown is not of this interval.
            let is_known = before.is_some() || number > self.sent.newest;
            let (before, refused) =
                before.unwrap_or(if is_known { Default::default() } else { (view.totals, view.refused) });
            for ((verb, now), (_, before)) in verbs(&view.totals).into_iter().zip(verbs(&before)) {
                if now > before {
                    let _ = self.client.count(&format!("queue_turns.{name}.{verb}"), now - before);
                }
            }
            self.refused(&format!("queue_puts_refused.{name}"), &view.refused, &refused);
            turns.insert(number, (view.totals, view.refused));
            let Some(times) = times else { continue };
            let new = self.sent.queues.get(&number).map_or_else(|| times.clone(), |before| since(&times, before));
            if is_known && new.latency.total() + new.run_time.total() > 0 {
                busy.push((name, new));
            }
            sent.insert(number, times);
        }
        (self.sent.queues, self.sent.turns) = (sent, turns);
        let most = (QUEUES_SAMPLES / (2 * busy.len()).max(1)).clamp(LEAST_SAMPLES, SAMPLES);
        for (name, new) in busy {
            self.spans(&format!("queue_latency.{name}"), &new.latency, most);
            self.spans(&format!("queue_run.{name}"), &new.run_time, most);
        }
    }

    /// Sends at most `most` timers that stand for all that was counted. The sampling rate says for how many each stands.
    fn spans(&self, name: &str, spans: &Spans, most: usize) {
        let total = spans.total();
        let rate = match total > most as u64 {
            true => format!("|@{}", most as f64 / total as f64),
            false => String::new(),
        };
        for span in spans.samples(most) {
            let millis = span.as_nanos() as f64 / 1e6;
            let _ = self.client.send_metric(&Line(format!("rota.{name}:{millis}|ms{rate}")));
        }
    }
}

/// A timer with a fraction of a millisecond, of which the client's own knows none.
#[derive(Debug)]
struct Line(String);

impl Metric for Line {
    fn as_metric_str(&self) -> &str {
        &self.0
    }
}

/// The number of the newest queue, 0 where there is none.
fn newest(engine: &Engine) -> u64 {
    engine.queues_after(0).next_back().map_or(0, |(number, _)| number)
}

fn since(now: &Times, before: &Times) -> Times {
    Times { latency: now.latency.since(&before.latency), run_time: now.run_time.since(&before.run_time) }
}

/// A queue's name as one part of a metric's: what may mean something to a statsd is an underscore there.
fn segment(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
