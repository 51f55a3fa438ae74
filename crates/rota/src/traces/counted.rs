//! What was lost on the way to the collector, counted and told of: the SDK itself drops in silence.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

/// How many spans wait to be sent, if `OTEL_BSP_MAX_QUEUE_SIZE` says nothing: a job is three, and each request over HTTP one.
const QUEUED_SPANS: usize = 16_384;

/// How often losses are told of.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What was lost since it was told of last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Spans that found the queue full.
    dropped: AtomicU64,
    /// Spans that the collector did not take.
    failed: AtomicU64,
    /// Jobs that were not followed, since too many were.
    unfollowed: AtomicU64,
    /// Times that events were lost.
    lagged: AtomicU64,
    last: Mutex<Option<Instant>>,
    /// Whether the collector did not take the last request.
    is_refused: Mutex<Option<String>>,
}

impl Told {
    /// A request was not taken; told of at once where the one before was, or for another reason.
    pub(super) fn refused(&self, to: &str, cause: &str) {
        let mut before = self.is_refused.lock().unwrap_or_else(PoisonError::into_inner);
        if before.as_deref() != Some(cause) {
            rota_net::note!("rota: traces: {to} does not take them: {cause}");
            *before = Some(cause.to_owned());
        }
    }

    fn taken(&self) {
        let mut before = self.is_refused.lock().unwrap_or_else(PoisonError::into_inner);
        if before.take().is_some() {
            rota_net::note!("rota: traces: they are taken again");
        }
    }

    pub(super) fn unfollowed(&self) {
        self.unfollowed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lagged(&self) {
        self.lagged.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells of what was lost, if that was not done a short while ago.
    pub(super) fn tell(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= TELL_EVERY)
            && let Some(text) = self.losses()
        {
            *last = Some(Instant::now());
            rota_net::note!("rota: traces: {text}");
        }
    }

    /// Tells of what is left to tell, at the end, and of what failed then.
    pub(super) fn tell_rest(&self, failed: Option<String>) {
        if let Some(failed) = failed {
            rota_net::note!("rota: traces: the last of them may be lost: {failed}");
        }
        if let Some(text) = self.losses() {
            rota_net::note!("rota: traces: {text}");
        }
    }

    /// What was lost since the last call, if anything was.
    fn losses(&self) -> Option<String> {
        let taken = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let losses = [
            (taken(&self.failed), "spans that the collector did not take"),
            (taken(&self.dropped), "spans that came faster than they were taken"),
            (taken(&self.unfollowed), "jobs that were not followed, since too many are"),
            (taken(&self.lagged), "times that events came faster than they were followed"),
        ];
        let texts = losses.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let text = texts.collect::<Vec<_>>().join(", ");
        (!text.is_empty()).then(|| format!("lost {text}"))
    }
}

/// The SDK's batches, with a count of what is on its way into them.
#[derive(Debug)]
pub(super) struct Counted {
    batches: BatchSpanProcessor,
    queued: Arc<AtomicUsize>,
    most: usize,
    told: Arc<Told>,
}

impl Counted {
    pub(super) fn new(exporter: Otlp, told: Arc<Told>) -> Counted {
        let given = std::env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok().and_then(|text| text.parse().ok());
        let most = given.filter(|most| *most > 0).unwrap_or(QUEUED_SPANS);
        let queued = Arc::new(AtomicUsize::new(0));
        let exporter = Exporter { exporter, queued: queued.clone(), told: told.clone() };
        let config = BatchConfigBuilder::default().with_max_queue_size(most).build();
        Counted { batches: BatchSpanProcessor::builder(exporter).with_batch_config(config).build(), queued, most, told }
    }
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.queued.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            self.told.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// What batches are given to.
#[derive(Debug)]
struct Exporter {
    exporter: Otlp,
    queued: Arc<AtomicUsize>,
    told: Arc<Told>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.queued.fetch_sub(count, Ordering::Relaxed);
        let exported = self.exporter.export(batch).await;
        match exported {
            Ok(()) => self.told.taken(),
            Err(_) => drop(self.told.failed.fetch_add(count as u64, Ordering::Relaxed)),
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
