//! The HTTP API of the real server over loopback: what it answers, what it refuses, and what becomes of jobs whose
//! holders are gone.

mod access;
mod actors;
pub(crate) mod client;
mod clients;
mod command;
mod durable;
mod errors;
mod events;
mod facts;
mod filter;
mod guard;
mod guide;
mod jobs;
mod kill;
mod leases;
mod library;
mod limits;
mod lists;
mod many;
mod modes;
mod otel;
mod queues;
mod repeat;
mod schedules;
mod shell;
mod smuggling;
mod terms;
mod token_file;
mod top;
mod waiting;
mod webhooks;
mod why;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Rota, on};
use client::Http;

/// A server of its own, with HTTP.
fn server(flags: &[&str]) -> (TempDir, Rota, Http) {
    let data = TempDir::new().unwrap();
    let rota = start(&data, flags);
    let http = Http::to(rota.http());
    (data, rota, http)
}

fn start(data: &TempDir, flags: &[&str]) -> Rota {
    let flags: Vec<&str> = ["--http", "127.0.0.1:0"].iter().chain(flags).copied().collect();
    Rota::ready(on(data.path(), &flags))
}

/// Puts a job of that text into the queue `work`; its id.
fn put(http: &Http, text: &str) -> String {
    let job = http.post("/v1/jobs", &json!({ "queue": "work", "text": text })).expect(201);
    job["id"].as_str().unwrap().to_owned()
}

/// Reserves a job of the queue `work` that is there.
fn reserve(http: &Http) -> Value {
    let mut leases = http.post("/v1/leases", &json!({ "queues": ["work"] })).expect(200);
    leases["leases"].as_array_mut().unwrap().pop().expect("a job is ready")
}

/// A value of a query.
fn escape(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Does that to a job that a lease holds.
fn end(http: &Http, lease: &Value, verb: &str) -> client::Answer {
    let lease = lease["lease"].as_str().unwrap();
    http.post_nothing(&format!("/v1/leases/{lease}/{verb}"))
}
