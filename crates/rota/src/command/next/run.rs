//! `rota next --exec`: a command does the job, and its exit says what becomes of it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::held::{Failed, Held};
use crate::report::{self, Failure};

/// As much as is kept of what a command wrote to its standard error, in bytes; a server takes 4,096 with what stands before it.
const TAIL_BYTES: usize = 3 * 1024;

/// How long the end of that is waited for once the command has ended: something that it left behind may still have it.
const TAIL_WAIT: Duration = Duration::from_secs(1);

/// Runs the command with the body, then completes the job or says that the attempt failed.
pub(super) fn exec(
    json: bool,
    held: &mut Held,
    program: &OsString,
    arguments: &[OsString],
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
    let mut child = match command.stdin(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            // Nothing was attempted.
            held.give_back()?;
            let message = format!("cannot start {}: job {} was given back", program.display(), held.job.id);
            return Err(Failure::at_run_time(message).caused_by(error).into());
        }
    };
    let tail = child.stderr.take().map(follow);
    let status = attend(held, child)?;
    let (id, queue) = (held.job.id, held.job.queue.clone());
    let outcome = |outcome: &str, until: Option<String>| {
        let mut object = json!({ "id": id, "queue": queue, "outcome": outcome, "exit_status": status.code() });
        if let Some(until) = until {
            object["run_at"] = until.into();
        }
        if json { report::line(true, String::new, object) } else { Ok(()) }
    };
    if status.success() {
        let printed = outcome("completed", None);
        held.complete()?;
        printed?;
        return Ok(ExitCode::SUCCESS);
    }
    let tail = tail.and_then(|tail| tail.recv_timeout(TAIL_WAIT).ok()).unwrap_or_default();
    let (name, said) = match held.fail(&why(status, &tail))? {
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
    Err(Failure::at_run_time(format!("{} failed ({status}): {said}", program.display())).into())
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

/// Passes on what a command writes to its standard error, and gives the end of it when it writes no more.
fn follow(mut stderr: ChildStderr) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (mut tail, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            // Nobody is left to be told if this fails.
            io::stderr().write_all(&buffer[..read]).ok();
            tail.extend_from_slice(&buffer[..read]);
            let over = tail.len().saturating_sub(TAIL_BYTES);
            tail.drain(..over);
        }
        // Whoever started the command may not wait for this any more.
        sender.send(tail).ok();
    });
    receiver
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
                    eprintln!("warning: the lease of job {} was lost; the command still runs", held.job.id);
                }
                // Another connection may come about before the lease ends.
                Err(error) if held.can_fail() => eprintln!("warning: {error}; the command still runs"),
                Err(error) => {
                    is_held = false;
                    eprintln!("warning: {error}; the command still runs");
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
}
