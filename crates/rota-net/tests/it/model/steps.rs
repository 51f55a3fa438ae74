//! What happens next, and what it makes the model do and the server answer: puts, and reserves that wait or do not. The rest is in
//! `ends.rs`, `queues.rs` and `looks.rs`.

use super::chance::{self, Thrown, WORKED, queue_name};
use super::moments::moment;
use super::pair::{Named, Pair};
use super::shown::{self, FORMS, object};
use super::wire::{Wire, foretold};
use crate::server::DEADLINE;
use rota_engine::command::{Answer, Refusal};
use rota_engine::job::{JobId, LeaseToken, QueueName, Time};
use rota_engine::testing::model::Place;
use rota_engine::testing::workload::{Client, Input, Request};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// With about so many jobs, fewer are put.
const JOBS: usize = 50;

impl Pair {
    /// Something happens, and the answer is compared.
    pub(super) fn step(&mut self) {
        let is_full = self.model.jobs().len() > JOBS;
        let (puts, ends) = if is_full { (8, 40) } else { (30, 18) };
        let held = self.leases.iter().filter(|(job, token)| self.is_held(*job, *token)).count();
        let leases = if held > 8 { 4 } else { 25 };
        let weights = [puts, puts / 4, leases, 4, ends + 15, 4, 3, 6, 4, 3, 4, 3, 4, 6, 4, 3, 6];
        match self.random.weighted(&weights) {
            0 => self.put(),
            1 => self.put_again(),
            2 => self.reserve(),
            3 => self.wait(),
            4 => self.end_lease(),
            5 => self.cancel(),
            6 => self.cancel_key(),
            7 => self.kick_job(),
            8 => self.kick_queue(),
            9 => self.pause(),
            10 => self.resume(),
            11 => self.configure(),
            12 => self.do_to_many(),
            13 => self.look_at_job(),
            14 => self.look_at_key(),
            15 => self.look_at_queue(),
            _ => self.look_for_jobs(),
        }
        self.rest();
    }

    fn put(&mut self) {
        let is_one = self.random.chance(2, 3);
        let count = if is_one { 1 } else { self.random.below(7) };
        let jobs: Vec<Thrown> = (0..count).map(|_| chance::job(&mut self.random, &self.model)).collect();
        let list = || Value::from_iter(jobs.iter().map(|job| job.json.clone()));
        let body = match is_one {
            true => jobs[0].json.to_string(),
            false if self.random.chance(1, 2) => list().to_string(),
            false => json!({ "jobs": list() }).to_string(),
        };
        let key = self.random.chance(1, 5).then(|| format!("request-{}", self.random.below(100)));
        self.send_puts(key, &body, &jobs, is_one);
    }

    /// A request that named itself comes again, or another with its name.
    fn put_again(&mut self) {
        if self.named.is_empty() {
            return self.put();
        }
        let at = self.random.below(self.named.len() as u64) as usize;
        let Named { key, body, jobs, is_one, .. } = &self.named[at];
        let (key, mut body, jobs, is_one) = (key.clone(), body.clone(), jobs.clone(), *is_one);
        if self.random.chance(1, 5) {
            body.push(' ');
        }
        self.send_puts(Some(key), &body, &jobs, is_one);
    }

