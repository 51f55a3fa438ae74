//! The life of one store: server after server on one data directory, each killed, and the look at what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;

use super::crowd::{Crowd, TUBE};
use super::lane::{Found, Lane};
use crate::process::{self, Rota};
use crate::wire::Wire;

/// Lanes of a store, each with a thread.
const LANES: usize = 3;

/// How long a server is under load before it is killed, in milliseconds.
const LOAD_MS: std::ops::Range<u64> = 1..120;

/// Every so many servers one is told to stop instead, in the middle of the load or after it.
const STOPS_EVERY: u64 = 6;

/// Commands sent at once while everything is looked at.
const LOOK: usize = 64;

/// A store to live through.
pub(super) struct Life {
    pub(super) sync: &'static str,
    pub(super) seed: u64,
    /// Servers to kill.
    pub(super) cycles: u64,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Kills {
    /// Killed under load.
    pub(super) at_work: u64,
    /// Killed before they served.
    pub(super) at_start: u64,
    /// Told to stop under load.
    stopped_at_work: u64,
    /// Told to stop when everything was answered.
    stopped_at_rest: u64,
    /// Killed just after they were told to stop; they count as killed at work too.
    impatient: u64,
    /// Segments of the log begun behind the first.
    segments: u64,
    /// Starts that cut off a torn tail.
    torn: u64,
    /// Commands answered.
    answers: u64,
    /// Jobs looked at after a restart.
    looked_at: u64,
}

impl Kills {
    pub(super) fn all(&self) -> u64 {
        self.at_work + self.at_start
    }

    pub(super) fn add(&mut self, more: &Kills) {
        self.at_work += more.at_work;
        self.at_start += more.at_start;
        self.stopped_at_work += more.stopped_at_work;
        self.stopped_at_rest += more.stopped_at_rest;
        self.impatient += more.impatient;
        self.segments += more.segments;
        self.torn += more.torn;
        self.answers += more.answers;
        self.looked_at += more.looked_at;
    }
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kills { at_work, at_start, stopped_at_work, stopped_at_rest, .. } = self;
        let Kills { impatient, segments, torn, answers, looked_at, .. } = self;
        write!(
            f,
            "{at_work} killed at work ({impatient} while they stopped), {at_start} while they started; \
             {stopped_at_work} stopped at work, {stopped_at_rest} at rest; {segments} more segments, {torn} torn tails; \
             {answers} commands of the lanes answered, {looked_at} jobs looked at"
        )
    }
}

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Killed,
    Stopped,
}

/// Tells how to repeat what failed.
struct Repeat<'a>(&'a Life);

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Life { sync, seed, .. } = self.0;
            eprintln!(
                "a store with --sync {sync} failed; to repeat it: ROTA_KILL_SEED={seed} ROTA_KILL_CYCLES=3000 \
                 cargo test -p rota --test it kill"
            );
        }
    }
}

/// A store, and all that is known of it from outside.
struct Store<'a> {
    life: &'a Life,
    rng: Rng,
    data: TempDir,
    lanes: Vec<Lane>,
    crowd: Crowd,
    /// The greatest id that was acknowledged.
    newest_id: u64,
    /// The first id that the server at work could issue.
    first_id: u64,
    kills: Kills,
}

impl Life {
    pub(super) fn live(&self) -> Kills {
        let _repeat = Repeat(self);
        let mut rng = Rng::with_seed(self.seed);
        let large_bodies = rng.u8(..3) == 0;
        let lanes = (0..LANES).map(|lane| Lane::new(lane, rng.u64(..), large_bodies)).collect();
        let data = TempDir::new().expect("a temporary folder");
        let crowd = Crowd::default();
        let kills = Kills::default();
        let mut store = Store { life: self, rng, data, lanes, crowd, newest_id: 0, first_id: 1, kills };
        let mut last = End::Killed;
        let mut server = 0;
        while store.kills.all() < self.cycles {
            server += 1;
            // One that was killed had taken its share of ids, used or not.
            last = if store.kill_some_that_start() { End::Killed } else { last };
            let rota = Rota::ready(process::on(store.data.path(), &["--sync", self.sync]));
            store.kills.torn += u64::from(rota.stderr().contains("never acknowledged"));
            store.look(rota.address(), last);
            let end = if server % STOPS_EVERY == 0 { End::Stopped } else { End::Killed };
            store.load(rota, end);
            last = end;
        }
        let segments = std::fs::read_dir(store.data.path().join("log")).expect("the log is there").count();
        store.kills.segments = segments as u64 - 1;
        store.kills.answers = store.lanes.iter().map(|lane| lane.answers).sum();
        store.kills
    }
}

