//! An answer that goes on: its lines, as they come.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use super::ask::Ask;
use super::{Client, Error};

/// How long nothing may come: a server says something every 15 seconds.
const PAUSE: Duration = Duration::from_secs(60);

/// What is left of the answer.
pub(super) type Stream = BufReader<Box<dyn Read + Send>>;

impl Client {
    /// Asks for an answer that goes on.
    pub(super) fn stream(&self, ask: Ask<'_>) -> Result<Stream, Error> {
        let answer = self.open(&ask.pause(PAUSE))?;
        Ok(BufReader::new(Box::new(answer.into_body().into_reader())))
    }

    /// The next line of such an answer, with its end, of at most so many bytes; an error when the answer ended.
    pub(super) fn next_line(&self, stream: &mut Stream, most: u64, too_long: &str) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let read = stream.take(most).read_until(b'\n', &mut line);
        read.map_err(|source| Error::broken(self.address.clone(), source))?;
        if line.ends_with(b"\n") {
            Ok(line)
        } else if (line.len() as u64) < most {
            Err(Error::Ended { address: self.address.clone() })
        } else {
            Err(self.unexpected(too_long, &line))
        }
    }
}
