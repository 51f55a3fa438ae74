//! What the log promises, on a simulated disk: its format, damage, crashes, garbage.

mod compaction;
mod crash;
mod damage;
mod far;
mod format;
mod garbage;
mod inspect;
mod salvage;

use super::{Group, LogWriter, Lsn, OpenError, Pending, Recovery, open};
use crate::event::{
    BuryReason, Event, KeptAnswer, KeptJob, KeptLease, KeptNumbers, KeptQueue, KeptResult, PutJob, QueueNames,
};
use crate::job::{JobId, JobState, JobTally, LeaseToken, Priority, QueueName, Time};
use crate::note::{Note, Noted, NotedWhy};
use crate::queue::{PerKey, QueueId, QueueSettings, QueueSync, QueueTotals, Rate, Turns};
use crate::schedule::{
    Became, Fired, KeptSchedule, LastTick, LeftOut, OnMissed, OnOverlap, ScheduleCourse, ScheduleSpec, Template,
    TickPassed, Timing,
};
use crate::session::{Actor, SessionId};
use crate::storage::Storage;
use crate::terms::{BackOff, Course, Ended, Expiry, OnParentFailure, Terms};
use crate::testing::storage::SimulatedDisk;
use std::sync::Arc;
use std::time::Duration;

const STORE: [u8; 16] = *b"the first store!";

/// Queue numbers are indexes of these names.
struct Names(Vec<QueueName>);

impl Names {
    fn new() -> Names {
        Names(["default", "mail", "a-rather-long-name/with;all.$(_)+"].map(|name| QueueName::new(name).unwrap()).into())
    }

    fn number(&self, name: &QueueName) -> QueueId {
        QueueId(self.0.iter().position(|known| known == name).unwrap() as u32)
    }
}

impl QueueNames for Names {
    fn queue_name(&self, queue: QueueId) -> &QueueName {
        &self.0[queue.0 as usize]
    }
}

/// A record as it went in, and as it comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    lsn: Lsn,
    seq: u64,
    at: Time,
    event: Event,
    actor: Option<Actor>,
}

fn put(job: u64, body: &[u8]) -> PutJob {
    PutJob {
        job: JobId(job),
        queue: QueueId(1),
        priority: Priority(7),
        created_at: Time(1_000 + job),
        run_at: Time(2_000 + job),
        at_wall: None,
        ttr: Duration::from_secs(60),
        max_lost_leases: 10,
        max_attempts: 25,
        key: None,
        terms: None,
        body: body.into(),
    }
}

/// One of every durable event.
fn every_event() -> Vec<Event> {
    let full = PutJob {
        at_wall: Some(Time(9)),
        key: Some((*b"welcome-42").into()),
        queue: QueueId(2),
        ttr: Duration::from_nanos(u64::MAX),
        job: JobId(u64::MAX),
        ..put(4, &[0xff; 70])
    };
    let (job, priority, run_at, delay) = (JobId(3), Priority(u32::MAX), Time(77), Duration::from_millis(5));
    vec![
        Event::Started { epoch: 3, engine_time: Time(4), wall_time: Time(5) },
        Event::NumbersReserved { job_ids_below: 65_537, seqs_below: 131_073 },
        Event::JobPut(put(3, b"")),
        Event::JobPut(full),
        Event::completed(job),
        Event::cancelled(job),
        Event::JobReleased { job, priority, delay, run_at, reserves: 2 },
        Event::JobFailed { job, delay, run_at, reserves: 3, error: None },
        Event::JobBuried { job, priority, reason: BuryReason::Asked, reserves: 4, number: 0, error: None },
        Event::JobBuried { job, priority, reason: BuryReason::LostLeases, reserves: 5, number: 0, error: None },
        Event::JobBuried { job, priority, reason: BuryReason::Attempts, reserves: 6, number: 0, error: None },
        Event::JobKicked { job, run_at },
        Event::JobPulled { job, run_at },
        Event::LeaseLost { job, reserves: 7 },
        Event::QueuePaused { queue: QueueId(0), until: Time(8), length: delay },
        Event::QueueDropped { queue: QueueId(2) },
        Event::ClockStepped { engine_time: Time(10), wall_time: Time(11) },
        Event::Stopped { next_job_id: 4, next_seq: 18 },
    ]
}

