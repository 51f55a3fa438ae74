//! What becomes of jobs: what their holders say of them, and what others do to one of them.

use super::chance;
use super::moments::moment;
use super::pair::Pair;
use super::shown::{self, object};
use super::steps::{key_path, lease_text, no_such_job};
use super::wire::Answer;
use rota_engine::command::{self, Held, Refusal};
use rota_engine::job::{JobState, Priority, Time};
use rota_engine::testing::model::Place;
use rota_engine::testing::workload::{Input, Request};
use serde_json::{Value, json};

impl Pair {
    pub(super) fn end_lease(&mut self) {
        let held: Vec<_> = self.leases.iter().copied().filter(|&(job, token)| self.is_held(job, token)).collect();
        let leases =
            if held.is_empty() || self.random.chance(1, 6) { &*self.leases.make_contiguous() } else { &held[..] };
        let Some(&(job, token)) = (!leases.is_empty()).then(|| self.random.pick(leases)) else {
            return self.reserve();
        };
        let held = Held { job, token: Some(token) };
        let path = format!("POST /v1/leases/{}", lease_text(job, token));
        match self.random.weighted(&[6, 5, 4, 3, 3]) {
            0 => self.complete(&path, held),
            1 => self.fail(&path, held),
            2 => self.release(&path, held),
            3 => self.bury(&path, held),
            _ => self.touch(&path, held),
        }
    }

    fn complete(&mut self, path: &str, held: Held) {
        let result = self.random.chance(1, 2).then(|| chance::said(&mut self.random));
        let (result, kept) = result.unzip();
        let body = self.maybe_nothing(object([("result", result)]));
        let answer = self.ask(&format!("{path}/complete"), &body);
        let at = self.next_moment();
        match self.as_guest(Request::Complete { held, result: kept }, at) {
            Ok(_) => assert_eq!(answer.expect(200), json!({ "id": held.job.to_string() })),
            Err(refusal) => assert_eq!(answer.problem(), self.not_held(held, refusal)),
        }
    }

    fn fail(&mut self, path: &str, held: Held) {
        // Without a delay it waits as its back-off says, if that is known and long.
        let back_off = self.model.jobs().get(&held.job).and_then(|job| job.terms.back_off);
        let waits = back_off.is_some_and(|back_off| back_off.jitter_percent == 0);
        let delay = (!waits || self.random.chance(1, 2)).then(|| chance::delay(&mut self.random));
        let (delay_text, delay) = delay.unzip();
        let (error, kept) = self.maybe_said().unzip();
        let body = self.maybe_nothing(object([("delay", delay_text), ("error", error)]));
        let answer = self.ask(&format!("{path}/fail"), &body);
        let at = self.next_moment();
        let done = self.as_guest_shown(Request::Fail { held, delay, error: kept }, held, at);
        self.compare_given_back(answer, held, done);
    }

    fn release(&mut self, path: &str, held: Held) {
        let priority = self.random.chance(1, 3).then(|| *self.random.pick(&[0, 1023, 5000]));
        let delay = self.random.chance(1, 2).then(|| chance::delay(&mut self.random));
        let (delay_text, delay) = delay.unzip();
        let body = self.maybe_nothing(object([("priority", priority.map(Value::from)), ("delay", delay_text)]));
        let answer = self.ask(&format!("{path}/release"), &body);
        let at = self.next_moment();
        let (priority, delay) = (self.priority_or_own(priority, held), delay.unwrap_or_default());
        let done = self.as_guest_shown(Request::Release { held, priority, delay }, held, at);
        self.compare_given_back(answer, held, done);
    }

    fn bury(&mut self, path: &str, held: Held) {
        let priority = self.random.chance(1, 3).then(|| *self.random.pick(&[0, 1023, 5000]));
        let body = self.maybe_nothing(object([("priority", priority.map(Value::from))]));
        let answer = self.ask(&format!("{path}/bury"), &body);
        let at = self.next_moment();
        let priority = self.priority_or_own(priority, held);
        let done = self.as_guest_shown(Request::Bury { held, priority }, held, at);
        self.compare_given_back(answer, held, done);
    }

    fn touch(&mut self, path: &str, held: Held) {
        let (progress, kept) = self.maybe_said().unzip();
        let body = self.maybe_nothing(object([("progress", progress)]));
        let answer = self.ask(&format!("{path}/touch"), &body);
        let at = self.next_moment();
        let client = self.open();
        let said = kept.map(|progress| self.command(client, Request::Progress { held, progress }, at));
        let done =
            said.unwrap_or(Ok(command::Answer::Done)).and_then(|_| self.command(client, Request::Touch(held), at));
        self.tell(&Input::Close(client), at);
        match done {
            Ok(_) => {
                let Place::Reserved { deadline, token, .. } = self.model.jobs()[&held.job].place else {
                    panic!("it is held")
                };
                let shown = answer.expect(200);
                self.compare(&shown, json!({ "lease": lease_text(held.job, token), "ends_at": moment(deadline) }));
            }
            Err(refusal) => assert_eq!(answer.problem(), self.not_held(held, refusal)),
        }
    }

