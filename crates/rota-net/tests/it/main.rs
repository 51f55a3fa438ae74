//! Tests of the front ends through the crate's boundary.

#![expect(clippy::unwrap_used, reason = "what fails in a test is to panic")]

mod clock;
mod follower;
mod listener;
mod model;
mod parser;
mod patience;
mod server;
mod services;
mod session;
mod transcripts;
