//! What servers promised, kept outside of them: whoever ends one in a bad way holds what is left against it.
//!
//! A ledger lives as long as a data directory. It puts a server under load ([`Ledger::work`]), and looks at every job
//! that the next one has ([`Ledger::look`]):
//!
//! - each *lane* (`ledger/lane.rs`) has its tubes to itself and a model of them, which foretells every answer. After the
//!   server's end, what is there must be what the model says after all that was answered, and the first so many of the
//!   commands that were not: never less, never others, nothing in between.
//! - the *crowd* (`ledger/crowd.rs`) shares a tube between a producer and consumers that wait: whatever was acknowledged,
//!   or was once seen, is there; what was deleted is never seen again.
//! - no job is there that the ledger doesn't know; ids only rise, and after an orderly stop go on without a gap.
//!
//! After a power cut under a `--sync` that may lose the newest of what was answered, the same holds for some moment
//! before the cut: each lane's jobs are what they were after a first part of its commands, and nothing is left of what
//! was sent after the answer to something that is gone. It says how long before the cut the oldest lost answer came.

mod crowd;
mod lane;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::process::Rota;
use crate::wire::{Answer, Wire};
use crowd::{Crowd, TUBE};
use lane::{Found, Lane};

/// Lanes of a ledger, each with a thread.
const LANES: usize = 3;

/// Commands sent at once while everything is looked at.
const LOOK: usize = 64;

/// The tube of the one job that each look puts and deletes.
const PROBE: &str = "probe";

/// How the server before ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Past {
    /// By SIGKILL, or by a power cut of which nothing answered may be missing.
    Killed,
    /// In good order.
    Stopped,
    /// By a power cut at that moment, which may take the newest of what was answered.
    Cut(Instant),
}

/// What a look found.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    /// Jobs that are there.
    pub(crate) jobs: u64,
    /// The oldest segment of the log that is needed: those before it were reclaimed.
    pub(crate) oldest_segment: u64,
    pub(crate) newest_segment: u64,
    /// Answers that came before the cut and are not kept.
    pub(crate) lost: u64,
    /// How long before the cut the first of them came.
    pub(crate) age: Duration,
    /// From the first of them to the last.
    pub(crate) span: Duration,
}

/// Where what is kept ends and what is lost begins, as one lane or the crowd sees it.
#[derive(Default)]
struct Tear {
    /// When the newest command was sent that is sure to be kept.
    kept_sent: Option<Instant>,
    /// When those that are sure to be lost were answered.
    lost: Vec<Instant>,
}

/// From when a snapshot was asked for until it was there for sure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) since: Instant,
    pub(crate) until: Instant,
}

/// All that is known of a store from outside.
pub(crate) struct Ledger {
    rng: Rng,
    lanes: Vec<Lane>,
    crowd: Crowd,
    /// The greatest id that was acknowledged.
    newest_id: u64,
    /// The first id that the server at work could issue.
    first_id: u64,
    /// Jobs that were put to see their ids, and deleted.
    probes: BTreeSet<u64>,
}

impl Ledger {
    /// Of an empty store.
    pub(crate) fn new(seed: u64) -> Ledger {
        let mut rng = Rng::with_seed(seed);
        let large_bodies = rng.u8(..3) == 0;
        let lanes = (0..LANES).map(|lane| Lane::new(lane, rng.u64(..), large_bodies)).collect();
        Ledger { rng, lanes, crowd: Crowd::default(), newest_id: 0, first_id: 1, probes: BTreeSet::new() }
    }

