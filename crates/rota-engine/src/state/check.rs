//! The invariants, asserted by a recount of everything: for tests and simulations, at any moment between two steps.

use super::{Owner, State, Totals};
use crate::command::{Body, BodyPlace};
use crate::event::KeptJob;
use crate::far::FarRecord;
use crate::job::{DueOrder, Job, JobState, Priority, QueueName, Time};
use crate::lines::Lines;
use crate::pages::Slot;
use crate::queue::{Queue, QueueId};
use crate::session::Bond;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

impl State {
    /// Recounts everything.
    ///
    /// # Panics
    /// If an index, a counter or a line disagrees with the jobs, naming which.
    pub(crate) fn check(&self) {
        self.check_jobs();
        self.check_graph();
        self.check_failed();
        self.check_queues();
        self.check_lines();
        self.check_sessions();
        self.check_durable();
        self.check_wakes();
        self.check_schedules();
        self.check_groups();
    }

    fn check_jobs(&self) {
        let mut by_state = [0u64; JobState::ALL.len()];
        let mut urgent = 0;
        let mut keys = 0;
        for (slot, job) in self.jobs.iter() {
            by_state[job.state as usize] += 1;
            urgent += u64::from(job.state == JobState::Ready && job.is_urgent());
            assert_eq!(self.slot_of(job.id), Some(slot), "job {} is found by its id", job.id);
            self.check_course(job);
            assert!(job.id.0 < self.numbers.next_job_id, "job {} is below the next id", job.id);
            let key = self.extra(job).and_then(|extra| extra.key.as_deref());
            if let Some(key) = key.filter(|_| !job.state.is_final()) {
                keys += 1;
                assert_eq!(self.find_key(job.queue, key), Some(slot), "job {} is found by its key", job.id);
            }
        }
        let cold: u64 = self.queues.iter().map(|(_, queue)| queue.cold).sum();
        by_state[JobState::Delayed as usize] += cold;
        assert_eq!(self.totals.by_state, by_state, "jobs by state");
        self.check_far(cold);
        assert_eq!(self.totals.urgent, urgent, "urgent jobs");
        assert_eq!(self.by_id.len(), self.jobs.len(), "the index of ids");
        assert_eq!(self.by_key.len(), keys, "the index of keys");
        let extras: BTreeSet<Slot> = self.jobs.iter().filter_map(|(_, job)| job.extra.get()).collect();
        assert_eq!(self.extras.iter().map(|(slot, _)| slot).collect::<BTreeSet<_>>(), extras, "the rest of the jobs");
        let in_memory = |job: &Job| job.body.length > 0 && job.body.place().is_none();
        let bodies = self.jobs.iter().filter(|(_, job)| in_memory(job)).count();
        assert_eq!(self.bodies.len(), bodies, "bodies");
    }

    fn check_course(&self, job: &Job) {
        let course = self.course(job);
        assert_eq!(
            job.state == JobState::Blocked,
            self.is_blocked(job),
            "job {} is blocked if it waits for others",
            job.id
        );
        let ended = course.and_then(|course| course.ended.as_ref());
        assert_eq!(job.state.is_final(), ended.is_some(), "a final job says how it ended");
        assert!(ended.is_none_or(|ended| ended.state == job.state), "a job ended as it says");
        for parent in course.map_or(&[][..], |course| &course.waits_for) {
            assert!(*parent < job.id, "nobody waits for a later job");
            let is_edge = self.graph.edges().get(parent).is_some_and(|children| children.contains(&job.id));
            assert!(is_edge || self.is_telling(), "job {parent} knows that {} waits for it", job.id);
            let is_open = self.find_job(*parent).is_some();
            assert!(is_open || self.is_telling(), "job {} waits for {parent}, which is open", job.id);
        }
    }

    /// Whoever is waited for knows by whom.
    fn check_graph(&self) {
        for (parent, children) in self.graph.edges() {
            assert!(!children.is_empty(), "somebody waits for job {parent}");
            for child in children {
                let slot = self.find_job(*child).expect("an open job waits");
                let course = self.course(&self.jobs[slot]);
                assert!(course.is_some_and(|course| course.waits_for.contains(parent)), "{child} waits for {parent}");
            }
        }
    }

