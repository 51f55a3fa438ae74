//! How long peers of the HTTP port may take for what they send and for what they are sent.

use std::time::Duration;

/// How long a peer may take. [`Patience::default`] is what the guide says; tests, who cannot wait a minute, have less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// How long a connection may be idle, or take to send a request's head.
    pub head: Duration,
    /// How long nothing of a body may come.
    pub body_pause: Duration,
    /// How long a body may take in all, where it is short.
    pub body: Duration,
    /// How many bytes of a body make that a second longer; not zero.
    pub body_bytes_per_second: u32,
    /// How long the rest of a body that is too large may come.
    pub discard: Duration,
    /// How long a peer may take none of what it is sent.
    pub write: Duration,
    /// How long it may be until all is sent that there is to send, where that is little.
    pub answer: Duration,
    /// How many bytes that were sent make that a second longer; not zero.
    pub answer_bytes_per_second: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            head: Duration::from_secs(60),
            body_pause: Duration::from_secs(20),
            body: Duration::from_secs(60),
            body_bytes_per_second: 64 << 10,
            discard: Duration::from_secs(10),
            write: Duration::from_secs(60),
            answer: Duration::from_secs(60),
            answer_bytes_per_second: 16 << 10,
        }
    }
}

impl Patience {
    /// How long a body of so many bytes may take in all.
    pub(super) fn for_body(&self, bytes: usize) -> Duration {
        self.body + Duration::from_secs(bytes as u64 / u64::from(self.body_bytes_per_second.max(1)))
    }

    /// How long it may be until all is sent, where so many bytes of it were.
    pub(super) fn for_answer(&self, bytes: u64) -> Duration {
        self.answer + Duration::from_secs(bytes / u64::from(self.answer_bytes_per_second.max(1)))
    }
}
