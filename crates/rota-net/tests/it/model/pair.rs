//! The server and the model, and what both are told.

use super::chance::{Thrown, queue_name};
use super::moments::Moments;
use super::shown::{self, MILLI};
use super::wire::{Answer, Wire};
use crate::server::Server;
use rota_engine::clock::{Clock, SystemClock};
use rota_engine::command::{self, Delivered, Refusal};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobId, LeaseToken, QueueName, Time};
use rota_engine::testing::model::{Model, Place, Said};
use rota_engine::testing::random::Random;
use rota_engine::testing::workload::{Client, Input, Request};
use rota_net::http::Patience;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// How many requests are printed when something is not as it should be.
const PRINTED: usize = 12;

/// How many leases are kept in mind, ended or not.
const LEASES: usize = 40;

/// A server and what it should be like.
pub(super) struct Pair {
    seed: u64,
    pub(super) server: Server,
    pub(super) wire: Wire,
    pub(super) model: Model,
    pub(super) random: Random,
    moments: Moments,
    /// The number of the last moment at which something happened.
    step: u64,
    clients: Client,
    /// What came to clients of the model that waited, and nobody looked at yet.
    delivered: Vec<(Client, Delivered)>,
    /// Leases that were given, the last ones.
    pub(super) leases: VecDeque<(JobId, LeaseToken)>,
    pub(super) named: Vec<Named>,
    trail: VecDeque<String>,
    asked: Asked,
}

/// A request that named itself, as far as it put something.
pub(super) struct Named {
    pub(super) key: String,
    pub(super) body: String,
    pub(super) jobs: Vec<Thrown>,
    pub(super) is_one: bool,
    /// Whether it made a job and which, of those that were not refused.
    pub(super) came: Vec<Option<(bool, JobId)>>,
}

/// How many requests there were of each method and last part of a path, and how they were answered.
#[derive(Clone, Default)]
pub(super) struct Asked(BTreeMap<(String, u16), u64>);

impl Asked {
    pub(super) fn add(&mut self, other: &Asked) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }

    /// Takes note of a request.
    fn note(&mut self, request: &str, status: u16) {
        let (path, _) = request.split_once('?').unwrap_or((request, ""));
        let words: Vec<&str> = path.split(['/', ' ']).filter(|word| !word.is_empty() && *word != "v1").collect();
        let what = match words[..] {
            [method, noun] => format!("{method} {noun}"),
            [method, noun, verb @ ("kick" | "retry" | "cancel")] => format!("{method} {noun} {verb}"),
            [method, noun, _] => format!("{method} one of {noun}"),
            [method, noun, _, "keys", _] => format!("{method} {noun} key"),
            [method, noun, _, verb] => format!("{method} one of {noun} {verb}"),
            _ => path.to_owned(),
        };
        *self.0.entry((what, status)).or_default() += 1;
    }

    /// Whether everything was asked, and answered in each way in which it can be.
    ///
    /// # Panics
    /// If something was not.
    pub(super) fn check(&self) {
        let expected: [(&str, &[u16]); 22] = [
            ("POST jobs", &[200, 201, 409, 422, 429]),
            ("GET jobs", &[200]),
            ("POST jobs kick", &[200]),
            ("POST jobs retry", &[200]),
            ("POST jobs cancel", &[200]),
            ("GET one of jobs", &[200, 404]),
            ("GET one of jobs why", &[200, 404]),
            ("DELETE one of jobs", &[200, 404]),
            ("POST one of jobs kick", &[200, 404, 409]),
            ("GET queues key", &[200, 404]),
            ("DELETE queues key", &[200, 404]),
            ("POST leases", &[200]),
            ("POST one of leases complete", &[200, 409]),
            ("POST one of leases fail", &[200, 409, 422]),
            ("POST one of leases release", &[200, 409]),
            ("POST one of leases bury", &[200, 409]),
            ("POST one of leases touch", &[200, 409, 422]),
            ("GET one of queues", &[200, 404]),
            ("PUT one of queues settings", &[200]),
            ("POST one of queues pause", &[200, 404]),
            ("POST one of queues resume", &[200, 404]),
            ("POST one of queues kick", &[200, 404]),
        ];
        for (what, statuses) in expected {
            let seen: Vec<u16> = self.0.keys().filter(|(asked, _)| asked == what).map(|(_, status)| *status).collect();
            assert_eq!(seen, statuses, "how {what} was answered in all runs together");
        }
    }
}

