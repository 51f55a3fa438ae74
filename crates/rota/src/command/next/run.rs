//! `rota next --exec`: a command does the job, and its exit says what becomes of it.

mod output;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use rota_client::http::Value;
use serde_json::json;

use self::output::{Keep, Output, Said};
use super::held::{Failed, Held};
use crate::cli::Printed;
use crate::report::{self, Failure};

/// As much as is kept of what a command wrote to its standard error, in bytes; a server takes 4,096 with what stands before it.
const TAIL_BYTES: usize = 3 * 1024;

/// The longest result that a server takes, in bytes; JSON takes one of them beside itself.
const RESULT_BYTES: usize = 65_536;

/// As much as is kept of what a command printed, in bytes: with a line end behind the longest.
const PRINTED_BYTES: usize = RESULT_BYTES + 2;

/// Runs the command with the body, then completes the job, with what the command printed if that is asked for, or says that the
/// attempt failed.
pub(super) fn exec(
    json: bool,
    held: &mut Held,
    printed: Option<Printed>,
    (program, arguments): (&OsString, &[OsString]),
) -> anyhow::Result<ExitCode> {
    let job = &held.job;
    let mut command = Command::new(program);
    command.args(arguments).env("ROTA_JOB_ID", job.id.to_string()).env("ROTA_JOB_QUEUE", &job.queue);
    let known = [("ROTA_JOB_KEY", job.key.clone()), ("ROTA_JOB_KIND", job.kind.clone())];
    for (name, value) in known.into_iter().chain([("ROTA_JOB_ATTEMPTS", job.attempts.map(|n| n.to_string()))]) {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if held.can_fail() {
        command.stderr(Stdio::piped());
    }
    if printed.is_some() {
        command.stdout(Stdio::piped());
    }
    let mut child = match command.stdin(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            // Nothing was attempted.
            held.give_back()?;
            let message = format!("cannot start {}: job {} was given back", program.display(), held.job.id);
            return Err(Failure::at_run_time(message).caused_by(error).into());
        }
    };
    let errors = child.stderr.take().map(|stderr| Output::follow(stderr, io::stderr(), Keep::End(TAIL_BYTES)));
    let output = child.stdout.take().map(|stdout| Output::follow(stdout, io::stdout(), Keep::Begin(PRINTED_BYTES)));
    let status = attend(held, child)?;
    let (id, queue) = (held.job.id, held.job.queue.clone());
    let outcome = |outcome: &str, until: Option<String>| {
        let mut object = json!({ "id": id, "queue": queue, "outcome": outcome, "exit_status": status.code() });
        if let Some(until) = until {
            object["run_at"] = until.into();
        }
        if json { report::line(true, String::new, object) } else { Ok(()) }
    };
    let (how, why) = if status.success() {
        match printed.zip(output).map_or(Ok(None), |(what, output)| result_of(what, output.said())) {
            Ok(result) => {
                let told = outcome("completed", None);
                held.complete(result.as_ref())?;
                told?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(why) => (String::from("no JSON"), why),
        }
    } else {
        let tail = errors.map(Output::said).unwrap_or_default();
        (status.to_string(), why(status, &tail.bytes))
    };
    let (name, said) = match held.fail(&why)? {
        Failed::Released => (("released", None), format!("job {id} was released")),
        Failed::Delayed { until } => {
            (("failed", Some(until.to_string())), format!("job {id} is tried again at {until}"))
        }
        Failed::Buried { attempts } => {
            let attempts = if attempts == 1 { String::from("1 attempt") } else { format!("{attempts} attempts") };
            (("buried", None), format!("job {id} is buried after {attempts}"))
        }
    };
    outcome(name.0, name.1)?;
    Err(Failure::at_run_time(format!("{} failed ({how}): {said}", program.display())).into())
}

/// The result that a command printed, if it printed something. What is too long is cut if it is a text, and left away if it is JSON:
/// the work is done, and is not done again for that.
///
/// # Errors
/// Why the attempt failed: it had to be JSON, and is none.
fn result_of(what: Printed, Said { bytes, is_cut }: Said) -> Result<Option<Value>, String> {
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Ok(None);
    }
    match what {
        Printed::Stdout => {
            // What was no UTF-8 has grown.
            let end = text.floor_char_boundary(RESULT_BYTES);
            if is_cut || end < text.len() {
                rota_net::note!("warning: the result is cut: the command printed more than {RESULT_BYTES} bytes");
            }
            Ok(Some(text[..end].into()))
        }
        Printed::StdoutJson if is_cut => {
            rota_net::note!("warning: there is no result: the command printed more than {RESULT_BYTES} bytes");
            Ok(None)
        }
        Printed::StdoutJson => {
            let value: Value = serde_json::from_str(text)
                .map_err(|error| format!("what it wrote to its standard output is no JSON: {error}"))?;
            let is_short = value.to_string().len() < RESULT_BYTES;
            if !is_short {
                rota_net::note!("warning: there is no result: as JSON it has more than {} bytes", RESULT_BYTES - 1);
            }
            Ok(Some(value).filter(|_| is_short))
        }
    }
}

