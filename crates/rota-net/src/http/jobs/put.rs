//! Puts, as they are read: one job, a list of them, or an object with a list; checked, and then decided.

mod template;

pub(in crate::http) use template::{ShownTemplate, TemplateJob};

use super::Job;
use super::terms::{BackOff, OnParentFailure, ParentName};
use crate::http::api::Desk;
use crate::http::fields::{BASE64, Moment, Name, Span, present};
use crate::http::problem::{Kind, Problem};
use crate::http::refused;
use crate::http::request::{Object, maybe_object, parse};
use crate::limits::PUT_JOBS;
use base64::Engine as _;
use rota_engine::command::{self, Command, Due, Parent, Refusal, Target};
use rota_engine::engine::Engine;
use rota_engine::far::Want;
use rota_engine::job::{Priority, QueueName};
use rota_engine::limits::{DEFAULT_MAX_ATTEMPTS, DEFAULT_MAX_LOST_LEASES, KEY_BYTES, PARENTS};
use rota_engine::refused::PutRefused;
use rota_engine::terms::{BadTerms, Terms};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use utoipa::ToSchema;

/// What a job has unless its put says otherwise.
const PRIORITY: u32 = 1024;
const TTR: Duration = Duration::from_secs(60);

/// The shortest lease.
const SHORTEST_TTR: Duration = Duration::from_millis(1);

/// A job to put. Its body is exactly one of `json`, `text` and `base64`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewJob {
    /// Where it goes.
    queue: Name,
    /// The body: any JSON, stored as it stands here.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<serde_json::Value>, required = false)]
    json: Option<Box<RawValue>>,
    /// The body: this text, in UTF-8.
    text: Option<String>,
    /// The body: these bytes.
    base64: Option<String>,
    /// 0 is the most urgent; 1024 unless told.
    #[schema(value_type = Option<u64>, maximum = 4294967295u32)]
    priority: Option<u32>,
    /// How long from now it is due; it does not move when the wall clock is set. At once unless told.
    delay: Option<Span>,
    /// When it is due, by the wall clock; instead of `delay`.
    run_at: Option<Moment>,
    /// How long a lease on it lasts: at least `1ms`; `60s` unless told.
    ttr: Option<Span>,
    /// The client's own name for it, 1 to 200 bytes: unique among the open jobs of its queue.
    #[schema(min_length = 1, max_length = 200)]
    key: Option<String>,
    /// What to do where an open job of the queue has that key.
    #[serde(default)]
    on_conflict: OnConflict,
    /// Failed attempts after which it is buried; 0 for no limit, and 25 unless told.
    #[schema(maximum = 65535)]
    max_attempts: Option<u16>,
    /// Lost leases after which it is buried; 0 for no limit, and 10 unless told.
    #[schema(maximum = 65535)]
    max_lost_leases: Option<u16>,
    /// How long it waits after a failed attempt: 1 s, 2 s, 4 s and so on up to an hour unless told.
    #[serde(default, deserialize_with = "maybe_object")]
    back_off: Option<BackOff>,
    /// The class of work: 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    kind: Option<String>,
    /// Whose job it is, 1 to 255 bytes, where its queue bounds what is done for each: see `per_key` of the queue's settings.
    #[schema(min_length = 1, max_length = 255)]
    limit_key: Option<String>,
    /// Names and values that travel with it: 4,096 bytes together.
    headers: Option<BTreeMap<String, String>>,
    /// Jobs that must be done before, at most 256. One that is over counts as done, unless it is known to have been
    /// cancelled, or to have expired.
    #[serde(default)]
    #[schema(max_items = 256)]
    after: Vec<ParentName>,
    /// What becomes of it when one of those is cancelled, or expires.
    #[serde(default)]
    on_parent_failure: OnParentFailure,
    /// If it waits so long from now, not begun yet or to be tried again, it expires.
    expires_in: Option<Span>,
    /// If it waits then, it expires; instead of `expires_in`.
    expires_at: Option<Moment>,
}

