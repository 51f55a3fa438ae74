//! What the commands share that ask the server's HTTP port: a client, what they may show, and what to say without an answer.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rota_client::ServerAddress;
use rota_client::http::{Address, Client, Error, Method, ProblemKind};
use serde_json::{Map, Value};

use crate::cli::{Global, HttpServer, Port};
use crate::files::{FileError, check_private, open};
use crate::report::{self, Failure, handshake_hint, innermost};
use crate::tokens::error::TokensError;

/// As much as is read of a file with a token, or another secret.
const SECRET_FILE_BYTES: u64 = 4096;

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

/// A client of the server's HTTP port, which knows whom to trust and what to show.
pub(super) fn client(global: &Global, server: &HttpServer) -> anyhow::Result<Client> {
    patient_client(global, server, None)
}

/// The same, which waits for an answer only so long.
pub(super) fn patient_client(
    global: &Global,
    server: &HttpServer,
    timeout: Option<Duration>,
) -> anyhow::Result<Client> {
    if global.flagged == Some(Port::Beanstalkd) {
        return Err(only_over_http("this").into());
    }
    let mut builder = Client::builder();
    if let Some(timeout) = timeout {
        builder = builder.timeout(timeout);
    }
    let address = server.address();
    if address.is_tls() {
        builder = builder.tls_config(global.tls.config()?);
    }
    if let Some(token) = token(global.token_file.as_deref())? {
        builder = builder.token(token);
    }
    Ok(builder.connect_to(&address).map_err(|error| failure(&error, "nothing was asked"))?)
}

/// The ports that were named, of a flag's server alone if there is one.
fn named<'a>(global: &'a Global, server: &'a HttpServer) -> (Option<&'a ServerAddress>, Option<&'a Address>) {
    let (beanstalkd, http) = (global.server.as_ref(), server.http.as_ref());
    match global.flagged {
        Some(Port::Beanstalkd) => (beanstalkd, None),
        Some(Port::Http) => (None, http),
        None => (beanstalkd, http),
    }
}

fn only_over_http(what: &str) -> Failure {
    Failure::wrong_usage(format!("{what} goes over HTTP, and only --server is named"))
        .hint("name the server's HTTP port with --http (Rota servers only)")
}

/// Whether the HTTP port alone was said: of what can be done over both ports, and goes over the other one unless told.
pub(super) fn is_said(global: &Global, server: &HttpServer) -> bool {
    matches!(named(global, server), (None, Some(_)))
}

/// A client of the HTTP port, where [`is_said`].
pub(super) fn if_said(global: &Global, server: &HttpServer) -> anyhow::Result<Option<Client>> {
    is_said(global, server).then(|| client(global, server)).transpose()
}

/// How a command reaches the server that could do so over both ports.
pub(super) enum Way {
    /// Over HTTP, and if nobody is there `or_beanstalkd`, over the beanstalkd protocol.
    Http { client: Client, or_beanstalkd: bool },
    /// Over the beanstalkd protocol.
    Beanstalkd,
}

/// By which port a command reaches the server. HTTP, which can do more, unless only `--server` was said: then there may be no
/// Rota. Where neither port was said, either may be the one that is there. What is asked for can only be done over HTTP if
/// `only_http` names it.
pub(super) fn way(global: &Global, server: &HttpServer, only_http: Option<&str>) -> anyhow::Result<Way> {
    match (named(global, server), only_http) {
        ((Some(_), None), None) => Ok(Way::Beanstalkd),
        ((Some(_), None), Some(what)) => Err(only_over_http(what).into()),
        (named, _) => {
            let or_beanstalkd = named == (None, None) && only_http.is_none();
            Ok(Way::Http { client: client(global, server)?, or_beanstalkd })
        }
    }
}

/// A value as a part of a path or a query has it.
pub(super) use rota_client::http::escape;

/// Asks for a page, and prints what it answers: with `--json` as it is, else as `shown` has it. `not` says that it was not done.
pub(super) fn tell(
    global: &Global,
    server: &HttpServer,
    (method, path): (Method, String),
    not: &str,
    shown: impl FnOnce(&Map<String, Value>) -> String,
) -> anyhow::Result<()> {
    let answer = Asker::new(global, server)?.ask(method, &path, None, not)?;
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

/// Asks a server for pages as they are, to be printed.
pub(super) struct Asker(Client);

impl Asker {
    pub(super) fn new(global: &Global, server: &HttpServer) -> anyhow::Result<Asker> {
        client(global, server).map(Asker)
    }

    /// For who asks again and again: at most `timeout` is waited for an answer.
    pub(super) fn hasty(global: &Global, server: &HttpServer, timeout: Duration) -> anyhow::Result<Asker> {
        patient_client(global, server, Some(timeout)).map(Asker)
    }

    /// The object that is at that path; `not` says that it was not got.
    pub(super) fn get(&self, path: &str, not: &str) -> Result<Map<String, Value>, Failure> {
        self.ask(Method::Get, path, None, not)
    }

    /// The object that is at that path, for who asks again and again.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(super) fn look(&self, path: &str, not: &str) -> Result<Map<String, Value>, Unanswered> {
        let answer = self.0.request(Method::Get, path, None::<&Value>, Some(Duration::ZERO));
        answer.map_err(|error| {
            let failure = failure(&error, not);
            match &error {
                Error::Connect { .. } | Error::Broken { .. } | Error::TimedOut { .. } => Unanswered::Absent(failure),
                Error::Problem(problem) if problem.status == 429 || problem.status >= 500 => {
                    Unanswered::Absent(failure)
                }
                _ => Unanswered::Refused(failure),
            }
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
        self.0.request(method, path, body, Some(Duration::ZERO)).map_err(|error| failure(&error, not))
    }
}

/// What to say where something was not done, or not got; `not` says that it was not.
pub(super) fn failure(error: &Error, not: &str) -> Failure {
    let cause = |error: &Error| std::io::Error::other(innermost(error));
    match error {
        Error::Connect { address, source } | Error::Broken { address, source } => {
            Failure::at_run_time(format!("no answer from {address}"))
                .caused_by(std::io::Error::other(innermost(source)))
                .hint("start a server with `rota serve`, or name its HTTP port with --http or ROTA_HTTP")
        }
        Error::Handshake { address, source } => Failure::at_run_time(format!("no answer from {address}"))
            .caused_by(cause(error))
            .hint(handshake_hint(source)),
        Error::Problem(problem) => {
            let failure = Failure::at_run_time(format!("{not}: {problem}"));
            let failure = match problem.kind {
                ProblemKind::NoToken => {
                    failure.hint("show a token: put it into ROTA_TOKEN, or name its file with --token-file")
                }
                _ if problem.hint.is_empty() => failure,
                _ => failure.hint(problem.hint.as_str()),
            };
            if problem.status == 404 { failure.nothing() } else { failure }
        }
        Error::NoToken => Failure::at_run_time(error.to_string())
            .hint("put a token of `rota token create` into ROTA_TOKEN, or into the file of --token-file"),
        Error::TimedOut { .. } => Failure::at_run_time(format!("{not}: {error}"))
            .hint("it may have been done: look with `rota list` before you repeat it"),
        other => Failure::at_run_time(format!("{not}: {other}")),
    }
}
