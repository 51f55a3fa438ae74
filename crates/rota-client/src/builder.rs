//! How to connect: whom to trust, what to show of oneself, how long to wait. It is the same for both clients; what they make of it
//! is here for the beanstalkd protocol, and in [`crate::http`] for HTTP.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::connection::{Connection, Patience};
use crate::{Client, ClientError, ServerAddress};

/// How long connecting to one address may take, if nothing else is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take, on top of what a command itself waits, if nothing else is said.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Says how to connect; [`Client::builder`] makes one, over the beanstalkd protocol, and the client of HTTP has its own. What is wrong
/// with it, `connect` says.
#[must_use]
pub struct Builder<Over = Commands> {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    tls: Option<ClientConfig>,
    token: Option<String>,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    over: PhantomData<Over>,
}

/// Over the beanstalkd protocol: see [`Builder`].
#[derive(Debug, Clone, Copy)]
pub struct Commands;

/// What a builder was told, as far as it does not depend on what is spoken.
pub(crate) struct Settings {
    /// What to shake hands with, where the address is one of TLS.
    pub(crate) tls: Option<ClientConfig>,
    pub(crate) token: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
}

impl<Over> Default for Builder<Over> {
    /// Trusts the authorities of the system, and shows nothing.
    fn default() -> Builder<Over> {
        Builder {
            ca: None,
            identity: None,
            tls: None,
            token: None,
            timeout: None,
            connect_timeout: None,
            over: PhantomData,
        }
    }
}

impl<Over> Clone for Builder<Over> {
    fn clone(&self) -> Builder<Over> {
        let Builder { ca, identity, tls, token, timeout, connect_timeout, over } = self;
        Builder {
            ca: ca.clone(),
            identity: identity.clone(),
            tls: tls.clone(),
            token: token.clone(),
            timeout: *timeout,
            connect_timeout: *connect_timeout,
            over: *over,
        }
    }
}

impl<Over> fmt::Debug for Builder<Over> {
    /// Without what is to be kept secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("ca", &self.ca.is_some()).field("client_cert", &self.identity.is_some());
        shown.field("tls", &self.tls.is_some()).field("token", &self.token.is_some());
        shown.field("timeout", &self.timeout).field("connect_timeout", &self.connect_timeout).finish()
    }
}

impl<Over> Builder<Over> {
    /// Trusts the certificate authorities of this PEM text, and no longer those of the system.
    pub fn ca(self, pem: impl AsRef<[u8]>) -> Builder<Over> {
        Builder { ca: Some(pem.as_ref().to_vec()), ..self }
    }

    /// Shows a certificate to the server, with its key: two PEM texts. The first certificate is one's own, others lead from
    /// there to one that the server trusts.
    pub fn client_cert(self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Builder<Over> {
        Builder { identity: Some((chain.as_ref().to_vec(), key.as_ref().to_vec())), ..self }
    }

    /// What to shake hands with, made by oneself, instead of [`Builder::ca`] and [`Builder::client_cert`].
    pub fn tls_config(self, config: ClientConfig) -> Builder<Over> {
        Builder { tls: Some(config), ..self }
    }

    /// Shows a token, which says what may be done: over the beanstalkd protocol at once, over HTTP with every request.
    pub fn token(self, token: impl Into<String>) -> Builder<Over> {
        Builder { token: Some(token.into()), ..self }
    }

    /// How long an answer may take, on top of what a command or a request itself waits: half a minute over the beanstalkd protocol,
    /// a minute over HTTP, if nothing is said.
    pub fn timeout(self, timeout: Duration) -> Builder<Over> {
        Builder { timeout: Some(timeout), ..self }
    }

    /// How long connecting to one address of the host may take: five seconds, if nothing is said.
    pub fn connect_timeout(self, timeout: Duration) -> Builder<Over> {
        Builder { connect_timeout: Some(timeout), ..self }
    }

    /// What was said, for an address that is one of TLS or not; one that is begins with `scheme`.
    ///
    /// # Errors
    /// [`BadTls`] if the settings of TLS can't be used, or the address is not one of TLS: nothing is spoken in plain that was to be
    /// inside.
    pub(crate) fn settings(self, is_tls: bool, scheme: &str) -> Result<Settings, BadTls> {
        let Builder { ca, identity, tls, token, timeout, connect_timeout, .. } = self;
        if !is_tls && (tls.is_some() || ca.is_some() || identity.is_some()) {
            let source = std::io::Error::other(format!("it is not one of TLS: write {scheme}://host:port"));
            return Err(BadTls { what: "the address", source });
        }
        let tls = match (is_tls, tls) {
            (false, _) => None,
            (true, Some(config)) => Some(config),
            (true, None) => Some(config(ca.as_deref(), identity)?),
        };
        Ok(Settings { tls, token, timeout, connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT) })
    }
}

