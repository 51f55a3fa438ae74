//! A disk that takes no more: puts are refused and leave no trace, all else goes on, and nothing acknowledged is lost.
//!
//! A failed write of another kind is the log's end: not one answer more.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::metrics::{counts, refused_puts};
use crate::disk::{KINDS, Mounted, not_run};
use crate::http::client::Http;
use crate::process::{Rota, on, until, wrapped};
use crate::wire::{Wire, batch_bytes, put_bytes};

/// Of the jobs that fill a disk.
const BODY_BYTES: usize = 20_000;

/// The storage modes, and the file systems that each fills: with room for some twenty segments.
const STORAGES: [(&str, bool); 5] =
    [("durable", true), ("durable", false), ("lazy", false), ("mapped", true), ("mapped", false)];

/// Runs a part in each storage mode, on those file systems that this machine has.
fn on_each(part: impl Fn(&Mounted, &str, &[&str]) + Sync) {
    std::thread::scope(|scope| {
        for (storage, is_tmpfs) in STORAGES {
            let part = &part;
            scope.spawn(move || {
                let (name, disk) = if is_tmpfs {
                    ("a tmpfs", Mounted::tmpfs("size=24m"))
                } else {
                    ("ext4 on a loop device", KINDS[0].mounted(40 << 20))
                };
                let name = format!("{storage}, {name}");
                match disk {
                    Some(disk) => part(&disk, &name, &["--segment-size", "1MiB", "--storage", storage]),
                    None => not_run(&format!("the full disk, {name}"), "to mount a small one takes root"),
                }
            });
        }
    });
}

/// Puts until one is refused; the ids of those that were not.
#[track_caller]
fn fill(wire: &mut Wire) -> Vec<u64> {
    let mut ids = Vec::new();
    loop {
        assert!(ids.len() < 20_000, "the disk never got full");
        let answer = wire.try_put("put 10 0 3600", &[b'x'; BODY_BYTES]);
        if answer.line == "OUT_OF_MEMORY" {
            return ids;
        }
        assert!(answer.line.starts_with("INSERTED "), "{answer:?}");
        ids.push(answer.number(1));
    }
}

/// Takes what room there is at this moment.
fn take_room(disk: &Mounted) {
    disk.sh("dd if=/dev/zero bs=64k >> rest; dd if=/dev/zero bs=512 >> rest; sync -f .");
}

/// Leaves nobody a byte. The server tries for more now and then, and lets go of what was too little.
fn take_the_rest(disk: &Mounted) {
    until("nobody has a byte left", || {
        take_room(disk);
        (!disk.sh("echo more > more && sync -f .").status.success()).then_some(())
    });
}

#[track_caller]
fn all_there(wire: &mut Wire, ids: &[u64]) {
    for id in ids {
        let answer = wire.ask(&format!("peek {id}"));
        assert!(answer.line.starts_with("FOUND "), "{id}: {}", answer.line);
    }
    let stats = wire.ask("stats");
    let states = ["ready", "reserved", "delayed", "buried"];
    let jobs: u64 = states.iter().map(|state| stats.count(&format!("current-jobs-{state}"))).sum();
    assert_eq!(jobs, ids.len() as u64);
}

#[test]
fn a_refused_put_leaves_no_trace_and_all_else_goes_on() {
    on_each(|disk, name, flags| {
        let rota = Rota::ready(disk.on(flags));
        let mut wire = Wire::to(rota.address());
        let ids = fill(&mut wire);
        assert!(ids.len() > 100, "{name}: {} jobs fill it", ids.len());
        take_the_rest(disk);
        for _ in 0..50 {
            assert_eq!(wire.try_put("put 0 0 60", &[b'x'; BODY_BYTES]).line, "OUT_OF_MEMORY", "{name}");
        }
        let batch =
            batch_bytes(&[put_bytes("put 0 0 60", &[b'x'; BODY_BYTES]), put_bytes("put 0 0 60", &[b'y'; BODY_BYTES])]);
        for _ in 0..5 {
            wire.send(&batch).unwrap();
            assert_eq!(wire.line().unwrap(), "BATCH_INSERTED 0 OUT_OF_MEMORY OUT_OF_MEMORY", "{name}");
        }
        all_there(&mut wire, &ids);
        // Every job once through everything that can be done with it, and half of them to their ends.
        for id in &ids {
            assert!(wire.ask(&format!("reserve-job {id}")).line.starts_with("RESERVED "), "{name}: {id}");
            wire.expect(&format!("touch {id}"), "TOUCHED");
            wire.expect(&format!("release {id} 7 0"), "RELEASED");
            assert!(wire.ask(&format!("reserve-job {id}")).line.starts_with("RESERVED "), "{name}: {id}");
            wire.expect(&format!("bury {id} 8"), "BURIED");
            wire.expect(&format!("kick-job {id}"), "KICKED");
        }
        assert!(wire.ask("reserve-batch 1000 0").line.starts_with("BATCH_RESERVED "), "{name}");
        drop(wire);
        let mut wire = Wire::to(rota.address());
        let (first, rest) = ids.split_at(10);
        let first: String = first.iter().map(|id| format!(" {id}")).collect();
        until("nobody holds a job", || (wire.ask("stats").count("current-jobs-reserved") == 0).then_some(()));
        wire.expect(&format!("delete-batch{first} 0"), "BATCH_DELETED 10 NOT_FOUND 0");
        let ids = rest;
        let (first, second) = ids.split_at(ids.len() / 2);
        for (place, id) in first.iter().enumerate() {
            let (verb, answer) = if place % 2 == 0 { ("delete", "DELETED") } else { ("cancel", "CANCELLED") };
            wire.expect(&format!("{verb} {id}"), answer);
        }
        all_there(&mut wire, second);
        // Room comes back: by itself, and the refused puts have used no id.
        disk.sh("rm -f rest more");
        let newest = *ids.last().unwrap();
        let id = until(&format!("a put is taken again on {name}"), || {
            let answer = wire.try_put("put 0 0 60", b"x");
            (answer.line != "OUT_OF_MEMORY").then(|| answer.number(1))
        });
        assert_eq!(id, newest + 1, "{name}: a refused put used an id");
    });
}

