//! Events as they happen, and what is past: an iterator that goes on after the last one when the connection ends.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::ask::{Ask, Method};
use super::stream::Stream;
use super::values::{self, escape};
use super::{Client, Error, JobState, ProblemKind};

/// The longest line of the stream that is taken, in bytes: far more than a server sends.
const LINE_BYTES: u64 = 1 << 20;

/// How long is waited before the server is asked again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Which events to listen to. What is empty chooses nothing: then it is events of all kinds, queues, jobs and actors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listen {
    /// Only of these kinds; `job.*` for all that begin so.
    pub kinds: Vec<String>,
    /// Only of these queues and their jobs.
    pub queues: Vec<String>,
    /// Only of these jobs.
    pub jobs: Vec<u64>,
    /// Only what these asked for.
    pub actors: Vec<String>,
    /// Goes on after the event of that number, 0 for all that are there; from now on where it is none.
    pub after: Option<u64>,
    /// Ends when all was told that there was when it was asked for.
    pub only_past: bool,
    /// When the connection ends, or the server was too fast or is away, it is asked again, from where it was on, for at
    /// most so long without an answer. Zero to end then with an error.
    pub try_again_for: Duration,
}

/// Something that happened, or that is told of the stream itself: of `resumed` and `gone` only `seq` is there, and says up to
/// which event some are missing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Its number: greater than that of every event before it, across restarts too.
    #[serde(with = "values::number")]
    pub seq: u64,
    /// What happened: the noun, a dot, the verb.
    pub kind: String,
    /// When.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Who asked for it.
    #[serde(default)]
    pub actor: Option<String>,
    /// To which job.
    #[serde(default, with = "values::maybe_number")]
    pub job: Option<u64>,
    /// In which queue.
    #[serde(default)]
    pub queue: Option<String>,
    /// What the job is from then on.
    #[serde(default)]
    pub state: Option<JobState>,
    /// The job's priority from then on.
    #[serde(default)]
    pub priority: Option<u32>,
    /// When the job is due.
    #[serde(default)]
    pub run_at: Option<Timestamp>,
    /// When the lease or the pause ends, or a job that is over is forgotten.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// How often the job was reserved so far.
    #[serde(default)]
    pub reserves: Option<u32>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// The job that this one waited for, or that was in the way.
    #[serde(default, with = "values::maybe_number")]
    pub parent: Option<u64>,
    /// What the holder said of the attempt that failed: a text or any JSON.
    #[serde(default)]
    pub error: Option<Value>,
    /// What the holder said of how far it is: a text or any JSON.
    #[serde(default)]
    pub progress: Option<Value>,
    /// The schedule; of a put, the one that put the job.
    #[serde(default)]
    pub schedule: Option<String>,
    /// The tick of that.
    #[serde(default)]
    pub tick: Option<Timestamp>,
    /// The schedule's next tick.
    #[serde(default)]
    pub next: Option<Timestamp>,
    /// All of it, as the server told it: one object of JSON in one line.
    #[serde(skip)]
    pub json: String,
}

/// The events that are listened to. It blocks until the next one; it ends where only what is past was asked for, and after an
/// error.
pub struct Events {
    client: Client,
    listen: Listen,
    stream: Option<Stream>,
    /// Up to which event all was told, as far as the server has said.
    last: Option<u64>,
    /// What that is when the block of lines that is being read is over.
    id: Option<u64>,
    is_over: bool,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("listen", &self.listen).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Listen {
    fn path(&self, last: Option<u64>) -> String {
        let join = |values: &[String]| values.iter().map(|value| escape(value)).collect::<Vec<_>>().join(",");
        let number = |number: &u64| number.to_string();
        let after = last.or(self.after).or(self.only_past.then_some(0));
        let parameters = [
            ("kind", join(&self.kinds)),
            ("queue", join(&self.queues)),
            ("job", self.jobs.iter().map(number).collect::<Vec<_>>().join(",")),
            ("actor", join(&self.actors)),
            ("after", after.as_ref().map(number).unwrap_or_default()),
            ("follow", if self.only_past { String::from("false") } else { String::new() }),
        ];
        let given = parameters.iter().filter(|(_, value)| !value.is_empty());
        let given: Vec<String> = given.map(|(name, value)| format!("{name}={value}")).collect();
        if given.is_empty() { String::from("/v1/events") } else { format!("/v1/events?{}", given.join("&")) }
    }
}

impl Client {
    /// Listens to events. The server has begun to listen for it when this returns.
    ///
    /// # Errors
    /// [`Error`]
    pub fn events(&self, listen: Listen) -> Result<Events, Error> {
        let mut events = Events { client: self.clone(), listen, stream: None, last: None, id: None, is_over: false };
        events.open()?;
        Ok(events)
    }
}

/// What came of a line of the stream.
enum Line {
    Event(Box<Event>),
    Nothing,
    /// All was told.
    End,
}

impl Events {
    /// The number of the last event that was told, or of a later one if nothing that was asked for happened up to that: to go on
    /// after it another time. None before the server has said from where on it listens.
    pub fn seen(&self) -> Option<u64> {
        self.last
    }

    fn open(&mut self) -> Result<(), Error> {
        let path = self.listen.path(self.last);
        self.id = None;
        self.stream = Some(self.client.stream(Ask::new(Method::Get, &path))?);
        Ok(())
    }

    /// The next line that says something; an error when the stream ended.
    fn line(&mut self) -> Result<Line, Error> {
        let ended = || Error::Ended { address: self.client.address.clone() };
        let stream = self.stream.as_mut().ok_or_else(ended)?;
        let line = self.client.next_line(stream, LINE_BYTES, "a line that is no event")?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            self.last = self.id.take().or(self.last);
        } else if let Some(id) = line.strip_prefix("id: ") {
            self.id = id.parse().ok();
        }
        let Some(data) = line.strip_prefix("data: ") else { return Ok(Line::Nothing) };
        let read = serde_json::from_str(data);
        let event: Event = read.map_err(|error| self.client.unexpected(&error.to_string(), data.as_bytes()))?;
        match event.kind.as_str() {
            "end" => Ok(Line::End),
            "lagged" => {
                self.last = Some(event.seq);
                Err(Error::Lagged { after: Some(event.seq) })
            }
            _ => Ok(Line::Event(Box::new(Event { json: data.to_owned(), ..event }))),
        }
    }

    /// Asks again, from after the last event on, until it is answered or has tried for long enough.
    fn open_again(&mut self, mut error: Error) -> Result<(), Error> {
        self.stream = None;
        let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
        while may_pass(&error) && begun.elapsed() < self.listen.try_again_for {
            thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            match self.open() {
                Ok(()) => return Ok(()),
                Err(next) => error = next,
            }
        }
        Err(error)
    }
}

/// Whether to ask again may help.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Problem(problem) => problem.kind.may_pass() || problem.kind == ProblemKind::TooSlow,
        Error::Connect { .. } | Error::Broken { .. } | Error::TimedOut { .. } => true,
        Error::Lagged { .. } | Error::Ended { .. } => true,
        _ => false,
    }
}

impl Iterator for Events {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Result<Event, Error>> {
        while !self.is_over {
            match self.line() {
                Ok(Line::Nothing) => {}
                Ok(Line::End) => self.is_over = true,
                Ok(Line::Event(event)) => {
                    self.last = Some(event.seq);
                    return Some(Ok(*event));
                }
                Err(error) => {
                    if let Err(error) = self.open_again(error) {
                        self.is_over = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }
}