/// What of a text that is no address is shown: what stands before an @ may be somebody's token.
pub(crate) fn shown(address: &str) -> String {
    address.rsplit('@').next().unwrap_or_default().to_owned()
}

impl Builder {
    /// Connects to `host:port`, `beanstalkd://host:port` or `tls://host:port`. The port may be left away: 11300, and 11301
    /// inside TLS.
    ///
    /// # Errors
    /// [`ClientError::Address`] if that is no address; and those of [`Builder::connect_to`].
    pub fn connect(self, address: &str) -> Result<Client, ClientError> {
        let parsed = address.parse::<ServerAddress>();
        self.connect_to(&parsed.map_err(|source| ClientError::Address { text: shown(address), source })?)
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Tls`] if the settings of TLS can't be used, or the address is not one of TLS: nothing is spoken in plain
    /// that was to be inside. [`ClientError::Connect`] if no address of the host takes a connection,
    /// [`ClientError::Handshake`] if there is no agreement then. With a token those of [`Client::authenticate`].
    pub fn connect_to(self, address: &ServerAddress) -> Result<Client, ClientError> {
        let Settings { tls, token, timeout, connect_timeout } = self.settings(address.is_tls(), "tls")?;
        let second = Duration::from_secs(1);
        // A socket takes no span of zero.
        let at_least = |span: Duration| if span.is_zero() { second } else { span };
        let patience =
            Patience { connect: at_least(connect_timeout), answer: at_least(timeout.unwrap_or(ANSWER_TIMEOUT)) };
        let mut client = Client(Arc::new(Mutex::new(Connection::open(address, tls, patience)?)));
        if let Some(token) = token {
            client.authenticate(&token)?;
        }
        Ok(client)
    }
}

/// What can't be used for TLS, and why.
pub(crate) struct BadTls {
    pub(crate) what: &'static str,
    pub(crate) source: std::io::Error,
}

impl From<BadTls> for ClientError {
    fn from(BadTls { what, source }: BadTls) -> ClientError {
        ClientError::Tls { what, source }
    }
}

/// What to shake hands with: whom to trust, the system's authorities where none are given, and what to show.
fn config(ca: Option<&[u8]>, identity: Option<(Vec<u8>, Vec<u8>)>) -> Result<ClientConfig, BadTls> {
    let unusable = |what| move |source| BadTls { what, source: std::io::Error::other::<rustls::Error>(source) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("ring has the suites of TLS 1.2 and 1.3");
    let builder = match ca {
        Some(pem) => {
            let what = "what was given as authorities";
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem, what)? {
                roots.add(certificate).map_err(unusable(what))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_platform_verifier().map_err(unusable("the system's store of authorities"))?,
    };
    let Some((chain, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let what = "the client's certificate";
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| BadTls {
        what: "the key of the client's certificate",
        source: std::io::Error::other(error),
    })?;
    builder.with_client_auth_cert(certificates(&chain, what)?, key).map_err(unusable(what))
}

/// The certificates of a PEM text; at least one.
fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let failed = |source| BadTls { what, source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| failed(std::io::Error::other(error)))?;
    match found.is_empty() {
        true => Err(failed(std::io::Error::other("no certificate is in it"))),
        false => Ok(found),
    }
}
