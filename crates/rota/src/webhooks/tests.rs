//! The files, what is refused of them; the signature, against a value that another implementation gave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use tempfile::TempDir;

use super::*;
use crate::files::FileError;
use rota_net::http::{KeptSecret, KeptWebhook, Pause};

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("there is room for a folder");
    let path = folder.path().join(file::FILE_NAME);
    (folder, path)
}

fn webhook(name: &str, set_at_ns: u64) -> Webhook {
    Webhook::check(KeptWebhook {
        name: name.into(),
        url: "https://example.com/x".into(),
        events: vec!["job.failed".into(), "lease.*".into()],
        queues: vec![],
        secret: "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into(),
        old_secret: Some(KeptSecret {
            secret: "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4".into(),
            since_ns: 3,
            until_ns: Some(4),
        }),
        paused: Some(Pause::Gone),
        created_at_ns: 1,
        set_at_ns,
        after: 5,
    })
    .expect("it is right")
}

fn text(webhooks: &[(Webhook, u64)]) -> Vec<(String, u64)> {
    webhooks.iter().map(|(webhook, seq)| (serde_json::to_string(&webhook.kept()).expect("JSON"), *seq)).collect()
}

#[test]
fn what_was_written_is_read_again_with_its_place() {
    let (_folder, path) = place();
    assert!(read(&path).expect("no file is none").is_empty());
    let (one, two) = (webhook("one", 7), webhook("two", 8));
    file::write(&path, &[one.clone(), two.clone()]).expect("it can be written");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let places = [("one", 7, 40), ("two", 9, 50), ("three", 1, 1)];
    let places = places.map(|(name, set_at_ns, seq)| Place { name: name.into(), set_at_ns, seq });
    file::write_places(&path, &places).expect("it can be written");
    // The second place is of one that was set up at another moment.
    assert_eq!(text(&read(&path).expect("it is right")), text(&[(one.clone(), 40), (two.clone(), 5)]));
    // Places are a help and no more.
    fs::write(path.with_added_extension("places"), "nonsense").expect("it is ours");
    assert_eq!(text(&read(&path).expect("it is right")), text(&[(one, 5), (two, 5)]));
}

#[test]
fn files_that_are_wrong_are_refused_without_their_secrets() {
    let (folder, path) = place();
    let line = serde_json::to_string(&webhook("one", 7).kept()).expect("JSON");
    let put = |text: &str| {
        fs::write(&path, text).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    };
    for (text, words) in [
        (format!("{line}\n\n{line}\n"), "webhooks:3: the webhook one is there twice"),
        (line.replace("https:", "ftp:"), "webhooks:1: url: \"ftp\" cannot be called"),
        (line.replace("\"after\"", "\"afters\""), "webhooks:1: column"),
        (line.replace("whsec_MDE", "whsec_?MDE"), "webhooks:1: secret: what is behind whsec_ is not base64"),
        (line.replace("whsec_ZmV", "whsec_?MDE"), "webhooks:1: old_secret/secret: what is behind whsec_ is not base64"),
        (line.replace("\"since_ns\"", "\"MDE\""), "webhooks:1: column"),
        (line.replace("\"https://example.com/x\"", "[\"whsec_MDE\"]"), "webhooks:1: column"),
    ] {
        put(&text);
        let error = read(&path).expect_err(words);
        assert!(error.to_string().contains(words) && error.hint().is_some(), "{error}");
        assert!(!error.to_string().contains("MDE"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    put(&line);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    assert!(matches!(read(&path), Err(WebhooksError::File(FileError::TooOpen { mode: 0o644, .. }))));
    assert!(matches!(read(folder.path()), Err(WebhooksError::File(FileError::NotAFile { .. }))));
    fs::File::create(&path).and_then(|file| file.set_len(file::FILE_BYTES + 1)).expect("it is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    assert!(matches!(read(&path), Err(WebhooksError::File(FileError::TooLong { .. }))));
}

#[test]
fn a_call_is_signed_as_standard_webhooks_says() {
    // By Python's hmac, of the example in the libraries of Standard Webhooks.
    let secret =
        |text| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64").into();
    let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "{\"test\": 2432232314}");
    let secrets = ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="].map(secret);
    let sign = |secrets: &[Arc<[u8]>]| call::signature(secrets, id, 1_614_265_330, body);
    let first = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(sign(&secrets[..1]), first);
    assert_eq!(sign(&secrets), format!("{first} v1,hK4CWvngkaAwjY1pABLuUbOIkEJjW9tAapq1no4ojG0="));
}

#[test]
fn the_same_body_has_the_same_id() {
    let call = |body: &str| Call { url: "".into(), id: "a-7".into(), secrets: vec![], body: body.into() };
    assert_eq!(call::id(&call("x")), "a-7-2d711642b726b044");
    assert_ne!(call::id(&call("x")), call::id(&call("y")));
}

#[test]
fn an_answer_may_say_when_to_come_back() {
    let read = |text: &str| {
        let value = HeaderValue::from_str(text).expect("it fits into a header");
        call::retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]))
    };
    assert_eq!(read("120"), Some(Duration::from_secs(120)));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    assert!(read("Fri, 01 Jan 2100 00:00:00 GMT").is_some_and(|span| span > Duration::from_secs(3600)));
    assert_eq!(read("soon"), None);
}
