//! The socket side of the beanstalkd front end: accepts connections, and moves bytes between each and its session.
//!
//! A connection's commands of one read are handed to the engine together, answered by one write, and waited for once.
//! While a connection waits (for a job, for the disk, for its peer to read) nothing more of it is read than one buffer:
//! a slow peer slows itself alone.

use crate::access::Door;
use crate::beanstalkd::{Gate, OUTPUT_BYTES, Session, Status};
use crate::host::{CommitError, Host, Late, Pin as SegmentPin};
use crate::limits::{ACCEPT_REST, HANDSHAKES, READ_BYTES, STOP_PATIENCE};
use crate::peers::{Connections, Peer, Peers, origin};
use crate::tls::{Port, TlsStream, places};
use rota_engine::engine::DependsOn;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

thread_local! {
    /// Where this thread reads to: an idle connection keeps no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Where connections come in.
pub struct Entrance {
    /// The port.
    pub port: Port,
    /// Who says what a token grants; none where nobody is asked for one.
    pub door: Option<Arc<dyn Door>>,
}

/// How the beanstalkd protocol is served.
#[derive(Clone, Copy, Debug)]
pub struct ListenerOptions {
    /// How many connections there may be at a time.
    pub connections: Connections,
    /// How long peers may take.
    pub patience: Patience,
}

/// How long a peer may take; for its next command, and for the rest of one, without end. [`Patience::default`] is what servers
/// have; tests, who cannot wait a minute, have less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// How long it may take none of what it is sent before it is cut off.
    pub write: Duration,
    /// How long it may take to show a token where it is asked for one.
    pub token: Duration,
    /// How long it may take to be told that its connection ends.
    pub goodbye: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { write: Duration::from_secs(60), token: Duration::from_secs(10), goodbye: Duration::from_secs(1) }
    }
}

/// Serves the beanstalkd protocol on these ports until `stop` says true (or is gone). Then it accepts no more, answers what
/// was read, and returns once every connection is closed, or after five seconds. Past the most connections on all of
/// them, the next ones wait to be accepted; past those of one address, its next ones are closed.
pub async fn serve(host: Arc<Host>, entrances: Vec<Entrance>, options: ListenerOptions, stop: watch::Receiver<bool>) {
    let ListenerOptions { connections, patience } = options;
    let places = places(connections.most, entrances.len());
    let room = Arc::new(Semaphore::new(places));
    let peers = Peers::new(connections);
    let mut accepting = JoinSet::new();
    for entrance in entrances {
        accepting.spawn(accept_all(host.clone(), entrance, patience, room.clone(), peers.clone(), stop.clone()));
    }
    while accepting.join_next().await.is_some() {}
    let most = u32::try_from(places).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(STOP_PATIENCE, room.acquire_many(most)).await;
}

async fn accept_all(
    host: Arc<Host>,
    entrance: Entrance,
    patience: Patience,
    room: Arc<Semaphore>,
    peers: Arc<Peers>,
    mut stop: watch::Receiver<bool>,
) {
    let Entrance { port, door } = entrance;
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&port, &room, &handshakes) => accepted,
        };
        let ((stream, address), permit, handshake) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                // Out of descriptors, or a peer that was gone at once: wait quietly for better times.
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Some(seat) = peers.seat(Peer::of(address.ip())) else {
            host.with(|shared, _| shared.beanstalkd.refused_connections += 1);
            continue;
        };
        let permit = (permit, seat);
        let (host, mut stop, tls) = (host.clone(), stop.clone(), port.tls.clone());
        let gate = door.clone().map(|door| Arc::new(Gate::new(door)));
        let Some(tls) = tls else {
            tokio::spawn(async move {
                let _permit = permit;
                if stream.set_nodelay(true).is_ok() {
                    serve_connection(&host, (stream, address), gate, patience, stop).await;
                }
            });
            continue;
        };
        tokio::spawn(async move {
            let _permit = permit;
            if stream.set_nodelay(true).is_err() {
                return;
            }
            let shaken = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                shaken = tls.accept(stream) => shaken,
            };
            drop(handshake);
            if let Ok(stream) = shaken {
                serve_connection(&host, (stream, address), gate, patience, stop).await;
            }
        });
    }
}

