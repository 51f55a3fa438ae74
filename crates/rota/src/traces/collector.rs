//! The way to the collector: the HTTP client that is there anyway, on a thread that has no runtime.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use reqwest::redirect::Policy;
use tokio::runtime::{Builder, Runtime};

use super::counted::Told;
use crate::report::{Failure, innermost};
use crate::snapshot::place::provide_tls;

/// How long an answer may take, if `OTEL_EXPORTER_OTLP_TIMEOUT` says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

/// Sends requests, one at a time.
pub(super) struct Collector {
    client: reqwest::Client,
    /// None once it ends.
    runtime: Option<Runtime>,
    told: Arc<Told>,
}

impl Collector {
    pub(super) fn new(told: Arc<Told>) -> Result<Collector, Failure> {
        let failed =
            |cause| Failure::at_run_time("cannot send traces").caused_by(std::io::Error::other::<Cause>(cause));
        provide_tls();
        let millis = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]
            .iter()
            .find_map(|name| std::env::var(name).ok()?.parse().ok());
        let timeout = millis.filter(|millis| *millis > 0).map_or(TIMEOUT, Duration::from_millis);
        let client = reqwest::Client::builder().timeout(timeout).redirect(Policy::none()).build();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.into()))?;
        let client = client.map_err(|error| failed(error.into()))?;
        Ok(Collector { client, runtime: Some(runtime), told })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.client.execute(request.try_into()?).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(Box::new(ResponseBodyTooLarge::new()));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::builder().status(answer.status()).body(Bytes::from(body))?;
        // When to try again is said there.
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

type Cause = Box<dyn Error + Send + Sync>;

impl HttpClient for Collector {
    /// Blocks until it is answered: it is called on a thread of the SDK's own that does nothing else.
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let runtime = self.runtime.as_ref().ok_or("the server has ended")?;
            let to = request.uri().to_string();
            let answered = runtime.block_on(self.send(request));
            match &answered {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => self.told.refused(&to, &format!("it answered {}", answer.status())),
                Err(error) => self.told.refused(&to, &innermost(error.as_ref())),
            }
            answered
        })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl Drop for Collector {
    /// Wherever it is dropped, on the server's own runtime too, where nothing may be waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