    /// What a holder says, or nothing; rarely too much.
    fn maybe_said(&mut self) -> Option<(Value, Vec<u8>)> {
        match self.random.below(24) {
            0 => Some(("x".repeat(4097).into(), vec![b'x'; 4097])),
            1..12 => Some(chance::said(&mut self.random)),
            _ => None,
        }
    }

    fn priority_or_own(&self, priority: Option<u32>, held: Held) -> Priority {
        let own = self.model.jobs().get(&held.job).map_or(Priority(0), |job| job.priority);
        priority.map_or(own, Priority)
    }

    /// Has the model do something to a held job, and show the job as it is right after that.
    fn as_guest_shown(&mut self, request: Request, held: Held, at: Time) -> Result<Value, Refusal> {
        let client = self.open();
        let done = self.command(client, request, at).map(|_| shown::job(&self.model, held.job));
        self.tell(&Input::Close(client), at);
        done
    }

    #[track_caller]
    fn compare_given_back(&mut self, answer: Answer, held: Held, done: Result<Value, Refusal>) {
        match done {
            Ok(expected) => {
                let shown = answer.expect(200);
                self.compare(&shown, expected);
            }
            Err(refusal) => assert_eq!(answer.problem(), self.not_held(held, refusal)),
        }
    }

    /// The problem with a lease.
    fn not_held(&self, held: Held, refusal: Refusal) -> Value {
        if let Refusal::TooLong(_) = refusal {
            return json!({ "type": "/problems/bad-value", "status": 422 });
        }
        assert_eq!(refusal, Refusal::NotFound);
        let reason = match self.model.jobs().get(&held.job) {
            None if self.model.failed().any(|(_, failed)| failed == held.job) => "cancelled",
            None => "completed",
            Some(job) => match job.place {
                Place::Ended { state: JobState::Done, .. } => "completed",
                Place::Ended { state: JobState::Cancelled, .. } => "cancelled",
                Place::Ended { .. } => "expired",
                Place::Reserved { .. } => "replaced",
                Place::Buried(_) => "buried",
                Place::Delayed | Place::Ready | Place::Blocked => "released",
            },
        };
        json!({ "type": "/problems/lease-outdated", "status": 409, "job": held.job.to_string(), "reason": reason })
    }

    pub(super) fn cancel(&mut self) {
        let id = chance::id(&mut self.random, &self.model);
        let answer = self.ask(&format!("DELETE /v1/jobs/{id}"), "");
        let at = self.next_moment();
        match self.as_guest(Request::Cancel(id), at) {
            Ok(_) => assert_eq!(answer.expect(200), json!({ "id": id.to_string() })),
            Err(_) => assert_eq!(answer.problem(), no_such_job(id)),
        }
    }

    pub(super) fn cancel_key(&mut self) {
        let (queue, key) = (chance::queue(&mut self.random), chance::key(&mut self.random));
        let answer = self.ask(&format!("DELETE {}", key_path(&queue, &key)), "");
        let at = self.next_moment();
        match self.as_guest(Request::CancelKey { queue, key: key.into() }, at) {
            Ok(command::Answer::Cancelled(id)) => assert_eq!(answer.expect(200), json!({ "id": id.to_string() })),
            _ => assert_eq!(answer.problem(), json!({ "type": "/problems/key-not-found", "status": 404 })),
        }
    }

    pub(super) fn kick_job(&mut self) {
        let id = chance::id(&mut self.random, &self.model);
        let answer = self.ask(&format!("POST /v1/jobs/{id}/kick"), "");
        let at = self.next_moment();
        let client = self.open();
        let done = self.command(client, Request::KickJob(id), at);
        let expected = self.model.jobs().contains_key(&id).then(|| shown::job(&self.model, id));
        self.tell(&Input::Close(client), at);
        match (done, expected) {
            (_, None) => assert_eq!(answer.problem(), no_such_job(id)),
            (Ok(_), Some(expected)) => {
                let shown = answer.expect(200);
                self.compare(&shown, expected);
            }
            (Err(_), Some(_)) => {
                let wrong = json!({ "type": "/problems/wrong-state", "status": 409, "job": id.to_string() });
                assert_eq!(answer.problem(), wrong);
            }
        }
    }
}
