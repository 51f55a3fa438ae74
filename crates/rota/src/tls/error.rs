//! What can be wrong with the files of TLS: each case with its file and a hint.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file of TLS cannot be used. Nothing was changed.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct TlsError {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong with the file.
#[derive(Debug, Error)]
pub(crate) enum Problem {
    /// The system refused.
    #[error("cannot read it: {0}")]
    Io(io::Error),
    /// It is a folder, or something else that has no end.
    #[error("it is not a file")]
    NotAFile,
    /// Others may read it, or change it.
    #[error("it holds a private key, and is open to other users (mode {0:04o})")]
    TooOpen(u32),
    /// More than a mebibyte.
    #[error("it is longer than files of certificates are")]
    TooLong,
    /// Something in it looks like PEM and is not.
    #[error("it is not PEM: {0}")]
    NotPem(String),
    /// There is none in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// There is none in it.
    #[error("there is no private key in it")]
    NoKey,
    /// Its key has a passphrase.
    #[error("its private key is locked with a passphrase")]
    LockedKey,
    /// There is none in it.
    #[error("there is no list of revoked certificates in it")]
    NoRevocationList,
    /// The key is another certificate's.
    #[error("its key is not that of the certificate in {}", .0.display())]
    OtherKey(PathBuf),
    /// It was read, and does not do.
    #[error("it cannot be used: {0}")]
    Unusable(String),
}

impl TlsError {
    pub(super) fn new(path: &Path, problem: Problem) -> TlsError {
        TlsError { path: path.to_owned(), problem }
    }

    /// What a library said of a certificate and its key.
    pub(super) fn of_identity(certificate: &Path, key: &Path, error: &rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(_) => TlsError::new(key, Problem::OtherKey(certificate.to_owned())),
            other => TlsError::new(certificate, Problem::Unusable(other.to_string())),
        }
    }

    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        let path = self.path.display();
        Some(match &self.problem {
            Problem::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                "name a file that is there; a relative path counts from where rota was started".into()
            }
            Problem::Io(_) | Problem::NotAFile => "name a PEM file that the user of rota may read".into(),
            Problem::TooOpen(_) => format!("chmod 600 {path}, or 640 with a group of its own"),
            Problem::TooLong => "name the file of this server's certificates alone".into(),
            Problem::NotPem(_) | Problem::NoCertificate => {
                format!("a PEM file has -----BEGIN CERTIFICATE-----; from DER: openssl x509 -inform der -in {path}")
            }
            Problem::NoKey => "a PEM file of a key has -----BEGIN PRIVATE KEY-----".into(),
            Problem::LockedKey => format!("unlock it: openssl pkey -in {path} -out FILE, and chmod 600 FILE"),
            Problem::NoRevocationList => "a PEM file of such a list has -----BEGIN X509 CRL-----".into(),
            Problem::OtherKey(_) => "name the key that the certificate was made with; certificates come first, the \
                                     server's own before those of authorities"
                .into(),
            Problem::Unusable(_) => return None,
        })
    }
}
