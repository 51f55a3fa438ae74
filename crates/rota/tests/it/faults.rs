//! System calls that fail, one after the other: each that the log makes, at each of its first times.
//!
//! strace stands between the real binary and the kernel and lets the n-th such call of a thread fail once; the next one
//! would succeed again, as it does on a real disk whose kernel has forgotten the failure. Every time the same must hold:
//!
//! - a start that it hits is refused in so many words, or does without; one that it hits later ends the server with the
//!   exit code of a failed log;
//! - where an answer waits for the disk, the record of the calls shows none that left after the failure;
//! - the next start has all that was acknowledged, and of what was not at most the one command under way;
//! - a read that fails is never taken for the end of the log: what could not be read is there at the next start.
//!
//! How often is set from outside: `ROTA_FAULT_TIMES=24 cargo test -p rota --test it faults` tries each call's first 24
//! times. `cargo xtask setup` installs strace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::disk::not_run;
use crate::process::{self, DEADLINE, Rota, number, until};
use crate::strace;
use crate::wire::{Answer, Wire, put_bytes};

/// A call that fails.
struct Fault {
    calls: &'static str,
    /// As strace's `inject` has it.
    how: &'static str,
    /// Counts only calls on the data directory and the files in it; the program's own loading makes some of them too.
    by_path: bool,
    /// The mode in which it is tried: it makes the call at work, or in it alone.
    sync: &'static str,
}

const fn fault(calls: &'static str, how: &'static str, by_path: bool, sync: &'static str) -> Fault {
    Fault { calls, how, by_path, sync }
}

const FAULTS: &[Fault] = &[
    fault("fdatasync", "error=EIO", false, "always"),
    fault("fdatasync", "error=ENOSPC", false, "always"),
    fault("fdatasync", "error=EIO", false, "20ms"),
    fault("fdatasync", "error=EIO", false, "never"),
    fault("fsync", "error=EIO", false, "always"),
    fault("pwrite64", "error=EIO", false, "always"),
    fault("pwrite64", "error=EIO", false, "20ms"),
    fault("pwrite64", "error=EIO", false, "never"),
    fault("pwrite64", "error=EDQUOT", false, "always"),
    fault("pwrite64", "error=EFBIG", false, "always"),
    // The kernel takes nothing and doesn't say why.
    fault("pwrite64", "retval=0", false, "always"),
    fault("write", "error=EIO", true, "always"),
    fault("fallocate", "error=EIO", false, "always"),
    fault("fallocate", "error=ENOSPC", false, "always"),
    fault("ftruncate", "error=EIO", false, "always"),
    fault("rename", "error=EIO", false, "always"),
    fault("openat", "error=EIO", true, "always"),
    fault("openat", "error=EMFILE", true, "always"),
    fault("mkdir", "error=EIO", true, "always"),
    fault("flock", "error=EIO", false, "always"),
    fault("getdents64", "error=EIO", true, "always"),
    fault("pread64", "error=EIO", true, "always"),
    // Where bodies are in the log alone.
    fault("preadv2", "error=EIO", false, "always"),
    fault("read", "error=EIO", true, "always"),
    fault("statx,fstat,newfstatat", "error=EIO", true, "always"),
];

/// Each is tried from the first time on, until it comes no more or so often, where nothing else is said.
const TIMES: u64 = 6;

/// Jobs that are there before.
const JOBS: u64 = 20;

/// Jobs behind them that are so far ahead that they leave memory, where there are any.
const FAR_JOBS: u64 = 1_500;

/// Commands that are sent.
const COMMANDS: usize = 24;

/// For how long at least, where syncs come by the clock.
const SPAN: Duration = Duration::from_millis(150);

/// What came of one failed call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It never came so often.
    NotHit,
    /// It was not needed: the server went on, and stopped in good order.
    DidWithout,
    Refused,
    EndedAtWork,
    EndedAtStop,
}

