//! What is thrown: jobs to put and settings of queues, each as JSON and as the model takes it.
//!
//! Every member is left away now and then, so that what it is unless told is compared too.

use super::shown::{self, object};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rota_engine::command::{Due, OnConflict};
use rota_engine::job::{JobId, Priority, QueueName, Time};
use rota_engine::queue::{PerKey, QueueSettings, Rate};
use rota_engine::terms::{BackOff, OnParentFailure, Terms};
use rota_engine::testing::model::Model;
use rota_engine::testing::random::Random;
use rota_engine::testing::workload::{ParentNamed, Put};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// No run takes so long.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Queues that jobs are reserved from.
pub(super) const WORKED: [&str; 4] = ["default", "mail", "some.longer/name;(1)", "d"];

/// The queue that nobody reserves from: its jobs may have the usual TTR, which a slow run might outlast.
pub(super) const PLAIN: &str = "plain";

/// A moment long ago, and one far ahead, in seconds since 1970; what is thrown is less than a thousand seconds later.
const PAST: u64 = 1_000_000_000;
const FUTURE: u64 = 4_100_000_000;

pub(super) fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// One of all queues.
pub(super) fn queue(random: &mut Random) -> QueueName {
    let at = random.below(WORKED.len() as u64 + 1) as usize;
    queue_name(WORKED.get(at).unwrap_or(&PLAIN))
}

/// The key of a job; some have to be escaped in a path.
pub(super) fn key(random: &mut Random) -> String {
    (*random.pick(&["a", "b/c", "ü %", "key-4", "key-5", "key-6"])).to_owned()
}

/// So many hours, from `least` on, as text and as what it says.
pub(super) fn hours(random: &mut Random, least: u64) -> (Value, Duration) {
    let hours = random.within(least..least + 40);
    let text = match random.below(3) {
        0 => format!("{hours}h"),
        1 => format!("{}m", hours * 60),
        _ => format!("{}.0s", hours * 3600),
    };
    (text.into(), HOUR * hours as u32)
}

/// None, or some hours.
pub(super) fn delay(random: &mut Random) -> (Value, Duration) {
    if random.chance(1, 3) { ("0s".into(), Duration::ZERO) } else { hours(random, 1) }
}

/// A moment of the wall clock, and what it is.
pub(super) fn moment(random: &mut Random, from: u64) -> (Value, Time) {
    let millis = from * 1000 + random.below(1_000_000);
    let text = Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap().to_string();
    (text.into(), Time(millis * 1_000_000))
}

/// A moment far ahead.
pub(super) fn ahead(random: &mut Random) -> (Value, Time) {
    moment(random, FUTURE)
}

/// What a holder says: a text, or something else in JSON; as it is sent, and as it is kept.
pub(super) fn said(random: &mut Random) -> (Value, Vec<u8>) {
    let value = match random.below(5) {
        0 => json!({ "code": random.below(10) }),
        1 => json!(17),
        2 => json!(""),
        3 => json!("No route to host"),
        _ => json!("timed out \u{1F980}\n\"really\""),
    };
    let kept = value.as_str().map_or_else(|| format!("\u{1e}{value}"), str::to_owned);
    (value, kept.into())
}

/// A job to put.
#[derive(Clone)]
pub(super) struct Thrown {
    pub(super) json: Value,
    pub(super) put: Put,
}

/// A job that waits for nothing, in that queue.
pub(super) fn plain_job(queue: &QueueName) -> Thrown {
    let json = json!({ "queue": queue.as_str(), "text": "x", "ttr": "1000h" });
    let put = Put { queue: Some(queue.clone()), ttr: HOUR * 1000, body: b"x".to_vec(), ..unless_told() };
    Thrown { json, put }
}

