//! From each way of keeping jobs into each other, by SIGUSR1 and `-r`; and what a restore refuses.

use std::net::TcpStream;
use std::path::Path;

use tempfile::TempDir;

use super::{command, count, folders, good, put_all, see, serve, take};
use crate::process::{Rota, until, wrapped};
use crate::server::free_address;
use crate::wire::Wire;

const MODES: [&[&str]; 6] = [
    &["--storage", "memory"],
    &["--storage", "lazy"],
    &["--storage", "mapped", "--near", "1s"],
    &["--sync", "always"],
    &["--sync", "50ms"],
    &["--sync", "never"],
];

/// What a server prints when it was told to take its last snapshot and to stop.
#[track_caller]
fn last_snapshot(rota: &mut Rota) -> String {
    rota.signal("USR1");
    let status = rota.wait();
    assert_eq!(status.code(), Some(0), "{}", rota.stderr());
    let line = rota.line(0, |line| line.starts_with("snapshot "));
    assert!(rota.stderr().contains("puts are refused from now on"), "{}", rota.stderr());
    line
}

#[test]
fn a_snapshot_of_each_mode_is_restored_in_each_mode() {
    for from in MODES {
        let data = TempDir::new().unwrap();
        let mut rota = Rota::ready(serve(data.path(), from));
        let mut wire = Wire::to(rota.address());
        let jobs: Vec<_> = (0..300u32)
            .map(|n| (format!("put {} {} 77", n % 7, if n % 3 == 0 { 100_000 + n } else { 0 }), vec![b'x'; n as usize]))
            .collect();
        let ids = put_all(&mut wire, &jobs);
        wire.expect("delete 300", "DELETED");
        let held = wire.ask("reserve").number(1);
        wire.expect(&format!("bury {held} 3"), "BURIED");
        wire.expect("pause-tube default 100000", "PAUSED");
        let before = see(rota.address(), ids.clone());
        assert_eq!(before.len(), 299);
        let told = last_snapshot(&mut rota);
        assert!(told.contains(": 299 jobs, "), "{told}");
        let place = data.path().join("snapshots");
        let address = place.to_str().unwrap();

        for to in MODES {
            let fresh = TempDir::new().unwrap();
            let mut restored = Rota::ready(serve(fresh.path(), &[to, &["--restore", address]].concat()));
            assert_eq!(see(restored.address(), ids.clone()), before, "{from:?} into {to:?}");
            let mut wire = Wire::to(restored.address());
            assert_eq!(count(restored.address()), 299);
            assert!(wire.ask("stats-tube default").count("pause-time-left") > 90_000);
            // Ids go on where they were.
            assert!(wire.put("put 0 0 60", b"new") > 300);
            if to.contains(&"memory") {
                continue;
            }
            // It is an ordinary data directory from then on, and is not restored into again.
            restored.kill();
            let again = Rota::ended(serve(fresh.path(), &[to, &["--restore", address]].concat()));
            assert_eq!(again.0, 1, "{again:?}");
            assert!(again.2.contains("already holds a log"), "{again:?}");
            assert!(again.2.contains("hint: start without --restore"), "{again:?}");
            let rota = Rota::ready(serve(fresh.path(), to));
            assert_eq!(count(rota.address()), 300);
        }
    }
}

#[test]
fn sigusr1_refuses_puts_and_leaves_nothing_undecided() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(serve(data.path(), &["--storage", "memory"]));
    let address = rota.address();
    let jobs: Vec<_> = (0..3_000).map(|_| ("put 0 0 600".to_owned(), vec![b'x'; 100])).collect();
    let ids = put_all(&mut Wire::to(address), &jobs);
    // Deletes go on until the server closes the connection: each that was answered must be in the snapshot.
    let deleter = std::thread::spawn(move || {
        let mut wire = Wire::to(address);
        let mut deleted = 0;
        for id in ids {
            if wire.send(format!("delete {id}\r\n")).is_err() {
                break;
            }
            let Ok(answer) = wire.answer() else { break };
            assert_eq!(answer.line, "DELETED");
            deleted += 1;
        }
        deleted
    });
    until("some are deleted", || (count(address) < 2_990).then_some(()));
    let told = last_snapshot(&mut rota);
    let deleted: u64 = deleter.join().unwrap();
    assert!(told.contains(&format!(": {} jobs, ", 3_000 - deleted)), "{told}: {deleted} were deleted");
    let rota = Rota::ready(serve(data.path(), &["--storage", "memory", "-r"]));
    assert_eq!(count(rota.address()), 3_000 - deleted);
}

