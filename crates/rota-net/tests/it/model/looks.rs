//! Looking for jobs and at them, and what is done to all jobs of a filter.

use super::chance;
use super::filters::Filter;
use super::pair::Pair;
use super::shown::{self, FORMS, object};
use super::steps::{key_path, no_such_job};
use rota_engine::job::{JobId, JobState, QueueName};
use rota_engine::testing::workload::{Input, Request};
use serde_json::{Value, json};

impl Pair {
    /// Something is done to all jobs of a filter.
    pub(super) fn do_to_many(&mut self) {
        let verb = *self.random.pick(&["kick", "retry", "cancel"]);
        let filter = self.random.chance(7, 8).then(|| Filter::any(&mut self.random, &self.model));
        let limit = self.random.chance(1, 2).then(|| self.random.within(1..8));
        let is_dry = self.random.chance(1, 3);
        let body = object([
            ("q", filter.as_ref().map(|filter| filter.text.clone().into())),
            ("all", filter.is_none().then(|| true.into())),
            ("limit", limit.map(Value::from)),
            ("dry_run", (is_dry || self.random.chance(1, 3)).then(|| is_dry.into())),
        ]);
        // In the order in which they are listed, it is done to them.
        let state = (verb == "retry").then_some(JobState::Buried);
        let listed = self.list_of(filter.as_ref(), None, state, 1000);
        let shown = self.ask(&format!("POST /v1/jobs/{verb}"), &body.to_string()).expect(200);
        let at = self.next_moment();
        let states: Vec<JobState> = listed.iter().map(|id| self.model.jobs()[id].place.state()).collect();
        let client = self.open();
        let (mut matched, mut done, mut over, mut wrong_state, mut first) = (0_u64, 0_u64, 0_u64, 0_u64, Vec::new());
        for (&id, state) in listed.iter().zip(states) {
            matched += 1;
            let can = match verb {
                "cancel" => !state.is_final(),
                _ => matches!(state, JobState::Buried | JobState::Delayed | JobState::Blocked),
            };
            if !can {
                *(if state.is_final() { &mut over } else { &mut wrong_state }) += 1;
                continue;
            }
            let request = if verb == "cancel" { Request::Cancel(id) } else { Request::KickJob(id) };
            let is_done = is_dry || self.command(client, request, at).is_ok();
            // One that is called off may have ended with one that it waited for.
            assert!(is_done || verb == "cancel", "job {id} is {state:?}, and cannot be kicked");
            done += 1;
            if first.len() < 10 {
                first.push(id.to_string());
            }
            if limit == Some(done) {
                break;
            }
        }
        self.tell(&Input::Close(client), at);
        let (done, would_do) = if is_dry { (0, done) } else { (done, 0) };
        let expected = json!({
            "dry_run": is_dry, "matched": matched, "done": done, "would_do": would_do,
            "refused": { "over": over, "wrong_state": wrong_state, "disk_full": 0 },
            "first": first, "not_in_memory": 0,
        });
        assert_eq!(shown, expected);
    }

    /// The jobs of a filter, of a queue, in a state, in the order in which they are listed, each compared.
    fn list_of(
        &mut self,
        filter: Option<&Filter>,
        queue: Option<&QueueName>,
        state: Option<JobState>,
        limit: u64,
    ) -> Vec<JobId> {
        let mut path = format!("/v1/jobs?limit={limit}");
        if let Some(filter) = filter {
            path.push_str(&format!("&q={}", chance::escape(&filter.text)));
        }
        if let Some(queue) = queue {
            path.push_str(&format!("&queue={}", chance::escape(queue.as_str())));
        }
        if let Some(state) = state {
            path.push_str(&format!("&state={}", state.name()));
        }
        let all: Vec<JobId> =
            filter.map_or_else(|| self.model.jobs().keys().copied().collect(), |filter| filter.of(&self.model));
        let is_meant = |id: &JobId| {
            let job = &self.model.jobs()[id];
            queue.is_none_or(|queue| job.queue == *queue) && state.is_none_or(|state| job.place.state() == state)
        };
        let expected: Vec<JobId> = all.into_iter().filter(is_meant).collect();
        let listed = self.list_in_order(&path);
        let mut ids: Vec<JobId> = listed.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "the jobs of {path}");
        for (id, shown) in &listed {
            let expected = shown::looked_at(&self.model, *id, shown::job(&self.model, *id));
            self.compare(shown, expected);
        }
        listed.into_iter().map(|(id, _)| id).collect()
    }

    pub(super) fn look_for_jobs(&mut self) {
        let filter = self.random.chance(2, 3).then(|| Filter::any(&mut self.random, &self.model));
        let queue = self.random.chance(1, 4).then(|| chance::queue(&mut self.random));
        let state = self.random.chance(1, 4).then(|| *self.random.pick(&JobState::ALL));
        let limit = self.random.within(1..20);
        self.list_of(filter.as_ref(), queue.as_ref(), state, limit);
    }

    pub(super) fn look_at_job(&mut self) {
        let id = chance::id(&mut self.random, &self.model);
        let is_there = self.model.jobs().contains_key(&id);
        if self.random.chance(1, 2) {
            let answer = self.ask(&format!("GET /v1/jobs/{id}/why"), "");
            if !is_there {
                assert_eq!(answer.problem(), no_such_job(id));
                return;
            }
            let mut shown = answer.expect(200);
            for reason in shown["reasons"].as_array_mut().unwrap() {
                let says = reason.as_object_mut().unwrap().remove("says");
                assert!(says.is_some_and(|says| says.as_str().is_some_and(|says| !says.is_empty())), "{reason}");
            }
            let expected = shown::why(&self.model, id);
            return self.compare(&shown, expected);
        }
        let form = *self.random.pick(&FORMS);
        let answer = self.ask(&format!("GET /v1/jobs/{id}?body={form}"), "");
        if !is_there {
            assert_eq!(answer.problem(), no_such_job(id));
            return;
        }
        let expected = shown::looked_at(&self.model, id, shown::job_with_body(&self.model, id, form));
        let shown = answer.expect(200);
        self.compare(&shown, expected);
    }

    pub(super) fn look_at_key(&mut self) {
        let (queue, key) = (chance::queue(&mut self.random), chance::key(&mut self.random));
        let answer = self.ask(&format!("GET {}", key_path(&queue, &key)), "");
        let mut jobs = self.model.jobs().iter();
        let found =
            jobs.find(|(_, job)| job.is_open() && job.queue == queue && job.key.as_deref() == Some(key.as_bytes()));
        match found.map(|(id, _)| *id) {
            Some(id) => {
                let expected = shown::looked_at(&self.model, id, shown::job_with_body(&self.model, id, "auto"));
                let shown = answer.expect(200);
                self.compare(&shown, expected);
            }
            None => assert_eq!(answer.problem(), json!({ "type": "/problems/key-not-found", "status": 404 })),
        }
    }
}
