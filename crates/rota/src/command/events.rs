//! `rota events`: prints what happens on the server, as it happens, a line each; or what is past.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::http::{self, escape};
use crate::cli::{EventsArgs, Global};
use crate::report::{self, Failure};

/// The longest event that is taken, in bytes: far more than a server sends.
const EVENT_BYTES: usize = 1 << 20;

pub(crate) fn run(global: &Global, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(follow(global, args))
}

async fn follow(global: &Global, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let no_answer = |error: reqwest::Error| http::no_answer(&args.server.http, &error);
    let client = http::client(&args.server.http, &global.tls)?;
    let request = client.get(format!("{}/v1/events{}", args.server.http, query(args)));
    let mut response =
        http::with_token(request, http::token(global.token_file.as_deref())?).send().await.map_err(no_answer)?;
    let status = response.status().as_u16();
    if status != 200 {
        let body = response.bytes().await.map_err(no_answer)?;
        return Err(http::refused(&args.server.http, "no events", status, &body).into());
    }
    let mut stream = Stream::default();
    loop {
        while let Some(block) = stream.next() {
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data
                && !tell(global.json, data)?
            {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if stream.0.len() > EVENT_BYTES {
            return Err(Failure::at_run_time(format!("{} sends something that is no event", args.server.http)).into());
        }
        match response.chunk().await {
            Ok(Some(bytes)) => stream.0.extend_from_slice(&bytes),
            Ok(None) => break,
            Err(error) => return Err(ended(args).caused_by(std::io::Error::other(report::innermost(&error))).into()),
        }
    }
    Err(ended(args).into())
}

fn ended(args: &EventsArgs) -> Failure {
    Failure::at_run_time(format!("{} tells no more", args.server.http))
        .hint("run it again with --after and the number of the last event, once the server is there")
}

/// Prints an event; false if it says that this is all.
fn tell(json: bool, data: &str) -> anyhow::Result<bool> {
    let Ok(event) = serde_json::from_str::<Map<String, Value>>(data) else {
        return Err(Failure::at_run_time("the server sent an event that is no object").into());
    };
    if event.get("kind").is_some_and(|kind| kind == "end") {
        return Ok(false);
    }
    if event.get("kind").is_some_and(|kind| kind == "lagged") {
        let after = event.get("seq").and_then(Value::as_str).unwrap_or_default();
        let hint = format!("choose with --kind or --queue, and go on with --after {after}");
        return Err(Failure::at_run_time("events come faster than they were taken").hint(hint).into());
    }
    report::line(json, || line(&event), Value::Object(event.clone()))?;
    Ok(true)
}

/// When, what, and then the members that there are.
fn line(event: &Map<String, Value>) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-");
    let mut line = format!("{:24} {:16}", text("at"), text("kind"));
    for (name, value) in event.iter().filter(|(name, _)| !["at", "kind"].contains(&name.as_str())) {
        let plain = |c: char| c.is_ascii_graphic() && c != '"';
        let _ = match value {
            // What a job's holder said may have spaces and line ends in it.
            Value::String(text) if text.chars().all(plain) && !text.is_empty() => write!(line, " {name}={text}"),
            other => write!(line, " {name}={other}"),
        };
    }
    line
}

/// What came and was not taken.
#[derive(Default)]
struct Stream(Vec<u8>);

impl Stream {
    /// The next block: what stands before an empty line.
    fn next(&mut self) -> Option<String> {
        let end = self.0.windows(2).position(|two| two == b"\n\n")?;
        let block = self.0.drain(..end + 2).collect::<Vec<u8>>();
        Some(String::from_utf8_lossy(&block).into_owned())
    }
}

fn query(args: &EventsArgs) -> String {
    let join = |values: Vec<String>| values.iter().map(|value| escape(value)).collect::<Vec<_>>().join(",");
    let after = args.after.or(args.no_follow.then_some(0));
    let parameters = [
        ("kind", join(args.kinds.clone())),
        ("queue", join(args.queues.iter().map(ToString::to_string).collect())),
        ("job", join(args.jobs.iter().map(ToString::to_string).collect())),
        ("actor", join(args.actors.clone())),
        ("after", join(after.iter().map(ToString::to_string).collect())),
        ("follow", if args.no_follow { "false".to_owned() } else { String::new() }),
    ];
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    let given: Vec<String> = given.map(|(name, value)| format!("{name}={value}")).collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_whole() {
        let mut stream = Stream::default();
        stream.0.extend_from_slice(b"id: 1\n\nid: 2\nevent: job.put\n");
        assert_eq!(stream.next().as_deref(), Some("id: 1\n\n"));
        assert_eq!(stream.next(), None);
        stream.0.extend_from_slice(b"\n");
        assert_eq!(stream.next().as_deref(), Some("id: 2\nevent: job.put\n\n"));
    }

    #[test]
    fn what_holders_say_stays_in_its_line() {
        let event = serde_json::from_str(r#"{"at":"now","kind":"job.failed","job":"1","error":"a\nb","reserves":2}"#);
        let line = line(&event.unwrap());
        assert!(line.contains(r#" error="a\nb""#) && line.contains(" job=1") && line.contains(" reserves=2"), "{line}");
        assert!(line.starts_with("now ") && !line.contains('\n'), "{line}");
    }
}
