//! `rota next`: takes one job, and completes it once its body is printed or a command has done it.
//!
//! A job is completed only after that: whatever goes wrong before, it is given back, or goes back by itself when the
//! connection closes.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::text::put_body;
use crate::cli::{Global, NextArgs};
use crate::report::{self, Failure};
use crate::values::format_duration;
use rota_client::{Client, Job, QueueName};

/// What is known about the job that is being worked on.
struct Lease<'a> {
    client: &'a mut Client,
    queue: &'a QueueName,
    id: u64,
    priority: u32,
    ttr: Duration,
}

pub(crate) fn run(global: &Global, args: NextArgs) -> anyhow::Result<ExitCode> {
    let mut client = super::connect(global)?;
    let Some(job) = client.reserve(&args.queue, args.wait)? else {
        let waited = match args.wait {
            Duration::ZERO => String::new(),
            wait => format!(" within {}", format_duration(wait)),
        };
        return Err(Failure::nothing_there(format!("no job is ready in queue {}{waited}", args.queue)).into());
    };
    let mut lease = Lease::of(&mut client, &args.queue, job.id)?;
    match args.exec.split_first() {
        None => print(global.json, &mut lease, &job),
        Some((program, arguments)) => exec(global.json, &mut lease, job, program, arguments),
    }
}

impl<'a> Lease<'a> {
    /// Asks what a command needs to know about a job that was just reserved.
    fn of(client: &'a mut Client, queue: &'a QueueName, id: u64) -> anyhow::Result<Self> {
        let fields = client.stats_job(id)?.ok_or_else(|| lost(id, queue))?;
        let number = |key: &str| -> Option<u64> {
            fields.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.parse().ok())
        };
        let (Some(priority), Some(ttr)) = (number("pri").and_then(|pri| u32::try_from(pri).ok()), number("ttr")) else {
            let message = format!("{queue}: the server does not say the priority and TTR of job {id}");
            return Err(Failure::at_run_time(message).into());
        };
        Ok(Lease { client, queue, id, priority, ttr: Duration::from_secs(ttr.max(1)) })
    }

    fn complete(&mut self) -> anyhow::Result<()> {
        match self.client.delete(self.id)? {
            true => Ok(()),
            false => Err(lost(self.id, self.queue).into()),
        }
    }

    fn give_back(&mut self) -> anyhow::Result<()> {
        match self.client.release(self.id, self.priority)? {
            true => Ok(()),
            false => Err(lost(self.id, self.queue).into()),
        }
    }
}

fn lost(id: u64, queue: &QueueName) -> Failure {
    Failure::at_run_time(format!("the lease of job {id} in queue {queue} was lost before the job was completed"))
        .hint("it was cancelled, or its TTR ended and it may run again: put such jobs with a longer --ttr")
}

/// Prints the body, then completes the job; gives it back if it can't be printed.
fn print(json: bool, lease: &mut Lease<'_>, job: &Job) -> anyhow::Result<ExitCode> {
    let printed = if json {
        let mut object = json!({ "id": job.id, "queue": lease.queue.as_str() });
        put_body(&mut object, &job.body);
        io::stdout().lock().write_all(format!("{object}\n").as_bytes())
    } else {
        // A pipe gets the body's bytes and not one more; a person gets a prompt on a line of its own.
        let end: &[u8] = if io::stdout().is_terminal() && !job.body.ends_with(b"\n") { b"\n" } else { b"" };
        io::stdout().lock().write_all(&[&job.body, end].concat())
    };
    if let Err(error) = printed.and_then(|()| io::stdout().flush()) {
        lease.give_back()?;
        let message = format!("cannot print job {}: it was given back", job.id);
        return Err(Failure::at_run_time(message).caused_by(error).into());
    }
    lease.complete()?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the command with the body, then completes the job or gives it back.
fn exec(
    json: bool,
    lease: &mut Lease<'_>,
    job: Job,
    program: &OsString,
    arguments: &[OsString],
) -> anyhow::Result<ExitCode> {
    let started = Command::new(program)
        .args(arguments)
        .env("ROTA_JOB_ID", job.id.to_string())
        .env("ROTA_JOB_QUEUE", lease.queue.as_str())
        .stdin(Stdio::piped())
        .spawn();
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            lease.give_back()?;
            let message = format!("cannot start {}: job {} was given back", program.display(), job.id);
            return Err(Failure::at_run_time(message).caused_by(error).into());
        }
    };
    let status = attend(lease, child, job.body)?;
    let outcome = |outcome: &str| {
        let object = json!({
            "id": lease.id, "queue": lease.queue.as_str(), "outcome": outcome, "exit_status": status.code(),
        });
        if json { report::line(true, String::new, object) } else { Ok(()) }
    };
    if status.success() {
        let printed = outcome("completed");
        lease.complete()?;
        printed?;
        return Ok(ExitCode::SUCCESS);
    }
    let printed = outcome("released");
    lease.give_back()?;
    printed?;
    let message = format!("{} failed ({status}): job {} was released", program.display(), lease.id);
    Err(Failure::at_run_time(message).into())
}

/// Feeds the command and waits for it, renewing the lease all the while.
fn attend(lease: &mut Lease<'_>, mut child: Child, body: Vec<u8>) -> anyhow::Result<ExitStatus> {
    let mut stdin = child.stdin.take().expect("its standard input is piped");
    thread::spawn(move || {
        // A command may end, or close its input, before it has read all: its exit status says if that was right.
        stdin.write_all(&body).ok();
    });
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    let mut held = true;
    let mut broken = None;
    loop {
        // A third of the TTR: one renewal may come late without harm, and beanstalkd's last second is never near.
        match ended.recv_timeout(lease.ttr / 3) {
            Ok(status) => {
                if let Some(error) = broken {
                    return Err(error);
                }
                let failed = |error| Failure::at_run_time("cannot wait for the command").caused_by(error);
                return Ok(status.map_err(failed)?);
            }
            // Whatever becomes of the lease, the command is not left behind without its parent.
            Err(RecvTimeoutError::Timeout) if held => match lease.client.touch(lease.id) {
                Ok(true) => {}
                Ok(false) => {
                    held = false;
                    eprintln!("warning: the lease of job {} was lost; the command still runs", lease.id);
                }
                Err(error) => {
                    held = false;
                    eprintln!("warning: {error}; the command still runs");
                    broken = Some(error.into());
                }
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::at_run_time("the thread that waits for the command is gone").into());
            }
        }
    }
}
