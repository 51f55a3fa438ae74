//! `rota show`: a job's state, what became of it, and its body.

use std::process::ExitCode;

use rota_client::http::{Client, Error, Method, ProblemKind};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::http::{self, Way, escape};
use super::text::{lines_of, object_of, parts_of, put_body};
use crate::cli::{Global, ShowArgs};
use crate::report::{self, Failure};

pub(crate) fn run(global: &Global, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let only_http = args.key.is_some().then_some("--key");
    let (object, body) = match http::way(global, &args.server, only_http)? {
        Way::Http { client, or_beanstalkd } => match over_http(&client, args) {
            Err(Error::Connect { .. }) if or_beanstalkd => over_beanstalkd(global, args)?,
            Err(error) if error.is(ProblemKind::JobNotFound) || error.is(ProblemKind::KeyNotFound) => {
                return Err(missing(args).into());
            }
            found => found.map_err(|error| http::failure(&error, "it is not shown"))?,
        },
        Way::Beanstalkd => over_beanstalkd(global, args)?,
    };
    if global.json {
        let mut object = Value::Object(object);
        put_body(&mut object, &body);
        report::line(true, String::new, object)?;
    } else {
        report::line(false, || format!("{}\n", lines_of(&shown(object, body.len()))), Value::Null)?;
        let end: &[u8] = if body.ends_with(b"\n") { b"" } else { b"\n" };
        report::raw(&[&body, end].concat())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The job as the server shows it, without its body, and the body.
fn over_http(client: &Client, args: &ShowArgs) -> Result<(Map<String, Value>, Vec<u8>), Error> {
    let path = match (&args.queue, &args.key) {
        (Some(queue), Some(key)) => {
            format!("/v1/queues/{}/keys/{}", escape(queue.as_str()), escape(&key.to_string()))
        }
        _ => format!("/v1/jobs/{}", args.id.unwrap_or_default()),
    };
    let path = format!("{path}?body=base64");
    let mut object: Map<String, Value> =
        client.request(Method::Get, &path, None::<&Value>, Some(std::time::Duration::ZERO))?;
    let body = object.remove("base64");
    let body = body.as_ref().and_then(Value::as_str).and_then(super::text::bytes_of).unwrap_or_default();
    Ok((object, body))
}

fn over_beanstalkd(global: &Global, args: &ShowArgs) -> anyhow::Result<(Map<String, Value>, Vec<u8>)> {
    let id = args.id.expect("clap requires an id where there is no --key");
    let mut client = super::connect(global)?;
    let fields = client.stats_job(id)?.ok_or_else(|| missing(args))?;
    // It may have gone in between.
    let job = client.peek(id)?.ok_or_else(|| missing(args))?;
    let mut object = object_of(&fields);
    // Where the log keeps a job says nothing to a person.
    object.remove("file");
    Ok((object, job.body))
}

fn missing(args: &ShowArgs) -> Failure {
    Failure::nothing_there(match (args.id, &args.queue, &args.key) {
        (None, Some(queue), Some(key)) => format!("no open job of queue {queue} has the key {key}"),
        (id, ..) => format!("there is no open job {}", id.unwrap_or_default()),
    })
}

/// What its holders said of it: a text or any JSON.
const SAID: [&str; 3] = ["progress", "error", "result"];

/// Whether it is JSON, or a text that would be taken for some.
fn is_json(said: &Value) -> bool {
    said.as_str().is_none_or(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// A job as lines.
fn shown(object: Map<String, Value>, body_bytes: usize) -> Map<String, Value> {
    let line = |(name, value): (String, Value)| {
        let value = match value {
            // JSON that a holder said, or a text that looks like it.
            value if SAID.contains(&&*name) && is_json(&value) => value.to_string().into(),
            Value::Array(list) => {
                let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                words.join(",").into()
            }
            Value::Object(parts) => parts_of(&parts).into(),
            // What a holder said stays in its line.
            Value::String(text) if text.contains(char::is_control) => format!("{text:?}").into(),
            other => other,
        };
        (name, value)
    };
    let mut lines: Map<String, Value> = object.into_iter().map(line).collect();
    lines.insert("body_bytes".into(), body_bytes.into());
    lines
}
