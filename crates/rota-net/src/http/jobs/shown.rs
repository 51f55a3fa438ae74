//! A job as the API shows it.

use super::terms::More;
use crate::http::api::moment;
use crate::http::fields::{BASE64, BodyForm, Id, Moment, Name, ShownBody, Span};
use base64::Engine as _;
use rota_engine::command::{HeldBy, JobView};
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, JobState};
use serde::Serialize;
use utoipa::ToSchema;

/// About how long a job is as it is shown that has nothing more to it, and one id in it, in bytes.
const SHOWN_BYTES: usize = 420;
const SHOWN_ID_BYTES: usize = 16;

/// About how long that part is that says who holds it, in bytes.
const HOLDER_BYTES: usize = 160;

/// A job: open, or ended and kept for a while.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Job {
    pub(in crate::http) id: Id,
    /// Where it stands in line.
    queue: Name,
    /// The client's own name for it; where that is not UTF-8, it is in `key_base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key_base64: Option<String>,
    /// Where it stands: `delayed`, `ready`, `reserved`, `buried` or `blocked`; or, as long as its queue keeps it, `done`,
    /// `cancelled` or `expired`.
    pub(in crate::http) state: &'static str,
    /// 0 is the most urgent.
    priority: u32,
    /// When it was put.
    created_at: Moment,
    /// When it is, or was, due.
    run_at: Moment,
    /// The delay last asked for.
    delay: Span,
    /// How long a lease on it lasts.
    ttr: Span,
    /// When its lease ends, while it is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    lease_ends_at: Option<Moment>,
    /// Who holds it, while it is reserved. It is not in what its holder is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    holder: Option<Holder>,
    /// Attempts that failed.
    attempts: u32,
    /// Failed attempts after which it is buried; 0 for no limit.
    max_attempts: u16,
    /// Leases given on it.
    reserves: u32,
    /// Times a holder gave it back.
    releases: u32,
    /// Leases that ran out.
    lost_leases: u32,
    /// Lost leases after which it is buried; 0 for no limit.
    max_lost_leases: u16,
    /// Times it was set aside.
    buries: u32,
    /// Times it was kicked.
    kicks: u32,
    /// Length of its body in bytes.
    pub(in crate::http) body_bytes: usize,
    #[serde(flatten)]
    more: More,
    /// Its body, where it is shown.
    #[serde(flatten)]
    body: ShownBody,
}

/// Who holds a job.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Holder {
    /// What their token is called. Absent where nobody was asked for a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "mailer")]
    pub(in crate::http) actor: Option<String>,
    /// The address and port that they had when they asked for jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "192.0.2.7:40318")]
    pub(in crate::http) peer: Option<String>,
    /// When the lease was given.
    pub(in crate::http) since: Moment,
    /// When it ends, unless it is begun anew before.
    pub(in crate::http) until: Moment,
}

/// A page of a list of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Page {
    pub(in crate::http) jobs: Vec<Job>,
    /// Where the next page begins; none where this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::http) cursor: Option<String>,
    /// Delayed jobs of all queues that are not in memory, and not in any page.
    pub(in crate::http) not_in_memory: u64,
}

/// A job that came to its end.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Ended {
    pub(in crate::http) id: Id,
}

impl Holder {
    pub(in crate::http) fn of(job: JobId, engine: &Engine) -> Option<Holder> {
        let HeldBy { actor, origin, since, until } = engine.held_by(job)?;
        Some(Holder {
            actor: actor.map(|actor| actor.as_str().to_owned()),
            peer: origin.map(str::to_owned),
            since: moment(engine, since),
            until: moment(engine, until),
        })
    }
}

impl Job {
    /// The job at this moment, without its body, as those see it who look at it: with who holds it.
    pub(in crate::http) fn seen(view: &JobView<'_>, engine: &Engine) -> Job {
        let holder = view.lease.and_then(|_| Holder::of(view.id, engine));
        Job { holder, ..Job::of(view, engine) }
    }

    /// The job at this moment, without its body.
    pub(in crate::http) fn of(view: &JobView<'_>, engine: &Engine) -> Job {
        let key = view.key.map(|key| String::from_utf8(key.to_vec()));
        let (key, key_base64) = match key {
            None => (None, None),
            Some(Ok(key)) => (Some(key), None),
            Some(Err(bytes)) => (None, Some(BASE64.encode(bytes.into_bytes()))),
        };
        Job {
            id: Id(view.id),
            queue: Name(view.queue.clone()),
            key,
            key_base64,
            state: view.state.name(),
            priority: view.priority.0,
            created_at: moment(engine, view.created_at),
            run_at: moment(engine, view.run_at),
            delay: Span::measured(view.delay),
            ttr: Span(view.ttr),
            lease_ends_at: view
                .lease
                .filter(|_| view.state == JobState::Reserved)
                .map(|(_, _, ends)| moment(engine, ends)),
            holder: None,
            attempts: view.tally.attempts,
            max_attempts: view.max_attempts,
            reserves: view.tally.reserves,
            releases: view.tally.releases,
            lost_leases: view.tally.lost_leases,
            max_lost_leases: view.max_lost_leases,
            buries: view.tally.buries,
            kicks: view.tally.kicks,
            body_bytes: view.body.length(),
            more: More::of(view, engine),
            body: ShownBody::default(),
        }
    }

    /// About how long it is as it is shown, without its body, in bytes: nothing is copied to find out.
    pub(in crate::http) fn bytes(view: &JobView<'_>) -> usize {
        let length = |text: Option<&[u8]>| text.map_or(0, <[u8]>::len);
        let mut bytes = SHOWN_BYTES + view.queue.as_str().len() + length(view.key) + length(view.progress);
        bytes += view.lease.map_or(0, |_| HOLDER_BYTES);
        if let Some(terms) = view.terms {
            bytes += length(terms.kind.as_deref().map(str::as_bytes));
            bytes += length(terms.limit_key.as_deref().map(str::as_bytes));
            bytes += terms.headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum::<usize>();
            bytes += terms.after.len() * SHOWN_ID_BYTES;
        }
        if let Some(course) = view.course {
            bytes += course.waits_for.len() * SHOWN_ID_BYTES + length(course.error.as_deref());
            bytes += course.ended.as_ref().map_or(0, |ended| length(ended.result.as_deref()));
        }
        bytes
    }

    /// Shows its body too.
    pub(in crate::http) fn show(&mut self, body: Box<[u8]>, form: BodyForm) {
        self.body = ShownBody::of(body, form);
    }
}
