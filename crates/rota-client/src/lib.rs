//! A small blocking client of the beanstalkd protocol: of Rota, and of any other server that speaks it.
//!
//! One connection, one command at a time, every read and write under a time-out. Names and keys are checked types,
//! so that nothing a user typed can end a line early; every answer is checked against what the protocol allows, and
//! any other is an error that shows it. It also speaks Rota's extension commands, and never sends one that carries
//! a body before it knows that the server has them: another server would read the body as commands.
//!
//! ```no_run
//! use std::time::Duration;
//! use rota_client::{Client, QueueName, Terms};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Email {
//!     to: String,
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let queue: QueueName = "emails".parse()?;
//!     let mut client = Client::connect(&"127.0.0.1:11300".parse()?, None)?;
//!     client.put_value(&Email { to: "ann@example.org".into() }, &Terms::new(queue.clone()))?;
//!     match client.reserve_value::<Email>(&queue, Duration::from_secs(5)) {
//!         Ok(Some(job)) => {
//!             println!("to {}", job.body().to);
//!             job.complete()?;
//!         }
//!         Ok(None) => println!("nothing to do"),
//!         // The job is held all the same.
//!         Err(rota_client::ReserveError::Body { lease, .. }) => drop(lease.bury(1024)?),
//!         Err(error) => return Err(error.to_string().into()),
//!     }
//!     Ok(())
//! }
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

mod address;
mod error;
mod name;
mod put;
mod stream;
mod typed;

pub use address::{AddressError, ServerAddress};
pub use error::{ClientError, handshake_hint};
pub use name::{Key, NameError, QueueName};
pub use put::{Put, When};
pub use rustls;
use stream::Stream;
pub use typed::{Lease, PutError, ReserveError, Terms};

/// How long connecting to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take, on top of what a command itself waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer line that is read, in bytes; the longest of the protocol is a third of it.
const ANSWER_LINE_BYTES: u64 = 1024;

/// The largest body or statistics text that is read, in bytes: the ceiling of a job, and some more for the texts.
const BODY_BYTES: u64 = (1 << 30) + (1 << 20);

/// The longest token that is sent, in bytes: what fits a line.
const TOKEN_BYTES: usize = 200;

/// The longest wait that a reserve can ask for, in seconds.
const RESERVE_WAIT_SECONDS: u64 = (1 << 31) - 1;

/// A connection to a server.
pub struct Client {
    address: ServerAddress,
    stream: BufReader<Stream>,
    extensions: Option<bool>,
    /// The one queue that is watched.
    watched: String,
}

/// A job's id and body.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    /// The id that the server gave it.
    pub id: u64,
    /// What was put.
    pub body: Vec<u8>,
}

/// Statistics: keys and values in the server's order, without quotes.
pub type Fields = Vec<(String, String)>;

