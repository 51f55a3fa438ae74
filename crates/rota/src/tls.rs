//! TLS: the files that say who a server is and whom it trusts, and the same for a client.
//!
//! `serve` and the commands that speak to a server call in here. What is computed with is `ring`, as for everything else that
//! the program does; files are PEM. Nothing here prints a key.

pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod server;
pub(crate) mod watched;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::files::open;
use error::{Problem, TlsError};

/// The longest file that is read, in bytes: every certificate authority of a system is a fifth of it.
const FILE_BYTES: u64 = 1 << 20;

/// What TLS computes with.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate and its key, as both sides of a connection may show one.
struct Identity {
    /// The first is its own, the others lead from there to one that is trusted.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn read(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
        Ok(Identity { chain: certificates(certificate)?, key: private_key(key)? })
    }
}

/// The certificates of a file, in their order; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = text(path, Secret::No)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::new(path, Problem::NoCertificate)),
        Err(error) => Err(TlsError::new(path, Problem::NotPem(error.to_string()))),
    }
}

/// The one key of a file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = text(path, Secret::Yes)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            let needle = b"ENCRYPTED PRIVATE KEY";
            let is_locked = text.windows(needle.len()).any(|part| part == needle);
            TlsError::new(path, if is_locked { Problem::LockedKey } else { Problem::NoKey })
        }
        other => TlsError::new(path, Problem::NotPem(other.to_string())),
    })
}

/// The lists of revoked certificates of a file; at least one.
fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = text(path, Secret::No)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError::new(path, Problem::NoRevocationList)),
        Err(error) => Err(TlsError::new(path, Problem::NotPem(error.to_string()))),
    }
}

/// The authorities of a file, whose certificates are trusted.
fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::new(path, Problem::Unusable(error.to_string())))?;
    }
    Ok(roots)
}

/// Whether a file has to be kept from others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    Yes,
    No,
}

fn text(path: &Path, secret: Secret) -> Result<Vec<u8>, TlsError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |source| TlsError::new(path, Problem::Io(source));
    let file = open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(TlsError::new(path, Problem::NotAFile));
    }
    let mode = found.permissions().mode() & 0o7777;
    // A group may read it: that is how a service is given what root keeps.
    if secret == Secret::Yes && mode & 0o027 != 0 {
        return Err(TlsError::new(path, Problem::TooOpen(mode)));
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(TlsError::new(path, Problem::TooLong));
    }
    Ok(text)
}
