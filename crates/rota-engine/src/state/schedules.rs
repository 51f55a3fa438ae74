//! Schedules: what is asked of them, what a tick brings about, what their events do.
//!
//! They are kept by name, and those whose next tick is known by that tick. A turn is taken when the wall clock has come to
//! the first of those, which costs a server without schedules one comparison with a moment that is never reached.

use super::State;
use crate::command::{Answer, Due, NewJob, OnConflict, Refusal, ScheduleCommand, Target};
use crate::event::Event;
use crate::far::Want;
use crate::job::{JobId, QueueName, Time};
use crate::limits::{
    CRON_BYTES, KEY_AGAIN, KEY_BYTES, MISSED_TICKS, ROOM_AGAIN, SCHEDULE_BYTES, SCHEDULES, TEMPLATE_BODY_BYTES,
    TICK_GRACE, ZONE_BYTES,
};
use crate::queue::QueueId;
use crate::schedule::{
    Became, Calendar, Fired, KeptSchedule, LastTick, LeftOut, OnMissed, OnOverlap, ScheduleCourse, ScheduleSpec,
    ScheduleView, Template, TickCounts, TickPassed, Timing,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// All schedules.
#[derive(Debug)]
pub(crate) struct Schedules {
    calendar: Option<Arc<dyn Calendar>>,
    by_name: BTreeMap<QueueName, Schedule>,
    /// In the order in which they came to be, in this process.
    in_order: BTreeMap<u64, QueueName>,
    /// Those that wait for a tick, by when they are looked at, by the wall clock.
    due: BTreeSet<(Time, QueueName)>,
    /// When the first of them is looked at, in engine time.
    pub(super) wake: Time,
    /// Those of them whose tick has come, and of whose key somebody has to look up who has it.
    keyless: BTreeSet<QueueName>,
    created: u64,
    /// Length of the records that would hold them, in bytes.
    bytes: usize,
    /// What came of ticks since the start.
    ticks: TickCounts,
}

/// One of them.
#[derive(Debug)]
struct Schedule {
    number: u64,
    spec: ScheduleSpec,
    course: ScheduleCourse,
    /// When it is looked at next, by the wall clock: at its next tick, or a little later where there was no room.
    due_at: Time,
    /// Ticks up to here were looked over: all that are left of them may fire.
    looked_until: Time,
}

impl Default for Schedules {
    fn default() -> Schedules {
        Schedules {
            calendar: None,
            by_name: BTreeMap::new(),
            in_order: BTreeMap::new(),
            due: BTreeSet::new(),
            wake: Time::NEVER,
            keyless: BTreeSet::new(),
            created: 0,
            bytes: 0,
            ticks: TickCounts::default(),
        }
    }
}

impl Schedules {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The tick of a timing after a moment.
    fn next(&self, timing: &Timing, after: Time) -> Time {
        timing.next(self.calendar.as_deref(), after)
    }

    /// Whether somebody knows the ticks of a timing.
    fn is_known(&self, timing: &Timing) -> bool {
        self.calendar.is_some() || matches!(timing, Timing::Every { .. })
    }

    fn the(&self, name: &QueueName) -> Result<&Schedule, Refusal> {
        self.by_name.get(name).ok_or(Refusal::NoSuchSchedule)
    }

    /// Puts a schedule in line for `at`, or in none if it waits for no tick.
    fn place(&mut self, name: &QueueName, at: Time) {
        let is_known = self.by_name.get(name).is_some_and(|schedule| self.is_known(&schedule.spec.timing));
        let Some(schedule) = self.by_name.get_mut(name) else { return };
        let old = std::mem::replace(&mut schedule.due_at, at);
        self.due.remove(&(old, name.clone()));
        self.keyless.remove(name);
        if !schedule.course.is_paused && schedule.course.next < Time::NEVER && is_known {
            self.due.insert((at, name.clone()));
        }
    }

    fn put(&mut self, kept: KeptSchedule) {
        let KeptSchedule { name, spec, course } = kept;
        let number = self.remove(&name).unwrap_or(self.created + 1);
        self.bytes += spec.bytes();
        self.created = self.created.max(number);
        self.in_order.insert(number, name.clone());
        let due_at = course.next;
        self.by_name.insert(name.clone(), Schedule { number, spec, course, due_at, looked_until: Time(0) });
        self.place(&name, due_at);
    }

    /// Takes a schedule out; returns the number that it had.
    fn remove(&mut self, name: &QueueName) -> Option<u64> {
        let schedule = self.by_name.remove(name)?;
        self.bytes -= schedule.spec.bytes();
        self.due.remove(&(schedule.due_at, name.clone()));
        self.keyless.remove(name);
        self.in_order.remove(&schedule.number);
        Some(schedule.number)
    }
}

impl State {
    pub(crate) fn set_calendar(&mut self, calendar: Arc<dyn Calendar>) {
        self.schedules.calendar = Some(calendar);
        for name in self.schedules.by_name.keys().cloned().collect::<Vec<_>>() {
            let due_at = self.schedules.by_name[&name].due_at;
            self.schedules.place(&name, due_at);
        }
        self.wake_schedules();
    }

    pub(crate) fn calendar(&self) -> Option<&Arc<dyn Calendar>> {
        self.schedules.calendar.as_ref()
    }

    /// Finds out anew when schedules are looked at: one of them has another tick, or the clock was set.
    pub(super) fn wake_schedules(&mut self) {
        let first = self.schedules.due.first().map(|(at, _)| *at);
        self.schedules.wake = first.map_or(Time::NEVER, |at| self.engine_time(at));
    }

    /// The schedule whose turn it is, where its time comes before `before`.
    pub(super) fn schedule_due(&self, now: Time, before: Time) -> Option<QueueName> {
        let is_due = self.schedules.wake <= now && self.schedules.wake < before;
        self.schedules.due.first().filter(|_| is_due).map(|(_, name)| name.clone())
    }

    /// What a schedule puts.
    pub(super) fn template(&self, name: &QueueName) -> Option<&Template> {
        self.schedules.by_name.get(name).map(|schedule| &*schedule.spec.template)
    }

    /// The queue that a schedule puts into.
    pub(crate) fn schedule_queue(&self, name: &QueueName) -> Option<&QueueName> {
        self.template(name).map(|template| &template.queue)
    }

    /// What comes of a schedule's turn, added to `events`: a put, or that there is none. Returns how many ticks were looked
    /// at, of the objects that a step handles, and whether it has to be looked up first who has the template's key: then
    /// nothing comes of it yet. `is_known`: that was done, and who has it is in memory.
    pub(crate) fn take_turn(
        &mut self,
        name: &QueueName,
        queue: QueueId,
        (now, is_known): (Time, bool),
        events: &mut Vec<Event>,
    ) -> (usize, bool) {
        let wall = self.wall_time(now);
        let schedules = &mut self.schedules;
        let calendar = schedules.calendar.clone();
        let schedule = schedules.by_name.get_mut(name).expect("a schedule in line is there");
        let Schedule { spec, course, looked_until, .. } = schedule;
        let calendar = calendar.as_deref();
        let after = |tick| spec.timing.next(calendar, tick);
        let first = course.next;
        let (mut tick, mut next, mut missed, mut cost) = (first, after(first), 0, 1);
        if next <= wall && !(spec.on_missed == OnMissed::All && first <= *looked_until) {
            let (mut last, mut behind) = (first, next);
            while behind <= wall && cost < MISSED_TICKS {
                (last, behind) = (behind, after(behind));
                cost += 1;
            }
            let is_more = behind <= wall;
            if spec.on_missed == OnMissed::All {
                *looked_until = wall;
                if is_more {
                    let newest = spec.timing.newest(calendar, (first, wall), MISSED_TICKS);
                    let next = newest.front().copied().unwrap_or(behind);
                    let (schedule, missed, why) = (name.clone(), MISSED_TICKS as u64, LeftOut::Missed);
                    events.push(Event::TickPassed(Box::new(TickPassed { schedule, tick, next, missed, why })));
                    return (cost, false);
                }
            } else {
                tick = if is_more {
                    spec.timing.newest(calendar, (first, wall), 1).pop_back().unwrap_or(last)
                } else {
                    last
                };
                next = if is_more { after(tick) } else { behind };
                missed = cost as u64 - 1;
            }
        }
        let (on_missed, on_overlap, template) = (spec.on_missed, spec.on_overlap, Arc::clone(&spec.template));
        let last_job = course.last_fired.map(|(job, _)| job);
        let schedule = name.clone();
        let mut left_out = |missed, why| {
            events.push(Event::TickPassed(Box::new(TickPassed {
                schedule: schedule.clone(),
                tick,
                next,
                missed,
                why,
            })));
        };
        if on_missed == OnMissed::Skip && wall.since(tick) > TICK_GRACE {
            left_out(missed + 1, LeftOut::Missed);
        } else if let Some(job) = last_job.filter(|&job| on_overlap == OnOverlap::Skip && self.find_job(job).is_some())
        {
            left_out(missed, LeftOut::Overlap(job));
        } else if !is_known && template.key.as_ref().is_some_and(|key| self.wanted_key(queue, key).is_some()) {
            return (cost, true);
        } else {
            let fired = Fired { schedule: name.clone(), tick, is_run: false, next, missed };
            match self.decide_put_into(queue, put_of(&template, fired), now, events) {
                Ok(_) => {}
                Err(Refusal::KeyTaken(job)) => left_out_of(events, name, (tick, next, missed), LeftOut::KeyTaken(job)),
                Err(Refusal::QueueFull | Refusal::TooManyQueues) => {
                    left_out_of(events, name, (tick, next, missed), LeftOut::QueueFull)
                }
                Err(_) => left_out_of(events, name, (tick, next, missed), LeftOut::BadTerms),
            }
        }
        (cost, false)
    }

    /// Has a schedule's tick wait until it was looked up who has its key.
    pub(crate) fn await_key(&mut self, name: &QueueName, now: Time) {
        self.put_off_turn(name, KEY_AGAIN, now);
        self.schedules.keyless.insert(name.clone());
    }

    /// The schedules whose ticks wait for that, each with what is to be looked up; with nothing if who has the key is known
    /// by now. Where the clock was set back, a tick may be ahead again.
    pub(crate) fn ticks_that_wait(&self, now: Time) -> impl Iterator<Item = (&QueueName, Option<Want>)> {
        let wall = self.wall_time(now);
        let has_come = move |name: &&QueueName| self.schedules.by_name[*name].course.next <= wall;
        self.schedules.keyless.iter().filter(has_come).map(move |name| (name, self.wanted_by(name)))
    }

    /// What has to be looked up before it can be told who has the key of what a schedule puts.
    pub(super) fn wanted_by(&self, name: &QueueName) -> Option<Want> {
        let template = self.template(name)?;
        self.wanted_key(self.find_queue(&template.queue)?, template.key.as_deref()?)
    }

    /// Puts a schedule's turn off: there was no room for what would have come of it.
    pub(crate) fn put_off_turn(&mut self, name: &QueueName, by: Duration, now: Time) {
        let at = self.wall_time(now).after(by);
        self.schedules.place(name, at);
        self.wake_schedules();
    }

    /// Decides what is asked of schedules.
    pub(super) fn decide_schedule(
        &self,
        command: ScheduleCommand<'_>,
        now: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let wall = self.wall_time(now);
        match command {
            ScheduleCommand::Set { name, spec } => self.set_schedule(name, &spec, wall, events),
            ScheduleCommand::Remove(name) => {
                self.schedules.the(name)?;
                events.push(Event::ScheduleRemoved { schedule: name.clone() });
                Ok(Answer::Done)
            }
            ScheduleCommand::Pause { name, is_paused } => {
                let Schedule { spec, course, .. } = self.schedules.the(name)?;
                if course.is_paused != is_paused {
                    // What was next before is still ahead where the clock was set back: those before it had their turn.
                    let is_ahead = is_paused || course.next > wall;
                    let next = if is_ahead { course.next } else { self.schedules.next(&spec.timing, wall) };
                    events.push(Event::SchedulePaused { schedule: name.clone(), is_paused, next });
                }
                Ok(Answer::Done)
            }
            ScheduleCommand::Run(name) => {
                let Schedule { spec, course, .. } = self.schedules.the(name)?;
                let template = &spec.template;
                let queue = self.find_queue(&template.queue).ok_or(Refusal::NoSuchQueue)?;
                let fired = Fired { schedule: name.clone(), tick: wall, is_run: true, next: course.next, missed: 0 };
                self.decide_put_into(queue, put_of(template, fired), now, events)
            }
        }
    }

    fn set_schedule(
        &self,
        name: &QueueName,
        spec: &ScheduleSpec,
        wall: Time,
        events: &mut Vec<Event>,
    ) -> Result<Answer, Refusal> {
        let template = &spec.template;
        let terms_fit = template.terms.as_ref().map_or(Ok(()), |terms| terms.check());
        terms_fit?;
        if template.key.as_ref().is_some_and(|key| !(1..=KEY_BYTES).contains(&key.len())) {
            return Err(Refusal::BadKey);
        }
        if template.body.len() > TEMPLATE_BODY_BYTES {
            return Err(Refusal::TooLong(TEMPLATE_BODY_BYTES));
        }
        let is_sound = match &spec.timing {
            Timing::Every { .. } => spec.is_often_enough(),
            Timing::Cron { expression, zone } => expression.len() <= CRON_BYTES && zone.len() <= ZONE_BYTES,
        };
        if !is_sound {
            return Err(Refusal::BadTiming);
        }
        let spec = spec.storable();
        let known = self.schedules.by_name.get(name);
        let (spec, course) = match known {
            // What does not change keeps its place: whoever sets the same again moves no tick.
            Some(known) if spec.timing.agrees_with(&known.spec.timing) => {
                let spec = ScheduleSpec { timing: known.spec.timing.clone(), ..spec };
                if spec == known.spec {
                    return Ok(Answer::Scheduled { is_new: false });
                }
                (spec, known.course)
            }
            _ => {
                let spec = spec.set_at(wall);
                let next = self.schedules.next(&spec.timing, wall);
                if next == Time::NEVER {
                    return Err(Refusal::NeverTicks);
                }
                let course = known.map_or_else(|| ScheduleCourse::new(wall, next), |known| known.course);
                (spec, ScheduleCourse { next, ..course })
            }
        };
        if known.is_none() && self.schedules.by_name.len() >= SCHEDULES {
            return Err(Refusal::TooManySchedules);
        }
        let others = self.schedules.bytes - known.map_or(0, |known| known.spec.bytes());
        if others + spec.bytes() > SCHEDULE_BYTES {
            return Err(Refusal::TooMuchScheduled);
        }
        let is_new = known.is_none();
        events.push(Event::ScheduleSet(Box::new(KeptSchedule { name: name.clone(), spec, course })));
        Ok(Answer::Scheduled { is_new })
    }

    /// A schedule is as this says, whether it was there or not.
    pub(super) fn put_schedule(&mut self, kept: KeptSchedule) {
        self.schedules.put(kept);
        self.wake_schedules();
    }

    pub(super) fn remove_schedule(&mut self, name: &QueueName) {
        self.schedules.remove(name);
        self.wake_schedules();
    }

    pub(super) fn pause_schedule(&mut self, name: &QueueName, is_paused: bool, next: Time) {
        self.change_schedule(name, |course| (course.is_paused, course.next) = (is_paused, next));
    }

    /// A put is a firing: its schedule, if it is there, goes on.
    pub(super) fn has_fired(&mut self, fired: &Fired, job: JobId, at: Time) {
        let &Fired { tick, is_run, next, missed, .. } = fired;
        let became = if is_run { Became::Run(job) } else { Became::Put(job) };
        self.schedules.ticks.note(became, missed);
        self.change_schedule(&fired.schedule, |course| {
            course.fired += 1;
            course.last_fired = Some((job, tick));
            course.last = Some(LastTick { tick, at, became });
            if !is_run {
                course.next = next;
                course.missed += missed;
            }
        });
    }

    pub(super) fn has_passed(&mut self, passed: &TickPassed, at: Time) {
        let &TickPassed { tick, next, missed, why, .. } = passed;
        self.schedules.ticks.note(Became::Nothing(why), missed);
        self.change_schedule(&passed.schedule, |course| {
            course.next = next;
            course.missed += missed;
            match why {
                LeftOut::Missed => {}
                LeftOut::Overlap(_) => course.overlapped += 1,
                LeftOut::KeyTaken(_) | LeftOut::KeyUnknown | LeftOut::QueueFull | LeftOut::BadTerms => {
                    course.refused += 1;
                }
            }
            course.last = Some(LastTick { tick, at, became: Became::Nothing(why) });
        });
    }

    /// In a log that begins in the middle a schedule may not be there yet: it is written again, whole, further on.
    fn change_schedule(&mut self, name: &QueueName, change: impl FnOnce(&mut ScheduleCourse)) {
        let Some(schedule) = self.schedules.by_name.get_mut(name) else { return };
        change(&mut schedule.course);
        let next = schedule.course.next;
        self.schedules.place(name, next);
        self.wake_schedules();
    }

    /// Whether a job is the last that some schedule put.
    pub(super) fn is_last_fired(&self, job: JobId, fired: &Fired) -> bool {
        let schedule = self.schedules.by_name.get(&fired.schedule);
        schedule.and_then(|schedule| schedule.course.last_fired).is_some_and(|(last, _)| last == job)
    }

    pub(crate) fn has_schedule(&self, name: &QueueName) -> bool {
        self.schedules.by_name.contains_key(name)
    }

    /// The number of a schedule in the order in which they came to be.
    pub(crate) fn schedule_number(&self, name: &QueueName) -> Option<u64> {
        self.schedules.by_name.get(name).map(|schedule| schedule.number)
    }

    pub(crate) fn schedules(&self) -> usize {
        self.schedules.by_name.len()
    }

    /// How many of them wait for a tick.
    pub(crate) fn schedules_in_line(&self) -> usize {
        self.schedules.due.len()
    }

    pub(crate) fn tick_counts(&self) -> &TickCounts {
        &self.schedules.ticks
    }

    /// Begins to count ticks: those that a log told of are of the past.
    pub(crate) fn count_no_ticks(&mut self) {
        self.schedules.ticks = TickCounts::default();
    }

    /// For how long the tick has waited for its turn that waits longest; zero if none does.
    pub(crate) fn tick_late(&self, now: Time) -> Duration {
        let wall = self.wall_time(now);
        // Whatever waits is looked at again soon.
        let soon = wall.after(ROOM_AGAIN.max(KEY_AGAIN));
        let waiting = self.schedules.due.iter().take_while(|(at, _)| *at <= soon);
        let first = waiting.map(|(_, name)| self.schedules.by_name[name].course.next).min();
        first.map_or(Duration::ZERO, |first| wall.since(first))
    }

    pub(crate) fn kept_schedule(&self, name: &QueueName) -> Option<KeptSchedule> {
        let schedule = self.schedules.by_name.get(name)?;
        Some(KeptSchedule { name: name.clone(), spec: schedule.spec.clone(), course: schedule.course })
    }

    /// The first schedule that came to be after the one of that number, with its own.
    pub(crate) fn schedule_after(&self, number: u64) -> Option<(u64, KeptSchedule)> {
        let (&number, name) = self.schedules.in_order.range((Bound::Excluded(number), Bound::Unbounded)).next()?;
        self.kept_schedule(name).map(|kept| (number, kept))
    }

    pub(crate) fn view_schedule(&self, name: &QueueName) -> Option<ScheduleView<'_>> {
        let (name, schedule) = self.schedules.by_name.get_key_value(name)?;
        Some(view(name, schedule, self.schedules.keyless.contains(name)))
    }

    /// Schedules by name, from after that one on, or from the first.
    pub(crate) fn schedules_after<'a>(
        &'a self,
        name: Option<&QueueName>,
    ) -> impl Iterator<Item = ScheduleView<'a>> + use<'a> {
        let after = name.map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        let range = self.schedules.by_name.range((after, Bound::Unbounded));
        range.map(move |(name, schedule)| view(name, schedule, self.schedules.keyless.contains(name)))
    }
}

