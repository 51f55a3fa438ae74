//! How a simulation ends a life of the engine and begins the next one.

use super::keeper::Keeper;
use super::{Faults, Past, Simulation, Sync};
use crate::engine::{BodyHome, Engine, Options};
use crate::far::{FarError, FarFiles, FarRecord};
use crate::job::{JobId, Time};
use crate::limits::{DEFAULT_SPOKE, NUMBER_BLOCK};
use crate::log::{LogWriter, Lsn, OpenError, Recovery, SegmentError};
use crate::storage::Storage;
use crate::testing::calendar::PlainCalendar;
use crate::testing::lockstep::{Lockstep, load};
use crate::testing::model::{Model, Outcome};
use crate::testing::random::Random;
use crate::testing::storage::{Crash, SimulatedDisk};
use crate::testing::workload::Input;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const STORE: [u8; 16] = *b"a simulated disk";

/// Options of some start: their values must not matter.
pub(super) fn options(random: &mut Random) -> Options {
    let spoke = *random.pick(&[DEFAULT_SPOKE, Duration::from_nanos(1), Duration::from_millis(7), Duration::MAX]);
    let bodies = *random.pick(&[BodyHome::Memory, BodyHome::Log]);
    let seconds = Duration::from_secs;
    let near = *random.pick(&[None, Some(Duration::ZERO), Some(seconds(1)), Some(seconds(60))]);
    let (number_block, far_files) = (*random.pick(&[16, 200, 4096, NUMBER_BLOCK]), *random.pick(&[1, 3, 500]));
    Options { spoke, number_block, bodies, near, far_files, ..Options::default() }
}

impl Simulation {
    /// Everything stops where it is.
    pub(super) fn crash(&mut self) {
        self.report.crashes += 1;
        let kind = self.crash_kind();
        // What the disk said may be told even if the process dies right after.
        self.tell();
        self.restart(kind);
    }

    /// The engine stops in good order, and starts again.
    pub(super) fn stop(&mut self) {
        self.report.stops += 1;
        let now = self.both.model.now();
        let numbers = self.both.engine.next_numbers();
        self.feed(Input::Stop, now);
        if self.flush().is_err() {
            return self.crash();
        }
        let writer = self.writer.take().expect("there is a log");
        let is_closed = writer.close().is_ok();
        let kind = self.crash_kind();
        let broken = self.report.broken_starts;
        self.restart(kind);
        if is_closed && self.report.broken_starts == broken {
            let next = |(_, past): &(Lsn, Past)| match past {
                Past::Started { next_job_id, .. } => Some(*next_job_id),
                _ => None,
            };
            assert_eq!(self.past.iter().rev().find_map(next), Some(numbers.0), "an orderly stop wastes no ids");
        }
    }

    fn crash_kind(&mut self) -> Crash {
        *self.random.pick(&Crash::ALL)
    }

    fn restart(&mut self, kind: Crash) {
        self.writer = None;
        self.taken.clear();
        self.keeper = Keeper::default();
        self.bodies.clear();
        self.disk = self.disk.restart(kind, self.random.bits());
        self.disk.set_capacity(self.habits.capacity_bytes);
        let hour = 3_600_000_000_000;
        let wall = self.both.model.wall().0.max(hour);
        let wall = match self.random.below(24) {
            0..4 => wall - self.random.below(hour),
            4..8 => wall + self.random.below(hour),
            8 => wall.saturating_sub(self.random.below(48 * hour)),
            9 => wall + self.random.below(48 * hour),
            _ => wall + self.random.below(10_000_000_000),
        };
        let is_promise_kept = self.sync == Sync::Always || kind == Crash::KeepWritten;
        self.start(Time(wall), is_promise_kept);
    }

