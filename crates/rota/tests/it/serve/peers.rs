//! Peers that speak something else, too much, or half: over real sockets, where bytes come as they come.

use std::io::Write;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Rota, on, until};
use crate::wire::{Wire, batch_bytes, put_bytes};

fn server(flags: &[&str]) -> (TempDir, Rota) {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), flags));
    (data, rota)
}

#[test]
fn http_and_tls_are_closed_and_run_nothing() {
    let (_data, rota) = server(&[]);
    let put = "put 0 0 60 1\r\nx\r\n";
    let requests = [
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{put}", put.len()),
        format!("GET /{} HTTP/1.0\r\n\r\n{put}", "x".repeat(1_000)),
        format!("OPTIONS * HTTP/2.0\n\n{put}"),
        format!("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n{put}"),
    ];
    for request in &requests {
        let mut wire = Wire::to(rota.address());
        // It may close before all is sent.
        wire.send(request).ok();
        assert_eq!(wire.rest(), b"", "{request:?}");
        // And the same a byte at a time.
        let wire = &mut Wire::to(rota.address());
        let _ = request.bytes().try_for_each(|byte| wire.stream().write_all(&[byte]));
        assert_eq!(wire.rest(), b"", "{request:?}");
    }
    let mut other = Wire::to(rota.address());
    let stats = other.ask("stats");
    assert_eq!((stats.count("total-jobs"), stats.count("cmd-put")), (0, 0));
    until("they are gone", || (other.ask("stats").count("current-connections") == 1).then_some(()));
}

#[test]
fn every_limit_of_the_protocol_holds() {
    let (_data, rota) = server(&["--max-job-size", "1000"]);
    let mut wire = Wire::to(rota.address());
    // A line of 224 bytes with its CRLF is the longest that is read; padding is allowed before numbers.
    let line = |length: usize| format!("delete{}9", " ".repeat(length - "delete9\r\n".len()));
    wire.expect(&line(224), "NOT_FOUND");
    wire.expect(&line(225), "BAD_FORMAT");
    wire.expect(&line(100_000), "BAD_FORMAT");
    wire.expect(&format!("use {}", "n".repeat(200)), &format!("USING {}", "n".repeat(200)));
    wire.expect(&format!("use {}", "n".repeat(201)), "BAD_FORMAT");
    wire.expect(&format!("watch {}", "n".repeat(201)), "BAD_FORMAT");
    assert_eq!(wire.put("put 0 0 60", &[0; 1000]), 1);
    assert_eq!(wire.try_put("put 0 0 60", &[0; 1001]).line, "JOB_TOO_BIG");
    assert_eq!(wire.try_put("put 0 0 60", &[0; 5_000_000]).line, "JOB_TOO_BIG");
    wire.expect("put 0 0 60 4294967296", "BAD_FORMAT");
    let key = "k".repeat(200);
    assert_eq!(wire.put(&format!("put-in 0 0 60 # {key}"), b""), 2);
    wire.expect(&format!("put-in 0 0 60 0 {key}k"), "BAD_FORMAT");
    wire.expect("list-tube-used", &format!("USING {}", "n".repeat(200)));
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let (_data, rota) = server(&[]);
    let before = rota.resident_bytes();
    let mut wire = Wire::to(rota.address());
    for _ in 0..64 {
        wire.send(vec![b'x'; 1 << 20]).unwrap();
    }
    let mut other = Wire::to(rota.address());
    other.expect("list-tube-used", "USING default");
    let grown = rota.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "64 MiB of a line took {grown} bytes");
    wire.expect("", "BAD_FORMAT");
}

#[test]
fn an_announced_body_takes_memory_only_as_it_comes() {
    let (_data, rota) = server(&["--max-job-size", "1GiB"]);
    let before = rota.resident_bytes();
    let mut wires: Vec<Wire> = (0..20).map(|_| Wire::to(rota.address())).collect();
    for wire in &mut wires {
        wire.send("put 0 0 60 1073741824\r\nx").unwrap();
    }
    let mut other = Wire::to(rota.address());
    until("all of them are connected", || (other.ask("stats").count("current-connections") == 21).then_some(()));
    let grown = rota.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "20 bytes took {grown}");
}

