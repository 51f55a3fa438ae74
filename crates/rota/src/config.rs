//! What `rota serve` was told: flags, then environment, then the configuration file, then defaults, in one struct.
//!
//! `main` resolves it and hands it to `serve`, which gets plain checked values and never sees where they came from.
//! Every option is a row of [`options::OPTIONS`]; nothing here may name an option that has no row.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod options;

pub(crate) use error::{ConfigError, Origin};
use options::{OPTIONS, Setting};
use rota_net::peers::PerAddress;

use crate::snapshot::address::Address;
use crate::tls::server::ServerFiles;
use crate::tokens;
use crate::webhooks::allowed::Allowed;

/// Everything that `rota serve` can be told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServeConfig {
    /// The folder that holds the log; made if it is missing.
    pub(crate) data: PathBuf,
    /// Where the beanstalkd protocol is served; none if it is off. Port 0 lets the system choose.
    pub(crate) beanstalkd: Option<SocketAddr>,
    /// Where the HTTP API is served; none if HTTP is off. Port 0 lets the system choose.
    pub(crate) http: Option<SocketAddr>,
    /// Where the beanstalkd protocol is served inside TLS; none if it is not, or without `tls`.
    pub(crate) beanstalkd_tls: Option<SocketAddr>,
    /// Where the HTTP API is served inside TLS; none if it is not, or without `tls`.
    pub(crate) http_tls: Option<SocketAddr>,
    /// Who the server is inside TLS, and whom it trusts; none if no port speaks it.
    pub(crate) tls: Option<ServerFiles>,
    /// The most connections of HTTP, as far as the limit of descriptors allows; never zero.
    pub(crate) http_connections: usize,
    /// How many of them one address may have.
    pub(crate) http_per_address: PerAddress,
    /// How many connections of the beanstalkd protocol one address may have.
    pub(crate) per_address: PerAddress,
    /// Names that HTTP requests may call the server by; `*` for any.
    pub(crate) http_names: Vec<String>,
    /// The file of the tokens that are asked for; none if there is no place for one.
    pub(crate) tokens: Option<PathBuf>,
    /// Whether tokens are asked for though there may be none.
    pub(crate) auth: bool,
    /// Whether the port of the beanstalkd protocol asks for one.
    pub(crate) beanstalkd_asks: bool,
    /// Whether the one inside TLS does.
    pub(crate) beanstalkd_tls_asks: bool,
    /// Where webhooks may go, beside addresses that anybody can reach.
    pub(crate) webhook_allow: Allowed,
    /// The file of authorities whom webhooks trust beside those of the system.
    pub(crate) webhook_ca: Option<PathBuf>,
    /// Whether jobs outlive the process.
    pub(crate) storage: StorageMode,
    /// When an answer may leave, in durable storage.
    pub(crate) sync: SyncMode,
    /// What is kept of the log that no start reads.
    pub(crate) history: History,
    /// Length at which a segment of the log is closed, in bytes; none for what fits the disk.
    pub(crate) segment_bytes: Option<u64>,
    /// How much time a spoke of the wheel covers; never zero.
    pub(crate) spoke: Duration,
    /// How far ahead jobs are held in memory in mapped storage; at least a second.
    pub(crate) near: Duration,
    /// The largest body that a put may carry, in bytes; 1 to 1 GiB.
    pub(crate) max_job_bytes: usize,
    /// The most queues; never zero.
    pub(crate) max_queues: usize,
    /// `host:port` that gets counters, timers and gauges by UDP; none if nobody does.
    pub(crate) statsd: Option<String>,
    /// Where snapshots go.
    pub(crate) snapshot_to: Address,
    /// The snapshot to start from; none if the server goes on with its data.
    pub(crate) restore: Option<Address>,
}

/// Which snapshot to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Restore {
    /// The newest where snapshots go.
    Newest,
    /// This one, or the newest at this place.
    From(Address),
}