    fn check_far(&self, cold: u64) {
        let homes: Vec<_> = self.jobs.iter().filter_map(|(slot, _)| self.home(slot)).collect();
        assert!(homes.iter().all(|&home| self.far.is_open(home)), "a job's home is known");
        for &job in self.far.near_by_wall().keys() {
            let home = self.slot_of(job).and_then(|slot| self.home(slot));
            assert!(home.is_some(), "job {job} goes by the wall clock, is far, and in memory");
        }
        let by_wall = |job: &&Job| self.extra(job).is_some_and(|extra| extra.home.is_some() && extra.at_wall.is_some());
        for job in self.jobs.iter().map(|(_, job)| job).filter(by_wall) {
            assert!(self.far.near_by_wall().contains_key(&job.id), "job {} goes by the wall clock", job.id);
        }
        let open: u64 = self.far.segments().map(|(_, _, open)| u64::from(open)).sum();
        assert_eq!(open, cold + homes.len() as u64, "open jobs of far segments");
        let bytes = |job: &Job| {
            if self.extra(job).is_some_and(|extra| extra.home.is_some()) { 0 } else { self.record_bytes(job) }
        };
        assert_eq!(
            self.job_bytes,
            self.jobs.iter().map(|(_, job)| bytes(job)).sum::<u64>(),
            "the length of all records"
        );
        let is_distant = |job: &&Job| job.state == JobState::Delayed && self.is_distant(job);
        let distant = self.jobs.iter().map(|(_, job)| job).filter(is_distant).map(|job| self.record_bytes(job));
        assert_eq!(self.distant_bytes, distant.sum::<u64>(), "what may leave memory");
    }

    fn check_queues(&self) {
        let mut listed: BTreeMap<Slot, usize> = BTreeMap::new();
        for (slot, queue) in self.queues.iter() {
            let jobs = |state| self.jobs.iter().filter(move |(_, job)| job.queue.slot() == slot && job.state == state);
            for (line, state) in [
                (
                    queue
                        .delayed
                        .all()
                        .chain(queue.by_wall.iter().flat_map(|by_wall| by_wall.delayed.all()))
                        .collect::<Vec<_>>(),
                    JobState::Delayed,
                ),
                (queue.buried.values().copied().collect(), JobState::Buried),
            ] {
                assert_eq!(line.len(), jobs(state).count(), "{} jobs of queue {}", state.name(), queue.name);
                for job in line {
                    assert_eq!(self.jobs[job].state, state, "a job in the line of {} jobs", state.name());
                    *listed.entry(job).or_default() += 1;
                }
            }
            assert_eq!(queue.reserved, jobs(JobState::Reserved).count() as u64, "reserved jobs of {}", queue.name);
            let blocked: BTreeSet<Slot> = jobs(JobState::Blocked).map(|(slot, _)| slot).collect();
            assert_eq!(queue.blocked, blocked, "blocked jobs of {}", queue.name);
            let all = || self.jobs.iter().map(|(_, job)| job).filter(|job| job.queue.slot() == slot);
            let bytes: u64 = all().filter(|job| !job.state.is_final()).map(|job| u64::from(job.body.length)).sum();
            assert_eq!(queue.body_bytes, bytes, "bytes of bodies in {}", queue.name);
            self.check_by_wall(QueueId(slot.0));
            let ended = all().filter_map(|job| Some((self.ended(job)?.until, job.id)));
            assert_eq!(queue.ended, ended.collect(), "final jobs of {}", queue.name);
            assert_eq!(queue.urgent, jobs(JobState::Ready).filter(|(_, job)| job.is_urgent()).count() as u64);
            self.check_ready(queue, &jobs(JobState::Ready).map(|(slot, _)| slot).collect::<Vec<_>>());
            let least = jobs(JobState::Delayed).min_by_key(|(_, job)| (self.run_at(job), job.id));
            let first = self.first_delayed(queue).next();
            assert_eq!(first, least.map(|(slot, _)| slot), "the next due job of {}", queue.name);
            if !queue.is_closed() && queue.ready.len() > 0 {
                assert!(queue.waiting.is_empty(), "somebody waits for {} while a job is ready", queue.name);
            }
            assert!(!queue.is_idle(), "queue {} is kept though nothing needs it", queue.name);
            assert_eq!(
                self.find_queue(&queue.name),
                Some(QueueId(slot.0)),
                "queue {} is found by its name",
                queue.name
            );
            assert_eq!(self.queues_in_order.get(&queue.created), Some(&QueueId(slot.0)), "the order of queues");
            let places = queue.buried.iter().map(|(&place, &slot)| (place, self.burial(slot)));
            assert!(places.into_iter().all(|(line, own)| line == own), "buried jobs know their places");
            assert!(queue.buried.keys().all(|&place| place <= self.numbers.burials), "burials are counted");
        }
        assert!(listed.values().all(|&times| times == 1), "a job stands in one line");
        let bytes: u64 = self.queues.iter().map(|(_, queue)| queue.record_bytes()).sum();
        assert_eq!(self.queue_bytes, bytes, "the length of the records of all queues");
        assert_eq!(self.queues_by_name.len(), self.queues.len());
        assert_eq!(self.queues_in_order.len(), self.queues.len());
    }

