//! The files of TLS: what is refused at the start, and what is read again while the server runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::authority::{Authority, Wish};
use super::client::Hands;
use super::{Place, rota};
use crate::process::{Rota, until};

#[test]
fn files_that_do_not_do_are_refused_at_the_start() {
    let place = Place::new();
    let folder = place.path();
    let other = place.authority.sign(folder, "other", Wish::default());
    let empty = folder.join("empty.pem");
    fs::write(&empty, "").unwrap();
    let broken = folder.join("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n").unwrap();
    let locked = folder.join("locked.key");
    fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o600)).unwrap();
    let open = folder.join("open.key");
    fs::copy(&place.server.key, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let good = (place.server.certificate.as_path(), place.server.key.as_path());
    let nowhere = Path::new("/nowhere/a.pem");

    let refused = |flags: &[(&str, &Path)], says: &[&str]| {
        let mut command = place.command(&[]);
        for (flag, path) in flags {
            command.arg(flag).arg(path);
        }
        let (code, _, stderr) = Rota::ended(command);
        assert_eq!(code, 2, "{stderr}");
        assert!(says.iter().all(|says| stderr.contains(says)), "{says:?}: {stderr}");
        assert!(stderr.contains("hint: ") && !stderr.contains("PRIVATE KEY-----\n"), "{stderr}");
    };
    refused(&[("--tls-cert", nowhere)], &["/nowhere/a.pem: cannot read it", "name a file that is there"]);
    refused(&[("--tls-cert", folder)], &["it is not a file"]);
    refused(&[("--tls-cert", &empty)], &["empty.pem: there is no certificate in it"]);
    refused(&[("--tls-cert", good.1)], &["server.key: there is no certificate in it"]);
    refused(&[("--tls-cert", &broken)], &["broken.pem: it is not PEM"]);
    refused(&[("--tls-key", good.0)], &["server.pem", "a private key"]);
    refused(&[("--tls-key", &locked)], &["locked.key", "passphrase", "openssl pkey"]);
    refused(&[("--tls-key", &open)], &["open.key", "open to other users (mode 0644)", "chmod 600"]);
    refused(&[("--tls-key", &other.key)], &["other.key: its key is not that of the certificate in", "server.pem"]);
    refused(&[("--tls-client-ca", &empty)], &["empty.pem: there is no certificate in it"]);
    refused(
        &[("--tls-client-ca", &place.ca), ("--tls-client-crl", &place.ca)],
        &["ca.pem: there is no list of revoked certificates in it"],
    );
    refused(&[("--tls-client-crl", &place.ca)], &["--tls-client-crl", "--tls-client-ca"]);
}

#[test]
fn new_certificates_are_taken_and_bad_ones_are_not() {
    let place = Place::new();
    let server = place.start(&[]);
    let shown = || place.hands().shake(server.beanstalkd_tls()).unwrap().certificate();
    let first = shown();
    let mut old = place.hands().shake(server.beanstalkd_tls()).unwrap();

    // The key of another certificate: it is told, once, and changes nothing.
    let other = place.authority.sign(place.path(), "other", Wish::default());
    fs::rename(&other.key, &place.server.key).unwrap();
    let told = server.line(1, |line| line.contains("TLS goes on with what it had"));
    assert!(told.starts_with("error: "), "{told}");
    server.line(1, |line| line.contains("server.key: its key is not that of the certificate in"));
    assert_eq!(shown(), first);

    fs::rename(&other.certificate, &place.server.certificate).unwrap();
    until("the new certificate is shown", || (shown() != first).then_some(()));
    let mut http = place.hands().shake(server.http_tls()).unwrap();
    assert_ne!(http.certificate(), first);
    http.send(super::STATS).unwrap();
    assert!(http.rest().unwrap().starts_with("HTTP/1.1 200 OK"));
    // Who is there already stays.
    assert_eq!(old.ask("list-tube-used").unwrap(), "USING default");
    assert_eq!(server.stderr().matches("goes on with what it had").count(), 1, "{}", server.stderr());
    assert!(rota(&["list", "--server", &format!("beanstalkd://{}", server.address())]).status.success());
}

#[test]
fn a_client_that_is_called_off_comes_no_more() {
    let place = Place::new();
    let clients = Authority::new("authority of clients");
    let ca = clients.file(&place.path().join("clients.pem"));
    let list = clients.revoke(&place.path().join("revoked.pem"), 99);
    let pair = clients.sign(place.path(), "client", Wish { serial: 7, ..Wish::default() });
    let server = place.start(&["--tls-client-ca", ca.to_str().unwrap(), "--tls-client-crl", list.to_str().unwrap()]);
    let come = || {
        let shaken = Hands::showing(&place.ca, &pair).shake(server.beanstalkd_tls());
        shaken.and_then(|mut tls| tls.ask("list-tube-used"))
    };
    assert_eq!(come().unwrap(), "USING default");
    clients.revoke(&list, 7);
    until("it is sent away", || come().is_err().then_some(()));
    // What is not a list any more opens nothing.
    fs::write(&list, "").unwrap();
    server.line(1, |line| line.contains("there is no list of revoked certificates in it"));
    assert!(come().is_err());
}

#[test]
fn a_sighup_has_files_read_at_once() {
    let place = Place::new();
    let made = rota(&["token", "create", "--role", "admin", "--data", place.path().join("data").to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let mut server = place.start(&["--auth"]);
    let said = |server: &Rota, wanted: &str| server.stderr().matches(wanted).count();
    let again = format!("rota: TLS: read {} again\n", place.server.certificate.display());
    let tokens = "again, 1 tokens\n";
    // Nothing has changed: only who is told to reads anything.
    for times in 1..=2 {
        server.signal("HUP");
        until("both are read again", || {
            (said(&server, &again) == times && said(&server, tokens) == times).then_some(())
        });
    }
    fs::write(&place.server.certificate, "nothing").unwrap();
    server.signal("HUP");
    let refused = "TLS goes on with what it had: new files do not do";
    until("what does not do is told of", || (said(&server, refused) >= 1).then_some(()));
    // Whoever comes is served all the same.
    place.hands().shake(server.beanstalkd_tls()).unwrap();
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(said(&server, "rota: SIGHUP: certificates and tokens are read again\n"), 3);
}
