//! The data directory on a real disk, and that the simulated disk behaves like it.

use super::{
    Beside, DataDirectory, DirectoryError, Handle, Handles, Storage, StorageFile, StoreId, segment_file_name,
    segment_number,
};
use crate::event::{Event, QueueNames};
use crate::job::{JobId, QueueName, Time};
use crate::log::{Group, Pending, open};
use crate::queue::QueueId;
use crate::testing::storage::{Crash, Fault, SimulatedDisk};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What every storage does.
fn check_storage(mut storage: impl Storage) {
    assert_eq!(storage.store_id().unwrap(), None);
    assert_eq!(storage.segments().unwrap(), Vec::<u64>::new());
    assert_eq!(storage.open(1).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
    let id = StoreId(*b"\x00\x01\xff3456789abcdef");
    storage.set_store_id(id).unwrap();
    assert_eq!(storage.store_id().unwrap(), Some(id));

    let mut file = storage.create(10).unwrap();
    assert_eq!(storage.create(10).map(|_| ()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    drop(storage.create(9).unwrap());
    storage.sync_names().unwrap();
    assert_eq!(storage.segments().unwrap(), [9, 10]);

    file.reserve(1 << 20).unwrap();
    assert_eq!(file.length().unwrap(), 0);
    file.write_at(4, b"later").unwrap();
    file.write_at(0, b"soon").unwrap();
    file.sync().unwrap();
    let other = storage.open(10).unwrap();
    let mut found = [0; 9];
    other.read_at(0, &mut found).unwrap();
    assert_eq!((&found, other.length().unwrap()), (b"soonlater", 9));
    assert_eq!(other.read_at(1, &mut found).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.truncate(5).unwrap();
    file.write_at(7, b"!").unwrap();
    let mut found = [1; 8];
    other.read_at(0, &mut found).unwrap();
    assert_eq!(&found, b"soonl\0\0!");

    storage.remove(9).unwrap();
    storage.sync_names().unwrap();
    assert_eq!(storage.segments().unwrap(), [10]);
    assert!(storage.path(10).ends_with("00000000000000000010.seg"));
}

#[test]
fn a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    check_storage(DataDirectory::open(folder.path()).unwrap());
}

#[test]
fn a_simulated_disk() {
    check_storage(SimulatedDisk::new());
}

#[test]
fn a_log_survives_on_a_real_disk() {
    struct Name(QueueName);
    impl QueueNames for Name {
        fn queue_name(&self, _: QueueId) -> &QueueName {
            &self.0
        }
    }
    let name = Name(QueueName::new("mail").unwrap());
    let folder = tempfile::tempdir().unwrap();
    for start in 0..3 {
        let mut found = 0;
        let directory = DataDirectory::open(folder.path()).unwrap();
        let (mut writer, recovery) = open(directory, [start; 16], &mut |_| {
            found += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((found, recovery.store), (u64::from(start), StoreId([0; 16])));
        let mut pending = Pending::new(recovery.next_lsn);
        let mut group = Group::default();
        pending.append(1, Time(1), &Event::completed(JobId(1)), &name);
        assert!(pending.take(&mut group));
        writer.write(&mut group).unwrap();
        assert_eq!(writer.sync().unwrap(), recovery.next_lsn);
        if start == 1 {
            writer.close().unwrap();
        }
    }
}

#[test]
fn what_was_set_aside_for_shorter_segments_is_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let open = |segment_bytes| DataDirectory::open(folder.path()).unwrap().with_segment_bytes(segment_bytes);
    let allocated = |name: &str| fs::metadata(folder.path().join("log").join(name)).unwrap().blocks() * 512;
    let (short, long) = (128 << 10, 1 << 20);
    let mut directory = open(short);
    directory.set_store_id(StoreId([1; 16])).unwrap();
    (0..2).for_each(|_| directory.set_aside().unwrap());
    assert_eq!((allocated("spare-1"), allocated("spare-2")), (short, short));
    drop(directory);

    let mut directory = open(long);
    assert_eq!((directory.count_spares().unwrap(), directory.segment_bytes()), (2, long));
    assert_eq!((allocated("spare-1"), allocated("spare-2")), (long, long));
    directory.set_aside().unwrap();
    directory.create(1).unwrap();
    assert_eq!((directory.count_spares().unwrap(), allocated(&segment_file_name(1))), (2, long));
    drop(directory);

    // Where segments were longer, it is enough as it is.
    let mut directory = open(short);
    assert_eq!((directory.count_spares().unwrap(), directory.segment_bytes()), (2, short));
    assert_eq!(allocated("spare-1"), long);
}

#[test]
fn no_more_files_are_held_open_than_may_be() {
    let mut disk = SimulatedDisk::new();
    (1..=3).for_each(|segment| drop(disk.create(segment).unwrap()));
    disk.write_beside(Beside::Index(1), b"places").unwrap();
    let handles = Handles::new(disk.clone(), 2);
    for handle in [Handle::Segment(1), Handle::Index(1), Handle::Segment(2), Handle::Segment(1), Handle::Segment(1)] {
        handles.get(handle).unwrap();
        assert!(handles.count() <= 2);
    }
    // What is open stays so when it is removed, until it is closed or another one takes its place.
    (1..=2).for_each(|segment| disk.remove(segment).unwrap());
    assert!(handles.get(Handle::Segment(1)).is_ok() && handles.get(Handle::Segment(2)).is_ok());
    handles.close(2);
    assert_eq!(handles.get(Handle::Segment(2)).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
    handles.get(Handle::Segment(3)).unwrap();
    handles.get(Handle::Index(1)).unwrap();
    assert!(handles.get(Handle::Segment(1)).is_err(), "it was used longest ago");
    assert_eq!(Handles::new(disk, 0).get(Handle::Segment(3)).map(|_| ()).ok(), Some(()), "one at least");
}

#[test]
fn a_missing_directory_is_made_for_its_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/data");
    let mut directory = DataDirectory::open(&path).unwrap();
    directory.create(1).unwrap();
    directory.set_store_id(StoreId([1; 16])).unwrap();
    assert_eq!((mode(&path), mode(&path.join("log"))), (0o700, 0o700));
    for file in ["lock", "store", "log/00000000000000000001.seg"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    assert_eq!(directory.path(), path);
}

#[test]
fn a_second_instance_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = DataDirectory::open(folder.path()).unwrap();
    let error = DataDirectory::open(folder.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DirectoryError::InUse { .. }), "{text}");
    assert!(text.contains(&format!("process {}:", std::process::id())), "{text}");
    assert!(text.contains(&folder.path().display().to_string()), "{text}");
    drop(first);
    DataDirectory::open(folder.path()).unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    let error = DataDirectory::open(folder.path()).unwrap_err();
    assert!(matches!(&error, DirectoryError::Foreign { entry, .. } if entry == "thesis.tex"), "{error}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!((left.len(), mode(folder.path())), (1, 0o755));

    // A directory like /var has a `log`, too.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    fs::write(folder.path().join("log/syslog"), "").unwrap();
    let error = DataDirectory::open(folder.path()).unwrap_err();
    assert!(matches!(&error, DirectoryError::Foreign { entry, .. } if entry == "syslog"), "{error}");
    assert!(!folder.path().join("lock").exists());
}

#[test]
fn a_file_is_no_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    assert!(matches!(DataDirectory::open(&path).unwrap_err(), DirectoryError::NotADirectory { .. }));
    let below = DataDirectory::open(&path.join("data")).unwrap_err();
    assert!(matches!(below, DirectoryError::Io { .. }), "{below}");
}

#[test]
fn a_directory_open_to_others_is_tightened() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    drop(DataDirectory::open(folder.path()).unwrap());
    assert_eq!(mode(folder.path()), 0o700);
}

#[test]
fn files_beside_a_store_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = DataDirectory::open(folder.path()).unwrap();
    directory.set_store_id(StoreId([1; 16])).unwrap();
    drop(directory);
    fs::write(folder.path().join("notes"), "").unwrap();
    fs::write(folder.path().join("log/00000000000000000001.seg.bak"), "").unwrap();
    let directory = DataDirectory::open(folder.path()).unwrap();
    assert_eq!(directory.segments().unwrap(), Vec::<u64>::new());
}

#[test]
fn a_lock_that_leads_elsewhere_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let precious = elsewhere.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, folder.path().join("lock")).unwrap();
    assert!(matches!(DataDirectory::open(folder.path()).unwrap_err(), DirectoryError::Io { .. }));
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

