//! What is agreed for a job beyond its place in line, as the API reads and shows it.

use crate::http::api::moment;
use crate::http::fields::{Id, Moment, Name, Span};
use crate::words::Words;
use rota_engine::command::{JobView, Parent};
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, QueueName};
use rota_engine::terms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

/// A job that another waits for: its id, or its queue and its key, as `mail:welcome-42`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, examples("17", "mail:welcome-42"))]
pub(in crate::http) struct ParentName(Named);

#[derive(Clone, Debug)]
enum Named {
    Id(JobId),
    Key { queue: QueueName, key: String },
}

impl TryFrom<String> for ParentName {
    type Error = String;

    fn try_from(text: String) -> Result<ParentName, String> {
        if let Some((queue, key)) = text.split_once(':') {
            let queue: Name = queue.parse()?;
            return Ok(ParentName(Named::Key { queue: queue.0, key: key.to_owned() }));
        }
        let id: Result<Id, _> = text.parse();
        id.map(|Id(job)| ParentName(Named::Id(job))).map_err(|_| {
            format!("{text:?} names no job: give the id of one, or its queue and its key, as mail:welcome-42")
        })
    }
}

impl ParentName {
    pub(in crate::http) fn parent(&self) -> Parent<'_> {
        match &self.0 {
            Named::Id(job) => Parent::Id(*job),
            Named::Key { queue, key } => Parent::Key { queue, key: key.as_bytes() },
        }
    }
}

/// What becomes of a job when one that it waits for is cancelled, or expires.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum OnParentFailure {
    /// It is cancelled too.
    #[default]
    Cancel,
    /// It goes on as if that one were done.
    Run,
    /// It stays blocked until it is kicked or cancelled.
    Hold,
}

/// How long a job waits after a failed attempt: `first` times `factor` to the power of the attempts before, at most `most`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct BackOff {
    /// After the first failed attempt.
    first: Span,
    /// What each further attempt multiplies it by: 1 to 100; 2 unless told, and 1 for a fixed back-off.
    #[serde(default = "twice")]
    #[schema(minimum = 1, maximum = 100)]
    factor: f64,
    /// The longest; `1h` unless told, or `first` where that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<Span>,
    /// By chance it is up to so many percent shorter: 0 to 100; 10 unless told.
    #[serde(default = "ten")]
    #[schema(minimum = 0, maximum = 100)]
    jitter_percent: u8,
}

fn twice() -> f64 {
    2.0
}

fn ten() -> u8 {
    10
}

impl BackOff {
    /// As the engine has it; `None` if its parts make no sense.
    pub(in crate::http) fn checked(&self) -> Option<terms::BackOff> {
        let Span(first) = self.first;
        let most = self.most.as_ref().map_or(Duration::from_secs(3600).max(first), |Span(most)| *most);
        let is_in_range = (1.0..=100.0).contains(&self.factor);
        let factor_hundredths = if is_in_range { (self.factor * 100.0).round() as u32 } else { 0 };
        let back_off = terms::BackOff { first, factor_hundredths, most, jitter_percent: self.jitter_percent };
        Some(back_off).filter(terms::BackOff::is_sound)
    }

    pub(in crate::http) fn of(back_off: &terms::BackOff) -> BackOff {
        BackOff {
            first: Span(back_off.first),
            factor: f64::from(back_off.factor_hundredths) / 100.0,
            most: Some(Span(back_off.most)),
            jitter_percent: back_off.jitter_percent,
        }
    }
}

impl From<OnParentFailure> for terms::OnParentFailure {
    fn from(policy: OnParentFailure) -> terms::OnParentFailure {
        match policy {
            OnParentFailure::Cancel => terms::OnParentFailure::Cancel,
            OnParentFailure::Run => terms::OnParentFailure::Run,
            OnParentFailure::Hold => terms::OnParentFailure::Hold,
        }
    }
}

impl From<terms::OnParentFailure> for OnParentFailure {
    fn from(policy: terms::OnParentFailure) -> OnParentFailure {
        match policy {
            terms::OnParentFailure::Cancel => OnParentFailure::Cancel,
            terms::OnParentFailure::Run => OnParentFailure::Run,
            terms::OnParentFailure::Hold => OnParentFailure::Hold,
        }
    }
}

/// What was agreed for a job, and what became of it: only what there is.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::http) struct More {
    /// The class of work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kind: Option<String>,
    /// Whose job it is, where its queue bounds what is done for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limit_key: Option<String>,
    /// Names and values that travel with it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// The jobs that it was put to wait for, of which were open then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<Id>,
    /// Those of them that are not over yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<Id>,
    /// The job that came to nothing and holds it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    held_by: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    on_parent_failure: Option<OnParentFailure>,
    /// When it expires if it was not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    back_off: Option<BackOff>,
    /// The schedule that put it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    schedule: Option<Name>,
    /// The tick at which that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tick: Option<Moment>,
    /// How far its holder is: a text or any JSON, as the holder said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    progress: Option<Words<'static>>,
    /// What went wrong in the attempt that failed last: a text or any JSON, as its holder said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Words<'static>>,
    /// When it ended, while it is kept all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ended_at: Option<Moment>,
    /// Until when it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kept_until: Option<Moment>,
    /// What came of it: a text or any JSON, as its holder said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Words<'static>>,
}

impl More {
    pub(in crate::http) fn of(view: &JobView<'_>, engine: &Engine) -> More {
        let ids = |jobs: &[JobId]| jobs.iter().copied().map(Id).collect();
        let mut more = More { progress: view.progress.map(Words::copied), ..More::default() };
        if let Some(terms) = view.terms {
            more.kind = terms.kind.as_deref().map(str::to_owned);
            more.limit_key = terms.limit_key.as_deref().map(str::to_owned);
            more.headers = terms.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            more.after = ids(&terms.after);
            more.on_parent_failure = (!terms.after.is_empty()).then(|| terms.on_parent_failure.into());
            more.expires_at = terms.expires_at.map(|expiry| match expiry {
                terms::Expiry::Engine(at) => moment(engine, at),
                terms::Expiry::Wall(at) => Moment(at),
            });
            more.back_off = terms.back_off.as_ref().map(BackOff::of);
            more.schedule = terms.fired.as_ref().map(|fired| Name(fired.schedule.clone()));
            more.tick = terms.fired.as_ref().map(|fired| Moment(fired.tick));
        }
        if let Some(course) = view.course {
            more.waits_for = ids(&course.waits_for);
            more.held_by = course.held_by.map(Id);
            more.error = course.error.as_deref().map(Words::copied);
            if let Some(ended) = &course.ended {
                more.ended_at = Some(moment(engine, ended.at));
                more.kept_until = Some(moment(engine, ended.until));
                more.result = ended.result.as_deref().map(Words::copied);
            }
        }
        more
    }
}
