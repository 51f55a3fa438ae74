//! The walk through every method of the crate `beanstalkc`, run by the test of that name.
//!
//! `beanstalkc` has no reserve-job, and no time-out for an answer: the test that runs the walk has one.

mod steps;

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use beanstalkc::{Beanstalkc, BeanstalkcError, BeanstalkcResult};

use steps::{Stats, TooSlow, Walk};

const TUBE: &str = "beanstalkc";
const OTHER: &str = "beanstalkc-other";
const THIRD: &str = "beanstalkc-third";
const AT_ONCE: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(100);
const PATIENCE: Duration = Duration::from_secs(120);

/// Walks through the client against the server, giving a line per step to `print`.
pub(super) fn walk(server: SocketAddr, print: &mut dyn FnMut(String)) {
    let mut walk = Walk::new(print);
    let mut client = connect(server);
    let mut second = connect_to(server, TUBE);

    let stats = client.stats().expect("stats");
    walk.server_stats("stats-at-first", Ok(stats.clone()));
    walk.keys(&stats);
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    walk.text("version-is-a-number", stats["version"].split_once('.').is_some_and(|(a, b)| numeric(a) && numeric(b)));

    names(&mut walk, &mut client);
    bodies(&mut walk, &mut client);
    arguments(&mut walk, &mut client, server);
    life(&mut walk, &mut client, &mut second);
    kicks(&mut walk, &mut client);
    // What comes after this asks until something holds: how often is no matter of the server's.
    walk.server_stats("stats-in-the-middle", client.stats());
    // beanstalkd counts some of the refused ones, so they come after the counters.
    pause_names(&mut walk, &mut client);
    time_outs(&mut walk, &mut client, server);
    second = pauses(&mut walk, &mut client, second);
    second = connections(&mut walk, &mut client, second, server);
    walk.until("the other connections are gone", |_| {
        count(&mut client, TUBE, "current-watching") == 2 && client.tubes().is_ok_and(|tubes| tubes.len() == 2)
    });
    walk.tube_stats("stats-tube-at-last", client.stats_tube(TUBE));
    walk.names("tubes-at-last", client.tubes());
    drop(second);
}

fn connect(server: SocketAddr) -> Beanstalkc {
    let settings = Beanstalkc::new().host(&server.ip().to_string()).port(server.port());
    settings.connection_timeout(Some(PATIENCE)).connect().expect("the server is there")
}

fn connect_to(server: SocketAddr, tube: &str) -> Beanstalkc {
    let mut client = connect(server);
    client.use_tube(tube).expect("use");
    client.watch(tube).expect("watch");
    client.ignore("default").expect("ignore");
    client
}

fn count(client: &mut Beanstalkc, tube: &str, key: &str) -> u64 {
    client.stats_tube(tube).expect("stats-tube")[key].parse().expect("a number")
}

fn drain(walk: &mut Walk<'_>, client: &mut Beanstalkc, name: &str) {
    for index in 1.. {
        let taken = client.reserve_with_timeout(AT_ONCE).map(|job| (job.id(), job.body().to_vec()));
        let id = taken.as_ref().ok().map(|(id, _)| *id);
        walk.taken(&format!("{name}-{index}"), taken);
        let Some(id) = id else { return };
        client.delete(id).expect("delete");
    }
}