/// What a put does where its key is taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum OnConflict {
    /// Refuses it.
    #[default]
    Reject,
    /// Puts nothing, and answers the job that has the key.
    Keep,
    /// That job becomes what this put says, and keeps its id and those who wait for it.
    Replace,
}

/// Several jobs to put.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ManyPut {
    /// At most 1,000.
    #[schema(value_type = Vec<NewJob>, max_items = 1000)]
    jobs: NewJobs,
}

/// One job, or several.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(in crate::http) enum PutRequest {
    One(Box<NewJob>),
    Many(Vec<NewJob>),
    Named(ManyPut),
}

/// A list of jobs, of a bounded length.
#[derive(Debug)]
struct NewJobs(Vec<NewJob>);

impl<'de> Deserialize<'de> for NewJobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NewJobs, D::Error> {
        struct Jobs;
        impl<'de> Visitor<'de> for Jobs {
            type Value = NewJobs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of jobs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NewJobs, A::Error> {
                let mut jobs = Vec::new();
                while let Some(Object(job)) = list.next_element()? {
                    if jobs.len() == PUT_JOBS {
                        return Err(A::Error::custom(format_args!("at most {PUT_JOBS} jobs are put in one request")));
                    }
                    jobs.push(job);
                }
                Ok(NewJobs(jobs))
            }
        }
        deserializer.deserialize_seq(Jobs)
    }
}

/// What a request asks for, checked.
pub(in crate::http) enum Checked {
    One(Result<Put, TooLarge>),
    /// Each may be refused for itself.
    Many(Vec<Result<Put, TooLarge>>),
}

/// A job that is longer than one may be: what only this one is refused for.
pub(in crate::http) struct TooLarge {
    queue: QueueName,
    problem: Problem,
}

impl TooLarge {
    /// Where it was to go.
    pub(in crate::http) fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Counts that it is refused, and says why.
    pub(in crate::http) fn tell(self, desk: &mut Desk<'_>) -> Problem {
        if let Err(problem) = desk.grant().check_queue(&self.queue) {
            return problem;
        }
        desk.count_refused_put(&self.queue, PutRefused::TooLarge);
        self.problem
    }
}

impl From<TooLarge> for Problem {
    fn from(TooLarge { problem, .. }: TooLarge) -> Problem {
        problem
    }
}

/// A job to put, checked.
pub(in crate::http) struct Put {
    /// Where in the request it is: empty for the only one.
    pointer: Box<str>,
    queue: QueueName,
    priority: Priority,
    due: Due,
    ttr: Duration,
    max_attempts: u16,
    max_lost_leases: u16,
    key: Option<String>,
    on_conflict: command::OnConflict,
    after: Vec<ParentName>,
    expires: Option<Due>,
    terms: Option<Box<Terms>>,
    body: Box<[u8]>,
}

/// The jobs that a put names.
pub(in crate::http) struct Named {
    key: Option<(QueueName, String)>,
    after: Vec<ParentName>,
}

impl Named {
    /// What has to be in memory before it is decided.
    pub(in crate::http) fn wanted(&self, engine: &Engine) -> Vec<Want> {
        let key = self.key.iter().filter_map(|(queue, key)| engine.wanted_key(queue, key.as_bytes()));
        key.chain(self.after.iter().filter_map(|parent| engine.wanted_parent(&parent.parent()))).collect()
    }
}

/// Whether an object has the member `jobs`; whatever else it has is nobody's business yet.
#[derive(Deserialize)]
struct Probe {
    jobs: Option<IgnoredAny>,
}

impl PutRequest {
    /// Reads and checks the body of a request, of jobs of at most `most` bytes.
    pub(in crate::http) fn read(bytes: &[u8], most: usize) -> Result<Checked, Problem> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'[') {
            let jobs: NewJobs = parse(bytes)?;
            return many(jobs, "", most);
        }
        // The word may stand elsewhere in a job, too.
        let may_be_many = memchr::memmem::find(bytes, b"\"jobs\"").is_some();
        if may_be_many && serde_json::from_slice::<Probe>(bytes).is_ok_and(|probe| probe.jobs.is_some()) {
            let Object(ManyPut { jobs }) = parse(bytes)?;
            return many(jobs, "/jobs", most);
        }
        let Object(job): Object<NewJob> = parse(bytes)?;
        job.check("", most).map(Checked::One)
    }
}

