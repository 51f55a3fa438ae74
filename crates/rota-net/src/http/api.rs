//! What every handler works with: the engine through its host, as a guest for the length of one request.
//!
//! A request opens a session, has the engine do what it asks, and closes the session again, all under one lock: it is
//! nobody's client in between. What it names and is not in memory is looked up before. Nothing leaves before the log is
//! as durable as promised; while a last snapshot is taken nothing is decided, and who asks waits.

use super::Snapshots;
use super::access::{Door, Grant};
use super::connections::Place;
use super::durations::Durations;
use super::events::Hub;
use super::fields::Moment;
use super::guard::Names;
use super::patience::Patience;
use super::problem::{Kind, Problem};
use super::room::{Room, Whose};
use super::webhooks::Book;
use crate::access::NotAdmitted;
use crate::beanstalkd::Hole;
use crate::host::{CommitError, Host, Pin, Shared};
use crate::peers::{Peer, origin};
use crate::timings::Timed;
use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;
use rota_engine::command::{Answer, Body, Command, JobView, NewJob, Parent, Refusal, ScheduleCommand, Target};
use rota_engine::engine::{DependsOn, Engine};
use rota_engine::far::{FarAsOf, FarFound, Want};
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::LOOK_UPS;
use rota_engine::refused::PutRefused;
use rota_engine::session::SessionId;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::watch;

/// The queue that every session uses and watches as long as it names no other: a guest's too.
pub(super) const DEFAULT: &str = "default";

/// What the server is, to its handlers.
pub(super) struct Api {
    pub(super) host: Arc<Host>,
    pub(super) snapshots: Arc<dyn Snapshots>,
    /// Who says what a token grants.
    pub(super) door: Arc<dyn Door>,
    /// What it may be called by.
    pub(super) names: Names,
    /// The longest body of a request, in bytes.
    pub(super) request_bytes: usize,
    /// Room for the bodies of all requests.
    pub(super) bodies: Arc<Room>,
    /// Room for the answers to all requests.
    pub(super) answers: Arc<Room>,
    /// How long peers may take.
    pub(super) patience: Patience,
    pub(super) counts: Counts,
    /// What happens, to who listens.
    pub(super) events: Hub,
    /// Who is called with it.
    pub(super) webhooks: Book,
    pub(super) stop: watch::Receiver<bool>,
}

/// What is counted of requests.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answers by the hundreds of their status: 2xx at 0, 3xx, 4xx, 5xx.
    pub answers: [AtomicU64; 4],
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Connections that were closed at once, because their address had as many as it may.
    pub refused_connections: AtomicU64,
    /// Streams of leases that are open.
    pub lease_streams: AtomicU64,
    /// How long requests took.
    pub durations: Durations,
}

impl Counts {
    pub(super) fn answered(&self, status: u16) {
        if let Some(count) = self.answers.get(usize::from(status / 100).saturating_sub(2)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The server, to a handler: with what whoever asks may do. It reaches the engine by this alone.
pub(super) struct Asker {
    api: Arc<Api>,
    grant: Grant,
    whose: Whose,
    address: Option<SocketAddr>,
}

/// A guest's place before the engine. To a guest that is limited to some queues, jobs of others are not there.
pub(super) struct Desk<'a> {
    shared: &'a mut Shared,
    grant: &'a Grant,
    session: SessionId,
    now: Time,
}

/// A job's body on its way out.
#[derive(Debug)]
pub(super) struct KeptBody {
    body: Body<Box<[u8]>>,
    /// Where it is in the log alone, its segment stays until it was read.
    _pin: Option<Pin>,
}

/// What came of a try.
enum Step<T> {
    Done(T),
    /// Nothing is decided now.
    Frozen,
    /// There are as many sessions as there can be.
    Full,
    /// That has to be looked up before.
    LookUp(Vec<Want>),
    /// What was looked up is not so any more.
    Again,
}

impl Desk<'_> {
    /// Decides one command.
    pub(super) fn execute(&mut self, command: Command<'_>) -> Result<Answer, Refusal> {
        if self.grant.is_limited()
            && let Err(refusal) = self.check_reach(&command)
        {
            if let Command::Put(NewJob { queue: Target::Named(queue), .. }) = &command {
                self.count_refused_put(queue, refusal.into());
            }
            return Err(refusal);
        }
        execute(self.shared, self.session, command, self.now)
    }

    pub(super) fn shared(&self) -> &Shared {
        self.shared
    }

    /// Counts a put that is refused before the engine is asked.
    pub(super) fn count_refused_put(&mut self, queue: &QueueName, why: PutRefused) {
        let queue = self.shared.engine.find_queue(queue);
        self.shared.engine.count_refused_puts(queue, why, 1);
    }

    pub(super) fn job(&self, id: JobId) -> Option<JobView<'_>> {
        self.shared.engine.job(id).filter(|view| self.grant.covers(view.queue))
    }

