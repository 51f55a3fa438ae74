//! What the commands share that ask the server's HTTP port: its address, a client, and what to say without an answer.

use std::fmt::{self, Write as _};
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde_json::{Map, Value};

use crate::cli::{Global, HttpServer};
use crate::files::{FileError, check_private, open};
use crate::report::{self, Failure, handshake_hint, innermost};
use crate::snapshot::place::provide_tls;
use crate::tls::client::ClientFiles;
use crate::tokens::error::TokensError;

/// As much as is read of a file with a token, or another secret.
const SECRET_FILE_BYTES: u64 = 4096;

/// How long connecting may take. What is asked takes as long as it takes.
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

/// The token to ask with: the file's, or that of `ROTA_TOKEN`. A command line would show it to everybody on the machine.
pub(crate) fn token(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    match path {
        Some(path) => secret_in(path).map(Some),
        None => Ok(std::env::var("ROTA_TOKEN").ok().filter(|token| !token.is_empty())),
    }
}

/// What a file says that no other user may read.
pub(super) fn secret_in(path: &Path) -> anyhow::Result<String> {
    let read = || -> Result<String, FileError> {
        let file = open(path).map_err(FileError::io("read", path))?;
        check_private(path, &file.metadata().map_err(FileError::io("read", path))?)?;
        let mut text = String::new();
        file.take(SECRET_FILE_BYTES).read_to_string(&mut text).map_err(FileError::io("read", path))?;
        Ok(text)
    };
    let text = read().map_err(TokensError::from)?;
    Ok(text.trim().to_owned())
}

/// A client that goes straight there.
pub(super) fn client(server: &HttpAddress, tls: &ClientFiles) -> anyhow::Result<reqwest::Client> {
    provide_tls();
    let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none()).no_proxy();
    if server.0.starts_with("https:") {
        builder = builder.tls_backend_preconfigured(tls.config()?);
    }
    Ok(builder.build().map_err(|error| no_answer(server, &error))?)
}

/// The request with that token, if there is one.
pub(super) fn with_token(request: reqwest::RequestBuilder, token: Option<String>) -> reqwest::RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

/// A value as a query has it.
pub(super) fn escape(value: &str) -> String {
    let mut escaped = String::new();
    for byte in value.bytes() {
        let _ = if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            write!(escaped, "{}", char::from(byte))
        } else {
            write!(escaped, "%{byte:02X}")
        };
    }
    escaped
}

/// Asks for a page, and prints what it answers: with `--json` as it is, else as `shown` has it. `not` says that it was not done.
pub(super) fn tell(
    global: &Global,
    server: &HttpServer,
    (method, path): (Method, String),
    not: &str,
    shown: impl FnOnce(&Map<String, Value>) -> String,
) -> anyhow::Result<()> {
    let answer = Asker::new(&server.http, global)?.ask(method, &path, None, not)?;
    report::line(global.json, || shown(&answer), Value::Object(answer.clone()))
}

/// Why a look at a server came to nothing.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It is not there, or not well: it may be back.
    Absent(Failure),
    /// It does not let itself be looked at so, now or later.
    Refused(Failure),
}

impl Unanswered {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Unanswered::Absent(failure) | Unanswered::Refused(failure) => failure,
        }
    }
}

/// Asks a server, request by request, with the token of `--token-file` or `ROTA_TOKEN`.
pub(super) struct Asker<'a> {
    server: &'a HttpAddress,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    token: Option<String>,
}

impl<'a> Asker<'a> {
    /// # Errors
    /// The file of the token, or one of TLS, cannot be read, or must not be.
    pub(super) fn new(server: &'a HttpAddress, global: &Global) -> anyhow::Result<Asker<'a>> {
        let token = token(global.token_file.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = client(server, &global.tls)?;
        Ok(Asker { server, runtime, client, token })
    }

    /// The object that is at that path; `not` says that it was not got.
    pub(super) fn get(&self, path: &str, not: &str) -> Result<Map<String, Value>, Failure> {
        self.ask(Method::GET, path, None, not)
    }

    /// The object that a body is answered with; `not` says that it was not done.
    pub(super) fn post(&self, path: &str, body: &Value, not: &str) -> Result<Map<String, Value>, Failure> {
        self.ask(Method::POST, path, Some(body), not)
    }

    /// The object that is at that path, for who asks again and again: at most `timeout` is waited for it.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(super) fn look(&self, path: &str, not: &str, timeout: Duration) -> Result<Map<String, Value>, Unanswered> {
        let request = self.client.get(format!("{}{path}", self.server)).timeout(timeout);
        let request = with_token(request, self.token.clone());
        let (status, body) = self.send(request).map_err(|error| match tls_error(&error) {
            Some(_) => Unanswered::Refused(no_answer(self.server, &error)),
            None => Unanswered::Absent(no_answer(self.server, &error)),
        })?;
        let failure = || refused(self.server, not, status, &body);
        match status {
            200..300 => serde_json::from_slice(&body).map_err(|_| Unanswered::Refused(failure())),
            429 | 500.. => Err(Unanswered::Absent(failure())),
            _ => Err(Unanswered::Refused(failure())),
        }
    }

    /// The status and the body that a request is answered with.
    fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<(u16, Vec<u8>)> {
        self.runtime.block_on(async {
            let response = request.send().await?;
            Ok((response.status().as_u16(), response.bytes().await?.into()))
        })
    }

    /// The object that a request is answered with; `not` says that it was not done.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        not: &str,
    ) -> Result<Map<String, Value>, Failure> {
        let mut request = with_token(self.client.request(method, format!("{}{path}", self.server)), self.token.clone());
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let (status, body) = self.send(request).map_err(|error| no_answer(self.server, &error))?;
        let failure = || refused(self.server, not, status, &body);
        match status {
            200..300 => serde_json::from_slice(&body).map_err(|_| failure()),
            404 => Err(failure().nothing()),
            _ => Err(failure()),
        }
    }
}

/// Nobody answered there.
pub(super) fn no_answer(server: &HttpAddress, error: &reqwest::Error) -> Failure {
    let hint = match tls_error(error) {
        Some(error) => handshake_hint(error),
        None => "start a server with `rota serve`, or name its HTTP port with --http or ROTA_HTTP",
    };
    Failure::at_run_time(format!("no answer from {server}"))
        .caused_by(std::io::Error::other(innermost(error)))
        .hint(hint)
}

/// What TLS has to say in that error.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        let inner = |io: &std::io::Error| io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        if io.is_some_and(inner) {
            return io;
        }
        // An error of the system holds what it was made of, and does not call it its source.
        next = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What the server said of why it did not; `what` says that it did not.
pub(super) fn refused(server: &HttpAddress, what: &str, status: u16, body: &[u8]) -> Failure {
    let answer: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let detail = text("detail").map_or_else(|| format!("{server} answered with status {status}"), str::to_owned);
    let failure = Failure::at_run_time(format!("{what}: {detail}"));
    match text("hint") {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        assert_eq!(escape("a+b/c;(1)"), "a%2Bb%2Fc%3B%281%29");
    }

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
