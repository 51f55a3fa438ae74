//! `rota stats`: the statistics of the server or of a queue, all that it gives.

use std::process::ExitCode;

use super::http::{Asker, escape, is_said};
use super::queue::shown;
use super::text::{lines_of, object_of};
use crate::cli::{Global, StatsArgs};
use crate::report::{self, Failure};

pub(crate) fn run(global: &Global, args: StatsArgs) -> anyhow::Result<ExitCode> {
    if is_said(global, &args.server) {
        let path = match &args.queue {
            Some(queue) => format!("/v1/queues/{}", escape(queue.as_str())),
            None => "/v1/stats".to_owned(),
        };
        let object = Asker::new(global, &args.server)?.get(&path, "no statistics")?;
        report::line(global.json, || lines_of(&shown(&object)), object.clone().into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut client = super::connect(global)?;
    let fields = match &args.queue {
        Some(queue) => {
            client.stats_queue(queue)?.ok_or_else(|| Failure::nothing_there(format!("there is no queue {queue}")))?
        }
        None => client.stats()?,
    };
    let mut object = object_of(&fields);
    if args.queue.is_none()
        && let Some((_, id)) = fields.iter().find(|(key, _)| key == "id")
    {
        // A server's id is text, though some consist of digits.
        object.insert("id".into(), id.as_str().into());
    }
    report::line(global.json, || lines_of(&object), object.clone().into())?;
    Ok(ExitCode::SUCCESS)
}
