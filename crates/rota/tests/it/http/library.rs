//! The client library's HTTP half against the real server: every field there and back, leases, filters, queues, schedules,
//! events that go on after a restart, and refusals as what they are.

mod stream;

use std::time::Duration;

use rota_client::http::{
    BackOff, Client, Error, JobState, Lease, List, Listen, Many, NewJob, NewSchedule, OnConflict, OnOverlap,
    OnParentFailure, Parent, Pause, PerKey, ProblemKind, Rate, Reason, Reserve, Settings, Source, SyncMode, Ticks,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{server, start};
use crate::process::Rota;
use crate::server::free_address;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Email {
    to: String,
}

fn client(rota: &Rota) -> Client {
    Client::connect(&rota.http().to_string()).unwrap()
}

fn reserve(client: &Client, queue: &str) -> Lease {
    client.reserve(&Reserve::of(queue)).unwrap().pop().expect("a job is ready")
}

fn hour() -> Duration {
    Duration::from_secs(3600)
}

#[test]
fn a_job_comes_back_with_all_that_was_agreed() {
    let (_data, rota, _) = server(&[]);
    let client = client(&rota);
    let parent = client.put(&NewJob::text("parents", "x").key("a/b"), None).unwrap();
    assert!(parent.is_new && !parent.is_replayed);
    let back_off = BackOff { factor: 1.5, ..BackOff::first(Duration::from_millis(2500)) };
    let expires_at: Timestamp = "2100-01-01T00:00:00.25Z".parse().unwrap();
    let job = NewJob::value("mail", &Email { to: "ann".into() })
        .unwrap()
        .priority(7)
        .delay(Duration::from_millis(1))
        .ttr(Duration::from_millis(90_500))
        .key("k")
        .max_attempts(3)
        .max_lost_leases(4)
        .back_off(back_off)
        .kind("welcome")
        .limit_key("customer")
        .header("trace", "00-1")
        .header("lang", "en")
        .after([Parent::Id(parent.id), Parent::key("parents", "a/b")])
        .on_parent_failure(OnParentFailure::Hold)
        .expires_at(expires_at);
    let put = client.put(&job, None).unwrap();
    let found = client.job(put.id).unwrap().unwrap();
    assert_eq!(found.value::<Email>().unwrap(), Email { to: "ann".into() });
    assert_eq!(found.body(), Some(&b"{\"to\":\"ann\"}"[..]));
    assert_eq!((found.state, found.priority, found.ttr), (JobState::Blocked, 7, Duration::from_millis(90_500)));
    assert_eq!((found.delay, found.max_attempts, found.max_lost_leases), (Duration::from_millis(1), 3, 4));
    let kept = found.back_off.unwrap();
    assert_eq!((kept.first, kept.factor, kept.most), (back_off.first, 1.5, Some(hour())));
    assert_eq!((found.key.as_deref(), found.kind.as_deref()), (Some("k"), Some("welcome")));
    assert_eq!((found.limit_key.as_deref(), found.headers["lang"].as_str()), (Some("customer"), "en"));
    assert_eq!((&found.after[..], &found.waits_for[..]), (&[parent.id][..], &[parent.id][..]));
    assert_eq!((found.on_parent_failure, found.expires_at), (Some(OnParentFailure::Hold), Some(expires_at)));
    assert_eq!(client.job_by_key("parents", "a/b").unwrap().unwrap().id, parent.id);
    assert!(client.job_by_key("parents", "none").unwrap().is_none());
    assert!(client.job(99).unwrap().is_none());

    let why = client.why(put.id).unwrap().unwrap();
    match &why.reasons[0].reason {
        Reason::WaitsFor { jobs } => assert_eq!((jobs[0].id, jobs[0].state), (parent.id, Some(JobState::Ready))),
        other => panic!("{other:?}"),
    }
    assert!(client.why(99).unwrap().is_none());
    assert!(client.kick(put.id).unwrap().unwrap().waits_for.is_empty());
    assert!(client.cancel(parent.id).unwrap() && !client.cancel(parent.id).unwrap());
    assert_eq!(client.cancel_key("mail", "k").unwrap(), Some(put.id));
    assert_eq!(client.cancel_key("mail", "k").unwrap(), None);
    let moment = client.put(&NewJob::text("mail", "x").run_at(expires_at).expires_in(hour() * 1_000_000), None);
    assert_eq!(moment.unwrap().job.unwrap().run_at, expires_at);

    let bytes: Vec<u8> = (0..=255).collect();
    client.put(&NewJob::bytes("bytes", bytes.clone()), None).unwrap();
    assert_eq!(reserve(&client, "bytes").job().body(), Some(&bytes[..]));
}

#[test]
fn a_key_is_kept_replaced_or_refused_and_a_put_repeated() {
    let (_data, rota, _) = server(&[]);
    let client = client(&rota);
    let job = |text: &str| NewJob::text("mail", text).key("k");
    let first = client.put(&job("a"), Some("once")).unwrap();
    let again = client.put(&job("a"), Some("once")).unwrap();
    assert_eq!((again.id, again.is_new, again.is_replayed), (first.id, true, true));
    let error = client.put(&job("b"), Some("once")).unwrap_err();
    assert!(error.is(ProblemKind::IdempotencyKeyReused), "{error:?}");
    let problem = client.put(&job("b"), None).unwrap_err();
    let problem = problem.problem().unwrap();
    assert_eq!((problem.kind, problem.status, problem.job), (ProblemKind::KeyTaken, 409, Some(first.id)));
    let kept = client.put(&job("b").on_conflict(OnConflict::Keep), None).unwrap();
    assert_eq!((kept.id, kept.is_new), (first.id, false));
    let replaced = client.put(&job("b").on_conflict(OnConflict::Replace), None).unwrap();
    assert_eq!((replaced.id, replaced.is_new), (first.id, false));
    assert_eq!(client.job(first.id).unwrap().unwrap().body(), Some(&b"b"[..]));
    let outcomes = client.put_many(&[job("c"), NewJob::text("mail", "d")], None).unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind, ProblemKind::KeyTaken);
    assert!(outcomes[1].as_ref().unwrap().is_new);
    assert!(client.cancel(first.id).unwrap());
    let gone = client.put(&job("a"), Some("once")).unwrap();
    assert_eq!((gone.id, gone.is_replayed, gone.job), (first.id, true, None));

    let error = client.put(&NewJob::text("mail", "x").ttr(Duration::ZERO), None).unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!((problem.kind, problem.pointer.as_deref()), (ProblemKind::BadValue, Some("#/ttr")));
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
}

