//! What the bytes of a connection go through: a socket, or TLS in one; of the standard library while it is opened, of the event
//! loop then.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// Both directions. Where the socket below does not wait, neither does this.
pub(super) enum Socket<S> {
    Plain(S),
    Tls(Box<ClientConnection>, S),
}

impl<S: Read + Write> Socket<S> {
    /// TLS whose hands are shaken, on a socket that waits.
    pub(super) fn tls(config: Arc<ClientConfig>, host: &str, mut socket: S) -> io::Result<Socket<S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Socket::Tls(Box::new(connection), socket))
    }
}

impl<S> Socket<S> {
    /// The same on another kind of socket.
    pub(super) fn on<T>(self, other: impl FnOnce(S) -> io::Result<T>) -> io::Result<Socket<T>> {
        Ok(match self {
            Socket::Plain(socket) => Socket::Plain(other(socket)?),
            Socket::Tls(connection, socket) => Socket::Tls(connection, other(socket)?),
        })
    }

    /// The socket below.
    pub(super) fn below(&mut self) -> &mut S {
        match self {
            Socket::Plain(socket) | Socket::Tls(_, socket) => socket,
        }
    }

    /// Whether a read that gives less than it could says that there is no more for now. TLS gives what is in one record.
    pub(super) fn gives_all(&self) -> bool {
        matches!(self, Socket::Plain(_))
    }
}

impl<S: Read> Read for Socket<S> {
    /// Reads whether what was written is on its way or not: the other side may take no more before it got rid of its answers.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (connection, socket) = match self {
            Socket::Plain(socket) => return socket.read(into),
            Socket::Tls(connection, socket) => (connection, socket),
        };
        loop {
            match connection.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            connection.read_tls(socket)?;
            connection.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl<S: Write> Write for Socket<S> {
    /// What TLS takes it may still have: `flush` says whether the socket has it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        match self {
            Socket::Plain(socket) => socket.write(bytes),
            Socket::Tls(connection, _) => connection.writer().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(socket) => socket.flush(),
            Socket::Tls(connection, socket) => {
                while connection.wants_write() {
                    connection.write_tls(socket)?;
                }
                Ok(())
            }
        }
    }
}
