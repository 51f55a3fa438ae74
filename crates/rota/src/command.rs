//! The commands that speak to a server or look into a data directory, a file each: `run` does the command and prints its
//! outcome.
//!
//! `main` calls them. They know the client, snapshots and the output; none may know another.

pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod events;
pub(crate) mod http;
pub(crate) mod inspect;
pub(crate) mod kick;
pub(crate) mod list;
pub(crate) mod log;
mod many;
pub(crate) mod next;
pub(crate) mod put;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod show;
pub(crate) mod snapshot;
pub(crate) mod stats;
mod text;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod webhook;
pub(crate) mod why;

use crate::cli::Global;
use rota_client::Client;

/// A connection to the server that the command line names, which knows by then who asks.
pub(crate) fn connect(global: &Global) -> anyhow::Result<Client> {
    let mut builder = Client::builder();
    let server = global.server();
    if server.is_tls() {
        builder = builder.tls_config(global.tls.config()?);
    }
    if let Some(token) = http::token(global.token_file.as_deref())? {
        builder = builder.token(token);
    }
    Ok(builder.connect_to(&server)?)
}
