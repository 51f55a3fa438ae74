//! Tests of the front ends through the crate's boundary.

<<<<<<< HEAD
mod follower;
=======
#![expect(clippy::unwrap_used, reason = "what fails in a test is to panic")]

>>>>>>> 32850a9 (net: no address takes all connections, and no token all room for bodies)
mod parser;
mod patience;
mod session;
mod transcripts;
