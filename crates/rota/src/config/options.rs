//! The options of `rota serve`: one row each, with its name, its other names, its default, its doc and its reader.
//!
//! From a row come the flag `--name`, the environment variable `ROTA_NAME`, the key `name` of the configuration
//! file and the entry in `--help`. To add an option, add a row and a [`Setting`].

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};

use super::{Given, Givens, History, Origin, Restore, StorageMode, SyncMode};
use crate::snapshot::address::Address;
use crate::values::{parse_bytes, parse_duration};
use crate::webhooks::allowed::Allowed;

/// The most that `--max-job-size` can be raised to, in bytes: 1 GiB.
pub(crate) const MAX_JOB_BYTES_CEILING: u64 = 1 << 30;

/// The longest `--spoke`.
pub(crate) const SPOKE_CEILING: Duration = Duration::from_secs(86_400);

/// The shortest `--near`: jobs are brought near four times a second.
const NEAR_FLOOR: Duration = Duration::from_secs(1);

/// The most that `--http-connections` and those of one address can be raised to.
const HTTP_CONNECTIONS_CEILING: usize = 1 << 20;

/// The most that `--max-queues` can be raised to.
const QUEUES_CEILING: usize = 100_000_000;

/// The lengths that `--segment-size` may have, in bytes: 64 KiB to 1 GiB.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 16..=1 << 30;

/// The longest delay of `--sync`: past it nobody would call the log durable.
pub(crate) const SYNC_CEILING: Duration = Duration::from_secs(60);

/// One option of `rota serve`.
pub(crate) struct ServeOption {
    /// Its name as flag and as key of the file.
    pub(crate) name: &'static str,
    /// goyaad's long name for it, still accepted.
    pub(crate) aliases: &'static [&'static str],
    /// goyaad's one-letter flag for it, still accepted.
    pub(crate) short: Option<char>,
    /// The value in `--help`.
    pub(crate) value_name: &'static str,
    /// The default, as it would be written; empty for none.
    pub(crate) default: &'static str,
    /// A sentence for `--help`.
    pub(crate) doc: &'static str,
    /// True if the flag may stand without a value, which means `true`.
    pub(crate) switch: bool,
    /// Reads a value; the error is a half sentence for after the option's name.
    pub(crate) read: fn(&str) -> Result<Setting, String>,
}

/// A value that was read, with the option it is for.
#[derive(Debug)]
pub(crate) enum Setting {
    Data(PathBuf),
    Beanstalkd(Option<SocketAddr>),
    Http(Option<SocketAddr>),
    BeanstalkdTls(Option<SocketAddr>),
    HttpTls(Option<SocketAddr>),
    TlsCert(Option<PathBuf>),
    TlsKey(Option<PathBuf>),
    TlsClientCa(Option<PathBuf>),
    TlsClientCrl(Option<PathBuf>),
    HttpConnections(usize),
    HttpPerAddress(Option<usize>),
    PerAddress(Option<usize>),
    HttpNames(Vec<String>),
    Tokens(Option<PathBuf>),
    Auth(bool),
    WebhookAllow(Allowed),
    WebhookCa(Option<PathBuf>),
    Storage(StorageMode),
    Sync(SyncMode),
    History(History),
    SegmentBytes(Option<u64>),
    Spoke(Duration),
    Near(Duration),
    MaxJobBytes(usize),
    MaxQueues(usize),
    Statsd(Option<String>),
    SnapshotTo(Option<Address>),
    Restore(Option<Restore>),
    Insecure(bool),
}

