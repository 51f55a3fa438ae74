//! The sockets of the HTTP port: accepts connections, a bounded number at a time, and gives each its time and no more.
//!
//! A connection that sends nothing, or takes nothing of what it is sent, is closed. What it costs until then is its own
//! memory: nobody waits for it.

use super::api::Api;
use super::framing::Framing;
use super::handed::Outgoing;
use super::patience::Patience;
use super::problem::{Kind, Problem};
use crate::limits::{ACCEPT_REST, HANDSHAKES, HEADERS, HTTP_BUFFER_BYTES, STOP_PATIENCE};
use crate::peers::{Connections, Peer, Peers, Seat};
use crate::tls::{Port, places};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

/// Serves until the server stops: then it accepts no more, and returns once every request was answered, or after five
/// seconds. Past the most connections on all ports, the next ones wait to be accepted; past those of one address, its next
/// ones are told so, if they speak as they are, and closed.
pub(super) async fn serve(api: Arc<Api>, router: Router, ports: Vec<Port>, connections: Connections) {
    let all = places(connections.most, ports.len());
    let room = Arc::new(Semaphore::new(all));
    let peers = Peers::new(connections);
    let mut accepting = JoinSet::new();
    for port in ports {
        accepting.spawn(serve_port(api.clone(), router.clone(), port, room.clone(), peers.clone()));
    }
    while accepting.join_next().await.is_some() {}
    // Those that went on with messages end by themselves.
    let all = u32::try_from(all).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(STOP_PATIENCE, room.acquire_many(all)).await;
}

/// A place among the connections that are counted: kept by what goes on behind an answer.
#[derive(Clone)]
pub(super) struct Place {
    #[expect(dead_code, reason = "it is kept")]
    permit: Arc<(OwnedSemaphorePermit, Seat)>,
    /// Whose connection it is.
    pub(super) peer: Peer,
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// Whether the connection is inside TLS.
    pub(super) is_tls: bool,
}

async fn serve_port(api: Arc<Api>, router: Router, port: Port, room: Arc<Semaphore>, peers: Arc<Peers>) {
    let Port { socket, tls } = port;
    let handshakes = Arc::new(Semaphore::new(if tls.is_some() { HANDSHAKES } else { Semaphore::MAX_PERMITS }));
    let mut connections = JoinSet::new();
    loop {
        let permits = async {
            let handshake = handshakes.clone().acquire_owned().await;
            (handshake.expect("nobody closes the semaphore"), room.clone().acquire_owned().await)
        };
        let (handshake, permit) = tokio::select! {
            () = api.stops() => break,
            (handshake, permit) = permits => (handshake, permit.expect("nobody closes the semaphore")),
        };
        let accepted = tokio::select! {
            () = api.stops() => break,
            accepted = socket.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            // Out of descriptors, or a peer that was gone at once: wait quietly for better times.
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let peer = Peer::of(address.ip());
        let Some(seat) = peers.seat(peer) else {
            api.counts.refused_connections.fetch_add(1, Ordering::Relaxed);
            if tls.is_none() {
                tell_off(stream, address.ip());
            }
            continue;
        };
        let (api, router, tls) = (api.clone(), router.clone(), tls.clone());
        connections.spawn(async move {
            let place = Place { permit: Arc::new((permit, seat)), peer, address, is_tls: tls.is_some() };
            if stream.set_nodelay(true).is_err() {
                return;
            }
            let Some(tls) = tls else { return serve_connection(&api, router, stream, place).await };
            let shaken = tokio::select! {
                () = api.stops() => return,
                shaken = tls.accept(stream) => shaken,
            };
            drop(handshake);
            if let Ok(stream) = shaken {
                serve_connection(&api, router, stream, place).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
    drop(socket);
    let _ = tokio::time::timeout(STOP_PATIENCE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

/// Tells a peer that it has as many connections as it may, as far as that can be done without waiting.
fn tell_off(stream: TcpStream, address: IpAddr) {
    let detail = format!("{address} has as many connections as one address may have");
    let answer = Problem::new(Kind::TooManyConnections, detail).on_the_wire();
    // Not by the runtime: it would have to find out first that the socket takes something.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(answer.as_bytes());
    }
}

async fn serve_connection<S>(api: &Arc<Api>, router: Router, stream: S, place: Place)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    api.counts.connections.fetch_add(1, Ordering::Relaxed);
    let outgoing = Arc::new(Outgoing::default());
    let framing = Arc::new(Framing::default());
    let stream = Patient {
        stream,
        outgoing: outgoing.clone(),
        framing: framing.clone(),
        patience: api.patience,
        until: None,
        sending: None,
    };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let fault = framing.next(&request);
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(outgoing.clone());
        request.extensions_mut().insert(place.clone());
        if let Some(fault) = fault {
            request.extensions_mut().insert(fault);
        }
        let (answering, framing) = (router.clone().call(request), framing.clone());
        async move {
            let answer = answering.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                framing.ends();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(api.patience.head)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // However it ends, nobody is left to be told.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = api.stops() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    api.counts.connections.fetch_sub(1, Ordering::Relaxed);
}

/// A stream that gives up on a peer who takes nothing, tells what of the answers is with the kernel, and has what comes read
/// along.
struct Patient<S> {
    stream: S,
    outgoing: Arc<Outgoing>,
    framing: Arc<Framing>,
    patience: Patience,
    /// When its patience ends, while the peer takes nothing.
    until: Option<Pin<Box<Sleep>>>,
    /// Since when there is something to be sent, and how many bytes of it were.
    sending: Option<(Instant, u64)>,
}

impl<S> Patient<S> {
    /// So much was written, or tried to.
    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        let (_, bytes) = self.sending.get_or_insert_with(|| (Instant::now(), 0));
        if let Poll::Ready(Ok(length)) = written {
            *bytes += *length as u64;
        }
    }

    /// What came of a write or a flush; an error if it waited too long. Jobs that are on their way may not wait as long as
    /// all else, and have to be there in time, however little at a time is taken of them; and who takes a little of an answer
    /// now and then is cut off in the end.
    fn wait<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.until = None;
            return done;
        }
        let patience = self.patience;
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience.write)));
        let whole = self.sending.map(|(since, bytes)| since + patience.for_answer(bytes));
        let by = self.outgoing.by().into_iter().chain(whole).min();
        if let Some(by) = by.filter(|by| *by < until.deadline()) {
            until.as_mut().reset(by);
        }
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.framing.came(&into.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&written);
        self.wait(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.count(&written);
        self.wait(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Whoever flushes has written all that was to be sent.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.wait(context, flushed))?;
        self.sending = None;
        self.outgoing.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