/// One of every record that a compaction writes, and a burial that says its number.
fn every_kept() -> Vec<Event> {
    let tally = JobTally { reserves: 1, lost_leases: 2, releases: 3, buries: 4, kicks: 5, attempts: 6 };
    let plain = KeptJob {
        put: put(4, b"body"),
        delay: None,
        tally: JobTally::default(),
        buried: None,
        course: None,
        lease: None,
    };
    let put = PutJob { at_wall: Some(Time(9)), key: Some((*b"k").into()), ..put(5, b"") };
    let full =
        KeptJob { put, delay: Some(Duration::from_secs(1)), tally, buried: Some(u64::MAX), course: None, lease: None };
    let (job, priority, reason) = (JobId(3), Priority(9), BuryReason::Asked);
    vec![
        Event::JobBuried { job, priority, reason, reserves: 4, number: 12, error: None },
        Event::JobKept(Box::new(plain)),
        Event::JobKept(Box::new(full)),
        Event::QueueKept(Box::new(KeptQueue {
            queue: QueueId(1),
            totals: QueueTotals { puts: 1, deletes: 2, pauses: 3, lost_leases: 4, ..QueueTotals::default() },
            paused_until: Time(5),
            pause_length: Duration::from_nanos(6),
            settings: None,
        })),
        Event::NumbersKept(Box::new(KeptNumbers {
            oldest_segment: 1,
            puts: 2,
            completed: 3,
            cancelled: 4,
            expired: 0,
            lost_leases: 5,
            turns: Turns::default(),
            epoch: 6,
            next_job_id: 7,
            job_ids_below: 8,
            next_seq: 9,
            seqs_below: 10,
            burials: 11,
            engine_time: Time(12),
            wall_time: Time(13),
            far_jobs: None,
        })),
    ]
}

/// What durable leases and queues that have answers wait for the disk are in a log.
fn every_durable() -> Vec<Event> {
    let (job, token) = (JobId(3), LeaseToken { epoch: 2, counter: u64::MAX });
    let lease = KeptLease { token, since: Time(70), deadline: Time(80) };
    let tally = JobTally { reserves: 1, ..JobTally::default() };
    let kept = |lease| KeptJob { put: put(3, b"body"), delay: None, tally, buried: None, course: None, lease };
    let settings = |durable_leases, sync| {
        let settings = QueueSettings { durable_leases, sync, ..QueueSettings::default() };
        Event::QueueConfigured { queue: QueueId(2), settings: Box::new(settings) }
    };
    vec![
        settings(true, None),
        settings(false, Some(QueueSync::Always)),
        settings(true, Some(QueueSync::Always)),
        Event::LeaseGiven { job, session: SessionId::PAST, token, deadline: Time(80), is_durable: true },
        Event::LeaseExtended { job, deadline: Time(90), is_durable: true },
        Event::LeaseDropped { job, is_durable: true },
        Event::JobKept(Box::new(kept(Some(Box::new(lease))))),
    ]
}

/// The records that say what was done to jobs beside their begin and their end, of a queue and of all.
fn every_turn() -> Vec<Event> {
    let turns = Turns { failed: 1, released: 2, buried: 3, kicked: u64::MAX };
    let kept = every_kept().into_iter().filter_map(|event| match event {
        Event::QueueKept(mut kept) => {
            (kept.totals.cancelled, kept.totals.expired, kept.totals.turns) = (5, 6, turns);
            kept.settings = Some(Box::new(QueueSettings { concurrency: Some(7), ..QueueSettings::default() }));
            Some(Event::QueueKept(kept))
        }
        Event::NumbersKept(mut kept) => {
            (kept.expired, kept.turns) = (8, turns);
            Some(Event::NumbersKept(kept))
        }
        _ => None,
    });
    kept.collect()
}