impl Client {
    /// Connects to `address`; inside TLS, with what it says to shake hands with.
    ///
    /// # Errors
    /// [`ClientError::Connect`] if no address of the host takes a connection within five seconds, [`ClientError::Handshake`] if
    /// none comes to an agreement then, or the address is one of TLS and `tls` is not given.
    pub fn connect(address: &ServerAddress, tls: Option<ClientConfig>) -> Result<Client, ClientError> {
        if address.is_tls() && tls.is_none() {
            let source = std::io::Error::other("the address is one of TLS, and nothing says whom to trust");
            return Err(ClientError::Handshake { address: address.clone(), source });
        }
        let failed = |source| ClientError::Connect { address: address.clone(), source };
        let mut last = None;
        for socket in (address.host(), address.port()).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&socket, CONNECT_TIMEOUT).and_then(prepared) {
                Ok(stream) => {
                    let stream = match tls {
                        Some(config) => shake_hands(address, stream, config)?,
                        None => Stream::Plain(stream),
                    };
                    let (address, stream) = (address.clone(), BufReader::new(stream));
                    return Ok(Client { address, stream, extensions: None, watched: "default".into() });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(failed(last.unwrap_or_else(|| std::io::Error::other("the host has no address"))))
    }

    /// Shows a token, which says what may be done from then on.
    ///
    /// # Errors
    /// [`ClientError::BadToken`] if the server does not know it, [`ClientError::NoSuchCommand`] if it knows none.
    pub fn authenticate(&mut self, token: &str) -> Result<(), ClientError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) || token.len() > TOKEN_BYTES {
            return Err(ClientError::NoToken);
        }
        self.send("auth", format_args!("auth {token}"), b"")?;
        match self.line("auth")?.as_str() {
            "AUTHENTICATED" => Ok(()),
            "BAD_TOKEN" => Err(ClientError::BadToken { address: self.address.clone() }),
            "UNKNOWN_COMMAND" => Err(ClientError::NoSuchCommand {
                address: self.address.clone(),
                command: "auth",
                instead: "it asks for no token: unset ROTA_TOKEN and ROTA_TOKEN_FILE",
            }),
            other => Err(self.unexpected("auth", other)),
        }
    }

    /// Waits at most `wait` (rounded up to whole seconds) for a job of `queue` and reserves it; none if none came.
    pub fn reserve(&mut self, queue: &QueueName, wait: Duration) -> Result<Option<Job>, ClientError> {
        let watched = self.call("watch", format_args!("watch {queue}"), b"")?;
        self.number(&watched, "watch", "WATCHING ")?;
        if queue.as_str() != self.watched {
            let watched = self.watched.clone();
            let left = self.call("ignore", format_args!("ignore {watched}"), b"")?;
            self.number(&left, "ignore", "WATCHING ")?;
            self.watched = queue.to_string();
        }
        let seconds = whole_seconds_up(wait).min(RESERVE_WAIT_SECONDS);
        self.set_read_timeout(ANSWER_TIMEOUT + Duration::from_secs(seconds))?;
        let command = "reserve-with-timeout";
        let answer = self.call(command, format_args!("{command} {seconds}"), b"")?;
        self.set_read_timeout(ANSWER_TIMEOUT)?;
        if answer == "TIMED_OUT" {
            return Ok(None);
        }
        self.job(&answer, command, "RESERVED ").map(Some)
    }

    /// Deletes a job; false if there is none, or another connection holds it.
    pub fn delete(&mut self, id: u64) -> Result<bool, ClientError> {
        self.found("delete", format_args!("delete {id}"), "DELETED")
    }

    /// Gives a job back that this connection holds; false if it does not hold it any more.
    pub fn release(&mut self, id: u64, priority: u32) -> Result<bool, ClientError> {
        self.found("release", format_args!("release {id} {priority} 0"), "RELEASED")
    }

    /// Puts a job aside that this connection holds, until it is kicked; false if it does not hold it any more.
    pub fn bury(&mut self, id: u64, priority: u32) -> Result<bool, ClientError> {
        self.found("bury", format_args!("bury {id} {priority}"), "BURIED")
    }

    /// Starts the lease of a job anew that this connection holds; false if it does not hold it any more.
    pub fn touch(&mut self, id: u64) -> Result<bool, ClientError> {
        self.found("touch", format_args!("touch {id}"), "TOUCHED")
    }

    /// Cancels a job in any state; false if there is none. A server without `cancel` is asked to delete it, which
    /// does the same unless another connection holds the job.
    pub fn cancel(&mut self, id: u64) -> Result<bool, ClientError> {
        if self.has_extensions()? {
            self.found("cancel", format_args!("cancel {id}"), "CANCELLED")
        } else {
            self.delete(id)
        }
    }

    /// Cancels the job of `queue` that has this key, and gives its id; none if there is none.
    ///
    /// # Errors
    /// [`ClientError::NoSuchCommand`] if the server has no keys; and all of the connection's.
    pub fn cancel_key(&mut self, queue: &QueueName, key: &Key) -> Result<Option<u64>, ClientError> {
        if !self.has_extensions()? {
            return Err(ClientError::NoSuchCommand {
                address: self.address.clone(),
                command: "cancel-key",
                instead: "only Rota has keys: cancel the job by its id, which put printed",
            });
        }
        let answer = self.call("cancel-key", format_args!("cancel-key {queue} {key}"), b"")?;
        match answer.as_str() {
            "NOT_FOUND" => Ok(None),
            _ => self.number(&answer, "cancel-key", "CANCELLED ").map(Some),
        }
    }

    /// Makes at most `count` buried jobs of `queue` ready, or delayed ones if none is buried; gives how many.
    pub fn kick(&mut self, queue: &QueueName, count: u32) -> Result<u64, ClientError> {
        self.use_queue(queue)?;
        let answer = self.call("kick", format_args!("kick {count}"), b"")?;
        self.number(&answer, "kick", "KICKED ")
    }

    /// Makes one buried or delayed job ready; false if there is no such job in either state.
    pub fn kick_job(&mut self, id: u64) -> Result<bool, ClientError> {
        self.found("kick-job", format_args!("kick-job {id}"), "KICKED")
    }

    /// A job's body, in whatever state it is; none if there is no such job.
    pub fn peek(&mut self, id: u64) -> Result<Option<Job>, ClientError> {
        let answer = self.call("peek", format_args!("peek {id}"), b"")?;
        match answer.as_str() {
            "NOT_FOUND" => Ok(None),
            _ => self.job(&answer, "peek", "FOUND ").map(Some),
        }
    }

    /// A job's statistics; none if there is no such job.
    pub fn stats_job(&mut self, id: u64) -> Result<Option<Fields>, ClientError> {
        self.fields("stats-job", format_args!("stats-job {id}"))
    }

    /// A queue's statistics; none if there is no such queue.
    pub fn stats_queue(&mut self, queue: &QueueName) -> Result<Option<Fields>, ClientError> {
        self.fields("stats-tube", format_args!("stats-tube {queue}"))
    }

    /// The server's statistics.
    pub fn stats(&mut self) -> Result<Fields, ClientError> {
        let fields = self.fields("stats", format_args!("stats"))?;
        fields.ok_or_else(|| self.unexpected("stats", "NOT_FOUND"))
    }

    /// The names of all queues, in the server's order.
    pub fn queues(&mut self) -> Result<Vec<QueueName>, ClientError> {
        let answer = self.call("list-tubes", format_args!("list-tubes"), b"")?;
        let text = self.text(&answer, "list-tubes")?;
        let names = text.lines().filter_map(|line| line.strip_prefix("- "));
        names
            .map(|name| {
                let parsed = name.trim_matches('"').parse();
                parsed.map_err(|_| self.unexpected("list-tubes", name))
            })
            .collect()
    }

    /// Whether the server has Rota's extension commands; asked once, by a `cancel` of the id that no job has.
    pub fn has_extensions(&mut self) -> Result<bool, ClientError> {
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

    fn use_queue(&mut self, queue: &QueueName) -> Result<(), ClientError> {
        let answer = self.call("use", format_args!("use {queue}"), b"")?;
        match answer.strip_prefix("USING ") {
            Some(name) if name == queue.as_str() => Ok(()),
            _ => Err(self.unexpected("use", &answer)),
        }
    }

    /// Sends a command whose answer is `good` or NOT_FOUND.
    fn found(&mut self, command: &'static str, line: std::fmt::Arguments<'_>, good: &str) -> Result<bool, ClientError> {
        match self.call(command, line, b"")?.as_str() {
            "NOT_FOUND" => Ok(false),
            answer if answer == good => Ok(true),
            answer => Err(self.unexpected(command, answer)),
        }
    }

    /// Sends a command that is answered with statistics or NOT_FOUND.
    fn fields(&mut self, command: &'static str, line: std::fmt::Arguments<'_>) -> Result<Option<Fields>, ClientError> {
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
    fn text(&mut self, answer: &str, command: &'static str) -> Result<String, ClientError> {
        let bytes = self.number(answer, command, "OK ")?;
        let body = self.body(bytes, command)?;
        String::from_utf8(body).map_err(|_| self.unexpected(command, "a text that is not UTF-8"))
    }

    /// Reads the job after `<good><id> <bytes>`.
    fn job(&mut self, answer: &str, command: &'static str, good: &str) -> Result<Job, ClientError> {
        let numbers = answer.strip_prefix(good).and_then(|rest| rest.split_once(' '));
        let numbers = numbers.and_then(|(id, bytes)| Some((id.parse().ok()?, bytes.parse().ok()?)));
        let Some((id, bytes)) = numbers else {
            return Err(self.unexpected(command, answer));
        };
        Ok(Job { id, body: self.body(bytes, command)? })
    }

    /// The number after `good`, which must be all of the answer.
    fn number(&self, answer: &str, command: &'static str, good: &str) -> Result<u64, ClientError> {
        let number = answer.strip_prefix(good).and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.unexpected(command, answer))
    }

    /// Sends a command and reads the line that answers it, but for the answers that every command may get.
    fn call(
        &mut self,
        command: &'static str,
        line: std::fmt::Arguments<'_>,
        body: &[u8],
    ) -> Result<String, ClientError> {
        self.send(command, line, body)?;
        let answer = self.line(command)?;
        match answer.as_str() {
            "OUT_OF_MEMORY" | "INTERNAL_ERROR" | "BAD_FORMAT" | "UNKNOWN_COMMAND" | "DRAINING" | "EXPECTED_CRLF"
            | "DEADLINE_SOON" | "NOT_IGNORED" | "UNAUTHENTICATED" | "NOT_ALLOWED" => {
                Err(ClientError::Refused { address: self.address.clone(), command, answer })
            }
            _ => Ok(answer),
        }
    }

    fn send(&mut self, command: &'static str, line: std::fmt::Arguments<'_>, body: &[u8]) -> Result<(), ClientError> {
        // One write for line and body: two would wait for each other's acknowledgement.
        let mut frame = format!("{line}\r\n").into_bytes();
        if !body.is_empty() {
            frame.extend_from_slice(body);
        }
        let sent = self.stream.get_mut().write_all(&frame);
        sent.map_err(|source| ClientError::broken(&self.address, command, source))
    }

    /// Reads one answer line, without its end.
    fn line(&mut self, command: &'static str) -> Result<String, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(ANSWER_LINE_BYTES).read_until(b'\n', &mut line);
        read.map_err(|source| ClientError::broken(&self.address, command, source))?;
        if line.is_empty() {
            return Err(ClientError::Closed { address: self.address.clone(), command });
        }
        match line.strip_suffix(b"\r\n").map(std::str::from_utf8) {
            Some(Ok(text)) => Ok(text.to_owned()),
            _ => Err(self.unexpected(command, &String::from_utf8_lossy(&line))),
        }
    }

    /// Reads `bytes` bytes and the line end behind them.
    fn body(&mut self, bytes: u64, command: &'static str) -> Result<Vec<u8>, ClientError> {
        if bytes > BODY_BYTES {
            return Err(self.unexpected(command, &format!("a body of {bytes} bytes")));
        }
        let mut body = Vec::new();
        let read = (&mut self.stream).take(bytes + 2).read_to_end(&mut body);
        read.map_err(|source| ClientError::broken(&self.address, command, source))?;
        if body.len() as u64 != bytes + 2 {
            return Err(ClientError::Closed { address: self.address.clone(), command });
        }
        if !body.ends_with(b"\r\n") {
            return Err(self.unexpected(command, "a body without a line end"));
        }
        body.truncate(body.len() - 2);
        Ok(body)
    }

    fn set_read_timeout(&mut self, timeout: Duration) -> Result<(), ClientError> {
        let set = self.stream.get_ref().socket().set_read_timeout(Some(timeout));
        set.map_err(|source| ClientError::broken(&self.address, "connect", source))
    }

    fn unexpected(&self, command: &'static str, answer: &str) -> ClientError {
        ClientError::unexpected(&self.address, command, answer)
    }
}

/// A span in whole seconds, rounded up.
fn whole_seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

fn shake_hands(address: &ServerAddress, mut socket: TcpStream, config: ClientConfig) -> Result<Stream, ClientError> {
    let failed = |source| ClientError::Handshake { address: address.clone(), source };
    let name = ServerName::try_from(address.host().to_owned()).map_err(std::io::Error::other).map_err(failed)?;
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other).map_err(failed)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(failed)?;
    }
    Ok(Stream::tls(connection, socket))
}

fn prepared(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