fn view<'a>(name: &'a QueueName, schedule: &'a Schedule, waits_for_key: bool) -> ScheduleView<'a> {
    let Schedule { spec, course, due_at, .. } = schedule;
    let is_put_off = !course.is_paused && *due_at > course.next;
    ScheduleView { name, spec, course, waits_for_room: is_put_off && !waits_for_key }
}

fn left_out_of(events: &mut Vec<Event>, name: &QueueName, (tick, next, missed): (Time, Time, u64), why: LeftOut) {
    events.push(Event::TickPassed(Box::new(TickPassed { schedule: name.clone(), tick, next, missed, why })));
}

/// What is put at a firing.
fn put_of<'a>(template: &'a Template, fired: Fired) -> NewJob<'a> {
    NewJob {
        queue: Target::Named(&template.queue),
        priority: template.priority,
        due: Due::In(Duration::ZERO),
        ttr: template.ttr,
        max_lost_leases: template.max_lost_leases,
        max_attempts: template.max_attempts,
        key: template.key.as_deref(),
        on_conflict: OnConflict::Reject,
        after: &[],
        expires: template.expires.map(Due::In),
        terms: Some(template.terms_of(fired)),
        body: template.body.clone(),
    }
}

#[cfg(any(test, feature = "testing"))]
impl State {
    /// Recounts the schedules.
    ///
    /// # Panics
    /// If an index disagrees.
    pub(super) fn check_schedules(&self) {
        let Schedules { by_name, in_order, due, wake, keyless, bytes, .. } = &self.schedules;
        let numbers: BTreeMap<u64, QueueName> =
            by_name.iter().map(|(name, schedule)| (schedule.number, name.clone())).collect();
        assert_eq!(*in_order, numbers, "schedules in their order");
        let waits = |schedule: &Schedule| {
            let is_known = self.schedules.is_known(&schedule.spec.timing);
            !schedule.course.is_paused && schedule.course.next < Time::NEVER && is_known
        };
        let waiting = by_name.iter().filter(|(_, schedule)| waits(schedule));
        let waiting: BTreeSet<_> = waiting.map(|(name, schedule)| (schedule.due_at, name.clone())).collect();
        assert_eq!(*due, waiting, "schedules that wait for a tick");
        assert!(by_name.values().all(|schedule| schedule.due_at >= schedule.course.next), "none is looked at early");
        let is_put_off = |name| by_name.get(name).is_some_and(|it: &Schedule| it.due_at > it.course.next && waits(it));
        assert!(keyless.iter().all(is_put_off), "who waits for a key waits for its tick");
        let first = due.first().map_or(Time::NEVER, |(at, _)| self.engine_time(*at));
        assert_eq!(*wake, first, "when schedules are looked at");
        assert_eq!(*bytes, by_name.values().map(|schedule| schedule.spec.bytes()).sum::<usize>(), "their length");
    }

    /// All that a replay must give back of them, as text.
    pub(super) fn schedules_text(&self) -> String {
        let text =
            |(name, Schedule { spec, course, .. }): (&QueueName, &Schedule)| format!("{name} {spec:?} {course:?}\n");
        self.schedules.by_name.iter().map(text).collect()
    }
}
