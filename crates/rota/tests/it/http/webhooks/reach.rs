//! Where webhooks may go: nowhere but to addresses that anybody can reach, unless the server was told to allow it; judged by
//! what a name leads to when it is called.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{Http, put, server, start};
use super::receiver::Receiver;
use super::{SECRET, command, show};
use crate::process::{Rota, bare, until};

#[test]
fn an_address_that_not_anybody_can_reach_is_refused_at_once() {
    let (_data, _rota, http) = server(&["--webhook-allow", "10.9.0.0/16,hooks.internal,fd00:9::/32"]);
    for (host, class) in [
        ("127.0.0.1:1", "127.0.0.1 is loopback"),
        ("127.255.0.1", "is loopback"),
        // As addresses may be written, too.
        ("0x7f000001", "127.0.0.1 is loopback"),
        ("2130706433", "127.0.0.1 is loopback"),
        ("127.1", "127.0.0.1 is loopback"),
        ("0177.0.0.1.", "127.0.0.1 is loopback"),
        ("localhost:8080", "127.0.0.1 is loopback"),
        ("LocalHost.", "127.0.0.1 is loopback"),
        ("a.localhost", "127.0.0.1 is loopback"),
        ("0", "0.0.0.0 is unspecified"),
        ("10.1.2.3", "is private"),
        ("10.10.0.0", "is private"),
        ("172.16.0.1", "is private"),
        ("192.168.1.1", "is private"),
        ("100.100.100.200", "is shared"),
        ("169.254.169.254", "is link-local"),
        ("168.63.129.16", "is a cloud's metadata"),
        ("224.0.0.1", "is multicast"),
        ("255.255.255.255", "is broadcast"),
        ("[::]", ":: is unspecified"),
        ("[::1]:80", "::1 is loopback"),
        ("[fe80::1]", "is link-local"),
        ("[fd00:ec2::254]", "is private"),
        ("[ff02::1]", "is multicast"),
        ("[::ffff:127.0.0.1]", "127.0.0.1 is loopback"),
        ("[::ffff:a9fe:a9fe]", "169.254.169.254 is link-local"),
        ("[::7f00:1]", "is reserved"),
        ("[64:ff9b::10.0.0.1]", "10.0.0.1 is private"),
        ("[2002:7f00:1::]", "is a tunnel's"),
    ] {
        for scheme in ["http", "https"] {
            let new = json!({ "url": format!("{scheme}://{host}/x"), "paused": true });
            let problem = http.put("/v1/webhooks/hook", &new).problem(422, "bad-value");
            assert_eq!(problem["pointer"], "#/url", "{problem}");
            let (detail, hint) = (problem["detail"].as_str().unwrap(), problem["hint"].as_str().unwrap());
            assert!(detail.contains(class) && detail.contains("--webhook-allow"), "{host}: {problem}");
            let address = detail.split(' ').next().unwrap();
            assert!(hint.contains(&format!("--webhook-allow {address}")), "{host}: {problem}");
        }
    }
    assert_eq!(http.get("/v1/webhooks").expect(200), json!({ "webhooks": [] }));
    for host in [
        "example.com",
        "8.8.8.8",
        "[2606:4700::1111]",
        "10.9.8.7",
        "[fd00:9::1]",
        "[::ffff:10.9.0.1]",
        "hooks.internal",
    ] {
        let new = json!({ "url": format!("https://{host}/x"), "paused": true });
        let answer = http.put("/v1/webhooks/hook", &new);
        assert!(answer.status < 300, "{host}: {answer:?}");
    }
    // One that is there goes nowhere else either.
    let new = json!({ "url": "http://[::1]/", "paused": true });
    http.put("/v1/webhooks/hook", &new).problem(422, "bad-value");
    assert_eq!(show(&http)["url"], "https://hooks.internal/x");
}

