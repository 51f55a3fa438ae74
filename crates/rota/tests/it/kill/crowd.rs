//! The crowd: a producer and consumers that share a tube, and the ledger of what became of each job.
//!
//! Who gets which job is not foretold here, so the ledger keeps a fate for each: what was acknowledged, or was once
//! handed out, must be there after a kill unless its delete was asked for; what was deleted is never seen again.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use fastrand::Rng;

use super::lane::Found;
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

/// The ledger, kept by all of the crowd.
#[derive(Default)]
pub(super) struct Crowd {
    jobs: Mutex<BTreeMap<u32, (Fate, Vec<u8>)>>,
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
                    jobs.insert(serial, (Fate::Sent, body));
                }
                batch
            };
            let mut bytes = Vec::new();
            for serial in &batch {
                let body = self.jobs()[serial].1.clone();
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
                let answer = wire.answer()?;
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
            assert_eq!(self.jobs()[&serial].1, answer.body, "the body of {id}");
            self.is_there(serial, id);
            let done = if rng.u8(..4) == 0 {
                wire.send(format!("release {id} {} 0\r\n", rng.u32(..3)))?;
                "RELEASED"
            } else {
                self.set(serial, Fate::Leaving(id));
                wire.send(format!("delete {id}\r\n"))?;
                "DELETED"
            };
            assert_eq!(wire.answer()?.line, done, "{id}");
            if done == "DELETED" {
                self.set(serial, Fate::Gone(id));
            }
        }
        Ok(())
    }

    /// Checks what was found, and goes on from there.
    pub(super) fn settle(&self, found: &BTreeMap<u64, Found>) {
        let found: HashMap<u32, (u64, &Found)> =
            found.iter().filter(|(_, job)| job.tube == TUBE).map(|(&id, job)| (serial(&job.body), (id, job))).collect();
        let mut jobs = self.jobs();
        for (serial, (id, job)) in &found {
            let (fate, body) = jobs.get_mut(serial).unwrap_or_else(|| panic!("nobody put job {id}: {job:?}"));
            assert_eq!(*body, job.body, "the body of {id}");
            match *fate {
                Fate::Sent => {}
                Fate::There(known) | Fate::Leaving(known) => assert_eq!(known, *id, "{job:?}"),
                Fate::Gone(_) => panic!("job {id} was deleted, and is there again: {job:?}"),
            }
            *fate = Fate::There(*id);
        }
        jobs.retain(|serial, (fate, _)| {
            let is_there = found.contains_key(serial);
            let must = matches!(fate, Fate::There(_));
            assert!(is_there || !must, "job {serial} was acknowledged, and is not there: {fate:?}");
            is_there
        });
    }

    /// Ids of jobs that may be there.
    pub(super) fn known_ids(&self) -> Vec<u64> {
        let id = |fate: Fate| match fate {
            Fate::There(id) | Fate::Leaving(id) => Some(id),
            Fate::Sent | Fate::Gone(_) => None,
        };
        self.jobs().values().filter_map(|(fate, _)| id(*fate)).collect()
    }

    /// Every id that was acknowledged in this run.
    pub(super) fn acknowledged(&self) -> Vec<u64> {
        let id = |fate: Fate| match fate {
            Fate::There(id) | Fate::Leaving(id) | Fate::Gone(id) => Some(id),
            Fate::Sent => None,
        };
        self.jobs().values().filter_map(|(fate, _)| id(*fate)).collect()
    }

    pub(super) fn unanswered_puts(&self) -> u64 {
        self.jobs().values().filter(|(fate, _)| *fate == Fate::Sent).count() as u64
    }

    /// Somebody was told of a job: by the answer to its put, or by being handed it, whichever is read first.
    fn is_there(&self, serial: u32, id: u64) {
        let mut jobs = self.jobs();
        let fate = &mut jobs.get_mut(&serial).expect("nobody takes a job out of a ledger at work").0;
        match *fate {
            Fate::Sent => *fate = Fate::There(id),
            Fate::There(known) | Fate::Leaving(known) | Fate::Gone(known) => assert_eq!(known, id),
        }
    }

    fn set(&self, serial: u32, fate: Fate) {
        self.jobs().get_mut(&serial).expect("nobody takes a job out of a ledger at work").0 = fate;
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u32, (Fate, Vec<u8>)>> {
        self.jobs.lock().expect("a thread of the crowd failed: see above")
    }
}

/// The serial number in a body of the crowd's.
fn serial(body: &[u8]) -> u32 {
    let line = body.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let text = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(TUBE));
    let number = text.and_then(|text| text.trim().parse().ok());
    number.unwrap_or_else(|| panic!("this is no body of ours: {:?}", String::from_utf8_lossy(body)))
}
