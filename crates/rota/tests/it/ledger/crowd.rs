//! The crowd: a producer and consumers that share a tube, and the ledger of what became of each job.
//!
//! Who gets which job is not foretold here, so the ledger keeps a fate for each: what was acknowledged, or was once
//! handed out, must be there after a kill unless its delete was asked for; what was deleted is never seen again. After a
//! power cut that may take the newest of it, the same holds for what the server at work had found.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use fastrand::Rng;

use super::lane::Found;
use super::{Span, Tear};
use crate::wire::{Wire, put_bytes};

/// The tube that all share.
pub(super) const TUBE: &str = "crowd";

/// Above so many jobs the producer waits for the consumers.
const JOBS: usize = 150;

/// What the ledger knows of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Its put was not answered.
    Sent,
    /// It is there: its put was answered, or somebody was handed it.
    There(u64),
    /// Its delete was not answered.
    Leaving(u64),
    Gone(u64),
}

/// A job of the crowd's, and when what was done with it.
struct Job {
    fate: Fate,
    body: Vec<u8>,
    put_sent: Instant,
    /// When somebody was first told of it; none if the server at work had found it.
    told: Option<Instant>,
    deleted: Option<Instant>,
    /// It was there when the server at work came up.
    is_settled: bool,
}

/// The ledger, kept by all of the crowd.
#[derive(Default)]
pub(super) struct Crowd {
    jobs: Mutex<BTreeMap<u32, Job>>,
}

impl Crowd {
    /// Puts jobs until the connection is lost or it is enough.
    pub(super) fn produce(&self, address: SocketAddr, rng: &mut Rng, enough: impl Fn() -> bool) -> io::Result<()> {
        let mut wire = Wire::connect(address)?;
        wire.send(format!("use {TUBE}\r\n"))?;
        wire.answer()?;
        while !enough() {
            let batch: Vec<u32> = {
                let mut jobs = self.jobs();
                let room = JOBS.saturating_sub(jobs.len()).min(rng.usize(1..16));
                let first = jobs.last_key_value().map_or(0, |(serial, _)| serial + 1);
                let batch = (first..).take(room).collect::<Vec<u32>>();
                for &serial in &batch {
                    let mut body = format!("{TUBE} {serial}\r\n").into_bytes();
                    let length = rng.usize(..300);
                    body.extend(std::iter::repeat_with(|| rng.u8(..)).take(length));
                    let put_sent = Instant::now();
                    let job = Job { fate: Fate::Sent, body, put_sent, told: None, deleted: None, is_settled: false };
                    jobs.insert(serial, job);
                }
                batch
            };
            let mut bytes = Vec::new();
            for serial in &batch {
                let body = self.jobs()[serial].body.clone();
                // Some are due within the life of a server, some after it.
                let delay_ms = if rng.bool() { 0 } else { rng.u32(..60) };
                let head = format!("put-in {} {delay_ms} 60000", rng.u32(..3));
                bytes.extend(put_bytes(&head, &body));
            }
            if batch.is_empty() {
                // The consumers are behind: something small, to see whether the server is still there.
                wire.send("list-tube-used\r\n")?;
                wire.answer()?;
                continue;
            }
            wire.send(bytes)?;
            for serial in batch {
                let answer = super::answer(&mut wire)?;
                assert!(answer.line.starts_with("INSERTED "), "a put was answered {:?}", answer.line);
                self.is_there(serial, answer.number(1));
            }
        }
        Ok(())
    }

    /// Reserves, and deletes most of what it gets, until the connection is lost or it is enough.
    pub(super) fn consume(&self, address: SocketAddr, rng: &mut Rng, enough: impl Fn() -> bool) -> io::Result<()> {
        let mut wire = Wire::connect(address)?;
        wire.send(format!("watch {TUBE}\r\n"))?;
        wire.answer()?;
        while !enough() {
            wire.send("reserve-with-timeout 1\r\n")?;
            let answer = wire.answer()?;
            if answer.line == "TIMED_OUT" {
                continue;
            }
            assert!(answer.line.starts_with("RESERVED "), "a reserve was answered {:?}", answer.line);
            let id = answer.number(1);
            let serial = serial(&answer.body);
            assert_eq!(self.jobs()[&serial].body, answer.body, "the body of {id}");
            self.is_there(serial, id);
            let done = if rng.u8(..4) == 0 {
                wire.send(format!("release {id} {} 0\r\n", rng.u32(..3)))?;
                "RELEASED"
            } else {
                self.set(serial, Fate::Leaving(id));
                wire.send(format!("delete {id}\r\n"))?;
                "DELETED"
            };
            assert_eq!(super::answer(&mut wire)?.line, done, "{id}");
            if done == "DELETED" {
                self.set(serial, Fate::Gone(id));
            }
        }
        Ok(())
    }

