//! A connection below HTTP: a socket, or TLS in one, as the rest of this crate opens them, for `ureq` to speak over.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Timeout;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use super::{Address, Error};
use crate::connection::shake_hands;
use crate::stream::Stream;

/// Opens connections to one server.
pub(super) struct Dial {
    pub(super) address: Arc<Address>,
    /// What to shake hands with, where the address is one of TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// An open connection.
pub(super) struct Line {
    stream: Stream,
    buffers: LazyBuffers,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("to", &self.stream.socket().peer_addr().ok()).finish_non_exhaustive()
    }
}

impl Connector for Dial {
    type Out = Line;

    /// Connects to the first address of the host that takes a connection, and shakes hands. An error comes as
    /// [`ureq::Error::Other`], with one of ours in it.
    fn connect(&self, details: &ConnectionDetails<'_>, _chained: Option<()>) -> Result<Option<Line>, ureq::Error> {
        let patience = span(details.timeout);
        let refused = |source| ureq::Error::Other(Box::new(Error::Connect { address: self.address.clone(), source }));
        let socket = first_of(&details.addrs, patience).map_err(refused)?;
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let host = details.uri.host().unwrap_or_default();
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                let failed =
                    |source| ureq::Error::Other(Box::new(Error::Handshake { address: self.address.clone(), source }));
                socket.set_read_timeout(patience).and_then(|()| socket.set_write_timeout(patience)).map_err(refused)?;
                shake_hands(host, socket, config.clone()).map_err(failed)?
            }
        };
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Line { stream, buffers }))
    }
}

fn first_of(addresses: &[SocketAddr], patience: Option<Duration>) -> io::Result<TcpStream> {
    let mut last = None;
    for address in addresses {
        let connected = match patience {
            Some(patience) => TcpStream::connect_timeout(address, patience),
            None => TcpStream::connect(address),
        };
        match connected.and_then(|socket| socket.set_nodelay(true).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the host has no address")))
}

/// How long that may take; none without end.
fn span(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|span| *span)
}

/// What a failed read or write is to `ureq`.
fn failure(error: io::Error, reason: Timeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ureq::Error::Timeout(reason),
        _ => ureq::Error::Io(error),
    }
}

/// Why the other side ended TLS, if it said so: what is to be written yet can't be.
fn last_words(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> Option<io::Error> {
    while stream.conn.read_tls(&mut stream.sock).ok()? > 0 {
        if let Err(error) = stream.conn.process_new_packets() {
            return Some(io::Error::other(error));
        }
    }
    None
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = timeout.for_write();
        self.stream.socket().set_write_timeout(span(timeout))?;
        let output = &self.buffers.output()[..amount];
        let Err(error) = self.stream.write_all(output) else { return Ok(()) };
        // Who is sent away in TLS may have been told why before the connection was closed.
        let told = match (&mut self.stream, error.kind()) {
            (Stream::Tls(stream), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => last_words(stream),
            _ => None,
        };
        Err(failure(told.unwrap_or(error), timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.stream.socket().set_read_timeout(span(timeout))?;
        let read = self.stream.read(self.buffers.input_append_buf());
        let amount = read.map_err(|error| failure(error, timeout.reason))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Whether nothing came, and no end, since the last answer: what the server closed meanwhile is not asked again.
    fn is_open(&mut self) -> bool {
        let socket = self.stream.socket();
        if socket.set_nonblocking(true).is_err() {
            return false;
        }
        let is_quiet = socket.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        socket.set_nonblocking(false).is_ok() && is_quiet
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}