#[test]
fn a_call_that_fails_loses_nothing_that_was_acknowledged() {
    if !strace::is_here() {
        return not_run("system calls that fail", "it takes strace, and a kernel that lets it trace");
    }
    let times = number("ROTA_FAULT_TIMES").unwrap_or(TIMES);
    let templates = [
        Template::new(&[], None),
        Template::new(&[], Some(false)),
        Template::new(&[], Some(true)),
        Template::new(&["--storage", "lazy"], Some(true)),
        Template::new(&["--storage", "mapped", "--near", "1s"], Some(true)),
    ];
    let outcomes: Vec<Vec<Vec<Outcome>>> = thread::scope(|scope| {
        // Most of the time of each is waiting for the tracer.
        let templates = templates.iter();
        let all =
            templates.map(|template| scope.spawn(move || FAULTS.iter().map(|f| hits(template, f, times)).collect()));
        let all: Vec<_> = all.collect();
        all.into_iter().map(|one| one.join().expect("a fault lost something: see above")).collect()
    });
    let mut hits = 0;
    for (place, Fault { calls, how, sync, .. }) in FAULTS.iter().enumerate() {
        let outcomes: Vec<Outcome> = outcomes.iter().flat_map(|of_one| of_one[place].iter().copied()).collect();
        let count = |outcome: Outcome| outcomes.iter().filter(|&&other| other == outcome).count();
        let [without, refused, at_work, at_stop] =
            [Outcome::DidWithout, Outcome::Refused, Outcome::EndedAtWork, Outcome::EndedAtStop].map(count);
        eprintln!(
            "{calls} {how} --sync {sync}: {refused} starts refused, {at_work} servers ended at work, {at_stop} when they \
             stopped, {without} did without"
        );
        let hit = without + refused + at_work + at_stop;
        assert!(hit > 0, "{calls} was never called");
        hits += hit;
    }
    eprintln!("{hits} calls failed");
}

/// How long a sync hangs.
const HANGS: Duration = Duration::from_secs(3);

#[test]
fn while_a_sync_is_overdue_twice_over_nothing_is_answered() {
    if !strace::is_here() {
        return not_run("a sync that hangs", "it takes strace, and a kernel that lets it trace");
    }
    let data = TempDir::new().unwrap();
    // The second one of each thread: what syncs by the clock has begun to.
    let hang = format!("inject=fdatasync:delay_enter={}:when=2", HANGS.as_micros());
    let mut rota = Rota::spawn(strace::injecting(&process::on(data.path(), &["--sync", "50ms"]), &[&hang]));
    assert!(rota.comes_up(), "{}", rota.stderr());
    let mut wire = Wire::to(rota.address());
    let (mut answered, mut longest) = (0, Duration::ZERO);
    let start = Instant::now();
    while longest < HANGS / 2 && start.elapsed() < DEADLINE {
        let sent = Instant::now();
        wire.put("put 0 0 60", b"soon on the disk");
        longest = longest.max(sent.elapsed());
        answered += 1;
    }
    assert!(longest >= HANGS / 2, "{answered} puts were answered while a sync hung, none after more than {longest:?}");
    // It goes on as soon as the disk does.
    wire.put("put 0 0 60", b"soon on the disk");
    assert_eq!(wire.ask("stats").count("current-jobs-ready"), answered + 1);
    assert_eq!(rota.terminate().code(), Some(0), "{}", rota.stderr());
}

#[test]
fn what_is_on_the_disk_is_answered_though_each_sync_is_overdue_twice_over() {
    if !strace::is_here() {
        return not_run("syncs that are slow", "it takes strace, and a kernel that lets it trace");
    }
    let data = TempDir::new().unwrap();
    let slow = "inject=fdatasync:delay_exit=300000";
    let mut rota = Rota::spawn(strace::injecting(&process::on(data.path(), &["--sync", "50ms"]), &[slow]));
    assert!(rota.comes_up(), "{}", rota.stderr());
    // Somebody puts on and on, and waits for no answer: something is written during each sync.
    let (address, is_over) = (rota.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut wire = Wire::to(address);
            while !is_over.load(Ordering::Relaxed) && wire.send(put_bytes("put 0 0 60", b"on and on")).is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut wire = Wire::to(address);
        let answers: Vec<_> = (0..5).map(|_| wire.try_put("put 0 0 60", b"answered")).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(answers.iter().all(|answer| answer.line.starts_with("INSERTED ")), "{answers:?}");
    });
    assert_eq!(rota.terminate().code(), Some(0), "{}", rota.stderr());
}