    /// Commands of the lanes that were answered.
    pub(crate) fn answers(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.answers).sum()
    }

    /// Looks at every job there is, and holds it against what was promised.
    pub(crate) fn look(&mut self, address: SocketAddr, past: Past) -> Seen {
        let may_lose = matches!(past, Past::Cut(_));
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
        let mut ids: BTreeSet<u64> = known.chain(gaps).collect();
        if may_lose {
            // What was deleted may be there again.
            ids.extend(acknowledged.iter().chain(&self.probes));
        }
        let mut found = find(&mut wire, &ids);
        for probe in &self.probes {
            if found.remove(probe).is_some() {
                wire.expect(&format!("delete {probe}"), "DELETED");
            }
        }
        let mut tears = vec![self.crowd.settle(&found, may_lose)];
        for lane in &mut self.lanes {
            tears.push(lane.settle(&found, &mut wire, may_lose));
        }
        let stats = wire.ask("stats");
        let states = ["ready", "reserved", "delayed", "buried"];
        let there: u64 = states.iter().map(|state| stats.count(&format!("current-jobs-{state}"))).sum();
        assert_eq!(there, found.len() as u64, "jobs that nobody put, or that were deleted, are there");
        for job in found.values() {
            let is_ours = job.tube == TUBE || self.lanes.iter().any(|lane| lane.owns(&job.tube));
            assert!(is_ours, "nobody put {job:?}");
        }
        self.probe(&mut wire, past, unanswered);
        Seen {
            jobs: found.len() as u64,
            oldest_segment: stats.count("binlog-oldest-index"),
            newest_segment: stats.count("binlog-current-index"),
            ..held_together(&tears, past)
        }
    }

    /// Looks at every job of a server that was started from a snapshot of the server that just ended: it must have what had been
    /// done when the snapshot was asked for, and nothing that was asked for after it was there. Returns how many it has.
    pub(crate) fn compare_snapshot(&self, address: SocketAddr, span: Span) -> u64 {
        let mut wire = Wire::to(address);
        let unanswered = self.lanes.iter().map(Lane::unanswered_puts).sum::<u64>() + self.crowd.unanswered_puts();
        let acknowledged = self.lanes.iter().flat_map(|lane| lane.acknowledged.iter().copied());
        let acknowledged: BTreeSet<u64> = acknowledged.chain(self.crowd.acknowledged()).collect();
        let newest_id = self.newest_id.max(acknowledged.last().copied().unwrap_or(0));
        let known = self.lanes.iter().flat_map(Lane::known_ids);
        let ids = known.chain(acknowledged).chain(self.first_id..=newest_id + unanswered).collect();
        let found = find(&mut wire, &ids);
        let stats = wire.ask("stats");
        let states = ["ready", "reserved", "delayed", "buried"];
        let there: u64 = states.iter().map(|state| stats.count(&format!("current-jobs-{state}"))).sum();
        assert_eq!(
            there,
            found.len() as u64,
            "jobs that nobody put, or that were deleted long before, are in a snapshot"
        );
        self.crowd.compare_snapshot(&found, span);
        for lane in &self.lanes {
            lane.compare_snapshot(&found, &mut wire, span);
        }
        there
    }

    /// Which id comes next.
    fn probe(&mut self, wire: &mut Wire, past: Past, unanswered: u64) {
        wire.expect(&format!("use {PROBE}"), &format!("USING {PROBE}"));
        let id = wire.put("put 0 0 60", b"which id is next?");
        assert!(id > self.newest_id, "{id} was issued after {}", self.newest_id);
        if past == Past::Stopped {
            let most = self.newest_id + unanswered + 1;
            assert!(id <= most, "ids go from {} to {id}, after an orderly stop", self.newest_id);
        }
        wire.expect(&format!("delete {id}"), "DELETED");
        self.probes.insert(id);
        self.newest_id = id;
        self.first_id = id + 1;
    }

    /// Puts a server under load and, after that span, calls `end`, which has to end it. With `at_rest` everything is
    /// answered before that; with `single` nobody waits for a job that another connection gives up.
    pub(crate) fn work(&mut self, rota: &mut Rota, load: Load, end: impl FnOnce(&mut Rota)) {
        let Load { span, single, at_rest } = load;
        let address = rota.address();
        let crowd_seeds: [u64; 3] = std::array::from_fn(|_| self.rng.u64(..));
        let resting = AtomicBool::new(false);
        let enough = || resting.load(Ordering::Relaxed);
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
            end(rota);
        });
    }
}

/// A load for a server.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) span: Duration,
    pub(crate) single: bool,
    pub(crate) at_rest: bool,
}

/// Checks that all saw the same moment: nothing is kept that was sent after the answer to something that is lost.
fn held_together(tears: &[Tear], past: Past) -> Seen {
    let kept = tears.iter().filter_map(|tear| tear.kept_sent).max();
    let lost: Vec<Instant> = tears.iter().flat_map(|tear| tear.lost.iter().copied()).collect();
    let Some(&first_lost) = lost.iter().min() else { return Seen::default() };
    if let Some(kept) = kept {
        let behind = kept.saturating_duration_since(first_lost);
        assert!(behind.is_zero(), "a hole: kept is what was sent {behind:?} after the answer to what is lost");
    }
    let Past::Cut(at) = past else { panic!("{} answers were lost", lost.len()) };
    // What was answered after the cut was never promised.
    let lost: Vec<Instant> = lost.into_iter().filter(|answered| *answered < at).collect();
    let span = lost.iter().max().map_or(Duration::ZERO, |last| last.duration_since(first_lost));
    Seen { lost: lost.len() as u64, age: at.saturating_duration_since(first_lost), span, ..Seen::default() }
}

/// The next answer; an error also where the disk takes nothing more. Some are told so between a power cut and the end of the
/// server, which otherwise has all the room it wants.
fn answer(wire: &mut Wire) -> io::Result<Answer> {
    let answer = wire.answer()?;
    if answer.line == "OUT_OF_MEMORY" { Err(io::ErrorKind::StorageFull.into()) } else { Ok(answer) }
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