/// One of every record about schedules, and a put that is a firing.
fn every_schedule() -> Vec<Event> {
    let name = || QueueName::new("nightly;report").unwrap();
    let timing = Timing::Every { span: Duration::from_secs(90), from: Some(Time(1_000)) };
    let template = Template::new(QueueName::new("mail").unwrap(), (*b"body").into());
    let (on_missed, on_overlap) = (OnMissed::Skip, OnOverlap::Allow);
    let spec = ScheduleSpec { timing, on_missed, on_overlap, template: Arc::new(template.clone()) };
    let course = ScheduleCourse::new(Time(5), Time(91_000));
    let set = KeptSchedule { name: name(), spec, course };
    let back_off = BackOff { first: Duration::ZERO, factor_hundredths: 100, most: Duration::MAX, jitter_percent: 0 };
    let back_off = BackOff { most: Duration::from_nanos(u64::MAX), ..back_off };
    let terms = Terms {
        kind: Some("mail".into()),
        headers: vec![("lang".into(), "de".into())],
        back_off: Some(back_off),
        ..Terms::default()
    };
    let template = Template {
        priority: Priority(9),
        max_lost_leases: 3,
        max_attempts: 4,
        key: Some((*b"k").into()),
        expires: Some(Duration::from_secs(5)),
        terms: Some(Box::new(terms)),
        ..template
    };
    let (expression, zone) = ("0 3 * * 1-5".into(), "Europe/Berlin".into());
    let spec = ScheduleSpec {
        timing: Timing::Cron { expression, zone },
        on_missed: OnMissed::All,
        on_overlap: OnOverlap::Skip,
        template: Arc::new(template),
    };
    let course = |became| ScheduleCourse {
        is_paused: true,
        fired: 1,
        missed: 2,
        overlapped: 3,
        refused: 4,
        last: Some(LastTick { tick: Time(6), at: Time(7), became }),
        last_fired: Some((JobId(8), Time(9))),
        ..ScheduleCourse::new(Time(5), Time::NEVER)
    };
    let kept = |became| {
        Event::ScheduleKept(Box::new(KeptSchedule { name: name(), spec: spec.clone(), course: course(became) }))
    };
    let left_out = [
        LeftOut::Missed,
        LeftOut::Overlap(JobId(1)),
        LeftOut::KeyTaken(JobId(2)),
        LeftOut::KeyUnknown,
        LeftOut::QueueFull,
        LeftOut::BadTerms,
    ];
    let passed = left_out.map(|why| {
        let (tick, next, missed) = (Time(10), Time(11), 12);
        Event::TickPassed(Box::new(TickPassed { schedule: name(), tick, next, missed, why }))
    });
    let fired = |is_run| {
        let fired = Fired { schedule: name(), tick: Time(13), is_run, next: Time(14), missed: 15 };
        let terms = Terms { kind: Some("mail".into()), fired: Some(Box::new(fired)), ..Terms::default() };
        PutJob { terms: Some(Box::new(terms)), ..put(9, b"body") }
    };
    let mut events = vec![
        Event::ScheduleSet(Box::new(set)),
        kept(Became::Put(JobId(1))),
        kept(Became::Run(JobId(1))),
        kept(Became::Nothing(LeftOut::Overlap(JobId(1)))),
        Event::SchedulePaused { schedule: name(), is_paused: true, next: Time(5) },
        Event::SchedulePaused { schedule: name(), is_paused: false, next: Time(6) },
        Event::JobPut(fired(false)),
        Event::JobPut(fired(true)),
        Event::JobKept(Box::new(KeptJob::of_put(fired(false)))),
    ];
    events.extend(passed);
    events.push(Event::ScheduleRemoved { schedule: name() });
    events
}

/// One of every note.
fn every_note() -> Vec<Event> {
    let name = |name: &str| QueueName::new(name).unwrap();
    let called = Actor::new("die \"Post\", München").unwrap();
    let note = |what: Noted| match what {
        Noted::TokenCreated => Note { name: Some(called.clone()), ..Note::new(what, name("7f3a9c1e")) },
        Noted::TokenRevoked => {
            Note { name: Some(called.clone()), why: Some(NotedWhy::Gone), ..Note::new(what, name("7f3a9c1e")) }
        }
        Noted::SnapshotTaken => Note::new(what, name("20300501T080000Z-7f3a9c1e")),
        Noted::WebhookPaused => Note { why: Some(NotedWhy::Asked), ..Note::new(what, name("alerts")) },
        _ => Note::new(what, name("alerts")),
    };
    let nameless = Note::new(Noted::TokenRevoked, name("00000000"));
    Noted::ALL.into_iter().map(note).chain([nameless]).map(|note| Event::Noted(Box::new(note))).collect()
}

