//! Metrics by statsd: once a second, what changed since.
//!
//! Counters and timers are named as goyaad's: `put`, `next`, `cancel`, `tick`, here under the prefix `rota`; gauges give
//! the jobs by state. What can't be sent is dropped: a metrics server that is away slows nothing.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use cadence::{Counted, Gauged, StatsdClient, Timed as _, UdpMetricSink};
use rota_engine::job::JobState;
use rota_net::host::Host;
use rota_net::timings::{Sampled, Timed, Timings};
use tokio::sync::watch;

use crate::report::Failure;

const EVERY: Duration = Duration::from_secs(1);

/// A statsd server, and who sends to it.
pub(crate) struct Statsd(StatsdClient);

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
        let sink = UdpMetricSink::from(address, socket);
        let sink = sink.map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        Ok(Statsd(StatsdClient::from_sink("rota", sink)))
    }

    /// Sends until `stop` says true, and once more then.
    pub(crate) async fn run(self, host: Arc<Host>, mut stop: watch::Receiver<bool>) {
        loop {
            let stopped = tokio::time::timeout(EVERY, stop.wait_for(|stop| *stop)).await.is_ok();
            self.send(&host);
            if stopped {
                return;
            }
        }
    }

    fn send(&self, host: &Host) {
        let ((by_state, timings), _) = host.with(|shared, _| {
            (shared.engine.totals().by_state, shared.timings.as_mut().map(Timings::collect).unwrap_or_default())
        });
        for state in JobState::ALL {
            let _ = self.0.gauge(&format!("jobs.{}", state.name()), by_state[state as usize]);
        }
        for what in Timed::ALL {
            let Sampled { count, took } = &timings[what as usize];
            if *count > 0 {
                let _ = self.0.count(what.name(), *count);
            }
            for &took in took {
                let _ = self.0.time(&format!("{}.time", what.name()), took);
            }
        }
    }
}
