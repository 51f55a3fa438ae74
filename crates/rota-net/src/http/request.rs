//! Requests, read: the body as typed JSON, the query, the parts of the path. Whatever is wrong becomes a problem that
//! says where it is.
//!
//! A body is read as its bytes arrive, bounded for one request and for all of them together, and has to arrive in time.

use super::api::{Api, granted, whose};
use super::fields::{Id, Lease, Name};
use super::problem::{Kind, Problem};
use super::room::{Part, Whose};
use crate::limits::LARGE_BODY_BYTES;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use hyper::body::Body as _;
use rota_engine::job::{JobId, QueueName};
use rota_engine::limits::KEY_BYTES;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The body of a request, as JSON.
pub(super) struct Json<T>(pub(super) T);

/// The same, where none, or `null`, is as good as an object without members.
pub(super) struct OptionalJson<T>(pub(super) T);

/// A value that is an object. Serde by itself takes a list of the members' values for one, too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Reads a member that is an object.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(object)| object)
}

/// Reads a member that is an object, `null` or absent.
pub(super) fn maybe_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object: Option<Object<T>> = Option::deserialize(deserializer)?;
    Ok(object.map(|Object(object)| object))
}

/// The bytes of a body, not read yet, and the room they take among all of them.
pub(super) struct Collected {
    pub(super) bytes: Vec<u8>,
    pub(super) room: Part,
}

/// The query of a request.
pub(super) struct Parameters<T>(pub(super) T);

/// A job, named by the path.
pub(super) struct JobInPath(pub(super) JobId);

/// A queue, named by the path: one that whoever asks reaches.
pub(super) struct QueueInPath(pub(super) QueueName);

/// A schedule, named by the path.
pub(super) struct ScheduleInPath(pub(super) QueueName);

/// A webhook, named by the path.
pub(super) struct WebhookInPath(pub(super) QueueName);

/// A key of a queue, named by the path: of one that whoever asks reaches.
pub(super) struct KeyInPath(pub(super) QueueName, pub(super) String);

/// A lease, named by the path.
pub(super) struct LeaseInPath(pub(super) Lease);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers)?;
        let Object(body) = read(api, &parts, body).await?;
        Ok(Json(body))
    }
}

impl<T: DeserializeOwned + Default + Send + 'static> FromRequest<Arc<Api>> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !parts.headers.contains_key(header::CONTENT_TYPE) && body.is_end_stream() {
            return Ok(OptionalJson(T::default()));
        }
        check_type(&parts.headers)?;
        let body: Option<Object<T>> = read(api, &parts, body).await?;
        Ok(OptionalJson(body.map(|Object(body)| body).unwrap_or_default()))
    }
}

/// Refuses bodies that are not JSON: a page of another site may send any other type without asking.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = match kind {
        "" => String::from("the request does not say that its body is JSON"),
        kind => format!("the request says that its body is {kind:?}"),
    };
    Err(Problem::new(Kind::UnsupportedMediaType, detail))
}

async fn read<T: DeserializeOwned + Send + 'static>(api: &Api, parts: &Parts, body: Body) -> Result<T, Problem> {
    let Collected { bytes, room } = collect(api, &whose(&parts.extensions), &parts.headers, body).await?;
    let read = off_the_way(bytes, |bytes| parse(bytes)).await;
    drop(room);
    read
}

/// Lets the rest of a body come, if it is not much more: who is still sending when the connection is closed may never see
/// why.
async fn discard(mut body: Body, most: usize, patience: Duration) {
    let until = Instant::now() + patience;
    let mut left = 2 * most;
    let mut next = async || timeout_at(until, poll_fn(|context| Pin::new(&mut body).poll_frame(context))).await;
    while let Ok(Some(Ok(frame))) = next().await {
        let length = frame.data_ref().map_or(0, |data| data.len());
        if length > left {
            return;
        }
        left -= length;
    }
}

/// Reads bytes, where they are many on a thread of its own.
pub(super) async fn off_the_way<T: Send + 'static>(
    bytes: Vec<u8>,
    read: impl FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if bytes.len() < LARGE_BODY_BYTES {
        return read(&bytes);
    }
    let read = tokio::task::spawn_blocking(move || read(&bytes)).await;
    read.expect("reading does not panic, nor is it called off")
}

