//! `rota events`: prints what happens on the server, as it happens, a line each; or what is past.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use rota_client::http::{Error, Listen};
use serde_json::{Map, Value};

use super::http;
use crate::cli::{EventsArgs, Global};
use crate::report::{self, Failure};

pub(crate) fn run(global: &Global, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let listen = Listen {
        kinds: args.kinds.clone(),
        queues: args.queues.iter().map(ToString::to_string).collect(),
        jobs: args.jobs.clone(),
        actors: args.actors.clone(),
        after: args.after,
        only_past: args.no_follow,
        // Whoever reads the lines is to know of every gap.
        try_again_for: Duration::ZERO,
    };
    let client = http::client(global, &args.server)?;
    for event in client.events(listen).map_err(|error| http::failure(&error, "no events"))? {
        let event = event.map_err(|error| ended(&error, args))?;
        let Ok(event) = serde_json::from_str::<Map<String, Value>>(&event.json) else {
            return Err(Failure::at_run_time("the server sent an event that is no object").into());
        };
        report::line(global.json, || line(&event), Value::Object(event.clone()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Why no more events come.
fn ended(error: &Error, args: &EventsArgs) -> Failure {
    let ended = || {
        Failure::at_run_time(format!("{} tells no more", args.server.address()))
            .hint("run it again with --after and the number of the last event, once the server is there")
    };
    match error {
        Error::Lagged { after } => {
            let after = after.map(|after| after.to_string()).unwrap_or_default();
            let hint = format!("choose with --kind or --queue, and go on with --after {after}");
            Failure::at_run_time("events come faster than they were taken").hint(hint)
        }
        Error::Ended { .. } => ended(),
        Error::Broken { source, .. } => ended().caused_by(std::io::Error::other(report::innermost(source))),
        Error::TimedOut { .. } => ended().caused_by(std::io::ErrorKind::TimedOut.into()),
        other => http::failure(other, "no events"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holders_say_stays_in_its_line() {
        let event = serde_json::from_str(r#"{"at":"now","kind":"job.failed","job":"1","error":"a\nb","reserves":2}"#);
        let line = line(&event.unwrap());
        assert!(line.contains(r#" error="a\nb""#) && line.contains(" job=1") && line.contains(" reserves=2"), "{line}");
        assert!(line.starts_with("now ") && !line.contains('\n'), "{line}");
    }
}