    fn send_puts(&mut self, key: Option<String>, body: &str, jobs: &[Thrown], is_one: bool) {
        let header = key.as_ref().map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
        let known = self.named.iter().position(|named| Some(&named.key) == key.as_ref());
        let answer = self.ask_with("POST /v1/jobs", &header, body);
        let at = self.next_moment();
        if known.is_some_and(|known| self.named[known].body != body) {
            let reused = json!({ "type": "/problems/idempotency-key-reused", "status": 422 });
            assert_eq!(answer.problem(), reused);
            return;
        }
        let mut came = known.map_or_else(|| vec![None; jobs.len()], |known| self.named[known].came.clone());
        let is_replayed = came.iter().any(Option::is_some);
        let pointer = |index: usize| match is_one {
            true => String::new(),
            false if body.starts_with('[') => format!("/{index}"),
            false => format!("/jobs/{index}"),
        };
        let client = self.open();
        let (mut results, mut is_put) = (Vec::new(), false);
        for (index, (job, came)) in jobs.iter().zip(&mut came).enumerate() {
            let result = match *came {
                Some((is_new, id)) => {
                    let job = self.model.jobs().contains_key(&id).then(|| shown::job(&self.model, id));
                    Ok((is_new, id, job))
                }
                None => self.put_one(client, job, &pointer(index), at),
            };
            if let (None, Ok((is_new, id, _))) = (*came, &result) {
                (*came, is_put) = (Some((*is_new, *id)), true);
            }
            results.push(result);
        }
        self.tell(&Input::Close(client), at);
        assert_eq!(answer.head.contains("\r\nidempotency-replayed: true\r\n"), is_replayed, "{answer:?}");
        if let Some(key) = key.filter(|_| is_put) {
            let named = Named { key, body: body.to_owned(), jobs: jobs.to_vec(), is_one, came };
            match known {
                Some(known) => self.named[known] = named,
                None => self.named.push(named),
            }
        }
        let status = |is_new: bool| if is_new { 201 } else { 200 };
        if !is_one {
            let expected = results.into_iter().map(|result| match result {
                Ok((is_new, id, job)) => {
                    let (status, id) = (Some(status(is_new).into()), Some(id.to_string().into()));
                    object([("status", status), ("id", id), ("job", job)])
                }
                Err(problem) => json!({ "status": problem["status"], "problem": problem }),
            });
            let expected = json!({ "results": expected.collect::<Vec<_>>() });
            let mut shown = answer.expect(200);
            for result in shown["results"].as_array_mut().unwrap() {
                if let Some(problem) = result.get("problem") {
                    result["problem"] = foretold(problem);
                }
            }
            return self.compare(&shown, expected);
        }
        match results.pop().expect("it is one") {
            Ok((is_new, id, job)) => {
                assert!(answer.head.contains(&format!("\r\nlocation: /v1/jobs/{id}\r\n")), "{answer:?}");
                let gone = json!({ "id": id.to_string(), "state": "gone" });
                let shown = answer.expect(status(is_new));
                self.compare(&shown, job.unwrap_or(gone));
            }
            Err(problem) => assert_eq!(answer.problem(), problem),
        }
    }

    /// What comes of one put: whether the job is a new one, which, and how it is shown; or the problem.
    fn put_one(
        &mut self,
        client: Client,
        job: &Thrown,
        pointer: &str,
        at: Time,
    ) -> Result<(bool, JobId, Option<Value>), Value> {
        let problem = |kind: &str, status: u16, more: Value| {
            let mut problem = json!({ "type": format!("/problems/{kind}"), "status": status });
            problem.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            problem
        };
        let about = |id: JobId| json!({ "job": id.to_string() });
        let (is_new, id) = match self.command(client, Request::Put(Box::new(job.put.clone())), at) {
            Ok(Answer::Put(id)) => (true, id),
            Ok(Answer::Kept(id) | Answer::Replaced(id)) => (false, id),
            Err(Refusal::KeyTaken(id) | Refusal::KeyHeld(id)) => return Err(problem("key-taken", 409, about(id))),
            Err(Refusal::UnknownParent(number)) => {
                let pointer = json!({ "pointer": format!("#{pointer}/after/{}", number - 1) });
                return Err(problem("unknown-parent", 422, pointer));
            }
            Err(Refusal::LaterParent(id)) => return Err(problem("unknown-parent", 422, about(id))),
            Err(Refusal::QueueFull) => return Err(problem("queue-full", 429, json!({}))),
            other => panic!("a put is answered {other:?}"),
        };
        if !self.model.jobs().contains_key(&id) {
            return Err(problem("parent-failed", 409, about(id)));
        }
        Ok((is_new, id, Some(shown::job(&self.model, id))))
    }

    /// Some of the queues that are worked on.
    fn worked(&mut self) -> Vec<QueueName> {
        (0..self.random.within(1..4)).map(|_| queue_name(self.random.pick::<&str>(&WORKED))).collect()
    }

    /// A client of the model that watches those queues alone.
    fn open_watching(&mut self, queues: &[QueueName], at: Time) -> Client {
        let client = self.open();
        for queue in queues {
            self.command(client, Request::Watch(queue.clone()), at).unwrap();
        }
        let default = queue_name("default");
        if !queues.contains(&default) {
            self.command(client, Request::Ignore(default), at).unwrap();
        }
        client
    }

