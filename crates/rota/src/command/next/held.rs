//! The job that is worked on, and what can be done to it, over whichever protocol it was taken.

use std::collections::BTreeMap;
use std::time::Duration;

use rota_client::http::{JobState, Lease, Timestamp, Value};
use rota_client::{Client, QueueName};

use crate::command::http;
use crate::report::Failure;

/// A job that is held.
pub(super) struct Held {
    pub(super) job: Job,
    by: By,
}

/// What is known of it.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) queue: String,
    pub(super) body: Vec<u8>,
    pub(super) ttr: Duration,
    /// Attempts that failed; over the beanstalkd protocol nobody says.
    pub(super) attempts: Option<u32>,
    pub(super) key: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
}

/// By what it is held.
enum By {
    Http(Box<Lease>),
    /// A connection.
    Beanstalkd {
        client: Client,
        priority: u32,
    },
}

/// What became of a job whose attempt failed.
pub(super) enum Failed {
    /// It was given back: no attempt was counted.
    Released,
    /// It is tried again then.
    Delayed { until: Timestamp },
    /// That was its last attempt.
    Buried { attempts: u32 },
}

impl Held {
    pub(super) fn over_http(lease: Lease) -> Held {
        let known = lease.job();
        let job = Job {
            id: known.id,
            queue: known.queue.clone(),
            body: known.body().unwrap_or_default().to_vec(),
            ttr: known.ttr,
            attempts: Some(known.attempts),
            key: known.key.clone(),
            kind: known.kind.clone(),
            headers: known.headers.clone(),
        };
        Held { job, by: By::Http(Box::new(lease)) }
    }

    /// Asks what a command needs to know about a job that was just reserved.
    pub(super) fn over_beanstalkd(
        mut client: Client,
        queue: &QueueName,
        job: rota_client::Job,
    ) -> anyhow::Result<Held> {
        let rota_client::Job { id, body } = job;
        let fields = client.stats_job(id)?.ok_or_else(|| lost(id, queue.as_str()))?;
        let number = |key: &str| -> Option<u64> {
            fields.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.parse().ok())
        };
        let (Some(priority), Some(ttr)) = (number("pri").and_then(|pri| u32::try_from(pri).ok()), number("ttr")) else {
            let message = format!("{queue}: the server does not say the priority and TTR of job {id}");
            return Err(Failure::at_run_time(message).into());
        };
        let job = Job {
            id,
            queue: queue.as_str().to_owned(),
            body,
            ttr: Duration::from_secs(ttr.max(1)),
            attempts: None,
            key: None,
            kind: None,
            headers: BTreeMap::new(),
        };
        Ok(Held { job, by: By::Beanstalkd { client, priority } })
    }

    /// Whether the server is told of failed attempts, and why they failed.
    pub(super) fn can_fail(&self) -> bool {
        matches!(self.by, By::Http(_))
    }

    /// Ends the job as done, with what came of it; over the beanstalkd protocol nobody is told that.
    ///
    /// # Errors
    /// The lease was lost; or the server did not answer.
    pub(super) fn complete(&mut self, result: Option<&Value>) -> anyhow::Result<()> {
        let id = self.job.id;
        let is_held = match &mut self.by {
            By::Http(lease) => {
                let done = result.map_or_else(|| lease.complete(), |result| lease.complete_with(result));
                done.map_err(|error| http::failure(&error, &format!("job {id} is done, and not completed")))?
            }
            By::Beanstalkd { client, .. } => client.delete(id)?,
        };
        if is_held { Ok(()) } else { Err(self.lost().into()) }
    }

    /// Gives the job back without fault, ready at once.
    ///
    /// # Errors
    /// Those of [`Held::complete`].
    pub(super) fn give_back(&mut self) -> anyhow::Result<()> {
        let id = self.job.id;
        let is_held = match &mut self.by {
            By::Http(lease) => {
                let given = lease.release(None, None);
                given.map_err(|error| http::failure(&error, &format!("job {id} is not given back")))?.is_some()
            }
            By::Beanstalkd { client, priority } => client.release(id, *priority)?,
        };
        if is_held { Ok(()) } else { Err(self.lost().into()) }
    }

    /// Says that the attempt failed, and why.
    ///
    /// # Errors
    /// Those of [`Held::complete`].
    pub(super) fn fail(&mut self, why: &str) -> anyhow::Result<Failed> {
        let By::Http(lease) = &self.by else {
            self.give_back()?;
            return Ok(Failed::Released);
        };
        let not = format!("job {} failed, and the server was not told", self.job.id);
        let job = lease.fail(why, None).map_err(|error| http::failure(&error, &not))?;
        let Some(job) = job else { return Err(self.lost().into()) };
        Ok(match job.state {
            JobState::Buried => Failed::Buried { attempts: job.attempts },
            _ => Failed::Delayed { until: job.run_at },
        })
    }

    /// Begins the lease anew; false if it was lost.
    ///
    /// # Errors
    /// The server did not answer.
    pub(super) fn touch(&mut self) -> anyhow::Result<bool> {
        match &mut self.by {
            By::Http(lease) => Ok(lease.touch().map_err(|error| http::failure(&error, "the lease is not renewed"))?),
            By::Beanstalkd { client, .. } => Ok(client.touch(self.job.id)?),
        }
    }

    fn lost(&self) -> Failure {
        lost(self.job.id, &self.job.queue)
    }
}

fn lost(id: u64, queue: &str) -> Failure {
    Failure::at_run_time(format!("the lease of job {id} in queue {queue} was lost before the job was completed"))
        .hint("it was cancelled, or its TTR ended and it may run again: put such jobs with a longer --ttr")
}