#[test]
fn a_lease_says_what_became_of_its_job() {
    let (_data, rota, _) = server(&[]);
    let client = client(&rota);
    let mut settings = Settings::default();
    settings.retain = Some(hour());
    client.set_queue("mail", &settings).unwrap();
    let put = |queue: &str| client.put(&NewJob::text(queue, "x").max_attempts(2), None).unwrap().id;
    let (first, other) = (put("mail"), put("news"));
    let leases = client.reserve(&Reserve::from(["mail", "news"]).count(10).wait(hour() / 60)).unwrap();
    let ids: Vec<u64> = leases.iter().map(|lease| lease.job().id).collect();
    assert_eq!(ids, [first, other]);
    assert!(client.reserve(&Reserve::of("mail").wait(Duration::from_millis(1))).unwrap().is_empty());
    let [mut lease, news] = <[Lease; 2]>::try_from(leases).unwrap();
    assert!(lease.progress(&json!({ "half": true })).unwrap() && lease.touch().unwrap());
    assert!(client.touch(lease.token()).unwrap().is_some());
    assert_eq!(client.job(first).unwrap().unwrap().progress, Some(json!({ "half": true })));
    assert!(lease.complete_with(&json!({ "sent": 3 })).unwrap());
    assert!(!lease.complete().unwrap() && !lease.touch().unwrap());
    let done = client.job(first).unwrap().unwrap();
    assert_eq!((done.state, done.result), (JobState::Done, Some(json!({ "sent": 3 }))));

    let failed = news.fail("no route", Some(Duration::from_millis(1))).unwrap().unwrap();
    assert_eq!((failed.attempts, failed.error), (1, Some(json!("no route"))));
    assert!(news.fail("again", None).unwrap().is_none());
    let wait = Reserve::of("news").wait(hour() / 60);
    let again = client.reserve(&wait).unwrap().pop().unwrap();
    assert_eq!(again.fail("no route", None).unwrap().unwrap().state, JobState::Buried);
    assert_eq!(client.kick_queue("news", None, Some(Source::Buried)).unwrap().unwrap().kicked, 1);
    assert!(client.kick_queue("none", None, None).unwrap().is_none());
    let released = reserve(&client, "news").release(Some(9), Some(hour())).unwrap().unwrap();
    assert_eq!((released.state, released.priority, released.releases), (JobState::Delayed, 9, 1));
    client.kick(other).unwrap();
    let buried = reserve(&client, "news").bury(Some(3)).unwrap().unwrap();
    assert_eq!((buried.state, buried.priority), (JobState::Buried, 3));
}

