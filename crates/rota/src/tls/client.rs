//! The client's side: whom it trusts, and what it shows of itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueHint};
use rustls::ClientConfig;
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};

use super::error::{Problem, TlsError};
use super::{Identity, authorities, certificates, provider};

/// What the command line says of TLS.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClientFiles {
    /// With tls:// and https://: trust the authorities of this PEM file, instead of those of the system
    #[arg(
        long,
        global = true,
        env = "ROTA_CA",
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        hide_env_values = true,
        help_heading = "For every command"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// With tls:// and https://: show this certificate to the server
    #[arg(
        long,
        global = true,
        env = "ROTA_CLIENT_CERT",
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        requires = "client_key",
        hide_env_values = true,
        help_heading = "For every command"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// The key of --client-cert, which no other user may read
    #[arg(
        long,
        global = true,
        env = "ROTA_CLIENT_KEY",
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        requires = "client_cert",
        hide_env_values = true,
        help_heading = "For every command"
    )]
    pub(crate) client_key: Option<PathBuf>,
}

/// What to shake hands with for who trusts the system's authorities, and those of a file beside them, and shows nothing of itself.
///
/// # Errors
/// [`TlsError`]: the file is not what it has to be.
pub(crate) fn trusting_also(path: &Path) -> Result<ClientConfig, TlsError> {
    let unusable = |error: rustls::Error| TlsError::new(path, Problem::Unusable(error.to_string()));
    let verifier = Verifier::new_with_extra_roots(certificates(path)?, provider()).map_err(unusable)?;
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().expect("ring has the suites of TLS 1.2 and 1.3");
    // What is named so is that another one than rustls' own checks certificates. It is the one that checks them without a file.
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

impl ClientFiles {
    /// What to shake hands with.
    ///
    /// # Errors
    /// [`TlsError`]: one of the files is not what it has to be.
    pub(crate) fn config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().expect("ring has the suites of TLS 1.2 and 1.3");
        let builder = match &self.ca {
            Some(path) => builder.with_root_certificates(authorities(path)?),
            None => builder.with_platform_verifier().map_err(|error| {
                TlsError::new("the system's authorities".as_ref(), Problem::Unusable(error.to_string()))
            })?,
        };
        match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => {
                let identity = Identity::read(certificate, key)?;
                let config = builder.with_client_auth_cert(identity.chain, identity.key);
                config.map_err(|error| TlsError::of_identity(certificate, key, &error))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }
}
