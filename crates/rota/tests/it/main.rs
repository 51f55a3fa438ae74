//! Tests of the `rota` binary from outside: its command line, and real clients against its server.

mod cli;
mod server;