/// Whether jobs outlive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StorageMode {
    /// In memory alone: gone when the process ends.
    Memory,
    /// In the log, and in memory.
    Durable,
    /// In the log; of what waits, memory has no bodies.
    Lazy,
    /// In the log; of what is far ahead, memory has next to nothing.
    Mapped,
}

/// When what was acknowledged is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncMode {
    /// Before the answer leaves.
    Always,
    /// When the operating system sees fit.
    Never,
    /// At most this long after the answer; never zero.
    Every(Duration),
}

/// How much of the log is kept as history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct History {
    /// How old a segment may be.
    pub(crate) age: Duration,
    /// How many bytes there may be of them.
    pub(crate) bytes: u64,
}

/// The text that was given for an option, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// Texts by option name, from one source.
pub(crate) type Givens = BTreeMap<&'static str, Given>;

impl ServeConfig {
    /// Decides every option from `flags`, the environment, the file that `--config` or `ROTA_CONFIG` names, and the
    /// defaults, in this order.
    ///
    /// An environment variable that is set to nothing counts as not set.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place; the caller leaves with exit code 2.
    pub(crate) fn resolve(
        flags: &Givens,
        config_file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let variable = |name: &str| environment(name).filter(|text| !text.is_empty());
        let from_environment = variable("ROTA_CONFIG").map(PathBuf::from);
        let in_file = match config_file.map(Path::to_path_buf).or(from_environment) {
            Some(path) => file::read(&path)?,
            None => Givens::new(),
        };
        let mut draft = Draft::default();
        for option in OPTIONS {
            let env = option.env();
            let given = flags.get(option.name).cloned();
            let given =
                given.or_else(|| variable(&env).map(|text| Given { text, origin: Origin::Environment(env.clone()) }));
            let given = given
                .or_else(|| in_file.get(option.name).cloned())
                .unwrap_or_else(|| Given { text: option.default.to_owned(), origin: Origin::Default });
            let setting = (option.read)(&given.text).map_err(|reason| ConfigError::Value {
                option: option.name,
                reason,
                origin: given.origin.clone(),
            })?;
            draft.set(setting, given.origin);
        }
        draft.finish()
    }
}

/// A configuration under way, with what the last checks need to know.
#[derive(Default)]
struct Draft {
    data: PathBuf,
    beanstalkd: Option<(SocketAddr, Origin)>,
    http: Option<(SocketAddr, Origin)>,
    beanstalkd_tls: Option<(SocketAddr, Origin)>,
    http_tls: Option<(SocketAddr, Origin)>,
    tls_cert: Option<(PathBuf, Origin)>,
    tls_key: Option<(PathBuf, Origin)>,
    tls_client_ca: Option<(PathBuf, Origin)>,
    tls_client_crl: Option<(PathBuf, Origin)>,
    http_connections: usize,
    http_per_address: Option<usize>,
    per_address: Option<usize>,
    http_names: Vec<String>,
    tokens: Option<PathBuf>,
    auth: Option<Origin>,
    webhook_allow: Allowed,
    webhook_ca: Option<PathBuf>,
    storage: Option<StorageMode>,
    sync: Option<SyncMode>,
    history: History,
    segment_bytes: Option<u64>,
    spoke: Duration,
    near: Duration,
    max_job_bytes: usize,
    max_queues: usize,
    statsd: Option<String>,
    snapshot_to: Option<Address>,
    restore: Option<Restore>,
    insecure: bool,
}