    /// The lines have the place of every job, by its state.
    fn check_lines(&self) {
        for state in JobState::ALL {
            let is_meant = |other: JobState| other == state;
            let lines = Lines { queues: None, takes_queue: &|_| true, takes_state: &is_meant, keys: None };
            let places = self.places_in(&lines, 0, usize::MAX).expect("there is no bound");
            // One line has all that is over.
            let is_there = |job: &Job| job.state == state || (job.state.is_final() && state.is_final());
            let expected = self.jobs.iter().filter(|(_, job)| is_there(job)).map(|(slot, _)| slot.0);
            let places: BTreeSet<u32> = places.into_iter().collect();
            assert_eq!(places, expected.collect(), "places of {} jobs", state.name());
        }
    }

    /// What can be handed out stands in its line: all of the queue's ready jobs, but of those with a limit key the first of
    /// each at the most, which [`State::check_groups`] looks at.
    fn check_ready(&self, queue: &Queue, ready: &[Slot]) {
        let is_of_key = |slot: Slot| {
            let terms = self.extra(&self.jobs[slot]).and_then(|extra| extra.terms.as_ref());
            terms.is_some_and(|terms| terms.limit_key.is_some())
        };
        let line: BTreeSet<Slot> = queue.ready.all().collect();
        assert_eq!(line.len(), queue.ready.len(), "a ready job of {} stands there once", queue.name);
        assert!(line.iter().all(|&slot| self.jobs[slot].state == JobState::Ready), "a job in the line of ready jobs");
        let without = |slots: &[Slot]| slots.iter().copied().filter(|&slot| !is_of_key(slot)).collect::<BTreeSet<_>>();
        let all: Vec<Slot> = line.iter().copied().collect();
        assert_eq!(without(&all), without(ready), "ready jobs without a limit key of {}", queue.name);
        assert_eq!(queue.ready_jobs(), ready.len() as u64, "ready jobs of {}", queue.name);
        let least = all.iter().copied().min_by_key(|&slot| {
            let job = &self.jobs[slot];
            (job.priority, job.run_at, job.id)
        });
        assert_eq!(queue.ready.first(), least, "the first ready job of {}", queue.name);
    }