/// Every time of one fault, until it comes no more.
fn hits(template: &Template, fault: &Fault, times: u64) -> Vec<Outcome> {
    let outcomes = (1..=times).map(|time| hit(template, fault, time));
    let mut hits = Vec::new();
    for outcome in outcomes {
        if outcome == Outcome::NotHit {
            break;
        }
        hits.push(outcome);
    }
    hits
}

/// A data directory to begin with.
struct Template {
    folder: TempDir,
    storage: &'static [&'static str],
    far_jobs: u64,
}

impl Template {
    /// One with some jobs, whose server was stopped in good order or killed; none: one that is not there yet.
    fn new(storage: &'static [&'static str], killed: Option<bool>) -> Template {
        let folder = TempDir::new().unwrap();
        let far_jobs = if storage.contains(&"mapped") { FAR_JOBS } else { 0 };
        let template = Template { folder, storage, far_jobs };
        let Some(killed) = killed else { return template };
        let mut rota = Rota::ready(template.on(&template.data(), &[]));
        let mut wire = Wire::to(rota.address());
        for job in 1..=JOBS {
            assert_eq!(wire.put("put 0 0 60", body(job).as_bytes()), job);
        }
        let (first, last) = (JOBS + 1, JOBS + far_jobs);
        wire.send(
            (first..=last)
                .flat_map(|job| put_bytes("put-in 0 3600000 60000", body(job).as_bytes()))
                .collect::<Vec<_>>(),
        )
        .unwrap();
        (first..=last).for_each(|job| assert_eq!(wire.answer().unwrap().line, format!("INSERTED {job}")));
        if far_jobs > 0 {
            let log = template.data().join("log");
            let is_index =
                |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path().extension() == Some("index".as_ref());
            until("jobs left memory", || fs::read_dir(&log).unwrap().any(is_index).then_some(()));
        }
        if killed {
            rota.kill()
        } else {
            assert_eq!(rota.terminate().code(), Some(0))
        }
        template
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A server in its mode, with segments so short that some are begun and reclaimed.
    fn on(&self, data: &Path, more: &[&str]) -> Command {
        process::on(data, &[self.storage, &["--segment-size", "64KiB", "--history", "0"], more].concat())
    }
}

fn body(job: u64) -> String {
    format!("this is job {job}")
}

/// A body of which some fill a segment.
fn another() -> Vec<u8> {
    [&b"another "[..], &[b'x'; 9_000]].concat()
}