impl Draft {
    fn set(&mut self, setting: Setting, origin: Origin) {
        match setting {
            Setting::Data(path) => self.data = path,
            Setting::Beanstalkd(address) => self.beanstalkd = address.map(|address| (address, origin)),
            Setting::Http(address) => self.http = address.map(|address| (address, origin)),
            Setting::BeanstalkdTls(address) => self.beanstalkd_tls = address.map(|address| (address, origin)),
            Setting::HttpTls(address) => self.http_tls = address.map(|address| (address, origin)),
            Setting::TlsCert(path) => self.tls_cert = path.map(|path| (path, origin)),
            Setting::TlsKey(path) => self.tls_key = path.map(|path| (path, origin)),
            Setting::TlsClientCa(path) => self.tls_client_ca = path.map(|path| (path, origin)),
            Setting::TlsClientCrl(path) => self.tls_client_crl = path.map(|path| (path, origin)),
            Setting::HttpConnections(most) => self.http_connections = most,
            Setting::HttpPerAddress(most) => self.http_per_address = most,
            Setting::PerAddress(most) => self.per_address = most,
            Setting::HttpNames(names) => self.http_names = names,
            Setting::Tokens(path) => self.tokens = path,
            Setting::Auth(asks) => self.auth = asks.then_some(origin),
            Setting::WebhookAllow(allowed) => self.webhook_allow = allowed,
            Setting::WebhookCa(path) => self.webhook_ca = path,
            Setting::Storage(mode) => self.storage = Some(mode),
            Setting::Sync(mode) => self.sync = Some(mode),
            Setting::History(history) => self.history = history,
            Setting::SegmentBytes(bytes) => self.segment_bytes = bytes,
            Setting::Spoke(span) => self.spoke = span,
            Setting::Near(span) => self.near = span,
            Setting::MaxJobBytes(bytes) => self.max_job_bytes = bytes,
            Setting::MaxQueues(most) => self.max_queues = most,
            Setting::Statsd(target) => self.statsd = target,
            Setting::SnapshotTo(address) => self.snapshot_to = address,
            Setting::Restore(restore) => self.restore = restore,
            Setting::Insecure(yes) => self.insecure = yes,
        }
    }

    /// Checks what concerns several options at once.
    fn finish(self) -> Result<ServeConfig, ConfigError> {
        let tokens = match self.storage {
            _ if self.tokens.is_some() => self.tokens.clone(),
            Some(StorageMode::Memory) => None,
            _ => Some(self.data.join(tokens::file::FILE_NAME)),
        };
        if let (Some(origin), None) = (&self.auth, &tokens) {
            return Err(ConfigError::NoPlaceForTokens { origin: origin.clone() });
        }
        let tls = self.tls_files()?;
        // Whoever has a certificate that is asked for is somebody that is trusted.
        let by_certificate = tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        let public = |listener: &Option<(SocketAddr, Origin)>| {
            let public = listener.clone().filter(|(address, _)| !address.ip().to_canonical().is_loopback());
            public.filter(|_| !self.insecure)
        };
        let [plain, inside] =
            [(&self.beanstalkd, false), (&self.beanstalkd_tls, by_certificate)].map(|(port, trusted)| {
                // On loopback clients that know no tokens go on as they are.
                let asks_by_itself = public(port).is_some() && !trusted;
                (port.is_some() && (self.auth.is_some() || asks_by_itself), public(port).filter(|_| !trusted))
            });
        let http = [("http", public(&self.http)), ("http-tls", public(&self.http_tls).filter(|_| !by_certificate))];
        let open = [("beanstalkd", plain.1), ("beanstalkd-tls", inside.1)].into_iter().chain(http);
        if let Some((option, (address, origin))) = open.filter_map(|(option, public)| Some((option, public?))).next()
            && self.auth.is_none()
            && !tokens.as_deref().map(has_tokens).transpose()?.unwrap_or(false)
        {
            return Err(ConfigError::Public { option, address, origin });
        }
        let listeners = self.listeners();
        if listeners.is_empty() {
            return Err(ConfigError::NothingToServe);
        }
        for (place, (option, address, origin)) in listeners.iter().enumerate() {
            if let Some((other, ..)) =
                listeners[..place].iter().find(|(_, other, _)| other == address && other.port() != 0)
            {
                return Err(ConfigError::SameAddress { option, other, address: *address, origin: origin.clone() });
            }
        }
        let snapshot_to = self.snapshot_to.unwrap_or_else(|| Address::Folder(self.data.join("snapshots"))).absolute();
        let restore = self.restore.map(|restore| match restore {
            Restore::Newest => snapshot_to.clone(),
            Restore::From(address) => address.absolute(),
        });
        Ok(ServeConfig {
            data: self.data,
            beanstalkd: self.beanstalkd.map(|(address, _)| address),
            http: self.http.map(|(address, _)| address),
            beanstalkd_tls: self.beanstalkd_tls.map(|(address, _)| address),
            http_tls: self.http_tls.map(|(address, _)| address),
            tls,
            http_connections: self.http_connections,
            http_per_address: self.http_per_address.map_or(PerAddress::Half, PerAddress::Most),
            per_address: self.per_address.map_or(PerAddress::Half, PerAddress::Most),
            http_names: self.http_names,
            tokens,
            auth: self.auth.is_some(),
            beanstalkd_asks: plain.0,
            beanstalkd_tls_asks: inside.0,
            webhook_allow: self.webhook_allow,
            webhook_ca: self.webhook_ca,
            storage: self.storage.expect("every option has a default"),
            sync: self.sync.expect("every option has a default"),
            history: self.history,
            segment_bytes: self.segment_bytes,
            spoke: self.spoke,
            near: self.near,
            max_job_bytes: self.max_job_bytes,
            max_queues: self.max_queues,
            statsd: self.statsd,
            snapshot_to,
            restore,
        })
    }

