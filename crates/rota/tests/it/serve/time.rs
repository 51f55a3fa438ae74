//! Delays, leases and pauses, with the clock of the machine: never early, in order, and over restarts.
//!
//! Where something has to be done before a span is over, it is tried with longer ones, until this machine is quick enough.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rota_engine::clock::{Clock, SystemClock};
use rota_engine::command::{Command, Due, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{Priority, Time};
use rota_engine::log::Group;
use rota_engine::storage::DataDirectory;
use tempfile::TempDir;

use crate::process::{Rota, on, until, with_time};
use crate::wire::{Wire, put_bytes};

#[test]
fn delayed_jobs_come_in_the_order_of_their_times_after_a_restart() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &["--spoke", "100ms"]));
    let mut wire = Wire::to(rota.address());
    let delays_ms = [900, 300, 1200, 600, 450, 301, 1050, 750];
    // Each is due in between of two moments: a put takes time.
    let mut due = BTreeMap::new();
    for delay in delays_ms {
        let sent = Instant::now();
        let id = wire.put(&format!("put-in 5 {delay} 60000"), b"x");
        due.insert(id, [sent, Instant::now()].map(|moment| moment + Duration::from_millis(delay)));
    }
    rota.kill();
    // Some are due while nothing runs: those come at once, and like all others by their time.
    let first = due.values().map(|[_, not_behind]| *not_behind).min().unwrap();
    sleep((first + Duration::from_millis(50)).saturating_duration_since(Instant::now()));
    let rota = Rota::ready(on(data.path(), &["--spoke", "100ms"]));
    let mut wire = Wire::to(rota.address());
    let mut last = None;
    for _ in delays_ms {
        let id = wire.ask("reserve").number(1);
        let [not_before, not_behind] = due.remove(&id).expect("each comes once");
        assert!(Instant::now() >= not_before, "{id} came before its time");
        assert!(last.is_none_or(|last| not_behind >= last), "{id} came behind others that are due later");
        last = last.max(Some(not_before));
    }
}

#[test]
fn leases_are_void_after_a_restart() {
    for kill in [true, false] {
        let data = TempDir::new().unwrap();
        let mut rota = Rota::ready(on(data.path(), &[]));
        let mut wire = Wire::to(rota.address());
        let id = wire.put("put 7 0 3600", b"held");
        assert_eq!(wire.ask("reserve").number(1), id);
        if kill {
            rota.kill();
        } else {
            rota.terminate();
        }
        let rota = Rota::ready(on(data.path(), &[]));
        let mut wire = Wire::to(rota.address());
        let stats = wire.ask(&format!("stats-job {id}"));
        assert_eq!((stats.field("state").as_str(), stats.count("pri")), ("ready", 7));
        assert_eq!(wire.ask("reserve-with-timeout 0").body, b"held");
        wire.expect(&format!("delete {id}"), "DELETED");
    }
}

#[test]
fn a_silent_holder_loses_its_job() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &[]));
    let (mut silent, mut next) = (Wire::to(rota.address()), Wire::to(rota.address()));
    // Many at once, and many times: real beanstalkd forgets some of them.
    let jobs = 200;
    for _ in 0..jobs {
        silent.put("put-in 0 0 150", b"x");
    }
    for _ in 0..jobs {
        assert!(silent.ask("reserve").line.starts_with("RESERVED "));
    }
    let (mut ids, mut late) = (Vec::new(), 0);
    while ids.len() < 200 {
        let id = next.ask("reserve").number(1);
        match next.ask(&format!("delete {id}")).line.as_str() {
            "DELETED" => ids.push(id),
            // Who is too slow for a lease as short loses it like the silent one.
            "NOT_FOUND" => late += 1,
            other => panic!("{other}"),
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=jobs).collect::<Vec<u64>>());
    assert_eq!(next.ask("stats").count("job-timeouts"), jobs + late);
    silent.expect("delete 1", "NOT_FOUND");
}

