//! The server's side: its certificate, the authorities of its clients, and both read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rota_net::tls::Tls;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::sync::watch;

use super::error::{Problem, TlsError};
use super::watched::Watched;
use super::{Identity, authorities, provider, revocation_lists};

/// What a client may call the beanstalkd protocol when it shakes hands. A browser offers others, and is sent away.
const BEANSTALKD: &[u8] = b"beanstalkd";
const HTTP: &[u8] = b"http/1.1";

/// The files of `serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerFiles {
    /// The server's certificate, and those that lead to an authority.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Authorities of clients: who shows no certificate of one of them is sent away. None to ask for no certificate.
    pub(crate) client_authorities: Option<PathBuf>,
    /// Certificates of clients that were called off; none without authorities.
    pub(crate) client_revoked: Option<PathBuf>,
}

/// What both ports shake hands with, as the files say.
pub(crate) struct ServerTls {
    files: ServerFiles,
    watched: Watched,
    beanstalkd: Arc<Tls>,
    http: Arc<Tls>,
}

impl ServerFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let optional = [&self.client_authorities, &self.client_revoked].into_iter().flatten();
        [&self.certificate, &self.key].into_iter().chain(optional).map(PathBuf::as_path)
    }

    /// One configuration for each protocol: beanstalkd, HTTP.
    fn read(&self) -> Result<[Arc<ServerConfig>; 2], TlsError> {
        let identity = Identity::read(&self.certificate, &self.key)?;
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().expect("ring has the suites of TLS 1.2 and 1.3");
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                if let Some(path) = &self.client_revoked {
                    // The list of an authority says nothing of other authorities.
                    verifier = verifier.with_crls(revocation_lists(path)?).allow_unknown_revocation_status();
                }
                let path = self.client_revoked.as_ref().unwrap_or(path);
                let verifier =
                    verifier.build().map_err(|error| TlsError::new(path, Problem::Unusable(error.to_string())))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(identity.chain, identity.key);
        let config = config.map_err(|error| TlsError::of_identity(&self.certificate, &self.key, &error))?;
        Ok([BEANSTALKD, HTTP].map(|protocol| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        }))
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`]: one of them is not what it has to be.
    pub(crate) fn open(files: ServerFiles) -> Result<ServerTls, TlsError> {
        let watched = Watched::new(files.paths().map(Path::to_owned).collect());
        let [beanstalkd, http] = files.read()?.map(|config| Arc::new(Tls::new(config)));
        Ok(ServerTls { files, watched, beanstalkd, http })
    }

    pub(crate) fn beanstalkd(&self) -> Arc<Tls> {
        self.beanstalkd.clone()
    }

    pub(crate) fn http(&self) -> Arc<Tls> {
        self.http.clone()
    }

    /// Reads the files again whenever they have changed, and at once whenever `again` says so, for ever. Files that do not do
    /// change nothing, and are told of.
    pub(crate) async fn watch(self, again: watch::Receiver<()>) {
        let ServerTls { files, watched, beanstalkd, http } = self;
        let read = || -> Result<(), TlsError> {
            let [new_beanstalkd, new_http] = files.read()?;
            beanstalkd.replace(new_beanstalkd);
            http.replace(new_http);
            Ok(())
        };
        watched.watch(again, read).await;
    }
}
