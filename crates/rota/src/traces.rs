//! Traces to an OpenTelemetry collector: what `serve` needs to know of them. With the feature `otel` alone; without it, whoever
//! asks for them is told.
//!
//! ```text
//! events ────► spans::Spans ───────┬─► SDK: sampler, batches ──► collector::Collector ──► OTLP over HTTP
//!             (as a listener)         │    (a thread of its own)
//! requests ──► requests::Requests ──┘
//! ```
//!
//! It is configured by the environment variables of OpenTelemetry, which programs share. No job waits for any of it: what
//! goes too fast is dropped, counted and told of.

#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod counted;
#[cfg(feature = "otel")]
mod requests;
#[cfg(feature = "otel")]
mod spans;

/// Whether the environment asks for traces: it names a collector, and does not switch them off.
fn are_asked_for() -> bool {
    let value = |name: &str| std::env::var(name).unwrap_or_default();
    let is_named = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .iter()
        .any(|name| !value(name).is_empty());
    let is_off = value("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true") || value("OTEL_TRACES_EXPORTER") == "none";
    is_named && !is_off
}

#[cfg(not(feature = "otel"))]
pub(crate) use none::Traces;
#[cfg(feature = "otel")]
pub(crate) use sent::Traces;

/// With the feature.
#[cfg(feature = "otel")]
mod sent {
    use std::sync::Arc;
    use std::time::Duration;

    use opentelemetry::InstrumentationScope;
    use opentelemetry::KeyValue;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
    use rota_net::http::{Follower, Watcher};

    use super::collector::Collector;
    use super::counted::{Counted, Told};
    use super::requests::Requests;
    use super::spans::Spans;
    use crate::report::Failure;

    /// How long a stop waits for the collector to take what is left.
    const LAST_WAIT: Duration = Duration::from_secs(5);

    /// Where traces go.
    pub(crate) struct Traces {
        provider: SdkTracerProvider,
        told: Arc<Told>,
    }

    impl Traces {
        /// Makes ready to send, if the environment names a collector.
        ///
        /// # Errors
        /// What the environment says can't be done.
        pub(crate) fn of_environment(has_http: bool) -> Result<Option<Traces>, Failure> {
            if !super::are_asked_for() {
                return Ok(None);
            }
            if !has_http {
                rota_net::note!("rota: traces are made of the events of the HTTP port, which is off: there are none");
                return Ok(None);
            }
            for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
                match std::env::var(name) {
                    Ok(protocol) if !protocol.is_empty() && protocol != "http/protobuf" => {
                        let message = format!("{name}: {protocol:?} is not spoken to a collector");
                        return Err(Failure::wrong_usage(message).hint("set it to http/protobuf, or leave it away"));
                    }
                    _ => {}
                }
            }
            let told = Arc::new(Told::default());
            let exporter = SpanExporter::builder().with_http().with_http_client(Collector::new(told.clone())?);
            let exporter = exporter.build().map_err(|error| {
                Failure::wrong_usage(format!("cannot send traces: {error}"))
                    .hint("OTEL_EXPORTER_OTLP_ENDPOINT is the URL of a collector, as http://127.0.0.1:4318")
            })?;
            let provider = SdkTracerProvider::builder()
                .with_span_processor(Counted::new(exporter, told.clone()))
                .with_resource(resource())
                .build();
            Ok(Some(Traces { provider, told }))
        }

        /// Who makes traces of what happens.
        pub(crate) fn follower(&self) -> Box<dyn Follower> {
            Box::new(Spans::new(self.tracer(), self.told.clone()))
        }

        /// Who makes spans of requests over HTTP.
        pub(crate) fn watcher(&self) -> Arc<dyn Watcher> {
            Arc::new(Requests::new(self.tracer()))
        }

        fn tracer(&self) -> SdkTracer {
            let scope = InstrumentationScope::builder("rota").with_version(env!("CARGO_PKG_VERSION")).build();
            self.provider.tracer_with_scope(scope)
        }

        /// Sends what is left, and waits for that for a while.
        pub(crate) fn end(self) {
            let failed = self.provider.shutdown_with_timeout(LAST_WAIT).err();
            self.told.tell_rest(failed.map(|error| error.to_string()));
        }

        /// Lets go of what is left, for a process that ends at once: to drop it would be to wait.
        pub(crate) fn abandon(self) {
            std::mem::forget(self.provider);
        }
    }

    /// Who says so: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, else rota.
    fn resource() -> Resource {
        let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let is_named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
            || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|pairs| pairs.contains("service.name="));
        if is_named { resource.build() } else { resource.with_service_name("rota").build() }
    }
}

/// Without it.
#[cfg(not(feature = "otel"))]
mod none {
    use std::sync::Arc;

    use rota_net::http::{Follower, Watcher};

    use crate::report::Failure;

    /// Where traces go. There is none in a program that was built without.
    pub(crate) enum Traces {}

    impl Traces {
        /// None; whoever asks for traces is told that this program has none.
        pub(crate) fn of_environment(_has_http: bool) -> Result<Option<Traces>, Failure> {
            if super::are_asked_for() {
                rota_net::note!(
                    "rota: OTEL_EXPORTER_OTLP_ENDPOINT is set, and this program was built without traces: build it with --features otel"
                );
            }
            Ok(None)
        }

        pub(crate) fn follower(&self) -> Box<dyn Follower> {
            match *self {}
        }

        pub(crate) fn watcher(&self) -> Arc<dyn Watcher> {
            match *self {}
        }

        pub(crate) fn end(self) {
            match self {}
        }

        pub(crate) fn abandon(self) {
            match self {}
        }
    }
}
