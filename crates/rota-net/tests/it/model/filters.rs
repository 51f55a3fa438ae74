//! Filters, each with what it says of a job of the model.

use super::chance::{HOUR, WORKED};
use rota_engine::job::{JobId, JobState, Time};
use rota_engine::testing::model::{Job, Model, Place};
use rota_engine::testing::random::Random;
use std::time::Duration;

type Says = Box<dyn Fn(JobId, &Job) -> bool>;

/// Which jobs are meant, in words and as a test.
pub(super) struct Filter {
    pub(super) text: String,
    terms: Vec<Says>,
}

impl Filter {
    /// One to three terms.
    pub(super) fn any(random: &mut Random, model: &Model) -> Filter {
        let (texts, terms): (Vec<String>, Vec<Says>) =
            (0..random.within(1..4)).map(|_| maybe_not(random, model)).unzip();
        Filter { text: texts.join(" "), terms }
    }

    /// The jobs that are meant.
    pub(super) fn of(&self, model: &Model) -> Vec<JobId> {
        let is_meant = |(id, job): &(&JobId, &Job)| self.terms.iter().all(|says| says(**id, job));
        model.jobs().iter().filter(is_meant).map(|(id, _)| *id).collect()
    }
}

fn maybe_not(random: &mut Random, model: &Model) -> (String, Says) {
    let (text, says) = term(random, model);
    if random.chance(1, 4) {
        let not = *random.pick(&["-", "!"]);
        return (format!("{not}{text}"), Box::new(move |id, job| !says(id, job)));
    }
    (text, says)
}

fn term(random: &mut Random, model: &Model) -> (String, Says) {
    let small = random.below(4);
    match random.below(20) {
        0 => {
            let queue = *random.pick(&WORKED);
            (format!("queue:\"{queue}\""), Box::new(move |_, job| job.queue.as_str() == queue))
        }
        1 => (
            "queue:*a*l*".into(),
            Box::new(|_, job| job.queue.as_str().split_once('a').is_some_and(|(_, rest)| rest.contains('l'))),
        ),
        2 | 3 => {
            let [one, other] = [(); 2].map(|()| *random.pick(&JobState::ALL));
            let text = format!("state:{},{}", one.name(), other.name());
            (text, Box::new(move |_, job| [one, other].contains(&job.place.state())))
        }
        4 => ("kind:welcome".into(), Box::new(|_, job| job.terms.kind.as_deref() == Some("welcome"))),
        5 => ("kind:*".into(), Box::new(|_, job| job.terms.kind.is_some())),
        6 => (
            "limit_key:customer-2,nobody".into(),
            Box::new(|_, job| job.terms.limit_key.as_deref() == Some("customer-2")),
        ),
        7 => ("key:key-*".into(), Box::new(|_, job| job.key.as_ref().is_some_and(|key| key.starts_with(b"key-")))),
        8 => ("header.trace:00-*".into(), Box::new(|_, job| !job.terms.headers.is_empty())),
        9 => ("error:\"ROUTE to\"".into(), Box::new(|_, job| has(job.error.as_deref(), "No route to host"))),
        10 => ("progress:timed".into(), Box::new(|_, job| has(job.progress.as_deref(), "timed out"))),
        11 => (
            "result:code".into(),
            Box::new(|_, job| match &job.place {
                Place::Ended { result, .. } => has(result.as_deref(), "code"),
                _ => false,
            }),
        ),
        12 => {
            let last = model.next_job_id();
            let ids = [(); 3].map(|()| JobId(random.within(1..last + 2)));
            let text = format!("id:{},{},{}", ids[0], ids[1], ids[2]);
            (text, Box::new(move |id, _| ids.contains(&id)))
        }
        13 => {
            let bound = JobId(random.within(1..model.next_job_id() + 1));
            (format!("id>={bound}"), Box::new(move |id, _| id >= bound))
        }
        14 => ("priority<1024".into(), Box::new(|_, job| job.priority.0 < 1024)),
        15 => number(random, small),
        16 => {
            let now = model.now();
            let is_soon = move |job: &Job| job.run_at.since(now) <= HOUR * 10 + Duration::from_secs(1800);
            ("due<=10h30m".into(), Box::new(move |_, job| is_soon(job)))
        }
        17 => ("ttr>60s".into(), Box::new(|_, job| job.ttr > Duration::from_secs(60))),
        18 => {
            let parent = JobId(random.within(1..model.next_job_id() + 1));
            match random.below(3) {
                0 => (format!("waits_for:{parent}"), Box::new(move |_, job| job.waits_for.contains(&parent))),
                1 => (format!("held_by:{parent}"), Box::new(move |_, job| job.held_by == Some(parent))),
                _ => (format!("after:{parent}"), Box::new(move |_, job| job.terms.after.contains(&parent))),
            }
        }
        _ => ("due>0s".into(), {
            let now: Time = model.now();
            Box::new(move |_, job| job.run_at > now)
        }),
    }
}

/// A bound of a number that a job has.
fn number(random: &mut Random, bound: u64) -> (String, Says) {
    type Of = fn(&Job) -> u64;
    let numbers: [(&str, Of); 8] = [
        ("attempts", |job| job.tally.attempts.into()),
        ("max_attempts", |job| job.max_attempts.into()),
        ("reserves", |job| job.tally.reserves.into()),
        ("releases", |job| job.tally.releases.into()),
        ("max_lost_leases", |job| job.max_lost_leases.into()),
        ("buries", |job| job.tally.buries.into()),
        ("kicks", |job| job.tally.kicks.into()),
        ("body_bytes", |job| job.body.len() as u64),
    ];
    let (name, of) = *random.pick(&numbers);
    type Holds = fn(u64, u64) -> bool;
    let tests: [(&str, Holds); 5] = [
        (":", |value, bound| value == bound),
        ("<", |value, bound| value < bound),
        ("<=", |value, bound| value <= bound),
        (">", |value, bound| value > bound),
        (">=", |value, bound| value >= bound),
    ];
    let (sign, holds) = *random.pick(&tests);
    (format!("{name}{sign}{bound}"), Box::new(move |_, job| holds(of(job), bound)))
}

/// Whether that was said. What is looked for is in no other thing that is said.
fn has(said: Option<&[u8]>, what: &str) -> bool {
    said.is_some_and(|said| String::from_utf8_lossy(said).contains(what))
}