    pub(super) fn grant(&self) -> &Grant {
        self.grant
    }

    /// Refuses what concerns a queue that the guest does not reach, as if it were not there.
    fn check_reach(&self, command: &Command<'_>) -> Result<(), Refusal> {
        let queue = |queue: &QueueName| self.grant.covers(queue).then_some(()).ok_or(Refusal::NoSuchQueue);
        let target = |target: &Target<'_>| match target {
            Target::Named(name) => queue(name),
            Target::Used => Err(Refusal::NoSuchQueue),
        };
        let job = |id: JobId| match self.shared.engine.job(id) {
            Some(view) if !self.grant.covers(view.queue) => Err(Refusal::NotFound),
            _ => Ok(()),
        };
        match command {
            Command::Put(new) => {
                target(&new.queue)?;
                let parents = new.after.iter().enumerate().map(|(at, parent)| {
                    let reached = match parent {
                        Parent::Id(id) => job(*id),
                        Parent::Key { queue: name, .. } => queue(name),
                    };
                    reached.map_err(|_| Refusal::UnknownParent(at + 1))
                });
                parents.collect()
            }
            Command::Use(name) | Command::Watch(name) | Command::Ignore(name) => queue(name),
            Command::CancelKey { queue: name, .. }
            | Command::Pause { queue: name, .. }
            | Command::Configure { queue: name, .. } => queue(name),
            Command::Kick { queue: name, .. } => target(name),
            // A schedule of another queue is not there, and none is turned to a queue that is not reached.
            Command::Schedule(command) => {
                let reaches = |name: &QueueName| match self.shared.engine.schedule(name) {
                    Some(view) if !self.grant.covers(&view.spec.template.queue) => Err(Refusal::NoSuchSchedule),
                    _ => Ok(()),
                };
                match &**command {
                    ScheduleCommand::Set { name, spec } => {
                        queue(&spec.template.queue)?;
                        reaches(name)
                    }
                    ScheduleCommand::Remove(name)
                    | ScheduleCommand::Run(name)
                    | ScheduleCommand::Pause { name, .. } => reaches(name),
                }
            }
            Command::ReserveJob(id) | Command::Delete(id) | Command::Cancel(id) | Command::KickJob(id) => job(*id),
            Command::Complete { held, .. }
            | Command::Release { held, .. }
            | Command::Fail { held, .. }
            | Command::Progress { held, .. }
            | Command::Bury { held, .. }
            | Command::Touch(held) => job(held.job),
            // It is no queue's; whoever puts jobs holds their queues against the grant.
            Command::KeepAnswer { .. } => Ok(()),
            // A guest watches no queue that was held against its grant.
            Command::Reserve { .. } => Err(Refusal::NotFound),
        }
    }

    /// A job's body, to be read when the lock is gone.
    pub(super) fn body(&self, job: &JobView<'_>) -> KeptBody {
        KeptBody::of(self.shared, job)
    }
}

impl KeptBody {
    pub(super) fn of(shared: &Shared, job: &JobView<'_>) -> KeptBody {
        let body = job.body.to_owned();
        KeptBody { _pin: body.in_log().map(|_| shared.pins.pin()), body }
    }
}

/// Decides one command of a session.
pub(super) fn execute(
    shared: &mut Shared,
    session: SessionId,
    command: Command<'_>,
    now: Time,
) -> Result<Answer, Refusal> {
    let timed = shared.timings.as_ref().and(Timed::of(&command)).map(|what| (what, Instant::now()));
    let answer = shared.engine.execute(session, command, now);
    if let (Some((what, since)), Some(timings)) = (timed, &mut shared.timings) {
        timings.note(what, since);
    }
    answer
}

/// Who is given jobs, and where they are.
pub(super) struct Recipient {
    pub(super) grant: Grant,
    pub(super) origin: Option<Arc<str>>,
}