/// One of every record with what plain jobs and queues have nothing of.
fn every_rest() -> Vec<Event> {
    let back_off = BackOff {
        first: Duration::from_secs(1),
        factor_hundredths: 150,
        most: Duration::from_secs(60),
        jitter_percent: 20,
    };
    let terms = Terms {
        kind: Some("mail".into()),
        headers: vec![("trace".into(), "00-1".into()), ("lang".into(), "".into())],
        after: vec![JobId(1), JobId(2)],
        on_parent_failure: OnParentFailure::Hold,
        expires_at: Some(Expiry::Engine(Time(90))),
        back_off: Some(back_off),
        failed_parent: Some(JobId(1)),
        fired: None,
        limit_key: Some("customer-7".into()),
    };
    let run = Terms { on_parent_failure: OnParentFailure::Run, ..Terms::default() };
    let (job, priority, reason) = (JobId(3), Priority(9), BuryReason::Attempts);
    let (delay, run_at, error) = (Duration::from_secs(2), Time(77), Some((*b"no answer").into()));
    let waits = Course {
        waits_for: vec![JobId(2)],
        held_by: Some(JobId(1)),
        error: Some((*b"refused").into()),
        is_replaced: true,
        ..Course::default()
    };
    let ended = |state, result: Option<&[u8]>| {
        let ended = Ended { state, at: Time(80), until: Time(99), result: result.map(Box::from) };
        Course { ended: Some(ended), ..Course::default() }
    };
    let kept = |job, course| {
        let put = PutJob { terms: Some(Box::new(terms.clone())), key: Some((*b"k").into()), ..put(job, b"body") };
        let tally = JobTally { reserves: 1, ..JobTally::default() };
        Box::new(KeptJob { put, delay: Some(delay), tally, buried: None, course: Some(Box::new(course)), lease: None })
    };
    let settings = QueueSettings {
        retain: Some(delay),
        max_jobs: Some(7),
        max_bytes: Some(u64::MAX),
        concurrency: Some(2),
        rate: Some(Rate { count: 5, per: delay }),
        per_key: Some(PerKey { concurrency: Some(0), rate: Some(Rate { count: 1, per: run_at.since(Time(0)) }) }),
        ..QueueSettings::default()
    };
    let only =
        |concurrency, rate| QueueSettings { per_key: Some(PerKey { concurrency, rate }), ..QueueSettings::default() };
    let answer = |key: &[u8], answer: &[u8]| {
        let (key, answer) = (key.into(), answer.into());
        Event::AnswerKept(Box::new(KeptAnswer { key, fingerprint: u64::MAX, answer, until: Time(3) }))
    };
    vec![
        Event::QueueConfigured { queue: QueueId(2), settings: Box::new(settings.clone()) },
        Event::QueueConfigured { queue: QueueId(2), settings: Box::default() },
        Event::QueueConfigured { queue: QueueId(2), settings: Box::new(only(Some(3), None)) },
        Event::QueueConfigured { queue: QueueId(2), settings: Box::new(only(None, settings.rate)) },
        answer(b"k", b""),
        answer(&[b'k'; 255], b"what came of it"),
        Event::JobPut(PutJob { terms: Some(Box::new(terms.clone())), ..put(3, b"body") }),
        Event::JobPut(PutJob { terms: Some(Box::new(run)), ..put(4, b"") }),
        Event::JobFailed { job, delay, run_at, reserves: 1, error: error.clone() },
        Event::JobBuried { job, priority, reason, reserves: 2, number: 1, error },
        Event::JobReplaced(kept(3, waits.clone())),
        Event::JobKept(kept(3, waits)),
        Event::JobCompleted { job, kept: Some(Box::new(KeptResult { until: Time(9), result: None })) },
        Event::JobCompleted { job, kept: Some(Box::new(KeptResult { until: Time(9), result: Some((*b"1").into()) })) },
        Event::JobCancelled { job, kept_until: Some(Time(9)), because_of: Some(JobId(1)) },
        Event::JobCancelled { job, kept_until: None, because_of: Some(JobId(1)) },
        Event::JobExpired { job, kept_until: None },
        Event::JobExpired { job, kept_until: Some(Time(u64::MAX)) },
        Event::JobKept(kept(5, ended(JobState::Done, Some(b"result")))),
        Event::JobKept(kept(6, ended(JobState::Cancelled, None))),
        Event::JobKept(kept(7, ended(JobState::Expired, None))),
        Event::QueueKept(Box::new(KeptQueue {
            queue: QueueId(1),
            totals: QueueTotals::default(),
            paused_until: Time(5),
            pause_length: Duration::from_nanos(6),
            settings: Some(Box::new(settings)),
        })),
    ]
}