impl Pair {
    pub(super) fn new(seed: u64) -> Pair {
        let (wall, told_at) = (SystemClock.wall().0, SystemClock.since_boot());
        // The model's time has no parts of milliseconds but those that say at which step it is.
        let start = Time(wall / MILLI * MILLI);
        let engine = Engine::in_memory(Options::default(), start, start);
        let server = Server::http_before(engine, told_at, Patience::default());
        let wire = Wire::to(&server);
        Pair {
            seed,
            server,
            wire,
            model: Model::new(start, start),
            random: Random::new(seed),
            moments: Moments::new(start),
            step: 0,
            clients: 0,
            delivered: Vec::new(),
            leases: VecDeque::new(),
            named: Vec::new(),
            trail: VecDeque::new(),
            asked: Asked::default(),
        }
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Asks the server.
    pub(super) fn ask(&mut self, request: &str, body: &str) -> Answer {
        self.ask_with(request, "", body)
    }

    /// The same, with more headers, each with its line end.
    pub(super) fn ask_with(&mut self, request: &str, headers: &str, body: &str) -> Answer {
        self.note(&format!("{request} {headers:?} {body}"));
        let answer = self.wire.ask(request, headers, body);
        self.asked.note(request, answer.status);
        self.note(&format!("  {} {}", answer.status, answer.json));
        answer
    }

    /// Takes note of something for who reads of a failure.
    pub(super) fn note(&mut self, what: &str) {
        if self.trail.len() == 2 * PRINTED {
            self.trail.pop_front();
        }
        self.trail.push_back(what.to_owned());
    }

    /// The moment of the model at which something happens next.
    pub(super) fn next_moment(&mut self) -> Time {
        self.step += 1;
        self.moments.of_step(self.step)
    }

    /// Lets time pass by itself in the model, as far as something is due.
    pub(super) fn rest(&mut self) {
        let at = self.next_moment();
        while !self.tell(&Input::Tick, at).is_done {}
    }

    /// A client of the model.
    pub(super) fn open(&mut self) -> Client {
        self.clients += 1;
        let at = self.model.now();
        self.tell(&Input::Open(self.clients), at);
        self.clients
    }

    pub(super) fn tell(&mut self, input: &Input, at: Time) -> rota_engine::testing::model::Outcome {
        self.tell_with(input, at, &Said::default())
    }

    fn tell_with(&mut self, input: &Input, at: Time, said: &Said) -> rota_engine::testing::model::Outcome {
        let mut outcome = self.model.apply(input, at, said);
        self.delivered.append(&mut outcome.deliveries);
        outcome
    }

    /// What the model answers a client.
    pub(super) fn command(&mut self, client: Client, request: Request, at: Time) -> Result<command::Answer, Refusal> {
        self.tell(&Input::Ask(client, request), at).answer.expect("something was asked")
    }

    /// The same to somebody who comes for that alone.
    pub(super) fn as_guest(&mut self, request: Request, at: Time) -> Result<command::Answer, Refusal> {
        let client = self.open();
        let answer = self.command(client, request, at);
        self.tell(&Input::Close(client), at);
        answer
    }

    /// What the model answers a kick of a queue, of which so many jobs were kicked.
    pub(super) fn kick(&mut self, request: Request, kicked: Option<u64>, at: Time) -> Result<command::Answer, Refusal> {
        let client = self.open();
        let said = Said { kicked, ..Said::default() };
        let answer = self.tell_with(&Input::Ask(client, request), at, &said).answer;
        self.tell(&Input::Close(client), at);
        answer.expect("something was asked")
    }

    /// The job that came to a client of the model that waited, if one did.
    pub(super) fn delivery_of(&mut self, client: Client) -> Option<(JobId, LeaseToken)> {
        let at = self.delivered.iter().position(|(other, _)| *other == client)?;
        match self.delivered.remove(at).1 {
            Delivered::Job { job, token, .. } => Some((job, token)),
            other => panic!("a wait ended with {other:?}"),
        }
    }

    /// Keeps a lease in mind.
    pub(super) fn leased(&mut self, job: JobId, token: LeaseToken) {
        if self.leases.len() == LEASES {
            // Rather one that ended.
            let ended = self.leases.iter().position(|&(job, token)| !self.is_held(job, token));
            self.leases.remove(ended.unwrap_or(0));
        }
        self.leases.push_back((job, token));
    }

    pub(super) fn is_held(&self, job: JobId, token: LeaseToken) -> bool {
        let place = self.model.jobs().get(&job).map(|job| &job.place);
        matches!(place, Some(Place::Reserved { token: held, .. }) if *held == token)
    }

    /// Compares what is shown with what is expected.
    #[track_caller]
    pub(super) fn compare(&mut self, shown: &Value, mut expected: Value) {
        self.moments.settle(&mut expected, shown);
        assert_eq!(*shown, expected, "shown, and expected");
    }

    /// Compares all that there is, and lets the engine recount what it counts.
    pub(super) fn compare_all(&mut self) {
        self.server.host.look(|shared| shared.engine.check());
        let limit = self.random.within(1..30);
        let listed = self.list(&format!("/v1/jobs?limit={limit}"));
        let ids: Vec<JobId> = listed.keys().copied().collect();
        assert!(ids.iter().eq(self.model.jobs().keys()), "the jobs that there are: {ids:?}");
        for (id, shown) in listed {
            let expected = shown::looked_at(&self.model, id, shown::job(&self.model, id));
            self.compare(&shown, expected);
            let whole = self.ask(&format!("GET /v1/jobs/{id}"), "").expect(200);
            let expected = shown::looked_at(&self.model, id, shown::job_with_body(&self.model, id, "auto"));
            self.compare(&whole, expected);
        }
        let queues = self.ask("GET /v1/queues?limit=1000", "").expect(200);
        let listed: BTreeMap<QueueName, Value> = queues["queues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|queue| (queue_name(queue["name"].as_str().unwrap()), queue.clone()))
            .collect();
        assert!(listed.keys().eq(self.model.queues().keys()), "the queues that there are: {:?}", listed.keys());
        for (name, shown) in listed {
            let expected = shown::queue(&self.model, &name);
            self.compare(&shown::without_times(shown), expected);
        }
        let stats = self.ask("GET /v1/stats", "").expect(200);
        let expected = shown::stats(&self.model);
        for (member, expected) in expected.as_object().unwrap() {
            assert_eq!(stats[member.as_str()], *expected, "{member} of the statistics");
        }
    }

    /// All jobs of a list, page by page, in the order in which they come; each once.
    pub(super) fn list_in_order(&mut self, path: &str) -> Vec<(JobId, Value)> {
        let (mut jobs, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.ask(&format!("GET {path}{cursor}"), "").expect(200);
            assert_eq!(page["not_in_memory"], 0);
            for job in page["jobs"].as_array().unwrap() {
                jobs.push((JobId(job["id"].as_str().unwrap().parse().unwrap()), job.clone()));
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return jobs,
            }
        }
    }

    pub(super) fn list(&mut self, path: &str) -> BTreeMap<JobId, Value> {
        let jobs = self.list_in_order(path);
        let (count, jobs) = (jobs.len(), BTreeMap::from_iter(jobs));
        assert_eq!(count, jobs.len(), "each job is listed once");
        jobs
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trail: Vec<&str> = self.trail.iter().map(String::as_str).collect();
            eprintln!(
                "seed {}; to repeat it: ROTA_MODEL_SEED={} ROTA_MODEL_SEEDS=1 cargo test -p rota-net --test it model\n\
                 asked last:\n{}",
                self.seed,
                self.seed,
                trail.join("\n")
            );
        }
    }
}
