//! The put: which of the protocol's commands carries it, and what the answers mean.
//!
//! Plain `put` is used wherever it can say all that was asked, so that any beanstalkd understands it; `put-in`, `put-at` and
//! `put-after` are for milliseconds, keys, moments, and jobs that wait for others.

use std::time::{Duration, SystemTime};

use super::connection::Connection;
use super::{Client, ClientError, Key, Need, QueueName, whole_seconds_up};

/// A job to be put.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// Where it goes.
    pub queue: &'a QueueName,
    /// Its body, without the line end.
    pub body: &'a [u8],
    /// 0 is the most urgent.
    pub priority: u32,
    /// When it becomes due.
    pub when: When,
    /// How long a worker may hold it; never zero.
    pub ttr: Duration,
    /// Unique among the open jobs of its queue, if there is one.
    pub key: Option<&'a Key>,
    /// The jobs that must be done before, of whatever queue; if one is cancelled, this one is too.
    pub after: &'a [u64],
}

/// The longest line of a command, with its end.
const LINE_BYTES: usize = 224;

/// When a job becomes due.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// This long after the put; zero is at once.
    In(Duration),
    /// At this moment; at once if it is past.
    At(SystemTime),
}

impl Client {
    /// Puts a job and gives its id.
    ///
    /// # Errors
    /// [`ClientError::KeyTaken`], [`ClientError::TooBig`], [`ClientError::Buried`], [`ClientError::UnknownParent`],
    /// [`ClientError::TooManyParents`]; [`ClientError::NoSuchCommand`] if the job needs what only Rota has, in which case
    /// nothing was put; and all of the connection's, after which the job may be there or not.
    pub fn put(&mut self, put: &Put<'_>) -> Result<u64, ClientError> {
        let mut on = self.connection();
        on.use_queue(put.queue)?;
        let plain_ttr = plain_seconds(put.ttr);
        let plain_delay = match put.when {
            When::In(delay) => plain_seconds(delay),
            When::At(_) => None,
        };
        if let (Some(ttr), Some(delay), None, []) = (plain_ttr, plain_delay, put.key, put.after) {
            return put_plain(&mut on, put, delay, ttr);
        }
        if on.has_extensions()? {
            let (command, line) = extended_line(put)?;
            let answer = on.call(command, format_args!("{line}"), &framed(put.body))?;
            return put_answer(&on, put, command, &answer);
        }
        let need = match (put.key, put.after, plain_ttr, put.when) {
            (Some(_), ..) => Need::Key,
            (None, [_, ..], ..) => Need::After,
            (None, [], None, _) => Need::TtrInMilliseconds,
            (None, [], Some(_), When::In(_)) => Need::DelayInMilliseconds,
            (None, [], Some(ttr), When::At(moment)) => {
                let delay = whole_seconds_up(until(moment)).min(u64::from(u32::MAX));
                return put_plain(&mut on, put, delay, ttr);
            }
        };
        Err(ClientError::no_such_command(&on.address, "put-in", need))
    }
}

fn put_plain(on: &mut Connection, put: &Put<'_>, delay: u64, ttr: u64) -> Result<u64, ClientError> {
    let (priority, bytes) = (put.priority, put.body.len());
    let answer = on.call("put", format_args!("put {priority} {delay} {ttr} {bytes}"), &framed(put.body))?;
    put_answer(on, put, "put", &answer)
}

fn put_answer(on: &Connection, put: &Put<'_>, command: &'static str, answer: &str) -> Result<u64, ClientError> {
    if answer == "JOB_TOO_BIG" {
        return Err(ClientError::TooBig { address: on.address.clone(), bytes: put.body.len() });
    }
    if let Some(key) = put.key
        && answer.starts_with("KEY_TAKEN ")
    {
        let id = on.number(answer, command, "KEY_TAKEN ")?;
        return Err(ClientError::KeyTaken { queue: put.queue.clone(), key: key.clone(), id });
    }
    if answer == "NOT_FOUND" && !put.after.is_empty() {
        return Err(ClientError::UnknownParent { address: on.address.clone() });
    }
    if answer.starts_with("BURIED ") {
        let id = on.number(answer, command, "BURIED ")?;
        return Err(ClientError::Buried { address: on.address.clone(), id });
    }
    on.number(answer, command, "INSERTED ")
}

/// Rota's own command for the put, and its line.
///
/// # Errors
/// [`ClientError::TooManyParents`]
pub(super) fn extended_line(put: &Put<'_>) -> Result<(&'static str, String), ClientError> {
    let (command, moment_ms) = match put.when {
        When::In(delay) if put.after.is_empty() => ("put-in", whole_millis_up(delay)),
        When::In(delay) => ("put-after", whole_millis_up(delay)),
        When::At(moment) if !put.after.is_empty() => ("put-after", whole_millis_up(until(moment))),
        When::At(moment) => {
            let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
            ("put-at", whole_millis_up(since))
        }
    };
    let (priority, ttr_ms, bytes) = (put.priority, whole_millis_up(put.ttr), put.body.len());
    let key = put.key.map_or(String::new(), |key| format!(" {key}"));
    let after: Vec<String> = put.after.iter().map(|id| id.to_string()).collect();
    let after = if after.is_empty() { String::new() } else { format!(" {}", after.join(",")) };
    let line = format!("{command}{after} {priority} {moment_ms} {ttr_ms} {bytes}{key}");
    if line.len() + 2 > LINE_BYTES && !put.after.is_empty() {
        return Err(ClientError::TooManyParents { jobs: put.after.len() });
    }
    Ok((command, line))
}

/// A span in seconds, if plain `put` can say it.
fn plain_seconds(span: Duration) -> Option<u64> {
    let plain = span.subsec_nanos() == 0 && span.as_secs() <= u64::from(u32::MAX);
    plain.then_some(span.as_secs())
}

fn whole_millis_up(span: Duration) -> u64 {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    millis.saturating_add(u64::from(!span.subsec_nanos().is_multiple_of(1_000_000)))
}

/// How long it is until `moment`; zero if it is past.
fn until(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}

pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    [body, b"\r\n"].concat()
}