/// Every option, in the order of `--help`.
pub(crate) const OPTIONS: &[ServeOption] = &[
    ServeOption {
        name: "data",
        aliases: &[],
        short: Some('d'),
        value_name: "DIR",
        default: "rota-data",
        doc: "The folder that holds the log; made if it is missing",
        switch: false,
        read: |text| match text {
            "" => Err("no folder was named".into()),
            _ => Ok(Setting::Data(text.into())),
        },
    },
    ServeOption {
        name: "beanstalkd",
        aliases: &["addr"],
        short: None,
        value_name: "ADDR|off",
        default: "127.0.0.1:11300",
        doc: "Serve the beanstalkd protocol at this host:port; port 0 lets the system choose",
        switch: false,
        read: |text| listener(text).map(Setting::Beanstalkd),
    },
    ServeOption {
        name: "http",
        aliases: &[],
        short: None,
        value_name: "ADDR|off",
        default: "127.0.0.1:11380",
        doc: "Serve the HTTP API at this host:port; its pages are described at /v1/docs",
        switch: false,
        read: |text| listener(text).map(Setting::Http),
    },
    ServeOption {
        name: "beanstalkd-tls",
        aliases: &[],
        short: None,
        value_name: "ADDR|off",
        default: "off",
        doc: "Serve the beanstalkd protocol inside TLS at this host:port, with --tls-cert and --tls-key",
        switch: false,
        read: |text| listener(text).map(Setting::BeanstalkdTls),
    },
    ServeOption {
        name: "http-tls",
        aliases: &[],
        short: None,
        value_name: "ADDR|off",
        default: "off",
        doc: "Serve the HTTP API inside TLS (https) at this host:port, with --tls-cert and --tls-key",
        switch: false,
        read: |text| listener(text).map(Setting::HttpTls),
    },
    ServeOption {
        name: "tls-cert",
        aliases: &[],
        short: None,
        value_name: "FILE",
        default: "",
        doc: "The server's certificate and those behind it, in PEM; read again when the file changes",
        switch: false,
        read: |text| file(text).map(Setting::TlsCert),
    },
    ServeOption {
        name: "tls-key",
        aliases: &[],
        short: None,
        value_name: "FILE",
        default: "",
        doc: "The key of --tls-cert, in PEM; no other user may read it",
        switch: false,
        read: |text| file(text).map(Setting::TlsKey),
    },
    ServeOption {
        name: "tls-client-ca",
        aliases: &[],
        short: None,
        value_name: "FILE",
        default: "",
        doc: "Over TLS, take only clients with a certificate of an authority in this PEM file",
        switch: false,
        read: |text| file(text).map(Setting::TlsClientCa),
    },
    ServeOption {
        name: "tls-client-crl",
        aliases: &[],
        short: None,
        value_name: "FILE",
        default: "",
        doc: "Certificates of clients that were called off: lists of their authorities, in PEM",
        switch: false,
        read: |text| file(text).map(Setting::TlsClientCrl),
    },
    ServeOption {
        name: "http-connections",
        aliases: &[],
        short: None,
        value_name: "N",
        default: "20000",
        doc: "Have at most so many connections of HTTP, and never more than half of what the limit of open files allows; all of it where the beanstalkd protocol is off",
        switch: false,
        read: |text| match text.parse() {
            Ok(most) if (1..=HTTP_CONNECTIONS_CEILING).contains(&most) => Ok(Setting::HttpConnections(most)),
            _ => Err(format!("{text:?} is no number of connections: 1 to {HTTP_CONNECTIONS_CEILING}")),
        },
    },
    ServeOption {
        name: "http-connections-per-address",
        aliases: &[],
        short: None,
        value_name: "N",
        default: "",
        doc: "Have at most so many connections of HTTP of one address; unless told, half of all, and of this machine as many as there can be",
        switch: false,
        read: |text| per_address(text).map(Setting::HttpPerAddress),
    },
    ServeOption {
        name: "connections-per-address",
        aliases: &[],
        short: None,
        value_name: "N",
        default: "",
        doc: "The same of the beanstalkd protocol",
        switch: false,
        read: |text| per_address(text).map(Setting::PerAddress),
    },
    ServeOption {
        name: "http-names",
        aliases: &[],
        short: None,
        value_name: "NAME,NAME|*",
        default: "",
        doc: "Answer HTTP requests to these host names too, beside addresses and localhost; * for any name",
        switch: false,
        read: |text| read_names(text).map(Setting::HttpNames),
    },
    ServeOption {
        name: "tokens",
        aliases: &[],
        short: None,
        value_name: "FILE",
        default: "",
        doc: "The tokens that HTTP asks for as soon as there is one, and the beanstalkd protocol beyond this machine; `rota token` makes them",
        switch: false,
        read: |text| file(text).map(Setting::Tokens),
    },
    ServeOption {
        name: "auth",
        aliases: &[],
        short: None,
        value_name: "true|false",
        default: "false",
        doc: "Ask for a token everywhere, even while there is none, and over the beanstalkd protocol on this machine too",
        switch: true,
        read: |text| switch(text).map(Setting::Auth),
    },
    ServeOption {
        name: "webhook-allow",
        aliases: &[],
        short: None,
        value_name: "ADDRESS,HOST|*",
        default: "",
        doc: "Let webhooks go to these addresses, networks and hosts too, beside addresses that anybody can reach; * for any",
        switch: false,
        read: |text| text.parse().map(Setting::WebhookAllow),
    },
    ServeOption {
        name: "webhook-ca",
        aliases: &[],
        short: None,
        value_name: "FILE",
        default: "",
        doc: "Have webhooks of https trust the authorities in this PEM file, beside those of the system; read again when it changes",
        switch: false,
        read: |text| file(text).map(Setting::WebhookCa),
    },
    ServeOption {
        name: "storage",
        aliases: &[],
        short: None,
        value_name: "memory|durable|lazy|mapped",
        default: "durable",
        doc: "Keep jobs in memory alone, in the log as well, their bodies in the log alone, or jobs far ahead too",
        switch: false,
        read: |text| match text {
            "memory" => Ok(Setting::Storage(StorageMode::Memory)),
            "durable" => Ok(Setting::Storage(StorageMode::Durable)),
            "lazy" => Ok(Setting::Storage(StorageMode::Lazy)),
            "mapped" => Ok(Setting::Storage(StorageMode::Mapped)),
            _ => Err(format!("{text:?} is no storage mode: write memory, durable, lazy or mapped")),
        },
    },
    ServeOption {
        name: "sync",
        aliases: &[],
        short: None,
        value_name: "always|never|DURATION",
        default: "always",
        doc: "Have changes on the disk before they are answered, when the system sees fit, or at most this long after",
        switch: false,
        read: read_sync,
    },
    ServeOption {
        name: "history",
        aliases: &[],
        short: None,
        value_name: "AGE,BYTES|0",
        default: "24h,1GiB",
        doc: "Keep segments of the log that no start needs any more, for who asks what happened, up to that age and that many \
              bytes; a full disk takes them first",
        switch: false,
        read: |text| read_history(text).map(Setting::History),
    },
    ServeOption {
        name: "segment-size",
        aliases: &[],
        short: None,
        value_name: "BYTES",
        default: "",
        doc: "Close a segment of the log at this length, 64KiB to 1GiB; unless told, 64MiB, and less on a small disk",
        switch: false,
        read: |text| match text {
            "" => Ok(Setting::SegmentBytes(None)),
            _ => match parse_bytes(text)? {
                bytes if SEGMENT_BYTES.contains(&bytes) => Ok(Setting::SegmentBytes(Some(bytes))),
                _ => Err(format!("{text} is out of range: 64KiB to 1GiB")),
            },
        },
    },
    ServeOption {
        name: "spoke",
        aliases: &[],
        short: None,
        value_name: "DURATION",
        default: "10s",
        doc: "How much time one spoke of the wheel of delayed jobs covers",
        switch: false,
        read: |text| match parse_duration(text)? {
            span if span < Duration::from_millis(1) => Err(format!("{text} is too short: at least 1ms")),
            span if span > SPOKE_CEILING => Err(format!("{text} is too long: at most 1d")),
            span => Ok(Setting::Spoke(span)),
        },
    },
    ServeOption {
        name: "near",
        aliases: &[],
        short: None,
        value_name: "DURATION",
        default: "1m",
        doc: "With --storage mapped: hold jobs in memory that are due this soon; those twice as far ahead may leave it",
        switch: false,
        read: |text| match parse_duration(text)? {
            span if span < NEAR_FLOOR => Err(format!("{text} is too short: at least 1s")),
            span if span > SPOKE_CEILING => Err(format!("{text} is too long: at most 1d")),
            span => Ok(Setting::Near(span)),
        },
    },
    ServeOption {
        name: "max-job-size",
        aliases: &[],
        short: None,
        value_name: "BYTES",
        default: "65535",
        doc: "The largest body that a put may carry, up to 1GiB; suffixes such as KiB are understood",
        switch: false,
        read: |text| match parse_bytes(text)? {
            0 => Err("0 bytes would refuse every job: at least 1".into()),
            bytes if bytes > MAX_JOB_BYTES_CEILING => Err(format!("{text} is too large: at most 1GiB")),
            bytes => Ok(Setting::MaxJobBytes(usize::try_from(bytes).expect("1 GiB fits into usize"))),
        },
    },
    ServeOption {
        name: "max-queues",
        aliases: &[],
        short: None,
        value_name: "N",
        default: "262144",
        doc: "Have at most so many queues: what would make one more is refused",
        switch: false,
        read: |text| match text.parse() {
            Ok(most) if (1..=QUEUES_CEILING).contains(&most) => Ok(Setting::MaxQueues(most)),
            _ => Err(format!("{text:?} is no number of queues: 1 to {QUEUES_CEILING}")),
        },
    },
    ServeOption {
        name: "statsd",
        aliases: &[],
        short: Some('s'),
        value_name: "HOST:PORT",
        default: "",
        doc: "Send counters, timers and gauges to this statsd by UDP",
        switch: false,
        read: |text| match text {
            "" => Ok(Setting::Statsd(None)),
            _ => split_host_port(text).map(|_| Setting::Statsd(Some(text.to_owned()))),
        },
    },
    ServeOption {
        name: "snapshot-to",
        aliases: &[],
        short: None,
        value_name: "ADDRESS",
        default: "",
        doc: "Where snapshots go: a folder, or a prefix in an object store",
        switch: false,
        read: |text| match text {
            "" => Ok(Setting::SnapshotTo(None)),
            _ => text.parse().map(|address| Setting::SnapshotTo(Some(address))).map_err(|error| error.to_string()),
        },
    },
    ServeOption {
        name: "restore",
        aliases: &[],
        short: Some('r'),
        value_name: "ADDRESS|newest",
        default: "",
        doc: "Start with an empty data directory from this snapshot or the newest at this place; alone: at --snapshot-to",
        switch: false,
        read: |text| match text {
            "" => Ok(Setting::Restore(None)),
            "newest" => Ok(Setting::Restore(Some(Restore::Newest))),
            _ => match text.parse() {
                Ok(address) => Ok(Setting::Restore(Some(Restore::From(address)))),
                Err(error) => Err(error.to_string()),
            },
        },
    },
    ServeOption {
        name: "insecure",
        aliases: &[],
        short: None,
        value_name: "true|false",
        default: "false",
        doc: "Allow addresses that other machines can reach where nobody is asked for a token",
        switch: true,
        read: |text| switch(text).map(Setting::Insecure),
    },
];

