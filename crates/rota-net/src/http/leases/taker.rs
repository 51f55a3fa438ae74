//! One who takes jobs as they come, so many at a time: a session that waits for them, and what is told next.
//!
//! ```text
//!   room, and a job is ready ──► reserved ──► durable ──► body read ──► told ──► with the kernel ──► the next step
//!   room, and none is        ──► in line, until a job or the end of a lease comes
//!   no room                  ──► until the end of a lease comes
//! ```
//!
//! It is asked for the next part when there is room for that, and reserves nothing before all that it told is with the kernel:
//! of a client that takes nothing the jobs stay with everybody else. What it reserved and could not send goes back without
//! fault, whenever it is dropped; what was sent is held by its tokens from there on, also when it is gone.
//!
//! What it tells takes of the room that all answers share. Where there is none, what it reserved goes back, and it reserves
//! nothing for a while.

use super::super::api::{Api, Asker, KeptBody, Recipient, execute};
use super::super::fields::{BodyForm, Lease};
use super::super::handed::{Outgoing, Portion};
use super::super::problem::{Kind, Problem};
use super::super::refused;
use super::super::room::{self, Whose};
use super::stream::{Said, Why};
use super::{LEASED_BYTES, Taken, open, take};
use crate::host::{Late, LeaseEnd, Shared};
use crate::limits::{HEARTBEAT, PART_BYTES, RESERVE_JOBS, ROOM_PATIENCE, SENDING_PATIENCE, SHORT_ANSWER_BYTES};
use rota_engine::command::{Answer, Command, Delivered, Refusal};
use rota_engine::job::{JobId, LeaseToken, QueueName, Time};
use rota_engine::limits::LEASES_UNHEARD;
use rota_engine::session::SessionId;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// What somebody wants, checked.
pub(super) struct Wish {
    pub(super) queues: Vec<QueueName>,
    /// The most jobs that are handed out and not finished.
    pub(super) max: usize,
    /// How bodies are shown.
    pub(super) body: BodyForm,
}

pub(super) struct Taker {
    api: Arc<Api>,
    to: Recipient,
    /// Whose room its answer takes.
    whose: Whose,
    /// Whether it may be that the grant is so no more.
    changes: watch::Receiver<u64>,
    outgoing: Arc<Outgoing>,
    session: SessionId,
    max: usize,
    body: BodyForm,
    late: UnboundedReceiver<Late>,
    /// Whether the session stands in line.
    is_waiting: bool,
    /// A job that came to it there.
    came: Option<(JobId, LeaseToken)>,
    /// What was reserved and is not told.
    portion: Portion,
    /// The leases that were told of and whose end was not.
    told: HashSet<LeaseToken>,
    /// Ends of those, not told yet.
    ended: Vec<Said>,
    /// How many of its leases ran out since somebody ended one.
    ran_out: usize,
    is_new: bool,
    /// When something is to be said again.
    speaks_by: Instant,
    /// Until when nothing is reserved, for want of room.
    rests_until: Option<Instant>,
}

/// The next part of what is told.
pub(super) struct Part {
    /// At least one.
    pub(super) said: Vec<Said>,
    /// The leases that are among it.
    pub(super) portion: Portion,
    /// What tells the rest; `None` where that was all.
    pub(super) rest: Option<Taker>,
}

/// What came of a try.
enum Step {
    /// Nothing is decided now.
    Frozen,
    /// There is nothing to tell.
    Waits,
    /// There are these jobs to tell of, or ends of leases.
    Tells(Vec<Taken>),
}

impl Taker {
    /// # Errors
    /// [`Problem`], if the server stops or has no room for a session.
    pub(super) async fn open(asker: &Asker, outgoing: Arc<Outgoing>, wish: Wish) -> Result<Taker, Problem> {
        let (api, to, whose) = (asker.shared(), asker.recipient(), asker.whose().clone());
        let (session, late) = loop {
            let (opened, _) = api.host.with(|shared, now| {
                if shared.is_frozen {
                    return None;
                }
                let session = open(shared, &to, &wish.queues, now);
                Some(session.map(|session| session.map(|session| (session, shared.follow_leases(session)))))
            });
            match opened {
                None => api.wait_until_thawed().await?,
                Some(Ok(Some(opened))) => break opened,
                Some(Ok(None)) => return Err(Problem::new(Kind::Busy, "there are as many sessions as there can be")),
                Some(Err(refusal)) => return Err(refused(refusal)),
            }
        };
        api.counts.lease_streams.fetch_add(1, Ordering::Relaxed);
        let mut changes = api.door.changes();
        // It may have been revoked between the question and here.
        changes.mark_changed();
        Ok(Taker {
            portion: Portion::new(api.host.clone()),
            api,
            to,
            whose,
            changes,
            outgoing,
            session,
            max: wish.max,
            body: wish.body,
            late,
            is_waiting: false,
            came: None,
            told: HashSet::new(),
            ended: Vec::new(),
            ran_out: 0,
            is_new: true,
            speaks_by: Instant::now() + HEARTBEAT,
            rests_until: None,
        })
    }

