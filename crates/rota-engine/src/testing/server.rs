//! An engine on a simulated disk, each command of which is durable at once, and the reclaiming of its segments: for the
//! crate's own tests of what is in a log and beside it.

use crate::command::{Answer, Command, Due, NewJob, Refusal, Target};
use crate::engine::{Engine, Options};
use crate::far::{FarError, FarFiles, FarFound, Want};
use crate::job::{JobId, Priority, QueueName, Time};
use crate::log::{Compaction, Group, LogWriter, OpenError};
use crate::session::SessionId;
use crate::testing::storage::SimulatedDisk;
use std::sync::Arc;
use std::time::Duration;

/// The store of all of them.
pub(crate) const STORE: [u8; 16] = *b"a simulated disk";

pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) writer: LogWriter<SimulatedDisk>,
    pub(crate) files: Arc<FarFiles<SimulatedDisk>>,
    pub(crate) disk: SimulatedDisk,
    pub(crate) session: SessionId,
    pub(crate) now: Time,
}

impl Server {
    pub(crate) fn start(disk: SimulatedDisk, segment_bytes: u64, options: Options) -> Result<Server, OpenError> {
        Server::start_at(disk, segment_bytes, options, Time(1_000))
    }

    /// The same, where the wall clock shows `wall`.
    pub(crate) fn start_at(
        disk: SimulatedDisk,
        segment_bytes: u64,
        options: Options,
        wall: Time,
    ) -> Result<Server, OpenError> {
        disk.set_segment_bytes(Some(segment_bytes));
        // One that reserves its numbers once.
        let options = Options { number_block: 1 << 40, ..options };
        let (mut engine, writer, _, far) = Engine::recover_with_far(options, disk.clone(), STORE, wall)?;
        let session = engine.open_session().expect("the first one");
        let now = engine.now();
        Ok(Server { engine, writer, files: Arc::new(far), disk, session, now })
    }

    pub(crate) fn commit(&mut self) {
        let mut group = Group::default();
        self.engine.take_records(&mut group);
        self.writer.write(&mut group).expect("the disk takes it");
        self.engine.bodies_written(&group.bodies_written());
        self.writer.sync().expect("the disk syncs");
    }

    pub(crate) fn find(&self, want: &Want) -> FarFound {
        self.files.find(want, &mut |entries| self.engine.are_cold(entries)).expect("what is far can be read")
    }

    pub(crate) fn try_ask(&mut self, command: Command<'_>) -> Result<Answer, Refusal> {
        self.now = self.now.after(Duration::from_millis(1));
        let near = self.engine.wanted(self.session, &command, self.now).map(|want| self.find(&want));
        near.iter().for_each(|near| _ = self.engine.take_found(near, self.now));
        let answer = self.engine.execute(self.session, command, self.now);
        near.iter().for_each(|near| self.engine.let_go(near));
        self.engine.check();
        self.commit();
        answer
    }

    pub(crate) fn ask(&mut self, command: Command<'_>) -> Answer {
        self.try_ask(command).expect("it is not refused")
    }

    pub(crate) fn put(&mut self, queue: &QueueName, delay: Duration, body: &[u8]) -> JobId {
        self.put_with_key(queue, delay, None, body)
    }

    pub(crate) fn put_with_key(
        &mut self,
        queue: &QueueName,
        delay: Duration,
        key: Option<&[u8]>,
        body: &[u8],
    ) -> JobId {
        let job = NewJob {
            priority: Priority(1),
            due: Due::In(delay),
            key,
            ..NewJob::new(Target::Named(queue), body.into())
        };
        match self.ask(Command::Put(job)) {
            Answer::Put(id) => id,
            answer => panic!("{answer:?}"),
        }
    }

    /// Reclaims the oldest segment, up to where the next header says so. Returns how many jobs were written again.
    pub(crate) fn compact(&mut self) -> Result<u64, FarError> {
        let segment = self.writer.stats().needed_from;
        let leaves_after = self.engine.leaves_after();
        let mut compaction = Compaction::begin(&self.disk, &self.files, segment, leaves_after)?;
        while compaction.read()? {
            if compaction.waits(&self.engine) {
                crate::testing::lockstep::load(&mut self.engine, &self.files, self.now);
            }
            compaction.keep(&mut self.engine, self.now);
            self.engine.check();
            self.commit();
        }
        let lsn = compaction.finish(&mut self.engine, self.now);
        self.commit();
        assert!(self.writer.durable() >= lsn);
        self.writer.need_only_from(segment + 1);
        for empty in self.engine.drop_empty_far_segments() {
            self.files.close(empty);
        }
        Ok(compaction.kept())
    }
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("it keeps the rule for names")
}
