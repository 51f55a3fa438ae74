//! A walk over all that the engine has, beside its work: who drives it, and for how long it may hold the lock.
//!
//! The binary begins one with [`Host::begin_snapshot`] on a thread of its own and calls [`Walk::step`] until the end;
//! where the records go is its business. It must never hold the lock for longer than a slice, nor take it again at
//! once: commands come first.

use super::{Host, Pin};
use rota_engine::SnapshotCounts;
use rota_engine::command::{BodyPlace, BodyRead};
use rota_engine::engine::DependsOn;
use rota_engine::far::{FarError, FarRecord, FarRecords};
use rota_engine::job::JobState;
use rota_engine::limits::{KEPT_SLICE_BYTES, STEP_OBJECTS};
use rota_engine::log::Group;
use rota_engine::storage::DataDirectory;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a slice should hold the lock.
const SLICE: Duration = Duration::from_micros(200);

/// Objects in the first slice.
const FIRST_OBJECTS: usize = 32;

/// A snapshot under way: it ends when this is dropped.
pub struct Walk {
    host: Arc<Host>,
    /// Objects that the next slice may take.
    objects: usize,
    /// Bodies that it needs from the log, and what keeps them there until they were read.
    wanted: Vec<BodyPlace>,
    pin: Option<Pin>,
    far: Option<FarWalk>,
    waits_to_end: bool,
    is_over: bool,
}

/// What to do where a walk comes to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkEnd {
    /// It ends, and the server goes on.
    GoesOn,
    /// It ends, and is the last moment at which anything was decided: see [`Host::thaw`].
    Freezes,
    /// It does not end yet.
    Waits,
}

/// A far segment that is being walked over.
struct FarWalk {
    segment: u64,
    groups: Option<FarRecords<DataDirectory>>,
    /// What was read of it and not taken.
    records: VecDeque<FarRecord>,
}

/// What became of the snapshots since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotFigures {
    /// Those that are whole.
    pub taken: u64,
    /// Those that failed.
    pub failed: u64,
    /// Length of the newest whole one, in bytes.
    pub newest_bytes: u64,
}

/// What a whole walk ended with: the state that its records add up to.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotEnd {
    /// What has to be in the log before anybody may see the snapshot.
    pub depends_on: DependsOn,
    /// Jobs by state, in the order of [`JobState::ALL`].
    pub jobs: [u64; JobState::ALL.len()],
    /// How much there is.
    pub counts: SnapshotCounts,
}

impl Host {
    /// Begins to walk over everything; `None` if somebody does already.
    pub fn begin_snapshot(self: &Arc<Host>) -> Option<Walk> {
        let (begun, _) = self.with(|shared, _| shared.engine.begin_snapshot());
        begun.then(|| Walk {
            host: self.clone(),
            objects: FIRST_OBJECTS,
            wanted: Vec::new(),
            pin: None,
            far: None,
            waits_to_end: false,
            is_over: false,
        })
    }

    /// Lets commands be decided again after a walk that ended with `freeze`.
    pub fn thaw(&self) {
        self.with(|shared, _| shared.is_frozen = false);
        self.thawed.notify_waiters();
    }

    /// Waits while nothing may be decided.
    pub async fn wait_until_thawed(&self) {
        loop {
            let thawed = self.thawed.notified();
            if !self.look(|shared| shared.is_frozen) {
                return;
            }
            thawed.await;
        }
    }
}

impl Walk {
    /// Goes on for a slice, or only looks after the changes since the last one if not told to `walk`. Records are
    /// put into `group`, which is to be empty.
    ///
    /// It blocks for some slices' time at the most. Once it has returned an end there is nothing more to come.
    pub fn step(&mut self, group: &mut Group, walk: bool, at_end: WalkEnd) -> Option<SnapshotEnd> {
        if self.is_over {
            return None;
        }
        let far = if walk { self.far_records() } else { None };
        let (took, end) = match far {
            Some((records, is_all)) => (self.far_slice(group, &records, is_all), None),
            None => self.slice(group, walk, at_end),
        };
        if walk {
            self.objects = match took {
                took if took > SLICE => (self.objects / 2).max(1),
                took if took < SLICE / 2 => (self.objects * 2).min(STEP_OBJECTS),
                _ => self.objects,
            };
            // Those who wait for the lock get it.
            std::thread::sleep(took.min(SLICE));
        }
        end
    }

