//! The beanstalkd protocol, as `docs/protocol/beanstalkd.md` specifies it: bytes in, bytes out.
//!
//! The listener owns the socket and calls in here with what it read; tests call in with what they like, cut where they
//! like, under a clock of their own. Nothing in this folder opens a socket, reads a clock, waits or spawns, so the whole
//! front end can be run at every byte boundary of a conversation.
//!
//! Read in this order: [`Request`] (all that a client can ask), [`Parser`] (bytes to requests), [`Answer`] (all that it
//! is told, as bytes), [`Session`] (a connection, on the engine).

mod request;

mod parse;

mod grammar;

mod foreign;

mod answer;

mod session;

mod stats;

mod counters;

mod facts;
mod far;

pub use answer::{Answer, Word};
pub use counters::{Counters, Verb};
pub use facts::{Facts, LogFacts, ProcessorTime};
pub use foreign::Foreign;
pub use parse::{Parsed, Parser};
pub use request::{Put, Refusal, Request, When};
pub use session::{Hole, OUTPUT_BYTES, Server, Session, Status};

/// The longest command line in bytes, its CRLF included.
pub const LINE_BYTES: usize = 224;
