//! `rota why`: why a job is not worked on, or not any more, through the server's HTTP port.

use std::process::ExitCode;

use serde_json::Value;

use super::http::Asker;
use crate::cli::{Global, WhyArgs};
use crate::report;

pub(crate) fn run(global: &Global, args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let asker = Asker::new(global, &args.server)?;
    let id = args.id;
    let why = asker.get(&format!("/v1/jobs/{id}/why"), "no reasons")?;
    let text = || {
        let member = |name: &str| why.get(name).and_then(Value::as_str).unwrap_or("-");
        let reasons = why.get("reasons").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let says = reasons.iter().filter_map(|reason| reason.get("says")?.as_str());
        let mut lines = vec![format!("job {id} of the queue {} is {}", member("queue"), member("state"))];
        lines.extend(says.map(|says| format!("  {says}")));
        if reasons.is_empty() {
            lines.push(String::from("  nothing holds it back: it is about to be handed out"));
        }
        lines.join("\n")
    };
    report::line(global.json, text, Value::Object(why.clone()))?;
    Ok(ExitCode::SUCCESS)
}