#[test]
fn a_slow_reader_hurts_only_itself() {
    let (_data, rota) = server(&[]);
    let mut fast = Wire::to(rota.address());
    let id = fast.put("put 0 1000 60", &[b'x'; 60_000]);
    let before = rota.resident_bytes();
    // Each asks for a gigabyte and takes none of it, until its commands are no longer read either.
    let slow: Vec<Wire> = (0..4).map(|_| Wire::to(rota.address())).collect();
    for wire in &slow {
        wire.stream().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let commands = format!("peek {id}\r\n").repeat(18_000);
        let mut stream = wire.stream();
        // All of it, or as much as the socket takes while nobody reads.
        let _ = stream.write_all(commands.as_bytes());
    }
    for _ in 0..200 {
        let job = fast.put("put 0 0 60", b"quick");
        assert_eq!(fast.ask("reserve").line, format!("RESERVED {job} 5"));
        fast.expect(&format!("delete {job}"), "DELETED");
    }
    let grown = rota.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "slow readers made it take {grown} bytes");
    drop(slow);
    until("the slow ones are gone", || (fast.ask("stats").count("current-connections") == 1).then_some(()));
}

#[test]
fn who_half_closes_while_it_waits_is_told_that_nothing_came() {
    let (_data, rota) = server(&[]);
    for (sent, answered) in [
        ("reserve\r\n", "TIMED_OUT\r\n"),
        ("reserve-with-timeout 1000\r\nlist-tube-used\r\n", "TIMED_OUT\r\nUSING default\r\n"),
        ("reserve\r\nreserve\r\nput 0 0 60 5\r\nhe", "TIMED_OUT\r\nTIMED_OUT\r\n"),
    ] {
        let mut wire = Wire::to(rota.address());
        wire.send(sent).unwrap();
        wire.half_close();
        assert_eq!(String::from_utf8_lossy(&wire.rest()), answered, "{sent:?}");
    }
    let mut other = Wire::to(rota.address());
    until("nobody waits", || (other.ask("stats").count("current-waiting") == 0).then_some(()));
    assert_eq!(other.ask("stats").count("total-jobs"), 0);
}

#[test]
fn what_takes_many_turns_at_the_end_of_a_connection_leaves_others_theirs() {
    let (_data, rota) = server(&["--storage", "memory"]);
    let mut wire = Wire::to(rota.address());
    let (jobs, batch) = (200_000, 1_000);
    for _ in 0..jobs / batch {
        let puts: Vec<_> = (0..batch).map(|_| put_bytes("put 0 0 60", b"")).collect();
        wire.send(batch_bytes(&puts)).unwrap();
        assert!(wire.line().unwrap().starts_with("BATCH_INSERTED "));
    }
    // All of them are buried, and then all kicked, by one who is gone meanwhile.
    let ids: Vec<u64> = (1..=jobs).collect();
    for ids in ids.chunks(batch as usize) {
        let buries: String = ids.iter().map(|id| format!("reserve-job {id}\r\nbury {id} 0\r\n")).collect();
        wire.send(buries).unwrap();
        for _ in ids {
            assert!(wire.answer().unwrap().line.starts_with("RESERVED "));
            assert_eq!(wire.answer().unwrap().line, "BURIED");
        }
    }
    let mut gone = Wire::to(rota.address());
    gone.send("watch none\r\nignore default\r\nreserve\r\nkick 4294967295\r\n").unwrap();
    until("it waits", || (wire.ask("stats").count("current-waiting") == 1).then_some(()));
    gone.half_close();
    // Each look is answered between two of its turns.
    let mut seen = Vec::new();
    until("all are kicked", || {
        let left = wire.ask("stats").count("current-jobs-buried");
        seen.push(left);
        (left == 0).then_some(())
    });
    assert!(seen.iter().any(|left| (1..jobs).contains(left)), "{seen:?}: others had no turn");
}

#[test]
fn commands_behind_a_reserve_that_waits_are_kept_and_bounded() {
    let (_data, rota) = server(&[]);
    let before = rota.resident_bytes();
    let mut wire = Wire::to(rota.address());
    wire.stream().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let lines = "list-tube-used\r\n".repeat(1 << 20);
    let mut stream = wire.stream();
    stream.write_all(b"reserve\r\n").unwrap();
    let sent = lines.as_bytes().chunks(1 << 14).take_while(|chunk| stream.write_all(chunk).is_ok()).count();
    assert!(sent < 1024, "16 MiB behind a reserve were read");
    let grown = rota.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "what waits took {grown} bytes");
    Wire::to(rota.address()).put("put 0 0 60", b"go on");
    assert_eq!(wire.answer().unwrap().line, "RESERVED 1 5");
    // All that was taken whole is carried out.
    for _ in 0..sent * (1 << 14) / 16 {
        assert_eq!(wire.answer().unwrap().line, "USING default");
    }
}
