//! A disk that takes no more: after a failed write there is not one answer more, and nothing acknowledged is lost.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::disk::{KINDS, Mounted, not_run};
use crate::process::{Rota, on, wrapped};
use crate::wire::{Wire, put_bytes};

/// Ends with the code of a failed log, having answered nothing after it; returns the ids that it had answered.
#[track_caller]
fn fill(command: Command, body_bytes: usize) -> Vec<u64> {
    let mut rota = Rota::ready(command);
    let mut wire = Wire::to(rota.address());
    let mut bystander = Wire::to(rota.address());
    bystander.expect("list-tube-used", "USING default");
    let mut ids = Vec::new();
    let mut put = put_bytes("put 0 0 60", &vec![b'x'; body_bytes]);
    put.extend(b"list-tube-used\r\n");
    loop {
        assert!(ids.len() < 20_000, "the disk never got full");
        if wire.send(&put).is_err() {
            break;
        }
        match wire.answer() {
            Ok(answer) => {
                assert!(answer.line.starts_with("INSERTED "), "{answer:?}");
                ids.push(answer.number(1));
            }
            Err(_) => break,
        }
        // What was sent with a put that was answered is answered with it.
        assert_eq!(wire.answer().expect("an answer").line, "USING default");
    }
    assert_eq!(bystander.rest(), b"");
    let status = rota.wait();
    let err = rota.stderr();
    assert_eq!(status.code(), Some(4), "{status}: {err}");
    for word in ["the server stops", "log segment", ".seg", "hint:"] {
        assert!(err.contains(word), "{word:?} is missing: {err}");
    }
    assert!(!ids.is_empty());
    ids
}

/// Every acknowledged job, and at most the one whose put was not answered.
#[track_caller]
fn all_there(command: Command, ids: &[u64]) {
    let rota = Rota::ready(command);
    let mut wire = Wire::to(rota.address());
    for id in ids {
        let answer = wire.ask(&format!("peek {id}"));
        assert!(answer.line.starts_with("FOUND "), "{id}: {}", answer.line);
    }
    let jobs = wire.ask("stats").count("current-jobs-ready");
    let acknowledged = ids.len() as u64;
    assert!((acknowledged..=acknowledged + 1).contains(&jobs), "{jobs} jobs, {acknowledged} acknowledged");
}

/// A limit on the length of files, met by a write as a full disk would be.
fn limited(data: &Path, flags: &[&str]) -> Command {
    // The signal would end the process before the write says anything.
    let shell = "trap '' XFSZ; exec prlimit --fsize=1600000 \"$@\"";
    wrapped(&["sh", "-c", shell, "sh"], &on(data, flags))
}

#[test]
fn a_failed_write_ends_the_server_with_its_own_exit_code() {
    for sync in ["always", "50ms", "never"] {
        let data = TempDir::new().unwrap();
        let ids = fill(limited(data.path(), &["--sync", sync]), 3_000);
        all_there(on(data.path(), &[]), &ids);
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_started_on_again() {
    // Room for one segment of 64 MiB and not for two.
    let tmpfs = Mounted::tmpfs("size=80m");
    let ext4 = KINDS[0].mounted(96 << 20);
    for (name, disk) in [("a tmpfs", tmpfs), ("ext4 on a loop device", ext4)] {
        let Some(disk) = disk else {
            not_run(&format!("the full disk, {name}"), "to mount a small one takes root");
            continue;
        };
        let ids = fill(disk.on(&[]), 60_000);
        assert!(ids.len() > 1_000, "{name}: a segment holds more than {}", ids.len());
        // Still full: all that is there comes up.
        all_there(disk.on(&[]), &ids);
    }
}