/// What a job is unless told.
fn unless_told() -> Put {
    Put {
        queue: None,
        priority: Priority(1024),
        due: Due::In(Duration::ZERO),
        ttr: Duration::from_secs(60),
        max_lost_leases: 10,
        max_attempts: 25,
        key: None,
        on_conflict: OnConflict::Reject,
        after: Vec::new(),
        expires: None,
        terms: None,
        body: Vec::new(),
    }
}

/// A job of any kind.
pub(super) fn job(random: &mut Random, model: &Model) -> Thrown {
    let queue = queue(random);
    let is_plain = queue.as_str() == PLAIN;
    let mut put = Put { queue: Some(queue.clone()), ..unless_told() };
    let mut members = Map::from_iter([(String::from("queue"), Value::from(queue.as_str()))]);
    let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);

    let (name, value) = body(random, &mut put.body);
    set(name, value);
    if random.chance(1, 2) {
        put.priority = Priority(*random.pick(&[0, 1, 1023, 1024, 7000, u32::MAX]));
        set("priority", put.priority.0.into());
    }
    match random.below(8) {
        0 | 1 => {
            let (text, span) = delay(random);
            put.due = Due::In(span);
            set("delay", text);
        }
        2 => {
            let from = *random.pick(&[PAST, FUTURE]);
            let (text, at) = moment(random, from);
            put.due = Due::At(at);
            set("run_at", text);
        }
        _ => {}
    }
    if !is_plain || random.chance(1, 2) {
        let (text, span) = hours(random, 500);
        put.ttr = span;
        set("ttr", text);
    }
    if random.chance(1, 3) {
        let key = key(random);
        put.key = Some(key.clone().into());
        set("key", key.into());
        let conflicts = [("reject", OnConflict::Reject), ("keep", OnConflict::Keep), ("replace", OnConflict::Replace)];
        if random.chance(4, 5) {
            let (text, on_conflict) = *random.pick(&conflicts);
            put.on_conflict = on_conflict;
            set("on_conflict", text.into());
        }
    }
    if random.chance(1, 2) {
        put.max_attempts = *random.pick(&[0, 1, 2, u16::MAX]);
        set("max_attempts", put.max_attempts.into());
    }
    if random.chance(1, 4) {
        put.max_lost_leases = *random.pick(&[0, 3, u16::MAX]);
        set("max_lost_leases", put.max_lost_leases.into());
    }
    if random.chance(1, 4) {
        put.after = parents(random, model);
        set("after", put.after.iter().map(parent_text).collect());
    }
    match random.below(12) {
        0 => {
            let (text, span) = delay(random);
            put.expires = Some(Due::In(span));
            set("expires_in", text);
        }
        1 => {
            let from = *random.pick(&[PAST, FUTURE]);
            let (text, at) = moment(random, from);
            put.expires = Some(Due::At(at));
            set("expires_at", text);
        }
        _ => {}
    }
    put.terms = Some(terms(random, &mut set)).filter(|terms| *terms != Terms::default());
    Thrown { json: Value::Object(members), put }
}

/// A body, as one of three members.
fn body(random: &mut Random, body: &mut Vec<u8>) -> (&'static str, Value) {
    let number = random.below(1000);
    match random.below(6) {
        0 => {
            let json =
                random.pick(&[json!({ "n": number }), json!([number, null]), json!(null), json!(number)]).clone();
            *body = json.to_string().into();
            ("json", json)
        }
        1 => {
            *body = vec![0xff, number as u8, 0];
            ("base64", STANDARD.encode(body).into())
        }
        2 => {
            *body = b"{\"is\": \"json\"}".to_vec();
            ("text", "{\"is\": \"json\"}".into())
        }
        _ => {
            let text = "some ü".repeat(random.below(4) as usize);
            *body = text.clone().into();
            ("text", text.into())
        }
    }
}

