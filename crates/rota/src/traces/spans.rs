//! From events to spans: a job's put, each time that it waits, each attempt.
//!
//! ```text
//! producer's span ─► put QUEUE ─┬─► wait QUEUE      due until handed out
//!  (header traceparent)         ├─► process QUEUE   handed out until done, failed, given back or lost
//!                               └─► …               the same for each attempt
//! ```
//!
//! A job whose put was not seen, as after a restart, is followed from when it is handed out; its parent is then what its
//! header says, if it has one. What is followed is bounded by [`TRACED_JOBS`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use rota_engine::job::{JobId, JobState, Time};
use rota_engine::limits::TRACED_JOBS;
use rota_engine::news::{News, NewsKind, Trace};
use rota_net::http::Follower;
use rota_net::words;

use super::counted::Told;

/// The most bytes of what went wrong that a span says.
const ERROR_BYTES: usize = 1024;

/// Makes spans of events.
pub(super) struct Spans {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    jobs: HashMap<JobId, Followed>,
    told: Arc<Told>,
    /// The wall clock at the last event.
    now: SystemTime,
}

/// A job that is followed.
struct Followed {
    queue: String,
    /// Its put, or what its header says; not valid if there is neither.
    parent: SpanContext,
    /// Since when it is ready.
    waiting: Option<SystemTime>,
    /// Since when it is held.
    attempt: Option<SystemTime>,
}

/// How an attempt ended.
struct End<'a> {
    outcome: &'static str,
    /// What went wrong, if that was it.
    wrong: Option<Wrong<'a>>,
}

struct Wrong<'a> {
    kind: &'static str,
    text: Option<&'a [u8]>,
}

impl End<'_> {
    fn well(outcome: &'static str) -> End<'static> {
        End { outcome, wrong: None }
    }
}

impl Spans {
    pub(super) fn new(tracer: SdkTracer, told: Arc<Told>) -> Spans {
        let now = SystemTime::now();
        Spans { tracer, propagator: TraceContextPropagator::new(), jobs: HashMap::new(), told, now }
    }

    fn put(&mut self, job: JobId, news: &News) {
        let queue = name_of(news);
        let mut attributes = attributes(job, &queue, "send", "put");
        if let Some(schedule) = &news.schedule {
            attributes.push(KeyValue::new("rota.schedule", schedule.name.as_str().to_owned()));
        }
        let span = SpanBuilder::from_name(format!("put {queue}"))
            .with_kind(SpanKind::Producer)
            .with_start_time(self.now)
            .with_attributes(attributes);
        let mut span = self.tracer.build_with_context(span, &self.parent_of(news.trace.as_deref()));
        let parent = span.span_context().clone();
        span.end_with_timestamp(self.now);
        // One that is put in the place of another has its id.
        if self.jobs.len() < TRACED_JOBS || self.jobs.contains_key(&job) {
            self.jobs.insert(job, Followed { queue, parent, waiting: None, attempt: None });
        } else {
            self.told.unfollowed();
        }
    }

    fn handed_out(&mut self, job: JobId, news: &News) {
        if !self.jobs.contains_key(&job) {
            // Those that are held count more than those that wait.
            if self.jobs.len() >= 2 * TRACED_JOBS {
                return self.told.unfollowed();
            }
            let parent = self.parent_of(news.trace.as_deref());
            let parent = parent.span().span_context().clone();
            self.jobs.insert(job, Followed { queue: name_of(news), parent, waiting: None, attempt: None });
        }
        let Some(followed) = self.jobs.get_mut(&job) else { return };
        followed.attempt = Some(self.now);
        if let Some(since) = followed.waiting.take() {
            let queue = &followed.queue;
            let span = SpanBuilder::from_name(format!("wait {queue}"))
                .with_kind(SpanKind::Internal)
                .with_start_time(since)
                .with_attributes(attributes(job, queue, "receive", "wait"));
            let context = Context::new().with_remote_span_context(followed.parent.clone());
            self.tracer.build_with_context(span, &context).end_with_timestamp(self.now.max(since));
        }
    }

