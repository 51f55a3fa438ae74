//! Schedules in the model: every tick that passed is written down one by one, then it is decided what becomes of them.

use super::{
    Answer, BTreeMap, Due, Duration, JobId, KEY_BYTES, Model, OnConflict, Put, QueueName, Refusal, Terms, Time,
    representable,
};
use crate::limits::{
    KEY_AGAIN, MISSED_TICKS, ROOM_AGAIN, SCHEDULES, SHORTEST_EVERY, TEMPLATE_BODY_BYTES, TICK_GRACE, WRITTEN_AGAIN,
};
use crate::schedule::{
    Became, Fired, LastTick, LeftOut, OnMissed, OnOverlap, ScheduleCourse, ScheduleSpec, Template, Timing, TurnNote,
};
use crate::testing::calendar::PlainCalendar;
use crate::testing::workload::ScheduleAsk;
use std::sync::Arc;

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What it is.
    pub spec: ScheduleSpec,
    /// How it went.
    pub course: ScheduleCourse,
    /// When it is looked at, by the wall clock.
    pub due_at: Time,
    /// Its tick has come, and it has to be looked up who has its key.
    waits_for_key: bool,
    /// Ticks up to here may all fire.
    looked_until: Time,
    /// The last tick that put a job or was left out: no other may come before it.
    last_tick: Time,
}

impl Schedule {
    /// Whether it waits for a tick.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.course.is_paused && self.course.next < Time::NEVER
    }

    /// What is only known as long as the process runs.
    pub(super) fn forget(&mut self) {
        self.looked_until = Time(0);
        self.waits_at(self.course.next);
    }

    /// It is looked at then.
    fn waits_at(&mut self, at: Time) {
        (self.due_at, self.waits_for_key) = (at, false);
    }
}

fn after(spec: &ScheduleSpec, tick: Time) -> Time {
    spec.timing.next(Some(&PlainCalendar), tick)
}

impl Model {
    /// How often that came of a tick since the last start.
    #[must_use]
    pub fn ticks(&self, outcome: &str) -> u64 {
        self.ticks.get(outcome).copied().unwrap_or(0)
    }

    /// The schedules.
    #[must_use]
    pub fn schedules(&self) -> &BTreeMap<QueueName, Schedule> {
        &self.schedules
    }

    pub(super) fn ask_schedule(&mut self, name: &QueueName, ask: &ScheduleAsk) -> Result<Answer, Refusal> {
        let wall = self.wall();
        if let ScheduleAsk::Set(spec) = ask {
            return self.set_schedule(name, spec);
        }
        let schedule = self.schedules.get_mut(name).ok_or(Refusal::NoSuchSchedule)?;
        match ask {
            ScheduleAsk::Set(_) => unreachable!("it was done"),
            ScheduleAsk::Remove => drop(self.schedules.remove(name)),
            ScheduleAsk::Pause(is_paused) => {
                if schedule.course.is_paused != *is_paused {
                    schedule.course.is_paused = *is_paused;
                    if !is_paused && schedule.course.next <= wall {
                        schedule.course.next = after(&schedule.spec, wall);
                    }
                    schedule.waits_at(schedule.course.next);
                }
            }
            ScheduleAsk::Run => {
                let (template, next) = (schedule.spec.template.clone(), schedule.course.next);
                let fired = Fired { schedule: name.clone(), tick: wall, is_run: true, next, missed: 0 };
                return self.fire(&template, fired);
            }
        }
        Ok(Answer::Done)
    }

