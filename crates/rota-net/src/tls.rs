//! TLS in front of a listener: who shakes hands, with which certificate, and for how long it may take.
//!
//! The listeners of both front ends accept with it. Certificates are the binary's business, which hands in a configuration
//! and, when its files change, another one: connections that are there keep theirs. A stream of it is bytes like any other;
//! what is sent is with the kernel once it is flushed.

use crate::limits::HANDSHAKE_PATIENCE;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
pub use tokio_rustls::server::TlsStream;

/// A socket that listens, and what a connection to it begins with.
#[derive(Debug)]
pub struct Port {
    /// The socket.
    pub socket: TcpListener,
    /// The handshake that it begins with; none where bytes go as they are.
    pub tls: Option<Arc<Tls>>,
}

/// What a port shows its peers, and asks of them.
#[derive(Debug)]
pub struct Tls(Mutex<Arc<ServerConfig>>);

impl Tls {
    /// With that configuration, until there is another.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Tls {
        Tls(Mutex::new(config))
    }

    /// Handshakes that begin from now on are by that configuration.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Shakes hands with whoever connected.
    ///
    /// # Errors
    /// The peer is gone, takes longer than ten seconds, speaks something else, or is not whom the
    /// configuration asks for.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::time::timeout(HANDSHAKE_PATIENCE, TlsAcceptor::from(config).accept(stream)).await?
    }
}

/// How much room there is for connections of several ports that hold one place each while they wait.
pub(crate) fn places(most: usize, ports: usize) -> usize {
    most.saturating_add(ports.saturating_sub(1))
}
