//! The client library inside TLS: whom it trusts, what it shows, and what it says where that does not do.

use std::fs::read;
use std::process::Command;

use rota_client::{Client, ClientError, Terms};

use super::{Place, Wish};

#[test]
fn a_client_is_built_with_authority_certificate_and_token() {
    let place = Place::new();
    let (data, client_ca) = (place.path().join("data"), place.path().join("ca.pem"));
    let made = Command::new(env!("CARGO_BIN_EXE_rota"))
        .env_clear()
        .args(["token", "create", "--role", "producer", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout).unwrap();
    let rota = place.start(&["--tls-client-ca", client_ca.to_str().unwrap(), "--auth"]);
    let own = place.authority.sign(place.path(), "client", Wish::default());
    let address = format!("tls://127.0.0.1:{}", rota.beanstalkd_tls().port());
    let (ca, cert, key) = (read(&place.ca).unwrap(), read(&own.certificate).unwrap(), read(&own.key).unwrap());
    let trusting = Client::builder().ca(&ca);
    let showing = trusting.clone().client_cert(&cert, &key);

    let mut client = showing.clone().token(token.trim()).connect(&address).unwrap();
    assert!(client.put_bytes(b"x", &Terms::new("mails".parse().unwrap())).unwrap() > 0);
    let error = client.delete(1).map(drop).and_then(|()| client.stats().map(drop)).unwrap_err();
    assert_eq!(error.hint().unwrap(), "show a token of a role, and for queues, that this is for");

    let error = showing.clone().token("rota_none").connect(&address).unwrap_err();
    assert!(matches!(error, ClientError::BadToken { .. }), "{error:?}");
    let mut client = showing.connect(&address).unwrap();
    let error = client.put_bytes(b"x", &Terms::new("mails".parse().unwrap())).unwrap_err();
    assert_eq!(error.hint().unwrap(), "show a token: `Builder::token`, or `Client::authenticate`");

    // In TLS 1.3 a client learns behind the handshake that it was sent away.
    let error = trusting.connect(&address).and_then(|mut client| client.stats()).unwrap_err();
    assert_eq!(error.hint().unwrap(), "the server asks for a certificate: `Builder::client_cert` shows one");
    let error = Client::connect(&address).unwrap_err();
    assert!(matches!(error, ClientError::Handshake { .. }), "{error:?}");
    assert_eq!(error.hint().unwrap(), "give the authority of the server's certificate: `Builder::ca`");
}