/// What came with jobs that expire by the wall clock, and with those that came to nothing and are remembered.
fn every_wall() -> Vec<Event> {
    let terms = |terms| PutJob { terms: Some(Box::new(terms)), ..put(3, b"body") };
    let expires = Terms { expires_at: Some(Expiry::Wall(Time(91))), ..Terms::default() };
    let more = Terms { limit_key: Some("customer-7".into()), kind: Some("mail".into()), ..expires.clone() };
    vec![
        Event::JobPut(terms(expires.clone())),
        Event::JobKept(Box::new(KeptJob::of_put(PutJob { at_wall: Some(Time(90)), ..terms(more) }))),
        Event::FailedKept([(JobId(3), Time(92)), (JobId(u64::MAX), Time(u64::MAX))].into()),
    ]
}

/// One of every record that a command can make, with who asked for it; each fourth says nobody.
fn every_asked() -> Vec<(Event, Option<Actor>)> {
    let events = [every_event(), every_rest(), every_schedule()].concat();
    let is_asked = |event: &Event| {
        let by_itself = matches!(
            event,
            Event::Started { .. }
                | Event::NumbersReserved { .. }
                | Event::Stopped { .. }
                | Event::JobExpired { .. }
                | Event::LeaseLost { .. }
                | Event::QueueDropped { .. }
                | Event::ClockStepped { .. }
                | Event::TickPassed(_)
        );
        event.is_awaited() && !by_itself
    };
    let actors = ["m".into(), "die \"Post\", München".into(), "x".repeat(100)];
    let actors = actors.map(|name: String| Actor::new(&name).unwrap());
    let actor = |at: usize| actors.get(at % (actors.len() + 1)).cloned();
    events.into_iter().filter(is_asked).enumerate().map(|(at, event)| (event, actor(at))).collect()
}

/// A log being written, and what went into it.
struct Scribe<S: Storage> {
    writer: LogWriter<S>,
    pending: Pending,
    group: Group,
    names: Names,
    entries: Vec<Entry>,
}

impl<S: Storage> Scribe<S> {
    fn open(storage: S) -> Result<Scribe<S>, OpenError> {
        let (writer, recovery, entries) = read(storage)?;
        let pending = Pending::new(recovery.next_lsn);
        Ok(Scribe { writer, pending, group: Group::default(), names: Names::new(), entries })
    }

    fn append(&mut self, event: Event) {
        self.append_by(event, None);
    }

    fn append_by(&mut self, event: Event, actor: Option<Actor>) {
        let seq = 100 + self.entries.len() as u64;
        let at = Time(5_000 + seq);
        let lsn = self.pending.append_by(seq, at, &event, actor.as_ref(), &self.names);
        self.entries.push(Entry { lsn, seq, at, event, actor });
    }

    fn write(&mut self) -> Result<Lsn, super::LogError> {
        self.pending.take(&mut self.group);
        self.writer.write(&mut self.group)
    }

    /// Appends the events as one group.
    fn commit(&mut self, events: Vec<Event>) {
        self.commit_by(events.into_iter().map(|event| (event, None)).collect());
    }

    /// The same, with who asked for them.
    fn commit_by(&mut self, events: Vec<(Event, Option<Actor>)>) {
        events.into_iter().for_each(|(event, actor)| self.append_by(event, actor));
        self.write().unwrap();
    }
}