#[test]
fn puts_that_a_full_disk_refuses_are_counted_as_that() {
    let Some(disk) = Mounted::tmpfs("size=24m") else {
        return not_run("the full disk, puts that are counted", "to mount a small one takes root");
    };
    let rota = Rota::ready(disk.on(&["--segment-size", "1MiB", "--http", "127.0.0.1:0"]));
    let (mut wire, http) = (Wire::to(rota.address()), Http::to(rota.http()));
    fill(&mut wire);
    take_the_rest(&disk);
    assert_eq!(wire.try_put("put 0 0 60", &[b'x'; BODY_BYTES]).line, "OUT_OF_MEMORY");
    wire.send(batch_bytes(&vec![put_bytes("put 0 0 60", &[b'x'; BODY_BYTES]); 2])).unwrap();
    assert_eq!(wire.line().unwrap(), "BATCH_INSERTED 0 OUT_OF_MEMORY OUT_OF_MEMORY");
    let job = json!({ "queue": "default", "text": "x".repeat(BODY_BYTES) });
    http.post("/v1/jobs", &job).problem(507, "disk-full");
    let answer = http.post("/v1/jobs", &json!([job, job])).expect(200);
    let statuses = answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_u64());
    assert_eq!(statuses.collect::<Vec<_>>(), [Some(507); 2], "{answer}");
    let named = "content-type: application/json\r\nidempotency-key: one\r\n";
    http.ask("POST /v1/jobs", named, &job.to_string()).problem(507, "disk-full");
    // The one that told that the disk was full is the first.
    assert_eq!(refused_puts(&rota), counts([("disk-full", 8)]));
    assert_eq!(http.get("/v1/queues/default").expect(200)["refused_puts"]["disk_full"], 8);
}

#[test]
fn a_server_starts_on_a_full_disk_with_all_that_it_promised() {
    on_each(|disk, name, flags| {
        // More than a segment, or there is no room again when it is gone.
        disk.sh("dd if=/dev/zero of=rest bs=64k count=40");
        let mut rota = Rota::ready(disk.on(flags));
        let mut there = fill(&mut Wire::to(rota.address()));
        take_the_rest(disk);
        // Killed, stopped in good order, killed: none of it needs a byte that is not set aside.
        for end in ["kill", "stop", "kill", "kill"] {
            match end {
                "kill" => rota.kill(),
                _ => assert_eq!(rota.terminate().code(), Some(0), "{name}: {}", rota.stderr()),
            }
            rota = Rota::ready(disk.on(flags));
            let mut wire = Wire::to(rota.address());
            all_there(&mut wire, &there);
            // A start takes history away, which may leave room for a few more.
            there.extend(fill(&mut wire));
            let gone = there.remove(0);
            wire.expect(&format!("delete {gone}"), "DELETED");
        }
        disk.sh("rm -f rest more");
        let mut wire = Wire::to(rota.address());
        until(&format!("a put is taken again on {name}"), || {
            wire.try_put("put 0 0 60", b"x").line.starts_with("INSERTED ").then_some(())
        });
    });
}

#[test]
fn a_server_starts_on_a_full_disk_that_shorter_segments_filled() {
    on_each(|disk, name, flags| {
        let longer: Vec<&str> = flags.iter().map(|&flag| if flag == "1MiB" { "2MiB" } else { flag }).collect();
        let mut rota = Rota::ready(disk.on(flags));
        let mut there = fill(&mut Wire::to(rota.address()));
        take_the_rest(disk);
        for _ in 0..2 {
            rota.kill();
            rota = Rota::ready(disk.on(&longer));
            let mut wire = Wire::to(rota.address());
            all_there(&mut wire, &there);
            // A start takes history away, which may leave room for a few more.
            there.extend(fill(&mut wire));
            take_the_rest(disk);
            let ended: Vec<u64> = there.drain(..there.len() / 3).collect();
            for id in ended {
                wire.expect(&format!("delete {id}"), "DELETED");
            }
            all_there(&mut wire, &there);
        }
        let mut wire = Wire::to(rota.address());
        until(&format!("a put is taken again on {name}"), || {
            wire.try_put("put 0 0 60", b"x").line.starts_with("INSERTED ").then_some(())
        });
    });
}

