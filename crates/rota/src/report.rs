//! What the user sees when something failed, and how all output leaves.
//!
//! An error is printed once: what and where, the causes below it, and what to try. With `--json` it is one object
//! on standard error. The exit code follows from the error: see `cli`'s table.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use thiserror::Error;

use crate::bench::BenchError;
use crate::config::ConfigError;
use crate::snapshot::error::{ReadError, TakeError};
use crate::tls::error::TlsError;
use crate::tokens::error::TokensError;
use crate::webhooks::error::WebhooksError;
use rota_client::{ClientError, Need};

/// A failure of the binary itself, with what to try and the exit code.
#[derive(Debug, Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// Something failed at run time: exit code 1.
    pub(crate) fn at_run_time(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, code: 1, source: None }
    }

    /// What was asked for is not there: exit code 3.
    pub(crate) fn nothing_there(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, code: 3, source: None }
    }

    /// The log can't be written any more, so that nothing can be promised: exit code 4.
    pub(crate) fn log_failed(cause: rota_net::host::CommitError) -> Self {
        Failure {
            message: String::from("the server stops"),
            hint: Some(String::from(
                "nothing that was acknowledged is lost: see to the disk, then start again on the same data",
            )),
            code: 4,
            source: Some(cause.into()),
        }
    }

    /// Something that was asked for makes no sense: exit code 2.
    pub(crate) fn wrong_usage(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, code: 2, source: None }
    }

    /// The same as one of something that is not there: exit code 3.
    pub(crate) fn nothing(self) -> Self {
        Failure { code: 3, ..self }
    }

    /// Adds what to try.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// Adds what the system said.
    pub(crate) fn caused_by(self, source: io::Error) -> Self {
        Failure { source: Some(source.into()), ..self }
    }
}

/// Prints `error` to standard error and gives the exit code that it leads to.
pub(crate) fn failure(error: &anyhow::Error, json: bool) -> ExitCode {
    if error.downcast_ref::<ReaderGone>().is_some() {
        return ExitCode::SUCCESS;
    }
    let (hint, code) = judge(error);
    let text = if json {
        let mut object = json!({ "error": error.to_string() });
        let causes = causes(error);
        if !causes.is_empty() {
            object["causes"] = causes.into();
        }
        if let Some(hint) = hint {
            object["hint"] = hint.into();
        }
        if let Some(ClientError::KeyTaken { id, .. }) = error.downcast_ref() {
            object["id"] = (*id).into();
        }
        object["exit_code"] = code.into();
        object.to_string()
    } else {
        let mut text = format!("error: {error}");
        for cause in causes(error) {
            write!(text, "\n  cause: {cause}").expect("a String takes all that is written");
        }
        if let Some(hint) = hint {
            write!(text, "\n  hint: {hint}").expect("a String takes all that is written");
        }
        text
    };
    // Nobody is left to be told if this fails.
    writeln!(io::stderr(), "{text}").ok();
    ExitCode::from(code)
}

/// What to try, and the exit code.
fn judge(error: &anyhow::Error) -> (Option<String>, u8) {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return (error.hint(), 2);
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return (client_hint(error).or_else(|| error.hint()), 1);
    }
    if let Some(error) = error.downcast_ref::<BenchError>() {
        return (error.hint(), error.exit_code());
    }
    if let Some(error) = error.downcast_ref::<ReadError>() {
        return (error.hint(), error.exit_code());
    }
    if let Some(error) = error.downcast_ref::<TakeError>() {
        return (error.hint(), 1);
    }
    if let Some(error) = error.downcast_ref::<TokensError>() {
        return (error.hint(), error.exit_code());
    }
    if let Some(error) = error.downcast_ref::<WebhooksError>() {
        return (error.hint(), error.exit_code());
    }
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return (error.hint(), 2);
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return (failure.hint.clone(), failure.code);
    }
    (None, 1)
}

/// The innermost cause: what the system said.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