fn read<S: Storage>(storage: S) -> Result<(LogWriter<S>, Recovery, Vec<Entry>), OpenError> {
    let names = Names::new();
    let mut entries = Vec::new();
    let (writer, recovery) = open(storage, STORE, &mut |record| {
        let actor = record.event.actor().cloned();
        let event = record.event.resolve(&mut |name| names.number(name));
        entries.push(Entry { lsn: record.lsn, seq: record.seq, at: record.at, event, actor });
        Ok(())
    })?;
    assert_eq!(recovery.records, entries.len() as u64);
    assert_eq!(recovery.next_lsn, Lsn(entries.len() as u64 + 1));
    assert!(entries.iter().enumerate().all(|(index, entry)| entry.lsn == Lsn(index as u64 + 1)));
    Ok((writer, recovery, entries))
}

fn disk_with_segments_of(bytes: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.set_segment_bytes(Some(bytes));
    disk
}

#[test]
fn what_goes_in_comes_out() {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(every_event());
    scribe.commit(vec![Event::JobPut(put(4, &vec![b'x'; 300_000]))]);
    scribe.commit(every_kept());
    scribe.commit(every_rest());
    scribe.commit(every_schedule());
    let asked = every_asked();
    let end = 62 + asked.len() as u64;
    assert!(asked.len() > 30, "{asked:?}");
    scribe.commit_by(asked);
    assert_eq!(scribe.writer.written(), Lsn(end));
    assert_eq!(scribe.writer.durable(), Lsn(0));
    assert_eq!(scribe.writer.sync().unwrap(), Lsn(end));
    let entries = scribe.entries;
    let (writer, recovery, found) = read(disk).unwrap();
    assert_eq!(found, entries);
    assert_eq!(recovery.torn, None);
    assert_eq!(recovery.last_seq, 99 + end);
    assert_eq!(recovery.last_at, Time(5_099 + end));
    assert_eq!(writer.durable(), Lsn(end));
}

#[test]
fn a_log_goes_on_over_segments_and_restarts() {
    let disk = disk_with_segments_of(1_000);
    let mut expected = Vec::new();
    for run in 0..5_u64 {
        let mut scribe = Scribe::open(disk.clone()).unwrap();
        assert_eq!(scribe.entries, expected);
        for index in 0..7 {
            // Some are longer than a segment.
            let body = vec![b'y'; if index == 3 { 3_000 } else { 100 }];
            scribe.commit(vec![Event::JobPut(put(run * 10 + index, &body))]);
        }
        expected = scribe.entries;
        if run % 2 == 0 {
            scribe.writer.close().unwrap();
        }
    }
    let (writer, recovery, found) = read(disk.clone()).unwrap();
    assert_eq!(found, expected);
    assert!(recovery.segments > 5, "{recovery:?}");
    assert_eq!(writer.stats().segments, disk.segments().unwrap().len() as u64);
}

#[test]
fn taking_gives_the_records_once_and_keeps_the_numbers_going() {
    let names = Names::new();
    let mut pending = Pending::new(Lsn(41));
    let mut group = Group::default();
    assert_eq!(pending.last_lsn(), Lsn(40));
    assert!(!pending.take(&mut group));
    assert_eq!(pending.append(1, Time(1), &Event::completed(JobId(1)), &names), Lsn(41));
    assert!(pending.bytes() > 0);
    assert!(pending.take(&mut group));
    assert_eq!((pending.bytes(), pending.is_empty(), pending.last_lsn()), (0, true, Lsn(41)));
    assert_eq!(pending.append(2, Time(1), &Event::completed(JobId(2)), &names), Lsn(42));
    assert_eq!((group.first_lsn, group.records), (Lsn(41), 1));
}

#[test]
fn an_event_that_cannot_be_applied_refuses_the_start_and_names_its_place() {
    let disk = disk_with_segments_of(1 << 20);
    let mut scribe = Scribe::open(disk.clone()).unwrap();
    scribe.commit(every_event());
    drop(scribe);
    let refused =
        open(disk, STORE, &mut |record| if record.lsn == Lsn(5) { Err("no such job".into()) } else { Ok(()) });
    let error = refused.map(|_| ()).unwrap_err();
    let OpenError::Replay { lsn: Lsn(5), offset, .. } = error else { panic!("{error:?}") };
    assert!(offset > 64, "{error}");
}
