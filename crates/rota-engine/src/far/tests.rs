//! Jobs that leave memory, are found again by id, key and time, and survive starts; the files that this needs.

use super::index::{self, IndexEntry, IndexFile, RecordAt};
use super::{FarFiles, OpenFile, OpenSegment, Want};
use crate::command::{Answer, Command, Due, NewJob, OnConflict, Refusal, Target};
use crate::engine::{BodyHome, Engine, Options};
use crate::job::{JobId, JobState, Priority, QueueName, Time};
use crate::log::{Compaction, Group, LogWriter, Lsn, OpenError};
use crate::session::SessionId;
use crate::storage::{Beside, Storage};
use crate::testing::storage::{Crash, SimulatedDisk};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const STORE: [u8; 16] = *b"far jobs' store.";
const NEAR: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn index_of(entries: Vec<IndexEntry>, queues: &[QueueName]) -> IndexFile<crate::testing::storage::SimulatedFile> {
    let mut disk = SimulatedDisk::new();
    disk.write_beside(Beside::Index(7), &index::encode(7, Lsn(99), queues, entries)).unwrap();
    IndexFile::open(disk.open_beside(Beside::Index(7)).unwrap(), 7).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_index_finds_what_is_in_it_and_nothing_else(
        jobs in prop::collection::vec((1u64..2_000, 0u64..50, prop::option::of(0u32..9), 0u32..2), 0..1_500),
    ) {
        let queues = ["a", "b"].map(|name| QueueName::new(name).unwrap());
        let entries: Vec<IndexEntry> = jobs.iter().enumerate().map(|(n, &(job, run_at, key_hash, queue))| {
            let n = u32::try_from(n).unwrap();
            let at = RecordAt { ordinal: n, offset: n * 100 + 64, length: n + 9 };
            IndexEntry { job: JobId(job), run_at: Time(run_at), at, queue, key_hash }
        }).collect();
        let index = index_of(entries.clone(), &queues);
        prop_assert_eq!(index.len() as usize, entries.len());
        prop_assert_eq!(index.end(), Lsn(99));
        // A job may have been written again within the segment.
        for id in 0..2_001 {
            let expected: Vec<RecordAt> = entries.iter().filter(|x| x.job.0 == id).map(|x| x.at).collect();
            let mut found = index.find(JobId(id)).unwrap();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
        for hash in 0..10 {
            let expected: Vec<RecordAt> = entries.iter().filter(|x| x.key_hash == Some(hash)).map(|x| x.at).collect();
            prop_assert_eq!(index.find_key(hash).unwrap(), expected);
        }
        let mut timed = Vec::new();
        loop {
            let more = index.timed(u32::try_from(timed.len()).unwrap()).unwrap();
            if more.is_empty() { break }
            timed.extend(more);
        }
        let mut expected: Vec<_> = entries.iter().map(|x| (x.run_at, x.job, x.at, x.queue)).collect();
        expected.sort_unstable();
        let timed: Vec<_> = timed.iter().map(|x| (x.run_at, x.job, x.at, x.queue)).collect();
        prop_assert_eq!(timed, expected);
    }

    #[test]
    fn no_byte_of_the_file_of_open_jobs_can_change_unseen(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let words = vec![5, u64::MAX, 0].into();
        let open = OpenFile { segments: vec![OpenSegment { segment: 3, records: 150, end: Lsn(8), words }] };
        let (bytes, checksum) = open.encode(4);
        let mut disk = SimulatedDisk::new();
        disk.write_beside(Beside::Open(4), &bytes).unwrap();
        prop_assert_eq!(OpenFile::read(&disk, 4).unwrap(), Some((open, checksum)));
        prop_assert_eq!(OpenFile::read(&disk, 5).unwrap(), None);
        let mut other = bytes.clone();
        other[at.index(bytes.len())] ^= 1 << bit;
        disk.write_beside(Beside::Open(4), &other).unwrap();
        prop_assert!(OpenFile::read(&disk, 4).is_err());
    }
}

/// An engine in which jobs leave memory, each command of which is durable at once.
struct Server {
    engine: Engine,
    writer: LogWriter<SimulatedDisk>,
    files: Arc<FarFiles<SimulatedDisk>>,
    disk: SimulatedDisk,
    session: SessionId,
    now: Time,
}

impl Server {
    fn start(disk: &SimulatedDisk, near: Option<Duration>) -> Result<Server, OpenError> {
        disk.set_segment_bytes(Some(16_384));
        let options = Options { number_block: 1 << 40, bodies: BodyHome::Log, near, ..Options::default() };
        let (mut engine, writer, _, far) = Engine::recover_with_far(options, disk.clone(), STORE, Time(1_000))?;
        let session = engine.open_session().expect("the first one");
        let now = engine.now();
        let mut server = Server { engine, writer, files: Arc::new(far), disk: disk.clone(), session, now };
        server.commit();
        Ok(server)
    }

    fn commit(&mut self) {
        let mut group = Group::default();
        self.engine.take_records(&mut group);
        self.writer.write(&mut group).unwrap();
        self.engine.bodies_written(&group.bodies_written());
        self.writer.sync().unwrap();
    }

    fn find(&self, want: &Want) -> Vec<super::FarRecord> {
        self.files.find(want, &mut |entries| self.engine.are_cold(entries)).unwrap()
    }

    fn ask(&mut self, command: Command<'_>) -> Result<Answer, Refusal> {
        self.now = self.now.after(Duration::from_millis(1));
        let near = self.engine.wanted(self.session, &command).map_or_else(Vec::new, |want| self.find(&want));
        self.engine.bring_near(&near, self.now);
        let answer = self.engine.execute(self.session, command, self.now);
        self.engine.let_go(&near);
        self.engine.check();
        self.commit();
        answer
    }

    fn put(&mut self, queue: &str, delay: Duration, key: Option<&[u8]>) -> JobId {
        let queue = QueueName::new(queue).unwrap();
        let job = NewJob {
            queue: Target::Named(&queue),
            priority: Priority(1),
            due: Due::In(delay),
            ttr: Duration::from_secs(60),
            max_lost_leases: 0,
            max_attempts: 0,
            key,
            on_conflict: OnConflict::Reject,
            body: [7; 300].into(),
        };
        match self.ask(Command::Put(job)) {
            Ok(Answer::Put(id)) => id,
            answer => panic!("{answer:?}"),
        }
    }

    /// Reclaims segments until only the one under way is left, and begins a new one, whose header says so.
    fn compact(&mut self) {
        while self.writer.stats().needed_from < self.writer.stats().newest_segment {
            let segment = self.writer.stats().needed_from;
            let after = self.engine.leaves_after();
            let mut compaction = Compaction::begin(&self.disk, &self.files, segment, after).unwrap();
            while compaction.read().unwrap() {
                compaction.keep(&mut self.engine, self.now);
                self.engine.check();
                self.commit();
            }
            compaction.finish(&mut self.engine, self.now);
            self.commit();
            self.writer.need_only_from(segment + 1);
            for segment in self.engine.drop_empty_far_segments() {
                self.files.close(segment);
            }
        }
        self.writer.close_segment().unwrap();
    }

    fn restart(self, near: Option<Duration>) -> Server {
        let Server { disk, .. } = self;
        Server::start(&disk.restart(Crash::KeepSynced, 1), near).unwrap()
    }

    fn delayed(&self, queue: &str) -> u64 {
        self.engine.find_queue(&QueueName::new(queue).unwrap()).map_or(0, |queue| self.engine.queue(queue).delayed)
    }
}

/// A server with 300 jobs a day ahead in two queues, which left memory.
fn with_far_jobs() -> (Server, Vec<JobId>) {
    let mut server = Server::start(&SimulatedDisk::new(), Some(NEAR)).unwrap();
    let ids = (0..300)
        .map(|n| {
            let key = n.to_string();
            let delay = DAY + Duration::from_secs((n * 37) % 300);
            server.put(if n % 3 == 0 { "a" } else { "b" }, delay, (n % 5 == 0).then_some(key.as_bytes()))
        })
        .collect();
    server.writer.close_segment().unwrap();
    server.compact();
    assert!(server.engine.cold_jobs() > 250, "{}", server.engine.cold_jobs());
    (server, ids)
}

#[test]
fn far_jobs_are_found_by_id_and_by_key_and_survive_starts() {
    let (mut server, ids) = with_far_jobs();
    for round in 0..3 {
        assert_eq!(server.delayed("a") + server.delayed("b"), 300 - 3 * round);
        let cold = server.engine.cold_jobs();
        let [first, second, third] = [0, 1, 5].map(|n| ids[usize::try_from(round * 50 + n).unwrap()]);
        let near = server.find(&server.engine.wanted_job(first).unwrap());
        assert!(server.engine.bring_near(&near, server.now));
        assert_eq!(server.engine.job(first).unwrap().body.length(), 300);
        server.engine.let_go(&near);
        assert_eq!(server.engine.cold_jobs(), cold, "a look changes nothing");
        assert_eq!(server.ask(Command::Cancel(first)), Ok(Answer::Cancelled(first)));
        assert_eq!(server.ask(Command::Cancel(first)), Err(Refusal::NotFound));
        assert_eq!(server.ask(Command::Delete(second)), Ok(Answer::Done));
        let queue = QueueName::new(if (round * 50 + 5) % 3 == 0 { "a" } else { "b" }).unwrap();
        let key = (round * 50 + 5).to_string();
        let cancel = || Command::CancelKey { queue: &queue, key: key.as_bytes() };
        assert_eq!(server.ask(cancel()), Ok(Answer::Cancelled(third)));
        assert_eq!(server.ask(cancel()), Err(Refusal::NotFound));
        server = server.restart(Some(NEAR));
        if round == 1 {
            server.compact();
        }
    }
    let server = server.restart(None);
    assert_eq!(server.delayed("a") + server.delayed("b"), 291);
}

#[test]
fn far_jobs_are_kicked_in_the_order_of_their_time_and_stay_so() {
    let (mut server, ids) = with_far_jobs();
    let queue = QueueName::new("b").unwrap();
    let kick = Command::Kick { queue: Target::Named(&queue), limit: 20, source: None };
    let Ok(Answer::Kicked { count: 20, .. }) = server.ask(kick) else { panic!("twenty are there") };
    let mut expected: Vec<JobId> = ids.iter().copied().filter(|id| (id.0 - ids[0].0) % 3 != 0).collect();
    expected.sort_by_key(|id| (((id.0 - ids[0].0) * 37) % 300, id.0));
    expected.truncate(20);
    let is_ready = |server: &Server, id: &JobId| server.engine.job(*id).is_some_and(|job| job.state == JobState::Ready);
    assert!(expected.iter().all(|id| is_ready(&server, id)));
    for round in 0..3 {
        server = server.restart(Some(NEAR));
        let lost: Vec<_> = expected.iter().filter(|id| !is_ready(&server, id)).collect();
        assert!(lost.is_empty(), "start {round} forgets the kicks of {lost:?}");
        server.writer.close_segment().unwrap();
        server.compact();
    }
    assert_eq!(server.delayed("b"), 180);
}

#[test]
fn far_jobs_come_near_in_time_and_end_their_segment_with_them() {
    let (mut server, _) = with_far_jobs();
    let segments: Vec<u64> = server.engine.far_segments().map(|(segment, ..)| segment).collect();
    server.now = server.now.after(DAY);
    crate::testing::lockstep::load(&mut server.engine, &server.files, server.now.after(Duration::from_secs(600)));
    assert_eq!(server.engine.cold_jobs(), 0);
    server.engine.check();
    server.now = server.now.after(Duration::from_secs(301));
    while !server.engine.tick(server.now) {}
    for name in ["a", "b"] {
        server.ask(Command::Watch(&QueueName::new(name).unwrap())).unwrap();
    }
    for _ in 0..300 {
        let Ok(Answer::Reserved(job, _)) = server.ask(Command::Reserve { wait: Some(Duration::ZERO) }) else {
            panic!("a job is ready")
        };
        assert_eq!(server.ask(Command::Delete(job)), Ok(Answer::Done));
    }
    server.writer.close_segment().unwrap();
    server.compact();
    server.writer.close_segment().unwrap();
    server.compact();
    assert!(!segments.is_empty() && server.files.is_empty(), "far segments end with their last job");
    let beside = server.files.needless(server.disk.beside().unwrap(), server.writer.stats().oldest_segment);
    assert_eq!(beside.len(), server.disk.beside().unwrap().len());
    let server = server.restart(Some(NEAR));
    assert_eq!(server.engine.totals().by_state, [0; 4]);
}

#[test]
fn an_index_is_made_again_and_open_jobs_are_never_guessed() {
    let (server, ids) = with_far_jobs();
    let Server { mut disk, .. } = server;
    for name in disk.beside().unwrap() {
        if let Beside::Index(segment) = name {
            if segment % 2 == 0 {
                disk.remove_beside(name).unwrap();
            } else {
                disk.write_beside(name, b"nonsense").unwrap();
            }
        }
    }
    let mut server = Server::start(&disk.restart(Crash::KeepWritten, 1), Some(NEAR)).unwrap();
    assert_eq!(server.ask(Command::Cancel(ids[0])), Ok(Answer::Cancelled(ids[0])));
    let Server { mut disk, .. } = server;
    let open: Vec<Beside> = disk.beside().unwrap().into_iter().filter(|name| matches!(name, Beside::Open(_))).collect();
    for &name in &open {
        disk.remove_beside(name).unwrap();
    }
    let disk = disk.restart(Crash::KeepWritten, 1);
    let error = Server::start(&disk, Some(NEAR)).err().expect("open jobs are missing");
    let OpenError::Replay { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains(&open.last().unwrap().file_name()), "{source}");
}