/// Opens a session in the name of whoever asks; `None` when there are as many as there can be.
pub(super) fn open_session(engine: &mut Engine, grant: &Grant) -> Option<SessionId> {
    let session = engine.open_session()?;
    if let Some(actor) = grant.actor() {
        engine.set_actor(session, Some(actor.clone()));
    }
    Some(session)
}

/// What the wall clock shows at a moment of engine time.
pub(super) fn moment(engine: &Engine, at: Time) -> Moment {
    Moment(engine.wall_time(at))
}

/// Nothing that commands name may be out of memory.
pub(super) fn nothing(_: &Engine, _: SessionId) -> Vec<Want> {
    Vec::new()
}

impl Asker {
    /// Does something with the engine as a guest: see [`Api::decide_for`].
    ///
    /// # Errors
    /// As there.
    pub(super) async fn decide<T>(
        &self,
        wants: impl Fn(&Engine, SessionId) -> Vec<Want>,
        work: impl FnOnce(&mut Desk<'_>) -> T,
    ) -> Result<T, Problem> {
        self.api.decide_for(&self.grant, wants, work).await
    }

    /// The server, for what goes on behind the answer.
    pub(super) fn shared(&self) -> Arc<Api> {
        self.api.clone()
    }

    /// What whoever asks may do.
    pub(super) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Who is given the jobs that are asked for.
    pub(super) fn recipient(&self) -> Recipient {
        Recipient { grant: self.grant.clone(), origin: self.address.map(origin) }
    }

    /// Whose room it takes.
    pub(super) fn whose(&self) -> &Whose {
        &self.whose
    }
}

impl Deref for Asker {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl FromRequestParts<Arc<Api>> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Asker, Problem> {
        let address = parts.extensions.get::<Place>().map(|place| place.address);
        Ok(Asker { api: api.clone(), grant: granted(parts)?.clone(), whose: whose(&parts.extensions), address })
    }
}

/// What whoever sent a request may do.
///
/// # Errors
/// [`Problem`] where nobody has looked: then it is nothing.
pub(super) fn granted(parts: &Parts) -> Result<&Grant, Problem> {
    let nothing = || Problem::new(Kind::NotAllowed, "nobody has looked at who asks for that");
    parts.extensions.get::<Grant>().ok_or_else(nothing)
}

/// Whose room a request takes: its token's, or its address's where nobody was asked for one.
pub(super) fn whose(request: &Extensions) -> Whose {
    match request.get::<Grant>().and_then(Grant::pass) {
        Some(pass) => Whose::Token(pass.id.clone()),
        None => Whose::Peer(request.get::<Place>().map_or(Peer::unknown(), |place| place.peer)),
    }
}

impl Api {
    /// Does something with the engine as a guest, after what `wants` names was brought near, and waits until what came
    /// of it may leave.
    ///
    /// # Errors
    /// [`Problem`], if the server stops or has no room for a session; `work` was not called then.
    async fn decide_for<T>(
        &self,
        grant: &Grant,
        wants: impl Fn(&Engine, SessionId) -> Vec<Want>,
        work: impl FnOnce(&mut Desk<'_>) -> T,
    ) -> Result<T, Problem> {
        let mut work = Some(work);
        let mut looked_up = LookedUp::default();
        loop {
            let (step, depends_on) = self.host.with_and_wait(|shared, now| {
                if shared.is_frozen {
                    return (Step::Frozen, false);
                }
                let Some(session) = open_session(&mut shared.engine, grant) else { return (Step::Full, false) };
                shared.engine.tick(now);
                let step = looked_up.bring_near(&mut shared.engine, now, |engine| wants(engine, session));
                let step = step.unwrap_or_else(|| {
                    let work = work.take().expect("it is done once");
                    Step::Done(work(&mut Desk { shared, grant, session, now }))
                });
                looked_up.let_go(&mut shared.engine);
                shared.engine.close_session(session, now);
                let will_wait = matches!(step, Step::Done(_));
                (step, will_wait)
            });
            match step {
                Step::Done(done) => {
                    self.leaves(depends_on).await;
                    return Ok(done);
                }
                Step::Frozen => self.wait_until_thawed().await?,
                Step::Full => return Err(Problem::new(Kind::Busy, "there are as many sessions as there can be")),
                Step::LookUp(wants) => match self.host.look_up(wants).await {
                    Ok(found) => looked_up.known.extend(found),
                    Err(error) => never::<()>(error).await,
                },
                Step::Again => {}
            }
        }
    }

    /// Looks at what is in memory, and waits until that may leave.
    pub(super) async fn look<T>(&self, look: impl FnOnce(&Shared) -> T) -> T {
        let (seen, depends_on) = self.host.with_and_wait(|shared, now| {
            if !shared.is_frozen {
                shared.engine.tick(now);
            }
            (look(shared), true)
        });
        self.leaves(depends_on).await;
        seen
    }

    /// Waits until what depends on that may leave. If the log failed it never may, and the process stops.
    pub(super) async fn leaves(&self, depends_on: DependsOn) {
        loop {
            if let Err(error) = self.host.left_behind(depends_on).await {
                never::<()>(error).await;
            }
            if !self.host.is_behind() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads bodies that are in the log alone.
    pub(super) async fn read(&self, bodies: Vec<KeptBody>) -> Vec<Box<[u8]>> {
        let (mut read, mut holes) = (Vec::new(), Vec::new());
        for kept in &bodies {
            if let Body::InLog(body) = kept.body {
                holes.push(Hole { at: read.len(), body });
                read.resize(read.len() + body.body_bytes as usize, 0);
            }
        }
        if !holes.is_empty()
            && let Err(error) = self.host.fill(&mut read, holes).await
        {
            never::<()>(error).await;
        }
        let mut rest = &read[..];
        let whole = bodies.into_iter().map(|kept| match kept.body {
            Body::InMemory(body) => body,
            Body::InLog(place) => {
                let body;
                (body, rest) = rest.split_at(place.body_bytes as usize);
                body.into()
            }
        });
        whole.collect()
    }

    /// Waits until commands are decided again.
    ///
    /// # Errors
    /// [`Problem`] if the server stops instead.
    pub(super) async fn wait_until_thawed(&self) -> Result<(), Problem> {
        tokio::select! {
            () = self.host.wait_until_thawed() => Ok(()),
            () = self.stops() => Err(Problem::new(Kind::Stopping, "the server took its last snapshot")),
        }
    }

    /// Waits until what was granted is so no more.
    pub(super) async fn lost(&self, grant: &Grant) -> NotAdmitted {
        let mut changes = self.door.changes();
        loop {
            if let Err(not) = self.door.renew(grant) {
                return not;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the server stops.
    pub(super) async fn stops(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// After the log failed not one answer leaves: the process is about to stop.
async fn never<T>(_: CommitError) -> T {
    std::future::pending().await
}

/// What was looked up for a request, out of what is not in memory.
#[derive(Default)]
struct LookedUp {
    known: Vec<(Want, FarFound)>,
    /// As of when the first of it was looked up.
    as_of: FarAsOf,
    look_ups: u32,
    is_near: bool,
}

impl LookedUp {
    /// Brings near what is wanted; says what is to be done first if that can't be.
    fn bring_near<T>(
        &mut self,
        engine: &mut Engine,
        now: Time,
        wants: impl Fn(&Engine) -> Vec<Want>,
    ) -> Option<Step<T>> {
        if !engine.has_far_jobs() {
            return None;
        }
        let is_known = |want: &Want| self.known.iter().any(|(known, _)| known == want);
        let missing: Vec<Want> = wants(engine).into_iter().filter(|want| !is_known(want)).collect();
        if !missing.is_empty() {
            if self.known.is_empty() {
                self.as_of = engine.far_as_of();
            }
            return Some(Step::LookUp(missing));
        }
        let take = |(want, found): &(Want, FarFound)| engine.take_wanted(want, found, self.as_of, now);
        let are_there: Vec<bool> = self.known.iter().map(take).collect();
        self.is_near = true;
        if self.look_ups >= LOOK_UPS || are_there.iter().all(|is_as_it_was| *is_as_it_was) {
            return None;
        }
        self.look_ups += 1;
        self.let_go(engine);
        let mut are_there = are_there.into_iter();
        self.known.retain(|_| are_there.next().unwrap_or(false));
        Some(Step::Again)
    }

    /// Lets what was brought near go again, where nothing happened to it.
    fn let_go(&mut self, engine: &mut Engine) {
        if std::mem::take(&mut self.is_near) {
            self.known.iter().for_each(|(_, found)| engine.let_go(found));
        }
    }
}