    fn set_schedule(&mut self, name: &QueueName, spec: &ScheduleSpec) -> Result<Answer, Refusal> {
        let wall = self.wall();
        let template = &spec.template;
        template.terms.as_ref().map_or(Ok(()), |terms| terms.check())?;
        if template.key.as_ref().is_some_and(|key| !(1..=KEY_BYTES).contains(&key.len())) {
            return Err(Refusal::BadKey);
        }
        if template.body.len() > TEMPLATE_BODY_BYTES {
            return Err(Refusal::TooLong(TEMPLATE_BODY_BYTES));
        }
        if matches!(spec.timing, Timing::Every { span, .. } if span < SHORTEST_EVERY) {
            return Err(Refusal::BadTiming);
        }
        let mut spec = written(spec);
        let known = self.schedules.get(name);
        let is_as_before = known.is_some_and(|known| match (&spec.timing, &known.spec.timing) {
            (Timing::Every { span, from: None }, Timing::Every { span: known, .. }) => span == known,
            (asked, known) => asked == known,
        });
        let next = match known {
            Some(known) if is_as_before => {
                spec.timing = known.spec.timing.clone();
                known.course.next
            }
            _ => {
                if let Timing::Every { from: from @ None, .. } = &mut spec.timing {
                    *from = Some(wall);
                }
                after(&spec, wall)
            }
        };
        if next == Time::NEVER && !is_as_before {
            return Err(Refusal::NeverTicks);
        }
        let is_new = known.is_none();
        assert!(self.schedules.len() < SCHEDULES, "a workload sets few");
        if known.is_some_and(|known| known.spec == spec) {
            return Ok(Answer::Scheduled { is_new });
        }
        let new = || Schedule {
            spec: spec.clone(),
            course: ScheduleCourse::new(wall, next),
            due_at: next,
            waits_for_key: false,
            looked_until: Time(0),
            last_tick: Time(0),
        };
        let schedule = self.schedules.entry(name.clone()).or_insert_with(new);
        schedule.spec = spec;
        schedule.course.next = next;
        schedule.forget();
        if !is_as_before {
            schedule.last_tick = Time(0);
        }
        Ok(Answer::Scheduled { is_new })
    }

    /// Puts what a template says. A put at a tick, and one that was asked for, are told to nobody but the schedule.
    fn fire(&mut self, template: &Template, fired: Fired) -> Result<Answer, Refusal> {
        let own = template.terms.clone().unwrap_or_default();
        let (name, now) = (fired.schedule.clone(), self.now);
        let put = Put {
            queue: Some(template.queue.clone()),
            priority: template.priority,
            due: Due::In(Duration::ZERO),
            ttr: template.ttr,
            max_lost_leases: template.max_lost_leases,
            max_attempts: template.max_attempts,
            key: template.key.clone().map(Vec::from),
            on_conflict: OnConflict::Reject,
            after: Vec::new(),
            expires: template.expires.map(Due::In),
            terms: Some(Terms {
                kind: own.kind,
                headers: own.headers,
                back_off: own.back_off,
                limit_key: own.limit_key,
                fired: Some(Box::new(fired.clone())),
                ..Terms::default()
            }),
            body: template.body.to_vec(),
        };
        let answer = self.put(0, &put)?;
        let Answer::Put(job) = answer else { panic!("a template replaces nothing") };
        let course = &mut self.schedules.get_mut(&name).expect("it fires").course;
        course.fired += 1;
        course.last_fired = Some((job, fired.tick));
        let became = if fired.is_run { Became::Run(job) } else { Became::Put(job) };
        *self.ticks.entry(if fired.is_run { "run" } else { "put" }).or_default() += 1;
        course.last = Some(LastTick { tick: fired.tick, at: now, became });
        if fired.is_run {
            let schedule = self.schedules.get_mut(&name).expect("it fires");
            schedule.waits_at(schedule.course.next);
        } else {
            self.fired.push((job, put.body));
        }
        Ok(answer)
    }

    /// It was looked up who has the keys of ticks that wait for that: those that the engine took have their turn. What time
    /// brings about came first.
    pub(super) fn ticks_are_decided(&mut self) {
        self.tick();
        let wall = self.wall();
        while let Some((name, note)) = self.turns.front().cloned() {
            let schedule = &self.schedules[&name];
            let may_have = schedule.waits_for_key && schedule.course.next <= wall;
            assert!(may_have, "{name} has a turn out of its time");
            assert!(note != TurnNote::KeyWanted, "who has the key of {name} was looked up");
            self.schedule_turn(&name);
        }
        self.settle();
    }