impl Store<'_> {
    /// Kills servers that have not come up yet; false if this time it is none.
    fn kill_some_that_start(&mut self) -> bool {
        if self.rng.u8(..3) > 0 {
            return false;
        }
        for _ in 0..self.rng.u8(1..4) {
            let mut rota = Rota::spawn(process::on(self.data.path(), &["--sync", self.life.sync]));
            thread::sleep(Duration::from_micros(self.rng.u64(..20_000)));
            let in_time = !rota.is_ready();
            rota.kill();
            // One that was killed when it had just come up counts too, but not as one of these.
            let counter = if in_time { &mut self.kills.at_start } else { &mut self.kills.at_work };
            *counter += 1;
        }
        true
    }

    /// Looks at every job there is, and holds it against the ledger.
    fn look(&mut self, address: SocketAddr, end: End) {
        let mut wire = Wire::to(address);
        let unanswered = self.lanes.iter().map(Lane::unanswered_puts).sum::<u64>() + self.crowd.unanswered_puts();
        let acknowledged: BTreeSet<u64> = self
            .lanes
            .iter()
            .flat_map(|lane| lane.acknowledged.iter().copied())
            .chain(self.crowd.acknowledged())
            .collect();
        self.newest_id = self.newest_id.max(acknowledged.last().copied().unwrap_or(0));
        // What was never acknowledged has an id between those that were, or right behind them.
        let gaps = (self.first_id..=self.newest_id + unanswered).filter(|id| !acknowledged.contains(id));
        let known = self.lanes.iter().flat_map(Lane::known_ids).chain(self.crowd.known_ids());
        let ids: BTreeSet<u64> = known.chain(gaps).collect();
        let found = find(&mut wire, &ids);
        self.kills.looked_at += found.len() as u64;
        self.crowd.settle(&found);
        for lane in &mut self.lanes {
            lane.settle(&found, &mut wire);
        }
        let stats = wire.ask("stats");
        let states = ["ready", "reserved", "delayed", "buried"];
        let there: u64 = states.iter().map(|state| stats.count(&format!("current-jobs-{state}"))).sum();
        assert_eq!(there, found.len() as u64, "jobs that nobody put, or that were deleted, are there");
        for job in found.values() {
            let is_ours = job.tube == TUBE || self.lanes.iter().any(|lane| lane.owns(&job.tube));
            assert!(is_ours, "nobody put {job:?}");
        }

        wire.expect("use probe", "USING probe");
        let id = wire.put("put 0 0 60", b"which id is next?");
        assert!(id > self.newest_id, "{id} was issued after {}", self.newest_id);
        if end == End::Stopped {
            let most = self.newest_id + unanswered + 1;
            assert!(id <= most, "ids go from {} to {id}, after an orderly stop", self.newest_id);
        }
        wire.expect(&format!("delete {id}"), "DELETED");
        self.newest_id = id;
        self.first_id = id + 1;
    }

    /// Lets everybody work, and ends the server.
    fn load(&mut self, mut rota: Rota, end: End) {
        let address = rota.address();
        let crowd_seeds: [u64; 3] = std::array::from_fn(|_| self.rng.u64(..));
        let span = Duration::from_millis(self.rng.u64(LOAD_MS));
        let at_rest = end == End::Stopped && self.rng.bool();
        let resting = AtomicBool::new(false);
        let enough = || resting.load(Ordering::Relaxed);
        // A server that stops closes what is idle at once: what one connection held, another could then have.
        let impatient = end == End::Killed && self.rng.u8(..8) == 0;
        let patience = Duration::from_micros(self.rng.u64(..4_000));
        let single = end == End::Stopped && !at_rest || impatient;
        let (lanes, crowd) = (&mut self.lanes, &self.crowd);
        thread::scope(|scope| {
            // Whoever loses its connection is done. What it then knows is in the ledger.
            let mut workers = Vec::new();
            for lane in lanes {
                workers.push(scope.spawn(move || lane.work(address, single, enough)));
            }
            let rngs = crowd_seeds.map(Rng::with_seed);
            for (member, mut rng) in rngs.into_iter().enumerate() {
                workers.push(scope.spawn(move || match member {
                    0 => crowd.produce(address, &mut rng, enough),
                    _ => crowd.consume(address, &mut rng, enough),
                }));
            }
            thread::sleep(span);
            let lost = workers.iter().any(thread::ScopedJoinHandle::is_finished);
            assert!(!lost, "a client failed, or was cut off before the server was told to go: {}", rota.stderr());
            if at_rest {
                resting.store(true, Ordering::Relaxed);
                for worker in workers {
                    worker.join().expect("a client failed: see above").expect("the server still serves");
                }
            }
            match end {
                End::Killed => {
                    if impatient {
                        rota.signal("TERM");
                        thread::sleep(patience);
                    }
                    rota.kill();
                }
                End::Stopped => {
                    let status = rota.terminate();
                    assert_eq!(status.code(), Some(0), "{}", rota.stderr());
                    assert_eq!(rota.stderr(), "", "nothing is to be said of an orderly stop");
                }
            }
        });
        let counter = match (end, at_rest) {
            (End::Killed, _) => &mut self.kills.at_work,
            (End::Stopped, false) => &mut self.kills.stopped_at_work,
            (End::Stopped, true) => &mut self.kills.stopped_at_rest,
        };
        *counter += 1;
        self.kills.impatient += u64::from(impatient);
    }
}

/// Those of the jobs that are there.
fn find(wire: &mut Wire, ids: &BTreeSet<u64>) -> BTreeMap<u64, Found> {
    let ids: Vec<u64> = ids.iter().copied().collect();
    let mut found = BTreeMap::new();
    for ids in ids.chunks(LOOK) {
        let commands: String = ids.iter().map(|id| format!("peek {id}\r\nstats-job {id}\r\n")).collect();
        wire.send(commands).expect("the server reads");
        for &id in ids {
            let peeked = wire.answer().expect("a peek is answered");
            let stats = wire.answer().expect("a stats-job is answered");
            if peeked.line == "NOT_FOUND" {
                assert_eq!(stats.line, "NOT_FOUND", "{id}");
                continue;
            }
            assert_eq!(peeked.line, format!("FOUND {id} {}", peeked.body.len()));
            let job = Found {
                tube: stats.field("tube"),
                state: match stats.field("state").as_str() {
                    // The crowd's delays end when they end.
                    "delayed" if stats.field("tube") == TUBE => String::from("ready"),
                    state => state.to_owned(),
                },
                priority: u32::try_from(stats.count("pri")).expect("a priority has 32 bits"),
                delay: stats.count("delay"),
                body: peeked.body,
            };
            found.insert(id, job);
        }
    }
    found
}