/// The rest of a job's terms.
fn terms(random: &mut Random, set: &mut impl FnMut(&str, Value) -> Option<Value>) -> Terms {
    let mut terms = Terms::default();
    if random.chance(1, 3) {
        let kind = *random.pick(&["welcome", "newsletter"]);
        terms.kind = Some(kind.into());
        set("kind", kind.into());
    }
    if random.chance(1, 3) {
        let key = *random.pick(&["customer-1", "customer-2"]);
        terms.limit_key = Some(key.into());
        set("limit_key", key.into());
    }
    if random.chance(1, 5) {
        terms.headers = vec![("lang".into(), "de".into()), ("trace".into(), "00-17".into())];
        set("headers", json!({ "trace": "00-17", "lang": "de" }));
    }
    if random.chance(1, 3) {
        let policies =
            [("cancel", OnParentFailure::Cancel), ("run", OnParentFailure::Run), ("hold", OnParentFailure::Hold)];
        let (text, policy) = *random.pick(&policies);
        terms.on_parent_failure = policy;
        set("on_parent_failure", text.into());
    }
    if random.chance(1, 4) {
        let hours = random.within(1..4);
        let (factor, most, jitter) = (random.chance(1, 2), random.chance(1, 2), random.chance(1, 2));
        let first = HOUR * hours as u32;
        terms.back_off = Some(BackOff {
            first,
            factor_hundredths: if factor { 150 } else { 200 },
            most: if most { HOUR * 9 } else { first.max(HOUR) },
            jitter_percent: if jitter { 0 } else { 10 },
        });
        let members = [
            ("first", Some(format!("{hours}h").into())),
            ("factor", factor.then_some(1.5.into())),
            ("most", most.then(|| "9h".into())),
            ("jitter_percent", jitter.then(|| 0.into())),
        ];
        set("back_off", object(members));
    }
    terms
}

/// Mostly jobs that are there, or were.
fn parents(random: &mut Random, model: &Model) -> Vec<ParentNamed> {
    let parent = |random: &mut Random| match random.below(8) {
        0 => ParentNamed::Key { queue: queue(random), key: key(random).into() },
        1 => ParentNamed::Id(JobId(random.within(1..model.next_job_id() + 2))),
        _ => ParentNamed::Id(id(random, model)),
    };
    (0..random.within(1..4)).map(|_| parent(random)).collect()
}

fn parent_text(parent: &ParentNamed) -> String {
    match parent {
        ParentNamed::Id(id) => id.to_string(),
        ParentNamed::Key { queue, key } => format!("{queue}:{}", String::from_utf8_lossy(key)),
    }
}

/// Mostly a job that is there.
pub(super) fn id(random: &mut Random, model: &Model) -> JobId {
    let ids: Vec<JobId> = model.jobs().keys().copied().collect();
    if ids.is_empty() || random.chance(1, 12) {
        return JobId(random.within(1..model.next_job_id() + 2));
    }
    *random.pick(&ids)
}

/// Settings of a queue; most set little.
pub(super) fn settings(random: &mut Random) -> (Value, QueueSettings) {
    let rate = |random: &mut Random| {
        let count = random.within(1..5) as u32;
        Rate { count, per: HOUR * 50 * count }
    };
    let settings = match random.below(4) {
        0 => QueueSettings::default(),
        _ => QueueSettings {
            retain: random.chance(2, 3).then(|| delay(random).1),
            max_jobs: random.chance(1, 5).then(|| random.within(2..12)),
            max_bytes: random.chance(1, 5).then(|| random.within(5..200)),
            concurrency: random.chance(1, 5).then(|| random.below(4) as u32),
            rate: random.chance(1, 6).then(|| rate(random)),
            per_key: random.chance(1, 3).then(|| PerKey {
                concurrency: random.chance(1, 2).then(|| random.within(1..3) as u32),
                rate: random.chance(1, 3).then(|| rate(random)),
            }),
            durable_leases: random.chance(1, 4),
            // Where nothing is kept on a disk it is refused.
            sync: None,
        },
    };
    (shown::settings(&settings), settings)
}

/// A value of a path or a query.
pub(super) fn escape(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    value
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
