//! Printing the answers of `beanstalkc` in a form that only differs from server to server where the servers differ.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use beanstalkc::{BeanstalkcResult, Job};

use crate::process::DEADLINE;

/// How often steps are tried that race against leases of a second.
const ATTEMPTS: usize = 60;

/// The server's values that depend on the machine, the moment or how the server was started.
const UNSTABLE: &[&str] = &[
    "pid",
    "version",
    "uptime",
    "id",
    "hostname",
    "os",
    "platform",
    "rusage-utime",
    "rusage-stime",
    "binlog-oldest-index",
    "binlog-current-index",
    "binlog-max-size",
    "binlog-records-written",
    "binlog-records-migrated",
    "current-connections",
    "total-connections",
    // Whoever starts a server may ask for them before the walk does.
    "cmd-stats",
];
/// The server's keys that beanstalkd has. A server may have more of its own.
const STANDARD: &str = "binlog-current-index binlog-max-size binlog-oldest-index binlog-records-migrated \
    binlog-records-written cmd-bury cmd-delete cmd-ignore cmd-kick cmd-list-tube-used cmd-list-tubes \
    cmd-list-tubes-watched cmd-pause-tube cmd-peek cmd-peek-buried cmd-peek-delayed cmd-peek-ready cmd-put cmd-release \
    cmd-reserve cmd-reserve-with-timeout cmd-stats cmd-stats-job cmd-stats-tube cmd-touch cmd-use cmd-watch \
    current-connections current-jobs-buried current-jobs-delayed current-jobs-ready current-jobs-reserved \
    current-jobs-urgent current-producers current-tubes current-waiting current-workers draining hostname id \
    job-timeouts max-job-size os pid platform rusage-stime rusage-utime total-connections total-jobs uptime version";

/// What `beanstalkc` hands on for every kind of statistics.
pub(super) type Stats = HashMap<String, String>;

/// A lease of a second was over before the steps that need it had run.
pub(super) struct TooSlow;

/// One walk through the client.
pub(super) struct Walk<'a> {
    print: &'a mut dyn FnMut(String),
    first_id: Option<u64>,
    held_back: Option<Vec<String>>,
    lease_began: Instant,
}

impl<'a> Walk<'a> {
    /// A walk that gives its lines to `print`.
    pub(super) fn new(print: &'a mut dyn FnMut(String)) -> Self {
        Walk { print, first_id: None, held_back: None, lease_began: Instant::now() }
    }

    /// Prints the answer, or the error in its place.
    pub(super) fn step<T>(
        &mut self,
        name: &str,
        result: BeanstalkcResult<T>,
        show: impl FnOnce(&mut Self, T) -> String,
    ) {
        let answer = match result {
            Ok(value) => show(self, value),
            Err(error) => error.to_string(),
        };
        let line = format!("{name}: {answer}");
        match &mut self.held_back {
            Some(lines) => lines.push(line),
            None => (self.print)(line),
        }
    }

    pub(super) fn text(&mut self, name: &str, text: impl ToString) {
        self.step(name, Ok(text), |_, text| text.to_string());
    }

    pub(super) fn done(&mut self, name: &str, result: BeanstalkcResult<()>) {
        self.step(name, result, |_, ()| "done".to_owned());
    }

    pub(super) fn value(&mut self, name: &str, result: BeanstalkcResult<impl ToString>) {
        self.step(name, result, |_, value| value.to_string());
    }

    pub(super) fn names(&mut self, name: &str, result: BeanstalkcResult<Vec<String>>) {
        self.step(name, result, |_, names| names.join(" "));
    }

    /// Gives the id, or 0 after an error.
    pub(super) fn put(&mut self, name: &str, result: BeanstalkcResult<u64>) -> u64 {
        let id = result.as_ref().copied().unwrap_or_default();
        self.step(name, result, |walk, id| walk.job(id));
        id
    }

    pub(super) fn found(&mut self, name: &str, result: BeanstalkcResult<Job<'_>>) {
        self.taken(name, result.map(|job| (job.id(), job.body().to_vec())));
    }

    pub(super) fn taken(&mut self, name: &str, result: BeanstalkcResult<(u64, Vec<u8>)>) {
        self.step(name, result, |walk, (id, body)| format!("{} {}", walk.job(id), shown(&body)));
    }