#[test]
fn jobs_of_a_filter_are_listed_and_dealt_with() {
    let (_data, rota, _) = server(&[]);
    let client = client(&rota);
    let jobs: Vec<NewJob> = (0..5).map(|n| NewJob::text("mail", "x").priority(n).delay(hour())).collect();
    assert_eq!(client.put_many(&jobs, None).unwrap().len(), 5);
    let page = client.list(&List { limit: 2, ..List::of("queue:mail state:delayed") }).unwrap();
    assert_eq!((page.jobs.len(), page.cursor.is_some(), page.not_in_memory), (2, true, 0));
    let next = List { cursor: page.cursor, limit: 2, ..List::of("queue:mail state:delayed") };
    assert_eq!(client.list(&next).unwrap().jobs.len(), 2);
    assert_eq!(client.jobs("priority>0").collect::<Result<Vec<_>, _>>().unwrap().len(), 4);
    let error = client.list(&List::of("stat:x")).unwrap_err();
    assert_eq!(error.problem().map(|problem| (problem.kind, problem.column)), Some((ProblemKind::BadFilter, Some(1))));

    let most = Many::of("queue:mail priority<3");
    let counted = client.kick_many(&most.clone().dry_run(true)).unwrap();
    assert_eq!((counted.dry_run, counted.would_do, counted.done, counted.first.len()), (true, 3, 0, 3));
    assert_eq!(client.kick_many(&most.clone().limit(Some(2))).unwrap().done, 2);
    // None of them is buried.
    let retried = client.retry_many(&most).unwrap();
    assert_eq!((retried.matched, retried.done), (0, 0));
    assert_eq!(client.cancel_many(&Many::all()).unwrap().done, 5);
    assert_eq!(client.stats().unwrap().jobs.ready, 0);
}

#[test]
fn one_queue_too_many_is_told_as_that() {
    let (_data, rota, _) = server(&["--max-queues", "2"]);
    let client = client(&rota);
    let refused = (0..3).find_map(|n| client.put(&NewJob::text(format!("q{n}"), "x"), None).err()).unwrap();
    assert!(refused.is(ProblemKind::TooManyQueues) && ProblemKind::TooManyQueues.may_pass(), "{refused:?}");
}

#[test]
fn queues_are_set_up_and_paused() {
    let (_data, rota, _) = server(&[]);
    let client = client(&rota);
    assert!(client.queue("mail").unwrap().is_none());
    let mut settings = Settings::default();
    settings.retain = Some(hour());
    (settings.max_jobs, settings.max_bytes, settings.concurrency) = (Some(1), Some(1 << 40), Some(3));
    settings.rate = Some(Rate { count: 10, per: Duration::from_millis(1500) });
    let mut per_key = PerKey::default();
    (per_key.concurrency, per_key.rate) = (Some(2), settings.rate);
    settings.per_key = Some(per_key);
    (settings.durable_leases, settings.sync) = (true, Some(SyncMode::Always));
    assert_eq!(client.set_queue("mail", &settings).unwrap(), settings);
    client.put(&NewJob::text("mail", "x"), None).unwrap();
    let error = client.put(&NewJob::text("mail", "x"), None).unwrap_err();
    assert!(error.is(ProblemKind::QueueFull) && ProblemKind::QueueFull.may_pass(), "{error:?}");
    let paused = client.pause_queue("mail", hour()).unwrap().unwrap();
    assert!(paused.paused_until.is_some() && paused.totals.pauses == 1);
    assert!(client.reserve(&Reserve::of("mail")).unwrap().is_empty());
    assert_eq!(client.resume_queue("mail").unwrap().unwrap().paused_until, None);
    assert!(reserve(&client, "mail").complete().unwrap());
    let queues = client.queues(None).unwrap();
    let mail = queues.queues.iter().find(|queue| queue.name == "mail").unwrap();
    assert_eq!((mail.totals.put, mail.totals.ended, mail.ended), (1, 1, 1));
    assert_eq!(mail.run_time.map(|times| times.count), Some(1));
    assert!(client.resume_queue("none").unwrap().is_none());
    // One that is not there yet comes to be.
    let soon = client.pause_queue("soon", hour()).unwrap().unwrap();
    assert!(soon.paused && soon.paused_until.is_some());
    assert_eq!(soon.refused_puts.queue_full, 0);
    let for_good = client.pause_queue("soon", Pause::UntilResumed).unwrap().unwrap();
    assert_eq!((for_good.paused, for_good.paused_until), (true, None));
    let job = client.put(&NewJob::text("soon", "x"), None).unwrap().id;
    let why = client.why(job).unwrap().unwrap();
    assert_eq!(why.reasons[0].reason, Reason::Paused { until: None });
    let moment: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
    let until = client.pause_queue("soon", moment).unwrap().unwrap().paused_until.unwrap();
    assert!(until.duration_since(moment).unsigned_abs() < hour(), "{until}");
    assert_eq!(client.queue("mail").unwrap().unwrap().refused_puts.queue_full, 1);
    assert_eq!(client.stats().unwrap().refused_puts.queue_full, 1);
}

