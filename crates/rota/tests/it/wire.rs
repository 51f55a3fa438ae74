//! A beanstalkd client that hides nothing: bytes out, answers in, on one connection.
//!
//! The tests that kill servers and those that misuse them speak through it. It knows which answers bring a body, and
//! no more. A server that is silent past a deadline fails the test; one that is gone is an error that the caller
//! judges.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::process::DEADLINE;

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    read: usize,
}

/// One answer: its line without the CRLF, and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The number at that place of the line, the first word being 0.
    pub(crate) fn number(&self, word: usize) -> u64 {
        let text = self.line.split(' ').nth(word);
        let number = text.and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("no number at word {word} of {:?}", self.line))
    }

    /// The value of a key of the document that came.
    pub(crate) fn field(&self, key: &str) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let prefix = format!("{key}: ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.unwrap_or_else(|| panic!("no {key} in {}: {text}", self.line));
        value.trim_matches('"').to_owned()
    }

    /// The same as a number.
    pub(crate) fn count(&self, key: &str) -> u64 {
        let text = self.field(key);
        text.parse().unwrap_or_else(|_| panic!("{key} is {text:?}, which is no number"))
    }
}

impl Wire {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Wire { stream, buffer: Vec::new(), read: 0 })
    }

    /// Connects to a server that must be there.
    #[track_caller]
    pub(crate) fn to(address: SocketAddr) -> Wire {
        Wire::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        in_time(self.stream.write_all(bytes.as_ref()), "takes nothing")
    }

    /// The next line, without its CRLF.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let end = loop {
            let unread = &self.buffer[self.read..];
            if let Some(length) = unread.windows(2).position(|two| two == b"\r\n") {
                break self.read + length;
            }
            self.fill()?;
        };
        let line = String::from_utf8_lossy(&self.buffer[self.read..end]).into_owned();
        self.read = end + 2;
        Ok(line)
    }

    /// The next answer, with its body if it is one that has one.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let bytes = match words[..] {
            ["RESERVED" | "FOUND", _, bytes] | ["OK", bytes] => bytes.parse().ok(),
            _ => None,
        };
        let body = match bytes {
            Some(bytes) => self.body(bytes)?,
            None => Vec::new(),
        };
        Ok(Answer { line, body })
    }

    fn body(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() - self.read < bytes + 2 {
            self.fill()?;
        }
        let end = self.read + bytes;
        let body = self.buffer[self.read..end].to_vec();
        assert_eq!(&self.buffer[end..end + 2], b"\r\n", "a body ends with CRLF");
        self.read = end + 2;
        Ok(body)
    }

    /// Reads once; what was handed out before is forgotten.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.read);
        self.read = 0;
        let mut chunk = [0; 16 * 1024];
        let count = in_time(read(&mut self.stream, &mut chunk), "says nothing")?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(())
    }

    /// Sends a line and returns its answer, of a server that must be there.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> Answer {
        self.send(format!("{line}\r\n"))
            .and_then(|()| self.answer())
            .unwrap_or_else(|error| panic!("no answer to {line:?}: {error}"))
    }

    /// Sends a line, whose answer must be this.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str, answer: &str) {
        assert_eq!(self.ask(line).line, answer, "{line}");
    }

    /// Puts a job and returns its id, of a server that must be there.
    #[track_caller]
    pub(crate) fn put(&mut self, head: &str, body: &[u8]) -> u64 {
        let answer = self.try_put(head, body);
        assert!(answer.line.starts_with("INSERTED "), "{head}: {}", answer.line);
        answer.number(1)
    }

    /// Puts a job and returns the answer, of a server that must be there. `head` is all but the size, or `… SIZE KEY`
    /// with `#` for the size.
    #[track_caller]
    pub(crate) fn try_put(&mut self, head: &str, body: &[u8]) -> Answer {
        self.send(put_bytes(head, body))
            .and_then(|()| self.answer())
            .unwrap_or_else(|error| panic!("no answer to {head:?}: {error}"))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open socket can be shut down");
    }

    /// All that comes until the server closes the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while match self.fill_behind() {
            Ok(count) => count > 0,
            // A close with our bytes unread is a reset: it is closed all the same.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the connection failed: {error}"),
        } {}
        let rest = self.buffer.split_off(self.read);
        self.buffer.clear();
        self.read = 0;
        rest
    }

    fn fill_behind(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = in_time(read(&mut self.stream, &mut chunk), "neither speaks nor closes")?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// The socket itself, for a test that wants to use it badly.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// Reads once; a signal that comes in between is none of the server's doing.
fn read(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// The bytes of a batch of these puts.
pub(crate) fn batch_bytes(puts: &[Vec<u8>]) -> Vec<u8> {
    let bytes = puts.concat();
    [format!("put-batch {} {}\r\n", puts.len(), bytes.len()).as_bytes(), &bytes].concat()
}

/// The bytes of a put: `head`, the size (in the place of a `#`, or behind), the body.
pub(crate) fn put_bytes(head: &str, body: &[u8]) -> Vec<u8> {
    let size = body.len().to_string();
    let head = match head.contains('#') {
        true => head.replace('#', &size),
        false => format!("{head} {size}"),
    };
    [head.as_bytes(), b"\r\n", body, b"\r\n"].concat()
}

/// A time-out is the test's failure, never taken for a lost connection.
fn in_time<T>(result: io::Result<T>, what: &str) -> io::Result<T> {
    if let Err(error) = &result {
        let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!late, "the server {what} for {DEADLINE:?}");
    }
    result
}