fn names(walk: &mut Walk<'_>, client: &mut Beanstalkc) {
    walk.value("using-at-first", client.using());
    walk.names("watching-at-first", client.watching());
    walk.names("tubes-at-first", client.tubes());
    walk.value("use-tube", client.use_tube(TUBE));
    walk.value("using", client.using());
    walk.value("watch", client.watch(TUBE));
    walk.value("watch-twice", client.watch(TUBE));
    walk.value("watch-other", client.watch(OTHER));
    walk.names("watching", client.watching());
    walk.names("tubes", client.tubes());
    walk.value("ignore-other", client.ignore(OTHER));
    walk.value("ignore-unwatched", client.ignore(OTHER));
    walk.value("ignore-default", client.ignore("default"));
    walk.value("ignore-last", client.ignore(TUBE));
    walk.names("watching-after", client.watching());
    walk.names("tubes-after", client.tubes());

    for (label, name) in &odd_names() {
        walk.value(&format!("use-name-{label}"), client.use_tube(name));
        walk.value(&format!("watch-name-{label}"), client.watch(name));
        walk.value(&format!("ignore-name-{label}"), client.ignore(name));
        walk.tube_stats(&format!("stats-tube-name-{label}"), client.stats_tube(name));
    }
    client.use_tube(TUBE).expect("use");
}