fn many(NewJobs(jobs): NewJobs, pointer: &str, most: usize) -> Result<Checked, Problem> {
    let jobs = jobs.into_iter().enumerate();
    let checked = jobs.map(|(at, job)| job.check(&format!("{pointer}/{at}"), most));
    checked.collect::<Result<Vec<_>, _>>().map(Checked::Many)
}

impl NewJob {
    /// Checks what its fields alone cannot say. What is wrong with the request comes as an error; what only this job is
    /// refused for is inside.
    fn check(self, pointer: &str, most: usize) -> Result<Result<Put, TooLarge>, Problem> {
        let bad = |field: &str, detail: String| Problem::new(Kind::BadValue, detail).at(format!("{pointer}{field}"));
        let (field, body): (&str, Box<[u8]>) = match (self.json, self.text, self.base64) {
            (Some(json), None, None) => ("/json", json.get().as_bytes().into()),
            (None, Some(text), None) => ("/text", text.into_bytes().into()),
            (None, None, Some(text)) => {
                let bytes =
                    BASE64.decode(&text).map_err(|error| bad("/base64", format!("that is no base64: {error}")))?;
                ("/base64", bytes.into())
            }
            (None, None, None) => {
                let problem = bad("", String::from("the job has no body"));
                return Err(problem.hint("give one of json, text and base64"));
            }
            _ => {
                let problem = bad("", String::from("the job has more than one body"));
                return Err(problem.hint("give only one of json, text and base64"));
            }
        };
        let due = match (self.delay, self.run_at) {
            (delay, None) => Due::In(delay.map_or(Duration::ZERO, |Span(delay)| delay)),
            (None, Some(Moment(at))) => Due::At(at),
            (Some(_), Some(_)) => {
                let problem = bad("/delay", String::from("the job has both a delay and a run_at"));
                return Err(problem.hint("give only one of them"));
            }
        };
        let ttr = self.ttr.map_or(TTR, |Span(ttr)| ttr);
        if ttr < SHORTEST_TTR {
            return Err(bad("/ttr", String::from("a lease of less than 1ms is too short")));
        }
        if let Some(key) = self.key.as_ref().filter(|key| !(1..=KEY_BYTES).contains(&key.len())) {
            return Err(bad("/key", format!("a key has 1 to {KEY_BYTES} bytes, and that one has {}", key.len())));
        }
        let expires = match (self.expires_in, self.expires_at) {
            (None, None) => None,
            (Some(Span(span)), None) => Some(Due::In(span)),
            (None, Some(Moment(at))) => Some(Due::At(at)),
            (Some(_), Some(_)) => {
                let problem = bad("/expires_in", String::from("the job has both an expires_in and an expires_at"));
                return Err(problem.hint("give only one of them"));
            }
        };
        if self.after.len() > PARENTS {
            return Err(bad("/after", BadTerms::Parents.to_string()));
        }
        let back_off = self
            .back_off
            .map(|back_off| back_off.checked().ok_or_else(|| bad("/back_off", BadTerms::BackOff.to_string())));
        let headers = self.headers.unwrap_or_default().into_iter();
        let terms = Terms {
            kind: self.kind.map(String::into_boxed_str),
            headers: headers.map(|(name, value)| (name.into_boxed_str(), value.into_boxed_str())).collect(),
            on_parent_failure: self.on_parent_failure.into(),
            back_off: back_off.transpose()?,
            limit_key: self.limit_key.map(String::into_boxed_str),
            ..Terms::default()
        };
        terms.check().map_err(|fault| {
            let field = match fault {
                BadTerms::Kind => "/kind",
                BadTerms::LimitKey => "/limit_key",
                _ => "/headers",
            };
            bad(field, fault.to_string())
        })?;
        if body.len() > most {
            let detail = format!("the body has {} bytes, and a job's has at most {most}", body.len());
            let problem = Problem::new(Kind::JobTooLarge, detail).at(format!("{pointer}{field}"));
            return Ok(Err(TooLarge { queue: self.queue.0, problem }));
        }
        Ok(Ok(Put {
            pointer: pointer.into(),
            queue: self.queue.0,
            priority: Priority(self.priority.unwrap_or(PRIORITY)),
            due,
            ttr,
            max_attempts: self.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS),
            max_lost_leases: self.max_lost_leases.unwrap_or(DEFAULT_MAX_LOST_LEASES),
            key: self.key,
            on_conflict: match self.on_conflict {
                OnConflict::Reject => command::OnConflict::Reject,
                OnConflict::Keep => command::OnConflict::Keep,
                OnConflict::Replace => command::OnConflict::Replace,
            },
            after: self.after,
            expires,
            terms: (!terms.is_empty()).then(|| Box::new(terms)),
            body,
        }))
    }
}

