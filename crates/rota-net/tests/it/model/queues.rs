//! What is done to queues: kicks of many jobs, pauses, settings.

use super::chance;
use super::pair::Pair;
use super::shown::{self, object};
use super::wire::Answer;
use rota_engine::command::{self, KickSource};
use rota_engine::job::{QueueName, Time};
use rota_engine::queue::QueueSettings;
use rota_engine::testing::workload::{Input, Request};
use serde_json::{Value, json};
use std::time::Duration;

impl Pair {
    pub(super) fn kick_queue(&mut self) {
        let queue = chance::queue(&mut self.random);
        let limit = self.random.chance(2, 3).then(|| *self.random.pick(&[0, 1, 2, 1000]));
        let sources = [("buried", KickSource::Buried), ("delayed", KickSource::Delayed)];
        let source = self.random.chance(1, 2).then(|| *self.random.pick(&sources));
        let body = object([("limit", limit.map(Value::from)), ("source", source.map(|(name, _)| name.into()))]);
        let body = self.maybe_nothing(body);
        let answer = self.ask(&format!("POST /v1/queues/{}/kick", chance::escape(queue.as_str())), &body);
        let at = self.next_moment();
        let (limit, source) = (limit.unwrap_or(u64::MAX), source.map(|(_, source)| source));
        let request = Request::Kick { queue: Some(queue), limit, source };
        match self.kick(request, answer.json["kicked"].as_u64(), at) {
            Ok(command::Answer::Kicked { count, source, left }) => {
                assert_eq!(left, 0, "all of them are kicked");
                let source = if source == KickSource::Buried { "buried" } else { "delayed" };
                assert_eq!(answer.expect(200), json!({ "kicked": count, "source": source }));
            }
            _ => assert_eq!(answer.problem(), no_such_queue()),
        }
    }

    pub(super) fn pause(&mut self) {
        let queue = chance::queue(&mut self.random);
        let (body, length, until) = match self.random.below(4) {
            0 => (json!({}), Some(Duration::MAX), None),
            1 => {
                let (text, until) = chance::ahead(&mut self.random);
                (json!({ "until": text }), None, Some(until))
            }
            _ => {
                let (text, length) = chance::delay(&mut self.random);
                (json!({ "for": text }), Some(length), None)
            }
        };
        let body = self.maybe_nothing(body);
        let answer = self.ask(&format!("POST /v1/queues/{}/pause", chance::escape(queue.as_str())), &body);
        let at = self.next_moment();
        let length = length.or(until.map(|until| until.since(at))).expect("one of them is told");
        self.pause_for(&queue, length, at, answer);
    }

    pub(super) fn resume(&mut self) {
        let queue = chance::queue(&mut self.random);
        let answer = self.ask(&format!("POST /v1/queues/{}/resume", chance::escape(queue.as_str())), "");
        let at = self.next_moment();
        self.pause_for(&queue, Duration::ZERO, at, answer);
    }

    fn pause_for(&mut self, queue: &QueueName, length: Duration, at: Time, answer: Answer) {
        let before = self.model.queues().contains_key(queue).then(|| shown::queue(&self.model, queue));
        let client = self.open();
        if before.is_none() && !length.is_zero() {
            self.command(client, Request::Use(queue.clone()), at).unwrap();
        }
        let done = self.command(client, Request::Pause { queue: queue.clone(), length }, at);
        self.tell(&Input::Close(client), at);
        if done.is_err() {
            assert_eq!(answer.problem(), no_such_queue());
            return;
        }
        // Where the pause was all that kept it, it is gone by now, and shown as it was without one.
        let expected = match (self.model.queues().contains_key(queue), before) {
            (false, Some(mut before)) => {
                before["paused"] = false.into();
                before.as_object_mut().unwrap().remove("paused_until");
                before
            }
            _ => shown::queue(&self.model, queue),
        };
        let shown = shown::without_times(answer.expect(200));
        self.compare(&shown, expected);
    }

    pub(super) fn configure(&mut self) {
        let queue = chance::queue(&mut self.random);
        let (body, settings) = chance::settings(&mut self.random);
        let path = format!("PUT /v1/queues/{}/settings", chance::escape(queue.as_str()));
        let shown = self.ask(&path, &body.to_string()).expect(200);
        let at = self.next_moment();
        self.as_guest(Request::Configure { queue: queue.clone(), settings: settings.clone() }, at).unwrap();
        let per_key = settings.per_key.filter(|per_key| *per_key != Default::default());
        assert_eq!(shown, shown::settings(&QueueSettings { per_key, ..settings }));
    }

    pub(super) fn look_at_queue(&mut self) {
        let queue = chance::queue(&mut self.random);
        let answer = self.ask(&format!("GET /v1/queues/{}", chance::escape(queue.as_str())), "");
        if !self.model.queues().contains_key(&queue) {
            assert_eq!(answer.problem(), no_such_queue());
            return;
        }
        let (shown, expected) = (answer.expect(200), shown::queue(&self.model, &queue));
        self.compare(&shown::without_times(shown), expected);
    }
}

fn no_such_queue() -> Value {
    json!({ "type": "/problems/queue-not-found", "status": 404 })
}
