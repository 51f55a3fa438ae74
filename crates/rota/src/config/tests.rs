//! Precedence, every value that is refused, and what a refusal says.

use super::*;

/// Resolves from flags, variables and the text of a file named `rota.toml`.
fn resolve(
    flags: &[(&'static str, &str)],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<ServeConfig, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("rota.toml");
    let config_file = file.map(|text| {
        std::fs::write(&path, text).expect("the temporary folder is writable");
        path.as_path()
    });
    let flags =
        flags.iter().map(|(name, text)| (*name, Given { text: (*text).to_owned(), origin: Origin::Flag })).collect();
    let environment = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_owned());
    ServeConfig::resolve(&flags, config_file, &environment)
}

/// The error as it is printed, with the temporary folder taken out of it.
fn refusal(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: Option<&str>) -> String {
    let error = resolve(flags, variables, file).expect_err("this configuration is wrong");
    let mut text = error.to_string();
    if let Some(position) = text.find("rota.toml") {
        text.replace_range(..position, "");
    }
    if let Some(hint) = error.hint() {
        text.push_str(" | ");
        text.push_str(&hint);
    }
    text
}

#[test]
fn defaults() {
    let expected = ServeConfig {
        data: "rota-data".into(),
        beanstalkd: Some("127.0.0.1:11300".parse().unwrap()),
        http: Some("127.0.0.1:11380".parse().unwrap()),
        beanstalkd_tls: None,
        http_tls: None,
        tls: None,
        http_connections: 20_000,
        http_per_address: PerAddress::Half,
        per_address: PerAddress::Half,
        http_names: Vec::new(),
        tokens: Some("rota-data/tokens".into()),
        auth: false,
        beanstalkd_asks: false,
        beanstalkd_tls_asks: false,
        webhook_allow: Allowed::default(),
        webhook_ca: None,
        storage: StorageMode::Durable,
        sync: SyncMode::Always,
        history: History { age: Duration::from_secs(86_400), bytes: 1 << 30 },
        segment_bytes: None,
        spoke: Duration::from_secs(10),
        near: Duration::from_secs(60),
        max_job_bytes: 65_535,
        max_queues: 262_144,
        statsd: None,
        snapshot_to: Address::Folder(std::path::absolute("rota-data/snapshots").unwrap()),
        restore: None,
    };
    assert_eq!(resolve(&[], &[], None).unwrap(), expected);
    assert_eq!(resolve(&[], &[], Some("# nothing\n")).unwrap(), expected);
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    // For every option, four values that differ: flag, environment, file, and the default.
    let cases: [(&'static str, &str, &str, &str, &str); 29] = [
        ("data", "ROTA_DATA", "/f", "/e", "\"/t\""),
        ("beanstalkd", "ROTA_BEANSTALKD", "127.0.0.1:1", "127.0.0.1:2", "\"127.0.0.1:3\""),
        ("http", "ROTA_HTTP", "127.0.0.1:1", "127.0.0.1:2", "\"127.0.0.1:3\""),
        ("beanstalkd-tls", "ROTA_BEANSTALKD_TLS", "127.0.0.1:1", "127.0.0.1:2", "\"127.0.0.1:3\""),
        ("http-tls", "ROTA_HTTP_TLS", "127.0.0.1:1", "127.0.0.1:2", "\"127.0.0.1:3\""),
        ("tls-cert", "ROTA_TLS_CERT", "/f", "/e", "\"/t\""),
        ("tls-key", "ROTA_TLS_KEY", "/f", "/e", "\"/t\""),
        ("tls-client-ca", "ROTA_TLS_CLIENT_CA", "/f", "/e", "\"/t\""),
        ("tls-client-crl", "ROTA_TLS_CLIENT_CRL", "/f", "/e", "\"/t\""),
        ("http-connections", "ROTA_HTTP_CONNECTIONS", "1", "2", "3"),
        ("http-connections-per-address", "ROTA_HTTP_CONNECTIONS_PER_ADDRESS", "1", "2", "3"),
        ("connections-per-address", "ROTA_CONNECTIONS_PER_ADDRESS", "1", "2", "3"),
        ("http-names", "ROTA_HTTP_NAMES", "f", "e,e.example", "\"*\""),
        ("tokens", "ROTA_TOKENS", "/f", "/e", "\"/t\""),
        ("auth", "ROTA_AUTH", "true", "false", "true"),
        ("webhook-allow", "ROTA_WEBHOOK_ALLOW", "10.0.0.0/8,::1", "hooks.internal", "\"*\""),
        ("webhook-ca", "ROTA_WEBHOOK_CA", "/f", "/e", "\"/t\""),
        ("storage", "ROTA_STORAGE", "memory", "durable", "\"memory\""),
        ("sync", "ROTA_SYNC", "5ms", "never", "\"6ms\""),
        ("history", "ROTA_HISTORY", "0", "1h,5", "\"2h,7MiB\""),
        ("segment-size", "ROTA_SEGMENT_SIZE", "1MiB", "2MiB", "3_000_000"),
        ("spoke", "ROTA_SPOKE", "1s", "2s", "\"3s\""),
        ("near", "ROTA_NEAR", "1s", "2s", "\"3s\""),
        ("max-job-size", "ROTA_MAX_JOB_SIZE", "1", "2", "3"),
        ("max-queues", "ROTA_MAX_QUEUES", "1", "2", "3"),
        ("statsd", "ROTA_STATSD", "f:1", "e:1", "\"t:1\""),
        ("snapshot-to", "ROTA_SNAPSHOT_TO", "f", "s3://e", "\"gs://t/a\""),
        ("restore", "ROTA_RESTORE", "newest", "s3://e", "\"gs://t/a\""),
        ("insecure", "ROTA_INSECURE", "true", "false", "true"),
    ];
    assert_eq!(cases.map(|case| case.0).to_vec(), OPTIONS.iter().map(|option| option.name).collect::<Vec<_>>());
    for (name, variable, flag, env, in_file) in cases {
        // A public address shows what --insecure came to.
        let public = ("beanstalkd", "0.0.0.0:4");
        // TLS is all or nothing.
        let tls = [("http-tls", "127.0.0.1:5"), ("tls-cert", "/c"), ("tls-key", "/k"), ("tls-client-ca", "/a")];
        let base: Vec<_> = match name {
            "insecure" => vec![public],
            _ if name.contains("tls") => tls.into_iter().filter(|(other, _)| *other != name).collect(),
            _ => vec![],
        };
        let with_flag: Vec<_> = base.iter().copied().chain([(name, flag)]).collect();
        let line = format!("{name} = {in_file}");
        let show = |result: Result<ServeConfig, ConfigError>| format!("{result:?}");
        let only_flag = show(resolve(&with_flag, &[], None));
        let only_env = show(resolve(&base, &[(variable, env)], None));
        let only_file = show(resolve(&base, &[], Some(&line)));
        assert_ne!(only_flag, only_env, "{name}");
        assert_ne!(only_env, only_file, "{name}");
        assert_eq!(show(resolve(&with_flag, &[(variable, env)], Some(&line))), only_flag, "{name}");
        assert_eq!(show(resolve(&base, &[(variable, env)], Some(&line))), only_env, "{name}");
        assert_eq!(show(resolve(&base, &[(variable, "")], Some(&line))), only_file, "{name}");
    }
}

#[test]
fn the_environment_names_the_file_and_the_flag_beats_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the temporary folder is writable");
        path
    };
    let one = write("one.toml", "spoke = \"1s\"");
    let two = write("two.toml", "spoke = \"2s\"");
    let environment = |name: &str| (name == "ROTA_CONFIG").then(|| two.display().to_string());
    let spoke = |flag: Option<&Path>| ServeConfig::resolve(&Givens::new(), flag, &environment).unwrap().spoke;
    assert_eq!(spoke(None), Duration::from_secs(2));
    assert_eq!(spoke(Some(&one)), Duration::from_secs(1));
}