    /// Ends the attempt, if there is one.
    fn ended(&mut self, job: JobId, reserves: Option<u32>, end: End<'_>) {
        let Some(followed) = self.jobs.get_mut(&job) else { return };
        let Some(since) = followed.attempt.take() else { return };
        let queue = &followed.queue;
        let mut attributes = attributes(job, queue, "process", "process");
        attributes.push(KeyValue::new("rota.job.outcome", end.outcome));
        if let Some(reserves) = reserves {
            attributes.push(KeyValue::new("rota.job.reserves", i64::from(reserves)));
        }
        let status = match &end.wrong {
            None if end.outcome == "completed" => Status::Ok,
            None => Status::Unset,
            Some(Wrong { kind, text }) => {
                attributes.push(KeyValue::new("error.type", *kind));
                Status::error(text.map_or_else(|| (*kind).replace('_', " "), described))
            }
        };
        let span = SpanBuilder::from_name(format!("process {queue}"))
            .with_kind(SpanKind::Consumer)
            .with_start_time(since)
            .with_attributes(attributes);
        let context = Context::new().with_remote_span_context(followed.parent.clone());
        let mut span = self.tracer.build_with_context(span, &context);
        span.set_status(status);
        span.end_with_timestamp(self.now.max(since));
    }

    /// The context that headers tell of; an empty one without them, or where they say nothing that makes sense.
    fn parent_of(&self, trace: Option<&Trace>) -> Context {
        match trace {
            Some(trace) => self.propagator.extract_with_context(&Context::new(), &Headers(trace)),
            None => Context::new(),
        }
    }
}

impl Follower for Spans {
    fn hear(&mut self, news: &News) {
        let Some(job) = news.job else { return };
        self.now = moment(news.wall);
        let reserves = news.reserves;
        let wrong = |kind| Some(Wrong { kind, text: news.error.as_deref() });
        match news.kind {
            NewsKind::JobPut | NewsKind::JobReplaced => self.put(job, news),
            NewsKind::JobReserved => self.handed_out(job, news),
            NewsKind::JobCompleted => self.ended(job, reserves, End::well("completed")),
            NewsKind::JobReleased => self.ended(job, reserves, End::well("released")),
            NewsKind::JobCancelled => self.ended(job, reserves, End::well("cancelled")),
            NewsKind::JobExpired => self.ended(job, reserves, End::well("expired")),
            NewsKind::JobFailed => self.ended(job, reserves, End { outcome: "failed", wrong: wrong("failed") }),
            NewsKind::JobBuried => self.ended(job, reserves, End { outcome: "buried", wrong: wrong("buried") }),
            NewsKind::LeaseLost => self.ended(job, reserves, End { outcome: "lost", wrong: wrong("lease_lost") }),
            NewsKind::LeaseDropped => self.ended(job, reserves, End { outcome: "lost", wrong: wrong("holder_gone") }),
            _ => {}
        }
        match news.state {
            None | Some(JobState::Done | JobState::Cancelled | JobState::Expired) => drop(self.jobs.remove(&job)),
            Some(JobState::Ready) => {
                if let Some(followed) = self.jobs.get_mut(&job) {
                    followed.waiting.get_or_insert(self.now);
                }
            }
            Some(JobState::Delayed | JobState::Buried | JobState::Blocked) => {
                if let Some(followed) = self.jobs.get_mut(&job) {
                    followed.waiting = None;
                }
            }
            Some(JobState::Reserved) => {}
        }
    }

    fn rest(&mut self) {
        self.told.tell();
    }

    fn lose(&mut self) {
        self.told.lagged();
        // What became of them meanwhile, nobody knows.
        self.jobs.clear();
    }
}

impl Drop for Spans {
    /// Attempts that go on when the server stops end for their traces: their leases do, too.
    fn drop(&mut self) {
        let held: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.attempt.is_some()).map(|(id, _)| *id).collect();
        self.now = SystemTime::now();
        for job in held {
            self.ended(job, None, End { outcome: "lost", wrong: Some(Wrong { kind: "server_stopped", text: None }) });
        }
    }
}

/// The headers of a job that a propagator reads.
struct Headers<'a>(&'a Trace);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.0.parent),
            "tracestate" => self.0.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

fn name_of(news: &News) -> String {
    news.queue.as_ref().map(|queue| queue.as_str().to_owned()).unwrap_or_default()
}

/// What OpenTelemetry's conventions for messaging have of a job.
fn attributes(job: JobId, queue: &str, kind: &'static str, name: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "rota"),
        KeyValue::new("messaging.destination.name", queue.to_owned()),
        KeyValue::new("messaging.message.id", job.0.to_string()),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.operation.name", name),
    ]
}

/// The beginning of what went wrong, as text.
fn described(text: &[u8]) -> String {
    let text = words::bare(text);
    String::from_utf8_lossy(&text[..text.len().min(ERROR_BYTES)]).into_owned()
}

fn moment(wall: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(wall.0)
}
