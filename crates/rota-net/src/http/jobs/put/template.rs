//! What a schedule puts: a job as a put has it, but for what is about one moment or one job alone.

use super::{BackOff, DEFAULT_MAX_ATTEMPTS, Name, NewJob, OnConflict, OnParentFailure, Problem, Put, Span, present};
use crate::http::fields::{BodyForm, ShownBody};
use crate::http::request::maybe_object;
use rota_engine::schedule::Template;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The job that a schedule puts. Its body is exactly one of `json`, `text` and `base64`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct TemplateJob {
    /// Where it goes.
    queue: Name,
    /// The body: any JSON, stored as it stands here.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<serde_json::Value>, required = false)]
    json: Option<Box<RawValue>>,
    /// The body: this text, in UTF-8.
    text: Option<String>,
    /// The body: these bytes.
    base64: Option<String>,
    /// 0 is the most urgent; 1024 unless told.
    #[schema(value_type = Option<u64>, maximum = 4294967295u32)]
    priority: Option<u32>,
    /// How long a lease on it lasts: at least `1ms`; `60s` unless told.
    ttr: Option<Span>,
    /// Its key, 1 to 200 bytes: while an open job of the queue has it, ticks are left out.
    #[schema(min_length = 1, max_length = 200)]
    key: Option<String>,
    /// Failed attempts after which it is buried; 0 for no limit, and 25 unless told.
    #[schema(maximum = 65535)]
    max_attempts: Option<u16>,
    /// Lost leases after which it is buried; 0 for no limit, and 10 unless told.
    #[schema(maximum = 65535)]
    max_lost_leases: Option<u16>,
    /// How long it waits after a failed attempt: 1 s, 2 s, 4 s and so on up to an hour unless told.
    #[serde(default, deserialize_with = "maybe_object")]
    back_off: Option<BackOff>,
    /// The class of work: 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    kind: Option<String>,
    /// Whose job it is, where the queue bounds what is done at a time for each: 1 to 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    limit_key: Option<String>,
    /// Names and values that travel with it: 4,096 bytes together.
    headers: Option<BTreeMap<String, String>>,
    /// If it was not begun so long after its tick fired, it expires.
    expires_in: Option<Span>,
}

impl TemplateJob {
    /// Checks it, as a put of it is checked; its body may have so many bytes.
    pub(in crate::http) fn check(self, pointer: &str, most: usize) -> Result<Template, Problem> {
        let expires = self.expires_in.map(|Span(span)| span);
        let max_attempts = self.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS);
        let job = NewJob {
            queue: self.queue,
            json: self.json,
            text: self.text,
            base64: self.base64,
            priority: self.priority,
            delay: None,
            run_at: None,
            ttr: self.ttr,
            key: self.key,
            on_conflict: OnConflict::Reject,
            max_attempts: Some(max_attempts),
            max_lost_leases: self.max_lost_leases,
            back_off: self.back_off,
            kind: self.kind,
            limit_key: self.limit_key,
            headers: self.headers,
            after: Vec::new(),
            on_parent_failure: OnParentFailure::default(),
            expires_in: None,
            expires_at: None,
        };
        let Put { queue, priority, ttr, max_lost_leases, key, terms, body, .. } = job.check(pointer, most)??;
        let key = key.map(|key| key.into_bytes().into());
        Ok(Template { queue, priority, ttr, max_lost_leases, max_attempts, key, expires, terms, body })
    }
}

/// The job that a schedule puts, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ShownTemplate {
    queue: Name,
    priority: u32,
    ttr: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<String>,
    max_attempts: u16,
    max_lost_leases: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    back_off: Option<BackOff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limit_key: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<Span>,
    /// Length of its body in bytes.
    body_bytes: usize,
    /// Its body, where one schedule is looked at.
    #[serde(flatten)]
    body: ShownBody,
}

impl ShownTemplate {
    pub(in crate::http) fn of(template: &Template, form: BodyForm) -> ShownTemplate {
        let terms = template.terms.as_deref();
        let headers = terms.map_or(&[][..], |terms| &terms.headers).iter();
        ShownTemplate {
            queue: Name(template.queue.clone()),
            priority: template.priority.0,
            ttr: Span(template.ttr),
            key: template.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()),
            max_attempts: template.max_attempts,
            max_lost_leases: template.max_lost_leases,
            back_off: terms.and_then(|terms| terms.back_off.as_ref()).map(BackOff::of),
            kind: terms.and_then(|terms| terms.kind.as_deref()).map(str::to_owned),
            limit_key: terms.and_then(|terms| terms.limit_key.as_deref()).map(str::to_owned),
            headers: headers.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            expires_in: template.expires.map(Span),
            body_bytes: template.body.len(),
            body: ShownBody::of(template.body.clone(), form),
        }
    }
}
