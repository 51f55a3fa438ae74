//! An event as JSON has it.

use super::super::fields::{Id, Moment, Name};
use crate::words::Words;
use rota_engine::job::Time;
use rota_engine::news::News;
use rota_engine::session::Actor;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// Says that listening begins after the event of that number.
pub(super) fn listening(seen: u64) -> String {
    json!({ "kind": "listening", "seq": seen.to_string() }).to_string()
}

/// Says that what follows that event comes from the log up to now, without what is not in there.
pub(super) fn resumed(seen: u64) -> String {
    json!({ "kind": "resumed", "seq": seen.to_string(), "soft": "missing" }).to_string()
}

/// Says that events are gone which were asked for: those up to that number; and whether what follows comes from the log.
pub(super) fn gone(seen: u64, restarted: bool, is_from_log: bool) -> String {
    let mut gone = json!({ "kind": "gone", "seq": seen.to_string(), "restarted": restarted });
    if is_from_log {
        gone["soft"] = json!("missing");
    }
    gone.to_string()
}

/// Says that all was told that there was, up to the event of that number.
pub(super) fn end(seen: u64) -> String {
    json!({ "kind": "end", "seq": seen.to_string() }).to_string()
}

/// Says that whoever listens was too slow, after the event of that number.
pub(super) fn lagged(seen: u64) -> String {
    json!({ "kind": "lagged", "seq": seen.to_string() }).to_string()
}

/// Something that happened. A member that says nothing of this kind of event is left away.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Event<'a> {
    /// Its number: greater than that of every event before it, across restarts too. Some numbers are left out.
    #[schema(pattern = "^[1-9][0-9]*$", example = "170")]
    seq: String,
    /// What happened: the noun, a dot, the verb.
    #[schema(example = "job.completed")]
    kind: &'static str,
    /// When.
    at: Moment,
    /// Who asked for it: what their token is called. Absent where nobody is asked for a token, and of what came about by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "mailer")]
    actor: Option<&'a str>,
    /// To which job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job: Option<Id>,
    /// In which queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    queue: Option<Name>,
    /// What the job is from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "done")]
    state: Option<&'static str>,
    /// The job's priority from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    priority: Option<u32>,
    /// When the job is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    run_at: Option<Moment>,
    /// When the lease or the pause ends, or a job that is over is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    until: Option<Moment>,
    /// How often the job was reserved so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reserves: Option<u32>,
    /// Why: `asked`, `gone`, `time`, `parent`, `attempts` or `lost-leases`; of a tick that was left out `missed`, `overlap`,
    /// `key-taken`, `queue-full` or `bad-terms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
    /// The job that this one waited for; of a tick that was left out, the job that was in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parent: Option<Id>,
    /// What the holder said of the attempt that failed: a text or any JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Words<'a>>,
    /// What the holder said of how far it is: a text or any JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    progress: Option<Words<'a>>,
    /// How often the server was started on its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    epoch: Option<u32>,
    /// The schedule; of a put, the one that put the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    schedule: Option<Name>,
    /// The tick, or the moment of a run that somebody asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tick: Option<Moment>,
    /// The schedule's next tick.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<Moment>,
    /// Ticks that are left out with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    missed: Option<u64>,
    /// The webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    webhook: Option<Name>,
    /// The snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    snapshot: Option<&'a str>,
    /// The token, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "7f3a9c1e")]
    token: Option<&'a str>,
    /// What the token is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "newsletter")]
    name: Option<&'a str>,
}

/// An event in one line.
pub(super) fn text(news: &News) -> Box<str> {
    // A moment that no wall clock shows is none.
    let moment = |at: Option<Time>| at.filter(|at| *at < Time::NEVER).map(|at| Moment(news.wall_time(at)));
    let (schedule, note) = (news.schedule.as_deref(), news.note.as_deref());
    let of = |noun: &str| note.filter(|note| note.what.noun() == noun);
    let event = Event {
        seq: news.seq.to_string(),
        kind: news.kind.name(),
        at: Moment(news.wall),
        actor: news.actor.as_ref().map(Actor::as_str),
        job: news.job.map(Id),
        queue: news.queue.clone().map(Name),
        state: news.state.map(|state| state.name()),
        priority: news.priority.map(|priority| priority.0),
        run_at: moment(news.run_at),
        until: moment(news.until),
        reserves: news.reserves,
        reason: news.reason,
        parent: news.parent.map(Id),
        error: news.error.as_deref().map(Words::from),
        progress: news.progress.as_deref().map(Words::from),
        epoch: news.epoch,
        schedule: schedule.map(|schedule| Name(schedule.name.clone())),
        tick: schedule.and_then(|schedule| schedule.tick).map(Moment),
        next: schedule.and_then(|schedule| schedule.next).map(Moment),
        missed: schedule.map(|schedule| schedule.missed).filter(|missed| *missed > 0),
        webhook: of("webhook").map(|note| Name(note.subject.clone())),
        snapshot: of("snapshot").map(|note| note.subject.as_str()),
        token: of("token").map(|note| note.subject.as_str()),
        name: note.and_then(|note| note.name.as_ref()).map(Actor::as_str),
    };
    serde_json::to_string(&event).expect("texts and numbers make JSON").into()
}