    /// What is told next, waited for. Whoever does not wait to the end loses the taker.
    pub(super) async fn next(mut self) -> Part {
        if std::mem::take(&mut self.is_new) {
            let max = self.max;
            return self.part(vec![Said::Open { max }]);
        }
        self.until_sent().await;
        let host = self.api.host.clone();
        loop {
            if let Some((reason, detail)) = self.end() {
                return self.farewell(reason, detail);
            }
            let (step, depends_on) = host.with_and_wait(|shared, now| {
                let step = self.step(shared, now);
                let will_wait = matches!(step, Step::Tells(_));
                (step, will_wait)
            });
            match step {
                Step::Frozen => {
                    if self.api.wait_until_thawed().await.is_err() {
                        return self.farewell(Why::Stopping, STOPPING.to_owned());
                    }
                }
                Step::Waits => {
                    if !self.wait().await {
                        return self.part(vec![Said::Quiet]);
                    }
                }
                Step::Tells(taken) => {
                    let taken = self.take_room(taken);
                    if taken.is_empty() && self.ended.is_empty() {
                        continue;
                    }
                    self.api.leaves(depends_on).await;
                    let said = self.tell(taken).await;
                    return self.part(said);
                }
            }
        }
    }

    /// Why nothing more is handed out, if it is so.
    fn end(&mut self) -> Option<(Why, String)> {
        if *self.api.stop.borrow() {
            return Some((Why::Stopping, STOPPING.to_owned()));
        }
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            if let Err(not) = self.api.door.renew(&self.to.grant) {
                return Some((Why::Token, not.to_string()));
            }
        }
        // Of the last of them it is told before.
        (self.is_unheard() && self.ended.is_empty()).then(|| {
            let detail = format!("{} leases in a row ran out, and none was ended by anybody", self.ran_out);
            (Why::Unheard, detail)
        })
    }

    /// Whether so many leases ran out that its client is taken for gone.
    fn is_unheard(&self) -> bool {
        self.ran_out >= self.max.max(LEASES_UNHEARD)
    }

    /// Reserves what there is room for; stands in line where there is nothing to tell.
    fn step(&mut self, shared: &mut Shared, now: Time) -> Step {
        if shared.is_frozen {
            return Step::Frozen;
        }
        self.rests_until = self.rests_until.filter(|until| *until > Instant::now());
        shared.engine.tick(now);
        if self.is_unheard() {
            self.is_waiting &= !shared.engine.stop_waiting(self.session);
            self.came = None;
            self.portion.give_up(shared, now);
            return Step::Tells(Vec::new());
        }
        let (mut taken, mut body_bytes) = (Vec::new(), 0);
        let mut add = |portion: &mut Portion, job: Taken| {
            portion.hurry(Instant::now() + job.lasts / 2);
            body_bytes += job.leased.job.body_bytes;
            taken.push(job);
            (taken.len(), body_bytes)
        };
        let mut has = (0, 0);
        if let Some(job) = self.came.take().and_then(|(id, token)| take(shared, id, token)) {
            has = add(&mut self.portion, job);
        }
        while !self.is_waiting
            && self.rests_until.is_none()
            && has.0 < usize::from(RESERVE_JOBS)
            && has.1 < PART_BYTES
            && shared.engine.leases_of(self.session) < self.max
        {
            let is_quiet = has.0 == 0 && self.ended.is_empty();
            let wait = if is_quiet { None } else { Some(Duration::ZERO) };
            match execute(shared, self.session, Command::Reserve { wait }, now) {
                Ok(Answer::Reserved(id, token)) => {
                    self.portion.add(id, token);
                    if let Some(job) = take(shared, id, token) {
                        has = add(&mut self.portion, job);
                    }
                }
                Ok(Answer::Waiting) => self.is_waiting = true,
                Ok(Answer::TimedOut) => break,
                // A durable lease is to be written down, and there is no room for that. It is tried again with what comes next,
                // and where nothing does, when something is to be said.
                Err(Refusal::NoRoom) => break,
                other => {
                    unreachable!("a reserve of who follows its leases and does not wait is not answered {other:?}")
                }
            }
        }
        if taken.is_empty() && self.ended.is_empty() { Step::Waits } else { Step::Tells(taken) }
    }

    /// Takes room for what is to be told of jobs; where there is none, they go back, and none of them is told.
    fn take_room(&mut self, taken: Vec<Taken>) -> Vec<Taken> {
        let bytes = taken.iter().map(|taken| taken.leased.job.body_bytes + LEASED_BYTES).sum();
        let room: room::Part = self.api.answers.part(&self.whose);
        if bytes > SHORT_ANSWER_BYTES && room.grow(bytes).is_err() {
            drop(self.portion.take());
            self.rests_until = Some(Instant::now() + ROOM_PATIENCE);
            return Vec::new();
        }
        self.portion.keep(room);
        taken
    }

    /// Waits until there may be something to tell; returns false where nothing was for so long that something is to be said.
    async fn wait(&mut self) -> bool {
        let until = self.rests_until.map_or(self.speaks_by, |rests_until| rests_until.min(self.speaks_by));
        let late = tokio::select! {
            biased;
            Some(late) = self.late.recv() => Some(late),
            () = self.api.stops() => None,
            () = changed(&mut self.changes) => None,
            () = sleep_until(until) => return Instant::now() < self.speaks_by,
        };
        late.into_iter().for_each(|late| self.note(late));
        while let Ok(late) = self.late.try_recv() {
            self.note(late);
        }
        true
    }

    /// Waits until all that was told is with the kernel. A job that comes meanwhile, and would have to wait for that, is for
    /// somebody else.
    async fn until_sent(&mut self) {
        let outgoing = self.outgoing.clone();
        loop {
            tokio::select! {
                biased;
                () = outgoing.until_flushed() => return,
                Some(late) = self.late.recv() => self.note(late),
            }
            if self.came.is_some() {
                if timeout(SENDING_PATIENCE, outgoing.until_flushed()).await.is_ok() {
                    return;
                }
                self.came = None;
                drop(self.portion.take());
            }
        }
    }

    fn note(&mut self, late: Late) {
        match late.what {
            Delivered::Job { job, token, .. } => {
                self.is_waiting = false;
                self.portion.add(job, token);
                self.came = Some((job, token));
            }
            // Of those that nobody was told of, nobody is told.
            Delivered::LeaseEnded { job, token, ran_out } => {
                if self.told.remove(&token) {
                    self.ran_out = if ran_out { self.ran_out + 1 } else { 0 };
                    let reason = late.ended.unwrap_or(LeaseEnd::Over);
                    self.ended.push(Said::Ended { lease: Lease::new(job, token), ran_out, reason });
                }
            }
            Delivered::TimedOut | Delivered::DeadlineSoon => self.is_waiting = false,
        }
    }

    /// What is said of ends of leases, and of jobs that were reserved.
    async fn tell(&mut self, taken: Vec<Taken>) -> Vec<Said> {
        let mut said = std::mem::take(&mut self.ended);
        let (mut leases, bodies): (Vec<_>, Vec<KeptBody>) =
            taken.into_iter().map(|Taken { leased, body, .. }| (leased, body)).unzip();
        for (leased, body) in leases.iter_mut().zip(self.api.read(bodies).await) {
            leased.job.show(body, self.body);
        }
        for leased in leases {
            self.told.extend(leased.lease.held().token);
            said.push(Said::Lease(Box::new(leased)));
        }
        said
    }

    fn part(mut self, said: Vec<Said>) -> Part {
        self.speaks_by = Instant::now() + HEARTBEAT;
        Part { said, portion: self.portion.take(), rest: Some(self) }
    }

    /// The last part. It may have been given a job by now, which goes back with it.
    fn farewell(self, reason: Why, detail: String) -> Part {
        Part { said: vec![Said::End { reason, detail }], portion: Portion::new(self.api.host.clone()), rest: None }
    }
}

const STOPPING: &str = "the server stops, which ends all leases without fault, but for durable ones";

/// Waits until somebody may have lost what was granted, and leaves that to be seen.
async fn changed(changes: &mut watch::Receiver<u64>) {
    match changes.changed().await {
        Ok(()) => changes.mark_changed(),
        // The door is gone, with the server.
        Err(_) => std::future::pending().await,
    }
}

impl Drop for Taker {
    /// What was told is held by its tokens; all else goes back.
    fn drop(&mut self) {
        self.api.counts.lease_streams.fetch_sub(1, Ordering::Relaxed);
        self.api.host.with(|shared, now| {
            shared.follow_nothing(self.session);
            shared.engine.leave_session(self.session, now);
            while let Ok(late) = self.late.try_recv() {
                if let Delivered::Job { job, token, .. } = late.what {
                    self.portion.add(job, token);
                }
            }
            self.portion.give_up(shared, now);
        });
    }
}