    fn slice(&mut self, group: &mut Group, walk: bool, at_end: WalkEnd) -> (Duration, Option<SnapshotEnd>) {
        let bodies = self.read_wanted();
        let Walk { wanted, pin, .. } = self;
        let (objects, mut end, mut took) = (self.objects, None, Duration::ZERO);
        let mut waits = false;
        let ((), depends_on) = self.host.with(|shared, now| {
            let since = Instant::now();
            shared.engine.give_to_snapshot(bodies);
            waits = at_end == WalkEnd::Waits && shared.engine.is_snapshot_near_end();
            let is_done = walk && !waits && shared.engine.snapshot_slice(objects, now);
            shared.engine.take_snapshot_records(group);
            if is_done {
                shared.is_frozen = at_end == WalkEnd::Freezes;
                end = shared.engine.end_snapshot().map(|counts| (shared.engine.totals().by_state, counts));
            }
            if walk && !is_done {
                *wanted = shared.engine.snapshot_wants(objects);
                *pin = (!wanted.is_empty()).then(|| shared.pins.pin());
            }
            took = since.elapsed();
        });
        (self.waits_to_end, self.is_over) = (waits, end.is_some());
        (took, end.map(|(jobs, counts)| SnapshotEnd { depends_on, jobs, counts }))
    }

    /// The next records of the far segment that the walk is in, if it is in one, and whether they are the last. Where they
    /// cannot be read the log has failed, and the process stops: the walk goes no further.
    fn far_records(&mut self) -> Option<(Vec<FarRecord>, bool)> {
        let segment = self.host.look(|shared| shared.engine.snapshot_far_segment())?;
        Some(self.read_far(segment).unwrap_or_else(|error| {
            self.host.far_failed(error);
            (Vec::new(), false)
        }))
    }

    fn read_far(&mut self, segment: u64) -> Result<(Vec<FarRecord>, bool), FarError> {
        if self.far.as_ref().is_none_or(|far| far.segment != segment) {
            let files = &self.host.far.as_ref().expect("far jobs are in a log").files;
            self.far = Some(FarWalk { segment, groups: files.records(segment)?, records: VecDeque::new() });
        }
        let FarWalk { groups, records, .. } = self.far.as_mut().expect("it was just begun");
        while records.len() < self.objects {
            let group = groups.as_mut().map_or(Ok(None), FarRecords::next_group)?;
            let Some(group) = group else { break };
            records.extend(group);
        }
        let mut bytes = 0;
        let fitting = records.iter().take(self.objects).take_while(|record| {
            let fits = bytes < KEPT_SLICE_BYTES;
            bytes += record.body_bytes();
            fits
        });
        let count = fitting.count();
        // What was read ahead is never less than a slice, but at the end.
        let is_all = count == records.len() && count < self.objects;
        Ok((records.drain(..count).collect(), is_all))
    }

    fn far_slice(&mut self, group: &mut Group, records: &[FarRecord], is_all: bool) -> Duration {
        let (took, _) = self.host.with(|shared, now| {
            let since = Instant::now();
            shared.engine.snapshot_far(records, is_all, now);
            shared.engine.take_snapshot_records(group);
            since.elapsed()
        });
        took
    }

    /// Reads the bodies that the slice before stopped at. Where that fails the log has failed, and the process stops: the
    /// walk goes no further.
    fn read_wanted(&mut self) -> Vec<BodyRead> {
        let wanted = std::mem::take(&mut self.wanted);
        let read = self.host.read_bodies(&wanted).unwrap_or_default();
        self.pin = None;
        read
    }

    /// Whether all but the last of it was walked over, and the step before was not to end.
    #[must_use]
    pub fn waits_to_end(&self) -> bool {
        self.waits_to_end
    }

    /// Bytes of records that wait to be taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        if self.is_over { 0 } else { self.host.look(|shared| shared.engine.snapshot_bytes() as u64) }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if !self.is_over {
            self.host.with(|shared, _| shared.engine.end_snapshot());
        }
    }
}