/// A file system that wants room again for what it set aside before.
#[test]
fn a_full_xfs_refuses_puts_and_all_else_goes_on() {
    let Some(disk) = KINDS[1].mounted(320 << 20) else {
        return not_run("the full disk, xfs", "to mount a small one takes root");
    };
    let all_but_40_mib = "$(( ($(df --output=avail -k . | tail -n 1) - 40960) * 1024 ))";
    assert!(disk.sh(&format!("fallocate -l {all_but_40_mib} most")).status.success());
    let flags = ["--segment-size", "1MiB"];
    let mut rota = Rota::ready(disk.on(&flags));
    let mut there = fill(&mut Wire::to(rota.address()));
    take_the_rest(&disk);
    rota.kill();
    rota = Rota::ready(disk.on(&flags));
    let mut wire = Wire::to(rota.address());
    all_there(&mut wire, &there);
    let half = there.len() / 2;
    for id in there.drain(..half) {
        wire.expect(&format!("delete {id}"), "DELETED");
    }
    all_there(&mut wire, &there);
    until("a put is taken again", || wire.try_put("put 0 0 60", b"x").line.starts_with("INSERTED ").then_some(()));
}

#[test]
fn jobs_far_ahead_leave_memory_and_are_cancelled_on_a_full_disk() {
    let Some(disk) = KINDS[0].mounted(40 << 20) else {
        return not_run("the full disk, jobs far ahead", "to mount a small one takes root");
    };
    let flags = ["--segment-size", "1MiB", "--storage", "mapped", "--near", "1s", "--http", "127.0.0.1:0"];
    let mut rota = Rota::ready(disk.on(&flags));
    let mut wire = Wire::to(rota.address());
    let mut ids = Vec::new();
    loop {
        let answer = wire.try_put("put-in 10 3600000 60000", &[b'x'; BODY_BYTES]);
        if answer.line == "OUT_OF_MEMORY" {
            break;
        }
        ids.push(answer.number(1));
    }
    take_the_rest(&disk);
    all_there(&mut wire, &ids);
    // The room of those that are gone comes back by itself, and what is there comes up again without a byte to spare.
    let third = ids.len() / 3;
    for kept in [2 * third, third] {
        for id in ids.drain(kept..) {
            wire.expect(&format!("cancel {id}"), "CANCELLED");
        }
        all_there(&mut wire, &ids);
        until("a put is taken again", || {
            let answer = wire.try_put("put-in 10 3600000 60000", b"x");
            (answer.line != "OUT_OF_MEMORY").then(|| ids.push(answer.number(1)))
        });
        take_the_rest(&disk);
        rota.kill();
        rota = Rota::ready(disk.on(&flags));
        wire = Wire::to(rota.address());
        all_there(&mut wire, &ids);
    }
}

/// Ends with the code of a failed log, having answered nothing after it; returns the ids that it had answered.
#[track_caller]
fn fail(command: Command) -> Vec<u64> {
    let mut rota = Rota::ready(command);
    let mut wire = Wire::to(rota.address());
    let mut bystander = Wire::to(rota.address());
    bystander.expect("list-tube-used", "USING default");
    let mut ids = Vec::new();
    let mut put = put_bytes("put 0 0 60", &[b'x'; 3_000]);
    put.extend(b"list-tube-used\r\n");
    while wire.send(&put).is_ok() {
        assert!(ids.len() < 20_000, "the write never failed");
        let Ok(answer) = wire.answer() else { break };
        assert!(answer.line.starts_with("INSERTED "), "{answer:?}");
        ids.push(answer.number(1));
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

/// A limit on the length of files: a write of which the kernel takes a part, and then no more.
fn limited(data: &Path, flags: &[&str]) -> Command {
    // The signal would end the process before the write says anything.
    let shell = "trap '' XFSZ; exec prlimit --fsize=1600000 \"$@\"";
    wrapped(&["sh", "-c", shell, "sh"], &on(data, flags))
}

#[test]
fn a_failed_write_ends_the_server_with_its_own_exit_code() {
    for sync in ["always", "50ms", "never"] {
        let data = TempDir::new().unwrap();
        let ids = fail(limited(data.path(), &["--sync", sync]));
        let rota = Rota::ready(on(data.path(), &[]));
        let mut wire = Wire::to(rota.address());
        for id in &ids {
            let answer = wire.ask(&format!("peek {id}"));
            assert!(answer.line.starts_with("FOUND "), "{id}: {}", answer.line);
        }
        let jobs = wire.ask("stats").count("current-jobs-ready");
        let acknowledged = ids.len() as u64;
        assert!((acknowledged..=acknowledged + 1).contains(&jobs), "{jobs} jobs, {acknowledged} acknowledged");
    }
}