/// Lets the call fail at that time, and checks all that must hold.
#[track_caller]
fn hit(template: &Template, fault: &Fault, time: u64) -> Outcome {
    let Fault { calls, how, by_path, sync } = *fault;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let is_new = !template.data().exists();
    if !is_new {
        let mut copy = Command::new("cp");
        copy.args(["-r", "--sparse=always"]).arg(template.data()).arg(&data);
        assert!(copy.status().unwrap().success());
    }
    let record = folder.path().join("record");
    let inject = format!("inject={calls}:{how}:when={time}");
    let trace = format!("trace={calls},sendto,sendmsg,writev");
    let expressions = [trace.as_str(), inject.as_str()];
    let paths = if by_path { paths(&data) } else { Vec::new() };
    let what = format!("{calls} {how}, the {time}. time, --sync {sync}, {:?}, new: {is_new}", template.storage);

    let mut rota = Rota::spawn(strace::traced(&template.on(&data, &["--sync", sync]), &record, &expressions, &paths));
    let before = if is_new { 0 } else { JOBS };
    let far_jobs = if is_new { 0 } else { template.far_jobs };
    let mut known = Known { there: (1..=before).collect(), before, far_jobs, gone: BTreeSet::new(), doubtful: None };
    let came_up = rota.comes_up();
    let lost = came_up && work(&rota, &mut known, sync != "always");
    let status = if came_up && !lost { rota.terminate() } else { rota.wait() };
    let record = fs::read_to_string(&record).unwrap();
    let was_hit = record.contains("(INJECTED)");
    let err = rota.stderr();
    let outcome = match (status.code(), came_up, lost) {
        (Some(0), true, false) if !was_hit => Outcome::NotHit,
        (Some(0), true, false) => Outcome::DidWithout,
        (Some(1), false, _) => Outcome::Refused,
        (Some(4), true, true) => Outcome::EndedAtWork,
        (Some(4), true, false) => Outcome::EndedAtStop,
        (Some(4), false, _) => Outcome::Refused,
        _ => panic!("{what}: {status}, came up: {came_up}, cut off: {lost}: {err}"),
    };
    if matches!(outcome, Outcome::Refused | Outcome::EndedAtWork | Outcome::EndedAtStop) {
        assert!(err.contains("error: ") && err.contains("cause: "), "{what}: {err}");
    }
    // Each thread has its own first time: what a start did without may end a server at work.
    let newest_first = record.lines().rev().take_while(|line| !line.contains("(INJECTED)"));
    let answers: Vec<&str> = newest_first.filter(|line| is_answer(line)).collect();
    // What fails while the server stops may be seen by nobody.
    assert!(
        outcome != Outcome::DidWithout || may_do_without(calls, how) || answers.is_empty(),
        "{what}: it went on: {err}\n{}\nanswered after it: {answers:?}",
        injected(&record)
    );
    if sync == "always" && !by_path {
        // What fails beside the log's own writes and syncs says nothing of the answers that leave until that is known; nor
        // does what is written again of segments that are reclaimed, of the one answer that may be leaving.
        let is_beside = err.contains("the log in ");
        let most = usize::from(!template.storage.is_empty());
        // It may leave in two pieces, with that of what was sent with it behind the body between them.
        let first =
            answers.iter().filter(|line| ["INSERTED", "DELETED"].iter().any(|word| line.contains(word))).count();
        let behind = answers.iter().filter(|line| line.contains("USING")).count();
        assert!(
            first.max(behind) <= most || is_beside || matches!(outcome, Outcome::NotHit | Outcome::DidWithout),
            "{what}: {outcome:?}, answered after it: {answers:?}\n{err}"
        );
    }
    known.check(&data, &what);
    outcome
}

/// Whether a server may go on after such a failure: where the disk is full, or something else was short, and where only a
/// file was not found or not looked at that is not needed. What was not written or synced is never passed over.
fn may_do_without(calls: &str, how: &str) -> bool {
    let is_short = ["ENOSPC", "EDQUOT", "EMFILE"].iter().any(|error| how.contains(error));
    is_short || ["getdents64", "pread64", "read", "preadv2", "statx,fstat,newfstatat"].contains(&calls)
}

/// The lines of the record about calls that failed.
fn injected(record: &str) -> String {
    record.lines().filter(|line| line.contains("(INJECTED)")).collect::<Vec<_>>().join("\n")
}

/// Whether a line of the record is an answer on its way to the client.
fn is_answer(line: &str) -> bool {
    let call = ["sendto(", "sendmsg(", "writev("].iter().any(|call| line.contains(call));
    call && ["INSERTED", "DELETED", "USING"].iter().any(|word| line.contains(word))
}

/// The data directory and what can be in it.
fn paths(data: &Path) -> Vec<PathBuf> {
    let names = ["", "lock", "store", "store.new", "log", "log/spare.new", "log/spare-1", "log/beside.new"];
    let kinds = ["seg", "index", "open"];
    let segments = kinds.iter().flat_map(|kind| (1..=8).map(move |number| format!("log/{number:020}.{kind}")));
    let paths = names.iter().map(|name| data.join(name)).chain(segments.map(|name| data.join(name)));
    // Without the slash that joining nothing leaves.
    paths.map(|path| path.components().collect()).collect()
}

