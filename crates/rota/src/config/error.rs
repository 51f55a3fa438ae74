//! What can be wrong with the configuration of `rota serve`: each case with its place, its values and a hint.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use super::options::OPTIONS;
use crate::tokens::error::TokensError;

/// Where the text of an option came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line, as `--name`.
    Flag,
    /// An environment variable of this name.
    Environment(String),
    /// A line of a configuration file, counted from 1.
    File(PathBuf, usize),
    /// Nobody gave it.
    Default,
}

/// Why there is no configuration. All of them are the user's to mend: exit code 2.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// A value that its option does not take.
    #[error("{}: {reason}", place(.origin, .option))]
    Value {
        /// The option's name, without dashes.
        option: &'static str,
        /// What is wrong with it, and how to write it.
        reason: String,
        /// Where it was given.
        origin: Origin,
    },
    /// A port where others could reach it, while nobody is asked for a token.
    #[error("{}: {address} can be reached from other machines, and there is no token yet", place(.origin, .option))]
    Public {
        /// The option of the port.
        option: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// Where it was given.
        origin: Origin,
    },
    /// Tokens are asked for, and there is no place for any.
    #[error("{}: with --storage memory there is no data directory that tokens could be in", place(.origin, "auth"))]
    NoPlaceForTokens {
        /// Where it was asked for.
        origin: Origin,
    },
    /// The file of tokens is not what it has to be.
    #[error(transparent)]
    Tokens {
        /// What is wrong with it.
        source: TokensError,
    },
    /// Two listeners at one address.
    #[error("{}: {address} is the address of --{other} too", place(.origin, .option))]
    SameAddress {
        /// The option of the second.
        option: &'static str,
        /// The option of the first.
        other: &'static str,
        /// The address of both.
        address: SocketAddr,
        /// Where that of the second was given.
        origin: Origin,
    },
    /// A port is to speak TLS, and nothing says as whom.
    #[error("{}: TLS needs a certificate and its key", place(.origin, .option))]
    TlsWithoutFiles {
        /// The option of the port.
        option: &'static str,
        /// Where it was given.
        origin: Origin,
    },
    /// There is a certificate, and no port that speaks TLS.
    #[error("{}: no port speaks TLS", place(.origin, .option))]
    TlsUnused {
        /// The option that would do nothing.
        option: &'static str,
        /// Where it was given.
        origin: Origin,
    },
    /// A list of revoked certificates, where none is asked for.
    #[error("{}: clients are asked for no certificate that could be on a list", place(.origin, "tls-client-crl"))]
    RevokedByNobody {
        /// Where it was given.
        origin: Origin,
    },
    /// Every listener is off.
    #[error("--beanstalkd and --http are both off: there is nothing to serve")]
    NothingToServe,
    /// The file can't be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Its path as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not TOML: {message}", path.display())]
    Syntax {
        /// Its path as it was given.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key that is no option.
    #[error("{}:{line}: there is no option {key:?}", path.display())]
    UnknownKey {
        /// The file's path as it was given.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key as it is written there.
        key: String,
    },
    /// A value that is neither text, number, true nor false.
    #[error("{}:{line}: {key} is {kind}; it must be text, a number, true or false", path.display())]
    WrongKind {
        /// The file's path as it was given.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key as it is written there.
        key: String,
        /// What TOML calls the value, with its article.
        kind: String,
    },
}

impl ConfigError {
    /// What to try, where that is not plain from the message.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            ConfigError::UnknownKey { key, .. } => Some(match nearest_option(key) {
                Some(name) => format!("did you mean {name}?"),
                None => {
                    let names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
                    format!("the options are {}", names.join(", "))
                }
            }),
            ConfigError::Public { address, .. } => Some(format!(
                "make a token with `rota token create --role admin`, listen on 127.0.0.1:{}, or add --insecure if only \
                 machines you trust can reach this one",
                address.port()
            )),
            ConfigError::NoPlaceForTokens { .. } => Some("name their file with --tokens FILE".into()),
            ConfigError::Tokens { source } => source.hint(),
            ConfigError::TlsWithoutFiles { .. } => Some("name them with --tls-cert FILE and --tls-key FILE".into()),
            ConfigError::TlsUnused { .. } => {
                Some("give one an address with --beanstalkd-tls HOST:PORT or --http-tls HOST:PORT".into())
            }
            ConfigError::RevokedByNobody { .. } => Some("name their authorities with --tls-client-ca FILE".into()),
            ConfigError::SameAddress { .. } => Some("give them different ports, or turn one of them off".into()),
            ConfigError::NothingToServe => Some("give one of them an address such as 127.0.0.1:11300".into()),
            ConfigError::Read { .. } => Some("--config and ROTA_CONFIG name a TOML file".into()),
            ConfigError::Value { .. } | ConfigError::Syntax { .. } | ConfigError::WrongKind { .. } => None,
        }
    }
}

/// The option whose name is most like `key`; none if all are far from it.
fn nearest_option(key: &str) -> Option<&'static str> {
    let key = key.to_lowercase().replace('_', "-");
    let scored = OPTIONS.iter().flat_map(|option| {
        let names = std::iter::once(option.name).chain(option.aliases.iter().copied());
        let key = &key;
        names.map(move |name| (option.name, strsim::jaro_winkler(key, name)))
    });
    let best = scored.max_by(|a, b| a.1.total_cmp(&b.1));
    best.filter(|(_, likeness)| *likeness > 0.75).map(|(name, _)| name)
}

/// The place of an option as its reader would look for it.
fn place(origin: &Origin, option: &str) -> String {
    match origin {
        Origin::Flag => format!("--{option}"),
        Origin::Environment(variable) => variable.clone(),
        Origin::File(path, line) => format!("{}:{line}: {option}", path.display()),
        Origin::Default => format!("the default of --{option}"),
    }
}