    /// Starts an engine on what is on the disk, however often it takes.
    pub(super) fn start(&mut self, wall: Time, is_promise_kept: bool) {
        let mut is_promise_kept = is_promise_kept;
        loop {
            let may_break = matches!(self.plan.faults, Faults::Crashes | Faults::All) && self.random.chance(1, 4);
            if may_break {
                self.disk.die_after(self.random.below(30));
            }
            let options = options(&mut self.random);
            match Engine::recover_with_far(options, self.disk.clone(), STORE, wall) {
                Ok((engine, writer, recovery, far)) => {
                    self.far = Arc::new(far.through(self.disk.observer()));
                    self.near = options.near.unwrap_or(Duration::MAX);
                    if self.random.chance(1, 4) {
                        self.compare_second_recovery(&engine, recovery.first_segment, options, wall);
                    }
                    if self.begin(engine, writer, &recovery, wall, is_promise_kept).is_ok() {
                        return;
                    }
                }
                Err(OpenError::Io { .. }) if may_break => {}
                Err(OpenError::Far(FarError::Io { .. } | FarError::Segment(SegmentError::Io { .. }))) if may_break => {}
                Err(error) => panic!("the start is refused: {error:?}"),
            }
            assert!(may_break, "a start fails though the disk does not");
            self.report.broken_starts += 1;
            let kind = *self.random.pick(&Crash::ALL);
            is_promise_kept &= self.sync == Sync::Always || kind == Crash::KeepWritten;
            self.writer = None;
            self.taken.clear();
            self.bodies.clear();
            self.disk = self.disk.restart(kind, self.random.bits());
        }
    }

    /// Looks at what was recovered, and goes on with it.
    fn begin(
        &mut self,
        engine: Engine,
        writer: LogWriter<SimulatedDisk>,
        recovery: &Recovery,
        wall: Time,
        is_promise_kept: bool,
    ) -> Result<(), crate::log::LogError> {
        let recovered = Lsn(recovery.next_lsn.0 - 1);
        self.report.torn += u64::from(recovery.torn.is_some());
        self.model_at(recovered);
        assert_eq!(
            recovery.last_at,
            if recovered == Lsn(0) { Time(0) } else { self.checkpoint.now() },
            "the newest moment"
        );
        assert!(engine.now() >= wall && engine.now() >= recovery.last_at, "engine time goes on");
        let cold = engine.cold_records(&self.far);
        self.report.set_while_far += u64::from(cold.iter().any(goes_by_clock));
        self.ledger.after_crash(&engine, &cold, &self.disk, recovered, is_promise_kept);

        let now = engine.now();
        let mut engine = engine;
        load(&mut engine, &self.far, now.after(self.near));
        engine.set_calendar(Arc::new(PlainCalendar));
        let (next_job_id, _) = engine.next_numbers();
        let is_cold = |id: &JobId| engine.job(*id).is_none();
        let jobs = || self.checkpoint.jobs().keys().copied();
        let homeless = jobs().filter(|id| engine.is_homeless(*id) || is_cold(id)).collect();
        let not_in_memory = jobs().filter(is_cold).collect();
        while !engine.tick(now) {}
        let turns = engine.take_turns();
        // A job that was written again brought its count along.
        let cold: BTreeMap<JobId, u32> = cold.iter().map(|record| (record.job(), record.kept.tally.reserves)).collect();
        let count = |id| engine.job(id).map(|job| job.tally.reserves).or_else(|| cold.get(&id).copied());
        let known = |&id| Some((id, count(id)?)).filter(|&(_, reserves)| reserves > 0);
        let reserves = self.checkpoint.jobs().keys().filter_map(known).collect();
        let epoch = engine.epoch();
        let started =
            Past::Started { at: now, wall, epoch, next_job_id, reserves, turns, homeless, cold: not_in_memory };
        let mut model = self.checkpoint.clone();
        let fired = happen_again(&mut model, &started);
        self.past.push((engine.last_record(), started));
        self.both = Lockstep::new(engine, model).on(self.disk.clone()).with_far(self.far.clone(), self.near);
        self.both.check();
        let past = self.both.engine.session_of_the_past();
        self.report.resumed += past.map_or(0, |session| self.both.engine.leases_of(session) as u64);
        self.write_down(&Input::Tick, Outcome { fired, ..Outcome::default() });

        self.writer = Some(writer);
        self.tell_room();
        self.help_out();
        self.flush()
    }

