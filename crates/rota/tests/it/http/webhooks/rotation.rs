//! A secret that another one takes the place of: both sign for a while, through changes, kills and starts; neither is shown again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{Http, put};
use super::receiver::{Call, Receiver};
use super::{SECRET, base64_bytes, command, server, set, show, start};
use crate::process::until;

const OTHER: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// The call with the event of that job, which was signed by these secrets and no others. What was called off at a change may come
/// again before.
#[track_caller]
fn signed(receiver: &Receiver, job: &str, secrets: &[&str]) -> Call {
    loop {
        let call = receiver.call();
        if call.events().iter().any(|event| event["job"] == job) {
            call.check_all(secrets);
            return call;
        }
    }
}

fn rotate(http: &Http, with: Value) -> Value {
    http.post("/v1/webhooks/hook/rotate", &with).expect(200)
}

#[test]
fn both_secrets_sign_until_the_old_one_is_dropped_also_after_a_kill() {
    let data = TempDir::new().unwrap();
    let mut rota = start(&data, &[]);
    let http = Http::to(rota.http());
    let receiver = Receiver::new();
    let old = set(&http, &receiver, &["job.put"]);
    signed(&receiver, &put(&http, "a"), &[&old]);

    let before = show(&http);
    let rotated = http.post_nothing("/v1/webhooks/hook/rotate").expect(200);
    let new = rotated["secret"].as_str().expect("it was made").to_owned();
    assert!(new != old && base64_bytes(&new) == 32);
    assert!(rotated["old_secret"]["since"].is_string() && rotated["old_secret"].get("until").is_none(), "{rotated}");
    for member in ["url", "events", "created_at", "paused"] {
        assert_eq!(rotated[member], before[member]);
    }
    signed(&receiver, &put(&http, "b"), &[&new, &old]);
    assert_eq!(http.post_nothing("/v1/webhooks/hook/test").expect(200)["delivered"], true);
    receiver.call().check_all(&[&new, &old]);

    // There is no third, and a change of the rest leaves both as they are.
    let refused = http.post_nothing("/v1/webhooks/hook/rotate").problem(409, "secret-rotating");
    assert!(refused["hint"].as_str().unwrap().contains("/old-secret"), "{refused}");
    http.put("/v1/webhooks/hook", &json!({ "url": receiver.url(), "events": ["job.*"] })).expect(200);
    signed(&receiver, &put(&http, "c"), &[&new, &old]);
    let path = data.path().join("webhooks");
    let kept = || fs::read_to_string(&path).unwrap();
    assert!(kept().contains(&new) && kept().contains(&old));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let said = [
        show(&http).to_string(),
        http.get("/v1/webhooks").body,
        http.get("/metrics").body,
        refused.to_string(),
        http.post_nothing("/v1/webhooks/hook/pause").body,
        http.post_nothing("/v1/webhooks/hook/resume").body,
        rota.stdout(),
        rota.stderr(),
    ];
    let is_said = |secret: &str| said.iter().any(|said| said.contains(&secret[6..16]));
    assert!(!is_said(&old) && !is_said(&new), "{said:?}");

    rota.kill();
    let rota = start(&data, &[]);
    let http = Http::to(rota.http());
    assert_eq!(show(&http)["old_secret"], rotated["old_secret"]);
    signed(&receiver, &put(&http, "d"), &[&new, &old]);
    for _ in 0..2 {
        let dropped = http.delete("/v1/webhooks/hook/old-secret").expect(200);
        assert_eq!((dropped.get("old_secret"), dropped.get("secret")), (None, None));
        assert!(kept().contains(&new) && !kept().contains(&old));
    }
    signed(&receiver, &put(&http, "e"), &[&new]);
    // So it may be done again.
    let third = http.post_nothing("/v1/webhooks/hook/rotate").expect(200)["secret"].as_str().unwrap().to_owned();
    signed(&receiver, &put(&http, "f"), &[&third, &new]);
}

#[test]
fn the_old_secret_may_end_by_itself() {
    let (data, _rota, http) = server(&[]);
    let receiver = Receiver::new();
    let old = set(&http, &receiver, &["job.put"]);
    let rotated = rotate(&http, json!({ "keep": "1h", "secret": SECRET }));
    let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let kept = moment(&rotated["old_secret"]["until"]).duration_since(moment(&rotated["old_secret"]["since"]));
    assert_eq!((kept.as_secs(), rotated.get("secret")), (3600, None), "{rotated}");
    signed(&receiver, &put(&http, "a"), &[SECRET, &old]);
    http.delete("/v1/webhooks/hook/old-secret").expect(200);

    rotate(&http, json!({ "keep": "20ms", "secret": OTHER }));
    until("its time is over", || show(&http).get("old_secret").is_none().then_some(()));
    signed(&receiver, &put(&http, "b"), &[OTHER]);
    // Where somebody else knows it, it does not sign along at all; and what is over is kept no longer.
    let rotated = rotate(&http, json!({ "keep": "0s" }));
    let new = rotated["secret"].as_str().expect("it was made");
    assert!(rotated.get("old_secret").is_none(), "{rotated}");
    signed(&receiver, &put(&http, "c"), &[new]);
    let file = fs::read_to_string(data.path().join("webhooks")).unwrap();
    assert!(file.contains(new) && ![SECRET, OTHER, &old].iter().any(|gone| file.contains(gone)));
}