    /// A schedule's tick has come. Returns how many ticks were looked at.
    pub(super) fn schedule_turn(&mut self, name: &QueueName) -> usize {
        let (turn, note) = self.turns.pop_front().expect("the engine had that turn too");
        assert_eq!(turn, *name, "whose turn it is");
        let (wall, now) = (self.wall(), self.now);
        let schedule = self.schedules.get_mut(name).expect("it has a deadline");
        if note == TurnNote::Unwritten {
            schedule.waits_at(wall.after(WRITTEN_AGAIN));
            return 1;
        }
        let Schedule { spec, course, .. } = schedule.clone();
        let mut ticks = vec![course.next];
        let mut behind = after(&spec, course.next);
        while behind <= wall {
            ticks.push(behind);
            behind = after(&spec, behind);
        }
        let is_all = spec.on_missed == OnMissed::All;
        let is_one = ticks.len() == 1 || is_all && course.next <= schedule.looked_until;
        let count = if is_one { 1 } else { ticks.len().min(MISSED_TICKS) };
        // What becomes of which tick, which comes next, and how many were missed with it.
        let (tick, next, missed, mut left_out) = if is_all && !is_one && ticks.len() > MISSED_TICKS {
            let next = ticks[ticks.len() - MISSED_TICKS];
            (course.next, next, MISSED_TICKS as u64, Some(LeftOut::Missed))
        } else if is_one || is_all {
            (course.next, ticks.get(1).copied().unwrap_or(behind), 0, None)
        } else {
            (ticks[ticks.len() - 1], behind, count as u64 - 1, None)
        };
        if is_all && !is_one {
            schedule.looked_until = wall;
        }
        if note == TurnNote::NoRoom {
            schedule.waits_at(wall.after(ROOM_AGAIN));
            return count;
        }
        let mut missed = missed;
        let last_open = |(job, _): (JobId, Time)| self.jobs.get(&job).is_some_and(super::Job::is_open).then_some(job);
        let overlap = course.last_fired.and_then(last_open).filter(|_| spec.on_overlap == OnOverlap::Skip);
        if left_out.is_none() && spec.on_missed == OnMissed::Skip && wall.since(tick) > TICK_GRACE {
            missed += 1;
            left_out = Some(LeftOut::Missed);
        } else if left_out.is_none() {
            left_out = overlap.map(LeftOut::Overlap);
        }
        let schedule = self.schedules.get_mut(name).expect("it has a deadline");
        if note == TurnNote::KeyWanted {
            assert!(left_out.is_none() && spec.template.key.is_some(), "{name} waits for nothing that matters");
            schedule.due_at = wall.after(KEY_AGAIN);
            schedule.waits_for_key = true;
            return count;
        }
        assert!(tick > schedule.last_tick, "{name} comes back to a tick");
        schedule.last_tick = tick;
        if left_out.is_none() {
            let fired = Fired { schedule: name.clone(), tick, is_run: false, next, missed };
            left_out = match self.fire(&spec.template, fired) {
                Ok(_) => None,
                Err(Refusal::KeyTaken(job)) => Some(LeftOut::KeyTaken(job)),
                Err(Refusal::QueueFull) => Some(LeftOut::QueueFull),
                Err(refusal) => panic!("{name} can't fire: {refusal}"),
            };
        }
        let schedule = self.schedules.get_mut(name).expect("it has a deadline");
        let course = &mut schedule.course;
        course.next = next;
        course.missed += missed;
        *self.ticks.entry("missed").or_default() += missed;
        match left_out {
            None | Some(LeftOut::Missed) => {}
            Some(LeftOut::Overlap(_)) => *self.ticks.entry("overlap").or_default() += 1,
            Some(LeftOut::KeyTaken(_)) => *self.ticks.entry("key-taken").or_default() += 1,
            Some(LeftOut::QueueFull) => *self.ticks.entry("queue-full").or_default() += 1,
            Some(why) => panic!("{name} leaves a tick out: {why:?}"),
        }
        match left_out {
            Some(LeftOut::Overlap(_)) => course.overlapped += 1,
            None | Some(LeftOut::Missed) => {}
            Some(_) => course.refused += 1,
        }
        if let Some(why) = left_out {
            course.last = Some(LastTick { tick, at: now, became: Became::Nothing(why) });
        }
        schedule.waits_at(next);
        count
    }
}

/// What is kept of a schedule that was asked for.
fn written(spec: &ScheduleSpec) -> ScheduleSpec {
    let mut spec = spec.clone();
    if let Timing::Every { span, .. } = &mut spec.timing {
        *span = representable(*span);
    }
    let mut template = Template::clone(&spec.template);
    template.ttr = representable(template.ttr);
    template.expires = template.expires.map(representable);
    let own = template.terms.take().unwrap_or_default();
    let (kind, headers, back_off, limit_key) = (own.kind, own.headers, own.back_off, own.limit_key);
    let mut terms = Terms { kind, headers, back_off, limit_key, ..Terms::default() };
    if let Some(back_off) = &mut terms.back_off {
        (back_off.first, back_off.most) = (representable(back_off.first), representable(back_off.most));
    }
    template.terms = (!terms.is_empty()).then(|| Box::new(terms));
    spec.template = Arc::new(template);
    spec
}
