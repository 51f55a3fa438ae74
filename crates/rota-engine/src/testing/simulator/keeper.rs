//! What a server does beside commands, in a simulation: it reclaims segments, takes snapshots, sets room aside on the disk
//! and tells the engine how much there is.

use super::{Past, Simulation};
use crate::engine::{Engine, Room};
use crate::far::{FarError, FarRecord};
use crate::limits::RECORD_OVERHEAD_BYTES;
use crate::log::{self, Compaction, Group, LogError, LogStats, LogWriter, Lsn, SegmentError, is_due, is_over};
use crate::storage::{Storage, is_full};
use crate::testing::random::Random;
use crate::testing::storage::SimulatedDisk;
use std::io;

const SNAPSHOT_STORE: [u8; 16] = *b"another disk....";

/// What is under way. A crash ends all of it.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    compaction: Option<Compaction<SimulatedDisk>>,
    /// Once this record is durable, no segment before that one is needed.
    finished: Option<(Lsn, u64)>,
    snapshot: Option<LogWriter<SimulatedDisk>>,
    is_disk_full: bool,
    /// Far segments that nobody needs once the log's newest header says that no start needs those before that one.
    emptied: Vec<(u64, u64)>,
    /// What a snapshot was not given yet of the far segment that it is in.
    far_records: Vec<FarRecord>,
    far_segment: Option<u64>,
}

/// What a simulation does of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// One step in so many is the keeper's.
    pub(super) every: u64,
    /// It reclaims segments whenever it can, not just when it should.
    is_eager: bool,
    /// The disk has room for so many bytes, and the engine is told.
    pub(super) capacity_bytes: Option<u64>,
}

impl Habits {
    pub(super) fn new(random: &mut Random, segment_bytes: u64) -> Habits {
        let is_bounded = segment_bytes > 50_000 && random.chance(1, 2);
        let capacity = segment_bytes * (5 + random.below(4));
        Habits {
            every: *random.pick(&[3, 20, 200]),
            is_eager: random.chance(1, 2),
            capacity_bytes: is_bounded.then_some(capacity),
        }
    }
}

/// Why the keeper's step was its last.
pub(super) enum Failed {
    Disk,
}

impl From<LogError> for Failed {
    fn from(_: LogError) -> Failed {
        Failed::Disk
    }
}

impl From<FarError> for Failed {
    fn from(error: FarError) -> Failed {
        let is_disk = matches!(error, FarError::Io { .. } | FarError::Segment(SegmentError::Io { .. }));
        assert!(is_disk, "what was closed is whole: {error}");
        Failed::Disk
    }
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Failed {
        Failed::Disk
    }
}

impl Simulation {
    pub(super) fn keeper_step(&mut self) {
        let done = match self.random.below(12) {
            0 => self.forget_history(),
            1 => self.set_aside(),
            2..5 => self.snapshot_step(),
            _ => (0..1 + self.random.below(12)).try_for_each(|_| self.compaction_step()),
        };
        self.tell_room();
        if done.is_err() {
            self.crash();
        }
    }

    fn stats(&self) -> LogStats {
        self.writer.as_ref().expect("the keeper works where there is a log").stats()
    }