    pub(super) fn job_stats(&mut self, name: &str, result: BeanstalkcResult<Stats>) {
        self.step(name, result, |walk, mut stats| {
            let id = stats["id"].parse().expect("an id is a number");
            let limit = match stats["state"].as_str() {
                "reserved" => stats["ttr"].clone(),
                "delayed" => stats["delay"].clone(),
                _ => "0".to_owned(),
            };
            let left = near(&stats["time-left"], &limit);
            stats.insert("time-left".into(), left);
            stats.insert("id".into(), walk.job(id));
            pairs(stats, |key| key != "age" && key != "file")
        });
    }

    pub(super) fn tube_stats(&mut self, name: &str, result: BeanstalkcResult<Stats>) {
        self.step(name, result, |_, mut stats| {
            let left = near(&stats["pause-time-left"], &stats["pause"]);
            stats.insert("pause-time-left".into(), left);
            pairs(stats, |_| true)
        });
    }

    pub(super) fn server_stats(&mut self, name: &str, result: BeanstalkcResult<Stats>) {
        self.step(name, result, |_, stats| pairs(stats, |key| is_standard(key) && !UNSTABLE.contains(&key)));
    }

    /// Which keys the server has: `beanstalkc` hands on a map, so they are sorted.
    pub(super) fn keys(&mut self, stats: &Stats) {
        let mut keys: Vec<&str> = stats.keys().map(String::as_str).collect();
        keys.sort_unstable();
        let (standard, mut further): (Vec<&str>, Vec<&str>) = keys.into_iter().partition(|key| is_standard(key));
        if further.is_empty() {
            further.push("none");
        }
        self.text("stats-keys", standard.join(" "));
        self.text("stats-keys-after", further.join(" "));
    }

    /// An id as its distance from the first one seen.
    pub(super) fn job(&mut self, id: u64) -> String {
        let first = *self.first_id.get_or_insert(id);
        format!("job{:+}", id.wrapping_sub(first).cast_signed())
    }

    /// Asks again and again until the condition holds; what it waited for is no step.
    pub(super) fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs steps that race against leases of a second, again if this machine was too busy to win; `undo` takes away
    /// what a lost attempt left, which put so many jobs.
    pub(super) fn attempt(
        &mut self,
        jobs: u64,
        mut steps: impl FnMut(&mut Self) -> Result<(), TooSlow>,
        mut undo: impl FnMut(&mut Self),
    ) {
        for _ in 0..ATTEMPTS {
            self.held_back = Some(Vec::new());
            let won = steps(self).is_ok();
            let lines = self.held_back.take().expect("held back since the loop's first line");
            if won {
                lines.into_iter().for_each(&mut *self.print);
                return;
            }
            undo(self);
            self.first_id = self.first_id.map(|first| first + jobs);
        }
        panic!("this machine stalls for a second again and again");
    }

    /// To be called before a lease of a second begins.
    pub(super) fn lease_begins(&mut self) {
        self.lease_began = Instant::now();
    }

    /// To be called after the steps that need the lease.
    pub(super) fn lease_holds(&self) -> Result<(), TooSlow> {
        if self.lease_began.elapsed() > Duration::from_millis(900) { Err(TooSlow) } else { Ok(()) }
    }
}

fn is_standard(key: &str) -> bool {
    STANDARD.split(' ').any(|standard| standard == key)
}

fn pairs(stats: Stats, wanted: impl Fn(&str) -> bool) -> String {
    let sorted: BTreeMap<_, _> = stats.into_iter().filter(|(key, _)| wanted(key)).collect();
    sorted.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// A count of seconds that runs down from `limit`, without saying how far it has run.
fn near(value: &str, limit: &str) -> String {
    match (value.parse::<u64>(), limit.parse::<u64>()) {
        (Ok(seconds), Ok(most)) if most > 0 && seconds <= most && seconds + 10 >= most => format!("near {limit}"),
        _ => value.to_owned(),
    }
}

/// Short bodies as a Rust literal, long ones by length and checksum.
fn shown(body: &[u8]) -> String {
    if body.len() <= 64 {
        return format!("\"{}\"", body.escape_ascii());
    }
    let checksum = body
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{} long, FNV-1a {checksum:016x}", body.len())
}
