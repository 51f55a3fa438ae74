//! Many of everything: connections past the descriptors there are, tubes, and jobs in one command.

use std::io::{Read, Write};
use std::net::TcpStream;

use tempfile::TempDir;

use crate::process::{Rota, on, until, wrapped};
use crate::wire::{Wire, put_bytes};

#[test]
fn connections_past_the_limit_wait_until_others_leave() {
    let data = TempDir::new().unwrap();
    // Room for five beside the descriptors that are kept for other things.
    let command = wrapped(&["prlimit", "--nofile=69"], &on(data.path(), &[]));
    let rota = Rota::ready(command);
    let mut served: Vec<Wire> = (0..5).map(|_| Wire::to(rota.address())).collect();
    for wire in &mut served {
        wire.expect("list-tube-used", "USING default");
    }
    let mut waiting: Vec<Wire> = (0..5).map(|_| Wire::to(rota.address())).collect();
    for wire in &mut waiting {
        wire.send("list-tube-used\r\n").unwrap();
    }
    for round in 0..3 {
        // The ones inside are served as ever.
        let stats = served[0].ask("stats");
        assert_eq!(stats.count("current-connections"), 5, "round {round}");
        let left = served.pop().unwrap();
        drop(left);
        let mut next = waiting.remove(0);
        assert_eq!(next.answer().unwrap().line, "USING default");
        served.insert(0, next);
    }
    drop(served);
    for wire in &mut waiting {
        assert_eq!(wire.answer().unwrap().line, "USING default");
    }
}

#[test]
fn the_http_port_cannot_take_the_descriptors_of_the_queues() {
    let data = TempDir::new().unwrap();
    let command = on(data.path(), &["--http", "127.0.0.1:0", "--sync", "always"]);
    // Room for 70 connections, of which HTTP may have half.
    let mut rota = Rota::ready(wrapped(&["prlimit", "--nofile=134"], &command));
    let mut hogs: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(rota.http()).unwrap()).collect();
    let descriptors = format!("/proc/{}/fd", rota.pid());
    let open = || std::fs::read_dir(&descriptors).unwrap().count();
    until("the HTTP port has taken its share", || (open() >= 45).then_some(()));
    let mut wires: Vec<Wire> = (0..35).map(|_| Wire::to(rota.address())).collect();
    for wire in &mut wires {
        wire.put("put 0 0 60", b"meanwhile");
    }
    assert!(open() < 134, "descriptors are left");
    let mut late = hogs.pop().unwrap();
    late.write_all(b"GET /healthz HTTP/1.1\r\nHost: rota\r\nConnection: close\r\n\r\n").unwrap();
    drop(hogs);
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop((wires, late));
    assert_eq!(rota.terminate().code(), Some(0), "{}", rota.stderr());
}

#[test]
fn a_thousand_tubes_are_watched_listed_and_kept() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &["--sync", "never"]));
    let mut wire = Wire::to(rota.address());
    let tubes: Vec<String> = (0..1000).map(|tube| format!("tube-{tube}")).collect();
    let mut bytes = Vec::new();
    for tube in &tubes {
        bytes.extend(format!("use {tube}\r\n").into_bytes());
        bytes.extend(put_bytes("put 0 0 60", tube.as_bytes()));
    }
    wire.send(bytes).unwrap();
    for tube in &tubes {
        assert_eq!(wire.answer().unwrap().line, format!("USING {tube}"));
        assert!(wire.answer().unwrap().line.starts_with("INSERTED "));
    }
    rota.kill();
    let rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    let listed = String::from_utf8(wire.ask("list-tubes").body).unwrap();
    for tube in &tubes {
        assert!(listed.contains(&format!("- {tube}\n")), "{tube}");
    }
    assert_eq!(listed.lines().count(), 1 + 1 + tubes.len());
    let watch: String = tubes.iter().map(|tube| format!("watch {tube}\r\n")).collect();
    wire.send(watch).unwrap();
    for tube in 0..tubes.len() {
        assert_eq!(wire.answer().unwrap().line, format!("WATCHING {}", tube + 2));
    }
    // All of one priority: by age, across tubes.
    for tube in &tubes {
        assert_eq!(wire.ask("reserve-with-timeout 0").body, tube.as_bytes());
    }
    wire.expect("reserve-with-timeout 0", "TIMED_OUT");
}

#[test]
fn one_command_for_many_jobs_lets_others_have_their_turn() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--sync", "never"]));
    let mut wire = Wire::to(rota.address());
    let jobs: u64 = 20_000;
    let puts = put_bytes("put 0 1000 6000", b"x").repeat(1_000);
    for _ in 0..jobs / 1_000 {
        wire.send(&puts).unwrap();
        for _ in 0..1_000 {
            assert!(wire.answer().unwrap().line.starts_with("INSERTED "));
        }
    }
    let mut other = Wire::to(rota.address());
    wire.send(format!("kick {jobs}\r\nlist-tube-used\r\n")).unwrap();
    // However far the kick is, every look at it adds up.
    loop {
        let stats = other.ask("stats");
        let (ready, delayed) = (stats.count("current-jobs-ready"), stats.count("current-jobs-delayed"));
        assert_eq!(ready + delayed, jobs);
        if delayed == 0 {
            break;
        }
    }
    assert_eq!(wire.answer().unwrap().line, format!("KICKED {jobs}"));
    assert_eq!(wire.answer().unwrap().line, "USING default");
    // A holder of all of them goes: they are ready again, each once.
    let reserves = "reserve-with-timeout 0\r\n".repeat(1_000);
    for _ in 0..jobs / 1_000 {
        wire.send(&reserves).unwrap();
        for _ in 0..1_000 {
            assert!(wire.answer().unwrap().line.starts_with("RESERVED "));
        }
    }
    assert_eq!(other.ask("stats").count("current-jobs-reserved"), jobs);
    drop(wire);
    until("all of them are back", || (other.ask("stats").count("current-jobs-ready") == jobs).then_some(()));
}