#[test]
fn schedules_put_jobs() {
    let (_data, rota, _) = server(&[]);
    let client = client(&rota);
    let job = NewJob::text("chores", "sweep").max_attempts(2).kind("k").expires_in(hour());
    let new = NewSchedule::every(hour(), job.clone()).on_overlap(OnOverlap::Skip);
    let set = client.set_schedule("sweep", &new).unwrap();
    assert_eq!((set.every, set.on_overlap, set.next.len()), (Some(hour()), OnOverlap::Skip, 5));
    assert_eq!((set.job.queue.as_str(), set.job.max_attempts, set.job.expires_in), ("chores", 2, Some(hour())));
    let ticks = Ticks::Cron { cron: "30 4 * * 1-5".into(), zone: Some("Europe/Berlin".into()) };
    client.set_schedule("a/b", &NewSchedule::at(ticks, job.clone())).unwrap();
    let names: Vec<String> = client.schedules(None).unwrap().schedules.into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["a/b", "sweep"]);
    let run = client.run_schedule("sweep").unwrap().unwrap();
    assert_eq!((run.schedule.as_deref(), run.kind.as_deref()), (Some("sweep"), Some("k")));
    assert!(client.pause_schedule("sweep").unwrap().unwrap().paused);
    assert!(!client.resume_schedule("sweep").unwrap().unwrap().paused);
    assert_eq!(client.schedule("sweep").unwrap().unwrap().last.unwrap().outcome, "run");
    assert!(client.delete_schedule("sweep").unwrap().is_some() && client.schedule("sweep").unwrap().is_none());
    let error = client.set_schedule("x", &NewSchedule::cron("61 * * * *", job)).unwrap_err();
    assert!(error.is(ProblemKind::BadValue), "{error:?}");
}

#[test]
fn events_go_on_after_a_restart() {
    let data = tempfile::TempDir::new().unwrap();
    // A server that comes back comes back at the same place.
    let address = free_address().to_string();
    let rota = start(&data, &["--http", &address]);
    let client = Client::connect(&address).unwrap();
    let listen = Listen { kinds: vec!["job.*".into()], try_again_for: Duration::from_secs(600), ..Listen::default() };
    let mut events = client.events(listen).unwrap();
    let first = client.put(&NewJob::text("mail", "x"), None).unwrap().id;
    let event = events.next().unwrap().unwrap();
    assert_eq!((event.kind.as_str(), event.job, event.queue.as_deref()), ("job.put", Some(first), Some("mail")));
    assert_eq!(serde_json::from_str::<Value>(&event.json).unwrap()["priority"], 1024);
    drop(rota);
    let _rota = start(&data, &["--http", &address]);
    let second = client.put(&NewJob::text("mail", "x"), None).unwrap().id;
    let put = events.by_ref().map(Result::unwrap).find(|event| event.kind == "job.put").unwrap();
    assert_eq!(put.job, Some(second), "the first is not told twice");
    assert_eq!(events.seen(), Some(put.seq));

    let past = Listen { jobs: vec![first], only_past: true, ..Listen::default() };
    let kinds: Vec<String> = client.events(past).unwrap().map(|event| event.unwrap().kind).collect();
    assert!(kinds.contains(&"job.put".into()), "{kinds:?}");
}

#[test]
fn who_is_not_there_or_may_not_is_told_so() {
    let nobody = Client::connect(&free_address().to_string()).unwrap();
    let error = nobody.put(&NewJob::text("mail", "x"), None).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    let (_data, rota, _) = server(&["--auth"]);
    let error = client(&rota).stats().unwrap_err();
    assert!(error.is(ProblemKind::NoToken), "{error:?}");
    let address = rota.http().to_string();
    let error = Client::builder().token("rota_none").connect(&address).unwrap().stats().unwrap_err();
    assert!(error.is(ProblemKind::BadToken), "{error:?}");
    assert_eq!(error.problem().unwrap().status, 401);
}