impl ServeOption {
    /// The environment variable that sets it.
    pub(crate) fn env(&self) -> String {
        format!("ROTA_{}", self.name.to_uppercase().replace('-', "_"))
    }

    fn arg(&self) -> Arg {
        let default = match self.default {
            // It depends on another option.
            "" if self.name == "snapshot-to" => "DIR/snapshots",
            "" if self.name == "tokens" => "DIR/tokens",
            "" => "none",
            default => default,
        };
        let arg = Arg::new(self.name)
            .long(self.name)
            .visible_aliases(self.aliases.iter().copied())
            .short(self.short.map_or(Resettable::Reset, Resettable::Value))
            .value_name(self.value_name)
            .action(ArgAction::Set)
            .overrides_with(self.name)
            .help(format!("{} [default: {default}] [env: {}]", self.doc, self.env()));
        match self.name {
            "data" => arg.value_hint(ValueHint::DirPath),
            _ if self.value_name == "FILE" => arg.value_hint(ValueHint::FilePath),
            // goyaad's -r has no value.
            "restore" => arg.num_args(0..=1).default_missing_value("newest"),
            _ if self.switch => {
                arg.num_args(0..=1).require_equals(true).default_missing_value("true").hide_possible_values(true)
            }
            _ => arg,
        }
    }
}