/// Reads a body to its end.
pub(super) async fn collect(
    api: &Api,
    whose: &Whose,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Collected, Problem> {
    let (most, patience) = (api.request_bytes, &api.patience);
    let too_large = || Problem::new(Kind::TooLarge, format!("a request's body has at most {most} bytes"));
    let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if let Some(told) = told.filter(|told| *told > most) {
        if told - most <= most {
            discard(body, most, patience.discard).await;
        }
        return Err(too_large());
    }
    let began = Instant::now();
    let mut bytes = Vec::new();
    let room = api.bodies.part(whose);
    loop {
        let until = (Instant::now() + patience.body_pause).min(began + patience.for_body(bytes.len()));
        let frame =
            timeout_at(until, poll_fn(|context| Pin::new(&mut body).poll_frame(context))).await.map_err(|_| {
                let (got, seconds) = (bytes.len(), began.elapsed().as_secs());
                Problem::new(Kind::TooSlow, format!("{got} bytes of the body came in {seconds} s"))
            })?;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| Problem::new(Kind::MalformedRequest, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - bytes.len() {
            drop((bytes, room));
            discard(body, most, patience.discard).await;
            return Err(too_large());
        }
        room.grow(data.len())?;
        // Where it is told how long it is, that much is taken at once: it is bounded, and it does come.
        if bytes.is_empty() {
            bytes.reserve(told.unwrap_or_default().min(LARGE_BODY_BYTES));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Collected { bytes, room })
}

/// Reads JSON as a `T`.
///
/// # Errors
/// What is wrong, and where: the line and column where it is no JSON, else a pointer to the member.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = pointer(error.path());
        of_json(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| of_json("", &error))?;
    Ok(value)
}

fn of_json(pointer: &str, error: &serde_json::Error) -> Problem {
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = in_words(whole.strip_suffix(&place).unwrap_or(&whole));
    let text = text.as_ref();
    if !error.is_data() {
        let detail = format!("line {}, column {}: {text}", error.line(), error.column());
        return Problem::new(Kind::MalformedJson, detail).at_place(error.line(), error.column());
    }
    match unknown_field(text) {
        Some((field, hint)) => {
            let parent = pointer.strip_suffix(&format!("/{}", escape(field))).unwrap_or(pointer);
            let problem = Problem::new(Kind::UnknownField, format!("there is no field {field:?}")).hint(hint);
            problem.at(format!("{parent}/{}", escape(field)))
        }
        None => {
            let whose = if pointer.is_empty() { "the body" } else { pointer };
            Problem::new(Kind::BadValue, format!("{whose}: {text}")).at(pointer)
        }
    }
}

/// A message of serde's, with its names of types as a reader of JSON would say them.
fn in_words(message: &str) -> Cow<'_, str> {
    let words = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u64", "expected a whole number from 0 to 18446744073709551615"),
    ];
    let known = words.into_iter().find_map(|(name, words)| Some(message.strip_suffix(name)?.to_owned() + words));
    known.map_or(Cow::Borrowed(message), Cow::Owned)
}

/// The field that is not known, by serde's message, and what to write instead.
fn unknown_field(message: &str) -> Option<(&str, String)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (field, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let nearest = known.iter().map(|name| (strsim::osa_distance(field, name), name)).min();
    let hint = match nearest {
        Some((distance, name)) if distance <= 2 || distance * 3 <= name.len() => format!("write {name:?}"),
        Some(_) => format!("the fields are {}", known.join(", ")),
        None => String::from("leave it away: there are none here"),
    };
    Some((field, hint))
}

/// Where an error is, as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(query)| Parameters(query)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            let bare = text.find("unknown field").map_or(text, |at| &text[at..]);
            match unknown_field(bare) {
                Some((field, hint)) => {
                    let detail = format!("the query has no parameter {field:?}");
                    Problem::new(Kind::BadParameter, detail).hint(hint.replace("fields", "parameters"))
                }
                None => Problem::new(Kind::BadParameter, text),
            }
        })
    }
}

/// The parts of a path that are not fixed.
async fn segments<T: DeserializeOwned + Send>(parts: &mut Parts) -> Result<T, Problem> {
    let path = Path::<T>::from_request_parts(parts, &()).await;
    path.map(|Path(segments)| segments)
        .map_err(|rejection| Problem::new(Kind::MalformedRequest, format!("the path: {}", rejection.body_text())))
}

impl<S: Sync> FromRequestParts<S> for JobInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text: String = segments(parts).await?;
        text.parse().map(|Id(job)| JobInPath(job)).map_err(|detail| Problem::new(Kind::BadId, detail))
    }
}

impl<S: Sync> FromRequestParts<S> for QueueInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text: String = segments(parts).await?;
        let name = queue(&text)?;
        granted(parts)?.check_queue(&name)?;
        Ok(QueueInPath(name))
    }
}

impl<S: Sync> FromRequestParts<S> for ScheduleInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(ScheduleInPath(named(parts, "schedule").await?))
    }
}

impl<S: Sync> FromRequestParts<S> for WebhookInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(WebhookInPath(named(parts, "webhook").await?))
    }
}

/// A name in the path that keeps the rule for names of queues, and is not one's.
async fn named(parts: &mut Parts, what: &str) -> Result<QueueName, Problem> {
    let text: String = segments(parts).await?;
    let read: Result<Name, String> = text.parse();
    read.map(|Name(name)| name).map_err(|detail| {
        let detail = detail.replace("name of a queue", &format!("name of a {what}"));
        let detail = detail.replace("queue name", &format!("{what}'s name"));
        Problem::new(Kind::MalformedRequest, detail).hint("in a path, %2F stands for the / of a name")
    })
}

impl<S: Sync> FromRequestParts<S> for KeyInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let (name, key): (String, String) = segments(parts).await?;
        let name = queue(&name)?;
        granted(parts)?.check_queue(&name)?;
        if key.len() > KEY_BYTES {
            let detail = format!("a key has 1 to {KEY_BYTES} bytes, and that one has {}", key.len());
            return Err(Problem::new(Kind::MalformedRequest, detail));
        }
        Ok(KeyInPath(name, key))
    }
}

impl<S: Sync> FromRequestParts<S> for LeaseInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text: String = segments(parts).await?;
        text.parse().map(LeaseInPath).map_err(|detail: String| Problem::new(Kind::BadLease, detail))
    }
}

fn queue(text: &str) -> Result<QueueName, Problem> {
    let read: Result<Name, String> = text.parse();
    read.map(|Name(name)| name).map_err(|detail| {
        Problem::new(Kind::MalformedRequest, detail).hint("in a path, %2F stands for the / of a name")
    })
}
