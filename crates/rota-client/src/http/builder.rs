//! What the client makes of how to connect: an agent that asks one server.

use std::sync::Arc;
use std::time::Duration;

use ureq::unversioned::resolver::DefaultResolver;

use super::transport::Dial;
use super::{Address, Client, Error};
use crate::TOKEN_BYTES;
use crate::builder::{self, BadTls, Settings, shown};

/// How long an answer may take, on top of what a request itself waits, if nothing else is said.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Over HTTP: see [`Builder`].
#[derive(Debug, Clone, Copy)]
pub struct Http;

/// Says how to ask; [`Client::builder`] makes one. What is wrong with it, `connect` says.
pub type Builder = builder::Builder<Http>;

impl From<BadTls> for Error {
    fn from(BadTls { what, source }: BadTls) -> Error {
        Error::Tls { what, source }
    }
}

impl Builder {
    /// A client of the server at `http://host:port`, `https://host:port` or `host:port`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Address`] if that is no address; and those of [`Builder::connect_to`].
    pub fn connect(self, address: &str) -> Result<Client, Error> {
        let parsed = address.parse::<Address>();
        self.connect_to(&parsed.map_err(|source| Error::Address { text: shown(address), source })?)
    }

    /// A client of that server. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Tls`] if the settings of TLS can't be used, or the address is not one of TLS: nothing is spoken in plain that was
    /// to be inside. [`Error::NoToken`] if the token is none.
    pub fn connect_to(self, address: &Address) -> Result<Client, Error> {
        let Settings { tls, token, timeout, connect_timeout } = self.settings(address.is_tls(), "https")?;
        let is_token = |token: &str| {
            !token.is_empty() && token.len() <= TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if token.as_deref().is_some_and(|token| !is_token(token)) {
            return Err(Error::NoToken);
        }
        let address = Arc::new(address.clone());
        let dial = Dial { address: address.clone(), tls: tls.map(Arc::new) };
        // A request goes straight there, and to nobody that an answer names.
        let settings = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("rota-client/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(connect_timeout))
            .build();
        Ok(Client {
            agent: ureq::Agent::with_parts(settings, dial, DefaultResolver::default()),
            address,
            token: token.map(Arc::from),
            timeout: timeout.unwrap_or(ANSWER_TIMEOUT),
        })
    }
}