    pub(super) fn reserve(&mut self) {
        let queues = self.worked();
        let count = self.random.chance(1, 2).then(|| self.random.within(1..6));
        let form = self.random.chance(1, 3).then(|| *self.random.pick(&FORMS));
        let body = object([
            ("queues", Some(queues.iter().map(QueueName::as_str).collect())),
            ("count", count.map(Value::from)),
            ("body", form.map(Value::from)),
            ("wait", self.random.chance(1, 3).then(|| "0s".into())),
        ]);
        let shown = self.ask("POST /v1/leases", &body.to_string()).expect(200);
        let at = self.next_moment();
        let client = self.open_watching(&queues, at);
        let leases = self.take(client, count.unwrap_or(1), form.unwrap_or("auto"), at);
        self.tell(&Input::Leave(client), at);
        self.compare(&shown, json!({ "leases": leases }));
    }

    /// Has a client of the model reserve up to so many jobs that are ready; what is shown of them.
    fn take(&mut self, client: Client, count: u64, form: &str, at: Time) -> Vec<Value> {
        let mut leases = Vec::new();
        for _ in 0..count {
            match self.command(client, Request::Reserve { wait: Some(Duration::ZERO) }, at) {
                Ok(Answer::Reserved(id, token)) => leases.push(self.shown_lease(id, token, form)),
                Ok(Answer::TimedOut) => break,
                other => panic!("a reserve is answered {other:?}"),
            }
        }
        leases
    }

    fn shown_lease(&mut self, id: JobId, token: LeaseToken, form: &str) -> Value {
        self.leased(id, token);
        let Place::Reserved { deadline, .. } = self.model.jobs()[&id].place else { panic!("it was reserved") };
        let lease = lease_text(id, token);
        json!({ "lease": lease, "ends_at": moment(deadline), "job": shown::job_with_body(&self.model, id, form) })
    }

    /// Somebody waits for a job; then something happens that may make one ready, and who still waits goes.
    fn wait(&mut self) {
        let queues = self.worked();
        let count = self.random.within(1..3);
        let body = json!({ "queues": queues.iter().map(QueueName::as_str).collect::<Vec<_>>(), "wait": "10m", "count": count });
        let mut other = Wire::to(&self.server);
        self.note(&format!("POST /v1/leases, and waits: {body}"));
        other.send("POST /v1/leases", "", &body.to_string());
        let at = self.next_moment();
        let client = self.open_watching(&queues, at);
        let wait = Some(Duration::from_secs(600));
        match self.command(client, Request::Reserve { wait }, at) {
            Ok(Answer::Reserved(id, token)) => {
                let mut leases = vec![self.shown_lease(id, token, "auto")];
                leases.extend(self.take(client, count - 1, "auto", at));
                self.tell(&Input::Leave(client), at);
                let shown = other.answer().expect(200);
                return self.compare(&shown, json!({ "leases": leases }));
            }
            Ok(Answer::Waiting) => self.until_waiting(1),
            other => panic!("a reserve is answered {other:?}"),
        }
        match self.random.below(4) {
            0 => self.resume(),
            1 => self.kick_queue(),
            2 => self.end_lease(),
            _ => {
                let jobs = [chance::plain_job(self.random.pick(&queues))];
                self.send_puts(None, &jobs[0].json.to_string(), &jobs, true);
            }
        }
        let at = self.next_moment();
        match self.delivery_of(client) {
            Some((id, token)) => {
                let mut leases = vec![self.shown_lease(id, token, "auto")];
                leases.extend(self.take(client, count - 1, "auto", at));
                self.tell(&Input::Leave(client), at);
                let shown = other.answer().expect(200);
                self.compare(&shown, json!({ "leases": leases }));
            }
            None => {
                drop(other);
                self.until_waiting(0);
                self.tell(&Input::Close(client), at);
            }
        }
    }

    /// Waits until so many wait for a job.
    fn until_waiting(&mut self, waiting: u64) {
        let began = Instant::now();
        while self.wire.ask("GET /v1/stats", "", "").expect(200)["waiting"] != waiting {
            assert!(began.elapsed() < DEADLINE, "not {waiting} wait");
        }
    }

    /// A request's body, which may be left away where nothing is in it.
    pub(super) fn maybe_nothing(&mut self, body: Value) -> String {
        if body == json!({}) && self.random.chance(1, 2) { String::new() } else { body.to_string() }
    }
}

pub(super) fn lease_text(job: JobId, token: LeaseToken) -> String {
    format!("{job}.{}.{}", token.epoch, token.counter)
}

pub(super) fn key_path(queue: &QueueName, key: &str) -> String {
    format!("/v1/queues/{}/keys/{}", chance::escape(queue.as_str()), chance::escape(key))
}

pub(super) fn no_such_job(id: JobId) -> Value {
    json!({ "type": "/problems/job-not-found", "status": 404, "job": id.to_string() })
}