/// The next connection, with its place, and one among those that shake hands if it has to.
async fn accept(
    port: &Port,
    room: &Arc<Semaphore>,
    handshakes: &Arc<Semaphore>,
) -> io::Result<((TcpStream, SocketAddr), OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)> {
    let handshake = match port.tls {
        Some(_) => Some(handshakes.clone().acquire_owned().await.map_err(io::Error::other)?),
        None => None,
    };
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((port.socket.accept().await?, permit, handshake))
}

/// What a connection's bytes come and go through.
trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Hands over what can be without waiting; how many bytes that was.
    fn write_now(&mut self, bytes: &[u8]) -> usize;

    /// Says that nothing more comes, where that is said in so many words.
    async fn say_goodbye(&mut self, patience: Duration);
}

impl Socket for TcpStream {
    fn write_now(&mut self, bytes: &[u8]) -> usize {
        self.try_write(bytes).unwrap_or(0)
    }

    async fn say_goodbye(&mut self, _: Duration) {}
}

impl Socket for TlsStream<TcpStream> {
    fn write_now(&mut self, _: &[u8]) -> usize {
        0
    }

    async fn say_goodbye(&mut self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.shutdown()).await;
    }
}

async fn serve_connection<S: Socket>(
    host: &Arc<Host>,
    (stream, address): (S, SocketAddr),
    gate: Option<Arc<Gate>>,
    patience: Patience,
    stop: watch::Receiver<bool>,
) {
    let origin = origin(address);
    let (session, _) = host.with(|shared, now| {
        let session = Session::open(&mut shared.server(now))?;
        shared.engine.set_origin(session.id(), Some(origin));
        Some(session)
    });
    let Some(mut session) = session else { return };
    if let Some(gate) = &gate {
        session.guard(gate.clone());
    }
    let mut connection = Connection {
        host,
        stream,
        patience,
        stop,
        session,
        backlog: Vec::new(),
        out: Vec::new(),
        pin: None,
        depends_on: DependsOn::default(),
        is_frozen: false,
        delivers: false,
    };
    // However it ends, nobody is left to be told.
    let ended = match gate {
        None => connection.run().await,
        Some(gate) => tokio::select! {
            biased;
            () = closes(&gate, patience.token) => Err(Ended::Closed),
            ended = connection.run() => ended,
        },
    };
    let Connection { session, mut stream, .. } = connection;
    host.with(|shared, now| {
        shared.await_nothing(session.id());
        session.close(&mut shared.server(now));
    });
    if !matches!(ended, Err(Ended::Log)) {
        stream.say_goodbye(patience.goodbye).await;
    }
}

/// Ends when nobody showed a token in time, or the token that was shown is valid no more.
async fn closes(gate: &Gate, patience: Duration) {
    let mut changes = gate.changes();
    let mut patience = std::pin::pin!(tokio::time::sleep(patience));
    loop {
        let is_open = tokio::select! {
            () = &mut patience, if !patience.is_elapsed() => gate.is_passed(),
            changed = changes.changed() => match changed {
                Ok(()) => gate.is_still_open(),
                Err(_) => std::future::pending().await,
            },
        };
        if !is_open {
            return;
        }
    }
}

/// Why a connection is closed.
enum Ended {
    /// One side said so.
    Closed,
    /// The socket failed.
    Socket,
    /// The log failed: nothing may be sent any more.
    Log,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Ended {
        Ended::Socket
    }
}

impl From<CommitError> for Ended {
    fn from(_: CommitError) -> Ended {
        Ended::Log
    }
}

type Waited = oneshot::Receiver<Late>;

struct Connection<'a, S> {
    host: &'a Arc<Host>,
    stream: S,
    patience: Patience,
    stop: watch::Receiver<bool>,
    session: Session,
    /// What was read and not handled yet.
    backlog: Vec<u8>,
    out: Vec<u8>,
    /// Held while `out` has holes: the bodies' segments stay.
    pin: Option<SegmentPin>,
    /// What `out` waits for.
    depends_on: DependsOn,
    /// Whether the backlog could not be handled: nothing is decided any more.
    is_frozen: bool,
    /// Whether somebody got a job by it that they waited for.
    delivers: bool,
}