/// What to try at the command line, where the library's own hint speaks of its functions.
fn client_hint(error: &ClientError) -> Option<String> {
    let hint = match error {
        ClientError::Connect { .. } => "start a server with `rota serve`, or name another with --server or ROTA_SERVER",
        ClientError::Handshake { source, .. } => handshake_hint(source),
        ClientError::Broken { .. } | ClientError::TimedOut { .. } | ClientError::Closed { .. } => {
            "it may have been carried out: look with `rota list` before you repeat it"
        }
        ClientError::Refused { answer, .. } => match answer.as_str() {
            "UNAUTHENTICATED" => "show a token: put it into ROTA_TOKEN, or name its file with --token-file",
            "NOT_ALLOWED" => "ask with a token of a role, and for queues, that this is for: `rota token create`",
            _ => return None,
        },
        ClientError::NoSuchCommand { need, .. } => match need {
            Need::Key => "only Rota has keys: leave --key away",
            Need::After => "only Rota has jobs that wait for others: leave --after away",
            Need::TtrInMilliseconds => "give --ttr in whole seconds",
            Need::DelayInMilliseconds => "give --delay in whole seconds",
            Need::CancelByKey => "only Rota has keys: cancel the job by its id, which put printed",
            Need::Token => "it asks for no token: unset ROTA_TOKEN and ROTA_TOKEN_FILE",
            _ => return None,
        },
        ClientError::NoToken => "put a token of `rota token create` into ROTA_TOKEN, or into the file of --token-file",
        ClientError::BadToken { .. } => {
            "it was not made there, was revoked, or has expired: `rota token list` shows those that are valid"
        }
        ClientError::TooBig { .. } => {
            "raise the server's limit (rota serve --max-job-size, beanstalkd -z), or put a reference"
        }
        ClientError::KeyTaken { id, .. } => {
            return Some(format!("cancel it with `rota cancel {id}`, or use another key"));
        }
        ClientError::Buried { id, .. } => {
            return Some(format!("free memory, then make it ready with `rota kick --job {id}`"));
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to try at the command line when no TLS came about, by whichever protocol.
pub(crate) fn handshake_hint(error: &io::Error) -> &'static str {
    use rustls::{AlertDescription, CertificateError, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "name the authority of the server's certificate with --ca FILE"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "name the server as its certificate does",
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            "the server asks for a certificate: show one with --client-cert FILE --client-key FILE"
        }
        Some(Error::InvalidMessage(_)) => {
            "is it the port that speaks TLS, the server's --beanstalkd-tls or --http-tls?"
        }
        _ => "is it the port that speaks TLS, and does the server trust the certificate of --client-cert?",
    }
}

/// The causes below the error, each once: one whose text already stands in the line above it adds nothing.
fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut above = error.to_string();
    let mut causes = Vec::new();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !above.contains(&text) {
            causes.push(text.clone());
        }
        above = text;
    }
    causes
}

/// Whoever reads the output has left (`rota list | head -1`), which is not a failure.
#[derive(Debug, Error)]
#[error("nobody reads the output")]
struct ReaderGone;

/// Prints a line to standard output: `text`, or with `--json` the object.
///
/// # Errors
/// The output can't be written. [`failure`] is silent about a reader that has left.
pub(crate) fn line(json: bool, text: impl FnOnce() -> String, object: Value) -> anyhow::Result<()> {
    let line = if json { object.to_string() } else { text() };
    raw(format!("{line}\n").as_bytes())
}

/// Says something beside the output, on standard error.
pub(crate) fn note(text: &str) {
    // Nobody is left to be told if this fails.
    writeln!(io::stderr(), "note: {text}").ok();
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// As [`line()`].
pub(crate) fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        Err(error) => Err(Failure::at_run_time("cannot write to standard output").caused_by(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_its_parent_quotes_is_not_said_twice() {
        let error = anyhow::anyhow!("disk full").context("cannot write: disk full").context("cannot put");
        assert_eq!(causes(&error), ["cannot write: disk full"]);
    }
}