/// What the server is told of why an attempt failed: how the command ended, and the end of what it said.
fn why(status: ExitStatus, tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    match text.trim() {
        "" => status.to_string(),
        // What was no UTF-8 has grown.
        said => {
            let from = said.len().saturating_sub(TAIL_BYTES);
            let from = (from..said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(said.len());
            format!("{status}: {}", &said[from..])
        }
    }
}

/// Feeds the command and waits for it, renewing the lease all the while.
fn attend(held: &mut Held, mut child: Child) -> anyhow::Result<ExitStatus> {
    let mut stdin = child.stdin.take().expect("its standard input is piped");
    let body = std::mem::take(&mut held.job.body);
    thread::spawn(move || {
        // A command may end, or close its input, before it has read all: its exit status says if that was right.
        stdin.write_all(&body).ok();
    });
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    let mut is_held = true;
    let mut broken = None;
    loop {
        // A third of the TTR: one renewal may come late without harm, and beanstalkd's last second is never near.
        match ended.recv_timeout(held.job.ttr / 3) {
            Ok(status) => {
                if let Some(error) = broken {
                    return Err(error);
                }
                let failed = |error| Failure::at_run_time("cannot wait for the command").caused_by(error);
                return Ok(status.map_err(failed)?);
            }
            // Whatever becomes of the lease, the command is not left behind without its parent.
            Err(RecvTimeoutError::Timeout) if is_held => match held.touch() {
                Ok(true) => {}
                Ok(false) => {
                    is_held = false;
                    rota_net::note!("warning: the lease of job {} was lost; the command still runs", held.job.id);
                }
                // Another connection may come about before the lease ends.
                Err(error) if held.can_fail() => rota_net::note!("warning: {error}; the command still runs"),
                Err(error) => {
                    is_held = false;
                    rota_net::note!("warning: {error}; the command still runs");
                    broken = Some(error);
                }
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::at_run_time("the thread that waits for the command is gone").into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn why_an_attempt_failed_is_bounded() {
        let status = ExitStatus::from_raw(7 << 8);
        assert_eq!(why(status, b" \n"), "exit status: 7");
        assert_eq!(why(status, b"no route\n"), "exit status: 7: no route");
        let long = why(status, &[0xff; TAIL_BYTES]);
        assert!(long.len() <= 4096 && long.ends_with('\u{fffd}'), "{}", long.len());
    }

    #[test]
    fn results_are_what_was_printed_and_bounded() {
        let said = |text: &str| Said { bytes: text.as_bytes().to_vec(), is_cut: false };
        for (printed, text, json) in [
            ("done\n", Some("done"), None),
            ("\n\r\n", None, Some(None)),
            ("{\"a\":1}\n", Some("{\"a\":1}"), Some(Some(json!({ "a": 1 })))),
            ("a\nb", Some("a\nb"), None),
            ("null", Some("null"), Some(Some(Value::Null))),
        ] {
            assert_eq!(result_of(Printed::Stdout, said(printed)), Ok(text.map(Value::from)), "{printed:?}");
            assert_eq!(result_of(Printed::StdoutJson, said(printed)).ok(), json, "{printed:?}");
        }
        let long = "\u{fffd}".repeat(RESULT_BYTES / 3 + 1);
        let Ok(Some(Value::String(cut))) = result_of(Printed::Stdout, said(&long)) else { panic!("it is a text") };
        assert!(cut.len() <= RESULT_BYTES && cut.len() > RESULT_BYTES - 3, "{}", cut.len());
        let array = |bytes: usize| said(&format!("[\"{}\"]", "x".repeat(bytes - 4)));
        assert!(result_of(Printed::StdoutJson, array(RESULT_BYTES - 1)).unwrap().is_some());
        assert_eq!(result_of(Printed::StdoutJson, array(RESULT_BYTES)), Ok(None));
    }
}