    fn check_sessions(&self) {
        let mut held = BTreeSet::new();
        let mut waiting = 0;
        let mut references: BTreeMap<Slot, (u32, u32)> = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            for slot in session.leases.all() {
                assert_eq!(self.holder(slot), Some(session.id), "a held job names its holder");
                assert!(held.insert(slot), "a job is held once");
            }
            waiting += u64::from(session.wait.is_some());
            let is_open = !session.closing && session.bond != Bond::Left;
            assert!(session.bond != Bond::Left || session.leases.len() > 0, "a session that was left holds something");
            if is_open {
                references.entry(session.used.slot()).or_default().0 += 1;
            }
            for queue in &session.watched {
                references.entry(queue.slot()).or_default().1 += 1;
                let wait = session.wait.map(|wait| wait.number);
                let stands = self.queue(*queue).waiting.iter().find(|(_, id)| **id == session.id);
                assert_eq!(stands.map(|(&number, _)| number), wait, "who waits stands in each watched queue");
            }
        }
        assert_eq!(held.len() as u64, self.totals.by_state[JobState::Reserved as usize], "each held job has a holder");
        assert_eq!(self.leases.len(), held.len(), "one lease a held job");
        let tokens: BTreeSet<_> = self.leases.iter().map(|(_, lease)| lease.token).collect();
        assert_eq!(tokens.len(), held.len(), "no token twice");
        assert_eq!(self.totals.waiting, waiting, "waiting sessions");
        for (slot, queue) in self.queues.iter() {
            let kept = u32::from(queue.created == 1);
            let (using, watching) = references.get(&slot).copied().unwrap_or_default();
            assert_eq!((queue.using - kept, queue.watching), (using, watching), "references to {}", queue.name);
        }
    }

    fn check_wakes(&self) {
        let mut wakes = 0;
        for (slot, queue) in self.queues.iter() {
            let id = QueueId(slot.0);
            wakes += usize::from(queue.wake_at < Time::NEVER);
            assert_eq!(self.wakes.contains(&(queue.wake_at, Owner::Queue(id))), queue.wake_at < Time::NEVER);
            let due = queue.delayed.first().map_or(Time::NEVER, |slot| self.jobs[slot].run_at);
            assert!(queue.wake_at <= due, "queue {} is looked at when its next job is due", queue.name);
            let others = [queue.expiring.first(), queue.ended.first()];
            assert!(others.into_iter().flatten().all(|&(at, _)| queue.wake_at <= at), "queue {} is awake", queue.name);
            assert!(queue.paused_until == Time(0) || queue.wake_at <= queue.paused_until);
            assert!(queue.throttled_until == Time(0) || queue.wake_at <= queue.throttled_until);
            let order = DueOrder { jobs: &self.jobs, spoke: self.spoke };
            assert!(queue.delayed.first().is_none_or(|slot| crate::wheel::Keys::key(&order, slot).0 == due));
        }
        for (_, session) in self.sessions.iter() {
            wakes += usize::from(session.wake_at < Time::NEVER);
            let next = self.session_deadline(session.id).unwrap_or(Time::NEVER);
            assert!(session.wake_at <= next || session.closing, "a session is looked at when its next lease ends");
        }
        self.check_wall_wakes();
        wakes += self.check_answers();
        assert_eq!(self.wakes.len(), wakes, "one wake an owner");
    }

    /// Everything that a replay of the log must give back, as text: leases are left out (a held job counts as ready) but for
    /// durable ones, whose ends are told by how long they are behind the first, as a start puts all of them off; and a delayed job whose moment came by `now` counts as ready. `cold` are the jobs that are not in memory.
    pub(crate) fn durable_text(&self, now: Time, read: &dyn Fn(BodyPlace) -> Box<[u8]>, cold: &[FarRecord]) -> String {
        let Totals { puts, completed, cancelled, expired, lost_leases, turns, .. } = self.totals;
        let mut text = format!(
            "puts {puts} completed {completed} cancelled {cancelled} expired {expired} lost {lost_leases} {turns:?}\n"
        );
        let mut jobs: Vec<(KeptJob, &QueueName)> = Vec::new();
        for (slot, job) in self.jobs.iter() {
            let body = match self.body(job).to_owned() {
                Body::InMemory(body) => body,
                Body::InLog(place) => read(place),
            };
            jobs.push((self.kept_job_at(slot, body), &self.queue(job.queue).name));
        }
        jobs.extend(cold.iter().map(|record| {
            let mut kept = record.kept.clone();
            kept.put.run_at = self.far_run_at(record.place, &kept.put);
            (kept, &record.queue)
        }));
        jobs.sort_by_key(|(kept, _)| kept.put.job);
        let mut burials: Vec<u64> = jobs.iter().filter_map(|(kept, _)| kept.buried).collect();
        burials.sort_unstable();
        let first_end = jobs.iter().filter_map(|(kept, _)| Some(kept.lease.as_ref()?.deadline)).min();
        for (KeptJob { put, delay, tally, buried, course, lease }, queue) in jobs {
            let ended = course.as_ref().and_then(|course| course.ended.as_ref());
            // How long a final job is kept is not in the log.
            if ended.is_some_and(|ended| ended.until <= now) {
                continue;
            }
            let state = match (buried, &lease) {
                _ if course.as_ref().is_some_and(|course| course.is_blocked()) => String::from("blocked"),
                _ if ended.is_some() => String::from("final"),
                (Some(number), _) => format!("buried {}", burials.partition_point(|&other| other < number)),
                (None, Some(lease)) => {
                    let behind = lease.deadline.since(first_end.unwrap_or_default());
                    let behind = Some(behind).filter(|_| lease.deadline < Time::NEVER);
                    format!("held {:?} {:?} {behind:?}", lease.token, lease.since)
                }
                (None, None) if put.run_at > now => String::from("delayed"),
                (None, None) => String::from("ready"),
            };
            let delay = delay.unwrap_or_else(|| put.run_at.since(put.created_at));
            let tally = crate::job::JobTally { reserves: 0, ..tally };
            let Priority(priority) = put.priority;
            let _ = writeln!(
                text,
                "{} {queue} {state} {priority} {:?} {:?} {delay:?} {:?} {:?} {:?} {} {} {tally:?} {:?} {:?} {:?}",
                put.job,
                put.run_at,
                put.created_at,
                put.ttr,
                put.key,
                put.at_wall,
                put.max_lost_leases,
                put.max_attempts,
                put.terms,
                course.unwrap_or_default(),
                put.body
            );
        }
        text += &self.answers_text(now);
        text += &self.failed_text(now);
        let mut queues: Vec<&Queue> =
            self.queues.iter().map(|(_, queue)| queue).filter(|queue| is_kept(queue, now)).collect();
        queues.sort_by_key(|queue| &queue.name);
        for queue in queues {
            let (until, length) =
                if queue.is_paused(now) { (queue.paused_until, queue.pause_length) } else { Default::default() };
            let _ = writeln!(
                text,
                "{} {:?} {:?} paused until {until:?} for {length:?}",
                queue.name, queue.totals, queue.settings
            );
        }
        text + &self.schedules_text()
    }

    /// All that a refused command must leave as it was, as text: what the log gives back, and who holds, uses, watches
    /// and waits.
    pub(crate) fn whole_text(&self, now: Time) -> String {
        let mut text = self.durable_text(now, &|place| format!("{place:?}").into_bytes().into(), &[]);
        let _ = writeln!(text, "{:?}", self.far);
        let _ = writeln!(text, "{:?}", self.totals);
        for (_, job) in self.jobs.iter() {
            let (extra, limits) = (self.extra(job), self.limits(job));
            let _ = writeln!(text, "{} {:?} {:?} {:?} {limits:?}", job.id, job.state, job.lease, extra);
        }
        for (_, lease) in self.leases.iter() {
            let _ = writeln!(text, "{lease:?}");
        }
        for (_, session) in self.sessions.iter() {
            let queue = |&id| &self.queue(id).name;
            let watched: Vec<_> = session.watched.iter().map(queue).collect();
            let _ = writeln!(text, "{:?} {} {watched:?} {:?}", session.id, queue(&session.used), session.wait);
        }
        for (_, queue) in self.queues.iter() {
            let rate = (queue.full_at, queue.throttled_until);
            let _ = writeln!(text, "{} {:?} {} {} {rate:?}", queue.name, queue.waiting, queue.using, queue.watching);
            text += &queue.groups_text();
        }
        text
    }
}

/// Whether a queue is there after a restart: an idle one is dropped then.
fn is_kept(queue: &Queue, now: Time) -> bool {
    let is_kept_for = queue.ended.iter().any(|&(until, _)| until > now);
    queue.created == 1 || queue.open_jobs() > 0 || is_kept_for || queue.is_paused(now) || queue.settings.is_some()
}
