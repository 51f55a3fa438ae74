//! Jobs that came to nothing are known to those that are put behind them, for a day, whatever becomes of the server meanwhile.

use crate::world::{STORE, World};
use rota_engine::command::{Command, Due, Parent};
use rota_engine::job::{JobId, JobState, Time};
use rota_engine::limits::FAILED_REMEMBERED_FOR;
use rota_engine::log::{Group, open};
use rota_engine::testing::storage::SimulatedDisk;
use std::time::Duration;

const NOW: Due = Due::In(Duration::ZERO);
const START: Time = Time(1_700_000_000_000_000_000);

impl World {
    /// A job that was cancelled, one that expired, and one that was done.
    fn with_ended() -> (World, [JobId; 3]) {
        let mut world = World::start(SimulatedDisk::new(), START);
        let second = Duration::from_secs(1);
        let ended = [None, Some(Due::In(second)), None].map(|expires| world.put(NOW, expires, &[]));
        world.ask(Command::Cancel(ended[0]));
        world.ask(Command::ReserveJob(ended[2]));
        world.ask(Command::Delete(ended[2]));
        assert!(world.engine.tick(START.after(second)));
        world.commit();
        assert_eq!(world.engine.totals().open(), 0);
        (world, ended)
    }

    /// Whether a job that is put behind each of them comes to nothing too, at once.
    fn fails_with(&mut self, parents: &[JobId]) -> Vec<bool> {
        let put = |&parent: &JobId| {
            let child = self.put(NOW, None, &[Parent::Id(parent)]);
            let state = self.engine.job(child).map(|job| job.state);
            assert!(matches!(state, None | Some(JobState::Ready)), "{state:?}");
            state.is_none()
        };
        parents.iter().map(put).collect()
    }
}

#[test]
fn a_start_knows_which_jobs_came_to_nothing() {
    let (mut world, ended) = World::with_ended();
    assert_eq!(world.fails_with(&ended), [true, true, false]);
    let mut again = world.restart(START);
    assert_eq!(again.fails_with(&ended), [true, true, false]);
    let day = START.after(FAILED_REMEMBERED_FOR);
    // The second one failed a second later.
    let mut later = again.restart(day);
    assert_eq!(later.fails_with(&ended), [false, true, false]);
}

#[test]
fn a_snapshot_knows_which_jobs_came_to_nothing() {
    let (mut world, ended) = World::with_ended();
    let into = SimulatedDisk::new();
    let (mut writer, _) = open(into.clone(), STORE, &mut |_| Ok(())).expect("it is empty");
    assert!(world.engine.begin_snapshot());
    let now = world.engine.now();
    let mut group = Group::default();
    // One more while it is under way.
    let late = world.put(NOW, None, &[]);
    while !world.engine.snapshot_slice(1, now) {
        if world.engine.job(late).is_some() {
            world.ask(Command::Cancel(late));
        }
    }
    assert!(world.engine.take_snapshot_records(&mut group));
    writer.write(&mut group).expect("the disk takes it");
    writer.close().expect("the disk is well");
    let mut restored = World::start(into, START);
    assert_eq!(restored.fails_with(&[ended[0], ended[1], ended[2], late]), [true, true, false, true]);
}
