//! Webhooks by the client library: set up, called, paused, given other secrets, tried and deleted.

use std::time::Duration;

use rota_client::http::{Client, NewWebhook, PausedBecause, ProblemKind, Secret, WebhookOutcome};
use serde_json::Value;

use super::receiver::Receiver;
use super::{SECRET, server};

#[test]
fn webhooks_are_types() {
    let (_data, rota, http) = server(&[]);
    let client = Client::connect(&rota.http().to_string()).unwrap();
    let receiver = Receiver::new();
    assert!(client.webhooks().unwrap().is_empty() && client.webhook("hook").unwrap().is_none());
    let new = NewWebhook::to(receiver.url()).events(["job.failed", "queue.*"]).queues(["mail*"]).after(3).paused(true);
    let set = client.set_webhook("hook", &new).unwrap();
    assert!(set.secret.as_ref().unwrap().as_str().starts_with("whsec_"));
    assert!(!format!("{set:?}").contains("whsec_"), "{set:?}");
    assert_eq!((set.paused, set.paused_because, set.seq), (true, Some(PausedBecause::Asked), 3));
    assert_eq!((set.events, set.queues), (vec!["job.failed".to_owned(), "queue.*".into()], vec!["mail*".to_owned()]));
    assert!(!client.resume_webhook("hook").unwrap().unwrap().paused);
    assert!(client.pause_webhook("hook").unwrap().unwrap().paused);

    // What it is as JSON is what the server said.
    let hour = Duration::from_secs(3600);
    let rotated = client.rotate_webhook("hook", Some(Secret::from(SECRET)), Some(hour)).unwrap().unwrap();
    assert!(rotated.secret.is_none() && rotated.old_secret.unwrap().until.is_some(), "{rotated:?}");
    let error = client.rotate_webhook("hook", None, None).unwrap_err();
    assert!(error.is(ProblemKind::SecretRotating), "{error:?}");
    let tried = client.test_webhook("hook").unwrap().unwrap();
    receiver.call();
    assert!(tried.delivered && tried.call.outcome == WebhookOutcome::Delivered && tried.call.status == Some(204));
    let shown: Value = http.get("/v1/webhooks/hook").expect(200);
    assert_eq!(serde_json::to_value(client.webhook("hook").unwrap().unwrap()).unwrap(), shown);
    assert_eq!(client.drop_old_secret("hook").unwrap().unwrap().old_secret, None);
    client.test_webhook("hook").unwrap().unwrap();
    receiver.call().check(SECRET);

    receiver.answer(&["500 No"]);
    let refused = client.test_webhook("hook").unwrap().unwrap();
    assert_eq!((refused.delivered, refused.call.outcome), (false, WebhookOutcome::Refused));
    assert!(refused.call.error.unwrap().contains("500"));
    let bad = client.set_webhook("hook", &NewWebhook::to("ftp://x/")).unwrap_err();
    assert_eq!(bad.problem().and_then(|problem| problem.pointer.as_deref()), Some("#/url"), "{bad:?}");
    assert_eq!(client.delete_webhook("hook").unwrap().unwrap().name, "hook");
    assert!(client.delete_webhook("hook").unwrap().is_none() && client.pause_webhook("hook").unwrap().is_none());
    assert!(client.rotate_webhook("hook", None, None).unwrap().is_none());
    assert!(client.test_webhook("hook").unwrap().is_none() && client.drop_old_secret("hook").unwrap().is_none());
}
