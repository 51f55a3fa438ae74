//! Told to stop: what was read is answered, what waits is told, and the exit code is 0.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::process::{Rota, on, until};
use crate::wire::{Wire, put_bytes};

#[test]
fn who_waits_is_told_that_nothing_came() {
    for signal in ["TERM", "INT"] {
        let data = TempDir::new().unwrap();
        let mut rota = Rota::ready(on(data.path(), &[]));
        let mut waiting = Wire::to(rota.address());
        let mut idle = Wire::to(rota.address());
        waiting.send("reserve\r\nlist-tube-used\r\n").unwrap();
        until("it waits", || (idle.ask("stats").count("current-waiting") == 1).then_some(()));
        rota.signal(signal);
        assert_eq!(String::from_utf8_lossy(&waiting.rest()), "TIMED_OUT\r\nUSING default\r\n");
        assert_eq!(idle.rest(), b"");
        let status = rota.wait();
        assert_eq!((status.code(), rota.stderr().as_str()), (Some(0), ""), "{signal}");
    }
}

#[test]
fn every_command_that_was_carried_out_was_answered() {
    for sync in ["always", "never"] {
        let data = TempDir::new().unwrap();
        let mut rota = Rota::ready(on(data.path(), &["--sync", sync]));
        let address = rota.address();
        let mut wires: Vec<Wire> = (0..4).map(|_| Wire::to(address)).collect();
        let puts = put_bytes("put 0 0 60", b"pipelined").repeat(5_000);
        let writers: Vec<_> = wires
            .iter()
            .map(|wire| {
                let mut stream = wire.stream().try_clone().unwrap();
                let puts = puts.clone();
                // Its end is the server's: what it did not read is lost.
                std::thread::spawn(move || std::io::Write::write_all(&mut stream, &puts).ok())
            })
            .collect();
        let mut answers: u64 = 0;
        for wire in &mut wires {
            assert!(wire.answer().unwrap().line.starts_with("INSERTED "));
            answers += 1;
        }
        rota.signal("TERM");
        for wire in &mut wires {
            let rest = String::from_utf8(wire.rest()).unwrap();
            assert!(rest.is_empty() || rest.ends_with("\r\n"), "half an answer: {rest:?}");
            assert!(rest.lines().all(|line| line.starts_with("INSERTED ")));
            answers += rest.lines().count() as u64;
        }
        for writer in writers {
            writer.join().unwrap();
        }
        let status = rota.wait();
        assert_eq!((status.code(), rota.stderr().as_str()), (Some(0), ""));

        let rota = Rota::ready(on(data.path(), &[]));
        let mut wire = Wire::to(rota.address());
        assert_eq!(wire.ask("stats").count("current-jobs-ready"), answers, "--sync {sync}");
        assert_eq!(wire.put("put 0 0 60", b"next"), answers + 1, "ids go on without a gap");
    }
}

#[test]
fn a_store_that_was_stopped_says_what_it_recovers() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    wire.put("put 0 0 60", b"one");
    wire.put("put 0 0 60", b"two");
    wire.expect("delete 1", "DELETED");
    rota.terminate();
    let rota = Rota::ready(on(data.path(), &[]));
    let told = rota.line(0, |line| line.starts_with("recovered "));
    assert!(told.starts_with("recovered 1 jobs from ") && told.ends_with(" in 1 segments"), "{told}");
}

#[test]
fn a_server_ends_in_good_order_when_its_terminal_is_gone() {
    let data = TempDir::new().unwrap();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let inner = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut command = on(data.path(), &[]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(inner);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(" ready: ")));
    // As long as the terminal is there, it is told there that files are read again.
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let mut terminal = BufReader::new(File::from(terminal));
    let mut said = String::new();
    terminal.read_line(&mut said).unwrap();
    assert_eq!(said.trim_end(), "rota: SIGHUP: certificates and tokens are read again");
    drop(terminal);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let status = until("it stops", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