/// The flags of `rota serve` as clap sees them: a flag for every row of [`OPTIONS`], and `--config`.
#[derive(Debug, Default)]
pub(crate) struct ServeFlags {
    /// What was given for each option.
    pub(crate) given: Givens,
    /// `--config`, if it was given.
    pub(crate) config: Option<PathBuf>,
}

impl Args for ServeFlags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .help("A TOML file with these options, a line each: sync = \"50ms\" [env: ROTA_CONFIG]");
        command.args(OPTIONS.iter().map(ServeOption::arg)).arg(config)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = ServeFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for option in OPTIONS {
            if let Some(text) = matches.get_one::<String>(option.name) {
                self.given.insert(option.name, Given { text: text.clone(), origin: Origin::Flag });
            }
        }
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            self.config = Some(path.clone());
        }
        Ok(())
    }
}

/// The row of this name.
pub(crate) fn option_named(key: &str) -> Option<&'static ServeOption> {
    OPTIONS.iter().find(|option| option.name == key)
}

/// The path of a file; none for no text.
fn file(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        _ if text.ends_with('/') => Err(format!("{text:?} is a folder: name a file")),
        _ => Ok(Some(text.into())),
    }
}

/// How many connections one address may have; none for no text.
fn per_address(text: &str) -> Result<Option<usize>, String> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(most) if (1..=HTTP_CONNECTIONS_CEILING).contains(&most) => Ok(Some(most)),
        _ => Err(format!("{text:?} is no number of connections: 1 to {HTTP_CONNECTIONS_CEILING}")),
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn read_sync(text: &str) -> Result<Setting, String> {
    match text {
        "always" => return Ok(Setting::Sync(SyncMode::Always)),
        "never" => return Ok(Setting::Sync(SyncMode::Never)),
        _ => {}
    }
    match parse_duration(text).map_err(|reason| format!("{reason}; or write always or never"))? {
        span if span < Duration::from_millis(1) => Err(format!("{text} is too short: at least 1ms, or always")),
        span if span > SYNC_CEILING => Err(format!("{text} is too long: at most 1m, or never")),
        span => Ok(Setting::Sync(SyncMode::Every(span))),
    }
}

