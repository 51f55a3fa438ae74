//! The limit: a server that finds the end of each put and answers it with the next number, and keeps nothing.
//!
//! It does per read buffer what any server has to do: one read, one write, one wait for the next. What is measured
//! against it is the work that a real server adds. Beside puts it understands what the load generator says before and
//! after its run, and nothing more. It runs as a process of its own, optimised like the others.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

/// Stands for the listener in the events; connections are named by their descriptors, which are smaller.
const LISTENER: u64 = u64::MAX;

/// Serves on the one address given as argument until it is killed.
///
/// # Errors
///
/// The address is none or is taken, or the system refuses a descriptor. A broken connection is no error.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [address] = arguments else { bail!("answer-only takes one address to listen on") };
    let address: SocketAddr = address.parse().with_context(|| format!("'{address}' is no address"))?;
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true).context("cannot make the listener non-blocking")?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)
        .context("cannot poll the listener")?;

    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut ids = Ids::default();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        for event in &events {
            let name = event.data.u64();
            if name == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let connection = Connection::new(stream).context("cannot set up a connection")?;
                    let name = connection.name();
                    epoll::add(&poll, &connection.stream, epoll::EventData::new_u64(name), epoll::EventFlags::IN)
                        .context("cannot poll a connection")?;
                    connections.insert(name, connection);
                }
            } else if let Some(connection) = connections.get_mut(&name) {
                let waited = connection.owes_bytes();
                if connection.serve(&mut buffer, &mut ids).is_err() {
                    // Closing the descriptor takes it out of the epoll.
                    connections.remove(&name);
                } else if connection.owes_bytes() != waited {
                    let also = if waited { epoll::EventFlags::empty() } else { epoll::EventFlags::OUT };
                    let flags = epoll::EventFlags::IN | also;
                    epoll::modify(&poll, &connection.stream, epoll::EventData::new_u64(name), flags)
                        .context("cannot poll a connection")?;
                }
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    frames: Frames,
    /// Answers that the socket has not taken yet; almost always empty.
    owed: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> std::io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, frames: Frames::default(), owed: Vec::new() })
    }

    fn name(&self) -> u64 {
        u64::try_from(self.stream.as_raw_fd()).expect("an open descriptor is not negative")
    }

    fn owes_bytes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// One read and one write; an error means that the connection is over.
    fn serve(&mut self, buffer: &mut [u8], ids: &mut Ids) -> std::io::Result<()> {
        if !self.owes_bytes() {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.frames.answer(&buffer[..read], ids, &mut self.owed).ok_or(ErrorKind::InvalidData)?;
        }
        match self.stream.write(&self.owed) {
            Ok(written) => drop(self.owed.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Finds the ends of puts in a stream that comes in pieces.
#[derive(Default)]
struct Frames {
    /// The beginning of a command line whose end has not come yet.
    line: Vec<u8>,
    /// What is still to come of a body and its line break.
    body_left: usize,
}

impl Frames {
    /// Writes the answers to all that ends in these bytes; `None` if a line is none that it understands.
    fn answer(&mut self, mut bytes: &[u8], ids: &mut Ids, answers: &mut Vec<u8>) -> Option<()> {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let taken = self.body_left.min(bytes.len());
                self.body_left -= taken;
                bytes = &bytes[taken..];
                if self.body_left == 0 {
                    answers.extend_from_slice(b"INSERTED ");
                    answers.extend_from_slice(ids.next());
                    answers.extend_from_slice(b"\r\n");
                }
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                break;
            };
            let (head, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() {
                self.body_left = expected_body(head, ids, answers)?;
            } else {
                self.line.extend_from_slice(head);
                self.body_left = expected_body(&self.line, ids, answers)?;
                self.line.clear();
            }
        }
        Some(())
    }
}

/// How many bytes follow a line: a put's body and its line break, or none after a line that is answered here.
fn expected_body(line: &[u8], ids: &Ids, answers: &mut Vec<u8>) -> Option<usize> {
    let line = line.strip_suffix(b"\r\n")?;
    if let Some(put) = line.strip_prefix(b"put ") {
        let digits = put.rsplit(|byte| *byte == b' ').next()?;
        let bytes = digits.iter().try_fold(0_usize, |sum, digit| {
            let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        });
        return Some(bytes? + b"\r\n".len());
    }
    if let Some(queue) = line.strip_prefix(b"use ") {
        answers.extend_from_slice(&[b"USING ", queue, b"\r\n"].concat());
    } else if line.starts_with(b"watch ") {
        answers.extend_from_slice(b"WATCHING 2\r\n");
    } else if line.starts_with(b"ignore ") {
        answers.extend_from_slice(b"WATCHING 1\r\n");
    } else if line.starts_with(b"stats-tube ") {
        let count = [b"---\ncurrent-jobs-ready: ", ids.last(), b"\n"].concat();
        answers.extend_from_slice(format!("OK {}\r\n", count.len()).as_bytes());
        answers.extend_from_slice(&count);
        answers.extend_from_slice(b"\r\n");
    } else {
        return None;
    }
    Some(0)
}

/// Numbers from 1, kept as text: counting must cost next to nothing here.
struct Ids {
    digits: Vec<u8>,
}

impl Default for Ids {
    fn default() -> Ids {
        Ids { digits: vec![b'0'] }
    }
}

impl Ids {
    fn next(&mut self) -> &[u8] {
        for digit in self.digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return &self.digits;
            }
            *digit = b'0';
        }
        self.digits.insert(0, b'1');
        &self.digits
    }

    /// The number given last, 0 at first.
    fn last(&self) -> &[u8] {
        &self.digits
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, Ids};

    #[test]
    fn puts_are_answered_wherever_the_stream_is_cut() {
        let stream = b"use a\r\nput 0 0 60 5\r\nhello\r\nput 1 2 3 0\r\n\r\n\
                       put 0 0 60 2\r\n\r\n\r\nstats-tube a\r\n";
        let expected = "USING a|INSERTED 1|INSERTED 2|INSERTED 3|OK 26|---\ncurrent-jobs-ready: 3\n|";
        for cut in 0..=stream.len() {
            let (mut frames, mut ids, mut answers) = (Frames::default(), Ids::default(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                frames.answer(part, &mut ids, &mut answers).expect("all of it is understood");
            }
            let answers = String::from_utf8_lossy(&answers).replace("\r\n", "|");
            assert_eq!(answers, expected, "cut at {cut}");
        }
    }

    #[test]
    fn numbers_carry() {
        let mut ids = Ids::default();
        for number in 1..=1_234 {
            assert_eq!(ids.next(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["reserve\r\n", "put 0 0 60 x\r\n", "put 0 0 60 5\n"] {
            let mut answers = Vec::new();
            let answered = Frames::default().answer(line.as_bytes(), &mut Ids::default(), &mut answers);
            assert_eq!(answered, None, "{line:?}");
        }
    }
}
