//! Which events somebody wants.

use super::super::access::Grant;
use super::super::fields::{Id, Name};
use super::super::problem::{Kind, Problem};
use rota_engine::job::{JobId, QueueName};
use rota_engine::limits::LISTENER_NAMES;
use rota_engine::news::{News, NewsKind};
use rota_engine::session::{Actor, BadActor};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

/// What is chosen; what is not said is no matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    kinds: Option<Vec<NewsKind>>,
    queues: Option<Vec<QueueName>>,
    jobs: Option<Vec<JobId>>,
    actors: Option<Vec<Actor>>,
    /// What whoever listens may see.
    grant: Option<Grant>,
}

/// What may be of somebody's choice, and what happened, in few bits, so that many are soon compared. What is chosen meets
/// whoever chose it; the other way round that is not sure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wants {
    kinds: u64,
    queues: u64,
    jobs: u64,
}

/// The bit of what is of no queue, or of no job: nobody has it who chose some.
const OF_NONE: u64 = 1 << 63;

/// Values with commas between them.
#[derive(Debug)]
pub(super) struct List<T>(Vec<T>);

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read: Result<Vec<T>, String> = text.split(',').take(LISTENER_NAMES + 1).map(str::parse).collect();
        let read = read.map_err(D::Error::custom)?;
        if read.len() > LISTENER_NAMES {
            return Err(D::Error::custom(too_many()));
        }
        Ok(List(read))
    }
}

fn too_many() -> String {
    format!("a list has at most {LISTENER_NAMES} entries: leave it away, and choose among what comes")
}

impl Choice {
    /// The same, of what may be seen with that grant.
    ///
    /// # Errors
    /// [`Problem`] if a queue was chosen that it does not reach.
    pub(super) fn within(self, grant: &Grant) -> Result<Choice, Problem> {
        self.queues.iter().flatten().try_for_each(|queue| grant.check_queue(queue))?;
        Ok(Choice { grant: grant.is_limited().then(|| grant.clone()), ..self })
    }

    /// # Errors
    /// [`Problem`] if a kind is none, or nobody can be called so.
    pub(super) fn new(
        kinds: Option<&str>,
        queues: Option<List<Name>>,
        jobs: Option<List<Id>>,
        actors: Option<&str>,
    ) -> Result<Choice, Problem> {
        Ok(Choice {
            kinds: kinds.map(read_kinds).transpose()?,
            queues: queues.map(|List(names)| names.into_iter().map(|Name(name)| name).collect()),
            jobs: jobs.map(|List(ids)| ids.into_iter().map(|Id(job)| job).collect()),
            actors: actors.map(read_actors).transpose()?,
            grant: None,
        })
    }

    /// The jobs that were chosen, if some were.
    pub(super) fn jobs(&self) -> Option<&[JobId]> {
        self.jobs.as_deref()
    }

    /// What may be among it.
    pub(super) fn wants(&self) -> Wants {
        fn of_each<T>(chosen: Option<&Vec<T>>, bit: impl Fn(&T) -> u64) -> u64 {
            chosen.map_or(u64::MAX, |chosen| chosen.iter().fold(0, |bits, one| bits | bit(one)))
        }
        Wants {
            kinds: of_each(self.kinds.as_ref(), |kind| kind_bit(*kind)),
            queues: of_each(self.queues.as_ref(), queue_bit),
            jobs: of_each(self.jobs.as_ref(), |job| job_bit(*job)),
        }
    }

    pub(super) fn takes(&self, news: &News) -> bool {
        let by_kind = self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&news.kind));
        let is_among = |queues: &Vec<QueueName>| news.queue.as_ref().is_some_and(|queue| queues.contains(queue));
        let by_queue = self.queues.as_ref().is_none_or(is_among);
        let by_job = self.jobs.as_ref().is_none_or(|jobs| news.job.is_some_and(|job| jobs.contains(&job)));
        let is_seen = |grant: &Grant| news.queue.as_ref().is_some_and(|queue| grant.covers(queue));
        let is_theirs = |actors: &Vec<Actor>| news.actor.as_ref().is_some_and(|actor| actors.contains(actor));
        let by_actor = self.actors.as_ref().is_none_or(is_theirs);
        by_kind && by_queue && by_job && by_actor && self.grant.as_ref().is_none_or(is_seen)
    }
}

impl Wants {
    pub(super) const NOTHING: Wants = Wants { kinds: 0, queues: 0, jobs: 0 };
    pub(super) const ALL: Wants = Wants { kinds: u64::MAX, queues: u64::MAX, jobs: u64::MAX };

    /// What one meets who wants that.
    pub(super) fn of(news: &News) -> Wants {
        Wants {
            kinds: kind_bit(news.kind),
            queues: news.queue.as_ref().map_or(OF_NONE, queue_bit),
            jobs: news.job.map_or(OF_NONE, job_bit),
        }
    }

    pub(super) fn or(self, other: Wants) -> Wants {
        Wants { kinds: self.kinds | other.kinds, queues: self.queues | other.queues, jobs: self.jobs | other.jobs }
    }

    pub(super) fn meets(self, other: Wants) -> bool {
        self.kinds & other.kinds != 0 && self.queues & other.queues != 0 && self.jobs & other.jobs != 0
    }
}

fn kind_bit(kind: NewsKind) -> u64 {
    const { assert!(NewsKind::ALL.len() <= 64, "a kind each bit") };
    NewsKind::ALL.iter().position(|one| *one == kind).map_or(u64::MAX, |place| 1 << place)
}

fn queue_bit(queue: &QueueName) -> u64 {
    let mut hasher = DefaultHasher::new();
    queue.hash(&mut hasher);
    1 << (hasher.finish() % 63)
}

