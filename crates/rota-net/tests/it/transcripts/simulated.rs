//! Rota without sockets: sessions on an engine, under a clock that moves when it is told to.
//!
//! It does what the listener does with sockets, so that a conversation can be had thousands of times a second.

use super::play::{Received, Server};
use rota_engine::command::Delivery;
use rota_engine::engine::{BodyHome, Engine, Options};
use rota_engine::job::Time;
use rota_engine::log::{Group, LogWriter};
use rota_engine::testing::storage::SimulatedDisk;
use rota_net::access::{Door, Grant, NotAdmitted, Pass, Pattern, Role};
use rota_net::beanstalkd::{self, Counters, Facts, Gate, LogFacts, ProcessorTime, Session, Status};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What the wall clock shows when a conversation begins, as the page says.
const START: Time = Time(2_000_000_000_000 * 1_000_000);

/// How long it takes until the server sees what a client sent.
const LATENCY: Duration = Duration::from_micros(1);

/// Where its jobs are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Storage {
    /// In memory.
    Memory,
    /// In a log on a simulated disk, their bodies there alone.
    Lazy,
}

pub(super) struct SimulatedServer {
    engine: Engine,
    /// Where it keeps one.
    log: Option<(LogWriter<SimulatedDisk>, SimulatedDisk)>,
    counters: Counters,
    facts: Facts,
    now: Time,
    connections: BTreeMap<char, Connection>,
    door: Arc<Tokens>,
}

/// The tokens of a conversation.
struct Tokens {
    known: Mutex<BTreeMap<String, Grant>>,
    changes: watch::Sender<u64>,
}

impl Door for Tokens {
    fn admit(&self, token: Option<&str>) -> Result<Grant, NotAdmitted> {
        let name = token.ok_or(NotAdmitted::NoToken)?;
        let grant = self.known.lock().expect("no holder of the lock panics").get(name).cloned();
        grant.ok_or(NotAdmitted::Unknown)
    }

