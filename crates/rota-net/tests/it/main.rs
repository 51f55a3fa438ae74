//! Tests of the front ends through the crate's boundary.

mod follower;
mod parser;
mod session;
mod transcripts;