/// What a client knows.
struct Known {
    there: BTreeSet<u64>,
    /// How many there were at first, and behind them so many far ahead.
    before: u64,
    far_jobs: u64,
    gone: BTreeSet<u64>,
    /// The one whose delete was not answered.
    doubtful: Option<u64>,
}

/// Puts and deletes, one command at a time; true if the server went away.
fn work(rota: &Rota, known: &mut Known, by_the_clock: bool) -> bool {
    let Ok(mut wire) = Wire::connect(rota.address()) else { return true };
    let start = Instant::now();
    let mut commands = 0;
    while commands < COMMANDS || by_the_clock && start.elapsed() < SPAN {
        commands += 1;
        let (bytes, delete) = match known.there.first().copied().filter(|_| commands % 4 == 0) {
            Some(id) => (format!("delete {id}\r\n").into_bytes(), Some(id)),
            None => (put_bytes("put 0 0 60", &another()), None),
        };
        if let Some(id) = delete {
            known.there.remove(&id);
            known.doubtful = Some(id);
        }
        // What is sent behind a command that fails is not answered either. Some of it reads.
        let seen = match known.far_jobs {
            0 => known.there.first().copied().unwrap_or(1),
            _ => JOBS + known.far_jobs - commands as u64 % 1_000,
        };
        let probed = [&bytes[..], format!("peek {seen}\r\nlist-tube-used\r\n").as_bytes()].concat();
        let Ok(answer) = wire.send(probed).and_then(|()| wire.answer()) else { return true };
        match (delete, known.doubtful.take()) {
            (Some(id), _) => {
                assert_eq!(answer.line, "DELETED");
                known.gone.insert(id);
            }
            // No room could be set aside: refused, and as if never sent.
            (None, _) if answer.line == "OUT_OF_MEMORY" => {}
            (None, _) => {
                assert!(answer.line.starts_with("INSERTED "), "{answer:?}");
                known.there.insert(answer.number(1));
            }
        }
        let Ok(answer) = wire.answer() else { return true };
        assert!(
            answer.body == known.body(seen) || answer.line == "NOT_FOUND" && known.gone.contains(&seen),
            "{answer:?}"
        );
        let Ok(answer) = wire.answer() else { return true };
        assert_eq!(answer.line, "USING default");
    }
    false
}

impl Known {
    /// The body of a job that is there.
    fn body(&self, id: u64) -> Vec<u8> {
        // On a new directory all are of the load.
        if id <= self.before + self.far_jobs { body(id).into_bytes() } else { another() }
    }

    /// All of it must be there at a clean start, and not much more.
    fn check(&self, data: &Path, what: &str) {
        let rota = Rota::ready(process::on(data, &[]));
        let mut wire = Wire::to(rota.address());
        let mut peek = |id: u64| -> Answer { wire.ask(&format!("peek {id}")) };
        for &id in &self.there {
            let answer = peek(id);
            assert!(answer.body == self.body(id), "{what}: job {id}: {}", answer.line);
        }
        for &id in &self.gone {
            assert_eq!(peek(id).line, "NOT_FOUND", "{what}: job {id}");
        }
        let stats = wire.ask("stats");
        assert_eq!(stats.count("current-jobs-delayed"), self.far_jobs, "{what}");
        let jobs = stats.count("current-jobs-ready");
        let there = self.there.len() as u64;
        assert!((there..=there + 1).contains(&jobs), "{what}: {jobs} jobs, {there} acknowledged");
        let newest = self.there.iter().chain(&self.gone).max().copied().unwrap_or(0);
        let id = wire.put("put 0 0 60", b"after");
        assert!(id > newest, "{what}: {id} was issued after {newest}");
    }
}
