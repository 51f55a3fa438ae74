//! One request: what is asked, how long the answer may take, and what an answer that is none is reported as.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::{self, Request, Response};

use super::{Client, Error, Problem};

/// The longest answer that is read, in bytes: a page of a thousand jobs with all that they may have.
const ANSWER_BYTES: u64 = 1 << 30;

/// What is done with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are HTTP's")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// How long the begin of an answer may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// The client's time-out, and so much more.
    And(Duration),
    /// As long as it takes: nobody knows how much there is to do.
    Endless,
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    method: Method,
    path: &'a str,
    body: Option<Vec<u8>>,
    idempotency_key: Option<&'a str>,
    /// In which form the answer is to come, where there are several.
    accept: Option<&'static str>,
    patience: Patience,
    /// How long an answer that goes on may pause, where it is one; else the whole of it has the client's time-out.
    pause: Option<Duration>,
}

impl<'a> Ask<'a> {
    /// For the page at that path, its query with it.
    pub(super) fn new(method: Method, path: &'a str) -> Ask<'a> {
        Ask {
            method,
            path,
            body: None,
            idempotency_key: None,
            accept: None,
            patience: Patience::And(Duration::ZERO),
            pause: None,
        }
    }

    /// With that value as its body.
    pub(super) fn json(self, body: &(impl Serialize + ?Sized)) -> Result<Ask<'a>, Error> {
        Ok(Ask { body: Some(serde_json::to_vec(body).map_err(Error::Value)?), ..self })
    }

    pub(super) fn idempotency_key(self, key: Option<&'a str>) -> Ask<'a> {
        Ask { idempotency_key: key, ..self }
    }

    /// For an answer that goes on, and may pause so long, or as long as the client's time-out.
    pub(super) fn pause(self, pause: Duration) -> Ask<'a> {
        Ask { pause: Some(pause), ..self }
    }

    /// For an answer in that form.
    pub(super) fn accept(self, form: &'static str) -> Ask<'a> {
        Ask { accept: Some(form), ..self }
    }

    pub(super) fn patience(self, patience: Patience) -> Ask<'a> {
        Ask { patience, ..self }
    }
}

/// An answer that is no refusal.
pub(super) struct Answer<T> {
    pub(super) status: u16,
    /// Whether an earlier request with the same `Idempotency-Key` did it.
    pub(super) is_replayed: bool,
    pub(super) value: T,
}

impl Client {
    /// Asks for the page at that path.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(&Ask::new(Method::Get, path))
    }

    /// Asks, and reads what is answered.
    pub(super) fn call<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, Error> {
        self.call_whole(ask).map(|answer| answer.value)
    }

    /// The same, with the answer's status.
    pub(super) fn call_whole<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<Answer<T>, Error> {
        let answer = self.open(ask)?;
        let status = answer.status().as_u16();
        let is_replayed = answer.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
        let body = self.read(answer)?;
        let value = serde_json::from_slice(&body).map_err(|error| self.unexpected(&error.to_string(), &body))?;
        Ok(Answer { status, is_replayed, value })
    }

    /// Asks, and gives the answer before its body is read.
    ///
    /// # Errors
    /// [`Error`]; every status but 2xx is one.
    pub(super) fn open(&self, ask: &Ask<'_>) -> Result<Response<Body>, Error> {
        let answer = self.send(ask).map_err(|error| self.failed(error))?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let retry_after = answer.headers().get(http::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let body = self.read(answer)?;
        match Problem::read(&body) {
            Some(problem) => Err(Error::Problem(Box::new(Problem { retry_after, ..problem }))),
            None => Err(self.unexpected(&format!("status {status}"), &body)),
        }
    }

    fn send(&self, ask: &Ask<'_>) -> Result<Response<Body>, ureq::Error> {
        let method = match ask.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Delete => http::Method::DELETE,
        };
        let mut request = Request::builder().method(method).uri(format!("{}{}", self.address, ask.path));
        if let Some(token) = &self.token {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = ask.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(form) = ask.accept {
            request = request.header(http::header::ACCEPT, form);
        }
        // What is waited for after a request was sent is bounded by the time that sending it may take.
        let head = match ask.patience {
            Patience::And(wait) => Some(self.timeout.saturating_add(wait)),
            Patience::Endless => None,
        };
        match (&ask.body, ask.method) {
            (Some(body), _) => {
                request = request.header(http::header::CONTENT_TYPE, "application/json");
                self.run(request.body(&body[..])?, head, ask.pause)
            }
            // What takes a body says that it has none.
            (None, Method::Post | Method::Put) => self.run(request.body(&[][..])?, head, ask.pause),
            (None, Method::Get | Method::Delete) => self.run(request.body(())?, head, ask.pause),
        }
    }

    fn run(
        &self,
        request: Request<impl ureq::AsSendBody>,
        head: Option<Duration>,
        pause: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request).timeout_send_request(head).timeout_send_body(head);
        // What goes on has no end to be there by; only each read of it has.
        let request = match pause {
            None => request.timeout_recv_body(Some(self.timeout)),
            Some(pause) => request.timeout_per_read(Some(self.timeout.max(pause))),
        };
        self.agent.run(request.build())
    }

    fn read(&self, answer: Response<Body>) -> Result<Vec<u8>, Error> {
        let body = answer.into_body().into_with_config().limit(ANSWER_BYTES).read_to_vec();
        body.map_err(|error| self.failed(error))
    }

    /// What a request without a whole answer is reported as.
    fn failed(&self, error: ureq::Error) -> Error {
        let address = self.address.clone();
        match error {
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "it took too long");
                Error::Connect { address, source }
            }
            ureq::Error::Timeout(_) => Error::TimedOut { address },
            ureq::Error::HostNotFound => {
                Error::Connect { address, source: std::io::Error::other("there is no such host") }
            }
            ureq::Error::Other(error) => match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => Error::Broken { address, source: std::io::Error::other(error) },
            },
            ureq::Error::Io(source) => Error::broken(address, source),
            other => Error::Unexpected { address, what: other.to_string() },
        }
    }

    /// What an answer that can't be is reported as, with its begin.
    pub(super) fn unexpected(&self, what: &str, body: &[u8]) -> Error {
        let begin: String = String::from_utf8_lossy(body).chars().take(80).collect();
        let what = if begin.is_empty() { what.to_owned() } else { format!("{what}: {begin:?}") };
        Error::Unexpected { address: self.address.clone(), what }
    }
}
