//! From requests over HTTP to spans: one for each, as OpenTelemetry's conventions for HTTP servers have it.
//!
//! A span ends when the head of the answer is about to be sent: a wait for a job is in it, and a stream, which may go on for
//! days, is not. It is called by the page's path, `/v1/jobs/{id}`, and has none of a request's own: ids, keys and tokens stay
//! where they are.

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span};
use rota_net::http::{Asked, Watched, Watcher};

/// Pages that are asked for again and again by who watches the server, and are no part of anybody's trace unless they say so.
const LOOKED_AT: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Methods that are called by their names; any other text could be one.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Makes spans of requests.
pub(super) struct Requests {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// A request under way.
struct Request {
    span: Span,
    is_answered: bool,
}

impl Requests {
    pub(super) fn new(tracer: SdkTracer) -> Requests {
        Requests { tracer, propagator: TraceContextPropagator::new() }
    }
}

impl Watcher for Requests {
    fn begins(&self, asked: &Asked<'_>) -> Option<Box<dyn Watched>> {
        if asked.parent.is_none() && asked.route.is_some_and(|route| LOOKED_AT.contains(&route)) {
            return None;
        }
        let is_known = METHODS.contains(&asked.method);
        let method = if is_known { asked.method.to_owned() } else { "_OTHER".to_owned() };
        let begin = if is_known { asked.method } else { "HTTP" };
        let name = asked.route.map_or_else(|| begin.to_owned(), |route| format!("{begin} {route}"));
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", if asked.is_tls { "https" } else { "http" }),
            KeyValue::new("network.protocol.version", asked.version),
        ];
        attributes.extend(asked.route.map(|route| KeyValue::new("http.route", route.to_owned())));
        let span = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let parent = self.propagator.extract_with_context(&Context::new(), &Headers(asked));
        Some(Box::new(Request { span: self.tracer.build_with_context(span, &parent), is_answered: false }))
    }
}

impl Watched for Request {
    fn answered(&mut self, status: u16) {
        self.is_answered = true;
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        // What the client did wrong is no error of the server's.
        if status >= 500 {
            self.span.set_attribute(KeyValue::new("error.type", status.to_string()));
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_answered {
            self.span.set_attribute(KeyValue::new("error.type", "client_gone"));
            self.span.end();
        }
    }
}

/// The headers of a request that a propagator reads.
struct Headers<'a>(&'a Asked<'a>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.0.parent,
            "tracestate" => self.0.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}