/// A hook by a name, one by an address, both set up where they were allowed; and the data.
fn set_up(receivers: &[&Receiver; 2]) -> TempDir {
    let data = TempDir::new().unwrap();
    let rota = start(&data, &["--webhook-allow", "localhost,127.0.0.1"]);
    let http = Http::to(rota.http());
    for (name, url) in [("hook", receivers[0].url_at("localhost")), ("literal", receivers[1].url())] {
        let new = json!({ "url": url, "events": ["job.put"], "secret": SECRET });
        http.put(&format!("/v1/webhooks/{name}"), &new).expect(201);
    }
    let first = put(&http, "first");
    let is_it = |event: &Value| event["job"] == first.as_str();
    receivers.iter().for_each(|receiver| drop(receiver.events_until(SECRET, is_it)));
    data
}

#[test]
fn what_a_name_leads_to_is_judged_at_each_call_and_told() {
    let receivers = [&Receiver::new(), &Receiver::new()];
    let data = set_up(&receivers);
    // The one name is allowed no more, nor is the address; some other are.
    let rota = start(&data, &["--webhook-allow", "127.0.0.2,local"]);
    let http = Http::to(rota.http());
    let second = put(&http, "second");
    for name in ["hook", "literal"] {
        let page = format!("/v1/webhooks/{name}");
        let last = |hook: &Value| hook["last"]["outcome"] == "forbidden";
        let hook = until("a call is not made", || Some(http.get(&page).expect(200)).filter(last));
        let error = hook["last"]["error"].as_str().unwrap();
        assert!(error.contains(" is loopback, and the server's --webhook-allow names"), "{hook}");
        assert!(hook["calls"]["forbidden"].as_u64() >= Some(1) && hook["calls"]["unanswered"] == 0, "{hook}");
        assert!(hook["failures"].as_u64() >= Some(1) && hook["last"].get("status").is_none(), "{hook}");
        let tried = http.post_nothing(&format!("{page}/test")).expect(200);
        assert_eq!((&tried["delivered"], &tried["call"]["outcome"]), (&json!(false), &json!("forbidden")), "{tried}");
        let metrics = http.get("/metrics").body;
        let begin = format!("rota_webhook_deliveries_total{{webhook=\"{name}\",outcome=\"forbidden\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&begin)?.parse::<u64>().ok());
        assert!(count >= Some(1), "{metrics}");
        let (code, _, err) = command(rota.http(), &["test", name]);
        assert!(
            code == 1 && err.contains("is loopback") && err.contains("hint: start the server with --webhook-allow"),
            "{err}"
        );
    }
    let (_, list, _) = command(rota.http(), &["list"]);
    assert_eq!(list.matches(" forbidden ").count(), 2, "{list}");
    assert!(receivers.iter().all(|receiver| receiver.is_quiet()));
    drop(rota);

    // It was not given up: where it may go there again it does.
    let rota = start(&data, &["--webhook-allow", "127.0.0.0/8"]);
    let http = Http::to(rota.http());
    let third = put(&http, "third");
    for receiver in receivers {
        let events = receiver.events_until(SECRET, |event| event["job"] == third.as_str());
        assert!(events.iter().any(|event| event["job"] == second.as_str()), "{events:?}");
    }
}

#[test]
fn a_file_and_the_environment_say_it_as_well() {
    let receivers = [&Receiver::new(), &Receiver::new()];
    let data = set_up(&receivers);
    let file = data.path().join("rota.toml");
    for (text, variable) in [("webhook-allow = \"*\"", ""), ("webhook-allow = \"10.0.0.1\"", "localhost,127.0.0.1")] {
        fs::write(&file, text).unwrap();
        let mut command = bare();
        command.args(["--beanstalkd", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"]).arg(&file);
        command.arg("--data").arg(data.path()).env("ROTA_WEBHOOK_ALLOW", variable);
        let rota = Rota::ready(command);
        let job = put(&Http::to(rota.http()), "x");
        for receiver in receivers {
            receiver.events_until(SECRET, |event| event["job"] == job.as_str());
        }
    }
    let mut command = bare();
    command.args(["--webhook-allow", "10.0.0.1/8"]);
    let (code, _, err) = Rota::ended(command);
    assert!(code == 2 && err.contains("--webhook-allow: \"10.0.0.1/8\" goes on behind"), "{code} {err}");
}