fn job_bit(job: JobId) -> u64 {
    1 << (job.0 % 63)
}

fn read_kinds(text: &str) -> Result<Vec<NewsKind>, Problem> {
    if text.split(',').count() > LISTENER_NAMES {
        return Err(Problem::new(Kind::BadParameter, too_many()));
    }
    let mut kinds = Vec::new();
    for asked in text.split(',') {
        let before = kinds.len();
        let fits = |kind: &NewsKind| match asked.strip_suffix('*') {
            Some(start) => kind.name().starts_with(start),
            None => kind.name() == asked,
        };
        kinds.extend(NewsKind::ALL.into_iter().filter(fits));
        if kinds.len() == before {
            let nearest = NewsKind::ALL.iter().min_by_key(|kind| strsim::osa_distance(asked, kind.name()));
            let nearest = nearest.map_or("job.*", |kind| kind.name());
            let hint = format!("write {nearest:?}, or a beginning with a star, job.*; /v1/docs has all kinds");
            return Err(Problem::new(Kind::BadParameter, format!("{asked:?} is no kind of event")).hint(hint));
        }
    }
    Ok(kinds)
}

/// Names with commas between them, or one that may have commas in it.
fn read_actors(text: &str) -> Result<Vec<Actor>, Problem> {
    if text.split(',').count() > LISTENER_NAMES {
        return Err(Problem::new(Kind::BadParameter, too_many()));
    }
    let bad = |error: BadActor| {
        let hint = "write what a token is called, as `rota token list` shows it, or its id if it has no name";
        Problem::new(Kind::BadParameter, format!("actor: {error}")).hint(hint)
    };
    let mut actors = text.split(',').map(Actor::new).collect::<Result<Vec<Actor>, BadActor>>().map_err(bad)?;
    if actors.len() > 1 {
        actors.extend(Actor::new(text));
    }
    Ok(actors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rota_engine::job::Time;

    #[test]
    fn kinds_are_chosen_by_name_and_by_beginning() {
        let takes = |text: &str, kind| {
            let choice = Choice::new(Some(text), None, None, None).unwrap();
            choice.takes(&News::new(1, Time(1), Time(1), kind))
        };
        assert!(takes("job.put", NewsKind::JobPut) && !takes("job.put", NewsKind::JobReady));
        assert!(takes("lease.lost,job.*", NewsKind::JobReady) && takes("lease.lost,job.*", NewsKind::LeaseLost));
        assert!(!takes("lease.lost,job.*", NewsKind::QueuePaused) && takes("*", NewsKind::QueuePaused));
        for bad in ["", ",", "job.putt", "job", "jobs.*", "job.put,", "Job.put", " job.put"] {
            assert!(Choice::new(Some(bad), None, None, None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_chosen_is_met_by_what_is_wanted() {
        let queue = |name: &str| Some(QueueName::new(name).unwrap());
        let news =
            |kind, queue, job: Option<u64>| News { queue, job: job.map(JobId), ..News::new(1, Time(1), Time(1), kind) };
        let mut told: Vec<News> = NewsKind::ALL.into_iter().map(|kind| news(kind, queue("mail"), Some(7))).collect();
        told.extend([news(NewsKind::JobPut, queue("news"), Some(8)), news(NewsKind::ServerStopped, None, None)]);
        let queues = |text: &str| serde_json::from_value(serde_json::json!(text)).unwrap();
        let jobs = |text: &str| serde_json::from_value(serde_json::json!(text)).unwrap();
        let choices = [
            Choice::default(),
            Choice::new(Some("job.*"), None, None, None).unwrap(),
            Choice::new(Some("server.stopped,lease.lost"), None, None, None).unwrap(),
            Choice::new(None, Some(queues("mail,other")), None, None).unwrap(),
            Choice::new(None, None, Some(jobs("8,72")), None).unwrap(),
            Choice::new(Some("job.put"), Some(queues("news")), Some(jobs("8")), None).unwrap(),
        ];
        for choice in &choices {
            for told in &told {
                let wants = choice.wants();
                assert!(wants.meets(Wants::of(told)) >= choice.takes(told), "{choice:?} {told:?}");
                assert!(!wants.meets(Wants::NOTHING) && wants.meets(Wants::ALL));
            }
        }
        // Few are woken for nothing.
        let met = |choice: &Choice| told.iter().filter(|told| choice.wants().meets(Wants::of(told))).count();
        let taken = |choice: &Choice| told.iter().filter(|told| choice.takes(told)).count();
        assert_eq!(choices.each_ref().map(met), choices.each_ref().map(taken));
    }

    #[test]
    fn actors_are_chosen_by_name_with_commas_between_them_or_within() {
        let takes = |text: &str, actor: Option<&str>| {
            let choice = Choice::new(None, None, None, Some(text)).unwrap();
            let actor = actor.map(|actor| Actor::new(actor).unwrap());
            choice.takes(&News { actor, ..News::new(1, Time(1), Time(1), NewsKind::JobPut) })
        };
        assert!(takes("mailer", Some("mailer")) && !takes("mailer", Some("mail")) && !takes("mailer", None));
        assert!(takes("a,the b", Some("the b")) && takes("a,the b", Some("a,the b")) && !takes("a,the b", Some("b")));
        let long = "x".repeat(101);
        let many = ["x"; LISTENER_NAMES + 1].join(",");
        for bad in ["", "a,", "a\nb", &long, &many] {
            assert!(Choice::new(None, None, None, Some(bad)).is_err(), "{bad:?}");
        }
    }
}