impl Put {
    /// Where it goes.
    pub(in crate::http) fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// How many jobs it names that it is to wait for.
    pub(in crate::http) fn parents(&self) -> usize {
        self.after.len()
    }

    /// Counts that it is refused, where it may be put by whoever asks.
    pub(in crate::http) fn refuse(&self, desk: &mut Desk<'_>, why: PutRefused) {
        if desk.grant().covers(&self.queue) {
            desk.count_refused_put(&self.queue, why);
        }
    }

    /// Which jobs may have to be in memory before it is decided.
    pub(in crate::http) fn named(&self) -> Named {
        Named { key: self.key.clone().map(|key| (self.queue.clone(), key)), after: self.after.clone() }
    }

    /// Puts it. Says whether the job is a new one, and shows it.
    pub(in crate::http) fn decide(self, desk: &mut Desk<'_>) -> Result<(bool, Job), Problem> {
        desk.grant().check_queue(&self.queue)?;
        if desk.shared().facts.draining {
            desk.count_refused_put(&self.queue, PutRefused::Draining);
            return Err(Problem::new(Kind::Draining, "the server was told to take a snapshot and stop"));
        }
        let key = self.key.as_deref();
        let after: Vec<Parent<'_>> = self.after.iter().map(ParentName::parent).collect();
        let new = command::NewJob {
            queue: Target::Named(&self.queue),
            priority: self.priority,
            due: self.due,
            ttr: self.ttr,
            max_lost_leases: self.max_lost_leases,
            max_attempts: self.max_attempts,
            key: key.map(str::as_bytes),
            on_conflict: self.on_conflict,
            after: &after,
            expires: self.expires,
            terms: self.terms,
            body: self.body,
        };
        let (is_new, id) = match desk.execute(Command::Put(new)) {
            Ok(command::Answer::Put(id)) => (true, id),
            Ok(command::Answer::Kept(id) | command::Answer::Replaced(id)) => (false, id),
            Ok(other) => unreachable!("a put is not answered {other:?}"),
            Err(Refusal::KeyTaken(id)) => {
                let key = key.unwrap_or_default();
                let detail = format!("job {id} of {} has the key {key:?}", self.queue);
                return Err(Problem::new(Kind::KeyTaken, detail).about(id));
            }
            Err(Refusal::UnknownParent(number)) => {
                let detail = match after[number - 1] {
                    Parent::Id(job) => format!("the job is to wait for job {job}, which was never put"),
                    Parent::Key { queue, key } => {
                        let key = String::from_utf8_lossy(key);
                        format!("the job is to wait for an open job of {queue} with the key {key:?}, and there is none")
                    }
                };
                let pointer = format!("{}/after/{}", self.pointer, number - 1);
                return Err(Problem::new(Kind::UnknownParent, detail).at(pointer));
            }
            Err(refusal) => return Err(refused(refusal)),
        };
        // Where it was to wait for what came to nothing, it was cancelled at once.
        let Some(view) = desk.job(id) else {
            let detail =
                format!("job {id} was cancelled at once: a job that it was to wait for was cancelled, or expired");
            return Err(Problem::new(Kind::ParentFailed, detail).about(id));
        };
        Ok((is_new, Job::of(&view, &desk.shared().engine)))
    }
}