#[test]
fn a_server_that_was_frozen_past_a_lease_gives_the_job_once() {
    with_time(Duration::from_millis(400), |ttr| {
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(on(data.path(), &[]));
        let [mut holder, mut next, mut other] = std::array::from_fn(|_| Wire::to(rota.address()));
        let id = holder.put(&format!("put-in 0 0 {}", ttr.as_millis()), b"x");
        let begin = Instant::now();
        holder.put(&format!("put-in 9 {} 60000", ttr.as_millis() + 100), b"late");
        assert_eq!(holder.ask("reserve").number(1), id);
        next.send("reserve\r\n").unwrap();
        until("the second waits, or the lease is over", || {
            let waits = other.ask("stats").count("current-waiting") == 1;
            (waits || begin.elapsed() >= ttr).then_some(())
        });
        rota.signal("STOP");
        if begin.elapsed() >= ttr {
            return None;
        }
        // Both the lease and the delay end while it is frozen.
        sleep((ttr + Duration::from_millis(300)).saturating_sub(begin.elapsed()));
        let goes_on = Instant::now();
        rota.signal("CONT");
        let answers = [
            next.answer().unwrap().line,
            String::from_utf8(other.ask("reserve").body).unwrap(),
            other.ask("reserve-with-timeout 0").line,
            holder.ask(&format!("delete {id}")).line,
            other.ask("stats").count("job-timeouts").to_string(),
            next.ask(&format!("delete {id}")).line,
        ];
        if goes_on.elapsed() >= ttr {
            return None;
        }
        assert_eq!(answers, [&format!("RESERVED {id} 1"), "late", "TIMED_OUT", "NOT_FOUND", "1", "DELETED"]);
        Some(())
    });
}

#[test]
fn a_server_that_was_frozen_past_many_leases_gives_each_job_to_one() {
    with_time(Duration::from_millis(600), |ttr| {
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(on(data.path(), &[]));
        let (mut holder, mut other) = (Wire::to(rota.address()), Wire::to(rota.address()));
        let jobs = 60;
        let begin = Instant::now();
        for _ in 0..jobs {
            holder.put(&format!("put-in 0 0 {}", ttr.as_millis()), b"x");
            assert!(holder.ask("reserve").line.starts_with("RESERVED "));
        }
        let held = Instant::now();
        let mut waiting: Vec<Wire> = (0..jobs).map(|_| Wire::to(rota.address())).collect();
        for wire in &mut waiting {
            wire.send("reserve\r\n").unwrap();
        }
        until("all wait, or a lease is over", || {
            let wait = other.ask("stats").count("current-waiting") == jobs;
            (wait || begin.elapsed() >= ttr).then_some(())
        });
        rota.signal("STOP");
        if begin.elapsed() >= ttr {
            return None;
        }
        sleep((ttr + Duration::from_millis(400)).saturating_sub(held.elapsed()));
        // Sent while it is frozen, read when the leases are over.
        holder.send((1..=jobs).map(|id| format!("touch {id}\r\n")).collect::<String>()).unwrap();
        let goes_on = Instant::now();
        rota.signal("CONT");
        let mut ids: Vec<u64> = waiting.iter_mut().map(|wire| wire.answer().unwrap().number(1)).collect();
        ids.sort_unstable();
        let touched: Vec<String> = (0..jobs).map(|_| holder.answer().unwrap().line).collect();
        let stats = other.ask("stats");
        if goes_on.elapsed() >= ttr {
            return None;
        }
        assert_eq!(ids, (1..=jobs).collect::<Vec<u64>>(), "a job was given twice");
        assert!(touched.iter().all(|line| line == "NOT_FOUND"), "a lease outlived its time: {touched:?}");
        assert_eq!((stats.count("job-timeouts"), stats.count("current-jobs-reserved")), (jobs, jobs));
        Some(())
    });
}