    fn compaction_step(&mut self) -> Result<(), Failed> {
        let stats = self.stats();
        let now = self.both.model.now();
        if let Some((lsn, segment)) = self.keeper.finished {
            if self.writer.as_ref().is_some_and(|writer| writer.durable() >= lsn) {
                // Where all bodies are is known before a segment goes.
                while !self.bodies.is_empty() {
                    self.tell_bodies(usize::MAX);
                }
                let writer = self.writer.as_mut().expect("there is a log");
                writer.need_only_from(segment);
                self.keeper.finished = None;
                if is_over(&writer.stats(), self.both.engine.live_bytes()) || self.random.chance(1, 4) {
                    self.close_segment()?;
                }
            }
            return Ok(());
        }
        let Some(compaction) = &mut self.keeper.compaction else {
            let can_begin = stats.needed_from < stats.newest_segment;
            let wants = self.habits.is_eager || is_due(&stats, self.both.engine.live_bytes());
            if can_begin && wants && self.both.engine.has_room_to_compact() {
                let leave_after = self.both.engine.leaves_after();
                self.keeper.compaction =
                    Some(Compaction::begin(&self.disk, &self.far, stats.needed_from, leave_after)?);
            }
            return Ok(());
        };
        match compaction.read() {
            Ok(true) => {
                let before = compaction.left();
                compaction.keep(&mut self.both.engine, now);
                self.report.left += compaction.left() - before;
            }
            Ok(false) => {
                let lsn = compaction.finish(&mut self.both.engine, now);
                let needed_from = compaction.segment() + 1;
                self.keeper.finished = Some((lsn, needed_from));
                self.keeper.compaction = None;
                let emptied = self.both.engine.drop_empty_far_segments();
                self.keeper.emptied.extend(emptied.into_iter().map(|segment| (needed_from, segment)));
                self.report.compactions += 1;
            }
            // What nobody needs goes with the header of the next segment.
            Err(error) if error.is_disk_full() => self.close_segment()?,
            Err(error) => return Err(error.into()),
        }
        self.past.push((self.both.engine.last_record(), Past::Kept));
        Ok(())
    }

    /// Closes the segment under way so that what nobody needs can go, unless the disk is full and ends of jobs may need that room.
    fn close_segment(&mut self) -> Result<(), Failed> {
        let writer = self.writer.as_mut().expect("the keeper works where there is a log");
        let has_room = !self.keeper.is_disk_full || self.both.engine.can_begin_segment(writer);
        if writer.stats().needless_bytes > 0 && has_room {
            writer.close_segment()?;
        }
        Ok(())
    }

    /// Takes the oldest of the segments away that nobody needs.
    fn forget_history(&mut self) -> Result<(), Failed> {
        let oldest = self.stats().oldest_segment;
        let far = &self.far;
        self.keeper.emptied.retain(|&(needed_from, segment)| {
            if needed_from <= oldest {
                far.close(segment);
            }
            needed_from > oldest
        });
        for name in far.needless(self.disk.beside()?, oldest) {
            self.disk.remove_beside(name)?;
        }
        let segments = self.disk.segments()?.into_iter();
        let history = segments.take_while(|&segment| segment < oldest).filter(|&segment| !far.has(segment));
        for segment in history.take(3).collect::<Vec<_>>() {
            self.disk.remove(segment)?;
            if self.random.chance(1, 2) {
                self.disk.sync_names()?;
            }
        }
        Ok(())
    }