    /// Checks what was found, and goes on from there. Returns what of the answered was kept and lost, if it may be.
    pub(super) fn settle(&self, found: &BTreeMap<u64, Found>, may_lose: bool) -> Tear {
        let found: HashMap<u32, (u64, &Found)> =
            found.iter().filter(|(_, job)| job.tube == TUBE).map(|(&id, job)| (serial(&job.body), (id, job))).collect();
        let mut jobs = self.jobs();
        let mut tear = Tear::default();
        for (serial, (id, seen)) in &found {
            let job = jobs.get_mut(serial).unwrap_or_else(|| panic!("nobody put job {id}: {seen:?}"));
            assert_eq!(job.body, seen.body, "the body of {id}");
            if let Some(known) = job.id() {
                assert_eq!(known, *id, "{seen:?}");
            }
            assert!(may_lose || !job.is_gone(), "job {id} was deleted, and is there again: {seen:?}");
            tear.lost.extend(job.deleted);
            if !job.is_settled {
                tear.kept_sent = tear.kept_sent.max(Some(job.put_sent));
            }
            (job.fate, job.told, job.deleted, job.is_settled) = (Fate::There(*id), None, None, true);
        }
        jobs.retain(|serial, job| {
            let is_there = found.contains_key(serial);
            if !is_there && matches!(job.fate, Fate::There(_)) {
                let fate = job.fate;
                let may_be_gone = may_lose && !job.is_settled;
                assert!(may_be_gone, "job {serial} was acknowledged, and is not there: {fate:?}");
                tear.lost.extend(job.told);
            }
            is_there
        });
        tear
    }

    /// Checks what a snapshot has.
    pub(super) fn compare_snapshot(&self, found: &BTreeMap<u64, Found>, span: Span) {
        let found: HashMap<u32, (u64, &Found)> =
            found.iter().filter(|(_, job)| job.tube == TUBE).map(|(&id, job)| (serial(&job.body), (id, job))).collect();
        let jobs = self.jobs();
        for (serial, (id, seen)) in &found {
            let job = jobs.get(serial).unwrap_or_else(|| panic!("nobody put job {id} of a snapshot: {seen:?}"));
            assert_eq!(job.body, seen.body, "the body of {id} in a snapshot");
            assert!(job.id().is_none_or(|known| known == *id), "{:?} is {id} in a snapshot", job.fate);
            assert!(job.is_settled || job.put_sent <= span.until, "job {id} was put after the snapshot was there");
            let was_gone = job.deleted.is_some_and(|deleted| deleted < span.since);
            assert!(!was_gone, "job {id} was deleted before the snapshot was asked for, and is in it");
        }
        for (serial, job) in jobs.iter() {
            let was_there = job.is_settled || job.told.is_some_and(|told| told < span.since);
            // Whose end was asked for may have ended before.
            if was_there && let Fate::There(id) = job.fate {
                assert!(
                    found.contains_key(serial),
                    "job {id} was there before the snapshot was asked for, and is not in it"
                );
            }
        }
    }

    /// Ids of jobs that may be there.
    pub(super) fn known_ids(&self) -> Vec<u64> {
        self.jobs().values().filter(|job| !job.is_gone()).filter_map(Job::id).collect()
    }

    /// Every id that was acknowledged in this run.
    pub(super) fn acknowledged(&self) -> Vec<u64> {
        self.jobs().values().filter_map(Job::id).collect()
    }

    pub(super) fn unanswered_puts(&self) -> u64 {
        self.jobs().values().filter(|job| job.fate == Fate::Sent).count() as u64
    }

    /// Somebody was told of a job: by the answer to its put, or by being handed it, whichever is read first.
    fn is_there(&self, serial: u32, id: u64) {
        let mut jobs = self.jobs();
        let job = jobs.get_mut(&serial).expect("nobody takes a job out of a ledger at work");
        match job.id() {
            None => (job.fate, job.told) = (Fate::There(id), Some(Instant::now())),
            Some(known) => assert_eq!(known, id),
        }
    }

    fn set(&self, serial: u32, fate: Fate) {
        let mut jobs = self.jobs();
        let job = jobs.get_mut(&serial).expect("nobody takes a job out of a ledger at work");
        job.fate = fate;
        job.deleted = job.is_gone().then(Instant::now);
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u32, Job>> {
        self.jobs.lock().expect("a thread of the crowd failed: see above")
    }
}

impl Job {
    fn id(&self) -> Option<u64> {
        match self.fate {
            Fate::There(id) | Fate::Leaving(id) | Fate::Gone(id) => Some(id),
            Fate::Sent => None,
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self.fate, Fate::Gone(_))
    }
}

/// The serial number in a body of the crowd's.
fn serial(body: &[u8]) -> u32 {
    let line = body.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let text = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(TUBE));
    let number = text.and_then(|text| text.trim().parse().ok());
    number.unwrap_or_else(|| panic!("this is no body of ours: {:?}", String::from_utf8_lossy(body)))
}
