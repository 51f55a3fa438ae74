//! How to ask: whom to trust, what to show of oneself, how long to wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use ureq::unversioned::resolver::DefaultResolver;

use super::transport::Dial;
use super::{Address, Client, Error};
use crate::TOKEN_BYTES;
use crate::builder::{BadTls, config};

/// How long connecting to a host may take, if nothing else is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take, on top of what a request itself waits, if nothing else is said.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Says how to ask; [`Client::builder`] makes one. What is wrong with it, `connect` says.
#[derive(Clone, Default)]
pub struct Builder {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    tls: Option<ClientConfig>,
    token: Option<String>,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
}

impl fmt::Debug for Builder {
    /// Without what is to be kept secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("ca", &self.ca.is_some()).field("client_cert", &self.identity.is_some());
        shown.field("tls", &self.tls.is_some()).field("token", &self.token.is_some());
        shown.field("timeout", &self.timeout).field("connect_timeout", &self.connect_timeout).finish()
    }
}

impl Builder {
    /// Trusts the certificate authorities of this PEM text, and no longer those of the system.
    #[must_use]
    pub fn ca(self, pem: impl AsRef<[u8]>) -> Builder {
        Builder { ca: Some(pem.as_ref().to_vec()), ..self }
    }

    /// Shows a certificate to the server, with its key: two PEM texts. The first certificate is one's own, others lead from
    /// there to one that the server trusts.
    #[must_use]
    pub fn client_cert(self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Builder {
        Builder { identity: Some((chain.as_ref().to_vec(), key.as_ref().to_vec())), ..self }
    }

    /// What to shake hands with, made by oneself, instead of [`Builder::ca`] and [`Builder::client_cert`].
    #[must_use]
    pub fn tls_config(self, config: ClientConfig) -> Builder {
        Builder { tls: Some(config), ..self }
    }

    /// Shows a token with every request, which says what may be done.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Builder {
        Builder { token: Some(token.into()), ..self }
    }

    /// How long an answer may take, on top of what a request itself waits: a minute, if nothing is said.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Builder {
        Builder { timeout: Some(timeout), ..self }
    }

    /// How long connecting may take: five seconds, if nothing is said.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Builder {
        Builder { connect_timeout: Some(timeout), ..self }
    }

    /// A client of the server at `http://host:port`, `https://host:port` or `host:port`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Address`] if that is no address; and those of [`Builder::connect_to`].
    pub fn connect(self, address: &str) -> Result<Client, Error> {
        let parsed = address.parse::<Address>();
        // What stands before an @ may be somebody's token.
        let shown = || address.rsplit('@').next().unwrap_or_default().to_owned();
        let address = parsed.map_err(|source| Error::Address { text: shown(), source })?;
        self.connect_to(&address)
    }

    /// A client of that server. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Tls`] if the settings of TLS can't be used, or the address is not one of TLS: nothing is spoken in plain that was
    /// to be inside. [`Error::NoToken`] if the token is none.
    pub fn connect_to(self, address: &Address) -> Result<Client, Error> {
        let Builder { ca, identity, tls, token, timeout, connect_timeout } = self;
        if !address.is_tls() && (tls.is_some() || ca.is_some() || identity.is_some()) {
            let source = std::io::Error::other("it is not one of TLS: write https://host:port");
            return Err(Error::Tls { what: "the address", source });
        }
        let is_token = |token: &str| {
            !token.is_empty() && token.len() <= TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if token.as_deref().is_some_and(|token| !is_token(token)) {
            return Err(Error::NoToken);
        }
        let tls = match (address.is_tls(), tls) {
            (false, _) => None,
            (true, Some(config)) => Some(config),
            (true, None) => {
                let made = config(ca.as_deref(), identity);
                Some(made.map_err(|BadTls { what, source }| Error::Tls { what, source })?)
            }
        };
        let address = Arc::new(address.clone());
        let dial = Dial { address: address.clone(), tls: tls.map(Arc::new) };
        // A request goes straight there, and to nobody that an answer names.
        let settings = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("rota-client/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(connect_timeout.unwrap_or(CONNECT_TIMEOUT)))
            .build();
        Ok(Client {
            agent: ureq::Agent::with_parts(settings, dial, DefaultResolver::default()),
            address,
            token: token.map(Arc::from),
            timeout: timeout.unwrap_or(ANSWER_TIMEOUT),
        })
    }
}
