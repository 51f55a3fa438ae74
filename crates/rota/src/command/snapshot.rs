//! `rota snapshot`: has the running server take one, through its HTTP port, and waits until it is whole.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde_json::{Map, Value, json};

use crate::cli::{Global, SnapshotArgs};
use crate::report::{self, Failure};
use crate::snapshot::place::provide_tls;
use crate::tokens::error::TokensError;
use crate::tokens::file::{check_private, open};

/// As much as is read of a file with a token.
const TOKEN_FILE_BYTES: u64 = 4096;

/// How long connecting may take. The snapshot itself takes as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a server speaks HTTP: `http://host:port`, or `host:port` as `serve` is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpAddress(String);

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<HttpAddress, String> {
        const FORM: &str = "write http://host:port";
        let rest = match text.split_once("://") {
            Some(("http" | "https", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some((scheme, _)) => return Err(format!("{scheme:?} is not a protocol of that port: {FORM}")),
            None if text == "off" => return Err(format!("off is no address: {FORM}")),
            None => text,
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
        if let Some(bad) = rest.chars().find(|c| !allowed(*c)) {
            return Err(format!("{bad:?} can't be in it: {FORM}"));
        }
        if rest.is_empty() {
            return Err(format!("it names no host: {FORM}"));
        }
        let scheme = if text.starts_with("https://") { "https" } else { "http" };
        Ok(HttpAddress(format!("{scheme}://{rest}")))
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn run(global: &Global, args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    let request = match &args.to {
        // Relative to where this command runs, and not to where the server does.
        Some(to) => json!({ "to": to.clone().absolute().to_string() }),
        None => json!({}),
    };
    let token = token(args.token_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body) = runtime.block_on(post(&args.http, request.to_string(), token)).map_err(|error| {
        Failure::at_run_time(format!("no answer from {}", args.http))
            .caused_by(std::io::Error::other(chain(&error)))
            .hint("start a server with `rota serve`, or name its HTTP port with --http or ROTA_HTTP")
    })?;
    let answer: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let (Some(name), Some(address), Some(jobs), Some(bytes)) =
        (text("name"), text("address"), number("jobs"), number("bytes"))
    else {
        let detail = text("detail").unwrap_or_else(|| format!("{} answered with status {status}", args.http));
        let failure = Failure::at_run_time(format!("no snapshot was taken: {detail}"));
        return Err(match text("hint") {
            Some(hint) => failure.hint(hint).into(),
            None => failure.into(),
        });
    };
    let shown = || format!("{name}: {jobs} jobs, {bytes} bytes, at {address}");
    let object = json!({ "name": name, "jobs": jobs, "bytes": bytes, "address": address });
    report::line(global.json, shown, object)?;
    Ok(ExitCode::SUCCESS)
}

/// The token to ask with: the file's, or that of `ROTA_TOKEN`. A command line would show it to everybody on the machine.
fn token(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else {
        return Ok(std::env::var("ROTA_TOKEN").ok().filter(|token| !token.is_empty()));
    };
    let failed = |source| TokensError::Io { doing: "read", path: path.to_owned(), source };
    let file = open(path).map_err(failed)?;
    check_private(path, &file.metadata().map_err(failed)?)?;
    let mut text = String::new();
    file.take(TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text.trim().to_owned()))
}

/// The status and the body of the answer.
async fn post(server: &HttpAddress, body: String, token: Option<String>) -> reqwest::Result<(u16, Vec<u8>)> {
    provide_tls();
    let client =
        reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none()).no_proxy().build()?;
    let request = client.post(format!("{server}/v1/snapshots")).header(CONTENT_TYPE, "application/json").body(body);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.bytes().await?.into()))
}

/// The innermost cause: what the system said.
fn chain(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_server_speaks_http() {
        let read = |text: &str| text.parse::<HttpAddress>().map(|address| address.to_string());
        for text in ["127.0.0.1:11380", "http://127.0.0.1:11380", "http://127.0.0.1:11380/"] {
            assert_eq!(read(text).as_deref(), Ok("http://127.0.0.1:11380"));
        }
        assert_eq!(read("https://jobs.example").as_deref(), Ok("https://jobs.example"));
        assert_eq!(read("http://[::1]:80").as_deref(), Ok("http://[::1]:80"));
        for bad in ["", "off", "ftp://x", "http://a@b", "http://a/b", "http://a b", "http://"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