#[test]
fn a_wall_clock_that_was_set_while_nothing_ran_makes_no_delay_longer() {
    let hour = Duration::from_hours(1);
    for back in [true, false] {
        let data = TempDir::new().unwrap();
        // A server whose clock was an hour ahead, or behind, wrote this.
        let wall = SystemClock.wall();
        let wall = if back { wall.after(hour) } else { Time(wall.0 - hour.as_nanos() as u64) };
        let storage = DataDirectory::open(data.path()).unwrap();
        let (mut engine, mut log, _) = Engine::recover(Options::default(), storage, [7; 16], wall).unwrap();
        let session = engine.open_session().unwrap();
        let job = NewJob { due: Due::In(Duration::from_millis(1_500)), ..NewJob::new(Target::Used, (*b"x").into()) };
        engine.execute(session, Command::Put(job), wall).unwrap();
        let mut group = Group::default();
        while engine.take_records(&mut group) {
            log.write(&mut group).unwrap();
        }
        log.close().unwrap();

        let start = Instant::now();
        let rota = Rota::ready(on(data.path(), &[]));
        assert_eq!(Wire::to(rota.address()).ask("reserve").line, "RESERVED 1 1");
        let waited = start.elapsed();
        if back {
            assert!(waited >= Duration::from_millis(1_500), "it came after {waited:?}");
        }
        assert!(waited < hour, "it came after {waited:?}");
    }
}

#[test]
fn what_was_asked_for_by_the_wall_clock_goes_by_it_after_that_was_set() {
    let hour = Duration::from_hours(1);
    let data = TempDir::new().unwrap();
    // A server whose clock was an hour ahead wrote this.
    let wall = SystemClock.wall().after(hour);
    let storage = DataDirectory::open(data.path()).unwrap();
    let (mut engine, mut log, _) = Engine::recover(Options::default(), storage, [7; 16], wall).unwrap();
    let session = engine.open_session().unwrap();
    let soon = Duration::from_millis(700);
    let (by_clock, span) = (Due::At(wall.after(soon)), Due::In(soon));
    let now = Due::In(Duration::ZERO);
    for (due, expires) in [(by_clock, None), (now, Some(by_clock)), (span, None), (now, Some(span))] {
        let job = NewJob { due, expires, priority: Priority(9), ..NewJob::new(Target::Used, (*b"x").into()) };
        engine.execute(session, Command::Put(job), wall).unwrap();
    }
    let last = NewJob { due: Due::In(2 * soon), ..NewJob::new(Target::Used, (*b"last").into()) };
    engine.execute(session, Command::Put(last), wall).unwrap();
    let mut group = Group::default();
    while engine.take_records(&mut group) {
        log.write(&mut group).unwrap();
    }
    log.close().unwrap();

    let rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    // By then all of it would be over by the clock as it was.
    until("the last one is due", || (wire.ask("stats-job 5").field("state") == "ready").then_some(()));
    let state = |wire: &mut Wire, id: u64| wire.ask(&format!("stats-job {id}")).field("state");
    assert_eq!([1, 2, 3].map(|id| state(&mut wire, id)), ["delayed", "ready", "ready"]);
    wire.expect("stats-job 4", "NOT_FOUND");
}

#[test]
fn a_pause_holds_over_a_restart_and_wakes_who_waits() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    let id = wire.put("put 0 0 60", b"x");
    let paused = Instant::now();
    wire.expect("pause-tube default 1", "PAUSED");
    rota.kill();
    let rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    assert_eq!(wire.ask("reserve").number(1), id);
    assert!(paused.elapsed() >= Duration::from_secs(1), "it was handed out of a paused tube");
}

#[test]
fn a_start_that_takes_long_makes_no_time_shorter() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &["--sync", "never"]));
    let mut wire = Wire::to(rota.address());
    // Something to recover, so that the next start can be caught in it.
    for _ in 0..20 {
        wire.send(put_bytes("put 9 0 60", b"x").repeat(1_000)).unwrap();
        for _ in 0..1_000 {
            assert!(wire.answer().unwrap().line.starts_with("INSERTED "));
        }
    }
    rota.terminate();
    let mut rota = Rota::spawn(on(data.path(), &[]));
    rota.line(0, |line| line.contains("data in"));
    rota.signal("STOP");
    sleep(Duration::from_millis(500));
    rota.signal("CONT");
    let mut wire = Wire::to(rota.address());
    let put_at = Instant::now();
    let id = wire.put("put-in 0 900 60000", b"x");
    rota.kill();
    let rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    // The one job of its priority: it comes first as soon as it is due.
    until("it is due", || (wire.ask(&format!("stats-job {id}")).field("state") == "ready").then_some(()));
    assert!(put_at.elapsed() >= Duration::from_millis(900), "after {:?}", put_at.elapsed());
}