impl<S: Socket> Connection<'_, S> {
    async fn run(&mut self) -> Result<(), Ended> {
        // One for all reads: to begin to wait for it costs more than to look whether it has come.
        let mut stop = self.stop.clone();
        let mut stopped = std::pin::pin!(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let mut read_on = true;
        loop {
            let (status, waited) = if read_on && self.backlog.is_empty() {
                self.read_and_handle(stopped.as_mut()).await?
            } else {
                let backlog = std::mem::take(&mut self.backlog);
                self.handle(&backlog)
            };
            read_on = status != Status::Again;
            if self.look_up().await? {
                continue;
            }
            if !read_on && self.out.len() < OUTPUT_BYTES {
                // Nothing to wait for yet; only the others get their turn.
                self.let_others().await?;
                continue;
            }
            if self.delivers {
                let_others_go_first().await;
            }
            self.send().await?;
            match status {
                Status::NeedMore | Status::Again if self.is_frozen => {
                    self.wait_until_thawed().await?;
                    read_on &= !self.session.is_under_way();
                }
                Status::NeedMore | Status::Again => {}
                Status::Close => return Err(Ended::Closed),
                Status::Waiting => {
                    self.wait(waited.expect("who waits has where to wait"), stopped.as_mut()).await?;
                    if self.session.is_under_way() {
                        // What came is the first of a batch; the rest is ready now or never.
                        read_on = false;
                        continue;
                    }
                    self.send().await?;
                }
            }
            self.wait_while_behind().await?;
            if self.session.take_has_put() {
                self.host.slow_down().await;
            }
        }
    }

    /// Lets the others have their turn.
    async fn let_others(&self) -> Result<(), Ended> {
        tokio::task::yield_now().await;
        self.wait_while_behind().await
    }

    /// Waits while much is decided that is not written.
    async fn wait_while_behind(&self) -> Result<(), Ended> {
        while self.host.is_behind() {
            self.host.left_behind(self.depends_on).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Reads once, and handles what came.
    async fn read_and_handle(
        &mut self,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(Status, Option<Waited>), Ended> {
        tokio::select! {
            biased;
            handled = std::future::poll_fn(|context| self.poll_read_and_handle(context)) => handled,
            () = stopped => Err(Ended::Closed),
        }
    }

    fn poll_read_and_handle(&mut self, context: &mut Context<'_>) -> Poll<Result<(Status, Option<Waited>), Ended>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(Ended::Closed));
            }
            Poll::Ready(Ok(self.handle(buffer.filled())))
        })
    }

    /// Hands input to the session, and keeps what it leaves.
    fn handle(&mut self, input: &[u8]) -> (Status, Option<Waited>) {
        let Connection { session, out, pin, .. } = self;
        let (mut is_frozen, mut delivers) = (false, false);
        let ((taken, status, waited), depends_on) = self.host.with_and_wait(|shared, now| {
            is_frozen = shared.is_frozen;
            if is_frozen {
                return ((0, Status::NeedMore, None), false);
            }
            let (taken, status) = session.receive(&mut shared.server(now), input, out);
            if session.has_holes() && pin.is_none() {
                *pin = Some(shared.pins.pin());
            }
            let waited = (status == Status::Waiting).then(|| shared.await_delivery(session.id()));
            delivers = shared.engine.has_deliveries();
            // What is to be sent waits for the log, soon.
            ((taken, status, waited), status != Status::Again && !out.is_empty())
        });
        self.is_frozen = is_frozen;
        self.delivers = delivers;
        self.depends_on = depends_on;
        self.backlog.extend_from_slice(&input[taken..]);
        (status, waited)
    }

    /// Looks up what the session wants, if it wants something.
    async fn look_up(&mut self) -> Result<bool, Ended> {
        let wants = self.session.take_wants();
        let has_wants = !wants.is_empty();
        if has_wants {
            self.session.give(self.host.look_up(wants).await?);
        }
        Ok(has_wants)
    }

    /// Sends what is to be sent, once it may leave.
    async fn send(&mut self) -> Result<(), Ended> {
        if !self.out.is_empty() {
            self.host.left_behind(self.depends_on).await?;
            if self.session.has_holes() {
                self.host.fill(&mut self.out, self.session.take_holes()).await?;
                self.pin = None;
            }
            let sent = self.stream.write_now(&self.out);
            if sent < self.out.len() {
                self.send_from(sent).await?;
            }
            self.out.clear();
            self.out.shrink_to(READ_BYTES);
        }
        Ok(())
    }

    /// Sends the rest, as slowly as the peer takes it, as long as it takes any.
    async fn send_from(&mut self, mut sent: usize) -> Result<(), Ended> {
        let Connection { stream, out, patience, .. } = self;
        while sent < out.len() {
            let write = tokio::time::timeout(patience.write, stream.write(&out[sent..]));
            match write.await.map_err(|_| Ended::Socket)?? {
                0 => return Err(Ended::Socket),
                written => sent += written,
            }
        }
        tokio::time::timeout(patience.write, stream.flush()).await.map_err(|_| Ended::Socket)??;
        Ok(())
    }

    /// Waits until commands are decided again. If the server stops instead, what was read is not carried out.
    async fn wait_until_thawed(&mut self) -> Result<(), Ended> {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.host.wait_until_thawed() => Ok(()),
            _ = stop.wait_for(|stop| *stop) => Err(Ended::Closed),
        }
    }

    /// Waits for a job, while it watches for the peer to go.
    async fn wait(&mut self, mut waited: Waited, mut stopped: Pin<&mut impl Future<Output = ()>>) -> Result<(), Ended> {
        loop {
            let gone = tokio::select! {
                biased;
                delivered = &mut waited => {
                    let late = delivered.map_err(|_| Ended::Closed)?;
                    self.depends_on = late.depends_on;
                    self.deliver(late);
                    return Ok(());
                }
                read = read_more(&mut self.stream, &mut self.backlog) => read? == 0,
                () = stopped.as_mut() => true,
            };
            if gone {
                return self.half_close(waited).await;
            }
        }
    }

    fn deliver(&mut self, late: Late) {
        self.session.deliver(late.what, &mut self.out);
        // One that is held already is older, and keeps as much.
        self.pin = self.pin.take().or(late.pin);
    }

    /// Handles what is left after the peer (or the server) ends its side.
    async fn half_close(&mut self, waited: Waited) -> Result<(), Ended> {
        let Connection { session, out, .. } = self;
        let (status, depends_on) = self.host.with(|shared, now| session.half_close(&mut shared.server(now), out));
        self.depends_on = self.depends_on.max(depends_on);
        if status == Status::Waiting {
            // The delivery was decided before the wait could be ended.
            let late = waited.await.map_err(|_| Ended::Closed)?;
            self.depends_on = self.depends_on.max(late.depends_on);
            self.deliver(late);
        }
        loop {
            let backlog = std::mem::take(&mut self.backlog);
            let (status, _) = self.handle(&backlog);
            self.look_up().await?;
            self.send().await?;
            if self.is_frozen {
                self.wait_until_thawed().await?;
            }
            match status {
                Status::Close => return Err(Ended::Closed),
                Status::Again => self.let_others().await?,
                Status::NeedMore | Status::Waiting => {}
            }
        }
    }
}

/// Lets those have their turn that were just woken: who waited for a job has it before whoever put it knows.
async fn let_others_go_first() {
    let mut is_later = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_later, true) {
            return Poll::Ready(());
        }
        // Unlike `yield_now`, without a look for what comes in first.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Reads what comes behind a reserve that waits, as far as there is room for it; says how much that was.
async fn read_more<S: Socket>(stream: &mut S, backlog: &mut Vec<u8>) -> io::Result<usize> {
    if backlog.len() >= READ_BYTES {
        return std::future::pending().await;
    }
    std::future::poll_fn(|context| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..READ_BYTES - backlog.len()]);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            backlog.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}
