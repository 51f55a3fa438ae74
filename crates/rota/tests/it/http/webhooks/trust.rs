//! Webhooks inside TLS to somebody with a certificate of an authority of their own: who is trusted, and when that changes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{Http, put};
use super::SECRET;
use super::receiver::Receiver;
use crate::process::{Rota, on, until};
use crate::tls::authority::{Authority, Pair, Wish};

/// A receiver with a certificate.
fn receiver(pair: &Pair) -> Receiver {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Receiver::inside(Some(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())))
}

/// A server of its own, whose system trusts the authorities of that file alone.
fn start(data: &Path, system: &Path, flags: &[&str]) -> Rota {
    let mut command = on(data, &["--http", "127.0.0.1:0", "--webhook-allow", "127.0.0.1"]);
    command.args(flags).env("SSL_CERT_FILE", system).env_remove("SSL_CERT_DIR");
    Rota::ready(command)
}

fn tried(http: &Http, name: &str) -> Value {
    http.post_nothing(&format!("/v1/webhooks/{name}/test")).expect(200)
}

#[test]
fn authorities_of_a_file_are_trusted_beside_those_of_the_system_and_read_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    // All three by one name: who signs is known by the key.
    let [of_system, of_file, later] = ["system", "file", "later"].map(|name| {
        let authority = Authority::new("authority of a test");
        let receiver = receiver(&authority.sign(path, name, Wish::default()));
        (authority.file(&path.join(format!("{name}-ca.pem"))), receiver)
    });
    let data = path.join("data");
    let rota = start(&data, &of_system.0, &[]);
    let http = Http::to(rota.http());
    for (name, (_, receiver)) in [("system", &of_system), ("file", &of_file), ("later", &later)] {
        let hook = json!({ "url": receiver.url(), "events": ["job.put"], "secret": SECRET });
        http.put(&format!("/v1/webhooks/{name}"), &hook).expect(201);
    }
    assert_eq!(tried(&http, "system")["delivered"], true);
    for name in ["file", "later"] {
        let tried = tried(&http, name);
        assert_eq!(tried["call"]["outcome"], "unanswered", "{tried}");
        assert!(tried["call"]["error"].as_str().unwrap().contains("certificate"), "{tried}");
    }
    drop(rota);

    let file = path.join("webhooks-ca.pem");
    fs::copy(&of_file.0, &file).unwrap();
    let rota = start(&data, &of_system.0, &["--webhook-ca", file.to_str().unwrap()]);
    let http = Http::to(rota.http());
    let job = put(&http, "a");
    for (_, receiver) in [&of_system, &of_file] {
        receiver.events_until(SECRET, |event| event["job"] == job.as_str());
    }
    assert_eq!(tried(&http, "later")["call"]["outcome"], "unanswered");
    assert!(later.1.is_quiet());

    // What does not do is told of, and changes nothing.
    let replace = |text: &[u8]| {
        fs::write(path.join("new"), text).unwrap();
        fs::rename(path.join("new"), &file).unwrap();
    };
    replace(b"");
    rota.line(1, |line| line.contains("TLS goes on with what it had"));
    rota.line(1, |line| line.contains("webhooks-ca.pem: there is no certificate in it"));
    assert_eq!(tried(&http, "file")["delivered"], true);

    // What is waited for comes when its authority is trusted; one that is no longer in the file is trusted no longer.
    replace(&fs::read(&later.0).unwrap());
    rota.line(1, |line| line == format!("rota: TLS: read {} again", file.display()));
    http.post_nothing("/v1/webhooks/later/resume").expect(200);
    later.1.events_until(SECRET, |event| event["job"] == job.as_str());
    assert_eq!(tried(&http, "file")["call"]["outcome"], "unanswered");
    assert_eq!(tried(&http, "system")["delivered"], true);

    // At once, if somebody says so.
    let both = [fs::read(&later.0).unwrap(), fs::read(&of_file.0).unwrap()].concat();
    replace(&both);
    rota.signal("HUP");
    until("both are trusted", || (tried(&http, "file")["delivered"] == true).then_some(()));
    assert_eq!(tried(&http, "later")["delivered"], true);
}

#[test]
fn a_file_that_does_not_do_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let pair = Authority::new("authority of a test").sign(path, "server", Wish::default());
    fs::write(path.join("empty.pem"), "").unwrap();
    for (file, words) in [
        (Path::new("/nowhere/ca.pem"), "/nowhere/ca.pem: cannot read it"),
        (path, "it is not a file"),
        (&path.join("empty.pem"), "empty.pem: there is no certificate in it"),
        (&pair.key, "server.key: there is no certificate in it"),
    ] {
        let mut command = on(&path.join("data"), &["--webhook-ca"]);
        command.arg(file);
        let (code, _, err) = Rota::ended(command);
        assert!(code == 2 && err.contains(words) && err.contains("hint: "), "{code} {err}");
    }
    // Nothing was made for who did not start.
    assert!(!path.join("data").exists());
}
