//! Tests of the `rota` binary from outside: its command line, and real clients against its server.

#![expect(clippy::unwrap_used, reason = "what fails in a test is to panic")]

mod cli;
mod client;
mod clients;
mod disk;
mod faults;
mod http;
mod kill;
mod ledger;
mod power;
mod process;
mod serve;
mod server;
mod snapshots;
mod strace;
mod tls;
mod tokens;
mod wire;
