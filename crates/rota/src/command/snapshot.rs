//! `rota snapshot`: has the running server take one, through its HTTP port, and waits until it is whole.

use std::process::ExitCode;

use reqwest::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::http::{self, HttpAddress};
use crate::cli::{Global, SnapshotArgs};
use crate::report;

pub(crate) fn run(global: &Global, args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    let request = match &args.to {
        // Relative to where this command runs, and not to where the server does.
        Some(to) => json!({ "to": to.clone().absolute().to_string() }),
        None => json!({}),
    };
    let token = http::token(global.token_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = http::client(&args.server.http, &global.tls)?;
    let answered = runtime.block_on(post(&client, &args.server.http, request.to_string(), token));
    let (status, body) = answered.map_err(|error| http::no_answer(&args.server.http, &error))?;
    let answer: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let (Some(name), Some(address), Some(jobs), Some(bytes)) =
        (text("name"), text("address"), number("jobs"), number("bytes"))
    else {
        return Err(http::refused(&args.server.http, "no snapshot was taken", status, &body).into());
    };
    let shown = || format!("{name}: {jobs} jobs, {bytes} bytes, at {address}");
    let object = json!({ "name": name, "jobs": jobs, "bytes": bytes, "address": address });
    report::line(global.json, shown, object)?;
    Ok(ExitCode::SUCCESS)
}

/// The status and the body of the answer.
async fn post(
    client: &reqwest::Client,
    server: &HttpAddress,
    body: String,
    token: Option<String>,
) -> reqwest::Result<(u16, Vec<u8>)> {
    let request = client.post(format!("{server}/v1/snapshots")).header(CONTENT_TYPE, "application/json").body(body);
    let response = http::with_token(request, token).send().await?;
    Ok((response.status().as_u16(), response.bytes().await?.into()))
}
