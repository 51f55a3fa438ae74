//! One connection: lines and bodies out, lines and bodies in. [`Client`](crate::Client) and its leases share it.
//!
//! A command that got no whole answer leaves it useless: what came later would be taken for the answer to another.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::stream::Stream;
use crate::{ClientError, Fields, Job, QueueName, ServerAddress};

/// The longest answer line that is read, in bytes; the longest of the protocol is a third of it, but for batches.
const ANSWER_LINE_BYTES: u64 = 1024;

/// The largest body or statistics text that is read, in bytes: the ceiling of a job, and some more for the texts.
const BODY_BYTES: u64 = (1 << 30) + (1 << 20);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Connecting to one address.
    pub(crate) connect: Duration,
    /// An answer, on top of what a command itself waits.
    pub(crate) answer: Duration,
}

pub(crate) struct Connection {
    pub(crate) address: ServerAddress,
    stream: BufReader<Stream>,
    patience: Patience,
    extensions: Option<bool>,
    /// The one queue that is watched.
    pub(crate) watched: String,
    /// Whether a command before got no whole answer.
    is_lost: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the first address of the host that takes a connection.
    pub(crate) fn open(
        address: &ServerAddress,
        tls: Option<ClientConfig>,
        patience: Patience,
    ) -> Result<Connection, ClientError> {
        let failed = |source| ClientError::Connect { address: address.clone(), source };
        let mut last = None;
        for socket in (address.host(), address.port()).to_socket_addrs().map_err(failed)? {
            let connected = TcpStream::connect_timeout(&socket, patience.connect);
            match connected.and_then(|stream| prepared(stream, patience.answer)) {
                Ok(stream) => {
                    let stream = match tls {
                        Some(config) => shake_hands(address.host(), stream, Arc::new(config))
                            .map_err(|source| ClientError::Handshake { address: address.clone(), source })?,
                        None => Stream::Plain(stream),
                    };
                    return Ok(Connection {
                        address: address.clone(),
                        stream: BufReader::new(stream),
                        patience,
                        extensions: None,
                        watched: "default".into(),
                        is_lost: false,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(failed(last.unwrap_or_else(|| io::Error::other("the host has no address"))))
    }

    /// Whether the server has Rota's extension commands; asked once, by a `cancel` of the id that no job has.
    pub(crate) fn has_extensions(&mut self) -> Result<bool, ClientError> {
        if let Some(known) = self.extensions {
            return Ok(known);
        }
        self.send("cancel", format_args!("cancel 0"), b"")?;
        let known = match self.line("cancel")?.as_str() {
            // A server that asks for tokens is Rota, whoever asks.
            "NOT_FOUND" | "NOT_ALLOWED" | "UNAUTHENTICATED" => true,
            "UNKNOWN_COMMAND" | "BAD_FORMAT" => false,
            other => return Err(self.unexpected("cancel", other)),
        };
        self.extensions = Some(known);
        Ok(known)
    }

    /// Watches that queue and no other.
    pub(crate) fn watch(&mut self, queue: &QueueName) -> Result<(), ClientError> {
        let watched = self.call("watch", format_args!("watch {queue}"), b"")?;
        self.number(&watched, "watch", "WATCHING ")?;
        if queue.as_str() != self.watched {
            let watched = self.watched.clone();
            let left = self.call("ignore", format_args!("ignore {watched}"), b"")?;
            self.number(&left, "ignore", "WATCHING ")?;
            self.watched = queue.to_string();
        }
        Ok(())
    }

    /// Sends a command that waits for so many seconds, and reads the line that answers it.
    pub(crate) fn call_and_wait(
        &mut self,
        command: &'static str,
        line: std::fmt::Arguments<'_>,
        seconds: u64,
    ) -> Result<String, ClientError> {
        self.set_read_timeout(self.patience.answer.saturating_add(Duration::from_secs(seconds)))?;
        let answer = self.call(command, line, b"");
        self.set_read_timeout(self.patience.answer)?;
        answer
    }

    pub(crate) fn use_queue(&mut self, queue: &QueueName) -> Result<(), ClientError> {
        let answer = self.call("use", format_args!("use {queue}"), b"")?;
        match answer.strip_prefix("USING ") {
            Some(name) if name == queue.as_str() => Ok(()),
            _ => Err(self.unexpected("use", &answer)),
        }
    }

    /// Sends a command whose answer is `good` or NOT_FOUND.
    pub(crate) fn found(
        &mut self,
        command: &'static str,
        line: std::fmt::Arguments<'_>,
        good: &str,
    ) -> Result<bool, ClientError> {
        match self.call(command, line, b"")?.as_str() {
            "NOT_FOUND" => Ok(false),
            answer if answer == good => Ok(true),
            answer => Err(self.unexpected(command, answer)),
        }
    }

    /// Sends a command that is answered with statistics or NOT_FOUND.
    pub(crate) fn fields(
        &mut self,
        command: &'static str,
        line: std::fmt::Arguments<'_>,
    ) -> Result<Option<Fields>, ClientError> {
        let answer = self.call(command, line, b"")?;
        if answer == "NOT_FOUND" {
            return Ok(None);
        }
        let text = self.text(&answer, command)?;
        let lines = text.lines().filter(|line| !line.is_empty() && *line != "---");
        let fields = lines.map(|line| {
            let (key, value) = line.split_once(':').ok_or_else(|| self.unexpected(command, line))?;
            Ok((key.to_owned(), value.trim().trim_matches('"').to_owned()))
        });
        fields.collect::<Result<Fields, _>>().map(Some)
    }

    /// Reads the text after `OK <bytes>`.
    pub(crate) fn text(&mut self, answer: &str, command: &'static str) -> Result<String, ClientError> {
        let bytes = self.number(answer, command, "OK ")?;
        let body = self.body(bytes, command)?;
        String::from_utf8(body).map_err(|_| self.unexpected(command, "a text that is not UTF-8"))
    }

    /// Reads the job after `<good><id> <bytes>`.
    pub(crate) fn job(&mut self, answer: &str, command: &'static str, good: &str) -> Result<Job, ClientError> {
        let numbers = answer.strip_prefix(good).and_then(|rest| rest.split_once(' '));
        let numbers = numbers.and_then(|(id, bytes)| Some((id.parse().ok()?, bytes.parse().ok()?)));
        let Some((id, bytes)) = numbers else {
            return Err(self.unexpected(command, answer));
        };
        Ok(Job { id, body: self.body(bytes, command)? })
    }

    /// The number after `good`, which must be all of the answer.
    pub(crate) fn number(&self, answer: &str, command: &'static str, good: &str) -> Result<u64, ClientError> {
        let number = answer.strip_prefix(good).and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.unexpected(command, answer))
    }

    /// Sends a command and reads the line that answers it, but for the answers that every command may get.
    pub(crate) fn call(
        &mut self,
        command: &'static str,
        line: std::fmt::Arguments<'_>,
        body: &[u8],
    ) -> Result<String, ClientError> {
        self.call_long(command, line, body, ANSWER_LINE_BYTES)
    }

    /// The same where the answer may be as long as that, in bytes.
    pub(crate) fn call_long(
        &mut self,
        command: &'static str,
        line: std::fmt::Arguments<'_>,
        body: &[u8],
        most: u64,
    ) -> Result<String, ClientError> {
        self.send(command, line, body)?;
        let answer = self.line_up_to(command, most)?;
        match answer.as_str() {
            "OUT_OF_MEMORY" | "INTERNAL_ERROR" | "BAD_FORMAT" | "UNKNOWN_COMMAND" | "DRAINING" | "EXPECTED_CRLF"
            | "DEADLINE_SOON" | "NOT_IGNORED" | "UNAUTHENTICATED" | "NOT_ALLOWED" => {
                Err(ClientError::Refused { address: self.address.clone(), command, answer })
            }
            _ => Ok(answer),
        }
    }

    pub(crate) fn send(
        &mut self,
        command: &'static str,
        line: std::fmt::Arguments<'_>,
        body: &[u8],
    ) -> Result<(), ClientError> {
        // One write for line and body: two would wait for each other's acknowledgement.
        let mut frame = format!("{line}\r\n").into_bytes();
        if !body.is_empty() {
            frame.extend_from_slice(body);
        }
        if self.is_lost {
            let source = io::Error::new(io::ErrorKind::NotConnected, "a command before this one got no answer");
            return Err(ClientError::Unusable { address: self.address.clone(), command, source });
        }
        let sent = self.stream.get_mut().write_all(&frame);
        sent.map_err(|source| self.broken(command, source))
    }

    /// Reads one answer line, without its end.
    pub(crate) fn line(&mut self, command: &'static str) -> Result<String, ClientError> {
        self.line_up_to(command, ANSWER_LINE_BYTES)
    }

    fn line_up_to(&mut self, command: &'static str, most: u64) -> Result<String, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(most).read_until(b'\n', &mut line);
        read.map_err(|source| self.broken(command, source))?;
        if line.is_empty() {
            self.is_lost = true;
            return Err(ClientError::Closed { address: self.address.clone(), command });
        }
        match line.strip_suffix(b"\r\n").map(std::str::from_utf8) {
            Some(Ok(text)) => Ok(text.to_owned()),
            _ => Err(self.unexpected(command, &String::from_utf8_lossy(&line))),
        }
    }

    /// Reads `bytes` bytes and the line end behind them.
    pub(crate) fn body(&mut self, bytes: u64, command: &'static str) -> Result<Vec<u8>, ClientError> {
        if bytes > BODY_BYTES {
            return Err(self.unexpected(command, &format!("a body of {bytes} bytes")));
        }
        let mut body = Vec::new();
        let read = (&mut self.stream).take(bytes + 2).read_to_end(&mut body);
        read.map_err(|source| self.broken(command, source))?;
        if body.len() as u64 != bytes + 2 {
            self.is_lost = true;
            return Err(ClientError::Closed { address: self.address.clone(), command });
        }
        if !body.ends_with(b"\r\n") {
            return Err(self.unexpected(command, "a body without a line end"));
        }
        body.truncate(body.len() - 2);
        Ok(body)
    }

    fn broken(&mut self, command: &'static str, source: io::Error) -> ClientError {
        self.is_lost = true;
        ClientError::broken(&self.address, command, source)
    }

    fn set_read_timeout(&mut self, timeout: Duration) -> Result<(), ClientError> {
        let set = self.stream.get_ref().socket().set_read_timeout(Some(timeout));
        set.map_err(|source| self.broken("connect", source))
    }

    pub(crate) fn unexpected(&self, command: &'static str, answer: &str) -> ClientError {
        ClientError::unexpected(&self.address, command, answer)
    }
}

/// TLS with the server of that name, on a socket that is connected to it.
pub(crate) fn shake_hands(host: &str, mut socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Stream::tls(connection, socket))
}

pub(crate) fn prepared(stream: TcpStream, patience: Duration) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}
