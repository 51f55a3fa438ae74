//! Servers in this process, over real sockets on loopback: each ends with its value.

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
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long something may take that is sure to come, before a test says that it hangs: less than any wait that is not short, and far more
/// than a machine with too much to do lets a process stand still.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// As long as nobody waits here.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Peers may take as long as they want.
pub(crate) const PATIENT: Patience = Patience {
    head: LONG,
    body_pause: LONG,
    body: LONG,
    body_bytes_per_second: 64 << 10,
    discard: LONG,
    write: LONG,
    answer: LONG,
    answer_bytes_per_second: 16 << 10,
};

/// What comes of something that a peer has to do within a short wait, tried until it was quick enough: `None` where it was not.
#[track_caller]
pub(crate) fn soon<T>(mut part: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = part() {
            return done;
        }
        assert!(began.elapsed() < DEADLINE, "it always comes too late");
    }
}

/// As many connections as a test needs.
pub(crate) const CONNECTIONS: Connections = Connections { most: 100, per_address: PerAddress::Half };

/// A server, and the engine behind it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) host: Arc<Host>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The HTTP port, before an engine that keeps no log.
    pub(crate) fn http(patience: Patience) -> Server {
        Server::http_before(Engine::in_memory(Options::default(), Time(0), Time(0)), 0, patience)
    }

    /// The same before that engine, which was told the time when the machine's clock showed `told_at`.
    pub(crate) fn http_before(engine: Engine, told_at: u64, patience: Patience) -> Server {
        Server::run(engine, told_at, move |host, socket, stop| async move {
            let options = HttpOptions { connections: CONNECTIONS, patience, names: Vec::new() };
            http::serve(host, vec![Port { socket, tls: None }], options, services(None), stop).await;
        })
    }

    /// Has something served, on a thread of its own, until the value is dropped.
    pub(crate) fn run<F: Future<Output = ()>>(
        engine: Engine,
        told_at: u64,
        serve: impl FnOnce(Arc<Host>, TcpListener, watch::Receiver<bool>) -> F + Send + 'static,
    ) -> Server {
        let facts = Facts { max_job_bytes: 32 << 20, ..facts() };
        let host = Host::start(engine, None, facts, None, told_at).unwrap();
        let (stop, stopped) = watch::channel(false);
        let (sender, address) = mpsc::channel();
        let served = host.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(socket.local_addr().unwrap()).unwrap();
                serve(served.clone(), socket, stopped).await;
                served.stop().unwrap();
            });
        });
        Server { address: address.recv_timeout(DEADLINE).unwrap(), host, stop, thread: Some(thread) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The answer to a request that closes its connection, with its head.
    pub(crate) fn ask(&self, line: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n");
        stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
        rest(&mut stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// All that comes until the server closes, however it does that.
pub(crate) fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server neither speaks nor closes: {error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
