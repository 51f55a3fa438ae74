//! Jobs that change while a snapshot is taken, in as many parts as there can be.

use std::collections::BTreeMap;

use rota_engine::command::{Answer, Command, Due, Held, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::log::Group;
use rota_engine::session::SessionId;

use super::super::address::Address;
use super::super::manifest::{MANIFEST, Manifest, Segment, sha256_hex};
use super::super::place::Place;
use super::super::read::newest;
use super::super::write::SegmentsInMemory;
use super::*;

const NOW: Time = Time(1_000_000_000);

fn put(engine: &mut Engine, session: SessionId, n: u64) -> JobId {
    let delay = if n.is_multiple_of(2) { Duration::ZERO } else { Duration::from_secs(60) };
    let job = NewJob {
        priority: Priority(5),
        due: Due::In(delay),
        ..NewJob::new(Target::Used, n.to_string().into_bytes().into())
    };
    match engine.execute(session, Command::Put(job), NOW) {
        Ok(Answer::Put(id)) => id,
        other => panic!("{other:?}"),
    }
}

/// Buries, deletes or releases a job, by its number.
fn change(engine: &mut Engine, session: SessionId, job: JobId) {
    let held = |engine: &mut Engine| {
        assert!(matches!(engine.execute(session, Command::ReserveJob(job), NOW), Ok(Answer::Reserved(..))));
        Held::by_me(job)
    };
    let command = match job.0 % 3 {
        0 => Command::Delete(job),
        1 => Command::Bury { held: held(engine), priority: Priority(6) },
        _ => Command::Release { held: held(engine), priority: Priority(7), delay: Duration::from_secs(90) },
    };
    assert!(engine.execute(session, command, NOW).is_ok());
}

/// A snapshot in the folder, between whose slices jobs were changed and put.
fn taken(folder: &std::path::Path) -> (Engine, Arc<Snapshot>) {
    let mut engine = Engine::in_memory(Options::default(), NOW, NOW);
    let session = engine.open_session().unwrap();
    let ids: Vec<JobId> = (0..200).map(|n| put(&mut engine, session, n)).collect();
    let storage = SegmentsInMemory::default();
    let (mut writer, recovery) = log::open(storage.clone(), [7; 16], &mut |_| Ok(())).unwrap();
    assert!(engine.begin_snapshot());
    let mut group = Group::default();
    let mut next = ids.iter().step_by(2).copied();
    loop {
        let is_done = engine.snapshot_slice(5, NOW);
        engine.take_snapshot_records(&mut group);
        writer.write(&mut group).unwrap();
        if is_done {
            break;
        }
        for job in next.by_ref().take(3) {
            change(&mut engine, session, job);
        }
        let new = put(&mut engine, session, 1_000);
        if new.0.is_multiple_of(2) {
            change(&mut engine, session, new);
        }
    }
    let records = writer.written().0;
    writer.close().unwrap();
    let place = Place::open(&Address::from(folder)).unwrap();
    let mut unfinished = place.begin("20260102T030405.678Z-00000000").unwrap();
    let mut segments = Vec::new();
    for (number, bytes) in storage.take_all() {
        segments.push(Segment { bytes: bytes.len() as u64, sha256: sha256_hex(&bytes) });
        unfinished.put(&rota_engine::storage::segment_file_name(number), bytes).unwrap();
    }
    let manifest = Manifest {
        name: String::new(),
        rota: String::new(),
        begun_at: Timestamp::UNIX_EPOCH,
        taken_at: Timestamp::UNIX_EPOCH,
        store: recovery.store.to_string(),
        records,
        jobs: engine.totals().by_state,
        queues: 1,
        segments,
    };
    unfinished.finish(MANIFEST, manifest.encode()).unwrap();
    let (snapshot, _) = newest(&Address::from(folder)).unwrap();
    (engine, Arc::new(snapshot))
}

#[test]
fn jobs_are_as_they_were_at_the_end_in_any_number_of_parts() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, snapshot) = taken(folder.path());
    for most_changes in [usize::MAX, 40, 3] {
        let mut found = BTreeMap::new();
        in_parts(&snapshot, most_changes, &mut |job| {
            let view = engine.job(JobId(job.id)).unwrap_or_else(|| panic!("{job:?} is gone"));
            assert_eq!((job.state, job.priority), (view.state, view.priority.0), "{job:?}");
            assert_eq!(Some(job.body), view.body.in_memory(), "{job:?}");
            assert!(found.insert(job.id, ()).is_none(), "{job:?} came twice");
            Ok(())
        })
        .unwrap();
        assert_eq!(found.len() as u64, snapshot.manifest.all_jobs());
    }
    let counts = queues(&snapshot).unwrap();
    let counts = counts["default"];
    let by_state = snapshot.manifest.jobs;
    let of = |state: rota_engine::job::JobState| by_state[state as usize];
    use rota_engine::job::JobState::{Buried, Delayed, Ready, Reserved};
    assert_eq!(counts[Ready as usize], of(Ready) + of(Reserved));
    assert_eq!((counts[Delayed as usize], counts[Buried as usize]), (of(Delayed), of(Buried)));
}
