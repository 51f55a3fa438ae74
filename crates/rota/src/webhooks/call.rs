//! A call of a webhook: one POST, signed as Standard Webhooks says, straight to its address.
//!
//! No redirect is followed and no proxy asked: what is called is what an admin wrote, as far as it is [`Allowed`]. Of an answer a
//! few KiB are read.

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use ring::digest::{SHA256, digest};
use ring::hmac;
use rota_net::http::{Call, Called};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};

use super::allowed::{Allowed, Forbidden};
use crate::report;
use crate::snapshot::place::provide_tls;
use crate::tls::client::{ClientFiles, trusting_also};
use crate::tls::error::TlsError;
use crate::tls::watched::Watched;

/// How long a call may take in all.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How much of an answer is read, in bytes.
const ANSWER_BYTES: usize = 4 << 10;

/// How many names are looked up at a time: each has a thread wait for it, and the threads are few.
const LOOK_UPS: usize = 4;

/// How long a connection without a call is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Who makes the calls.
pub(crate) struct Caller {
    allowed: Arc<Allowed>,
    names: Arc<Names>,
    /// Made at the first call: only who calls https needs the system's authorities.
    plain: OnceLock<Result<reqwest::Client, String>>,
    /// The same, but with authorities of its own it is there from the begin, and another one when they change.
    tls: Mutex<Option<Result<reqwest::Client, String>>>,
    authorities: Option<Authorities>,
}

/// The file of those who are trusted beside the system's authorities.
struct Authorities {
    path: PathBuf,
    watched: Watched,
}

impl Caller {
    /// One who goes where that is allowed, and trusts the authorities in a file, if there is one, beside those of the system.
    ///
    /// # Errors
    /// [`TlsError`]: the file is not what it has to be.
    pub(crate) fn new(allowed: Allowed, authorities: Option<PathBuf>) -> Result<Caller, TlsError> {
        let allowed = Arc::new(allowed);
        let names = Arc::new(Names { allowed: allowed.clone(), room: Arc::new(Semaphore::new(LOOK_UPS)) });
        let watched = |path: PathBuf| Authorities { watched: Watched::new(vec![path.clone()]), path };
        let authorities = authorities.map(watched);
        let caller = Caller { allowed, names, plain: OnceLock::new(), tls: Mutex::default(), authorities };
        caller.authorities.as_ref().map(|authorities| caller.trust(authorities)).transpose()?;
        Ok(caller)
    }

    /// Reads the authorities again whenever their file has changed, and at once whenever `again` says so, for ever. What does not
    /// do changes nothing, and is told of.
    pub(crate) async fn watch(self: Arc<Caller>, again: watch::Receiver<()>) {
        match &self.authorities {
            Some(authorities) => authorities.watched.clone().watch(again, || self.trust(authorities)).await,
            None => std::future::pending().await,
        }
    }

    /// Trusts those who are in the file now, from the next connection on.
    fn trust(&self, authorities: &Authorities) -> Result<(), TlsError> {
        let client = self.client(Some(trusting_also(&authorities.path)?));
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(())
    }

    /// Where it may go.
    pub(crate) fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Makes a call, once.
    pub(crate) async fn call(&self, call: Call) -> Called {
        // An address that is written as such is not looked up, and so does not come by `Names`.
        let host = reqwest::Url::parse(&call.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        if let Err(forbidden) = self.allowed.check_literal(&host.unwrap_or_default()) {
            return Called::Forbidden(forbidden.to_string());
        }
        let client = match call.url.get(..6) {
            Some(begin) if begin.eq_ignore_ascii_case("https:") => self.tls(),
            _ => self.plain.get_or_init(|| self.client(None)).clone(),
        };
        let client = match client {
            Ok(client) => client,
            Err(error) => return Called::Unanswered(error),
        };
        let id = id(&call);
        let timestamp = Timestamp::now().as_second();
        let request = client
            .post(&*call.url)
            .timeout(TIMEOUT)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-signature", signature(&call.secrets, &id, timestamp, &call.body))
            .header("webhook-timestamp", timestamp)
            .header("webhook-id", id)
            .body(call.body.to_string());
        let error = match answer(request).await {
            Ok(called) => return called,
            Err(error) => error,
        };
        match forbidden_in(&error) {
            Some(forbidden) => Called::Forbidden(forbidden.to_string()),
            None if error.is_timeout() => Called::Unanswered(format!("no answer within {} s", TIMEOUT.as_secs())),
            None => Called::Unanswered(what_failed(&error)),
        }
    }

    fn tls(&self) -> Result<reqwest::Client, String> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let of_system = || {
            let config = ClientFiles::default().config().map_err(|error| format!("no call over TLS: {error}"))?;
            self.client(Some(config))
        };
        tls.get_or_insert_with(of_system).clone()
    }

    fn client(&self, tls: Option<ClientConfig>) -> Result<reqwest::Client, String> {
        provide_tls();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rota/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .dns_resolver(self.names.clone());
        if let Some(config) = tls {
            builder = builder.tls_backend_preconfigured(config);
        }
        builder.build().map_err(|error| what_failed(&error))
    }
}

async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Called> {
    let mut response = request.send().await?;
    let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
    let mut said = Vec::new();
    while said.len() < ANSWER_BYTES {
        // The status counts, whatever becomes of the rest.
        let Ok(Some(more)) = response.chunk().await else { break };
        said.extend_from_slice(&more);
    }
    said.truncate(ANSWER_BYTES);
    Ok(Called::Answered { status, retry_after, said: String::from_utf8_lossy(&said).into_owned() })
}

/// The system's names, a few of them looked up at a time; of what they lead to, what is allowed. What is connected to is what was
/// looked at here: a name that is changed in between changes nothing.
struct Names {
    allowed: Arc<Allowed>,
    room: Arc<Semaphore>,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, room) = (self.allowed.clone(), self.room.clone());
        Box::pin(async move {
            let permit = room.acquire_owned().await?;
            let found = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                // Its thread waits on, though who asked may have given up.
                drop(permit);
                found.map(|found| (name, found))
            });
            let (name, found) = found.await??;
            let checked = found.map(|address| allowed.check(name.as_str(), address.ip()).map(|()| address));
            let (good, bad): (Vec<_>, Vec<_>) = checked.partition(Result::is_ok);
            let good: Vec<SocketAddr> = good.into_iter().flatten().collect();
            match bad.into_iter().find_map(Result::err) {
                Some(forbidden) if good.is_empty() => Err(forbidden.into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

/// Why no connection was made, if that is why a call failed.
fn forbidden_in(error: &reqwest::Error) -> Option<&Forbidden> {
    let mut error: &(dyn Error + 'static) = error;
    while error.downcast_ref::<Forbidden>().is_none() {
        error = error.source()?;
    }
    error.downcast_ref()
}

/// The id of a call: the same for the same events, and another for others, whenever they are sent.
pub(super) fn id(call: &Call) -> String {
    let digest = digest(&SHA256, call.body.as_bytes());
    let digits: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digits}", call.id)
}

/// The header that says who calls: a signature by each secret, with blanks between them.
pub(super) fn signature(secrets: &[Arc<[u8]>], id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    let sign = |secret: &Arc<[u8]>| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    };
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

/// How long to wait, as seconds or as a moment.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = rfc2822::parse(text).ok()?.timestamp();
    Some(until.duration_since(Timestamp::now()).try_into().unwrap_or_default())
}

/// What the system said. What is around it has the address in it, and that may have a secret in its query.
fn what_failed(error: &reqwest::Error) -> String {
    error.source().map_or_else(|| String::from("the request could not be made"), report::innermost)
}