#[test]
fn a_store_line_that_says_nothing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(folder.path()).unwrap();
    for line in ["", "rota-store 1 \n", "rota-store 1 00\n", "rota-store 1 +0112233445566778899aabbccddeeff\n"] {
        fs::write(folder.path().join("store"), line).unwrap();
        assert_eq!(directory.store_id().unwrap_err().kind(), ErrorKind::InvalidData, "{line:?}");
    }
}

#[test]
fn segment_names() {
    assert_eq!(segment_number(&segment_file_name(u64::MAX)), Some(u64::MAX));
    for other in ["1.seg", "00000000000000000001", "+0000000000000000001.seg", "99999999999999999999.seg"] {
        assert_eq!(segment_number(other), None, "{other}");
    }
}

#[test]
fn a_simulated_disk_loses_what_was_not_synced() {
    let mut disk = SimulatedDisk::new();
    let mut file = disk.create(1).unwrap();
    disk.sync_names().unwrap();
    file.write_at(0, &[1; 2_048]).unwrap();
    file.sync().unwrap();
    file.write_at(1_024, &[2; 2_048]).unwrap();
    drop(disk.create(2).unwrap());

    let all = disk.copy().restart(Crash::KeepWritten, 0);
    assert_eq!((all.bytes(1).unwrap().len(), all.bytes(2)), (3_072, Some(vec![])));
    let synced = disk.copy().restart(Crash::KeepSynced, 0);
    assert_eq!((synced.bytes(1), synced.bytes(2)), (Some(vec![1; 2_048]), None));
    // Some seed keeps a later sector and loses an earlier one, and one keeps the name that was not synced.
    let torn: Vec<_> = (0..64).map(|seed| disk.copy().restart(Crash::Tear, seed)).collect();
    assert!(torn.iter().any(|disk| disk.bytes(1).unwrap().get(1_024..2_048) == Some(&[[1; 512], [2; 512]].concat())));
    assert!(torn.iter().any(|disk| disk.bytes(2).is_some()) && torn.iter().any(|disk| disk.bytes(2).is_none()));
    let kept = |disk: &SimulatedDisk| disk.bytes(1).unwrap()[..1_024] == [1; 1_024];
    assert!(torn.iter().all(kept), "what was synced is kept");

    // A handle of before the crash is dead.
    let after = disk.restart(Crash::KeepSynced, 0);
    assert!(file.write_at(0, b"x").is_err() && disk.segments().is_err() && after.segments().is_ok());
}

#[test]
fn a_simulated_sync_that_failed_loses_what_it_should_have_written() {
    let mut disk = SimulatedDisk::new();
    let mut file = disk.create(1).unwrap();
    disk.sync_names().unwrap();
    file.write_at(0, b"lost").unwrap();
    disk.fail(Fault::Sync, 0);
    assert!(file.sync().is_err());
    // The kernel calls the pages clean: a second try "succeeds" and writes nothing.
    file.sync().unwrap();
    let lost = disk.copy().restart(Crash::KeepSynced, 0);
    assert_eq!(lost.bytes(1), Some(vec![0; 4]));
    // Written again, they are dirty again.
    file.write_at(0, b"kept").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.restart(Crash::KeepSynced, 0).bytes(1), Some(b"kept".to_vec()));
}
