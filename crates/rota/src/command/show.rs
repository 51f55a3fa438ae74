//! `rota show`: a job's state and body.

use std::process::ExitCode;

use serde_json::Value;

use super::text::{lines_of, object_of, put_body};
use crate::cli::{Global, ShowArgs};
use crate::report::{self, Failure};

pub(crate) fn run(global: &Global, args: ShowArgs) -> anyhow::Result<ExitCode> {
    let id = args.id;
    let mut client = super::connect(global)?;
    let missing = || Failure::nothing_there(format!("there is no open job {id}"));
    let fields = client.stats_job(id)?.ok_or_else(missing)?;
    // It may have gone in between.
    let job = client.peek(id)?.ok_or_else(missing)?;
    let mut object = object_of(&fields);
    // Where the log keeps a job says nothing to a person.
    object.remove("file");
    if global.json {
        let mut object = Value::Object(object);
        put_body(&mut object, &job.body);
        report::line(true, String::new, object)?;
    } else {
        object.insert("body_bytes".into(), job.body.len().into());
        report::line(false, || format!("{}\n", lines_of(&object)), Value::Null)?;
        let end: &[u8] = if job.body.ends_with(b"\n") { b"" } else { b"\n" };
        report::raw(&[&job.body, end].concat())?;
    }
    Ok(ExitCode::SUCCESS)
}