    /// Sets room aside as a server does; a full disk is no failure.
    fn set_aside(&mut self) -> Result<(), Failed> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if self.habits.capacity_bytes.is_none() {
            return Ok(());
        }
        let mut aside = self.disk.set_aside_beside(self.both.engine.open_file_bytes());
        while aside.is_ok() && writer.stats().room < self.both.engine.wanted_room() + writer.stats().segment_bytes {
            aside = self.disk.set_aside().inspect(|()| writer.add_spare());
        }
        self.keeper.is_disk_full = match aside {
            Ok(()) => false,
            Err(error) if is_full(&error) => true,
            Err(_) => return Err(Failed::Disk),
        };
        Ok(())
    }

    /// Starts, and reclaiming that a crash cut off, have used up the room set aside on a full disk: somebody gives it more.
    pub(super) fn help_out(&mut self) {
        let Some(capacity) = self.habits.capacity_bytes else { return };
        let stats = self.stats();
        if stats.room < self.both.engine.wanted_room() + stats.segment_bytes / 2 {
            let capacity = capacity + 2 * stats.segment_bytes;
            self.habits.capacity_bytes = Some(capacity);
            self.disk.set_capacity(Some(capacity));
        }
    }

    /// Has room set aside where it runs short, and tells the engine how much there is, where that is bounded.
    pub(super) fn tell_room(&mut self) {
        if self.habits.capacity_bytes.is_none() || self.writer.is_none() {
            return;
        }
        let wanted = self.both.engine.wanted_room();
        let stats = self.stats();
        if !self.keeper.is_disk_full && stats.room < wanted + stats.segment_bytes / 4 {
            // A disk that fails here fails at the next write too.
            let _ = self.set_aside();
        }
        let stats = self.stats();
        let on_its_way: u64 = self.taken.iter().map(|group| group.bytes() as u64 + RECORD_OVERHEAD_BYTES).sum();
        let free = stats.room.saturating_sub(on_its_way);
        let room = Room { free, segment_bytes: stats.segment_bytes, is_all: self.keeper.is_disk_full };
        self.both.engine.set_room(room);
    }

    fn snapshot_step(&mut self) -> Result<(), Failed> {
        let now = self.both.model.now();
        let Some(target) = &mut self.keeper.snapshot else {
            if self.random.chance(1, 8) {
                let disk = SimulatedDisk::new();
                disk.set_segment_bytes(Some(4096));
                let opened = log::open(disk, SNAPSHOT_STORE, &mut |_| Ok(())).expect("this disk is well");
                self.keeper.snapshot = Some(opened.0);
                assert!(self.both.engine.begin_snapshot(), "no other snapshot is under way");
                self.keeper.far_segment = None;
            }
            return Ok(());
        };
        let most = 1 + usize::try_from(self.random.below(40)).expect("a small number");
        if let Some(segment) = self.both.engine.snapshot_far_segment() {
            return self.snapshot_far_step(segment, most);
        }
        if self.random.chance(1, 2) {
            let places = self.both.engine.snapshot_wants(most);
            let read = places.into_iter().map(|place| (place.job, self.disk.body(place))).collect();
            self.both.engine.give_to_snapshot(read);
        }
        let is_done = self.both.engine.snapshot_slice(most, now);
        if is_done || self.random.chance(1, 3) {
            let mut group = Group::default();
            if self.both.engine.take_snapshot_records(&mut group) {
                target.write(&mut group).expect("its disk is well");
            }
        }
        if is_done {
            self.compare_with_snapshot();
        }
        Ok(())
    }

    fn snapshot_far_step(&mut self, segment: u64, most: usize) -> Result<(), Failed> {
        if self.keeper.far_segment != Some(segment) {
            let mut records = Vec::new();
            match self.far.records(segment)? {
                Some(mut reader) => {
                    while let Some(group) = reader.next_group()? {
                        records.extend(group);
                    }
                }
                // Its last jobs ended since the walk came to it, and it was given up.
                None => {
                    let mut left = self.both.engine.far_segments().filter(|&(number, ..)| number == segment);
                    assert!(left.all(|(.., open)| open == 0), "segment {segment} is given up, and has open jobs");
                }
            }
            self.keeper.far_records = records;
            self.keeper.far_segment = Some(segment);
        }
        let now = self.both.model.now();
        let rest = self.keeper.far_records.split_off(most.min(self.keeper.far_records.len()));
        let given = std::mem::replace(&mut self.keeper.far_records, rest);
        self.both.engine.snapshot_far(&given, self.keeper.far_records.is_empty(), now);
        Ok(())
    }

    /// What was snapshot is what is there, at the moment that the snapshot ends.
    fn compare_with_snapshot(&mut self) {
        let target = self.keeper.snapshot.take().expect("it was just done");
        let counts = self.both.engine.end_snapshot().expect("it was just done");
        let disk = target.storage().clone();
        let there = disk.clone();
        target.close().expect("its disk is well");
        self.report.snapshots += 1;
        let now = self.both.model.now();
        let as_it_was = self.wall_of_a_start(&disk, SNAPSHOT_STORE);
        let wall = as_it_was.unwrap_or_else(|| self.both.model.wall());
        let options = super::crash::options(&mut self.random);
        let (restored, ..) = Engine::recover(options, disk, SNAPSHOT_STORE, wall).expect("a snapshot can be read");
        restored.check();
        assert_eq!(counts.jobs, restored.totals().open(), "jobs of a snapshot");
        assert!(restored.next_numbers().0 >= self.both.engine.next_numbers().0, "ids go on");
        if as_it_was.is_none() {
            return;
        }
        let now = now.max(restored.now());
        let restored = restored.durable_text_with(now, &|place| there.body(place), &[]);
        let cold = self.both.engine.cold_records(&self.far);
        let lives = self.both.engine.durable_text_with(now, &|place| self.disk.body(place), &cold);
        assert_eq!(restored, lives, "what was snapshot");
    }
}
