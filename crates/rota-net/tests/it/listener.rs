//! Peers of the beanstalkd port who take too long, over real sockets: each kind of wait is short here, and all others are longer
//! than these tests wait.

use crate::server::{self, CONNECTIONS, DEADLINE, Server, rest, soon};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_net::access::{Door, Grant, NotAdmitted};
use rota_net::listener::{self, Entrance, ListenerOptions, Patience};
use rota_net::tls::Port;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A wait that is short.
const SHORT: Duration = Duration::from_millis(50);

/// Not so short that who does it at once may come too late where much else is done.
const NOT_SO_SHORT: Duration = Duration::from_secs(1);

/// Peers may take as long as they want.
const PATIENT: Patience = Patience { write: server::LONG, token: server::LONG, goodbye: server::LONG };

/// A job that no buffer of the kernel has room for.
const LONG: usize = 24 << 20;

/// Lets in who knows the word.
struct Guarded(watch::Sender<u64>);

impl Door for Guarded {
    fn admit(&self, token: Option<&str>) -> Result<Grant, NotAdmitted> {
        match token {
            Some("open-sesame") => Ok(Grant::everything()),
            Some(_) => Err(NotAdmitted::Unknown),
            None => Err(NotAdmitted::NoToken),
        }
    }

    fn renew(&self, grant: &Grant) -> Result<Grant, NotAdmitted> {
        Ok(grant.clone())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

fn server(patience: Patience, door: Option<Arc<dyn Door>>) -> Server {
    let engine = Engine::in_memory(Options::default(), Time(0), Time(0));
    Server::run(engine, 0, move |host, socket, stop| async move {
        let entrance = Entrance { port: Port { socket, tls: None }, door };
        let options = ListenerOptions { connections: CONNECTIONS, patience };
        listener::serve(host, vec![entrance], options, stop).await;
    })
}

fn guarded(patience: Patience) -> Server {
    server(patience, Some(Arc::new(Guarded(watch::channel(0).0))))
}

/// A connection, line by line.
struct Wire(BufReader<TcpStream>);

impl Wire {
    fn to(server: &Server) -> Wire {
        Wire(BufReader::new(server.connect()))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The next line, without its end; nothing where the server closed.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The same of one that may be closed at any moment, however that is done.
    fn line_if_any(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the server neither speaks nor closes: {error}"),
        }
    }

    #[track_caller]
    fn expect(&mut self, command: &str, answer: &str) {
        self.send(format!("{command}\r\n").as_bytes());
        assert_eq!(self.line(), answer, "{command}");
    }

    /// Whatever comes until the server closes.
    fn rest(self) -> String {
        assert!(self.0.buffer().is_empty());
        rest(&mut self.0.into_inner())
    }
}

/// Waits until there are so many connections.
fn until_connections(server: &Server, count: u64) {
    let began = Instant::now();
    while server.host.look(|shared| shared.beanstalkd.connections) != count {
        assert!(began.elapsed() < DEADLINE, "there are not {count} connections");
        std::thread::yield_now();
    }
}

/// Puts a long job, and has it sent by that command without taking it.
fn deaf(server: &Server, command: &str) -> TcpStream {
    let mut wire = Wire::to(server);
    wire.send(format!("put 0 0 60 {LONG}\r\n").as_bytes());
    wire.send(&vec![b'x'; LONG]);
    wire.expect("", "INSERTED 1");
    wire.send(format!("{command}\r\n").as_bytes());
    wire.0.into_inner()
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut_off() {
    let server = server(Patience { write: SHORT, ..PATIENT }, None);
    let mut deaf = deaf(&server, "peek 1");
    until_connections(&server, 0);
    let answer = rest(&mut deaf);
    assert!(answer.len() < LONG, "all of it came");
    // What it asked for is there for others.
    Wire::to(&server).expect("reserve-with-timeout 0", &format!("RESERVED 1 {LONG}"));
}

#[test]
fn who_is_cut_off_gives_back_what_it_was_to_get() {
    let server = server(Patience { write: SHORT, ..PATIENT }, None);
    let mut deaf = deaf(&server, "reserve");
    // It was handed out: that much is taken, and no more.
    let mut begin = [0; 11];
    deaf.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"RESERVED 1 ");
    let mut next = Wire::to(&server);
    next.expect("reserve", &format!("RESERVED 1 {LONG}"));
    assert_eq!(server.host.look(|shared| shared.engine.totals().lost_leases), 0, "no lease ran out");
    drop(deaf);
}

#[test]
fn who_takes_it_late_gets_all_of_it_where_there_is_patience() {
    let server = server(PATIENT, None);
    let mut deaf = deaf(&server, "peek 1");
    // Others are served meanwhile.
    let mut other = Wire::to(&server);
    other.expect("use other", "USING other");
    let mut answer = vec![0; format!("FOUND 1 {LONG}\r\n").len() + LONG + 2];
    deaf.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"FOUND 1 ") && answer.ends_with(b"x\r\n"));
    other.expect("use another", "USING another");
}