    /// Winds the checkpoint forward to what the log says up to `recovered`, and forgets what came after.
    fn model_at(&mut self, recovered: Lsn) {
        let past = std::mem::take(&mut self.past);
        let mut at = self.checkpoint_lsn;
        for (lsn, past) in past {
            if at >= recovered {
                break;
            }
            happen_again(&mut self.checkpoint, &past);
            at = lsn;
        }
        assert_eq!(at, recovered, "the log was cut in the middle of one command's records");
        self.checkpoint_lsn = recovered;
    }

    /// A start changes nothing on the disk but what it cuts off: a second one finds the same.
    fn compare_second_recovery(&mut self, engine: &Engine, first: u64, options: Options, wall: Time) {
        let disk = self.disk.copy();
        let segments = disk.segments().expect("this disk is well");
        let needed = segments.iter().copied().filter(|&segment| segment >= first);
        assert!(needed.clone().eq((first..).take(needed.count())), "segments without gaps");
        let recovered = Engine::recover_with_far(options, disk, STORE, wall);
        let (second, _, recovery, far) = recovered.expect("it could be read before");
        assert!(recovery.torn.is_none(), "what was cut off stays so");
        let text = |engine: &Engine, far: &FarFiles<SimulatedDisk>| {
            engine.durable_text_with(engine.now(), &|place| self.disk.body(place), &engine.cold_records(far))
        };
        assert_eq!(text(&second, &far), text(engine, &self.far), "a second recovery");
        assert_eq!(second.now(), engine.now());
        assert_eq!(second.next_numbers(), engine.next_numbers());
        assert_eq!(second.epoch(), engine.epoch());
    }

    /// What the wall clock has to show when a log is started, so that it is as it was by that log: what waits for moments of it
    /// is then as it was. `None` if that cannot be, and something waits for it.
    pub(super) fn wall_of_a_start(&mut self, disk: &SimulatedDisk, store: [u8; 16]) -> Option<Time> {
        let model = &self.both.model;
        if !model.jobs().values().any(|job| job.at_wall.is_some()) {
            return Some(model.wall());
        }
        // Engine time goes on from the last record, or from the wall clock if that is later.
        let behind = model.now().0.checked_sub(model.wall().0)?;
        let recovered = Engine::recover(options(&mut self.random), disk.copy(), store, Time(0));
        let (.., recovery) = recovered.expect("what was written can be read");
        recovery.last_at.0.checked_sub(behind).map(Time)
    }

    /// A replay of the log gives the state that wrote it.
    pub(super) fn compare_with_replay(&mut self) {
        let Some(writer) = &self.writer else { return };
        let is_written = writer.written() == self.both.engine.last_record();
        if !is_written || !self.random.chance(1, 8) {
            return;
        }
        let now = self.both.model.now();
        let Some(wall) = self.wall_of_a_start(&self.disk.clone(), STORE) else { return };
        let recovered = Engine::recover_with_far(options(&mut self.random), self.disk.copy(), STORE, wall);
        let (replayed, _, _, far) = recovered.expect("what was written can be read");
        replayed.check();
        let now = now.max(replayed.now());
        let text = |engine: &Engine, far: &FarFiles<SimulatedDisk>| {
            engine.durable_text_with(now, &|place| self.disk.body(place), &engine.cold_records(far))
        };
        assert_eq!(text(&replayed, &far), text(&self.both.engine, &self.far), "a replay of the log");
    }
}

/// Whether a job was put for a moment of the wall clock, or expires at one.
pub(super) fn goes_by_clock(record: &FarRecord) -> bool {
    record.needed_by().wall < Time::NEVER
}

/// Returns the jobs that ticks put.
fn happen_again(model: &mut Model, past: &Past) -> Vec<(JobId, Vec<u8>)> {
    match past {
        Past::Input { input, at, said } => model.apply(input, *at, said).fired,
        Past::Kept => Vec::new(),
        Past::Started { at, wall, epoch, next_job_id, reserves, turns, homeless, cold } => {
            model.restart((*at, *wall), *epoch, *next_job_id, reserves, turns, (homeless, cold))
        }
    }
}
