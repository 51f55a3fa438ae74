//! `POST /v1/leases/stream`: jobs as they come, in an answer that goes on, so many at a time as are not finished.
//!
//! What is said is the same in both forms: as server-sent events, and as lines of JSON for those who ask for
//! `application/x-ndjson`. What happens in between is with [`super::taker`].

use super::super::access::Grant;
use super::super::api::Asker;
use super::super::fields::{BodyForm, Lease, Name};
use super::super::handed::{Outgoing, Portion};
use super::super::json_line;
use super::super::problem::{Kind, Problem};
use super::super::request::Json;
use super::taker::{Part, Taker, Wish};
use super::{Leased, check_queues};
use crate::host::LeaseEnd;
use axum::Extension;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body, Frame};
use rota_engine::limits::LEASES_IN_FLIGHT;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use utoipa::ToSchema;

/// What lines of JSON are called.
const LINES: &str = "application/x-ndjson";

/// Which jobs to hand out, and how many at a time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Stream {
    /// Out of which queues: 1 to 100. The first ready job of all of them comes first.
    #[schema(min_items = 1, max_items = 100)]
    queues: Vec<Name>,
    /// The most jobs that are handed out and not finished: 1 to 1,000; 1 unless told.
    #[schema(minimum = 1, maximum = 1000)]
    max: Option<u16>,
    /// How bodies are shown.
    #[serde(default)]
    body: BodyForm,
}

/// What a stream says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[schema(as = StreamSaid)]
pub(in crate::http) enum Said {
    /// It begins.
    Open {
        /// The most jobs that are handed out and not finished.
        max: usize,
    },
    /// A job was reserved, and is held under that lease.
    Lease(Box<Leased>),
    /// A lease of this stream ended: who works on it is to stop. There is room for another one.
    Ended {
        lease: Lease,
        /// Whether its time was over; else somebody ended it.
        ran_out: bool,
        /// Why it ended: `lost` where its time was over; `completed`, `cancelled`, `buried`, or `released` where the job waits
        /// again.
        reason: LeaseEnd,
    },
    /// Nothing was said for a while. Among server-sent events it is a comment.
    Quiet,
    /// It ends.
    End {
        reason: Why,
        /// In words.
        detail: String,
    },
}

/// Why a stream ends.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = StreamEnd)]
pub(in crate::http) enum Why {
    /// The server stops.
    Stopping,
    /// The token is valid no more.
    Token,
    /// So many leases ran out in a row that the client is taken for gone.
    Unheard,
}

impl Said {
    fn kind(&self) -> &'static str {
        match self {
            Said::Open { .. } => "open",
            Said::Lease(_) => "lease",
            Said::Ended { .. } => "ended",
            Said::Quiet => "quiet",
            Said::End { .. } => "end",
        }
    }
}

/// Hands out jobs as they come
///
/// An answer that goes on, and has jobs as they come, as long as fewer than `max` of them are not finished: the next one comes when
/// a lease of the stream ends, whoever ends it. Each is held by whoever has its text, as those of `POST /v1/leases` are, and is to
/// be completed, failed, released or buried by another request, or begun anew with `touch`. Server-sent events, or, with
/// `accept: application/x-ndjson`, an object a line.
///
/// Whoever closes the connection keeps what they were told of; what was on its way goes back without fault. Nothing more is
/// handed out to who takes nothing, and who has not taken a job when half of its `ttr` is over is cut off.
#[utoipa::path(post, path = "/v1/leases/stream", tag = "leases", operation_id = "streamJobs", request_body = Stream,
    responses((status = 200, description = "The jobs.",
        content((Said = "text/event-stream"), (Said = "application/x-ndjson")))))]
pub(in crate::http) async fn stream(
    api: Asker,
    headers: HeaderMap,
    Extension(outgoing): Extension<Arc<Outgoing>>,
    Json(request): Json<Stream>,
) -> Result<Response, Problem> {
    let wish = request.check(api.grant())?;
    let taker = Taker::open(&api, outgoing.clone(), wish).await?;
    let form = Form::asked_for(&headers);
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static(form.name())),
        // A proxy that collects an answer before it goes on would hold jobs back.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let next = Some(next(taker, form));
    Ok((head, axum::body::Body::new(Streamed { form, outgoing, next })).into_response())
}

impl Stream {
    fn check(self, grant: &Grant) -> Result<Wish, Problem> {
        let Stream { queues, max, body } = self;
        let queues = check_queues(queues, grant)?;
        let max = usize::from(max.unwrap_or(1));
        if !(1..=LEASES_IN_FLIGHT).contains(&max) {
            let detail = format!("{max} jobs: a stream hands out 1 to {LEASES_IN_FLIGHT} that are not finished");
            return Err(Problem::new(Kind::BadValue, detail).at("/max"));
        }
        Ok(Wish { queues, max, body })
    }
}

/// How it is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Events,
    Lines,
}

impl Form {
    /// Lines for who names them, else events.
    fn asked_for(headers: &HeaderMap) -> Form {
        let named = headers.get_all(header::ACCEPT).iter().filter_map(|accepts| accepts.to_str().ok());
        let mut kinds = named.flat_map(|accepts| accepts.split(',')).map(|kind| kind.split(';').next().unwrap_or(kind));
        if kinds.any(|kind| kind.trim().eq_ignore_ascii_case(LINES)) { Form::Lines } else { Form::Events }
    }

    fn name(self) -> &'static str {
        match self {
            Form::Events => "text/event-stream",
            Form::Lines => LINES,
        }
    }

    fn write(self, said: &[Said]) -> Bytes {
        let mut text = String::new();
        for said in said {
            let _ = match (self, said) {
                (Form::Lines, _) => write!(text, "{}", json_line(said)),
                (Form::Events, Said::Quiet) => write!(text, ":\n\n"),
                (Form::Events, _) => write!(text, "event: {}\ndata: {}\n", said.kind(), json_line(said)),
            };
        }
        text.into()
    }
}

type Next = Pin<Box<dyn Future<Output = (Bytes, Portion, Option<Taker>)> + Send>>;

/// The body.
struct Streamed {
    form: Form,
    outgoing: Arc<Outgoing>,
    next: Option<Next>,
}

fn next(taker: Taker, form: Form) -> Next {
    Box::pin(async move {
        let Part { said, portion, rest } = taker.next().await;
        let bytes = form.write(&said);
        portion.fit(bytes.len());
        (bytes, portion, rest)
    })
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(awaited) = &mut self.next else { return Poll::Ready(None) };
        let (bytes, portion, rest) = ready!(awaited.as_mut().poll(context));
        let form = self.form;
        self.next = rest.map(|taker| next(taker, form));
        // From here on it is the connection's.
        self.outgoing.push(portion);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