/// Names of hosts, between commas.
fn read_names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let is_name = |name: &str| {
        let is_one_of_them = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        name == "*" || (name.len() <= 253 && name.bytes().all(is_one_of_them))
    };
    let checked = names.map(|name| match is_name(name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is no host name: write names such as rota.example, without ports, or *")),
    });
    checked.collect()
}

fn read_history(text: &str) -> Result<History, String> {
    const FORMS: &str = "write an age and a size such as 24h,1GiB, or 0 for none";
    if text == "0" {
        return Ok(History::default());
    }
    let (age, bytes) = text.split_once(',').ok_or_else(|| format!("{text:?} is not an age and a size: {FORMS}"))?;
    Ok(History { age: parse_duration(age)?, bytes: parse_bytes(bytes)? })
}

/// Reads where to listen: none for `off`. A name is looked up, and an IPv4 address preferred.
fn listener(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let (host, _) = split_host_port(text).map_err(|reason| format!("{reason}, or off"))?;
    let addresses: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|error| format!("cannot find the host {host:?}: {error}"))?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().map(Some).ok_or_else(|| format!("the host {host:?} has no address"))
}

/// Splits `host:port`; an IPv6 host stands in brackets.
fn split_host_port(text: &str) -> Result<(&str, u16), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} has no port: write host:port such as 127.0.0.1:11300"));
    };
    let Ok(port) = port.parse() else {
        return Err(format!("{port:?} is no port: write host:port such as 127.0.0.1:11300"));
    };
    if host.is_empty() {
        return Err(format!("{text:?} has no host: write 127.0.0.1:{port} for this machine, 0.0.0.0:{port} for all"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!("write an IPv6 address in brackets: [{host}]:{port}"));
    }
    if let Some(bad) = host.chars().find(|c| c.is_whitespace() || c.is_control() || "/@?#".contains(*c)) {
        return Err(format!("{bad:?} can't be in a host: write host:port such as 127.0.0.1:11300"));
    }
    Ok((host, port))
}