#[test]
fn who_sends_half_a_command_may_send_the_rest_whenever_and_holds_nobody_up() {
    let patience = Patience { write: SHORT, token: SHORT, goodbye: SHORT };
    let server = server(patience, None);
    let mut halves = [(); 3].map(|()| Wire::to(&server));
    halves[0].send(b"put 7 0 6");
    halves[1].send(b"put 7 0 60 10\r\nhalf ");
    halves[2].send(b"put 7 0 60 4\r\nhalf\r");
    let mut other = Wire::to(&server);
    until_connections(&server, 4);
    // Whatever waits are short here are over by then.
    let mut deaf = deaf(&server, "peek 1");
    until_connections(&server, 4);
    assert!(rest(&mut deaf).len() < LONG);
    other.expect("delete 1", "DELETED");
    for (half, (rest, id)) in halves.iter_mut().zip([("0 4\r\nhalf\r\n", 2), ("whole\r\n", 3), ("\n", 4)]) {
        half.send(rest.as_bytes());
        assert_eq!(half.line(), format!("INSERTED {id}"));
    }
    other.expect("reserve-with-timeout 0", "RESERVED 2 4");
}

#[test]
fn half_a_command_is_none_when_its_sender_or_the_server_goes() {
    let server = server(PATIENT, None);
    let mut gone = Wire::to(&server);
    gone.expect("use work", "USING work");
    gone.send(b"put 0 0 60 10\r\nhalf ");
    drop(gone);
    until_connections(&server, 0);
    let mut other = Wire::to(&server);
    other.expect("stats-tube work", "NOT_FOUND");
    let mut half = Wire::to(&server);
    half.expect("use work", "USING work");
    half.send(b"put 0 0 60 10\r\nhalf ");
    // It does not wait for the rest.
    drop(server);
    assert_eq!(half.rest(), "");
}

#[test]
fn who_shows_no_token_in_time_is_closed_whatever_else_they_do() {
    let server = guarded(Patience { token: NOT_SO_SHORT, ..PATIENT });
    // Whoever comes too late for that is closed, too.
    let shows = |token: &str, answer: &str| {
        soon(|| {
            let mut wire = Wire::to(&server);
            wire.send(format!("auth {token}\r\n").as_bytes());
            match wire.line_if_any() {
                Some(line) => {
                    assert_eq!(line, answer, "{token}");
                    Some(wire)
                }
                None => None,
            }
        })
    };
    let mut known = shows("open-sesame", "AUTHENTICATED");
    let silent = Wire::to(&server);
    let mut half = Wire::to(&server);
    half.send(b"auth open-ses");
    let wrong = shows("open-barley", "BAD_TOKEN");
    // One that keeps asking has no longer than others.
    let mut busy = Wire::to(&server);
    let began = Instant::now();
    loop {
        // It may be closed in the middle.
        if busy.0.get_mut().write_all(b"list-tube-used\r\n").is_err() {
            break;
        }
        let mut line = String::new();
        match busy.0.read_line(&mut line) {
            Ok(length) if length > 0 => assert_eq!(line, "UNAUTHENTICATED\r\n"),
            _ => break,
        }
        assert!(began.elapsed() < DEADLINE, "it may go on without end");
    }
    assert_eq!([silent.rest(), half.rest(), wrong.rest()], ["", "", ""]);
    until_connections(&server, 1);
    // Who was let in before them stays.
    known.expect("use work", "USING work");
}

#[test]
fn who_waits_for_a_job_without_a_token_waits_for_nothing() {
    let server = guarded(Patience { token: NOT_SO_SHORT, ..PATIENT });
    let wire = soon(|| {
        let mut wire = Wire::to(&server);
        wire.send(b"reserve\r\nreserve-with-timeout 600000\r\n");
        // Whoever comes too late is closed before.
        for _ in 0..2 {
            assert_eq!(wire.line_if_any()?, "UNAUTHENTICATED");
        }
        Some(wire)
    });
    assert_eq!(wire.rest(), "");
}