#[test]
fn what_waits_to_be_called_again_is_signed_with_both_from_then_on() {
    let (_data, _rota, http) = server(&[]);
    let receiver = Receiver::new();
    receiver.answer(&["503 Later\r\nretry-after: 3000"]);
    let old = set(&http, &receiver, &["job.put"]);
    let job = put(&http, "a");
    signed(&receiver, &job, &[&old]);
    until("it waits", || show(&http).get("next_try").is_some().then_some(()));
    rotate(&http, json!({ "secret": OTHER }));
    let again = signed(&receiver, &job, &[OTHER, &old]);
    assert_eq!(again.status, 204);
    // If nobody knows the new one, another takes its place, and who is called goes on with the old one.
    http.put("/v1/webhooks/hook", &json!({ "url": receiver.url(), "events": ["job.put"], "secret": SECRET }))
        .expect(200);
    signed(&receiver, &put(&http, "b"), &[SECRET, &old]);
}

#[test]
fn a_rotation_that_cannot_be_is_refused_and_changes_nothing() {
    let (_data, _rota, http) = server(&[]);
    let receiver = Receiver::new();
    let hook = json!({ "url": receiver.url(), "events": ["job.put"], "secret": SECRET });
    http.put("/v1/webhooks/hook", &hook).expect(201);
    for (with, pointer, detail) in [
        (json!({ "secret": "hush" }), "#/secret", "does not begin with whsec_"),
        (json!({ "secret": "whsec_c2hvcnQ=" }), "#/secret", "24 to 64 bytes"),
        (json!({ "secret": SECRET }), "#/secret", "the secret it has"),
        (json!({ "secret": SECRET.trim_end_matches('=') }), "#/secret", "the secret it has"),
        (json!({ "keep": "soon" }), "#/keep", "soon"),
    ] {
        let problem = http.post("/v1/webhooks/hook/rotate", &with).problem(422, "bad-value");
        assert_eq!(problem["pointer"], pointer, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        assert!(!problem.to_string().contains(&SECRET[6..16]), "{problem}");
    }
    http.post("/v1/webhooks/hook/rotate", &json!({ "for": "1h" })).problem(422, "unknown-field");
    http.post_nothing("/v1/webhooks/other/rotate").problem(404, "webhook-not-found");
    http.delete("/v1/webhooks/other/old-secret").problem(404, "webhook-not-found");
    assert_eq!(show(&http).get("old_secret"), None);
    signed(&receiver, &put(&http, "a"), &[SECRET]);
}

#[test]
fn the_command_rotates_and_drops() {
    let (data, rota, http) = server(&[]);
    let receiver = Receiver::new();
    let old = set(&http, &receiver, &["job.put"]);
    let run = |arguments: &[&str]| command(rota.http(), arguments);
    let (code, out, err) = run(&["rotate", "hook"]);
    assert!(
        code == 0 && out.starts_with("hook signs with both secrets until `rota webhook drop-old-secret hook`\n"),
        "{err}"
    );
    let new = out.lines().find_map(|line| line.strip_prefix("secret ")).expect("it was made").to_owned();
    signed(&receiver, &put(&http, "a"), &[&new, &old]);
    let (_, shown, _) = run(&["show", "hook"]);
    assert!(shown.contains("old_secret ") && shown.contains("since=") && !shown.contains("whsec_"), "{shown}");
    let (code, _, err) = run(&["rotate", "hook"]);
    assert!(
        code == 1 && err.contains("still signed with the secret from before") && err.contains("hint: drop it"),
        "{err}"
    );
    assert_eq!(run(&["drop-old-secret", "hook"]).1, "hook signs with its newest secret alone\n");
    signed(&receiver, &put(&http, "b"), &[&new]);

    let file = data.path().join("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let with_file = ["rotate", "hook", "--keep", "1h", "--secret-file", file.to_str().unwrap()];
    let (code, _, err) = run(&with_file);
    assert!(code == 2 && err.contains("open to other users") && !err.contains("whsec_"), "{code} {err}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (code, out, err) = run(&with_file);
    assert!(
        code == 0 && out.starts_with("hook signs with both secrets until 2") && !out.contains("whsec_"),
        "{out} {err}"
    );
    signed(&receiver, &put(&http, "c"), &[SECRET, &new]);
    let json: Value = serde_json::from_str(&run(&["drop-old-secret", "hook", "--json"]).1).unwrap();
    assert_eq!(json["name"], "hook");
    let (_, out, _) = run(&["rotate", "hook", "--keep", "0s"]);
    assert!(out.starts_with("hook signs with its new secret alone\nsecret whsec_"), "{out}");
}
