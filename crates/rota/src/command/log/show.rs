//! `rota log show`: the records of a data directory, for whoever wants to know what happened.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::process::ExitCode;

use jiff::Timestamp;
use rota_engine::event::Event;
use rota_engine::job::{JobId, Time};
use rota_engine::log::Lsn;
use rota_engine::log::inspect::{self, FoundRecord, Item};
use serde_json::{Map, Value};

use super::{in_use, look, open, passed_json, passed_text};
use crate::cli::{Global, LogShowArgs};
use crate::command::log::fields::{Bodies, describe, text_of};
use crate::report;

/// How much is printed at once, in bytes.
const OUTPUT_BYTES: usize = 64 << 10;

pub(crate) fn run(global: &Global, args: &LogShowArgs) -> anyhow::Result<ExitCode> {
    let reader = open(&args.directory)?;
    if let Some(pid) = reader.holder() {
        rota_net::note!("rota: {}", in_use(pid));
    }
    let mut printer = Printer {
        args,
        json: global.json,
        wall: None,
        jobs: HashSet::new(),
        left: args.limit.unwrap_or(u64::MAX),
        output: Vec::new(),
        outcome: Ok(()),
    };
    if printer.left > 0 {
        inspect::read(&reader, look(&reader), args.segment, Lsn(args.from), &mut |item| printer.item(item))?;
    }
    printer.outcome?;
    report::raw(&printer.output)?;
    Ok(ExitCode::SUCCESS)
}

struct Printer<'a> {
    args: &'a LogShowArgs,
    json: bool,
    /// Wall clock minus engine time, as the log said last.
    wall: Option<i128>,
    /// The open jobs of the queue that is asked for.
    jobs: HashSet<JobId>,
    /// How many records may still be printed.
    left: u64,
    output: Vec<u8>,
    outcome: anyhow::Result<()>,
}

impl Printer<'_> {
    fn item(&mut self, item: Item<'_>) -> ControlFlow<()> {
        match item {
            Item::Record(record) => {
                if record.lsn > Lsn(self.args.to) {
                    return ControlFlow::Break(());
                }
                self.keep_time(&record);
                let is_wanted = self.is_wanted(&record);
                if is_wanted && record.lsn >= Lsn(self.args.from) {
                    let line = if self.json { self.object(&record).to_string() } else { self.line(&record) };
                    self.left -= 1;
                    self.print(&line)?;
                }
                if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Item::PassedOver(passed) => {
                let line = if self.json { passed_json(&passed).to_string() } else { passed_text(&passed) };
                self.print(&line)
            }
        }
    }

    fn print(&mut self, line: &str) -> ControlFlow<()> {
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
        if self.output.len() >= OUTPUT_BYTES {
            self.outcome = report::raw(&self.output);
            self.output.clear();
        }
        if self.outcome.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn keep_time(&mut self, record: &FoundRecord<'_>) {
        let offset = |engine: Time, wall: Time| Some(i128::from(wall.0) - i128::from(engine.0));
        match record.event.as_ref().map(|event| event.event()) {
            Some(&Event::Started { engine_time, wall_time, .. } | &Event::ClockStepped { engine_time, wall_time }) => {
                self.wall = offset(engine_time, wall_time)
            }
            Some(Event::NumbersKept(kept)) => self.wall = offset(kept.engine_time, kept.wall_time),
            _ => {}
        }
    }

    fn is_wanted(&mut self, record: &FoundRecord<'_>) -> bool {
        let event = record.event.as_ref();
        let job = event.and_then(|event| event.event().job());
        if self.args.job.is_some_and(|wanted| job != Some(JobId(wanted))) {
            return false;
        }
        let Some(queue) = &self.args.queue else { return true };
        let Some(event) = event else { return false };
        let is_named = event.queue_name().is_some_and(|name| name.as_str() == queue.as_str());
        match (job, event.event()) {
            (Some(job), Event::JobCompleted { .. } | Event::JobCancelled { .. }) => self.jobs.remove(&job),
            (Some(job), _) if is_named => {
                self.jobs.insert(job);
                true
            }
            (Some(job), _) => self.jobs.contains(&job),
            (None, _) => is_named,
        }
    }

    /// The moment by the wall clock, and whether the log says how that stood.
    fn moment(&self, at: Time) -> (String, bool) {
        let nanos = i128::from(at.0) + self.wall.unwrap_or(0);
        let moment = Timestamp::from_nanosecond(nanos);
        (moment.map_or_else(|_| String::from("-"), |moment| moment.to_string()), self.wall.is_some())
    }

    fn describe(&self, record: &FoundRecord<'_>) -> (String, Map<String, Value>) {
        let bodies = match (self.args.bodies, self.json) {
            (false, _) => Bodies::Excerpt,
            (true, false) => Bodies::Text,
            (true, true) => Bodies::Json,
        };
        match &record.event {
            Some(event) => describe(event, bodies),
            None => (format!("type_{}", record.kind), Map::new()),
        }
    }

    fn line(&self, record: &FoundRecord<'_>) -> String {
        let (moment, is_known) = self.moment(record.at);
        let (kind, fields) = self.describe(record);
        let mut line = format!(
            "{}{}{} {}:{} seq={} {}{moment} at={} {kind}",
            if record.is_counted { "" } else { "~" },
            record.lsn,
            if record.is_rescued { "!" } else { "" },
            record.segment,
            record.offset,
            record.seq,
            if is_known { "" } else { "~" },
            record.at.0,
        );
        for (name, value) in fields {
            line.push(' ');
            line.push_str(&text_of(&name, &value));
        }
        line
    }

    fn object(&self, record: &FoundRecord<'_>) -> Value {
        let (moment, is_known) = self.moment(record.at);
        let (kind, fields) = self.describe(record);
        let mut object = Map::new();
        object.insert("lsn".into(), record.lsn.0.into());
        object.insert("lsn_is_certain".into(), record.is_counted.into());
        object.insert("segment".into(), record.segment.into());
        object.insert("offset".into(), record.offset.into());
        object.insert("seq".into(), record.seq.into());
        object.insert("time".into(), moment.into());
        object.insert("time_is_certain".into(), is_known.into());
        object.insert("at".into(), record.at.0.into());
        object.insert("in_damaged_group".into(), record.is_rescued.into());
        object.insert("type".into(), kind.into());
        object.extend(fields);
        Value::Object(object)
    }
}
