//! Peers of the HTTP port who take too long, over real sockets: each kind of wait is short here, and all others are as ever,
//! which is longer than these tests wait.

use crate::services::services;
use crate::session::facts;
use rota_engine::engine::{Engine, Options};
use rota_engine::job::Time;
use rota_net::beanstalkd::Facts;
use rota_net::host::Host;
use rota_net::http::{self, HttpOptions, Patience};
use rota_net::peers::{Connections, PerAddress};
use rota_net::tls::Port;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long something may take before a test fails: less than any wait that is not short.
const DEADLINE: Duration = Duration::from_secs(30);

/// A wait that is short.
const SHORT: Duration = Duration::from_millis(50);

/// A server in this process, which ends with it.
struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn with(patience: Patience) -> Server {
        let (stop, stopped) = watch::channel(false);
        let (sender, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(patience, sender, stopped));
        });
        Server { address: address.recv_timeout(DEADLINE).unwrap(), stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The answer to a request that closes its connection, with its head.
    fn ask(&self, line: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n");
        stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
        rest(&mut stream)
    }

    /// Waits until nobody has a connection but whoever asks.
    fn until_alone(&self) {
        let began = Instant::now();
        while !self.ask("GET /v1/stats", "").contains("\"http\":1}") {
            assert!(began.elapsed() < DEADLINE, "somebody is still there");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

async fn serve(patience: Patience, address: mpsc::Sender<SocketAddr>, stop: watch::Receiver<bool>) {
    let facts = Facts { max_job_bytes: 32 << 20, ..facts() };
    let engine = Engine::in_memory(Options::default(), Time(0), Time(0));
    let host = Host::start(engine, None, facts, None, 0).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    address.send(socket.local_addr().unwrap()).unwrap();
    let connections = Connections { most: 100, per_address: PerAddress::Half };
    let options = HttpOptions { connections, patience, names: Vec::new() };
    http::serve(host.clone(), vec![Port { socket, tls: None }], options, services(None), stop).await;
    host.stop().unwrap();
}

/// All that comes until the server closes, however it does that.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server neither speaks nor closes: {error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether it is a whole answer with that status that says why.
fn is_problem(answer: &str, status: u16, kind: &str) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(&format!("\"/problems/{kind}\""))
}

#[test]
fn a_head_that_does_not_come_ends_its_connection() {
    // Not so short that who asks at once may come too late where much else is done.
    let server = Server::with(Patience { head: Duration::from_secs(1), ..Patience::default() });
    let mut silent = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET /healthz HTT").unwrap();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(rest(&mut silent), "");
    assert_eq!(rest(&mut half), "");
    let answer = rest(&mut idle);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    // One that waits for its answer is not idle.
    let waited = server.ask("POST /v1/leases", "{\"queues\": [\"none\"], \"wait\": \"1500ms\"}");
    assert!(waited.starts_with("HTTP/1.1 200 ") && waited.contains("\"leases\":[]"), "{waited}");
}

#[test]
fn a_body_that_pauses_is_told_so() {
    let server = Server::with(Patience { body_pause: SHORT, ..Patience::default() });
    for (length, sent) in
        [("content-length: 100", "{\"queue\": "), ("transfer-encoding: chunked", "a\r\n{\"queue\": \r\n")]
    {
        let mut stream = server.connect();
        let head =
            format!("POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
        stream.write_all(format!("{head}{sent}").as_bytes()).unwrap();
        let answer = rest(&mut stream);
        assert!(is_problem(&answer, 408, "too-slow") && answer.contains("10 bytes of the body came"), "{answer}");
    }
    let put = server.ask("POST /v1/jobs", "{\"queue\": \"work\", \"text\": \"x\"}");
    assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
}

#[test]
fn a_body_that_trickles_is_told_so() {
    let patience = Patience { body: SHORT, body_bytes_per_second: u32::MAX, ..Patience::default() };
    let server = Server::with(patience);
    let mut stream = server.connect();
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // A byte whenever the server has said nothing for a moment: it never pauses.
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (began, mut first) = (Instant::now(), [0]);
    loop {
        assert!(began.elapsed() < DEADLINE, "it may go on without end");
        if stream.write_all(b" ").is_err() {
            break;
        }
        match stream.read(&mut first) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let answer = format!("{}{}", char::from(first[0]), rest(&mut stream));
    assert!(is_problem(&answer, 408, "too-slow"), "{answer}");
}

/// Has the server begin to send a long answer, and takes nothing of it.
fn deaf(server: &Server) -> TcpStream {
    const LONG: usize = 24 << 20;
    let put = server.ask("POST /v1/jobs", &format!("{{\"queue\": \"work\", \"text\": \"{}\"}}", "x".repeat(LONG)));
    assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
    let mut deaf = server.connect();
    deaf.write_all(b"GET /v1/jobs/1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    deaf
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut_off() {
    let server = Server::with(Patience { write: SHORT, ..Patience::default() });
    let mut deaf = deaf(&server);
    server.until_alone();
    let answer = rest(&mut deaf);
    assert!(answer.len() < 24 << 20, "all of it came");
}

#[test]
fn who_takes_a_little_now_and_then_is_cut_off_too() {
    let patience = Patience { answer: SHORT, answer_bytes_per_second: u32::MAX, ..Patience::default() };
    let server = Server::with(patience);
    let mut slow = deaf(&server);
    let (began, mut some) = (Instant::now(), [0; 1000]);
    while !server.ask("GET /v1/stats", "").contains("\"http\":1}") {
        assert!(began.elapsed() < DEADLINE, "it may go on without end");
        if !slow.read(&mut some).is_ok_and(|length| length > 0) {
            break;
        }
    }
    let answer = rest(&mut slow);
    assert!(answer.len() < 20 << 20, "all of it came");
}

#[test]
fn who_takes_it_late_gets_all_of_it_where_there_is_patience() {
    let server = Server::with(Patience::default());
    let mut deaf = deaf(&server);
    server.ask("GET /healthz", "");
    let answer = rest(&mut deaf);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.len() > 24 << 20, "{}", answer.len());
}
