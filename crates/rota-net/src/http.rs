//! The HTTP port: whether the server is well, its metrics, and snapshots for who asks. It changes no job.
//!
//! It serves few connections at a time, so that it can never take the descriptors that jobs travel by.

mod snapshots;

use crate::host::Host;
use crate::metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use snapshots::{Problem, SnapshotTaken, Snapshots, Taking};

/// Serves `/healthz`, `/metrics` and `/v1/snapshots` on a socket until `stop` says true (or is gone).
pub async fn serve(
    host: Arc<Host>,
    socket: TcpListener,
    snapshots: Arc<dyn Snapshots>,
    mut stop: watch::Receiver<bool>,
) {
    let router = Router::new().route("/healthz", get(healthz)).route("/metrics", get(show_metrics)).with_state(host);
    let router = router.merge(Router::new().route("/v1/snapshots", post(snapshots::take)).with_state(snapshots));
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::select! {
        // It ends only if the socket is closed under it.
        _ = axum::serve(Bounded::new(socket), router).into_future() => {}
        () = stopped => {}
    }
}

/// The most connections at a time; past that they wait to be accepted.
const CONNECTIONS: usize = 32;

/// A socket that accepts no more than so many connections at a time.
struct Bounded {
    socket: TcpListener,
    room: Arc<Semaphore>,
}

impl Bounded {
    fn new(socket: TcpListener) -> Bounded {
        Bounded { socket, room: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl Listener for Bounded {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        let permit = self.room.clone().acquire_owned().await.expect("nobody closes the semaphore");
        let (stream, peer) = Listener::accept(&mut self.socket).await;
        (Counted { stream, _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that makes room for the next one when it ends.
struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn healthz(State(host): State<Arc<Host>>) -> impl IntoResponse {
    match host.failed() {
        None => (StatusCode::OK, String::from("ok\n")),
        Some(failed) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failed}\n")),
    }
}

async fn show_metrics(State(host): State<Arc<Host>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, metrics::render(&host))
}