    fn renew(&self, grant: &Grant) -> Result<Grant, NotAdmitted> {
        self.admit(grant.pass().map(|pass| &*pass.id))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Connection {
    /// `None` once the server has closed it.
    session: Option<Session>,
    gate: Option<Arc<Gate>>,
    waits: bool,
    /// What came in behind a reserve that waits.
    backlog: Vec<u8>,
    out: Vec<u8>,
}

impl SimulatedServer {
    pub(super) fn start(storage: Storage) -> SimulatedServer {
        let facts = Facts {
            max_job_bytes: 65_535,
            draining: false,
            version: "0.0.0",
            pid: 1,
            instance: 0x0123_4567_89ab_cdef,
            started_at: START,
            hostname: "simulated \"host\"".to_string(),
            os: "#1 SMP".to_string(),
            platform: "x86_64".to_string(),
            processor_time: || ProcessorTime { user: Duration::from_micros(1_000_002), system: Duration::ZERO },
            log: LogFacts::default(),
        };
        let (engine, log) = match storage {
            Storage::Memory => (Engine::in_memory(Options::default(), START, START), None),
            Storage::Lazy => {
                let disk = SimulatedDisk::new();
                let options = Options { bodies: BodyHome::Log, ..Options::default() };
                let recovered = Engine::recover(options, disk.clone(), [7; 16], START);
                let (engine, writer, _) = recovered.expect("the disk is well");
                (engine, Some((writer, disk)))
            }
        };
        let door = Arc::new(Tokens { known: Mutex::default(), changes: watch::Sender::new(0) });
        let (counters, connections) = Default::default();
        SimulatedServer { engine, log, counters, facts, now: START, connections, door }
    }

    /// Lets a session go on with its backlog as far as it can.
    fn go_on(&mut self, name: char) {
        let SimulatedServer { engine, log, counters, facts, now, connections, .. } = self;
        let connection = connections.get_mut(&name).expect("the connection is open");
        let mut server = beanstalkd::Server { engine, counters, facts, timings: None, now: *now };
        while let Some(session) = connection.session.as_mut().filter(|_| !connection.waits) {
            let (taken, status) = session.receive(&mut server, &connection.backlog, &mut connection.out);
            connection.backlog.drain(..taken);
            fill(session, &mut connection.out, log.as_ref());
            write(server.engine, log.as_mut());
            match status {
                Status::Again => {}
                Status::NeedMore => {
                    assert!(connection.backlog.is_empty(), "a session that needs more has taken all there is");
                    break;
                }
                Status::Waiting => connection.waits = true,
                Status::Close => connection.session.take().expect("it is there").close(&mut server),
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        loop {
            let deliveries: Vec<Delivery> = self.engine.take_deliveries().collect();
            if deliveries.is_empty() {
                return;
            }
            for Delivery { session: id, what } in deliveries {
                let to = |connection: &Connection| connection.session.as_ref().is_some_and(|s| s.id() == id);
                let (&name, connection) =
                    self.connections.iter_mut().find(|(_, connection)| to(connection)).expect("somebody waits for it");
                let session = connection.session.as_mut().expect("who waits is there");
                session.deliver(what, &mut connection.out);
                fill(session, &mut connection.out, self.log.as_ref());
                connection.waits = false;
                self.go_on(name);
            }
        }
    }
}

/// Puts the bodies where the holes in the answers are.
fn fill(session: &mut Session, out: &mut [u8], log: Option<&(LogWriter<SimulatedDisk>, SimulatedDisk)>) {
    for hole in session.take_holes() {
        let (_, disk) = log.expect("there are holes only where bodies are in a log");
        let body = disk.body(hole.body);
        out[hole.at..][..body.len()].copy_from_slice(&body);
    }
}

/// Writes what was decided: from here on, bodies are on the disk alone.
fn write(engine: &mut Engine, log: Option<&mut (LogWriter<SimulatedDisk>, SimulatedDisk)>) {
    let Some((writer, _)) = log else { return };
    let mut group = Group::default();
    if engine.take_records(&mut group) {
        writer.write(&mut group).expect("the disk is well");
        engine.bodies_written(&group.bodies_written());
    }
}

impl Server for SimulatedServer {
    fn connect(&mut self, name: char) {
        let SimulatedServer { engine, counters, facts, now, .. } = self;
        let session = Session::open(&mut beanstalkd::Server { engine, counters, facts, timings: None, now: *now });
        let mut session = session.expect("there is room for a session");
        let asks = !self.door.known.lock().expect("no holder of the lock panics").is_empty();
        let gate = asks.then(|| Arc::new(Gate::new(self.door.clone())));
        if let Some(gate) = &gate {
            session.guard(gate.clone());
        }
        let session = Some(session);
        let (backlog, out) = Default::default();
        let connection = Connection { session, gate, waits: false, backlog, out };
        self.connections.insert(name, connection);
    }

    fn send(&mut self, name: char, bytes: &[u8]) {
        self.advance(LATENCY);
        let connection = self.connections.get_mut(&name).expect("the connection is open");
        if connection.session.is_some() {
            connection.backlog.extend_from_slice(bytes);
            self.go_on(name);
        }
    }

    fn receive(&mut self, name: char, _patiently: bool) -> Received {
        let connection = self.connections.get_mut(&name).expect("the connection is open");
        match (connection.out.is_empty(), &connection.session) {
            (false, _) => Received::Bytes(std::mem::take(&mut connection.out)),
            (true, Some(_)) => Received::Nothing,
            (true, None) => Received::End,
        }
    }

    fn close(&mut self, name: char, only_half: bool) {
        let SimulatedServer { engine, counters, facts, now, connections, .. } = self;
        let mut server = beanstalkd::Server { engine, counters, facts, timings: None, now: *now };
        if only_half {
            let connection = connections.get_mut(&name).expect("the connection is open");
            if let Some(session) = &mut connection.session {
                let status = session.half_close(&mut server, &mut connection.out);
                assert_eq!(status, Status::Again, "no delivery is under way here");
                connection.waits = false;
            }
            self.go_on(name);
        } else {
            if let Some(session) = connections.remove(&name).expect("the connection is open").session {
                session.close(&mut server);
            }
            self.deliver();
        }
    }

    fn advance(&mut self, span: Duration) {
        let until = self.now.after(span);
        while self.engine.next_tick() <= until {
            self.now = self.now.max(self.engine.next_tick());
            while !self.engine.tick(self.now) {}
            self.deliver();
        }
        self.now = until;
        self.engine.tick(until);
        self.deliver();
    }

    fn drain(&mut self) {
        self.facts.draining = true;
    }

    fn token(&mut self, name: &str, roles: &str, queues: Option<&str>) {
        let roles: Vec<Role> = roles.split(',').map(|role| role.parse().expect("a role")).collect();
        let patterns = queues.map(|queues| queues.split(',').map(|pattern| pattern.parse().expect("a pattern")));
        let patterns: Option<Vec<Pattern>> = patterns.map(Iterator::collect);
        let pass = Pass { id: name.into(), digest: [0; 32] };
        let grant = Grant::new(&roles, patterns.as_deref()).for_pass(pass);
        self.door.known.lock().expect("no holder of the lock panics").insert(name.to_string(), grant);
    }

    fn revoke(&mut self, name: &str) {
        self.door.known.lock().expect("no holder of the lock panics").remove(name);
        let SimulatedServer { engine, counters, facts, now, connections, .. } = self;
        let mut server = beanstalkd::Server { engine, counters, facts, timings: None, now: *now };
        for connection in connections.values_mut() {
            if connection.gate.as_ref().is_some_and(|gate| !gate.is_still_open())
                && let Some(session) = connection.session.take()
            {
                session.close(&mut server);
            }
        }
        self.deliver();
    }

    fn quotes_names(&self) -> bool {
        true
    }

    fn is_rota(&self) -> bool {
        true
    }
}
