//! An engine on a simulated disk, where all that was decided is committed at once, and which gives what is ready to nobody.

use rota_engine::command::{Answer, Command, Due, NewJob, Parent, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::log::{Group, LogWriter};
use rota_engine::session::SessionId;
use rota_engine::testing::storage::{Crash, SimulatedDisk};

pub(crate) const STORE: [u8; 16] = *b"a simulated disk";

pub(crate) struct World {
    pub(crate) engine: Engine,
    writer: LogWriter<SimulatedDisk>,
    disk: SimulatedDisk,
    pub(crate) session: SessionId,
}

/// The queue that jobs are put into.
pub(crate) fn work() -> QueueName {
    QueueName::new("work").expect("a name")
}

impl World {
    pub(crate) fn start(disk: SimulatedDisk, wall: Time) -> World {
        let recovered = Engine::recover(Options::default(), disk.clone(), STORE, wall);
        let (mut engine, writer, _) = recovered.expect("it can be read");
        let session = engine.open_session().expect("there is room");
        let mut world = World { engine, writer, disk, session };
        world.commit();
        world
    }

    /// Everything stops, what was committed is there again, and the wall clock shows `wall`.
    pub(crate) fn restart(self, wall: Time) -> World {
        World::start(self.disk.restart(Crash::KeepSynced, 7), wall)
    }

    pub(crate) fn commit(&mut self) {
        let mut group = Group::default();
        if self.engine.take_records(&mut group) {
            self.writer.write(&mut group).expect("the disk takes it");
        }
        self.writer.sync().expect("the disk syncs");
        self.engine.check();
    }

    pub(crate) fn ask(&mut self, command: Command<'_>) -> Answer {
        let now = self.engine.now();
        let answer = self.engine.execute(self.session, command, now).expect("it is not refused");
        self.commit();
        answer
    }

    pub(crate) fn put(&mut self, due: Due, expires: Option<Due>, after: &[Parent<'_>]) -> JobId {
        let queue = work();
        let job = NewJob { due, expires, after, ..NewJob::new(Target::Named(&queue), (*b"work").into()) };
        let Answer::Put(id) = self.ask(Command::Put(job)) else { panic!("it is new") };
        id
    }
}