#[test]
fn a_last_snapshot_is_taken_where_nobody_takes_what_the_server_says() {
    let (data, address) = (TempDir::new().unwrap(), free_address());
    let flags = ["--storage", "memory", "--beanstalkd", &address.to_string()];
    let deaf = ["sh", "-c", "exec \"$@\" >/dev/full 2>/dev/full", "sh"];
    let mut rota = Rota::spawn(wrapped(&deaf, &serve(data.path(), &flags)));
    until("it serves", || TcpStream::connect(address).ok());
    Wire::to(address).put("put 0 0 60", b"one");
    rota.signal("USR1");
    assert_eq!(rota.wait().code(), Some(0));
    let rota = Rota::ready(serve(data.path(), &["--storage", "memory", "-r"]));
    assert_eq!(count(rota.address()), 1);
}

#[test]
fn a_last_snapshot_that_fails_stops_nothing() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(serve(data.path(), &["--snapshot-to", "/dev/null/x"]));
    let mut wire = Wire::to(rota.address());
    wire.put("put 0 0 60", b"one");
    rota.signal("USR1");
    let told = rota.line(1, |line| line.starts_with("error: the snapshot failed"));
    assert!(told.ends_with("and the server goes on"), "{told}");
    until("puts are taken again", || wire.try_put("put 0 0 60", b"two").line.starts_with("INSERTED ").then_some(()));
    assert_eq!(rota.terminate().code(), Some(0));
}

#[test]
fn r_takes_the_newest_whole_one_where_snapshots_go() {
    let data = TempDir::new().unwrap();
    let place = data.path().join("snapshots");
    let none = Rota::ended(serve(data.path(), &["-r"]));
    assert_eq!(none.0, 3, "{none:?}");
    assert!(none.2.contains("there is no snapshot at"), "{none:?}");
    {
        let rota = Rota::ready(serve(data.path(), &[]));
        for body in ["one", "two"] {
            Wire::to(rota.address()).put("put 0 0 60", body.as_bytes());
            take(&rota);
        }
    }
    // What a killed server would leave is newer, and no snapshot.
    std::fs::create_dir(place.join("99991231T235959.999Z-ffffffff.new")).unwrap();
    std::fs::create_dir(place.join("99991231T235959.999Z-ffffffff")).unwrap();
    let refused = Rota::ended(serve(data.path(), &["-r"]));
    assert!(refused.2.contains("already holds a log"), "{refused:?}");
    // The log is lost, the snapshots are not.
    std::fs::remove_dir_all(data.path().join("log")).unwrap();
    std::fs::remove_file(data.path().join("store")).unwrap();
    let rota = Rota::ready(serve(data.path(), &["-r"]));
    assert_eq!(count(rota.address()), 2);
    assert!(
        rota.stderr().contains("passed over 99991231T235959.999Z-ffffffff.new: it is unfinished"),
        "{}",
        rota.stderr()
    );
    assert!(rota.line(0, |line| line.starts_with("restoring 2 jobs from ")).contains(", taken at 2"));
    drop(rota);
    // An older one is used if it is named.
    let older = folders(&place).remove(0);
    let fresh = TempDir::new().unwrap();
    let rota = Rota::ready(serve(fresh.path(), &["--restore", older.to_str().unwrap()]));
    assert_eq!(count(rota.address()), 1);
}

#[test]
fn a_copied_snapshot_is_one_under_any_name() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    Wire::to(rota.address()).put("put 0 0 60", b"one");
    let from = take(&rota)["address"].as_str().unwrap().to_owned();
    let elsewhere = TempDir::new().unwrap();
    let copy = elsewhere.path().join("monday");
    std::fs::create_dir(&copy).unwrap();
    for file in folders(Path::new(&from)) {
        std::fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    let fresh = TempDir::new().unwrap();
    let url = format!("file://{}", copy.display());
    let restored = Rota::ready(serve(fresh.path(), &["--restore", &url]));
    assert_eq!(count(restored.address()), 1);
    assert!(good(command(&["inspect", &url])).contains("jobs_ready"));
}