/// Names that are odd, at a limit or refused, each with what to call it.
fn odd_names() -> [(&'static str, String); 9] {
    [
        ("200-long", "n".repeat(200)),
        ("201-long", "n".repeat(201)),
        ("empty", String::new()),
        ("dash-first", "-dash".into()),
        ("star", "sta*r".into()),
        ("space", "spa ce".into()),
        ("not-ascii", "tübe".into()),
        ("nul", "nu\0l".into()),
        ("number", "7".into()),
    ]
}

fn pause_names(walk: &mut Walk<'_>, client: &mut Beanstalkc) {
    for (label, name) in &odd_names() {
        // Refused like the pause, where the name is refused.
        client.use_tube(name).ok();
        walk.done(&format!("pause-tube-name-{label}"), client.pause_tube(name, AT_ONCE));
    }
    client.use_tube(TUBE).expect("use");
}

fn bodies(walk: &mut Walk<'_>, client: &mut Beanstalkc) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let limit = every_byte.repeat(256)[..65_535].to_vec();
    for (label, body) in [
        ("text", b"hello".as_slice()),
        ("empty", b""),
        ("every-byte", &every_byte),
        ("line-ends", b"\r\n\r\nput 0 0 1 1\r\n"),
        ("limit", &limit),
    ] {
        let id = walk.put(&format!("put-{label}"), client.put_default(body));
        walk.found(&format!("peek-{label}"), client.peek(id));
        walk.found(&format!("reserve-{label}"), client.reserve());
        walk.done(&format!("delete-{label}"), client.delete(id));
    }
    walk.put("put-over-limit", client.put_default(&vec![b'x'; 65_536]));
    walk.value("using-after-over-limit", client.using());
    walk.put("put-far-over-limit", client.put_default(&vec![b'x'; 300_000]));
    walk.value("using-after-far-over-limit", client.using());
}

fn arguments(walk: &mut Walk<'_>, client: &mut Beanstalkc, server: SocketAddr) {
    for (label, priority, delay, ttr) in [
        ("most-urgent", 0, AT_ONCE, MINUTE),
        ("least-urgent", u32::MAX, AT_ONCE, MINUTE),
        ("urgent", 1023, AT_ONCE, MINUTE),
        ("not-urgent", 1024, AT_ONCE, MINUTE),
        ("ttr-0", 5, AT_ONCE, AT_ONCE),
        ("most", 5, Duration::from_secs(u32::MAX.into()), Duration::from_secs(u32::MAX.into())),
        ("all", 7, LONG, Duration::from_secs(90)),
    ] {
        let id = walk.put(&format!("put-{label}"), client.put(b"a", priority, delay, ttr));
        walk.job_stats(&format!("stats-job-{label}"), client.stats_job(id));
        walk.tube_stats(&format!("stats-tube-{label}"), client.stats_tube(TUBE));
        walk.done(&format!("delete-{label}"), client.delete(id));
    }
    // The header is refused, so the body is read as a command and its answer comes next.
    let too_long = Duration::from_secs(1 << 32);
    for (label, delay, ttr) in [("delay-too-large", too_long, MINUTE), ("ttr-too-large", AT_ONCE, too_long)] {
        let mut lost = connect(server);
        walk.put(&format!("put-{label}"), lost.put(b"kick 0", 5, delay, ttr));
        walk.value(&format!("using-after-{label}"), lost.using());
    }

    for (tube, body, priority) in [(TUBE, "first", 5), (TUBE, "second", 5), (TUBE, "urgent", 1), (OTHER, "there", 4)] {
        client.use_tube(tube).expect("use");
        client.put(body.as_bytes(), priority, AT_ONCE, MINUTE).expect("put");
    }
    client.use_tube(TUBE).expect("use");
    client.watch(OTHER).expect("watch");
    drain(walk, client, "order-across-tubes");
    client.ignore(OTHER).expect("ignore");
}

fn life(walk: &mut Walk<'_>, client: &mut Beanstalkc, second: &mut Beanstalkc) {
    let id = walk.put("put", client.put(b"work", 10, AT_ONCE, MINUTE));
    walk.done("touch-ready", client.touch(id));
    walk.done("release-ready", client.release(id, 1, AT_ONCE));
    walk.done("bury-ready", client.bury(id, 1));
    walk.done("kick-job-ready", client.kick_job(id));
    walk.found("peek-ready", client.peek_ready());
    walk.text("peeked-is-reserved", client.peek(id).expect("peek").reserved());
    walk.done("touch-peeked", client.peek(id).expect("peek").touch());
    {
        let mut job = client.reserve().expect("the job is ready");
        walk.text("reserved-is-reserved", job.reserved());
        walk.job_stats("stats-of-reserved", job.stats());
        walk.done("touch", job.touch());
        walk.done("touch-of-another", second.touch(id));
        walk.done("release-of-another", second.release(id, 1, AT_ONCE));
        walk.done("bury-of-another", second.bury(id, 1));
        walk.done("delete-of-another", second.delete(id));
        walk.found("peek-reserved-of-another", second.peek(id));
        walk.done("kick-reserved", job.kick());
        walk.done("release", job.release(3, AT_ONCE));
        walk.text("released-is-reserved", job.reserved());
        walk.job_stats("stats-of-released", job.stats());
    }
    walk.done("release-job-default", client.reserve_with_timeout(AT_ONCE).expect("ready").release_default());
    walk.job_stats("stats-job-release-job-default", client.stats_job(id));
    client.reserve().expect("ready");
    walk.done("release-default", client.release_default(id));
    walk.job_stats("stats-job-release-default", client.stats_job(id));
    client.reserve().expect("ready");
    walk.done("release-delayed", client.release(id, 2, LONG));
    walk.job_stats("stats-job-delayed", client.stats_job(id));
    walk.found("peek-delayed", client.peek_delayed());
    walk.done("kick-job-delayed", client.kick_job(id));
    walk.job_stats("stats-job-kicked", client.stats_job(id));
    walk.done("bury", client.reserve().expect("ready").bury(4));
    walk.job_stats("stats-job-buried", client.stats_job(id));
    walk.found("peek-buried", client.peek_buried());
    walk.done("kick-buried", client.peek_buried().expect("buried").kick());
    walk.done("bury-job-default", client.reserve().expect("ready").bury_default());
    walk.job_stats("stats-job-bury-job-default", client.stats_job(id));
    walk.done("kick-job-buried", client.kick_job(id));
    client.reserve().expect("ready");
    walk.done("bury-default", client.bury_default(id));
    walk.job_stats("stats-job-bury-default", client.stats_job(id));
    client.kick_job(id).expect("buried");
    walk.done("delete", client.reserve().expect("ready").delete());
    walk.done("delete-twice", client.delete(id));
    walk.done("touch-deleted", client.touch(id));
    walk.done("release-deleted", client.release_default(id));
    walk.done("bury-deleted", client.bury_default(id));
    walk.done("kick-job-deleted", client.kick_job(id));
    walk.found("peek-deleted", client.peek(id));
    walk.job_stats("stats-job-deleted", client.stats_job(id));
    walk.found("peek-ready-none", client.peek_ready());
    walk.found("peek-delayed-none", client.peek_delayed());
    walk.found("peek-buried-none", client.peek_buried());
    walk.tube_stats("stats-tube-none", client.stats_tube(THIRD));
    walk.done("pause-tube-none", client.pause_tube(THIRD, SECOND));
}

fn kicks(walk: &mut Walk<'_>, client: &mut Beanstalkc) {
    for body in ["b1", "b2", "b3"] {
        client.put(body.as_bytes(), 5, AT_ONCE, MINUTE).expect("put");
        client.reserve().expect("ready").bury(5).expect("bury");
    }
    for body in ["d1", "d2"] {
        client.put(body.as_bytes(), 5, LONG, MINUTE).expect("put");
    }
    walk.tube_stats("stats-tube-before-kicks", client.stats_tube(TUBE));
    walk.value("kick-0", client.kick(0));
    walk.value("kick-2-of-3-buried", client.kick(2));
    walk.value("kick-buried-only", client.kick(u32::MAX));
    walk.value("kick-delayed", client.kick(10));
    walk.value("kick-nothing", client.kick(10));
    walk.tube_stats("stats-tube-after-kicks", client.stats_tube(TUBE));
    drain(walk, client, "kicked");
}

fn time_outs(walk: &mut Walk<'_>, client: &mut Beanstalkc, server: SocketAddr) {
    walk.found("reserve-time-out-too-large", client.reserve_with_timeout(Duration::from_secs(1 << 32)));
    let before = Instant::now();
    walk.found("reserve-1-second", client.reserve_with_timeout(SECOND));
    walk.text("reserve-1-second-waited", before.elapsed() > Duration::from_millis(900));
    let mut undoing = connect_to(server, THIRD);
    walk.attempt(1, |walk| deadlines(walk, server), |walk| undo_deadlines(walk, &mut undoing));
    drop(undoing);

    let late = walk.put("put-delay-1", client.put(b"late", 5, SECOND, MINUTE));
    walk.found("reserve-when-due", client.reserve_with_timeout(PATIENCE));
    walk.done("release-delay-1", client.release(late, 5, SECOND));
    walk.found("reserve-released-when-due", client.reserve_with_timeout(PATIENCE));
    walk.job_stats("stats-job-was-delayed", client.stats_job(late));
    walk.done("delete-late", client.delete(late));
}

fn deadlines(walk: &mut Walk<'_>, server: SocketAddr) -> Result<(), TooSlow> {
    let mut holder = connect_to(server, THIRD);
    let id = walk.put("put-ttr-1", holder.put(b"short", 5, AT_ONCE, SECOND));
    walk.lease_begins();
    walk.found("reserve-ttr-1", holder.reserve_with_timeout(AT_ONCE));
    walk.found("reserve-near-deadline", holder.reserve_with_timeout(AT_ONCE));
    walk.found("reserve-blocking-near-deadline", holder.reserve());
    walk.done("touch-ttr-1", holder.touch(id));
    walk.lease_holds()?;

    let mut expired = None;
    walk.until("a job with a TTR of 1 comes back", |walk| {
        walk.lease_begins();
        expired = match holder.reserve_with_timeout(Duration::from_secs(5)) {
            Ok(job) => Some((job.id(), job.body().to_vec())),
            Err(BeanstalkcError::CommandFailed(answer)) if answer == "DeadlineSoon" => None,
            Err(error) => panic!("while a lease runs out: {error}"),
        };
        expired.is_some()
    });
    walk.taken("expired-comes-back", Ok(expired.expect("waited for above")));
    walk.job_stats("stats-job-expired", holder.stats_job(id));
    walk.done("delete-expired", holder.delete(id));
    walk.lease_holds()
}

/// Waits until the lost attempt's job is gone, deleting it when it comes back.
fn undo_deadlines(walk: &mut Walk<'_>, client: &mut Beanstalkc) {
    let left = |stats: &Stats| stats["current-jobs-ready"] != "0" || stats["current-jobs-reserved"] != "0";
    walk.until("the lost attempt's job is gone", |_| {
        if let Ok(mut job) = client.peek_ready() {
            job.delete().expect("ready");
        }
        !left(&client.stats_tube(THIRD).expect("this connection uses it"))
    });
}

/// A reserve in a thread of its own, and the connection that it was on.
struct Waiting(JoinHandle<(Beanstalkc, Taken)>);

/// The id and body of a job that was taken.
type Taken = BeanstalkcResult<(u64, Vec<u8>)>;

impl Waiting {
    /// Returns when the server counts the connection as waiting.
    fn start(walk: &mut Walk<'_>, client: &mut Beanstalkc, mut waiting: Beanstalkc) -> Waiting {
        let thread = std::thread::spawn(move || {
            let taken = waiting.reserve_with_timeout(PATIENCE).map(|job| (job.id(), job.body().to_vec()));
            (waiting, taken)
        });
        walk.until("a consumer waits", |_| count(client, TUBE, "current-waiting") == 1);
        Waiting(thread)
    }

    fn end(self, walk: &mut Walk<'_>, name: &str) -> Beanstalkc {
        let (connection, taken) = self.0.join().expect("reserving does not panic");
        walk.taken(name, taken);
        connection
    }
}

fn pauses(walk: &mut Walk<'_>, client: &mut Beanstalkc, second: Beanstalkc) -> Beanstalkc {
    let id = walk.put("put-held-up", client.put(b"held up", 5, AT_ONCE, MINUTE));
    walk.done("pause-tube", client.pause_tube(TUBE, MINUTE));
    walk.tube_stats("stats-tube-paused", client.stats_tube(TUBE));
    walk.found("reserve-paused", client.reserve_with_timeout(AT_ONCE));
    let waiting = Waiting::start(walk, client, second);
    walk.done("pause-tube-0", client.pause_tube(TUBE, AT_ONCE));
    let mut second = waiting.end(walk, "reserve-unpaused");
    walk.done("release-unpaused", second.release(id, 5, AT_ONCE));
    walk.done("pause-tube-1", client.pause_tube(TUBE, SECOND));
    walk.found("reserve-after-pause", second.reserve_with_timeout(PATIENCE));
    walk.done("delete-after-pause", second.delete(id));
    second
}

fn connections(walk: &mut Walk<'_>, client: &mut Beanstalkc, second: Beanstalkc, server: SocketAddr) -> Beanstalkc {
    let waiting = Waiting::start(walk, client, second);
    walk.tube_stats("stats-tube-waiting", client.stats_tube(TUBE));
    let id = walk.put("put-to-waiting", client.put(b"at once", 5, AT_ONCE, MINUTE));
    let mut second = waiting.end(walk, "waiting-got");
    walk.done("delete-got", second.delete(id));

    let mut third = connect_to(server, TUBE);
    let kept = walk.put("put-to-be-given-back", client.put(b"given back", 5, AT_ONCE, MINUTE));
    walk.found("reserve-then-reconnect", third.reserve_with_timeout(AT_ONCE));
    let waiting = Waiting::start(walk, client, second);
    let mut third = third.reconnect().expect("the server is there");
    let mut second = waiting.end(walk, "given-back-to-waiting");
    walk.job_stats("stats-job-given-back", client.stats_job(kept));
    walk.names("watching-after-reconnect", third.watching());
    walk.done("release-given-back", second.release(kept, 5, AT_ONCE));

    third.watch(TUBE).expect("watch");
    walk.found("reserve-then-drop", third.reserve_with_timeout(AT_ONCE));
    let waiting = Waiting::start(walk, client, second);
    drop(third);
    let mut second = waiting.end(walk, "given-back-again");
    walk.done("delete-given-back", second.delete(kept));
    let mut unconnected = Beanstalkc::default();
    walk.value("without-a-connection", unconnected.using());
    second
}