    /// The ports that are on, with the names of their options.
    fn listeners(&self) -> Vec<(&'static str, SocketAddr, Origin)> {
        let all = [
            ("beanstalkd", &self.beanstalkd),
            ("http", &self.http),
            ("beanstalkd-tls", &self.beanstalkd_tls),
            ("http-tls", &self.http_tls),
        ];
        let on = all
            .into_iter()
            .filter_map(|(option, given)| given.as_ref().map(|(address, origin)| (option, *address, origin.clone())));
        on.collect()
    }

    /// The files of TLS, if a port speaks it.
    fn tls_files(&self) -> Result<Option<ServerFiles>, ConfigError> {
        let ports = [("beanstalkd-tls", &self.beanstalkd_tls), ("http-tls", &self.http_tls)];
        let on =
            ports.into_iter().find_map(|(option, given)| given.as_ref().map(|(_, origin)| (option, origin.clone())));
        let files = [
            ("tls-cert", &self.tls_cert),
            ("tls-key", &self.tls_key),
            ("tls-client-ca", &self.tls_client_ca),
            ("tls-client-crl", &self.tls_client_crl),
        ];
        let path = |given: &Option<(PathBuf, Origin)>| given.as_ref().map(|(path, _)| path.clone());
        let Some((option, origin)) = on else {
            let given =
                files.into_iter().find_map(|(option, given)| given.as_ref().map(|(_, origin)| (option, origin)));
            return match given {
                Some((option, origin)) => Err(ConfigError::TlsUnused { option, origin: origin.clone() }),
                None => Ok(None),
            };
        };
        let (Some(certificate), Some(key)) = (path(&self.tls_cert), path(&self.tls_key)) else {
            return Err(ConfigError::TlsWithoutFiles { option, origin });
        };
        if let (None, Some((_, origin))) = (&self.tls_client_ca, &self.tls_client_crl) {
            return Err(ConfigError::RevokedByNobody { origin: origin.clone() });
        }
        let (client_authorities, client_revoked) = (path(&self.tls_client_ca), path(&self.tls_client_crl));
        Ok(Some(ServerFiles { certificate, key, client_authorities, client_revoked }))
    }
}

/// Whether that file has tokens: one is enough for others to be kept out.
fn has_tokens(path: &Path) -> Result<bool, ConfigError> {
    let tokens = tokens::file::read(path).map_err(|source| ConfigError::Tokens { source })?;
    Ok(!tokens.is_empty())
}

#[cfg(test)]
mod tests;