#[test]
fn values_in_every_form() {
    let value = |name, text| resolve(&[(name, text)], &[], None).unwrap();
    assert_eq!(value("beanstalkd", "off").beanstalkd, None);
    assert_eq!(value("beanstalkd", "localhost:0").beanstalkd, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(value("http", "[::1]:0").http, Some("[::1]:0".parse().unwrap()));
    assert_eq!(value("http", "off").http, None);
    assert_eq!(value("http-names", " a.example, b ,").http_names, ["a.example", "b"]);
    assert_eq!(value("storage", "memory").storage, StorageMode::Memory);
    assert_eq!(value("storage", "lazy").storage, StorageMode::Lazy);
    assert_eq!(value("storage", "mapped").storage, StorageMode::Mapped);
    assert_eq!(value("sync", "never").sync, SyncMode::Never);
    assert_eq!(value("sync", "50ms").sync, SyncMode::Every(Duration::from_millis(50)));
    assert_eq!(value("max-job-size", "1GiB").max_job_bytes, 1 << 30);
    assert_eq!(value("statsd", "stats.example:8125").statsd.as_deref(), Some("stats.example:8125"));
    let place: Address = "s3://jobs/a".parse().unwrap();
    assert_eq!(value("snapshot-to", "s3://jobs/a").snapshot_to, place);
    assert_eq!(value("restore", "s3://jobs/a").restore, Some(place.clone()));
    let newest = resolve(&[("restore", "newest"), ("snapshot-to", "s3://jobs/a")], &[], None).unwrap();
    assert_eq!(newest.restore, Some(place));
    assert_eq!(value("data", "/d").snapshot_to, Address::Folder("/d/snapshots".into()));
    let public = [("beanstalkd", "0.0.0.0:1"), ("insecure", "true")];
    assert_eq!(resolve(&public, &[], None).unwrap().beanstalkd, Some("0.0.0.0:1".parse().unwrap()));
    // Port 0 twice is two ports.
    assert!(resolve(&[("beanstalkd", "127.0.0.1:0"), ("http", "127.0.0.1:0")], &[], None).is_ok());
    let file = resolve(&[], &[], Some("max-job-size = 1_000\ninsecure = false\nhttp = 'off'")).unwrap();
    assert_eq!((file.max_job_bytes, file.http), (1_000, None));
}

const DURATION_FORMS: &str = "write a number and a unit: 250ms, 5s, 1m30s, 2h, 3d";
const BYTES_FORMS: &str = "write bytes such as 65535, 64KiB, 1MiB or 1MB";
const ADDRESS_FORMS: &str = "write a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX";
const ADDRESS_FORM: &str = "write host:port such as 127.0.0.1:11300";

/// The forms spelt out where a message only names them.
fn spelt_out(message: &str) -> String {
    let message = message.replace("DURATION_FORMS", DURATION_FORMS).replace("BYTES_FORMS", BYTES_FORMS);
    message.replace("ADDRESS_FORMS", ADDRESS_FORMS).replace("ADDRESS_FORM", ADDRESS_FORM)
}

#[test]
fn every_bad_value_says_what_and_how() {
    let cases = [
        ("data", "", "--data: no folder was named"),
        ("beanstalkd", "11300", "--beanstalkd: \"11300\" has no port: ADDRESS_FORM, or off"),
        (
            "beanstalkd",
            ":11300",
            "--beanstalkd: \":11300\" has no host: write 127.0.0.1:11300 for this machine, \
             0.0.0.0:11300 for all, or off",
        ),
        ("beanstalkd", "::1:11300", "--beanstalkd: write an IPv6 address in brackets: [::1]:11300, or off"),
        ("http", "localhost:99999", "--http: \"99999\" is no port: ADDRESS_FORM, or off"),
        ("http", "a b:1", "--http: ' ' can't be in a host: ADDRESS_FORM, or off"),
        ("beanstalkd-tls", "11301", "--beanstalkd-tls: \"11301\" has no port: ADDRESS_FORM, or off"),
        ("http-tls", "11443", "--http-tls: \"11443\" has no port: ADDRESS_FORM, or off"),
        ("tls-cert", "a/", "--tls-cert: \"a/\" is a folder: name a file"),
        ("tls-key", "a/", "--tls-key: \"a/\" is a folder: name a file"),
        ("tls-client-ca", "a/", "--tls-client-ca: \"a/\" is a folder: name a file"),
        ("tls-client-crl", "a/", "--tls-client-crl: \"a/\" is a folder: name a file"),
        ("max-queues", "0", "--max-queues: \"0\" is no number of queues: 1 to 100000000"),
        ("http-connections", "0", "--http-connections: \"0\" is no number of connections: 1 to 1048576"),
        ("http-connections", "many", "--http-connections: \"many\" is no number of connections: 1 to 1048576"),
        (
            "http-connections-per-address",
            "0",
            "--http-connections-per-address: \"0\" is no number of connections: 1 to 1048576",
        ),
        ("connections-per-address", "x", "--connections-per-address: \"x\" is no number of connections: 1 to 1048576"),
        (
            "http-names",
            "a,b:80",
            "--http-names: \"b:80\" is no host name: write names such as rota.example, without ports, or *",
        ),
        ("storage", "disk", "--storage: \"disk\" is no storage mode: write memory, durable, lazy or mapped"),
        ("sync", "sometimes", "--sync: \"sometimes\" is not a duration: DURATION_FORMS; or write always or never"),
        ("sync", "0ms", "--sync: 0ms is too short: at least 1ms, or always"),
        ("sync", "2m", "--sync: 2m is too long: at most 1m, or never"),
        (
            "history",
            "1h",
            "--history: \"1h\" is not an age and a size: write an age and a size such as 24h,1GiB, or 0 for none",
        ),
        ("history", "1,1", "--history: 1 has no unit: write 1s or 1ms"),
        ("history", "1h,x", "--history: \"x\" is not a number of bytes: BYTES_FORMS"),
        ("segment-size", "1KiB", "--segment-size: 1KiB is out of range: 64KiB to 1GiB"),
        ("segment-size", "2GiB", "--segment-size: 2GiB is out of range: 64KiB to 1GiB"),
        ("near", "10", "--near: 10 has no unit: write 10s or 10ms"),
        ("near", "999ms", "--near: 999ms is too short: at least 1s"),
        ("near", "25h", "--near: 25h is too long: at most 1d"),
        ("spoke", "10", "--spoke: 10 has no unit: write 10s or 10ms"),
        ("spoke", "0s", "--spoke: 0s is too short: at least 1ms"),
        ("spoke", "25h", "--spoke: 25h is too long: at most 1d"),
        ("max-job-size", "0", "--max-job-size: 0 bytes would refuse every job: at least 1"),
        ("max-job-size", "2GiB", "--max-job-size: 2GiB is too large: at most 1GiB"),
        ("max-job-size", "big", "--max-job-size: \"big\" is not a number of bytes: BYTES_FORMS"),
        ("statsd", "stats", "--statsd: \"stats\" has no port: ADDRESS_FORM"),
        ("snapshot-to", "ftp://x", "--snapshot-to: \"ftp\" is no kind of place that rota knows: ADDRESS_FORMS"),
        (
            "restore",
            "s3://k:s@b",
            "--restore: an address holds no credentials and no query, they come from the environment: ADDRESS_FORMS",
        ),
        ("tokens", "a/", "--tokens: \"a/\" is a folder: name a file"),
        (
            "webhook-allow",
            "10.0.0.0/8,hooks:80",
            "--webhook-allow: \"hooks:80\" is no address, network or host: write 10.0.0.7, 10.0.0.0/8, fd00::/8, hooks.internal or \
             *.internal, without ports, or * for any",
        ),
        (
            "webhook-allow",
            "fd00::1/8",
            "--webhook-allow: \"fd00::1/8\" goes on behind its first 8 bits: write fd00::/8",
        ),
        ("webhook-ca", "a/", "--webhook-ca: \"a/\" is a folder: name a file"),
        ("auth", "maybe", "--auth: \"maybe\" is neither true nor false"),
        ("insecure", "maybe", "--insecure: \"maybe\" is neither true nor false"),
    ];
    for (name, text, expected) in cases {
        assert_eq!(refusal(&[(name, text)], &[], None), spelt_out(expected));
    }
    for option in OPTIONS {
        assert!(cases.iter().any(|case| case.0 == option.name), "{} has no bad value here", option.name);
    }
}

#[test]
fn an_unknown_host_is_named() {
    // ".invalid" is reserved (RFC 2606): no resolver may know it.
    let error = refusal(&[("http", "rota.invalid:80")], &[], None);
    assert!(error.starts_with("--http: cannot find the host \"rota.invalid\": "), "{error}");
}

#[test]
fn a_public_address_needs_insecure() {
    for address in ["[::]:11300", "192.0.2.7:11300"] {
        assert_eq!(
            refusal(&[("http", address)], &[], None),
            format!(
                "--http: {address} can be reached from other machines, and there is no token yet | make a token with \
                 `rota token create --role admin`, listen on 127.0.0.1:11300, or add --insecure if only machines you trust \
                 can reach this one"
            )
        );
    }
    assert_eq!(
        refusal(&[("beanstalkd", "0.0.0.0:11300")], &[], None),
        "--beanstalkd: 0.0.0.0:11300 can be reached from other machines, and there is no token yet | make a token with \
         `rota token create --role admin`, listen on 127.0.0.1:11300, or add --insecure if only machines you trust can \
         reach this one"
    );
    assert!(resolve(&[("http", "[::ffff:127.0.0.1]:1")], &[], None).is_ok());
}

#[test]
fn with_tokens_ports_may_be_public() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokens");
    let file = path.to_str().expect("its name is plain");
    let public = |flags: &[(&'static str, &str)]| {
        resolve(&[&[("http", "0.0.0.0:1"), ("tokens", file)], flags].concat(), &[], None)
    };
    assert!(matches!(public(&[]), Err(ConfigError::Public { .. })));
    assert!(public(&[("insecure", "true")]).is_ok());
    assert!(public(&[("auth", "true")]).is_ok_and(|config| config.auth));
    std::fs::write(&path, "\n").expect("the temporary folder is writable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    assert!(matches!(public(&[]), Err(ConfigError::Public { .. })));
    let line = format!(
        "{{\"id\":\"0123abcd\",\"roles\":[\"viewer\"],\"created\":\"2026-01-01T00:00:00Z\",\"sha256\":\"{}\"}}\n",
        "0".repeat(64)
    );
    std::fs::write(&path, &line).expect("the temporary folder is writable");
    assert!(public(&[]).is_ok());
    // On this machine the beanstalkd protocol asks only where it is told to; beyond, unless it is told not to.
    let asks = |flags: &[(&'static str, &str)]| public(flags).expect("there is a token").beanstalkd_asks;
    assert!(!asks(&[]) && asks(&[("auth", "true")]));
    assert!(asks(&[("beanstalkd", "0.0.0.0:2")]));
    assert!(!asks(&[("beanstalkd", "0.0.0.0:2"), ("insecure", "true")]));
    assert!(asks(&[("beanstalkd", "0.0.0.0:2"), ("insecure", "true"), ("auth", "true")]));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).expect("it is ours");
    assert!(matches!(public(&[]), Err(ConfigError::Tokens { .. })));
    // In memory there is no directory that they could be in, but for a file that is named.
    assert!(resolve(&[("storage", "memory"), ("auth", "true"), ("tokens", file)], &[], None).is_ok());
    assert_eq!(resolve(&[("storage", "memory")], &[], None).expect("nothing is wrong").tokens, None);
    assert_eq!(
        refusal(&[("storage", "memory"), ("auth", "true")], &[], None),
        "--auth: with --storage memory there is no data directory that tokens could be in | name their file with --tokens FILE"
    );
}

#[test]
fn what_concerns_two_options() {
    assert_eq!(
        refusal(&[("beanstalkd", "off"), ("http", "off")], &[], None),
        "--beanstalkd and --http are both off: there is nothing to serve | \
         give one of them an address such as 127.0.0.1:11300"
    );
    assert_eq!(
        refusal(&[], &[("ROTA_HTTP", "localhost:11300")], None),
        "ROTA_HTTP: 127.0.0.1:11300 is the address of --beanstalkd too | \
         give them different ports, or turn one of them off"
    );
}

#[test]
fn every_bad_line_names_file_line_and_key() {
    let cases = [
        ("spoke = \"10s\"\nsynk = \"always\"\n", "rota.toml:2: there is no option \"synk\" | did you mean sync?"),
        ("\nmax_job_size = 1", "rota.toml:2: there is no option \"max_job_size\" | did you mean max-job-size?"),
        ("addr = \":1\"", "rota.toml:1: there is no option \"addr\" | did you mean beanstalkd?"),
        (
            "workers = 4",
            "rota.toml:1: there is no option \"workers\" | the options are data, beanstalkd, http, beanstalkd-tls, http-tls, tls-cert, tls-key, tls-client-ca, \
             tls-client-crl, http-connections, http-connections-per-address, connections-per-address, http-names, \
             tokens, auth, webhook-allow, webhook-ca, storage, sync, history, segment-size, spoke, near, max-job-size, max-queues, statsd, snapshot-to, restore, insecure",
        ),
        (
            "# first\nsync = \"5x\"",
            "rota.toml:2: sync: \"5x\" is not a duration: DURATION_FORMS; or write always or never",
        ),
        ("max-job-size = -1", "rota.toml:1: max-job-size: \"-1\" is not a number of bytes: BYTES_FORMS"),
        ("storage = 1.5", "rota.toml:1: storage is a number with a fraction; it must be text, a number, true or false"),
        (
            "max-job-size = 0xff",
            "rota.toml:1: max-job-size is a number that is not decimal; it must be text, a number, true or false",
        ),
        ("data = [\"a\"]", "rota.toml:1: data is a list; it must be text, a number, true or false"),
        ("[http]\nport = 1", "rota.toml:1: http is a table; it must be text, a number, true or false"),
        (
            "http = \"192.0.2.1:1\"",
            "rota.toml:1: http: 192.0.2.1:1 can be reached from other machines, and there is no token yet | make a token with \
             `rota token create --role admin`, listen on 127.0.0.1:1, or add --insecure if only machines you trust can reach this one",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(&[], &[], Some(text)), spelt_out(expected), "{text:?}");
    }
    for text in ["sync", "sync = ", "spoke = \"1s\"\nspoke = \"2s\""] {
        let error = refusal(&[], &[], Some(text));
        let line = text.lines().count();
        assert!(error.starts_with(&format!("rota.toml:{line}: not TOML: ")), "{error}");
    }
}

#[test]
fn a_bad_variable_is_named() {
    assert_eq!(
        refusal(&[], &[("ROTA_STORAGE", "disk")], None),
        "ROTA_STORAGE: \"disk\" is no storage mode: write memory, durable, lazy or mapped"
    );
}

#[test]
fn a_missing_file_is_named_with_its_cause() {
    let error = ServeConfig::resolve(&Givens::new(), Some(Path::new("/nowhere/rota.toml")), &|_| None)
        .expect_err("there is no such file");
    assert_eq!(error.to_string(), "cannot read the configuration file /nowhere/rota.toml");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn tls_needs_its_files_and_a_port() {
    let pair = [("tls-cert", "c.pem"), ("tls-key", "k.pem")];
    let refused = |flags: &[(&'static str, &str)]| refusal(&[&pair, flags].concat(), &[], None);
    let config = resolve(&[&pair[..], &[("http-tls", "127.0.0.1:0")]].concat(), &[], None).expect("nothing is wrong");
    let files = config.tls.expect("a port speaks it");
    assert_eq!((files.certificate.to_str(), files.client_authorities), (Some("c.pem"), None));
    assert_eq!(
        refusal(&[("http-tls", "127.0.0.1:0"), ("tls-cert", "c.pem")], &[], None),
        "--http-tls: TLS needs a certificate and its key | name them with --tls-cert FILE and --tls-key FILE"
    );
    assert!(refused(&[]).starts_with("--tls-cert: no port speaks TLS | give one an address with --beanstalkd-tls"));
    assert!(
        refused(&[("beanstalkd-tls", "127.0.0.1:0"), ("tls-client-crl", "l.pem")]).contains("on a list | name their")
    );
    assert_eq!(
        refused(&[("beanstalkd-tls", "127.0.0.1:11300")]),
        "--beanstalkd-tls: 127.0.0.1:11300 is the address of --beanstalkd too | give them different ports, or turn one of them off"
    );
    // Others are kept out by a certificate that they have to show.
    let public = |flags: &[(&'static str, &str)]| {
        let ports = [("http-tls", "0.0.0.0:1"), ("beanstalkd-tls", "0.0.0.0:2")];
        resolve(&[&pair[..], &ports, flags].concat(), &[], None)
    };
    assert!(matches!(public(&[]), Err(ConfigError::Public { option: "beanstalkd-tls", .. })));
    assert!(matches!(public(&[("beanstalkd-tls", "off")]), Err(ConfigError::Public { option: "http-tls", .. })));
    let by_certificate = public(&[("tls-client-ca", "a.pem")]).expect("certificates are asked for");
    assert!(!by_certificate.beanstalkd_tls_asks);
    let both = public(&[("tls-client-ca", "a.pem"), ("auth", "true")]).expect("certificates are asked for");
    assert!(both.beanstalkd_tls_asks);
    assert!(public(&[("insecure", "true")]).is_ok());
}
