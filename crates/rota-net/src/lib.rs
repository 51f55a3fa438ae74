//! The only place that serves outside protocols.
//!
//! ```text
//!   socket ──bytes──► listener ──bytes──► beanstalkd::Parser ──requests──► connection ──► engine
//!          ◄──bytes──          ◄──bytes── beanstalkd::Answer ◄──answers──
//! ```
//!
//! What is said is apart from how it travels: [`beanstalkd`] turns bytes into requests and answers into bytes, and never
//! sees a socket or a clock.

// They end the process where nobody reads what it says: see `console`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod access;
pub mod beanstalkd;
pub mod calendar;
pub mod console;
pub mod filter;
pub mod host;
pub mod http;
mod limits;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod peers;
mod shares;
pub mod timings;
pub mod tls;
pub mod values;
pub mod words;
