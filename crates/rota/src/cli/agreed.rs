//! What can be agreed for jobs, whoever puts them: `rota put` and `rota schedule set` have these flags in common.

use std::time::Duration;

use clap::Args;
use rota_client::http::{BackOff, NewJob};

use crate::values::parse_duration;

/// What is agreed for a job beyond its place in line; only Rota servers know of it, over HTTP.
#[derive(Debug, Args)]
pub(crate) struct Agreed {
    /// Its class of work, 1 to 100 bytes
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// A header that travels with it, as NAME=VALUE; may be given several times, 4096 bytes in all
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Whose job it is, 1 to 255 bytes, where its queue bounds what is done for each: rota queue set --key-rate
    #[arg(long, value_name = "TEXT")]
    pub(crate) limit_key: Option<String>,
    /// Failed attempts after which it is buried; 0 for no limit [default: 25]
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u16>,
    /// Lost leases after which it is buried; 0 for no limit [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) max_lost_leases: Option<u16>,
    /// How long it waits after a failed attempt: 5s or 5s,factor=1.5,most=10m,jitter=0 (percent)
    /// [default: 1s,factor=2,most=1h,jitter=10]
    #[arg(long, value_name = "SPAN", value_parser = parse_back_off)]
    pub(crate) back_off: Option<BackOff>,
    /// It expires if it was not begun so long after it was put: 10m, 2h, 1d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) expires_in: Option<Duration>,
}

impl Agreed {
    /// The first of the flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.kind.is_some(), "--kind"),
            (!self.headers.is_empty(), "--header"),
            (self.limit_key.is_some(), "--limit-key"),
            (self.max_attempts.is_some(), "--max-attempts"),
            (self.max_lost_leases.is_some(), "--max-lost-leases"),
            (self.back_off.is_some(), "--back-off"),
            (self.expires_in.is_some(), "--expires-in"),
        ];
        given.iter().find(|(is_given, _)| *is_given).map(|(_, flag)| *flag)
    }

    /// That job with all of this.
    pub(crate) fn on(&self, mut job: NewJob) -> NewJob {
        if let Some(kind) = &self.kind {
            job = job.kind(kind);
        }
        for (name, value) in &self.headers {
            job = job.header(name, value);
        }
        if let Some(key) = &self.limit_key {
            job = job.limit_key(key);
        }
        if let Some(attempts) = self.max_attempts {
            job = job.max_attempts(attempts);
        }
        if let Some(leases) = self.max_lost_leases {
            job = job.max_lost_leases(leases);
        }
        if let Some(back_off) = self.back_off {
            job = job.back_off(back_off);
        }
        if let Some(span) = self.expires_in {
            job = job.expires_in(span);
        }
        job
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no =: write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads a back-off: its first span, and then what of it is not as usual.
fn parse_back_off(text: &str) -> Result<BackOff, String> {
    let mut parts = text.split(',');
    let mut back_off = BackOff::first(parse_duration(parts.next().unwrap_or_default())?);
    for part in parts {
        let bad = |what: &str| format!("{part:?} is {what}: write 5s,factor=1.5,most=10m,jitter=0");
        match part.split_once('=') {
            Some(("factor", factor)) => {
                let number = factor.parse().ok().filter(|factor| (1.0..=100.0).contains(factor));
                back_off.factor = number.ok_or_else(|| bad("no factor from 1 to 100"))?;
            }
            Some(("most", most)) => back_off.most = Some(parse_duration(most)?),
            Some(("jitter", percent)) => {
                let number = percent.trim_end_matches('%').parse().ok().filter(|percent| *percent <= 100);
                back_off.jitter_percent = number.ok_or_else(|| bad("no jitter from 0 to 100 percent"))?;
            }
            _ => return Err(bad("no part of a back-off")),
        }
    }
    if back_off.most.is_some_and(|most| most < back_off.first) {
        return Err(String::from("its most is shorter than its first span"));
    }
    Ok(back_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_offs_are_read() {
        let usual = BackOff::first(Duration::from_secs(5));
        assert_eq!(parse_back_off("5s"), Ok(usual));
        let whole = BackOff { factor: 1.5, most: Some(Duration::from_secs(600)), jitter_percent: 0, ..usual };
        assert_eq!(parse_back_off("5s,factor=1.5,most=10m,jitter=0%"), Ok(whole));
        for bad in ["", "5", "5s,", "5s,factor=0.5", "5s,most=1s", "5s,jitter=101", "5s,often", "5s,factor=NaN"] {
            assert!(parse_back_off(bad).is_err(), "{bad}");
        }
    }
}
