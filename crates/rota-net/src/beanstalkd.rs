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

mod access;

mod grammar;

mod foreign;

mod answer;

mod session;

mod stats;

mod counters;

mod ahead;
mod facts;
mod far;

pub use access::{COMMANDS, Gate};
pub use answer::{Answer, Batched, Word};
pub use counters::{Counters, Verb};
pub use facts::{Facts, LogFacts, ProcessorTime};
pub use foreign::Foreign;
pub use parse::{Parsed, Parser};
pub use request::{BatchFault, Put, Refusal, Request, TokenText, When};
pub use session::{Hole, OUTPUT_BYTES, Server, Session, Status};

/// The longest command line in bytes, its CRLF included; but for that of `delete-batch`.
pub const LINE_BYTES: usize = 224;

/// The most jobs of a batch: what one step handles.
pub const BATCH_JOBS: usize = rota_engine::limits::STEP_OBJECTS;

/// The most bytes of a `put-batch` behind its line; more only where a single job may be larger.
pub const BATCH_BYTES: usize = 1 << 20;

/// The longest line of a `delete-batch` in bytes, its CRLF included: as many of the longest ids as a batch has.
pub const BATCH_LINE_BYTES: usize = "delete-batch\r\n".len() + BATCH_JOBS * " 18446744073709551615".len();
