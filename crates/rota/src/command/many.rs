//! What `rota kick --where` and `rota cancel --where` have in common: a verb for all jobs of a filter, through the server's HTTP
//! port, request after request until all jobs were looked at.

use std::process::ExitCode;

use rota_client::http::{Client, Done, Error, Many};
use rota_net::filter::Filter;
use serde_json::{Value, json};

use super::http;
use crate::cli::{Global, HttpServer};
use crate::report::{self, Failure};

/// A verb, as it is asked for and as it is told.
pub(super) struct Verb {
    pub(super) ask: fn(&Client, &Many) -> Result<Done, Error>,
    /// What was done to jobs.
    pub(super) done: &'static str,
}

/// Which jobs, and whether only to count them.
pub(super) struct Which<'a> {
    pub(super) filter: &'a Filter,
    pub(super) dry_run: bool,
    /// The most jobs that it is done to.
    pub(super) limit: Option<u32>,
}

pub(super) fn run(global: &Global, server: &HttpServer, verb: &Verb, which: &Which<'_>) -> anyhow::Result<ExitCode> {
    let client = http::client(global, server)?;
    let mut sum = Sum::default();
    let mut cursor = None;
    loop {
        // Who has as many as were asked for does not ask again.
        let left = which.limit.map(|limit| limit - u32::try_from(sum.affected()).unwrap_or(limit));
        let many = Many::of(which.filter.to_string()).dry_run(which.dry_run).limit(left).cursor(cursor);
        let mut done = (verb.ask)(&client, &many).map_err(|error| {
            let failure = http::failure(&error, &format!("not all jobs were {}", verb.done));
            // Whoever asked for all of them has to know how far it came.
            match sum.done {
                0 => failure,
                done => failure.hint(format!("{done} jobs were {} before that; to run it again is safe", verb.done)),
            }
        })?;
        cursor = done.cursor.take();
        sum.add(&done);
        // Jobs that are named are looked up wherever they are.
        sum.not_looked_at = if which.filter.named().is_some() { 0 } else { sum.not_in_memory };
        if cursor.is_none() || which.limit.is_some_and(|limit| sum.affected() >= u64::from(limit)) {
            break;
        }
    }
    if global.json || sum.matched > 0 {
        report::line(global.json, || sum.text(verb, which.dry_run), sum.object(which.dry_run))?;
    }
    match sum.matched {
        0 => {
            let failure = Failure::nothing_there(format!("no job matches {}", which.filter));
            Err(match sum.not_looked_at {
                0 => failure,
                cold => failure.hint(format!("{cold} delayed jobs are not in memory, and were not looked at")),
            }
            .into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// What all answers say together.
#[derive(Default)]
struct Sum {
    matched: u64,
    done: u64,
    would_do: u64,
    over: u64,
    wrong_state: u64,
    disk_full: u64,
    first: Vec<String>,
    not_in_memory: u64,
    not_looked_at: u64,
}

impl Sum {
    fn add(&mut self, done: &Done) {
        self.matched += done.matched;
        self.done += done.done;
        self.would_do += done.would_do;
        self.over += done.refused.over;
        self.wrong_state += done.refused.wrong_state;
        self.disk_full += done.refused.disk_full;
        self.not_in_memory = done.not_in_memory;
        let room = 10 - self.first.len().min(10);
        self.first.extend(done.first.iter().take(room).map(u64::to_string));
    }

    fn affected(&self) -> u64 {
        self.done.max(self.would_do)
    }

    fn text(&self, verb: &Verb, dry_run: bool) -> String {
        let (count, done) = (self.affected(), verb.done);
        let jobs = if self.matched == 1 { "job" } else { "jobs" };
        let mut text = match dry_run {
            true => format!("would have {done} {count} of {} matching {jobs}", self.matched),
            false => format!("{done} {count} of {} matching {jobs}", self.matched),
        };
        for (count, why) in [
            (self.over, "over already"),
            (self.wrong_state, "in a state in which it cannot be done"),
            (self.disk_full, "refused, as the disk is full"),
        ] {
            if count > 0 {
                text.push_str(&format!("; {count} {why}"));
            }
        }
        if dry_run && !self.first.is_empty() {
            let more = if count > self.first.len() as u64 { ", …" } else { "" };
            text.push_str(&format!(": {}{more}", self.first.join(", ")));
        }
        if self.not_looked_at > 0 {
            text.push_str(&format!("\n{} delayed jobs are not in memory, and were not looked at", self.not_looked_at));
        }
        text
    }

    fn object(&self, dry_run: bool) -> Value {
        json!({
            "dry_run": dry_run,
            "matched": self.matched,
            "done": self.done,
            "would_do": self.would_do,
            "refused": { "over": self.over, "wrong_state": self.wrong_state, "disk_full": self.disk_full },
            "first": self.first,
            "not_in_memory": self.not_in_memory,
        })
    }
}
